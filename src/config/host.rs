//! A host finds itself in the file.

use super::Config;
use super::check::{same_host, short};
use super::walk::nearest;

/// Why a host is not one of the nodes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No node has this name.
    #[error(
        "no [[node]] is named `{hostname}`, the name of this host; the file has {known}{}",
        .near.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default()
    )]
    Unknown {
        /// What was looked for.
        hostname: String,
        /// The names in the file.
        known: String,
        /// The one that was perhaps meant.
        near: Option<String>,
    },
    /// A short name fits several full ones.
    #[error("`{hostname}`, the name of this host, can be any of {candidates}: use the full name")]
    Ambiguous {
        /// What was looked for.
        hostname: String,
        /// Which names it fits.
        candidates: String,
    },
}

impl Config {
    /// The node whose name is `hostname`, short or full, whatever its case; `None` if there is
    /// none or several.
    pub fn find_node(&self, hostname: &str) -> Option<usize> {
        self.validate_for(hostname).ok()
    }

    /// As [`Config::find_node`], with the reason where there is no such node.
    ///
    /// # Errors
    /// If `hostname` fits no node, or several.
    pub fn validate_for(&self, hostname: &str) -> Result<usize, HostError> {
        let hostname = hostname.trim_end_matches('.');
        let exact = |name: &str| name.eq_ignore_ascii_case(hostname);
        if let Some(i) = self.nodes.iter().position(|n| exact(&n.name)) {
            return Ok(i);
        }
        let mut fit = self.nodes.iter().enumerate().filter(|(_, n)| same_host(&n.name, hostname));
        let list = |names: Vec<&str>| names.join(", ");
        match (fit.next(), fit.next()) {
            (Some((i, _)), None) => Ok(i),
            (Some(_), Some(_)) => Err(HostError::Ambiguous {
                hostname: hostname.to_owned(),
                candidates: list(
                    self.nodes
                        .iter()
                        .map(|n| n.name.as_str())
                        .filter(|n| same_host(n, hostname))
                        .collect(),
                ),
            }),
            (None, _) => Err(HostError::Unknown {
                hostname: hostname.to_owned(),
                known: list(self.nodes.iter().map(|n| n.name.as_str()).collect()),
                near: nearest(short(hostname), self.nodes.iter().map(|n| n.name.as_str()))
                    .map(str::to_owned),
            }),
        }
    }
}
