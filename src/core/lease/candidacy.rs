//! This node's own candidacy: every voter is asked, votes are counted, and given back in an order
//! that lets no late vote open what was shut.

use crate::types::{Instant, VoterIx};
use crate::wire::peer::{Denial, Entry, News};

use super::super::event::Action;
use super::electorate::Aside;
use super::{Ask, Lease, Seat};

impl Lease {
    /// Asks every voter.
    pub(super) fn ask(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        let Some(gate) = self.gate else { return };
        let Some(seat) = self.seats.get_mut(&group) else { return };
        let again = seat.holder.is_open() || seat.holder.is_asking();
        if !again {
            seat.epoch = seat.epoch.max(seat.highest) + 1;
        }
        let last = seat.voter.last().map(|grant| grant.to);
        if let Some(other) = last.filter(|to| *to != self.me) {
            seat.before = Aside(Some(other));
        }
        seat.asked(now);
        let round = seat.holder.ask(now, self.terms.term);
        let asked = seat.raised.map_or(seat.epoch, |(_, epoch)| epoch);
        if seat.highest > asked {
            seat.raised = Some((round, seat.highest + 1));
        }
        let epoch = seat.raised.map_or(seat.epoch, |(_, epoch)| epoch);
        for to in self.others() {
            let entry = Entry { group, news: News::Request { gate, round, epoch } };
            out.push(Action::Tell { to, entry });
        }
        self.report_again(now, group, out);
        let own = Ask { from: self.me, gate, round, epoch };
        let answer = match self.silence(now, group) {
            Some(why) => Err(why),
            None => self.vote(now, group, &own, out).unwrap_or(Ok(())),
        };
        match answer {
            Ok(()) => self.count(now, group, self.me, round, out),
            Err(why) => self.denied(now, group, self.me, round, why, out),
        }
    }

    /// Asks again for what is held, as somebody came into reach. The heir of an open gate has asked
    /// before it had a session with anybody, and may not live to its next renewal.
    pub(super) fn ask_again_in_reach(&mut self, now: Instant, out: &mut Vec<Action>) {
        let majority = self.majority();
        let unheard = |seat: &Seat| {
            let kept = seat.stand.keeps && !seat.stand.frozen;
            kept && seat.holder.holds(now).is_some() && seat.holder.votes().count() < majority
        };
        let groups: Vec<_> =
            self.seats.iter().filter(|(_, seat)| unheard(seat)).map(|(group, _)| *group).collect();
        for group in groups {
            self.ask(now, group, out);
        }
    }

    pub(super) fn granted(
        &mut self,
        now: Instant,
        group: u16,
        from: VoterIx,
        round: u64,
        out: &mut Vec<Action>,
    ) {
        self.proofs.peer_votes(from);
        self.count(now, group, from, round, out);
    }

    /// Counts a vote; with a majority of them the gate opens, or stays open for longer.
    fn count(
        &mut self,
        now: Instant,
        group: u16,
        from: VoterIx,
        round: u64,
        out: &mut Vec<Action>,
    ) {
        let (majority, proxies) = (self.needed(group), self.proxies(group));
        let Some(seat) = self.seats.get_mut(&group) else { return };
        // A gate whose time has passed is not opened again: it is shut first, and all that was
        // asked for it is void.
        if seat.holder.is_open() && seat.holder.holds(now).is_none() {
            return;
        }
        let was_open = seat.holder.is_open();
        if let Some(until) = seat.holder.granted(now, from, round, majority, proxies) {
            out.push(Action::Gate { group, until: Some(until) });
            seat.won |= !was_open;
            if let Some((_, epoch)) = seat.raised.filter(|(first, _)| round >= *first) {
                (seat.epoch, seat.raised) = (epoch, None);
            }
        }
    }

    pub(super) fn denied(
        &mut self,
        now: Instant,
        group: u16,
        from: VoterIx,
        round: u64,
        why: Denial,
        out: &mut Vec<Action>,
    ) {
        // One whose vote counts unasked may have come back, and refuse.
        if self.proxies(group).has(from) {
            return;
        }
        let majority = self.needed(group).saturating_sub(self.proxies(group).count());
        // Whoever is silent is not waited for: of two candidates that share the others' votes each
        // would hold on to its own until its patience ends, by turns, and neither ever win.
        let proxies = self.proxies(group);
        let silent = self.silent(now).filter(|v| !proxies.has(*v)).count();
        let voters = self.electors.len() - proxies.count() - silent;
        let soon = self.terms.renew;
        let Some(seat) = self.seats.get_mut(&group) else { return };
        if round != seat.holder.last_round() || !seat.holder.is_asking() {
            return;
        }
        seat.refused_early(now);
        if seat.denied(now, soon, from, why, voters, majority) && !seat.holder.is_open() {
            self.take_back(now, group, out);
        }
    }

    /// A candidate that cannot win frees the votes it got, and tries again later.
    pub(super) fn take_back(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        let (majority, terms) = (self.majority(), self.terms);
        if let Some(seat) = self.seats.get_mut(&group) {
            seat.ask_again(now, &terms, majority);
        }
        self.shut(now, group, None, out);
    }

    /// Shuts the gate, makes every round void, and only then gives the votes back.
    pub(super) fn shut(
        &mut self,
        now: Instant,
        group: u16,
        successor: Option<VoterIx>,
        out: &mut Vec<Action>,
    ) {
        let (Some(gate), others) = (self.gate, self.others()) else { return };
        let Some(seat) = self.seats.get_mut(&group) else { return };
        let round = seat.holder.drop_all();
        seat.won = false;
        seat.raised = None;
        seat.successor = None;
        seat.move_at = None;
        seat.not_wanted();
        out.push(Action::Gate { group, until: None });
        // A gate that cannot be relied upon may be open all the same: its votes, this node's own
        // among them, are left to end by themselves.
        if seat.stand.frozen {
            return;
        }
        if seat.voter.release(now, self.me, gate, round, successor) {
            self.keep(now, group, out);
        }
        for to in others {
            let entry = Entry { group, news: News::Release { gate, round, successor } };
            out.push(Action::Tell { to, entry });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::super::{Setup, Stand, Verdict, Vote, Worth};
    use super::*;
    use crate::config;
    use crate::types::{Digest, GateId, Incarnation, Priority};

    /// A lease that needs nobody else, which holds.
    fn holding(now: Instant, out: &mut Vec<Action>) -> (Lease, Stand) {
        let digest = Digest(1);
        let setup = Setup {
            me: VoterIx(0),
            voters: 1,
            terms: config::Lease::of(Duration::from_millis(200)),
            digest,
            gate: Some(GateId(7)),
            quiet: None,
            confirmed: Some(digest),
            nodes: 1,
            strict: BTreeSet::new(),
            fences: BTreeSet::new(),
            run: Incarnation(1),
            remembers: true,
            priorities: BTreeMap::new(),
        };
        let mut lease = Lease::new(now, &setup);
        lease.add(0, Some(Vote::default()), None);
        let stand = Stand { able: true, worth: Worth::new(Priority::DEFAULT, 0), ..Stand::NONE };
        lease.decide(now, 0, stand, out);
        assert!(lease.holds(now, 0).is_some());
        (lease, stand)
    }

    #[test]
    fn a_gate_that_is_not_relied_upon_keeps_its_own_vote() {
        let (now, mut out) = (Instant::from_nanos(1_000_000_000), Vec::new());
        for frozen in [false, true] {
            let (mut lease, stand) = holding(now, &mut out);
            lease.decide(now, 0, Stand { able: false, keeps: true, frozen, ..stand }, &mut out);
            let later = now + Duration::from_millis(201);
            lease.expire(later, &mut out);
            assert_eq!(lease.holds(later, 0), None);
            let voter = lease.seats[&0].voter.grant(later);
            assert_eq!(voter.is_some(), frozen, "frozen: {frozen}");
            let stand = Stand { able: false, keeps: true, frozen, ..stand };
            let verdict = lease.decide(later, 0, stand, &mut out);
            assert!(
                matches!(verdict, Some(Verdict::Lost(_))),
                "its addresses are to go: {verdict:?}"
            );
        }
    }
}
