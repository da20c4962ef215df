//! Beyond the RFC: a host that cannot give up what it must has itself reset, if it has a watchdog.

use std::time::Duration;

use vipd::core::event::{Event, Failure, ProxyEvent, Task, Watchdog};
use vipd::core::status::{Role, WatchdogStatus};

use crate::rig::{Did, HIGHER, OWN, Packet, Rig, VIP, file, group, ms, parse};

const SECOND: Duration = Duration::from_secs(1);
const PROXY: &str = "proxy = { command = [\"/bin/proxy\"], run = \"active\" }\n";

fn armed(reboots: bool) -> Event<'static> {
    let device = "/dev/watchdog0".to_owned();
    let status = WatchdogStatus { device, timeout_us: 5_000_000, reboots, ..Default::default() };
    Event::Watchdog(Watchdog::Armed(status))
}

/// A holder with an armed watchdog.
fn holder(lines: &str) -> Rig {
    let mut rig = Rig::active(lines);
    rig.step(armed(false));
    assert_eq!(rig.status().watchdog.map(|w| w.timeout_us), Some(5_000_000));
    rig.take();
    rig
}

/// The kernel refuses to remove anything for so long; a better router is heard all the time, if
/// there is one.
fn refuse(rig: &mut Rig, duration: Duration, better: Option<u8>) -> Vec<Did> {
    let end = rig.now + duration;
    let mut all = Vec::new();
    rig.hold = true;
    while rig.now < end {
        if let Some(priority) = better {
            rig.hear(&Packet::v3(HIGHER, priority));
        }
        for task in std::mem::take(&mut rig.held) {
            let refused = matches!(task, Task::DelAddress { .. });
            rig.answer(task, if refused { Err(Failure::Errno(16)) } else { Ok(()) });
        }
        rig.wait(ms(50));
        all.append(&mut rig.take());
    }
    all
}

fn reset(all: &[Did]) -> Option<&str> {
    all.iter().find_map(|d| match d {
        Did::Reset(why) => Some(why.as_str()),
        _ => None,
    })
}

fn is_in(rig: &Rig, name: &str) -> bool {
    rig.status().conditions.iter().any(|c| c.name == name)
}

#[test]
fn an_address_that_stays_while_another_holds_costs_the_host() {
    let mut rig = holder("");
    let all = refuse(&mut rig, 4 * SECOND, Some(200));
    assert_eq!(reset(&all), None, "it has 5 s");
    let all = refuse(&mut rig, 2 * SECOND, Some(200));
    let why = reset(&all).expect("a reset");
    assert!(why.contains("web") && why.contains("hap3"), "{why}");
    let note = all.iter().position(|d| matches!(d, Did::Note(kind, _) if kind == "self-fencing"));
    let at = all.iter().position(|d| matches!(d, Did::Reset(_)));
    assert!(note.is_some() && note < at, "told before: {all:?}");
    assert!(is_in(&rig, "self-fencing"));
    let by = rig.status().watchdog.and_then(|w| w.resets_by).expect("a time of death");
    assert!(by.since(rig.now) <= 6 * SECOND && by > rig.now);

    // Not taken back, not twice, and nothing is taken here any more.
    rig.release();
    let all = refuse(&mut rig, 5 * SECOND, None);
    assert_eq!(reset(&all), None);
    assert_eq!(rig.role(), Role::Init);
    assert!(is_in(&rig, "self-fencing"));
    rig.reload(&file("interval = \"200ms\""));
    rig.wait(5 * SECOND);
    assert_eq!(rig.role(), Role::Init, "another file changes nothing");
}

#[test]
fn what_can_be_handed_over_is() {
    let other = "192.0.2.101";
    let lines = format!("addresses = [\"{other}/24\"]\n");
    let mut rig = Rig::of(parse(&(file("") + &group("other", 8, &lines))));
    rig.until_active();
    rig.wait(SECOND);
    rig.step(armed(true));
    let other = other.parse().unwrap();
    assert!(rig.addresses.contains(&other));
    rig.hold = true;
    let mut all = Vec::new();
    while reset(&all).is_none() {
        rig.hear(&Packet::v3(HIGHER, 200));
        // Only the first group's address cannot be removed.
        for task in std::mem::take(&mut rig.held) {
            let stays = matches!(&task, Task::DelAddress { spec, .. } if spec.ip != other);
            rig.answer(task, if stays { Err(Failure::Errno(16)) } else { Ok(()) });
        }
        rig.wait(ms(50));
        all.append(&mut rig.take());
    }
    assert!(all.contains(&Did::Del(other)), "asked for in the same step");
    rig.release();
    assert!(!rig.addresses.contains(&other));
    let released = |d: &Did| matches!(d, Did::Advert { priority: 0, .. });
    assert!(rig.take().iter().any(released), "and the others are told");
}

#[test]
fn an_address_that_is_in_nobodys_way_does_not() {
    // Nobody else holds.
    let mut rig = holder("");
    rig.hear(&Packet::v3(HIGHER, 200));
    assert_eq!(reset(&refuse(&mut rig, 10 * SECOND, None)), None);
    // There is nobody else.
    let alone = format!(
        "cluster = {{ name = \"lb\" }}\n[[node]]\nname = \"hap1\"\naddress = \"{OWN}\"\n{}",
        group("web", 7, "")
    );
    let mut rig = Rig::of(parse(&alone));
    rig.until_active();
    rig.step(armed(true));
    rig.hold = true;
    rig.step(Event::Stop);
    let all = refuse(&mut rig, 60 * SECOND, None);
    assert_eq!(reset(&all), None);
    assert!(all.contains(&Did::Exit));
    // It is gone in time.
    let mut rig = holder("");
    refuse(&mut rig, 4 * SECOND, Some(200));
    rig.release();
    let all = refuse(&mut rig, 10 * SECOND, Some(200));
    assert_eq!(reset(&all), None);
    assert!(!rig.addresses.contains(&VIP.parse().unwrap()));
}

#[test]
fn a_stop_that_leaves_an_address_behind_costs_the_host() {
    let mut rig = holder("");
    rig.hold = true;
    rig.step(Event::Stop);
    let all = refuse(&mut rig, 60 * SECOND, None);
    assert!(reset(&all).is_some(), "{all:?}");
    let at = |d: &Did| all.iter().position(|x| x == d);
    let exit = at(&Did::Exit).expect("an end");
    assert!(all[..exit].iter().any(|d| matches!(d, Did::Reset(_))), "before the daemon ends");
}

fn with_proxy() -> Rig {
    let mut rig = holder(PROXY);
    rig.step(Event::Proxy(0, ProxyEvent::Stopped { how: "not started".into() }));
    rig.step(Event::Proxy(0, ProxyEvent::Running { pid: 7 }));
    rig.take();
    rig
}

#[test]
fn a_proxy_that_does_not_stop_costs_the_host() {
    let stuck = || Event::Proxy(0, ProxyEvent::Stuck { why: "it goes on".into() });
    let mut rig = with_proxy();
    rig.hear(&Packet::v3(HIGHER, 200));
    assert_eq!(rig.role(), Role::Backup);
    rig.step(stuck());
    let all = rig.take();
    let why = reset(&all).expect("a reset");
    assert!(why.contains("proxy") && why.contains("it goes on"), "{why}");

    // Also where it is wanted: it is in the way of the one that is to serve.
    let mut rig = with_proxy();
    rig.step(stuck());
    assert!(reset(&rig.take()).is_some());
    assert_ne!(rig.role(), Role::Active);
}

#[test]
fn a_stop_whose_proxy_never_answers_costs_the_host() {
    let mut rig = with_proxy();
    rig.step(Event::Stop);
    assert!(rig.addresses.is_empty());
    rig.wait(35 * SECOND);
    assert_eq!(reset(&rig.take()), None, "it has 36 s");
    rig.wait(2 * SECOND);
    let all = rig.take();
    assert!(matches!(&all[..], [.., Did::Reset(_), Did::Exit]), "{all:?}");
}

#[test]
fn without_an_armed_watchdog_all_is_as_it_was() {
    for told in [None, Some(Watchdog::Failed("no such device".into())), Some(Watchdog::Absent)] {
        let mut rig = Rig::active("");
        if let Some(told) = told.clone() {
            rig.step(armed(true));
            rig.step(Event::Watchdog(told));
        }
        assert_eq!(is_in(&rig, "watchdog-missing"), matches!(told, Some(Watchdog::Failed(_))));
        let all = refuse(&mut rig, 10 * SECOND, Some(200));
        assert_eq!(reset(&all), None, "{told:?}");
        assert!(!is_in(&rig, "self-fencing"));
        assert_eq!(rig.status().watchdog, None);
    }
}
