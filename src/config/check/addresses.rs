//! Virtual addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::diag::{Diagnostic, Span};
use super::super::form::is_link_local;
use super::super::read::{Address, File, Group};
use super::super::routing::Net;

pub(super) fn check(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    for address in &group.addresses {
        fixed(file, group, address, found);
        options(group, address, found);
    }
    advertised(group, found);
    link_local(group, found);
    secondary(file, group, found);
}

/// A virtual address that is somebody's own.
fn fixed(file: &File, group: &Group, address: &Address, found: &mut Vec<Diagnostic>) {
    let sixes = file.nodes.iter().filter_map(|n| n.address6.as_ref());
    let sixes = sixes.map(|a| (IpAddr::V6(a.value), &a.at));
    let nodes = file.nodes.iter().filter_map(|n| n.address.as_ref());
    let witnesses = file.witnesses.iter().filter_map(|w| w.address.as_ref());
    let routers = group.routers.iter().map(|r| &r.address);
    let own = nodes.chain(routers).chain(witnesses).chain(file.paths());
    let mut own = own.map(|a| (a.value, &a.at)).chain(sixes);
    if let Some((_, at)) = own.find(|(ip, _)| *ip == address.ip) {
        let d = Diagnostic::error(address.at.clone(), "a virtual address is some host's own")
            .label("would be taken away from that host")
            .related(at.clone(), "its own address")
            .help("write an address that no host has of its own");
        found.push(d);
    }
}

fn options(group: &Group, address: &Address, found: &mut Vec<Diagnostic>) {
    if let Some(label) = &address.label {
        let device = address.interface.as_ref().or(group.interface.as_ref());
        if address.ip.is_ipv6() {
            let d = Diagnostic::error(label.at.clone(), "IPv6 addresses have no label");
            found.push(d.label("IPv4 only").help("take it out"));
        } else if let Some(device) = device.filter(|d| {
            let rest = label.value.strip_prefix(&d.value);
            !rest.is_some_and(|r| r.is_empty() || r.starts_with(':'))
        }) {
            let d = Diagnostic::warning(label.at.clone(), "the label is not of its interface")
                .label(format!("`ifconfig` and others look for `{}:`", device.value))
                .help(format!("write `label = \"{}:vip\"`", device.value));
            found.push(d);
        }
    }
    if let Some(preferred) = address.preferred.as_ref().filter(|_| address.ip.is_ipv4()) {
        let d = Diagnostic::error(preferred.at.clone(), "`preferred` is for IPv6 only")
            .label(format!("{} is IPv4", address.ip));
        found.push(d.help("take it out"));
    }
}

/// An advert carries at least one address (RFC 9568 §5.2.5).
fn advertised(group: &Group, found: &mut Vec<Diagnostic>) {
    let v4: Vec<_> = group.addresses.iter().filter(|a| a.ip.is_ipv4()).collect();
    let quiet = |a: &&Address| a.advertise.as_ref().is_some_and(|a| !a.value);
    if let (Some(first), true) = (v4.first(), v4.iter().all(quiet)) {
        let d = Diagnostic::error(first.at.clone(), "no IPv4 address of the group is advertised")
            .label("an advert carries at least one")
            .help("leave `advertise = false` away for one of them");
        found.push(d);
    }
}

fn link_local(group: &Group, found: &mut Vec<Diagnostic>) {
    let listed: Vec<_> = group.addresses.iter().filter(|a| is_link_local(a.ip)).collect();
    if let Some(given) = &group.link_local {
        if !group.addresses.is_empty() && group.addresses.iter().all(|a| a.ip.is_ipv4()) {
            let d = Diagnostic::error(given.at.clone(), "`link-local` without IPv6 addresses")
                .label("of no use")
                .help("take it out, or add IPv6 addresses");
            found.push(d);
        }
        if let Some(first) = listed.first() {
            let d = Diagnostic::error(given.at.clone(), "the link-local address is given twice")
                .related(first.at.clone(), "here too")
                .help("take one of them out");
            found.push(d);
        }
    }
    for address in &listed {
        if let Some(quiet) = address.advertise.as_ref().filter(|a| !a.value) {
            let d =
                Diagnostic::error(quiet.at.clone(), "the link-local address must be advertised")
                    .label("it is the first of every IPv6 advert (RFC 9568)")
                    .help("take `advertise` out");
            found.push(d);
        }
    }
}

/// In a subnet where the host has no other address, the kernel deletes all with the first.
fn secondary(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    let mut first_of: BTreeMap<(Option<&str>, Net), Span> = BTreeMap::new();
    for a in group.addresses.iter().filter(|a| a.ip.is_ipv4() && a.prefix < 32) {
        let net = Net::of(a.ip, a.prefix);
        let own = |ip: IpAddr| Net::of(ip, a.prefix) == net;
        if file.nodes.iter().filter_map(|n| n.address.as_ref()).any(|n| own(n.value)) {
            continue;
        }
        let key = (a.interface.as_ref().map(|i| i.value.as_str()), net);
        let Some(first) = first_of.get(&key) else {
            first_of.insert(key, a.at.clone());
            continue;
        };
        let d = Diagnostic::warning(a.at.clone(), "two virtual addresses in a subnet of their own")
            .label("the kernel makes it secondary to the first")
            .related(first.clone(), "and deletes it whenever this one goes")
            .help(format!("write `\"{}/32\"`", a.ip));
        found.push(d);
    }
}

/// The same address twice, in one group or two.
pub(super) fn between(groups: &[Group], found: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<(IpAddr, Option<&str>), (usize, Span)> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (i, group) in groups.iter().enumerate() {
        for address in &group.addresses {
            let device = address.interface.as_ref().or(group.interface.as_ref());
            let device = device.map(|d| d.value.as_str()).filter(|_| is_link_local(address.ip));
            let Some((first, at)) = seen.get(&(address.ip, device)) else {
                seen.insert((address.ip, device), (i, address.at.clone()));
                continue;
            };
            let (message, help) = if *first == i {
                ("an address is listed twice", "take one of them out")
            } else {
                (
                    "two groups have one virtual address",
                    "leave it in one group: two elections would give it to two hosts",
                )
            };
            if told.insert(address.at.start) {
                let d = Diagnostic::error(address.at.clone(), message)
                    .label(format!("{} again", address.ip))
                    .related(at.clone(), "first here")
                    .help(help);
                found.push(d);
            }
        }
    }
}
