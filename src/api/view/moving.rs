//! `vipctl move`: what is waited for, and what it cost.

use std::time::Duration;

use super::time::lasted;
use crate::api::{Connections, MoveReport};

/// What a move did.
pub fn moved(report: &MoveReport) -> String {
    let MoveReport { group, from, to, gap_us } = report;
    match gap_us {
        _ if from == to => format!("{group} is on {to} already\n"),
        Some(us) => format!(
            "{group} moved from {from} to {to}: nobody answered for {}.{} ms\n",
            us / 1000,
            us % 1000 / 100
        ),
        None => format!("{group} moved from {from} to {to}; {to} did not see how long that took\n"),
    }
}

/// What is waited for.
pub fn draining(connections: &Connections, rest: Duration) -> String {
    let Connections { group, node, older, left_out, .. } = connections;
    let others = match left_out {
        0 => String::new(),
        n => format!(", and {n} of which only {node} knows"),
    };
    format!(
        "{older} connection(s) to {group} on {node} are waited for{others}; {} left, Ctrl-C calls it \
         off\n",
        lasted(rest)
    )
}

/// How waiting ended: with so many left.
pub fn drained(left: usize) -> String {
    match left {
        0 => "every connection has ended\n".to_owned(),
        _ => format!("the time is over: {left} connection(s) are cut\n"),
    }
}
