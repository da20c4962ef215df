//! One node on a bench: bytes in, bytes out, a kernel that answers at once or when told to.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vipd::config::{self, Config};
use vipd::core::Node;
use vipd::core::event::{
    Action, Event, Failure, Inheritance, KernelAddress, Link, PortSpec, Secrets, Task,
};
use vipd::core::status::{GroupStatus, Role, Status};
use vipd::types::{Family, IfIndex, Instant, Mac, Priority};
use vipd::wire::vrrp::Meta;

pub(crate) use vipd::types::Family::{V4, V6};

pub(crate) const ETH0: IfIndex = IfIndex(2);
pub(crate) const ETH1: IfIndex = IfIndex(3);

/// This node between its peers, so that ties can be broken either way.
pub(crate) const LOWER: &str = "192.0.2.10";
pub(crate) const OWN: &str = "192.0.2.11";
pub(crate) const HIGHER: &str = "192.0.2.12";
/// A router of another make, on the same link.
pub(crate) const ROUTER: &str = "192.0.2.13";
pub(crate) const LOWER6: &str = "fe80::10";
pub(crate) const OWN6: &str = "fe80::11";
pub(crate) const HIGHER6: &str = "fe80::12";
/// On the other interface.
pub(crate) const OWN_ETH1: &str = "198.51.100.11";
pub(crate) const VIP: &str = "192.0.2.100";
pub(crate) const VIP6: &str = "2001:db8::100";
/// The link-local address of IPv6 virtual router 7.
pub(crate) const VIP6_LOCAL: &str = "fe80::200:5eff:fe00:207";
pub(crate) const GROUP: &str = "224.0.0.18";
pub(crate) const GROUP6: &str = "ff02::12";

/// Version 3 at 100 ms and priority 100: `Skew_Time` and `Active_Down_Interval`.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const SKEW: Duration = Duration::from_nanos(60_937_500);
pub(crate) const DOWN: Duration = Duration::from_nanos(360_937_500);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A file with one group of virtual router 7 in which this node has priority 100; `lines` are
/// more of its keys, and may bring addresses of their own.
pub(crate) fn file(lines: &str) -> String {
    let mut text = nodes("");
    text += &group("web", 7, lines);
    text
}

pub(crate) fn nodes(own_lines: &str) -> String {
    format!(
        "cluster = {{ name = \"lb\" }}\n\
         [[node]]\nname = \"hap1\"\naddress = \"{OWN}\"\npriority = 100\n{own_lines}\n\
         [[node]]\nname = \"hap2\"\naddress = \"{LOWER}\"\npriority = 90\n\
         [[node]]\nname = \"hap3\"\naddress = \"{HIGHER}\"\npriority = 80\n"
    )
}

pub(crate) fn group(name: &str, vrid: u8, lines: &str) -> String {
    let addresses = if lines.contains("addresses =") {
        String::new()
    } else {
        format!("addresses = [\"{VIP}/24\"]\n")
    };
    format!("[[group]]\nname = \"{name}\"\nsafety = \"vrrp\"\nvrid = {vrid}\n{addresses}{lines}\n")
}

/// The group's addresses of both families, as a line of the file.
pub(crate) fn both() -> String {
    format!("addresses = [\"{VIP}/24\", \"{VIP6}/64\"]\n")
}

pub(crate) fn only6() -> String {
    format!("addresses = [\"{VIP6}/64\"]\n")
}

pub(crate) fn parse(text: &str) -> Config {
    match config::parse(text) {
        Ok((config, _)) => config,
        Err(mistakes) => panic!("{}", config::render(&mistakes, "test.toml", text, false)),
    }
}

/// Something the node did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Advert { family: Family, priority: u8, packets: Vec<Sent> },
    Add(IpAddr),
    Del(IpAddr),
    Announce(IpAddr),
    Probe(IpAddr),
    Open(PortSpec),
    Note(String, String),
    Reloaded(Vec<String>),
    Reset(String),
    Hasten(Vec<Box<str>>),
    Exit,
}

/// A packet on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) port: IfIndex,
    pub(crate) dst: IpAddr,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Rig {
    pub(crate) now: Instant,
    pub(crate) node: Node,
    /// What the kernel has that vipd put there.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Requests the kernel has not answered, where it was told to hold them.
    pub(crate) held: Vec<Task>,
    pub(crate) hold: bool,
    /// How often connections to addresses that were given up were to be ended.
    pub(crate) ended: usize,
    did: Vec<Did>,
    todo: VecDeque<Task>,
}

impl Rig {
    /// A node with [`file`]`(lines)`, its interfaces up.
    pub(crate) fn new(lines: &str) -> Self {
        Self::of(parse(&file(lines)))
    }

    /// One that has waited until it was Active.
    pub(crate) fn active(lines: &str) -> Self {
        let mut rig = Self::new(lines);
        rig.until_active();
        rig.wait(ms(5));
        rig.take();
        rig
    }

    pub(crate) fn of(config: Config) -> Self {
        Self::with(config, None)
    }

    pub(crate) fn with(config: Config, password: Option<[u8; 8]>) -> Self {
        let mut rig = Self::dark(config, password);
        for ip in [OWN, OWN6] {
            rig.address(ETH0, ip, 24);
        }
        rig.address(ETH1, OWN_ETH1, 24);
        rig.link(ETH1, "eth1", true);
        rig.link(ETH0, "eth0", true);
        rig
    }

    /// One that has not been told of any interface.
    pub(crate) fn dark(config: Config, password: Option<[u8; 8]>) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let secrets = Secrets(vec![password; config.groups.len()]);
        let mut out = Vec::new();
        let node = Node::new(now, Arc::new(config), 0, &secrets, &Inheritance::default(), &mut out);
        let mut rig = Self {
            now,
            node,
            addresses: BTreeSet::new(),
            held: Vec::new(),
            hold: false,
            ended: 0,
            did: Vec::new(),
            todo: VecDeque::new(),
        };
        rig.act(out);
        rig
    }

    // ---- in ----

    pub(crate) fn step(&mut self, event: Event<'_>) {
        let mut out = Vec::new();
        self.node.step(self.now, event, &mut out);
        self.act(out);
        while let Some(task) = self.todo.pop_front() {
            self.answer(task, Ok(()));
        }
    }

    /// The kernel answers, and what it did is so.
    pub(crate) fn answer(&mut self, task: Task, result: Result<(), Failure>) {
        let mut echo = None;
        if result.is_ok() {
            match &task {
                Task::AddAddress { spec, .. } => {
                    self.addresses.insert(spec.ip);
                    echo = Some((true, spec.clone()));
                }
                Task::DelAddress { spec, .. } => {
                    self.addresses.remove(&spec.ip);
                    echo = Some((false, spec.clone()));
                }
                Task::OpenPort(_) | Task::ClosePort(_) | Task::Disconnect { .. } => {}
            }
        }
        self.step(Event::Done(task, result));
        if let Some((there, spec)) = echo {
            let address =
                KernelAddress { index: spec.index, ip: spec.ip, prefix: spec.prefix, ours: true };
            self.step(if there { Event::Address(address) } else { Event::AddressGone(address) });
        }
    }

    /// The kernel answers everything it held.
    pub(crate) fn release(&mut self) {
        self.hold = false;
        for task in std::mem::take(&mut self.held) {
            self.answer(task, Ok(()));
        }
    }

    pub(crate) fn link(&mut self, index: IfIndex, name: &str, up: bool) {
        let mac = Mac([2, 0, 0, 0, 0, u8::try_from(index.0).unwrap()]);
        self.step(Event::Link(Link { index, name: name.into(), mac, up, mtu: 1500 }));
    }

    pub(crate) fn address(&mut self, index: IfIndex, text: &str, prefix: u8) {
        let address = KernelAddress { index, ip: ip(text), prefix, ours: false };
        self.step(Event::Address(address));
    }

    pub(crate) fn hear(&mut self, packet: &Packet) {
        let bytes = packet.bytes();
        self.step(Event::Datagram { ifindex: packet.port, meta: packet.meta(), bytes: &bytes });
    }

    /// Lets time pass, with a tick at each deadline.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.node.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.step(Event::Tick);
        }
        self.now = end;
        self.step(Event::Tick);
    }

    /// Lets time pass until the node is Active; says how long that took.
    pub(crate) fn until_active(&mut self) -> Duration {
        let start = self.now;
        while self.role() != Role::Active {
            let at = self.node.deadline().expect("something to wait for");
            assert!(at < start + Duration::from_mins(20), "never Active: {:?}", self.did);
            self.now = at.max(self.now);
            self.step(Event::Tick);
        }
        self.now.since(start)
    }

    /// Lets time pass in steps of `pace`, before each of which it hears `packets`, until the node
    /// is Active; says how long that took, which is at most `limit`.
    pub(crate) fn active_despite(
        &mut self,
        packets: &[Packet],
        pace: Duration,
        limit: Duration,
    ) -> Duration {
        let start = self.now;
        while self.role() != Role::Active {
            assert!(self.now.since(start) <= limit, "not Active within {limit:?}");
            for packet in packets {
                self.hear(packet);
            }
            self.wait(pace);
        }
        self.now.since(start)
    }

    pub(crate) fn reload(&mut self, text: &str) {
        self.step(Event::Reload(Arc::new(parse(text)), Secrets(vec![None])));
    }

    // ---- out ----

    fn act(&mut self, out: Vec<Action>) {
        for action in out {
            let did = match action {
                Action::Advertise { group, family, priority } => {
                    self.advert(group, family, priority)
                }
                Action::Announce { ip, .. } => Did::Announce(ip),
                Action::Probe { target, .. } => Did::Probe(target),
                Action::Note(note) => Did::Note(note.kind, note.text),
                Action::Reloaded(lines) => Did::Reloaded(lines),
                Action::Reset { why } => Did::Reset(why),
                Action::Hasten(checks) => Did::Hasten(checks),
                Action::Exit { .. } => Did::Exit,
                // The gate and the lease are beyond the RFC.
                Action::Proxy(..)
                | Action::Kernel(Task::ClosePort(_))
                | Action::Tell { .. }
                | Action::Beat { .. }
                | Action::Guard(_)
                | Action::Routing(_)
                | Action::Gate { .. }
                | Action::Remember { .. }
                | Action::Settled(_)
                | Action::Decided(_)
                | Action::EndSessions { .. }
                | Action::Failures(_)
                | Action::Fence { .. } => continue,
                Action::Kernel(Task::Disconnect { .. }) => {
                    self.ended += 1;
                    continue;
                }
                Action::Kernel(task) => {
                    let did = match &task {
                        Task::OpenPort(spec) => Did::Open(spec.clone()),
                        Task::AddAddress { spec, .. } => Did::Add(spec.ip),
                        Task::DelAddress { spec, .. } => Did::Del(spec.ip),
                        Task::ClosePort(_) | Task::Disconnect { .. } => continue,
                    };
                    if self.hold {
                        self.held.push(task);
                    } else {
                        self.todo.push_back(task);
                    }
                    did
                }
            };
            self.did.push(did);
        }
    }

    fn advert(&self, group: u16, family: Family, priority: Priority) -> Did {
        let (mut packets, mut buf) = (Vec::new(), Vec::new());
        self.node.emit(group, family, priority, &mut buf, |port, dst, bytes| {
            packets.push(Sent { port, dst, bytes: bytes.to_vec() });
        });
        Did::Advert { family, priority: priority.0, packets }
    }

    /// What was done since the last call.
    pub(crate) fn take(&mut self) -> Vec<Did> {
        std::mem::take(&mut self.did)
    }

    /// The same, without notes, probes and sockets.
    pub(crate) fn deeds(&mut self) -> Vec<Did> {
        let mut all = self.take();
        all.retain(|d| match d {
            Did::Advert { .. }
            | Did::Add(_)
            | Did::Del(_)
            | Did::Announce(_)
            | Did::Reloaded(_)
            | Did::Reset(_)
            | Did::Hasten(_)
            | Did::Exit => true,
            Did::Probe(_) | Did::Open(_) | Did::Note(..) => false,
        });
        all
    }

    /// Priorities of the adverts of one family since the last call.
    pub(crate) fn adverts(&mut self, of: Family) -> Vec<u8> {
        let all = self.take();
        all.iter()
            .filter_map(|d| match d {
                Did::Advert { family, priority, .. } if *family == of => Some(*priority),
                _ => None,
            })
            .collect()
    }

    /// Packets of one family since the last call.
    pub(crate) fn packets(&mut self, of: Family) -> Vec<Sent> {
        let all = self.take();
        all.into_iter()
            .filter_map(|d| match d {
                Did::Advert { family, packets, .. } if family == of => Some(packets),
                _ => None,
            })
            .flatten()
            .collect()
    }

    // ---- asking ----

    pub(crate) fn status(&self) -> Status {
        self.node.status(self.now)
    }

    pub(crate) fn group(&self) -> GroupStatus {
        self.status().groups.swap_remove(0)
    }

    pub(crate) fn role(&self) -> Role {
        self.group().role
    }

    /// Counters that are not zero, but for those of every life: sent, received, transitions.
    pub(crate) fn errors(&self, family: Family) -> Vec<(String, u64)> {
        const ORDINARY: [&str; 3] =
            ["advertisements-received", "advertisements-sent", "active-transitions"];
        let group = self.group();
        let election = group.elections.into_iter().find(|e| e.family == family).unwrap();
        let all = election.counters.into_iter();
        all.filter(|(name, n)| *n > 0 && !ORDINARY.contains(&name.as_str())).collect()
    }

    pub(crate) fn counter(&self, family: Family, name: &str) -> u64 {
        let group = self.group();
        let election = group.elections.iter().find(|e| e.family == family).unwrap();
        election.counters.iter().find(|(n, _)| n == name).expect(name).1
    }

    pub(crate) fn learned_ms(&self, family: Family) -> u64 {
        self.group().elections.iter().find(|e| e.family == family).unwrap().learned_interval_ms
    }

    /// Names of everything that is wrong or worth knowing.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let status = self.status();
        let groups = status.groups.into_iter().flat_map(|g| g.conditions);
        status.conditions.into_iter().chain(groups).map(|c| c.name).collect()
    }

    pub(crate) fn is(&self, condition: &str) -> bool {
        self.conditions().iter().any(|c| c == condition)
    }
}

/// How a packet is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Plain,
    Pseudo,
    Wrong,
}

/// An advert built by hand, so that every field can be wrong; independent of `vipd::wire`.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) vrid: u8,
    pub(crate) priority: u8,
    /// If not the number of addresses.
    pub(crate) count: Option<u8>,
    /// The word between count and checksum.
    pub(crate) word: u16,
    pub(crate) sum: Sum,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) auth: Option<[u8; 8]>,
    /// Bytes kept.
    pub(crate) cut: Option<usize>,
    /// Bytes of padding.
    pub(crate) pad: usize,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) hops: u8,
    pub(crate) port: IfIndex,
}

impl Packet {
    /// Version 3 over IPv4 from `src`, 100 ms, the group's address.
    pub(crate) fn v3(src: &str, priority: u8) -> Self {
        Self {
            first: 0x31,
            vrid: 7,
            priority,
            count: None,
            word: 10,
            sum: Sum::Plain,
            addresses: vec![ip(VIP)],
            auth: None,
            cut: None,
            pad: 0,
            src: ip(src),
            dst: ip(GROUP),
            hops: 255,
            port: ETH0,
        }
    }

    /// Version 3 over IPv6.
    pub(crate) fn v6(src: &str, priority: u8) -> Self {
        let addresses = vec![ip(VIP6_LOCAL), ip(VIP6)];
        Self { addresses, dst: ip(GROUP6), sum: Sum::Pseudo, ..Self::v3(src, priority) }
    }

    /// Version 2, every second.
    pub(crate) fn v2(src: &str, priority: u8) -> Self {
        Self { first: 0x21, word: 1, auth: Some([0; 8]), ..Self::v3(src, priority) }
    }

    pub(crate) fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta { src: self.src, dst: self.dst, hops: self.hops }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let count = self.count.unwrap_or_else(|| u8::try_from(self.addresses.len()).unwrap());
        let mut b = vec![self.first, self.vrid, self.priority, count];
        b.extend(self.word.to_be_bytes());
        b.extend([0, 0]);
        self.addresses.iter().for_each(|ip| push(&mut b, *ip));
        b.extend(self.auth.into_iter().flatten());
        let sum = checksum(self.sum, self.src, self.dst, &b);
        b[6..8].copy_from_slice(&sum.to_be_bytes());
        b.truncate(self.cut.unwrap_or(usize::MAX));
        b.resize(b.len() + self.pad, 0xee);
        b
    }
}

fn push(bytes: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
}

/// RFC 1071, once more and slowly.
pub(crate) fn checksum(kind: Sum, src: IpAddr, dst: IpAddr, message: &[u8]) -> u16 {
    let mut all = Vec::new();
    if kind == Sum::Pseudo {
        push(&mut all, src);
        push(&mut all, dst);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        match src {
            IpAddr::V4(_) => all.extend([0, 112, length[0], length[1]]),
            IpAddr::V6(_) => all.extend([0, 0, length[0], length[1], 0, 0, 0, 112]),
        }
    }
    all.extend(message);
    let mut sum = 0_u32;
    for pair in all.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    if kind == Sum::Wrong { sum ^ 0x0101 } else { sum }
}

/// Which way a packet of ours was summed.
pub(crate) fn summed(packet: &Sent) -> Sum {
    let mut message = packet.bytes.clone();
    let got = u16::from_be_bytes([message[6], message[7]]);
    message[6..8].fill(0);
    let (src, dst) = match packet.dst {
        IpAddr::V4(_) => (ip(OWN), packet.dst),
        IpAddr::V6(_) => (ip(OWN6), packet.dst),
    };
    let is = |kind| checksum(kind, src, dst, &message) == got;
    match (is(Sum::Plain), is(Sum::Pseudo)) {
        (true, false) => Sum::Plain,
        (false, true) => Sum::Pseudo,
        (false, false) => Sum::Wrong,
        (true, true) => panic!("cannot tell"),
    }
}

pub(crate) fn v4(text: &str) -> [u8; 4] {
    text.parse::<Ipv4Addr>().unwrap().octets()
}
