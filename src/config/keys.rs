//! Every key of the file, once: the walker, the JSON schema and the reference are made of this.

mod announce;
pub(super) mod check;
pub(super) mod fence;
mod hook;
mod proxy;
pub(super) mod routing;
mod sessions;
mod watchdog;

use super::form::{
    Form, HOST, INTERFACE, LABEL, LINK_LOCAL, NAME, NODE_IP, NODE_IP6, SECRET, VIRTUAL, VOTER_IP,
};
use announce::ANNOUNCE;
use check::CHECK;
use fence::{DEVICE, FENCING};
use hook::HOOK;
use proxy::PROXY;
use routing::{ROUTE, RULE};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// How it is written in the file.
    pub(super) header: &'static str,
    /// What it is for, as a sentence.
    pub(super) doc: &'static str,
    /// Its keys, in the order of the reference.
    pub(super) keys: &'static [Key],
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) need: Need,
    /// A value, as TOML.
    pub(super) example: &'static str,
    /// What it says, as a sentence.
    pub(super) doc: &'static str,
}

/// What happens without the key.
#[derive(Debug)]
pub(super) enum Need {
    /// The file is refused.
    Required,
    /// There is nothing, or what the words say.
    Optional(&'static str),
    /// It has this value, as TOML.
    Default(&'static str),
}

/// What a value must be.
#[derive(Debug)]
pub(super) enum Kind {
    Text(&'static Form),
    Bool,
    Int {
        min: u32,
        max: u32,
    },
    /// A time, in milliseconds; or the word `never`.
    Time {
        min: u64,
        max: u64,
        never: bool,
    },
    Choice(&'static [&'static str]),
    List {
        of: &'static Kind,
        min: usize,
        max: usize,
    },
    /// One text, or a table that says more about it.
    Either(&'static Form, &'static Table),
    /// Any key, named as described, with such values.
    Map {
        name: &'static str,
        of: &'static Kind,
    },
    Table(&'static Table),
    Tables {
        of: &'static Table,
        max: usize,
    },
    /// One such table or a list of them, in which any further key is a parameter of an agent.
    Devices {
        of: &'static Table,
        max: usize,
    },
}

pub(super) const HOUR: u64 = 3_600_000;
const PRIORITY: Kind = Kind::Int { min: 1, max: 255 };
/// Slots and groups are counted in 16 bits.
const MANY: usize = 65_535;

pub(super) const fn time(min: u64, max: u64) -> Kind {
    Kind::Time { min, max, never: false }
}

pub(super) const fn text(form: &'static Form) -> Kind {
    Kind::Text(form)
}

/// The file.
pub(super) static FILE: Table = Table {
    header: "the file",
    doc: "One file, byte-identical on every node.",
    keys: &[
        Key {
            name: "cluster",
            kind: Kind::Table(&CLUSTER),
            need: Need::Required,
            example: "{ name = \"lb\" }",
            doc: "What all nodes share.",
        },
        Key {
            name: "node",
            kind: Kind::Tables { of: &NODE, max: 16 },
            need: Need::Required,
            example: "[{ name = \"hap1\", address = \"192.168.34.132\" }]",
            doc: "Each host that runs vipd, the preferred one first.",
        },
        Key {
            name: "witness",
            kind: Kind::Tables { of: &WITNESS, max: 8 },
            need: Need::Default("[]"),
            example: "[{ name = \"tie\", address = \"192.168.34.140\" }]",
            doc: "Each host that only votes, for `safety = \"lease\"`.",
        },
        Key {
            name: "group",
            kind: Kind::Tables { of: &GROUP, max: MANY },
            need: Need::Required,
            example: "[{ name = \"postgres\", vrid = 85, addresses = [\"192.168.34.85/24\"] }]",
            doc: "What moves together: addresses and their proxy.",
        },
        Key {
            name: "fencing",
            kind: Kind::Table(&FENCING),
            need: Need::Optional("the defaults below"),
            example: "{ action = \"off\" }",
            doc: "When a node's power is cut, and how.",
        },
        Key {
            name: "check",
            kind: Kind::Tables { of: &CHECK, max: 1000 },
            need: Need::Default("[]"),
            example: "[{ tcp = \"127.0.0.1:5000\" }]",
            doc: "What is looked at to know whether a node can serve.",
        },
        Key {
            name: "hook",
            kind: Kind::Tables { of: &HOOK, max: 32 },
            need: Need::Default("[]"),
            example: "[{ run = [\"/etc/vipd/notify\"] }]",
            doc: "What is called when something happens.",
        },
        Key {
            name: "sessions",
            kind: Kind::Table(&sessions::SESSIONS),
            need: Need::Optional("none are ended"),
            example: "{ servers = [\"192.168.34.140:5432\"] }",
            doc: "Where the sessions that a dead host left on PostgreSQL are ended.",
        },
        Key {
            name: "watchdog",
            kind: Kind::Table(&watchdog::WATCHDOG),
            need: Need::Optional("no watchdog"),
            example: "{ device = \"/dev/watchdog0\" }",
            doc: "The hardware watchdog of each node.",
        },
    ],
};

/// `[cluster]`
pub(super) static CLUSTER: Table = Table {
    header: "[cluster]",
    doc: "What all nodes share.",
    keys: &[
        Key {
            name: "name",
            kind: text(&NAME),
            need: Need::Required,
            example: "\"lb\"",
            doc: "The cluster's name, in logs, metrics and events.",
        },
        Key {
            name: "secret",
            kind: text(&SECRET),
            need: Need::Optional("none; needed by `safety = \"lease\"`"),
            example: "\"/etc/vipd/secret\"",
            doc: "File with the cluster's key, the same on every voter, made by vipctl's `keygen`: \
                  what voters tell each other is signed with it. In plain VRRP it lets nodes tell \
                  each other what operators decide.",
        },
        Key {
            name: "port",
            kind: Kind::Int { min: 1, max: 65_535 },
            need: Need::Default("8112"),
            example: "8112",
            doc: "UDP port on which voters talk to each other.",
        },
        Key {
            name: "lease",
            kind: time(100, 10_000),
            need: Need::Default("\"220ms\""),
            example: "\"220ms\"",
            doc: "How long a holder may serve after it asked for its last renewal. It asks every \
                  quarter of that, and a dead holder is missed for about as long.",
        },
    ],
};

/// `[[node]]`
pub(super) static NODE: Table = Table {
    header: "[[node]]",
    doc: "A host that runs vipd; a host finds its own by its short or full host name.",
    keys: &[
        Key {
            name: "name",
            kind: text(&HOST),
            need: Need::Required,
            example: "\"hap1\"",
            doc: "Its host name, short or full.",
        },
        Key {
            name: "address",
            kind: text(&NODE_IP),
            need: Need::Required,
            example: "\"192.168.34.132\"",
            doc: "Its own fixed address: the source of its adverts, and how it is recognised.",
        },
        Key {
            name: "address6",
            kind: text(&NODE_IP6),
            need: Need::Optional("none"),
            example: "\"2001:db8:34::132\"",
            doc: "Its fixed IPv6 address beside an IPv4 `address`; needed for IPv6 unicast.",
        },
        Key {
            name: "paths",
            kind: Kind::List { of: &text(&VOTER_IP), min: 0, max: 3 },
            need: Need::Default("[]"),
            example: "[\"10.0.0.132\"]",
            doc: "Further addresses at which other voters reach it, one for each further network; the \
                  first talks to the first ones of the others.",
        },
        Key {
            name: "priority",
            kind: PRIORITY,
            need: Need::Optional("150 for the first node, then 10 less than the node above"),
            example: "150",
            doc: "1 to 254; the highest live one is preferred. 255 is for the owner of an address.",
        },
        Key {
            name: "fence",
            kind: Kind::Devices { of: &DEVICE, max: 32 },
            need: Need::Optional("none; needed by `safety = \"lease+fence\"`"),
            example: "{ agent = \"fence_ipmilan\", ip = \"10.0.0.11\", username = \"vipd\", \
                      password-file = \"/etc/vipd/bmc1\" }",
            doc: "What cuts its power: one device, or a list of them.",
        },
    ],
};

/// `[[witness]]`
pub(super) static WITNESS: Table = Table {
    header: "[[witness]]",
    doc: "A host that runs `vipd --witness`: it votes, and never has an address of a group.",
    keys: &[
        Key {
            name: "name",
            kind: text(&HOST),
            need: Need::Required,
            example: "\"tie\"",
            doc: "Its host name, short or full.",
        },
        Key {
            name: "address",
            kind: text(&VOTER_IP),
            need: Need::Required,
            example: "\"192.168.34.140\"",
            doc: "Its own fixed address, at which the nodes reach it.",
        },
        Key {
            name: "paths",
            kind: Kind::List { of: &text(&VOTER_IP), min: 0, max: 3 },
            need: Need::Default("[]"),
            example: "[\"10.0.0.140\"]",
            doc: "As those of a node.",
        },
    ],
};

/// `[[group]]`
pub(super) static GROUP: Table = Table {
    header: "[[group]]",
    doc: "Addresses that move together with their proxy: a virtual router in each family.",
    keys: &[
        Key {
            name: "name",
            kind: text(&NAME),
            need: Need::Required,
            example: "\"postgres\"",
            doc: "Unique name, in commands, logs and metrics.",
        },
        Key {
            name: "vrid",
            kind: Kind::Int { min: 1, max: 255 },
            need: Need::Required,
            example: "85",
            doc: "Virtual router identifier, 1 to 255, unique on the link.",
        },
        Key {
            name: "addresses",
            kind: Kind::List { of: &Kind::Either(&VIRTUAL, &ADDRESS), min: 1, max: MANY },
            need: Need::Required,
            example: "[\"192.168.34.85/24\"]",
            doc: "The virtual addresses, each with its prefix length, or a table that says more.",
        },
        Key {
            name: "safety",
            kind: Kind::Choice(&["vrrp", "lease", "lease+fence"]),
            need: Need::Optional(
                "\"lease\" with three voters or more, nodes and witnesses, and no `routers`; else \
                 \"vrrp\"",
            ),
            example: "\"vrrp\"",
            doc: "What a holder must prove. \"vrrp\": nothing beyond VRRP. \"lease\": that a \
                  majority of the voters lets it. \"lease+fence\": also that a lost holder has no \
                  power.",
        },
        Key {
            name: "interface",
            kind: text(&INTERFACE),
            need: Need::Optional("the interface that carries the node's address"),
            example: "\"eth0\"",
            doc: "Where adverts are sent and addresses are put.",
        },
        Key {
            name: "version",
            kind: Kind::Int { min: 2, max: 3 },
            need: Need::Default("3"),
            example: "3",
            doc: "VRRP version: 3 (RFC 9568), or 2 (RFC 3768; IPv4 only).",
        },
        Key {
            name: "interval",
            kind: time(10, 255_000),
            need: Need::Default("\"1s\""),
            example: "\"100ms\"",
            doc: "Time between adverts; with \"vrrp\" a dead holder is replaced after 3 of them, and \
                  with version 3 the default is \"100ms\". \
                  Version 3: a multiple of 10 ms up to 40.95 s. Version 2: whole seconds.",
        },
        Key {
            name: "priorities",
            kind: Kind::Map { name: "node", of: &PRIORITY },
            need: Need::Default("{}"),
            example: "{ hap2 = 200 }",
            doc: "Priorities for this group only, by node name.",
        },
        Key {
            name: "preempt",
            kind: Kind::Bool,
            need: Need::Default("false"),
            example: "true",
            doc: "Whether a node of higher priority takes the addresses from a healthy holder.",
        },
        Key {
            name: "preempt-delay",
            kind: time(0, HOUR),
            need: Need::Default("\"0s\""),
            example: "\"30s\"",
            doc: "How long a lower holder is left alone before it is preempted.",
        },
        Key {
            name: "start-delay",
            kind: time(0, HOUR),
            need: Need::Default("\"0s\""),
            example: "\"10s\"",
            doc: "How long to only listen after start and after carrier came.",
        },
        Key {
            name: "checksum",
            kind: Kind::Choice(&["auto", "rfc9568", "pseudo"]),
            need: Need::Default("\"auto\""),
            example: "\"pseudo\"",
            doc: "Checksum of version 3 IPv4 adverts: \"rfc9568\" (message only), \"pseudo\" \
                  (keepalived's and FRR's default), \"auto\" (the peer's). Both are accepted.",
        },
        Key {
            name: "transport",
            kind: Kind::Choice(&["multicast", "unicast"]),
            need: Need::Default("\"multicast\""),
            example: "\"unicast\"",
            doc: "How adverts travel; unicast ones go to, and come from, the other nodes and \
                  `routers` only.",
        },
        Key {
            name: "min-ttl",
            kind: Kind::Int { min: 1, max: 255 },
            need: Need::Default("255"),
            example: "254",
            doc: "Unicast: the least TTL of an accepted advert; 255 is the same link, 254 allows \
                  one router between.",
        },
        Key {
            name: "routers",
            kind: Kind::Tables { of: &ROUTER, max: 64 },
            need: Need::Default("[]"),
            example: "[{ name = \"gw1\", address = \"192.168.34.2\" }]",
            doc: "VRRP routers of other makes in the same virtual router.",
        },
        Key {
            name: "password-file",
            kind: text(&SECRET),
            need: Need::Optional("no authentication"),
            example: "\"/etc/vipd/postgres.password\"",
            doc: "Version 2: file with the simple-text password, 1 to 8 bytes.",
        },
        Key {
            name: "link-local",
            kind: text(&LINK_LOCAL),
            need: Need::Optional("with IPv6 addresses, fe80::200:5eff:fe00:2XX, XX being the VRID"),
            example: "\"fe80::200:5eff:fe00:255\"",
            doc: "The virtual router's IPv6 link-local address, the first in its adverts.",
        },
        Key {
            name: "sync",
            kind: text(&NAME),
            need: Need::Optional("none"),
            example: "\"inside-outside\"",
            doc: "Groups that have the same name here share one fate: they are held on one node, move \
                  together, and where one of them cannot be held none is.",
        },
        Key {
            name: "spread",
            kind: text(&NAME),
            need: Need::Optional("none"),
            example: "\"frontends\"",
            doc: "Groups that have the same name here are kept apart: each on a node of its own while \
                  enough of them are healthy. `preempt` says whether a node that comes back takes \
                  one again.",
        },
        Key {
            name: "stickiness",
            kind: Kind::Int { min: 0, max: 253 },
            need: Need::Default("0"),
            example: "10",
            doc: "How many points worse the score of a holder must be than another node's before the \
                  addresses move.",
        },
        Key {
            name: "recovery-delay",
            kind: time(0, HOUR),
            need: Need::Optional("twice what the slowest check takes to notice"),
            example: "\"10s\"",
            doc: "How long a node whose checks pass again waits before it takes the addresses from a \
                  live holder; doubled after each relapse, up to 32 times. So a failure that all \
                  nodes share, and that ends for each of them at another moment, moves nothing.",
        },
        Key {
            name: "restore-limit",
            kind: Kind::Int { min: 0, max: 6000 },
            need: Need::Default("10"),
            example: "10",
            doc: "How often per minute an address that somebody else deletes is put back before \
                  it is a fault.",
        },
        Key {
            name: "announce",
            kind: Kind::Table(&ANNOUNCE),
            need: Need::Optional("the defaults below"),
            example: "{ refresh = \"never\" }",
            doc: "When neighbours are told where the addresses are.",
        },
        Key {
            name: "proxy",
            kind: Kind::Table(&PROXY),
            need: Need::Optional("no proxy"),
            example: "{ unit = \"haproxy.service\" }",
            doc: "The proxy behind the addresses.",
        },
        Key {
            name: "routes",
            kind: Kind::Tables { of: &ROUTE, max: 64 },
            need: Need::Default("[]"),
            example: "[{ to = \"default\", via = \"192.168.34.1\", table = 100 }]",
            doc: "Routes that come and go with the addresses.",
        },
        Key {
            name: "rules",
            kind: Kind::Tables { of: &RULE, max: 64 },
            need: Need::Default("[]"),
            example: "[{ priority = 1000, from = \"192.168.34.85\", table = 100 }]",
            doc: "Policy rules that come and go with the addresses.",
        },
    ],
};

/// An address that needs more than its text.
pub(super) static ADDRESS: Table = Table {
    header: "an entry of `addresses`",
    doc: "An address that needs more than its text.",
    keys: &[
        Key {
            name: "address",
            kind: text(&VIRTUAL),
            need: Need::Required,
            example: "\"192.168.34.86/24\"",
            doc: "The address with its prefix length.",
        },
        Key {
            name: "interface",
            kind: text(&INTERFACE),
            need: Need::Optional("the group's"),
            example: "\"eth1\"",
            doc: "Interface to put it on.",
        },
        Key {
            name: "label",
            kind: text(&LABEL),
            need: Need::Optional("none"),
            example: "\"eth1:vip\"",
            doc: "IPv4: interface label, at most 15 bytes, beginning with the interface's name.",
        },
        Key {
            name: "advertise",
            kind: Kind::Bool,
            need: Need::Default("true"),
            example: "false",
            doc: "Whether adverts carry it; what does not fit into one is never carried.",
        },
        Key {
            name: "preferred",
            kind: Kind::Bool,
            need: Need::Default("false"),
            example: "true",
            doc: "IPv6: whether the host may choose it as the source of its own connections.",
        },
    ],
};

/// An entry of `routers`.
pub(super) static ROUTER: Table = Table {
    header: "an entry of `routers`",
    doc: "A VRRP router of another make.",
    keys: &[
        Key {
            name: "name",
            kind: text(&NAME),
            need: Need::Optional("its address"),
            example: "\"gw1\"",
            doc: "What to call it.",
        },
        Key {
            name: "address",
            kind: text(&NODE_IP),
            need: Need::Required,
            example: "\"192.168.34.2\"",
            doc: "The source of its adverts.",
        },
    ],
};

/// All tables, in the order of the reference.
pub(super) static TABLES: [&Table; 16] = [
    &CLUSTER,
    &NODE,
    &DEVICE,
    &WITNESS,
    &GROUP,
    &ADDRESS,
    &ROUTER,
    &ANNOUNCE,
    &PROXY,
    &ROUTE,
    &RULE,
    &FENCING,
    &CHECK,
    &HOOK,
    &sessions::SESSIONS,
    &watchdog::WATCHDOG,
];
