//! vipd: keeps a floating IP on exactly one healthy load balancer.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    vipd::daemon::run(&vipd::cli::Vipd::parse())
}
