//! A host answers ICMP echo.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::super::http::reason;
use super::super::random;
use super::Limit;
use crate::types::Family;
use crate::wire::icmp::{Mark, is_reply, request};

pub(super) async fn look(ip: IpAddr, limit: &mut Limit) -> Result<String, String> {
    let echoed = limit.of(echo(ip), &format!("{ip} does not answer ping")).await?;
    echoed.map(|()| format!("{ip} answers ping")).map_err(|e| format!("{ip}: {}", reason(&e)))
}

async fn echo(ip: IpAddr) -> io::Result<()> {
    let socket = open(ip)?;
    let words = (u64::from(random::word()), u64::from(random::word()));
    let mark: Mark = (words.0 << 32 | words.1).to_ne_bytes();
    socket.send(&request(Family::of(ip), mark)).await?;
    let mut packet = [0; 256];
    loop {
        let length = socket.recv(&mut packet).await?;
        if is_reply(Family::of(ip), packet.get(..length).unwrap_or_default(), mark) {
            return Ok(());
        }
    }
}

/// A socket that hears of this address only: a datagram one where this user may have that
/// (`net.ipv4.ping_group_range`), else a raw one, which takes `CAP_NET_RAW`. Tokio's name for both is
/// that of the datagrams which most of them are.
fn open(ip: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match ip {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let new = |kind: Type| Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol));
    let socket = new(Type::DGRAM).or_else(|_| new(Type::RAW))?;
    socket.connect(&SocketAddr::new(ip, 0).into())?;
    UdpSocket::from_std(socket.into())
}
