//! One family's virtual router: the timers and comparisons of RFC 9568 §6.4.
//!
//! The states themselves belong to the [group](super::group): its elections share one fate, so an
//! election reports what an advert means and the group decides. With one family this is the
//! state machine of the RFC.

use std::net::IpAddr;
use std::time::Duration;

use super::worth::Worth;
use crate::config::Checksum;
use crate::types::{Centis, Family, Instant, Priority, Version};
use crate::wire::vrrp::{Advert, Flavour, ParseError, Template};

/// The least time between two adverts sent in answer to another router's: what bounds the
/// amplification of a flood.
const ASSERT_GAP: Duration = Duration::from_millis(10);

/// One virtual router of one family, as this node sees it.
#[derive(Debug)]
pub(crate) struct Election {
    /// Its family.
    pub(crate) family: Family,
    /// What our adverts carry, in their order.
    pub(crate) addresses: Vec<IpAddr>,
    /// The bytes of our adverts.
    pub(crate) template: Template,
    /// Protocol version.
    pub(crate) version: Version,
    /// Our own `Advertisement_Interval`.
    pub(crate) interval: Centis,
    /// `Active_Adver_Interval`: ours until another was learned.
    pub(crate) learned: Centis,
    /// The last accepted advert.
    pub(crate) heard: Option<Heard>,
    /// What has been counted.
    pub(crate) counters: Counters,
    checksum: Checksum,
    /// Of the last accepted advert.
    flavour: Flavour,
    /// The one form that the peer uses.
    peer_flavour: Option<Flavour>,
    timer: Timer,
    asserted: Option<Instant>,
}

/// The last accepted advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) from: IpAddr,
    pub(crate) priority: Priority,
    pub(crate) at: Instant,
}

/// The one timer that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Off,
    /// `Active_Down_Timer`: the deadline follows from the priority in force, so that a changed
    /// priority needs no re-arming.
    Down {
        from: Instant,
        only_skew: bool,
    },
    /// `Adver_Timer`.
    Advert {
        at: Instant,
    },
}

/// What an accepted advert means to an Active router (RFC 9568 §6.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rival {
    /// It gave up: advertise at once.
    Gone,
    /// It is better: become Backup.
    Better,
    /// It is worse: advertise at once, so that it gives up.
    Worse,
}

impl Election {
    pub(crate) fn new(
        family: Family,
        version: Version,
        interval: Centis,
        checksum: Checksum,
        addresses: Vec<IpAddr>,
        template: Template,
    ) -> Self {
        Self {
            family,
            addresses,
            template,
            version,
            interval,
            learned: interval,
            heard: None,
            counters: Counters::default(),
            checksum,
            flavour: Flavour::Plain,
            peer_flavour: None,
            timer: Timer::Off,
            asserted: None,
        }
    }

    /// Remembers an accepted advert; every state does.
    pub(crate) fn hear(&mut self, now: Instant, from: IpAddr, advert: &Advert<'_>) {
        self.counters.received += 1;
        if advert.priority == Priority::RELEASE {
            self.counters.released += 1;
        }
        if advert.interval != self.learned {
            self.counters.interval_mismatches += 1;
        }
        // One that sends both at a time has heard nobody either, and others may need either form.
        let both = self.flavour != advert.flavour
            && self.heard.is_some_and(|h| h.from == from && now < h.at + ASSERT_GAP);
        self.heard = Some(Heard { from, priority: advert.priority, at: now });
        self.flavour = advert.flavour;
        self.peer_flavour = Some(advert.flavour).filter(|_| !both);
    }

    /// `Active_Down_Timer := Active_Down_Interval`, for a router that has just been heard or for
    /// one that begins to listen (§6.4.1, §6.4.2).
    pub(crate) fn listen(&mut self, now: Instant, interval: Centis) {
        self.learned = interval;
        self.timer = Timer::Down { from: now, only_skew: false };
    }

    /// `Active_Down_Timer := Skew_Time`: the Active router gave up (§6.4.2).
    pub(crate) fn listen_briefly(&mut self, now: Instant) {
        self.timer = Timer::Down { from: now, only_skew: true };
    }

    /// The Active router is to be replaced: `Active_Down_Timer := Skew_Time`, unless it is that
    /// already.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if let Timer::Down { only_skew: false, .. } = self.timer {
            self.listen_briefly(now);
        }
    }

    /// `Adver_Timer := Advertisement_Interval` (§6.4.3).
    pub(crate) fn arm_advert(&mut self, now: Instant) {
        self.timer = Timer::Advert { at: now + self.interval.duration() };
    }

    /// Keeps the beat: the next advert an interval after the last was due, unless that is past.
    pub(crate) fn next_advert(&mut self, now: Instant) {
        if let Timer::Advert { at } = self.timer {
            let next = at + self.interval.duration();
            self.timer = Timer::Advert {
                at: if next > now { next } else { now + self.interval.duration() },
            };
        }
    }

    pub(crate) fn stop(&mut self) {
        self.timer = Timer::Off;
    }

    /// When the Active router has been silent for `Active_Down_Interval`.
    pub(crate) fn down_at(&self, own: Priority) -> Option<Instant> {
        match self.timer {
            Timer::Down { from, only_skew: true } => {
                Some(from + self.learned.skew(self.version, own))
            }
            Timer::Down { from, only_skew: false } => {
                Some(from + self.learned.down_interval(self.version, own))
            }
            Timer::Off | Timer::Advert { .. } => None,
        }
    }

    pub(crate) fn advert_at(&self) -> Option<Instant> {
        match self.timer {
            Timer::Advert { at } => Some(at),
            Timer::Off | Timer::Down { .. } => None,
        }
    }

    /// How an Active router compares with another one of primary address `source` (§6.4.3):
    /// addresses break ties as unsigned numbers in network order.
    pub(crate) fn compare(
        own: Worth,
        source: Option<IpAddr>,
        from: IpAddr,
        theirs: Worth,
    ) -> Rival {
        if theirs > own || (theirs == own && source.is_some_and(|own| from > own)) {
            Rival::Better
        } else {
            Rival::Worse
        }
    }

    /// Whether an advert may be sent now in answer to another router's. One that comes too soon
    /// after the last is answered as soon as may be: others have heard it, too.
    pub(crate) fn may_assert(&mut self, now: Instant) -> bool {
        let from = self.asserted.map(|at| at + ASSERT_GAP).filter(|from| now < *from);
        match (from, &mut self.timer) {
            (None, _) => self.asserted = Some(now),
            (Some(from), Timer::Advert { at }) => *at = from.min(*at),
            (Some(_), _) => {}
        }
        from.is_none()
    }

    /// The checksums to send with: both in `auto` until a peer has been heard, then the peer's.
    pub(crate) fn flavours(&self) -> &'static [Flavour] {
        const PLAIN: &[Flavour] = &[Flavour::Plain];
        const PSEUDO: &[Flavour] = &[Flavour::Pseudo];
        const BOTH: &[Flavour] = &[Flavour::Pseudo, Flavour::Plain];
        match (self.version, self.family) {
            (Version::V2, _) => PLAIN,
            (Version::V3, Family::V6) => PSEUDO,
            (Version::V3, Family::V4) => match (self.checksum, self.peer_flavour) {
                (Checksum::Rfc9568, _) | (Checksum::Auto, Some(Flavour::Plain)) => PLAIN,
                (Checksum::Pseudo, _) | (Checksum::Auto, Some(Flavour::Pseudo)) => PSEUDO,
                (Checksum::Auto, None) => BOTH,
            },
        }
    }

    /// Changes how version 3 IPv4 adverts are sent.
    pub(crate) fn set_checksum(&mut self, checksum: Checksum) {
        self.checksum = checksum;
    }
}

/// What has been counted since start; one for each receive check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Adverts accepted.
    pub(crate) received: u64,
    /// Adverts sent, priority 0 included; one for each destination set, not for each packet.
    pub(crate) sent: u64,
    /// Priority 0 accepted.
    pub(crate) released: u64,
    /// Priority 0 sent.
    pub(crate) releases_sent: u64,
    /// Times this node became Active.
    pub(crate) activations: u64,
    /// Version 3: accepted adverts whose interval was not the one learned before.
    pub(crate) interval_mismatches: u64,
    /// Version 2: discarded for their interval (RFC 3768 §7.1).
    pub(crate) interval_discards: u64,
    /// Accepted adverts whose address list was not ours.
    pub(crate) list_mismatches: u64,
    /// Discarded: not from a configured peer, or not sent the way this group is.
    pub(crate) transport_errors: u64,
    /// Discarded: our own address as the source.
    pub(crate) own_source: u64,
    /// Discarded by [`crate::wire::vrrp::parse`], one for each of its checks.
    pub(crate) parse: [u64; ParseError::ALL_NAMES.len()],
}

impl Counters {
    /// All counters by name, those of RFC 8347 under its names.
    pub(crate) fn named(&self) -> Vec<(String, u64)> {
        let fixed = [
            ("advertisements-received", self.received),
            ("advertisements-sent", self.sent),
            ("priority-zero-packets-received", self.released),
            ("priority-zero-packets-sent", self.releases_sent),
            ("active-transitions", self.activations),
            ("interval-mismatches", self.interval_mismatches),
            ("interval-discards", self.interval_discards),
            ("address-list-mismatches", self.list_mismatches),
            ("transport-errors", self.transport_errors),
            ("own-source-packets", self.own_source),
        ];
        let parse = ParseError::ALL_NAMES.iter().copied().zip(self.parse);
        fixed.into_iter().chain(parse).map(|(name, n)| (name.to_owned(), n)).collect()
    }
}
