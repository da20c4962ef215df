//! Checks that make no difference, or the wrong one.

use std::net::{IpAddr, SocketAddr};

use super::super::diag::Diagnostic;
use super::super::form;
use super::super::read::{File, Group};
use super::super::read_check::Check;

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    for check in file.checks.iter().filter(|c| c.kinds.len() == 1) {
        about_the_holder(file, check, found);
        idle_proxy(file, check, found);
    }
    for group in &file.groups {
        scores(file, group, found);
    }
}

fn is_about(check: &Check, group: &Group) -> bool {
    let named = |name: &str| {
        check.groups.as_ref().is_none_or(|groups| groups.value.iter().any(|g| g.value == name))
    };
    group.name.as_ref().is_some_and(|name| named(&name.value))
}

fn disqualifies(check: &Check) -> bool {
    check.effect.as_ref().is_none_or(|e| e.value == "disqualify")
}

/// The address that the check goes to.
fn asked(check: &Check) -> Option<IpAddr> {
    let target = &check.target.as_ref()?.value;
    match check.kind()? {
        "tcp" | "postgresql" => form::socket(target).ok().map(|s| s.ip()),
        "http" => {
            let authority = target.split("://").nth(1)?.split(['/', '?']).next()?;
            let bare = authority.trim_matches(['[', ']']);
            let socket = || authority.parse::<SocketAddr>().ok().map(|s| s.ip());
            bare.parse().ok().or_else(socket)
        }
        "ping" | "neighbour" => target.parse().ok(),
        _ => None,
    }
}

/// A virtual address answers for its holder, whoever asks.
fn about_the_holder(file: &File, check: &Check, found: &mut Vec<Diagnostic>) {
    let (Some(ip), Some(target)) = (asked(check), &check.target) else { return };
    let virtual_address = file.groups.iter().flat_map(|g| &g.addresses).find(|a| a.ip == ip);
    if let Some(address) = virtual_address {
        let d = Diagnostic::warning(target.at.clone(), "the check sees the same from every node")
            .label("the holder answers, and no node is seen to be worse")
            .related(address.at.clone(), "a virtual address")
            .help("check the proxy of each node by itself: at 127.0.0.1");
        found.push(d);
    }
}

/// What runs only where the addresses are fails everywhere else, so that nobody could take over.
fn idle_proxy(file: &File, check: &Check, found: &mut Vec<Diagnostic>) {
    let (Some(kind), true) = (check.kinds.first(), disqualifies(check)) else { return };
    let about = file.groups.iter().filter(|g| is_about(check, g));
    let idle = about.filter_map(|g| g.proxy.as_ref()).find(|proxy| {
        let unit = || {
            let unit = proxy.unit.as_ref().map(|u| &u.value);
            unit.is_some() && unit == check.target.as_ref().map(|t| &t.value)
        };
        proxy.run.as_ref().is_some_and(|r| r.value == "active")
            && match kind.value {
                "unit" => unit(),
                "haproxy" => true,
                _ => asked(check).is_some_and(|ip| ip.is_loopback()),
            }
    });
    if let Some(run) = idle.and_then(|proxy| proxy.run.as_ref()) {
        let d = Diagnostic::warning(kind.at.clone(), "the check fails where the addresses are not")
            .label("no other node can be found fit to take over")
            .related(run.at.clone(), "the proxy runs only there")
            .help("write `run = \"always\"` for the proxy, or `effect = \"warn\"` for the check");
        found.push(d);
    }
}

/// Weights that, all together, are no more than what a holder may fall short by.
fn scores(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    let scores = |c: &&Check| c.effect.as_ref().is_some_and(|e| e.value == "score");
    let scoring: Vec<_> =
        file.checks.iter().filter(scores).filter(|c| is_about(c, group)).collect();
    let (Some(first), Some(stickiness)) = (scoring.first(), &group.stickiness) else { return };
    let weight = |c: &&Check| c.weight.as_ref().map_or(10, |w| u32::from(w.value));
    let total: u32 = scoring.iter().map(weight).sum();
    if total <= u32::from(stickiness.value) {
        let at = first.weight.as_ref().map_or_else(|| first.at.clone(), |w| w.at.clone());
        let name = group.name.as_ref().map_or("", |n| n.value.as_str());
        let d = Diagnostic::warning(at, format!("the scores of `{name}` never move it"))
            .label(format!("all weights together are {total}"))
            .related(stickiness.at.clone(), "a holder may fall short by that much")
            .help("weigh more than that");
        found.push(d);
    }
}
