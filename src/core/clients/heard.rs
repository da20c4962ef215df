//! What the other nodes told of connections to what they serve.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::types::{Incarnation, Instant, VoterIx};
use crate::wire::peer::connections::{CELLS, Connection, Sheet};

use super::{Book, Count, MOST};

/// Of whom nothing was heard for so long, nothing is known.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// The lists of the others.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<VoterIx, Peer>);

#[derive(Debug)]
struct Peer {
    run: Incarnation,
    /// By cell.
    versions: Vec<u64>,
    book: Book,
    total: u32,
    latest: u64,
    at: Instant,
}

impl Peer {
    fn new(run: Incarnation) -> Self {
        let versions = vec![0; CELLS.into()];
        Self { run, versions, book: Book::default(), total: 0, latest: 0, at: Instant::BOOT }
    }
}

impl Heard {
    /// Takes in what `run` of `from` told; says which connections are new.
    pub fn hear(
        &mut self,
        now: Instant,
        (from, run): (VoterIx, Incarnation),
        sheet: &Sheet,
    ) -> Vec<Connection> {
        let peer = self.0.entry(from).or_insert_with(|| Peer::new(run));
        if peer.run != run {
            // What it knew before is replaced as it tells.
            *peer = Peer { book: std::mem::take(&mut peer.book), ..Peer::new(run) };
        }
        peer.at = now;
        if sheet.version >= peer.latest {
            (peer.latest, peer.total) = (sheet.version, sheet.total);
        }
        if peer.book.count + sheet.connections.len() > 2 * MOST {
            return Vec::new();
        }
        let mut by_cell: Vec<_> = sheet.connections.iter().map(|c| (c.cell(), *c)).collect();
        by_cell.sort_unstable();
        let (mut rest, mut new) = (by_cell.as_slice(), Vec::new());
        for cell in sheet.cells.clone() {
            let here = rest.iter().take_while(|(of, _)| *of == cell).count();
            let (these, after) = rest.split_at(here);
            rest = after;
            let Some(version) = peer.versions.get_mut(usize::from(cell)) else { continue };
            if *version <= sheet.version {
                *version = sheet.version;
                let these: Vec<_> = these.iter().map(|(_, c)| *c).collect();
                new.extend(peer.book.put(now, cell, &these).unwrap_or_default());
            }
        }
        new
    }

    /// Forgets whoever was not heard for long.
    pub fn forget(&mut self, now: Instant) {
        self.0.retain(|_, peer| now < peer.at + FORGOTTEN);
    }

    /// The connections to `addresses` that anybody told of.
    pub fn to(&self, addresses: &BTreeSet<IpAddr>) -> Vec<Connection> {
        self.0.values().flat_map(|peer| peer.book.to(addresses)).map(|(c, _)| c).collect()
    }

    /// How many of `from` to `addresses` there are, and how many of them were there at `before`.
    pub fn count(&self, from: VoterIx, addresses: &BTreeSet<IpAddr>, before: Instant) -> Count {
        self.0.get(&from).map_or_else(Count::default, |peer| {
            let total = usize::try_from(peer.total).unwrap_or(usize::MAX);
            let left_out = total.saturating_sub(peer.book.count);
            Count { left_out, ..peer.book.count(addresses, before) }
        })
    }
}
