//! `vipctl explain`: why each node is or is not the one, on one screen.

use super::View;
use super::checks::checks;
use super::text::{Cell, Line, Row, Tone, cell, indented, table};
use super::time::Clocks;
use crate::core::status::{GroupStatus, Severity, StandingStatus, Status};

/// One group; `None` if there is none of that name.
pub fn explain(status: &Status, group: &str, view: &View) -> Option<String> {
    let all = std::iter::once(status).chain(&status.further);
    let pictures: Vec<_> = all.filter_map(|s| picture(s, group, view)).collect();
    Some(pictures.join("\n")).filter(|text| !text.is_empty())
}

fn picture(status: &Status, group: &str, view: &View) -> Option<String> {
    let clocks = Clocks { boot: status.now, wall: view.now.clone() };
    let group = status.groups.iter().find(|g| g.name == group)?;
    let rows: Vec<Row> = group.standings.iter().map(row).collect();
    let line = |text: &str, tone| indented(text, tone, 0, view.width, view.color);
    let mut out = line(&format!("{}: {}", group.name, who(group, status)), Tone::Head);
    out.push('\n');
    out.push_str(&table(&["NODE", "PRIO", "POINTS", "IT"], &rows, view.width, view.color));
    out.push('\n');
    out.push_str(&line(&group.outlook, Tone::Plain));
    let looked = checks(&[group], view, &clocks);
    if !looked.is_empty() {
        out.push_str("\nThe checks of this node:\n");
        out.push_str(&looked);
    }
    let wrong = group.conditions.iter().filter(|c| c.severity > Severity::Info);
    for condition in wrong.chain(status.conditions.iter().filter(|c| c.severity > Severity::Info)) {
        out.push_str(&line(&format!("{}: {}", condition.name, condition.text), Tone::Warn));
    }
    Some(out)
}

fn who(group: &GroupStatus, status: &Status) -> String {
    match &group.active {
        Some(name) if *name == status.node => format!("{name}, this node, holds it; {}", group.why),
        Some(name) => format!("{name} holds it"),
        None => "nobody is known to hold it".to_owned(),
    }
}

fn row(standing: &StandingStatus) -> Row {
    let name = if standing.me { "this node" } else { "" };
    let below = (!name.is_empty()).then(|| Line::new(name, Tone::Dim));
    let tone = match (standing.holds, standing.next) {
        (true, _) => Tone::Good,
        (_, true) => Tone::Plain,
        (false, false) => Tone::Dim,
    };
    let number = |n: Option<String>| cell(n.unwrap_or_else(|| "-".to_owned()), Tone::Plain);
    let first: Cell = cell(&standing.node, Tone::Head).into_iter().chain(below).collect();
    let cells = vec![
        first,
        number(standing.priority.map(|p| p.to_string())),
        number(standing.points.map(|p| format!("-{p}")).filter(|p| p != "-0")),
        cell(state(standing), tone),
    ];
    Row { cells, prose: Some(("WHY", standing.words.clone())), below: Vec::new() }
}

const fn state(standing: &StandingStatus) -> &'static str {
    match (standing.holds, standing.next, standing.priority) {
        (true, ..) => "holds",
        (_, true, _) => "is next",
        (_, _, Some(_)) => "waits",
        (_, _, None) => "is out",
    }
}
