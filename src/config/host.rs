//! A host finds itself in the file.

use super::check::{same_host, short};
use super::walk::nearest;
use super::{Config, Member};

/// Why a host is not in the file, or not as what it was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nobody of the kind has this name.
    #[error(
        "no {kind} is named `{hostname}`, the name of this host; {}{}",
        if .known.is_empty() { "the file has none".to_owned() } else { format!("the file has {}", .known) },
        .near.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default()
    )]
    Unknown {
        /// What was looked for.
        hostname: String,
        /// Among whom: `[[node]]`, `[[witness]]`, or both.
        kind: &'static str,
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
    /// It only votes.
    #[error(
        "`{hostname}` is a [[witness]], which votes and never holds an address: start \
         `vipd --witness` on this host, or make it a [[node]]"
    )]
    OnlyVotes {
        /// What was looked for.
        hostname: String,
    },
    /// It is to hold addresses, and votes beside that.
    #[error(
        "`{hostname}` is a [[node]], which votes by itself: start vipd without --witness on this \
         host, or make it a [[witness]]"
    )]
    HoldsToo {
        /// What was looked for.
        hostname: String,
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
    /// If `hostname` fits no node, or several; or if it is a witness.
    pub fn validate_for(&self, hostname: &str) -> Result<usize, HostError> {
        match self.find(hostname) {
            Ok(Member::Node(ix)) => Ok(ix),
            Ok(Member::Witness(_)) => Err(HostError::OnlyVotes { hostname: hostname.to_owned() }),
            Err(error) => Err(error.among("[[node]]", self.nodes.iter().map(|n| n.name.as_str()))),
        }
    }

    /// The witness whose name is `hostname`, as [`Config::validate_for`] finds a node.
    ///
    /// # Errors
    /// If `hostname` fits no witness, or several; or if it is a node.
    pub fn validate_witness(&self, hostname: &str) -> Result<usize, HostError> {
        let names = || self.witnesses.iter().map(|w| w.name.as_str());
        match self.find(hostname) {
            Ok(Member::Witness(ix)) => Ok(ix),
            Ok(Member::Node(_)) => Err(HostError::HoldsToo { hostname: hostname.to_owned() }),
            Err(error) => Err(error.among("[[witness]]", names())),
        }
    }

    /// What the host named `hostname`, short or full, whatever its case, is in the file.
    ///
    /// # Errors
    /// If `hostname` fits nobody, or several.
    pub fn find(&self, hostname: &str) -> Result<Member, HostError> {
        let hostname = hostname.trim_end_matches('.');
        let member = |ix: usize| match ix.checked_sub(self.nodes.len()) {
            None => Member::Node(ix),
            Some(ix) => Member::Witness(ix),
        };
        let names: Vec<_> = self.voters().map(|v| v.name).collect();
        if let Some(ix) = names.iter().position(|n| n.eq_ignore_ascii_case(hostname)) {
            return Ok(member(ix));
        }
        let fit: Vec<_> = (0..names.len()).filter(|ix| same_host(names[*ix], hostname)).collect();
        match fit.as_slice() {
            [ix] => Ok(member(*ix)),
            [] => {
                let hostname = hostname.to_owned();
                let both = !self.witnesses.is_empty();
                let kind = if both { "[[node]] or [[witness]]" } else { "[[node]]" };
                let unknown =
                    HostError::Unknown { hostname, kind, known: String::new(), near: None };
                Err(unknown.among(kind, names.into_iter()))
            }
            several => Err(HostError::Ambiguous {
                hostname: hostname.to_owned(),
                candidates: several.iter().map(|ix| names[*ix]).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

impl HostError {
    /// The same, if nobody was found, with the names of one kind only.
    fn among<'c>(self, kind: &'static str, names: impl Iterator<Item = &'c str> + Clone) -> Self {
        let Self::Unknown { hostname, .. } = self else { return self };
        let near = nearest(short(&hostname), names.clone()).map(str::to_owned);
        Self::Unknown { hostname, kind, known: names.collect::<Vec<_>>().join(", "), near }
    }
}
