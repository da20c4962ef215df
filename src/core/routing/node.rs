//! Which routes and rules a node wants, and what is told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::config;
use crate::types::{IfIndex, Instant};

use super::super::Node;
use super::super::event::{Action, Link};
use super::super::group::Group;
use super::super::status::{Condition, RoutingState, RoutingStatus, Severity, condition};
use super::super::within;
use super::{Entry, Report, Trouble, Wanted};

/// What was said of routes and rules, in both directions.
#[derive(Debug, Default)]
pub(in super::super) struct Told {
    /// Groups whose addresses came, and were not given up since.
    on: BTreeSet<u16>,
    /// What is wanted; `None` before the first time.
    wanted: Option<Wanted>,
    report: Report,
    /// Since when there is trouble.
    since: BTreeMap<Entry, Instant>,
}

/// A route or rule of the configuration, and what it is on this host, if that can be told.
struct Planned {
    words: String,
    interface: Option<String>,
    entry: Option<Entry>,
}

impl Node {
    /// Says what is wanted, if that has changed.
    pub(in super::super) fn follow_routing(
        &mut self,
        touched: &RangeInclusive<u16>,
        out: &mut Vec<Action>,
    ) {
        let concerned =
            |(id, group): (&u16, &Group)| has_any(group) || self.routing.on.contains(id);
        let first = self.routing.wanted.is_none();
        if self.resyncing || !(first || self.groups.range(within(touched)).any(concerned)) {
            return;
        }
        let mut wanted = Wanted::new();
        for (id, group) in &self.groups {
            let addresses = &group.addresses;
            if !addresses.wanted() || !has_any(group) {
                self.routing.on.remove(id);
            } else if addresses.settled() {
                self.routing.on.insert(*id);
            } else if first {
                // Of what an earlier run left, nothing is removed that will be wanted.
                return;
            }
            if self.routing.on.contains(id) {
                let routes = group.config.routes.iter().filter(|r| source_is_here(group, r));
                let here = routes.filter_map(|route| self.route_entry(group, route));
                let here = here.chain(group.config.rules.iter().map(Entry::of_rule));
                wanted.extend(here.map(|entry| (entry, group.config.restore_limit)));
            }
        }
        if self.routing.wanted.as_ref() != Some(&wanted) {
            self.routing.wanted = Some(wanted.clone());
            out.push(Action::Routing(wanted));
        }
    }

    /// What the kernel has of it.
    pub(in super::super) fn routing_told(
        &mut self,
        now: Instant,
        report: Report,
        out: &mut Vec<Action>,
    ) {
        let was = std::mem::take(&mut self.routing.report);
        let mut notes = Vec::new();
        for (entry, fate) in &report.fates {
            let before = was.fate(entry).unwrap_or_default();
            let (group, words) = self.owner(entry);
            if fate.restored > before.restored {
                let text = format!("{words} was deleted by somebody else; put back");
                notes.push((Severity::Warn, "route-restored", group.clone(), text));
            }
            match (before.trouble, fate.trouble) {
                (None, Some(Trouble::Refused(why))) => {
                    let text = format!("{words} could not be added: {}", reason(why));
                    notes.push((Severity::Error, "route-refused", group, text));
                }
                (None | Some(Trouble::Refused(_)), Some(Trouble::Contended)) => {
                    let text = format!("somebody else keeps deleting {words}");
                    notes.push((Severity::Error, "route-contended", group, text));
                }
                (Some(_), None) if fate.here => {
                    let text = format!("{words} is there");
                    notes.push((Severity::Info, "route-arrived", group, text));
                }
                _ => {}
            }
        }
        for (entry, why) in &report.stuck {
            if !was.stuck.iter().any(|(other, _)| other == entry) {
                let text = format!("{} could not be removed: {why}", self.owner(entry).1);
                notes.push((Severity::Error, "route-stuck", None, text));
            }
        }
        if !report.swept.is_empty() {
            let all: Vec<_> = report.swept.iter().map(|entry| self.owner(entry).1).collect();
            let text = format!("left by an earlier run, removed: {}", all.join("; "));
            notes.push((Severity::Warn, "leftover", None, text));
        }
        for (severity, kind, group, text) in notes {
            self.parts(out).1.note(now, severity, group.as_deref(), kind, text);
        }
        let bad = report.fates.iter().filter(|(_, fate)| fate.trouble.is_some());
        let bad = bad.map(|(entry, _)| entry).chain(report.stuck.iter().map(|(entry, _)| entry));
        let since = bad.map(|entry| {
            let before = self.routing.since.get(entry).copied();
            (entry.clone(), before.unwrap_or(now))
        });
        self.routing.since = since.collect();
        self.routing.report = report;
    }

    /// Whose an entry is, and what to call it.
    fn owner(&self, entry: &Entry) -> (Option<String>, String) {
        let identity = entry.identity();
        let of = |group: &Group| {
            let mut all = self.planned(group).into_iter();
            all.find(|p| p.entry.as_ref().is_some_and(|e| e.identity() == identity))
        };
        let found = self.groups.values().find_map(|g| Some((g.config.name.clone(), of(g)?)));
        match found {
            Some((name, planned)) => (Some(name), planned.words),
            None => (None, entry.to_string()),
        }
    }

    /// The interface that a route leads out of, if it leads anywhere.
    fn link_of(&self, group: &Group, route: &config::Route) -> Option<&Link> {
        match &route.interface {
            _ if !route.kind.is_unicast() => None,
            Some(name) => self.links.named(name),
            None => self.interface(group).ok(),
        }
    }

    fn route_entry(&self, group: &Group, route: &config::Route) -> Option<Entry> {
        if !route.kind.is_unicast() {
            return Some(Entry::of_route(route, IfIndex(0)));
        }
        let link = self.link_of(group, route).filter(|link| link.index != IfIndex(0))?;
        Some(Entry::of_route(route, link.index))
    }

    fn planned(&self, group: &Group) -> Vec<Planned> {
        let routes = group.config.routes.iter().map(|route| {
            let name = self.link_of(group, route).map(|link| link.name.to_string());
            Planned {
                words: format!("route {route}"),
                interface: name.or_else(|| route.interface.clone()),
                entry: self.route_entry(group, route),
            }
        });
        let rules = group.config.rules.iter().map(|rule| Planned {
            words: rule.to_string(),
            interface: rule.interface.clone(),
            entry: Some(Entry::of_rule(rule)),
        });
        routes.chain(rules).collect()
    }

    /// The routes and rules of a group, for people.
    pub(in super::super) fn routing_status(&self, group: &Group) -> Vec<RoutingStatus> {
        let status = |planned: Planned| {
            let wanted = self.routing.wanted.as_ref();
            let entry = planned.entry.filter(|e| wanted.is_some_and(|w| w.contains_key(e)));
            let fate = entry.as_ref().and_then(|entry| self.routing.report.fate(entry));
            let state = match (fate, entry) {
                (Some(fate), _) if fate.here => RoutingState::Present,
                (Some(fate), _) if fate.trouble.is_some() => RoutingState::Failed,
                (_, Some(_)) => RoutingState::Adding,
                (_, None) => RoutingState::Absent,
            };
            RoutingStatus {
                what: planned.words,
                interface: planned.interface,
                state,
                restored: fate.map_or(0, |fate| fate.restored),
            }
        };
        self.planned(group).into_iter().map(status).collect()
    }

    /// What is wrong with those of a group.
    pub(in super::super) fn routing_conditions(&self, group: &Group) -> Vec<Condition> {
        let since = |entry: &Entry| self.routing.since.get(entry).copied().unwrap_or(group.since);
        let is_on = self.routing.on.contains(&group.id);
        let bad = |planned: Planned| {
            let Some(entry) = planned.entry else {
                let device = planned.interface.unwrap_or_default();
                let text = format!("{}: there is no interface {device}", planned.words);
                let d = condition("route-refused", Severity::Error, text, group.since);
                return Some(d).filter(|_| is_on);
            };
            let fate = self.routing.report.fate(&entry)?;
            Some(match fate.trouble? {
                Trouble::Refused(why) => {
                    let text = format!("{} cannot be added: {}", planned.words, reason(why));
                    condition("route-refused", Severity::Error, text, since(&entry))
                }
                Trouble::Contended => {
                    let text = format!("somebody else keeps deleting {}", planned.words);
                    condition("route-contended", Severity::Error, text, since(&entry))
                }
            })
        };
        self.planned(group).into_iter().filter_map(bad).collect()
    }

    /// What of ours is left where it does not belong.
    pub(in super::super) fn stuck_routing(&self) -> Vec<Condition> {
        let stuck = self.routing.report.stuck.iter().map(|(entry, why)| {
            let since = self.routing.since.get(entry).copied().unwrap_or(self.started);
            let text = format!("{} cannot be removed: {why}", self.owner(entry).1);
            condition("route-stuck", Severity::Error, text, since)
        });
        stuck.collect()
    }
}

/// `EEXIST` (`errno.h`).
const EXISTS: i32 = 17;

/// Why the kernel refused, and whose doing that may be.
fn reason(why: super::Failure) -> String {
    match why {
        super::Failure::Errno(EXISTS) => format!("{why}: somebody else has the same one"),
        super::Failure::Errno(_) | super::Failure::TimedOut => why.to_string(),
    }
}

fn has_any(group: &Group) -> bool {
    !group.config.routes.is_empty() || !group.config.rules.is_empty()
}

/// The kernel takes no route whose source it has not.
fn source_is_here(group: &Group, route: &config::Route) -> bool {
    route.source.is_none_or(|ip| group.addresses.has(ip))
}
