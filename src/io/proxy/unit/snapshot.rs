//! A unit as systemd describes it at one moment, and what that means.

use std::collections::BTreeMap;

use zbus::{OwnedObjectPath, OwnedVariant};

use super::super::words;
use crate::core::event::ProxyEvent;

/// A unit at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    pub(super) file: String,
    pub(super) restart: String,
    pub(super) triggered_by: Vec<String>,
    pub(super) result: String,
    pub(super) invocation: Vec<u8>,
    /// A job is queued or runs.
    pub(super) busy: bool,
    pub(super) pid: u32,
    pub(super) exit_code: i32,
    pub(super) exit_status: i32,
}

impl Snapshot {
    pub(super) fn of(all: &BTreeMap<String, OwnedVariant>) -> Self {
        let number = |key| all.get(key).and_then(|v| i32::try_from(v).ok()).unwrap_or(0);
        Self {
            load: text(all, "LoadState"),
            active: text(all, "ActiveState"),
            sub: text(all, "SubState"),
            file: text(all, "UnitFileState"),
            restart: text(all, "Restart"),
            triggered_by: list(all, "TriggeredBy"),
            result: text(all, "Result"),
            invocation: list(all, "InvocationID"),
            busy: all
                .get("Job")
                .and_then(|v| <(u32, OwnedObjectPath)>::try_from(v.clone()).ok())
                .is_some_and(|(id, _)| id != 0),
            pid: all.get("MainPID").and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
            exit_code: number("ExecMainCode"),
            exit_status: number("ExecMainStatus"),
        }
    }

    /// The main process, or 0 if there is none to speak of, of a unit that is up.
    pub(super) fn running(&self) -> Option<u32> {
        matches!(&*self.active, "active" | "reloading" | "refreshing").then_some(self.pid)
    }

    /// Down, and nothing under way.
    pub(super) fn at_rest(&self) -> bool {
        !self.busy
            && !matches!(&*self.active, "activating" | "deactivating")
            && self.running().is_none()
    }

    /// The state has gone beyond the death of process `pid`.
    pub(super) fn outlived(&self, pid: u32) -> bool {
        self.active != "deactivating" && self.running() != Some(pid)
    }

    /// The main process of this state if it is gone in the `next`, while the unit is not down yet.
    pub(super) fn bereft_in(&self, next: &Self) -> Option<u32> {
        self.running().filter(|pid| *pid != 0 && next.active == "deactivating" && next.pid == 0)
    }

    /// `next` is another run of the same unit.
    pub(super) fn replaced_by(&self, next: &Self) -> bool {
        self.running().is_some() && next.running().is_some() && self.invocation != next.invocation
    }

    pub(super) fn event(&self, dead: bool) -> ProxyEvent {
        let gone = ProxyEvent::Stopped { how: self.how() };
        match (&*self.active, &*self.load) {
            ("active" | "reloading" | "refreshing" | "deactivating", _) if dead => gone,
            ("active" | "reloading" | "refreshing", _) => ProxyEvent::Running { pid: self.pid },
            ("activating", _) => ProxyEvent::Starting,
            ("deactivating", _) => ProxyEvent::Stopping,
            (_, "loaded" | "merged") => gone,
            (_, "not-found") => ProxyEvent::Unknown { why: words("there is no such unit") },
            (_, load) => ProxyEvent::Unknown { why: words(format!("the unit is {load}")) },
        }
    }

    /// How it ended, in words.
    pub(super) fn how(&self) -> Box<str> {
        words(match (&*self.result, self.exit_code) {
            ("exit-code" | "signal" | "core-dump", libc::CLD_EXITED) => {
                format!("exit status {}", self.exit_status)
            }
            ("exit-code" | "signal" | "core-dump", libc::CLD_KILLED | libc::CLD_DUMPED) => {
                format!("killed by signal {}", self.exit_status)
            }
            ("success" | "", _) if self.running().is_some() => "main process ended".to_owned(),
            ("success" | "", _) => "inactive".to_owned(),
            ("oom-kill", _) => "killed for lack of memory".to_owned(),
            ("timeout", _) => "systemd's own time-out".to_owned(),
            ("watchdog", _) => "systemd's watchdog".to_owned(),
            ("start-limit-hit", _) => "started too often for systemd (StartLimitBurst=)".to_owned(),
            (other, _) => other.to_owned(),
        })
    }

    /// What systemd does by itself with a unit that is vipd's to start and stop.
    pub(super) fn findings(&self, name: &str, active_only: bool) -> Vec<String> {
        let mut found = Vec::new();
        if active_only && matches!(&*self.file, "enabled" | "enabled-runtime") {
            found.push(format!(
                "{name} is {}: systemd starts it at boot on every host; `systemctl disable {name}`",
                self.file
            ));
        }
        if active_only && !self.triggered_by.is_empty() {
            let by = self.triggered_by.join(" ");
            found.push(format!(
                "{name} is triggered by {by}: systemd starts it on every host; `systemctl disable --now {by}`"
            ));
        }
        if !matches!(&*self.restart, "" | "no") {
            found.push(format!(
                "{name} has Restart={}: systemd restarts it, vipd waits for that and counts it",
                self.restart
            ));
        }
        found
    }
}

pub(super) fn text(all: &BTreeMap<String, OwnedVariant>, key: &str) -> String {
    all.get(key).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default().to_owned()
}

pub(super) fn list<T>(all: &BTreeMap<String, OwnedVariant>, key: &str) -> Vec<T>
where
    Vec<T>: TryFrom<OwnedVariant>,
{
    all.get(key).and_then(|v| Vec::try_from(v.clone()).ok()).unwrap_or_default()
}

/// Why a start came to nothing, from the result of its job.
pub(super) fn failure(result: &str, now: &Snapshot) -> Box<str> {
    match result {
        "done" if now.result == "success" => words("it ended at once: not a unit that stays up"),
        "done" | "failed" => now.how(),
        "dependency" => words("a unit that it needs failed"),
        "canceled" => words("somebody else cancelled the start"),
        "skipped" => words("a condition of the unit does not hold"),
        other => words(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(active: &str, result: &str, code: i32, status: i32) -> Snapshot {
        Snapshot {
            load: "loaded".into(),
            active: active.into(),
            result: result.into(),
            exit_code: code,
            exit_status: status,
            ..Snapshot::default()
        }
    }

    #[test]
    fn an_end_has_words() {
        let cases = [
            (unit("inactive", "success", 0, 0), "inactive"),
            (unit("failed", "exit-code", libc::CLD_EXITED, 7), "exit status 7"),
            (unit("failed", "signal", libc::CLD_KILLED, 9), "killed by signal 9"),
            (unit("deactivating", "core-dump", libc::CLD_DUMPED, 11), "killed by signal 11"),
            (unit("active", "success", 0, 0), "main process ended"),
            (unit("failed", "protocol", 0, 0), "protocol"),
        ];
        for (unit, how) in cases {
            assert_eq!(&*unit.how(), how, "{unit:?}");
        }
    }

    #[test]
    fn states_are_told_as_they_are_unless_the_process_is_known_to_be_dead() {
        let mut up = unit("active", "success", 0, 0);
        up.pid = 7;
        assert_eq!(up.event(false), ProxyEvent::Running { pid: 7 });
        assert!(matches!(up.event(true), ProxyEvent::Stopped { .. }));
        assert_eq!(unit("activating", "", 0, 0).event(true), ProxyEvent::Starting);
        assert_eq!(unit("deactivating", "", 0, 0).event(false), ProxyEvent::Stopping);
        let mut none = unit("inactive", "", 0, 0);
        none.load = "not-found".into();
        assert!(matches!(none.event(false), ProxyEvent::Unknown { .. }));
    }

    #[test]
    fn what_systemd_does_by_itself_is_found_where_it_matters() {
        let mut unit = unit("inactive", "", 0, 0);
        unit.file = "enabled".into();
        assert_eq!(unit.findings("a.service", true).len(), 1);
        assert_eq!(unit.findings("a.service", false).len(), 0);
        unit.restart = "always".into();
        assert_eq!(unit.findings("a.service", false).len(), 1);
        unit.triggered_by = vec!["a.socket".into()];
        assert_eq!(unit.findings("a.service", true).len(), 3);
    }
}
