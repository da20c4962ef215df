//! When a node is fenced, and what follows. PURE.
//!
//! [`Target`] is one node that can be: it is wanted, perhaps after a delay, by a node that has the
//! right to (`Target::step` says when to ask for that), switched off device by device, and down
//! until it is heard again. What cannot be done is tried again after a pause, for as long as it is
//! wanted, and named meanwhile.

mod ladder;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::{Device, FenceAction};
use crate::types::{GateId, Instant};

use super::event::Power;

pub use ladder::{Ladder, Next};

/// Between two failed fencings, at first; each pause is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// How long after it was switched off a node may be fenced again, if something is still in doubt.
const AFTER: Duration = Duration::from_secs(5);
/// What is heard so soon after it was switched off was on its way before.
const ECHO: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// Why a node is fenced.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It may serve, and is not heard.
    Lost,
    /// It says that it cannot give up what it must.
    Stuck,
    /// It advertises without having the lease.
    Rival,
    /// An operator said so.
    Ordered,
}

impl Why {
    /// In words, after the node's name.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Lost => "is not heard and may serve",
            Self::Stuck => "cannot give up what it must",
            Self::Rival => "serves without a lease",
            Self::Ordered => "is to be switched off, an operator says",
        }
    }
}

/// What is wanted of a target at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Why it is to be fenced.
    pub why: Why,
    /// How long that waits: for a holder, or for chance, to be first.
    pub delay: Duration,
    /// What is in doubt that its end would prove.
    pub marks: BTreeSet<GateId>,
}

/// What a target sees of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight<'a> {
    /// What is wanted of it.
    pub want: Option<Want>,
    /// When it was last heard.
    pub heard: Option<Instant>,
    /// Whether this node may fence it now.
    pub permit: bool,
    /// Its devices.
    pub devices: &'a [Device],
    /// Whether it is switched on again.
    pub action: FenceAction,
    /// Fencings in an hour.
    pub limit: u32,
}

/// What a target asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Have a device switch it off, and verify that; answered by [`Target::told`].
    Off(u16),
    /// Have a device switch it on; answered by [`Target::told`].
    On(u16),
    /// It began.
    Began(Why),
    /// It is verified off: these doubts are proven.
    Down {
        /// Why.
        why: Why,
        /// Since it began.
        took: Duration,
        /// What is proven.
        marks: BTreeSet<GateId>,
    },
    /// No level did it.
    Failed {
        /// Why it was to be.
        why: Why,
        /// Since it began.
        took: Duration,
        /// What the last device said.
        text: Box<str>,
    },
    /// It is not needed any more.
    Dropped(Why),
    /// Too often within an hour.
    Limited(Why),
    /// It is heard again.
    Returned,
    /// It could not be switched on again.
    StaysOff(Box<str>),
    /// It is switched on again.
    Powered,
}

/// How far it is with a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is wanted.
    #[default]
    Idle,
    /// It is wanted, but not yet.
    Delayed {
        /// Why.
        why: Why,
        /// Until then.
        until: Instant,
    },
    /// It waits for the right to be the one that does it.
    Asking {
        /// Why.
        why: Why,
        /// Since then.
        since: Instant,
    },
    /// A device is at work, or about to be.
    Off {
        /// Why.
        why: Why,
        /// When it began.
        began: Instant,
        /// When the device is to be used; `None` while it is.
        at: Option<Instant>,
        /// Which device.
        device: u16,
    },
    /// It is verified off, and was not heard since.
    Down {
        /// Why.
        why: Why,
        /// Since then.
        at: Instant,
    },
    /// It could not be done, and is tried again.
    Failed {
        /// Why it was to be.
        why: Why,
        /// Since then.
        at: Instant,
        /// When it is tried again.
        again: Instant,
        /// What the last device said.
        text: Box<str>,
    },
    /// Too many within an hour.
    Limited {
        /// Why it was to be.
        why: Why,
        /// Since then.
        at: Instant,
    },
}

/// One node that can be fenced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    phase: Phase,
    ladder: Option<Ladder>,
    marks: BTreeSet<GateId>,
    failures: u32,
    /// An hour after each time that it was fenced.
    recent: Vec<Instant>,
    /// The devices that were to switch it off since it was last on for sure, and whether they say
    /// that they did: one that failed may have done it all the same.
    used: Vec<(u16, bool)>,
    /// Devices that are to switch it on again, whether one is at work, and whether one has failed.
    rest: Vec<u16>,
    /// Those of them that are not known to have switched it off: that they fail again says nothing.
    doubtful: Vec<u16>,
    powering: bool,
    stays: bool,
    /// Whether the run before this one left that to be done.
    owed: bool,
}

impl Target {
    /// How far it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether this node means to fence it, or to switch it on again, and needs the right to.
    pub fn seeks(&self) -> bool {
        self.owed || matches!(self.phase, Phase::Asking { .. })
    }

    /// Whether a device of it is at work. One that switches it on again is, too: nobody must
    /// switch it off meanwhile, or two devices of a level would never be off together.
    pub fn is_at_work(&self) -> bool {
        self.powering || matches!(self.phase, Phase::Off { .. })
    }

    /// When time alone changes something.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Delayed { until, .. } => Some(until),
            Phase::Off { at, .. } => at,
            Phase::Failed { again, .. } => Some(again),
            Phase::Down { at, .. } => Some(at + AFTER),
            Phase::Limited { .. } => self.recent.first().copied(),
            Phase::Idle | Phase::Asking { .. } => None,
        }
    }

    /// Follows up on what is wanted now.
    pub fn step(&mut self, now: Instant, sight: &Sight<'_>, out: &mut Vec<Deed>) {
        self.recent.retain(|until| now < *until);
        if self.owed && sight.heard.is_some() {
            self.owed = false;
        } else if self.owed && sight.permit && !self.is_at_work() {
            self.owed = false;
            self.power_on(out);
        }
        // Each pass ends in a phase that waits, or goes one further; they are few.
        for _ in 0..4 {
            let before = std::mem::discriminant(&self.phase);
            self.advance(now, sight, out);
            if std::mem::discriminant(&self.phase) == before {
                break;
            }
        }
    }

    fn advance(&mut self, now: Instant, sight: &Sight<'_>, out: &mut Vec<Deed>) {
        let want = sight.want.as_ref();
        match (&self.phase, want) {
            (Phase::Idle, Some(want)) => {
                self.phase = Phase::Delayed { why: want.why, until: now + want.delay };
            }
            (Phase::Idle, None) => self.failures = 0,
            (Phase::Delayed { .. } | Phase::Asking { .. } | Phase::Limited { .. }, None) => {
                self.phase = Phase::Idle;
            }
            (Phase::Failed { why, .. }, None) => {
                out.push(Deed::Dropped(*why));
                self.phase = Phase::Idle;
                self.restore(&[], sight.action, out);
            }
            // Another reason, another delay.
            (Phase::Delayed { why, .. } | Phase::Asking { why, .. }, Some(want))
                if *why != want.why =>
            {
                self.phase = Phase::Delayed { why: want.why, until: now + want.delay };
            }
            (Phase::Delayed { why, until }, Some(_)) if now >= *until => {
                self.phase = Phase::Asking { why: *why, since: now };
            }
            (Phase::Asking { why, .. }, Some(want)) if sight.permit && !self.powering => {
                let why = *why;
                self.begin(now, why, want, sight, out);
            }
            (Phase::Off { why, began, at: Some(at), device }, _) if now >= *at => {
                let (why, began, device) = (*why, *began, *device);
                self.phase = Phase::Off { why, began, at: None, device };
                out.push(Deed::Off(device));
            }
            (Phase::Failed { why, again, .. }, Some(_)) if now >= *again => {
                self.phase = Phase::Asking { why: *why, since: now };
            }
            (Phase::Limited { why, .. }, Some(_)) if self.recent.len() < sight.limit as usize => {
                self.phase = Phase::Asking { why: *why, since: now };
            }
            (Phase::Down { at, .. }, _) if sight.heard.is_some_and(|heard| heard > *at + ECHO) => {
                out.push(Deed::Returned);
                self.phase = Phase::Idle;
            }
            (Phase::Down { at, .. }, Some(want)) if now >= *at + AFTER => {
                self.phase = Phase::Asking { why: want.why, since: now };
            }
            _ => {}
        }
    }

    fn begin(
        &mut self,
        now: Instant,
        why: Why,
        want: &Want,
        sight: &Sight<'_>,
        out: &mut Vec<Deed>,
    ) {
        if why != Why::Ordered && self.recent.len() >= sight.limit as usize {
            out.push(Deed::Limited(why));
            self.phase = Phase::Limited { why, at: now };
            return;
        }
        // What becomes known later is not proven by what begins now.
        self.marks.clone_from(&want.marks);
        self.owed = false;
        out.push(Deed::Began(why));
        let ladder = Ladder::new(sight.devices);
        let next = ladder.begin();
        self.ladder = Some(ladder);
        self.follow(now, why, now, next, "no device is configured", sight.action, out);
    }

    /// What became of the device that was at work: `Err` with what it said, and whether there is a
    /// point in trying it again.
    pub fn told(
        &mut self,
        now: Instant,
        (device, power): (u16, Power),
        result: Result<(), (Box<str>, bool)>,
        action: FenceAction,
        out: &mut Vec<Deed>,
    ) {
        if power == Power::Off {
            let Phase::Off { why, began, at: None, .. } = self.phase else {
                // A person's word came first. The node may run again by now, and has just been cut.
                if result.is_ok() && action == FenceAction::Reboot {
                    self.rest.push(device);
                    if !self.powering {
                        self.power_on(out);
                    }
                }
                return;
            };
            let Some(ladder) = &mut self.ladder else { return };
            self.used.retain(|(used, _)| *used != device);
            self.used.push((device, result.is_ok()));
            let next = match &result {
                Ok(()) => ladder.told(true, true),
                Err((_, again)) => ladder.told(false, *again),
            };
            let text = result.err().map(|(text, _)| text).unwrap_or_default();
            self.follow(now, why, began, next, &text, action, out);
        } else if std::mem::take(&mut self.powering) {
            if let Err((text, _)) = result
                && !self.doubtful.contains(&device)
            {
                self.stays = true;
                out.push(Deed::StaysOff(text));
            }
            if self.rest.is_empty() && !std::mem::take(&mut self.stays) {
                out.push(Deed::Powered);
            }
            self.power_on(out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of one state")]
    fn follow(
        &mut self,
        now: Instant,
        why: Why,
        began: Instant,
        next: Next,
        text: &str,
        action: FenceAction,
        out: &mut Vec<Deed>,
    ) {
        let took = now.since(began);
        match next {
            Next::Use { device, after } => {
                let at = Some(now + after).filter(|_| !after.is_zero());
                self.phase = Phase::Off { why, began, at, device };
                if at.is_none() {
                    out.push(Deed::Off(device));
                }
            }
            Next::Done { devices } => {
                self.ladder = None;
                self.failures = 0;
                self.recent.push(now + HOUR);
                self.phase = Phase::Down { why, at: now };
                out.push(Deed::Down { why, took, marks: std::mem::take(&mut self.marks) });
                self.restore(&devices, action, out);
            }
            Next::Failed => {
                self.ladder = None;
                let pause = PAUSE * 2_u32.saturating_pow(self.failures.min(5));
                self.failures += 1;
                let again = now + pause.min(LONGEST_PAUSE);
                out.push(Deed::Failed { why, took, text: text.into() });
                self.phase = Phase::Failed { why, at: now, again, text: text.into() };
            }
        }
    }

    /// Has everything that was used switched on: `first`, which is what feeds it, then the rest,
    /// the last one used first.
    fn restore(&mut self, first: &[u16], action: FenceAction, out: &mut Vec<Deed>) {
        let used = std::mem::take(&mut self.used);
        if action != FenceAction::Reboot {
            return;
        }
        let others = used.iter().rev().map(|(device, _)| *device);
        self.rest.extend(first);
        self.rest.extend(others.filter(|device| !first.contains(device)));
        self.doubtful = used.iter().filter(|(_, ok)| !ok).map(|(device, _)| *device).collect();
        if !self.powering {
            self.power_on(out);
        }
    }

    fn power_on(&mut self, out: &mut Vec<Deed>) {
        if !self.rest.is_empty() {
            self.powering = true;
            out.push(Deed::On(self.rest.remove(0)));
        }
    }

    /// What the run before this one did: how long ago it was fenced, each time, and which devices
    /// are to switch it on, where that was left to be done.
    pub fn recall(&mut self, now: Instant, fenced: &[Duration], rest: Vec<u16>) {
        let left = fenced.iter().filter_map(|ago| HOUR.checked_sub(*ago));
        self.recent.extend(left.map(|left| now + left));
        self.recent.sort_unstable();
        self.owed = !rest.is_empty();
        self.rest = rest;
    }

    /// A person says that it is off.
    pub fn confirm(&mut self, now: Instant) {
        self.ladder = None;
        self.failures = 0;
        self.used.clear();
        self.phase = Phase::Down { why: Why::Ordered, at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn want(why: Why) -> Want {
        Want { why, delay: Duration::ZERO, marks: BTreeSet::from([GateId(7)]) }
    }

    struct Bench {
        target: Target,
        devices: Vec<Device>,
        action: FenceAction,
        /// The one that was used last.
        device: u16,
    }

    impl Bench {
        fn new(devices: usize) -> Self {
            let devices = vec![Device { attempts: 1, ..Device::of("fence_dummy") }; devices];
            Self { target: Target::default(), devices, action: FenceAction::Off, device: 0 }
        }

        fn see(&mut self, ms: u64, want: Option<Want>, heard: bool, permit: bool) -> Vec<Deed> {
            let sight = Sight {
                want,
                heard: heard.then(|| at(ms)),
                permit,
                devices: &self.devices,
                action: self.action,
                limit: 2,
            };
            let mut out = Vec::new();
            self.target.step(at(ms), &sight, &mut out);
            self.noted(out)
        }

        fn told(&mut self, ms: u64, ok: bool) -> Vec<Deed> {
            let mut out = Vec::new();
            let result = if ok { Ok(()) } else { Err(("no power".into(), true)) };
            let power = if self.target.powering { Power::On } else { Power::Off };
            self.target.told(at(ms), (self.device, power), result, self.action, &mut out);
            self.noted(out)
        }

        fn noted(&mut self, out: Vec<Deed>) -> Vec<Deed> {
            for deed in &out {
                if let Deed::Off(device) | Deed::On(device) = deed {
                    self.device = *device;
                }
            }
            out
        }
    }

    fn down(ms: u64) -> Deed {
        let marks = BTreeSet::from([GateId(7)]);
        Deed::Down { why: Why::Lost, took: Duration::from_millis(ms), marks }
    }

    #[test]
    fn a_lost_node_is_fenced_by_who_has_the_right_to() {
        let mut bench = Bench::new(1);
        assert_eq!(bench.see(0, Some(want(Why::Lost)), false, false), []);
        assert!(bench.target.seeks());
        let begins = [Deed::Began(Why::Lost), Deed::Off(0)];
        assert_eq!(bench.see(10, Some(want(Why::Lost)), false, true), begins);
        assert_eq!(bench.see(20, None, false, false), [], "what began goes on");
        assert_eq!(bench.told(510, true), [down(500)]);
        assert_eq!(bench.see(600, None, false, false), []);
        assert_eq!(bench.see(60_000, None, true, false), [Deed::Returned]);
        assert_eq!(*bench.target.phase(), Phase::Idle);
    }

    #[test]
    fn what_becomes_known_while_a_device_works_is_not_proven_by_it() {
        let mut bench = Bench::new(1);
        bench.see(0, Some(want(Why::Lost)), false, true);
        let more = Want { marks: BTreeSet::from([GateId(7), GateId(8)]), ..want(Why::Lost) };
        assert_eq!(bench.see(100, Some(more.clone()), false, true), []);
        assert_eq!(bench.told(500, true), [down(500)]);
        assert_eq!(bench.see(600, Some(more.clone()), false, true), [], "not at once again");
        assert_eq!(bench.see(5_500, Some(more), false, true).len(), 2);
    }

    #[test]
    fn a_delay_gives_the_other_time_to_come_back() {
        let mut bench = Bench::new(1);
        let late = Want { delay: Duration::from_secs(2), ..want(Why::Lost) };
        assert_eq!(bench.see(0, Some(late.clone()), false, true), []);
        assert_eq!(bench.target.deadline(), Some(at(2_000)));
        assert_eq!(bench.see(1_900, None, true, true), []);
        assert_eq!(*bench.target.phase(), Phase::Idle);
        assert_eq!(bench.see(2_000, Some(late.clone()), false, true), []);
        assert_eq!(bench.see(4_000, Some(late), false, true).len(), 2);
    }

    #[test]
    fn what_fails_is_named_and_tried_again_more_and_more_seldom() {
        let mut bench = Bench::new(1);
        bench.see(0, Some(want(Why::Lost)), false, true);
        let failed = |ms| Deed::Failed {
            why: Why::Lost,
            took: Duration::from_millis(ms),
            text: "no power".into(),
        };
        assert_eq!(bench.told(100, false), [failed(100)]);
        assert_eq!(bench.see(5_000, Some(want(Why::Lost)), false, true), []);
        assert_eq!(bench.see(5_100, Some(want(Why::Lost)), false, true).len(), 2);
        assert_eq!(bench.told(5_200, false), [failed(100)]);
        assert_eq!(bench.target.deadline(), Some(at(15_200)));
        assert_eq!(bench.see(9_000, None, true, true), [Deed::Dropped(Why::Lost)]);
    }

    #[test]
    fn there_is_a_limit_but_not_for_an_operator() {
        let mut bench = Bench::new(1);
        for round in [0, 100_000] {
            assert_eq!(bench.see(round, Some(want(Why::Lost)), false, true).len(), 2);
            bench.told(round + 1, true);
            assert_eq!(bench.see(round + 2, None, true, true), [], "that was on its way");
            bench.see(round + 2_000, None, true, true);
        }
        let limited = [Deed::Limited(Why::Lost)];
        assert_eq!(bench.see(200_000, Some(want(Why::Lost)), false, true), limited);
        assert_eq!(bench.see(200_001, None, true, true), []);
        assert_eq!(bench.see(200_002, Some(want(Why::Ordered)), false, true).len(), 2);
    }

    #[test]
    fn power_comes_back_in_the_background() {
        let mut bench = Bench::new(2);
        bench.action = FenceAction::Reboot;
        bench.see(0, Some(want(Why::Lost)), false, true);
        assert_eq!(bench.told(10, true), [Deed::Off(1)]);
        assert_eq!(bench.told(15, true), [Deed::Off(0)], "is it still?");
        assert_eq!(bench.told(20, true), [down(20), Deed::On(0)]);
        assert_eq!(bench.told(30, false), [Deed::StaysOff("no power".into()), Deed::On(1)]);
        assert_eq!(bench.told(40, true), []);
    }

    /// It may have switched off before it said that it failed.
    #[test]
    fn what_failed_is_switched_on_too_and_may_fail_again() {
        let mut bench = Bench { action: FenceAction::Reboot, ..Bench::new(2) };
        bench.devices[1].level = 2;
        bench.see(0, Some(want(Why::Lost)), false, true);
        assert_eq!(bench.told(10, false), [Deed::Off(1)]);
        assert_eq!(bench.told(20, true), [down(20), Deed::On(1)]);
        assert_eq!(bench.told(30, true), [Deed::On(0)]);
        assert_eq!(bench.told(40, false), [Deed::Powered]);
    }

    /// One of two power supplies stays off otherwise, and nobody notices.
    #[test]
    fn what_was_switched_off_in_vain_is_switched_on_once_nobody_wants_it() {
        let mut bench = Bench { action: FenceAction::Reboot, ..Bench::new(2) };
        bench.see(0, Some(want(Why::Lost)), false, true);
        assert_eq!(bench.told(10, true), [Deed::Off(1)]);
        assert!(matches!(bench.told(20, false)[..], [Deed::Failed { .. }]));
        assert_eq!(bench.see(30, None, true, true), [Deed::Dropped(Why::Lost), Deed::On(1)]);
        assert_eq!(bench.told(40, false), [Deed::On(0)]);
        assert_eq!(bench.told(50, true), [Deed::Powered]);
    }

    #[test]
    fn a_node_that_is_being_switched_on_is_not_switched_off_meanwhile() {
        let mut bench = Bench::new(1);
        bench.action = FenceAction::Reboot;
        bench.see(0, Some(want(Why::Lost)), false, true);
        assert_eq!(bench.told(10, true), [down(10), Deed::On(0)]);
        assert!(bench.target.is_at_work());
        assert_eq!(bench.see(6_000, Some(want(Why::Lost)), false, true), []);
        assert_eq!(bench.told(7_000, true), [Deed::Powered]);
        let begins = [Deed::Began(Why::Lost), Deed::Off(0)];
        assert_eq!(bench.see(7_000, Some(want(Why::Lost)), false, true), begins);
        let mut out = Vec::new();
        bench.target.told(at(7_010), (0, Power::On), Ok(()), bench.action, &mut out);
        assert_eq!(out, [], "that it is on does not mean that it is off");
    }

    #[test]
    fn what_the_run_before_did_counts_and_is_brought_to_its_end() {
        let mut bench = Bench::new(1);
        let minutes = |n| Duration::from_mins(n);
        bench.target.recall(at(0), &[minutes(70), minutes(50), minutes(10)], vec![0]);
        assert_eq!(bench.see(1, None, false, false), []);
        assert!(bench.target.seeks());
        assert_eq!(bench.see(2, None, false, true), [Deed::On(0)]);
        assert_eq!(bench.told(3, true), [Deed::Powered]);
        assert_eq!(bench.see(4, Some(want(Why::Lost)), false, true), [Deed::Limited(Why::Lost)]);
        assert_eq!(bench.target.deadline(), Some(at(600_000)));
        assert_eq!(bench.see(600_000, Some(want(Why::Lost)), false, true).len(), 2);
        // Who is heard needs no help.
        let mut bench = Bench::new(1);
        bench.target.recall(at(0), &[], vec![0]);
        assert_eq!(bench.see(1, None, true, true), []);
        assert!(!bench.target.seeks());
    }

    #[test]
    fn a_person_may_say_that_it_is_off() {
        let mut bench = Bench::new(1);
        bench.see(0, Some(want(Why::Lost)), false, true);
        bench.told(100, false);
        bench.target.confirm(at(200));
        assert!(matches!(bench.target.phase(), Phase::Down { .. }));
        assert_eq!(bench.told(300, true), []);
    }

    /// The node was started again by then: it does not stay off.
    #[test]
    fn a_device_that_cuts_the_power_after_that_is_to_switch_it_on() {
        let mut bench = Bench { action: FenceAction::Reboot, ..Bench::new(1) };
        bench.see(0, Some(want(Why::Lost)), false, true);
        bench.target.confirm(at(200));
        assert_eq!(bench.told(300, true), [Deed::On(0)]);
        assert_eq!(bench.told(310, true), [Deed::Powered]);
    }
}
