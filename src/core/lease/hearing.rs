//! What is heard from other voters.

use crate::types::{Instant, VoterIx};
use crate::wire::peer::{Denial, Entry, Message, News};

use super::super::event::Action;
use super::{Ask, Changed, Lease, seat};

impl Lease {
    /// A session with another run of `from` was agreed on: both ends hear each other.
    pub fn up(&mut self, now: Instant, from: VoterIx, out: &mut Vec<Action>) {
        if let Some(elector) = self.electors.get_mut(from.index()) {
            elector.renewed(now);
            for seat in self.seats.values_mut() {
                seat.holder.forget(from);
            }
            self.report_to(now, from, out);
            self.ask_again_in_reach(now, out);
        }
    }

    /// Two machines answer to the name of `from`.
    pub fn twin(&mut self, now: Instant, from: VoterIx) {
        if let Some(elector) = self.electors.get_mut(from.index()) {
            elector.is_twin(now);
        }
    }

    /// An authenticated message came; `now` was read after that. Says which groups are to be asked
    /// what they want: a renewal changes nothing that anybody decides upon.
    pub fn hear(
        &mut self,
        now: Instant,
        from: VoterIx,
        message: &Message,
        out: &mut Vec<Action>,
    ) -> Changed {
        let (alive, settled) = (self.alive(), self.settled);
        let Some(elector) = self.electors.get_mut(from.index()).filter(|_| from != self.me) else {
            return Changed::NOTHING;
        };
        let known = elector.says_the_same(now, &message.head, alive);
        let fresh = elector.hear(now, message.head);
        self.met = self.met.with(from);
        // Places are those of the file that the sender had then.
        let same = message.head.active == self.digest;
        self.settle(now, out);
        if same && fresh {
            self.returned(now, from, out);
        }
        let all = !known || self.settled != settled;
        let mut changed = if all { Changed::ALL } else { Changed::NOTHING };
        for Entry { group, news } in &message.entries {
            if same && matches!(news, News::Fenced { .. }) {
                // It may be about every group.
                changed = Changed::ALL;
            } else if same && self.is_news(now, *group, from, news) {
                changed.add(*group);
            }
            self.hear_of(now, from, (same, fresh), (*group, news), out);
            if self.seats.get(group).is_some_and(|seat| seat.won) {
                changed.add(*group);
            }
        }
        changed
    }

    /// One piece of news; `same` is whether it is about the file in force here, `fresh` whether
    /// nothing later was heard before.
    fn hear_of(
        &mut self,
        now: Instant,
        from: VoterIx,
        (same, fresh): (bool, bool),
        (group, news): (u16, &News),
        out: &mut Vec<Action>,
    ) {
        match news {
            News::Request { gate, round, epoch } if same => {
                let ask = Ask { from, gate: *gate, round: *round, epoch: *epoch };
                self.requested(now, group, &ask, out);
            }
            News::Request { gate, round, .. } => {
                let news = News::Deny { gate: *gate, round: *round, why: Denial::Config };
                out.push(Action::Tell { to: from, entry: Entry { group, news } });
            }
            News::Part { name, value } if fresh => {
                self.electors[from.index()].part(*name, *value);
            }
            _ if !same => {}
            News::Grant { gate, round } if Some(*gate) == self.gate => {
                self.granted(now, group, from, *round, out);
            }
            News::Deny { gate, round, why } if Some(*gate) == self.gate => {
                self.denied(now, group, from, *round, *why, out);
            }
            News::Release { gate, round, successor } => {
                self.electors[from.index()].gave_up(group);
                let Some(seat) = self.seats.get_mut(&group) else { return };
                let given_back = seat.voter.release(now, from, *gate, *round, *successor);
                if given_back || seat.before.0 == Some(from) {
                    seat.before.0 = None;
                }
                if *successor == Some(self.me) {
                    seat.succeed(now);
                }
                seat.freed(now);
                if given_back {
                    self.keep(now, group, out);
                }
            }
            News::Fenced { node, mark } => self.fenced(now, *node, *mark, out),
            News::Report(report) if fresh => {
                self.electors[from.index()].report(now, group, *report);
                self.weigh(now, group, from, report, out);
                if let Some(seat) = self.seats.get_mut(&group)
                    && !seat.holder.is_open()
                {
                    seat.highest = seat.highest.max(report.epoch);
                }
            }
            News::Move { to } => {
                self.order(now, group, *to);
            }
            // What operators have decided is not the lease's business.
            News::Grant { .. }
            | News::Deny { .. }
            | News::Report(_)
            | News::Part { .. }
            | News::Word(_)
            | News::Tale { .. }
            | News::Words { .. } => {}
        }
    }

    /// An operator wants `to` to have the group. Says whether this node holds it and can comply.
    pub fn order(&mut self, now: Instant, group: u16, to: VoterIx) -> bool {
        let able = self
            .electors
            .get(to.index())
            .and_then(|e| e.on(now, group, self.alive()))
            .is_some_and(|r| r.priority.is_some());
        match self.seats.get_mut(&group) {
            Some(seat) if able && to != self.me && seat.holder.holds(now).is_some() => {
                seat.move_at = Some((now + seat::LEAD, to));
                true
            }
            Some(_) | None => false,
        }
    }
}
