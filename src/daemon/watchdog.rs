//! The watchdog: armed by the service runtime, as that may take long, and fed by the core thread
//! alone, after each turn of its loop. So whatever stops that loop stops the host.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::config;
use crate::core::event::{Event, Watchdog};
use crate::core::status::{Note, Severity, WatchdogStatus};
use crate::io::watchdog::{self, Watchdog as Device};
use crate::io::{clock, epitaph, wake};
use crate::types::Instant;

use super::recorder::Node;
use super::turn::{Input, Output, Scratch, Shell, note};

/// How often it is fed within its timeout.
const MEALS: u32 = 4;
/// How long to wait before one that could not be armed is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long why the host goes may take to be written down.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the log has before the host is rebooted.
const LOGGED: Duration = Duration::from_millis(50);

/// What the core thread is handed.
pub(super) enum Arming {
    /// One to be fed from now on.
    Armed(Fresh, WatchdogStatus),
    /// There is none, and why.
    Failed(Box<str>),
    /// The one that is fed is not wanted any more.
    Disarm,
}

/// A device on its way to the core thread. One that does not arrive, as the daemon ends, is disarmed:
/// nobody would feed it.
#[derive(Debug)]
pub(super) struct Fresh(Option<Device>);

impl Drop for Fresh {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.0.take().map(Device::disarm);
    }
}

/// The watchdog as the core thread holds it.
#[derive(Debug, Default)]
pub(super) struct Feeding {
    device: Option<Device>,
    due: Instant,
    every: Duration,
    /// Whether the host is to be rebooted where it must be reset.
    reboots: bool,
    /// Never again: this host must be reset.
    condemned: bool,
    /// It is to stay armed for the next run of this daemon.
    pub(super) left: bool,
}

impl Feeding {
    /// When it is to be fed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.device.as_ref().filter(|_| !self.condemned).map(|_| self.due)
    }

    /// The daemon ends. Only a host that has given up everything is let live without it.
    pub(super) fn end(&mut self) {
        let Some(device) = self.device.take().filter(|_| !self.condemned) else { return };
        if self.left {
            // The next run has all of the timeout.
            let _ = device.feed();
        } else if let Err(error) = device.disarm() {
            tracing::error!("the watchdog is not disarmed, and resets this host: {error}");
        }
    }
}

impl Shell {
    /// Feeds the watchdog, after a whole turn.
    pub(super) fn feed(&mut self, node: &mut Node, scratch: &mut Scratch) {
        let now = self.now;
        let Some(device) = &self.feeding.device else { return };
        if self.feeding.condemned || now < self.feeding.due {
            return;
        }
        self.feeding.due = now + self.feeding.every;
        if let Err(error) = device.feed() {
            let why = format!("the watchdog cannot be fed, and may reset this host: {error}");
            self.step(now, Event::Watchdog(Watchdog::Failed(why.into())), node, scratch);
        }
    }

    /// This host must be reset.
    pub(super) fn starve(&mut self, why: String) {
        self.feeding.condemned = true;
        let reboots = self.feeding.reboots;
        // Where this is lost the watchdog does it.
        let _ = self.outbox.try_send(Output::Reset { why, reboots });
    }

    /// Takes what the service runtime hands over.
    pub(super) fn arm_watchdog(&mut self, arming: Arming, node: &mut Node, scratch: &mut Scratch) {
        let now = self.now;
        if self.feeding.condemned {
            return;
        }
        let told = match arming {
            Arming::Armed(mut fresh, status) => {
                let every = Duration::from_micros(status.timeout_us) / MEALS;
                let (device, reboots) = (fresh.0.take(), status.reboots);
                self.feeding = Feeding { device, due: now, every, reboots, ..Feeding::default() };
                Watchdog::Armed(status)
            }
            Arming::Failed(why) => Watchdog::Failed(why),
            Arming::Disarm => match self.feeding.device.take().map(Device::disarm) {
                Some(Err(error)) => {
                    let why =
                        format!("the watchdog is not disarmed, and resets this host: {error}");
                    Watchdog::Failed(why.into())
                }
                Some(Ok(())) | None => Watchdog::Absent,
            },
        };
        self.step(now, Event::Watchdog(told), node, scratch);
    }
}

/// Keeps the watchdog armed that the file in force names, until it is aborted.
pub(super) async fn keep(
    inbox: wake::Sender<Input>,
    mut wanted: watch::Receiver<Option<config::Watchdog>>,
) {
    let mut armed = None;
    let mut failed = false;
    loop {
        let want = wanted.borrow_and_update().clone();
        if armed != want {
            if armed.take().is_some() {
                hand(&inbox, Arming::Disarm).await;
            }
            if let Some(watchdog) = want.clone() {
                let arming = arm(watchdog).await;
                failed = matches!(arming, Arming::Failed(_));
                hand(&inbox, arming).await;
                armed = want.clone().filter(|_| !failed);
            }
        }
        if want.is_none() && std::mem::take(&mut failed) {
            hand(&inbox, Arming::Disarm).await;
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if armed != want => {}
        }
    }
}

async fn arm(wanted: config::Watchdog) -> Arming {
    let opened = tokio::task::spawn_blocking(move || {
        let (device, status) = Device::arm(&wanted.device, wanted.timeout)?;
        Ok::<_, watchdog::Refused>((
            Fresh(Some(device)),
            WatchdogStatus { reboots: wanted.reboot, ..status },
        ))
    });
    match opened.await {
        Ok(Ok((device, status))) => Arming::Armed(device, status),
        Ok(Err(refused)) => Arming::Failed(refused.to_string().into()),
        Err(error) => Arming::Failed(error.to_string().into()),
    }
}

/// Waits until the core thread has it: what was disarmed can be armed anew then.
async fn hand(inbox: &wake::Sender<Input>, arming: Arming) {
    let (to, taken) = oneshot::channel();
    if inbox.try_send(Input::Watchdog(Box::new(arming), to)).is_ok() {
        // The core thread is gone, or it has it.
        let _ = taken.await;
    }
}

/// Writes down why this host goes, and reboots it where that is wanted and allowed. The watchdog is
/// not fed meanwhile, so nothing that hangs here saves the host.
pub(super) async fn reset(dir: &Path, why: &str, reboots: bool) -> Option<Note> {
    let (dir, why) = (dir.to_owned(), why.to_owned());
    let when = Timestamp::now().to_string();
    let written = tokio::task::spawn_blocking(move || epitaph::write(&dir, &when, &why));
    match tokio::time::timeout(LAST_WORDS, written).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!("why this host is reset is not written down: {error}"),
        Ok(Err(_)) | Err(_) => tracing::warn!("why this host is reset is not written down in time"),
    }
    if !reboots {
        return None;
    }
    tokio::time::sleep(LOGGED).await;
    let refused = tokio::task::spawn_blocking(watchdog::reboot_now).await.ok()?.err()?;
    let text = format!("vipd may not reboot this host ({refused}): its watchdog resets it");
    Some(note(clock::now(), Severity::Warn, "reboot-refused", text))
}

/// What an earlier boot of this host was reset for.
pub(super) fn obituary(dir: &Path) -> Option<Note> {
    let (when, why) = epitaph::take(dir)?;
    let text = format!("vipd had this host reset at {when}: {why}");
    Some(note(clock::now(), Severity::Warn, "self-fenced", text))
}
