//! Strict votes: the shipped `Voter` and `Holder` of two or three hosts whose gates are shut by nobody
//! but their own daemon or the end of their host; agents that switch a host off, proofs that come
//! late, voters that forget, sessions between the runs of daemons.

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Model, Property};
use vipd::core::lease::{Ask, Holder, Voter};
use vipd::types::{GateId, Instant, VoterIx, Voters};

use super::mutant::Mutant;
use super::votes::ONE_GATE;

const TERM: u64 = 2;
const VOTE: u64 = 3;

/// What a scene is about; numbers are budgets.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// For each node, how often it asks.
    pub(crate) asks: Vec<u8>,
    /// Voters that hold nothing.
    pub(crate) witnesses: usize,
    pub(crate) horizon: u64,
    /// How often the first node is fenced, and comes back.
    pub(crate) fences: u8,
    pub(crate) returns: u8,
    /// How often the last voter loses its memory.
    pub(crate) losses: u8,
    /// A second machine with the first node's name is heard.
    pub(crate) twin: bool,
    /// Gates shut at their deadline, as they do where clocks can be trusted.
    pub(crate) timed: bool,
    /// The first node was fenced before, and came back: that proof is on its way to some, and another
    /// agent is still at work.
    pub(crate) earlier: bool,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    name: VoterIx,
    gate: GateId,
    life: u8,
    powered: bool,
    voter: Voter,
    holder: Holder,
    /// The kernel's gate.
    open: bool,
    quiet: u64,
    asks: u8,
    epoch: u64,
    /// With which run of each other host it has a session.
    knows: Vec<u8>,
    /// Of two, the other one, which was switched off and has not voted since.
    fenced: Voters,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Said {
    Request(GateId, u64, u64),
    Grant(GateId, u64),
    Release(GateId, u64),
    /// With its gate, and whether that is open.
    Report(GateId, bool),
    Fenced(GateId),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Packet {
    from: u8,
    to: u8,
    lives: (u8, u8),
    said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    now: u64,
    hosts: Vec<Host>,
    net: BTreeSet<Packet>,
    /// An agent is at work on the first node, for this: what its end will prove.
    agent: Option<BTreeSet<GateId>>,
    fences: u8,
    returns: u8,
    losses: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tick,
    Ask(u8),
    /// Its timers are looked at.
    Expire(u8),
    Report(u8, u8),
    Deliver(Packet),
    Session(u8, u8),
    Forget,
    Begin,
    Off,
    Return,
}

fn at(tick: u64) -> Instant {
    Instant::from_nanos(1 + tick * 1000)
}

fn ticks(n: u64) -> Duration {
    Duration::from_nanos(n * 1000)
}

impl Scene {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn is_pair(&self) -> bool {
        self.asks.len() == 2 && self.witnesses == 0
    }

    fn voters(&self) -> usize {
        self.asks.len() + self.witnesses
    }

    fn host(&self, ix: usize, gate: u128, life: u8) -> Host {
        let name = VoterIx(u8::try_from(ix).unwrap());
        Host {
            name,
            gate: GateId(gate),
            life,
            powered: true,
            voter: Voter::default().strict(Voters::NONE, GateId(0)),
            holder: Holder::default(),
            open: false,
            quiet: 0,
            asks: self.asks.get(ix).copied().unwrap_or(0),
            epoch: 10 * ix as u64,
            knows: vec![0; self.voters() + 1],
            fenced: Voters::NONE,
        }
    }

    /// It may have forgotten whom it voted for.
    fn forgetful(&self, host: &mut Host, now: u64) {
        let others = Voters::first(self.asks.len()).without(host.name);
        let others = if self.is(Mutant::Doubtless) { Voters::NONE } else { others };
        let run = GateId(1000 + 100 * u128::from(host.name.0) + u128::from(host.life));
        host.voter = Voter::default().strict(others, run);
        host.holder = Holder::default();
        host.quiet = now + VOTE;
        host.fenced = Voters::NONE;
        host.knows.iter_mut().for_each(|k| *k = u8::MAX);
    }

    fn is_open(&self, world: &World, host: &Host) -> bool {
        host.powered && host.open && (!self.timed || at(world.now) < host.holder.until())
    }

    fn tell(world: &mut World, from: u8, to: Option<u8>, said: &Said) {
        let me = &world.hosts[usize::from(from)];
        let (name, life, knows) = (me.name, me.life, me.knows.clone());
        for (ix, host) in (0..).zip(&world.hosts) {
            if host.name != name && to.is_none_or(|to| to == ix) {
                let lives = (life, knows[usize::from(ix)]);
                world.net.insert(Packet { from, to: ix, lives, said: said.clone() });
            }
        }
    }

    fn ask(&self, world: &mut World, ix: u8) {
        let now = at(world.now);
        let host = &mut world.hosts[usize::from(ix)];
        host.asks -= 1;
        if !host.holder.is_open() && !host.holder.is_asking() {
            host.epoch = host.epoch.max(host.voter.epoch().0) + 1;
        }
        let round = host.holder.ask(now, ticks(TERM));
        let (from, gate, epoch) = (host.name, host.gate, host.epoch);
        let own = Ask { from, gate, round, epoch };
        let granted = self.vote(host, world.now, &own);
        Self::tell(world, ix, None, &Said::Request(gate, round, epoch));
        if granted {
            self.count(world, ix, from, round);
        }
    }

    fn vote(&self, host: &mut Host, now: u64, ask: &Ask) -> bool {
        if now < host.quiet {
            return false;
        }
        if self.is(Mutant::LaxVotes) {
            host.voter = std::mem::take(&mut host.voter).lax();
        }
        matches!(host.voter.vote(at(now), ask, ticks(VOTE)), Some(Ok(_)))
    }

    /// As `Lease::count` does.
    fn count(&self, world: &mut World, ix: u8, from: VoterIx, round: u64) {
        let now = at(world.now);
        let host = &mut world.hosts[usize::from(ix)];
        if host.holder.is_open() && host.holder.holds(now).is_none() {
            return;
        }
        let alone = self.is_pair() && (host.holder.is_open() || self.is(Mutant::BeginsAlone));
        let needed = if alone { 1 } else { self.voters() / 2 + 1 };
        let proxies = if self.is_pair() { host.fenced } else { Voters::NONE };
        host.open |= host.holder.granted(now, from, round, needed, proxies).is_some();
    }

    /// As `Lease::expire` and `Lease::shut` do.
    fn expire(world: &mut World, ix: u8) {
        let now = at(world.now);
        let host = &mut world.hosts[usize::from(ix)];
        if host.holder.is_open() && host.holder.holds(now).is_none() {
            let round = host.holder.drop_all();
            host.open = false;
            let (name, gate) = (host.name, host.gate);
            host.voter.release(now, name, gate, round, None);
            Self::tell(world, ix, None, &Said::Release(gate, round));
        }
    }

    fn deliver(&self, world: &mut World, packet: &Packet) {
        let (from, to) = (usize::from(packet.from), usize::from(packet.to));
        let host = &world.hosts[to];
        if !host.powered || packet.lives != (host.knows[from], host.life) {
            return;
        }
        Self::expire(world, packet.to);
        let (now, name) = (at(world.now), world.hosts[from].name);
        let host = &mut world.hosts[to];
        match packet.said {
            Said::Request(gate, round, epoch) => {
                let ask = Ask { from: name, gate, round, epoch };
                if self.vote(host, world.now, &ask) {
                    Self::tell(world, packet.to, Some(packet.from), &Said::Grant(gate, round));
                }
            }
            Said::Grant(gate, round) if gate == host.gate => {
                host.fenced = host.fenced.without(name);
                self.count(world, packet.to, name, round);
            }
            Said::Release(gate, round) => {
                host.voter.release(now, name, gate, round, None);
            }
            Said::Report(gate, holds) => {
                let elsewhere = host.voter.last().filter(|g| g.to == name && g.gate != gate);
                if self.is(Mutant::ReturnsEarly) && elsewhere.is_some() {
                    let (epoch, doubted) = (host.voter.epoch(), host.voter.doubted());
                    host.voter = Voter::remembering(None, epoch).strict(doubted, GateId(0));
                }
                host.voter.returned(now, name, gate);
                host.voter.accounted(name, holds.then_some((gate, now + ticks(VOTE))));
            }
            Said::Fenced(mark) => self.proven(host, now, mark),
            Said::Grant(..) => {}
        }
    }

    /// The first node was switched off after `mark` was in doubt.
    fn proven(&self, host: &mut Host, now: Instant, mark: GateId) {
        let stale = host.voter.doubt(now).map(|doubt| doubt.mark);
        let mark = if self.is(Mutant::NameProves) { stale.unwrap_or(mark) } else { mark };
        host.voter.proven(VoterIx(0), mark);
    }

    /// All that is in doubt about the first node, as far as the second, which fences, can know.
    fn doubts(world: &World) -> BTreeSet<GateId> {
        let all = world.hosts.iter().skip(1).filter_map(|h| h.voter.doubt(at(world.now)));
        all.filter(|doubt| doubt.of.has(VoterIx(0))).map(|doubt| doubt.mark).collect()
    }

    fn off(&self, world: &mut World) {
        let begun = world.agent.take().unwrap_or_default();
        let marks = if self.is(Mutant::LateMarks) { Self::doubts(world) } else { begun };
        // For the latter the host has been off, and is back.
        if !self.is(Mutant::LyingAgent) && !self.is(Mutant::LateMarks) {
            Self::cut(&mut world.hosts[0]);
        }
        let now = at(world.now);
        if self.is_pair() {
            world.hosts[1].fenced = Voters::NONE.with(VoterIx(0));
        }
        for mark in marks {
            self.proven(&mut world.hosts[1], now, mark);
            Self::tell(world, 1, None, &Said::Fenced(mark));
        }
    }

    fn cut(host: &mut Host) {
        host.powered = false;
        host.open = false;
        host.holder = Holder::default();
    }

    fn back(&self, world: &mut World) {
        let now = world.now;
        world.returns -= 1;
        let old = &world.hosts[0];
        let mut host = self.host(0, old.gate.0 + 10, old.life + 1);
        (host.asks, host.epoch) = (1, 50);
        self.forgetful(&mut host, now);
        world.hosts[0] = host;
    }
}

impl Model for Scene {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let hosts = (0..self.voters()).map(|ix| self.host(ix, ix as u128 + 1, 0));
        let mut hosts: Vec<_> = hosts.collect();
        if self.twin {
            let mut twin = self.host(0, 99, 0);
            self.forgetful(&mut twin, 0);
            (twin.asks, twin.knows) = (0, vec![0; self.voters() + 1]);
            hosts.push(twin);
        }
        let mut net = BTreeSet::new();
        if self.earlier {
            let said = Said::Fenced(GateId(77));
            net.insert(Packet { from: 1, to: 2, lives: (0, 0), said });
        }
        vec![World {
            now: 0,
            hosts,
            net,
            agent: self.earlier.then(|| BTreeSet::from([GateId(77)])),
            fences: self.fences,
            returns: self.returns,
            losses: self.losses,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.now < self.horizon {
            steps.push(Step::Tick);
        }
        for (ix, host) in (0..).zip(&world.hosts).filter(|(_, h)| h.powered) {
            if host.asks > 0 {
                steps.push(Step::Ask(ix));
            }
            if host.holder.is_open() && host.holder.holds(at(world.now)).is_none() {
                steps.push(Step::Expire(ix));
            }
            for (other, peer) in (0..).zip(&world.hosts) {
                if peer.name == host.name {
                    continue;
                }
                if peer.powered && host.knows[usize::from(other)] != peer.life {
                    steps.push(Step::Session(ix, other));
                }
                // Only what a voter in doubt makes something of.
                let in_doubt = peer.voter.doubted().has(host.name)
                    || peer.voter.last().is_some_and(|g| g.to == host.name && g.gate != host.gate);
                if in_doubt && host.knows[usize::from(other)] == peer.life {
                    steps.push(Step::Report(ix, other));
                }
            }
        }
        steps.extend(world.net.iter().cloned().map(Step::Deliver));
        if world.losses > 0 {
            steps.push(Step::Forget);
        }
        if world.fences > 0 && world.agent.is_none() && !Self::doubts(world).is_empty() {
            steps.push(Step::Begin);
        }
        if world.agent.is_some() {
            steps.push(Step::Off);
        }
        if world.returns > 0 && !world.hosts[0].powered {
            steps.push(Step::Return);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        match step {
            Step::Tick => world.now += 1,
            Step::Ask(ix) => self.ask(&mut world, ix),
            Step::Expire(ix) => Self::expire(&mut world, ix),
            Step::Report(ix, to) => {
                Self::expire(&mut world, ix);
                let host = &world.hosts[usize::from(ix)];
                let said = Said::Report(host.gate, host.holder.holds(at(world.now)).is_some());
                Self::tell(&mut world, ix, Some(to), &said);
            }
            Step::Deliver(packet) => {
                world.net.remove(&packet);
                self.deliver(&mut world, &packet);
            }
            Step::Session(ix, with) => {
                let (life, name) = {
                    let peer = &world.hosts[usize::from(with)];
                    (peer.life, peer.name)
                };
                let host = &mut world.hosts[usize::from(ix)];
                host.knows[usize::from(with)] = life;
                host.holder.forget(name);
            }
            Step::Forget => {
                world.losses -= 1;
                let now = world.now;
                let host = world.hosts.last_mut()?;
                host.life += 1;
                self.forgetful(host, now);
            }
            Step::Begin => {
                world.fences -= 1;
                world.agent = Some(Self::doubts(&world));
            }
            Step::Off => self.off(&mut world),
            Step::Return => self.back(&mut world),
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_GATE, |scene: &Self, world: &World| {
                world.hosts.iter().filter(|h| scene.is_open(world, h)).count() <= 1
            }),
            Property::sometimes("a gate opens", |_, world: &World| {
                world.hosts.iter().any(|h| h.open)
            }),
            Property::sometimes("another serves", |_, world: &World| world.hosts[1].open),
        ]
    }
}

fn base() -> Scene {
    Scene {
        name: "strict votes",
        asks: vec![1, 1],
        witnesses: 1,
        horizon: 4,
        fences: 1,
        returns: 0,
        losses: 0,
        twin: false,
        timed: false,
        earlier: false,
        mutant: None,
    }
}

/// A holder that is not heard is switched off.
pub(crate) fn fenced() -> Scene {
    Scene { name: "a lost holder is fenced", ..base() }
}

/// It comes back, with another gate, and may hold again.
pub(crate) fn returns() -> Scene {
    Scene { name: "a fenced holder comes back", returns: 1, ..base() }
}

/// A voter forgets what it granted.
pub(crate) fn forgets() -> Scene {
    Scene { name: "a strict voter forgets", losses: 1, fences: 0, ..base() }
}

fn forgets_and_is_told() -> Scene {
    Scene { name: "a strict voter forgets, fence", losses: 1, ..base() }
}

/// It holds again, and is lost again: what proved its first end says nothing about that.
pub(crate) fn again() -> Scene {
    Scene { name: "fenced before, and lost again", fences: 0, earlier: true, ..base() }
}

/// Two nodes, and nobody else to ask.
pub(crate) fn pair() -> Scene {
    Scene { name: "two nodes", asks: vec![2, 1], witnesses: 0, returns: 1, ..base() }
}

/// A second machine of that name is heard, where clocks can be trusted.
pub(crate) fn twin() -> Scene {
    Scene { name: "a strict holder's twin", fences: 0, twin: true, timed: true, ..base() }
}

/// The same, where they cannot.
pub(crate) fn twin_of_a_stopped_clock() -> Scene {
    Scene { name: "twin of a stopped clock", timed: false, ..twin() }
}

/// Every scene that must hold.
pub(crate) fn scenes() -> Vec<Scene> {
    vec![fenced(), returns(), forgets(), forgets_and_is_told(), again(), pair(), twin()]
}
