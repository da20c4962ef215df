//! A group: elections that share one fate, their addresses, and the proxy behind them.
//!
//! It becomes Active when every one of its elections has been silent for its
//! `Active_Down_Interval`, and gives up when any of them hears a better router.

mod adverts;
mod fitness;
mod lease;
mod remedy;
mod reports;
mod settings;
mod ties;
mod will;

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{self, Run, Transport};
use crate::types::{Family, IfIndex, Instant, Priority};
use crate::wire::vrrp::Expect;

use super::addresses::Addresses;
use super::check::{Damper, Health};
use super::election::{Election, Heard};
use super::event::{Action, Task};
use super::gap::Gap;
use super::links::NotReady;
use super::proxy::Care;
use super::signs::Signs;
use super::status::{Role, Severity};
use super::{Out, why};

pub(crate) use settings::{Settings, spec};
pub(crate) use ties::{Bond, Part, Ties};

/// How long giving up waits for the kernel to remove the addresses before it goes on without.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// Between two unfit nodes that would take over at the same time.
const STAGGER: Duration = Duration::from_millis(5);
/// The first pause between two attempts of an unfit holder to find a better one; doubles.
const YIELD_AGAIN: Duration = Duration::from_secs(10);
/// The longest such pause.
const YIELD_RARELY: Duration = Duration::from_mins(5);

/// One group on this node.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: u16,
    pub(crate) config: config::Group,
    pub(crate) priority: Priority,
    /// The other nodes by the source of their adverts, with the priorities that the file gives them
    /// where checks cost points: only then what they advertise says two things.
    pub(crate) rivals: Vec<(IpAddr, Option<Priority>)>,
    pub(crate) health: Health,
    pub(crate) damper: Damper,
    /// How long this host must be better before that counts.
    recovery_delay: Duration,
    pub(crate) password: Option<[u8; 8]>,
    /// The fixed addresses of everybody else who could hold ours.
    pub(crate) destinations: Vec<IpAddr>,
    pub(crate) elections: Vec<Election>,
    pub(crate) addresses: Addresses,
    pub(crate) proxy: Option<Care>,
    pub(crate) signs: Signs,
    pub(crate) since: Instant,
    pub(crate) why: String,
    /// Where adverts go out, once known.
    pub(crate) port: Option<IfIndex>,
    pub(crate) retired: bool,
    /// An earlier run of the daemon held the addresses, and the kernel serves them until then: this
    /// one goes on as soon as it can, as if nothing had been.
    heir: Option<Instant>,
    /// A move to this host that is under way.
    pub(crate) gap: Option<Gap>,
    /// How long nobody answered at the last one.
    pub(crate) last_gap: Option<Duration>,
    /// The others are to be told that the gate is shut.
    farewell: bool,
    /// How much later than the first node of the file this one takes over when unfit.
    stagger: Duration,
    /// Whether it gave way at once, and connections are to be ended when its addresses are gone.
    gave_way: bool,
    /// [`Group::deadline`] as of the last step that touched the group.
    pub(crate) due: Option<Instant>,
    state: State,
    leaving: Leaving,
    ready: Result<(), NotReady>,
    stopping: bool,
    preempt_from: Option<Instant>,
    /// Since when this host could not serve well.
    pub(crate) unfit_since: Option<Instant>,
    yield_at: Option<Instant>,
    yield_pause: Duration,
    replacement: Option<Box<Settings>>,
    /// When what is stopped makes room: a step after its last advert was ordered, which needs it.
    room_at: Option<Instant>,
    /// What operators allow.
    bounds: will::Bounds,
    /// What the groups let it do that it is kept together with, or apart from.
    pub(crate) ties: Ties,
}

/// Where the group stands; each state owns the deadline that can end it. The elections' timers
/// run beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not taking part; `listen_at` once the interface is ready.
    Init {
        listen_at: Option<Instant>,
    },
    Backup,
    Active,
    /// Addresses are being removed; adverts go on until they are, or until the limit.
    Releasing {
        until: Instant,
        then: Then,
    },
}

/// Whether addresses are still here that are to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    None,
    /// They must be gone by then.
    By(Instant),
    /// They were not.
    Overdue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Init,
    Backup,
}

impl Group {
    pub(crate) fn new(now: Instant, id: u16, settings: Settings, heir: Option<Instant>) -> Self {
        let Settings { config, checks, priority, rivals, password, destinations, rank } = settings;
        let stagger = STAGGER * rank;
        let recovery_delay = settings::recovery_delay(&config, &checks);
        let proxy = config.proxy.clone().map(|p| Care::new(now, p));
        let elections =
            config.families().map(|f| settings::election(&config, password, f)).collect();
        Self {
            id,
            config,
            priority,
            rivals,
            health: Health::new(now, &checks),
            damper: Damper::default(),
            recovery_delay,
            password,
            destinations,
            elections,
            addresses: Addresses::wanted_from_the_start(heir.is_some()),
            proxy,
            signs: Signs::default(),
            since: now,
            why: "starting".to_owned(),
            port: None,
            retired: false,
            heir,
            gap: None,
            last_gap: None,
            farewell: false,
            stagger,
            due: None,
            gave_way: false,
            state: State::Init { listen_at: None },
            leaving: Leaving::None,
            ready: Err(NotReady::Opening("the interface".to_owned())),
            stopping: false,
            preempt_from: None,
            unfit_since: None,
            yield_at: None,
            yield_pause: YIELD_AGAIN,
            replacement: None,
            room_at: None,
            bounds: will::Bounds::default(),
            ties: Ties::default(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        match self.state {
            State::Init { .. } => Role::Init,
            State::Backup => Role::Backup,
            State::Active => Role::Active,
            State::Releasing { .. } => Role::Releasing,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state == State::Active
    }

    pub(crate) fn not_ready(&self) -> Option<&NotReady> {
        self.ready.as_ref().err()
    }

    /// What a received advert must fulfil.
    pub(crate) fn expect(&self) -> Expect {
        let min_hops = match self.config.transport {
            Transport::Multicast => crate::wire::vrrp::HOPS,
            Transport::Unicast { min_hops } => min_hops,
        };
        Expect { version: self.config.version, min_hops, password: self.password }
    }

    pub(crate) fn election(&mut self, family: Family) -> Option<&mut Election> {
        self.elections.iter_mut().find(|e| e.family == family)
    }

    // ---- the interface ----

    /// The interface became able, or unable, to carry adverts.
    pub(crate) fn set_ready(
        &mut self,
        now: Instant,
        ready: Result<(), NotReady>,
        out: &mut Out<'_>,
    ) {
        if self.ready == ready {
            return;
        }
        self.ready = ready;
        match (&self.ready, &self.state) {
            (Ok(()), State::Init { .. }) if self.heir.is_some() => self.resume(now, out),
            (Ok(()), State::Init { .. }) if !self.stopping => self.wait_to_listen(now, out),
            (Err(why), State::Active) => {
                let why = why.to_string();
                self.release(now, Then::Init, why, out);
            }
            (Err(why), State::Backup) => {
                let why = why.to_string();
                self.init(now, why, out);
            }
            (Err(why), State::Init { .. }) => {
                self.why = why.to_string();
                self.state = State::Init { listen_at: None };
            }
            (Err(_), State::Releasing { .. })
            | (
                Ok(()),
                State::Init { .. } | State::Backup | State::Active | State::Releasing { .. },
            ) => {}
        }
    }

    /// A host takes part once it knows how it is: every check has run, and the pause after that is
    /// over.
    fn wait_to_listen(&mut self, now: Instant, out: &mut Out<'_>) {
        if self.stays_out() {
            return;
        }
        if let Some(check) = self.health.unknown().next() {
            self.why = format!("waiting for the first result of check {check}");
            self.state = State::Init { listen_at: None };
            return;
        }
        let listen_at = now + self.config.start_delay;
        self.state = State::Init { listen_at: Some(listen_at) };
        if self.config.start_delay.is_zero() {
            self.listen(now, out);
        } else {
            self.why = format!("waiting {} after start", why::span(self.config.start_delay));
        }
    }

    /// §6.4.1: the owner is Active at once, everybody else listens.
    fn listen(&mut self, now: Instant, out: &mut Out<'_>) {
        let owner = !self.is_leased() && self.effective_priority() == Priority::OWNER;
        let owner = owner && self.may_take() && self.ties.bond.is_none();
        self.preempt_from = None;
        self.damper.forgive(self.deficit());
        for election in &mut self.elections {
            election.listen(now, election.interval);
        }
        self.enter(now, State::Backup, "listening".to_owned(), out);
        if owner {
            self.take(now, "owner of the addresses (priority 255)".to_owned(), out);
        }
    }

    // ---- time ----

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Out<'_>) {
        if self.is_stopped() && self.room_at.take().is_some() {
            self.replace(now, out);
            out.replaced();
        }
        self.addresses.requeue_due(now);
        if let Some(proxy) = &mut self.proxy {
            proxy.tick(now);
        }
        if !self.is_leased() && self.heir.is_some_and(|until| now >= until) {
            self.disinherit(now);
        }
        match self.state {
            State::Init { listen_at: Some(at) } if now >= at && !self.stopping => {
                self.listen(now, out);
            }
            State::Backup if !self.is_leased() && self.may_take() => self.tick_backup(now, out),
            State::Active => self.tick_adverts(now, out),
            State::Releasing { .. } if !self.is_leased() => self.tick_adverts(now, out),
            State::Backup | State::Init { .. } | State::Releasing { .. } => {}
        }
        self.settle(now, out);
    }

    fn tick_backup(&mut self, now: Instant, out: &mut Out<'_>) {
        let own = self.effective_priority();
        if self.down_at(own).is_some_and(|at| now >= at) {
            let heard = self.elections.iter().filter_map(|e| e.heard);
            let heard = heard.max_by_key(|h| (out.knows(h.from), h.at));
            let lately = |h: &Heard| now <= h.at + 2 * self.elections[0].learned.duration();
            let alive = heard.as_ref().is_some_and(lately);
            let worths = heard.as_ref().map(|h| self.against(h.from, h.priority));
            let text = why::takeover(now, worths, heard, alive, out);
            self.take(now, text, out);
        }
    }

    /// When a Backup takes over: all elections must be down, so the last one decides. Nodes that
    /// are unfit have the same priority, and take over in the order of the file.
    fn down_at(&self, own: Priority) -> Option<Instant> {
        let last = self.elections.iter().filter_map(|e| e.down_at(own)).max()?;
        let last = self.ties.last().map_or(last, |others| others.max(last));
        Some(if own == Priority::LEAST { last + self.stagger } else { last })
    }

    fn tick_adverts(&mut self, now: Instant, out: &mut Out<'_>) {
        let own = self.effective_priority();
        let due_at = self.elections.iter().filter_map(Election::advert_at).min();
        if due_at.is_some_and(|at| now >= at) {
            self.keep_open(now, out);
        }
        let mut due = false;
        for ix in 0..self.elections.len() {
            let election = &mut self.elections[ix];
            if election.advert_at().is_some_and(|at| now >= at) {
                election.next_advert(now);
                let family = election.family;
                self.send(family, own, out);
                due = true;
            }
        }
        if due && self.is_active() {
            out.beat(self.port);
        }
    }

    /// §6.4.2: nobody better is left. The advert goes first, the addresses follow, and each is
    /// announced as it comes.
    pub(crate) fn take(&mut self, now: Instant, why: String, out: &mut Out<'_>) {
        let own = self.effective_priority();
        self.keep_open(now, out);
        for ix in 0..self.elections.len() {
            self.elections[ix].arm_advert(now);
            self.elections[ix].counters.activations += 1;
            let family = self.elections[ix].family;
            self.send(family, own, out);
        }
        self.preempt_from = None;
        if !self.is_fit() && !self.is_leased() {
            self.yield_at = Some(now + self.yield_pause);
            self.yield_pause = (self.yield_pause * 2).min(YIELD_RARELY);
        }
        self.enter(now, State::Active, why, out);
        out.beat(self.port);
    }

    // ---- giving up ----

    /// Gives the addresses up gracefully: they go first, then priority 0.
    ///
    /// With a lease the gate shuts first, and the others are told then: see [`Group::say_farewell`].
    fn release(&mut self, now: Instant, then: Then, why: String, out: &mut Out<'_>) {
        self.farewell = self.is_leased();
        self.enter(now, State::Releasing { until: now + RELEASE_LIMIT, then }, why, out);
    }

    fn init(&mut self, now: Instant, why: String, out: &mut Out<'_>) {
        for election in &mut self.elections {
            election.stop();
        }
        self.enter(now, State::Init { listen_at: None }, why, out);
    }

    /// Stops taking part for good.
    pub(crate) fn quit(&mut self, now: Instant, why: &str, out: &mut Out<'_>) {
        (self.replacement, self.room_at) = (None, None);
        self.stop(now, why, out);
    }

    /// Stops taking part, for good or to start anew with other settings.
    fn stop(&mut self, now: Instant, why: &str, out: &mut Out<'_>) {
        self.stopping = true;
        self.disinherit(now);
        match self.state {
            State::Active => self.release(now, Then::Init, why.to_owned(), out),
            State::Releasing { until, .. } => {
                self.state = State::Releasing { until, then: Then::Init }
            }
            State::Backup => self.init(now, why.to_owned(), out),
            State::Init { .. } => {
                self.state = State::Init { listen_at: None };
                why.clone_into(&mut self.why);
            }
        }
        self.settle(now, out);
    }

    /// Whether nothing of the group is left on this host.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Init { .. })
            && self.stopping
            && self.addresses.all_gone()
            && self.proxy.as_ref().is_none_or(Care::is_settled)
    }

    /// Follows up on what changed: finishes a release, yields when unfit, keeps the proxy where
    /// it belongs.
    pub(crate) fn settle(&mut self, now: Instant, out: &mut Out<'_>) {
        self.treat(now, out);
        self.note_fitness(now, out);
        self.note_leaving(now);
        if let State::Releasing { until, then } = self.state
            && (self.addresses.all_gone() || now >= until)
        {
            self.released(now, then, out);
        }
        if self.gave_way && (self.state == State::Active || self.addresses.all_gone()) {
            self.gave_way = false;
            if self.state != State::Active {
                self.end_connections(out);
            }
        }
        if self.state == State::Active && !self.is_leased() {
            self.yield_if_unfit(now, out);
        }
        let id = self.id;
        if let Some(proxy) = &mut self.proxy {
            let want = match proxy.config.run {
                Run::Always => !(self.stopping && proxy.must_stop() && self.addresses.all_gone()),
                Run::Active => {
                    let up = proxy.is_up();
                    let take = self.state == State::Active && (up || self.addresses.all_present());
                    take || (up && !self.addresses.all_gone())
                }
            };
            proxy.set_wanted(want);
            if let Some(order) = proxy.next(now) {
                out.push(Action::Proxy(id, order));
            }
        }
        if self.is_stopped() && (self.retired || self.replacement.is_some()) {
            self.room_at.get_or_insert(now);
        }
    }

    /// Connections to what this host has given up lead nowhere: their clients are to know. Before
    /// anything is added again, as the worker keeps the order.
    fn end_connections(&self, out: &mut Out<'_>) {
        let addresses = self.addresses.slots().iter().map(|s| s.spec.ip).collect();
        out.push(Action::Kernel(Task::Disconnect { group: self.id, addresses }));
    }

    fn released(&mut self, now: Instant, then: Then, out: &mut Out<'_>) {
        let clean = self.addresses.all_gone();
        if clean && self.ready.is_ok() && !self.is_leased() {
            for ix in 0..self.elections.len() {
                let family = self.elections[ix].family;
                self.send(family, Priority::RELEASE, out);
            }
        }
        self.end_connections(out);
        let why = std::mem::take(&mut self.why);
        if !clean {
            let text = format!("{why}; the kernel has not removed every address yet");
            self.note(now, Severity::Error, "address-stuck", text, out);
        }
        match (then, &self.ready) {
            (Then::Backup, Ok(())) => {
                for election in &mut self.elections {
                    election.listen(now, election.learned);
                }
                self.enter(now, State::Backup, why, out);
            }
            (Then::Init, Ok(())) if !self.stopping => {
                self.init(now, why, out);
                self.wait_to_listen(now, out);
            }
            (Then::Init | Then::Backup, _) => self.init(now, why, out),
        }
    }

    /// A peer returned, or might have believed somebody else: says again who holds what.
    pub(crate) fn assert(&mut self, now: Instant, out: &mut Out<'_>) {
        let own = self.effective_priority();
        for ix in 0..self.elections.len() {
            self.assert_in(now, self.elections[ix].family, own, out);
        }
        self.addresses.announce_again(now);
    }

    /// Advertises out of turn, unless that has just been done.
    fn assert_in(&mut self, now: Instant, family: Family, own: Priority, out: &mut Out<'_>) {
        if let Some(election) = self.election(family)
            && election.may_assert(now)
        {
            election.arm_advert(now);
            self.send(family, own, out);
        }
    }

    // ---- helpers ----

    fn enter(&mut self, now: Instant, state: State, why: String, out: &mut Out<'_>) {
        self.state = state;
        self.since = now;
        if !self.is_leased() && matches!(self.state, State::Init { .. } | State::Backup) {
            out.push(Action::Gate { group: self.id, until: None });
        }
        let want = self.state == State::Active;
        if self.addresses.wanted() != want {
            self.addresses.set_wanted(now, want);
        }
        let role = self.role();
        let kind = match role {
            Role::Init | Role::VotesOnly => "init",
            Role::Backup => "backup",
            Role::Active => "active",
            Role::Releasing => "releasing",
        };
        let fault = self.ready.is_err() && matches!(role, Role::Init | Role::Releasing);
        let severity = if fault { Severity::Warn } else { Severity::Info };
        self.note(now, severity, kind, why.clone(), out);
        self.why = why;
    }

    fn send(&mut self, family: Family, priority: Priority, out: &mut Out<'_>) {
        if out.source(self.port, family).is_none() {
            return;
        }
        if let Some(election) = self.election(family) {
            election.counters.sent += 1;
            election.counters.releases_sent += u64::from(priority == Priority::RELEASE);
            out.push(Action::Advertise { group: self.id, family, priority });
        }
    }

    pub(crate) fn note(
        &self,
        now: Instant,
        severity: Severity,
        kind: &str,
        text: String,
        out: &mut Out<'_>,
    ) {
        out.note(now, severity, Some(&self.config.name), kind, text);
    }

    /// When [`Group::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = self.effective_priority();
        let election = match &self.state {
            State::Init { .. } if self.heir.is_some() && !self.is_leased() => self.heir,
            State::Init { listen_at } => *listen_at,
            State::Backup if self.is_leased() || !self.may_take() => None,
            State::Backup => self.down_at(own),
            State::Active => {
                self.elections.iter().filter_map(Election::advert_at).chain(self.yields_at()).min()
            }
            State::Releasing { until, .. } if self.is_leased() => Some(*until),
            State::Releasing { until, .. } => {
                self.elections.iter().filter_map(Election::advert_at).chain([*until]).min()
            }
        };
        let better_at = self.damper.better_at();
        let proxy = self.care_deadline();
        let room_at = self.room_at.filter(|_| self.is_stopped());
        let leave_by = self.leave_by();
        let all = [election, proxy, self.addresses.retry_at(), room_at, leave_by, better_at];
        all.into_iter().flatten().min()
    }
}
