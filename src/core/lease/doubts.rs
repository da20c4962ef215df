//! Strict votes: who may serve although its term is over, and what proves that it does not.
//!
//! With `safety = "lease+fence"` nothing rests on the clock of a host that is not heard. A vote
//! that was not given back stays in doubt until there is a proof: its gate gave it back, its host
//! was fenced after the doubt was known, or its host was started anew. All this only ever refuses
//! votes that a lease alone would give, so that what a lease promises is promised here, too.
//!
//! Two nodes without a witness are their own case: the other's vote can be had from it, or by
//! fencing it. A holder keeps the group with its own vote, as nobody takes over without that vote
//! or its host's end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{GateId, Instant, VoterIx, Voters};
use crate::wire::peer::{Doubt, Entry, News, Report};

use super::super::event::Action;
use super::Lease;

/// The first of the seats that are not about groups: whoever holds that of node `n`, at this place
/// and `n`, may fence it. So no two do at once, and only where a majority is.
pub const FENCE_SEATS: u16 = 0x8000;

/// Proofs that are kept, to be told again to whom they did not reach.
const KEPT: usize = 64;

/// What was proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Proofs {
    known: Vec<(VoterIx, GateId)>,
    /// Of two nodes, the other one, which was fenced and has not voted since.
    fenced: Voters,
}

impl Proofs {
    /// A voter that votes speaks for itself.
    pub(super) fn peer_votes(&mut self, voter: VoterIx) {
        self.fenced = self.fenced.without(voter);
    }

    fn add(&mut self, proof: (VoterIx, GateId)) {
        if !self.known.contains(&proof) {
            self.known.truncate(KEPT - 1);
            self.known.insert(0, proof);
        }
    }
}

impl Lease {
    /// Every other voter that can hold.
    pub(super) fn other_nodes(&self) -> Voters {
        Voters::first(self.nodes).without(self.me)
    }

    /// Whether these are two nodes without anybody else to ask.
    pub fn is_pair(&self) -> bool {
        self.electors.len() == 2 && self.nodes == 2
    }

    /// The seats of those that can be fenced. Who may fence is forgotten by a restart, hence quiet.
    pub(super) fn found_fence_seats(&mut self, now: Instant) {
        if self.is_pair() {
            return;
        }
        let quiet = now + self.terms.vote;
        for node in &self.fences {
            let seat = || super::Seat::quiet(quiet);
            self.seats.entry(FENCE_SEATS + node).or_insert_with(seat);
        }
    }

    /// The places of the groups whose votes need proof.
    pub fn strict(&self) -> impl Iterator<Item = u16> {
        self.strict.iter().copied()
    }

    fn is_strict(&self, group: u16) -> bool {
        self.strict.contains(&group)
    }

    /// How many votes a group takes.
    pub(super) fn needed(&self, group: u16) -> usize {
        let open = self.seats.get(&group).is_some_and(|seat| seat.holder.is_open());
        if open && self.is_pair() && self.is_strict(group) { 1 } else { self.majority() }
    }

    /// Whose votes a group has unasked.
    pub(super) fn proxies(&self, group: u16) -> Voters {
        if self.is_pair() && self.is_strict(group) { self.proofs.fenced } else { Voters::NONE }
    }

    /// Whether a voter has been heard since the start.
    pub fn has_met(&self, voter: VoterIx) -> bool {
        self.met.has(voter)
    }

    /// Of two nodes, whether the other was fenced and has not voted since.
    pub fn is_fenced(&self, voter: VoterIx) -> bool {
        self.proofs.fenced.has(voter)
    }

    /// Whether it is known that this was proven.
    pub fn is_proven(&self, node: VoterIx, mark: GateId) -> bool {
        self.proofs.known.contains(&(node, mark))
    }

    /// Whether all of a doubt is proven: who told of it may not have heard that when it did, and
    /// what is proven is not to be proven again.
    fn is_settled_by_proof(&self, doubt: &Doubt) -> bool {
        doubt.of.iter().all(|node| self.is_proven(node, doubt.mark))
    }

    /// Whether a heard voter says that it cannot give up what it must of a group.
    pub fn is_stuck(&self, now: Instant, group: u16, voter: VoterIx) -> bool {
        let elector = self.electors.get(voter.index());
        elector.and_then(|e| e.on(now, group, self.alive())).is_some_and(|report| report.stuck)
    }

    /// How many voters are heard, this one included.
    pub fn in_reach(&self, now: Instant) -> usize {
        self.heard(now).count()
    }

    /// What is in doubt about each node, in this voter's eyes and in those of all that are heard.
    pub fn suspects(&self, now: Instant) -> BTreeMap<VoterIx, BTreeSet<GateId>> {
        let mut all: BTreeMap<VoterIx, BTreeSet<GateId>> = BTreeMap::new();
        for group in &self.strict {
            let own = self.seats.get(group).and_then(|seat| seat.voter.doubt(now));
            let others = self.others().filter_map(|voter| {
                self.electors[voter.index()].on(now, *group, self.alive())?.doubt
            });
            for doubt in others.chain(own) {
                for node in doubt.of.iter().filter(|node| !self.is_proven(*node, doubt.mark)) {
                    all.entry(node).or_default().insert(doubt.mark);
                }
            }
        }
        all
    }

    /// What the end of a node's host would prove now: what is in doubt, and what would be soon if it
    /// fell silent.
    pub fn marks(&self, now: Instant, node: VoterIx) -> BTreeSet<GateId> {
        let mut marks = self.suspects(now).remove(&node).unwrap_or_default();
        let given = self.seats.values().filter_map(|seat| seat.voter.last());
        marks.extend(given.filter(|grant| grant.to == node).map(|grant| grant.gate));
        let head = self.electors.get(node.index()).and_then(super::Elector::head);
        marks.extend(head.and_then(|head| head.gate));
        marks
    }

    /// Whether only doubts keep this node from a group that it could hold.
    pub fn is_barred(&self, now: Instant, group: u16) -> bool {
        let Some(seat) = self.seats.get(&group).filter(|seat| seat.runs()) else { return false };
        if self.is_pair() {
            return true;
        }
        let free = |voter: &VoterIx| {
            let report = self.electors[voter.index()].on(now, group, self.alive());
            report.is_some_and(|r| r.doubt.is_none_or(|doubt| self.is_settled_by_proof(&doubt)))
        };
        let own = usize::from(seat.voter.doubt(now).is_none());
        self.others().filter(free).count() + own < self.majority()
    }

    /// The host of `node` was switched off, after these doubts were known. Each names a gate of that
    /// host or what a voter may have forgotten about it before: no group it matters for can be open
    /// there by that.
    pub fn prove(
        &mut self,
        now: Instant,
        node: VoterIx,
        marks: &BTreeSet<GateId>,
        out: &mut Vec<Action>,
    ) {
        if self.is_pair() {
            self.proofs.fenced = self.proofs.fenced.with(node);
        }
        if let Some(elector) = self.electors.get_mut(node.index()) {
            elector.ended();
        }
        for mark in marks {
            self.fenced(now, node, *mark, out);
            for to in self.others().filter(|to| *to != node) {
                let news = News::Fenced { node, mark: *mark };
                out.push(Action::Tell { to, entry: Entry { group: 0, news } });
            }
        }
        for seat in self.seats.values_mut() {
            seat.freed(now);
        }
    }

    /// A host was switched off, here or by somebody else.
    pub(super) fn fenced(
        &mut self,
        now: Instant,
        node: VoterIx,
        mark: GateId,
        out: &mut Vec<Action>,
    ) {
        self.proofs.add((node, mark));
        let mut proven = Vec::new();
        for (group, seat) in &mut self.seats {
            if seat.voter.proven(node, mark) {
                seat.own_vote_is_free(now);
                proven.push(*group);
            }
            seat.freed(now);
        }
        for group in proven {
            self.keep(now, group, out);
        }
    }

    /// What a heard node's gate says about votes that it was given before.
    pub(super) fn returned(&mut self, now: Instant, from: VoterIx, out: &mut Vec<Action>) {
        let elector = &self.electors[from.index()];
        let gate = elector.head().and_then(|head| head.gate);
        let Some(gate) = gate.filter(|_| elector.twin().is_none()) else { return };
        let mut returned = Vec::new();
        for (group, seat) in &mut self.seats {
            if seat.voter.returned(now, from, gate) {
                seat.freed(now);
                returned.push(*group);
            }
        }
        for group in returned {
            self.keep(now, group, out);
        }
    }

    /// What a report says about doubts: this voter's about the sender, and the sender's about
    /// others, which may be proven already, or about this node, which can tell.
    pub(super) fn weigh(
        &mut self,
        now: Instant,
        group: u16,
        from: VoterIx,
        report: &Report,
        out: &mut Vec<Action>,
    ) {
        let term = self.terms.vote;
        let gate = self.electors[from.index()].head().and_then(|head| head.gate);
        let holds = (report.holds > Duration::ZERO).then_some(gate).flatten();
        let Some(seat) = self.seats.get_mut(&group) else { return };
        // A gate that cannot be relied upon may be open whatever its daemon believes.
        let known = holds.is_some() || (report.holds.is_zero() && !report.frozen);
        if known && seat.voter.accounted(from, holds.map(|gate| (gate, now + term))) {
            self.keep(now, group, out);
        }
        let Some(doubt) = report.doubt else { return };
        if doubt.of.has(self.me) && Some(doubt.mark) == self.gate {
            self.say_shut(now, group, out);
        }
        for (node, mark) in &self.proofs.known {
            if *mark == doubt.mark && doubt.of.has(*node) {
                let news = News::Fenced { node: *node, mark: *mark };
                out.push(Action::Tell { to: from, entry: Entry { group, news } });
            }
        }
    }

    /// Gives back what an earlier run of this daemon was given and this one does not use.
    pub(super) fn give_back(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mine = |voter: &super::Voter| {
            voter.doubt(now).is_some_and(|d| Some(d.mark) == self.gate && d.of.has(self.me))
        };
        let groups = self.seats.iter().filter(|(_, s)| mine(&s.voter)).map(|(g, _)| *g);
        for group in groups.collect::<Vec<_>>() {
            self.say_shut(now, group, out);
        }
    }

    /// Tells everybody that the gate of a group is shut, if it is and nothing could open it.
    fn say_shut(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        let Some(seat) = self.seats.get_mut(&group) else { return };
        let stand = seat.stand;
        if !seat.stood
            || seat.holder.is_open()
            || seat.holder.is_asking()
            || stand.keeps
            || stand.frozen
        {
            return;
        }
        seat.holder.void(now);
        self.shut(now, group, None, out);
    }
}
