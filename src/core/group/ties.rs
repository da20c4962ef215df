//! What the groups let it do that it is kept together with, or apart from.

use std::net::IpAddr;

use crate::types::{Instant, Priority};

use super::super::Out;
use super::super::election::Heard;
use super::super::links::NotReady;
use super::{Group, State, Then};

/// How a group stands on this host, to those it is kept together with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is held here.
    Holds,
    /// It could be.
    Could,
    /// It is being given up.
    Leaves,
    /// It is about to know.
    Waits,
    /// It cannot be, whoever else has it.
    Cannot,
}

/// What the others of a sync come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bond {
    /// By how much the worst of them falls short.
    pub(crate) deficit: u8,
    /// Which one that is, and why, in words.
    pub(crate) worst: Option<Box<str>>,
    /// Why none is taken here: the first that is in the way.
    pub(crate) bar: Option<String>,
    /// Whether that one cannot be held here at all, so that none is kept.
    pub(crate) parts: bool,
    /// When the last of them that another router advertised counts it as silent.
    pub(crate) last: Option<Instant>,
    /// Whether one of them has not seen yet that its health is better than the holder's.
    pub(crate) unproven: bool,
}

/// What the groups let it do that belong with this one.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    /// Of the groups it is kept together with; `None` where there are none.
    pub(crate) bond: Option<Bond>,
    /// How many groups this host holds that it is kept apart from.
    pub(crate) crowd: usize,
    /// The same of whoever advertises those.
    pub(crate) crowds: Vec<(IpAddr, usize)>,
}

impl Ties {
    pub(super) fn deficit(&self) -> u8 {
        self.bond.as_ref().map_or(0, |b| b.deficit)
    }

    pub(super) fn crowd_of(&self, router: IpAddr) -> usize {
        self.crowds.iter().find(|(ip, _)| *ip == router).map_or(0, |(_, n)| *n)
    }

    pub(super) fn last(&self) -> Option<Instant> {
        self.bond.as_ref()?.last
    }

    pub(super) fn is_proven(&self) -> bool {
        self.bond.as_ref().is_none_or(|b| !b.unproven)
    }

    /// Why it is not taken here, as another one that belongs with it is not.
    pub(crate) fn bar(&self) -> Option<&str> {
        self.bond.as_ref()?.bar.as_deref()
    }

    /// Which group that belongs with it falls short by more than `own`, in words.
    pub(crate) fn worse_than(&self, own: u8) -> Option<&str> {
        self.bond.as_ref().filter(|b| b.deficit > own)?.worst.as_deref()
    }
}

impl Group {
    /// How it stands on this host, to those it is kept together with.
    pub(crate) fn part(&self) -> Part {
        let waits = matches!(self.ready, Err(NotReady::Opening(_)));
        if self.is_active() || self.is_heir() {
            Part::Holds
        } else if self.stopping || waits {
            Part::Waits
        } else if self.ready.is_err() || self.forbidden().is_some() {
            Part::Cannot
        } else {
            match self.state {
                State::Backup if self.is_allowed() => Part::Could,
                State::Releasing { .. } => Part::Leaves,
                State::Init { .. } | State::Backup | State::Active => Part::Waits,
            }
        }
    }

    /// Whether another router has it, or is let have it: in plain VRRP those that are kept together
    /// with it follow.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        let taken = self.part() == Part::Could && self.advertisers(now).next().is_some();
        !self.is_leased() && (taken || self.part() == Part::Leaves)
    }

    /// Who else advertises it now, one for each family.
    pub(crate) fn advertisers(&self, now: Instant) -> impl Iterator<Item = Heard> + '_ {
        let own = self.effective_priority();
        let all = self.elections.iter().filter(|_| !self.is_active() && !self.is_leased());
        all.filter_map(move |e| {
            let down = e.learned.down_interval(e.version, own);
            e.heard.filter(|h| h.priority != Priority::RELEASE && now <= h.at + down)
        })
    }

    /// Whether this host, with room for one more of those that are kept apart, would rather have
    /// this one than `other` from whoever has both.
    pub(crate) fn comes_before(&self, other: &Self, now: Instant) -> bool {
        let (Some(own), Some(theirs)) =
            (self.advertisers(now).next(), other.advertisers(now).next())
        else {
            return false;
        };
        let gain = |group: &Self, heard: Heard| {
            (i16::from(group.priority.0) - i16::from(heard.priority.0), group.id)
        };
        let holder = self.against(own.from, own.priority);
        self.config.preempt
            && self.part() == Part::Could
            && own.from == theirs.from
            && holder.0.deficit() <= holder.1.deficit()
            && gain(self, own) > gain(other, theirs)
    }

    /// When every router that advertised it counts as silent.
    pub(crate) fn silent_at(&self) -> Option<Instant> {
        let own = self.effective_priority();
        let waits = self.state == State::Backup && !self.is_leased();
        self.elections.iter().filter(|_| waits).filter_map(|e| e.down_at(own)).max()
    }

    /// Why it is not held here, in words that follow its name.
    pub(crate) fn absence(&self) -> String {
        match (&self.ready, self.forbidden()) {
            (Err(why), _) => format!("cannot be held here: {why}"),
            (Ok(()), Some(why)) => format!("must not be held here: {why}"),
            (Ok(()), None) if self.is_hands_off() => "is not to be touched here".to_owned(),
            (Ok(()), None) => match self.state {
                State::Init { .. } => format!("takes no part here yet: {}", self.why),
                State::Backup | State::Active | State::Releasing { .. } => {
                    format!("is not held here any more: {}", self.why)
                }
            },
        }
    }

    /// Takes in how the groups stand that it is kept together with: what they cannot have here is
    /// given up. `lost` is one that another router took.
    pub(crate) fn bind(&mut self, now: Instant, bond: Bond, lost: Option<&str>, out: &mut Out<'_>) {
        let parts = bond.parts.then(|| bond.bar.clone()).flatten();
        self.ties.bond = Some(bond);
        if self.is_hands_off() {
            return;
        }
        let Some(why) = parts.as_deref().or(lost) else { return };
        let why = format!("kept together with {why}");
        if self.is_active() {
            self.release(now, Then::Backup, why, out);
            self.settle(now, out);
        }
    }

    /// Whether a worse health than its own is what speaks against this host.
    pub(crate) fn together_words(&self) -> Option<String> {
        let why = self.ties.bar().or_else(|| self.ties.worse_than(self.deficit()))?;
        Some(format!("kept together with {why}"))
    }
}
