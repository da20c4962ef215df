//! `vipctl move`: what a client notices of it, and what is said of it.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::peer::vipd::Vipd;
use netns_tests::stats::Summary;
use netns_tests::{Host, Lab, Probe, Result, Stamp, Watch, pause, wait_until};

const GROUP: &str = "postgres";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 7;
const MOVES: usize = 10;

fn vip() -> IpAddr {
    [192, 168, 34, 85].into()
}

/// What is said of a move: nobody answered for so many milliseconds.
fn told(said: &str) -> Option<f64> {
    said.split("answered for ").nth(1)?.split(' ').next()?.parse().ok()
}

#[test]
fn a_move_costs_milliseconds_and_says_how_many() -> Result {
    let lab = Lab::new("handover")?;
    let secret = lab.dir().join("secret");
    std::fs::write(&secret, KEY).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let node = |n| format!("[[node]]\nname = \"hap{n}\"\naddress = \"192.168.34.13{}\"\n", n + 1);
    let nodes: String = (1..=3).map(node).collect();
    let config = format!(
        "[cluster]\nname = \"lb\"\nsecret = \"{}\"\n{nodes}[[group]]\nname = \"{GROUP}\"\nvrid = \
         85\naddresses = [\"192.168.34.85/24\"]\n",
        secret.display()
    );
    let watch = Watch::new();
    let mut hosts: Vec<Host> = Vec::new();
    for n in 1..=3 {
        let host = lab.host(&format!("hap{n}"), &[&format!("192.168.34.13{}/24", n + 1)])?;
        host.echo(PORT)?;
        watch.follow(&host)?;
        hosts.push(host);
    }
    let vipds: Vec<Vipd> =
        hosts.iter().map(|host| Vipd::start(host, &config)).collect::<Result<_>>()?;
    let client = lab.host("client", &["192.168.34.200/24"])?;
    let holder = || vipds.iter().position(|v| v.role(GROUP).is_ok_and(|role| role == "active"));
    wait_until("a holder", 5 * SECOND, || Ok(holder().is_some()))?;

    let refused = vipds[0].ctl(&["move", GROUP, "hap9"])?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    let (mut seen, mut said) = (Vec::new(), Vec::new());
    for turn in 0..MOVES {
        pause(SECOND / 3);
        let from = holder().unwrap();
        let to = (from + 1 + turn % 2) % 3;
        let probe = Probe::start(&client, (vip(), PORT).into(), Duration::from_millis(1))?;
        probe.wait_answer(Stamp::now(), 5 * SECOND)?;
        let at = Stamp::now();
        // Asked on the holder, the successor and the third in turn.
        let output = vipds[turn % 3].ctl(&["move", GROUP, hosts[to].name()])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        let words = format!("{GROUP} moved from {} to {}", hosts[from].name(), hosts[to].name());
        assert!(text.starts_with(&words), "{text}");
        watch.wait_holders(vip(), &[hosts[to].name()], SECOND)?;
        pause(SECOND / 5);
        let outage = probe.timeline().outage_after(at).length();
        println!("{}; a client saw {outage:?}", text.trim());
        seen.push(outage.as_secs_f64() * 1000.0);
        said.extend(told(&text));
    }
    println!(
        "a client: {} ms; the successors: {} ms",
        Summary::of(&seen).unwrap(),
        Summary::of(&said).unwrap()
    );
    assert_eq!(said.len(), MOVES, "each successor saw how long it took");
    // A vote that had to end would take 220 ms.
    let median = Summary::of(&seen).unwrap().median;
    assert!(median < 100.0, "{seen:?}");

    let there = vipds[0].ctl(&["move", GROUP, hosts[holder().unwrap()].name()])?;
    assert!(String::from_utf8_lossy(&there.stdout).contains("already"), "{there:?}");
    Ok(())
}
