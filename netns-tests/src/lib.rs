//! The lab: hosts, faults and what the tests of vipd need beyond the standard library.

pub mod nspawn;
