//! The channel between voters on a bad network: lost, late, repeated, changed and forged datagrams,
//! restarts, twins, and keys that change.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use vipd::types::{Digest, GateId, Incarnation, Instant, VoterIx, Voters};
use vipd::wire::peer::{
    Channel, Datagram, Dropped, Entry, Head, Keyring, MAX_DATAGRAM, News, Opened, codec,
};

const OLD: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf";
const NEW: &str = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf";
const CLUSTER: &str = "lb";
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ring(keys: &[&str]) -> Keyring {
    Keyring::parse(keys.join("\n").as_bytes()).unwrap()
}

/// The key a datagram is sealed with, and its kind.
fn key_of(datagram: &[u8]) -> &[u8] {
    &datagram[4..8]
}

fn kind_of(datagram: &[u8]) -> u8 {
    datagram[3]
}

fn head(clock: u64) -> Head {
    Head {
        active: Digest(1),
        next: Digest(2),
        settled: true,
        heard: Voters(3),
        clock: Instant::from_nanos(clock),
        gate: Some(GateId(4)),
        watchdog: Some(Duration::from_secs(5)),
    }
}

fn voter(ix: usize) -> VoterIx {
    VoterIx(u8::try_from(ix).unwrap())
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Something on its way.
struct Flight {
    at: Instant,
    to: usize,
    path: usize,
    bytes: Vec<u8>,
}

/// Voters and the network between them.
struct Net {
    now: Instant,
    nodes: Vec<Channel>,
    dice: Dice,
    /// Of a thousand, how many are lost.
    loss: u64,
    /// Microseconds on the way.
    delay: Range<u64>,
    paths: usize,
    flying: Vec<Flight>,
    /// Everything that ever was on its way.
    log: Vec<(usize, Vec<u8>)>,
    /// Who heard which message of whom.
    heard: Vec<(usize, VoterIx, u64)>,
    /// What else came up where.
    events: Vec<(Instant, usize, Opened)>,
    dropped: BTreeMap<(usize, Dropped), usize>,
    said: u64,
}

impl Net {
    fn new(seed: u64, count: usize, keys: &[&str]) -> Self {
        let mut net = Self {
            now: Instant::BOOT + 5 * SECOND,
            nodes: Vec::new(),
            dice: Dice(seed | 1 << 40),
            loss: 0,
            delay: 100..101,
            paths: 1,
            flying: Vec::new(),
            log: Vec::new(),
            heard: Vec::new(),
            events: Vec::new(),
            dropped: BTreeMap::new(),
            said: 0,
        };
        for ix in 0..count {
            let run = net.run();
            net.nodes.push(Channel::new(voter(ix), CLUSTER, ring(keys), run, count));
        }
        net
    }

    fn run(&mut self) -> Incarnation {
        Incarnation(self.dice.below(u64::MAX).into())
    }

    fn restart(&mut self, ix: usize, keys: &[&str]) {
        let run = self.run();
        self.nodes[ix] = Channel::new(voter(ix), CLUSTER, ring(keys), run, self.nodes.len());
    }

    fn fly(&mut self, datagram: Datagram) {
        let Datagram { to, bytes } = datagram;
        assert!(bytes.len() <= MAX_DATAGRAM);
        self.log.push((to.index(), bytes.clone()));
        for path in 0..self.paths {
            if self.dice.below(1000) >= self.loss {
                let width = self.delay.end - self.delay.start;
                let delay = self.delay.start + self.dice.below(width);
                let at = self.now + Duration::from_micros(delay);
                self.flying.push(Flight { at, to: to.index(), path, bytes: bytes.clone() });
            }
        }
    }

    /// Node `ix` hears `bytes` now.
    fn hear(&mut self, ix: usize, path: usize, bytes: &[u8]) -> Result<Opened, Dropped> {
        let mut out = Vec::new();
        let opened = self.nodes[ix].open(self.now, path, bytes, &mut out);
        match &opened {
            Ok(Opened::Data { from, message }) => {
                self.heard.push((ix, *from, message.head.clock.nanos()));
            }
            Ok(Opened::Control) => {}
            Ok(event) => self.events.push((self.now, ix, event.clone())),
            Err(dropped) => *self.dropped.entry((ix, *dropped)).or_default() += 1,
        }
        for datagram in out {
            self.fly(datagram);
        }
        opened
    }

    /// Lets `time` go by.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.nodes.iter().filter_map(Channel::deadline).min();
            let next = self.flying.iter().map(|flight| flight.at).chain(due).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            let mut out = Vec::new();
            for node in &mut self.nodes {
                node.tick(now, &mut out);
                assert!(node.deadline().is_none_or(|due| due > now), "what is done is not due");
            }
            for datagram in out {
                self.fly(datagram);
            }
            while let Some(at) = self.flying.iter().position(|flight| flight.at <= now) {
                let Flight { to, path, bytes, .. } = self.flying.remove(at);
                let _ = self.hear(to, path, &bytes);
            }
        }
        self.now = end;
    }

    /// A datagram of `from` with a new number; `None` without a session.
    fn sealed(&mut self, from: usize, to: usize) -> Option<(u64, Vec<u8>)> {
        let mut bytes = Vec::new();
        self.said += 1;
        let sealed = self.nodes[from].seal(voter(to), &head(self.said), &[], &mut bytes);
        sealed.map(|_| (self.said, bytes))
    }

    fn say(&mut self, from: usize, to: usize) -> Option<u64> {
        let (number, bytes) = self.sealed(from, to)?;
        self.fly(Datagram { to: voter(to), bytes });
        Some(number)
    }

    /// Everybody says something to everybody, every `pause`, for `time`.
    fn chat(&mut self, time: Duration, pause: Duration) {
        let end = self.now + time;
        while self.now < end {
            for (from, to) in self.pairs() {
                self.say(from, to);
            }
            self.pass(pause);
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.nodes.len();
        all.clone().flat_map(|a| all.clone().map(move |b| (a, b))).filter(|(a, b)| a != b).collect()
    }

    /// Whether everybody is heard by everybody right now.
    fn all_talk(&mut self) -> bool {
        let expected: Option<Vec<_>> =
            self.pairs().into_iter().map(|(a, b)| Some((b, voter(a), self.say(a, b)?))).collect();
        self.pass(20 * MILLISECOND);
        expected.is_some_and(|all| all.iter().all(|one| self.heard.contains(one)))
    }

    fn dropped(&self, ix: usize, why: Dropped) -> usize {
        self.dropped.get(&(ix, why)).copied().unwrap_or(0)
    }

    fn ups(&self) -> usize {
        self.events.iter().filter(|(_, _, event)| matches!(event, Opened::Up { .. })).count()
    }

    fn twins(&self) -> usize {
        self.events.iter().filter(|(_, _, event)| matches!(event, Opened::Twin { .. })).count()
    }
}

/// Two voters that have a session.
fn two() -> Net {
    let mut net = Net::new(1, 2, &[OLD]);
    net.pass(50 * MILLISECOND);
    assert_eq!(net.ups(), 2);
    assert!(net.all_talk());
    net
}

#[test]
fn a_session_takes_one_round_trip_and_data_goes_with_it() {
    for both in [false, true] {
        let mut net = Net::new(1, 2, &[OLD]);
        net.delay = 1000..1001;
        let start = net.now;
        let mut out = Vec::new();
        net.nodes[0].tick(start, &mut out);
        for datagram in out.drain(..) {
            net.fly(datagram);
        }
        if !both {
            // The other one greeted long ago.
            net.nodes[1].tick(start, &mut out);
            out.clear();
        }
        net.pass(2 * MILLISECOND);
        assert!(net.nodes[0].run(VoterIx(1)).is_some(), "{both}");
        let number = net.say(0, 1).unwrap();
        net.pass(MILLISECOND);
        assert!(net.heard.contains(&(1, VoterIx(0), number)), "{both}");
        let number = net.say(1, 0).unwrap();
        net.pass(MILLISECOND);
        assert!(net.heard.contains(&(0, VoterIx(1), number)), "{both}");
        assert_eq!((net.ups(), net.twins()), (2, 0));
    }
}

#[test]
fn a_bad_network_repeats_nothing_and_loses_no_more_than_it_loses() {
    for seed in 1..=20 {
        let mut net = Net::new(seed, 3, &[OLD]);
        (net.loss, net.delay, net.paths) = (300, 50..30_000, 2);
        net.chat(3 * SECOND, 5 * MILLISECOND);
        net.chat(SECOND, 5 * MILLISECOND);
        net.loss = 0;
        net.pass(SECOND);
        let once: BTreeSet<_> = net.heard.iter().collect();
        assert_eq!(once.len(), net.heard.len(), "seed {seed}: something was heard twice");
        // Two paths lose 9 %; each of 6 pairs says 800.
        assert!(net.heard.len() > 6 * 800 * 8 / 10, "seed {seed}: {}", net.heard.len());
        assert!(net.dropped(0, Dropped::Duplicate) > 100, "seed {seed}");
        assert_eq!((net.ups(), net.twins()), (6, 0), "seed {seed}: {:?}", net.events);
        for why in [Dropped::BadTag, Dropped::Malformed, Dropped::Twin, Dropped::UnknownKey] {
            assert_eq!(net.dropped(0, why), 0, "seed {seed}: {why:?}");
        }
    }
}

#[test]
fn a_voter_that_starts_anew_talks_within_milliseconds() {
    for ix in [0, 1] {
        let mut net = two();
        net.chat(SECOND, 10 * MILLISECOND);
        let before = net.nodes[1 - ix].run(voter(ix));
        net.restart(ix, &[OLD]);
        net.pass(MILLISECOND);
        assert!(net.all_talk(), "{ix}");
        let after = net.nodes[1 - ix].run(voter(ix));
        assert!(after.is_some() && after != before);
        assert_eq!((net.ups(), net.twins()), (4, 0));
    }
}

/// The first greeting is lost, and the next one is far: what the peer says finds the new run.
#[test]
fn a_voter_that_started_anew_is_found_by_what_is_said_to_it() {
    let mut net = two();
    net.restart(1, &[OLD]);
    let mut lost = Vec::new();
    for _ in 0..20 {
        net.now += SECOND;
        net.nodes[1].tick(net.now, &mut lost);
    }
    assert!(lost.len() >= 20);
    net.say(0, 1).unwrap();
    net.pass(MILLISECOND);
    assert_eq!(net.dropped(1, Dropped::NoSession), 1);
    assert!(net.nodes[1].run(VoterIx(0)).is_some() && net.all_talk());
}

/// Each datagram of a handshake is lost once.
#[test]
fn a_handshake_survives_the_loss_of_any_datagram() {
    for lost in 0..8 {
        let mut net = two();
        net.restart(1, &[OLD]);
        let before = net.log.len();
        let mut gone = false;
        for _ in 0..400 {
            net.pass(Duration::from_micros(100));
            if !gone && net.log.len() > before + lost {
                gone = true;
                let bytes = net.log[before + lost].1.clone();
                net.flying.retain(|flight| flight.bytes != bytes);
            }
        }
        assert!(net.all_talk() || net.all_talk(), "without {lost}");
        net.chat(SECOND, 20 * MILLISECOND);
        assert!(net.all_talk(), "without {lost}");
        assert_eq!((net.ups(), net.twins()), (4, 0), "without {lost}");
    }
}

#[test]
fn a_peer_that_does_not_answer_is_greeted_more_and_more_rarely() {
    let mut net = Net::new(1, 2, &[OLD]);
    net.loss = 1000;
    net.pass(SECOND);
    let first = net.log.len();
    assert!((12..=18).contains(&first), "{first}");
    net.pass(10 * SECOND);
    assert!((20..=24).contains(&(net.log.len() - first)), "{}", net.log.len() - first);
}

#[test]
fn a_peer_that_says_nothing_is_greeted_and_one_that_talks_is_not() {
    let mut net = two();
    net.pass(50 * MILLISECOND);
    net.log.clear();
    net.chat(5 * SECOND, 100 * MILLISECOND);
    assert!(net.log.iter().all(|(_, bytes)| kind_of(bytes) == 4));
    net.pass(1100 * MILLISECOND);
    assert!(net.log.iter().any(|(_, bytes)| kind_of(bytes) == 1));
    // Such a handshake is nobody's news.
    assert_eq!(net.ups(), 2);
    assert!(net.all_talk());
}

#[test]
fn what_was_said_before_a_restart_does_nothing_after_it() {
    for ix in [0, 1] {
        let mut net = two();
        net.chat(SECOND, 10 * MILLISECOND);
        net.restart(ix, &[OLD]);
        net.pass(20 * MILLISECOND);
        net.restart(ix, &[OLD]);
        net.pass(20 * MILLISECOND);
        assert!(net.all_talk());
        let runs = [net.nodes[0].run(VoterIx(1)), net.nodes[1].run(VoterIx(0))];
        let (heard, events) = (net.heard.len(), net.events.len());
        let old = std::mem::take(&mut net.log);
        for (to, bytes) in old.iter().chain(old.iter().rev()) {
            let opened = net.hear(*to, 0, bytes);
            assert!(!matches!(opened, Ok(Opened::Data { .. } | Opened::Up { .. })), "{opened:?}");
        }
        assert_eq!((net.heard.len(), net.events.len()), (heard, events));
        assert_eq!(runs, [net.nodes[0].run(VoterIx(1)), net.nodes[1].run(VoterIx(0))]);
        // What it provoked has limits, and the session lives.
        assert!(net.log.len() < 60, "{}", net.log.len());
        assert!(net.all_talk());
        net.pass(5 * SECOND);
        assert!(net.all_talk());
        assert_eq!((net.events.len(), net.twins()), (events, 0));
    }
}

/// An answer is worth nothing after its challenge was used, and not for long if it never was.
#[test]
fn an_answer_that_was_held_back_is_void() {
    let mut net = Net::new(1, 2, &[OLD]);
    let (mut greetings, mut answers) = (Vec::new(), Vec::new());
    net.nodes[0].tick(net.now, &mut greetings);
    let hello = greetings.remove(0).bytes;
    net.nodes[1].open(net.now, 0, &hello, &mut answers).unwrap();
    let answer = answers.remove(0).bytes;
    net.now += 5 * SECOND + MILLISECOND;
    assert_eq!(net.hear(0, 0, &answer), Err(Dropped::Replay));
    assert!(net.flying.is_empty());
}

/// Greetings and data that anybody may have recorded, again and again.
#[test]
fn a_flood_of_copies_has_few_answers() {
    let mut net = two();
    net.chat(100 * MILLISECOND, 10 * MILLISECOND);
    let old = std::mem::take(&mut net.log);
    net.restart(1, &[OLD]);
    net.pass(20 * MILLISECOND);
    net.log.clear();
    for _ in 0..100 {
        for (to, bytes) in &old {
            let _ = net.hear(*to, 0, bytes);
        }
        net.pass(10 * MILLISECOND);
    }
    // A second: greetings that are provoked, at most 3 + 10 each way, and what answers them.
    let answers = net.log.iter().filter(|(_, bytes)| kind_of(bytes) != 4).count();
    assert!(answers < 120, "{answers}");
    assert!(net.all_talk());
}

#[test]
fn many_who_greet_are_not_all_answered() {
    let mut net = two();
    net.log.clear();
    for _ in 0..200 {
        let run = net.run();
        let mut other = Channel::new(VoterIx(1), CLUSTER, ring(&[OLD]), run, 2);
        let mut out = Vec::new();
        other.tick(net.now, &mut out);
        let _ = net.hear(0, 0, &out[0].bytes);
    }
    assert_eq!(net.log.len(), 16);
    assert_eq!(net.dropped(0, Dropped::Limited), 200 - 16);
    assert_eq!(net.ups(), 2);
    assert!(net.all_talk());
}

#[test]
fn two_with_one_name_are_told_and_neither_is_heard() {
    let mut net = two();
    // The second one starts and proves to live, as after a restart; but the first one goes on.
    let first = net.nodes.remove(1);
    let run = net.run();
    net.nodes.push(Channel::new(VoterIx(1), CLUSTER, ring(&[OLD]), run, 2));
    net.pass(20 * MILLISECOND);
    assert!(net.all_talk());
    assert_eq!(net.twins(), 0);
    let mut first = Some(first);
    let mut take_turns = |net: &mut Net| {
        let other = first.replace(net.nodes.remove(1)).unwrap();
        net.nodes.push(other);
        net.flying.clear();
    };
    take_turns(&mut net);
    net.chat(100 * MILLISECOND, 10 * MILLISECOND);
    assert_eq!(net.twins(), 1, "{:?}", net.events);
    let heard = net.heard.iter().filter(|(ix, ..)| *ix == 0).count();
    for _ in 0..20 {
        take_turns(&mut net);
        net.chat(900 * MILLISECOND, 50 * MILLISECOND);
        assert!(net.nodes[0].run(VoterIx(1)).is_none());
        assert!(net.sealed(0, 1).is_none());
    }
    assert_eq!(net.heard.iter().filter(|(ix, ..)| *ix == 0).count(), heard);
    assert!(net.dropped(0, Dropped::Twin) > 100);
    assert!(net.twins() > 15, "{}", net.twins());
    // One of them goes for good.
    let (ups, twins) = (net.ups(), net.twins());
    net.chat(9 * SECOND, 100 * MILLISECOND);
    assert_eq!(net.heard.iter().filter(|(ix, ..)| *ix == 0).count(), heard);
    net.chat(2 * SECOND, 100 * MILLISECOND);
    assert!(net.all_talk());
    assert!(net.ups() > ups && net.twins() == twins);
    // And comes back.
    take_turns(&mut net);
    net.chat(100 * MILLISECOND, 10 * MILLISECOND);
    assert_eq!(net.twins(), twins + 1);
}

/// Three voters, a new key brought to them and the old one taken away, each in any order.
#[test]
fn a_key_changes_without_anybody_missing_a_word() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (seed, (adding, removing)) in
        (1..).zip(orders.iter().flat_map(|a| orders.iter().map(move |r| (a, r))))
    {
        // New on top, or by mistake below.
        for both in [[NEW, OLD], [OLD, NEW]] {
            let mut net = Net::new(seed, 3, &[OLD]);
            net.pass(50 * MILLISECOND);
            let steps = adding.iter().map(|ix| (*ix, &both[..]));
            for (ix, keys) in steps.chain(removing.iter().map(|ix| (*ix, &[NEW][..]))) {
                net.nodes[ix].set_keys(ring(keys));
                // While the news is on its way, too.
                for _ in 0..4 {
                    net.chat(MILLISECOND, Duration::from_micros(50));
                    net.pass(MILLISECOND);
                }
                assert!(net.all_talk(), "{adding:?} {removing:?} at {ix}");
            }
            let new = ring(&[NEW]).ids().next().unwrap().0.to_be_bytes();
            for (a, b) in net.pairs() {
                assert_eq!(key_of(&net.sealed(a, b).unwrap().1), new);
            }
            assert_eq!((net.ups(), net.twins()), (6, 0));
            // All but what was sealed to be looked at.
            if both == [NEW, OLD] {
                assert_eq!(net.heard.len(), usize::try_from(net.said).unwrap() - 6);
            }
        }
    }
}

#[test]
fn without_a_key_in_common_nobody_is_heard_until_there_is_one() {
    let mut net = two();
    net.nodes[0].set_keys(ring(&[NEW]));
    assert!(net.sealed(0, 1).is_none());
    net.pass(SECOND);
    assert!(!net.all_talk());
    assert!(net.dropped(0, Dropped::UnknownKey) > 0);
    net.nodes[1].set_keys(ring(&[NEW, OLD]));
    net.pass(20 * MILLISECOND);
    assert!(net.all_talk());
}

/// A datagram of each kind, and to whom, none of which was heard.
fn one_of_each_kind() -> (Net, Vec<(usize, Vec<u8>)>) {
    let mut net = Net::new(1, 2, &[OLD]);
    let mut out = Vec::new();
    net.nodes[0].tick(net.now, &mut out);
    let hello = out.remove(0).bytes;
    let mut all = vec![(1, hello.clone())];
    net.hear(1, 0, &hello).unwrap();
    let answer = net.flying.remove(0).bytes;
    all.push((0, answer.clone()));
    let mut fresh = Net::new(1, 2, &[OLD]);
    fresh.nodes[0].tick(net.now, &mut out);
    fresh.hear(1, 0, &hello).unwrap();
    fresh.flying.clear();
    net.hear(0, 0, &answer).unwrap();
    let last = net.flying.remove(0).bytes;
    all.push((1, last.clone()));
    net.hear(1, 0, &last).unwrap();
    fresh.hear(0, 0, &answer).unwrap();
    fresh.flying.clear();
    fresh.hear(1, 0, &last).unwrap();
    fresh.flying.clear();
    all.push((0, net.flying.remove(0).bytes));
    all.push((1, net.sealed(0, 1).unwrap().1));
    let kinds: Vec<_> = all.iter().map(|(_, bytes)| kind_of(bytes)).collect();
    assert_eq!(kinds, [1, 2, 2, 3, 4]);
    (fresh, all)
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let (mut net, all) = one_of_each_kind();
    for (to, bytes) in &all {
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let opened = net.hear(*to, 0, &changed);
                let kind = kind_of(bytes);
                assert!(opened.is_err(), "kind {kind}, byte {at}: {opened:?}");
            }
            assert!(net.hear(*to, 0, &bytes[..at]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(net.hear(*to, 0, &longer).is_err());
    }
    let (data, ready) = (&all[4].1, &all[3].1);
    assert!(matches!(net.hear(1, 0, data), Ok(Opened::Data { .. })));
    assert_eq!(net.hear(0, 0, ready), Ok(Opened::Control));
    assert_eq!(net.hear(1, 1, data), Err(Dropped::Duplicate));
}

#[test]
fn what_is_not_meant_for_us_is_told_apart() {
    let (mut net, all) = one_of_each_kind();
    for (to, bytes) in &all {
        // To its sender.
        assert_eq!(net.hear(1 - to, 0, bytes), Err(Dropped::NotForUs));
        let mut forged = bytes.clone();
        forged.swap(16, 17);
        let expected = if kind_of(bytes) < 3 { Dropped::BadTag } else { Dropped::NoSession };
        assert_eq!(net.hear(1 - to, 0, &forged), Err(expected));
        let rows = [
            (0, Dropped::NotOurs),
            (2, Dropped::NotOurs),
            (8, Dropped::OtherCluster),
            (15, Dropped::OtherCluster),
            (16, Dropped::NotAVoter),
            (4, Dropped::UnknownKey),
        ];
        for (at, expected) in rows {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let opened = net.hear(*to, 0, &changed);
            assert_eq!(opened, Err(expected), "kind {}, byte {at}", kind_of(bytes));
        }
        let mut ours = bytes.clone();
        ours[16] = ours[17];
        assert_eq!(net.hear(*to, 0, &ours), Err(Dropped::NotAVoter));
    }
}

#[test]
fn clusters_of_another_name_or_key_stay_apart() {
    let mut net = Net::new(1, 2, &[OLD]);
    let run = net.run();
    net.nodes[1] = Channel::new(VoterIx(1), "another", ring(&[OLD]), run, 2);
    net.pass(SECOND);
    assert!(net.dropped(0, Dropped::OtherCluster) > 5 && net.dropped(1, Dropped::OtherCluster) > 5);
    net.restart(1, &[NEW]);
    net.pass(SECOND);
    assert!(net.dropped(0, Dropped::UnknownKey) > 5);
    assert_eq!(net.ups(), 0);
}

#[test]
fn many_groups_go_into_as_many_datagrams_as_it_takes() {
    let mut net = two();
    let entry = |group| {
        let news = News::Request { gate: GateId(u128::from(group) << 100), round: 7, epoch: 8 };
        Entry { group, news }
    };
    let entries: Vec<_> = (0..500).map(entry).collect();
    let (mut rest, mut heard, mut bytes) = (&entries[..], Vec::new(), Vec::new());
    while !rest.is_empty() {
        bytes.clear();
        let sent = net.nodes[0].seal(VoterIx(1), &head(1), rest, &mut bytes).unwrap();
        assert!(sent > 0 && bytes.len() <= MAX_DATAGRAM);
        let full = MAX_DATAGRAM - codec::LONGEST_ENTRY;
        assert!(sent == rest.len() || bytes.len() > full, "{}", bytes.len());
        let Ok(Opened::Data { from: VoterIx(0), message }) = net.hear(1, 0, &bytes) else {
            panic!("data");
        };
        heard.extend(message.entries);
        rest = &rest[sent..];
    }
    assert_eq!(heard, entries);
}

#[test]
fn authentic_nonsense_is_dropped() {
    let mut net = two();
    let mut bytes = Vec::new();
    for body in [&b""[..], b"nonsense", &[0xff; 300]] {
        bytes.clear();
        net.nodes[0].seal_any(VoterIx(1), body, &mut bytes).unwrap();
        assert_eq!(net.hear(1, 0, &bytes), Err(Dropped::Malformed));
    }
    assert_eq!(net.nodes[0].seal_any(VoterIx(1), &[0; 1200], &mut bytes), None);
    assert!(net.all_talk());
}

#[test]
fn a_path_is_heard_also_if_it_is_the_slower_one() {
    let mut net = two();
    net.pass(SECOND);
    let (_, bytes) = net.sealed(0, 1).unwrap();
    let before = net.nodes[1].heard(VoterIx(0), 0).unwrap();
    assert!(before < net.now && net.nodes[1].heard(VoterIx(0), 1).is_none());
    assert!(net.hear(1, 0, &bytes).is_ok());
    assert_eq!(net.hear(1, 1, &bytes), Err(Dropped::Duplicate));
    let mut forged = bytes;
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(net.hear(1, 2, &forged), Err(Dropped::BadTag));
    let heard = [0, 1, 2].map(|path| net.nodes[1].heard(VoterIx(0), path));
    assert_eq!(heard, [Some(net.now), Some(net.now), None]);
}

/// A virtual machine that goes on from a copy of its memory counts from there on.
#[test]
fn counters_that_go_back_are_not_heard_until_a_new_session() {
    let mut net = two();
    net.chat(20 * SECOND, 10 * MILLISECOND);
    let (_, old) = net.sealed(0, 1).unwrap();
    net.chat(15 * SECOND, 10 * MILLISECOND);
    assert_eq!(net.hear(1, 0, &old), Err(Dropped::Replay));
}

#[test]
fn a_channel_that_is_made_anew_in_the_same_run_goes_on() {
    let mut net = two();
    let run = net.nodes[0].run(VoterIx(1)).unwrap();
    net.nodes[1] = Channel::new(VoterIx(1), CLUSTER, ring(&[OLD]), run, 2);
    net.pass(5 * MILLISECOND);
    assert!(net.all_talk());
    assert_eq!((net.ups(), net.twins()), (3, 0), "only the new one has news");
}

#[test]
fn a_voter_alone_waits_for_nothing() {
    let mut alone = Channel::new(VoterIx(0), CLUSTER, ring(&[OLD]), Incarnation(1), 1);
    let mut out = Vec::new();
    alone.tick(Instant::BOOT, &mut out);
    assert_eq!((alone.deadline(), out), (None, Vec::new()));
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: BTreeSet<_> = Dropped::ALL.iter().map(|dropped| dropped.name()).collect();
    assert_eq!(names.len(), Dropped::ALL.len());
    assert!(Dropped::ALL.iter().enumerate().all(|(ix, dropped)| dropped.index() == ix));
}
