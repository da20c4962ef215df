//! Whether this host must be reset, as it cannot give up what it must.
//!
//! Only with an armed watchdog: that resets the host also where nothing else on it works any more,
//! and the others were told that it will. Once decided it is not taken back, as somebody may have
//! begun to count on it.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::types::Instant;

use super::event::{Action, Watchdog};
use super::group::Group;
use super::status::{Condition, Role, Severity, WatchdogStatus, condition};
use super::{EVERY_GROUP, Node, why};

/// How much later than its timeout a watchdog may strike: many count whole seconds.
const TICK: Duration = Duration::from_secs(1);

/// The watchdog, and what was decided.
#[derive(Debug)]
pub(super) struct SelfFence {
    watchdog: Watchdog,
    since: Instant,
    condemned: Option<Condemned>,
}

/// This host must be reset.
#[derive(Debug)]
struct Condemned {
    why: String,
    since: Instant,
    /// When it is gone at the latest.
    by: Instant,
}

/// What a group has left on a host that is not to have it.
#[allow(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remains {
    /// Addresses that the kernel did not remove within their limit.
    pub(super) addresses: bool,
    /// A proxy that did not stop within its limit, not even killed.
    pub(super) proxy: bool,
    /// There are others that could hold the group.
    pub(super) others: bool,
    /// One of them is known to.
    pub(super) held: bool,
    /// This host takes part, so it would know.
    pub(super) listens: bool,
}

impl Remains {
    /// Whether the host must be reset for it. A proxy that was to stop was to stop for somebody. An
    /// address is in the way of whoever has it; where this host does not listen, somebody may.
    pub(super) fn condemn(self) -> bool {
        self.others && (self.proxy || (self.addresses && (self.held || !self.listens)))
    }
}

impl SelfFence {
    pub(super) fn new(now: Instant) -> Self {
        Self { watchdog: Watchdog::Absent, since: now, condemned: None }
    }

    /// After how long the host is reset if this daemon does not feed the watchdog.
    pub(super) fn armed(&self) -> Option<Duration> {
        match &self.watchdog {
            Watchdog::Armed(armed) => Some(Duration::from_micros(armed.timeout_us)),
            Watchdog::Absent | Watchdog::Failed(_) => None,
        }
    }

    pub(super) fn is_condemned(&self) -> bool {
        self.condemned.is_some()
    }

    pub(super) fn status(&self) -> Option<WatchdogStatus> {
        let Watchdog::Armed(armed) = &self.watchdog else { return None };
        Some(WatchdogStatus { resets_by: self.condemned.as_ref().map(|c| c.by), ..armed.clone() })
    }

    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let missing = match &self.watchdog {
            Watchdog::Failed(why) => Some(condition(
                "watchdog-missing",
                Severity::Error,
                format!("{why}: nothing resets this host if it cannot give up what it must"),
                self.since,
            )),
            Watchdog::Absent | Watchdog::Armed(_) => None,
        };
        let condemned = self.condemned.as_ref().map(|c| {
            let text = format!("{}: this host is about to be reset", c.why);
            condition("self-fencing", Severity::Error, text, c.since)
        });
        missing.into_iter().chain(condemned)
    }
}

impl Node {
    /// What became of the watchdog.
    pub(super) fn watchdog_told(&mut self, now: Instant, told: Watchdog, out: &mut Vec<Action>) {
        if self.fence.watchdog == told {
            return;
        }
        let mut note = |severity, kind: &str, text| {
            self.parts(out).1.note(now, severity, None, kind, text);
        };
        match &told {
            Watchdog::Armed(armed) => {
                let WatchdogStatus { device, identity, .. } = armed;
                let after = why::span(Duration::from_micros(armed.timeout_us));
                let again = if armed.armed_before { ", as it would have before" } else { "" };
                let text = format!(
                    "{device} ({identity}) resets this host if it is not fed for {after}{again}"
                );
                note(Severity::Info, "watchdog-armed", text);
                if armed.nowayout {
                    let text = format!(
                        "{device} cannot be disarmed (nowayout): {after} after vipd is stopped it \
                         resets this host"
                    );
                    note(Severity::Warn, "watchdog-nowayout", text);
                }
                if armed.reset_before {
                    let text = format!("{device} says that it caused the last boot of this host");
                    note(Severity::Warn, "watchdog-reset", text);
                }
            }
            Watchdog::Failed(why) => {
                let text = format!("{why}: vipd goes on without a watchdog");
                note(Severity::Error, "watchdog-missing", text);
            }
            Watchdog::Absent => {
                let text = "nothing resets this host any more".to_owned();
                note(Severity::Info, "watchdog-disarmed", text);
            }
        }
        self.fence.watchdog = told;
        self.fence.since = now;
        self.tell_of_watchdog();
    }

    /// The other voters hear of it with the next word.
    pub(super) fn tell_of_watchdog(&mut self) {
        let armed = self.fence.armed();
        if let Some(lease) = &mut self.lease {
            lease.guard(armed);
        }
    }

    /// Has this host reset if it cannot give up what it must; says whether that was decided now.
    pub(super) fn fence_itself(
        &mut self,
        now: Instant,
        touched: &RangeInclusive<u16>,
        out: &mut Vec<Action>,
    ) -> bool {
        if self.fence.armed().is_none() || self.fence.is_condemned() {
            return false;
        }
        let groups = self.groups.range(super::within(touched)).map(|(_, g)| g);
        let stuck = groups.filter(|g| g.is_stuck()).find(|g| self.remains(now, g).condemn());
        if let Some(why) = stuck.map(|group| self.epitaph(now, group)) {
            self.condemn(now, why, out);
        }
        self.fence.is_condemned()
    }

    /// Has this host reset, as a stop did not end in time.
    pub(super) fn fence_at_stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        let left = |g: &Group| !g.is_stopped() && g.has_others();
        let armed = self.fence.armed().is_some() && !self.fence.is_condemned();
        if armed && let Some(group) = self.groups.values().find(|g| left(g)) {
            let name = &group.config.name;
            let why = format!("{name}: vipd is stopping, and not everything was given up in time");
            self.condemn(now, why, out);
        }
    }

    fn remains(&self, now: Instant, group: &Group) -> Remains {
        Remains {
            addresses: group.addresses_stuck(),
            proxy: group.proxy_stuck().is_some(),
            others: group.has_others(),
            held: self.held_elsewhere(now, group).is_some(),
            listens: group.role() == Role::Backup,
        }
    }

    fn held_elsewhere(&self, now: Instant, group: &Group) -> Option<String> {
        let holder = self.who_is_active(now, group)?;
        Some(holder).filter(|name| *name != self.config.nodes[self.me].name)
    }

    fn epitaph(&self, now: Instant, group: &Group) -> String {
        let name = &group.config.name;
        if let Some((what, why)) = group.proxy_stuck() {
            return format!("{name}: {what} cannot be stopped: {why}");
        }
        let holder = self.held_elsewhere(now, group);
        let holder = holder.map_or_else(String::new, |holder| format!(", and {holder} holds them"));
        format!("{name}: the kernel does not remove the addresses{holder}")
    }

    fn condemn(&mut self, now: Instant, why: String, out: &mut Vec<Action>) {
        let by = now + self.fence.armed().unwrap_or_default() + TICK;
        let at_once = matches!(&self.fence.watchdog, Watchdog::Armed(armed) if armed.reboots);
        let how = if at_once {
            "this host is rebooted at once".to_owned()
        } else {
            let left = why::span(by.since(now));
            format!("its watchdog is not fed any more and resets this host within {left}")
        };
        self.fence.condemned = Some(Condemned { why: why.clone(), since: now, by });
        let text = format!("{why}: {how}");
        self.parts(out).1.note(now, Severity::Error, None, "self-fencing", text);
        // Whatever can still be handed over is.
        self.parked = None;
        self.each(out, |group, out| group.quit(now, "this host is about to be reset", out));
        self.follow_leases(now, &EVERY_GROUP, out);
        out.push(Action::Reset { why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left, who else there is, and whether the host must go.
    #[test]
    fn only_what_is_in_somebodys_way_costs_the_host() {
        // addresses, proxy, others, held, listens
        let rows = [
            ("nothing is left", [false, false, true, true, true], false),
            ("addresses, and another holds", [true, false, true, true, true], true),
            ("addresses, and nobody holds", [true, false, true, false, true], false),
            ("addresses, and nobody would be heard", [true, false, true, false, false], true),
            ("a proxy that was to stop", [false, true, true, false, true], true),
            ("both", [true, true, true, true, true], true),
            ("a proxy, and nobody else", [false, true, false, false, true], false),
            ("addresses, and nobody else", [true, false, false, false, false], false),
        ];
        for (name, [addresses, proxy, others, held, listens], expected) in rows {
            let remains = Remains { addresses, proxy, others, held, listens };
            assert_eq!(remains.condemn(), expected, "{name}");
        }
    }
}
