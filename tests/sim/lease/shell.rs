//! What a daemon decides is carried out, in its order; and what the kernel makes of it.

use std::collections::BTreeMap;

use vipd::core::event::{Action, Failure, ProxyEvent, ProxyOrder, Task};
use vipd::types::{Family, Instant, Priority, VoterIx};
use vipd::wire::peer::{Entry, Message, News};
use vipd::wire::vrrp::Meta;

use super::host::{Arrival, kernel_address};
use super::plan::{MS, Mutant, Real, US, own};
use super::world::World;

impl World {
    /// Carries out what was decided; `late` if the daemon was frozen since.
    pub(crate) fn carry_out(&mut self, host: usize, actions: Vec<Action>, late: bool) {
        let mut told: BTreeMap<VoterIx, Vec<Entry>> = BTreeMap::new();
        let mut acts = Vec::with_capacity(actions.len());
        for action in actions {
            match action {
                Action::Tell { to, entry } => told.entry(to).or_default().push(entry),
                Action::Beat { to } => drop(told.entry(to).or_default()),
                action => acts.push(action),
            }
        }
        if self.mutant == Mutant::TellsFirst {
            self.tell_all(host, std::mem::take(&mut told));
        }
        let life = self.hosts[host].life;
        self.hosts[host].just_opened.clear();
        for action in acts {
            self.act(host, action, late);
        }
        if self.hosts[host].life == life {
            self.tell_all(host, told);
        }
    }

    fn tell_all(&mut self, host: usize, told: BTreeMap<VoterIx, Vec<Entry>>) {
        if told.is_empty() {
            return;
        }
        let now = self.hosts[host].local(self.now);
        let Some(head) = self.hosts[host].daemon.as_ref().and_then(|d| d.head(now)) else { return };
        for (to, entries) in told {
            for entry in &entries {
                self.check_told(host, entry, &entries);
                if !matches!(entry.news, News::Report(_)) {
                    self.note(host, || format!("to {}: {} {:?}", to.0, entry.group, entry.news));
                }
            }
            self.post(host, to, Message { head, entries });
        }
    }

    fn act(&mut self, host: usize, action: Action, late: bool) {
        match action {
            Action::Advertise { group, family, priority } => {
                self.advertise(host, group, family, priority, late);
            }
            Action::Announce { ip, .. } => self.check_announced(host, ip, late),
            Action::Kernel(task) => self.kernel(host, task),
            Action::Proxy(group, order) => self.proxy(host, group, order),
            Action::Gate { group, until } => self.gate(host, group, until),
            Action::Guard(all) => {
                let Some(daemon) = &self.hosts[host].daemon else { return };
                let name = |id| daemon.group(id).unwrap_or_default();
                let guard = all.into_iter().map(|(ip, id)| (ip, name(id))).collect();
                self.hosts[host].guard = guard;
                self.check_all(host);
            }
            // Who may fence is asked anew by each run.
            Action::Remember { group, .. } if group >= vipd::core::lease::FENCE_SEATS => {}
            Action::Remember { group, vote } => {
                let Some(daemon) = &self.hosts[host].daemon else { return };
                let name = daemon.at(group);
                self.check_vote(host, &name, &vote);
                let votes = self.hosts[host].kept.votes.get_or_insert_default();
                if self.mutant == Mutant::Forgets {
                    votes.entry(name).or_insert(vote);
                } else {
                    votes.insert(name, vote);
                }
            }
            Action::Settled(digest) => {
                let Some(daemon) = &self.hosts[host].daemon else { return };
                let vote = daemon.config().lease.vote;
                let kept = &mut self.hosts[host].kept;
                kept.confirmed = Some(digest);
                kept.longest = kept.longest.max(vote);
            }
            Action::Note(note) => self.note(host, || {
                let group = note.group.unwrap_or_default();
                format!("{group} [{}] {}", note.kind, note.text)
            }),
            Action::Exit { .. } => {
                self.note(host, || "exits".to_owned());
                self.kill(host);
                if self.is_calm {
                    self.later(host, 20 * MS, Arrival::Start);
                }
            }
            Action::Fence { run, node, device, power } => {
                self.agent(host, run, node, device, power);
            }
            Action::Hasten(_) => self.hasten(host),
            Action::Reset { .. }
            | Action::EndSessions { .. }
            | Action::Decided(_)
            | Action::Failures(_)
            | Action::Reloaded(_)
            | Action::Routing(_)
            | Action::Probe { .. }
            | Action::Tell { .. }
            | Action::Beat { .. } => {}
        }
    }

    fn gate(&mut self, host: usize, group: u16, until: Option<Instant>) {
        let name = self.hosts[host].daemon.as_ref().and_then(|d| d.group(group));
        let Some(name) = name else { return };
        match until {
            None if self.hosts[host].deaf => {
                self.hosts[host].unheard.insert(name);
            }
            None => {
                if self.mutant != Mutant::DeafGate && self.hosts[host].gates.remove(&name).is_some()
                {
                    self.note(host, || format!("shuts the gate of {name}"));
                    self.oracle.shut(self.now, host, &name);
                }
            }
            Some(until) => {
                let was = self.hosts[host].is_open(self.now, &name);
                self.hosts[host].unheard.remove(&name);
                self.hosts[host].gates.insert(name.clone(), until);
                if !was {
                    self.hosts[host].just_opened.insert(name.clone());
                    let local = self.hosts[host].local(self.now);
                    self.note(host, || {
                        format!("opens the gate of {name} for {:?}", until.since(local))
                    });
                }
                // One that was decided before a long freeze may be over.
                if self.hosts[host].is_open(self.now, &name) {
                    self.check_gate(host, &name, until, was);
                    self.check_all(host);
                }
            }
        }
    }

    fn advertise(&mut self, host: usize, id: u16, family: Family, prio: Priority, late: bool) {
        self.check_advert(host, id, prio, late);
        if !self.shape.adverts {
            return;
        }
        let (mut packets, mut scratch) = (Vec::new(), Vec::new());
        let Some(node) = self.hosts[host].daemon.as_ref().and_then(|d| d.node()) else { return };
        node.emit(id, family, prio, &mut scratch, |_, dst, bytes| {
            packets.push((dst, bytes.to_vec()));
        });
        let src = own(self.hosts[host].voter);
        for (dst, bytes) in packets {
            for to in 0..self.hosts.len() {
                if to != host && self.hosts[to].daemon.as_ref().is_some_and(|d| d.node().is_some())
                {
                    let meta = Meta { src, dst, hops: 255 };
                    self.send_on(0, host, to, &Arrival::Advert { meta, bytes: bytes.clone() });
                }
            }
        }
    }

    fn kernel(&mut self, host: usize, task: Task) {
        if matches!(task, Task::ClosePort(_) | Task::Disconnect { .. }) {
            return;
        }
        let effect = 10 * US + self.random.draw(500 * US);
        let mut answer = effect + self.random.draw(1500 * US);
        let refused = self.hosts[host].sick && matches!(task, Task::AddAddress { .. });
        let fails = self.kernel_fails > 0 && self.random.chance(self.kernel_fails);
        let result = match (refused, fails, self.random.draw(3)) {
            (true, ..) | (_, true, 0) => Err(Failure::Errno(1)),
            (_, true, 1) => {
                // No answer, and yet it is done: later.
                self.later(host, effect * 40, Arrival::Effect(task.clone()));
                Err(Failure::TimedOut)
            }
            (_, true, _) => {
                answer += self.random.draw(200 * MS);
                self.later(host, effect, Arrival::Effect(task.clone()));
                Ok(())
            }
            _ => {
                self.later(host, effect, Arrival::Effect(task.clone()));
                Ok(())
            }
        };
        self.later(host, answer, Arrival::Done(task, result));
    }

    /// The kernel has done it; the event and the answer travel apart.
    pub(crate) fn effect(&mut self, host: usize, task: &Task) {
        if !self.hosts[host].powered {
            return;
        }
        let echo: Real = 10 * US + self.random.draw(1000 * US);
        match task {
            Task::AddAddress { spec, .. } => {
                self.hosts[host].addresses.insert(spec.ip);
                self.later(host, echo, Arrival::Address(kernel_address(spec.ip)));
                self.check_all(host);
            }
            Task::DelAddress { spec, .. } => {
                if self.hosts[host].addresses.remove(&spec.ip) {
                    self.later(host, echo, Arrival::AddressGone(kernel_address(spec.ip)));
                }
            }
            Task::OpenPort(_) | Task::ClosePort(_) | Task::Disconnect { .. } => {}
        }
    }

    fn proxy(&mut self, host: usize, group: u16, order: ProxyOrder) {
        let soon = 5 * MS + self.random.draw(10 * MS);
        let stopped = || Arrival::Proxy(group, ProxyEvent::Stopped { how: "inactive".into() });
        match order {
            ProxyOrder::Start => {
                self.later(host, soon, Arrival::Proxy(group, ProxyEvent::Running { pid: 1 }));
                if self.hosts[host].proxy_broken {
                    self.later(host, 2 * soon, stopped());
                }
            }
            ProxyOrder::Watch | ProxyOrder::Stop | ProxyOrder::Kill => {
                self.later(host, soon, stopped());
            }
            ProxyOrder::Unwatch => {}
        }
    }
}
