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
//! | `care` | how proxies and checks are on every node |
//! | `presence` | whether peers can be reached, and have returned |
//! | `lease` | who may hold: votes, terms, majorities |
//! | `tenure` | what groups and the lease tell each other |
//! | `together` | groups that are held on one host, or each on one of its own |
//! | `fence`, `fencing` | which nodes are fenced, and what follows |
//! | `will`, `operator` | what operators have decided, and what follows |
//! | `links` | which interface, which source address, which sockets |
//! | `routing` | which routes and rules are to be there with the addresses |
//! | `selffence` | whether this host must be reset |
//! | `signs` | what packets give away: foreign routers, duplicates, mismatches |
//!
//! Two outside effects are ordered only by the [`Event::Done`] of the first: addresses are gone
//! before priority 0 is sent, because it is sent when their removal was reported.

mod addresses;
pub mod ballot;
mod care;
pub mod check;
pub mod clients;
mod election;
pub mod event;
mod explain;
pub mod fence;
mod fencing;
mod gap;
mod ghosts;
mod group;
pub mod hook;
mod kernel;
pub mod lease;
mod links;
mod moves;
mod operator;
mod orders;
mod presence;
mod proxy;
mod receive;
pub mod routing;
mod selffence;
mod signs;
mod snapshot;
mod standing;
pub mod status;
mod tenure;
mod together;
mod why;
pub mod will;
pub mod worth;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Proxy, Transport};
use crate::types::{Family, GateId, IfIndex, Incarnation, Instant, Mac, Priority, VrId};

use event::{Action, Event, Inheritance, Secrets};
use group::Group;
use links::Links;
use presence::{Change, Peer};
use selffence::SelfFence;
use signs::DropLog;
use status::{Note, PeerKind, Severity};

/// 224.0.0.18 (RFC 9568 §5.1.1.2).
pub const MULTICAST_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// `ff02::12` (RFC 9568 §5.1.2.2).
pub const MULTICAST_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Requests to the kernel that may be under way: what a burst of addresses can delay.
const MAX_TASKS: usize = 256;
/// Announcements in one millisecond, so that thousands never delay an advert.
const PACE: u32 = 64;
const PACE_WINDOW: Duration = Duration::from_millis(1);
/// Virtual addresses on one interface whose claims by others are watched.
const MAX_WATCHED: usize = 64;
const EVERY_GROUP: RangeInclusive<u16> = 0..=u16::MAX;
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
    /// When the lease has something to do about each group, by place, as of the last step that
    /// touched it.
    lease_dues: Vec<Option<Instant>>,
    /// Who may hold, where that takes a lease.
    lease: Option<lease::Lease>,
    gate_id: Option<GateId>,
    run: Incarnation,
    /// Whether the kernel's gate can be relied upon.
    gate: Result<(), Box<str>>,
    /// Whether the local clocks can.
    clock: Result<(), Box<str>>,
    /// What the gate was told to guard.
    guarded: BTreeMap<IpAddr, u16>,
    /// Where the actions of the step under way begin.
    step_from: usize,
    /// A configuration that waits until every voter has it.
    parked: Option<(Arc<Config>, Secrets)>,
    fencing: fencing::Fencing,
    fence: SelfFence,
    operator: operator::Operator,
    cares: care::Cares,
    ghosts: ghosts::Ghosts,
    ties: Vec<together::Tie>,
    routing: routing::Told,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    opened: Instant,
    used: u32,
}

/// The groups of a range, which may have none.
fn within(range: &RangeInclusive<u16>) -> (Bound<u16>, Bound<u16>) {
    let end = if range.is_empty() { Bound::Excluded } else { Bound::Included };
    (Bound::Included(*range.start()), end(*range.start().max(range.end())))
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
        let (group, kind) = (group.map(str::to_owned), kind.to_owned());
        self.actions.push(Action::Note(Note { at, severity, group, kind, text, about: None }));
    }

    /// A note about another node.
    fn note_of(&mut self, peer: String, at: Instant, severity: Severity, kind: &str, text: String) {
        self.note(at, severity, None, kind, text);
        if let Some(Action::Note(note)) = self.actions.last_mut() {
            note.about = Some(peer);
        }
    }

    /// Our source address on a port.
    fn source(&self, port: Option<IfIndex>, family: Family) -> Option<IpAddr> {
        self.links.port(port?)?.source(family)
    }

    /// Whether that is a node's or router's address of the file.
    fn knows(&self, ip: IpAddr) -> bool {
        self.peers.iter().any(|p| p.ip == ip)
    }

    /// Whether that is the address of another vipd.
    fn is_node(&self, ip: IpAddr) -> bool {
        self.peers.iter().any(|p| p.ip == ip && p.kind == PeerKind::Node)
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
    /// Node number `me` of `config`; `start` is what an earlier run left behind.
    pub fn new(
        now: Instant,
        config: Arc<Config>,
        me: usize,
        secrets: &Secrets,
        start: &Inheritance,
        out: &mut Vec<Action>,
    ) -> Self {
        let mut node = Self {
            peers: orders::peers(&config, me),
            config,
            me,
            started: now,
            links: Links::default(),
            groups: BTreeMap::new(),
            order: Vec::new(),
            next_id: 0,
            routes: BTreeMap::new(),
            vips: BTreeMap::new(),
            orphans: start.orphans.clone(),
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
            lease_dues: Vec::new(),
            lease: None,
            gate_id: start.gate,
            run: start.run,
            gate: Err("the kernel's gate is being put in place".into()),
            clock: Ok(()),
            guarded: BTreeMap::new(),
            step_from: 0,
            parked: None,
            fencing: fencing::Fencing::default(),
            fence: SelfFence::new(now),
            operator: operator::Operator::default(),
            cares: care::Cares::default(),
            ghosts: ghosts::Ghosts::default(),
            ties: Vec::new(),
            routing: routing::Told::default(),
        };
        for ix in 0..node.config.groups.len() {
            let settings = node.settings(ix, secrets);
            let open = start.open.get(&settings.config.name).filter(|until| **until > now);
            let heir = node.inherits(start, &settings.config);
            let id = node.add_group(now, settings, open.copied().filter(|_| heir), out);
            if open.is_some() && !heir {
                out.push(Action::Gate { group: id, until: None });
            }
            node.order.push(id);
        }
        node.tie();
        node.found_lease(now, start, out);
        node.recall_fencing(now, &start.fenced, out);
        node.found_will(now, &start.will);
        node.found_care(now, &start.failures);
        node
    }

    /// Feeds one event at `now`, appending what must be done to `out`.
    ///
    /// Total: an event that means nothing in the current state is ignored, so a packet, a tick or
    /// a completion that raced with a transition does no harm.
    pub fn step(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        let mut touched = EVERY_GROUP;
        self.step_from = out.len();
        let expired = self.expire_leases(now, out);
        match event {
            Event::Tick => touched = self.tick(now, out),
            Event::Datagram { ifindex, meta, bytes } => {
                match self.datagram(now, ifindex, &meta, bytes, out) {
                    Some(id) => touched = id..=id,
                    None if expired => {}
                    None => return,
                }
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
            Event::Peer(from, message) => touched = self.peer(now, from, &message, out),
            Event::PeerUp(from) => self.peer_up(now, from, out),
            Event::PeerTwin(from) => self.peer_twin(now, from, out),
            Event::Gate(gate) => self.gate_told(now, gate, out),
            Event::Clock(clock) => self.clock_told(now, clock, out),
            Event::Watchdog(told) => self.watchdog_told(now, told, out),
            Event::Move(group, to) => self.order_move(now, &group, to, out),
            Event::Checked(told) => self.checked(now, &told, out),
            Event::Fence(event) => self.fence_told(now, event, out),
            Event::Routing(report) => self.routing_told(now, report, out),
            Event::Will(order) => self.say_will(now, &order, out),
            Event::Stop => self.stop(now, out),
            Event::Leave => self.leave(now, out),
            Event::Reload(config, secrets) => self.reload(now, config, secrets, out),
        }
        self.finish(now, if expired { EVERY_GROUP } else { touched }, out);
    }

    /// When to call [`Node::step`] with [`Event::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let paced =
            if self.pace.used >= PACE { self.pace.opened + PACE_WINDOW } else { Instant::BOOT };
        let groups = self.groups.values().filter_map(|g| g.due).min();
        let announce = self.groups.values().filter_map(|g| g.addresses.announce_at()).min();
        [
            groups,
            announce.map(|at| at.max(paced)),
            self.links.deadline(),
            self.drops.deadline(),
            self.stop_by,
            self.fencing.due,
            self.operator_deadline(),
            self.care_deadline(),
            self.lease_deadline(),
            self.ghost_deadline(),
            self.groups.values().filter_map(|g| g.gap.map(|gap| gap.deadline())).min(),
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

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What the file calls a group: what outlives this process is kept under its name.
    pub fn group_name(&self, group: u16) -> Option<&str> {
        Some(self.groups.get(&group)?.config.name.as_str())
    }

    /// Which node of the configuration this is.
    pub fn me(&self) -> usize {
        self.me
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

    /// Lets time pass; says which groups that may have touched.
    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) -> RangeInclusive<u16> {
        let due = self.due_groups(now);
        self.notice_stall(now, out);
        if self.links.deadline().is_some_and(|at| now >= at) {
            self.stale = true;
        }
        if let Some(drops) = self.drops.tick(now) {
            self.tell_drops(now, &drops, out);
        }
        self.tick_lease(now, out);
        self.tick_operator(now, out);
        self.tick_care(now, out);
        self.lay_ghosts(now, out);
        let (groups, mut parts) = self.parts(out);
        for (_, group) in groups.range_mut(within(&due)) {
            group.tick(now, &mut parts);
        }
        if self.stop_by.is_some_and(|at| now >= at) {
            self.stop_by = None;
            let text = "not everything could be given up".to_owned();
            self.parts(out).1.note(now, Severity::Error, None, "stop-timed-out", text);
            self.fence_at_stop(now, out);
            out.push(Action::Exit { left: false });
            self.exited = true;
        }
        due
    }

    /// A late tick means that this process was not run: peers may have taken over meanwhile.
    fn notice_stall(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(late) = self.deadline().map(|due| now.since(due)) else { return };
        let lease = self.config.lease.renew * 2;
        let patience = |g: &Group| if g.is_leased() { lease } else { g.config.interval.duration() };
        let shortest = self.groups.values().map(patience).min();
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

    /// What follows every event, for the groups it may have touched.
    fn finish(&mut self, now: Instant, mut touched: RangeInclusive<u16>, out: &mut Vec<Action>) {
        if self.follow_will(now, out) {
            touched = EVERY_GROUP;
        }
        if self.stale && !self.resyncing {
            self.stale = false;
            self.refresh(now, out);
            touched = EVERY_GROUP;
        }
        self.follow_ties(now, &mut touched, out);
        self.follow_leases(now, &touched, out);
        self.follow_fencing(now, out);
        if self.fence_itself(now, &touched, out) {
            touched = EVERY_GROUP;
        }
        self.ask_for_gaps(now, out);
        self.follow_care(now, &touched, out);
        self.follow_routing(&touched, out);
        self.reconcile(now, &touched, out);
        self.announce(now, &touched, out);
        self.ask_peers(now, out);
        for (_, group) in self.groups.range_mut(within(&touched)) {
            group.due = group.deadline();
        }
        if self.stop_by.is_some() && !self.exited && self.groups.values().all(Group::is_stopped) {
            self.exited = true;
            self.stop_by = None;
            out.push(Action::Exit { left: false });
        }
    }

    fn reconcile(&mut self, now: Instant, touched: &RangeInclusive<u16>, out: &mut Vec<Action>) {
        let mut allowance = MAX_TASKS.saturating_sub(self.tasks);
        let before = allowance;
        for (id, group) in self.groups.range_mut(within(touched)) {
            group.addresses.reconcile(now, *id, &mut allowance, out);
        }
        self.tasks += before - allowance;
    }

    fn announce(&mut self, now: Instant, touched: &RangeInclusive<u16>, out: &mut Vec<Action>) {
        if now >= self.pace.opened + PACE_WINDOW {
            self.pace = Pace { opened: now, used: 0 };
        }
        let mut allowance = PACE - self.pace.used;
        for (_, group) in self.groups.range_mut(within(touched)) {
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
                        let text = format!("{} ({}) does not answer any more", peer.name, peer.ip);
                        lost.push((peer.name.clone(), text));
                    }
                }
            }
            for (peer, text) in lost {
                self.parts(out).1.note_of(peer, now, Severity::Warn, "peer-unreachable", text);
            }
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
