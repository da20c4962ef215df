//! vipd: keeps a floating IP on exactly one healthy load balancer.

use std::process::ExitCode;

fn main() -> ExitCode {
    vipd::daemon::run(&vipd::cli::Vipd::from_command_line())
}
