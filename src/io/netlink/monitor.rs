//! What happens to links and addresses, by whomever.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::parse::{Body, Message, messages};
use super::{DATAGRAM, append, connect, receive};
use crate::core::event::Event;
use crate::io::realtime::{self, Refused};
use crate::io::wake::Sender;

/// Holds some 5000 events.
const RECEIVE_BUFFER: usize = 4 << 20;
/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` (`linux/rtnetlink.h`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// "Something changed meanwhile" (`linux/netlink.h`).
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The most datagrams read at a time.
const BUDGET: usize = 64;

/// Tells of every link and address, then of every change.
///
/// When something may have been missed, all is told again between [`Event::ResyncBegin`] and
/// [`Event::ResyncEnd`]; changes that happen in between come in between. A resync during which
/// something went away begins again, so that nothing that is gone is told last.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    /// Our own; a change carries the number and sequence of the socket that asked for it.
    port: u32,
    buffer: Vec<u8>,
    sequence: u32,
    phase: Phase,
}

/// How far the telling of everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be begun.
    Due,
    /// Links are coming; `stale` if that will have to be repeated.
    Links { stale: bool },
    /// So are addresses.
    Addresses { stale: bool },
    /// All was told.
    Live,
}

impl Monitor {
    /// Listens from now on; the first [`drain`](Self::drain) begins to tell what there is.
    ///
    /// # Errors
    /// No netlink sockets allowed, or none left.
    pub fn open() -> io::Result<Self> {
        Self::with_buffer(RECEIVE_BUFFER)
    }

    /// With room for `bytes` of unread messages, which the kernel doubles.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    pub fn with_buffer(bytes: usize) -> io::Result<Self> {
        let socket = connect(GROUPS, bytes)?;
        socket.set_non_blocking(true)?;
        let mut own = SocketAddr::new(0, 0);
        socket.get_address(&mut own)?;
        let buffer = Vec::with_capacity(DATAGRAM);
        Ok(Self { socket, port: own.port_number(), buffer, sequence: 0, phase: Phase::Due })
    }

    /// Hands over what has come in, and asks for everything where that is due.
    ///
    /// Reads a bounded number of messages; where more are left, the file descriptor stays
    /// readable.
    ///
    /// # Errors
    /// What the socket says; a full buffer is none.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Event<'static>)) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = (0..BUDGET).try_for_each(|_| {
            if self.phase == Phase::Due {
                sink(Event::ResyncBegin);
                self.dump(Phase::Links { stale: false })?;
            }
            match receive(&self.socket, &mut buffer) {
                Ok(()) => messages(&buffer).try_for_each(|message| self.take(message, sink)),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.missed();
                    Ok(())
                }
                Err(e) => Err(e),
            }
        });
        self.buffer = buffer;
        match outcome {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn take(&mut self, message: Message, sink: &mut dyn FnMut(Event<'static>)) -> io::Result<()> {
        let asked = message.port == self.port && message.sequence == self.sequence;
        if asked && message.flags & NLM_F_DUMP_INTR != 0 {
            self.missed();
        }
        match message.body {
            Body::Event(event) => {
                // A dump may have seen what was there a moment earlier, and say so later.
                if matches!(event, Event::AddressGone(_) | Event::LinkGone(_)) && !asked {
                    self.missed_if_dumping();
                }
                sink(event);
            }
            Body::Done if asked => return self.advance(sink),
            Body::Answer(errno) if asked && errno != 0 => {
                self.phase = Phase::Due;
                return Err(io::Error::from_raw_os_error(errno));
            }
            Body::Overrun => self.missed(),
            Body::Done | Body::Answer(_) | Body::Entry(_) | Body::Other => {}
        }
        Ok(())
    }

    /// A dump came to its end.
    fn advance(&mut self, sink: &mut dyn FnMut(Event<'static>)) -> io::Result<()> {
        match self.phase {
            Phase::Links { stale } => return self.dump(Phase::Addresses { stale }),
            Phase::Addresses { stale: true } => self.phase = Phase::Due,
            Phase::Addresses { stale: false } => {
                self.phase = Phase::Live;
                sink(Event::ResyncEnd);
            }
            Phase::Due | Phase::Live => {}
        }
        Ok(())
    }

    /// Everything has to be told again. A dump that runs is left to end, as the kernel does not
    /// begin a second one before.
    fn missed(&mut self) {
        self.missed_if_dumping();
        if self.phase == Phase::Live {
            self.phase = Phase::Due;
        }
    }

    fn missed_if_dumping(&mut self) {
        if let Phase::Links { stale } | Phase::Addresses { stale } = &mut self.phase {
            *stale = true;
        }
    }

    /// Asks for what `phase` is about.
    fn dump(&mut self, phase: Phase) -> io::Result<()> {
        let request = match phase {
            Phase::Addresses { .. } => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            Phase::Links { .. } | Phase::Due | Phase::Live => {
                RouteNetlinkMessage::GetLink(LinkMessage::default())
            }
        };
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut out = Vec::new();
        append(&mut out, self.sequence, NLM_F_REQUEST | NLM_F_DUMP, request);
        self.socket.send(&out, 0)?;
        self.phase = phase;
        Ok(())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Drains `monitor` for ever from a thread of its own, at real-time `priority` or as near as
/// `refused` is told; ends when nobody takes the events any more.
///
/// While the queue is full the thread waits: what is missed by that is told again.
///
/// # Errors
/// No thread left.
pub fn watch(
    mut monitor: Monitor,
    priority: Option<i32>,
    events: Sender<Event<'static>>,
    mut report: impl FnMut(Trouble) + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("vipd-netlink".into()).stack_size(256 * 1024).spawn(move || {
        if let Some(Err(refused)) = priority.map(realtime::enter) {
            report(Trouble::Refused(refused));
        }
        let mut open = Ok(());
        while open.is_ok() {
            let outcome = monitor.drain(&mut |event| {
                if open.is_ok() {
                    open = events.send(event);
                }
            });
            if let Err(e) = outcome {
                report(Trouble::Netlink(e));
            }
            wait(&monitor);
        }
    })
}

/// What [`watch`] has to tell besides events.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It is not real-time.
    #[error("{0}")]
    Refused(Refused),
    /// The socket does not work; it is tried again.
    #[error("netlink: {0}")]
    Netlink(io::Error),
}

/// Waits for something to read; after a minute a socket that failed is tried again.
fn wait(monitor: &Monitor) {
    let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    // Interrupted or not, the next thing is to look.
    let _: Result<i32, Errno> = poll(&mut fds, PollTimeout::from(60_000u16));
}
