//! What packets told lately: each sign lasts a minute after it was last seen, and is told once.

use std::net::IpAddr;
use std::time::Duration;

use crate::types::{Instant, Mac};
use crate::wire::vrrp::ParseError;

use super::status::Severity;

/// How long a sign lasts after it was last seen.
pub(crate) const LASTS: Duration = Duration::from_mins(1);
/// A longer pause ends a streak.
const BREAK: Duration = Duration::from_secs(1);
/// What goes on for this long is no coincidence.
const PERSISTS: Duration = Duration::from_secs(2);
/// The least time between two lines about one kind of evidence from different sources.
const NEWS_EVERY: Duration = Duration::from_secs(1);
/// The least time between two lines about dropped packets; doubles while they go on.
const DROPS_EVERY: Duration = Duration::from_secs(1);
/// The longest such time.
const DROPS_RARELY: Duration = Duration::from_mins(1);

/// One kind of evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sign {
    seen: Option<Seen>,
}

/// When and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) since: Instant,
    pub(crate) last: Instant,
    pub(crate) from: IpAddr,
    /// Since when it goes on without a break.
    pub(crate) streak: Instant,
}

impl Sign {
    /// Records it; `true` if it is news.
    pub(crate) fn see(&mut self, now: Instant, from: IpAddr) -> bool {
        match &mut self.seen {
            Some(seen)
                if now <= seen.last + LASTS
                    && (seen.from == from || now < seen.since + NEWS_EVERY) =>
            {
                if now > seen.last + BREAK || seen.from != from {
                    seen.streak = now;
                }
                (seen.last, seen.from) = (now, from);
                false
            }
            seen => {
                *seen = Some(Seen { since: now, last: now, from, streak: now });
                true
            }
        }
    }

    /// Whom it is about, if it has gone on for a while and still does.
    pub(crate) fn goes_on(&self, now: Instant) -> Option<IpAddr> {
        let seen = self.seen.filter(|s| now <= s.last + BREAK && s.last >= s.streak + PERSISTS)?;
        Some(seen.from)
    }

    /// The evidence, while it lasts.
    pub(crate) fn now(&self, now: Instant) -> Option<Seen> {
        self.seen.filter(|s| now <= s.last + LASTS)
    }
}

/// Everything packets told a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signs {
    /// Another router was Active at the same time and lost.
    pub(crate) rival: Sign,
    /// A router that is neither a node nor a configured router.
    pub(crate) foreign: Sign,
    /// Somebody sends from our own address.
    pub(crate) duplicate: Sign,
    /// Somebody else also says it owns the addresses.
    pub(crate) owner: Sign,
    /// An Active router with our own priority.
    pub(crate) equal: Sign,
    /// An accepted advert with another list of addresses.
    pub(crate) list: Sign,
    /// An accepted advert with another interval than configured here.
    pub(crate) interval: Sign,
    /// An IPv6 advert whose first address is not link-local.
    pub(crate) first: Sign,
    /// Another machine answers ARP or ND for an address held here.
    pub(crate) conflict: Sign,
    pub(crate) conflict_with: Option<Mac>,
    /// A peer advertises while this node is Active, and its packets are dropped.
    pub(crate) split: Sign,
    /// The last reason a packet was dropped.
    pub(crate) dropped: Sign,
    pub(crate) dropped_for: Option<Dropped>,
}

impl Signs {
    /// Those that need no more words than the address they came from, with the names of their
    /// conditions.
    pub(crate) fn named(&self) -> [(&'static str, Severity, Sign, &'static str); 8] {
        [
            ("rival", Severity::Warn, self.rival, "was Active at the same time"),
            (
                "foreign-router",
                Severity::Warn,
                self.foreign,
                "advertises our VRID but is not in the file",
            ),
            (
                "duplicate-node",
                Severity::Error,
                self.duplicate,
                "is our own address, used by another machine",
            ),
            (
                "two-owners",
                Severity::Error,
                self.owner,
                "also says it owns the addresses (priority 255)",
            ),
            (
                "equal-priority",
                Severity::Warn,
                self.equal,
                "has our priority: addresses break the tie",
            ),
            (
                "address-list-differs",
                Severity::Warn,
                self.list,
                "advertises other addresses than this file",
            ),
            (
                "interval-differs",
                Severity::Info,
                self.interval,
                "advertises at another interval than this file",
            ),
            (
                "no-link-local-first",
                Severity::Info,
                self.first,
                "does not advertise a link-local address first",
            ),
        ]
    }
}

/// Why a packet that named our virtual router was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("interval {got} s, expected {expected} s (RFC 3768 wants them equal)")]
    Interval { got: u16, expected: u16 },
    #[error("not from a configured peer")]
    Stranger,
    #[error("sent to {0}, expected the multicast group")]
    Unicast(IpAddr),
    #[error("sent by multicast, expected unicast")]
    Multicast,
}

impl Dropped {
    /// The name of the condition.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parse(ParseError::Version { .. }) => "version-mismatch",
            Self::Parse(ParseError::AuthType { .. } | ParseError::Auth) => "auth-mismatch",
            Self::Interval { .. } => "interval-mismatch",
            Self::Stranger => "stranger",
            Self::Unicast(_) | Self::Multicast => "transport-mismatch",
            Self::Parse(
                ParseError::Hops { .. }
                | ParseError::Type { .. }
                | ParseError::Length { .. }
                | ParseError::Checksum { .. }
                | ParseError::VrId
                | ParseError::Count
                | ParseError::Interval,
            ) => "bad-packets",
        }
    }
}

/// Bounds the lines about dropped packets: to one a second, and to fewer when they go on, so that
/// they do not wash everything else out of the log.
#[derive(Debug, Default)]
pub(crate) struct DropLog {
    until: Option<Instant>,
    pause: Duration,
    count: u64,
    last: Option<(u16, IpAddr, Dropped)>,
}

/// What to tell since the last line.
pub(crate) struct Drops {
    pub(crate) count: u64,
    pub(crate) group: u16,
    pub(crate) from: IpAddr,
    pub(crate) why: Dropped,
}

impl DropLog {
    pub(crate) fn add(
        &mut self,
        now: Instant,
        group: u16,
        from: IpAddr,
        why: Dropped,
    ) -> Option<Drops> {
        self.count += 1;
        self.last = Some((group, from, why));
        if self.until.is_none() { self.flush(now) } else { None }
    }

    /// Ends a pause; says what was dropped in it.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Drops> {
        if self.until.is_none_or(|at| now < at) {
            return None;
        }
        self.until = None;
        if self.count == 0 {
            self.pause = Duration::ZERO;
            return None;
        }
        self.flush(now)
    }

    fn flush(&mut self, now: Instant) -> Option<Drops> {
        let (group, from, why) = self.last.take()?;
        self.pause = (self.pause * 2).clamp(DROPS_EVERY, DROPS_RARELY);
        self.until = Some(now + self.pause);
        Some(Drops { count: std::mem::take(&mut self.count), group, from, why })
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_take_turns_are_told_once_a_second() {
        let mut sign = Sign::default();
        let begin = Instant::from_nanos(1_000_000_000);
        let source = |n: u8| IpAddr::from([192, 0, 2, n]);
        let told = (0..3000_u64).filter(|ms| {
            let now = begin + Duration::from_millis(*ms);
            sign.see(now, source(u8::try_from(ms % 2).unwrap_or_default()))
        });
        assert_eq!(told.count(), 3);
        assert_eq!(sign.now(begin + 3 * NEWS_EVERY).map(|s| s.from), Some(source(1)));
    }
}
