//! What became of the addresses and the proxy, and what is told of it.

use std::net::IpAddr;

use crate::types::Instant;

use super::super::addresses::{Meaning, Op};
use super::super::event::{AddressSpec, Failure, ProxyEvent};
use super::super::proxy::Told;
use super::super::status::Severity;
use super::super::{Out, why};
use super::{Group, Leaving, RELEASE_LIMIT};

impl Group {
    /// Watches how long addresses stay that are to be gone.
    pub(super) fn note_leaving(&mut self, now: Instant) {
        self.leaving = match self.leaving {
            _ if self.addresses.wanted() || self.addresses.all_gone() => Leaving::None,
            Leaving::None => Leaving::By(now + RELEASE_LIMIT),
            Leaving::By(limit) if now >= limit => Leaving::Overdue,
            Leaving::By(_) | Leaving::Overdue => return,
        };
    }

    /// When they must be gone.
    pub(super) fn leave_by(&self) -> Option<Instant> {
        match self.leaving {
            Leaving::By(limit) => Some(limit),
            Leaving::None | Leaving::Overdue => None,
        }
    }

    /// Whether the kernel has not removed the addresses within their limit.
    pub(crate) fn addresses_stuck(&self) -> bool {
        self.leaving == Leaving::Overdue
    }

    /// The proxy that was to stop and did not within its limit, and why.
    pub(crate) fn proxy_stuck(&self) -> Option<(String, &str)> {
        let proxy = self.proxy.as_ref()?;
        Some((why::proxy_name(&proxy.config), proxy.stuck()?))
    }

    /// Whether this group could not be given up.
    pub(crate) fn is_stuck(&self) -> bool {
        self.addresses_stuck() || self.proxy.as_ref().is_some_and(|p| p.stuck().is_some())
    }

    /// Whether there is anybody for whom it is given up. What starts anew with other settings
    /// comes back here.
    pub(crate) fn has_others(&self) -> bool {
        !self.destinations.is_empty() && !self.retired && self.replacement.is_none()
    }

    /// The kernel answered a request.
    pub(crate) fn address_done(
        &mut self,
        now: Instant,
        slot: u16,
        op: Op,
        spec: &AddressSpec,
        result: Result<(), Failure>,
        out: &mut Out<'_>,
    ) {
        let was = self.addresses.trouble();
        self.addresses.done(now, slot, op, spec, result);
        if op == Op::Add && self.gap.is_some_and(|gap| gap.ip() == spec.ip) {
            self.last_gap = self.gap.take().and_then(|gap| gap.end(now));
        }
        if let (Err(why), None) = (result, was) {
            let (kind, did) = match op {
                Op::Add => ("address-failed", "added"),
                Op::Del => ("address-stuck", "removed"),
            };
            let text = format!("{} could not be {did}: {why}", spec.ip);
            self.note(now, Severity::Error, kind, text, out);
        }
    }

    /// The kernel reported an address of ours; called by the node.
    pub(crate) fn address_told(
        &mut self,
        now: Instant,
        ip: IpAddr,
        meaning: Meaning,
        out: &mut Out<'_>,
    ) {
        match meaning {
            Meaning::Expected => {}
            Meaning::Arrived => {
                let text = format!("{ip} is back");
                self.note(now, Severity::Info, "address-arrived", text, out);
            }
            Meaning::Deleted => {
                let text = format!("{ip} was deleted by somebody else; put back");
                self.note(now, Severity::Warn, "address-restored", text, out);
            }
            Meaning::Contended => {
                let text = format!(
                    "{ip} was deleted by somebody else more than {} times in a minute",
                    self.config.restore_limit
                );
                self.note(now, Severity::Error, "address-contended", text, out);
            }
        }
    }

    /// The proxy's state was reported.
    pub(crate) fn proxy_told(&mut self, now: Instant, event: &ProxyEvent, out: &mut Out<'_>) {
        let Some(proxy) = &mut self.proxy else { return };
        let Some(told) = proxy.report(now, event) else { return };
        let what = why::proxy_name(&proxy.config);
        let off = proxy.is_hands_off();
        let again = |restarting| if off { why::HANDS_OFF } else { why::again(restarting) };
        let (severity, kind, text) = match told {
            Told::Running => (Severity::Info, "proxy-running", format!("{what} runs")),
            Told::Stopped => (Severity::Info, "proxy-stopped", format!("{what} stopped")),
            Told::Died { how, restarting } => {
                (Severity::Warn, "proxy-died", format!("{what} died ({how}){}", again(restarting)))
            }
            Told::NotStarted { why, restarting } => (
                Severity::Warn,
                "proxy-failed",
                format!("{what} did not start: {why}{}", again(restarting)),
            ),
            Told::Stuck(why) => {
                (Severity::Error, "proxy-stuck", format!("{what} cannot be stopped: {why}"))
            }
            Told::Unknown(why) => {
                (Severity::Warn, "proxy-unknown", format!("the state of {what} is unknown: {why}"))
            }
            Told::Notice(text) => (Severity::Warn, "proxy-notice", text.into_string()),
        };
        self.note(now, severity, kind, text, out);
    }
}
