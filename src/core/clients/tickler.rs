//! Clients that are to be told that their connection is gone, in their turn.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::types::Instant;
use crate::wire::peer::connections::Connection;

/// How often each client is told.
pub const ROUNDS: usize = 3;
/// How long after each of the first rounds the next one follows: what was lost is made good, and a
/// client that does not answer twice within half a second does so again.
const PAUSES: [Duration; ROUNDS - 1] = [Duration::from_millis(700), Duration::from_millis(1500)];
/// How long after an IPv6 address came its clients are told first. A kernel says that it has one
/// before it takes packets for it; were the answer to its neighbour solicitation lost then, it
/// would ask again only after a second.
const SETTLED: Duration = Duration::from_millis(50);
/// The most that wait for their first turn.
const WAITING: usize = 4 * super::MOST;

/// Who is to be told, by round.
#[derive(Debug, Default)]
pub struct Tickler {
    rounds: [VecDeque<(Instant, Connection)>; ROUNDS],
}

impl Tickler {
    /// The clients of these are to be told; says how many of them there is room for.
    pub fn begin(&mut self, now: Instant, connections: Vec<Connection>) -> usize {
        let first = &mut self.rounds[0];
        let count = connections.len().min(WAITING.saturating_sub(first.len()));
        let due = |c: &Connection| if c.ip().is_ipv6() { now + SETTLED } else { now };
        first.extend(connections.into_iter().take(count).map(|c| (due(&c), c)));
        count
    }

    /// The next to be told, and in which round: everybody once before anybody twice.
    pub fn next(&mut self, now: Instant) -> Option<(Connection, usize)> {
        let due = |queue: &VecDeque<(Instant, _)>| queue.front().is_some_and(|(at, _)| *at <= now);
        let round = self.rounds.iter().position(due)?;
        let (_, connection) = self.rounds[round].pop_front()?;
        if let (Some(pause), Some(next)) = (PAUSES.get(round), self.rounds.get_mut(round + 1)) {
            next.push_back((now + *pause, connection));
        }
        Some((connection, round))
    }

    /// Nothing is told any more of addresses that are not `held`.
    pub fn keep(&mut self, held: impl Fn(IpAddr) -> bool) {
        for queue in &mut self.rounds {
            queue.retain(|(_, connection)| held(connection.ip()));
        }
    }

    /// How many wait for their first turn.
    pub fn waiting(&self) -> usize {
        self.rounds[0].len()
    }

    /// When the next is to be told.
    pub fn due(&self) -> Option<Instant> {
        self.rounds.iter().filter_map(|queue| queue.front()).map(|(at, _)| *at).min()
    }
}
