//! Checked spanned values to [`Config`]: defaults are filled in here.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::check::{assign, overrides, safety};
use super::read;
use super::read_fence::{device, settings};
use super::routing::{lower_routes, lower_rules};
use super::{
    Address, Announce, Checksum, Config, Group, Lease, Node, Proxy, ProxyKind, Router, Run, Safety,
    Sessions, Tls, Transport, Watchdog, Witness,
};
use crate::types::{Centis, Family, Priority, Version, VrId};

/// How many addresses an advert of each family holds: its count has 8 bits, and 1500 bytes must do.
const ADVERT_V4: usize = 255;
const ADVERT_V6: usize = 90;
/// Where voters listen.
const PORT: u16 = 8112;

/// `None` if something required is absent, which the walk has told.
pub(super) fn config(file: read::File) -> Option<Config> {
    let explicit: Vec<_> =
        file.nodes.iter().map(|n| n.priority.as_ref().map(|p| p.value)).collect();
    let priorities = assign(&explicit).ok()?;
    let per_group: Option<Vec<_>> =
        file.groups.iter().map(|g| assign(&overrides(&file, g)).ok()).collect();
    let safeties: Vec<_> = file.groups.iter().map(|g| safety(&file, g)).collect();
    let nodes = file.nodes.into_iter().zip(priorities).map(|(n, p)| node(n, p));
    let groups = file.groups.into_iter().zip(per_group?).zip(safeties);
    let cluster = file.cluster?;
    Some(Config {
        cluster: cluster.name?.value,
        secret: value(cluster.secret).map(PathBuf::from),
        port: value(cluster.port).unwrap_or(PORT),
        lease: value(cluster.lease).map(Lease::of).unwrap_or_default(),
        nodes: nodes.collect::<Option<_>>()?,
        witnesses: file.witnesses.into_iter().map(witness).collect::<Option<_>>()?,
        fencing: file.fencing.map(settings).unwrap_or_default(),
        groups: groups.map(|((g, p), s)| group(g, p, s)).collect::<Option<_>>()?,
        checks: file.checks.into_iter().map(super::health::lower).collect::<Option<_>>()?,
        hooks: file.hooks.into_iter().map(super::hook::lower).collect::<Option<_>>()?,
        sessions: match file.sessions {
            Some(s) => Some(sessions(s)?),
            None => None,
        },
        watchdog: match file.watchdog {
            Some(w) => Some(watchdog(w)?),
            None => None,
        },
    })
}

fn sessions(s: read::Sessions) -> Option<Sessions> {
    let servers = s.servers?.value.into_iter();
    Some(Sessions {
        servers: servers.map(|s| super::form::socket(&s.value).ok()).collect::<Option<_>>()?,
        user: value(s.user).unwrap_or_else(|| "vipd".to_owned()),
        database: value(s.database).unwrap_or_else(|| "postgres".to_owned()),
        password_file: value(s.password_file).map(PathBuf::from),
        tls: match value(s.tls).as_deref() {
            Some("verify") => Tls::Verify { ca: value(s.ca).map(PathBuf::from) },
            _ => Tls::Off,
        },
    })
}

fn watchdog(w: read::Watchdog) -> Option<Watchdog> {
    Some(Watchdog {
        device: w.device?.value.into(),
        timeout: value(w.timeout).unwrap_or(Duration::from_secs(5)),
        reboot: value(w.reboot).unwrap_or(true),
    })
}

fn value<T>(at: Option<read::At<T>>) -> Option<T> {
    at.map(|a| a.value)
}

fn node(n: read::Node, priority: Priority) -> Option<Node> {
    Some(Node {
        name: n.name?.value,
        address: n.address?.value,
        address6: value(n.address6),
        paths: paths(n.paths)?,
        priority,
        fence: n.fence.into_iter().map(device).collect::<Option<_>>()?,
    })
}

fn witness(w: read::Witness) -> Option<Witness> {
    Some(Witness { name: w.name?.value, address: w.address?.value, paths: paths(w.paths)? })
}

fn paths(read: Option<read::At<Vec<read::At<IpAddr>>>>) -> Option<Vec<IpAddr>> {
    Some(read?.value.into_iter().map(|p| p.value).collect())
}

fn group(g: read::Group, priorities: Vec<Priority>, safety: Safety) -> Option<Group> {
    let vrid = g.vrid?.value;
    let version = value(g.version).unwrap_or(Version::V3);
    let interval = match value(g.interval) {
        Some(t) => Centis::new(u16::try_from(t.as_millis() / 10).ok()?)?,
        None if version == Version::V2 => Centis::DEFAULT_V2,
        None if safety.is_leased() => Centis::LEASED_V3,
        None => Centis::DEFAULT_V3,
    };
    let transport = match value(g.transport).as_deref() {
        Some("unicast") => Transport::Unicast { min_hops: value(g.min_ttl).unwrap_or(255) },
        Some(_) | None => Transport::Multicast,
    };
    let has = |f: &Family| g.addresses.iter().any(|a| Family::of(a.ip) == *f);
    let families: Vec<_> = [Family::V4, Family::V6].into_iter().filter(has).collect();
    let (routes, rules) = (lower_routes(&g.routes)?, lower_rules(&g.rules, &families)?);
    Some(Group {
        name: g.name?.value,
        safety,
        vrid,
        version,
        interface: value(g.interface),
        interval,
        priorities,
        preempt: value(g.preempt).unwrap_or(false),
        preempt_delay: value(g.preempt_delay).unwrap_or_default(),
        start_delay: value(g.start_delay).unwrap_or_default(),
        checksum: match value(g.checksum).as_deref() {
            Some("rfc9568") => Checksum::Rfc9568,
            Some("pseudo") => Checksum::Pseudo,
            Some(_) | None => Checksum::Auto,
        },
        transport,
        routers: g.routers.into_iter().map(router).collect(),
        password_file: value(g.password_file).map(PathBuf::from),
        addresses: addresses(g.addresses, value(g.link_local), vrid),
        announce: Announce {
            schedule: match g.schedule {
                Some(s) => s.value.into_iter().map(|t| t.value).collect(),
                None => [0, 10, 50, 250, 1100, 3000].map(Duration::from_millis).to_vec(),
            },
            refresh: match g.refresh {
                Some(read::Refresh::Never) => None,
                Some(read::Refresh::Every(t)) => Some(t),
                None => Some(Duration::from_mins(1)),
            },
        },
        sync: value(g.sync),
        spread: value(g.spread),
        stickiness: value(g.stickiness).unwrap_or(0),
        recovery_delay: value(g.recovery_delay),
        restore_limit: value(g.restore_limit).unwrap_or(10),
        proxy: match g.proxy {
            Some(p) => Some(proxy(p)?),
            None => None,
        },
        routes,
        rules,
    })
}

fn router(r: read::Router) -> Router {
    let address = r.address.value;
    Router { name: value(r.name).unwrap_or_else(|| address.to_string()), address }
}

/// The link-local address that vipd gives a virtual router, after the RFC's hardware address of it.
fn derived(vrid: VrId) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0200, 0x5eff, 0xfe00, 0x0200 | u16::from(vrid.get()))
}

fn addresses(read: Vec<read::Address>, given: Option<Ipv6Addr>, vrid: VrId) -> Vec<Address> {
    let mut all: Vec<_> = read.into_iter().map(address).collect();
    let link_local = |a: &Address| matches!(a.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if all.iter().any(|a| a.ip.is_ipv6()) {
        if !all.iter().any(link_local) {
            all.push(Address {
                ip: IpAddr::V6(given.unwrap_or_else(|| derived(vrid))),
                prefix: 64,
                interface: None,
                label: None,
                advertise: true,
                preferred: false,
                derived: given.is_none(),
            });
        }
        all.sort_by_key(|a| !link_local(a));
    }
    let (mut v4, mut v6) = (ADVERT_V4, ADVERT_V6);
    for a in all.iter_mut().filter(|a| a.advertise) {
        let room = if a.ip.is_ipv4() { &mut v4 } else { &mut v6 };
        a.advertise = *room > 0;
        *room = room.saturating_sub(1);
    }
    all
}

fn address(a: read::Address) -> Address {
    Address {
        ip: a.ip,
        prefix: a.prefix,
        interface: value(a.interface),
        label: value(a.label),
        advertise: value(a.advertise).unwrap_or(true),
        preferred: value(a.preferred).unwrap_or(false),
        derived: false,
    }
}

fn proxy(p: read::Proxy) -> Option<Proxy> {
    let argv: Option<Vec<_>> =
        value(p.command).map(|c| c.into_iter().map(|word| word.value).collect());
    let what = match (value(p.unit), argv) {
        (Some(unit), _) => ProxyKind::Unit(unit),
        (None, Some(argv)) => ProxyKind::Command { argv, user: value(p.user) },
        (None, None) => return None,
    };
    let config = value(p.config).map(PathBuf::from).or_else(|| guess(&what));
    let seconds = Duration::from_secs;
    Some(Proxy {
        what,
        run: if value(p.run).as_deref() == Some("active") { Run::Active } else { Run::Always },
        config,
        start_timeout: value(p.start_timeout).unwrap_or(seconds(30)),
        stop_timeout: value(p.stop_timeout).unwrap_or(seconds(30)),
        migration_threshold: value(p.migration_threshold)
            .or(value(p.restarts).map(|n| n + 1))
            .unwrap_or(3),
        failure_expiry: value(p.failure_expiry.or(p.restart_window)).unwrap_or(seconds(600)),
    })
}

/// Where HAProxy's configuration is, where the proxy is HAProxy.
fn guess(what: &ProxyKind) -> Option<PathBuf> {
    match what {
        ProxyKind::Unit(unit) => {
            (unit == "haproxy.service").then(|| PathBuf::from("/etc/haproxy/haproxy.cfg"))
        }
        ProxyKind::Command { argv, .. } => {
            let haproxy = argv.first()?.ends_with("/haproxy");
            let f = argv.iter().position(|a| a == "-f").filter(|_| haproxy)?;
            argv.get(f + 1).filter(|path| path.starts_with('/')).map(PathBuf::from)
        }
    }
}
