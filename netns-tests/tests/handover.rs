//! `vipctl move`: what a client notices of it, and what is said of it.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::Duration;

use netns_tests::stats::Summary;
use netns_tests::trio::{ECHO, GROUP, Kind, Trio, VIP};
use netns_tests::{Probe, Result, Stamp, pause};

const SECOND: Duration = Duration::from_secs(1);
const MOVES: usize = 10;

/// What is said of a move: nobody answered for so many milliseconds.
fn told(said: &str) -> Option<f64> {
    said.split("answered for ").nth(1)?.split(' ').next()?.parse().ok()
}

#[test]
fn a_move_costs_milliseconds_and_says_how_many() -> Result {
    let mut trio = Trio::started("handover", Kind::Lease)?;

    let refused = trio.vipd(0).ctl(&["move", GROUP, "hap9"])?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    let names: Vec<_> = trio.hosts.iter().map(|host| host.name().to_owned()).collect();
    let (mut seen, mut said) = (Vec::new(), Vec::new());
    for turn in 0..MOVES {
        pause(SECOND / 3);
        let from = trio.wait_holder(SECOND)?;
        let to = (from + 1 + turn % 2) % 3;
        let probe = Probe::start(&trio.client, (VIP, ECHO).into(), Duration::from_millis(1))?;
        probe.wait_answer(Stamp::now(), 5 * SECOND)?;
        let at = Stamp::now();
        // Asked on the holder, the successor and the third in turn.
        let output = trio.vipd(turn % 3).ctl(&["move", GROUP, &names[to]])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        let words = format!("{GROUP} moved from {} to {}", names[from], names[to]);
        assert!(text.starts_with(&words), "{text}");
        trio.watch.wait_holders(VIP.into(), &[&names[to]], SECOND)?;
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

    let holder = trio.wait_holder(SECOND)?;
    let there = trio.vipd(0).ctl(&["move", GROUP, &names[holder]])?;
    assert!(String::from_utf8_lossy(&there.stdout).contains("already"), "{there:?}");
    Ok(())
}
