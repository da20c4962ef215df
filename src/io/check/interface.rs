//! An interface is up and has carrier. Changes are seen at once, over netlink.
#![allow(unsafe_code, reason = "no safe binding asks for the flags of one interface")]

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use tokio::net::UdpSocket;

use super::super::http::reason;

/// `RTMGRP_LINK` (`linux/rtnetlink.h`).
const LINKS: u32 = 1;

pub(super) struct Interface {
    name: String,
    /// What tells of every link; none where that could not be had.
    changes: Option<UdpSocket>,
}

impl Interface {
    pub(super) fn new(name: String) -> Self {
        Self { name, changes: None }
    }

    pub(super) fn look(&mut self) -> Result<String, String> {
        match &self.changes {
            Some(changes) => drain(changes),
            None => self.changes = listen().ok(),
        }
        let Self { name, .. } = self;
        let flags = flags(name).map_err(|e| match e.raw_os_error() {
            Some(libc::ENODEV) => format!("there is no {name}"),
            _ => format!("{name}: {}", reason(&e)),
        })?;
        if flags & libc::IFF_UP == 0 {
            Err(format!("{name} is down"))
        } else if flags & libc::IFF_RUNNING == 0 {
            Err(format!("{name} has no carrier"))
        } else {
            Ok(format!("{name} is up"))
        }
    }

    /// Waits until some link changed.
    pub(super) async fn changed(&mut self) {
        let Some(changes) = &self.changes else { return std::future::pending().await };
        match changes.readable().await {
            Ok(()) => drain(changes),
            Err(_) => self.changes = None,
        }
    }
}

/// Tokio's name for whatever has datagrams.
fn listen() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
    let netlink = socket(family, kind, flags, SockProtocol::NetlinkRoute)?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, LINKS))?;
    UdpSocket::from_std(netlink.into())
}

/// What it says does not matter, only that it does. Bounded: the rest is read the next time.
fn drain(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    for _ in 0..64 {
        match socket.try_recv(&mut buffer) {
            Err(e) if e.raw_os_error() != Some(libc::ENOBUFS) => break,
            Ok(_) | Err(_) => {}
        }
    }
}

/// The flags of an interface, which the kernel tells without its network lock.
fn flags(name: &str) -> io::Result<i32> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: plain old data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the kernel reads the name, which ends with a zero, and writes the flags.
    let got = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written this member of the union.
    Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
}
