//! The document as spanned values. Says nothing: what is not as it must be, [`super::walk`] told.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diag::Span;
use super::form;
use super::read_check::{Check, check};
use super::read_fence::{Device, Fencing, devices, fencing};
use super::routing::{ReadRoute, ReadRule, routes, rules};
use super::walk::integer;
use crate::types::{Priority, Version, VrId};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: Span,
    pub(super) value: T,
}

/// The file; `None` and missing entries are what was absent or refused.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) cluster: Option<Cluster>,
    pub(super) nodes: Vec<Node>,
    pub(super) witnesses: Vec<Witness>,
    pub(super) groups: Vec<Group>,
    pub(super) fencing: Option<Fencing>,
    pub(super) checks: Vec<Check>,
    pub(super) hooks: Vec<Hook>,
    pub(super) sessions: Option<Sessions>,
    pub(super) watchdog: Option<Watchdog>,
}

impl File {
    /// How many have a vote.
    pub(super) fn voters(&self) -> usize {
        self.nodes.len() + self.witnesses.len()
    }

    /// Every further address of every voter.
    pub(super) fn paths(&self) -> impl Iterator<Item = &At<IpAddr>> {
        let nodes = self.nodes.iter().map(|n| &n.paths);
        let all = nodes.chain(self.witnesses.iter().map(|w| &w.paths));
        all.flatten().flat_map(|p| &p.value)
    }
}

/// `[cluster]`
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) at: Span,
    pub(super) name: Option<At<String>>,
    /// Empty where it is not a text.
    pub(super) secret: Option<At<String>>,
    pub(super) port: Option<At<u16>>,
    pub(super) lease: Option<At<Duration>>,
}

/// `[[node]]`
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Span,
    pub(super) name: Option<At<String>>,
    pub(super) address: Option<At<IpAddr>>,
    pub(super) address6: Option<At<Ipv6Addr>>,
    pub(super) paths: Option<At<Vec<At<IpAddr>>>>,
    pub(super) priority: Option<At<Priority>>,
    pub(super) fence: Vec<Device>,
}

/// `[[witness]]`
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) at: Span,
    pub(super) name: Option<At<String>>,
    pub(super) address: Option<At<IpAddr>>,
    pub(super) paths: Option<At<Vec<At<IpAddr>>>>,
}

/// `[[group]]`
#[derive(Debug)]
pub(super) struct Group {
    pub(super) at: Span,
    pub(super) name: Option<At<String>>,
    pub(super) vrid: Option<At<VrId>>,
    pub(super) addresses: Vec<Address>,
    pub(super) safety: Option<At<String>>,
    pub(super) interface: Option<At<String>>,
    pub(super) version: Option<At<Version>>,
    pub(super) interval: Option<At<Duration>>,
    pub(super) priorities: Vec<(At<String>, At<Priority>)>,
    pub(super) preempt: Option<At<bool>>,
    pub(super) preempt_delay: Option<At<Duration>>,
    pub(super) start_delay: Option<At<Duration>>,
    pub(super) checksum: Option<At<String>>,
    pub(super) transport: Option<At<String>>,
    pub(super) min_ttl: Option<At<u8>>,
    pub(super) routers: Vec<Router>,
    pub(super) password_file: Option<At<String>>,
    pub(super) link_local: Option<At<Ipv6Addr>>,
    pub(super) sync: Option<At<String>>,
    pub(super) spread: Option<At<String>>,
    pub(super) stickiness: Option<At<u8>>,
    pub(super) recovery_delay: Option<At<Duration>>,
    pub(super) restore_limit: Option<At<u32>>,
    pub(super) schedule: Option<At<Vec<At<Duration>>>>,
    pub(super) refresh: Option<Refresh>,
    pub(super) proxy: Option<Proxy>,
    pub(super) routes: Vec<ReadRoute>,
    pub(super) rules: Vec<ReadRule>,
}

impl Group {
    /// What says how it is held: the value of `safety`, or the header where there is none.
    pub(super) fn place(&self) -> Span {
        self.safety.as_ref().map_or_else(|| self.at.clone(), |s| s.at.clone())
    }
}

/// How often something is repeated.
#[derive(Debug)]
pub(super) enum Refresh {
    Never,
    Every(Duration),
}

/// An entry of `routers`.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) name: Option<At<String>>,
    pub(super) address: At<IpAddr>,
}

/// An entry of `addresses`.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) at: Span,
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
    pub(super) interface: Option<At<String>>,
    pub(super) label: Option<At<String>>,
    pub(super) advertise: Option<At<bool>>,
    pub(super) preferred: Option<At<bool>>,
}

/// `[group.proxy]`
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) at: Span,
    /// Whether there is a `unit` or a `command`, be it refused.
    pub(super) named: bool,
    pub(super) unit: Option<At<String>>,
    pub(super) command: Option<At<Vec<At<String>>>>,
    pub(super) user: Option<At<String>>,
    pub(super) run: Option<At<String>>,
    pub(super) config: Option<At<String>>,
    pub(super) start_timeout: Option<At<Duration>>,
    pub(super) stop_timeout: Option<At<Duration>>,
    pub(super) migration_threshold: Option<At<u32>>,
    pub(super) failure_expiry: Option<At<Duration>>,
    pub(super) restarts: Option<At<u32>>,
    pub(super) restart_window: Option<At<Duration>>,
}

/// `[[hook]]`
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) at: Span,
    /// Whether there is a `run` or a `url`, be it refused.
    pub(super) named: bool,
    pub(super) name: Option<At<String>>,
    pub(super) run: Option<At<Vec<At<String>>>>,
    pub(super) url: Option<At<String>>,
    pub(super) style: Option<At<String>>,
    pub(super) on: Option<At<Vec<At<String>>>>,
    pub(super) groups: Option<At<Vec<At<String>>>>,
    pub(super) timeout: Option<At<Duration>>,
    pub(super) user: Option<At<String>>,
    pub(super) recipient: Option<At<String>>,
    pub(super) token_file: Option<At<String>>,
}

/// `[sessions]`
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) at: Span,
    pub(super) servers: Option<At<Vec<At<String>>>>,
    pub(super) user: Option<At<String>>,
    pub(super) database: Option<At<String>>,
    pub(super) password_file: Option<At<String>>,
    pub(super) tls: Option<At<String>>,
    pub(super) ca: Option<At<String>>,
}

/// `[watchdog]`
#[derive(Debug)]
pub(super) struct Watchdog {
    pub(super) device: Option<At<String>>,
    pub(super) timeout: Option<At<Duration>>,
    pub(super) reboot: Option<At<bool>>,
}

/// A table under its keys.
pub(super) struct View<'d>(pub(super) &'d DeTable<'d>);

impl<'d> View<'d> {
    pub(super) fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.0.get(key)
    }

    /// Where the value stands; the header of a table.
    pub(super) fn at(&self, key: &str) -> Span {
        self.value(key).map_or(0..0, Spanned::span)
    }

    pub(super) fn with<T>(
        &self,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<At<T>> {
        let value = self.value(key)?;
        Some(At { at: value.span(), value: read(value.get_ref())? })
    }

    pub(super) fn text(&self, key: &str) -> Option<At<String>> {
        self.with(key, |v| v.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&self, key: &str) -> Option<At<bool>> {
        self.with(key, |v| if let DeValue::Boolean(b) = v { Some(*b) } else { None })
    }

    pub(super) fn int<T: TryFrom<i64>>(&self, key: &str) -> Option<At<T>> {
        self.with(key, |v| T::try_from(integer(v)?).ok())
    }

    pub(super) fn time(&self, key: &str) -> Option<At<Duration>> {
        self.with(key, |v| form::time(v.as_str()?).ok())
    }

    /// A list of texts.
    pub(super) fn words(&self, key: &str) -> Option<At<Vec<At<String>>>> {
        self.with(key, |v| {
            let each = v.as_array()?.iter();
            each.map(|w| Some(At { at: w.span(), value: w.get_ref().as_str()?.to_owned() }))
                .collect()
        })
    }

    pub(super) fn view(&self, key: &str) -> Option<View<'d>> {
        self.value(key).and_then(|v| v.get_ref().as_table()).map(View)
    }

    /// The tables of a list, with the span of each header.
    pub(super) fn tables(&self, key: &str) -> Vec<(Span, View<'d>)> {
        let list = self.value(key).and_then(|v| v.get_ref().as_array());
        let each = list.into_iter().flat_map(|l| l.iter());
        each.filter_map(|v| Some((v.span(), View(v.get_ref().as_table()?)))).collect()
    }
}

/// Reads the document.
pub(super) fn file(doc: &DeTable<'_>) -> File {
    let root = View(doc);
    File {
        cluster: root.view("cluster").map(|c| cluster(root.at("cluster"), &c)),
        nodes: root.tables("node").into_iter().map(|(at, v)| node(at, &v)).collect(),
        witnesses: root.tables("witness").into_iter().map(|(at, v)| witness(at, &v)).collect(),
        groups: root.tables("group").into_iter().map(|(at, v)| group(at, &v)).collect(),
        fencing: root.view("fencing").map(|f| fencing(root.at("fencing"), &f)),
        checks: root.tables("check").into_iter().map(|(at, v)| check(at, &v)).collect(),
        hooks: root.tables("hook").into_iter().map(|(at, v)| hook(at, &v)).collect(),
        sessions: root.view("sessions").map(|v| sessions(root.at("sessions"), &v)),
        watchdog: root.view("watchdog").map(|v| watchdog(&v)),
    }
}

fn sessions(at: Span, v: &View<'_>) -> Sessions {
    Sessions {
        at,
        servers: v.words("servers"),
        user: v.text("user"),
        database: v.text("database"),
        password_file: v.text("password-file"),
        tls: v.text("tls"),
        ca: v.text("ca"),
    }
}

fn watchdog(v: &View<'_>) -> Watchdog {
    Watchdog { device: v.text("device"), timeout: v.time("timeout"), reboot: v.flag("reboot") }
}

fn cluster(at: Span, v: &View<'_>) -> Cluster {
    Cluster {
        at,
        name: v.text("name"),
        secret: v.with("secret", |v| Some(v.as_str().unwrap_or_default().to_owned())),
        port: v.int("port"),
        lease: v.time("lease"),
    }
}

fn witness(at: Span, v: &View<'_>) -> Witness {
    Witness {
        name: v.text("name"),
        address: v.with("address", |v| form::voter_ip(v.as_str()?).ok()),
        paths: paths(&at, v),
        at,
    }
}

/// None of them, at the header, where the key is not given.
fn paths(at: &Span, v: &View<'_>) -> Option<At<Vec<At<IpAddr>>>> {
    let Some(list) = v.value("paths") else {
        return Some(At { at: at.clone(), value: Vec::new() });
    };
    let path = |v: &Spanned<DeValue<'_>>| {
        Some(At { at: v.span(), value: form::voter_ip(v.get_ref().as_str()?).ok()? })
    };
    let all = list.get_ref().as_array()?.iter().map(path).collect::<Option<_>>()?;
    Some(At { at: list.span(), value: all })
}

fn node(at: Span, v: &View<'_>) -> Node {
    Node {
        paths: paths(&at, v),
        at,
        name: v.text("name"),
        address: v.with("address", |v| form::node_ip(v.as_str()?).ok()),
        address6: v.with("address6", |v| form::node_ip6(v.as_str()?).ok()),
        priority: v.with("priority", priority),
        fence: devices(v),
    }
}

fn priority(value: &DeValue<'_>) -> Option<Priority> {
    u8::try_from(integer(value)?).ok().filter(|p| *p > 0).map(Priority)
}

fn group(at: Span, v: &View<'_>) -> Group {
    let announce = v.view("announce");
    Group {
        at,
        name: v.text("name"),
        vrid: v.with("vrid", |v| VrId::new(u8::try_from(integer(v)?).ok()?)),
        addresses: addresses(v),
        safety: v.with("safety", |v| Some(v.as_str().unwrap_or_default().to_owned())),
        interface: v.text("interface"),
        version: v.with("version", |v| Version::try_from(u8::try_from(integer(v)?).ok()?).ok()),
        interval: v.time("interval"),
        priorities: priorities(v),
        preempt: v.flag("preempt"),
        preempt_delay: v.time("preempt-delay"),
        start_delay: v.time("start-delay"),
        checksum: v.text("checksum"),
        transport: v.text("transport"),
        min_ttl: v.int("min-ttl"),
        routers: v.tables("routers").iter().filter_map(|(_, v)| router(v)).collect(),
        password_file: v.text("password-file"),
        link_local: v.with("link-local", |v| form::link_local(v.as_str()?).ok()),
        sync: v.text("sync"),
        spread: v.text("spread"),
        stickiness: v.int("stickiness"),
        recovery_delay: v.time("recovery-delay"),
        restore_limit: v.int("restore-limit"),
        schedule: announce.as_ref().and_then(schedule),
        refresh: announce.and_then(|a| every(&a, "refresh")),
        proxy: v.view("proxy").map(|p| proxy(v.at("proxy"), &p)),
        routes: routes(v),
        rules: rules(v),
    }
}

fn priorities(v: &View<'_>) -> Vec<(At<String>, At<Priority>)> {
    let Some(View(map)) = v.view("priorities") else { return Vec::new() };
    let mut all: Vec<_> = map
        .iter()
        .filter_map(|(name, value)| {
            let name = At { at: name.span(), value: name.get_ref().to_string() };
            Some((name, At { at: value.span(), value: priority(value.get_ref())? }))
        })
        .collect();
    all.sort_by_key(|(name, _)| name.at.start);
    all
}

fn router(v: &View<'_>) -> Option<Router> {
    Some(Router {
        name: v.text("name"),
        address: v.with("address", |v| form::node_ip(v.as_str()?).ok())?,
    })
}

fn addresses(v: &View<'_>) -> Vec<Address> {
    let list = v.value("addresses").and_then(|v| v.get_ref().as_array());
    list.into_iter().flat_map(|l| l.iter()).filter_map(address).collect()
}

fn address(value: &Spanned<DeValue<'_>>) -> Option<Address> {
    let bare = |at: Span, text: &str| {
        let (ip, prefix) = form::cidr(text).ok()?;
        let (interface, label, advertise, preferred) = (None, None, None, None);
        Some(Address { at, ip, prefix, interface, label, advertise, preferred })
    };
    let Some(table) = value.get_ref().as_table() else {
        return bare(value.span(), value.get_ref().as_str()?);
    };
    let v = View(table);
    let text = v.text("address")?;
    Some(Address {
        interface: v.text("interface"),
        label: v.text("label"),
        advertise: v.flag("advertise"),
        preferred: v.flag("preferred"),
        ..bare(text.at, &text.value)?
    })
}

fn schedule(v: &View<'_>) -> Option<At<Vec<At<Duration>>>> {
    v.with("schedule", |v| {
        let each = v.as_array()?.iter();
        each.map(|t| Some(At { at: t.span(), value: form::time(t.get_ref().as_str()?).ok()? }))
            .collect()
    })
}

/// A time, or never.
pub(super) fn every(v: &View<'_>, key: &str) -> Option<Refresh> {
    match v.text(key)?.value.as_str() {
        "never" => Some(Refresh::Never),
        other => form::time(other).ok().map(Refresh::Every),
    }
}

fn proxy(at: Span, v: &View<'_>) -> Proxy {
    Proxy {
        at,
        named: v.value("unit").or(v.value("command")).is_some(),
        unit: v.text("unit"),
        command: v.words("command"),
        user: v.text("user"),
        run: v.text("run"),
        config: v.text("config"),
        start_timeout: v.time("start-timeout"),
        stop_timeout: v.time("stop-timeout"),
        migration_threshold: v.int("migration-threshold"),
        failure_expiry: v.time("failure-expiry"),
        restarts: v.int("restarts"),
        restart_window: v.time("restart-window"),
    }
}

fn hook(at: Span, v: &View<'_>) -> Hook {
    Hook {
        at,
        named: v.value("run").or(v.value("url")).is_some(),
        name: v.text("name"),
        run: v.words("run"),
        url: v.text("url"),
        style: v.text("style"),
        on: v.words("on"),
        groups: v.words("groups"),
        timeout: v.time("timeout"),
        user: v.text("user"),
        recipient: v.text("recipient"),
        token_file: v.text("token-file"),
    }
}
