//! The process whose number is in a file is there. Its end is seen at once, on a pidfd.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::http::reason;
use super::super::proxy::pidfd::{self, Pidfd};
use super::Limit;
use super::kept::Kept;

/// Nothing that holds a number is longer, in bytes.
const LONGEST: u64 = 4096;

pub(super) struct Process {
    file: Kept<u32>,
    /// The process that was there.
    held: Option<(u32, Pidfd)>,
}

impl Process {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { file: Kept::new(path), held: None }
    }

    pub(super) async fn look(&mut self, limit: &mut Limit) -> Result<String, String> {
        let shown = self.file.path().display().to_string();
        let reading = self.file.get(read);
        let read = limit.of(reading, &format!("{shown} cannot be read")).await??;
        let pid = match read {
            Ok(pid) => pid,
            Err(e) => {
                self.held = None;
                return Err(match e.raw_os_error() {
                    Some(libc::ENOENT) => format!("there is no {shown}"),
                    Some(_) => format!("{shown}: {}", reason(&e)),
                    None => format!("{shown} holds no process number"),
                });
            }
        };
        if self.held.as_ref().is_none_or(|(held, fd)| *held != pid || has_ended(fd)) {
            // A number may be given again; the file says that it is this one's still.
            self.held = pidfd::open(pid).ok().map(|fd| (pid, fd));
        }
        match &self.held {
            Some((_, fd)) if !has_ended(fd) => Ok(format!("process {pid} is there")),
            _ => {
                self.held = None;
                Err(format!("process {pid} of {shown} is gone"))
            }
        }
    }

    /// Waits until the process that was there ended.
    pub(super) async fn changed(&mut self) {
        match &self.held {
            Some((_, fd)) if fd.readable().await.is_ok() => self.held = None,
            _ => std::future::pending().await,
        }
    }
}

/// Also where nobody has reaped it yet. The kernel is asked, for the runtime hears of it later.
fn has_ended(fd: &Pidfd) -> bool {
    let mut fds = [PollFd::new(fd.get_ref().as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn read(path: &Path) -> io::Result<u32> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
    number.filter(|pid| *pid > 0).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
