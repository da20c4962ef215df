//! The kernel's gate: a frame for or from a virtual address passes only until a deadline.
//!
//! Programs on every interface look each frame up in a table of addresses. An address leads to a
//! slot, and a slot has a deadline on the boot clock. Who holds an address moves the deadline on,
//! with a store to memory ([`Slots`]); if he is killed, frozen or cut off, nobody does, and from
//! the deadline on the kernel drops: ARP, neighbour discovery, IPv4 and IPv6, in both directions,
//! whoever sends. A daemon that comes back late changes nothing, for its deadline was a moment.
//!
//! All of that stays when the daemon ends, and is found again by the next one ([`Gate::open`]).
//!
//! The order matters: an address is in the gate ([`Gate::set_addresses`]) and the gate is on the
//! interfaces ([`Gate::cover`]) before the address is on the host, and the other way round at the
//! end. An interface without the gate has none of what is said above, so what [`Coverage`] tells
//! has to be heeded, and asked for again ([`Gate::verify`]).
//!
//! [`Deny`] closes the time before that, for interfaces that the daemon does not know yet.
//!
//! What the gate does not see: packet sockets that bypass queueing (`PACKET_QDISC_BYPASS`), XDP
//! and hardware that forwards by itself, what is routed by way of a virtual address without
//! naming it, and frames that were in a queue before the deadline.

mod bpf;
mod clsact;
mod deny;
mod error;
mod links;
mod netlink;
mod object;
mod pins;
mod slots;
mod tcx;

pub use deny::Deny;
pub use error::GateError;
pub use links::{GateLink, present};
pub use slots::Slots;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::io::clock;
use crate::types::{GateId, IfIndex, Instant};
use bpf::{Program, Way};
use clsact::Filters;
use object::Object;
use pins::Maps;

/// No deadline further away than this opens anything; the program says the same.
pub const CAP: Duration = Duration::from_mins(1);

/// How far the clocks may differ, which cannot be read at the same moment.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(1);
/// The loopback interface, in every network.
const LOOPBACK: IfIndex = IfIndex(1);

/// How programs are put on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// TCX links: nothing but their own names takes them off. Linux 6.6 and later.
    Tcx,
    /// Filters of a clsact discipline, which go when somebody deletes the discipline.
    Clsact,
}

/// What an earlier daemon has left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Which gate this is: the same number for as long as deadlines outlive their daemon.
    pub id: GateId,
    /// The slots that are open, with whose they are and until when.
    pub open: Vec<(u128, u16, Instant)>,
}

/// Whether the gate is on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// In both directions, before all other programs.
    Covered(Mode),
    /// It is not, and why.
    Failed(String),
}

/// Where the gate is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Every interface that has to be covered.
    pub links: BTreeMap<IfIndex, Cover>,
    /// Those of them where something had to be done for it.
    pub changed: BTreeSet<IfIndex>,
}

impl Coverage {
    /// The interfaces that the gate is on: what [`Deny`] takes.
    pub fn covered(&self) -> BTreeSet<IfIndex> {
        let covered = self.links.iter().filter(|(_, cover)| matches!(cover, Cover::Covered(_)));
        covered.map(|(index, _)| *index).collect()
    }

    /// Nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.covered().len() == self.links.len()
    }
}

/// The gate, from the side that puts it up. Calls wait for the kernel.
#[derive(Debug)]
pub struct Gate {
    dir: PathBuf,
    object: Object,
    maps: Maps,
    inward: Program,
    outward: Program,
    clock: Program,
    mode: Mode,
    filters: Option<Filters>,
    covered: BTreeSet<IfIndex>,
}

impl Gate {
    /// The gate that is kept in `dir`, or a new one that is kept there from now on.
    ///
    /// Each daemon has a directory of its own, and each network: the names in it are those of
    /// interfaces of the network that the calling thread is in, also in later calls. It is on a BPF file system; where there is none, one is mounted, which only
    /// lives as long as the mount namespace of the daemon. `mode` is for tests and for kernels
    /// that promise more than they do; without it, it is the best there is.
    ///
    /// Interfaces that are covered already stay so, by the program that is there, until
    /// [`cover`](Self::cover).
    ///
    /// # Errors
    /// What stands in the way, in words for the operator.
    pub fn open(dir: &Path, mode: Option<Mode>) -> Result<(Self, Slots, Inherited), GateError> {
        let object = Object::built_in().map_err(GateError::Object)?;
        pins::prepare(dir)?;
        let maps = Maps::open(dir, &object)?;
        let memory = maps.slots.memory();
        let slots = Slots::new(memory.map_err(|e| GateError::of("map the deadlines", e))?);
        let mode =
            mode.unwrap_or_else(|| if tcx::supported(LOOPBACK) { Mode::Tcx } else { Mode::Clsact });
        let gate = Self {
            inward: maps.program(dir, &object, "in")?,
            outward: maps.program(dir, &object, "out")?,
            clock: maps.load(&object, "clock")?,
            dir: dir.to_owned(),
            object,
            maps,
            mode,
            filters: None,
            covered: BTreeSet::new(),
        };
        let offset = gate.clock_offset()?;
        if offset > CLOCK_TOLERANCE {
            return Err(GateError::Clock { offset });
        }
        let inherited = Inherited { id: gate.maps.id, open: inherit(&slots, clock::now()) };
        Ok((gate, slots, inherited))
    }

    /// Exactly these addresses are gated from now on, each by its slot.
    ///
    /// Nothing that was gated and still is to be passes in between. An IPv4 address is the same
    /// as the IPv6 address that stands for it (`::ffff:192.0.2.1`).
    ///
    /// # Errors
    /// There is no room for so many, and then nothing is changed; or the kernel refuses, and
    /// then some may be gated that should not be, but none that should be is left out silently.
    pub fn set_addresses(&mut self, addresses: &BTreeMap<IpAddr, u16>) -> Result<(), GateError> {
        let map = &self.maps.addresses;
        let capacity = usize::try_from(map.spec.entries).unwrap_or(usize::MAX);
        let full = || GateError::Full { capacity, wanted: addresses.len() };
        if addresses.len() > capacity {
            return Err(full());
        }
        let fail = |e| GateError::of("change the gated addresses", e);
        let before = map.keys().map_err(fail)?;
        let mut wanted = BTreeSet::new();
        for (address, slot) in addresses {
            let key = key(*address);
            map.update(&key, &u32::from(*slot).to_ne_bytes()).map_err(|e| {
                if e.raw_os_error() == Some(libc::E2BIG) { full() } else { fail(e) }
            })?;
            wanted.insert(key);
        }
        let stale = before.iter().filter(|key| {
            <&[u8; 16]>::try_from(key.as_slice()).is_ok_and(|key| !wanted.contains(key))
        });
        stale.into_iter().try_for_each(|key| map.delete(key)).map_err(fail)
    }

    /// Puts the gate on all of `links` that are not skipped, and takes it off those that are.
    ///
    /// `links` are all there are; of one that is not among them the gate is taken off only when
    /// it is gone.
    pub fn cover(&mut self, links: &[GateLink]) -> Coverage {
        let skipped: BTreeSet<_> = links.iter().filter(|l| l.skip).map(|l| l.index).collect();
        for (index, way, there) in tcx::known(&self.dir).unwrap_or_default() {
            if !there || skipped.contains(&index) {
                // What is left over costs nothing and is seen again the next time.
                let _ = tcx::uncover(&self.dir, index, way);
            }
        }
        if self.mode == Mode::Clsact && !skipped.is_empty() {
            let _ = self.filters().map(|filters| {
                for (index, way) in skipped.iter().flat_map(|ix| Way::BOTH.map(|way| (*ix, way))) {
                    let _ = filters.uncover(index, way);
                }
            });
        }
        self.covered = links.iter().filter(|link| !link.skip).map(|link| link.index).collect();
        self.verify()
    }

    /// Looks whether the gate still is where [`cover`](Self::cover) has put it, and first there;
    /// puts it back where it is not.
    pub fn verify(&mut self) -> Coverage {
        let mut coverage = Coverage::default();
        for index in self.covered.clone() {
            let cover = match self.cover_both(index) {
                Ok(changed) => {
                    if changed {
                        coverage.changed.insert(index);
                    }
                    Cover::Covered(self.mode)
                }
                Err(e) => Cover::Failed(e.to_string()),
            };
            coverage.links.insert(index, cover);
        }
        coverage
    }

    /// How many frames were dropped on their way in, and out, since the gate was made.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn drops(&self) -> Result<[u64; 2], GateError> {
        let count = |way: u32| {
            let value = self.maps.drops.lookup(&way.to_ne_bytes());
            let value = value.map_err(|e| GateError::of("read the gate's counters", e))?;
            let bytes = value.as_deref().and_then(|value| value.first_chunk());
            Ok(bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
        };
        Ok([count(0)?, count(1)?])
    }

    /// How far the boot clock of this process is off the one that the programs go by.
    ///
    /// # Errors
    /// The kernel does not run the program that reads it.
    pub fn clock_offset(&self) -> Result<Duration, GateError> {
        let fail = |e| GateError::of("run a BPF program", e);
        let before = clock::now();
        let frame = self.clock.run(&[0; 64]).map_err(fail)?;
        let after = clock::now();
        let kernel = frame.get(16..).and_then(|rest| rest.first_chunk());
        let kernel =
            kernel.map_or(Instant::BOOT, |now| Instant::from_nanos(u64::from_ne_bytes(*now)));
        Ok(before.since(kernel).max(kernel.since(after)))
    }

    /// Takes the gate away, from all interfaces and for good: nothing is dropped any more.
    ///
    /// # Errors
    /// Something is still there.
    pub fn dismantle(mut self) -> Result<(), GateError> {
        let fail = |e| GateError::of("read the gate's directory", e);
        for (index, way, _) in tcx::known(&self.dir).map_err(fail)? {
            tcx::uncover(&self.dir, index, way)?;
        }
        if self.mode == Mode::Clsact {
            let links = present().map_err(|e| GateError::of("list the interfaces", e))?;
            for link in links {
                for way in Way::BOTH {
                    let off = self.filters()?.uncover(link.index, way);
                    off.map_err(|e| GateError::of("delete a filter", e))?;
                }
            }
        }
        for name in ["identity", "slots", "addresses", "drops", "program-in", "program-out"] {
            pins::remove(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Covers both directions of an interface; whether anything had to be done.
    fn cover_both(&mut self, index: IfIndex) -> Result<bool, GateError> {
        let mut changed = false;
        for way in Way::BOTH {
            changed |= match self.mode {
                Mode::Tcx => self.cover_tcx(index, way)?,
                Mode::Clsact => self.cover_clsact(index, way)?,
            };
        }
        Ok(changed)
    }

    fn cover_tcx(&self, index: IfIndex, way: Way) -> Result<bool, GateError> {
        let spare = || self.maps.load(&self.object, way.name());
        tcx::cover(&self.dir, self.program(way), spare, index, way)
    }

    fn cover_clsact(&mut self, index: IfIndex, way: Way) -> Result<bool, GateError> {
        self.filters()?;
        let program = match way {
            Way::In => &self.inward,
            Way::Out => &self.outward,
        };
        let Some(filters) = &mut self.filters else { return Ok(false) };
        let doing = || format!("set a filter ({} of interface {index})", way.name());
        filters.cover(program, index, way).map_err(|e| GateError::of(doing(), e))
    }

    fn program(&self, way: Way) -> &Program {
        match way {
            Way::In => &self.inward,
            Way::Out => &self.outward,
        }
    }

    fn filters(&mut self) -> Result<&mut Filters, GateError> {
        match &mut self.filters {
            Some(_) => {}
            none => {
                let open = Filters::open(&self.dir);
                *none = Some(open.map_err(|e| GateError::of("open a netlink socket", e))?);
            }
        }
        self.filters.as_mut().ok_or(GateError::NoBpf)
    }
}

/// The slots that are open. What is too far away to be a deadline is none, also not later.
fn inherit(slots: &Slots, now: Instant) -> Vec<(u128, u16, Instant)> {
    let mut open = Vec::new();
    for (number, slot) in slots.all() {
        if slot.deadline > now + CAP {
            slots.shut(number);
        } else if slot.deadline > now {
            open.push((slot.owner, number, slot.deadline));
        }
    }
    open
}

/// How the programs look an address up.
fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
