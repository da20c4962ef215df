//! Hosts that fence, or must be fenced: a proxy that nothing stops, and daemons that are killed
//! while their agents work.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use netns_tests::cluster::said;
use netns_tests::freezer::Unkillable;
use netns_tests::peer::bmc::Fault;
use netns_tests::racked::{BRISK, Racked};
use netns_tests::trio::GROUP;
use netns_tests::{Host, Result, Stamp, pause, wait_until};

use common::{MS, SECOND};

/// A proxy that runs where the addresses are.
const PROXY: &str = "[group.proxy]\ncommand = [\"/bin/sleep\", \"100000\"]\nrun = \"active\"\n\
                     stop-timeout = \"300ms\"\n";

/// What fence agents have started on a host, and is not gone.
fn agents(host: &Host) -> Vec<String> {
    let text = |pid: i32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let all = host.processes().into_iter();
    let marked = all.filter(|pid| text(*pid, "environ").contains("VIPD_FENCE="));
    marked.map(|pid| text(pid, "cmdline")).collect()
}

/// The number of the proxy's process.
fn proxy(rig: &mut Racked, n: usize) -> Result<i32> {
    let mut pid = None;
    wait_until("a proxy", 5 * SECOND, || {
        let status = rig.vipd(n).status()?;
        pid = status["groups"][0]["proxy"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Ok(pid.is_some())
    })?;
    Ok(pid.expect("waited for"))
}

#[test]
fn a_host_whose_proxy_cannot_be_stopped_is_fenced_by_the_others() -> Result {
    let (mut rig, holder, double) = Racked::started("stuckproxy", 3, "lease+fence", BRISK, PROXY)?;
    let pid = proxy(&mut rig, holder)?;
    let stuck = Unkillable::make(rig.trio.lab.dir(), pid)?;
    let (from, others) = (Stamp::now(), rig.others(holder));
    let to = rig.name(others[0]);
    // It need not succeed: that is what this is about.
    rig.vipd(holder).ctl(&["move", GROUP, &to])?;
    let started = rig.wait_told(&others, "fence-started", 10 * SECOND)?;
    assert!(started.text.contains("cannot give up what it must"), "{started:?}");
    assert!(stuck.lives(), "until then");
    let done = rig.wait_told(&others, "fence-done", 10 * SECOND)?;
    let off = rig.switched(holder)[0];
    assert!(!off.1 && started.at < off.0 && off.0 < done.at);
    let name = double.wait_single(SECOND, 10 * SECOND)?;
    assert_ne!(rig.number(&name), holder);
    let report = double.report(from);
    println!("off after {:.1?}, out for {:.1?}", off.0.since(from), report.longest_outage());
    assert_eq!(report.overlaps(), []);
    rig.wait_cycles(holder, &[false, true], 10 * SECOND)?;
    Ok(())
}

#[test]
fn a_fencer_that_is_killed_leaves_nothing_and_the_victim_is_not_switched_twice() -> Result {
    let (mut rig, holder, double) =
        Racked::started("killed", 3, "lease+fence", "attempts = 1", "")?;
    rig.fault(Fault::Slow(1200 * MS));
    let others = rig.others(holder);
    let cut = rig.trio.hosts[holder].cut()?;
    let started = rig.wait_told(&others, "fence-started", 10 * SECOND)?;
    let fencer = rig.number(&started.node);
    let host = rig.trio.hosts[fencer].clone();
    wait_until("an agent that waits for the power", 5 * SECOND, || {
        Ok(agents(&host).iter().any(|line| line.contains("ipmilan")))
    })?;
    // The order is with the controller, and the power is on.
    pause(300 * MS);
    assert_eq!(rig.switched(holder), []);
    rig.vipd(fencer).process.kill()?;
    rig.vipd(fencer).process.wait(5 * SECOND)?;
    let gone = |host: &Host| Ok(agents(host).iter().all(|line| !line.contains("fence_ipmilan")));
    wait_until("the end of the agent", SECOND, || gone(&host))?;
    rig.start(fencer)?;
    let name = double.wait_single(SECOND / 2, 20 * SECOND)?;
    assert_ne!(rig.number(&name), holder);
    let off = rig.switched(holder)[0].0;
    let report = double.report(cut);
    let served = report.answers_of(&name).first().expect("it answers").at;
    println!("cut to off {:.1?}, to served {:.1?}", off.since(cut), served.since(off));
    assert!(off < served, "off before served");
    assert_eq!(report.overlaps(), []);
    rig.wait_cycles(holder, &[false, true], 20 * SECOND)?;
    pause(2 * SECOND);
    assert_eq!(rig.cycles(holder), [false, true], "once off, once on");
    wait_until("the end of all agents", 5 * SECOND, || Ok(agents(&host).is_empty()))?;
    Ok(())
}

#[test]
fn what_a_killed_fencer_had_switched_off_its_next_run_switches_on() -> Result {
    // A device that never says that the power is on keeps the agent at work.
    let keys = "attempts = 1, power-timeout = 20";
    let (mut rig, holder, double) = Racked::started("owed", 3, "lease+fence", keys, "")?;
    rig.fault(Fault::StuckOff);
    let (from, others) = (rig.trio.hosts[holder].cut()?, rig.others(holder));
    let done = rig.wait_told(&others, "fence-done", 10 * SECOND)?;
    let fencer = rig.number(&done.node);
    let host = rig.trio.hosts[fencer].clone();
    wait_until("an agent that waits for the power", 5 * SECOND, || Ok(!agents(&host).is_empty()))?;
    pause(500 * MS);
    rig.vipd(fencer).process.kill()?;
    rig.vipd(fencer).process.wait(5 * SECOND)?;
    rig.fault(Fault::None);
    pause(SECOND);
    assert_eq!(rig.cycles(holder), [false], "whoever is left has no part in it");
    let again = Stamp::now();
    rig.start(fencer)?;
    let on = rig.wait_cycles(holder, &[false, true], 15 * SECOND)?;
    println!("on {:.1?} after the start", on.since(again));
    let told = rig.wait_told(&[fencer], "fence-switched-on", 5 * SECOND)?;
    assert!(told.text.contains(&rig.name(holder)), "{told:?}");
    // Once more, and there is nothing left to do.
    let history = said(&rig.vipd(fencer).ctl(&["fence", "history"])?);
    assert!(history.contains("is switched on again"), "{history}");
    rig.trio.kill(fencer);
    rig.start(fencer)?;
    double.wait_single(2 * SECOND, 10 * SECOND)?;
    assert_eq!(rig.cycles(holder), [false, true]);
    assert_eq!(double.report(from).overlaps(), []);
    Ok(())
}
