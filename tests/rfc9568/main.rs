//! RFC 9568, row by row: the shipped core is fed bytes and time, and what it does is compared.
//! `docs/rfc9568.md` is the ledger these tests are cited from; `ledger` keeps it honest.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks what it is about")]
#![allow(
    clippy::duration_suboptimal_units,
    clippy::unchecked_time_subtraction,
    reason = "expected times are written as the RFC computes them"
)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod addresses;
mod ledger;
mod reception;
mod rig;
mod selffence;
mod states;
mod transmission;
