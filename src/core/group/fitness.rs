//! How good this host is for the group, what is told of that, and what follows from it.

use std::net::IpAddr;

use crate::types::{Instant, Priority};

use super::super::check::Checked;
use super::super::event::Action;
use super::super::proxy::Care;
use super::super::status::Severity;
use super::super::worth::Worth;
use super::super::{Out, why};
use super::{Group, State, Then, YIELD_AGAIN};

impl Group {
    /// Whether this host can serve the addresses well.
    pub(crate) fn is_fit(&self) -> bool {
        self.deficit() < Worth::UNFIT
    }

    /// By how much this host falls short now.
    pub(crate) fn deficit(&self) -> u8 {
        let whole = self.addresses.trouble().is_none();
        if whole && self.proxy.as_ref().is_none_or(Care::is_fit) {
            self.health.deficit()
        } else {
            Worth::UNFIT
        }
    }

    /// How good this host is. Whoever holds is as good as it is now; whoever would hold must have
    /// been so for a while, and its proxy not have failed too often lately.
    pub(crate) fn worth(&self) -> Worth {
        let own = self.shortfall(self.is_active() || self.is_heir());
        Worth::new(self.priority, own.max(self.ties.deficit())).beside(self.ties.crowd)
    }

    /// By how much it falls short itself; `held` is whether this host has it, or one that is kept
    /// together with it.
    pub(crate) fn shortfall(&self, held: bool) -> u8 {
        let suspect = if self.is_suspect() { Worth::SUSPECT } else { 0 };
        let counted = self.damper.counted().max(suspect);
        if held { self.deficit() } else { self.deficit().max(counted) }
    }

    /// The priority in force.
    pub(crate) fn effective_priority(&self) -> Priority {
        self.worth().effective()
    }

    /// How good this host and whoever advertises are. Of a router of another make only its priority
    /// is known, and it knows no more of this host.
    pub(crate) fn against(&self, from: IpAddr, priority: Priority) -> (Worth, Worth) {
        match self.rivals.iter().find(|(ip, _)| *ip == from) {
            Some((_, configured)) => {
                let theirs = Worth::heard(configured.unwrap_or(priority), priority);
                // Both sides are to judge by what both know, or both would be the better one.
                let said = self.effective_priority();
                let own = match configured {
                    Some(_) => self.worth(),
                    None => Worth::heard(said, said).beside(self.worth().crowd().into()),
                };
                (own, theirs.beside(self.ties.crowd_of(from)))
            }
            None => (Worth::new(self.effective_priority(), 0), Worth::new(priority, 0)),
        }
    }

    /// Somebody holds the group, or nobody: if its health is worse, this host first looks whether
    /// its own still is what it was.
    pub(crate) fn face(&mut self, now: Instant, holder: Option<Worth>, out: &mut Out<'_>) {
        let (own, stickiness) = (self.worth(), self.config.stickiness);
        let backup = self.state == State::Backup;
        let worse = holder.is_some_and(|holder| backup && own.is_healthier(holder, stickiness));
        if let Some(checks) = self.health.face(now, worse) {
            out.push(Action::Hasten(checks));
        }
    }

    /// A check was run; says whether that changed what is known, and whether it was the first time.
    pub(crate) fn checked(
        &mut self,
        now: Instant,
        told: &Checked,
        out: &mut Out<'_>,
    ) -> Option<bool> {
        let proven = self.health.is_proven();
        let news = self.health.told(now, told);
        let waiting = self.state == State::Init { listen_at: None } && !self.stopping;
        if waiting && self.ready.is_ok() && !self.is_heir() {
            self.wait_to_listen(now, out);
        }
        if !proven && self.health.is_proven() && !self.is_leased() && self.state == State::Backup {
            self.elections.iter_mut().for_each(|e| e.hurry(now));
        }
        self.settle(now, out);
        news.map(|(_, first)| first)
    }

    /// Tells when this host becomes unfit, and when it can serve again; keeps in mind since when.
    pub(super) fn note_fitness(&mut self, now: Instant, out: &mut Out<'_>) {
        self.damper.update(now, self.deficit(), self.recovery_delay);
        match (self.is_fit(), self.unfit_since) {
            (false, None) => {
                self.unfit_since = Some(now);
                let text =
                    format!("{}; this host uses priority 1 until it recovers", why::unfit(self));
                self.note(now, Severity::Error, "unfit", text, out);
            }
            (true, Some(since)) => {
                self.unfit_since = None;
                let text =
                    format!("this host can serve again after {}", why::span(now.since(since)));
                self.note(now, Severity::Info, "fit", text, out);
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    /// An unfit holder gives way, and finds out so whether anybody fitter is there; if nobody is, it
    /// takes the addresses back with the least priority. Where checks fail it stays: nodes that are
    /// better take over from it. Routers of other makes may not do that.
    pub(super) fn yield_if_unfit(&mut self, now: Instant, out: &mut Out<'_>) {
        if self.is_fit() || self.is_hands_off() {
            self.yield_at = None;
            self.yield_pause = YIELD_AGAIN;
            return;
        }
        if self.gives_way_unfit() && self.yield_at.is_none_or(|at| now >= at) {
            let why = format!("unfit: {}", why::unfit(self));
            self.yield_at = None;
            self.release(now, Then::Backup, why, out);
        }
    }

    /// Whether it gives way as it is unfit. What a check finds may be found everywhere: then nothing
    /// is to move.
    fn gives_way_unfit(&self) -> bool {
        let local = self.health.failing().next().is_none() && !self.destinations.is_empty();
        local || !self.config.routers.is_empty()
    }

    /// When a holder that is unfit, and has found nobody fitter, looks for somebody again.
    pub(super) fn yields_at(&self) -> Option<Instant> {
        self.yield_at.filter(|_| !self.is_fit() && self.gives_way_unfit())
    }
}
