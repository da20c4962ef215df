//! How one thread hands something to another that sleeps in epoll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes a thread that waits for its file descriptor to become readable.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker nobody has used yet.
    ///
    /// # Errors
    /// No file descriptor or memory left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Makes it readable.
    pub fn wake(&self) {
        // The only failure is a full counter: readable already.
        let _ = self.0.write(1);
    }

    /// Makes it unreadable; look for work after this, not before.
    pub fn clear(&self) {
        // The only failure is an empty counter: unreadable already.
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A queue of at most `limit` things, and the waker of whoever takes them out.
///
/// # Errors
/// No file descriptor or memory left.
pub fn mailbox<T>(limit: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let (queue, outlet) = mpsc::sync_channel(limit);
    let waker = Waker::new()?;
    let dropped = Arc::new(AtomicU64::new(0));
    let sender = Sender { queue, waker: waker.clone(), dropped: Arc::clone(&dropped) };
    Ok((sender, Receiver { queue: outlet, waker, dropped }))
}

/// The way in.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::SyncSender<T>,
    waker: Waker,
    dropped: Arc<AtomicU64>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            waker: self.waker.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }
}

/// What there was no room for, or nobody left to take.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct Full<T>(pub T);

/// Whoever took things out is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes anything out any more")]
pub struct Closed;

impl<T> Sender<T> {
    /// Puts `value` in, if there is room now.
    ///
    /// # Errors
    /// There is none: `value` comes back and is counted.
    pub fn try_send(&self, value: T) -> Result<(), Full<T>> {
        match self.queue.try_send(value) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(mpsc::TrySendError::Full(value) | mpsc::TrySendError::Disconnected(value)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Err(Full(value))
            }
        }
    }

    /// Puts `value` in, and waits for room.
    ///
    /// # Errors
    /// There will never be any.
    pub fn send(&self, value: T) -> Result<(), Closed> {
        self.queue.send(value).map_err(|_| Closed)?;
        self.waker.wake();
        Ok(())
    }
}

/// The way out; its file descriptor is readable while something is in.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    waker: Waker,
    dropped: Arc<AtomicU64>,
}

impl<T> Receiver<T> {
    /// Takes out what is in, in order, but no more than `budget`; tells how many that were.
    pub fn drain(&self, budget: usize, sink: &mut dyn FnMut(T)) -> usize {
        self.waker.clear();
        let taken = self.queue.try_iter().take(budget).map(sink).count();
        if taken == budget {
            // There may be more, and nobody else would tell.
            self.waker.wake();
        }
        taken
    }

    /// How many there was no room for.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn readable(fd: &impl AsFd) -> bool {
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    fn take<T>(receiver: &Receiver<T>, budget: usize) -> Vec<T> {
        let mut all = Vec::new();
        receiver.drain(budget, &mut |value| all.push(value));
        all
    }

    #[test]
    fn a_waker_stays_awake_until_cleared() {
        let waker = Waker::new().unwrap();
        assert!(!readable(&waker));
        waker.clone().wake();
        waker.wake();
        assert!(readable(&waker));
        waker.clear();
        assert!(!readable(&waker));
    }

    #[test]
    fn what_is_left_behind_keeps_it_readable() {
        let (sender, receiver) = mailbox(8).unwrap();
        for n in 0..5 {
            sender.try_send(n).unwrap();
        }
        assert!(readable(&receiver));
        assert_eq!(take(&receiver, 3), [0, 1, 2]);
        assert!(readable(&receiver));
        assert_eq!(take(&receiver, 3), [3, 4]);
        assert!(!readable(&receiver));
    }

    #[test]
    fn what_does_not_fit_comes_back_and_is_counted() {
        let (sender, receiver) = mailbox(1).unwrap();
        sender.try_send('a').unwrap();
        assert_eq!(sender.try_send('b'), Err(Full('b')));
        assert_eq!(receiver.dropped(), 1);
        assert_eq!(take(&receiver, 9), ['a']);
        drop(receiver);
        assert_eq!(sender.send('c'), Err(Closed));
    }
}
