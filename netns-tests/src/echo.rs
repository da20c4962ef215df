//! The part of a host that answers UDP probes, from the very address that was asked.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::run_in;
use crate::worker::{Stop, Worker};
use crate::{Error, Result};

/// Answers each datagram with its first 16 bytes and the host's name.
#[derive(Debug)]
pub(crate) struct Echo {
    _worker: Worker,
}

impl Echo {
    pub(crate) fn start(namespace: &str, name: &str, port: u16) -> Result<Self> {
        let (v4, v6) = run_in(namespace, || Ok((socket_v4(port)?, socket_v6(port)?)))?;
        let name = name.to_owned();
        let worker = Worker::start("echo", move |stop| serve(&stop, &v4, &v6, &name))?;
        Ok(Self { _worker: worker })
    }
}

fn serve(stop: &Stop, v4: &UdpSocket, v6: &UdpSocket, name: &str) {
    while let Some(ready) = stop.wait([v4.as_fd(), v6.as_fd()], None) {
        for (socket, ready) in [v4, v6].into_iter().zip(ready) {
            while ready && answer(socket, name).is_ok() {}
        }
    }
}

/// Answers one datagram; an error when there is none.
fn answer(socket: &UdpSocket, name: &str) -> nix::Result<()> {
    let mut buffer = [0_u8; 64];
    let mut control = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let (fd, nothing) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let mut io = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrStorage>(fd, &mut io, Some(&mut control), nothing)?;
    let (from, length) = (message.address, message.bytes.min(16));
    let mut asked4 = None;
    let mut asked6 = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
            // `ipi_addr` is what was asked; interface 0 leaves the route to the kernel.
            let ipi_spec_dst = info.ipi_addr;
            asked4 =
                Some(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: info.ipi_addr });
        } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            asked6 = Some(info);
        }
    }
    let reply = [IoSlice::new(&buffer[..length]), IoSlice::new(name.as_bytes())];
    let source = match (&asked4, &asked6) {
        (Some(info), _) => [ControlMessage::Ipv4PacketInfo(info)],
        (None, Some(info)) => [ControlMessage::Ipv6PacketInfo(info)],
        (None, None) => return Ok(()),
    };
    // A reply that cannot be sent is a lost one; the prober counts it.
    let _ = sendmsg(fd, &reply, &source, nothing, from.as_ref());
    Ok(())
}

fn socket_v4(port: u16) -> Result<UdpSocket> {
    let socket = bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(Error::errno("IP_PKTINFO"))?;
    Ok(socket)
}

fn socket_v6(port: u16) -> Result<UdpSocket> {
    let socket = bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
        .map_err(Error::errno("IPV6_RECVPKTINFO"))?;
    Ok(socket)
}

fn bound(domain: Domain, address: SocketAddr) -> Result<UdpSocket> {
    let make = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    make().map_err(Error::io(format!("listen on {address}")))
}
