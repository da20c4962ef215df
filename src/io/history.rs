//! What must not be forgotten when the daemon or its host is started anew: the notes about fencing,
//! in a file of lines.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::events::Record;

/// How many notes are kept.
pub const KEPT: usize = 256;
/// No line is longer, in bytes: what is was not written by us.
const LONGEST: usize = 16 << 10;

/// The file, and how many lines it has.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    lines: usize,
}

impl History {
    /// That in directory `dir`, and what it holds, oldest first. Lines that make no sense, such as
    /// one that a power cut left half written, are passed over.
    pub fn open(dir: &Path) -> (Self, Vec<Record>) {
        let path = dir.join("fencing");
        let known = fs::File::open(&path).map(|file| read(io::BufReader::new(file)));
        let mut known = known.unwrap_or_default();
        let lines = known.len();
        known.drain(..lines.saturating_sub(KEPT));
        (Self { path, lines }, known)
    }

    /// Adds a note; it is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        if self.lines >= 2 * KEPT {
            self.shorten()?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(&line(record)?)?;
        self.lines += 1;
        file.sync_data()
    }

    /// Leaves the latest notes in the file.
    fn shorten(&mut self) -> io::Result<()> {
        let mut kept = read(io::BufReader::new(fs::File::open(&self.path)?));
        kept.drain(..kept.len().saturating_sub(KEPT));
        let new = self.path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        for record in &kept {
            file.write_all(&line(record)?)?;
        }
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.lines = kept.len();
        self.path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    }
}

/// A line of its own even if the one before was cut short.
fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, record)?;
    line.push(b'\n');
    Ok(line)
}

fn read(mut file: impl io::BufRead) -> Vec<Record> {
    let mut all = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut part = io::Read::take(&mut file, LONGEST as u64);
        match part.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return all,
            Ok(_) => all.extend(serde_json::from_slice::<Record>(&line).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::{Note, Severity};
    use crate::types::Instant;

    fn record(id: u64) -> Record {
        let note = Note {
            at: Instant::from_nanos(id),
            severity: Severity::Warn,
            group: None,
            kind: "fence-done".to_owned(),
            text: format!("hap1\nis off, {id}"),
            about: None,
        };
        let wall = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        Record { id, wall, node: "hap2".to_owned(), note }
    }

    #[test]
    fn what_was_written_is_read_again_whatever_cut_it_short() {
        let dir = std::env::temp_dir().join(format!("vipd-history-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (mut history, known) = History::open(&dir);
        assert_eq!(known, []);
        history.add(&record(1)).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(dir.join("fencing")).unwrap();
        file.write_all(b"{\"id\":7,\"wall\"").unwrap();
        history.add(&record(2)).unwrap();
        assert_eq!(History::open(&dir).1, [record(1), record(2)]);
        fs::write(dir.join("fencing"), vec![b'x'; 3 * LONGEST]).unwrap();
        assert_eq!(History::open(&dir).1, []);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let dir = std::env::temp_dir().join(format!("vipd-history-long-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (mut history, mut all) = History::open(&dir);
        for id in 0..3 * KEPT as u64 {
            all.push(record(id));
            all.drain(..all.len().saturating_sub(KEPT));
            history.add(&record(id)).unwrap();
        }
        let (history, known) = History::open(&dir);
        assert_eq!(known, all);
        assert!(history.lines < 2 * KEPT + 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
