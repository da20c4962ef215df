//! A network of one's own for a test thread: two ends of a cable, `v0` and `v1`.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::os::fd::AsFd;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
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
    ["v0", "v1"].map(|name| IfIndex(nix::net::if_::if_nametoindex(name).unwrap()))
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
