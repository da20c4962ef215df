//! A failing check has the proxy started anew in place, before the group moves.

use crate::types::Instant;

use super::super::proxy::Care;
use super::super::status::Severity;
use super::super::{Out, why};
use super::Group;

impl Group {
    /// Whether its proxy failed so often here that another host is to be preferred.
    pub(crate) fn is_suspect(&self) -> bool {
        self.proxy.as_ref().is_some_and(Care::is_suspect)
    }

    /// Has the proxy started anew if a check says that it does not serve. One that has only just
    /// been started has time to show that it does.
    pub(super) fn treat(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(proxy) = &mut self.proxy else { return self.health.excuse_nothing() };
        if proxy.is_hands_off() || !proxy.is_fit() {
            self.health.excuse_nothing();
        }
        let Some(since) = proxy.runs_since() else { return };
        let Some(check) = self.health.blames(now, since) else { return };
        let why = why::failed(check);
        let restarting = proxy.blame(now, &why);
        if !restarting {
            self.health.excuse_nothing();
        }
        let what = why::proxy_name(&proxy.config);
        let count = proxy.failures();
        let of = proxy.config.migration_threshold;
        let again = if restarting { "" } else { "; this host is unfit" };
        let text =
            format!("{what} is killed and started anew: {why}; failure {count} of {of}{again}");
        self.note(now, Severity::Warn, "proxy-renewed", text, out);
    }

    /// When the care of the proxy has something to do.
    pub(super) fn care_deadline(&self) -> Option<Instant> {
        let proxy = self.proxy.as_ref()?;
        let blames_at = proxy.runs_since().and_then(|since| self.health.blames_at(since));
        proxy.deadline().into_iter().chain(blames_at).min()
    }
}
