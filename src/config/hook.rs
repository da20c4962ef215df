//! What is called when something happens.

use std::path::PathBuf;
use std::time::Duration;

use super::read;

/// A script or a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Unique name.
    pub name: String,
    /// What is called.
    pub what: HookKind,
    /// How it is told.
    pub style: Style,
    /// What it is called for.
    pub on: Vec<On>,
    /// The groups it is called for; empty for all.
    pub groups: Vec<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Of an alert agent: whom it is to tell.
    pub recipient: Option<String>,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// A script.
    Run {
        /// Its path and arguments; no shell.
        argv: Vec<String>,
        /// Who runs it.
        user: Option<String>,
    },
    /// A webhook.
    Post {
        /// Where it is.
        url: String,
        /// File with what it is shown.
        token_file: Option<PathBuf>,
    },
}

impl HookKind {
    /// The path or the URL.
    pub fn target(&self) -> &str {
        match self {
            Self::Run { argv, .. } => argv.first().map_or("", String::as_str),
            Self::Post { url, .. } => url,
        }
    }
}

/// How a hook is told what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// JSON on its input, and variables.
    #[default]
    Vipd,
    /// The arguments of a notify script of keepalived's.
    Keepalived {
        /// As of a sync group; else as of an instance.
        group: bool,
    },
    /// The variables of a Pacemaker alert agent.
    Pacemaker,
}

/// What a hook is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// A group becomes Active here.
    Active,
    /// A group becomes Backup here.
    Backup,
    /// This node can not have the group.
    Fault,
    /// This node takes no part in the group any more.
    Stop,
    /// A node is fenced, or is not.
    Fencing,
    /// A peer is lost, or is back.
    Peer,
    /// Everything that is an event.
    Any,
}

impl On {
    const STATES: [Self; 4] = [Self::Active, Self::Backup, Self::Fault, Self::Stop];

    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "active" => Self::Active,
            "backup" => Self::Backup,
            "fault" => Self::Fault,
            "stop" => Self::Stop,
            "fencing" => Self::Fencing,
            "peer" => Self::Peer,
            "any" => Self::Any,
            _ => return None,
        })
    }

    /// Whether a notify script of keepalived's has a word for it.
    pub(super) fn is_state(word: &str) -> bool {
        Self::of(word).is_some_and(|on| Self::STATES.contains(&on))
    }
}

/// Whether a style is one of keepalived's, which has words for states only.
pub(super) fn keepalived(style: Option<&str>) -> bool {
    style.is_some_and(|s| s.starts_with("keepalived"))
}

/// The name of a hook that was not given one: the file name of its script, or the host of its URL.
pub(super) fn name(hook: &read::Hook) -> Option<String> {
    if let Some(name) = &hook.name {
        return Some(name.value.clone());
    }
    let text = match (&hook.run, &hook.url) {
        (Some(run), _) => run.value.first()?.value.rsplit('/').next()?,
        (None, Some(url)) => url.value.split("://").nth(1)?.split(['/', '?']).next()?,
        (None, None) => return None,
    };
    Some(text.to_owned())
}

/// `None` if something required is absent, which was told.
pub(super) fn lower(hook: read::Hook) -> Option<Hook> {
    let name = name(&hook)?;
    let value = |at: Option<read::At<String>>| at.map(|a| a.value);
    let words = |at: Option<read::At<Vec<read::At<String>>>>| {
        at.map(|list| list.value.into_iter().map(|w| w.value).collect::<Vec<_>>())
    };
    let style = match value(hook.style).as_deref() {
        Some("keepalived") => Style::Keepalived { group: false },
        Some("keepalived-group") => Style::Keepalived { group: true },
        Some("pacemaker") => Style::Pacemaker,
        Some(_) | None => Style::Vipd,
    };
    let on = match words(hook.on) {
        Some(on) => on.iter().filter_map(|word| On::of(word)).collect(),
        None if matches!(style, Style::Keepalived { .. }) => On::STATES.to_vec(),
        None => [&On::STATES[..], &[On::Fencing]].concat(),
    };
    let what = match (words(hook.run), value(hook.url)) {
        (Some(argv), _) => HookKind::Run { argv, user: value(hook.user) },
        (None, Some(url)) => {
            HookKind::Post { url, token_file: value(hook.token_file).map(PathBuf::from) }
        }
        (None, None) => return None,
    };
    Some(Hook {
        name,
        what,
        style,
        on,
        groups: words(hook.groups).unwrap_or_default(),
        timeout: hook.timeout.map_or(Duration::from_secs(30), |t| t.value),
        recipient: value(hook.recipient),
    })
}
