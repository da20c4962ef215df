//! Who has which address, over time, as the kernels tell it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};

use crate::clock::{Stamp, wait_until};
use crate::host::Host;
use crate::netns::run_in;
use crate::worker::Worker;
use crate::{Error, Result};

/// An address came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressEvent {
    /// When the kernel's message was read, which is shortly after.
    pub at: Stamp,
    /// On which host.
    pub host: String,
    /// Which address.
    pub ip: IpAddr,
    /// Whether it came; otherwise it went.
    pub added: bool,
    /// The mark of who added it (`IFA_PROTO`); 0 if there is none or it is not known.
    pub mark: u8,
}

/// The real-time priority at which the kernel's messages are read.
const PRIORITY: i32 = 90;

/// Follows the addresses of hosts.
#[derive(Debug, Default)]
pub struct Watch {
    events: Arc<Mutex<Vec<AddressEvent>>>,
    workers: Mutex<Vec<Worker>>,
}

impl Watch {
    /// Follows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows `host` from now on; the addresses it has count as added now. Has to be asked for
    /// again after [`Host::power_on`].
    pub fn follow(&self, host: &Host) -> Result {
        let listen = || listen().map_err(Error::errno("listen for address changes"));
        let socket = run_in(host.namespace(), listen)?;
        let name = host.name().to_owned();
        for ip in host.addresses()? {
            self.lock().push(AddressEvent {
                at: Stamp::now(),
                host: name.clone(),
                ip,
                added: true,
                mark: 0,
            });
        }
        let events = Arc::clone(&self.events);
        let worker = Worker::start("watch", move |stop| {
            // Before any daemon that is also real-time, or its stamps would be late. Without the
            // right to it they are.
            let _ = vipd::io::realtime::enter(PRIORITY);
            let mut buffer = vec![0; 1 << 16];
            while stop.wait([socket.as_fd()], None).is_some() {
                while let Ok(n) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    let at = Stamp::now();
                    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
                    events.extend(changes(&buffer[..n]).into_iter().map(|(added, ip, mark)| {
                        AddressEvent { at, host: name.clone(), ip, added, mark }
                    }));
                }
            }
        })?;
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        Ok(())
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<AddressEvent> {
        self.lock().clone()
    }

    /// The hosts that had `ip`, each time that changed.
    pub fn holders(&self, ip: IpAddr) -> Vec<(Stamp, BTreeSet<String>)> {
        let mut events = self.events();
        events.retain(|event| event.ip == ip);
        events.sort_by_key(|event| event.at);
        let mut holders = BTreeSet::new();
        let mut history: Vec<(Stamp, BTreeSet<String>)> = Vec::new();
        for AddressEvent { at, host, added, .. } in events {
            let changed = if added { holders.insert(host) } else { holders.remove(&host) };
            if changed {
                history.push((at, holders.clone()));
            }
        }
        history
    }

    /// Who has `ip` now.
    pub fn holders_now(&self, ip: IpAddr) -> BTreeSet<String> {
        self.holders(ip).pop().map(|(_, holders)| holders).unwrap_or_default()
    }

    /// The times in which more than one host had `ip`; one that lasts ends now.
    pub fn two_holders(&self, ip: IpAddr) -> Vec<(Stamp, Stamp)> {
        let mut times = Vec::new();
        let mut since = None;
        for (at, holders) in self.holders(ip) {
            match since {
                None if holders.len() > 1 => since = Some(at),
                Some(from) if holders.len() < 2 => {
                    times.push((from, at));
                    since = None;
                }
                None | Some(_) => {}
            }
        }
        times.extend(since.map(|from| (from, Stamp::now())));
        times
    }

    /// Waits until exactly the hosts called `names` have `ip`.
    pub fn wait_holders(&self, ip: IpAddr, names: &[&str], within: Duration) -> Result<Stamp> {
        let wanted: BTreeSet<String> = names.iter().map(|&n| n.to_owned()).collect();
        wait_until(
            &format!("{ip} on {names:?} only"),
            within,
            || Ok(self.holders_now(ip) == wanted),
        )
    }

    /// Waits until `ip` came to (`added`) or went from some host at or after `from`.
    pub fn wait_event(
        &self,
        ip: IpAddr,
        added: bool,
        from: Stamp,
        within: Duration,
    ) -> Result<AddressEvent> {
        let what = format!("{ip} {}", if added { "added" } else { "removed" });
        let wanted = |e: &&AddressEvent| e.ip == ip && e.added == added && e.at >= from;
        let mut found = None;
        wait_until(&what, within, || {
            found = self.lock().iter().find(wanted).cloned();
            Ok(found.is_some())
        })?;
        found.ok_or(Error::Timeout { what, within })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<AddressEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkRoute))?;
    setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20))?;
    let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
    Ok(fd)
}

/// The address changes in a buffer of netlink messages: whether it came, which, and its mark.
fn changes(mut buffer: &[u8]) -> Vec<(bool, IpAddr, u8)> {
    let mut found = Vec::new();
    while let Some(length) = word(buffer, 0).map(|n| n as usize).filter(|n| *n >= 16) {
        let Some(message) = buffer.get(..length) else { break };
        let added = match half(message, 4) {
            Some(libc::RTM_NEWADDR) => Some(true),
            Some(libc::RTM_DELADDR) => Some(false),
            _ => None,
        };
        let address = address(message.get(16..).unwrap_or_default());
        found.extend(added.zip(address).map(|(added, (ip, mark))| (added, ip, mark)));
        buffer = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Who added an address; in Linux since 5.18.
const IFA_PROTO: u16 = 11;

/// The address of an `ifaddrmsg`, `IFA_LOCAL` where there is one, else `IFA_ADDRESS`; its mark.
fn address(message: &[u8]) -> Option<(IpAddr, u8)> {
    let mut attributes = message.get(8..)?;
    let (mut own, mut other, mut mark) = (None, None, 0);
    while let Some(length) = half(attributes, 0).map(usize::from).filter(|n| *n >= 4) {
        let value = attributes.get(4..length)?;
        match half(attributes, 2) {
            Some(libc::IFA_LOCAL) => own = ip(value),
            Some(libc::IFA_ADDRESS) => other = ip(value),
            Some(IFA_PROTO) => mark = value.first().copied().unwrap_or_default(),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((own.or(other)?, mark))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
