//! Keys that are not of this file, but that people write: what is said about them.

/// Keys people know from elsewhere, and what to write here. In lower case with `-`.
pub(super) static FOREIGN: &[(&str, &str)] = &[
    ("virtual-router-id", "write `vrid = 85`"),
    ("advert-int", "write `interval = \"1s\"`"),
    ("advertisement-interval", "write `interval = \"1s\"`"),
    ("virtual-ipaddress", "write `addresses = [\"192.168.34.85/24\"]`"),
    (
        "virtual-ipaddress-excluded",
        "write `{ address = \"...\", advertise = false }` in `addresses`",
    ),
    ("vip", "write `addresses = [\"192.168.34.85/24\"]`"),
    ("vips", "write `addresses = [\"192.168.34.85/24\"]`"),
    ("ip", "write `address = \"192.168.34.132\"`"),
    ("hostname", "write `name = \"hap1\"`"),
    ("host", "write `name = \"hap1\"`"),
    ("id", "write `vrid = 85`"),
    ("nopreempt", "write `preempt = false`, which is the default"),
    ("state", "leave it out: nodes elect the holder; `priority` says who is preferred"),
    ("weight", "write `priority`; what bad health means is said under `[[check]]`"),
    ("check", "write `[[check]]` at the top of the file; its `groups` names those it is about"),
    ("checks", "write `[[check]]`"),
    ("track-script", "write `[[check]]` with `run`"),
    ("track-process", "write `[[check]]` with `process` or `unit`"),
    ("track-interface", "write `[[check]]` with `interface`"),
    ("use-vmac", "leave it out: vipd uses the interface's own hardware address"),
    ("accept", "leave it out: the holder always accepts what is sent to its addresses"),
    ("strict", "leave it out: vipd follows RFC 9568"),
    ("dev", "write `interface = \"eth0\"`"),
    ("device", "write `interface = \"eth0\"`"),
    ("nic", "write `interface = \"eth0\"`"),
    ("unicast", "write `transport = \"unicast\"`"),
    (
        "unicast-peer",
        "write `transport = \"unicast\"`; the peers are the other nodes and `routers`",
    ),
    ("unicast-src-ip", "leave it out: the source is the node's `address`"),
    ("peers", "write `routers = [{ address = \"192.168.34.2\" }]`; nodes are peers already"),
    ("garp-master-delay", "write `schedule` under `[group.announce]`"),
    ("garp-master-repeat", "write `schedule` under `[group.announce]`"),
    ("garp-master-refresh", "write `refresh = \"60s\"` under `[group.announce]`"),
    ("timeout", "write `start-timeout` or `stop-timeout`"),
    ("exec", "write `command = [\"/usr/sbin/haproxy\", \"-db\"]`"),
    ("service", "write `unit = \"haproxy.service\"`"),
];

/// Keys that would hold a secret in the shared file.
pub(super) static INLINE_SECRETS: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "auth-pass",
    "auth-password",
    "authentication",
    "auth",
    "key",
    "psk",
    "token",
];

/// Tables and keys that later releases will have.
pub(super) static LATER: &[&str] = &["routes"];
