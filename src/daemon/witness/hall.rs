//! The thread in which a witness votes: one loop over the sockets of all its clusters, a mailbox,
//! and one deadline.

use std::io;
use std::os::fd::AsFd as _;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::sync::{mpsc, oneshot};

use crate::core::status::Status;
use crate::io::clock::{self, Timer};
use crate::io::port::Buffers;
use crate::io::wake;
use crate::types::Instant;

use super::Output;
use super::booth::{Booth, Fresh};

/// Requests of the service runtime that are taken at once.
const BUDGET: usize = 256;
/// Sources that one wait may report.
const READY: usize = 32;
/// Bits of a source: the timer, the mailbox, then the paths of each booth.
const TIMER: u64 = 0;
const INBOX: u64 = 1;
const BOOTHS: u64 = 2;
/// More paths than a voter can have.
const PATHS: u64 = 16;
const STEP: usize = 16;

/// What the service runtime asks of the thread.
pub(in super::super) enum Input {
    /// The status, please.
    Status(oneshot::Sender<Status>),
    /// Are you there? Answered with the time.
    Ping(oneshot::Sender<Instant>),
    /// New configurations, in the order of the clusters; answered with what they change.
    Reload(Vec<Fresh>, oneshot::Sender<Vec<String>>),
    /// Whether the local clocks can be trusted.
    Clock(Result<(), Box<str>>),
    /// End.
    Stop,
}

/// Everything that the thread holds.
pub(super) struct Hall {
    epoll: Epoll,
    timer: Timer,
    inbox: wake::Receiver<Input>,
    outbox: mpsc::Sender<Output>,
    booths: Vec<Booth>,
    buffers: Buffers,
    stop: bool,
}

impl Hall {
    /// Opens what the thread waits for.
    ///
    /// # Errors
    /// No descriptor or memory left.
    pub(super) fn open(
        booths: Vec<Booth>,
        inbox: wake::Receiver<Input>,
        outbox: mpsc::Sender<Output>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = Timer::new()?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        epoll.add(inbox.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, INBOX))?;
        let buffers = Buffers::default();
        let mut hall = Self { epoll, timer, inbox, outbox, booths, buffers, stop: false };
        hall.watch()?;
        Ok(hall)
    }

    /// Waits for the sockets that are new, too: those that were closed are forgotten by themselves.
    fn watch(&mut self) -> io::Result<()> {
        for (first, booth) in (BOOTHS..).step_by(STEP).zip(&mut self.booths) {
            if std::mem::take(&mut booth.moved) {
                for (path, fd) in booth.fds() {
                    let bits = first + u64::try_from(path).unwrap_or(PATHS).min(PATHS - 1);
                    self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, bits))?;
                }
            }
        }
        Ok(())
    }

    /// Votes until it is told to stop.
    pub(super) fn run(mut self) {
        let mut now = clock::now();
        while !self.stop {
            for booth in &mut self.booths {
                booth.tick(now);
                for output in booth.outputs() {
                    // What is lost here makes the next start wait for everybody once more.
                    let _ = self.outbox.try_send(output);
                }
            }
            if let Err(error) = self.watch() {
                tracing::error!("the channel to the other voters: {error}");
            }
            // The last deadline stays armed if this one cannot be.
            let _ = self.timer.arm(self.booths.iter().filter_map(|b| b.deadline(now)).min());
            let mut ready = [EpollEvent::empty(); READY];
            // An interrupted wait is followed by one more.
            let count = self.epoll.wait(&mut ready, EpollTimeout::NONE).unwrap_or(0);
            now = clock::now();
            for event in ready.iter().take(count) {
                now = now.max(self.hear(now, event.data()));
            }
        }
    }

    fn hear(&mut self, now: Instant, source: u64) -> Instant {
        match source {
            TIMER => self.timer.clear(),
            INBOX => {
                let mut inputs = Vec::new();
                self.inbox.drain(BUDGET, &mut |input| inputs.push(input));
                for input in inputs {
                    self.answer(now, input);
                }
            }
            source => {
                let (booth, path) = ((source - BOOTHS) / PATHS, (source - BOOTHS) % PATHS);
                let booth = usize::try_from(booth).ok().and_then(|ix| self.booths.get_mut(ix));
                if let (Some(booth), Ok(path)) = (booth, usize::try_from(path)) {
                    return booth.hear(now, path, &mut self.buffers);
                }
            }
        }
        now
    }

    fn answer(&mut self, now: Instant, input: Input) {
        match input {
            // Whoever asked may have gone.
            Input::Status(to) => {
                let mut all = self.booths.iter().map(|b| b.status(now));
                if let Some(mut first) = all.next() {
                    first.further = all.collect();
                    drop(to.send(first));
                }
            }
            Input::Ping(to) => drop(to.send(now)),
            Input::Reload(all, to) => {
                let pairs = self.booths.iter_mut().zip(all);
                let changes = pairs.filter_map(|(booth, fresh)| booth.reload(now, fresh));
                drop(to.send(changes.collect()));
            }
            Input::Clock(told) => {
                for booth in &mut self.booths {
                    booth.set_clock(now, told.clone());
                }
            }
            Input::Stop => self.stop = true,
        }
    }
}
