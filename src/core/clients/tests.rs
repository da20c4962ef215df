use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::types::{Incarnation, VoterIx};
use crate::wire::peer::connections::{MAX_SHEET, Sheet};

const MS: Duration = Duration::from_millis(1);
const FROM: (VoterIx, Incarnation) = (VoterIx(1), Incarnation(7));

fn vip(n: u8) -> IpAddr {
    IpAddr::from([192, 168, 34, n])
}

fn client(local: IpAddr, n: u32) -> Connection {
    let [_, a, b, c] = n.to_be_bytes();
    let remote = IpAddr::from([10, a, b, c]);
    Connection::new(SocketAddr::new(local, 5000), SocketAddr::new(remote, 40_000)).unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// Everything that `roll` has to say at one moment, as it was heard.
fn tell(roll: &mut Roll, now: Instant, heard: &mut Heard, lost: impl Fn(usize) -> bool) -> usize {
    let mut told = 0;
    while let Some(sheet) = roll.next(now, true) {
        let bytes = sheet.encode();
        assert!(bytes.len() <= MAX_SHEET);
        if !lost(told) {
            heard.hear(now, FROM, &Sheet::decode(&bytes).unwrap());
        }
        roll.told(now, &sheet.cells);
        told += 1;
        assert!(told < 5000, "it has said everything");
    }
    told
}

#[test]
fn a_list_is_told_in_full_then_by_its_changes_and_then_hardly_at_all() {
    let held = BTreeSet::from([vip(85)]);
    let (mut roll, mut heard) = (Roll::default(), Heard::default());
    let all: Vec<_> = (0..20_000).map(|n| client(vip(85), n)).collect();
    roll.look(at(1000), &held, all.clone());
    let full = tell(&mut roll, at(1000), &mut heard, |_| false);
    assert!((100..150).contains(&full), "{full} datagrams for 20000 connections");
    assert_eq!(heard.to(&held).len(), 20_000);

    // The repetition, and the refresh that is due by then.
    let again = tell(&mut roll, at(1600), &mut heard, |_| false);
    assert!(again <= full + 1, "{again}");
    roll.look(at(1700), &held, all[1..].to_vec());
    assert_eq!(tell(&mut roll, at(1700), &mut heard, |_| false), 1);
    assert_eq!(heard.to(&held).len(), 19_999);
    tell(&mut roll, at(2700), &mut heard, |_| false);
    for second in 4..20 {
        roll.look(at(second * 1000), &held, all[1..].to_vec());
        assert!(tell(&mut roll, at(second * 1000), &mut heard, |_| false) <= 1, "nothing changes");
    }
}

#[test]
fn more_than_there_is_room_for_is_left_out_and_counted() {
    let held = BTreeSet::from([vip(85)]);
    let (mut roll, mut heard) = (Roll::default(), Heard::default());
    roll.look(at(1000), &held, (0..25_000).map(|n| client(vip(85), n)).collect());
    tell(&mut roll, at(1000), &mut heard, |_| false);
    let expected = Count { known: MOST, older: MOST, left_out: 5000 };
    assert_eq!(roll.count(&held, at(1000)), expected);
    assert_eq!(heard.count(VoterIx(1), &held, at(1000)), expected);
}

#[test]
fn connections_outlive_the_tenure_of_their_address_for_a_while() {
    let [one, two] = [vip(85), vip(86)].map(|ip| BTreeSet::from([ip]));
    let both = BTreeSet::from([vip(85), vip(86)]);
    let mut roll = Roll::default();
    roll.look(at(0), &both, vec![client(vip(85), 1), client(vip(86), 1)]);
    roll.leave(at(100), &one, vec![client(vip(85), 1), client(vip(85), 2)]);
    roll.look(at(600), &two, vec![client(vip(86), 1)]);
    assert_eq!(roll.to(&one).len(), 2, "the last list is kept");
    assert!(roll.lingers());
    roll.look(at(40_000), &two, vec![client(vip(86), 1)]);
    assert_eq!((roll.to(&one).len(), roll.to(&two).len()), (0, 1));
    assert!(!roll.lingers());
    // What is held again is as it is seen.
    roll.leave(at(50_000), &two, Vec::new());
    assert_eq!(roll.to(&two).len(), 1, "nobody looked");
    roll.look(at(50_100), &two, Vec::new());
    assert_eq!(roll.to(&two).len(), 0);
}

#[test]
fn what_is_older_does_not_undo_what_is_newer() {
    let held = BTreeSet::from([vip(85)]);
    let mut heard = Heard::default();
    let one = client(vip(85), 1);
    let sheet = |version, connections| Sheet { version, total: 1, cells: 0..=1023, connections };
    assert_eq!(heard.hear(at(1), FROM, &sheet(5, vec![one])), [one]);
    assert_eq!(heard.hear(at(2), FROM, &sheet(4, vec![])), []);
    assert_eq!(heard.to(&held), [one]);
    // The next run counts anew, from what its host's clock shows.
    assert_eq!(heard.hear(at(3), (FROM.0, Incarnation(8)), &sheet(1, vec![one])), []);
    assert_eq!(heard.count(FROM.0, &held, at(2)).older, 1, "the same as before");
    heard.hear(at(4), (FROM.0, Incarnation(8)), &sheet(2, vec![]));
    assert_eq!(heard.to(&held), []);
    heard.forget(at(601_000 + 4));
    assert_eq!(heard.count(FROM.0, &held, at(4)), Count::default());
}

#[test]
fn everybody_is_told_once_before_anybody_is_told_twice() {
    let mut tickler = Tickler::default();
    let some: Vec<_> = (0..3).map(|n| client(vip(85), n)).collect();
    assert_eq!(tickler.begin(at(0), some.clone()), 3);
    let mut told = Vec::new();
    let mut now = at(0);
    while let Some(due) = tickler.due() {
        now = now.max(due);
        let (connection, round) = tickler.next(now).unwrap();
        told.push((round, connection));
        // Slower than the pauses.
        now += 900 * MS;
    }
    let rounds: Vec<_> = told.iter().map(|(round, _)| *round).collect();
    assert_eq!(rounds, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    tickler.begin(at(0), some);
    tickler.keep(|ip| ip != vip(85));
    assert_eq!(tickler.due(), None);
}

proptest! {
    #[test]
    fn lists_agree_in_the_end_whatever_is_lost(
        steps in prop::collection::vec((prop::collection::btree_set(0..60_u32, 0..40), any::<u64>()), 1..8),
    ) {
        let held = BTreeSet::from([vip(85)]);
        let (mut roll, mut heard) = (Roll::default(), Heard::default());
        let (mut now, mut last) = (at(1000), Vec::new());
        for (clients, lost) in steps {
            last = clients.into_iter().map(|n| client(vip(85), n)).collect();
            roll.look(now, &held, last.clone());
            tell(&mut roll, now, &mut heard, |n| lost >> (n % 64) & 1 == 1);
            now += 500 * MS;
        }
        // Long enough for a whole round of refreshes.
        for _ in 0..20 {
            tell(&mut roll, now, &mut heard, |_| false);
            now += Duration::from_secs(1);
        }
        let (a, b): (BTreeSet<_>, BTreeSet<_>) =
            (heard.to(&held).into_iter().collect(), last.into_iter().collect());
        prop_assert_eq!(a, b);
    }
}
