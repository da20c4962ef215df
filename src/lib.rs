//! vipd keeps a floating IP on exactly one healthy load balancer.
//!
//! Decisions are made in a pure core and carried out by a thin shell: read [`core`] first, then
//! [`daemon`]. Layers, inner to outer; each may use only those before it:
//!
//! | layer | what | effects |
//! |---|---|---|
//! | [`types`] | units, identifiers, time | none |
//! | [`wire`] | bytes to values and back | none |
//! | [`config`] | TOML to values, every mistake pointed at | none |
//! | [`core`] | who should hold the addresses: `step(now, event, &mut actions)` | none |
//! | [`io`] | one file for each outside world | all |
//! | [`gate`] | the kernel drops what is for a virtual address after its deadline | BPF |
//! | [`cli`] | the command lines of both binaries | none |
//! | [`api`] | HTTP+JSON on the unix socket, and its client | sockets |
//! | [`daemon`] | the loop that connects them | all |

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod gate;
pub mod io;
pub mod types;
pub mod wire;
