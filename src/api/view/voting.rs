//! The part of `vipctl status` about leases: who may hold, until when, who granted it, what each
//! voter thinks.

use std::time::Duration;

use super::View;
use super::text::{Cell, Row, Tone, cell, indented, table};
use super::time::{Clocks, lasted};
use crate::core::status::{
    GateStatus, GroupStatus, LeaseStatus, Status, VoteStatus, VoterStatus, VotingStatus,
};

/// More votes than that are shown of a group only if it is asked about.
const FEW: usize = 4;

/// Groups that are held by lease, the voters, the terms, the gate.
pub(super) fn voting(
    status: &Status,
    shown: &[&GroupStatus],
    view: &View,
    clocks: &Clocks,
) -> String {
    let mut out = String::new();
    let leased: Vec<_> = shown.iter().filter_map(|g| Some((*g, g.lease.as_ref()?))).collect();
    if let Some(voting) = &status.voting {
        if !leased.is_empty() {
            let all = leased.len() <= FEW;
            let rows: Vec<Row> =
                leased.iter().map(|(g, l)| lease(g, l, voting, &status.node, all)).collect();
            let heads = ["LEASE", "MAY HOLD", "FOR", "TENURE", "GRANTED BY"];
            out += &table(&heads, &rows, view.width, view.color);
            out.push('\n');
        }
        let rows: Vec<Row> = voting.voters.iter().map(|v| voter(v, clocks)).collect();
        let heads = ["VOTER", "HEARD", "HEARS US", "CONFIGURATION", "VOTES"];
        out += &table(&heads, &rows, view.width, view.color);
        out += &indented(&terms(voting, clocks), Tone::Dim, 0, view.width, view.color);
    }
    if let Some(gate) = &status.gate {
        out += &indented(&words(gate), Tone::Dim, 0, view.width, view.color);
    }
    out
}

fn lease(
    group: &GroupStatus,
    lease: &LeaseStatus,
    voting: &VotingStatus,
    me: &str,
    all: bool,
) -> Row {
    let holder = match &lease.holder {
        Some(name) if name == me => cell("this node", Tone::Good),
        Some(name) => cell(name, Tone::Plain),
        None => cell("nobody known", Tone::Warn),
    };
    let left = lease.left_us.map_or_else(|| "-".to_owned(), micros);
    let granted = if lease.granted_by.is_empty() {
        cell("-", Tone::Dim)
    } else {
        let count = format!("{} of {}: ", lease.granted_by.len(), voting.voters.len());
        cell(count + &lease.granted_by.join(", "), Tone::Plain)
    };
    let cells = vec![
        cell(&group.name, Tone::Plain),
        holder,
        cell(left, Tone::Plain),
        cell(lease.tenure.to_string(), Tone::Plain),
        granted,
    ];
    let votes: Vec<String> = lease.votes.iter().filter(|_| all).map(vote).collect();
    let prose = (!votes.is_empty()).then(|| ("EACH VOTE", votes.join("; ")));
    Row { cells, prose, ..Row::default() }
}

fn vote(vote: &VoteStatus) -> String {
    match (&vote.to, vote.left_us) {
        _ if !vote.known => format!("{} not known", vote.voter),
        (Some(to), Some(left)) => format!("{} for {to}, {}", vote.voter, micros(left)),
        (Some(_) | None, _) => format!("{} for nobody", vote.voter),
    }
}

fn voter(voter: &VoterStatus, clocks: &Clocks) -> Row {
    let name = format!("{}{}", voter.name, if voter.witness { " (witness)" } else { "" });
    let heard: Cell = match (voter.me, voter.alive, voter.heard) {
        (true, ..) => cell("this node", Tone::Plain),
        (false, true, Some(at)) => cell(clocks.ago(at), Tone::Plain),
        (false, _, Some(at)) => {
            cell(format!("NO, for {}", lasted(clocks.boot.since(at))), Tone::Bad)
        }
        (false, _, None) => cell("NEVER", Tone::Bad),
    };
    let both = match (voter.me, voter.alive, voter.hears_us) {
        (true, ..) | (_, false, _) => cell("-", Tone::Dim),
        (false, true, true) => cell("yes", Tone::Plain),
        (false, true, false) => cell("NO", Tone::Bad),
    };
    let same = match voter.same_configuration {
        _ if voter.twin.is_some() => cell("TWICE", Tone::Bad),
        Some(true) => cell("the same", Tone::Plain),
        Some(false) => cell("ANOTHER", Tone::Bad),
        None => cell("not known", Tone::Warn),
    };
    let counts = match (voter.alive, voter.settled) {
        (true, true) => cell("yes", Tone::Plain),
        (true, false) => cell("not yet", Tone::Warn),
        (false, _) => cell("-", Tone::Dim),
    };
    Row { cells: vec![cell(name, Tone::Plain), heard, both, same, counts], ..Row::default() }
}

fn terms(voting: &VotingStatus, clocks: &Clocks) -> String {
    let mut text = format!(
        "{} of {} votes are a majority; a holder asks every {}, serves for at most {} after that; a \
         vote lasts {}",
        voting.majority,
        voting.voters.len(),
        micros(voting.renew_us),
        micros(voting.term_us),
        micros(voting.vote_us)
    );
    if let Some(until) = voting.quiet_until {
        let left = lasted(until.since(clocks.boot));
        text.push_str("; this node votes for nobody for another ");
        text.push_str(&left);
    }
    if let Some(missing) = &voting.waits_for {
        let names = if missing.is_empty() { "nobody".to_owned() } else { missing.join(", ") };
        text.push_str("; a new configuration waits for ");
        text.push_str(&names);
    }
    text
}

fn words(gate: &GateStatus) -> String {
    format!(
        "the kernel's gate ({}) is on {} interfaces; while shut it dropped {} frames in, {} out",
        gate.mode, gate.interfaces, gate.dropped_in, gate.dropped_out
    )
}

/// `172 ms`, `240.5 ms`, `1.0s`.
fn micros(us: u64) -> String {
    // To the nearest tenth of a millisecond.
    let tenths = us.saturating_add(50) / 100;
    if tenths < 10_000 && !tenths.is_multiple_of(10) {
        format!("{}.{} ms", tenths / 10, tenths % 10)
    } else {
        lasted(Duration::from_micros(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_of_milliseconds_where_there_are_any() {
        for (us, text) in
            [(0, "0 ms"), (172_000, "172 ms"), (240_461, "240.5 ms"), (1_022_100, "1.0s")]
        {
            assert_eq!(micros(us), text);
        }
    }
}
