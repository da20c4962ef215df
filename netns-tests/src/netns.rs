//! Network namespaces by name.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use crate::{Error, Result};

/// Where `ip netns` keeps the name `namespace`.
pub fn path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// Runs `f` on a thread of its own inside `namespace`.
///
/// A socket made there stays there, whichever thread uses it afterwards.
pub fn run_in<T: Send>(namespace: &str, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let at = path(namespace);
    let file = File::open(&at).map_err(Error::io(format!("open {}", at.display())))?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(Error::errno(format!("enter {namespace}")))?;
                f()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The processes that live in `namespace`.
pub fn processes(namespace: &str) -> Vec<i32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = std::fs::metadata(path(namespace)) else { return Vec::new() };
    all_pids()
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|m| (m.dev(), m.ino()) == (wanted.dev(), wanted.ino()))
        })
        .collect()
}

/// Every process there is.
pub(crate) fn all_pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
