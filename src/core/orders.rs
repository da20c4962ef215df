//! What the operator wants: to stop, or another configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::types::{Instant, Priority};

use super::event::{Action, ProxyOrder, Secrets};
use super::group::{Group, Settings};
use super::presence::Peer;
use super::status::PeerKind;
use super::{Node, STOP_LIMIT};

impl Node {
    pub(super) fn stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.stop_by.is_some() || self.exited {
            return;
        }
        let proxies = self.groups.values().filter_map(|g| g.config.proxy.as_ref());
        let longest = proxies.map(|p| p.stop_timeout).max().unwrap_or_default();
        self.stop_by = Some(now + STOP_LIMIT + longest);
        // It would start the groups again that are being stopped.
        self.parked = None;
        self.each(out, |group, out| group.quit(now, "vipd is stopping", out));
    }

    pub(super) fn reload(
        &mut self,
        now: Instant,
        config: Arc<Config>,
        secrets: Secrets,
        out: &mut Vec<Action>,
    ) {
        if self.stop_by.is_some() || self.exited || self.fence.is_condemned() {
            out.push(Action::Reloaded(Vec::new()));
        } else if self.must_wait(&config) {
            self.park(now, config, secrets, out);
        } else {
            self.parked = None;
            let changes = self.adopt(now, config, &secrets, out);
            out.push(Action::Reloaded(changes));
        }
    }

    /// Another configuration, from now on; says what changed.
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        config: Arc<Config>,
        secrets: &Secrets,
        out: &mut Vec<Action>,
    ) -> Vec<String> {
        let mut changes = Vec::new();
        self.orphans.extend(self.virtual_addresses());
        let old = std::mem::replace(&mut self.config, config);
        self.rename(&old, out);
        let name = &old.nodes[self.me].name;
        // The daemon refuses a file without this node, so it is found.
        self.me = self.config.nodes.iter().position(|n| n.name == *name).unwrap_or(0);
        self.peers = merge(std::mem::take(&mut self.peers), peers(&self.config, self.me));
        let mut gone: BTreeSet<u16> = self.order.drain(..).collect();
        for ix in 0..self.config.groups.len() {
            let settings = self.settings(ix, secrets);
            let known = self
                .groups
                .iter()
                .find(|(id, g)| gone.contains(id) && g.config.name == settings.config.name)
                .map(|(id, _)| *id);
            let id = if let Some(id) = known {
                gone.remove(&id);
                self.with(id, out, |group, out| {
                    let name = group.config.name.clone();
                    let lines = group.configure(now, settings, out);
                    changes.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
                });
                id
            } else {
                changes.push(format!("+ group {}", settings.config.name));
                self.add_group(now, settings, None, out)
            };
            self.order.push(id);
        }
        for id in gone {
            self.with(id, out, |group, out| {
                changes.push(format!("- group {}", group.config.name));
                group.retired = true;
                if group.is_leased() {
                    // No lease looks after it any more.
                    out.push(Action::Gate { group: id, until: None });
                }
                group.quit(now, "no longer in the configuration", out);
            });
        }
        self.stale = true;
        self.tie();
        self.renumber_fencing(&old);
        self.switch_lease(now, &old, out);
        self.rename_will();
        self.rename_care();
        changes
    }

    pub(super) fn add_group(
        &mut self,
        now: Instant,
        settings: Settings,
        heir: Option<Instant>,
        out: &mut Vec<Action>,
    ) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let group = Group::new(now, id, settings, heir);
        if group.proxy.is_some() {
            out.push(Action::Proxy(id, ProxyOrder::Watch));
        }
        self.groups.insert(id, group);
        id
    }

    /// Forgets groups that left the configuration and have nothing left on this host.
    pub(super) fn reap(&mut self, out: &mut Vec<Action>) {
        self.groups.retain(|id, group| {
            let keep = !(group.retired && group.is_stopped());
            if !keep && group.proxy.is_some() {
                out.push(Action::Proxy(*id, ProxyOrder::Unwatch));
            }
            keep
        });
    }

    pub(super) fn settings(&self, ix: usize, secrets: &Secrets) -> Settings {
        let config = self.config.groups[ix].clone();
        let nodes = self.config.nodes.iter().enumerate().filter(|(n, _)| *n != self.me);
        let families: Vec<_> = config.families().collect();
        let destinations = nodes
            .clone()
            .flat_map(|(_, n)| families.iter().filter_map(|f| n.address_of(*f)))
            .chain(config.routers.iter().map(|r| r.address))
            .collect();
        let scores = self.config.has_scores(&config.name);
        let rival = |(ix, n): (usize, &config::Node)| {
            let priority = *config.priorities.get(ix)?;
            let all = families.iter().filter_map(|f| n.address_of(*f));
            Some(all.map(|ip| (ip, scores.then_some(priority))).collect::<Vec<_>>())
        };
        Settings {
            checks: self.config.checks_of(&config.name).cloned().collect(),
            rivals: nodes.clone().filter_map(rival).flatten().collect(),
            priority: config.priorities.get(self.me).copied().unwrap_or(Priority::DEFAULT),
            password: secrets.0.get(ix).copied().flatten(),
            destinations,
            rank: u32::try_from(self.me).unwrap_or(u32::MAX),
            config,
        }
    }
}

/// Everybody but node `me`: the other nodes' fixed addresses and the routers of all groups.
pub(super) fn peers(config: &Config, me: usize) -> Vec<Peer> {
    let nodes = config.nodes.iter().enumerate().filter(|(ix, _)| *ix != me).flat_map(|(_, n)| {
        let addresses = [Some(n.address), n.address6.map(IpAddr::V6)];
        addresses.into_iter().flatten().map(|ip| (n.name.clone(), ip, PeerKind::Node))
    });
    let routers = config.groups.iter().flat_map(|g| &g.routers);
    let routers = routers.map(|r| (r.name.clone(), r.address, PeerKind::Router));
    let mut peers: Vec<Peer> = Vec::new();
    for (name, ip, kind) in nodes.chain(routers) {
        if !peers.iter().any(|p| p.ip == ip) {
            peers.push(Peer::new(name, ip, kind));
        }
    }
    peers
}

/// Keeps what is known of peers that stay.
fn merge(old: Vec<Peer>, mut new: Vec<Peer>) -> Vec<Peer> {
    for was in old {
        if let Some(is) = new.iter_mut().find(|p| p.ip == was.ip && p.name == was.name) {
            *is = was;
        }
    }
    new
}
