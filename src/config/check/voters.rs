//! Who votes, and what a lease needs.

use std::net::IpAddr;

use super::super::diag::{Diagnostic, Span};
use super::super::form::is_link_local;
use super::super::read::{At, File, Group};
use super::super::walk::show;
use super::super::{Lease, Safety};
use crate::types::Family;

/// With fewer no majority is left when one is gone.
const LEAST: usize = 3;
/// More need more agreement than they give safety.
const MOST: usize = 16;
/// What one has instead of a lease.
pub(super) const INSTEAD: &str =
    "write `safety = \"vrrp\"`; it is as safe as VRRP: a cut network gives two holders";

/// What a holder of `group` must prove, as written or by default.
pub(crate) fn safety(file: &File, group: &Group) -> Safety {
    let default = file.voters() >= LEAST && group.routers.is_empty();
    match group.safety.as_ref().map(|s| s.value.as_str()) {
        Some("lease") => Safety::Lease,
        Some("lease+fence") => Safety::LeaseFence,
        None if default => Safety::Lease,
        Some(_) | None => Safety::Vrrp,
    }
}

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    let lease = file.groups.iter().find(|g| safety(file, g).is_leased());
    let room = MOST.saturating_sub(file.nodes.len());
    if let Some(extra) = file.witnesses.get(room) {
        let d = Diagnostic::error(extra.at.clone(), "too many voters")
            .label(format!("there are {}; at most {MOST}", file.voters()));
        found.push(d.help("take witnesses out: three or five voters are enough for most"));
    }
    paths(file, found);
    match lease {
        Some(group) => {
            secret(file, group, found);
            reachable(file, found);
            even(file, found);
        }
        None => idle(file, found),
    }
    if let Some(term) = file.cluster.as_ref().and_then(|c| c.lease.as_ref())
        && (Lease::SHORTEST..=Lease::LONGEST).contains(&term.value)
        && !Lease::of(term.value).is_safe()
    {
        let d = Diagnostic::error(term.at.clone(), "votes would end before this term does");
        found.push(d.help(format!("write `lease = \"{}\"`", show(Lease::DEFAULT))));
    }
}

/// What a lease needs of the group itself.
pub(super) fn group(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    let fences = safety(file, group) == Safety::LeaseFence;
    let explicit = |s: &&At<String>| fences || s.value == "lease";
    let Some(safety) = group.safety.as_ref().filter(explicit) else { return };
    let (nodes, voters) = (file.nodes.len(), file.voters());
    // Of two nodes the one that has the other's power off has it all.
    let pair = fences && (nodes, voters) == (2, 2);
    if voters < LEAST && !pair {
        let missing = if voters == 1 { "is only one" } else { "are only two" };
        let add = match (nodes, voters) {
            (2, _) => {
                "add a `[[witness]]`, a third host that only votes, or write `safety = \
                 \"lease+fence\"` and a fence device for each node"
            }
            (_, 2) => "add another `[[node]]`",
            _ => "add nodes, or one node and a `[[witness]]`",
        };
        let d = Diagnostic::error(safety.at.clone(), "a lease needs three voters")
            .label(format!("there {missing}, so nobody could hold when one is gone"))
            .help(format!("{add}; or {INSTEAD}"));
        found.push(d);
    }
    if let Some(router) = group.routers.first() {
        let d = Diagnostic::error(safety.at.clone(), "routers of other makes know no lease")
            .label("would not be asked before it takes the addresses")
            .related(router.address.at.clone(), "such a router")
            .help(format!("take `routers` out, or {INSTEAD}"));
        found.push(d);
    }
}

fn secret(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    // That there is no `[cluster]` at all has been told.
    let Some(cluster) = file.cluster.as_ref().filter(|c| c.secret.is_none()) else { return };
    let why = if group.safety.is_some() {
        "is held by lease".to_owned()
    } else {
        format!("with {} voters it is held by lease unless it says otherwise", file.voters())
    };
    let d = Diagnostic::error(cluster.at.clone(), "the voters have no `secret`")
        .label("needs `secret`: what voters tell each other is signed with it")
        .related(group.place(), why)
        .help(format!(
            "make one with `vipctl keygen /etc/vipd/secret`, copy it to every voter, and write \
             `secret = \"/etc/vipd/secret\"` here; or, in the group, {INSTEAD}"
        ));
    found.push(d);
}

/// A voter, as far as its addresses go.
struct Voter<'f> {
    at: &'f Span,
    node: bool,
    address: Option<&'f At<IpAddr>>,
    /// `None` where one of them was refused.
    paths: Option<&'f At<Vec<At<IpAddr>>>>,
}

fn voters(file: &File) -> Vec<Voter<'_>> {
    let nodes = file.nodes.iter().map(|n| Voter {
        at: &n.at,
        node: true,
        address: n.address.as_ref(),
        paths: n.paths.as_ref(),
    });
    let witnesses = file.witnesses.iter().map(|w| Voter {
        at: &w.at,
        node: false,
        address: w.address.as_ref(),
        paths: w.paths.as_ref(),
    });
    nodes.chain(witnesses).collect()
}

/// The path at a place talks to those at the same place.
fn paths(file: &File, found: &mut Vec<Diagnostic>) {
    let voters = voters(file);
    let given = |v: &&Voter<'_>| v.paths.is_some_and(|p| !p.value.is_empty());
    let Some(first) = voters.iter().find(given).and_then(|v| v.paths) else { return };
    for voter in &voters {
        let Some(own) = voter.paths else { continue };
        if own.value.is_empty() {
            // A witness is often where only one of the networks goes.
            if voter.node {
                let d = Diagnostic::warning(voter.at.clone(), "this node has no `paths`")
                    .label("is lost to the others with the network of its `address`")
                    .related(first.at.clone(), "another voter has some")
                    .help("write the addresses it has in the same networks");
                found.push(d);
            }
            continue;
        }
        if own.value.len() != first.value.len() {
            let d =
                Diagnostic::error(own.at.clone(), "voters differ in how many `paths` they have")
                    .label(format!("{} here", own.value.len()))
                    .related(first.at.clone(), format!("{} here", first.value.len()))
                    .help(
                        "write one address for each further network, in the same order for every \
                     voter: the first talks to the first, the second to the second",
                    );
            found.push(d);
            continue;
        }
        for (path, of) in own.value.iter().zip(&first.value) {
            if let Some(d) = families(path, of) {
                found.push(d);
            }
        }
    }
}

/// Two addresses that would talk to each other, and cannot.
fn families(a: &At<IpAddr>, b: &At<IpAddr>) -> Option<Diagnostic> {
    let (own, other) = (Family::of(a.value), Family::of(b.value));
    (own != other).then(|| {
        Diagnostic::error(a.at.clone(), "two voters cannot talk to each other")
            .label(format!("{own} here"))
            .related(b.at.clone(), format!("{other} here"))
            .help(
                "voters talk from `address` to `address`, and from each of `paths` to the one at \
                 the same place: write addresses of one family there",
            )
    })
}

/// `address` is the first path of all.
fn reachable(file: &File, found: &mut Vec<Diagnostic>) {
    let voters = voters(file);
    let mut first: Option<&At<IpAddr>> = None;
    for address in voters.iter().filter_map(|v| v.address) {
        if is_link_local(address.value) {
            let d = Diagnostic::error(address.at.clone(), "a voter has a link-local address")
                .label("needs an interface beside it");
            found.push(d.help("write its global or unique-local address"));
        }
        found.extend(families(address, first.unwrap_or(address)));
        first.get_or_insert(address);
    }
}

/// A witness that makes an odd number even: one more must agree, and no more may fail.
fn even(file: &File, found: &mut Vec<Diagnostic>) {
    let count = file.voters();
    if let Some(last) = file.witnesses.last().filter(|_| count > LEAST && count.is_multiple_of(2)) {
        let may_fail = (count - 1) / 2;
        let d = Diagnostic::warning(last.at.clone(), "this witness adds nothing")
            .label(format!("{count} voters can spare {may_fail}, as {} can", count - 1))
            .help("take it out, or add another voter: an odd number is best");
        found.push(d);
    }
}

/// What is for a lease, where no group is held by one.
fn idle(file: &File, found: &mut Vec<Diagnostic>) {
    let witness = file.witnesses.first().map(|w| (&w.at, "nobody asks this witness"));
    let term = file.cluster.as_ref().and_then(|c| c.lease.as_ref());
    let term = term.map(|t| (&t.at, "`lease` has no effect"));
    let paths = voters(file).into_iter().filter_map(|v| v.paths).find(|p| !p.value.is_empty());
    let paths = paths.map(|p| (&p.at, "`paths` have no effect"));
    for (at, message) in [witness, term, paths].into_iter().flatten() {
        let d = Diagnostic::warning(at.clone(), message)
            .label("no group is held by lease")
            .help("write `safety = \"lease\"` in a group, or take this out");
        found.push(d);
    }
}
