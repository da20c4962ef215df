//! Two hosts that serve and one that only votes, on real kernels.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::peer::vipd::{Vipd, Witness};
use netns_tests::{Host, Lab, Result, Watch, pause, wait_until};

const VIPS: [&str; 2] = ["192.168.34.85", "192.168.34.86"];
const MORE: &str = "192.168.34.90";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);

fn vip(n: usize) -> IpAddr {
    VIPS[n].parse().expect("an address")
}

/// Cluster `n` of the lab: two nodes at `first` and the address after it, and the witness.
fn config(lab: &Lab, n: usize, names: [&str; 2], first: u8) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = lab.dir().join("secret");
    std::fs::write(&secret, KEY).expect("the lab has a directory");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))
        .expect("a mode can be set");
    format!(
        r#"
[cluster]
name = "lb{n}"
secret = "{}"
port = {}

[[node]]
name = "{}"
address = "192.168.34.{first}"

[[node]]
name = "{}"
address = "192.168.34.{}"

[[witness]]
name = "tie"
address = "192.168.34.140"

[[group]]
name = "postgres"
vrid = {}
addresses = ["{}/24"]
"#,
        secret.display(),
        8600 + n,
        names[0],
        names[1],
        first + 1,
        85 + n,
        VIPS[n]
    )
}

struct Site {
    lab: Lab,
    watch: Watch,
    tie: Host,
    hosts: Vec<Host>,
    vipds: Vec<Vipd>,
    config: String,
}

/// Two nodes that run, and the host of the witness, which does not yet.
fn site(label: &str) -> Result<Site> {
    let lab = Lab::new(label)?;
    let config = config(&lab, 0, ["hap1", "hap2"], 132);
    let watch = Watch::new();
    let mut hosts = Vec::new();
    for (name, address) in [("hap1", 132), ("hap2", 133)] {
        let host = lab.host(name, &[&format!("192.168.34.{address}/24")])?;
        watch.follow(&host)?;
        hosts.push(host);
    }
    let tie = lab.host("tie", &["192.168.34.140/24"])?;
    let vipds = hosts.iter().map(|h| Vipd::start(h, &config)).collect::<Result<_>>()?;
    Ok(Site { lab, watch, tie, hosts, vipds, config })
}

/// Whoever of `hosts` came to hold the address of cluster `n`: any may be the first that asks.
fn holder(watch: &Watch, n: usize, hosts: &[Host]) -> Result<Host> {
    let mut found = None;
    wait_until("somebody holds", 5 * SECOND, || {
        let names = watch.holders_now(vip(n));
        found = hosts.iter().find(|h| names.contains(h.name())).cloned();
        Ok(found.is_some())
    })?;
    Ok(found.expect("waited for"))
}

#[test]
fn with_a_witness_the_other_of_two_serves() -> Result {
    let site = site("witness")?;
    let witness = Witness::start(&site.tie, &[&site.config])?;
    let first = holder(&site.watch, 0, &site.hosts)?;
    let held = || Ok(witness.status()?["groups"][0]["lease"]["holder"] == first.name());
    wait_until("the witness knows who holds", 2 * SECOND, held)?;
    let status = witness.status()?;
    assert_eq!(status["node"], "tie", "{status}");
    assert_eq!(status["voting"]["settled"], true, "{status}");

    // Without the witness nothing changes: two of three are a majority.
    let before = site.watch.events().len();
    witness.process.kill()?;
    pause(SECOND);
    assert_eq!(site.watch.events().len(), before, "an address moved as the witness died");

    let mut witness = Witness::start(&site.tie, &[&site.config])?;
    let votes = || Ok(witness.status().is_ok_and(|s| s["voting"]["settled"] == true));
    wait_until("the witness votes again", 2 * SECOND, votes)?;
    pause(SECOND);
    assert!(witness.process.is_running(), "{}", witness.process.log());
    let at = first.power_loss()?;
    let took = site.watch.wait_event(vip(0), true, at, 2 * SECOND)?;
    println!("power loss of the holder, outage: {:?}", took.at.since(at));
    assert_ne!(holder(&site.watch, 0, &site.hosts)?.name(), first.name());

    // Alone it may not hold, whatever it believes of the others.
    let at = netns_tests::Stamp::now();
    witness.process.kill()?;
    let gone = site.watch.wait_event(vip(0), false, at, 2 * SECOND)?;
    println!("witness lost as well, given up after: {:?}", gone.at.since(at));
    pause(SECOND);
    assert!(site.watch.holders_now(vip(0)).is_empty());

    let at = netns_tests::Stamp::now();
    let mut witness = Witness::start(&site.tie, &[&site.config])?;
    let back = site.watch.wait_event(vip(0), true, at, 5 * SECOND)?;
    println!("witness back, held again after: {:?}", back.at.since(at));
    assert_eq!(site.watch.two_holders(vip(0)), []);
    witness.process.term()?;
    let ended = witness.process.wait(SECOND)?;
    assert!(ended.success(), "{ended}: {}", witness.process.log());
    assert!(site.lab.dir().exists());
    Ok(())
}

/// A file that every voter gets is in force once the witness has it, too, and not before.
#[test]
fn a_witness_takes_a_changed_file() -> Result {
    let site = site("witness3")?;
    let witness = Witness::start(&site.tie, &[&site.config])?;
    holder(&site.watch, 0, &site.hosts)?;
    assert_eq!(witness.status()?["groups"][0]["role"], "votes-only");
    let more = format!(
        "{}\n[[group]]\nname = \"more\"\nvrid = 99\naddresses = [\"{MORE}/24\"]\n",
        site.config
    );
    for (host, vipd) in site.hosts.iter().zip(&site.vipds) {
        host.write("vipd/vipd.toml", &more)?;
        let reload = vipd.ctl(&["reload"])?;
        assert!(reload.status.success(), "{reload:?}");
    }
    let more_ip: IpAddr = MORE.parse().expect("an address");
    pause(SECOND);
    assert!(site.watch.holders_now(more_ip).is_empty(), "in force without the witness");
    site.tie.write("witness/0.toml", &more)?;
    let reload = witness.ctl(&["reload"])?;
    assert!(reload.status.success(), "{reload:?}");
    wait_until("the new group is held", 5 * SECOND, || {
        Ok(site.watch.holders_now(more_ip).len() == 1)
    })?;
    let status = witness.status()?;
    assert_eq!(status["groups"][1]["name"], "more", "{status}");
    assert_eq!(status["voting"]["settled"], true, "{status}");

    // What it cannot read changes nothing.
    site.tie.write("witness/0.toml", "[cluster]\n")?;
    assert!(!witness.ctl(&["reload"])?.status.success());
    assert_eq!(witness.status()?["groups"][1]["name"], "more");
    Ok(())
}

#[test]
fn one_witness_votes_in_two_clusters() -> Result {
    let site = site("witness2")?;
    let second = config(&site.lab, 1, ["app1", "app2"], 150);
    let mut vipds = Vec::new();
    let mut hosts = Vec::new();
    for (name, address) in [("app1", 150), ("app2", 151)] {
        let host = site.lab.host(name, &[&format!("192.168.34.{address}/24")])?;
        site.watch.follow(&host)?;
        vipds.push(Vipd::start(&host, &second)?);
        hosts.push(host);
    }
    let witness = Witness::start(&site.tie, &[&site.config, &second])?;
    let holders = [holder(&site.watch, 0, &site.hosts)?, holder(&site.watch, 1, &hosts)?];
    let status = witness.status()?;
    assert_eq!(status["cluster"], "lb0", "{status}");
    assert_eq!(status["further"][0]["cluster"], "lb1", "{status}");
    println!("{}", String::from_utf8_lossy(&witness.ctl(&["status"])?.stdout));
    let reload = witness.ctl(&["reload"])?;
    assert!(reload.status.success(), "{reload:?}");
    pause(SECOND);
    for (n, host) in holders.iter().enumerate() {
        let at = host.power_loss()?;
        let took = site.watch.wait_event(vip(n), true, at, 2 * SECOND)?;
        println!("power loss of the holder in lb{n}, outage: {:?}", took.at.since(at));
    }
    Ok(())
}
