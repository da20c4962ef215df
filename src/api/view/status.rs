//! `vipctl status`: what a tired person wants to know, most important first.

use std::time::Duration;

use super::View;
use super::care::elsewhere;
use super::checks::checks;
use super::connections::connections;
use super::fencing::fencing;
use super::groups::{details, groups};
use super::text::{Row, Tone, cell, clean, indented, table};
use super::time::{Clocks, lasted};
use super::voting::voting;
use super::will::decisions;
use crate::core::status::{
    Condition, GroupStatus, PeerKind, PeerStatus, Severity, Status, WatchdogStatus,
};

/// The whole node, or one group of it in detail; `None` if it has no such group.
///
/// Of a witness, each of its clusters.
pub fn status(status: &Status, group: Option<&str>, view: &View) -> Option<String> {
    let all = std::iter::once(status).chain(&status.further);
    let pictures: Vec<_> = all.filter_map(|s| cluster(s, group, view)).collect();
    Some(pictures.join("\n")).filter(|text| !text.is_empty())
}

fn cluster(status: &Status, group: Option<&str>, view: &View) -> Option<String> {
    let clocks = Clocks { boot: status.now, wall: view.now.clone() };
    let shown: Vec<&GroupStatus> =
        status.groups.iter().filter(|g| group.is_none_or(|name| g.name == name)).collect();
    if group.is_some() && shown.is_empty() {
        return None;
    }
    let mut out = header(status, view, &clocks);
    out.push('\n');
    if shown.is_empty() {
        out.push_str("The file has no groups.\n");
    } else {
        out.push_str(&groups(&shown, &status.node, view, &clocks));
    }
    let failed = elsewhere(&shown, view, &clocks);
    if !failed.is_empty() {
        out.push('\n');
        out.push_str(&failed);
    }
    let looked = checks(&shown, view, &clocks);
    if !looked.is_empty() {
        out.push('\n');
        out.push_str(&looked);
    }
    let known = connections(&status.connections, &shown, view);
    if !known.is_empty() {
        out.push('\n');
        out.push_str(&known);
    }
    if group.is_some() {
        out.push('\n');
        for line in shown.iter().flat_map(|g| details(g, &clocks)) {
            out.push_str(&indented(&line, Tone::Plain, 0, view.width, view.color));
        }
    } else if !status.peers.is_empty() {
        out.push('\n');
        out.push_str(&peers(&status.peers, view, &clocks));
    }
    if status.voting.is_some() {
        out.push('\n');
        out.push_str(&voting(status, &shown, view, &clocks));
    }
    let said = decisions(&status.decisions, view, &clocks);
    if !said.is_empty() {
        out.push('\n');
        out.push_str(&said);
    }
    let fences = fencing(&status.fencing, view, &clocks);
    if group.is_none() && !fences.is_empty() {
        out.push('\n');
        out.push_str(&fences);
    }
    if let Some(watchdog) = status.watchdog.as_ref().filter(|_| group.is_none()) {
        out.push_str(&self::watchdog(watchdog, view, &clocks));
    }
    out.push('\n');
    out.push_str(&conditions(status, &shown, view, &clocks));
    out.push_str(&drops(&status.dropped));
    Some(out)
}

fn header(status: &Status, view: &View, clocks: &Clocks) -> String {
    let bold = |text: &str| Tone::Head.paint(&clean(text), view.color);
    format!(
        "cluster {}, node {}, up {}, {}\n",
        bold(&status.cluster),
        bold(&status.node),
        lasted(clocks.boot.since(status.started)),
        view.now.strftime("%Y-%m-%d %H:%M:%S %Z"),
    )
}

fn watchdog(watchdog: &WatchdogStatus, view: &View, clocks: &Clocks) -> String {
    let WatchdogStatus { device, identity, .. } = watchdog;
    let (text, tone) = if let Some(by) = watchdog.resets_by {
        let left = lasted(by.since(clocks.boot));
        (format!("the watchdog {device} ({identity}) RESETS THIS HOST within {left}"), Tone::Bad)
    } else {
        let after = lasted(Duration::from_micros(watchdog.timeout_us));
        let always =
            if watchdog.nowayout { ", also after a stop: it cannot be disarmed" } else { "" };
        let text = format!(
            "the watchdog {device} ({identity}) resets this host if it is not fed for {after}{always}"
        );
        (text, Tone::Dim)
    };
    indented(&text, tone, 0, view.width, view.color)
}

fn peers(peers: &[PeerStatus], view: &View, clocks: &Clocks) -> String {
    let row = |peer: &PeerStatus| {
        let kind = match peer.kind {
            PeerKind::Node => "node",
            PeerKind::Router => "router",
        };
        let since = peer
            .since
            .map_or_else(String::new, |t| format!(", for {}", lasted(clocks.boot.since(t))));
        let reachable = match peer.reachable {
            Some(true) => cell(format!("yes{since}"), Tone::Plain),
            Some(false) => cell(format!("NO{since}"), Tone::Bad),
            None => cell("-", Tone::Dim),
        };
        let advert = match peer.last_advert {
            Some(at) => cell(clocks.ago(at), Tone::Plain),
            None => cell("never", Tone::Dim),
        };
        let address = cell(peer.address.to_string(), Tone::Plain);
        let cells = vec![
            cell(&peer.name, Tone::Plain),
            address,
            cell(kind, Tone::Plain),
            reachable,
            advert,
        ];
        Row { cells, ..Row::default() }
    };
    let rows: Vec<Row> = peers.iter().map(row).collect();
    table(&["PEER", "ADDRESS", "KIND", "REACHABLE", "LAST ADVERT"], &rows, view.width, view.color)
}

/// What is wrong, worst first; each with its place in the runbook.
fn conditions(status: &Status, shown: &[&GroupStatus], view: &View, clocks: &Clocks) -> String {
    let node = status.conditions.iter().map(|c| (None, c));
    let groups = shown.iter().flat_map(|g| g.conditions.iter().map(|c| (Some(&*g.name), c)));
    let mut all: Vec<(Option<&str>, &Condition)> = node.chain(groups).collect();
    if all.is_empty() {
        let text = "Nothing is known to be wrong.";
        return format!("{}\n", Tone::Good.paint(text, view.color));
    }
    all.sort_by_key(|(_, c)| std::cmp::Reverse(c.severity));
    all.iter().map(|(group, c)| condition(*group, c, view, clocks)).collect()
}

fn condition(group: Option<&str>, c: &Condition, view: &View, clocks: &Clocks) -> String {
    let (mark, tone) = match c.severity {
        Severity::Error => ("!! ERROR", Tone::Bad),
        Severity::Warn => ("!  warning", Tone::Warn),
        Severity::Info | Severity::Debug => ("-  note", Tone::Plain),
    };
    let of = group.map_or_else(String::new, |g| format!(" {}:", clean(g)));
    let name = clean(&c.name);
    let mut out =
        format!("{}{of} {name} since {}\n", tone.paint(mark, view.color), clocks.since(c.since));
    out.push_str(&indented(&c.text, Tone::Plain, 3, view.width, view.color));
    out.push_str(&indented(
        &format!("what to do: /usr/share/doc/vipd/operations.md#{name}"),
        Tone::Dim,
        3,
        view.width,
        view.color,
    ));
    out
}

fn drops(dropped: &[(String, u64)]) -> String {
    let counted: Vec<_> = dropped
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(why, n)| format!("{} {n}", clean(why)))
        .collect();
    if counted.is_empty() {
        return String::new();
    }
    format!("\npackets dropped: {}\n", counted.join(", "))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
