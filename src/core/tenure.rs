//! Groups and the lease: what each tells the other, and what the kernel's gate is to guard.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::config::{self, Config, Member, ProxyKind};
use crate::types::{Instant, VoterIx};
use crate::wire::peer::{Head, Message};

use super::event::{Action, Inheritance, NOBODY, Secrets};
use super::group::Group;
use super::lease::{Changed, FENCE_SEATS, Lease, Setup, Transition, Verdict, Vote, Yielding};
use super::status::Severity;
use super::{Node, why};

/// Verdicts in one step: a group that wins, and at once gives way, and that is all.
const VERDICTS: usize = 3;
/// No group at all.
#[allow(clippy::reversed_empty_ranges, reason = "empty is what it is")]
const NO_GROUP: RangeInclusive<u16> = 1..=0;

/// A range of groups, and one more.
fn widened(range: &RangeInclusive<u16>, id: u16) -> RangeInclusive<u16> {
    let mut changed = Changed(range.clone());
    changed.add(id);
    changed.0
}

impl Node {
    /// The lease of a configuration that needs one, with what an earlier run remembered.
    pub(super) fn found_lease(&mut self, now: Instant, start: &Inheritance, out: &mut Vec<Action>) {
        if !self.config.needs_lease() {
            self.lease = None;
            return;
        }
        let mut setup = self.lease_setup();
        setup.gate = start.gate;
        let known = start.votes.is_some() && start.confirmed == Some(setup.digest);
        setup.quiet = (!known).then_some(start.quiet);
        setup.confirmed = start.confirmed;
        setup.remembers = start.votes.is_some();
        let mut lease = Lease::new(now, &setup);
        for (place, group) in (0..).zip(&self.config.groups) {
            if group.safety.is_leased() {
                let votes = start.votes.as_ref();
                let vote = votes.and_then(|v| v.get(&group.name)).copied().unwrap_or_default();
                let open = start.open.get(&group.name).copied();
                let open = open.filter(|until| *until > now && self.inherits(start, group));
                if known {
                    lease.add(place, Some(vote), open);
                } else {
                    lease.add_doubted(place, vote, open);
                }
            }
        }
        lease.set_marks(self.config.marks());
        lease.set_ties(self.ties());
        self.lease = Some(lease);
        self.tell_of_watchdog();
        self.with_lease(out, |lease, out| lease.begin(now, out));
    }

    /// Whether this run may go on with what an earlier one left open. A gate that was opened under
    /// another file stood before other addresses: somebody else may hold those of this one.
    pub(super) fn inherits(&self, start: &Inheritance, group: &config::Group) -> bool {
        !group.safety.is_leased() || start.confirmed == Some(self.config.digest())
    }

    fn lease_setup(&self) -> Setup {
        let me = self.config.voter_ix(Member::Node(self.me));
        let gate = self.lease.as_ref().and_then(Lease::gate);
        Setup { gate, ..Setup::new(&self.config, me, self.run) }
    }

    /// Lets the lease act; its gates are those of the groups at their places.
    pub(super) fn with_lease<T>(
        &mut self,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Lease, &mut Vec<Action>) -> T,
    ) -> Option<T> {
        let lease = self.lease.as_mut()?;
        let mut before = out.len();
        let told = act(lease, out);
        out.retain_mut(|action| {
            if before > 0 {
                before -= 1;
                return true;
            }
            // Those of the seats for fencing open nothing.
            if let Action::Gate { group, .. } = action {
                let id = self.order.get(usize::from(*group)).copied();
                *group = id.unwrap_or_default();
                return id.is_some();
            }
            // Who may fence is asked anew by each run.
            !matches!(action, Action::Remember { group, .. } if *group >= FENCE_SEATS)
        });
        Some(told)
    }

    /// Before anything else at a new moment: what may no longer be served is not.
    /// Says whether there was something.
    pub(super) fn expire_leases(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        let over = self.with_lease(out, |lease, out| lease.expire(now, out)).unwrap_or_default();
        for place in &over {
            // Nothing else that the event brings may find the group Active.
            if let Some(id) = self.order.get(usize::from(*place)) {
                self.follow_lease(now, *place, *id, out);
            }
        }
        !over.is_empty()
    }

    /// Looks up when the lease has something to do about the group at `place`.
    fn lease_due(&mut self, now: Instant, place: u16) {
        let due = self.lease.as_ref().and_then(|lease| lease.due(now, place));
        if let Some(kept) = self.lease_dues.get_mut(usize::from(place)) {
            *kept = due;
        }
    }

    /// When the lease has something to do.
    pub(super) fn lease_deadline(&self) -> Option<Instant> {
        let beat = self.lease.as_ref()?.beat_at();
        self.lease_dues.iter().flatten().copied().chain(self.fencing.seat_due).chain([beat]).min()
    }

    /// The groups that a moment changes something about: those from the first to the last that
    /// waited for it. Each of them whenever this node tells the others how it stands: what they
    /// said ages.
    pub(super) fn due_groups(&self, now: Instant) -> RangeInclusive<u16> {
        if self.lease.as_ref().is_some_and(|lease| now >= lease.beat_at()) {
            return super::EVERY_GROUP;
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let leases = self.lease_dues.iter().zip(&self.order).filter(|(due, _)| is_due(**due));
        let groups = self.groups.iter().filter(|(_, g)| {
            let gap = g.gap.as_ref().map(super::gap::Gap::deadline);
            is_due(g.due) || is_due(g.addresses.announce_at()) || is_due(gap)
        });
        let ids = groups.map(|(id, _)| id).chain(leases.map(|(_, id)| id));
        ids.fold(NO_GROUP, |hull, id| widened(&hull, *id))
    }

    pub(super) fn tick_lease(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.with_lease(out, |lease, out| lease.tick(now, out));
        self.switch_when_all_are_ready(now, out);
    }

    pub(super) fn peer(
        &mut self,
        now: Instant,
        from: VoterIx,
        message: &Message,
        out: &mut Vec<Action>,
    ) -> RangeInclusive<u16> {
        self.hear_of_fencing(now, from, message, out);
        let changed = self.with_lease(out, |lease, out| lease.hear(now, from, message, out));
        self.hear_of_moves(now, message);
        self.hear_will(now, from, message, out);
        self.hear_care(now, from, message);
        self.switch_when_all_are_ready(now, out);
        for entry in &message.entries {
            self.lease_due(now, entry.group);
        }
        let places = changed.map_or(0..=u16::MAX, |changed| changed.0);
        let ids = (0..).zip(&self.order).filter(|(place, _)| places.contains(place));
        ids.fold(NO_GROUP, |hull, (_, id)| widened(&hull, *id))
    }

    pub(super) fn peer_up(&mut self, now: Instant, from: VoterIx, out: &mut Vec<Action>) {
        self.with_lease(out, |lease, out| lease.up(now, from, out));
        self.tell_will(now, from, out);
    }

    pub(super) fn peer_twin(&mut self, now: Instant, from: VoterIx, out: &mut Vec<Action>) {
        self.with_lease(out, |lease, _| lease.twin(now, from));
        let name = self.voter_name(from);
        let text = format!(
            "two machines answer to the name {name}, or an old copy of it woke up: neither is voted \
             for while they take turns"
        );
        self.parts(out).1.note(now, Severity::Error, None, "twin", text);
    }

    /// What is known of the kernel's gate changed.
    pub(super) fn gate_told(
        &mut self,
        now: Instant,
        gate: Result<(), Box<str>>,
        out: &mut Vec<Action>,
    ) {
        if self.gate == gate {
            return;
        }
        let leased = self.lease.is_some();
        let (severity, kind, text) = match &gate {
            Ok(()) => (Severity::Info, "gate-ready", "the kernel's gate is in place".to_owned()),
            Err(why) if leased => (
                Severity::Error,
                "gate-missing",
                format!("{why}: what is held by lease is given up, and nothing is taken"),
            ),
            Err(why) => (
                Severity::Warn,
                "gate-missing",
                format!(
                    "{why}: a daemon that is killed or frozen would leave its addresses behind"
                ),
            ),
        };
        self.gate = gate;
        self.parts(out).1.note(now, severity, None, kind, text);
        if let Err(why) = self.gate.clone() {
            self.each(out, |group, out| {
                if group.is_leased() {
                    group.lose_lease(now, why.to_string(), out);
                }
            });
        }
    }

    pub(super) fn clock_told(
        &mut self,
        now: Instant,
        clock: Result<(), Box<str>>,
        out: &mut Vec<Action>,
    ) {
        if self.clock == clock {
            return;
        }
        let ok = clock.is_ok();
        if let Err(why) = &clock {
            let text = format!("{why}: this host neither holds by lease nor votes");
            self.parts(out).1.note(now, Severity::Error, None, "clock-wrong", text);
        }
        self.clock = clock;
        self.with_lease(out, |lease, _| lease.clock(ok));
    }

    // ---- after each event ----

    /// Follows up on the groups that are held by lease.
    pub(super) fn follow_leases(
        &mut self,
        now: Instant,
        touched: &RangeInclusive<u16>,
        out: &mut Vec<Action>,
    ) {
        self.lease_dues.resize(self.order.len(), None);
        if self.lease.is_none() {
            return self.lease_dues.fill(None);
        }
        for place in 0..self.order.len() {
            let id = self.order[place];
            if touched.contains(&id) && self.groups.get(&id).is_some_and(Group::is_leased) {
                self.follow_lease(now, u16::try_from(place).unwrap_or(u16::MAX), id, out);
            }
        }
    }

    pub(super) fn follow_lease(
        &mut self,
        now: Instant,
        place: u16,
        id: u16,
        out: &mut Vec<Action>,
    ) {
        let gate = self.gate.is_ok();
        for _ in 0..VERDICTS {
            self.face_holder(now, place, id, out);
            self.send_after(now, place);
            let Some(group) = self.groups.get(&id) else { return };
            let stand = group.stand(gate);
            let verdict =
                self.with_lease(out, |lease, out| lease.decide(now, place, stand, out)).flatten();
            let Some(verdict) = verdict else { break };
            let won = self.lease.as_mut().filter(|_| verdict == Verdict::Won);
            let before = won.and_then(|lease| lease.replaced(place));
            let why = self.verdict_words(now, place, before, &verdict);
            if let Some(before) = before {
                self.suspect(now, before);
            }
            self.with(id, out, |group, out| match &verdict {
                Verdict::Won => group.take(now, why, out),
                Verdict::Lost(_) | Verdict::Yield { .. } => group.lose_lease(now, why, out),
            });
            if let Verdict::Yield { to, .. } = verdict {
                self.take_along(now, place, to, out);
            }
        }
        let shut = self.lease.as_ref().is_none_or(|l| l.holds(now, place).is_none());
        if shut {
            self.with(id, out, |group, out| {
                group.disinherit(now);
                group.say_farewell(out);
            });
        }
        self.lease_due(now, place);
    }

    /// Lets a group know how good the holder is, so that it has been seen to be better before it
    /// wants anything.
    pub(super) fn face_holder(&mut self, now: Instant, place: u16, id: u16, out: &mut Vec<Action>) {
        let holder = self.lease.as_ref().and_then(|lease| lease.holder(now, place));
        let holder = holder.map(|(_, worth)| worth);
        self.with(id, out, |group, out| group.face(now, holder, out));
    }

    fn verdict_words(
        &self,
        now: Instant,
        place: u16,
        before: Option<VoterIx>,
        verdict: &Verdict,
    ) -> String {
        let Some(lease) = &self.lease else { return String::new() };
        match verdict {
            Verdict::Won => {
                let votes = lease.seat(place).map_or(0, |s| s.votes().count());
                let before = before.map(|v| (self.voter_name(v), lease.is_alive(now, v)));
                why::won(votes, lease.electors().len(), before)
            }
            Verdict::Lost(why) => {
                let silent: Vec<_> = lease.silent(now).map(|v| self.voter_name(v)).collect();
                why::lost(why, &silent)
            }
            Verdict::Yield { to, why: Yielding::Better(worth) } => {
                let own = self.groups.get(&self.order[usize::from(place)]).map(Group::worth);
                let own = own.map(|own| own.beside(lease.own_crowd(now, place)));
                why::better(&self.voter_name(*to), *worth, own)
            }
            Verdict::Yield { to, why: Yielding::Ordered } => {
                format!("moved to {} by an operator", self.voter_name(*to))
            }
            Verdict::Yield { to, why: Yielding::Together } => {
                let (to, others) = (self.voter_name(*to), self.together_with(place));
                format!("kept together with {others}, which {to} has or is to have")
            }
        }
    }

    pub(super) fn voter_name(&self, voter: VoterIx) -> String {
        let name = self.config.voters().nth(voter.index()).map(|v| v.name.to_owned());
        name.unwrap_or_else(|| format!("voter {}", voter.0))
    }

    /// Every vote of this node that counts, by the name of its group.
    pub fn votes(&self) -> Vec<(String, Vote)> {
        let Some(lease) = &self.lease else { return Vec::new() };
        let groups = (0..).zip(&self.config.groups);
        groups.filter_map(|(place, g)| Some((g.name.clone(), lease.vote_of(place)?))).collect()
    }

    /// What every datagram to other voters says of this one.
    pub fn head(&self, now: Instant) -> Option<Head> {
        let lease = self.lease.as_ref().map(|lease| lease.head(now));
        lease.or_else(|| self.config.has_channel().then(|| self.plain_head(now)))
    }

    /// Tells the gate which addresses are whose, if that changed: before any is asked for, and not
    /// before one that goes is gone.
    pub(super) fn guard(&mut self, out: &mut Vec<Action>) {
        let mut guarded: BTreeMap<IpAddr, u16> = BTreeMap::new();
        for (id, group) in &self.groups {
            for slot in group.addresses.slots() {
                let leaves = slot.retired || group.retired;
                if !leaves || slot.have || slot.pending.is_some() {
                    let taken = leaves && guarded.contains_key(&slot.spec.ip);
                    if !taken {
                        guarded.insert(slot.spec.ip, *id);
                    }
                }
            }
        }
        // Nobody may serve what a file of an earlier run had and this one has not.
        for ip in self.orphans.iter().filter(|ip| self.links.carrying(**ip).is_some()) {
            guarded.entry(*ip).or_insert(NOBODY);
        }
        if guarded != self.guarded {
            self.guarded.clone_from(&guarded);
            out.push(Action::Guard(guarded));
        }
    }

    // ---- another configuration ----

    /// Whether a file must wait until every voter has it: it changes who may serve what, and the
    /// voters are the same.
    pub(super) fn must_wait(&self, new: &Config) -> bool {
        let voters =
            |c: &Config| -> Vec<String> { c.voters().map(|v| v.name.to_owned()).collect() };
        self.lease.is_some()
            && new.needs_lease()
            && self.config.digest() != new.digest()
            && voters(&self.config) == voters(new)
    }

    /// Keeps a file until everybody has it.
    pub(super) fn park(
        &mut self,
        now: Instant,
        config: Arc<Config>,
        secrets: Secrets,
        out: &mut Vec<Action>,
    ) {
        let digest = config.digest();
        self.parked = Some((config, secrets));
        if let Some(lease) = &mut self.lease {
            lease.announce(now, digest);
        }
        let text = "another configuration waits until every voter has it".to_owned();
        self.parts(out).1.note(now, Severity::Info, None, "reload-waits", text.clone());
        out.push(Action::Reloaded(vec![text]));
        self.tick_lease(now, out);
    }

    fn switch_when_all_are_ready(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.lease.as_ref().is_some_and(|lease| lease.may_switch(now))
            && let Some((config, secrets)) = self.parked.take()
        {
            let changes = self.adopt(now, config, &secrets, out);
            let text = format!("every voter has the new configuration: {}", changes.join("; "));
            self.parts(out).1.note(now, Severity::Info, None, "reconfigured", text);
        }
    }

    /// What this step has decided so far names groups by their places in the configuration before:
    /// what is to be written down is renamed. What is to be told would be read by the new places,
    /// too; it is taken back, as it may as well have been lost.
    pub(super) fn rename(&self, was: &Config, out: &mut Vec<Action>) {
        let change = Transition::new(was, &self.config);
        let told = out.split_off(self.step_from.min(out.len()));
        out.extend(told.into_iter().filter_map(|action| match action {
            Action::Tell { .. } => None,
            Action::Remember { group, vote } => {
                Some(Action::Remember { group: change.place(group)?, vote })
            }
            Action::Advertise { .. }
            | Action::Announce { .. }
            | Action::Probe { .. }
            | Action::Kernel(_)
            | Action::Proxy(..)
            | Action::Beat { .. }
            | Action::Guard(_)
            | Action::Routing(_)
            | Action::Gate { .. }
            | Action::Settled(_)
            | Action::Decided(_)
            | Action::Failures(_)
            | Action::Fence { .. }
            | Action::Reset { .. }
            | Action::Hasten(_)
            | Action::EndSessions { .. }
            | Action::Note(_)
            | Action::Reloaded(_)
            | Action::Exit { .. } => Some(action),
        }));
    }

    /// The lease under the configuration now in force; `was` is the one before.
    pub(super) fn switch_lease(&mut self, now: Instant, was: &Config, out: &mut Vec<Action>) {
        let setup = self.lease_setup();
        let priorities = setup.priorities.clone();
        match (&mut self.lease, self.config.needs_lease()) {
            (Some(lease), true) if lease.digests().0 == setup.digest => {
                lease.announce(now, setup.digest);
                if lease.is_settled() {
                    // Whatever was in doubt meanwhile.
                    out.push(Action::Settled(setup.digest));
                }
            }
            (Some(_), true) => {
                let change = Transition::new(was, &self.config);
                let marks = self.config.marks();
                self.with_lease(out, |lease, out| {
                    lease.switch(now, &setup, &change, out);
                    lease.set_marks(marks);
                });
            }
            (None, true) => {
                let gate = self.gate_id;
                let quiet = self.config.lease.vote;
                let start = Inheritance { gate, quiet, ..Inheritance::default() };
                self.found_lease(now, &start, out);
            }
            (_, false) => self.lease = None,
        }
        let ties = self.ties();
        if let Some(lease) = &mut self.lease {
            lease.set_priorities(priorities);
            lease.set_ties(ties);
        }
    }

    /// Whether any proxy is a command: under the file in force, not one that waits to be.
    fn has_commands(&self) -> bool {
        let all = self.groups.values().map(|g| &g.config);
        let mut proxies = all.chain(&self.config.groups).filter_map(|g| g.proxy.as_ref());
        proxies.any(|p| matches!(p.what, ProxyKind::Command { .. }))
    }

    /// Leaves everything as it is, for the next run of this daemon to go on with. There may be none:
    /// its file may be bad, its program gone, systemd's limit of starts reached. A gate shuts by
    /// itself then; what no gate stands before would be served here and elsewhere for good, so it is
    /// given up.
    pub(super) fn leave(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Err(why) = &self.gate {
            let text = format!("{why}: nothing can be left to the next run, all is given up");
            self.parts(out).1.note(now, Severity::Warn, None, "leaving", text);
            return self.stop(now, out);
        }
        if self.has_commands() {
            let text = "a proxy is a command, which ends with this daemon: nothing can be left to the \
                        next run, all is given up";
            self.parts(out).1.note(now, Severity::Info, None, "leaving", text.to_owned());
            return self.stop(now, out);
        }
        let text = "leaving everything to the next run of this daemon".to_owned();
        self.parts(out).1.note(now, Severity::Info, None, "leaving", text);
        self.exited = true;
        out.push(Action::Exit { left: true });
    }
}
