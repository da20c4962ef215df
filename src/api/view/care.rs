//! What fails on other nodes: proxies and checks.

use super::View;
use super::text::{Row, Tone, cell, table};
use super::time::Clocks;
use crate::core::status::{GroupStatus, NodeCheck, StandingStatus};

/// A row for each proxy of `shown` that failed lately on another node, and for each check that
/// fails there; empty where nothing does.
pub(super) fn elsewhere(shown: &[&GroupStatus], view: &View, clocks: &Clocks) -> String {
    let mut rows = Vec::new();
    let mut told: Vec<(&str, &str)> = Vec::new();
    for group in shown {
        for node in group.standings.iter().filter(|s| !s.me) {
            rows.extend((node.failures > 0).then(|| proxy(group, node, clocks)));
            for check in node.checks.iter().filter(|c| c.verdict == Some(false)) {
                // A check of several groups is told once.
                let this = (node.node.as_str(), check.name.as_str());
                if !told.contains(&this) {
                    told.push(this);
                    rows.push(looked(node, check, clocks));
                }
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    table(&["ELSEWHERE", "WHAT FAILS", "HOW OFTEN", "SINCE"], &rows, view.width, view.color)
}

fn proxy(group: &GroupStatus, node: &StandingStatus, clocks: &Clocks) -> Row {
    let of = group.proxy.as_ref().map_or(0, |p| p.migration_threshold);
    let tone = if of > 0 && node.failures >= of { Tone::Bad } else { Tone::Warn };
    let often =
        if of > 0 { format!("{} of {of}", node.failures) } else { node.failures.to_string() };
    let last = node.failed_at.map_or_else(|| "-".to_owned(), |at| clocks.ago(at));
    let cells = vec![
        cell(&node.node, Tone::Head),
        cell(format!("the proxy of {}", group.name), Tone::Plain),
        cell(often, tone),
        cell(last, Tone::Plain),
    ];
    let found = node.last_failure.clone().unwrap_or_default();
    Row { cells, prose: Some(("FOUND", found)), below: Vec::new() }
}

fn looked(node: &StandingStatus, check: &NodeCheck, clocks: &Clocks) -> Row {
    let cells = vec![
        cell(&node.node, Tone::Head),
        cell(format!("check {}", check.name), Tone::Plain),
        cell("-", Tone::Plain),
        cell(clocks.ago(check.since), Tone::Plain),
    ];
    Row { cells, prose: Some(("FOUND", check.found.clone())), below: Vec::new() }
}
