//! The routes and policy rules that come and go with the addresses of a group.

use std::fmt;
use std::net::IpAddr;

use super::diag::Span;
use super::form;
use super::read::{At, View};
use crate::types::Family;

/// The kernel's main table (`RT_TABLE_MAIN`).
const MAIN: u32 = 254;
/// What IPv6 makes of a metric of zero (`IP6_RT_PRIO_USER`).
const METRIC_V6: u32 = 1024;

/// A network: an address of it, whose further bits are zero, and its prefix length.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Net {
    /// Its first address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
}

impl Net {
    /// Everything of a family.
    pub fn all(family: Family) -> Self {
        let ip = match family {
            Family::V4 => [0; 4].into(),
            Family::V6 => [0; 16].into(),
        };
        Self { ip, prefix: 0 }
    }

    /// That of an address; a prefix length that is too long is the address alone.
    pub fn of(ip: IpAddr, prefix: u8) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { ip: IpAddr::V4((u32::from(ip) & mask).into()), prefix }
            }
            IpAddr::V6(ip) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { ip: IpAddr::V6((u128::from(ip) & mask).into()), prefix }
            }
        }
    }

    /// Whether it is an address alone.
    pub fn is_one(self) -> bool {
        self.prefix == self.family().bits()
    }

    /// Its family.
    pub fn family(self) -> Family {
        Family::of(self.ip)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            0 => f.write_str("default"),
            _ if self.is_one() => write!(f, "{}", self.ip),
            n => write!(f, "{}/{n}", self.ip),
        }
    }
}

/// What becomes of packets that take a route (`rtm_type` of `rtnetlink(7)`).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum RouteKind {
    /// They leave the host.
    #[default]
    Unicast,
    /// They are dropped without a word.
    Blackhole,
    /// Their sender is told that the destination cannot be reached.
    Unreachable,
    /// Their sender is told that it may not reach it.
    Prohibit,
}

impl RouteKind {
    const ALL: [Self; 4] = [Self::Unicast, Self::Blackhole, Self::Unreachable, Self::Prohibit];
    /// As they are written.
    pub(super) const NAMES: [&'static str; 4] = {
        let [a, b, c, d] = Self::ALL;
        [a.name(), b.name(), c.name(), d.name()]
    };

    /// Whether they leave the host.
    pub fn is_unicast(self) -> bool {
        self == Self::Unicast
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

/// A route that is there while the group's addresses are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What becomes of what takes it. All but unicast ones lead out of no interface.
    pub kind: RouteKind,
    /// Where it leads.
    pub to: Net,
    /// The gateway; without one the destination is on the link.
    pub via: Option<IpAddr>,
    /// The gateway is on the link, whatever the addresses there say.
    pub onlink: bool,
    /// Interface, where it is not the group's.
    pub interface: Option<String>,
    /// The source that the host chooses for what it sends this way: an address of the group.
    pub source: Option<IpAddr>,
    /// The routing table.
    pub table: u32,
    /// Its metric, as the kernel will have it.
    pub metric: u32,
}

/// A policy rule that is there while the group's addresses are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of which family.
    pub family: Family,
    /// When it is looked at: the lowest first.
    pub priority: u32,
    /// For packets from there.
    pub from: Option<Net>,
    /// For packets to there.
    pub to: Option<Net>,
    /// For packets that came in there.
    pub interface: Option<String>,
    /// For packets with this mark.
    pub fwmark: Option<u32>,
    /// The table to be looked into.
    pub table: u32,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, to, via, onlink, interface, source, table, metric } = self;
        if !kind.is_unicast() {
            write!(f, "{} ", kind.name())?;
        }
        write!(f, "{to}")?;
        if to.prefix == 0 && to.ip.is_ipv6() {
            f.write_str(" (IPv6)")?;
        }
        via.iter().try_for_each(|via| write!(f, " via {via}"))?;
        interface.iter().try_for_each(|name| write!(f, " dev {name}"))?;
        if *onlink {
            f.write_str(" onlink")?;
        }
        source.iter().try_for_each(|source| write!(f, " src {source}"))?;
        if *table != MAIN {
            write!(f, " table {table}")?;
        }
        match *metric {
            0 => Ok(()),
            METRIC_V6 if to.ip.is_ipv6() => Ok(()),
            metric => write!(f, " metric {metric}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, priority, from, to, interface, fwmark, table } = self;
        write!(f, "rule {priority}:")?;
        if from.is_none() && to.is_none() {
            write!(f, " ({family})")?;
        }
        from.iter().try_for_each(|from| write!(f, " from {from}"))?;
        to.iter().try_for_each(|to| write!(f, " to {to}"))?;
        interface.iter().try_for_each(|name| write!(f, " iif {name}"))?;
        fwmark.iter().try_for_each(|mark| write!(f, " fwmark {mark:#x}"))?;
        write!(f, " lookup {table}")
    }
}

/// An entry of `routes`, as it is written.
#[derive(Debug)]
pub(super) struct ReadRoute {
    pub(super) at: Span,
    pub(super) kind: Option<At<RouteKind>>,
    /// `None` for `default`, whose family the rest says.
    pub(super) to: Option<At<Option<Net>>>,
    pub(super) via: Option<At<IpAddr>>,
    pub(super) onlink: Option<At<bool>>,
    pub(super) interface: Option<At<String>>,
    pub(super) source: Option<At<IpAddr>>,
    pub(super) table: Option<At<u32>>,
    pub(super) metric: Option<At<u32>>,
}

/// An entry of `rules`, as it is written.
#[derive(Debug)]
pub(super) struct ReadRule {
    pub(super) at: Span,
    pub(super) priority: Option<At<u32>>,
    pub(super) from: Option<At<Net>>,
    pub(super) to: Option<At<Net>>,
    pub(super) interface: Option<At<String>>,
    pub(super) fwmark: Option<At<u32>>,
    pub(super) table: Option<At<u32>>,
}

impl ReadRoute {
    /// Every family that it speaks of, and where.
    pub(super) fn families(&self) -> impl Iterator<Item = (Family, &Span)> {
        let to = self.to.iter().filter_map(|to| Some((to.value?.family(), &to.at)));
        let others = self.via.iter().chain(&self.source);
        to.chain(others.map(|other| (Family::of(other.value), &other.at)))
    }

    /// Where it leads, once that is known.
    pub(super) fn destination(&self) -> Option<Net> {
        let (family, _) = self.families().next()?;
        Some(self.to.as_ref()?.value.unwrap_or_else(|| Net::all(family)))
    }

    pub(super) fn kind(&self) -> RouteKind {
        self.kind.as_ref().map_or(RouteKind::Unicast, |kind| kind.value)
    }

    pub(super) fn table(&self) -> u32 {
        self.table.as_ref().map_or(MAIN, |table| table.value)
    }

    /// As the kernel will have it.
    pub(super) fn metric(&self) -> u32 {
        match self.metric.as_ref().map_or(0, |metric| metric.value) {
            0 if self.destination().is_some_and(|to| to.ip.is_ipv6()) => METRIC_V6,
            metric => metric,
        }
    }
}

pub(super) fn routes(v: &View<'_>) -> Vec<ReadRoute> {
    let route = |(at, v): (Span, View<'_>)| ReadRoute {
        at,
        kind: v.with("type", |v| RouteKind::named(v.as_str()?)),
        to: v.with("to", |v| match v.as_str()? {
            "default" => Some(None),
            text => form::network(text).ok().map(|(ip, prefix)| Some(Net { ip, prefix })),
        }),
        via: v.with("via", |v| form::node_ip(v.as_str()?).ok()),
        onlink: v.flag("onlink"),
        interface: v.text("interface"),
        source: v.with("source", |v| form::node_ip(v.as_str()?).ok()),
        table: v.int("table"),
        metric: v.int("metric"),
    };
    v.tables("routes").into_iter().map(route).collect()
}

pub(super) fn rules(v: &View<'_>) -> Vec<ReadRule> {
    let net = |v: &View<'_>, key| {
        v.with(key, |v| form::network(v.as_str()?).ok().map(|(ip, prefix)| Net { ip, prefix }))
    };
    let rule = |(at, v): (Span, View<'_>)| ReadRule {
        at,
        priority: v.int("priority"),
        from: net(&v, "from"),
        to: net(&v, "to"),
        interface: v.text("interface"),
        fwmark: v.int("fwmark"),
        table: v.int("table"),
    };
    v.tables("rules").into_iter().map(rule).collect()
}

/// `None` if something required is absent, which was told.
pub(super) fn lower_routes(read: &[ReadRoute]) -> Option<Vec<Route>> {
    let route = |r: &ReadRoute| {
        Some(Route {
            kind: r.kind(),
            to: r.destination()?,
            via: r.via.as_ref().map(|via| via.value),
            onlink: r.onlink.as_ref().is_some_and(|onlink| onlink.value),
            interface: r.interface.as_ref().map(|name| name.value.clone()),
            source: r.source.as_ref().map(|source| source.value),
            table: r.table(),
            metric: r.metric(),
        })
    };
    read.iter().map(route).collect()
}

/// A rule that names no address is one for each of `families`.
pub(super) fn lower_rules(read: &[ReadRule], families: &[Family]) -> Option<Vec<Rule>> {
    let mut all = Vec::new();
    for r in read {
        let named = r.from.as_ref().or(r.to.as_ref()).map(|net| net.value.family());
        for family in families.iter().filter(|f| named.is_none_or(|named| named == **f)) {
            all.push(Rule {
                family: *family,
                priority: r.priority.as_ref()?.value,
                from: r.from.as_ref().map(|net| net.value),
                to: r.to.as_ref().map(|net| net.value),
                interface: r.interface.as_ref().map(|name| name.value.clone()),
                fwmark: r.fwmark.as_ref().map(|mark| mark.value),
                table: r.table.as_ref()?.value,
            });
        }
    }
    Some(all)
}
