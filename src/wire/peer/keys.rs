//! The secret that voters share, and what is derived from it.
//!
//! The file has one key a line, newest first, in hexadecimal; `#` begins a comment. Everything
//! accepted with the first is accepted with the others, too, so that a new key can be brought to
//! one host after the other.
//!
//! No error, no `Debug` and no identifier has a byte of a key in it. Key states are wiped when
//! they are dropped (the `zeroize` features of `hmac` and `sha2`), and so is what is read here.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::types::{Incarnation, VoterIx};

/// The least bytes a key may have: what nobody guesses.
pub const MIN_KEY: usize = 16;
/// The most bytes a key may have: the block of the hash.
pub const MAX_KEY: usize = 64;
/// Bytes of a tag; half of the hash leaves a forger one chance in 2^128.
pub const TAG: usize = 16;

/// Which key: derived from it, so that nobody has to number keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What is wrong with a file of keys, and in which line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum KeyError {
    /// Something that is neither a digit nor a comment, or half a byte.
    #[error("line {line}: a key is an even number of hexadecimal digits")]
    NotHex {
        /// Where.
        line: usize,
    },
    /// Fewer than [`MIN_KEY`] bytes.
    #[error("line {line}: the key has {bytes} bytes; at least {MIN_KEY} are needed")]
    TooShort {
        /// Where.
        line: usize,
        /// How many it has.
        bytes: usize,
    },
    /// More than [`MAX_KEY`] bytes.
    #[error("line {line}: the key has {bytes} bytes; at most {MAX_KEY} are possible")]
    TooLong {
        /// Where.
        line: usize,
        /// How many it has.
        bytes: usize,
    },
    /// One byte again and again: an example, not a secret.
    #[error("line {line}: the key is one byte repeated, which is no secret")]
    Repeated {
        /// Where.
        line: usize,
    },
    /// A key that is there already, or has the same identifier.
    #[error("line {line}: the key is the one of line {first}")]
    Twice {
        /// Where.
        line: usize,
        /// Where it was before.
        first: usize,
    },
    /// More than [`Keyring::MOST`].
    #[error("line {line}: there are more than {} keys", Keyring::MOST)]
    TooMany {
        /// Of the first that is too many.
        line: usize,
    },
    /// Comments at most.
    #[error("there is no key")]
    Empty,
}

/// The keys of a file, newest first; never empty.
#[derive(Clone)]
pub struct Keyring(Vec<Key>);

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Keyring {
    /// The most keys there can be. Two are enough to change one; a greeting lists all.
    pub const MOST: usize = 8;

    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first [`KeyError`]; it never has a byte of a key in it.
    pub fn parse(file: &[u8]) -> Result<Self, KeyError> {
        // All at once: a vector that grows leaves copies behind.
        let mut keys = Vec::with_capacity(Self::MOST);
        let mut lines = [0; Self::MOST];
        for (line, text) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            let code = text.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if code.is_empty() {
                continue;
            }
            let key = Key::parse(code, line)?;
            let same = keys.iter().position(|other: &Key| other.id == key.id);
            if let Some(first) = same.and_then(|at| lines.get(at)) {
                return Err(KeyError::Twice { line, first: *first });
            }
            let place = lines.get_mut(keys.len()).ok_or(KeyError::TooMany { line })?;
            *place = line;
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// Which keys there are, newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|key| key.id)
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.0
    }

    /// What a run makes its fresh numbers with.
    pub(super) fn nonces(&self, run: Incarnation) -> Seal {
        let newest = self.0.first().expect("a ring has a key");
        Seal::new(derive(&newest.root, &[b"nonces", &run.0.to_be_bytes()]))
    }
}

/// One key: what remains of it is a state to derive others from.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    root: Hkdf<Sha256>,
}

impl Key {
    fn parse(code: &[u8], line: usize) -> Result<Self, KeyError> {
        let bytes = code.len() / 2;
        if code.len() % 2 == 1 || !code.iter().all(u8::is_ascii_hexdigit) {
            return Err(KeyError::NotHex { line });
        }
        if bytes < MIN_KEY {
            return Err(KeyError::TooShort { line, bytes });
        }
        if bytes > MAX_KEY {
            return Err(KeyError::TooLong { line, bytes });
        }
        let mut key = Zeroizing::new([0; MAX_KEY]);
        for (to, digits) in key.iter_mut().zip(code.chunks_exact(2)) {
            *to = digits.iter().fold(0, |byte, digit| byte << 4 | value(*digit));
        }
        let key = key.get(..bytes).unwrap_or_default();
        if key.iter().all(|byte| Some(byte) == key.first()) {
            return Err(KeyError::Repeated { line });
        }
        let root = Hkdf::new(Some(b"vipd/1"), key);
        let id = KeyId(u32::from_be_bytes(derive(&root, &[b"key id"])));
        Ok(Self { id, root })
    }

    /// What greetings from one voter to another are sealed with. Bound to the direction, so that
    /// nothing can be sent back to its sender.
    pub(super) fn greeting(&self, cluster: &Cluster, from: VoterIx, to: VoterIx) -> Seal {
        Seal::new(derive(&self.root, &[b"greeting", &cluster.0, &[from.0, to.0]]))
    }

    /// What one end of a session seals what it sends to the other with: bound to the direction,
    /// to both runs and to a fresh number of each.
    pub(super) fn session(&self, cluster: &Cluster, from: &End, to: &End) -> Seal {
        Seal::new(derive(&self.root, &[b"session", &cluster.0, &from.bytes(), &to.bytes()]))
    }
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Each first part is the beginning of no other one, and what follows has a fixed length.
fn derive<const N: usize>(root: &Hkdf<Sha256>, info: &[&[u8]]) -> [u8; N] {
    let mut derived = [0; N];
    root.expand_multi_info(info, &mut derived).expect("HKDF-SHA256 gives up to 8160 bytes");
    derived
}

/// The name of a cluster, hashed. What is derived from a key is bound to all of it; datagrams
/// carry its beginning, which is no secret: two clusters with one file of keys do not mix, and
/// two with one name are told apart by their keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster([u8; 32]);

impl Cluster {
    pub(super) fn new(name: &str) -> Self {
        Self(Sha256::new().chain_update(b"vipd/1 cluster").chain_update(name).finalize().into())
    }

    /// What datagrams carry.
    pub(super) fn id(&self) -> [u8; 8] {
        *self.0.first_chunk().expect("a hash has 32 bytes")
    }
}

/// A number never used before, which its maker alone could foresee.
pub(super) type Nonce = [u8; 16];

/// One end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) voter: VoterIx,
    pub(super) run: Incarnation,
    pub(super) nonce: Nonce,
}

impl End {
    pub(super) fn bytes(&self) -> [u8; 33] {
        let mut all = [self.voter.0; 33];
        if let Some(run) = all.get_mut(1..17) {
            run.copy_from_slice(&self.run.0.to_be_bytes());
        }
        if let Some(nonce) = all.get_mut(17..) {
            nonce.copy_from_slice(&self.nonce);
        }
        all
    }
}

/// HMAC-SHA256, truncated to [`TAG`] bytes, with the key worked in already.
#[derive(Clone)]
pub(super) struct Seal(Hmac<Sha256>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    fn new(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        Self(Hmac::new_from_slice(&*key).expect("HMAC takes keys of any length"))
    }

    pub(super) fn tag(&self, bytes: &[u8]) -> [u8; TAG] {
        let whole = self.0.clone().chain_update(bytes).finalize().into_bytes();
        let mut tag = [0; TAG];
        for (to, from) in tag.iter_mut().zip(whole) {
            *to = from;
        }
        tag
    }

    /// Whether `tag` is that of `bytes`; how long that takes does not tell how much of it is.
    pub(super) fn is_tag(&self, bytes: &[u8], tag: &[u8; TAG]) -> bool {
        self.0.clone().chain_update(bytes).verify_truncated_left(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const B: &str = "FFeeddccbbaa99887766554433221100";

    fn parse(text: &str) -> Result<Keyring, KeyError> {
        Keyring::parse(text.as_bytes())
    }

    fn ids(text: &str) -> Vec<KeyId> {
        parse(text).unwrap().ids().collect()
    }

    #[test]
    fn comments_blank_lines_and_letters_of_either_case() {
        let text = format!("# made today\n\n  {A}  # new\r\n\t\n{B}\n");
        assert_eq!(ids(&text), [ids(A), ids(B)].concat());
        assert_eq!(ids(B), ids(&B.to_lowercase()));
        assert_ne!(ids(A), ids(B));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let line = 2;
        let long = A.repeat(2) + "00";
        let rows = [
            ("abc", KeyError::NotHex { line }),
            ("0x00112233445566778899aabbccddeeff", KeyError::NotHex { line }),
            ("00112233445566778899aabbccddee", KeyError::TooShort { line, bytes: 15 }),
            (&long, KeyError::TooLong { line, bytes: 65 }),
            ("00000000000000000000000000000000", KeyError::Repeated { line }),
            (B, KeyError::Twice { line, first: 1 }),
        ];
        for (text, expected) in rows {
            let error = parse(&format!("{B}\n{text}\n")).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains(text), "{error}");
        }
        assert_eq!(parse("# nothing\n").unwrap_err(), KeyError::Empty);
        let many: Vec<_> = (0..9).map(|n| format!("{n:032x}a1")).collect();
        assert_eq!(parse(&many.join("\n")).unwrap_err(), KeyError::TooMany { line: 9 });
    }

    #[test]
    fn the_longest_key_is_no_cut_off_key() {
        let long = A.repeat(2);
        assert_ne!(ids(&long), ids(A));
        assert_ne!(ids(&long), ids(&(long.clone()[..126].to_owned() + "1e")));
    }

    #[test]
    fn debug_shows_no_key_and_states_are_wiped() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        // Two of these are all there is in an `Hmac`, which does not say so itself.
        wiped::<Sha256>();
        let shown = format!("{:?}", parse(&format!("{A}\n{B}")).unwrap());
        assert_eq!(shown, format!("[{:?}, {:?}]", ids(A)[0], ids(B)[0]));
    }

    /// Against HKDF and HMAC as RFC 5869 and RFC 2104 have them, by the steps.
    #[test]
    fn derivation_is_hkdf() {
        let hmac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().into()
        };
        let ring = parse(A).unwrap();
        let key: Vec<u8> = (0..32).collect();
        let root = hmac(b"vipd/1", &[&key]);
        let id = hmac(&root, &[b"key id", &[1]]);
        assert_eq!(ids(A), [KeyId(u32::from_be_bytes(*id.first_chunk().unwrap()))]);
        let cluster = Cluster::new("lb");
        let greeting = hmac(&root, &[b"greeting", &cluster.0, &[3, 5], &[1]]);
        let seal = ring.keys()[0].greeting(&cluster, VoterIx(3), VoterIx(5));
        assert_eq!(seal.tag(b"text"), hmac(&greeting, &[b"text"])[..TAG]);
    }

    #[test]
    fn every_part_of_the_context_makes_another_key() {
        let ring = parse(&format!("{A}\n{B}")).unwrap();
        let [a, b] = ring.keys() else { panic!("two keys") };
        let (lb, other) = (Cluster::new("lb"), Cluster::new("lb2"));
        let end = |voter, run, nonce| End {
            voter: VoterIx(voter),
            run: Incarnation(run),
            nonce: [nonce; 16],
        };
        let (here, there) = (end(1, 1, 1), end(2, 2, 2));
        let tags = [
            a.session(&lb, &here, &there),
            b.session(&lb, &here, &there),
            a.session(&other, &here, &there),
            a.session(&lb, &there, &here),
            a.session(&lb, &end(3, 1, 1), &there),
            a.session(&lb, &end(1, 3, 1), &there),
            a.session(&lb, &end(1, 1, 3), &there),
            a.session(&lb, &here, &end(2, 2, 3)),
            a.session(&lb, &here, &end(2, 3, 2)),
            a.greeting(&lb, VoterIx(1), VoterIx(2)),
            a.greeting(&lb, VoterIx(2), VoterIx(1)),
            a.greeting(&other, VoterIx(1), VoterIx(2)),
            b.greeting(&lb, VoterIx(1), VoterIx(2)),
            ring.nonces(Incarnation(1)),
        ]
        .map(|seal| seal.tag(b"the same"));
        let different: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(different.len(), tags.len());
    }

    proptest! {
        #[test]
        fn any_file_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Keyring::parse(&bytes);
        }

        #[test]
        fn any_text_of_such_letters_is_survived(text in "[0-9a-f #\n]{0,300}") {
            if let Ok(ring) = parse(&text) {
                prop_assert!((1..=Keyring::MOST).contains(&ring.ids().count()));
            }
        }
    }
}
