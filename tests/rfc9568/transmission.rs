//! What is sent: RFC 9568 §5, §7.2, RFC 3768 §5.3, and the choice of a checksum.

use std::net::IpAddr;

use vipd::config;
use vipd::core::event::Event;
use vipd::types::Priority;

use super::rig::*;

const V2: &str = "version = 2";

fn refused(lines: &str) -> bool {
    config::parse(&file(lines)).is_err()
}

/// The first packet of a node that became Active.
fn first(lines: &str) -> Sent {
    let mut rig = Rig::new(lines);
    rig.until_active();
    let mut packets = rig.packets(if lines.contains("2001:") { V6 } else { V4 });
    packets.swap_remove(0)
}

/// The port is opened with this source; the sockets send from no other.
fn opened(rig: &mut Rig) -> (Option<IpAddr>, Option<IpAddr>) {
    let opened = rig.take().into_iter().rev().find_map(|d| match d {
        Did::Open(spec) if spec.index == ETH0 => Some(spec),
        _ => None,
    });
    let spec = opened.expect("a port on eth0");
    (spec.v4.map(IpAddr::V4), spec.v6.map(IpAddr::V6))
}

#[test]
fn row_01_the_source_is_the_fixed_address() {
    assert_eq!(opened(&mut Rig::new("")), (Some(ip(OWN)), None));
}

/// The virtual address may come first in the kernel's order, or be all there is.
#[test]
fn row_01_the_source_is_never_a_virtual_address() {
    let text = file("interface = \"eth0\"").replace(OWN, "203.0.113.9");
    let mut rig = Rig::dark(parse(&text), None);
    rig.address(ETH0, VIP, 24);
    rig.link(ETH0, "eth0", true);
    assert!(rig.is("no-source"));
    assert!(!rig.take().iter().any(|d| matches!(d, Did::Open(s) if s.v4.is_some())));
    rig.address(ETH0, "192.0.2.200", 24);
    assert_eq!(opened(&mut rig).0, Some(ip("192.0.2.200")));
}

#[test]
fn row_02_ipv4_adverts_go_to_their_group() {
    let packet = first("");
    assert_eq!((packet.dst, packet.port), (ip(GROUP), ETH0));
}

#[test]
fn row_05_the_ipv6_source_is_link_local() {
    assert_eq!(opened(&mut Rig::new(&only6())).1, Some(ip(OWN6)));
    // A global address of the node does not change that.
    let text = nodes("address6 = \"2001:db8::11\"") + &group("web", 7, &only6());
    let mut rig = Rig::of(parse(&text));
    rig.address(ETH0, "2001:db8::11", 64);
    assert!(!rig.take().iter().any(|d| matches!(d, Did::Open(s) if s.v6 != Some(ip(OWN6).to_string().parse().unwrap()) && s.v6.is_some())));
}

/// Without one nothing is sent.
#[test]
fn row_05_without_a_link_local_address_ipv6_does_not_take_part() {
    let mut rig = Rig::dark(parse(&file(&only6())), None);
    rig.address(ETH0, OWN, 24);
    rig.address(ETH0, "2001:db8::11", 64);
    rig.link(ETH0, "eth0", true);
    rig.wait(ms(5000));
    assert!(rig.is("no-source"));
    assert_eq!(rig.deeds(), []);
}

#[test]
fn row_06_ipv6_adverts_go_to_their_group() {
    let packet = first(&only6());
    assert_eq!((packet.dst, packet.port), (ip(GROUP6), ETH0));
}

#[test]
fn rows_11_and_12_version_and_type() {
    assert_eq!(first("").bytes[0], 0x31);
    assert_eq!(first(&only6()).bytes[0], 0x31);
    assert_eq!(first(V2).bytes[0], 0x21);
}

#[test]
fn row_13_a_vrid_is_1_to_255() {
    for vrid in [1, 255] {
        let mut rig = Rig::of(parse(&(nodes("") + &group("web", vrid, ""))));
        rig.until_active();
        assert_eq!(rig.packets(V4)[0].bytes[1], vrid);
    }
}

#[test]
fn row_13_vrid_0_and_256_are_refused() {
    for vrid in ["0", "256"] {
        let text = file("").replace("vrid = 7", &format!("vrid = {vrid}"));
        assert!(config::parse(&text).is_err(), "{vrid}");
    }
}

/// A file with an owner is told that a floating address has none.
#[test]
fn rows_14_and_15_priority_255_is_the_owners() {
    let priority = |n: &str| config::parse(&file(&format!("priorities = {{ hap1 = {n} }}")));
    assert_eq!(priority("255").unwrap().1.len(), 1);
    assert_eq!(priority("254").unwrap().1.len(), 0);
    assert!(priority("0").is_err() && priority("256").is_err());
}

#[test]
fn row_15_the_priority_is_the_configured_one() {
    assert_eq!(first("").bytes[2], 100);
    assert_eq!(Priority::DEFAULT, Priority(100));
}

/// Only as the last word of an Active router.
#[test]
fn row_16_priority_0_only_to_stop() {
    let mut rig = Rig::active("");
    rig.wait(ms(5000));
    assert!(rig.packets(V4).iter().all(|p| p.bytes[2] == 100));
    rig.step(Event::Stop);
    let last = rig.packets(V4);
    assert!(!last.is_empty() && last.iter().all(|p| p.bytes[2] == 0));
}

#[test]
fn row_17_the_count_is_that_of_the_list() {
    let packet = first("addresses = [\"192.0.2.100/24\", \"192.0.2.101/24\", \"198.51.100.1/24\"]");
    assert_eq!((packet.bytes[3], packet.bytes.len()), (3, 20));
    assert_eq!(packet.bytes[8..12], v4("192.0.2.100"));
    assert_eq!(packet.bytes[16..20], v4("198.51.100.1"));
}

#[test]
fn row_17_an_advert_without_addresses_is_refused() {
    assert!(refused("addresses = []"));
    assert!(refused("addresses = [{ address = \"192.0.2.100/24\", advertise = false }]"));
}

/// What an advert cannot hold is on the host all the same.
#[test]
fn row_17_no_more_than_255_are_advertised() {
    let all: Vec<_> = (0..300).map(|n| format!("\"10.0.{}.{}/32\"", n / 200, n % 200)).collect();
    let mut rig = Rig::new(&format!("addresses = [{}]", all.join(", ")));
    rig.until_active();
    let packet = rig.packets(V4).swap_remove(0);
    assert_eq!((packet.bytes[3], packet.bytes.len()), (255, 8 + 4 * 255));
    assert_eq!(rig.addresses.len(), 300);
}

#[test]
fn row_17_an_unadvertised_address_is_only_configured() {
    let lines =
        "addresses = [\"192.0.2.100/24\", { address = \"192.0.2.101/24\", advertise = false }]";
    let mut rig = Rig::new(lines);
    // The peer's list is compared with what is advertised.
    rig.hear(&Packet::v3(HIGHER, 200));
    assert!(!rig.is("address-list-differs"));
    rig.until_active();
    let packet = rig.packets(V4).swap_remove(0);
    assert_eq!((packet.bytes[3], packet.bytes.len()), (1, 12));
    assert!(rig.addresses.contains(&ip("192.0.2.101")));
}

#[test]
fn rows_18_and_19_the_interval_has_twelve_bits() {
    assert_eq!(first("").bytes[4..6], [0, 10]);
    assert_eq!(first("interval = \"1s\"").bytes[4..6], [0, 100]);
    assert_eq!(first("interval = \"40950ms\"").bytes[4..6], [0x0f, 0xff]);
}

#[test]
fn row_19_other_intervals_are_refused() {
    for interval in ["0ms", "5ms", "15ms", "40960ms"] {
        assert!(refused(&format!("interval = \"{interval}\"")), "{interval}");
    }
}

#[test]
fn row_20_version_2_counts_whole_seconds() {
    assert_eq!(first(V2).bytes[4..6], [0, 1]);
    assert_eq!(first("version = 2\ninterval = \"255s\"").bytes[4..6], [0, 255]);
    for interval in ["100ms", "1500ms", "256s", "0s"] {
        assert!(refused(&format!("version = 2\ninterval = \"{interval}\"")), "{interval}");
    }
}

#[test]
fn row_21_the_ipv4_checksum_is_the_chosen_one() {
    assert_eq!(summed(&first("checksum = \"rfc9568\"")), Sum::Plain);
    assert_eq!(summed(&first("checksum = \"pseudo\"")), Sum::Pseudo);
}

#[test]
fn row_22_the_ipv6_checksum_has_a_pseudo_header() {
    assert_eq!(summed(&first(&only6())), Sum::Pseudo);
}

#[test]
fn row_23_the_version_2_checksum_covers_the_authentication_data() {
    let mut rig = Rig::with(parse(&file(V2)), Some(*b"vipd1234"));
    rig.until_active();
    let packet = rig.packets(V4).swap_remove(0);
    assert_eq!(packet.bytes[12..], *b"vipd1234");
    assert_eq!(summed(&packet), Sum::Plain);
    let mut cut = packet;
    cut.bytes.truncate(12);
    assert_eq!(summed(&cut), Sum::Wrong);
}

#[test]
fn rows_24_and_25_ipv6_lists_begin_link_local() {
    let packet = first(&both());
    assert_eq!((packet.bytes[3], packet.bytes.len()), (2, 40));
    let address = |at: usize| {
        let bytes: [u8; 16] = packet.bytes[at..at + 16].try_into().unwrap();
        IpAddr::from(bytes)
    };
    assert_eq!((address(8), address(24)), (ip(VIP6_LOCAL), ip(VIP6)));
}

/// The link-local address may be given; wherever it stands, it comes first.
#[test]
fn row_25_a_given_link_local_address_comes_first() {
    let packet = first("addresses = [\"2001:db8::100/64\", \"fe80::100/64\"]");
    assert_eq!(packet.bytes[8..10], [0xfe, 0x80]);
}

#[test]
fn row_26_the_order_is_that_of_the_file() {
    let packet = first("addresses = [\"192.0.2.200/24\", \"192.0.2.100/24\"]");
    assert_eq!(packet.bytes[8..12], v4("192.0.2.200"));
}

#[test]
fn row_27_without_a_password_the_authentication_data_is_zero() {
    let packet = first(V2);
    assert_eq!((packet.bytes.len(), packet.bytes[4]), (20, 0));
    assert_eq!(packet.bytes[12..], [0; 8]);
}

#[test]
fn row_28_a_password_makes_it_type_1() {
    let mut rig = Rig::with(parse(&file(V2)), config::password(b"secret\n").ok());
    rig.until_active();
    let packet = rig.packets(V4).swap_remove(0);
    assert_eq!((packet.bytes[4], &packet.bytes[12..]), (1, &b"secret\0\0"[..]));
    assert!(config::password(b"nine byte").is_err());
    assert!(refused("password-file = \"/etc/vipd/password\""), "version 3 has none");
}

#[test]
fn row_30_each_family_has_an_advert_of_its_own() {
    let mut rig = Rig::active(&both());
    rig.wait(ms(1000));
    let all = rig.take();
    let count = |of| {
        all.iter().filter(|d| matches!(d, Did::Advert { family, .. } if *family == of)).count()
    };
    assert_eq!((count(V4), count(V6)), (10, 10));
}

/// The two families share their fate, but not their timers' contents: each learns its own
/// interval and counts its own packets, and silence in one alone moves nothing.
#[test]
fn row_30_the_families_are_heard_apart() {
    let mut rig = Rig::new(&both());
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.word = 50));
    rig.hear(&Packet::v6(HIGHER6, 200).but(|p| p.word = 20));
    assert_eq!((rig.learned_ms(V4), rig.learned_ms(V6)), (500, 200));
    rig.hear(&Packet::v6(HIGHER6, 200).but(|p| p.hops = 1));
    assert_eq!((rig.counter(V4, "ip-ttl-errors"), rig.counter(V6, "ip-ttl-errors")), (0, 1));
    for _ in 0..20 {
        rig.wait(INTERVAL);
        rig.hear(&Packet::v6(HIGHER6, 200).but(|p| p.word = 20));
    }
    assert_eq!(rig.deeds(), []);
}

/// Whoever is better in one family gets both.
#[test]
fn row_30_a_loss_in_one_family_is_a_loss_in_both() {
    let mut rig = Rig::active(&both());
    rig.hear(&Packet::v6(HIGHER6, 101));
    assert_eq!(rig.role(), vipd::core::status::Role::Backup);
    assert!(rig.addresses.is_empty());
}

// ---- the checksum of version 3 over IPv4 ----

fn sums(rig: &mut Rig) -> Vec<Sum> {
    rig.packets(V4).iter().map(summed).collect()
}

#[test]
fn row_51_auto_sends_both_until_a_peer_is_heard() {
    let mut rig = Rig::new("");
    rig.until_active();
    rig.wait(INTERVAL);
    assert_eq!(sums(&mut rig), [Sum::Pseudo, Sum::Plain, Sum::Pseudo, Sum::Plain]);
}

#[test]
fn row_51_auto_sends_what_the_peer_sends() {
    for sum in [Sum::Plain, Sum::Pseudo] {
        let mut rig = Rig::new("");
        rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.sum = sum));
        rig.until_active();
        assert_eq!(sums(&mut rig), [sum]);
    }
}

/// A rejected packet teaches no form.
#[test]
fn row_51_auto_learns_nothing_from_a_rejected_packet() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.hops = 64));
    rig.until_active();
    assert_eq!(sums(&mut rig), [Sum::Pseudo, Sum::Plain]);
}

/// Another vipd that sends both has heard no peer either; a third router may need either form.
#[test]
fn row_51_auto_answers_both_with_both() {
    let mut rig = Rig::new("");
    for _ in 0..5 {
        rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.sum = Sum::Pseudo));
        rig.now += std::time::Duration::from_micros(20);
        rig.hear(&Packet::v3(HIGHER, 200));
        rig.wait(INTERVAL);
    }
    rig.until_active();
    assert_eq!(sums(&mut rig), [Sum::Pseudo, Sum::Plain]);
}

#[test]
fn row_52_the_form_follows_the_active_router() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200));
    rig.wait(INTERVAL);
    rig.hear(&Packet::v3(LOWER, 200).but(|p| p.sum = Sum::Pseudo));
    rig.until_active();
    assert_eq!(sums(&mut rig), [Sum::Pseudo]);
}

/// A chosen form is kept whatever the peers send.
#[test]
fn row_52_a_chosen_form_is_kept() {
    let mut rig = Rig::new("checksum = \"rfc9568\"");
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.sum = Sum::Pseudo));
    rig.until_active();
    assert_eq!(sums(&mut rig), [Sum::Plain]);
}

#[test]
fn row_53_unicast_is_summed_with_the_real_destination() {
    let mut rig = Rig::new("transport = \"unicast\"\nchecksum = \"pseudo\"");
    rig.until_active();
    let packets = rig.packets(V4);
    let to: Vec<_> = packets.iter().map(|p| p.dst).collect();
    assert_eq!(to, [ip(LOWER), ip(HIGHER)]);
    assert!(packets.iter().all(|p| summed(p) == Sum::Pseudo));
}
