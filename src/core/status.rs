//! What people are told: the snapshot behind `vipctl status`, and the notes behind
//! `vipctl events`. Values only; they are also the JSON of the API.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Family, Instant, Priority, Version, VrId};

/// Everything a node knows, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// Boot-clock time of the snapshot, nanoseconds.
    pub now: Instant,
    /// When this daemon started.
    pub started: Instant,
    /// The other nodes and routers, as far as they can be seen.
    pub peers: Vec<PeerStatus>,
    /// The groups, in the order of the file.
    pub groups: Vec<GroupStatus>,
    /// What is wrong, or worth knowing, about the whole node.
    pub conditions: Vec<Condition>,
    /// Packets dropped by reason that belong to no group: `(reason, count)`.
    pub dropped: Vec<(String, u64)>,
}

/// Another node, or a router of another make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// `node` or `router`.
    pub kind: PeerKind,
    /// Whether it answered the last probe; `None` where nobody probes.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub since: Option<Instant>,
    /// When an advert of it was last accepted.
    pub last_advert: Option<Instant>,
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// A vipd node of the file.
    Node,
    /// A router of another make, from the file or heard.
    Router,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// What this node is to it.
    pub role: Role,
    /// Since when.
    pub since: Instant,
    /// Why: the last transition's reason, in words.
    pub why: String,
    /// Virtual router identifier.
    pub vrid: VrId,
    /// Protocol version.
    pub version: Version,
    /// Its interface, once known.
    pub interface: Option<String>,
    /// Configured priority of this node.
    pub priority: Priority,
    /// The priority in force: 1 where this node is unfit.
    pub effective_priority: Priority,
    /// Who is Active, as far as heard: a name or an address; `None` if nobody is known to be.
    pub active: Option<String>,
    /// Addresses.
    pub addresses: Vec<AddressStatus>,
    /// Elections, one for each family.
    pub elections: Vec<ElectionStatus>,
    /// The proxy.
    pub proxy: Option<ProxyStatus>,
    /// What is wrong, or worth knowing.
    pub conditions: Vec<Condition>,
}

/// What a node is to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Not taking part: starting, stopped, or a fault named in `why`.
    Init,
    /// Listening.
    Backup,
    /// Holding the addresses.
    Active,
    /// Giving the addresses up: they are being removed.
    Releasing,
}

/// One virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddressStatus {
    /// `192.168.34.85/24`.
    pub address: String,
    /// Interface, once known.
    pub interface: Option<String>,
    /// What the kernel has.
    pub state: AddressState,
    /// How often it was put back after somebody else deleted it.
    pub restored: u64,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressState {
    /// Not on this host.
    Absent,
    /// Being added.
    Adding,
    /// On this host.
    Present,
    /// Being removed.
    Removing,
    /// It could not be added or removed; see the conditions.
    Failed,
}

/// One family's election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ElectionStatus {
    /// Which family.
    pub family: Family,
    /// Adverts sent and received and transitions; named as in RFC 8347 where it names them:
    /// `(name, count)`.
    pub counters: Vec<(String, u64)>,
    /// The Active router's interval as learned, milliseconds.
    pub learned_interval_ms: u64,
    /// Who was last heard.
    pub heard: Option<Heard>,
}

/// The last accepted advert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Heard {
    /// From.
    pub from: IpAddr,
    /// With.
    pub priority: Priority,
    /// When.
    pub at: Instant,
}

/// The proxy of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProxyStatus {
    /// `haproxy.service`, or the program's path.
    pub what: String,
    /// Its state in a word: `running`, `starting`, `stopping`, `stopped`, `failed`, `stuck`,
    /// `unknown`.
    pub state: String,
    /// Since when.
    pub since: Instant,
    /// Main process.
    pub pid: Option<u32>,
    /// Failures within the restart window.
    pub failures: u32,
    /// The last failure, in words.
    pub last_failure: Option<String>,
}

/// How bad something is, as a log level (`ERROR`: a human now; `WARN`: a human today).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Why something is as it is.
    Debug,
    /// An address moved.
    Info,
    /// A human today.
    Warn,
    /// A human now.
    Error,
}

/// A named state that lasts: `foreign-router`, `address-contended`, `never-heard-peer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Condition {
    /// Its name; `docs/operations.md` has a line for each.
    pub name: String,
    /// How bad.
    pub severity: Severity,
    /// In words, with the values.
    pub text: String,
    /// Since when.
    pub since: Instant,
}

/// A named state; see [`Condition`].
pub fn condition(name: &str, severity: Severity, text: String, since: Instant) -> Condition {
    Condition { name: name.to_owned(), severity, text, since }
}

/// Something that happened, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// When, on the boot clock.
    pub at: Instant,
    /// How bad.
    pub severity: Severity,
    /// The group, if it is about one.
    pub group: Option<String>,
    /// What kind: `active`, `backup`, `address-restored`, `proxy-died`, ...
    pub kind: String,
    /// In words, with the reason.
    pub text: String,
}
