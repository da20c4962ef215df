//! [`Message`] to bytes and back: fixed layouts, big endian.
//!
//! What can be said can be said in one way only: a field that means nothing is zero, and bytes
//! that say otherwise are refused. So what was decoded encodes to the same bytes.
//!
//! ```text
//! head    active 16, next 16, flags 1 (bit 0: settled, 1: has a gate, 2: has a watchdog),
//!         heard 4, clock 8, gate 16, watchdog 4, number of entries 2
//! entry   group 2, kind 1, then by kind
//! 1 request   ballot, epoch
//! 2 grant     ballot
//! 3 deny      ballot, why 1, then by reason
//!             1 held: voter 1, left 4     2 quiet: left 4     3 unsettled     4 config
//!             5 one way     6 reserved: voter 1     7 epoch     8 clock     9 doubt: voter 1
//! 4 release   ballot, voter or nobody 1
//! 5 report    flags 1 (bit 0: wants, 1: has a priority, 2: has a gap, 3: doubts, 4: stuck,
//!             5: frozen, 6: holds, 7: has voted), epoch, then what the flags say there is:
//!             priority 1, holds 4, vote: voter 1, left 4; gap 4, doubt: of 4, mark 16
//! 6 move      voter 1
//! 7 fenced    voter 1, mark 16
//! 8 part      name 4, value 8
//! 9 word      see `will`
//! 11 words    mark 8
//! ```
//!
//! A ballot is gate 16, round 8; nothing at all, and bit 7 of the kind is set, where it is that of
//! the ballot before: all groups are renewed in one round. An epoch has 7 bits in a byte, the lowest
//! first, and bit 7 of all but the last set. So fifty groups fit into a datagram.
//!
//! Times are microseconds in 4 bytes, at most [`MAX_TIME`]. They are rounded up: what is left of
//! a promise must not look shorter than it is.

use std::time::Duration;

use super::{Denial, Doubt, Entry, Head, Message, News, Report, will};
use crate::types::{Digest, GateId, Instant, Priority, VoterIx, Voters};

/// The longest time there is on the wire, a little over 71 minutes; a longer one becomes this.
pub const MAX_TIME: Duration = Duration::from_micros(u32::MAX as u64);

/// Bytes of a head, the number of entries with it.
pub const HEAD: usize = 67;
/// Bytes of the longest entry.
pub const LONGEST_ENTRY: usize = 3 + will::LONGEST;

/// Where there could be a voter.
const NOBODY: u8 = 0xff;

const REQUEST: u8 = 1;
const GRANT: u8 = 2;
const DENY: u8 = 3;
const RELEASE: u8 = 4;
const REPORT: u8 = 5;
const MOVE: u8 = 6;
const FENCED: u8 = 7;
const PART: u8 = 8;
const WORD: u8 = 9;
const TALE: u8 = 10;
const WORDS: u8 = 11;

/// The ballot is that of the entry before that has one.
const SAME: u8 = 0x80;

const HELD: u8 = 1;
const QUIET: u8 = 2;
const UNSETTLED: u8 = 3;
const CONFIG: u8 = 4;
const ONE_WAY: u8 = 5;
const RESERVED: u8 = 6;
const EPOCH: u8 = 7;
const CLOCK: u8 = 8;
const DOUBT: u8 = 9;

const SETTLED: u8 = 1;
const HAS_GATE: u8 = 2;
const HAS_WATCHDOG: u8 = 4;
const WANTS: u8 = 1;
const HAS_PRIORITY: u8 = 2;
const HAS_GAP: u8 = 4;
const DOUBTS: u8 = 8;
const STUCK: u8 = 16;
const FROZEN: u8 = 32;
const HOLDS: u8 = 64;
const HAS_VOTE: u8 = 128;

/// Gate and round: what a vote is about.
type Ballot = (GateId, u64);

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// It ends in the middle of a field.
    #[error("it ends too early")]
    Short,
    /// Bytes after the last entry.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// No such kind of entry.
    #[error("there is no entry of kind {0}")]
    Kind(u8),
    /// No such reason of a refusal.
    #[error("there is no refusal for reason {0}")]
    Denial(u8),
    /// No such voter in any cluster.
    #[error("there is no voter {0}")]
    Voter(u8),
    /// A flag without a meaning.
    #[error("flags {0:#04x}")]
    Flags(u8),
    /// No such topic of a decision.
    #[error("there is no decision about topic {0}")]
    Topic(u8),
    /// Too long, or not UTF-8.
    #[error("a text that is none")]
    Text,
    /// A value where there is none to be.
    #[error("a value that its flags deny")]
    Denied,
}

/// Appends to `out` the head and as many of `entries` as `room` bytes have room for, in their
/// order; tells how many that were. `None` if there is no room for a head, and nothing is
/// appended.
pub fn encode(head: &Head, entries: &[Entry], room: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = out.len() + room;
    let start = out.len();
    if room < HEAD {
        return None;
    }
    put_head(head, out);
    let (mut count, mut last) = (0_u16, None);
    for entry in entries {
        let before = out.len();
        put_entry(entry, &mut last, out);
        if out.len() > end || count == u16::MAX {
            out.truncate(before);
            break;
        }
        count += 1;
    }
    if let Some(place) = out.get_mut(start + HEAD - 2..start + HEAD) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    Some(count.into())
}

fn put_head(head: &Head, out: &mut Vec<u8>) {
    let Head { active, next, settled, heard, clock, gate, watchdog } = *head;
    let settled = if settled { SETTLED } else { 0 };
    let has_gate = if gate.is_some() { HAS_GATE } else { 0 };
    let has_watchdog = if watchdog.is_some() { HAS_WATCHDOG } else { 0 };
    out.extend(active.0.to_be_bytes());
    out.extend(next.0.to_be_bytes());
    out.push(settled | has_gate | has_watchdog);
    out.extend(heard.0.to_be_bytes());
    out.extend(clock.nanos().to_be_bytes());
    out.extend(gate.unwrap_or_default().0.to_be_bytes());
    out.extend(micros(watchdog.unwrap_or_default()));
    out.extend([0, 0]);
}

fn put_entry(entry: &Entry, last: &mut Option<Ballot>, out: &mut Vec<u8>) {
    out.extend(entry.group.to_be_bytes());
    match entry.news {
        News::Request { gate, round, epoch } => {
            put_ballot(REQUEST, (gate, round), last, out);
            put_number(epoch, out);
        }
        News::Grant { gate, round } => put_ballot(GRANT, (gate, round), last, out),
        News::Deny { gate, round, why } => {
            put_ballot(DENY, (gate, round), last, out);
            put_denial(why, out);
        }
        News::Release { gate, round, successor } => {
            put_ballot(RELEASE, (gate, round), last, out);
            out.push(voter_or_nobody(successor));
        }
        News::Report(report) => put_report(&report, out),
        News::Move { to } => out.extend([MOVE, to.0]),
        News::Fenced { node, mark } => {
            out.extend([FENCED, node.0]);
            out.extend(mark.0.to_be_bytes());
        }
        News::Part { name, value } => {
            out.push(PART);
            out.extend(name.to_be_bytes());
            out.extend(value.to_be_bytes());
        }
        News::Word(word) => {
            out.push(WORD);
            will::put(&word, out);
        }
        News::Tale { node, text } => {
            out.extend([TALE, node.0]);
            will::put_text(&text, out);
        }
        News::Words { mark } => {
            out.push(WORDS);
            out.extend(mark.to_be_bytes());
        }
    }
}

fn put_ballot(kind: u8, ballot: Ballot, last: &mut Option<Ballot>, out: &mut Vec<u8>) {
    if last.replace(ballot) == Some(ballot) {
        return out.push(kind | SAME);
    }
    out.push(kind);
    out.extend(ballot.0.0.to_be_bytes());
    out.extend(ballot.1.to_be_bytes());
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn put_denial(why: Denial, out: &mut Vec<u8>) {
    match why {
        Denial::Held { by, left } => {
            out.extend([HELD, by.0]);
            out.extend(micros(left));
        }
        Denial::Quiet { left } => {
            out.push(QUIET);
            out.extend(micros(left));
        }
        Denial::Unsettled => out.push(UNSETTLED),
        Denial::Config => out.push(CONFIG),
        Denial::OneWay => out.push(ONE_WAY),
        Denial::Reserved { to } => out.extend([RESERVED, to.0]),
        Denial::Epoch { highest } => {
            out.push(EPOCH);
            put_number(highest, out);
        }
        Denial::Clock => out.push(CLOCK),
        Denial::Doubt { of } => out.extend([DOUBT, of.0]),
    }
}

fn put_report(report: &Report, out: &mut Vec<u8>) {
    let Report { priority, wants, holds, epoch, vote, gap, doubt, stuck, frozen } = *report;
    let flags = [
        (wants, WANTS),
        (priority.is_some(), HAS_PRIORITY),
        (gap.is_some(), HAS_GAP),
        (doubt.is_some(), DOUBTS),
        (stuck, STUCK),
        (frozen, FROZEN),
        (!holds.is_zero(), HOLDS),
        (vote.is_some(), HAS_VOTE),
    ];
    out.push(REPORT);
    out.push(flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit));
    put_number(epoch, out);
    out.extend(priority.map(|p| p.0));
    if !holds.is_zero() {
        out.extend(micros(holds));
    }
    if let Some((voter, left)) = vote {
        out.push(voter.0);
        out.extend(micros(left));
    }
    out.extend(gap.map(micros).into_iter().flatten());
    if let Some(Doubt { of, mark }) = doubt {
        out.extend(of.0.to_be_bytes());
        out.extend(mark.0.to_be_bytes());
    }
}

fn voter_or_nobody(voter: Option<VoterIx>) -> u8 {
    voter.map_or(NOBODY, |voter| voter.0)
}

fn micros(time: Duration) -> [u8; 4] {
    u32::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX).to_be_bytes()
}

/// What `bytes` say.
///
/// # Errors
/// [`Malformed`] if they are not exactly one message.
pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut input = Input(bytes);
    let mut last = None;
    let about = input.head()?;
    let count = input.u16()?;
    // The shortest entry has 4 bytes: what is not there needs no memory.
    let mut entries = Vec::with_capacity(usize::from(count).min(input.0.len() / 4));
    for _ in 0..count {
        entries.push(input.entry(&mut last)?);
    }
    match input.0.len() {
        0 => Ok(Message { head: about, entries }),
        left => Err(Malformed::Trailing(left)),
    }
}

/// What is left to be read.
pub(super) struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    fn u128(&mut self) -> Result<u128, Malformed> {
        self.take().map(u128::from_be_bytes)
    }

    fn time(&mut self) -> Result<Duration, Malformed> {
        self.u32().map(|micros| Duration::from_micros(micros.into()))
    }

    /// A byte of which only the bits in `known` may be set.
    pub(super) fn flags(&mut self, known: u8) -> Result<u8, Malformed> {
        let flags = self.u8()?;
        if flags & !known == 0 { Ok(flags) } else { Err(Malformed::Flags(flags)) }
    }

    pub(super) fn voter(&mut self) -> Result<VoterIx, Malformed> {
        let voter = VoterIx(self.u8()?);
        if voter.index() < VoterIx::MOST { Ok(voter) } else { Err(Malformed::Voter(voter.0)) }
    }

    fn voter_or_nobody(&mut self) -> Result<Option<VoterIx>, Malformed> {
        if let [NOBODY, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(None);
        }
        self.voter().map(Some)
    }

    fn head(&mut self) -> Result<Head, Malformed> {
        let (active, next) = (Digest(self.u128()?), Digest(self.u128()?));
        let flags = self.flags(SETTLED | HAS_GATE | HAS_WATCHDOG)?;
        let (heard, clock) = (Voters(self.u32()?), Instant::from_nanos(self.u64()?));
        let (gate, watchdog) = (GateId(self.u128()?), self.time()?);
        let (has_gate, has_watchdog) = (flags & HAS_GATE != 0, flags & HAS_WATCHDOG != 0);
        if (!has_gate && gate != GateId(0)) || (!has_watchdog && !watchdog.is_zero()) {
            return Err(Malformed::Denied);
        }
        Ok(Head {
            active,
            next,
            settled: flags & SETTLED != 0,
            heard,
            clock,
            gate: has_gate.then_some(gate),
            watchdog: has_watchdog.then_some(watchdog),
        })
    }

    fn entry(&mut self, last: &mut Option<Ballot>) -> Result<Entry, Malformed> {
        let (group, kind) = (self.u16()?, self.u8()?);
        let news = match kind & !SAME {
            of @ (REQUEST | GRANT | DENY | RELEASE) => {
                let (gate, round) = self.ballot(kind & SAME != 0, last)?;
                match of {
                    REQUEST => News::Request { gate, round, epoch: self.number()? },
                    GRANT => News::Grant { gate, round },
                    DENY => News::Deny { gate, round, why: self.denial()? },
                    _ => News::Release { gate, round, successor: self.voter_or_nobody()? },
                }
            }
            _ if kind & SAME != 0 => return Err(Malformed::Kind(kind)),
            REPORT => News::Report(self.report()?),
            MOVE => News::Move { to: self.voter()? },
            FENCED => News::Fenced { node: self.voter()?, mark: GateId(self.u128()?) },
            PART => News::Part { name: self.u32()?, value: self.u64()? },
            WORD => News::Word(will::take(self)?),
            TALE => {
                let (node, length) = (self.voter()?, self.u8()?);
                News::Tale { node, text: will::text(self, length)? }
            }
            WORDS => News::Words { mark: self.u64()? },
            _ => return Err(Malformed::Kind(kind)),
        };
        Ok(Entry { group, news })
    }

    fn ballot(&mut self, same: bool, last: &mut Option<Ballot>) -> Result<Ballot, Malformed> {
        if same {
            return last.ok_or(Malformed::Denied);
        }
        let ballot = (GateId(self.u128()?), self.u64()?);
        if last.replace(ballot) == Some(ballot) {
            return Err(Malformed::Denied);
        }
        Ok(ballot)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The last byte of the longest has room for one bit; of several, none is empty.
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(Malformed::Denied);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Denied)
    }

    fn denial(&mut self) -> Result<Denial, Malformed> {
        Ok(match self.u8()? {
            HELD => Denial::Held { by: self.voter()?, left: self.time()? },
            QUIET => Denial::Quiet { left: self.time()? },
            UNSETTLED => Denial::Unsettled,
            CONFIG => Denial::Config,
            ONE_WAY => Denial::OneWay,
            RESERVED => Denial::Reserved { to: self.voter()? },
            EPOCH => Denial::Epoch { highest: self.number()? },
            CLOCK => Denial::Clock,
            DOUBT => Denial::Doubt { of: self.voter()? },
            other => return Err(Malformed::Denial(other)),
        })
    }

    fn report(&mut self) -> Result<Report, Malformed> {
        let flags = self.u8()?;
        let has = |flag| flags & flag != 0;
        let epoch = self.number()?;
        let priority = if has(HAS_PRIORITY) { Some(Priority(self.u8()?)) } else { None };
        let holds = if has(HOLDS) { self.time()? } else { Duration::ZERO };
        if has(HOLDS) && holds.is_zero() {
            return Err(Malformed::Denied);
        }
        let vote = if has(HAS_VOTE) { Some((self.voter()?, self.time()?)) } else { None };
        let gap = if has(HAS_GAP) { Some(self.time()?) } else { None };
        let doubt = if has(DOUBTS) {
            Some(Doubt { of: Voters(self.u32()?), mark: GateId(self.u128()?) })
        } else {
            None
        };
        Ok(Report {
            priority,
            wants: has(WANTS),
            holds,
            epoch,
            vote,
            gap,
            doubt,
            stuck: has(STUCK),
            frozen: has(FROZEN),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::will::tests::word;
    use super::super::will::{LONGEST_NAME, LONGEST_REASON, Text, Topic, Word};
    use super::*;

    const ROOM: usize = 1_154;

    fn time() -> impl Strategy<Value = Duration> {
        any::<u32>().prop_map(|micros| Duration::from_micros(micros.into()))
    }

    fn voter() -> impl Strategy<Value = VoterIx> {
        (0..32_u8).prop_map(VoterIx)
    }

    fn denial() -> impl Strategy<Value = Denial> {
        prop_oneof![
            (voter(), time()).prop_map(|(by, left)| Denial::Held { by, left }),
            time().prop_map(|left| Denial::Quiet { left }),
            voter().prop_map(|to| Denial::Reserved { to }),
            voter().prop_map(|of| Denial::Doubt { of }),
            any::<u64>().prop_map(|highest| Denial::Epoch { highest }),
            prop::sample::select(vec![
                Denial::Unsettled,
                Denial::Config,
                Denial::OneWay,
                Denial::Clock
            ]),
        ]
    }

    fn report() -> impl Strategy<Value = Report> {
        let vote = prop::option::of((voter(), time()));
        let priority = prop::option::of(any::<u8>().prop_map(Priority));
        let doubt = (any::<u32>(), any::<u128>())
            .prop_map(|(of, mark)| Doubt { of: Voters(of), mark: GateId(mark) });
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        let rest = (prop::option::of(time()), prop::option::of(doubt));
        (priority, flags, time(), any::<u64>(), vote, rest).prop_map(
            |(priority, (wants, stuck, frozen), holds, epoch, vote, (gap, doubt))| Report {
                priority,
                wants,
                holds,
                epoch,
                vote,
                gap,
                doubt,
                stuck,
                frozen,
            },
        )
    }

    fn entry() -> impl Strategy<Value = Entry> {
        // Often that of the entry before.
        let ballot = || {
            let any = (any::<u128>().prop_map(GateId), any::<u64>());
            prop_oneof![(0..2_u128, 0..2_u64).prop_map(|(gate, round)| (GateId(gate), round)), any]
        };
        let news = prop_oneof![
            (ballot(), any::<u64>()).prop_map(|((gate, round), epoch)| News::Request {
                gate,
                round,
                epoch
            }),
            ballot().prop_map(|(gate, round)| News::Grant { gate, round }),
            (ballot(), denial()).prop_map(|((gate, round), why)| News::Deny { gate, round, why }),
            (ballot(), prop::option::of(voter())).prop_map(|((gate, round), successor)| {
                News::Release { gate, round, successor }
            }),
            report().prop_map(News::Report),
            voter().prop_map(|to| News::Move { to }),
            (voter(), any::<u128>())
                .prop_map(|(node, mark)| News::Fenced { node, mark: GateId(mark) }),
            any::<(u32, u64)>().prop_map(|(name, value)| News::Part { name, value }),
            word().prop_map(News::Word),
            any::<u64>().prop_map(|mark| News::Words { mark }),
            (voter(), "\\PC{0,200}")
                .prop_map(|(node, text)| News::Tale { node, text: Text::new(&text) }),
        ];
        (any::<u16>(), news).prop_map(|(group, news)| Entry { group, news })
    }

    fn head() -> impl Strategy<Value = Head> {
        let digests = (any::<u128>(), any::<u128>());
        let known = (any::<bool>(), any::<u32>(), any::<u64>());
        let has = (prop::option::of(any::<u128>().prop_map(GateId)), prop::option::of(time()));
        (digests, known, has).prop_map(
            |((active, next), (settled, heard, clock), (gate, watchdog))| Head {
                active: Digest(active),
                next: Digest(next),
                settled,
                heard: Voters(heard),
                clock: Instant::from_nanos(clock),
                gate,
                watchdog,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_said_is_what_is_heard(
            head in head(),
            entries in prop::collection::vec(entry(), 0..90),
        ) {
            let (mut rest, mut heard) = (entries.as_slice(), Vec::new());
            loop {
                let mut bytes = b"before".to_vec();
                let sent = encode(&head, rest, ROOM, &mut bytes).unwrap();
                prop_assert!(bytes.len() <= 6 + ROOM);
                // Full but for less than one entry, or nothing is left.
                prop_assert!(sent == rest.len() || bytes.len() + LONGEST_ENTRY > 6 + ROOM);
                let message = decode(&bytes[6..]).unwrap();
                prop_assert_eq!(message.head, head);
                heard.extend(message.entries);
                rest = &rest[sent..];
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(heard, entries);
        }

        #[test]
        fn any_bytes_are_survived_and_what_is_decoded_is_the_same_bytes(
            head in head(),
            mut rest in prop::collection::vec(any::<u8>(), 0..200),
            count in 0..6_u8,
        ) {
            let _ = decode(&rest);
            // Kinds and flags as they could be.
            for at in [2, 3, 27, 28] {
                if let Some(byte) = rest.get_mut(at) {
                    *byte &= 7;
                }
            }
            let mut bytes = Vec::new();
            encode(&head, &[], ROOM, &mut bytes).unwrap();
            bytes[HEAD - 1] = count;
            bytes.extend(&rest);
            if let Ok(message) = decode(&bytes) {
                let mut again = Vec::new();
                let all = encode(&message.head, &message.entries, ROOM, &mut again);
                prop_assert_eq!(all, Some(message.entries.len()));
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn a_message_that_is_cut_or_goes_on_is_none(
            head in head(),
            entries in prop::collection::vec(entry(), 0..5),
        ) {
            let mut bytes = Vec::new();
            encode(&head, &entries, ROOM, &mut bytes).unwrap();
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]), Err(Malformed::Short));
            }
            bytes.push(0);
            prop_assert_eq!(decode(&bytes), Err(Malformed::Trailing(1)));
        }
    }

    fn message(news: News) -> Vec<u8> {
        let head = Head {
            active: Digest(1),
            next: Digest(2),
            settled: true,
            heard: Voters(7),
            clock: Instant::from_nanos(9),
            gate: None,
            watchdog: None,
        };
        let mut bytes = Vec::new();
        encode(&head, &[Entry { group: 3, news }], ROOM, &mut bytes).unwrap();
        bytes
    }

    fn a_word() -> Word {
        Word {
            topic: Topic::Standby,
            node: 1,
            group: 0,
            on: true,
            version: 7,
            origin: VoterIx(2),
            at: 1_700_000_000_000,
            left: None,
            by: Text::new(&"r".repeat(LONGEST_NAME)),
            why: Text::new(&"w".repeat(LONGEST_REASON)),
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let none = Report {
            priority: None,
            wants: false,
            holds: Duration::ZERO,
            epoch: 0,
            vote: None,
            gap: None,
            doubt: None,
            stuck: false,
            frozen: false,
        };
        let report = News::Report(none);
        let vote = News::Report(Report { vote: Some((VoterIx(1), Duration::ZERO)), ..none });
        let long = News::Request { gate: GateId(1), round: 2, epoch: u64::MAX };
        let denial = News::Deny { gate: GateId(1), round: 2, why: Denial::Clock };
        let word = News::Word(a_word());
        let rows = [
            (report, 32, 8, Malformed::Flags(8)),
            (report, 60, 1, Malformed::Denied),
            (report, 64, 1, Malformed::Denied),
            (report, HEAD + 2, 0, Malformed::Kind(0)),
            (report, HEAD + 2, 12, Malformed::Kind(12)),
            (report, HEAD + 2, REPORT | SAME, Malformed::Kind(REPORT | SAME)),
            (report, HEAD + 3, HOLDS, Malformed::Short),
            (vote, HEAD + 5, 32, Malformed::Voter(32)),
            (vote, HEAD + 3, HOLDS, Malformed::Trailing(1)),
            (long, HEAD + 36, 0, Malformed::Denied),
            (long, HEAD + 36, 2, Malformed::Denied),
            (long, HEAD + 36, 0x81, Malformed::Denied),
            (denial, HEAD + 2, DENY | SAME, Malformed::Denied),
            (denial, HEAD + 27, 0, Malformed::Denial(0)),
            (denial, HEAD + 27, 10, Malformed::Denial(10)),
            (News::Move { to: VoterIx(1) }, HEAD + 3, 255, Malformed::Voter(255)),
            (word, HEAD + 3, 0, Malformed::Topic(0)),
            (word, HEAD + 3, 5, Malformed::Topic(5)),
            (word, HEAD + 4, 4, Malformed::Flags(4)),
            (word, HEAD + 5, 32, Malformed::Voter(32)),
            (word, HEAD + 40, 1, Malformed::Denied),
            (word, HEAD + 46, 65, Malformed::Text),
            (word, HEAD + 48, 255, Malformed::Text),
        ];
        for (news, at, byte, expected) in rows {
            let mut bytes = message(news);
            assert!(decode(&bytes).is_ok(), "{news:?}");
            bytes[at] = byte;
            assert_eq!(decode(&bytes), Err(expected), "{news:?} with {byte} at {at}");
        }
    }

    #[test]
    fn a_time_is_rounded_up_and_has_a_longest() {
        assert_eq!(micros(Duration::from_nanos(1)), 1_u32.to_be_bytes());
        assert_eq!(micros(Duration::from_nanos(1_001)), 2_u32.to_be_bytes());
        assert_eq!(micros(MAX_TIME), u32::MAX.to_be_bytes());
        assert_eq!(micros(Duration::MAX), u32::MAX.to_be_bytes());
    }

    #[test]
    fn the_longest_entry_is_as_long_as_is_said() {
        let (gate, round) = (GateId(1), 2);
        let denial = |why| News::Deny { gate, round, why };
        let longest = News::Word(a_word());
        let epoch = denial(Denial::Epoch { highest: 1 });
        let request = News::Request { gate, round, epoch: 3 };
        let held = denial(Denial::Held { by: VoterIx(1), left: MAX_TIME });
        assert_eq!(message(longest).len(), HEAD + LONGEST_ENTRY);
        let tale = News::Tale { node: VoterIx(1), text: Text::new(&"t".repeat(500)) };
        assert!(
            [request, held, epoch, tale].iter().all(|n| message(*n).len() <= HEAD + LONGEST_ENTRY)
        );
    }

    /// What a busy cluster says of all its groups at a time costs one datagram.
    #[test]
    fn fifty_groups_fit_into_one() {
        let head = decode(&message(News::Move { to: VoterIx(1) })).unwrap().head;
        let (gate, round, epoch) = (GateId(u128::MAX), u64::MAX, 10_000);
        let report = Report {
            priority: Some(Priority(100)),
            wants: true,
            holds: Duration::from_millis(400),
            epoch,
            vote: Some((VoterIx(1), Duration::from_millis(500))),
            gap: None,
            doubt: None,
            stuck: false,
            frozen: false,
        };
        let request = News::Request { gate, round, epoch };
        for news in [request, News::Grant { gate, round }, News::Report(report)] {
            let entries: Vec<_> = (0..50).map(|group| Entry { group, news }).collect();
            assert_eq!(encode(&head, &entries, ROOM, &mut Vec::new()), Some(50), "{news:?}");
        }
    }

    #[test]
    fn without_room_for_a_head_nothing_is_said() {
        let message = decode(&message(News::Move { to: VoterIx(1) })).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(encode(&message.head, &message.entries, HEAD - 1, &mut bytes), None);
        assert_eq!(encode(&message.head, &message.entries, HEAD, &mut bytes), Some(0));
        assert_eq!(bytes.len(), HEAD);
    }
}
