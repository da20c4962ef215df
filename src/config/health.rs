//! What is looked at to know whether a host can serve.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Config;

/// One thing that is looked at again and again on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Unique name.
    pub name: String,
    /// What is looked at.
    pub what: Probe,
    /// What a failure means.
    pub effect: Effect,
    /// From the end of one run to the begin of the next, before jitter.
    pub interval: Duration,
    /// How long one run may take; reaching it is a failure.
    pub timeout: Duration,
    /// Runs in a row that must pass before a failed check passes again.
    pub rise: u32,
    /// Runs in a row that must fail before a check fails.
    pub fall: u32,
    /// The groups it is about; empty for all.
    pub groups: Vec<String>,
}

/// What the failure of a check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This host must not hold the group if another one can.
    Disqualify,
    /// This host is that much worse than its priority says.
    Score(u8),
    /// People are told.
    Warn,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Something accepts a TCP connection.
    Tcp(SocketAddr),
    /// A web server answers as it should.
    Http(Http),
    /// HAProxy says of itself, through its admin socket, that it has servers.
    Haproxy {
        /// The admin socket.
        socket: PathBuf,
        /// Its backend, and the fewest servers in it that must be up; `None` asks only whether
        /// HAProxy answers and has finished its first round of checks.
        backend: Option<(String, u32)>,
    },
    /// PostgreSQL, or a pooler in front of it, answers a start-up packet.
    Postgresql(Postgresql),
    /// A systemd unit is active.
    Unit(String),
    /// The process whose number is in this file is there.
    Process(PathBuf),
    /// A file that an administrator or another program writes says that this host may serve.
    File {
        /// The file.
        path: PathBuf,
        /// What it must hold, without white space at its ends; `None`: the file must not be there.
        value: Option<String>,
    },
    /// An interface is up and has carrier.
    Interface(String),
    /// A neighbour on the local network answers ARP or neighbour discovery.
    Neighbour(IpAddr),
    /// A host answers ICMP echo.
    Ping(IpAddr),
    /// A program ends with status 0.
    Run {
        /// Its path and arguments; no shell.
        argv: Vec<String>,
        /// Who runs it.
        user: Option<String>,
    },
}

/// A request over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where, `http` or `https`.
    pub url: String,
    /// The answers that are good; empty for 200 to 399.
    pub status: Vec<u16>,
    /// What the answer's body must contain.
    pub body: Option<String>,
}

/// A start-up packet of PostgreSQL's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgresql {
    /// Where.
    pub address: SocketAddr,
    /// As whom.
    pub user: String,
    /// To which database.
    pub database: String,
}

impl Config {
    /// The checks that are about a group.
    pub fn checks_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Check> {
        let about = move |c: &&Check| c.groups.is_empty() || c.groups.iter().any(|g| g == group);
        self.checks.iter().filter(about)
    }
}
