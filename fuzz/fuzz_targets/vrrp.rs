//! Any bytes as an advert, whatever is expected of it; what is accepted survives the way back.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use vipd::types::{Family, Version};
use vipd::wire::vrrp::{self, Advert, Expect, Meta, ParseError, Template};

const METAS: [Meta; 2] = [
    Meta {
        src: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11)),
        dst: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
        hops: vrrp::HOPS,
    },
    Meta {
        src: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0x200, 0x5eff, 0xfe00, 0x207)),
        dst: IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
        hops: vrrp::HOPS,
    },
];

fuzz_target!(|bytes: &[u8]| {
    for meta in &METAS {
        for version in [Version::V2, Version::V3] {
            for password in [None, Some(*b"vipd1234")] {
                let expect = Expect { version, min_hops: vrrp::HOPS, password };
                check(meta, &expect, bytes);
            }
        }
    }
    let _ = vrrp::peek_vrid(bytes);
});

/// Parses as is and, since no fuzzer guesses a checksum, with the one the error asks for.
fn check(meta: &Meta, expect: &Expect, bytes: &[u8]) {
    match vrrp::parse(meta, expect, bytes) {
        Ok(advert) => round_trip(meta, expect, bytes, &advert),
        Err(ParseError::Checksum { expected, .. }) => {
            let mut mended = bytes.to_vec();
            mended[6..8].copy_from_slice(&expected.to_be_bytes());
            match vrrp::parse(meta, expect, &mended) {
                Ok(advert) => round_trip(meta, expect, &mended, &advert),
                Err(ParseError::Checksum { .. }) => panic!("asks for a checksum it refuses"),
                Err(_) => {}
            }
        }
        Err(error) => assert_eq!(error.name(), ParseError::ALL_NAMES[error.index()]),
    }
}

/// Emits what was parsed: the same bytes, but for what a receiver ignores.
fn round_trip(meta: &Meta, expect: &Expect, bytes: &[u8], advert: &Advert<'_>) {
    let addresses: Vec<_> = advert.addresses().collect();
    let password = expect.password.filter(|_| expect.version == Version::V2);
    let template =
        Template::new(expect.version, advert.vrid, advert.interval, &addresses, password)
            .expect("what was parsed can be said");
    assert_eq!(template.family(), Family::of(meta.src));
    let mut again = Vec::new();
    template.emit(advert.priority, advert.flavour, meta.src, meta.dst, &mut again);
    assert_eq!(vrrp::parse(meta, expect, &again), Ok(*advert));
    let list_end = 8 + advert.count() * if meta.src.is_ipv4() { 4 } else { 16 };
    assert_eq!(again[..4], bytes[..4]);
    assert_eq!(again[8..list_end], bytes[8..list_end]);
    assert_eq!(advert.addresses().count(), advert.count());
    let _ = advert.same_addresses(&addresses);
    let _ = advert.first_is_link_local();
}
