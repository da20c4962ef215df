//! Which nodes are to be fenced, and what follows: between the lease, the groups and the agents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::{Config, Device, FenceAction, Safety, When};
use crate::types::{Instant, Priority, VoterIx};
use crate::wire::peer::will::Text;
use crate::wire::peer::{Entry, Message, News};

use super::event::{Action, FenceEvent, Past, Power};
use super::fence::{Deed, Phase, Sight, Target, Want, Why};
use super::lease::{FENCE_SEATS, Lease, Stand, Verdict};
use super::status::{Condition, DeviceStatus, FencingStatus, Severity, condition};
use super::worth::Worth;
use super::{Node, why};

/// How long a node that cannot give up what it must has to go by itself.
const STUCK_DELAY: Duration = Duration::from_secs(1);
/// How long a node that hears a majority again has to hear the rest of it: sessions are agreed on
/// within two seconds.
const SIGHT: Duration = Duration::from_secs(3);

/// What is known about the fencing of other nodes.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    targets: BTreeMap<u16, Target>,
    /// Devices at work, by the number of their run: for which node, which of its devices, and to do
    /// what.
    runs: BTreeMap<u64, (u16, u16, Power)>,
    last_run: u64,
    /// Nodes that an operator wants to be fenced.
    orders: BTreeSet<u16>,
    /// When time alone changes something.
    pub(super) due: Option<Instant>,
    /// When the right to fence is to be asked for again.
    pub(super) seat_due: Option<Instant>,
    /// When this was last looked at: who was not run for long knows nothing of the others.
    looked: Instant,
    /// Since when this node is run, and hears a majority.
    awake: Option<Instant>,
}

impl Fencing {
    /// How far it is with the fencing of a node.
    pub(super) fn phase(&self, node: usize) -> Option<&Phase> {
        let node = u16::try_from(node).ok()?;
        self.targets.get(&node).map(Target::phase)
    }
}

impl Node {
    /// An operator's word, or what became of a device.
    pub(super) fn fence_told(&mut self, now: Instant, event: FenceEvent, out: &mut Vec<Action>) {
        match event {
            FenceEvent::Order(node) => {
                if self.devices(node).is_empty() || usize::from(node) == self.me {
                    return;
                }
                self.fencing.orders.insert(node);
            }
            FenceEvent::Confirm(node) => self.confirm_off(now, node, out),
            FenceEvent::Told { run, result } => {
                let Some((node, device, power)) = self.fencing.runs.remove(&run) else { return };
                let action = self.config.fencing.action;
                let mut deeds = Vec::new();
                if let Some(target) = self.fencing.targets.get_mut(&node) {
                    target.told(now, (device, power), result, action, &mut deeds);
                }
                self.carry_out(now, node, deeds, out);
            }
        }
    }

    /// What the run before this one did to others counts, and is brought to its end: who is off only
    /// because that run was over too early is switched on.
    pub(super) fn recall_fencing(&mut self, now: Instant, past: &[Past], out: &mut Vec<Action>) {
        for Past { node: name, fenced, off, unfinished } in past {
            let place = self.config.nodes.iter().position(|n| n.name == *name);
            let place = place.filter(|place| *place != self.me);
            let Some(node) = place.and_then(|place| u16::try_from(place).ok()) else { continue };
            let mut rest = Vec::new();
            if *off && self.config.fencing.action == FenceAction::Reboot {
                // Which level it was is not known. The last ones are those that feed the others.
                let mut all: Vec<_> = (0..).zip(self.devices(node)).collect();
                all.sort_by_key(|(_, device)| std::cmp::Reverse(device.level));
                rest.extend(all.into_iter().map(|(place, _): (u16, _)| place));
            }
            self.fencing.targets.entry(node).or_default().recall(now, fenced, rest);
            if *unfinished {
                let text = format!(
                    "vipd ended while the power of {name} was being cut: whether it is off is not \
                     known"
                );
                self.parts(out).1.note_of(
                    name.clone(),
                    now,
                    Severity::Warn,
                    "fence-unfinished",
                    text,
                );
            }
        }
    }

    /// Nodes have other places in the configuration now in force than in the one before.
    pub(super) fn renumber_fencing(&mut self, was: &Config) {
        let place = |node: u16| {
            let name = &was.nodes.get(usize::from(node))?.name;
            let is = self.config.nodes.iter().position(|n| n.name == *name)?;
            u16::try_from(is).ok()
        };
        let Fencing { targets, runs, orders, .. } = &mut self.fencing;
        let old = std::mem::take(targets);
        targets.extend(old.into_iter().filter_map(|(node, target)| Some((place(node)?, target))));
        let old = std::mem::take(runs);
        let moved = old.into_iter();
        runs.extend(
            moved.filter_map(|(run, (node, device, power))| {
                Some((run, (place(node)?, device, power)))
            }),
        );
        *orders = std::mem::take(orders).into_iter().filter_map(place).collect();
    }

    /// A person says that a node is off. One that is heard is not.
    fn confirm_off(&mut self, now: Instant, node: u16, out: &mut Vec<Action>) {
        let name = self.node_name(node);
        if usize::from(node) == self.me || self.is_heard(now, node) {
            let text = format!("{name} is heard, so it is not off: not confirmed");
            self.parts(out).1.note_of(name, now, Severity::Warn, "fence-refused", text);
            return;
        }
        let marks = self.marks(now, node);
        self.fencing.targets.entry(node).or_default().confirm(now);
        let text = format!("a human says that {name} is off");
        self.parts(out).1.note_of(name, now, Severity::Warn, "fence-confirmed", text);
        self.with_lease(out, |lease, out| lease.prove(now, voter(node), &marks, out));
    }

    /// Follows up on every node that can be fenced, or whose end a human has confirmed.
    pub(super) fn follow_fencing(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.fencing.targets.is_empty() && !self.config.has_devices() {
            return;
        }
        self.look_around(now);
        let nodes = u16::try_from(self.config.nodes.len()).unwrap_or(u16::MAX);
        self.fencing.targets.retain(|node, _| *node < nodes);
        for node in 0..nodes {
            if usize::from(node) != self.me {
                self.follow_target(now, node, out);
            }
        }
        self.fencing.due =
            self.fencing.targets.values().filter_map(Target::deadline).min().filter(|at| *at > now);
        let seats = (0..nodes).filter_map(|n| self.lease.as_ref()?.due(now, FENCE_SEATS + n));
        self.fencing.seat_due = seats.min();
    }

    /// Whether this node has been run and heard a majority all the time, or one of two was run.
    fn look_around(&mut self, now: Instant) {
        let Some(lease) = &self.lease else { return };
        let slept = now.since(self.fencing.looked) > lease.alive() / 2;
        self.fencing.looked = now;
        let sees = lease.is_pair() || lease.in_reach(now) >= lease.majority();
        let awake = self.fencing.awake.filter(|_| !slept);
        self.fencing.awake = sees.then_some(awake.unwrap_or(now));
    }

    fn follow_target(&mut self, now: Instant, node: u16, out: &mut Vec<Action>) {
        let known = self.fencing.targets.contains_key(&node);
        if self.devices(node).is_empty() && !known {
            return;
        }
        let want = self.want(now, node);
        if want.is_none() && !known {
            return;
        }
        let permit = self.may_fence(now, node, want.as_ref(), out);
        let mut target = self.fencing.targets.remove(&node).unwrap_or_default();
        let fencing = &self.config.fencing;
        let sight = Sight {
            want,
            heard: self.lease.as_ref().and_then(|lease| lease.heard_at(voter(node))),
            permit,
            devices: self.devices(node),
            action: fencing.action,
            limit: fencing.limit,
        };
        let mut deeds = Vec::new();
        target.step(now, &sight, &mut deeds);
        self.fencing.targets.insert(node, target);
        self.carry_out(now, node, deeds, out);
    }

    /// Whether this node is the one that may fence `node` now: it holds the seat for that, which
    /// takes a majority. Of two nodes each may, the holder first; without a lease an operator
    /// decides alone, as where no majority can be reached.
    fn may_fence(
        &mut self,
        now: Instant,
        node: u16,
        want: Option<&Want>,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(lease) = &self.lease else { return true };
        if lease.is_pair() {
            return true;
        }
        let alone =
            lease.in_reach(now) < lease.majority() && want.is_some_and(|w| w.why == Why::Ordered);
        let seat = FENCE_SEATS + node;
        let target = self.fencing.targets.get(&node);
        let stand = Stand {
            able: target.is_some_and(Target::seeks) && !alone,
            keeps: target.is_some_and(Target::is_at_work),
            // In the order of the file.
            worth: Worth::new(Priority(u8::MAX - u8::try_from(self.me).unwrap_or(u8::MAX)), 0),
            ..Stand::NONE
        };
        let decide = |lease: &mut Lease, out: &mut Vec<Action>| lease.decide(now, seat, stand, out);
        let won = self.with_lease(out, decide).flatten() == Some(Verdict::Won);
        alone
            || won
            || self.lease.as_ref().is_some_and(|l| stand.keeps && l.holds(now, seat).is_some())
    }

    // ---- who is to be fenced ----

    fn want(&self, now: Instant, node: u16) -> Option<Want> {
        let want = |why, delay| Some(Want { why, delay, marks: self.marks(now, node) });
        if self.fencing.orders.contains(&node) {
            return want(Why::Ordered, Duration::ZERO);
        }
        if self.is_hands_off() {
            return None;
        }
        let when = &self.config.fencing.when;
        if self.devices(node).is_empty() || !self.is_ready_to_fence(now, node) {
            return None;
        }
        if let Some(delay) = self.bars(now, node).filter(|_| when.contains(&When::LostHolder)) {
            return want(Why::Lost, delay);
        }
        if when.contains(&When::Rival) && self.is_rival(now, node) {
            return want(Why::Rival, Duration::ZERO);
        }
        if when.contains(&When::Stuck) && self.says_stuck(now, node) {
            return want(Why::Stuck, STUCK_DELAY);
        }
        None
    }

    /// Nobody is fenced because this node has only just started: first it was heard, or had the
    /// time to be, and has the time again after everybody was out of reach. Of two, the other one
    /// was heard: or both would shoot each other for ever.
    fn is_ready_to_fence(&self, now: Instant, node: u16) -> bool {
        let Some(lease) = &self.lease else { return false };
        let Some(awake) = self.fencing.awake else { return false };
        if lease.is_pair() {
            return lease.has_met(voter(node)) && now >= awake + lease.alive();
        }
        let waited = now >= self.started + self.config.fencing.startup_wait;
        (waited || lease.has_met(voter(node))) && now >= awake + SIGHT
    }

    /// Whether a node that is not heard keeps this one from a group, or may take one from it; and
    /// for how long that is left alone.
    fn bars(&self, now: Instant, node: u16) -> Option<Duration> {
        let lease = self.lease.as_ref()?;
        if self.is_heard(now, node) {
            return None;
        }
        if lease.is_pair() {
            if lease.is_fenced(voter(node)) {
                return None;
            }
            if lease.strict().any(|place| lease.holds(now, place).is_some()) {
                return Some(self.by_chance());
            }
            return self.is_barred(now).then(|| self.config.fencing.head_start + self.by_chance());
        }
        let suspect = lease.suspects(now).contains_key(&voter(node));
        (suspect && self.is_barred(now)).then(|| self.by_chance())
    }

    /// A part of the random delay; another one in every run.
    fn by_chance(&self) -> Duration {
        let dice = u32::try_from(self.run.0 & 0xffff).unwrap_or(0);
        self.config.fencing.random_delay * dice / 0xffff
    }

    fn says_stuck(&self, now: Instant, node: u16) -> bool {
        let Some(lease) = &self.lease else { return false };
        let leased = (0..).zip(&self.config.groups).filter(|(_, g)| g.safety.is_leased());
        leased.map(|(place, _)| place).any(|place| lease.is_stuck(now, place, voter(node)))
    }

    /// Whether a node goes on advertising what this one has the lease for.
    fn is_rival(&self, now: Instant, node: u16) -> bool {
        let Some(config) = self.config.nodes.get(usize::from(node)) else { return false };
        let is_of = |ip| config.address == ip || config.address6.is_some_and(|a| ip == a);
        self.groups.values().any(|group| {
            let rival = group.signs.rival.goes_on(now);
            group.is_leased() && group.is_active() && rival.is_some_and(is_of)
        })
    }

    fn marks(&self, now: Instant, node: u16) -> BTreeSet<crate::types::GateId> {
        self.lease.as_ref().map(|lease| lease.marks(now, voter(node))).unwrap_or_default()
    }

    fn devices(&self, node: u16) -> &[Device] {
        self.config.nodes.get(usize::from(node)).map_or(&[], |n| &n.fence)
    }

    fn is_heard(&self, now: Instant, node: u16) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_alive(now, voter(node)))
    }

    fn node_name(&self, node: u16) -> String {
        self.voter_name(voter(node))
    }

    // ---- what follows ----

    fn carry_out(&mut self, now: Instant, node: u16, deeds: Vec<Deed>, out: &mut Vec<Action>) {
        let name = self.node_name(node);
        for deed in deeds {
            match &deed {
                Deed::Off(device) => self.use_device(node, *device, Power::Off, out),
                Deed::On(device) => self.use_device(node, *device, Power::On, out),
                Deed::Down { marks, .. } => {
                    self.fencing.orders.remove(&node);
                    self.with_lease(out, |lease, out| lease.prove(now, voter(node), marks, out));
                    // Whoever waited for that asks in this very step.
                    self.follow_leases(now, &super::EVERY_GROUP, out);
                }
                Deed::Failed { .. } | Deed::Limited(_) => {
                    self.fencing.orders.remove(&node);
                }
                Deed::Began(_)
                | Deed::Dropped(_)
                | Deed::Returned
                | Deed::StaysOff(_)
                | Deed::Powered => {}
            }
            if let Some((severity, kind, text)) = why::fencing(&name, &deed) {
                self.tell_of_fencing(node, &text, out);
                self.parts(out).1.note_of(name.clone(), now, severity, kind, text);
            }
        }
    }

    /// The others are told in words, for their histories; what is lost of that is not told again.
    fn tell_of_fencing(&self, node: u16, text: &str, out: &mut Vec<Action>) {
        let news = News::Tale { node: voter(node), text: Text::new(text) };
        let tell = |to| Action::Tell { to, entry: Entry { group: 0, news } };
        out.extend(self.others().map(tell));
    }

    fn use_device(&mut self, node: u16, device: u16, power: Power, out: &mut Vec<Action>) {
        self.fencing.last_run += 1;
        let run = self.fencing.last_run;
        if power == Power::Off {
            // Whatever another run says proves nothing about this one.
            self.fencing.runs.retain(|_, (of, ..)| *of != node);
        }
        self.fencing.runs.insert(run, (node, device, power));
        out.push(Action::Fence { run, node, device, power });
    }

    /// Others fence, too: what they did is told once.
    pub(super) fn hear_of_fencing(
        &mut self,
        now: Instant,
        from: VoterIx,
        message: &Message,
        out: &mut Vec<Action>,
    ) {
        let mut told = BTreeSet::new();
        for entry in &message.entries {
            if let News::Fenced { node, mark } = entry.news
                && self.lease.as_ref().is_some_and(|lease| !lease.is_proven(node, mark))
            {
                told.insert(node);
            }
            if let News::Tale { node, text } = entry.news {
                let text = format!("{} says: {}", self.voter_name(from), text.as_str());
                let name = self.voter_name(node);
                self.parts(out).1.note_of(name, now, Severity::Info, "fence-told", text);
            }
        }
        for node in told {
            let name = self.voter_name(node);
            let text = format!("{name} is off, says {}", self.voter_name(from));
            self.parts(out).1.note_of(name, now, Severity::Warn, "fence-heard", text);
        }
    }

    /// What is wrong with the fencing of other nodes, and what resolves it.
    pub(super) fn fencing_conditions(&self, now: Instant) -> Vec<Condition> {
        let mut all = Vec::new();
        for (node, target) in &self.fencing.targets {
            let name = self.node_name(*node);
            all.extend(why::fence_condition(now, &name, target.phase()));
        }
        let suspects = self.lease.as_ref().map(|lease| lease.suspects(now)).unwrap_or_default();
        for suspect in suspects.keys().filter(|v| usize::from(v.0) != self.me) {
            let told = self.fencing.targets.get(&u16::from(suspect.0));
            if !self.is_barred(now) || told.is_some_and(|t| *t.phase() != Phase::Idle) {
                continue;
            }
            let name = self.voter_name(*suspect);
            let text = format!(
                "{name} may serve, and only its word, its return or its end proves that it does \
                 not: if it is off, run `vipctl fence confirm {name}`"
            );
            all.push(condition("in-doubt", Severity::Error, text, now));
        }
        all
    }

    /// Whether a doubt keeps this node from a group.
    fn is_barred(&self, now: Instant) -> bool {
        let Some(lease) = &self.lease else { return false };
        lease.strict().any(|place| lease.is_barred(now, place))
    }

    /// How far it is with each node that can be fenced, or may serve.
    pub(super) fn fencing_status(&self, now: Instant) -> Vec<FencingStatus> {
        let strict = self.config.groups.iter().any(|g| g.safety == Safety::LeaseFence);
        let nodes = (0..).zip(&self.config.nodes).filter(|(node, config)| {
            usize::from(*node) != self.me && (strict || !config.fence.is_empty())
        });
        let idle = Target::default();
        nodes
            .map(|(node, config)| {
                let phase = self.fencing.targets.get(&node).unwrap_or(&idle).phase();
                let (state, since, why, text) = why::phase(phase);
                let (next, device) = match phase {
                    Phase::Failed { again, .. } => (Some(*again), None),
                    Phase::Delayed { until, .. } => (Some(*until), None),
                    Phase::Off { device, .. } => (None, config.fence.get(usize::from(*device))),
                    Phase::Idle
                    | Phase::Asking { .. }
                    | Phase::Down { .. }
                    | Phase::Limited { .. } => (None, None),
                };
                let devices = config.fence.iter().map(|d| DeviceStatus {
                    level: d.level,
                    agent: d.agent.clone(),
                    answer: None,
                });
                FencingStatus {
                    node: config.name.clone(),
                    place: node,
                    heard: self.is_heard(now, node),
                    state: state.to_owned(),
                    why,
                    since,
                    text,
                    next,
                    agent: device.map(|d| d.agent.clone()),
                    devices: devices.collect(),
                }
            })
            .collect()
    }
}

/// Nodes are the first voters, in the order of the file.
fn voter(node: u16) -> VoterIx {
    VoterIx(u8::try_from(node).unwrap_or(u8::MAX))
}
