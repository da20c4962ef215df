//! What only the shell knows of the status.

use std::time::Duration;

use crate::core::status::{Severity, Status, condition};
use crate::io::log;
use crate::io::port::Port;
use crate::types::Instant;

use super::turn::Shell;

/// How long the kernel may be at one batch before that is worth saying.
const BUSY: Duration = Duration::from_secs(1);

impl Shell {
    /// Adds what only the shell knows: what the sockets dropped, and a kernel that does not answer.
    pub(super) fn complete_status(&self, now: Instant, mut status: Status) -> Status {
        let ports = self.ports.values().map(Port::counters);
        let [malformed, full] = ports.fold([0, 0], |[malformed, full], port| {
            [malformed + port.malformed, full + port.dropped]
        });
        status.dropped.push(("malformed-ip-packets".to_owned(), malformed));
        status.dropped.push(("receive-buffer-overflows".to_owned(), full));
        status.dropped.push(("log-lines-lost".to_owned(), log::dropped()));
        if let Some(voters) = &self.voters {
            let counts = voters.dropped().map(|(why, n)| (format!("voters-{why}"), n));
            status.dropped.extend(counts);
            status.conditions.extend(voters.conditions(now));
        }
        status.gate.clone_from(&self.gate);
        if let Some(since) = self.worker.busy_since().filter(|at| now > *at + BUSY) {
            let text = "the kernel does not answer: something holds its network lock".to_owned();
            status.conditions.push(condition("kernel-busy", Severity::Error, text, since));
        }
        status
    }
}
