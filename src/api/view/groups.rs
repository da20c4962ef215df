//! The table of groups.

use super::View;
use super::text::{Cell, Line, Row, Tone, cell, table};
use super::time::Clocks;
use crate::core::status::{
    AddressState, AddressStatus, ElectionStatus, GroupStatus, ProxyStatus, Role, RoutingState,
    RoutingStatus, Severity,
};

/// Addresses shown of a group that has many.
const SHOWN: usize = 3;

/// Every group in a row.
pub(super) fn groups(groups: &[&GroupStatus], node: &str, view: &View, clocks: &Clocks) -> String {
    let mut heads = vec!["GROUP", "ROLE", "HOLDER", "PRIO", "ADDRESSES"];
    let any_proxy = groups.iter().any(|g| g.proxy.is_some());
    if any_proxy {
        heads.push("PROXY");
    }
    heads.push("SINCE");
    let rows: Vec<Row> = groups.iter().map(|g| row(g, node, any_proxy, view, clocks)).collect();
    table(&heads, &rows, view.width, view.color)
}

fn row(group: &GroupStatus, node: &str, any_proxy: bool, view: &View, clocks: &Clocks) -> Row {
    let mut cells = vec![
        cell(&group.name, Tone::Head),
        cell(role(group.role), role_tone(group)),
        holder(group, node),
        priority(group),
        addresses(group, view.all),
    ];
    if any_proxy {
        cells.push(group.proxy.as_ref().map_or_else(|| cell("-", Tone::Dim), proxy));
    }
    cells.push(vec![
        Line::new(clocks.wall(group.since), Tone::Plain),
        Line::new(clocks.ago(group.since), Tone::Dim),
    ]);
    let failure = group.proxy.as_ref().and_then(failure);
    Row { cells, prose: Some(("WHY", group.why.clone())), below: failure.into_iter().collect() }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Init => "Init",
        Role::Backup => "Backup",
        Role::Active => "Active",
        Role::Releasing => "Releasing",
        Role::VotesOnly => "votes only",
    }
}

fn role_tone(group: &GroupStatus) -> Tone {
    match group.role {
        Role::Active => Tone::Good,
        Role::Backup | Role::VotesOnly => Tone::Plain,
        Role::Init if group.conditions.iter().any(|c| c.severity >= Severity::Error) => Tone::Bad,
        Role::Init | Role::Releasing => Tone::Warn,
    }
}

fn holder(group: &GroupStatus, node: &str) -> Cell {
    match &group.active {
        Some(name) if name == node => cell("this node", Tone::Good),
        Some(name) => cell(name, Tone::Plain),
        None => cell("nobody?", Tone::Warn),
    }
}

fn priority(group: &GroupStatus) -> Cell {
    if group.role == Role::VotesOnly {
        return cell("-", Tone::Dim);
    }
    if group.priority == group.effective_priority {
        return cell(group.priority.to_string(), Tone::Plain);
    }
    vec![
        Line::new(group.effective_priority.to_string(), Tone::Warn),
        Line::new(format!("not {}", group.priority), Tone::Dim),
    ]
}

/// Those that are not as they should be come first, so that none hides behind "more".
fn addresses(group: &GroupStatus, all: bool) -> Cell {
    let mut sorted: Vec<_> = group.addresses.iter().map(|a| (tone(a, group.role), a)).collect();
    sorted.sort_by_key(|(tone, _)| match tone {
        Tone::Bad => 0,
        Tone::Warn => 1,
        Tone::Plain | Tone::Good | Tone::Dim | Tone::Head => 2,
    });
    let shown = if all || sorted.len() <= SHOWN + 1 { sorted.len() } else { SHOWN };
    let hidden = sorted.len() - shown;
    let lines = sorted.into_iter().take(shown).flat_map(|(tone, a)| address(a, tone));
    let more = (hidden > 0).then(|| Line::new(format!("+{hidden} more"), Tone::Dim));
    lines.chain(more).collect()
}

fn address(address: &AddressStatus, tone: Tone) -> Cell {
    let mut lines = cell(&address.address, tone);
    let state = matches!(tone, Tone::Bad | Tone::Warn).then(|| word(address.state).to_owned());
    let restored = (address.restored > 0).then(|| format!("restored {}x", address.restored));
    let remarks: Vec<_> = state.into_iter().chain(restored).collect();
    if !remarks.is_empty() {
        lines.push(Line::new(format!("  {}", remarks.join(", ")), tone));
    }
    lines
}

/// Plain on the host that holds it, dim where it is rightly absent.
fn tone(address: &AddressStatus, role: Role) -> Tone {
    match (address.state, role) {
        (AddressState::Failed, _)
        | (AddressState::Absent, Role::Active)
        | (AddressState::Present, Role::Init | Role::Backup | Role::VotesOnly) => Tone::Bad,
        (AddressState::Present, Role::Active) => Tone::Plain,
        (AddressState::Absent, _) => Tone::Dim,
        (AddressState::Adding | AddressState::Removing, _)
        | (AddressState::Present, Role::Releasing) => Tone::Warn,
    }
}

const fn word(state: AddressState) -> &'static str {
    match state {
        AddressState::Absent => "ABSENT",
        AddressState::Adding => "adding",
        AddressState::Present => "PRESENT",
        AddressState::Removing => "removing",
        AddressState::Failed => "FAILED",
    }
}

fn proxy(proxy: &ProxyStatus) -> Cell {
    let what = proxy.what.strip_suffix(".service").unwrap_or(&proxy.what);
    let what = what.rsplit('/').next().unwrap_or(what);
    let tone = match proxy.state.as_str() {
        "running" => Tone::Good,
        "failed" | "stuck" => Tone::Bad,
        "stopped" => Tone::Plain,
        _ => Tone::Warn,
    };
    vec![Line::new(what, Tone::Plain), Line::new(&proxy.state, tone)]
}

fn failure(proxy: &ProxyStatus) -> Option<Line> {
    let last = proxy.last_failure.as_ref()?;
    let text = format!("proxy: {} recent failures; the last: {last}", proxy.failures);
    Some(Line::new(text, if proxy.failures > 0 { Tone::Warn } else { Tone::Dim }))
}

/// What is left to say of one group: its protocol side.
pub(super) fn details(group: &GroupStatus, clocks: &Clocks) -> Vec<String> {
    let interface = group.interface.as_deref().unwrap_or("not there yet");
    let mut lines =
        vec![format!("vrid {}, VRRPv{}, interface {interface}", group.vrid, group.version)];
    if let Some(proxy) = &group.proxy {
        let pid = proxy.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        let since = clocks.since(proxy.since);
        lines.push(format!("proxy {} {} since {since}{pid}", proxy.what, proxy.state));
    }
    lines.extend(group.routing.iter().map(routing));
    lines.extend(group.elections.iter().map(|e| election(e, clocks)));
    lines
}

fn routing(entry: &RoutingStatus) -> String {
    let state = match entry.state {
        RoutingState::Absent => "is not here",
        RoutingState::Adding => "is being added",
        RoutingState::Present => "is here",
        RoutingState::Failed => "FAILED",
    };
    let restored = match entry.restored {
        0 => String::new(),
        n => format!(", restored {n}x"),
    };
    format!("{} {state}{restored}", entry.what)
}

fn election(election: &ElectionStatus, clocks: &Clocks) -> String {
    let mut parts =
        vec![format!("{}: interval {} ms", election.family, election.learned_interval_ms)];
    parts.push(match &election.heard {
        Some(h) => format!("heard {} priority {} {}", h.from, h.priority, clocks.ago(h.at)),
        None => "nobody heard".into(),
    });
    let counters = election.counters.iter().filter(|(_, n)| *n > 0);
    parts.extend(counters.map(|(name, n)| format!("{name} {n}")));
    parts.join(", ")
}
