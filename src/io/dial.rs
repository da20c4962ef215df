//! TCP connections to whatever is looked at, or told something.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// Connects. The last word of the handshake goes along with the first bytes that are sent: a program is
/// woken once, and with its request. It does not hear of a connection that is reset unused, so that it
/// logs nothing and starts no process for it.
pub(super) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A kernel that does not take it says more than it need.
    let _ = SockRef::from(&socket).set_tcp_quickack(false);
    socket.connect(address).await
}

/// Connects to the first address of a host that lets it; may wait for a name to be looked up.
pub(super) async fn dial_host(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in lookup_host((host, port)).await? {
        match dial(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

/// What is closed is gone at once: hundreds of connections a second would leave tens of thousands
/// of ports waiting for a minute each.
pub(super) fn unlingering(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
