//! What a file means, in words: said after a clean check.

use super::walk::show;
use super::{Config, Group, Proxy, ProxyKind, Run, Transport};
use crate::types::{Family, Priority};

impl Config {
    /// What the file means, as lines of text.
    pub fn meaning(&self) -> Vec<String> {
        let names: Vec<_> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        let mut out = vec![format!("cluster {}: {}", self.cluster, names.join(", "))];
        for group in &self.groups {
            out.push(String::new());
            self.group(group, &mut out);
        }
        out
    }

    fn group(&self, group: &Group, out: &mut Vec<String>) {
        out.push(format!(
            "group {}: virtual router {}, version {}, an advert every {} by {}",
            group.name,
            group.vrid,
            group.version,
            show(group.interval.duration()),
            match group.transport {
                Transport::Multicast => "multicast",
                Transport::Unicast { .. } => "unicast",
            }
        ));
        let mut order: Vec<_> = self.nodes.iter().zip(&group.priorities).collect();
        order.sort_by_key(|(_, p)| std::cmp::Reverse(**p));
        let ranked: Vec<_> = order.iter().map(|(n, p)| format!("{} ({p})", n.name)).collect();
        out.push(format!("  preferred     {}", ranked.join(", then ")));
        out.push(format!("  preemption    {}", preemption(group)));
        addresses(group, out);
        if let Some((_, best_backup)) = order.get(1) {
            out.push(format!("  failover      {}", failover(group, **best_backup)));
        }
        if !group.routers.is_empty() {
            let names: Vec<_> =
                group.routers.iter().map(|r| format!("{} ({})", r.name, r.address)).collect();
            out.push(format!("  other routers {}", names.join(", ")));
        }
        out.push(format!(
            "  proxy         {}",
            group.proxy.as_ref().map_or_else(|| "none".to_owned(), proxy)
        ));
    }
}

fn preemption(group: &Group) -> String {
    if !group.preempt {
        "off: a healthy holder keeps the addresses".to_owned()
    } else if group.preempt_delay.is_zero() {
        "on: a healthy node of higher priority takes the addresses at once".to_owned()
    } else {
        format!(
            "on: a healthy node of higher priority takes over after {}",
            show(group.preempt_delay)
        )
    }
}

fn failover(group: &Group, backup: Priority) -> String {
    let down = group.interval.down_interval(group.version, backup);
    let ms = down.as_nanos().div_ceil(1_000_000);
    format!(
        "a dead holder is replaced {ms} ms after its last advert; a planned move takes milliseconds"
    )
}

fn addresses(group: &Group, out: &mut Vec<String>) {
    const SHOWN: usize = 8;
    let device = group.interface.as_deref().unwrap_or("the interface of the node's address");
    for (i, a) in group.addresses.iter().enumerate().take(SHOWN) {
        let title = if i == 0 { "addresses" } else { "" };
        let place = a.interface.as_deref().unwrap_or(device);
        let mut line = format!("  {title:<13} {}/{} on {place}", a.ip, a.prefix);
        if a.derived {
            line.push_str(", derived from the VRID");
        }
        out.push(line);
    }
    if let Some(more) = group.addresses.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        out.push(format!("  {:<13} and {more} more", ""));
    }
    for family in group.families() {
        let of = group.addresses.iter().filter(|a| Family::of(a.ip) == family);
        let quiet = of.filter(|a| !a.advertise).count();
        if quiet > 0 {
            out.push(format!("  {:<13} {quiet} of {family} are not carried in adverts", ""));
        }
    }
}

fn proxy(proxy: &Proxy) -> String {
    let what = match &proxy.what {
        ProxyKind::Unit(unit) => unit.as_str(),
        ProxyKind::Command { argv, .. } => argv.first().map_or("", String::as_str),
    };
    let when = match proxy.run {
        Run::Always => "on every node",
        Run::Active => "only where the addresses are",
    };
    format!(
        "{what} {when}; a node yields after {} restarts within {}",
        proxy.restarts,
        show(proxy.restart_window)
    )
}
