//! `vipctl standby`, `maintenance`, `ban` and what takes them back: whether an order makes sense,
//! as the status tells. PURE.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::status::{GroupStatus, PeerKind, Role, Status};
use crate::core::will::{About, LONGEST_REASON, Order, Text, Topic};

/// The longest time that a decision may last if it has an end.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    /// About what.
    pub topic: Topic,
    /// Whether it is to be so, or no longer.
    pub on: bool,
    /// Which node.
    pub node: Option<String>,
    /// Which group.
    pub group: Option<String>,
    /// For how long, in milliseconds.
    pub for_ms: Option<u64>,
    /// Why.
    pub why: Option<String>,
    /// Who.
    pub by: Option<String>,
    /// Also where a group would be left to nobody.
    #[serde(default)]
    pub force: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WillReport {
    /// What was decided, in words.
    pub text: String,
    /// Whether the nodes tell each other what is decided.
    pub shared: bool,
    /// Nodes that are not heard: they come to know it when they are.
    pub unheard: Vec<String>,
    /// Why it is not on the disk; `None` where it is.
    pub not_kept: Option<String>,
}

/// What is to be told to the core; `shared` is whether nodes tell each other what is decided, `at`
/// is now, in milliseconds since 1970, UTC.
///
/// # Errors
/// Why it makes no sense, in words.
pub fn may_say(status: &Status, shared: bool, asked: &Asked, at: u64) -> Result<Order, String> {
    let about = about(status, asked)?;
    let elsewhere = about.node.as_ref().is_some_and(|node| *node != status.node);
    if elsewhere && !shared {
        return Err(format!(
            "the nodes of this file have no `secret`, so they cannot tell each other: say it on {}",
            about.node.unwrap_or_default()
        ));
    }
    let in_force = status
        .decisions
        .iter()
        .any(|d| (d.topic, &d.node, &d.group) == (about.topic, &about.node, &about.group));
    if !asked.on && !in_force && about.topic != Topic::Cleanup {
        return Err(format!("nothing to end: it is not so that {}", about.words(true)));
    }
    if asked.on && !asked.force && about.topic != Topic::Cleanup {
        let left = leaves_nobody(status, &about);
        if !left.is_empty() {
            return Err(format!("nobody else can have {}: see --yes", left.join(", ")));
        }
    }
    let left = asked.for_ms.filter(|_| asked.on).map(Duration::from_millis);
    match left {
        Some(left) if left.is_zero() || left > LONGEST => {
            return Err("a time from a millisecond to 366 days is expected".to_owned());
        }
        None if asked.on && about.topic == Topic::Ban => {
            return Err("a ban needs an end: say for how long".to_owned());
        }
        Some(_) | None => {}
    }
    let why = asked.why.as_deref().unwrap_or_default();
    if why.len() > LONGEST_REASON || why.chars().any(char::is_control) {
        return Err(format!("a reason has at most {LONGEST_REASON} bytes, in one line"));
    }
    let by = asked.by.as_deref().unwrap_or("somebody");
    let by: String = by.chars().filter(|c| !c.is_control()).collect();
    let by = Text::new(&format!("{by} on {}", status.node));
    let on = asked.on && about.topic != Topic::Cleanup;
    Ok(Order { about, on, left, at, by, why: Text::new(why) })
}

/// What an order is about, if the file has that.
fn about(status: &Status, asked: &Asked) -> Result<About, String> {
    let peers = status.peers.iter().filter(|p| p.kind == PeerKind::Node);
    let voters = status.voting.iter().flat_map(|v| v.voters.iter().filter(|v| !v.witness));
    let mut nodes: Vec<_> = peers.map(|p| &p.name).chain(voters.map(|v| &v.name)).collect();
    nodes.push(&status.node);
    nodes.sort_unstable();
    nodes.dedup();
    let groups: Vec<_> = status.groups.iter().map(|g| &g.name).collect();
    let check = |what: &str, name: &Option<String>, all: &[&String]| match name {
        Some(name) if !all.contains(&name) => {
            let all: Vec<_> = all.iter().map(|n| n.as_str()).collect();
            Err(format!("no {what} {name:?}; the file has {}", all.join(", ")))
        }
        Some(_) | None => Ok(()),
    };
    check("node", &asked.node, &nodes)?;
    check("group", &asked.group, &groups)?;
    let node = asked.node.as_deref().unwrap_or(&status.node);
    let group = asked.group.as_deref();
    match (asked.topic, group) {
        (Topic::Standby, None) => Ok(About::standby(node)),
        (Topic::Ban, Some(group)) => Ok(About::ban(group, node)),
        (Topic::Maintenance, group) if asked.node.is_none() => Ok(About::maintenance(group)),
        (Topic::Cleanup, group) => Ok(About::cleanup(asked.node.as_deref(), group)),
        (Topic::Standby | Topic::Ban | Topic::Maintenance, _) => {
            Err(format!("that is not what {} is about", asked.topic.name()))
        }
    }
}

/// The groups that a standby or ban takes from their holder, and that nobody else could have, as
/// far as is known here.
pub fn leaves_nobody(status: &Status, about: &About) -> Vec<String> {
    let Some(node) = about.node.as_deref() else { return Vec::new() };
    let of = |g: &&GroupStatus| about.group.as_ref().is_none_or(|name| *name == g.name);
    let taken = status.groups.iter().filter(of).filter(|g| g.active.as_deref() == Some(node));
    taken.filter(|g| !somebody_else(status, g, node)).map(|g| g.name.clone()).collect()
}

fn somebody_else(status: &Status, group: &GroupStatus, node: &str) -> bool {
    let barred = |name: &str| {
        status.decisions.iter().any(|d| {
            let here = d.node.as_deref() == Some(name);
            here && d.group.as_ref().is_none_or(|g| *g == group.name)
        })
    };
    if let Some(lease) = &group.lease {
        let mut votes = lease.votes.iter();
        return votes.any(|v| v.voter != node && v.priority.is_some() && !barred(&v.voter));
    }
    // A Backup knows of itself; a holder of those that answer it.
    let me = status.node != node && group.role == Role::Backup && !barred(&status.node);
    let peers = status.peers.iter().filter(|p| p.name != node && !barred(&p.name));
    me || peers.into_iter().any(|p| p.reachable == Some(true))
}

#[cfg(test)]
#[path = "will_tests.rs"]
mod tests;
