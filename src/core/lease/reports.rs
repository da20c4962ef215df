//! What voters tell each other of themselves: for order and speed, and for people. Nothing safe
//! rests on it.

use std::time::Duration;

use crate::types::{Instant, VoterIx};
use crate::wire::peer::{Entry, News, Report};

use super::super::event::Action;
use super::Lease;

impl Lease {
    pub(super) fn report(&mut self, now: Instant, group: u16) -> Option<Report> {
        let holder = self.holder(now, group).map(|(_, priority)| priority);
        let seat = self.seats.get_mut(&group)?;
        let wants = seat.wants(now, holder);
        Some(Report {
            priority: Some(seat.stand.priority).filter(|_| seat.stand.able || seat.stand.keeps),
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
        let gist = |r: &Report| (r.priority, r.wants, r.holds.is_zero(), r.gap, r.doubt, r.stuck);
        let Some(seat) = self.seats.get_mut(&group) else { return };
        if seat.reported.as_ref().map(gist) == Some(gist(&report)) {
            return;
        }
        seat.reported = Some(report);
        for to in self.others() {
            out.push(Action::Tell { to, entry: Entry { group, news: News::Report(report) } });
        }
    }

    pub(super) fn report_to(&mut self, now: Instant, to: VoterIx, out: &mut Vec<Action>) {
        out.push(Action::Beat { to });
        let groups: Vec<_> = self.seats.keys().copied().collect();
        for group in groups {
            if let Some(report) = self.report(now, group) {
                out.push(Action::Tell { to, entry: Entry { group, news: News::Report(report) } });
            }
        }
    }
}
