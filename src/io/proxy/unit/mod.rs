//! A proxy that is a systemd unit, over D-Bus.
//!
//! Signals only say that something changed; the state is then read as one snapshot, so a lost or
//! doubled signal does no harm. Everything may be lost at any moment: the next connection reads
//! the state anew and takes up the order that is not yet answered.
//!
//! The death of the main process is seen on its pidfd, before systemd has put the unit away.

mod bus;
mod look;
mod snapshot;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use zbus::OwnedObjectPath;

use bus::{Session, lost, refusal};
use snapshot::{Snapshot, failure};

use super::pidfd::{self, Pidfd};
use super::{Drive, GRACE, Limit, Limits, Orders, Report, Request, words};
use crate::core::event::ProxyEvent;

/// The first pause before systemd is looked for again; each further one is twice as long.
const RETRY: Duration = Duration::from_millis(100);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long the first exchange on a new connection may take.
const SETUP: Duration = Duration::from_secs(5);
/// How long systemd is given to tell how a process ended that we saw ending.
const OBITUARY: Duration = Duration::from_millis(50);

pub use bus::Bus;
pub(in crate::io) use look::Looked;

/// Works for one unit until it is retired.
pub(super) async fn run(bus: Bus, name: String, orders: Orders, report: Report) {
    let mut unit = Unit {
        bus,
        name,
        orders,
        report,
        limits: Limits { start: GRACE, stop: GRACE, active_only: false },
        pending: None,
        retired: false,
        lost: None,
        last: None,
        dead: None,
        pidfd: None,
        noticed: BTreeSet::new(),
    };
    while !(unit.retired && unit.pending.is_none()) {
        if unit.idle() {
            let request = unit.orders.next().await;
            unit.take(request).await;
        } else if let Some(mut session) = unit.connect().await
            && let Err(why) = unit.serve(&mut session).await
        {
            unit.lose(&why).await;
        }
    }
}

/// One unit and what is to become of it.
struct Unit {
    bus: Bus,
    name: String,
    orders: Orders,
    report: Report,
    limits: Limits,
    pending: Option<Pending>,
    retired: bool,
    /// Why there is no connection.
    lost: Option<Box<str>>,
    /// The state as it was read last on this connection.
    last: Option<Snapshot>,
    /// The main process that we saw ending before systemd did.
    dead: Option<u32>,
    pidfd: Option<(u32, Pidfd)>,
    noticed: BTreeSet<String>,
}

/// An order that is not answered yet.
struct Pending {
    drive: Drive,
    limit: Limit,
    stage: Stage,
}

/// How far an order got.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// systemd has not been asked, or is at it without our asking.
    Due,
    /// systemd works on it.
    Asked(OwnedObjectPath),
    /// systemd says it is through.
    Through(String),
    /// Time was up, everything in the unit was killed.
    Killed,
}

impl Unit {
    /// There is nothing to do, and nobody wants to know anything.
    fn idle(&self) -> bool {
        self.pending.is_none() && (self.report.muted || self.retired)
    }

    async fn take(&mut self, request: Request) {
        self.limits = request.limits;
        self.retired |= request.retired;
        self.report.muted = !request.watched;
        if let Some(drive) = request.drive {
            let after = match drive {
                Drive::Start => self.limits.start,
                Drive::Stop => self.limits.stop,
            };
            self.pending = Some(Pending { drive, limit: Limit::after(after), stage: Stage::Due });
        }
        if request.watch {
            self.report.told = None;
            if let Some(why) = self.lost.clone() {
                self.report.state(ProxyEvent::Unknown { why }).await;
            }
        }
    }

    /// Connects, however often it takes; `None` if there is nothing to do any more.
    async fn connect(&mut self) -> Option<Session> {
        let mut pause = RETRY;
        if self.lost.is_some() {
            self.meanwhile(tokio::time::sleep(pause)).await?;
        }
        loop {
            let open = Session::open(self.bus.clone(), self.name.clone());
            let why = match self.meanwhile(tokio::time::timeout(SETUP, open)).await? {
                Ok(Ok(session)) => return Some(session),
                Ok(Err(why)) => why,
                Err(_) => words(format!("systemd does not answer within {SETUP:?}")),
            };
            self.lose(&why).await;
            self.meanwhile(tokio::time::sleep(pause)).await?;
            pause = RETRY_MAX.min(pause * 2);
        }
    }

    /// Waits for `work` and attends to orders and their limits; `None` if there is nothing to do
    /// any more.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            if self.idle() {
                return None;
            }
            tokio::select! {
                done = &mut work => return Some(done),
                request = self.orders.next(), if !self.retired => self.take(request).await,
                () = overdue(&mut self.pending) => {
                    let why = self.lost.clone().unwrap_or_else(|| words("systemd does not answer"));
                    self.give_up(&why).await;
                }
            }
        }
    }

    async fn lose(&mut self, why: &str) {
        self.last = None;
        self.pidfd = None;
        self.dead = None;
        self.lost = Some(words(why));
        if let Some(pending) = &mut self.pending {
            pending.stage = Stage::Due;
        }
        self.report.state(ProxyEvent::Unknown { why: words(why) }).await;
    }

    /// Works with systemd until the connection is lost, or until there is nothing to do.
    async fn serve(&mut self, session: &mut Session) -> Result<(), Box<str>> {
        self.lost = None;
        self.look(session).await?;
        while !self.idle() {
            tokio::select! {
                request = self.orders.next(), if !self.retired => {
                    self.take(request).await;
                    self.look(session).await?;
                }
                removed = session.jobs.next() => {
                    let removed = removed.ok_or("the connection to D-Bus is gone")?;
                    let removed = removed.args().map_err(|e| lost(&e))?;
                    self.job_removed(removed.job.as_str(), removed.result);
                    self.look(session).await?;
                }
                changed = session.changes.next() => {
                    changed.ok_or("the connection to D-Bus is gone")?;
                    while session.changes.next().now_or_never().flatten().is_some() {}
                    self.look(session).await?;
                }
                _ = session.owner.next() => return Err(words("systemd left D-Bus")),
                pid = died(self.pidfd.as_ref()) => self.bury(session, pid).await?,
                () = overdue(&mut self.pending) => self.overrun(session).await?,
            }
        }
        Ok(())
    }

    /// Reads the state and does what follows from it.
    async fn look(&mut self, session: &Session) -> Result<(), Box<str>> {
        let mut now = session.read().await?;
        if let Some(pid) = now.running().filter(|pid| *pid != 0)
            && self.bus == Bus::System
            && self.pidfd.as_ref().is_none_or(|(open, _)| *open != pid)
        {
            // Still the main process after the pidfd was opened: then it is not a successor
            // that got the same number.
            let fd = pidfd::open(pid);
            now = session.read().await?;
            self.pidfd = fd.ok().filter(|_| now.running() == Some(pid)).map(|fd| (pid, fd));
        }
        self.judge(session, now).await
    }

    async fn judge(&mut self, session: &Session, now: Snapshot) -> Result<(), Box<str>> {
        for text in now.findings(&self.name, self.limits.active_only) {
            if self.noticed.insert(text.clone()) {
                self.report.notice(ProxyEvent::Notice { text: text.into() }).await;
            }
        }
        if self.dead.is_some_and(|pid| now.outlived(pid)) {
            self.dead = None;
        }
        self.dead = self.dead.or_else(|| self.last.as_ref()?.bereft_in(&now));
        let event = now.event(self.dead.is_some());
        let replaced = self.last.as_ref().is_some_and(|last| last.replaced_by(&now));
        self.last = Some(now.clone());
        match self.pending.as_ref().map(|p| p.drive) {
            None => {
                if replaced {
                    self.report.state(ProxyEvent::Stopped { how: words("restarted") }).await;
                }
                self.report.state(event).await;
                Ok(())
            }
            Some(Drive::Start) => self.start(session, &now, event).await,
            Some(Drive::Stop) => self.stop(session, &now, event).await,
        }
    }

    /// Goes on with a start.
    async fn start(
        &mut self,
        session: &Session,
        now: &Snapshot,
        event: ProxyEvent,
    ) -> Result<(), Box<str>> {
        let Some(Pending { stage, .. }) = &mut self.pending else { return Ok(()) };
        match event {
            ProxyEvent::Running { .. } => self.done(event).await,
            // systemd may be at it by itself (`Restart=`): another job would compete.
            ProxyEvent::Starting => self.report.state(event).await,
            ProxyEvent::Unknown { why } => self.done(ProxyEvent::Failed { why }).await,
            ProxyEvent::Stopping
            | ProxyEvent::Stopped { .. }
            | ProxyEvent::Failed { .. }
            | ProxyEvent::Stuck { .. }
            | ProxyEvent::Notice { .. } => match stage {
                Stage::Due => match session.manager.start_unit(&self.name, "replace").await {
                    Ok(job) => *stage = Stage::Asked(job),
                    Err(e) => {
                        let why = refusal(&self.name, &e).ok_or_else(|| lost(&e))?;
                        self.done(ProxyEvent::Failed { why }).await;
                    }
                },
                Stage::Asked(_) | Stage::Killed => {}
                Stage::Through(result) => {
                    let why = failure(result, now);
                    self.done(ProxyEvent::Failed { why }).await;
                }
            },
        }
        Ok(())
    }

    /// Goes on with a stop.
    async fn stop(
        &mut self,
        session: &Session,
        now: &Snapshot,
        event: ProxyEvent,
    ) -> Result<(), Box<str>> {
        let Some(Pending { stage, .. }) = &mut self.pending else { return Ok(()) };
        if now.at_rest() {
            self.done(ProxyEvent::Stopped { how: now.how() }).await;
            return Ok(());
        }
        // Through, and yet it is not at rest: somebody started it again.
        if matches!(stage, Stage::Due | Stage::Through(_)) {
            match session.manager.stop_unit(&self.name, "replace").await {
                Ok(job) => *stage = Stage::Asked(job),
                Err(e) => {
                    let why = refusal(&self.name, &e).ok_or_else(|| lost(&e))?;
                    self.done(ProxyEvent::Stuck { why }).await;
                    return Ok(());
                }
            }
        }
        if event == ProxyEvent::Stopping {
            self.report.state(event).await;
        }
        Ok(())
    }

    fn job_removed(&mut self, job: &str, result: &str) {
        if let Some(pending) = &mut self.pending
            && matches!(&pending.stage, Stage::Asked(asked) if asked.as_str() == job)
        {
            pending.stage = Stage::Through(result.to_owned());
        }
    }

    /// Time is up for the order.
    async fn overrun(&mut self, session: &Session) -> Result<(), Box<str>> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        if pending.drive == Drive::Stop && pending.stage != Stage::Killed {
            pending.stage = Stage::Killed;
            pending.limit = Limit::after(GRACE);
            let sigkill = rustix::process::Signal::KILL.as_raw();
            let killed = session.manager.kill_unit(&self.name, "all", sigkill).await;
            if let Err(e) = killed {
                let why = refusal(&self.name, &e).ok_or_else(|| lost(&e))?;
                tracing::warn!(unit = self.name, %why, "a unit that does not stop cannot be killed");
            }
            return Ok(());
        }
        let state = self.last.as_ref().map(|s| format!("{} ({})", s.active, s.sub));
        self.give_up(state.as_deref().unwrap_or("unknown")).await;
        Ok(())
    }

    /// Answers an order whose time is up.
    async fn give_up(&mut self, state: &str) {
        let answer = match self.pending.as_ref().map(|p| p.drive) {
            None => return,
            Some(Drive::Start) => ProxyEvent::Failed {
                why: words(format!("not started after {:?}: {state}", self.limits.start)),
            },
            Some(Drive::Stop) => ProxyEvent::Stuck {
                why: words(format!("not stopped after {:?}: {state}", self.limits.stop)),
            },
        };
        self.done(answer).await;
    }

    async fn done(&mut self, answer: ProxyEvent) {
        self.pending = None;
        self.report.answer(answer).await;
        // The state that goes with a refusal need not be told again; the next one must.
        if let (Some(ProxyEvent::Failed { .. } | ProxyEvent::Stuck { .. }), Some(last)) =
            (&self.report.told, &self.last)
        {
            self.report.told = Some(last.event(self.dead.is_some()));
        }
    }

    /// The main process ended: tells so, if possible with systemd's words for it.
    async fn bury(&mut self, session: &mut Session, pid: u32) -> Result<(), Box<str>> {
        self.pidfd = None;
        self.dead = Some(pid);
        match tokio::time::timeout(OBITUARY, session.read_after(pid)).await {
            Ok(now) => self.judge(session, now?).await,
            Err(_) => match self.last.clone() {
                Some(last) => self.judge(session, last).await,
                None => Ok(()),
            },
        }
    }
}

async fn overdue(pending: &mut Option<Pending>) {
    match pending {
        Some(pending) => pending.limit.over().await,
        None => std::future::pending().await,
    }
}

async fn died(pidfd: Option<&(u32, Pidfd)>) -> u32 {
    match pidfd {
        // An error would mean that it cannot be watched: then the bus alone has to do.
        Some((pid, fd)) if fd.readable().await.is_ok() => *pid,
        _ => std::future::pending().await,
    }
}
