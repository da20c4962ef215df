//! What is looked at, against what is really there: HAProxy, PostgreSQL, `PgBouncer`, Patroni,
//! processes, files, interfaces. Needs root and these programs; each test has a network of its own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

#[path = "check/database.rs"]
mod database;
#[path = "check/host.rs"]
mod host;
#[path = "namespace/mod.rs"]
mod namespace;
#[path = "check/proxy.rs"]
mod proxy;
#[path = "check/rig.rs"]
mod rig;
