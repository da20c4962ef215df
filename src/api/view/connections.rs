//! How many connections there are, and where.

use super::View;
use super::text::{Tone, clean, indented};
use crate::core::status::{ConnectionsStatus, GroupStatus};

/// One paragraph for all of `shown`; empty where nothing is known.
pub(super) fn connections(
    known: &[ConnectionsStatus],
    shown: &[&GroupStatus],
    view: &View,
) -> String {
    let parts: Vec<_> =
        known.iter().filter(|c| shown.iter().any(|g| g.name == c.group)).map(part).collect();
    if parts.is_empty() {
        return String::new();
    }
    let text = format!("connections: {}", parts.join("; "));
    indented(&text, Tone::Dim, 0, view.width, view.color)
}

fn part(connections: &ConnectionsStatus) -> String {
    let ConnectionsStatus { group, node, known, left_out } = connections;
    let (group, node) = (clean(group), clean(node));
    match (known, left_out) {
        (0, 0) => format!("none to {group} on {node}"),
        (_, 0) => format!("{known} to {group} on {node}"),
        _ => format!("{known} to {group} on {node}, and {left_out} that no other node knows of"),
    }
}
