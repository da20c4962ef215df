//! The programs that share a network with the daemon, or are the daemon: each with a
//! configuration as a value, and a way to start it on a host.

pub mod backend;
pub mod bmc;
pub mod frr;
pub mod haproxy;
pub mod keepalived;
pub mod postgresql;
pub mod redfish;
pub mod vipd;
