//! What voters hear of each other through the kernel, over two paths. Needs root.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod namespace;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use namespace::{Far, enter, ip, wait_readable};
use vipd::io::clock;
use vipd::io::peer::{Counters, PeerSocket};
use vipd::io::port::Buffers;
use vipd::types::{Incarnation, VoterIx};
use vipd::wire::peer::{Channel, Dropped, Keyring, MAX_DATAGRAM, Opened};

const PORT: u16 = 1985;
const A: [&str; 2] = ["192.0.2.1", "fd00::1"];
const B: [&str; 2] = ["192.0.2.2", "fd00::2"];

fn addresses(of: [&str; 2]) -> Vec<SocketAddr> {
    of.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), PORT)).collect()
}

fn open(own: [&str; 2]) -> PeerSocket {
    PeerSocket::open(&addresses(own), vec![addresses(A), addresses(B)]).unwrap()
}

fn add(of: [&str; 2], interface: &str) {
    ip(&format!("addr add {}/24 dev {interface}", of[0]));
    ip(&format!("addr add {}/64 dev {interface} nodad", of[1]));
}

/// Two hosts with two addresses each, after their sockets, and another address that the kernel
/// would choose first.
fn cable() -> (PeerSocket, PeerSocket, Far) {
    enter();
    let far = Far::with("v1");
    let (a, b) = (open(A), far.run(|| open(B)));
    ip("addr add 192.0.2.100/24 dev v0");
    add(A, "v0");
    far.run(|| add(B, "v1"));
    meet();
    (a, b, far)
}

/// Asks at the other host's addresses until it refuses: then both kernels know each other's
/// hardware addresses, whose first question may be lost and is repeated after a second only.
fn meet() {
    for (own, other) in A.into_iter().zip(B) {
        let asking = UdpSocket::bind(SocketAddr::new(own.parse().unwrap(), 0)).unwrap();
        asking.connect(SocketAddr::new(other.parse().unwrap(), 9)).unwrap();
        asking.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let met = (0..100).any(|_| {
            asking.send(&[]).is_err_and(refused) || asking.recv(&mut []).is_err_and(refused)
        });
        assert!(met, "{other} is not reached from {own}");
    }
}

type Heard = (usize, IpAddr, Vec<u8>);

/// What `socket` hears, until it was silent for a while.
fn hear(socket: &mut PeerSocket) -> Vec<Heard> {
    let mut all = Vec::new();
    let mut buffers = Buffers::default();
    for path in 0..2 {
        loop {
            let (_, fd) = socket.fds().nth(path).unwrap();
            if !wait_readable(&fd, 200) {
                break;
            }
            let taken = socket.receive(path, &mut buffers, 20, &mut |got| {
                all.push((got.path, got.from, got.bytes.to_vec()));
            });
            assert!((1..=20).contains(&taken.unwrap()));
        }
    }
    all
}

fn heard(path: usize, of: [&str; 2], bytes: &[u8]) -> Heard {
    (path, of[path].parse().unwrap(), bytes.to_vec())
}

#[test]
fn each_datagram_comes_over_every_path_from_the_address_of_the_path() {
    let (mut a, mut b, _far) = cable();
    let sent = a.send(&[(VoterIx(1), b"first"), (VoterIx(1), b"second"), (VoterIx(7), b"nobody")]);
    assert_eq!((sent.sent, sent.failed), (4, 0), "{:?}", sent.error);
    let expected = [(0, "first"), (0, "second"), (1, "first"), (1, "second")];
    let expected: Vec<_> =
        expected.iter().map(|(path, text)| heard(*path, A, text.as_bytes())).collect();
    assert_eq!(hear(&mut b), expected);
    // As long as they come.
    let long = [7; MAX_DATAGRAM];
    assert_eq!(b.send(&[(VoterIx(0), &long)]).sent, 2);
    assert_eq!(hear(&mut a), [heard(0, B, &long), heard(1, B, &long)]);
    assert_eq!((a.counters(), b.counters()), (Counters::default(), Counters::default()));
}

#[test]
fn an_address_may_come_late_and_go_and_come_back() {
    enter();
    let far = Far::with("v1");
    let (a, mut b) = (open(A), far.run(|| open(B)));
    far.run(|| add(B, "v1"));
    let sent = a.send(&[(VoterIx(1), b"too early")]);
    assert_eq!((sent.sent, sent.failed), (0, 2));
    assert!(sent.error.is_some());
    add(A, "v0");
    meet();
    assert_eq!(a.send(&[(VoterIx(1), b"now")]).sent, 2);
    assert_eq!(hear(&mut b), [heard(0, A, b"now"), heard(1, A, b"now")]);
    // One path is gone; the other one does what it can.
    ip("addr del 192.0.2.1/24 dev v0");
    let sent = a.send(&[(VoterIx(1), b"half")]);
    assert_eq!((sent.sent, sent.failed), (1, 1));
    assert_eq!(hear(&mut b), [heard(1, A, b"half")]);
    ip("addr add 192.0.2.1/24 dev v0");
    meet();
    assert_eq!(a.send(&[(VoterIx(1), b"again")]).sent, 2);
    assert_eq!(hear(&mut b).len(), 2);
}

#[test]
fn strangers_and_what_is_too_long_are_counted() {
    let (_a, mut b, _far) = cable();
    let to = SocketAddr::new(B[0].parse().unwrap(), PORT);
    let stranger = UdpSocket::bind("192.0.2.100:0").unwrap();
    stranger.send_to(b"let me in", to).unwrap();
    let voter = UdpSocket::bind("192.0.2.1:0").unwrap();
    voter.send_to(&[0; MAX_DATAGRAM + 1], to).unwrap();
    voter.send_to(&[0; 9000], to).unwrap();
    voter.send_to(b"", to).unwrap();
    voter.send_to(b"fine", to).unwrap();
    assert_eq!(hear(&mut b), [heard(0, A, b""), heard(0, A, b"fine")]);
    assert_eq!(b.counters(), Counters { malformed: 2, foreign: 1, overflow: 0 });
}

#[test]
fn what_the_kernel_has_no_room_for_is_counted() {
    let (a, mut b, _far) = cable();
    let mut sent = 0;
    for _ in 0..100 {
        sent += a.send(&[(VoterIx(1), &[1; MAX_DATAGRAM][..]); 64]).sent;
    }
    let all = hear(&mut b).len();
    assert!(all > 400, "{all}: the buffers hold a burst");
    // The kernel tells the loss with the next datagram that there was room for.
    a.send(&[(VoterIx(1), b"after")]);
    assert_eq!(hear(&mut b).len(), 2);
    let lost = usize::try_from(b.counters().overflow).unwrap();
    assert_eq!(all + lost, sent);
}

#[test]
fn a_port_that_is_taken_is_told_with_its_address() {
    let (_a, _b, _far) = cable();
    let error = PeerSocket::open(&addresses(A), Vec::new()).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with("192.0.2.1:1985: bind: "), "{error}");
}

/// Everything together: greeted, heard once, known over both paths.
#[test]
fn two_channels_talk_through_two_kernels() {
    let (a, b, _far) = cable();
    let keys = || Keyring::parse(b"000102030405060708090a0b0c0d0e0f").unwrap();
    let new = |ix, run| Channel::new(VoterIx(ix), "lb", keys(), Incarnation(run), 2);
    let mut ends = [(a, new(0, 1)), (b, new(1, 2))];
    let (mut opened, mut buffers) = (Vec::new(), Buffers::default());
    let mut round = |ends: &mut [(PeerSocket, Channel); 2]| {
        for (ix, (socket, channel)) in ends.iter_mut().enumerate() {
            let (mut out, now) = (Vec::new(), clock::now());
            channel.tick(now, &mut out);
            for path in 0..2 {
                let mut sink = |got: vipd::io::peer::Received<'_>| {
                    opened.push((ix, channel.open(now, got.path, got.bytes, &mut out)));
                };
                socket.receive(path, &mut buffers, 100, &mut sink).unwrap();
            }
            let batch: Vec<_> = out.iter().map(|d| (d.to, d.bytes.as_slice())).collect();
            assert_eq!(socket.send(&batch).failed, 0);
        }
        opened.clone()
    };
    let start = clock::now();
    while ends.iter().enumerate().any(|(ix, (_, channel))| {
        let peer = VoterIx(1 - u8::try_from(ix).unwrap());
        [0, 1].iter().any(|path| channel.heard(peer, *path).is_none())
    }) {
        assert!(clock::now().since(start) < Duration::from_secs(20), "{ends:?}");
        round(&mut ends);
        for ix in [0, 1] {
            let (socket, channel) = &mut ends[ix];
            let (to, mut bytes) = (VoterIx(1 - u8::try_from(ix).unwrap()), Vec::new());
            if channel.seal_any(to, b"nonsense", &mut bytes).is_some() {
                socket.send(&[(to, &bytes)]);
            }
        }
    }
    let opened = round(&mut ends);
    for ix in [0, 1] {
        let count = |what: &dyn Fn(&Result<Opened, Dropped>) -> bool| {
            opened.iter().filter(|(at, opened)| *at == ix && what(opened)).count()
        };
        assert_eq!(count(&|o| matches!(o, Ok(Opened::Up { .. }))), 1);
        assert!(count(&|o| *o == Err(Dropped::Malformed)) > 0, "authentic nonsense");
        assert!(count(&|o| *o == Err(Dropped::Duplicate)) > 0);
        assert_eq!(count(&|o| *o == Err(Dropped::BadTag)), 0);
    }
}
