//! The virtual addresses in the kernel: there, as configured, on one host, and nowhere else.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netns_tests::cluster::{Cluster, Event, NODES, events, wait_event};
use netns_tests::peer::vipd::Vipd;
use netns_tests::{Capture, Frame, Host, Injector, Result, Stamp, hex, pause, run};
use serde_json::Value;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "postgres";
/// What a group of [`ONE`] holds.
const VIP: &str = "192.168.34.85";
const ONE: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24"]
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Deletes `address` by hand; how long it was gone.
fn delete(cluster: &Cluster, address: &str) -> Result<Duration> {
    let (vip, _) = address.split_once('/').expect("a prefix length");
    let at = Stamp::now();
    cluster.hap1.ip(&format!("addr del {address} dev eth0\n"))?;
    let gone = cluster.watch.wait_event(ip(vip), false, at, SECOND)?;
    let back = cluster.watch.wait_event(ip(vip), true, gone.at, 2 * SECOND)?;
    Ok(back.at.since(gone.at))
}

#[test]
fn a_deleted_address_is_back_at_once_and_the_others_are_left_alone() -> Result {
    let cluster = Cluster::new("one-of-three")?;
    let group = r#"
        [[group]]
        name = "postgres"
        vrid = 85
        addresses = ["192.168.34.85/24", "192.168.34.86/24", "192.168.34.87/24",
                     "fd00:34::85/64", "fd00:34::86/64", "fd00:34::87/64"]
    "#;
    let (one, two) = cluster.start(group, GROUP)?;
    cluster.watch.wait_holders(ip("fd00:34::87"), &["hap1"], SECOND)?;
    pause(100 * MS);
    let from = Stamp::now();
    for address in ["192.168.34.86/24", "fd00:34::86/64"] {
        // A machine that stalls may miss it; one that is just slow may not miss it each time.
        let mut gaps = Vec::new();
        while gaps.len() < 3 && gaps.iter().all(|gap| *gap >= 50 * MS) {
            gaps.push(delete(&cluster, address)?);
        }
        println!("{address} was gone for {gaps:?}");
        assert!(gaps.iter().any(|gap| *gap < 50 * MS), "{address}: {gaps:?}");
    }
    pause(300 * MS);
    let others: Vec<_> = cluster
        .watch
        .events()
        .into_iter()
        .filter(|e| e.at > from && ![ip("192.168.34.86"), ip("fd00:34::86")].contains(&e.ip))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    for vip in ["192.168.34.86", "fd00:34::86"] {
        wait_event(&one, "address-restored", vip, SECOND)?;
        assert!(cluster.hap1.has(ip(vip))?);
    }
    assert_eq!((one.role(GROUP)?, two.role(GROUP)?), ("active".to_owned(), "backup".to_owned()));
    let kinds = |vipd| -> Result<Vec<Event>> {
        Ok(events(vipd)?.into_iter().filter(|e| e.kind == "active").collect())
    };
    assert_eq!((kinds(&one)?.len(), kinds(&two)?.len()), (1, 0));
    Ok(())
}

/// Deletes the address on `host` each time it is there, until it stays away.
fn contend(host: &Host) -> Result<u32> {
    let mut deleted = 0;
    let mut absent = 0;
    while absent < 20 {
        if host.has(ip(VIP))? {
            // It may go between the look and the deletion.
            let del = host.run(&["ip", "addr", "del", "192.168.34.85/24", "dev", "eth0"])?;
            deleted += u32::from(del.status.success());
            absent = 0;
        } else {
            absent += 1;
        }
        pause(5 * MS);
    }
    Ok(deleted)
}

#[test]
fn a_holder_whose_address_is_deleted_again_and_again_gives_way() -> Result {
    let cluster = Cluster::new("contended")?;
    let (one, mut two) = cluster.start(&format!("{ONE}restore-limit = 3\n"), GROUP)?;
    let deleted = contend(&cluster.hap1)?;
    println!("deleted {deleted} times");
    assert!(deleted > 3, "{deleted}");
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    cluster.watch.wait_holders(ip(VIP), &["hap2"], SECOND)?;
    wait_event(&one, "address-contended", VIP, SECOND)?;
    assert_eq!(cluster.watch.two_holders(ip(VIP)), []);
    pause(SECOND);
    assert_eq!(one.role(GROUP)?, "backup");
    Ok(())
}

#[test]
fn where_nobody_else_is_left_a_contended_address_is_put_back_all_the_same() -> Result {
    let cluster = Cluster::new("contended-alone")?;
    let config = format!("{NODES}{ONE}restore-limit = 3\n");
    let mut one = Vipd::start(&cluster.hap1, &config)?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    contend(&cluster.hap1)?;
    wait_event(&one, "address-contended", VIP, SECOND)?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    cluster.watch.wait_holders(ip(VIP), &["hap1"], 3 * SECOND)?;
    Ok(())
}

/// What `ip` says of an address of a host.
fn described(host: &Host, vip: &str) -> Result<(String, Value)> {
    let text = run::stdout(&["ip", "-n", host.namespace(), "-j", "-d", "addr"])?;
    let links: Value = serde_json::from_str(&text).expect("JSON");
    let all = links.as_array().cloned().unwrap_or_default();
    let found = all.iter().find_map(|link| {
        let address = link["addr_info"].as_array()?.iter().find(|a| a["local"] == vip)?;
        Some((link["ifname"].as_str()?.to_owned(), address.clone()))
    });
    Ok(found.unwrap_or_else(|| panic!("{vip} is not there: {text}")))
}

#[test]
fn addresses_are_as_configured() -> Result {
    let cluster = Cluster::new("configured")?;
    cluster.hap1.plug("eth1", "back", &["10.0.0.1/24"])?;
    // Where duplicate addresses are looked for, the addresses of a holder are usable at once.
    for nic in ["eth0", "eth1"] {
        cluster.hap1.sysctl(&format!("net/ipv6/conf/{nic}/accept_dad"), "1")?;
    }
    cluster.hap1.sysctl("net/ipv6/conf/all/accept_dad", "1")?;
    let adverts = Capture::start(&cluster.client, "eth0", Frame::is_vrrp)?;
    let group = r#"
        [[group]]
        name = "postgres"
        vrid = 85
        addresses = [
            { address = "192.168.34.85/25", label = "eth0:vip" },
            { address = "10.0.0.85/32", interface = "eth1" },
            "fd00:34::85/64",
            { address = "fd00:34::86/128", preferred = true },
        ]
    "#;
    let from = Stamp::now();
    let mut one = Vipd::start(&cluster.hap1, &format!("{NODES}{group}"))?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    let link_local = "fe80::200:5eff:fe00:255";
    let all = ["192.168.34.85", "10.0.0.85", "fd00:34::85", "fd00:34::86", link_local].map(ip);
    for vip in all {
        let added = cluster.watch.wait_event(vip, true, from, SECOND)?;
        assert_eq!(added.mark, b'V', "{vip}");
    }
    let of = |vip: &str| described(&cluster.hap1, vip);
    let (nic, vip) = of("192.168.34.85")?;
    assert_eq!(
        (nic.as_str(), &vip["prefixlen"], &vip["label"]),
        ("eth0", &25.into(), &"eth0:vip".into())
    );
    let (nic, vip) = of("10.0.0.85")?;
    assert_eq!((nic.as_str(), &vip["prefixlen"]), ("eth1", &32.into()));
    for (vip, prefix, deprecated) in
        [("fd00:34::85", 64, true), ("fd00:34::86", 128, false), (link_local, 64, true)]
    {
        let (nic, address) = of(vip)?;
        assert_eq!((nic.as_str(), &address["prefixlen"]), ("eth0", &prefix.into()), "{vip}");
        assert_eq!(address["deprecated"] == true, deprecated, "{address}");
        assert_eq!((&address["nodad"], &address["tentative"]), (&true.into(), &Value::Null));
    }
    let of_ipv6 = |f: &Frame| f.advert().is_some_and(|a| a.source.is_ipv6());
    let advert = adverts.wait_for("an IPv6 advert", from, SECOND, of_ipv6)?;
    // Behind the headers of Ethernet (14), IPv6 (40) and VRRP (8).
    assert_eq!(hex(&advert.bytes[62..78]), "fe8000000000000002005efffe000255");
    let source = advert.advert().map(|a| a.source);
    assert_ne!(source, Some(ip(link_local)), "adverts come from an address of the host's own");
    Ok(())
}

#[test]
fn what_a_killed_holder_left_behind_goes_at_its_next_start() -> Result {
    let cluster = Cluster::new("left")?;
    let (one, mut two) = cluster.start(ONE, GROUP)?;
    one.process.kill()?;
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    cluster.watch.wait_holders(ip(VIP), &["hap1", "hap2"], SECOND)?;
    let at = Stamp::now();
    drop(one);
    let mut one = Vipd::start(&cluster.hap1, &format!("{NODES}{ONE}"))?;
    let ended = cluster.watch.wait_holders(ip(VIP), &["hap2"], 3 * SECOND)?;
    println!("two holders for {:?} after the restart", ended.since(at));
    wait_event(&one, "leftover", "1 address", SECOND)?;
    one.wait_role(GROUP, "backup", SECOND)?;
    pause(SECOND);
    assert_eq!(cluster.watch.holders_now(ip(VIP)), ["hap2".to_owned()].into());
    Ok(())
}

#[test]
fn a_holder_that_is_killed_and_started_again_alone_holds_again() -> Result {
    let cluster = Cluster::new("left-alone")?;
    let config = format!("{NODES}{ONE}");
    let mut one = Vipd::start(&cluster.hap1, &config)?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    one.process.kill()?;
    drop(one);
    let at = Stamp::now();
    let mut one = Vipd::start(&cluster.hap1, &config)?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    let back = cluster.watch.wait_holders(ip(VIP), &["hap1"], SECOND)?;
    println!("held again {:?} after the start", back.since(at));
    pause(500 * MS);
    assert!(cluster.hap1.has(ip(VIP))?);
    Ok(())
}

#[test]
fn addresses_of_an_earlier_configuration_go_and_nobody_elses() -> Result {
    let cluster = Cluster::new("earlier")?;
    let group = |addresses: &str| {
        format!("{NODES}[[group]]\nname = \"postgres\"\nvrid = 85\naddresses = {addresses}\n")
    };
    let old = r#"["192.168.34.85/24", "192.168.34.86/24", "192.168.34.87/24", "fd00:34::86/64"]"#;
    let mut one = Vipd::start(&cluster.hap1, &group(old))?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    for vip in ["192.168.34.87", "fd00:34::86"] {
        cluster.watch.wait_holders(ip(vip), &["hap1"], SECOND)?;
    }
    one.process.kill()?;
    drop(one);
    // One is the operator's own by now, another was always.
    cluster.hap1.ip("addr del 192.168.34.87/24 dev eth0\n\
         addr add 192.168.34.87/24 dev eth0\n\
         addr add 192.168.34.99/24 dev eth0\n")?;
    let mut one = Vipd::start(&cluster.hap1, &group(r#"["192.168.34.85/24"]"#))?;
    for vip in ["192.168.34.86", "fd00:34::86"] {
        cluster.watch.wait_holders(ip(vip), &[], 3 * SECOND)?;
    }
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    for own in [VIP, "192.168.34.87", "192.168.34.99", "192.168.34.132"] {
        assert!(cluster.hap1.has(ip(own))?, "{own}");
    }
    Ok(())
}

#[test]
fn an_address_where_it_does_not_belong_is_removed() -> Result {
    let cluster = Cluster::new("wrong-place")?;
    cluster.hap1.plug("eth1", "back", &["10.0.0.1/24"])?;
    let (one, _two) = cluster.start(ONE, GROUP)?;
    let carries = |nic: &str| -> Result<bool> {
        let text = run::stdout(&["ip", "-n", cluster.hap1.namespace(), "addr", "show", nic])?;
        Ok(text.contains(VIP))
    };
    cluster.hap1.ip("addr add 192.168.34.85/24 dev eth1\n")?;
    netns_tests::wait_until("its removal from eth1", SECOND, || Ok(!carries("eth1")?))?;
    assert!(carries("eth0")?);
    assert_eq!(one.role(GROUP)?, "active");

    cluster.hap2.ip("addr add 192.168.34.85/24 dev eth0\n")?;
    netns_tests::wait_until("its removal from the Backup", SECOND, || {
        Ok(!cluster.hap2.has(ip(VIP))?)
    })?;
    assert!(cluster.hap1.has(ip(VIP))?);
    Ok(())
}

/// Everybody on the link is told that `vip` is at `mac`.
fn claim(vip: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(vip.octets());
    frame.extend([0; 6]);
    frame.extend(vip.octets());
    frame
}

#[test]
fn a_claim_by_another_machine_is_told_and_answered() -> Result {
    let cluster = Cluster::new("claim")?;
    let (one, _two) = cluster.start(ONE, GROUP)?;
    let arp = Capture::start(&cluster.client, "eth0", |f: &Frame| f.is_arp() && !f.outgoing)?;
    // The schedule of announcements after the takeover is over.
    pause(3500 * MS);
    let vip = Ipv4Addr::new(192, 168, 34, 85);
    let thief = [0x02, 0, 0, 0x0b, 0xad, 0x02];
    let at = Stamp::now();
    Injector::open(&cluster.client, "eth0")?.send(&claim(vip, thief))?;
    let holder = cluster.hap1.mac().replace(':', "");
    let announced =
        |f: &Frame| f.bytes.get(28..32) == Some(&vip.octets()) && hex(&f.bytes[22..28]) == holder;
    let answer = arp.wait_for("another announcement", at, SECOND, announced)?;
    println!("answered {:?} after the claim", answer.at.since(at));
    wait_event(&one, "address-conflict", "02:00:00:0b:ad:02", SECOND)?;
    assert_eq!(one.role(GROUP)?, "active");
    Ok(())
}
