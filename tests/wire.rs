//! The golden packets, both ways: what other implementations sent is what we read and write.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use pnet_packet::Packet;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;

use vipd::types::{Centis, Mac, Priority, Version, VrId};
use vipd::wire::announce::{self, Kind, Neighbour};
use vipd::wire::vrrp::{self, Expect, Flavour, Meta, ParseError, Template};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);

/// What a golden packet means, stated here apart from the file that has its bytes.
struct Golden {
    name: &'static str,
    version: Version,
    vrid: u8,
    priority: u8,
    interval: u16,
    flavour: Flavour,
    password: Option<[u8; 8]>,
    addresses: Vec<IpAddr>,
}

#[rustfmt::skip]
fn goldens() -> Vec<Golden> {
    use Flavour::{Plain, Pseudo};
    use Version::{V2, V3};
    let one = || vec![VIP];
    let three = || ["192.0.2.100", "192.0.2.101", "198.51.100.1"].map(ip).to_vec();
    let six = || vec![ip("fe80::200:5eff:fe00:207"), VIP6.into()];
    let pass = Some(*b"vipd1234");
    let rows = [
        ("g1_v2_noauth", V2, 51, 100, 100, Plain, None, one()),
        ("g2_v2_pass", V2, 51, 150, 100, Plain, pass, one()),
        ("g3a_v3_ipv4_pseudo", V3, 7, 200, 100, Pseudo, None, one()),
        ("g3b_v3_ipv4_rfc9568", V3, 7, 200, 100, Plain, None, one()),
        ("g4_v3_ipv6", V3, 7, 200, 100, Pseudo, None, six()),
        ("g5a_v3_prio0_pseudo", V3, 7, 0, 100, Pseudo, None, one()),
        ("g5b_v2_prio0", V2, 51, 0, 100, Plain, None, one()),
        ("g6a_v3_ipv4_3vips_25cs_pseudo", V3, 9, 254, 25, Pseudo, None, three()),
        ("g6b_v3_ipv4_3vips_25cs_rfc9568", V3, 9, 254, 25, Plain, None, three()),
        ("g6c_v2_3vips", V2, 9, 254, 300, Plain, None, three()),
        ("g7_v3_ipv4_max_interval_owner", V3, 255, 255, 4095, Pseudo, None, vec![ip("192.0.2.11")]),
    ];
    rows.map(|(name, version, vrid, priority, interval, flavour, password, addresses)| Golden {
        name, version, vrid, priority, interval, flavour, password, addresses,
    })
    .into()
}

impl Golden {
    fn template(&self) -> Template {
        let (vrid, interval) = (VrId::new(self.vrid).unwrap(), Centis::new(self.interval).unwrap());
        Template::new(self.version, vrid, interval, &self.addresses, self.password).unwrap()
    }

    fn expect(&self) -> Expect {
        Expect { version: self.version, min_hops: vrrp::HOPS, password: self.password }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The bytes of `field` of the golden packet `name`.
fn golden(name: &str, field: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vrrp.json");
    let all: Vec<serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let one = all.iter().find(|g| g["name"] == name).unwrap();
    let hex = one[field].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// What the IP layer makes of a golden frame: the payload cut at the IP length, and the header.
fn received(name: &str) -> (Meta, Vec<u8>) {
    let frame = golden(name, "frame_hex");
    let ethernet = EthernetPacket::new(&frame).unwrap();
    if let (0x0800, Some(ip)) = (ethernet.get_ethertype().0, Ipv4Packet::new(ethernet.payload())) {
        let (src, dst) = (ip.get_source().into(), ip.get_destination().into());
        (Meta { src, dst, hops: ip.get_ttl() }, ip.payload().to_vec())
    } else {
        let ip = Ipv6Packet::new(ethernet.payload()).unwrap();
        let (src, dst) = (ip.get_source().into(), ip.get_destination().into());
        (Meta { src, dst, hops: ip.get_hop_limit() }, ip.payload().to_vec())
    }
}

#[test]
fn golden_adverts_parse_to_what_they_mean() {
    for want in goldens() {
        let (meta, bytes) = received(want.name);
        assert_eq!(bytes, golden(want.name, "vrrp_hex"), "{}", want.name);
        let got = vrrp::parse(&meta, &want.expect(), &bytes).unwrap();
        assert_eq!(got.vrid.get(), want.vrid, "{}", want.name);
        assert_eq!(got.priority, Priority(want.priority), "{}", want.name);
        assert_eq!(got.interval.get(), want.interval, "{}", want.name);
        assert_eq!(got.flavour, want.flavour, "{}", want.name);
        assert!(got.addresses().eq(want.addresses.iter().copied()), "{}", want.name);
        assert_eq!(got.first_is_link_local(), want.name == "g4_v3_ipv6", "{}", want.name);
        assert_eq!(vrrp::peek_vrid(&bytes), VrId::new(want.vrid), "{}", want.name);
    }
}

#[test]
fn golden_adverts_are_emitted_byte_for_byte() {
    let mut buf = vec![0xa5; 64];
    let (place, room) = (buf.as_ptr(), buf.capacity());
    for want in goldens() {
        let (meta, bytes) = received(want.name);
        buf.fill(0xa5);
        buf.truncate(5);
        let template = want.template();
        template.emit(Priority(want.priority), want.flavour, meta.src, meta.dst, &mut buf);
        assert_eq!(buf[..5], [0xa5; 5], "{}: what was there stays", want.name);
        assert_eq!(buf[5..], bytes, "{}", want.name);
        assert_eq!(template.len(), bytes.len(), "{}", want.name);
        buf.resize(64, 0xa5);
    }
    assert_eq!((buf.as_ptr(), buf.capacity()), (place, room), "no allocation");
}

/// Every bit of every golden advert matters; only a Reserve bit with a matching checksum and
/// what follows the message do not.
#[test]
fn no_flipped_bit_is_accepted() {
    for want in goldens() {
        let (meta, good) = received(want.name);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let got = vrrp::parse(&meta, &want.expect(), &bytes);
            assert!(got.is_err(), "{} bit {bit}: {got:?}", want.name);
        }
        for cut in 0..good.len() {
            let got = vrrp::parse(&meta, &want.expect(), &good[..cut]);
            assert!(matches!(got, Err(ParseError::Length { .. })), "{} cut at {cut}", want.name);
        }
        let mut padded = good.clone();
        padded.extend([0xff; 4]);
        assert!(vrrp::parse(&meta, &want.expect(), &padded).is_ok(), "{} padded", want.name);
    }
}

/// What the nibble adds to the sum is taken from the checksum, so only the mask is tested.
#[test]
fn the_reserve_nibble_is_ignored() {
    let g3b = &goldens()[3];
    let (meta, mut bytes) = received(g3b.name);
    let interval = vrrp::parse(&meta, &g3b.expect(), &bytes).unwrap().interval;
    for reserve in 0..16u16 {
        bytes[4] = u8::try_from(reserve << 4).unwrap();
        // 0x442e - 0xf000 borrows: one's complement arithmetic takes the borrow off the end.
        let (sum, borrow) = 0x442e_u16.overflowing_sub(reserve << 12);
        bytes[6..8].copy_from_slice(&(sum - u16::from(borrow)).to_be_bytes());
        let got = vrrp::parse(&meta, &g3b.expect(), &bytes).unwrap();
        assert_eq!(got.interval, interval, "reserve {reserve:x}");
    }
}

#[test]
fn a_unicast_advert_is_summed_with_its_real_destination() {
    let template = goldens()[2].template();
    let (src, dst) = (ip("192.0.2.11"), ip("192.0.2.12"));
    let mut buf = Vec::new();
    template.emit(Priority(200), Flavour::Pseudo, src, dst, &mut buf);
    let parsed = |dst| {
        vrrp::parse(&Meta { src, dst, hops: vrrp::HOPS }, &goldens()[2].expect(), &buf).is_ok()
    };
    assert!(parsed(dst));
    assert!(!parsed(ip("224.0.0.18")));
}

#[test]
fn golden_announcements_both_ways() {
    let mac4 = Mac([0, 0, 0x5e, 0, 1, 7]);
    let arp = golden("x1_garp_request", "frame_hex");
    let IpAddr::V4(vip4) = VIP else { unreachable!() };
    assert_eq!(announce::gratuitous_arp(mac4, vip4)[..], arp);
    let claim = Neighbour { ip: VIP, mac: mac4, kind: Kind::Request };
    assert_eq!(announce::parse_arp(&arp), Some(claim));
    assert_eq!(announce::parse_nd(&arp), None);

    let mac6 = Mac([0, 0, 0x5e, 0, 2, 7]);
    let na = golden("x2_unsolicited_na", "frame_hex");
    assert_eq!(announce::unsolicited_na(mac6, VIP6, true)[..], na);
    let claim = Neighbour { ip: VIP6.into(), mac: mac6, kind: Kind::Reply };
    assert_eq!(announce::parse_nd(&na), Some(claim));
    assert_eq!(announce::parse_arp(&na), None);
    for bit in 20 * 8..na.len() * 8 {
        let mut flipped = na.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(announce::parse_nd(&flipped), None, "bit {bit}");
    }
}

proptest::proptest! {
    #[test]
    fn no_frame_makes_the_readers_panic(
        mut frame in proptest::collection::vec(proptest::num::u8::ANY, 0..120), kind in 0..3u8,
    ) {
        let start: &[u8] = match kind {
            0 => &[],
            1 => &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0],
            _ => &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
        };
        for (to, from) in frame.iter_mut().skip(12).zip(start) {
            *to = *from;
        }
        let _ = announce::parse_arp(&frame);
        let _ = announce::parse_nd(&frame);
    }
}
