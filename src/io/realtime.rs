//! A thread that must not be late: scheduling, timer slack, resident memory.
//!
//! glibc gives each thread a malloc arena of its own, and that is left alone on purpose: with
//! one arena for all (`M_ARENA_MAX`) a real-time thread would wait for a lock that a thread
//! without priority holds. Pages become resident as they are touched, so the arenas cost
//! address space only.
#![allow(unsafe_code, reason = "no crate wraps sched_setscheduler for musl, nor MCL_ONFAULT")]

use std::fmt;
use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};

/// Nanoseconds a timer may be late for the sake of saving power; zero would mean "the default".
const TIMER_SLACK_NS: libc::c_ulong = 1;

/// The calling thread runs before all others but interrupts and higher `priority` (1 to 99).
///
/// Threads and processes it starts do not inherit that. Timers that are not real-time get the
/// least slack in any case.
///
/// # Errors
/// Where the kernel refuses, the thread gets the best ordinary priority it may have, and the
/// error says in words what was refused and what it has.
pub fn enter(priority: i32) -> Result<(), Refused> {
    // A thread's own slack needs no privilege; without it a timer is 50 us late.
    let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
    set_round_robin(priority).map_err(|source| Refused {
        priority,
        source,
        nice: set_nice(-20).err(),
    })
}

/// A real-time thread that ran for `limit` without ever waiting is a bug; the kernel ends the
/// process (`SIGXCPU`, then `SIGKILL`) before it starves the host.
///
/// Holds for all threads of the process. Only time under a real-time policy counts.
///
/// # Errors
/// The hard limit is lower already.
pub fn limit_running(limit: Duration) -> io::Result<()> {
    let soft = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    Ok(setrlimit(Resource::RLIMIT_RTTIME, soft, soft.saturating_mul(2))?)
}

/// Keeps all memory of the process resident from its first use on.
///
/// # Errors
/// Needs `CAP_IPC_LOCK`, or a `RLIMIT_MEMLOCK` above all that is mapped.
pub fn lock_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes flags only, and changes nothing a Rust value could notice.
    check(unsafe { libc::mlockall(flags) })
}

/// Why a thread is not as punctual as it was meant to be.
#[derive(Debug, thiserror::Error)]
pub struct Refused {
    /// The real-time priority asked for.
    pub priority: i32,
    /// Why that was refused.
    pub source: io::Error,
    /// Why nice -20 was refused too, if it was.
    pub nice: Option<io::Error>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SCHED_RR {} refused: {}; ", self.priority, self.source)?;
        match &self.nice {
            None => write!(f, "runs at nice -20, adverts may be late under load"),
            Some(e) => write!(f, "nice -20 refused too: {e}; adverts will be late under load"),
        }
    }
}

fn set_round_robin(priority: i32) -> io::Result<()> {
    // SAFETY: plain integers, for which all zeroes is a value; musl has more fields than glibc.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: thread 0 is the caller, and the pointer is valid for the call. The system call is
    // made directly, since musl's function of that name always fails.
    let done =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    check(if done == 0 { 0 } else { -1 })
}

fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes integers only; 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: takes an integer only.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_is_real_time_alone_or_says_why_not() {
        let before = policy();
        let thread = std::thread::spawn(|| match enter(10) {
            Ok(()) => {
                assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_RR);
                let child = std::thread::spawn(policy).join().unwrap();
                assert_eq!(child, libc::SCHED_OTHER);
            }
            Err(refused) => assert!(refused.to_string().contains("SCHED_RR 10 refused")),
        });
        thread.join().unwrap();
        assert_eq!(policy(), before);
    }

    #[test]
    fn an_impossible_priority_is_refused_in_words() {
        let refused = std::thread::spawn(|| enter(1000).unwrap_err()).join().unwrap();
        assert_eq!(refused.source.raw_os_error(), Some(libc::EINVAL));
        assert!(refused.to_string().starts_with("SCHED_RR 1000 refused: Invalid argument"));
    }
}
