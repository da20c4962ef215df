//! Routes and policy rules that come and go with the addresses.

use std::net::IpAddr;

use super::super::diag::{Diagnostic, Span};
use super::super::form::is_link_local;
use super::super::read::{At, Group};
use super::super::routing::{Net, ReadRoute, ReadRule};
use crate::types::Family;

/// The kernel's table of its own addresses (`RT_TABLE_LOCAL`).
const LOCAL: u32 = 255;

pub(super) fn check(group: &Group, found: &mut Vec<Diagnostic>) {
    for r in &group.routes {
        route(group, r, found);
        local(r.table.as_ref(), found);
    }
    for r in &group.rules {
        rule(group, r, found);
        local(r.table.as_ref(), found);
    }
}

/// What the kernel keeps for its own addresses.
fn local(table: Option<&At<u32>>, found: &mut Vec<Diagnostic>) {
    if let Some(table) = table.filter(|table| table.value == LOCAL) {
        let d = Diagnostic::error(table.at.clone(), "table 255 is the kernel's own")
            .label("`local`, where the host's own addresses are")
            .help("write another number, such as `table = 100`");
        found.push(d);
    }
}

fn route(group: &Group, route: &ReadRoute, found: &mut Vec<Diagnostic>) {
    let mut families = route.families();
    let first = families.next();
    match (first, &route.to) {
        (None, Some(to)) => {
            let d = Diagnostic::error(to.at.clone(), "a default route of which family?")
                .label("nothing else says it")
                .help(if route.kind().is_unicast() {
                    "write `to = \"0.0.0.0/0\"` or `to = \"::/0\"`, or a `via`"
                } else {
                    "write `to = \"0.0.0.0/0\"` or `to = \"::/0\"`"
                });
            found.push(d);
        }
        (Some((family, at)), _) => {
            if let Some((other, place)) = families.find(|(other, _)| *other != family) {
                let d = Diagnostic::error(place.clone(), "a route is of one family")
                    .label(format!("this is {other}"))
                    .related(at.clone(), format!("this is {family}"))
                    .help("write a route for each family");
                found.push(d);
            }
        }
        (None, None) => {}
    }
    way(route, found);
    let ours = |ip: IpAddr| group.addresses.iter().any(|a| a.ip == ip);
    if let Some(source) = route.source.as_ref().filter(|s| !ours(s.value)) {
        let of = Family::of(source.value);
        let one = group.addresses.iter().find(|a| Family::of(a.ip) == of);
        let d = Diagnostic::error(source.at.clone(), "`source` is no address of this group")
            .label("would not be here when the route is");
        found.push(match one {
            Some(one) => d.help(format!("write `source = \"{}\"`", one.ip)),
            None => d.help(format!("the group has no {of} address: take it out")),
        });
    }
    if let Some(via) = route.via.as_ref().filter(|via| ours(via.value)) {
        let d = Diagnostic::error(via.at.clone(), "`via` is an address of this group")
            .label("a host is not its own gateway")
            .help("write the address of the router");
        found.push(d);
    }
    if let (Some(via), Some(to)) = (&route.via, route.destination())
        && to.is_one()
        && to.ip == via.value
    {
        let d = Diagnostic::error(via.at.clone(), "the gateway is the destination itself")
            .label("cannot be reached through itself")
            .help("take `via` out: it is on the link");
        found.push(d);
    }
    if let Some(to) = route.to.as_ref().filter(|to| to.value.is_some_and(|n| is_link_local(n.ip))) {
        let d = Diagnostic::error(to.at.clone(), "link-local addresses are not routed")
            .label("fe80::/10 is on every link already");
        found.push(d.help("take this route out"));
    }
}

/// Where it leads out, which only a unicast route does.
fn way(route: &ReadRoute, found: &mut Vec<Diagnostic>) {
    let onlink = route.onlink.as_ref().filter(|onlink| onlink.value);
    let Some(kind) = route.kind.as_ref().filter(|kind| !kind.value.is_unicast()) else {
        if let Some(onlink) = onlink.filter(|_| route.via.is_none()) {
            let d = Diagnostic::error(onlink.at.clone(), "`onlink` without a gateway")
                .label("says of `via` that it is on the link")
                .help("add `via`, or take `onlink` out: without a gateway all is on the link");
            found.push(d);
        }
        return;
    };
    let said = [
        ("via", route.via.as_ref().map(|via| &via.at)),
        ("onlink", onlink.map(|onlink| &onlink.at)),
        ("interface", route.interface.as_ref().map(|interface| &interface.at)),
        ("source", route.source.as_ref().map(|source| &source.at)),
    ];
    for (key, at) in said.into_iter().filter_map(|(key, at)| Some((key, at?))) {
        let name = kind.value.name();
        let d = Diagnostic::error(at.clone(), format!("`{key}` of a route that leads nowhere"))
            .label(format!("of type \"{name}\" it has none"))
            .related(kind.at.clone(), "its type")
            .help(format!("take `{key}` out, or `type`"));
        found.push(d);
    }
}

fn rule(group: &Group, rule: &ReadRule, found: &mut Vec<Diagnostic>) {
    let everything = |net: &&At<Net>| net.value.prefix == 0;
    if let Some(net) = rule.from.iter().chain(&rule.to).find(everything) {
        let d = Diagnostic::error(net.at.clone(), "a rule for every packet")
            .label("is everything there is")
            .help(
                "take it out, and name what the rule is for: `from`, `to`, `interface`, `fwmark`",
            );
        found.push(d);
    }
    if rule.from.is_none() && rule.to.is_none() && rule.interface.is_none() && rule.fwmark.is_none()
    {
        let d = Diagnostic::error(rule.at.clone(), "a rule for every packet")
            .label("names none of `from`, `to`, `interface`, `fwmark`");
        let vip = group.addresses.iter().find(|a| !is_link_local(a.ip));
        found.push(match vip {
            Some(vip) => d.help(format!("write `from = \"{}\"`", vip.ip)),
            None => d,
        });
    }
    let named = rule.from.as_ref().or(rule.to.as_ref());
    if let (Some(from), Some(to)) = (&rule.from, &rule.to)
        && from.value.family() != to.value.family()
    {
        let d = Diagnostic::error(to.at.clone(), "a rule is of one family")
            .label(format!("this is {}", to.value.family()))
            .related(from.at.clone(), format!("this is {}", from.value.family()))
            .help("write a rule for each family");
        found.push(d);
    } else if let Some(named) = named
        && let family = named.value.family()
        && !group.addresses.iter().any(|a| Family::of(a.ip) == family)
    {
        let d = Diagnostic::error(named.at.clone(), format!("this group has no {family} address"))
            .label("a rule comes and goes with the addresses of its family");
        found.push(d.help("take the rule out, or put it into the group that it belongs to"));
    }
}

/// What the kernel takes for the same.
type Same = (Option<Net>, Option<Net>, Option<String>, u32, u32, u32);

/// The same route or rule twice, in one group or two.
pub(super) fn between(groups: &[Group], found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<(Same, Span)> = Vec::new();
    let mut look = |same: Same, at: &Span, what: &str| {
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == same) {
            let d = Diagnostic::error(at.clone(), format!("a {what} is there twice"))
                .label("the kernel has it once, and it would go with the first group that moves")
                .related(first.clone(), "first here")
                .help("take one of them out");
            found.push(d);
        } else {
            seen.push((same, at.clone()));
        }
    };
    for group in groups {
        for r in &group.routes {
            if let Some(to) = r.destination() {
                let same = (None, Some(to), None, r.table(), r.metric(), 0);
                look(same, &r.at, "route of this destination, table and metric");
            }
        }
        for r in &group.rules {
            let net = |net: &Option<At<Net>>| net.as_ref().map(|n| n.value);
            let Some(priority) = &r.priority else { continue };
            let mark = r.fwmark.as_ref().map_or(0, |m| m.value);
            let interface = r.interface.as_ref().map(|i| i.value.clone()).unwrap_or_default();
            let same = (net(&r.from), net(&r.to), Some(interface), 0, priority.value, mark);
            look(same, &r.at, "rule of this priority for the same packets");
        }
    }
}
