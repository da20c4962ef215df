//! Whole leases: the shipped `Lease` of a few hosts, through restarts and other configurations.
//! What is asked is about an address, not about a group: `x` may move from one group to another.
//!
//! The model is the shell around it: files on disk, what was written down, the kernel's gate for
//! each group and whose gate guards `x`. Heads come as they are at that moment; everything about
//! votes goes through a network that loses, delays and reorders. Reports are lost, as nothing safe
//! may rest on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stateright::{Model, Property};
use vipd::config;
use vipd::core::event::Action;
use vipd::core::lease::{Lease, Setup, Stand, Transition, Verdict, Vote};
use vipd::core::worth::Worth;
use vipd::types::{Digest, GateId, Incarnation, Instant, Priority, VoterIx};
use vipd::wire::peer::{Entry, Message, News};

use super::mutant::Mutant;

/// The pauses built into a seat (10 ms and less) are shorter.
const TICK: Duration = Duration::from_millis(20);
const FIRST: u64 = 10;

pub(crate) const ONE_GATE: &str = "one open gate for an address";

/// A group, by name.
type Name = char;

/// What a configuration file says, as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Hosts that vote, in order.
    pub(crate) voters: Vec<u8>,
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) groups: Vec<Name>,
    /// Which of them has the address; `None` where it is not held by lease.
    pub(crate) x: Name,
}

#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) files: Vec<File>,
    pub(crate) hosts: usize,
    /// Who wants to hold, apart from the first, which does.
    pub(crate) wants: Vec<u8>,
    /// For each host, how often it restarts with its votes; the file of a restart is the last.
    pub(crate) restarts: Vec<u8>,
    /// For each host, how often it restarts having forgotten its votes and everything else.
    pub(crate) losses: Vec<u8>,
    /// Who is told to reload.
    pub(crate) reloads: Vec<u8>,
    /// Who goes back to the first file with a restart.
    pub(crate) reverts: Vec<u8>,
    /// What has happened already.
    pub(crate) prelude: Vec<Step>,
    /// Whether refusals arrive, and each host keeps its own time for saying how it stands.
    pub(crate) denials: bool,
    /// Ticks after the first host holds.
    pub(crate) ticks: u64,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    lease: Lease,
    file: usize,
    parked: Option<usize>,
    /// Groups that it serves, and those it goes on with after a restart.
    active: BTreeSet<Name>,
    wants: bool,
    awake: bool,
    restarts: u8,
    losses: u8,
    reloads: u8,
    reverts: u8,
    /// Outlives the daemon.
    votes: BTreeMap<Name, Vote>,
    confirmed: Option<Digest>,
    /// The kernel's.
    gates: BTreeMap<Name, Instant>,
    guard: Name,
    /// For a mutant: the guard as it will be.
    late: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Letter {
    from: u8,
    to: u8,
    message: Message,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    tick: u64,
    hosts: Vec<Host>,
    net: BTreeSet<Letter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tick,
    Wake(u8),
    /// One hears how all others stand.
    Hear(u8),
    Deliver(Letter),
    Reload(u8),
    Restart(u8),
    Forget(u8),
    Revert(u8),
    GuardLate(u8),
    /// All that is in flight arrives: to get a scene under way.
    DeliverAll,
    /// From now on this host wants to hold; for the same.
    Want(u8),
}

fn at(tick: u64) -> Instant {
    Instant::BOOT + TICK * u32::try_from(tick).unwrap()
}

fn ticks(n: u64) -> Duration {
    TICK * u32::try_from(n).unwrap()
}

impl File {
    fn terms(&self) -> config::Lease {
        let (term, vote) = (ticks(self.term), ticks(self.vote));
        config::Lease { term, renew: TICK, vote, quiet: vote }
    }

    fn place(&self, name: Name) -> Option<u16> {
        let place = self.groups.iter().position(|g| *g == name)?;
        u16::try_from(place).ok()
    }

    fn index(&self, host: u8) -> Option<VoterIx> {
        let ix = self.voters.iter().position(|v| *v == host)?;
        u8::try_from(ix).ok().map(VoterIx)
    }
}

impl Scene {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn is_lost(&self, news: News) -> bool {
        match news {
            News::Report(_) => true,
            News::Deny { .. } => !self.denials,
            News::Request { .. }
            | News::Grant { .. }
            | News::Release { .. }
            | News::Move { .. }
            | News::Part { .. }
            | News::Word(_)
            | News::Tale { .. }
            | News::Words { .. }
            | News::Failed(_)
            | News::Looked(_)
            | News::Fenced { .. } => false,
        }
    }

    fn digest(&self, file: usize) -> Digest {
        Digest(if self.is(Mutant::SameDigest) { 1 } else { u128::try_from(file).unwrap() + 1 })
    }

    /// As `Node::lease_setup` does.
    fn setup(&self, host: u8, file: usize) -> Setup {
        let text = &self.files[file];
        Setup {
            me: text.index(host).unwrap_or(VoterIx(0)),
            voters: text.voters.len(),
            terms: text.terms(),
            digest: self.digest(file),
            gate: Some(GateId(u128::from(host) + 1)),
            quiet: None,
            confirmed: self.is(Mutant::SettleAtOnce).then_some(self.digest(file)),
            nodes: text.voters.len(),
            strict: BTreeSet::new(),
            fences: BTreeSet::new(),
            // Doubts are none here.
            remembers: true,
            run: Incarnation(0),
            priorities: BTreeMap::new(),
        }
    }

    fn host(&self, host: u8, file: usize) -> Host {
        let mut setup = self.setup(host, file);
        setup.confirmed = Some(self.digest(file));
        let mut lease = Lease::new(at(FIRST), &setup);
        for place in (0..).take(self.files[file].groups.len()) {
            lease.add(place, Some(Vote::default()), None);
        }
        let ix = usize::from(host);
        let often = |list: &[u8]| list.get(ix).copied().unwrap_or(0);
        Host {
            lease,
            file,
            parked: None,
            active: BTreeSet::new(),
            wants: false,
            awake: false,
            restarts: often(&self.restarts),
            losses: often(&self.losses),
            reloads: u8::from(self.reloads.contains(&host)),
            reverts: u8::from(self.reverts.contains(&host)),
            votes: BTreeMap::new(),
            confirmed: setup.confirmed,
            gates: BTreeMap::new(),
            guard: self.files[file].x,
            late: None,
        }
    }

    /// Does what the lease of a host says, in the order it says it; letters leave at the end.
    fn act(&self, world: &mut World, ix: u8, out: Vec<Action>) {
        let now = at(world.tick);
        let host = &mut world.hosts[usize::from(ix)];
        let file = &self.files[host.file];
        let mut told: BTreeMap<u8, Vec<Entry>> = BTreeMap::new();
        for action in out {
            match action {
                Action::Gate { group, until } => {
                    let name = file.groups[usize::from(group)];
                    host.gates.insert(name, until.unwrap_or(Instant::BOOT));
                }
                Action::Remember { group, vote } => {
                    host.votes.insert(file.groups[usize::from(group)], vote);
                }
                Action::Settled(digest) if !self.is(Mutant::NotConfirmed) => {
                    host.confirmed = Some(digest);
                }
                Action::Tell { to, entry } if !self.is_lost(entry.news) => {
                    told.entry(file.voters[to.index()]).or_default().push(entry);
                }
                Action::Tell { .. }
                | Action::Settled(_)
                | Action::Decided(_)
                | Action::Failures(_)
                | Action::Beat { .. }
                | Action::Advertise { .. }
                | Action::Announce { .. }
                | Action::Probe { .. }
                | Action::Kernel(_)
                | Action::Proxy(..)
                | Action::Guard(_)
                | Action::Routing(_)
                | Action::Fence { .. }
                | Action::Note(_)
                | Action::Reloaded(_)
                | Action::Reset { .. }
                | Action::Hasten(_)
                | Action::EndSessions { .. }
                | Action::Exit { .. } => {}
            }
        }
        let head = host.lease.head(now);
        for (to, entries) in told {
            let message = Message { head, entries };
            world.net.insert(Letter { from: ix, to, message });
        }
    }

    /// As `Node::follow_lease` and the groups do.
    fn follow(&self, host: &mut Host, now: Instant, out: &mut Vec<Action>) {
        let file = &self.files[host.file];
        for (place, name) in (0..).zip(&file.groups) {
            for _ in 0..3 {
                let keeps = host.active.contains(name);
                let stand = Stand {
                    gap: None,
                    able: host.wants && !keeps && file.x == *name,
                    keeps,
                    frozen: false,
                    worth: Worth::new(Priority::DEFAULT, 0),
                    preempts_after: None,
                    stickiness: 0,
                    proven: false,
                    stuck: false,
                };
                match host.lease.decide(now, place, stand, out) {
                    Some(Verdict::Won) => host.active.insert(*name),
                    Some(Verdict::Lost(_) | Verdict::Yield { .. }) => host.active.remove(name),
                    None => break,
                };
            }
        }
    }

    /// As `Node::step` does around an event.
    fn step(
        &self,
        world: &mut World,
        ix: u8,
        event: impl FnOnce(&mut Lease, Instant, &mut Vec<Action>),
    ) {
        let now = at(world.tick);
        let mut out = Vec::new();
        let host = &mut world.hosts[usize::from(ix)];
        host.lease.expire(now, &mut out);
        event(&mut host.lease, now, &mut out);
        if host.lease.may_switch(now)
            && let Some(file) = host.parked.take()
        {
            self.act(world, ix, std::mem::take(&mut out));
            let host = &mut world.hosts[usize::from(ix)];
            self.switch(host, ix, file, now, &mut out);
        }
        let host = &mut world.hosts[usize::from(ix)];
        self.follow(host, now, &mut out);
        self.act(world, ix, out);
    }

    /// As `Node::adopt` and `Node::switch_lease` do.
    fn switch(&self, host: &mut Host, ix: u8, file: usize, now: Instant, out: &mut Vec<Action>) {
        let (old, new) = (&self.files[host.file], &self.files[file]);
        let setup = self.setup(ix, file);
        let kept = (0..).zip(&old.groups).filter_map(|(was, name)| Some((was, new.place(*name)?)));
        let kept: BTreeMap<u16, u16> = kept.collect();
        let kept_places: BTreeSet<u16> = kept.values().copied().collect();
        let blind = self.is(Mutant::SettleAtOnce)
            || self.is(Mutant::GuardLate)
            || self.is(Mutant::NotConfirmed)
            || self.is(Mutant::InheritMoved);
        let change = Transition {
            kept,
            // A gate that is shut on the way hides what these two do wrong.
            grown: if blind {
                BTreeSet::new()
            } else {
                new.place(new.x).filter(|_| old.x != new.x).into_iter().collect()
            },
            all: (0..).take(new.groups.len()).collect(),
            voters: old.voters != new.voters,
            places: (0..)
                .map(VoterIx)
                .zip(&old.voters)
                .filter_map(|(was, host)| Some((was, new.index(*host)?)))
                .collect(),
        };
        host.lease.switch(now, &setup, &change, out);
        // A group that is new here is quiet, which hides what these do wrong.
        if blind {
            for place in (0..).take(new.groups.len()).filter(|p| !kept_places.contains(p)) {
                host.lease.add(place, Some(Vote::default()), None);
            }
        }
        host.file = file;
        // A group that lost one address goes on with its others.
        host.active.retain(|name| new.groups.contains(name));
        if self.is(Mutant::GuardLate) {
            host.late = Some(new.x);
        } else {
            host.guard = new.x;
        }
    }

    fn reload(&self, world: &mut World, ix: u8) {
        let now = at(world.tick);
        let file = self.files.len() - 1;
        let host = &mut world.hosts[usize::from(ix)];
        host.reloads -= 1;
        if self.is(Mutant::SameDigest) {
            let old = self.files[host.file].groups.len();
            for place in (0..).take(self.files[file].groups.len()).skip(old) {
                host.lease.add(place, Some(Vote::default()), None);
            }
            (host.file, host.guard) = (file, self.files[file].x);
            return;
        }
        let same = self.files[host.file].voters == self.files[file].voters;
        if same && !self.is(Mutant::SettleAtOnce) {
            host.parked = Some(file);
            host.lease.announce(now, self.digest(file));
            return;
        }
        let mut out = Vec::new();
        self.switch(host, ix, file, now, &mut out);
        self.act(world, ix, out);
    }

    /// As `Node::found_lease` does.
    fn restart(&self, world: &mut World, ix: u8, file: usize, remembers: bool) {
        let now = at(world.tick);
        let host = &mut world.hosts[usize::from(ix)];
        if !remembers {
            host.votes.clear();
            host.confirmed = None;
        }
        let text = &self.files[file];
        // What the kernel has open counts for the addresses it was opened for.
        if host.guard != text.x && !self.is(Mutant::InheritMoved) {
            host.gates.clear();
        }
        let mut setup = self.setup(ix, file);
        let known = remembers && host.confirmed == Some(setup.digest);
        setup.quiet = (!known).then_some(text.terms().quiet);
        if self.is(Mutant::SettleAtOnce) {
            setup.confirmed = Some(self.digest(file));
        } else {
            setup.confirmed = host.confirmed;
        }
        let mut lease = Lease::new(now, &setup);
        host.active.clear();
        for (place, name) in (0..).zip(&text.groups) {
            let open = host.gates.get(name).copied().filter(|until| *until > now);
            if open.is_some() {
                host.active.insert(*name);
            }
            lease.add(place, Some(host.votes.get(name).copied().unwrap_or_default()), open);
        }
        let mut out = Vec::new();
        if !self.is(Mutant::Unlimited) {
            lease.begin(now, &mut out);
        }
        host.lease = lease;
        host.file = file;
        host.parked = None;
        host.guard = text.x;
        host.late = None;
        self.act(world, ix, out);
    }

    /// A world in which the first host holds, by its own vote and that of host 2.
    fn begin(&self) -> World {
        let hosts = (0..u8::try_from(self.hosts).unwrap()).map(|ix| self.host(ix, 0)).collect();
        let mut world = World { tick: FIRST, hosts, net: BTreeSet::new() };
        let members = &self.files[0].voters;
        for _ in 0..2 {
            for to in members {
                self.hear(&mut world, *to);
            }
        }
        world.hosts[0].wants = true;
        self.step(&mut world, 0, |_, _, _| {});
        // Host 1 heard nothing of it, so its vote is free.
        while let Some(letter) = world.net.pop_first() {
            if letter.from != 1 && letter.to != 1 {
                self.deliver(&mut world, &letter);
            }
        }
        assert!(world.hosts[0].lease.holds(at(FIRST), 0).is_some(), "{}: nobody holds", self.name);
        for host in &self.wants {
            world.hosts[usize::from(*host)].wants = true;
        }
        for host in &mut world.hosts {
            host.awake = true;
        }
        for step in &self.prelude {
            world = self.next_state(&world, step.clone()).unwrap();
        }
        world
    }

    /// For a mutant: everybody is seen, and nobody is quiet after that.
    fn settle_early(&self, world: &mut World, ix: u8) {
        let now = at(world.tick);
        let host = &world.hosts[usize::from(ix)];
        let file = host.file;
        let voters = &self.files[file].voters;
        let all = voters.iter().all(|v| world.hosts[usize::from(*v)].file == file);
        if self.is(Mutant::NoQuietAfterSettling) && all && !host.lease.is_settled() {
            let mut setup = self.setup(ix, file);
            setup.confirmed = Some(setup.digest);
            let all = || (0..).take(self.files[file].groups.len());
            let same = Transition {
                kept: all().map(|g| (g, g)).collect(),
                all: all().collect(),
                places: (0..).map(|v| (VoterIx(v), VoterIx(v))).take(voters.len()).collect(),
                ..Transition::default()
            };
            world.hosts[usize::from(ix)].lease.switch(now, &setup, &same, &mut Vec::new());
        }
    }

    /// One host hears how all others stand.
    fn hear(&self, world: &mut World, to: u8) {
        let now = at(world.tick);
        let file = &self.files[world.hosts[usize::from(to)].file];
        let others = file.voters.iter().filter(|from| **from != to);
        let heads: Vec<_> = others
            .filter_map(|from| {
                Some((file.index(*from)?, world.hosts[usize::from(*from)].lease.head(now)))
            })
            .collect();
        self.settle_early(world, to);
        self.step(world, to, |lease, now, out| {
            for (from, head) in heads {
                lease.hear(now, from, &Message { head, entries: Vec::new() }, out);
            }
        });
    }

    fn deliver(&self, world: &mut World, letter: &Letter) {
        let file = &self.files[world.hosts[usize::from(letter.to)].file];
        let (Some(from), Some(_)) = (file.index(letter.from), file.index(letter.to)) else {
            return;
        };
        let mut message = letter.message.clone();
        // All clocks are one; what is compared over minutes does not matter in these few ticks.
        message.head.clock = at(world.tick);
        self.step(world, letter.to, |lease, now, out| {
            lease.hear(now, from, &message, out);
        });
    }
}

impl Model for Scene {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (ix, host) in (0..).zip(&world.hosts) {
            if host.reloads > 0 {
                steps.push(Step::Reload(ix));
            }
            if host.restarts > 0 {
                steps.push(Step::Restart(ix));
            }
            if host.losses > 0 {
                steps.push(Step::Forget(ix));
            }
            if host.reverts > 0 && host.file != 0 {
                steps.push(Step::Revert(ix));
            }
            if host.late.is_some() {
                steps.push(Step::GuardLate(ix));
            }
        }
        steps.extend(world.net.iter().cloned().map(Step::Deliver));
        for (ix, host) in (0..).zip(&world.hosts) {
            // Who neither holds nor wants to has nothing to do by itself.
            if host.awake && (host.wants || !host.active.is_empty()) {
                steps.push(Step::Wake(ix));
            }
            steps.push(Step::Hear(ix));
        }
        if world.tick < FIRST + self.ticks {
            steps.push(Step::Tick);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        let newest = self.files.len() - 1;
        match step {
            Step::Tick => {
                world.tick += 1;
                world.hosts.iter_mut().for_each(|h| h.awake = true);
            }
            Step::Wake(ix) => {
                world.hosts[usize::from(ix)].awake = false;
                self.step(&mut world, ix, |lease, now, out| {
                    if self.denials {
                        lease.tick(now, out);
                    }
                });
            }
            Step::Hear(to) => self.hear(&mut world, to),
            Step::Deliver(letter) => {
                world.net.remove(&letter);
                self.deliver(&mut world, &letter);
            }
            Step::DeliverAll => {
                while let Some(letter) = world.net.pop_first() {
                    self.deliver(&mut world, &letter);
                }
            }
            Step::Want(ix) => world.hosts[usize::from(ix)].wants = true,
            Step::Reload(ix) => self.reload(&mut world, ix),
            Step::Restart(ix) => {
                world.hosts[usize::from(ix)].restarts -= 1;
                self.restart(&mut world, ix, newest, true);
            }
            Step::Forget(ix) => {
                world.hosts[usize::from(ix)].losses -= 1;
                self.restart(&mut world, ix, newest, false);
            }
            Step::Revert(ix) => {
                world.hosts[usize::from(ix)].reverts -= 1;
                self.restart(&mut world, ix, 0, true);
            }
            Step::GuardLate(ix) => {
                let host = &mut world.hosts[usize::from(ix)];
                host.guard = host.late.take()?;
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_GATE, |_, world: &World| {
                let now = at(world.tick);
                let open = |h: &&Host| h.gates.get(&h.guard).is_some_and(|until| now < *until);
                world.hosts.iter().filter(open).count() <= 1
            }),
            Property::sometimes("another host serves", |_, world: &World| {
                world.hosts.iter().skip(1).any(|h| !h.active.is_empty())
            }),
        ]
    }
}
