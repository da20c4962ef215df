//! What a machine boots: Debian's kernel, kept, and a file system with the daemon, made each time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::peer::vipd::binary;
use crate::{Error, Result, run};

/// Always the one that Debian has now.
const PACKAGE: &str = "linux-image-amd64";
/// A mirror may be slow.
const DOWNLOAD: Duration = Duration::from_mins(5);
/// What the machine needs beside what is in the kernel: in this order, after what they need.
const MODULES: [&str; 7] =
    ["i6300esb", "dummy", "virtio_pci", "virtio_blk", "minix", "sch_ingress", "cls_bpf"];

/// What it does as it comes up, and then for ever.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs cgroup /sys/fs/cgroup
mkdir /sys/fs/cgroup/freezer
mount -t cgroup -o freezer cgroup /sys/fs/cgroup/freezer
while read -r module parameters; do insmod /modules/$module $parameters; done </modules/list
mount -t minix /dev/vda /state
hostname hap1
ip link set lo up
ip link add eth0 type dummy
ip link set eth0 up
ip addr add 192.0.2.1/24 dev eth0
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo READY
while read -r line; do eval "$line"; echo "::$?"; done
"#;

/// A kernel with its modules.
#[derive(Debug)]
pub(super) struct Kernel {
    root: PathBuf,
    version: String,
}

impl Kernel {
    pub(super) fn image(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.version)
    }
}

/// Finds Debian's kernel below `target/qemu`, or gets it from a mirror.
pub(super) fn kernel() -> Result<Kernel> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/qemu");
    fs::create_dir_all(&base).map_err(Error::io("make target/qemu"))?;
    let lock = File::create(base.join("lock")).map_err(Error::io("make a lock"))?;
    let _one_at_a_time = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::errno("lock target/qemu")(errno))?;
    let root = base.join("kernel");
    if !root.exists() {
        let partial = base.join("kernel.partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(Error::io("make target/qemu"))?;
        fetch(&partial)?;
        fs::rename(&partial, &root).map_err(Error::io("put the kernel in place"))?;
    }
    let version = only(&root.join("lib/modules"))?;
    Ok(Kernel { root, version })
}

fn fetch(dir: &Path) -> Result {
    let depends = run::stdout(&["apt-cache", "depends", PACKAGE])?;
    let package = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: "));
    let package = package.ok_or_else(|| Error::Answer {
        what: format!("apt-cache depends {PACKAGE}"),
        text: depends.clone(),
    })?;
    let got = Command::new("timeout")
        .args([&DOWNLOAD.as_secs().to_string(), "apt-get", "download", "-q", package])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run apt-get download"))?;
    if !got.status.success() {
        return Err(Error::Command {
            command: format!("apt-get download {package}"),
            status: got.status.to_string(),
            output: String::from_utf8_lossy(&got.stderr).into_owned(),
        });
    }
    let file = dir.join(only(dir)?).display().to_string();
    let to = dir.display().to_string();
    run::output(&["dpkg", "-x", &file, &to], "", DOWNLOAD)?;
    fs::remove_file(file).map_err(Error::io("remove a package"))?;
    run::stdout(&["depmod", "-b", &to, &only(&dir.join("lib/modules"))?]).map(drop)
}

/// The only thing in a directory.
fn only(dir: &Path) -> Result<String> {
    let what = format!("list {}", dir.display());
    let first = fs::read_dir(dir).map_err(Error::io(what.clone()))?.flatten().next();
    let first = first.ok_or_else(|| Error::Answer { what, text: "nothing".to_owned() })?;
    Ok(first.file_name().to_string_lossy().into_owned())
}

/// An empty disk.
pub(super) fn disk(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("state.img");
    let file = File::create(&path).map_err(Error::io("make a disk"))?;
    file.set_len(1 << 20).map_err(Error::io("make a disk"))?;
    run::stdout(&["mkfs.minix", &path.display().to_string()])?;
    Ok(path)
}

/// The file system that it runs from; `watchdog` are parameters of the watchdog's module.
pub(super) fn initrd(dir: &Path, kernel: &Kernel, watchdog: &str) -> Result<PathBuf> {
    let root = dir.join("root");
    let make = |name: &str| {
        fs::create_dir_all(root.join(name)).map_err(Error::io(format!("make /{name} of a machine")))
    };
    for name in ["bin", "dev", "proc", "sys", "run", "tmp", "state", "modules", "etc"] {
        make(name)?;
    }
    copy("/bin/busybox".as_ref(), &root.join("bin/busybox"))
        .or_else(|_| copy("/usr/bin/busybox".as_ref(), &root.join("bin/busybox")))?;
    let mut libraries = BTreeSet::new();
    for program in ["vipd", "vipctl"] {
        let (from, to) = (binary(program)?, root.join("bin").join(program));
        let [of, to] = [&from, &to].map(|p| p.display().to_string());
        run::stdout(&["strip", "-o", &to, &of])?;
        libraries.extend(needed(&run::stdout(&["ldd", &of])?));
    }
    for library in libraries {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(&root)).map_err(Error::io("make a directory"))?;
        copy(library.as_ref(), &to)?;
    }
    modules(&root.join("modules"), kernel, watchdog)?;
    // A proxy that is a command runs as nobody.
    let nobody = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    fs::write(root.join("etc/passwd"), nobody).map_err(Error::io("write /etc/passwd"))?;
    let group = "root:x:0:\nnogroup:x:65534:\n";
    fs::write(root.join("etc/group"), group).map_err(Error::io("write /etc/group"))?;
    let init = root.join("init");
    fs::write(&init, INIT).map_err(Error::io("write /init"))?;
    run::stdout(&["chmod", "755", &init.display().to_string()])?;
    symlink("/proc/self/mounts", root.join("etc/mtab")).map_err(Error::io("link"))?;
    pack(&root, &dir.join("initrd"))
}

fn copy(from: &Path, to: &Path) -> Result {
    let what = format!("copy {} into a machine", from.display());
    fs::copy(from, to).map(drop).map_err(Error::io(what))
}

/// The paths in what `ldd` prints.
fn needed(ldd: &str) -> impl Iterator<Item = String> {
    let words = ldd.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Puts the modules, and what they need, where the machine looks for them, in their order.
fn modules(to: &Path, kernel: &Kernel, watchdog: &str) -> Result {
    let from = kernel.modules();
    let depends = fs::read_to_string(from.join("modules.dep"));
    let depends = depends.map_err(Error::io("read modules.dep"))?;
    let mut list: Vec<&str> = Vec::new();
    for module in MODULES {
        let file = format!("/{module}.ko:");
        let line = depends.lines().find(|line| line.contains(&file));
        let line = line.ok_or_else(|| Error::Answer {
            what: "the modules of Debian's kernel".to_owned(),
            text: format!("no {module}"),
        })?;
        let (path, needs) = line.split_once(':').unwrap_or((line, ""));
        // What is needed by what is needed comes last in a line.
        let chain = needs.split_whitespace().rev().chain([path]);
        for path in chain {
            if !list.contains(&path) {
                list.push(path);
            }
        }
    }
    let mut text = String::new();
    for path in list {
        let name = path.rsplit('/').next().unwrap_or(path);
        copy(&from.join(path), &to.join(name))?;
        let parameters = if name == "i6300esb.ko" { watchdog } else { "" };
        text.push_str(&format!("{name} {parameters}\n"));
    }
    fs::write(to.join("list"), text).map_err(Error::io("write a list of modules"))
}

fn pack(root: &Path, to: &Path) -> Result<PathBuf> {
    let mut names = vec![".".to_owned()];
    list(root, root, &mut names)?;
    let file = File::create(to).map_err(Error::io("make an initrd"))?;
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .map_err(Error::io("run cpio"))?;
    if let Some(mut stdin) = cpio.stdin.take() {
        std::io::Write::write_all(&mut stdin, names.join("\n").as_bytes())
            .map_err(Error::io("write to cpio"))?;
    }
    let status = cpio.wait().map_err(Error::io("wait for cpio"))?;
    if status.success() {
        return Ok(to.to_owned());
    }
    let (command, status) = ("cpio".to_owned(), status.to_string());
    Err(Error::Command { command, status, output: String::new() })
}

/// Everything below `dir`, by its path from `root`; a directory before what is in it.
fn list(root: &Path, dir: &Path, names: &mut Vec<String>) -> Result {
    for entry in fs::read_dir(dir).map_err(Error::io("list a directory"))?.flatten() {
        let path = entry.path();
        if let Ok(name) = path.strip_prefix(root) {
            names.push(name.display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
