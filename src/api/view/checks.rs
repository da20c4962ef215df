//! What is looked at, and what was found.

use super::View;
use super::text::{Cell, Line, Row, Tone, cell, table};
use super::time::Clocks;
use crate::core::status::{CheckStatus, GroupStatus};

/// Every check of `shown` in a row; empty where there are none.
pub(super) fn checks(shown: &[&GroupStatus], view: &View, clocks: &Clocks) -> String {
    let mut all: Vec<&CheckStatus> = Vec::new();
    for check in shown.iter().flat_map(|g| &g.checks) {
        if !all.iter().any(|known| known.name == check.name) {
            all.push(check);
        }
    }
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Row> = all.into_iter().map(|check| row(check, clocks)).collect();
    table(&["CHECK", "RESULT", "IF IT FAILS", "SINCE", "LAST LOOK"], &rows, view.width, view.color)
}

fn row(check: &CheckStatus, clocks: &Clocks) -> Row {
    let last = check.last.map_or_else(|| "-".to_owned(), |at| clocks.ago(at));
    let took = check.took_us.map(|us| Line::new(format!("took {} ms", us / 1000), Tone::Dim));
    let cells = vec![
        cell(&check.name, Tone::Head),
        result(check),
        cell(effect(check), Tone::Plain),
        cell(clocks.ago(check.since), Tone::Plain),
        cell(last, Tone::Plain).into_iter().chain(took).collect(),
    ];
    let found = if check.found.is_empty() { &check.what } else { &check.found };
    Row { cells, prose: Some(("FOUND", found.clone())), below: Vec::new() }
}

/// The verdict, and the last look where that says otherwise.
fn result(check: &CheckStatus) -> Cell {
    let (word, tone) = match (check.verdict, check.effect.as_str()) {
        (None, _) => ("not yet", Tone::Warn),
        (Some(true), _) => ("passes", Tone::Good),
        (Some(false), "disqualify") => ("FAILS", Tone::Bad),
        (Some(false), _) => ("FAILS", Tone::Warn),
    };
    let mut lines = cell(word, tone);
    if check.passed.is_some() && check.passed != check.verdict {
        let last = if check.passed == Some(true) { "last passed" } else { "last failed" };
        lines.push(Line::new(last, Tone::Warn));
    }
    lines
}

fn effect(check: &CheckStatus) -> String {
    match (check.effect.as_str(), check.weight) {
        ("disqualify", _) => "unfit".to_owned(),
        (_, Some(weight)) => format!("{weight} points"),
        (word, None) => word.to_owned(),
    }
}
