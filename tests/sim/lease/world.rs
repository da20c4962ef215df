//! The world around the daemons: true time, a network, kernels.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use vipd::config::{Config, Member};
use vipd::core::Node;
use vipd::core::event::{Action, Event, Inheritance, Secrets};
use vipd::types::{Incarnation, Instant, VoterIx};
use vipd::wire::peer::Message;

use super::host::{Arrival, Clock, Daemon, Host, Kept, Witness, link};
use super::oracle::Oracle;
use super::plan::{MS, Mutant, RHO, Random, Real, Shape, US, nanos, own};

/// Hosts, clones included.
const MOST: usize = 8;

/// A version of the configuration.
pub(crate) struct File {
    pub(crate) config: Arc<Config>,
    /// The world's number of each voter.
    voters: Vec<usize>,
}

struct Item {
    at: Real,
    sequence: u64,
    host: usize,
    life: u32,
    what: Arrival,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What the network does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Net {
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    /// How many of a hundred datagrams take up to how long.
    pub(crate) slow: (u64, Real),
    /// By path: nothing goes from a to b.
    pub(crate) cut: [[[bool; MOST]; MOST]; 2],
}

/// How many steps were made of what; printed by those who run many schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) steps: u64,
    pub(crate) datagrams: u64,
    pub(crate) faults: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) mutant: Mutant,
    pub(crate) random: Random,
    pub(crate) now: Real,
    pub(crate) hosts: Vec<Host>,
    pub(crate) names: Vec<String>,
    pub(crate) files: Vec<File>,
    pub(crate) net: Net,
    /// How often of a hundred times the kernel fails.
    pub(crate) kernel_fails: u64,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) count: Count,
    /// Whoever stops is started again.
    pub(crate) is_calm: bool,
    pending: BinaryHeap<Reverse<Item>>,
    pub(crate) sequence: u64,
    runs: u64,
    pub(crate) grid: super::power::Grid,
    /// Whoever stays as it is in the calm.
    pub(crate) gone: Option<usize>,
}

impl World {
    pub(crate) fn new(seed: u64, shape: Shape, mutant: Mutant, traced: bool) -> Self {
        let names = shape.names();
        let random = Random::new(seed);
        let mut world = Self {
            oracle: Oracle::new(names.len()),
            now: MS,
            hosts: Vec::new(),
            files: Vec::new(),
            net: Net::default(),
            kernel_fails: 0,
            trace: traced.then(Vec::new),
            count: Count::default(),
            is_calm: false,
            pending: BinaryHeap::new(),
            sequence: 0,
            runs: 0,
            grid: super::power::Grid::default(),
            gone: None,
            names,
            random,
            mutant,
            shape,
        };
        world.build_grid();
        let mut config = world.shape.config();
        if mutant == Mutant::Lax {
            for group in &mut config.groups {
                group.safety = vipd::config::Safety::Lease;
            }
        }
        if mutant == Mutant::ShortVote {
            config.lease.vote = config.lease.term.saturating_sub(Duration::from_millis(60));
            config.lease.quiet = config.lease.vote;
        }
        world.write_file(config);
        for (voter, name) in world.names.clone().into_iter().enumerate() {
            let gate = 1 + voter as u128;
            world.hosts.push(Host::new(name, voter, gate, world.names.len()));
            let boot = world.random.draw(30 * MS);
            world.later(voter, boot, Arrival::PowerOn);
        }
        world
    }

    pub(crate) fn note(&mut self, host: usize, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let name = self.hosts.get(host).map_or("world", |h| h.name.as_str());
            let twin = if self.hosts.get(host).is_some_and(|h| h.clone) { "'" } else { "" };
            trace.push(format!("{:>12.6} {name}{twin}: {}", now as f64 / 1e9, what()));
        }
    }

    pub(crate) fn broken(&self) -> bool {
        self.oracle.broken.is_some()
    }

    /// Something is not as it must be.
    pub(crate) fn broke(&mut self, what: String) {
        if self.oracle.broken.is_none() {
            self.note(usize::MAX, || format!("VIOLATION: {what}"));
            self.oracle.broken = Some(what);
        }
    }

    // ---- configurations ----

    pub(crate) fn write_file(&mut self, config: Config) -> usize {
        let number = |name: &str| self.names.iter().position(|n| n == name).unwrap();
        let voters = config.voters().map(|v| number(v.name)).collect();
        self.files.push(File { config: Arc::new(config), voters });
        self.files.len() - 1
    }

    pub(crate) fn latest(&self) -> usize {
        self.files.len() - 1
    }

    /// The file that a daemon's configuration in force is from.
    fn file_of(&self, host: usize) -> Option<&File> {
        let config = self.hosts[host].daemon.as_ref()?.config();
        self.files.iter().rev().find(|f| Arc::ptr_eq(&f.config, config))
    }

    pub(crate) fn voter_of(&self, host: usize, ix: VoterIx) -> Option<usize> {
        self.file_of(host)?.voters.get(ix.index()).copied()
    }

    pub(crate) fn ix_of(&self, host: usize, voter: usize) -> Option<VoterIx> {
        let place = self.file_of(host)?.voters.iter().position(|v| *v == voter)?;
        Some(VoterIx(u8::try_from(place).unwrap()))
    }

    // ---- time ----

    pub(crate) fn run(&mut self, long: Real) {
        let end = self.now + long;
        self.run_to(end, |_| false);
    }

    /// Says whether `stop` came to be.
    pub(crate) fn run_until(&mut self, long: Real, stop: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + long;
        self.run_to(end, &stop);
        stop(self)
    }

    fn run_to(&mut self, end: Real, stop: impl Fn(&Self) -> bool) {
        let (mut turns, mut since) = (0, self.now);
        while !self.broken() && !stop(self) {
            turns += 1;
            if self.now > since + MS {
                (turns, since) = (0, self.now);
            }
            if turns > 50_000 {
                return self.broke("no end of work".to_owned());
            }
            let arrival = self.pending.peek().map_or(Real::MAX, |Reverse(item)| item.at);
            let (host, wake) = self.next_wake();
            let next = arrival.min(wake);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if arrival <= wake {
                let Reverse(item) = self.pending.pop().unwrap();
                self.arrive(item);
            } else {
                self.wake(host);
            }
        }
    }

    fn next_wake(&self) -> (usize, Real) {
        let wakes = self.hosts.iter().enumerate().map(|(ix, h)| (ix, h.wake));
        wakes.min_by_key(|(_, at)| *at).unwrap_or((0, Real::MAX))
    }

    /// When the host's daemon is next run by itself.
    pub(crate) fn plan_wake(&mut self, host: usize) {
        let late = if self.shape.load > 0 { self.random.draw(self.shape.load) } else { 0 };
        let this = &mut self.hosts[host];
        if !this.powered || this.paused_since.is_some() {
            this.wake = Real::MAX;
            return;
        }
        let local = this.clock.local(self.now);
        let deadline = this.daemon.as_ref().and_then(|d| d.deadline(local));
        let due = deadline.map_or(Real::MAX, |at| this.clock.real(at).saturating_add(late));
        this.wake = if this.is_frozen(self.now) { this.frozen_until } else { due };
    }

    /// The daemon is run: it does what it had decided, takes in what was queued, then believes
    /// its timers.
    fn wake(&mut self, host: usize) {
        self.thaw(host);
        if self.hosts[host].is_frozen(self.now) {
            return self.plan_wake(host);
        }
        let local = self.hosts[host].local(self.now);
        let due = self.hosts[host].daemon.as_ref().and_then(|d| d.deadline(local));
        if due.is_some_and(|at| at <= local) {
            self.step(host, Event::Tick);
            let due = self.hosts[host].daemon.as_ref().and_then(|d| d.deadline(local));
            if due.is_some_and(|at| at < local) && self.hosts[host].undone.is_empty() {
                let name = self.hosts[host].name.clone();
                self.broke(format!("{name} sleeps past its deadline"));
            }
        }
        self.plan_wake(host);
    }

    pub(crate) fn thaw(&mut self, host: usize) {
        let undone = std::mem::take(&mut self.hosts[host].undone);
        if !undone.is_empty() {
            self.note(host, || format!("goes on with {} actions", undone.len()));
            self.carry_out(host, undone, true);
        }
        let queue = std::mem::take(&mut self.hosts[host].queue);
        let mut queue = queue.into_iter();
        while let Some(what) = queue.next() {
            self.feed(host, what);
            if self.hosts[host].is_frozen(self.now) {
                self.hosts[host].queue.extend(queue);
                return;
            }
        }
    }

    fn arrive(&mut self, item: Item) {
        let Item { host, life, what, .. } = item;
        let this = &mut self.hosts[host];
        if what.outlives_the_daemon() {
            return match what {
                Arrival::Effect(task) => self.effect(host, &task),
                Arrival::Start => self.start(host),
                Arrival::Outlet { device, on, by, life } => {
                    self.switched(host, device, on, (by, life));
                }
                Arrival::Resume => self.resume(host),
                Arrival::Button => self.button(host),
                _ => self.power_on(host),
            };
        }
        if this.life != life || this.daemon.is_none() {
            return;
        }
        let what = self.agent_done(what);
        let this = &mut self.hosts[host];
        if this.paused_since.is_some() || this.is_frozen(self.now) || !this.undone.is_empty() {
            this.queue.push(what);
        } else {
            self.feed(host, what);
        }
        self.plan_wake(host);
    }

    pub(crate) fn later(&mut self, host: usize, delay: Real, what: Arrival) {
        self.sequence += 1;
        let life = self.hosts[host].life;
        let (at, sequence) = (self.now + delay, self.sequence);
        self.pending.push(Reverse(Item { at, sequence, host, life, what }));
    }

    // ---- what reaches a daemon ----

    fn feed(&mut self, host: usize, what: Arrival) {
        match what {
            Arrival::Peer { from, life, to_life, message } => {
                self.heard(host, from, life, to_life, message);
            }
            Arrival::Greet => self.greet(host),
            Arrival::Hello { .. } | Arrival::Echo { .. } | Arrival::Confirm { .. } => {
                self.greeted(host, &what);
            }
            Arrival::Advert { meta, bytes } => {
                let ifindex = super::host::ETH0;
                self.step(host, Event::Datagram { ifindex, meta, bytes: &bytes });
            }
            Arrival::Address(a) => self.step(host, Event::Address(a)),
            Arrival::AddressGone(a) => self.step(host, Event::AddressGone(a)),
            // What there is now: netlink never tells the past after the present.
            Arrival::Link => self.step(host, Event::Link(link(host, self.hosts[host].carrier))),
            Arrival::Done(task, result) => self.step(host, Event::Done(task, result)),
            Arrival::Proxy(group, event) => self.step(host, Event::Proxy(group, event)),
            Arrival::Gate(gate) => self.step(host, Event::Gate(gate)),
            Arrival::Clock(clock) => self.step(host, Event::Clock(clock)),
            Arrival::Move(group, to) => self.step(host, Event::Move(group, to)),
            Arrival::Reload(file) => self.reload(host, file),
            Arrival::Leave => self.step(host, Event::Leave),
            Arrival::Stop => self.step(host, Event::Stop),
            Arrival::Fence(event) => self.step(host, Event::Fence(event)),
            Arrival::CheckDue(run) => self.check_due(host, run),
            Arrival::CheckDone(began) => self.check_done(host, began),
            Arrival::Effect(_)
            | Arrival::Start
            | Arrival::PowerOn
            | Arrival::Outlet { .. }
            | Arrival::Resume
            | Arrival::Button
            | Arrival::Agent { .. } => {}
        }
    }

    fn reload(&mut self, host: usize, file: usize) {
        let file = if self.is_calm { self.latest() } else { file };
        let config = Arc::clone(&self.files[file].config);
        if self.hosts[host].member(&config).is_none() {
            return;
        }
        self.hosts[host].file = file;
        self.note(host, || format!("is given file {file}, {:?}", config.digest()));
        let secrets = Secrets(vec![None; config.groups.len()]);
        self.step(host, Event::Reload(config, secrets));
    }

    fn heard(&mut self, host: usize, from: usize, life: u32, to_life: u32, message: Message) {
        let (now, voter) = (self.now, self.hosts[from].voter);
        let this = &mut self.hosts[host];
        let Some(session) = &mut this.sessions[voter] else { return };
        if (session.host, session.life, this.life) != (from, life, to_life) {
            return;
        }
        session.heard = now;
        this.met.insert(voter, now);
        if let Some(ix) = self.ix_of(host, voter) {
            self.step(host, Event::Peer(ix, message));
        }
    }

    // ---- the network ----

    pub(crate) fn send(&mut self, from: usize, to: usize, what: &Arrival) {
        for path in 0..=usize::from(self.shape.two_paths) {
            self.send_on(path, from, to, what);
        }
    }

    pub(crate) fn send_on(&mut self, path: usize, from: usize, to: usize, what: &Arrival) {
        let carried = path == 1 || (self.hosts[from].carrier && self.hosts[to].carrier);
        if self.net.cut[path][from][to] || !carried {
            return;
        }
        let copies = 1 + usize::from(self.net.twice > 0 && self.random.chance(self.net.twice));
        for _ in 0..copies {
            if self.net.loss > 0 && self.random.chance(self.net.loss) {
                continue;
            }
            let (often, longest) = self.net.slow;
            let mut delay = 50 * US + self.random.draw(300 * US);
            if often > 0 && self.random.chance(often) {
                delay += self.random.draw(longest);
            }
            self.count.datagrams += 1;
            // The life of the receiver is checked by what it carries.
            self.later(to, delay, what.clone());
        }
    }

    /// What one step tells one voter goes in one datagram.
    pub(crate) fn post(&mut self, host: usize, to: VoterIx, message: Message) {
        let Some(voter) = self.voter_of(host, to) else { return };
        let Some(session) = self.hosts[host].sessions[voter] else { return };
        let life = self.hosts[host].life;
        let peer = Arrival::Peer { from: host, life, to_life: session.life, message };
        self.send(host, session.host, &peer);
    }

    // ---- a daemon's life ----

    pub(crate) fn step(&mut self, host: usize, event: Event<'_>) {
        let this = &mut self.hosts[host];
        let mut now = this.local(self.now);
        if self.mutant == Mutant::StaleClock
            && this.froze_at > 0
            && matches!(event, Event::Peer(..))
        {
            now = this.local(this.froze_at);
        }
        let Some(daemon) = &mut this.daemon else { return };
        let mut out = Vec::new();
        daemon.step(now, event, &mut out);
        self.count.steps += 1;
        if out.len() > 2000 {
            return self.broke("a flood of actions".to_owned());
        }
        if let Some((at, long)) = self.hosts[host].cut_short
            && out.iter().any(|a| !matches!(a, Action::Note(_) | Action::Beat { .. }))
        {
            let this = &mut self.hosts[host];
            this.cut_short = None;
            this.frozen_until = self.now + long;
            this.undone = out.split_off(at.min(out.len()));
            let undone = this.undone.len();
            self.note(host, || format!("frozen before {undone} actions are carried out"));
            self.carry_out(host, out, false);
            return self.plan_wake(host);
        }
        self.carry_out(host, out, false);
    }

    /// Whether the host is none of the cluster's any more.
    pub(crate) fn is_out(&self, host: usize) -> bool {
        let this = &self.hosts[host];
        this.clone || this.member(&self.files[self.latest()].config).is_none()
    }

    pub(crate) fn power_on(&mut self, host: usize) {
        let is_on = self.hosts[host].powered || !self.is_fed(host);
        if is_on || (self.is_calm && self.is_out(host)) {
            return;
        }
        let rates = match self.mutant {
            Mutant::FastClocks => 5 * RHO,
            _ => self.shape.rates,
        };
        // The worst clocks are the ones that matter.
        let wrong = match self.random.draw(4) {
            0 => rates,
            1 => -rates,
            _ => i64::try_from(self.random.draw(rates.unsigned_abs() * 2 + 1)).unwrap() - rates,
        };
        let offset = 1_000_000_000 + self.random.draw(1_000_000_000_000);
        let lag = self.random.draw(nanos(vipd::config::Lease::DRAIN) + 1);
        let this = &mut self.hosts[host];
        this.powered = true;
        this.clock = Clock::new(self.now, offset, wrong);
        this.lag = lag;
        self.start(host);
    }

    pub(crate) fn power_off(&mut self, host: usize) {
        self.kill(host);
        self.note(host, || "power is lost".to_owned());
        let this = &mut self.hosts[host];
        this.powered = false;
        this.paused_since = None;
        this.deaf = false;
        this.unheard.clear();
        this.gates.clear();
        this.guard.clear();
        this.addresses.clear();
        this.sick = false;
        this.kept.votes = None;
        self.random.draw(2);
        let gate = this.gate.0 + 1000;
        this.gate = vipd::types::GateId(gate);
        self.oracle.forgot(host);
        self.plan_wake(host);
    }

    /// The daemon is gone, its kernel is not.
    pub(crate) fn kill(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        this.life += 1;
        this.ended = Some(self.now);
        this.met.clear();
        this.daemon = None;
        this.queue.clear();
        this.undone.clear();
        this.cut_short = None;
        this.frozen_until = 0;
        this.sessions.iter_mut().for_each(|s| *s = None);
        this.wake = Real::MAX;
    }

    /// A daemon starts on a kernel that may have addresses and open gates.
    pub(crate) fn start(&mut self, host: usize) {
        let this = &self.hosts[host];
        if !this.powered || this.daemon.is_some() || this.paused_since.is_some() {
            return;
        }
        // No process is loaded in the instant in which another one ended.
        if this.ended.is_some_and(|at| self.now < at + MS / 2) {
            return self.later(host, MS, Arrival::Start);
        }
        let config = Arc::clone(&self.files[this.file].config);
        let Some(member) = this.member(&config) else { return };
        if self.mutant == Mutant::Doubtless && self.hosts[host].kept.votes.is_none() {
            // It waits for as long as a vote lasts, and believes that it knows of all.
            self.hosts[host].kept.votes = Some(std::collections::BTreeMap::new());
            let quiet = nanos(config.lease.vote) * 11 / 10;
            return self.later(host, quiet, Arrival::Start);
        }
        self.kill(host);
        let now = self.hosts[host].local(self.now);
        let mut kept = self.hosts[host].kept.clone();
        if kept.votes.is_none() && self.mutant == Mutant::NoQuiet {
            kept.votes = Some(std::collections::BTreeMap::new());
        }
        self.note(host, || {
            format!("starts, {}", if kept.votes.is_some() { "remembers" } else { "has no memory" })
        });
        if kept.votes.is_none() && self.mutant == Mutant::MemoryTooSoon {
            self.hosts[host].kept.votes = Some(std::collections::BTreeMap::new());
        }
        let longest = self.hosts[host].kept.longest.max(config.lease.vote);
        self.hosts[host].kept.longest = longest;
        let mut out = Vec::new();
        let run = self.next_run();
        let daemon = match member {
            Member::Node(me) => {
                let start = self.inheritance(host, now, &config, &kept, run);
                let secrets = Secrets(vec![None; config.groups.len()]);
                let node = Node::new(now, config, me, &secrets, &start, &mut out);
                Daemon::Node(Box::new(node))
            }
            Member::Witness(_) => {
                let me = super::place(&config, &self.hosts[host].name).unwrap();
                Daemon::Witness(Box::new(Witness::new(now, config, me, &kept, run, &mut out)))
            }
        };
        self.hosts[host].daemon = Some(daemon);
        self.hosts[host].since = self.now;
        self.carry_out(host, out, false);
        if matches!(member, Member::Node(_)) {
            self.resync(host);
            let soon = self.random.draw(5 * MS);
            self.later(host, soon, Arrival::Gate(Ok(())));
        }
        let soon = self.random.draw(2 * MS);
        self.later(host, soon, Arrival::Greet);
        if matches!(member, Member::Node(_)) {
            self.begin_checks(host);
        }
        self.plan_wake(host);
    }

    /// Names a run of a daemon: no other has that name, and no gate.
    fn next_run(&mut self) -> Incarnation {
        self.runs += 1;
        let chance = Random::new(self.runs).draw(1 << 16);
        Incarnation((1 << 64) | u128::from(self.runs << 16 | chance))
    }

    fn inheritance(
        &self,
        host: usize,
        now: Instant,
        new: &Config,
        kept: &Kept,
        run: Incarnation,
    ) -> Inheritance {
        let this = &self.hosts[host];
        let named = |ip| new.groups.iter().any(|g| g.addresses.iter().any(|a| a.ip == ip));
        Inheritance {
            orphans: this.addresses.iter().copied().filter(|ip| !named(*ip)).collect(),
            gate: Some(this.gate),
            // A gate that was told to shut and does not is nobody's to go on with.
            open: this
                .gates
                .iter()
                .filter(|(group, t)| now < **t && !this.unheard.contains(*group))
                .map(|(g, t)| (g.clone(), *t))
                .collect(),
            votes: kept.votes.clone(),
            quiet: kept.longest,
            confirmed: kept.confirmed,
            fenced: Vec::new(),
            will: Vec::new(),
            failures: Vec::new(),
            run,
        }
    }

    fn resync(&mut self, host: usize) {
        self.step(host, Event::ResyncBegin);
        let up = self.hosts[host].carrier;
        self.step(host, Event::Link(link(host, up)));
        let fixed = own(self.hosts[host].voter);
        let present: Vec<_> = self.hosts[host].addresses.iter().copied().collect();
        for ip in std::iter::once(fixed).chain(present) {
            let ours = ip != fixed;
            let address = vipd::core::event::KernelAddress {
                index: super::host::ETH0,
                ip,
                prefix: if ours { 32 } else { 24 },
                ours,
            };
            self.step(host, Event::Address(address));
        }
        self.step(host, Event::ResyncEnd);
    }
}
