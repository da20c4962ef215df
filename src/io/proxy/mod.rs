//! The proxies: systemd units over D-Bus, and commands that vipd runs and reaps itself.
//!
//! Each group has one task on the service runtime. Orders never wait: the latest one wins, and
//! one that is superseded before it was answered is answered by the answer to its successor.
//!
//! | order | answer | at the latest after |
//! |---|---|---|
//! | `Start` | `Running` or `Failed` | `start_timeout` + [`GRACE`] |
//! | `Stop` | `Stopped` or `Stuck` | `stop_timeout` + 2 × [`GRACE`] |
//! | `Kill` | `Stopped` or `Stuck` | 2 × [`GRACE`] and a bit |
//! | `Watch` | the state as it is | at once; `Unknown` if it cannot be told |
//!
//! Between answers every change is reported once. `Unwatch` silences the task without touching
//! the proxy: a `Stop` given before it is still carried out.

mod command;
pub(super) mod pidfd;
pub(super) mod spawn;
pub(super) mod unit;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{Proxy, ProxyKind};
use crate::core::event::{ProxyEvent, ProxyOrder};

pub use unit::Bus;

/// What an answer may take beyond its limit: one call to a bus that does not answer, or the
/// time a killed process has to go away.
pub const GRACE: Duration = Duration::from_secs(1);

/// What a proxy that is to be killed has to end by itself.
const HURRY: Duration = Duration::from_millis(100);

/// Where [`ProxyEvent`]s go, with the group they belong to.
pub type Events = mpsc::Sender<(u16, ProxyEvent)>;

/// Carries out [`ProxyOrder`]s, one task for each group.
///
/// Dropping it kills every command that still runs; [`Supervisor::shutdown`] asks them first.
/// Units are left as they are by both.
#[derive(Debug)]
pub struct Supervisor {
    bus: Bus,
    events: Events,
    runtime: Handle,
    groups: BTreeMap<u16, Worker>,
}

impl Supervisor {
    /// A supervisor on the current runtime that finds systemd on the system bus.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(events: Events) -> Self {
        Self::with_bus(events, Bus::System)
    }

    /// The same, with systemd on another bus.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_bus(events: Events, bus: Bus) -> Self {
        Self { bus, events, runtime: Handle::current(), groups: BTreeMap::new() }
    }

    /// Hands an order to the task of `group`; never waits.
    ///
    /// A proxy that is another one than before replaces the old: a unit is left as it is, a
    /// command, which nobody else could stop, is stopped first.
    pub fn order(&mut self, group: u16, proxy: &Proxy, order: ProxyOrder) {
        if self.groups.get(&group).is_none_or(|w| w.what != proxy.what) {
            let before = self.groups.remove(&group).map(Worker::retire);
            let worker = self.spawn(group, proxy, before);
            self.groups.insert(group, worker);
        }
        if let Some(worker) = self.groups.get(&group) {
            worker.wanted.send_modify(|w| w.take(proxy, order));
        }
    }

    /// Stops every command within its stop time-out and forgets about the units.
    pub async fn shutdown(mut self) {
        let ends: Vec<_> =
            std::mem::take(&mut self.groups).into_values().map(Worker::retire).collect();
        for end in ends {
            end.finished().await;
        }
    }

    fn spawn(&self, group: u16, proxy: &Proxy, before: Option<Task>) -> Worker {
        let (wanted, rx) = watch::channel(Wanted::new(proxy));
        let orders = Orders { rx, watches: 0, drives: 0 };
        let report = Report { group, events: self.events.clone(), told: None, muted: true };
        let bus = self.bus.clone();
        let what = proxy.what.clone();
        let task = self.runtime.spawn(async move {
            if let Some(before) = before {
                before.finished().await;
            }
            match what {
                ProxyKind::Unit(name) => Box::pin(unit::run(bus, name, orders, report)).await,
                ProxyKind::Command { argv, user } => {
                    command::run(argv, user, orders, report).await;
                }
            }
        });
        Worker { what: proxy.what.clone(), wanted, task: Task(task) }
    }
}

/// The task of one group.
#[derive(Debug)]
struct Worker {
    what: ProxyKind,
    wanted: watch::Sender<Wanted>,
    task: Task,
}

impl Worker {
    /// Asks the task to come to its end in silence; the caller may wait for that.
    fn retire(self) -> Task {
        self.wanted.send_modify(|w| (w.retired, w.watched) = (true, false));
        self.task
    }
}

/// A task that does not outlive its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    async fn finished(mut self) {
        if let Err(error) = (&mut self.0).await {
            tracing::error!(%error, "the task of a proxy ended by itself");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Everything ordered so far, as far as it still matters: bounded however much is ordered.
#[derive(Clone, Debug)]
struct Wanted {
    limits: Limits,
    watched: bool,
    watches: u64,
    drive: Drive,
    drives: u64,
    retired: bool,
}

impl Wanted {
    fn new(proxy: &Proxy) -> Self {
        Self {
            limits: Limits::of(proxy),
            watched: false,
            watches: 0,
            drive: Drive::Stop,
            drives: 0,
            retired: false,
        }
    }

    fn take(&mut self, proxy: &Proxy, order: ProxyOrder) {
        self.limits = Limits::of(proxy);
        self.watched = order != ProxyOrder::Unwatch;
        match order {
            ProxyOrder::Watch => self.watches += 1,
            ProxyOrder::Start => (self.drive, self.drives) = (Drive::Start, self.drives + 1),
            ProxyOrder::Stop => (self.drive, self.drives) = (Drive::Stop, self.drives + 1),
            ProxyOrder::Kill => {
                self.limits.stop = self.limits.stop.min(HURRY);
                (self.drive, self.drives) = (Drive::Stop, self.drives + 1);
            }
            ProxyOrder::Unwatch => {}
        }
    }
}

/// Which way a proxy is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drive {
    Start,
    Stop,
}

/// What a task needs to know of its proxy's configuration.
#[derive(Clone, Copy, Debug)]
struct Limits {
    start: Duration,
    stop: Duration,
    /// Whether it runs only where the addresses are.
    active_only: bool,
}

impl Limits {
    fn of(proxy: &Proxy) -> Self {
        Self {
            start: proxy.start_timeout,
            stop: proxy.stop_timeout,
            active_only: proxy.run == crate::config::Run::Active,
        }
    }
}

/// What is new since the last look at the orders.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// Report the state now.
    watch: bool,
    /// Report at all.
    watched: bool,
    /// Go there.
    drive: Option<Drive>,
    limits: Limits,
    /// Come to an end.
    retired: bool,
}

/// The receiving end of the orders of a group.
#[derive(Debug)]
struct Orders {
    rx: watch::Receiver<Wanted>,
    watches: u64,
    drives: u64,
}

impl Orders {
    /// Waits for something new. May be dropped without losing anything.
    async fn next(&mut self) -> Request {
        let gone = self.rx.changed().await.is_err();
        let wanted = self.rx.borrow_and_update();
        let request = Request {
            watch: wanted.watches != self.watches,
            watched: wanted.watched,
            drive: (wanted.drives != self.drives).then_some(wanted.drive),
            limits: wanted.limits,
            retired: wanted.retired || gone,
        };
        (self.watches, self.drives) = (wanted.watches, wanted.drives);
        request
    }
}

/// Tells the core what became of the proxy of one group.
#[derive(Debug)]
struct Report {
    group: u16,
    events: Events,
    told: Option<ProxyEvent>,
    muted: bool,
}

impl Report {
    /// Tells a state unless it is the one told last.
    async fn state(&mut self, event: ProxyEvent) {
        use ProxyEvent::Stopped;
        // The words for one end may come in two versions; the first is enough.
        let again = matches!((&self.told, &event), (Some(Stopped { .. }), Stopped { .. }));
        if !again && self.told.as_ref() != Some(&event) {
            self.answer(event).await;
        }
    }

    /// Tells a state in answer to an order, whatever was told before.
    async fn answer(&mut self, event: ProxyEvent) {
        self.told = Some(event.clone());
        self.notice(event).await;
    }

    /// Tells something that is not a state.
    async fn notice(&self, event: ProxyEvent) {
        if !self.muted {
            tracing::debug!(group = self.group, ?event, "proxy");
            // Without a receiver the daemon is on its way out.
            let _ = self.events.send((self.group, event)).await;
        }
    }
}

/// A moment in the future, or never.
#[derive(Debug)]
struct Limit(Option<Pin<Box<tokio::time::Sleep>>>);

impl Limit {
    const NEVER: Self = Self(None);

    fn after(time: Duration) -> Self {
        Self(Some(Box::pin(tokio::time::sleep(time))))
    }

    /// Waits for the moment. May be dropped and called again, until it has come.
    async fn over(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

fn words(text: impl AsRef<str>) -> Box<str> {
    Box::from(text.as_ref())
}
