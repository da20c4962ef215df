//! The service runtime of a witness: API, signals, the configuration files, the records, systemd.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::api::server::Server;
use crate::api::{
    Asked, Backend, Connections, FenceOrder, HookReport, MoveReport, ReloadError, ReloadReport,
    Unavailable, WillReport,
};
use crate::core::status::Status;
use crate::io::events::{self, EventLog};
use crate::io::notify;
use crate::io::record::Record;
use crate::io::wake;
use crate::types::Instant;

use super::super::asking::{self, ANSWER};
use super::super::clocks::{self, Told};
use super::booth::Fresh;
use super::hall::Input;
use super::{Loaded, Options, Output, Refusal, load, open_ballots};

/// What the API, the signals and the watchdog share.
pub(super) struct Service {
    options: Options,
    /// By cluster.
    records: BTreeMap<String, Record>,
    boot: u128,
    inbox: wake::Sender<Input>,
    events: EventLog,
    /// One reload at a time: the files that were read last are those in force.
    reloading: Mutex<()>,
    clusters: Vec<String>,
}

impl Service {
    pub(super) fn new(
        options: Options,
        (clusters, records): (Vec<String>, BTreeMap<String, Record>),
        boot: u128,
        name: &str,
        inbox: wake::Sender<Input>,
    ) -> Self {
        let events = EventLog::new(name, Timestamp::now());
        Self { options, records, boot, inbox, events, reloading: Mutex::new(()), clusters }
    }

    /// Asks the voting thread, for as long as it may take.
    async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<T>) -> Input,
    ) -> Result<T, Unavailable> {
        asking::ask(&self.inbox, input).await
    }

    /// Runs until it is told to stop; says whether the voting thread was there to the end.
    pub(super) async fn run(
        self: Arc<Self>,
        warnings: &[String],
        server: Server,
        mut outbox: mpsc::Receiver<Output>,
    ) -> bool {
        for warning in warnings.iter().filter(|w| !w.is_empty()) {
            tracing::warn!("{warning}");
        }
        let (stop_server, stopped) = oneshot::channel::<()>();
        let api = tokio::spawn(server.run(Arc::new(Shared(Arc::clone(&self))), async {
            // The sender is dropped or fires: either way it is over.
            let _ = stopped.await;
        }));
        let alive = tokio::spawn(asking::alive(self.inbox.clone(), Input::Ping));
        let clocks = tokio::spawn(Arc::clone(&self).clocks());
        if self.ask(Input::Ping).await.is_ok() {
            tracing::info!(clusters = self.clusters.join(", "), "voting");
            notify::ready("voting");
        }
        let signals = Arc::clone(&self).signals();
        let mut signals = std::pin::pin!(signals);
        let clean = loop {
            tokio::select! {
                () = &mut signals => break true,
                output = outbox.recv() => match output {
                    Some(output) => self.take(output),
                    // The voting thread died without a word.
                    None => break false,
                },
            }
        };
        // Nothing is held, so there is nothing to hand over; votes are written down already.
        let _ = self.inbox.send(Input::Stop);
        alive.abort();
        clocks.abort();
        drop(stop_server);
        let _ = tokio::time::timeout(ANSWER, api).await;
        clean
    }

    fn take(&self, output: Output) {
        match output {
            Output::Note(note) => {
                self.events.append(Timestamp::now(), note);
            }
            Output::Settled { cluster, digest, vote } => {
                let Some(record) = self.records.get(&cluster) else { return };
                // Without that, the next start waits until it has seen them all again.
                if let Err(error) = record.write(digest, vote) {
                    tracing::warn!(
                        "that every voter of {cluster} has this configuration is not written down: \
                         {error}"
                    );
                }
            }
        }
    }

    /// Until one says that it is over.
    async fn signals(self: Arc<Self>) {
        let listen = |kind| signal(kind).expect("the runtime was built with signals enabled");
        let (mut term, mut int, mut hup) = (
            listen(SignalKind::terminate()),
            listen(SignalKind::interrupt()),
            listen(SignalKind::hangup()),
        );
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => {
                    // Not awaited here: the answer may need what this loop carries. Whoever sent
                    // the signal reads the outcome in the log.
                    let service = Arc::clone(&self);
                    drop(tokio::spawn(async move { service.reload_files().await }));
                }
            }
        }
        tracing::info!("stopping");
        notify::stopping("stopping");
    }

    /// Reads the files, and hands them on if all are valid; logs the outcome.
    async fn reload_files(&self) -> Result<ReloadReport, ReloadError> {
        let _one = self.reloading.lock().await;
        asking::reload("voting", self.try_reload()).await
    }

    async fn try_reload(&self) -> Result<ReloadReport, ReloadError> {
        let refuse = |refusal: Refusal| ReloadError::Refused(refusal.to_string());
        let all = load(&self.options).map_err(refuse)?;
        for (loaded, was) in all.iter().zip(&self.clusters) {
            let (path, is) = (loaded.path.clone(), loaded.config.cluster.clone());
            if is != *was {
                return Err(refuse(Refusal::Renamed { path, was: was.clone(), is }));
            }
        }
        let warnings: String = all.iter().map(|l| l.warnings.as_str()).collect();
        let fresh = all.into_iter().map(|l| self.fresh(l)).collect::<Result<Vec<_>, _>>()?;
        let changes = self.ask(|to| Input::Reload(fresh, to)).await?;
        if !warnings.is_empty() {
            tracing::warn!("{warnings}");
        }
        Ok(ReloadReport { changes, warnings })
    }

    fn fresh(&self, loaded: Loaded) -> Result<Fresh, ReloadError> {
        let Loaded { config, me, keys, .. } = loaded;
        if let Some(record) = self.records.get(&config.cluster) {
            let doubt = record.doubt_unless(config.digest());
            doubt.map_err(|e| ReloadError::Refused(format!("the state directory: {e}")))?;
        }
        let ballots = match open_ballots(&self.options.runtime_dir, self.boot, &config) {
            Ok((ballots, _)) => Some(ballots),
            Err(error) => {
                tracing::warn!("votes about new groups do not outlive a restart: {error}");
                None
            }
        };
        Ok(Fresh { config, me, keys, ballots })
    }

    /// Tells the voting thread whether the clocks can be trusted.
    async fn clocks(self: Arc<Self>) {
        clocks::keep(
            || true,
            |told| match told {
                Told::Clock(clock) => self.inbox.try_send(Input::Clock(clock)).is_ok(),
                Told::Note(note) => {
                    self.events.append(Timestamp::now(), note);
                    true
                }
            },
        )
        .await;
    }
}

/// [`Service`] as the API sees it.
struct Shared(Arc<Service>);

impl Backend for Shared {
    fn status(&self) -> impl Future<Output = Result<Status, Unavailable>> + Send {
        self.0.ask(Input::Status)
    }

    fn reload(&self) -> impl Future<Output = Result<ReloadReport, ReloadError>> + Send {
        self.0.reload_files()
    }

    async fn hand_over(&self, group: String, _node: String) -> Result<MoveReport, ReloadError> {
        let why = format!("a witness holds nothing: ask a node to move {group}");
        Err(ReloadError::Refused(why))
    }

    async fn connections(
        &self,
        group: String,
        _before: Option<Instant>,
    ) -> Result<Connections, ReloadError> {
        let why = format!("a witness knows of no connections: ask a node about {group}");
        Err(ReloadError::Refused(why))
    }

    async fn fence(&self, _: String, _: FenceOrder) -> Result<(), ReloadError> {
        Err(ReloadError::Refused("a witness fences nobody: order it on a node".to_owned()))
    }

    async fn decide(&self, _: Asked) -> Result<WillReport, ReloadError> {
        Err(ReloadError::Refused("a witness holds nothing: say it on a node".to_owned()))
    }

    fn fence_history(&self) -> Vec<events::Record> {
        Vec::new()
    }

    async fn hook(
        &self,
        _name: String,
        _group: Option<String>,
        _state: String,
    ) -> Result<HookReport, ReloadError> {
        Err(ReloadError::Refused("a witness calls no hooks: it has no group".to_owned()))
    }

    fn events(&self) -> &EventLog {
        &self.0.events
    }
}
