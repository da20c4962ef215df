//! What is on the wire, and what comes in from it. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a panic is how a test fails, also in its helpers"
)]

mod namespace;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use namespace::{Far, enter, index, ip, wait_readable};
use vipd::core::event::{AddressSpec, PortSpec};
use vipd::io::clock;
use vipd::io::netlink::{Change, Requests};
use vipd::io::packet::Announcer;
use vipd::io::port::{Buffers, Filters, Port, Received, Source};
use vipd::types::IfIndex;
use vipd::wire::vrrp::Meta;

const LIMIT: Duration = Duration::from_secs(20);
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// Takes every frame.
const ALL: (u16, u8, u8, u32) = (0x06, 0, 0, u32::MAX);
const ARP_REPLY: [u8; 42] = arp(2);
const ARP_REQUEST: [u8; 42] = arp(1);

const fn arp(operation: u8) -> [u8; 42] {
    let mut frame = [0; 42];
    (frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]) =
        (0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    (frame[6], frame[11]) = (2, 1);
    (frame[12], frame[13], frame[15], frame[16], frame[18], frame[19], frame[21]) =
        (8, 6, 1, 8, 6, 4, operation);
    frame
}

/// A frame, or an advert with what was told about it, as received.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Advert(Meta, Vec<u8>),
    Frame(Source, Vec<u8>),
}

fn spec(index: IfIndex, name: &str, v4: Option<&str>, v6: Option<&str>) -> PortSpec {
    let v4 = v4.map(|ip| ip.parse().unwrap());
    let v6 = v6.map(|ip| ip.parse().unwrap());
    PortSpec { index, name: name.into(), v4, v6, watch: Vec::new() }
}

/// What `port` hears until it has heard `count` or has been silent for a second.
fn hear(port: &mut Port, source: Source, count: usize) -> Vec<Got> {
    let mut all = Vec::new();
    let mut buffers = Buffers::default();
    let index = port.index();
    while all.len() < count {
        let fd = port.fds().find(|(of, _)| *of == source).unwrap().1;
        if !wait_readable(&fd, 1000) {
            break;
        }
        let mut sink = |received: Received<'_>| {
            let (ifindex, got) = match received {
                Received::Advert { ifindex, meta, bytes } => {
                    (ifindex, Got::Advert(meta, bytes.to_vec()))
                }
                Received::Arp { ifindex, frame } => {
                    (ifindex, Got::Frame(Source::Arp, frame.to_vec()))
                }
                Received::Nd { ifindex, frame } => {
                    (ifindex, Got::Frame(Source::Nd, frame.to_vec()))
                }
            };
            assert_eq!(ifindex, index);
            all.push(got);
        };
        port.receive(source, &mut buffers, 100, &mut sink).unwrap();
    }
    all
}

/// Waits until a link-local address has passed its check, and returns it.
fn link_local(name: &str) -> String {
    let end = clock::now() + LIMIT;
    loop {
        let shown = ip(&format!("-6 addr show dev {name} scope link -tentative"));
        let address = shown.split_whitespace().skip_while(|w| *w != "inet6").nth(1);
        if let Some(address) = address {
            return address.split('/').next().unwrap().into();
        }
        assert!(clock::now() < end, "{shown}");
        wait_readable(&vipd::io::wake::Waker::new().unwrap(), 50);
    }
}

/// A port at this end of a cable, and one at the far end: 192.0.2.1 and 192.0.2.2.
fn cable() -> (Port, Port, Far) {
    let [v0, _] = enter();
    let far = Far::with("v1");
    // A virtual address first: the kernel would choose it as the source.
    let ip_of = |ip: &str| ip.parse::<IpAddr>().unwrap();
    let vip = AddressSpec {
        index: v0,
        ip: ip_of("192.0.2.100"),
        prefix: 24,
        label: None,
        preferred: false,
    };
    let vip6 = AddressSpec { ip: ip_of("fe80::100"), prefix: 64, preferred: true, ..vip.clone() };
    let changes = [Change::Add(&vip), Change::Add(&vip6)];
    let results = Requests::open().unwrap().apply(&changes, LIMIT);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let open = |name, v4, v6| {
        ip(&format!("addr add {v4}/24 dev {name}"));
        ip(&format!("addr add {v6}/64 dev {name} nodad"));
        link_local(name);
        let spec = spec(index(name), name, Some(v4), Some(v6));
        Port::open(&spec, &Filters::default()).unwrap()
    };
    let a = open("v0", "192.0.2.1", "fe80::1");
    let b = far.run(|| open("v1", "192.0.2.2", "fe80::2"));
    (a, b, far)
}

/// Frames that come out at the far end and pass `filters`.
fn ear(far: &Far, filters: &Filters) -> Port {
    far.run(|| Port::open(&spec(index("v1"), "v1", None, None), filters).unwrap())
}

fn meta(src: &str, dst: impl Into<IpAddr>) -> Meta {
    Meta { src: src.parse().unwrap(), dst: dst.into(), hops: 255 }
}

#[test]
fn an_advert_comes_from_the_fixed_address_and_not_back() {
    let (mut a, mut b, _far) = cable();
    a.send_advert(GROUP_V4.into(), b"four").unwrap();
    a.send_advert(GROUP_V6.into(), b"six").unwrap();
    let four = Got::Advert(meta("192.0.2.1", GROUP_V4), b"four".to_vec());
    let six = Got::Advert(meta("fe80::1", GROUP_V6), b"six".to_vec());
    assert_eq!(hear(&mut b, Source::V4, 1), [four]);
    assert_eq!(hear(&mut b, Source::V6, 1), [six]);
    assert_eq!(hear(&mut a, Source::V4, 1), []);
    assert_eq!(hear(&mut a, Source::V6, 1), []);
}

#[test]
fn an_advert_to_a_peer_comes_from_the_fixed_address_too() {
    let (a, mut b, _far) = cable();
    a.send_advert("192.0.2.2".parse().unwrap(), b"four").unwrap();
    a.send_advert("fe80::2".parse().unwrap(), b"six").unwrap();
    let to = |ip: &str| ip.parse::<IpAddr>().unwrap();
    let four = Got::Advert(meta("192.0.2.1", to("192.0.2.2")), b"four".to_vec());
    let six = Got::Advert(meta("fe80::1", to("fe80::2")), b"six".to_vec());
    assert_eq!(hear(&mut b, Source::V4, 1), [four]);
    assert_eq!(hear(&mut b, Source::V6, 1), [six]);
}

#[test]
fn many_adverts_go_out_at_once_and_one_that_fails_stops_none() {
    let (a, mut b, _far) = cable();
    let bytes: Vec<_> = (0..200u8).map(|n| [n; 20]).collect();
    let unreachable = "203.0.113.1".parse().unwrap();
    let mut batch: Vec<_> = bytes.iter().map(|b| (IpAddr::from(GROUP_V4), &b[..])).collect();
    batch.insert(70, (unreachable, b"nowhere"));
    batch.push((GROUP_V6.into(), b"six"));
    ip("route add unreachable 203.0.113.1/32");
    let sent = a.send_adverts(&batch);
    // Bound to its interface, the socket may take an unreachable peer for a neighbour.
    assert_eq!(sent.sent + sent.failed, 202, "{sent:?}");
    let heard = hear(&mut b, Source::V4, 200);
    let expected = bytes.iter().map(|b| Got::Advert(meta("192.0.2.1", GROUP_V4), b.to_vec()));
    assert!(heard.into_iter().eq(expected));
    assert_eq!(hear(&mut b, Source::V6, 1).len(), 1);
}

#[test]
fn a_port_whose_source_is_gone_says_so() {
    let (a, _b, _far) = cable();
    ip("addr del 192.0.2.1/24 dev v0");
    let error = a.send_advert(GROUP_V4.into(), b"four").unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error}");
    let own = Some("192.0.2.1");
    let missing = Port::open(&spec(IfIndex(9999), "gone", own, None), &Filters::default());
    assert!(missing.unwrap_err().to_string().starts_with("gone: "));
}

#[test]
fn the_interface_that_is_down_is_an_error() {
    let (a, _b, _far) = cable();
    ip("link set v0 down");
    assert!(a.send_advert(GROUP_V4.into(), b"four").is_err());
    assert!(Announcer::open().unwrap().send(a.index(), &ARP_REPLY).is_err());
}

#[test]
fn on_the_wire_an_advert_is_marked_as_network_control() {
    let (a, _b, far) = cable();
    let mut ear = ear(&far, &Filters { arp: None, nd: Some(vec![ALL]) });
    a.send_advert(GROUP_V6.into(), b"six").unwrap();
    let frames = hear_until(&mut ear, Source::Nd, |frame| frame.ends_with(b"six"));
    let frame = frames.last().unwrap();
    assert_eq!([frame[14], frame[15] & 0xf0], [0x6c, 0x00], "traffic class 0xc0");
    assert_eq!(frame[20..22], [112, 255], "protocol and hops");
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 0x12]);

    let ear = far.run(raw_v4);
    a.send_advert("192.0.2.2".parse().unwrap(), b"four").unwrap();
    assert!(wait_readable(&ear, 10_000));
    let mut bytes = [0; 100];
    let length = nix::unistd::read(&ear, &mut bytes).unwrap();
    assert_eq!(length, 24);
    assert_eq!((bytes[1], bytes[8], bytes[9]), (0xc0, 255, 112), "TOS, TTL, protocol");
}

/// All IPv4 adverts to this host, with their headers.
fn raw_v4() -> socket2::Socket {
    use socket2::{Domain, Protocol, Socket, Type};
    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).unwrap()
}

/// Frames up to the one that is `wanted`.
fn hear_until(port: &mut Port, source: Source, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let end = clock::now() + LIMIT;
    while !frames.last().is_some_and(|frame: &Vec<u8>| wanted(frame)) {
        assert!(clock::now() < end, "not heard");
        frames.extend(hear(port, source, 1).into_iter().filter_map(|got| match got {
            Got::Frame(_, frame) => Some(frame),
            Got::Advert(..) => None,
        }));
    }
    frames
}

#[test]
fn a_filter_lets_in_what_it_says_and_nothing_before_it() {
    let (a, _b, far) = cable();
    // If the operation is a reply, take it, else not.
    let replies = vec![(0x28, 0, 0, 20), (0x15, 0, 1, 2), ALL, (0x06, 0, 0, 0)];
    let mut ear = ear(&far, &Filters { arp: Some(replies), nd: None });
    let announcer = Announcer::open().unwrap();
    for frame in [ARP_REQUEST, ARP_REPLY, ARP_REQUEST] {
        announcer.send(a.index(), &frame).unwrap();
    }
    let heard = hear(&mut ear, Source::Arp, 9);
    assert_eq!(heard, [Got::Frame(Source::Arp, ARP_REPLY.to_vec())]);
}

#[test]
fn short_of_room_the_loss_is_counted() {
    let (a, mut b, _far) = cable();
    let bytes = [7; 1000];
    let batch = vec![(IpAddr::from(GROUP_V4), &bytes[..]); 2000];
    assert_eq!(a.send_adverts(&batch).sent, 2000);
    let fd = b.fds().next().unwrap().1.as_fd().try_clone_to_owned().unwrap();
    let mut heard = hear(&mut b, Source::V4, 2000).len();
    assert!(heard < 2000, "the socket has a limit");
    // What was lost is told with the next datagram that is not.
    a.send_advert(GROUP_V4.into(), b"next").unwrap();
    assert!(wait_readable(&fd, 10_000));
    heard += hear(&mut b, Source::V4, 1).len();
    assert_eq!(heard as u64 + b.counters().dropped, 2001);
}
