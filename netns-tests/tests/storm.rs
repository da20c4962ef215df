//! Three hosts in a storm of faults: the address is never served by two of them, and it comes back.
//!
//! `VIPD_STORM_SEED` repeats a storm as closely as the machine allows, `VIPD_STORM_SECONDS` makes
//! it longer. keepalived gets the same storm, for comparison.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::Duration;

use netns_tests::double::{Outage, Overlap, Report};
use netns_tests::storm::Storm;
use netns_tests::trio::{Kind, Trio};
use netns_tests::{Double, Result, Stamp, pause};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// How often every host is asked.
const EVERY: Duration = Duration::from_micros(250);
/// An outage that a client would notice.
const LONG: Duration = Duration::from_millis(50);
/// keepalived's storm is not longer than that: its figures are for comparison only.
const COMPARED: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a storm did to clients, and what happened when.
struct Weathered {
    report: Report,
    told: Vec<(Stamp, String)>,
}

/// One storm; service is back after it, at one host, and every daemon still runs.
fn weather(label: &str, kind: Kind, seed: u64, during: Duration) -> Result<Weathered> {
    let mut trio = Trio::started(label, kind)?;
    let double = trio.double(EVERY)?;
    double.wait_single(SECOND / 2, 10 * SECOND)?;
    let from = Stamp::now();
    let told = Storm::new(&mut trio, seed).blow(during)?;
    let report = double.report(from);
    print_overlaps(label, seed, &report, &told);
    let calm = Stamp::now();
    let holder = double.wait_single(SECOND, 20 * SECOND)?;
    println!("{label}: {holder} serves {:.1?} after the storm", Stamp::now().since(calm));
    assert_eq!(trio.ended(), [], "a daemon ended, seed {seed}");
    let report = double.report(from);
    Ok(Weathered { report, told })
}

fn print_overlaps(label: &str, seed: u64, report: &Report, told: &[(Stamp, String)]) {
    for overlap in report.overlaps().iter().take(3) {
        println!("{label}, seed {seed}: {overlap:?}, after");
        let before =
            |at: &Stamp| *at <= overlap.at + 500 * MS && overlap.at.since(*at) < 3 * SECOND;
        for (at, what) in told.iter().filter(|(at, _)| before(at)) {
            println!("  {:>7.1?} before: {what}", overlap.at.since(*at));
        }
    }
}

fn row(name: &str, Weathered { report, told }: &Weathered) -> String {
    let overlaps = report.overlaps();
    let answers: usize = overlaps.iter().map(|o| o.answers).sum();
    let longest = overlaps.iter().map(|o| o.lasted).max().unwrap_or_default();
    let rounds = report.rounds();
    let time = rounds.last().map_or(Duration::ZERO, |last| last.since(rounds[0]));
    let noticed = report.outages(LONG);
    let lost: Duration = noticed.iter().map(Outage::length).sum();
    let faults = told.iter().filter(|(_, what)| what.contains(" for ")).count();
    format!(
        "{name:<11}{:>6.0?} {faults:>6} {:>9.3} % {:>7} {:>9.0?} {:>9.1?} {answers:>8} {longest:>10.1?}",
        time,
        report.availability() * 100.0,
        noticed.len(),
        report.longest_outage(),
        lost.checked_div(u32::try_from(noticed.len()).unwrap_or(1)).unwrap_or_default(),
    )
}

#[test]
fn in_a_storm_nothing_is_served_twice_and_service_comes_back() -> Result {
    let seed = number("VIPD_STORM_SEED").unwrap_or_else(|| Stamp::now().nanos() % 1_000_000);
    let during = Duration::from_secs(number("VIPD_STORM_SECONDS").unwrap_or(12));
    println!("VIPD_STORM_SEED={seed}");
    let vipd = weather("storm-v", Kind::Lease, seed, during)?;
    let keepalived = weather("storm-k", Kind::Keepalived, seed, during.min(COMPARED));
    println!(
        "            time faults    answered  >50 ms   longest    mean of  answers    longest\n\
         {:47}    outage      these    of two     overlap",
        ""
    );
    println!("{}", row("vipd", &vipd));
    match &keepalived {
        Ok(keepalived) => {
            println!("{}", row("keepalived", keepalived));
            assert!(!keepalived.report.served().is_empty(), "the probe works");
        }
        // Its own affair.
        Err(error) => println!("keepalived: {error}"),
    }
    assert_eq!(vipd.report.overlaps(), [], "VIPD_STORM_SEED={seed}");
    assert!(vipd.report.availability() > 0.1, "VIPD_STORM_SEED={seed}");
    Ok(())
}

// ---- what catches two hosts that serve at once does catch them ----

/// What was seen until two hosts served at once.
fn caught(double: &Double, from: Stamp) -> Result<Overlap> {
    netns_tests::wait_until("two hosts that serve at once", 10 * SECOND, || {
        Ok(double.report(from).overlaps().iter().any(|o| o.lasted > 50 * MS))
    })?;
    let longest = double.report(from).overlaps().into_iter().max_by_key(|o| o.lasted);
    Ok(longest.expect("there is one"))
}

/// The holder is cut from the other two, but not from the client.
fn divided(label: &str, kind: Kind) -> Result<Overlap> {
    let trio = Trio::started(label, kind)?;
    let double = trio.double(EVERY)?;
    double.wait_single(SECOND / 2, 10 * SECOND)?;
    let from = Stamp::now();
    let holder = trio.wait_holder(SECOND)?;
    for n in (0..3).filter(|n| *n != holder) {
        trio.hosts[holder].cut_between(&trio.hosts[n])?;
    }
    caught(&double, from)
}

#[test]
fn two_vrrp_routers_in_a_cut_network_are_caught() -> Result {
    let overlap = divided("caught-vrrp", Kind::Vrrp)?;
    println!("{overlap:?}");
    assert!(overlap.answers > 100, "{overlap:?}");
    Ok(())
}

#[test]
fn a_paused_keepalived_that_still_serves_is_caught() -> Result {
    let trio = Trio::started("caught-pause", Kind::Keepalived)?;
    let double = trio.double(EVERY)?;
    double.wait_single(SECOND / 2, 10 * SECOND)?;
    let from = Stamp::now();
    trio.process(trio.wait_holder(SECOND)?).freeze()?;
    let overlap = caught(&double, from)?;
    println!("{overlap:?}");
    assert!(overlap.answers > 100, "{overlap:?}");
    Ok(())
}

#[test]
fn a_lease_in_the_same_cut_network_is_not_served_twice() -> Result {
    let trio = Trio::started("not-caught", Kind::Lease)?;
    let double = trio.double(EVERY)?;
    double.wait_single(SECOND / 2, 10 * SECOND)?;
    let from = Stamp::now();
    let holder = trio.wait_holder(SECOND)?;
    for n in (0..3).filter(|n| *n != holder) {
        trio.hosts[holder].cut_between(&trio.hosts[n])?;
    }
    let other = double.wait_single(SECOND, 10 * SECOND)?;
    assert_ne!(other, trio.hosts[holder].name());
    pause(SECOND);
    let report = double.report(from);
    println!("out for {:.1?}", report.longest_outage());
    assert_eq!(report.overlaps(), []);
    assert_eq!(report.hosts().len(), 2);
    Ok(())
}
