//! The gate on real interfaces. Needs root.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod namespace;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use namespace::{enter, ip};
use vipd::gate::{Cover, Gate, Inherited, Mode, Slots, present};
use vipd::io::clock;

/// A BPF file system of a test's own.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        let thread = std::thread::current();
        let name = thread.name().unwrap().replace("::", "-");
        let dir = std::env::temp_dir().join(format!("vipd-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn open(&self) -> (Gate, Slots, Inherited) {
        Gate::open(&self.0, None).unwrap()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.0);
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_gate_opens() {
    enter();
    let pins = Pins::new();
    let (mut gate, slots, inherited) = pins.open();
    println!("{:?} {:?}", inherited, gate.clock_offset());
    let slot = slots.claim(7, clock::now()).unwrap();
    gate.set_addresses(&BTreeMap::from([("192.0.2.9".parse().unwrap(), slot)])).unwrap();
    let t = clock::now();
    println!("{:?}", gate.cover(&present().unwrap()));
    println!("{:?}", clock::now() - t);
    println!("{:?}", gate.verify());
}
