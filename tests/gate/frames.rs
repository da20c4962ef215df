//! Frames for, from and about a virtual address, and a cable to send them over.

#![allow(unsafe_code, reason = "nix does not build a link-layer address safely")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use vipd::gate::Gate;
use vipd::types::IfIndex;

use crate::namespace::{Far, enter, ip, wait_readable};

pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
pub(crate) const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
pub(crate) const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const SOLICITED: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 9);
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0, 7];
const ALL: u16 = 0x0003;
pub(crate) const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// A packet socket on one interface.
pub(crate) struct Tap {
    fd: OwnedFd,
    index: IfIndex,
}

impl Tap {
    /// One that hears `protocol`: all frames even before the gate, or one kind behind it.
    pub(crate) fn open(index: IfIndex, protocol: u16) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
        setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20)).unwrap();
        bind(fd.as_raw_fd(), &link_address(index, protocol)).unwrap();
        Self { fd, index }
    }

    /// Sends a frame, and tells the kernel that it is of `protocol`; zero lets it look itself.
    pub(crate) fn send_as(&self, frame: &[u8], protocol: u16) {
        let to = link_address(self.index, protocol);
        // A frame that is dropped on its way out is an error, or none, as the kernel likes.
        let _ = sendto(self.fd.as_raw_fd(), frame, &to, MsgFlags::empty());
    }

    /// The next frame, unless none comes for that long.
    pub(crate) fn next(&self, milliseconds: u16) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 2048];
        if !wait_readable(&self.fd, milliseconds) {
            return None;
        }
        let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }
}

fn link_address(index: IfIndex, protocol: u16) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into().unwrap(),
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.0.try_into().unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).ok();
    // SAFETY: the pointer is to a whole `sockaddr_ll` whose family says so; `from_raw` copies it.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), length) }.unwrap()
}

/// The way a frame goes, as the gated host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// A gated host with one end of a cable, `v0`, and what is at the other.
pub(crate) struct Cable {
    near: Tap,
    far_end: Tap,
    pub(crate) far: Far,
    pub(crate) index: IfIndex,
    pub(crate) mac: [u8; 6],
}

impl Cable {
    pub(crate) fn new() -> Self {
        let [index, far_index] = enter();
        let far = Far::with("v1");
        let mac = mac_of("v0");
        let far_end = far.run(|| Tap::open(far_index, ALL));
        let cable = Self { near: Tap::open(index, IPV4), far_end, far, index, mac };
        cable.settle();
        cable
    }

    /// Waits until frames arrive: an interface that is up may take its time.
    pub(crate) fn settle(&self) {
        for (from, to) in [(&self.far_end, &self.near), (&self.near, &self.far_end)] {
            let arrives = |_| {
                from.send_as(&marker(), 0);
                std::iter::from_fn(|| to.next(100)).any(|frame| frame == marker())
            };
            assert!((0..100).any(arrives));
        }
    }

    /// Sends `frame` outwards, whatever becomes of it.
    pub(crate) fn send(&self, frame: &[u8]) {
        self.near.send_as(frame, 0);
    }

    /// Sends `frame`, then one that is nobody's business; whether the gate let the first pass.
    pub(crate) fn passes(&self, gate: &Gate, way: Way, frame: &[u8]) -> bool {
        self.passes_as(gate, way, frame, 0)
    }

    pub(crate) fn passes_as(&self, gate: &Gate, way: Way, frame: &[u8], protocol: u16) -> bool {
        let (from, to, nth) = match way {
            Way::In => (&self.far_end, &self.near, 0),
            Way::Out => (&self.near, &self.far_end, 1),
        };
        while to.next(0).is_some() {}
        let before = gate.drops().unwrap();
        from.send_as(frame, protocol);
        let marker = marker();
        from.send_as(&marker, 0);
        let mut seen = false;
        loop {
            let got = to.next(5000).expect("a frame that is not gated arrives");
            if got == marker {
                break;
            }
            // The kernel takes the outer tag out of what it hands over.
            seen |= frame.ends_with(got.get(12..).unwrap());
        }
        let after = gate.drops().unwrap();
        let dropped = after[nth] - before[nth];
        assert_eq!(after[1 - nth], before[1 - nth], "counted on the other way");
        assert!(dropped <= 1, "counted twice");
        if way == Way::Out {
            assert_eq!(seen, dropped == 0, "what arrives is what is not counted: {frame:x?}");
        }
        dropped == 0
    }
}

fn mac_of(name: &str) -> [u8; 6] {
    let text = ip(&format!("-o link show {name}"));
    let mac = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn ethernet(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(SOMEBODY);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// `frame` with a tag of the kind `kind`.
pub(crate) fn tagged(frame: &[u8], kind: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &kind.to_be_bytes(), &[0, 5], rest].concat()
}

pub(crate) fn packet4(from: Ipv4Addr, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(28 + data.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0x30, 0x39, 0x30, 0x39]);
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(data);
    packet
}

pub(crate) fn ipv4(mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    ethernet(mac, IPV4, &packet4(from, to, b"hello"))
}

/// With data of one's own.
pub(crate) fn ipv4_with(from: Ipv4Addr, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, IPV4, &packet4(from, to, data))
}

fn marker() -> Vec<u8> {
    ipv4(BROADCAST, Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2))
}

pub(crate) fn arp(mac: [u8; 6], operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend(SOMEBODY);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(mac, ARP, &packet)
}

pub(crate) fn packet6(from: Ipv6Addr, to: Ipv6Addr, next: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(data);
    packet
}

pub(crate) fn ipv6(mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    ethernet(mac, IPV6, &packet6(from, to, 59, &[0; 16]))
}

/// A message of neighbour discovery about `target`.
fn discovery(mac: [u8; 6], kind: u8, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    ethernet(mac, IPV6, &packet6(from, to, 58, &message))
}

pub(crate) fn solicitation(from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    discovery([0x33, 0x33, 0xff, 0, 0, 9], 135, from, SOLICITED, target)
}

pub(crate) fn advertisement(from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    discovery([0x33, 0x33, 0, 0, 0, 1], 136, from, ALL_NODES, target)
}

/// What must not pass while the gate is shut.
pub(crate) fn gated(mac: [u8; 6], way: Way) -> Vec<(&'static str, Vec<u8>)> {
    let none = Ipv6Addr::UNSPECIFIED;
    let mut frames = match way {
        Way::In => vec![
            ("IPv4 to it", ipv4(mac, OTHER4, VIP4)),
            ("ARP: who has it?", arp(BROADCAST, 1, OTHER4, VIP4)),
            ("ARP: to it", arp(mac, 2, OTHER4, VIP4)),
            ("IPv6 to it", ipv6(mac, OTHER6, VIP6)),
            ("ND: who has it?", solicitation(OTHER6, VIP6)),
            ("ND: does anybody have it?", solicitation(none, VIP6)),
        ],
        Way::Out => vec![
            ("IPv4 from it", ipv4(BROADCAST, VIP4, OTHER4)),
            ("ARP: I have it", arp(BROADCAST, 2, VIP4, OTHER4)),
            ("ARP: gratuitous", arp(BROADCAST, 1, VIP4, VIP4)),
            ("IPv6 from it", ipv6(BROADCAST, VIP6, OTHER6)),
            ("ND: I have it, from it", advertisement(VIP6, VIP6)),
            ("ND: I have it, from another", advertisement(OTHER6, VIP6)),
            ("ND: does anybody have it?", solicitation(none, VIP6)),
        ],
    };
    let plain = frames.clone();
    for (name, frame) in plain {
        frames.push((name, tagged(&frame, 0x8100)));
        frames.push((name, tagged(&tagged(&frame, 0x8100), 0x88a8)));
    }
    frames
}

/// What passes in any case.
pub(crate) fn free(mac: [u8; 6], way: Way) -> Vec<(&'static str, Vec<u8>)> {
    let none = Ipv4Addr::UNSPECIFIED;
    match way {
        Way::In => vec![
            ("IPv4 from it", ipv4(mac, VIP4, OTHER4)),
            ("IPv4 to another", ipv4(mac, VIP4, OTHER4)),
            ("IPv4 to it, of another host", ipv4(SOMEBODY, OTHER4, VIP4)),
            ("ARP: another claims it", arp(BROADCAST, 1, VIP4, VIP4)),
            ("ARP: another has it", arp(mac, 2, VIP4, OTHER4)),
            ("IPv6 from it", ipv6(mac, VIP6, OTHER6)),
            ("ND: another has it", advertisement(VIP6, VIP6)),
            ("ND: who has another?", solicitation(VIP6, OTHER6)),
            ("a frame that ends early", ethernet(mac, ARP, &[])),
        ],
        Way::Out => vec![
            ("IPv4 to it", ipv4(BROADCAST, OTHER4, VIP4)),
            ("IPv4 from another", ipv4(BROADCAST, OTHER4, VIP4)),
            ("ARP: who has it?", arp(BROADCAST, 1, OTHER4, VIP4)),
            ("ARP: does anybody have it?", arp(BROADCAST, 1, none, VIP4)),
            ("IPv6 to it", ipv6(BROADCAST, OTHER6, VIP6)),
            ("ND: who has it?", solicitation(OTHER6, VIP6)),
            ("ND: another", advertisement(OTHER6, OTHER6)),
        ],
    }
}
