//! Bytes to values and back. PURE: every parser is total and fuzzed.
//!
//! * [`vrrp`]: adverts of version 2 and 3, both families, every receive check of RFC 9568 §7.1
//!   that needs no state.
//! * [`announce`]: gratuitous ARP and unsolicited neighbour advertisements, probes of peers,
//!   and what is heard in answer.
//! * [`haproxy`], [`postgresql`]: what those say of themselves when they are checked.
//! * [`icmp`]: an echo, and what comes back.
//! * [`peer`]: what voters tell each other, authenticated.
//! * [`tickle`]: what makes a client find out that its connection is gone.

pub mod announce;
mod checksum;
pub mod haproxy;
pub mod icmp;
pub mod peer;
pub mod postgresql;
pub mod tickle;
pub mod vrrp;
