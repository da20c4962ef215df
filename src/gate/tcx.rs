//! Programs on interfaces where the kernel has TCX (Linux 6.6 and later): links, kept by name.
//!
//! A link that is kept stays when the daemon ends, and nothing that is done to queues takes it
//! off. It goes with its interface, and with its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bpf::{Link, Program, Way, attached};
use super::error::GateError;
use super::pins::{open, remove};
use crate::types::IfIndex;

/// The names of links begin so; the number of the interface and the side follow.
const PREFIX: &str = "link-";

/// Whether the kernel has TCX at all.
pub(super) fn supported(index: IfIndex) -> bool {
    match attached(index, Way::In) {
        // A kernel without it does not know the kind of attachment, or has no room for a field.
        Err(e) => !matches!(e.raw_os_error(), Some(libc::EINVAL | libc::E2BIG)),
        Ok(_) => true,
    }
}

/// Makes `program` the first on this side of the interface; whether it was not.
///
/// `spare` loads it once more, for the moment in which the one that has lost its place moves.
pub(super) fn cover(
    dir: &Path,
    program: &Program,
    spare: impl FnOnce() -> Result<Program, GateError>,
    index: IfIndex,
    way: Way,
) -> Result<bool, GateError> {
    let path = name(dir, index, way);
    let fail = |doing: &str| {
        let doing = format!("{doing} ({} of interface {index})", way.name());
        move |e| GateError::of(doing, e)
    };
    let there = order(index, way).map_err(fail("ask which BPF programs there are"))?;
    if let Ok(link) = open(&path).and_then(Link::new) {
        match there.iter().position(|id| *id == link.id) {
            Some(0) if link.program == program.id => return Ok(false),
            Some(0) => {
                link.update(program).map_err(fail("replace a BPF program"))?;
                return Ok(true);
            }
            Some(_) => {
                // A program cannot be there twice, and the frames in between shall not pass.
                let spare = spare()?;
                let attach = |program| Link::attach(program, index, way);
                let holder = attach(&spare).map_err(fail("attach a BPF program"))?;
                link.detach().map_err(fail("detach a BPF program"))?;
                let again = attach(program).and_then(|new| keep(&new, &path).map(|()| new));
                if let Err(e) = again {
                    // Better the spare for good than nothing.
                    keep(&holder, &path).map_err(fail("keep a BPF program"))?;
                    return Err(fail("attach a BPF program")(e));
                }
                return Ok(true);
            }
            // Of an interface that is gone, or in another network, or detached by somebody.
            None => {}
        }
    }
    let link = Link::attach(program, index, way).map_err(fail("attach a BPF program"))?;
    keep(&link, &path).map_err(fail("keep a BPF program"))?;
    Ok(true)
}

/// Keeps `link` at `path` in the place of another.
fn keep(link: &Link, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    link.pin(path)
}

/// Takes the program off one side of an interface, if it is there.
pub(super) fn uncover(dir: &Path, index: IfIndex, way: Way) -> Result<(), GateError> {
    let path = name(dir, index, way);
    if let Ok(link) = open(&path).and_then(Link::new) {
        // It may be gone with its interface.
        let _ = link.detach();
    }
    remove(&path)
}

/// The interfaces that links in `dir` are named after, and whether they are still there.
pub(super) fn known(dir: &Path) -> io::Result<Vec<(IfIndex, Way, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        let Some(rest) = file.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let Some((index, side)) = rest.split_once('-') else { continue };
        let way = Way::BOTH.into_iter().find(|way| way.name() == side);
        if let (Ok(index), Some(way)) = (index.parse(), way) {
            let index = IfIndex(index);
            let link = open(&name(dir, index, way)).and_then(Link::new);
            found.push((index, way, link.is_ok_and(|link| link.index == index.0)));
        }
    }
    Ok(found)
}

fn name(dir: &Path, index: IfIndex, way: Way) -> PathBuf {
    dir.join(format!("{PREFIX}{index}-{}", way.name()))
}

/// The links on this side of the interface, in the order in which their programs run.
fn order(index: IfIndex, way: Way) -> io::Result<Vec<u32>> {
    match attached(index, way) {
        // Early kernels say so where there is nothing.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}
