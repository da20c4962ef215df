//! The deadlines, one for each slot, in memory that the kernel's programs read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bpf::Memory;
use crate::types::Instant;

/// The words of a slot, as `struct slot` of the program has them: the deadline, the two halves of
/// the owner, one that waits for its use.
pub(super) const WORDS: usize = 4;

/// The deadlines of all slots. A clone is the same slots.
///
/// A deadline is one store of eight bytes, which neither waits nor fails: made for the core
/// thread. Owners are claimed and released by one thread at a time.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Memory>);

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) owner: u128,
    pub(super) deadline: Instant,
}

impl Slots {
    pub(super) fn new(memory: Memory) -> Self {
        Self(Arc::new(memory))
    }

    /// Frames pass until `deadline`. One further away than [`CAP`](super::CAP) opens nothing
    /// before it is near enough.
    pub fn open_until(&self, slot: u16, deadline: Instant) {
        if let Some(word) = self.word(slot, 0) {
            word.store(deadline.nanos(), Ordering::SeqCst);
        }
    }

    /// Frames pass no longer.
    pub fn shut(&self, slot: u16) {
        self.open_until(slot, Instant::BOOT);
    }

    /// Until when frames pass; long ago for a slot that there is not.
    pub fn deadline(&self, slot: u16) -> Instant {
        let word = self.word(slot, 0);
        word.map_or(Instant::BOOT, |word| Instant::from_nanos(word.load(Ordering::SeqCst)))
    }

    /// Whose it is, if anybody's.
    pub fn owner(&self, slot: u16) -> Option<u128> {
        let half = |nth| Some(u128::from(self.word(slot, nth)?.load(Ordering::SeqCst)));
        let owner = half(1)? | half(2)? << 64;
        (owner != 0).then_some(owner)
    }

    /// The slot of `owner`, with the deadline it has; else one that is nobody's, shut.
    ///
    /// Never one whose deadline is to come for somebody else. `None` if there is none left, and
    /// for the owner zero, which is nobody.
    pub fn claim(&self, owner: u128, now: Instant) -> Option<u16> {
        let slot = choose(self.all().map(|(_, slot)| slot), owner, now)?;
        let slot = u16::try_from(slot).ok()?;
        if self.owner(slot) != Some(owner) {
            self.shut(slot);
            self.own(slot, owner);
        }
        Some(slot)
    }

    /// Shuts `slot`, and whoever wants it may have it. No address may lead to it any more.
    pub fn release(&self, slot: u16) {
        self.shut(slot);
        self.own(slot, 0);
    }

    /// Releases every slot whose deadline has passed and whose owner is none of `owners`: what
    /// an earlier daemon had, with another configuration.
    ///
    /// Its addresses may lead there still: whoever claims the slot opens it only after
    /// [`Gate::set_addresses`](super::Gate::set_addresses).
    pub fn retain(&self, owners: &BTreeSet<u128>, now: Instant) {
        let over = |slot: &Slot| slot.deadline <= now && !owners.contains(&slot.owner);
        self.all().filter(|(_, slot)| over(slot)).for_each(|(number, _)| self.own(number, 0));
    }

    /// Every slot that somebody has or had, or that is not shut.
    pub(super) fn all(&self) -> impl Iterator<Item = (u16, Slot)> {
        let last = u16::try_from(self.0.words().len() / WORDS).unwrap_or(u16::MAX);
        (0..last).map(|number| {
            let owner = self.owner(number).unwrap_or(0);
            (number, Slot { owner, deadline: self.deadline(number) })
        })
    }

    fn own(&self, slot: u16, owner: u128) {
        let halves = [1, 2].map(|nth| self.word(slot, nth));
        let [Some(low), Some(high)] = halves else { return };
        low.store(u64::try_from(owner & u128::from(u64::MAX)).unwrap_or(0), Ordering::SeqCst);
        high.store(u64::try_from(owner >> 64).unwrap_or(0), Ordering::SeqCst);
    }

    fn word(&self, slot: u16, nth: usize) -> Option<&AtomicU64> {
        self.0.words().get(usize::from(slot) * WORDS + nth)
    }
}

/// Which of `slots` to give to `owner`: the one it has, else the first that is nobody's and
/// whose deadline has passed.
fn choose(slots: impl Iterator<Item = Slot>, owner: u128, now: Instant) -> Option<usize> {
    if owner == 0 {
        return None;
    }
    let mut free = None;
    for (number, slot) in slots.enumerate() {
        if slot.owner == owner {
            return Some(number);
        }
        if slot.owner == 0 && slot.deadline <= now && free.is_none() {
            free = Some(number);
        }
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1000);

    fn slot(owner: u128, deadline: u64) -> Slot {
        Slot { owner, deadline: Instant::from_nanos(deadline) }
    }

    fn chosen(slots: &[Slot], owner: u128) -> Option<usize> {
        choose(slots.iter().copied(), owner, NOW)
    }

    #[test]
    fn an_owner_gets_its_slot_again() {
        assert_eq!(chosen(&[slot(0, 0), slot(7, 2000), slot(0, 0)], 7), Some(1));
        assert_eq!(chosen(&[slot(0, 0), slot(7, 0)], 7), Some(1));
    }

    #[test]
    fn a_slot_whose_deadline_is_to_come_is_not_given_away() {
        assert_eq!(chosen(&[slot(0, 1001), slot(0, 1000)], 7), Some(1));
        assert_eq!(chosen(&[slot(0, 1001)], 7), None);
        assert_eq!(chosen(&[slot(8, 2000)], 7), None);
    }

    #[test]
    fn what_is_somebodys_stays_so_after_its_deadline() {
        assert_eq!(chosen(&[slot(8, 0), slot(9, 10)], 7), None);
    }

    #[test]
    fn nobody_owns_nothing() {
        assert_eq!(chosen(&[slot(0, 0)], 0), None);
    }
}
