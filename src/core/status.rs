//! What people are told: the snapshot behind `vipctl status`, and the notes behind
//! `vipctl events`. Values only; they are also the JSON of the API.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::fence::Why;
pub use super::standing::{NodeCheck, StandingStatus};
use super::will::Topic;
use crate::types::{Family, Instant, Priority, Version, VrId};

/// Everything a node knows, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The voters; `None` where nothing is held by lease.
    #[serde(default)]
    pub voting: Option<VotingStatus>,
    /// Nodes that are being fenced, are to be, or were and are not back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fencing: Vec<FencingStatus>,
    /// What operators have decided and is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<DecisionStatus>,
    /// The kernel's gate, where there is one.
    #[serde(default)]
    pub gate: Option<GateStatus>,
    /// The watchdog, where one is armed.
    #[serde(default)]
    pub watchdog: Option<WatchdogStatus>,
    /// Packets dropped by reason that belong to no group: `(reason, count)`.
    pub dropped: Vec<(String, u64)>,
    /// What is called when something happens, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
    /// What is known here of the TCP connections to the groups, at whoever holds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionsStatus>,
    /// Of a witness: the further clusters that it votes in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Status>,
}

/// The TCP connections to a group, as far as they are known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionsStatus {
    /// Which group.
    pub group: String,
    /// Who holds it, and told of them.
    pub node: String,
    /// How many are known one by one.
    pub known: usize,
    /// How many more that node has in all, of which nobody else knows.
    pub left_out: usize,
}

/// What an operator has decided and is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionStatus {
    /// About what: `standby`, `ban`, `maintenance`.
    pub topic: Topic,
    /// Which node; `None` where it is about none.
    pub node: Option<String>,
    /// Which group; `None` where it is about none, or all.
    pub group: Option<String>,
    /// Who decided.
    pub by: String,
    /// Why; empty if that was not said.
    pub why: String,
    /// When: milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// When it ends by itself; `None` where it does not.
    pub until: Option<Instant>,
    /// The command that ends it.
    pub ends_with: String,
}

/// How far it is with the fencing of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FencingStatus {
    /// The node.
    pub node: String,
    /// Its place in the file.
    pub place: u16,
    /// Whether it is heard.
    pub heard: bool,
    /// `idle`, `waiting`, `asking`, `fencing`, `off`, `failed`, `limited`.
    pub state: String,
    /// Why it is fenced, in a word.
    pub why: Option<Why>,
    /// Since when.
    pub since: Option<Instant>,
    /// What was said by the last device that failed.
    pub text: Option<String>,
    /// When the next attempt is made.
    pub next: Option<Instant>,
    /// The agent at work.
    pub agent: Option<String>,
    /// Its devices, in the order of the file.
    #[serde(default)]
    pub devices: Vec<DeviceStatus>,
}

/// A device that can cut a node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceStatus {
    /// All devices of a level must succeed; the lowest comes first.
    pub level: u8,
    /// The agent.
    pub agent: String,
    /// What it said when it was last asked for its status.
    pub answer: Option<Answer>,
}

/// What a device said when it was asked for its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// When it was asked.
    pub at: Instant,
    /// Since when it has answered like that.
    pub since: Instant,
    /// Whether it answered as it should.
    pub good: bool,
    /// In words.
    pub text: String,
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
    /// What a holder must prove: `vrrp`, `lease`.
    #[serde(default)]
    pub safety: String,
    /// Who may hold; `None` where that takes no lease.
    #[serde(default)]
    pub lease: Option<LeaseStatus>,
    /// What is looked at to know whether this node can serve.
    #[serde(default)]
    pub checks: Vec<CheckStatus>,
    /// Until when this node counts for less than it is, as it was worse a while ago; and how often
    /// it relapsed lately.
    #[serde(default)]
    pub recovering: Option<(Instant, u32)>,
    /// How each node stands to it.
    #[serde(default)]
    pub standings: Vec<StandingStatus>,
    /// What would happen if the holder died now, in words.
    #[serde(default)]
    pub outlook: String,
    /// Routes and policy rules that come and go with the addresses.
    #[serde(default)]
    pub routing: Vec<RoutingStatus>,
    /// What is wrong, or worth knowing.
    pub conditions: Vec<Condition>,
}

/// A route or a policy rule of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RoutingStatus {
    /// In the words of `ip`.
    pub what: String,
    /// The interface of a route, once known; of a rule, where it names one.
    pub interface: Option<String>,
    /// Whether the kernel has it.
    pub state: RoutingState,
    /// How often it was put back after somebody else deleted it.
    pub restored: u32,
}

/// Whether the kernel has a route or a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingState {
    /// It is not wanted here, or not yet.
    Absent,
    /// The kernel is asked for it.
    Adding,
    /// It is there.
    Present,
    /// The kernel refuses it, or somebody else keeps deleting it.
    Failed,
}

/// A check of a group, on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// What is looked at, in words.
    pub what: String,
    /// What its failure means: `disqualify`, `score`, `warn`.
    pub effect: String,
    /// Points that its failure costs.
    pub weight: Option<u8>,
    /// The verdict; `None` before the first run.
    pub verdict: Option<bool>,
    /// Since when.
    pub since: Instant,
    /// What the last run found, in words.
    pub found: String,
    /// When the last run began.
    pub last: Option<Instant>,
    /// How long it took, in microseconds.
    pub took_us: Option<u64>,
    /// Whether it passed.
    pub passed: Option<bool>,
    /// How often it was run.
    pub runs: u64,
    /// How often it failed.
    pub failures: u64,
}

/// Who votes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VotingStatus {
    /// Every voter, in the order of the file.
    pub voters: Vec<VoterStatus>,
    /// How many must agree.
    pub majority: usize,
    /// Whether every voter has been seen with the configuration in force: this one votes only then.
    pub settled: bool,
    /// Until when this voter votes for nobody, as it may have forgotten whom it voted for.
    pub quiet_until: Option<Instant>,
    /// Who does not have the configuration yet that waits for everybody; `None` where none waits.
    pub waits_for: Option<Vec<String>>,
    /// How long a holder may serve after it asked for its last renewal, in microseconds.
    pub term_us: u64,
    /// How often it asks, in microseconds.
    pub renew_us: u64,
    /// How long a vote lasts, in microseconds.
    pub vote_us: u64,
}

/// One voter, as this one sees it.
#[allow(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VoterStatus {
    /// Its name.
    pub name: String,
    /// Whether it only votes.
    pub witness: bool,
    /// Whether it is this one.
    pub me: bool,
    /// Whether it is heard.
    pub alive: bool,
    /// When it was last heard.
    pub heard: Option<Instant>,
    /// Whether it says that it hears this one.
    pub hears_us: bool,
    /// Whether it runs with the same configuration; `None` if it was never heard.
    pub same_configuration: Option<bool>,
    /// Whether its vote counts.
    pub settled: bool,
    /// When two machines last answered to its name.
    pub twin: Option<Instant>,
    /// How much faster its clock runs than this one's, in millionths, if that is suspicious.
    pub clock_ppm: Option<i64>,
}

/// Who may hold a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeaseStatus {
    /// Who may, as far as is known here.
    pub holder: Option<String>,
    /// Until when this node may; `None` where another may, or nobody.
    pub until: Option<Instant>,
    /// For how much longer the holder may, as it last said, in microseconds.
    pub left_us: Option<u64>,
    /// The number of the tenure; rises with every change of the holder.
    pub tenure: u64,
    /// Whether a node of higher priority takes the group from a fit holder.
    pub preempt: bool,
    /// How long nobody answered when the holder took over by an operator's move, as it saw it, in
    /// microseconds.
    pub gap_us: Option<u64>,
    /// Who granted this node's last request.
    pub granted_by: Vec<String>,
    /// What each voter thinks.
    pub votes: Vec<VoteStatus>,
}

/// One voter's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VoteStatus {
    /// Whose.
    pub voter: String,
    /// Whether it is known: the voter was heard lately.
    pub known: bool,
    /// For whom.
    pub to: Option<String>,
    /// For how much longer, in microseconds.
    pub left_us: Option<u64>,
    /// The priority at which it could hold the group itself, or does.
    pub priority: Option<Priority>,
}

/// The kernel's gate: what stops service by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GateStatus {
    /// How it is attached: `tcx`, `clsact`.
    pub mode: String,
    /// On how many interfaces.
    pub interfaces: usize,
    /// Frames for virtual addresses dropped on their way in, while the gate was shut.
    pub dropped_in: u64,
    /// Frames from virtual addresses dropped on their way out.
    pub dropped_out: u64,
}

/// What resets the host if it is not fed.
#[allow(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WatchdogStatus {
    /// Its device.
    pub device: String,
    /// What its driver calls it.
    pub identity: String,
    /// After how long it resets the host, in microseconds.
    pub timeout_us: u64,
    /// Whether the host is rebooted at once where it must be reset.
    pub reboots: bool,
    /// Whether it cannot be disarmed.
    pub nowayout: bool,
    /// Whether it was armed already as this run of vipd opened it.
    pub armed_before: bool,
    /// Whether it caused the last boot.
    pub reset_before: bool,
    /// When this host is gone at the latest; `None` where it need not be reset.
    pub resets_by: Option<Instant>,
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
    /// A witness: it votes, and never holds.
    VotesOnly,
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
    /// Failures that have not expired.
    pub failures: u32,
    /// With so many the addresses move.
    #[serde(default)]
    pub migration_threshold: u32,
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
    /// The node or router it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// A hook, and how its calls went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HookStatus {
    /// Its name.
    pub name: String,
    /// The script, or the URL.
    pub target: String,
    /// How often it was called.
    pub calls: u64,
    /// How many of the calls failed.
    pub failures: u64,
    /// How many events it was not told, as too many waited.
    pub dropped: u64,
    /// The latest call.
    pub last: Option<HookCall>,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HookCall {
    /// When it ended.
    pub at: Instant,
    /// For which event: `active`, `backup`, `fault`, `stop`, or the kind of the note.
    pub kind: String,
    /// Of which group.
    pub group: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed; `None` if it did not.
    pub failed: Option<String>,
    /// The end of what it printed, or of the answer.
    pub output: String,
}
