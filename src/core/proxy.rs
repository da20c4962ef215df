//! The care of one proxy: wanted or not, started and stopped by order, restarted a limited number
//! of times when it dies.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::{Proxy, Run};
use crate::types::Instant;

use super::event::{Failures, MOST_FAILURES, ProxyEvent, ProxyOrder};

/// How long to wait before a broken proxy is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long a proxy that failed too often must run before it can serve again.
const PROVEN: Duration = Duration::from_secs(10);
/// How long to wait before the second restart and the later ones: the first is immediate.
const RESTART_GAP: Duration = Duration::from_secs(1);

/// One group's proxy.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(crate) struct Care {
    pub(crate) config: Proxy,
    pub(crate) state: State,
    pub(crate) since: Instant,
    pub(crate) last_failure: Option<Box<str>>,
    /// What systemd would do behind our back, in words.
    pub(crate) notice: Option<Box<str>>,
    want: bool,
    order: Option<ProxyOrder>,
    /// When each that has not expired will.
    failures: VecDeque<Instant>,
    /// They changed, and that is to be kept and told.
    news: bool,
    /// It failed too often and has not run for long since; when it will be tried again.
    broken: Option<Instant>,
    start_at: Option<Instant>,
    /// It runs, and is to be started anew.
    renew: bool,
    /// Nothing is done about it, whatever becomes of it.
    hands_off: bool,
}

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Unknown(Option<Box<str>>),
    Stopped,
    Starting,
    Running(u32),
    Stopping,
    Failed,
    Stuck(Box<str>),
}

impl State {
    /// The state in a word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running(_) => "running",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Stuck(_) => "stuck",
        }
    }
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Running,
    Died { how: Box<str>, restarting: bool },
    Stopped,
    NotStarted { why: Box<str>, restarting: bool },
    Stuck(Box<str>),
    Unknown(Box<str>),
    Notice(Box<str>),
}

impl Care {
    pub(crate) fn new(now: Instant, config: Proxy) -> Self {
        let want = config.run == Run::Always;
        Self {
            config,
            state: State::Unknown(None),
            since: now,
            last_failure: None,
            notice: None,
            want,
            order: None,
            failures: VecDeque::new(),
            news: false,
            broken: None,
            start_at: None,
            renew: false,
            hands_off: false,
        }
    }

    /// What was known of its failures before.
    pub(crate) fn recall(&mut self, now: Instant, past: &Failures) {
        let expiry = self.config.failure_expiry;
        let mut left: Vec<_> = past
            .ago
            .iter()
            .filter_map(|ago| expiry.checked_sub(*ago))
            .take(MOST_FAILURES)
            .collect();
        left.sort_unstable();
        self.failures = left.into_iter().map(|left| now + left).collect();
        self.last_failure.clone_from(&past.last);
        self.expire(now);
    }

    /// Its failures; `None` where there are none.
    pub(crate) fn past(&self, now: Instant, group: &str) -> Option<Failures> {
        let ago: Vec<_> = self.failures.iter().map(|at| self.ago(now, *at)).collect();
        let (group, last) = (group.to_owned(), self.last_failure.clone());
        (!ago.is_empty()).then_some(Failures { group, ago, last })
    }

    /// How long ago it last failed, of what has not expired.
    pub(crate) fn failed(&self, now: Instant) -> Option<Duration> {
        self.failures.back().map(|at| self.ago(now, *at))
    }

    fn ago(&self, now: Instant, expires: Instant) -> Duration {
        self.config.failure_expiry.saturating_sub(expires.since(now))
    }

    /// Whether its failures are others than when this was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Whether this host can serve: not after too many failures, until it has run for a while.
    pub(crate) fn is_fit(&self) -> bool {
        self.broken.is_none()
    }

    /// Whether it failed so often that another host is to be preferred.
    pub(crate) fn is_suspect(&self) -> bool {
        self.failures.len() >= self.threshold()
    }

    fn threshold(&self) -> usize {
        usize::try_from(self.config.migration_threshold).unwrap_or(usize::MAX)
    }

    /// Since when it has run and is looked after, and nothing is being done about it.
    pub(crate) fn runs_since(&self) -> Option<Instant> {
        let quiet = self.want && !self.hands_off && self.order.is_none() && !self.renew;
        (quiet && matches!(self.state, State::Running(_))).then_some(self.since)
    }

    /// It runs and does not serve, as a check found: that is a failure, and it is started anew. Says
    /// whether in place.
    pub(crate) fn blame(&mut self, now: Instant, why: &str) -> bool {
        self.renew = true;
        self.fail(now, why)
    }

    pub(crate) fn failures(&self) -> u32 {
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Running(_) | State::Starting)
    }

    /// Whether nothing of it is left to be waited for before the daemon may end.
    pub(crate) fn is_settled(&self) -> bool {
        match self.state {
            State::Stopped | State::Failed | State::Unknown(_) | State::Stuck(_) => true,
            State::Running(_) | State::Starting | State::Stopping => !self.must_stop(),
        }
    }

    /// A unit that runs everywhere outlives vipd; everything else stops with it.
    pub(crate) fn must_stop(&self) -> bool {
        self.config.run == Run::Active
            || matches!(self.config.what, crate::config::ProxyKind::Command { .. })
    }

    /// Why it does not stop.
    pub(crate) fn stands(&self) -> Option<&str> {
        if let State::Stuck(why) = &self.state { Some(why) } else { None }
    }

    /// Why it does not stop, where it is to.
    pub(crate) fn stuck(&self) -> Option<&str> {
        match &self.state {
            State::Stuck(why) if !self.want => Some(why),
            State::Stuck(_)
            | State::Unknown(_)
            | State::Stopped
            | State::Starting
            | State::Running(_)
            | State::Stopping
            | State::Failed => None,
        }
    }

    pub(crate) fn set_wanted(&mut self, want: bool) {
        if want && !self.want {
            self.start_at = None;
        }
        self.renew &= want;
        self.want = want;
    }

    /// From now on it is left as it is, or looked after again.
    pub(crate) fn set_hands_off(&mut self, hands_off: bool) {
        self.hands_off = hands_off;
    }

    pub(crate) fn is_hands_off(&self) -> bool {
        self.hands_off
    }

    /// Its failures of before `age` ago are behind it: it is tried at once, unless it has failed too
    /// often since.
    pub(crate) fn clean_up(&mut self, now: Instant, age: Duration) {
        let since = (now + self.config.failure_expiry).before(age);
        let before = self.failures.len();
        self.failures.retain(|expires| *expires > since);
        self.news |= self.failures.len() != before;
        if self.is_suspect() {
            return;
        }
        (self.broken, self.start_at, self.renew) = (None, None, false);
        if self.failures.is_empty() {
            self.last_failure = None;
        }
    }

    /// The order that would bring the proxy to what is wanted.
    pub(crate) fn next(&mut self, now: Instant) -> Option<ProxyOrder> {
        if self.hands_off {
            return None;
        }
        let order = match (&self.state, self.want) {
            (State::Stopped | State::Failed, true)
                if self.broken.is_none_or(|at| now >= at)
                    && self.start_at.is_none_or(|at| now >= at) =>
            {
                ProxyOrder::Start
            }
            (State::Running(_) | State::Starting, false) => ProxyOrder::Stop,
            (State::Running(_) | State::Starting, true) if self.renew => ProxyOrder::Kill,
            (
                State::Unknown(_)
                | State::Stopped
                | State::Failed
                | State::Running(_)
                | State::Starting
                | State::Stopping
                | State::Stuck(_),
                _,
            ) => return None,
        };
        if self.order == Some(order) {
            return None;
        }
        self.order = Some(order);
        if order == ProxyOrder::Start {
            self.start_at = None;
            self.broken = self.broken.map(|_| now + AGAIN);
        }
        self.renew = false;
        Some(order)
    }

    /// Takes what was reported; says what is worth telling.
    pub(crate) fn report(&mut self, now: Instant, event: &ProxyEvent) -> Option<Told> {
        let ordered_stop = matches!(self.order, Some(ProxyOrder::Stop | ProxyOrder::Kill));
        let was = std::mem::replace(&mut self.state, State::Unknown(None));
        let was_up = matches!(was, State::Running(_) | State::Starting);
        let (state, told) = match event {
            ProxyEvent::Running { pid } => {
                self.order = None;
                let news = was != State::Running(*pid);
                (State::Running(*pid), news.then_some(Told::Running))
            }
            ProxyEvent::Starting => (State::Starting, None),
            ProxyEvent::Stopping => (State::Stopping, None),
            ProxyEvent::Stopped { how } => {
                let starting = self.order == Some(ProxyOrder::Start) && !was_up;
                if !starting {
                    self.order = None;
                }
                let died = self.want && !ordered_stop && was_up;
                let told = if died {
                    let restarting = self.fail(now, how);
                    Some(Told::Died { how: how.clone(), restarting })
                } else {
                    ordered_stop.then_some(Told::Stopped)
                };
                (State::Stopped, told)
            }
            ProxyEvent::Failed { why } => {
                self.order = None;
                let restarting = self.want && self.fail(now, why);
                (State::Failed, Some(Told::NotStarted { why: why.clone(), restarting }))
            }
            ProxyEvent::Stuck { why } => {
                self.order = None;
                if self.want {
                    // It is in the way of the one that is to serve.
                    self.broken = Some(now + AGAIN);
                }
                (State::Stuck(why.clone()), Some(Told::Stuck(why.clone())))
            }
            ProxyEvent::Unknown { why } => {
                self.order = None;
                let news = !matches!(was, State::Unknown(Some(_)));
                (State::Unknown(Some(why.clone())), news.then(|| Told::Unknown(why.clone())))
            }
            ProxyEvent::Notice { text } => {
                self.notice = Some(text.clone());
                self.state = was;
                return Some(Told::Notice(text.clone()));
            }
        };
        if state != was {
            self.since = now;
        }
        self.state = state;
        told
    }

    /// Counts a failure; says whether it will be restarted in place.
    fn fail(&mut self, now: Instant, why: &str) -> bool {
        self.last_failure = Some(why.into());
        if self.hands_off {
            return false;
        }
        self.expire(now);
        if self.failures.len() >= MOST_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(now + self.config.failure_expiry);
        self.news = true;
        if self.is_suspect() {
            // One that ran for a while may do so again, if nobody else can serve meanwhile.
            let ran = self.broken.is_none() && now >= self.since + PROVEN;
            self.broken = Some(now + if ran { RESTART_GAP } else { AGAIN });
            return false;
        }
        if self.failures.len() > 1 {
            self.start_at = Some(now + RESTART_GAP);
        }
        true
    }

    fn expire(&mut self, now: Instant) {
        while self.failures.front().is_some_and(|at| now >= *at) {
            self.failures.pop_front();
        }
    }

    /// Lets time pass: failures expire, and a proxy that stays up can serve again, as one that is
    /// not wanted once its failures have expired.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.expire(now);
        if self.mended_at().is_some_and(|at| now >= at) {
            self.broken = None;
        }
    }

    fn mended_at(&self) -> Option<Instant> {
        self.broken?;
        if matches!(self.state, State::Running(_)) && !self.renew {
            Some(self.since + PROVEN)
        } else if self.want {
            None
        } else {
            self.failures.back().copied()
        }
    }

    /// When the care has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let down = matches!(self.state, State::Stopped | State::Failed);
        let start = if down && self.want && self.order.is_none() && !self.hands_off {
            self.start_at.max(self.broken)
        } else {
            None
        };
        let expiry = self.failures.front().copied();
        [start, self.mended_at(), expiry].into_iter().flatten().min()
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
