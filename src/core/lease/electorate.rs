//! The other voters: who is heard, with which configuration, how fast their clocks run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{Digest, Instant, VoterIx, Voters};
use crate::wire::peer::{Head, Report};

/// Clocks are compared over stretches of this length: long enough that a change of the round trip
/// time by milliseconds does not look like a clock that runs wrong.
const STRETCH: Duration = Duration::from_mins(1);
/// Two honest clocks differ by no more than twice what one may be wrong, in parts of a million;
/// as much again for the network.
const WRONG_PPM: i64 = 4_000;

/// One other voter, as this one sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Elector {
    heard: Option<Instant>,
    head: Option<Head>,
    reports: BTreeMap<u16, (Instant, Report)>,
    drift: Drift,
    twin: Option<Instant>,
    active_since: Aside<Option<Instant>>,
    parts: Aside<BTreeMap<u32, u64>>,
}

/// Parts of a file that are told and remembered: a few more than there can be groups.
pub(super) const PARTS: usize = 300;

/// What is for people only: two states that differ in nothing else are the same, as nothing is
/// decided by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside<T>(pub(super) T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

impl<T> std::hash::Hash for Aside<T> {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// How another's clock runs against ours, from the least delayed datagram of each stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Drift {
    began: Instant,
    best: Option<i64>,
    before: Option<i64>,
    ppm: Option<i64>,
}

impl Drift {
    fn sample(&mut self, now: Instant, theirs: Instant) {
        let offset = theirs.nanos().cast_signed().wrapping_sub(now.nanos().cast_signed());
        if self.best.is_some() && now >= self.began + STRETCH {
            let stretch = i64::try_from(now.since(self.began).as_micros()).unwrap_or(i64::MAX);
            let turned = self.before.zip(self.best).map(|(was, is)| is.wrapping_sub(was) / 1000);
            self.ppm = turned.map(|us| us.saturating_mul(1_000_000) / stretch.max(1));
            self.before = self.best.take();
        }
        if self.best.is_none() {
            self.began = now;
        }
        self.best = Some(self.best.map_or(offset, |best| best.max(offset)));
    }
}

impl Elector {
    /// A datagram of it came. Says whether it is news: one that others overtook says how things
    /// were, and nothing of what is.
    pub fn hear(&mut self, now: Instant, head: Head) -> bool {
        if self.head.is_some_and(|was| head.clock < was.clock) {
            return false;
        }
        self.heard = Some(now);
        self.drift.sample(now, head.clock);
        if self.head.is_none_or(|was| was.active != head.active) {
            self.active_since = Aside(Some(now));
            self.parts.0.clear();
        }
        if self.head.is_some_and(|was| was.active != head.active) {
            // Its reports were about the groups of another file.
            self.reports.clear();
        }
        self.head = Some(head);
        true
    }

    /// Whether `head` says what it said before, apart from the time, and it was heard within `limit`.
    pub fn says_the_same(&self, now: Instant, head: &Head, limit: Duration) -> bool {
        let gist = |h: &Head| Head { clock: Instant::BOOT, ..*h };
        self.is_alive(now, limit) && self.head.as_ref().map(gist) == Some(gist(head))
    }

    /// A session with a new run of it was agreed on; what the old one said is void.
    pub fn renewed(&mut self, now: Instant) {
        *self = Self { heard: Some(now), twin: self.twin, ..Self::default() };
    }

    /// Its host was switched off: what it said does not hold any more.
    pub fn ended(&mut self) {
        self.heard = None;
        self.reports.clear();
    }

    /// It said how it stands to a group.
    pub fn report(&mut self, now: Instant, group: u16, report: Report) {
        self.reports.insert(group, (now, report));
    }

    /// Two machines answer to its name.
    pub fn is_twin(&mut self, now: Instant) {
        self.twin = Some(now);
    }

    /// When two machines last answered to its name.
    pub fn twin(&self) -> Option<Instant> {
        self.twin
    }

    /// Whether it was heard within `limit`.
    pub fn is_alive(&self, now: Instant, limit: Duration) -> bool {
        self.heard.is_some_and(|at| now <= at + limit)
    }

    /// When it was last heard.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// What it last said of itself.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// What it last said of a group, if that is no older than `limit`.
    pub fn on(&self, now: Instant, group: u16, limit: Duration) -> Option<&Report> {
        self.reports.get(&group).filter(|(at, _)| now <= *at + limit).map(|(_, report)| report)
    }

    /// Until when it holds a group, as it said.
    pub fn holds_until(&self, group: u16) -> Option<Instant> {
        let (at, report) = self.reports.get(&group)?;
        Some(*at + report.holds).filter(|_| !report.holds.is_zero())
    }

    /// It gave a group up.
    pub fn gave_up(&mut self, group: u16) {
        if let Some((_, report)) = self.reports.get_mut(&group) {
            report.holds = Duration::ZERO;
        }
    }

    /// It said what its file says of one part.
    pub fn part(&mut self, name: u32, value: u64) {
        if self.parts.0.len() < PARTS || self.parts.0.contains_key(&name) {
            self.parts.0.insert(name, value);
        }
    }

    /// What its file says, by part, as far as it told.
    pub fn parts(&self) -> &BTreeMap<u32, u64> {
        &self.parts.0
    }

    /// Since when it is known to run with the configuration that it last named.
    pub fn active_since(&self) -> Option<Instant> {
        self.active_since.0
    }

    /// Whether it runs with `digest`.
    pub fn runs(&self, digest: Digest) -> bool {
        self.head.is_some_and(|h| h.active == digest)
    }

    /// Whether it runs with `digest` or is ready to.
    pub fn accepts(&self, digest: Digest) -> bool {
        self.head.is_some_and(|h| h.active == digest || h.next == digest)
    }

    /// Whether it hears `voter`.
    pub fn hears(&self, voter: VoterIx) -> bool {
        self.head.is_some_and(|h| h.heard.has(voter))
    }

    /// How much faster its clock runs than ours in millionths, where that is more than two
    /// honest clocks can differ.
    pub fn wrong_clock(&self) -> Option<i64> {
        self.drift.ppm.filter(|ppm| ppm.abs() > WRONG_PPM)
    }
}

/// Those of `electors` that were heard within `limit`, and `me`.
pub(super) fn heard(electors: &[Elector], me: VoterIx, now: Instant, limit: Duration) -> Voters {
    let alive = (0..).map(VoterIx).zip(electors).filter(|(_, e)| e.is_alive(now, limit));
    alive.fold(Voters::NONE.with(me), |set, (voter, _)| set.with(voter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(ppm: i64) -> Option<i64> {
        let mut elector = Elector::default();
        for ms in (0..200_000).step_by(100) {
            let now = Instant::from_nanos(1_000_000_000 + ms * 1_000_000);
            let theirs = ms.cast_signed() * 1_000_000;
            // Datagrams take a few milliseconds, never the same.
            let late = (ms % 7) * 1_000_000;
            let clock = Instant::from_nanos((theirs + theirs / 1_000_000 * ppm).cast_unsigned());
            let head = Head {
                active: Digest(1),
                next: Digest(1),
                settled: true,
                heard: Voters::NONE,
                clock,
                gate: None,
                watchdog: None,
            };
            elector.hear(now + Duration::from_nanos(late), head);
        }
        elector.wrong_clock()
    }

    #[test]
    fn what_was_overtaken_is_no_news() {
        let head = |active, ms: u64| Head {
            active: Digest(active),
            next: Digest(active),
            settled: true,
            heard: Voters::NONE,
            clock: Instant::from_nanos(ms * 1_000_000),
            gate: None,
            watchdog: None,
        };
        let mut elector = Elector::default();
        let now = Instant::from_nanos(1);
        assert!(elector.hear(now, head(1, 10)));
        assert!(elector.hear(now, head(2, 20)));
        assert!(!elector.hear(now, head(1, 15)));
        assert!(elector.runs(Digest(2)));
        elector.renewed(now);
        assert!(elector.hear(now, head(1, 5)), "another run, perhaps after a reboot");
    }

    #[test]
    fn a_clock_that_runs_wrong_is_told_from_a_slow_network() {
        assert_eq!(drift(0), None);
        assert_eq!(drift(1_000), None);
        assert!(drift(10_000).is_some_and(|ppm| (9_000..11_000).contains(&ppm)));
        assert!(drift(-10_000).is_some());
    }
}
