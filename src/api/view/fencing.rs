//! The part of `vipctl status` about fencing: each node that can be fenced, and its devices.

use super::View;
use super::text::{Row, Tone, cell, table};
use super::time::Clocks;
use crate::core::status::{DeviceStatus, FencingStatus};

/// A row for each node that has devices, or with which something is the matter.
pub(super) fn fencing(all: &[FencingStatus], view: &View, clocks: &Clocks) -> String {
    let rows: Vec<Row> = all
        .iter()
        .filter(|f| !f.devices.is_empty() || f.state != "idle")
        .map(|f| row(f, clocks))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["FENCE", "STATE", "SINCE", "DEVICES"], &rows, view.width, view.color)
}

fn row(node: &FencingStatus, clocks: &Clocks) -> Row {
    let tone = match node.state.as_str() {
        "idle" => Tone::Plain,
        "off" | "waiting" | "asking" | "fencing" => Tone::Warn,
        _ => Tone::Bad,
    };
    let state = match (&node.agent, node.next) {
        (Some(agent), _) => format!("{}: {agent}", node.state),
        (None, Some(next)) => {
            format!("{}, next in {} s", node.state, next.since(clocks.boot).as_secs())
        }
        (None, None) => node.state.clone(),
    };
    let since = node.since.map_or_else(|| "-".to_owned(), |at| clocks.ago(at));
    let bad = node.devices.iter().any(|d| d.answer.as_ref().is_some_and(|a| !a.good));
    let devices: Vec<_> = node.devices.iter().map(|d| device(d, clocks)).collect();
    let devices = if devices.is_empty() { "none".to_owned() } else { devices.join("; ") };
    let cells = vec![
        cell(&node.node, Tone::Plain),
        cell(state, tone),
        cell(since, Tone::Plain),
        cell(devices, if bad { Tone::Bad } else { Tone::Plain }),
    ];
    Row { cells, ..Row::default() }
}

/// `1: fence_ipmilan, the power is on 12 s ago`.
fn device(device: &DeviceStatus, clocks: &Clocks) -> String {
    let answer = match &device.answer {
        Some(answer) if answer.good => format!("{} {}", answer.text, clocks.ago(answer.at)),
        Some(answer) => format!("FAILED {}: {}", clocks.ago(answer.at), answer.text),
        None => "not asked yet".to_owned(),
    };
    format!("{}: {}, {answer}", device.level, device.agent)
}
