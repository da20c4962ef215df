//! A network of one's own for a test thread: two ends of a cable, `v0` and `v1`.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use vipd::types::IfIndex;

/// Puts the calling thread, and what it starts, into a fresh network namespace.
///
/// # Panics
/// Without root: a kernel test that is skipped is one that nobody has seen pass.
pub(crate) fn enter() -> [IfIndex; 2] {
    unshare(CloneFlags::CLONE_NEWNET).expect("root can make a network namespace");
    ip("link set lo up");
    ip("link add v0 type veth peer name v1");
    ip("link set v0 up");
    ip("link set v1 up");
    ["v0", "v1"].map(index)
}

/// Another network, for the far end of a cable.
pub(crate) struct Far(File);

impl Far {
    /// Takes `interface` out of the calling thread's network into a fresh one.
    pub(crate) fn with(interface: &str) -> Self {
        let fresh = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            own()
        };
        let far = Self(std::thread::spawn(fresh).join().unwrap());
        let (process, fd) = (std::process::id(), far.0.as_raw_fd());
        ip(&format!("link set {interface} netns /proc/{process}/fd/{fd}"));
        far.run(|| {
            ip("link set lo up");
            ip(&format!("link set {interface} up"));
        });
        far
    }

    /// Does `work` there.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let here = own();
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
        let outcome = work();
        setns(here, CloneFlags::CLONE_NEWNET).unwrap();
        outcome
    }
}

fn own() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// The number of the interface `name`.
pub(crate) fn index(name: &str) -> IfIndex {
    IfIndex(nix::net::if_::if_nametoindex(name).unwrap())
}

/// Runs ip(8) with `arguments`, and returns what it says.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `fd` becomes readable within `milliseconds`.
pub(crate) fn wait_readable(fd: &impl AsFd, milliseconds: u16) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(milliseconds)).unwrap() > 0
}
