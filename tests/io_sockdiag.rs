//! Connections to addresses that were given up are ended, and listeners go on. Needs root.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod namespace;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use namespace::{enter, ip};
use socket2::{Domain, Socket, Type};
use vipd::io::sockdiag::{Ended, connections, end_connections};
use vipd::wire::peer::connections::Connection;

const LIMIT: Duration = Duration::from_secs(2);

/// Both ends of a connection to `to`, from an address that is not given up.
fn connect(listener: &TcpListener, to: &str) -> [TcpStream; 2] {
    let to: IpAddr = to.parse().unwrap();
    let from: IpAddr = if to.is_ipv4() { "198.51.100.1" } else { "fd00::1" }.parse().unwrap();
    let to = SocketAddr::new(to, listener.local_addr().unwrap().port());
    let client = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    client.bind(&SocketAddr::new(from, 0).into()).unwrap();
    client.connect(&to.into()).unwrap();
    let client = TcpStream::from(client);
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    }
    [client, server]
}

fn is_ended(stream: &mut TcpStream) -> bool {
    let error = stream.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(error, ErrorKind::WouldBlock | ErrorKind::ConnectionAborted), "{error:?}");
    error == ErrorKind::ConnectionAborted
}

fn addresses(all: &[&str]) -> Vec<IpAddr> {
    all.iter().map(|a| a.parse().unwrap()).collect()
}

#[test]
fn connections_end_and_listeners_go_on() {
    enter();
    for address in
        ["192.0.2.85/32", "198.51.100.1/32", "192.0.2.1/32", "fd00::85/128", "fd00::1/128"]
    {
        // Even on the loopback an IPv6 address is tentative for a moment otherwise.
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("address add {address} dev lo{nodad}"));
    }
    let v4 = TcpListener::bind("192.0.2.85:0").unwrap();
    let any = TcpListener::bind("[::]:0").unwrap();
    let [_c1, mut v4_end] = connect(&v4, "192.0.2.85");
    let [_c2, mut mapped_end] = connect(&any, "192.0.2.85");
    let [_c3, mut v6_end] = connect(&any, "fd00::85");
    let [_c4, mut other4] = connect(&any, "192.0.2.1");
    let [_c5, mut other6] = connect(&any, "fd00::1");

    let vips = addresses(&["192.0.2.85", "fd00::85"]);
    let mut seen = connections(&vips, LIMIT).unwrap();
    let mut expected: Vec<_> = [&v4_end, &mapped_end, &v6_end]
        .map(|end| Connection::new(end.local_addr().unwrap(), end.peer_addr().unwrap()).unwrap())
        .into();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected, "those to the addresses asked about, both ends told");
    let mut ended = end_connections(&vips, LIMIT).unwrap();
    ended.clients.sort_unstable();
    assert_eq!(ended, Ended { count: 3, clients: expected });
    assert_eq!(connections(&vips, LIMIT).unwrap(), []);
    for (name, end) in [("v4", &mut v4_end), ("mapped", &mut mapped_end), ("v6", &mut v6_end)] {
        assert!(is_ended(end), "{name}");
    }
    assert!(!is_ended(&mut other4) && !is_ended(&mut other6), "nobody else is touched");
    assert_eq!(end_connections(&vips, LIMIT).unwrap().count, 0, "there is nothing left");

    for (listener, to) in [(&v4, "192.0.2.85"), (&any, "fd00::85")] {
        let [mut client, mut server] = connect(listener, to);
        client.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 1, "{to}");
    }
}

#[test]
fn of_many_addresses_all_are_found() {
    enter();
    let many: Vec<String> = (1..=20).map(|n| format!("192.0.2.{n}")).collect();
    for address in &many {
        ip(&format!("address add {address}/32 dev lo"));
    }
    ip("address add 198.51.100.1/32 dev lo");
    let any = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut ends: Vec<_> = many.iter().map(|to| connect(&any, to)).collect();
    let [_client, mut other] = connect(&any, "198.51.100.1");
    let all: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(end_connections(&addresses(&all), LIMIT).unwrap().count, 20);
    assert!(ends.iter_mut().all(|[_, server]| is_ended(server)));
    assert!(!is_ended(&mut other));
}
