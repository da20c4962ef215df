//! The keys of `[group.announce]`.

use super::{HOUR, Key, Kind, Need, Table, time};

/// `[group.announce]`
pub(in super::super) static ANNOUNCE: Table = Table {
    header: "[group.announce]",
    doc: "When gratuitous ARP and unsolicited neighbour advertisements are sent.",
    keys: &[
        Key {
            name: "schedule",
            kind: Kind::List { of: &time(0, HOUR), min: 1, max: 32 },
            need: Need::Default("[\"0ms\", \"10ms\", \"50ms\", \"250ms\", \"1100ms\", \"3s\"]"),
            example: "[\"0ms\", \"100ms\", \"1s\"]",
            doc: "Times after an address came, ascending, the first \"0ms\".",
        },
        Key {
            name: "refresh",
            kind: Kind::Time { min: 1000, max: 24 * HOUR, never: true },
            need: Need::Default("\"60s\""),
            example: "\"never\"",
            doc: "How often after that, or \"never\".",
        },
    ],
};
