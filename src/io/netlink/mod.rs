//! The kernel's links and addresses: what there is, and changes to it.
//!
//! * [`Monitor`] tells every change, and everything again after it may have missed one;
//!   [`watch`] does so from a thread of its own.
//! * [`Requests`] adds and deletes addresses.
//! * [`Routing`] does so with routes and rules, and lists ours; [`Changes`] tells when to.
//!
//! A dump of all links waits for the kernel's network lock, and so does every request: neither is
//! for the core thread.

mod monitor;
mod parse;
mod requests;
mod routing;

pub use monitor::{Monitor, Trouble, watch};
pub use requests::{BATCH, Change, Requests};
pub use routing::{Changes, Reason, Routing};

use std::io;

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

/// `IFA_PROTO` of the addresses, `rtm_protocol` of the routes and `FRA_PROTOCOL` of the rules that
/// we add: a V. `/etc/iproute2/rt_protos` knows nobody else of that number.
pub const PROTO: u8 = 86;

/// The largest datagram the kernel sends, dumps included, is 32 KiB.
const DATAGRAM: usize = 64 * 1024;

/// A socket that talks to the kernel only, with room for `receive_buffer` bytes if it may.
fn connect(groups: u32, receive_buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &receive_buffer)?;
    }
    socket.bind(&SocketAddr::new(0, groups))?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Receives one datagram of the kernel into `buffer`, replacing what is in it.
///
/// Other processes can send to a netlink socket too; theirs comes out empty. `ENOBUFS` tells
/// that something was lost.
fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    let (length, sender) = socket.recv_from(buffer, libc::MSG_TRUNC)?;
    if sender.port_number() != 0 {
        buffer.clear();
    } else if length > buffer.len() {
        return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    }
    Ok(())
}

/// Appends `message` to what will be sent.
fn append(out: &mut Vec<u8>, sequence: u32, flags: u16, message: RouteNetlinkMessage) {
    let mut header = NetlinkHeader::default();
    header.sequence_number = sequence;
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = out.len();
    out.resize(start + message.buffer_len(), 0);
    message.serialize(out.get_mut(start..).unwrap_or_default());
}
