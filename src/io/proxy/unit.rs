//! A proxy that is a systemd unit, over D-Bus.
//!
//! Signals only say that something changed; the state is then read as one snapshot, so a lost or
//! doubled signal does no harm. Everything may be lost at any moment: the next connection reads
//! the state anew and takes up the order that is not yet answered.
//!
//! The death of the main process is seen on its pidfd, before systemd has put the unit away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use zbus::proxy::{CacheProperties, OwnerChangedStream};
use zbus::{OwnedObjectPath, OwnedVariant};

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

/// Where systemd is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// The system bus of this host.
    #[default]
    System,
    /// Another bus, as a D-Bus address. Its process numbers mean nothing here: deaths are then
    /// learned from the bus alone.
    Address(String),
}

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

/// One connection to systemd, with everything subscribed that one unit needs.
struct Session {
    manager: ManagerProxy<'static>,
    properties: PropertiesProxy<'static>,
    jobs: JobRemovedStream,
    changes: PropertiesChangedStream,
    owner: OwnerChangedStream<'static>,
}

impl Session {
    async fn open(bus: Bus, name: String) -> Result<Self, Box<str>> {
        Self::try_open(bus, &name).await.map_err(|e| lost(&e))
    }

    async fn try_open(bus: Bus, name: &str) -> zbus::Result<Self> {
        let builder = match bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = builder.method_timeout(GRACE).build().await?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let owner = manager.inner().receive_owner_changed().await?;
        manager.subscribe().await?;
        let path = manager.load_unit(name).await?;
        let properties = PropertiesProxy::builder(&connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let changes = properties.receive_properties_changed().await?;
        // Jobs are announced under the unit's own name, of which `name` may be an alias. Only
        // ours: a full queue would hold up the replies, too.
        let id = text(&properties.get_all("").await?, "Id");
        let jobs = manager.receive_job_removed_with_args(&[(2, id.as_str())]).await?;
        Ok(Self { manager, properties, jobs, changes, owner })
    }

    async fn read(&self) -> Result<Snapshot, Box<str>> {
        Ok(Snapshot::of(&self.properties.get_all("").await.map_err(|e| lost(&e))?))
    }

    /// Reads until systemd, too, knows that process `pid` ended.
    async fn read_after(&mut self, pid: u32) -> Result<Snapshot, Box<str>> {
        loop {
            let now = self.read().await?;
            if now.running() != Some(pid) {
                return Ok(now);
            }
            self.changes.next().await.ok_or("the connection to D-Bus is gone")?;
        }
    }
}

/// A unit at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Snapshot {
    load: String,
    active: String,
    sub: String,
    file: String,
    restart: String,
    triggered_by: Vec<String>,
    result: String,
    invocation: Vec<u8>,
    /// A job is queued or runs.
    busy: bool,
    pid: u32,
    exit_code: i32,
    exit_status: i32,
}

impl Snapshot {
    fn of(all: &BTreeMap<String, OwnedVariant>) -> Self {
        let number = |key| all.get(key).and_then(|v| i32::try_from(v).ok()).unwrap_or(0);
        Self {
            load: text(all, "LoadState"),
            active: text(all, "ActiveState"),
            sub: text(all, "SubState"),
            file: text(all, "UnitFileState"),
            restart: text(all, "Restart"),
            triggered_by: list(all, "TriggeredBy"),
            result: text(all, "Result"),
            invocation: list(all, "InvocationID"),
            busy: all
                .get("Job")
                .and_then(|v| <(u32, OwnedObjectPath)>::try_from(v.clone()).ok())
                .is_some_and(|(id, _)| id != 0),
            pid: all.get("MainPID").and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
            exit_code: number("ExecMainCode"),
            exit_status: number("ExecMainStatus"),
        }
    }

    /// The main process, or 0 if there is none to speak of, of a unit that is up.
    fn running(&self) -> Option<u32> {
        matches!(&*self.active, "active" | "reloading" | "refreshing").then_some(self.pid)
    }

    /// Down, and nothing under way.
    fn at_rest(&self) -> bool {
        !self.busy
            && !matches!(&*self.active, "activating" | "deactivating")
            && self.running().is_none()
    }

    /// The state has gone beyond the death of process `pid`.
    fn outlived(&self, pid: u32) -> bool {
        self.active != "deactivating" && self.running() != Some(pid)
    }

    /// The main process of this state if it is gone in the `next`, while the unit is not down yet.
    fn bereft_in(&self, next: &Self) -> Option<u32> {
        self.running().filter(|pid| *pid != 0 && next.active == "deactivating" && next.pid == 0)
    }

    /// `next` is another run of the same unit.
    fn replaced_by(&self, next: &Self) -> bool {
        self.running().is_some() && next.running().is_some() && self.invocation != next.invocation
    }

    fn event(&self, dead: bool) -> ProxyEvent {
        let gone = ProxyEvent::Stopped { how: self.how() };
        match (&*self.active, &*self.load) {
            ("active" | "reloading" | "refreshing" | "deactivating", _) if dead => gone,
            ("active" | "reloading" | "refreshing", _) => ProxyEvent::Running { pid: self.pid },
            ("activating", _) => ProxyEvent::Starting,
            ("deactivating", _) => ProxyEvent::Stopping,
            (_, "loaded" | "merged") => gone,
            (_, "not-found") => ProxyEvent::Unknown { why: words("there is no such unit") },
            (_, load) => ProxyEvent::Unknown { why: words(format!("the unit is {load}")) },
        }
    }

    /// How it ended, in words.
    fn how(&self) -> Box<str> {
        words(match (&*self.result, self.exit_code) {
            ("exit-code" | "signal" | "core-dump", libc::CLD_EXITED) => {
                format!("exit status {}", self.exit_status)
            }
            ("exit-code" | "signal" | "core-dump", libc::CLD_KILLED | libc::CLD_DUMPED) => {
                format!("killed by signal {}", self.exit_status)
            }
            ("success" | "", _) if self.running().is_some() => "main process ended".to_owned(),
            ("success" | "", _) => "inactive".to_owned(),
            ("oom-kill", _) => "killed for lack of memory".to_owned(),
            ("timeout", _) => "systemd's own time-out".to_owned(),
            ("watchdog", _) => "systemd's watchdog".to_owned(),
            ("start-limit-hit", _) => "started too often for systemd (StartLimitBurst=)".to_owned(),
            (other, _) => other.to_owned(),
        })
    }

    /// What systemd does by itself with a unit that is vipd's to start and stop.
    fn findings(&self, name: &str, active_only: bool) -> Vec<String> {
        let mut found = Vec::new();
        if active_only && matches!(&*self.file, "enabled" | "enabled-runtime") {
            found.push(format!(
                "{name} is {}: systemd starts it at boot on every host; `systemctl disable {name}`",
                self.file
            ));
        }
        if active_only && !self.triggered_by.is_empty() {
            let by = self.triggered_by.join(" ");
            found.push(format!(
                "{name} is triggered by {by}: systemd starts it on every host; `systemctl disable --now {by}`"
            ));
        }
        if !matches!(&*self.restart, "" | "no") {
            found.push(format!(
                "{name} has Restart={}: systemd restarts it, vipd waits for that and counts it",
                self.restart
            ));
        }
        found
    }
}

fn text(all: &BTreeMap<String, OwnedVariant>, key: &str) -> String {
    all.get(key).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default().to_owned()
}

fn list<T>(all: &BTreeMap<String, OwnedVariant>, key: &str) -> Vec<T>
where
    Vec<T>: TryFrom<OwnedVariant>,
{
    all.get(key).and_then(|v| Vec::try_from(v.clone()).ok()).unwrap_or_default()
}

/// Why a start came to nothing, from the result of its job.
fn failure(result: &str, now: &Snapshot) -> Box<str> {
    match result {
        "done" if now.result == "success" => words("it ended at once: not a unit that stays up"),
        "done" | "failed" => now.how(),
        "dependency" => words("a unit that it needs failed"),
        "canceled" => words("somebody else cancelled the start"),
        "skipped" => words("a condition of the unit does not hold"),
        other => words(other),
    }
}

/// What systemd says against a request; `None` if there was no answer.
fn refusal(name: &str, error: &zbus::Error) -> Option<Box<str>> {
    use zbus::fdo::Error as Fdo;
    if let zbus::Error::MethodError(_, text, _) = error {
        return Some(words(text.as_deref().unwrap_or("refused")));
    }
    let zbus::Error::FDO(error) = error else { return None };
    #[allow(clippy::wildcard_enum_match_arm, reason = "whatever else it is, it is an answer")]
    match &**error {
        Fdo::AccessDenied(_) | Fdo::AuthFailed(_) | Fdo::InteractiveAuthorizationRequired(_) => {
            Some(words(format!(
                "not authorised to manage {name}: is vipd's polkit rule installed, and does it \
                 name the unit?"
            )))
        }
        Fdo::NoReply(_)
        | Fdo::Timeout(_)
        | Fdo::TimedOut(_)
        | Fdo::Disconnected(_)
        | Fdo::ServiceUnknown(_)
        | Fdo::NameHasNoOwner(_) => None,
        answer => Some(words(answer.to_string())),
    }
}

fn lost(error: &zbus::Error) -> Box<str> {
    words(format!("no systemd on D-Bus: {error}"))
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: zbus::ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// An empty interface name, which `zbus::fdo` does not allow, makes systemd give the properties
/// of all interfaces as they are at one moment.
#[zbus::proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1"
)]
trait Properties {
    fn get_all(&self, interface: &str) -> zbus::Result<BTreeMap<String, OwnedVariant>>;
    #[zbus(signal)]
    fn properties_changed(&self) -> zbus::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(active: &str, result: &str, code: i32, status: i32) -> Snapshot {
        Snapshot {
            load: "loaded".into(),
            active: active.into(),
            result: result.into(),
            exit_code: code,
            exit_status: status,
            ..Snapshot::default()
        }
    }

    #[test]
    fn an_end_has_words() {
        let cases = [
            (unit("inactive", "success", 0, 0), "inactive"),
            (unit("failed", "exit-code", libc::CLD_EXITED, 7), "exit status 7"),
            (unit("failed", "signal", libc::CLD_KILLED, 9), "killed by signal 9"),
            (unit("deactivating", "core-dump", libc::CLD_DUMPED, 11), "killed by signal 11"),
            (unit("active", "success", 0, 0), "main process ended"),
            (unit("failed", "protocol", 0, 0), "protocol"),
        ];
        for (unit, how) in cases {
            assert_eq!(&*unit.how(), how, "{unit:?}");
        }
    }

    #[test]
    fn states_are_told_as_they_are_unless_the_process_is_known_to_be_dead() {
        let mut up = unit("active", "success", 0, 0);
        up.pid = 7;
        assert_eq!(up.event(false), ProxyEvent::Running { pid: 7 });
        assert!(matches!(up.event(true), ProxyEvent::Stopped { .. }));
        assert_eq!(unit("activating", "", 0, 0).event(true), ProxyEvent::Starting);
        assert_eq!(unit("deactivating", "", 0, 0).event(false), ProxyEvent::Stopping);
        let mut none = unit("inactive", "", 0, 0);
        none.load = "not-found".into();
        assert!(matches!(none.event(false), ProxyEvent::Unknown { .. }));
    }

    #[test]
    fn what_systemd_does_by_itself_is_found_where_it_matters() {
        let mut unit = unit("inactive", "", 0, 0);
        unit.file = "enabled".into();
        assert_eq!(unit.findings("a.service", true).len(), 1);
        assert_eq!(unit.findings("a.service", false).len(), 0);
        unit.restart = "always".into();
        assert_eq!(unit.findings("a.service", false).len(), 1);
        unit.triggered_by = vec!["a.socket".into()];
        assert_eq!(unit.findings("a.service", true).len(), 3);
    }
}
