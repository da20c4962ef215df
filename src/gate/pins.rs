//! What outlives the daemon: maps and programs, kept by name on a BPF file system.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::CAP;
use super::bpf::{self, Map, Program};
use super::error::GateError;
use super::object::{MapSpec, Object};
use crate::io::clock;
use crate::types::{GateId, Instant};

/// Where systemd, and everybody else, mounts the BPF file system.
const USUAL: &str = "/sys/fs/bpf";
/// The number of every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const ONE: [u8; 4] = [0; 4];

/// The maps of a gate.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) id: GateId,
    pub(super) addresses: Map,
    pub(super) slots: Map,
    pub(super) drops: Map,
}

impl Maps {
    /// Those kept in `dir`, of this boot; else new ones, kept there.
    pub(super) fn open(dir: &Path, object: &Object) -> Result<Self, GateError> {
        let (slots, id) = match inherited(dir, object)? {
            Some(found) => found,
            None => fresh(dir, object)?,
        };
        Ok(Self {
            id,
            addresses: pinned_or_new(dir, &spec(object, "addresses")?)?,
            drops: pinned_or_new(dir, &spec(object, "drops")?)?,
            slots,
        })
    }

    fn named(&self, name: &str) -> Option<&Map> {
        match name {
            "addresses" => Some(&self.addresses),
            "slots" => Some(&self.slots),
            "drops" => Some(&self.drops),
            _ => None,
        }
    }

    /// The numbers of those that the programs use, sorted.
    fn numbers(&self) -> Vec<u32> {
        let mut numbers = vec![self.addresses.id, self.slots.id, self.drops.id];
        numbers.sort_unstable();
        numbers
    }

    /// A program with these maps, kept by nobody.
    pub(super) fn load(&self, object: &Object, name: &'static str) -> Result<Program, GateError> {
        let fd = |map: &str| self.named(map).map(|map| map.fd.as_raw_fd());
        let code = object.code(name).and_then(|code| code.with(fd));
        let code = code.ok_or_else(|| GateError::Object(format!("no program {name}")))?;
        let loaded = bpf::load(&format!("vipd_{name}"), &object.license, &code);
        let loaded = loaded.map_err(|(source, verdict)| match source.raw_os_error() {
            Some(libc::EINVAL | libc::EACCES | libc::E2BIG) if !verdict.is_empty() => {
                GateError::Rejected { program: name, source, verdict }
            }
            _ => GateError::of("load a BPF program", source),
        })?;
        Program::new(loaded).map_err(|e| GateError::of("look at a BPF program", e))
    }

    /// The program kept in `dir`, if it is this one with these maps; else this one, kept there.
    ///
    /// Interfaces that have the one kept go on with it.
    pub(super) fn program(
        &self,
        dir: &Path,
        object: &Object,
        name: &'static str,
    ) -> Result<Program, GateError> {
        let loaded = self.load(object, name)?;
        let path = dir.join(format!("program-{name}"));
        if let Ok(kept) = bpf::pinned(&path).and_then(Program::new)
            && kept.tag == loaded.tag
            && kept.maps == self.numbers()
        {
            return Ok(kept);
        }
        replace(loaded.fd.as_fd(), &path)?;
        Ok(loaded)
    }
}

/// The slots kept in `dir` and whose they are; `None` if there are none, or none of use.
fn inherited(dir: &Path, object: &Object) -> Result<Option<(Map, GateId)>, GateError> {
    let path = dir.join("slots");
    let Some(slots) = kept(&path)? else { return Ok(None) };
    let identity = match kept(&dir.join("identity"))? {
        Some(map) if same(&map, &spec(object, "identity")?) => {
            map.lookup(&ONE).map_err(|e| GateError::of("read the gate's identity", e))?
        }
        Some(_) | None => None,
    };
    let identity = identity.as_deref().and_then(halves);
    let boot = boot_id()?;
    if let Some((id, of)) = identity
        && of == boot
        && id != GateId(0)
        && same(&slots, &spec(object, "slots")?)
    {
        return Ok(Some((slots, id)));
    }
    // Another boot's deadlines mean nothing in this one.
    let other_boot = identity.is_some_and(|(_, of)| of != boot);
    let now = clock::now();
    match last_deadline(&slots) {
        Ok(until) if other_boot || until <= now => Ok(None),
        Ok(until) => Err(GateError::Layout { path, until, now }),
        Err(e) => Err(GateError::of(format!("read the deadlines in {}", path.display()), e)),
    }
}

/// New slots, and the identity that makes them a gate, in this order: what a killed daemon left
/// half made is no gate.
fn fresh(dir: &Path, object: &Object) -> Result<(Map, GateId), GateError> {
    let kernel = |doing: &str| {
        let doing = doing.to_owned();
        move |e| GateError::of(doing, e)
    };
    let identity = dir.join("identity");
    remove(&identity)?;
    let slots = make(&spec(object, "slots")?)?;
    replace(slots.fd.as_fd(), &dir.join("slots"))?;
    let id = random().map_err(kernel("read /dev/urandom"))?;
    let mut value = id.0.to_ne_bytes().to_vec();
    value.extend(boot_id()?.to_ne_bytes());
    let map = make(&spec(object, "identity")?)?;
    map.update(&ONE, &value).map_err(kernel("write the gate's identity"))?;
    replace(map.fd.as_fd(), &identity)?;
    Ok((slots, id))
}

/// A map that can be made anew at any time.
fn pinned_or_new(dir: &Path, wanted: &MapSpec) -> Result<Map, GateError> {
    let path = dir.join(&wanted.name);
    if let Some(map) = kept(&path)?
        && same(&map, wanted)
    {
        return Ok(map);
    }
    let map = make(wanted)?;
    replace(map.fd.as_fd(), &path)?;
    Ok(map)
}

fn make(wanted: &MapSpec) -> Result<Map, GateError> {
    let made = bpf::create_map(wanted).and_then(Map::new);
    made.map_err(|e| GateError::of(format!("make the BPF map {}", wanted.name), e))
}

/// The map kept at `path`; `None` if nothing is, or something that is no map.
fn kept(path: &Path) -> Result<Option<Map>, GateError> {
    match bpf::pinned(path).and_then(Map::new) {
        Ok(map) => Ok(Some(map)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(None),
        Err(e) => Err(GateError::of(format!("open {}", path.display()), e)),
    }
}

fn same(map: &Map, wanted: &MapSpec) -> bool {
    let shape = |spec: &MapSpec| (spec.kind, spec.key, spec.value, spec.entries, spec.flags);
    shape(&map.spec) == shape(wanted)
}

fn spec(object: &Object, name: &str) -> Result<MapSpec, GateError> {
    let found = object.maps.iter().find(|map| map.name == name);
    found.cloned().ok_or_else(|| GateError::Object(format!("no map {name}")))
}

/// The latest deadline that can open anything, in slots of whatever layout: in every one so far
/// the deadline comes first. What no program would obey does not count.
fn last_deadline(slots: &Map) -> io::Result<Instant> {
    let now = clock::now();
    let mut last = Instant::BOOT;
    for number in 0..slots.spec.entries {
        let value = slots.lookup(&number.to_ne_bytes())?.unwrap_or_default();
        let deadline = value.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let deadline = Instant::from_nanos(u64::from_ne_bytes(*deadline));
        if deadline <= now + CAP {
            last = last.max(deadline);
        }
    }
    Ok(last)
}

/// Keeps `fd` at `path`, in the place of whatever was there.
pub(super) fn replace(fd: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<(), GateError> {
    let mut beside = path.as_os_str().to_owned();
    // A name with a dot in it is refused on a BPF file system.
    beside.push("-new");
    let beside = Path::new(&beside);
    remove(beside)?;
    let keep = || {
        bpf::pin(fd, beside)?;
        fs::rename(beside, path)
    };
    keep().map_err(|e| GateError::of(format!("keep {}", path.display()), e))
}

/// Nothing is kept at `path`.
pub(super) fn remove(path: &Path) -> Result<(), GateError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(GateError::of(format!("remove {}", path.display()), e))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes `dir` a directory on a BPF file system, and mounts one if there is none.
pub(super) fn prepare(dir: &Path) -> Result<(), GateError> {
    let no = |source: io::Error| GateError::NoBpffs { dir: dir.to_owned(), source };
    let made = fs::create_dir_all(dir);
    if made.is_ok() && is_bpffs(dir).map_err(no)? {
        return Ok(());
    }
    // Below the usual place no directory can be made while nothing is mounted there.
    let usual = Path::new(USUAL);
    let at = if dir.starts_with(usual) { usual } else { dir };
    if at == dir {
        made.map_err(no)?;
    }
    if !is_bpffs(at).map_err(no)? {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), at, Some("bpf"), flags, Some("mode=700")).map_err(|e| no(e.into()))?;
    }
    fs::create_dir_all(dir).map_err(no)?;
    Ok(())
}

fn is_bpffs(dir: &Path) -> io::Result<bool> {
    Ok(statfs(dir)?.filesystem_type() == BPF_FS_MAGIC)
}

fn boot_id() -> Result<u128, GateError> {
    let kernel = |e| GateError::Kernel { doing: format!("read {BOOT_ID}"), source: e };
    let text = fs::read_to_string(BOOT_ID).map_err(kernel)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(|e| kernel(io::Error::other(e)))
}

fn random() -> io::Result<GateId> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(GateId(u128::from_ne_bytes(bytes)))
}

/// Which gate, and of which boot.
fn halves(value: &[u8]) -> Option<(GateId, u128)> {
    let (id, boot) = value.split_first_chunk()?;
    let boot = boot.first_chunk()?;
    Some((GateId(u128::from_ne_bytes(*id)), u128::from_ne_bytes(*boot)))
}

/// What is kept at `path`, whatever it is.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    bpf::pinned(path)
}
