//! Groups that are held on one host, or each on one of its own.
//!
//! In plain VRRP a sync is what the families of one group are: it is taken when the last of its
//! elections finds nobody, and given up when any of them hears somebody better. With leases each
//! group has one of its own: whoever has one of them is left to ask for the others, takes them along
//! when it gives way, and where they are apart all the same they go to whoever has the first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::types::{Instant, VoterIx};

use super::Node;
use super::event::Action;
use super::group::{Bond, Group, Part, Ties};
use super::why;
use super::worth::Worth;

/// Groups that belong together, or apart.
#[derive(Debug)]
pub(super) struct Tie {
    sync: bool,
    /// Their places in the file.
    places: Vec<u16>,
    /// Since when another node has the first of them that anybody has, and this one another.
    torn: Option<Instant>,
}

impl Tie {
    fn others(&self, place: u16) -> impl Iterator<Item = u16> + '_ {
        self.places.iter().copied().filter(move |other| *other != place)
    }
}

impl Node {
    /// Looks up which groups of the file belong together, or apart.
    pub(super) fn tie(&mut self) {
        let mut named: BTreeMap<(bool, &str), Vec<u16>> = BTreeMap::new();
        for (place, group) in (0..).zip(&self.config.groups) {
            for (sync, name) in [(true, &group.sync), (false, &group.spread)] {
                if let Some(name) = name {
                    named.entry((sync, name)).or_default().push(place);
                }
            }
        }
        let several = named.into_iter().filter(|(_, places)| places.len() > 1);
        self.ties = several.map(|((sync, _), places)| Tie { sync, places, torn: None }).collect();
        for group in self.groups.values_mut() {
            group.ties = Ties::default();
        }
    }

    fn placed(&self, place: u16) -> Option<&Group> {
        self.groups.get(self.order.get(usize::from(place))?)
    }

    fn placed_mut(&mut self, place: u16) -> Option<&mut Group> {
        self.groups.get_mut(self.order.get(usize::from(place))?)
    }

    /// The groups that each group is kept together with, and those it is kept apart from.
    pub(super) fn ties(&self) -> [BTreeMap<u16, Vec<u16>>; 2] {
        [true, false].map(|sync| {
            let ties = self.ties.iter().filter(|tie| tie.sync == sync);
            let all =
                ties.flat_map(|tie| tie.places.iter().map(|p| (*p, tie.others(*p).collect())));
            all.collect()
        })
    }

    /// The names of the groups that one is kept together with.
    pub(super) fn together_with(&self, place: u16) -> String {
        let others = self.ties.iter().filter(|t| t.sync && t.places.contains(&place));
        let names = others.flat_map(|tie| tie.others(place)).filter_map(|p| self.placed(p));
        names.map(|g| g.config.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Has the groups know of each other that a step has touched, and gives up what is not to be
    /// held without the others. All groups of a tie count as touched, then.
    pub(super) fn follow_ties(
        &mut self,
        now: Instant,
        touched: &mut RangeInclusive<u16>,
        out: &mut Vec<Action>,
    ) {
        let mut ties = std::mem::take(&mut self.ties);
        for tie in &mut ties {
            let ids = tie.places.iter().filter_map(|p| self.order.get(usize::from(*p)).copied());
            let ids: Vec<_> = ids.collect();
            if !ids.iter().any(|id| touched.contains(id)) {
                continue;
            }
            let (first, last) = ids.iter().fold((*touched.start(), *touched.end()), |hull, id| {
                (hull.0.min(*id), hull.1.max(*id))
            });
            *touched = first..=last;
            if tie.sync {
                self.keep_together(now, tie, out);
                self.mend(now, tie);
            } else {
                self.keep_apart(now, tie);
            }
        }
        self.ties = ties;
    }

    // ---- together ----

    fn keep_together(&mut self, now: Instant, tie: &Tie, out: &mut Vec<Action>) {
        for place in &tie.places {
            let id = self.order[usize::from(*place)];
            if self.groups.get(&id).is_some_and(Group::is_leased) {
                self.face_holder(now, *place, id, out);
            }
        }
        let members: Vec<_> =
            tie.places.iter().filter_map(|p| Some((*p, self.placed(*p)?))).collect();
        let held = members.iter().any(|(_, g)| g.part() == Part::Holds);
        let bonds: Vec<_> = members
            .iter()
            .map(|(place, group)| {
                let others = members.iter().filter(|(other, _)| other != place).map(|(_, g)| *g);
                let mut lost = others.clone().filter(|g| group.is_active() && g.is_lost(now));
                let lost = lost.next().map(absent);
                (*place, bond(&others, held), lost)
            })
            .collect();
        for (place, bond, lost) in bonds {
            let id = self.order[usize::from(place)];
            self.with(id, out, |group, out| group.bind(now, bond, lost.as_deref(), out));
        }
    }

    /// A group goes to another node: so do those that are kept together with it.
    pub(super) fn take_along(
        &mut self,
        now: Instant,
        place: u16,
        to: VoterIx,
        out: &mut Vec<Action>,
    ) {
        let ties = self.ties.iter().filter(|t| t.sync && t.places.contains(&place));
        let others: Vec<_> = ties.flat_map(|tie| tie.others(place)).collect();
        for other in others {
            if self.lease.as_mut().is_some_and(|lease| lease.send_along(now, other, to)) {
                self.follow_lease(now, other, self.order[usize::from(other)], out);
            }
        }
    }

    /// Groups that are apart for longer than a report takes go to whoever has the first of them.
    fn mend(&self, now: Instant, tie: &mut Tie) {
        let Some(lease) = &self.lease else { return };
        let holder = |place: u16| match lease.holds(now, place) {
            Some(_) => Some(lease.me()),
            None => lease.holder(now, place).map(|(voter, _)| voter),
        };
        let first = tie.places.iter().find_map(|place| holder(*place));
        let here = tie.places.iter().any(|place| lease.holds(now, *place).is_some());
        let torn = here && first.is_some_and(|first| first != lease.me());
        tie.torn = torn.then(|| tie.torn.unwrap_or(now));
    }

    /// Where those that belong together were apart for long enough, the group at `place` goes to
    /// whoever has the first of them.
    pub(super) fn send_after(&mut self, now: Instant, place: u16) {
        let Some(lease) = &mut self.lease else { return };
        let long = lease.alive();
        let torn = |t: &&Tie| t.torn.is_some_and(|since| now >= since + long);
        let mut ties = self.ties.iter().filter(|t| t.sync && t.places.contains(&place));
        if let Some(tie) = ties.find(torn)
            && let Some((first, _)) = tie.places.iter().find_map(|p| lease.holder(now, *p))
        {
            lease.send_along(now, place, first);
        }
    }

    // ---- apart ----

    /// How many groups a node has that one is kept apart from, and which.
    pub(super) fn beside(
        &self,
        now: Instant,
        group: &Group,
        node: &str,
    ) -> Option<(usize, String)> {
        let spread = group.config.spread.as_ref()?;
        let others = self.order.iter().filter_map(|id| self.groups.get(id));
        let others =
            others.filter(|g| g.id != group.id && g.config.spread.as_ref() == Some(spread));
        let has = |g: &&Group| self.who_is_active(now, g).as_deref() == Some(node);
        let names: Vec<_> = others.filter(has).map(|g| g.config.name.as_str()).collect();
        (!names.is_empty()).then(|| (names.len(), names.join(", ")))
    }

    /// What is known in plain VRRP: who advertises which.
    fn keep_apart(&mut self, now: Instant, tie: &Tie) {
        for place in &tie.places {
            let others: Vec<_> = tie.others(*place).filter_map(|p| self.placed(p)).collect();
            let crowd = others.iter().filter(|g| g.part() == Part::Holds).count();
            let mut crowds: Vec<(IpAddr, usize)> = Vec::new();
            for ip in others.iter().flat_map(|g| g.advertisers(now)).map(|heard| heard.from) {
                match crowds.iter_mut().find(|(of, _)| *of == ip) {
                    Some((_, n)) => *n += 1,
                    None => crowds.push((ip, 1)),
                }
            }
            let before = |own: &Group| others.iter().filter(|g| g.comes_before(own, now)).count();
            let before = self.placed(*place).filter(|g| !g.is_active()).map_or(0, before);
            if let Some(group) = self.placed_mut(*place).filter(|g| !g.is_leased()) {
                (group.ties.crowd, group.ties.crowds) = (crowd + before, crowds);
            }
        }
    }
}

fn absent(group: &Group) -> String {
    format!("{}, which {}", group.config.name, group.absence())
}

/// A group that falls short on this host, and why.
fn short(group: &Group, deficit: u8) -> String {
    let name = &group.config.name;
    if !group.is_fit() {
        format!("{name}, which cannot be served here: {}", why::unfit(group))
    } else if group.is_suspect() {
        format!("{name}, whose proxy failed too often here lately")
    } else if deficit >= Worth::SUSPECT {
        format!("{name}, which could not be served here a while ago")
    } else {
        format!("{name}, which falls {deficit} points short here")
    }
}

/// What others come to, for one that is kept together with them.
fn bond<'a>(others: &(impl Iterator<Item = &'a Group> + Clone), held: bool) -> Bond {
    let worst = others.clone().max_by_key(|g| g.shortfall(held));
    let gone = others.clone().find(|g| g.part() == Part::Cannot);
    let waits = || others.clone().find(|g| matches!(g.part(), Part::Waits | Part::Leaves));
    let bar = gone.or_else(waits);
    Bond {
        deficit: worst.map_or(0, |g| g.shortfall(held)),
        worst: worst.map(|g| short(g, g.shortfall(held)).into()),
        bar: bar.map(absent),
        parts: gone.is_some(),
        last: others.clone().filter_map(Group::silent_at).max(),
        unproven: others.clone().any(|g| !g.health.is_proven()),
    }
}
