//! `GET /v1/connections`: how many TCP connections there are to a group, and whether those of a
//! certain moment are still there. PURE.

use serde::{Deserialize, Serialize};

use crate::types::Instant;

/// The connections to a group, as the asked node knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connections {
    /// Which group.
    pub group: String,
    /// Who holds it.
    pub node: String,
    /// Boot-clock time of this answer, nanoseconds: the moment to ask about later.
    pub now: Instant,
    /// How many are known one by one.
    pub known: usize,
    /// How many of them were there already at the moment that was asked about; all where none was.
    pub older: usize,
    /// How many more the holder has, of which only their number is known.
    pub left_out: usize,
}

impl Connections {
    /// How many are waited for: those that may have been there already.
    pub const fn left(&self) -> usize {
        self.older + self.left_out
    }
}
