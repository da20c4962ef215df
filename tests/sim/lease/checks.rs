//! A check on every host, and what its failure comes to.

use std::time::Duration;

use vipd::config::{Check, Config, Effect, Probe};
use vipd::core::check::{Checked, Debounce};
use vipd::core::event::Event;
use vipd::types::Instant;

use super::host::Arrival;
use super::plan::{MS, Real, nanos};
use super::scenes::begin;
use super::world::World;

const INTERVAL: Duration = Duration::from_millis(100);
const FAST: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_millis(50);
const RUNS: u32 = 2;

/// Something is looked at through the network, which all hosts need.
pub(crate) fn add_to(config: &mut Config) {
    config.checks.push(Check {
        name: "database".to_owned(),
        what: Probe::Tcp("10.0.9.9:5432".parse().unwrap()),
        effect: Effect::Disqualify,
        interval: INTERVAL,
        fast_interval: FAST,
        timeout: TIMEOUT,
        rise: RUNS,
        fall: RUNS,
        restart_proxy: false,
        groups: Vec::new(),
    });
}

/// The check of one host, as its daemon's shell runs it.
#[derive(Debug)]
pub(crate) struct Line {
    debounce: Debounce,
    /// Which run is next: one that was put off is void.
    run: u32,
    running: bool,
    /// The core asked for a run.
    asked: bool,
}

impl World {
    /// The daemon has begun.
    pub(crate) fn begin_checks(&mut self, host: usize) {
        if !self.shape.checks {
            return;
        }
        let debounce = Debounce::new(RUNS, RUNS);
        self.hosts[host].line = Some(Line { debounce, run: 0, running: false, asked: false });
        let soon = self.random.draw(nanos(INTERVAL));
        self.later(host, soon, Arrival::CheckDue(0));
    }

    pub(crate) fn hasten(&mut self, host: usize) {
        self.note(host, || "looks again at once".to_owned());
        let Some(line) = &mut self.hosts[host].line else { return };
        line.asked = true;
        if !line.running {
            line.run += 1;
            let run = line.run;
            self.later(host, 0, Arrival::CheckDue(run));
        }
    }

    pub(crate) fn check_due(&mut self, host: usize, run: u32) {
        let now = self.hosts[host].local(self.now);
        let took = if self.hosts[host].ill { nanos(TIMEOUT) } else { self.random.draw(5 * MS) };
        let Some(line) = &mut self.hosts[host].line else { return };
        if line.run != run || line.running {
            return;
        }
        line.running = true;
        line.debounce.begin(std::mem::take(&mut line.asked));
        self.later(host, took, Arrival::CheckDone(now));
    }

    pub(crate) fn check_done(&mut self, host: usize, began: Instant) {
        let passed = !self.hosts[host].ill;
        let jitter = self.random.draw(nanos(INTERVAL) / 4);
        let Some(line) = &mut self.hosts[host].line else { return };
        line.running = false;
        line.run += 1;
        let (run, at_once) = (line.run, line.asked);
        let tells = line.debounce.end(passed);
        let verdict = line.debounce.verdict().unwrap();
        let pause = nanos(line.debounce.pause(INTERVAL, FAST));
        let pause = pause - pause / 8 + pause * jitter / nanos(INTERVAL);
        self.later(host, if at_once { 0 } else { pause }, Arrival::CheckDue(run));
        if tells {
            let found = if passed { "accepts" } else { "no answer" }.into();
            let told = Checked { name: "database".into(), began, passed, verdict, found };
            self.step(host, Event::Checked(told));
        }
    }

    /// What a check looks at is there, or is not, for one host.
    pub(crate) fn set_ill(&mut self, host: usize, ill: bool) {
        self.note(host, || format!("reaches the database: {}", !ill));
        self.hosts[host].ill = ill;
    }
}

/// The longest that a host takes to notice.
pub(crate) fn notice() -> Real {
    let pauses = nanos(INTERVAL) + nanos(FAST) * u64::from(RUNS - 1);
    pauses * 9 / 8 + nanos(TIMEOUT) * u64::from(RUNS)
}

/// All hosts lose what they need, and get it back each at another moment: nobody moves. They lose
/// it sooner than any of them can be sure that it is gone, or another would be better for a while.
pub(crate) fn common(world: &mut World) {
    let at_once = nanos(FAST) * 7 / 8 * u64::from(RUNS - 1) / world.shape.nodes as u64;
    let holder = begin(world);
    let opened = world.oracle.opened;
    for ill in [true, false] {
        let mut order: Vec<usize> = (0..world.shape.nodes).collect();
        for left in (1..order.len()).rev() {
            order.swap(left, world.random.below(left + 1));
        }
        for host in order {
            world.set_ill(host, ill);
            let pause = world.random.draw(if ill { at_once } else { 120 * MS });
            world.run(pause);
        }
        let pause = world.random.between(500, 3000) * MS;
        world.run(pause);
    }
    world.run(2000 * MS);
    if world.holder() != Some(holder) || world.oracle.opened != opened {
        world.broke("a failure that all share moved the group".to_owned());
    }
}

/// Only the holder does: it is replaced, once.
pub(crate) fn alone(world: &mut World) {
    let holder = begin(world);
    let opened = world.oracle.opened;
    world.set_ill(holder, true);
    world.expect_successor(holder, notice() + 50 * MS, "a holder that cannot serve");
    let pause = world.random.between(100, 3000) * MS;
    world.run(pause);
    world.set_ill(holder, false);
    world.run(3000 * MS);
    let groups = world.shape.groups as u64;
    if world.oracle.opened != opened + groups {
        world.broke("the group moved more than once".to_owned());
    }
}
