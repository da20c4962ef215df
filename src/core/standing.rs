//! How each node stands to a group: values for people.

use serde::{Deserialize, Serialize};

use crate::types::{Instant, Priority};

/// How a node stands to a group, as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StandingStatus {
    /// Which node.
    pub node: String,
    /// Whether that is this one.
    pub me: bool,
    /// Whether it holds the group.
    pub holds: bool,
    /// Whether it would be the next.
    pub next: bool,
    /// The priority in force; `None` if it takes no part, or that is not known.
    pub priority: Option<Priority>,
    /// By how many points its health falls short; `None` also where it is unfit.
    pub points: Option<u8>,
    /// How often its proxy failed lately.
    #[serde(default)]
    pub failures: u32,
    /// When the last time was.
    #[serde(default)]
    pub failed_at: Option<Instant>,
    /// How, in words.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// What the checks of the group find there, as far as that is known.
    #[serde(default)]
    pub checks: Vec<NodeCheck>,
    /// Why, in words.
    pub words: String,
}

/// What a check finds on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeCheck {
    /// Its name.
    pub name: String,
    /// The verdict; `None` before the first look.
    pub verdict: Option<bool>,
    /// Since when.
    pub since: Instant,
    /// What it finds, in words, where it fails.
    pub found: String,
}
