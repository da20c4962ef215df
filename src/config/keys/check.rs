//! The keys of `[[check]]`.

use super::super::form::{ANY_UNIT, INTERFACE, NAME, PATH, SOCKET, URL, USER, VOTER_IP, WORD};
use super::{HOUR, Key, Kind, Need, Table, text, time};

/// The keys that say what is looked at; a check has exactly one of them.
pub(in super::super) static KINDS: [&str; 12] = [
    "tcp",
    "http",
    "haproxy",
    "postgresql",
    "patroni",
    "unit",
    "process",
    "file",
    "interface",
    "neighbour",
    "ping",
    "run",
];

/// What a member of a Patroni cluster can be asked to be, and where it is asked for.
pub(in super::super) static ROLES: [(&str, &str); 8] = [
    ("primary", "primary"),
    ("replica", "replica"),
    ("read-only", "read-only"),
    ("standby-leader", "standby-leader"),
    ("synchronous", "synchronous"),
    ("asynchronous", "asynchronous"),
    ("any", "health"),
    ("alive", "liveness"),
];

const ROLE_NAMES: [&str; 8] = [
    ROLES[0].0, ROLES[1].0, ROLES[2].0, ROLES[3].0, ROLES[4].0, ROLES[5].0, ROLES[6].0, ROLES[7].0,
];

/// `[[check]]`
pub(in super::super) static CHECK: Table = Table {
    header: "[[check]]",
    doc: "Something that is looked at on every node, again and again, to know whether it can serve: \
          exactly one of the keys from `tcp` to `run`.",
    keys: &[
        Key {
            name: "name",
            kind: text(&NAME),
            need: Need::Optional("what is looked at, and where"),
            example: "\"writes\"",
            doc: "What to call it, in the status, in events and in metrics; unique.",
        },
        Key {
            name: "tcp",
            kind: text(&SOCKET),
            need: Need::Optional("none"),
            example: "\"127.0.0.1:5000\"",
            doc: "Something accepts TCP connections there; its program does not hear of the look. \
                  One that hangs is not seen: its kernel accepts.",
        },
        Key {
            name: "http",
            kind: text(&URL),
            need: Need::Optional("none"),
            example: "\"http://127.0.0.1:7000/health\"",
            doc: "A web server answers GET as `status` and `body` say, over http or https.",
        },
        Key {
            name: "status",
            kind: Kind::List { of: &Kind::Int { min: 100, max: 599 }, min: 1, max: 32 },
            need: Need::Optional("200 to 399"),
            example: "[200]",
            doc: "Of `http`: the answers that are good.",
        },
        Key {
            name: "body",
            kind: text(&WORD),
            need: Need::Optional("anything"),
            example: "\"ready\"",
            doc: "Of `http`: what the first 64 KiB of the answer must contain.",
        },
        Key {
            name: "haproxy",
            kind: text(&PATH),
            need: Need::Optional("none"),
            example: "\"/run/haproxy/admin.sock\"",
            doc: "HAProxy answers through this admin socket, and is through with its first round of \
                  checks: until then it takes every server for up.",
        },
        Key {
            name: "backend",
            kind: text(&NAME),
            need: Need::Optional("any"),
            example: "\"production\"",
            doc: "Of `haproxy`: the backend that must have `servers`.",
        },
        Key {
            name: "servers",
            kind: Kind::Int { min: 1, max: 10_000 },
            need: Need::Default("1"),
            example: "1",
            doc: "Of `haproxy`, with `backend`: the fewest of its servers that must be up.",
        },
        Key {
            name: "postgresql",
            kind: text(&SOCKET),
            need: Need::Optional("none"),
            example: "\"127.0.0.1:5000\"",
            doc: "PostgreSQL, or a pooler before it, answers a start-up packet there, best through \
                  the proxy as clients do. No password is needed, and nobody is logged in: to be \
                  asked for one is a good answer.",
        },
        Key {
            name: "user",
            kind: text(&USER),
            need: Need::Optional(
                "of `postgresql` postgres; of `run` nobody, or vipd's own user where vipd may not \
                 become another",
            ),
            example: "\"vipd\"",
            doc: "Of `postgresql`: as whom. Of `run`: the user that runs the script; with \"root\", \
                  and only where vipd is root, it keeps root's rights.",
        },
        Key {
            name: "database",
            kind: text(&WORD),
            need: Need::Optional("of `postgresql` postgres"),
            example: "\"app\"",
            doc: "Of `postgresql`: to which database.",
        },
        Key {
            name: "patroni",
            kind: Kind::List { of: &text(&URL), min: 1, max: 16 },
            need: Need::Optional("none"),
            example: "[\"http://192.168.34.124:8008\", \"http://192.168.34.136:8008\"]",
            doc: "The REST addresses of Patroni's members: one of them, at least, has `role`.",
        },
        Key {
            name: "role",
            kind: Kind::Choice(&ROLE_NAMES),
            need: Need::Default("\"primary\""),
            example: "\"replica\"",
            doc: "Of `patroni`: what a member must be; \"any\" is one whose PostgreSQL runs, \"alive\" \
                  one whose Patroni does.",
        },
        Key {
            name: "unit",
            kind: text(&ANY_UNIT),
            need: Need::Optional("none"),
            example: "\"pgbouncer.service\"",
            doc: "This systemd unit is active. A change is seen at once.",
        },
        Key {
            name: "process",
            kind: text(&PATH),
            need: Need::Optional("none"),
            example: "\"/run/haproxy.pid\"",
            doc: "The process whose number is in this file is there. Its end is seen at once.",
        },
        Key {
            name: "file",
            kind: text(&PATH),
            need: Need::Optional("none"),
            example: "\"/etc/vipd/offline\"",
            doc: "This file is not there; or it holds `value`. A switch for people and programs.",
        },
        Key {
            name: "value",
            kind: text(&WORD),
            need: Need::Optional("the file must not be there"),
            example: "\"in-service\"",
            doc: "Of `file`: what it must hold, but for white space around it.",
        },
        Key {
            name: "interface",
            kind: text(&INTERFACE),
            need: Need::Optional("none"),
            example: "\"eth1\"",
            doc: "This network interface is up and has carrier. A change is seen at once.",
        },
        Key {
            name: "neighbour",
            kind: text(&VOTER_IP),
            need: Need::Optional("none"),
            example: "\"192.168.34.1\"",
            doc: "Who has this address on the local network answers ARP or neighbour discovery.",
        },
        Key {
            name: "ping",
            kind: text(&VOTER_IP),
            need: Need::Optional("none"),
            example: "\"192.168.35.1\"",
            doc: "This address answers ICMP echo.",
        },
        Key {
            name: "run",
            kind: Kind::List { of: &text(&WORD), min: 1, max: 64 },
            need: Need::Optional("none"),
            example: "[\"/etc/vipd/healthy\"]",
            doc: "A script with an absolute path, and its arguments, ends with status 0; no shell. \
                  What it prints last is shown.",
        },
        Key {
            name: "effect",
            kind: Kind::Choice(&["disqualify", "score", "warn"]),
            need: Need::Default("\"disqualify\""),
            example: "\"score\"",
            doc: "What a failure means. \"disqualify\": this node must not hold the addresses if \
                  another one can. \"score\": its priority counts `weight` less. \"warn\": people are \
                  told.",
        },
        Key {
            name: "weight",
            kind: Kind::Int { min: 1, max: 253 },
            need: Need::Default("10"),
            example: "20",
            doc: "Effect \"score\": how much less the node's priority counts while the check fails.",
        },
        Key {
            name: "restart-proxy",
            kind: Kind::Bool,
            need: Need::Default("false"),
            example: "true",
            doc: "Its failure is one of the proxy: that is killed and started in place, and the check \
                  counts against the node only when `migration-threshold` is reached.",
        },
        Key {
            name: "groups",
            kind: Kind::List { of: &text(&NAME), min: 1, max: 256 },
            need: Need::Optional("all"),
            example: "[\"postgres\"]",
            doc: "The groups it is about.",
        },
        Key {
            name: "interval",
            kind: time(100, HOUR),
            need: Need::Default("\"1s\""),
            example: "\"2s\"",
            doc: "How long after one look the next one begins.",
        },
        Key {
            name: "fast-interval",
            kind: time(10, HOUR),
            need: Need::Optional("a fifth of `interval`"),
            example: "\"200ms\"",
            doc: "The same while the check falls: after a bad look, until `fall` of them make it fail \
                  or a good one ends that. What hangs has failed after `interval` + `fast-interval` x \
                  (`fall` - 1) + `timeout` x `fall`, give or take a tenth of the pauses.",
        },
        Key {
            name: "timeout",
            kind: time(10, HOUR),
            need: Need::Optional("three tenths of `interval`, from 100ms to 300ms; of `run` 5s"),
            example: "\"1s\"",
            doc: "How long one look may take. Then it has failed, and a script is killed with all \
                  that it started.",
        },
        Key {
            name: "rise",
            kind: Kind::Int { min: 1, max: 100 },
            need: Need::Default("2"),
            example: "3",
            doc: "Looks in a row that must be good before a failed check passes again.",
        },
        Key {
            name: "fall",
            kind: Kind::Int { min: 1, max: 100 },
            need: Need::Default("2"),
            example: "3",
            doc: "Looks in a row that must be bad before the check fails.",
        },
    ],
};
