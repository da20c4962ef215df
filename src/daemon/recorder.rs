//! Everything that goes into the core and what comes out, as a trace that [`replay`](super::replay)
//! can go through again.
//!
//! The core is a function of its events, so a trace from the field is a bug that can be looked at
//! as often as need be. A line of JSON for each step; written by a thread of its own, and what that
//! cannot keep up with is counted instead: such a trace says so, and ends where that was.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write as _};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::core;
use crate::core::event::{Action, Event, Inheritance};
use crate::types::{IfIndex, Instant};
use crate::wire::vrrp::Meta;

/// Steps that may wait to be written.
const WAITING: usize = 16 * 1024;

/// One line of a trace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// What the core was made from.
    Start {
        /// The daemon's version.
        version: String,
        /// When.
        at: Instant,
        /// The node's name.
        node: String,
        /// The configuration file.
        text: String,
        /// What an earlier run left behind.
        inheritance: Box<Inheritance>,
        /// What it wanted done.
        did: Vec<String>,
    },
    /// One step.
    Step {
        /// When.
        at: Instant,
        /// What happened.
        event: Recorded,
        /// What was to be done about it.
        did: Vec<String>,
    },
    /// So many steps were not written: what follows cannot be replayed.
    Lost(u64),
}

/// An event on its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Recorded {
    /// [`Event::Datagram`].
    Datagram {
        /// Where it came in.
        ifindex: IfIndex,
        /// What the IP layer told.
        meta: Meta,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// [`Event::Reload`]: the file.
    Reload(String),
    /// Any other.
    Event(Event<'static>),
}

/// Actions as they are compared.
pub(super) fn words(actions: &[Action]) -> Vec<String> {
    actions.iter().map(|action| format!("{action:?}")).collect()
}

/// The core, with every step written down if that was asked for.
pub(super) struct Node {
    core: core::Node,
    recorder: Option<Recorder>,
}

impl Deref for Node {
    type Target = core::Node;
    fn deref(&self) -> &core::Node {
        &self.core
    }
}

impl Node {
    pub(super) fn new(core: core::Node, recorder: Option<Recorder>) -> Self {
        Self { core, recorder }
    }

    /// The configuration file that was read last.
    pub(super) fn set_text(&mut self, text: String) {
        if let Some(recorder) = &mut self.recorder {
            recorder.text = text;
        }
    }

    /// [`core::Node::step`].
    pub(super) fn step(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        let Some(recorder) = &mut self.recorder else { return self.core.step(now, event, out) };
        let copy = own(&event, &recorder.text);
        let before = out.len();
        self.core.step(now, event, out);
        recorder.put(now, copy, out.get(before..).unwrap_or_default());
    }
}

/// The event on its own; `text` is the configuration file that was read last.
fn own(event: &Event<'_>, text: &str) -> Recorded {
    match event {
        Event::Datagram { ifindex, meta, bytes } => {
            Recorded::Datagram { ifindex: *ifindex, meta: *meta, bytes: bytes.to_vec() }
        }
        Event::Reload(..) => Recorded::Reload(text.to_owned()),
        Event::Tick => Recorded::Event(Event::Tick),
        Event::Neighbour { ifindex, ip, mac } => {
            Recorded::Event(Event::Neighbour { ifindex: *ifindex, ip: *ip, mac: *mac })
        }
        Event::Link(link) => Recorded::Event(Event::Link(link.clone())),
        Event::LinkGone(index) => Recorded::Event(Event::LinkGone(*index)),
        Event::Address(address) => Recorded::Event(Event::Address(*address)),
        Event::AddressGone(address) => Recorded::Event(Event::AddressGone(*address)),
        Event::ResyncBegin => Recorded::Event(Event::ResyncBegin),
        Event::ResyncEnd => Recorded::Event(Event::ResyncEnd),
        Event::Done(task, result) => Recorded::Event(Event::Done(task.clone(), *result)),
        Event::Proxy(group, told) => Recorded::Event(Event::Proxy(*group, told.clone())),
        Event::Peer(from, message) => Recorded::Event(Event::Peer(*from, message.clone())),
        Event::PeerUp(from) => Recorded::Event(Event::PeerUp(*from)),
        Event::PeerTwin(from) => Recorded::Event(Event::PeerTwin(*from)),
        Event::Gate(told) => Recorded::Event(Event::Gate(told.clone())),
        Event::Clock(told) => Recorded::Event(Event::Clock(told.clone())),
        Event::Watchdog(told) => Recorded::Event(Event::Watchdog(told.clone())),
        Event::Move(group, to) => Recorded::Event(Event::Move(group.clone(), *to)),
        Event::Checked(told) => Recorded::Event(Event::Checked(told.clone())),
        Event::Will(order) => Recorded::Event(Event::Will(order.clone())),
        Event::Routing(told) => Recorded::Event(Event::Routing(told.clone())),
        Event::Fence(told) => Recorded::Event(Event::Fence(told.clone())),
        Event::Stop => Recorded::Event(Event::Stop),
        Event::Leave => Recorded::Event(Event::Leave),
    }
}

/// Writes a trace.
#[derive(Debug)]
pub(super) struct Recorder {
    lines: Option<SyncSender<Raw>>,
    lost: u64,
    /// The configuration file that was read last.
    pub(super) text: String,
    writer: Option<JoinHandle<()>>,
}

/// A step as the core thread hands it over: put in words by the writer.
#[derive(Debug)]
enum Raw {
    Start(Box<Line>, Vec<Action>),
    Step(Instant, Recorded, Vec<Action>),
    Lost(u64),
}

impl Recorder {
    /// Into a new file `path`, which nobody else may read. `start` is its first line, without what
    /// was done.
    ///
    /// # Errors
    /// There is such a file, or it cannot be made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(path)?;
        let (lines, queue) = sync_channel(WAITING);
        let builder = std::thread::Builder::new().name("vipd-trace".to_owned());
        let writer = builder.spawn(move || write(BufWriter::new(file), &queue))?;
        Ok(Self { lines: Some(lines), lost: 0, text: String::new(), writer: Some(writer) })
    }

    pub(super) fn start(
        &mut self,
        at: Instant,
        node: &str,
        inheritance: &Inheritance,
        did: &[Action],
    ) {
        let line = Line::Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            node: node.to_owned(),
            text: self.text.clone(),
            inheritance: Box::new(inheritance.clone()),
            did: Vec::new(),
        };
        self.send(Raw::Start(Box::new(line), did.to_vec()));
    }

    fn put(&mut self, at: Instant, event: Recorded, did: &[Action]) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.send(Raw::Lost(lost));
        }
        self.send(Raw::Step(at, event, did.to_vec()));
    }

    fn send(&mut self, raw: Raw) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(raw) {
            Ok(()) => {}
            Err(TrySendError::Full(Raw::Lost(more))) => self.lost += more,
            Err(TrySendError::Full(_)) => self.lost += 1,
            // The disk is full: the writer has said so.
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.lines = None;
        // What waits is written; whether the writer panicked is not missed here.
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

fn write(mut file: BufWriter<std::fs::File>, queue: &Receiver<Raw>) {
    while let Ok(raw) = queue.recv() {
        let line = match raw {
            Raw::Start(line, actions) => match *line {
                Line::Start { version, at, node, text, inheritance, .. } => {
                    let did = words(&actions);
                    Line::Start { version, at, node, text, inheritance, did }
                }
                other @ (Line::Step { .. } | Line::Lost(_)) => other,
            },
            Raw::Step(at, event, actions) => Line::Step { at, event, did: words(&actions) },
            Raw::Lost(count) => Line::Lost(count),
        };
        let written = serde_json::to_writer(&mut file, &line).map_err(io::Error::from);
        // A daemon that is killed loses no more than the step it was killed in.
        if let Err(error) = written.and_then(|()| file.write_all(b"\n")).and_then(|()| file.flush())
        {
            tracing::error!("the trace ends here: {error}");
            return;
        }
    }
}
