//! What happens in a schedule: a night of everything at random, and single events with a promise.

use std::sync::Arc;

use vipd::config::Lease;
use vipd::core::event::Event;
use vipd::types::VoterIx;

use super::checks;
use super::faults::KINDS;
use super::fences;
use super::host::Arrival;
use super::plan::{MS, Mutant, Random, Real, Shape, nanos, successor};
use super::ties;
use super::world::World;

/// A kind of schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Anything.
    Night,
    /// The holder's power is lost.
    Crash,
    /// The holder is cut off, or frozen.
    Silence,
    /// The holder is told to stop.
    Stop,
    /// The holder's daemon is replaced by another run.
    Restart,
    /// An operator moves a group.
    Move,
    /// A host is started anew elsewhere, though the first still runs where nobody hears it.
    Clone,
    /// A host exists twice, and both are heard.
    Twins,
    /// Files are rolled out while hosts fail.
    RollOut,
    /// The machine of the holder stands still, with its clock.
    Pause,
    /// Voters lose their memory, again and again.
    Amnesia,
    /// Anything, where groups need proof.
    Strict,
    /// The holder of such a group is lost.
    Cut,
    /// One of two nodes is.
    Tie,
    /// The same, and no device can be reached.
    DeadDevices,
    /// All hosts fail the same check.
    Common,
    /// Only the holder does.
    Alone,
    /// Anything, where groups are kept together.
    Together,
    /// One of such groups cannot be served.
    OneFails,
    /// One of them is moved, or their holder dies.
    Follow,
    /// All hosts fail the check of one of them.
    CommonOne,
    /// Anything, where groups are kept apart.
    Apart,
    /// A host with one of those dies, and comes back.
    Room,
    /// It cannot serve, and there is another that has none.
    Spare,
}

/// Those that promise something; the others are controls.
pub(crate) const SOUND: [Scene; 22] = [
    Scene::Night,
    Scene::Crash,
    Scene::Silence,
    Scene::Stop,
    Scene::Restart,
    Scene::Move,
    Scene::Clone,
    Scene::RollOut,
    Scene::Amnesia,
    Scene::Strict,
    Scene::Cut,
    Scene::Tie,
    Scene::DeadDevices,
    Scene::Common,
    Scene::Alone,
    Scene::Together,
    Scene::OneFails,
    Scene::Follow,
    Scene::CommonOne,
    Scene::Apart,
    Scene::Room,
    Scene::Spare,
];

/// What became of a schedule.
pub(crate) struct Outcome {
    pub(crate) world: World,
    pub(crate) kinds: [u64; KINDS],
}

/// Plays a schedule.
pub(crate) fn play(scene: Scene, seed: u64, mutant: Mutant, traced: bool) -> Outcome {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut shape = match scene {
        Scene::Night | Scene::RollOut | Scene::Clone | Scene::Amnesia => Shape::draw(&mut random),
        Scene::Strict | Scene::Cut | Scene::Tie | Scene::DeadDevices => {
            fences::shape(scene, &mut random)
        }
        Scene::Common | Scene::Alone => Shape {
            nodes: random.pick(&[3, 3, 5]),
            groups: random.pick(&[1, 1, 3]),
            checks: true,
            ..Shape::three()
        },
        Scene::Together
        | Scene::OneFails
        | Scene::Follow
        | Scene::CommonOne
        | Scene::Apart
        | Scene::Room
        | Scene::Spare => ties::shape(scene, &mut random),
        _ => Shape { adverts: random.chance(50), ..Shape::three() },
    };
    if scene == Scene::RollOut {
        shape.groups = shape.groups.max(2);
    }
    if !matches!(scene, Scene::Night | Scene::Together | Scene::Apart) && shape.nodes < 2 {
        shape.nodes = 3;
    }
    let mut world = World::new(seed, shape, mutant, traced);
    let about = world.shape.clone();
    world.note(usize::MAX, || format!("{about:?}"));
    let mut kinds = [0; KINDS];
    match scene {
        Scene::Night | Scene::Together | Scene::Apart => night(&mut world, &mut kinds),
        Scene::OneFails => ties::one_fails(&mut world),
        Scene::Follow => ties::follow(&mut world),
        Scene::Room => ties::room(&mut world),
        Scene::Spare => ties::spare(&mut world),
        Scene::Crash => crash(&mut world),
        Scene::Silence => silence(&mut world),
        Scene::Stop => stop(&mut world),
        Scene::Restart => restart(&mut world),
        Scene::Move => moved(&mut world),
        Scene::Clone => cloned(&mut world),
        Scene::Twins => twins(&mut world),
        Scene::RollOut => rolled_out(&mut world),
        Scene::Pause => paused(&mut world),
        Scene::Amnesia => amnesia(&mut world),
        Scene::Strict => fences::night(&mut world, &mut kinds),
        Scene::Cut => fences::cut(&mut world),
        Scene::Tie => fences::tie(&mut world),
        Scene::DeadDevices => fences::dead_devices(&mut world),
        Scene::Common | Scene::CommonOne => checks::common(&mut world),
        Scene::Alone => checks::alone(&mut world),
    }
    Outcome { world, kinds }
}

/// Until everybody holds what there is to hold, and then to some moment.
pub(crate) fn begin(world: &mut World) -> usize {
    let settled = 1500 * MS + 3 * world.vote();
    if !world.run_until(settled, World::all_held) && !world.broken() {
        world.broke("I14: not held after the start".to_owned());
    }
    // By then everybody votes for who holds.
    let moment = world.random.between(200, 500) * MS;
    world.run(moment);
    world.holder().unwrap_or(0)
}

fn night(world: &mut World, kinds: &mut [u64; KINDS]) {
    if world.random.chance(70) {
        begin(world);
    }
    if world.random.chance(30) {
        world.kernel_fails = world.random.draw(15);
    }
    let gap = world.random.pick(&[20, 100, 250]) * MS;
    for _ in 0..world.random.between(3, 14) {
        kinds[world.fault()] += 1;
        let pause = world.random.draw(gap);
        world.run(pause);
        if world.broken() {
            return;
        }
    }
    world.calm();
    world.check_calm();
    world.check_ties();
}

/// A vote, by the slowest clock, then one turn for each that is better and cannot.
pub(crate) fn takeover(world: &World) -> Real {
    let vote = world.vote();
    vote + vote / u64::from(Lease::DRIFT) * 2 + 4 * MS + nanos(world.longest_turn())
}

fn crash(world: &mut World) {
    let holder = begin(world);
    world.power_off(holder);
    let limit = takeover(world);
    world.expect_successor(holder, limit, "I15");
    world.run(100 * MS);
}

fn silence(world: &mut World) {
    let holder = begin(world);
    if world.random.chance(50) {
        world.freeze(holder, 2000 * MS);
    } else {
        world.isolate(holder);
    }
    let limit = takeover(world);
    world.expect_successor(holder, limit, "I15");
    world.run(500 * MS);
    world.calm();
    world.check_calm();
}

fn stop(world: &mut World) {
    let holder = begin(world);
    world.tell(holder, Event::Stop);
    // Where the successor's request overtakes the holder's word, it asks again.
    world.expect_successor(holder, 12 * MS, "an orderly stop");
    world.run(100 * MS);
}

/// The kernel serves all the time, and nobody else takes over.
fn restart(world: &mut World) {
    let holder = begin(world);
    let opened = world.oracle.opened;
    if world.random.chance(50) {
        world.tell(holder, Event::Leave);
    } else {
        world.kill(holder);
    }
    let soon = world.random.draw(40 * MS);
    world.later(holder, soon, Arrival::Start);
    let gone = world.run_until(1500 * MS, |w| w.holder() != Some(holder));
    if gone || world.oracle.opened != opened {
        world.broke("a restarted daemon lost what it held".to_owned());
    }
}

fn moved(world: &mut World) {
    let holder = begin(world);
    let to = (holder + 1) % world.hosts.len();
    let ix = VoterIx(u8::try_from(to).unwrap());
    world.tell(holder, Event::Move("g0".into(), ix));
    if !world.run_until(20 * MS, |w| w.holder() == Some(to)) {
        world.broke("the group was not moved".to_owned());
    }
    let opened = world.oracle.opened;
    world.run(800 * MS);
    if world.holder() != Some(to) || world.oracle.opened != opened {
        world.broke("the group did not stay where it was moved".to_owned());
    }
}

/// A host is where nobody hears it, and somebody starts another of its name. That one is shut off
/// before the first comes back.
fn cloned(world: &mut World) {
    let holder = begin(world);
    let of = if world.random.chance(70) { holder } else { world.random.below(world.hosts.len()) };
    world.isolate(of);
    world.clone_of(of);
    for _ in 0..world.random.draw(5) {
        let pause = world.random.draw(250 * MS);
        world.run(pause);
        let host = world.random.below(world.hosts.len());
        match world.random.draw(3) {
            0 => world.crash(host, true),
            1 => world.crash(host, false),
            _ => world.move_order(host),
        }
    }
    world.run(700 * MS);
    world.power_off(world.hosts.len() - 1);
    let vote = 2 * world.vote();
    world.run(vote);
    world.calm();
    world.check_calm();
}

/// A voter that exists twice votes twice: each half of a cut network has a majority.
fn twins(world: &mut World) {
    begin(world);
    let of = world.random.below(world.hosts.len());
    world.clone_of(of);
    for _ in 0..6 {
        let host = world.random.below(world.hosts.len());
        if world.random.chance(50) {
            world.isolate(host);
        } else {
            world.heal();
        }
        world.run(400 * MS);
    }
}

fn rolled_out(world: &mut World) {
    begin(world);
    for _ in 0..world.random.between(1, 3) {
        let old = Arc::clone(&world.files[world.latest()].config);
        let config = successor(&old, &mut world.random);
        let percent = world.random.pick(&[60, 100, 100]);
        world.roll_out(config, percent);
        for _ in 0..world.random.draw(4) {
            let pause = world.random.draw(150 * MS);
            world.run(pause);
            let host = world.random.below(world.hosts.len());
            match world.random.draw(8) {
                0 | 1 => world.crash(host, true),
                2 => world.crash(host, false),
                3 => world.isolate(host),
                4 => world.heal(),
                5 => {
                    let long = world.random.between(1, 300) * MS;
                    world.freeze(host, long);
                }
                6 => {
                    world.power_off(host);
                    world.later(host, 70 * MS, Arrival::PowerOn);
                }
                _ => {
                    let long = world.random.between(1, 200) * MS;
                    world.hosts[host].cut_short = Some((world.random.below(4), long));
                }
            }
        }
        let pause = world.random.draw(500 * MS);
        world.run(pause);
    }
    world.calm();
    world.check_calm();
}

fn paused(world: &mut World) {
    let holder = begin(world);
    world.pause(holder);
    let long = world.random.between(300, 2000) * MS;
    world.run(long);
    world.resume(holder);
    world.run(300 * MS);
}

/// Voters forget, and are started again while they are still quiet.
fn amnesia(world: &mut World) {
    begin(world);
    for _ in 0..world.random.between(2, 8) {
        let host = world.random.below(world.hosts.len());
        match world.random.draw(5) {
            0 | 1 => world.crash(host, false),
            2 => world.crash(host, true),
            3 => world.isolate(host),
            _ => world.heal(),
        }
        let pause = world.random.draw(100 * MS);
        world.run(pause);
    }
    world.calm();
    world.check_calm();
}
