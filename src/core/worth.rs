//! How good a host is for a group: health first, then room, preference last.
//!
//! Adverts and reports carry one number, the priority in force; 1 means unfit. Where checks cost
//! points it tells two things, as every node has the configured priorities of all: what the file
//! prefers, and how much worse than that a host says it is. Room is what a host has that holds none
//! of the groups this one is kept apart from; everybody sees who holds what.

use std::cmp::{Ordering, Reverse};

use crate::types::Priority;

/// How good a host is for a group. The greater one is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Worth {
    /// By how much its health falls short; [`Worth::UNFIT`] where it cannot serve.
    deficit: u8,
    /// How many groups it holds that this one is kept apart from.
    crowd: u8,
    /// The priority that the file gives it.
    priority: Priority,
}

impl Worth {
    /// The deficit of a host that must not hold if another one can.
    pub const UNFIT: u8 = u8::MAX;
    /// The deficit of one that can serve, and is the last to be taken.
    pub const SUSPECT: u8 = Self::UNFIT - 1;
    /// That of a host nothing good is known of.
    pub const NONE: Self = Self { deficit: Self::UNFIT, crowd: 0, priority: Priority::LEAST };

    /// Of a host whose health falls short by `deficit`.
    pub fn new(priority: Priority, deficit: u8) -> Self {
        Self { deficit, crowd: 0, priority }
    }

    /// Of a host that says `effective`, where the file says `configured`.
    pub fn heard(configured: Priority, effective: Priority) -> Self {
        let deficit = match effective {
            Priority::LEAST => Self::UNFIT,
            Priority(effective) => configured.0.saturating_sub(effective),
        };
        Self { deficit, crowd: 0, priority: configured.max(effective) }
    }

    /// The same beside `crowd` groups that it holds and this one is kept apart from.
    #[must_use]
    pub fn beside(self, crowd: usize) -> Self {
        Self { crowd: u8::try_from(crowd).unwrap_or(u8::MAX), ..self }
    }

    /// How many groups it holds that this one is kept apart from.
    pub fn crowd(self) -> u8 {
        self.crowd
    }

    /// What is said of it: the priority less what it falls short by; the least there is, 1, only
    /// where it is unfit.
    pub fn effective(self) -> Priority {
        if self.is_unfit() {
            return Priority::LEAST;
        }
        let floor = self.priority.0.min(Priority::LEAST.0 + 1);
        Priority(self.priority.0.saturating_sub(self.deficit).max(floor))
    }

    /// Whether it must not hold if another one can.
    pub fn is_unfit(self) -> bool {
        self.deficit == Self::UNFIT
    }

    /// The points that checks cost it; `None` where something else counts.
    pub fn points(self) -> Option<u8> {
        Some(self.deficit).filter(|deficit| *deficit < Self::SUSPECT)
    }

    /// By how much its health falls short.
    pub fn deficit(self) -> u8 {
        self.deficit
    }

    /// Whether a holder is to give way for its health: this host's is better by more than
    /// `stickiness`.
    pub fn is_healthier(self, holder: Self, stickiness: u8) -> bool {
        !self.is_unfit()
            && (holder.is_unfit() || holder.deficit > self.deficit.saturating_add(stickiness))
    }

    /// Whether a holder is to give way for room, or for the file's preference: never to a host that
    /// is less healthy, or two hosts could take turns without end.
    pub fn is_preferred(self, holder: Self) -> bool {
        let liked = |w: Self| (Reverse(w.crowd), w.priority);
        !self.is_unfit() && self.deficit <= holder.deficit && liked(self) > liked(holder)
    }
}

impl Ord for Worth {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |w: &Self| (Reverse(w.deficit), Reverse(w.crowd), w.priority);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any() -> impl Strategy<Value = Worth> {
        let health = prop_oneof![0_u8..60, Just(Worth::UNFIT)];
        (health, 2_u8..=254, 0_usize..3).prop_map(|(deficit, priority, crowd)| {
            Worth::new(Priority(priority), deficit).beside(crowd)
        })
    }

    proptest! {
        /// Whoever takes over is better: no two hosts, and no ring of them, take turns.
        #[test]
        fn each_move_is_for_the_better(holder in any(), other in any(), stickiness in 0_u8..80) {
            let moves = other.is_healthier(holder, stickiness) || other.is_preferred(holder);
            prop_assert!(!moves || other > holder);
        }

        #[test]
        fn what_is_said_is_understood(own in any()) {
            let own = own.beside(0);
            let heard = Worth::heard(own.priority, own.effective());
            prop_assert_eq!(heard.is_unfit(), own.is_unfit());
            prop_assert_eq!(heard.effective(), own.effective());
            if own.deficit < own.priority.0 - 1 {
                prop_assert_eq!(heard, own);
            }
        }
    }

    #[test]
    fn room_comes_after_health_and_before_preference() {
        let holder = Worth::new(Priority(200), 0).beside(1);
        let other = Worth::new(Priority(100), 0);
        assert!(other.is_preferred(holder) && !holder.is_preferred(other));
        assert!(!Worth::new(Priority(100), 1).is_preferred(holder), "less healthy");
        assert!(Worth::new(Priority(100), 1) < holder);
    }

    #[test]
    fn a_weight_smaller_than_the_gap_between_priorities_moves_the_addresses() {
        let holder = Worth::new(Priority(200), 10);
        let other = Worth::new(Priority(100), 0);
        assert!(other.is_healthier(holder, 0) && !holder.is_preferred(other));
        assert!(!other.is_healthier(holder, 10), "not worth a move");
    }
}
