//! Sees to it that the kernel has what is wanted, and nothing else of ours.
//!
//! Ours is what carries our mark and what this run or an earlier one of the same node has asked
//! for: several daemons may share a host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::Instant;

use super::{Change, Entry, Fate, Report, Seen, Trouble, Wanted};
use crate::core::event::Failure;

/// How long to wait before a refused request is repeated: doubles each time.
const RETRY: Duration = Duration::from_millis(50);
/// The longest such pause.
const RETRY_RARELY: Duration = Duration::from_secs(30);
/// The window of the limit on restorations.
const WINDOW: Duration = Duration::from_mins(1);
/// How long what somebody else keeps deleting is left alone.
const CONTENDED: Duration = Duration::from_secs(1);

/// Holds what is wanted against what is there.
#[derive(Debug, Default)]
pub struct Keeper {
    /// `None` until it is told: until then nothing is touched.
    wanted: Option<Wanted>,
    /// What may be ours, by its identity.
    known: BTreeSet<Entry>,
    seen: Seen,
    items: BTreeMap<Entry, Item>,
    leaving: BTreeMap<Entry, Tries>,
    /// What was wanted once in this run: anything else is of an earlier one.
    asked: BTreeSet<Entry>,
    swept: Vec<Entry>,
}

/// Requests without success.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    count: u32,
    again_at: Option<Instant>,
    failure: Option<Failure>,
}

impl Tries {
    fn failed(&mut self, now: Instant, failure: Option<Failure>) {
        self.again_at = Some(now + (RETRY * 2_u32.pow(self.count.min(16))).min(RETRY_RARELY));
        self.count = self.count.saturating_add(1);
        self.failure = failure;
    }

    fn may(&self, now: Instant) -> bool {
        self.again_at.is_none_or(|at| now >= at)
    }
}

/// One that is wanted.
#[derive(Clone, Copy, Debug, Default)]
struct Item {
    here: bool,
    /// It was there, and somebody took it away.
    lost: bool,
    tries: Tries,
    contended: bool,
    restored: u32,
    window: Instant,
    in_window: u32,
}

impl Keeper {
    /// Knows what an earlier run may have left.
    pub fn new(known: BTreeSet<Entry>) -> Self {
        Self { known, ..Self::default() }
    }

    /// What may be ours in the kernel now or after the next request: to be kept where it outlives
    /// this process, before anything is asked for.
    pub fn known(&self) -> &BTreeSet<Entry> {
        &self.known
    }

    /// Whether there is nothing to look after.
    pub fn is_idle(&self) -> bool {
        self.known.is_empty() && self.wanted.as_ref().is_none_or(BTreeMap::is_empty)
    }

    /// Whether nothing of ours is in the kernel.
    pub fn is_clean(&self) -> bool {
        self.seen.is_empty()
    }

    /// Takes what is wanted from now on; whether that may add to [`known`](Self::known).
    pub fn want(&mut self, wanted: Wanted) -> bool {
        self.items.retain(|entry, _| wanted.contains_key(entry));
        for entry in wanted.keys() {
            let here = self.seen.contains(entry);
            self.items.entry(entry.clone()).or_insert(Item { here, ..Item::default() });
        }
        self.leaving.retain(|entry, _| !wanted.contains_key(entry));
        let before = self.known.len();
        self.known.extend(wanted.keys().map(Entry::identity));
        self.asked.extend(wanted.keys().map(Entry::identity));
        self.wanted = Some(wanted);
        self.known.len() > before
    }

    /// Takes what carries our mark in the kernel, all of it. What is missing is nobody's fault where
    /// a link or an address was `lost` that the kernel takes routes along with.
    pub fn look(&mut self, now: Instant, marked: Seen, lost: bool) {
        self.seen = marked.into_iter().filter(|e| self.known.contains(&e.identity())).collect();
        for (entry, item) in &mut self.items {
            let limit = self.wanted.as_ref().and_then(|w| w.get(entry)).copied().unwrap_or(0);
            item.look(now, self.seen.contains(entry), limit, lost);
        }
        let (seen, asked, swept) = (&self.seen, &self.asked, &mut self.swept);
        self.leaving.retain(|entry, _| {
            let there = seen.contains(entry);
            if !there && !asked.contains(&entry.identity()) {
                swept.push(entry.clone());
            }
            there
        });
    }

    /// What to ask of the kernel now: what is to go, rules first, then what is to come.
    pub fn plan(&mut self, now: Instant) -> Vec<Change> {
        let Some(wanted) = &self.wanted else { return Vec::new() };
        let mut changes = Vec::new();
        for entry in self.seen.iter().rev().filter(|entry| !wanted.contains_key(entry)) {
            if self.leaving.entry(entry.clone()).or_default().may(now) {
                changes.push(Change::Delete(entry.clone()));
            }
        }
        let missing = self.items.iter().filter(|(_, item)| !item.here && item.tries.may(now));
        changes.extend(missing.map(|(entry, _)| Change::Add(entry.clone())));
        changes
    }

    /// What became of a change. Only the next look tells whether it is so; until then, and if it is
    /// not, it is not asked for again at once.
    pub fn done(&mut self, now: Instant, change: &Change, result: Result<(), Failure>) {
        match change {
            Change::Add(entry) => {
                if let Some(item) = self.items.get_mut(entry) {
                    item.tries.failed(now, result.err());
                }
            }
            Change::Delete(entry) => {
                if let Some(tries) = self.leaving.get_mut(entry) {
                    tries.failed(now, result.err());
                }
            }
        }
    }

    /// When there is something to ask again.
    pub fn deadline(&self) -> Option<Instant> {
        self.wanted.as_ref()?;
        let missing = self.items.values().filter(|item| !item.here);
        let missing = missing.filter_map(|item| item.tries.again_at);
        let leaving = self.leaving.values().filter_map(|tries| tries.again_at);
        missing.chain(leaving).min()
    }

    /// How it is.
    pub fn report(&mut self) -> Report {
        let stuck = self.leaving.iter().filter(|(_, tries)| tries.count > 1);
        Report {
            fates: self.items.iter().map(|(entry, item)| (entry.clone(), item.fate())).collect(),
            stuck: stuck
                .filter_map(|(entry, tries)| Some((entry.clone(), tries.failure?)))
                .collect(),
            swept: std::mem::take(&mut self.swept),
        }
    }
}

impl Item {
    fn look(&mut self, now: Instant, here: bool, limit: u32, excused: bool) {
        if here {
            if self.lost {
                self.restored = self.restored.saturating_add(1);
            }
            (self.lost, self.tries) = (false, Tries::default());
        } else if self.here && !excused {
            self.lost = true;
            if now >= self.window + WINDOW || self.in_window == 0 {
                (self.window, self.in_window) = (now, 0);
            }
            self.in_window = self.in_window.saturating_add(1);
            if self.in_window > limit {
                self.tries.again_at = Some(now + CONTENDED);
            }
        }
        self.contended = self.in_window > limit && now < self.window + WINDOW;
        self.here = here;
    }

    fn fate(&self) -> Fate {
        // The first refusal may only be early: its source goes and comes with the address.
        let refused = self.tries.failure.filter(|_| self.tries.count > 1);
        let trouble = match refused {
            _ if self.contended => Some(Trouble::Contended),
            Some(failure) => Some(Trouble::Refused(failure)),
            None => None,
        };
        Fate { here: self.here, trouble, restored: self.restored }
    }
}
