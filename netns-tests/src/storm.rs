//! Faults of every kind at three hosts, several at once, as dice say.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::clock::{Stamp, pause};
use crate::freezer::Freezer;
use crate::process::{signal_all, tree};
use crate::trio::{Trio, VIP};
use crate::{Dice, Proc, Result};

/// How long nothing new happens, at most: on the heels of the last fault, soon, or after a while.
/// Three times of eight each, and two times of eight for the last.
const CALMS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(600), Duration::from_secs(4)];
/// Faults end after so long, or a little earlier.
const LONGEST: Duration = Duration::from_millis(1500);
/// Programs that do nothing, and do it as fast as they can.
const BUSY: usize = 4;

/// A storm. The same dice make the same faults, at times that are as close as the machine allows.
#[derive(Debug)]
pub struct Storm<'t> {
    trio: &'t mut Trio,
    dice: Dice,
    pending: Vec<Pending>,
    weather: Weather,
}

/// What a storm was like.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// What happened when.
    pub told: Vec<(Stamp, String)>,
    /// How many faults there were.
    pub faults: usize,
    /// Which host was in trouble, and when.
    pub troubles: Vec<(usize, Stamp, Stamp)>,
    /// When it began and ended.
    pub lasted: (Stamp, Stamp),
}

impl Weather {
    /// The times in which at least two hosts have been well for `grace`: a majority that service
    /// may be asked of.
    pub fn fair(&self, grace: Duration) -> Vec<(Stamp, Stamp)> {
        let (begin, end) = self.lasted;
        let edges = self.troubles.iter().flat_map(|(_, from, to)| [*from, *to + grace]);
        let mut edges: Vec<Stamp> = edges.filter(|at| *at > begin && *at < end).collect();
        edges.extend([begin, end]);
        edges.sort_unstable();
        let sick = |n: usize, at: Stamp| {
            self.troubles.iter().any(|(of, from, to)| *of == n && *from <= at && at < *to + grace)
        };
        let mut fair: Vec<(Stamp, Stamp)> = Vec::new();
        for pair in edges.windows(2) {
            if (0..3).filter(|n| sick(*n, pair[0])).count() > 1 {
                continue;
            }
            match fair.last_mut() {
                Some(last) if last.1 == pair[0] => last.1 = pair[1],
                _ => fair.push((pair[0], pair[1])),
            }
        }
        fair
    }
}

/// A fault that has to be undone.
#[derive(Debug)]
struct Pending {
    at: Stamp,
    host: usize,
    /// The other host that it is about, if there is one.
    peer: Option<usize>,
    since: Stamp,
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    Start,
    Continue(Vec<i32>),
    Thaw { _frozen: Freezer },
    PowerOn,
    Heal,
    CarrierUp,
    LinkUp,
    Idle { _programs: Vec<Proc> },
}

/// What a fault is about: two about the same thing of a host do not happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Program,
    Network,
    Cpu,
}

impl Undo {
    const fn part(&self) -> Part {
        match self {
            Self::Start | Self::Continue(_) | Self::Thaw { .. } | Self::PowerOn => Part::Program,
            Self::Heal | Self::CarrierUp | Self::LinkUp => Part::Network,
            Self::Idle { .. } => Part::Cpu,
        }
    }
}

/// What can happen to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Freeze,
    FreezeHost,
    PowerLoss,
    Cut,
    CutIn,
    CutOut,
    CutTo,
    CutBetween,
    Lossy,
    Carrier,
    Flap,
    Link,
    Busy,
    Delete,
}

/// Kills twice as often as the rest: they are what happens.
const FAULTS: [Fault; 17] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Stop,
    Fault::Freeze,
    Fault::FreezeHost,
    Fault::PowerLoss,
    Fault::Cut,
    Fault::CutIn,
    Fault::CutOut,
    Fault::CutTo,
    Fault::CutBetween,
    Fault::Lossy,
    Fault::Carrier,
    Fault::Flap,
    Fault::Link,
    Fault::Busy,
    Fault::Delete,
];

impl Fault {
    const fn part(self) -> Option<Part> {
        match self {
            Self::Kill | Self::Stop | Self::Freeze | Self::FreezeHost | Self::PowerLoss => {
                Some(Part::Program)
            }
            Self::Cut
            | Self::CutIn
            | Self::CutOut
            | Self::CutTo
            | Self::CutBetween
            | Self::Lossy
            | Self::Carrier
            | Self::Flap
            | Self::Link => Some(Part::Network),
            Self::Busy => Some(Part::Cpu),
            Self::Delete => None,
        }
    }
}

impl<'t> Storm<'t> {
    /// A storm over `trio`, whose daemons all run.
    pub fn new(trio: &'t mut Trio, seed: u64) -> Self {
        Self { trio, dice: Dice::new(seed), pending: Vec::new(), weather: Weather::default() }
    }

    /// Blows for `during`, then undoes everything.
    pub fn blow(mut self, during: Duration) -> Result<Weather> {
        let begin = Stamp::now();
        let end = begin + during;
        let mut next = begin;
        while Stamp::now() < end {
            self.undo_until(Stamp::now())?;
            if Stamp::now() >= next {
                let calm = CALMS[self.dice.below(8) / 3];
                next = Stamp::now() + self.dice.time_below(calm);
                self.strike()?;
            }
            pause(Duration::from_millis(1));
        }
        let last = self.pending.iter().map(|p| p.at).max().unwrap_or_default();
        self.undo_until(last)?;
        self.tell("calm".to_owned());
        self.weather.lasted = (begin, Stamp::now());
        Ok(self.weather)
    }

    fn tell(&mut self, what: String) {
        self.weather.told.push((Stamp::now(), what));
    }

    fn undo_until(&mut self, until: Stamp) -> Result {
        while let Some(ix) = self.pending.iter().position(|p| p.at <= until) {
            let Pending { host: n, peer, since, undo, .. } = self.pending.remove(ix);
            let name = format!("{} of hap{}", undo.name(), n + 1);
            let host = &self.trio.hosts[n];
            match undo {
                Undo::Start => self.trio.start(n)?,
                Undo::Continue(pids) => signal_all(&pids, Signal::SIGCONT),
                // Dropped, they are over.
                Undo::Thaw { .. } | Undo::Idle { .. } => drop(undo),
                Undo::PowerOn => self.trio.power_on(n)?,
                Undo::Heal => drop(host.heal()?),
                Undo::CarrierUp => drop(host.carrier_up()?),
                Undo::LinkUp => drop(host.link_up()?),
            }
            self.trouble([Some(n), peer], since);
            self.tell(name);
        }
        Ok(())
    }

    fn trouble(&mut self, hosts: [Option<usize>; 2], since: Stamp) {
        let now = Stamp::now();
        self.weather.troubles.extend(hosts.into_iter().flatten().map(|n| (n, since, now)));
    }

    fn strike(&mut self) -> Result {
        let n = self.dice.below(3);
        let fault = FAULTS[self.dice.below(FAULTS.len())];
        let lasts = self.dice.time_below(LONGEST);
        let other = (n + 1 + self.dice.below(2)) % 3;
        let is = |part: Part| self.pending.iter().any(|p| p.host == n && p.undo.part() == part);
        let off = !self.trio.hosts[n].has_power();
        // A host without power has no other troubles, and one with others keeps its power.
        let clash = fault.part().is_some_and(is)
            || off
            || (fault == Fault::PowerLoss && self.pending.iter().any(|p| p.host == n));
        if clash {
            return Ok(());
        }
        let peer = matches!(fault, Fault::CutTo | Fault::CutBetween).then_some(other);
        self.tell(format!("{fault:?} of hap{} for {lasts:.1?}", n + 1));
        self.weather.faults += 1;
        let since = Stamp::now();
        let Some(undo) = self.inflict(fault, n, other)? else {
            let all = fault == Fault::Delete;
            let hosts = if all { [Some(0), Some(1)] } else { [Some(n), None] };
            self.trouble(hosts, since);
            return Ok(());
        };
        let lasts = if matches!(undo, Undo::Start) { lasts * 2 / 3 } else { lasts };
        self.pending.push(Pending { at: Stamp::now() + lasts, host: n, peer, since, undo });
        Ok(())
    }

    fn inflict(&mut self, fault: Fault, n: usize, other: usize) -> Result<Option<Undo>> {
        let (host, peer) = (&self.trio.hosts[n], &self.trio.hosts[other]);
        let undo = match fault {
            Fault::Kill => {
                self.trio.kill(n);
                Undo::Start
            }
            Fault::Stop => stop(tree(self.trio.process(n).pid())),
            Fault::Freeze => freeze(host.namespace(), tree(self.trio.process(n).pid()))?,
            Fault::FreezeHost => freeze(host.namespace(), host.processes())?,
            Fault::PowerLoss => {
                self.trio.power_loss(n)?;
                Undo::PowerOn
            }
            Fault::Cut => healed(host.cut()?),
            Fault::CutIn => healed(host.cut_in()?),
            Fault::CutOut => healed(host.cut_out()?),
            Fault::CutTo => healed(host.cut_to(peer)?),
            Fault::CutBetween => healed(host.cut_between(peer)?),
            Fault::Lossy => healed(host.lossy(30)?),
            Fault::Carrier => {
                host.carrier_down()?;
                Undo::CarrierUp
            }
            Fault::Flap => {
                for _ in 0..=self.dice.below(3) {
                    host.carrier_down()?;
                    pause(self.dice.time_below(Duration::from_millis(40)));
                    host.carrier_up()?;
                    pause(self.dice.time_below(Duration::from_millis(40)));
                }
                return Ok(None);
            }
            Fault::Link => {
                host.link_down()?;
                Undo::LinkUp
            }
            Fault::Busy => {
                let busy = |_| host.spawn("busy", &["sh", "-c", "while :; do :; done"]);
                Undo::Idle { _programs: (0..BUSY).map(busy).collect::<Result<_>>()? }
            }
            Fault::Delete => {
                // Where it is; most have nothing to delete, and are told so.
                for host in &self.trio.hosts {
                    host.run(&["ip", "addr", "del", &format!("{VIP}/24"), "dev", "eth0"])?;
                }
                return Ok(None);
            }
        };
        Ok(Some(undo))
    }
}

impl Undo {
    const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Continue(_) => "SIGCONT",
            Self::Thaw { .. } => "thaw",
            Self::PowerOn => "power on",
            Self::Heal => "heal",
            Self::CarrierUp => "carrier up",
            Self::LinkUp => "link up",
            Self::Idle { .. } => "idle",
        }
    }
}

const fn healed(_: Stamp) -> Undo {
    Undo::Heal
}

fn stop(pids: Vec<i32>) -> Undo {
    signal_all(&pids, Signal::SIGSTOP);
    Undo::Continue(pids)
}

/// Freezes `pids` in a control group called like their host; with signals where there are none.
fn freeze(name: &str, pids: Vec<i32>) -> Result<Undo> {
    Ok(match Freezer::freeze(name, &pids)? {
        Some(frozen) => Undo::Thaw { _frozen: frozen },
        None => stop(pids),
    })
}
