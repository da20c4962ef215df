//! What cuts the power of a host: outlets, and the agents that switch them. An agent takes its time, and
//! does what it should, or something else; what it says of itself is what it sees when it is done.

use std::time::Duration;

use vipd::config::{Device, FenceAction, Fencing};
use vipd::core::event::{FenceEvent, Power};
use vipd::core::fence::Why;
use vipd::types::VoterIx;

use super::host::Arrival;
use super::plan::{MS, Mutant, Real, Shape, nanos};
use super::world::World;

/// How a device answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Works,
    Slow,
    /// It says no, and sometimes it did it.
    Fails,
    Hangs,
    /// It takes the order, and nothing happens.
    Stuck,
}

/// What a device switches.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    pub(crate) level: u8,
    pub(crate) on: bool,
    pub(crate) mode: Mode,
    /// By host: who cannot reach it.
    pub(crate) unreachable: Vec<bool>,
    /// Who switched it off last, in which run.
    off_by: Option<(usize, u32)>,
}

/// An agent at work.
#[derive(Clone, Copy, Debug)]
struct Agent {
    by: usize,
    life: u32,
    voter: usize,
    until: Real,
}

/// All that has to do with power.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    /// By voter.
    pub(crate) outlets: Vec<Vec<Outlet>>,
    agents: Vec<Agent>,
    /// By who, in which run, and whom: how often it was begun.
    begun: std::collections::BTreeMap<(usize, u32, usize), u32>,
    /// Datagrams of long ago may come: whose sender is heard by them, and still not alive.
    pub(crate) late: bool,
    /// No two agents at a time are an accident here.
    pub(crate) one_at_a_time: bool,
    pub(crate) count: FenceCount,
}

/// What was done; printed by those who run many schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FenceCount {
    pub(crate) begun: u64,
    pub(crate) off: u64,
    pub(crate) failed: u64,
    pub(crate) ordered: u64,
    pub(crate) confirmed: u64,
    pub(crate) at_once: u64,
    pub(crate) paused: u64,
    pub(crate) deaf: u64,
    pub(crate) left: u64,
}

impl FenceCount {
    pub(crate) fn join(&mut self, of: &Self) {
        self.begun += of.begun;
        self.off += of.off;
        self.failed += of.failed;
        self.ordered += of.ordered;
        self.confirmed += of.confirmed;
        self.at_once += of.at_once;
        self.paused += of.paused;
        self.deaf += of.deaf;
        self.left += of.left;
    }
}

/// The devices of a node.
pub(crate) fn devices(levels: &[u8]) -> Vec<Device> {
    let of = |level: &u8| Device { level: *level, attempts: 1, ..Device::of("fence_sim") };
    levels.iter().map(of).collect()
}

/// When and how nodes are fenced.
pub(crate) fn fencing(shape: &Shape) -> Fencing {
    Fencing {
        action: if shape.stays_off { FenceAction::Off } else { FenceAction::Reboot },
        head_start: Duration::from_millis(500),
        startup_wait: Duration::from_millis(shape.startup),
        limit: shape.limit,
        check: None,
        ..Fencing::default()
    }
}

impl World {
    pub(crate) fn build_grid(&mut self) {
        let (nodes, hosts) = (self.shape.nodes, self.names.len());
        let outlet = |level: &u8| Outlet {
            level: *level,
            on: true,
            mode: Mode::Works,
            unreachable: vec![false; hosts],
            off_by: None,
        };
        let all = |voter| if voter < nodes { &self.shape.levels[..] } else { &[] };
        self.grid.outlets = (0..hosts).map(|v| all(v).iter().map(outlet).collect()).collect();
    }

    /// Whether a host has power: from some outlet of each level.
    pub(crate) fn is_fed(&self, host: usize) -> bool {
        let outlets = self.grid.outlets.get(self.hosts[host].voter).map_or(&[][..], |o| o);
        outlets.iter().all(|o| o.on || outlets.iter().any(|p| p.level == o.level && p.on))
    }

    /// Whether an agent works on the power of a voter.
    pub(crate) fn is_at_work(&self, voter: usize) -> bool {
        self.grid
            .agents
            .iter()
            .any(|a| a.voter == voter && self.now < a.until && self.hosts[a.by].life == a.life)
    }

    pub(crate) fn who_works(&self) -> Option<usize> {
        self.grid.agents.iter().find(|a| self.now < a.until).map(|a| a.by)
    }

    /// An agent is started.
    pub(crate) fn agent(&mut self, host: usize, run: u64, node: u16, device: u16, power: Power) {
        let ix = VoterIx(u8::try_from(node).unwrap());
        let Some(voter) = self.voter_of(host, ix) else { return };
        let outlet = &self.grid.outlets[voter][usize::from(device)];
        let mode = if outlet.unreachable[host] { Mode::Hangs } else { outlet.mode };
        if power == Power::Off {
            self.check_fencing(host, voter);
        }
        let took = match mode {
            Mode::Works => self.random.between(1, 40),
            Mode::Slow => self.random.between(100, 2000),
            Mode::Fails => self.random.between(5, 50),
            Mode::Hangs => self.random.between(300, 3000),
            Mode::Stuck => self.random.between(50, 500),
        } * MS;
        let name = self.names[voter].clone();
        self.note(host, || {
            format!("agent {run}: device {device} of {name} {power:?}, {mode:?}, {} ms", took / MS)
        });
        let does = match mode {
            Mode::Works | Mode::Slow => self.mutant != Mutant::Liar || power == Power::On,
            Mode::Fails => self.random.chance(30),
            Mode::Hangs | Mode::Stuck => false,
        };
        let life = self.hosts[host].life;
        if does {
            let at = self.random.draw(took);
            let on = power == Power::On;
            self.later(voter, at, Arrival::Outlet { device, on, by: host, life });
        }
        self.grid.agents.retain(|a| a.until > self.now);
        self.grid.agents.push(Agent { by: host, life, voter, until: self.now + took });
        self.later(host, took, Arrival::Agent { run, voter, device, power, mode });
    }

    /// An outlet is switched. An agent ends with its daemon.
    pub(crate) fn switched(&mut self, host: usize, device: u16, on: bool, by: (usize, u32)) {
        if self.hosts[by.0].life != by.1 {
            return;
        }
        let outlet = &mut self.grid.outlets[host][usize::from(device)];
        outlet.on = on;
        if !on {
            outlet.off_by = Some(by);
        }
        self.note(host, || format!("outlet {device} is switched, on: {on}"));
        if !self.is_fed(host) {
            if self.hosts[host].powered {
                self.grid.count.off += 1;
                self.power_off(host);
            }
        } else if !self.hosts[host].powered {
            let boot = self.random.between(20, 300) * MS;
            self.later(host, boot, Arrival::PowerOn);
        }
    }

    /// What an agent says in the end.
    pub(crate) fn agent_done(&mut self, what: Arrival) -> Arrival {
        let Arrival::Agent { run, voter, device, power, mode } = what else { return what };
        let outlet = &self.grid.outlets[voter][usize::from(device)];
        // One device of a level says nothing of the host: the others may feed it.
        let alone =
            self.grid.outlets[voter].iter().filter(|o| o.level == outlet.level).count() == 1;
        let is_off = !(outlet.on || alone && self.hosts[voter].powered);
        let seen = match power {
            Power::Off => is_off || self.mutant == Mutant::Liar,
            Power::On => outlet.on,
        };
        let result = match mode {
            Mode::Works | Mode::Slow if seen => Ok(()),
            Mode::Works | Mode::Slow | Mode::Stuck => {
                Err(("it is not as it should be".into(), true))
            }
            Mode::Fails => Err(("access denied".into(), false)),
            Mode::Hangs => Err(("no answer".into(), true)),
        };
        if result.is_err() {
            self.grid.count.failed += 1;
        }
        Arrival::Fence(FenceEvent::Told { run, result })
    }

    /// What fencing must never do.
    fn check_fencing(&mut self, host: usize, voter: usize) {
        self.oracle.checks += 1;
        let (now, life) = (self.hosts[host].local(self.now), self.hosts[host].life);
        let Some(node) = self.hosts[host].daemon.as_ref().and_then(|d| d.node()) else { return };
        let config = std::sync::Arc::clone(node.config());
        let status = node.status(now);
        let (by, whom) = (self.hosts[host].name.clone(), self.names[voter].clone());
        let Some(of) = status.fencing.iter().find(|f| f.node == whom) else {
            return self.broke(format!("F0: {by} uses a device of {whom} out of turn"));
        };
        let others = self.grid.agents.iter().filter(|a| {
            a.voter == voter
                && a.by != host
                && self.now < a.until
                && self.hosts[a.by].life == a.life
        });
        if others.count() > 0 {
            self.grid.count.at_once += 1;
            if self.grid.one_at_a_time {
                return self.broke(format!("F1: two agents work on {whom} at once"));
            }
        }
        if of.why == Some(Why::Ordered) || of.since != Some(now) {
            return;
        }
        self.grid.count.begun += 1;
        let begun = self.grid.begun.entry((host, life, voter)).or_default();
        *begun += 1;
        let begun = *begun;
        if begun > config.fencing.limit {
            return self.broke(format!("F2: {by} fences {whom} for the {begun}. time"));
        }
        let voters = config.voters().count();
        let pair = voters == 2;
        let lately = |s: &super::host::Session| self.now < s.heard + 1000 * MS + self.vote();
        let heard = self.hosts[host].sessions.iter().flatten().filter(|s| lately(s)).count() + 1;
        if !pair && heard < config.majority() {
            return self.broke(format!("F3: {by} fences {whom} and hears {heard} of {voters}"));
        }
        let met = &self.hosts[host].met;
        let waited = now >= status.started + config.fencing.startup_wait;
        if !met.contains_key(&voter) && (pair || !waited) {
            return self.broke(format!("F4: {by} has just started, and fences {whom}"));
        }
        let fresh = self.hosts[voter].since + 3_500 * MS > self.now;
        let well = self.hosts[voter].powered && self.gone != Some(voter) && !fresh;
        if of.why == Some(Why::Lost) && self.is_calm && well {
            return self.broke(format!("F10: {by} fences {whom}, which nothing is wrong with"));
        }
        let alive = 6 * nanos(config.lease.renew);
        let last = self.hosts[host].met.get(&voter).copied().unwrap_or(0);
        let clear = !self.grid.late;
        if of.why == Some(Why::Lost) && clear && self.now < last + alive / 10 * 9 {
            self.broke(format!("F5: {by} fences {whom}, which it hears"));
        }
    }

    /// Somebody presses the button of a host, and switches on what feeds it.
    ///
    /// Of several outlets none, while the host is on: a human who switches the first on again
    /// before the second is off would make a proof of what never was.
    pub(crate) fn button(&mut self, host: usize) {
        let levels = &self.shape.levels;
        let several = levels.iter().any(|l| levels.iter().filter(|m| *m == l).nth(1).is_some());
        if several && self.hosts[host].powered {
            return;
        }
        for outlet in &mut self.grid.outlets[host] {
            outlet.on = true;
        }
        if !self.hosts[host].powered {
            self.note(host, || "its button is pressed".to_owned());
            self.power_on(host);
        }
    }

    pub(crate) fn repair_devices(&mut self) {
        let hosts = self.hosts.len();
        for outlet in self.grid.outlets.iter_mut().flatten() {
            outlet.mode = Mode::Works;
            outlet.unreachable = vec![false; hosts];
        }
    }

    /// An operator says that a host is off: only where it is, and only to who listens now.
    pub(crate) fn confirm(&mut self, to: usize, host: usize) -> bool {
        let listens = self.hosts[to].daemon.is_some()
            && self.hosts[to].paused_since.is_none()
            && !self.hosts[to].is_frozen(self.now)
            && self.hosts[to].undone.is_empty();
        let Some(ix) = self.ix_of(to, self.hosts[host].voter) else { return false };
        if !listens || self.hosts[host].powered || to == host || host >= self.shape.nodes {
            return false;
        }
        self.grid.count.confirmed += 1;
        self.tell(to, vipd::core::event::Event::Fence(FenceEvent::Confirm(u16::from(ix.0))));
        true
    }

    pub(crate) fn order_fence(&mut self, to: usize, host: usize) {
        if host >= self.shape.nodes {
            return;
        }
        if let Some(ix) = self.ix_of(to, self.hosts[host].voter) {
            self.grid.count.ordered += 1;
            self.later(to, 0, Arrival::Fence(FenceEvent::Order(u16::from(ix.0))));
        }
    }

    /// The gates of a host do not shut any more. It is not heard meanwhile.
    pub(crate) fn deafen(&mut self, host: usize) {
        self.note(host, || "its gates do not shut".to_owned());
        self.isolate(host);
        self.grid.count.deaf += 1;
        self.hosts[host].deaf = true;
    }

    /// Everybody's gates do what they are told.
    pub(crate) fn undeafen(&mut self) {
        for host in &mut self.hosts {
            host.deaf = false;
            for group in std::mem::take(&mut host.unheard) {
                host.gates.remove(&group);
            }
        }
    }

    /// After calm: what was begun ends, and whoever was switched off is on again, unless it is to
    /// stay off.
    pub(crate) fn check_power(&mut self) {
        let idle = |w: &World| {
            let all = (0..w.names.len()).filter(|h| !w.is_out(*h));
            w.who_works().is_none() && all.clone().all(|h| w.hosts[h].powered)
        };
        if self.run_until(12_000 * MS, idle) || self.broken() {
            return;
        }
        for host in 0..self.names.len() {
            if self.hosts[host].powered || self.is_out(host) {
                continue;
            }
            let by = self.grid.outlets[host].iter().filter(|o| !o.on).find_map(|o| o.off_by);
            let alive = by.is_some_and(|(by, life)| self.hosts[by].life == life);
            if alive && !self.shape.stays_off {
                let name = self.names[host].clone();
                return self.broke(format!("F6: {name} was switched off, and stays so"));
            }
            self.grid.count.left += 1;
            self.button(host);
        }
    }
}
