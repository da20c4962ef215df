//! VRRP adverts: RFC 9568 (version 3), RFC 3768 (version 2), RFC 2338 simple text (version 2).

use std::net::IpAddr;

use crate::types::{Centis, Priority, Version, VrId};

/// The IP protocol number of VRRP (RFC 9568 §5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// TTL and hop limit of every advert (RFC 9568 §5.1.1.3).
pub const HOPS: u8 = 255;

/// Which bytes the checksum of a version 3 IPv4 advert covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// The message only (RFC 9568 §5.2.8). Also every version 2 advert.
    Plain,
    /// The message after an IPv4 pseudo-header: keepalived's and FRR's default. Also every
    /// IPv6 advert.
    Pseudo,
}

/// What the IP layer told about a received advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit as received.
    pub hops: u8,
}

/// What the receiver demands, from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The version configured for this virtual router.
    pub version: Version,
    /// The fewest hops left: 255 unless a unicast peer was allowed to be further away.
    pub min_hops: u8,
    /// The simple-text password of version 2 (RFC 2338 §5.3.6.1), NUL padded; `None` demands
    /// authentication type 0.
    pub password: Option<[u8; 8]>,
}

/// A received advert that passed every check that needs no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert<'a> {
    /// Virtual router.
    pub vrid: VrId,
    /// The sender's priority.
    pub priority: Priority,
    /// The sender's interval (`Max Advertise Interval`).
    pub interval: Centis,
    /// Which checksum verified.
    pub flavour: Flavour,
    /// The advertised addresses as on the wire, 4 or 16 bytes each.
    pub addresses: &'a [u8],
}

/// Why a received payload is not a valid advert; one counter each (RFC 9568 §7.1, in order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Came through more routers than allowed.
    #[error("TTL {got}, expected at least {expected}: not from this link")]
    Hops {
        /// As received.
        got: u8,
        /// The fewest accepted.
        expected: u8,
    },
    // the full list is in the doc of the wire helper
}

/// Reads an advert from an IP payload.
///
/// # Errors
/// The first failed check, in the order of RFC 9568 §7.1.
pub fn parse<'a>(meta: &Meta, expect: &Expect, bytes: &'a [u8]) -> Result<Advert<'a>, ParseError> {
    let _ = (meta, expect, bytes);
    Err(ParseError::Hops { got: 0, expected: 255 })
}
