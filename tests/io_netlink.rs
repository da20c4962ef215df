//! The kernel's own answers: links, addresses, what is lost and told again. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a panic is how a test fails, also in its helpers"
)]

mod namespace;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use namespace::{enter, ip, wait_readable};
use vipd::core::event::{AddressSpec, Event, Failure, KernelAddress, Link, PortSpec, Task};
use vipd::io::netlink::{Change, Monitor, Requests, watch};
use vipd::io::port::Filters;
use vipd::io::wake::{self, Receiver};
use vipd::io::worker::{Completion, Setup, Worker};
use vipd::types::IfIndex;

const LIMIT: Duration = Duration::from_secs(20);

/// What the core would know after all that was told.
#[derive(Debug, Default)]
struct Known {
    links: Vec<Link>,
    addresses: Vec<KernelAddress>,
    /// Not named since the resync began.
    unnamed: Vec<KernelAddress>,
    begun: usize,
    ended: usize,
}

impl Known {
    fn take(&mut self, event: Event<'_>) {
        let key = |a: &KernelAddress| (a.index, a.ip, a.prefix);
        match event {
            Event::Link(link) => {
                self.links.retain(|known| known.index != link.index);
                self.links.push(link);
            }
            Event::LinkGone(index) => self.links.retain(|known| known.index != index),
            Event::Address(address) => {
                self.unnamed.retain(|known| key(known) != key(&address));
                self.addresses.retain(|known| key(known) != key(&address));
                self.addresses.push(address);
            }
            Event::AddressGone(address) => {
                self.addresses.retain(|known| key(known) != key(&address));
            }
            Event::ResyncBegin => {
                self.begun += 1;
                self.unnamed = self.addresses.clone();
            }
            Event::ResyncEnd => {
                self.ended += 1;
                let unnamed = std::mem::take(&mut self.unnamed);
                self.addresses.retain(|known| !unnamed.contains(known));
            }
            other => panic!("not of the kernel: {other:?}"),
        }
    }

    fn address(&self, ip: &str) -> Option<&KernelAddress> {
        let ip: IpAddr = ip.parse().unwrap();
        self.addresses.iter().find(|a| a.ip == ip)
    }

    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| &*link.name == name)
    }
}

/// Drains until `done`.
fn until(monitor: &mut Monitor, known: &mut Known, done: impl Fn(&Known) -> bool) {
    let end = vipd::io::clock::now() + LIMIT;
    loop {
        monitor.drain(&mut |event| known.take(event)).unwrap();
        if done(known) {
            return;
        }
        assert!(vipd::io::clock::now() < end, "not told in time: {known:?}");
        wait_readable(&monitor.as_fd(), 1000);
    }
}

fn synced() -> (Monitor, Known) {
    let (mut monitor, mut known) = (Monitor::open().unwrap(), Known::default());
    until(&mut monitor, &mut known, |k| k.ended == 1);
    (monitor, known)
}

fn spec(index: IfIndex, ip: &str, prefix: u8) -> AddressSpec {
    AddressSpec { index, ip: ip.parse().unwrap(), prefix, label: None, preferred: false }
}

fn apply(requests: &mut Requests, changes: &[Change<'_>]) -> Vec<Result<(), Failure>> {
    requests.apply(changes, LIMIT)
}

#[test]
fn what_there_is_is_told_and_then_what_changes() {
    let [v0, _] = enter();
    ip("addr add 192.0.2.1/24 dev v0");
    let (mut monitor, mut known) = synced();
    assert_eq!(known.begun, 1);
    let link = known.link("v0").unwrap();
    assert!(link.up && link.index == v0 && link.mtu == 1500 && link.mac.0 != [0; 6]);
    assert!(known.link("lo").is_some());
    assert!(!known.address("192.0.2.1").unwrap().ours);

    ip("addr add 192.0.2.9/32 dev v0");
    until(&mut monitor, &mut known, |k| k.address("192.0.2.9").is_some());
    ip("addr del 192.0.2.9/32 dev v0");
    until(&mut monitor, &mut known, |k| k.address("192.0.2.9").is_none());
    ip("link set v1 down");
    until(&mut monitor, &mut known, |k| !k.link("v0").unwrap().up);
    ip("link set v1 up");
    until(&mut monitor, &mut known, |k| k.link("v0").unwrap().up);
    ip("link del v0");
    until(&mut monitor, &mut known, |k| k.link("v0").is_none());
}

#[test]
fn our_addresses_carry_our_mark_and_come_and_go() {
    let [v0, _] = enter();
    let (mut monitor, mut known) = synced();
    let mut requests = Requests::open().unwrap();
    let four = AddressSpec { label: Some("v0:vip".into()), ..spec(v0, "192.0.2.10", 32) };
    let six = spec(v0, "2001:db8::10", 128);
    let changes = [Change::Add(&four), Change::Add(&six)];
    assert_eq!(apply(&mut requests, &changes), [Ok(()), Ok(())]);
    until(&mut monitor, &mut known, |k| {
        ["192.0.2.10", "2001:db8::10"].iter().all(|ip| k.address(ip).is_some_and(|a| a.ours))
    });
    let shown = ip("addr show dev v0");
    assert!(shown.contains("inet 192.0.2.10/32 scope global v0:vip"), "{shown}");
    let line = shown.lines().find(|l| l.contains("2001:db8::10")).unwrap();
    for flag in ["deprecated", "nodad", "noprefixroute"] {
        assert!(line.contains(flag), "{shown}");
    }
    assert!(!line.contains("tentative"), "{shown}");
    // Both ways round, what is so already is done.
    assert_eq!(apply(&mut requests, &changes), [Ok(()), Ok(())]);
    let changes = [Change::Delete(&four), Change::Delete(&six)];
    assert_eq!(apply(&mut requests, &changes), [Ok(()), Ok(())]);
    until(&mut monitor, &mut known, |k| k.address("192.0.2.10").is_none());
    assert_eq!(apply(&mut requests, &changes), [Ok(()), Ok(())]);
}

#[test]
fn an_address_somebody_else_added_becomes_ours() {
    let [v0, _] = enter();
    ip("addr add 192.0.2.10/32 dev v0");
    ip("addr add 2001:db8::10/64 dev v0 nodad");
    let mut requests = Requests::open().unwrap();
    let (four, six) = (spec(v0, "192.0.2.10", 32), spec(v0, "2001:db8::10", 128));
    let changes = [Change::Add(&four), Change::Add(&six)];
    assert_eq!(apply(&mut requests, &changes), [Ok(()), Ok(())]);
    let (_, known) = synced();
    assert!(known.address("192.0.2.10").unwrap().ours);
    let six = known.address("2001:db8::10").unwrap();
    assert!(six.ours && six.prefix == 128);
}

#[test]
fn each_of_many_has_its_own_result() {
    let [v0, _] = enter();
    let mut requests = Requests::open().unwrap();
    let good = spec(v0, "192.0.2.1", 32);
    let nowhere = spec(IfIndex(9999), "192.0.2.2", 32);
    let wrong = spec(v0, "192.0.2.3", 33);
    let changes = [Change::Add(&nowhere), Change::Add(&good), Change::Add(&wrong)];
    let results = apply(&mut requests, &changes);
    assert_eq!(results[0], Err(Failure::Errno(libc::ENODEV)));
    assert_eq!(results[1], Ok(()));
    assert_eq!(results[2], Err(Failure::Errno(libc::EINVAL)));
}

#[test]
fn an_overrun_is_followed_by_the_truth() {
    let [v0, _] = enter();
    let mut monitor = Monitor::with_buffer(1).unwrap();
    let mut known = Known::default();
    until(&mut monitor, &mut known, |k| k.ended == 1);
    let mut requests = Requests::open().unwrap();
    let all: Vec<_> = (1..=200).map(|n| spec(v0, &format!("192.0.2.{n}"), 32)).collect();
    for chunk in all.chunks(100) {
        let changes: Vec<_> = chunk.iter().map(Change::Add).collect();
        assert!(apply(&mut requests, &changes).iter().all(Result::is_ok));
    }
    let deletions: Vec<_> = all[..50].iter().map(Change::Delete).collect();
    assert!(apply(&mut requests, &deletions).iter().all(Result::is_ok));
    until(&mut monitor, &mut known, |k| k.ended >= 2);
    let ours = known.addresses.iter().filter(|a| a.ours).count();
    assert_eq!(ours, 150);
    assert!(known.address("192.0.2.50").is_none() && known.address("192.0.2.51").is_some());
}

#[test]
fn a_thousand_addresses_pass_through_the_worker_and_are_seen() {
    let [v0, _] = enter();
    let (events, seen) = wake::mailbox(64).unwrap();
    let monitor = Monitor::open().unwrap();
    watch(monitor, None, events, |trouble| panic!("{trouble}")).unwrap();
    let (worker, completions) = worker();
    let task = |n: u16| {
        let ip = format!("10.9.{}.{}", n / 250, n % 250 + 1);
        Task::AddAddress { group: 1, slot: n, spec: spec(v0, &ip, 32) }
    };
    for n in 0..1000 {
        worker.run(task(n)).unwrap();
    }
    let mut done = 0;
    collect(&completions, |completion| {
        let Completion::Done(Task::AddAddress { slot, .. }, Ok(())) = completion else {
            panic!("{completion:?}");
        };
        assert_eq!(slot, done, "in order");
        done += 1;
        done == 1000
    });
    assert_eq!(worker.busy_since(), None);
    let mut known = Known::default();
    collect(&seen, |event| {
        known.take(event);
        known.ended > 0 && known.addresses.iter().filter(|a| a.ours).count() == 1000
    });
}

#[test]
fn the_worker_opens_ports_and_says_why_it_cannot() {
    let [v0, _] = enter();
    ip("addr add 192.0.2.1/24 dev v0");
    let (worker, completions) = worker();
    let name: Box<str> = "v0".into();
    let v4 = Some([192, 0, 2, 1].into());
    let good = PortSpec { index: v0, name, v4, v6: None, watch: Vec::new() };
    let bad = PortSpec { name: "nosuch".into(), ..good.clone() };
    worker.run(Task::OpenPort(good)).unwrap();
    worker.run(Task::OpenPort(bad)).unwrap();
    let mut outcomes = Vec::new();
    collect(&completions, |completion| {
        if let Completion::Port(_, outcome) = completion {
            outcomes.push(outcome);
        }
        outcomes.len() == 2
    });
    let why = outcomes.pop().unwrap().unwrap_err();
    assert_eq!(why.source.raw_os_error(), Some(libc::ENODEV));
    assert!(why.to_string().starts_with("nosuch: IPv4 SO_BINDTODEVICE: No such device"), "{why}");
    worker.close(outcomes.pop().unwrap().unwrap()).unwrap();
}

fn worker() -> (Worker, Receiver<Completion>) {
    let (sender, receiver) = wake::mailbox(16).unwrap();
    let filters = Box::new(|_: &PortSpec| Filters::default());
    (
        Worker::spawn(Setup { priority: None, filters, gate: None, completions: sender }).unwrap(),
        receiver,
    )
}

/// Takes what comes until `done`.
fn collect<T>(receiver: &Receiver<T>, mut done: impl FnMut(T) -> bool) {
    let mut finished = false;
    let end = vipd::io::clock::now() + LIMIT;
    while !finished {
        assert!(vipd::io::clock::now() < end, "did not come in time");
        wait_readable(receiver, 1000);
        receiver.drain(100, &mut |value| finished |= done(value));
    }
}
