//! Which configuration the votes are about. One hash covers everything that decides who may serve
//! what; a change of it counts once every voter has it: first all are ready, then each switches,
//! and votes again when it has seen all others with the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::types::{Digest, GateId, Instant, VoterIx, Voters};

use super::super::event::Action;
use super::doubts::Proofs;
use super::{Aside, Elector, Lease, Seat, Setup};

/// What a new configuration changes for the lease. Groups are named by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// Where the groups of the old one are in the new one.
    pub kept: BTreeMap<u16, u16>,
    /// Those of the new one that have addresses they had not: another may still serve those.
    pub grown: BTreeSet<u16>,
    /// All of the new one.
    pub all: BTreeSet<u16>,
    /// The voters are others: after a few such changes in a row, a majority of those before and one
    /// of those after need not have a voter in common.
    pub voters: bool,
    /// Where the voters of the old one are in the new one.
    pub places: BTreeMap<VoterIx, VoterIx>,
}

impl Transition {
    /// From one configuration to another.
    pub fn new(old: &Config, new: &Config) -> Self {
        let voters = !old.voters().map(|v| v.name).eq(new.voters().map(|v| v.name));
        let named = |is: &str| (0..).zip(new.voters()).find(|(_, v)| v.name == is);
        let places = (0..).zip(old.voters());
        let places = places.filter_map(|(was, v)| Some((VoterIx(was), VoterIx(named(v.name)?.0))));
        let mut found = Self { voters, places: places.collect(), ..Self::default() };
        for (is, group) in (0..).zip(&new.groups).filter(|(_, g)| g.safety.is_leased()) {
            found.all.insert(is);
            let mut before = (0..).zip(&old.groups).filter(|(_, g)| g.safety.is_leased());
            let Some((was, before)) = before.find(|(_, g)| g.name == group.name) else { continue };
            found.kept.insert(was, is);
            if !group.addresses.iter().all(|a| before.addresses.iter().any(|b| a.ip == b.ip)) {
                found.grown.insert(is);
            }
        }
        found
    }

    /// Where a group of the old one is in the new one.
    pub fn place(&self, old: u16) -> Option<u16> {
        self.kept.get(&old).copied()
    }
}

impl Lease {
    /// A configuration that is to be switched to once everybody is ready to.
    pub fn announce(&mut self, now: Instant, next: Digest) {
        self.next = next;
        self.beat_at = now;
    }

    /// Whether every voter is ready to switch to what was announced.
    pub fn may_switch(&self, now: Instant) -> bool {
        self.next != self.digest && self.everybody(now, Elector::accepts)
    }

    /// Switches to what was announced, or at once to something else. What was asked under the old
    /// terms is void; votes given stay given.
    pub fn switch(
        &mut self,
        now: Instant,
        setup: &Setup,
        change: &Transition,
        out: &mut Vec<Action>,
    ) {
        // With everybody ready the voters are the same, and every majority of theirs remembers.
        let agreed = self.may_switch(now) && self.next == setup.digest;
        let quiet = self.terms.vote.max(setup.terms.vote);
        self.terms = setup.terms;
        self.me = setup.me;
        self.nodes = setup.nodes;
        self.fences.clone_from(&setup.fences);
        let before = std::mem::replace(&mut self.strict, setup.strict.clone());
        self.switched += 1;
        let run = GateId(self.run.0.wrapping_add(u128::from(self.switched)));
        let others = self.other_nodes();
        let old = std::mem::take(&mut self.seats);
        for (was, mut seat) in old {
            let Some(is) = change.kept.get(&was) else { continue };
            // Who waits for the new terms to pass must find nothing open from the old ones.
            seat.holder.limit(now + setup.terms.term);
            seat.reported = None;
            if change.voters {
                seat.voter.renumber(&change.places);
            }
            seat.voter = if self.strict.contains(is) {
                // Who may serve what is new in a group is in doubt, as are all under new rules.
                let same = before.contains(&was) && !change.grown.contains(is) && !change.voters;
                let doubted = if same { seat.voter.doubted() } else { others };
                seat.voter.strict(doubted, run)
            } else {
                seat.voter.lax()
            };
            if seat.holder.is_open() {
                let until = Some(seat.holder.until()).filter(|_| !change.grown.contains(is));
                if until.is_none() {
                    seat.holder.drop_all();
                }
                out.push(Action::Gate { group: *is, until });
            }
            self.seats.insert(*is, seat);
        }
        // A group that is new here may be one that was taken out a moment ago.
        for group in &change.all {
            let seat = self.seats.entry(*group).or_insert_with(|| Seat::quiet(now + quiet));
            if self.strict.contains(group) && !seat.voter.is_strict() {
                seat.voter = std::mem::take(&mut seat.voter).strict(others, run);
            }
        }
        self.found_fence_seats(now);
        if change.voters {
            // Their numbers may mean others now.
            self.electors = vec![Elector::default(); setup.voters];
            self.met = Voters::NONE.with(self.me);
            self.proofs = Proofs::default();
        }
        self.digest = setup.digest;
        self.digest_since = Aside(now);
        self.next = setup.digest;
        self.settled = setup.confirmed == Some(setup.digest);
        if !agreed || self.quiet_after.is_some() {
            self.quiet_after = self.quiet_after.max(Some(quiet));
        }
        self.beat_at = now;
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
