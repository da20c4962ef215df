//! Groups that are kept together, or apart, without a lease: what one of them needs comes and goes.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::world::{Cluster, Fault, Tied, World};
use super::{seconds, seeds};

/// What the second group needs.
pub(crate) const CHECK: &str = "storage";
/// An address of either group.
const EACH: [usize; 2] = [0, 2];

/// The second group, which ties the first as well.
pub(crate) fn second(tied: Tied, preempt: bool) -> String {
    let key = match tied {
        Tied::Together => "sync",
        Tied::Apart => "spread",
    };
    let mut text = format!("{key} = \"pair\"\n");
    let _ = write!(
        text,
        "[[group]]\nname = \"h\"\nsafety = \"vrrp\"\nvrid = 8\naddresses = [\"10.0.0.102/32\"]\n\
         preempt = {preempt}\n{key} = \"pair\"\n\
         [[check]]\nname = \"{CHECK}\"\ntcp = \"10.0.9.9:3260\"\ninterval = \"100ms\"\n\
         timeout = \"50ms\"\ngroups = [\"h\"]\n"
    );
    text
}

/// Which group an address is of.
pub(crate) fn group_of(ip: IpAddr) -> u16 {
    u16::from(ip == IpAddr::from([10, 0, 0, 102]))
}

fn tied(seed: u64, tied: Tied, preempt: bool) -> World {
    World::new(seed, Cluster { tied: Some(tied), preempt, ..Cluster::three() })
}

/// Both groups are at one host each, that is the same, or is not.
fn settled(world: &World, tied: Tied) -> Option<[usize; 2]> {
    let [a, b] = EACH.map(|address| world.holders_of(address));
    let ([a], [b]) = (&*a, &*b) else { return None };
    ((a == b) == (tied == Tied::Together)).then_some([*a, *b])
}

fn assert_settled(world: &World, how: Tied) -> [usize; 2] {
    settled(world, how).unwrap_or_else(|| {
        let all = EACH.map(|address| world.holders_of(address));
        panic!("seed {}: {how:?}, and held by {all:?} at {:?}", world.seed, world.now)
    })
}

/// A minute of everything, checks that fail and pass among it; then calm.
fn night(how: Tied, preempt: bool) {
    // Each is two minutes long, of two groups.
    for seed in seeds().step_by(6) {
        let mut world = tied(seed, how, preempt);
        world.run(seconds(5));
        for _ in 0..20 {
            let host = usize::try_from(world.draw(3)).unwrap();
            let fault = match world.draw(6) {
                0 => Fault::Lack(host),
                1 => Fault::Find(host),
                _ => world.draw_fault(),
            };
            world.inject(fault);
            world.run_random(seconds(4));
        }
        world.calm();
        // A host whose health comes and goes is kept away from for a while, as everybody can see.
        world.run(seconds(60));
        assert_settled(&world, how);
        let moves = world.moves();
        world.run(seconds(60));
        assert_settled(&world, how);
        assert_eq!(world.moves(), moves, "seed {seed}: a calm network does not flap");
    }
}

#[test]
fn a_sync_is_at_one_router_after_a_bad_night() {
    night(Tied::Together, false);
    night(Tied::Together, true);
}

#[test]
fn a_spread_is_at_several_routers_after_a_bad_night() {
    night(Tied::Apart, true);
}

/// One of them is enough, they move once, and none goes back by itself.
#[test]
fn what_one_group_of_a_sync_lacks_moves_all() {
    for seed in seeds() {
        let mut world = tied(seed, Tied::Together, false);
        world.run(seconds(3));
        let [holder, _] = assert_settled(&world, Tied::Together);
        let moves = world.moves();
        world.run_random(seconds(1));
        world.inject(Fault::Lack(holder));
        world.run_until(seconds(1), |w| {
            settled(w, Tied::Together).is_some_and(|[new, _]| new != holder)
        });
        world.run(seconds(5));
        assert_eq!(world.moves(), moves + 2, "seed {seed}: each moves once");
        world.inject(Fault::Find(holder));
        world.run(seconds(300));
        assert_eq!(world.moves(), moves + 2, "seed {seed}: and not back");
    }
}

/// Where it is gone everywhere nothing moves, in whatever order it goes and comes.
#[test]
fn what_every_host_lacks_moves_no_group_of_a_sync() {
    for seed in seeds() {
        let mut world = tied(seed, Tied::Together, seed % 2 == 0);
        world.run(seconds(3));
        let [holder, _] = assert_settled(&world, Tied::Together);
        let moves = world.moves();
        for fault in [Fault::Lack, Fault::Find] {
            let first = usize::try_from(world.draw(3)).unwrap();
            let hosts = (0..3).map(|n| (first + n) % 3);
            // Who has them is the last to lack it, and the first to have it again.
            let mut hosts: Vec<_> = hosts.collect();
            hosts.sort_by_key(|h| (*h == holder) == matches!(fault(0), Fault::Lack(_)));
            for host in hosts {
                world.inject(fault(host));
                world.run(Duration::from_millis(500));
            }
            world.run(seconds(10));
        }
        assert_eq!(world.moves(), moves, "seed {seed}");
        assert_settled(&world, Tied::Together);
    }
}

/// The group that lacks something ends at the host that has none of them, by way of the other one
/// at most; and that keeps its own.
#[test]
fn what_a_group_of_a_spread_lacks_moves_it_to_a_host_that_has_none() {
    for seed in seeds() {
        let mut world = tied(seed, Tied::Apart, true);
        world.run(seconds(10));
        let [first, second] = assert_settled(&world, Tied::Apart);
        let moves = world.moves();
        world.run_random(seconds(1));
        world.inject(Fault::Lack(second));
        let third = 3 - first - second;
        world.run_until(seconds(2), |w| settled(w, Tied::Apart) == Some([first, third]));
        world.run(seconds(5));
        assert_eq!(assert_settled(&world, Tied::Apart), [first, third], "seed {seed}: it stays");
        assert!(world.moves() <= moves + 2, "seed {seed}: {} moves", world.moves() - moves);
    }
}
