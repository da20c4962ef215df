//! The other voters, as the core thread reaches them: what is told to one in a step goes together,
//! sealed, over every path.

use std::io;
use std::net::{IpAddr, SocketAddr};

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::config::{Config, Member};
use crate::core::event::Event;
use crate::core::lease::Vote;
use crate::core::status::{Condition, Severity, condition};
use crate::io::ballots::Ballots;
use crate::io::clock;
use crate::io::peer::{PeerSocket, Received};
use crate::io::port::Buffers;
use crate::types::{Incarnation, Instant, VoterIx};
use crate::wire::peer::{Channel, Datagram, Dropped, Entry, Head, Keyring, Opened};

use super::clients::Told;

/// The channel to the other voters, and the votes given to them.
#[derive(Debug)]
pub(super) struct Voters {
    channel: Channel,
    socket: PeerSocket,
    queued: Vec<Queue>,
    /// The groups by their places.
    groups: Vec<String>,
    dropped: [u64; Dropped::ALL.len()],
    sealed: Vec<u8>,
    answers: Vec<Datagram>,
    /// The others, by their places.
    known: Vec<Known>,
}

/// A voter, by what its address sends.
#[derive(Debug)]
struct Known {
    name: String,
    witness: bool,
    addresses: Vec<IpAddr>,
    refused: Option<Refused>,
}

/// What came from a voter's address cannot be opened: since when, when last, and why.
#[derive(Clone, Copy, Debug)]
struct Refused {
    since: Instant,
    last: Instant,
    why: Dropped,
}

/// After so long without a datagram that cannot be opened there is nothing to tell, and after so
/// long without one that can the voter is not just changing its keys.
const REFUSED: Duration = Duration::from_secs(3);

/// What is to be told to one voter.
#[derive(Clone, Debug, Default)]
struct Queue {
    entries: Vec<Entry>,
    beat: bool,
}

impl Voters {
    /// Opens the channel of `me`. `run` is random.
    ///
    /// # Errors
    /// No sockets.
    pub(super) fn open(
        config: &Config,
        me: Member,
        keys: Keyring,
        run: Incarnation,
    ) -> io::Result<Self> {
        let me = config.voter_ix(me);
        let at = |ip| SocketAddr::new(ip, config.port);
        let paths: Vec<Vec<_>> = config.voters().map(|v| v.addresses().map(at).collect()).collect();
        let count = paths.len();
        let own = paths.get(me.index()).cloned().unwrap_or_default();
        let socket = PeerSocket::open(&own, paths).map_err(io::Error::other)?;
        Ok(Self {
            channel: Channel::new(me, &config.cluster, keys, run, count),
            socket,
            queued: vec![Queue::default(); count],
            groups: groups(config),
            dropped: [0; Dropped::ALL.len()],
            sealed: Vec::new(),
            answers: Vec::new(),
            known: config
                .voters()
                .map(|v| Known {
                    name: v.name.to_owned(),
                    witness: v.witness,
                    addresses: v.addresses().collect(),
                    refused: None,
                })
                .collect(),
        })
    }

    /// From now on with these keys.
    pub(super) fn set_keys(&mut self, keys: Keyring) {
        self.channel.set_keys(keys);
    }

    /// The groups of another configuration, whose voters are the same.
    pub(super) fn set_groups(&mut self, config: &Config) {
        self.groups = groups(config);
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.socket.fds()
    }

    pub(super) fn tell(&mut self, to: VoterIx, entry: Entry) {
        if let Some(queue) = self.queued.get_mut(to.index()) {
            queue.entries.push(entry);
        }
    }

    pub(super) fn beat(&mut self, to: VoterIx) {
        if let Some(queue) = self.queued.get_mut(to.index()) {
            queue.beat = true;
        }
    }

    /// Writes down a vote before it is told.
    pub(super) fn remember(&self, place: u16, vote: &Vote, ballots: Option<&mut Ballots>) {
        if let (Some(name), Some(ballots)) = (self.groups.get(usize::from(place)), ballots) {
            // A group without a record is one that a later run finds nothing about: forgotten.
            let _ = ballots.write(name, vote);
            ballots.vouch();
        }
    }

    /// Sends what was told since the last call.
    pub(super) fn flush(&mut self, head: impl Fn() -> Option<Head>) {
        if !self.queued.iter().any(|q| q.beat || !q.entries.is_empty()) {
            return;
        }
        let Some(head) = head() else { return };
        let Self { channel, socket, queued, sealed, .. } = self;
        sealed.clear();
        let mut datagrams = Vec::new();
        for (to, queue) in (0..).map(VoterIx).zip(queued) {
            let mut rest = queue.entries.as_slice();
            let mut due = queue.beat || !rest.is_empty();
            while std::mem::take(&mut due) {
                let from = sealed.len();
                // Nothing is sent to a voter that there is no session with.
                let Some(count) = channel.seal(to, &head, rest, sealed) else { break };
                datagrams.push((to, from..sealed.len()));
                rest = rest.get(count.max(1)..).unwrap_or_default();
                due = !rest.is_empty();
            }
            queue.entries.clear();
            queue.beat = false;
        }
        let bytes = |(to, range): (VoterIx, Range<usize>)| Some((to, sealed.get(range)?));
        let datagrams: Vec<_> = datagrams.into_iter().filter_map(bytes).collect();
        // A lost datagram is repeated by the next renewal.
        let _ = socket.send(&datagrams);
    }

    /// Tells every other node of connections.
    pub(super) fn share(&mut self, sheet: &[u8]) {
        let Self { channel, socket, sealed, known, .. } = self;
        let nodes = (0..).map(VoterIx).zip(known).filter(|(_, known)| !known.witness);
        for (to, _) in nodes {
            sealed.clear();
            // There is no session with oneself, nor with who is not there.
            if channel.seal_connections(to, sheet, sealed).is_some() {
                // A lost one is repeated.
                let _ = socket.send(&[(to, sealed.as_slice())]);
            }
        }
    }

    /// Hears what came over a path, `budget` datagrams at most; says how many there were. The
    /// moment handed on was read after they were received. What is of no concern to the core goes
    /// `aside`.
    pub(super) fn receive(
        &mut self,
        path: usize,
        (buffers, budget): (&mut Buffers, usize),
        each: &mut dyn FnMut(Instant, Event<'static>),
        aside: &mut dyn FnMut(Told),
    ) -> usize {
        let Self { channel, socket, dropped, answers, known, .. } = self;
        let taken = socket.receive(path, buffers, budget, &mut |received| {
            let Received { path, bytes, from } = received;
            let now = clock::now();
            match channel.open(now, path, bytes, answers) {
                Ok(Opened::Data { from, message }) => each(now, Event::Peer(from, message)),
                Ok(Opened::Connections { from, run, sheet: bytes }) => {
                    aside(Told::Sheet { from, run, bytes });
                }
                Ok(Opened::Up { from, .. }) => {
                    aside(Told::Up);
                    each(now, Event::PeerUp(from));
                }
                Ok(Opened::Twin { from }) => each(now, Event::PeerTwin(from)),
                Ok(Opened::Control) => {}
                Err(why) => {
                    let ix = Dropped::ALL.iter().position(|d| *d == why).unwrap_or(0);
                    dropped[ix] += 1;
                    refuse(known, now, from, why);
                }
            }
        });
        self.answer();
        taken.unwrap_or(0)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.channel.deadline()
    }

    /// Greets those that are due to be greeted.
    pub(super) fn tick(&mut self, now: Instant) {
        self.channel.tick(now, &mut self.answers);
        self.answer();
    }

    fn answer(&mut self) {
        for Datagram { to, bytes } in self.answers.drain(..) {
            // A lost greeting is repeated.
            let _ = self.socket.send(&[(to, bytes.as_slice())]);
        }
    }

    /// Voters that send what cannot be opened, and nothing that can: they would look silent.
    pub(super) fn conditions(&self, now: Instant) -> Vec<Condition> {
        let refused = (0..).map(VoterIx).zip(&self.known).filter_map(|(voter, known)| {
            let refused = known.refused.filter(|r| now <= r.last + REFUSED)?;
            let heard = (0..known.addresses.len()).filter_map(|p| self.channel.heard(voter, p));
            heard.max().is_none_or(|at| now > at + REFUSED).then_some((known, refused))
        });
        refused
            .map(|(known, Refused { since, why, .. })| {
                let text = format!(
                    "what comes from {} cannot be opened ({}): its key, its list of voters or its \
                 cluster's name is not ours, or somebody forges it",
                    known.name,
                    why.name()
                );
                condition("voter-refused", Severity::Error, text, since)
            })
            .collect()
    }

    /// What was dropped, by reason.
    pub(super) fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = self.socket.counters();
        let socket = [("too-long", counters.malformed), ("stranger", counters.foreign)];
        let full = [("buffer-overflows", counters.overflow)];
        let sealed = Dropped::ALL.iter().zip(self.dropped).map(|(why, n)| (why.name(), n));
        sealed.chain(socket).chain(full)
    }
}

/// Notes that what came from a voter's address cannot be opened, where that says that its file or
/// its key is another.
fn refuse(known: &mut [Known], now: Instant, from: IpAddr, why: Dropped) {
    let telling = match why {
        Dropped::OtherCluster
        | Dropped::NotForUs
        | Dropped::NotAVoter
        | Dropped::UnknownKey
        | Dropped::BadTag => true,
        Dropped::NotOurs
        | Dropped::NoSession
        | Dropped::Duplicate
        | Dropped::Replay
        | Dropped::Limited
        | Dropped::Twin
        | Dropped::Malformed => false,
    };
    let voter = known.iter_mut().find(|k| k.addresses.contains(&from)).filter(|_| telling);
    if let Some(voter) = voter {
        let before = voter.refused.filter(|r| now <= r.last + REFUSED);
        let since = before.map_or(now, |r| r.since);
        voter.refused = Some(Refused { since, last: now, why });
    }
}

fn groups(config: &Config) -> Vec<String> {
    config.groups.iter().map(|g| g.name.clone()).collect()
}
