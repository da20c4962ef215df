//! What goes wrong, and how it is put right.

use std::sync::Arc;
use std::time::Duration;

use vipd::config::Config;
use vipd::core::event::{Event, ProxyEvent};
use vipd::types::{GateId, VoterIx};

use super::host::{Arrival, Host};
use super::plan::{MS, Mutant, Real, US, nanos, successor};
use super::world::{Net, World};

/// How many kinds of fault there are; what [`World::fault`] knows.
pub(crate) const KINDS: usize = 19;

impl World {
    /// Something goes wrong with somebody. Says what kind it was.
    pub(crate) fn fault(&mut self) -> usize {
        let kind = self.random.below(KINDS);
        let host = self.random.below(self.hosts.len());
        self.count.faults += 1;
        match kind {
            0 => self.crash(host, true),
            1 => self.crash(host, false),
            2 => self.hand_over_to_next_run(host),
            3 => {
                self.note(host, || "is told to stop".to_owned());
                self.later(host, 0, Arrival::Stop);
                let back = self.random.between(100, 800) * MS;
                self.later(host, back, Arrival::Start);
            }
            4 => {
                self.power_off(host);
                let back = self.random.between(60, 1200) * MS;
                self.later(host, back, Arrival::PowerOn);
            }
            5 => {
                let long = self.random.between(1, 900) * MS;
                self.freeze(host, long);
            }
            6 => {
                let long = self.random.between(1, 900) * MS;
                let after = self.random.below(4);
                self.hosts[host].cut_short = Some((after, long));
            }
            7 => self.isolate(host),
            8 => self.cut_one_way(host),
            9 => self.part(),
            10 | 11 => self.heal(),
            12 => self.bad_network(),
            13 => {
                let up = !self.hosts[host].carrier;
                self.carrier(host, up);
            }
            14 => self.new_file(),
            15 => self.move_order(host),
            16 => self.sicken(host),
            17 => self.doubt(host),
            _ => self.delete_address(host),
        }
        kind
    }

    /// The daemon is killed, and started again soon or late.
    pub(crate) fn crash(&mut self, host: usize, remembers: bool) {
        if self.hosts[host].daemon.is_none() {
            return;
        }
        self.kill(host);
        self.note(host, || {
            format!("is killed, its memory {}", if remembers { "stays" } else { "goes" })
        });
        if !remembers {
            self.hosts[host].kept.votes = None;
            self.oracle.forgot(host);
        }
        let soon = self.random.between(1, 20) * MS;
        let back = if self.random.chance(60) { soon } else { self.random.between(20, 600) * MS };
        self.later(host, back, Arrival::Start);
    }

    fn hand_over_to_next_run(&mut self, host: usize) {
        self.note(host, || "is told to leave".to_owned());
        self.later(host, 0, Arrival::Leave);
        let back = self.random.between(1, 50) * MS;
        self.later(host, back, Arrival::Start);
    }

    /// The daemon is not run for so long; what comes in meanwhile is queued.
    pub(crate) fn freeze(&mut self, host: usize, long: Real) {
        if self.hosts[host].daemon.is_none() || self.hosts[host].is_frozen(self.now) {
            return;
        }
        self.note(host, || format!("is frozen for {} ms", long / MS));
        self.hosts[host].frozen_until = self.now + long;
        self.hosts[host].froze_at = self.now;
        self.plan_wake(host);
    }

    /// The whole machine stands still, its clock too.
    pub(crate) fn pause(&mut self, host: usize) {
        if !self.hosts[host].powered || self.hosts[host].paused_since.is_some() {
            return;
        }
        self.note(host, || "stands still, and its clock".to_owned());
        self.grid.count.paused += 1;
        self.hosts[host].paused_since = Some(self.now);
        self.plan_wake(host);
    }

    pub(crate) fn resume(&mut self, host: usize) {
        let Some(since) = self.hosts[host].paused_since.take() else { return };
        let now = self.now;
        self.note(host, || "goes on".to_owned());
        self.hosts[host].clock.stood_still(since, now);
        // What passed its gate before anything ran there, in truth.
        self.check_all(host);
        self.hosts[host].frozen_until = self.hosts[host].frozen_until.max(now + 50 * US);
        self.plan_wake(host);
    }

    // ---- the network ----

    pub(crate) fn isolate(&mut self, host: usize) {
        self.note(host, || "is cut off".to_owned());
        for other in (0..self.hosts.len()).filter(|o| *o != host) {
            self.cut(host, other);
            self.cut(other, host);
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        for path in &mut self.net.cut {
            path[from][to] = true;
        }
    }

    fn cut_one_way(&mut self, host: usize) {
        let (other, path) = (self.random.below(self.hosts.len()), self.random.below(2));
        self.note(host, || format!("is not heard by {other} on path {path}"));
        self.net.cut[path][host][other] = true;
        if !self.shape.two_paths {
            self.net.cut[0][host][other] = true;
        }
    }

    /// The network falls in two.
    fn part(&mut self) {
        let side: Vec<bool> = (0..self.hosts.len()).map(|_| self.random.chance(50)).collect();
        self.note(usize::MAX, || format!("the network falls in two: {side:?}"));
        for from in 0..side.len() {
            for to in 0..side.len() {
                if side[from] != side[to] {
                    self.cut(from, to);
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.note(usize::MAX, || "the network is whole".to_owned());
        self.net = Net::default();
        self.undeafen();
    }

    fn bad_network(&mut self) {
        self.grid.late = true;
        self.net.loss = self.random.draw(50);
        self.net.twice = self.random.draw(20);
        let slow = self.random.pick(&[1, 10, 60, 300, 3000]);
        self.net.slow = (self.random.draw(50), slow * MS);
        let net = (self.net.loss, self.net.twice, self.net.slow);
        self.note(usize::MAX, || format!("the network is bad: {net:?}"));
    }

    fn carrier(&mut self, host: usize, up: bool) {
        self.note(host, || format!("carrier: {up}"));
        self.hosts[host].carrier = up;
        let delay = self.random.draw(500 * US);
        self.later(host, delay, Arrival::Link);
    }

    // ---- operators ----

    /// Another file is rolled out, host by host, and not to everybody.
    fn new_file(&mut self) {
        if self.files.len() > 4 {
            return;
        }
        let old = Arc::clone(&self.files[self.latest()].config);
        let mut config = successor(&old, &mut self.random);
        super::ties::tie(&mut config, self.shape.tied);
        self.roll_out(config, 85);
    }

    /// Says when everybody who gets it has it.
    pub(crate) fn roll_out(&mut self, config: Config, percent: u64) {
        let new = self.write_file(config);
        let mut at = 0;
        for host in 0..self.hosts.len() {
            if self.random.chance(percent) {
                at += self.random.draw(150 * MS);
                self.give(host, new, at);
            }
        }
    }

    fn give(&mut self, host: usize, file: usize, at: Real) {
        if self.hosts[host].member(&self.files[file].config).is_some() {
            self.later(host, at, Arrival::Reload(file));
        }
    }

    pub(crate) fn move_order(&mut self, host: usize) {
        let config = &self.files[self.latest()].config;
        let group = self.random.below(config.groups.len());
        let name = config.groups[group].name.clone();
        let to = VoterIx(u8::try_from(self.random.below(config.nodes.len())).unwrap());
        self.note(host, || format!("is told to move {name} to {}", to.0));
        self.later(host, 0, Arrival::Move(name.into(), to));
    }

    // ---- hosts ----

    fn sicken(&mut self, host: usize) {
        if self.shape.proxy && self.random.chance(50) {
            let broken = !self.hosts[host].proxy_broken;
            self.hosts[host].proxy_broken = broken;
            self.note(host, || format!("its proxy is broken: {broken}"));
            if broken {
                let died = ProxyEvent::Stopped { how: "killed by signal 9".into() };
                self.later(host, 0, Arrival::Proxy(0, died));
            }
        } else {
            let sick = !self.hosts[host].sick;
            self.hosts[host].sick = sick;
            self.note(host, || format!("its kernel refuses addresses: {sick}"));
        }
    }

    /// A second machine with the same name and key, from the same image.
    pub(crate) fn clone_of(&mut self, host: usize) {
        if self.hosts.iter().any(|h| h.clone) {
            return;
        }
        let of = &self.hosts[host];
        let gate = match self.mutant {
            Mutant::CopiedGate => of.gate,
            _ => GateId(of.gate.0 + 500_000),
        };
        let (name, voter, file, kept) = (of.name.clone(), of.voter, of.file, of.kept.clone());
        let mut twin = Host::new(name, voter, gate.0, of.sessions.len());
        twin.clone = true;
        twin.file = file;
        twin.kept = super::host::Kept { votes: None, ..kept };
        self.hosts.push(twin);
        self.oracle.another_host();
        self.note(host, || "has a twin".to_owned());
        self.power_on(self.hosts.len() - 1);
    }

    /// The gate, or the clock, cannot be relied upon for a while.
    fn doubt(&mut self, host: usize) {
        let back = self.random.between(1, 500) * MS;
        if self.random.chance(50) {
            self.later(host, 0, Arrival::Gate(Err("the gate is not attached".into())));
            self.later(host, back, Arrival::Gate(Ok(())));
        } else {
            self.later(host, 0, Arrival::Clock(Err("the clock runs wrong".into())));
            self.later(host, back, Arrival::Clock(Ok(())));
        }
    }

    fn delete_address(&mut self, host: usize) {
        let present = &self.hosts[host].addresses;
        let Some(ip) = present.iter().nth(self.random.below(present.len().max(1))).copied() else {
            return;
        };
        self.note(host, || format!("somebody deletes {ip}"));
        self.hosts[host].addresses.remove(&ip);
        self.later(host, 100 * US, Arrival::AddressGone(super::host::kernel_address(ip)));
    }

    // ---- calm ----

    /// Everything is repaired, everybody is on and has the last file.
    pub(crate) fn calm(&mut self) {
        self.note(usize::MAX, || "calm".to_owned());
        self.heal();
        self.is_calm = true;
        self.kernel_fails = 0;
        self.shape.load = self.shape.load.min(500 * US);
        self.repair_devices();
        let latest = self.latest();
        for host in 0..self.hosts.len() {
            if self.is_out(host) {
                self.power_off(host);
                continue;
            }
            self.resume(host);
            self.hosts[host].cut_short = None;
            self.hosts[host].sick = false;
            self.hosts[host].proxy_broken = false;
            if self.hosts[host].is_frozen(self.now) {
                self.hosts[host].frozen_until = self.now;
                self.thaw(host);
            }
            self.hosts[host].since = self.now;
            self.hosts[host].file = latest;
            self.button(host);
            self.start(host);
            if self.hosts[host].daemon.is_some() {
                self.later(host, 0, Arrival::Reload(latest));
                self.later(host, 0, Arrival::Gate(Ok(())));
                self.later(host, 0, Arrival::Clock(Ok(())));
            }
            self.carrier(host, true);
            self.plan_wake(host);
        }
    }

    /// Who serves all of a group's addresses.
    pub(crate) fn holders(&self, group: usize) -> Vec<usize> {
        let config = &self.files[self.latest()].config;
        let Some(group) = config.groups.get(group) else { return Vec::new() };
        let all = |host: &usize| {
            let host = &self.hosts[*host];
            let has = |ip| host.serves(self.now, ip) && host.is_open(self.now, &group.name);
            !host.clone && group.addresses.iter().all(|a| has(a.ip))
        };
        (0..self.hosts.len()).filter(all).collect()
    }

    /// The one holder of the first group.
    pub(crate) fn holder(&self) -> Option<usize> {
        self.holders(0).first().copied()
    }

    pub(crate) fn all_held(&self) -> bool {
        let groups = self.files[self.latest()].config.groups.len();
        (0..groups).all(|g| self.holders(g).len() == 1)
    }

    /// What a vote lasts, now.
    pub(crate) fn vote(&self) -> Real {
        nanos(self.files[self.latest()].config.lease.vote)
    }

    /// After calm: every group is held within seconds, and stays where it is.
    pub(crate) fn check_calm(&mut self) {
        let longest = self.files.iter().map(|f| nanos(f.config.lease.vote)).max().unwrap_or(0);
        let proof = if self.shape.strict > 0 { 25_000 * MS } else { 0 };
        let limit = 8_000 * MS + 6 * longest + proof;
        let since = self.now;
        let held = if self.shape.strict > 0 {
            self.held_in_the_end(limit)
        } else {
            self.run_until(limit, World::all_held)
        };
        if !held {
            return self
                .broke(format!("I14: not every group is held {} s after calm", limit / MS / 1000));
        }
        self.oracle.slowest = self.oracle.slowest.max(self.now - since);
        if self.shape.strict > 0 {
            self.check_power();
        }
        // What was to be switched off in the night may be tried again: whoever had what that host held
        // has it anew.
        for _ in 0..20 {
            let cut = self.grid.count.off;
            self.check_stays(longest);
            if self.grid.count.off == cut || self.broken() {
                break;
            }
            self.check_power();
        }
        self.check_preferred();
    }

    /// In a calm network nothing moves, unless power is cut.
    fn check_stays(&mut self, longest: Real) {
        let cut = self.grid.count.off;
        // Who was last heard before the calm agrees on a session within two seconds; who is better
        // takes over, addresses settle.
        self.run(2 * longest + 3200 * MS);
        let opened = self.oracle.opened;
        let before: Vec<_> = (0..4).map(|g| self.holders(g)).collect();
        self.run(600 * MS);
        if self.broken() || self.grid.count.off != cut {
            return;
        }
        let after: Vec<_> = (0..4).map(|g| self.holders(g)).collect();
        if self.oracle.opened != opened || before != after {
            self.broke(format!("I17: holders change in a calm network: {before:?}, {after:?}"));
        }
    }

    /// With preemption the best that is fit holds.
    fn check_preferred(&mut self) {
        let config = Arc::clone(&self.files[self.latest()].config);
        for (ix, group) in
            config.groups.iter().enumerate().filter(|(_, g)| g.preempt && g.spread.is_none())
        {
            let [holder] = self.holders(ix)[..] else { continue };
            let rank = |host: usize| {
                let this = &self.hosts[host];
                let status = this.daemon.as_ref()?.node()?.status(this.local(self.now));
                let status = status.groups.iter().find(|g| g.name == group.name)?;
                Some(status.effective_priority)
            };
            let best = (0..self.hosts.len()).filter_map(|h| Some((rank(h)?, h))).max();
            if let (Some(held), Some((best, by))) = (rank(holder), best)
                && held < best
            {
                let names = (self.hosts[holder].name.clone(), self.hosts[by].name.clone());
                self.broke(format!("I18: {} holds {}, {} is better", names.0, group.name, names.1));
            }
        }
    }

    /// Somebody else does hold within that time.
    pub(crate) fn expect_successor(&mut self, of: usize, limit: Real, what: &str) -> Real {
        let since = self.now;
        let other = |w: &World| w.holder().is_some_and(|h| h != of);
        if !self.run_until(limit, other) && !self.broken() {
            self.broke(format!("{what}: nobody else holds within {} ms", limit / MS));
        }
        self.now - since
    }

    pub(crate) fn tell(&mut self, host: usize, event: Event<'_>) {
        self.step(host, event);
        self.plan_wake(host);
    }

    pub(crate) fn longest_turn(&self) -> Duration {
        Duration::from_millis(10 * self.shape.nodes as u64)
    }
}
