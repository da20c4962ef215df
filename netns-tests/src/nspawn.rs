//! Hosts with a real systemd, D-Bus, polkit and `HAProxy`: Debian in `systemd-nspawn` containers.
//!
//! The root file system is made once and kept; each host writes to an overlay of its own. A host
//! has its own network namespace always: never the machine's.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`, and for the first time a Debian mirror.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::peer::vipd::binary;

/// The release.
const SUITE: &str = "bookworm";
/// The name of the kept root: another one for other packages.
const ROOT: &str = "bookworm-2";
/// What a host has beyond the minimum. polkitd wants a logind, `fence_ipmilan` the last three.
const PACKAGES: &str = "systemd,systemd-sysv,libpam-systemd,dbus,udev,iproute2,procps,haproxy,\
                        polkitd,kmod,ipmitool,python3-pexpect,python3-pycurl";
/// What the cgroups of all hosts are called, with the process that made them and the host.
const CGROUP: &str = "vipd-lab";
/// How long a host may take to boot or to shut down.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a command in a host may take.
const COMMAND_SECONDS: &str = "60";

/// The files of the package, by their names under `systemd/`, for a service that cares for a unit.
pub const SERVICE: [&str; 4] =
    ["vipd.service", "vipd-gate.service", "vipd.sysusers", "50-vipd.rules"];

/// How many hosts this process had: several may have the same name.
static HOSTS: AtomicU32 = AtomicU32::new(0);

/// What went wrong with a host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a program.
    #[error("{what}: {source}")]
    Io {
        /// Doing what.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The root file system could not be made.
    #[error("debootstrap: {status}; see {log}")]
    Debootstrap {
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Where its output is.
        log: PathBuf,
    },
    /// A host did not come up.
    #[error("host {name} does not boot: {state:?}; its console:\n{console}")]
    Boot {
        /// Which.
        name: String,
        /// What `systemctl is-system-running` says.
        state: String,
        /// The end of its console.
        console: String,
    },
}

fn io<T>(what: impl Into<String>, result: Result<T, impl Into<io::Error>>) -> Result<T, Error> {
    result.map_err(|e| Error::Io { what: what.into(), source: e.into() })
}

/// The root file system that all hosts share, read-only.
#[derive(Clone, Debug)]
pub struct Rootfs {
    base: PathBuf,
}

impl Rootfs {
    /// Finds the root file system or makes it, which takes a minute and a mirror.
    ///
    /// It is kept below `target/nspawn`, or in `VIPD_NSPAWN_DIR`.
    ///
    /// # Errors
    /// What `debootstrap` or the file system says.
    pub fn ensure() -> Result<Self, Error> {
        let base = std::env::var_os("VIPD_NSPAWN_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nspawn"),
            PathBuf::from,
        );
        io(format!("create {}", base.display()), fs::create_dir_all(&base))?;
        let base = io("find the directory of the hosts", base.canonicalize())?;
        let lock = io("create the lock", File::create(base.join("lock")))?;
        let _one_at_a_time =
            io("lock", Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno))?;
        let rootfs = Self { base };
        if !rootfs.path().exists() {
            rootfs.make()?;
        }
        rootfs.sweep();
        Ok(rootfs)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.base.join(ROOT)
    }

    fn make(&self) -> Result<(), Error> {
        let partial = self.base.join(format!("{ROOT}.partial"));
        let log = self.base.join("debootstrap.log");
        if partial.exists() {
            io("remove a half-made root", fs::remove_dir_all(&partial))?;
        }
        let output = io("create debootstrap.log", File::create(&log))?;
        let errors = io("create debootstrap.log", output.try_clone())?;
        let status = Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
            .arg(&partial)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .status();
        let status = io("run debootstrap", status)?;
        if !status.success() {
            return Err(Error::Debootstrap { status, log });
        }
        io("put the root in place", fs::rename(&partial, self.path()))
    }

    /// Ends the hosts of processes that were killed before they could.
    fn sweep(&self) {
        for dir in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let name = dir.file_name().to_string_lossy().into_owned();
            let Some(owner) = name.strip_prefix("host-").and_then(|n| n.split('-').next()) else {
                continue;
            };
            if !Path::new("/proc").join(owner).exists() {
                clean_up(&dir.path(), &name);
            }
        }
    }
}

/// A host that runs.
#[derive(Debug)]
pub struct Host {
    name: String,
    /// Overlay, mount point and console.
    dir: PathBuf,
    nspawn: Child,
    leader: Pid,
}

impl Host {
    /// Boots a host and waits until it is up.
    ///
    /// `netns` is the path of its network namespace; without one it has a new one with a
    /// loopback interface.
    ///
    /// # Errors
    /// What could not be made, or the console of a host that does not come up.
    pub fn boot(name: &str, netns: Option<&str>) -> Result<Self, Error> {
        let rootfs = Rootfs::ensure()?;
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let dir = rootfs.base.join(format!("host-{}-{number}-{name}", std::process::id()));
        let made = overlay(&rootfs, &dir, name).and_then(|()| launch(&dir, name, netns));
        let nspawn = made.inspect_err(|_| clean_up(&dir, &label(&dir)))?;
        let mut host = Self { name: name.to_owned(), dir, nspawn, leader: Pid::from_raw(0) };
        host.wait_until_up()?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that is its init.
    pub fn leader(&self) -> Pid {
        self.leader
    }

    /// The D-Bus address of its system bus, as seen from the machine.
    pub fn bus_address(&self) -> String {
        format!("unix:path={}", self.path("/run/dbus/system_bus_socket").display())
    }

    /// A file of the host, as seen from the machine.
    pub fn path(&self, inside: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.leader));
        root.join(inside.trim_start_matches('/'))
    }

    /// Runs a program in the host; ends it after a minute.
    ///
    /// # Errors
    /// If `nsenter` could not be run; what the program says is in the output.
    pub fn run<const N: usize>(&self, argv: [&str; N]) -> Result<Output, Error> {
        let output = self.command(&argv).output();
        io(format!("{}: {}", self.name, argv.join(" ")), output)
    }

    /// Runs a script in the host until its first failure; its standard output if there is none.
    ///
    /// # Panics
    /// If it fails, with everything it said.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(["/bin/sh", "-ec", script]);
        let output = output.unwrap_or_else(|e| panic!("{e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}: {text}{errors}", self.name);
        text.trim_end().to_owned()
    }

    /// Writes a file with `mode` in the host and makes the directories above it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, inside: &str, text: &[u8], mode: u32) -> Result<(), Error> {
        let path = self.path(inside);
        if let Some(above) = path.parent() {
            io(format!("create {}", above.display()), fs::create_dir_all(above))?;
        }
        io(format!("write {inside}"), fs::write(&path, text))?;
        io(format!("chmod {inside}"), fs::set_permissions(&path, PermissionsExt::from_mode(mode)))
    }

    /// Copies a file of the machine into the host.
    ///
    /// # Errors
    /// What the file system says.
    pub fn copy_in(&self, from: &Path, inside: &str, mode: u32) -> Result<(), Error> {
        let bytes = io(format!("read {}", from.display()), fs::read(from))?;
        self.write(inside, &bytes, mode)
    }

    /// Copies files of the package to where it has them, by their names under `systemd/`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn install(&self, files: &[&str]) -> Result<(), Error> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
        files.iter().try_for_each(|name| {
            let installed = match name.rsplit_once('.') {
                Some((stem, "sysusers")) => format!("/usr/lib/sysusers.d/{stem}.conf"),
                Some((_, "rules")) => format!("/usr/share/polkit-1/rules.d/{name}"),
                _ => format!("/usr/lib/systemd/system/{name}"),
            };
            self.copy_in(&sources.join(name), &installed, 0o644)
        })
    }

    /// Copies the programs of the package in.
    ///
    /// # Errors
    /// They were not built.
    pub fn install_programs(&self) -> Result<(), Error> {
        ["vipd", "vipctl"].iter().try_for_each(|program| {
            let built = io(format!("find {program}"), binary(program).map_err(io::Error::other))?;
            self.copy_in(&built, &format!("/usr/bin/{program}"), 0o755)
        })
    }

    /// Shuts it down as an operator would.
    ///
    /// # Errors
    /// If it does not end in time; it is then killed.
    pub fn stop(mut self) -> Result<(), Error> {
        // nspawn passes it on as the signal that makes systemd power off.
        let _ = kill(self.nspawn_pid(), Signal::SIGTERM);
        let ended = wait_for(|| matches!(self.nspawn.try_wait(), Ok(Some(_)) | Err(_)));
        if ended { Ok(()) } else { io(format!("stop {}", self.name), Err(Errno::ETIMEDOUT)) }
    }

    /// Cuts its power: every process is gone when this returns, nothing was told to anybody.
    pub fn power_off(mut self) {
        self.cut();
    }

    fn cut(&mut self) {
        if self.leader.as_raw() > 1 {
            let _ = kill(self.leader, Signal::SIGKILL);
            wait_for(|| kill(self.leader, None).is_err());
        }
    }

    fn nspawn_pid(&self) -> Pid {
        Pid::from_raw(self.nspawn.id().cast_signed())
    }

    fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "1", COMMAND_SECONDS, "nsenter", "-a", "-t", &self.leader.to_string()])
            .arg("--")
            .args(argv)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    fn wait_until_up(&mut self) -> Result<(), Error> {
        let mut state = String::new();
        let up = wait_for(|| {
            if matches!(self.nspawn.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            let Some(leader) = only_child(self.nspawn_pid()) else { return false };
            self.leader = leader;
            let asked = self.command(&["systemctl", "is-system-running"]).output();
            state = asked
                .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
                .unwrap_or_default();
            matches!(&*state, "running" | "degraded")
        });
        if up && matches!(&*state, "running" | "degraded") {
            return Ok(());
        }
        let console = fs::read_to_string(self.dir.join("console.log")).unwrap_or_default();
        Err(Error::Boot { name: self.name.clone(), state, console })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.cut();
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        clean_up(&self.dir, &label(&self.dir));
    }
}

/// Polls, for lack of an event; `false` if it takes longer than a host may take.
pub fn wait_for(mut test: impl FnMut() -> bool) -> bool {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut left = PATIENCE;
    while !test() {
        if left.is_zero() {
            return false;
        }
        left = left.saturating_sub(PAUSE);
        #[allow(clippy::disallowed_methods, reason = "a boot has no event that can be waited for")]
        std::thread::sleep(PAUSE);
    }
    true
}

fn label(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn overlay(rootfs: &Rootfs, dir: &Path, name: &str) -> Result<(), Error> {
    for part in ["upper/etc", "work", "root"] {
        io(format!("create {}", dir.display()), fs::create_dir_all(dir.join(part)))?;
    }
    // With an identity of its own it is not a first boot, which would enable every unit.
    let mut random = [0; 16];
    io(
        "read /dev/urandom",
        File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)),
    )?;
    let id = format!("{:032x}\n", u128::from_ne_bytes(random));
    io("write machine-id", fs::write(dir.join("upper/etc/machine-id"), id))?;
    io("write hostname", fs::write(dir.join("upper/etc/hostname"), format!("{name}\n")))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        rootfs.path().display(),
        dir.join("upper").display(),
        dir.join("work").display()
    );
    let none = None::<&str>;
    let mounted =
        mount(none, &dir.join("root"), Some("overlay"), MsFlags::empty(), Some(&*options));
    io(format!("mount an overlay: {options}"), mounted)
}

fn launch(dir: &Path, name: &str, netns: Option<&str>) -> Result<Child, Error> {
    let console = io("create console.log", File::create(dir.join("console.log")))?;
    let errors = io("create console.log", console.try_clone())?;
    let groups = cgroups(&label(dir));
    for group in &groups {
        io(format!("create {}", group.display()), fs::create_dir_all(group))?;
    }
    // nspawn puts the host into a cgroup next to its own, hence must have one of its own.
    let enter: Vec<_> =
        groups.iter().map(|g| format!("echo $$ > {}/cgroup.procs && ", g.display())).collect();
    let script = enter.concat() + "exec systemd-nspawn \"$@\"";
    let network = netns.map_or_else(
        || "--private-network".to_owned(),
        |path| format!("--network-namespace-path={path}"),
    );
    let child = Command::new("/bin/sh")
        .args(["-c", &script, "nspawn"])
        .args(["-q", "-b", "-D"])
        .arg(dir.join("root"))
        .args(["-M", name, "--register=no", "--keep-unit", &network])
        .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"])
        // nspawn's own filter has no bpf(2), whatever the capabilities.
        .args(["--kill-signal=SIGRTMIN+3", "--capability=all", "--system-call-filter=bpf"])
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors)
        .spawn();
    io("run systemd-nspawn", child)
}

/// The cgroups of a host: in the v2 hierarchy, and in systemd's own where there are both.
fn cgroups(label: &str) -> Vec<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
        .iter()
        .filter(|base| Path::new(base).join("cgroup.procs").exists())
        .map(|base| Path::new(base).join(format!("{CGROUP}-{label}")))
        .collect()
}

/// Removes whatever there is of a host, as far as it goes.
fn clean_up(dir: &Path, label: &str) {
    for group in cgroups(label) {
        wait_for(|| remove_cgroup(&group));
    }
    let _ = umount2(&dir.join("root"), MntFlags::MNT_DETACH);
    let _ = fs::remove_dir_all(dir);
}

/// Kills what is in a cgroup and below it and removes them; `false` if something is left.
fn remove_cgroup(group: &Path) -> bool {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&below.path());
        }
    }
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(pid) = pid.parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

fn only_child(of: Pid) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}
