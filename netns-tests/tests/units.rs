//! Checks of units, with a real systemd: seen when they change, and told where nobody can tell.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`; the first run makes the hosts' file system.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::Duration;

use netns_tests::Stamp;
use netns_tests::nspawn::{Host, SERVICE};
use tokio::time::timeout;
use vipd::config::Probe;
use vipd::io::check::Prober;
use vipd::io::proxy::Bus;

/// Far more than any step takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// What one look is given.
const LIMIT: Duration = Duration::from_secs(5);

const GOOD: &str = "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n";
const BAD: &str = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 3'\n";

fn boot(name: &str) -> Host {
    let host = Host::boot(name, None).unwrap_or_else(|e| panic!("{e}"));
    for (unit, text) in [("good.service", GOOD), ("bad.service", BAD)] {
        host.write(&format!("/etc/systemd/system/{unit}"), text.as_bytes(), 0o644)
            .unwrap_or_else(|e| panic!("{e}"));
    }
    host.sh("systemctl daemon-reload");
    host
}

/// What looks at `unit` of `host`, and what it finds first.
async fn prober(host: &Host, unit: &str) -> (Prober, Result<String, String>) {
    let bus = Bus::Address(host.bus_address());
    let mut prober = Prober::with_bus(&Probe::Unit(unit.to_owned()), bus);
    let found = prober.look(LIMIT).await;
    (prober, found)
}

/// Looks when something may have changed, until it finds `expected`.
async fn comes(prober: &mut Prober, expected: &Result<&str, &str>) {
    let found = timeout(PATIENCE, async {
        loop {
            let now = prober.look(LIMIT).await;
            if now.as_deref().map_err(String::as_str) == *expected {
                return;
            }
            prober.changed().await;
        }
    });
    assert!(found.await.is_ok(), "{expected:?} does not come");
}

#[tokio::test]
async fn a_unit_is_told_from_one_that_is_not_active() {
    let host = boot("unit");
    let (mut good, found) = prober(&host, "good.service").await;
    assert_eq!(found, Err("good.service is inactive (dead)".to_owned()));
    host.sh("systemctl start good.service");
    comes(&mut good, &Ok("good.service is active (running)")).await;
    // It is noticed without a look of its own.
    let killed = host.sh("date +%s%N; systemctl kill -s KILL good.service");
    let killed = Stamp::from_nanos(killed.parse().unwrap_or_default());
    let how = "good.service failed: killed by signal 9";
    comes(&mut good, &Err(how)).await;
    println!(
        "a killed unit was found {:.1?} after the order to kill it",
        Stamp::now().since(killed)
    );
    host.sh("systemctl reset-failed good.service; systemctl start good.service");
    comes(&mut good, &Ok("good.service is active (running)")).await;
    host.sh("systemctl stop good.service");
    comes(&mut good, &Err("good.service is inactive (dead)")).await;

    host.sh("systemctl start bad.service || true");
    let (_, found) = prober(&host, "bad.service").await;
    assert_eq!(found, Err("bad.service failed: exit status 3".to_owned()));
    let (_, found) = prober(&host, "absent.service").await;
    assert_eq!(found, Err("there is no absent.service".to_owned()));
    let (_, found) = prober(&host, "multi-user.target").await;
    assert_eq!(found, Ok("multi-user.target is active (active)".to_owned()));
}

#[tokio::test]
async fn a_systemd_that_hangs_or_left_is_named_and_found_again() {
    let host = boot("hung-systemd");
    host.sh("systemctl start good.service");
    let (mut good, found) = prober(&host, "good.service").await;
    assert_eq!(found, Ok("good.service is active (running)".to_owned()));
    let bus = host.sh("systemctl show -P MainPID dbus.service");
    host.sh(&format!("kill -STOP {bus}"));
    let late = good.look(Duration::from_millis(300)).await;
    assert_eq!(late, Err("systemd does not answer within 300ms".to_owned()));
    host.sh(&format!("kill -CONT {bus}"));
    comes_soon(&mut good, "good.service is active (running)").await;

    host.sh("systemctl stop dbus.socket dbus.service");
    let gone = good.look(LIMIT).await;
    println!("{gone:?}");
    let gone = good.look(LIMIT).await;
    println!("{gone:?}");
    assert!(gone.as_ref().is_err_and(|why| why.starts_with("no systemd on D-Bus")), "{gone:?}");
    host.sh("systemctl start dbus.socket");
    comes_soon(&mut good, "good.service is active (running)").await;
}

/// The same, where nobody tells of a change: asked again and again.
async fn comes_soon(prober: &mut Prober, expected: &str) {
    let found = timeout(PATIENCE, async {
        while prober.look(LIMIT).await.as_deref() != Ok(expected) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(found.await.is_ok(), "{expected:?} does not come");
}

const CONFIG: &str = r#"cluster = { name = "lb" }

[[node]]
name = "hap1"
address = "192.0.2.1"

[[node]]
name = "hap2"
address = "192.0.2.2"

[[group]]
name = "postgres"
vrid = 85
addresses = ["192.0.2.100/24"]
proxy = { unit = "haproxy.service" }

[[check]]
name = "unit"
unit = "good.service"
interval = "500ms"
"#;

/// Waits until a shell condition holds in the host.
fn holds(host: &Host, condition: &str) {
    host.sh(&format!(
        "for i in $(seq 200); do {condition} && exit 0; sleep 0.05; done; \
         ip address; vipctl status; journalctl -u vipd --no-pager | tail -50; exit 1"
    ));
}

/// The packaged service on a host whose D-Bus goes: what it cannot ask any more is named, the proxy
/// is left as it is, and the address stays, for nobody is better.
#[test]
fn without_d_bus_the_service_names_it_and_holds() {
    let host = boot("hap1");
    host.install(&SERVICE).unwrap_or_else(|e| panic!("{e}"));
    host.install_programs().unwrap_or_else(|e| panic!("{e}"));
    host.write("/etc/vipd/vipd.toml", CONFIG.as_bytes(), 0o644).unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemd-sysusers; systemctl daemon-reload; systemctl restart polkit.service");
    host.sh("ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up");
    host.sh("ip address add 192.0.2.1/24 dev eth0");
    host.sh("systemctl disable haproxy.service; systemctl restart good.service haproxy.service");
    host.sh("systemctl start vipd.service || { journalctl -u vipd --no-pager; exit 1; }");
    holds(&host, "ip -o address | grep -q ' 192.0.2.100/'");
    holds(&host, "vipctl status --json | grep -q '\"verdict\": *true'");
    let haproxy = host.sh("systemctl show -P MainPID haproxy.service");

    host.sh("systemctl stop dbus.socket dbus.service");
    holds(&host, "vipctl status | grep -q proxy-unknown");
    holds(&host, "vipctl explain postgres | grep -q 'check unit fails'");
    let said = host.sh("vipctl explain postgres");
    println!("{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["hap1, this node, holds it", "nobody better is known", "D-Bus"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    host.sh(&format!("sleep 3; kill -0 {haproxy}; ip -o address | grep -q ' 192.0.2.100/'"));

    host.sh("systemctl start dbus.socket");
    holds(&host, "! vipctl status | grep -q 'proxy-unknown\\|check-failing'");
    assert_eq!(host.sh("systemctl show -P MainPID haproxy.service"), haproxy, "never touched");
    host.sh("ip -o address | grep -q ' 192.0.2.100/'");
}
