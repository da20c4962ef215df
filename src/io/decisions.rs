//! What operators have decided, where it outlives the host: a file of lines, written anew as a
//! whole.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durable;
use crate::core::will::{Decision, MOST};

/// The largest file that is read: what is larger was not written by us.
const LONGEST: u64 = 1 << 20;

/// The file.
#[derive(Clone, Debug)]
pub struct Decisions {
    path: PathBuf,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    /// When it is over: milliseconds since 1970, UTC.
    until: Option<u64>,
    #[serde(flatten)]
    decision: Decision,
}

impl Decisions {
    /// That in directory `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("decisions") }
    }

    /// What was written last, as of `now`, milliseconds since 1970, UTC; and what is wrong with the
    /// file, in words. What makes no sense is passed over, and a copy of the file kept beside it.
    pub fn read(&self, now: u64) -> (Vec<Decision>, Option<String>) {
        let mut bytes = Vec::new();
        let file = fs::File::open(&self.path);
        match file.and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), None),
            Err(error) => return (Vec::new(), Some(format!("{}: {error}", self.path.display()))),
        }
        let lines: Vec<_> = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let good: Vec<_> =
            lines.iter().filter_map(|line| serde_json::from_slice::<Line>(line).ok()).collect();
        let bad = lines.len() - good.len();
        let trouble = (bad > 0 || good.len() > MOST).then(|| {
            // For whoever wants to look at it; without it the words must do.
            let _ = fs::copy(&self.path, self.path.with_extension("bad"));
            format!("{}: {bad} of {} lines make no sense", self.path.display(), lines.len())
        });
        (good.into_iter().take(MOST).map(|line| line.decision(now)).collect(), trouble)
    }

    /// Writes everything down; it is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, now: u64, all: &[Decision]) -> io::Result<()> {
        let mut text = Vec::new();
        for decision in all {
            let left =
                decision.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let until = left.map(|left| now.saturating_add(left));
            serde_json::to_writer(&mut text, &Line { until, decision: decision.clone() })?;
            text.push(b'\n');
        }
        durable::replace(&self.path, 0o600, &text)
    }
}

impl Line {
    /// Time goes on while the host is off. A clock that was set back adds none.
    fn decision(self, now: u64) -> Decision {
        let left = self.until.map(|until| Duration::from_millis(until.saturating_sub(now)));
        let left = left.or(self.decision.left).min(self.decision.left);
        Decision { left, ..self.decision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::will::{About, Text};
    use crate::types::VoterIx;

    const HOUR: Duration = Duration::from_hours(1);

    fn decision(about: About, left: Option<Duration>) -> Decision {
        let (by, why) = (Text::new("root on hap1"), Text::new("a\ndisk"));
        Decision { about, on: true, version: 7, origin: VoterIx(1), at: 5, left, by, why }
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vipd-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn what_was_written_is_read_again_and_time_has_gone_on() {
        let dir = dir("decisions");
        let file = Decisions::new(&dir);
        assert_eq!(file.read(0), (Vec::new(), None));
        let ban = About::ban("web", "hap2");
        let all = [decision(About::standby("hap1"), None), decision(ban.clone(), Some(HOUR))];
        file.write(1_000_000, &all).unwrap();
        let later = [all[0].clone(), decision(ban.clone(), Some(HOUR / 4))];
        assert_eq!(file.read(1_000_000 + 2_700_000), (later.to_vec(), None));
        let over = [all[0].clone(), decision(ban, Some(Duration::ZERO))];
        assert_eq!(file.read(1_000_000_000).0, over);
        assert_eq!(file.read(0).0, all, "a clock that was set back adds nothing");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_broken_file_is_told_and_what_is_good_of_it_is_used() {
        let dir = dir("decisions-broken");
        let file = Decisions::new(&dir);
        let all = [decision(About::standby("hap1"), None)];
        file.write(0, &all).unwrap();
        let mut bytes = fs::read(dir.join("decisions")).unwrap();
        bytes.extend(b"{\"until\":nonsense");
        fs::write(dir.join("decisions"), &bytes).unwrap();
        let (read, trouble) = file.read(0);
        assert_eq!(read, all);
        assert!(trouble.unwrap().contains("1 of 2 lines"));
        assert_eq!(fs::read(dir.join("decisions.bad")).unwrap(), bytes);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error_and_what_was_there_stays() {
        let dir = dir("decisions-full");
        let file = Decisions::new(&dir);
        let all = [decision(About::standby("hap1"), None)];
        file.write(0, &all).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.join("decisions.new")).unwrap();
        assert!(file.write(0, &[]).is_err());
        assert_eq!(file.read(0), (all.to_vec(), None));
        fs::remove_dir_all(&dir).unwrap();
    }
}
