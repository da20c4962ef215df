//! One cluster that a witness votes in: its lease, its channel, its votes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::config::{Config, Member};
use crate::core::ballot::Council;
use crate::core::event::{Action, Event};
use crate::core::lease::{FENCE_SEATS, Lease, Setup, Transition, Vote};
use crate::core::status::{AddressState, AddressStatus, GroupStatus, Role, Severity, Status};
use crate::io::ballots::Ballots;
use crate::io::port::Buffers;
use crate::io::record::Confirmed;
use crate::types::{Incarnation, Instant, Priority};
use crate::wire::peer::Keyring;

use super::super::turn::note;
use super::super::voters::Voters;
use super::Output;

/// Datagrams taken from one socket before the others have their turn.
const BUDGET: usize = 256;

/// What one file says, and what was read for it.
pub(in super::super) struct Fresh {
    pub(super) config: Arc<Config>,
    /// The place of this witness in it.
    pub(super) me: usize,
    pub(super) keys: Keyring,
    pub(super) ballots: Option<Ballots>,
}

/// What an earlier run remembered.
#[derive(Default)]
pub(super) struct Before {
    pub(super) votes: Option<BTreeMap<String, Vote>>,
    pub(super) confirmed: Confirmed,
}

/// One cluster.
pub(super) struct Booth {
    config: Arc<Config>,
    me: usize,
    /// A configuration that waits until every voter has it.
    parked: Option<(Arc<Config>, usize)>,
    lease: Lease,
    keys: Keyring,
    run: Incarnation,
    /// `None` where the sockets for another configuration could not be opened.
    voters: Option<Voters>,
    ballots: Option<Ballots>,
    clock: Result<(), Box<str>>,
    started: Instant,
    actions: Vec<Action>,
    outputs: Vec<Output>,
    /// Its sockets are others than they were.
    pub(super) moved: bool,
}

fn setup(config: &Config, me: usize, run: Incarnation) -> Setup {
    Setup::new(config, config.voter_ix(Member::Witness(me)), run)
}

impl Booth {
    /// Begins to vote. `run` is random.
    ///
    /// # Errors
    /// No sockets.
    pub(super) fn open(
        now: Instant,
        fresh: Fresh,
        before: &Before,
        run: Incarnation,
    ) -> std::io::Result<Self> {
        let Fresh { config, me, keys, ballots } = fresh;
        let Before { votes, confirmed } = before;
        let mut setup = setup(&config, me, run);
        let known = votes.is_some() && confirmed.digest == Some(setup.digest);
        setup.quiet = (!known).then_some(confirmed.longest());
        setup.confirmed = confirmed.digest;
        setup.remembers = votes.is_some();
        let mut lease = Lease::new(now, &setup);
        for (place, group) in leased(&config) {
            let vote = votes.as_ref().and_then(|v| v.get(&group.name)).copied().unwrap_or_default();
            if known {
                lease.add(place, Some(vote), None);
            } else {
                lease.add_doubted(place, vote, None);
            }
        }
        lease.set_marks(config.marks());
        let voters = Voters::open(&config, Member::Witness(me), keys.clone(), run)?;
        let mut booth = Self {
            config,
            me,
            parked: None,
            lease,
            keys,
            run,
            voters: Some(voters),
            ballots,
            clock: Ok(()),
            started: now,
            actions: Vec::new(),
            outputs: Vec::new(),
            moved: true,
        };
        booth.lease.begin(now, &mut booth.actions);
        Ok(booth)
    }

    /// What to wait for, with the path to hand to [`hear`](Self::hear).
    pub(super) fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.voters.iter().flat_map(Voters::fds)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let greet = self.voters.as_ref().and_then(Voters::deadline);
        self.lease.deadline(now).into_iter().chain(greet).min()
    }

    /// What there is to be told to the service runtime.
    pub(super) fn outputs(&mut self) -> impl Iterator<Item = Output> + '_ {
        self.outputs.drain(..)
    }

    /// Hears what came over a path; returns a moment that is not before the last of it.
    pub(super) fn hear(&mut self, now: Instant, path: usize, buffers: &mut Buffers) -> Instant {
        let Some(mut voters) = self.voters.take() else { return now };
        let mut last = now;
        let mut step = |now, event: Event<'_>| {
            last = now;
            self.step(now, &event);
        };
        // Nobody tells a witness of connections.
        voters.receive(path, (buffers, BUDGET), &mut step, &mut |_| {});
        self.voters = Some(voters);
        self.execute(last);
        last
    }

    fn step(&mut self, now: Instant, event: &Event<'_>) {
        if let Event::Peer(from, message) = event {
            self.lease.hear(now, *from, message, &mut self.actions);
        } else if let Event::PeerUp(from) = event {
            self.lease.up(now, *from, &mut self.actions);
        } else if let Event::PeerTwin(from) = event {
            self.lease.twin(now, *from);
            let name = self.config.voters().nth(from.index()).map(|v| v.name.to_owned());
            let name = name.unwrap_or_default();
            let text = format!("two machines answer to the name {name}: no vote while they do");
            self.note(now, Severity::Error, "twin", &text);
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) {
        self.lease.tick(now, &mut self.actions);
        self.execute(now);
        if let Some(voters) = &mut self.voters
            && voters.deadline().is_some_and(|at| now >= at)
        {
            voters.tick(now);
        }
        // After everything that names groups by their places in the configuration before has
        // been written down and sent.
        if self.lease.may_switch(now)
            && let Some((config, me)) = self.parked.take()
        {
            self.switch(now, config, me);
            let text = "every voter has the new configuration";
            self.note(now, Severity::Info, "reconfigured", text);
        }
    }

    /// Does what was decided, in its order: a vote is written down before it is told.
    fn execute(&mut self, now: Instant) {
        for action in self.actions.drain(..) {
            match action {
                Action::Tell { to, entry } => {
                    if let Some(voters) = &mut self.voters {
                        voters.tell(to, entry);
                    }
                }
                Action::Beat { to } => {
                    if let Some(voters) = &mut self.voters {
                        voters.beat(to);
                    }
                }
                // Who may fence is asked anew by each run.
                Action::Remember { group, .. } if group >= FENCE_SEATS => {}
                Action::Remember { group, vote } => {
                    if let Some(voters) = &self.voters {
                        voters.remember(group, &vote, self.ballots.as_mut());
                    }
                }
                Action::Settled(digest) => {
                    let cluster = self.config.cluster.clone();
                    let vote = self.config.lease.vote;
                    self.outputs.push(Output::Settled { cluster, digest, vote });
                }
                // What a holder does; a witness is none.
                Action::Advertise { .. }
                | Action::Announce { .. }
                | Action::Probe { .. }
                | Action::Kernel(_)
                | Action::Proxy(..)
                | Action::Guard(_)
                | Action::Routing(_)
                | Action::Decided(_)
                | Action::Failures(_)
                | Action::Fence { .. }
                | Action::Gate { .. }
                | Action::Note(_)
                | Action::Reloaded(_)
                | Action::Reset { .. }
                | Action::Hasten(_)
                | Action::EndSessions { .. }
                | Action::Exit { .. } => {}
            }
        }
        let lease = &self.lease;
        if let Some(voters) = &mut self.voters {
            voters.flush(|| Some(lease.head(now)));
        }
    }

    /// Whether the local clock can be trusted.
    pub(super) fn set_clock(&mut self, now: Instant, clock: Result<(), Box<str>>) {
        self.lease.clock(clock.is_ok());
        if let Err(why) = &clock {
            let text = format!("{why}: this witness does not vote");
            self.note(now, Severity::Error, "clock-wrong", &text);
        }
        self.clock = clock;
    }

    fn note(&mut self, at: Instant, severity: Severity, kind: &str, text: &str) {
        let text = format!("cluster {}: {text}", self.config.cluster);
        self.outputs.push(Output::Note(note(at, severity, kind, text)));
    }

    // ---- another configuration ----

    /// Takes a new configuration, at once or when every voter has it; says what follows. Votes go
    /// on in the new file before that takes the place of the old one.
    pub(super) fn reload(&mut self, now: Instant, fresh: Fresh) -> Option<String> {
        let Fresh { config, me, keys, ballots } = fresh;
        self.execute(now);
        if let Some(voters) = &mut self.voters {
            voters.set_keys(keys.clone());
        }
        self.keys = keys;
        if let Some(mut ballots) = ballots {
            for (place, group) in leased(&self.config) {
                if let Some(vote) = self.lease.vote_of(place) {
                    // Without a record it is forgotten by a later run, which is quiet then.
                    let _ = ballots.write(&group.name, &vote);
                }
            }
            if ballots.publish().is_ok() {
                self.ballots = Some(ballots);
            }
        }
        let text = if *config == *self.config {
            None
        } else if must_wait(&self.config, &config) {
            let text = "another configuration waits until every voter has it";
            self.note(now, Severity::Info, "reload-waits", text);
            self.lease.announce(now, config.digest());
            self.parked = Some((config, me));
            return Some(format!("cluster {}: {text}", self.config.cluster));
        } else {
            Some(format!("cluster {}: another configuration", config.cluster))
        };
        self.parked = None;
        self.switch(now, config, me);
        text
    }

    fn switch(&mut self, now: Instant, config: Arc<Config>, me: usize) {
        let setup = setup(&config, me, self.run);
        if self.lease.digests().0 == setup.digest {
            self.lease.announce(now, setup.digest);
            if self.lease.is_settled() {
                // Whatever was in doubt meanwhile.
                self.actions.push(Action::Settled(setup.digest));
            }
        } else {
            let change = Transition::new(&self.config, &config);
            self.lease.switch(now, &setup, &change, &mut self.actions);
            self.lease.set_marks(config.marks());
        }
        let was = std::mem::replace(&mut self.config, config);
        self.me = me;
        let same = was.port == self.config.port && channel(&was).eq(channel(&self.config));
        match &mut self.voters {
            Some(voters) if same => voters.set_groups(&self.config),
            _ => self.reopen(now),
        }
        self.execute(now);
    }

    fn reopen(&mut self, now: Instant) {
        // The old sockets have the port.
        self.voters = None;
        let me = Member::Witness(self.me);
        match Voters::open(&self.config, me, self.keys.clone(), self.run) {
            Ok(voters) => self.voters = Some(voters),
            Err(error) => {
                let text = format!("the channel to the other voters: {error}");
                self.note(now, Severity::Error, "port-failed", &text);
            }
        }
        self.moved = true;
    }

    // ---- for people ----

    pub(super) fn status(&self, now: Instant) -> Status {
        let council = Council { config: &self.config, lease: &self.lease };
        let me = self.config.witnesses.get(self.me).map(|w| w.name.clone());
        let dropped = self.voters.iter().flat_map(Voters::dropped);
        Status {
            cluster: self.config.cluster.clone(),
            node: me.unwrap_or_default(),
            now,
            started: self.started,
            peers: Vec::new(),
            groups: leased(&self.config).map(|(place, _)| self.group(now, place)).collect(),
            conditions: council
                .conditions(now, self.started, &self.clock)
                .into_iter()
                .chain(self.voters.iter().flat_map(|v| v.conditions(now)))
                .collect(),
            voting: Some(council.voting(now)),
            fencing: Vec::new(),
            decisions: Vec::new(),
            gate: None,
            watchdog: None,
            dropped: dropped.map(|(why, n)| (format!("voters-{why}"), n)).collect(),
            hooks: Vec::new(),
            connections: Vec::new(),
            further: Vec::new(),
        }
    }

    fn group(&self, now: Instant, place: u16) -> GroupStatus {
        let council = Council { config: &self.config, lease: &self.lease };
        let group = &self.config.groups[usize::from(place)];
        let lease = council.group(now, place, None);
        let address = |a: &crate::config::Address| AddressStatus {
            address: format!("{}/{}", a.ip, a.prefix),
            interface: None,
            state: AddressState::Absent,
            restored: 0,
        };
        GroupStatus {
            name: group.name.clone(),
            role: Role::VotesOnly,
            since: self.started,
            why: "a witness votes and never holds".to_owned(),
            vrid: group.vrid,
            version: group.version,
            interface: None,
            priority: Priority::LEAST,
            effective_priority: Priority::LEAST,
            active: lease.as_ref().and_then(|l| l.holder.clone()),
            addresses: group.addresses.iter().map(address).collect(),
            elections: Vec::new(),
            proxy: None,
            safety: group.safety.name().to_owned(),
            lease,
            checks: Vec::new(),
            recovering: None,
            standings: Vec::new(),
            outlook: String::new(),
            routing: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// The groups that are held by lease, with their places.
fn leased(config: &Config) -> impl Iterator<Item = (u16, &crate::config::Group)> {
    (0..).zip(&config.groups).filter(|(_, g)| g.safety.is_leased())
}

fn channel(config: &Config) -> impl Iterator<Item = (&str, Vec<IpAddr>)> {
    config.voters().map(|v| (v.name, v.addresses().collect()))
}

/// Whether a file changes who may serve what, with the same voters: then it counts once everybody
/// has it.
fn must_wait(old: &Config, new: &Config) -> bool {
    let same = old.voters().map(|v| v.name).eq(new.voters().map(|v| v.name));
    same && old.digest() != new.digest()
}
