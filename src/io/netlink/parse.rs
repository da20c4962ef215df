//! What the kernel's messages say. Total: what is not understood is passed over.
//!
//! Attributes are read one by one, and only those needed: one that a newer kernel has changed
//! costs at most itself, where `netlink_packet_route::LinkMessage` would refuse the message.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeader};
use netlink_packet_route::link::{LinkFlags, LinkHeader};

use super::PROTO;
use super::routing::{self, RTM_NEWROUTE, RTM_NEWRULE};
use crate::core::event::{Event, KernelAddress, Link};
use crate::core::routing::Entry;
use crate::types::{IfIndex, Mac};

/// Private or of another type in the crates; `linux/netlink.h`, `linux/rtnetlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;

/// `linux/if_link.h`.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
/// `linux/if.h`: what a driver that does not tell has, and what works.
const OPERATIONAL: [u8; 2] = [0, 6];

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    /// Of the request it answers; 0 if it was not asked for.
    pub(super) sequence: u32,
    /// The socket that request came from, also where this only tells of what it did.
    pub(super) port: u32,
    /// `NLM_F_*`.
    pub(super) flags: u16,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// A link or address as it is now, or that is gone.
    Event(Event<'static>),
    /// A route or rule of ours.
    Entry(Entry),
    /// The end of a dump.
    Done,
    /// Answer to a request: zero, or an errno.
    Answer(i32),
    /// Messages were lost.
    Overrun,
    /// Anything else.
    Other,
}

/// The messages in a datagram; stops at the first whose length cannot be.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    buffers(datagram).map(|buffer| Message {
        sequence: buffer.sequence_number(),
        port: buffer.port_number(),
        flags: buffer.flags(),
        body: body(buffer.message_type(), buffer.payload()),
    })
}

/// The same, not read any further.
pub(super) fn buffers(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(buffer)
    })
}

fn body(kind: u16, payload: &[u8]) -> Body {
    let event = match kind {
        NLMSG_DONE => return Body::Done,
        NLMSG_OVERRUN => return Body::Overrun,
        NLMSG_ERROR => return payload.first_chunk().map_or(Body::Other, |c| answer(*c)),
        RTM_NEWROUTE => return routing::route(payload).map_or(Body::Other, Body::Entry),
        RTM_NEWRULE => return routing::rule(payload).map_or(Body::Other, Body::Entry),
        RTM_NEWLINK => link(payload).map(Event::Link),
        RTM_DELLINK => link(payload).map(|link| Event::LinkGone(link.index)),
        RTM_NEWADDR => address(payload).map(|(address, usable)| {
            // An address whose check for duplicates has failed is there, but of no use.
            if usable { Event::Address(address) } else { Event::AddressGone(address) }
        }),
        RTM_DELADDR => address(payload).map(|(address, _)| Event::AddressGone(address)),
        _ => None,
    };
    event.map_or(Body::Other, Body::Event)
}

fn answer(code: [u8; 4]) -> Body {
    Body::Answer(i32::from_ne_bytes(code).saturating_neg())
}

/// `None` for what is not about the interface itself: bridges tell of their ports, wireless
/// drivers of their stations in the same kind of message.
fn link(payload: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mtu, mut mac, mut operational) = (None, None, Mac::default(), true);
    for attribute in attributes(payload.get(16..)?) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => name = string(value),
            IFLA_MTU => mtu = value.first_chunk().map(|b| u32::from_ne_bytes(*b)),
            IFLA_ADDRESS => mac = value.try_into().map_or(Mac::default(), Mac),
            IFLA_OPERSTATE => operational = OPERATIONAL.iter().any(|state| value == [*state]),
            _ => {}
        }
    }
    Some(Link {
        index: IfIndex(header.index),
        name: name?,
        mac,
        up: operational && header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: mtu?,
    })
}

/// An address, and whether it can be used.
fn address(payload: &[u8]) -> Option<(KernelAddress, bool)> {
    let header = AddressHeader::parse(payload).ok()?;
    let (mut local, mut peer, mut ours) = (None, None, false);
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    for attribute in attributes(payload.get(8..)?) {
        match AddressAttribute::parse(&attribute) {
            // On a point-to-point link the other one is the peer's.
            Ok(AddressAttribute::Local(ip)) => local = Some(ip),
            Ok(AddressAttribute::Address(ip)) => peer = Some(ip),
            Ok(AddressAttribute::Flags(all)) => flags = all,
            Ok(AddressAttribute::Protocol(mark)) => ours = u8::from(mark) == PROTO,
            Ok(_) | Err(_) => {}
        }
    }
    let ip: IpAddr = local.or(peer)?;
    let tentative =
        flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    let usable = !tentative && !flags.contains(AddressFlags::Dadfailed);
    let index = IfIndex(header.index);
    Some((KernelAddress { index, ip, prefix: header.prefix_len, ours }, usable))
}

pub(super) fn attributes(payload: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload).map_while(Result::ok)
}

pub(super) fn string(value: &[u8]) -> Option<Box<str>> {
    let text = value.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(text).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of `kind` with a header of 16 or 8 bytes and attributes.
    fn message(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut payload = header.to_vec();
        for (kind, value) in attributes {
            let length = u16::try_from(value.len() + 4).unwrap();
            payload.extend(length.to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(*value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let mut message = u32::try_from(payload.len() + 16).unwrap().to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(payload);
        message
    }

    fn link_header(family: u8, flags: u32) -> Vec<u8> {
        let mut header = vec![family, 0, 1, 0];
        header.extend(7u32.to_ne_bytes());
        header.extend(flags.to_ne_bytes());
        header.extend([0; 4]);
        header
    }

    const UP: u32 = 0x1;
    const LOWER_UP: u32 = 0x1_0000;
    const NAMED: [(u16, &[u8]); 3] =
        [(IFLA_IFNAME, b"eth0\0"), (IFLA_MTU, &1500u32.to_ne_bytes()), (IFLA_ADDRESS, &[2; 6])];

    fn only(datagram: &[u8]) -> Option<Event<'static>> {
        let mut all = messages(datagram);
        let first = all.next().unwrap();
        assert!(all.next().is_none());
        let Body::Event(event) = first.body else { return None };
        Some(event)
    }

    #[test]
    fn a_link_is_up_with_carrier_and_an_operational_state() {
        let cases = [
            (UP | LOWER_UP, 6, true),
            (UP | LOWER_UP, 0, true),
            (UP | LOWER_UP, 5, false),
            (UP, 6, false),
            (LOWER_UP, 6, false),
        ];
        for (flags, state, expected) in cases {
            let mut attributes = NAMED.to_vec();
            let state = [state];
            attributes.push((IFLA_OPERSTATE, &state));
            let Some(Event::Link(link)) =
                only(&message(RTM_NEWLINK, &link_header(0, flags), &attributes))
            else {
                panic!("no link");
            };
            assert_eq!(link.up, expected, "flags {flags:#x} state {state:?}");
            assert_eq!((&*link.name, link.mtu, link.mac), ("eth0", 1500, Mac([2; 6])));
        }
    }

    #[test]
    fn a_port_of_a_bridge_that_leaves_it_is_not_gone() {
        let bridge = 7;
        assert!(only(&message(RTM_DELLINK, &link_header(bridge, UP), &NAMED)).is_none());
        assert!(matches!(
            only(&message(RTM_DELLINK, &link_header(0, UP), &NAMED)),
            Some(Event::LinkGone(IfIndex(7)))
        ));
    }

    #[test]
    fn a_partial_message_of_a_wireless_driver_is_passed_over() {
        assert!(only(&message(RTM_NEWLINK, &link_header(0, UP), &NAMED[..1])).is_none());
    }

    fn usable(family: u8, flags: u32, attributes: &[(u16, &[u8])]) -> Option<KernelAddress> {
        let mut header = vec![family, 24, 0, 0];
        header.extend(7u32.to_ne_bytes());
        let flags = flags.to_ne_bytes();
        let mut attributes = attributes.to_vec();
        attributes.push((8, &flags));
        let event = only(&message(RTM_NEWADDR, &header, &attributes)).unwrap();
        if let Event::Address(address) = event {
            return Some(address);
        }
        assert!(matches!(event, Event::AddressGone(_)));
        None
    }

    #[test]
    fn of_a_point_to_point_link_ours_is_the_local_address() {
        let attributes: [(u16, &[u8]); 3] =
            [(1, &[10, 0, 0, 2]), (2, &[10, 0, 0, 1]), (11, &[PROTO])];
        let found = usable(2, 0, &attributes).unwrap();
        assert_eq!(found.ip, IpAddr::from([10, 0, 0, 1]));
        assert_eq!((found.index, found.prefix, found.ours), (IfIndex(7), 24, true));
        assert!(!usable(2, 0, &attributes[..2]).unwrap().ours);
    }

    #[test]
    fn an_address_counts_once_it_can_be_used() {
        let attributes: [(u16, &[u8]); 1] = [(1, &[0xfe; 16])];
        let usable = |flags| usable(10, flags, &attributes).is_some();
        assert!(usable(0x80));
        assert!(!usable(0x40), "tentative");
        assert!(usable(0x44), "optimistic");
        assert!(!usable(0x08), "a duplicate");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            messages(&bytes).for_each(drop);
        }

        #[test]
        fn any_payload_is_survived(
            kind in prop::sample::select(vec![2u16, 3, 16, 17, 20, 21]),
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            prop_assert_eq!(messages(&message(kind, &payload, &[])).count(), 1);
        }

        #[test]
        fn any_attributes_are_survived(
            kind in prop::sample::select(vec![16u16, 20]),
            header in prop::collection::vec(any::<u8>(), 16),
            attributes in prop::collection::vec(
                (0u16..20, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
        ) {
            let attributes: Vec<_> = attributes.iter().map(|(k, v)| (*k, &v[..])).collect();
            prop_assert_eq!(messages(&message(kind, &header, &attributes)).count(), 1);
        }
    }
}
