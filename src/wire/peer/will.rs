//! What operators have decided, as one node tells it to another.
//!
//! ```text
//! word    topic 1, flags 1 (bit 0: on, 1: ends by itself), voter 1, node 8, group 8, version 8,
//!         at 8, left 8, length of the name 1, length of the reason 1, the name, the reason
//! ```
//!
//! Nodes and groups are told by marks of their names, so that hosts whose files differ do not take
//! one for the other. Times are milliseconds.

use std::time::Duration;

use super::codec::{Input, Malformed};
use crate::types::VoterIx;

/// Bytes that the name of whoever decided may have.
pub const LONGEST_NAME: usize = 32;
/// Bytes that a reason may have.
pub const LONGEST_REASON: usize = 64;
/// Bytes that a tale may have.
pub const LONGEST_TALE: usize = 136;
/// Bytes of the longest word.
pub(super) const LONGEST: usize = 45 + LONGEST_NAME + LONGEST_REASON;

const ON: u8 = 1;
const ENDS: u8 = 2;

/// What a decision is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// A node holds nothing and takes nothing.
    Standby,
    /// A node neither holds nor takes one group.
    Ban,
    /// Hands off a group, or all of them.
    Maintenance,
    /// The failures of a group's proxy, or of all, are forgotten, on one node or on every one: done
    /// once, never in force.
    Cleanup,
}

impl Topic {
    const ALL: [Self; 4] = [Self::Standby, Self::Ban, Self::Maintenance, Self::Cleanup];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Ban => "ban",
            Self::Maintenance => "maintenance",
            Self::Cleanup => "cleanup",
        }
    }

    const fn code(self) -> u8 {
        self as u8 + 1
    }
}

/// A text of at most `N` bytes that is copied as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Text<N> {
    /// As much of `text` as there is room for.
    pub fn new(text: &str) -> Self {
        let mut end = text.len().min(N).min(u8::MAX.into());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; N];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self { bytes, length: u8::try_from(end).unwrap_or(0) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> serde::Serialize for Text<N> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> serde::Deserialize<'de> for Text<N> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self::new(&text))
    }
}

/// One decision.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Word {
    /// About what.
    pub topic: Topic,
    /// A mark of the node's name; zero where it is about none.
    pub node: u64,
    /// A mark of the group's name; zero where it is about none, or all.
    pub group: u64,
    /// Whether it is to be so, or no longer.
    pub on: bool,
    /// Of two decisions about the same the higher one counts.
    pub version: u64,
    /// Where it was decided.
    pub origin: VoterIx,
    /// When, for people: milliseconds since 1970, UTC.
    pub at: u64,
    /// How much longer it lasts, to the millisecond; `None` until it is taken back.
    pub left: Option<Duration>,
    /// Who decided.
    pub by: Text<LONGEST_NAME>,
    /// Why.
    pub why: Text<LONGEST_REASON>,
}

pub(super) fn put(word: &Word, out: &mut Vec<u8>) {
    let Word { topic, node, group, on, version, origin, at, left, by, why } = word;
    let on = if *on { ON } else { 0 };
    let ends = if left.is_some() { ENDS } else { 0 };
    out.extend([topic.code(), on | ends, origin.0]);
    // Rounded up: what is left must not look over before it is.
    let left = left.unwrap_or_default().as_nanos().div_ceil(1_000_000);
    for number in [*node, *group, *version, *at, u64::try_from(left).unwrap_or(u64::MAX)] {
        out.extend(number.to_be_bytes());
    }
    out.extend([by.length, why.length]);
    out.extend(by.as_str().as_bytes());
    out.extend(why.as_str().as_bytes());
}

pub(super) fn take(input: &mut Input<'_>) -> Result<Word, Malformed> {
    let code = input.u8()?;
    let topic = Topic::ALL.into_iter().find(|t| t.code() == code).ok_or(Malformed::Topic(code))?;
    let flags = input.flags(ON | ENDS)?;
    let origin = input.voter()?;
    let (node, group, version) = (input.u64()?, input.u64()?, input.u64()?);
    let (at, left) = (input.u64()?, input.u64()?);
    if flags & ENDS == 0 && left != 0 {
        return Err(Malformed::Denied);
    }
    let (by, why) = (input.u8()?, input.u8()?);
    Ok(Word {
        topic,
        node,
        group,
        on: flags & ON != 0,
        version,
        origin,
        at,
        left: (flags & ENDS != 0).then_some(Duration::from_millis(left)),
        by: text(input, by)?,
        why: text(input, why)?,
    })
}

pub(super) fn put_text<const N: usize>(text: &Text<N>, out: &mut Vec<u8>) {
    out.push(text.length);
    out.extend(text.as_str().as_bytes());
}

pub(super) fn text<const N: usize>(
    input: &mut Input<'_>,
    length: u8,
) -> Result<Text<N>, Malformed> {
    let mut bytes = [0; N];
    let place = bytes.get_mut(..usize::from(length)).ok_or(Malformed::Text)?;
    for byte in place.iter_mut() {
        *byte = input.u8()?;
    }
    str::from_utf8(place).map_err(|_| Malformed::Text)?;
    Ok(Text { bytes, length })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn word() -> impl Strategy<Value = Word> {
        let topic = prop::sample::select(Topic::ALL.to_vec());
        let left = prop::option::of(any::<u64>().prop_map(Duration::from_millis));
        let numbers = any::<(u64, u64, u64, u64)>();
        (topic, any::<bool>(), 0..32_u8, numbers, left, "\\PC{0,40}", "\\PC{0,80}").prop_map(
            |(topic, on, origin, (node, group, version, at), left, by, why)| Word {
                topic,
                node,
                group,
                on,
                version,
                origin: VoterIx(origin),
                at,
                left,
                by: Text::new(&by),
                why: Text::new(&why),
            },
        )
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(Text::<4>::new("añb€").as_str(), "añb");
        assert_eq!(Text::<4>::new("abcd").as_str(), "abcd");
        assert_eq!(Text::<4>::new(""), Text { bytes: [0; 4], length: 0 });
    }
}
