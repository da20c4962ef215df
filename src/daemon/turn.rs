//! THE loop: wait, read the clock once, step, execute, sleep to the deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::sync::{mpsc, oneshot};

use crate::config::{self, Config};
use crate::core::Node;
use crate::core::event::{Action, Event, Failure, ProxyEvent, ProxyOrder, Secrets, Task};
use crate::core::status::{Note, Severity, Status};
use crate::io::clock::{self, Timer};
use crate::io::netlink::Monitor;
use crate::io::packet::Announcer;
use crate::io::port::{Buffers, Port, Received};
use crate::io::realtime;
use crate::io::wake::{self, Waker};
use crate::io::worker::{Completion, Worker};
use crate::types::{IfIndex, Instant};
use crate::wire::announce;

/// Requests of the service runtime that may wait.
pub(super) const INBOX: usize = 1024;
/// Notes and orders to the service runtime that may wait.
pub(super) const OUTBOX: usize = 4096;
/// The core thread's stack: all of it is locked once touched.
pub(super) const STACK: usize = 512 * 1024;

/// `SCHED_RR` priority of the core thread; the worker's is one less.
const PRIORITY: i32 = 50;
/// Packets taken from one socket before the others have their turn.
const BUDGET: usize = 256;
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
    monitor: Monitor,
    worker: Worker,
    completions: wake::Receiver<Completion>,
    inbox: wake::Receiver<Input>,
    outbox: mpsc::Sender<Output>,
    announcer: Announcer,
    ports: BTreeMap<IfIndex, Port>,
    reloads: Vec<oneshot::Sender<Vec<String>>>,
    lost_notes: u64,
    exit: bool,
}

/// Storage that every turn uses again.
#[derive(Default)]
struct Scratch {
    actions: Vec<Action>,
    payload: Vec<u8>,
    frame: Vec<u8>,
    events: Vec<Event<'static>>,
    packets: Buffers,
}

impl Shell {
    /// Opens what the core thread waits for, and starts the worker.
    pub(super) fn open(inbox: wake::Receiver<Input>, outbox: mpsc::Sender<Output>) -> io::Result<Self> {
        let (sender, completions) = wake::mailbox(wake::COMPLETIONS)?;
        let worker = Worker::spawn(sender, PRIORITY - 1)?;
        let shell = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: Timer::new()?,
            armed: None,
            monitor: Monitor::open()?,
            worker,
            completions,
            inbox,
            outbox,
            announcer: Announcer::open()?,
            ports: BTreeMap::new(),
            reloads: Vec::new(),
            lost_notes: 0,
            exit: false,
        };
        shell.watch(shell.timer.as_fd())?;
        shell.watch(shell.monitor.as_fd())?;
        shell.watch(shell.completions.as_fd())?;
        shell.watch(shell.inbox.as_fd())?;
        Ok(shell)
    }

    fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?)
    }
}

/// The core thread, until the core says [`Action::Exit`].
pub(super) fn run(
    mut shell: Shell,
    now: Instant,
    config: Arc<Config>,
    me: usize,
    secrets: &Secrets,
    orphans: BTreeSet<IpAddr>,
) {
    let refused = realtime::enter(PRIORITY).err().into_iter().chain(realtime::lock_memory().err());
    for why in refused {
        shell.tell(note(now, Severity::Warn, "realtime-refused", why.to_string()));
    }
    let mut scratch = Scratch::default();
    let mut node = Node::new(now, config, me, secrets, orphans, &mut scratch.actions);
    shell.execute(now, &mut node, &mut scratch);
    while !shell.exit {
        shell.sleep(&node);
        shell.turn(&mut node, &mut scratch);
    }
}

impl Shell {
    /// Waits until something can be read or the deadline has come.
    fn sleep(&mut self, node: &Node) {
        let deadline = node.deadline();
        if deadline != self.armed {
            self.timer.arm(deadline);
            self.armed = deadline;
        }
        let mut ready = [EpollEvent::empty(); 1];
        // An interrupted wait is a short one: the turn that follows finds nothing to do.
        let _ = self.epoll.wait(&mut ready, EpollTimeout::NONE);
    }

    /// Hears everything that is queued, then lets time pass.
    fn turn(&mut self, node: &mut Node, scratch: &mut Scratch) {
        self.timer.clear();
        for _ in 0..ROUNDS {
            let now = clock::now();
            let mut heard = self.kernel(now, node, scratch);
            heard |= self.service(now, node, scratch);
            heard |= self.packets(now, node, scratch);
            let due = node.deadline().is_some_and(|at| now >= at);
            if !(heard && due) {
                break;
            }
        }
        let now = clock::now();
        if node.deadline().is_some_and(|at| now >= at) {
            self.step(now, Event::Tick, node, scratch);
            self.armed = None;
        }
    }

    fn step(&mut self, now: Instant, event: Event<'_>, node: &mut Node, scratch: &mut Scratch) {
        node.step(now, event, &mut scratch.actions);
        self.execute(now, node, scratch);
    }

    /// Completions and netlink events; says whether there may be more.
    fn kernel(&mut self, now: Instant, node: &mut Node, scratch: &mut Scratch) -> bool {
        let mut more = false;
        self.completions.clear();
        for _ in 0..BUDGET {
            let Some(completion) = self.completions.try_recv() else { break };
            more = true;
            let (task, result) = match completion {
                Completion::Done(task, result) => (task, result),
                Completion::Port(spec, Ok(port)) => (Task::OpenPort(spec.clone()), self.opened(spec.index, port)),
                Completion::Port(spec, Err(error)) => (Task::OpenPort(spec), Err(failure(&error))),
            };
            self.step(now, Event::Done(task, result), node, scratch);
        }
        let mut events = std::mem::take(&mut scratch.events);
        self.monitor.drain(&mut |event| events.push(event));
        for event in events.drain(..) {
            self.step(now, event, node, scratch);
        }
        scratch.events = events;
        more
    }

    fn opened(&mut self, index: IfIndex, port: Port) -> Result<(), Failure> {
        for fd in port.fds() {
            self.watch(fd).map_err(|e| failure(&e))?;
        }
        self.ports.insert(index, port);
        Ok(())
    }

    fn service(&mut self, now: Instant, node: &mut Node, scratch: &mut Scratch) -> bool {
        self.inbox.clear();
        let mut more = false;
        for _ in 0..BUDGET {
            let Some(input) = self.inbox.try_recv() else { break };
            more = true;
            match input {
                // Whoever asked may have gone.
                Input::Status(to) => drop(to.send(node.status(now))),
                Input::Ping(to) => drop(to.send(now)),
                Input::Proxy(group, event) => {
                    self.step(now, Event::Proxy(group, event), node, scratch);
                }
                Input::Reload(config, secrets, to) => {
                    self.reloads.push(to);
                    self.step(now, Event::Reload(config, secrets), node, scratch);
                }
                Input::Stop => self.step(now, Event::Stop, node, scratch),
            }
        }
        more
    }

    /// What came in on the sockets; says whether there may be more.
    fn packets(&mut self, now: Instant, node: &mut Node, scratch: &mut Scratch) -> bool {
        let mut more = false;
        let mut ports = std::mem::take(&mut self.ports);
        let mut buffers = std::mem::take(&mut scratch.packets);
        for (index, port) in &mut ports {
            let ifindex = *index;
            let Scratch { actions, .. } = scratch;
            let taken = port.receive(&mut buffers, BUDGET, &mut |received| match received {
                Received::Advert { meta, bytes } => {
                    node.step(now, Event::Datagram { ifindex, meta, bytes }, actions);
                }
                Received::Arp(frame) => {
                    if let Some(n) = announce::parse_arp(frame) {
                        node.step(now, Event::Neighbour { ifindex, ip: n.ip, mac: n.mac }, actions);
                    }
                }
                Received::Nd(frame) => {
                    if let Some(n) = announce::parse_nd(frame) {
                        node.step(now, Event::Neighbour { ifindex, ip: n.ip, mac: n.mac }, actions);
                    }
                }
            });
            more |= taken >= BUDGET;
        }
        scratch.packets = buffers;
        // A port that was opened meanwhile would be lost otherwise; none can be, but say so.
        ports.append(&mut self.ports);
        self.ports = ports;
        self.execute(now, node, scratch);
        more
    }

    /// Does everything a step asked for, in order; never waits.
    fn execute(&mut self, now: Instant, node: &mut Node, scratch: &mut Scratch) {
        while !scratch.actions.is_empty() {
            let mut actions = std::mem::take(&mut scratch.actions);
            for action in actions.drain(..) {
                self.act(now, action, node, scratch);
            }
            // Refusals may have been answered by steps of their own.
            if scratch.actions.is_empty() {
                scratch.actions = actions;
                break;
            }
        }
    }

    fn act(&mut self, now: Instant, action: Action, node: &mut Node, scratch: &mut Scratch) {
        match action {
            Action::Advertise { group, family, priority } => {
                let ports = &self.ports;
                node.emit(group, family, priority, &mut scratch.payload, |ifindex, dst, bytes| {
                    if let Some(port) = ports.get(&ifindex) {
                        // A lost advert is a lost packet: the next one is due soon.
                        let _ = port.send_advert(dst, bytes);
                    }
                });
            }
            Action::Announce { ifindex, ip } => self.announce(ifindex, ip, node, scratch),
            Action::Probe { ifindex, source, target, mac } => {
                let Some(own) = node.mac(ifindex) else { return };
                scratch.frame.clear();
                match (source, target) {
                    (IpAddr::V4(source), IpAddr::V4(target)) => {
                        announce::arp_probe(own, source, target, mac, &mut scratch.frame);
                    }
                    (IpAddr::V6(source), IpAddr::V6(target)) => {
                        announce::neighbour_solicitation(own, source, target, mac, &mut scratch.frame);
                    }
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return,
                }
                let _ = self.announcer.send(ifindex, &scratch.frame);
            }
            Action::Kernel(Task::ClosePort(index)) => drop(self.ports.remove(&index)),
            Action::Kernel(task) => {
                if let Err(task) = self.worker.submit(task) {
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
            Action::Note(note) => self.tell(note),
            Action::Reloaded(changes) => {
                if let Some(to) = self.reloads.pop() {
                    drop(to.send(changes));
                }
            }
            Action::Exit => {
                self.exit = true;
                let _ = self.outbox.try_send(Output::Exit);
            }
        }
    }

    fn announce(&mut self, ifindex: IfIndex, ip: IpAddr, node: &Node, scratch: &mut Scratch) {
        let Some(mac) = node.mac(ifindex) else { return };
        scratch.frame.clear();
        match ip {
            IpAddr::V4(ip) => announce::gratuitous_arp(mac, ip, &mut scratch.frame),
            // A load balancer host is a host: it does not claim to be a router.
            IpAddr::V6(ip) => announce::unsolicited_na(mac, ip, false, &mut scratch.frame),
        }
        // A lost announcement is repeated by its schedule.
        let _ = self.announcer.send(ifindex, &scratch.frame);
    }

    fn tell(&mut self, mut note: Note) {
        if self.lost_notes > 0 {
            note.text = format!("{} ({} notes before this one were lost)", note.text, self.lost_notes);
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
