//! The clients of a holder: which connections there are, who knows of them, and who is told when
//! another host serves.
//!
//! No part of [`Node`](super::Node), which neither needs to know of them nor has the time: the
//! service runtime keeps these values.

mod heard;
mod roll;
mod tickler;

pub use heard::Heard;
pub use roll::Roll;
pub use tickler::{ROUNDS, Tickler};

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::types::Instant;
use crate::wire::peer::connections::{CELLS, Connection};

/// The most connections that a holder tells of.
pub const MOST: usize = 20_000;

/// Connections by cell, each with the moment at which it was first seen here.
#[derive(Debug)]
struct Book {
    cells: Vec<Vec<(Connection, Instant)>>,
    count: usize,
}

impl Default for Book {
    fn default() -> Self {
        Self { cells: vec![Vec::new(); CELLS.into()], count: 0 }
    }
}

impl Book {
    /// From now on `connections`, rising, are all that there are in `cell`. Those that are new;
    /// `None` if nothing changed.
    fn put(
        &mut self,
        now: Instant,
        cell: u16,
        connections: &[Connection],
    ) -> Option<Vec<Connection>> {
        let place = self.cells.get_mut(usize::from(cell))?;
        if place.iter().map(|(old, _)| old).eq(connections) {
            return None;
        }
        let since = |new: &Connection| {
            let at = place.binary_search_by_key(new, |(old, _)| *old).ok()?;
            place.get(at).map(|(_, since)| *since)
        };
        let known: Vec<_> = connections.iter().map(|c| (*c, since(c))).collect();
        let new = known.iter().filter(|(_, since)| since.is_none()).map(|(c, _)| *c).collect();
        self.count = self.count + known.len() - place.len();
        *place = known.into_iter().map(|(c, since)| (c, since.unwrap_or(now))).collect();
        Some(new)
    }

    fn cell(&self, cell: u16) -> impl Iterator<Item = Connection> {
        self.cells.get(usize::from(cell)).into_iter().flatten().map(|(c, _)| *c)
    }

    fn all(&self) -> impl Iterator<Item = (Connection, Instant)> {
        self.cells.iter().flatten().copied()
    }

    fn to(&self, addresses: &BTreeSet<IpAddr>) -> impl Iterator<Item = (Connection, Instant)> {
        self.all().filter(|(connection, _)| addresses.contains(&connection.ip()))
    }

    /// Of the connections to `addresses`: how many there are, and how many of these since `before`.
    fn count(&self, addresses: &BTreeSet<IpAddr>, before: Instant) -> Count {
        self.to(addresses).fold(Count::default(), |count, (_, since)| Count {
            known: count.known + 1,
            older: count.older + usize::from(since <= before),
            ..count
        })
    }
}

/// How many connections there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// To the addresses asked about.
    pub known: usize,
    /// Of these, those that were there at the moment asked about already.
    pub older: usize,
    /// Not known one by one, as there are too many; to whichever address.
    pub left_out: usize,
}

#[cfg(test)]
mod tests;
