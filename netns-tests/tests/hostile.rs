//! Packets that nobody honest sends: they move nothing, cost little, and are told of.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netns_tests::peer::keepalived::{self, Instance};
use netns_tests::peer::vipd::{Vipd, binary};
use netns_tests::usage::Usage;
use netns_tests::{
    AddressEvent, Capture, Dice, ForgedAdvert, Frame, Host, Injector, Lab, Result, Stamp, Watch,
    pause, tree, wait_until,
};
use serde_json::Value;

use common::*;

const INTERVAL: Duration = Duration::from_millis(100);
const HOLDER: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 132);
const MALLORY: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 66);

/// Adverts with one thing wrong each, all of which would win the election.
struct Noise {
    dice: Dice,
    honest: ForgedAdvert,
    turn: usize,
}

/// Makes a frame that is wrong in one way.
type Wrong = fn(&mut Noise) -> Vec<u8>;

/// What may be wrong, and the counter that says so.
const WRONGS: [(Wrong, &str); 11] = [
    (Noise::checksum, "checksum-errors"),
    (Noise::version, "version-errors"),
    (Noise::version_2_with_auth, "version-errors"),
    (Noise::kind, "invalid-type-errors"),
    (Noise::truncated, "packet-length-errors"),
    (Noise::hops, "ip-ttl-errors"),
    (Noise::count_too_big, "packet-length-errors"),
    (Noise::count_zero, "address-count-errors"),
    (Noise::interval_zero, "interval-errors"),
    (Noise::unknown_vrid, "vrid-errors"),
    (Noise::random_body, "vrid-errors"),
];

impl Noise {
    fn new() -> Self {
        let honest = ForgedAdvert::new(MALLORY, VRID, 255, &[VIP]);
        Self { dice: Dice::new(1), honest, turn: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        self.turn += 1;
        WRONGS[self.turn % WRONGS.len()].0(self)
    }

    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut message = self.honest.message();
        change(&mut message);
        self.honest.frame_with(&message)
    }

    fn checksum(&mut self) -> Vec<u8> {
        // The two right ones differ by more than one.
        self.changed(|message| message[7] ^= 1)
    }

    fn version(&mut self) -> Vec<u8> {
        let version = [0, 1, 4, 15][self.dice.below(4)];
        ForgedAdvert { version, ..self.honest.clone() }.frame()
    }

    fn version_2_with_auth(&mut self) -> Vec<u8> {
        let mut message = ForgedAdvert { version: 2, ..self.honest.clone() }.message();
        message[4] = 2;
        self.honest.frame_with(&message)
    }

    fn kind(&mut self) -> Vec<u8> {
        let kind = [0, 2, 15][self.dice.below(3)];
        self.changed(|message| message[0] = 0x30 | kind)
    }

    fn truncated(&mut self) -> Vec<u8> {
        let length = 2 + self.dice.below(9);
        self.changed(|message| message.truncate(length))
    }

    fn hops(&mut self) -> Vec<u8> {
        ForgedAdvert { ttl: 1, ..self.honest.clone() }.frame()
    }

    fn count_too_big(&mut self) -> Vec<u8> {
        self.changed(|message| message[3] = 200)
    }

    fn count_zero(&mut self) -> Vec<u8> {
        ForgedAdvert { addresses: Vec::new(), ..self.honest.clone() }.frame()
    }

    fn interval_zero(&mut self) -> Vec<u8> {
        ForgedAdvert { interval: 0, ..self.honest.clone() }.frame()
    }

    fn unknown_vrid(&mut self) -> Vec<u8> {
        ForgedAdvert { vrid: VRID + 1, ..self.honest.clone() }.frame()
    }

    fn random_body(&mut self) -> Vec<u8> {
        let length = 2 + self.dice.below(60);
        let mut message = self.dice.bytes(length);
        // A body that is right by chance would prove nothing.
        message[1] = VRID + 2;
        self.honest.frame_with(&message)
    }
}

/// A holder and its backup, both vipd, and somebody else on the link.
struct Scene {
    vipds: [Vipd; 2],
    watch: Watch,
    /// What the holder sends.
    adverts: Capture,
    mallory: Injector,
    _lab: Lab,
}

/// What an attack did.
struct Seen {
    longest_gap: Duration,
    adverts: usize,
    /// Percent of a core, of each daemon.
    cpu: [f64; 2],
    grown_kib: [u64; 2],
    log_lines: [usize; 2],
    before: [Value; 2],
    after: [Value; 2],
}

impl Scene {
    fn new(label: &str, keys: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let (hap1, hap2) = (host(&lab, "hap1", 132)?, host(&lab, "hap2", 133)?);
        let mallory = host(&lab, "mallory", 66)?;
        let watch = watch(&[&hap1, &hap2])?;
        let adverts = Capture::start(&hap1, "eth0", |f: &Frame| f.outgoing && f.is_vrrp())?;
        let file = File {
            nodes: &[("hap1", 132, 150), ("hap2", 133, 100)],
            routers: &[],
            addresses: &[VIP_NET, "192.168.34.86/24"],
            keys: keys.to_owned(),
        };
        let vipds = [start(&hap1, &file.text())?, start(&hap2, &file.text())?];
        watch.wait_holders(VIP.into(), &["hap1"], 5 * SECOND)?;
        // The peers have been heard and the first announcements are over.
        pause(5 * INTERVAL);
        let mallory = Injector::open(&mallory, "eth0")?;
        Ok(Self { vipds, watch, adverts, mallory, _lab: lab })
    }

    /// What `attack` does; it returns how many packets it sent.
    fn suffers(&self, name: &str, attack: impl FnOnce(&Injector) -> Result<u32>) -> Result<Seen> {
        let usage = || self.each(|vipd| Usage::of(&tree(vipd.process.pid())));
        let lines = || self.each(|vipd| vipd.process.log().lines().count());
        let statuses =
            || -> Result<[Value; 2]> { Ok([self.vipds[0].status()?, self.vipds[1].status()?]) };
        let events = || self.watch.events().len();
        let (before, usage_before, lines_before, events_before) =
            (statuses()?, usage(), lines(), events());
        let from = Stamp::now();
        let sent = attack(&self.mallory)?;
        let took = Stamp::now().since(from);
        let usage_after = usage();
        pause(2 * INTERVAL);
        let beats: Vec<Stamp> =
            self.adverts.frames().iter().map(|f| f.at).filter(|at| *at >= from).collect();
        let gaps = beats.windows(2).map(|pair| pair[1].since(pair[0]));
        let (lines_after, after) = (lines(), statuses()?);
        let cpu = |i: usize| {
            let used = usage_after[i].cpu.saturating_sub(usage_before[i].cpu);
            100.0 * used.as_secs_f64() / took.as_secs_f64()
        };
        let seen = Seen {
            longest_gap: gaps.max().unwrap_or(Duration::MAX),
            adverts: beats.len(),
            cpu: [cpu(0), cpu(1)],
            grown_kib: [0, 1]
                .map(|i| usage_after[i].rss_kib.saturating_sub(usage_before[i].rss_kib)),
            log_lines: [0, 1].map(|i| lines_after[i].saturating_sub(lines_before[i])),
            before,
            after,
        };
        println!(
            "{name}: {:.0} packets/s for {took:.1?}; holder and backup: {:.1?} % of a core, {:?} KiB \
             more, {:?} lines; {} adverts, longest gap {:.1?}",
            f64::from(sent) / took.as_secs_f64(),
            seen.cpu,
            seen.grown_kib,
            seen.log_lines,
            seen.adverts,
            seen.longest_gap
        );
        assert_eq!(events(), events_before, "no address moves: {:?}", self.watch.events());
        assert_eq!([self.vipds[0].role(GROUP)?, self.vipds[1].role(GROUP)?], ["active", "backup"]);
        for status in [0, 1] {
            let since = |all: &[Value; 2]| all[status]["groups"][0]["since"].clone();
            assert_eq!(since(&seen.before), since(&seen.after), "no state changes and returns");
        }
        Ok(seen)
    }

    fn each<T>(&self, of: impl Fn(&Vipd) -> T) -> [T; 2] {
        [of(&self.vipds[0]), of(&self.vipds[1])]
    }
}

impl Seen {
    fn is_cheap(&self, during: Duration) {
        let lines = usize::try_from(during.as_secs()).unwrap_or(usize::MAX) + 5;
        for i in [0, 1] {
            assert!(self.cpu[i] < 60.0, "{:?}", self.cpu);
            assert!(self.grown_kib[i] <= 1024, "{:?}", self.grown_kib);
            assert!(self.log_lines[i] <= lines, "{:?}", self.log_lines);
        }
    }

    /// Both daemons counted it.
    fn counted(&self, name: &str) {
        for i in [0, 1] {
            let [was, is] = [&self.before[i], &self.after[i]].map(|status| counter(status, name));
            assert!(is > was, "{name} stays {is}");
        }
    }
}

const DURING: Duration = Duration::from_secs(5);

#[test]
fn a_little_noise_moves_nothing() -> Result {
    let scene = Scene::new("noise", "")?;
    let mut noise = Noise::new();
    let seen = scene.suffers("noise", |m| m.flood(20, DURING, || noise.next()))?;
    assert!(seen.longest_gap < INTERVAL * 3 / 2, "{:?}", seen.longest_gap);
    seen.is_cheap(DURING);
    for (_, name) in &WRONGS {
        seen.counted(name);
    }
    Ok(())
}

#[test]
fn a_flood_of_noise_moves_nothing() -> Result {
    let scene = Scene::new("flood", "")?;
    let mut noise = Noise::new();
    let seen = scene.suffers("flood", |m| m.flood(20_000, DURING, || noise.next()))?;
    assert!(seen.longest_gap < 2 * INTERVAL + SLACK, "{:?}", seen.longest_gap);
    seen.is_cheap(DURING);
    for (_, name) in &WRONGS {
        seen.counted(name);
    }
    Ok(())
}

/// Everything about these is right but that they lose; each holder answers one with an advert, so
/// what bounds the answers and the log is the daemon alone.
#[test]
fn a_flood_of_believable_losers_and_claims_is_answered_in_bounds() -> Result {
    const DURING: Duration = Duration::from_secs(3);
    let scene = Scene::new("losers", "")?;
    let mut turn = 0_u8;
    let mut next = || {
        turn = turn.wrapping_add(1);
        let source = Ipv4Addr::new(192, 168, 34, 64 + turn % 16);
        match turn % 5 {
            0 => claim(VIP),
            1 => claim(Ipv4Addr::new(192, 168, 34, 86)),
            2 => ForgedAdvert::new(source, VRID, 1, &[VIP]).frame(),
            3 => claim(HOLDER),
            // The kernel itself drops what seems to come from an address of its own.
            _ => ForgedAdvert::new(HOLDER, VRID, 255, &[VIP]).frame(),
        }
    };
    let seen = scene.suffers("losers", |m| m.flood(20_000, DURING, &mut next))?;
    // One answer in 10 ms, sent with one or two checksums, and the beat.
    assert!(seen.adverts < 2 * 110 * 3 + 100, "{}", seen.adverts);
    assert!(seen.longest_gap < 2 * INTERVAL + SLACK, "{:?}", seen.longest_gap);
    // A line a second for each kind of evidence.
    for lines in seen.log_lines {
        assert!(lines < 3 * 8, "{:?}", seen.log_lines);
    }
    assert!(seen.cpu.iter().all(|cpu| *cpu < 60.0), "{:?}", seen.cpu);
    assert!(seen.grown_kib.iter().all(|grown| *grown <= 1024), "{:?}", seen.grown_kib);
    let conditions = conditions(&scene.vipds[0])?;
    for name in ["foreign-router", "duplicate-node", "address-conflict", "rival"] {
        assert!(conditions.iter().any(|c| c == name), "{name}: {conditions:?}");
    }
    Ok(())
}

/// A gratuitous ARP by somebody else.
fn claim(ip: Ipv4Addr) -> Vec<u8> {
    const MAC: [u8; 6] = [0x02, 0, 0, 0x0b, 0xad, 0x01];
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(MAC);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// What the same noise does to keepalived 2.2.7: printed for comparison.
#[test]
fn keepalived_for_comparison() -> Result {
    let lab = Lab::new("noise-ka")?;
    let (one, two) = (host(&lab, "ka1", 132)?, host(&lab, "ka2", 133)?);
    let mallory = Injector::open(&host(&lab, "mallory", 66)?, "eth0")?;
    let watch = watch(&[&one, &two])?;
    let adverts = Capture::start(&one, "eth0", |f: &Frame| f.outgoing && f.is_vrrp())?;
    let _one = keepalived::start(&one, &[Instance::new(VRID, 150, &[VIP_NET])])?;
    watch.wait_holders(VIP.into(), &["ka1"], 5 * SECOND)?;
    let _two = keepalived::start(&two, &[Instance::new(VRID, 100, &[VIP_NET])])?;
    pause(5 * INTERVAL);
    let from = Stamp::now();
    let mut noise = Noise::new();
    let sent = mallory.flood(20, 3 * SECOND, || noise.next())?;
    let beats: Vec<Stamp> =
        adverts.frames().iter().map(|f| f.at).filter(|at| *at >= from).collect();
    let gap = beats.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default();
    let moved: Vec<AddressEvent> = watch.events().into_iter().filter(|e| e.at >= from).collect();
    println!(
        "keepalived, {sent} packets in 3 s: {} adverts, longest gap {gap:.1?}, {} address events",
        beats.len(),
        moved.len()
    );
    Ok(())
}

// ---- what is said about who is out there ----

/// A host of one vipd that holds the address.
fn alone(lab: &Lab, keys: &str) -> Result<(Host, Vipd)> {
    let hap1 = host(lab, "hap1", 132)?;
    let nodes = [("hap1", 132, 150), ("hap2", 133, 100)];
    let keys = keys.to_owned();
    let file = File { nodes: &nodes, routers: &[], addresses: &[VIP_NET], keys };
    let mut vipd = start(&hap1, &file.text())?;
    vipd.wait_role(GROUP, "active", 5 * SECOND)?;
    Ok((hap1, vipd))
}

#[test]
fn a_router_that_is_not_in_the_file_is_foreign() -> Result {
    let lab = Lab::new("foreign")?;
    let (_hap1, mut vipd) = alone(&lab, "")?;
    let other = host(&lab, "other", 66)?;
    let _other = keepalived::start(&other, &[Instance::new(VRID, 200, &[VIP_NET])])?;
    wait_condition(&vipd, "foreign-router", 3 * SECOND)?;
    // It is obeyed all the same.
    vipd.wait_role(GROUP, "backup", SECOND)?;
    assert!(kinds(&vipd)?.contains(&(MALLORY.to_string(), "router".to_owned())));
    Ok(())
}

#[test]
fn a_second_daemon_of_the_same_node_is_a_duplicate() -> Result {
    let lab = Lab::new("duplicate")?;
    let (hap1, vipd) = alone(&lab, "")?;
    let twin = host(&lab, "twin", 132)?;
    let file = hap1.dir().join("vipd/vipd.toml").to_string_lossy().into_owned();
    let program = binary("vipd")?.to_string_lossy().into_owned();
    let runtime = twin.run_dir()?.join("vipd").to_string_lossy().into_owned();
    let argv = [program.as_str(), "--config", &file, "--node", "hap1", "--runtime-dir", &runtime];
    let at = Stamp::now();
    let _second = twin.spawn("vipd", &argv)?;
    // Neither hears the other's adverts: both hold the address, and this is how it is found out.
    let said = wait_condition(&vipd, "duplicate-node", 4 * SECOND)?;
    println!("duplicate-node after {:.1?}", said.since(at));
    Ok(())
}

#[test]
fn a_holder_that_never_heard_anybody_says_so() -> Result {
    let lab = Lab::new("lonely")?;
    let (_hap1, vipd) = alone(&lab, "")?;
    let at = Stamp::now();
    assert!(!conditions(&vipd)?.contains(&"never-heard-peer".to_owned()));
    let said = wait_condition(&vipd, "never-heard-peer", 5 * SECOND)?;
    println!("never-heard-peer after {:.1?}", said.since(at));
    assert_eq!(vipd.role(GROUP)?, "active");
    Ok(())
}

/// A keepalived of version 2 on the link, better than vipd, which is told by `keys` to be
/// something else.
fn keepalived_cannot_be_understood(label: &str, keys: &str, condition: &str) -> Result {
    let lab = Lab::new(label)?;
    let path = lab.dir().join("password");
    std::fs::write(&path, "vipd1234\n").expect("the lab has a directory");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, private).expect("it was written just now");
    let keys = keys.replace("PASSWORD", &path.to_string_lossy());
    let (_hap1, vipd) = alone(&lab, &keys)?;
    let since = vipd.status()?["groups"][0]["since"].clone();
    let other = host(&lab, "ka1", 66)?;
    let instance = Instance {
        version: 2,
        interval: SECOND,
        password: Some("wrong".to_owned()),
        ..Instance::new(VRID, 200, &[VIP_NET])
    };
    let _other = keepalived::start(&other, &[instance])?;
    wait_condition(&vipd, condition, 6 * SECOND)?;
    wait_until("keepalived holds it too", SECOND, || other.has(IpAddr::from(VIP)))?;
    pause(3 * INTERVAL);
    assert_eq!(vipd.role(GROUP)?, "active");
    assert_eq!(vipd.status()?["groups"][0]["since"], since, "it was Active all the time");
    Ok(())
}

#[test]
fn another_version_is_named_and_changes_nothing() -> Result {
    keepalived_cannot_be_understood("version", "", "version-mismatch")
}

#[test]
fn a_wrong_password_is_named_and_changes_nothing() -> Result {
    let keys = "version = 2\npassword-file = \"PASSWORD\"\n";
    keepalived_cannot_be_understood("password", keys, "auth-mismatch")
}
