//! Why each node is or is not the holder of a group, and who would be next: by the same values and
//! comparisons as those that decide.

use std::cmp::Reverse;

use crate::config::Safety;
use crate::types::{Instant, VoterIx};

use super::fence::Phase;
use super::group::Group;
use super::lease::Lease;
use super::status::{NodeCheck, StandingStatus};
use super::worth::Worth;
use super::{Node, why};

/// What is known of one node.
struct Standing {
    node: usize,
    holds: bool,
    /// How good it is; `None` if it takes no part, or that is not known.
    worth: Option<Worth>,
    /// What speaks against it.
    against: Vec<String>,
    /// How often its proxy failed, when last, and how.
    failures: Option<(u32, Instant, String)>,
    checks: Vec<NodeCheck>,
}

impl Node {
    /// How each node stands to a group, in the order of the file, and what would happen if the
    /// holder died now, in words.
    pub(super) fn explained(&self, now: Instant, group: &Group) -> (Vec<StandingStatus>, String) {
        let all: Vec<_> =
            (0..self.config.nodes.len()).map(|n| self.standing(now, group, n)).collect();
        let next = next(&all);
        let told = all.iter().map(|standing| {
            let failures = standing.failures.as_ref();
            StandingStatus {
                node: self.config.nodes[standing.node].name.clone(),
                me: standing.node == self.me,
                holds: standing.holds,
                next: next == Some(standing.node),
                priority: standing.worth.map(Worth::effective),
                points: standing.worth.and_then(Worth::points),
                failures: failures.map_or(0, |(count, ..)| *count),
                failed_at: failures.map(|(_, at, _)| *at),
                last_failure: failures.map(|(.., last)| last.clone()),
                checks: standing.checks.clone(),
                words: words(standing, next),
            }
        });
        (told.collect(), self.outlook(now, group, &all, next))
    }

    fn outlook(
        &self,
        now: Instant,
        group: &Group,
        all: &[Standing],
        next: Option<usize>,
    ) -> String {
        let Some(holder) = all.iter().find(|s| s.holds) else {
            return "nobody is known to hold it".to_owned();
        };
        let name = |node: usize| self.config.nodes[node].name.as_str();
        let gone = name(holder.node);
        if group.is_hands_off() {
            return format!(
                "if {gone} died now, nobody would take over: hands off, an operator says"
            );
        }
        let Some(next) = next else {
            return match &self.lease {
                Some(_) if group.is_leased() => {
                    format!("if {gone} died now, nobody could take over")
                }
                _ => format!(
                    "if {gone} died now, the best Backup would take over; this node knows of none"
                ),
            };
        };
        let next = name(next);
        match self.lease.as_ref().filter(|_| group.is_leased()) {
            None => {
                format!("if {gone} died now, {next} would take over when its adverts are missed")
            }
            Some(lease) => {
                let left = lease.heard(now).iter().filter(|v| v.index() != holder.node).count();
                if left < lease.majority() {
                    return format!(
                        "if {gone} died now, nobody could take over: of {} votes needed {left} would \
                         be left",
                        lease.majority()
                    );
                }
                let vote = why::span(lease.terms().vote);
                let strict = group.config.safety == Safety::LeaseFence;
                let off = if strict { ", once it is verified off" } else { "" };
                format!("if {gone} died now, {next} would take over within {vote} or so{off}")
            }
        }
    }

    fn standing(&self, now: Instant, group: &Group, node: usize) -> Standing {
        let name = &self.config.nodes[node].name;
        let mut standing = Standing {
            node,
            holds: false,
            worth: None,
            against: Vec::new(),
            failures: None,
            checks: Vec::new(),
        };
        standing.against.extend(self.forbidden(now, &group.config.name, name));
        if node == self.me {
            own(now, group, &mut standing);
        } else {
            self.other(now, group, &mut standing);
        }
        if let Some((crowd, names)) = self.beside(now, group, name) {
            standing.worth = standing.worth.map(|worth| worth.beside(crowd));
            standing.against.push(format!("it has {names}, to be kept apart from this"));
        }
        standing
    }

    /// Another node.
    fn other(&self, now: Instant, group: &Group, standing: &mut Standing) {
        let node = standing.node;
        let failures = self.cares.failures(now, node, &group.config.name);
        standing.failures =
            failures.map(|(count, ago, last)| (count, now.before(ago), last.to_owned()));
        standing.checks = self.checks_on(now, node, group);
        let phase = self.fencing.phase(node).and_then(fenced);
        standing.against.extend(phase.map(str::to_owned));
        match self.lease.as_ref().filter(|_| group.is_leased()) {
            Some(lease) => self.voter(now, lease, group, standing),
            None => self.rival(now, group, standing),
        }
        standing.against.extend(self.ails(now, node, group));
    }

    /// Another node, as its reports have it.
    fn voter(&self, now: Instant, lease: &Lease, group: &Group, standing: &mut Standing) {
        let place = self.order.iter().position(|id| *id == group.id);
        let Some(place) = place.and_then(|ix| u16::try_from(ix).ok()) else { return };
        let Ok(voter) = u8::try_from(standing.node).map(VoterIx) else { return };
        standing.holds = lease.holder(now, place).is_some_and(|(by, _)| by == voter);
        let worth = lease.candidates(now, place).find(|(by, ..)| *by == voter);
        standing.worth = worth.map(|(_, worth, _)| worth);
        if !lease.is_alive(now, voter) {
            standing.against.push("it is not heard".to_owned());
        } else if standing.worth.is_none() && standing.against.is_empty() {
            standing.against.push("it says that it takes no part".to_owned());
        }
    }

    /// Another node, as its adverts have it.
    fn rival(&self, now: Instant, group: &Group, standing: &mut Standing) {
        let name = &self.config.nodes[standing.node].name;
        standing.holds = self.who_is_active(now, group).as_ref() == Some(name);
        let heard = group.elections.iter().filter_map(|e| e.heard);
        let own = heard.filter(|h| self.peers.iter().any(|p| p.ip == h.from && p.name == *name));
        let last = own.filter(|_| standing.holds).max_by_key(|h| h.at);
        standing.worth = last.map(|h| group.against(h.from, h.priority).1);
        if !standing.holds && standing.against.is_empty() {
            standing.against.push("a Backup of plain VRRP says nothing of itself".to_owned());
        }
    }
}

/// This node.
fn own(now: Instant, group: &Group, standing: &mut Standing) {
    standing.holds = group.is_active();
    if let Some(not_ready) = group.not_ready() {
        standing.against.push(not_ready.to_string());
    } else if let Some(check) = group.health.unknown().next() {
        standing.against.push(format!("check {check} has not run yet"));
    }
    if standing.against.is_empty() && group.ties.bar().is_none() {
        standing.worth = Some(group.worth());
    }
    if !group.is_fit() {
        standing.against.push(why::unfit(group));
    }
    standing.against.extend(group.together_words());
    if let Some(proxy) = &group.proxy
        && let Some(ago) = proxy.failed(now)
    {
        let (count, last) = (proxy.failures(), proxy.last_failure.as_deref());
        standing.failures = Some((count, now.before(ago), last.unwrap_or_default().to_owned()));
        if proxy.is_fit() {
            standing.against.push(why::failures(&proxy.config, count, last));
        }
    }
    standing.checks = group
        .health
        .checks()
        .iter()
        .map(|k| NodeCheck {
            name: k.name.to_string(),
            verdict: k.verdict,
            since: k.since,
            found: k.fault().to_owned(),
        })
        .collect();
    let scores = group.health.failing_scores();
    standing.against.extend(scores.map(why::failed));
    if group.damper.better_at().is_some() && !group.is_active() {
        standing.against.push("it has only just recovered".to_owned());
    }
}

/// Who would be next: the best that could, the first in the file among equals.
fn next(all: &[Standing]) -> Option<usize> {
    let could = all.iter().filter(|s| !s.holds).filter_map(|s| Some((s.worth?, Reverse(s.node))));
    could.max().map(|(_, node)| node.0)
}

fn words(standing: &Standing, next: Option<usize>) -> String {
    let against = standing.against.join("; ");
    let points = standing.worth.and_then(Worth::points).unwrap_or(0);
    let unfit = standing.worth.is_some_and(Worth::is_unfit);
    let mut text = match (standing.holds, standing.worth) {
        (true, _) if unfit => {
            "holds it, though it cannot serve well: nobody better is known".to_owned()
        }
        (true, _) => "holds it".to_owned(),
        (false, Some(_)) if unfit => {
            "cannot serve well, and takes it only if nobody else can".to_owned()
        }
        (false, Some(_)) if next == Some(standing.node) => "is the next".to_owned(),
        (false, Some(_)) => "could take it, and another one is better".to_owned(),
        (false, None) => "cannot take it".to_owned(),
    };
    if points > 0 {
        text = format!("{text}, {points} points worse than well");
    }
    if against.is_empty() { text } else { format!("{text}: {against}") }
}

/// What is done to a node now, in words.
fn fenced(phase: &Phase) -> Option<&'static str> {
    match phase {
        Phase::Idle => None,
        Phase::Delayed { .. } | Phase::Asking { .. } => Some("it is about to be fenced"),
        Phase::Off { .. } => Some("its power is being cut"),
        Phase::Down { .. } => Some("it was switched off"),
        Phase::Failed { .. } => Some("it could not be fenced"),
        Phase::Limited { .. } => Some("it was fenced too often"),
    }
}
