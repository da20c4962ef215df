//! HTTP+JSON over the unix socket: status, events, commands. See `docs/api.md`.

pub mod client;
pub mod connections;
pub mod draining;
pub mod fencing;
pub mod moving;
mod route;
pub mod server;
pub mod view;
pub mod will;

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::status::{HookCall, Status};
use crate::io::events::{EventLog, Record};
use crate::types::Instant;

/// The longest a request for events may wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the API asks of the daemon.
pub trait Backend: Send + Sync + 'static {
    /// The core's snapshot of everything it knows. Bounded by the implementation.
    fn status(&self) -> impl Future<Output = Result<Status, Unavailable>> + Send;

    /// Reads the configuration file again, and applies the difference if it is valid.
    fn reload(&self) -> impl Future<Output = Result<ReloadReport, ReloadError>> + Send;

    /// Has a group handed over to a node; answers when that has it, or when it is clear that it
    /// will not.
    fn hand_over(
        &self,
        group: String,
        node: String,
    ) -> impl Future<Output = Result<MoveReport, ReloadError>> + Send;

    /// An operator's word about the fencing of a node; answers when it is known to make sense.
    fn fence(
        &self,
        node: String,
        order: FenceOrder,
    ) -> impl Future<Output = Result<(), ReloadError>> + Send;

    /// The connections to a group, and how many of them were there at `before`.
    fn connections(
        &self,
        group: String,
        before: Option<Instant>,
    ) -> impl Future<Output = Result<Connections, ReloadError>> + Send;

    /// An operator decides something; answers when it is in force.
    fn decide(&self, asked: Asked) -> impl Future<Output = Result<WillReport, ReloadError>> + Send;

    /// What was told of fencing, oldest first; it outlives the daemon.
    fn fence_history(&self) -> Vec<Record>;

    /// Calls a hook with a sample: `group` becomes `state`.
    fn hook(
        &self,
        name: String,
        group: Option<String>,
        state: String,
    ) -> impl Future<Output = Result<HookReport, ReloadError>> + Send;

    /// What happened lately.
    fn events(&self) -> &EventLog;
}

pub use connections::Connections;
pub use fencing::FenceOrder;
pub use moving::MoveReport;
pub use will::{Asked, WillReport};

/// How the call of a hook went that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HookReport {
    /// Its name.
    pub name: String,
    /// The script, or the URL.
    pub target: String,
    /// The call.
    pub call: HookCall,
}

/// The core did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Not in time.
    #[error("the core thread did not answer within {0:?}")]
    Late(Duration),
    /// It gives up its addresses and will not answer any more.
    #[error("vipd is stopping")]
    Stopping,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReloadReport {
    /// One line for each difference; none if the file means what it meant before.
    pub changes: Vec<String>,
    /// Rendered warnings about the file; empty if there are none.
    pub warnings: String,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The file is bad, or asks for what cannot be changed while running: rendered diagnostics.
    #[error("{0}")]
    Refused(String),
    /// The core did not answer.
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
}

/// The body of every answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind, a word for programs: `unavailable`, `refused`, `bad-request`, `not-found`, ...
    pub error: String,
    /// In words, for people.
    pub detail: String,
}

/// The answer of `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The daemon's version.
    pub version: String,
}
