//! How long nobody answered while an address came to this host: what the one who takes over sees.
//!
//! While a move to this host is under way it asks for the address by ARP or neighbour discovery,
//! again and again. The gap is from the last answer of whoever had it to the moment the kernel has
//! it here.

use std::net::IpAddr;
use std::time::Duration;

use crate::types::Instant;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);
/// A move takes no longer; after that nothing is asked any more.
const LIMIT: Duration = Duration::from_secs(2);

/// A move to this host, as it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    ip: IpAddr,
    until: Instant,
    ask_at: Instant,
    answered: Option<Instant>,
}

impl Gap {
    /// `ip` is about to come here.
    pub(crate) fn begin(now: Instant, ip: IpAddr) -> Self {
        Self { ip, until: now + LIMIT, ask_at: now, answered: None }
    }

    /// Which address is asked for.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether to ask now.
    pub(crate) fn ask(&mut self, now: Instant) -> bool {
        let due = now >= self.ask_at;
        if due {
            self.ask_at = now + PAUSE;
        }
        due
    }

    /// Somebody else answered for `ip`.
    pub(crate) fn answered(&mut self, now: Instant, ip: IpAddr) {
        if ip == self.ip {
            self.answered = Some(now);
        }
    }

    /// When to ask again.
    pub(crate) fn deadline(&self) -> Instant {
        self.ask_at
    }

    /// Whether nothing came of it.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// The address is here: how long nobody had answered, if anybody had before.
    pub(crate) fn end(&self, now: Instant) -> Option<Duration> {
        self.answered.map(|at| now.since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    #[test]
    fn from_the_last_answer_to_the_first_moment_here() {
        let ip = [192, 0, 2, 85].into();
        let mut gap = Gap::begin(at(0), ip);
        assert!(gap.ask(at(0)));
        assert!(!gap.ask(at(999)));
        gap.answered(at(400), ip);
        assert!(gap.ask(at(1000)));
        gap.answered(at(1400), ip);
        gap.answered(at(2000), [192, 0, 2, 1].into());
        assert_eq!(gap.end(at(3900)), Some(Duration::from_micros(2500)));
        assert_eq!(Gap::begin(at(0), ip).end(at(3900)), None, "nobody had it");
        assert!(!gap.is_over(at(1_999_999)) && gap.is_over(at(2_000_000)));
    }
}
