//! Groups that are kept together, or apart.

use vipd::config::Config;
use vipd::core::event::Event;
use vipd::core::will::{About, Order, Text};
use vipd::types::{Priority, VoterIx};

use super::checks;
use super::plan::{MS, Random, Shape, Tied};
use super::scenes::{Scene, begin, takeover};
use super::world::World;

pub(crate) fn shape(scene: Scene, random: &mut Random) -> Shape {
    let drawn = Shape::draw(random);
    let groups = random.pick(&[2, 2, 3]);
    match scene {
        Scene::Together => Shape { groups, tied: Tied::Together, ..drawn },
        Scene::Apart => Shape { groups, tied: Tied::Apart, preempt: true, ..drawn },
        Scene::Room => Shape { groups: 2, tied: Tied::Apart, preempt: true, ..Shape::three() },
        Scene::Spare => {
            Shape { groups: 2, tied: Tied::Alike, preempt: true, checks: true, ..Shape::three() }
        }
        _ => Shape {
            groups,
            tied: Tied::Together,
            checks: true,
            nodes: random.pick(&[3, 3, 5]),
            adverts: random.chance(50),
            ..Shape::three()
        },
    }
}

/// Says in a file what belongs together, as `vipctl check` demands it.
pub(crate) fn tie(config: &mut Config, tied: Tied) {
    let first = config.groups[0].clone();
    for group in &mut config.groups {
        match tied {
            Tied::Not => {}
            Tied::Together => {
                group.sync = Some("one".to_owned());
                (group.preempt, group.priorities) = (first.preempt, first.priorities.clone());
            }
            Tied::Apart | Tied::Alike => {
                (group.spread, group.preempt) = (Some("each".to_owned()), true);
                if tied == Tied::Alike {
                    group.priorities.fill(Priority::DEFAULT);
                }
            }
        }
    }
}

impl World {
    fn all_holders(&self) -> Vec<Vec<usize>> {
        let groups = self.files[self.latest()].config.groups.len();
        (0..groups).map(|g| self.holders(g)).collect()
    }

    fn are_together(&self) -> bool {
        let all = self.all_holders();
        all.iter().all(|holders| holders.len() == 1 && *holders == all[0])
    }

    fn are_apart(&self) -> bool {
        let mut all = self.all_holders();
        let nodes = self.files[self.latest()].config.nodes.len();
        let enough = nodes.min(all.len());
        let held = all.iter().all(|holders| holders.len() == 1);
        all.sort();
        all.dedup();
        held && all.len() == enough
    }

    /// An operator forgets how often the night ended proxies: such a host is kept away from for
    /// minutes, and the groups share a better one.
    fn clean_up(&mut self) {
        let about = About::cleanup(None, None);
        let (by, why) = (Text::new("sim"), Text::new(""));
        let order = Order { about, on: true, left: None, at: 0, by, why };
        self.tell(0, Event::Will(order));
    }

    /// After calm, and once nothing moves any more.
    pub(crate) fn check_ties(&mut self) {
        if self.shape.tied == Tied::Apart && !self.broken() {
            self.clean_up();
            // A host whose kernel refused an address counts as unfit for a while.
            self.run_until(40_000 * MS, Self::are_apart);
        }
        let good = match self.shape.tied {
            Tied::Not => true,
            Tied::Together => self.are_together(),
            Tied::Apart | Tied::Alike => self.are_apart(),
        };
        if !good && !self.broken() {
            let (tied, all) = (self.shape.tied, self.all_holders());
            self.broke(format!("I19: {tied:?} in the file, and held by {all:?}"));
        }
    }
}

/// What one of the groups needs is gone from the host that holds all of them.
pub(crate) fn one_fails(world: &mut World) {
    checks::alone(world);
    world.check_ties();
}

/// One of them is moved, or its holder dies.
pub(crate) fn follow(world: &mut World) {
    let holder = begin(world);
    world.run_until(2000 * MS, World::are_together);
    world.check_ties();
    let opened = world.oracle.opened;
    let groups = world.files[world.latest()].config.groups.len();
    if world.random.chance(50) {
        let to = (holder + 1) % world.hosts.len();
        let name = format!("g{}", world.random.below(groups));
        let ix = VoterIx(u8::try_from(to).unwrap());
        world.tell(holder, Event::Move(name.into(), ix));
        let there = |w: &World| w.holder() == Some(to) && w.are_together();
        if !world.run_until(30 * MS, there) && !world.broken() {
            world.broke(format!("they were not moved together: {:?}", world.all_holders()));
        }
    } else {
        world.power_off(holder);
        let limit = takeover(world);
        let there = |w: &World| w.holder() != Some(holder) && w.are_together();
        if !world.run_until(limit, there) && !world.broken() {
            world.broke(format!("they were not taken together: {:?}", world.all_holders()));
        }
    }
    world.run(1500 * MS);
    world.check_ties();
    if world.oracle.opened != opened + groups as u64 && !world.broken() {
        world.broke("they moved more than once".to_owned());
    }
}

/// A host that holds one of two dies: the survivors take it, and it takes one again.
pub(crate) fn room(world: &mut World) {
    begin(world);
    if !world.run_until(3000 * MS, World::are_apart) && !world.broken() {
        world.broke(format!("not apart: {:?}", world.all_holders()));
    }
    let opened = world.oracle.opened;
    world.run(1000 * MS);
    let holder = world.holder().unwrap_or(0);
    for other in (0..world.hosts.len()).filter(|_| world.random.chance(30)).collect::<Vec<_>>() {
        if other != holder && world.holders(1) != [other] {
            world.power_off(other);
            break;
        }
    }
    world.run(500 * MS);
    if world.oracle.opened != opened && !world.broken() {
        world.broke("they move though they are apart".to_owned());
    }
    world.power_off(holder);
    world.run(2000 * MS);
    world.calm();
    world.check_calm();
    world.check_ties();
}

/// A host that holds one of two cannot serve: that one goes to the host that has none, at once and
/// whoever of the two others sees first that it can serve itself.
pub(crate) fn spare(world: &mut World) {
    begin(world);
    world.run_until(3000 * MS, World::are_apart);
    world.run(3000 * MS);
    world.check_ties();
    let opened = world.oracle.opened;
    let holders = world.all_holders().concat();
    let ill = world.shape.groups - 1;
    let spare = (0..3).find(|host| !holders.contains(host));
    world.set_ill(holders[ill], true);
    let there = |w: &World| w.holders(ill).first().copied() == spare;
    if !world.run_until(checks::notice() + 50 * MS, there) && !world.broken() {
        world.broke(format!("not with the one that has none: {:?}", world.all_holders()));
    }
    world.run(3000 * MS);
    world.check_ties();
    if world.oracle.opened != opened + 1 && !world.broken() {
        world.broke("it went by way of the other, or that one moved as well".to_owned());
    }
}
