//! One group in the eyes of the lease: this node's vote about it, its own candidacy, and when to
//! ask for it. Only the order and the time of requests are decided here; whether one can be
//! granted twice is decided by `voter` and `holder` alone.

use std::cmp::Reverse;
use std::time::Duration;

use crate::config;
use crate::types::{Instant, VoterIx, Voters};
use crate::wire::peer::{Denial, Report};

use super::super::worth::Worth;
use super::electorate::Aside;
use super::holder::Holder;
use super::voter::{RESERVED, Voter};

/// How much later than a better candidate the next one asks.
const TURN: Duration = Duration::from_millis(10);
/// Votes end at slightly different moments: as long as a datagram may take more to one voter than
/// to another without costing an attempt.
const SLACK: Duration = Duration::from_micros(500);
/// How soon a successor asks again while the predecessor's word is still on its way to some.
const SOON: Duration = Duration::from_millis(2);
/// How long an ordered move waits for the successor to see who has the addresses.
pub(super) const LEAD: Duration = Duration::from_millis(5);
/// How long a holder that may give way to one node waits for a better one, which is looking whether
/// it can serve, most likely: whoever looks sooner is not to have the group for a moment.
const DEFERENCE: Duration = Duration::from_millis(20);

/// What the group wants of the lease.
#[allow(clippy::struct_excessive_bools, reason = "each is said of a group by itself")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stand {
    /// Whether this node could hold the group.
    pub able: bool,
    /// Whether it does hold it, and means to go on.
    pub keeps: bool,
    /// Whether the gate cannot be relied upon: what is held is neither renewed, as it should end,
    /// nor given back, as it may not have.
    pub frozen: bool,
    /// How good it is.
    pub worth: Worth,
    /// How long a holder that the file prefers less is left alone; `None` for as long as it is fit.
    pub preempts_after: Option<Duration>,
    /// By how much the health of a holder must be worse than this node's before it is moved.
    pub stickiness: u8,
    /// Whether this node has just seen that its health is better than the holder's.
    pub proven: bool,
    /// How long nobody answered when it took the group over, as it saw it.
    pub gap: Option<Duration>,
    /// Whether it cannot give up what it must.
    pub stuck: bool,
}

impl Stand {
    /// Of a voter that can never hold.
    pub const NONE: Self = Self {
        able: false,
        keeps: false,
        frozen: false,
        worth: Worth::NONE,
        preempts_after: None,
        stickiness: 0,
        proven: false,
        gap: None,
        stuck: false,
    };
}

/// What the lease says to the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The gate is open: take the addresses.
    Won,
    /// The gate is shut: give them up.
    Lost(&'static str),
    /// Give them up, so that this node can have them.
    Yield {
        /// To whom.
        to: VoterIx,
        /// Why.
        why: Yielding,
    },
}

/// Why a holder gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Yielding {
    /// It is better.
    Better(Worth),
    /// An operator said so.
    Ordered,
    /// It has, or is to have, what the group is kept together with.
    Together,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    pub(super) voter: Voter,
    pub(super) holder: Holder,
    pub(super) stand: Stand,
    /// Whether the group has said what it wants.
    pub(super) stood: bool,
    /// The tenure of this node, held or asked for.
    pub(super) epoch: u64,
    /// The highest tenure heard of: the next one asked for is above it. The one that is asked for
    /// already stays as the voters know it.
    pub(super) highest: u64,
    /// What a holder asks for instead, as a voter knows of a higher tenure, and from which round
    /// on: its own once that is granted.
    pub(super) raised: Option<(u64, u64)>,
    /// The votes that came and were news to nobody yet.
    pub(super) won: bool,
    pub(super) successor: Option<(VoterIx, Yielding)>,
    /// Since when somebody who may have the group wants it from this node.
    wanted_since: Option<Instant>,
    /// When an ordered move begins: its successor looks at the old holder before that.
    pub(super) move_at: Option<(Instant, VoterIx)>,
    /// Who had this voter's vote last and did not give it back, before this node took it.
    pub(super) before: Aside<Option<VoterIx>>,
    pub(super) reported: Option<Report>,
    /// That goes along with the next request or answer once more.
    pub(super) repeats: bool,
    /// No votes before: this voter may have given one that it knows nothing of.
    pub(super) quiet_until: Instant,
    /// Since when this node could hold.
    able_since: Option<Instant>,
    /// Since when a holder of lower priority is known.
    better_since: Option<Instant>,
    /// No request before that.
    retry_at: Instant,
    /// When the last request was made.
    asked_at: Instant,
    /// When a vote that was refused is free, if that is soon.
    again_at: Option<Instant>,
    /// For how long the votes are kept for this node, its own given or not.
    succeeds_until: Option<Instant>,
    /// Who refused the last request, and for how long it was said to be held.
    denials: Vec<(VoterIx, Duration)>,
}

impl Seat {
    pub(super) fn new(voter: Voter, holder: Holder) -> Self {
        Self {
            epoch: voter.epoch().0,
            highest: 0,
            raised: None,
            voter,
            holder,
            stand: Stand::NONE,
            stood: false,
            won: false,
            before: Aside(None),
            successor: None,
            wanted_since: None,
            move_at: None,
            reported: None,
            repeats: false,
            quiet_until: Instant::BOOT,
            able_since: None,
            better_since: None,
            retry_at: Instant::BOOT,
            asked_at: Instant::BOOT,
            again_at: None,
            succeeds_until: None,
            denials: Vec::new(),
        }
    }

    /// That of a group nothing is known of, which votes for nobody before `until`.
    pub(super) fn quiet(until: Instant) -> Self {
        Self { quiet_until: until, ..Self::new(Voter::default(), Holder::default()) }
    }

    /// Who votes for this node.
    pub fn votes(&self) -> Voters {
        self.holder.votes()
    }

    /// This node's vote.
    pub fn voter(&self) -> &Voter {
        &self.voter
    }

    /// This node's right.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// How long nobody answered when this node took the group over, as it saw it.
    pub fn gap(&self) -> Option<Duration> {
        self.stand.gap
    }

    /// The tenure of this node, held or asked for.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes in what the group wants.
    pub(super) fn take_stand(&mut self, now: Instant, stand: Stand) {
        match (stand.able, self.able_since) {
            (true, None) => self.able_since = Some(now),
            (false, Some(_)) => self.able_since = None,
            (true, Some(_)) | (false, None) => {}
        }
        self.stand = stand;
        self.stood = true;
    }

    /// Whether this node is to become the holder if it can.
    pub(super) fn runs(&self) -> bool {
        self.stand.able && !self.stand.keeps && !self.holder.is_open()
    }

    /// When to ask for the lease, with nothing under way.
    pub(super) fn ask_at(&self, now: Instant, me: VoterIx, rank: u32) -> Instant {
        let since = self.able_since.unwrap_or(now);
        // Also after a request that overtook the predecessor's word, and whose vote was given back.
        if self.succeeds(now) || self.voter.reserved(now).is_some_and(|(to, _)| to == me) {
            return since.max(self.retry_at);
        }
        let held = self.voter.last().filter(|g| g.to != me).map(|g| g.until + SLACK);
        let reserved = self.voter.reserved(now).map(|(_, until)| until);
        let free = held.into_iter().chain(reserved).max().unwrap_or(Instant::BOOT);
        free.max(since).max(self.retry_at) + TURN * rank
    }

    /// When a request that is under way is repeated: votes that were refused for a moment are free.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// The holder named this node its successor.
    pub(super) fn succeed(&mut self, now: Instant) {
        self.succeeds_until = Some(now + RESERVED);
    }

    pub(super) fn succeeds(&self, now: Instant) -> bool {
        self.succeeds_until.is_some_and(|until| now < until)
    }

    /// A refusal that a successor gets was on its way before the predecessor's word.
    pub(super) fn refused_early(&mut self, now: Instant) {
        if self.succeeds(now) {
            self.again_at = Some(now + SOON);
        }
    }

    /// How long a request waits for its votes before it is taken back.
    pub(super) fn patience(&self, now: Instant, terms: &config::Lease) -> Duration {
        if self.succeeds(now) { terms.renew / 4 } else { terms.renew }
    }

    /// A request was begun.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked_at = now;
        self.again_at = None;
        self.denials.clear();
    }

    /// A voter refused the request under way; says whether it can no longer be won.
    pub(super) fn denied(
        &mut self,
        now: Instant,
        soon: Duration,
        from: VoterIx,
        why: Denial,
        voters: usize,
        majority: usize,
    ) -> bool {
        if self.denials.iter().any(|(voter, _)| *voter == from) {
            return false;
        }
        let left = match why {
            Denial::Held { left, .. } | Denial::Quiet { left } => left,
            Denial::Epoch { highest } => {
                // It may be the very one that was asked for, voted for by another's request.
                self.highest = self.highest.max(highest.saturating_add(1));
                Duration::ZERO
            }
            Denial::Unsettled
            | Denial::Config
            | Denial::OneWay
            | Denial::Clock
            | Denial::Doubt { .. } => Duration::MAX,
            Denial::Reserved { .. } => RESERVED,
        };
        self.denials.push((from, left));
        if left < soon {
            let at = now + left + SLACK;
            self.again_at = Some(self.again_at.map_or(at, |was| was.min(at)));
        }
        voters.saturating_sub(self.denials.len()) < majority
    }

    /// Sets when to ask again after a request that was not granted: when as many more votes as
    /// are needed may have become free.
    pub(super) fn ask_again(&mut self, now: Instant, terms: &config::Lease, majority: usize) {
        let voters = self.holder.votes().count();
        let mut left: Vec<_> = self.denials.iter().map(|(_, left)| *left).collect();
        left.sort_unstable();
        let needed = majority.saturating_sub(voters).max(1);
        let wait = left.get(needed - 1).copied().unwrap_or(terms.renew).min(terms.vote);
        self.retry_at = now + if self.succeeds(now) { SOON } else { wait + SLACK };
        self.denials.clear();
    }

    /// Somebody gave votes back: they may be had before the refusals said. Not at once after the
    /// last attempt, or candidates that cannot win would set each other off without end.
    pub(super) fn freed(&mut self, now: Instant) {
        self.retry_at = self.retry_at.min(now.max(self.asked_at + TURN));
    }

    /// This node's own vote was refused to a request that is under way, and need not be any more.
    pub(super) fn own_vote_is_free(&mut self, now: Instant) {
        if self.holder.is_asking() && !self.holder.is_open() {
            self.again_at = Some(now);
        }
    }

    /// Whether a holder goes on waiting for somebody better, as another wants the group from it.
    pub(super) fn defers(&mut self, now: Instant) -> bool {
        now < *self.wanted_since.get_or_insert(now) + DEFERENCE
    }

    /// Nobody wants it, or it is shut.
    pub(super) fn not_wanted(&mut self) {
        self.wanted_since = None;
    }

    /// When [`Seat::defers`] turns false by itself.
    pub(super) fn defers_until(&self) -> Option<Instant> {
        Some(self.wanted_since? + DEFERENCE)
    }

    /// How many live candidates come before this node; `others` are they, and how good they are.
    pub(super) fn rank(&self, me: VoterIx, others: impl Iterator<Item = (VoterIx, Worth)>) -> u32 {
        let own = (self.stand.worth, Reverse(me));
        let before = |(voter, worth): &(VoterIx, Worth)| {
            // Who let its lease run out is not waited for.
            self.voter.last().is_none_or(|g| g.to != *voter) && (*worth, Reverse(*voter)) > own
        };
        u32::try_from(others.filter(before).count()).unwrap_or(u32::MAX)
    }

    /// Whether this node would take the group from the holder it knows of. No preemption mode keeps
    /// the group where health is worse.
    pub(super) fn wants(&mut self, now: Instant, holder: Option<Worth>) -> bool {
        let Stand { worth: own, stickiness, .. } = self.stand;
        let could = self.stand.able && !self.stand.keeps;
        let holder = holder.filter(|_| could);
        if !holder.is_some_and(|theirs| own.is_preferred(theirs)) {
            self.better_since = None;
        }
        let Some(theirs) = holder else { return false };
        if own.is_healthier(theirs, stickiness) {
            return self.stand.proven;
        }
        let since = own.is_preferred(theirs).then(|| *self.better_since.get_or_insert(now));
        since.zip(self.stand.preempts_after).is_some_and(|(since, delay)| now >= since + delay)
    }

    /// When [`Seat::wants`] turns true by itself.
    pub(super) fn wants_at(&self) -> Option<Instant> {
        Some(self.better_since? + self.stand.preempts_after?)
    }
}
