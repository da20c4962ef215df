//! The packaged witness on a real systemd: little exposed, nobody's user, and a vote that counts.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`, and `vipd` built in the profile of the test.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use netns_tests::nspawn;
use netns_tests::peer::vipd::Vipd;
use netns_tests::{Host, Lab, Result, Stamp, Watch, pause};

const VIP: &str = "192.168.34.85";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

/// The file, with the key at `secret`: the path on the witness is another one than in the lab.
fn config(secret: &Path) -> String {
    format!(
        "[cluster]\nname = \"lb\"\nsecret = \"{}\"\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\n\
         [[witness]]\nname = \"tie\"\naddress = \"192.168.34.140\"\n\
         [[group]]\nname = \"postgres\"\nvrid = 85\naddresses = [\"{VIP}/24\"]\n",
        secret.display()
    )
}

/// A machine with the packaged witness, which does not run yet.
fn machine(netns: Option<&str>) -> nspawn::Host {
    let host = nspawn::Host::boot("tie", netns).unwrap_or_else(|e| panic!("{e}"));
    host.install(&["vipd-witness.service", "vipd.sysusers"]).unwrap_or_else(|e| panic!("{e}"));
    host.install_programs().unwrap_or_else(|e| panic!("{e}"));
    host.write("/etc/vipd/secret", KEY.as_bytes(), 0o640)
        .and_then(|()| {
            let file = config(Path::new("/etc/vipd/secret"));
            host.write("/etc/vipd/vipd.toml", file.as_bytes(), 0o644)
        })
        .unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl disable --now haproxy.service; systemd-sysusers; systemctl daemon-reload");
    host.sh("chgrp vipd /etc/vipd/secret");
    host
}

/// Waits until a shell condition holds in the host.
fn holds(host: &nspawn::Host, condition: &str) {
    host.sh(&format!(
        "for i in $(seq 200); do {condition} && exit 0; sleep 0.05; done; \
         journalctl -u vipd-witness --no-pager | tail -50; exit 1"
    ));
}

#[test]
fn the_unit_is_valid_and_hardly_exposed() {
    let host = machine(None);
    let unit = "/usr/lib/systemd/system/vipd-witness.service";
    assert_eq!(host.sh(&format!("systemd-analyze verify --man=no {unit} 2>&1")), "");
    println!("{}", host.sh("systemd-analyze security --no-pager vipd-witness | tail -1"));
    host.sh("systemd-analyze security --no-pager --threshold=15 vipd-witness.service");
}

/// Two nodes in the lab, and the witness on a machine of its own.
#[test]
fn its_vote_lets_the_other_of_two_serve() -> Result {
    let lab = Lab::new("service-witness")?;
    let watch = Watch::new();
    let tie = lab.host("tie", &["192.168.34.140/24"])?;
    let machine = machine(Some(&format!("/run/netns/{}", tie.namespace())));
    machine.sh("systemctl start vipd-witness || { journalctl -u vipd-witness; exit 1; }");

    let secret = lab.dir().join("secret");
    let kept = std::fs::write(&secret, KEY);
    kept.and_then(|()| std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)))
        .expect("the lab has a directory");
    let mut hosts: Vec<(Host, Vipd)> = Vec::new();
    for n in 1..=2 {
        let host = lab.host(&format!("hap{n}"), &[&format!("192.168.34.{}/24", 131 + n)])?;
        watch.follow(&host)?;
        let vipd = Vipd::start(&host, &config(&secret))?;
        hosts.push((host, vipd));
    }
    watch.wait_event(vip(), true, Stamp::default(), 10 * SECOND)?;
    let ctl = "vipctl --runtime-dir /run/vipd-witness";
    holds(&machine, &format!("{ctl} status --json | grep -q '\"settled\": *true'"));

    // Nobody's user, no right, and no more of the key than to read it.
    let pid = machine.sh("systemctl show -P MainPID vipd-witness");
    let status = machine.sh(&format!("cat /proc/{pid}/status"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{set} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    assert!(!status.contains("Uid:\t0\t"), "{status}");

    // A restart and a reload of it are not noticed.
    let moves = watch.events().len();
    machine.sh("systemctl restart vipd-witness; systemctl reload vipd-witness");
    pause(2 * SECOND);
    assert_eq!(watch.events().len(), moves, "{:?}", watch.events());
    holds(&machine, &format!("{ctl} status --json | grep -q '\"settled\": *true'"));

    // Nor is its crash, and systemd starts it again.
    machine.sh("systemctl kill -s KILL vipd-witness");
    holds(&machine, "test $(systemctl show -P NRestarts vipd-witness) = 1");
    holds(&machine, &format!("{ctl} status --json | grep -q '\"settled\": *true'"));
    assert_eq!(watch.events().len(), moves, "{:?}", watch.events());

    // One that hangs is replaced as well.
    let pid = machine.sh("systemctl show -P MainPID vipd-witness");
    machine.sh(&format!("kill -STOP {pid}"));
    holds(&machine, "test $(systemctl show -P NRestarts vipd-witness) = 2");
    holds(&machine, &format!("{ctl} status --json | grep -q '\"settled\": *true'"));
    assert_eq!(watch.events().len(), moves, "{:?}", watch.events());

    let now = watch.holders_now(vip());
    let old = hosts.iter().position(|(host, _)| now.contains(host.name())).expect("a holder");
    let at = hosts[old].0.power_loss()?;
    let new = watch.wait_event(vip(), true, at, 5 * SECOND)?;
    println!("served by the other one {:.0?} after the holder lost power", new.at.since(at));
    assert_ne!(new.host, hosts[old].0.name());
    assert_eq!(watch.two_holders(vip()), []);
    machine.sh("systemctl stop vipd-witness");
    assert_eq!(machine.sh("systemctl show -P Result vipd-witness"), "success");
    Ok(())
}
