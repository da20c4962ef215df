//! What the core decided, done in its order; nothing here waits.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;

use crate::core::event::{Action, Event, Failure, FenceEvent, Power, ProxyEvent, Task};
use crate::core::status::{Note, Severity};
use crate::io::ballots::Ballots;
use crate::types::{IfIndex, Instant, Mac};
use crate::wire::announce;

use super::recorder::Node;
use super::turn::{Output, Scratch, Shell};
use super::voters::Voters;

/// Adverts to be sent with one system call.
#[derive(Default)]
pub(super) struct Adverts {
    bytes: Vec<u8>,
    one: Vec<u8>,
    to: Vec<(IfIndex, IpAddr, Range<usize>)>,
}

impl Shell {
    /// Does everything a step asked for, in order; never waits.
    pub(super) fn execute(&mut self, now: Instant, node: &mut Node, scratch: &mut Scratch) {
        while !scratch.actions.is_empty() {
            std::mem::swap(&mut scratch.actions, &mut scratch.spare);
            let mut actions = std::mem::take(&mut scratch.spare);
            for action in actions.drain(..) {
                if !matches!(action, Action::Advertise { .. }) {
                    self.flush(&mut scratch.adverts);
                }
                self.act(now, action, node, scratch);
            }
            scratch.spare = actions;
        }
        self.flush(&mut scratch.adverts);
        self.desk.flush();
        self.router.flush();
        if let Some(voters) = &mut self.voters {
            voters.flush(|| node.head(now));
        }
    }

    fn act(&mut self, now: Instant, action: Action, node: &mut Node, scratch: &mut Scratch) {
        match action {
            Action::Advertise { group, family, priority } => {
                let Adverts { bytes, one, to } = &mut scratch.adverts;
                node.emit(group, family, priority, one, |ifindex, dst, payload| {
                    let start = bytes.len();
                    bytes.extend_from_slice(payload);
                    to.push((ifindex, dst, start..bytes.len()));
                });
            }
            Action::Announce { ifindex, ip } => self.announce(ifindex, ip, node),
            Action::Probe { ifindex, source, target, mac } => {
                self.probe(ifindex, source, target, mac, node);
            }
            Action::Kernel(Task::ClosePort(index)) => self.close(index),
            Action::Kernel(task) => self.ask_kernel(now, task, node, scratch),
            Action::Proxy(group, order) => {
                let Some(proxy) = node.proxy(group).cloned() else { return };
                let order = Output::Proxy(group, Box::new(proxy), order);
                if self.outbox.try_send(order).is_err() {
                    let why = "the service runtime does not keep up".into();
                    let failed = Event::Proxy(group, ProxyEvent::Failed { why });
                    node.step(now, failed, &mut scratch.actions);
                }
            }
            Action::Fence { run, node: place, device, power } => {
                self.fence(now, run, (place, device), power, node, scratch);
            }
            Action::Tell { to, entry } => self.with_voters(|voters, _| voters.tell(to, entry)),
            Action::Beat { to } => self.with_voters(|voters, _| voters.beat(to)),
            Action::Remember { group, vote } => {
                self.with_voters(|voters, ballots| voters.remember(group, &vote, ballots));
            }
            Action::Guard(addresses) => self.guard(now, &addresses, node, scratch),
            Action::Routing(wanted) => self.router.want(wanted),
            Action::Gate { group, until } => {
                if let Some(deadlines) = &self.deadlines {
                    deadlines.set(group, until);
                }
            }
            Action::Settled(digest) => {
                // What is lost here makes the next start wait for everybody once more.
                let vote = node.config().lease.vote;
                drop(self.outbox.try_send(Output::Settled { digest, vote }));
            }
            Action::Failures(all) => drop(self.outbox.try_send(Output::Failures(all))),
            Action::Decided(all) => drop(self.outbox.try_send(Output::Decided(all))),
            Action::Note(told) => self.tell(told),
            Action::Reloaded(changes) => {
                if let Some(to) = self.reloads.pop_front() {
                    // Whoever asked may have gone.
                    let _ = to.send(changes);
                }
            }
            // Where there is no room they run at their next turn.
            Action::Hasten(checks) => drop(self.outbox.try_send(Output::Hasten(checks))),
            Action::EndSessions { of } => self.end_sessions(of, node),
            Action::Reset { why } => self.starve(why),
            Action::Exit { left } => {
                self.exit = true;
                self.feeding.left = left;
                // The channel closes behind it: a lost word is not missed.
                let _ = self.outbox.try_send(Output::Exit { left });
            }
        }
    }

    fn close(&mut self, index: IfIndex) {
        if let Some(port) = self.ports.remove(&index) {
            // Where there is no room it was closed at once.
            let _ = self.worker.close(port);
        }
    }

    fn ask_kernel(&mut self, now: Instant, task: Task, node: &mut Node, scratch: &mut Scratch) {
        if let Task::DelAddress { spec, .. } = &task {
            self.desk.gives_up(spec.ip);
        }
        if self.worker.run(task.clone()).is_err() {
            node.step(now, Event::Done(task, Err(Failure::TimedOut)), &mut scratch.actions);
        }
    }

    /// Has a device do something; the service runtime runs its agent.
    fn fence(
        &mut self,
        now: Instant,
        run: u64,
        (place, device): (u16, u16),
        power: Power,
        node: &mut Node,
        scratch: &mut Scratch,
    ) {
        let Some(victim) = node.config().nodes.get(usize::from(place)) else { return };
        let Some(device) = victim.fence.get(usize::from(device)) else { return };
        let (victim, device) = (victim.name.clone(), Box::new(device.clone()));
        if self.outbox.try_send(Output::Fence { run, victim, device, power }).is_err() {
            let result = Err(("the service runtime does not keep up".into(), true));
            let failed = Event::Fence(FenceEvent::Told { run, result });
            node.step(now, failed, &mut scratch.actions);
        }
    }

    /// What a node that is gone has left on the databases.
    fn end_sessions(&mut self, of: u16, node: &Node) {
        let (Some(on), Some(gone)) =
            (&node.config().sessions, node.config().nodes.get(usize::from(of)))
        else {
            return;
        };
        let own = [gone.address].into_iter().chain(gone.address6.map(IpAddr::V6));
        let from = own.chain(gone.paths.iter().copied()).collect();
        let (node, on) = (gone.name.clone(), Box::new(on.clone()));
        // Where there is no room, the servers notice by themselves, some time.
        let _ = self.outbox.try_send(Output::EndSessions { node, from, on });
    }

    /// What became of the connections to addresses that were given up.
    pub(super) fn disconnected(
        &mut self,
        at: Instant,
        group: Option<&str>,
        ended: io::Result<u32>,
    ) {
        let (severity, kind, text) = match ended {
            Ok(0) => return,
            Ok(count) => (
                Severity::Info,
                "connections-ended",
                format!("{count} connection(s) to addresses that were given up"),
            ),
            // That passes: the next time may go well.
            Err(why) if why.kind() == io::ErrorKind::TimedOut => (
                Severity::Warn,
                "connections-kept",
                "the kernel did not answer in time: connections to addresses that were given up may \
                 be left"
                    .to_owned(),
            ),
            // The same as long as this kernel runs: told once.
            Err(_) if std::mem::replace(&mut self.keeps_connections, true) => return,
            Err(why) => (
                Severity::Warn,
                "connections-kept",
                format!("connections to addresses that were given up cannot be ended: {why}"),
            ),
        };
        let group = group.map(str::to_owned);
        self.tell(Note { at, severity, group, kind: kind.to_owned(), text, about: None });
    }

    fn with_voters(&mut self, act: impl FnOnce(&mut Voters, Option<&mut Ballots>)) {
        if let Some(voters) = &mut self.voters {
            act(voters, self.ballots.as_mut());
        }
    }

    /// Has the gate guard these addresses before any of them is asked for.
    fn guard(
        &mut self,
        now: Instant,
        addresses: &BTreeMap<IpAddr, u16>,
        node: &mut Node,
        scratch: &mut Scratch,
    ) {
        let Some(deadlines) = &mut self.deadlines else { return };
        let slots = deadlines.assign(addresses, |id| node.group_name(id));
        if self.worker.guard(slots).is_err() {
            let why = "the kernel worker does not keep up".into();
            node.step(now, Event::Gate(Err(why)), &mut scratch.actions);
        }
    }

    /// Sends the adverts collected, in order; those of one interface go together.
    fn flush(&mut self, adverts: &mut Adverts) {
        let mut rest = adverts.to.as_slice();
        while let Some((index, ..)) = rest.first() {
            let run = rest.iter().take_while(|(i, ..)| i == index).count();
            let (batch, after) = rest.split_at(run);
            if let Some(port) = self.ports.get(index) {
                let batch: Vec<_> = batch
                    .iter()
                    .map(|(_, dst, range)| (*dst, &adverts.bytes[range.clone()]))
                    .collect();
                // A lost advert is a lost packet: the next one is due soon.
                let _ = port.send_adverts(&batch);
            }
            rest = after;
        }
        adverts.to.clear();
        adverts.bytes.clear();
    }

    fn announce(&mut self, ifindex: IfIndex, ip: IpAddr, node: &Node) {
        let Some(mac) = node.mac(ifindex) else { return };
        self.desk.serves(ip);
        // A lost announcement is repeated by its schedule.
        let _ = match ip {
            IpAddr::V4(ip) => self.announcer.send(ifindex, &announce::gratuitous_arp(mac, ip)),
            // A load balancer host is a host: it does not claim to be a router.
            IpAddr::V6(ip) => {
                self.announcer.send(ifindex, &announce::unsolicited_na(mac, ip, false))
            }
        };
    }

    fn probe(
        &mut self,
        ifindex: IfIndex,
        source: IpAddr,
        target: IpAddr,
        mac: Option<Mac>,
        node: &Node,
    ) {
        let Some(own) = node.mac(ifindex) else { return };
        // A lost probe is an unanswered one.
        let _ = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                self.announcer.send(ifindex, &announce::arp_probe(own, source, target, mac))
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let frame = announce::neighbour_solicitation(own, source, target, mac);
                self.announcer.send(ifindex, &frame)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Ok(()),
        };
    }

    pub(super) fn tell(&mut self, mut note: Note) {
        if self.lost_notes > 0 {
            note.text =
                format!("{} ({} notes before this one were lost)", note.text, self.lost_notes);
        }
        match self.outbox.try_send(Output::Note(note)) {
            Ok(()) => self.lost_notes = 0,
            Err(_) => self.lost_notes += 1,
        }
    }
}
