//! A neighbour on the local network answers ARP or neighbour discovery. It is asked with a frame of
//! our own: the kernel would answer from memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

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
    way: Option<Way>,
}

/// The interface that it is behind, and who asks there.
#[derive(Clone, Debug)]
struct Way {
    name: String,
    mac: Mac,
    own: IpAddr,
}

impl Neighbour {
    pub(super) fn new(ip: IpAddr) -> Self {
        Self { ip, finding: Aside::IDLE, way: None }
    }

    pub(super) async fn look(&mut self, limit: &mut Limit) -> Result<String, String> {
        let ip = self.ip;
        let way = if let Some(way) = self.way.take() {
            way
        } else {
            let finding = self.finding.run(move || find(ip));
            let found = limit.of(finding, "the interfaces cannot be read").await??;
            let found = found.map_err(|e| reason(&e))?;
            found.ok_or_else(|| format!("{ip} is in no network of this host"))?
        };
        let late = format!("{ip} does not answer ARP/ND on {}", way.name);
        let asked = limit.of(ask(&way, ip), &late).await?;
        let mac = asked.map_err(|e| format!("{}: {}", way.name, reason(&e)))?;
        let words = format!("{ip} is at {mac} on {}", way.name);
        // What has worked is kept; after a failure everything may have changed.
        self.way = Some(way);
        Ok(words)
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

async fn ask(way: &Way, ip: IpAddr) -> io::Result<Mac> {
    let (protocol, filter, question) = match (way.own, ip) {
        (IpAddr::V4(own), IpAddr::V4(ip)) => {
            let frame = announce::arp_probe(way.mac, own, ip, None).to_vec();
            (ETH_P_ARP, announce::arp_filter(own, &[]), frame)
        }
        (IpAddr::V6(own), IpAddr::V6(ip)) => {
            let frame = announce::neighbour_solicitation(way.mac, own, ip, None).to_vec();
            (ETH_P_IPV6, announce::nd_filter(own), frame)
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let kind = Type::RAW.nonblocking().cloexec();
    let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
    let program: Vec<_> =
        filter.iter().map(|&(code, t, f, operand)| SockFilter::new(code, t, f, operand)).collect();
    socket.attach_filter(&program)?;
    bind_packet(&socket, if_nametoindex(way.name.as_str())?, protocol)?;
    socket.send(&question)?;
    // Tokio's name for whatever has datagrams.
    let socket = UdpSocket::from_std(socket.into())?;
    loop {
        let mut frame = [0; 256];
        let length = socket.recv(&mut frame).await?;
        let frame = frame.get(..length).unwrap_or_default();
        let heard = match ip {
            IpAddr::V4(_) => announce::parse_arp(frame),
            IpAddr::V6(_) => announce::parse_nd(frame),
        };
        if let Some(heard) = heard.filter(|n| n.ip == ip && n.mac != way.mac) {
            return Ok(heard.mac);
        }
    }
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
