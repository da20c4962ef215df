//! Groups that are kept apart: who has how many of them, and which one moves.
//!
//! A node that holds none has room, which counts for more than what the file prefers. All that is
//! told of it is who holds what.

use std::collections::BTreeMap;

use crate::types::{Instant, VoterIx};

use super::super::worth::Worth;
use super::electorate::Aside;
use super::{Lease, Seat};

impl Lease {
    /// The groups that each group is kept together with, and those it is kept apart from.
    pub fn set_ties(&mut self, [together, apart]: [BTreeMap<u16, Vec<u16>>; 2]) {
        (self.together, self.apart) = (Aside(together), Aside(apart));
    }

    fn others_of(&self, group: u16) -> impl Iterator<Item = u16> + '_ {
        self.apart.0.get(&group).into_iter().flatten().copied()
    }

    /// How many groups another node has, or is just being given, that `group` is kept apart from.
    pub(super) fn crowd(&self, now: Instant, group: u16, voter: VoterIx) -> usize {
        let has = |other: &u16| match self.holding(now, *other) {
            Some((holder, _)) => holder == voter,
            None => self.is_given(now, *other, voter),
        };
        self.others_of(group).filter(has).count()
    }

    /// Whether the votes for a group are kept for `voter`.
    fn is_given(&self, now: Instant, group: u16, voter: VoterIx) -> bool {
        let seat = self.seats.get(&group).filter(|seat| !seat.holder.is_open());
        let to = seat.and_then(|seat| seat.voter.reserved(now));
        to.is_some_and(|(to, _)| to == voter)
    }

    /// How many groups this node has, or has asked for earlier, that `group` is kept apart from.
    pub fn own_crowd(&self, now: Instant, group: u16) -> usize {
        let has = |other: &u16| {
            self.seats.get(other).is_some_and(|seat| {
                let asks = seat.holder.is_asking() && *other < group;
                seat.holder.is_open() || asks || self.is_given(now, *other, self.me)
            })
        };
        self.others_of(group).filter(has).count()
    }

    /// Of the groups held here that are kept apart, one goes at a time to whoever has room: the one
    /// that the file likes there best.
    pub(super) fn is_the_one_to_go(
        &self,
        now: Instant,
        group: u16,
        to: VoterIx,
        worth: Worth,
    ) -> bool {
        let Some(own) = self.seats.get(&group).map(|seat| seat.stand.worth) else { return false };
        if worth.crowd() >= own.crowd() {
            return true;
        }
        let gain = |theirs: Worth, own: Worth| {
            i16::from(theirs.effective().0) - i16::from(own.effective().0)
        };
        let this = (gain(worth, own), group);
        let stays = |other: u16| {
            let seat = self.seats.get(&other);
            let held = |seat: &&Seat| seat.holder.is_open() && seat.stand.keeps;
            let seat = seat.filter(held).filter(|seat| seat.stand.preempts_after.is_some());
            let Some(own) = seat.map(|seat| seat.stand.worth) else { return true };
            let theirs = self.candidates(now, other).find(|(voter, ..)| *voter == to);
            theirs.is_none_or(|(_, theirs, _)| {
                theirs.deficit() > own.deficit() || (gain(theirs, own), other) < this
            })
        };
        self.others_of(group).all(stays)
    }
}
