//! What the packet filter does where the gate is not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use vipd::gate::Deny;

use super::frames::{Cable, VIP4, VIP6};
use super::namespace::{index, ip};

fn nft(arguments: &str) -> String {
    let output = Command::new("nft").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "nft {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A host with both addresses, and whether the far end of the cable reaches each.
fn host() -> (Cable, impl Fn(&Cable) -> [bool; 2]) {
    let cable = Cable::new();
    ip("addr add 192.0.2.9/24 dev v0");
    ip("-6 addr add 2001:db8::9/64 dev v0 nodad");
    cable.far.run(|| {
        ip("addr add 192.0.2.8/24 dev v1");
        ip("-6 addr add 2001:db8::8/64 dev v1 nodad");
    });
    let reaches = |cable: &Cable| {
        cable.far.run(|| {
            // What is in the table is not asked for, and answers.
            ip("neigh flush dev v1");
            ["192.0.2.9", "2001:db8::9"].map(|to| {
                let mut ping = Command::new("ping");
                ping.args(["-c1", "-W1", to]).output().unwrap().status.success()
            })
        })
    };
    (cable, reaches)
}

#[test]
fn an_interface_that_is_not_gated_has_no_virtual_address() {
    let (cable, reaches) = host();
    let addresses: BTreeSet<IpAddr> = [VIP4.into(), VIP6.into()].into();
    let mut deny = Deny::open("vipd-test").unwrap();
    assert!(!deny.is_there().unwrap());
    deny.set(&addresses, &[index("lo")].into()).unwrap();
    assert!(deny.is_there().unwrap());
    assert_eq!(reaches(&cable), [false, false]);
    let neighbours = cable.far.run(|| ip("neigh show dev v1"));
    assert!(!neighbours.contains("192.0.2.9 lladdr"), "{neighbours}");
    assert!(!neighbours.contains("2001:db8::9 lladdr"), "{neighbours}");

    deny.set(&addresses, &[index("lo"), cable.index].into()).unwrap();
    assert_eq!(reaches(&cable), [true, true], "{}", nft("list ruleset"));
    deny.set(&addresses, &BTreeSet::new()).unwrap();
    drop(deny);
    assert_eq!(reaches(&cable), [false, false], "nobody need be there for it");

    let mut again = Deny::open("vipd-test").unwrap();
    again.set(&[VIP6.into()].into(), &BTreeSet::new()).unwrap();
    assert_eq!(reaches(&cable), [true, false]);
    again.remove().unwrap();
    assert!(!again.is_there().unwrap());
    assert_eq!(reaches(&cable), [true, true]);
    assert_eq!(nft("list ruleset"), "");
}

#[test]
fn thousands_of_addresses_are_one_change() {
    let (cable, reaches) = host();
    let mut many: BTreeSet<IpAddr> =
        (0..5000_u32).map(|n| IpAddr::from((n | 10 << 24).to_be_bytes())).collect();
    many.extend((0..5000_u128).map(|n| IpAddr::from((n | 0xfd << 120).to_be_bytes())));
    many.extend([IpAddr::from(VIP4), VIP6.into()]);
    let mut deny = Deny::open("vipd-test").unwrap();
    deny.set(&many, &[cable.index].into()).unwrap();
    assert_eq!(reaches(&cable), [true, true]);
    deny.set(&many, &[index("lo")].into()).unwrap();
    assert_eq!(reaches(&cable), [false, false]);
    let listed = nft("list table inet vipd-test");
    assert!(listed.contains("10.0.19.135") && listed.contains("fd00::1387"));
}

#[test]
fn a_rule_that_others_flush_is_missed() {
    let _cable = Cable::new();
    let mut deny = Deny::open("vipd-test").unwrap();
    deny.set(&[VIP4.into()].into(), &BTreeSet::new()).unwrap();
    nft("flush ruleset");
    assert!(!deny.is_there().unwrap());
    deny.set(&[VIP4.into()].into(), &BTreeSet::new()).unwrap();
    assert!(deny.is_there().unwrap());
    let arp = nft("list table arp vipd-test");
    assert!(arp.contains("arp daddr ip @v4") && arp.contains("arp saddr ip @v4"), "{arp}");
}
