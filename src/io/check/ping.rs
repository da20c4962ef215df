//! A host answers ICMP echo.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::super::http::reason;
use super::super::random;
use super::Limit;
use crate::types::Family;
use crate::wire::icmp::{Mark, is_reply, request};

pub(super) struct Ping {
    ip: IpAddr,
    /// What worked the last time, if it hears nothing else: to make one costs as much as to ask.
    kept: Option<UdpSocket>,
}

impl Ping {
    pub(super) fn new(ip: IpAddr) -> Self {
        Self { ip, kept: None }
    }

    pub(super) async fn look(&mut self, limit: &mut Limit) -> Result<String, String> {
        let ip = self.ip;
        let kept = self.kept.take();
        let echoed = limit.of(echo(ip, kept), &format!("{ip} does not answer ping")).await?;
        let socket = echoed.map_err(|e| format!("{ip}: {}", reason(&e)))?;
        // A raw one would be woken for the echoes that others asked for.
        self.kept =
            SockRef::from(&socket).r#type().is_ok_and(|t| t == Type::DGRAM).then_some(socket);
        Ok(format!("{ip} answers ping"))
    }
}

/// The socket that it went through.
async fn echo(ip: IpAddr, kept: Option<UdpSocket>) -> io::Result<UdpSocket> {
    let words = (u64::from(random::word()), u64::from(random::word()));
    let mark: Mark = (words.0 << 32 | words.1).to_ne_bytes();
    let question = request(Family::of(ip), mark);
    let socket = match kept {
        // The address that it had may be gone by now.
        Some(socket) if socket.send(&question).await.is_ok() => socket,
        _ => {
            let socket = open(ip)?;
            socket.send(&question).await?;
            socket
        }
    };
    let mut packet = [0; 256];
    loop {
        let length = socket.recv(&mut packet).await?;
        if is_reply(Family::of(ip), packet.get(..length).unwrap_or_default(), mark) {
            return Ok(socket);
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
