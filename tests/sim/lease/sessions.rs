//! Sessions between the runs of two daemons: agreed on in three datagrams, each with a number that
//! only the next may carry back, so that none of an earlier run comes into one.

use vipd::core::event::Event;

use super::host::{Arrival, Session};
use super::plan::{MS, Real};
use super::world::World;

/// How often a daemon greets whom it has no session with.
const GREET: Real = 40 * MS;
/// A session that nothing is heard in for so long is agreed on anew.
const LOST: Real = 400 * MS;

impl World {
    /// One of the three datagrams came.
    pub(crate) fn greeted(&mut self, host: usize, what: &Arrival) {
        match *what {
            Arrival::Hello { from, life, nonce } => {
                let own = self.hosts[host].life;
                let own_nonce = self.nonce(host, self.hosts[from].voter, 1);
                let echo = Arrival::Echo {
                    from: host,
                    life: own,
                    to_life: life,
                    answers: nonce,
                    nonce: own_nonce,
                };
                self.send(host, from, &echo);
            }
            Arrival::Echo { from, life, to_life, answers, nonce } => {
                let own = self.hosts[host].life;
                if to_life == own && self.takes(host, from, 0, answers) {
                    let to_life = life;
                    let confirm =
                        Arrival::Confirm { from: host, life: own, to_life, answers: nonce };
                    self.send(host, from, &confirm);
                    self.session(host, from, life);
                }
            }
            Arrival::Confirm { from, life, to_life, answers }
                if to_life == self.hosts[host].life && self.takes(host, from, 1, answers) =>
            {
                self.session(host, from, life);
            }
            _ => {}
        }
    }

    /// A session with another run of a voter was agreed on.
    fn session(&mut self, host: usize, from: usize, life: u32) {
        let (now, voter) = (self.now, self.hosts[from].voter);
        if voter == self.hosts[host].voter {
            return;
        }
        let was = self.hosts[host].sessions[voter];
        self.hosts[host].sessions[voter] = Some(Session { host: from, life, heard: now });
        if was.is_some_and(|s| (s.host, s.life) == (from, life)) {
            return;
        }
        let Some(ix) = self.ix_of(host, voter) else { return };
        if was.is_some_and(|s| s.host != from && now < s.heard + LOST) {
            self.step(host, Event::PeerTwin(ix));
        }
        self.step(host, Event::PeerUp(ix));
    }

    fn nonce(&mut self, host: usize, voter: usize, of: usize) -> u64 {
        self.sequence += 1;
        self.hosts[host].nonces[voter][of] = self.sequence;
        self.sequence
    }

    /// Whether that answers what this host said last.
    fn takes(&mut self, host: usize, from: usize, of: usize, answers: u64) -> bool {
        let voter = self.hosts[from].voter;
        let last = &mut self.hosts[host].nonces[voter][of];
        let is = *last == answers;
        if is {
            *last = 0;
        }
        is
    }

    pub(crate) fn greet(&mut self, host: usize) {
        for voter in 0..self.names.len() {
            let lost = self.hosts[host].sessions[voter].is_none_or(|s| self.now > s.heard + LOST);
            if voter == self.hosts[host].voter || !lost || self.ix_of(host, voter).is_none() {
                continue;
            }
            let life = self.hosts[host].life;
            let nonce = self.nonce(host, voter, 0);
            for to in 0..self.hosts.len() {
                if self.hosts[to].voter == voter {
                    self.send(host, to, &Arrival::Hello { from: host, life, nonce });
                }
            }
        }
        let pause = GREET + self.random.draw(GREET);
        self.later(host, pause, Arrival::Greet);
    }
}
