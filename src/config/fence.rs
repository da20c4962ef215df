//! Fencing: the devices that cut a node's power, and when they are used.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;

/// `[fencing]`: when a node is fenced, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fencing {
    /// What makes the cluster fence a node by itself, each once, in the order of [`When::ALL`].
    pub when: Vec<When>,
    /// What is done to its power.
    pub action: FenceAction,
    /// How long a node that does not hold waits before it fences, in a cluster of two.
    pub head_start: Duration,
    /// The most that is added to that by chance.
    pub random_delay: Duration,
    /// How long after its start a node fences none that it has not seen.
    pub startup_wait: Duration,
    /// How often a node is fenced in an hour before that is left to a human.
    pub limit: u32,
    /// How often every device is asked for its status; `None` for never.
    pub check: Option<Duration>,
}

impl Default for Fencing {
    fn default() -> Self {
        Self {
            when: When::ALL.to_vec(),
            action: FenceAction::Reboot,
            head_start: Duration::from_secs(2),
            random_delay: Duration::ZERO,
            startup_wait: Duration::from_secs(30),
            limit: 3,
            check: Some(Duration::from_mins(1)),
        }
    }
}

/// What makes the cluster fence a node by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// A holder in a group with `safety = "lease+fence"` is not heard any more.
    LostHolder,
    /// A host says that it cannot give up what it must.
    Stuck,
    /// A host serves what another one has the right to.
    Rival,
}

impl When {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LostHolder, Self::Stuck, Self::Rival];

    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::LostHolder => "lost-holder",
            Self::Stuck => "stuck",
            Self::Rival => "rival",
        }
    }
}

/// What is done to a node's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FenceAction {
    /// Off, seen to be off, then on again without waiting for it.
    Reboot,
    /// Off, and a human turns it on.
    Off,
}

impl FenceAction {
    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Off => "off",
        }
    }
}

/// One device that can cut a node's power, and the agent that talks to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The agent: a name in /usr/sbin, or an absolute path.
    pub agent: String,
    /// When its turn is: all devices of a level must succeed, the lowest level comes first.
    pub level: u8,
    /// How long one run of the agent may take.
    pub timeout: Duration,
    /// How often it is run before it has failed.
    pub attempts: u32,
    /// How long to wait before it is asked to cut the power.
    pub delay: Duration,
    /// The agent's own parameters by the names it knows, in the order of the file.
    pub parameters: Vec<(String, String)>,
    /// The parameters whose values stand elsewhere.
    pub secrets: Vec<Secret>,
}

impl Device {
    /// The value of a parameter of the agent, by any of its names.
    pub fn parameter(&self, names: &[&str]) -> Option<&str> {
        let found = self.parameters.iter().find(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, value)| value.as_str())
    }

    /// Where the agent is.
    pub fn path(&self) -> PathBuf {
        // An absolute path takes the place of what it is joined to.
        PathBuf::from("/usr/sbin").join(&self.agent)
    }
}

/// A parameter whose value does not stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The agent's name for it.
    pub parameter: String,
    /// Where its value is.
    pub source: SecretSource,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a file of this name in `$CREDENTIALS_DIRECTORY`: a credential of the systemd unit.
    Credential(String),
}

impl Config {
    /// Whether any node has a device.
    pub fn has_devices(&self) -> bool {
        self.nodes.iter().any(|n| !n.fence.is_empty())
    }
}

/// Whether a parameter of an agent is a secret, by its name with `-`.
pub(super) fn is_secret(name: &str) -> bool {
    const NOT: [&str; 3] = ["-script", "-file", "-prompt"];
    const EXACT: [&str; 7] =
        ["community", "hexadecimal-kg", "apikey", "api-key", "secret-key", "pass", "psk"];
    let within = ["passw", "passphrase", "secret", "token"].iter().any(|w| name.contains(w));
    (within || EXACT.contains(&name)) && !NOT.iter().any(|n| name.ends_with(n))
}
