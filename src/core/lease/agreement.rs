//! Which configuration the votes are about. One hash covers everything that decides who may serve
//! what; a change of it counts once every voter has it: first all are ready, then each switches,
//! and votes again when it has seen all others with the same.

use std::collections::BTreeMap;

use crate::types::{Digest, Instant};

use super::super::event::Action;
use super::{Elector, Lease, Setup};

impl Lease {
    /// A configuration that is to be switched to once everybody is ready to.
    pub fn announce(&mut self, next: Digest) {
        self.next = next;
        self.beat_at = Instant::BOOT;
    }

    /// Whether every voter is ready to switch to what was announced.
    pub fn may_switch(&self, now: Instant) -> bool {
        self.next != self.digest && self.everybody(now, Elector::accepts)
    }

    /// Switches to what was announced, or at once to something else. What was asked under the old
    /// terms is void; votes given stay given. `groups` says where in the new configuration the
    /// groups of the old one are; others are dropped by then.
    pub fn switch(
        &mut self,
        now: Instant,
        setup: &Setup,
        groups: &BTreeMap<u16, u16>,
        out: &mut Vec<Action>,
    ) {
        // With everybody ready the voters are the same, and every majority of theirs remembers.
        let agreed = self.may_switch(now) && self.next == setup.digest;
        let quiet = self.terms.vote.max(setup.terms.vote);
        let old = std::mem::take(&mut self.seats);
        for (was, mut seat) in old {
            let Some(is) = groups.get(&was) else { continue };
            // Who waits for the new terms to pass must find nothing open from the old ones.
            seat.holder.limit(now + setup.terms.term);
            seat.reported = None;
            if seat.holder.is_open() {
                out.push(Action::Gate { group: *is, until: Some(seat.holder.until()) });
            }
            self.seats.insert(*is, seat);
        }
        self.terms = setup.terms;
        self.me = setup.me;
        self.electors.resize(setup.voters, Elector::default());
        self.digest = setup.digest;
        self.next = setup.digest;
        self.settled = setup.confirmed == Some(setup.digest);
        if !agreed || self.quiet_after.is_some() {
            self.quiet_after = self.quiet_after.max(Some(quiet));
        }
        self.beat_at = Instant::BOOT;
        self.settle(now, out);
    }

    fn everybody(&self, now: Instant, is: impl Fn(&Elector, Digest) -> bool) -> bool {
        self.others().all(|voter| {
            let elector = &self.electors[voter.index()];
            elector.is_alive(now, self.alive()) && is(elector, self.next)
        })
    }

    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.settled || !self.everybody(now, |elector, _| elector.runs(self.digest)) {
            return;
        }
        self.settled = true;
        if let Some(quiet) = self.quiet_after.take() {
            self.quiet_until = self.quiet_until.max(now + quiet);
        }
        out.push(Action::Settled(self.digest));
    }
}
