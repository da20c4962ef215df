//! The failures of proxies, from the core to the disk.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::event::Failures;
use crate::core::status::{Condition, Severity, condition};
use crate::io::clock;
use crate::io::failures::{File, Moment};
use crate::types::Instant;

use super::decisions::utc;

/// Between two attempts to write down what could not be.
const AGAIN: Duration = Duration::from_secs(10);

/// Writes down the failures of proxies: the latest, one write at a time.
pub(super) struct Book {
    file: File,
    /// Names the boot.
    boot: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is to be written, as of when; `None` once it is on its way.
    next: Option<(Moment, Vec<Failures>)>,
    /// Somebody writes.
    writing: bool,
    /// Why it could not be written, and since when.
    trouble: Option<(String, Instant)>,
}

impl Book {
    /// That in the state directory.
    pub(super) fn open(dir: &Path) -> Arc<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (boot, state) = (boot.trim().to_owned(), Mutex::default());
        Arc::new(Self { file: File::new(dir), boot, state })
    }

    /// What an earlier run wrote down.
    pub(super) fn read(&self) -> Vec<Failures> {
        self.file.read(&self.now())
    }

    fn now(&self) -> Moment {
        Moment { boot: clock::now(), utc: utc(), id: self.boot.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps these; returns at once. How it goes is a condition.
    pub(super) fn keep(self: &Arc<Self>, all: Vec<Failures>) {
        let now = self.now();
        let mut state = self.state();
        state.next = Some((now, all));
        if !std::mem::replace(&mut state.writing, true) {
            tokio::spawn(Arc::clone(self).write());
        }
    }

    /// Writes until there is nothing left to be written.
    async fn write(self: Arc<Self>) {
        loop {
            let Some((at, all)) = self.next() else { return };
            let file = self.file.clone();
            let (again, when) = (all.clone(), at.clone());
            let written = tokio::task::spawn_blocking(move || file.write(&when, &again)).await;
            let why = match written {
                Ok(Ok(())) => {
                    self.state().trouble = None;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            self.failed(why, (at, all));
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What is to be written now; without anything the writer is done.
    fn next(&self) -> Option<(Moment, Vec<Failures>)> {
        let mut state = self.state();
        let next = state.next.take();
        state.writing = next.is_some();
        next
    }

    /// It could not be written: it is tried again, unless there is something newer.
    fn failed(&self, why: String, what: (Moment, Vec<Failures>)) {
        let mut state = self.state();
        tracing::warn!("failures of proxies are not written down: {why}");
        let since = state.trouble.as_ref().map_or_else(clock::now, |(_, since)| *since);
        state.trouble = Some((why, since));
        state.next.get_or_insert(what);
    }

    /// What is wrong with the file.
    pub(super) fn condition(&self) -> Option<Condition> {
        let state = self.state();
        let (why, since) = state.trouble.as_ref()?;
        let text =
            format!("failures of proxies would be forgotten if vipd were started anew: {why}");
        Some(condition("failures-not-kept", Severity::Warn, text, *since))
    }
}
