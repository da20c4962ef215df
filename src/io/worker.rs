//! The thread that does what may wait for the kernel's network lock.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::clock;
use super::netlink::{BATCH, Change, Requests};
use super::port::{Filters, OpenError, Port};
use super::realtime::{self, Refused};
use super::sockdiag::{self, Ended};
use super::wake::Sender;
use crate::core::event::{Failure, PortSpec, Task};
use crate::core::status::GateStatus;
use crate::types::Instant;

/// The most jobs that wait; more than the core ever has outstanding.
const QUEUE: usize = 4096;
/// How long a batch may wait for its answers once the kernel has it.
const LIMIT: Duration = Duration::from_secs(2);

/// How long connections to what was given up may be searched and ended: whatever else is to be
/// done waits.
const ENDING: Duration = Duration::from_millis(250);
/// How often the gate is looked after when nothing happens.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after the kernel's gate; calls may wait for the kernel.
pub trait Gatekeeper: Send {
    /// Guards exactly these addresses from now on, each by its slot.
    ///
    /// # Errors
    /// Why some may not be guarded, in words.
    fn guard(&mut self, addresses: &BTreeMap<IpAddr, u16>) -> Result<(), String>;

    /// Sees to it that the gate is on every interface.
    ///
    /// # Errors
    /// Why it may not be, in words.
    fn cover(&mut self) -> Result<GateStatus, String>;
}

/// What became of a job.
#[derive(Debug)]
pub enum Completion {
    /// Whether the gate stands, after something about that changed.
    Gate(Result<GateStatus, Box<str>>),
    /// An address was added or deleted, or not.
    Done(Task, Result<(), Failure>),
    /// A port was opened, or not.
    Port(PortSpec, Result<Port, OpenError>),
    /// Which connections to the addresses of a group were ended, and which addresses those are.
    Disconnected(u16, Vec<IpAddr>, io::Result<Ended>),
    /// The thread is not real-time.
    Refused(Refused),
}

/// What the worker has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel worker has {QUEUE} jobs waiting, or is gone")]
pub struct Overloaded;

/// How the worker is set up.
pub struct Setup {
    /// Real-time priority; ordinary scheduling without.
    pub priority: Option<i32>,
    /// Which frames to hear on a port.
    pub filters: Box<dyn Fn(&PortSpec) -> Filters + Send>,
    /// The gate, where there is one.
    pub gate: Option<Box<dyn Gatekeeper>>,
    /// Where completions go; what does not fit there makes the worker wait.
    pub completions: Sender<Completion>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("priority", &self.priority).finish_non_exhaustive()
    }
}

/// The worker, seen from the core thread. It ends when this is dropped, after what it has to do.
#[derive(Debug)]
pub struct Worker {
    jobs: mpsc::SyncSender<Job>,
    busy: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Job {
    Do(Task),
    Close(Box<Port>),
    Guard(BTreeMap<IpAddr, u16>),
    Cover,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or netlink socket left.
    pub fn spawn(setup: Setup) -> io::Result<Self> {
        let requests = Requests::open()?;
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let busy = Arc::new(AtomicU64::new(0));
        let shift = Shift { requests, setup, busy: Arc::clone(&busy), unguarded: None, gate: None };
        // Room for the kernel's 64 KiB datagrams is on the heap; the stack stays small, as it
        // may be locked into memory.
        let builder = thread::Builder::new().name("vipd-kernel".into()).stack_size(256 * 1024);
        builder.spawn(move || shift.work(&queue))?;
        Ok(Self { jobs, busy })
    }

    /// Does `task` when those before are done; answers with a [`Completion`], except to
    /// [`Task::ClosePort`], for which there is [`close`](Self::close).
    ///
    /// Addresses are added and deleted in order, whether an earlier one succeeds or not.
    ///
    /// # Errors
    /// No room: there will be no completion.
    pub fn run(&self, task: Task) -> Result<(), Overloaded> {
        self.jobs.try_send(Job::Do(task)).map_err(|_| Overloaded)
    }

    /// Closes `port`, which leaves its multicast groups.
    ///
    /// # Errors
    /// No room: it is closed at once, and the caller may have had to wait for that.
    pub fn close(&self, port: Port) -> Result<(), Overloaded> {
        self.jobs.try_send(Job::Close(Box::new(port))).map_err(|_| Overloaded)
    }

    /// Guards these addresses before any that is asked for later is added; answers with a
    /// [`Completion::Gate`] if that changes anything.
    ///
    /// # Errors
    /// No room: nothing was changed.
    pub fn guard(&self, addresses: BTreeMap<IpAddr, u16>) -> Result<(), Overloaded> {
        self.jobs.try_send(Job::Guard(addresses)).map_err(|_| Overloaded)
    }

    /// Looks after the gate at once: an interface has come or gone.
    pub fn look(&self) {
        // With so much to do it is looked after soon anyway.
        let _ = self.jobs.try_send(Job::Cover);
    }

    /// Since when the kernel has been at one job or batch; nobody can limit how long it keeps
    /// its network lock.
    pub fn busy_since(&self) -> Option<Instant> {
        NonZeroU64::new(self.busy.load(Ordering::Relaxed)).map(|n| Instant::from_nanos(n.get()))
    }
}

/// The thread's own.
#[derive(Debug)]
struct Shift {
    requests: Requests,
    setup: Setup,
    busy: Arc<AtomicU64>,
    /// Why addresses may not be guarded.
    unguarded: Option<String>,
    /// What was told of the gate last.
    gate: Option<Result<GateStatus, Box<str>>>,
}

impl Shift {
    fn work(mut self, queue: &mpsc::Receiver<Job>) {
        if let Some(Err(refused)) = self.setup.priority.map(realtime::enter) {
            self.tell(Completion::Refused(refused));
        }
        self.look();
        loop {
            let first = match queue.recv_timeout(LOOK) {
                Ok(first) => first,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.look();
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            // The first address goes alone, as it should not wait for those that follow.
            let mut next = self.run(first, &mut std::iter::empty());
            let mut rest = queue.try_iter();
            while let Some(job) = next.take().or_else(|| rest.next()) {
                next = self.run(job, &mut rest);
            }
        }
    }

    /// Does `job`, and those of `rest` that fit into the same batch; returns the one that did
    /// not.
    fn run(&mut self, job: Job, rest: &mut dyn Iterator<Item = Job>) -> Option<Job> {
        match job {
            Job::Do(Task::OpenPort(spec)) => {
                let filters = (self.setup.filters)(&spec);
                let opened = self.busy(|_| Port::open(&spec, &filters));
                self.tell(Completion::Port(spec, opened));
                None
            }
            Job::Do(task) if change(&task).is_some() => {
                let (batch, left) = collect(task, rest);
                self.apply(batch);
                left
            }
            Job::Do(Task::Disconnect { group, addresses }) => {
                let ended = self.busy(|_| sockdiag::end_connections(&addresses, ENDING));
                self.tell(Completion::Disconnected(group, addresses, ended));
                None
            }
            Job::Close(port) => {
                self.busy(|_| drop(port));
                None
            }
            Job::Guard(addresses) => {
                if let Some(gate) = &mut self.setup.gate {
                    self.unguarded = gate.guard(&addresses).err();
                    self.look();
                }
                None
            }
            Job::Cover => {
                self.look();
                None
            }
            Job::Do(_) => None,
        }
    }

    /// Looks after the gate, and tells if that is news.
    fn look(&mut self) {
        let Some(gate) = &mut self.setup.gate else { return };
        let covered = gate.cover();
        let told = match (covered, &self.unguarded) {
            (Ok(_), Some(why)) => Err(why.as_str().into()),
            (Ok(status), None) => Ok(status),
            (Err(why), _) => Err(why.into()),
        };
        if self.gate.as_ref() != Some(&told) {
            self.gate = Some(told.clone());
            self.tell(Completion::Gate(told));
        }
    }

    /// Does `work` in the view of [`Worker::busy_since`].
    fn busy<T>(&mut self, work: impl FnOnce(&mut Requests) -> T) -> T {
        self.busy.store(clock::now().nanos(), Ordering::Relaxed);
        let outcome = work(&mut self.requests);
        self.busy.store(0, Ordering::Relaxed);
        outcome
    }

    fn apply(&mut self, batch: Vec<Task>) {
        let changes: Vec<_> = batch.iter().filter_map(change).collect();
        let results = self.busy(|requests| requests.apply(&changes, LIMIT));
        for (task, result) in batch.into_iter().zip(results) {
            self.tell(Completion::Done(task, result));
        }
    }

    fn tell(&self, completion: Completion) {
        // With nobody left to tell, the next look at the queue ends the thread.
        let _ = self.setup.completions.send(completion);
    }
}

/// `first` and the changes that follow it directly, and what came after those.
fn collect(first: Task, rest: &mut dyn Iterator<Item = Job>) -> (Vec<Task>, Option<Job>) {
    let mut batch = vec![first];
    while batch.len() < BATCH {
        match rest.next() {
            Some(Job::Do(task)) if change(&task).is_some() => batch.push(task),
            other => return (batch, other),
        }
    }
    (batch, None)
}

/// What `task` changes about the host's addresses.
fn change(task: &Task) -> Option<Change<'_>> {
    match task {
        Task::AddAddress { spec, .. } => Some(Change::Add(spec)),
        Task::DelAddress { spec, .. } => Some(Change::Delete(spec)),
        Task::OpenPort(_) | Task::ClosePort(_) | Task::Disconnect { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::AddressSpec;
    use crate::types::IfIndex;

    fn add(slot: u16) -> Task {
        let ip = [192, 0, 2, 1].into();
        let spec = AddressSpec { index: IfIndex(1), ip, prefix: 32, label: None, preferred: false };
        Task::AddAddress { group: 0, slot, spec }
    }

    #[test]
    fn a_batch_ends_at_its_limit_or_before_another_kind_of_job() {
        let close = || Job::Do(Task::ClosePort(IfIndex(1)));
        let mut jobs = (1..10).map(|n| Job::Do(add(n))).chain([close()]);
        let (batch, left) = collect(add(0), &mut jobs);
        assert_eq!(batch, (0..10).map(add).collect::<Vec<_>>());
        assert!(matches!(left, Some(Job::Do(Task::ClosePort(_)))));

        let mut jobs = (1..1000).map(|n| Job::Do(add(n)));
        let (batch, left) = collect(add(0), &mut jobs);
        assert_eq!(batch.len(), BATCH);
        assert!(left.is_none());
        assert!(matches!(jobs.next(), Some(Job::Do(task)) if task == add(100)));
    }
}
