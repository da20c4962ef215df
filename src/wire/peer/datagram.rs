//! The outside of a datagram: header, body, tag; and the body of a greeting.
//!
//! ```text
//! magic 2, version 1, kind 1, key id 4, cluster 8, from 1, to 1, session 4, counter 8,
//! body, tag 16 over everything before it
//! ```

use super::keys::{KeyId, Keyring, Nonce, Seal, TAG};
use crate::types::{Incarnation, VoterIx};

/// The longest datagram, in bytes: with the headers of IPv6 and UDP it fits into the 1280 that
/// every IPv6 link carries, with some room for tunnels.
pub const MAX_DATAGRAM: usize = 1200;

/// Bytes before the body.
pub(super) const HEADER: usize = 30;
/// The most bytes a body can have.
pub(super) const ROOM: usize = MAX_DATAGRAM - HEADER - TAG;

const MAGIC: [u8; 2] = [0xb1, 0x7d];
const VERSION: u8 = 1;

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A greeting: here I am, prove that you are there.
    Hello = 1,
    /// A greeting that proves it.
    Answer = 2,
    /// Part of a session, and empty: I have it, too.
    Ready = 3,
    /// Part of a session: a message.
    Data = 4,
    /// Part of a session: connections to what its sender holds.
    Connections = 5,
}

/// What stands before the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// `None` for one that there is not.
    pub(super) kind: Option<Kind>,
    pub(super) key: KeyId,
    pub(super) cluster: [u8; 8],
    pub(super) from: VoterIx,
    pub(super) to: VoterIx,
    /// Of which session; zero in greetings.
    pub(super) session: u32,
    /// Rises with every datagram of a session, and with every greeting.
    pub(super) counter: u64,
}

impl Header {
    /// The header of `datagram`; `None` if it is not one of ours at all.
    pub(super) fn read(datagram: &[u8]) -> Option<Self> {
        if !(HEADER + TAG..=MAX_DATAGRAM).contains(&datagram.len()) {
            return None;
        }
        let (magic, rest) = datagram.split_first_chunk()?;
        let ([version, kind], rest) = rest.split_first_chunk()?;
        if (*magic, *version) != (MAGIC, VERSION) {
            return None;
        }
        let kind = match kind {
            1 => Some(Kind::Hello),
            2 => Some(Kind::Answer),
            3 => Some(Kind::Ready),
            4 => Some(Kind::Data),
            5 => Some(Kind::Connections),
            _ => None,
        };
        let (key, rest) = rest.split_first_chunk()?;
        let (cluster, rest) = rest.split_first_chunk()?;
        let ([from, to], rest) = rest.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (counter, _) = rest.split_first_chunk()?;
        Some(Self {
            kind,
            key: KeyId(u32::from_be_bytes(*key)),
            cluster: *cluster,
            from: VoterIx(*from),
            to: VoterIx(*to),
            session: u32::from_be_bytes(*session),
            counter: u64::from_be_bytes(*counter),
        })
    }

    /// Appends to `out` a datagram without body and tag.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.extend([VERSION, self.kind.map_or(0, |kind| kind as u8)]);
        out.extend(self.key.0.to_be_bytes());
        out.extend(self.cluster);
        out.extend([self.from.0, self.to.0]);
        out.extend(self.session.to_be_bytes());
        out.extend(self.counter.to_be_bytes());
    }
}

/// Appends the tag to the datagram that begins at `start`.
pub(super) fn close(seal: &Seal, start: usize, out: &mut Vec<u8>) {
    let tag = seal.tag(out.get(start..).unwrap_or_default());
    out.extend(tag);
}

/// The body, if the tag is right.
pub(super) fn body<'a>(seal: &Seal, datagram: &'a [u8]) -> Option<&'a [u8]> {
    let (text, tag) = datagram.split_last_chunk()?;
    if seal.is_tag(text, tag) { text.get(HEADER..) } else { None }
}

/// The body of a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Which run of the sender.
    pub(super) run: Incarnation,
    /// Its challenge.
    pub(super) nonce: Nonce,
    /// Which keys it has, newest first.
    pub(super) keys: Vec<KeyId>,
    /// In an answer: what it answers.
    pub(super) echo: Option<Echo>,
}

/// What an answer proves to have heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// Which run of the receiver.
    pub(super) run: Incarnation,
    /// The receiver's challenge.
    pub(super) nonce: Nonce,
    /// The sender has what it needs; no answer is called for.
    pub(super) is_last: bool,
}

impl Greeting {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.run.0.to_be_bytes());
        out.extend(self.nonce);
        if let Some(echo) = self.echo {
            out.extend(echo.run.0.to_be_bytes());
            out.extend(echo.nonce);
            out.push(echo.is_last.into());
        }
        out.extend(self.keys.iter().take(Keyring::MOST).flat_map(|key| key.0.to_be_bytes()));
    }

    /// `None` if the bytes are not exactly a greeting, with an echo where `is_answer`.
    pub(super) fn read(body: &[u8], is_answer: bool) -> Option<Self> {
        let (run, rest) = body.split_first_chunk()?;
        let (nonce, mut rest) = rest.split_first_chunk()?;
        let mut echo = None;
        if is_answer {
            let (run, after) = rest.split_first_chunk()?;
            let (nonce, after) = after.split_first_chunk()?;
            let (is_last, after) = after.split_first()?;
            let is_last = match is_last {
                0 => false,
                1 => true,
                _ => return None,
            };
            let run = Incarnation(u128::from_be_bytes(*run));
            echo = Some(Echo { run, nonce: *nonce, is_last });
            rest = after;
        }
        let (keys, left) = rest.as_chunks();
        if !left.is_empty() || !(1..=Keyring::MOST).contains(&keys.len()) {
            return None;
        }
        Some(Self {
            run: Incarnation(u128::from_be_bytes(*run)),
            nonce: *nonce,
            keys: keys.iter().map(|key| KeyId(u32::from_be_bytes(*key))).collect(),
            echo,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(
            kind in 0..6_usize,
            cluster in any::<[u8; 8]>(),
            (key, session, counter) in any::<(u32, u32, u64)>(),
            (from, to) in any::<(u8, u8)>(),
        ) {
            let kinds = [
                None,
                Some(Kind::Hello),
                Some(Kind::Answer),
                Some(Kind::Ready),
                Some(Kind::Data),
                Some(Kind::Connections),
            ];
            let (from, to) = (VoterIx(from), VoterIx(to));
            let header =
                Header { kind: kinds[kind], key: KeyId(key), cluster, from, to, session, counter };
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert_eq!(bytes.len(), HEADER);
            bytes.extend([0; TAG]);
            prop_assert_eq!(Header::read(&bytes), Some(header));
            prop_assert_eq!(Header::read(&bytes[1..]), None);
            bytes.resize(MAX_DATAGRAM, 0);
            prop_assert_eq!(Header::read(&bytes), Some(header));
            bytes.push(0);
            prop_assert_eq!(Header::read(&bytes), None);
        }

        #[test]
        fn a_greeting_is_read_as_it_was_written(
            (run, nonce) in any::<(u128, Nonce)>(),
            echo in prop::option::of(any::<(u128, Nonce, bool)>()),
            keys in prop::collection::vec(any::<u32>().prop_map(KeyId), 1..=Keyring::MOST),
            any in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let echo = echo.map(|(run, nonce, is_last)| Echo { run: Incarnation(run), nonce, is_last });
            let greeting = Greeting { run: Incarnation(run), nonce, keys, echo };
            let mut bytes = Vec::new();
            greeting.write(&mut bytes);
            prop_assert_eq!(Greeting::read(&bytes, echo.is_some()), Some(greeting));
            bytes.push(0);
            prop_assert_eq!(Greeting::read(&bytes, echo.is_some()), None);
            for is_answer in [false, true] {
                if let Some(greeting) = Greeting::read(&any, is_answer) {
                    let mut again = Vec::new();
                    greeting.write(&mut again);
                    prop_assert_eq!(&again, &any);
                }
            }
        }
    }
}
