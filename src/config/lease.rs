//! The majority lease: its terms, and who votes.

use std::net::IpAddr;
use std::time::Duration;

use super::Config;
use crate::types::VoterIx;

/// The terms of the majority lease, all of which follow from one setting.
///
/// A holder may serve for [`term`](Self::term) after it asked for the votes that it has; a voter
/// lets nobody else have its vote for [`vote`](Self::vote) after it gave it, which is after it was
/// asked. So two hosts never serve at once if a term always ends before a vote does, whatever
/// either clock makes of them: that is [`is_safe`](Self::is_safe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// How long a holder may serve after it asked for its last renewal, by its own clock: `T_h`.
    pub term: Duration,
    /// How often a holder asks for a renewal: `R`, a quarter of the term.
    pub renew: Duration,
    /// How long a vote lasts, by the clock of the voter that gave it: `T_a`, whole microseconds.
    pub vote: Duration,
    /// How long a voter that may have forgotten whom it voted for votes for nobody: as long as a
    /// vote lasts.
    pub quiet: Duration,
}

impl Lease {
    /// The most a clock may run wrong against true time: one part in so many.
    pub const DRIFT: u32 = 1000;
    /// How long something that passed the gate in time may still be in a queue behind it.
    pub const DRAIN: Duration = Duration::from_millis(20);
    /// The shortest term: below this an ordinary pause of a host ends it.
    pub const SHORTEST: Duration = Duration::from_millis(100);
    /// The longest term: a dead holder is missed for longer than that.
    pub const LONGEST: Duration = Duration::from_secs(10);
    /// The term where none is given.
    pub const DEFAULT: Duration = Duration::from_millis(220);
    /// Into how many renewals a term is cut.
    const RENEWALS: u32 = 4;

    /// The terms for a holder's `term`; the vote is the shortest that is safe.
    pub fn of(term: Duration) -> Self {
        let drift = u128::from(Self::DRIFT);
        // (T_h / (1 - rho) + delta_e) * (1 + rho), over one denominator.
        let all = Self::DRAIN.as_nanos() * (drift - 1) + term.as_nanos() * drift;
        let micros = (all * (drift + 1)).div_ceil(drift * (drift - 1) * 1000);
        let vote = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        Self { term, renew: term / Self::RENEWALS, vote, quiet: vote }
    }

    /// Whether a term ends before the votes for it do, with both clocks as wrong as they may be:
    /// `T_h / (1 - rho) + delta_e <= T_a / (1 + rho)`, and the same for a forgetful voter.
    pub fn is_safe(&self) -> bool {
        let drift = u128::from(Self::DRIFT);
        let held = self.term.as_nanos() * drift + Self::DRAIN.as_nanos() * (drift - 1);
        let outlives = |t: Duration| held * (drift + 1) <= t.as_nanos() * drift * (drift - 1);
        outlives(self.vote) && outlives(self.quiet)
    }

    /// How many renewals in a row may be lost before the holder stops serving; the next one has a
    /// whole [`renew`](Self::renew) to be answered.
    pub fn spare(&self) -> u32 {
        Self::RENEWALS - 2
    }

    /// How long a dead holder is missed on average: a vote, which was given anything up to
    /// [`renew`](Self::renew) before its end.
    pub fn missed(&self) -> Duration {
        self.vote.saturating_sub(self.renew / 2)
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::of(Self::DEFAULT)
    }
}

/// A host that has a vote: a node, or a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter<'c> {
    /// Its host name.
    pub name: &'c str,
    /// Its own fixed address: the first path of the peer channel.
    pub address: IpAddr,
    /// Further addresses of the peer channel, one for each further network.
    pub paths: &'c [IpAddr],
    /// Whether it only votes.
    pub witness: bool,
}

impl<'c> Voter<'c> {
    /// Its addresses on the peer channel; the one at a place talks to those of the other voters at
    /// that place.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'c> {
        std::iter::once(self.address).chain(self.paths.iter().copied())
    }
}

/// What a host is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// A node, by its place in [`Config::nodes`].
    Node(usize),
    /// A witness, by its place in [`Config::witnesses`].
    Witness(usize),
}

impl Config {
    /// Everybody that votes: the nodes, then the witnesses, in the order of the file. Their places
    /// are their [`VoterIx`].
    pub fn voters(&self) -> impl Iterator<Item = Voter<'_>> {
        let nodes = self.nodes.iter().map(|n| Voter {
            name: &n.name,
            address: n.address,
            paths: &n.paths,
            witness: false,
        });
        let witnesses = self.witnesses.iter().map(|w| Voter {
            name: &w.name,
            address: w.address,
            paths: &w.paths,
            witness: true,
        });
        nodes.chain(witnesses)
    }

    /// The place of `member` among the voters.
    pub fn voter_ix(&self, member: Member) -> VoterIx {
        let place = match member {
            Member::Node(ix) => ix,
            Member::Witness(ix) => self.nodes.len() + ix,
        };
        // A file has 16 voters at most.
        VoterIx(u8::try_from(place).unwrap_or(u8::MAX))
    }

    /// How many voters must agree.
    pub fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// Whether any group is held by lease.
    pub fn needs_lease(&self) -> bool {
        self.groups.iter().any(|g| g.safety.is_leased())
    }

    /// Whether nodes tell each other anything beside adverts: where anything is held by lease, and
    /// where they share a secret.
    pub fn has_channel(&self) -> bool {
        self.needs_lease() || (self.secret.is_some() && self.voters().count() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vote_outlives_the_term_over_the_whole_range_and_not_by_more_than_it_must() {
        let ms = (100..=10_000).map(Duration::from_millis);
        let odd = (0..20_000).map(|n| Duration::from_nanos(100_000_000 + n * 494_999 + n % 7));
        for term in ms.chain(odd) {
            let lease = Lease::of(term);
            assert!(lease.is_safe(), "{lease:?}");
            assert_eq!(lease.vote.subsec_nanos() % 1000, 0, "{lease:?}");
            assert!(lease.renew * 4 <= term, "{lease:?}");
            let less = lease.vote.saturating_sub(Duration::from_micros(1));
            let short = Lease { vote: less, ..lease };
            assert!(!short.is_safe(), "{short:?}");
            let forgetful = Lease { quiet: less, ..lease };
            assert!(!forgetful.is_safe(), "{forgetful:?}");
        }
    }

    #[test]
    fn the_default() {
        let lease = Lease::default();
        assert_eq!(lease.renew, Duration::from_millis(55));
        assert_eq!(lease.vote, Duration::from_micros(240_461));
        assert_eq!(lease.quiet, lease.vote);
        assert_eq!((lease.spare(), lease.missed()), (2, Duration::from_micros(212_961)));
    }
}
