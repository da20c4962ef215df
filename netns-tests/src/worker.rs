//! A thread that ends when its owner goes.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::{Error, Result};

/// The owner's end: dropping it ends the thread and waits for it.
#[derive(Debug)]
pub(crate) struct Worker {
    alive: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end: readable once it should end.
pub(crate) struct Stop(PipeReader);

impl Worker {
    pub(crate) fn start(name: &str, f: impl FnOnce(Stop) + Send + 'static) -> Result<Self> {
        let (reader, writer) = std::io::pipe().map_err(Error::io("pipe"))?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || f(Stop(reader)))
            .map_err(Error::io("start a thread"))?;
        Ok(Self { alive: Some(writer), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by that thread.
            let _ = thread.join();
        }
    }
}

impl Stop {
    /// Waits until one of `fds` is readable; `None` when the thread should end, else which are.
    pub(crate) fn wait<const N: usize>(
        &self,
        fds: [BorrowedFd<'_>; N],
        timeout: Option<Duration>,
    ) -> Option<[bool; N]> {
        let mut set: Vec<PollFd> =
            fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        set.push(PollFd::new(self.0.as_fd(), PollFlags::POLLIN));
        // Interrupted or not: the caller asks again.
        let _ = ppoll(&mut set, timeout.map(TimeSpec::from_duration), None);
        let ready = |p: &PollFd| p.revents().is_some_and(|r| !r.is_empty());
        if ready(&set[N]) {
            return None;
        }
        Some(std::array::from_fn(|i| ready(&set[i])))
    }

    /// Waits; says whether the thread should end.
    pub(crate) fn after(&self, time: Duration) -> bool {
        self.wait([], Some(time)).is_none()
    }

    /// Whether the thread should end.
    pub(crate) fn asked(&self) -> bool {
        self.wait([], Some(Duration::ZERO)).is_none()
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
