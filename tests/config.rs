//! The configuration file: good ones mean what they say, bad ones are explained.
//!
//! `tests/config/*.toml` are broken or dubious files; beside each stands what is said about it.
//! `VIPD_BLESS=1 cargo test --test config` writes the answers anew: read the difference.

#[path = "config/checks.rs"]
mod checks;
#[path = "config/fence.rs"]
mod fence;
#[path = "config/files.rs"]
mod files;
#[path = "config/lease.rs"]
mod lease;
#[path = "config/properties.rs"]
mod properties;
#[path = "config/values.rs"]
mod values;
