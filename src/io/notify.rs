//! What systemd is told: readiness, status text, reloads, the watchdog. Silent where there is no
//! `NOTIFY_SOCKET`.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::types::Instant;

/// The daemon serves: configuration read, sockets open, API listening.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&one_line(text))]);
}

/// A reload begins (`Type=notify-reload`); it ends with [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "CLOCK_MONOTONIC"),
    }
}

/// The daemon gives up gracefully.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// systemd's watchdog, where the unit has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    limit: Duration,
}

impl Watchdog {
    /// The watchdog of this process's unit; `None` where there is none.
    pub fn from_env() -> Option<Self> {
        sd_notify::watchdog_enabled().filter(|l| !l.is_zero()).map(Self::new)
    }

    /// A watchdog that bites after `limit` without a ping.
    pub const fn new(limit: Duration) -> Self {
        Self { limit }
    }

    /// How often to ask the core and ping: three times within the limit, so that one lost ask
    /// does not bite.
    pub fn period(self) -> Duration {
        self.limit / 3
    }

    /// Pings if the core's last answer, made at `answered`, is fresh; tells whether it did.
    ///
    /// The service runtime alone being alive is worth nothing: it must not speak for the core.
    pub fn ping(self, answered: Instant, now: Instant) -> bool {
        let is_fresh = now.since(answered) <= self.period();
        if is_fresh {
            send(&[NotifyState::Watchdog]);
        }
        is_fresh
    }
}

/// Every line is a message of its own to systemd; a status is one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_answer_is_worth_a_ping() {
        let dog = Watchdog::new(Duration::from_secs(3));
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert!(dog.ping(at(5000), at(6000)));
        assert!(!dog.ping(at(5000), at(6001)));
        assert!(dog.ping(at(6000), at(5000)), "answered while we were asking for the time");
    }

    #[test]
    fn a_status_cannot_carry_another_message() {
        assert_eq!(one_line("Active\nMAINPID=1"), "Active MAINPID=1");
    }
}
