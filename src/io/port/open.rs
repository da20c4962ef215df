//! The sockets of a port, each ready to use before anything can be in it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};

use super::Filter;
use super::raw::bind_packet;
use crate::core::event::PortSpec;
use crate::types::IfIndex;
use crate::wire::vrrp::{HOPS, PROTOCOL};

/// Where all virtual routers of a link listen (RFC 9568 §5.1.1.2, §5.1.2.2).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// DSCP CS6, network control; the traffic class of IPv6.
pub(in crate::io) const TOS: u32 = 0xc0;
/// The highest queueing priority that needs no privilege; `pfifo_fast` sends it first.
const QUEUE: u32 = 6;
const RECEIVE_BUFFER: usize = 1 << 20;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{interface}: {step}: {source}")]
pub struct OpenError {
    /// On which interface.
    pub interface: Box<str>,
    /// Which socket, and what could not be done with it.
    pub step: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

type Step<T> = Result<T, (&'static str, io::Error)>;

/// Names the step in which an error came up.
trait At<T> {
    fn at(self, step: &'static str) -> Step<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Step<T> {
        self.map_err(|e| (step, e.into()))
    }
}

/// IPv4 adverts of this interface; without `IP_HDRINCL`, so the kernel writes the header.
///
/// `SO_BINDTODEVICE` also is what `IP_MULTICAST_IF` would do.
pub(super) fn adverts_v4(spec: &PortSpec) -> Step<Socket> {
    let IfIndex(index) = spec.index;
    let socket = new(Domain::IPV4, Protocol::from(i32::from(PROTOCOL))).at("IPv4 socket")?;
    // First what keeps others' datagrams out; a few may be in already, and are told apart by
    // their interface when received.
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).at("IP_PKTINFO")?;
    socket.bind_device(Some(spec.name.as_bytes())).at("IPv4 SO_BINDTODEVICE")?;
    socket.set_multicast_all_v4(false).at("IP_MULTICAST_ALL")?;
    socket.set_multicast_loop_v4(false).at("IP_MULTICAST_LOOP")?;
    socket.set_multicast_ttl_v4(HOPS.into()).at("IP_MULTICAST_TTL")?;
    socket.set_ttl_v4(HOPS.into()).at("IP_TTL")?;
    socket.set_tos_v4(TOS).at("IP_TOS")?;
    room_and_rank(&socket).at("IPv4 SO_PRIORITY, SO_RXQ_OVFL, SO_RCVBUF")?;
    let interface = InterfaceIndexOrAddress::Index(index);
    socket.join_multicast_v4_n(&GROUP_V4, &interface).at("join 224.0.0.18")?;
    Ok(socket)
}

/// IPv6 adverts of this interface, and no others: a raw socket of IPv6 never has IPv4 in it, and
/// refuses `IPV6_V6ONLY`. The kernel leaves the checksum alone, for `IPV6_CHECKSUM` is off on any
/// raw socket but that of `ICMPv6`.
pub(super) fn adverts_v6(spec: &PortSpec) -> Step<Socket> {
    let IfIndex(index) = spec.index;
    let socket = new(Domain::IPV6, Protocol::from(i32::from(PROTOCOL))).at("IPv6 socket")?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).at("IPV6_RECVPKTINFO")?;
    socket.bind_device(Some(spec.name.as_bytes())).at("IPv6 SO_BINDTODEVICE")?;
    socket.set_recv_hoplimit_v6(true).at("IPV6_RECVHOPLIMIT")?;
    socket.set_multicast_all_v6(false).at("IPV6_MULTICAST_ALL")?;
    socket.set_multicast_if_v6(index).at("IPV6_MULTICAST_IF")?;
    socket.set_multicast_loop_v6(false).at("IPV6_MULTICAST_LOOP")?;
    socket.set_multicast_hops_v6(HOPS.into()).at("IPV6_MULTICAST_HOPS")?;
    socket.set_unicast_hops_v6(HOPS.into()).at("IPV6_UNICAST_HOPS")?;
    socket.set_tclass_v6(TOS).at("IPV6_TCLASS")?;
    room_and_rank(&socket).at("IPv6 SO_PRIORITY, SO_RXQ_OVFL, SO_RCVBUF")?;
    socket.join_multicast_v6(&GROUP_V6, index).at("join ff02::12")?;
    Ok(socket)
}

/// Receives those frames of `protocol` that `filter` lets in. Bound last: until then a packet
/// socket of protocol zero receives nothing.
pub(super) fn frames_in(spec: &PortSpec, protocol: u16, filter: &Filter) -> Step<Socket> {
    let IfIndex(index) = spec.index;
    let socket = new_packet().at("packet socket")?;
    let program: Vec<_> =
        filter.iter().map(|&(code, t, f, operand)| SockFilter::new(code, t, f, operand)).collect();
    socket.attach_filter(&program).at("SO_ATTACH_FILTER")?;
    room_and_rank(&socket).at("packet SO_PRIORITY, SO_RXQ_OVFL, SO_RCVBUF")?;
    bind_packet(&socket, index, protocol).at("bind packet socket")?;
    Ok(socket)
}

fn new(domain: Domain, protocol: Protocol) -> io::Result<Socket> {
    Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))
}

fn new_packet() -> io::Result<Socket> {
    new(Domain::PACKET, Protocol::from(0))
}

/// After `IP_TOS`, which sets a priority of its own.
pub(in crate::io) fn room_and_rank(socket: &Socket) -> io::Result<()> {
    socket.set_priority(QUEUE)?;
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    Ok(())
}
