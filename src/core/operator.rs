//! What operators have decided, and what follows: told to the other nodes, kept, and heeded.

use std::time::Duration;

use super::Node;
use super::event::{Action, Decided};
use super::snapshot::LONELY;
use super::status::{Condition, DecisionStatus, Severity, condition};
use super::will::{About, Decision, InForce, Order, Topic, Will};
use crate::types::{Instant, VoterIx, Voters};
use crate::wire::peer::{Entry, Head, Message, News};

/// How often the others are told a mark of what is known here.
const BEAT: Duration = Duration::from_secs(2);
/// After so long without a word another node is not heard.
const UNHEARD: Duration = Duration::from_secs(7);

/// What operators have decided.
#[derive(Debug, Default)]
pub(super) struct Operator {
    will: Will,
    /// Rises with every change.
    number: u64,
    /// What is written down is older than what is known.
    unkept: bool,
    /// It is to be looked at what follows.
    changed: bool,
    /// When that was done last.
    looked: Instant,
    /// When a decision ends by itself.
    due: Option<Instant>,
    /// When the others are told next.
    beat_at: Instant,
    /// When each node was heard, by its place.
    heard: Vec<Option<Instant>>,
}

impl Operator {
    fn news(&mut self) {
        self.number += 1;
        (self.unkept, self.changed) = (true, true);
    }
}

impl Node {
    /// What an earlier run wrote down.
    pub(super) fn found_will(&mut self, now: Instant, kept: &[Decision]) {
        let mut will = Will::default();
        for decision in kept.iter().filter(|d| self.knows(&d.about)) {
            will.merge(now, decision);
        }
        self.operator.will = will;
        self.operator.changed = true;
        self.operator.looked = now;
        self.operator.beat_at = now;
    }

    /// Whether the file has what a decision is about.
    fn knows(&self, about: &About) -> bool {
        let node = |name: &String| self.config.nodes.iter().any(|n| n.name == *name);
        let group = |name: &String| self.config.groups.iter().any(|g| g.name == *name);
        about.node.as_ref().is_none_or(node) && about.group.as_ref().is_none_or(group)
    }

    /// Another file may not have what was decided about.
    pub(super) fn rename_will(&mut self) {
        let mut will = std::mem::take(&mut self.operator.will);
        if will.retain(|about| self.knows(about)) {
            self.operator.news();
        }
        self.operator.will = will;
        self.operator.heard.clear();
        self.operator.changed = true;
    }

    // ---- what is said ----

    /// An operator decided something, on this host.
    pub(super) fn say_will(&mut self, now: Instant, order: &Order, out: &mut Vec<Action>) {
        if !self.knows(&order.about) {
            return;
        }
        let origin = VoterIx(u8::try_from(self.me).unwrap_or(u8::MAX));
        let Some(decision) = self.operator.will.say(now, origin, order) else { return };
        for to in self.others() {
            out.push(tell(to, &decision));
        }
        self.decided(now, &decision, out);
    }

    /// What another node says of the decisions that it knows.
    pub(super) fn hear_will(
        &mut self,
        now: Instant,
        from: VoterIx,
        message: &Message,
        out: &mut Vec<Action>,
    ) {
        if from.index() >= self.config.nodes.len() {
            return;
        }
        self.operator.heard.resize(self.config.nodes.len(), None);
        self.operator.heard[from.index()] = Some(now);
        for entry in &message.entries {
            if let News::Word(word) = &entry.news {
                let nodes = self.config.nodes.iter().map(|n| n.name.as_str());
                let groups = self.config.groups.iter().map(|g| g.name.as_str());
                let told = Decision::of(word, nodes, groups);
                if let Some(told) = told.filter(|d| self.operator.will.merge(now, d)) {
                    self.decided(now, &told, out);
                }
            } else if let News::Words { mark } = entry.news
                && mark != self.operator.will.mark()
            {
                self.tell_will(now, from, out);
            }
        }
    }

    /// Tells another node everything.
    pub(super) fn tell_will(&self, now: Instant, to: VoterIx, out: &mut Vec<Action>) {
        if to.index() < self.config.nodes.len() {
            out.extend(self.operator.will.all(now).map(|decision| tell(to, &decision)));
        }
    }

    /// Tells the other nodes a mark of what is known here, when it is time to.
    pub(super) fn tick_operator(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.config.has_channel() || now < self.operator.beat_at {
            return;
        }
        self.operator.beat_at = now + BEAT;
        let news = News::Words { mark: self.operator.will.mark() };
        for to in self.others() {
            out.push(Action::Tell { to, entry: Entry { group: 0, news } });
        }
    }

    pub(super) fn operator_deadline(&self) -> Option<Instant> {
        let beat = self.config.has_channel().then_some(self.operator.beat_at);
        beat.into_iter().chain(self.operator.due).min()
    }

    /// What every datagram says of a node that does not vote.
    pub(super) fn plain_head(&self, now: Instant) -> Head {
        let digest = self.config.digest();
        Head {
            active: digest,
            next: digest,
            settled: false,
            heard: Voters::NONE,
            clock: now,
            gate: None,
            watchdog: None,
        }
    }

    /// The other nodes: the first voters, in the order of the file.
    pub(super) fn others(&self) -> impl Iterator<Item = VoterIx> + use<> {
        let (nodes, me) = (self.config.nodes.len(), self.me);
        let shared = self.config.has_channel();
        (0..nodes)
            .filter(move |n| shared && *n != me)
            .filter_map(|n| u8::try_from(n).ok())
            .map(VoterIx)
    }

    // ---- what follows ----

    fn decided(&mut self, now: Instant, decision: &Decision, out: &mut Vec<Action>) {
        let Decision { about, on, left, by, why, .. } = decision;
        self.operator.news();
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        let lasts = left
            .filter(|_| *on && about.topic != Topic::Cleanup)
            .map(|left| format!("; for {}", super::why::span(left)));
        let by = who(by.as_str(), why.as_str());
        let text = format!("{}, says {by}{}", about.words(*on), lasts.unwrap_or_default());
        let group = about.group.as_deref();
        let mut parts = self.parts(out).1;
        parts.note(now, Severity::Info, group, "operator-says", text);
        if let Some(Action::Note(note)) = out.last_mut() {
            note.about.clone_from(&about.node);
        }
        if about.topic == Topic::Cleanup {
            self.clean_up(now, about, decision.age(), out);
        }
    }

    /// Failures of before `age` ago are forgotten: what failed too often is tried at once.
    fn clean_up(&mut self, now: Instant, about: &About, age: Duration, out: &mut Vec<Action>) {
        let me = &self.config.nodes[self.me].name;
        if about.node.as_ref().is_some_and(|node| node != me) {
            return;
        }
        self.each(out, |g, out| {
            if about.group.as_ref().is_none_or(|name| *name == g.config.name) {
                g.proxy.iter_mut().for_each(|proxy| proxy.clean_up(now, age));
                g.damper.forgive(g.deficit());
                g.settle(now, out);
            }
        });
    }

    /// Has the groups heed what changed; says whether there was something.
    pub(super) fn follow_will(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        let Operator { will, looked, due, changed, .. } = &self.operator;
        if !changed && due.is_none_or(|at| now < at) {
            return false;
        }
        let ended: Vec<_> = will.ended(*looked, now).cloned().collect();
        for about in ended {
            let text = format!("no longer: {}; its time is over", about.words(true));
            let mut parts = self.parts(out).1;
            parts.note(now, Severity::Info, about.group.as_deref(), "operator-over", text);
        }
        for id in self.order.clone() {
            let Some(name) = self.groups.get(&id).map(|g| g.config.name.clone()) else { continue };
            let forbidden = self.forbidden(now, &name, &self.config.nodes[self.me].name);
            let hands_off = self.hands_off(now, &name).is_some();
            self.with(id, out, |group, out| group.heed(now, forbidden, hands_off, out));
        }
        let due = self.operator.will.due(now);
        self.operator.due = due;
        (self.operator.changed, self.operator.looked) = (false, now);
        if std::mem::take(&mut self.operator.unkept) {
            out.push(Action::Decided(self.will(now)));
        }
        true
    }

    /// Why a node must not hold a group, in words.
    pub(super) fn forbidden(&self, now: Instant, group: &str, node: &str) -> Option<String> {
        let will = &self.operator.will;
        let standby = will.about(now, &About::standby(node)).map(|said| ("in standby", said));
        let banned = || will.about(now, &About::ban(group, node)).map(|said| ("banned", said));
        standby
            .or_else(banned)
            .map(|(what, said)| format!("{what}, says {}", who(said.by, said.why)))
    }

    /// The decision to keep the hands off a group.
    fn hands_off(&self, now: Instant, group: &str) -> Option<InForce<'_>> {
        let will = &self.operator.will;
        let all = will.about(now, &About::maintenance(None));
        all.or_else(|| will.about(now, &About::maintenance(Some(group))))
    }

    /// Whether the hands are off everything that is held by lease: nobody is fenced for its sake.
    pub(super) fn is_hands_off(&self) -> bool {
        let mut leased = self.groups.values().filter(|g| g.is_leased() && !g.retired);
        leased.all(super::group::Group::is_hands_off)
    }

    // ---- what is told ----

    /// Everything operators have decided.
    pub fn will(&self, now: Instant) -> Decided {
        let Operator { will, number, heard, .. } = &self.operator;
        let unheard = self.others().filter(|voter| {
            let at = heard.get(voter.index()).copied().flatten();
            at.is_none_or(|at| now > at + UNHEARD)
        });
        Decided {
            number: *number,
            all: will.all(now).collect(),
            shared: self.config.has_channel() || self.config.nodes.len() == 1,
            unheard: unheard.map(|voter| self.voter_name(voter)).collect(),
        }
    }

    pub(super) fn decisions(&self, now: Instant) -> Vec<DecisionStatus> {
        let told = |said: InForce<'_>| DecisionStatus {
            topic: said.about.topic,
            node: said.about.node.clone(),
            group: said.about.group.clone(),
            by: said.by.to_owned(),
            why: said.why.to_owned(),
            at_ms: said.at,
            until: said.until,
            ends_with: said.about.ends_with(),
        };
        self.operator
            .will
            .in_force(now)
            .filter(|s| s.about.topic != Topic::Cleanup)
            .map(told)
            .collect()
    }

    /// Groups that nobody has, as operators have said so.
    pub(super) fn operator_conditions(&self, now: Instant) -> Vec<Condition> {
        let mut all = Vec::new();
        if now < self.started + LONELY {
            return all;
        }
        for group in self.order.iter().filter_map(|id| self.groups.get(id)) {
            let name = &group.config.name;
            let off = self.hands_off(now, name).map(|said| ("hands are off it", said));
            let me = &self.config.nodes[self.me].name;
            let will = &self.operator.will;
            let standby =
                || will.about(now, &About::standby(me)).map(|s| ("this node is in standby", s));
            let banned =
                || will.about(now, &About::ban(name, me)).map(|s| ("this node is banned", s));
            let Some((what, said)) = off.or_else(standby).or_else(banned) else { continue };
            if self.who_is_active(now, group).is_some() {
                continue;
            }
            let text = format!(
                "nobody has {name}, and {what}, says {}: `{}` ends that",
                who(said.by, said.why),
                said.about.ends_with()
            );
            all.push(condition("held-by-nobody", Severity::Error, text, group.since));
        }
        all
    }
}

fn tell(to: VoterIx, decision: &Decision) -> Action {
    Action::Tell { to, entry: Entry { group: 0, news: News::Word(decision.word()) } }
}

fn who(by: &str, why: &str) -> String {
    if why.is_empty() { by.to_owned() } else { format!("{by}: {why}") }
}
