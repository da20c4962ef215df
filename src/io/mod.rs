//! One file for each outside world. IMPURE, and without decisions.

pub mod events;
pub mod log;
pub mod notify;
