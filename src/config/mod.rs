//! TOML to values. PURE: text in, [`Config`] or every mistake out.
//!
//! A [`Config`] is valid by construction: whoever holds one need not check it again. The keys are
//! described once, in `keys`; `walk` holds the document against them, `read` takes the values out,
//! `check` holds them against each other, and `lower` fills in the defaults.

mod check;
mod diag;
mod digest;
mod fence;
mod form;
mod health;
mod hook;
mod host;
mod keys;
mod lease;
pub mod lint;
mod lower;
mod meaning;
mod read;
mod read_check;
mod read_fence;
mod routing;
mod schema;
mod syntax;
mod walk;
mod walk_device;
mod words;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use crate::types::{Centis, Family, Priority, Version, VrId};

pub use diag::{Diagnostic, Severity, Span, position, render};
pub use fence::{Device, FenceAction, Fencing, Secret, SecretSource, When};
pub use form::{PasswordError, password};
pub use health::{Check, Effect, Http, Postgresql, Probe};
pub use hook::{Hook, HookKind, On, Style};
pub use host::HostError;
pub use lease::{Lease, Member, Voter};
pub use routing::{Net, Route, RouteKind, Rule};
pub use schema::{reference, schema};

/// Nothing anybody writes by hand is longer, in bytes.
const LONGEST: usize = 4 << 20;

/// Reads a configuration file.
///
/// With the configuration come the warnings, in the order of the file.
///
/// # Errors
/// Every mistake and every warning, in the order of the file; at least one is an error.
pub fn parse(text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    if text.len() > LONGEST {
        return Err(vec![Diagnostic::error(0..0, "the file is longer than 4 MiB")]);
    }
    let (doc, syntax) = DeTable::parse_recoverable(text);
    let mut walk = walk::Walk { text, broken: !syntax.is_empty(), found: Vec::new() };
    walk.table(&keys::FILE, doc.get_ref(), &(0..0));
    let mut found = walk.found;
    let mut config = None;
    if syntax.is_empty() {
        let file = read::file(doc.get_ref());
        found.extend(check::check(&file));
        config = lower::config(file);
    } else {
        found = syntax::beside(syntax, found, text);
    }
    let mut found: Vec<_> = found.into_iter().map(|d| d.fit(text)).collect();
    found.sort_by_key(|d| (d.span.start, d.severity));
    match config {
        Some(config) if found.iter().all(|d| d.severity == Severity::Warning) => {
            Ok((config, found))
        }
        _ => Err(found),
    }
}

/// One cluster's configuration, the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name.
    pub cluster: String,
    /// File with the cluster's key; there wherever [`Config::needs_lease`].
    pub secret: Option<PathBuf>,
    /// UDP port on which voters talk to each other.
    pub port: u16,
    /// The terms of the majority lease.
    pub lease: Lease,
    /// vipd hosts, in the order of the file.
    pub nodes: Vec<Node>,
    /// Hosts that only vote, in the order of the file.
    pub witnesses: Vec<Witness>,
    /// What moves together, in the order of the file.
    pub groups: Vec<Group>,
    /// When a node's power is cut, and how.
    pub fencing: Fencing,
    /// What is looked at to know whether a host can serve, in the order of the file.
    pub checks: Vec<Check>,
    /// What is called when something happens, in the order of the file.
    pub hooks: Vec<Hook>,
    /// Where the sessions of a dead host are ended.
    pub sessions: Option<Sessions>,
    /// What resets a host that cannot give up what it must.
    pub watchdog: Option<Watchdog>,
}

/// PostgreSQL servers on which the sessions of a dead host are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Primary and standbys.
    pub servers: Vec<SocketAddr>,
    /// Who does it.
    pub user: String,
    /// In which database.
    pub database: String,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// How they are talked to.
    pub tls: Tls,
}

/// How a server is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// In clear.
    Off,
    /// Over TLS, once the certificate names the server's address.
    Verify {
        /// PEM file of the only authorities that are trusted; `None` for those of the host.
        ca: Option<PathBuf>,
    },
}

/// The hardware watchdog of each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Its device.
    pub device: PathBuf,
    /// How long after it was last fed it resets the host; whole seconds.
    pub timeout: Duration,
    /// Whether the host is rebooted at once where it must be reset.
    pub reboot: bool,
}

/// A host that runs vipd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its host name.
    pub name: String,
    /// Its own fixed address: the source of its IPv4 adverts, or of its IPv6 ones if it is IPv6.
    pub address: IpAddr,
    /// Its fixed IPv6 address, where `address` is IPv4; needed only for IPv6 unicast and to
    /// recognise its IPv6 adverts.
    pub address6: Option<Ipv6Addr>,
    /// Further addresses at which other voters reach it, one for each further network.
    pub paths: Vec<IpAddr>,
    /// Its priority in every group that gives it no other.
    pub priority: Priority,
    /// What cuts its power, in the order of the file.
    pub fence: Vec<Device>,
}

impl Node {
    /// Its fixed address of `family`.
    pub fn address_of(&self, family: Family) -> Option<IpAddr> {
        if Family::of(self.address) == family {
            Some(self.address)
        } else {
            self.address6.filter(|_| family == Family::V6).map(IpAddr::V6)
        }
    }
}

/// A host that votes and holds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its host name.
    pub name: String,
    /// Its own fixed address.
    pub address: IpAddr,
    /// Further addresses, as those of a [`Node`].
    pub paths: Vec<IpAddr>,
}

/// What a holder must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Nothing beyond VRRP: a cut network gives two holders.
    Vrrp,
    /// That a majority of the voters lets it hold.
    Lease,
    /// The same, and that a holder that was lost has no power.
    LeaseFence,
}

impl Safety {
    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vrrp => "vrrp",
            Self::Lease => "lease",
            Self::LeaseFence => "lease+fence",
        }
    }

    /// Whether a majority of the voters must let it hold.
    pub fn is_leased(self) -> bool {
        match self {
            Self::Vrrp => false,
            Self::Lease | Self::LeaseFence => true,
        }
    }
}

/// Addresses that move together with their proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Unique name.
    pub name: String,
    /// What a holder must prove.
    pub safety: Safety,
    /// Virtual router identifier, of both families.
    pub vrid: VrId,
    /// Protocol version; IPv6 implies 3.
    pub version: Version,
    /// Interface; `None` for the one that carries the node's address.
    pub interface: Option<String>,
    /// Advertisement interval.
    pub interval: Centis,
    /// One priority for each node of [`Config::nodes`], in its order.
    pub priorities: Vec<Priority>,
    /// Whether a higher priority takes over from a live Active router.
    pub preempt: bool,
    /// How long a lower-priority Active router is left alone before it is preempted.
    pub preempt_delay: Duration,
    /// How long to listen after start and carrier before taking part.
    pub start_delay: Duration,
    /// Which checksum version 3 IPv4 adverts are sent with.
    pub checksum: Checksum,
    /// Multicast, or to each configured peer.
    pub transport: Transport,
    /// Routers of other makes that share the virtual router.
    pub routers: Vec<Router>,
    /// File with the simple-text password of version 2.
    pub password_file: Option<PathBuf>,
    /// Every address, link-local first where there are IPv6 ones (RFC 9568 §5.2.9).
    pub addresses: Vec<Address>,
    /// How the addresses are announced.
    pub announce: Announce,
    /// The sync it belongs to: groups of one sync are held on one host, or not at all.
    pub sync: Option<String>,
    /// The spread it belongs to: groups of one spread are each held on a host of its own, where
    /// there are enough.
    pub spread: Option<String>,
    /// How much worse the health of a holder must be than another node's before the addresses
    /// move.
    pub stickiness: u8,
    /// How long a node whose health got better waits before it takes the addresses from a live
    /// holder; `None` for twice what its slowest check takes to notice.
    pub recovery_delay: Option<Duration>,
    /// How often in a minute an address that somebody else deletes is put back before it is a
    /// fault.
    pub restore_limit: u32,
    /// The local proxy.
    pub proxy: Option<Proxy>,
    /// Routes that come and go with the addresses.
    pub routes: Vec<Route>,
    /// Policy rules that come and go with the addresses.
    pub rules: Vec<Rule>,
}

impl Group {
    /// The families it has addresses of, hence its elections: IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        [Family::V4, Family::V6]
            .into_iter()
            .filter(|f| self.addresses.iter().any(|a| Family::of(a.ip) == *f))
    }
}

/// Which checksum version 3 IPv4 adverts are sent with; both are always accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Both until a peer has been heard, then the peer's.
    #[default]
    Auto,
    /// The message only (RFC 9568 §5.2.8).
    Rfc9568,
    /// With the IPv4 pseudo-header, as keepalived and FRR send by default.
    Pseudo,
}

/// How adverts travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To 224.0.0.18 and `ff02::12`.
    Multicast,
    /// To every other node and router, and accepted only from them.
    Unicast {
        /// The fewest hops a received advert may have left; 255 means the same link.
        min_hops: u8,
    },
}

/// A VRRP router of another make: a peer, never a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// What to call it; its address if not given.
    pub name: String,
    /// The source of its adverts.
    pub address: IpAddr,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Interface, where it is not the group's.
    pub interface: Option<String>,
    /// Interface label (IPv4), as in `eth0:vip`.
    pub label: Option<String>,
    /// Whether it is carried in the adverts; the rest are only configured.
    pub advertise: bool,
    /// IPv6: whether the host may choose it as a source address by itself.
    pub preferred: bool,
    /// Whether vipd added it: the link-local address of the virtual router.
    pub derived: bool,
}

/// When gratuitous ARP and unsolicited NA are sent after an address came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Times after the address came, ascending, the first zero.
    pub schedule: Vec<Duration>,
    /// How often after that; `None` for never.
    pub refresh: Option<Duration>,
}

/// The proxy in front of which the addresses stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// What runs.
    pub what: ProxyKind,
    /// When it runs.
    pub run: Run,
    /// HAProxy's configuration, for [`lint::haproxy`].
    pub config: Option<PathBuf>,
    /// How long it may take to start.
    pub start_timeout: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_timeout: Duration,
    /// With so many failures within `failure_expiry` the addresses move; at least 1.
    pub migration_threshold: u32,
    /// How long a failure counts.
    pub failure_expiry: Duration,
}

/// What the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// A systemd unit, over D-Bus.
    Unit(String),
    /// A command that vipd runs in the foreground and reaps.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// User to run it as, where vipd may change user.
        user: Option<String>,
    },
}

/// When the proxy runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// On every host all the time; vipd starts it if it is down, and watches it.
    #[default]
    Always,
    /// Only where the addresses are.
    Active,
}
