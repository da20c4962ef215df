//! THE loop: wait, read the clock once, step, execute, sleep to the deadline.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::sync::{mpsc, oneshot};

use crate::config::{self, Config};
use crate::core::Node;
use crate::core::event::{
    Action, Event, Failure, Inheritance, PortSpec, ProxyEvent, ProxyOrder, Secrets, Task,
};
use crate::core::status::{Note, Severity, Status, condition};
use crate::io::clock::{self, Timer};
use crate::io::netlink::{self, Monitor};
use crate::io::packet::Announcer;
use crate::io::port::{Buffers, Filters, Port, Received, Source};
use crate::io::worker::{Completion, Setup, Worker};
use crate::io::{log, realtime, wake};
use crate::types::{IfIndex, Instant, Mac};
use crate::wire::announce;

/// Requests of the service runtime that may wait.
pub(super) const INBOX: usize = 1024;
/// Notes and orders to the service runtime that may wait.
pub(super) const OUTBOX: usize = 4096;
/// Answers of the worker that may wait: more than the core ever has outstanding.
const COMPLETIONS: usize = 1024;
/// Netlink events that may wait; beyond that the kernel is asked anew.
const KERNEL_EVENTS: usize = 1024;
/// The core thread's stack: all of it is locked once touched.
pub(super) const STACK: usize = 512 * 1024;

/// `SCHED_RR` priority of the core thread; the worker's is one less.
const PRIORITY: i32 = 50;
/// Packets taken from one socket before the others have their turn.
const BUDGET: usize = 256;
/// How long the kernel may be at one batch before that is worth saying.
const BUSY: Duration = Duration::from_secs(1);
/// A timer no later than this was not held up: no pause that matters can hide in it.
const PROMPT: Duration = Duration::from_millis(2);
/// Sources that one wait may report.
const READY: usize = 32;
/// What a window of packets may be: beyond, the sockets are left alone until it ends, and the
/// kernel drops what does not fit. A flood costs no more than a fraction of one core.
const FLOOD: usize = 500;
const WINDOW: Duration = Duration::from_millis(10);
/// The core thread without ever waiting for so long is a bug; the kernel ends the process.
const RUNAWAY: Duration = Duration::from_secs(2);
/// Rounds over all sockets before a timer that is due is believed: more than a full receive
/// buffer holds, so a stalled daemon hears everything that was queued first.
const ROUNDS: usize = 16;

/// What the service runtime asks of the core thread.
pub(super) enum Input {
    /// The status, please.
    Status(oneshot::Sender<Status>),
    /// Are you there? Answered with the time.
    Ping(oneshot::Sender<Instant>),
    /// A proxy reported.
    Proxy(u16, ProxyEvent),
    /// A new configuration.
    Reload(Arc<Config>, Secrets, oneshot::Sender<Vec<String>>),
    /// Give up gracefully.
    Stop,
}

/// What the core thread tells the service runtime.
#[derive(Debug)]
pub(super) enum Output {
    /// Something happened.
    Note(Note),
    /// Do something about a proxy.
    Proxy(u16, Box<config::Proxy>, ProxyOrder),
    /// Everything is given up.
    Exit,
}

/// Everything outside, as the core thread holds it.
pub(super) struct Shell {
    epoll: Epoll,
    timer: Timer,
    armed: Option<Instant>,
    /// When the current turn began.
    now: Instant,
    kernel: wake::Receiver<Event<'static>>,
    worker: Worker,
    completions: wake::Receiver<Completion>,
    inbox: wake::Receiver<Input>,
    outbox: mpsc::Sender<Output>,
    announcer: Announcer,
    ports: BTreeMap<IfIndex, Port>,
    reloads: VecDeque<oneshot::Sender<Vec<String>>>,
    lost_notes: u64,
    /// Why a port could not be opened, as told last.
    port_failure: Option<String>,
    /// Packets taken since.
    window: (Instant, usize),
    exit: bool,
}

/// Storage that every turn uses again.
struct Scratch {
    actions: Vec<Action>,
    spare: Vec<Action>,
    packets: Buffers,
    adverts: Adverts,
}

/// Adverts to be sent with one system call.
#[derive(Default)]
struct Adverts {
    bytes: Vec<u8>,
    one: Vec<u8>,
    to: Vec<(IfIndex, IpAddr, Range<usize>)>,
}

/// What the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Timer,
    Kernel,
    Completions,
    Inbox,
    Port(IfIndex, Source),
}

const SOURCES: [Source; 4] = [Source::V4, Source::V6, Source::Arp, Source::Nd];

impl Token {
    /// As the 64 bits that epoll carries.
    fn bits(self) -> u64 {
        match self {
            Self::Timer => 0,
            Self::Kernel => 1,
            Self::Completions => 2,
            Self::Inbox => 3,
            Self::Port(index, source) => {
                let source = SOURCES.iter().position(|s| *s == source).unwrap_or(0);
                u64::from(index.0) << 8 | 0x80 | source as u64
            }
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => Some(Self::Timer),
            1 => Some(Self::Kernel),
            2 => Some(Self::Completions),
            3 => Some(Self::Inbox),
            _ => {
                let source = SOURCES.get(usize::try_from(bits & 0x7f).ok()?)?;
                Some(Self::Port(IfIndex(u32::try_from(bits >> 8).ok()?), *source))
            }
        }
    }
}

impl Shell {
    /// Opens what the core thread waits for, and starts the threads that ask the kernel.
    pub(super) fn open(
        inbox: wake::Receiver<Input>,
        outbox: mpsc::Sender<Output>,
    ) -> io::Result<Self> {
        let (answers, completions) = wake::mailbox(COMPLETIONS)?;
        let worker = Worker::spawn(Setup {
            priority: Some(PRIORITY - 1),
            filters: Box::new(filters),
            completions: answers,
        })?;
        let (events, kernel) = wake::mailbox(KERNEL_EVENTS)?;
        let troubles = outbox.clone();
        netlink::watch(Monitor::open()?, Some(PRIORITY - 1), events, move |trouble| {
            let text = trouble.to_string();
            let _ = troubles.try_send(Output::Note(note(
                clock::now(),
                Severity::Warn,
                "netlink",
                text,
            )));
        })?;
        let shell = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: Timer::new()?,
            armed: None,
            now: Instant::BOOT,
            kernel,
            worker,
            completions,
            inbox,
            outbox,
            announcer: Announcer::open()?,
            ports: BTreeMap::new(),
            reloads: VecDeque::new(),
            lost_notes: 0,
            port_failure: None,
            window: (Instant::BOOT, 0),
            exit: false,
        };
        shell.watch(shell.timer.as_fd(), Token::Timer)?;
        shell.watch(shell.kernel.as_fd(), Token::Kernel)?;
        shell.watch(shell.completions.as_fd(), Token::Completions)?;
        shell.watch(shell.inbox.as_fd(), Token::Inbox)?;
        Ok(shell)
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.bits()))?)
    }
}

/// Which frames of others are heard on a port: answers to our probes, and claims of our
/// addresses.
fn filters(spec: &PortSpec) -> Filters {
    let v4 = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    };
    let watched: Vec<_> = spec.watch.iter().filter_map(v4).collect();
    Filters {
        arp: spec.v4.map(|own| announce::arp_filter(own, &watched)),
        nd: spec.v6.map(announce::nd_filter),
    }
}

/// The core thread, until the core says [`Action::Exit`].
pub(super) fn run(
    mut shell: Shell,
    now: Instant,
    config: Arc<Config>,
    me: usize,
    secrets: &Secrets,
    start: &Inheritance,
) {
    if let Err(refused) = realtime::enter(PRIORITY) {
        shell.tell(note(now, Severity::Warn, "realtime-refused", refused.to_string()));
    }
    if let Err(error) = realtime::limit_running(RUNAWAY) {
        let text = format!("a runaway thread would not be ended: RLIMIT_RTTIME: {error}");
        shell.tell(note(now, Severity::Warn, "realtime-refused", text));
    }
    if let Err(error) = realtime::lock_memory() {
        let text = format!("memory is not locked ({error}): a page fault may delay an advert");
        shell.tell(note(now, Severity::Warn, "memory-not-locked", text));
    }
    let mut scratch = Scratch {
        actions: Vec::new(),
        spare: Vec::new(),
        packets: Buffers::default(),
        adverts: Adverts::default(),
    };
    let mut node = Node::new(now, config, me, secrets, start, &mut scratch.actions);
    shell.execute(now, &mut node, &mut scratch);
    while !shell.exit {
        shell.turn(&mut node, &mut scratch);
    }
}

impl Shell {
    /// Waits, hears everything that is queued, then lets time pass.
    ///
    /// A timer that is late is believed only as of a moment after which nothing was queued: a
    /// daemon that was not run for a while, wherever it was paused, hears its peers before it
    /// concludes that they were silent.
    fn turn(&mut self, node: &mut Node, scratch: &mut Scratch) {
        self.arm(node.deadline());
        self.pause_in_flood();
        let mut patience = EpollTimeout::NONE;
        for _ in 0..ROUNDS {
            let mut ready = [EpollEvent::empty(); READY];
            let waited = self.epoll.wait(&mut ready, patience);
            if waited == Ok(0) {
                return self.step(self.now, Event::Tick, node, scratch);
            }
            self.now = clock::now();
            // An interrupted wait says nothing of what is queued.
            let mut more = !waited.is_ok_and(|count| count < READY);
            for event in ready.iter().take(waited.unwrap_or(0)) {
                if let Some(token) = Token::from_bits(event.data()) {
                    more |= self.hear(self.now, token, node, scratch);
                }
            }
            let Some(due) = node.deadline().filter(|at| self.now >= *at) else { return };
            if !more && self.now < due + PROMPT {
                return self.step(self.now, Event::Tick, node, scratch);
            }
            patience = EpollTimeout::ZERO;
        }
        self.step(self.now, Event::Tick, node, scratch);
    }

    /// Sets the timer to the deadline. Each advert heard moves it, and a system call for that is
    /// cheaper than to be woken for nothing.
    fn arm(&mut self, deadline: Option<Instant>) {
        // The last deadline stays armed if this one cannot be.
        if deadline != self.armed && self.timer.arm(deadline).is_ok() {
            self.armed = deadline;
        }
    }

    /// Waits for the end of a window that is full, but no longer than to the deadline.
    fn pause_in_flood(&mut self) {
        let (began, taken) = self.window;
        let end = began + WINDOW;
        if self.now >= end {
            self.window = (self.now, 0);
        } else if taken >= FLOOD {
            let until = self.armed.map_or(end, |at| at.min(end));
            let left = until.since(clock::now()).as_millis();
            let left = i32::try_from(left).ok().and_then(|ms| PollTimeout::try_from(ms).ok());
            let mut timer = [PollFd::new(self.timer.as_fd(), PollFlags::POLLIN)];
            // Interrupted or not: the turn that follows does what is due.
            let _ = poll(&mut timer, left.unwrap_or(PollTimeout::ZERO));
        }
    }

    fn step(&mut self, now: Instant, event: Event<'_>, node: &mut Node, scratch: &mut Scratch) {
        node.step(now, event, &mut scratch.actions);
        self.execute(now, node, scratch);
    }

    /// Takes in what one source has; says whether it may have more.
    fn hear(&mut self, now: Instant, token: Token, node: &mut Node, scratch: &mut Scratch) -> bool {
        match token {
            // The tick that follows moves the deadline, and arming it again clears it.
            Token::Timer => {}
            Token::Kernel => {
                let mut events = Vec::new();
                self.kernel.drain(BUDGET, &mut |event| events.push(event));
                for event in events {
                    self.step(now, event, node, scratch);
                }
            }
            Token::Completions => {
                let mut completions = Vec::new();
                self.completions.drain(BUDGET, &mut |completion| completions.push(completion));
                for completion in completions {
                    self.complete(now, completion, node, scratch);
                }
            }
            Token::Inbox => {
                let mut inputs = Vec::new();
                self.inbox.drain(BUDGET, &mut |input| inputs.push(input));
                for input in inputs {
                    self.answer(now, input, node, scratch);
                }
            }
            Token::Port(index, source) => return self.receive(now, index, source, node, scratch),
        }
        false
    }

    fn complete(
        &mut self,
        now: Instant,
        completion: Completion,
        node: &mut Node,
        scratch: &mut Scratch,
    ) {
        let (task, result) = match completion {
            Completion::Done(task, result) => (task, result),
            Completion::Port(spec, Ok(port)) => {
                self.port_failure = None;
                let result = self.opened(port).map_err(|e| failure(&e));
                (Task::OpenPort(spec), result)
            }
            Completion::Port(spec, Err(error)) => {
                let why = failure(&error.source);
                let text = error.to_string();
                if self.port_failure.as_deref() != Some(&text) {
                    self.tell(note(now, Severity::Error, "port-failed", text.clone()));
                    self.port_failure = Some(text);
                }
                (Task::OpenPort(spec), Err(why))
            }
            Completion::Refused(refused) => {
                self.tell(note(now, Severity::Warn, "realtime-refused", refused.to_string()));
                return;
            }
        };
        self.step(now, Event::Done(task, result), node, scratch);
    }

    /// Uses a port from now on; the one it replaces is closed by the worker.
    fn opened(&mut self, port: Port) -> io::Result<()> {
        for (source, fd) in port.fds() {
            self.watch(fd, Token::Port(port.index(), source))?;
        }
        if let Some(old) = self.ports.insert(port.index(), port) {
            // Where there is no room it was closed at once.
            let _ = self.worker.close(old);
        }
        Ok(())
    }

    fn answer(&mut self, now: Instant, input: Input, node: &mut Node, scratch: &mut Scratch) {
        match input {
            // Whoever asked may have gone.
            Input::Status(to) => drop(to.send(self.complete_status(now, node.status(now)))),
            Input::Ping(to) => drop(to.send(now)),
            Input::Proxy(group, event) => self.step(now, Event::Proxy(group, event), node, scratch),
            Input::Reload(config, secrets, to) => {
                self.reloads.push_back(to);
                self.step(now, Event::Reload(config, secrets), node, scratch);
            }
            Input::Stop => self.step(now, Event::Stop, node, scratch),
        }
    }

    /// Adds what only the shell knows: what the sockets dropped, and a kernel that does not answer.
    fn complete_status(&self, now: Instant, mut status: Status) -> Status {
        let ports = self.ports.values().map(Port::counters);
        let [malformed, full] = ports.fold([0, 0], |[malformed, full], port| {
            [malformed + port.malformed, full + port.dropped]
        });
        status.dropped.push(("malformed-ip-packets".to_owned(), malformed));
        status.dropped.push(("receive-buffer-overflows".to_owned(), full));
        status.dropped.push(("log-lines-lost".to_owned(), log::dropped()));
        if let Some(since) = self.worker.busy_since().filter(|at| now > *at + BUSY) {
            let text = "the kernel does not answer: something holds its network lock".to_owned();
            status.conditions.push(condition("kernel-busy", Severity::Error, text, since));
        }
        status
    }

    fn receive(
        &mut self,
        now: Instant,
        index: IfIndex,
        source: Source,
        node: &mut Node,
        scratch: &mut Scratch,
    ) -> bool {
        let Some(port) = self.ports.get_mut(&index) else { return false };
        let Scratch { actions, packets, .. } = scratch;
        let result = port.receive(source, packets, BUDGET, &mut |received| match received {
            Received::Advert { ifindex, meta, bytes } => {
                node.step(now, Event::Datagram { ifindex, meta, bytes }, actions);
            }
            Received::Arp { ifindex, frame } => {
                if let Some(n) = announce::parse_arp(frame) {
                    node.step(now, Event::Neighbour { ifindex, ip: n.ip, mac: n.mac }, actions);
                }
            }
            Received::Nd { ifindex, frame } => {
                if let Some(n) = announce::parse_nd(frame) {
                    node.step(now, Event::Neighbour { ifindex, ip: n.ip, mac: n.mac }, actions);
                }
            }
        });
        // The interface going down is told by netlink as well, and better.
        let taken = result.unwrap_or(0);
        self.window.1 += taken;
        self.execute(now, node, scratch);
        taken >= BUDGET
    }

    /// Does everything a step asked for, in order; never waits.
    fn execute(&mut self, now: Instant, node: &mut Node, scratch: &mut Scratch) {
        while !scratch.actions.is_empty() {
            std::mem::swap(&mut scratch.actions, &mut scratch.spare);
            let mut actions = std::mem::take(&mut scratch.spare);
            for action in actions.drain(..) {
                if !matches!(action, Action::Advertise { .. }) {
                    self.flush(&mut scratch.adverts);
                }
                self.act(now, action, node, scratch);
            }
            scratch.spare = actions;
        }
        self.flush(&mut scratch.adverts);
    }

    fn act(&mut self, now: Instant, action: Action, node: &mut Node, scratch: &mut Scratch) {
        match action {
            Action::Advertise { group, family, priority } => {
                let Adverts { bytes, one, to } = &mut scratch.adverts;
                node.emit(group, family, priority, one, |ifindex, dst, payload| {
                    let start = bytes.len();
                    bytes.extend_from_slice(payload);
                    to.push((ifindex, dst, start..bytes.len()));
                });
            }
            Action::Announce { ifindex, ip } => self.announce(ifindex, ip, node),
            Action::Probe { ifindex, source, target, mac } => {
                self.probe(ifindex, source, target, mac, node);
            }
            Action::Kernel(Task::ClosePort(index)) => {
                if let Some(port) = self.ports.remove(&index) {
                    // Where there is no room it was closed at once.
                    let _ = self.worker.close(port);
                }
            }
            Action::Kernel(task) => {
                if self.worker.run(task.clone()).is_err() {
                    node.step(now, Event::Done(task, Err(Failure::TimedOut)), &mut scratch.actions);
                }
            }
            Action::Proxy(group, order) => {
                let Some(proxy) = node.proxy(group).cloned() else { return };
                let order = Output::Proxy(group, Box::new(proxy), order);
                if self.outbox.try_send(order).is_err() {
                    let why = "the service runtime does not keep up".into();
                    let failed = Event::Proxy(group, ProxyEvent::Failed { why });
                    node.step(now, failed, &mut scratch.actions);
                }
            }
            Action::Tell { .. }
            | Action::Beat { .. }
            | Action::Guard(_)
            | Action::Gate { .. }
            | Action::Remember { .. }
            | Action::Settled(_) => {}
            Action::Note(told) => self.tell(told),
            Action::Reloaded(changes) => {
                if let Some(to) = self.reloads.pop_front() {
                    // Whoever asked may have gone.
                    let _ = to.send(changes);
                }
            }
            Action::Exit => {
                self.exit = true;
                // The channel closes behind it: a lost word is not missed.
                let _ = self.outbox.try_send(Output::Exit);
            }
        }
    }

    /// Sends the adverts collected, in order; those of one interface go together.
    fn flush(&mut self, adverts: &mut Adverts) {
        let mut rest = adverts.to.as_slice();
        while let Some((index, ..)) = rest.first() {
            let run = rest.iter().take_while(|(i, ..)| i == index).count();
            let (batch, after) = rest.split_at(run);
            if let Some(port) = self.ports.get(index) {
                let batch: Vec<_> = batch
                    .iter()
                    .map(|(_, dst, range)| (*dst, &adverts.bytes[range.clone()]))
                    .collect();
                // A lost advert is a lost packet: the next one is due soon.
                let _ = port.send_adverts(&batch);
            }
            rest = after;
        }
        adverts.to.clear();
        adverts.bytes.clear();
    }

    fn announce(&mut self, ifindex: IfIndex, ip: IpAddr, node: &Node) {
        let Some(mac) = node.mac(ifindex) else { return };
        // A lost announcement is repeated by its schedule.
        let _ = match ip {
            IpAddr::V4(ip) => self.announcer.send(ifindex, &announce::gratuitous_arp(mac, ip)),
            // A load balancer host is a host: it does not claim to be a router.
            IpAddr::V6(ip) => {
                self.announcer.send(ifindex, &announce::unsolicited_na(mac, ip, false))
            }
        };
    }

    fn probe(
        &mut self,
        ifindex: IfIndex,
        source: IpAddr,
        target: IpAddr,
        mac: Option<Mac>,
        node: &Node,
    ) {
        let Some(own) = node.mac(ifindex) else { return };
        // A lost probe is an unanswered one.
        let _ = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                self.announcer.send(ifindex, &announce::arp_probe(own, source, target, mac))
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let frame = announce::neighbour_solicitation(own, source, target, mac);
                self.announcer.send(ifindex, &frame)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Ok(()),
        };
    }

    fn tell(&mut self, mut note: Note) {
        if self.lost_notes > 0 {
            note.text =
                format!("{} ({} notes before this one were lost)", note.text, self.lost_notes);
        }
        match self.outbox.try_send(Output::Note(note)) {
            Ok(()) => self.lost_notes = 0,
            Err(_) => self.lost_notes += 1,
        }
    }
}

fn note(at: Instant, severity: Severity, kind: &str, text: String) -> Note {
    Note { at, severity, group: None, kind: kind.to_owned(), text }
}

fn failure(error: &io::Error) -> Failure {
    Failure::Errno(error.raw_os_error().unwrap_or(0))
}
