//! What must hold after every step, said of true time and of what the kernels do: not of what any
//! daemon believes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vipd::config::{Lease, Safety};
use vipd::core::lease::Vote;
use vipd::types::{GateId, Instant, Priority};
use vipd::wire::peer::{Entry, News};

use super::plan::{Real, nanos};
use super::world::World;

/// A vote as it was really given, whoever remembers it.
#[derive(Clone, Copy, Debug)]
struct Given {
    gate: GateId,
    until: Real,
}

/// What the oracle knows.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) broken: Option<String>,
    /// By host and group. Survives what hosts forget.
    given: Vec<BTreeMap<String, Given>>,
    /// By group: who had it last, in which tenure, and how many memories were lost by then.
    owner: BTreeMap<String, (GateId, u64, u32)>,
    rounds: BTreeMap<(usize, GateId, String), u64>,
    shut: BTreeMap<String, (usize, Real)>,
    losses: u32,
    /// How often a gate opened, and how often so soon after another's was shut that frames which
    /// passed that one may still be on their way.
    pub(crate) opened: u64,
    pub(crate) overlaps: u64,
    pub(crate) checks: u64,
    /// The longest that it took until every group was held again.
    pub(crate) slowest: Real,
}

impl Oracle {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { given: vec![BTreeMap::new(); hosts], ..Self::default() }
    }

    pub(crate) fn another_host(&mut self) {
        self.given.push(BTreeMap::new());
    }

    /// A host forgot its votes; that changes nothing about their having been given.
    pub(crate) fn forgot(&mut self, _host: usize) {
        self.losses += 1;
    }

    pub(crate) fn shut(&mut self, now: Real, host: usize, group: &str) {
        self.shut.insert(group.to_owned(), (host, now));
    }
}

impl World {
    /// At most one host serves an address. Only what has just happened on `host` can have changed
    /// that for the worse.
    pub(crate) fn check_all(&mut self, host: usize) {
        let addresses: Vec<IpAddr> = self.hosts[host].addresses.iter().copied().collect();
        for ip in addresses {
            self.oracle.checks += 1;
            if !self.hosts[host].serves(self.now, ip) {
                continue;
            }
            let other = (0..self.hosts.len())
                .find(|other| *other != host && self.hosts[*other].serves(self.now, ip));
            if let Some(other) = other {
                let (a, b) = (self.described(host, ip), self.described(other, ip));
                self.broke(format!("I1: two hosts serve {ip}: {a}, and {b}"));
            }
        }
    }

    fn described(&self, host: usize, ip: IpAddr) -> String {
        let this = &self.hosts[host];
        let group = this.guard.get(&ip);
        let left = group.and_then(|g| this.gates.get(g)).map(|until| {
            let until = this.clock.real(*until);
            i128::from(until) - i128::from(self.now)
        });
        let clone = if this.clone { " (clone)" } else { "" };
        format!("{}{clone} (gate of {group:?}, {left:?} ns left)", this.name)
    }

    /// A vote was given, or given back.
    pub(crate) fn check_vote(&mut self, host: usize, group: &str, vote: &Vote) {
        self.oracle.checks += 1;
        let Some(grant) = vote.grant else {
            self.oracle.given[host].remove(group);
            return;
        };
        if grant.round == 0 {
            // No vote: a forgetful voter notes who holds.
            return;
        }
        let new = Given { gate: grant.gate, until: self.hosts[host].clock.real(grant.until) };
        let old = self.oracle.given[host].insert(group.to_owned(), new);
        // Whom it had may be proven to be off.
        let exists = |gate| self.hosts.iter().any(|h| h.powered && h.gate == gate);
        let old = old.filter(|old| old.gate != new.gate && self.now < old.until);
        if let Some(old) = old.filter(|old| exists(old.gate)) {
            let name = &self.hosts[host].name;
            let left = old.until - self.now;
            let what = format!(
                "I3, I8: {name} gave its vote for {group} to gate {:x}, which gate {:x} has for \
                 another {left} ns",
                new.gate.0, old.gate.0
            );
            self.broke(what);
        }
    }

    /// A gate opens, or stays open for longer.
    pub(crate) fn check_gate(&mut self, host: usize, group: &str, until: Instant, was: bool) {
        self.oracle.checks += 1;
        let this = &self.hosts[host];
        let (gate, name) = (this.gate, this.name.clone());
        let Some(daemon) = &this.daemon else { return };
        let config = daemon.config();
        if config.groups.iter().any(|g| g.name == group && !g.safety.is_leased()) {
            return;
        }
        // A strict vote outlives its term, in doubt: by that a host whose clock stood still may open.
        let strict =
            config.groups.iter().any(|g| g.name == group && g.safety == Safety::LeaseFence);
        let shuts = this.clock.real(until) + nanos(Lease::DRAIN);
        let mut outlive: Vec<_> = (0..self.hosts.len())
            .filter(|voter| {
                let given = self.oracle.given[*voter].get(group);
                given.is_some_and(|g| g.gate == gate && (strict || g.until >= shuts))
            })
            .map(|voter| self.hosts[voter].voter)
            .collect();
        outlive.dedup();
        let majority = config.majority();
        // Of two nodes, the other's end is as good as its vote.
        let pair = self.shape.strict > 0 && config.voters().count() == 2;
        if outlive.len() < majority && until > this.local(self.now) && !was && !pair {
            let what = format!(
                "I2, I4: {name} opens {group}, but of {majority} votes needed only those of \
                 {outlive:?} outlive it"
            );
            return self.broke(what);
        }
        if !was {
            self.check_tenure(host, group, gate);
        }
    }

    fn check_tenure(&mut self, host: usize, group: &str, gate: GateId) {
        self.oracle.opened += 1;
        let drain = nanos(Lease::DRAIN);
        if let Some((by, at)) = self.oracle.shut.get(group)
            && *by != host
            && self.now < at + drain
        {
            self.oracle.overlaps += 1;
        }
        let tenure = self.hosts[host].tenure.get(group).copied().unwrap_or_default();
        let losses = self.oracle.losses;
        let now = (gate, tenure, losses);
        let old = self.oracle.owner.insert(group.to_owned(), now);
        if let Some((of, last, lost)) = old
            && of != gate
            && lost == losses
            && tenure <= last
        {
            self.broke(format!("I12: tenure {tenure} of {group} follows {last} of another"));
        }
    }

    /// Something is said to another voter, together with all of `entries`.
    pub(crate) fn check_told(&mut self, host: usize, entry: &Entry, entries: &[Entry]) {
        let this = &self.hosts[host];
        let Some(daemon) = &this.daemon else { return };
        let group = daemon.config().groups.get(usize::from(entry.group)).map(|g| g.name.clone());
        let Some(group) = group else { return };
        match entry.news {
            News::Release { round, .. } if this.is_open(self.now, &group) && !this.deaf => {
                // What opened in this very step is another round's, asked for after that.
                let later = |e: &Entry| {
                    e.group == entry.group
                        && matches!(e.news, News::Request { round: other, .. } if other > round)
                };
                if this.just_opened.contains(&group) && entries.iter().any(later) {
                    return;
                }
                let name = this.name.clone();
                self.broke(format!(
                    "I6: {name} gives the votes for {group} back, its gate is open"
                ));
            }
            News::Request { gate, round, epoch } => {
                let last = self.oracle.rounds.get(&(host, gate, group.clone())).copied();
                if last.is_some_and(|last| round < last) {
                    self.broke(format!("I5: round {round} of {group} follows {last:?}"));
                }
                self.oracle.rounds.insert((host, gate, group.clone()), round);
                self.hosts[host].tenure.insert(group, epoch);
            }
            News::Release { .. }
            | News::Grant { .. }
            | News::Deny { .. }
            | News::Report(_)
            | News::Move { .. }
            | News::Part { .. }
            | News::Word(_)
            | News::Tale { .. }
            | News::Failed(_)
            | News::Looked(_)
            | News::Words { .. }
            | News::Fenced { .. } => {}
        }
    }

    /// Only who serves says so; who was frozen between deciding and saying could not know.
    pub(crate) fn check_advert(&mut self, host: usize, id: u16, priority: Priority, late: bool) {
        let this = &self.hosts[host];
        let Some(daemon) = &this.daemon else { return };
        let Some(group) = daemon.group(id) else { return };
        let leased = daemon.config().groups.iter().any(|g| g.name == group && g.safety.is_leased());
        let open = this.is_open(self.now, &group);
        self.oracle.checks += 1;
        if !late && !this.deaf && leased && open != (priority != Priority::RELEASE) {
            let name = this.name.clone();
            let what = format!("I10: {name} advertises {group} with {priority}, gate open: {open}");
            self.broke(what);
        }
    }

    pub(crate) fn check_announced(&mut self, host: usize, ip: IpAddr, late: bool) {
        let this = &self.hosts[host];
        let open = this.guard.get(&ip).is_some_and(|group| this.is_open(self.now, group));
        self.oracle.checks += 1;
        if !late && !this.deaf && !open {
            let name = this.name.clone();
            self.broke(format!("I10: {name} announces {ip} behind a gate that is shut"));
        }
    }
}
