//! Nodes that are fenced: their power is really cut, and only then another one serves.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::time::Duration;

use netns_tests::cluster::said;
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

    /// When a host lost its power.
    fn off(&self, n: usize) -> Option<Stamp> {
        let name = self.name(n);
        self.power.deeds().into_iter().find(|(_, host, on)| *host == name && !on).map(|d| d.0)
    }
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
