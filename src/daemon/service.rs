//! The service runtime: API, proxies, signals, the configuration file, logs, systemd.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::api::server::Server;
use crate::api::{Backend, ReloadError, ReloadReport, Unavailable};
use crate::config::{self, Config};
use crate::core::event::{ProxyEvent, Secrets};
use crate::core::status::Status;
use crate::io::events::EventLog;
use crate::io::notify::{self, Watchdog};
use crate::io::proxy::Supervisor;
use crate::io::{clock, wake};

use super::instance::Instance;
use super::turn::{Input, Output};
use super::{Loaded, Options};

/// How long the core thread may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Reports of proxies that may wait.
const PROXY_EVENTS: usize = 256;
/// How long to wait when the core thread's mailbox is full.
const FULL: Duration = Duration::from_millis(5);
/// The largest password file that is read.
const PASSWORD_FILE: u64 = 4096;

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
    #[error(
        "{}: no node is called {name:?} (nodes: {known}); give the node's name with --node",
        path.display()
    )]
    NotANode { path: PathBuf, name: String, known: String },
    /// A password file is unusable.
    #[error("password-file {} of group {group:?}: {why}", path.display())]
    Password { path: PathBuf, group: String, why: String },
}

/// Reads, validates and completes the configuration.
pub(super) fn load(options: &Options) -> Result<Loaded, LoadError> {
    let path = &options.config;
    let text = fs::read_to_string(path)
        .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
    let name = path.display().to_string();
    let (config, warnings) = config::parse(&text)
        .map_err(|mistakes| LoadError::Invalid(config::render(&mistakes, &name, &text, false)))?;
    let warnings = if warnings.is_empty() {
        String::new()
    } else {
        config::render(&warnings, &name, &text, false)
    };
    let me = config.find_node(&options.node).ok_or_else(|| LoadError::NotANode {
        path: path.clone(),
        name: options.node.clone(),
        known: config.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let secrets = secrets(&config)?;
    Ok(Loaded { config: Arc::new(config), me, secrets, warnings })
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

fn password(path: &Path) -> Result<[u8; 8], String> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).map_err(|e| e.to_string())?;
    if meta.mode() & 0o007 != 0 {
        return Err(format!("readable by others (mode {:03o}); chmod 640", meta.mode() & 0o777));
    }
    if meta.len() > PASSWORD_FILE {
        return Err(format!("{} bytes, expected 1 to 8", meta.len()));
    }
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    config::password(&bytes).map_err(|e| e.to_string())
}

/// What the API, the signals and the watchdog share.
pub(super) struct Service {
    options: Options,
    instance: Instance,
    inbox: wake::Sender<Input>,
    events: EventLog,
}

impl Service {
    pub(super) fn new(
        options: Options,
        instance: Instance,
        node: &str,
        inbox: wake::Sender<Input>,
    ) -> Self {
        Self { options, instance, inbox, events: EventLog::new(node, Timestamp::now()) }
    }

    /// Asks the core thread, for as long as it may take.
    async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<T>) -> Input,
    ) -> Result<T, Unavailable> {
        let (to, answer) = oneshot::channel();
        self.inbox.try_send(input(to)).map_err(|_| Unavailable::Late(ANSWER))?;
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unavailable::Stopping),
            Err(_) => Err(Unavailable::Late(ANSWER)),
        }
    }

    /// Runs until the core thread has given everything up; says whether that went well.
    pub(super) async fn run(
        self: Arc<Self>,
        warnings: &str,
        server: Server,
        outbox: mpsc::Receiver<Output>,
    ) -> bool {
        if !warnings.is_empty() {
            tracing::warn!("{warnings}");
        }
        let (proxies, reports) = mpsc::channel(PROXY_EVENTS);
        let supervisor = Supervisor::new(proxies);
        let (stop_server, stopped) = oneshot::channel::<()>();
        let api = tokio::spawn(server.run(Arc::new(Shared(Arc::clone(&self))), async {
            // The sender is dropped or fires: either way it is over.
            let _ = stopped.await;
        }));
        let signals = tokio::spawn(Arc::clone(&self).signals());
        let watchdog = tokio::spawn(Arc::clone(&self).watchdog());
        let feed = tokio::spawn(feed(self.inbox.clone(), reports));
        if self.ask(Input::Ping).await.is_ok() {
            notify::ready("running");
        }
        let clean = self.pump(outbox, supervisor).await;
        for task in [signals, watchdog, feed] {
            task.abort();
        }
        drop(stop_server);
        let _ = tokio::time::timeout(ANSWER, api).await;
        if clean {
            self.instance.forget();
        }
        clean
    }

    /// Carries out what the core thread says, until it says [`Output::Exit`].
    async fn pump(&self, mut outbox: mpsc::Receiver<Output>, mut supervisor: Supervisor) -> bool {
        let mut clean = true;
        while let Some(output) = outbox.recv().await {
            match output {
                Output::Note(note) => {
                    clean &= note.kind != "stop-timed-out";
                    if note.kind == "active" || note.kind == "backup" {
                        let group = note.group.as_deref().unwrap_or_default();
                        notify::status(&format!("{group}: {}: {}", note.kind, note.text));
                    }
                    self.events.append(Timestamp::now(), note);
                }
                Output::Proxy(group, proxy, order) => supervisor.order(group, &proxy, order),
                Output::Exit => {
                    supervisor.shutdown().await;
                    return clean;
                }
            }
        }
        // The core thread died without a word.
        false
    }

    async fn signals(self: Arc<Self>) {
        let listen = |kind| signal(kind).expect("the runtime was built with signals enabled");
        let (mut term, mut int, mut hup) = (
            listen(SignalKind::terminate()),
            listen(SignalKind::interrupt()),
            listen(SignalKind::hangup()),
        );
        loop {
            tokio::select! {
                _ = term.recv() => self.stop("SIGTERM"),
                _ = int.recv() => self.stop("SIGINT"),
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

    async fn reload_on_signal(&self) {
        // Whoever sent the signal reads the outcome in the log.
        let _ = self.reload_file().await;
    }

    /// Reads the file, and hands it to the core if it is valid; logs the outcome.
    async fn reload_file(&self) -> Result<ReloadReport, ReloadError> {
        notify::reloading();
        let result = self.try_reload().await;
        match &result {
            Ok(report) if report.changes.is_empty() => tracing::info!("reloaded: nothing changed"),
            Ok(report) => tracing::info!(changes = report.changes.join("; "), "reloaded"),
            Err(error) => tracing::error!("not reloaded: {error}"),
        }
        notify::ready(if result.is_ok() { "running" } else { "running; last reload refused" });
        result
    }

    async fn try_reload(&self) -> Result<ReloadReport, ReloadError> {
        let loaded = load(&self.options).map_err(|e| ReloadError::Refused(e.to_string()))?;
        let Loaded { config, secrets, warnings, .. } = loaded;
        self.instance.remember(&config);
        let changes = self.ask(|to| Input::Reload(config, secrets, to)).await?;
        if !warnings.is_empty() {
            tracing::warn!("{warnings}");
        }
        Ok(ReloadReport { changes, warnings })
    }

    /// Tells systemd that the core loop lives: only its own answer counts.
    async fn watchdog(self: Arc<Self>) {
        let Some(watchdog) = Watchdog::from_env() else { return };
        let mut beat = tokio::time::interval(watchdog.period());
        loop {
            beat.tick().await;
            if let Ok(answered) = self.ask(Input::Ping).await {
                watchdog.ping(answered, clock::now());
            }
        }
    }
}

/// Hands the core what proxies report. A full mailbox makes it wait: no report is lost.
async fn feed(inbox: wake::Sender<Input>, mut reports: mpsc::Receiver<(u16, ProxyEvent)>) {
    while let Some((group, event)) = reports.recv().await {
        let mut input = Input::Proxy(group, event);
        while let Err(wake::Full(back)) = inbox.try_send(input) {
            input = back;
            tokio::time::sleep(FULL).await;
        }
    }
}

/// [`Service`] as the API sees it.
struct Shared(Arc<Service>);

impl Backend for Shared {
    fn status(&self) -> impl Future<Output = Result<Status, Unavailable>> + Send {
        self.0.ask(Input::Status)
    }

    fn reload(&self) -> impl Future<Output = Result<ReloadReport, ReloadError>> + Send {
        self.0.reload_file()
    }

    fn events(&self) -> &EventLog {
        &self.0.events
    }
}
