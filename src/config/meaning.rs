//! What a file means, in words: said after a clean check.

use std::time::Duration;

use super::walk::show;
use super::{
    Check, Config, Effect, Group, Hook, HookKind, Proxy, ProxyKind, Run, Safety, Style, Tls,
    Transport,
};
use crate::types::{Family, Priority};

impl Config {
    /// What the file means, as lines of text.
    pub fn meaning(&self) -> Vec<String> {
        let names: Vec<_> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        let mut out = vec![format!("cluster {}: {}", self.cluster, names.join(", "))];
        if self.needs_lease() {
            out.push(String::new());
            self.lease_in_words(&mut out);
        }
        if self.has_devices() {
            out.push(String::new());
            self.fencing_in_words(&mut out);
        }
        for group in &self.groups {
            out.push(String::new());
            self.group(group, &mut out);
        }
        if !self.checks.is_empty() {
            out.push(String::new());
        }
        out.extend(self.checks.iter().map(check));
        if !self.hooks.is_empty() {
            out.push(String::new());
        }
        out.extend(self.hooks.iter().map(hook));
        if let Some(sessions) = &self.sessions {
            let servers: Vec<_> = sessions.servers.iter().map(ToString::to_string).collect();
            out.push(String::new());
            out.push(format!(
                "sessions of a dead host are ended by {} on {}{}",
                sessions.user,
                servers.join(", "),
                if sessions.tls == Tls::Off { "" } else { ", over TLS" }
            ));
        }
        if let Some(watchdog) = &self.watchdog {
            out.push(String::new());
            out.push(format!(
                "watchdog {}: resets a host that vipd has not fed it from for {}",
                watchdog.device.display(),
                show(watchdog.timeout)
            ));
        }
        out
    }

    fn lease_in_words(&self, out: &mut Vec<String>) {
        let lease = &self.lease;
        let voters: Vec<_> = self
            .voters()
            .map(|v| if v.witness { format!("{} (a witness)", v.name) } else { v.name.to_owned() })
            .collect();
        let spare = voters.len() - self.majority();
        out.push(if voters.len() == 2 {
            // No other two voters pass the checks.
            "lease: of two nodes the holder goes on alone; the other takes over with its vote, or when \
             it has fenced it"
                .to_owned()
        } else {
            format!(
                "lease: {} of {} voters must agree, so {spare} may fail",
                self.majority(),
                voters.len(),
            )
        });
        out.push(format!("  voters        {}", voters.join(", ")));
        out.push(format!(
            "  renewal       every {}; {} in a row may be lost",
            show(lease.renew),
            lease.spare()
        ));
        out.push(format!(
            "  term          a holder serves at most {} after it asked for its last renewal",
            show(lease.term)
        ));
        out.push(format!("  vote          lasts {}", show(lease.vote)));
    }

    fn fencing_in_words(&self, out: &mut Vec<String>) {
        let fencing = &self.fencing;
        let when: Vec<_> = fencing.when.iter().map(|w| w.name()).collect();
        out.push(match when.as_slice() {
            [] => "fencing: only when an operator says so".to_owned(),
            when => format!("fencing: {} for {}", fencing.action.name(), when.join(", ")),
        });
        for node in &self.nodes {
            let mut levels: Vec<(u8, Vec<&str>)> = Vec::new();
            let mut devices: Vec<_> = node.fence.iter().collect();
            devices.sort_by_key(|d| d.level);
            for device in devices {
                match levels.last_mut() {
                    Some((level, agents)) if *level == device.level => agents.push(&device.agent),
                    _ => levels.push((device.level, vec![&device.agent])),
                }
            }
            let levels: Vec<_> = levels.iter().map(|(_, a)| a.join(" and ")).collect();
            let by = match levels.as_slice() {
                [] => "nothing can cut its power".to_owned(),
                levels => format!("by {}", levels.join(", then ")),
            };
            out.push(format!("  {:<13} {by}", node.name));
        }
        let check =
            fencing.check.map_or_else(|| "never".to_owned(), |t| format!("every {}", show(t)));
        out.push(format!("  {:<13} every device is asked for its status {check}", "check"));
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
        out.push(format!("  safety        {}", safety(group.safety)));
        if let Some((_, best_backup)) = order.get(1) {
            let after = match group.safety {
                Safety::Vrrp => silence(group, **best_backup),
                Safety::Lease => {
                    format!("about {} ms after it died", whole_ms(self.lease.missed()))
                }
                Safety::LeaseFence => "as soon as its power is off".to_owned(),
            };
            out.push(format!(
                "  failover      a dead holder is replaced {after}; a planned move takes milliseconds"
            ));
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
        let routes = group.routes.iter().map(ToString::to_string);
        let routing = routes.chain(group.rules.iter().map(ToString::to_string));
        for (i, words) in routing.enumerate() {
            out.push(format!("  {:<13} {words}", if i == 0 { "routing" } else { "" }));
        }
    }
}

fn check(check: &Check) -> String {
    let groups = (!check.groups.is_empty()).then(|| check.groups.join(", "));
    let effect = match (check.effect, groups) {
        (Effect::Disqualify, groups) => {
            let held = groups.as_deref().unwrap_or("a group");
            format!("the node must not hold {held} if another one can")
        }
        (Effect::Score(weight), None) => format!("the node's priority counts {weight} less"),
        (Effect::Score(weight), Some(groups)) => {
            format!("the node's priority in {groups} counts {weight} less")
        }
        (Effect::Warn, _) => "people are told".to_owned(),
    };
    let looks = match check.fall {
        1 => "one bad look".to_owned(),
        n => format!("{n} bad looks in a row"),
    };
    let (every, hung) = (show(check.interval), show(check.hung_after()));
    format!(
        "check {}: {}, every {every}; after {looks}, {hung} if it hangs, {effect}",
        check.name,
        check.what.in_words()
    )
}

fn hook(hook: &Hook) -> String {
    let told = match (&hook.what, hook.style) {
        (HookKind::Post { .. }, _) => "by HTTP POST",
        (HookKind::Run { .. }, Style::Vipd) => "on its input and in VIPD_* variables",
        (HookKind::Run { .. }, Style::Keepalived { .. }) => "as a keepalived notify script",
        (HookKind::Run { .. }, Style::Pacemaker) => "as a Pacemaker alert agent",
    };
    let groups = if hook.groups.is_empty() { "every group".into() } else { hook.groups.join(", ") };
    format!(
        "hook {}: {} is told of {groups} {told}, for at most {}",
        hook.name,
        hook.what.target(),
        show(hook.timeout)
    )
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

fn safety(safety: Safety) -> &'static str {
    match safety {
        Safety::Vrrp => "vrrp: as safe as VRRP, so a cut network gives two holders",
        Safety::Lease => "lease: nobody holds whom a majority of the voters does not let",
        Safety::LeaseFence => {
            "lease+fence: nobody holds whom a majority does not let, and a lost holder has no power"
        }
    }
}

fn silence(group: &Group, backup: Priority) -> String {
    let down = group.interval.down_interval(group.version, backup);
    format!("{} ms after its last advert", whole_ms(down))
}

fn whole_ms(t: Duration) -> u128 {
    t.as_nanos().div_ceil(1_000_000)
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
        "{what} {when}; the addresses move after {} within {}",
        failures(proxy.migration_threshold),
        show(proxy.failure_expiry)
    )
}

fn failures(count: u32) -> String {
    if count == 1 { "a single failure".to_owned() } else { format!("{count} failures") }
}
