//! Processes that stand still without a signal, as in a paused container.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::clock::wait_until;
use crate::{Error, Result, run};

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

/// A process that not even SIGKILL ends, as one that waits for storage which does not answer; it is
/// killed when this is dropped.
///
/// The freezer of the first version of control groups does that: what is frozen there takes no
/// signal at all.
#[derive(Debug)]
pub struct Unkillable {
    /// Where the file system of the freezer is.
    mount: PathBuf,
    group: PathBuf,
    pid: i32,
}

impl Unkillable {
    /// Makes `pid` such a process; `dir` is a directory for the lab's use.
    ///
    /// # Errors
    /// The kernel has no such freezer, or refuses.
    pub fn make(dir: &Path, pid: i32) -> Result<Self> {
        let mount = dir.join("freezer");
        fs::create_dir_all(&mount).map_err(Error::io(format!("make {}", mount.display())))?;
        nix::mount::mount(
            Some("none"),
            &mount,
            Some("cgroup"),
            nix::mount::MsFlags::empty(),
            Some("freezer"),
        )
        .map_err(Error::errno("mount the freezer"))?;
        let stuck = Self { group: mount.join(format!("vipd-lab-{pid}")), mount, pid };
        let put = |file: &str, text: &str| {
            let path = stuck.group.join(file);
            fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))
        };
        let path = stuck.group.display();
        fs::create_dir(&stuck.group).map_err(Error::io(format!("make {path}")))?;
        put("cgroup.procs", &pid.to_string())?;
        put("freezer.state", "FROZEN")?;
        let state = stuck.group.join("freezer.state");
        wait_until("a frozen process", Duration::from_secs(5), || {
            Ok(fs::read_to_string(&state).is_ok_and(|text| text.trim() == "FROZEN"))
        })?;
        Ok(stuck)
    }

    /// Whether it is still there.
    pub fn lives(&self) -> bool {
        fs::read_to_string(self.group.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
    }
}

impl Drop for Unkillable {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        let _ = fs::write(self.group.join("freezer.state"), "THAWED");
        let _ = wait_until("its end", Duration::from_secs(5), || Ok(!self.lives()));
        let _ = fs::remove_dir(&self.group);
        let _ = nix::mount::umount2(&self.mount, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A disk on which whoever writes waits in uninterruptible sleep, as on storage that is gone. It
/// comes back when this is dropped, or when the process that made it ends.
#[derive(Debug)]
pub struct StuckDisk {
    guard: Child,
    mount: PathBuf,
}

impl StuckDisk {
    /// Makes a small disk below `dir`, which works.
    ///
    /// # Errors
    /// `mkfs.ext4` or the kernel refuses.
    pub fn make(dir: &Path) -> Result<Self> {
        let (image, mount) = (dir.join("disk.img"), dir.join("disk"));
        fs::create_dir_all(&mount).map_err(Error::io(format!("make {}", mount.display())))?;
        let file = fs::File::create(&image).and_then(|file| file.set_len(16 << 20));
        file.map_err(Error::io(format!("make {}", image.display())))?;
        let [image, at] = [&image, &mount].map(|path| path.to_string_lossy().into_owned());
        run::stdout(&["mkfs.ext4", "-q", &image])?;
        run::stdout(&["mount", "-o", "loop", &image, &at])?;
        let script = "trap '' HUP INT TERM\ncat >/dev/null\nfsfreeze -u \"$1\"\n\
                      for i in $(seq 100); do umount \"$1\" && exit; sleep 0.05; done\n";
        let guard = Command::new("sh")
            .args(["-c", script, "guard", &at])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the group of the foreground only.
            .process_group(0)
            .spawn()
            .map_err(Error::io("start sh to thaw a disk"))?;
        Ok(Self { guard, mount })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on whoever writes waits.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn freeze(&self) -> Result {
        run::stdout(&["fsfreeze", "-f", &self.mount.to_string_lossy()]).map(drop)
    }

    /// Whoever waited goes on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(&self) -> Result {
        run::stdout(&["fsfreeze", "-u", &self.mount.to_string_lossy()]).map(drop)
    }
}

impl Drop for StuckDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // It ends by itself.
        let _ = self.guard.wait();
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
