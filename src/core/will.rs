//! What operators have decided, as every node keeps it: a map in which the last word about each
//! thing counts. PURE.
//!
//! [`Will::merge`] takes in what another node knows; in whatever order and however often it is
//! told, all come to know the same. What was taken back stays known as such, so that an old
//! decision that comes out of a partition does not bring it back.
//!
//! The last word is the one with the higher version: above every version known where it was said,
//! and not below the milliseconds of the UTC clock there. So what answers another word always
//! counts, whatever the clocks say; and of two that were said on either side of a partition the
//! later one does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::types::{Instant, VoterIx};
use crate::wire::peer::will::{LONGEST_NAME, Word};
pub use crate::wire::peer::will::{LONGEST_REASON, Text, Topic};

/// How many decisions are known at most, those that were taken back included.
pub const MOST: usize = 256;

/// How long it is known when failures were forgotten: the longest time for which one counts.
const CLEANUP: Duration = Duration::from_hours(24);

/// What a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct About {
    /// What.
    pub topic: Topic,
    /// Which node; `None` where it is about none.
    pub node: Option<String>,
    /// Which group; `None` where it is about none, or all.
    pub group: Option<String>,
}

impl About {
    /// A node's standby.
    pub fn standby(node: &str) -> Self {
        Self { topic: Topic::Standby, node: Some(node.to_owned()), group: None }
    }

    /// A ban of a node from a group.
    pub fn ban(group: &str, node: &str) -> Self {
        let (node, group) = (Some(node.to_owned()), Some(group.to_owned()));
        Self { topic: Topic::Ban, node, group }
    }

    /// Hands off a group, or all.
    pub fn maintenance(group: Option<&str>) -> Self {
        Self { topic: Topic::Maintenance, node: None, group: group.map(str::to_owned) }
    }

    /// The failures of a group's proxy, or of all, on one node or on every one.
    pub fn cleanup(node: Option<&str>, group: Option<&str>) -> Self {
        let (node, group) = (node.map(str::to_owned), group.map(str::to_owned));
        Self { topic: Topic::Cleanup, node, group }
    }

    /// In words, after "says an operator:".
    pub fn words(&self, on: bool) -> String {
        let node = self.node.as_deref().unwrap_or_default();
        let group = self.group.as_deref();
        match (self.topic, on) {
            (Topic::Standby, true) => format!("{node} is in standby"),
            (Topic::Standby, false) => format!("{node} may serve again"),
            (Topic::Ban, true) => format!("{node} is banned from {}", group.unwrap_or_default()),
            (Topic::Ban, false) => format!("{node} may have {} again", group.unwrap_or_default()),
            (Topic::Maintenance, true) => format!("hands off {}", group.unwrap_or("every group")),
            (Topic::Maintenance, false) => {
                format!("{} is managed again", group.unwrap_or("every group"))
            }
            (Topic::Cleanup, _) => {
                let of = group.unwrap_or("every group");
                let on = self.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
                format!("failures of {of}{on} are forgotten")
            }
        }
    }

    /// The command that ends it.
    pub fn ends_with(&self) -> String {
        let node = self.node.as_deref().unwrap_or_default();
        let group = self.group.as_deref();
        match self.topic {
            Topic::Standby => format!("vipctl resume {node}"),
            Topic::Ban => format!("vipctl unban {} {node}", group.unwrap_or_default()),
            Topic::Maintenance => ["vipctl maintenance off", group.unwrap_or_default()]
                .join(" ")
                .trim_end()
                .to_owned(),
            Topic::Cleanup => String::new(),
        }
    }
}

/// What an operator says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Order {
    /// About what.
    pub about: About,
    /// Whether it is to be so, or no longer.
    pub on: bool,
    /// For how long; `None` until it is taken back.
    pub left: Option<Duration>,
    /// When: milliseconds since 1970, UTC.
    pub at: u64,
    /// Who.
    pub by: Text<LONGEST_NAME>,
    /// Why.
    pub why: Text<LONGEST_REASON>,
}

/// One decision, as it is kept and told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// About what.
    pub about: About,
    /// Whether it is to be so, or no longer.
    pub on: bool,
    /// Of two about the same the higher one counts.
    pub version: u64,
    /// Where it was decided: the voter's place in the configuration, for a tie.
    pub origin: VoterIx,
    /// When, for people: milliseconds since 1970, UTC.
    pub at: u64,
    /// How much longer it lasts; zero where it is over, `None` until it is taken back.
    pub left: Option<Duration>,
    /// Who.
    pub by: Text<LONGEST_NAME>,
    /// Why.
    pub why: Text<LONGEST_REASON>,
}

impl Decision {
    /// How long ago failures were forgotten by it. It may be heard late, after a partition: what
    /// failed since then is not forgotten.
    pub fn age(&self) -> Duration {
        self.left.map_or(Duration::ZERO, |left| CLEANUP.saturating_sub(left))
    }

    /// As it is told to another node.
    pub fn word(&self) -> Word {
        let Self { about, on, version, origin, at, left, by, why } = self;
        let mark = |name: &Option<String>| name.as_deref().map_or(0, mark);
        Word {
            topic: about.topic,
            node: mark(&about.node),
            group: mark(&about.group),
            on: *on,
            version: *version,
            origin: *origin,
            at: *at,
            left: *left,
            by: *by,
            why: *why,
        }
    }

    /// What another node told, in the names of this one's file; `None` if that does not know them.
    pub fn of<'a>(
        word: &Word,
        nodes: impl IntoIterator<Item = &'a str>,
        groups: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let Word { topic, node, group, on, version, origin, at, left, by, why } = *word;
        let (node, group) = (named(node, nodes).ok()?, named(group, groups).ok()?);
        let about = About { topic, node, group };
        let made = match topic {
            Topic::Standby => about.node.is_some() && about.group.is_none(),
            Topic::Ban => about.node.is_some() && about.group.is_some(),
            Topic::Maintenance => about.node.is_none(),
            Topic::Cleanup => true,
        };
        made.then_some(Self { about, on, version, origin, at, left, by, why })
    }
}

/// Stands for a name on the wire; never zero.
pub(super) fn mark(name: &str) -> u64 {
    first(&Sha256::digest(name.as_bytes())) | 1
}

fn first(hash: &[u8]) -> u64 {
    hash.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// The name that a mark stands for; an error where it stands for none of these.
fn named<'a>(
    wanted: u64,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Option<String>, Unknown> {
    if wanted == 0 {
        return Ok(None);
    }
    let name = names.into_iter().find(|name| mark(name) == wanted).ok_or(Unknown)?;
    Ok(Some(name.to_owned()))
}

/// A mark of a name that this file does not have.
struct Unknown;

/// The last word about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    on: bool,
    version: u64,
    origin: VoterIx,
    at: u64,
    /// When it ends by itself.
    until: Option<Instant>,
    by: Text<LONGEST_NAME>,
    why: Text<LONGEST_REASON>,
}

impl Said {
    fn in_force(&self, now: Instant) -> bool {
        self.on && self.until.is_none_or(|until| now < until)
    }

    /// What decides between two; equal where both are the same word.
    fn rank(&self) -> impl Ord + use<> {
        (self.version, self.origin, self.on, self.at, self.until.is_some(), self.by, self.why)
    }

    fn of(now: Instant, decision: &Decision) -> Self {
        let Decision { on, version, origin, at, left, by, why, .. } = *decision;
        Self { on, version, origin, at, until: left.map(|left| now + left), by, why }
    }

    fn told(&self, now: Instant, about: &About) -> Decision {
        let Self { on, version, origin, at, until, by, why } = *self;
        let left = until.map(|until| until.since(now));
        Decision { about: about.clone(), on, version, origin, at, left, by, why }
    }
}

/// A decision in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// About what.
    pub about: &'a About,
    /// Who decided.
    pub by: &'a str,
    /// Why.
    pub why: &'a str,
    /// When: milliseconds since 1970, UTC.
    pub at: u64,
    /// When it ends by itself.
    pub until: Option<Instant>,
}

/// Everything operators have decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will(BTreeMap<About, Said>);

impl Will {
    /// What is new of what an operator says on node `origin`; `None` if there is no room for it.
    pub fn say(&mut self, now: Instant, origin: VoterIx, order: &Order) -> Option<Decision> {
        let known = self.0.values().map(|said| said.version).max().unwrap_or(0);
        let decision = Decision {
            about: order.about.clone(),
            on: order.on,
            version: order.at.max(known.saturating_add(1)),
            origin,
            at: order.at,
            left: if order.about.topic == Topic::Cleanup { Some(CLEANUP) } else { order.left },
            by: order.by,
            why: order.why,
        };
        self.merge(now, &decision).then_some(decision)
    }

    /// Takes in what another node knows; says whether it was news.
    pub fn merge(&mut self, now: Instant, decision: &Decision) -> bool {
        let heard = Said::of(now, decision);
        if let Some(known) = self.0.get_mut(&decision.about) {
            if heard.rank() == known.rank() {
                // Clocks differ a little: it ends where it ends first.
                known.until = known.until.min(heard.until);
                return false;
            }
            let news = heard.rank() > known.rank();
            if news {
                *known = heard;
            }
            return news;
        }
        if self.0.len() >= MOST && !self.forget_oldest(now) {
            return false;
        }
        self.0.insert(decision.about.clone(), heard);
        true
    }

    /// Makes room: what is over longest goes.
    fn forget_oldest(&mut self, now: Instant) -> bool {
        let over = self.0.iter().filter(|(_, said)| !said.in_force(now));
        let oldest = over.min_by_key(|(_, said)| said.version).map(|(about, _)| about.clone());
        oldest.is_some_and(|about| self.0.remove(&about).is_some())
    }

    /// Forgets what is about nodes or groups that there are no longer; says whether there was
    /// something.
    pub fn retain(&mut self, known: impl Fn(&About) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|about, _| known(about));
        self.0.len() < before
    }

    /// Everything known.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = Decision> + '_ {
        self.0.iter().map(move |(about, said)| said.told(now, about))
    }

    /// What is in force.
    pub fn in_force(&self, now: Instant) -> impl Iterator<Item = InForce<'_>> {
        self.0.iter().filter(move |(_, said)| said.in_force(now)).map(|(about, said)| InForce {
            about,
            by: said.by.as_str(),
            why: said.why.as_str(),
            at: said.at,
            until: said.until,
        })
    }

    /// The decision about that, if it is in force.
    pub fn about(&self, now: Instant, about: &About) -> Option<InForce<'_>> {
        self.in_force(now).find(|said| said.about == about)
    }

    /// When something that is in force ends by itself.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.0.values().filter(|said| said.in_force(now)).filter_map(|said| said.until).min()
    }

    /// What ended by itself after `since` and not after `now`, so that something changed.
    pub fn ended(&self, since: Instant, now: Instant) -> impl Iterator<Item = &About> {
        let over = move |said: &Said| {
            said.on && said.until.is_some_and(|until| since < until && until <= now)
        };
        let all = self.0.iter().filter(move |(_, said)| over(said)).map(|(about, _)| about);
        all.filter(|about| about.topic != Topic::Cleanup)
    }

    /// The same number where the same is known.
    pub fn mark(&self) -> u64 {
        let mut all = Sha256::new();
        for (about, said) in &self.0 {
            for name in [&about.node, &about.group] {
                all.update(name.as_deref().map_or(0, mark).to_be_bytes());
            }
            all.update([about.topic as u8, u8::from(said.on), said.origin.0]);
            all.update(said.version.to_be_bytes());
            all.update(said.at.to_be_bytes());
        }
        first(&all.finalize())
    }
}

#[cfg(test)]
#[path = "will_tests.rs"]
mod tests;
