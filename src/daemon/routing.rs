//! Keeps the routes and rules that come and go with the addresses, in a thread of its own: where
//! there are many routes, to list ours may take the kernel a while.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::core::event::{Event, Failure};
use crate::core::routing::{Change, Keeper, Report, Wanted};
use crate::io::netlink::{Changes, Reason, Routing};
use crate::io::remains::Remains;
use crate::io::{clock, realtime, wake};

/// What the core wants may change so often while the thread waits for the kernel.
const QUEUE: usize = 64;
/// How long the kernel may take for a list, or for changes.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the end of the daemon waits for what is to be gone.
const LAST: Duration = Duration::from_secs(3);
/// What could not be listed is listed again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Looks in a row, as each change is seen to have been made.
const ROUNDS: usize = 4;

#[derive(Debug, PartialEq, Eq)]
enum Order {
    Want(Wanted),
    End,
}

/// The thread, seen from the core thread.
#[derive(Debug)]
pub(super) struct Router {
    queue: wake::Sender<Order>,
    /// What there was no room for.
    unsent: Option<Wanted>,
    ended: mpsc::Receiver<()>,
}

impl Router {
    /// Starts the thread; `file` keeps what may be ours in the kernel.
    ///
    /// # Errors
    /// No thread or netlink socket left.
    pub(super) fn spawn(
        file: PathBuf,
        priority: i32,
        events: wake::Sender<Event<'static>>,
    ) -> io::Result<Self> {
        let (queue, orders) = wake::mailbox(QUEUE)?;
        let (end, ended) = mpsc::channel();
        let file = Remains::new(file);
        let shift = Shift {
            keeper: Keeper::new(file.read()),
            kernel: Routing::open()?,
            changes: None,
            orders,
            events,
            file,
            told: Report::default(),
            blind: false,
        };
        let builder = thread::Builder::new().name("vipd-routing".into()).stack_size(256 * 1024);
        builder.spawn(move || {
            // That it may not is told by the others.
            let _ = realtime::enter(priority);
            shift.work();
            let _ = end.send(());
        })?;
        Ok(Self { queue, unsent: None, ended })
    }

    /// Has exactly these there from now on; never waits.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.unsent = Some(wanted);
        self.flush();
    }

    /// Hands over what there was no room for.
    pub(super) fn flush(&mut self) {
        if let Some(wanted) = self.unsent.take()
            && let Err(wake::Full(Order::Want(wanted))) = self.queue.try_send(Order::Want(wanted))
        {
            self.unsent = Some(wanted);
        }
    }

    /// Waits until the last of what was wanted is done.
    pub(super) fn finish(mut self) {
        let last = self.unsent.take().map(Order::Want);
        for order in last.into_iter().chain([Order::End]) {
            // The core thread has nothing else to do any more.
            let _ = self.queue.send(order);
        }
        // Whatever is not done by then the next start puts right.
        let _ = self.ended.recv_timeout(LAST);
    }
}

struct Shift {
    keeper: Keeper,
    kernel: Routing,
    /// Open while there is anything to look after.
    changes: Option<Changes>,
    orders: wake::Receiver<Order>,
    events: wake::Sender<Event<'static>>,
    file: Remains,
    told: Report,
    /// The kernel could not be asked.
    blind: bool,
}

impl Shift {
    fn work(mut self) {
        let mut open = true;
        while open {
            self.wait();
            let mut last = None;
            self.orders.drain(QUEUE, &mut |order| match order {
                Order::Want(wanted) => last = Some(wanted),
                Order::End => open = false,
            });
            let reason = self.changes.as_mut().map_or(Reason::None, Changes::drain);
            let mut look = reason > Reason::None || self.blind;
            if let Some(wanted) = last {
                look = true;
                self.want(wanted);
            }
            let now = clock::now();
            if look || self.keeper.deadline().is_some_and(|at| now >= at) {
                self.settle(reason == Reason::Lost || self.blind);
                self.tell();
            }
        }
        if self.keeper.is_clean() && !self.blind {
            self.file.forget();
        }
    }

    fn want(&mut self, wanted: Wanted) {
        if self.keeper.want(wanted) {
            // Without, what a killed daemon leaves is only removed by a start that wants it.
            if let Err(error) = self.file.write(self.keeper.known()) {
                tracing::warn!("what is left of routes and rules is not kept: {error}");
            }
        }
        if self.changes.is_none() && !self.keeper.is_idle() {
            self.changes = Changes::open().ok();
        }
    }

    /// Asks for what is missing, and looks, until that is the same.
    fn settle(&mut self, lost: bool) {
        if self.keeper.is_idle() {
            return;
        }
        for _ in 0..ROUNDS {
            match self.kernel.list(LIMIT) {
                Ok(seen) => self.keeper.look(clock::now(), seen, lost),
                Err(error) => {
                    if !std::mem::replace(&mut self.blind, true) {
                        tracing::warn!("routes and rules cannot be listed: {error}");
                    }
                    return;
                }
            }
            self.blind = false;
            let changes = self.keeper.plan(clock::now());
            if changes.is_empty() {
                return;
            }
            let results = self.kernel.apply(&changes, LIMIT);
            self.heed(&changes, results);
        }
    }

    fn heed(&mut self, changes: &[Change], results: Vec<Result<(), Failure>>) {
        let now = clock::now();
        for (change, result) in changes.iter().zip(results) {
            self.keeper.done(now, change, result);
        }
    }

    fn tell(&mut self) {
        let report = self.keeper.report();
        if report != self.told {
            // With nobody left to tell, the next look at the queue ends the thread.
            let _ = self.events.send(Event::Routing(report.clone()));
            self.told = Report { swept: Vec::new(), ..report };
        }
    }

    /// Waits for an order, for a change in the kernel, or until something is to be asked again.
    fn wait(&self) {
        let again = self.blind.then_some(AGAIN);
        let left = self.keeper.deadline().map(|at| at.since(clock::now()));
        let left = left.into_iter().chain(again).min().map_or(PollTimeout::NONE, |left| {
            let ms = left.as_millis() + 1;
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.orders.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.changes.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not, the next thing is to look.
        let _ = poll(&mut fds, left);
    }
}
