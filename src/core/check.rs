//! Checks: from single runs to verdicts, and from verdicts to how much a host falls short.

use std::time::Duration;

use crate::config::{self, Effect};
use crate::types::Instant;

use super::Node;
use super::event::Action;
use super::status::Severity;
use super::worth::Worth;

/// How often the pause before a recovered host counts again doubles, at most.
const MAX_DOUBLINGS: u32 = 5;
/// How many of those pauses without a relapse make a host as good as new.
const FORGIVEN: u32 = 8;

/// Rise and fall: how many runs in a row change a verdict. The first run alone makes the first one,
/// so that a host that starts need not wait for more. And which runs the core hears of: those that
/// change the verdict, and where it asked for one each until one passes.
#[derive(Clone, Debug)]
pub struct Debounce {
    rise: u32,
    fall: u32,
    verdict: Option<bool>,
    /// Runs in a row that said otherwise.
    against: u32,
    /// The core waits for a run that passes and began after it asked.
    owes: bool,
}

impl Debounce {
    /// Nothing is known yet.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, verdict: None, against: 0, owes: false }
    }

    /// The verdict; `None` before the first run.
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// A run begins; `asked` is whether the core has asked for one since the last began.
    pub fn begin(&mut self, asked: bool) {
        self.owes |= asked;
    }

    /// It ended; says whether the core is to hear of it.
    pub fn end(&mut self, passed: bool) -> bool {
        let owed = self.owes;
        self.owes &= !passed;
        self.count(passed) || owed
    }

    /// How long after a run the next one begins. A check that falls is looked at at once, or nearly:
    /// whether it has failed is to be known soon. One that rises has time, for a host that is well
    /// for a moment has not recovered.
    pub fn pause(&self, interval: Duration, fast: Duration) -> Duration {
        let falls = self.verdict == Some(true) && self.against > 0;
        if falls { fast } else { interval }
    }

    /// Counts a run; says whether the verdict changed.
    fn count(&mut self, passed: bool) -> bool {
        let Some(verdict) = self.verdict else {
            self.verdict = Some(passed);
            return true;
        };
        self.against = if passed == verdict { 0 } else { self.against + 1 };
        let needed = if verdict { self.fall } else { self.rise };
        let changed = self.against >= needed.max(1);
        if changed {
            (self.verdict, self.against) = (Some(passed), 0);
        }
        changed
    }
}

/// One run of a check, or what is known of it since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checked {
    /// Which check.
    pub name: Box<str>,
    /// When the run began.
    pub began: Instant,
    /// Whether it passed.
    pub passed: bool,
    /// The verdict by now.
    pub verdict: bool,
    /// What was found, in words.
    pub found: Box<str>,
}

/// One check as a group knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: Box<str>,
    pub(crate) effect: Effect,
    pub(crate) verdict: Option<bool>,
    pub(crate) since: Instant,
    pub(crate) found: Box<str>,
    /// It fails as the proxy does, which is started anew: that does not count yet.
    excused: bool,
    /// What it is made from: one that is otherwise now is unknown again.
    made: config::Check,
}

impl Known {
    /// What it finds, where it fails.
    pub(crate) fn fault(&self) -> &str {
        if self.verdict == Some(false) { &self.found } else { "" }
    }

    /// Whether it fails, and that counts.
    fn counts(&self) -> bool {
        self.verdict == Some(false) && !self.excused
    }

    /// How long a proxy has after its start until this check must pass: as long as it takes to find
    /// out that one is well that was not so from the first look on.
    fn grace(&self) -> Duration {
        (self.made.interval + self.made.timeout) * (self.made.rise + self.made.fall)
    }
}

fn unknown(now: Instant, check: &config::Check) -> Known {
    Known {
        name: check.name.as_str().into(),
        effect: check.effect,
        verdict: None,
        since: now,
        found: Box::default(),
        excused: false,
        made: check.clone(),
    }
}

/// The checks of one group on this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    checks: Vec<Known>,
    challenge: Option<Challenge>,
}

/// Somebody whose health is worse holds the group. What this host knows of its own may be as old as
/// an interval, and whatever failed there may fail here as well: it looks again before it takes
/// anything.
#[derive(Clone, Debug)]
struct Challenge {
    since: Instant,
    /// The checks that have not passed since.
    waits: Vec<Box<str>>,
}

impl Health {
    pub(crate) fn new(now: Instant, checks: &[config::Check]) -> Self {
        let mut health = Self::default();
        health.configure(now, checks);
        health
    }

    /// Other checks from now on; what is known of those that stay is kept.
    pub(crate) fn configure(&mut self, now: Instant, checks: &[config::Check]) {
        let mut was = std::mem::take(&mut self.checks);
        let known = |check: &config::Check| {
            let old = was.iter().position(|k| k.made == *check);
            old.map_or_else(|| unknown(now, check), |ix| was.swap_remove(ix))
        };
        self.checks = checks.iter().map(known).collect();
        self.challenge = None;
    }

    pub(crate) fn checks(&self) -> &[Known] {
        &self.checks
    }

    /// The checks that have not run yet.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter(|k| k.verdict.is_none()).map(|k| &*k.name)
    }

    /// The failing checks that disqualify.
    pub(crate) fn failing(&self) -> impl Iterator<Item = &Known> {
        let counts = |k: &&Known| k.effect == Effect::Disqualify && k.counts();
        self.checks.iter().filter(counts)
    }

    /// The failing checks that cost points.
    pub(crate) fn failing_scores(&self) -> impl Iterator<Item = &Known> {
        let scores = |k: &&Known| matches!(k.effect, Effect::Score(_));
        self.checks.iter().filter(scores).filter(|k| k.counts())
    }

    /// By how much this host falls short: what is not known yet counts as good.
    pub(crate) fn deficit(&self) -> u8 {
        if self.failing().next().is_some() {
            return Worth::UNFIT;
        }
        let weight = |k: &Known| match (k.effect, k.counts()) {
            (Effect::Score(weight), true) => weight,
            (Effect::Score(_) | Effect::Disqualify | Effect::Warn, _) => 0,
        };
        let sum = self.checks.iter().map(weight).fold(0_u8, u8::saturating_add);
        sum.min(Worth::UNFIT - 1)
    }

    /// Takes in a run; says what changed the verdict, and whether it is the first one.
    pub(crate) fn told(&mut self, now: Instant, told: &Checked) -> Option<(Known, bool)> {
        let known = self.checks.iter_mut().find(|k| k.name == told.name)?;
        if let Some(challenge) = &mut self.challenge
            && told.passed
            && told.began >= challenge.since
        {
            challenge.waits.retain(|name| *name != told.name);
        }
        known.found.clone_from(&told.found);
        if known.verdict == Some(told.verdict) {
            return None;
        }
        let first = known.verdict.is_none();
        // What was fine and is not may be mended in place; what never was, is not waited for.
        known.excused = known.made.restart_proxy && !first && !told.verdict;
        (known.verdict, known.since) = (Some(told.verdict), now);
        Some((known.clone(), first))
    }

    /// The check whose failure the proxy is to be started anew for, as it has run since `since` and
    /// had its time.
    pub(crate) fn blames(&self, now: Instant, since: Instant) -> Option<&Known> {
        self.blaming().find(|k| now >= since + k.grace())
    }

    /// When [`Health::blames`] may say so.
    pub(crate) fn blames_at(&self, since: Instant) -> Option<Instant> {
        self.blaming().map(|k| since + k.grace()).min()
    }

    fn blaming(&self) -> impl Iterator<Item = &Known> {
        self.checks.iter().filter(|k| k.made.restart_proxy && k.verdict == Some(false))
    }

    /// Nothing is mended in place: what fails counts.
    pub(crate) fn excuse_nothing(&mut self) {
        self.checks.iter_mut().for_each(|k| k.excused = false);
    }

    /// Whether somebody whose health is worse holds the group. Names the checks to be run at once.
    pub(crate) fn face(&mut self, now: Instant, worse: bool) -> Option<Vec<Box<str>>> {
        if !worse {
            self.challenge = None;
            return None;
        }
        if self.challenge.is_some() {
            return None;
        }
        let counts = |k: &&Known| k.effect != Effect::Warn && k.verdict == Some(true);
        let waits: Vec<_> = self.checks.iter().filter(counts).map(|k| k.name.clone()).collect();
        self.challenge = Some(Challenge { since: now, waits: waits.clone() });
        Some(waits).filter(|waits| !waits.is_empty())
    }

    /// Whether all that passed before somebody worse was seen to hold has passed again since.
    pub(crate) fn is_proven(&self) -> bool {
        self.challenge.as_ref().is_some_and(|c| c.waits.is_empty())
    }
}

/// What a recovery is worth. A host that got worse says so at once; one that got better waits before
/// it takes anything from a live holder, longer each time it relapses. So a cause that all hosts
/// share, which ends for each of them at another moment, moves nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damper {
    /// By how much this host falls short in the eyes of others.
    counted: u8,
    /// When what is better now counts.
    better_at: Option<Instant>,
    /// When it last did.
    recovered: Option<Instant>,
    relapses: u32,
}

impl Damper {
    /// Takes in by how much this host falls short now.
    pub(crate) fn update(&mut self, now: Instant, deficit: u8, pause: Duration) {
        let paused = self.pause(pause);
        if self.recovered.is_some_and(|at| now >= at + paused * FORGIVEN) {
            (self.recovered, self.relapses) = (None, 0);
        }
        if deficit >= self.counted {
            if deficit > self.counted && self.recovered.take().is_some() {
                self.relapses = (self.relapses + 1).min(MAX_DOUBLINGS);
            }
            (self.counted, self.better_at) = (deficit, None);
        } else if now >= *self.better_at.get_or_insert(now + paused) {
            (self.counted, self.better_at) = (deficit, None);
            self.recovered = Some(now);
        }
    }

    /// Nobody holds the group, or an operator says so: what is counts.
    pub(crate) fn forgive(&mut self, deficit: u8) {
        *self = Self { counted: deficit, ..Self::default() };
    }

    pub(crate) fn counted(&self) -> u8 {
        self.counted
    }

    /// When what is better now counts.
    pub(crate) fn better_at(&self) -> Option<Instant> {
        self.better_at
    }

    /// How often this host relapsed lately.
    pub(crate) fn relapses(&self) -> u32 {
        self.relapses
    }

    fn pause(&self, pause: Duration) -> Duration {
        pause * 2_u32.pow(self.relapses)
    }
}

impl Node {
    /// A check was run: each of its groups takes that in, people are told once.
    pub(super) fn checked(&mut self, now: Instant, told: &Checked, out: &mut Vec<Action>) {
        let effect = self.config.checks.iter().find(|c| *c.name == *told.name).map(|c| c.effect);
        let mut news = None;
        self.each(out, |group, out| news = group.checked(now, told, out).or(news));
        let (Some(effect), Some(first)) = (effect, news) else { return };
        self.cares.news();
        let (severity, kind) = match (told.verdict, effect) {
            (true, _) => (Severity::Info, "check-passed"),
            (false, Effect::Disqualify) => (Severity::Error, "check-failed"),
            (false, Effect::Score(_) | Effect::Warn) => (Severity::Warn, "check-failed"),
        };
        if !(first && told.verdict) {
            let text = format!("{}: {}", told.name, told.found);
            self.parts(out).1.note(now, severity, None, kind, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn runs_in_a_row_change_a_verdict() {
        let mut check = Debounce::new(2, 3);
        let runs = [
            (true, Some(true)),
            (false, Some(true)),
            (false, Some(true)),
            (true, Some(true)),
            (false, Some(true)),
            (false, Some(true)),
            (false, Some(false)),
            (true, Some(false)),
            (false, Some(false)),
            (true, Some(false)),
            (true, Some(true)),
        ];
        for (run, (passed, verdict)) in runs.into_iter().enumerate() {
            let was = check.verdict();
            check.begin(false);
            assert_eq!(check.end(passed), was != verdict, "run {run}");
            assert_eq!(check.verdict(), verdict, "run {run}");
        }
    }

    #[test]
    fn what_falls_is_looked_at_sooner_and_what_rises_is_not() {
        let mut check = Debounce::new(2, 3);
        let fast = S / 5;
        assert_eq!(check.pause(S, fast), S, "before the first");
        let runs = [
            (true, S, "good"),
            (false, fast, "one bad"),
            (true, S, "good again"),
            (false, fast, "one bad"),
            (false, fast, "two bad"),
            (false, S, "it has failed"),
            (false, S, "and goes on"),
            (true, S, "one good"),
            (false, S, "bad again"),
            (true, S, "one good"),
            (true, S, "it passes"),
        ];
        for (passed, pause, words) in runs {
            check.end(passed);
            assert_eq!(check.pause(S, fast), pause, "{words}");
        }
        let mut check = Debounce::new(1, 1);
        for passed in [false, true, false] {
            check.end(passed);
            assert_eq!(check.pause(S, fast), S, "nothing is between good and bad");
        }
    }

    #[test]
    fn who_asked_hears_of_each_run_until_one_passes() {
        let mut check = Debounce::new(1, 3);
        assert!(check.end(true), "the first");
        for (asked, passed, told) in [
            (false, true, false),
            (true, false, true),
            (false, false, true),
            (false, true, true),
            (false, true, false),
        ] {
            check.begin(asked);
            assert_eq!(check.end(passed), told, "{asked} {passed}");
        }
    }

    /// The check says of the proxy that it hangs, and has done so since `since`.
    fn hung(verdicts: &[bool]) -> Health {
        let check = config::Check {
            name: "admin".to_owned(),
            what: config::Probe::Unit("haproxy.service".to_owned()),
            effect: Effect::Disqualify,
            interval: S,
            fast_interval: S / 5,
            timeout: S / 2,
            rise: 2,
            fall: 2,
            restart_proxy: true,
            groups: Vec::new(),
        };
        let mut health = Health::new(at(0), &[check]);
        for (second, verdict) in (1..).zip(verdicts) {
            let (name, began, found) = ("admin".into(), at(second), "no answer".into());
            let told = Checked { name, began, passed: *verdict, verdict: *verdict, found };
            health.told(at(second), &told);
        }
        health
    }

    #[test]
    fn what_is_mended_in_place_does_not_count_until_that_is_given_up() {
        let mut health = hung(&[true, false]);
        assert_eq!((health.deficit(), health.failing().count()), (0, 0));
        assert!(health.blames(at(2), at(0)).is_none(), "it has only just been started");
        assert_eq!(health.blames_at(at(0)), Some(at(6)));
        assert!(health.blames(at(6), at(0)).is_some());
        health.excuse_nothing();
        assert_eq!((health.deficit(), health.failing().count()), (Worth::UNFIT, 1));
        // Once it passes nothing is to be blamed, and its next failure is mended again.
        let health = hung(&[true, false, true]);
        assert!(health.blames(at(9), at(0)).is_none());
        assert_eq!(hung(&[true, false, true, false]).deficit(), 0);
    }

    #[test]
    fn what_never_passed_counts() {
        let health = hung(&[false]);
        assert_eq!(health.deficit(), Worth::UNFIT);
        assert!(health.blames(at(6), at(0)).is_some(), "a new proxy may help all the same");
    }

    #[test]
    fn worse_counts_at_once_and_better_after_a_pause() {
        let mut damper = Damper::default();
        damper.update(at(1), 30, 4 * S);
        assert_eq!(damper.counted(), 30);
        damper.update(at(2), 0, 4 * S);
        damper.update(at(5), 0, 4 * S);
        assert_eq!((damper.counted(), damper.better_at()), (30, Some(at(6))));
        damper.update(at(6), 0, 4 * S);
        assert_eq!((damper.counted(), damper.better_at()), (0, None));
    }

    #[test]
    fn each_relapse_doubles_the_pause_and_health_forgives_them() {
        let mut damper = Damper::default();
        let mut now = 0;
        for pause in [4, 8, 16, 32, 64, 128, 128] {
            now += 1;
            damper.update(at(now), Worth::UNFIT, 4 * S);
            damper.update(at(now), 0, 4 * S);
            assert_eq!(damper.better_at(), Some(at(now + pause)));
            now += pause;
            damper.update(at(now), 0, 4 * S);
            assert_eq!(damper.counted(), 0);
        }
        damper.update(at(now + 128 * 8), 0, 4 * S);
        assert_eq!(damper.relapses(), 0);
    }
}
