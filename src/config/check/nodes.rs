//! Nodes: who is who, and who is preferred.

use std::net::IpAddr;

use super::super::diag::Diagnostic;
use super::super::read::{At, File, Group, Node};
use super::voters::safety;
use crate::types::Priority;

/// The first automatic priority, and the step to the next.
const FIRST: u8 = 150;
const STEP: u8 = 10;

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    names(file, found);
    own_addresses(file, found);
    let lease = file.groups.iter().find(|g| safety(file, g).is_leased());
    for priority in file.nodes.iter().filter_map(|n| n.priority.as_ref()) {
        special(priority, lease, found);
    }
    let explicit: Vec<_> = file.nodes.iter().map(|n| value(n.priority.as_ref())).collect();
    if let Err(i) = assign(&explicit) {
        let d = Diagnostic::error(file.nodes[i].at.clone(), "no priority is left for this node")
            .label("there is none below that of the node above")
            .help("write a `priority` for each node, from 254 down");
        found.push(d);
    }
    let alone = file.nodes.len() == 1 && file.groups.iter().all(|g| g.routers.is_empty());
    if let (true, [only]) = (alone, file.nodes.as_slice()) {
        let d = Diagnostic::warning(only.at.clone(), "there is only one node")
            .label("nothing can take its addresses over")
            .help("add a `[[node]]` for each load balancer");
        found.push(d);
    }
}

fn value(priority: Option<&At<Priority>>) -> Option<Priority> {
    priority.map(|p| p.value)
}

/// The host part of a host name.
pub(crate) fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Whether both names can be of one host: equal, or one is short and the other begins with it.
pub(crate) fn same_host(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || (a.contains('.') != b.contains('.') && short(a).eq_ignore_ascii_case(short(b)))
}

fn names(file: &File, found: &mut Vec<Diagnostic>) {
    let nodes = file.nodes.iter().map(|n| (n.name.as_ref(), true));
    let all = nodes.chain(file.witnesses.iter().map(|w| (w.name.as_ref(), false)));
    let named: Vec<_> = all.filter_map(|(name, node)| Some((name?, node))).collect();
    for (i, (name, node)) in named.iter().enumerate() {
        let same = |(o, _): &&(&At<String>, bool)| same_host(&o.value, &name.value);
        if let Some((first, first_node)) = named[..i].iter().find(same) {
            let message = match (first_node, node) {
                (true, true) => "two nodes have one name",
                (false, false) => "two witnesses have one name",
                (true, false) | (false, true) => "a witness has the name of a node",
            };
            let d = Diagnostic::error(name.at.clone(), message)
                .label(format!("`{}` again", name.value))
                .related(first.at.clone(), "first here")
                .help("give each its own host name; `hap1` and `hap1.example.com` are one host");
            found.push(d);
        }
    }
}

fn own_addresses(file: &File, found: &mut Vec<Diagnostic>) {
    let nodes = &file.nodes;
    let sixes: Vec<_> = nodes
        .iter()
        .filter_map(|n| n.address6.as_ref())
        .map(|a| At { at: a.at.clone(), value: IpAddr::V6(a.value) })
        .collect();
    let of_nodes = nodes.iter().filter_map(|n| n.address.as_ref()).chain(&sixes);
    let others = file.witnesses.iter().filter_map(|w| w.address.as_ref()).chain(file.paths());
    let all = of_nodes.map(|a| (a, true)).chain(others.map(|a| (a, false)));
    let mut seen: Vec<&At<IpAddr>> = Vec::new();
    for (address, of_node) in all {
        if let Some(first) = seen.iter().find(|o| o.value == address.value) {
            let (message, help) = if of_node {
                ("two nodes have one address", "give each node its own fixed address")
            } else {
                ("an address is given twice", "give each voter its own fixed addresses")
            };
            let d = Diagnostic::error(address.at.clone(), message)
                .label(format!("{} again", address.value))
                .related(first.at.clone(), "first here")
                .help(help);
            found.push(d);
        }
        seen.push(address);
    }
    for node in nodes {
        if let (Some(At { value: IpAddr::V6(_), at }), Some(six)) = (&node.address, &node.address6)
        {
            let d = Diagnostic::error(six.at.clone(), "`address` is an IPv6 address already")
                .label("a second one")
                .related(at.clone(), "the first one")
                .help("put the node's IPv4 address into `address`, or take `address6` out");
            found.push(d);
        }
    }
}

/// Priorities that mean something else; `lease` is a group held by lease for which it counts.
fn special(priority: &At<Priority>, lease: Option<&Group>, found: &mut Vec<Diagnostic>) {
    if let (Priority::OWNER, Some(group)) = (priority.value, lease) {
        let d = Diagnostic::error(priority.at.clone(), "255 takes over without being asked")
            .label("nobody does that with `safety = \"lease\"`")
            .related(group.place(), "a majority must agree here")
            .help("write 254 or less: a floating address has no owner");
        found.push(d);
    } else if priority.value == Priority::OWNER {
        let d = Diagnostic::warning(priority.at.clone(), "255 is for the owner of the addresses")
            .label("takes over at once, whatever `preempt` says")
            .help("write 254 or less: a floating address has no owner");
        found.push(d);
    } else if priority.value == Priority::LEAST {
        let d = Diagnostic::warning(priority.at.clone(), "1 is what an unhealthy node uses")
            .label("cannot be told from bad health")
            .help("write 2 or more");
        found.push(d);
    }
}

/// Fills in what has no priority: ten less than the node above it, never one that is taken.
///
/// # Errors
/// The first node for which none is left.
pub(crate) fn assign(explicit: &[Option<Priority>]) -> Result<Vec<Priority>, usize> {
    let mut out: Vec<Priority> = Vec::with_capacity(explicit.len());
    for (i, given) in explicit.iter().enumerate() {
        let next = match (given, out.last()) {
            (Some(p), _) => Some(*p),
            (None, above) => {
                let start = match above {
                    None => FIRST,
                    Some(Priority(p)) if *p > 2 * STEP => p - STEP,
                    Some(Priority(p)) => p.saturating_sub(1),
                };
                let taken =
                    |p: &u8| out.contains(&Priority(*p)) || explicit.contains(&Some(Priority(*p)));
                (2..=start).rev().find(|p| !taken(p)).map(Priority)
            }
        };
        out.push(next.ok_or(i)?);
    }
    Ok(out)
}

/// What a group says about the priority of each node, over what the nodes say themselves.
pub(crate) fn overrides(file: &File, group: &Group) -> Vec<Option<Priority>> {
    let of = |node: &Node| {
        let name = node.name.as_ref()?;
        let given =
            group.priorities.iter().find(|(n, _)| n.value.eq_ignore_ascii_case(&name.value));
        given.map(|(_, p)| p.value).or(value(node.priority.as_ref()))
    };
    file.nodes.iter().map(of).collect()
}

/// Priorities of one group.
pub(super) fn group_priorities(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    let names: Vec<_> = file.nodes.iter().filter_map(|n| n.name.as_ref()).collect();
    let lease = Some(group).filter(|g| safety(file, g).is_leased());
    for (i, (name, priority)) in group.priorities.iter().enumerate() {
        special(priority, lease, found);
        let same = |o: &str| o.eq_ignore_ascii_case(&name.value);
        if !names.iter().any(|n| same(&n.value)) {
            found.push(unknown_node(name, &names));
        }
        if let Some((first, _)) = group.priorities[..i].iter().find(|(n, _)| same(&n.value)) {
            let d = Diagnostic::error(name.at.clone(), "two priorities for one node")
                .label(format!("`{}` again", name.value))
                .related(first.at.clone(), "first here");
            found.push(d);
        }
    }
    let Ok(all) = assign(&overrides(file, group)) else {
        if !group.priorities.is_empty() {
            let at = group.priorities[0].0.at.clone();
            let d = Diagnostic::error(at, "these leave no priority for a node that has none");
            found.push(d.help("name every node here"));
        }
        return;
    };
    for (i, priority) in all.iter().enumerate() {
        let Some(first) = all[..i].iter().position(|p| p == priority) else { continue };
        let place = |i: usize| priority_at(file, group, i);
        let d = Diagnostic::warning(place(i), format!("two nodes have priority {priority}"))
            .label("the same")
            .related(place(first), "as here")
            .help("write distinct priorities; between equal ones the higher address wins");
        if !found.contains(&d) {
            found.push(d);
        }
    }
}

fn priority_at(file: &File, group: &Group, i: usize) -> super::super::diag::Span {
    let node = &file.nodes[i];
    let named = |n: &At<String>| {
        node.name.as_ref().is_some_and(|name| n.value.eq_ignore_ascii_case(&name.value))
    };
    let own = group.priorities.iter().find(|(n, _)| named(n)).map(|(_, p)| p);
    own.or(node.priority.as_ref()).map_or_else(|| node.at.clone(), |p| p.at.clone())
}

fn unknown_node(name: &At<String>, known: &[&At<String>]) -> Diagnostic {
    let d = Diagnostic::error(name.at.clone(), format!("there is no node `{}`", name.value));
    let names = || known.iter().map(|n| n.value.as_str());
    match super::super::walk::nearest(&name.value, names()) {
        Some(near) => d.label("no `[[node]]` has this name").help(format!("write `{near}`")),
        None => d
            .label("no `[[node]]` has this name")
            .help(format!("the nodes are {}", names().collect::<Vec<_>>().join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(explicit: &[u8]) -> Vec<u8> {
        let some = |p: &u8| Some(*p).filter(|p| *p > 0).map(Priority);
        let explicit: Vec<_> = explicit.iter().map(some).collect();
        assign(&explicit).unwrap().into_iter().map(|p| p.0).collect()
    }

    #[test]
    fn priorities_are_distinct_and_follow_the_file() {
        assert_eq!(assigned(&[0, 0, 0]), [150, 140, 130]);
        assert_eq!(assigned(&[120, 0, 0]), [120, 110, 100]);
        assert_eq!(assigned(&[0, 0, 140]), [150, 139, 140]);
        assert_eq!(assigned(&[0, 200, 0]), [150, 200, 190]);
        assert_eq!(assigned(&[0; 16]).last(), Some(&18));
        assert_eq!(assign(&[Some(Priority(2)), None]), Err(1));
    }

    #[test]
    fn a_short_name_is_the_full_ones_host() {
        assert!(same_host("hap1", "HAP1.example.com"));
        assert!(same_host("hap1.example.com", "hap1"));
        assert!(!same_host("hap1.a.com", "hap1.b.com"));
        assert!(!same_host("hap1", "hap11"));
    }
}
