//! What is heard: RFC 9568 §7.1, and what version 2 adds.

use vipd::config::Config;
use vipd::core::event::Event;
use vipd::core::status::Role;

use super::rig::*;

/// Breaks one thing.
type Break = fn(&mut Packet);

/// The checks in their order: what breaks it, and the counter that must show it.
const CHECKS: [(Break, &str); 7] = [
    (|p| p.hops = 254, "ip-ttl-errors"),
    (|p| p.first = 0x41, "version-errors"),
    (|p| p.first = p.first & 0xf0 | 2, "invalid-type-errors"),
    (|p| p.count = Some(9), "packet-length-errors"),
    (|p| p.sum = Sum::Wrong, "checksum-errors"),
    (
        |p| {
            p.count = Some(0);
            p.addresses.clear();
        },
        "address-count-errors",
    ),
    (|p| p.word &= 0xff00, "interval-errors"),
];

const V2: &str = "version = 2";
const PASSWORD: [u8; 8] = *b"vipd1234";

fn with_password() -> Rig {
    let mut rig = Rig::with(parse(&file(V2)), Some(PASSWORD));
    rig.take();
    rig
}

fn unicast(lines: &str) -> Config {
    parse(&file(&format!("transport = \"unicast\"\n{lines}")))
}

fn to_me(packet: Packet) -> Packet {
    packet.but(|p| p.dst = ip(OWN))
}

/// One counter shows it, and neither state nor timer was touched: the takeover comes when it
/// would have come.
#[track_caller]
fn refused(rig: &mut Rig, packet: &Packet, counter: &str) {
    let family = vipd::types::Family::of(packet.src);
    let (role, due, was) = (rig.role(), rig.node.deadline(), heard(rig));
    rig.deeds();
    rig.hear(packet);
    assert_eq!(rig.errors(family), [(counter.to_owned(), 1)], "{packet:?}");
    assert_eq!((rig.role(), rig.deeds(), heard(rig)), (role, vec![], was));
    // The end of a second of dropped packets is the only new deadline there may be.
    let told = rig.now + std::time::Duration::from_secs(1);
    assert_eq!(rig.node.deadline(), due.map(|at| at.min(told)), "{packet:?}");
}

fn heard(rig: &Rig) -> Vec<Option<vipd::types::Instant>> {
    rig.group().elections.iter().map(|e| e.heard.as_ref().map(|h| h.at)).collect()
}

#[track_caller]
fn accepted(rig: &mut Rig, packet: &Packet) {
    let family = vipd::types::Family::of(packet.src);
    let before = rig.counter(family, "advertisements-received");
    rig.hear(packet);
    assert_eq!(rig.counter(family, "advertisements-received"), before + 1, "{packet:?}");
}

/// Each of the packets these tests break is good.
#[test]
fn rows_31_to_38_a_good_advert_passes_every_check() {
    accepted(&mut Rig::new(""), &Packet::v3(HIGHER, 200));
    accepted(&mut Rig::new(&only6()), &Packet::v6(HIGHER6, 200));
    accepted(&mut Rig::new(V2), &Packet::v2(HIGHER, 200));
}

#[test]
fn rows_31_to_38_each_check_refuses_and_counts() {
    for (break_it, counter) in CHECKS {
        refused(&mut Rig::new(""), &Packet::v3(HIGHER, 200).but(break_it), counter);
        refused(&mut Rig::new(&only6()), &Packet::v6(HIGHER6, 200).but(break_it), counter);
        refused(&mut Rig::new(V2), &Packet::v2(HIGHER, 200).but(break_it), counter);
    }
}

/// Whatever comes second is not counted: the checks are made in the order of the RFC.
#[test]
fn rows_31_to_38_of_two_faults_the_earlier_is_counted() {
    for (ix, (first, counter)) in CHECKS.into_iter().enumerate() {
        for (second, later) in CHECKS.into_iter().skip(ix + 1) {
            // Without addresses the count is right, so that the length is too.
            if counter == "packet-length-errors" && later == "address-count-errors" {
                continue;
            }
            let packet = Packet::v3(HIGHER, 200).but(second).but(|p| {
                let kind = p.first & 0x0f;
                first(p);
                if later == "invalid-type-errors" && counter == "version-errors" {
                    p.first = p.first & 0xf0 | kind;
                }
            });
            refused(&mut Rig::new(""), &packet, counter);
        }
    }
}

/// An Active router goes on advertising when it should: no junk restarts its timer.
#[test]
fn rows_31_to_38_junk_does_not_silence_an_active_router() {
    for (break_it, _) in CHECKS {
        let mut rig = Rig::active("");
        rig.wait(ms(1000));
        rig.take();
        for _ in 0..100 {
            rig.hear(&Packet::v3(HIGHER, 255).but(break_it));
            rig.wait(ms(10));
        }
        assert_eq!(rig.adverts(V4), [100; 10]);
    }
}

/// A Backup is not kept from taking over, nor brought to it, by junk.
#[test]
fn rows_31_to_38_junk_does_not_hold_off_a_takeover() {
    for (break_it, _) in CHECKS {
        let mut rig = Rig::new("");
        rig.hear(&Packet::v3(HIGHER, 200));
        let junk = [200, 0].map(|priority| Packet::v3(HIGHER, priority).but(break_it));
        assert_eq!(rig.active_despite(&junk, ms(1), ms(400)), ms(361));
    }
}

#[test]
fn row_31_hops_left_are_255_unless_a_peer_may_be_further() {
    let mut rig = Rig::of(unicast("min-ttl = 250"));
    accepted(&mut rig, &to_me(Packet::v3(HIGHER, 200)).but(|p| p.hops = 250));
    refused(&mut rig, &to_me(Packet::v3(HIGHER, 200)).but(|p| p.hops = 249), "ip-ttl-errors");
    let strict = to_me(Packet::v3(HIGHER, 200)).but(|p| p.hops = 254);
    refused(&mut Rig::of(unicast("")), &strict, "ip-ttl-errors");
}

#[test]
fn row_32_the_other_version_is_refused_and_named() {
    let mut rig = Rig::new("");
    refused(&mut rig, &Packet::v2(HIGHER, 200), "version-errors");
    assert!(rig.is("version-mismatch"));
    refused(&mut Rig::new(V2), &Packet::v3(HIGHER, 200), "version-errors");
}

#[test]
fn row_34_padding_is_tolerated_and_a_cut_is_not() {
    let mut rig = Rig::new("");
    accepted(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.pad = 14));
    refused(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.cut = Some(11)), "packet-length-errors");
    refused(
        &mut Rig::new(V2),
        &Packet::v2(HIGHER, 200).but(|p| p.cut = Some(19)),
        "packet-length-errors",
    );
    refused(
        &mut Rig::new(&only6()),
        &Packet::v6(HIGHER6, 200).but(|p| p.cut = Some(39)),
        "packet-length-errors",
    );
}

/// Nothing that is too short to name a virtual router belongs to one; nothing panics.
#[test]
fn row_34_the_shortest_packets_are_survived() {
    let mut rig = Rig::new("");
    for length in 0..8 {
        rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.cut = Some(length)));
    }
    assert_eq!(rig.errors(V4), [("packet-length-errors".to_owned(), 6)]);
    assert_eq!(rig.status().dropped, [("vrid-errors".to_owned(), 2)]);
}

#[test]
fn row_35_both_forms_of_the_ipv4_checksum_are_accepted() {
    for checksum in ["auto", "rfc9568", "pseudo"] {
        for sum in [Sum::Plain, Sum::Pseudo] {
            let mut rig = Rig::new(&format!("checksum = \"{checksum}\""));
            accepted(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.sum = sum));
        }
    }
}

/// Version 2 and IPv6 have one form each.
#[test]
fn row_35_the_other_form_is_refused_where_there_is_but_one() {
    let other = Packet::v2(HIGHER, 200).but(|p| p.sum = Sum::Pseudo);
    refused(&mut Rig::new(V2), &other, "checksum-errors");
    let other = Packet::v6(HIGHER6, 200).but(|p| p.sum = Sum::Plain);
    refused(&mut Rig::new(&only6()), &other, "checksum-errors");
}

#[test]
fn row_36_a_virtual_router_that_is_not_ours_is_counted_apart() {
    let mut rig = Rig::new("");
    for vrid in [0, 6, 8, 255] {
        rig.hear(&Packet::v3(HIGHER, 255).but(|p| p.vrid = vrid));
    }
    assert_eq!(rig.status().dropped, [("vrid-errors".to_owned(), 4)]);
    assert_eq!((rig.errors(V4), rig.until_active()), (vec![], DOWN));
}

/// The same VRID on two interfaces is two virtual routers.
#[test]
fn row_36_a_vrid_means_a_router_of_its_interface() {
    let text =
        file("") + &group("other", 7, "interface = \"eth1\"\naddresses = [\"198.51.100.9/24\"]");
    let mut rig = Rig::of(parse(&text));
    rig.wait(ms(300));
    rig.hear(&Packet::v3("198.51.100.1", 200).but(|p| p.port = ETH1));
    rig.wait(ms(100));
    let roles: Vec<_> = rig.status().groups.iter().map(|g| g.role).collect();
    assert_eq!(roles, [Role::Active, Role::Backup]);
    assert_eq!(rig.status().dropped, [("vrid-errors".to_owned(), 0)]);
}

/// A family the group has no addresses of is another virtual router.
#[test]
fn row_36_the_other_family_is_not_ours() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v6(HIGHER6, 255));
    assert_eq!(rig.status().dropped, [("vrid-errors".to_owned(), 1)]);
    assert_eq!(rig.until_active(), DOWN);
}

/// Taken for what it says, it would make a Backup Active within milliseconds.
#[test]
fn row_38_interval_0_teaches_nothing() {
    let mut rig = Rig::new("");
    refused(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.word = 0xf000), "interval-errors");
    assert_eq!(rig.learned_ms(V4), 100);
}

#[test]
fn row_39_a_first_address_that_is_not_link_local_is_only_told() {
    let mut rig = Rig::new(&only6());
    accepted(&mut rig, &Packet::v6(HIGHER6, 200));
    assert!(!rig.is("no-link-local-first"));
    accepted(&mut rig, &Packet::v6(HIGHER6, 200).but(|p| p.addresses.reverse()));
    assert!(rig.is("no-link-local-first"));
}

#[test]
fn row_40_the_reserve_nibble_is_ignored() {
    let mut rig = Rig::new("");
    accepted(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.word = 0xf064));
    assert_eq!(rig.learned_ms(V4), 1000);
}

/// The RFC as published discards it; erratum 8298 lets the election decide.
#[test]
fn row_41_an_owner_processes_what_it_hears() {
    let mut config = parse(&file(""));
    config.groups[0].priorities[0] = vipd::types::Priority::OWNER;
    let mut rig = Rig::of(config);
    rig.hear(&Packet::v3(LOWER, 255));
    assert_eq!((rig.role(), rig.is("two-owners")), (Role::Active, true));
    rig.hear(&Packet::v3(HIGHER, 255));
    assert_eq!(rig.role(), Role::Backup);
}

#[test]
fn row_42_another_interval_is_told_and_not_dropped() {
    let mut rig = Rig::new("");
    accepted(&mut rig, &Packet::v3(HIGHER, 200));
    assert!(!rig.is("interval-differs"));
    accepted(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.word = 20));
    assert!(rig.is("interval-differs"));
    assert_eq!(rig.errors(V4), [("interval-mismatches".to_owned(), 1)]);
}

#[test]
fn row_43_version_2_drops_another_interval() {
    let mut rig = Rig::new(V2);
    refused(&mut rig, &Packet::v2(HIGHER, 200).but(|p| p.word = 2), "interval-discards");
    assert!(rig.is("interval-mismatch"));
}

#[test]
fn row_44_another_list_of_addresses_is_told_and_not_dropped() {
    for (lines, packet) in [("", Packet::v3(HIGHER, 200)), (V2, Packet::v2(HIGHER, 200))] {
        let mut rig = Rig::new(lines);
        accepted(&mut rig, &packet);
        assert!(!rig.is("address-list-differs"));
        accepted(&mut rig, &packet.but(|p| p.addresses = vec![ip("192.0.2.101")]));
        assert!(rig.is("address-list-differs"));
        assert_eq!(rig.errors(V4), [("address-list-mismatches".to_owned(), 1)]);
    }
}

/// Another order is the same list; a part of it, or more, is not.
#[test]
fn row_44_the_order_of_the_list_does_not_matter() {
    let lines = format!("addresses = [\"{VIP}/24\", \"192.0.2.101/24\"]");
    let lists = [(vec![VIP, "192.0.2.101"], 0), (vec!["192.0.2.101", VIP], 0), (vec![VIP], 1)];
    for (list, mismatches) in lists {
        let mut rig = Rig::new(&lines);
        let list: Vec<_> = list.into_iter().map(ip).collect();
        accepted(&mut rig, &Packet::v3(HIGHER, 200).but(|p| p.addresses = list));
        assert_eq!(rig.counter(V4, "address-list-mismatches"), mismatches);
    }
}

#[test]
fn row_45_the_authentication_type_is_the_configured_one() {
    let pass = Packet::v2(HIGHER, 200).but(|p| (p.word, p.auth) = (0x0101, Some(PASSWORD)));
    accepted(&mut with_password(), &pass);
    refused(&mut with_password(), &Packet::v2(HIGHER, 200), "auth-type-errors");
    let ah = pass.clone().but(|p| p.word = 0x0201);
    refused(&mut with_password(), &ah, "auth-type-errors");
    refused(&mut Rig::new(V2), &pass, "auth-type-errors");
    refused(&mut Rig::new(V2), &ah, "auth-type-errors");
}

#[test]
fn row_45_the_password_is_the_configured_one() {
    for at in [0, 7] {
        let mut rig = with_password();
        let wrong = Packet::v2(HIGHER, 200).but(|p| {
            let mut password = PASSWORD;
            password[at] ^= 1;
            (p.word, p.auth) = (0x0101, Some(password));
        });
        refused(&mut rig, &wrong, "auth-errors");
        assert!(rig.is("auth-mismatch"));
    }
}

/// The first at once, then their number after one second, after two more, after four.
#[test]
fn row_46_lines_about_dropped_packets_are_limited() {
    let mut rig = Rig::active("");
    for _ in 0..8000 {
        rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.hops = 1));
        rig.wait(ms(1));
    }
    let lines: Vec<_> = rig
        .take()
        .into_iter()
        .filter_map(|d| match d {
            Did::Note(kind, text) if kind == "packets-dropped" => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let ttl = "TTL 1, expected at least 255: not from this link";
    assert_eq!(
        lines[0],
        format!("dropped 1 VRRP packet(s) for VRID 7; last from hap3 ({HIGHER}): {ttl}")
    );
    assert!(lines[1].starts_with("dropped 999 "), "{}", lines[1]);
    assert!(lines[3].starts_with("dropped 4000 "), "{}", lines[3]);
}

/// No error: a counter of its own, a named state, and nothing else happens.
#[test]
fn row_48_a_packet_from_our_own_address_is_a_second_vipd() {
    for start in [Rig::new, Rig::active] {
        let mut rig = start("");
        assert!(!rig.is("duplicate-node"));
        refused(&mut rig, &Packet::v3(OWN, 255), "own-source-packets");
        assert!(rig.is("duplicate-node"));
    }
}

#[test]
fn row_49_unicast_and_multicast_do_not_mix() {
    refused(&mut Rig::new(""), &to_me(Packet::v3(HIGHER, 200)), "transport-errors");
    let mut rig = Rig::of(unicast(""));
    refused(&mut rig, &Packet::v3(HIGHER, 200), "transport-errors");
    assert!(rig.is("transport-mismatch"));
}

#[test]
fn row_49_unicast_adverts_are_accepted_from_configured_peers_only() {
    let mut rig = Rig::of(unicast("routers = [{ address = \"192.0.2.40\" }]"));
    for peer in [LOWER, HIGHER, "192.0.2.40"] {
        accepted(&mut rig, &to_me(Packet::v3(peer, 200)));
    }
    refused(&mut rig, &to_me(Packet::v3("192.0.2.41", 255)), "transport-errors");
    assert!(rig.is("stranger"));
}

/// Every length and every value of every byte: one answer or another, and no panic.
#[test]
fn row_50_no_bytes_make_the_core_panic() {
    let mut rig = Rig::new(&both());
    let mut random = 7_u64;
    for round in 0..20_000 {
        let packet = if round % 2 == 0 { Packet::v3(HIGHER, 9) } else { Packet::v6(HIGHER6, 9) };
        let mut bytes = packet.bytes();
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let [a, b, c, ..] = random.to_be_bytes();
            let length = bytes.len().max(1);
            match a % 3 {
                0 => bytes.truncate(usize::from(b) % length),
                1 => bytes.resize(usize::from(b), c),
                _ => {
                    if let Some(byte) = bytes.get_mut(usize::from(b) % length) {
                        *byte = c;
                    }
                }
            }
        }
        let meta = packet.meta();
        rig.step(Event::Datagram { ifindex: ETH0, meta, bytes: &bytes });
    }
    assert!(rig.node.deadline().is_some());
}

#[test]
fn row_104_there_is_one_version_to_a_group() {
    let mut rig = Rig::active(V2);
    rig.wait(ms(5000));
    assert!(rig.packets(V4).iter().all(|p| p.bytes[0] == 0x21));
}
