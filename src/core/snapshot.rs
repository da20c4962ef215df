//! The status, built on request from what is.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Effect, ProxyKind};

use crate::types::{IfIndex, Instant};

use super::addresses::{Op, Slot, Trouble};
use super::check::Known;
use super::election::Election;
use super::group::Group;
use super::links::{Links, NotReady};
use super::presence::Peer;
use super::proxy::{Care, State};
use super::signs::LASTS;
use super::status::{
    AddressState, AddressStatus, CheckStatus, Condition, ElectionStatus, GroupStatus, Heard,
    PeerKind, PeerStatus, ProxyStatus, Role, Severity, Status, condition,
};
use super::{Node, why};

/// How long a holder may hear nobody before that is worth saying.
pub(super) const LONELY: Duration = Duration::from_secs(3);

impl Node {
    /// Everything this node knows, for people.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            cluster: self.config.cluster.clone(),
            node: self.config.nodes[self.me].name.clone(),
            now,
            started: self.started,
            peers: self.peer_statuses(now),
            groups: self
                .order
                .iter()
                .filter_map(|id| self.groups.get(id))
                .chain(self.groups.values().filter(|g| g.retired))
                .map(|g| self.group_status(now, g))
                .collect(),
            conditions: self.conditions(now),
            voting: self.voting_status(now),
            fencing: self.fencing_status(now),
            decisions: self.decisions(now),
            gate: None,
            watchdog: self.fence.status(),
            dropped: vec![("vrid-errors".to_owned(), self.unknown_vrid)],
            hooks: Vec::new(),
            connections: Vec::new(),
            further: Vec::new(),
        }
    }

    fn peer_statuses(&self, now: Instant) -> Vec<PeerStatus> {
        // Only a holder asks.
        let asking = self.groups.values().any(Group::is_active);
        let mut peers: Vec<_> = self.peers.iter().map(|p| peer_status(p, asking)).collect();
        for seen in self.groups.values().filter_map(|g| g.signs.foreign.now(now)) {
            if !peers.iter().any(|p| p.address == seen.from) {
                peers.push(PeerStatus {
                    name: seen.from.to_string(),
                    address: seen.from,
                    kind: PeerKind::Router,
                    reachable: None,
                    since: None,
                    last_advert: Some(seen.last),
                });
            }
        }
        peers
    }

    fn conditions(&self, now: Instant) -> Vec<Condition> {
        let mut conditions = Vec::new();
        if let Some((at, late)) = self.stalled.filter(|(at, _)| now <= *at + LASTS) {
            let text = format!(
                "this daemon was not run for {} ms: CPU starved or paused",
                late.as_millis()
            );
            conditions.push(condition("stalled", Severity::Warn, text, at));
        }
        let active = self.groups.values().filter(|g| g.is_active()).map(|g| g.since).min();
        for peer in self.peers.iter().filter(|_| active.is_some()) {
            if let Some((false, since)) = peer.reachable {
                let text = format!("{} ({}) does not answer ARP/ND", peer.name, peer.ip);
                conditions.push(condition("peer-unreachable", Severity::Warn, text, since));
            }
        }
        let heard = |p: &Peer| p.last_advert.is_some() || matches!(p.reachable, Some((true, _)));
        if let Some(since) = active
            && now >= since + LONELY
            && !self.peers.is_empty()
            && !self.peers.iter().any(heard)
        {
            let text =
                "no peer was ever heard since this daemon started: cabling, VLAN or firewall?";
            conditions.push(condition("never-heard-peer", Severity::Warn, text.to_owned(), since));
        }
        conditions.extend(self.voting_conditions(now));
        conditions.extend(self.fencing_conditions(now));
        conditions.extend(self.fence.conditions());
        conditions.extend(self.operator_conditions(now));
        conditions.extend(self.stuck_routing());
        conditions
    }

    fn group_status(&self, now: Instant, group: &Group) -> GroupStatus {
        let (standings, outlook) = self.explained(now, group);
        GroupStatus {
            name: group.config.name.clone(),
            role: group.role(),
            since: group.since,
            why: group.why.clone(),
            vrid: group.config.vrid,
            version: group.config.version,
            interface: group
                .port
                .and_then(|ix| self.links.get(ix))
                .map(|l| l.name.to_string())
                .or_else(|| group.config.interface.clone()),
            priority: group.priority,
            effective_priority: group.effective_priority(),
            active: self.who_is_active(now, group),
            addresses: group
                .addresses
                .slots()
                .iter()
                .filter(|s| !s.retired || s.have)
                .map(|s| address_status(s, &self.links))
                .collect(),
            elections: group.elections.iter().map(election_status).collect(),
            proxy: group.proxy.as_ref().map(proxy_status),
            safety: group.config.safety.name().to_owned(),
            lease: self.lease_status(now, group),
            checks: group.health.checks().iter().map(check_status).collect(),
            recovering: group.damper.better_at().map(|at| (at, group.damper.relapses())),
            standings,
            outlook,
            routing: self.routing_status(group),
            conditions: {
                let mut all = group_conditions(now, group);
                all.extend(self.routing_conditions(group));
                all
            },
        }
    }

    /// A node's IPv6 adverts come from a link-local address that may not be in the file: where
    /// both families are heard, the one with a name tells more.
    fn is_peer(&self, ip: IpAddr) -> bool {
        self.peers.iter().any(|p| p.ip == ip)
    }

    /// The name of whoever is Active, as far as heard within its own down interval.
    pub(super) fn who_is_active(&self, now: Instant, group: &Group) -> Option<String> {
        if matches!(group.role(), Role::Active | Role::Releasing) {
            return Some(self.config.nodes[self.me].name.clone());
        }
        if let Some(lease) = self.lease_status(now, group) {
            return lease.holder;
        }
        let own = group.effective_priority();
        let heard = group
            .elections
            .iter()
            .filter_map(|e| e.heard.map(|h| (h, e.learned.down_interval(e.version, own))))
            .filter(|(h, down)| h.priority.0 > 0 && now <= h.at + *down)
            .map(|(h, _)| h)
            .max_by_key(|h| (self.is_peer(h.from), h.at))?;
        let peer = self.peers.iter().find(|p| p.ip == heard.from);
        Some(peer.map_or_else(|| heard.from.to_string(), |p| p.name.clone()))
    }
}

fn peer_status(peer: &Peer, asking: bool) -> PeerStatus {
    let reachable = peer.reachable.filter(|_| asking);
    PeerStatus {
        name: peer.name.clone(),
        address: peer.ip,
        kind: peer.kind,
        reachable: reachable.map(|(r, _)| r),
        since: reachable.map(|(_, at)| at),
        last_advert: peer.last_advert,
    }
}

fn address_status(slot: &Slot, links: &Links) -> AddressStatus {
    let state = match (slot.trouble, slot.pending, slot.have) {
        (Some(_), _, _) => AddressState::Failed,
        (None, Some(Op::Add), _) => AddressState::Adding,
        (None, Some(Op::Del), _) => AddressState::Removing,
        (None, None, true) => AddressState::Present,
        (None, None, false) => AddressState::Absent,
    };
    AddressStatus {
        address: format!("{}/{}", slot.spec.ip, slot.spec.prefix),
        interface: Some(slot.spec.index)
            .filter(|ix| *ix != IfIndex(0))
            .and_then(|ix| links.get(ix))
            .map(|l| l.name.to_string()),
        state,
        restored: slot.restored,
    }
}

fn election_status(election: &Election) -> ElectionStatus {
    ElectionStatus {
        family: election.family,
        counters: election.counters.named(),
        learned_interval_ms: u64::from(election.learned.get()) * 10,
        heard: election.heard.map(|h| Heard { from: h.from, priority: h.priority, at: h.at }),
    }
}

fn proxy_status(care: &Care) -> ProxyStatus {
    let pid = match care.state {
        State::Running(pid) => Some(pid),
        State::Unknown(_)
        | State::Stopped
        | State::Starting
        | State::Stopping
        | State::Failed
        | State::Stuck(_) => None,
    };
    ProxyStatus {
        what: match &care.config.what {
            ProxyKind::Unit(unit) => unit.clone(),
            ProxyKind::Command { argv, .. } => argv.first().cloned().unwrap_or_default(),
        },
        state: care.state.word().to_owned(),
        since: care.since,
        pid,
        failures: care.failures(),
        migration_threshold: care.config.migration_threshold,
        last_failure: care.last_failure.as_deref().map(str::to_owned),
    }
}

fn check_status(check: &Known) -> CheckStatus {
    let (effect, weight) = match check.effect {
        Effect::Disqualify => ("disqualify", None),
        Effect::Score(weight) => ("score", Some(weight)),
        Effect::Warn => ("warn", None),
    };
    CheckStatus {
        name: check.name.to_string(),
        what: String::new(),
        effect: effect.to_owned(),
        weight,
        verdict: check.verdict,
        since: check.since,
        found: check.found.to_string(),
        last: None,
        took_us: None,
        passed: None,
        runs: 0,
        failures: 0,
    }
}

/// Every named state a group is in.
fn group_conditions(now: Instant, group: &Group) -> Vec<Condition> {
    let mut all = Vec::new();
    let mut add = |name: &str, severity, text: String, since| {
        all.push(condition(name, severity, text, since));
    };
    if let Some(why) = group.not_ready() {
        let severity =
            if matches!(why, NotReady::Opening(_)) { Severity::Info } else { Severity::Error };
        add(why.name(), severity, why.to_string(), group.since);
    }
    if let Some((ip, trouble)) = group.addresses.trouble() {
        let (name, text) = match trouble {
            Trouble::NotAdded(why) => ("address-failed", format!("{ip} cannot be added: {why}")),
            Trouble::NotRemoved(why) => ("address-stuck", format!("{ip} cannot be removed: {why}")),
            Trouble::Contended => {
                ("address-contended", format!("somebody else keeps deleting {ip}"))
            }
        };
        add(name, Severity::Error, text, group.since);
    }
    if let Some(since) = group.unfit_since {
        let text = format!("{}; this node uses priority 1 until it recovers", why::unfit(group));
        add("unfit", Severity::Error, text, since);
    }
    for check in group.health.checks().iter().filter(|k| k.verdict == Some(false)) {
        let severity = match check.effect {
            Effect::Disqualify => Severity::Error,
            Effect::Score(_) | Effect::Warn => Severity::Warn,
        };
        add("check-failing", severity, format!("{}: {}", check.name, check.found), check.since);
    }
    if let Some(care) = group.proxy.as_ref().filter(|c| c.is_suspect() && c.is_fit()) {
        let text = format!(
            "{}; other nodes are preferred until that has expired: `vipctl cleanup {} --node ...` \
             forgives it",
            why::failures(&care.config, care.failures(), care.last_failure.as_deref()),
            group.config.name
        );
        add("failed-often", Severity::Warn, text, care.since);
    }
    if let Some(at) = group.damper.better_at().filter(|_| !group.is_active()) {
        let relapses = match group.damper.relapses() {
            0 => String::new(),
            n => format!(", after {n} relapses"),
        };
        let text = format!(
            "this node is well again, and takes over from a live holder in {}{relapses}",
            why::span(at.since(now))
        );
        add("recovering", Severity::Info, text, now);
    }
    if let Some(text) = group.together_words().filter(|_| !group.is_active()) {
        add("kept-together", Severity::Warn, text, group.since);
    }
    proxy_conditions(group, &mut add);
    sign_conditions(now, group, &mut add);
    all
}

fn proxy_conditions(group: &Group, add: &mut impl FnMut(&str, Severity, String, Instant)) {
    let Some(care) = &group.proxy else { return };
    let name = why::proxy_name(&care.config);
    match &care.state {
        State::Stuck(why) => {
            add(
                "proxy-stuck",
                Severity::Error,
                format!("{name} cannot be stopped: {why}"),
                care.since,
            );
        }
        State::Unknown(Some(why)) => {
            let text = format!("the state of {name} is unknown: {why}");
            add("proxy-unknown", Severity::Warn, text, care.since);
        }
        State::Unknown(None)
        | State::Stopped
        | State::Starting
        | State::Running(_)
        | State::Stopping
        | State::Failed => {}
    }
    if let Some(text) = &care.notice {
        add("proxy-notice", Severity::Warn, text.to_string(), group.since);
    }
}

fn sign_conditions(
    now: Instant,
    group: &Group,
    add: &mut impl FnMut(&str, Severity, String, Instant),
) {
    let signs = &group.signs;
    for (name, severity, sign, text) in signs.named() {
        if let Some(seen) = sign.now(now) {
            add(name, severity, format!("{} {text}", seen.from), seen.since);
        }
    }
    if let (Some(seen), Some(mac)) = (signs.conflict.now(now), signs.conflict_with) {
        let text = format!("{} is also claimed by {mac}", seen.from);
        add("address-conflict", Severity::Warn, text, seen.since);
    }
    if let Some(seen) = signs.split.now(now).filter(|_| group.is_active()) {
        let text = format!("{} may hold the addresses as well: its adverts are dropped", seen.from);
        add("two-holders", Severity::Error, text, seen.since);
    }
    if let (Some(seen), Some(why)) = (signs.dropped.now(now), signs.dropped_for) {
        add(
            why.name(),
            Severity::Warn,
            format!("packets of {} dropped: {why}", seen.from),
            seen.since,
        );
    }
}
