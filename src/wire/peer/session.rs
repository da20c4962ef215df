//! One session between two runs: its keys, its counters, what it has heard already.

use sha2::{Digest as _, Sha256};

use super::Dropped;
use super::datagram::{self, Header, Kind};
use super::keys::{Cluster, End, Key, KeyId, Keyring, Seal};

/// How far back a datagram may be late, in datagrams of its session.
const WINDOW: u64 = 1024;
const WORDS: usize = 17;

/// Two ends that proved to each other that they live.
///
/// It belongs to no key: either end may seal with any that both have, and changes to a newer one
/// without another handshake as soon as it knows that the other has it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) mine: End,
    pub(super) theirs: End,
    /// Whether the other end is known to have it, too.
    pub(super) is_confirmed: bool,
    /// Which keys the other end has.
    their_keys: Vec<KeyId>,
    /// All of ours, newest first: the other end may have one without our knowing that yet.
    keys: Vec<Pair>,
    id_in: u32,
    id_out: u32,
    sent: u64,
    window: Window,
}

#[derive(Debug)]
struct Pair {
    key: KeyId,
    from_them: Seal,
    to_them: Seal,
}

impl Session {
    /// `None` if they share no key.
    pub(super) fn new(
        ring: &Keyring,
        cluster: &Cluster,
        [mine, theirs]: [End; 2],
        their_keys: Vec<KeyId>,
    ) -> Option<Self> {
        let mut session = Self {
            mine,
            theirs,
            is_confirmed: false,
            their_keys,
            keys: Vec::new(),
            id_in: id(cluster, &theirs, &mine),
            id_out: id(cluster, &mine, &theirs),
            sent: 0,
            window: Window::default(),
        };
        session.set_keys(ring, cluster).then_some(session)
    }

    /// From now on with the keys of `ring`; false if the other end is known to have none of them.
    pub(super) fn set_keys(&mut self, ring: &Keyring, cluster: &Cluster) -> bool {
        let pair = |key: &Key| Pair {
            key: key.id,
            from_them: key.session(cluster, &self.theirs, &self.mine),
            to_them: key.session(cluster, &self.mine, &self.theirs),
        };
        self.keys = ring.keys().iter().map(pair).collect();
        self.common().is_some()
    }

    /// Our newest key that the other end is known to have.
    fn common(&self) -> Option<&Pair> {
        self.keys.iter().find(|pair| self.their_keys.contains(&pair.key))
    }

    /// Whether a datagram says that it is of this session.
    pub(super) fn is_of(&self, header: &Header) -> bool {
        header.session == self.id_in
    }

    /// The body of a datagram of the other end.
    pub(super) fn body<'a>(
        &self,
        header: &Header,
        datagram: &'a [u8],
    ) -> Result<&'a [u8], Dropped> {
        let pair = self.keys.iter().find(|pair| pair.key == header.key);
        let pair = pair.ok_or(Dropped::UnknownKey)?;
        datagram::body(&pair.from_them, datagram).ok_or(Dropped::BadTag)
    }

    /// Notes the counter of a datagram whose tag is right.
    ///
    /// Not before: a forger could close the window. So a copy over a second path costs a tag,
    /// and shows that the path works.
    pub(super) fn note(&mut self, counter: u64) -> Result<(), Dropped> {
        self.window.note(counter)
    }

    /// Appends to `out` a datagram with the body that `write` appends.
    pub(super) fn seal<T>(
        &mut self,
        kind: Kind,
        cluster: &Cluster,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Option<T>,
    ) -> Option<T> {
        self.sent += 1;
        let pair = self.common()?;
        let header = Header {
            kind: Some(kind),
            key: pair.key,
            cluster: cluster.id(),
            from: self.mine.voter,
            to: self.theirs.voter,
            session: self.id_out,
            counter: self.sent,
        };
        let start = out.len();
        header.write(out);
        let written = write(out);
        if written.is_some() {
            datagram::close(&pair.to_them, start, out);
        } else {
            out.truncate(start);
        }
        written
    }
}

/// A name for what one end sends. Says only which keys to try: it is made of what everybody may
/// know, and proves nothing.
fn id(cluster: &Cluster, from: &End, to: &End) -> u32 {
    let hash = Sha256::new()
        .chain_update(b"vipd/1 session id")
        .chain_update(cluster.id())
        .chain_update(from.bytes())
        .chain_update(to.bytes())
        .finalize();
    hash.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

/// Which of the latest counters were seen (RFC 6479): a ring of words, one more than are looked
/// at, so that no bit is ever shifted.
#[derive(Debug, Default)]
struct Window {
    top: u64,
    words: [u64; WORDS],
}

impl Window {
    fn note(&mut self, counter: u64) -> Result<(), Dropped> {
        // The first is 1.
        if counter == 0 || self.top.saturating_sub(counter) >= WINDOW {
            return Err(Dropped::Replay);
        }
        if counter > self.top {
            let (old, new) = (self.top / 64, counter / 64);
            // One round clears all.
            for word in (old + 1..=new).take(WORDS) {
                *self.word(word) = 0;
            }
            self.top = counter;
        }
        let bit = 1 << (counter % 64);
        let word = self.word(counter / 64);
        if *word & bit != 0 {
            return Err(Dropped::Duplicate);
        }
        *word |= bit;
        Ok(())
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        let at = number % WORDS as u64;
        // What is left of a division by the length is in the array.
        &mut self.words[usize::try_from(at).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn once_each_in_any_order_as_far_back_as_the_window() {
        let mut window = Window::default();
        for counter in [3, 1, 2, 70, 64, 63, 1024] {
            assert_eq!(window.note(counter), Ok(()), "{counter}");
            assert_eq!(window.note(counter), Err(Dropped::Duplicate), "{counter}");
        }
        assert_eq!(window.note(0), Err(Dropped::Replay));
        assert_eq!(window.note(1025), Ok(()));
        assert_eq!(window.note(1), Err(Dropped::Replay));
        assert_eq!(window.note(2), Err(Dropped::Duplicate));
        assert_eq!(window.note(4), Ok(()));
        assert_eq!(window.note(u64::MAX), Ok(()));
        assert_eq!(window.note(u64::MAX), Err(Dropped::Duplicate));
        assert_eq!(window.note(u64::MAX - 1023), Ok(()));
        assert_eq!(window.note(u64::MAX - 1024), Err(Dropped::Replay));
    }

    proptest! {
        #[test]
        fn a_window_is_a_set_that_forgets(
            steps in prop::collection::vec((0..40_u64, -1200..1200_i64), 1..400),
        ) {
            let (mut window, mut seen, mut top) = (Window::default(), BTreeSet::new(), 1_u64);
            for (slow, fast) in steps {
                let counter = top.saturating_add_signed(if slow > 2 { fast / 40 } else { fast });
                let expected = if counter == 0 || counter + WINDOW <= top {
                    Err(Dropped::Replay)
                } else if seen.insert(counter) {
                    Ok(())
                } else {
                    Err(Dropped::Duplicate)
                };
                prop_assert_eq!(window.note(counter), expected, "{} of {}", counter, top);
                top = top.max(counter);
            }
        }
    }
}
