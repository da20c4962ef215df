//! What good files mean.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use vipd::config::{Config, ProxyKind, Severity, Transport, lint, parse, render};
use vipd::types::{Centis, Family, Priority, Version};

/// A file of three nodes and one group, which goes on with `group`.
fn file(group: &str) -> String {
    let mut text = "[cluster]\nname = \"lb\"\n".to_owned();
    for (name, last) in [("hap1", 132), ("hap2", 133), ("hap3", 134)] {
        let lines = [
            "[[node]]",
            &format!("name = \"{name}\""),
            &format!("address = \"192.168.34.{last}\""),
        ];
        text += &(lines.join("\n") + "\n");
    }
    text + "[[group]]\nname = \"g\"\nvrid = 85\nsafety = \"vrrp\"\n" + group
}

pub(crate) fn good(text: &str) -> Config {
    match parse(text) {
        Ok((config, warnings)) => {
            assert!(warnings.is_empty(), "{}", render(&warnings, "x", text, false));
            config
        }
        Err(errors) => panic!("{}", render(&errors, "x", text, false)),
    }
}

fn refused(text: &str) -> bool {
    parse(text).is_err()
}

#[test]
fn the_defaults() {
    let config = good(&file("addresses = [\"192.168.34.85/24\"]"));
    let g = &config.groups[0];
    assert_eq!(g.priorities, [Priority(150), Priority(140), Priority(130)]);
    assert_eq!((g.version, g.interval), (Version::V3, Centis::DEFAULT_V3));
    assert!(!g.preempt);
    assert_eq!(g.transport, Transport::Multicast);
    assert_eq!(g.announce.refresh, Some(Duration::from_mins(1)));
    assert_eq!(g.restore_limit, 10);
    assert_eq!(g.proxy, None);
    let two = good(&file("version = 2\naddresses = [\"192.168.34.85/24\"]"));
    assert_eq!(two.groups[0].interval, Centis::DEFAULT_V2);
}

#[test]
fn intervals() {
    for (version, ok) in [(3, "10ms"), (3, "40.95s"), (3, "1s"), (2, "1s"), (2, "255s")] {
        let text = file(&format!(
            "version = {version}\ninterval = \"{ok}\"\naddresses = [\"192.168.34.85/24\"]"
        ));
        assert!(!refused(&text), "{version} {ok}");
    }
    let bad = [
        (3, "0s"),
        (3, "0ms"),
        (3, "15ms"),
        (3, "40.96s"),
        (3, "41s"),
        (3, "10.5ms"),
        (2, "0s"),
        (2, "100ms"),
        (2, "1.5s"),
        (2, "256s"),
    ];
    for (version, bad) in bad {
        let text = file(&format!(
            "version = {version}\ninterval = \"{bad}\"\naddresses = [\"192.168.34.85/24\"]"
        ));
        assert!(refused(&text), "{version} {bad}");
    }
}

/// RFC 9568 §5.2.3, §5.2.4.
#[test]
fn vrids_and_priorities_are_in_range() {
    for (vrid, ok) in [(0, false), (1, true), (255, true), (256, false), (-1, false)] {
        let text = file("addresses = [\"192.168.34.85/24\"]");
        let text = text.replace("vrid = 85", &format!("vrid = {vrid}"));
        assert_eq!(!refused(&text), ok, "{vrid}");
        let text = file("addresses = [\"192.168.34.85/24\"]");
        let text = text.replace("[[group]]", &format!("priority = {vrid}\n[[group]]"));
        assert_eq!(!refused(&text), ok, "{vrid}");
    }
}

#[test]
fn the_link_local_address_comes_first() {
    let config = good(&file("addresses = [\"192.168.34.85/24\", \"2001:db8::85/64\"]"));
    let g = &config.groups[0];
    assert_eq!(g.addresses[0].ip, "fe80::200:5eff:fe00:255".parse::<IpAddr>().unwrap());
    assert!(g.addresses[0].derived && g.addresses[0].prefix == 64);
    assert!(g.families().eq([Family::V4, Family::V6]));
    let given = good(&file("addresses = [\"2001:db8::85/64\"]\nlink-local = \"fe80::85\""));
    assert_eq!(given.groups[0].addresses[0].ip, "fe80::85".parse::<IpAddr>().unwrap());
    assert!(!given.groups[0].addresses[0].derived);
    let listed = good(&file("addresses = [\"2001:db8::85/64\", \"fe80::86/64\"]"));
    assert_eq!(listed.groups[0].addresses.len(), 2);
    assert_eq!(listed.groups[0].addresses[0].ip, "fe80::86".parse::<IpAddr>().unwrap());
}

#[test]
fn what_an_advert_cannot_hold_is_unadvertised() {
    let many: Vec<_> =
        (0..300).map(|n| format!("\"10.1.{}.{}/32\"", n / 100, n % 100 + 1)).collect();
    let config = good(&file(&format!("addresses = [{}]", many.join(","))));
    let carried = config.groups[0].addresses.iter().filter(|a| a.advertise).count();
    assert_eq!((config.groups[0].addresses.len(), carried), (300, 255));
    assert!(config.meaning().iter().any(|l| l.contains("45 of IPv4 are not carried")));
}

#[test]
fn a_host_finds_itself() {
    let text = file("addresses = [\"192.168.34.85/24\"]").replace("hap3", "hap3.example.com");
    let config = good(&text);
    assert_eq!(config.find_node("hap1"), Some(0));
    assert_eq!(config.find_node("HAP2.example.com"), Some(1));
    assert_eq!(config.find_node("hap3"), Some(2));
    assert_eq!(config.find_node("hap3.example.org"), None);
    assert_eq!(
        config.validate_for("hap4").unwrap_err().to_string(),
        "no [[node]] is named `hap4`, the name of this host; the file has hap1, hap2, \
         hap3.example.com (did you mean `hap1`?)"
    );
    let text = text.replace("hap1", "hap3.example.org");
    assert_eq!(good(&text).find_node("hap3"), None);
    assert_eq!(good(&text).find_node("hap3.example.org"), Some(0));
}

#[test]
fn the_proxy() {
    let base = "addresses = [\"192.168.34.85/24\"]\n[group.proxy]\n";
    let config = good(&file(&format!("{base}unit = \"haproxy.service\"")));
    let proxy = config.groups[0].proxy.as_ref().unwrap();
    assert_eq!(proxy.what, ProxyKind::Unit("haproxy.service".to_owned()));
    let cfg = Path::new("/etc/haproxy/haproxy.cfg");
    let vip: IpAddr = "192.168.34.85".parse().unwrap();
    assert_eq!(config.proxy_files(), [(cfg, vec![vip])]);
    let config = good(&file(&format!("{base}unit = \"haproxy.service\"\nrun = \"active\"")));
    assert_eq!(config.proxy_files(), []);
    let config =
        good(&file(&format!("{base}command = [\"/usr/sbin/haproxy\", \"-db\", \"-f\", \"/a\"]")));
    assert_eq!(config.groups[0].proxy.as_ref().unwrap().config.as_deref(), Some(Path::new("/a")));
}

#[test]
fn the_lint_of_a_proxy_looks_like_the_check() {
    let cfg = "frontend write\n    mode tcp\n    bind 192.168.34.85:5000\n";
    let found = lint::haproxy(cfg, &["192.168.34.85".parse().unwrap()]);
    assert_eq!(found[0].severity, Severity::Warning);
    let said = render(&found, "/etc/haproxy/haproxy.cfg", cfg, false);
    assert!(said.contains("/etc/haproxy/haproxy.cfg:3:10"), "{said}");
    assert!(found.iter().all(|d| d.severity == Severity::Warning));
}

#[test]
fn the_meaning() {
    let text = file("addresses = [\"192.168.34.85/24\"]\nproxy = { unit = \"haproxy.service\" }");
    let meaning = good(&text).meaning().join("\n");
    let expected = "\
cluster lb: hap1, hap2, hap3

group g: virtual router 85, version 3, an advert every 100ms by multicast
  preferred     hap1 (150), then hap2 (140), then hap3 (130)
  preemption    off: a healthy holder keeps the addresses
  addresses     192.168.34.85/24 on the interface of the node's address
  safety        vrrp: as safe as VRRP, so a cut network gives two holders
  failover      a dead holder is replaced 346 ms after its last advert; a planned move takes milliseconds
  proxy         haproxy.service on every node; the addresses move after 3 failures within 10m";
    assert_eq!(meaning, expected);
}

#[test]
fn one_run_tells_everything() {
    let text = file("adresses = []\ninterval = 5\npreempt = \"yes\"\nvrid2 = 3");
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.len(), 4, "{}", render(&errors, "x", &text, false));
    assert!(errors.windows(2).all(|w| w[0].span.start <= w[1].span.start));
}

#[test]
fn a_secret_is_not_shown() {
    let text = file("addresses = [\"192.168.34.85/24\"]\npassword = \"hunter2\"");
    let said = render(&parse(&text).unwrap_err(), "x", &text, false);
    assert!(!said.contains("hunter2"), "{said}");
    for key in ["password-file", "secret", "passwort"] {
        let text = text.replace("password", key);
        let said = render(&parse(&text).unwrap_err(), "x", &text, false);
        assert!(!said.contains("hunter2"), "{said}");
    }
}
