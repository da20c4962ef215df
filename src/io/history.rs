//! What must not be forgotten when the daemon or its host is started anew: the notes about fencing,
//! in a file of lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::durable;
use super::events::Record;
use crate::core::event::Past;

/// How many notes are kept.
pub const KEPT: usize = 256;
/// No line is longer, in bytes: what is was not written by us.
const LONGEST: usize = 16 << 10;
const HOUR: Duration = Duration::from_hours(1);

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
        let lines = kept.iter().map(line).collect::<io::Result<Vec<_>>>()?;
        durable::replace(&self.path, 0o600, &lines.concat())?;
        self.lines = kept.len();
        Ok(())
    }
}

/// What the notes in directory `dir` tell of the last hour: what this node did to the power of
/// others, and how far it came.
pub fn past(dir: &Path) -> Vec<Past> {
    recent(&History::open(dir).1, Timestamp::now())
}

fn recent(records: &[Record], now: Timestamp) -> Vec<Past> {
    let mut all: BTreeMap<&str, Past> = BTreeMap::new();
    for Record { wall, note, .. } in records {
        let Some(node) = note.about.as_deref() else { continue };
        // A clock that was set back makes it new, not old.
        let ago = Duration::try_from(now.duration_since(*wall)).unwrap_or_default();
        if ago >= HOUR {
            continue;
        }
        let past = all.entry(node).or_default();
        match note.kind.as_str() {
            "fence-started" => past.unfinished = true,
            "fence-done" => {
                past.fenced.push(ago);
                (past.off, past.unfinished) = (true, false);
            }
            "fence-failed" | "fence-heard" => past.unfinished = false,
            "fence-confirmed" | "fence-returned" => (past.off, past.unfinished) = (false, false),
            "fence-switched-on" | "fence-stays-off" => past.off = false,
            _ => {}
        }
    }
    let named = all.into_iter().map(|(node, past)| Past { node: node.to_owned(), ..past });
    named.collect()
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
        let wall = Timestamp::from_second(1_700_000_000).unwrap();
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
    fn what_was_done_within_the_hour_and_how_far_it_came() {
        const DONE: [&str; 2] = ["fence-started", "fence-done"];
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let told = |minutes: i64, kind: &str| {
            let mut told = record(1);
            told.wall = Timestamp::from_second(now.as_second() - 60 * minutes).unwrap();
            told.note.kind = kind.to_owned();
            told.note.about = Some("hap1".to_owned());
            told
        };
        // How many are kept, whether it is off, whether that is not known.
        let rows: [(&[&str], usize, bool, bool); 7] = [
            (&["fence-started"], 0, false, true),
            (&DONE, 1, true, false),
            (&["fence-started", "fence-failed"], 0, false, false),
            (&["fence-started", "fence-heard"], 0, false, false),
            (&["fence-done", "fence-switched-on", "fence-started"], 1, false, true),
            (&["fence-done", "fence-stays-off"], 1, false, false),
            (&["fence-done", "fence-returned", "fence-done"], 2, true, false),
        ];
        for (kinds, times, off, unfinished) in rows {
            let records: Vec<_> = kinds.iter().map(|kind| told(10, kind)).collect();
            let fenced = vec![Duration::from_mins(10); times];
            let node = "hap1".to_owned();
            let past = [Past { node, fenced, off, unfinished }];
            assert_eq!(recent(&records, now), past, "{kinds:?}");
        }
        assert_eq!(recent(&DONE.map(|kind| told(60, kind)), now), []);
        let early = recent(&DONE.map(|kind| told(-5, kind)), now);
        assert_eq!(early[0].fenced, [Duration::ZERO]);
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
