//! `vipctl move`: whether it can be done, as the status tells, and what became of it. PURE.

use serde::{Deserialize, Serialize};

use crate::core::status::Status;
use crate::core::will::Topic;

/// What a move did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MoveReport {
    /// Which group.
    pub group: String,
    /// Who had it; nobody is moved from where it already is.
    pub from: String,
    /// Who has it.
    pub to: String,
    /// How long nobody answered, as the new holder saw it, in microseconds.
    pub gap_us: Option<u64>,
}

/// Who has a group that can be moved to `node`; `node` itself where there is nothing to do.
///
/// # Errors
/// Why it cannot be moved, in words.
pub fn may_move(status: &Status, group: &str, node: &str) -> Result<String, String> {
    let groups = || status.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = status.groups.iter().find(|g| g.name == group);
    let found = found.ok_or_else(|| format!("no group {group:?}; the file has {}", groups()))?;
    let (Some(lease), Some(voting)) = (&found.lease, &status.voting) else {
        return Err(format!(
            "group {group} is not held by lease, so nobody can hand it over at once: stop vipd on \
             the holder, or give {node} a higher priority and preempt = true"
        ));
    };
    let nodes = || {
        let nodes = voting.voters.iter().filter(|v| !v.witness);
        nodes.map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let target = voting.voters.iter().find(|v| v.name == node && !v.witness);
    let target = target.ok_or_else(|| format!("no node {node:?}; the file has {}", nodes()))?;
    let holder = lease.holder.clone().ok_or_else(|| format!("nobody holds {group}"))?;
    if holder == node {
        return Ok(holder);
    }
    let off = status.decisions.iter().find(|d| {
        d.topic == Topic::Maintenance && d.group.as_ref().is_none_or(|name| name == group)
    });
    if let Some(off) = off {
        return Err(format!("hands off {group}, says {}: `{}` ends that", off.by, off.ends_with));
    }
    if !target.alive {
        return Err(format!("{node} is not heard"));
    }
    let priority = |name: &str| {
        lease.votes.iter().find(|v| v.voter == name).and_then(|v| v.priority).map(|p| p.0)
    };
    let (ours, theirs) = (priority(&holder), priority(node));
    match theirs {
        None => Err(format!("{node} cannot hold {group} now: see `vipctl status` there")),
        Some(1) => Err(format!("{node} is unfit, so it would not keep {group}")),
        Some(p) if lease.preempt && ours.is_some_and(|higher| higher > p) => Err(format!(
            "{holder} has a higher priority than {node} and preempt = true: it would take {group} \
             back at once"
        )),
        Some(_) => Ok(holder),
    }
}

#[cfg(test)]
#[path = "moving_tests.rs"]
mod tests;
