//! Which peers can be reached, as far as a holder can tell: it asks each for its hardware address
//! along with its adverts.
//!
//! Backups are silent, so a holder would not notice that a partition healed when the other side
//! gives up first; clients there would go on sending to the loser until their neighbour entry
//! dies. An answer after silence is the sign to announce again.

use std::net::IpAddr;
use std::time::Duration;

use crate::types::{Family, IfIndex, Instant, Mac};

use super::event::Action;
use super::status::PeerKind;

/// One advert in so many asks while all is well: a peer that has heard none for long enough to
/// take over has missed a probe, too.
const EVERY: u8 = 3;
/// Unanswered probes after which a peer counts as out of reach.
const MISSING: u8 = 2;
/// How often a peer that has never answered is asked.
const STRANGER: Duration = Duration::from_secs(1);
/// How long what is known holds when nobody asks: longer than any interval.
const STALE: Duration = Duration::from_mins(5);

/// Another node or router.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) kind: PeerKind,
    pub(crate) last_advert: Option<Instant>,
    /// Whether it answers, and since when; `None` until it was asked twice.
    pub(crate) reachable: Option<(bool, Instant)>,
    mac: Option<Mac>,
    asked: Option<Instant>,
    unanswered: u8,
    /// Adverts since it was asked.
    beats: u8,
}

/// What an answer, or its absence, changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// It answers for the first time.
    Found,
    /// It answers, but did not answer the time before.
    Blinked,
    /// It answers again after silence.
    Returned,
    /// It does not answer any more.
    Lost,
}

impl Peer {
    pub(crate) fn new(name: String, ip: IpAddr, kind: PeerKind) -> Self {
        Self {
            name,
            ip,
            kind,
            last_advert: None,
            reachable: None,
            mac: None,
            asked: None,
            unanswered: 0,
            beats: 0,
        }
    }

    /// Asks the peer, if it is time to; called with each advert of a holder on the interface.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        ifindex: IfIndex,
        source: IpAddr,
        out: &mut Vec<Action>,
    ) -> Change {
        if Family::of(source) != Family::of(self.ip) {
            return Change::None;
        }
        if self.asked.is_some_and(|at| now > at + STALE) {
            self.forget();
        }
        self.beats = self.beats.saturating_add(1);
        if self.unanswered == 0 && self.asked.is_some() && self.beats < EVERY {
            return Change::None;
        }
        if self.mac.is_none() && self.asked.is_some_and(|at| now < at + STRANGER) {
            return Change::None;
        }
        // A replaced card answers only to a question that all hear.
        let mac = self.mac.filter(|_| self.unanswered % 4 != 3);
        out.push(Action::Probe { ifindex, source, target: self.ip, mac });
        self.asked = Some(now);
        self.beats = 0;
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered <= MISSING || self.reachable.is_some_and(|(r, _)| !r) {
            return Change::None;
        }
        let change = if self.reachable.is_some() { Change::Lost } else { Change::None };
        self.reachable = Some((false, now));
        change
    }

    /// It said where it is.
    pub(crate) fn answered(&mut self, now: Instant, mac: Mac) -> Change {
        self.mac = Some(mac);
        let missed = self.unanswered > 1;
        self.unanswered = 0;
        match self.reachable {
            Some((true, _)) if missed => Change::Blinked,
            Some((true, _)) => Change::None,
            Some((false, _)) => {
                self.reachable = Some((true, now));
                Change::Returned
            }
            None => {
                self.reachable = Some((true, now));
                Change::Found
            }
        }
    }

    /// Nobody asked for long: what was known is no longer.
    fn forget(&mut self) {
        self.reachable = None;
        self.asked = None;
        self.unanswered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn silence_then_an_answer_is_a_return() {
        let mut peer = Peer::new("hap2".into(), THERE, PeerKind::Node);
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut out = Vec::new();
        let mut ask = |peer: &mut Peer, now: &mut Instant| {
            *now += Duration::from_millis(100);
            peer.ask(*now, IfIndex(1), HERE, &mut out)
        };
        assert_eq!(ask(&mut peer, &mut now), Change::None);
        assert_eq!(peer.answered(now, Mac([2; 6])), Change::Found);
        let changes: Vec<_> = (0..8).map(|_| ask(&mut peer, &mut now)).collect();
        assert_eq!(changes.iter().filter(|c| **c == Change::Lost).count(), 1, "told once");
        assert_eq!(peer.answered(now, Mac([2; 6])), Change::Returned);
        assert_eq!(peer.answered(now, Mac([2; 6])), Change::None);
    }
}
