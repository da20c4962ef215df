//! An operator moves a group, and whoever is to have it sees how long that takes.

use crate::types::{Family, Instant, VoterIx};
use crate::wire::peer::{Entry, Message, News};

use super::Node;
use super::event::Action;
use super::gap::Gap;

impl Node {
    /// An operator wants `to` to have a group: whoever holds it is told, and whoever is to have it,
    /// so that it sees how long that takes.
    pub(super) fn order_move(
        &mut self,
        now: Instant,
        name: &str,
        to: VoterIx,
        out: &mut Vec<Action>,
    ) {
        let place = self.config.groups.iter().position(|g| g.name == name);
        let Some(place) = place.and_then(|ix| u16::try_from(ix).ok()) else { return };
        let Some(lease) = &mut self.lease else { return };
        let me = lease.me();
        let holder = lease.holder(now, place).map(|(voter, _)| voter);
        for voter in holder.into_iter().chain([to]).filter(|v| *v != me) {
            let entry = Entry { group: place, news: News::Move { to } };
            out.push(Action::Tell { to: voter, entry });
        }
        lease.order(now, place, to);
        if to == me {
            self.watch_gap(now, place);
        }
    }

    /// A move to this host, told by another.
    pub(super) fn hear_of_moves(&mut self, now: Instant, message: &Message) {
        let Some(me) = self.lease.as_ref().map(super::lease::Lease::me) else { return };
        for entry in &message.entries {
            if entry.news == (News::Move { to: me }) {
                self.watch_gap(now, entry.group);
            }
        }
    }

    /// A move to this host begins: it looks when whoever has the address falls silent.
    fn watch_gap(&mut self, now: Instant, place: u16) {
        let id = self.order.get(usize::from(place)).copied();
        if let Some(group) = id.and_then(|id| self.groups.get_mut(&id))
            && !group.is_active()
            && let Some(first) = group.config.addresses.iter().find(|a| !a.derived)
        {
            group.last_gap = None;
            group.gap = Some(Gap::begin(now, first.ip));
        }
    }

    /// Asks for the addresses that are about to come here.
    pub(super) fn ask_for_gaps(&mut self, now: Instant, out: &mut Vec<Action>) {
        for group in self.groups.values_mut() {
            let Some(gap) = &mut group.gap else { continue };
            if gap.is_over(now) {
                group.gap = None;
                continue;
            }
            let port = group.port.and_then(|ix| self.links.port(ix));
            let source = port.and_then(|p| Some((p.index, p.source(Family::of(gap.ip()))?)));
            // Also where it cannot be asked: the next time is later in any case.
            let due = gap.ask(now);
            if let Some((ifindex, source)) = source.filter(|_| due) {
                out.push(Action::Probe { ifindex, source, target: gap.ip(), mac: None });
            }
        }
    }
}
