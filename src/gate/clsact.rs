//! Where the kernel has no TCX (before Linux 6.6): filters of the clsact queueing discipline.
//!
//! A filter stays when the daemon ends, and keeps its program; but it goes with the discipline,
//! which anybody who may change queues can delete. Only looking again finds that out.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::bpf::{Program, Way};
use super::netlink::{Asker, Bytes, attribute, number};
use crate::types::IfIndex;

// linux/rtnetlink.h, linux/pkt_cls.h, linux/pkt_sched.h
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// What the program returns is what becomes of the frame.
const DIRECT_ACTION: u32 = 1;
const CLSACT: u32 = 0xffff_fff1;
const DISCIPLINE: u32 = 0xffff_0000;
/// The first there can be.
const PREFERENCE: u32 = 1;
/// Every protocol, as the wire has it.
const ALL: u16 = 0x0003_u16.to_be();

/// A filter, as much of it as tells which it is.
#[derive(Clone, Copy, Debug)]
struct Filter {
    handle: u32,
    preference: u32,
    /// Zero for a filter that is no BPF program.
    program: u32,
}

/// The filters of one gate.
#[derive(Debug)]
pub(super) struct Filters {
    asker: Asker,
    /// What ours are known by: two, since the one that is added last comes first.
    handles: [u32; 2],
}

impl Filters {
    /// Those of the gate that is kept in `dir`: also one that was lost has left them there.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let asker = Asker::open(NETLINK_ROUTE)?;
        // FNV-1a: the same in every version.
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = dir.as_os_str().as_bytes().iter().fold(0x811c_9dc5, mix);
        // Far from the small numbers that the kernel gives.
        let first = (hash >> 3) << 1 | 0x4000_0000;
        Ok(Self { asker, handles: [first, first + 1] })
    }

    fn is_ours(&self, filter: &Filter) -> bool {
        let known = self.handles.contains(&filter.handle);
        filter.preference == PREFERENCE && known && filter.program != 0
    }

    /// Makes `program` the first filter on this side of the interface; whether it was not.
    pub(super) fn cover(
        &mut self,
        program: &Program,
        index: IfIndex,
        way: Way,
    ) -> io::Result<bool> {
        let there = self.there(index, way)?;
        let first = there.first().filter(|filter| self.is_ours(filter));
        if first.is_some_and(|filter| filter.program == program.id) {
            return Ok(false);
        }
        // In its place if it is the first; before the first under the other handle else.
        let handle = first.map(|filter| filter.handle).or_else(|| {
            let free = |handle: &u32| !there.iter().any(|filter| filter.handle == *handle);
            self.handles.into_iter().find(free)
        });
        let handle = handle.unwrap_or(self.handles[0]);
        self.add_discipline(index)?;
        let options = Bytes::default()
            .with(TCA_BPF_FD, &program.fd.as_raw_fd().to_ne_bytes())
            .text(TCA_BPF_NAME, &format!("vipd_{}", way.name()))
            .with(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
        let message = header(index, handle, parent(way), PREFERENCE << 16 | u32::from(ALL));
        let message = message.text(TCA_KIND, "bpf").nest(TCA_OPTIONS, &options);
        self.asker.ask(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, &message.0)?;
        let others = |old: &&Filter| self.is_ours(old) && old.handle != handle;
        let old: Vec<_> = there.iter().filter(others).copied().collect();
        old.into_iter().try_for_each(|old| self.delete(index, way, old))?;
        let after = self.there(index, way)?;
        let first = after.first().filter(|filter| self.is_ours(filter));
        let now_first = first.is_some_and(|filter| filter.program == program.id);
        if now_first { Ok(true) } else { Err(io::Error::other("another filter comes first")) }
    }

    /// Takes off what is ours, if anything is.
    pub(super) fn uncover(&mut self, index: IfIndex, way: Way) -> io::Result<()> {
        let mut ours = self.there(index, way)?;
        ours.retain(|filter| self.is_ours(filter));
        ours.into_iter().try_for_each(|filter| self.delete(index, way, filter))
    }

    fn delete(&mut self, index: IfIndex, way: Way, filter: Filter) -> io::Result<()> {
        let info = filter.preference << 16 | u32::from(ALL);
        let message = header(index, filter.handle, parent(way), info).text(TCA_KIND, "bpf");
        self.asker.ask(RTM_DELTFILTER, 0, &message.0)
    }

    fn add_discipline(&mut self, index: IfIndex) -> io::Result<()> {
        let message = header(index, DISCIPLINE, CLSACT, 0).text(TCA_KIND, "clsact");
        match self.asker.ask(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &message.0) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// The filters on this side of the interface, in the order in which they run.
    fn there(&mut self, index: IfIndex, way: Way) -> io::Result<Vec<Filter>> {
        let mut found = Vec::new();
        let question = header(index, 0, parent(way), 0);
        let asked = self.asker.dump(RTM_GETTFILTER, &question.0, |kind, payload| {
            if kind == RTM_NEWTFILTER {
                found.extend(filter(payload));
            }
        });
        match asked {
            // No discipline, no filters.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
            other => other.map(|()| found),
        }
    }
}

/// `struct tcmsg`.
fn header(index: IfIndex, handle: u32, parent: u32, info: u32) -> Bytes {
    let mut bytes = vec![0; 4];
    for number in [index.0, handle, parent, info] {
        bytes.extend(number.to_ne_bytes());
    }
    Bytes(bytes)
}

fn parent(way: Way) -> u32 {
    match way {
        Way::In => 0xffff_fff2,
        Way::Out => 0xffff_fff3,
    }
}

/// `None` for the head of a list of filters, which the kernel tells beside those in it.
fn filter(payload: &[u8]) -> Option<Filter> {
    let handle = number(payload.get(8..)?)?;
    let preference = number(payload.get(16..)?)? >> 16;
    let options = attribute(payload.get(20..)?, TCA_OPTIONS)?;
    let program = attribute(options, TCA_BPF_ID).and_then(number).unwrap_or(0);
    (handle != 0).then_some(Filter { handle, preference, program })
}
