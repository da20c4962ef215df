//! What a lease is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config;
use crate::types::{Digest, GateId, Incarnation, Priority, VoterIx, Voters};

use super::Grant;

/// What a lease is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This voter.
    pub me: VoterIx,
    /// How many voters there are.
    pub voters: usize,
    /// Times.
    pub terms: config::Lease,
    /// The configuration.
    pub digest: Digest,
    /// This node's gate; `None` where there is none, as for a witness.
    pub gate: Option<GateId>,
    /// For how long nobody is voted for after the start: the longest vote that may have been
    /// forgotten, or given by those who voted before. `None` if nothing was forgotten and the
    /// configuration is the one that was confirmed.
    pub quiet: Option<Duration>,
    /// The configuration that everybody was last seen with.
    pub confirmed: Option<Digest>,
    /// How many of the voters can hold: the nodes, which come first.
    pub nodes: usize,
    /// The groups whose votes need proof.
    pub strict: BTreeSet<u16>,
    /// The nodes that can be fenced: each has a seat for who may do that.
    pub fences: BTreeSet<u16>,
    /// Names this run.
    pub run: Incarnation,
    /// Whether what outlives this process has the votes of an earlier one.
    pub remembers: bool,
    /// The priorities that the file gives the nodes, by group: of those whose checks cost points.
    pub priorities: BTreeMap<u16, Vec<Priority>>,
}

impl Setup {
    /// Voter `me` of `config` in a run called `run`, without a gate and with nothing remembered.
    pub fn new(config: &config::Config, me: VoterIx, run: Incarnation) -> Self {
        let places = |is: fn(&config::Group) -> bool| {
            let groups = (0..).zip(&config.groups).filter(move |(_, g)| is(g));
            groups.map(|(place, _)| place).collect()
        };
        let fenced = (0..).zip(&config.nodes).filter(|(_, n)| !n.fence.is_empty());
        Self {
            me,
            voters: config.voters().count(),
            terms: config.lease,
            digest: config.digest(),
            gate: None,
            quiet: None,
            confirmed: None,
            nodes: config.nodes.len(),
            strict: places(|g| g.safety == config::Safety::LeaseFence),
            fences: fenced.map(|(node, _)| node).collect(),
            run,
            remembers: false,
            priorities: (0..)
                .zip(&config.groups)
                .filter(|(_, g)| config.has_scores(&g.name))
                .map(|(place, g)| (place, g.priorities.clone()))
                .collect(),
        }
    }
}

/// What a voter must not forget of a group.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Vote {
    /// The vote, unless it was given back.
    pub grant: Option<Grant>,
    /// The highest tenure voted for, and by which gate.
    pub epoch: (u64, GateId),
    /// Who may have a vote that was forgotten before.
    pub doubted: Voters,
}
