//! RFC 9568, row by row: the shipped core is fed bytes and time, and what it does is compared.
//! `docs/rfc9568.md` is the ledger these tests are cited from; `ledger` keeps it honest.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

mod addresses;
mod ledger;
mod reception;
mod rig;
mod states;
mod transmission;
