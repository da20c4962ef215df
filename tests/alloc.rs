//! What happens every few milliseconds for years allocates nothing: an advert in, an advert out,
//! a step of the core in its steady state.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vipd::config;
use vipd::core::event::{Action, Event, Inheritance, KernelAddress, Link, Secrets, Task};
use vipd::core::status::Role;
use vipd::core::{MULTICAST_V4, Node};
use vipd::types::{Centis, IfIndex, Instant, Mac, Priority, Version, VrId};
use vipd::wire::vrrp::{self, Expect, Flavour, Meta, Template};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are those this one asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

const ETH0: IfIndex = IfIndex(2);
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 12));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const META: Meta = Meta { src: PEER, dst: IpAddr::V4(MULTICAST_V4), hops: 255 };
const INTERVAL: Duration = Duration::from_millis(100);

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
"#;

fn advert(priority: u8) -> Vec<u8> {
    let (vrid, interval) = (VrId::new(7).unwrap(), Centis::new(10).unwrap());
    let template = Template::new(Version::V3, vrid, interval, &[VIP], None).unwrap();
    let mut bytes = Vec::new();
    template.emit(Priority(priority), Flavour::Plain, PEER, META.dst, &mut bytes);
    bytes
}

/// A node, and the time; it listens.
fn node() -> (Node, Instant) {
    let now = Instant::from_nanos(1_000_000_000);
    let config = Arc::new(config::parse(FILE).unwrap().0);
    let mut out = Vec::new();
    let mut node =
        Node::new(now, config, 0, &Secrets(vec![None]), &Inheritance::default(), &mut out);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let address = KernelAddress { index: ETH0, ip: OWN, prefix: 24, ours: false };
    node.step(now, Event::Address(address), &mut out);
    let link = Link { index: ETH0, name: "eth0".into(), mac, up: true, mtu: 1500 };
    node.step(now, Event::Link(link), &mut out);
    answer(&mut node, now, &mut out);
    assert_eq!(node.status(now).groups[0].role, Role::Backup);
    (node, now)
}

/// The kernel does all it was asked for.
fn answer(node: &mut Node, now: Instant, out: &mut Vec<Action>) {
    while let Some(action) = out.pop() {
        if let Action::Kernel(task) = action
            && !matches!(task, Task::ClosePort(_) | Task::Disconnect { .. })
        {
            node.step(now, Event::Done(task, Ok(())), out);
        }
    }
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(black_box(Box::new(1)))) > 0);
}

#[test]
fn reading_and_making_an_advert() {
    let (vrid, interval) = (VrId::new(7).unwrap(), Centis::new(10).unwrap());
    let template = Template::new(Version::V3, vrid, interval, &[VIP; 255], None).unwrap();
    let expect = Expect { version: Version::V3, min_hops: 255, password: None };
    let mut bytes = Vec::with_capacity(template.len());
    let count = allocations(|| {
        for flavour in [Flavour::Plain, Flavour::Pseudo] {
            bytes.clear();
            template.emit(Priority(100), flavour, PEER, META.dst, &mut bytes);
            assert!(black_box(vrrp::parse(&META, &expect, &bytes)).is_ok());
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_backup_that_hears_an_advert() {
    let (mut node, mut now) = node();
    let (bytes, mut out) = (advert(200), Vec::new());
    let mut hear = |out: &mut Vec<Action>| {
        now += INTERVAL;
        node.step(now, Event::Datagram { ifindex: ETH0, meta: META, bytes: &bytes }, out);
        black_box(node.deadline());
    };
    hear(&mut out);
    out.clear();
    let count = allocations(|| (0..1000).for_each(|_| hear(&mut out)));
    assert_eq!((count, out), (0, vec![]));
}

#[test]
fn an_active_router_that_advertises() {
    let (mut node, now) = node();
    let (mut out, mut buf) = (Vec::with_capacity(64), Vec::with_capacity(64));
    let mut now = now;
    // A minute in, the announcements of the takeover are over and the peer is known to be silent.
    for _ in 0..2000 {
        now = node.deadline().unwrap().max(now);
        node.step(now, Event::Tick, &mut out);
        answer(&mut node, now, &mut out);
    }
    assert_eq!(node.status(now).groups[0].role, Role::Active);
    let mut sent = 0;
    let count = allocations(|| {
        for _ in 0..1000 {
            now = node.deadline().unwrap().max(now);
            node.step(now, Event::Tick, &mut out);
            for action in out.drain(..) {
                if let Action::Advertise { group, family, priority } = action {
                    node.emit(group, family, priority, &mut buf, |_, _, bytes| {
                        sent += usize::from(black_box(bytes).len() == 12);
                    });
                }
            }
        }
    });
    assert_eq!(count, 0);
    assert!(sent > 1500, "two forms of nearly each tick: {sent}");
}

/// Apart from one line a second that says so.
#[test]
fn a_bad_packet() {
    let (mut node, mut now) = node();
    let (mut bytes, mut out) = (advert(200), Vec::new());
    bytes[6] ^= 1;
    let mut hear = |out: &mut Vec<Action>| {
        now += Duration::from_micros(1);
        node.step(now, Event::Datagram { ifindex: ETH0, meta: META, bytes: &bytes }, out);
    };
    hear(&mut out);
    assert_eq!(out.len(), 1);
    out.clear();
    let count = allocations(|| (0..1000).for_each(|_| hear(&mut out)));
    assert_eq!((count, out), (0, vec![]));
}
