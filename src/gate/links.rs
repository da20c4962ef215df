//! Which interfaces the gate belongs on.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Asker, attribute, attributes, number};
use crate::types::IfIndex;

// linux/rtnetlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
/// What takes the frames of its ports for itself: a frame for this host passes the interface on
/// top too, and what does not is others' business. The ports of a VRF are not among them.
const TAKERS: [&[u8]; 5] = [b"bridge", b"bond", b"team", b"openvswitch", b"hsr"];

/// An interface, as much of it as the gate has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateLink {
    /// Its number, which no other interface gets while the host is up.
    pub index: IfIndex,
    /// Its name, for messages.
    pub name: Box<str>,
    /// It is a port of a bridge or the like, where the host's own frames do not end.
    pub skip: bool,
}

impl GateLink {
    /// What a message about a link says (`RTM_NEWLINK`, without the netlink header).
    ///
    /// `None` for what is no such message, and for the messages in which bridges tell of their
    /// ports.
    pub fn from_message(payload: &[u8]) -> Option<Self> {
        let (family, index) = (payload.first()?, number(payload.get(4..)?)?);
        let inside = payload.get(HEADER..)?;
        let text = |value: &[u8]| {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            String::from_utf8_lossy(text).into_owned().into_boxed_str()
        };
        let name = attribute(inside, IFLA_IFNAME).map(text)?;
        let kinds = attribute(inside, IFLA_LINKINFO).into_iter().flat_map(attributes);
        let skip = kinds
            .filter(|(kind, _)| *kind == IFLA_INFO_SLAVE_KIND)
            .any(|(_, of)| TAKERS.contains(&of.strip_suffix(&[0]).unwrap_or(of)));
        (*family == 0).then_some(Self { index: IfIndex(index), name, skip })
    }
}

/// All interfaces of the network that the calling thread is in.
///
/// # Errors
/// The kernel does not tell.
pub fn present() -> io::Result<Vec<GateLink>> {
    let mut found = Vec::new();
    Asker::open(NETLINK_ROUTE)?.dump(RTM_GETLINK, &[0; HEADER], |kind, payload| {
        if kind == RTM_NEWLINK {
            found.extend(GateLink::from_message(payload));
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::netlink::Bytes;
    use super::*;

    fn message(family: u8, port_of: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = family;
        bytes[4] = 7;
        let bytes = Bytes(bytes).text(IFLA_IFNAME, "eth0");
        match port_of {
            Some(kind) => {
                let info = Bytes::default().text(1, "veth").text(IFLA_INFO_SLAVE_KIND, kind);
                bytes.nest(IFLA_LINKINFO, &info).0
            }
            None => bytes.0,
        }
    }

    #[test]
    fn a_port_is_skipped_unless_its_frames_end_here() {
        let link = |skip| GateLink { index: IfIndex(7), name: "eth0".into(), skip };
        assert_eq!(GateLink::from_message(&message(0, None)), Some(link(false)));
        assert_eq!(GateLink::from_message(&message(0, Some("vrf"))), Some(link(false)));
        for kind in ["bridge", "bond", "team", "openvswitch", "hsr"] {
            assert_eq!(GateLink::from_message(&message(0, Some(kind))), Some(link(true)));
        }
    }

    #[test]
    fn what_is_no_link_is_passed_over() {
        assert_eq!(GateLink::from_message(&message(7, None)), None, "of a bridge, of its port");
        let whole = message(0, Some("bridge"));
        for length in 0..=HEADER {
            assert_eq!(GateLink::from_message(&whole[..length]), None);
        }
    }
}
