//! What a schedule begins with: a seed, a cluster, and how bad the night is to be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vipd::config::{self, Config, Lease, Safety};

/// Nanoseconds of true time.
pub(crate) type Real = u64;
pub(crate) const US: Real = 1_000;
pub(crate) const MS: Real = 1_000_000;

/// What a clock may run wrong, in parts of a thousand million.
pub(crate) const RHO: i64 = 1_000_000_000 / Lease::DRIFT as i64;

pub(crate) fn nanos(duration: Duration) -> Real {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// xorshift64*: a seed says everything.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds beside each other must not begin alike.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// Below `below`.
    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % below.max(1)
    }

    pub(crate) fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.draw(below as u64)).unwrap()
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.draw(to - from + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.draw(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Something outside the core that is broken on purpose: the oracle must see what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    /// Votes end before the terms they are for.
    ShortVote,
    /// A forgetful voter votes at once.
    NoQuiet,
    /// Votes count as remembered as soon as the daemon has run, though it was still quiet.
    MemoryTooSoon,
    /// The kernel does not shut a gate before its deadline.
    DeafGate,
    /// A cloned host has the gate of the original.
    CopiedGate,
    /// Clocks are five times as wrong as they may be.
    FastClocks,
    /// A paused machine's clock stands still.
    StoppedClock,
    /// What was queued is taken in at a moment read before it came.
    StaleClock,
    /// Others are told before the gate is shut.
    TellsFirst,
    /// Only the first vote about a group is written down.
    Forgets,
    /// An agent says that a host is off, and does nothing.
    Liar,
    /// Votes that need proof end by themselves.
    Lax,
    /// Votes that may be forgotten count as known.
    Doubtless,
}

/// What the file says of its groups beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tied {
    Not,
    /// They are held on one host.
    Together,
    /// Each is held on a host of its own.
    Apart,
    /// The same, and none of them likes any host more than another.
    Alike,
}

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) nodes: usize,
    pub(crate) witnesses: usize,
    pub(crate) groups: usize,
    pub(crate) preempt: bool,
    pub(crate) proxy: bool,
    pub(crate) equal: bool,
    /// Adverts, in hundredths of a second.
    pub(crate) interval: u64,
    pub(crate) term: u64,
    /// Whether a second network connects the voters.
    pub(crate) two_paths: bool,
    /// Whether adverts are delivered: they decide nothing, and cost time.
    pub(crate) adverts: bool,
    /// The longest that a host's daemon wakes too late.
    pub(crate) load: Real,
    pub(crate) rates: i64,
    /// Groups whose votes need proof: the first so many.
    pub(crate) strict: usize,
    /// The levels of the devices of each node.
    pub(crate) levels: Vec<u8>,
    /// Machines stand still with their clocks, and gates do not shut.
    pub(crate) wild: bool,
    /// Who was fenced is not switched on again.
    pub(crate) stays_off: bool,
    /// After how long a node fences whom it has not seen, in ms.
    pub(crate) startup: u64,
    pub(crate) limit: u32,
    /// Whether hosts look at something that they need.
    pub(crate) checks: bool,
    pub(crate) tied: Tied,
}

impl Shape {
    /// Three nodes, one group, honest clocks, an idle network.
    pub(crate) fn three() -> Self {
        Self {
            nodes: 3,
            witnesses: 0,
            groups: 1,
            preempt: false,
            proxy: false,
            equal: false,
            interval: 10,
            term: 220,
            two_paths: false,
            adverts: true,
            load: 0,
            rates: RHO,
            strict: 0,
            levels: Vec::new(),
            wild: false,
            stays_off: false,
            startup: 1000,
            limit: 100,
            checks: false,
            tied: Tied::Not,
        }
    }

    pub(crate) fn draw(random: &mut Random) -> Self {
        let (nodes, witnesses) = random.pick(&[
            (3, 0),
            (3, 0),
            (3, 0),
            (2, 1),
            (2, 1),
            (5, 0),
            (3, 2),
            (4, 0),
            (2, 3),
            (7, 0),
            (1, 0),
            (2, 0),
            (1, 2),
        ]);
        Self {
            nodes,
            witnesses,
            groups: random.pick(&[1, 1, 1, 2, 2, 3, 4]),
            preempt: random.chance(40),
            proxy: random.chance(20),
            equal: random.chance(15),
            interval: random.pick(&[10, 50, 100]),
            term: random.pick(&[100, 220, 220, 220, 400, 1000]),
            two_paths: random.chance(20),
            adverts: random.chance(25),
            load: random.pick(&[0, 0, 500 * US, 5 * MS, 40 * MS]),
            ..Self::three()
        }
    }

    /// A cluster whose groups need proof that a lost holder serves no more, some or all of them.
    pub(crate) fn draw_strict(random: &mut Random) -> Self {
        let drawn = Self::draw(random);
        let (nodes, witnesses) =
            random.pick(&[(3, 0), (3, 0), (2, 0), (2, 0), (2, 1), (2, 1), (4, 0), (5, 0), (3, 2)]);
        let mixed = drawn.groups > 1 && random.chance(30);
        Self {
            nodes,
            witnesses,
            strict: if mixed { drawn.groups - 1 } else { drawn.groups },
            levels: random.pick(&[&[1][..], &[1], &[1, 1], &[1, 2], &[2, 1, 1]]).to_vec(),
            wild: !mixed && random.chance(80),
            stays_off: random.chance(25),
            startup: random.pick(&[300, 1000, 3000]),
            limit: random.pick(&[3, 100, 100]),
            ..drawn
        }
    }

    /// The names of all voters.
    pub(crate) fn names(&self) -> Vec<String> {
        let nodes = (1..=self.nodes).map(|n| format!("hap{n}"));
        nodes.chain((1..=self.witnesses).map(|n| format!("tie{n}"))).collect()
    }

    fn toml(&self) -> String {
        let mut text = "[cluster]\nname = \"sim\"\nsecret = \"/s\"\n".to_owned();
        for n in 1..=self.nodes {
            let priority = if self.equal { 100 } else { 150 - n };
            let _ = write!(
                text,
                "[[node]]\nname = \"hap{n}\"\naddress = \"10.0.0.{n}\"\npriority = {priority}\n"
            );
        }
        for n in 1..=self.witnesses {
            let _ =
                writeln!(text, "[[witness]]\nname = \"tie{n}\"\naddress = \"10.0.0.{}\"", n + 20);
        }
        for g in 0..self.groups {
            let _ = write!(
                text,
                "[[group]]\nname = \"g{g}\"\nsafety = \"vrrp\"\nvrid = {}\ninterval = \"{}ms\"\n\
                 preempt = {}\naddresses = [\"10.0.0.{}/32\", \"10.0.0.{}/32\"]\n",
                g + 1,
                self.interval * 10,
                self.preempt,
                100 + 2 * g,
                101 + 2 * g,
            );
            if self.proxy {
                text += "[group.proxy]\ncommand = [\"/bin/proxy\"]\n";
            }
        }
        text
    }

    /// Its configuration. The file is read as one of VRRP, as no good file has a lease of less
    /// than three voters.
    pub(crate) fn config(&self) -> Config {
        thread_local! {
            static READ: RefCell<BTreeMap<String, Arc<Config>>> = const { RefCell::new(BTreeMap::new()) };
        }
        let text = self.toml();
        let read = READ.with_borrow_mut(|read| {
            if let Some(config) = read.get(&text) {
                return Arc::clone(config);
            }
            let config = match config::parse(&text) {
                Ok((config, _)) => Arc::new(config),
                Err(wrong) => panic!("{}", config::render(&wrong, "sim.toml", &text, false)),
            };
            read.insert(text, Arc::clone(&config));
            config
        });
        let mut config = Config::clone(&read);
        config.lease = Lease::of(Duration::from_millis(self.term));
        for (ix, group) in config.groups.iter_mut().enumerate() {
            group.safety = if ix < self.strict { Safety::LeaseFence } else { Safety::Lease };
        }
        for node in &mut config.nodes {
            node.fence = super::power::devices(&self.levels);
        }
        super::ties::tie(&mut config, self.tied);
        if self.checks {
            super::checks::add_to(&mut config);
        }
        if self.checks && self.tied != Tied::Not {
            // Only one of them needs it.
            let name = config.groups[self.groups - 1].name.clone();
            config.checks.iter_mut().for_each(|c| c.groups = vec![name.clone()]);
        }
        if !self.levels.is_empty() {
            config.fencing = super::power::fencing(self);
        }
        config
    }
}

/// The fixed address of a node.
pub(crate) fn own(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap() + 1))
}

/// The configuration that might follow `old`: another operator's idea.
pub(crate) fn successor(old: &Config, random: &mut Random) -> Config {
    let mut new = old.clone();
    let groups = new.groups.len();
    match random.draw(8) {
        // An address moves from one group to another.
        0..=2 if groups > 1 => {
            let (from, to) = (random.below(groups), random.below(groups));
            if from != to && new.groups[from].addresses.len() > 1 {
                let moved = new.groups[from].addresses.remove(0);
                new.groups[to].addresses.push(moved);
            }
        }
        3 => {
            let term = random.pick(&[100, 160, 220, 300, 500]);
            new.lease = Lease::of(Duration::from_millis(term));
        }
        4 if groups > 1 => new.groups.rotate_left(1),
        5 if groups > 1 => {
            new.groups.remove(random.below(groups));
        }
        6 if new.groups[0].addresses.len() > 1 => {
            new.groups[0].addresses.pop();
        }
        // Who is taken out may serve for as long as its clock stands still.
        7 if new.nodes.len() + new.witnesses.len() > 3 && !new.has_devices() => {
            if new.witnesses.is_empty() {
                let gone = new.nodes.len() - 1;
                new.nodes.remove(gone);
                new.groups.iter_mut().for_each(|g| g.priorities.truncate(gone));
            } else {
                new.witnesses.pop();
            }
        }
        _ => {
            let group = random.below(groups);
            new.groups[group].priorities.reverse();
            new.groups[group].preempt = random.chance(50);
        }
    }
    new
}
