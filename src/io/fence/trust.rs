//! Whether a program may be run: nobody but root and vipd's own user can have put it there.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// Looks at a program and all directories on the way to it; when it was changed last, and how
/// long it is.
///
/// # Errors
/// In words: there is none, it is no program, or others can change it.
pub(super) fn program(path: &Path) -> Result<(SystemTime, u64), String> {
    let fail = |why: String| format!("{}: {why}", path.display());
    let real = fs::canonicalize(path).map_err(|e| fail(e.to_string()))?;
    let found = fs::metadata(&real).map_err(|e| fail(e.to_string()))?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err(fail("is not executable".to_owned()));
    }
    let me = nix::unistd::geteuid().as_raw();
    // The link itself may be in another place than what it points to.
    for way in [path, &real] {
        for step in way.ancestors() {
            let found = fs::symlink_metadata(step).map_err(|e| fail(e.to_string()))?;
            if let Some(who) = changeable(&found, me) {
                let what = if step == path || step == real { "it" } else { "a directory above it" };
                return Err(fail(format!("{what} can be changed by {who}: {}", step.display())));
            }
        }
    }
    let changed = found.modified().map_err(|e| fail(e.to_string()))?;
    Ok((changed, found.len()))
}

/// Who else can change it.
fn changeable(found: &Metadata, me: u32) -> Option<&'static str> {
    // In a sticky directory nobody touches what is another's.
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    if found.uid() != 0 && found.uid() != me {
        Some("its owner, who is neither root nor this user")
    } else if found.is_symlink() || sticky {
        None
    } else if found.mode() & 0o002 != 0 {
        Some("everybody")
    } else if found.mode() & 0o020 != 0 && found.gid() != 0 {
        Some("its group")
    } else {
        None
    }
}
