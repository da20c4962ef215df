//! Any bytes as a received Ethernet frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;
use vipd::wire::announce;

fuzz_target!(|frame: &[u8]| {
    if let Some(heard) = announce::parse_arp(frame) {
        let IpAddr::V4(ip) = heard.ip else { panic!("ARP is IPv4") };
        let same = announce::parse_arp(&announce::gratuitous_arp(heard.mac, ip));
        assert!(same.is_some_and(|same| (same.ip, same.mac) == (heard.ip, heard.mac)));
    }
    nd(frame);
    // No fuzzer guesses a checksum.
    if let Some(mended) = mended(frame) {
        nd(&mended);
    }
});

fn nd(frame: &[u8]) {
    if let Some(heard) = announce::parse_nd(frame) {
        let IpAddr::V6(ip) = heard.ip else { panic!("neighbour discovery is IPv6") };
        let same = announce::parse_nd(&announce::unsolicited_na(heard.mac, ip, true));
        // The source of a solicitation may be a group, wrongly; its claim then cannot be made.
        let claimed = same.is_some_and(|same| (same.ip, same.mac) == (heard.ip, heard.mac));
        assert!(claimed || ip.is_multicast());
    }
}

/// The frame with a right ICMPv6 checksum, if it has room for one.
fn mended(frame: &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*frame.get(18..20)?.first_chunk()?));
    let mut mended = frame.to_vec();
    mended.get_mut(56..58)?.fill(0);
    let message = mended.get(54..54 + length)?;
    let mut sum = 58 + u64::try_from(length).ok()?;
    for part in [&mended[22..54], message] {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).ok()?;
    mended[56..58].copy_from_slice(&checksum.to_be_bytes());
    Some(mended)
}
