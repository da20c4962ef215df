//! The boot clock and the one deadline the core thread waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::types::Instant;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// The moment it is, on `CLOCK_BOOTTIME`.
///
/// # Panics
/// If the kernel has no boot clock, which every Linux since 2.6.39 has.
pub fn now() -> Instant {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    let at = nix::time::clock_gettime(clock).expect("every supported kernel has the boot clock");
    // Neither part of a boot clock is ever negative.
    let nanos = at.tv_sec().unsigned_abs() * NANOS_PER_SEC + at.tv_nsec().unsigned_abs();
    Instant::from_nanos(nanos)
}

/// A deadline one can wait for with epoll.
#[derive(Debug)]
pub struct Timer {
    fd: TimerFd,
    armed: Option<Instant>,
}

impl Timer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// No file descriptor or memory left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { fd: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, armed: None })
    }

    /// Becomes readable at `deadline`, at once if that has passed; never for `None`.
    ///
    /// Costs nothing if that is what it was armed for.
    ///
    /// # Errors
    /// The kernel's; none is known for a valid time.
    pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if deadline == self.armed {
            return Ok(());
        }
        match deadline {
            // Zero would mean "never" to the kernel.
            Some(at) => self.fd.set(
                Expiration::OneShot(timespec(at.nanos().max(1))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?,
            None => self.fd.unset()?,
        }
        self.armed = deadline;
        Ok(())
    }

    /// Takes note that it went off: not readable until armed again.
    pub fn clear(&mut self) {
        let mut expirations = [0; 8];
        if nix::unistd::read(&self.fd, &mut expirations).is_ok() {
            self.armed = None;
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn timespec(nanos: u64) -> TimeSpec {
    let seconds = (nanos / NANOS_PER_SEC).try_into().unwrap_or(libc::time_t::MAX);
    let rest = (nanos % NANOS_PER_SEC).try_into().unwrap_or(0);
    TimeSpec::new(seconds, rest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn readable(timer: &Timer, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(milliseconds)).unwrap() == 1
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = now();
        assert!(first > Instant::BOOT);
        assert!(now() >= first);
    }

    #[test]
    fn it_goes_off_once_and_not_early() {
        let mut timer = Timer::new().unwrap();
        let deadline = now() + Duration::from_millis(5);
        timer.arm(Some(deadline)).unwrap();
        assert!(readable(&timer, 5000));
        assert!(now() >= deadline);
        timer.clear();
        assert!(!readable(&timer, 0));
        timer.arm(Some(deadline)).unwrap();
        assert!(readable(&timer, 5000), "a deadline that has passed goes off at once");
    }

    #[test]
    fn it_can_be_called_off() {
        let mut timer = Timer::new().unwrap();
        timer.arm(Some(Instant::BOOT)).unwrap();
        assert!(readable(&timer, 5000), "the moment of boot has passed too");
        timer.arm(None).unwrap();
        assert!(!readable(&timer, 0));
    }

    #[test]
    fn the_end_of_time_is_a_deadline() {
        let mut timer = Timer::new().unwrap();
        timer.arm(Some(Instant::from_nanos(u64::MAX))).unwrap();
        assert!(!readable(&timer, 0));
    }
}
