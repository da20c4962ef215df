//! Groups that are held by lease, on real kernels.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::peer::vipd::Vipd;
use netns_tests::{Host, Lab, Result, Watch, pause};

const VIP: &str = "192.168.34.85";
const GROUP: &str = "postgres";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);

fn vip() -> IpAddr {
    VIP.parse().unwrap()
}

struct Three {
    vipds: Vec<Vipd>,
    hosts: Vec<Host>,
    watch: Watch,
    _lab: Lab,
}

fn three(label: &str) -> Result<Three> {
    let lab = Lab::new(label)?;
    let secret = lab.dir().join("secret");
    std::fs::write(&secret, KEY).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = format!(
        r#"
[cluster]
name = "lb"
secret = "{}"

[[node]]
name = "hap1"
address = "192.168.34.132"

[[node]]
name = "hap2"
address = "192.168.34.133"

[[node]]
name = "hap3"
address = "192.168.34.134"

[[group]]
name = "postgres"
vrid = 85
addresses = ["{VIP}/24"]
"#,
        secret.display()
    );
    let watch = Watch::new();
    let mut hosts = Vec::new();
    let mut vipds = Vec::new();
    for n in 1..=3 {
        let host = lab.host(&format!("hap{n}"), &[&format!("192.168.34.13{}/24", n + 1)])?;
        watch.follow(&host)?;
        hosts.push(host);
    }
    for host in &hosts {
        vipds.push(Vipd::start(host, &config)?);
    }
    Ok(Three { vipds, hosts, watch, _lab: lab })
}

#[test]
fn one_of_three_holds() -> Result {
    let mut three = three("lease")?;
    let started = three.vipds[0].wait_role(GROUP, "active", 5 * SECOND);
    for vipd in three.vipds.iter().take(0) {
        println!("{}", serde_json::to_string_pretty(&vipd.status()?).unwrap());
        println!("{}", vipd.process.log());
    }
    started?;
    pause(SECOND);
    three.watch.wait_holders(vip(), &["hap1"], SECOND)?;
    let at = three.hosts[0].power_loss()?;
    let took = three.watch.wait_event(vip(), true, at, 2 * SECOND)?;
    println!("power loss: {:?}", took.at.since(at));
    Ok(())
}
