//! What operators decide, from the API to the core and to the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use crate::api::ReloadError;
use crate::api::will::{Asked, WillReport, may_say};
use crate::core::event::Decided;
use crate::core::status::{Condition, Severity, condition};
use crate::io::clock;
use crate::io::decisions::Decisions;
use crate::types::Instant;

use super::service::Service;
use super::turn::Input;

/// How long the disk may take before whoever decided is told that it does not answer.
const DISK: Duration = Duration::from_secs(2);
/// Between two attempts to write down what could not be.
const AGAIN: Duration = Duration::from_secs(10);

/// Writes down what operators have decided.
pub(super) struct Keeping {
    file: Decisions,
    state: Mutex<State>,
    /// One at a time.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What is to be written.
    latest: Decided,
    /// What was: its number.
    written: Option<u64>,
    /// Why it could not be, and since when.
    trouble: Option<(String, Instant)>,
    /// What was wrong with the file at the start.
    unreadable: Option<(String, Instant)>,
}

/// Milliseconds since 1970, UTC.
pub(super) fn utc() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

impl Keeping {
    /// `unreadable` is what was wrong with the file.
    pub(super) fn new(file: Decisions, unreadable: Option<String>) -> Arc<Self> {
        let unreadable = unreadable.map(|why| (why, clock::now()));
        let state = Mutex::new(State { unreadable, ..State::default() });
        Arc::new(Self { file, state, writing: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was decided last, unless it is written already. Waits for the disk.
    fn write(&self) -> Result<(), String> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = {
            let state = self.state();
            if state.written == Some(state.latest.number) {
                return Ok(());
            }
            state.latest.clone()
        };
        let written = self.file.write(utc(), &latest.all).map_err(|error| error.to_string());
        let mut state = self.state();
        match &written {
            Ok(()) => {
                state.written = Some(latest.number);
                state.trouble = None;
            }
            Err(why) => {
                let since = state.trouble.as_ref().map_or_else(clock::now, |(_, since)| *since);
                tracing::error!("what operators have decided is not written down: {why}");
                state.trouble = Some((why.clone(), since));
            }
        }
        written
    }

    /// Keeps what was decided; another thread waits for the disk, and this not longer than it may.
    pub(super) async fn keep(self: &Arc<Self>, decided: Decided) -> Result<(), String> {
        {
            let mut state = self.state();
            if decided.number > state.latest.number {
                state.latest = decided;
            }
        }
        let keeping = Arc::clone(self);
        let writing = tokio::task::spawn_blocking(move || keeping.write());
        match timeout(DISK, writing).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the disk does not answer".to_owned()),
        }
    }

    /// Tries again what could not be written.
    pub(super) async fn insist(self: Arc<Self>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let latest = {
                let state = self.state();
                let behind = state.written != Some(state.latest.number) && state.latest.number > 0;
                behind.then(|| state.latest.clone())
            };
            if let Some(latest) = latest {
                // The condition says how it went.
                let _ = self.keep(latest).await;
            }
        }
    }

    /// What is wrong with the file.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let state = self.state();
        let kept = state.trouble.as_ref().map(|(why, since)| {
            let text = format!(
                "what operators have decided would be forgotten if this host were started anew: {why}"
            );
            condition("decisions-not-kept", Severity::Error, text, *since)
        });
        let read = state.unreadable.as_ref().map(|(why, since)| {
            let text = format!("some of what operators decided earlier may be forgotten: {why}");
            condition("decisions-unreadable", Severity::Error, text, *since)
        });
        kept.into_iter().chain(read).collect()
    }
}

impl Service {
    /// An operator decides something: it is in force and on the disk when this answers, or that
    /// says why not.
    pub(super) async fn decide(&self, asked: Asked) -> Result<WillReport, ReloadError> {
        let status = self.ask(Input::Status).await?;
        let shared = self.ask(Input::Decided).await?.shared;
        let order = may_say(&status, shared, &asked, utc()).map_err(ReloadError::Refused)?;
        let words = order.about.words(order.on);
        let (about, version) = (order.about.clone(), order.at);
        let decided = self.ask(|to| Input::Will(Box::new(order), to)).await?;
        let said = decided.all.iter().find(|d| d.about == about && d.at == version);
        if said.is_none() {
            return Err(ReloadError::Refused(
                "there is no room for another decision: take others back first".to_owned(),
            ));
        }
        let (shared, unheard) = (decided.shared, decided.unheard.clone());
        let not_kept = self.decisions.keep(decided).await.err();
        Ok(WillReport { text: words, shared, unheard, not_kept })
    }
}
