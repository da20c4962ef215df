//! What happened lately: a bounded log of [`Note`]s that can be read and waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::core::status::{Note, Severity};

/// How many notes are kept.
pub const CAPACITY: usize = 4096;

/// A note with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place: one more than the note before it.
    ///
    /// The first one of a run is the wall clock's microseconds at its start, so that "what came
    /// after this one" still means something when the daemon was restarted in between.
    pub id: u64,
    /// Wall-clock time, for people.
    pub wall: Timestamp,
    /// Whose note it is.
    pub node: String,
    /// The note.
    #[serde(flatten)]
    pub note: Note,
}

/// Which records are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want<'a> {
    /// Those after this one, oldest first; `None` for the newest.
    pub after: Option<u64>,
    /// No more than this many.
    pub limit: usize,
    /// Those of this group only.
    pub group: Option<&'a str>,
}

/// Some records, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Page {
    /// The records, oldest first.
    pub events: Vec<Record>,
    /// What to ask for next: records after this one.
    pub last: u64,
    /// How many notes came after the one asked for and are not kept any more.
    pub missed: u64,
}

/// The log. Appended to by the service runtime, read by the API.
#[derive(Debug)]
pub struct EventLog {
    node: String,
    /// The id before the first of this run.
    base: u64,
    records: Mutex<VecDeque<Record>>,
    last: watch::Sender<u64>,
}

impl EventLog {
    /// An empty log of `node`, begun at `start`.
    pub fn new(node: impl Into<String>, start: Timestamp) -> Self {
        let base = u64::try_from(start.as_microsecond()).unwrap_or(0);
        Self { node: node.into(), base, records: Mutex::default(), last: watch::Sender::new(base) }
    }

    /// Keeps `note`, logs it, and wakes whoever waits; returns its id.
    pub fn append(&self, wall: Timestamp, note: Note) -> u64 {
        trace(&note);
        let mut records = self.lock();
        let id = *self.last.borrow() + 1;
        if records.len() == CAPACITY {
            records.pop_front();
        }
        records.push_back(Record { id, wall, node: self.node.clone(), note });
        drop(records);
        self.last.send_replace(id);
        id
    }

    /// How many notes of this run are not kept any more.
    pub fn dropped(&self) -> u64 {
        let kept = u64::try_from(self.lock().len()).unwrap_or(u64::MAX);
        (*self.last.borrow() - self.base).saturating_sub(kept)
    }

    /// The records wanted, as far as there are any.
    pub fn page(&self, want: Want<'_>) -> Page {
        let records = self.lock();
        let newest = records.back().map_or(self.base, |r| r.id);
        let is_wanted = |r: &&Record| want.group.is_none_or(|g| r.note.group.as_deref() == Some(g));
        let Some(after) = want.after else {
            let mut events: Vec<_> =
                records.iter().rev().filter(is_wanted).take(want.limit).cloned().collect();
            events.reverse();
            return Page { events, last: newest, missed: 0 };
        };
        // An id from the future is one of a run before the wall clock was set back.
        let after = if after > newest { self.base } else { after };
        let events: Vec<_> = records
            .iter()
            .filter(|r| r.id > after)
            .filter(is_wanted)
            .take(want.limit)
            .cloned()
            .collect();
        let is_cut = events.len() >= want.limit;
        let last = if is_cut { events.last().map_or(after, |r| r.id) } else { newest };
        let oldest = records.front().map_or(newest + 1, |r| r.id);
        let missed = oldest - 1 - after.clamp(self.base, oldest - 1);
        Page { events, last, missed }
    }

    /// The records wanted, waiting for at least one. The caller bounds the wait.
    pub async fn wait(&self, want: Want<'_>) -> Page {
        let mut changes = self.last.subscribe();
        let mut want = want;
        loop {
            changes.borrow_and_update();
            let page = self.page(want);
            // `changed` fails only if the log is gone, and we borrow it.
            if !page.events.is_empty() || page.missed > 0 || changes.changed().await.is_err() {
                return page;
            }
            want.after = Some(page.last);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn trace(note: &Note) {
    let Note { group, kind, text, .. } = note;
    let group = group.as_deref();
    match note.severity {
        Severity::Error => tracing::error!(target: "vipd", group, kind, "{text}"),
        Severity::Warn => tracing::warn!(target: "vipd", group, kind, "{text}"),
        Severity::Info => tracing::info!(target: "vipd", group, kind, "{text}"),
        Severity::Debug => tracing::debug!(target: "vipd", group, kind, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Instant;

    fn note(group: Option<&str>, text: &str) -> Note {
        Note {
            at: Instant::BOOT,
            severity: Severity::Info,
            group: group.map(Into::into),
            kind: "active".into(),
            text: text.into(),
            about: None,
        }
    }

    fn log(n: usize) -> EventLog {
        let log = EventLog::new("hap1", Timestamp::from_microsecond(1000).unwrap());
        for i in 0..n {
            log.append(Timestamp::UNIX_EPOCH, note(Some(["a", "b"][i % 2]), &i.to_string()));
        }
        log
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.events.iter().map(|r| r.id).collect()
    }

    #[test]
    fn the_newest_or_those_after() {
        let log = log(5);
        let want = Want { after: None, limit: 2, group: None };
        assert_eq!(ids(&log.page(want)), [1004, 1005]);
        assert_eq!(log.page(want).last, 1005);
        let want = Want { after: Some(1001), limit: 2, group: None };
        assert_eq!(ids(&log.page(want)), [1002, 1003]);
        assert_eq!(log.page(want).last, 1003);
        let want = Want { after: Some(1001), limit: 9, group: Some("a") };
        assert_eq!(ids(&log.page(want)), [1003, 1005]);
        let want = Want { after: Some(1001), limit: 0, group: None };
        assert_eq!(log.page(want).events, []);
    }

    #[test]
    fn an_id_of_another_run_misses_nothing_of_this_one() {
        let log = log(3);
        for after in [0, 17, 1000, 99_999] {
            let page = log.page(Want { after: Some(after), limit: 9, group: None });
            assert_eq!((ids(&page), page.missed), (vec![1001, 1002, 1003], 0), "{after}");
        }
    }

    #[test]
    fn a_full_log_forgets_the_oldest_and_says_so() {
        let log = log(CAPACITY + 10);
        assert_eq!(log.dropped(), 10);
        let page = log.page(Want { after: Some(1004), limit: 1, group: None });
        assert_eq!((ids(&page), page.missed), (vec![1011], 6));
        let page = log.page(Want { after: Some(1010), limit: 1, group: None });
        assert_eq!(page.missed, 0);
    }

    #[test]
    fn a_record_is_flat_json_and_comes_back() {
        let log = log(1);
        let page = log.page(Want { after: None, limit: 1, group: None });
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!(
            json["events"][0],
            serde_json::json!({"id": 1001, "wall": "1970-01-01T00:00:00Z", "node": "hap1", "at": 0,
                "severity": "info", "group": "a", "kind": "active", "text": "0"})
        );
        assert_eq!(serde_json::from_value::<Page>(json).unwrap(), page);
    }

    #[tokio::test]
    async fn waiting_ends_with_a_note_of_the_group() {
        let log = log(2);
        let want = Want { after: Some(1002), limit: 9, group: Some("a") };
        let append = async {
            tokio::task::yield_now().await;
            log.append(Timestamp::UNIX_EPOCH, note(Some("b"), "no"));
            tokio::task::yield_now().await;
            log.append(Timestamp::UNIX_EPOCH, note(Some("a"), "yes"));
        };
        let (page, ()) = tokio::join!(log.wait(want), append);
        assert_eq!(ids(&page), [1004]);
    }
}
