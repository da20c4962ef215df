//! Whether somebody else could decide what a program does.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// More links than a path that means well has.
const LINKS: usize = 40;
const STICKY: u32 = 0o1000;

/// Why a program is not run.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// It is not there. On another host it may be.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// Somebody may change it, or it cannot be run.
    #[error("{}: {why}", path.display())]
    Unsafe {
        /// The file, or a directory on the way to it.
        path: PathBuf,
        /// What is wrong with it.
        why: Flaw,
    },
}

/// What is wrong with a program, or with the way to it.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// Somebody else could change it.
    #[error("belongs to user {0}, who could change it")]
    Owner(u32),
    /// Everybody may write to it.
    #[error("everybody may write to it (mode {0:04o}); chmod go-w")]
    Everybody(u32),
    /// A group may.
    #[error("group {0} may write to it (mode {1:04o}); chmod go-w")]
    Group(u32, u32),
    /// It is something else.
    #[error("is not a file")]
    NoFile,
    /// Its mode does not let it be run.
    #[error("may not be executed; chmod +x")]
    NotExecutable,
    /// The way to it goes in a circle.
    #[error("too many links")]
    Links,
    /// It cannot be looked at.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

/// Looks at a script, at every directory on the way to it, and at every link in that: each belongs
/// to root or to one of `owners`, and nobody else may write there.
///
/// A directory for all with the sticky bit, as `/tmp`, is let pass: what is in it is looked at, too,
/// and only its owner can take it away.
///
/// # Errors
/// See [`Distrust`].
pub fn look(script: &Path, owners: &[u32]) -> Result<(), Distrust> {
    let mut todo = parts(script);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    let mut is_file = false;
    while let Some(part) = todo.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(&part);
        let bad = |why: Flaw| Distrust::Unsafe { path: at.clone(), why };
        let meta = fs::symlink_metadata(&at).map_err(|e| {
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                Distrust::Missing(script.to_owned())
            } else {
                bad(e.into())
            }
        })?;
        if meta.uid() != 0 && !owners.contains(&meta.uid()) {
            return Err(bad(Flaw::Owner(meta.uid())));
        }
        if meta.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(bad(Flaw::Links));
            }
            let to = fs::read_link(&at).map_err(|e| bad(e.into()))?;
            at = if to.is_absolute() {
                "/".into()
            } else {
                at.parent().map(Path::to_owned).unwrap_or_default()
            };
            todo.extend(parts(&to));
            continue;
        }
        writable(&meta).map_err(bad)?;
        is_file = meta.is_file();
    }
    let bad = |why: Flaw| Distrust::Unsafe { path: at.clone(), why };
    let meta = fs::metadata(&at).map_err(|e| bad(e.into()))?;
    if !is_file {
        Err(bad(Flaw::NoFile))
    } else if meta.mode() & 0o111 == 0 {
        Err(bad(Flaw::NotExecutable))
    } else {
        Ok(())
    }
}

/// The number of a user of this host.
pub fn uid(name: &str) -> Option<u32> {
    nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// The names of a path, the last one first, as they are popped.
fn parts(path: &Path) -> Vec<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(named).collect()
}

fn writable(meta: &Metadata) -> Result<(), Flaw> {
    let mode = meta.mode();
    if meta.is_dir() && mode & STICKY != 0 {
        return Ok(());
    }
    if mode & 0o002 != 0 {
        Err(Flaw::Everybody(mode & 0o7777))
    } else if mode & 0o020 != 0 && meta.gid() != 0 {
        Err(Flaw::Group(meta.gid(), mode & 0o7777))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn whatever_others_may_change_is_refused() {
        let top = std::env::temp_dir().join(format!("vipd-trust-{}", std::process::id()));
        let dir = top.join("a/b");
        fs::create_dir_all(&dir).unwrap();
        let script = dir.join("notify");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let good = || {
            for path in [&top, &top.join("a"), &dir, &script] {
                set(path, 0o755);
            }
            look(&script, &[me])
        };
        good().unwrap();
        let refused = |path: &Path, mode: u32| {
            good().unwrap();
            set(path, mode);
            look(&script, &[me]).unwrap_err().to_string()
        };
        for (path, mode, word) in [
            (&script, 0o757, "everybody may write to it (mode 0757)"),
            (&script, 0o644, "may not be executed"),
            (&dir, 0o777, "everybody"),
            (&top.join("a"), 0o777, "everybody"),
        ] {
            let why = refused(path, mode);
            assert!(why.contains(word) && why.contains(&*path.to_string_lossy()), "{why}");
        }
        good().unwrap();
        set(&dir, 0o1777);
        look(&script, &[me]).unwrap();

        let far = top.join("far");
        symlink("a/../a/b/notify", &far).unwrap();
        good().unwrap();
        look(&far, &[me]).unwrap();
        set(&dir, 0o777);
        assert!(look(&far, &[me]).unwrap_err().to_string().contains("a/b"));
        let circle = top.join("circle");
        symlink("circle", &circle).unwrap();
        assert!(look(&circle, &[me]).unwrap_err().to_string().contains("links"));
        assert!(matches!(look(&top.join("none"), &[me]), Err(Distrust::Missing(_))));
        assert!(look(&top.join("a"), &[me]).unwrap_err().to_string().contains("not a file"));
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn a_stranger_is_refused() {
        let path = std::env::temp_dir().join(format!("vipd-stranger-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        set(&path, 0o755);
        std::os::unix::fs::chown(&path, Some(4711), Some(4711)).expect("this takes root");
        assert!(look(&path, &[1]).unwrap_err().to_string().contains("user 4711"));
        look(&path, &[4711]).unwrap();
        set(&path, 0o775);
        assert!(look(&path, &[4711]).unwrap_err().to_string().contains("group 4711"));
        fs::remove_file(&path).unwrap();
    }
}
