//! The system calls on raw, packet and datagram sockets: many datagrams at a time.
//!
//! Own calls rather than nix's, whose `sendmmsg` cannot tell how many were sent without reading
//! addresses nobody wrote, and whose `recvmmsg` loses control messages from its second use on.
#![allow(unsafe_code, reason = "recvmmsg, sendmmsg and bind to a packet address")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "lengths of a few kilobytes, whose C types differ between libraries"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::SockAddr;

use crate::types::Family;

/// The longest payload of an advert is 4088 bytes (255 IPv6 addresses) and 28 of authentication.
const SLOT: usize = 4608;
const SLOTS: usize = 16;
/// The most datagrams sent at a time.
const BURST: usize = 64;
const CONTROL: usize = 128;
const NAME: usize = 32;

/// Where datagrams are received, for all ports in turn.
#[derive(Debug)]
pub struct Buffers(Box<[Slot]>);

#[derive(Clone, Debug)]
struct Slot {
    bytes: [u8; SLOT],
    control: [u8; CONTROL],
    name: [u8; NAME],
    length: usize,
    control_length: usize,
    name_length: usize,
    truncated: bool,
}

impl Buffers {
    /// The most datagrams received at a time.
    pub(in crate::io) const SLOTS: usize = SLOTS;
}

impl Default for Buffers {
    fn default() -> Self {
        let empty = Slot {
            bytes: [0; SLOT],
            control: [0; CONTROL],
            name: [0; NAME],
            length: 0,
            control_length: 0,
            name_length: 0,
            truncated: false,
        };
        Self(vec![empty; SLOTS].into())
    }
}

/// A datagram as received, with all the kernel told about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::io) struct Datagram<'a> {
    pub(in crate::io) bytes: &'a [u8],
    /// It was longer, or the kernel would have had more to tell.
    pub(in crate::io) truncated: bool,
    pub(in crate::io) name: &'a [u8],
    pub(in crate::io) control: &'a [u8],
}

/// Receives up to `want` datagrams, and returns those that are there.
pub(in crate::io) fn receive<'a>(
    fd: BorrowedFd<'_>,
    buffers: &'a mut Buffers,
    want: usize,
) -> io::Result<impl ExactSizeIterator<Item = Datagram<'a>> + use<'a>> {
    // SAFETY: integers and pointers, for which all zeroes is a value: no iovec, no buffers.
    let (mut headers, mut vectors): ([libc::mmsghdr; SLOTS], [libc::iovec; SLOTS]) =
        unsafe { std::mem::zeroed() };
    let want = want.min(SLOTS);
    for ((slot, header), vector) in buffers.0.iter_mut().zip(&mut headers).zip(&mut vectors) {
        vector.iov_base = slot.bytes.as_mut_ptr().cast();
        vector.iov_len = SLOT;
        let header = &mut header.msg_hdr;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_name = slot.name.as_mut_ptr().cast();
        header.msg_namelen = NAME as libc::socklen_t;
        header.msg_control = slot.control.as_mut_ptr().cast();
        header.msg_controllen = CONTROL as _;
    }
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: the first `want` headers point to buffers that live and are not otherwise
    // referred to during the call, with their true lengths.
    let received = unsafe {
        let count = want as libc::c_uint;
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            flags as _,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (slot, header) in buffers.0.iter_mut().zip(&headers).take(received) {
        slot.length = (header.msg_len as usize).min(SLOT);
        slot.control_length = (header.msg_hdr.msg_controllen as usize).min(CONTROL);
        slot.name_length = (header.msg_hdr.msg_namelen as usize).min(NAME);
        slot.truncated = header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    }
    let slots: &'a [Slot] = &buffers.0;
    Ok(slots.iter().take(received).map(|slot| Datagram {
        bytes: slot.bytes.get(..slot.length).unwrap_or_default(),
        truncated: slot.truncated,
        name: slot.name.get(..slot.name_length).unwrap_or_default(),
        control: slot.control.get(..slot.control_length).unwrap_or_default(),
    }))
}

/// Sends the first [`BURST`] of `datagrams` until one fails; tells how many were sent. Fails if
/// that is none.
pub(super) fn send(
    fd: BorrowedFd<'_>,
    control: &[u8],
    datagrams: &[(SockAddr, &[u8])],
) -> io::Result<usize> {
    // SAFETY: integers and pointers, for which all zeroes is a value: no iovec, no buffers.
    let (mut headers, mut vectors): ([libc::mmsghdr; BURST], [libc::iovec; BURST]) =
        unsafe { std::mem::zeroed() };
    let count = datagrams.len().min(BURST);
    for (((to, bytes), header), vector) in datagrams.iter().zip(&mut headers).zip(&mut vectors) {
        vector.iov_base = bytes.as_ptr().cast_mut().cast();
        vector.iov_len = bytes.len();
        let header = &mut header.msg_hdr;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len() as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` headers point to buffers that live during the call, with their
    // true lengths; sending only reads them.
    let sent = unsafe {
        let count = count as libc::c_uint;
        libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, flags as _)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Ties a packet socket to one interface and to frames of one `protocol` (zero: to none).
pub(in crate::io) fn bind_packet(
    socket: &impl AsFd,
    ifindex: u32,
    protocol: u16,
) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: ifindex.try_into().map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is valid for the call, and the length is that of what it points to.
    let bound = unsafe {
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length)
    };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const ALIGN: usize = size_of::<usize>();
/// `struct cmsghdr`: a length, a level, a type.
const CONTROL_HEADER: usize = ALIGN + 8;

/// The control message that says where a datagram comes from: out of interface `ifindex`, and
/// from `source` whatever else is there.
pub(super) fn packet_info(source: IpAddr, ifindex: u32) -> Vec<u8> {
    let (level, kind, data) = match source {
        IpAddr::V4(ip) => (
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            [&ifindex.to_ne_bytes()[..], &ip.octets(), &[0; 4]],
        ),
        IpAddr::V6(ip) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            [&ip.octets()[..], &ifindex.to_ne_bytes(), &[]],
        ),
    };
    let data = data.concat();
    let mut message = (CONTROL_HEADER + data.len()).to_ne_bytes().to_vec();
    message.extend(level.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(ALIGN), 0);
    message
}

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::io) struct Control {
    /// The receiving interface.
    pub(in crate::io) ifindex: Option<u32>,
    /// Where an IPv6 datagram was sent to.
    pub(in crate::io) destination: Option<Ipv6Addr>,
    /// Hops an IPv6 datagram had left.
    pub(in crate::io) hops: Option<u8>,
    /// How many datagrams the socket had no room for, in its life.
    pub(in crate::io) dropped: Option<u32>,
}

impl Control {
    /// Reads `bytes` until a message cannot be.
    pub(in crate::io) fn read(mut bytes: &[u8]) -> Self {
        let mut all = Self::default();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let length = usize::from_ne_bytes(*length);
            let Some(body) = rest.get(..length.saturating_sub(ALIGN)) else { break };
            if let Some((level, body)) = body.split_first_chunk()
                && let Some((kind, data)) = body.split_first_chunk()
            {
                all.note(i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data);
            }
            let next = length.next_multiple_of(ALIGN).max(CONTROL_HEADER);
            bytes = bytes.get(next..).unwrap_or_default();
        }
        all
    }

    fn note(&mut self, level: i32, kind: i32, data: &[u8]) {
        let word = |at| data.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => self.ifindex = word(0),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                self.destination = data.first_chunk::<16>().map(|b| Ipv6Addr::from(*b));
                self.ifindex = word(16);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.hops = word(0).and_then(|hops| hops.try_into().ok());
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.dropped = word(0),
            _ => {}
        }
    }
}

/// The kernel tries to find out how long datagrams may be, and cuts those that are longer.
///
/// Its default, but hosts can have another one, with which a path that carries less than the
/// interface carries none of them.
pub(in crate::io) fn discover_mtu(socket: &impl AsFd, family: Family) -> io::Result<()> {
    let (level, name, value) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_WANT),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT),
    };
    // SAFETY: the pointer is valid for the call, and the length is that of what it points to.
    let set = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        let value: *const libc::c_int = &raw const value;
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.cast(), length)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address in a `struct sockaddr_in` or `sockaddr_in6`.
pub(in crate::io) fn source(name: &[u8]) -> Option<IpAddr> {
    if is_family(name, libc::AF_INET) {
        let address = name.get(4..)?.first_chunk::<4>()?;
        return Some(Ipv4Addr::from(*address).into());
    }
    source_v6(name).map(Into::into)
}

/// The address in a `struct sockaddr_in6`.
pub(super) fn source_v6(name: &[u8]) -> Option<Ipv6Addr> {
    let address = name.get(8..)?.first_chunk::<16>()?;
    is_family(name, libc::AF_INET6).then(|| Ipv6Addr::from(*address))
}

/// The interface in a `struct sockaddr_ll`.
pub(super) fn packet_ifindex(name: &[u8]) -> Option<u32> {
    let index = name.get(4..)?.first_chunk()?;
    is_family(name, libc::AF_PACKET).then(|| u32::from_ne_bytes(*index))
}

fn is_family(name: &[u8], family: libc::c_int) -> bool {
    name.first_chunk().is_some_and(|b| libc::c_int::from(u16::from_ne_bytes(*b)) == family)
}

/// Where to send an advert: out of the interface also if the address does not say.
pub(super) fn destination(ip: IpAddr, ifindex: u32) -> SockAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, 0).into(),
        IpAddr::V6(ip) => {
            let local = ip.is_unicast_link_local() || ip.is_multicast();
            let scope = if local { ifindex } else { 0 };
            SocketAddr::V6(std::net::SocketAddrV6::new(ip, 0, 0, scope)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_is_what_is_read() {
        let v6 = packet_info(Ipv6Addr::LOCALHOST.into(), 7);
        let control = Control::read(&v6);
        assert_eq!(control.destination, Some(Ipv6Addr::LOCALHOST));
        assert_eq!(control.ifindex, Some(7));
        let v4 = packet_info(Ipv4Addr::LOCALHOST.into(), 8);
        assert_eq!(Control::read(&v4).ifindex, Some(8));
        assert_eq!(Control::read(&[v6, v4].concat()).ifindex, Some(8));
    }

    proptest! {
        #[test]
        fn any_control_message_is_survived(
            lengths in prop::collection::vec(0usize..40, 0..4),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            Control::read(&bytes);
            let mut all = Vec::new();
            for length in lengths {
                all.extend(length.to_ne_bytes());
                all.extend(bytes.iter().take(24));
            }
            Control::read(&all);
            source_v6(&bytes);
            source(&bytes);
            packet_ifindex(&bytes);
        }
    }
}
