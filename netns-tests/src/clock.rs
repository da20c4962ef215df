//! The one clock of the lab.

use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// A moment on the wall clock, in nanoseconds since the epoch.
///
/// The kernel stamps packets with this clock, so probes, captures and address events compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// This moment.
    ///
    /// # Panics
    /// Without a wall clock, which Linux always has.
    pub fn now() -> Self {
        Self::from(clock_gettime(ClockId::CLOCK_REALTIME).expect("the wall clock is always there"))
    }

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From nanoseconds on the clock of the daemons, which counts from the boot.
    ///
    /// # Panics
    /// Without that clock, which Linux always has.
    pub fn of_boot_clock(nanos: u64) -> Self {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the boot clock is always there");
        Self(Self::now().0.saturating_sub(Self::from(boot).0.saturating_sub(nanos)))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this moment; zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `d` before this one.
    #[must_use]
    pub fn before(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl From<TimeSpec> for Stamp {
    fn from(t: TimeSpec) -> Self {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or_default();
        Self(seconds * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or_default())
    }
}

impl std::ops::Add<Duration> for Stamp {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0 + u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 2))
    }
}

/// Asks `done` again and again until it says yes; what a test does where the kernel or a foreign
/// daemon offers no event to wait for. An error is no answer yet: who is asked may still be starting.
///
/// # Errors
/// After `within` the last error of `done`, or else [`crate::Error::Timeout`] with `what` was
/// waited for.
pub fn wait_until(
    what: &str,
    within: Duration,
    mut done: impl FnMut() -> crate::Result<bool>,
) -> crate::Result<Stamp> {
    let deadline = Instant::now() + within;
    loop {
        let answer = done();
        if answer.as_ref().is_ok_and(|done| *done) {
            return Ok(Stamp::now());
        }
        if Instant::now() >= deadline {
            answer?;
            return Err(crate::Error::Timeout { what: what.to_owned(), within });
        }
        pause(Duration::from_millis(2));
    }
}

/// Lets `d` pass.
pub fn pause(d: Duration) {
    std::thread::sleep(d);
}
