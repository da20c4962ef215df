//! Timers and the state machine: RFC 9568 §6.

use std::time::Duration;

use vipd::core::check::Checked;
use vipd::core::event::Event;
use vipd::core::status::Role;
use vipd::types::Priority;

use super::rig::*;

const PREEMPT: &str = "preempt = true";

/// A node that owns its addresses.
fn owner(lines: &str) -> Rig {
    let mut config = parse(&file(lines));
    config.groups[0].priorities[0] = Priority::OWNER;
    Rig::of(config)
}

// ---- timers ----

/// (256 - 100) × 100 ms / 256, to the nanosecond; and of the extremes.
#[test]
fn row_54_skew_follows_the_priority() {
    for (own, nanos) in [(1_u8, 99_609_375_u64), (100, 60_937_500), (254, 781_250)] {
        let mut config = parse(&file(""));
        config.groups[0].priorities[0] = Priority(own);
        let mut rig = Rig::of(config);
        rig.hear(&Packet::v3(HIGHER, 254));
        rig.hear(&Packet::v3(HIGHER, 0));
        assert_eq!(rig.until_active(), Duration::from_nanos(nanos), "priority {own}");
    }
}

#[test]
fn row_55_down_interval_is_three_intervals_and_the_skew() {
    let mut rig = Rig::new("");
    rig.wait(ms(200));
    rig.hear(&Packet::v3(HIGHER, 200));
    assert_eq!(rig.until_active(), DOWN);
    assert_eq!(DOWN, 3 * INTERVAL + SKEW);
}

/// Version 2 skews by 156/256 of a second, whatever the interval.
#[test]
fn row_56_version_2_skews_by_a_part_of_a_second() {
    let mut rig = Rig::new("version = 2\ninterval = \"3s\"");
    rig.hear(&Packet::v2(HIGHER, 200).but(|p| p.word = 3));
    assert_eq!(rig.until_active(), Duration::from_nanos(9_609_375_000));
    let mut rig = Rig::new("version = 2\ninterval = \"3s\"");
    rig.hear(&Packet::v2(HIGHER, 200).but(|p| p.word = 3));
    rig.hear(&Packet::v2(HIGHER, 0).but(|p| p.word = 3));
    assert_eq!(rig.until_active(), Duration::from_nanos(609_375_000));
}

/// In whole centiseconds every skew would be zero here, and two backups would fire together.
#[test]
fn row_57_skews_differ_at_the_shortest_interval() {
    let mut took = Vec::new();
    for own in [253, 254] {
        let mut config = parse(&file("interval = \"10ms\""));
        config.groups[0].priorities[0] = Priority(own);
        let mut rig = Rig::of(config);
        rig.hear(&Packet::v3(HIGHER, 254).but(|p| p.word = 1));
        took.push(rig.until_active());
    }
    assert_eq!(took, [Duration::from_nanos(30_117_187), Duration::from_nanos(30_078_125)]);
}

#[test]
fn row_58_the_own_interval_counts_until_another_is_learned() {
    let mut rig = Rig::new("interval = \"500ms\"");
    assert_eq!(rig.learned_ms(V4), 500);
    assert_eq!(rig.until_active(), 5 * DOWN);
}

#[test]
fn row_59_the_interval_is_learned_from_each_accepted_advert() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.word = 50));
    assert_eq!(rig.learned_ms(V4), 500);
    assert_eq!(rig.until_active(), 5 * DOWN);
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.word = 50));
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.word = 4));
    assert_eq!(rig.until_active(), Duration::from_nanos(144_375_000));
}

#[test]
fn row_59_nothing_is_learned_from_a_rejected_advert() {
    let mut rig = Rig::new(PREEMPT);
    rig.hear(&Packet::v3(HIGHER, 200));
    let due = rig.node.deadline();
    rig.wait(ms(20));
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| (p.word, p.sum) = (50, Sum::Wrong)));
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| (p.word, p.hops) = (50, 254)));
    // Valid, but discarded by the state machine (row 69).
    rig.hear(&Packet::v3(HIGHER, 99).but(|p| p.word = 50));
    assert_eq!((rig.learned_ms(V4), rig.node.deadline()), (100, due));
}

/// Whatever was learned as Backup, an Active router keeps its own beat and says so.
#[test]
fn row_60_an_active_router_uses_its_own_interval() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200).but(|p| p.word = 50));
    rig.until_active();
    let first = rig.packets(V4);
    assert_eq!(first[0].bytes[4..6], [0, 10]);
    rig.wait(ms(1000));
    assert_eq!(rig.adverts(V4).len(), 10);
}

/// The one timer is a moment of the boot clock: a tick before it changes nothing.
#[test]
fn row_62_an_early_tick_does_nothing() {
    let mut rig = Rig::new("");
    let due = rig.node.deadline().unwrap();
    rig.now = vipd::types::Instant::from_nanos(due.nanos() - 1);
    rig.step(Event::Tick);
    assert_eq!((rig.role(), rig.node.deadline()), (Role::Backup, Some(due)));
    rig.now = due;
    rig.step(Event::Tick);
    assert_eq!(rig.role(), Role::Active);
}

#[test]
fn row_61_a_daemon_that_was_not_run_says_so() {
    let mut rig = Rig::active("");
    assert!(!rig.is("stalled"));
    rig.now += ms(450);
    rig.step(Event::Tick);
    assert!(rig.is("stalled"));
}

// ---- Initialize ----

#[test]
fn row_63_the_owner_is_active_at_once() {
    let mut rig = owner("");
    assert_eq!(rig.role(), Role::Active);
    let deeds = rig.deeds();
    let [Did::Advert { priority: 255, .. }, Did::Add(vip), Did::Announce(announced)] = &deeds[..]
    else {
        panic!("{deeds:?}")
    };
    assert_eq!((*vip, *announced), (ip(VIP), ip(VIP)));
    rig.wait(INTERVAL);
    assert_eq!(rig.adverts(V4), [255]);
}

#[test]
fn row_64_everybody_else_listens_first() {
    let mut rig = Rig::new("");
    assert_eq!((rig.role(), rig.deeds()), (Role::Backup, vec![]));
    assert_eq!(rig.until_active(), DOWN);
}

// ---- Backup ----

#[test]
fn row_65_a_backup_stops_without_a_word() {
    let mut rig = Rig::new("");
    rig.step(Event::Stop);
    assert_eq!((rig.role(), rig.deeds()), (Role::Init, vec![Did::Exit]));
}

#[test]
fn row_66_the_advert_goes_before_the_announcement() {
    let mut rig = Rig::new("");
    rig.until_active();
    let deeds = rig.deeds();
    let [Did::Advert { priority: 100, .. }, Did::Add(_), Did::Announce(_)] = &deeds[..] else {
        panic!("{deeds:?}")
    };
    rig.wait(INTERVAL);
    assert_eq!(rig.adverts(V4), [100]);
}

/// Nothing is announced that the kernel does not have.
#[test]
fn row_66_no_announcement_before_the_address_is_there() {
    let mut rig = Rig::new("");
    rig.hold = true;
    rig.until_active();
    rig.wait(ms(50));
    assert!(!rig.take().contains(&Did::Announce(ip(VIP))));
    rig.release();
    assert!(rig.take().contains(&Did::Announce(ip(VIP))));
}

#[test]
fn row_67_priority_0_shortens_the_timer_to_skew() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200));
    rig.wait(ms(50));
    rig.hear(&Packet::v3(HIGHER, 0));
    assert_eq!(rig.role(), Role::Backup);
    assert_eq!(rig.until_active(), SKEW);
}

#[test]
fn row_67_a_broken_priority_0_shortens_nothing() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200));
    rig.hear(&Packet::v3(HIGHER, 0).but(|p| p.sum = Sum::Wrong));
    rig.hear(&Packet::v3(HIGHER, 0).but(|p| p.hops = 64));
    assert_eq!(rig.until_active(), DOWN);
}

#[test]
fn row_68_an_advert_of_no_less_priority_restarts_the_timer() {
    for (lines, priority) in [("", 2), ("", 99), (PREEMPT, 100), (PREEMPT, 101), (PREEMPT, 255)] {
        let mut rig = Rig::new(lines);
        rig.wait(ms(300));
        rig.hear(&Packet::v3(ROUTER, priority));
        assert_eq!(rig.until_active(), DOWN, "{lines} {priority}");
    }
}

/// Priority 1 of a node says that it cannot serve: it is not waited for, whatever the mode.
#[test]
fn row_68_an_unfit_node_does_not_restart_the_timer() {
    let mut rig = Rig::new("");
    rig.wait(ms(300));
    rig.hear(&Packet::v3(LOWER, 1));
    assert_eq!(rig.until_active(), DOWN - ms(300));
}

#[test]
fn row_69_with_preemption_a_lesser_advert_leaves_the_timer_alone() {
    let mut rig = Rig::new(PREEMPT);
    let due = rig.node.deadline();
    rig.wait(ms(300));
    rig.hear(&Packet::v3(HIGHER, 99));
    assert_eq!((rig.role(), rig.node.deadline()), (Role::Backup, due));
    assert_eq!(rig.until_active(), DOWN - ms(300));
}

/// The higher address decides nothing in Backup, in neither direction.
#[test]
fn row_70_a_backup_breaks_no_ties() {
    for peer in [LOWER, HIGHER] {
        let mut rig = Rig::new(PREEMPT);
        for _ in 0..20 {
            rig.wait(INTERVAL);
            rig.hear(&Packet::v3(peer, 100));
        }
        assert_eq!((rig.role(), rig.adverts(V4)), (Role::Backup, vec![]), "{peer}");
    }
}

// ---- Active ----

#[test]
fn row_71_on_stop_the_address_is_gone_before_priority_0() {
    let mut rig = Rig::active("");
    rig.hold = true;
    rig.step(Event::Stop);
    assert_eq!((rig.role(), rig.deeds()), (Role::Releasing, vec![Did::Del(ip(VIP))]));
    // Adverts go on while the address may still be there.
    rig.wait(ms(150));
    assert_eq!(rig.adverts(V4), [100]);
    rig.release();
    let deeds = rig.deeds();
    let [Did::Advert { priority: 0, .. }, Did::Exit] = &deeds[..] else { panic!("{deeds:?}") };
    assert!(rig.addresses.is_empty());
}

/// With an address that will not go, priority 0 would call a successor into a duplicate.
#[test]
fn row_71_no_priority_0_while_the_address_is_stuck() {
    let mut rig = Rig::active("");
    rig.hold = true;
    rig.step(Event::Stop);
    rig.wait(Duration::from_secs(20));
    assert!(rig.take().contains(&Did::Exit));
    assert_eq!(rig.counter(V4, "priority-zero-packets-sent"), 0);
}

#[test]
fn row_72_an_active_router_advertises_at_its_interval() {
    let mut rig = Rig::active("");
    rig.wait(ms(1000));
    assert_eq!(rig.adverts(V4), [100; 10]);
}

#[test]
fn row_73_priority_0_is_answered_at_once() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(HIGHER, 0));
    assert_eq!((rig.role(), rig.adverts(V4)), (Role::Active, vec![100]));
    rig.wait(ms(99));
    assert!(rig.adverts(V4).is_empty(), "the advertisement timer was re-armed");
    rig.wait(ms(1));
    assert_eq!(rig.adverts(V4), [100]);
}

/// Who gave up advertised before that, and was answered: others have heard the goodbye all the
/// same, and would take over.
#[test]
fn row_73_priority_0_soon_after_a_loser_is_answered_after_ten_milliseconds() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(HIGHER, 99));
    assert_eq!(rig.adverts(V4), [100]);
    rig.wait(ms(1));
    rig.hear(&Packet::v3(HIGHER, 0));
    assert!(rig.adverts(V4).is_empty());
    rig.wait(ms(9));
    assert_eq!(rig.adverts(V4), [100]);
}

#[test]
fn row_74_a_higher_priority_takes_over_whatever_preempt_says() {
    for lines in ["", PREEMPT] {
        let mut rig = Rig::active(lines);
        rig.hear(&Packet::v3(LOWER, 101).but(|p| p.word = 50));
        assert_eq!((rig.role(), rig.learned_ms(V4)), (Role::Backup, 500), "{lines}");
        assert!(rig.addresses.is_empty());
        rig.take();
        assert_eq!(rig.until_active(), 5 * DOWN, "{lines}");
    }
}

#[test]
fn row_74_a_rejected_advert_takes_nothing_over() {
    let mut rig = Rig::active("");
    let due = rig.node.deadline();
    rig.hear(&Packet::v3(HIGHER, 101).but(|p| p.sum = Sum::Wrong));
    rig.hear(&Packet::v3(HIGHER, 255).but(|p| p.hops = 1));
    assert_eq!((rig.role(), rig.node.deadline(), rig.deeds()), (Role::Active, due, vec![]));
}

#[test]
fn row_75_the_higher_address_wins_a_tie() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(HIGHER, 100));
    assert_eq!(rig.role(), Role::Backup);
    let mut rig = Rig::active(&only6());
    rig.hear(&Packet::v6(HIGHER6, 100));
    assert_eq!(rig.role(), Role::Backup);
}

/// Two that cannot serve both say 1: what the file would prefer is no reason for both to stay.
#[test]
fn row_75_of_two_unfit_nodes_the_higher_address_stays() {
    for (peer, role) in [(LOWER, Role::Active), (HIGHER, Role::Backup)] {
        let mut rig = Rig::new("\n[[check]]\nname = \"db\"\nfile = \"/run/serves\"\n");
        let began = rig.now;
        let told = |passed| Checked {
            name: "db".into(),
            began,
            passed,
            verdict: passed,
            found: "found".into(),
        };
        rig.step(Event::Checked(told(true)));
        rig.until_active();
        rig.step(Event::Checked(told(false)));
        assert_eq!((rig.role(), rig.group().effective_priority), (Role::Active, Priority::LEAST));
        rig.hear(&Packet::v3(peer, 1));
        assert_eq!(rig.role(), role, "{peer}");
    }
}

/// Compared as unsigned numbers in network order: 192.0.2.9 is the lower, though "9" > "1".
#[test]
fn row_75_the_lower_address_loses_a_tie() {
    for peer in [LOWER, "192.0.2.9", "10.255.255.255"] {
        let mut rig = Rig::active("");
        rig.hear(&Packet::v3(peer, 100));
        assert_eq!((rig.role(), rig.adverts(V4)), (Role::Active, vec![100]), "{peer}");
    }
    let mut rig = Rig::active(&only6());
    rig.hear(&Packet::v6(LOWER6, 100));
    assert_eq!(rig.role(), Role::Active);
    // Above 127 a signed comparison would say otherwise.
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3("203.0.113.1", 100));
    assert_eq!(rig.role(), Role::Backup);
}

#[test]
fn row_76_a_loser_is_answered_at_once() {
    let mut rig = Rig::active("");
    rig.wait(ms(142));
    rig.take();
    rig.hear(&Packet::v3(HIGHER, 99));
    let deeds = rig.deeds();
    let [Did::Advert { priority: 100, .. }, Did::Announce(vip)] = &deeds[..] else {
        panic!("{deeds:?}")
    };
    assert_eq!((rig.role(), *vip), (Role::Active, ip(VIP)));
}

#[test]
fn row_76_the_answer_is_limited_to_one_in_ten_milliseconds() {
    let mut rig = Rig::active("");
    for _ in 0..1000 {
        rig.hear(&Packet::v3(HIGHER, 99));
        rig.now += Duration::from_micros(30);
    }
    assert_eq!(rig.adverts(V4).len(), 3);
    rig.now += ms(10);
    rig.hear(&Packet::v3(HIGHER, 99));
    assert_eq!(rig.adverts(V4).len(), 1);
}

/// A flood of losers neither silences the Active router nor makes it faster than its limit.
#[test]
fn row_76_a_flood_does_not_silence_the_active_router() {
    let mut rig = Rig::active("");
    let mut last = rig.now;
    for _ in 0..400 {
        rig.wait(ms(1));
        rig.hear(&Packet::v3(HIGHER, 99));
        if !rig.adverts(V4).is_empty() {
            last = rig.now;
        }
        assert!(rig.now.since(last) <= INTERVAL);
    }
}

// ---- extensions ----

/// The default is off, unlike the RFC's: a healthy holder keeps the addresses.
#[test]
fn row_77_preemption_is_off_by_default() {
    let mut rig = Rig::new("");
    for _ in 0..20 {
        rig.wait(INTERVAL);
        rig.hear(&Packet::v3(LOWER, 90));
    }
    assert_eq!(rig.role(), Role::Backup);
}

#[test]
fn row_77_the_owner_preempts_whatever_preempt_says() {
    let mut rig = owner("preempt = false");
    rig.link(ETH0, "eth0", false);
    rig.link(ETH0, "eth0", true);
    assert_eq!(rig.role(), Role::Active, "at once, also after a fault");
    // One that lost to another owner listens, but not to anybody less.
    rig.hear(&Packet::v3(HIGHER, 255));
    assert_eq!(rig.role(), Role::Backup);
    rig.active_despite(&[Packet::v3(LOWER, 254)], ms(1), ms(302));
}

#[test]
fn row_78_preemption_waits_for_its_delay() {
    let mut rig = Rig::new("preempt = true\npreempt-delay = \"2s\"");
    let limit = ms(2000) + DOWN + INTERVAL;
    let took = rig.active_despite(&[Packet::v3(LOWER, 90)], INTERVAL, limit);
    assert!(took >= ms(2000), "{took:?}");
    assert!(rig.group().why.starts_with("preempted hap2"), "{}", rig.group().why);
}

/// A flapping link is what the delay is for: each time it begins anew.
#[test]
fn row_78_the_preempt_delay_begins_anew_after_a_fault() {
    let mut rig = Rig::new("preempt = true\npreempt-delay = \"2s\"");
    rig.hear(&Packet::v3(LOWER, 90));
    rig.wait(ms(200));
    rig.link(ETH0, "eth0", false);
    rig.wait(Duration::from_mins(1));
    rig.link(ETH0, "eth0", true);
    let took = rig.active_despite(&[Packet::v3(LOWER, 90)], INTERVAL, ms(3000));
    assert!(took >= ms(2000), "{took:?}");
}

/// A takeover from a dead router is not called a preemption.
#[test]
fn row_78_the_reason_of_a_takeover_is_the_true_one() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(LOWER, 90));
    rig.until_active();
    assert_eq!(rig.group().why, "no advert from hap2 (192.0.2.10) for 360 ms");
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(LOWER, 0));
    rig.until_active();
    assert_eq!(rig.group().why, "hap2 (192.0.2.10) gave up (priority 0)");
}

#[test]
fn row_78_the_start_delay_begins_with_carrier() {
    let mut rig = Rig::dark(parse(&file("start-delay = \"2s\"")), None);
    rig.address(ETH0, OWN, 24);
    rig.link(ETH0, "eth0", false);
    rig.wait(Duration::from_mins(1));
    assert!(rig.is("no-carrier"));
    rig.link(ETH0, "eth0", true);
    rig.wait(ms(1999));
    assert_eq!(rig.role(), Role::Init);
    rig.wait(ms(1));
    assert_eq!(rig.role(), Role::Backup);
    assert_eq!(rig.until_active(), DOWN);
    assert_eq!(rig.adverts(V4), [100]);
}

#[test]
fn row_78_an_advert_during_the_start_delay_starts_nothing() {
    let mut rig = Rig::new("start-delay = \"2s\"");
    rig.hear(&Packet::v3(LOWER, 0));
    rig.wait(ms(1000));
    assert_eq!((rig.role(), rig.deeds()), (Role::Init, vec![]));
}

#[test]
fn row_78_without_carrier_the_addresses_go_and_come_back() {
    let mut rig = Rig::active("");
    rig.link(ETH0, "eth0", false);
    assert_eq!((rig.role(), rig.deeds()), (Role::Init, vec![Did::Del(ip(VIP))]));
    rig.wait(Duration::from_mins(1));
    assert_eq!(rig.deeds(), []);
    rig.link(ETH0, "eth0", true);
    assert_eq!(rig.until_active(), DOWN);
}

#[test]
fn row_79_two_owners_are_told() {
    let mut rig = owner("");
    rig.hear(&Packet::v3(LOWER, 255));
    assert!(rig.is("two-owners"));
    rig.hear(&Packet::v3(LOWER, 254));
    assert_eq!(rig.role(), Role::Active);
    let mut rig = owner("");
    rig.hear(&Packet::v3(LOWER, 254));
    assert!(!rig.is("two-owners"));
}

#[test]
fn row_80_equal_priorities_are_told() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(LOWER, 99));
    assert!(!rig.is("equal-priority"));
    rig.hear(&Packet::v3(LOWER, 100));
    assert!(rig.is("equal-priority"));
}

#[test]
fn row_81_a_backup_takes_another_priority_without_leaving_its_state() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200));
    let since = rig.group().since;
    rig.wait(ms(50));
    rig.reload(&file("priorities = { hap1 = 200 }"));
    assert_eq!((rig.role(), rig.group().since), (Role::Backup, since));
    let down = Duration::from_nanos(321_875_000);
    assert_eq!(rig.until_active(), down - ms(50));
}

#[test]
fn row_81_an_active_router_advertises_another_priority_at_once() {
    let mut rig = Rig::active("");
    let since = rig.group().since;
    rig.reload(&file("priorities = { hap1 = 200 }"));
    assert_eq!((rig.role(), rig.group().since), (Role::Active, since));
    let deeds = rig.deeds();
    let [Did::Advert { priority: 200, .. }, Did::Reloaded(lines)] = &deeds[..] else {
        panic!("{deeds:?}")
    };
    assert_eq!(lines, &["web: priority 100 -> 200"]);
}

/// Said once more than the RFC wants: clients may have listened to the loser.
#[test]
fn the_last_advert_of_a_loser_makes_the_winner_announce() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(LOWER, 101));
    let deeds = rig.deeds();
    let [Did::Advert { priority: 100, .. }, Did::Del(_)] = &deeds[..] else { panic!("{deeds:?}") };
    rig.wait(ms(200));
    assert_eq!(rig.deeds(), [], "and is silent ever after");
}
