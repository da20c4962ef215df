//! Whether an agent may be run: nobody but root and vipd's own user can have put it there.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::io::trust::{Distrust, Flaw, look};

/// Looks at a program and all directories on the way to it; when it was changed last, and how
/// long it is.
///
/// # Errors
/// In words: there is none, it is no program, or others can change it.
pub(super) fn program(path: &Path) -> Result<(SystemTime, u64), String> {
    let fail = |why: String| format!("{}: {why}", path.display());
    let me = nix::unistd::geteuid().as_raw();
    look(path, &[me]).map_err(|distrust| fail(words(path, distrust)))?;
    let found = fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    let changed = found.modified().map_err(|e| fail(e.to_string()))?;
    Ok((changed, found.len()))
}

fn words(path: &Path, distrust: Distrust) -> String {
    let (at, why) = match distrust {
        Distrust::Missing(_) => return io::Error::from_raw_os_error(libc::ENOENT).to_string(),
        Distrust::Unsafe { path, why } => (path, why),
    };
    let who = match why {
        Flaw::Owner(_) => "its owner, who is neither root nor this user",
        Flaw::Everybody(_) => "everybody",
        Flaw::Group(..) => "its group",
        Flaw::NoFile | Flaw::NotExecutable => return "is not executable".to_owned(),
        Flaw::Links | Flaw::Unreadable(_) => return why.to_string(),
    };
    let is_it = at == path || fs::canonicalize(path).is_ok_and(|real| real == at);
    let what = if is_it { "it" } else { "a directory above it" };
    format!("{what} can be changed by {who}: {}", at.display())
}
