//! Groups that are held on one host, or each on one of its own.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use netns_tests::cluster::Cluster;
use netns_tests::peer::vipd::{Vipd, Witness};
use netns_tests::trio::{GROUP, KEY, Kind, Trio, VIP};
use netns_tests::{Host, Lab, Result, Stamp, Watch, pause, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const OTHER: &str = "192.168.34.86";

fn name(n: usize) -> String {
    format!("hap{}", n + 1)
}

fn other() -> IpAddr {
    OTHER.parse().unwrap()
}

/// Whether the kernels of just these hosts have the addresses.
fn held(watch: &Watch, vips: [IpAddr; 2], by: [&str; 2]) -> bool {
    vips.iter().zip(by).all(|(vip, by)| watch.holders_now(*vip).into_iter().eq([by.to_owned()]))
}

/// Each group has a lease of its own, and they are never apart for long: not after the start, not
/// when one is moved or banned, and not when their host dies.
#[test]
fn groups_of_one_sync_move_together_with_a_lease() -> Result {
    let mut trio = Trio::new("together", Kind::Lease)?;
    let config = trio.config().replace("vrid = 85", "vrid = 85\nsync = \"pair\"")
        + &format!(
            "\n[[group]]\nname = \"files\"\nvrid = 86\nsync = \"pair\"\n\
             addresses = [\"{OTHER}/24\"]\ninterface = \"eth0\"\n"
        );
    trio.start_all(&config)?;
    let both = [IpAddr::from(VIP), other()];
    let wait = |trio: &Trio, n: usize, what: &str| {
        let at = Stamp::now();
        wait_until(what, 5 * SECOND, || Ok(held(&trio.watch, both, [&name(n), &name(n)])))?;
        println!("{what}: both there after {:?}", Stamp::now().since(at));
        Ok::<_, netns_tests::Error>(())
    };
    let first = trio.wait_holder(10 * SECOND)?;
    wait(&trio, first, "started")?;
    let (double, from) = (trio.double(Duration::from_millis(1))?, Stamp::now());
    pause(SECOND);

    let next = (first + 1) % 3;
    trio.ctl(first, &["move", "files", &name(next)])?;
    wait(&trio, next, "one was moved")?;
    pause(SECOND);
    assert!(held(&trio.watch, both, [&name(next), &name(next)]), "they stay");

    trio.ctl(next, &["ban", "files", &name(next), "--for", "1h"])?;
    let after = trio.wait_holder_but(Some(next), 5 * SECOND)?;
    wait(&trio, after, "one was banned")?;
    let said = trio.ctl(next, &["explain", GROUP])?;
    println!("{said}");
    assert!(
        said.contains("kept together with files, which must not be held here: banned"),
        "{said}"
    );
    let said = trio.ctl(next, &["status"])?;
    assert!(said.contains("kept-together"), "{said}");

    trio.power_loss(after)?;
    let last = 3 - next - after;
    wait(&trio, last, "their host died")?;
    // Addresses are removed after the gates are shut, in no hurry: what counts is who answers.
    assert_eq!(double.report(from).overlaps(), []);
    Ok(())
}

/// The classical router: one address inside, one outside. A link that goes down takes both along.
#[test]
fn groups_of_one_sync_move_together_in_plain_vrrp() -> Result {
    let cluster = Cluster::new("together-vrrp")?;
    for (n, host) in [&cluster.hap1, &cluster.hap2].into_iter().enumerate() {
        host.plug("eth1", "br1", &[&format!("10.34.0.13{}/24", n + 2)])?;
    }
    let group = |name: &str, vrid: u8, vip: &str, nic: &str| {
        format!(
            "\n[[group]]\nname = \"{name}\"\nvrid = {vrid}\naddresses = [\"{vip}/24\"]\n\
             interface = \"{nic}\"\npreempt = true\nsync = \"router\"\n"
        )
    };
    let groups =
        group("outside", 85, "192.168.34.85", "eth0") + &group("inside", 86, "10.34.0.86", "eth1");
    let (mut one, _two) = cluster.start(&groups, "outside")?;
    let both: [IpAddr; 2] = ["192.168.34.85".parse().unwrap(), "10.34.0.86".parse().unwrap()];
    let wait = |host: &str, what: &str| {
        let at = Stamp::now();
        wait_until(what, 5 * SECOND, || Ok(held(&cluster.watch, both, [host, host])))?;
        println!("{what}: both there after {:?}", Stamp::now().since(at));
        Ok::<_, netns_tests::Error>(())
    };
    wait("hap1", "started")?;

    // The Backup hears of one of them no more: that is not enough, or each host would have one.
    let before = cluster.watch.events().len();
    for rule in [
        "add table ip deaf",
        "add chain ip deaf in { type filter hook input priority 0; }",
        "add rule ip deaf in iifname \"eth1\" ip protocol 112 drop",
    ] {
        let done = cluster.hap2.run(&["nft", rule])?;
        assert!(done.status.success(), "{done:?}");
    }
    pause(2 * SECOND);
    assert_eq!(cluster.watch.events().len(), before, "{:?}", cluster.watch.events());
    let done = cluster.hap2.run(&["nft", "delete table ip deaf"])?;
    assert!(done.status.success(), "{done:?}");

    cluster.hap1.ip("link set eth1 down")?;
    wait("hap2", "the inner link went down")?;
    let said = one.ctl(&["explain", "outside"])?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    println!("{said}");
    assert!(said.contains("kept together with inside, which cannot be held here"), "{said}");
    pause(SECOND);
    assert!(held(&cluster.watch, both, ["hap2", "hap2"]), "they stay");

    cluster.hap1.ip("link set eth1 up")?;
    one.wait_role("inside", "active", 10 * SECOND)?;
    wait("hap1", "it came up again")?;
    Ok(())
}

/// What one of the groups needs is gone from a host: all of them leave it, and come back with it.
/// Where it is gone everywhere, nothing moves.
#[test]
fn what_one_group_lacks_moves_all_of_its_sync_in_plain_vrrp() -> Result {
    let cluster = Cluster::new("lacks-vrrp")?;
    for host in [&cluster.hap1, &cluster.hap2] {
        host.plug("eth1", "br1", &[])?;
    }
    let group = |name: &str, vrid: u8, vip: &str| {
        format!(
            "\n[[group]]\nname = \"{name}\"\nvrid = {vrid}\naddresses = [\"{vip}/24\"]\n\
             interface = \"eth0\"\npreempt = true\nsync = \"pair\"\n"
        )
    };
    let mut config = group("writes", 85, "192.168.34.85") + &group("reads", 86, OTHER);
    config += "\n[[check]]\nname = \"storage\"\ninterface = \"eth1\"\ninterval = \"200ms\"\n\
               groups = [\"reads\"]\n";
    let (one, _two) = cluster.start(&config, "writes")?;
    let both = [IpAddr::from(VIP), other()];
    let wait = |host: &str, what: &str| {
        let at = Stamp::now();
        wait_until(what, 20 * SECOND, || Ok(held(&cluster.watch, both, [host, host])))?;
        println!("{what}: both at {host} after {:?}", Stamp::now().since(at));
        Ok::<_, netns_tests::Error>(())
    };
    wait("hap1", "started")?;

    cluster.hap1.ip("link set eth1 down")?;
    wait("hap2", "the storage is gone from hap1")?;
    let said = one.ctl(&["explain", "writes"])?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    println!("{said}");
    let why = "kept together with reads, which cannot be served here: check storage fails";
    assert!(said.contains(why), "{said}");
    let moves = || both.map(|vip| cluster.watch.holders(vip)).concat();
    let before = moves();
    cluster.hap2.ip("link set eth1 down")?;
    pause(3 * SECOND);
    assert_eq!(moves(), before);

    cluster.hap1.ip("link set eth1 up")?;
    wait("hap1", "it is there again")?;
    let before = moves();
    cluster.hap2.ip("link set eth1 up")?;
    pause(3 * SECOND);
    assert_eq!(moves(), before);
    Ok(())
}

/// Two of three hosts have one group each. What one of these lacks sends it to the host that has none,
/// at once, whoever of the two others sees first that it has that; the other group stays.
#[test]
fn what_a_group_of_a_spread_lacks_sends_it_to_the_host_that_has_none() -> Result {
    let mut trio = Trio::new("spare", Kind::Lease)?;
    for host in &trio.hosts {
        host.plug("eth1", "br1", &[])?;
    }
    let alike = "spread = \"each\"\npreempt = true\nrecovery-delay = \"500ms\"\n\
                 priorities = { hap1 = 150, hap2 = 150, hap3 = 150 }";
    let config = trio.config().replace("vrid = 85", &format!("vrid = 85\n{alike}"))
        + &format!(
            "\n[[group]]\nname = \"files\"\nvrid = 86\n{alike}\n\
             addresses = [\"{OTHER}/24\"]\ninterface = \"eth0\"\n\
             \n[[check]]\nname = \"storage\"\ninterface = \"eth1\"\ninterval = \"200ms\"\n\
             groups = [\"files\"]\n"
        );
    trio.start_all(&config)?;
    let one_of = |trio: &Trio, vip| trio.watch.holders_now(vip).into_iter().next();
    let both = |trio: &Trio| Some((one_of(trio, VIP.into())?, one_of(trio, other())?));
    wait_until("one at each of two", 10 * SECOND, || {
        Ok(both(&trio).is_some_and(|(writes, files)| writes != files))
    })?;
    for _ in 0..6 {
        pause(2 * SECOND);
        let Some((writes, from)) = both(&trio) else { panic!("{:?}", trio.watch.events()) };
        let ill = (0..3).find(|n| name(*n) == from).unwrap();
        let spare = (0..3).map(name).find(|n| ![&writes, &from].contains(&n)).unwrap();
        let (files, still) = (trio.watch.holders(other()).len(), trio.watch.holders(VIP.into()));
        let at = Stamp::now();
        trio.hosts[ill].ip("link set eth1 down")?;
        wait_until("at the host that has none", 5 * SECOND, || {
            Ok(trio.watch.holders_now(other()).into_iter().eq([spare.clone()]))
        })?;
        println!("from {from} to {spare} after {:?}", Stamp::now().since(at));
        pause(SECOND);
        let way = trio.watch.holders(other()).split_off(files);
        let hosts: BTreeSet<_> = way.into_iter().flat_map(|(_, hosts)| hosts).collect();
        assert!(hosts.iter().all(|host| [&from, &spare].contains(&host)), "by way of {hosts:?}");
        assert_eq!(trio.watch.holders(VIP.into()), still, "the other stays");
        trio.hosts[ill].ip("link set eth1 up")?;
    }
    Ok(())
}

/// Two hosts and whatever has a vote beside them.
struct Pair {
    vipds: [Option<Vipd>; 2],
    watch: Watch,
    hosts: Vec<Host>,
    _witness: Option<Witness>,
    config: String,
    _lab: Lab,
}

impl Pair {
    /// With the example of the documentation, or as plain VRRP routers.
    fn started(label: &str, lease: bool) -> Result<Self> {
        Self::started_with(label, lease, str::to_owned)
    }

    /// The same with a file that `edit` made of it.
    fn started_with(label: &str, lease: bool, edit: fn(&str) -> String) -> Result<Self> {
        let lab = Lab::new(label)?;
        let secret = lab.dir().join("secret");
        std::fs::write(&secret, KEY).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = edit(include_str!("../../conf/active-active.toml"));
        let mut config = config.replace("/etc/vipd/secret", &secret.display().to_string());
        if !lease {
            config = config.replace("spread =", "safety = \"vrrp\"\nspread =");
        }
        let watch = Watch::new();
        let mut hosts = Vec::new();
        for (n, name) in ["hap1", "hap2", "tie"].into_iter().enumerate() {
            let host = lab.host(name, &[&format!("192.168.34.13{}/24", n + 2)])?;
            watch.follow(&host)?;
            hosts.push(host);
        }
        let witness = if lease { Some(Witness::start(&hosts[2], &[&config])?) } else { None };
        let mut pair =
            Self { vipds: [None, None], watch, hosts, _witness: witness, config, _lab: lab };
        for n in 0..2 {
            pair.start(n)?;
        }
        Ok(pair)
    }

    fn start(&mut self, n: usize) -> Result {
        self.vipds[n] = Some(Vipd::start(&self.hosts[n], &self.config)?);
        Ok(())
    }

    fn power_loss(&mut self, n: usize) -> Result {
        self.hosts[n].power_loss()?;
        self.vipds[n] = None;
        Ok(())
    }

    fn power_on(&mut self, n: usize) -> Result {
        self.hosts[n].power_on()?;
        self.watch.follow(&self.hosts[n])?;
        self.start(n)
    }

    fn wait(&self, by: [&str; 2], what: &str) -> Result {
        let at = Stamp::now();
        let vips = [IpAddr::from(VIP), other()];
        wait_until(what, 10 * SECOND, || Ok(held(&self.watch, vips, by)))?;
        println!("{what}: {by:?} after {:?}", Stamp::now().since(at));
        Ok(())
    }

    /// Sees that nothing moves.
    fn still(&self) {
        let before = self.watch.events().len();
        pause(2 * SECOND);
        assert_eq!(self.watch.events().len(), before, "{:?}", self.watch.events());
    }

    /// Waits until each host has one of them, and sees that nothing moves after that.
    fn wait_parted(&self, what: &str) -> Result {
        let parted = || {
            let [one, other] = [VIP.into(), other()].map(|vip| self.watch.holders_now(vip));
            one.len() == 1 && other.len() == 1 && one != other
        };
        wait_until(what, 10 * SECOND, || Ok(parted()))?;
        // One that is asked for the other may just have been given both.
        pause(SECOND);
        assert!(parted(), "{what}: {:?}", self.watch.events());
        self.still();
        Ok(())
    }

    fn explained(&self, n: usize, group: &str) -> Result<String> {
        let said = self.vipds[n].as_ref().unwrap().ctl(&["explain", group])?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

/// Both hosts work; when one dies the other has all, and when it is back it takes the one that it is
/// preferred for. Nothing else moves.
fn active_active(label: &str, lease: bool) -> Result {
    let mut pair = Pair::started(label, lease)?;
    let apart = ["hap1", "hap2"];
    pair.wait(apart, "started")?;
    pause(2 * SECOND);
    pair.wait(apart, "settled")?;
    pair.still();
    for n in 0..2 {
        let (dead, left) = (apart[n], apart[1 - n]);
        pair.power_loss(n)?;
        pair.wait([left, left], &format!("{dead} died"))?;
        let said = pair.explained(1 - n, ["writes", "reads"][1 - n])?;
        println!("{said}");
        assert!(said.contains("to be kept apart from this"), "{said}");
        pair.power_on(n)?;
        pair.wait(apart, &format!("{dead} is back"))?;
        pair.still();
    }
    Ok(())
}

#[test]
fn both_hosts_have_one_while_both_are_well_with_a_lease() -> Result {
    active_active("apart", true)
}

#[test]
fn both_hosts_have_one_while_both_are_well_in_plain_vrrp() -> Result {
    active_active("apart-vrrp", false)
}

/// No host is preferred for any of them: only that they are to be kept apart moves one of them, when
/// both are on one host.
fn alike(label: &str, lease: bool) -> Result {
    let mut pair = Pair::started_with(label, lease, |file| {
        let file = file.replace("priorities = { hap2 = 200 }\n", "");
        file.replace(
            "preempt = true\n",
            "preempt = true\npriorities = { hap1 = 150, hap2 = 150 }\n",
        )
    })?;
    pair.wait_parted("started")?;
    for (n, left) in [(0, "hap2"), (1, "hap1")] {
        pair.power_loss(n)?;
        pair.wait([left, left], "one died")?;
        pair.power_on(n)?;
        pair.wait_parted("it is back")?;
    }
    Ok(())
}

#[test]
fn a_host_that_returns_gets_one_of_two_that_nobody_is_preferred_for_with_a_lease() -> Result {
    alike("alike", true)
}

#[test]
fn a_host_that_returns_gets_one_of_two_that_nobody_is_preferred_for_in_plain_vrrp() -> Result {
    alike("alike-vrrp", false)
}
