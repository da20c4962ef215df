//! How a service runtime talks with the thread that decides: a node's, and a witness's.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::{ReloadError, ReloadReport, Unavailable};
use crate::io::notify::{self, Watchdog};
use crate::io::{clock, wake};
use crate::types::Instant;

/// How long that thread may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// How long to wait when its mailbox is full.
const FULL: Duration = Duration::from_millis(5);

/// Asks, for as long as it may take.
pub(super) async fn ask<I, T>(
    inbox: &wake::Sender<I>,
    input: impl FnOnce(oneshot::Sender<T>) -> I,
) -> Result<T, Unavailable> {
    let (to, answer) = oneshot::channel();
    inbox.try_send(input(to)).map_err(|_| Unavailable::Late(ANSWER))?;
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Unavailable::Stopping),
        Err(_) => Err(Unavailable::Late(ANSWER)),
    }
}

/// Tells what must not be lost: waits while the mailbox is full.
pub(super) async fn tell<I>(inbox: &wake::Sender<I>, mut input: I) {
    while let Err(wake::Full(back)) = inbox.try_send(input) {
        input = back;
        tokio::time::sleep(FULL).await;
    }
}

/// Tells systemd that the thread lives: only its own answer counts.
pub(super) async fn alive<I>(inbox: wake::Sender<I>, ping: impl Fn(oneshot::Sender<Instant>) -> I) {
    let Some(watchdog) = Watchdog::from_env() else { return };
    let mut beat = tokio::time::interval(watchdog.period());
    loop {
        beat.tick().await;
        if let Ok(answered) = ask(&inbox, &ping).await {
            watchdog.ping(answered, clock::now());
        }
    }
}

/// Tells systemd and the log what becomes of a reload; `does` is what the daemon does meanwhile.
pub(super) async fn reload(
    does: &str,
    work: impl Future<Output = Result<ReloadReport, ReloadError>>,
) -> Result<ReloadReport, ReloadError> {
    notify::reloading();
    let result = work.await;
    match &result {
        Ok(report) if report.changes.is_empty() => tracing::info!("reloaded: nothing changed"),
        Ok(report) => tracing::info!(changes = report.changes.join("; "), "reloaded"),
        Err(error) => tracing::error!("not reloaded: {error}"),
    }
    let refused = if result.is_ok() { "" } else { "; last reload refused" };
    notify::ready(&format!("{does}{refused}"));
    result
}
