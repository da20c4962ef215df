//! What goes into the core and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::types::{Digest, Family, GateId, IfIndex, Incarnation, Instant, Mac, Priority, VoterIx};
use crate::wire::peer::{Entry, Message};
use crate::wire::vrrp::Meta;

use super::check::Checked;
use super::lease::Vote;
use super::routing::{Report, Wanted};
use super::status::{Note, WatchdogStatus};
use super::will::{Decision, Order};

/// Something that happened outside.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Event<'a> {
    /// The deadline came.
    Tick,
    /// A VRRP payload came in on an interface.
    #[serde(skip)]
    Datagram {
        /// The receiving interface.
        ifindex: IfIndex,
        /// What the IP layer told.
        meta: Meta,
        /// The IP payload, cut at the IP length.
        #[serde(skip)]
        bytes: &'a [u8],
    },
    /// An ARP or neighbour-discovery frame: somebody says `ip` is at `mac`.
    Neighbour {
        /// The receiving interface.
        ifindex: IfIndex,
        /// The address claimed.
        ip: IpAddr,
        /// By whom.
        mac: Mac,
    },
    /// An interface as it is now.
    Link(Link),
    /// An interface that is gone.
    LinkGone(IfIndex),
    /// An address as it is now; tentative ones are not reported until they are usable.
    Address(KernelAddress),
    /// An address that is gone.
    AddressGone(KernelAddress),
    /// All links and addresses follow, then [`Event::ResyncEnd`]: what is not named is gone.
    ResyncBegin,
    /// See [`Event::ResyncBegin`].
    ResyncEnd,
    /// The kernel did, or refused, what [`Action::Kernel`] asked for.
    Done(Task, Result<(), Failure>),
    /// What became of the proxy of group `0`.
    Proxy(u16, ProxyEvent),
    /// An authenticated message of another voter; the moment of the step was read after it came.
    Peer(VoterIx, Message),
    /// A session with another run of a voter was agreed on: both ends hear each other.
    PeerUp(VoterIx),
    /// Two machines answer to the name of a voter.
    PeerTwin(VoterIx),
    /// Whether the kernel's gate stands before every address on every interface, or why not.
    Gate(Result<(), Box<str>>),
    /// Whether the local clocks can be trusted, or why not.
    Clock(Result<(), Box<str>>),
    /// What became of the watchdog.
    Watchdog(Watchdog),
    /// An operator wants node `.1` of the configuration to have the group called `.0`.
    Move(Box<str>, VoterIx),
    /// A check was run.
    Checked(Checked),
    /// A device of a node, or an operator, about its fencing.
    Fence(FenceEvent),
    /// An operator decided something.
    Will(Order),
    /// How it is with the routes and rules that [`Action::Routing`] wants.
    Routing(Report),
    /// Give up everything gracefully, then [`Action::Exit`].
    Stop,
    /// Leave everything as it is for the next run of this daemon, then [`Action::Exit`].
    Leave,
    /// Take over a new, validated configuration; only the difference is applied.
    #[serde(skip)]
    Reload(Arc<Config>, Secrets),
}

/// What is known of the watchdog.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Watchdog {
    /// There is to be none, or it was disarmed.
    Absent,
    /// There is to be one, and it cannot be armed or fed; why, in words.
    Failed(Box<str>),
    /// It resets this host if it is not fed.
    Armed(WatchdogStatus),
}

/// What an earlier run left behind: in the kernel, and where this one can read it.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Inheritance {
    /// Virtual addresses of an earlier configuration, removed if they are still there.
    pub orphans: BTreeSet<IpAddr>,
    /// The kernel's gate; `None` where there is none.
    pub gate: Option<GateId>,
    /// Groups whose gate is open, and until when.
    pub open: BTreeMap<String, Instant>,
    /// The votes given about each group; `None` if they are forgotten.
    pub votes: Option<BTreeMap<String, Vote>>,
    /// The longest vote that may have been forgotten, as far as is known.
    pub quiet: Duration,
    /// The configuration that every voter was last seen with.
    pub confirmed: Option<Digest>,
    /// What this node did to the power of others.
    #[serde(default)]
    pub fenced: Vec<Past>,
    /// Names this run.
    #[serde(default)]
    pub run: Incarnation,
    /// What operators have decided.
    #[serde(default)]
    pub will: Vec<Decision>,
    /// The failures of proxies.
    #[serde(default)]
    pub failures: Vec<Failures>,
}

/// What operators have decided, as of its `number`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Rises with every change in this run.
    pub number: u64,
    /// Everything, what is over included.
    pub all: Vec<Decision>,
    /// Whether there is a channel by which the other nodes come to know it.
    pub shared: bool,
    /// The nodes that are not heard, so that they come to know it later.
    pub unheard: Vec<String>,
}

/// What an earlier run of this node did to the power of another one within the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Past {
    /// The other one.
    pub node: String,
    /// How long ago it was verified off, each time.
    pub fenced: Vec<Duration>,
    /// Whether it was not switched on since.
    pub off: bool,
    /// Whether its power was being cut, and nothing is known of the end of that.
    pub unfinished: bool,
}

/// How many failures of a proxy are counted at most.
pub const MOST_FAILURES: usize = 1000;

/// The failures of a group's proxy that have not expired.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failures {
    /// Which group.
    pub group: String,
    /// How long ago each was.
    pub ago: Vec<Duration>,
    /// The last one, in words.
    pub last: Option<Box<str>>,
}

/// Passwords read from their files, one for each group of the configuration, in its order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub Vec<Option<[u8; 8]>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: Box<str>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Administratively up and with carrier.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
}

/// An address the kernel has on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelAddress {
    /// The interface.
    pub index: IfIndex,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Whether it carries our `IFA_PROTO` mark.
    pub ours: bool,
}

/// About the fencing of other nodes, by their places in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FenceEvent {
    /// An operator wants this node to be fenced.
    Order(u16),
    /// An operator says that this node is off.
    Confirm(u16),
    /// What became of [`Action::Fence`].
    Told {
        /// Which.
        run: u64,
        /// `Err` with what was said, and whether there is a point in trying again at once.
        result: Result<(), (Box<str>, bool)>,
    },
}

/// What a device is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Power {
    /// Off, and see that it is.
    Off,
    /// On.
    On,
}

/// The group of an address that no group has.
pub const NOBODY: u16 = u16::MAX;

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send one advert of an election; [`super::Node::emit`] has the bytes and destinations.
    Advertise {
        /// Which group.
        group: u16,
        /// Which of its elections.
        family: Family,
        /// With this priority.
        priority: Priority,
    },
    /// Send one gratuitous ARP or unsolicited NA.
    Announce {
        /// Out of this interface.
        ifindex: IfIndex,
        /// For this address.
        ip: IpAddr,
    },
    /// Ask a peer for its hardware address, to see that it can be reached.
    Probe {
        /// Out of this interface.
        ifindex: IfIndex,
        /// From our fixed address.
        source: IpAddr,
        /// To this one.
        target: IpAddr,
        /// Where it was last seen; broadcast or multicast if never.
        mac: Option<Mac>,
    },
    /// Ask the kernel for something that may take long; answered by [`Event::Done`].
    Kernel(Task),
    /// Start, stop or watch a proxy; answered by [`Event::Proxy`].
    Proxy(u16, ProxyOrder),
    /// Tell another voter something; what is told to one in a step goes together.
    Tell {
        /// Whom.
        to: VoterIx,
        /// What, about which place of the configuration.
        entry: Entry,
    },
    /// Let another voter hear of this one, though there is nothing to say about groups.
    Beat {
        /// Whom.
        to: VoterIx,
    },
    /// Whose frames the kernel's gate is to stop, before any address is asked for: every address
    /// and its group, or [`NOBODY`] for one that is on its way out and has no gate that opens.
    Guard(BTreeMap<IpAddr, u16>),
    /// The routes and rules that are to be there, all of them; answered by [`Event::Routing`], and
    /// again whenever something about them changes.
    Routing(Wanted),
    /// Open the kernel's gate of a group until then, or shut it. Immediate.
    Gate {
        /// Which group.
        group: u16,
        /// Until when; `None` shuts it.
        until: Option<Instant>,
    },
    /// Write down a vote where it outlives this process, before anybody is told of it. Immediate.
    Remember {
        /// About which place of the configuration.
        group: u16,
        /// What.
        vote: Vote,
    },
    /// Everybody was seen with this configuration: write that down where it outlives the host.
    Settled(Digest),
    /// What operators have decided changed: write it down where it outlives the host.
    Decided(Decided),
    /// The failures of proxies changed: write them down where they outlive the host.
    Failures(Vec<Failures>),
    /// Have a device of a node switch it off, and verify that, or on; answered by
    /// [`FenceEvent::Told`].
    Fence {
        /// Names this run of the device.
        run: u64,
        /// The node's place in the configuration.
        node: u16,
        /// The device's place among those of the node.
        device: u16,
        /// What it is to do.
        power: Power,
    },
    /// Run these checks at once, and tell of each run until one passes; answered by
    /// [`Event::Checked`].
    Hasten(Vec<Box<str>>),
    /// End the sessions on the databases that a node has left, which is gone.
    EndSessions {
        /// The node's place in the configuration.
        of: u16,
    },
    /// This host must be reset: never feed the watchdog again, and reboot where that is allowed.
    /// What is to be known of it afterwards.
    Reset {
        /// Why, in words.
        why: String,
    },
    /// Something to tell: kept, logged, and served as an event.
    Note(Note),
    /// The configuration of [`Event::Reload`] is in force; these lines say what changed.
    Reloaded(Vec<String>),
    /// Everything is given up, or `left` to the next run: end the process.
    Exit {
        /// Whether it is left as it is.
        left: bool,
    },
}

/// A request to the kernel that may take long, hence is made by the worker thread.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Task {
    /// Open raw and packet sockets on an interface and join the multicast groups.
    OpenPort(PortSpec),
    /// Close them. Has no `Done`.
    ClosePort(IfIndex),
    /// Add an address.
    AddAddress {
        /// Which group.
        group: u16,
        /// Which of its addresses.
        slot: u16,
        /// What.
        spec: AddressSpec,
    },
    /// End the connections to addresses that were given up. Has no `Done`.
    Disconnect {
        /// Which group.
        group: u16,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// Delete an address.
    DelAddress {
        /// Which group.
        group: u16,
        /// Which of its addresses.
        slot: u16,
        /// What.
        spec: AddressSpec,
    },
}

/// The sockets wanted on an interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PortSpec {
    /// The interface.
    pub index: IfIndex,
    /// Its name, for `SO_BINDTODEVICE`.
    pub name: Box<str>,
    /// IPv4 adverts: our source address.
    pub v4: Option<std::net::Ipv4Addr>,
    /// IPv6 adverts: our source address.
    pub v6: Option<std::net::Ipv6Addr>,
    /// Our own address and virtual ones, whose ARP claims by others are to be reported.
    pub watch: Vec<IpAddr>,
}

/// An address to add or delete.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressSpec {
    /// The interface.
    pub index: IfIndex,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Interface label (IPv4).
    pub label: Option<Arc<str>>,
    /// IPv6: usable as a source the host chooses by itself.
    pub preferred: bool,
}

/// Why a task was not done.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
pub enum Failure {
    /// The kernel's errno.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// No answer in time.
    #[error("no answer from the kernel in time")]
    TimedOut,
}

/// What the core wants of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyOrder {
    /// Report its state now and whenever it changes.
    Watch,
    /// Start it; answered by `Running` or `Failed` within its start time-out.
    Start,
    /// Stop it; answered by `Stopped` or `Stuck` within its stop time-out.
    Stop,
    /// The same without patience, as it does not do what it is for.
    Kill,
    /// Forget about it, leaving it as it is.
    Unwatch,
}

/// What became of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProxyEvent {
    /// It runs.
    Running {
        /// Main process.
        pid: u32,
    },
    /// It is on its way up, by itself or by somebody else's hand.
    Starting,
    /// It is on its way down.
    Stopping,
    /// It does not run; `how` is the exit status or the unit's result in words.
    Stopped {
        /// In words: `exit status 1`, `killed by signal 9`, `inactive`.
        how: Box<str>,
    },
    /// It could not be started.
    Failed {
        /// Why, in words.
        why: Box<str>,
    },
    /// It could not be stopped within its limit, not even killed.
    Stuck {
        /// Why, in words.
        why: Box<str>,
    },
    /// Its state cannot be told (D-Bus gone, unit unknown).
    Unknown {
        /// Why, in words.
        why: Box<str>,
    },
    /// Not a state: something about it that the operator should change. Told once.
    Notice {
        /// What, and what to do about it.
        text: Box<str>,
    },
}
