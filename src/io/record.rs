//! What outlives the host: the configuration that every voter was last seen with, and how long a
//! vote may have lasted under it and under the one before.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::durable;
use crate::types::Digest;

/// What was written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The configuration.
    pub digest: Option<Digest>,
    /// How long a vote lasts in it.
    pub vote: Duration,
    /// How long one lasted in the one before.
    pub before: Duration,
}

impl Confirmed {
    /// The longest vote that may have been given.
    pub fn longest(&self) -> Duration {
        self.vote.max(self.before)
    }
}

/// The file that it is in.
#[derive(Clone, Debug)]
pub struct Record {
    path: PathBuf,
}

impl Record {
    /// In directory `dir`, which is made if need be.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        Ok(Self { path: dir.join("confirmed") })
    }

    /// What was written last; nothing if that is gone or makes no sense.
    pub fn read(&self) -> Confirmed {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut fields = text.split_whitespace();
        let digest = match fields.next() {
            Some("-") => Some(None),
            Some(text) => u128::from_str_radix(text, 16).ok().map(|n| Some(Digest(n))),
            None => None,
        };
        let mut micros = || fields.next().and_then(|t| t.parse().ok()).map(Duration::from_micros);
        match (digest, micros(), micros()) {
            (Some(digest), Some(vote), Some(before)) => Confirmed { digest, vote, before },
            _ => Confirmed::default(),
        }
    }

    /// Writes down that it is open who has which configuration: before another one than the last
    /// one confirmed is used, so that nobody goes back to that one as if nothing had been.
    ///
    /// # Errors
    /// The disk's.
    pub fn doubt(&self) -> io::Result<()> {
        let was = self.read();
        match was.digest {
            None => Ok(()),
            Some(_) => self.put(&Confirmed { digest: None, ..was }),
        }
    }

    /// [`doubt`](Self::doubt), unless `digest` is the configuration last confirmed.
    ///
    /// # Errors
    /// The disk's.
    pub fn doubt_unless(&self, digest: Digest) -> io::Result<()> {
        if self.read().digest == Some(digest) { Ok(()) } else { self.doubt() }
    }

    /// Writes down that every voter was seen with `digest`, in which a vote lasts for `vote`; it is
    /// on the disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, digest: Digest, vote: Duration) -> io::Result<()> {
        let was = self.read();
        if was.digest == Some(digest) && was.vote == vote {
            return Ok(());
        }
        self.put(&Confirmed { digest: Some(digest), vote, before: was.vote })
    }

    fn put(&self, what: &Confirmed) -> io::Result<()> {
        let digest = what.digest.map_or("-".to_owned(), |d| format!("{:032x}", d.0));
        let text = format!("{digest} {} {}\n", what.vote.as_micros(), what.before.as_micros());
        durable::replace(&self.path, 0o644, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_two_votes_is_remembered() {
        let dir = std::env::temp_dir().join(format!("vipd-record-{}", std::process::id()));
        let record = Record::open(&dir).unwrap();
        assert_eq!(record.read(), Confirmed::default());
        let ms = Duration::from_millis;
        record.write(Digest(7), ms(1050)).unwrap();
        record.write(Digest(8), ms(240)).unwrap();
        record.write(Digest(8), ms(240)).unwrap();
        let read = record.read();
        assert_eq!((read.digest, read.longest()), (Some(Digest(8)), ms(1050)));
        record.doubt().unwrap();
        let read = record.read();
        assert_eq!((read.digest, read.longest()), (None, ms(1050)));
        fs::write(dir.join("confirmed"), "nonsense").unwrap();
        assert_eq!(record.read(), Confirmed::default());
        fs::remove_dir_all(&dir).unwrap();
    }
}
