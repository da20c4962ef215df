//! The clients of a holder: their connections are shared with the other nodes, and whoever takes an
//! address over tells those that were connected to it before.
//!
//! All of it on the service runtime. Kernels are asked from threads that may wait, and every step
//! has a rate that it does not exceed: datagrams, segments, and the share of time that looking takes.

mod desk;

pub(super) use desk::{Desk, Told, desk};

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::Connections;
use crate::core::clients::{Count, Heard, Roll, Tickler};
use crate::core::status::{ConnectionsStatus, GroupStatus, Note, Role, Severity, Status};
use crate::io::tickle::Tickles;
use crate::io::{clock, sockdiag, wake};
use crate::types::{Instant, VoterIx};
use crate::wire::peer::connections::{Connection, Sheet};

use super::turn::{Input, note};

/// How often something is sent while there is something to send, and how much each time: 200
/// datagrams and 5000 segments a second.
const BEAT: Duration = Duration::from_millis(10);
const SHEETS: usize = 2;
const SEGMENTS: usize = 50;
/// How often the kernel is asked for connections, at most; and at most this share of the time.
const LOOK: Duration = Duration::from_millis(500);
const SHARE: u32 = 50;
/// How long it may take to tell of them.
const LIMIT: Duration = Duration::from_secs(2);
/// What is told within that time goes into one note.
const GATHERED: Duration = Duration::from_secs(1);

/// What is known of clients.
pub(super) struct Clients {
    inbox: wake::Sender<Input>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Addresses that are served here.
    held: BTreeSet<IpAddr>,
    roll: Roll,
    heard: Heard,
    tickler: Tickler,
    telling: Option<Telling>,
    /// How many sheets made no sense.
    malformed: u64,
}

/// Clients that are being told.
#[derive(Debug)]
struct Telling {
    since: Instant,
    addresses: BTreeSet<IpAddr>,
    told: usize,
    failed: usize,
    /// Of the last one.
    error: Option<io::Error>,
    left_out: usize,
}

/// A question to the kernel that is under way: which addresses it is about, and since when.
type Looking = JoinHandle<(BTreeSet<IpAddr>, Duration, io::Result<Vec<Connection>>)>;

impl Clients {
    pub(super) fn new(inbox: wake::Sender<Input>) -> Arc<Self> {
        Arc::new(Self { inbox, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does all that is to be done about clients, for as long as there is somebody to hear;
    /// `is_shared` says whether there are other nodes to tell.
    pub(super) async fn run(
        self: Arc<Self>,
        mut told: mpsc::Receiver<Told>,
        is_shared: impl Fn() -> bool,
        note: impl Fn(Note),
    ) {
        let mut tickles = Tickles::default();
        let mut looking: Option<Looking> = None;
        let (mut beat, mut look) = (clock::now(), clock::now());
        loop {
            let now = clock::now();
            let looks = is_shared() && looking.is_none();
            let look_at = (looks && self.state().watches()).then_some(look);
            let due = self.state().due(now, is_shared()).map(|at| at.max(beat));
            let pause = [look_at, due].into_iter().flatten().min();
            let pause = pause.map_or(Duration::from_hours(1), |at| at.since(now));
            tokio::select! {
                news = told.recv() => match news {
                    Some(news) => self.state().take_in(clock::now(), news),
                    None => return,
                },
                answer = async { looking.as_mut().expect("there is one").await },
                    if looking.is_some() =>
                {
                    looking = None;
                    let now = clock::now();
                    look = now + LOOK;
                    if let Ok((asked, took, found)) = answer {
                        look = now + LOOK.max(took * SHARE);
                        self.state().look(now, &asked, found);
                    }
                }
                () = tokio::time::sleep(pause) => {
                    let now = clock::now();
                    beat = now + BEAT;
                    if look_at.is_some_and(|at| at <= now) {
                        looking = Some(ask(self.state().held.clone()));
                    }
                    if is_shared() {
                        self.share(now);
                    }
                    self.state().tell(now, &mut tickles).into_iter().for_each(&note);
                }
            }
        }
    }

    /// Tells the others what is due.
    fn share(&self, now: Instant) {
        let mut state = self.state();
        let holds = !state.held.is_empty();
        for _ in 0..SHEETS {
            let Some(sheet) = state.roll.next(now, holds) else { return };
            // Without room it is still due.
            if self.inbox.try_send(Input::Connections(sheet.encode())).is_err() {
                return;
            }
            state.roll.told(now, &sheet.cells);
        }
    }

    /// Adds what is known of connections.
    pub(super) fn complete(&self, status: &mut Status) {
        let state = self.state();
        let known = status.groups.iter().filter_map(|group| {
            let (node, count) = state.of(status, group, status.now)?;
            Some(ConnectionsStatus {
                group: group.name.clone(),
                node,
                known: count.known,
                left_out: count.left_out,
            })
        });
        status.connections = known.collect();
        status.dropped.push(("connection-lists-malformed".to_owned(), state.malformed));
    }

    /// The connections to a group, and how many of them were there at `before`.
    pub(super) fn count(
        &self,
        status: &Status,
        group: &str,
        before: Option<Instant>,
    ) -> Option<Connections> {
        let found = status.groups.iter().find(|g| g.name == group)?;
        let (node, count) = self.state().of(status, found, before.unwrap_or(status.now))?;
        Some(Connections {
            group: group.to_owned(),
            node,
            now: status.now,
            known: count.known,
            older: count.older,
            left_out: count.left_out,
        })
    }
}

fn ask(addresses: BTreeSet<IpAddr>) -> Looking {
    tokio::task::spawn_blocking(move || {
        let began = clock::now();
        let list: Vec<_> = addresses.iter().copied().collect();
        let found =
            if list.is_empty() { Ok(Vec::new()) } else { sockdiag::connections(&list, LIMIT) };
        (addresses, clock::now().since(began), found)
    })
}

impl State {
    /// Whether there is anything to look at, or to look away from.
    fn watches(&self) -> bool {
        !self.held.is_empty() || self.roll.lingers()
    }

    fn due(&self, now: Instant, is_shared: bool) -> Option<Instant> {
        let shared = self.roll.due(now, !self.held.is_empty()).filter(|_| is_shared);
        let noted = self.telling.as_ref().map(|telling| telling.since + GATHERED);
        [shared, noted, self.tickler.due()].into_iter().flatten().min()
    }

    fn take_in(&mut self, now: Instant, news: Told) {
        match news {
            Told::Moved(moved) => self.move_all(now, &moved),
            Told::Ended(addresses, clients) => {
                self.roll.leave(now, &addresses.into_iter().collect(), clients);
            }
            Told::Sheet { from, run, bytes } => match Sheet::decode(&bytes) {
                Ok(sheet) => {
                    self.heard.forget(now);
                    let mut new = self.heard.hear(now, (from, run), &sheet);
                    // What was told late, of an address that is here already.
                    new.retain(|connection| self.held.contains(&connection.ip()));
                    self.remind(now, new);
                }
                Err(_) => self.malformed += 1,
            },
            Told::Up => self.roll.tell_all(),
        }
    }

    fn move_all(&mut self, now: Instant, moved: &[(IpAddr, bool)]) {
        let (mut came, mut went) = (BTreeSet::new(), BTreeSet::new());
        for (ip, is_here) in moved {
            let (to, from) = if *is_here { (&mut came, &mut went) } else { (&mut went, &mut came) };
            from.remove(ip);
            to.insert(*ip);
        }
        self.held.retain(|ip| !went.contains(ip));
        self.roll.leave(now, &went, Vec::new());
        let held = &self.held;
        self.tickler.keep(|ip| held.contains(&ip));
        // Those of this host's own last tenure, too: it ended them, and could not say so.
        let mut clients = self.heard.to(&came);
        clients.extend(self.roll.to(&came));
        self.held.append(&mut came);
        clients.sort_unstable();
        clients.dedup();
        self.remind(now, clients);
    }

    /// Clients of connections that were another's are to be told.
    fn remind(&mut self, now: Instant, clients: Vec<Connection>) {
        if clients.is_empty() {
            return;
        }
        let telling = self.telling.get_or_insert_with(|| Telling {
            since: now,
            addresses: BTreeSet::new(),
            told: 0,
            failed: 0,
            error: None,
            left_out: 0,
        });
        telling.addresses.extend(clients.iter().map(Connection::ip));
        let all = clients.len();
        telling.left_out += all - self.tickler.begin(now, clients);
    }

    fn look(&mut self, now: Instant, asked: &BTreeSet<IpAddr>, found: io::Result<Vec<Connection>>) {
        // Without an answer what was seen last is as good as it gets.
        if let Ok(found) = found {
            let held = self.held.intersection(asked).copied().collect();
            self.roll.look(now, &held, found);
        }
    }

    /// Tells clients in their turn; says so when all were told once.
    fn tell(&mut self, now: Instant, tickles: &mut Tickles) -> Option<Note> {
        for _ in 0..SEGMENTS {
            let Some((connection, round)) = self.tickler.next(now) else { break };
            let sent = tickles.send(&connection, round);
            if let Some(telling) = self.telling.as_mut().filter(|_| round == 0) {
                match sent {
                    Ok(()) => telling.told += 1,
                    Err(error) => {
                        telling.failed += 1;
                        telling.error = Some(error);
                    }
                }
            }
        }
        if self.tickler.due().is_none() {
            tickles.close();
        }
        let waiting = self.tickler.waiting() > 0;
        let is_over = |telling: &mut Telling| !waiting && now >= telling.since + GATHERED;
        self.telling.take_if(is_over).map(|telling| telling.note(now))
    }

    /// The connections to a group: at which node, and how many.
    fn of(&self, status: &Status, group: &GroupStatus, before: Instant) -> Option<(String, Count)> {
        if group.role == Role::VotesOnly {
            return None;
        }
        let plain = |address: &str| address.split('/').next().and_then(|ip| ip.parse().ok());
        let addresses: BTreeSet<IpAddr> =
            group.addresses.iter().filter_map(|a| plain(&a.address)).collect();
        let voters = &status.voting.as_ref()?.voters;
        if group.role == Role::Active {
            return Some((status.node.clone(), self.roll.count(&addresses, before)));
        }
        let lease = group.lease.as_ref().and_then(|lease| lease.holder.as_ref());
        let holder = lease.or(group.active.as_ref())?;
        let place = voters.iter().position(|v| v.name == *holder && !v.witness)?;
        let voter = VoterIx(u8::try_from(place).ok()?);
        Some((holder.clone(), self.heard.count(voter, &addresses, before)))
    }
}

impl Telling {
    fn note(self, now: Instant) -> Note {
        let Self { addresses, told, failed, error, left_out, .. } = self;
        let to = match addresses.first() {
            Some(ip) if addresses.len() == 1 => ip.to_string(),
            _ => format!("{} addresses", addresses.len()),
        };
        let missed = failed + left_out;
        if missed == 0 {
            let text = format!("{told} client(s) of an earlier holder of {to}");
            return note(now, Severity::Info, "clients-told", text);
        }
        let why = error.map_or_else(|| "there are too many".to_owned(), |e| e.to_string());
        let text = format!("{missed} of {} clients of {to}: {why}", missed + told);
        note(now, Severity::Warn, "clients-not-told", text)
    }
}
