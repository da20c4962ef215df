//! The keys of `[watchdog]`.

use super::super::form::PATH;
use super::{Key, Kind, Need, Table, text, time};

/// `[watchdog]`
pub(in super::super) static WATCHDOG: Table = Table {
    header: "[watchdog]",
    doc: "The hardware watchdog of each node, which resets a host that vipd does not feed it from. \
          Without this table vipd uses none.",
    keys: &[
        Key {
            name: "device",
            kind: text(&PATH),
            need: Need::Required,
            example: "\"/dev/watchdog0\"",
            doc: "Its device, the same on every node.",
        },
        Key {
            name: "timeout",
            kind: time(2_000, 60_000),
            need: Need::Default("\"5s\""),
            example: "\"5s\"",
            doc: "How long after it was last fed it resets the host; whole seconds. vipd feeds it \
                  four times in that.",
        },
        Key {
            name: "reboot",
            kind: Kind::Bool,
            need: Need::Default("true"),
            example: "false",
            doc: "Whether vipd reboots the host at once where it must be reset, if it may; \
                  otherwise it only stops feeding the watchdog.",
        },
    ],
};
