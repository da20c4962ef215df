//! What the kernel reports, and what is asked of it: which interface a group is on, which sockets
//! it needs, which addresses do not belong.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::Transport;
use crate::types::{Family, IfIndex, Instant};

use super::addresses::Op;
use super::event::{Action, AddressSpec, Failure, KernelAddress, Link, NOBODY, PortSpec, Task};
use super::group::{Group, spec};
use super::links::{self, NotReady};
use super::status::Severity;
use super::{MAX_WATCHED, Node};

impl Node {
    pub(super) fn link(&mut self, link: Link) {
        self.links.link(link);
        self.stale = true;
    }

    pub(super) fn link_gone(&mut self, now: Instant, index: IfIndex, out: &mut Vec<Action>) {
        for address in self.links.link_gone(index) {
            self.lost(now, address, out);
        }
        for group in self.groups.values_mut() {
            group.addresses.interface_gone(index);
        }
        self.stale = true;
    }

    pub(super) fn address(&mut self, now: Instant, address: KernelAddress, out: &mut Vec<Action>) {
        self.links.address(address);
        let Some(&(id, slot)) = self.vips.get(&address.ip) else {
            self.stale |= self.may_be_a_source(&address);
            self.sweep(address, out);
            return;
        };
        self.with(id, out, |group, out| {
            let meaning = group.addresses.seen(now, slot, &address);
            group.address_told(now, address.ip, meaning, out);
        });
        self.sweep(address, out);
    }

    pub(super) fn address_gone(
        &mut self,
        now: Instant,
        address: KernelAddress,
        out: &mut Vec<Action>,
    ) {
        self.links.address_gone(address);
        self.lost(now, address, out);
    }

    pub(super) fn lost(&mut self, now: Instant, address: KernelAddress, out: &mut Vec<Action>) {
        let Some(&(id, slot)) = self.vips.get(&address.ip) else {
            self.stale |= self.may_be_a_source(&address);
            return;
        };
        for (id, slot) in self.owners(id, slot, address.ip) {
            self.with(id, out, |group, out| {
                let limit = group.config.restore_limit;
                let meaning = group.addresses.gone(now, slot, &address, limit);
                group.address_told(now, address.ip, meaning, out);
                group.settle(now, out);
            });
        }
    }

    /// Whose an address is: that of one group, and while it moves from there, of the other, too.
    fn owners(&self, id: u16, slot: u16, ip: IpAddr) -> Vec<(u16, u16)> {
        let mut all = vec![(id, slot)];
        let leaves = |g: &Group| {
            g.retired || g.addresses.slots().get(usize::from(slot)).is_none_or(|s| s.retired)
        };
        if self.groups.get(&id).is_some_and(leaves) {
            let others = self.groups.iter().filter(|(other, _)| **other != id);
            all.extend(others.filter_map(|(other, group)| {
                let slots = group.addresses.slots();
                let place = slots.iter().position(|s| s.spec.ip == ip && !s.retired)?;
                Some((*other, u16::try_from(place).ok()?))
            }));
        }
        all
    }

    /// Whether adverts could be sent from an address: this node's own, wherever it is, or one on
    /// an interface with sockets of ours. Any other may come and go unseen.
    fn may_be_a_source(&self, address: &KernelAddress) -> bool {
        let own = self.config.nodes[self.me].address_of(Family::of(address.ip));
        !address.ours && (own == Some(address.ip) || self.links.has_port(address.index))
    }

    pub(super) fn resync_end(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.resyncing = false;
        let gone = self.links.resync_end();
        for index in gone.links {
            self.link_gone(now, index, out);
        }
        for address in gone.addresses {
            self.address_gone(now, address, out);
        }
        self.refresh(now, out);
        let all: Vec<_> = self.links.addresses().copied().collect();
        for address in all {
            self.sweep(address, out);
        }
    }

    /// Removes a virtual address from where it does not belong: another interface, or left over
    /// from an earlier configuration. Loopback is the operator's own.
    pub(super) fn sweep(&mut self, address: KernelAddress, out: &mut Vec<Action>) {
        if self.resyncing || self.links.is_loopback(address.index) {
            return;
        }
        let (group, slot) = match self.vips.get(&address.ip) {
            Some(&(id, slot)) => {
                let slots = self.groups.get(&id).map_or(&[][..], |g| g.addresses.slots());
                let belongs = slots
                    .get(usize::from(slot))
                    .is_none_or(|s| s.spec.index == address.index || s.spec.index == IfIndex(0));
                if belongs {
                    return;
                }
                (id, slot)
            }
            None if address.ours && self.orphans.contains(&address.ip) => (NOBODY, u16::MAX),
            None => return,
        };
        let spec = AddressSpec {
            index: address.index,
            ip: address.ip,
            prefix: address.prefix,
            label: None,
            preferred: false,
        };
        self.tasks += 1;
        out.push(Action::Kernel(Task::DelAddress { group, slot, spec }));
    }

    pub(super) fn done(
        &mut self,
        now: Instant,
        task: Task,
        result: Result<(), Failure>,
        out: &mut Vec<Action>,
    ) {
        let (id, slot, op, spec) = match task {
            Task::OpenPort(spec) => {
                if self.links.opened(now, &spec, result) {
                    self.stale = true;
                }
                return;
            }
            Task::ClosePort(_) | Task::Disconnect { .. } => return,
            Task::AddAddress { group, slot, spec } => (group, slot, Op::Add, spec),
            Task::DelAddress { group, slot, spec } => (group, slot, Op::Del, spec),
        };
        self.tasks = self.tasks.saturating_sub(1);
        self.with(id, out, |group, out| {
            group.address_done(now, slot, op, &spec, result, out);
            group.settle(now, out);
        });
    }

    /// Looks up every group's interface, source and addresses, and plans the sockets.
    pub(super) fn refresh(&mut self, now: Instant, out: &mut Vec<Action>) {
        let found: Vec<_> =
            self.groups.iter().map(|(id, g)| (*id, self.interface(g).cloned())).collect();
        let wanted = self.wanted_ports(&found);
        let (close, open) = self.links.plan_ports(now, wanted);
        out.extend(close.into_iter().map(|i| Action::Kernel(Task::ClosePort(i))));
        out.extend(open.into_iter().map(|spec| Action::Kernel(Task::OpenPort(spec))));
        self.routes.clear();
        for (id, link) in found {
            let ready = link.and_then(|l| self.readiness(id, &l));
            let addresses = self.resolve(id);
            let links = &self.links;
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.port = ready.as_ref().ok().copied();
            if let Some(port) = group.port
                && !group.retired
            {
                self.routes.insert((port, group.config.vrid), id);
            }
            let found = group.addresses.configure(addresses, |s| links.has(s.index, s.ip));
            let (group, mut out) = self.parts_of(id, out);
            if let Some(group) = group {
                if found > 0 && !group.is_active() && !group.is_heir() {
                    let text = format!("{found} address(es) were already here; removing them");
                    group.note(now, Severity::Warn, "leftover", text, &mut out);
                }
                group.set_ready(now, ready.map(|_| ()), &mut out);
                group.settle(now, &mut out);
            }
        }
        self.reap(out);
        self.index_addresses();
        self.guard(out);
    }

    /// The interface of a group.
    pub(super) fn interface(&self, group: &Group) -> Result<&Link, NotReady> {
        if let Some(name) = &group.config.interface {
            self.links.named(name).ok_or_else(|| NotReady::NoInterface(name.clone()))
        } else {
            let own = self.config.nodes[self.me].address;
            self.links.carrying(own).ok_or(NotReady::NoAddress(own))
        }
    }

    pub(super) fn wanted_ports(
        &self,
        found: &[(u16, Result<Link, NotReady>)],
    ) -> BTreeMap<IfIndex, PortSpec> {
        let mut wanted: BTreeMap<IfIndex, PortSpec> = BTreeMap::new();
        for (id, link) in found {
            let (Ok(link), Some(group)) = (link, self.groups.get(id)) else { continue };
            if !link.up {
                if let Some(spec) = self.links.port(link.index) {
                    wanted.insert(link.index, spec.clone());
                }
                continue;
            }
            let port = wanted.entry(link.index).or_insert_with(|| PortSpec {
                index: link.index,
                name: link.name.clone(),
                v4: None,
                v6: None,
                watch: Vec::new(),
            });
            for family in group.config.families() {
                match self.source(link.index, group, family) {
                    Some(IpAddr::V4(ip)) => port.v4 = Some(ip),
                    Some(IpAddr::V6(ip)) => port.v6 = Some(ip),
                    None => {}
                }
            }
            if port.watch.is_empty() {
                port.watch.extend(port.v4.map(IpAddr::V4));
            }
            let room = MAX_WATCHED.saturating_sub(port.watch.len());
            port.watch.extend(group.config.addresses.iter().map(|a| a.ip).take(room));
        }
        wanted
    }

    /// Our source address for a group's adverts: the node's own where the interface carries it.
    /// IPv6 multicast must come from a link-local one (RFC 9568 §5.1.2.1).
    pub(super) fn source(&self, index: IfIndex, group: &Group, family: Family) -> Option<IpAddr> {
        let own = self.config.nodes[self.me].address_of(family).filter(|ip| {
            match (ip, group.config.transport) {
                (IpAddr::V4(_), _) | (IpAddr::V6(_), Transport::Unicast { .. }) => true,
                (IpAddr::V6(ip), Transport::Multicast) => links::is_link_local(*ip),
            }
        });
        self.links.source(index, family, own, |ip| self.is_virtual(ip))
    }

    pub(super) fn is_virtual(&self, ip: IpAddr) -> bool {
        self.vips.contains_key(&ip)
            || self.groups.values().any(|g| g.config.addresses.iter().any(|a| a.ip == ip))
    }

    /// Whether a group's adverts can be sent and heard, and where.
    pub(super) fn readiness(&self, id: u16, link: &Link) -> Result<IfIndex, NotReady> {
        let name = link.name.to_string();
        if !link.up {
            return Err(NotReady::NoCarrier(name));
        }
        let Some(group) = self.groups.get(&id) else { return Ok(link.index) };
        for family in group.config.families() {
            let usable = self.links.port(link.index);
            if usable.is_some_and(|p| p.source(family).is_some()) {
                continue;
            }
            return Err(match self.source(link.index, group, family) {
                None => NotReady::NoSource(name, family),
                Some(_) => self.links.port_trouble(link.index, &name),
            });
        }
        Ok(link.index)
    }

    /// What a group's addresses are on this host: interface numbers instead of names.
    pub(super) fn resolve(&self, id: u16) -> Vec<(AddressSpec, bool)> {
        let Some(group) = self.groups.get(&id) else { return Vec::new() };
        let default = self.interface(group).map_or(IfIndex(0), |l| l.index);
        let index = |name: &Option<String>| match name {
            Some(name) => self.links.named(name).map_or(IfIndex(0), |l| l.index),
            None => default,
        };
        group.config.addresses.iter().map(|a| (spec(a, index(&a.interface)), a.advertise)).collect()
    }

    pub(super) fn index_addresses(&mut self) {
        self.vips.clear();
        for (id, group) in &self.groups {
            for (ix, slot) in (0..).zip(group.addresses.slots()) {
                let leaves = slot.retired || group.retired;
                if !leaves || slot.have || slot.pending.is_some() {
                    let old = self.vips.insert(slot.spec.ip, (*id, ix));
                    if let Some(old) = old.filter(|_| leaves) {
                        self.vips.insert(slot.spec.ip, old);
                    }
                }
            }
        }
    }
}
