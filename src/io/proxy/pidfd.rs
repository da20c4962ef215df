//! Waiting for the end of a process, which need not be a child.

#![allow(unsafe_code, reason = "tokio cannot know how long a descriptor stays open")]

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process: readable when it has ended.
pub(in crate::io) type Pidfd = AsyncFd<OwnedFd>;

/// Takes hold of process `pid`.
///
/// # Errors
/// There is no such process.
pub(in crate::io) fn open(pid: u32) -> io::Result<Pidfd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: an `OwnedFd` is open and the same until it is dropped, and nobody exchanges it.
    Ok(unsafe { Pidfd::register_with_interest(fd, Interest::READABLE) }?)
}
