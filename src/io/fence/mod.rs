//! Fence agents: programs that cut a host's power, run as they are.
//!
//! An agent is told what to do on its standard input, `name=value` line by line, and answers by
//! its exit status. It is run without arguments, in a session of its own and within a limit, at
//! which all that it started is killed. Secrets are read at each run and go nowhere else.

mod agent;
pub mod check;
mod marks;
pub mod metadata;
pub(super) mod secrets;
mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use self::agent::Ended;
use self::metadata::Metadata;
use super::clock;
use crate::config::Device;
use crate::types::Instant;

/// How long an agent may take to say what it is, and the disk to have its files.
const METADATA: Duration = Duration::from_secs(5);
/// How long one that said nothing is not asked again: a run must not wait for that each time.
const AGAIN: Duration = Duration::from_mins(5);
/// Between two questions whether the power is off by now.
const PAUSE: Duration = Duration::from_secs(1);

/// What an agent is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// To turn the power on.
    On,
    /// To turn the power off.
    Off,
    /// To say whether the power is on.
    Status,
    /// To say whether the device can be reached.
    Monitor,
}

impl Verb {
    /// As agents know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Status => "status",
            Self::Monitor => "monitor",
        }
    }
}

/// What became of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked.
    Done,
    /// The power is on.
    On,
    /// The power is off.
    Off,
    /// It said that it failed.
    Failed {
        /// In its own words, where it has some.
        why: String,
    },
    /// It took too long and was killed.
    TimedOut,
    /// It was not run.
    NotStarted {
        /// And why.
        why: String,
    },
}

impl Outcome {
    /// Whether what was asked was done or answered.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Done | Self::On | Self::Off => true,
            Self::Failed { .. } | Self::TimedOut | Self::NotStarted { .. } => false,
        }
    }
}

/// One run of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What became of it.
    pub outcome: Outcome,
    /// The end of what it printed, for people; secrets are starred out.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

/// When a file was changed last, and how long it is.
type Stamp = (SystemTime, u64);
/// What agents say of themselves.
type Cache = BTreeMap<PathBuf, Said>;

/// What an agent says of itself; the words where it says nothing that makes sense.
#[derive(Clone, Debug)]
struct Said {
    stamp: Stamp,
    words: Result<Metadata, String>,
    /// Until when that holds, where it may have been bad luck.
    until: Option<Instant>,
}

/// Runs agents, and knows what each can do.
#[derive(Debug)]
pub struct Agents {
    /// Whose agents these are: all that they start is marked with it.
    scope: String,
    runs: AtomicU64,
    cache: Mutex<Cache>,
}

impl Agents {
    /// For one program: `scope` is its alone on this host, and the same after a restart, as the
    /// runtime directory is.
    pub fn new(scope: &Path) -> Self {
        let scope = scope.display().to_string().replace(['\0', '\n', '#'], "_");
        Self { scope, runs: AtomicU64::new(0), cache: Mutex::new(Cache::new()) }
    }

    /// Kills what an earlier run of the same program left behind: an agent that ran on would act
    /// after it was forgotten. Tells how many processes that were. Before the first [`run`].
    ///
    /// [`run`]: Self::run
    pub fn reap(&self) -> usize {
        marks::kill(&format!("{}#", self.scope))
    }

    /// Runs `device`'s agent once. Dropping the future kills it.
    ///
    /// On a thread that lives as long as the agent may: see [`super::proxy`].
    pub async fn run(&self, device: &Device, verb: Verb, victim: &str) -> Run {
        let start = clock::now();
        let (outcome, output) = match self.once(device, verb, victim).await {
            Ok((ended, output)) => (outcome(verb, &ended, &output), output),
            Err(why) => (Outcome::NotStarted { why }, String::new()),
        };
        Run { outcome, output, took: clock::now().since(start) }
    }

    /// Asks whether the device works: for its status, or, of an agent that cannot tell the power,
    /// whether it can be reached. Switches nothing.
    pub async fn probe(&self, device: &Device, victim: &str) -> Run {
        let blind = self.metadata(device).await.is_ok_and(|m| !m.has("status"));
        self.run(device, if blind { Verb::Monitor } else { Verb::Status }, victim).await
    }

    /// Turns the power off and has it said that it is: `Off`, or what went wrong.
    ///
    /// Where the agent cannot tell, its word that it turned it off must do. Asks again while the
    /// power is on and the device's time is not up; so it takes twice that time at most. One
    /// attempt, without the device's delay.
    pub async fn off_verified(&self, device: &Device, victim: &str) -> Run {
        let start = clock::now();
        let mut run = self.run(device, Verb::Off, victim).await;
        if run.outcome == Outcome::Done {
            let blind = self.metadata(device).await.is_ok_and(|m| !m.has("status"));
            run.outcome = if blind {
                Outcome::Off
            } else {
                loop {
                    let status = self.run(device, Verb::Status, victim).await;
                    let spent = clock::now().since(start);
                    if status.outcome == Outcome::On && spent + PAUSE < device.timeout {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    run.output.push_str(&status.output);
                    break verified(status.outcome);
                }
            };
        }
        run.took = clock::now().since(start);
        run
    }

    /// What the agent of `device` says of itself: asked once, and again when it was changed.
    ///
    /// # Errors
    /// In words: there is no such agent, or it says nothing that makes sense.
    pub async fn metadata(&self, device: &Device) -> Result<Metadata, String> {
        let path = device.path();
        let found = path.clone();
        let stamp = blocking(move || trust::program(&found)).await??;
        let known = |cache: &Cache| match cache.get(&path) {
            Some(s) if s.stamp == stamp && s.until.is_none_or(|t| clock::now() < t) => {
                Some(s.words.clone())
            }
            Some(_) | None => None,
        };
        let cached = self.cache.lock().ok().as_deref().and_then(known);
        if let Some(said) = cached {
            return said;
        }
        let input = Zeroizing::new("action=metadata\n".to_owned());
        let told = agent::execute(&path, &self.mark(), input, METADATA, agent::WHOLE)
            .await
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let said = match told.ended {
            Ended::Exited(0) => metadata::parse(&String::from_utf8_lossy(&told.stdout))
                .map_err(|e| format!("{}: its metadata: {e}", path.display())),
            Ended::Exited(code) => {
                Err(format!("{}: tells no metadata: exit status {code}", path.display()))
            }
            Ended::Killed(how) => Err(format!("{}: tells no metadata: {how}", path.display())),
            Ended::TimedOut => {
                Err(format!("{}: tells no metadata within {METADATA:?}", path.display()))
            }
        };
        let until = said.is_err().then(|| clock::now() + AGAIN);
        if let Ok(mut cache) = self.cache.lock() {
            cache.insert(path, Said { stamp, words: said.clone(), until });
        }
        said
    }

    fn mark(&self) -> String {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        format!("{}#{}#{run}", self.scope, std::process::id())
    }

    async fn once(
        &self,
        device: &Device,
        verb: Verb,
        victim: &str,
    ) -> Result<(Ended, String), String> {
        let path = device.path();
        let (program, sources) = (path.clone(), device.secrets.clone());
        let secrets = blocking(move || {
            trust::program(&program)?;
            sources.iter().map(secrets::read).collect::<Result<Vec<_>, _>>()
        });
        let secrets = secrets.await??;
        let host = match device.parameter(&["port", "plug"]) {
            Some(_) => None,
            None => self.metadata(device).await.ok().and_then(|m| m.host_argument()),
        };
        let input = agent::input(device, verb, victim, host, &secrets)?;
        let hidden: Vec<_> = secrets.iter().map(|s| &s.value).collect();
        let told = agent::execute(&path, &self.mark(), input, device.timeout, agent::TAIL)
            .await
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let output = agent::readable(&told, &hidden);
        Ok((told.ended, output))
    }
}

/// What a status after `off` makes of it.
fn verified(status: Outcome) -> Outcome {
    match status {
        Outcome::On => Outcome::Failed {
            why: "the agent turned it off, and then says that it is on".to_owned(),
        },
        Outcome::Failed { why } => Outcome::Failed { why: format!("not seen to be off: {why}") },
        other @ (Outcome::Off | Outcome::TimedOut | Outcome::NotStarted { .. }) => other,
        Outcome::Done => Outcome::Off,
    }
}

fn outcome(verb: Verb, ended: &Ended, output: &str) -> Outcome {
    match (ended, verb) {
        (Ended::Exited(0), Verb::Status) => Outcome::On,
        (Ended::Exited(2), Verb::Status) => Outcome::Off,
        (Ended::Exited(0), Verb::On | Verb::Off | Verb::Monitor)
        | (Ended::Exited(2), Verb::Monitor) => Outcome::Done,
        (Ended::Exited(code), _) => {
            Outcome::Failed { why: agent::last_words(output, &format!("exit status {code}")) }
        }
        (Ended::Killed(how), _) => Outcome::Failed { why: agent::last_words(output, how) },
        (Ended::TimedOut, _) => Outcome::TimedOut,
    }
}

/// Runs what may wait for a disk; within a limit, for a disk may be away.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(METADATA, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("its files cannot be read within {METADATA:?}")),
    }
}
