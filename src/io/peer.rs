//! The sockets between voters: one for each path, which never wait.
//!
//! A path is an address of each voter; there may be several, over networks that fail apart. Every
//! datagram goes over all of them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::port::raw::{self, Control};
use super::port::{Buffers, Sent, TOS, room_and_rank, send_all};
use crate::types::{Family, VoterIx};
use crate::wire::peer::MAX_DATAGRAM;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {step}: {source}")]
pub struct OpenError {
    /// Of which path.
    pub address: SocketAddr,
    /// What could not be done.
    pub step: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

/// The sockets of all paths.
#[derive(Debug)]
pub struct PeerSocket {
    paths: Vec<Path>,
    /// By voter, then by path.
    voters: Vec<Vec<SocketAddr>>,
    known: BTreeSet<IpAddr>,
    counters: Counters,
}

#[derive(Debug)]
struct Path {
    socket: Socket,
    /// What [`Counters::overflow`] has of it.
    dropped: u32,
}

/// Something that came in from the address of a voter. Which one is for the seal to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Over which path of ours.
    pub path: usize,
    /// From which address.
    pub from: IpAddr,
    /// Not longer than [`MAX_DATAGRAM`].
    pub bytes: &'a [u8],
}

/// What was not handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Longer than any datagram of ours.
    pub malformed: u64,
    /// From an address of no voter.
    pub foreign: u64,
    /// What the kernel had no room for.
    pub overflow: u64,
}

impl PeerSocket {
    /// A socket on each of `own`, the addresses of this voter, one for each path, for talking to
    /// `voters`, each with an address for each path. An address need not be there yet.
    ///
    /// # Errors
    /// The step the kernel refused; usually somebody else has the port.
    pub fn open(own: &[SocketAddr], voters: Vec<Vec<SocketAddr>>) -> Result<Self, OpenError> {
        let open = |address: &SocketAddr| match socket(*address) {
            Ok(socket) => Ok(Path { socket, dropped: 0 }),
            Err((step, source)) => Err(OpenError { address: *address, step, source }),
        };
        let paths = own.iter().map(open).collect::<Result<_, _>>()?;
        let known = voters.iter().flatten().map(SocketAddr::ip).collect();
        Ok(Self { paths, voters, known, counters: Counters::default() })
    }

    /// What to wait for, and the path to hand to [`receive`](Self::receive) once it is readable.
    pub fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.paths.iter().map(|path| path.socket.as_fd()).enumerate()
    }

    /// What was not handed over so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Hands over what has come in over `path`, up to `budget` datagrams; tells how many it took.
    /// Less than `budget` means that nothing is left.
    ///
    /// # Errors
    /// What the socket says; it is told once.
    pub fn receive(
        &mut self,
        path: usize,
        buffers: &mut Buffers,
        budget: usize,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> io::Result<usize> {
        let Self { paths, known, counters, .. } = self;
        let Some(inlet) = paths.get_mut(path) else { return Ok(0) };
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
                if let Some(total) = Control::read(datagram.control).dropped {
                    // The kernel tells a total that wraps.
                    counters.overflow += u64::from(total.wrapping_sub(inlet.dropped));
                    inlet.dropped = total;
                }
                let from = raw::source(datagram.name).filter(|from| known.contains(from));
                let bytes = datagram.bytes;
                match from {
                    None => counters.foreign += 1,
                    Some(_) if datagram.truncated || bytes.len() > MAX_DATAGRAM => {
                        counters.malformed += 1;
                    }
                    Some(from) => sink(Received { path, from, bytes }),
                }
            }
            if !full {
                break;
            }
        }
        Ok(taken)
    }

    /// Sends each datagram to its voter, over every path that both have.
    ///
    /// One that cannot be sent does not keep the rest from being sent: one path may be down.
    pub fn send(&self, datagrams: &[(VoterIx, &[u8])]) -> Sent {
        let mut result = Sent::default();
        for (ix, path) in self.paths.iter().enumerate() {
            let address = |to: VoterIx| self.voters.get(to.index())?.get(ix);
            let batch: Vec<_> = datagrams
                .iter()
                .filter_map(|(to, bytes)| Some(((*address(*to)?).into(), *bytes)))
                .collect();
            send_all(&path.socket, &[], &batch, &mut result);
        }
        result
    }
}

/// Bound to its address, whether that is there or not: datagrams come from it or not at all, for
/// left to itself the kernel might choose a virtual address.
fn socket(address: SocketAddr) -> Result<Socket, (&'static str, io::Error)> {
    let at = |step: &'static str| move |e: io::Error| (step, e);
    let family = Family::of(address.ip());
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP));
    let socket = socket.map_err(at("socket"))?;
    match family {
        Family::V4 => {
            socket.set_freebind_v4(true).map_err(at("IP_FREEBIND"))?;
            socket.set_tos_v4(TOS).map_err(at("IP_TOS"))?;
        }
        Family::V6 => {
            socket.set_only_v6(true).map_err(at("IPV6_V6ONLY"))?;
            socket.set_freebind_v6(true).map_err(at("IPV6_FREEBIND"))?;
            socket.set_tclass_v6(TOS).map_err(at("IPV6_TCLASS"))?;
        }
    }
    raw::discover_mtu(&socket, family).map_err(at("MTU_DISCOVER"))?;
    room_and_rank(&socket).map_err(at("SO_PRIORITY, SO_RXQ_OVFL, SO_RCVBUF"))?;
    socket.bind(&address.into()).map_err(at("bind"))?;
    Ok(socket)
}
