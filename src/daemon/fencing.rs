//! Fence agents for the core thread, whether their devices answer, and what was done with them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::fencing::{FenceOrder, may_fence};
use crate::api::{ReloadError, Unavailable};
use crate::config::Device;
use crate::core::event::{FenceEvent, Power};
use crate::core::status::{Answer, Note, Severity, Status, condition};
use crate::io::clock;
use crate::io::events::Record;
use crate::io::fence::{Agents, Outcome, Verb};
use crate::io::history::{History, KEPT};

use super::asking::{self, ANSWER};
use super::recorder::Node;
use super::service::Service;
use super::turn::Input;

/// Notes that may wait for the disk.
const WAITING: usize = 64;
/// After the start, or while something is in the way, before the devices are asked.
const LOOK: Duration = Duration::from_secs(1);

/// The devices of the configuration in force, by node, and how often they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    pub(super) nodes: Vec<(String, Vec<Device>)>,
    pub(super) check: Option<Duration>,
}

impl Devices {
    /// Those of the other nodes: this one cannot use its own.
    pub(super) fn of(node: &Node) -> Self {
        let config = node.config();
        let others = config.nodes.iter().enumerate().filter(|(ix, _)| *ix != node.me());
        Self {
            nodes: others.map(|(_, n)| (n.name.clone(), n.fence.clone())).collect(),
            check: config.fencing.check,
        }
    }
}

/// What the service runtime knows of fencing.
pub(super) struct Fencing {
    agents: Agents,
    history: Mutex<Vec<Record>>,
    /// A thread of its own: a disk that hangs must hang nothing else.
    writer: SyncSender<Record>,
    /// What each device last said, by node and place.
    answers: Mutex<BTreeMap<(String, usize), Answer>>,
    /// Runs that cut or restore power; meanwhile nothing else asks the devices.
    at_work: Mutex<usize>,
    /// The devices may be others.
    pub(super) changed: Notify,
}

impl Fencing {
    pub(super) fn open(runtime_dir: &Path, state_dir: &Path) -> Self {
        let agents = Agents::new(runtime_dir);
        let left = agents.reap();
        if left > 0 {
            tracing::info!(left, "processes of fence agents that an earlier run left were killed");
        }
        let (file, history) = History::open(state_dir);
        Self {
            agents,
            history: Mutex::new(history),
            writer: writer(file),
            answers: Mutex::default(),
            at_work: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Keeps what is told of fencing where it outlives this host's daemon.
    pub(super) fn keep(&self, record: &Record) {
        let kind = &record.note.kind;
        if !kind.starts_with("fence-") && !["watchdog-reset", "self-fenced"].contains(&&**kind) {
            return;
        }
        let mut history = lock(&self.history);
        history.push(record.clone());
        let excess = history.len().saturating_sub(KEPT);
        history.drain(..excess);
        if self.writer.try_send(record.clone()).is_err() {
            tracing::error!("the history of fencing cannot be written: the disk does not keep up");
        }
    }

    /// What was told of fencing, oldest first.
    pub(super) fn history(&self) -> Vec<Record> {
        lock(&self.history).clone()
    }

    /// Adds to a status what the devices said.
    pub(super) fn complete(&self, status: &mut Status) {
        let answers = lock(&self.answers);
        for node in &mut status.fencing {
            for (place, device) in node.devices.iter_mut().enumerate() {
                device.answer = answers.get(&(node.node.clone(), place)).cloned();
                let Some(answer) = device.answer.as_ref().filter(|answer| !answer.good) else {
                    continue;
                };
                let text = format!(
                    "{} could not be fenced by {}: {}",
                    node.node, device.agent, answer.text
                );
                status.conditions.push(condition(
                    "device-failed",
                    Severity::Error,
                    text,
                    answer.since,
                ));
            }
        }
    }
}

fn writer(mut file: History) -> SyncSender<Record> {
    let (to, from) = sync_channel::<Record>(WAITING);
    let write = move || {
        for record in from {
            if let Err(error) = file.add(&record) {
                tracing::error!("the history of fencing cannot be written: {error}");
            }
        }
    };
    let thread = std::thread::Builder::new().name("vipd-history".to_owned()).spawn(write);
    if let Err(error) = thread {
        tracing::error!("the history of fencing cannot be written: {error}");
    }
    to
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Has a device do something; the core thread is told what became of it.
    pub(super) fn fence(
        self: &Arc<Self>,
        run: u64,
        victim: String,
        device: Box<Device>,
        power: Power,
    ) {
        let this = Arc::clone(self);
        *lock(&this.fencing.at_work) += 1;
        tokio::spawn(async move {
            let agents = &this.fencing.agents;
            let done = match power {
                Power::Off => agents.off_verified(&device, &victim).await,
                Power::On => agents.run(&device, Verb::On, &victim).await,
            };
            *lock(&this.fencing.at_work) -= 1;
            let took = done.took;
            tracing::info!(node = victim, agent = device.agent, ?power, ?took, outcome = ?done.outcome);
            let result = match (power, done.outcome) {
                (Power::Off, Outcome::Off) | (Power::On, Outcome::Done | Outcome::On) => Ok(()),
                (_, outcome) => Err((
                    format!("{}: {}", device.agent, words(&outcome)).into_boxed_str(),
                    outcome != Outcome::TimedOut,
                )),
            };
            asking::tell(&this.inbox, Input::Fence(FenceEvent::Told { run, result })).await;
        });
    }

    /// Asks every device now and then whether it answers: a broken one is known before it is needed.
    pub(super) async fn check_devices(self: Arc<Self>) {
        tokio::time::sleep(LOOK).await;
        loop {
            let asked = self.ask(Input::Devices).await;
            let idle = *lock(&self.fencing.at_work) == 0;
            let pause = match asked {
                Ok(devices) if idle => {
                    self.check_all(&devices).await;
                    devices.check.filter(|_| devices.nodes.iter().any(|(_, all)| !all.is_empty()))
                }
                Ok(_) | Err(_) => Some(LOOK),
            };
            // Without devices, or where they are not to be asked, nothing wakes for them.
            let rest = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rest => {}
                () = self.fencing.changed.notified() => {}
            }
        }
    }

    async fn check_all(&self, devices: &Devices) {
        let here: Vec<_> = devices
            .nodes
            .iter()
            .flat_map(|(node, all)| (0..all.len()).map(move |place| (node.clone(), place)))
            .collect();
        lock(&self.fencing.answers).retain(|key, _| here.contains(key));
        if devices.check.is_none() {
            return;
        }
        for (node, all) in &devices.nodes {
            for (place, device) in all.iter().enumerate() {
                if *lock(&self.fencing.at_work) > 0 {
                    return;
                }
                let run = self.fencing.agents.probe(device, node).await;
                let good = run.outcome.is_good();
                let text = words(&run.outcome);
                let key = (node.clone(), place);
                let now = clock::now();
                let before = lock(&self.fencing.answers).get(&key).cloned();
                let since = before.as_ref().filter(|b| b.good == good).map_or(now, |b| b.since);
                let answer = Answer { at: now, since, good, text: text.clone() };
                lock(&self.fencing.answers).insert(key, answer);
                if before.map_or(!good, |before| before.good != good) {
                    self.tell_of_device(node, device, good, &text);
                }
            }
        }
    }

    fn tell_of_device(&self, node: &str, device: &Device, good: bool, text: &str) {
        let agent = &device.agent;
        let (severity, kind, text) = if good {
            let text = format!("{agent} for {node} answers again: {text}");
            (Severity::Info, "device-answers", text)
        } else {
            let text = format!("{node} could not be fenced by {agent} now: {text}");
            (Severity::Error, "device-failed", text)
        };
        let kind = kind.to_owned();
        let told = Note {
            at: clock::now(),
            severity,
            group: None,
            kind,
            text,
            about: Some(node.to_owned()),
        };
        self.note(told);
    }

    /// An operator's word about a node.
    pub(super) async fn order_fence(
        &self,
        node: &str,
        order: FenceOrder,
    ) -> Result<(), ReloadError> {
        let status = self.ask(Input::Status).await?;
        let place = may_fence(&status, node, order).map_err(ReloadError::Refused)?;
        let event = match order {
            FenceOrder::Off => FenceEvent::Order(place),
            FenceOrder::Confirm => FenceEvent::Confirm(place),
        };
        self.inbox
            .try_send(Input::Fence(event))
            .map_err(|_| ReloadError::from(Unavailable::Late(ANSWER)))
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::On => "the power is on".to_owned(),
        Outcome::Off => "the power is off".to_owned(),
        Outcome::Failed { why } => why.clone(),
        Outcome::TimedOut => "it took too long and was killed".to_owned(),
        Outcome::NotStarted { why } => format!("not started: {why}"),
    }
}
