//! The connections to what this host serves, and what of them the others are still to be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::types::Instant;
use crate::wire::peer::connections::{CELLS, Connection, Room, Sheet};

use super::{Book, Count, MOST};

/// How long connections are told of after their address was given up: its next holder may have
/// missed the last of them, and may itself be gone soon.
const LINGER: Duration = Duration::from_secs(30);
/// After how long what was told is told once more: datagrams get lost.
const AGAIN: Duration = Duration::from_millis(500);
/// How often something is told though nothing changes.
const REFRESH: Duration = Duration::from_secs(1);

/// Whether a cell is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    No,
    Changed,
    Repeated,
}

/// This host's list.
#[derive(Debug)]
pub struct Roll {
    book: Book,
    /// With those that are left out.
    total: usize,
    due: Vec<Due>,
    open: usize,
    /// From where the next cell that is due is searched.
    from: u16,
    later: VecDeque<(Instant, RangeInclusive<u16>)>,
    refresh: (Instant, u16),
    /// Addresses that were given up, and when.
    left: BTreeMap<IpAddr, Instant>,
    version: u64,
}

impl Default for Roll {
    fn default() -> Self {
        Self {
            book: Book::default(),
            total: 0,
            due: vec![Due::No; CELLS.into()],
            open: 0,
            from: 0,
            later: VecDeque::new(),
            refresh: (Instant::BOOT, 0),
            left: BTreeMap::new(),
            version: 0,
        }
    }
}

impl Roll {
    /// What there is to `held`, everything to what is held.
    pub fn look(&mut self, now: Instant, held: &BTreeSet<IpAddr>, found: Vec<Connection>) {
        self.left.retain(|ip, at| !held.contains(ip) && now < *at + LINGER);
        let left = std::mem::take(&mut self.left);
        self.replace(now, |ip| !left.contains_key(&ip), held, found);
        self.left = left;
    }

    /// `addresses` were given up with these connections to them; an empty list says that nobody
    /// looked, and that what was seen last has to do.
    pub fn leave(&mut self, now: Instant, addresses: &BTreeSet<IpAddr>, found: Vec<Connection>) {
        self.left.extend(addresses.iter().map(|ip| (*ip, now)));
        if !found.is_empty() {
            self.replace(now, |ip| addresses.contains(&ip), addresses, found);
        }
    }

    /// Drops what is there to addresses of which `is_replaced`, and takes what was `found` to
    /// `allowed`.
    fn replace(
        &mut self,
        now: Instant,
        is_replaced: impl Fn(IpAddr) -> bool,
        allowed: &BTreeSet<IpAddr>,
        found: Vec<Connection>,
    ) {
        let kept = self.book.all().map(|(c, _)| c).filter(|c| !is_replaced(c.ip()));
        let found = found.into_iter().filter(|c| allowed.contains(&c.ip()));
        let mut all: Vec<_> = kept.chain(found).map(|c| (c.cell(), c)).collect();
        all.sort_unstable();
        all.dedup();
        self.total = all.len();
        self.version = self.version.max(now.nanos());
        let mut room = MOST;
        let mut rest = all.as_slice();
        for cell in 0..CELLS {
            let here = rest.iter().take_while(|(of, _)| *of == cell).count();
            let (these, after) = rest.split_at(here);
            rest = after;
            let these: Vec<_> = these.iter().map(|(_, c)| *c).take(room).collect();
            let fits = Room::default().take(these.iter().copied());
            let these = these.get(..fits).unwrap_or_default();
            room -= these.len();
            if self.book.put(now, cell, these).is_some() {
                self.mark(cell, Due::Changed);
            }
        }
    }

    /// Somebody has come who knows nothing.
    pub fn tell_all(&mut self) {
        (0..CELLS).for_each(|cell| self.mark(cell, Due::Changed));
    }

    fn mark(&mut self, cell: u16, due: Due) {
        if let Some(place) = self.due.get_mut(usize::from(cell)) {
            self.open = self.open + usize::from(due != Due::No) - usize::from(*place != Due::No);
            *place = due;
        }
    }

    fn is_due(&self, cell: u16) -> bool {
        self.due.get(usize::from(cell)).is_some_and(|due| *due != Due::No)
    }

    /// What is to be told next; it has to be [`told`](Self::told) before there is more.
    pub fn next(&mut self, now: Instant, holds: bool) -> Option<Sheet> {
        self.repeat(now);
        let (start, may_follow): (u16, &dyn Fn(u16) -> bool) = if self.open > 0 {
            let mut cells = (self.from..CELLS).chain(0..self.from);
            (cells.find(|cell| self.is_due(*cell))?, &|cell| self.is_due(cell))
        } else if self.speaks(holds) && now >= self.refresh.0 {
            (self.refresh.1, &|_| true)
        } else {
            return None;
        };
        let mut room = Room::default();
        let mut connections: Vec<_> = self.book.cell(start).collect();
        room.take(connections.iter().copied());
        let mut end = start;
        for cell in (start + 1..CELLS).take_while(|cell| may_follow(*cell)) {
            let mut next = room.clone();
            let before = connections.len();
            connections.extend(self.book.cell(cell));
            let more = connections.get(before..).unwrap_or_default();
            if next.take(more.iter().copied()) < more.len() {
                connections.truncate(before);
                break;
            }
            (room, end) = (next, cell);
        }
        connections.sort_unstable();
        let total = u32::try_from(self.total).unwrap_or(u32::MAX);
        Some(Sheet { version: self.version, total, cells: start..=end, connections })
    }

    /// A sheet about these cells is on its way.
    pub fn told(&mut self, now: Instant, cells: &RangeInclusive<u16>) {
        let next = (cells.end() + 1) % CELLS;
        if self.open == 0 {
            self.refresh = (now + REFRESH, next);
            return;
        }
        let is_new = |cell| self.due.get(usize::from(cell)) == Some(&Due::Changed);
        if cells.clone().any(is_new) {
            self.later.push_back((now + AGAIN, cells.clone()));
        }
        cells.clone().for_each(|cell| self.mark(cell, Due::No));
        self.from = next;
    }

    fn repeat(&mut self, now: Instant) {
        while let Some((_, cells)) = self.later.pop_front_if(|(at, _)| *at <= now) {
            for cell in cells {
                if !self.is_due(cell) {
                    self.mark(cell, Due::Repeated);
                }
            }
        }
    }

    fn speaks(&self, holds: bool) -> bool {
        holds || !self.left.is_empty()
    }

    /// When there is something to tell.
    pub fn due(&self, now: Instant, holds: bool) -> Option<Instant> {
        let open = (self.open > 0).then_some(now);
        let later = self.later.front().map(|(at, _)| *at);
        let refresh = self.speaks(holds).then_some(self.refresh.0);
        [open, later, refresh].into_iter().flatten().min()
    }

    /// Whether addresses that were given up are still told of, so that somebody has to
    /// [`look`](Self::look) at the time.
    pub fn lingers(&self) -> bool {
        !self.left.is_empty()
    }

    /// The connections to `addresses`.
    pub fn to(&self, addresses: &BTreeSet<IpAddr>) -> Vec<Connection> {
        self.book.to(addresses).map(|(connection, _)| connection).collect()
    }

    /// How many those are, and how many of them were there at `before`.
    pub fn count(&self, addresses: &BTreeSet<IpAddr>, before: Instant) -> Count {
        let left_out = self.total.saturating_sub(self.book.count);
        Count { left_out, ..self.book.count(addresses, before) }
    }
}
