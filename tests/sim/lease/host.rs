//! One host: a clock, a kernel with its gates, what outlives a process and what outlives the
//! host, and the daemon that runs there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd::config::{Config, Member};
use vipd::core::Node;
use vipd::core::event::{
    Action, Event, Failure, FenceEvent, KernelAddress, Link, Power, ProxyEvent, Task,
};
use vipd::core::lease::{Lease, Setup, Transition, Vote};
use vipd::types::{Digest, GateId, IfIndex, Incarnation, Instant, Mac, VoterIx};
use vipd::wire::peer::{Head, Message};
use vipd::wire::vrrp::Meta;

use super::plan::Real;

pub(crate) const ETH0: IfIndex = IfIndex(2);
const BILLION: i128 = 1_000_000_000;

/// A boot clock: local time since some true moment, at some rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    from: Real,
    local: u64,
    /// How wrong, in parts of a thousand million.
    pub(crate) wrong: i64,
}

impl Clock {
    pub(crate) fn new(from: Real, local: u64, wrong: i64) -> Self {
        Self { from, local, wrong }
    }

    pub(crate) fn local(&self, real: Real) -> Instant {
        let since = i128::from(real.saturating_sub(self.from));
        let local = i128::from(self.local) + since * (BILLION + i128::from(self.wrong)) / BILLION;
        Instant::from_nanos(u64::try_from(local).unwrap())
    }

    /// The first true moment at which it shows `local` or later.
    pub(crate) fn real(&self, local: Instant) -> Real {
        let ahead = i128::from(local.nanos().saturating_sub(self.local));
        let rate = BILLION + i128::from(self.wrong);
        let since = (ahead * BILLION + rate - 1) / rate;
        self.from.saturating_add(u64::try_from(since).unwrap_or(u64::MAX / 2))
    }

    /// It stood still until now.
    pub(crate) fn stood_still(&mut self, since: Real, now: Real) {
        *self = Self { from: now, local: self.local(since).nanos(), wrong: self.wrong };
    }
}

/// Something that reaches a host.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Peer {
        from: usize,
        life: u32,
        to_life: u32,
        message: Message,
    },
    Hello {
        from: usize,
        life: u32,
        nonce: u64,
    },
    /// Carries the nonce of what it answers, and one of its own.
    Echo {
        from: usize,
        life: u32,
        to_life: u32,
        answers: u64,
        nonce: u64,
    },
    Confirm {
        from: usize,
        life: u32,
        to_life: u32,
        answers: u64,
    },
    Advert {
        meta: Meta,
        bytes: Vec<u8>,
    },
    Address(KernelAddress),
    AddressGone(KernelAddress),
    Link,
    Done(Task, Result<(), Failure>),
    Proxy(u16, ProxyEvent),
    Gate(Result<(), Box<str>>),
    Clock(Result<(), Box<str>>),
    Reload(usize),
    Move(Box<str>, VoterIx),
    /// Time to greet whom there is no session with.
    Greet,
    /// An agent is done.
    Agent {
        run: u64,
        voter: usize,
        device: u16,
        power: Power,
        mode: super::power::Mode,
    },
    /// A run of the check is due, if it still is the next one.
    CheckDue(u32),
    /// One ends that began then.
    CheckDone(Instant),
    Fence(FenceEvent),
    Leave,
    Stop,
    /// The kernel does what it was asked, whatever became of the daemon.
    Effect(Task),
    /// The daemon is started.
    Start,
    PowerOn,
    /// An agent of another host switches an outlet of this one.
    Outlet {
        device: u16,
        on: bool,
        by: usize,
        life: u32,
    },
    /// The machine goes on.
    Resume,
    /// Somebody presses the button.
    Button,
}

impl Arrival {
    /// Whether it is for the kernel or the host, not for one run of the daemon.
    pub(crate) fn outlives_the_daemon(&self) -> bool {
        matches!(
            self,
            Self::Effect(_)
                | Self::Start
                | Self::PowerOn
                | Self::Outlet { .. }
                | Self::Resume
                | Self::Button
        )
    }
}

/// A voter without addresses, as its shell drives the bare lease.
pub(crate) struct Witness {
    pub(crate) lease: Lease,
    pub(crate) config: Arc<Config>,
    parked: Option<Arc<Config>>,
    me: usize,
    run: Incarnation,
}

impl Witness {
    pub(crate) fn new(
        now: Instant,
        config: Arc<Config>,
        me: usize,
        start: &Kept,
        run: Incarnation,
        out: &mut Vec<Action>,
    ) -> Self {
        let mut setup = setup(&config, me, run);
        let known = start.votes.is_some() && start.confirmed == Some(setup.digest);
        setup.quiet = (!known).then_some(start.longest);
        setup.remembers = start.votes.is_some();
        setup.confirmed = start.confirmed;
        let mut lease = Lease::new(now, &setup);
        for (place, group) in leased(&config) {
            let votes = start.votes.as_ref();
            let vote = votes.and_then(|v| v.get(group)).copied().unwrap_or_default();
            if known {
                lease.add(place, Some(vote), None);
            } else {
                lease.add_doubted(place, vote, None);
            }
        }
        lease.begin(now, out);
        Self { lease, config, parked: None, me, run }
    }

    fn step(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::Peer(from, message) => {
                self.lease.hear(now, from, &message, out);
            }
            Event::PeerUp(from) => self.lease.up(now, from, out),
            Event::Clock(clock) => self.lease.clock(clock.is_ok()),
            Event::Reload(config, _) => self.reload(now, config, out),
            Event::Tick => {
                if let Some(config) = self.parked.take_if(|_| self.lease.may_switch(now)) {
                    self.switch(now, config, out);
                }
                self.lease.tick(now, out);
            }
            _ => {}
        }
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.parked.is_some() && self.lease.may_switch(now) {
            return Some(now);
        }
        self.lease.deadline(now)
    }

    fn reload(&mut self, now: Instant, config: Arc<Config>, out: &mut Vec<Action>) {
        let voters = |c: &Config| -> Vec<_> { c.voters().map(|v| v.name.to_owned()).collect() };
        if config.digest() == self.config.digest() {
            self.config = config;
            self.parked = None;
            self.lease.announce(now, self.config.digest());
        } else if voters(&config) == voters(&self.config) {
            self.lease.announce(now, config.digest());
            self.parked = Some(config);
        } else {
            self.parked = None;
            self.switch(now, config, out);
        }
    }

    fn switch(&mut self, now: Instant, config: Arc<Config>, out: &mut Vec<Action>) {
        self.me = super::place(&config, self.me_name()).unwrap_or(self.me);
        let change = Transition::new(&self.config, &config);
        let setup = setup(&config, self.me, self.run);
        self.config = config;
        self.lease.switch(now, &setup, &change, out);
    }

    fn me_name(&self) -> &str {
        self.config.voters().nth(self.me).unwrap().name
    }
}

fn setup(config: &Config, me: usize, run: Incarnation) -> Setup {
    Setup::new(config, VoterIx(u8::try_from(me).unwrap()), run)
}

fn leased(config: &Config) -> impl Iterator<Item = (u16, &str)> {
    let all = (0..).zip(&config.groups).filter(|(_, g)| g.safety.is_leased());
    all.map(|(place, g)| (place, g.name.as_str()))
}

/// The program that runs.
pub(crate) enum Daemon {
    Node(Box<Node>),
    Witness(Box<Witness>),
}

impl Daemon {
    pub(crate) fn step(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        match self {
            Self::Node(node) => node.step(now, event, out),
            Self::Witness(witness) => witness.step(now, event, out),
        }
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Node(node) => node.deadline(),
            Self::Witness(witness) => witness.deadline(now),
        }
    }

    pub(crate) fn head(&self, now: Instant) -> Option<Head> {
        match self {
            Self::Node(node) => node.head(now),
            Self::Witness(witness) => Some(witness.lease.head(now)),
        }
    }

    pub(crate) fn config(&self) -> &Arc<Config> {
        match self {
            Self::Node(node) => node.config(),
            Self::Witness(witness) => &witness.config,
        }
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Witness(_) => None,
        }
    }

    /// The name of the group that an action means.
    pub(crate) fn group(&self, id: u16) -> Option<String> {
        self.node()?.group_name(id).map(str::to_owned)
    }

    /// The name of the group at a place of the configuration in force.
    pub(crate) fn at(&self, place: u16) -> String {
        self.config().groups[usize::from(place)].name.clone()
    }
}

/// What a daemon leaves behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// Outlives the daemon, not the host. `None` until something was written there.
    pub(crate) votes: Option<BTreeMap<String, Vote>>,
    /// Outlive the host.
    pub(crate) confirmed: Option<Digest>,
    pub(crate) longest: Duration,
}

/// A datagram's way: which run of which host a voter is for this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) host: usize,
    pub(crate) life: u32,
    pub(crate) heard: Real,
}

/// A machine.
pub(crate) struct Host {
    pub(crate) name: String,
    /// Which name of the world's it has; a clone has that of another.
    pub(crate) voter: usize,
    pub(crate) clone: bool,
    pub(crate) clock: Clock,
    pub(crate) powered: bool,
    pub(crate) carrier: bool,
    pub(crate) life: u32,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) file: usize,
    /// By the world's number of a voter.
    pub(crate) sessions: Vec<Option<Session>>,
    /// Of the last greeting to each voter, and of the last answer to one of its: older ones on
    /// their way count no more.
    pub(crate) nonces: Vec<[u64; 2]>,
    pub(crate) frozen_until: Real,
    pub(crate) queue: Vec<Arrival>,
    /// Decided before the daemon was frozen, not yet carried out.
    pub(crate) undone: Vec<Action>,
    /// The next step is cut short: after so many actions, for so long.
    pub(crate) cut_short: Option<(usize, Real)>,
    pub(crate) froze_at: Real,
    /// The machine stands still with its clock.
    pub(crate) paused_since: Option<Real>,
    pub(crate) wake: Real,
    pub(crate) gate: GateId,
    pub(crate) gates: BTreeMap<String, Instant>,
    /// How long what passed an open gate may be on its way.
    pub(crate) lag: Real,
    pub(crate) guard: BTreeMap<IpAddr, String>,
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) kept: Kept,
    /// The kernel refuses to add addresses.
    pub(crate) sick: bool,
    pub(crate) proxy_broken: bool,
    /// The tenure last asked for, by group.
    pub(crate) tenure: BTreeMap<String, u64>,
    /// Its gates do not shut, and which it was told to shut meanwhile.
    pub(crate) deaf: bool,
    pub(crate) unheard: BTreeSet<String>,
    /// Whose gates the step under way opened.
    pub(crate) just_opened: BTreeSet<String>,
    /// When its last daemon ended.
    pub(crate) ended: Option<Real>,
    /// It cannot reach what its check looks at.
    pub(crate) ill: bool,
    pub(crate) line: Option<super::checks::Line>,
    /// Since when it runs, and nothing is wrong with it.
    pub(crate) since: Real,
    /// Voters that this run has heard, and when last.
    pub(crate) met: BTreeMap<usize, Real>,
}

impl Host {
    pub(crate) fn new(name: String, voter: usize, gate: u128, voters: usize) -> Self {
        Self {
            name,
            voter,
            clone: false,
            clock: Clock::new(0, 0, 0),
            powered: false,
            carrier: true,
            life: 0,
            daemon: None,
            file: 0,
            sessions: vec![None; voters],
            nonces: vec![[0; 2]; voters],
            frozen_until: 0,
            queue: Vec::new(),
            undone: Vec::new(),
            cut_short: None,
            froze_at: 0,
            paused_since: None,
            wake: Real::MAX,
            gate: GateId(gate),
            gates: BTreeMap::new(),
            lag: 0,
            guard: BTreeMap::new(),
            addresses: BTreeSet::new(),
            kept: Kept::default(),
            sick: false,
            proxy_broken: false,
            tenure: BTreeMap::new(),
            deaf: false,
            unheard: BTreeSet::new(),
            just_opened: BTreeSet::new(),
            ended: None,
            ill: false,
            line: None,
            since: 0,
            met: BTreeMap::new(),
        }
    }

    pub(crate) fn local(&self, real: Real) -> Instant {
        self.clock.local(real)
    }

    /// Whether frames of a group may still leave: its gate is open, or was until just now and
    /// something is still on its way.
    pub(crate) fn passes(&self, now: Real, group: &str) -> bool {
        let Some(until) = self.gates.get(group) else { return false };
        self.deaf || now < self.clock.real(*until).saturating_add(self.lag)
    }

    pub(crate) fn is_open(&self, now: Real, group: &str) -> bool {
        self.gates.get(group).is_some_and(|until| self.local(now) < *until)
    }

    /// Whether somebody who asks for `ip` is served here.
    pub(crate) fn serves(&self, now: Real, ip: IpAddr) -> bool {
        self.powered
            && self.paused_since.is_none()
            && self.addresses.contains(&ip)
            && self.guard.get(&ip).is_none_or(|group| self.passes(now, group))
    }

    pub(crate) fn is_frozen(&self, now: Real) -> bool {
        now < self.frozen_until
    }

    pub(crate) fn member(&self, config: &Config) -> Option<Member> {
        let node = config.nodes.iter().position(|n| n.name == self.name);
        let witness = config.witnesses.iter().position(|w| w.name == self.name);
        node.map(Member::Node).or(witness.map(Member::Witness))
    }
}

pub(crate) fn mac(host: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(host).unwrap()])
}

pub(crate) fn link(host: usize, up: bool) -> Link {
    Link { index: ETH0, name: "eth0".into(), mac: mac(host), up, mtu: 1500 }
}

pub(crate) fn kernel_address(ip: IpAddr) -> KernelAddress {
    KernelAddress { index: ETH0, ip, prefix: 32, ours: true }
}
