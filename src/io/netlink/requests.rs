//! Adding and deleting addresses, many at a time.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressProtocol, AddressScope,
    CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::parse::{Body, messages};
use super::{DATAGRAM, PROTO, append, connect, receive};
use crate::core::event::{AddressSpec, Event, Failure, KernelAddress};
use crate::io::clock;
use crate::types::{IfIndex, Instant};

/// The most changes made at a time: their answers fit into the socket's buffer.
pub const BATCH: usize = 100;

const RECEIVE_BUFFER: usize = 1 << 20;
/// "For ever", of a lifetime.
const INFINITE: u32 = u32::MAX;

/// A change to the addresses of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The address shall be there, with our mark.
    Add(&'a AddressSpec),
    /// The address shall be gone.
    Delete(&'a AddressSpec),
}

/// A socket to ask the kernel for changes; each call waits for the kernel's network lock.
#[derive(Debug)]
pub struct Requests {
    pub(super) socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Requests {
    /// A socket of its own, so that nothing but answers comes in.
    ///
    /// # Errors
    /// No netlink sockets allowed, or none left.
    pub fn open() -> io::Result<Self> {
        let socket = connect(0, RECEIVE_BUFFER)?;
        // An answer need not repeat the question.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM), sequence: 0 })
    }

    /// Makes the first [`BATCH`] of `changes`, in order, each whatever becomes of the others;
    /// tells what became of each, waiting no longer than `limit` for an answer.
    ///
    /// What is already so counts as done. An address that is there without our mark gets it.
    pub fn apply(&mut self, changes: &[Change<'_>], limit: Duration) -> Vec<Result<(), Failure>> {
        let deadline = clock::now() + limit;
        let requests = changes.iter().take(BATCH).map(|change| match change {
            Change::Add(spec) => add(spec),
            Change::Delete(spec) => delete(spec),
        });
        let mut results = self.ask(requests.collect(), deadline);
        let exists = Err(Failure::Errno(libc::EEXIST));
        let absent = Err(Failure::Errno(libc::EADDRNOTAVAIL));
        if results.contains(&exists) {
            let present = self.present(deadline).unwrap_or_default();
            for (change, result) in changes.iter().zip(&mut results) {
                if let (Change::Add(spec), true) = (change, *result == exists) {
                    *result = self.adopt(spec, &present, deadline);
                }
            }
        }
        for (change, result) in changes.iter().zip(&mut results) {
            if matches!(change, Change::Delete(_)) && *result == absent {
                *result = Ok(());
            }
        }
        results
    }

    /// An address that could not be added because it is there: makes it ours.
    fn adopt(
        &mut self,
        spec: &AddressSpec,
        present: &[KernelAddress],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let same = |there: &&KernelAddress| there.index == spec.index && there.ip == spec.ip;
        let exact = |there: &&KernelAddress| there.prefix == spec.prefix;
        let mut there = present.iter().filter(same);
        // IPv6 has an address once, with whatever prefix; IPv4 once for each prefix.
        let found = match spec.ip {
            IpAddr::V4(_) => there.find(exact),
            IpAddr::V6(_) => there.next(),
        };
        let mut answers = match found {
            Some(there) if there.prefix == spec.prefix => self.ask(vec![replace(spec)], deadline),
            // To replace it would leave the prefix as it is, and it could not be deleted by ours.
            Some(there) => {
                let old = AddressSpec { prefix: there.prefix, ..spec.clone() };
                self.ask(vec![delete(&old), add(spec)], deadline)
            }
            None => return Err(Failure::Errno(libc::EEXIST)),
        };
        answers.pop().unwrap_or(Err(Failure::TimedOut))
    }

    /// Sends `requests` in one go and collects the answers.
    pub(super) fn ask(
        &mut self,
        requests: Vec<Request>,
        deadline: Instant,
    ) -> Vec<Result<(), Failure>> {
        let mut results = vec![Err(Failure::TimedOut); requests.len()];
        let first = self.sequence.wrapping_add(1);
        let mut out = Vec::new();
        for (flags, message) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            append(&mut out, self.sequence, NLM_F_REQUEST | NLM_F_ACK | flags, message);
        }
        let mut open = results.len();
        let mut outcome = self.socket.send(&out, 0).map(drop);
        while outcome.is_ok() && open > 0 {
            outcome = self.wait(deadline, |sequence, body| {
                let Body::Answer(errno) = body else { return };
                // An answer to an earlier batch that came too late has no place here.
                let nth = usize::try_from(sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Some(result) = results.get_mut(nth) {
                    *result = if errno == 0 { Ok(()) } else { Err(Failure::Errno(errno)) };
                    open = open.saturating_sub(1);
                }
            });
        }
        if let Err(e) = outcome
            && let Some(errno) = e.raw_os_error()
            && e.kind() != io::ErrorKind::WouldBlock
        {
            for result in results.iter_mut().filter(|r| **r == Err(Failure::TimedOut)) {
                *result = Err(Failure::Errno(errno));
            }
        }
        results
    }

    /// All addresses there are.
    fn present(&mut self, deadline: Instant) -> io::Result<Vec<KernelAddress>> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut found = Vec::new();
        self.dump(all, deadline, |body| {
            if let Body::Event(Event::Address(address) | Event::AddressGone(address)) = body {
                found.push(address);
            }
        })?;
        Ok(found)
    }

    /// Asks for all that `what` asks for, and hands it over; the kernel's errno, or zero.
    pub(super) fn dump(
        &mut self,
        what: RouteNetlinkMessage,
        deadline: Instant,
        mut each: impl FnMut(Body),
    ) -> io::Result<i32> {
        self.sequence = self.sequence.wrapping_add(1);
        let asked = self.sequence;
        let mut out = Vec::new();
        append(&mut out, asked, NLM_F_REQUEST | NLM_F_DUMP, what);
        self.socket.send(&out, 0)?;
        let mut ended = None;
        loop {
            // What comes late of an earlier question has no place here.
            self.wait(deadline, |sequence, body| match body {
                _ if sequence != asked => {}
                Body::Done => ended = Some(0),
                Body::Answer(errno) => ended = Some(errno),
                Body::Event(_) | Body::Entry(_) | Body::Overrun | Body::Other => each(body),
            })?;
            if let Some(errno) = ended {
                return Ok(errno);
            }
        }
    }

    /// Receives one datagram, and hands over its messages; `WouldBlock` after `deadline`.
    fn wait(&mut self, deadline: Instant, mut each: impl FnMut(u32, Body)) -> io::Result<()> {
        // Zero would mean "for ever".
        let left = deadline.since(clock::now()).max(Duration::from_millis(1));
        let seconds = left.as_secs().try_into().unwrap_or(libc::time_t::MAX);
        let limit = TimeVal::new(seconds, left.subsec_micros().into());
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &limit)?;
        receive(&self.socket, &mut self.buffer)?;
        messages(&self.buffer).for_each(|message| each(message.sequence, message.body));
        Ok(())
    }
}

/// With what makes it more than a plain one.
pub(super) type Request = (u16, RouteNetlinkMessage);

fn add(spec: &AddressSpec) -> Request {
    (NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewAddress(wanted(spec)))
}

fn replace(spec: &AddressSpec) -> Request {
    (NLM_F_REPLACE, RouteNetlinkMessage::NewAddress(wanted(spec)))
}

fn delete(spec: &AddressSpec) -> Request {
    (0, RouteNetlinkMessage::DelAddress(identity(spec)))
}

/// What the kernel knows an address by.
fn identity(spec: &AddressSpec) -> AddressMessage {
    let IfIndex(index) = spec.index;
    let (family, scope) = match spec.ip {
        IpAddr::V4(_) => (AddressFamily::Inet, AddressScope::Universe),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => (AddressFamily::Inet6, AddressScope::Link),
        IpAddr::V6(_) => (AddressFamily::Inet6, AddressScope::Universe),
    };
    let mut message = AddressMessage::default();
    message.header =
        AddressHeader { family, prefix_len: spec.prefix, scope, index, ..AddressHeader::default() };
    message.attributes = vec![AddressAttribute::Local(spec.ip), AddressAttribute::Address(spec.ip)];
    message
}

/// An address as we want it: ours, and in IPv6 at once, without a route of its own, and no
/// source the host chooses by itself unless asked for.
fn wanted(spec: &AddressSpec) -> AddressMessage {
    let mut message = identity(spec);
    let attributes = &mut message.attributes;
    attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTO)));
    match (spec.ip, &spec.label) {
        (IpAddr::V4(_), Some(label)) => attributes.push(AddressAttribute::Label(label.to_string())),
        (IpAddr::V4(_), None) => {}
        (IpAddr::V6(_), _) => {
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            attributes.push(AddressAttribute::Flags(flags));
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_valid = INFINITE;
            lifetimes.ifa_preferred = if spec.preferred { INFINITE } else { 0 };
            attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
    }
    message
}
