//! Many schedules, as tests and as a command.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::faults::KINDS;
use super::plan::{MS, Mutant};
use super::power::FenceCount;
use super::scenes::{Outcome, SOUND, Scene, play};

const THREADS: usize = 2;

/// What many schedules came to.
#[derive(Default)]
struct Sum {
    schedules: u64,
    steps: u64,
    datagrams: u64,
    faults: u64,
    checks: u64,
    opened: u64,
    overlaps: u64,
    slowest: u64,
    kinds: [u64; KINDS],
    fences: FenceCount,
}

impl Sum {
    fn add(&mut self, of: &Outcome) {
        let world = &of.world;
        self.schedules += 1;
        self.steps += world.count.steps;
        self.datagrams += world.count.datagrams;
        self.faults += world.count.faults;
        self.checks += world.oracle.checks;
        self.opened += world.oracle.opened;
        self.overlaps += world.oracle.overlaps;
        self.slowest = self.slowest.max(world.oracle.slowest);
        self.kinds.iter_mut().zip(of.kinds).for_each(|(sum, n)| *sum += n);
        self.fences.join(&world.grid.count);
    }

    fn join(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        self.datagrams += other.datagrams;
        self.faults += other.faults;
        self.checks += other.checks;
        self.opened += other.opened;
        self.overlaps += other.overlaps;
        self.slowest = self.slowest.max(other.slowest);
        self.kinds.iter_mut().zip(other.kinds).for_each(|(sum, n)| *sum += n);
        self.fences.join(&other.fences);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of a test: one if `SIM_SEED` names it.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let count = number("SIM_COUNT").unwrap_or(count);
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

/// The first schedule of those that breaks something, and what it breaks.
fn hunt(
    scene: impl Fn(u64) -> Scene + Sync,
    seeds: &std::ops::Range<u64>,
    mutant: Mutant,
    wanted: &[&str],
) -> (Sum, Option<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let total = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut sum = Sum::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || found.lock().unwrap().is_some() {
                        break;
                    }
                    let outcome = play(scene(seed), seed, mutant, false);
                    sum.add(&outcome);
                    if let Some(what) = outcome.world.oracle.broken
                        && wanted.iter().any(|w| what.starts_with(w))
                    {
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *found = Some((seed, what));
                        }
                    }
                }
                total.lock().unwrap().join(&sum);
            });
        }
    });
    (total.into_inner().unwrap(), found.into_inner().unwrap())
}

/// What happened in a schedule, line by line.
fn trace(scene: Scene, seed: u64, mutant: Mutant) -> String {
    let lines = play(scene, seed, mutant, true).world.trace.unwrap_or_default();
    lines.join("\n")
}

#[allow(clippy::disallowed_methods, reason = "how fast this machine is, nothing of what is tested")]
fn clock() -> Instant {
    Instant::now()
}

/// Every schedule keeps what is promised.
fn hold(scene: Scene, count: u64) {
    let range = seeds(count);
    let began = clock();
    let (sum, found) = hunt(|_| scene, &range, Mutant::None, &[""]);
    if let Some((seed, what)) = found {
        let trace = trace(scene, seed, Mutant::None);
        panic!("{trace}\n{scene:?}, seed {seed}: {what}\nagain with SIM_SEED={seed}");
    }
    if number("SIM_SEED").is_some() {
        say(&trace(scene, range.start, Mutant::None));
    }
    say(&describe(&sum, began));
}

#[allow(clippy::print_stdout, reason = "the test harness shows it to who asks")]
fn say(text: &str) {
    println!("{text}");
}

fn describe(sum: &Sum, began: Instant) -> String {
    let seconds = began.elapsed().as_secs_f64();
    let mut text = format!(
        "{} schedules in {seconds:.1} s: {:.0} a second; {} steps, {} datagrams, {} faults, {} checks, \
         {} gates opened, of these {} within the drain of another's shutting; the longest way back \
         to every group held: {} ms",
        sum.schedules,
        sum.schedules as f64 / seconds,
        sum.steps,
        sum.datagrams,
        sum.faults,
        sum.checks,
        sum.opened,
        sum.overlaps,
        sum.slowest / MS,
    );
    if sum.faults > 0 {
        let _ = write!(text, "; by kind {:?}", sum.kinds);
    }
    if sum.fences.off > 0 {
        let _ = write!(text, "; {:?}", sum.fences);
    }
    text
}

#[test]
fn nights_of_everything() {
    hold(Scene::Night, 5000);
}

#[test]
fn a_crash_costs_a_vote() {
    hold(Scene::Crash, 300);
}

#[test]
fn a_silent_holder_is_replaced() {
    hold(Scene::Silence, 300);
}

#[test]
fn an_orderly_stop_costs_milliseconds() {
    hold(Scene::Stop, 300);
}

#[test]
fn a_restarted_daemon_goes_on() {
    hold(Scene::Restart, 300);
}

#[test]
fn an_operator_moves_a_group() {
    hold(Scene::Move, 300);
}

#[test]
fn a_host_started_anew_elsewhere_has_another_gate() {
    hold(Scene::Clone, 500);
}

#[test]
fn files_are_rolled_out_while_hosts_fail() {
    hold(Scene::RollOut, 1000);
}

#[test]
fn forgetful_voters_are_quiet() {
    hold(Scene::Amnesia, 500);
}

#[test]
fn strict_nights() {
    hold(Scene::Strict, 700);
}

#[test]
fn a_lost_holder_is_fenced() {
    hold(Scene::Cut, 200);
}

#[test]
fn of_two_nodes_one_survives() {
    hold(Scene::Tie, 300);
}

#[test]
fn a_plain_lease_waits_for_no_device() {
    hold(Scene::DeadDevices, 100);
}

#[test]
fn groups_are_together_after_any_night() {
    hold(Scene::Together, 600);
}

#[test]
fn what_one_group_lacks_moves_all_of_its_sync() {
    hold(Scene::OneFails, 200);
}

#[test]
fn groups_of_a_sync_move_together() {
    hold(Scene::Follow, 200);
}

#[test]
fn what_one_group_lacks_everywhere_moves_nothing() {
    hold(Scene::CommonOne, 100);
}

#[test]
fn groups_are_apart_after_any_night() {
    hold(Scene::Apart, 600);
}

#[test]
fn a_host_that_comes_back_takes_one_again() {
    hold(Scene::Room, 200);
}

#[test]
fn a_host_that_has_none_takes_what_another_cannot_serve() {
    hold(Scene::Spare, 300);
}

#[test]
fn a_failure_that_all_share_moves_nothing() {
    hold(Scene::Common, 300);
}

#[test]
fn a_holder_that_cannot_serve_is_replaced_once() {
    hold(Scene::Alone, 300);
}

/// What is broken on purpose outside the core is found, or nothing else would be either.
#[test]
fn the_oracle_sees_what_is_broken_on_purpose() {
    for (mutant, scene) in [
        (Mutant::ShortVote, Scene::Silence),
        (Mutant::NoQuiet, Scene::Amnesia),
        (Mutant::MemoryTooSoon, Scene::Amnesia),
        (Mutant::DeafGate, Scene::Stop),
        (Mutant::CopiedGate, Scene::Clone),
        (Mutant::FastClocks, Scene::Silence),
        (Mutant::StoppedClock, Scene::Pause),
        (Mutant::None, Scene::Twins),
        (Mutant::StaleClock, Scene::Night),
        (Mutant::TellsFirst, Scene::Stop),
        (Mutant::Forgets, Scene::Amnesia),
        (Mutant::Liar, Scene::Cut),
        (Mutant::Lax, Scene::Cut),
        (Mutant::Doubtless, Scene::Strict),
    ] {
        let (sum, found) =
            hunt(|_| scene, &(0..5000), mutant, &["I1:", "I2,", "I3,", "I6:", "I10:"]);
        let Some((seed, what)) = found else {
            panic!("{mutant:?} was not found in {} schedules of {scene:?}", sum.schedules);
        };
        say(&format!("{mutant:?}: {scene:?}, seed {seed}: {what}"));
    }
}

/// `make storm`: as many schedules as `VIPD_STORM` says, of every scene by turns.
#[test]
#[ignore = "takes as long as one likes: see `make storm`"]
fn storm() {
    let count = number("VIPD_STORM").unwrap_or(1_000_000);
    let from = number("VIPD_STORM_FROM").unwrap_or(0);
    // Half of them are nights, the rest each of the others by turns.
    let scene = |seed: u64| match usize::try_from(seed % 32).unwrap() {
        n if n < SOUND.len() => SOUND[n],
        _ => Scene::Night,
    };
    let began = clock();
    let (mut done, chunk) = (0, 20_000.min(count.max(1)));
    let mut sum = Sum::default();
    while done < count {
        let range = from + done..from + (done + chunk).min(count);
        done += chunk;
        let (part, found) = hunt(scene, &range, Mutant::None, &[""]);
        sum.join(&part);
        if let Some((seed, what)) = found {
            let trace = trace(scene(seed), seed, Mutant::None);
            panic!("{trace}\n{:?}, seed {seed}: {what}", scene(seed));
        }
        say(&describe(&sum, began));
    }
}
