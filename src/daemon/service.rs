//! The service runtime: API, proxies, signals, the configuration file, logs, systemd.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::api::moving::may_move;
use crate::api::server::Server;
use crate::api::will::{Asked, WillReport};
use crate::api::{
    Backend, Connections, FenceOrder, HookReport, MoveReport, ReloadError, ReloadReport,
    Unavailable,
};
use crate::config::{self, Config, HostError};
use crate::core::event::{ProxyEvent, Secrets};
use crate::core::hook::State;
use crate::core::status::{Note, Status};
use crate::io::ballots::Ballots;
use crate::io::events::{self, EventLog};
use crate::io::notify;
use crate::io::proxy::Supervisor;
use crate::io::record::Record;
use crate::io::{job, wake};
use crate::types::{Digest, GateId, Instant, VoterIx};
use crate::wire::peer::Keyring;

use super::asking::{self, ANSWER};
use super::checks::Checks;
use super::clients::{Clients, Told};
use super::clocks;
use super::decisions::Keeping;
use super::fencing::Fencing;
use super::hooks::Hooks;
use super::instance::Instance;
use super::turn::{Fresh, Input, Output};
use super::{Loaded, Options, sessions, watchdog};

/// How long a move may take, and how often it is looked after.
const MOVE_LIMIT: Duration = Duration::from_secs(3);
const MOVE_LOOK: Duration = Duration::from_millis(10);
/// How many more looks the gap is waited for.
const MOVE_LOOKS_FOR_GAP: u128 = 60;
/// Reports of proxies that may wait.
const PROXY_EVENTS: usize = 256;
/// The largest password file that is read.
const PASSWORD_FILE: u64 = 4096;
/// The largest file of keys that is read.
const SECRET_FILE: u64 = 64 * 1024;

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is wrong; the text is rendered diagnostics.
    #[error("the configuration is wrong; nothing was changed\n\n{0}")]
    Invalid(String),
    /// This host is not in it.
    #[error("{}: {source}", path.display())]
    NotANode { path: PathBuf, source: HostError },
    /// The file of keys is unusable.
    #[error("secret {}: {why}", path.display())]
    Secret { path: PathBuf, why: String },
    /// A password file is unusable.
    #[error("password-file {} of group {group:?}: {why}", path.display())]
    Password { path: PathBuf, group: String, why: String },
}

/// Reads and validates a file: what it says, its text, and rendered warnings.
pub(super) fn read(path: &Path) -> Result<(Config, String, String), LoadError> {
    let text = fs::read_to_string(path)
        .map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    let (config, warnings) = config::parse(&text)
        .map_err(|mistakes| LoadError::Invalid(config::render(&mistakes, &name, &text, false)))?;
    let warnings = if warnings.is_empty() {
        String::new()
    } else {
        config::render(&warnings, &name, &text, false)
    };
    Ok((config, text, warnings))
}

/// Reads, validates and completes the configuration.
pub(super) fn load(options: &Options) -> Result<Loaded, LoadError> {
    let path = &options.config;
    let (config, text, warnings) = read(path)?;
    let me = config
        .validate_for(&options.node)
        .map_err(|source| LoadError::NotANode { path: path.clone(), source })?;
    let secrets = secrets(&config)?;
    let keys = keys(&config)?;
    Ok(Loaded { config: Arc::new(config), me, secrets, keys, text, warnings })
}

fn secrets(config: &Config) -> Result<Secrets, LoadError> {
    let read = |group: &config::Group| {
        group.password_file.as_deref().map(|path| {
            password(path).map_err(|why| LoadError::Password {
                path: path.to_owned(),
                group: group.name.clone(),
                why,
            })
        })
    };
    config.groups.iter().map(|g| read(g).transpose()).collect::<Result<_, _>>().map(Secrets)
}

/// The cluster's keys, where there is a channel.
pub(super) fn keys(config: &Config) -> Result<Option<Keyring>, LoadError> {
    let Some(path) = config.secret.as_deref().filter(|_| config.has_channel()) else {
        return Ok(None);
    };
    let refuse = |why: String| LoadError::Secret { path: path.to_owned(), why };
    let bytes = private(path, SECRET_FILE).map_err(refuse)?;
    Keyring::parse(&bytes).map(Some).map_err(|e| refuse(e.to_string()))
}

fn password(path: &Path) -> Result<[u8; 8], String> {
    let bytes = private(path, PASSWORD_FILE)?;
    config::password(&bytes).map_err(|e| e.to_string())
}

/// What is in a file that others must not read.
pub(super) fn private(path: &Path, longest: u64) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).map_err(|e| e.to_string())?;
    if meta.mode() & 0o007 != 0 {
        return Err(format!("readable by others (mode {:03o}); chmod 640", meta.mode() & 0o777));
    }
    if meta.len() > longest {
        return Err(format!("{} bytes, more than {longest}", meta.len()));
    }
    fs::read(path).map_err(|e| e.to_string())
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything was given up.
    Clean,
    /// Not everything could be given up in time, or the core thread died.
    Failed,
    /// Everything is left to the next run.
    Left,
}

/// What the API, the signals and the watchdog share.
pub(super) struct Service {
    options: Options,
    /// This node.
    node: String,
    instance: Instance,
    record: Record,
    /// Which gate the votes of this host are about.
    gate: Option<GateId>,
    pub(super) inbox: wake::Sender<Input>,
    pub(super) events: Arc<EventLog>,
    hooks: Hooks,
    checks: Checks,
    /// Whether anything is held by lease, so that the clocks matter.
    leased: AtomicBool,
    /// The watchdog that the file in force names.
    watchdog: watch::Sender<Option<config::Watchdog>>,
    /// One reload at a time: the file that was read last is the one in force.
    reloading: Mutex<()>,
    pub(super) fencing: Fencing,
    clients: Arc<Clients>,
    pub(super) decisions: Arc<Keeping>,
}

impl Service {
    pub(super) fn new(
        options: Options,
        instance: Instance,
        (record, gate): (Record, Option<GateId>),
        (node, config): (&str, &Config),
        (inbox, decisions): (wake::Sender<Input>, Arc<Keeping>),
    ) -> Self {
        let fencing = Fencing::open(&options.runtime_dir, &options.state_dir);
        let events = Arc::new(EventLog::new(node, Timestamp::now()));
        let hooks = Hooks::new(Arc::clone(&events), &config.cluster, node);
        Self {
            fencing,
            clients: Clients::new(inbox.clone()),
            decisions,
            node: node.to_owned(),
            options,
            instance,
            record,
            gate,
            checks: Checks::new(inbox.clone()),
            inbox,
            events,
            hooks,
            leased: AtomicBool::new(config.needs_lease()),
            watchdog: watch::Sender::new(config.watchdog.clone()),
            reloading: Mutex::new(()),
        }
    }

    /// Asks the core thread, for as long as it may take.
    pub(super) async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<T>) -> Input,
    ) -> Result<T, Unavailable> {
        asking::ask(&self.inbox, input).await
    }

    /// Runs until the core thread has given everything up; says whether that went well.
    pub(super) async fn run(
        self: Arc<Self>,
        (warnings, config): (&str, &Config),
        server: Server,
        (outbox, told): (mpsc::Receiver<Output>, mpsc::Receiver<Told>),
    ) -> bool {
        if !warnings.is_empty() {
            tracing::warn!("{warnings}");
        }
        self.hooks.configure(config);
        self.checks.configure(config);
        if let Some(told) = watchdog::obituary(&self.options.state_dir) {
            self.note(told);
        }
        let (proxies, reports) = mpsc::channel(PROXY_EVENTS);
        let supervisor = Supervisor::new(proxies);
        let (stop_server, stopped) = oneshot::channel::<()>();
        let api = tokio::spawn(server.run(Arc::new(Shared(Arc::clone(&self))), async {
            // The sender is dropped or fires: either way it is over.
            let _ = stopped.await;
        }));
        let signals = tokio::spawn(Arc::clone(&self).signals());
        let alive = tokio::spawn(asking::alive(self.inbox.clone(), Input::Ping));
        let clocks = tokio::spawn(Arc::clone(&self).clocks());
        let devices = tokio::spawn(Arc::clone(&self).check_devices());
        let insist = tokio::spawn(Arc::clone(&self.decisions).insist());
        let feed = tokio::spawn(feed(self.inbox.clone(), reports));
        let clients = tokio::spawn(Arc::clone(&self).serve_clients(told));
        if self.ask(Input::Ping).await.is_ok() {
            notify::ready("running");
        }
        let watchdog = watchdog::keep(self.inbox.clone(), self.watchdog.subscribe());
        let watchdog = tokio::spawn(watchdog);
        let end = self.pump(outbox, supervisor).await;
        for task in [signals, alive, watchdog, clocks, devices, insist, feed, clients] {
            task.abort();
        }
        drop(stop_server);
        if end == End::Left {
            // The lease goes on meanwhile: nobody's answer is worth that.
            api.abort();
        }
        let _ = tokio::time::timeout(ANSWER, api).await;
        if end == End::Clean {
            self.instance.forget();
        }
        end != End::Failed
    }

    /// Something happened: it is kept, what must not be forgotten on the disk, and the hooks hear
    /// of it.
    pub(super) fn note(&self, note: Note) {
        self.hooks.tell(&note);
        let wall = Timestamp::now();
        let id = self.events.append(wall, note.clone());
        self.fencing.keep(&events::Record { id, wall, node: self.node.clone(), note });
    }

    /// The core's snapshot, and what it does not know.
    async fn status(&self) -> Result<Status, Unavailable> {
        let mut status = self.ask(Input::Status).await?;
        let (hooks, conditions) = self.hooks.status();
        status.hooks = hooks;
        status.conditions.extend(conditions);
        status.conditions.extend(self.decisions.conditions());
        self.fencing.complete(&mut status);
        self.clients.complete(&mut status);
        self.checks.complete(&mut status);
        Ok(status)
    }

    /// Carries out what the core thread says, until it says [`Output::Exit`].
    async fn pump(
        self: &Arc<Self>,
        mut outbox: mpsc::Receiver<Output>,
        mut supervisor: Supervisor,
    ) -> End {
        let mut clean = true;
        while let Some(output) = outbox.recv().await {
            match output {
                Output::Note(note) => {
                    clean &= note.kind != "stop-timed-out";
                    if note.kind == "active" || note.kind == "backup" {
                        let group = note.group.as_deref().unwrap_or_default();
                        notify::status(&format!("{group}: {}: {}", note.kind, note.text));
                    }
                    self.note(note);
                }
                Output::Proxy(group, proxy, order) => supervisor.order(group, &proxy, order),
                Output::Fence { run, victim, device, power } => {
                    self.fence(run, victim, device, power);
                }
                Output::Decided(all) => {
                    let decisions = Arc::clone(&self.decisions);
                    // How it went is a condition.
                    tokio::spawn(async move { drop(decisions.keep(all).await) });
                }
                Output::Hasten(checks) => self.checks.hasten(&checks),
                Output::EndSessions { node, from, on } => {
                    let this = Arc::clone(self);
                    tokio::spawn(async move { this.note(sessions::end(&node, &from, &on).await) });
                }
                Output::Settled { digest, vote } => self.settled(digest, vote),
                Output::Reset { why, reboots } => {
                    let dir = &self.options.state_dir;
                    if let Some(told) = watchdog::reset(dir, &why, reboots).await {
                        self.note(told);
                    }
                }
                Output::Exit { left: true } => {
                    // Units are left as they are, whatever is under way with them.
                    drop(supervisor);
                    return End::Left;
                }
                Output::Exit { left: false } => {
                    tokio::join!(supervisor.shutdown(), self.hooks.end());
                    return if clean { End::Clean } else { End::Failed };
                }
            }
        }
        // The core thread died without a word.
        End::Failed
    }

    /// Writes down that every voter has this configuration. Without that, the next start waits
    /// until it has seen them all again.
    fn settled(&self, digest: Digest, vote: Duration) {
        if let Err(error) = self.record.write(digest, vote) {
            tracing::warn!("that every voter has this configuration is not written down: {error}");
        }
    }

    async fn signals(self: Arc<Self>) {
        let listen = |kind| signal(kind).expect("the runtime was built with signals enabled");
        let (mut term, mut int, mut hup, mut leave) = (
            listen(SignalKind::terminate()),
            listen(SignalKind::interrupt()),
            listen(SignalKind::hangup()),
            listen(SignalKind::user_defined2()),
        );
        loop {
            tokio::select! {
                // The core thread keeps its leases while systemd is asked.
                _ = term.recv() => if job::is_restart().await {
                    self.leave("a restart");
                } else {
                    self.stop("SIGTERM");
                },
                _ = int.recv() => self.stop("SIGINT"),
                _ = leave.recv() => self.leave("SIGUSR2"),
                _ = hup.recv() => self.reload_on_signal().await,
            }
        }
    }

    fn stop(&self, signal: &str) {
        tracing::info!(signal, "stopping: giving up every address gracefully");
        notify::stopping("giving up every address");
        if self.inbox.try_send(Input::Stop).is_err() {
            tracing::error!("the core thread does not take the order to stop");
        }
    }

    /// Ends so that the next run can go on where this one was; it has to come within the lease.
    fn leave(&self, why: &str) {
        if let Some(trouble) = self.would_starve() {
            tracing::warn!("the next run would not feed the watchdog, all is given up: {trouble}");
            return self.stop(why);
        }
        tracing::info!(why, "to leave every address to the next run");
        if self.inbox.try_send(Input::Leave).is_err() {
            tracing::error!("the core thread does not take the order to leave");
        }
        notify::stopping("leaving every address to the next run");
    }

    /// Why the next run would not feed the watchdog that this one leaves armed.
    fn would_starve(&self) -> Option<String> {
        let armed = self.watchdog.borrow().clone()?;
        match load(&self.options) {
            Ok(next) if next.config.watchdog.as_ref().is_some_and(|w| w.device == armed.device) => {
                None
            }
            Ok(_) => Some("the file names another one, or none".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    async fn reload_on_signal(&self) {
        // Whoever sent the signal reads the outcome in the log.
        let _ = self.reload_file().await;
    }

    /// Reads the file, and hands it to the core if it is valid; logs the outcome.
    async fn reload_file(&self) -> Result<ReloadReport, ReloadError> {
        let _one = self.reloading.lock().await;
        asking::reload("running", self.try_reload()).await
    }

    async fn try_reload(&self) -> Result<ReloadReport, ReloadError> {
        let loaded = load(&self.options).map_err(|e| ReloadError::Refused(e.to_string()))?;
        let Loaded { config, secrets, keys, text, warnings, .. } = loaded;
        self.instance.remember(&config);
        let doubt = self.record.doubt_unless(config.digest());
        doubt.map_err(|e| ReloadError::Refused(format!("the state directory: {e}")))?;
        let ballots = self.ballots(&config);
        let fresh = Box::new(Fresh { config, secrets, keys, ballots, text });
        let config = Arc::clone(&fresh.config);
        let mut changes = self.ask(|to| Input::Reload(fresh, to)).await?;
        self.leased.store(config.needs_lease(), Ordering::Relaxed);
        self.watchdog.send_replace(config.watchdog.clone());
        changes.extend(self.hooks.configure(&config));
        self.fencing.changed.notify_one();
        self.checks.configure(&config);
        if !warnings.is_empty() {
            tracing::warn!("{warnings}");
        }
        Ok(ReloadReport { changes, warnings })
    }

    /// Has a group handed over, and waits until that is done.
    async fn hand_over(&self, group: &str, node: &str) -> Result<MoveReport, ReloadError> {
        let status = self.ask(Input::Status).await?;
        let from = may_move(&status, group, node).map_err(ReloadError::Refused)?;
        let report = |gap_us| MoveReport {
            group: group.to_owned(),
            from: from.clone(),
            to: node.to_owned(),
            gap_us,
        };
        if from == node {
            return Ok(report(None));
        }
        let voters = status.voting.as_ref().map(|v| v.voters.as_slice()).unwrap_or_default();
        let to = voters.iter().position(|v| v.name == node).and_then(|ix| u8::try_from(ix).ok());
        let order = Input::Move(group.into(), VoterIx(to.unwrap_or(u8::MAX)));
        self.inbox.try_send(order).map_err(|_| Unavailable::Late(ANSWER))?;
        let mut tries = MOVE_LIMIT.as_millis() / MOVE_LOOK.as_millis();
        let mut arrived = None;
        while tries > 0 {
            tokio::time::sleep(MOVE_LOOK).await;
            tries -= 1;
            let status = self.ask(Input::Status).await?;
            let lease =
                status.groups.iter().find(|g| g.name == group).and_then(|g| g.lease.as_ref());
            let Some(lease) = lease.filter(|l| l.holder.as_deref() == Some(node)) else { continue };
            arrived = Some(lease.gap_us);
            if lease.gap_us.is_some() {
                break;
            }
            // It says so with one of its next reports.
            tries = tries.min(MOVE_LOOKS_FOR_GAP);
        }
        arrived.map(report).ok_or_else(|| {
            ReloadError::Refused(format!("{node} does not have {group} after {MOVE_LIMIT:?}"))
        })
    }

    /// A file with room for the votes about every group of `config`.
    fn ballots(&self, config: &Config) -> Option<Ballots> {
        let gate = self.gate.filter(|_| config.needs_lease())?;
        match super::open_ballots(&self.options, gate, config) {
            Ok((ballots, _)) => Some(ballots),
            Err(error) => {
                tracing::warn!("votes about new groups do not outlive a restart: {error}");
                None
            }
        }
    }

    /// Shares the connections of clients, and tells those of others.
    async fn serve_clients(self: Arc<Self>, told: mpsc::Receiver<Told>) {
        let is_shared = || self.leased.load(Ordering::Relaxed);
        Arc::clone(&self.clients).run(told, is_shared, |note| self.note(note)).await;
    }

    /// Tells the core whether the clocks can be trusted.
    async fn clocks(self: Arc<Self>) {
        let leased = || self.leased.load(Ordering::Relaxed);
        clocks::keep(leased, |told| match told {
            clocks::Told::Clock(clock) => self.inbox.try_send(Input::Clock(clock)).is_ok(),
            clocks::Told::Note(note) => {
                self.note(note);
                true
            }
        })
        .await;
    }
}

/// Hands the core what proxies report. A full mailbox makes it wait: no report is lost.
async fn feed(inbox: wake::Sender<Input>, mut reports: mpsc::Receiver<(u16, ProxyEvent)>) {
    while let Some((group, event)) = reports.recv().await {
        asking::tell(&inbox, Input::Proxy(group, event)).await;
    }
}

/// [`Service`] as the API sees it.
struct Shared(Arc<Service>);

impl Backend for Shared {
    fn status(&self) -> impl Future<Output = Result<Status, Unavailable>> + Send {
        self.0.status()
    }

    fn reload(&self) -> impl Future<Output = Result<ReloadReport, ReloadError>> + Send {
        self.0.reload_file()
    }

    async fn hand_over(&self, group: String, node: String) -> Result<MoveReport, ReloadError> {
        self.0.hand_over(&group, &node).await
    }

    async fn fence(&self, node: String, order: FenceOrder) -> Result<(), ReloadError> {
        self.0.order_fence(&node, order).await
    }

    async fn connections(
        &self,
        group: String,
        before: Option<Instant>,
    ) -> Result<Connections, ReloadError> {
        let status = self.0.ask(Input::Status).await?;
        self.0.clients.count(&status, &group, before).ok_or_else(|| {
            ReloadError::Refused(format!("nothing is known of connections to {group:?}"))
        })
    }

    async fn decide(&self, asked: Asked) -> Result<WillReport, ReloadError> {
        self.0.decide(asked).await
    }

    fn fence_history(&self) -> Vec<events::Record> {
        self.0.fencing.history()
    }

    async fn hook(
        &self,
        name: String,
        group: Option<String>,
        state: String,
    ) -> Result<HookReport, ReloadError> {
        let state = State::of(&state)
            .ok_or_else(|| ReloadError::Refused(format!("no group can become {state}")))?;
        let report = self.0.hooks.test(&name, group.as_deref(), state).await;
        report.map_err(ReloadError::Refused)
    }

    fn events(&self) -> &EventLog {
        &self.0.events
    }
}
