//! One file for each outside world. IMPURE, and without decisions.
//!
//! The core thread may use [`clock`], [`wake`], [`peer`] and an open [`port`], which never wait.
//! Whatever may wait for the kernel's network lock is done by the threads of [`worker`] and
//! [`netlink`].

pub mod ballots;
pub mod check;
pub mod clock;
pub mod decisions;
mod dial;
mod durable;
pub mod epitaph;
pub mod events;
pub mod failures;
pub mod fence;
pub mod history;
pub mod hook;
mod http;
pub mod job;
pub mod log;
pub mod netlink;
pub mod notify;
pub mod packet;
pub mod peer;
pub mod port;
pub mod proxy;
pub mod random;
pub mod realtime;
pub mod record;
pub mod remains;
pub mod secret;
pub mod sessions;
pub mod sockdiag;
pub mod tickle;
pub mod timekeeping;
mod tls;
pub mod trust;
pub mod wake;
pub mod watchdog;
pub mod worker;
