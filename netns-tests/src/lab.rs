//! A lab: some hosts on a network that nobody else can see.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::Host;
use crate::switch::Switch;
use crate::{Error, Result};

/// Hosts, and the network between them. All of it goes when the lab is dropped, or when the
/// process that made it ends, however it ends.
#[derive(Debug)]
pub struct Lab {
    switch: Arc<Switch>,
    hosts: Mutex<Vec<Host>>,
    undertaker: Undertaker,
}

impl Lab {
    /// An empty network. `label` shows in the names of its namespaces.
    ///
    /// # Errors
    /// [`Error::NeedsRoot`] without root.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NeedsRoot);
        }
        sweep();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}-{}-{count}-{label}", std::process::id());
        let dir = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let undertaker = Undertaker::wait_by(&prefix, &dir)?;
        let switch = Arc::new(Switch::start(prefix, dir)?);
        Ok(Self { switch, hosts: Mutex::default(), undertaker })
    }

    /// A host called `name` with `addresses` (`192.168.34.132/24`) on its `eth0`, up and plugged
    /// into the bridge `br0`.
    pub fn host(&self, name: &str, addresses: &[&str]) -> Result<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let index = u8::try_from(hosts.len() + 1)
            .map_err(|_| Error::Answer { what: name.to_owned(), text: "too many hosts".into() })?;
        let host = Host::start(Arc::clone(&self.switch), name, index, addresses)?;
        hosts.push(host.clone());
        Ok(host)
    }

    /// What every namespace of this lab begins with.
    pub fn prefix(&self) -> &str {
        &self.switch.prefix
    }

    /// A directory for this lab's files; it goes with the lab, unless `VIPD_LAB_KEEP` is set.
    pub fn dir(&self) -> &Path {
        &self.switch.dir
    }

    /// Ends every cut and loss.
    pub fn heal(&self) -> Result {
        self.switch.change_cuts(std::collections::BTreeSet::clear)
    }

    /// Every host made so far.
    pub fn hosts(&self) -> Vec<Host> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_logs(self.dir());
        }
        for host in self.hosts() {
            host.dismiss_residents();
        }
        self.undertaker.bury();
    }
}

/// What every name of every lab begins with.
const PREFIX: &str = "vlab";

/// Ends what lives in the namespaces that begin with `$1`, deletes them and the directory `$2`.
const BURIAL: &str = r#"
names() { ip netns list | cut -d' ' -f1 | grep "^$1-"; }
for turn in 1 2; do
    for ns in $(names "$1"); do
        for pid in $(ip netns pids "$ns"); do kill -9 "$pid" 2>/dev/null; done
    done
done
for ns in $(names "$1"); do ip netns del "$ns" 2>/dev/null; done
rmdir /sys/fs/cgroup/"$1"-* /sys/fs/cgroup/unified/"$1"-* 2>/dev/null
for at in $(grep -o " $2/[^ ]* bpf " /proc/mounts | cut -d' ' -f2); do umount "$at"; done
[ -n "$VIPD_LAB_KEEP" ] || rm -rf "$2"
"#;

/// A process outside of the lab that cleans up once the maker of the lab is gone: its standard
/// input ends then, whether the lab was dropped or its process got Ctrl-C or SIGKILL.
#[derive(Debug)]
struct Undertaker(Child);

impl Undertaker {
    fn wait_by(prefix: &str, dir: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let script = format!("trap '' HUP INT TERM\ncat >/dev/null\n{BURIAL}");
        Command::new("sh")
            .args(["-c", &script, "undertaker", prefix])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the group of the foreground only.
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(Error::io("start sh to clean up"))
    }

    fn bury(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself; there is nothing to do about it if not.
        let _ = self.0.wait();
    }
}

/// Cleans up after labs whose process is gone together with its undertaker.
fn sweep() {
    let owner = |name: &str| -> Option<(String, i32)> {
        let pid = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?;
        Some((format!("{PREFIX}-{pid}"), pid.parse().ok()?))
    };
    let names = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok())
    };
    let tmp = std::env::temp_dir();
    for name in names("/run/netns".into()).chain(names(tmp.clone())) {
        let Some((prefix, pid)) = owner(&name) else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() || has_undertaker(&prefix) {
            continue;
        }
        let dir = tmp.join(&name);
        // The next lab tries again.
        let _ = Command::new("sh")
            .args(["-c", BURIAL, "sweeper", &prefix])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Whether somebody is cleaning up `prefix` right now.
fn has_undertaker(prefix: &str) -> bool {
    crate::netns::all_pids().any(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("\0undertaker\0") && line.contains(prefix)
        })
    })
}

/// Prints the end of every log, for the reader of a failed test.
fn print_logs(dir: &Path) {
    let Ok(hosts) = std::fs::read_dir(dir) else { return };
    for file in hosts.flatten().filter_map(|h| std::fs::read_dir(h.path()).ok()).flatten().flatten()
    {
        let path = file.path();
        if path.extension().is_some_and(|e| e == "log") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {}\n{}", path.display(), tail.join("\n"));
        }
    }
}
