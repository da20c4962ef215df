//! Votes where they outlive the process: a mapped file, one record for each group.
//!
//! A store to mapped memory neither waits nor fails, and the kernel keeps it when the process is
//! killed. A record that was cut short by that has a wrong sum: then everything counts as
//! forgotten, and the voter is quiet for as long as a vote could last. The same if it was killed
//! while it was quiet: a new file means something only from the first vote on.

#![allow(unsafe_code, reason = "a shared mapping")]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sha2::{Digest as _, Sha256};

use crate::core::lease::{Grant, Vote};
use crate::types::{GateId, Instant, VoterIx, Voters};

const MAGIC: &[u8; 8] = b"vipd-v2\n";
/// Magic, boot.
const HEAD: usize = 8 + 16;
/// Name, whether and whom, gate, round, until, epoch, of which gate, who is doubted, sum.
const RECORD: usize = 16 + 1 + 1 + 16 + 8 + 8 + 8 + 16 + 4 + 8;

/// The votes of one voter, by group.
#[derive(Debug)]
pub struct Ballots {
    memory: NonNull<u8>,
    size: NonZeroUsize,
    /// Where the file is, and where it is to be.
    paths: (PathBuf, PathBuf),
    /// Where each group's record is.
    places: BTreeMap<u128, usize>,
}

// SAFETY: the mapping belongs to this value alone; nothing is tied to the thread that made it.
unsafe impl Send for Ballots {}

impl Ballots {
    /// The votes to be kept in `path` for these groups, and what an earlier process wrote there
    /// since `boot`, which names the host's current run; `None` if that is gone or broken.
    ///
    /// What is in `path` stays there until [`publish`](Self::publish).
    ///
    /// # Errors
    /// If there is no such file and none can be made, or no memory for it.
    pub fn open<'g>(
        path: &Path,
        boot: u128,
        groups: impl Iterator<Item = &'g str> + Clone,
    ) -> io::Result<(Self, Option<BTreeMap<String, Vote>>)> {
        let known = std::fs::read(path).ok().and_then(|bytes| read(&bytes, boot));
        let names: BTreeMap<u128, &str> = groups.map(|name| (key(name), name)).collect();
        let mut image = Vec::from(if known.is_some() { *MAGIC } else { [0; MAGIC.len()] });
        image.extend(boot.to_be_bytes());
        let mut places = BTreeMap::new();
        // What an earlier file had and this one has not is kept: it may come back.
        let empty = BTreeMap::new();
        let old = known.as_ref().unwrap_or(&empty);
        let fresh = names.keys().filter(|k| !old.contains_key(*k));
        let records = old.iter().map(|(k, v)| (*k, *v));
        for (name, vote) in records.chain(fresh.map(|k| (*k, Vote::default()))) {
            places.insert(name, image.len());
            image.extend(record(name, &vote));
        }
        let new = path.with_extension("new");
        let memory = map(&new, &image)?;
        let paths = (new, path.to_owned());
        let size = NonZeroUsize::new(image.len()).unwrap_or(NonZeroUsize::MIN);
        let votes = known.map(|all| {
            let known = all.iter().filter_map(|(k, v)| Some(((*names.get(k)?).to_owned(), *v)));
            known.collect()
        });
        Ok((Self { memory, size, paths, places }, votes))
    }

    /// Puts this file in the place of the one before: after whatever has happened since that was
    /// read was written here too.
    ///
    /// # Errors
    /// The kernel's; the votes would be those of the file before, hence forgotten if that is old.
    pub fn publish(&self) -> io::Result<()> {
        std::fs::rename(&self.paths.0, &self.paths.1)
    }

    /// From now on nothing is forgotten of what was written: the first vote after a silence.
    pub fn vouch(&mut self) {
        // SAFETY: the mapping begins with the magic, and nobody else writes to it.
        unsafe {
            std::ptr::copy_nonoverlapping(MAGIC.as_ptr(), self.memory.as_ptr(), MAGIC.len());
        }
    }

    /// Writes down a vote; says whether there is room for that group.
    #[must_use]
    pub fn write(&mut self, group: &str, vote: &Vote) -> bool {
        let name = key(group);
        let Some(place) = self.places.get(&name) else { return false };
        let bytes = record(name, vote);
        // SAFETY: every place was put at least a record before the end of the mapping, which
        // nobody else writes to.
        unsafe {
            let to = self.memory.as_ptr().add(*place);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, RECORD);
        }
        true
    }
}

impl Drop for Ballots {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this size, and not used after this.
        let _ = unsafe { munmap(self.memory.cast(), self.size.get()) };
    }
}

/// A new file `path` with `image` in it, mapped.
fn map(path: &Path, image: &[u8]) -> io::Result<NonNull<u8>> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).read(true).write(true).mode(0o600);
    let mut file: File = options.open(path)?;
    // Written, not only sized: a full disk is found out here, not by a store that kills.
    io::Write::write_all(&mut file, image)?;
    let size = NonZeroUsize::new(image.len()).ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new shared mapping of a regular file that is as long; nobody shortens it, as
    // whoever replaces it makes another.
    let memory = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, &file, 0) }?;
    Ok(memory.cast())
}

/// What a group is called where names have a fixed length.
pub fn key(group: &str) -> u128 {
    let digest = Sha256::digest(group.as_bytes());
    digest.iter().take(16).fold(0, |all, byte| all << 8 | u128::from(*byte))
}

fn record(name: u128, vote: &Vote) -> [u8; RECORD] {
    let mut bytes = Vec::with_capacity(RECORD);
    bytes.extend(name.to_be_bytes());
    let nobody = Grant { to: VoterIx(0), gate: GateId(0), round: 0, until: Instant::BOOT };
    let grant = vote.grant.unwrap_or(nobody);
    bytes.extend([u8::from(vote.grant.is_some()), grant.to.0]);
    bytes.extend(grant.gate.0.to_be_bytes());
    bytes.extend(grant.round.to_be_bytes());
    bytes.extend(grant.until.nanos().to_be_bytes());
    bytes.extend(vote.epoch.0.to_be_bytes());
    bytes.extend(vote.epoch.1.0.to_be_bytes());
    bytes.extend(vote.doubted.0.to_be_bytes());
    bytes.extend(sum(&bytes));
    let mut record = [0; RECORD];
    record.copy_from_slice(&bytes);
    record
}

fn sum(bytes: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(bytes);
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

/// The records of a file; `None` if it is of another boot or anything in it is broken.
fn read(bytes: &[u8], boot: u128) -> Option<BTreeMap<u128, Vote>> {
    let (head, records) = bytes.split_at_checked(HEAD)?;
    let (magic, of) = head.split_at(MAGIC.len());
    if magic != MAGIC || of != boot.to_be_bytes() || records.len() % RECORD != 0 {
        return None;
    }
    records.chunks_exact(RECORD).map(read_one).collect()
}

fn read_one(record: &[u8]) -> Option<(u128, Vote)> {
    let (body, check) = record.split_at_checked(RECORD - 8)?;
    if sum(body) != check {
        return None;
    }
    let mut rest = body;
    let mut number = |bytes: usize| -> Option<u128> {
        let (first, after) = rest.split_at_checked(bytes)?;
        rest = after;
        Some(first.iter().fold(0, |all, byte| all << 8 | u128::from(*byte)))
    };
    let name = number(16)?;
    let given = number(1)? != 0;
    let to = VoterIx(u8::try_from(number(1)?).ok()?);
    let gate = GateId(number(16)?);
    let round = u64::try_from(number(8)?).ok()?;
    let until = Instant::from_nanos(u64::try_from(number(8)?).ok()?);
    let epoch = (u64::try_from(number(8)?).ok()?, GateId(number(16)?));
    let doubted = Voters(u32::try_from(number(4)?).ok()?);
    let grant = given.then_some(Grant { to, gate, round, until });
    Some((name, Vote { grant, epoch, doubted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(round: u64) -> Vote {
        let until = Instant::from_nanos(round * 1000);
        let grant = Grant { to: VoterIx(2), gate: GateId(u128::MAX - 7), round, until };
        Vote { grant: Some(grant), epoch: (round, GateId(5)), doubted: Voters(6) }
    }

    #[test]
    fn votes_are_remembered_on_the_same_boot_and_forgotten_if_anything_is_wrong() {
        let dir = std::env::temp_dir().join(format!("vipd-ballots-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("votes");
        let open = |boot, groups: &[&'static str]| {
            let (ballots, votes) = Ballots::open(&path, boot, groups.iter().copied()).unwrap();
            ballots.publish().unwrap();
            (ballots, votes)
        };
        let (mut ballots, before) = open(1, &["a", "b"]);
        assert_eq!(before, None);
        assert!(ballots.write("a", &vote(7)));
        assert!(!ballots.write("c", &vote(7)), "no room was made for it");
        // Killed while it was quiet: there may be votes of a run before that it knows nothing of.
        assert_eq!(open(1, &["a", "b"]).1, None);
        let (mut ballots, _) = open(1, &["a", "b"]);
        assert!(ballots.write("a", &vote(7)));
        ballots.vouch();

        // Not dropped: killed.
        std::mem::forget(ballots);
        let (_, before) = open(1, &["a", "b"]);
        let before = before.unwrap();
        assert_eq!(before["a"], vote(7));
        assert_eq!(before["b"], Vote::default());

        // A group that is gone for a while is not forgotten.
        let (_, before) = open(1, &["b"]);
        assert_eq!(before.unwrap().len(), 1);
        let (_, before) = open(1, &["a", "c"]);
        assert_eq!(before.unwrap()["a"], vote(7));

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (mut ballots, before) = open(1, &["a"]);
        assert_eq!(before, None, "one broken record");
        ballots.vouch();
        assert!(open(1, &["a"]).1.is_some());
        assert_eq!(open(2, &["a"]).1, None, "another boot");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
