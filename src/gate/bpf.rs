//! The bpf(2) system call, as much of it as the gate needs, and the memory of a map.
//!
//! Bare, since the libraries around it read the kernel's whole type information first, which
//! takes more memory than the daemon has otherwise.
#![allow(unsafe_code, reason = "no crate wraps bpf(2) without all that a library adds")]

use std::ffi::{CStr, CString};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::object::MapSpec;
use crate::types::IfIndex;

// linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const LINK_TYPE_TCX: u32 = 11;
/// The kinds of maps that have one value for each key: a hash and an array.
const PLAIN: [u32; 2] = [1, 2];
/// Before all others, where no other is named.
const F_BEFORE: u32 = 1 << 3;

/// The most programs on one side of an interface that are looked at (`BPF_MPROG_MAX`).
const PROGRAMS: usize = 64;
/// The most maps of one program that are looked at; ours have three.
const MAPS: usize = 8;
/// Room for what the verifier has to say.
const LOG: usize = 64 * 1024;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::In, Self::Out];

    /// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`.
    fn attach_type(self) -> u32 {
        match self {
            Self::In => 46,
            Self::Out => 47,
        }
    }

    /// As file names and messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The call itself.
///
/// # Safety
/// `attribute` has the layout the kernel gives the attribute of `command`, and each address in it
/// is zero, or valid for what the kernel reads or writes there during the call.
unsafe fn call<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the attribute is valid for its size; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A call that makes a file descriptor.
///
/// # Safety
/// As [`call`], and `command` is one that returns a new file descriptor.
unsafe fn open<T>(command: libc::c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attribute) }?;
    // SAFETY: a new file descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As the kernel takes the file descriptors it is handed.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<u8>().addr() as u64
}

fn length<T>(of: &[T]) -> u32 {
    u32::try_from(size_of_val(of)).unwrap_or(u32::MAX)
}

/// A name as the kernel shows it; longer ones are cut.
fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name.iter_mut().zip(text.bytes().take(15)).for_each(|(to, byte)| *to = byte);
    name
}

/// A new map.
pub(super) fn create_map(spec: &MapSpec) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Create([u32; 7], [u8; 16]);
    let MapSpec { kind, key, value, entries, flags, .. } = *spec;
    let mut attribute = Create([kind, key, value, entries, flags, 0, 0], name(&spec.name));
    // SAFETY: no addresses; makes a file descriptor.
    unsafe { open(MAP_CREATE, &mut attribute) }
}

/// A program that the verifier has accepted, or why not with the last of what it said.
pub(super) fn load(
    title: &str,
    license: &CStr,
    instructions: &[u8],
) -> Result<OwnedFd, (io::Error, String)> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let mut log = vec![0_u8; LOG];
    let mut attempt = |verbose: bool| {
        let mut attribute = Load {
            kind: PROG_TYPE_SCHED_CLS,
            count: length(instructions) / 8,
            instructions: address(instructions.as_ptr()),
            license: address(license.as_ptr()),
            log_level: u32::from(verbose),
            log_size: if verbose { length(&log) } else { 0 },
            log: if verbose { address(log.as_mut_ptr()) } else { 0 },
            version: 0,
            flags: 0,
            name: name(title),
        };
        // SAFETY: the addresses are of slices that outlive the call, the licence ends with a
        // zero, and the log has the size that is told; makes a file descriptor.
        unsafe { open(PROG_LOAD, &mut attribute) }
    };
    // What the verifier says costs time, and nobody reads it of a program that is good.
    attempt(false).or_else(|_| attempt(true)).map_err(|error| {
        let said = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
        (error, said.lines().next_back().unwrap_or_default().to_owned())
    })
}

/// A path as the kernel takes it.
fn path(of: &Path) -> io::Result<CString> {
    Ok(CString::new(of.as_os_str().as_bytes())?)
}

#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Keeps what `fd` is as `at`, which is on a bpffs and is not there yet.
pub(super) fn pin(fd: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let at = path(at)?;
    let mut attribute = Pin { path: address(at.as_ptr()), fd: number(fd), flags: 0 };
    // SAFETY: the path ends with a zero and outlives the call.
    unsafe { call(OBJ_PIN, &mut attribute) }.map(drop)
}

/// What is kept as `at`.
pub(super) fn pinned(at: &Path) -> io::Result<OwnedFd> {
    let at = path(at)?;
    let mut attribute = Pin { path: address(at.as_ptr()), fd: 0, flags: 0 };
    // SAFETY: the path ends with a zero and outlives the call; makes a file descriptor.
    unsafe { open(OBJ_GET, &mut attribute) }
}

#[repr(C)]
struct Element {
    fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map, with the sizes the kernel reads and writes for each element.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    pub(super) spec: MapSpec,
}

impl Map {
    /// With the sizes the kernel says it has.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Info([u32; 6], [u8; 16]);
        let mut info = Info::default();
        // SAFETY: the beginning of what the kernel tells of a map, all integers.
        unsafe { object_info(fd.as_fd(), &mut info) }?;
        let Info([kind, id, key, value, entries, flags], name) = info;
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        Ok(Self { fd, id, spec: MapSpec { name, kind, key, value, entries, flags } })
    }

    /// The value of `key`; `None` if there is none.
    pub(super) fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.spec.value as usize];
        let to = address(value.as_mut_ptr());
        match self.element(MAP_LOOKUP_ELEM, key, to, 0) {
            Ok(()) => Ok(Some(value)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// `key` has `value` from now on.
    pub(super) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if length(value) != self.spec.value {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.element(MAP_UPDATE_ELEM, key, address(value.as_ptr()), 0)
    }

    /// `key` has no value any more.
    pub(super) fn delete(&self, key: &[u8]) -> io::Result<()> {
        match self.element(MAP_DELETE_ELEM, key, 0, 0) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// All keys of a hash that nobody else changes.
    pub(super) fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.spec.key as usize];
            let to = address(next.as_mut_ptr());
            let got = match keys.last() {
                Some(last) => self.element(MAP_GET_NEXT_KEY, last, to, 0),
                None => self.command(MAP_GET_NEXT_KEY, 0, to, 0),
            };
            match got {
                Ok(()) if keys.len() < self.spec.entries as usize => keys.push(next),
                Ok(()) => return Ok(keys),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(e) => return Err(e),
            }
        }
    }

    fn element(&self, command: libc::c_int, key: &[u8], value: u64, flags: u64) -> io::Result<()> {
        if length(key) != self.spec.key || !PLAIN.contains(&self.spec.kind) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.command(command, address(key.as_ptr()), value, flags)
    }

    /// `key` and `value` are zero or addresses of as many bytes as the map's keys and values
    /// have (the next key in the place of a value has a key's).
    fn command(&self, command: libc::c_int, key: u64, value: u64, flags: u64) -> io::Result<()> {
        let mut attribute = Element { fd: number(self.fd.as_fd()), _pad: 0, key, value, flags };
        // SAFETY: each caller above hands over slices of the sizes that the kernel said this map
        // has, and `element` refuses the kinds that have more than one for each key.
        unsafe { call(command, &mut attribute) }.map(drop)
    }

    /// The map's values as memory that programs and this process share.
    pub(super) fn memory(&self) -> io::Result<Memory> {
        let bytes = (self.spec.value as usize).saturating_mul(self.spec.entries as usize);
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping wherever the kernel likes, which takes nothing of others' away.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &self.fd, 0) }?;
        Ok(Memory { start: start.cast(), words: bytes / 8 })
    }
}

/// Words of memory that programs in the kernel and this process share.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: atomics, in a mapping that belongs to this value alone until it is dropped.
unsafe impl Send for Memory {}
// SAFETY: as above; all access is atomic.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped from here for so many words until dropped, aligned to a page, and any
        // bits are a value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what `memory` mapped, and no reference outlives the value.
        let _ = unsafe { munmap(self.start.cast(), self.words * 8) };
    }
}

/// What the kernel tells of an object.
///
/// # Safety
/// `T` is the beginning of what the kernel tells of an object of `fd`'s kind; what it may be
/// told to fill besides is zero or valid.
unsafe fn object_info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Info {
        fd: u32,
        length: u32,
        to: u64,
    }
    let size = u32::try_from(size_of::<T>()).unwrap_or(0);
    let at = address(std::ptr::from_mut(info).cast_const());
    let mut attribute = Info { fd: number(fd), length: size, to: at };
    // SAFETY: the kernel writes no more than the length told, to a value that is borrowed.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attribute) }.map(drop)
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    /// The kernel's digest of the instructions; which maps they use is not in it.
    pub(super) tag: [u8; 8],
    /// The maps it uses, sorted.
    pub(super) maps: Vec<u32>,
}

impl Program {
    /// With what the kernel tells of it.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            kind: u32,
            id: u32,
            tag: [u8; 8],
            instructions: [u64; 3],
            load_time: u64,
            user: u32,
            map_count: u32,
            maps: u64,
        }
        let mut maps = vec![0_u32; MAPS];
        let mut info = Info {
            map_count: u32::try_from(maps.len()).unwrap_or(0),
            maps: address(maps.as_mut_ptr()),
            ..Info::default()
        };
        // SAFETY: the beginning of what the kernel tells of a program, all integers; it writes
        // as many numbers of maps as there is told to be room for.
        unsafe { object_info(fd.as_fd(), &mut info) }?;
        maps.truncate(info.map_count as usize);
        maps.sort_unstable();
        Ok(Self { fd, id: info.id, tag: info.tag, maps })
    }

    /// Runs it once on `frame`; the frame as the program left it.
    pub(super) fn run(&self, frame: &[u8]) -> io::Result<Vec<u8>> {
        #[repr(C)]
        struct Run {
            fd: u32,
            result: u32,
            size_in: u32,
            size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
        }
        let mut out = vec![0; frame.len()];
        let mut attribute = Run {
            fd: number(self.fd.as_fd()),
            result: 0,
            size_in: length(frame),
            size_out: length(&out),
            data_in: address(frame.as_ptr()),
            data_out: address(out.as_mut_ptr()),
            repeat: 1,
            duration: 0,
        };
        // SAFETY: both slices are as long as is told, and outlive the call.
        unsafe { call(PROG_TEST_RUN, &mut attribute) }?;
        if attribute.result == 0 { Ok(out) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// What holds a program on one side of an interface; goes with its last descriptor and pin.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    pub(super) id: u32,
    pub(super) program: u32,
    /// Zero once the interface is gone.
    pub(super) index: u32,
}

impl Link {
    /// With what the kernel tells of it; an error if it is not of the kind that [`attach`] makes.
    ///
    /// [`attach`]: Self::attach
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            kind: u32,
            id: u32,
            program: u32,
            _pad: u32,
            index: u32,
            attach_type: u32,
        }
        let mut info = Info::default();
        // SAFETY: the beginning of what the kernel tells of a link, all integers.
        unsafe { object_info(fd.as_fd(), &mut info) }?;
        if info.kind != LINK_TYPE_TCX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { fd, id: info.id, program: info.program, index: info.index })
    }

    /// Puts `program` before all others on this side of the interface.
    pub(super) fn attach(program: &Program, index: IfIndex, way: Way) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            program: u32,
            index: u32,
            attach_type: u32,
            flags: u32,
            relative: u32,
            _pad: u32,
            revision: u64,
        }
        let mut attribute = Create {
            program: number(program.fd.as_fd()),
            index: index.0,
            attach_type: way.attach_type(),
            flags: F_BEFORE,
            relative: 0,
            _pad: 0,
            revision: 0,
        };
        // SAFETY: no addresses; makes a file descriptor.
        let fd = unsafe { open(LINK_CREATE, &mut attribute) }?;
        Self::new(fd)
    }

    /// Puts `program` into the place of the one that is in it, at once.
    pub(super) fn update(&self, program: &Program) -> io::Result<()> {
        #[repr(C)]
        struct Update([u32; 4]);
        let mut attribute = Update([number(self.fd.as_fd()), number(program.fd.as_fd()), 0, 0]);
        // SAFETY: no addresses.
        unsafe { call(LINK_UPDATE, &mut attribute) }.map(drop)
    }

    /// Takes the program off, whoever else keeps the link.
    pub(super) fn detach(&self) -> io::Result<()> {
        let mut attribute = number(self.fd.as_fd());
        // SAFETY: no addresses.
        unsafe { call(LINK_DETACH, &mut attribute) }.map(drop)
    }

    pub(super) fn pin(&self, at: &Path) -> io::Result<()> {
        pin(self.fd.as_fd(), at)
    }
}

/// The links on one side of an interface in the order in which their programs run; zero for a
/// program that is there without a link.
pub(super) fn attached(index: IfIndex, way: Way) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Ask {
        index: u32,
        attach_type: u32,
        flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        _pad: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let mut programs = vec![0_u32; PROGRAMS];
    let mut links = vec![0_u32; PROGRAMS];
    let mut attribute = Ask {
        index: index.0,
        attach_type: way.attach_type(),
        flags: 0,
        attach_flags: 0,
        programs: address(programs.as_mut_ptr()),
        count: u32::try_from(PROGRAMS).unwrap_or(0),
        _pad: 0,
        program_flags: 0,
        links: address(links.as_mut_ptr()),
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: the kernel writes as many numbers as there is told to be room for, in each.
    unsafe { call(PROG_QUERY, &mut attribute) }?;
    links.truncate(attribute.count as usize);
    Ok(links)
}
