//! The keys of `[sessions]`.

use super::super::form::{PATH, SOCKET, WORD};
use super::{Key, Kind, Need, Table, text};

/// `[sessions]`
pub(in super::super) static SESSIONS: Table = Table {
    header: "[sessions]",
    doc: "PostgreSQL servers on which whoever takes addresses over from a host that is silent ends the \
          sessions that came from there, so that their locks and slots are free. Only with a lease: \
          that proves that nobody is served through them. Without this table none are ended.",
    keys: &[
        Key {
            name: "servers",
            kind: Kind::List { of: &text(&SOCKET), min: 1, max: 32 },
            need: Need::Required,
            example: "[\"192.168.34.140:5432\", \"192.168.34.141:5432\"]",
            doc: "The servers themselves, primary and standbys: not the proxy.",
        },
        Key {
            name: "user",
            kind: text(&WORD),
            need: Need::Default("\"vipd\""),
            example: "\"vipd\"",
            doc: "A role that is a member of `pg_signal_backend` and `pg_read_all_stats`.",
        },
        Key {
            name: "database",
            kind: text(&WORD),
            need: Need::Default("\"postgres\""),
            example: "\"postgres\"",
            doc: "The database it connects to; sessions in all of them are ended.",
        },
        Key {
            name: "password-file",
            kind: text(&PATH),
            need: Need::Optional("none"),
            example: "\"/etc/vipd/sessions.password\"",
            doc: "File with its password, read each time.",
        },
        Key {
            name: "tls",
            kind: Kind::Choice(&["off", "verify"]),
            need: Need::Default("\"off\""),
            example: "\"verify\"",
            doc: "With \"verify\" a server is told nothing before it has shown a certificate that names its \
                  address as in `servers` and is signed by somebody trusted; one without TLS is not asked.",
        },
        Key {
            name: "ca",
            kind: text(&PATH),
            need: Need::Optional("those that the host trusts"),
            example: "\"/etc/vipd/postgres-ca.pem\"",
            doc: "PEM file of the only authorities trusted with `tls = \"verify\"`, read each time.",
        },
    ],
};
