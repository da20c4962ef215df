//! Schedules of clusters whose groups need proof that a lost holder serves no more.

use vipd::config::Lease;

use super::host::Arrival;
use super::plan::{MS, Mutant, Random, Real, Shape};
use super::power::Mode;
use super::world::World;

/// Three nodes, one group, one device for each node.
fn strict_three() -> Shape {
    Shape { strict: 1, levels: vec![1], wild: true, ..Shape::three() }
}

/// The cluster of a scene.
pub(crate) fn shape(scene: super::scenes::Scene, random: &mut Random) -> Shape {
    use super::scenes::Scene;
    match scene {
        Scene::Cut => Shape { adverts: random.chance(50), ..strict_three() },
        Scene::Tie => Shape { nodes: 2, ..strict_three() },
        Scene::DeadDevices => Shape { groups: 2, wild: false, ..strict_three() },
        _ => Shape::draw_strict(random),
    }
}

impl World {
    /// Something goes wrong that only a proof helps against, or with what gives proofs.
    pub(crate) fn strict_fault(&mut self) {
        let nodes = self.shape.nodes;
        let holder = self.holder().filter(|_| self.random.chance(60));
        let host = holder.unwrap_or_else(|| self.random.below(nodes));
        self.count.faults += 1;
        match self.random.draw(14) {
            0 | 1 if self.shape.wild => {
                self.pause(host);
                if self.random.chance(70) {
                    let long = self.random.between(50, 3000) * MS;
                    self.later(host, long, Arrival::Resume);
                }
            }
            2 | 3 if self.shape.wild => self.deafen(host),
            4 => {
                let mode = self.random.pick(&[
                    Mode::Slow,
                    Mode::Slow,
                    Mode::Fails,
                    Mode::Hangs,
                    Mode::Stuck,
                ]);
                let device = self.random.below(self.shape.levels.len());
                self.note(host, || format!("its device {device}: {mode:?}"));
                self.grid.outlets[host][device].mode = mode;
            }
            5 => {
                let from = self.random.below(self.hosts.len());
                let device = self.random.below(self.shape.levels.len());
                self.note(host, || format!("its device {device} is not reached from {from}"));
                self.grid.outlets[host][device].unreachable[from] = true;
            }
            6 => self.repair_devices(),
            7 => {
                let soon = self.random.draw(300 * MS);
                let at_work = (0..nodes).find(|v| self.is_at_work(*v)).unwrap_or(host);
                self.later(at_work, soon, Arrival::Button);
            }
            8 => {
                let to = self.random.below(nodes);
                self.order_fence(to, host);
            }
            9 => {
                let off = (0..nodes).find(|h| !self.hosts[*h].powered);
                let to = self.random.below(nodes);
                if let Some(off) = off {
                    self.confirm(to, off);
                }
            }
            10 => {
                let by = self.who_works().unwrap_or(host);
                let remembers = self.random.chance(50);
                self.crash(by, remembers);
            }
            11 => self.isolate(host),
            12 => {
                self.power_off(host);
                if self.random.chance(50) {
                    let back = self.random.between(60, 2500) * MS;
                    self.later(host, back, Arrival::PowerOn);
                }
            }
            _ => self.heal(),
        }
    }

    /// Whether every group is held within that time. Who was switched off by an order of before is
    /// switched on again by an operator, now and then.
    pub(crate) fn held_in_the_end(&mut self, limit: Real) -> bool {
        let (end, gone) = (self.now + limit, self.gone);
        while self.now < end && !self.broken() {
            for host in 0..self.names.len() {
                if gone != Some(host) && !self.is_out(host) {
                    self.button(host);
                }
            }
            if self.run_until(3_000 * MS, Self::all_held) {
                return true;
            }
        }
        false
    }

    /// Everything is repaired but for one host, which stays as it is or gets worse: the others are a
    /// majority, and its devices work. Says whether there is such a host.
    fn leave_one(&mut self) -> bool {
        let enough = self.names.len() >= 3 && self.files.len() == 1 && self.shape.limit > 3;
        let digest = self.files[0].config.digest();
        let seen = self.hosts.iter().all(|h| h.kept.confirmed == Some(digest));
        if !enough || !seen || self.random.chance(50) {
            return false;
        }
        self.calm();
        let nodes = self.shape.nodes;
        let host = self.holder().unwrap_or_else(|| self.random.below(nodes));
        self.gone = Some(host);
        match self.random.draw(4) {
            0 if self.shape.wild => self.pause(host),
            1 if self.shape.wild => self.deafen(host),
            2 => self.isolate(host),
            _ => {
                self.kill(host);
                self.note(host, || "its daemon is gone for good".to_owned());
            }
        }
        true
    }
}

pub(crate) fn night(world: &mut World, kinds: &mut [u64; super::faults::KINDS]) {
    if world.random.chance(80) {
        super::scenes::begin(world);
        // Until everybody has heard a majority for long enough to fence.
        if world.random.chance(80) {
            world.run(3_200 * MS);
        }
    }
    if world.random.chance(20) {
        world.kernel_fails = world.random.draw(15);
    }
    let gap = world.random.pick(&[20, 100, 250, 600]) * MS;
    for _ in 0..world.random.between(3, 14) {
        if world.random.chance(30) {
            kinds[world.fault()] += 1;
        } else {
            world.strict_fault();
        }
        let pause = world.random.draw(gap);
        world.run(pause);
        if world.broken() {
            return;
        }
    }
    if world.leave_one() {
        let since = world.now;
        if !world.held_in_the_end(40_000 * MS) && !world.broken() {
            world.broke("I14: not every group is held while one host is gone".to_owned());
        }
        world.oracle.slowest = world.oracle.slowest.max(world.now - since);
    }
    world.gone = None;
    world.calm();
    world.check_calm();
}

/// From the loss of a holder until another serves, with devices that work: a vote, until the loss is
/// seen, until everybody has said so, the agent.
fn proven(world: &World) -> Real {
    let vote = world.vote();
    3 * vote + vote / u64::from(Lease::DRIFT) * 2 + 600 * MS
}

/// The holder is lost, and may serve for ever for all that is known.
pub(crate) fn cut(world: &mut World) {
    super::scenes::begin(world);
    world.run(3_200 * MS);
    let Some(holder) = world.holder() else { return };
    world.grid.one_at_a_time = true;
    match world.random.draw(3) {
        0 => {
            world.pause(holder);
            let long = world.random.between(300, 2500) * MS;
            world.later(holder, long, Arrival::Resume);
        }
        1 => world.deafen(holder),
        _ => world.isolate(holder),
    }
    world.gone = Some(holder);
    let limit = proven(world);
    let off = world.grid.count.off;
    // One that goes on in time has nothing to prove.
    let back = world.hosts[holder].paused_since.is_none();
    if back || world.mutant != Mutant::None {
        let took = world.expect_successor(holder, limit, "I19");
        world.oracle.slowest = world.oracle.slowest.max(took);
        if world.grid.count.off == off && !world.broken() && world.mutant == Mutant::None {
            world.broke("F7: another serves, and the holder's power was not cut".to_owned());
        }
    }
    world.run(3_000 * MS);
    world.calm();
    world.check_calm();
}

/// Two nodes do not hear each other any more: one of them goes on.
pub(crate) fn tie(world: &mut World) {
    let holder = super::scenes::begin(world);
    let kind = world.random.draw(3);
    match kind {
        0 => world.pause(holder),
        1 => world.deafen(holder),
        _ => world.isolate(holder),
    }
    for _ in 0..300 {
        world.run(10 * MS);
        if (0..2).all(|h| !world.hosts[h].powered) {
            return world.broke("F8: of two nodes both are off".to_owned());
        }
    }
    if kind == 2 && world.holder() != Some(holder) && !world.broken() {
        world.broke("F9: the holder did not survive".to_owned());
    }
    if !world.all_held() && !world.broken() {
        world.broke("I19: of two nodes none serves".to_owned());
    }
    world.calm();
    world.check_calm();
}

/// Nobody reaches any device, and the holder of two groups loses its power: the one that is held by
/// a plain lease is taken over as ever, the other when an operator says that it is off.
pub(crate) fn dead_devices(world: &mut World) {
    let holder = super::scenes::begin(world);
    for outlet in world.grid.outlets.iter_mut().flatten() {
        outlet.mode = Mode::Hangs;
    }
    if world.holders(1) != [holder] {
        return;
    }
    world.power_off(holder);
    let limit = super::scenes::takeover(world);
    let other = |w: &World| w.holders(1).first().is_some_and(|h| *h != holder);
    if !world.run_until(limit, other) && !world.broken() {
        return world.broke("I15: a plain lease waits for a device".to_owned());
    }
    world.run(2_000 * MS);
    if !world.holders(0).is_empty() {
        return world.broke("F7: another serves, and nobody knows the holder to be off".to_owned());
    }
    let to = (holder + 1) % 3;
    if world.confirm(to, holder) && !world.run_until(1_000 * MS, World::all_held) {
        world.broke("I19: a human's word releases nothing".to_owned());
    }
}
