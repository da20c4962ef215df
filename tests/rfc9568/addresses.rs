//! The addresses, ARP and neighbour discovery: RFC 9568 §6.4, §8; as far as the core decides.

use std::time::Duration;

use vipd::core::event::{Event, Failure, KernelAddress, Task};
use vipd::core::status::Role;
use vipd::types::Mac;

use super::rig::*;

const STRANGER: Mac = Mac([2, 0, 0, 0, 9, 9]);

/// The address, with vipd's mark.
fn ours() -> KernelAddress {
    KernelAddress { index: ETH0, ip: ip(VIP), prefix: 24, ours: true }
}

/// The kernel tells what it has: among it an address of an earlier run.
fn find_left(rig: &mut Rig) {
    rig.step(Event::ResyncBegin);
    rig.link(ETH0, "eth0", true);
    rig.address(ETH0, OWN, 24);
    rig.step(Event::Address(ours()));
    rig.step(Event::ResyncEnd);
}

fn announced(rig: &mut Rig) -> usize {
    rig.take().iter().filter(|d| matches!(d, Did::Announce(_))).count()
}

/// What is not on the host answers no ARP, no solicitation and no packet.
#[test]
fn rows_82_to_85_a_backup_has_none_of_the_addresses() {
    let mut rig = Rig::new(&both());
    for _ in 0..20 {
        rig.hear(&Packet::v3(HIGHER, 200));
        rig.hear(&Packet::v6(HIGHER6, 200));
        rig.wait(INTERVAL);
    }
    assert_eq!((rig.addresses.len(), rig.deeds()), (0, vec![]));
}

/// Also not those an earlier vipd left behind.
#[test]
fn rows_82_to_85_a_backup_removes_what_it_finds() {
    let mut rig = Rig::dark(parse(&file("")), None);
    find_left(&mut rig);
    assert_eq!((rig.role(), rig.deeds()), (Role::Backup, vec![Did::Del(ip(VIP))]));
}

/// The kernel's word that it is gone may come, and its answer not in time: before it or after.
#[test]
fn what_was_seen_to_go_is_added_again_whatever_the_kernel_answered() {
    for before in [true, false] {
        let mut rig = Rig::dark(parse(&file("")), None);
        rig.hold = true;
        find_left(&mut rig);
        rig.hold = false;
        for task in std::mem::take(&mut rig.held) {
            let is_deletion = matches!(task, Task::DelAddress { .. });
            if is_deletion && before {
                rig.step(Event::AddressGone(ours()));
            }
            rig.answer(task, if is_deletion { Err(Failure::TimedOut) } else { Ok(()) });
            if is_deletion && !before {
                assert!(rig.is("address-stuck"));
                rig.step(Event::AddressGone(ours()));
            }
        }
        assert_eq!((rig.role(), rig.is("address-stuck")), (Role::Backup, false), "{before}");
        rig.until_active();
        assert!(rig.addresses.contains(&ip(VIP)));
    }
}

#[test]
fn rows_86_to_90_an_active_router_has_all_the_addresses() {
    let rig = Rig::active(&both());
    let all: Vec<_> = rig.addresses.iter().copied().collect();
    assert_eq!(all, [ip(VIP), ip(VIP6), ip(VIP6_LOCAL)]);
}

#[test]
fn row_92_nothing_is_announced_before_it_is_configured() {
    let mut rig = Rig::new(&both());
    rig.hold = true;
    rig.until_active();
    rig.wait(Duration::from_secs(3));
    assert_eq!(announced(&mut rig), 0);
    rig.release();
    assert_eq!(announced(&mut rig), 3);
}

/// A kernel that refuses this one address, however often it is asked.
fn refusing(rig: &mut Rig, duration: Duration) -> Vec<Did> {
    let end = rig.now + duration;
    let mut all = Vec::new();
    rig.hold = true;
    while rig.now < end {
        for task in std::mem::take(&mut rig.held) {
            let refused = matches!(task, Task::AddAddress { .. });
            rig.answer(task, if refused { Err(Failure::Errno(12)) } else { Ok(()) });
        }
        rig.wait(ms(1));
        all.append(&mut rig.take());
    }
    all
}

fn times_active(all: &[Did]) -> usize {
    all.iter().filter(|d| matches!(d, Did::Note(kind, _) if kind == "active")).count()
}

/// The kernel refuses: told, never announced, and the host stands back.
#[test]
fn row_92_an_address_that_cannot_be_added_is_not_announced() {
    let mut rig = Rig::new("");
    let all = refusing(&mut rig, ms(400));
    assert!(rig.is("address-failed") && rig.is("unfit"));
    assert!(!all.iter().any(|d| matches!(d, Did::Announce(_))));
    assert_eq!(rig.group().effective_priority, vipd::types::Priority::LEAST);
}

/// It gives way, takes over with the least priority where nobody else does, and tries again ever
/// more rarely; with a fitter peer it leaves that one alone for half a minute.
#[test]
fn a_host_that_cannot_have_an_address_does_not_flap() {
    let mut rig = Rig::new("");
    let all = refusing(&mut rig, Duration::from_mins(1));
    assert!((2..=5).contains(&times_active(&all)), "{}", times_active(&all));
    let mut rig = Rig::new("preempt = true");
    refusing(&mut rig, ms(400));
    rig.hear(&Packet::v3(LOWER, 90));
    for _ in 0..290 {
        rig.hear(&Packet::v3(LOWER, 90));
        let all = refusing(&mut rig, INTERVAL);
        assert_eq!(times_active(&all), 0);
    }
    // Then it is as good as any, and may try.
    for _ in 0..12 {
        rig.hear(&Packet::v3(LOWER, 90));
        rig.wait(INTERVAL);
    }
    assert!(!rig.is("unfit"));
}

#[test]
fn row_93_each_address_is_announced_as_it_comes_and_again() {
    let mut rig = Rig::new("");
    rig.until_active();
    assert_eq!(announced(&mut rig), 1);
    // 0, 10, 50, 250, 1100 and 3000 ms, then every minute.
    rig.wait(ms(3000));
    assert_eq!(announced(&mut rig), 5);
    rig.wait(Duration::from_mins(1));
    assert_eq!(announced(&mut rig), 1);
}

#[test]
fn row_93_a_backup_announces_nothing_any_more() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(HIGHER, 200));
    rig.take();
    for _ in 0..100 {
        rig.hear(&Packet::v3(HIGHER, 200));
        rig.wait(INTERVAL);
    }
    assert_eq!(announced(&mut rig), 0);
}

/// Whichever way a holder gives them up, and not before they are gone.
#[test]
fn connections_to_addresses_that_are_gone_are_ended() {
    let mut rig = Rig::active("");
    rig.hold = true;
    rig.hear(&Packet::v3(HIGHER, 200));
    assert_eq!((rig.role(), rig.ended), (Role::Backup, 0));
    rig.release();
    assert_eq!((rig.addresses.len(), rig.ended), (0, 1));
    let mut rig = Rig::active("");
    rig.step(Event::Stop);
    assert_eq!((rig.addresses.len(), rig.ended), (0, 1));
}

/// Thousands never delay an advert: 64 announcements a millisecond.
#[test]
fn row_93_announcements_are_paced() {
    let all: Vec<_> = (0..200).map(|n| format!("\"10.0.0.{n}/32\"")).collect();
    let mut rig = Rig::new(&format!("addresses = [{}]", all.join(", ")));
    rig.until_active();
    assert_eq!(announced(&mut rig), 64);
    rig.wait(ms(1));
    assert_eq!(announced(&mut rig), 64);
    rig.wait(ms(3));
    assert_eq!(announced(&mut rig), 72);
}

#[test]
fn a_claim_by_another_machine_is_answered() {
    let mut rig = Rig::active("");
    rig.wait(ms(5000));
    rig.take();
    let claim = Event::Neighbour { ifindex: ETH0, ip: ip(VIP), mac: STRANGER };
    rig.step(claim.clone());
    assert_eq!(announced(&mut rig), 1);
    assert!(rig.is("address-conflict"));
    let mut rig = Rig::new("");
    rig.step(claim);
    assert_eq!((announced(&mut rig), rig.is("address-conflict")), (0, false));
}

#[test]
fn a_peer_that_returns_is_told_who_holds() {
    let mut rig = Rig::active("");
    let answer = Event::Neighbour { ifindex: ETH0, ip: ip(HIGHER), mac: STRANGER };
    rig.step(answer.clone());
    rig.wait(ms(5000));
    assert!(rig.is("peer-unreachable"));
    rig.take();
    rig.step(answer);
    assert!(!rig.status().peers.iter().any(|p| p.name == "hap3" && p.reachable == Some(false)));
    let deeds = rig.deeds();
    let [Did::Advert { priority: 100, .. }, Did::Announce(_)] = &deeds[..] else {
        panic!("{deeds:?}")
    };
}

#[test]
fn somebody_else_deletes_an_address() {
    let mut rig = Rig::active("");
    rig.step(Event::AddressGone(ours()));
    assert_eq!(rig.deeds(), [Did::Add(ip(VIP)), Did::Announce(ip(VIP))]);
}

// ---- other settings ----

#[test]
fn an_address_is_added_while_active() {
    let mut rig = Rig::active("");
    rig.reload(&file("addresses = [\"192.0.2.100/24\", \"192.0.2.101/24\"]"));
    assert_eq!(rig.role(), Role::Active);
    let deeds = rig.deeds();
    let [Did::Advert { packets, .. }, Did::Reloaded(lines), Did::Add(added), Did::Announce(said)] =
        &deeds[..]
    else {
        panic!("{deeds:?}")
    };
    assert_eq!((*added, *said), (ip("192.0.2.101"), ip("192.0.2.101")));
    assert_eq!(
        (packets[0].bytes[3], &lines[..]),
        (2, &["web: + address 192.0.2.101/24".into()][..])
    );
}

#[test]
fn an_address_is_removed_while_active() {
    let mut rig = Rig::active("addresses = [\"192.0.2.100/24\", \"192.0.2.101/24\"]");
    rig.reload(&file(""));
    assert_eq!(rig.role(), Role::Active);
    let deeds = rig.deeds();
    let [Did::Advert { packets, .. }, Did::Reloaded(_), Did::Del(gone)] = &deeds[..] else {
        panic!("{deeds:?}")
    };
    assert_eq!((*gone, packets[0].bytes[3]), (ip("192.0.2.101"), 1));
}

/// The old virtual router is given up as on a stop before the new one is begun.
#[test]
fn another_vrid_is_a_graceful_restart() {
    let mut rig = Rig::active("");
    rig.hold = true;
    rig.reload(&(nodes("") + &group("web", 8, "")));
    assert_eq!(rig.role(), Role::Releasing);
    let deeds = rig.deeds();
    assert!(matches!(&deeds[..], [Did::Reloaded(_), Did::Del(_)]), "{deeds:?}");
    rig.release();
    let last = rig.packets(V4);
    assert!(last.iter().all(|p| p.bytes[1..3] == [7, 0]) && !last.is_empty());
    rig.wait(ms(0));
    assert_eq!(rig.role(), Role::Backup);
    rig.hear(&Packet::v3(HIGHER, 200));
    assert_eq!(rig.status().dropped[0].1, 1, "the old one is not ours any more");
    assert_eq!(rig.until_active(), DOWN);
    assert!(rig.packets(V4).iter().all(|p| p.bytes[1..3] == [8, 100]));
}

/// Neither on stop nor out of the file does a group come back with its new settings.
#[test]
fn a_stop_during_a_restart_is_a_stop() {
    let other = group("other", 9, "addresses = [\"192.0.2.109/24\"]");
    let mut rig = Rig::of(parse(&(file("") + &other)));
    rig.until_active();
    rig.hold = true;
    rig.reload(&(nodes("") + &group("web", 8, "") + &other));
    rig.step(Event::Stop);
    let [first, second] = &std::mem::take(&mut rig.held)[..] else { panic!() };
    rig.answer(first.clone(), Ok(()));
    rig.wait(ms(50));
    rig.answer(second.clone(), Ok(()));
    assert_eq!(rig.deeds().last(), Some(&Did::Exit));
}

/// A next run that does not start must not leave two routers that answer.
#[test]
fn nothing_is_left_to_the_next_run_without_a_gate() {
    let mut rig = Rig::active("");
    rig.step(Event::Gate(Ok(())));
    rig.step(Event::Leave);
    assert_eq!(rig.deeds(), [Did::Exit]);
    assert_eq!(rig.addresses, [ip(VIP)].into(), "the gate shuts by itself");

    let mut rig = Rig::active("");
    rig.step(Event::Gate(Err("no BPF".into())));
    rig.step(Event::Leave);
    let deeds = rig.deeds();
    let [Did::Del(_), Did::Advert { priority: 0, .. }, Did::Exit] = &deeds[..] else {
        panic!("{deeds:?}")
    };
    assert!(rig.addresses.is_empty());
}

#[test]
fn a_group_that_leaves_the_file_during_a_restart_is_gone() {
    let other = group("other", 9, "addresses = [\"192.0.2.109/24\"]");
    let mut rig = Rig::of(parse(&(file("") + &other)));
    rig.until_active();
    rig.hold = true;
    rig.reload(&(nodes("") + &group("web", 8, "") + &other));
    rig.reload(&(nodes("") + &other));
    rig.release();
    rig.wait(ms(1000));
    let names: Vec<_> = rig.status().groups.into_iter().map(|g| g.name).collect();
    assert_eq!((names, rig.addresses.contains(&ip(VIP))), (vec!["other".to_owned()], false));
}

#[test]
fn a_file_that_changes_nothing_changes_nothing() {
    let mut rig = Rig::active("");
    let since = rig.group().since;
    rig.reload(&file(""));
    assert_eq!(rig.deeds(), [Did::Reloaded(vec![])]);
    assert_eq!((rig.role(), rig.group().since), (Role::Active, since));
}

// ---- named states ----

#[test]
fn a_foreign_router_on_our_vrid_is_named() {
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200));
    assert!(!rig.is("foreign-router"));
    rig.hear(&Packet::v3("192.0.2.77", 200));
    assert!(rig.is("foreign-router"));
    assert!(rig.status().peers.iter().any(|p| p.address == ip("192.0.2.77")));
    rig.wait(Duration::from_secs(62));
    assert!(!rig.is("foreign-router"), "it lasts a minute");
    let mut rig = Rig::new("routers = [{ address = \"192.0.2.77\" }]");
    rig.hear(&Packet::v3("192.0.2.77", 200));
    assert!(!rig.is("foreign-router"));
}

#[test]
fn never_having_heard_a_peer_is_named() {
    let mut rig = Rig::active("");
    assert!(!rig.is("never-heard-peer"));
    rig.wait(ms(3000));
    assert!(rig.is("never-heard-peer"));
    rig.step(Event::Neighbour { ifindex: ETH0, ip: ip(LOWER), mac: STRANGER });
    assert!(!rig.is("never-heard-peer"));
    let mut rig = Rig::new("");
    rig.hear(&Packet::v3(HIGHER, 200));
    rig.until_active();
    rig.wait(ms(5000));
    assert!(!rig.is("never-heard-peer"));
}

#[test]
fn a_rival_that_gave_way_is_named() {
    let mut rig = Rig::active("");
    rig.hear(&Packet::v3(HIGHER, 99).but(|p| p.sum = Sum::Wrong));
    assert!(!rig.is("rival"));
    rig.hear(&Packet::v3(HIGHER, 99));
    assert!(rig.is("rival"));
}
