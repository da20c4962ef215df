//! When time alone changes something for the lease.

use crate::types::Instant;

use super::{Lease, Seat};

impl Lease {
    /// When what was asked for at `at` is asked for again: all groups at the same moments, so that
    /// they share datagrams.
    pub(super) fn renewal(&self, at: Instant) -> Instant {
        let renew = u64::try_from(self.terms.renew.as_nanos()).unwrap_or(u64::MAX).max(1);
        Instant::from_nanos((at.nanos() / renew + 1).saturating_mul(renew))
    }

    /// When [`Lease::tick`] has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let seats = self.seats.iter().map(|(group, seat)| self.seat_deadline(now, *group, seat));
        seats.flatten().chain([self.beat_at]).min()
    }

    /// When everybody is told how this node stands.
    pub fn beat_at(&self) -> Instant {
        self.beat_at
    }

    /// When [`Lease::decide`] has something to do about a group, as long as no message changes that.
    pub fn due(&self, now: Instant, group: u16) -> Option<Instant> {
        self.seat_deadline(now, group, self.seats.get(&group)?)
    }

    fn seat_deadline(&self, now: Instant, group: u16, seat: &Seat) -> Option<Instant> {
        if seat.holder.is_open() && seat.stand.frozen {
            return Some(seat.holder.until());
        }
        if seat.holder.is_open() {
            let renew = seat.holder.asked_at().map_or(now, |at| self.renewal(at));
            let ordered = seat.move_at.map(|(at, _)| at);
            let defers = seat.defers_until().filter(|at| *at > now);
            return ordered.into_iter().chain(defers).chain([renew, seat.holder.until()]).min();
        }
        let wants = seat.wants_at().filter(|at| *at > now);
        if !seat.runs() || self.gate.is_none() || !self.clock_ok {
            return wants;
        }
        let ask = if let Some(at) = seat.holder.asked_at() {
            let given_up = at + seat.patience(now, &self.terms);
            seat.again_at().map_or(given_up, |again| again.min(given_up))
        } else {
            self.turn(now, group, seat)
        };
        wants.into_iter().chain([ask]).min()
    }
}
