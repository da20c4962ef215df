//! The keys about fencing.

use super::super::form::{AGENT, CREDENTIAL, SECRET};
use super::{Key, Kind, Need, Table};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// `[fencing]`
pub(in super::super) static FENCING: Table = Table {
    header: "[fencing]",
    doc: "When a node's power is cut, and how.",
    keys: &[
        Key {
            name: "when",
            kind: Kind::List {
                of: &Kind::Choice(&["lost-holder", "stuck", "rival"]),
                min: 0,
                max: 3,
            },
            need: Need::Default("[\"lost-holder\", \"stuck\", \"rival\"]"),
            example: "[\"lost-holder\"]",
            doc: "What makes the cluster fence a node by itself. \"lost-holder\": with \
                  \"lease+fence\", a holder that is not heard any more. \"stuck\": a host that says \
                  that it cannot give up what it must. \"rival\": a host that serves what another \
                  one has the right to.",
        },
        Key {
            name: "action",
            kind: Kind::Choice(&["reboot", "off"]),
            need: Need::Default("\"reboot\""),
            example: "\"off\"",
            doc: "\"reboot\": off, seen to be off, then on again while the others go on. \"off\": \
                  a human turns it on.",
        },
        Key {
            name: "head-start",
            kind: Kind::Time { min: 0, max: 10 * MINUTE, never: false },
            need: Need::Default("\"2s\""),
            example: "\"5s\"",
            doc: "How long a node that does not hold waits before it fences, in a cluster of two \
                  voters: so that the holder is not the one that is shot.",
        },
        Key {
            name: "random-delay",
            kind: Kind::Time { min: 0, max: 10 * MINUTE, never: false },
            need: Need::Default("\"0s\""),
            example: "\"1s\"",
            doc: "The most that is added to `head-start` by chance.",
        },
        Key {
            name: "startup-wait",
            kind: Kind::Time { min: 0, max: HOUR, never: false },
            need: Need::Default("\"30s\""),
            example: "\"1m\"",
            doc: "How long after its start a node fences none that it has not seen.",
        },
        Key {
            name: "limit",
            kind: Kind::Int { min: 1, max: 60 },
            need: Need::Default("3"),
            example: "3",
            doc: "How often a node is fenced in an hour before that is left to a human.",
        },
        Key {
            name: "check",
            kind: Kind::Time { min: 1000, max: 24 * HOUR, never: true },
            need: Need::Default("\"1m\""),
            example: "\"never\"",
            doc: "How often every device is asked for its status, or \"never\".",
        },
    ],
};

/// `[node.fence]`
pub(in super::super) static DEVICE: Table = Table {
    header: "[node.fence]",
    doc: "A device that cuts the node's power, or several as `[[node.fence]]`. All other keys are \
          the agent's own parameters, with `_` or `-`; those that are secrets stand in a file of \
          their own: `X-file`.",
    keys: &[
        Key {
            name: "agent",
            kind: Kind::Text(&AGENT),
            need: Need::Required,
            example: "\"fence_ipmilan\"",
            doc: "The fence agent: a name in /usr/sbin, or the path of any program that does as \
                  they do.",
        },
        Key {
            name: "level",
            kind: Kind::Int { min: 1, max: 9 },
            need: Need::Default("1"),
            example: "2",
            doc: "All devices of a level must succeed; if one fails the next level is tried.",
        },
        Key {
            name: "timeout",
            kind: Kind::Time { min: 1000, max: HOUR, never: false },
            need: Need::Default("\"60s\""),
            example: "\"30s\"",
            doc: "How long one run of the agent may take before it is killed.",
        },
        Key {
            name: "attempts",
            kind: Kind::Int { min: 1, max: 10 },
            need: Need::Default("2"),
            example: "1",
            doc: "How often the agent is run before the device has failed.",
        },
        Key {
            name: "delay",
            kind: Kind::Time { min: 0, max: 10 * MINUTE, never: false },
            need: Need::Default("\"0s\""),
            example: "\"5s\"",
            doc: "How long to wait before this device cuts the power.",
        },
        Key {
            name: "password-file",
            kind: Kind::Text(&SECRET),
            need: Need::Optional("no password"),
            example: "\"/etc/vipd/bmc1\"",
            doc: "File with the password of the device, of mode 0600.",
        },
        Key {
            name: "password-credential",
            kind: Kind::Text(&CREDENTIAL),
            need: Need::Optional("no password"),
            example: "\"bmc1\"",
            doc: "The same as a credential of the systemd unit (`LoadCredential=`), by its name.",
        },
    ],
};
