//! Nodes that are fenced: their power is really cut, and only then another one serves.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::time::Duration;

use netns_tests::cluster::{events, said};
use netns_tests::trio::{Kind, Trio};
use netns_tests::{Double, PowerFault, PowerSwitch, Result, Stamp, pause, wait_until};

use common::{MS, SECOND, conditions};

/// How often every host is asked.
const EVERY: Duration = MS;

/// Hosts whose power can be cut.
struct Bed {
    trio: Trio,
    power: PowerSwitch,
    config: String,
    nodes: usize,
}

impl Bed {
    /// `nodes` of the three hosts, and `safety` for their group.
    fn new(label: &str, nodes: usize, safety: &str) -> Result<Self> {
        let trio = Trio::new(label, Kind::Lease)?;
        let power = PowerSwitch::new(trio.lab.dir(), trio.hosts.clone())?;
        let device = |n: usize| power.device(trio.hosts[n].name());
        let config = trio.fenced(nodes, safety, device) + "[fencing]\naction = \"off\"\n";
        let mut bed = Self { trio, power, config, nodes };
        for n in 0..nodes {
            bed.start(n)?;
        }
        Ok(bed)
    }

    fn start(&mut self, n: usize) -> Result {
        self.trio.start_with(n, &self.config)
    }

    /// Who serves, asked by a client all the time.
    fn watched(&self) -> Result<(usize, Double)> {
        let double = self.trio.double(EVERY)?;
        let name = double.wait_single(SECOND / 2, 20 * SECOND)?;
        Ok((self.number(&name), double))
    }

    fn number(&self, name: &str) -> usize {
        self.trio.hosts.iter().position(|host| host.name() == name).expect("one of them")
    }

    fn name(&self, n: usize) -> String {
        self.trio.hosts[n].name().to_owned()
    }

    fn others(&self, n: usize) -> Vec<usize> {
        (0..self.nodes).filter(|other| *other != n).collect()
    }

    /// The node with power whose events tell of fencing.
    fn fencer(&mut self, victim: usize) -> Result<usize> {
        for n in self.others(victim) {
            if events(self.trio.vipd(n))?.iter().any(|e| e.kind == "fence-done") {
                return Ok(n);
            }
        }
        Ok(victim)
    }

    /// When a host lost its power.
    fn off(&self, n: usize) -> Option<Stamp> {
        let name = self.name(n);
        self.power.deeds().into_iter().find(|(_, host, on)| *host == name && !on).map(|d| d.0)
    }
}

#[test]
fn a_lost_holder_is_off_before_another_one_serves() -> Result {
    let mut bed = Bed::new("fence", 3, "lease+fence")?;
    let (holder, double) = bed.watched()?;
    pause(SECOND);
    let cut = bed.trio.hosts[holder].cut()?;
    let new = bed.trio.wait_holder_but(Some(holder), 10 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(bed.number(&name), new);
    let off = bed.off(holder).expect("its power was cut");
    let report = double.report(cut);
    let served = report.answers_of(&name).first().expect("it answers").at;
    println!("cut off to power off {:.1?}, to served {:.1?}", off.since(cut), served.since(off));
    assert!(off < served, "first off, then served");
    assert_eq!(report.overlaps(), []);
    // In the order in which it happened, with reasons.
    let fencer = bed.fencer(holder)?;
    let told = events(bed.trio.vipd(fencer))?;
    let kinds: Vec<_> = told.iter().map(|e| e.kind.as_str()).collect();
    let place = |kind: &str| kinds.iter().position(|k| *k == kind);
    assert!(place("fence-started") < place("fence-done"), "{kinds:?}");
    let out = bed.trio.vipd(fencer).ctl(&["fence", "history"])?;
    assert!(said(&out).contains("verified off"), "{}", said(&out));
    // It comes back as one of three, and nobody is fenced for that.
    bed.trio.hosts[holder].power_on()?;
    bed.trio.hosts[holder].heal()?;
    bed.trio.watch.follow(&bed.trio.hosts[holder])?;
    bed.start(holder)?;
    wait_until("it is back", 10 * SECOND, || {
        Ok(events(bed.trio.vipd(fencer))?.iter().any(|e| e.kind == "fence-returned"))
    })?;
    pause(SECOND);
    assert_eq!(bed.power.deeds().len(), 1, "{:?}", bed.power.deeds());
    assert_eq!(double.report(cut).overlaps(), []);
    Ok(())
}

#[test]
fn without_proof_nobody_takes_over_until_a_human_gives_it() -> Result {
    let mut bed = Bed::new("nobmc", 3, "lease+fence")?;
    let (holder, double) = bed.watched()?;
    let victim = bed.name(holder);
    for n in 0..3 {
        bed.power.fault(&bed.name(n), Some(PowerFault::Dead));
    }
    pause(SECOND);
    bed.trio.power_loss(holder)?;
    let from = Stamp::now();
    let other = bed.others(holder)[0];
    wait_until("a failed fencing is named", 15 * SECOND, || {
        let mut named = false;
        for n in bed.others(holder) {
            named |= conditions(bed.trio.vipd(n))?.contains(&"fence-failed".to_owned());
        }
        Ok(named)
    })?;
    pause(2 * SECOND);
    assert_eq!(double.report(from).hosts().len(), 0, "nobody serves");
    let shown = bed.others(holder).into_iter().map(|n| bed.trio.vipd(n).ctl(&["status"]));
    let shown = shown.map(|out| out.map(|out| said(&out))).collect::<Result<Vec<_>>>()?.concat();
    assert!(shown.contains(&format!("vipctl fence confirm {victim}")), "{shown}");
    let out = bed.trio.vipd(other).ctl(&["fence", "confirm", &victim])?;
    assert!(!out.status.success(), "there is no terminal to ask: {}", said(&out));
    let at = Stamp::now();
    let out = bed.trio.vipd(other).ctl(&["fence", "confirm", &victim, "--yes"])?;
    assert!(out.status.success(), "{}", said(&out));
    let new = bed.trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    println!("confirmed to served: {:.1?}", Stamp::now().since(at));
    let out = bed.trio.vipd(new).ctl(&["fence", "history"])?;
    println!("{}", said(&out));
    assert_eq!(double.report(from).overlaps(), []);
    Ok(())
}

#[test]
fn a_dead_device_delays_no_takeover_by_lease() -> Result {
    let mut bed = Bed::new("plain", 3, "lease")?;
    let (holder, double) = bed.watched()?;
    for n in 0..3 {
        bed.power.fault(&bed.name(n), Some(PowerFault::Hung));
    }
    pause(SECOND);
    let from = Stamp::now();
    bed.trio.power_loss(holder)?;
    bed.trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    double.wait_single(SECOND / 2, 5 * SECOND)?;
    let report = double.report(from);
    println!("out for {:.1?}", report.longest_outage());
    assert!(report.longest_outage() < 2 * SECOND);
    Ok(())
}

#[test]
fn of_two_nodes_the_other_takes_over_from_a_dead_holder() -> Result {
    let mut bed = Bed::new("pairdead", 2, "lease+fence")?;
    let (holder, double) = bed.watched()?;
    pause(SECOND);
    let from = Stamp::now();
    bed.trio.power_loss(holder)?;
    bed.trio.wait_holder_but(Some(holder), 15 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(bed.number(&name), bed.others(holder)[0]);
    println!("out for {:.1?}", double.report(from).longest_outage());
    Ok(())
}

#[test]
fn an_operator_has_a_node_fenced() -> Result {
    let mut bed = Bed::new("order", 3, "lease")?;
    let (holder, double) = bed.watched()?;
    let (from, victim) = (Stamp::now(), bed.name(holder));
    let other = bed.others(holder)[0];
    let out = bed.trio.vipd(other).ctl(&["fence", "nobody", "--yes"])?;
    assert!(!out.status.success() && said(&out).contains("hap"), "{}", said(&out));
    let out = bed.trio.vipd(other).ctl(&["fence", &victim, "--yes"])?;
    println!("{}", said(&out));
    assert!(out.status.success(), "{}", said(&out));
    assert!(bed.off(holder).is_some(), "its power was cut");
    bed.trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    assert_eq!(double.report(from).overlaps(), []);
    let out = bed.trio.vipd(other).ctl(&["status"])?;
    println!("{}", said(&out));
    Ok(())
}

#[test]
fn a_device_that_does_not_answer_is_known_before_it_is_needed() -> Result {
    let mut bed = Bed::new("check", 3, "lease")?;
    bed.watched()?;
    bed.power.fault("hap2", Some(PowerFault::Dead));
    bed.config += "check = \"1s\"\n";
    let config = bed.config.clone();
    bed.trio.kill(0);
    bed.trio.start_with(0, &config)?;
    // The one before has left its socket.
    wait_until("it is named", 10 * SECOND, || {
        let named = conditions(bed.trio.vipd(0)).unwrap_or_default();
        Ok(named.contains(&"device-failed".to_owned()))
    })?;
    bed.power.fault("hap2", None);
    wait_until("it answers again", 10 * SECOND, || {
        Ok(!conditions(bed.trio.vipd(0))?.contains(&"device-failed".to_owned()))
    })?;
    Ok(())
}
