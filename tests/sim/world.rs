//! The world outside the core: a network, kernels, proxies, clients, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vipd::config;
use vipd::core::Node;
use vipd::core::check::Checked;
use vipd::core::event::{
    Action, Event, Failure, Inheritance, KernelAddress, Link, ProxyEvent, ProxyOrder, Secrets, Task,
};
use vipd::core::status::Role;
use vipd::types::{Family, IfIndex, Instant, Mac, Priority};
use vipd::wire::vrrp::Meta;

use crate::ties;

const ETH0: IfIndex = IfIndex(2);
/// What a kernel may take for a request.
const KERNEL: Duration = Duration::from_millis(2);

/// What kind of cluster.
#[derive(Clone, Copy)]
pub(crate) struct Cluster {
    pub(crate) priorities: [u8; 3],
    pub(crate) preempt: bool,
    pub(crate) preempt_delay: Duration,
    pub(crate) ipv6: bool,
    pub(crate) proxy: bool,
    pub(crate) extra_addresses: usize,
    /// A second group, with a check of its own: kept together with the first, or apart.
    pub(crate) tied: Option<Tied>,
}

/// How two groups are tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tied {
    Together,
    Apart,
}

impl Cluster {
    /// hap1 to hap3, two addresses, 100 ms.
    pub(crate) fn three() -> Self {
        Self {
            priorities: [120, 110, 100],
            preempt: false,
            preempt_delay: Duration::ZERO,
            ipv6: false,
            proxy: false,
            extra_addresses: 0,
            tied: None,
        }
    }

    fn toml(&self) -> String {
        let mut text = "[cluster]\nname = \"sim\"\n".to_owned();
        for (ix, priority) in self.priorities.iter().enumerate() {
            let n = ix + 1;
            let _ = write!(
                text,
                "[[node]]\nname = \"hap{n}\"\naddress = \"10.0.0.{n}\"\npriority = {priority}\n"
            );
        }
        let mut addresses = vec!["\"10.0.0.100/32\"".to_owned(), "\"10.0.0.101/32\"".to_owned()];
        if self.ipv6 {
            addresses.push("\"2001:db8::100/128\"".to_owned());
        }
        for n in 0..self.extra_addresses {
            addresses.push(format!("\"10.1.{}.{}/32\"", n / 200, n % 200 + 1));
        }
        let _ = write!(
            text,
            "[[group]]\nname = \"g\"\nsafety = \"vrrp\"\nvrid = 7\naddresses = [{}]\npreempt = {}\n",
            addresses.join(", "),
            self.preempt
        );
        if !self.preempt_delay.is_zero() {
            let _ = writeln!(text, "preempt-delay = \"{}s\"", self.preempt_delay.as_secs());
        }
        if self.proxy {
            text += "[group.proxy]\ncommand = [\"/bin/proxy\"]\n";
        }
        if let Some(tied) = self.tied {
            text += &ties::second(tied, self.preempt);
        }
        text
    }
}

/// Something that goes wrong, or is put right.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The host is gone at once, with its kernel.
    PowerLoss(usize),
    PowerOn(usize),
    /// SIGTERM.
    Stop(usize),
    /// A daemon that is killed and started again: its kernel keeps the addresses.
    Restart(usize),
    /// The host hears nobody and nobody hears it.
    Isolate(usize),
    /// It hears, but is not heard.
    Mute(usize),
    Heal,
    Loss(u32),
    /// The daemon is not run for so long; what arrives is queued.
    Stall(usize, Duration),
    /// Somebody deletes an address.
    Delete(usize, usize),
    CarrierDown(usize),
    CarrierUp(usize),
    /// The proxy dies whenever it was started.
    BreakProxy(usize),
    /// What the second group needs is gone from the host,
    Lack(usize),
    /// or is there again.
    Find(usize),
}

enum Arrival {
    Advert {
        meta: Meta,
        bytes: Vec<u8>,
        crossed: bool,
    },
    Neighbour {
        ip: IpAddr,
        mac: Mac,
    },
    Probe {
        asker: usize,
        target: IpAddr,
    },
    Done(Task, Result<(), Failure>),
    Address(KernelAddress),
    AddressGone(KernelAddress),
    Link(Link),
    Proxy(u16, ProxyEvent),
    /// What the second group needs is looked at: in its turn, or because the core asked (`false`).
    Look(bool),
}

#[allow(clippy::struct_excessive_bools, reason = "each is another thing that can be wrong")]
struct Host {
    node: Option<Node>,
    stopped: bool,
    addresses: BTreeSet<IpAddr>,
    carrier: bool,
    stalled_until: Instant,
    queue: Vec<Arrival>,
    proxy_broken: bool,
    lacks: bool,
    /// What the last look found that the core was told.
    told: Option<bool>,
    last_advert: Option<Instant>,
    longest_silence: Duration,
    /// Which incarnation of the daemon an answer is for.
    life: u32,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    random: u64,
    pub(crate) now: Instant,
    config: Arc<config::Config>,
    hosts: Vec<Host>,
    pending: BTreeMap<(Instant, u64), (usize, u32, Arrival)>,
    sequence: u64,
    loss: u32,
    /// `cut[a][b]`: nothing goes from a to b.
    cut: [[bool; 3]; 3],
    /// Whom the client beside each host believes to have the first address.
    clients: [Option<usize>; 3],
    moves: u64,
    notes: Vec<String>,
    crossed: bool,
    healed_at: Option<Instant>,
    pub(crate) both_held: Duration,
    pub(crate) held: Duration,
}

impl World {
    pub(crate) fn new(seed: u64, cluster: Cluster) -> Self {
        let text = cluster.toml();
        let (config, _) = config::parse(&text)
            .unwrap_or_else(|m| panic!("{}", config::render(&m, "sim.toml", &text, false)));
        let mut world = Self {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Instant::from_nanos(1_000_000_000),
            config: Arc::new(config),
            hosts: (0..3).map(|_| Host::dark()).collect(),
            pending: BTreeMap::new(),
            sequence: 0,
            loss: 0,
            cut: [[false; 3]; 3],
            clients: [None; 3],
            moves: 0,
            notes: Vec::new(),
            crossed: false,
            healed_at: None,
            both_held: Duration::ZERO,
            held: Duration::ZERO,
        };
        for host in 0..3 {
            world.power_on(host);
        }
        world
    }

    // ---- asking ----

    pub(crate) fn name(host: usize) -> String {
        format!("hap{}", host + 1)
    }

    fn holders(&self) -> Vec<usize> {
        self.holders_of(0)
    }

    /// Who has this address, and a link.
    pub(crate) fn holders_of(&self, address: usize) -> Vec<usize> {
        let serves = |h: &usize| self.hosts[*h].carrier && self.has(*h, address);
        (0..3).filter(serves).collect()
    }

    /// The one holder, if there is one.
    pub(crate) fn holder(&self) -> Option<usize> {
        match *self.holders() {
            [one] => Some(one),
            _ => None,
        }
    }

    pub(crate) fn has(&self, host: usize, address: usize) -> bool {
        self.hosts[host].addresses.contains(&vip(address))
    }

    pub(crate) fn count(&self, host: usize) -> usize {
        self.hosts[host].addresses.len()
    }

    pub(crate) fn moves(&self) -> u64 {
        self.moves
    }

    pub(crate) fn noted(&self, kind: &str) -> bool {
        self.notes.iter().any(|n| n == kind)
    }

    pub(crate) fn longest_silence(&self, host: usize) -> Duration {
        self.hosts[host].longest_silence
    }

    /// Whether an advert has gone from one side to the other since the network healed.
    pub(crate) fn advert_crossed(&self) -> bool {
        self.crossed
    }

    pub(crate) fn assert_one_holder(&self) {
        let holders = self.holders();
        assert_eq!(holders.len(), 1, "seed {}: holders {holders:?} at {:?}", self.seed, self.now);
        let holder = &self.hosts[holders[0]];
        let wanted: usize = self.config.groups.iter().map(|g| g.addresses.len()).sum();
        assert_eq!(holder.addresses.len(), wanted, "seed {}: the holder has all", self.seed);
        for (ix, host) in self.hosts.iter().enumerate().filter(|(ix, _)| *ix != holders[0]) {
            let name = Self::name(ix);
            assert!(host.addresses.is_empty(), "seed {}: {name} has some left", self.seed);
        }
    }

    pub(crate) fn assert_clients_follow(&self) {
        let holder = self.holder();
        for (ix, believes) in self.clients.iter().enumerate() {
            if self.hosts[ix].node.is_some() {
                let seed = self.seed;
                assert_eq!(*believes, holder, "seed {seed}: the client beside {}", Self::name(ix));
            }
        }
    }

    // ---- time ----

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run_to(end, |_| false);
    }

    pub(crate) fn run_random(&mut self, longest: Duration) {
        let micros = u64::try_from(longest.as_micros()).unwrap();
        let duration = Duration::from_micros(self.draw(micros));
        self.run(duration);
    }

    pub(crate) fn run_until(&mut self, longest: Duration, stop: impl Fn(&Self) -> bool) {
        let end = self.now + longest;
        self.run_to(end, &stop);
        assert!(stop(self), "seed {}: not within {longest:?}", self.seed);
    }

    fn run_to(&mut self, end: Instant, stop: impl Fn(&Self) -> bool) {
        let mut turns = 0_u64;
        let mut last = self.now;
        while !stop(self) {
            turns += 1;
            if self.now > last + Duration::from_millis(1) {
                (turns, last) = (0, self.now);
            }
            assert!(turns < 20_000, "seed {}: no end of work at {:?}", self.seed, self.now);
            let arrival = self.pending.keys().next().map(|(at, _)| *at);
            let timer = (0..3).filter_map(|h| self.wakes_at(h)).min();
            let next = [arrival, timer].into_iter().flatten().min().map(|at| at.max(self.now));
            let until = next.unwrap_or(end).min(end);
            match self.holders().len() {
                0 => {}
                1 => self.held += until.since(self.now),
                _ => self.both_held += until.since(self.now),
            }
            self.now = until;
            if next.is_none_or(|at| at > end) {
                return;
            }
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, (host, life, what)) = self.pending.pop_first().unwrap();
                self.arrive(host, life, what);
            } else if let Some(host) =
                (0..3).find(|h| self.wakes_at(*h).is_some_and(|t| t <= self.now))
            {
                self.wake(host);
            }
        }
    }

    fn wakes_at(&self, host: usize) -> Option<Instant> {
        let host = &self.hosts[host];
        let deadline = host.node.as_ref()?.deadline();
        let queued = (!host.queue.is_empty()).then_some(host.stalled_until);
        let at = [deadline, queued].into_iter().flatten().min()?;
        Some(at.max(host.stalled_until))
    }

    /// The daemon is run: it hears what was queued, then believes its timer.
    fn wake(&mut self, host: usize) {
        for what in std::mem::take(&mut self.hosts[host].queue) {
            self.feed(host, what);
        }
        // What one group does may make another one that belongs with it due at once.
        for _ in 0..self.config.groups.len() {
            let due = self.hosts[host].node.as_ref().and_then(Node::deadline);
            if due.is_some_and(|at| at <= self.now) {
                self.step(host, Event::Tick);
            }
        }
        let due = self.hosts[host].node.as_ref().and_then(Node::deadline);
        let name = Self::name(host);
        assert!(
            due.is_none_or(|d| d > self.now),
            "seed {}: {name} sleeps past its deadline",
            self.seed
        );
    }

    fn arrive(&mut self, host: usize, life: u32, what: Arrival) {
        if self.hosts[host].life != life {
            return;
        }
        match what {
            // The kernel answers, whatever the daemon does.
            Arrival::Probe { asker, target } => {
                self.send(host, asker, Arrival::Neighbour { ip: target, mac: mac(host) });
            }
            what @ (Arrival::Advert { .. }
            | Arrival::Neighbour { .. }
            | Arrival::Done(..)
            | Arrival::Address(_)
            | Arrival::AddressGone(_)
            | Arrival::Link(_)
            | Arrival::Proxy(..)
            | Arrival::Look(_)) => {
                if self.now < self.hosts[host].stalled_until {
                    self.hosts[host].queue.push(what);
                } else {
                    self.feed(host, what);
                }
            }
        }
    }

    fn feed(&mut self, host: usize, what: Arrival) {
        match what {
            Arrival::Advert { meta, bytes, crossed } => {
                self.crossed |= crossed && self.healed_at.is_some();
                self.step(host, Event::Datagram { ifindex: ETH0, meta, bytes: &bytes });
            }
            Arrival::Neighbour { ip, mac } => {
                self.step(host, Event::Neighbour { ifindex: ETH0, ip, mac });
            }
            Arrival::Done(task, result) => self.step(host, Event::Done(task, result)),
            Arrival::Address(a) => self.step(host, Event::Address(a)),
            Arrival::AddressGone(a) => self.step(host, Event::AddressGone(a)),
            Arrival::Link(link) => self.step(host, Event::Link(link)),
            Arrival::Proxy(group, event) => self.step(host, Event::Proxy(group, event)),
            Arrival::Look(in_turn) => self.look(host, in_turn),
            Arrival::Probe { .. } => {}
        }
    }

    fn look(&mut self, host: usize, in_turn: bool) {
        let passed = !self.hosts[host].lacks;
        if in_turn {
            let pause = Duration::from_micros(90_000 + self.draw(20_000));
            self.later(host, pause, Arrival::Look(in_turn));
        }
        if in_turn && self.hosts[host].told == Some(passed) {
            return;
        }
        self.hosts[host].told = Some(passed);
        let found = if passed { "there" } else { "gone" }.into();
        let (name, began) = (ties::CHECK.into(), self.now);
        self.step(host, Event::Checked(Checked { name, began, passed, verdict: passed, found }));
    }

    fn step(&mut self, host: usize, event: Event<'_>) {
        let mut out = Vec::new();
        let Some(node) = &mut self.hosts[host].node else { return };
        node.step(self.now, event, &mut out);
        assert!(out.len() < 5000, "seed {}: a flood of {} actions", self.seed, out.len());
        for action in out {
            self.act(host, action);
        }
    }

    // ---- what the shell does ----

    fn act(&mut self, host: usize, action: Action) {
        match action {
            Action::Advertise { group, family, priority } => {
                self.advertise(host, group, family, priority);
            }
            Action::Announce { ip, .. } => self.announce(host, ip),
            Action::Probe { target, .. } => {
                for peer in (0..3).filter(|p| *p != host) {
                    if own(peer) == target {
                        self.send(host, peer, Arrival::Probe { asker: host, target });
                    }
                }
            }
            Action::Kernel(task) => self.kernel(host, task),
            Action::Hasten(_) => self.later(host, Duration::ZERO, Arrival::Look(false)),
            Action::Proxy(group, order) => self.proxy(host, group, order),
            Action::Note(note) => {
                self.moves += u64::from(note.kind == "active");
                self.notes.push(note.kind);
            }
            Action::Reloaded(_)
            | Action::Tell { .. }
            | Action::Beat { .. }
            | Action::Guard(_)
            | Action::Routing(_)
            | Action::Gate { .. }
            | Action::Remember { .. }
            | Action::Settled(_)
            | Action::Decided(_)
            | Action::Failures(_)
            | Action::Reset { .. }
            | Action::EndSessions { .. }
            | Action::Fence { .. } => {}
            Action::Exit { .. } => {
                self.hosts[host].node = None;
                self.hosts[host].stopped = true;
            }
        }
    }

    fn advertise(&mut self, host: usize, group: u16, family: Family, priority: Priority) {
        self.check_advert(host, group, priority);
        let mut packets = Vec::new();
        let mut scratch = Vec::new();
        let node = self.hosts[host].node.as_ref().expect("it has just acted");
        node.emit(group, family, priority, &mut scratch, |_, dst, bytes| {
            packets.push((dst, bytes.to_vec()));
        });
        assert!(!packets.is_empty(), "an advert nobody can send");
        let sender = &mut self.hosts[host];
        if let Some(last) = sender.last_advert {
            sender.longest_silence = sender.longest_silence.max(self.now.since(last));
        }
        sender.last_advert = (priority != Priority::RELEASE).then_some(self.now);
        for (dst, bytes) in packets {
            let src = match family {
                Family::V4 => own(host),
                Family::V6 => link_local(host),
            };
            for peer in (0..3).filter(|p| *p != host) {
                let meta = Meta { src, dst, hops: 255 };
                self.send(
                    host,
                    peer,
                    Arrival::Advert { meta, bytes: bytes.clone(), crossed: true },
                );
            }
        }
    }

    /// On stop the address is gone before priority 0 is on the wire; and only a holder advertises.
    fn check_advert(&self, host: usize, group: u16, priority: Priority) {
        let this = &self.hosts[host];
        let status = this.node.as_ref().expect("it has just acted").status(self.now);
        let name = Self::name(host);
        let status = &status.groups[usize::from(group)];
        if priority == Priority::RELEASE
            && !status.addresses.iter().any(|a| a.address.contains(':'))
        {
            assert!(
                !this.addresses.iter().any(|ip| ties::group_of(*ip) == group),
                "seed {}: {name} sent priority 0 too early",
                self.seed
            );
        } else if priority != Priority::RELEASE {
            let role = status.role;
            // The last advert of a loser is sent as Backup.
            assert_ne!(role, Role::Init, "seed {}: {name} advertises as {role:?}", self.seed);
        }
    }

    fn send(&mut self, from: usize, to: usize, what: Arrival) {
        let lost = u32::try_from(self.draw(100)).unwrap() < self.loss;
        if lost || self.cut[from][to] || !self.hosts[from].carrier || !self.hosts[to].carrier {
            return;
        }
        let delay = Duration::from_micros(50 + self.draw(400));
        self.later(to, delay, what);
    }

    fn later(&mut self, host: usize, delay: Duration, what: Arrival) {
        self.sequence += 1;
        let life = self.hosts[host].life;
        self.pending.insert((self.now + delay, self.sequence), (host, life, what));
    }

    fn announce(&mut self, host: usize, ip: IpAddr) {
        for near in 0..3 {
            let heard = near == host || !self.cut[host][near];
            if ip == vip(0) && heard && self.hosts[host].carrier && self.hosts[near].carrier {
                self.clients[near] = Some(host);
            }
            if near != host {
                self.send(host, near, Arrival::Neighbour { ip, mac: mac(host) });
            }
        }
    }

    fn kernel(&mut self, host: usize, task: Task) {
        let micros = u64::try_from(KERNEL.as_micros()).unwrap();
        let delay = Duration::from_micros(10 + self.draw(micros));
        // The event and the answer travel apart: either may be first.
        let echo = Duration::from_micros(10 + self.draw(2 * micros));
        match &task {
            Task::AddAddress { spec, .. } => {
                self.hosts[host].addresses.insert(spec.ip);
                self.later(host, echo, Arrival::Address(kernel_address(spec.ip)));
            }
            Task::DelAddress { spec, .. } => {
                if self.hosts[host].addresses.remove(&spec.ip) {
                    self.later(host, echo, Arrival::AddressGone(kernel_address(spec.ip)));
                }
            }
            Task::OpenPort(_) => {}
            Task::ClosePort(_) | Task::Disconnect { .. } => return,
        }
        self.later(host, delay, Arrival::Done(task, Ok(())));
    }

    fn proxy(&mut self, host: usize, group: u16, order: ProxyOrder) {
        let soon = Duration::from_millis(20);
        match order {
            ProxyOrder::Start => {
                self.later(host, soon, Arrival::Proxy(group, ProxyEvent::Running { pid: 1 }));
                if self.hosts[host].proxy_broken {
                    let how = "killed by signal 9".into();
                    self.later(host, soon * 3, Arrival::Proxy(group, ProxyEvent::Stopped { how }));
                }
            }
            ProxyOrder::Watch | ProxyOrder::Stop | ProxyOrder::Kill => {
                self.later(
                    host,
                    soon,
                    Arrival::Proxy(group, ProxyEvent::Stopped { how: "inactive".into() }),
                );
            }
            ProxyOrder::Unwatch => {}
        }
    }

    // ---- what goes wrong ----

    pub(crate) fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::PowerLoss(host) => {
                self.hosts[host] = Host { life: self.hosts[host].life + 1, ..Host::dark() };
                self.clients[host] = None;
            }
            Fault::PowerOn(host) => self.power_on(host),
            Fault::Stop(host) => self.step(host, Event::Stop),
            Fault::Restart(host) => {
                if self.hosts[host].node.is_some() {
                    self.start(host);
                }
            }
            Fault::Isolate(host) => {
                for other in (0..3).filter(|o| *o != host) {
                    self.cut[host][other] = true;
                    self.cut[other][host] = true;
                }
            }
            Fault::Mute(host) => {
                for other in (0..3).filter(|o| *o != host) {
                    self.cut[host][other] = true;
                }
            }
            Fault::Heal => self.heal(),
            Fault::Loss(percent) => self.loss = percent,
            Fault::Stall(host, duration) => self.hosts[host].stalled_until = self.now + duration,
            Fault::Delete(host, address) => {
                let ip = vip(address);
                if self.hosts[host].addresses.remove(&ip) {
                    let delay = Duration::from_micros(self.draw(500));
                    self.later(host, delay, Arrival::AddressGone(kernel_address(ip)));
                }
            }
            Fault::CarrierDown(host) => self.carrier(host, false),
            Fault::CarrierUp(host) => self.carrier(host, true),
            Fault::Lack(host) => self.hosts[host].lacks = true,
            Fault::Find(host) => self.hosts[host].lacks = false,
            Fault::BreakProxy(host) => {
                self.hosts[host].proxy_broken = true;
                let how = "killed by signal 9".into();
                self.later(host, Duration::ZERO, Arrival::Proxy(0, ProxyEvent::Stopped { how }));
            }
        }
    }

    pub(crate) fn draw_fault(&mut self) -> Fault {
        let host = usize::try_from(self.draw(3)).unwrap();
        match self.draw(14) {
            0 => Fault::PowerLoss(host),
            1 | 2 => Fault::PowerOn(host),
            3 => Fault::Stop(host),
            4 => Fault::Restart(host),
            5 => Fault::Isolate(host),
            6 => Fault::Mute(host),
            7 => Fault::Heal,
            8 => Fault::Loss(u32::try_from(self.draw(60)).unwrap()),
            9 => Fault::Stall(host, Duration::from_millis(self.draw(3000))),
            10 | 11 => Fault::Delete(host, usize::try_from(self.draw(2)).unwrap()),
            12 => Fault::CarrierDown(host),
            _ => Fault::CarrierUp(host),
        }
    }

    /// Everything is repaired, every host is on.
    pub(crate) fn calm(&mut self) {
        self.loss = 0;
        self.heal();
        for host in 0..3 {
            self.hosts[host].stalled_until = self.hosts[host].stalled_until.min(self.now);
            self.hosts[host].lacks = false;
            if self.hosts[host].node.is_none() {
                self.power_on(host);
            }
            self.carrier(host, true);
        }
    }

    fn heal(&mut self) {
        self.cut = [[false; 3]; 3];
        self.crossed = false;
        self.healed_at = Some(self.now);
    }

    fn carrier(&mut self, host: usize, up: bool) {
        if self.hosts[host].carrier != up && self.hosts[host].node.is_some() {
            self.hosts[host].carrier = up;
            let delay = Duration::from_micros(self.draw(500));
            self.later(host, delay, Arrival::Link(link(host, up)));
        }
    }

    fn power_on(&mut self, host: usize) {
        if self.hosts[host].node.is_none() {
            self.hosts[host].carrier = true;
            self.start(host);
        }
    }

    /// A daemon starts on a kernel that may have addresses.
    fn start(&mut self, host: usize) {
        let life = self.hosts[host].life + 1;
        let Host { proxy_broken, lacks, .. } = self.hosts[host];
        let (addresses, carrier) = (self.hosts[host].addresses.clone(), self.hosts[host].carrier);
        let mut out = Vec::new();
        let config = Arc::clone(&self.config);
        let node = Node::new(
            self.now,
            config,
            host,
            &Secrets(vec![None]),
            &Inheritance::default(),
            &mut out,
        );
        self.hosts[host] = Host {
            node: Some(node),
            carrier,
            life,
            addresses: addresses.clone(),
            proxy_broken,
            lacks,
            ..Host::dark()
        };
        for action in out {
            self.act(host, action);
        }
        self.step(host, Event::ResyncBegin);
        self.step(host, Event::Link(link(host, carrier)));
        for ip in [own(host), link_local(host)].into_iter().chain(addresses) {
            let ours = ip != own(host) && ip != link_local(host);
            let address = KernelAddress { index: ETH0, ip, prefix: 24, ours };
            self.step(host, Event::Address(address));
        }
        self.step(host, Event::ResyncEnd);
        if self.config.groups.len() > 1 {
            let soon = Duration::from_micros(self.draw(100_000));
            self.later(host, soon, Arrival::Look(true));
        }
    }

    /// Below `below`; xorshift64*, so that a seed says everything.
    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) % below.max(1)
    }
}

impl Host {
    fn dark() -> Self {
        Self {
            node: None,
            stopped: false,
            addresses: BTreeSet::new(),
            carrier: false,
            stalled_until: Instant::BOOT,
            queue: Vec::new(),
            proxy_broken: false,
            lacks: false,
            told: None,
            last_advert: None,
            longest_silence: Duration::ZERO,
            life: 0,
        }
    }
}

fn own(host: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(host).unwrap() + 1))
}

fn link_local(host: usize) -> IpAddr {
    format!("fe80::{}", host + 1).parse().unwrap()
}

fn vip(ix: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100 + u8::try_from(ix).unwrap()))
}

fn mac(host: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(host).unwrap()])
}

fn link(host: usize, up: bool) -> Link {
    Link { index: ETH0, name: "eth0".into(), mac: mac(host), up, mtu: 1500 }
}

fn kernel_address(ip: IpAddr) -> KernelAddress {
    KernelAddress { index: ETH0, ip, prefix: 32, ours: true }
}
