//! A kernel that does as it likes, and a keeper that puts it right.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::types::Instant;

const SECOND: Duration = Duration::from_secs(1);
const DENIED: Failure = Failure::Errno(1);

fn route(table: u32) -> Entry {
    let to = Net::all(Family::V4);
    let source = Some(IpAddr::from([192, 0, 2, 85]));
    let via = Some(IpAddr::from([192, 0, 2, 1]));
    let (kind, onlink) = (RouteKind::Unicast, false);
    Entry::Route(Route { table, to, metric: 0, kind, via, onlink, index: IfIndex(2), source })
}

fn rule(table: u32) -> Entry {
    let from = Some(Net { ip: [192, 0, 2, 85].into(), prefix: 32 });
    let (to, interface, fwmark) = (None, None, None);
    let (family, priority) = (Family::V4, 1000);
    Entry::Rule(Rule { family, priority, from, to, interface, fwmark, table })
}

fn wanted(all: &[Entry]) -> Wanted {
    all.iter().map(|entry| (entry.clone(), 2)).collect()
}

fn at(ms: u64) -> Instant {
    Instant::BOOT + Duration::from_secs(100) + Duration::from_millis(ms)
}

/// Does everything that is planned, as a kernel would that says `result`; what it has then.
fn obey(
    keeper: &mut Keeper,
    now: Instant,
    kernel: &mut Seen,
    result: Result<(), Failure>,
) -> Vec<Change> {
    keeper.look(now, kernel.clone(), false);
    let changes = keeper.plan(now);
    for change in &changes {
        if result.is_ok() {
            match change {
                Change::Add(entry) => kernel.insert(entry.clone()),
                Change::Delete(entry) => kernel.remove(entry),
            };
        }
        keeper.done(now, change, result);
    }
    keeper.look(now, kernel.clone(), false);
    changes
}

#[test]
fn what_is_wanted_comes_routes_first_and_goes_rules_first() {
    let (mut keeper, mut kernel) = (Keeper::default(), Seen::new());
    keeper.want(wanted(&[rule(100), route(100)]));
    let came = obey(&mut keeper, at(0), &mut kernel, Ok(()));
    assert_eq!(came, [Change::Add(route(100)), Change::Add(rule(100))]);
    assert_eq!(obey(&mut keeper, at(1), &mut kernel, Ok(())), []);
    assert_eq!(keeper.deadline(), None);
    keeper.want(wanted(&[route(200)]));
    let went = obey(&mut keeper, at(2), &mut kernel, Ok(()));
    assert_eq!(
        went,
        [Change::Delete(rule(100)), Change::Delete(route(100)), Change::Add(route(200))]
    );
    assert!(keeper.report().swept.is_empty(), "what this run put there is no leftover");
}

#[test]
fn what_an_earlier_run_left_goes_once_it_is_known_what_is_wanted() {
    let mut kernel = Seen::from([route(100), rule(100), route(300)]);
    // Another daemon on this host has the same mark, and its own memory.
    let known = [route(100).identity(), rule(100)].into();
    let mut keeper = Keeper::new(known);
    assert_eq!(obey(&mut keeper, at(0), &mut kernel, Ok(())), []);
    keeper.want(Wanted::new());
    obey(&mut keeper, at(1), &mut kernel, Ok(()));
    assert_eq!(kernel, Seen::from([route(300)]));
    assert_eq!(keeper.report().swept.len(), 2);
    assert!(keeper.report().swept.is_empty(), "told once");
}

#[test]
fn a_route_that_lost_its_source_is_still_ours() {
    let mut keeper = Keeper::default();
    keeper.want(wanted(&[route(100)]));
    let mut kernel = Seen::new();
    obey(&mut keeper, at(0), &mut kernel, Ok(()));
    kernel = Seen::from([route(100).identity()]);
    let changes = obey(&mut keeper, at(1), &mut kernel, Ok(()));
    assert_eq!(changes, [Change::Delete(route(100).identity()), Change::Add(route(100))]);
}

#[test]
fn what_somebody_deletes_is_put_back_at_once_a_few_times() {
    let (mut keeper, mut kernel) = (Keeper::default(), Seen::new());
    keeper.want(wanted(&[route(100)]));
    obey(&mut keeper, at(0), &mut kernel, Ok(()));
    for n in 1..=2 {
        kernel.clear();
        assert_eq!(obey(&mut keeper, at(n), &mut kernel, Ok(())), [Change::Add(route(100))]);
        let fate = keeper.report().fate(&route(100)).unwrap();
        assert_eq!((fate.here, fate.trouble, u64::from(fate.restored)), (true, None, n));
    }
    kernel.clear();
    assert_eq!(obey(&mut keeper, at(3), &mut kernel, Ok(())), [], "not a third time");
    let fate = keeper.report().fate(&route(100)).unwrap();
    assert_eq!((fate.here, fate.trouble), (false, Some(Trouble::Contended)));
    assert_eq!(keeper.deadline(), Some(at(3) + SECOND));
    obey(&mut keeper, at(3) + SECOND, &mut kernel, Ok(()));
    assert!(kernel.contains(&route(100)));
    keeper.look(at(70_000), kernel.clone(), false);
    assert_eq!(keeper.report().fate(&route(100)).unwrap().trouble, None, "left alone again");
}

#[test]
fn what_goes_with_its_address_was_deleted_by_nobody() {
    let (mut keeper, mut kernel) = (Keeper::default(), Seen::new());
    keeper.want(wanted(&[route(100)]));
    obey(&mut keeper, at(0), &mut kernel, Ok(()));
    for n in 1..=9 {
        keeper.look(at(n), Seen::new(), true);
        assert_eq!(keeper.plan(at(n)), [Change::Add(route(100))]);
        keeper.look(at(n), kernel.clone(), false);
    }
    assert_eq!(keeper.report().fate(&route(100)), Some(Fate { here: true, ..Fate::default() }));
}

#[test]
fn what_is_refused_is_asked_for_again_with_growing_pauses() {
    let (mut keeper, mut kernel) = (Keeper::default(), Seen::new());
    keeper.want(wanted(&[route(100)]));
    let (mut now, mut asked) = (at(0), 0);
    while now < at(120_000) {
        asked += obey(&mut keeper, now, &mut kernel, Err(DENIED)).len();
        let trouble = keeper.report().fate(&route(100)).unwrap().trouble;
        assert_eq!(trouble.is_some(), asked > 1, "the first refusal may be early");
        now = keeper.deadline().expect("it is asked for again");
    }
    assert!((10..16).contains(&asked), "{asked} requests in two minutes");
    obey(&mut keeper, now, &mut kernel, Ok(()));
    assert_eq!(keeper.report().fate(&route(100)), Some(Fate { here: true, ..Fate::default() }));
}

#[test]
fn a_kernel_that_says_yes_and_does_nothing_is_not_asked_in_a_loop() {
    let (mut keeper, kernel) = (Keeper::default(), Seen::new());
    keeper.want(wanted(&[route(100)]));
    let mut asked = 0;
    for _ in 0..100 {
        keeper.look(at(0), kernel.clone(), false);
        for change in keeper.plan(at(0)) {
            asked += 1;
            keeper.done(at(0), &change, Ok(()));
        }
    }
    assert_eq!(asked, 1);
}

#[test]
fn what_cannot_be_removed_is_told() {
    let (mut keeper, mut kernel) = (Keeper::default(), Seen::new());
    keeper.want(wanted(&[rule(100)]));
    obey(&mut keeper, at(0), &mut kernel, Ok(()));
    keeper.want(Wanted::new());
    obey(&mut keeper, at(1), &mut kernel, Err(DENIED));
    obey(&mut keeper, at(100), &mut kernel, Err(DENIED));
    assert_eq!(keeper.report().stuck, [(rule(100), DENIED)]);
    assert!(!keeper.is_clean());
    obey(&mut keeper, at(300), &mut kernel, Ok(()));
    assert_eq!(keeper.report(), Report::default());
    assert!(keeper.is_clean());
}

proptest! {
    /// Whatever is wanted, deleted, added by others and refused: once the kernel obeys, it has what
    /// is wanted, and what is not ours was never touched.
    #[test]
    fn the_kernel_comes_to_have_what_is_wanted(
        turns in prop::collection::vec(
            (0u32..8, prop::option::of(0u32..4), any::<bool>(), 0u64..3000), 1..40),
    ) {
        let foreign = route(999);
        let (mut keeper, mut kernel) = (Keeper::default(), Seen::from([foreign.clone()]));
        let mut now = at(0);
        let mut all = Vec::new();
        for (want, delete, obeys, ms) in turns {
            all = (0..3).filter(|n| want & (1 << n) != 0).map(|n| route(100 + n)).collect();
            keeper.want(wanted(&all));
            if let Some(n) = delete {
                kernel.remove(&route(100 + n));
            }
            obey(&mut keeper, now, &mut kernel, if obeys { Ok(()) } else { Err(DENIED) });
            now += Duration::from_millis(ms);
        }
        for _ in 0..8 {
            obey(&mut keeper, now, &mut kernel, Ok(()));
            now += 30 * SECOND;
        }
        all.push(foreign);
        prop_assert_eq!(kernel, all.into_iter().collect::<Seen>());
    }
}
