//! Who may hold: a lease that a majority of the voters grants, for each group. PURE.
//!
//! | file | decides |
//! |---|---|
//! | `voter` | whom this node's vote is given, and for how long |
//! | `holder` | until when this node's gate may be open |
//! | `seat` | when this node asks, and for whom it gives way: order and speed, not safety |
//! | `apart` | groups that are kept apart: who has how many of them, and which one moves |
//! | `agreement` | which configuration votes are about, and when it changes |
//! | `reports` | what voters tell each other of themselves |
//! | `doubts` | what a strict vote needs to have proven, and what a proof ends |
//! | `hearing` | what is made of each message |
//! | `setup` | what a lease is made from |
//! | `candidacy` | asking every voter, counting, giving back |
//! | `due` | when time alone changes something |
//! | `electorate` | which voters are heard, and with which configuration |
//!
//! The argument that no two gates are open at once is in `docs/safety.md`. It rests on few rules,
//! each of which has a mutant that the tests must catch:
//!
//! 1. The term of a holder counts from before its request was sent, that of a vote from after the
//!    request was received, and is longer by more than clocks and queues can differ.
//! 2. A vote is not given to another gate before it has ended or was given back.
//! 3. A vote is given back only by a gate that is shut, and whose earlier rounds are void.
//! 4. A voter that may have forgotten a vote gives none for as long as that vote could last.
//! 5. Votes count between equal configurations only, and none before everybody has been seen with
//!    the configuration in force.

mod agreement;
mod apart;
mod candidacy;
mod doubts;
mod due;
mod electorate;
mod hearing;
mod holder;
mod reports;
mod seat;
mod setup;
mod voter;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config;
use crate::types::{Digest, GateId, Incarnation, Instant, Priority, VoterIx, Voters};
use crate::wire::peer::{Denial, Entry, Head, News};

use super::event::Action;
use super::worth::Worth;
use doubts::Proofs;

pub use agreement::Transition;
pub use doubts::FENCE_SEATS;
use electorate::Aside;
pub use electorate::Elector;
pub use holder::Holder;
pub use reports::Changed;
pub use seat::{Seat, Stand, Verdict, Yielding};
pub use setup::{Setup, Vote};
pub use voter::{Ask, Grant, RESERVED, Voter};

/// Everything one voter knows and decides about who may hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    me: VoterIx,
    terms: config::Lease,
    gate: Option<GateId>,
    digest: Digest,
    /// Since when that is in force here.
    digest_since: Aside<Instant>,
    next: Digest,
    /// Everybody has been seen with `digest`.
    settled: bool,
    /// No votes before: something may have been forgotten.
    quiet_until: Instant,
    /// For how long there are no votes once all have been seen: the terms and the voters may have
    /// been others, and a majority of those need not contain one of these that remembers.
    quiet_after: Option<Duration>,
    /// Whether the local clock can be trusted.
    clock_ok: bool,
    /// After how long this host's watchdog resets it, once it is armed.
    watchdog: Option<Duration>,
    electors: Vec<Elector>,
    seats: BTreeMap<u16, Seat>,
    /// When everybody is told how this node stands.
    beat_at: Instant,
    nodes: usize,
    strict: BTreeSet<u16>,
    fences: BTreeSet<u16>,
    run: Incarnation,
    /// Voters that have been heard since the start.
    met: Voters,
    proofs: Proofs,
    /// Whether what outlives this process has all votes: nothing is written there before the first
    /// vote of a voter that may have forgotten some.
    vouched: bool,
    /// What the file says, by part: for whoever has another.
    marks: Aside<Vec<(u32, u64)>>,
    /// The priorities that the file gives the nodes, by group.
    priorities: Aside<BTreeMap<u16, Vec<Priority>>>,
    /// The groups that each group is kept apart from.
    apart: Aside<BTreeMap<u16, Vec<u16>>>,
    /// Those that it is kept together with.
    together: Aside<BTreeMap<u16, Vec<u16>>>,
    /// How often the configuration changed in this run: what is doubted for that has a name of its
    /// own, or an earlier proof would count for it.
    switched: u64,
}

impl Lease {
    /// A voter without groups.
    pub fn new(now: Instant, setup: &Setup) -> Self {
        let settled = setup.confirmed == Some(setup.digest);
        let quiet = setup.quiet.unwrap_or_default().max(setup.terms.vote);
        Self {
            me: setup.me,
            terms: setup.terms,
            gate: setup.gate,
            digest: setup.digest,
            digest_since: Aside(now),
            next: setup.digest,
            settled,
            quiet_until: setup.quiet.map_or(now, |_| now + quiet),
            quiet_after: Some(quiet).filter(|_| !settled),
            clock_ok: true,
            watchdog: None,
            electors: vec![Elector::default(); setup.voters],
            seats: BTreeMap::new(),
            beat_at: now,
            nodes: setup.nodes,
            strict: setup.strict.clone(),
            run: setup.run,
            fences: setup.fences.clone(),
            met: Voters::NONE.with(setup.me),
            proofs: Proofs::default(),
            vouched: setup.remembers,
            marks: Aside::default(),
            priorities: Aside(setup.priorities.clone()),
            apart: Aside::default(),
            together: Aside::default(),
            switched: 0,
        }
    }

    /// Adds the group at place `group` of the configuration, with what was remembered of it, or
    /// `None` if that may have been forgotten. `open` is until when its gate is open already, for
    /// the heir of one that was.
    pub fn add(&mut self, group: u16, vote: Option<Vote>, open: Option<Instant>) {
        match vote {
            Some(vote) => self.seat_of(group, vote, open),
            None => self.add_doubted(group, Vote::default(), open),
        }
    }

    /// The same where what was remembered may not be all, or may be about another file: whose
    /// number stands there is not known for sure, so everybody is doubted instead.
    pub fn add_doubted(&mut self, group: u16, vote: Vote, open: Option<Instant>) {
        let strict = self.strict.contains(&group);
        let grant = vote.grant.filter(|_| !strict);
        let vote = Vote { grant, doubted: self.other_nodes(), ..vote };
        self.seat_of(group, vote, open);
    }

    fn seat_of(&mut self, group: u16, vote: Vote, open: Option<Instant>) {
        let mut voter = Voter::remembering(vote.grant, vote.epoch);
        if self.strict.contains(&group) {
            voter = voter.strict(vote.doubted, GateId(self.run.0));
        }
        let holder = open.map_or_else(Holder::default, Holder::inheriting);
        self.seats.insert(group, Seat::new(voter, holder));
    }

    /// What an earlier run under other terms left open is held no longer than those in force
    /// allow: who waits for these to pass must find nothing open. Before anything is told.
    pub fn begin(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.found_fence_seats(now);
        if self.vouched {
            let doubtful = self.seats.iter().filter(|(_, s)| s.voter.doubted() != Voters::NONE);
            out.extend(doubtful.map(|(group, seat)| remember(*group, &seat.voter)));
        }
        let limit = now + self.terms.term;
        for (group, seat) in self.seats.iter_mut().filter(|(_, s)| s.holder.until() > limit) {
            seat.holder.limit(limit);
            out.push(Action::Gate { group: *group, until: Some(limit) });
        }
    }

    // ---- what is known ----

    /// What every datagram says of this voter.
    pub fn head(&self, now: Instant) -> Head {
        Head {
            active: self.digest,
            next: self.next,
            settled: self.settled,
            heard: self.heard(now),
            clock: now,
            gate: self.gate,
            watchdog: self.watchdog,
        }
    }

    /// Whom this voter has heard lately, itself included.
    pub fn heard(&self, now: Instant) -> Voters {
        electorate::heard(&self.electors, self.me, now, self.alive())
    }

    /// This voter's vote about a group.
    pub fn vote_of(&self, group: u16) -> Option<Vote> {
        let voter = &self.seats.get(&group)?.voter;
        Some(Vote { grant: voter.last(), epoch: voter.epoch(), doubted: voter.doubted() })
    }

    /// The group's seat.
    pub fn seat(&self, group: u16) -> Option<&Seat> {
        self.seats.get(&group)
    }

    /// Each voter, in order.
    pub fn electors(&self) -> &[Elector] {
        &self.electors
    }

    /// This voter.
    pub fn me(&self) -> VoterIx {
        self.me
    }

    /// The gate that this node's leases are bound to.
    pub fn gate(&self) -> Option<GateId> {
        self.gate
    }

    /// Whether another voter is heard.
    pub fn is_alive(&self, now: Instant, voter: VoterIx) -> bool {
        self.electors.get(voter.index()).is_some_and(|e| e.is_alive(now, self.alive()))
    }

    /// Whether another voter is heard by nobody: not here, and by none of those that are heard.
    pub fn is_gone(&self, now: Instant, voter: VoterIx) -> bool {
        let hears = |by: VoterIx| {
            let head = self.electors[by.index()].head();
            self.is_alive(now, by) && head.is_some_and(|head| head.heard.has(voter))
        };
        !self.is_alive(now, voter) && !self.others().any(|by| by != voter && hears(by))
    }

    /// When another voter was last heard.
    pub fn heard_at(&self, voter: VoterIx) -> Option<Instant> {
        self.electors.get(voter.index())?.heard()
    }

    /// Who is not heard.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = VoterIx> + '_ {
        self.others().filter(move |v| !self.is_alive(now, *v))
    }

    /// Whom this node replaced just now: who had this voter's vote before, and did not give it back.
    pub fn replaced(&mut self, group: u16) -> Option<VoterIx> {
        self.seats.get_mut(&group)?.before.0.take()
    }

    /// Votes that make a majority.
    pub fn majority(&self) -> usize {
        self.electors.len() / 2 + 1
    }

    /// Times.
    pub fn terms(&self) -> &config::Lease {
        &self.terms
    }

    /// The configuration in force, and the one that waits for everybody.
    pub fn digests(&self) -> (Digest, Option<Digest>) {
        (self.digest, Some(self.next).filter(|next| *next != self.digest))
    }

    /// Since when the configuration is in force here.
    pub fn digest_since(&self) -> Instant {
        self.digest_since.0
    }

    /// Whether this vote counts: everybody was seen with the configuration in force.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Until when nobody is voted for.
    pub fn quiet(&self, now: Instant) -> Option<Instant> {
        Some(self.quiet_until).filter(|until| now < *until)
    }

    /// Whether the local clock can be trusted.
    pub fn clock_ok(&self) -> bool {
        self.clock_ok
    }

    /// Until when this node may serve the group.
    pub fn holds(&self, now: Instant, group: u16) -> Option<Instant> {
        self.seats.get(&group)?.holder.holds(now)
    }

    /// Who says that it serves the group, and how good it is; not this node.
    pub fn holder(&self, now: Instant, group: u16) -> Option<(VoterIx, Worth)> {
        let (voter, effective) = self.holding(now, group)?;
        Some((voter, self.worth(now, group, voter, effective)))
    }

    /// Who says that it serves the group, and with which priority; not this node.
    fn holding(&self, now: Instant, group: u16) -> Option<(VoterIx, Priority)> {
        self.others().find_map(|voter| {
            let report = self.electors[voter.index()].on(now, group, self.alive())?;
            let holds = report.holds > Duration::ZERO;
            Some((voter, report.priority?)).filter(|_| holds)
        })
    }

    /// The other nodes that could hold the group, how good they are, and whether they want it.
    pub fn candidates(
        &self,
        now: Instant,
        group: u16,
    ) -> impl Iterator<Item = (VoterIx, Worth, bool)> {
        self.others().filter_map(move |voter| {
            let report = self.electors[voter.index()].on(now, group, self.alive())?;
            Some((voter, self.worth(now, group, voter, report.priority?), report.wants))
        })
    }

    /// How good a node is that reports `effective`.
    fn worth(&self, now: Instant, group: u16, voter: VoterIx, effective: Priority) -> Worth {
        let configured = self.priorities.0.get(&group).and_then(|all| all.get(voter.index()));
        let heard = Worth::heard(configured.copied().unwrap_or(effective), effective);
        heard.beside(self.crowd(now, group, voter))
    }

    /// The best other node that could hold the group.
    pub fn best(&self, now: Instant, group: u16) -> Option<VoterIx> {
        let stands = self.candidates(now, group).map(|(voter, worth, _)| (worth, Reverse(voter)));
        stands.max().map(|(_, voter)| voter.0)
    }

    /// How long a voter may be silent before it counts as gone.
    pub fn alive(&self) -> Duration {
        3 * self.beat()
    }

    fn beat(&self) -> Duration {
        2 * self.terms.renew
    }

    fn others(&self) -> impl Iterator<Item = VoterIx> + use<> {
        let me = self.me;
        (0..u8::try_from(self.electors.len()).unwrap_or(u8::MAX))
            .map(VoterIx)
            .filter(move |v| *v != me)
    }

    /// Whether the local clock can be trusted changed.
    pub fn clock(&mut self, ok: bool) {
        self.clock_ok = ok;
    }

    /// After how long this host's watchdog resets it; `None` when none is armed any more.
    pub fn guard(&mut self, watchdog: Option<Duration>) {
        self.watchdog = watchdog;
    }

    // ---- votes ----

    /// Why this voter would vote for nobody now.
    fn silence(&self, now: Instant, group: u16) -> Option<Denial> {
        let quiet = self.seats.get(&group).map_or(Instant::BOOT, |s| s.quiet_until);
        let quiet = quiet.max(self.quiet_until);
        if !self.settled {
            Some(Denial::Unsettled)
        } else if now < quiet {
            Some(Denial::Quiet { left: quiet.since(now) })
        } else if !self.clock_ok {
            Some(Denial::Clock)
        } else {
            None
        }
    }

    fn requested(&mut self, now: Instant, group: u16, ask: &Ask, out: &mut Vec<Action>) {
        let elector = &self.electors[ask.from.index()];
        let refused = if elector.runs(self.digest) {
            self.silence(now, group).or((!elector.hears(self.me)).then_some(Denial::OneWay))
        } else {
            Some(Denial::Config)
        };
        let (gate, round) = (ask.gate, ask.round);
        let answer = match refused {
            Some(why) => Err(why),
            None => match self.vote(now, group, ask, out) {
                Some(answer) => answer,
                None => return,
            },
        };
        if answer.is_ok() {
            // It is on, and may hold: it can be fenced again.
            self.proofs.peer_votes(ask.from);
        }
        let news = match answer {
            Ok(()) => News::Grant { gate, round },
            Err(why) => News::Deny { gate, round, why },
        };
        out.push(Action::Tell { to: ask.from, entry: Entry { group, news } });
        self.report_again(now, group, out);
    }

    /// This voter's answer; what it must not forget is written down before anybody is told.
    fn vote(
        &mut self,
        now: Instant,
        group: u16,
        ask: &Ask,
        out: &mut Vec<Action>,
    ) -> Option<Result<(), Denial>> {
        let seat = self.seats.get_mut(&group)?;
        let answer = seat.voter.vote(now, ask, self.terms.vote)?;
        if answer.is_ok() {
            self.keep(now, group, out);
        }
        Some(answer.map(|_| ()))
    }

    /// Writes a vote down where it outlives this process. The first one of a voter that may have
    /// forgotten some brings all along, with whom it doubts; before that nothing there counts.
    fn keep(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        if !self.vouched && self.silence(now, group).is_some() {
            return;
        }
        if std::mem::replace(&mut self.vouched, true) {
            out.extend(self.seats.get(&group).map(|seat| remember(group, &seat.voter)));
        } else {
            out.extend(self.seats.iter().map(|(group, seat)| remember(*group, &seat.voter)));
        }
    }

    // ---- what follows ----

    /// Shuts every gate whose time has passed: before anything else is done at a new moment.
    /// Returns whose.
    pub fn expire(&mut self, now: Instant, out: &mut Vec<Action>) -> Vec<u16> {
        let over = |s: &Seat| s.holder.is_open() && s.holder.holds(now).is_none();
        let over: Vec<_> = self.seats.iter().filter(|(_, s)| over(s)).map(|(g, _)| *g).collect();
        for group in &over {
            self.shut(now, *group, None, out);
        }
        over
    }

    /// Lets time pass, apart from the groups.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.settle(now, out);
        self.give_back(now, out);
        if now >= self.beat_at {
            // With every other renewal, whose datagrams it shares.
            self.beat_at = self.renewal(now) + self.terms.renew;
            self.report_to_all(now, out);
        }
    }

    /// Follows up on a group: `stand` is what it wants. A verdict is to be carried out at once,
    /// and the group asked again.
    pub fn decide(
        &mut self,
        now: Instant,
        group: u16,
        stand: Stand,
        out: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let clock_ok = self.clock_ok;
        let worth = stand.worth.beside(self.own_crowd(now, group));
        let stand = Stand { worth, ..stand };
        self.seats.get_mut(&group)?.take_stand(now, stand);
        let verdict = self.judge(now, group, clock_ok, out);
        self.report_change(now, group, out);
        verdict
    }

    fn judge(
        &mut self,
        now: Instant,
        group: u16,
        clock_ok: bool,
        out: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let seat = self.seats.get_mut(&group)?;
        let stand = seat.stand;
        if seat.holder.is_open() {
            if std::mem::take(&mut seat.won) && stand.able && !stand.keeps {
                return Some(Verdict::Won);
            }
            if stand.frozen {
                return None;
            }
            if !stand.keeps {
                let successor = seat.successor.map(|(to, _)| to);
                let successor = successor.or_else(|| self.best(now, group));
                self.shut(now, group, successor, out);
                return None;
            }
            if !clock_ok {
                self.shut(now, group, None, out);
                return Some(Verdict::Lost("the clock of this host runs wrong"));
            }
            if let Some((_, to)) = seat.move_at.take_if(|(at, _)| now >= *at) {
                seat.successor = Some((to, Yielding::Ordered));
            }
            if let Some((to, why)) = seat.successor.or_else(|| self.better(now, group)) {
                self.seats.get_mut(&group)?.successor = Some((to, why));
                return Some(Verdict::Yield { to, why });
            }
            if self.seats.get(&group)?.holder.asked_at().is_none_or(|at| now >= self.renewal(at)) {
                self.ask(now, group, out);
            }
            return None;
        }
        if stand.keeps {
            return Some(Verdict::Lost(if stand.frozen {
                "the lease ended while the gate could not be relied upon"
            } else {
                "no majority of the voters renewed the lease in time"
            }));
        }
        if stand.able && clock_ok {
            self.run_for(now, group, out);
            let seat = self.seats.get_mut(&group)?;
            if seat.holder.is_open() && std::mem::take(&mut seat.won) {
                return Some(Verdict::Won);
            }
        } else if seat.holder.is_asking() {
            self.shut(now, group, None, out);
        }
        None
    }

    /// Asks for the lease when it is this node's turn.
    fn run_for(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        let Some(seat) = self.seats.get(&group) else { return };
        if let Some(at) = seat.holder.asked_at() {
            if now >= at + seat.patience(now, &self.terms) {
                self.take_back(now, group, out);
            } else if seat.again_at().is_some_and(|again| now >= again) {
                self.ask(now, group, out);
            }
        } else if now >= self.turn(now, group, seat) {
            self.ask(now, group, out);
        }
    }

    /// When it is this node's turn to ask. Not while somebody says that it holds the group: one
    /// whose vote the holder has not got would use up the numbers of tenures, and take votes away
    /// from renewals. Nor while somebody says so of one that is kept together with it: it is for
    /// that one to ask.
    fn turn(&self, now: Instant, group: u16, seat: &Seat) -> Instant {
        let others = self.candidates(now, group).map(|(voter, worth, _)| (voter, worth));
        let rank = seat.rank(self.me, others);
        let turn = seat.ask_at(now, self.me, rank);
        let together = self.together.0.get(&group).into_iter().flatten().copied();
        let held = together
            .chain([group])
            .flat_map(|group| self.electors.iter().filter_map(move |e| e.holds_until(group)));
        let held = held.max();
        held.filter(|_| !seat.succeeds(now)).map_or(turn, |held| held.max(turn))
    }

    /// The best node that wants the group from this one, unless a better one may want it in a moment.
    fn better(&mut self, now: Instant, group: u16) -> Option<(VoterIx, Yielding)> {
        let stand = self.seats.get(&group)?.stand;
        // What one wants may be about the holder before: it counts if this one has to give way, too.
        let could = |voter: VoterIx, worth: Worth| {
            let preferred = stand.preempts_after.is_some() && worth.is_preferred(stand.worth);
            let preferred = preferred && self.is_the_one_to_go(now, group, voter, worth);
            preferred || worth.is_healthier(stand.worth, stand.stickiness)
        };
        let all = self.candidates(now, group).filter(|(voter, worth, _)| could(*voter, *worth));
        let all: Vec<_> =
            all.map(|(voter, worth, wants)| ((worth, Reverse(voter)), wants)).collect();
        let best = all.iter().map(|(who, _)| *who).max();
        let wanting = all.iter().filter(|(_, wants)| *wants).map(|(who, _)| *who).max();
        let seat = self.seats.get_mut(&group)?;
        let Some((worth, Reverse(voter))) = wanting else {
            seat.not_wanted();
            return None;
        };
        (wanting == best || !seat.defers(now)).then_some((voter, Yielding::Better(worth)))
    }
}

fn remember(group: u16, voter: &Voter) -> Action {
    let vote = Vote { grant: voter.last(), epoch: voter.epoch(), doubted: voter.doubted() };
    Action::Remember { group, vote }
}
