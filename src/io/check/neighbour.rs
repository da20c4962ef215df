//! A neighbour on the local network answers ARP or neighbour discovery. It is asked with a frame of
//! our own: the kernel would answer from memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

use super::super::http::reason;
use super::super::port::bind_packet;
use super::{Aside, Limit};
use crate::types::Mac;
use crate::wire::announce;

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

pub(super) struct Neighbour {
    ip: IpAddr,
    finding: Aside<io::Result<Option<Way>>>,
    /// How it was reached the last time.
    line: Option<Line>,
}

/// The interface that it is behind, and who asks there.
#[derive(Clone, Debug)]
struct Way {
    name: String,
    mac: Mac,
    own: IpAddr,
}

/// A way, and a socket on its interface. Kept while it works: the kernel takes milliseconds to
/// close such a socket, in which the thread does nothing else.
struct Line {
    way: Way,
    /// There until this is dropped.
    socket: Option<UdpSocket>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let socket = self.socket.take().and_then(|socket| socket.into_std().ok());
        if let (Some(socket), Ok(runtime)) = (socket, Handle::try_current()) {
            runtime.spawn_blocking(move || drop(socket));
        }
    }
}

impl Neighbour {
    pub(super) fn new(ip: IpAddr) -> Self {
        Self { ip, finding: Aside::IDLE, line: None }
    }

    pub(super) async fn look(&mut self, limit: &mut Limit) -> Result<String, String> {
        let kept = self.line.take();
        let was_kept = kept.is_some();
        let mut line = match kept {
            Some(line) => line,
            None => self.find(limit).await?,
        };
        let mut asked = line.ask(self.ip, limit).await?;
        if asked.is_err() && was_kept {
            // Its interface went, and may be back.
            line = self.find(limit).await?;
            asked = line.ask(self.ip, limit).await?;
        }
        let name = &line.way.name;
        let mac = asked.map_err(|e| format!("{name}: {}", reason(&e)))?;
        let words = format!("{} is at {mac} on {name}", self.ip);
        // What has worked is kept; after a failure everything may have changed.
        self.line = Some(line);
        Ok(words)
    }

    async fn find(&mut self, limit: &mut Limit) -> Result<Line, String> {
        let ip = self.ip;
        let finding = self.finding.run(move || find(ip));
        let found = limit.of(finding, "the interfaces cannot be read").await??;
        let found = found.map_err(|e| reason(&e))?;
        let way = found.ok_or_else(|| format!("{ip} is in no network of this host"))?;
        let socket = open(&way, ip).map_err(|e| format!("{}: {}", way.name, reason(&e)))?;
        Ok(Line { way, socket: Some(socket) })
    }
}

impl Line {
    async fn ask(&self, ip: IpAddr, limit: &mut Limit) -> Result<io::Result<Mac>, String> {
        let late = format!("{ip} does not answer ARP/ND on {}", self.way.name);
        limit.of(self.answer(ip), &late).await
    }

    async fn answer(&self, ip: IpAddr) -> io::Result<Mac> {
        let Self { way: Way { mac, own, .. }, socket: Some(socket) } = self else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let question = match (*own, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => announce::arp_probe(*mac, own, ip, None).to_vec(),
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                announce::neighbour_solicitation(*mac, own, ip, None).to_vec()
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut frame = [0; 256];
        // What came before the question is no answer to it. Bounded: more than the kernel keeps.
        for _ in 0..1024 {
            match socket.try_recv(&mut frame) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                other => drop(other?),
            }
        }
        socket.send(&question).await?;
        loop {
            let length = socket.recv(&mut frame).await?;
            let frame = frame.get(..length).unwrap_or_default();
            let heard = match ip {
                IpAddr::V4(_) => announce::parse_arp(frame),
                IpAddr::V6(_) => announce::parse_nd(frame),
            };
            if let Some(heard) = heard.filter(|n| n.ip == ip && n.mac != *mac) {
                return Ok(heard.mac);
            }
        }
    }
}

/// The interface whose network `ip` is in. The first address of a network is the host's own, for
/// the kernel lists addresses that came later behind it.
fn find(ip: IpAddr) -> io::Result<Option<Way>> {
    let all: Vec<_> = getifaddrs()?.filter(|a| a.flags.contains(InterfaceFlags::IFF_UP)).collect();
    let ip_of = |address: Option<nix::sys::socket::SockaddrStorage>| {
        let address = address?;
        let four = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    let near = all.iter().find_map(|a| {
        let (own, mask) = (ip_of(a.address)?, ip_of(a.netmask)?);
        same_network(own, ip, mask).then_some((a.interface_name.as_str(), own))
    });
    let Some((name, own)) = near else { return Ok(None) };
    let on = || all.iter().filter(|a| a.interface_name == name);
    let mac = on().find_map(|a| a.address.as_ref()?.as_link_addr()?.addr());
    // A solicitation comes from an address that never is a virtual one.
    let own = match own {
        IpAddr::V4(_) => Some(own),
        IpAddr::V6(_) => on()
            .filter_map(|a| ip_of(a.address))
            .find(|a| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local())),
    };
    Ok(mac.zip(own).map(|(mac, own)| Way { name: name.to_owned(), mac: Mac(mac), own }))
}

fn same_network(a: IpAddr, b: IpAddr, mask: IpAddr) -> bool {
    match (a, b, mask) {
        (IpAddr::V4(a), IpAddr::V4(b), IpAddr::V4(mask)) => {
            let bits = |ip: Ipv4Addr| u32::from(ip) & u32::from(mask);
            a != b && bits(a) == bits(b)
        }
        (IpAddr::V6(a), IpAddr::V6(b), IpAddr::V6(mask)) => {
            let bits = |ip: Ipv6Addr| u128::from(ip) & u128::from(mask);
            a != b && bits(a) == bits(b)
        }
        _ => false,
    }
}

/// A socket that hears what `ip` says to the one who asks, and nothing else. One answer is enough: the
/// kernel keeps no more of those that others asked for between two looks, each of which costs as
/// much as one of ours.
fn open(way: &Way, ip: IpAddr) -> io::Result<UdpSocket> {
    let (protocol, answers) = match way.own {
        IpAddr::V4(own) => (ETH_P_ARP, announce::arp_filter(own, &[])),
        IpAddr::V6(own) => (ETH_P_IPV6, announce::nd_filter(own)),
    };
    let filter = [announce::about(ip), answers].concat();
    let kind = Type::RAW.nonblocking().cloexec();
    let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
    let program: Vec<_> =
        filter.iter().map(|&(code, t, f, operand)| SockFilter::new(code, t, f, operand)).collect();
    socket.attach_filter(&program)?;
    socket.set_recv_buffer_size(0)?;
    bind_packet(&socket, if_nametoindex(way.name.as_str())?, protocol)?;
    // Tokio's name for whatever has datagrams.
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_where_the_mask_says() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rows = [
            ("10.0.0.1", "10.0.0.9", "255.255.255.0", true),
            ("10.0.0.1", "10.0.1.9", "255.255.255.0", false),
            ("10.0.0.1", "10.0.0.1", "255.255.255.0", false),
            ("2001:db8::1", "2001:db8::2", "ffff:ffff:ffff:ffff::", true),
            ("2001:db8::1", "10.0.0.1", "255.255.255.0", false),
        ];
        for (own, other, mask, same) in rows {
            assert_eq!(same_network(ip(own), ip(other), ip(mask)), same, "{own} {other}");
        }
    }
}
