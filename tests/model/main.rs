//! The lease, searched: every order in which messages, clocks, restarts and other configurations
//! can meet, in worlds small enough for that. What runs is what ships; around it is a model of what
//! it runs in.
//!
//! * `votes` is about votes and gates: small enough to see every state.
//! * `strict` is about votes that need proof, where no gate is shut by time.
//! * `whole` drives whole leases, through restarts and reloads: searched up to a limit.
//! * `mutant` switches each rule off in turn. One that is not missed fails the test.
//!
//! `VIPD_MODEL=long` (`make model`) looks further. `VIPD_BLESS=1` writes docs/safety-mutants.md.

#![allow(clippy::unwrap_used, reason = "what the models use fits, and a test may panic")]

mod mutant;
mod scenes;
mod strict;
mod votes;
mod whole;

use std::fmt::Write as _;
use std::hash::Hash;
use std::time::Duration;

use mutant::{Mutant, Row, Stage};
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use vipd::core::lease::Holder;
use vipd::types::{Instant, VoterIx, Voters};

/// How many states may be generated for a scene.
fn limit(short: usize, long: usize) -> usize {
    if std::env::var("VIPD_MODEL").is_ok_and(|v| v == "long") { long } else { short }
}

/// What a search found: how many states, and where something is wrong.
struct Found {
    states: usize,
    unique: usize,
    depth: usize,
    exhaustive: bool,
    took: Duration,
    wrong: Vec<(&'static str, usize)>,
    /// What the scene is to show as possible, and did not.
    vacuous: Vec<&'static str>,
}

/// Searches deep first, or for the shortest way to break `property`.
fn search<M>(model: M, limit: usize, property: Option<&'static str>) -> Found
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Clone + PartialEq + Send + Sync,
{
    let began = vipd::io::clock::now();
    let properties = model.properties();
    let until = property.map_or(HasDiscoveries::AnyFailures, |p| HasDiscoveries::AnyOf([p].into()));
    let checker = model.checker().target_state_count(limit).finish_when(until);
    if property.is_some() {
        found(&checker.spawn_bfs().join(), &properties, limit, began)
    } else {
        found(&checker.spawn_dfs().join(), &properties, limit, began)
    }
}

fn found<M>(
    checker: &impl Checker<M>,
    properties: &[stateright::Property<M>],
    limit: usize,
    began: Instant,
) -> Found
where
    M: Model,
    M::State: Hash + Clone + PartialEq,
    M::Action: Clone + PartialEq,
{
    let mut wrong = Vec::new();
    let mut vacuous = Vec::new();
    for property in properties {
        let path = checker.discovery(property.name);
        match (&property.expectation, path) {
            (Expectation::Sometimes, None) => vacuous.push(property.name),
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                wrong.push((property.name, path.into_actions().len()));
            }
            _ => {}
        }
    }
    Found {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        exhaustive: checker.state_count() < limit && wrong.is_empty(),
        took: vipd::io::clock::now().since(began),
        wrong,
        vacuous,
    }
}

#[allow(clippy::print_stdout, reason = "the table is what `make model` is for")]
fn print(name: &str, found: &Found) {
    let how = if found.exhaustive { "exhaustive" } else { "bounded" };
    let Found { states, unique, depth, took, .. } = found;
    println!(
        "{name:28} {states:>9} states {unique:>8} unique, depth {depth:>2}, {how:10} {:.1} s",
        took.as_secs_f32()
    );
}

fn assert_sound(name: &str, found: &Found) {
    assert!(found.wrong.is_empty(), "{name}: {:?}", found.wrong);
    assert!(!found.exhaustive || found.vacuous.is_empty(), "{name} never: {:?}", found.vacuous);
}

#[test]
fn no_votes_open_two_gates() {
    for scene in scenes::of_votes() {
        let name = scene.name;
        let found = search(scene, limit(120_000, 20_000_000), None);
        print(name, &found);
        assert_sound(name, &found);
    }
}

#[test]
fn no_strict_votes_open_two_gates() {
    for scene in strict::scenes() {
        let name = scene.name;
        let found = search(scene, limit(400_000, 20_000_000), None);
        print(name, &found);
        assert_sound(name, &found);
    }
}

#[test]
fn no_leases_open_two_gates() {
    for scene in scenes::of_leases() {
        let name = scene.name;
        let found = search(scene, limit(20_000, 2_000_000), None);
        print(name, &found);
        assert_sound(name, &found);
    }
}

/// The models can see what they are to look for: without its assumptions the lease is not safe.
#[test]
fn what_is_excluded_would_be_seen() {
    for (scene, what) in scenes::excluded() {
        let name = scene.name;
        let found = search(scene, 3_000_000, Some(votes::ONE_GATE));
        print(name, &found);
        assert!(found.wrong.iter().any(|(p, _)| *p == votes::ONE_GATE), "{name}: {what}");
    }
    let scene = strict::twin_of_a_stopped_clock();
    let name = scene.name;
    let found = search(scene, 3_000_000, Some(votes::ONE_GATE));
    print(name, &found);
    assert!(found.wrong.iter().any(|(p, _)| *p == votes::ONE_GATE), "{name}");
}

/// A round trip of four renewals, again and again: says at how many moments the gate is shut.
fn shut_for(mutant: Option<Mutant>) -> usize {
    let at = |ms: u64| Instant::BOOT + Duration::from_millis(ms);
    let mut holder = Holder::default();
    let mut asked = Vec::new();
    let mut shut = 0;
    for ms in (1000..3000).step_by(10) {
        if mutant == Some(Mutant::OneRound) {
            let until = holder.until();
            holder.limit(until);
        }
        asked.push((ms + 40, holder.ask(at(ms), Duration::from_millis(100))));
        for (due, round) in &asked {
            if *due == ms {
                holder.granted(at(ms), VoterIx(0), *round, 2, Voters::NONE);
                holder.granted(at(ms), VoterIx(1), *round, 2, Voters::NONE);
            }
        }
        shut += usize::from(ms > 1040 && holder.holds(at(ms)).is_none());
    }
    shut
}

/// A voter grants, is started anew and forgets that; then another grants the same round. Says whether
/// that opens the gate, of five voters.
fn counts_what_was_forgotten(mutant: Option<Mutant>) -> bool {
    let at = |ms: u64| Instant::BOOT + Duration::from_millis(ms);
    let mut holder = Holder::default();
    let round = holder.ask(at(1000), Duration::from_millis(100));
    holder.granted(at(1000), VoterIx(0), round, 3, Voters::NONE);
    holder.granted(at(1001), VoterIx(1), round, 3, Voters::NONE);
    if mutant != Some(Mutant::KeepsVotes) {
        holder.forget(VoterIx(1));
    }
    holder.granted(at(1002), VoterIx(2), round, 3, Voters::NONE).is_some()
}

fn hunt(row: &Row) -> (&'static str, Found) {
    match &row.stage {
        Stage::Votes(scene) => (scene.name, search(scene.clone(), 4_000_000, Some(row.property))),
        Stage::Strict(scene) => (scene.name, search(scene.clone(), 4_000_000, Some(row.property))),
        Stage::Whole(scene) => (scene.name, search(scene.clone(), 1_000_000, Some(row.property))),
    }
}

#[test]
fn every_rule_is_missed_when_it_is_off() {
    let mut table = String::new();
    let mut survivors = Vec::new();
    for row in mutant::rows() {
        let (scene, found) = hunt(&row);
        print(&format!("{:?}", row.mutant), &found);
        let Some((_, steps)) = found.wrong.iter().find(|(name, _)| *name == row.property) else {
            survivors.push(format!("{:?} in {scene}: {:?}", row.mutant, found.wrong));
            continue;
        };
        let Row { off, hole, property, .. } = row;
        writeln!(table, "| {off} | {hole} | {scene} | {property} | {steps} |").unwrap();
    }
    assert_eq!(shut_for(None), 0, "a slow network loses nothing");
    assert!(shut_for(Some(Mutant::OneRound)) > 100, "only the last round counts: T1");
    let off = "only the last round counts, on a slow network";
    writeln!(table, "| {off} | T1 | slow network | the lease is renewed | – |").unwrap();
    assert!(!counts_what_was_forgotten(None));
    assert!(counts_what_was_forgotten(Some(Mutant::KeepsVotes)));
    let off = "votes of a voter that was started anew count on";
    writeln!(table, "| {off} | H13 | a late majority | the gate opens | – |").unwrap();
    assert!(survivors.is_empty(), "not missed:\n{}", survivors.join("\n"));
    assert_document(&table);
}

/// The table of docs/safety-mutants.md is what was measured.
fn assert_document(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/safety-mutants.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (start, end) = ("<!-- measured -->\n", "<!-- end -->");
    let (head, rest) = text.split_once(start).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let title = "| switched off | hole | scene | what breaks | steps |\n|---|---|---|---|---|\n";
    let new = format!("{head}{start}{title}{table}{end}{tail}");
    if std::env::var_os("VIPD_BLESS").is_some() {
        std::fs::write(path, &new).unwrap();
    }
    let says = "VIPD_BLESS=1 cargo test --test model writes docs/safety-mutants.md";
    assert!(new == text || std::env::var_os("VIPD_BLESS").is_some(), "{says}");
}
