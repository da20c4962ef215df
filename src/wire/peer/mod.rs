//! What voters tell each other about who may hold which group.
//!
//! The values; what they mean is decided by `core::lease`. One datagram carries one [`Message`]:
//! what holds of its sender, then any number of entries, so that many groups share a datagram.
//!
//! * [`codec`]: messages to bytes and back.
//! * [`keys`]: the secret all voters share, and what is derived from it.
//! * [`will`]: what operators have decided.
//! * [`care`]: how proxies and checks are on a node.
//! * [`channel`]: datagrams that are authentic, fresh, and heard once.
//! * [`connections`]: what clients are connected to a holder, in datagrams of their own.

pub mod care;
pub mod channel;
pub mod codec;
pub mod connections;
mod datagram;
pub mod keys;
mod link;
mod session;
pub mod will;

pub use channel::{Channel, Datagram, Opened};
pub use datagram::MAX_DATAGRAM;
pub use keys::{KeyError, KeyId, Keyring};

use std::time::Duration;

use crate::types::{Digest, GateId, Instant, Priority, VoterIx, Voters};

/// One datagram's worth of news from one voter to another.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Message {
    /// About the sender.
    pub head: Head,
    /// About groups.
    pub entries: Vec<Entry>,
}

/// What every datagram says about its sender.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Head {
    /// The configuration in force; entries are about the groups of this one.
    pub active: Digest,
    /// The configuration it is ready to switch to; `active` where there is no other.
    pub next: Digest,
    /// Whether its vote counts: everybody was seen with `active`.
    pub settled: bool,
    /// Whom it has heard lately.
    pub heard: Voters,
    /// Its boot clock as it sent this.
    pub clock: Instant,
    /// Its gate; `None` where there is none, as for a witness.
    pub gate: Option<GateId>,
    /// After how long, to the microsecond, its watchdog resets the host if this daemon does not
    /// feed it; `None` where none is armed.
    pub watchdog: Option<Duration>,
}

/// One piece of news about one group.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Entry {
    /// The group's place in the configuration.
    pub group: u16,
    /// What about it.
    pub news: News,
}

/// What is said about a group.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum News {
    /// Please vote for me.
    Request {
        /// What the vote is for.
        gate: GateId,
        /// Rises with every request of a gate.
        round: u64,
        /// The number of this tenure; rises with every change of the holder.
        epoch: u64,
    },
    /// You have my vote for this round.
    Grant {
        /// Of the request.
        gate: GateId,
        /// Of the request.
        round: u64,
    },
    /// You do not have my vote.
    Deny {
        /// Of the request.
        gate: GateId,
        /// Of the request.
        round: u64,
        /// Why.
        why: Denial,
    },
    /// My gate is shut, and no round up to this one will ever open it.
    Release {
        /// Whose votes are given back.
        gate: GateId,
        /// Up to which round.
        round: u64,
        /// For whom the votes are kept for a moment.
        successor: Option<VoterIx>,
    },
    /// How I stand.
    Report(Report),
    /// This node's host was switched off, after it was known to be in doubt.
    Fenced {
        /// Which node.
        node: VoterIx,
        /// Of the doubt that this ends.
        mark: GateId,
    },
    /// What my file says of one part, to one whose file is another; about no group.
    Part {
        /// Which part: a mark of its name.
        name: u32,
        /// A mark of what it says.
        value: u64,
    },
    /// What operators have decided about one thing; about no group.
    Word(will::Word),
    /// A mark of all that operators have decided: who knows something else tells it; about no
    /// group.
    Words {
        /// The mark.
        mark: u64,
    },
    /// What became of the fencing of a node, in the words of whoever fences it; about no group.
    Tale {
        /// Which node.
        node: VoterIx,
        /// The words.
        text: will::Text<{ will::LONGEST_TALE }>,
    },
    /// How often a proxy failed lately on this node; about no group by its place.
    Failed(care::Failed),
    /// What a check finds on this node; about no group.
    Looked(care::Looked),
    /// Please hand the group over to this node, an operator says.
    Move {
        /// To whom.
        to: VoterIx,
    },
}

/// Why a vote was refused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Denial {
    /// Somebody has it.
    Held {
        /// Who.
        by: VoterIx,
        /// For how much longer, to the microsecond.
        left: Duration,
    },
    /// I may have forgotten whom I voted for.
    Quiet {
        /// For how much longer, to the microsecond.
        left: Duration,
    },
    /// Not everybody has been seen with this configuration.
    Unsettled,
    /// We do not run with the same configuration.
    Config,
    /// You do not hear me, so my vote would be lost.
    OneWay,
    /// It is kept for somebody.
    Reserved {
        /// For whom.
        to: VoterIx,
    },
    /// The number of the tenure is used up.
    Epoch {
        /// The highest one known.
        highest: u64,
    },
    /// My clock runs wrong, so I do not vote.
    Clock,
    /// It may serve, and only its word, its return or its end would prove that it does not.
    Doubt {
        /// Who.
        of: VoterIx,
    },
}

/// What a strict voter must have proven before it votes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Doubt {
    /// Who may serve.
    pub of: Voters,
    /// The gate the vote was given, or the run of the voter that may have forgotten one. A proof
    /// names it, so that it says nothing about what came later.
    pub mark: GateId,
}

/// How a node stands to a group.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Report {
    /// Its priority in force; `None` for one that cannot hold: a witness, a host without its
    /// interface, one that is stopping.
    pub priority: Option<Priority>,
    /// Whether it would take the group from a holder of lower priority.
    pub wants: bool,
    /// For how much longer its gate is open, to the microsecond; zero where it does not hold.
    pub holds: Duration,
    /// The highest tenure it knows of.
    pub epoch: u64,
    /// Whom it gave its vote, and for how much longer, to the microsecond.
    pub vote: Option<(VoterIx, Duration)>,
    /// How long nobody answered when it last took over, as it saw it, to the microsecond.
    pub gap: Option<Duration>,
    /// What it must have proven before it votes for another.
    pub doubt: Option<Doubt>,
    /// Whether it cannot give up what it must: an address or its proxy.
    pub stuck: bool,
    /// Whether its gate cannot be relied upon: it may be open although nothing is held.
    pub frozen: bool,
}

/// Why a datagram is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dropped {
    /// No datagram of this protocol, or of another version.
    NotOurs,
    /// Of a cluster with another name.
    OtherCluster,
    /// To another voter: also what comes back to its sender.
    NotForUs,
    /// From nobody in the configuration.
    NotAVoter,
    /// Sealed with a key that we do not have.
    UnknownKey,
    /// Changed on its way, or forged.
    BadTag,
    /// Of no session that there is: one of us started anew, or it is old.
    NoSession,
    /// Once more what was heard already: usual where there are two paths.
    Duplicate,
    /// Older than what is remembered: nobody honest is so late.
    Replay,
    /// More greetings than are answered.
    Limited,
    /// Of a name that two have.
    Twin,
    /// Authentic, but without a meaning.
    Malformed,
}

impl Dropped {
    /// Each of them.
    pub const ALL: [Self; 12] = [
        Self::NotOurs,
        Self::OtherCluster,
        Self::NotForUs,
        Self::NotAVoter,
        Self::UnknownKey,
        Self::BadTag,
        Self::NoSession,
        Self::Duplicate,
        Self::Replay,
        Self::Limited,
        Self::Twin,
        Self::Malformed,
    ];

    /// The name of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotOurs => "not-ours",
            Self::OtherCluster => "other-cluster",
            Self::NotForUs => "not-for-us",
            Self::NotAVoter => "not-a-voter",
            Self::UnknownKey => "unknown-key",
            Self::BadTag => "bad-tag",
            Self::NoSession => "no-session",
            Self::Duplicate => "duplicate",
            Self::Replay => "replay",
            Self::Limited => "limited",
            Self::Twin => "twin",
            Self::Malformed => "malformed",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }
}
