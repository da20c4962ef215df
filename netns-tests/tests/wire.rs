//! What vipd sends, judged by tshark, and when it sends it.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use netns_tests::{Capture, Frame, Host, Lab, Result, Stamp, Watch, pause};

use common::*;

/// What tshark is asked of each frame.
const FIELDS: [&str; 32] = [
    "_ws.malformed",
    "_ws.expert.message",
    "eth.src",
    "eth.dst",
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.dsfield",
    "ip.checksum.status",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "ipv6.tclass",
    "vrrp.version",
    "vrrp.virt_rtr_id",
    "vrrp.prio",
    "vrrp.checksum.status",
    "vrrp.ip_addr",
    "vrrp.ipv6_addr",
    "vrrp.auth_string",
    "vrrp.adver_int",
    "vrrp.short_adver_int",
    "arp.opcode",
    "arp.src.hw_mac",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "icmpv6.type",
    "icmpv6.checksum.status",
    "icmpv6.nd.na.target_address",
    "icmpv6.nd.ns.target_address",
    "icmpv6.nd.na.flag.o",
    "icmpv6.opt.linkaddr",
];

/// A frame that hap1 sent.
#[derive(Debug)]
struct Sent {
    at: Stamp,
    fields: BTreeMap<&'static str, String>,
}

impl Sent {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn is_advert(&self) -> bool {
        !self.get("vrrp.version").is_empty()
    }

    /// A gratuitous ARP or unsolicited neighbour advertisement: for which address.
    fn announces(&self) -> Option<IpAddr> {
        let (from, to) = (self.get("arp.src.proto_ipv4"), self.get("arp.dst.proto_ipv4"));
        let arp = Some(from).filter(|from| !from.is_empty() && *from == to);
        let nd = Some(self.get("icmpv6.nd.na.target_address"))
            .filter(|_| self.get("ipv6.dst") == "ff02::1");
        arp.or(nd)?.parse().ok()
    }

    /// A question for somebody's hardware address: whose.
    fn asks_for(&self) -> Option<IpAddr> {
        let arp = Some(self.get("arp.dst.proto_ipv4"))
            .filter(|_| self.get("arp.opcode") == "1" && self.announces().is_none());
        let nd = self.get("icmpv6.nd.ns.target_address");
        arp.unwrap_or(nd).parse().ok()
    }
}

/// A host under observation: vipd on hap1, and hap2 without one to answer its questions.
struct Scene {
    lab: Lab,
    hap1: Host,
    _hap2: Host,
    watch: Watch,
    out: Capture,
}

/// Another virtual address, configured before hap1's own: the kernel would send from it.
const STRAY: &str = "192.168.34.99/24";
const PRIMARY: &str = "192.168.34.132";
const LINK_LOCAL: &str = "fe80::ff:fe00:1";
const MAC: &str = "02:00:00:00:00:01";

impl Scene {
    fn new(label: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let own = format!("{PRIMARY}/24");
        let hap1 = lab.host("hap1", &[STRAY, &own, "fd00:34::99/64", "fd00:34::132/64"])?;
        let hap2 = host(&lab, "hap2", 133)?;
        let watch = watch(&[&hap1])?;
        let sent = |f: &Frame| f.outgoing && (f.is_vrrp() || f.is_arp() || f.is_nd());
        let out = Capture::start(&hap1, "eth0", sent)?;
        Ok(Self { lab, hap1, _hap2: hap2, watch, out })
    }

    fn file(addresses: &[&str], keys: &str) -> String {
        let nodes = [("hap1", 132, 150), ("hap2", 133, 100)];
        File { nodes: &nodes, routers: &[], addresses, keys: keys.to_owned() }.text()
    }

    /// What was sent so far, as tshark reads it; `preference` says how it checks version 3
    /// checksums over IPv4.
    fn sent(&self, v3_as_in_v2: bool) -> Result<Vec<Sent>> {
        let like =
            format!("vrrp.v3_checksum_as_in_v2:{}", if v3_as_in_v2 { "TRUE" } else { "FALSE" });
        let preferences = [like.as_str(), "ip.check_checksum:TRUE"];
        let rows =
            self.out.tshark_fields(&self.lab.dir().join("sent.pcap"), &preferences, &FIELDS)?;
        let frames = self.out.frames();
        Ok(frames
            .iter()
            .zip(rows)
            .map(|(frame, row)| Sent {
                at: frame.at,
                fields: FIELDS.into_iter().zip(row).collect(),
            })
            .collect())
    }

    /// Runs vipd until it has been Active for `active_for`, and stops it.
    fn run(&self, file: &str, active_for: Duration) -> Result<Stamp> {
        let mut vipd = start(&self.hap1, file)?;
        let active = vipd.wait_role(GROUP, "active", 5 * SECOND)?;
        pause(active_for.saturating_sub(Stamp::now().since(active)));
        let stop = Stamp::now();
        vipd.process.term()?;
        vipd.process.wait(5 * SECOND)?;
        Ok(stop)
    }
}

/// What holds for every frame.
fn assert_sound(sent: &Sent) {
    assert_eq!(sent.get("_ws.malformed"), "", "{sent:?}");
    // The next field is what tshark complains about; a solicited answer is the kernel's.
    assert_eq!(sent.get("_ws.expert.message"), "", "{sent:?}");
    assert_eq!(sent.get("eth.src"), MAC, "{sent:?}");
    for checksum in ["ip.checksum.status", "icmpv6.checksum.status", "vrrp.checksum.status"] {
        assert!(["", "1"].contains(&sent.get(checksum)), "{checksum}: {sent:?}");
    }
    if !sent.get("icmpv6.type").is_empty() {
        assert_eq!(sent.get("ipv6.hlim"), "255", "{sent:?}");
    }
}

/// What holds for every advert, besides.
fn assert_advert(sent: &Sent, version: &str, v4: &str, v6: &str) {
    let over_v6 = !sent.get("ipv6.src").is_empty();
    let envelope = if over_v6 {
        ["ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.tclass", "eth.dst"]
    } else {
        ["ip.src", "ip.dst", "ip.ttl", "ip.dsfield", "eth.dst"]
    };
    let expected = if over_v6 {
        [LINK_LOCAL, "ff02::12", "255", "0xc0", "33:33:00:00:00:12"]
    } else {
        [PRIMARY, "224.0.0.18", "255", "0xc0", "01:00:5e:00:00:12"]
    };
    // tshark writes the traffic class with more zeros than the service field of IPv4.
    let got = envelope.map(|field| match sent.get(field) {
        "0x000000c0" => "0xc0",
        other => other,
    });
    assert_eq!(got, expected, "{sent:?}");
    assert_eq!(sent.get("vrrp.version"), version, "{sent:?}");
    assert_eq!(sent.get("vrrp.virt_rtr_id"), VRID.to_string(), "{sent:?}");
    assert_eq!(sent.get("vrrp.checksum.status"), "1", "{sent:?}");
    let list = if over_v6 { ("vrrp.ipv6_addr", v6) } else { ("vrrp.ip_addr", v4) };
    assert_eq!(sent.get(list.0), list.1, "{sent:?}");
}

/// The times after an address came at which it is announced, as in the file by default.
const SCHEDULE_MS: [u64; 6] = [0, 10, 50, 250, 1100, 3000];

#[test]
fn every_packet_of_a_life_is_right_and_on_time() -> Result {
    let scene = Scene::new("wire-life")?;
    let addresses = [VIP_NET, "192.168.34.86/24", VIP6_NET, "fd00:34::86/64"];
    let file = Scene::file(&addresses, "checksum = \"rfc9568\"\n");
    let stop = scene.run(&file, Duration::from_millis(3200))?;
    let sent = scene.sent(true)?;
    sent.iter().for_each(assert_sound);

    let v4 = "192.168.34.85,192.168.34.86";
    let v6 = "fe80::200:5eff:fe00:255,fd00:34::85,fd00:34::86";
    let adverts: Vec<&Sent> = sent.iter().filter(|s| s.is_advert()).collect();
    assert!(adverts.len() > 60, "{}", adverts.len());
    for advert in &adverts {
        assert_advert(advert, "3", v4, v6);
        assert_eq!(advert.get("vrrp.short_adver_int"), "10", "{advert:?}");
        let priority = if advert.at < stop { "150" } else { advert.get("vrrp.prio") };
        assert_eq!(advert.get("vrrp.prio"), priority);
    }
    for family in ["ip.src", "ipv6.src"] {
        let of_family = adverts.iter().rfind(|s| !s.get(family).is_empty());
        assert_eq!(of_family.map(|s| s.get("vrrp.prio")), Some("0"), "goodbye with {family}");
    }

    let took = adverts[0].at;
    for address in addresses {
        let ip: IpAddr = address.split('/').next().unwrap_or_default().parse().expect("an address");
        let announced: Vec<&Sent> = sent.iter().filter(|s| s.announces() == Some(ip)).collect();
        let first = announced.first().expect("it is announced").at;
        assert!(first > took, "the advert goes first");
        let added = scene.watch.wait_event(ip, true, Stamp::default(), SECOND)?;
        let lag = first.since(added.at).max(added.at.since(first));
        let gaps: Vec<Duration> = announced.iter().map(|s| s.at.since(first)).collect();
        println!("{ip}: announced within {lag:.2?} of its coming, then {gaps:.1?}");
        assert!(lag < 50 * MS, "{lag:?}");
        assert_eq!(gaps.len(), SCHEDULE_MS.len(), "{gaps:?}");
        for (gap, due) in gaps.iter().zip(SCHEDULE_MS.map(Duration::from_millis)) {
            assert!(*gap + 5 * MS >= due && *gap < due + 100 * MS, "{gap:?}, due {due:?}");
        }
        for announcement in announced {
            assert!(announcement.at < stop, "nothing is announced after the stop");
            let macs =
                [announcement.get("arp.src.hw_mac"), announcement.get("icmpv6.opt.linkaddr")];
            assert!(macs.contains(&MAC), "{announcement:?}");
            let everybody = ["ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"];
            assert!(everybody.contains(&announcement.get("eth.dst")), "{announcement:?}");
            assert!(["", "1", "True"].contains(&announcement.get("icmpv6.nd.na.flag.o")));
        }
    }

    for peer in ["192.168.34.133", "fd00:34::133"] {
        let ip: IpAddr = peer.parse().expect("an address");
        let asked: Vec<&Sent> = sent.iter().filter(|s| s.asks_for() == Some(ip)).collect();
        println!("{peer}: asked {} times", asked.len());
        assert!(asked.len() > 5, "{}", asked.len());
        for question in asked {
            // Never from a virtual address: that would move it in the peer's neighbour cache.
            let source = [question.get("arp.src.proto_ipv4"), question.get("ipv6.src")];
            let own = [PRIMARY, LINK_LOCAL, "fd00:34::132"];
            assert!(source.iter().any(|s| own.contains(s)), "{question:?}");
        }
    }
    Ok(())
}

/// The other forms of an advert: version, keys of the file, how tshark checks it, the password it
/// should see.
const FORMS: [(&str, &str, bool, &str); 4] = [
    ("3", "checksum = \"pseudo\"\n", false, ""),
    ("3", "checksum = \"rfc9568\"\ninterval = \"40.95s\"\n", true, ""),
    ("2", "version = 2\n", true, ""),
    ("2", "version = 2\npassword-file = \"PASSWORD\"\n", true, "vipd1234"),
];

#[test]
fn every_form_of_advert_is_right() -> Result {
    for (version, keys, v3_as_in_v2, password) in FORMS {
        let scene = Scene::new("wire-form")?;
        let path = scene.hap1.write("password", "vipd1234\n")?;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("it was written just now");
        let keys = keys.replace("PASSWORD", &path.to_string_lossy());
        // The owner need not wait for three intervals of silence.
        let file = Scene::file(
            &[VIP_NET, "192.168.34.86/24"],
            &format!("{keys}priorities = {{ hap1 = 255 }}\n"),
        );
        scene.run(&file, 300 * MS)?;
        let sent = scene.sent(v3_as_in_v2)?;
        sent.iter().for_each(assert_sound);
        let adverts: Vec<&Sent> = sent.iter().filter(|s| s.is_advert()).collect();
        println!("{keys:?}: {} adverts", adverts.len());
        assert!(adverts.len() >= 2, "a first one and a goodbye");
        for advert in &adverts {
            assert_advert(advert, version, "192.168.34.85,192.168.34.86", "");
            assert_eq!(advert.get("vrrp.auth_string"), password, "{advert:?}");
        }
        let priorities: Vec<&str> = adverts.iter().map(|s| s.get("vrrp.prio")).collect();
        assert_eq!((priorities[0], *priorities.last().expect("it is not empty")), ("255", "0"));
    }
    Ok(())
}

/// Whoever hears the goodbye may take over: no address is left by then. With many of them the
/// order shows although each event is read a moment after it happened.
#[test]
fn the_goodbye_follows_the_last_address() -> Result {
    const COUNT: usize = 200;
    let scene = Scene::new("wire-goodbye")?;
    let addresses: Vec<String> = (0..COUNT).map(|n| format!("10.0.{n}.1/32")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let stop = scene.run(&Scene::file(&addresses, ""), 500 * MS)?;
    let frames = scene.out.frames();
    let goodbye = frames.iter().find(|f| f.advert().is_some_and(|a| a.priority == 0));
    let goodbye = goodbye.expect("it says goodbye").at;
    let events = scene.watch.events();
    let gone: Vec<Stamp> =
        events.iter().filter(|e| !e.added && e.at > stop).map(|e| e.at).collect();
    assert_eq!(gone.len(), COUNT);
    let before = gone.iter().filter(|at| **at < goodbye).count();
    println!(
        "goodbye {:.1?} after the stop; by then {before} of {COUNT} addresses were seen to go, from \
         {:.1?} to {:.1?}",
        goodbye.since(stop),
        gone[0].since(stop),
        gone[COUNT - 1].since(stop)
    );
    assert!(before > COUNT * 9 / 10, "{before} of {COUNT}");
    Ok(())
}
