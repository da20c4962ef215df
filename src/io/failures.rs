//! The failures of proxies, where they outlive the daemon and its host: a file of lines, written
//! anew as a whole.
//!
//! Each failure has two times. Within one boot the boot clock tells how long ago it was, whatever
//! became of the wall clock. After another boot only the wall clock can: one that was set back since
//! makes a failure new, so that it is forgotten late and not never; one that was set forward has it
//! forgotten early.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durable;
use crate::core::event::{Failures, MOST_FAILURES};
use crate::types::Instant;

/// The largest file that is read: what is larger was not written by us.
const LONGEST: u64 = 8 << 20;

/// The file.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
}

/// A moment on three clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The boot clock.
    pub boot: Instant,
    /// Milliseconds since 1970, UTC.
    pub utc: u64,
    /// Names the boot.
    pub id: String,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    group: String,
    last: Option<Box<str>>,
    /// The boot in which these were written.
    boot: String,
    /// When each failure was: milliseconds since 1970, UTC, and of the boot clock.
    failures: Vec<(u64, i64)>,
}

impl File {
    /// That in directory `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("failures") }
    }

    /// What was written last, as of `now`. Lines that make no sense are passed over: to forget
    /// failures does little harm.
    pub fn read(&self, now: &Moment) -> Vec<Failures> {
        let mut bytes = Vec::new();
        match fs::File::open(&self.path).and_then(|f| f.take(LONGEST).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: {error}", self.path.display()),
        }
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let read = |line: &[u8]| match serde_json::from_slice::<Line>(line) {
            Ok(line) => Some(line.failures(now)),
            Err(error) => {
                tracing::warn!("{}: a line makes no sense: {error}", self.path.display());
                None
            }
        };
        lines.filter_map(read).collect()
    }

    /// Writes everything down; it is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, now: &Moment, all: &[Failures]) -> io::Result<()> {
        let mut text = Vec::new();
        for failures in all {
            serde_json::to_writer(&mut text, &Line::of(now, failures))?;
            text.push(b'\n');
        }
        durable::replace(&self.path, 0o600, &text)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn boot_millis(now: &Moment) -> i64 {
    i64::try_from(now.boot.nanos() / 1_000_000).unwrap_or(i64::MAX)
}

impl Line {
    fn of(now: &Moment, failures: &Failures) -> Self {
        let at = |ago: &Duration| {
            let ago = millis(*ago);
            // It may have been before this boot.
            let boot = boot_millis(now).saturating_sub_unsigned(ago);
            (now.utc.saturating_sub(ago), boot)
        };
        let Failures { group, ago, last } = failures;
        let failures = ago.iter().map(at).collect();
        Self { group: group.clone(), last: last.clone(), boot: now.id.clone(), failures }
    }

    fn failures(self, now: &Moment) -> Failures {
        let ago = |(utc, boot): &(u64, i64)| {
            let since = boot_millis(now).saturating_sub(*boot);
            let millis = match u64::try_from(since) {
                Ok(since) if self.boot == now.id => since,
                _ => now.utc.saturating_sub(*utc),
            };
            Duration::from_millis(millis)
        };
        let ago = self.failures.iter().take(MOST_FAILURES).map(ago).collect();
        Failures { group: self.group, ago, last: self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn moment(boot: u64, utc: u64, id: &str) -> Moment {
        Moment { boot: Instant::from_nanos(boot * 1_000_000_000), utc: utc * 1000, id: id.into() }
    }

    fn kept(ago: &[Duration]) -> Vec<Failures> {
        let last = Some("killed by signal 9".into());
        vec![Failures { group: "web".to_owned(), ago: ago.to_vec(), last }]
    }

    fn file(name: &str) -> (PathBuf, File) {
        let dir = std::env::temp_dir().join(format!("vipd-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        (dir.clone(), File::new(&dir))
    }

    #[test]
    fn failures_age_by_the_boot_clock_and_after_a_boot_by_the_wall_clock() {
        let (dir, file) = file("failures");
        assert_eq!(file.read(&moment(1, 1, "a")), []);
        file.write(&moment(100, 1_000_000, "a"), &kept(&[MINUTE, Duration::ZERO])).unwrap();
        let rows = [
            // A minute later; the same with the wall clock set forward or back.
            (moment(160, 1_000_060, "a"), [2 * MINUTE, MINUTE]),
            (moment(160, 9_000_000, "a"), [2 * MINUTE, MINUTE]),
            (moment(160, 3, "a"), [2 * MINUTE, MINUTE]),
            // Another boot, and one with the wall clock set back.
            (moment(5, 1_000_060, "b"), [2 * MINUTE, MINUTE]),
            (moment(5, 3, "b"), [Duration::ZERO, Duration::ZERO]),
        ];
        for (now, ago) in rows {
            assert_eq!(file.read(&now), kept(&ago), "{now:?}");
        }
        // Before this boot, as it was kept in the one before.
        file.write(&moment(5, 1_000_060, "b"), &kept(&[2 * MINUTE])).unwrap();
        assert_eq!(file.read(&moment(65, 7, "b")), kept(&[3 * MINUTE]));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_passed_over_and_a_full_disk_changes_nothing() {
        let (dir, file) = file("failures-broken");
        let now = moment(100, 1_000_000, "a");
        file.write(&now, &kept(&[MINUTE])).unwrap();
        let mut bytes = fs::read(dir.join("failures")).unwrap();
        bytes.extend(b"{\"group\":nonsense\n");
        fs::write(dir.join("failures"), &bytes).unwrap();
        assert_eq!(file.read(&now), kept(&[MINUTE]));
        std::os::unix::fs::symlink("/dev/full", dir.join("failures.new")).unwrap();
        assert!(file.write(&now, &[]).is_err());
        assert_eq!(file.read(&now), kept(&[MINUTE]));
        fs::remove_dir_all(&dir).unwrap();
    }
}
