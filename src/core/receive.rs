//! From a received packet to the group it means something to: the checks that need state
//! (RFC 9568 §7.1), and the signs a packet gives away.

use std::net::IpAddr;

use crate::config::Transport;
use crate::types::{Family, IfIndex, Instant, Mac, Priority, Version};
use crate::wire::vrrp::{self, Advert, Meta};

use super::event::Action;
use super::group::Group;
use super::presence::Change;
use super::signs::{Dropped, Drops};
use super::status::Severity;
use super::{Node, Out};

impl Node {
    /// Hears one packet; says which group it touched.
    pub(super) fn datagram(
        &mut self,
        now: Instant,
        ifindex: IfIndex,
        meta: &Meta,
        bytes: &[u8],
        out: &mut Vec<Action>,
    ) -> Option<u16> {
        let family = Family::of(meta.src);
        let id = vrrp::peek_vrid(bytes).and_then(|vrid| self.routes.get(&(ifindex, vrid)).copied());
        let Some(id) = id else {
            self.unknown_vrid += 1;
            return None;
        };
        let source = self.links.port(ifindex).and_then(|p| p.source(family));
        let (group, mut parts) = self.parts_of(id, out);
        let group = group?;
        if group.election(family).is_none() {
            self.unknown_vrid += 1;
            return None;
        }
        if source == Some(meta.src) {
            group.own_source(now, family, meta.src, &mut parts);
            return None;
        }
        match group.receive(now, family, meta, bytes, &mut parts) {
            Ok(()) => {
                group.settle(now, &mut parts);
                if let Some(peer) = self.peers.iter_mut().find(|p| p.ip == meta.src) {
                    peer.last_advert = Some(now);
                }
            }
            Err(why) => {
                if let Some(drops) = self.drops.add(now, id, meta.src, why) {
                    self.tell_drops(now, &drops, out);
                }
            }
        }
        Some(id)
    }

    pub(super) fn tell_drops(&mut self, now: Instant, drops: &Drops, out: &mut Vec<Action>) {
        let (group, mut out) = self.parts_of(drops.group, out);
        let Some(group) = group else { return };
        let text = format!(
            "dropped {} VRRP packet(s) for VRID {}; last from {}: {}",
            drops.count,
            group.config.vrid,
            out.name(drops.from),
            drops.why
        );
        group.note(now, Severity::Warn, "packets-dropped", text, &mut out);
    }

    /// Somebody said that `ip` is at `mac`.
    pub(super) fn neighbour(
        &mut self,
        now: Instant,
        ifindex: IfIndex,
        ip: IpAddr,
        mac: Mac,
        out: &mut Vec<Action>,
    ) {
        if self.links.get(ifindex).is_some_and(|l| l.mac == mac) {
            return;
        }
        if let Some(&(id, slot)) = self.vips.get(&ip) {
            self.with(id, out, |group, out| {
                if let Some(gap) = &mut group.gap {
                    gap.answered(now, ip);
                }
                group.claimed(now, slot, ip, mac, out);
            });
            return;
        }
        let own = self.links.port(ifindex).and_then(|p| p.source(Family::of(ip)));
        if own == Some(ip) {
            // The kernel drops the adverts of such a machine before they get here.
            self.each(out, |group, out| {
                if group.port == Some(ifindex) {
                    group.duplicate(now, ip, out);
                }
            });
            return;
        }
        let Some(peer) = self.peers.iter_mut().find(|p| p.ip == ip) else { return };
        let change = peer.answered(now, mac);
        let name = match change {
            Change::None | Change::Found | Change::Lost => return,
            Change::Blinked => None,
            Change::Returned => Some(peer.name.clone()),
        };
        let (groups, mut out) = self.parts(out);
        if let Some(name) = name {
            let text = format!("{name} ({ip}) answers again; announcing again");
            out.note_of(name, now, Severity::Info, "peer-returned", text);
        }
        for group in groups.values_mut().filter(|g| g.is_active() && g.port == Some(ifindex)) {
            group.assert(now, &mut out);
        }
    }
}

impl Group {
    /// A packet of our virtual router: dropped with a reason, or an advert.
    fn receive(
        &mut self,
        now: Instant,
        family: Family,
        meta: &Meta,
        bytes: &[u8],
        out: &mut Out<'_>,
    ) -> Result<(), Dropped> {
        let result = self.check(family, meta, bytes);
        match result {
            Ok(advert) => {
                self.note_signs(now, family, meta.src, &advert, out);
                self.advert(now, family, meta.src, &advert, out);
                Ok(())
            }
            Err(why) => {
                self.count(family, why);
                self.signs.dropped.see(now, meta.src);
                self.signs.dropped_for = Some(why);
                let peer = self.destinations.contains(&meta.src);
                if peer && self.is_active() && self.signs.split.see(now, meta.src) {
                    let text = format!(
                        "{} advertises too, but its packets are dropped ({why}): it may hold the \
                         addresses as well",
                        out.name(meta.src)
                    );
                    self.note(now, Severity::Error, "two-holders", text, out);
                }
                Err(why)
            }
        }
    }

    /// Every receive check: those of the wire first, then those of this configuration.
    fn check<'a>(
        &self,
        family: Family,
        meta: &Meta,
        bytes: &'a [u8],
    ) -> Result<Advert<'a>, Dropped> {
        let to_group = meta.dst.is_multicast();
        match self.config.transport {
            Transport::Multicast if !to_group => return Err(Dropped::Unicast(meta.dst)),
            Transport::Unicast { .. } if to_group => return Err(Dropped::Multicast),
            Transport::Unicast { .. } if !self.destinations.contains(&meta.src) => {
                return Err(Dropped::Stranger);
            }
            Transport::Multicast | Transport::Unicast { .. } => {}
        }
        let advert = vrrp::parse(meta, &self.expect(), bytes)?;
        let election = self.elections.iter().find(|e| e.family == family);
        let own = election.map_or(self.config.interval, |e| e.interval);
        if self.config.version == Version::V2 && advert.interval != own {
            let (got, expected) = (advert.interval.get() / 100, own.get() / 100);
            return Err(Dropped::Interval { got, expected });
        }
        Ok(advert)
    }

    fn count(&mut self, family: Family, why: Dropped) {
        let Some(election) = self.election(family) else { return };
        match why {
            Dropped::Parse(error) => election.counters.parse[error.index()] += 1,
            Dropped::Interval { .. } => election.counters.interval_discards += 1,
            Dropped::Stranger | Dropped::Unicast(_) | Dropped::Multicast => {
                election.counters.transport_errors += 1;
            }
        }
    }

    /// What an accepted advert gives away besides its meaning to the election.
    fn note_signs(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let known = self.destinations.contains(&from);
        // A node's link-local address is not in the file.
        let can_tell = !matches!(from, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !known && can_tell && self.signs.foreign.see(now, from) {
            let text = format!(
                "{from} advertises VRID {} but is neither a node nor a router of the file",
                self.config.vrid
            );
            self.note(now, Severity::Warn, "foreign-router", text, out);
        }
        let own = self.effective_priority();
        if advert.priority == Priority::OWNER
            && own == Priority::OWNER
            && self.signs.owner.see(now, from)
        {
            let text = format!("{} also says it owns the addresses (priority 255)", out.name(from));
            self.note(now, Severity::Error, "two-owners", text, out);
        } else if advert.priority == own && own > Priority::LEAST && self.signs.equal.see(now, from)
        {
            let text =
                format!("{} has our priority, {own}: addresses break the tie", out.name(from));
            self.note(now, Severity::Warn, "equal-priority", text, out);
        }
        let Some(election) = self.election(family) else { return };
        let same = advert.same_addresses(&election.addresses);
        let own_interval = election.interval;
        if !same {
            election.counters.list_mismatches += 1;
            if self.signs.list.see(now, from) {
                let theirs: Vec<_> = advert.addresses().take(8).map(|ip| ip.to_string()).collect();
                let text = format!(
                    "{} advertises other addresses than this file: {}",
                    out.name(from),
                    theirs.join(", ")
                );
                self.note(now, Severity::Warn, "address-list-differs", text, out);
            }
        }
        if advert.interval != own_interval && self.signs.interval.see(now, from) {
            let text = format!(
                "{} advertises every {}, this file says {own_interval}",
                out.name(from),
                advert.interval
            );
            self.note(now, Severity::Info, "interval-differs", text, out);
        }
        if family == Family::V6 && !advert.first_is_link_local() && self.signs.first.see(now, from)
        {
            let text = format!("{} does not advertise a link-local address first", out.name(from));
            self.note(now, Severity::Info, "no-link-local-first", text, out);
        }
    }

    /// A packet from our own address that we did not send.
    fn own_source(&mut self, now: Instant, family: Family, from: IpAddr, out: &mut Out<'_>) {
        if let Some(election) = self.election(family) {
            election.counters.own_source += 1;
        }
        self.duplicate(now, from, out);
    }

    /// Another machine uses our own address.
    fn duplicate(&mut self, now: Instant, from: IpAddr, out: &mut Out<'_>) {
        if self.signs.duplicate.see(now, from) {
            let text = format!(
                "another machine uses {from}, this node's address: a second vipd with this node's name?"
            );
            self.note(now, Severity::Error, "duplicate-node", text, out);
        }
    }

    /// Another machine claims an address that is held here.
    fn claimed(&mut self, now: Instant, slot: u16, ip: IpAddr, mac: Mac, out: &mut Out<'_>) {
        let held = self.addresses.slots().get(usize::from(slot)).is_some_and(|s| s.have);
        if !self.is_active() || !held {
            return;
        }
        self.signs.conflict_with = Some(mac);
        if self.signs.conflict.see(now, ip) {
            let text = format!("{mac} claims {ip}, which is held here; announcing again");
            self.note(now, Severity::Warn, "address-conflict", text, out);
        }
        self.addresses.announce_again(now);
    }
}
