//! A group by itself, and beside the others.

use std::time::Duration;

use super::super::diag::Diagnostic;
use super::super::read::{At, File, Group};
use super::super::walk::show;
use super::nodes::group_priorities;
use crate::types::{Centis, Family, Version};

/// Below this, a host must schedule vipd ahead of everything else.
const QUICK: Duration = Duration::from_millis(30);
/// Below this, the key is out of range.
const SHORTEST: Duration = Duration::from_millis(10);

pub(super) fn check(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    interval(group, found);
    version(group, found);
    group_priorities(file, group, found);
    transport(file, group, found);
    routers(file, group, found);
    schedule(group, found);
    if let (Some(delay), false) =
        (&group.preempt_delay, group.preempt.as_ref().is_some_and(|p| p.value))
        && delay.value > Duration::ZERO
    {
        let d = Diagnostic::warning(delay.at.clone(), "`preempt-delay` has no effect")
            .label("without `preempt = true` nothing is preempted")
            .help("add `preempt = true`, or take `preempt-delay` out");
        found.push(d);
    }
}

fn interval(group: &Group, found: &mut Vec<Diagnostic>) {
    let Some(At { at, value }) = group.interval.as_ref().filter(|i| i.value >= SHORTEST) else {
        return;
    };
    let v2 = group.version.as_ref().is_some_and(|v| v.value == Version::V2);
    let (unit, max) = if v2 { (1000, Centis::MAX_V2) } else { (10, Centis::MAX_V3) };
    let ms = value.as_millis();
    let round = (ms.div_ceil(unit) * unit).min(max.duration().as_millis());
    let instead = show(Duration::from_millis(u64::try_from(round).unwrap_or(u64::MAX)));
    if value.subsec_nanos() % 1_000_000 != 0 || ms % unit != 0 {
        let (message, label) = if v2 {
            ("version 2 counts its interval in whole seconds", "not a whole number of seconds")
        } else {
            ("the interval goes in steps of 10 ms", "not a multiple of 10 ms")
        };
        let d = Diagnostic::error(at.clone(), message).label(label);
        found.push(d.help(format!("write `interval = \"{instead}\"`")));
    } else if *value > max.duration() {
        let d = Diagnostic::error(at.clone(), "the interval is longer than an advert can say")
            .label(format!("at most {}", show(max.duration())))
            .help(format!("write `interval = \"{instead}\"`"));
        found.push(d);
    } else if *value < QUICK {
        let d = Diagnostic::warning(at.clone(), "a very short interval")
            .label(format!("a pause of {} of this host moves the addresses", show(3 * *value)))
            .help("write \"100ms\" unless every node runs vipd with real-time scheduling");
        found.push(d);
    }
}

fn version(group: &Group, found: &mut Vec<Diagnostic>) {
    let v2 = group.version.as_ref().filter(|v| v.value == Version::V2);
    if let (None, Some(file)) = (v2, &group.password_file) {
        let d = Diagnostic::error(file.at.clone(), "version 3 has no authentication")
            .label("only for version 2")
            .help("take `password-file` out, or write `version = 2`");
        found.push(d);
    }
    let Some(v2) = v2 else { return };
    if let Some(six) = group.addresses.iter().find(|a| a.ip.is_ipv6()) {
        let d = Diagnostic::error(v2.at.clone(), "version 2 has no IPv6")
            .label("IPv6 needs version 3")
            .related(six.at.clone(), "an IPv6 address")
            .help("write `version = 3`, or put the IPv6 addresses into a group of their own");
        found.push(d);
    }
    if let Some(checksum) = group.checksum.as_ref().filter(|c| c.value != "auto") {
        let d = Diagnostic::warning(checksum.at.clone(), "`checksum` has no effect")
            .label("version 2 has one form of checksum only")
            .help("take it out");
        found.push(d);
    }
}

fn unicast(group: &Group) -> bool {
    group.transport.as_ref().is_some_and(|t| t.value == "unicast")
}

fn transport(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    if let (Some(ttl), false) = (&group.min_ttl, unicast(group)) {
        let d = Diagnostic::error(ttl.at.clone(), "`min-ttl` is for unicast only")
            .label("multicast adverts never leave the link: always 255")
            .help("take it out, or write `transport = \"unicast\"`");
        found.push(d);
    }
    let has = |family| group.addresses.iter().any(|a| Family::of(a.ip) == family);
    for node in &file.nodes {
        let Some(address) = &node.address else { continue };
        if has(Family::V4) && address.value.is_ipv6() {
            let d = Diagnostic::error(address.at.clone(), "this node needs an IPv4 address")
                .label("IPv6, but a group has IPv4 addresses")
                .related(
                    group.at.clone(),
                    "adverts of this group come from the node's IPv4 address",
                )
                .help("write its IPv4 address here and this one as `address6`");
            found.push(d);
        }
        if unicast(group) && has(Family::V6) && address.value.is_ipv4() && node.address6.is_none() {
            let d = Diagnostic::error(node.at.clone(), "`address6` is missing")
                .label("a group with IPv6 addresses uses unicast")
                .related(group.at.clone(), "this group")
                .help("write `address6 = \"2001:db8:34::132\"` with the node's fixed IPv6 address");
            found.push(d);
        }
    }
}

fn routers(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    for (i, router) in group.routers.iter().enumerate() {
        let At { at, value } = &router.address;
        if let Some(first) = group.routers[..i].iter().find(|r| r.address.value == *value) {
            let d =
                Diagnostic::error(at.clone(), "one router twice").label(format!("{value} again"));
            found.push(d.related(first.address.at.clone(), "first here"));
        }
        let node =
            file.nodes.iter().find(|n| n.address.as_ref().is_some_and(|a| a.value == *value));
        if let Some(address) = node.and_then(|n| n.address.as_ref()) {
            let d = Diagnostic::error(at.clone(), "this router is a node")
                .label("nodes are peers already")
                .related(address.at.clone(), "the node")
                .help("take it out of `routers`");
            found.push(d);
        }
        let family = Family::of(*value);
        if !group.addresses.is_empty()
            && !group.addresses.iter().any(|a| Family::of(a.ip) == family)
        {
            let d = Diagnostic::error(at.clone(), format!("the group has no {family} addresses"))
                .label(format!("no {family} advert is sent or accepted"))
                .help("write the router's address of the family of the virtual addresses");
            found.push(d);
        }
        if let Some(At { at, value }) = &router.name
            && let Some(node) =
                file.nodes.iter().filter_map(|n| n.name.as_ref()).find(|n| n.value == *value)
        {
            let d = Diagnostic::error(at.clone(), "a router has the name of a node")
                .related(node.at.clone(), "the node")
                .help("give it another name");
            found.push(d);
        }
    }
}

fn schedule(group: &Group, found: &mut Vec<Diagnostic>) {
    let Some(schedule) = &group.schedule else { return };
    if let Some(first) = schedule.value.first().filter(|t| t.value > Duration::ZERO) {
        let d = Diagnostic::error(first.at.clone(), "the first announcement must be at once")
            .label("must be \"0ms\"")
            .help("write `\"0ms\"` first: until then clients send to the old host");
        found.push(d);
    }
    for pair in schedule.value.windows(2) {
        if let [a, b] = pair
            && b.value <= a.value
        {
            let d = Diagnostic::error(b.at.clone(), "the times of `schedule` must ascend")
                .label("not later than the one before")
                .related(a.at.clone(), "the one before")
                .help("times count from the moment the address came, not from each other");
            found.push(d);
        }
    }
}

/// Groups beside each other.
pub(super) fn between(groups: &[Group], found: &mut Vec<Diagnostic>) {
    for (i, group) in groups.iter().enumerate() {
        if let Some(name) = &group.name
            && let Some(first) =
                groups[..i].iter().filter_map(|g| g.name.as_ref()).find(|n| n.value == name.value)
        {
            let d = Diagnostic::error(name.at.clone(), "two groups have one name")
                .label(format!("`{}` again", name.value))
                .related(first.at.clone(), "first here");
            found.push(d.help("give each group its own name"));
        }
        if let Some(vrid) = &group.vrid
            && let Some((first, other)) = groups[..i]
                .iter()
                .find_map(|g| Some((g.vrid.as_ref().filter(|v| v.value == vrid.value)?, g)))
        {
            let name = |g: &Group| g.interface.as_ref().map(|i| i.value.clone());
            let d = match (name(group), name(other)) {
                (a, b) if a == b => {
                    Diagnostic::error(vrid.at.clone(), "two groups share a VRID on an interface")
                        .label(format!("{} again", vrid.value))
                }
                (Some(_), Some(_)) => continue,
                (named, other) => {
                    let named = named.or(other).unwrap_or_default();
                    Diagnostic::warning(
                        vrid.at.clone(),
                        "two groups may share a VRID on an interface",
                    )
                    .label(format!(
                        "{} again: a clash if {named} carries the nodes' addresses",
                        vrid.value
                    ))
                }
            };
            let free = (1..=255).find(|n| {
                let n = vrid.value.get().wrapping_add(*n);
                n != 0 && groups.iter().all(|g| g.vrid.as_ref().is_none_or(|v| v.value.get() != n))
            });
            let d = d.related(first.at.clone(), "first here");
            found.push(match free {
                Some(n) => d.help(format!(
                    "write `vrid = {}`, which no group has",
                    vrid.value.get().wrapping_add(n)
                )),
                None => d,
            });
        }
    }
}
