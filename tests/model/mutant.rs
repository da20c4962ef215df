//! The rules, each switched off in turn.

use super::{scenes, strict, votes, whole};

/// A rule that is switched off, from outside of the shipped code: what it is told, or what is done
/// with what it says, is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    NoMargin,
    ShortVote,
    TermFromGrant,
    TermsInForce,
    EarlyClock,
    Overwrite,
    Minority,
    CountTwice,
    KeepRounds,
    ReleaseFirst,
    AnyRound,
    UnseenRelease,
    ForgetGate,
    NameNotGate,
    NameIsGate,
    NoQuiet,
    ShortQuiet,
    ToldFirst,
    AnyTenure,
    OneRound,
    SettleAtOnce,
    SameDigest,
    GuardLate,
    NotConfirmed,
    NoQuietAfterSettling,
    Unlimited,
    InheritMoved,
    LyingAgent,
    LaxVotes,
    NameProves,
    LateMarks,
    ReturnsEarly,
    Doubtless,
    KeepsVotes,
    BeginsAlone,
}

/// Where a mutant is to be caught.
pub(crate) enum Stage {
    Votes(votes::Scene),
    Strict(strict::Scene),
    Whole(whole::Scene),
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) mutant: Mutant,
    pub(crate) off: &'static str,
    pub(crate) hole: &'static str,
    pub(crate) property: &'static str,
    pub(crate) stage: Stage,
}

fn votes(
    mutant: Mutant,
    hole: &'static str,
    off: &'static str,
    property: &'static str,
    scene: votes::Scene,
) -> Row {
    let stage = Stage::Votes(votes::Scene { mutant: Some(mutant), ..scene });
    Row { mutant, off, hole, property, stage }
}

fn whole(mutant: Mutant, hole: &'static str, off: &'static str, scene: whole::Scene) -> Row {
    let stage = Stage::Whole(whole::Scene { mutant: Some(mutant), ..scene });
    Row { mutant, off, hole, property: whole::ONE_GATE, stage }
}

/// Every mutant that has states to search.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = votes_rows();
    rows.extend(strict_rows());
    rows.extend(whole_rows());
    rows
}

fn votes_rows() -> Vec<Row> {
    use Mutant::*;
    use votes::{LOCKED, ONE_GATE, TENURES};
    let one = ONE_GATE;
    vec![
        votes(
            NoMargin,
            "H8",
            "a vote lasts no longer than a term, with clocks that differ",
            one,
            scenes::drift(),
        ),
        votes(ShortVote, "H8", "a vote is shorter than a term", one, scenes::two_candidates()),
        votes(
            TermFromGrant,
            "S1",
            "a term counts from the last vote, not from the request",
            one,
            scenes::longer_terms(),
        ),
        votes(
            TermsInForce,
            "H8",
            "a round takes the term in force when its votes come",
            one,
            scenes::other_term(),
        ),
        votes(
            EarlyClock,
            "H10",
            "a vote counts from a clock read before the request came",
            one,
            scenes::frozen(),
        ),
        votes(
            Overwrite,
            "S2",
            "a vote that lasts is given to another",
            one,
            scenes::two_candidates(),
        ),
        votes(Minority, "S1", "one vote of three is enough", one, scenes::two_candidates()),
        votes(CountTwice, "S1", "a voter counts twice", one, scenes::two_candidates()),
        votes(KeepRounds, "H1", "a gate that is shut keeps its rounds", one, scenes::step_down()),
        votes(
            ReleaseFirst,
            "S4",
            "votes are given back before the gate is shut",
            one,
            scenes::two_candidates(),
        ),
        votes(AnyRound, "S4", "a release counts for later rounds too", one, scenes::step_down()),
        votes(
            UnseenRelease,
            "T2",
            "a release that gives nothing back is forgotten",
            LOCKED,
            scenes::two_candidates(),
        ),
        votes(
            ForgetGate,
            "H2",
            "a daemon does not ask the kernel what an earlier run left open",
            one,
            scenes::restart_of_a_holder(),
        ),
        votes(NameNotGate, "H3", "a vote is bound to a host's name", one, scenes::twin()),
        votes(NameIsGate, "H14", "two machines of one name have one gate id", one, scenes::twin()),
        votes(NoQuiet, "H13", "a voter that forgot votes at once", one, scenes::loss()),
        votes(ShortQuiet, "H8", "quiet is shorter than a vote", one, scenes::loss()),
        votes(ToldFirst, "H13", "a vote is told before it is written down", one, scenes::restart()),
        votes(
            AnyTenure,
            "H16",
            "a tenure need not be higher than the last",
            TENURES,
            scenes::two_candidates(),
        ),
    ]
}

fn strict_rows() -> Vec<Row> {
    use Mutant::*;
    let row = |mutant, off, scene: strict::Scene| {
        let stage = Stage::Strict(strict::Scene { mutant: Some(mutant), ..scene });
        Row { mutant, off, hole: "H12", property: votes::ONE_GATE, stage }
    };
    vec![
        row(LaxVotes, "a vote that needs proof ends by itself", strict::fenced()),
        row(LyingAgent, "an agent says that a host is off, and it is not", strict::fenced()),
        row(NameProves, "a proof names the node, not what was in doubt", strict::again()),
        row(LateMarks, "a fence proves what was not known when it began", strict::again()),
        row(ReturnsEarly, "another gate of a name ends a vote within its term", strict::twin()),
        row(Doubtless, "a voter that forgot doubts nobody", strict::forgets()),
        row(BeginsAlone, "of two nodes one begins with its own vote", strict::pair()),
    ]
}

fn whole_rows() -> Vec<Row> {
    use Mutant::*;
    vec![
        whole(
            SettleAtOnce,
            "H4, H5, H9",
            "a file counts at once, not when everybody has it",
            scenes::moves(),
        ),
        whole(SameDigest, "H4", "what is in a file is not compared", scenes::moves()),
        whole(
            GuardLate,
            "H4, H6g",
            "the new file is told of before the kernel guards by it",
            scenes::all_switch(),
        ),
        whole(
            NotConfirmed,
            "H9",
            "that everybody was seen is not written down before voting",
            scenes::back(),
        ),
        whole(
            InheritMoved,
            "H4, H6g",
            "a gate is gone on with after the address moved to another group",
            scenes::back(),
        ),
        whole(
            Unlimited,
            "H8, H2",
            "a gate from longer terms is gone on with as it is",
            scenes::other_terms_later(),
        ),
        whole(
            NoQuietAfterSettling,
            "H9, H15",
            "a voter of another configuration votes as soon as everybody was seen",
            scenes::replaced(),
        ),
    ]
}
