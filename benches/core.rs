//! One step of the core: each is to stay below 200 ns.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use vipd::config;
use vipd::core::event::{Action, Event, Inheritance, KernelAddress, Link, Secrets, Task};
use vipd::core::{MULTICAST_V4, Node};
use vipd::types::{Centis, IfIndex, Instant, Mac, Priority, Version, VrId};
use vipd::wire::vrrp::{Flavour, Meta, Template};

const ETH0: IfIndex = IfIndex(2);
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 12));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const META: Meta = Meta { src: PEER, dst: IpAddr::V4(MULTICAST_V4), hops: 255 };

const FILE: &str = r#"
cluster = { name = "lb" }
[[node]]
name = "hap1"
address = "192.0.2.11"
[[node]]
name = "hap2"
address = "192.0.2.12"
[[group]]
name = "web"
vrid = 7
addresses = ["192.0.2.100/24"]
announce = { refresh = "never" }
"#;

/// A node that listens, and the time.
fn node() -> Option<(Node, Instant)> {
    let now = Instant::from_nanos(1_000_000_000);
    let config = Arc::new(config::parse(FILE).ok()?.0);
    let mut out = Vec::new();
    let mut node =
        Node::new(now, config, 0, &Secrets(vec![None]), &Inheritance::default(), &mut out);
    let address = KernelAddress { index: ETH0, ip: OWN, prefix: 24, ours: false };
    node.step(now, Event::Address(address), &mut out);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let link = Link { index: ETH0, name: "eth0".into(), mac, up: true, mtu: 1500 };
    node.step(now, Event::Link(link), &mut out);
    answer(&mut node, now, &mut out);
    Some((node, now))
}

fn answer(node: &mut Node, now: Instant, out: &mut Vec<Action>) {
    while let Some(action) = out.pop() {
        if let Action::Kernel(task) = action
            && !matches!(task, Task::ClosePort(_))
        {
            node.step(now, Event::Done(task, Ok(())), out);
        }
    }
}

fn tick(node: &mut Node, now: &mut Instant, out: &mut Vec<Action>) {
    if let Some(at) = node.deadline() {
        *now = at.max(*now);
    }
    node.step(*now, Event::Tick, out);
}

fn core(c: &mut Criterion) {
    let (Some(vrid), Some(interval)) = (VrId::new(7), Centis::new(10)) else { return };
    let Ok(template) = Template::new(Version::V3, vrid, interval, &[VIP], None) else { return };
    let mut good = Vec::new();
    template.emit(Priority(200), Flavour::Plain, PEER, META.dst, &mut good);
    let mut bad = good.clone();
    bad[6] ^= 1;
    for (name, bytes) in [("Backup hears an advert", good), ("a bad packet", bad)] {
        let Some((mut node, mut now)) = node() else { return };
        let mut out = Vec::new();
        c.bench_function(name, |b| {
            b.iter(|| {
                now += Duration::from_nanos(100);
                out.clear();
                let datagram = Event::Datagram { ifindex: ETH0, meta: META, bytes: &bytes };
                node.step(now, black_box(datagram), &mut out);
            });
        });
    }
    let Some((mut node, mut now)) = node() else { return };
    let mut out = Vec::new();
    for _ in 0..2000 {
        tick(&mut node, &mut now, &mut out);
        answer(&mut node, now, &mut out);
    }
    c.bench_function("Active ticks an advert", |b| {
        b.iter(|| {
            out.clear();
            now += Duration::from_millis(100);
            node.step(now, black_box(Event::Tick), &mut out);
            black_box(&mut out);
        });
    });
    c.bench_function("deadline", |b| b.iter(|| black_box(&node).deadline()));
}

criterion_group!(benches, core);
criterion_main!(benches);
