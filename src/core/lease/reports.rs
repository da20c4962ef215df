//! What voters tell each other of themselves: for order and speed, and for people. Nothing safe
//! rests on it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::types::{Instant, Priority, VoterIx};
use crate::wire::peer::{Entry, News, Report};

use super::super::event::Action;
use super::Lease;
use super::electorate::{Aside, PARTS};

/// Which groups a message changed something about that this node decides upon: those at the
/// places from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed(pub RangeInclusive<u16>);

impl Changed {
    /// None of them.
    #[allow(clippy::reversed_empty_ranges, reason = "empty is what it is")]
    pub const NOTHING: Self = Self(1..=0);
    /// Each of them.
    pub const ALL: Self = Self(0..=u16::MAX);

    /// That one, too.
    pub fn add(&mut self, group: u16) {
        let all = &self.0;
        self.0 = if all.is_empty() {
            group..=group
        } else {
            group.min(*all.start())..=group.max(*all.end())
        };
    }
}

/// What is acted upon of a report.
fn gist(report: &Report) -> Report {
    // Whether it holds, not for how long; the vote and the tenure are for people.
    let holds = if report.holds.is_zero() { Duration::ZERO } else { Duration::MAX };
    Report { holds, epoch: 0, vote: None, ..*report }
}

impl Lease {
    /// Whether `news` of another voter is more than a renewal, and a group is to act upon it. That a
    /// vote opened the gate shows afterwards.
    pub(super) fn is_news(&self, now: Instant, group: u16, from: VoterIx, news: &News) -> bool {
        match news {
            News::Request { .. }
            | News::Grant { .. }
            | News::Part { .. }
            | News::Word(_)
            | News::Tale { .. }
            | News::Failed(_)
            | News::Looked(_)
            | News::Words { .. } => false,
            News::Report(report) => {
                let known = self.electors.get(from.index());
                let known = known.and_then(|e| e.on(now, group, self.alive()));
                known.map(gist) != Some(gist(report))
            }
            News::Deny { .. } | News::Release { .. } | News::Fenced { .. } | News::Move { .. } => {
                true
            }
        }
    }

    pub(super) fn report(&mut self, now: Instant, group: u16) -> Option<Report> {
        let holder = self.holder(now, group).map(|(_, worth)| worth);
        let seat = self.seats.get_mut(&group)?;
        let wants = seat.wants(now, holder);
        Some(Report {
            priority: Some(seat.stand.worth.effective())
                .filter(|_| seat.stand.able || seat.stand.keeps),
            wants,
            holds: seat.holder.holds(now).map_or(Duration::ZERO, |until| until.since(now)),
            epoch: seat.voter.epoch().0,
            vote: seat.voter.grant(now).map(|g| (g.to, g.until.since(now))),
            gap: seat.stand.gap,
            doubt: seat.voter.doubt(now),
            stuck: seat.stand.stuck,
            frozen: seat.stand.frozen,
        })
    }

    /// Tells everybody at once when something changed that they act upon.
    pub(super) fn report_change(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        let Some(report) = self.report(now, group) else { return };
        let Some(seat) = self.seats.get_mut(&group) else { return };
        if seat.reported.as_ref().map(gist) == Some(gist(&report)) {
            return;
        }
        (seat.reported, seat.repeats) = (Some(report), true);
        for to in self.others() {
            out.push(Action::Tell { to, entry: Entry { group, news: News::Report(report) } });
        }
    }

    /// What was told last goes along with the next request or answer once more: it may have been
    /// lost, or overtaken by that and so taken for old.
    pub(super) fn report_again(&mut self, now: Instant, group: u16, out: &mut Vec<Action>) {
        let repeats = self.seats.get_mut(&group).is_some_and(|s| std::mem::take(&mut s.repeats));
        let Some(report) = repeats.then(|| self.report(now, group)).flatten() else { return };
        for to in self.others() {
            out.push(Action::Tell { to, entry: Entry { group, news: News::Report(report) } });
        }
    }

    pub(super) fn report_to(&mut self, now: Instant, to: VoterIx, out: &mut Vec<Action>) {
        self.report_each(now, &[to], out);
    }

    /// How this node stands to each group, to everybody.
    pub(super) fn report_to_all(&mut self, now: Instant, out: &mut Vec<Action>) {
        let all: Vec<_> = self.others().collect();
        self.report_each(now, &all, out);
    }

    /// What the file in force says, by part: [`crate::config::Config::marks`].
    pub fn set_marks(&mut self, mut marks: Vec<(u32, u64)>) {
        marks.truncate(PARTS);
        self.marks = Aside(marks);
    }

    /// The priorities that the file in force gives the nodes, by group.
    pub fn set_priorities(&mut self, priorities: BTreeMap<u16, Vec<Priority>>) {
        self.priorities = Aside(priorities);
    }

    /// Tells one that has another file what this one says, so that both can name what differs.
    fn tell_parts(&self, now: Instant, to: VoterIx, out: &mut Vec<Action>) {
        let other = self.electors.get(to.index()).is_some_and(|e| {
            e.is_alive(now, self.alive()) && e.head().is_some_and(|h| h.active != self.digest)
        });
        let marks = self.marks.0.iter().filter(|_| other);
        out.extend(marks.map(|(name, value)| {
            let news = News::Part { name: *name, value: *value };
            Action::Tell { to, entry: Entry { group: 0, news } }
        }));
    }

    fn report_each(&mut self, now: Instant, to: &[VoterIx], out: &mut Vec<Action>) {
        out.extend(to.iter().map(|to| Action::Beat { to: *to }));
        for to in to {
            self.tell_parts(now, *to, out);
        }
        let groups: Vec<_> = self.seats.keys().copied().collect();
        for group in groups {
            let Some(report) = self.report(now, group) else { continue };
            let entry = Entry { group, news: News::Report(report) };
            out.extend(to.iter().map(|to| Action::Tell { to: *to, entry }));
        }
    }
}
