//! A trace gone through again, and where what the core does differs from what it did.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::config;
use crate::core::Node;
use crate::core::event::{Action, Event, Secrets};
use crate::types::Instant;

use super::recorder::{Line, Recorded, words};

/// Differences that are shown; the first is what matters.
const SHOWN: usize = 5;

/// What going through a trace showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The version that wrote it.
    pub version: String,
    /// Which node wrote it.
    pub node: String,
    /// Steps gone through.
    pub steps: u64,
    /// Actions compared.
    pub actions: u64,
    /// From the first event to the last.
    pub span: std::time::Duration,
    /// Where it differs, the first few times.
    pub differences: Vec<Difference>,
    /// Whether the trace has a gap, behind which nothing was compared.
    pub gap: bool,
}

/// One step that differs.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which line of the file.
    pub line: u64,
    /// Time since the start of the trace.
    pub after: std::time::Duration,
    /// What happened.
    pub event: String,
    /// What was done then and is not now.
    pub missing: Vec<String>,
    /// What is done now and was not then.
    pub added: Vec<String>,
}

/// Why a trace cannot be gone through.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A line makes no sense.
    #[error("line {line}: {why}")]
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// There is nothing in it.
    #[error("the trace is empty")]
    Empty,
}

/// Goes through the trace in `path`.
///
/// # Errors
/// It cannot be read, or is not a trace.
pub fn replay(path: &Path) -> Result<Replay, ReplayError> {
    let mut core: Option<Node> = None;
    let mut found = Replay::default();
    let (mut began, mut last) = (Instant::BOOT, Instant::BOOT);
    for (number, text) in (1..).zip(BufReader::new(File::open(path)?).lines()) {
        let wrong = |why: String| ReplayError::Line { line: number, why };
        let text = text?;
        let line = match serde_json::from_str(&text) {
            Ok(line) => line,
            // A daemon that was killed leaves half a line.
            Err(error) if error.is_eof() && core.is_some() => break,
            Err(error) => return Err(wrong(error.to_string())),
        };
        let mut out = Vec::new();
        let (at, event, did) = match line {
            Line::Start { version, at, node, text, inheritance, did } => {
                let config = parse(&text).map_err(wrong)?;
                let me = config.validate_for(&node).map_err(|e| wrong(e.to_string()))?;
                let secrets = Secrets(vec![None; config.groups.len()]);
                core = Some(Node::new(at, Arc::new(config), me, &secrets, &inheritance, &mut out));
                (found.version, found.node, began) = (version, node, at);
                (at, "the start".to_owned(), did)
            }
            Line::Step { at, event, did } => {
                let core = core.as_mut().ok_or_else(|| wrong("no start before it".to_owned()))?;
                let name = name(&event);
                step(core, at, event, &mut out).map_err(wrong)?;
                found.steps += 1;
                (at, name, did)
            }
            Line::Lost(_) => {
                found.gap = true;
                break;
            }
        };
        last = at;
        found.actions += u64::try_from(did.len()).unwrap_or(u64::MAX);
        let does = words(&out);
        if does != did && found.differences.len() < SHOWN {
            let only = |a: &[String], b: &[String]| -> Vec<String> {
                a.iter().filter(|x| !b.contains(x)).cloned().collect()
            };
            let (missing, added) = (only(&did, &does), only(&does, &did));
            let after = at.since(began);
            found.differences.push(Difference { line: number, after, event, missing, added });
        }
    }
    found.span = last.since(began);
    if core.is_none() { Err(ReplayError::Empty) } else { Ok(found) }
}

fn parse(text: &str) -> Result<config::Config, String> {
    let parsed = config::parse(text);
    parsed.map(|(config, _)| config).map_err(|all| config::render(&all, "trace", text, false))
}

fn name(event: &Recorded) -> String {
    let all = match event {
        Recorded::Datagram { meta, .. } => return format!("an advert from {}", meta.src),
        Recorded::Reload(_) => return "another configuration".to_owned(),
        Recorded::Event(event) => format!("{event:?}"),
    };
    all.chars().take(100).collect()
}

fn step(
    core: &mut Node,
    at: Instant,
    event: Recorded,
    out: &mut Vec<Action>,
) -> Result<(), String> {
    match event {
        Recorded::Datagram { ifindex, meta, bytes } => {
            core.step(at, Event::Datagram { ifindex, meta, bytes: &bytes }, out);
        }
        Recorded::Reload(text) => {
            let config = parse(&text)?;
            let secrets = Secrets(vec![None; config.groups.len()]);
            core.step(at, Event::Reload(Arc::new(config), secrets), out);
        }
        Recorded::Event(event) => core.step(at, event, out),
    }
    Ok(())
}
