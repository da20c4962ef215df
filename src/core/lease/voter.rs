//! One vote about one group.
//!
//! The rules are those of Gray and Cheriton's leases (1989) with the server replaced by a majority:
//! a vote is given to one gate for a term, and to no other before the term is over or the gate has
//! given it back. No vote is ever overwritten by another's.
//!
//! A **strict** vote, for `safety = "lease+fence"`, does not trust the clock of whom it was given:
//! when its term is over it is in doubt until the gate has given it back, its host was fenced, or
//! the host is seen with another gate. A voter that may have forgotten a vote doubts every node
//! until each was heard or fenced.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::{GateId, Instant, VoterIx, Voters};
use crate::wire::peer::{Denial, Doubt};

/// For how long a vote that was given back is kept for the successor that was named.
pub const RESERVED: Duration = Duration::from_millis(50);

/// Gates of fenced hosts that are remembered: requests of theirs may still be in flight.
const DEAD: usize = 8;

/// What one voter knows about one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Voter {
    /// Whom the vote was given, unless it has been given back.
    grant: Option<Grant>,
    /// The highest tenure voted for, and by which gate.
    epoch: (u64, GateId),
    /// The last round that each node was heard to have begun or dropped.
    seen: Vec<(VoterIx, GateId, u64)>,
    reserved: Option<(VoterIx, Instant)>,
    /// Whether a vote that was not given back outlives its term, in doubt.
    strict: bool,
    /// Who may have a vote that was forgotten.
    doubted: Voters,
    /// Names the run of this voter that forgot: what is proven about another says nothing.
    run: GateId,
    dead: VecDeque<GateId>,
}

/// A vote that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Grant {
    /// Which node asked.
    pub to: VoterIx,
    /// Which gate it opens: what the vote is bound to.
    pub gate: GateId,
    /// The last round it was given for.
    pub round: u64,
    /// When it ends by this voter's clock.
    pub until: Instant,
}

/// A request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Who asks.
    pub from: VoterIx,
    /// For which gate.
    pub gate: GateId,
    /// Rises with every request of a gate.
    pub round: u64,
    /// The tenure it would be.
    pub epoch: u64,
}

impl Voter {
    /// A voter that remembers what an earlier run of it wrote down.
    pub fn remembering(grant: Option<Grant>, epoch: (u64, GateId)) -> Self {
        Self { grant, epoch, ..Self::default() }
    }

    /// The same for votes that need proof, in a run called `run`; `doubted` are those that may have
    /// a vote of an earlier one.
    #[must_use]
    pub fn strict(self, doubted: Voters, run: GateId) -> Self {
        Self { strict: true, doubted, run, ..self }
    }

    /// The same for votes that simply end.
    #[must_use]
    pub fn lax(self) -> Self {
        Self { strict: false, doubted: Voters::NONE, ..self }
    }

    /// The voters have other places: a vote of one that is none any more is forgotten.
    pub fn renumber(&mut self, places: &BTreeMap<VoterIx, VoterIx>) {
        self.grant = self.grant.and_then(|g| Some(Grant { to: *places.get(&g.to)?, ..g }));
        self.reserved = None;
        self.seen.clear();
    }

    /// Whether votes need proof.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Who may have a vote that was forgotten.
    pub fn doubted(&self) -> Voters {
        self.doubted
    }

    /// What must be proven before this voter can vote for anybody else.
    pub fn doubt(&self, now: Instant) -> Option<Doubt> {
        let ended = self.grant.filter(|g| self.strict && now >= g.until);
        let given = ended.map(|g| Doubt { of: Voters::NONE.with(g.to), mark: g.gate });
        let forgotten = Doubt { of: self.doubted, mark: self.run };
        given.or_else(|| Some(forgotten).filter(|d| self.strict && d.of != Voters::NONE))
    }

    /// The host of `node` was switched off after it was known that `mark` is in doubt. Says whether
    /// that was news.
    pub fn proven(&mut self, node: VoterIx, mark: GateId) -> bool {
        if !self.strict {
            return false;
        }
        let given = self.grant.take_if(|g| g.to == node && g.gate == mark).is_some();
        if given {
            self.dead.truncate(DEAD - 1);
            self.dead.push_front(mark);
        }
        let forgotten = mark == self.run && self.doubted.has(node);
        if forgotten {
            self.doubted = self.doubted.without(node);
        }
        given || forgotten
    }

    /// `node` is heard, with this gate. It has another one than the vote was given: its host was
    /// started anew. Says whether that was news.
    ///
    /// Only once the vote's term is over: another machine of that name is no proof of anything.
    pub fn returned(&mut self, now: Instant, node: VoterIx, gate: GateId) -> bool {
        let over = |g: &mut Grant| g.to == node && g.gate != gate && now >= g.until;
        self.strict && self.grant.take_if(over).is_some()
    }

    /// `node` says in this run whether its gate is open; it counts no vote of an earlier run any
    /// more. Says whether that was news.
    pub fn accounted(&mut self, node: VoterIx, holds: Option<(GateId, Instant)>) -> bool {
        if !self.strict || !self.doubted.has(node) {
            return false;
        }
        match (holds, self.grant) {
            (None, _) => {}
            (Some((gate, until)), None) => {
                self.grant = Some(Grant { to: node, gate, round: 0, until });
            }
            (Some((gate, _)), Some(given)) if given.gate == gate => {}
            (Some(_), Some(_)) => return false,
        }
        self.doubted = self.doubted.without(node);
        true
    }

    /// The vote in force at `now`.
    pub fn grant(&self, now: Instant) -> Option<Grant> {
        self.grant.filter(|g| now < g.until)
    }

    /// The last vote that was not given back, whether it is still in force or not.
    pub fn last(&self) -> Option<Grant> {
        self.grant
    }

    /// Whom the vote is kept for at `now`, and until when.
    pub fn reserved(&self, now: Instant) -> Option<(VoterIx, Instant)> {
        self.reserved.filter(|(_, until)| now < *until)
    }

    /// The highest tenure voted for, and by which gate.
    pub fn epoch(&self) -> (u64, GateId) {
        self.epoch
    }

    /// Answers a request received no later than `now`; `term` is how long the vote lasts. `None`
    /// for one that is old news.
    ///
    /// `now` must have been read after the request was received: a vote that was counted from an
    /// earlier moment could end before the lease that it is part of.
    pub fn vote(
        &mut self,
        now: Instant,
        ask: &Ask,
        term: Duration,
    ) -> Option<Result<Grant, Denial>> {
        if !self.raise(ask.from, ask.gate, ask.round) {
            return None;
        }
        if let Some(held) = self.grant(now)
            && held.gate != ask.gate
        {
            return Some(Err(Denial::Held { by: held.to, left: held.until.since(now) }));
        }
        if self.dead.contains(&ask.gate) {
            return None;
        }
        if let Some(of) = self.doubt_about(ask) {
            return Some(Err(Denial::Doubt { of }));
        }
        if let Some((to, _)) = self.reserved(now)
            && to != ask.from
        {
            return Some(Err(Denial::Reserved { to }));
        }
        let (highest, of) = self.epoch;
        if ask.epoch < highest || (ask.epoch == highest && ask.gate != of) {
            return Some(Err(Denial::Epoch { highest }));
        }
        // Never shorter than it was: under other terms the gate may be open for as long as before.
        let until = self.grant(now).map_or(now + term, |held| held.until.max(now + term));
        let grant = Grant { to: ask.from, gate: ask.gate, round: ask.round, until };
        self.grant = Some(grant);
        self.epoch = (ask.epoch, ask.gate);
        self.reserved = None;
        self.doubted = Voters::NONE;
        Some(Ok(grant))
    }

    /// Who else may serve, for all that a strict vote knows; its own term is over.
    fn doubt_about(&self, ask: &Ask) -> Option<VoterIx> {
        let given = self.grant.filter(|g| g.gate != ask.gate).map(|g| g.to);
        let of = given.or_else(|| self.doubted.without(ask.from).iter().next());
        of.filter(|_| self.strict)
    }

    /// A gate says that it is shut and that no round up to `round` will open it. Says whether that
    /// gave a vote back.
    pub fn release(
        &mut self,
        now: Instant,
        from: VoterIx,
        gate: GateId,
        round: u64,
        successor: Option<VoterIx>,
    ) -> bool {
        // Even one that gives nothing back: the request it overtook must not be granted later.
        self.raise(from, gate, round);
        let ours = self.grant.is_some_and(|g| g.gate == gate && g.round <= round);
        if ours {
            self.grant = None;
            self.reserved = successor.map(|to| (to, now + RESERVED));
        }
        ours
    }

    /// Notes that `from` is at `round`; says whether that is news.
    fn raise(&mut self, from: VoterIx, gate: GateId, round: u64) -> bool {
        match self.seen.iter_mut().find(|(node, ..)| *node == from) {
            Some((_, of, last)) if *of == gate => {
                let news = round > *last;
                *last = round.max(*last);
                news
            }
            Some(seen) => {
                *seen = (from, gate, round);
                true
            }
            None => {
                self.seen.push((from, gate, round));
                self.seen.sort_unstable();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_millis(240);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ask(node: u8, round: u64) -> Ask {
        let epoch = u64::from(node);
        Ask { from: VoterIx(node), gate: GateId(u128::from(node)), round, epoch }
    }

    #[test]
    fn a_vote_is_not_overwritten_before_it_ends() {
        let mut voter = Voter::default();
        let grant = voter.vote(at(0), &ask(1, 1), TERM).unwrap().unwrap();
        assert_eq!(grant.until, at(240));
        let left = Duration::from_millis(1);
        let held = Denial::Held { by: VoterIx(1), left };
        assert_eq!(voter.vote(at(239), &ask(2, 1), TERM), Some(Err(held)));
        assert!(voter.vote(at(240), &ask(2, 2), TERM).unwrap().is_ok());
    }

    #[test]
    fn the_same_gate_renews_and_another_gate_of_the_same_node_does_not() {
        let mut voter = Voter::default();
        assert!(voter.vote(at(0), &ask(1, 1), TERM).unwrap().is_ok());
        assert_eq!(voter.vote(at(50), &ask(1, 2), TERM).unwrap().unwrap().until, at(290));
        let twin = Ask { gate: GateId(99), ..ask(1, 9) };
        assert!(matches!(voter.vote(at(60), &twin, TERM), Some(Err(Denial::Held { .. }))));
    }

    #[test]
    fn a_vote_for_a_shorter_term_does_not_end_before_the_one_it_renews() {
        let mut voter = Voter::default();
        assert!(voter.vote(at(0), &ask(1, 1), 4 * TERM).unwrap().is_ok());
        let renewed = voter.vote(at(50), &ask(1, 2), TERM).unwrap().unwrap();
        assert_eq!(renewed.until, at(960));
    }

    #[test]
    fn old_rounds_are_no_news() {
        let mut voter = Voter::default();
        assert!(voter.vote(at(0), &ask(1, 2), TERM).unwrap().is_ok());
        assert_eq!(voter.vote(at(1), &ask(1, 2), TERM), None);
        assert_eq!(voter.vote(at(1), &ask(1, 1), TERM), None);
    }

    #[test]
    fn a_request_that_its_own_release_overtook_gets_nothing() {
        let mut voter = Voter::default();
        assert!(!voter.release(at(0), VoterIx(1), GateId(1), 5, None));
        assert_eq!(voter.vote(at(1), &ask(1, 5), TERM), None);
        assert!(voter.vote(at(1), &ask(2, 1), TERM).unwrap().is_ok());
    }

    #[test]
    fn a_release_gives_back_only_the_rounds_it_names() {
        let mut voter = Voter::default();
        assert!(voter.vote(at(0), &ask(1, 8), TERM).unwrap().is_ok());
        assert!(!voter.release(at(1), VoterIx(1), GateId(1), 7, None));
        assert!(!voter.release(at(1), VoterIx(1), GateId(2), 9, None), "another gate");
        assert!(voter.release(at(1), VoterIx(1), GateId(1), 8, Some(VoterIx(3))));
        let kept = Denial::Reserved { to: VoterIx(3) };
        assert_eq!(voter.vote(at(2), &ask(2, 1), TERM), Some(Err(kept)));
        assert!(voter.vote(at(2), &ask(3, 1), TERM).unwrap().is_ok());
    }

    fn strict(doubted: Voters) -> Voter {
        Voter::default().strict(doubted, GateId(1000))
    }

    fn in_doubt(of: u8) -> Result<Grant, Denial> {
        Err(Denial::Doubt { of: VoterIx(of) })
    }

    #[test]
    fn a_strict_vote_is_in_doubt_when_its_term_is_over() {
        let mut voter = strict(Voters::NONE);
        assert!(voter.vote(at(0), &ask(1, 1), TERM).unwrap().is_ok());
        assert_eq!(voter.doubt(at(239)), None);
        assert_eq!(voter.vote(at(240), &ask(2, 1), TERM), Some(in_doubt(1)));
        assert!(voter.vote(at(241), &ask(1, 2), TERM).unwrap().is_ok(), "the gate itself renews");
        assert_eq!(voter.vote(at(500), &ask(2, 2), TERM), Some(in_doubt(1)));
        assert!(voter.release(at(501), VoterIx(1), GateId(1), 2, None));
        assert!(voter.vote(at(502), &ask(2, 3), TERM).unwrap().is_ok());
    }

    #[test]
    fn a_fence_ends_the_doubt_about_the_very_gate() {
        let mut voter = strict(Voters::NONE);
        assert!(voter.vote(at(0), &ask(1, 1), TERM).unwrap().is_ok());
        assert!(!voter.proven(VoterIx(1), GateId(9)), "another gate of that host");
        assert!(!voter.proven(VoterIx(2), GateId(1)), "another host");
        assert_eq!(voter.vote(at(300), &ask(2, 1), TERM), Some(in_doubt(1)));
        assert!(voter.proven(VoterIx(1), GateId(1)));
        assert_eq!(voter.vote(at(300), &ask(1, 2), TERM), None, "sent before it was switched off");
        assert!(voter.vote(at(301), &ask(2, 2), TERM).unwrap().is_ok());
    }

    #[test]
    fn a_host_that_was_started_anew_ends_the_doubt_but_not_the_term() {
        let mut voter = strict(Voters::NONE);
        assert!(voter.vote(at(0), &ask(1, 1), TERM).unwrap().is_ok());
        assert!(!voter.returned(at(239), VoterIx(1), GateId(8)), "a twin, for all that is known");
        assert!(!voter.returned(at(240), VoterIx(1), GateId(1)));
        assert!(voter.returned(at(240), VoterIx(1), GateId(8)));
        assert!(voter.vote(at(241), &ask(2, 1), TERM).unwrap().is_ok());
    }

    #[test]
    fn who_may_have_a_forgotten_vote_is_heard_or_fenced_first() {
        let both = Voters::NONE.with(VoterIx(1)).with(VoterIx(2));
        let mut voter = strict(both);
        assert_eq!(voter.vote(at(0), &ask(1, 1), TERM), Some(in_doubt(2)), "not about itself");
        assert!(voter.accounted(VoterIx(1), None));
        assert!(!voter.accounted(VoterIx(1), None), "no news");
        assert!(voter.vote(at(1), &ask(2, 1), TERM).unwrap().is_ok());

        let mut voter = strict(both);
        assert!(voter.accounted(VoterIx(1), Some((GateId(1), at(240)))));
        assert!(!voter.accounted(VoterIx(2), Some((GateId(2), at(240)))), "two cannot hold");
        assert!(voter.proven(VoterIx(2), GateId(1000)));
        assert_eq!(voter.vote(at(240), &ask(2, 1), TERM), Some(in_doubt(1)));
    }

    #[test]
    fn a_tenure_is_numbered_once() {
        let mut voter = Voter::default();
        assert!(voter.vote(at(0), &ask(5, 1), TERM).unwrap().is_ok());
        assert!(voter.release(at(1), VoterIx(5), GateId(5), 1, None));
        let low = Ask { epoch: 5, ..ask(6, 1) };
        assert_eq!(voter.vote(at(2), &low, TERM), Some(Err(Denial::Epoch { highest: 5 })));
        assert!(voter.vote(at(2), &ask(6, 2), TERM).unwrap().is_ok());
    }
}
