//! The majority lease: its defaults, who votes, and what all voters must have alike.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use vipd::config::{Config, HostError, Lease, Member, Safety, parse, render};
use vipd::types::{Centis, Digest, VoterIx};

/// Two nodes with two networks, a witness, a group of each kind.
const FILE: &str = r#"
[cluster]
name = "lb"
secret = "/etc/vipd/secret"

[[node]]
name = "hap1"
address = "192.168.34.132"
paths = ["10.0.0.132"]

[[node]]
name = "hap2"
address = "192.168.34.133"
paths = ["10.0.0.133"]

[[witness]]
name = "tie.example.com"
address = "192.168.34.140"

[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24", "192.168.34.95/24"]

[[group]]
name = "stats"
vrid = 86
safety = "vrrp"
addresses = ["192.168.34.86/24"]
"#;

fn good(text: &str) -> Config {
    match parse(text) {
        Ok((config, _)) => config,
        Err(errors) => panic!("{}", render(&errors, "x", text, false)),
    }
}

fn with(from: &str, to: &str) -> Config {
    assert!(FILE.contains(from), "{from}");
    good(&FILE.replacen(from, to, 1))
}

fn safety(nodes: usize, witnesses: usize, group: &str) -> Option<Safety> {
    let mut text = "[cluster]\nname = \"lb\"\nsecret = \"/s\"\n".to_owned();
    let all = (0..nodes).map(|_| "node").chain((0..witnesses).map(|_| "witness"));
    for (n, kind) in (100..).zip(all) {
        let lines = [
            format!("[[{kind}]]"),
            format!("name = \"h{n}\""),
            format!("address = \"10.0.0.{n}\""),
        ];
        text += &(lines.join("\n") + "\n");
    }
    text += "[[group]]\nname = \"g\"\nvrid = 1\naddresses = [\"10.0.0.1/24\"]\n";
    Some(parse(&(text + group)).ok()?.0.groups[0].safety)
}

#[test]
fn the_defaults() {
    let config = good(FILE);
    assert_eq!(config.secret.as_deref(), Some(Path::new("/etc/vipd/secret")));
    assert_eq!(config.port, 8112);
    assert_eq!(config.lease, Lease::of(Duration::from_millis(220)));
    assert!(config.needs_lease());
    let longer = with("name = \"lb\"", "name = \"lb\"\nlease = \"1.5s\"\nport = 1");
    assert_eq!((longer.lease.term, longer.port), (Duration::from_millis(1500), 1));
    assert_eq!(longer.lease.renew, Duration::from_millis(375));
}

#[test]
fn three_voters_have_a_lease_unless_they_say_otherwise() {
    let router = "routers = [{ address = \"10.0.0.2\" }]";
    let (vrrp, lease) = (Some(Safety::Vrrp), Some(Safety::Lease));
    for (nodes, witnesses, group, expected) in [
        (1, 0, "", vrrp),
        (2, 0, "", vrrp),
        (3, 0, "", lease),
        (16, 0, "", lease),
        (2, 1, "", lease),
        (3, 2, "", lease),
        (3, 0, router, vrrp),
        (2, 1, router, vrrp),
        (3, 0, "safety = \"vrrp\"", vrrp),
        (3, 0, "safety = \"lease\"", lease),
        (3, 0, "version = 2\nsafety = \"lease\"", lease),
        (2, 0, "safety = \"lease\"", None),
        (1, 1, "safety = \"lease\"", None),
        (1, 0, "safety = \"lease\"", None),
        (10, 7, "safety = \"vrrp\"", None),
    ] {
        assert_eq!(safety(nodes, witnesses, group), expected, "{nodes} {witnesses} {group}");
    }
}

#[test]
fn the_voters_are_the_nodes_then_the_witnesses() {
    let config = good(FILE);
    let names: Vec<_> = config.voters().map(|v| (v.name, v.witness)).collect();
    assert_eq!(names, [("hap1", false), ("hap2", false), ("tie.example.com", true)]);
    let first: Vec<_> = config.voters().next().unwrap().addresses().collect();
    assert_eq!(first, ["192.168.34.132", "10.0.0.132"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!(config.majority(), 2);
    assert_eq!(config.find("HAP2.example.org"), Ok(Member::Node(1)));
    assert_eq!(config.find("tie"), Ok(Member::Witness(0)));
    assert_eq!(config.voter_ix(Member::Node(1)), VoterIx(1));
    assert_eq!(config.voter_ix(Member::Witness(0)), VoterIx(2));
}

#[test]
fn a_host_is_started_as_what_it_is() {
    let config = good(FILE);
    assert_eq!((config.validate_for("hap1"), config.validate_witness("tie")), (Ok(0), Ok(0)));
    assert_eq!(config.find_node("tie"), None);
    let said = |result: Result<usize, HostError>| result.unwrap_err().to_string();
    assert_eq!(
        said(config.validate_for("tie")),
        "`tie` is a [[witness]], which votes and never holds an address: start `vipd --witness` on \
         this host, or make it a [[node]]"
    );
    assert_eq!(
        said(config.validate_witness("hap1")),
        "`hap1` is a [[node]], which votes by itself: start vipd without --witness on this host, \
         or make it a [[witness]]"
    );
    assert_eq!(
        said(config.validate_witness("tie2")),
        "no [[witness]] is named `tie2`, the name of this host; the file has tie.example.com"
    );
    assert_eq!(
        said(config.find("hap3").map(|_| 0)),
        "no [[node]] or [[witness]] is named `hap3`, the name of this host; the file has hap1, \
         hap2, tie.example.com (did you mean `hap1`?)"
    );
    let alone =
        FILE.replace("[[witness]]\nname = \"tie.example.com\"", "[[node]]\nname = \"hap3\"");
    assert_eq!(
        said(good(&alone).validate_witness("tie")),
        "no [[witness]] is named `tie`, the name of this host; the file has none"
    );
}

/// Everything that decides who may serve what, and the part of the digest that it is in.
#[test]
fn what_decides_who_serves_changes_the_digest() {
    let was = good(FILE);
    for (from, to, parts) in [
        ("name = \"lb\"", "name = \"lb2\"", &["cluster"][..]),
        ("name = \"lb\"", "name = \"lb\"\nlease = \"221ms\"", &["terms"]),
        ("name = \"hap2\"", "name = \"hap9\"", &["voters"]),
        ("\"192.168.34.133\"", "\"192.168.34.134\"", &["voters"]),
        ("\"10.0.0.133\"", "\"10.0.0.134\"", &["voters"]),
        ("[[witness]]", "[[node]]", &["voters"]),
        ("\"192.168.34.140\"", "\"192.168.34.140\"\npaths = [\"10.0.0.140\"]", &["voters"]),
        ("\"192.168.34.95/24\"", "\"192.168.34.96/24\"", &["group postgres"]),
        (", \"192.168.34.95/24\"", "", &["group postgres"]),
        ("addresses = [\"192.168.34.86/24\"", "addresses = [\"2001:db8::86/64\"", &["group stats"]),
        ("safety = \"vrrp\"", "", &["group stats"]),
        ("name = \"stats\"", "name = \"stat\"", &["groups", "group stats", "group stat"]),
        ("vrid = 86\nsafety", "vrid = 86\npreempt = true\nsafety", &[]),
    ] {
        let is = with(from, to);
        assert_eq!(is.digest() == was.digest(), parts.is_empty(), "{from} -> {to}");
        assert_eq!(differ(&was, &is), parts, "{from} -> {to}");
    }
    let (head, groups) = FILE.split_once("[[group]]").unwrap();
    let (one, two) = groups.split_once("[[group]]").unwrap();
    let turned = good(&format!("{head}[[group]]{two}[[group]]{one}"));
    assert_ne!(turned.digest(), was.digest());
    assert_eq!(differ(&was, &turned), ["groups"]);
}

/// The names of the parts that are not in both, or not alike.
fn differ(a: &Config, b: &Config) -> Vec<String> {
    let (a, b) = (a.parts(), b.parts());
    let only = |of: &[(String, Digest)], other: &[(String, Digest)]| {
        of.iter().filter(|p| !other.contains(p)).map(|(n, _)| n.clone()).collect::<Vec<_>>()
    };
    let mut all = only(&a, &b);
    all.extend(only(&b, &a).into_iter().filter(|n| !all.contains(n)).collect::<Vec<_>>());
    all
}

/// Recorded: another encoding would make two releases refuse each other's votes.
#[test]
fn the_digest_is_the_same_in_every_release() {
    assert_eq!(format!("{:032x}", good(FILE).digest().0), "d3de269b937a8504c798e2dd8f7718f6");
    assert_eq!(good(FILE).parts().len(), 6);
}

/// Lines that do not matter to who may serve what, each with where it goes.
const QUIET: &[(&str, &str)] = &[
    ("name = \"lb\"", "port = 9000"),
    ("secret = ", "# a comment"),
    ("address = \"192.168.34.132\"", "priority = 33"),
    ("address = \"192.168.34.133\"", "address6 = \"2001:db8::133\""),
    ("vrid = 85", "interval = \"1s\""),
    ("vrid = 85", "preempt = true"),
    ("vrid = 85", "priorities = { hap2 = 200 }"),
    ("vrid = 85", "interface = \"eth7\""),
    ("vrid = 85", "transport = \"unicast\""),
    ("vrid = 85", "start-delay = \"3s\""),
    ("vrid = 85", "restore-limit = 3"),
    ("vrid = 85", "safety = \"lease\""),
    ("vrid = 85", "checksum = \"pseudo\""),
    ("vrid = 85", "announce = { refresh = \"never\" }"),
    ("vrid = 85", "proxy = { unit = \"haproxy.service\" }"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_does_not_matter_changes_no_part(
        chosen in proptest::sample::subsequence(QUIET, 0..=QUIET.len()),
        prefix in 8_u8..=31,
        label in any::<bool>(),
        turned in any::<bool>(),
    ) {
        let mut text = FILE.to_owned();
        for (after, line) in chosen {
            let at = text.find(after).unwrap();
            let end = at + text[at..].find('\n').unwrap();
            text.insert_str(end, &format!("\n{line}"));
        }
        let quiet = format!("{{ address = \"192.168.34.95/{prefix}\", advertise = false }}");
        let label_of = quiet.replace(" }", ", interface = \"eth1\", label = \"eth1:v\" }");
        let ours = ["\"192.168.34.85/24\"", if label { &label_of } else { &quiet }];
        let list = if turned { [ours[1], ours[0]] } else { ours }.join(", ");
        text = text.replace("\"192.168.34.85/24\", \"192.168.34.95/24\"", &list);
        // A prefix may make the address that of its subnet.
        if let Ok((config, _)) = parse(&text) {
            prop_assert_eq!(config.parts(), good(FILE).parts());
            prop_assert_eq!(config.digest(), good(FILE).digest());
        } else {
            prop_assert!(prefix > 26, "{}", text);
        }
    }

    #[test]
    fn names_do_not_run_into_each_other(a in "[a-z]{1,4}", b in "[a-z]{1,4}", c in "[a-z]{1,4}") {
        let both = format!("{a}{b}");
        prop_assume!(a != b && b != c && a != c && both != c);
        let named = |x: &str, y: &str| {
            good(&FILE.replace("\"postgres\"", &format!("\"{x}\"")).replace("\"stats\"", &format!("\"{y}\"")))
        };
        let all = [named(&a, &b), named(&b, &a), named(&a, &c), named(&both, &c)];
        let digests: BTreeSet<_> = all.iter().map(Config::digest).collect();
        prop_assert_eq!(digests.len(), 4);
    }
}

#[test]
fn adverts_that_nobody_follows_are_fewer() {
    let config = good(FILE);
    let [leased, plain] = config.groups.as_slice() else { panic!("{config:?}") };
    assert_eq!((leased.interval, plain.interval), (Centis::LEASED_V3, Centis::DEFAULT_V3));
}

#[test]
fn the_meaning() {
    let meaning = good(FILE).meaning().join("\n");
    let expected = "\
cluster lb: hap1, hap2

lease: 2 of 3 voters must agree, so 1 may fail
  voters        hap1, hap2, tie.example.com (a witness)
  renewal       every 55ms; 2 in a row may be lost
  term          a holder serves at most 220ms after it asked for its last renewal
  vote          lasts 240.461ms

group postgres: virtual router 85, version 3, an advert every 1s by multicast
  preferred     hap1 (150), then hap2 (140)
  preemption    off: a healthy holder keeps the addresses
  addresses     192.168.34.85/24 on the interface of the node's address
                192.168.34.95/24 on the interface of the node's address
  safety        lease: nobody holds whom a majority of the voters does not let
  failover      a dead holder is replaced about 213 ms after it died; a planned move takes milliseconds
";
    assert!(meaning.starts_with(expected), "{meaning}");
}
