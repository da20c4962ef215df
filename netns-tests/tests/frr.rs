//! vipd and FRR in one virtual router. FRR holds the address on an interface with the virtual
//! hardware address all the time, and has that interface up only while it is Active: who answers
//! a client says who holds it.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::time::Duration;

use netns_tests::peer::frr::{Frr, Instance};
use netns_tests::{Capture, Frame, Host, Lab, Probe, Result, Stamp, wait_until};

use common::*;

/// Where the hosts answer probes.
const ECHO: u16 = 7;

struct Scene {
    lab: Lab,
    version: u8,
    interval: Duration,
    hap1: Host,
    frr: Host,
    probe: Probe,
    adverts: Capture,
}

impl Scene {
    fn new(version: u8, interval: Duration) -> Result<Self> {
        let lab = Lab::new(&format!("frr-v{version}"))?;
        let (hap1, frr) = (host(&lab, "hap1", 132)?, host(&lab, "gw1", 133)?);
        let client = host(&lab, "client", 200)?;
        hap1.echo(ECHO)?;
        frr.echo(ECHO)?;
        let probe = Probe::start(&client, (VIP, ECHO).into(), 2 * MS)?;
        let adverts = Capture::start(&client, "eth0", Frame::is_vrrp)?;
        Ok(Self { lab, version, interval, hap1, frr, probe, adverts })
    }

    fn frr(&self, priority: u8) -> Result<Frr> {
        let Self { version, interval, .. } = *self;
        let address = VIP.to_string();
        Frr::start(&self.frr, &Instance { vrid: VRID, priority, version, interval, address })
    }

    fn file(&self, priority: u8) -> String {
        File {
            nodes: &[("hap1", 132, priority)],
            routers: &[("gw1", v4(133))],
            addresses: &[VIP_NET],
            keys: format!(
                "version = {}\ninterval = \"{}ms\"\npreempt = true\n",
                self.version,
                self.interval.as_millis()
            ),
        }
        .text()
    }

    fn skew(&self, priority: u8) -> Duration {
        (256 - u32::from(priority)) * self.interval / 256
    }

    fn down(&self, priority: u8) -> Duration {
        3 * self.interval + self.skew(priority)
    }

    /// Waits until `who` answers for the address and nobody else does.
    fn moves_to(&self, who: &str, what: &str, from: Stamp, bound: Duration) -> Result {
        let settled = || self.probe.timeline().answers.last().is_some_and(|a| a.who == who);
        wait_until(&format!("{what}: {who} answers"), bound + 5 * SECOND, || Ok(settled()))?;
        let first = self.probe.timeline().answers;
        let first = first.iter().find(|a| a.at >= from && a.who == who).expect("it answers");
        let took = first.at.since(from);
        println!("{}: {what}: {who} answers after {took:.1?}", self.lab.prefix());
        assert!(took < bound + SLACK, "{what}: {took:?}, bound {bound:?}");
        // The loser steps down at the first advert: whoever answers an interval later stays.
        netns_tests::pause(self.interval);
        let late = Stamp::now();
        self.probe.wait_answer(late, SECOND)?;
        netns_tests::pause(self.interval);
        let answers = self.probe.timeline().answers;
        let others = answers.iter().filter(|a| a.at >= late && a.who != who).count();
        assert_eq!(others, 0, "{what}: only {who} answers");
        Ok(())
    }

    /// Who advertised with what priority, since `from`.
    fn last_advert(&self, from: Stamp) -> Option<(String, u8)> {
        let frames = self.adverts.frames();
        let last = frames.iter().rev().filter(|f| f.at >= from).find_map(Frame::advert)?;
        Some((last.source.to_string(), last.priority))
    }
}

/// FRR needs a second or two to begin.
const FRR_START: Duration = Duration::from_secs(4);

fn hands_over(version: u8, interval: Duration) -> Result {
    let scene = Scene::new(version, interval)?;
    let begin = Stamp::now();
    let mut vipd = start(&scene.hap1, &scene.file(150))?;
    scene.moves_to("hap1", "vipd is first", begin, scene.down(150) + SECOND)?;

    // FRR is better: it preempts, vipd yields.
    let at = Stamp::now();
    let mut better = scene.frr(200)?;
    scene.moves_to("gw1", "FRR preempts vipd", at, scene.down(200) + FRR_START)?;
    vipd.wait_role(GROUP, "backup", SECOND)?;
    assert!(better.is_active()?);
    assert!(!scene.hap1.has(VIP.into())?);
    let status = vipd.status()?;
    assert_eq!(status["groups"][0]["active"], "gw1", "{status:#}");
    assert_eq!(kinds(&vipd)?, [("gw1".to_owned(), "router".to_owned())]);

    // It stops: vipd takes over within its skew. FRR's own goodbye takes a moment.
    let at = Stamp::now();
    better.term()?;
    let goodbye = |f: &Frame| f.advert().is_some_and(|a| a.priority == 0);
    let goodbye = scene.adverts.wait_for("FRR's goodbye", at, SECOND, goodbye)?;
    scene.moves_to("hap1", "FRR stops", goodbye.at, scene.skew(150))?;
    drop(better);
    scene.frr.ip(&format!("link del vrrp4-2-{VRID}\n"))?;

    // FRR is worse: it stays Backup, takes over from a vipd that stops, and yields to it again.
    let mut worse = scene.frr(100)?;
    wait_until(
        "FRR to listen",
        2 * FRR_START,
        || Ok(worse.show()?[0]["v4"]["status"] == "Backup"),
    )?;
    netns_tests::pause(scene.down(100));
    assert_eq!(vipd.role(GROUP)?, "active");
    let at = Stamp::now();
    vipd.process.term()?;
    scene.moves_to("gw1", "vipd stops", at, scene.skew(100))?;
    vipd.process.wait(3 * SECOND)?;

    let at = Stamp::now();
    let _vipd = start(&scene.hap1, &scene.file(150))?;
    scene.moves_to("hap1", "vipd preempts FRR", at, scene.down(150) + SECOND)?;
    assert!(!worse.is_active()?);
    let at = Stamp::now();
    netns_tests::pause(3 * scene.interval);
    assert_eq!(scene.last_advert(at), Some((v4(132), 150)));
    worse.term()
}

#[test]
fn v3_hands_over_in_both_directions() -> Result {
    hands_over(3, 100 * MS)
}

#[test]
fn v2_hands_over_in_both_directions() -> Result {
    hands_over(2, SECOND)
}
