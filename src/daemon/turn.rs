//! THE loop: wait, read the clock once, step, execute, sleep to the deadline.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Member};
use crate::core;
use crate::core::event::{Action, Event, Failure, Inheritance, PortSpec, Secrets, Task};
use crate::core::status::{GateStatus, Note, Severity};
use crate::io::ballots::Ballots;
use crate::io::clock::{self, Timer};
use crate::io::netlink::{self, Monitor};
use crate::io::packet::Announcer;
use crate::io::port::{Buffers, Filters, Port, Received, Source};
use crate::io::sockdiag::Ended;
use crate::io::worker::{Completion, Gatekeeper, Setup, Worker};
use crate::io::{realtime, wake};
use crate::types::{IfIndex, Incarnation, Instant};
use crate::wire::announce;
use crate::wire::peer::Keyring;

use super::act::Adverts;
use super::clients::Desk;
use super::fencing::Devices;
use super::gatekeeper::Deadlines;
use super::recorder::{Node, Recorder};
use super::routing::Router;
pub(super) use super::talk::{Fresh, Input, Output};
use super::token::{MOST_PATHS, Token};
use super::voters::Voters;
use super::watchdog::Feeding;

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

/// Everything outside, as the core thread holds it.
pub(super) struct Shell {
    epoll: Epoll,
    timer: Timer,
    armed: Option<Instant>,
    /// When the current turn began.
    pub(super) now: Instant,
    kernel: wake::Receiver<Event<'static>>,
    pub(super) worker: Worker,
    completions: wake::Receiver<Completion>,
    inbox: wake::Receiver<Input>,
    pub(super) outbox: mpsc::Sender<Output>,
    pub(super) announcer: Announcer,
    pub(super) ports: BTreeMap<IfIndex, Port>,
    pub(super) reloads: VecDeque<oneshot::Sender<Vec<String>>>,
    pub(super) lost_notes: u64,
    /// Why a port could not be opened, as told last.
    port_failure: Option<String>,
    /// Packets taken since.
    window: (Instant, usize),
    pub(super) exit: bool,
    /// It was told that connections cannot be ended.
    pub(super) keeps_connections: bool,
    /// When the kernel stops serving which group.
    pub(super) deadlines: Option<Deadlines>,
    /// What is known of the gate.
    pub(super) gate: Option<GateStatus>,
    /// What keeps the routes and rules.
    pub(super) router: Router,
    /// What resets this host.
    pub(super) feeding: Feeding,
    /// Where it is told what clients have to do with.
    pub(super) desk: Desk,
    /// The other voters, where there is a channel to them.
    pub(super) voters: Option<Voters>,
    /// This node's votes, where they outlive it.
    pub(super) ballots: Option<Ballots>,
    /// The configuration that the voters and their places are those of.
    config: Arc<Config>,
    /// Which run of the daemon this is.
    run: Incarnation,
    keys: Option<Keyring>,
}

/// What the core thread starts with.
pub(super) struct Start {
    pub(super) config: Arc<Config>,
    pub(super) me: usize,
    pub(super) secrets: Secrets,
    pub(super) inheritance: Inheritance,
    pub(super) keeper: Option<Box<dyn Gatekeeper>>,
    pub(super) deadlines: Option<Deadlines>,
    /// Why there is no gate.
    pub(super) no_gate: Option<Box<str>>,
    pub(super) ballots: Option<Ballots>,
    pub(super) keys: Option<Keyring>,
    pub(super) run: Incarnation,
    /// The file of routes and rules that may be left.
    pub(super) remains: PathBuf,
    /// Where everything that happens is written down.
    pub(super) recorder: Option<Recorder>,
}

/// Storage that every turn uses again.
pub(super) struct Scratch {
    pub(super) actions: Vec<Action>,
    pub(super) spare: Vec<Action>,
    packets: Buffers,
    pub(super) adverts: Adverts,
}

impl Shell {
    /// Opens what the core thread waits for, and starts the threads that ask the kernel.
    pub(super) fn open(
        start: &mut Start,
        inbox: wake::Receiver<Input>,
        (outbox, desk): (mpsc::Sender<Output>, Desk),
    ) -> io::Result<Self> {
        let (answers, completions) = wake::mailbox(COMPLETIONS)?;
        let worker = Worker::spawn(Setup {
            priority: Some(PRIORITY - 1),
            filters: Box::new(filters),
            gate: start.keeper.take(),
            completions: answers,
        })?;
        let (events, kernel) = wake::mailbox(KERNEL_EVENTS)?;
        let router = Router::spawn(start.remains.clone(), PRIORITY - 1, events.clone())?;
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
        let mut shell = Self {
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
            keeps_connections: false,
            deadlines: start.deadlines.take(),
            gate: None,
            router,
            feeding: Feeding::default(),
            desk,
            voters: None,
            ballots: start.ballots.take(),
            config: Arc::clone(&start.config),
            run: start.run,
            keys: start.keys.take(),
        };
        shell.watch(shell.timer.as_fd(), Token::Timer)?;
        shell.watch(shell.kernel.as_fd(), Token::Kernel)?;
        shell.watch(shell.completions.as_fd(), Token::Completions)?;
        shell.watch(shell.inbox.as_fd(), Token::Inbox)?;
        shell.open_voters(start.me)?;
        Ok(shell)
    }

    /// Opens the channel to the other voters of the configuration, where it needs one.
    fn open_voters(&mut self, me: usize) -> io::Result<()> {
        self.voters = None;
        let keys = self.keys.clone().filter(|_| self.config.has_channel());
        if let Some(keys) = keys {
            let voters = Voters::open(&self.config, Member::Node(me), keys, self.run)?;
            for (path, fd) in voters.fds() {
                self.watch(fd, Token::Peers(u8::try_from(path).unwrap_or(MOST_PATHS)))?;
            }
            self.voters = Some(voters);
        }
        Ok(())
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
pub(super) fn run(mut shell: Shell, start: Start) {
    let now = clock::now();
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
    let Start { config, me, secrets, inheritance, no_gate, mut recorder, .. } = start;
    let name = config.nodes[me].name.clone();
    let core = core::Node::new(now, config, me, &secrets, &inheritance, &mut scratch.actions);
    if let Some(recorder) = &mut recorder {
        recorder.start(now, &name, &inheritance, &scratch.actions);
    }
    let mut node = Node::new(core, recorder);
    if let Some(why) = no_gate {
        node.step(now, Event::Gate(Err(why)), &mut scratch.actions);
    }
    shell.execute(now, &mut node, &mut scratch);
    while !shell.exit {
        shell.turn(&mut node, &mut scratch);
        shell.feed(&mut node, &mut scratch);
    }
    shell.feeding.end();
    shell.router.finish();
}

impl Shell {
    /// Waits, hears everything that is queued, then lets time pass.
    ///
    /// A timer that is late is believed only as of a moment after which nothing was queued: a
    /// daemon that was not run for a while, wherever it was paused, hears its peers before it
    /// concludes that they were silent.
    fn turn(&mut self, node: &mut Node, scratch: &mut Scratch) {
        let greet = self.voters.as_ref().and_then(Voters::deadline);
        let meal = self.feeding.deadline();
        self.arm(node.deadline().into_iter().chain(greet).chain(meal).min());
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
            self.greet();
            let Some(due) = node.deadline().filter(|at| self.now >= *at) else { return };
            if !more && self.now < due + PROMPT {
                return self.step(self.now, Event::Tick, node, scratch);
            }
            patience = EpollTimeout::ZERO;
        }
        self.step(self.now, Event::Tick, node, scratch);
    }

    /// Greets voters that are due to be greeted.
    fn greet(&mut self) {
        if let Some(voters) = &mut self.voters
            && voters.deadline().is_some_and(|at| self.now >= at)
        {
            voters.tick(self.now);
        }
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

    pub(super) fn step(
        &mut self,
        now: Instant,
        event: Event<'_>,
        node: &mut Node,
        scratch: &mut Scratch,
    ) {
        node.step(now, event, &mut scratch.actions);
        self.execute(now, node, scratch);
        if !Arc::ptr_eq(node.config(), &self.config) {
            self.adopt(node);
        }
    }

    /// Talks to the voters of the configuration that the core has just switched to.
    fn adopt(&mut self, node: &Node) {
        let voters = |c: &Config| -> Vec<(String, Vec<IpAddr>)> {
            c.voters().map(|v| (v.name.to_owned(), v.addresses().collect())).collect()
        };
        let old = std::mem::replace(&mut self.config, Arc::clone(node.config()));
        let same = old.port == self.config.port && voters(&old) == voters(&self.config);
        match &mut self.voters {
            Some(channel) if same && self.config.has_channel() => channel.set_groups(&self.config),
            _ => {
                if let Err(error) = self.open_voters(node.me()) {
                    let text = format!("the channel to the other voters: {error}");
                    self.tell(note(self.now, Severity::Error, "port-failed", text));
                }
            }
        }
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
                    if matches!(event, Event::Link(_) | Event::LinkGone(_) | Event::ResyncEnd) {
                        self.worker.look();
                    }
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
            Token::Peers(path) => return self.hear_voters(usize::from(path), node, scratch),
            Token::Port(index, source) => return self.receive(now, index, source, node, scratch),
        }
        false
    }

    /// Hears the other voters: each of their messages at a moment read after it came.
    fn hear_voters(&mut self, path: usize, node: &mut Node, scratch: &mut Scratch) -> bool {
        let Some(mut voters) = self.voters.take() else { return false };
        let mut last = self.now;
        let Scratch { actions, packets, .. } = scratch;
        let mut step = |now, event: Event<'_>| {
            last = now;
            node.step(now, event, actions);
        };
        let desk = &self.desk;
        let taken = voters.receive(path, (packets, BUDGET), &mut step, &mut |told| desk.hear(told));
        self.voters = Some(voters);
        self.now = last;
        self.window.1 += taken;
        self.execute(last, node, scratch);
        if !Arc::ptr_eq(node.config(), &self.config) {
            self.adopt(node);
        }
        taken >= BUDGET
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
            Completion::Disconnected(group, addresses, ended) => {
                let (ended, clients) = match ended {
                    Ok(Ended { count, clients }) => (Ok(count), clients),
                    Err(why) => (Err(why), Vec::new()),
                };
                self.desk.ended(addresses, clients);
                return self.disconnected(now, node.group_name(group), ended);
            }
            Completion::Gate(told) => {
                let ready = told.as_ref().map(|_| ()).map_err(Clone::clone);
                self.gate = told.ok();
                return self.step(now, Event::Gate(ready), node, scratch);
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
            Input::Reload(fresh, to) => {
                self.reloads.push_back(to);
                self.refresh(*fresh, node, scratch);
            }
            Input::Move(group, to) => self.step(now, Event::Move(group, to), node, scratch),
            Input::Connections(sheet) => {
                if let Some(voters) = &mut self.voters {
                    voters.share(&sheet);
                }
            }
            Input::Devices(to) => drop(to.send(Devices::of(node))),
            Input::Will(order, to) => {
                self.step(now, Event::Will(*order), node, scratch);
                drop(to.send(node.will(now)));
            }
            Input::Decided(to) => drop(to.send(node.will(now))),
            Input::Checked(told) => self.step(now, Event::Checked(told), node, scratch),
            Input::Fence(told) => self.step(now, Event::Fence(told), node, scratch),
            Input::Clock(told) => self.step(now, Event::Clock(told), node, scratch),
            Input::Watchdog(arming, taken) => {
                self.arm_watchdog(*arming, node, scratch);
                // Whoever waits for that may have gone.
                let _ = taken.send(());
            }
            Input::Stop => self.step(now, Event::Stop, node, scratch),
            Input::Leave => self.step(now, Event::Leave, node, scratch),
        }
    }

    /// Takes a new configuration with what was read for it. Votes go on in the new file before
    /// that takes the place of the old one.
    fn refresh(&mut self, fresh: Fresh, node: &mut Node, scratch: &mut Scratch) {
        let Fresh { config, secrets, keys, ballots, text } = fresh;
        node.set_text(text);
        if let (Some(keys), Some(voters)) = (&keys, &mut self.voters) {
            voters.set_keys(keys.clone());
        }
        self.keys = keys;
        if let Some(mut ballots) = ballots {
            for (group, vote) in node.votes() {
                // Without a record it is forgotten by a later run, which is quiet then.
                let _ = ballots.write(&group, &vote);
            }
            if ballots.publish().is_ok() {
                self.ballots = Some(ballots);
            }
        }
        self.step(self.now, Event::Reload(config, secrets), node, scratch);
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
}

pub(super) fn note(at: Instant, severity: Severity, kind: &str, text: String) -> Note {
    Note { at, severity, group: None, kind: kind.to_owned(), text, about: None }
}

fn failure(error: &io::Error) -> Failure {
    Failure::Errno(error.raw_os_error().unwrap_or(0))
}
