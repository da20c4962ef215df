//! Whether this host's clocks can be trusted: a lease counts on no clock being wrong by more than
//! [`config::Lease::DRIFT`] says.
//!
//! The boot clock is steered by whoever keeps the time of day; the raw one is the bare hardware.
//! What is judged here was read before, so that it can be tested.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::clock;
use crate::config;
use crate::types::Instant;

/// Over how many looks, which are a second apart, the rate is judged.
const LOOKS: usize = 10;
/// The shortest stretch that says something: what a reading is off by is little against it.
const STRETCH: Duration = Duration::from_secs(5);
/// How much further than the boot clock the clock of the mainboard may go between two looks: it
/// counts whole seconds.
const JUMP: Duration = Duration::from_secs(2);
/// How often the clocks are read for one look: the best reading is the least disturbed one.
const TRIES: usize = 5;

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, as it is steered.
    pub steered: Duration,
    /// `CLOCK_MONOTONIC_RAW`, as the hardware counts.
    pub raw: Duration,
    /// How far apart the two may have been read.
    pub unsure: Duration,
    /// The boot clock.
    pub boot: Instant,
    /// The clock of the mainboard, seconds; `None` where there is none.
    pub board: Option<u64>,
}

/// What a look found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Whether the clock can be trusted, if that changed.
    pub clock: Option<Result<(), Box<str>>>,
    /// The mainboard's clock went on by that many seconds more than the boot clock, or less.
    pub jump: Option<i64>,
}

/// The looks of the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Timekeeper {
    looks: VecDeque<Reading>,
    wrong: bool,
}

impl Timekeeper {
    /// Takes a look into account.
    pub fn look(&mut self, now: Reading) -> Finding {
        let jump = self.looks.back().and_then(|before| jump(before, &now));
        let rate = self.looks.front().and_then(|first| rate(first, &now));
        self.looks.push_back(now);
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let clock = rate.and_then(|(ppm, wrong, right)| {
            if wrong && !self.wrong {
                self.wrong = true;
                let how = if ppm > 0 { "fast" } else { "slow" };
                let by = ppm.unsigned_abs();
                let why = format!("the clock of this host runs {by} millionths too {how}");
                return Some(Err(why.into_boxed_str()));
            }
            if right && self.wrong {
                self.wrong = false;
                return Some(Ok(()));
            }
            None
        });
        Finding { clock, jump }
    }
}

/// By how many millionths the steered clock is faster than the raw one; whether that is certainly
/// more than it may be, and whether it is well within that again. `None` where the time between
/// is too short.
fn rate(first: &Reading, now: &Reading) -> Option<(i128, bool, bool)> {
    let raw = now.raw.checked_sub(first.raw).filter(|d| *d >= STRETCH)?;
    let nanos = |d: Duration| d.as_nanos().cast_signed();
    let off = nanos(now.steered) - nanos(first.steered) - nanos(raw);
    let unsure = (first.unsure + now.unsure).as_nanos();
    let drift = u128::from(config::Lease::DRIFT);
    let wrong = off.unsigned_abs().saturating_sub(unsure) * drift > raw.as_nanos();
    // Half of it: not to and fro at the limit.
    let right = (off.unsigned_abs() + unsure) * drift * 2 <= raw.as_nanos();
    Some((off * 1_000_000 / nanos(raw), wrong, right))
}

fn jump(before: &Reading, now: &Reading) -> Option<i64> {
    let board = now.board?.cast_signed() - before.board?.cast_signed();
    let boot = now.boot.since(before.boot);
    let seconds = i64::try_from(boot.as_secs()).unwrap_or(i64::MAX);
    let off = i128::from(board) * 1_000_000_000 - boot.as_nanos().cast_signed();
    (off.unsigned_abs() > JUMP.as_nanos()).then_some(board.saturating_sub(seconds))
}

/// Whether a clock source is one that a hypervisor offers.
pub fn is_paravirtual(source: &str) -> bool {
    ["kvm-clock", "xen", "hyperv"].iter().any(|known| source.starts_with(known))
}

/// Reads the clocks.
///
/// # Errors
/// The kernel has no such clock, which every one has.
pub fn read() -> std::io::Result<Reading> {
    let at = |id| -> std::io::Result<Duration> { Ok(clock_gettime(id)?.into()) };
    let mut best: Option<Reading> = None;
    for _ in 0..TRIES {
        let before = at(ClockId::CLOCK_MONOTONIC_RAW)?;
        let steered = at(ClockId::CLOCK_MONOTONIC)?;
        let raw = at(ClockId::CLOCK_MONOTONIC_RAW)?;
        let unsure = raw.saturating_sub(before);
        if best.is_none_or(|best| unsure < best.unsure) {
            best = Some(Reading { steered, raw, unsure, boot: clock::now(), board: None });
        }
    }
    let mut best = best.ok_or(std::io::ErrorKind::NotFound)?;
    let board = fs::read_to_string("/sys/class/rtc/rtc0/since_epoch");
    best.board = board.ok().and_then(|text| text.trim().parse().ok());
    // A mainboard answers slowly.
    best.boot = clock::now();
    Ok(best)
}

/// What the kernel counts time by; `None` where it does not say.
pub fn source() -> Option<String> {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A look at second `n` of a clock that is fast by `ppm`.
    fn at(n: u64, ppm: i64) -> Reading {
        let steered = (n * SECOND).checked_add_signed(n.cast_signed() * ppm * 1000).unwrap();
        Reading {
            steered: Duration::from_nanos(steered),
            raw: Duration::from_secs(n),
            unsure: Duration::from_micros(1),
            boot: Instant::from_nanos(n * SECOND),
            board: Some(1000 + n),
        }
    }

    #[test]
    fn a_clock_is_wrong_beyond_what_the_lease_allows_and_right_well_within() {
        for (ppm, wrong) in [(0, false), (999, false), (-999, false), (1100, true), (-1100, true)] {
            let mut keeper = Timekeeper::default();
            let found = (0..30).filter_map(|n| keeper.look(at(n, ppm)).clock).collect::<Vec<_>>();
            assert_eq!(found.len(), usize::from(wrong), "{ppm}: {found:?}");
            assert_eq!(found.first().is_some_and(Result::is_err), wrong, "{ppm}: {found:?}");
        }
        let mut keeper = Timekeeper::default();
        let mut found = Vec::new();
        let mut steered = Duration::ZERO;
        for n in 0..60 {
            let ppm = if n < 20 { 2000 } else { 0 };
            found.extend(keeper.look(Reading { steered, ..at(n, 0) }).clock.map(|c| (n, c)));
            steered += Duration::from_nanos(SECOND + ppm * 1000);
        }
        let [(bad, Err(why)), (good, Ok(()))] = found.as_slice() else { panic!("{found:?}") };
        assert!(*bad <= 6 && (20..=31).contains(good), "{found:?}");
        assert!(why.contains("2000 millionths too fast"), "{why}");
    }

    #[test]
    fn a_reading_that_was_disturbed_proves_nothing() {
        let mut keeper = Timekeeper::default();
        for n in 0..10 {
            assert_eq!(keeper.look(at(n, 0)).clock, None);
        }
        let late = at(10, 0);
        let off = Duration::from_millis(50);
        let late = Reading { steered: late.steered.saturating_sub(off), unsure: off, ..late };
        assert_eq!(keeper.look(late).clock, None);
    }

    #[test]
    fn a_pause_that_the_boot_clock_did_not_see_is_a_jump() {
        let mut keeper = Timekeeper::default();
        keeper.look(at(0, 0));
        assert_eq!(keeper.look(at(1, 0)).jump, None);
        let paused = |n: u64, by: i64| {
            let read = at(n, 0);
            Reading { board: read.board.and_then(|b| b.checked_add_signed(by)), ..read }
        };
        assert_eq!(keeper.look(paused(2, 2)).jump, None, "it counts whole seconds");
        assert_eq!(keeper.look(paused(3, 30)).jump, Some(28));
        assert_eq!(keeper.look(paused(4, -10)).jump, Some(-40));
        assert_eq!(keeper.look(Reading { board: None, ..at(5, 0) }).jump, None);
        // A host that slept, and whose boot clock knows it.
        let mut keeper = Timekeeper::default();
        keeper.look(at(0, 0));
        assert_eq!(keeper.look(at(600, 0)).jump, None);
    }

    #[test]
    fn sources_of_hypervisors() {
        for (source, is) in [("tsc", false), ("kvm-clock", true), ("hyperv_clocksource_msr", true)]
        {
            assert_eq!(is_paravirtual(source), is, "{source}");
        }
    }

    #[test]
    fn the_clocks_can_be_read() {
        let first = read().unwrap();
        let then = read().unwrap();
        assert!(then.raw >= first.raw && then.steered >= first.steered && then.boot > first.boot);
    }
}
