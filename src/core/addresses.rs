//! The virtual addresses of a group: what the kernel has against what it should have, and when
//! each is announced.
//!
//! One request at a time is out for an address; whatever is wanted meanwhile is seen when its
//! answer comes. So a kernel that answers late, or twice, changes nothing but the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Announce;
use crate::types::{IfIndex, Instant};

use super::event::{Action, AddressSpec, Failure, KernelAddress, Task};

/// How long to wait before a refused request is repeated.
const RETRY: Duration = Duration::from_secs(1);
/// How long an address that could not be had counts against this host once it is not wanted.
const FORGIVEN: Duration = Duration::from_secs(30);
/// The window of the limit on restorations.
const RESTORE_WINDOW: Duration = Duration::from_mins(1);
/// How late the event of a deletion may come after its answer.
const ECHO: Duration = Duration::from_secs(1);
/// A round of announcements as young as this is not begun again by another sign of a conflict.
const FRESH_ROUND: Duration = Duration::from_millis(100);

/// One virtual address on this host.
#[derive(Debug)]
pub(crate) struct Slot {
    /// What to add; an interface of zero does not exist yet.
    pub(crate) spec: AddressSpec,
    /// Carried in the adverts.
    pub(crate) advertise: bool,
    /// No longer in the configuration: never wanted, and reused once gone.
    pub(crate) retired: bool,
    /// Whether the kernel has it.
    pub(crate) have: bool,
    pub(crate) pending: Option<Op>,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) restored: u64,
    retry_at: Option<Instant>,
    echo: Echo,
    window: Instant,
    in_window: u32,
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Del,
}

/// Whether the event of a deletion may be the late one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Echo {
    /// It is somebody else's.
    None,
    /// It may be, until then.
    Until(Instant),
    /// One came while the address was being added: whose, and of what, is open.
    Doubt,
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The kernel refused to add it.
    NotAdded(Failure),
    /// The kernel refused to remove it.
    NotRemoved(Failure),
    /// Somebody else keeps deleting it.
    Contended,
}

/// A schedule of announcements under way.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    step: usize,
    due: Instant,
}

impl Slot {
    pub(crate) fn new(spec: AddressSpec, advertise: bool) -> Self {
        Self {
            spec,
            advertise,
            retired: false,
            have: false,
            pending: None,
            trouble: None,
            restored: 0,
            retry_at: None,
            echo: Echo::None,
            window: Instant::BOOT,
            in_window: 0,
            round: None,
        }
    }

    /// The request that would bring the kernel to `want`, if it may be made now.
    fn next(&self, want: bool, now: Instant) -> Option<Op> {
        if self.pending.is_some()
            || self.spec.index == IfIndex(0)
            || self.retry_at.is_some_and(|at| now < at)
        {
            return None;
        }
        match (want && !self.retired, self.have) {
            (true, false) => Some(Op::Add),
            (false, true) => Some(Op::Del),
            (true, true) | (false, false) => None,
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.round = Some(Round { began: now, step: 0, due: now });
    }

    fn set_have(&mut self, have: bool, tally: &mut Tally) {
        tally.have = tally.have + usize::from(have) - usize::from(self.have);
        self.have = have;
        if !have {
            self.round = None;
            // Whatever the kernel said, or did not.
            if matches!(self.trouble, Some(Trouble::NotRemoved(_))) {
                self.set_trouble(None, tally);
            }
        }
    }

    fn set_pending(&mut self, pending: Option<Op>, tally: &mut Tally) {
        tally.pending =
            tally.pending + usize::from(pending.is_some()) - usize::from(self.pending.is_some());
        self.pending = pending;
    }

    fn set_trouble(&mut self, trouble: Option<Trouble>, tally: &mut Tally) {
        tally.trouble =
            tally.trouble + usize::from(trouble.is_some()) - usize::from(self.trouble.is_some());
        self.trouble = trouble;
    }

    fn retry(&mut self, at: Instant, tally: &mut Tally) {
        self.retry_at = Some(at);
        tally.retry_at = Some(tally.retry_at.map_or(at, |t| t.min(at)));
    }
}

/// How many addresses are where, so that thousands need not be counted at each event.
#[derive(Debug, Default)]
struct Tally {
    have: usize,
    pending: usize,
    trouble: usize,
    /// The earliest `retry_at`, or an earlier moment.
    retry_at: Option<Instant>,
}

/// What a kernel event meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing new.
    Expected,
    /// It is there, and should be: whatever was wrong is over.
    Arrived,
    /// Somebody else deleted it; it is being put back.
    Deleted,
    /// Somebody else keeps deleting it.
    Contended,
}

/// All addresses of one group.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    slots: Vec<Slot>,
    configured: usize,
    want: bool,
    tally: Tally,
    todo: VecDeque<u16>,
    /// When which address is to be announced; one whose round has another time is out of date.
    due: BTreeSet<(Instant, u16)>,
    forgive_at: Option<Instant>,
}

impl Addresses {
    /// Those of a group that holds them as it begins, or does not.
    pub(crate) fn wanted_from_the_start(want: bool) -> Self {
        Self { want, ..Self::default() }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn wanted(&self) -> bool {
        self.want
    }

    /// Changes what is wanted of all of them. What could not be had stays a trouble for a while,
    /// so that this host does not at once claim again what it gave up for it.
    pub(crate) fn set_wanted(&mut self, now: Instant, want: bool) {
        self.want = want;
        self.forgive_at = if want { None } else { Some(now + FORGIVEN) };
        for slot in &mut self.slots {
            slot.retry_at = None;
            if matches!(slot.trouble, Some(Trouble::NotRemoved(_))) {
                slot.set_trouble(None, &mut self.tally);
            }
            slot.in_window = 0;
            if !want {
                slot.round = None;
            }
        }
        self.queue_all();
    }

    /// Whether none is on this host nor under way.
    pub(crate) fn all_gone(&self) -> bool {
        self.tally.have == 0 && self.tally.pending == 0
    }

    /// Whether all that are configured are on this host.
    pub(crate) fn all_present(&self) -> bool {
        self.tally.have == self.configured
    }

    /// Whether what can be had is on this host, and nothing is under way.
    pub(crate) fn settled(&self) -> bool {
        self.tally.have > 0 && self.tally.pending == 0 && self.todo.is_empty()
    }

    /// Whether one is on this host.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.slots.iter().any(|slot| slot.spec.ip == ip && slot.have && !slot.retired)
    }

    /// Replaces the configured set; what stays is not touched, what goes is removed. `exists` says
    /// whether the kernel has an address that is new here; returns how many it has.
    pub(crate) fn configure(
        &mut self,
        wanted: Vec<(AddressSpec, bool)>,
        exists: impl Fn(&AddressSpec) -> bool,
    ) -> usize {
        let mut found = 0;
        self.configured = wanted.len();
        let specs: BTreeMap<IpAddr, &AddressSpec> =
            wanted.iter().map(|(spec, _)| (spec.ip, spec)).collect();
        let (mut kept, mut vacant) = (BTreeMap::new(), Vec::new());
        for (ix, slot) in self.slots.iter_mut().enumerate() {
            slot.retired = specs.get(&slot.spec.ip).is_none_or(|spec| **spec != slot.spec);
            if !slot.retired {
                kept.insert(slot.spec.ip, ix);
            } else if !slot.have && slot.pending.is_none() {
                vacant.push(ix);
            }
        }
        for (spec, advertise) in wanted {
            if let Some(ix) = kept.get(&spec.ip) {
                self.slots[*ix].advertise = advertise;
                continue;
            }
            let mut new = Slot::new(spec, advertise);
            let here = exists(&new.spec);
            found += usize::from(here);
            new.set_have(here, &mut self.tally);
            match vacant.pop() {
                Some(ix) => {
                    self.slots[ix].set_trouble(None, &mut self.tally);
                    self.slots[ix] = new;
                }
                None => self.slots.push(new),
            }
        }
        self.queue_all();
        found
    }

    fn queue_all(&mut self) {
        self.todo.clear();
        self.todo.extend(0..u16::try_from(self.slots.len()).unwrap_or(u16::MAX));
    }

    /// Asks the kernel for what is missing, as long as `allowance` lasts.
    pub(crate) fn reconcile(
        &mut self,
        now: Instant,
        group: u16,
        allowance: &mut usize,
        out: &mut Vec<Action>,
    ) {
        while *allowance > 0
            && let Some(ix) = self.todo.pop_front()
        {
            let Some(slot) = self.slots.get_mut(usize::from(ix)) else { continue };
            let Some(op) = slot.next(self.want, now) else { continue };
            slot.set_pending(Some(op), &mut self.tally);
            slot.retry_at = None;
            *allowance -= 1;
            let spec = slot.spec.clone();
            out.push(Action::Kernel(match op {
                Op::Add => Task::AddAddress { group, slot: ix, spec },
                Op::Del => Task::DelAddress { group, slot: ix, spec },
            }));
        }
    }

    /// The kernel answered.
    pub(crate) fn done(
        &mut self,
        now: Instant,
        ix: u16,
        op: Op,
        spec: &AddressSpec,
        result: Result<(), Failure>,
    ) {
        let Self { slots, want, tally, todo, due, .. } = self;
        let Some(slot) = slots.get_mut(usize::from(ix)) else { return };
        if slot.pending != Some(op) || slot.spec != *spec {
            return;
        }
        slot.set_pending(None, tally);
        match (op, result) {
            // Asked for again, which does no harm if it is there.
            (Op::Add, Ok(())) if slot.echo == Echo::Doubt => slot.echo = Echo::None,
            (Op::Add, Ok(())) => {
                slot.set_have(true, tally);
                slot.set_trouble(None, tally);
                if *want && !slot.retired {
                    slot.begin_round(now);
                    due.insert((now, ix));
                }
            }
            (Op::Del, Ok(())) => {
                slot.set_have(false, tally);
                slot.set_trouble(None, tally);
                slot.echo = Echo::Until(now + ECHO);
            }
            (Op::Add, Err(why)) => {
                slot.set_trouble(Some(Trouble::NotAdded(why)), tally);
                slot.retry(now + RETRY, tally);
            }
            // No answer in time, but it was seen to go.
            (Op::Del, Err(_)) if !slot.have => slot.set_trouble(None, tally),
            (Op::Del, Err(why)) => {
                slot.set_trouble(Some(Trouble::NotRemoved(why)), tally);
                slot.retry(now + RETRY, tally);
            }
        }
        todo.push_back(ix);
    }

    /// The kernel has it.
    pub(crate) fn seen(&mut self, now: Instant, ix: u16, address: &KernelAddress) -> Meaning {
        let Self { slots, want, tally, todo, due, .. } = self;
        let Some(slot) = slots.get_mut(usize::from(ix)) else { return Meaning::Expected };
        if slot.spec.index != address.index || slot.have || slot.pending == Some(Op::Add) {
            return Meaning::Expected;
        }
        slot.set_have(true, tally);
        if slot.pending.is_some() {
            return Meaning::Expected;
        }
        todo.push_back(ix);
        if *want && !slot.retired {
            slot.set_trouble(None, tally);
            slot.begin_round(now);
            due.insert((now, ix));
            return Meaning::Arrived;
        }
        Meaning::Expected
    }

    /// The kernel has it no more; `limit` restorations a minute are nothing to complain about.
    pub(crate) fn gone(
        &mut self,
        now: Instant,
        ix: u16,
        address: &KernelAddress,
        limit: u32,
    ) -> Meaning {
        let Self { slots, want, tally, todo, .. } = self;
        let Some(slot) = slots.get_mut(usize::from(ix)) else { return Meaning::Expected };
        if slot.spec.index != address.index {
            return Meaning::Expected;
        }
        if slot.pending == Some(Op::Del) {
            slot.set_have(false, tally);
            return Meaning::Expected;
        }
        if !slot.have {
            if slot.pending == Some(Op::Add) {
                slot.echo = Echo::Doubt;
            }
            return Meaning::Expected;
        }
        slot.set_have(false, tally);
        todo.push_back(ix);
        // The late event of our own deletion says nothing about the address that was added
        // since: it is asked for again, which does no harm if it is there.
        let echo = matches!(slot.echo, Echo::Until(until) if now < until);
        slot.echo = Echo::None;
        if echo || !*want || slot.retired {
            return Meaning::Expected;
        }
        slot.restored += 1;
        if now > slot.window + RESTORE_WINDOW {
            slot.window = now;
            slot.in_window = 0;
        }
        slot.in_window += 1;
        if slot.in_window <= limit {
            return Meaning::Deleted;
        }
        slot.retry(now + RETRY, tally);
        slot.set_trouble(Some(Trouble::Contended), tally);
        Meaning::Contended
    }

    /// Every address of a vanished interface is gone with it, and so are the answers to what was
    /// asked of it.
    pub(crate) fn interface_gone(&mut self, index: IfIndex) {
        for slot in self.slots.iter_mut().filter(|s| s.spec.index == index) {
            slot.set_have(false, &mut self.tally);
            slot.set_pending(None, &mut self.tally);
            slot.set_trouble(None, &mut self.tally);
            slot.echo = Echo::None;
        }
    }

    /// What stands in the way of serving, the first of it.
    pub(crate) fn trouble(&self) -> Option<(IpAddr, Trouble)> {
        if self.tally.trouble == 0 {
            return None;
        }
        self.slots.iter().find_map(|s| s.trouble.map(|t| (s.spec.ip, t)))
    }

    /// Begins the announcements of every present address again, as after a conflict.
    pub(crate) fn announce_again(&mut self, now: Instant) {
        if !self.want {
            return;
        }
        for (ix, slot) in (0..).zip(&mut self.slots).filter(|(_, s)| s.have && !s.retired) {
            if slot.round.is_none_or(|r| now >= r.began + FRESH_ROUND) {
                slot.begin_round(now);
                self.due.insert((now, ix));
            }
        }
    }

    /// Announces what is due, as long as `allowance` lasts.
    pub(crate) fn announce(
        &mut self,
        now: Instant,
        schedule: &Announce,
        allowance: &mut u32,
        out: &mut Vec<Action>,
    ) {
        while *allowance > 0
            && let Some(&(at, ix)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let slot = self.slots.get_mut(usize::from(ix)).filter(|s| s.have && !s.retired);
            let Some(slot) = slot else { continue };
            let Some(round) = slot.round.as_mut().filter(|r| r.due == at) else { continue };
            *allowance -= 1;
            out.push(Action::Announce { ifindex: slot.spec.index, ip: slot.spec.ip });
            if round.advance(now, schedule) {
                self.due.insert((round.due, ix));
            } else {
                slot.round = None;
            }
        }
    }

    pub(crate) fn announce_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Queues the requests whose time to be repeated has come.
    pub(crate) fn requeue_due(&mut self, now: Instant) {
        if self.forgive_at.is_some_and(|at| now >= at) {
            self.forgive_at = None;
            self.slots.iter_mut().for_each(|s| s.set_trouble(None, &mut self.tally));
        }
        if self.tally.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.tally.retry_at = None;
        for (ix, slot) in (0..).zip(&mut self.slots) {
            match slot.retry_at {
                Some(at) if now >= at => {
                    slot.retry_at = None;
                    self.todo.push_back(ix);
                }
                Some(at) => slot.retry(at, &mut self.tally),
                None => {}
            }
        }
    }

    /// When a refused request is to be repeated, or a trouble is over.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let forgive_at = self.forgive_at.filter(|_| self.tally.trouble > 0);
        [self.tally.retry_at, forgive_at].into_iter().flatten().min()
    }
}

impl Round {
    /// Plans the next announcement, leaving out those whose time has passed; `false` if that was
    /// the last.
    fn advance(&mut self, now: Instant, schedule: &Announce) -> bool {
        loop {
            self.step += 1;
            match (schedule.schedule.get(self.step), schedule.refresh) {
                (Some(step), _) => self.due = self.began + *step,
                (None, Some(refresh)) => self.due = now + refresh,
                (None, None) => return false,
            }
            if self.due > now {
                return true;
            }
        }
    }
}
