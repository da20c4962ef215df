//! Clients of a host that is gone are reminded that they have a connection: see
//! [`wire::tickle`](crate::wire::tickle).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::wire::peer::connections::Connection;
use crate::wire::tickle::tickle;

/// The most sockets that are open at once, one for each virtual address.
const SOCKETS: usize = 64;

/// Sockets that only send: the kernel has nothing for the protocol they are of.
#[derive(Debug, Default)]
pub struct Tickles(BTreeMap<IpAddr, Socket>);

impl Tickles {
    /// Sends the client of `connection` the segment of this round. Never waits: what the kernel has
    /// no room for is an error.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`; without the virtual address on this host; or as `send(2)`.
    pub fn send(&mut self, connection: &Connection, round: usize) -> io::Result<()> {
        let ip = connection.ip();
        if !self.0.contains_key(&ip) {
            if self.0.len() >= SOCKETS {
                self.0.clear();
            }
            self.0.insert(ip, open(ip)?);
        }
        let Some(socket) = self.0.get(&ip) else { return Ok(()) };
        // No port: there is one in the segment, and the kernel knows none of raw sockets.
        let to = SocketAddr::new(connection.remote().ip(), 0);
        socket.send_to(&tickle(connection, round), &to.into())?;
        Ok(())
    }

    /// Closes them until something is sent again.
    pub fn close(&mut self) {
        self.0.clear();
    }
}

/// A socket that takes whole packets. Bound, so that rules about where packets of this address go
/// hold for these, too, and that nothing is sent for an address that is not here.
fn open(ip: IpAddr) -> io::Result<Socket> {
    let raw = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::RAW, Some(raw))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    Ok(socket)
}
