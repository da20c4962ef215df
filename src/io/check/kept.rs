//! A small file that is read again only where it may hold something else by now. To read it takes a
//! thread, which costs more than all else that a look does; what the kernel has in memory it tells
//! without a wait.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statfs, statx,
};

use super::super::clock;
use super::Aside;
use crate::types::Instant;

/// As often as one that seems to be the same is not read; then it is, whatever it seems.
const TRUSTED: u32 = 9;
/// Far more than the coarsest clock that files get their times from takes between two ticks: two
/// changes further apart than that have two marks.
const TICK: Duration = Duration::from_millis(50);
/// File systems (`statfs(2)`) whose files change their times when they change: ext2 to 4, XFS, Btrfs,
/// tmpfs. Those of the kernel's own, such as sysfs, do not.
const HONEST: [i64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// What tells one state of a file from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: (u32, u32),
    inode: u64,
    size: u64,
    written: (i64, u32),
    changed: (i64, u32),
}

/// A file, and what was read there the last time.
pub(super) struct Kept<T> {
    path: PathBuf,
    reading: Aside<io::Result<(T, bool)>>,
    last: Option<Last<T>>,
}

struct Last<T> {
    mark: Mark,
    /// When it was seen first.
    since: Instant,
    held: T,
    /// That was read when whatever changes gets another mark.
    is_settled: bool,
    /// Looks that did not read it since.
    trusted: u32,
}

impl<T: Clone + Send + 'static> Kept<T> {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, reading: Aside::IDLE, last: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What `read` finds in it, or found. May be dropped at any moment, and called again.
    pub(super) async fn get(
        &mut self,
        read: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<io::Result<T>, String> {
        let (now, mark) = (clock::now(), mark(&self.path));
        let mut since = now;
        if let Some(last) = self.last.as_mut().filter(|last| Some(last.mark) == mark) {
            if last.is_settled && last.trusted < TRUSTED {
                last.trusted += 1;
                return Ok(Ok(last.held.clone()));
            }
            since = last.since;
        }
        let path = self.path.clone();
        let work = move || Ok((read(&path)?, is_honest(&path)));
        let (held, is_honest) = match self.reading.run(work).await? {
            Ok(read) => read,
            Err(e) => {
                self.last = None;
                return Ok(Err(e));
            }
        };
        let is_settled = now >= since + TICK;
        let last = |mark| Last { mark, since, held: held.clone(), is_settled, trusted: 0 };
        self.last = mark.filter(|_| is_honest).map(last);
        Ok(Ok(held))
    }
}

/// Whether there is something at `path`, if the kernel knows that from memory.
pub(super) fn is_there(path: &Path) -> Option<bool> {
    match cached(path, OFlags::NOFOLLOW) {
        Ok(_) => Some(true),
        Err(rustix::io::Errno::NOENT) => Some(false),
        Err(_) => None,
    }
}

fn cached(path: &Path, how: OFlags) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let how = how | OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, how, Mode::empty(), ResolveFlags::CACHED)
}

/// `None` where a disk or a server would have to be asked.
fn mark(path: &Path) -> Option<Mark> {
    let file = cached(path, OFlags::empty()).ok()?;
    let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let seen = statx(&file, c"", how, StatxFlags::BASIC_STATS).ok()?;
    let is_file = FileType::from_raw_mode(seen.stx_mode.into()) == FileType::RegularFile;
    is_file.then_some(Mark {
        device: (seen.stx_dev_major, seen.stx_dev_minor),
        inode: seen.stx_ino,
        size: seen.stx_size,
        written: (seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec),
        changed: (seen.stx_ctime.tv_sec, seen.stx_ctime.tv_nsec),
    })
}

fn is_honest(path: &Path) -> bool {
    statfs(path).is_ok_and(|system| HONEST.contains(&system.f_type))
}
