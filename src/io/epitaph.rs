//! Why a host was to be reset: written down before, for the next boot to tell.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Nobody writes more.
const LONGEST: usize = 4096;

fn boot() -> String {
    // Without it every boot is the same, and nothing is told: better than a reset that was none.
    fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned()
}

/// Writes down in `dir` that this host is to be reset, `when` and why; it is on the disk when this
/// returns.
///
/// # Errors
/// The disk's.
pub fn write(dir: &Path, when: &str, why: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let path = dir.join("reset");
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let line = |text: &str| text.replace('\n', " ");
    write!(file, "{}\n{}\n{}\n", boot(), line(when), line(why))?;
    file.sync_all()?;
    // That there is such a file, too: nothing else will be written after this.
    File::open(dir)?.sync_all()
}

/// When and why an earlier boot of this host was to be reset, if it was; told once.
pub fn take(dir: &Path) -> Option<(String, String)> {
    let path = dir.join("reset");
    let text = fs::read_to_string(&path).ok().filter(|text| text.len() <= LONGEST)?;
    let mut lines = text.lines();
    let (of, when, why) = (lines.next()?, lines.next()?, lines.next()?);
    if of == boot() {
        return None;
    }
    // What stays is told again: better than not at all.
    let _ = fs::remove_file(path);
    Some((when.to_owned(), why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_boot_is_told_once() {
        let dir = std::env::temp_dir().join(format!("vipd-epitaph-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(take(&dir), None);
        write(&dir, "today", "web: a\nproxy").unwrap();
        assert_eq!(take(&dir), None, "this boot goes on");
        let text = fs::read_to_string(dir.join("reset")).unwrap();
        fs::write(dir.join("reset"), text.replace(&boot(), "another")).unwrap();
        assert_eq!(take(&dir), Some(("today".to_owned(), "web: a proxy".to_owned())));
        assert_eq!(take(&dir), None);
        fs::write(dir.join("reset"), "half").unwrap();
        assert_eq!(take(&dir), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
