//! Runs the checks of this host, each at its own pace, and tells the core thread what changes.
//!
//! A check costs the core nothing while its verdict stays what it is, and where it fails, what it
//! finds. Only one that the core hastened tells of each run, until one passes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::config::{self, Config};
use crate::core::check::{Checked, Debounce};
use crate::core::status::{CheckStatus, Status};
use crate::io::check::Prober;
use crate::io::{clock, random, wake};
use crate::types::Instant;

use super::asking;
use super::talk::Input;

/// By how many hundredths of its interval a run comes earlier or later, so that the checks of all
/// hosts do not meet at their target.
const JITTER: u32 = 7;

/// From one draw to the next, as a part of all draws: the golden one spreads any number of them evenly.
const GOLDEN: u32 = 0x9e37_79b9;

/// Looks begin on a common beat of that many parts of the interval, or of the longest: hundreds of
/// checks that wake the host together cost half of what they cost one by one.
const BEATS: u32 = 10;
const LONGEST_BEAT: Duration = Duration::from_millis(100);

/// The checks of this host.
pub(super) struct Checks {
    inbox: wake::Sender<Input>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// One check that is run again and again.
#[derive(Debug)]
struct Running {
    check: config::Check,
    line: Arc<Line>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a check's task and everybody else share.
#[derive(Debug, Default)]
struct Line {
    /// The core asked for a run.
    asked: AtomicBool,
    hurry: Notify,
    seen: Mutex<Seen>,
}

/// What is known of the runs.
#[derive(Clone, Debug, Default)]
struct Seen {
    last: Option<Last>,
    failures: u64,
    runs: u64,
}

#[derive(Clone, Debug)]
struct Last {
    at: Instant,
    took: Duration,
    passed: bool,
    found: Box<str>,
}

/// Nothing that is kept is left half done.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checks {
    pub(super) fn new(inbox: wake::Sender<Input>) -> Self {
        Self { inbox, running: Mutex::default() }
    }

    /// Runs the checks of `config`: those that stay as they are go on.
    pub(super) fn configure(&self, config: &Config) {
        let mut running = lock(&self.running);
        let mut was = std::mem::take(&mut *running);
        for check in &config.checks {
            let same = was.remove(&check.name).filter(|r| r.check == *check);
            let runs = same.unwrap_or_else(|| self.begin(check.clone()));
            running.insert(check.name.clone(), runs);
        }
    }

    fn begin(&self, check: config::Check) -> Running {
        let line = Arc::<Line>::default();
        let task = tokio::spawn(run(check.clone(), Arc::clone(&line), self.inbox.clone()));
        Running { check, line, task: task.abort_handle() }
    }

    /// Runs some at once, and tells of each run until one passes.
    pub(super) fn hasten(&self, names: &[Box<str>]) {
        let running = lock(&self.running);
        for line in names.iter().filter_map(|name| running.get(&**name)).map(|r| &r.line) {
            line.asked.store(true, Ordering::Relaxed);
            line.hurry.notify_one();
        }
    }

    /// Adds what only the shell knows of the checks.
    pub(super) fn complete(&self, status: &mut Status) {
        let running = lock(&self.running);
        for check in status.groups.iter_mut().flat_map(|g| &mut g.checks) {
            if let Some(running) = running.get(&check.name) {
                running.describe(check);
            }
        }
    }
}

impl Running {
    fn describe(&self, status: &mut CheckStatus) {
        let seen = lock(&self.line.seen).clone();
        status.what = self.check.what.in_words();
        (status.runs, status.failures) = (seen.runs, seen.failures);
        if let Some(last) = seen.last {
            status.last = Some(last.at);
            status.took_us = u64::try_from(last.took.as_micros()).ok();
            status.passed = Some(last.passed);
            status.found = last.found.into();
        }
    }
}

/// Runs a check for as long as it is configured.
async fn run(check: config::Check, line: Arc<Line>, inbox: wake::Sender<Input>) {
    let mut debounce = Debounce::new(check.rise, check.fall);
    let mut prober = Prober::new(&check.what);
    let mut said = Box::<str>::default();
    let mut dice = random::word();
    loop {
        debounce.begin(line.asked.swap(false, Ordering::Relaxed));
        let began = clock::now();
        let (passed, found) = match prober.look(check.timeout).await {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        let found = Box::<str>::from(found);
        let tells = debounce.end(passed);
        let verdict = debounce.verdict().unwrap_or(passed);
        // People are to read why it fails now, not why it began to.
        let tells = tells || (!verdict && !passed && found != said);
        {
            let mut seen = lock(&line.seen);
            seen.runs += 1;
            seen.failures += u64::from(!passed);
            seen.last = Some(Last {
                at: began,
                took: clock::now().since(began),
                passed,
                found: found.clone(),
            });
        }
        if tells {
            said.clone_from(&found);
            let name = check.name.as_str().into();
            let told = Checked { name, began, passed, verdict, found };
            asking::tell(&inbox, Input::Checked(told)).await;
        }
        let pause = debounce.pause(check.interval, check.fast_interval);
        dice = dice.wrapping_add(GOLDEN);
        tokio::select! {
            () = sleep(until_next(clock::now(), pause, dice)) => {}
            () = line.hurry.notified() => {}
            () = prober.changed() => {}
        }
    }
}

/// An interval, give or take a little as the dice say, and to the nearest beat from there.
fn until_next(now: Instant, interval: Duration, dice: u32) -> Duration {
    let spread = nanos(interval * JITTER / 100) * 2;
    let drawn = (u128::from(spread) * u128::from(dice)) >> u32::BITS;
    let pause = nanos(interval) - spread / 2 + u64::try_from(drawn).unwrap_or(spread);
    let beat = nanos((interval / BEATS).min(LONGEST_BEAT)).max(1);
    let over = (now.nanos() + pause + beat / 2) % beat;
    Duration::from_nanos(pause + beat / 2 - over)
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_begin_on_a_common_beat_about_an_interval_apart() {
        let rows = [(20, 2), (100, 10), (500, 50), (1000, 100), (60_000, 100)];
        for (interval, beat) in rows.map(|(i, b)| (Duration::from_millis(i), b * 1_000_000)) {
            for n in 0..1000 {
                let now = Instant::from_nanos(1 << 40) + n * Duration::from_micros(777);
                let pause = until_next(now, interval, n.wrapping_mul(GOLDEN));
                assert_eq!((now + pause).nanos() % beat, 0);
                let about = interval * 7 / 8..=interval * 9 / 8;
                assert!(about.contains(&pause), "{interval:?}: {pause:?}");
            }
        }
    }
}
