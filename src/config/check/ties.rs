//! Groups that belong together, or apart.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::diag::{Diagnostic, Span};
use super::super::read::{At, File, Group};
use super::nodes::{assign, overrides};
use super::voters::safety;
use crate::types::Priority;

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    let syncs = named(file, |g| g.sync.as_ref());
    for (name, members) in &syncs {
        alone(name, members, ("sync", "nothing shares its fate"), found);
        for (at, group) in &members[1..] {
            unlike(file, (at, group), members[0].1, found);
        }
        owner(file, members, found);
    }
    for (name, members) in &named(file, |g| g.spread.as_ref()) {
        alone(name, members, ("spread", "it is kept apart from nothing"), found);
        crowded(file, members, found);
    }
    for group in &file.groups {
        if let (Some(sync), Some(spread)) = (&group.sync, &group.spread) {
            let d = Diagnostic::error(spread.at.clone(), "a group both kept together and apart")
                .label("where it goes is up to the others of its sync")
                .related(sync.at.clone(), "those")
                .help("take one of the two out");
            found.push(d);
        }
    }
}

type Members<'a> = Vec<(Span, &'a Group)>;

fn named(file: &File, key: impl Fn(&Group) -> Option<&At<String>>) -> BTreeMap<&str, Members<'_>> {
    let mut all: BTreeMap<&str, Members<'_>> = BTreeMap::new();
    for group in &file.groups {
        if let Some(name) = key(group) {
            all.entry(&name.value).or_default().push((name.at.clone(), group));
        }
    }
    all
}

fn alone(
    name: &str,
    members: &Members<'_>,
    (key, label): (&str, &str),
    found: &mut Vec<Diagnostic>,
) {
    if let [(at, _)] = members.as_slice() {
        let d = Diagnostic::warning(at.clone(), format!("no other group has this `{key}`"))
            .label(label)
            .help(format!("write `{key} = \"{name}\"` for another group, too, or take it out"));
        found.push(d);
    }
}

fn priorities(file: &File, group: &Group) -> Option<Vec<Priority>> {
    assign(&overrides(file, group)).ok()
}

/// Groups of one sync that would never agree where they are to be.
fn unlike(file: &File, (at, group): (&Span, &Group), first: &Group, found: &mut Vec<Diagnostic>) {
    let (a, b) = (safety(file, group), safety(file, first));
    let mut add = |message: &str, label: String, there: Span, help: &str| {
        let d = Diagnostic::error(at.clone(), message).label(label).related(there, "the other");
        found.push(d.help(help));
    };
    if a != b {
        let label = format!("held as \"{}\", the other as \"{}\"", a.name(), b.name());
        let help = "write the same `safety` for both";
        add("groups of one sync are held in different ways", label, first.place(), help);
    }
    if priorities(file, group) != priorities(file, first) {
        let help = "write the same `priorities` for both: the best node is to have them all";
        add(
            "groups of one sync prefer different nodes",
            "it would never be where the other is to be".to_owned(),
            first.at.clone(),
            help,
        );
    }
    let preempt = |g: &Group| {
        let delay = g.preempt_delay.as_ref().map_or(Duration::ZERO, |d| d.value);
        g.preempt.as_ref().is_some_and(|p| p.value).then_some(delay)
    };
    let stickiness = |g: &Group| g.stickiness.as_ref().map_or(0, |s| s.value);
    if (preempt(group), stickiness(group)) != (preempt(first), stickiness(first)) {
        add(
            "groups of one sync move for different reasons",
            "one would move where the other stays".to_owned(),
            first.at.clone(),
            "write the same `preempt`, `preempt-delay` and `stickiness` for both",
        );
    }
}

/// Whoever owns an address takes it without regard to others.
fn owner(file: &File, members: &Members<'_>, found: &mut Vec<Diagnostic>) {
    if members.len() < 2 {
        return;
    }
    let owned = |g: &Group| priorities(file, g).is_some_and(|all| all.contains(&Priority::OWNER));
    if let Some((at, _)) = members.iter().find(|(_, group)| owned(group)) {
        let d = Diagnostic::error(at.clone(), "a sync with the owner of an address")
            .label("priority 255 takes over without waiting for the others")
            .help("write 254 or less: a floating address has no owner");
        found.push(d);
    }
}

fn crowded(file: &File, members: &Members<'_>, found: &mut Vec<Diagnostic>) {
    let nodes = file.nodes.len();
    if let Some((at, _)) = members.get(nodes)
        && nodes > 0
    {
        let message = format!("{} groups are to be spread over {nodes} node(s)", members.len());
        let d = Diagnostic::warning(at.clone(), message)
            .label("some node has two of them even when all are well")
            .help("that is fine where two on one node can be borne");
        found.push(d);
    }
    for (at, group) in members {
        if members.len() > 1 && !group.preempt.as_ref().is_some_and(|p| p.value) {
            let d = Diagnostic::warning(at.clone(), "what is spread does not come back")
                .label("after a failure it stays where it is, beside others")
                .help("write `preempt = true` for a node that comes back to take one again");
            found.push(d);
            return;
        }
    }
}
