//! Who should hold the addresses: one state machine. PURE.
//!
//! [`Node::step`] takes an [`Event`] at a time and appends [`Action`]s; [`Node::deadline`] says when to
//! step with [`Event::Tick`] if nothing else happens; [`Node::status`] tells people. It reads no
//! clock, opens no socket, spawns nothing and logs nothing.

pub mod event;
pub mod status;
