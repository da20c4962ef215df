//! Calls hooks: in order for each group, a few at once, and never in anybody's way.
//!
//! Each group has a lane, and what is about none has one. In a lane one call follows the other;
//! what waits there is bounded, and where that is not enough the oldest goes: what a group is now
//! matters more than what it was.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use crate::api::{HookReport, LONGEST_WAIT};
use crate::config::{Config, Hook, HookKind};
use crate::core::hook::call::{Call, Scene, call};
use crate::core::hook::{Book, Occasion, State};
use crate::core::status::{Condition, HookCall, HookStatus, Note, Severity, condition};
use crate::io::clock;
use crate::io::events::EventLog;
use crate::io::hook::{self, Outcome, Post, Script};
use crate::types::Instant;

use super::service::private;

/// How many events may wait in a lane.
const WAITING: usize = 32;
/// How many calls there may be at once.
const AT_ONCE: usize = 8;
/// How long the last calls may take when vipd ends; its unit allows more than that.
const LAST_CALLS: Duration = Duration::from_secs(10);
/// What stands for an occasion where a script was only looked at.
const LOOKED: &str = "start";
/// The largest file with a token, in bytes.
const TOKEN_FILE: u64 = 4096;

/// The hooks of a node.
#[derive(Clone, Debug)]
pub(super) struct Hooks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cluster: String,
    node: String,
    events: Arc<EventLog>,
    all: Mutex<All>,
    places: Semaphore,
    /// How many lanes have something to do.
    busy: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct All {
    hooks: Arc<[Hook]>,
    me: usize,
    book: Book,
    lanes: BTreeMap<Option<String>, Lane>,
    tallies: BTreeMap<String, Tally>,
    calls: u64,
}

/// What waits for its calls, about one group or about none.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<(Occasion, Timestamp)>,
    running: bool,
    /// Since when events were left out, and how many, until nothing waits any more.
    behind: Option<(Instant, u64)>,
}

/// How the calls of one hook went.
#[derive(Debug, Default)]
struct Tally {
    status: HookStatus,
    failing: Option<Instant>,
}

impl Hooks {
    pub(super) fn new(events: Arc<EventLog>, cluster: &str, node: &str) -> Self {
        Self(Arc::new(Shared {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            events,
            all: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            busy: watch::Sender::new(0),
        }))
    }

    /// The hooks of `config` from now on; says what changed. Each script is looked at, so that what
    /// is wrong with one is known before it is needed.
    pub(super) fn configure(&self, config: &Config) -> Vec<String> {
        let mut all = self.0.lock();
        all.me = config.nodes.iter().position(|n| n.name == self.0.node).unwrap_or(0);
        let me = all.me;
        all.book.configure(config, me);
        let changes = changes(&all.hooks, &config.hooks);
        all.hooks = config.hooks.iter().cloned().collect();
        let mut before = std::mem::take(&mut all.tallies);
        for hook in &config.hooks {
            let mut tally = before.remove(&hook.name).unwrap_or_default();
            tally.status.name.clone_from(&hook.name);
            hook.what.target().clone_into(&mut tally.status.target);
            all.tallies.insert(hook.name.clone(), tally);
            tokio::spawn(Arc::clone(&self.0).look(hook.clone()));
        }
        changes
    }

    /// Something happened. Never waits.
    pub(super) fn tell(&self, note: &Note) {
        let mut all = self.0.lock();
        if let Some(occasion) = all.book.hear(note) {
            self.queue(&mut all, occasion);
        }
    }

    fn queue(&self, all: &mut All, occasion: Occasion) {
        let hooks = Arc::clone(&all.hooks);
        if !hooks.iter().any(|hook| occasion.is_for(hook)) {
            return;
        }
        let key = occasion.note.group.clone();
        let lane = all.lanes.entry(key.clone()).or_default();
        let full = lane.waiting.len() >= WAITING;
        let oldest = if full { lane.waiting.pop_front() } else { None };
        lane.waiting.push_back((occasion, Timestamp::now()));
        if !std::mem::replace(&mut lane.running, true) {
            self.0.busy.send_modify(|busy| *busy += 1);
            tokio::spawn(Arc::clone(&self.0).work(key.clone()));
        }
        let Some((oldest, _)) = oldest else { return };
        let now = clock::now();
        let first = lane.behind.is_none();
        lane.behind.get_or_insert((now, 0)).1 += 1;
        for hook in hooks.iter().filter(|hook| oldest.is_for(hook)) {
            if let Some(tally) = all.tallies.get_mut(&hook.name) {
                tally.status.dropped += 1;
            }
        }
        if first {
            let text = format!(
                "{WAITING} events wait for hooks already: the oldest are left out from now on"
            );
            self.0.note(Severity::Warn, key, "hook-behind", text);
        }
    }

    /// vipd ends: the last calls, for as long as they may take.
    pub(super) async fn end(&self) {
        {
            let mut all = self.0.lock();
            for occasion in all.book.end(clock::now()) {
                self.queue(&mut all, occasion);
            }
        }
        let mut busy = self.0.busy.subscribe();
        if tokio::time::timeout(LAST_CALLS, busy.wait_for(|busy| *busy == 0)).await.is_err() {
            tracing::warn!(
                "hooks are not done after {LAST_CALLS:?}: what is left of them is killed"
            );
        }
    }

    /// How every hook does, and what is wrong.
    pub(super) fn status(&self) -> (Vec<HookStatus>, Vec<Condition>) {
        let all = self.0.lock();
        let tallies: Vec<_> =
            all.hooks.iter().filter_map(|hook| all.tallies.get(&hook.name)).collect();
        let failing = tallies.iter().filter_map(|tally| {
            let (since, last) = (tally.failing?, tally.status.last.as_ref()?);
            let text = words(&tally.status, last);
            Some(condition("hook-failed", Severity::Warn, text, since))
        });
        let behind = all.lanes.iter().filter_map(|(group, lane)| {
            let (since, left_out) = lane.behind?;
            let of = group.as_ref().map_or_else(String::new, |group| format!(" of {group}"));
            let text = format!(
                "hooks are slower than what happens: {left_out} events{of} were left out, {} wait",
                lane.waiting.len()
            );
            Some(condition("hook-behind", Severity::Warn, text, since))
        });
        let conditions = failing.chain(behind).collect();
        (tallies.iter().map(|tally| tally.status.clone()).collect(), conditions)
    }

    /// Calls one hook with a sample, now.
    ///
    /// # Errors
    /// In words: there is no such hook, or no such group.
    pub(super) async fn test(
        &self,
        name: &str,
        group: Option<&str>,
        state: State,
    ) -> Result<HookReport, String> {
        let (hook, occasion) = {
            let all = self.0.lock();
            let known = || all.hooks.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", ");
            let hook = all.hooks.iter().find(|h| h.name == name);
            let hook = hook.ok_or_else(|| match known().as_str() {
                "" => "the file has no hooks".to_owned(),
                known => format!("there is no hook {name}; there is: {known}"),
            })?;
            let group = group.map(str::to_owned).or_else(|| hook.groups.first().cloned());
            let group = group.or_else(|| all.book.first().map(str::to_owned)).unwrap_or_default();
            let priority = all.book.priority(&group);
            let priority = priority.ok_or_else(|| format!("there is no group {group}"))?;
            (hook.clone(), Occasion::sample(clock::now(), &group, priority, state))
        };
        // Whoever asked is not answered later than this.
        let limit = hook.timeout.min(LONGEST_WAIT);
        let last = self.0.call(&hook, &occasion, Timestamp::now(), limit).await;
        let last = last.ok_or("its style has no word for this")?;
        Ok(HookReport { name: hook.name, target: hook.what.target().to_owned(), call: last })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether a script may be called.
    async fn look(self: Arc<Self>, hook: Hook) {
        let HookKind::Run { argv, user } = &hook.what else { return };
        let (path, user) = (argv.first().cloned().unwrap_or_default(), user.clone());
        let look = move || hook::examine(Path::new(&path), user.as_deref());
        match tokio::task::spawn_blocking(look).await {
            Ok(Err(why)) => {
                self.record(&hook, None, Duration::ZERO, failure(why));
            }
            Ok(Ok(_)) => {
                let mut all = self.lock();
                let looked = |tally: &&mut Tally| {
                    tally.status.last.as_ref().is_some_and(|last| last.kind == LOOKED)
                };
                if let Some(tally) = all.tallies.get_mut(&hook.name).filter(looked) {
                    // What was wrong with it is mended.
                    (tally.failing, tally.status.last) = (None, None);
                }
            }
            Err(error) => tracing::error!(%error, "a hook was not looked at"),
        }
    }

    /// Works off one lane until it is empty.
    async fn work(self: Arc<Self>, key: Option<String>) {
        loop {
            let (next, hooks) = {
                let mut all = self.lock();
                let hooks = Arc::clone(&all.hooks);
                let Some(lane) = all.lanes.get_mut(&key) else { break };
                let Some(next) = lane.waiting.pop_front() else {
                    all.lanes.remove(&key);
                    break;
                };
                (next, hooks)
            };
            let (occasion, at) = next;
            for hook in hooks.iter().filter(|hook| occasion.is_for(hook)) {
                // It is never closed.
                let Ok(_place) = self.places.acquire().await else { continue };
                self.call(hook, &occasion, at, hook.timeout).await;
            }
        }
        self.busy.send_modify(|busy| *busy -= 1);
    }

    /// One call; `None` where the style has no word for the occasion.
    async fn call(
        &self,
        hook: &Hook,
        occasion: &Occasion,
        at: Timestamp,
        limit: Duration,
    ) -> Option<HookCall> {
        let call = self.words(hook, occasion, at)?;
        let begun = clock::now();
        let outcome = match &hook.what {
            HookKind::Run { user, .. } => {
                let Call { argv, env, body } = call;
                let script = Script { argv, env, input: body, user: user.clone() };
                hook::run(script, limit).await
            }
            HookKind::Post { url, token_file } => match token(token_file.as_deref()).await {
                Ok(token) => {
                    let body = call.body.unwrap_or_default();
                    hook::post(Post { url: url.clone(), token, body }, limit).await
                }
                Err(why) => failure(why),
            },
        };
        let took = clock::now().since(begun);
        self.record(hook, Some(occasion), took, outcome)
    }

    fn words(&self, hook: &Hook, occasion: &Occasion, at: Timestamp) -> Option<Call> {
        let (me, sequence) = {
            let mut all = self.lock();
            all.calls += 1;
            (all.me, all.calls)
        };
        let local = at.to_zoned(jiff::tz::TimeZone::system());
        let scene = Scene {
            cluster: &self.cluster,
            node: &self.node,
            node_number: me + 1,
            time: &at.to_string(),
            clock: &local.strftime("%H:%M:%S.%6f").to_string(),
            epoch: at.as_second(),
            micros: at.subsec_microsecond(),
            sequence,
        };
        call(hook, occasion, &scene)
    }

    /// Keeps how a call went; without an occasion it was only looked at.
    fn record(
        &self,
        hook: &Hook,
        occasion: Option<&Occasion>,
        took: Duration,
        outcome: Outcome,
    ) -> Option<HookCall> {
        let Outcome { result, output } = outcome;
        let last = HookCall {
            at: clock::now(),
            kind: occasion.map_or(LOOKED, Occasion::kind).to_owned(),
            group: occasion.and_then(|o| o.note.group.clone()),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            failed: result.err(),
            output,
        };
        let mut all = self.lock();
        // It may have left the file meanwhile.
        let tally = all.tallies.get_mut(&hook.name)?;
        tally.status.calls += u64::from(occasion.is_some());
        tally.status.failures += u64::from(occasion.is_some() && last.failed.is_some());
        tally.failing = last.failed.as_ref().map(|_| tally.failing.unwrap_or(last.at));
        tally.status.last = Some(last.clone());
        let text = words(&tally.status, &last);
        drop(all);
        if last.failed.is_some() {
            self.note(Severity::Warn, last.group.clone(), "hook-failed", text);
        } else {
            tracing::info!(
                hook = hook.name,
                kind = last.kind,
                ms = last.took_ms,
                "{}",
                last.output
            );
        }
        Some(last)
    }

    fn note(&self, severity: Severity, group: Option<String>, kind: &str, text: String) {
        let (at, kind) = (clock::now(), kind.to_owned());
        let note = Note { at, severity, group, kind, text, about: None };
        self.events.append(Timestamp::now(), note);
    }
}

/// What became of the hooks, a line for each.
fn changes(old: &[Hook], new: &[Hook]) -> Vec<String> {
    let named = |all: &[Hook], name: &str| all.iter().find(|h| h.name == name).cloned();
    let kept = new.iter().filter_map(|hook| match named(old, &hook.name) {
        None => Some(format!("+ hook {}", hook.name)),
        Some(was) if was != *hook => Some(format!("hook {}: changed", hook.name)),
        Some(_) => None,
    });
    let gone = old.iter().filter(|hook| named(new, &hook.name).is_none());
    kept.chain(gone.map(|hook| format!("- hook {}", hook.name))).collect()
}

fn failure(why: String) -> Outcome {
    Outcome { result: Err(why), output: String::new() }
}

/// How the latest call went, in words.
fn words(hook: &HookStatus, last: &HookCall) -> String {
    let of = last.group.as_ref().map_or_else(String::new, |group| format!(" of {group}"));
    let how = last.failed.as_deref().unwrap_or("done");
    let said = match last.output.as_str() {
        "" => String::new(),
        output => format!("; it said: {}", output.replace('\n', " | ")),
    };
    format!("{} ({}) for {}{of}: {how}{said}", hook.name, hook.target, last.kind)
}

/// What a webhook is shown, read each time: it may be another one by now.
async fn token(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, String> {
    let Some(path) = file.map(Path::to_owned) else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || {
        let bytes = private(&path, TOKEN_FILE).map(Zeroizing::new);
        let bytes = bytes.map_err(|why| format!("token-file {}: {why}", path.display()))?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim().to_owned();
        if text.is_empty() {
            return Err(format!("token-file {} has no token", path.display()));
        }
        Ok(Some(Zeroizing::new(text)))
    });
    read.await.unwrap_or_else(|e| Err(e.to_string()))
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
