//! TCP connections to virtual addresses: which there are, and the end of those to addresses that
//! this host has given up: their other ends talk to another host from now on, and what waits for
//! them here would wait for ever.
//!
//! As the kernel's `sock_diag` knows them (`include/uapi/linux/inet_diag.h`), byte by byte.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr as End};
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::clock;
use crate::types::Instant;
use crate::wire::peer::connections::Connection;

/// Addresses that the kernel is asked about one by one; of more it is asked for everything once.
const ONE_BY_ONE: usize = 8;
/// Message types.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const DATAGRAM: usize = 64 * 1024;
/// `struct inet_diag_req_v2`: head, then `struct inet_diag_sockid`.
const ID: usize = 48;
/// Where that is in `struct inet_diag_msg`.
const ID_AT: usize = 4;
/// `INET_DIAG_REQ_BYTECODE`, and `INET_DIAG_BC_S_COND` in it.
const BYTECODE: u16 = 1;
const SOURCE_IS: u8 = 7;
/// Every state but those of listeners, which serve the next tenure, of what has ended by itself,
/// and of what was never begun: bits by the numbers of `include/net/tcp_states.h`.
const STATES: u32 = 0x1fff & !(1 << LISTEN | 1 << TIME_WAIT | 1 << CLOSE | 1);
const LISTEN: u32 = 10;
const TIME_WAIT: u32 = 6;
const CLOSE: u32 = 7;
/// Every state in which the other end may wait for something: established; and closing, where it
/// may not have heard of that. Not those of requests, which anybody can make many of.
const WAITED_FOR: u32 = 1 << ESTABLISHED | 1 << FIN_WAIT1 | 1 << CLOSE_WAIT | 1 << LAST_ACK;
const ESTABLISHED: u32 = 1;
const FIN_WAIT1: u32 = 4;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;

/// A socket, as the kernel names it.
#[derive(Clone, Copy, Debug)]
struct Name {
    family: u8,
    state: u8,
    id: [u8; ID],
}

/// What became of connections to addresses that were given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many were ended.
    pub count: u32,
    /// Those whose other ends may wait, whether they were ended or not.
    pub clients: Vec<Connection>,
}

/// The connections to any of `addresses` whose other ends may wait for something.
///
/// # Errors
/// The kernel refuses; [`io::ErrorKind::TimedOut`] where it took longer than `limit`.
pub fn connections(addresses: &[IpAddr], limit: Duration) -> io::Result<Vec<Connection>> {
    let until = clock::now() + limit;
    let found = Asker::open(limit)?.sockets(addresses, WAITED_FOR, until)?;
    if clock::now() >= until {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(found.iter().filter_map(Name::client).collect())
}

/// Ends every connection to one of `addresses`; says which those were. What is not done within
/// `limit` is left as it is.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where the kernel cannot do that (`CONFIG_INET_DIAG_DESTROY`),
/// [`io::ErrorKind::TimedOut`] where it did not answer in time.
pub fn end_connections(addresses: &[IpAddr], limit: Duration) -> io::Result<Ended> {
    end_all(addresses, limit).map_err(|e| {
        let late = e.kind() == io::ErrorKind::WouldBlock;
        if late { io::Error::new(io::ErrorKind::TimedOut, e) } else { e }
    })
}

fn end_all(addresses: &[IpAddr], limit: Duration) -> io::Result<Ended> {
    let until = clock::now() + limit;
    let mut asker = Asker::open(limit)?;
    let found = asker.sockets(addresses, STATES, until)?;
    let waited_for = found.iter().filter(|name| 1 << name.state & WAITED_FOR != 0);
    let mut ended = Ended { count: 0, clients: waited_for.filter_map(Name::client).collect() };
    for name in found {
        if clock::now() >= until {
            break;
        }
        match asker.destroy(&name) {
            Ok(()) => ended.count += 1,
            // It has ended by itself meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, e));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(ended)
}

struct Asker {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Asker {
    fn open(limit: Duration) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let seconds = limit.as_secs().try_into().unwrap_or(1);
        let limit = TimeVal::new(seconds, limit.subsec_micros().into());
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    fn sockets(
        &mut self,
        addresses: &[IpAddr],
        states: u32,
        until: Instant,
    ) -> io::Result<Vec<Name>> {
        let mut found = Vec::new();
        let wanted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let conditions: Vec<Option<IpAddr>> = if addresses.len() <= ONE_BY_ONE {
            addresses.iter().copied().map(Some).collect()
        } else {
            vec![None]
        };
        for condition in conditions {
            // Sockets of IPv6 talk to IPv4, too, under mapped addresses.
            for family in [libc::AF_INET, libc::AF_INET6] {
                let of_v6 = matches!(condition, Some(IpAddr::V6(_)));
                if of_v6 && family == libc::AF_INET {
                    continue;
                }
                let mut request = head(family, states, &[0; ID]);
                request.extend(condition.map(bytecode).unwrap_or_default());
                self.exchange(BY_FAMILY, NLM_F_DUMP, &request, until, &mut |message| {
                    found.extend(
                        Name::read(message).filter(|name| wanted.contains(&name.local().ip())),
                    );
                })?;
            }
        }
        Ok(found)
    }

    fn destroy(&mut self, name: &Name) -> io::Result<()> {
        let request = head(name.family.into(), STATES, &name.id);
        let never = Instant::from_nanos(u64::MAX);
        self.exchange(DESTROY, NLM_F_ACK, &request, never, &mut |_| {})
    }

    /// Asks for one thing; `each` gets what is behind the header of each message.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        until: Instant,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(HEADER + payload.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        request.extend(payload);
        self.socket.send(&request, 0)?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            let mut rest = self.buffer.as_slice();
            while let Some(message) = Message::first(rest) {
                rest = rest.get(message.length.next_multiple_of(4)..).unwrap_or_default();
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => return failure(message.payload),
                    _ => each(message.payload),
                }
            }
            if clock::now() >= until {
                // What comes of it later has an old sequence number.
                return Ok(());
            }
        }
    }
}

/// One message of a datagram.
struct Message<'a> {
    length: usize,
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *head;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = bytes.get(HEADER..length)?;
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
        Some(Self { length, kind: u16::from_ne_bytes([k0, k1]), sequence, payload })
    }
}

fn failure(payload: &[u8]) -> io::Result<()> {
    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

/// `struct inet_diag_req_v2`.
fn head(family: i32, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let family = u8::try_from(family).unwrap_or_default();
    let tcp = u8::try_from(libc::IPPROTO_TCP).unwrap_or_default();
    let mut bytes = vec![family, tcp, 0, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The attribute that has the kernel tell of sockets with this local address only; with one of
/// IPv4 it looks at mapped ones, too.
fn bytecode(ip: IpAddr) -> Vec<u8> {
    let (family, address) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let length = u16::try_from(4 + 8 + address.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    bytes.extend((4 + length).to_ne_bytes());
    bytes.extend(BYTECODE.to_ne_bytes());
    // To the end of the program is yes, beyond it is no.
    bytes.extend([SOURCE_IS, u8::try_from(length).unwrap_or(u8::MAX)]);
    bytes.extend((length + 4).to_ne_bytes());
    let bits = u8::try_from(8 * address.len()).unwrap_or(u8::MAX);
    bytes.extend([u8::try_from(family).unwrap_or_default(), bits, 0, 0]);
    // Any port.
    bytes.extend((-1_i32).to_ne_bytes());
    bytes.extend(address);
    bytes
}

impl Name {
    /// The socket that a `struct inet_diag_msg` is about.
    fn read(message: &[u8]) -> Option<Self> {
        let (family, state) = (*message.first()?, *message.get(1)?);
        let id: [u8; ID] = message.get(ID_AT..ID_AT + ID)?.try_into().ok()?;
        Some(Self { family, state, id })
    }

    /// The address in the 16 bytes at `at`, and the port in the two at `port`.
    fn end(&self, port: usize, at: usize) -> End {
        let bytes = |at: usize| self.id.get(at..).unwrap_or_default();
        let port = bytes(port).first_chunk().map_or(0, |b| u16::from_be_bytes(*b));
        let ip = if i32::from(self.family) == libc::AF_INET {
            let octets: [u8; 4] = bytes(at).first_chunk().copied().unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from(octets))
        } else {
            let octets: [u8; 16] = bytes(at).first_chunk().copied().unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        };
        End::new(ip, port)
    }

    /// `struct inet_diag_sockid`: both ports, both addresses.
    fn local(&self) -> End {
        self.end(0, 4)
    }

    fn remote(&self) -> End {
        self.end(2, 20)
    }

    fn client(&self) -> Option<Connection> {
        Connection::new(self.local(), self.remote())
    }
}
