//! The keys of `[[hook]]`.

use super::super::form::{NAME, SECRET, URL, USER, WORD};
use super::{HOUR, Key, Kind, Need, Table, text, time};

/// `[[hook]]`
pub(in super::super) static HOOK: Table = Table {
    header: "[[hook]]",
    doc: "A script or a webhook that is called when something happens: either `run` or `url`.",
    keys: &[
        Key {
            name: "name",
            kind: text(&NAME),
            need: Need::Optional("the file name of `run`, or the host of `url`"),
            example: "\"notify\"",
            doc: "What to call it, in events, in the status and for `vipctl hook`; unique.",
        },
        Key {
            name: "run",
            kind: Kind::List { of: &text(&WORD), min: 1, max: 64 },
            need: Need::Optional("none"),
            example: "[\"/etc/vipd/notify\"]",
            doc: "A script with an absolute path, and its arguments; no shell.",
        },
        Key {
            name: "url",
            kind: text(&URL),
            need: Need::Optional("none"),
            example: "\"http://127.0.0.1:9093/vipd\"",
            doc: "Where to POST the event as a JSON object, over http or https.",
        },
        Key {
            name: "style",
            kind: Kind::Choice(&["vipd", "keepalived", "keepalived-group", "pacemaker"]),
            need: Need::Default("\"vipd\""),
            example: "\"keepalived\"",
            doc: "How it is told: \"vipd\" as JSON on its input and as VIPD_* variables, \
                  \"keepalived\" by the arguments of a notify script (\"keepalived-group\": of a \
                  sync group's), \"pacemaker\" by the variables of an alert agent.",
        },
        Key {
            name: "on",
            kind: Kind::List {
                of: &Kind::Choice(&["active", "backup", "fault", "stop", "fencing", "peer", "any"]),
                min: 1,
                max: 7,
            },
            need: Need::Optional(
                "what a group becomes, and fencing where the style has a word for it",
            ),
            example: "[\"active\", \"fault\"]",
            doc: "What it is called for: what a group becomes on this node, fencing, a peer lost or \
                  back, or every event there is.",
        },
        Key {
            name: "groups",
            kind: Kind::List { of: &text(&NAME), min: 1, max: 256 },
            need: Need::Optional("all"),
            example: "[\"postgres\"]",
            doc: "The groups it is called for.",
        },
        Key {
            name: "timeout",
            kind: time(100, HOUR),
            need: Need::Default("\"30s\""),
            example: "\"10s\"",
            doc: "How long one call may take; then the script is killed with all that it started.",
        },
        Key {
            name: "user",
            kind: text(&USER),
            need: Need::Optional("nobody, or vipd's own user where vipd may not become another"),
            example: "\"notify\"",
            doc: "User that runs the script. With \"root\", and only where vipd is root, it keeps \
                  root's rights.",
        },
        Key {
            name: "recipient",
            kind: text(&WORD),
            need: Need::Optional("none"),
            example: "\"ops@example.com\"",
            doc: "Style \"pacemaker\": what the agent finds in CRM_alert_recipient.",
        },
        Key {
            name: "token-file",
            kind: text(&SECRET),
            need: Need::Optional("none"),
            example: "\"/etc/vipd/hook.token\"",
            doc: "File with a token that a webhook is shown as `Authorization: Bearer`.",
        },
    ],
};
