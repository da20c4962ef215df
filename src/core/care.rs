//! How proxies and checks are on every node: told to the others, heard of them, and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::event::{Action, Failures};
use super::group::Group;
use super::status::NodeCheck;
use super::will::mark;
use super::{Node, within};
use crate::config::{Config, Effect};
use crate::types::{Instant, VoterIx};
use crate::wire::peer::care::{Failed, Looked};
use crate::wire::peer::will::Text;
use crate::wire::peer::{Entry, Message, News};

/// How often the others are told.
const BEAT: Duration = Duration::from_secs(2);
/// Between two times at which they are told, however much changes.
const PAUSE: Duration = Duration::from_millis(200);
/// After so long without a word nothing is known.
const STALE: Duration = Duration::from_secs(7);
/// Proxies and checks that are told at most, those that fail first.
const MOST: usize = 24;

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub(super) struct Cares {
    /// Each node's, by its place.
    nodes: Vec<Heard>,
    /// The marks of the groups of the file.
    groups: BTreeSet<u64>,
    /// The names of its checks, by their marks.
    checks: BTreeMap<u64, String>,
    told: Instant,
    tell_at: Instant,
    /// Something changed that the others are to know.
    news: bool,
}

/// What a node told last, by group and by check.
#[derive(Debug, Default)]
struct Heard {
    failed: BTreeMap<u64, (Instant, Failed)>,
    looked: BTreeMap<u64, (Instant, Looked)>,
}

impl Cares {
    fn of(config: &Config) -> Self {
        let groups = config.groups.iter().map(|g| mark(&g.name));
        let checks = config.checks.iter().map(|c| (mark(&c.name), c.name.clone()));
        let mut nodes = Vec::new();
        nodes.resize_with(config.nodes.len(), Heard::default);
        Self { nodes, groups: groups.collect(), checks: checks.collect(), ..Self::default() }
    }

    /// Something changed that the others are to know.
    pub(super) fn news(&mut self) {
        self.news = true;
    }

    /// How often the proxy of a group failed on a node lately, how long ago the last time was, and
    /// how.
    pub(super) fn failures(
        &self,
        now: Instant,
        node: usize,
        group: &str,
    ) -> Option<(u32, Duration, &str)> {
        let (at, failed) = self.nodes.get(node)?.failed.get(&mark(group))?;
        let known = now <= *at + STALE && failed.count > 0;
        let ago = failed.ago + now.since(*at);
        known.then(|| (failed.count.into(), ago, failed.words.as_str()))
    }

    /// What the checks on a node find, by name; with the words of those that fail.
    pub(super) fn checks(
        &self,
        now: Instant,
        node: usize,
    ) -> impl Iterator<Item = (&str, &Looked, Instant)> {
        let all = self.nodes.get(node).into_iter().flat_map(|heard| &heard.looked);
        all.filter(move |(_, (at, _))| now <= *at + STALE).filter_map(
            move |(mark, (at, looked))| {
                Some((self.checks.get(mark)?.as_str(), looked, at.before(looked.since)))
            },
        )
    }
}

impl Node {
    /// What an earlier run knew of the failures here.
    pub(super) fn found_care(&mut self, now: Instant, kept: &[Failures]) {
        self.cares = Cares { tell_at: now, ..Cares::of(&self.config) };
        for group in self.groups.values_mut() {
            let past = kept.iter().find(|past| past.group == group.config.name);
            if let (Some(proxy), Some(past)) = (&mut group.proxy, past) {
                proxy.recall(now, past);
            }
        }
    }

    /// Another file may have other nodes, groups and checks.
    pub(super) fn rename_care(&mut self) {
        let Cares { told, tell_at, .. } = self.cares;
        self.cares = Cares { told, tell_at, ..Cares::of(&self.config) };
    }

    /// Keeps what changed of the failures of proxies.
    pub(super) fn follow_care(
        &mut self,
        now: Instant,
        touched: &RangeInclusive<u16>,
        out: &mut Vec<Action>,
    ) {
        let mut changed = false;
        for (_, group) in self.groups.range_mut(within(touched)) {
            changed |= group.proxy.as_mut().is_some_and(super::proxy::Care::take_news);
        }
        if changed {
            let past = |g: &Group| g.proxy.as_ref()?.past(now, &g.config.name);
            out.push(Action::Failures(self.groups.values().filter_map(past).collect()));
        }
        if changed || std::mem::take(&mut self.cares.news) {
            self.cares.tell_at = self.cares.tell_at.min(now.max(self.cares.told + PAUSE));
        }
    }

    pub(super) fn care_deadline(&self) -> Option<Instant> {
        self.config.has_channel().then_some(self.cares.tell_at)
    }

    /// Tells the other nodes how it is here, when it is time to.
    pub(super) fn tick_care(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.config.has_channel() || now < self.cares.tell_at {
            return;
        }
        (self.cares.told, self.cares.tell_at) = (now, now + BEAT);
        let mut all = self.failed(now);
        all.extend(self.looked(now));
        for to in self.others() {
            let tell = |news| Action::Tell { to, entry: Entry { group: 0, news } };
            out.extend(all.iter().copied().map(tell));
        }
    }

    fn failed(&self, now: Instant) -> Vec<News> {
        let told = |group: &Group| {
            let proxy = group.proxy.as_ref()?;
            let words = Text::new(proxy.last_failure.as_deref().unwrap_or_default());
            let count = u16::try_from(proxy.failures()).unwrap_or(u16::MAX);
            let ago = proxy.failed(now).unwrap_or_default();
            Some(Failed { group: mark(&group.config.name), count, ago, words })
        };
        let mut all: Vec<_> =
            self.groups.values().filter(|g| !g.retired).filter_map(told).collect();
        all.sort_by_key(|failed| std::cmp::Reverse(failed.count));
        all.into_iter().take(MOST).map(News::Failed).collect()
    }

    fn looked(&self, now: Instant) -> impl Iterator<Item = News> {
        let (mut bad, mut good) = (BTreeMap::new(), BTreeMap::new());
        for check in self.groups.values().flat_map(|g| g.health.checks()) {
            let of = if check.verdict == Some(true) { &mut good } else { &mut bad };
            if of.len() < MOST {
                of.insert(&*check.name, check);
            }
        }
        let all: Vec<_> = bad.into_iter().chain(good).take(MOST).collect();
        all.into_iter().map(move |(name, check)| {
            let words = Text::new(check.fault());
            let since = now.since(check.since);
            News::Looked(Looked { check: mark(name), verdict: check.verdict, since, words })
        })
    }

    /// What another node says of its proxies and checks.
    pub(super) fn hear_care(&mut self, now: Instant, from: VoterIx, message: &Message) {
        let Cares { nodes, groups, checks, .. } = &mut self.cares;
        let Some(heard) = nodes.get_mut(from.index()) else { return };
        for entry in &message.entries {
            if let News::Failed(failed) = entry.news
                && groups.contains(&failed.group)
            {
                heard.failed.insert(failed.group, (now, failed));
            } else if let News::Looked(looked) = entry.news
                && checks.contains_key(&looked.check)
            {
                heard.looked.insert(looked.check, (now, looked));
            }
        }
    }

    /// The checks of a group on another node.
    pub(super) fn checks_on(&self, now: Instant, node: usize, group: &Group) -> Vec<NodeCheck> {
        let about = |name: &str| group.health.checks().iter().any(|k| &*k.name == name);
        let told = |(name, looked, since): (&str, &Looked, Instant)| NodeCheck {
            name: name.to_owned(),
            verdict: looked.verdict,
            since,
            found: looked.words.as_str().to_owned(),
        };
        self.cares.checks(now, node).filter(|(name, ..)| about(name)).map(told).collect()
    }

    /// What speaks against another node, as it says itself: checks that fail, and a proxy that
    /// fails.
    pub(super) fn ails(&self, now: Instant, node: usize, group: &Group) -> Vec<String> {
        let counts = |name: &str| {
            group.health.checks().iter().any(|k| &*k.name == name && k.effect != Effect::Warn)
        };
        let checks = self.cares.checks(now, node);
        let failing =
            checks.filter(|(name, looked, _)| looked.verdict == Some(false) && counts(name));
        let mut all: Vec<_> = failing
            .map(|(name, looked, _)| format!("check {name} fails: {}", looked.words.as_str()))
            .collect();
        if let (Some(proxy), Some((count, _, last))) =
            (&group.proxy, self.cares.failures(now, node, &group.config.name))
        {
            all.push(super::why::failures(&proxy.config, count, Some(last)));
        }
        all
    }
}
