//! A proxy that is a systemd unit hangs, on real systemds: HAProxy as it is packaged, cared for by
//! the packaged service.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`, and `vipd` built in the profile of the test.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::{Host, Lab, Result, Stamp, Watch, http, nspawn, pause, wait_until};

const VIP: &str = "192.168.34.85";
const PORT: u16 = 8080;
const SECOND: Duration = Duration::from_secs(1);

const CONFIG: &str = r#"cluster = { name = "lb" }

[[node]]
name = "hap1"
address = "192.168.34.132"

[[node]]
name = "hap2"
address = "192.168.34.133"

[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24"]
proxy = { unit = "haproxy.service", migration-threshold = 2 }

[[check]]
name = "front"
http = "http://127.0.0.1:8080/"
interval = "200ms"
timeout = "200ms"
restart-proxy = true
"#;

fn machine(name: &str, namespace: &str) -> nspawn::Host {
    let netns = format!("/run/netns/{namespace}");
    let host = nspawn::Host::boot(name, Some(&netns)).unwrap_or_else(|e| panic!("{e}"));
    let haproxy = format!(
        "global\n    user haproxy\n    group haproxy\n\
         defaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    \
         timeout connect 1s\n\
         frontend front\n    bind :{PORT}\n    \
         http-request return status 200 hdr x-proxy {name}\n"
    );
    host.install(&nspawn::SERVICE)
        .and_then(|()| host.install_programs())
        .and_then(|()| host.write("/etc/haproxy/haproxy.cfg", haproxy.as_bytes(), 0o644))
        .and_then(|()| host.write("/etc/vipd/vipd.toml", CONFIG.as_bytes(), 0o644))
        .unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl disable --now haproxy.service; systemd-sysusers; systemctl daemon-reload");
    host.sh("systemctl restart polkit.service");
    host.sh("systemctl start vipd.service || { journalctl -u vipd; exit 1; }");
    host
}

/// What the daemons say of it.
fn story(machines: &[nspawn::Host]) {
    for machine in machines {
        let said = machine.sh("journalctl -u vipd -u haproxy --no-pager | tail -40");
        println!("--- {}\n{said}", machine.name());
    }
}

fn main_pid(machine: &nspawn::Host) -> String {
    machine.sh("systemctl show -P MainPID haproxy.service")
}

/// Stops every process of the proxy without its end: the kernel goes on to take connections.
fn hang(machine: &nspawn::Host) -> Stamp {
    let at = Stamp::now();
    machine.sh("systemctl kill --signal=STOP haproxy.service");
    at
}

/// The first time it is killed and started in place, and the address stays; at the threshold that
/// moves.
#[test]
fn a_hung_unit_is_started_anew_in_place_before_the_address_moves() -> Result {
    let lab = Lab::new("service-proxy")?;
    let vip: IpAddr = VIP.parse().expect("an address");
    let watch = Watch::new();
    let (mut hosts, mut machines) = (Vec::new(), Vec::new());
    for n in 1..=2 {
        let name = format!("hap{n}");
        let host = lab.host(&name, &[&format!("192.168.34.{}/24", 131 + n)])?;
        watch.follow(&host)?;
        machines.push(machine(&name, host.namespace()));
        hosts.push(host);
    }
    let client = lab.host("client", &["192.168.34.10/24"])?;
    let served = |by: &str, within: Duration, what: &str| {
        let answers = |client: &Host| http::get(client, (vip, PORT).into(), SECOND).ok();
        wait_until(what, within, || Ok(answers(&client).as_deref() == Some(by)))
            .inspect_err(|_| story(&machines))
    };
    served("hap1", 20 * SECOND, "an answer by the first")?;
    for machine in &machines {
        let passes =
            || Ok(machine.sh("vipctl status --json").replace(' ', "").contains("\"verdict\":true"));
        wait_until("a check that passes", 20 * SECOND, passes).inspect_err(|_| story(&machines))?;
    }
    // A proxy that has only just been started has more time.
    pause(2 * SECOND);

    let old = main_pid(&machines[0]);
    let at = hang(&machines[0]);
    wait_until("another process", 10 * SECOND, || {
        Ok(!["0", &old].contains(&&*main_pid(&machines[0])))
    })
    .inspect_err(|_| story(&machines))?;
    let again = served("hap1", 10 * SECOND, "an answer by the first again")?;
    println!("a hung unit serves again {:?} after it hung", again.since(at));
    let moved = watch.events().iter().filter(|e| e.ip == vip && e.at > at).count();
    assert_eq!(moved, 0, "the address never left");
    let said = machines[0].sh("journalctl -u vipd --no-pager");
    assert!(said.contains("failure 1 of 2"), "{said}");

    pause(2 * SECOND);
    let at = hang(&machines[0]);
    let there = served("hap2", 10 * SECOND, "an answer by the other")?;
    println!("at the threshold the other serves {:?} after it hung", there.since(at));
    assert!(watch.holders_now(vip).into_iter().eq(["hap2".to_owned()]));
    let said = machines[1].sh("vipctl explain postgres");
    println!("{said}");
    Ok(())
}
