//! The routes and policy rules that come and go with the addresses: as the kernel has them.
//!
//! [`Node`](super::Node) says which it wants, all of them each time that changes; a
//! [`Keeper`] beside it, no part of it, sees to it that the kernel has these and no others of ours,
//! and [`Report`]s. Neither knows how the kernel is asked.

mod keeper;
mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{self, Net, RouteKind};
use crate::types::{Family, IfIndex};

use super::event::Failure;

pub use keeper::Keeper;
pub(super) use node::Told;

/// A route or a rule. Routes come first: no rule is to point to what is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Entry {
    /// A route.
    Route(Route),
    /// A policy rule.
    Rule(Rule),
}

/// A route with one next hop at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The routing table.
    pub table: u32,
    /// Where it leads.
    pub to: Net,
    /// As the kernel has it: never 0 for IPv6.
    pub metric: u32,
    /// What becomes of what takes it.
    #[serde(default)]
    pub kind: RouteKind,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The gateway is on the link, whatever the addresses there say.
    #[serde(default)]
    pub onlink: bool,
    /// The interface it leads out of; 0 for all but unicast ones.
    pub index: IfIndex,
    /// The preferred source.
    pub source: Option<IpAddr>,
}

/// A rule that has a table looked into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Of which family.
    pub family: Family,
    /// When it is looked at.
    pub priority: u32,
    /// The source of the packets.
    pub from: Option<Net>,
    /// Their destination.
    pub to: Option<Net>,
    /// Where they came in.
    pub interface: Option<Box<str>>,
    /// Their mark, all bits of it.
    pub fwmark: Option<u32>,
    /// The table.
    pub table: u32,
}

impl Entry {
    /// What it is known by. IPv6 takes the source out of a route when that address goes.
    #[must_use]
    pub fn identity(&self) -> Self {
        match self {
            Self::Route(route) => Self::Route(Route { source: None, ..route.clone() }),
            Self::Rule(_) => self.clone(),
        }
    }

    /// What it is on this host, leading out of `index`.
    pub(super) fn of_route(route: &config::Route, index: IfIndex) -> Self {
        let config::Route { kind, to, via, onlink, interface: _, source, table, metric } = *route;
        Self::Route(Route { table, to, metric, kind, via, onlink, index, source })
    }

    pub(super) fn of_rule(rule: &config::Rule) -> Self {
        Self::Rule(Rule {
            family: rule.family,
            priority: rule.priority,
            from: rule.from,
            to: rule.to,
            interface: rule.interface.as_deref().map(Into::into),
            fwmark: rule.fwmark,
            table: rule.table,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(r) => {
                let Route { table, to, metric, kind, via, onlink, index, source } = *r;
                let interface = kind.is_unicast().then(|| format!("#{index}"));
                let route =
                    config::Route { kind, to, via, onlink, interface, source, table, metric };
                write!(f, "route {route}")
            }
            Self::Rule(r) => {
                let Rule { family, priority, from, to, ref interface, fwmark, table } = *r;
                let interface = interface.as_deref().map(Into::into);
                config::Rule { family, priority, from, to, interface, fwmark, table }.fmt(f)
            }
        }
    }
}

/// Everything that is wanted, and how often in a minute each may be put back when somebody else
/// deletes it.
pub type Wanted = BTreeMap<Entry, u32>;

/// What is to be asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It shall be there, marked as ours; refused where somebody else has the same.
    Add(Entry),
    /// Ours shall be gone.
    Delete(Entry),
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The kernel refused it, or did not keep it.
    Refused(Failure),
    /// Somebody else keeps deleting it.
    Contended,
}

/// How it is with an entry that is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Whether the kernel has it.
    pub here: bool,
    /// Why it has not, or not for long.
    pub trouble: Option<Trouble>,
    /// How often it was put back.
    pub restored: u32,
}

/// How it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What is wanted.
    pub fates: Vec<(Entry, Fate)>,
    /// What is to be gone and is not, and why.
    pub stuck: Vec<(Entry, Failure)>,
    /// What an earlier run left, and was removed since the last report.
    pub swept: Vec<Entry>,
}

impl Report {
    /// How it is with one that is wanted.
    pub fn fate(&self, entry: &Entry) -> Option<Fate> {
        self.fates.iter().find(|(other, _)| other == entry).map(|(_, fate)| *fate)
    }
}

/// What of ours the kernel has.
pub type Seen = BTreeSet<Entry>;
