//! A group that is held by lease, and the gate that goes with either way of holding.

use crate::types::{Instant, Priority};

use super::super::Out;
use super::super::event::Action;
use super::super::lease::Stand;
use super::{Group, State, Then};

/// How many advertisement intervals the gate of a plain VRRP router stays open after an advert:
/// those after which no other router takes over earlier (RFC 9568 §6.1, without its skew time).
const DEAD_MAN: u32 = 3;

impl Group {
    /// Whether only a lease lets this group be held.
    pub(crate) fn is_leased(&self) -> bool {
        self.config.safety.is_leased()
    }

    /// What the group wants of the lease; `gate` is whether the kernel's gate can be relied upon.
    pub(crate) fn stand(&self, gate: bool) -> Stand {
        let heir = self.heir.is_some() && !self.stopping;
        Stand {
            able: self.state == State::Backup
                && self.ready.is_ok()
                && gate
                && !self.stopping
                && self.may_take(),
            keeps: self.is_active() || heir,
            frozen: !gate,
            worth: self.worth(),
            preempts_after: self.config.preempt.then_some(self.config.preempt_delay),
            stickiness: self.config.stickiness,
            proven: self.health.is_proven() && self.ties.is_proven(),
            gap: self.last_gap,
            stuck: self.is_stuck(),
        }
    }

    /// The lease is over, or this group gives way.
    pub(crate) fn lose_lease(&mut self, now: Instant, why: String, out: &mut Out<'_>) {
        self.disinherit(now);
        self.last_gap = None;
        if self.is_active() {
            self.release(now, Then::Backup, why, out);
            self.settle(now, out);
        }
    }

    /// The gate is shut: the others may be told that nothing is served here any more, though the
    /// addresses are still being removed.
    pub(crate) fn say_farewell(&mut self, out: &mut Out<'_>) {
        if std::mem::take(&mut self.farewell) && self.ready.is_ok() {
            for ix in 0..self.elections.len() {
                let family = self.elections[ix].family;
                self.send(family, Priority::RELEASE, out);
            }
        }
    }

    /// Whether an earlier run left the group open, and this one has not gone on yet.
    pub(crate) fn is_heir(&self) -> bool {
        self.heir.is_some()
    }

    /// What an earlier run held is not gone on with.
    pub(crate) fn disinherit(&mut self, now: Instant) {
        if self.heir.take().is_some() {
            self.addresses.set_wanted(now, false);
        }
    }

    /// Goes on where an earlier run of the daemon was stopped: the kernel has served all the time.
    pub(super) fn resume(&mut self, now: Instant, out: &mut Out<'_>) {
        self.heir = None;
        self.take(now, "went on after a restart".to_owned(), out);
        self.addresses.announce_again(now);
    }

    /// Whether the settings it is to start anew with are held by lease.
    fn will_be_leased(&self) -> bool {
        self.replacement.as_ref().is_some_and(|s| s.config.safety.is_leased())
    }

    /// Shuts the gate of a plain VRRP router at once when its group is to be held by lease: the
    /// voters will not wait until its addresses are gone.
    pub(super) fn shut_for_lease(&mut self, out: &mut Out<'_>) {
        if !self.is_leased() && self.will_be_leased() {
            out.push(Action::Gate { group: self.id, until: None });
        }
    }

    /// Lets the kernel serve for as long as no other router can have taken over; with a lease that
    /// is the lease's to say.
    pub(super) fn keep_open(&mut self, now: Instant, out: &mut Out<'_>) {
        if !self.is_leased() && !self.will_be_leased() {
            let until = now + DEAD_MAN * self.config.interval.duration();
            out.push(Action::Gate { group: self.id, until: Some(until) });
        }
    }
}
