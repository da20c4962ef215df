//! The gate on real interfaces. Needs root.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod deny;
mod frames;
mod life;
#[path = "../namespace/mod.rs"]
mod namespace;
mod places;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use frames::{Cable, IPV4, OTHER4, VIP4, VIP6, Way, free, gated, ipv4, ipv4_with};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use vipd::gate::{Cover, Gate, GateLink, Inherited, Mode, Slots, present};
use vipd::io::clock;
use vipd::types::Instant;

/// Long enough for whatever a test does meanwhile.
const LONG: Duration = Duration::from_secs(50);
/// The owner of the slots.
const OWNER: u128 = 7 << 64 | 1;

/// A place for gates, gone with the test's thread whatever becomes of the test.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("none"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        Self("/mnt/gate".into())
    }

    fn open(&self) -> (Gate, Slots, Inherited) {
        Gate::open(&self.0, None).unwrap()
    }
}

/// Both virtual addresses in `slot`.
fn addresses(slot: u16) -> BTreeMap<IpAddr, u16> {
    BTreeMap::from([(VIP4.into(), slot), (VIP6.into(), slot)])
}

/// A gate for both addresses on every interface; it is shut.
fn gate(pins: &Pins, mode: Option<Mode>) -> (Gate, Slots, u16) {
    let (mut gate, slots, inherited) = Gate::open(&pins.0, mode).unwrap();
    assert_eq!(inherited.open, []);
    let slot = slots.claim(OWNER, clock::now()).unwrap();
    gate.set_addresses(&addresses(slot)).unwrap();
    cover(&mut gate);
    (gate, slots, slot)
}

/// On every interface there is.
fn cover(gate: &mut Gate) {
    let coverage = gate.cover(&present().unwrap());
    assert!(coverage.is_complete() && !coverage.links.is_empty(), "{coverage:?}");
}

/// Every frame, in both directions, shut and open.
fn every_frame(mode: Option<Mode>) {
    let cable = Cable::new();
    let (gate, slots, slot) = gate(&Pins::new(), mode);
    for way in [Way::In, Way::Out] {
        for (name, frame) in gated(cable.mac, way) {
            slots.shut(slot);
            assert!(!cable.passes(&gate, way, &frame), "{way:?}, shut: {name}: {frame:x?}");
            slots.open_until(slot, clock::now() + LONG);
            assert!(cable.passes(&gate, way, &frame), "{way:?}, open: {name}: {frame:x?}");
        }
        slots.shut(slot);
        for (name, frame) in free(cable.mac, way) {
            assert!(cable.passes(&gate, way, &frame), "{way:?}, free: {name}: {frame:x?}");
        }
    }
}

#[test]
fn what_is_for_or_from_the_address_passes_only_while_it_is_open() {
    every_frame(None);
}

#[test]
fn filters_of_a_discipline_do_the_same() {
    every_frame(Some(Mode::Clsact));
}

#[test]
fn a_sender_cannot_call_its_frame_something_else() {
    let cable = Cable::new();
    let (gate, slots, slot) = gate(&Pins::new(), None);
    for (name, frame) in gated(cable.mac, Way::Out) {
        for protocol in [0x0800, 0x0806, 0x86dd, 0x8100, 0x88cc] {
            let passes = cable.passes_as(&gate, Way::Out, &frame, protocol);
            assert!(!passes, "{name} as {protocol:x}: {frame:x?}");
        }
    }
    slots.open_until(slot, clock::now() + LONG);
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    assert!(cable.passes_as(&gate, Way::Out, &frame, 0x0806));
}

#[test]
fn the_kernel_neither_answers_nor_asks() {
    let cable = Cable::new();
    namespace::ip("addr add 192.0.2.9/24 dev v0");
    namespace::ip("-6 addr add 2001:db8::9/64 dev v0 nodad");
    let ping = |to: &str| {
        let mut ping = std::process::Command::new("ping");
        cable.far.run(|| ping.args(["-c1", "-W1", to]).output().unwrap().status.success())
    };
    cable.far.run(|| {
        namespace::ip("addr add 192.0.2.8/24 dev v1");
        namespace::ip("-6 addr add 2001:db8::8/64 dev v1 nodad");
    });
    let (_gate, slots, slot) = gate(&Pins::new(), None);
    assert!(!ping("192.0.2.9") && !ping("2001:db8::9"));
    let neighbours = cable.far.run(|| namespace::ip("neigh show dev v1"));
    assert!(!neighbours.contains("192.0.2.9 lladdr"), "{neighbours}");
    slots.open_until(slot, clock::now() + LONG);
    assert!(ping("192.0.2.9") && ping("2001:db8::9"));
    slots.shut(slot);
    assert!(!ping("192.0.2.9") && !ping("2001:db8::9"));
}

/// Sends as fast as it can, with the time in each frame, from before the deadline until after.
#[test]
fn nothing_passes_after_the_deadline_and_everything_before() {
    let cable = Cable::new();
    let (gate, slots, slot) = gate(&Pins::new(), None);
    let far = cable.far.run(|| frames::Tap::open(namespace::index("v1"), IPV4));
    let near = frames::Tap::open(cable.index, 0);
    for round in 1..=5_u64 {
        while far.next(0).is_some() {}
        let deadline = clock::now() + Duration::from_millis(20 * round);
        slots.open_until(slot, deadline);
        let dropped_before = gate.drops().unwrap()[1];
        // So few that all arrive: a frame that found no room would seem to have been dropped.
        while clock::now() + Duration::from_millis(2) < deadline {
            std::hint::spin_loop();
        }
        let (mut sent, mut late) = (Vec::new(), 0);
        while late < 200 {
            let now = clock::now();
            near.send_as(&ipv4_with(VIP4, OTHER4, &now.nanos().to_ne_bytes()), 0);
            sent.push((now, clock::now()));
            late += u64::from(now >= deadline);
        }
        // A frame is judged between its two times.
        let perhaps = sent.iter().filter(|(_, after)| *after >= deadline).count();
        let dropped = gate.drops().unwrap()[1] - dropped_before;
        assert!(dropped >= late, "{dropped} dropped, and {late} were late");
        assert!(dropped <= perhaps.try_into().unwrap(), "{dropped} dropped, {perhaps} at most");
        let last = arrivals(&far).last().copied().unwrap_or(Instant::BOOT);
        assert!(last < deadline, "sent {:?} after the deadline", last.since(deadline));
    }
}

/// The times in the frames that have arrived.
fn arrivals(at: &frames::Tap) -> std::collections::BTreeSet<Instant> {
    let mut all = std::collections::BTreeSet::new();
    while let Some(frame) = at.next(100) {
        let time = frame.get(42..).unwrap().first_chunk().unwrap();
        all.insert(Instant::from_nanos(u64::from_ne_bytes(*time)));
    }
    all
}

#[test]
fn a_deadline_too_far_away_is_none() {
    let cable = Cable::new();
    let pins = Pins::new();
    let (gate, slots, slot) = gate(&pins, None);
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    let passes = |deadline: Instant| {
        slots.open_until(slot, deadline);
        cable.passes(&gate, Way::Out, &frame)
    };
    let now = clock::now();
    assert!(passes(now + Duration::from_secs(50)));
    assert!(!passes(now + Duration::from_secs(90)));
    assert!(!passes(Instant::from_nanos(u64::MAX)));
    assert!(!passes(Instant::from_nanos(1 << 63)));
    assert!(!passes(now));
    assert!(!passes(Instant::BOOT));
    // Nor does it become one when its time comes near.
    slots.open_until(slot, now + Duration::from_secs(90));
    drop(gate);
    let (_gate, slots, inherited) = pins.open();
    assert_eq!((slots.deadline(slot), inherited.open), (Instant::BOOT, Vec::new()));
}

#[test]
fn an_address_goes_from_slot_to_slot_and_away() {
    let cable = Cable::new();
    let (mut gate, slots, first) = gate(&Pins::new(), None);
    let second = slots.claim(OWNER + 1, clock::now()).unwrap();
    assert_ne!(first, second);
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    slots.open_until(second, clock::now() + LONG);
    assert!(!cable.passes(&gate, Way::Out, &frame));
    gate.set_addresses(&addresses(second)).unwrap();
    assert!(cable.passes(&gate, Way::Out, &frame));
    slots.shut(second);
    assert!(!cable.passes(&gate, Way::Out, &frame));
    // A slot that there is not is shut.
    gate.set_addresses(&addresses(u16::MAX)).unwrap();
    assert!(!cable.passes(&gate, Way::Out, &frame));
    gate.set_addresses(&BTreeMap::from([(VIP6.into(), second)])).unwrap();
    assert!(cable.passes(&gate, Way::Out, &frame), "it is nobody's any more");
    assert!(!cable.passes(&gate, Way::Out, &frames::ipv6([0xff; 6], VIP6, frames::OTHER6)));
}

#[test]
fn a_full_table_is_said() {
    namespace::enter();
    let (mut gate, _, slot) = gate(&Pins::new(), None);
    let many =
        |n: u32| (0..n).map(|i| (IpAddr::from((i | 10 << 24).to_be_bytes()), slot)).collect();
    gate.set_addresses(&many(5000)).unwrap();
    let error = gate.set_addresses(&many(65537)).unwrap_err();
    assert_eq!(error.to_string(), "the gate has room for 65536 addresses and 65537 are wanted");
}

#[test]
fn a_slot_is_given_away_when_its_time_is_over() {
    namespace::enter();
    let (_gate, slots, slot) = gate(&Pins::new(), None);
    let now = clock::now();
    slots.open_until(slot, now + LONG);
    let other = slots.claim(2, now).unwrap();
    assert_ne!(other, slot);
    assert_eq!(slots.claim(OWNER, now), Some(slot), "with the deadline it has");
    assert_eq!(slots.deadline(slot), now + LONG);
    slots.retain(&[2].into(), now);
    assert_eq!((slots.owner(slot), slots.owner(other)), (Some(OWNER), Some(2)));
    slots.retain(&[2].into(), now + LONG);
    assert_eq!(slots.owner(slot), None);
    slots.release(other);
    assert_eq!(slots.owner(other), None);
    assert_eq!(slots.claim(3, now), Some(other), "the first is open still");
}
