//! Votes and gates: the shipped `Voter` and `Holder` of a few hosts, the kernel's gates beside
//! them, and a network that loses, delays and reorders. Small enough to see every state.
//!
//! A tick is a microsecond of the shipped `Instant`. What a host asks for, and what goes wrong, is
//! counted down, so that each scene ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stateright::{Model, Property};
use vipd::core::lease::{Ask, Grant, Holder, Voter};
use vipd::types::{GateId, Instant, VoterIx, Voters};
use vipd::wire::peer::{Denial, News};

use super::mutant::Mutant;

const TICK: u64 = 1000;

pub(crate) const ONE_GATE: &str = "one open gate";
pub(crate) const TENURES: &str = "tenures rise";
pub(crate) const VOID: &str = "what was given up stays shut";
pub(crate) const LOCKED: &str = "no vote for what was given up";

/// What a scene is about. Numbers are budgets: how often each thing may happen.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a thing that happens or does not")]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// For each voter, how often it asks, and how often it gives up.
    pub(crate) hosts: Vec<(u8, u8)>,
    pub(crate) term: u64,
    pub(crate) vote: u64,
    /// The last tick.
    pub(crate) horizon: u64,
    /// How far two clocks may be apart; 0 for one clock.
    pub(crate) slack: u64,
    /// Daemons that restart with what was written down.
    pub(crate) restarts: u8,
    /// Hosts whose daemon restarts and has forgotten everything.
    pub(crate) losses: u8,
    /// Which host may restart or forget; any, if none is named.
    pub(crate) who: Option<u8>,
    /// The first host is started again elsewhere, while it still runs.
    pub(crate) twins: u8,
    /// Whether the old one is cut off when that happens.
    pub(crate) cut: bool,
    /// A datagram may come more than once.
    pub(crate) twice: bool,
    /// Who gives up may name who is to follow.
    pub(crate) successor: bool,
    /// Receiving and handling are two steps, with time between.
    pub(crate) frozen: bool,
    /// Another configuration with this term.
    pub(crate) longer: Option<u64>,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Packet {
    from: u8,
    to: u8,
    news: News,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    name: VoterIx,
    gate: GateId,
    clock: u64,
    term: u64,
    voter: Voter,
    holder: Holder,
    /// The kernel's gate: it outlives the daemon.
    kernel: Instant,
    quiet: Instant,
    epoch: u64,
    /// The highest tenure it was refused for.
    highest: u64,
    /// The highest round that was said to be void.
    void: u64,
    /// Of which gates it heard that, up to which round.
    told: BTreeMap<GateId, u64>,
    /// No second request in one tick: rounds rise over restarts because the clock does.
    asked: u64,
    asks: u8,
    releases: u8,
    /// Received, with the clock as it was read then, and not handled yet.
    inbox: Option<(Packet, Instant)>,
    /// For a mutant: the clock, read before anything was received.
    early: Option<Instant>,
    /// For a mutant: the gate is to be shut later.
    late: bool,
    cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    hosts: Vec<Host>,
    net: BTreeSet<Packet>,
    restarts: u8,
    losses: u8,
    twins: u8,
    terms: u8,
    /// The highest tenure that opened a gate, and whose.
    tenure: (u64, GateId),
    wrong: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Every clock, or that of one host.
    Tick(Option<u8>),
    Ask(u8),
    Deliver(Packet),
    Receive(Packet),
    Handle(u8),
    GiveUp(u8, Option<VoterIx>),
    ShutLate(u8),
    Restart(u8),
    Forget(u8),
    Twin,
    Terms(u8),
}

impl Host {
    fn new(name: u8, gate: u128, clock: u64, term: u64) -> Self {
        Self {
            name: VoterIx(name),
            gate: GateId(gate),
            clock,
            term,
            voter: Voter::default(),
            holder: Holder::default(),
            kernel: Instant::BOOT,
            quiet: Instant::BOOT,
            epoch: 0,
            highest: 0,
            void: 0,
            told: BTreeMap::new(),
            asked: 0,
            asks: 0,
            releases: 0,
            inbox: None,
            early: None,
            late: false,
            cut: false,
        }
    }

    fn now(&self) -> Instant {
        at(self.clock)
    }

    fn is_open(&self) -> bool {
        self.now() < self.kernel
    }
}

fn at(tick: u64) -> Instant {
    Instant::from_nanos(tick * TICK)
}

fn ticks(n: u64) -> Duration {
    Duration::from_nanos(n * TICK)
}

impl Scene {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn majority(&self) -> usize {
        self.hosts.len() / 2 + usize::from(!self.is(Mutant::Minority))
    }

    fn vote_term(&self) -> Duration {
        match self.mutant {
            Some(Mutant::NoMargin) => ticks(self.term),
            Some(Mutant::ShortVote) => ticks(self.term - 1),
            _ => ticks(self.vote),
        }
    }

    /// Everybody but `from`, and every machine of each name.
    fn tell(world: &mut World, from: u8, to: Option<VoterIx>, news: News) {
        let me = world.hosts[usize::from(from)].name;
        for (ix, host) in (0..).zip(&world.hosts) {
            if host.name != me && to.is_none_or(|name| host.name == name) {
                world.net.insert(Packet { from, to: ix, news });
            }
        }
    }

    /// As `Lease::requested` does: quiet, then the vote, which is written down before it is told.
    fn vote(&self, host: &mut Host, now: Instant, ask: &Ask) -> Option<Result<Grant, Denial>> {
        if now < host.quiet {
            return Some(Err(Denial::Quiet { left: Duration::ZERO }));
        }
        let (highest, of) = host.voter.epoch();
        match self.mutant {
            Some(Mutant::Overwrite) => host.voter = Voter::remembering(None, (highest, of)),
            Some(Mutant::AnyTenure) => {
                host.voter = Voter::remembering(host.voter.last(), (0, GateId(0)));
            }
            Some(Mutant::NameNotGate) => {
                let last = host.voter.last().filter(|g| g.to != ask.from);
                host.voter = Voter::remembering(last, (highest, of));
            }
            _ => {}
        }
        host.voter.vote(now, ask, self.vote_term())
    }

    fn ask(&self, world: &mut World, ix: u8) {
        let host = &mut world.hosts[usize::from(ix)];
        let now = host.now();
        host.asks -= 1;
        host.asked = host.clock;
        // As a candidate does, which takes back one request before it makes the next.
        if !host.holder.is_open() && !host.holder.is_asking() {
            host.epoch = host.epoch.max(host.voter.epoch().0).max(host.highest) + 1;
        }
        if self.is(Mutant::OneRound) {
            host.holder.limit(at(u64::from(u32::MAX)));
        }
        let round = host.holder.ask(now, ticks(host.term));
        let (gate, epoch) = (host.gate, host.epoch);
        let own = Ask { from: host.name, gate, round, epoch };
        let granted = matches!(self.vote(host, now, &own), Some(Ok(_)));
        Self::tell(world, ix, None, News::Request { gate, round, epoch });
        if granted {
            self.count(world, ix, own.from, now, round);
        }
    }

    /// As `Lease::count` does, and the kernel's gate after it.
    fn count(&self, world: &mut World, ix: u8, from: VoterIx, now: Instant, round: u64) {
        let majority = self.majority();
        let host = &mut world.hosts[usize::from(ix)];
        if host.holder.is_open() && host.holder.holds(now).is_none() {
            return;
        }
        let before = host.holder.clone();
        let mut until = host.holder.granted(now, from, round, majority, Voters::NONE);
        if self.is(Mutant::CountTwice) && until.is_none() {
            let other = VoterIx((from.0 + 1) % 3);
            until = host.holder.granted(now, other, round, majority, Voters::NONE);
        }
        if round <= host.void && host.holder != before {
            world.wrong = Some(VOID);
        }
        if let Some(until) = until {
            host.kernel = match self.mutant {
                Some(Mutant::TermFromGrant) => now + ticks(host.term),
                Some(Mutant::TermsInForce) => Instant::from_nanos(round) + ticks(host.term),
                _ => until,
            };
            // One that was frozen for longer than its lease opens nothing.
            if !host.is_open() {
                return;
            }
            // No tenure is numbered by a voter that forgot the last, or never knew it.
            let remembered = world.losses == self.losses && world.twins == self.twins;
            let tenure = (host.epoch, host.gate);
            if tenure.1 != world.tenure.1 && tenure.0 <= world.tenure.0 && remembered {
                world.wrong = Some(TENURES);
            }
            world.tenure = tenure;
        }
    }

    fn handle(&self, world: &mut World, packet: &Packet, now: Instant) {
        let ix = packet.to;
        let from = world.hosts[usize::from(packet.from)].name;
        let host = &mut world.hosts[usize::from(ix)];
        if host.holder.is_open() && host.holder.holds(now).is_none() {
            self.give_up(world, ix, None, now);
        }
        let host = &mut world.hosts[usize::from(ix)];
        match packet.news {
            News::Request { gate, round, epoch } => {
                let ask = Ask { from, gate, round, epoch };
                let void = host.told.get(&gate).is_some_and(|told| round <= *told);
                let news = match self.vote(host, now, &ask) {
                    Some(Ok(_)) => {
                        if void {
                            world.wrong = Some(LOCKED);
                        }
                        News::Grant { gate, round }
                    }
                    // The only refusal that changes what its reader does later.
                    Some(Err(why @ Denial::Epoch { .. })) => News::Deny { gate, round, why },
                    Some(Err(_)) | None => return,
                };
                Self::tell(world, ix, Some(from), news);
            }
            News::Grant { gate, round } if gate == host.gate => {
                self.count(world, ix, from, now, round);
            }
            News::Deny { gate, why: Denial::Epoch { highest }, .. } if gate == host.gate => {
                host.highest = host.highest.max(highest);
            }
            News::Release { gate, round, successor } => {
                let named = if self.is(Mutant::AnyRound) {
                    host.voter.last().map_or(round, |g| g.round.max(round))
                } else {
                    round
                };
                host.voter.release(now, from, gate, named, successor);
                let told = host.told.entry(gate).or_default();
                *told = round.max(*told);
                if self.is(Mutant::UnseenRelease) {
                    host.voter = Voter::remembering(host.voter.last(), host.voter.epoch());
                }
            }
            News::Grant { .. }
            | News::Deny { .. }
            | News::Report(_)
            | News::Move { .. }
            | News::Part { .. }
            | News::Word(_)
            | News::Tale { .. }
            | News::Words { .. }
            | News::Failed(_)
            | News::Looked(_)
            | News::Fenced { .. } => {}
        }
    }

    /// As `Lease::shut` does: the gate, then what was asked, then the votes.
    fn give_up(&self, world: &mut World, ix: u8, successor: Option<VoterIx>, now: Instant) {
        let host = &mut world.hosts[usize::from(ix)];
        let old = host.holder.clone();
        let believed = old.is_open();
        let round = host.holder.drop_all();
        host.void = host.void.max(round);
        if self.is(Mutant::KeepRounds) {
            host.holder = old;
        }
        match self.mutant {
            Some(Mutant::ReleaseFirst) => host.late = true,
            Some(Mutant::ForgetGate) if !believed => {}
            _ => host.kernel = Instant::BOOT,
        }
        let (name, gate) = (host.name, host.gate);
        host.voter.release(now, name, gate, round, successor);
        Self::tell(world, ix, None, News::Release { gate, round, successor });
    }

    fn restart(&self, world: &mut World, ix: u8, remembers: bool) {
        let quiet = match self.mutant {
            Some(Mutant::NoQuiet) => 0,
            Some(Mutant::ShortQuiet) => 1,
            _ => self.vote,
        };
        let host = &mut world.hosts[usize::from(ix)];
        let now = host.now();
        let record = (host.voter.last(), host.voter.epoch());
        host.voter = match (remembers, self.mutant) {
            (false, _) => Voter::default(),
            (true, Some(Mutant::ToldFirst)) => Voter::remembering(None, record.1),
            (true, _) => Voter::remembering(record.0, record.1),
        };
        if !remembers {
            host.quiet = now + ticks(quiet);
        }
        host.holder = if host.is_open() && !self.is(Mutant::ForgetGate) {
            Holder::inheriting(host.kernel)
        } else {
            Holder::default()
        };
        host.epoch = host.voter.epoch().0;
        host.highest = 0;
        host.void = 0;
        host.told.clear();
        host.inbox = None;
        host.late = false;
    }

    /// The host is started elsewhere, with an empty memory and a new kernel.
    fn twin(&self, world: &mut World) {
        world.twins -= 1;
        let first = &mut world.hosts[0];
        first.cut = self.cut;
        let gate = if self.is(Mutant::NameIsGate) { first.gate } else { GateId(99) };
        let mut twin = Host::new(first.name.0, gate.0, first.clock, first.term);
        twin.quiet = twin.now() + ticks(self.vote);
        twin.asks = u8::from(self.cut);
        twin.releases = u8::from(self.cut);
        world.hosts.push(twin);
    }

    fn terms(&self, world: &mut World, ix: u8) {
        let host = &mut world.hosts[usize::from(ix)];
        host.term = self.longer.unwrap_or(host.term);
        world.terms -= 1;
        if !self.is(Mutant::TermsInForce) {
            let limit = host.now() + ticks(host.term);
            host.holder.limit(limit);
            if host.holder.is_open() {
                host.kernel = host.holder.until();
            }
        }
    }

    fn offer_host(&self, world: &World, ix: u8, steps: &mut Vec<Step>) {
        let host = &world.hosts[usize::from(ix)];
        if self.slack > 0 {
            let least = world.hosts.iter().map(|h| h.clock).min().unwrap_or(0);
            if host.clock < self.horizon && host.clock < least + self.slack {
                steps.push(Step::Tick(Some(ix)));
            }
        }
        if host.asks > 0 && host.asked < host.clock {
            steps.push(Step::Ask(ix));
        }
        if host.releases > 0 && (host.holder.is_open() || host.holder.is_asking()) {
            steps.push(Step::GiveUp(ix, None));
            if ix == 0 && self.successor {
                steps.push(Step::GiveUp(ix, Some(VoterIx(1))));
            }
        }
        if world.restarts > 0 && self.who.is_none_or(|who| who == ix) {
            steps.push(Step::Restart(ix));
        }
        if world.losses > 0 && self.who.is_none_or(|who| who == ix) {
            steps.push(Step::Forget(ix));
        }
        if host.late {
            steps.push(Step::ShutLate(ix));
        }
        if host.inbox.is_some() {
            steps.push(Step::Handle(ix));
        }
        if world.terms > 0 && ix == 0 && host.asks == 0 {
            steps.push(Step::Terms(ix));
        }
    }
}

impl Model for Scene {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut hosts = Vec::new();
        for (ix, (asks, releases)) in (0..).zip(&self.hosts) {
            let mut host = Host::new(ix, u128::from(ix) + 1, 1, self.term);
            (host.asks, host.releases) = (*asks, *releases);
            // Later hosts have heard of more tenures, so that few requests are in vain.
            host.epoch = 10 * u64::from(ix);
            host.early = Some(host.now()).filter(|_| self.is(Mutant::EarlyClock) && ix == 2);
            hosts.push(host);
        }
        vec![World {
            hosts,
            net: BTreeSet::new(),
            restarts: self.restarts,
            losses: self.losses,
            twins: self.twins,
            terms: u8::from(self.longer.is_some()),
            tenure: (0, GateId(0)),
            wrong: None,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if self.slack == 0 && world.hosts[0].clock < self.horizon {
            steps.push(Step::Tick(None));
        }
        for ix in (0..).take(world.hosts.len()) {
            self.offer_host(world, ix, steps);
        }
        for packet in &world.net {
            let (from, to) =
                (&world.hosts[usize::from(packet.from)], &world.hosts[usize::from(packet.to)]);
            if from.cut || to.cut {
                continue;
            }
            if !self.frozen {
                steps.push(Step::Deliver(packet.clone()));
            } else if to.inbox.is_none() {
                steps.push(Step::Receive(packet.clone()));
            }
        }
        if world.twins > 0 {
            steps.push(Step::Twin);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        match step {
            Step::Tick(Some(ix)) => world.hosts[usize::from(ix)].clock += 1,
            Step::Tick(None) => world.hosts.iter_mut().for_each(|h| h.clock += 1),
            Step::Ask(ix) => self.ask(&mut world, ix),
            Step::Deliver(packet) => {
                if !self.twice {
                    world.net.remove(&packet);
                }
                let now = world.hosts[usize::from(packet.to)].now();
                self.handle(&mut world, &packet, now);
            }
            Step::Receive(packet) => {
                world.net.remove(&packet);
                let host = &mut world.hosts[usize::from(packet.to)];
                let read = host.early.take().unwrap_or(host.now());
                host.inbox = Some((packet, read));
            }
            Step::Handle(ix) => {
                let (packet, read) = world.hosts[usize::from(ix)].inbox.take()?;
                self.handle(&mut world, &packet, read);
            }
            Step::GiveUp(ix, successor) => {
                let host = &mut world.hosts[usize::from(ix)];
                host.releases -= 1;
                let now = host.now();
                self.give_up(&mut world, ix, successor, now);
            }
            Step::ShutLate(ix) => {
                let host = &mut world.hosts[usize::from(ix)];
                (host.kernel, host.late) = (Instant::BOOT, false);
            }
            Step::Restart(ix) => {
                world.restarts -= 1;
                self.restart(&mut world, ix, true);
            }
            Step::Forget(ix) => {
                world.losses -= 1;
                self.restart(&mut world, ix, false);
            }
            Step::Twin => self.twin(&mut world),
            Step::Terms(ix) => self.terms(&mut world, ix),
        }
        // A datagram that comes again and changes nothing leads nowhere new.
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_GATE, |_, world: &World| {
                world.hosts.iter().filter(|h| h.is_open()).count() <= 1
            }),
            Property::always(TENURES, |_, world: &World| world.wrong != Some(TENURES)),
            Property::always(VOID, |_, world: &World| world.wrong != Some(VOID)),
            Property::always(LOCKED, |_, world: &World| world.wrong != Some(LOCKED)),
            Property::sometimes("a gate opens", |_, world: &World| {
                world.hosts.iter().any(Host::is_open)
            }),
            Property::sometimes("the group changes hands", |_, world: &World| world.tenure.0 > 1),
        ]
    }
}
