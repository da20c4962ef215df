//! A deterministic simulator: the shipped core of several hosts on a network that loses, delays
//! and cuts, above kernels that answer late. A seed is a bad night; it replays exactly.
//!
//! After every step the invariants must hold; after calm the promises must. What each is worth is
//! the mutant it kills:
//!
//! | mutant of the core | killed by |
//! |---|---|
//! | priority 0 sent before the addresses are gone | `World::check_advert` |
//! | an unfit holder is left alone | `a_fit_host_does_not_wait_for_an_unfit_holder` |
//! | no release when yielding to a better router | calm: one holder |
//! | priority 0 ignored | `a_graceful_stop_hands_over_at_once` |
//! | tie-break inverted | calm: one holder, equal priorities |
//! | tick ignores the deadline | `World::check` |
//! | down timer touched by a lower priority with preemption | `the_best_preempts_when_told_to` |
//! | no last advert of the loser, no probe of peers | `clients_follow_after_a_partition` |
//! | retries without a pause | `World::check`: too many requests |

#![allow(clippy::unwrap_used, reason = "what the simulator draws fits, and a test may panic")]

mod lease;
mod ties;
mod world;

use std::time::Duration;

use world::{Cluster, Fault, World};

/// How many nights a test goes through: `VIPD_SEEDS`, or few enough for every day.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("VIPD_SEEDS").ok().and_then(|n| n.parse().ok());
    0..asked.unwrap_or(150)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Loss, cuts, stalls, deleted addresses and restarts for a minute, then calm.
#[test]
fn a_bad_night_heals() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster::three());
        world.run(seconds(5));
        for _ in 0..20 {
            let fault = world.draw_fault();
            world.inject(fault);
            world.run_random(seconds(4));
        }
        world.calm();
        world.run(seconds(8));
        world.assert_one_holder();
        let moves = world.moves();
        world.run(seconds(60));
        assert_eq!(world.moves(), moves, "seed {seed}: a calm network does not flap");
        world.assert_clients_follow();
    }
}

#[test]
fn a_power_loss_costs_a_down_interval() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster::three());
        world.run(seconds(3));
        let holder = world.holder().expect("a holder after three seconds");
        world.run_random(seconds(1));
        world.inject(Fault::PowerLoss(holder));
        let gone = world.now;
        world.run_until(seconds(1), |w| w.holder().is_some_and(|h| h != holder));
        let took = world.now.since(gone);
        // Three intervals and the skew of the best backup, and the kernel's own time.
        assert!(took <= Duration::from_millis(360), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_graceful_stop_hands_over_at_once() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster::three());
        world.run(seconds(3));
        let holder = world.holder().expect("a holder");
        world.run_random(seconds(1));
        world.inject(Fault::Stop(holder));
        let asked = world.now;
        world.run_until(seconds(1), |w| w.holder().is_some_and(|h| h != holder));
        let took = world.now.since(asked);
        assert!(took <= Duration::from_millis(75), "seed {seed}: {took:?} is more than a skew");
        assert_eq!(world.both_held, Duration::ZERO, "seed {seed}: never two holders");
    }
}

/// The holder is the better router and never hears of the other side's: it must find out that
/// clients there follow somebody else.
#[test]
fn clients_follow_after_a_partition() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster::three());
        world.run(seconds(3));
        let holder = world.holder().expect("a holder");
        world.inject(Fault::Isolate(holder));
        world.run_random(seconds(5));
        world.run(seconds(1));
        world.calm();
        world.run_until(seconds(1), World::advert_crossed);
        world.run(Duration::from_millis(50));
        world.assert_one_holder();
        world.assert_clients_follow();
    }
}

#[test]
fn the_best_preempts_when_told_to_and_not_before() {
    for (preempt, delay, wait, expect) in [
        (false, 0, 30, "hap2"),
        (true, 0, 2, "hap1"),
        (true, 10, 8, "hap2"),
        (true, 10, 13, "hap1"),
    ] {
        let cluster = Cluster { preempt, preempt_delay: seconds(delay), ..Cluster::three() };
        let mut world = World::new(7, cluster);
        world.run(seconds(3));
        world.inject(Fault::PowerLoss(0));
        world.run(seconds(2));
        assert_eq!(world.holder(), Some(1));
        world.inject(Fault::PowerOn(0));
        world.run(seconds(wait));
        let holder = world.holder().map(World::name);
        assert_eq!(holder, Some(expect.to_owned()), "preempt {preempt}, delay {delay} s");
    }
}

#[test]
fn equal_priorities_settle_on_the_higher_address() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster { priorities: [100; 3], ..Cluster::three() });
        world.run(seconds(5));
        world.assert_one_holder();
        world.inject(Fault::Isolate(0));
        world.run(seconds(3));
        world.calm();
        world.run(seconds(2));
        world.assert_one_holder();
    }
}

/// A daemon that was not run for seconds hears what was queued before it believes its timer.
#[test]
fn a_stalled_backup_does_not_take_over() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster::three());
        world.run(seconds(3));
        let holder = world.holder().expect("a holder");
        let backup = (holder + 1) % 3;
        world.inject(Fault::Stall(backup, seconds(4)));
        world.run(seconds(10));
        assert_eq!(world.holder(), Some(holder), "seed {seed}");
        assert_eq!(world.both_held, Duration::ZERO, "seed {seed}: never two holders");
    }
}

#[test]
fn a_deleted_address_comes_back_alone() {
    for seed in seeds() {
        let mut world = World::new(seed, Cluster::three());
        world.run(seconds(3));
        let holder = world.holder().expect("a holder");
        let moves = world.moves();
        world.inject(Fault::Delete(holder, 1));
        let gone = world.now;
        world.run_until(seconds(1), |w| w.has(holder, 1));
        assert!(world.now.since(gone) < Duration::from_millis(50), "seed {seed}");
        world.run(seconds(1));
        assert_eq!(world.moves(), moves, "seed {seed}: no role change");
        assert!(world.noted("address-restored"), "seed {seed}: and a reason");
    }
}

#[test]
fn an_address_that_is_deleted_again_and_again_moves_to_another_host() {
    let mut world = World::new(3, Cluster::three());
    world.run(seconds(3));
    let holder = world.holder().expect("a holder");
    for _ in 0..30 {
        if world.holder() != Some(holder) {
            break;
        }
        world.inject(Fault::Delete(holder, 0));
        world.run(Duration::from_millis(200));
    }
    world.run(seconds(1));
    assert!(world.noted("address-contended"));
    assert_ne!(world.holder(), Some(holder), "a host that can keep it has it");
    world.assert_one_holder();
}

#[test]
fn a_proxy_that_keeps_dying_makes_the_host_yield() {
    for seed in 0..20 {
        let mut world = World::new(seed, Cluster { proxy: true, ..Cluster::three() });
        world.run(seconds(3));
        let holder = world.holder().expect("a holder");
        world.inject(Fault::BreakProxy(holder));
        world.run(seconds(10));
        assert_ne!(world.holder(), Some(holder), "seed {seed}");
        assert!(world.noted("proxy-died"), "seed {seed}");
        world.assert_one_holder();
    }
}

/// The Backup that comes back is fit, the holder is not: it takes over without preemption.
#[test]
fn a_fit_host_does_not_wait_for_an_unfit_holder() {
    for seed in 0..20 {
        let mut world = World::new(seed, Cluster { proxy: true, ..Cluster::three() });
        world.run(seconds(3));
        world.inject(Fault::PowerLoss(1));
        world.inject(Fault::PowerLoss(2));
        world.run(seconds(1));
        world.inject(Fault::BreakProxy(0));
        world.run(seconds(20));
        world.inject(Fault::PowerOn(1));
        world.run(seconds(1));
        assert_eq!(world.holder(), Some(1), "seed {seed}");
    }
}

/// For reasons of health the addresses are never given up to nobody.
#[test]
fn the_last_host_keeps_the_addresses_whatever_its_proxy_does() {
    let mut world = World::new(1, Cluster { proxy: true, ..Cluster::three() });
    world.run(seconds(3));
    for host in 0..3 {
        world.inject(Fault::BreakProxy(host));
    }
    world.run(seconds(120));
    let before = world.held;
    world.run(seconds(100));
    let share = world.held.saturating_sub(before).as_secs_f64() / 100.0;
    assert!(share > 0.9, "held {share:.2} of the time");
}

#[test]
fn both_families_share_one_fate() {
    for seed in 0..50 {
        let mut world = World::new(seed, Cluster { ipv6: true, ..Cluster::three() });
        world.run(seconds(3));
        world.assert_one_holder();
        let holder = world.holder().expect("a holder");
        world.inject(Fault::PowerLoss(holder));
        world.run(seconds(1));
        world.assert_one_holder();
        assert_ne!(world.holder(), Some(holder));
    }
}

#[test]
fn thousands_of_addresses_delay_no_advert() {
    let mut world = World::new(5, Cluster { extra_addresses: 3000, ..Cluster::three() });
    world.run(seconds(10));
    world.assert_one_holder();
    let holder = world.holder().expect("a holder");
    assert!(world.longest_silence(holder) <= Duration::from_millis(101), "adverts kept their beat");
    assert_eq!(world.count(holder), 3002);
}
