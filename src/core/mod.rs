//! Who should hold the addresses: one state machine. PURE.
//!
//! [`Node::step`] takes an [`Event`] at a time and appends [`Action`]s; [`Node::deadline`] says when
//! to step with [`Event::Tick`] if nothing else happens; [`Node::status`] tells people. It reads no
//! clock, opens no socket, spawns nothing and logs nothing, so what ships is what the tests shake.
//!
//! | file | decides |
//! |---|---|
//! | `election` | what an advert means, when a router counts as silent (RFC 9568 §6.4) |
//! | `group` | Init, Backup, Active, Releasing: the fate that elections share |
//! | `addresses` | what to ask of the kernel, when to announce |
//! | `proxy` | when to start, stop and give up on the proxy |
//! | `presence` | whether peers can be reached, and have returned |
//! | `links` | which interface, which source address, which sockets |
//! | `signs` | what packets give away: foreign routers, duplicates, mismatches |
//!
//! Two outside effects are ordered only by the [`Event::Done`] of the first: addresses are gone
//! before priority 0 is sent, because it is sent when their removal was reported.

mod addresses;
mod election;
pub mod event;
mod group;
mod links;
mod presence;
mod proxy;
mod receive;
mod signs;
mod snapshot;
pub mod status;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Proxy, Transport};
use crate::types::{Family, IfIndex, Instant, Mac, Priority, VrId};

use addresses::Op;
use event::{Action, AddressSpec, Event, KernelAddress, Link, PortSpec, ProxyOrder, Secrets, Task};
use group::{Group, Settings, spec};
use links::{Links, NotReady};
use presence::{Change, Peer};
use signs::DropLog;
use status::{Note, PeerKind, Severity};

/// 224.0.0.18 (RFC 9568 §5.1.1.2).
pub const MULTICAST_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// ff02::12 (RFC 9568 §5.1.2.2).
pub const MULTICAST_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Requests to the kernel that may be under way: what a burst of addresses can delay.
const MAX_TASKS: usize = 256;
/// Announcements in one millisecond, so that thousands never delay an advert.
const PACE: u32 = 64;
const PACE_WINDOW: Duration = Duration::from_millis(1);
/// Virtual addresses on one interface whose claims by others are watched.
const MAX_WATCHED: usize = 64;
/// How long a stop waits beyond the proxies' own limits.
const STOP_LIMIT: Duration = Duration::from_secs(6);

/// Everything one vipd node knows and decides.
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    me: usize,
    started: Instant,
    links: Links,
    groups: BTreeMap<u16, Group>,
    /// The groups of the configuration, in its order.
    order: Vec<u16>,
    next_id: u16,
    routes: BTreeMap<(IfIndex, VrId), u16>,
    vips: BTreeMap<IpAddr, (u16, u16)>,
    /// Virtual addresses of an earlier configuration that may have been left behind.
    orphans: BTreeSet<IpAddr>,
    peers: Vec<Peer>,
    tasks: usize,
    pace: Pace,
    beats: Vec<IfIndex>,
    drops: DropLog,
    /// Adverts of virtual routers that are not ours.
    unknown_vrid: u64,
    stalled: Option<(Instant, Duration)>,
    resyncing: bool,
    stale: bool,
    stop_by: Option<Instant>,
    exited: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    opened: Instant,
    used: u32,
}

/// Where a step's actions go, and what those who act may look up.
pub(crate) struct Out<'a> {
    actions: &'a mut Vec<Action>,
    links: &'a Links,
    peers: &'a [Peer],
    beats: &'a mut Vec<IfIndex>,
    stale: &'a mut bool,
}

impl Out<'_> {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn note(
        &mut self,
        at: Instant,
        severity: Severity,
        group: Option<&str>,
        kind: &str,
        text: String,
    ) {
        let group = group.map(str::to_owned);
        self.actions.push(Action::Note(Note { at, severity, group, kind: kind.to_owned(), text }));
    }

    /// Our source address on a port.
    fn source(&self, port: Option<IfIndex>, family: Family) -> Option<IpAddr> {
        self.links.port(port?)?.source(family)
    }

    /// What to call whoever has this address.
    fn name(&self, ip: IpAddr) -> String {
        match self.peers.iter().find(|p| p.ip == ip) {
            Some(peer) if peer.name != ip.to_string() => format!("{} ({ip})", peer.name),
            Some(_) | None => ip.to_string(),
        }
    }

    /// A holder has just advertised on this port: its peers are due to be asked.
    fn beat(&mut self, port: Option<IfIndex>) {
        if let Some(port) = port
            && !self.beats.contains(&port)
        {
            self.beats.push(port);
        }
    }

    /// A group was made anew or has ended: interfaces and addresses are to be looked up.
    fn replaced(&mut self) {
        *self.stale = true;
    }
}

impl Node {
    /// Node number `me` of `config`. `orphans` are virtual addresses of an earlier configuration
    /// that are removed if they are still there.
    pub fn new(
        now: Instant,
        config: Arc<Config>,
        me: usize,
        secrets: &Secrets,
        orphans: BTreeSet<IpAddr>,
        out: &mut Vec<Action>,
    ) -> Self {
        let mut node = Self {
            peers: peers(&config, me),
            config,
            me,
            started: now,
            links: Links::default(),
            groups: BTreeMap::new(),
            order: Vec::new(),
            next_id: 0,
            routes: BTreeMap::new(),
            vips: BTreeMap::new(),
            orphans,
            tasks: 0,
            pace: Pace::default(),
            beats: Vec::new(),
            drops: DropLog::default(),
            unknown_vrid: 0,
            stalled: None,
            resyncing: false,
            stale: true,
            stop_by: None,
            exited: false,
        };
        for ix in 0..node.config.groups.len() {
            let settings = node.settings(ix, secrets);
            let id = node.add_group(now, settings, out);
            node.order.push(id);
        }
        node
    }

    /// Feeds one event at `now`, appending what must be done to `out`.
    ///
    /// Total: an event that means nothing in the current state is ignored, so a packet, a tick or
    /// a completion that raced with a transition does no harm.
    pub fn step(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::Tick => self.tick(now, out),
            Event::Datagram { ifindex, meta, bytes } => {
                self.datagram(now, ifindex, &meta, bytes, out)
            }
            Event::Neighbour { ifindex, ip, mac } => self.neighbour(now, ifindex, ip, mac, out),
            Event::Link(link) => self.link(link),
            Event::LinkGone(index) => self.link_gone(now, index, out),
            Event::Address(address) => self.address(now, address, out),
            Event::AddressGone(address) => self.address_gone(now, address, out),
            Event::ResyncBegin => {
                self.links.resync_begin();
                self.resyncing = true;
            }
            Event::ResyncEnd => self.resync_end(now, out),
            Event::Done(task, result) => self.done(now, task, result, out),
            Event::Proxy(id, event) => self.with(id, out, |group, out| {
                group.proxy_told(now, &event, out);
                group.settle(now, out);
            }),
            Event::Stop => self.stop(now, out),
            Event::Reload(config, secrets) => self.reload(now, config, &secrets, out),
        }
        self.finish(now, out);
    }

    /// When to call [`Node::step`] with [`Event::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let paced =
            if self.pace.used >= PACE { self.pace.opened + PACE_WINDOW } else { Instant::BOOT };
        let groups = self.groups.values().filter_map(Group::deadline).min();
        let announce = self.groups.values().filter_map(|g| g.addresses.announce_at()).min();
        [
            groups,
            announce.map(|at| at.max(paced)),
            self.links.deadline(),
            self.drops.deadline(),
            self.stop_by,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Hands every packet of an [`Action::Advertise`] to `send`: its interface, destination and
    /// payload. `buf` is scratch.
    pub fn emit(
        &self,
        group: u16,
        family: Family,
        priority: Priority,
        buf: &mut Vec<u8>,
        mut send: impl FnMut(IfIndex, IpAddr, &[u8]),
    ) {
        let Some(group) = self.groups.get(&group) else { return };
        let Some(election) = group.elections.iter().find(|e| e.family == family) else { return };
        let Some(port) = group.port else { return };
        let Some(src) = self.links.port(port).and_then(|p| p.source(family)) else { return };
        let mut to = |dst: IpAddr| {
            for flavour in election.flavours() {
                buf.clear();
                election.template.emit(priority, *flavour, src, dst, buf);
                send(port, dst, buf);
            }
        };
        match (group.config.transport, family) {
            (Transport::Multicast, Family::V4) => to(IpAddr::V4(MULTICAST_V4)),
            (Transport::Multicast, Family::V6) => to(IpAddr::V6(MULTICAST_V6)),
            (Transport::Unicast { .. }, family) => {
                group
                    .destinations
                    .iter()
                    .filter(|d| Family::of(**d) == family)
                    .for_each(|d| to(*d));
            }
        }
    }

    /// The hardware address of an interface, for frames sent there.
    pub fn mac(&self, ifindex: IfIndex) -> Option<Mac> {
        self.links.get(ifindex).map(|l| l.mac)
    }

    /// What the proxy of a group is.
    pub fn proxy(&self, group: u16) -> Option<&Proxy> {
        self.groups.get(&group)?.config.proxy.as_ref()
    }

    /// Every virtual address of the configuration in force.
    fn virtual_addresses(&self) -> BTreeSet<IpAddr> {
        self.config.groups.iter().flat_map(|g| &g.addresses).map(|a| a.ip).collect()
    }

    // ---- time ----

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.notice_stall(now, out);
        if self.links.deadline().is_some_and(|at| now >= at) {
            self.stale = true;
        }
        if let Some(drops) = self.drops.tick(now) {
            self.tell_drops(now, &drops, out);
        }
        self.each(out, |group, out| group.tick(now, out));
        if self.stop_by.is_some_and(|at| now >= at) {
            self.stop_by = None;
            let mut out = self.parts(out).1;
            out.note(
                now,
                Severity::Error,
                None,
                "stop-timed-out",
                "not everything could be given up".to_owned(),
            );
            out.push(Action::Exit);
            self.exited = true;
        }
    }

    /// A late tick means that this process was not run: peers may have taken over meanwhile.
    fn notice_stall(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(late) = self.deadline().map(|due| now.since(due)) else { return };
        let shortest = self.groups.values().map(|g| g.config.interval.duration()).min();
        if shortest.is_none_or(|interval| late < interval) {
            return;
        }
        let news = self.stalled.is_none_or(|(at, _)| now > at + signs::LASTS);
        self.stalled = Some((now, late));
        if news {
            let text = format!("the daemon was not run for {} ms", late.as_millis());
            self.parts(out).1.note(now, Severity::Warn, None, "stalled", text);
        }
    }

    /// What follows every event, whatever it was.
    fn finish(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.stale && !self.resyncing {
            self.stale = false;
            self.refresh(now, out);
        }
        self.reconcile(now, out);
        self.announce(now, out);
        self.ask_peers(now, out);
        if self.stop_by.is_some() && !self.exited && self.groups.values().all(Group::is_stopped) {
            self.exited = true;
            self.stop_by = None;
            out.push(Action::Exit);
        }
    }

    fn reconcile(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mut allowance = MAX_TASKS.saturating_sub(self.tasks);
        let before = allowance;
        for (id, group) in &mut self.groups {
            group.addresses.reconcile(now, *id, &mut allowance, out);
        }
        self.tasks += before - allowance;
    }

    fn announce(&mut self, now: Instant, out: &mut Vec<Action>) {
        if now >= self.pace.opened + PACE_WINDOW {
            self.pace = Pace { opened: now, used: 0 };
        }
        let mut allowance = PACE - self.pace.used;
        for group in self.groups.values_mut() {
            group.addresses.announce(now, &group.config.announce, &mut allowance, out);
        }
        self.pace.used = PACE - allowance;
    }

    fn ask_peers(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(ifindex) = self.beats.pop() {
            let Some(port) = self.links.port(ifindex) else { continue };
            let sources = [port.source(Family::V4), port.source(Family::V6)];
            let mut lost = Vec::new();
            for peer in self.peers.iter_mut().filter(|p| self.links.on_link(ifindex, p.ip)) {
                for source in sources.into_iter().flatten() {
                    if peer.ask(now, ifindex, source, out) == Change::Lost {
                        lost.push(format!("{} ({}) does not answer any more", peer.name, peer.ip));
                    }
                }
            }
            for text in lost {
                self.parts(out).1.note(now, Severity::Warn, None, "peer-lost", text);
            }
        }
    }

    // ---- the kernel ----

    fn link(&mut self, link: Link) {
        self.links.link(link);
        self.stale = true;
    }

    fn link_gone(&mut self, now: Instant, index: IfIndex, out: &mut Vec<Action>) {
        for address in self.links.link_gone(index) {
            self.lost(now, address, out);
        }
        for group in self.groups.values_mut() {
            group.addresses.interface_gone(index);
        }
        self.stale = true;
    }

    fn address(&mut self, now: Instant, address: KernelAddress, out: &mut Vec<Action>) {
        self.links.address(address);
        let Some(&(id, slot)) = self.vips.get(&address.ip) else {
            self.stale |= !address.ours;
            self.sweep(address, out);
            return;
        };
        self.with(id, out, |group, out| {
            let meaning = group.addresses.seen(now, slot, &address);
            group.address_told(now, address.ip, meaning, out);
        });
        self.sweep(address, out);
    }

    fn address_gone(&mut self, now: Instant, address: KernelAddress, out: &mut Vec<Action>) {
        self.links.address_gone(address);
        self.lost(now, address, out);
    }

    fn lost(&mut self, now: Instant, address: KernelAddress, out: &mut Vec<Action>) {
        let Some(&(id, slot)) = self.vips.get(&address.ip) else {
            self.stale |= !address.ours;
            return;
        };
        self.with(id, out, |group, out| {
            let limit = group.config.restore_limit;
            let meaning = group.addresses.gone(now, slot, &address, limit);
            group.address_told(now, address.ip, meaning, out);
            group.settle(now, out);
        });
    }

    fn resync_end(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.resyncing = false;
        let gone = self.links.resync_end();
        for group in self.groups.values_mut() {
            group.addresses.resynced();
        }
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
    fn sweep(&mut self, address: KernelAddress, out: &mut Vec<Action>) {
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
            None if address.ours && self.orphans.contains(&address.ip) => (u16::MAX, u16::MAX),
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

    fn done(
        &mut self,
        now: Instant,
        task: Task,
        result: Result<(), event::Failure>,
        out: &mut Vec<Action>,
    ) {
        let (id, slot, op, spec) = match task {
            Task::OpenPort(spec) => {
                if self.links.opened(now, &spec, result) {
                    self.stale = true;
                }
                return;
            }
            Task::ClosePort(_) => return,
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
    fn refresh(&mut self, now: Instant, out: &mut Vec<Action>) {
        let found: Vec<_> = self.groups.iter().map(|(id, g)| (*id, self.interface(g))).collect();
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
                if found > 0 && !group.is_active() {
                    let text = format!("{found} address(es) were already here; removing them");
                    group.note(now, Severity::Warn, "leftover", text, &mut out);
                }
                group.set_ready(now, ready.map(|_| ()), &mut out);
                group.settle(now, &mut out);
            }
        }
        self.reap(out);
        self.index_addresses();
    }

    /// The interface of a group.
    fn interface(&self, group: &Group) -> Result<Link, NotReady> {
        match &group.config.interface {
            Some(name) => self.links.named(name).ok_or_else(|| NotReady::NoInterface(name.clone())),
            None => {
                let own = self.config.nodes[self.me].address;
                self.links.carrying(own).ok_or(NotReady::NoAddress(own))
            }
        }
        .cloned()
    }

    fn wanted_ports(&self, found: &[(u16, Result<Link, NotReady>)]) -> BTreeMap<IfIndex, PortSpec> {
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
            let room = MAX_WATCHED.saturating_sub(port.watch.len());
            port.watch.extend(group.config.addresses.iter().map(|a| a.ip).take(room));
        }
        wanted
    }

    /// Our source address for a group's adverts: the node's own where the interface carries it.
    /// IPv6 multicast must come from a link-local one (RFC 9568 §5.1.2.1).
    fn source(&self, index: IfIndex, group: &Group, family: Family) -> Option<IpAddr> {
        let own = self.config.nodes[self.me].address_of(family).filter(|ip| {
            match (ip, group.config.transport) {
                (IpAddr::V4(_), _) | (IpAddr::V6(_), Transport::Unicast { .. }) => true,
                (IpAddr::V6(ip), Transport::Multicast) => links::is_link_local(*ip),
            }
        });
        self.links.source(index, family, own, |ip| self.is_virtual(ip))
    }

    fn is_virtual(&self, ip: IpAddr) -> bool {
        self.vips.contains_key(&ip)
            || self.groups.values().any(|g| g.config.addresses.iter().any(|a| a.ip == ip))
    }

    /// Whether a group's adverts can be sent and heard, and where.
    fn readiness(&self, id: u16, link: &Link) -> Result<IfIndex, NotReady> {
        let name = link.name.to_string();
        if !link.up {
            return Err(NotReady::NoCarrier(name));
        }
        let families = self.groups.get(&id).into_iter().flat_map(|g| g.config.families());
        for family in families {
            let usable = self.links.port(link.index);
            if usable.is_some_and(|p| p.source(family).is_some()) {
                continue;
            }
            let group = &self.groups[&id];
            return Err(match self.source(link.index, group, family) {
                None => NotReady::NoSource(name, family),
                Some(_) => self.links.port_trouble(link.index, &name),
            });
        }
        Ok(link.index)
    }

    /// What a group's addresses are on this host: interface numbers instead of names.
    fn resolve(&self, id: u16) -> Vec<(AddressSpec, bool)> {
        let Some(group) = self.groups.get(&id) else { return Vec::new() };
        let default = self.interface(group).map_or(IfIndex(0), |l| l.index);
        let index = |name: &Option<String>| match name {
            Some(name) => self.links.named(name).map_or(IfIndex(0), |l| l.index),
            None => default,
        };
        group.config.addresses.iter().map(|a| (spec(a, index(&a.interface)), a.advertise)).collect()
    }

    fn index_addresses(&mut self) {
        self.vips.clear();
        for (id, group) in &self.groups {
            for (ix, slot) in (0..).zip(group.addresses.slots()) {
                if !slot.retired || slot.have || slot.pending.is_some() {
                    let old = self.vips.insert(slot.spec.ip, (*id, ix));
                    if let Some(old) = old.filter(|_| slot.retired) {
                        self.vips.insert(slot.spec.ip, old);
                    }
                }
            }
        }
    }

    // ---- orders ----

    fn stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.stop_by.is_some() || self.exited {
            return;
        }
        let proxies = self.groups.values().filter_map(|g| g.config.proxy.as_ref());
        let longest = proxies.map(|p| p.stop_timeout).max().unwrap_or_default();
        self.stop_by = Some(now + STOP_LIMIT + longest);
        self.each(out, |group, out| group.quit(now, "vipd is stopping", out));
    }

    fn reload(
        &mut self,
        now: Instant,
        config: Arc<Config>,
        secrets: &Secrets,
        out: &mut Vec<Action>,
    ) {
        if self.stop_by.is_some() || self.exited {
            out.push(Action::Reloaded(Vec::new()));
            return;
        }
        let mut changes = Vec::new();
        self.orphans.extend(self.virtual_addresses());
        let old = std::mem::replace(&mut self.config, config);
        let name = &old.nodes[self.me].name;
        // The daemon refuses a file without this node, so it is found.
        self.me = self.config.nodes.iter().position(|n| n.name == *name).unwrap_or(0);
        self.peers = merge(std::mem::take(&mut self.peers), peers(&self.config, self.me));
        let mut gone: BTreeSet<u16> = self.order.drain(..).collect();
        for ix in 0..self.config.groups.len() {
            let settings = self.settings(ix, secrets);
            let known = self
                .groups
                .iter()
                .find(|(id, g)| gone.contains(id) && g.config.name == settings.config.name)
                .map(|(id, _)| *id);
            let id = match known {
                Some(id) => {
                    gone.remove(&id);
                    self.with(id, out, |group, out| {
                        let name = group.config.name.clone();
                        let lines = group.configure(now, settings, out);
                        changes.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
                    });
                    id
                }
                None => {
                    changes.push(format!("+ group {}", settings.config.name));
                    self.add_group(now, settings, out)
                }
            };
            self.order.push(id);
        }
        for id in gone {
            self.with(id, out, |group, out| {
                changes.push(format!("- group {}", group.config.name));
                group.retired = true;
                group.quit(now, "no longer in the configuration", out);
            });
        }
        self.stale = true;
        out.push(Action::Reloaded(changes));
    }

    fn add_group(&mut self, now: Instant, settings: Settings, out: &mut Vec<Action>) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let group = Group::new(now, id, settings);
        if group.proxy.is_some() {
            out.push(Action::Proxy(id, ProxyOrder::Watch));
        }
        self.groups.insert(id, group);
        id
    }

    /// Forgets groups that left the configuration and have nothing left on this host.
    fn reap(&mut self, out: &mut Vec<Action>) {
        self.groups.retain(|id, group| {
            let keep = !(group.retired && group.is_stopped());
            if !keep && group.proxy.is_some() {
                out.push(Action::Proxy(*id, ProxyOrder::Unwatch));
            }
            keep
        });
    }

    fn settings(&self, ix: usize, secrets: &Secrets) -> Settings {
        let config = self.config.groups[ix].clone();
        let nodes = self.config.nodes.iter().enumerate().filter(|(n, _)| *n != self.me);
        let families: Vec<_> = config.families().collect();
        let destinations = nodes
            .flat_map(|(_, n)| families.iter().filter_map(|f| n.address_of(*f)))
            .chain(config.routers.iter().map(|r| r.address))
            .collect();
        Settings {
            priority: config.priorities.get(self.me).copied().unwrap_or(Priority::DEFAULT),
            password: secrets.0.get(ix).copied().flatten(),
            destinations,
            config,
        }
    }

    // ---- borrowing ----

    fn parts<'a>(
        &'a mut self,
        actions: &'a mut Vec<Action>,
    ) -> (&'a mut BTreeMap<u16, Group>, Out<'a>) {
        let Self { groups, links, peers, beats, stale, .. } = self;
        (groups, Out { actions, links, peers, beats, stale })
    }

    fn parts_of<'a>(
        &'a mut self,
        id: u16,
        actions: &'a mut Vec<Action>,
    ) -> (Option<&'a mut Group>, Out<'a>) {
        let (groups, out) = self.parts(actions);
        (groups.get_mut(&id), out)
    }

    fn with(
        &mut self,
        id: u16,
        actions: &mut Vec<Action>,
        act: impl FnOnce(&mut Group, &mut Out<'_>),
    ) {
        let (group, mut out) = self.parts_of(id, actions);
        if let Some(group) = group {
            act(group, &mut out);
        }
    }

    fn each(&mut self, actions: &mut Vec<Action>, mut act: impl FnMut(&mut Group, &mut Out<'_>)) {
        let (groups, mut out) = self.parts(actions);
        for group in groups.values_mut() {
            act(group, &mut out);
        }
    }
}

/// Everybody but node `me`: the other nodes' fixed addresses and the routers of all groups.
fn peers(config: &Config, me: usize) -> Vec<Peer> {
    let nodes = config.nodes.iter().enumerate().filter(|(ix, _)| *ix != me).flat_map(|(_, n)| {
        let addresses = [Some(n.address), n.address6.map(IpAddr::V6)];
        addresses.into_iter().flatten().map(|ip| (n.name.clone(), ip, PeerKind::Node))
    });
    let routers = config.groups.iter().flat_map(|g| &g.routers);
    let routers = routers.map(|r| (r.name.clone(), r.address, PeerKind::Router));
    let mut peers: Vec<Peer> = Vec::new();
    for (name, ip, kind) in nodes.chain(routers) {
        if !peers.iter().any(|p| p.ip == ip) {
            peers.push(Peer::new(name, ip, kind));
        }
    }
    peers
}

/// Keeps what is known of peers that stay.
fn merge(old: Vec<Peer>, mut new: Vec<Peer>) -> Vec<Peer> {
    for was in old {
        if let Some(is) = new.iter_mut().find(|p| p.ip == was.ip && p.name == was.name) {
            *is = was;
        }
    }
    new
}
