//! What hooks are told: from notes to occasions. PURE, as all of the core is.
//!
//! A group passes through more states than a script wants to hear of. [`Book`] makes four of them,
//! and tells each once:
//!
//! | here | to keepalived | when |
//! |---|---|---|
//! | active | MASTER | the group is Active on this node |
//! | backup | BACKUP | it listens, and could take over |
//! | fault | FAULT | it cannot: no carrier, no address, no fit proxy |
//! | stop | STOP | it takes no part any more: vipd ends, or the group left the file |

pub mod call;

use std::collections::BTreeMap;

use crate::config::{Config, Hook, On};
use crate::types::{Instant, Priority};

use super::status::{Note, Severity};

/// What a group is on this node, to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has the addresses.
    Active,
    /// It could have them.
    Backup,
    /// It cannot have them.
    Fault,
    /// It takes no part.
    Stop,
}

impl State {
    /// All of them, by their words.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Active, Self::Backup, Self::Fault, Self::Stop];
        all.into_iter().find(|state| state.word() == word)
    }

    /// The word that hooks find.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backup => "backup",
            Self::Fault => "fault",
            Self::Stop => "stop",
        }
    }

    fn on(self) -> On {
        match self {
            Self::Active => On::Active,
            Self::Backup => On::Backup,
            Self::Fault => On::Fault,
            Self::Stop => On::Stop,
        }
    }
}

/// What kind of occasion it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A group became this; `was` is what it was told to be before.
    State {
        /// What it is now.
        now: State,
        /// What it was.
        was: Option<State>,
    },
    /// The fencing of a node came this far.
    Fencing(Fencing),
    /// A peer is lost, or is back.
    Peer {
        /// Whether it is back.
        back: bool,
    },
    /// Some other event, which no state and no word of another program stands for.
    Other,
}

/// How far the fencing of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// It begins.
    Started,
    /// The node is off, as its device or a person says.
    Done,
    /// It is not off.
    Failed,
    /// Something else about it.
    Other,
}

/// Something that hooks may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// What kind it is.
    pub what: What,
    /// The note behind it, with the reason.
    pub note: Note,
    /// This node's priority in the group.
    pub priority: Option<Priority>,
}

impl Occasion {
    /// Its name: the word of a state, else the kind of the note.
    pub fn kind(&self) -> &str {
        match self.what {
            What::State { now, .. } => now.word(),
            What::Fencing(_) | What::Peer { .. } | What::Other => &self.note.kind,
        }
    }

    /// Whether `hook` wants to hear of it. What is about no group is for the hooks of every group.
    pub fn is_for(&self, hook: &Hook) -> bool {
        let on = match self.what {
            What::State { now, .. } => now.on(),
            What::Fencing(_) => On::Fencing,
            What::Peer { .. } => On::Peer,
            What::Other => On::Any,
        };
        let of = |group: &String| hook.groups.is_empty() || hook.groups.contains(group);
        (hook.on.contains(&on) || hook.on.contains(&On::Any))
            && self.note.group.as_ref().is_none_or(of)
    }

    /// One to try a hook with.
    pub fn sample(now: Instant, group: &str, priority: Priority, state: State) -> Self {
        let what = State::Active;
        let was = if state == what { State::Backup } else { what };
        let text = "a test: somebody asked for this call with vipctl".to_owned();
        Self {
            what: What::State { now: state, was: Some(was) },
            note: note(now, group, state, text),
            priority: Some(priority),
        }
    }
}

/// What hooks were told last of each group.
#[derive(Clone, Debug, Default)]
pub struct Book {
    groups: BTreeMap<String, Page>,
}

#[derive(Clone, Debug, Default)]
struct Page {
    /// This node's priority; `None` once the group has left the file.
    priority: Option<Priority>,
    role: Option<State>,
    unfit: bool,
    told: Option<State>,
}

impl Page {
    /// Whoever has the addresses is active, however unfit.
    fn state(&self) -> Option<State> {
        match self.role? {
            State::Backup if self.unfit => Some(State::Fault),
            role @ (State::Active | State::Backup | State::Fault | State::Stop) => Some(role),
        }
    }
}

impl Book {
    /// The groups of `config` from now on, as node number `me` has them.
    pub fn configure(&mut self, config: &Config, me: usize) {
        for page in self.groups.values_mut() {
            page.priority = None;
        }
        for group in &config.groups {
            let page = self.groups.entry(group.name.clone()).or_default();
            page.priority = group.priorities.get(me).copied();
        }
        // What left is still told its stop.
        self.groups.retain(|_, page| {
            page.priority.is_some() || page.told.is_some_and(|told| told != State::Stop)
        });
    }

    /// This node's priority in `group`.
    pub fn priority(&self, group: &str) -> Option<Priority> {
        self.groups.get(group)?.priority
    }

    /// Any group of the file.
    pub fn first(&self) -> Option<&str> {
        self.groups.iter().find(|(_, page)| page.priority.is_some()).map(|(name, _)| name.as_str())
    }

    /// What hooks are to be told of `note`.
    pub fn hear(&mut self, note: &Note) -> Option<Occasion> {
        let other = |what| Some(Occasion { what, note: note.clone(), priority: None });
        let kind = note.kind.as_str();
        // A hook that is told of the failure of a hook has no end.
        if kind.starts_with("hook-") {
            return None;
        }
        if let Some(rest) = kind.strip_prefix("fence-") {
            return other(What::Fencing(match rest {
                "started" => Fencing::Started,
                "done" | "confirmed" => Fencing::Done,
                "failed" => Fencing::Failed,
                _ => Fencing::Other,
            }));
        }
        match kind {
            "peer-unreachable" => return other(What::Peer { back: false }),
            "peer-returned" => return other(What::Peer { back: true }),
            _ => {}
        }
        let page = note.group.as_ref().and_then(|group| self.groups.get_mut(group));
        let Some(page) = page else { return other(What::Other) };
        match (kind, note.severity) {
            ("active", _) => page.role = Some(State::Active),
            ("backup", _) => page.role = Some(State::Backup),
            // The addresses go first; what the group is then is told then.
            ("releasing", _) => return None,
            ("init", Severity::Warn | Severity::Error) => page.role = Some(State::Fault),
            ("init", Severity::Info | Severity::Debug) => page.role = Some(State::Stop),
            ("unfit", _) => page.unfit = true,
            ("fit", _) => page.unfit = false,
            _ => return other(What::Other),
        }
        match page.turn() {
            Some(what) => {
                let priority = page.priority;
                Some(Occasion { what, note: note.clone(), priority })
            }
            // News, but not of a state.
            None if kind == "unfit" || kind == "fit" => other(What::Other),
            None => None,
        }
    }

    /// vipd ends: every group is told so that was not yet.
    pub fn end(&mut self, now: Instant) -> Vec<Occasion> {
        let text = "vipd is stopping";
        let stop = |(group, page): (&String, &mut Page)| {
            page.role = Some(State::Stop);
            let what = page.turn()?;
            let note = note(now, group, State::Stop, text.to_owned());
            Some(Occasion { what, note, priority: page.priority })
        };
        self.groups.iter_mut().filter_map(stop).collect()
    }
}

impl Page {
    /// The state, if it is another one than was told; then it counts as told.
    fn turn(&mut self) -> Option<What> {
        let now = self.state().filter(|now| self.told != Some(*now))?;
        Some(What::State { now, was: self.told.replace(now) })
    }
}

fn note(at: Instant, group: &str, state: State, text: String) -> Note {
    Note {
        at,
        severity: Severity::Info,
        group: Some(group.to_owned()),
        kind: state.word().to_owned(),
        text,
        about: None,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
