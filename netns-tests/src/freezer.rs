//! Processes that stand still without a signal, as in a paused container.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where the second version of control groups may be; in the first with its name, in the mixed
/// set-up of older distributions.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Processes in a control group of their own that is frozen; they go on when this is dropped.
#[derive(Debug)]
pub struct Freezer {
    group: PathBuf,
    /// Where they were before: where this program is.
    home: PathBuf,
    pids: Vec<i32>,
}

impl Freezer {
    /// Freezes `pids`, in a group called `name`; `None` where there are no such groups.
    ///
    /// # Errors
    /// There are, but the kernel refuses.
    pub fn freeze(name: &str, pids: &[i32]) -> Result<Option<Self>> {
        let Some(root) = root() else { return Ok(None) };
        let group = root.join(name);
        fs::create_dir_all(&group).map_err(Error::io(format!("make {}", group.display())))?;
        let freezer = Self { home: home(&root), group, pids: pids.to_vec() };
        for pid in pids {
            // One that has just ended needs no freezing.
            let _ = fs::write(freezer.group.join("cgroup.procs"), pid.to_string());
        }
        let file = freezer.group.join("cgroup.freeze");
        fs::write(&file, "1").map_err(Error::io(format!("write {}", file.display())))?;
        Ok(Some(freezer))
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.group.join("cgroup.freeze"), "0");
        for pid in &self.pids {
            let _ = fs::write(self.home.join("cgroup.procs"), pid.to_string());
        }
        // Somebody who ended may still be counted: the name is used again, or stays empty.
        let _ = fs::remove_dir(&self.group);
    }
}

fn home(root: &Path) -> PathBuf {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    root.join(own)
}

fn root() -> Option<PathBuf> {
    let usable = |root: &&Path| {
        root.join("cgroup.controllers").is_file()
            && nix::unistd::access(*root, nix::unistd::AccessFlags::W_OK).is_ok()
    };
    ROOTS.map(Path::new).iter().find(|root| usable(root)).map(|root| root.to_path_buf())
}
