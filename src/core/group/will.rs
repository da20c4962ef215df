//! What operators allow a group on this host: the one place that knows.

use super::super::Out;
use super::super::event::Action;
use super::{Group, State, Then};
use crate::types::Instant;

/// What operators have decided about a group on this host.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// It must not be held here: why, in words.
    forbidden: Option<String>,
    /// Nothing is to be done about it.
    hands_off: bool,
    /// It was held here as the hands were taken off: it may come back here, as that moves nothing.
    mine: bool,
}

impl Group {
    /// Why this host must not hold it, an operator says.
    pub(crate) fn forbidden(&self) -> Option<&str> {
        self.bounds.forbidden.as_deref()
    }

    /// Whether nothing is to be done about it.
    pub(crate) fn is_hands_off(&self) -> bool {
        self.bounds.hands_off
    }

    /// Whether operators let this host take it.
    pub(super) fn is_allowed(&self) -> bool {
        self.forbidden().is_none() && (!self.bounds.hands_off || self.bounds.mine)
    }

    /// Whether operators, and the groups it is kept together with, let this host take it.
    pub(super) fn may_take(&self) -> bool {
        self.is_allowed() && self.ties.bar().is_none()
    }

    /// Takes in what operators have decided. With the hands off what is held stays, also where it
    /// is forbidden: that is done when they are on again.
    pub(crate) fn heed(
        &mut self,
        now: Instant,
        forbidden: Option<String>,
        hands_off: bool,
        out: &mut Out<'_>,
    ) {
        let held = self.is_active() || self.is_heir();
        if self.bounds.hands_off != hands_off {
            self.bounds.hands_off = hands_off;
            self.bounds.mine = hands_off && held;
            if let Some(proxy) = &mut self.proxy {
                proxy.set_hands_off(hands_off);
            }
        }
        let forbidden = forbidden.filter(|_| !(hands_off && held));
        if self.bounds.forbidden != forbidden {
            self.bounds.forbidden = forbidden;
            self.comply(now, out);
        }
        self.settle(now, out);
    }

    fn comply(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(why) = self.bounds.forbidden.clone() else {
            if matches!(self.state, State::Init { .. }) && self.ready.is_ok() && !self.stopping {
                self.wait_to_listen(now, out);
            }
            return;
        };
        if self.is_heir() {
            self.disinherit(now);
            if !self.is_leased() {
                out.push(Action::Gate { group: self.id, until: None });
            }
        }
        match self.state {
            State::Active => self.release(now, Then::Init, why, out),
            State::Backup => self.init(now, why, out),
            State::Releasing { until, .. } => {
                self.state = State::Releasing { until, then: Then::Init };
            }
            State::Init { .. } if self.ready.is_ok() && !self.stopping => {
                self.stays_out();
            }
            State::Init { .. } => {}
        }
    }

    /// Whether it takes no part, as an operator says: that is why, then.
    pub(super) fn stays_out(&mut self) -> bool {
        let Some(why) = self.bounds.forbidden.clone() else { return false };
        self.state = State::Init { listen_at: None };
        self.why = why;
        true
    }
}
