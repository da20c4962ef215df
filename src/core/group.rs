//! A group: elections that share one fate, their addresses, and the proxy behind them.
//!
//! It becomes Active when every one of its elections has been silent for its
//! `Active_Down_Interval`, and gives up when any of them hears a better router.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{self, Run, Transport};
use crate::types::{Family, IfIndex, Instant, Priority, Version};
use crate::wire::vrrp::{Advert, Expect, Template, max_addresses};

use super::addresses::{Addresses, Meaning, Op};
use super::election::{Election, Rival};
use super::event::{Action, AddressSpec, Failure, ProxyEvent};
use super::links::NotReady;
use super::proxy::{Care, Told};
use super::signs::Signs;
use super::status::{Role, Severity};
use super::{Out, why};

/// How long giving up waits for the kernel to remove the addresses before it goes on without.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// The first pause between two attempts of an unfit holder to find a better one; doubles.
const YIELD_AGAIN: Duration = Duration::from_secs(10);
/// The longest such pause.
const YIELD_RARELY: Duration = Duration::from_mins(5);

/// What an advert may fill: it is never fragmented on an Ethernet.
const MTU: u32 = 1500;

/// One group on this node.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: u16,
    pub(crate) config: config::Group,
    pub(crate) priority: Priority,
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
    state: State,
    ready: Result<(), NotReady>,
    stopping: bool,
    preempt_from: Option<Instant>,
    yield_at: Option<Instant>,
    yield_pause: Duration,
    replacement: Option<Box<Settings>>,
    /// When what is stopped makes room: a step after its last advert was ordered, which needs it.
    room_at: Option<Instant>,
}

/// What a group is made from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: config::Group,
    pub(crate) priority: Priority,
    pub(crate) password: Option<[u8; 8]>,
    /// The other nodes and routers.
    pub(crate) destinations: Vec<IpAddr>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Init,
    Backup,
}

impl Group {
    pub(crate) fn new(now: Instant, id: u16, settings: Settings) -> Self {
        let Settings { config, priority, password, destinations } = settings;
        let proxy = config.proxy.clone().map(|p| Care::new(now, p));
        let elections = config.families().map(|f| election(&config, password, f)).collect();
        Self {
            id,
            config,
            priority,
            password,
            destinations,
            elections,
            addresses: Addresses::default(),
            proxy,
            signs: Signs::default(),
            since: now,
            why: "starting".to_owned(),
            port: None,
            retired: false,
            state: State::Init { listen_at: None },
            ready: Err(NotReady::Opening("the interface".to_owned())),
            stopping: false,
            preempt_from: None,
            yield_at: None,
            yield_pause: YIELD_AGAIN,
            replacement: None,
            room_at: None,
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

    /// Whether this host could serve the addresses well.
    pub(crate) fn is_fit(&self) -> bool {
        self.addresses.trouble().is_none() && self.proxy.as_ref().is_none_or(Care::is_fit)
    }

    /// The priority in force: the least there is while this host is unfit.
    pub(crate) fn effective_priority(&self) -> Priority {
        if self.is_fit() { self.priority } else { Priority::LEAST }
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

    fn wait_to_listen(&mut self, now: Instant, out: &mut Out<'_>) {
        let listen_at = now + self.config.start_delay;
        self.state = State::Init { listen_at: Some(listen_at) };
        if self.config.start_delay.is_zero() {
            self.listen(now, out);
        } else {
            self.why = format!("waiting {:?} after start", self.config.start_delay);
        }
    }

    /// §6.4.1: the owner is Active at once, everybody else listens.
    fn listen(&mut self, now: Instant, out: &mut Out<'_>) {
        let owner = self.effective_priority() == Priority::OWNER;
        self.preempt_from = None;
        for election in &mut self.elections {
            election.listen(now, election.interval);
        }
        self.enter(now, State::Backup, "listening".to_owned(), out);
        if owner {
            self.take(now, "owner of the addresses (priority 255)".to_owned(), out);
        }
    }

    // ---- adverts ----

    /// An advert that passed every check; the RFC's §6.4.2 and §6.4.3.
    pub(crate) fn advert(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let own = self.effective_priority();
        let Some(election) = self.elections.iter_mut().find(|e| e.family == family) else { return };
        election.hear(now, from, advert);
        match self.state {
            State::Init { .. } => {}
            State::Backup | State::Releasing { then: Then::Backup, .. } => {
                self.advert_in_backup(now, family, own, advert);
            }
            State::Active => self.advert_in_active(now, family, from, own, advert, out),
            State::Releasing { then: Then::Init, .. } => {}
        }
    }

    fn advert_in_backup(
        &mut self,
        now: Instant,
        family: Family,
        own: Priority,
        advert: &Advert<'_>,
    ) {
        let preempts = self.preempts(now, own, advert.priority);
        let Some(election) = self.elections.iter_mut().find(|e| e.family == family) else { return };
        if matches!(self.state, State::Releasing { .. }) {
            election.learned = advert.interval;
            return;
        }
        if advert.priority == Priority::RELEASE {
            election.listen_briefly(now);
        } else if !preempts {
            election.listen(now, advert.interval);
        }
    }

    /// Whether an Active router of `priority` is to be preempted by now (§6.1 Preempt_Mode).
    fn preempts(&mut self, now: Instant, own: Priority, priority: Priority) -> bool {
        if priority >= own {
            self.preempt_from = None;
            return false;
        }
        if own == Priority::OWNER {
            return true;
        }
        self.preempt_from.get_or_insert(now);
        self.is_preempting(now)
    }

    /// Whether a lesser Active router has been left alone for long enough.
    fn is_preempting(&self, now: Instant) -> bool {
        let due = self.preempt_from.map(|from| from + self.config.preempt_delay);
        self.config.preempt && due.is_some_and(|at| now >= at)
    }

    fn advert_in_active(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        own: Priority,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let source = out.source(self.port, family);
        match Election::compare(own, source, from, advert.priority) {
            Rival::Better => self.lose(now, family, from, advert, out),
            rival @ (Rival::Gone | Rival::Worse) => {
                let Some(election) = self.elections.iter_mut().find(|e| e.family == family) else {
                    return;
                };
                if election.may_assert(now) {
                    election.arm_advert(now);
                    self.send(family, own, out);
                }
                if self.signs.rival.see(now, from) {
                    let text = match rival {
                        Rival::Gone => format!("{} gave up; announced again", out.name(from)),
                        Rival::Worse | Rival::Better => format!(
                            "{} also claimed the addresses with priority {} < {own}; advertised and \
                             announced again",
                            out.name(from),
                            advert.priority
                        ),
                    };
                    self.note(now, Severity::Warn, "rival", text, out);
                }
                self.addresses.announce_again(now);
            }
        }
    }

    /// §6.4.3: a better router is Active. One last advert tells it that clients may have
    /// listened to us, so that it announces the addresses again.
    fn lose(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let own = self.effective_priority();
        self.send(family, own, out);
        for election in &mut self.elections {
            let interval =
                if election.family == family { advert.interval } else { election.learned };
            election.listen(now, interval);
        }
        let others: Vec<_> =
            self.elections.iter().map(|e| e.family).filter(|f| *f != family).collect();
        let than = if advert.priority == own {
            "same priority, higher address"
        } else {
            "higher priority"
        };
        let text = format!(
            "{} is Active with priority {} ({than} than our {own})",
            out.name(from),
            advert.priority
        );
        self.enter(now, State::Backup, text, out);
        for family in others {
            self.send(family, Priority::RELEASE, out);
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
        match self.state {
            State::Init { listen_at: Some(at) } if now >= at && !self.stopping => {
                self.listen(now, out)
            }
            State::Backup => self.tick_backup(now, out),
            State::Active | State::Releasing { .. } => self.tick_adverts(now, out),
            State::Init { .. } => {}
        }
        self.settle(now, out);
    }

    fn tick_backup(&mut self, now: Instant, out: &mut Out<'_>) {
        let own = self.effective_priority();
        if self.elections.iter().all(|e| e.is_down(now, own)) {
            let heard = self.elections.iter().filter_map(|e| e.heard).max_by_key(|h| h.at);
            let text = why::takeover(now, own, heard, self.is_preempting(now), out);
            self.take(now, text, out);
        }
    }

    fn tick_adverts(&mut self, now: Instant, out: &mut Out<'_>) {
        let own = self.effective_priority();
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
    fn take(&mut self, now: Instant, why: String, out: &mut Out<'_>) {
        let own = self.effective_priority();
        for ix in 0..self.elections.len() {
            self.elections[ix].arm_advert(now);
            self.elections[ix].counters.activations += 1;
            let family = self.elections[ix].family;
            self.send(family, own, out);
        }
        self.preempt_from = None;
        if !self.is_fit() {
            self.yield_at = Some(now + self.yield_pause);
            self.yield_pause = (self.yield_pause * 2).min(YIELD_RARELY);
        }
        self.enter(now, State::Active, why, out);
        out.beat(self.port);
    }

    // ---- giving up ----

    /// Gives the addresses up gracefully: they go first, then priority 0.
    fn release(&mut self, now: Instant, then: Then, why: String, out: &mut Out<'_>) {
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
        if let State::Releasing { until, then } = self.state
            && (self.addresses.all_gone() || now >= until)
        {
            self.released(now, then, out);
        }
        if self.state == State::Active {
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

    fn released(&mut self, now: Instant, then: Then, out: &mut Out<'_>) {
        let clean = self.addresses.all_gone();
        if clean && self.ready.is_ok() {
            for ix in 0..self.elections.len() {
                let family = self.elections[ix].family;
                self.send(family, Priority::RELEASE, out);
            }
        }
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

    /// An unfit holder gives way, and finds out so whether anybody fitter is there; if nobody is,
    /// it takes the addresses back with the least priority.
    fn yield_if_unfit(&mut self, now: Instant, out: &mut Out<'_>) {
        if self.is_fit() {
            self.yield_at = None;
            self.yield_pause = YIELD_AGAIN;
            return;
        }
        if !self.destinations.is_empty() && self.yield_at.is_none_or(|at| now >= at) {
            let why = format!("unfit: {}", why::unfit(self));
            self.yield_at = None;
            self.release(now, Then::Backup, why, out);
        }
    }

    /// A peer returned, or might have believed somebody else: says again who holds what.
    pub(crate) fn assert(&mut self, now: Instant, out: &mut Out<'_>) {
        let own = self.effective_priority();
        for ix in 0..self.elections.len() {
            if self.elections[ix].may_assert(now) {
                self.elections[ix].arm_advert(now);
                let family = self.elections[ix].family;
                self.send(family, own, out);
            }
        }
        self.addresses.announce_again(now);
    }

    // ---- the addresses and the proxy ----

    /// The kernel answered a request.
    pub(crate) fn address_done(
        &mut self,
        now: Instant,
        slot: u16,
        op: Op,
        spec: &AddressSpec,
        result: Result<(), Failure>,
        out: &mut Out<'_>,
    ) {
        let was = self.addresses.trouble();
        self.addresses.done(now, slot, op, spec, result);
        if let (Err(why), None) = (result, was) {
            let did = match op {
                Op::Add => "added",
                Op::Del => "removed",
            };
            let text = format!("{} could not be {did}: {why}", spec.ip);
            self.note(now, Severity::Error, "address-failed", text, out);
        }
    }

    /// The kernel reported an address of ours; called by the node.
    pub(crate) fn address_told(
        &mut self,
        now: Instant,
        ip: IpAddr,
        meaning: Meaning,
        out: &mut Out<'_>,
    ) {
        match meaning {
            Meaning::Expected => {}
            Meaning::Arrived => {
                let text = format!("{ip} is back");
                self.note(now, Severity::Info, "address-arrived", text, out);
            }
            Meaning::Deleted => {
                let text = format!("{ip} was deleted by somebody else; put back");
                self.note(now, Severity::Warn, "address-restored", text, out);
            }
            Meaning::Contended => {
                let text = format!(
                    "{ip} was deleted by somebody else more than {} times in a minute",
                    self.config.restore_limit
                );
                self.note(now, Severity::Error, "address-contended", text, out);
            }
        }
    }

    /// The proxy's state was reported.
    pub(crate) fn proxy_told(&mut self, now: Instant, event: &ProxyEvent, out: &mut Out<'_>) {
        let Some(proxy) = &mut self.proxy else { return };
        let Some(told) = proxy.report(now, event) else { return };
        let what = why::proxy_name(&proxy.config);
        let (severity, kind, text) = match told {
            Told::Running => (Severity::Info, "proxy-running", format!("{what} runs")),
            Told::Stopped => (Severity::Info, "proxy-stopped", format!("{what} stopped")),
            Told::Died { how, restarting } => (
                Severity::Warn,
                "proxy-died",
                format!("{what} died ({how}){}", why::again(restarting)),
            ),
            Told::NotStarted { why, restarting } => (
                Severity::Warn,
                "proxy-failed",
                format!("{what} did not start: {why}{}", why::again(restarting)),
            ),
            Told::Stuck(why) => {
                (Severity::Error, "proxy-stuck", format!("{what} cannot be stopped: {why}"))
            }
            Told::Unknown(why) => {
                (Severity::Warn, "proxy-unknown", format!("the state of {what} is unknown: {why}"))
            }
            Told::Notice(text) => (Severity::Warn, "proxy-notice", text.into_string()),
        };
        self.note(now, severity, kind, text, out);
    }

    // ---- configuration ----

    /// Takes other settings: at once where that disturbs nobody, by a graceful stop and a new
    /// start where the wire changes. Says what changed, in words.
    pub(crate) fn configure(
        &mut self,
        now: Instant,
        settings: Settings,
        out: &mut Out<'_>,
    ) -> Vec<String> {
        let changes = why::changes(self, &settings);
        if changes.is_empty() {
            return changes;
        }
        let old = &self.config;
        let new = &settings.config;
        let hard = old.vrid != new.vrid
            || old.version != new.version
            || old.interface != new.interface
            || old.transport != new.transport
            || self.password != settings.password
            || !old.families().eq(new.families())
            || old.proxy != new.proxy;
        if hard || self.stopping {
            self.replacement = Some(Box::new(settings));
            self.stop(now, "restarting with a new configuration", out);
            return changes;
        }
        let Settings { config, priority, password: _, destinations } = settings;
        self.config = config;
        self.priority = priority;
        self.destinations = destinations;
        for ix in 0..self.elections.len() {
            let family = self.elections[ix].family;
            let (addresses, template) = template(&self.config, self.password, family);
            self.elections[ix].addresses = addresses;
            self.elections[ix].template = template;
            self.elections[ix].interval = self.config.interval;
            self.elections[ix].set_checksum(self.config.checksum);
        }
        if self.is_active() {
            let own = self.effective_priority();
            for ix in 0..self.elections.len() {
                self.elections[ix].arm_advert(now);
                let family = self.elections[ix].family;
                self.send(family, own, out);
            }
        }
        self.note(now, Severity::Info, "reconfigured", changes.join("; "), out);
        changes
    }

    fn replace(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(settings) = self.replacement.take() else { return };
        if let Some(proxy) = &self.proxy
            && settings.config.proxy.as_ref() != Some(&proxy.config)
        {
            out.push(Action::Proxy(self.id, super::event::ProxyOrder::Unwatch));
        }
        *self = Self::new(now, self.id, *settings);
        if self.proxy.is_some() {
            out.push(Action::Proxy(self.id, super::event::ProxyOrder::Watch));
        }
    }

    // ---- helpers ----

    fn enter(&mut self, now: Instant, state: State, why: String, out: &mut Out<'_>) {
        let was = self.role();
        self.state = state;
        self.since = now;
        let want = self.state == State::Active;
        if self.addresses.wanted() != want {
            self.addresses.set_wanted(now, want);
        }
        let role = self.role();
        let kind = match role {
            Role::Init => "init",
            Role::Backup => "backup",
            Role::Active => "active",
            Role::Releasing => "releasing",
        };
        let severity = match (was, role) {
            (Role::Active, _) | (_, Role::Active) | (Role::Releasing, _) => Severity::Info,
            (Role::Init | Role::Backup, Role::Init) => Severity::Warn,
            (Role::Init | Role::Backup, Role::Backup | Role::Releasing) => Severity::Info,
        };
        self.note(now, severity, kind, why.clone(), out);
        self.why = why;
    }

    fn send(&mut self, family: Family, priority: Priority, out: &mut Out<'_>) {
        if out.source(self.port, family).is_none() {
            return;
        }
        if let Some(election) = self.elections.iter_mut().find(|e| e.family == family) {
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
            State::Init { listen_at } => *listen_at,
            // All must be down: the last one decides.
            State::Backup => self.elections.iter().filter_map(|e| e.down_at(own)).max(),
            State::Active => {
                let yield_at = self.yield_at.filter(|_| !self.is_fit());
                self.elections.iter().filter_map(Election::advert_at).chain(yield_at).min()
            }
            State::Releasing { until, .. } => {
                self.elections.iter().filter_map(Election::advert_at).chain([*until]).min()
            }
        };
        let proxy = self.proxy.as_ref().and_then(Care::deadline);
        let room_at = self.room_at.filter(|_| self.is_stopped());
        [election, proxy, self.addresses.retry_at(), room_at].into_iter().flatten().min()
    }
}

/// The virtual router of one family.
fn election(config: &config::Group, password: Option<[u8; 8]>, family: Family) -> Election {
    let (addresses, template) = template(config, password, family);
    Election::new(family, config.version, config.interval, config.checksum, addresses, template)
}

/// What the adverts of a family carry, and their bytes.
fn template(
    config: &config::Group,
    password: Option<[u8; 8]>,
    family: Family,
) -> (Vec<IpAddr>, Template) {
    let addresses: Vec<_> = config
        .addresses
        .iter()
        .filter(|a| a.advertise && Family::of(a.ip) == family)
        .map(|a| a.ip)
        .take(usize::from(max_addresses(family, MTU)))
        .collect();
    let password = password.filter(|_| config.version == Version::V2);
    let template =
        Template::new(config.version, config.vrid, config.interval, &addresses, password).expect(
            "the configuration gives each family of a group an advertised address and fit timing",
        );
    (addresses, template)
}

/// What to add to the kernel for an address of the configuration.
pub(crate) fn spec(address: &config::Address, index: IfIndex) -> AddressSpec {
    AddressSpec {
        index,
        ip: address.ip,
        prefix: address.prefix,
        label: address.label.as_deref().map(Into::into),
        preferred: address.preferred,
    }
}
