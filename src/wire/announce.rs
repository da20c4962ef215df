//! ARP and neighbour discovery: what we announce, whom we ask, and what others say.
//!
//! Everything is a whole Ethernet frame, for and from packet sockets of type `SOCK_RAW`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::Ipv6Packet;

use super::checksum::{fold, pseudo_header, sum};
use crate::types::Mac;

/// An ARP frame, padded to the 60 bytes that are the least on Ethernet.
pub type ArpFrame = [u8; 60];
/// A neighbour solicitation or advertisement with one option.
pub type NdFrame = [u8; 86];

/// Hop limit of all neighbour discovery: proves that no router was between (RFC 4861 §3.1).
const HOPS: u8 = 255;
const ICMPV6: u8 = 58;
/// Message types (RFC 4861 §4.3, §4.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Option types (RFC 4861 §4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Flags of an advertisement (RFC 4861 §4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// "`ip` is at `mac`", unasked: an ARP request with sender and target alike (RFC 9568 §6.4.1,
/// errata 7947 and 7949).
pub fn gratuitous_arp(mac: Mac, ip: Ipv4Addr) -> ArpFrame {
    arp_request(Mac::BROADCAST, mac, ip, mac, ip)
}

/// "Who has `target_ip`?", asked of everybody, or of `target_mac` alone where it was last seen
/// (RFC 826; RFC 1122 §2.3.2.1 for the unicast poll).
pub fn arp_probe(
    mac: Mac,
    src_ip: Ipv4Addr,
    target_ip: Ipv4Addr,
    target_mac: Option<Mac>,
) -> ArpFrame {
    let unknown = Mac([0; 6]);
    arp_request(target_mac.unwrap_or(Mac::BROADCAST), mac, src_ip, unknown, target_ip)
}

fn arp_request(to: Mac, mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> ArpFrame {
    // EtherType ARP; hardware Ethernet, protocol IPv4, their address lengths, a request.
    let fixed = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
    let (sender, target) = (sender.octets(), target.octets());
    concat(&[&to.0, &mac.0, &fixed, &mac.0, &sender, &target_mac.0, &target])
}

/// "`ip` is at `mac`", unasked, to all nodes: a neighbour advertisement from `ip` itself with
/// Override set and Solicited clear (RFC 9568 §6.4.1, RFC 4861 §7.2.6).
///
/// `router` is true where the host forwards IPv6: hosts drop a default route whose gateway
/// stops to call itself a router (RFC 4861 §7.2.5).
pub fn unsolicited_na(mac: Mac, ip: Ipv6Addr, router: bool) -> NdFrame {
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let message = nd_message(ADVERTISEMENT, flags, ip, TARGET_LINK_LAYER, mac);
    nd_frame(multicast_mac(ALL_NODES), mac, ip, ALL_NODES, message)
}

/// "Who has `target_ip`?", asked of its solicited-node group, or of `target_mac` alone where it
/// was last seen (RFC 4861 §7.2.2, §7.3.3).
pub fn neighbour_solicitation(
    mac: Mac,
    src_ip: Ipv6Addr,
    target_ip: Ipv6Addr,
    target_mac: Option<Mac>,
) -> NdFrame {
    let (to, dst) = target_mac.map_or_else(
        || {
            let group = solicited_node(target_ip);
            (multicast_mac(group), group)
        },
        |mac| (mac, target_ip),
    );
    let message = nd_message(SOLICITATION, 0, target_ip, SOURCE_LINK_LAYER, mac);
    nd_frame(to, mac, src_ip, dst, message)
}

/// A message with checksum zero: type, code, flags, target, and one link-layer address option.
fn nd_message(kind: u8, flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> [u8; 32] {
    let head = [kind, 0, 0, 0, flags, 0, 0, 0];
    concat(&[&head, &target.octets(), &[option, 1], &mac.0])
}

fn nd_frame(to: Mac, from: Mac, src: Ipv6Addr, dst: Ipv6Addr, message: [u8; 32]) -> NdFrame {
    let ipv6 = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, ICMPV6, HOPS];
    let checksum = !fold(icmpv6_sum(src, dst, &message));
    let [kind, code, _, _, rest @ ..] = message;
    let [high, low] = checksum.to_be_bytes();
    let head = [kind, code, high, low];
    concat(&[&to.0, &from.0, &ipv6, &src.octets(), &dst.octets(), &head, &rest])
}

fn icmpv6_sum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u32 {
    sum(message) + pseudo_header(src.into(), dst.into(), ICMPV6, message.len())
}

/// The group a node joins for each of its addresses (RFC 4291 §2.7.1).
fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// The Ethernet address of an IPv6 group (RFC 2464 §7).
fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// The parts one after the other, the rest zero.
fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut all = [0; N];
    let bytes = parts.iter().copied().flatten();
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    all
}

/// Somebody said that `ip` is at `mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address claimed.
    pub ip: IpAddr,
    /// By whom.
    pub mac: Mac,
    /// On which occasion.
    pub kind: Kind,
}

/// The occasion of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asking for another address, or announcing by ARP.
    Request,
    /// Answering, or announcing by a neighbour advertisement.
    Reply,
}

/// Who sent an ARP frame; `None` for anything else, damaged or without a claim (the sender
/// address of an RFC 5227 probe is zero).
pub fn parse_arp(frame: &[u8]) -> Option<Neighbour> {
    let ethernet = EthernetPacket::new(frame)?;
    if ethernet.get_ethertype() != EtherTypes::Arp {
        return None;
    }
    let arp = ArpPacket::new(ethernet.payload())?;
    let formats = (arp.get_hardware_type(), arp.get_protocol_type());
    let lengths = (arp.get_hw_addr_len(), arp.get_proto_addr_len());
    if formats != (ArpHardwareTypes::Ethernet, EtherTypes::Ipv4) || lengths != (6, 4) {
        return None;
    }
    let kind = match arp.get_operation() {
        ArpOperations::Request => Kind::Request,
        ArpOperations::Reply => Kind::Reply,
        _ => return None,
    };
    let ip = arp.get_sender_proto_addr();
    let mac = Mac(arp.get_sender_hw_addr().octets());
    (!ip.is_unspecified()).then_some(Neighbour { ip: ip.into(), mac, kind })
}

/// What a neighbour solicitation or advertisement says: its source, or its target, and the
/// link-layer address in its option.
///
/// `None` for anything else, for what RFC 4861 §7.1.1 and §7.1.2 call invalid, and for a
/// solicitation without a claim (duplicate address detection, no option). An advertisement
/// without the option is one of its Ethernet source. IPv6 extension headers are not followed.
pub fn parse_nd(frame: &[u8]) -> Option<Neighbour> {
    let ethernet = EthernetPacket::new(frame)?;
    if ethernet.get_ethertype() != EtherTypes::Ipv6 {
        return None;
    }
    let ip = Ipv6Packet::new(ethernet.payload())?;
    let message = ip.payload();
    let whole = message.len() == usize::from(ip.get_payload_length());
    let ours = ip.get_version() == 6 && ip.get_next_header() == IpNextHeaderProtocols::Icmpv6;
    let (src, dst) = (ip.get_source(), ip.get_destination());
    if !whole
        || !ours
        || ip.get_hop_limit() != HOPS
        || fold(icmpv6_sum(src, dst, message)) != 0xffff
    {
        return None;
    }
    let (&[kind, 0, _, _, flags, _, _, _], rest) = message.split_first_chunk()? else {
        return None;
    };
    let (&target, options) = rest.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(target);
    let link_layer = LinkLayer::read(options)?;
    if target.is_multicast() || (dst.is_multicast() && flags & SOLICITED != 0) {
        return None;
    }
    let (ip, mac, kind) = match kind {
        SOLICITATION => (src, link_layer.source?, Kind::Request),
        ADVERTISEMENT => {
            let sender = Mac(ethernet.get_source().octets());
            (target, link_layer.target.unwrap_or(sender), Kind::Reply)
        }
        _ => return None,
    };
    (!ip.is_unspecified()).then_some(Neighbour { ip: ip.into(), mac, kind })
}

/// The link-layer addresses among the options of a message (RFC 4861 §4.6.1).
#[derive(Default)]
struct LinkLayer {
    source: Option<Mac>,
    target: Option<Mac>,
}

impl LinkLayer {
    /// `None` if an option has length zero or is cut short (RFC 4861 §4.6).
    fn read(mut options: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        while let [kind, eights, ..] = *options {
            if eights == 0 {
                return None;
            }
            let (option, rest) = options.split_at_checked(8 * usize::from(eights))?;
            let mac = option.get(2..).and_then(|mac| mac.try_into().ok()).map(Mac);
            match kind {
                SOURCE_LINK_LAYER => found.source = mac,
                TARGET_LINK_LAYER => found.target = mac,
                _ => {}
            }
            options = rest;
        }
        options.is_empty().then_some(found)
    }
}

/// One instruction of classic BPF: code, jump if true, jump if false, operand; the fields of the
/// kernel's `struct sock_filter`.
pub type Instruction = (u16, u8, u8, u32);

/// The most virtual addresses [`arp_filter`] looks for; more are not watched. Keeps the program
/// well below the kernel's limits on length (4096) and option memory.
pub const MAX_WATCHED: usize = 256;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// The whole frame.
const ACCEPT: Instruction = (RETURN, 0, 0, u32::MAX);
const REJECT: Instruction = (RETURN, 0, 0, 0);

/// A socket filter for [`parse_arp`]: replies to `own`, and whatever claims one of `vips`.
pub fn arp_filter(own: Ipv4Addr, vips: &[Ipv4Addr]) -> Vec<Instruction> {
    let mut program = Vec::new();
    program.extend(demand(LOAD_HALF, 12, 0x0806));
    program.extend([
        (LOAD_HALF, 0, 0, 20),
        (JUMP_IF_EQUAL, 0, 3, 2),
        (LOAD_WORD, 0, 0, 38),
        (JUMP_IF_EQUAL, 0, 1, own.to_bits()),
        ACCEPT,
        (LOAD_WORD, 0, 0, 28),
    ]);
    // Each match returns on the spot: a common exit may be further away than a jump can reach.
    let watched = vips.iter().take(MAX_WATCHED);
    program.extend(watched.flat_map(|vip| [(JUMP_IF_EQUAL, 0, 1, vip.to_bits()), ACCEPT]));
    program.push(REJECT);
    program
}

/// A socket filter for [`parse_nd`]: advertisements from this link, to `own` (the answers to our
/// solicitations) or to all nodes (announcements).
pub fn nd_filter(own: Ipv6Addr) -> Vec<Instruction> {
    let mut program = Vec::new();
    program.extend(demand(LOAD_HALF, 12, 0x86dd));
    program.extend(demand(LOAD_BYTE, 20, ICMPV6.into()));
    program.extend(demand(LOAD_BYTE, 21, HOPS.into()));
    program.extend(demand(LOAD_BYTE, 54, ADVERTISEMENT.into()));
    program.extend(accept_destination(own));
    program.extend(accept_destination(ALL_NODES));
    program.push(REJECT);
    program
}

/// What goes before one of these filters where one neighbour matters: rejects what is not about `ip`.
pub fn about(ip: IpAddr) -> Vec<Instruction> {
    // The sender of ARP, the target of an advertisement.
    let (first, octets) = match ip {
        IpAddr::V4(ip) => (28, ip.octets().to_vec()),
        IpAddr::V6(ip) => (62, ip.octets().to_vec()),
    };
    let words = octets.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word));
    (first..).step_by(4).zip(words).flat_map(|(at, word)| demand(LOAD_WORD, at, word)).collect()
}

/// Rejects unless what is loaded from `offset` equals `value`.
const fn demand(load: u16, offset: u32, value: u32) -> [Instruction; 3] {
    [(load, 0, 0, offset), (JUMP_IF_EQUAL, 1, 0, value), REJECT]
}

/// Accepts a frame whose IPv6 destination is `ip`, else goes on behind itself.
fn accept_destination(ip: Ipv6Addr) -> [Instruction; 9] {
    let bits = ip.to_bits();
    let word = |n: u32| {
        let [.., a, b, c, d] = (bits >> (96 - 32 * n)).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    };
    [
        (LOAD_WORD, 0, 0, 38),
        (JUMP_IF_EQUAL, 0, 7, word(0)),
        (LOAD_WORD, 0, 0, 42),
        (JUMP_IF_EQUAL, 0, 5, word(1)),
        (LOAD_WORD, 0, 0, 46),
        (JUMP_IF_EQUAL, 0, 3, word(2)),
        (LOAD_WORD, 0, 0, 50),
        (JUMP_IF_EQUAL, 0, 1, word(3)),
        ACCEPT,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUR_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x0a]);
    const PEER_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x0b]);
    const OWN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
    const PEER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
    const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
    const OWN6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x0a);
    const PEER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x1234, 0x560b);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);

    #[expect(clippy::unnecessary_wraps, reason = "compared with what a reader returns")]
    fn claim(ip: impl Into<IpAddr>, mac: Mac, kind: Kind) -> Option<Neighbour> {
        Some(Neighbour { ip: ip.into(), mac, kind })
    }

    /// What the peer answers to our [`arp_probe`].
    fn arp_reply() -> ArpFrame {
        let mut frame = arp_probe(PEER_MAC, PEER4, OWN4, Some(OUR_MAC));
        frame[21] = 2;
        frame[32..38].copy_from_slice(&OUR_MAC.0);
        frame
    }

    /// What the peer answers to our [`neighbour_solicitation`].
    fn na_reply() -> NdFrame {
        let message =
            nd_message(ADVERTISEMENT, SOLICITED | OVERRIDE, PEER6, TARGET_LINK_LAYER, PEER_MAC);
        nd_frame(OUR_MAC, PEER_MAC, PEER6, OWN6, message)
    }

    /// Makes the checksum right again after a change of the message.
    fn resum(frame: &mut [u8]) {
        let (src, dst) = (octets(&frame[22..38]), octets(&frame[38..54]));
        frame[56..58].fill(0);
        let checksum = !fold(icmpv6_sum(src, dst, &frame[54..]));
        frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    }

    fn octets(bytes: &[u8]) -> Ipv6Addr {
        Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap())
    }

    #[test]
    fn a_probe_goes_to_everybody_or_to_the_known_mac() {
        let all = arp_probe(OUR_MAC, OWN4, PEER4, None);
        let one = arp_probe(OUR_MAC, OWN4, PEER4, Some(PEER_MAC));
        assert_eq!(all[..6], Mac::BROADCAST.0);
        assert_eq!(one[..6], PEER_MAC.0);
        assert_eq!(all[6..], one[6..]);
        assert_eq!(all[20..22], [0, 1], "a request");
        assert_eq!(all[38..42], PEER4.octets());
        assert_eq!(parse_arp(&one), claim(OWN4, OUR_MAC, Kind::Request));
    }

    #[test]
    fn a_solicitation_goes_to_the_group_or_to_the_known_mac() {
        let group = neighbour_solicitation(OUR_MAC, OWN6, PEER6, None);
        assert_eq!(group[..6], [0x33, 0x33, 0xff, 0x34, 0x56, 0x0b]);
        assert_eq!(octets(&group[38..54]).to_string(), "ff02::1:ff34:560b");
        let one = neighbour_solicitation(OUR_MAC, OWN6, PEER6, Some(PEER_MAC));
        assert_eq!(one[..6], PEER_MAC.0);
        assert_eq!(octets(&one[38..54]), PEER6);
        for frame in [group, one] {
            assert_eq!(frame[21], 255, "hop limit");
            assert_eq!(octets(&frame[62..78]), PEER6, "target");
            assert_eq!(parse_nd(&frame), claim(OWN6, OUR_MAC, Kind::Request));
        }
    }

    #[test]
    fn an_announcement_calls_us_a_router_only_if_we_are_one() {
        for (router, flags) in [(true, 0xa0), (false, 0x20)] {
            let frame = unsolicited_na(OUR_MAC, VIP6, router);
            assert_eq!(frame[58], flags);
            assert_eq!(parse_nd(&frame), claim(VIP6, OUR_MAC, Kind::Reply));
        }
    }

    /// Each row breaks one thing in a good frame.
    #[test]
    fn arp_that_claims_nothing_is_ignored() {
        type Break = fn(&mut Vec<u8>);
        let rows: &[(&str, Break)] = &[
            ("empty", |f| f.clear()),
            ("cut", |f| f.truncate(41)),
            ("not ARP", |f| f[12] = 0x86),
            ("not Ethernet", |f| f[15] = 6),
            ("not IPv4", |f| f[16] = 0x86),
            ("long hardware address", |f| f[18] = 8),
            ("long protocol address", |f| f[19] = 16),
            ("RARP", |f| f[21] = 3),
            ("RFC 5227 probe", |f| f[28..32].fill(0)),
        ];
        let good = arp_reply();
        assert_eq!(parse_arp(&good), claim(PEER4, PEER_MAC, Kind::Reply));
        assert_eq!(parse_arp(&good[..42]), claim(PEER4, PEER_MAC, Kind::Reply), "unpadded");
        for (name, break_it) in rows {
            let mut frame = good.to_vec();
            break_it(&mut frame);
            assert_eq!(parse_arp(&frame), None, "{name}");
        }
    }

    /// Each row breaks one thing in a good frame; the checksum is made right again except in
    /// the row about it.
    #[test]
    fn nd_that_rfc_4861_calls_invalid_is_ignored() {
        type Break = fn(&mut Vec<u8>);
        let rows: &[(&str, Break)] = &[
            ("not IPv6", |f| f[12] = 0x08),
            ("IP version", |f| f[14] = 0x40),
            ("not ICMPv6", |f| f[20] = 17),
            ("routed", |f| f[21] = 254),
            ("longer than the frame", |f| f[19] += 8),
            ("code", |f| f[55] = 1),
            ("router advertisement", |f| f[54] = 134),
            ("multicast target", |f| f[62] = 0xff),
            ("unspecified target", |f| f[62..78].fill(0)),
            ("solicited, to a group", |f| f[38..54].copy_from_slice(&ALL_NODES.octets())),
            ("option of length 0", |f| f[79] = 0),
            ("option cut short", |f| f[79] = 2),
            ("half an option", |f| {
                f.push(9);
                f[19] += 1;
            }),
            ("shorter than 24 bytes", |f| {
                f.truncate(77);
                f[19] = 23;
            }),
        ];
        let good = na_reply();
        assert_eq!(parse_nd(&good), claim(PEER6, PEER_MAC, Kind::Reply));
        for (name, break_it) in rows {
            let mut frame = good.to_vec();
            break_it(&mut frame);
            resum(&mut frame);
            assert_eq!(parse_nd(&frame), None, "{name}");
        }
        let mut damaged = good;
        damaged[57] ^= 1;
        assert_eq!(parse_nd(&damaged), None, "checksum");
        for cut in 0..good.len() {
            assert_eq!(parse_nd(&good[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_may_be_there_or_not_does_not_matter() {
        let mut padded = na_reply().to_vec();
        padded.extend([0xee; 4]);
        assert_eq!(parse_nd(&padded), claim(PEER6, PEER_MAC, Kind::Reply), "padding");

        let mut other = na_reply();
        other[78] = 14;
        resum(&mut other);
        other[11] = 0x0c;
        let sender = Mac([0x02, 0, 0, 0, 0, 0x0c]);
        assert_eq!(parse_nd(&other), claim(PEER6, sender, Kind::Reply), "Ethernet source");

        let mut bare = neighbour_solicitation(OUR_MAC, OWN6, PEER6, Some(PEER_MAC));
        bare[78] = 14;
        resum(&mut bare);
        assert_eq!(parse_nd(&bare), None, "a solicitation without the option says nothing");

        let detection =
            neighbour_solicitation(OUR_MAC, Ipv6Addr::UNSPECIFIED, PEER6, Some(PEER_MAC));
        assert_eq!(parse_nd(&detection), None, "duplicate address detection");
    }

    /// The kernel's classic BPF, as far as the filters use it: bytes kept.
    fn run(program: &[Instruction], frame: &[u8]) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let (code, if_true, if_false, k) = program[at];
            let width = match code {
                LOAD_WORD => 4,
                LOAD_HALF => 2,
                LOAD_BYTE => 1,
                JUMP_IF_EQUAL => {
                    at += 1 + usize::from(if accumulator == k { if_true } else { if_false });
                    continue;
                }
                RETURN => return k,
                _ => panic!("{code:#x} is no instruction of ours"),
            };
            let offset = usize::try_from(k).unwrap();
            let Some(bytes) = frame.get(offset..offset + width) else { return 0 };
            accumulator = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
            at += 1;
        }
    }

    #[test]
    fn the_arp_filter_hears_answers_and_rivals() {
        let vips: Vec<_> = (0..300).map(|n| Ipv4Addr::from_bits(VIP4.to_bits() + n)).collect();
        let program = arp_filter(OWN4, &vips);
        assert!(program.len() <= 4096);
        let mut foreign = arp_reply();
        foreign[41] = 99;
        let mut ipv6 = arp_reply();
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        let rows: &[(&str, &[u8], bool)] = &[
            ("answer to us", &arp_reply(), true),
            ("answer to somebody else", &foreign, false),
            ("question to us", &arp_probe(PEER_MAC, PEER4, OWN4, None), false),
            ("rival for the first", &gratuitous_arp(PEER_MAC, vips[0]), true),
            ("rival for the last watched", &gratuitous_arp(PEER_MAC, vips[MAX_WATCHED - 1]), true),
            ("rival for one too many", &gratuitous_arp(PEER_MAC, vips[MAX_WATCHED]), false),
            ("client asks for a VIP", &arp_probe(PEER_MAC, PEER4, VIP4, None), false),
            ("not ARP", &ipv6, false),
            ("cut", &arp_reply()[..41], false),
            ("empty", &[], false),
        ];
        for (name, frame, accepted) in rows {
            assert_eq!(run(&program, frame) == u32::MAX, *accepted, "{name}");
        }
        let mut reply_with_vip = arp_reply();
        reply_with_vip[28..32].copy_from_slice(&VIP4.octets());
        reply_with_vip[41] = 99;
        assert_eq!(run(&program, &reply_with_vip), u32::MAX, "a rival's answer to a client");
        assert_eq!(run(&arp_filter(OWN4, &[]), &gratuitous_arp(PEER_MAC, VIP4)), 0);
        assert_eq!(run(&arp_filter(OWN4, &[]), &arp_reply()), u32::MAX);
        let of = |ip| run(&[about(IpAddr::V4(ip)), arp_filter(OWN4, &[])].concat(), &arp_reply());
        assert_eq!((of(PEER4), of(VIP4)), (u32::MAX, 0));
    }

    #[test]
    fn the_nd_filter_hears_answers_and_announcements() {
        let program = nd_filter(OWN6);
        let breaks: &[(&str, usize)] = &[
            ("not IPv6", 12),
            ("not ICMPv6", 20),
            ("routed", 21),
            ("not an advertisement", 54),
            ("another destination, first word", 38),
            ("another destination, second word", 45),
            ("another destination, third word", 48),
            ("another destination, last word", 53),
        ];
        for good in [na_reply(), unsolicited_na(PEER_MAC, VIP6, false)] {
            assert_eq!(run(&program, &good), u32::MAX);
            for (name, at) in breaks {
                let mut frame = good;
                frame[*at] ^= 0x10;
                assert_eq!(run(&program, &frame), 0, "{name}");
            }
        }
        assert_eq!(run(&program, &neighbour_solicitation(PEER_MAC, PEER6, OWN6, None)), 0);
        assert_eq!(run(&program, &na_reply()[..53]), 0, "cut");
        let of = |ip| run(&[about(IpAddr::V6(ip)), nd_filter(OWN6)].concat(), &na_reply());
        assert_eq!((of(PEER6), of(VIP6)), (u32::MAX, 0));
    }
}
