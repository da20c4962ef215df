//! Groups held by lease: the whole shipped node, and the bare lease for witnesses, on hosts whose
//! clocks run as wrong as they may, under kernels with gates, on a network that does anything.
//!
//! A schedule is a seed: it draws the cluster, the faults and their moments. What must hold is
//! said in `oracle`, of true time and of what kernels do. Failing prints how to see it again.

#![allow(clippy::wildcard_enum_match_arm, reason = "most events and actions concern few places")]
#![allow(clippy::struct_excessive_bools, reason = "hosts and clusters have that many switches")]
#![allow(clippy::cast_precision_loss, reason = "only for people")]

mod checks;
mod faults;
mod fences;
mod host;
mod oracle;
mod plan;
mod power;
mod scenes;
mod sessions;
mod shell;
mod storm;
mod ties;
mod world;

use vipd::config::Config;

/// The place of a voter in a file.
fn place(config: &Config, name: &str) -> Option<usize> {
    config.voters().position(|v| v.name == name)
}
