//! Ethernet frames, as captured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::clock::Stamp;

/// A frame seen on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When the kernel saw it.
    pub at: Stamp,
    /// Whether the host itself sent it.
    pub outgoing: bool,
    /// From the Ethernet header on, without checksum.
    pub bytes: Vec<u8>,
}

/// What an advertisement says, without any check of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Source address.
    pub source: IpAddr,
    /// Protocol version.
    pub version: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority; 0 is a goodbye.
    pub priority: u8,
}

impl Frame {
    /// Whether it carries VRRP, over either family.
    pub fn is_vrrp(&self) -> bool {
        self.payload(112).is_some()
    }

    /// Whether it is ARP.
    pub fn is_arp(&self) -> bool {
        self.ethertype() == Some(0x0806)
    }

    /// Whether it is a neighbour solicitation or advertisement.
    pub fn is_nd(&self) -> bool {
        matches!(self.payload(58), Some((_, [135 | 136, ..])))
    }

    /// Always: for a capture of everything.
    pub const fn any(&self) -> bool {
        let _ = self;
        true
    }

    /// The advertisement it carries, if it does.
    pub fn advert(&self) -> Option<Advert> {
        let (source, payload) = self.payload(112)?;
        let &[version_type, vrid, priority, ..] = payload else { return None };
        Some(Advert { source, version: version_type >> 4, vrid, priority })
    }

    fn ethertype(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes.get(12..14)?.try_into().ok()?))
    }

    /// Source and payload if it is an IP packet of `protocol`.
    fn payload(&self, protocol: u8) -> Option<(IpAddr, &[u8])> {
        let ip = self.bytes.get(14..)?;
        match self.ethertype()? {
            0x0800 if *ip.get(9)? == protocol => {
                let source: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
                let header = usize::from(ip[0] & 15) * 4;
                Some((IpAddr::V4(Ipv4Addr::from(source)), ip.get(header..)?))
            }
            0x86dd if *ip.get(6)? == protocol => {
                let source: [u8; 16] = ip.get(8..24)?.try_into().ok()?;
                Some((IpAddr::V6(Ipv6Addr::from(source)), ip.get(40..)?))
            }
            _ => None,
        }
    }
}
