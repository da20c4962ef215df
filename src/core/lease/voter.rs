//! One vote about one group.
//!
//! The rules are those of Gray and Cheriton's leases (1989) with the server replaced by a majority:
//! a vote is given to one gate for a term, and to no other before the term is over or the gate has
//! given it back. No vote is ever overwritten by another's.

use std::time::Duration;

use crate::types::{GateId, Instant, VoterIx};
use crate::wire::peer::Denial;

/// For how long a vote that was given back is kept for the successor that was named.
pub const RESERVED: Duration = Duration::from_millis(50);

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
        Some(Ok(grant))
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
