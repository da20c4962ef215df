//! The keys of `routes` and `rules`.

use super::super::form::{DESTINATION, INTERFACE, NETWORK, NODE_IP};
use super::super::routing::RouteKind;
use super::{Key, Kind, Need, Table, text};

const TABLE: Kind = Kind::Int { min: 1, max: u32::MAX };

/// An entry of `routes`.
pub(in super::super) static ROUTE: Table = Table {
    header: "an entry of `routes`",
    doc: "A route that is there while this node holds the addresses of the group.",
    keys: &[
        Key {
            name: "type",
            kind: Kind::Choice(&RouteKind::NAMES),
            need: Need::Default("\"unicast\""),
            example: "\"blackhole\"",
            doc: "What becomes of packets that take it: they leave the host (\"unicast\"), are \
                  dropped (\"blackhole\"), or are answered as unreachable or prohibited.",
        },
        Key {
            name: "to",
            kind: text(&DESTINATION),
            need: Need::Required,
            example: "\"default\"",
            doc: "Where it leads: a network, an address, or \"default\".",
        },
        Key {
            name: "via",
            kind: text(&NODE_IP),
            need: Need::Optional("none: the destination is on the link"),
            example: "\"192.168.34.1\"",
            doc: "The gateway.",
        },
        Key {
            name: "onlink",
            kind: Kind::Bool,
            need: Need::Default("false"),
            example: "true",
            doc: "The gateway is on the link, though no address of the interface is in a network \
                  with it.",
        },
        Key {
            name: "interface",
            kind: text(&INTERFACE),
            need: Need::Optional("the group's"),
            example: "\"eth1\"",
            doc: "Interface that it leads out of.",
        },
        Key {
            name: "source",
            kind: text(&NODE_IP),
            need: Need::Optional("none: the kernel chooses"),
            example: "\"192.168.34.85\"",
            doc: "Source address of what the host itself sends this way: an address of the group.",
        },
        Key {
            name: "table",
            kind: TABLE,
            need: Need::Default("254"),
            example: "100",
            doc: "Number of the routing table; 254 is the main one.",
        },
        Key {
            name: "metric",
            kind: Kind::Int { min: 0, max: u32::MAX },
            need: Need::Optional("the kernel's: 0 for IPv4, 1024 for IPv6"),
            example: "50",
            doc: "Of several routes to the same destination the one with the lowest counts. vipd \
                  never replaces a route of somebody else that has the same metric.",
        },
    ],
};

/// An entry of `rules`.
pub(in super::super) static RULE: Table = Table {
    header: "an entry of `rules`",
    doc: "A policy rule that is there while this node holds the addresses of the group: packets \
          that fit everything it names are routed by a table.",
    keys: &[
        Key {
            name: "priority",
            kind: Kind::Int { min: 1, max: 32_765 },
            need: Need::Required,
            example: "1000",
            doc: "When it is looked at: the lowest comes first, the main table is at 32766.",
        },
        Key {
            name: "from",
            kind: text(&NETWORK),
            need: Need::Optional("from anywhere"),
            example: "\"192.168.34.85\"",
            doc: "Packets from this address or network.",
        },
        Key {
            name: "to",
            kind: text(&NETWORK),
            need: Need::Optional("to anywhere"),
            example: "\"10.0.0.0/8\"",
            doc: "Packets to this address or network.",
        },
        Key {
            name: "interface",
            kind: text(&INTERFACE),
            need: Need::Optional("from any interface, and from this host"),
            example: "\"eth1\"",
            doc: "Packets that came in on this interface.",
        },
        Key {
            name: "fwmark",
            kind: Kind::Int { min: 1, max: u32::MAX },
            need: Need::Optional("with any mark"),
            example: "5",
            doc: "Packets with this mark, as nftables and iptables set it.",
        },
        Key {
            name: "table",
            kind: TABLE,
            need: Need::Required,
            example: "100",
            doc: "Number of the routing table to be looked into.",
        },
    ],
};
