//! The care of a proxy, step by step: what is counted, what is forgotten, what is done.

use super::*;
use crate::config::ProxyKind;

const S: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn care(threshold: u32) -> Care {
    let what = ProxyKind::Unit("haproxy.service".to_owned());
    let proxy = Proxy {
        what,
        run: Run::Always,
        config: None,
        start_timeout: 30 * S,
        stop_timeout: 30 * S,
        migration_threshold: threshold,
        failure_expiry: 600 * S,
    };
    Care::new(at(0), proxy)
}

fn stopped() -> ProxyEvent {
    ProxyEvent::Stopped { how: "killed by signal 9".into() }
}

/// It is started, runs, and dies at once; says whether it is restarted in place.
fn crash(care: &mut Care, second: u64) -> bool {
    care.report(at(second), &ProxyEvent::Running { pid: 1 });
    match care.report(at(second), &stopped()) {
        Some(Told::Died { restarting, .. }) => restarting,
        told => panic!("{told:?}"),
    }
}

#[test]
fn as_many_failures_as_the_threshold_move_the_addresses() {
    let mut care = care(3);
    assert!(crash(&mut care, 1) && crash(&mut care, 3));
    assert!(care.is_fit() && !care.is_suspect());
    assert!(!crash(&mut care, 5));
    assert!(!care.is_fit() && care.is_suspect());
    assert_eq!(care.next(at(6)), None, "not at once");
    assert_eq!(care.next(at(35)), Some(ProxyOrder::Start));
    // It can serve once it has run for a while, and is the last to be taken until the failures
    // expire one by one.
    care.report(at(36), &ProxyEvent::Running { pid: 2 });
    care.tick(at(45));
    assert!(!care.is_fit());
    care.tick(at(46));
    assert!(care.is_fit() && care.is_suspect());
    assert_eq!(care.deadline(), Some(at(601)));
    care.tick(at(601));
    assert_eq!((care.failures(), care.is_suspect()), (2, false));
}

#[test]
fn failures_that_are_far_apart_move_nothing() {
    let mut care = care(2);
    assert!(crash(&mut care, 1) && crash(&mut care, 601) && crash(&mut care, 1201));
}

#[test]
fn one_that_ran_for_a_while_is_tried_again_soon() {
    let mut care = care(1);
    care.report(at(1), &ProxyEvent::Running { pid: 1 });
    care.report(at(100), &stopped());
    assert!(!care.is_fit());
    assert_eq!(care.next(at(101)), Some(ProxyOrder::Start));
    care.report(at(102), &ProxyEvent::Failed { why: "exit status 1".into() });
    assert_eq!(care.next(at(131)), None);
    assert_eq!(care.next(at(132)), Some(ProxyOrder::Start));
}

#[test]
fn what_was_known_is_known_again_and_has_aged() {
    let mut before = care(3);
    crash(&mut before, 1);
    crash(&mut before, 100);
    assert!(before.take_news() && !before.take_news());
    let past = before.past(at(200), "web").unwrap();
    assert_eq!(past.ago, [199 * S, 100 * S]);
    assert_eq!(past.last.as_deref(), Some("killed by signal 9"));
    // After a boot, the clock of which begins anew.
    let mut after = care(3);
    after.recall(at(2), &past);
    assert_eq!((after.failures(), after.failed(at(2))), (2, Some(100 * S)));
    after.tick(at(402));
    assert_eq!(after.failures(), 2);
    after.tick(at(403));
    assert_eq!(after.failures(), 1);
    after.clean_up(at(403), Duration::ZERO);
    assert!(after.take_news());
    assert_eq!(after.past(at(403), "web"), None);
}

/// It may be heard of after a partition.
#[test]
fn what_failed_after_a_cleanup_is_not_forgotten_by_it() {
    let mut care = care(2);
    crash(&mut care, 1);
    crash(&mut care, 100);
    assert!(care.is_suspect() && !care.is_fit());
    care.clean_up(at(150), 149 * S);
    assert_eq!((care.failures(), care.is_suspect(), care.is_fit()), (1, false, true));
    assert_eq!(care.next(at(150)), Some(ProxyOrder::Start), "at once");
    crash(&mut care, 151);
    assert!(care.is_suspect());
    assert_eq!(care.next(at(151)), None);
    care.clean_up(at(152), 60 * S);
    assert!(care.is_suspect(), "both came later");
    assert_eq!(care.next(at(152)), None);
    care.clean_up(at(152), Duration::ZERO);
    assert_eq!((care.failures(), care.is_fit()), (0, true));
}

#[test]
fn one_that_does_not_serve_is_killed_and_started_in_place() {
    let mut care = care(2);
    assert_eq!(care.runs_since(), None);
    care.report(at(1), &ProxyEvent::Running { pid: 1 });
    assert_eq!(care.runs_since(), Some(at(1)));
    assert!(care.blame(at(50), "check admin fails"));
    assert_eq!(care.runs_since(), None);
    assert_eq!((care.next(at(50)), care.next(at(50))), (Some(ProxyOrder::Kill), None));
    care.report(at(51), &ProxyEvent::Stopping);
    assert_eq!(care.report(at(52), &stopped()), Some(Told::Stopped), "counted once");
    assert_eq!(care.next(at(52)), Some(ProxyOrder::Start));
    care.report(at(53), &ProxyEvent::Running { pid: 2 });
    assert_eq!((care.failures(), care.runs_since()), (1, Some(at(53))));
    assert!(!care.blame(at(60), "check admin fails"));
    assert!(!care.is_fit());
    assert_eq!(care.next(at(60)), Some(ProxyOrder::Kill));
}

#[test]
fn one_that_is_in_the_way_makes_the_host_unfit() {
    let mut care = care(3);
    care.report(at(1), &ProxyEvent::Running { pid: 1 });
    care.blame(at(50), "check admin fails");
    assert_eq!(care.next(at(50)), Some(ProxyOrder::Kill));
    care.report(at(53), &ProxyEvent::Stuck { why: "process 1 goes on after SIGKILL".into() });
    care.tick(at(500));
    assert!(!care.is_fit() && care.stands().is_some());
    assert_eq!(care.next(at(500)), None);
}
