//! Any bytes as a message between voters or a list of connections, as the same sealed by one who
//! has the key, and as a datagram; any text as a file of keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vipd::types::{Incarnation, Instant, VoterIx};
use vipd::wire::peer::connections::Sheet;
use vipd::wire::peer::{Channel, Dropped, Keyring, MAX_DATAGRAM, Opened, codec};

const KEY: &[u8] = b"000102030405060708090a0b0c0d0e0f";

fuzz_target!(|bytes: &[u8]| {
    let decoded = codec::decode(bytes);
    if let Ok(message) = &decoded {
        let mut again = Vec::new();
        let all = codec::encode(&message.head, &message.entries, bytes.len(), &mut again);
        assert_eq!((all, again.as_slice()), (Some(message.entries.len()), bytes));
    }
    if let Ok(sheet) = Sheet::decode(bytes) {
        assert_eq!(sheet.encode(), bytes);
        assert!(sheet.connections.iter().all(|c| sheet.cells.contains(&c.cell())));
    }
    if let Ok(ring) = Keyring::parse(bytes) {
        assert!((1..=Keyring::MOST).contains(&ring.ids().count()));
    }

    let (mut ours, mut theirs) = pair();
    let (now, mut out) = (Instant::BOOT, Vec::new());
    // Behind a header of ours, too: no fuzzer guesses a name of a cluster.
    let mut datagram = Vec::new();
    theirs.seal_any(VoterIx(0), b"", &mut datagram).expect("there is a session");
    let known = datagram[..18].to_vec();
    for bytes in [bytes, &[&known[..], bytes].concat()] {
        let opened = ours.open(now, 0, bytes, &mut out);
        assert!(opened.is_err(), "{opened:?}");
        assert!(out.len() <= 2, "at most a greeting each");
    }
    datagram.clear();
    if theirs.seal_any(VoterIx(0), bytes, &mut datagram).is_some() {
        assert!(datagram.len() <= MAX_DATAGRAM);
        let expected = decoded
            .map(|message| Opened::Data { from: VoterIx(1), message })
            .map_err(|_| Dropped::Malformed);
        assert_eq!(ours.open(now, 0, &datagram, &mut out), expected);
        assert_eq!(ours.open(now, 1, &datagram, &mut out), Err(Dropped::Duplicate));
    }
    datagram.clear();
    if theirs.seal_connections(VoterIx(0), bytes, &mut datagram).is_some() {
        let (from, run, sheet) = (VoterIx(1), Incarnation(2), bytes.to_vec());
        let expected = Ok(Opened::Connections { from, run, sheet });
        assert_eq!(ours.open(now, 0, &datagram, &mut out), expected);
    }
});

/// Two voters that have a session.
fn pair() -> (Channel, Channel) {
    let new = |voter, run| {
        let keys = Keyring::parse(KEY).expect("a key");
        Channel::new(VoterIx(voter), "fuzz", keys, Incarnation(run), 2)
    };
    let (mut ours, mut theirs) = (new(0, 1), new(1, 2));
    let (now, mut out) = (Instant::BOOT, Vec::new());
    ours.tick(now, &mut out);
    while let Some(datagram) = out.pop() {
        let to = if datagram.to == VoterIx(0) { &mut ours } else { &mut theirs };
        to.open(now, 0, &datagram.bytes, &mut out).expect("a handshake");
    }
    (ours, theirs)
}
