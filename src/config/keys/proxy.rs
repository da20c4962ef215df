//! The keys of `[group.proxy]`.

use super::super::form::{PATH, UNIT, USER, WORD};
use super::{HOUR, Key, Kind, Need, Table, text, time};

/// `[group.proxy]`
pub(in super::super) static PROXY: Table = Table {
    header: "[group.proxy]",
    doc: "The proxy behind the addresses: either a `unit` or a `command`.",
    keys: &[
        Key {
            name: "unit",
            kind: text(&UNIT),
            need: Need::Optional("none"),
            example: "\"haproxy.service\"",
            doc: "A systemd unit to watch, start and stop.",
        },
        Key {
            name: "command",
            kind: Kind::List { of: &text(&WORD), min: 1, max: 256 },
            need: Need::Optional("none"),
            example: "[\"/usr/sbin/haproxy\", \"-db\", \"-f\", \"/etc/haproxy/haproxy.cfg\"]",
            doc: "A program and its arguments to run in the foreground; no shell.",
        },
        Key {
            name: "user",
            kind: text(&USER),
            need: Need::Optional("vipd's own"),
            example: "\"haproxy\"",
            doc: "User that runs `command`.",
        },
        Key {
            name: "run",
            kind: Kind::Choice(&["always", "active"]),
            need: Need::Default("\"always\""),
            example: "\"active\"",
            doc: "On every node all the time, or only where the addresses are.",
        },
        Key {
            name: "config",
            kind: text(&PATH),
            need: Need::Optional(
                "/etc/haproxy/haproxy.cfg for haproxy.service, what follows `-f` for a haproxy \
                 command",
            ),
            example: "\"/etc/haproxy/haproxy.cfg\"",
            doc: "HAProxy's configuration, read only to warn about binds that would fail.",
        },
        Key {
            name: "start-timeout",
            kind: time(100, HOUR),
            need: Need::Default("\"30s\""),
            example: "\"30s\"",
            doc: "How long it may take to start.",
        },
        Key {
            name: "stop-timeout",
            kind: time(100, HOUR),
            need: Need::Default("\"30s\""),
            example: "\"30s\"",
            doc: "How long it may take to stop before it is killed.",
        },
        Key {
            name: "migration-threshold",
            kind: Kind::Int { min: 1, max: 1000 },
            need: Need::Default("3"),
            example: "3",
            doc: "With so many failures within `failure-expiry` the addresses move, and the node is not \
                  preferred until they have expired or `vipctl cleanup` forgives them. With fewer \
                  the proxy is restarted in place.",
        },
        Key {
            name: "failure-expiry",
            kind: time(1000, 24 * HOUR),
            need: Need::Default("\"10m\""),
            example: "\"10m\"",
            doc: "How long a failure counts.",
        },
        Key {
            name: "restarts",
            kind: Kind::Int { min: 0, max: 999 },
            need: Need::Optional("one less than `migration-threshold`"),
            example: "2",
            doc: "The same in other words: how often it is restarted in place.",
        },
        Key {
            name: "restart-window",
            kind: time(1000, 24 * HOUR),
            need: Need::Optional("that of `failure-expiry`"),
            example: "\"10m\"",
            doc: "The older name of `failure-expiry`.",
        },
    ],
};
