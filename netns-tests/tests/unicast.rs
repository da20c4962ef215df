//! A unicast group hears its peers and nobody else.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use netns_tests::peer::vipd::Vipd;
use netns_tests::{Capture, ForgedAdvert, Frame, Injector, Lab, Result, Stamp, Watch, pause};

use common::*;

const INTERVAL: Duration = Duration::from_millis(100);
const HOLDER: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 132);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 133);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 66);

struct Scene {
    vipds: [Vipd; 2],
    watch: Watch,
    adverts: Capture,
    mallory: Injector,
    _lab: Lab,
}

impl Scene {
    fn new(label: &str, keys: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let (hap1, hap2) = (host(&lab, "hap1", 132)?, host(&lab, "hap2", 133)?);
        let mallory = Injector::open(&host(&lab, "mallory", 66)?, "eth0")?;
        let watch = watch(&[&hap1, &hap2])?;
        let adverts = Capture::start(&hap1, "eth0", Frame::is_vrrp)?;
        let file = File {
            nodes: &[("hap1", 132, 150), ("hap2", 133, 100)],
            routers: &[],
            addresses: &[VIP_NET],
            keys: format!("transport = \"unicast\"\n{keys}"),
        };
        let vipds = [start(&hap1, &file.text())?, start(&hap2, &file.text())?];
        watch.wait_holders(VIP.into(), &["hap1"], 5 * SECOND)?;
        pause(5 * INTERVAL);
        Ok(Self { vipds, watch, adverts, mallory, _lab: lab })
    }

    /// Sends `advert` to the holder many times: nothing moves, and both the counter and the
    /// condition say what was wrong.
    fn ignores(&self, advert: &ForgedAdvert, name: &str, condition: &str) -> Result {
        let mut frame = advert.frame();
        if !advert.destination.is_multicast() {
            frame[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
        }
        let events = self.watch.events().len();
        let was = counter(&self.vipds[0].status()?, name);
        let from = Stamp::now();
        let sent = self.mallory.flood(2_000, SECOND, || frame.clone())?;
        pause(INTERVAL);
        let is = counter(&self.vipds[0].status()?, name);
        let adverts = self.adverts.frames();
        let beats: Vec<Stamp> =
            adverts.iter().filter(|f| f.outgoing && f.at >= from).map(|f| f.at).collect();
        let gap = beats.windows(2).map(|p| p[1].since(p[0])).max().unwrap_or(Duration::MAX);
        println!("{condition}: {sent} sent, {} counted, longest gap {gap:.1?}", is - was);
        // More than the daemon reads in a turn may be dropped before it is looked at.
        assert!(is - was > u64::from(sent) / 4, "{name} went from {was} to {is}, {sent} sent");
        assert!(gap < 2 * INTERVAL + SLACK, "{gap:?}");
        assert_eq!(self.watch.events().len(), events, "no address moves");
        assert_eq!(self.vipds[0].role(GROUP)?, "active");
        wait_condition(&self.vipds[0], condition, SECOND)?;
        Ok(())
    }
}

#[test]
fn strangers_and_multicast_are_not_heard() -> Result {
    let scene = Scene::new("stranger", "")?;
    let honest = ForgedAdvert::new(STRANGER, VRID, 255, &[VIP]);
    let to_holder = ForgedAdvert { destination: HOLDER, ..honest.clone() };
    scene.ignores(&to_holder, "transport-errors", "stranger")?;
    let from_peer = ForgedAdvert { source: PEER, ..honest };
    scene.ignores(&from_peer, "transport-errors", "transport-mismatch")
}

#[test]
fn a_peer_is_heard_over_as_many_hops_as_the_file_allows() -> Result {
    let routed = ForgedAdvert {
        destination: HOLDER,
        ttl: 254,
        ..ForgedAdvert::new(PEER, VRID, 255, &[VIP])
    };
    let strict = Scene::new("one-hop", "")?;
    strict.ignores(&routed, "ip-ttl-errors", "bad-packets")?;
    drop(strict);

    let mut lenient = Scene::new("two-hops", "min-ttl = 254\n")?;
    let mut frame = routed.frame();
    frame[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
    lenient.mallory.send(&frame)?;
    lenient.vipds[0].wait_role(GROUP, "backup", SECOND)?;
    Ok(())
}

#[test]
fn adverts_go_to_the_peers_only() -> Result {
    let scene = Scene::new("to-peers", "")?;
    let destinations = |f: &Frame| f.bytes.get(30..34).map(<[u8]>::to_vec);
    let all = scene.adverts.frames();
    assert!(all.len() > 4, "{}", all.len());
    let peer = Some(PEER.octets().to_vec());
    assert!(all.iter().filter(|f| f.outgoing).all(|f| destinations(f) == peer), "{all:?}");
    Ok(())
}
