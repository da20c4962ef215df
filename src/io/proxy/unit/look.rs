//! A unit that is only looked at: whether it is active, and when that may have changed.

use futures_util::{FutureExt as _, StreamExt as _};

use super::Bus;
use super::bus::Session;
use super::snapshot::Snapshot;

/// One unit on a connection of its own, which is made anew when it is lost.
pub(in crate::io) struct Looked {
    bus: Bus,
    name: String,
    session: Option<Session>,
}

impl Looked {
    pub(in crate::io) fn new(bus: Bus, name: String) -> Self {
        Self { bus, name, session: None }
    }

    /// Whether the unit is active, in words. May be dropped at any moment.
    pub(in crate::io) async fn look(&mut self) -> Result<String, String> {
        let session = match &mut self.session {
            Some(session) => {
                // What is read now is newer than every signal.
                while session.signal().now_or_never().is_some_and(|more| more) {}
                session
            }
            none => none.insert(Session::open(self.bus.clone(), self.name.clone()).await?),
        };
        match session.read().await {
            Ok(now) => self.judge(&now),
            Err(why) => {
                self.session = None;
                Err(why.into())
            }
        }
    }

    fn judge(&self, now: &Snapshot) -> Result<String, String> {
        let Self { name, .. } = self;
        match (now.running(), &*now.load) {
            (Some(_), _) => Ok(format!("{name} is {} ({})", now.active, now.sub)),
            (None, "not-found") => Err(format!("there is no {name}")),
            (None, _) if now.active == "failed" => Err(format!("{name} failed: {}", now.how())),
            (None, _) => Err(format!("{name} is {} ({})", now.active, now.sub)),
        }
    }

    /// Waits until the unit may have changed; for ever where systemd is not there.
    pub(in crate::io) async fn changed(&mut self) {
        match &mut self.session {
            Some(session) => {
                if !session.signal().await {
                    self.session = None;
                }
            }
            None => std::future::pending().await,
        }
    }
}

impl Session {
    /// The next signal that may mean something; `false` when there will be none any more.
    async fn signal(&mut self) -> bool {
        tokio::select! {
            change = self.changes.next() => change.is_some(),
            job = self.jobs.next() => job.is_some(),
            // systemd came or went: what is known of it is nothing.
            _ = self.owner.next() => false,
        }
    }
}
