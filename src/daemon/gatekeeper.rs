//! The kernel's gate in the daemon's terms: groups by name, interfaces as they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use crate::config::Config;
use crate::core::status::GateStatus;
use crate::gate::{self, Cover, Deny, Gate, GateError, Inherited, Mode, Slots};
use crate::io::ballots::key;
use crate::io::clock;
use crate::io::worker::Gatekeeper;
use crate::types::{GateId, IfIndex, Instant};

/// The gate as an earlier run left it.
pub(super) struct Found {
    /// For the worker.
    pub(super) keeper: Keeper,
    /// For the core thread.
    pub(super) deadlines: Deadlines,
    /// Which gate it is.
    pub(super) id: GateId,
    /// Groups of the configuration that are open, and until when.
    pub(super) open: BTreeMap<String, Instant>,
}

/// Opens the gate of this node.
pub(super) fn open(dir: &Path, config: &Config) -> Result<Found, GateError> {
    let (gate, slots, Inherited { id, open }) = Gate::open(dir, None)?;
    let name = |owner| config.groups.iter().find(|g| key(&g.name) == owner);
    let open = open
        .into_iter()
        .filter_map(|(owner, _, until)| Some((name(owner)?.name.clone(), until)))
        .collect();
    let deadlines = Deadlines { slots, of: BTreeMap::new() };
    // Each network has packet filters of its own; in one, each directory has its rule.
    let deny = Deny::open(&format!("vipd-{:08x}", key(&dir.to_string_lossy()) >> 96)).ok();
    let keeper = Keeper { gate, deny, addresses: BTreeSet::new(), denied: None };
    Ok(Found { keeper, deadlines, id, open })
}

/// The deadlines of groups, for the core thread: each is a store.
#[derive(Debug)]
pub(super) struct Deadlines {
    slots: Slots,
    of: BTreeMap<u16, u16>,
}

impl Deadlines {
    /// Gives each group its slot; the slots of others are free once their time has passed.
    /// Returns the addresses with their slots.
    pub(super) fn assign<'n>(
        &mut self,
        addresses: &BTreeMap<IpAddr, u16>,
        name: impl Fn(u16) -> Option<&'n str>,
    ) -> BTreeMap<IpAddr, u16> {
        let now = clock::now();
        let groups: BTreeSet<u16> = addresses.values().copied().collect();
        let owners: BTreeMap<u16, u128> =
            groups.iter().filter_map(|id| Some((*id, key(name(*id)?)))).collect();
        self.slots.retain(&owners.values().copied().collect(), now);
        self.of = owners
            .into_iter()
            .filter_map(|(id, owner)| Some((id, self.slots.claim(owner, now)?)))
            .collect();
        let slot = |id: u16| self.of.get(&id).copied();
        // An address without a slot would pass ungated: it leads to one that never opens.
        addresses.iter().map(|(ip, id)| (*ip, slot(*id).unwrap_or(u16::MAX))).collect()
    }

    /// Opens the gate of a group until then, or shuts it.
    pub(super) fn set(&self, group: u16, until: Option<Instant>) {
        let Some(slot) = self.of.get(&group) else { return };
        match until {
            Some(until) => self.slots.open_until(*slot, until),
            None => self.slots.shut(*slot),
        }
    }
}

/// The gate, for the worker.
#[derive(Debug)]
pub(super) struct Keeper {
    gate: Gate,
    /// What an interface meets that comes while this daemon is dead; `None` on a kernel without
    /// nftables.
    deny: Option<Deny>,
    addresses: BTreeSet<IpAddr>,
    /// What the packet filter was told last: which interfaces have the gate.
    denied: Option<(BTreeSet<IpAddr>, BTreeSet<IfIndex>)>,
}

impl Keeper {
    /// Denies the addresses wherever the gate is not.
    fn deny(&mut self, gated: BTreeSet<IfIndex>) -> Result<(), String> {
        let Some(deny) = &mut self.deny else { return Ok(()) };
        let told = self.denied.as_ref();
        let same = told.is_some_and(|(a, g)| *a == self.addresses && *g == gated);
        if same && deny.is_there().unwrap_or(false) {
            return Ok(());
        }
        deny.set(&self.addresses, &gated)
            .map_err(|e| format!("the kernel's packet filter: {e}"))?;
        self.denied = Some((self.addresses.clone(), gated));
        Ok(())
    }
}

impl Gatekeeper for Keeper {
    fn guard(&mut self, addresses: &BTreeMap<IpAddr, u16>) -> Result<(), String> {
        self.gate.set_addresses(addresses).map_err(|e| format!("the kernel's gate: {e}"))?;
        self.addresses = addresses.keys().copied().collect();
        Ok(())
    }

    fn cover(&mut self) -> Result<GateStatus, String> {
        let links = gate::present().map_err(|e| format!("interfaces: {e}"))?;
        let coverage = self.gate.cover(&links);
        let mut mode = "none";
        for (index, cover) in &coverage.links {
            match cover {
                Cover::Covered(Mode::Tcx) => mode = "tcx",
                Cover::Covered(Mode::Clsact) => mode = "clsact",
                // One that has just gone needs no gate.
                Cover::Failed(_)
                    if !gate::present().is_ok_and(|l| l.iter().any(|l| l.index == *index)) => {}
                Cover::Failed(why) => {
                    let name = links.iter().find(|l| l.index == *index).map(|l| &*l.name);
                    return Err(format!(
                        "the kernel's gate is not on {}: {why}",
                        name.unwrap_or("an interface")
                    ));
                }
            }
        }
        self.deny(coverage.covered())?;
        let [dropped_in, dropped_out] = self.gate.drops().unwrap_or_default();
        let (mode, interfaces) = (mode.to_owned(), coverage.links.len());
        Ok(GateStatus { mode, interfaces, dropped_in, dropped_out })
    }
}
