//! Frames of our own making: announcements and probes, out of any interface.
#![allow(unsafe_code, reason = "no safe binding sends to a link-layer address")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use crate::types::IfIndex;

#[expect(clippy::cast_possible_truncation, reason = "17 and 20 fit")]
const FAMILY: u16 = libc::AF_PACKET as u16;
#[expect(clippy::cast_possible_truncation, reason = "17 and 20 fit")]
const LENGTH: u32 = size_of::<libc::sockaddr_ll>() as u32;

/// The band of network control, ahead of all other traffic in the interface's queue.
const QUEUE: i32 = 6;

/// A packet socket that only sends.
///
/// It goes through the interface's queueing discipline like everything else: what guards egress
/// guards it, too.
#[derive(Debug)]
pub struct Announcer {
    fd: OwnedFd,
}

impl Announcer {
    /// Opens the socket; protocol 0 makes it deaf.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        setsockopt(&fd, sockopt::Priority, &QUEUE)?;
        Ok(Self { fd })
    }

    /// Sends one Ethernet frame out of `ifindex`.
    ///
    /// # Errors
    /// As `sendto(2)`: the interface is down or gone, or its queue is full.
    pub fn send(&self, ifindex: IfIndex, frame: &[u8]) -> io::Result<()> {
        // SAFETY: a sockaddr_ll of zeroes is a valid value of that plain structure.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = FAMILY;
        to.sll_ifindex = i32::try_from(ifindex.0).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (to, len) = (&raw const to, LENGTH);
        // SAFETY: both pointers are valid for the lengths given with them for the whole call.
        let sent = unsafe {
            let frame_ptr = frame.as_ptr().cast();
            libc::sendto(self.fd.as_raw_fd(), frame_ptr, frame.len(), 0, to.cast(), len)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
