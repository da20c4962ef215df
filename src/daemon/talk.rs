//! What the core thread and the service runtime say to each other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::{self, Config};
use crate::core::check::Checked;
use crate::core::event::{Decided, FenceEvent, Power, ProxyEvent, ProxyOrder, Secrets};
use crate::core::status::{Note, Status};
use crate::core::will::Order;
use crate::io::ballots::Ballots;
use crate::types::{Digest, Instant, VoterIx};
use crate::wire::peer::Keyring;

use super::fencing::Devices;
use super::watchdog::Arming;

/// What the service runtime asks of the core thread.
pub(super) enum Input {
    /// The status, please.
    Status(oneshot::Sender<Status>),
    /// Are you there? Answered with the time.
    Ping(oneshot::Sender<Instant>),
    /// A proxy reported.
    Proxy(u16, ProxyEvent),
    /// A new configuration.
    Reload(Box<Fresh>, oneshot::Sender<Vec<String>>),
    /// A node is to have a group, an operator says.
    Move(Box<str>, VoterIx),
    /// A check was run.
    Checked(Checked),
    /// An operator's word about the fencing of a node, or what became of a device.
    Fence(FenceEvent),
    /// An operator decides something; answered with everything that is decided then.
    Will(Box<Order>, oneshot::Sender<Decided>),
    /// Everything that operators have decided, please.
    Decided(oneshot::Sender<Decided>),
    /// The devices of the configuration in force, please.
    Devices(oneshot::Sender<Devices>),
    /// Tell the other nodes of connections.
    Connections(Vec<u8>),
    /// Whether the local clocks can be trusted.
    Clock(Result<(), Box<str>>),
    /// What became of the watchdog; answered when it is taken in.
    Watchdog(Box<Arming>, oneshot::Sender<()>),
    /// Give up gracefully.
    Stop,
    /// Leave everything to the next run.
    Leave,
}

/// A new configuration, and what was read for it.
pub(super) struct Fresh {
    pub(super) config: Arc<Config>,
    pub(super) secrets: Secrets,
    pub(super) keys: Option<Keyring>,
    pub(super) ballots: Option<Ballots>,
    /// The file itself.
    pub(super) text: String,
}

/// What the core thread tells the service runtime.
#[derive(Debug)]
pub(super) enum Output {
    /// Something happened.
    Note(Note),
    /// Do something about a proxy.
    Proxy(u16, Box<config::Proxy>, ProxyOrder),
    /// Have a device switch a node off, or on.
    Fence { run: u64, victim: String, device: Box<config::Device>, power: Power },
    /// Run these checks at once.
    Hasten(Vec<Box<str>>),
    /// End the sessions on these servers that come from these addresses of a node that is gone.
    EndSessions { node: String, from: Vec<IpAddr>, on: Box<config::Sessions> },
    /// Every voter was seen with a configuration.
    Settled { digest: Digest, vote: Duration },
    /// What operators have decided changed. What is lost is written down with the next change.
    Decided(Decided),
    /// This host must be reset, and `reboots` if it may be rebooted.
    Reset { why: String, reboots: bool },
    /// Everything is given up, or left as it is.
    Exit { left: bool },
}
