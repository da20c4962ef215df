//! A packet socket on one interface of a namespace.

#![allow(unsafe_code, reason = "neither nix nor socket2 builds a link-layer address safely")]

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::cmsg_space;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrLike, bind, recvmsg, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::clock::Stamp;
use crate::frame::Frame;
use crate::netns::run_in;
use crate::{Error, Result};

/// Whole frames in and out of one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

/// Whether a socket is for hearing everything or for sending only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hears {
    All,
    /// Everything but what this host sends.
    Others,
    Nothing,
}

impl PacketSocket {
    pub(crate) fn open(namespace: &str, nic: &str, hears: Hears) -> Result<Self> {
        run_in(namespace, || {
            Self::open_here(nic, hears)
                .map_err(Error::errno(format!("open a packet socket on {nic} of {namespace}")))
        })
    }

    fn open_here(nic: &str, hears: Hears) -> nix::Result<Self> {
        let index = if_nametoindex(nic)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Protocol 0 hears nothing until `bind` says what.
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
        if hears == Hears::Others {
            ignore_outgoing(&fd)?;
        }
        if hears != Hears::Nothing {
            setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20))?;
        }
        bind(fd.as_raw_fd(), &link_address(index, hears)?)?;
        Ok(Self(fd))
    }

    /// The next frame, if one is waiting.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Option<Frame> {
        let mut control = cmsg_space!(TimeSpec);
        let mut io = [IoSliceMut::new(buffer)];
        let message =
            recvmsg::<LinkAddr>(self.0.as_raw_fd(), &mut io, Some(&mut control), MsgFlags::empty())
                .ok()?;
        let at = message.cmsgs().ok()?.find_map(|control| {
            if let ControlMessageOwned::ScmTimestampns(at) = control {
                Some(at.into())
            } else {
                None
            }
        });
        let outgoing = message.address.is_some_and(|a| a.pkttype() == libc::PACKET_OUTGOING);
        let length = message.bytes;
        Some(Frame {
            at: at.unwrap_or_else(Stamp::now),
            outgoing,
            bytes: buffer.get(..length)?.to_vec(),
        })
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &[u8]) -> nix::Result<()> {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty()).map(drop)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn ignore_outgoing(fd: &OwnedFd) -> nix::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>().try_into().unwrap_or_default();
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING);
    // SAFETY: the pointer is to an initialised integer of that length, which the kernel copies.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    nix::errno::Errno::result(result).map(drop)
}

fn link_address(index: u32, hears: Hears) -> nix::Result<LinkAddr> {
    let all = SockProtocol::EthAll as i32;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into().unwrap_or_default(),
        // `EthAll` is in network order and fits 16 bits.
        sll_protocol: if hears == Hears::Nothing { 0 } else { all.try_into().unwrap_or_default() },
        sll_ifindex: index.try_into().map_err(|_| nix::errno::Errno::ERANGE)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>().try_into().ok();
    // SAFETY: the pointer is to a whole, initialised `sockaddr_ll` that outlives the call, its
    // family says so, and `from_raw` copies it.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), length) }
        .ok_or(nix::errno::Errno::EINVAL)
}
