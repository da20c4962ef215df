//! Holders that fell silent, and were replaced by this node: the sessions that they left on the
//! databases are nobody's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{Instant, VoterIx};

use super::Node;
use super::event::Action;

/// How long it is waited for everybody to have missed one that was replaced. A lease ends before its
/// holder counts as silent.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Who was replaced without having given anything back: when that is looked at next, and until when.
#[derive(Debug, Default)]
pub(super) struct Ghosts(BTreeMap<VoterIx, (Instant, Instant)>);

impl Node {
    /// This node took a group over that `before` had not given back.
    pub(super) fn suspect(&mut self, now: Instant, before: VoterIx) {
        if self.config.sessions.is_some() {
            self.ghosts.0.entry(before).or_insert((now + LOOK, now + PATIENCE));
        }
    }

    /// Whoever is heard by nobody by now is gone.
    pub(super) fn lay_ghosts(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(lease) = &self.lease else { return self.ghosts.0.clear() };
        self.ghosts.0.retain(|ghost, (look, until)| {
            if now < *look {
                return true;
            }
            *look = now + LOOK;
            let gone = lease.is_gone(now, *ghost);
            if gone {
                out.push(Action::EndSessions { of: u16::from(ghost.0) });
            }
            !gone && now < *until
        });
    }

    pub(super) fn ghost_deadline(&self) -> Option<Instant> {
        self.ghosts.0.values().map(|(look, _)| *look).min()
    }
}
