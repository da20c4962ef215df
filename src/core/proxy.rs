//! The care of one proxy: wanted or not, started and stopped by order, restarted a limited number
//! of times when it dies.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::{Proxy, Run};
use crate::types::Instant;

use super::event::{ProxyEvent, ProxyOrder};

/// How long to wait before a broken proxy is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long a proxy must run before its failures are behind it.
const PROVEN: Duration = Duration::from_secs(10);
/// How long to wait before the second restart and the later ones: the first is immediate.
const RESTART_GAP: Duration = Duration::from_secs(1);

/// One group's proxy.
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
    failures: VecDeque<Instant>,
    /// Restarted too often; when it will be tried again.
    broken: Option<Instant>,
    start_at: Option<Instant>,
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
            broken: None,
            start_at: None,
            hands_off: false,
        }
    }

    /// Whether this host can serve: not after too many failures.
    pub(crate) fn is_fit(&self) -> bool {
        self.broken.is_none()
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
        self.want = want;
    }

    /// From now on it is left as it is, or looked after again.
    pub(crate) fn set_hands_off(&mut self, hands_off: bool) {
        self.hands_off = hands_off;
    }

    pub(crate) fn is_hands_off(&self) -> bool {
        self.hands_off
    }

    /// Its failures are behind it: it is tried at once.
    pub(crate) fn clean_up(&mut self) {
        self.failures.clear();
        (self.broken, self.start_at, self.last_failure) = (None, None, None);
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
        self.start_at = None;
        self.broken = self.broken.map(|_| now + AGAIN);
        Some(order)
    }

    /// Takes what was reported; says what is worth telling.
    pub(crate) fn report(&mut self, now: Instant, event: &ProxyEvent) -> Option<Told> {
        let ordered_stop = self.order == Some(ProxyOrder::Stop);
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

    /// Counts a failure; says whether it will be restarted.
    fn fail(&mut self, now: Instant, why: &str) -> bool {
        self.last_failure = Some(why.into());
        if self.hands_off {
            return false;
        }
        while self.failures.front().is_some_and(|at| now > *at + self.config.restart_window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let limit = usize::try_from(self.config.restarts).unwrap_or(usize::MAX);
        if self.failures.len() > limit {
            while self.failures.len() > limit + 1 {
                self.failures.pop_front();
            }
            self.broken = Some(now + AGAIN);
            return false;
        }
        if self.failures.len() > 1 {
            self.start_at = Some(now + RESTART_GAP);
        }
        true
    }

    /// Lets time pass: a proxy that stays up is whole again, and so is one that is not wanted
    /// once its failures are old.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.mended_at().is_some_and(|at| now >= at) {
            self.broken = None;
            self.failures.clear();
        }
    }

    fn mended_at(&self) -> Option<Instant> {
        self.broken?;
        if matches!(self.state, State::Running(_)) {
            Some(self.since + PROVEN)
        } else if self.want {
            None
        } else {
            self.failures.back().map(|at| *at + self.config.restart_window)
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
        [start, self.mended_at()].into_iter().flatten().min()
    }
}
