//! The right of this node's gate to be open for one group.
//!
//! A round is one request to every voter. It counts from the moment before it was sent: when a
//! majority has granted it, the gate may be open for a term from then on. Several rounds may be
//! under way, so that a round trip longer than the renewal interval loses nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{Instant, VoterIx, Voters};

/// Rounds that may be under way; a holder renews a few times within a term.
const ROUNDS: usize = 8;

/// One gate's standing for one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holder {
    /// When the gate shuts; boot where it is shut already.
    until: Instant,
    /// What was asked and may still be granted, oldest first.
    rounds: VecDeque<Round>,
    /// The last round begun. Those before it may be in flight, but only `rounds` count.
    last: u64,
}

/// One request to every voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Round {
    number: u64,
    /// Read before the request was sent.
    sent: Instant,
    /// Of the configuration it was sent under.
    term: Duration,
    votes: Voters,
}

impl Holder {
    /// The heir of a gate that is open until then.
    pub fn inheriting(until: Instant) -> Self {
        Self { until, ..Self::default() }
    }

    /// Until when the gate may be open, if it may at `now`.
    pub fn holds(&self, now: Instant) -> Option<Instant> {
        Some(self.until).filter(|until| now < *until)
    }

    /// Whether the gate was opened and has not been shut since, though its time may be over.
    pub fn is_open(&self) -> bool {
        self.until > Instant::BOOT
    }

    /// When the gate shuts by itself; boot where it is shut.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Whether a request is under way.
    pub fn is_asking(&self) -> bool {
        !self.rounds.is_empty()
    }

    /// When the last request that is under way was sent.
    pub fn asked_at(&self) -> Option<Instant> {
        self.rounds.back().map(|r| r.sent)
    }

    /// The number of the last request.
    pub fn last_round(&self) -> u64 {
        self.last
    }

    /// Who has granted the last request.
    pub fn votes(&self) -> Voters {
        self.rounds.back().map_or(Voters::NONE, |r| r.votes)
    }

    /// Begins a round at `now`, which must be read before anything of it is sent, for a term of
    /// `term`; returns its number.
    ///
    /// Numbers rise over restarts of the daemon, as the boot clock does.
    pub fn ask(&mut self, now: Instant, term: Duration) -> u64 {
        self.last = now.nanos().max(self.last + 1);
        if self.rounds.len() == ROUNDS {
            self.rounds.pop_front();
        }
        let round = Round { number: self.last, sent: now, term, votes: Voters::NONE };
        self.rounds.push_back(round);
        self.last
    }

    /// A vote came for `round`; `majority` are needed, those of `proxies` count unasked. Returns
    /// until when the gate may be open, if that is news.
    pub fn granted(
        &mut self,
        now: Instant,
        from: VoterIx,
        round: u64,
        majority: usize,
        proxies: Voters,
    ) -> Option<Instant> {
        let ix = self.rounds.iter().position(|r| r.number == round)?;
        let round = &mut self.rounds[ix];
        round.votes = round.votes.with(from);
        if Voters(round.votes.0 | proxies.0).count() < majority {
            return None;
        }
        let until = round.sent + round.term;
        // Older rounds would end earlier. This one stays to show who votes.
        self.rounds.drain(..ix);
        if until <= now || until <= self.until {
            return None;
        }
        self.until = until;
        Some(until)
    }

    /// Shuts the gate for all that has been asked so far: no round up to the one returned counts
    /// any more. One step, so that no late vote can open what was given up.
    ///
    /// The caller shuts the kernel's gate before anybody is told.
    pub fn drop_all(&mut self) -> u64 {
        self.rounds.clear();
        self.until = Instant::BOOT;
        self.last
    }

    /// As [`drop_all`](Self::drop_all), also for what an earlier run of this daemon asked for.
    pub fn void(&mut self, now: Instant) -> u64 {
        self.last = now.nanos().max(self.last);
        self.drop_all()
    }

    /// A voter was started anew: what it granted before is not counted any more, as it may have
    /// forgotten it.
    pub fn forget(&mut self, voter: VoterIx) {
        for round in &mut self.rounds {
            round.votes = round.votes.without(voter);
        }
    }

    /// Forgets what was asked under other terms, and holds no longer than `limit`; for a change of
    /// the configuration.
    pub fn limit(&mut self, limit: Instant) {
        self.rounds.clear();
        self.until = self.until.min(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_millis(220);
    const NONE: Voters = Voters::NONE;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_term_counts_from_the_request() {
        let mut holder = Holder::default();
        let round = holder.ask(at(100), TERM);
        assert_eq!(holder.granted(at(105), VoterIx(0), round, 2, NONE), None);
        assert_eq!(
            holder.granted(at(106), VoterIx(0), round, 2, NONE),
            None,
            "one voter, one vote"
        );
        assert_eq!(holder.granted(at(110), VoterIx(1), round, 2, NONE), Some(at(320)));
        assert_eq!(holder.granted(at(111), VoterIx(2), round, 2, NONE), None, "no news");
        assert_eq!(holder.holds(at(319)), Some(at(320)));
        assert_eq!(holder.holds(at(320)), None);
    }

    #[test]
    fn rounds_overlap() {
        let mut holder = Holder::default();
        let first = holder.ask(at(100), TERM);
        let second = holder.ask(at(150), TERM);
        assert_eq!(holder.granted(at(160), VoterIx(0), first, 2, NONE), None);
        assert_eq!(holder.granted(at(161), VoterIx(1), first, 2, NONE), Some(at(320)));
        assert_eq!(holder.granted(at(210), VoterIx(0), second, 2, NONE), None);
        assert_eq!(holder.granted(at(211), VoterIx(2), second, 2, NONE), Some(at(370)));
        assert_eq!(holder.granted(at(212), VoterIx(2), first, 2, NONE), None);
    }

    #[test]
    fn nothing_asked_before_the_gate_was_shut_opens_it_again() {
        let mut holder = Holder::default();
        let round = holder.ask(at(100), TERM);
        holder.granted(at(101), VoterIx(0), round, 2, NONE);
        assert_eq!(holder.drop_all(), round);
        assert_eq!(holder.granted(at(102), VoterIx(1), round, 2, NONE), None);
        assert_eq!(holder.holds(at(102)), None);
        assert!(holder.ask(at(100), TERM) > round, "numbers rise, even at the same moment");
    }

    #[test]
    fn a_majority_that_comes_too_late_is_none() {
        let mut holder = Holder::default();
        let round = holder.ask(at(100), TERM);
        holder.granted(at(101), VoterIx(0), round, 2, NONE);
        assert_eq!(holder.granted(at(320), VoterIx(1), round, 2, NONE), None);
    }
}
