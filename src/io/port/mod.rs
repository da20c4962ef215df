//! All sockets on one interface: adverts in and out, frames out, neighbours' frames in.
//!
//! Opening and closing a port joins and leaves multicast groups, which waits for the kernel's
//! network lock: the worker does both. Everything else never waits.

mod datagram;
mod open;
pub(in crate::io) mod raw;

pub use open::OpenError;
pub(in crate::io) use open::{TOS, room_and_rank};
pub use raw::Buffers;
pub(in crate::io) use raw::bind_packet;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::Socket;

use crate::core::event::PortSpec;
use crate::types::{Family, IfIndex};
use crate::wire::vrrp::Meta;

use raw::{Control, Datagram};

/// A classic BPF program: code, jump if true, jump if false, operand of each instruction.
pub type Filter = [(u16, u8, u8, u32)];

/// Which frames of others a port hears; none without a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Of ARP.
    pub arp: Option<Vec<(u16, u8, u8, u32)>>,
    /// Of IPv6: neighbour discovery.
    pub nd: Option<Vec<(u16, u8, u8, u32)>>,
}

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

/// The sockets on one interface. Close it on the worker, not by dropping it.
#[derive(Debug)]
pub struct Port {
    index: IfIndex,
    sockets: Vec<Inlet>,
    counters: Counters,
}

/// A socket to receive from, and to send adverts.
#[derive(Debug)]
struct Inlet {
    source: Source,
    socket: Socket,
    /// The control message that says where its adverts come from.
    origin: Vec<u8>,
    /// What [`Counters::dropped`] has of it.
    dropped: u32,
}

/// Which of its sockets a port has something to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// IPv4 adverts.
    V4,
    /// IPv6 adverts.
    V6,
    /// ARP frames.
    Arp,
    /// Neighbour discovery frames.
    Nd,
}

/// Something that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The payload of a VRRP datagram, whatever is in it.
    Advert {
        /// The receiving interface.
        ifindex: IfIndex,
        /// What the IP layer told.
        meta: Meta,
        /// The payload, cut at the IP length.
        bytes: &'a [u8],
    },
    /// A whole Ethernet frame with ARP in it.
    Arp {
        /// The receiving interface.
        ifindex: IfIndex,
        /// From the destination address on.
        frame: &'a [u8],
    },
    /// A whole Ethernet frame with neighbour discovery in it.
    Nd {
        /// The receiving interface.
        ifindex: IfIndex,
        /// From the destination address on.
        frame: &'a [u8],
    },
}

/// What a port did not hand over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// With an IP header that cannot be, or longer than any advert.
    pub malformed: u64,
    /// Of another interface: a VLAN on top of this one, or from before the socket was bound.
    pub elsewhere: u64,
    /// What the kernel had no room for.
    pub dropped: u64,
}

/// What became of adverts to be sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Sent so many.
    pub sent: usize,
    /// Not sent so many.
    pub failed: usize,
    /// Why the last of those was not.
    pub error: Option<io::Error>,
}

impl Port {
    /// Opens the sockets `spec` asks for, and hears the frames `filters` let in.
    ///
    /// # Errors
    /// The step the kernel refused: no such interface, no such source address, no privilege.
    pub fn open(spec: &PortSpec, filters: &Filters) -> Result<Self, OpenError> {
        Self::try_open(spec, filters).map_err(|(step, source)| OpenError {
            interface: spec.name.clone(),
            step,
            source,
        })
    }

    fn try_open(spec: &PortSpec, filters: &Filters) -> Result<Self, (&'static str, io::Error)> {
        let IfIndex(index) = spec.index;
        let mut sockets = Vec::new();
        let mut add = |source, socket, origin| {
            sockets.push(Inlet { source, socket, origin, dropped: 0 });
        };
        if let Some(ip) = spec.v4 {
            add(Source::V4, open::adverts_v4(spec)?, raw::packet_info(ip.into(), index));
        }
        if let Some(ip) = spec.v6 {
            add(Source::V6, open::adverts_v6(spec)?, raw::packet_info(ip.into(), index));
        }
        if let Some(filter) = &filters.arp {
            add(Source::Arp, open::frames_in(spec, ETH_P_ARP, filter)?, Vec::new());
        }
        if let Some(filter) = &filters.nd {
            add(Source::Nd, open::frames_in(spec, ETH_P_IPV6, filter)?, Vec::new());
        }
        Ok(Self { index: spec.index, sockets, counters: Counters::default() })
    }

    /// The interface.
    pub fn index(&self) -> IfIndex {
        self.index
    }

    /// What to wait for, and what to hand to [`receive`](Self::receive) once it is readable.
    pub fn fds(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        self.sockets.iter().map(|inlet| (inlet.source, inlet.socket.as_fd()))
    }

    /// What was not handed over so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Hands over what has come in from `source`, up to `budget` datagrams; tells how many it
    /// took. Less than `budget` means that nothing is left.
    ///
    /// # Errors
    /// What the socket says, such as that the interface went down; it is told once.
    pub fn receive(
        &mut self,
        source: Source,
        buffers: &mut Buffers,
        budget: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let Some(inlet) = self.sockets.iter_mut().find(|inlet| inlet.source == source) else {
            return Ok(0);
        };
        let mut taken = 0;
        while taken < budget {
            let datagrams = match raw::receive(inlet.socket.as_fd(), buffers, budget - taken) {
                Ok(datagrams) => datagrams,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let (count, full) = (datagrams.len(), datagrams.len() == Buffers::SLOTS);
            taken += count;
            for datagram in datagrams {
                let control = Control::read(datagram.control);
                inlet.count_dropped(control.dropped, &mut self.counters);
                match interpret(source, self.index, &datagram, &control) {
                    Ok(received) => sink(received),
                    Err(Unusable::Malformed) => self.counters.malformed += 1,
                    Err(Unusable::Elsewhere) => self.counters.elsewhere += 1,
                }
            }
            if !full {
                break;
            }
        }
        Ok(taken)
    }

    /// Sends each advert to its destination, from the source address the port was opened with:
    /// left to itself, the kernel might choose a virtual address.
    ///
    /// One that cannot be sent does not keep the rest from being sent.
    pub fn send_adverts(&self, adverts: &[(IpAddr, &[u8])]) -> Sent {
        let IfIndex(index) = self.index;
        let mut result = Sent::default();
        for (source, family) in [(Source::V4, Family::V4), (Source::V6, Family::V6)] {
            let batch: Vec<_> = adverts
                .iter()
                .filter(|(to, _)| Family::of(*to) == family)
                .map(|(to, bytes)| (raw::destination(*to, index), *bytes))
                .collect();
            match self.sockets.iter().find(|inlet| inlet.source == source) {
                Some(inlet) => send_all(&inlet.socket, &inlet.origin, &batch, &mut result),
                None if batch.is_empty() => {}
                None => {
                    result.failed += batch.len();
                    result.error = Some(io::ErrorKind::AddrNotAvailable.into());
                }
            }
        }
        result
    }

    /// Sends one advert; see [`send_adverts`](Self::send_adverts).
    ///
    /// # Errors
    /// The interface is down or its queue full, the source address is gone, no route to a peer.
    pub fn send_advert(&self, to: IpAddr, bytes: &[u8]) -> io::Result<()> {
        self.send_adverts(&[(to, bytes)]).error.map_or(Ok(()), Err)
    }
}

impl Inlet {
    /// The kernel tells a total that wraps.
    fn count_dropped(&mut self, total: Option<u32>, counters: &mut Counters) {
        if let Some(total) = total {
            counters.dropped += u64::from(total.wrapping_sub(self.dropped));
            self.dropped = total;
        }
    }
}

/// Why a datagram is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    Malformed,
    Elsewhere,
}

/// What a datagram is, seen from the socket it came from.
fn interpret<'a>(
    source: Source,
    ifindex: IfIndex,
    datagram: &Datagram<'a>,
    control: &Control,
) -> Result<Received<'a>, Unusable> {
    let from = match source {
        Source::V4 | Source::V6 => control.ifindex,
        Source::Arp | Source::Nd => raw::packet_ifindex(datagram.name),
    };
    if from != Some(ifindex.0) {
        return Err(Unusable::Elsewhere);
    }
    if datagram.truncated {
        return Err(Unusable::Malformed);
    }
    let frame = datagram.bytes;
    match source {
        Source::V4 => datagram::strip(datagram.bytes).map(|(meta, bytes)| Received::Advert {
            ifindex,
            meta,
            bytes,
        }),
        Source::V6 => meta_v6(datagram, control).map(|meta| Received::Advert {
            ifindex,
            meta,
            bytes: datagram.bytes,
        }),
        Source::Arp => Some(Received::Arp { ifindex, frame }),
        Source::Nd => Some(Received::Nd { ifindex, frame }),
    }
    .ok_or(Unusable::Malformed)
}

fn meta_v6(datagram: &Datagram<'_>, control: &Control) -> Option<Meta> {
    let src = raw::source_v6(datagram.name)?.into();
    Some(Meta { src, dst: control.destination?.into(), hops: control.hops? })
}

/// Sends `batch` in as few calls as it takes, passing over what fails.
pub(in crate::io) fn send_all(
    socket: &Socket,
    control: &[u8],
    mut batch: &[(socket2::SockAddr, &[u8])],
    result: &mut Sent,
) {
    while !batch.is_empty() {
        let done = match raw::send(socket.as_fd(), control, batch) {
            Ok(sent) => {
                result.sent += sent;
                sent
            }
            Err(e) => {
                result.failed += 1;
                result.error = Some(e);
                1
            }
        };
        batch = batch.get(done..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: IfIndex = IfIndex(7);

    /// A `sockaddr` of `family` with `ifindex` where one of packet sockets has it.
    fn name(family: libc::c_int, ifindex: u32) -> [u8; 28] {
        let mut name = [0; 28];
        name[..2].copy_from_slice(&u16::try_from(family).unwrap().to_ne_bytes());
        name[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        name
    }

    #[test]
    fn a_frame_of_a_vlan_on_top_is_not_of_this_interface() {
        let cases = [
            (7, false, Ok(Received::Arp { ifindex: INDEX, frame: b"frame" })),
            (8, false, Err(Unusable::Elsewhere)),
            (7, true, Err(Unusable::Malformed)),
        ];
        for (ifindex, truncated, expected) in cases {
            let name = name(libc::AF_PACKET, ifindex);
            let datagram = Datagram { bytes: b"frame", truncated, name: &name, control: &[] };
            let found = interpret(Source::Arp, INDEX, &datagram, &Control::default());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_advert_without_all_the_kernel_should_tell_is_not_handed_over() {
        let name = name(libc::AF_INET6, 0);
        let datagram = Datagram { bytes: b"six", name: &name, ..Datagram::default() };
        let all = Control {
            ifindex: Some(7),
            destination: Some(std::net::Ipv6Addr::LOCALHOST),
            hops: Some(255),
            dropped: None,
        };
        let cases = [
            (Control { ifindex: Some(8), ..all }, Unusable::Elsewhere),
            (Control { ifindex: None, ..all }, Unusable::Elsewhere),
            (Control { hops: None, ..all }, Unusable::Malformed),
            (Control { destination: None, ..all }, Unusable::Malformed),
        ];
        assert!(interpret(Source::V6, INDEX, &datagram, &all).is_ok());
        for (control, expected) in cases {
            assert_eq!(interpret(Source::V6, INDEX, &datagram, &control), Err(expected));
        }
    }

    #[test]
    fn losses_are_counted_across_the_wrap_of_the_kernels_total() {
        let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None).unwrap();
        let mut inlet = Inlet { source: Source::V4, socket, origin: Vec::new(), dropped: 0 };
        let mut counters = Counters::default();
        for total in [None, Some(3), Some(3), Some(u32::MAX), Some(1)] {
            inlet.count_dropped(total, &mut counters);
        }
        assert_eq!(counters.dropped, (1 << 32) + 1);
    }
}
