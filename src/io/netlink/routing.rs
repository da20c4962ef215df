//! The kernel's routes and policy rules, as far as they are ours: what there is, that something
//! about them has changed, and changes to them.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;

use super::parse::{Body, RTM_DELADDR, RTM_DELLINK, RTM_NEWLINK, attributes, buffers, string};
use super::requests::Requests;
use super::{DATAGRAM, PROTO, connect, receive};
use crate::config::{Net, RouteKind};
use crate::core::event::Failure;
use crate::core::routing::{Change, Entry, Route, Rule, Seen};
use crate::io::clock;
use crate::types::{Family, IfIndex, Instant};

/// `linux/rtnetlink.h`.
pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
/// The gateway is on the link.
const RTNH_F_ONLINK: u32 = 4;
/// `linux/fib_rules.h`.
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE | RTMGRP_IPV6_IFADDR |
/// RTMGRP_IPV6_ROUTE`, and the bit of `RTNLGRP_IPV6_RULE`: with a link or an address IPv4 routes go
/// without a word.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;
const RECEIVE_BUFFER: usize = 1 << 20;

/// Tells that something of ours may have changed.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// No netlink sockets allowed, or none left.
    pub fn open() -> io::Result<Self> {
        let socket = connect(GROUPS, RECEIVE_BUFFER)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Reads what has come in; whether it is a reason to look.
    pub fn drain(&mut self) -> Reason {
        let mut reason = Reason::None;
        loop {
            match receive(&self.socket, &mut self.buffer) {
                Ok(()) => reason = reason.max(concerns(&self.buffer)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return reason,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Something was lost, or cannot be read: only a look tells.
                Err(_) => return Reason::Lost,
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There is none.
    None,
    /// Something of ours has changed.
    Ours,
    /// A link or an address has changed, and the kernel takes routes along with it; or it is not
    /// known what has changed.
    Lost,
}

/// Whether a datagram tells of something of ours, or of what takes it along.
fn concerns(datagram: &[u8]) -> Reason {
    let all = buffers(datagram).map(|buffer| {
        let payload = buffer.payload();
        match buffer.message_type() {
            RTM_NEWLINK | RTM_DELLINK | RTM_DELADDR => Reason::Lost,
            RTM_NEWROUTE | RTM_DELROUTE if payload.get(5) == Some(&PROTO) => Reason::Ours,
            RTM_NEWRULE | RTM_DELRULE if marked(payload) => Reason::Ours,
            _ => Reason::None,
        }
    });
    all.max().unwrap_or(Reason::None)
}

/// Asks the kernel; each call waits for its network lock.
#[derive(Debug)]
pub struct Routing(Requests);

impl Routing {
    /// A socket of its own.
    ///
    /// # Errors
    /// No netlink sockets allowed, or none left.
    pub fn open() -> io::Result<Self> {
        let requests = Requests::open()?;
        // Before Linux 4.20 everything is told, and what is not ours passed over here.
        let _ = requests.socket.set_netlink_get_strict_chk(true);
        Ok(Self(requests))
    }

    /// All routes and rules with our mark.
    ///
    /// # Errors
    /// The kernel's, or no answer within `limit`.
    pub fn list(&mut self, limit: Duration) -> io::Result<Seen> {
        let deadline = clock::now() + limit;
        let mut seen = Seen::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut route = RouteMessage::default();
            route.header.address_family = family;
            route.header.protocol = RouteProtocol::Other(PROTO);
            self.dump(RouteNetlinkMessage::GetRoute(route), deadline, &mut seen)?;
            let mut rule = RuleMessage::default();
            rule.header.family = family;
            self.dump(RouteNetlinkMessage::GetRule(rule), deadline, &mut seen)?;
        }
        Ok(seen)
    }

    fn dump(
        &mut self,
        what: RouteNetlinkMessage,
        deadline: Instant,
        seen: &mut Seen,
    ) -> io::Result<()> {
        let mut keep = |body| {
            if let Body::Entry(entry) = body {
                seen.insert(entry);
            }
        };
        match self.0.dump(what, deadline, &mut keep)? {
            // A kernel without IPv6, or without policy rules, has none.
            0 | libc::EOPNOTSUPP | libc::EAFNOSUPPORT => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Makes `changes` in order; tells what became of each, waiting no longer than `limit`.
    ///
    /// What is gone already counts as done.
    pub fn apply(&mut self, changes: &[Change], limit: Duration) -> Vec<Result<(), Failure>> {
        let deadline = clock::now() + limit;
        let mut all = Vec::new();
        for batch in changes.chunks(super::BATCH) {
            let requests = batch.iter().map(|change| match change {
                Change::Add(entry) => (NLM_F_CREATE | NLM_F_EXCL, add(entry)),
                Change::Delete(entry) => (0, delete(entry)),
            });
            let results = self.0.ask(requests.collect(), deadline);
            let gone = |change: &Change, result: &Result<(), Failure>| {
                const GONE: [i32; 3] = [libc::ESRCH, libc::ENOENT, libc::ENODEV];
                matches!((change, result), (Change::Delete(_), Err(Failure::Errno(errno)))
                    if GONE.contains(errno))
            };
            let told = batch.iter().zip(results);
            all.extend(told.map(|(change, r)| if gone(change, &r) { Ok(()) } else { r }));
        }
        all
    }
}

fn add(entry: &Entry) -> RouteNetlinkMessage {
    match entry {
        Entry::Route(r) => RouteNetlinkMessage::NewRoute(route_message(r)),
        Entry::Rule(r) => RouteNetlinkMessage::NewRule(rule_message(r)),
    }
}

/// With our mark, so that it can be no other's.
fn delete(entry: &Entry) -> RouteNetlinkMessage {
    match entry {
        Entry::Route(r) => RouteNetlinkMessage::DelRoute(route_message(r)),
        Entry::Rule(r) => RouteNetlinkMessage::DelRule(rule_message(r)),
    }
}

fn family_of(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn route_message(route: &Route) -> RouteMessage {
    let Route { table, to, metric, kind, via, onlink, index: IfIndex(index), source } = *route;
    let mut message = RouteMessage::default();
    let link = kind.is_unicast() && via.is_none() && to.ip.is_ipv4();
    message.header = RouteHeader {
        address_family: family_of(to.family()),
        destination_prefix_length: to.prefix,
        protocol: RouteProtocol::Other(PROTO),
        scope: if link { RouteScope::Link } else { RouteScope::Universe },
        kind: match kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
        },
        flags: if onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    if to.prefix > 0 {
        attributes.push(RouteAttribute::Destination(to.ip.into()));
    }
    attributes.push(RouteAttribute::Table(table));
    if kind.is_unicast() {
        attributes.push(RouteAttribute::Oif(index));
    }
    attributes.push(RouteAttribute::Priority(metric));
    attributes.extend(via.map(|via| RouteAttribute::Gateway(via.into())));
    attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family_of(rule.family);
    message.header.action = RuleAction::ToTable;
    message.header.src_len = rule.from.map_or(0, |net| net.prefix);
    message.header.dst_len = rule.to.map_or(0, |net| net.prefix);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTO)));
    attributes.extend(rule.from.map(|net| RuleAttribute::Source(net.ip)));
    attributes.extend(rule.to.map(|net| RuleAttribute::Destination(net.ip)));
    attributes.extend(rule.interface.as_deref().map(|i| RuleAttribute::Iifname(i.to_owned())));
    attributes.extend(rule.fwmark.map(RuleAttribute::FwMark));
    message
}

/// The first bytes of both kinds of message: family, length of the destination's prefix, of the
/// source's, a byte of no interest, the table.
struct Header {
    family: Family,
    to: u8,
    from: u8,
    table: u8,
}

fn header(payload: &[u8]) -> Option<(Header, &[u8])> {
    let [family, to, from, _, table, ..] = *payload.first_chunk::<12>()?;
    let family = match i32::from(family) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    Some((Header { family, to, from, table }, payload.get(12..)?))
}

/// A route with our mark and one next hop at most.
pub(super) fn route(payload: &[u8]) -> Option<Entry> {
    let (head, rest) = header(payload)?;
    let [_, _, _, _, _, protocol, _, kind, flags @ ..] = *payload.first_chunk::<12>()?;
    if protocol != PROTO {
        return None;
    }
    let kind = match kind {
        libc::RTN_UNICAST => RouteKind::Unicast,
        libc::RTN_BLACKHOLE => RouteKind::Blackhole,
        libc::RTN_UNREACHABLE => RouteKind::Unreachable,
        libc::RTN_PROHIBIT => RouteKind::Prohibit,
        _ => return None,
    };
    let onlink = u32::from_ne_bytes(flags) & RTNH_F_ONLINK != 0;
    let mut to = Net::all(head.family).ip;
    let (mut table, mut metric, mut index) = (u32::from(head.table), 0, None);
    let (mut via, mut source) = (None, None);
    for attribute in attributes(rest) {
        let value = attribute.value();
        match attribute.kind() {
            RTA_DST => to = ip(value)?,
            RTA_OIF => index = Some(IfIndex(number(value)?)),
            RTA_GATEWAY => via = Some(ip(value)?),
            RTA_PRIORITY => metric = number(value)?,
            RTA_PREFSRC => source = Some(ip(value)?),
            RTA_TABLE => table = number(value)?,
            RTA_MULTIPATH => return None,
            _ => {}
        }
    }
    let to = Net { ip: to, prefix: head.to };
    // The kernel has those of IPv6 lead to the loopback interface.
    let index = if kind.is_unicast() { index? } else { IfIndex(0) };
    Some(Entry::Route(Route { table, to, metric, kind, via, onlink, index, source }))
}

/// A rule with our mark.
pub(super) fn rule(payload: &[u8]) -> Option<Entry> {
    let (head, rest) = header(payload)?;
    if !marked(payload) {
        return None;
    }
    let (mut from, mut to, mut interface, mut fwmark) = (None, None, None, None);
    let (mut table, mut priority) = (u32::from(head.table), 0);
    for attribute in attributes(rest) {
        let value = attribute.value();
        match attribute.kind() {
            FRA_DST => to = Some(Net { ip: ip(value)?, prefix: head.to }),
            FRA_SRC => from = Some(Net { ip: ip(value)?, prefix: head.from }),
            FRA_IIFNAME => interface = string(value),
            FRA_PRIORITY => priority = number(value)?,
            FRA_FWMARK => fwmark = Some(number(value)?).filter(|mark| *mark != 0),
            FRA_TABLE => table = number(value)?,
            _ => {}
        }
    }
    Some(Entry::Rule(Rule { family: head.family, priority, from, to, interface, fwmark, table }))
}

/// Whether a rule has our mark.
fn marked(payload: &[u8]) -> bool {
    let mut all = attributes(payload.get(12..).unwrap_or_default());
    all.any(|a| a.kind() == FRA_PROTOCOL && a.value() == [PROTO])
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(value).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use proptest::prelude::*;

    use super::super::parse::messages;
    use super::*;

    fn net(text: &str) -> Net {
        let (ip, prefix) = text.split_once('/').unwrap();
        Net { ip: ip.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    fn all() -> Vec<Entry> {
        let ip = |text: &str| Some(text.parse().unwrap());
        let route = |to, via, source, table, metric| {
            let (kind, onlink, index) = (RouteKind::Unicast, table == 100, IfIndex(7));
            Entry::Route(Route { table, to: net(to), metric, kind, via, onlink, index, source })
        };
        let refusing = |to, kind, metric| {
            let (to, index, onlink) = (net(to), IfIndex(0), false);
            Entry::Route(Route {
                table: 100,
                to,
                metric,
                kind,
                via: None,
                onlink,
                index,
                source: None,
            })
        };
        let rule = |family, from: Option<&str>, to: Option<&str>, interface, fwmark| {
            let (from, to) = (from.map(net), to.map(net));
            Entry::Rule(Rule {
                family,
                priority: 1000,
                from,
                to,
                interface,
                fwmark,
                table: 100_000,
            })
        };
        vec![
            route("0.0.0.0/0", ip("10.0.0.1"), ip("10.0.0.85"), 100_000, 0),
            route("10.1.0.0/16", None, None, 254, 5),
            route("::/0", ip("fe80::1"), ip("fd00::85"), 100, 1024),
            refusing("10.0.0.0/8", RouteKind::Blackhole, 0),
            refusing("10.0.0.0/8", RouteKind::Prohibit, 5),
            refusing("::/0", RouteKind::Unreachable, 1024),
            rule(Family::V4, Some("10.0.0.85/32"), None, None, None),
            rule(Family::V6, Some("fd00::85/128"), Some("fd01::/16"), None, None),
            rule(Family::V4, None, None, Some("eth1".into()), Some(5)),
        ]
    }

    fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
        let header = NetlinkHeader::default();
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut out = vec![0; message.buffer_len()];
        message.serialize(&mut out);
        out
    }

    #[test]
    fn what_is_asked_for_is_what_is_read() {
        for entry in all() {
            let bytes = bytes(add(&entry));
            assert_eq!(concerns(&bytes), Reason::Ours, "{entry}");
            let read: Vec<_> = messages(&bytes).map(|m| m.body).collect();
            assert!(matches!(&read[..], [Body::Entry(read)] if *read == entry), "{read:?}");
        }
    }

    #[test]
    fn what_others_have_is_none_of_ours() {
        for entry in all() {
            let mut message = add(&entry);
            if let RouteNetlinkMessage::NewRoute(route) = &mut message {
                route.header.protocol = RouteProtocol::Static;
            } else if let RouteNetlinkMessage::NewRule(rule) = &mut message {
                rule.attributes.retain(|a| !matches!(a, RuleAttribute::Protocol(_)));
            }
            let bytes = bytes(message);
            assert_eq!(concerns(&bytes), Reason::None, "{entry}");
            assert!(messages(&bytes).all(|m| matches!(m.body, Body::Other)), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_survived(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            tail in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            drop((route(&payload), rule(&payload), concerns(&payload)));
            for mut head in [vec![2, 24, 0, 0, 254, PROTO, 0, 1, 0, 0, 0, 0], vec![10; 12]] {
                head.extend(&tail);
                drop((route(&head), rule(&head)));
            }
        }
    }
}
