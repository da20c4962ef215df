//! vipd and keepalived in one virtual router: whoever should holds the address, and alone.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use netns_tests::peer::keepalived::{self, Instance};
use netns_tests::peer::vipd::Vipd;
use netns_tests::{Capture, Frame, Host, Lab, Proc, Result, Stamp, Watch, pause};

use common::*;

/// How the routers talk.
#[derive(Clone, Copy, Debug)]
struct Wire {
    label: &'static str,
    version: u8,
    /// The address, hence the family.
    vip: &'static str,
    interval: Duration,
    password: Option<&'static str>,
    unicast: bool,
}

impl Wire {
    const V2: Self = Self {
        label: "v2",
        version: 2,
        vip: VIP_NET,
        interval: SECOND,
        password: None,
        unicast: false,
    };
    const V3: Self =
        Self { label: "v3", version: 3, interval: Duration::from_millis(100), ..Self::V2 };
    const V6: Self = Self { label: "v6", vip: VIP6_NET, ..Self::V3 };

    fn ip(&self) -> IpAddr {
        let (ip, _) = self.vip.split_once('/').expect("it has a prefix length");
        ip.parse().expect("it is an address")
    }

    /// What its adverts list: over IPv6 the virtual router's link-local address comes first.
    fn listed(&self) -> impl Iterator<Item = &'static str> {
        let link_local = self.ip().is_ipv6().then_some("fe80::200:5eff:fe00:255/64");
        link_local.into_iter().chain([self.vip])
    }

    /// The address that host `n` sends its adverts from.
    fn source(&self, n: u8) -> String {
        match (self.ip(), self.unicast) {
            (IpAddr::V4(_), _) => v4(n),
            (IpAddr::V6(_), true) => v6(n),
            // The lab numbers its hardware addresses in the order of the hosts.
            (IpAddr::V6(_), false) => format!("fe80::ff:fe00:{}", n - FIRST + 1),
        }
    }

    fn skew(&self, priority: u8) -> Duration {
        (256 - u32::from(priority)) * self.interval / 256
    }

    fn down(&self, priority: u8) -> Duration {
        3 * self.interval + self.skew(priority)
    }
}

/// The number of the first host.
const FIRST: u8 = 132;
const NUMBERS: [u8; 3] = [FIRST, FIRST + 1, FIRST + 2];

/// Three hosts on one network, and what is seen of them.
struct Scene {
    wire: Wire,
    lab: Lab,
    hosts: [Host; 3],
    watch: Watch,
    adverts: Capture,
}

impl Scene {
    fn new(wire: Wire, label: &str, names: [&str; 3]) -> Result<Self> {
        let lab = Lab::new(&format!("{}-{label}", wire.label))?;
        let [one, two, three] = [0, 1, 2].map(|i| host(&lab, names[i], NUMBERS[i]));
        let hosts = [one?, two?, three?];
        let watch = watch(&[&hosts[0], &hosts[1], &hosts[2]])?;
        let adverts = Capture::start(&hosts[2], "eth0", Frame::is_vrrp)?;
        Ok(Self { wire, lab, hosts, watch, adverts })
    }

    fn keepalived(&self, ix: usize, priority: u8) -> Result<Proc> {
        let Wire { version, interval, password, unicast, .. } = self.wire;
        let others = NUMBERS.iter().filter(|n| **n != NUMBERS[ix]).map(|n| self.wire.source(*n));
        let instance = Instance {
            // It wants the same list as ours, and the virtual router's link-local address first.
            addresses: self.wire.listed().map(str::to_owned).collect(),
            version,
            interval,
            password: password.map(str::to_owned),
            unicast: unicast.then(|| (self.wire.source(NUMBERS[ix]), others.collect())),
            ..Instance::new(VRID, priority, &[])
        };
        keepalived::start(&self.hosts[ix], &[instance])
    }

    /// The file with the hosts of `nodes` as vipd nodes and the others as routers.
    fn file(&self, nodes: &[(usize, u8)]) -> Result<String> {
        let Wire { version, interval, password, unicast, .. } = self.wire;
        let mut keys = format!(
            "version = {version}\ninterval = \"{}ms\"\npreempt = true\n",
            interval.as_millis()
        );
        if unicast {
            keys.push_str("transport = \"unicast\"\n");
        }
        if unicast && self.wire.ip().is_ipv6() {
            // keepalived leaves the hop limit of these to the kernel.
            keys.push_str("min-ttl = 64\n");
        }
        if let Some(password) = password {
            let path = self.hosts[0].write("password", &format!("{password}\n"))?;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, private).expect("it was written just now");
            let _ = writeln!(keys, "password-file = \"{}\"", path.display());
        }
        let is_node = |ix: &usize| nodes.iter().any(|(node, _)| node == ix);
        let routers: Vec<(&str, String)> = (0..3)
            .filter(|ix| !is_node(ix))
            .map(|ix| (self.hosts[ix].name(), self.wire.source(NUMBERS[ix])))
            .collect();
        let nodes: Vec<(&str, u8, u8)> =
            nodes.iter().map(|(ix, p)| (self.hosts[*ix].name(), NUMBERS[*ix], *p)).collect();
        let addresses = [self.wire.vip];
        Ok(File { nodes: &nodes, routers: &routers, addresses: &addresses, keys }.text())
    }

    fn vipd(&self, ix: usize, nodes: &[(usize, u8)]) -> Result<Vipd> {
        start(&self.hosts[ix], &self.file(nodes)?)
    }

    /// Waits until host `ix` holds the address alone; fails after `bound`, prints how long it
    /// took since `from`.
    fn moves_to(&self, ix: usize, what: &str, from: Stamp, bound: Duration) -> Result {
        let name = self.hosts[ix].name();
        // Both ends of an overlap count, so that it can be bounded by itself.
        let within = bound + self.wire.interval + SLACK;
        self.watch.wait_holders(self.wire.ip(), &[name], within)?;
        let came = self.watch.wait_event(self.wire.ip(), true, from, SECOND)?;
        let took = came.at.since(from);
        println!("{}: {what}: on {name} after {took:.1?}", self.lab.prefix());
        assert_eq!(came.host, name);
        assert!(took < bound + SLACK, "{what}: {took:?}, bound {bound:?}");
        Ok(())
    }

    /// No two had it for longer than an advert and its answer take.
    fn was_alone(&self, from: Stamp) {
        let overlap = longest_overlap(&self.watch, self.wire.ip(), from);
        println!("{}: two holders for at most {overlap:.1?}", self.lab.prefix());
        assert!(overlap < self.wire.interval + SLACK, "{overlap:?}");
    }
}

/// vipd (150) between keepalived (200) and keepalived (100).
fn vipd_between_keepaliveds(wire: Wire) -> Result {
    let scene = Scene::new(wire, "kvk", ["ka1", "hap1", "ka2"])?;
    let begin = Stamp::now();
    let nodes = [(1, 150)];
    let mut vipd = scene.vipd(1, &nodes)?;
    scene.moves_to(1, "vipd is first", begin, wire.down(150) + SECOND)?;
    let low = scene.keepalived(2, 100)?;

    let at = Stamp::now();
    let high = scene.keepalived(0, 200)?;
    scene.moves_to(0, "keepalived preempts vipd", at, wire.down(200) + SECOND)?;
    vipd.wait_role(GROUP, "backup", SECOND)?;
    let status = vipd.status()?;
    assert_eq!(status["groups"][0]["active"], "ka1", "{status:#}");
    assert_eq!(
        kinds(&vipd)?,
        [("ka1".to_owned(), "router".to_owned()), ("ka2".to_owned(), "router".to_owned())]
    );
    assert_eq!(conditions(&vipd)?.iter().find(|c| *c == "foreign-router"), None);

    let at = Stamp::now();
    high.term()?;
    scene.moves_to(1, "keepalived stops", at, wire.skew(150))?;
    drop(high);

    let at = Stamp::now();
    let high = scene.keepalived(0, 200)?;
    scene.moves_to(0, "keepalived comes back", at, wire.down(200) + SECOND)?;
    // It leaves its address behind when it is killed; who ends that is not the question here.
    let at = Stamp::now();
    high.kill_tree()?;
    scene.hosts[0].ip(&format!("addr del {} dev eth0\n", wire.vip))?;
    scene.moves_to(1, "keepalived is killed", at, wire.down(150))?;

    let at = Stamp::now();
    vipd.process.term()?;
    scene.moves_to(2, "vipd stops", at, wire.skew(100))?;
    vipd.process.wait(3 * SECOND)?;

    let at = Stamp::now();
    let _vipd = scene.vipd(1, &nodes)?;
    scene.moves_to(1, "vipd preempts keepalived", at, wire.down(150) + SECOND)?;
    scene.was_alone(begin);
    drop(low);
    Ok(())
}

/// keepalived (150) between vipd (200) and vipd (100).
fn keepalived_between_vipds(wire: Wire) -> Result {
    let scene = Scene::new(wire, "vkv", ["hap1", "ka1", "hap2"])?;
    let begin = Stamp::now();
    let nodes = [(0, 200), (2, 100)];
    let middle = scene.keepalived(1, 150)?;
    scene.moves_to(1, "keepalived is first", begin, wire.down(150) + SECOND)?;
    let low = scene.vipd(2, &nodes)?;

    let at = Stamp::now();
    let mut high = scene.vipd(0, &nodes)?;
    scene.moves_to(0, "vipd preempts keepalived", at, wire.down(200) + SECOND)?;
    let kinds = kinds(&low)?;
    assert!(kinds.contains(&("ka1".to_owned(), "router".to_owned())), "{kinds:?}");
    assert!(kinds.contains(&("hap1".to_owned(), "node".to_owned())), "{kinds:?}");

    let at = Stamp::now();
    high.process.term()?;
    scene.moves_to(1, "vipd stops", at, wire.skew(150))?;
    high.process.wait(3 * SECOND)?;

    let at = Stamp::now();
    middle.term()?;
    scene.moves_to(2, "keepalived stops", at, wire.skew(100))?;
    drop(middle);

    let at = Stamp::now();
    let _middle = scene.keepalived(1, 150)?;
    scene.moves_to(1, "keepalived preempts vipd", at, wire.down(150) + SECOND)?;
    assert_eq!(low.role(GROUP)?, "backup");
    assert_eq!(conditions(&low)?.iter().find(|c| *c == "foreign-router"), None);
    scene.was_alone(begin);
    Ok(())
}

/// Both, at the same time: most of it is waiting.
fn hands_over_in_every_direction(wire: Wire) {
    let run = |scene: fn(Wire) -> Result| move || scene(wire).map_err(|e| e.to_string());
    let results = std::thread::scope(|scope| {
        let one = scope.spawn(run(vipd_between_keepaliveds));
        let two = scope.spawn(run(keepalived_between_vipds));
        [one.join(), two.join()]
    });
    for result in results {
        assert_eq!(result.expect("the scene did not panic"), Ok(()));
    }
}

#[test]
fn v2_hands_over_in_every_direction() {
    hands_over_in_every_direction(Wire::V2);
}

#[test]
fn v2_with_a_password_hands_over_in_every_direction() {
    let wire = Wire { label: "v2auth", password: Some("vipd1234"), ..Wire::V2 };
    hands_over_in_every_direction(wire);
}

#[test]
fn v2_unicast_hands_over_in_every_direction() {
    hands_over_in_every_direction(Wire { label: "v2uni", unicast: true, ..Wire::V2 });
}

#[test]
fn v3_hands_over_in_every_direction() {
    hands_over_in_every_direction(Wire::V3);
}

#[test]
fn v3_unicast_hands_over_in_every_direction() {
    hands_over_in_every_direction(Wire { label: "v3uni", unicast: true, ..Wire::V3 });
}

#[test]
fn v3_over_ipv6_hands_over_in_every_direction() {
    hands_over_in_every_direction(Wire::V6);
}

#[test]
fn v3_unicast_over_ipv6_hands_over_in_every_direction() {
    hands_over_in_every_direction(Wire { label: "v6uni", unicast: true, ..Wire::V6 });
}

/// keepalived drops what has no pseudo-header in its checksum: `auto` sends both until one is
/// heard.
#[test]
fn the_checksum_follows_the_one_that_was_heard() -> Result {
    let wire = Wire::V3;
    let scene = Scene::new(wire, "checksum", ["ka1", "hap1", "client"])?;
    let _vipd = scene.vipd(1, &[(1, 150)])?;
    scene.watch.wait_holders(wire.ip(), &["hap1"], 2 * SECOND)?;
    let alone = Stamp::now();
    pause(3 * wire.interval);
    let at = Stamp::now();
    let high = scene.keepalived(0, 200)?;
    scene.moves_to(0, "keepalived preempts vipd", at, wire.down(200) + SECOND)?;
    let heard = Stamp::now();
    high.term()?;
    scene.watch.wait_holders(wire.ip(), &["hap1"], SECOND)?;
    pause(5 * wire.interval);

    let frames = scene.adverts.frames();
    let verdicts = scene.adverts.tshark_verdicts(&scene.lab.dir().join("auto.pcap"), &[])?;
    let mine: IpAddr = v4(NUMBERS[1]).parse().expect("an address");
    let good = |from: Stamp, to: Stamp| -> Vec<bool> {
        let both = frames.iter().zip(&verdicts);
        both.filter(|(f, _)| f.at >= from && f.at < to)
            .filter(|(f, _)| f.advert().is_some_and(|a| a.source == mine))
            .map(|(_, verdict)| verdict.vrrp_checksum == Some(1))
            .collect()
    };
    let before = good(alone, at);
    assert!(before.contains(&true) && before.contains(&false), "both forms: {before:?}");
    let after = good(heard, Stamp::now());
    assert!(after.len() >= 4 && !after.contains(&false), "keepalived's form only: {after:?}");
    Ok(())
}
