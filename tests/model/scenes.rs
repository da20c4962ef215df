//! The scenes: small worlds, each about a few things that can go wrong together.

use super::votes;
use super::whole::{self, File, Step};

fn three() -> votes::Scene {
    votes::Scene {
        name: "two candidates",
        hosts: vec![(1, 1), (1, 0), (0, 0)],
        term: 2,
        vote: 3,
        horizon: 5,
        slack: 0,
        restarts: 0,
        losses: 0,
        who: None,
        twins: 0,
        cut: true,
        twice: false,
        successor: false,
        frozen: false,
        longer: None,
        mutant: None,
    }
}

/// Two hosts and a witness: the third never asks.
pub(crate) fn two_candidates() -> votes::Scene {
    three()
}

/// One candidate with two rounds under way, which gives up: for the next one, or for nobody.
pub(crate) fn step_down() -> votes::Scene {
    votes::Scene { name: "step-down", hosts: vec![(2, 1), (1, 0), (0, 0)], horizon: 3, ..three() }
}

/// The same, in favour of the second candidate or of nobody.
fn handover() -> votes::Scene {
    votes::Scene { name: "handover", successor: true, horizon: 3, ..step_down() }
}

/// Where a vote may come late enough for its lease to be counted wrong.
pub(crate) fn longer_terms() -> votes::Scene {
    votes::Scene {
        name: "late votes",
        hosts: vec![(1, 0), (1, 0), (0, 0)],
        term: 3,
        vote: 4,
        horizon: 6,
        ..three()
    }
}

/// The daemon of the first candidate is started again, asks, and takes that back.
pub(crate) fn restart_of_a_holder() -> votes::Scene {
    votes::Scene { name: "restart of a holder", who: Some(0), horizon: 3, ..restart() }
}

fn three_candidates() -> votes::Scene {
    votes::Scene {
        name: "three candidates",
        hosts: vec![(1, 0), (1, 0), (1, 0)],
        horizon: 4,
        ..three()
    }
}

/// A daemon that is started again: it remembers its votes, and the kernel its gate.
pub(crate) fn restart() -> votes::Scene {
    votes::Scene {
        name: "restart",
        restarts: 1,
        hosts: vec![(2, 1), (1, 0), (0, 0)],
        horizon: 4,
        ..three()
    }
}

/// A host that has forgotten its votes.
pub(crate) fn loss() -> votes::Scene {
    votes::Scene { name: "memory lost", losses: 1, hosts: vec![(1, 0), (1, 0), (0, 0)], ..three() }
}

/// Each clock for itself: any two differ by a tick at most, so that the lengths of a stretch of
/// time differ by two.
pub(crate) fn drift() -> votes::Scene {
    votes::Scene {
        name: "drift",
        hosts: vec![(1, 0), (1, 0), (0, 0)],
        slack: 1,
        vote: 4,
        horizon: 6,
        ..three()
    }
}

/// Any amount of time between receiving, reading the clock and handling.
pub(crate) fn frozen() -> votes::Scene {
    votes::Scene { name: "frozen", hosts: vec![(1, 0), (1, 0), (0, 0)], frozen: true, ..three() }
}

fn twice() -> votes::Scene {
    votes::Scene {
        name: "twice",
        hosts: vec![(1, 1), (1, 0), (0, 0)],
        twice: true,
        horizon: 4,
        ..three()
    }
}

/// The holder's host is cut off and started again elsewhere.
pub(crate) fn twin() -> votes::Scene {
    votes::Scene {
        name: "started elsewhere",
        hosts: vec![(1, 0), (1, 0), (0, 0)],
        twins: 1,
        horizon: 4,
        ..three()
    }
}

/// A reload with a longer term while a round is under way.
pub(crate) fn other_term() -> votes::Scene {
    votes::Scene {
        name: "longer term",
        hosts: vec![(1, 0), (1, 0), (0, 0)],
        longer: Some(4),
        vote: 3,
        horizon: 6,
        ..three()
    }
}

pub(crate) fn of_votes() -> Vec<votes::Scene> {
    vec![
        two_candidates(),
        three_candidates(),
        longer_terms(),
        step_down(),
        handover(),
        restart(),
        restart_of_a_holder(),
        loss(),
        drift(),
        frozen(),
        twice(),
        twin(),
        other_term(),
    ]
}

/// What the assumptions exclude, and would be two open gates.
pub(crate) fn excluded() -> Vec<(votes::Scene, &'static str)> {
    let seen = votes::Scene { name: "two machines of one name", cut: false, ..twin() };
    let fast = votes::Scene { name: "clocks differ more", slack: 2, ..drift() };
    vec![
        (seen, "two machines run under one name, and each is heard by other voters"),
        (fast, "clocks differ by more than the margin between a term and a vote"),
    ]
}

fn file(voters: &[u8], term: u64, groups: &str, x: char) -> File {
    File { voters: voters.to_vec(), term, vote: term + 1, groups: groups.chars().collect(), x }
}

fn lease() -> whole::Scene {
    whole::Scene {
        name: "whole lease",
        files: vec![file(&[0, 1, 2], 2, "A", 'A')],
        hosts: 3,
        wants: vec![1],
        restarts: vec![],
        losses: vec![],
        reloads: vec![],
        reverts: vec![],
        prelude: vec![],
        denials: true,
        ticks: 4,
        mutant: None,
    }
}

/// An address moves from one group to another, file by file.
pub(crate) fn moves() -> whole::Scene {
    whole::Scene {
        name: "an address moves",
        files: vec![file(&[0, 1, 2], 3, "A", 'A'), file(&[0, 1, 2], 3, "AB", 'B')],
        reloads: vec![0, 1, 2],
        denials: false,
        ticks: 1,
        ..lease()
    }
}

/// The same, and everybody has read the new file.
pub(crate) fn all_switch() -> whole::Scene {
    let prelude = vec![Step::Reload(0), Step::Reload(1), Step::Reload(2)];
    whole::Scene { name: "an address moves, later", prelude, ..moves() }
}

/// The same, everybody runs with the new file, and two go back to the old one.
pub(crate) fn back() -> whole::Scene {
    let mut prelude = all_switch().prelude;
    prelude.extend([Step::Hear(2), Step::Hear(0), Step::Hear(1), Step::Hear(2)]);
    prelude.push(Step::DeliverAll);
    whole::Scene { name: "back to the old file", reverts: vec![0, 2], prelude, ..moves() }
}

/// Everybody restarts with shorter terms, one voter having forgotten everything.
pub(crate) fn other_terms() -> whole::Scene {
    whole::Scene {
        name: "shorter terms",
        files: vec![file(&[0, 1, 2], 8, "A", 'A'), file(&[0, 1, 2], 1, "A", 'A')],
        restarts: vec![1, 1, 0],
        losses: vec![0, 0, 1],
        prelude: vec![Step::Restart(1), Step::Forget(2), Step::Restart(0)],
        denials: false,
        ticks: 3,
        ..lease()
    }
}

/// The same, and those who voted for nobody have been quiet.
pub(crate) fn other_terms_later() -> whole::Scene {
    let mut prelude = other_terms().prelude;
    prelude.extend([Step::Hear(1), Step::Hear(2), Step::Tick, Step::Tick, Step::Want(1)]);
    whole::Scene { name: "shorter terms, later", wants: vec![], prelude, ..other_terms() }
}

/// The holder is replaced by a host that ran before and forgot nothing.
pub(crate) fn replaced() -> whole::Scene {
    whole::Scene {
        name: "a voter replaced",
        files: vec![file(&[0, 1, 2], 3, "A", 'A'), file(&[1, 2, 3], 3, "A", 'A')],
        hosts: 4,
        reloads: vec![1, 2, 3],
        prelude: vec![Step::Reload(1), Step::Reload(2), Step::Reload(3)],
        denials: false,
        ticks: 2,
        ..lease()
    }
}

fn replaced_by_restart() -> whole::Scene {
    whole::Scene {
        name: "a voter replaced, restarts",
        reloads: vec![],
        restarts: vec![0, 1, 1, 1],
        prelude: vec![Step::Restart(1), Step::Restart(2), Step::Restart(3)],
        ..replaced()
    }
}

/// A forgetful voter, and restarts, under one configuration.
fn restarts() -> whole::Scene {
    whole::Scene {
        name: "whole lease, restarts",
        restarts: vec![1, 0, 0],
        losses: vec![0, 0, 1],
        denials: false,
        ..lease()
    }
}

pub(crate) fn of_leases() -> Vec<whole::Scene> {
    vec![
        lease(),
        restarts(),
        moves(),
        all_switch(),
        back(),
        other_terms(),
        other_terms_later(),
        replaced(),
        replaced_by_restart(),
    ]
}
