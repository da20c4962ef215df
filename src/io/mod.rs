//! One file for each outside world. IMPURE, and without decisions.

pub mod proxy;
