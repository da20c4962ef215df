//! What another router's advert does to the group: RFC 9568 §6.4.2 and §6.4.3.

use std::net::IpAddr;

use crate::types::{Family, Instant, Priority};
use crate::wire::vrrp::Advert;

use super::super::Out;
use super::super::election::{Election, Rival};
use super::super::status::Severity;
use super::{Group, State, Then};

impl Group {
    /// An advert that passed every check; the RFC's §6.4.2 and §6.4.3.
    pub(crate) fn advert(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let own = self.effective_priority();
        let Some(election) = self.election(family) else { return };
        election.hear(now, from, advert);
        match self.state {
            State::Init { .. } | State::Releasing { then: Then::Init, .. } => {}
            State::Backup | State::Releasing { then: Then::Backup, .. } => {
                self.advert_in_backup(now, family, from, own, advert, out);
            }
            State::Active => self.advert_in_active(now, family, from, own, advert, out),
        }
    }

    fn advert_in_backup(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        own: Priority,
        advert: &Advert<'_>,
        out: &Out<'_>,
    ) {
        // Among nodes the least priority means "unfit": no preemption mode keeps the addresses
        // on a host that cannot serve while this one can.
        let unfit = advert.priority == Priority::LEAST && out.is_node(from);
        let preempts = self.preempts(now, own, advert.priority) || (unfit && own > Priority::LEAST);
        let releasing = matches!(self.state, State::Releasing { .. });
        let Some(election) = self.election(family) else { return };
        if releasing {
            election.learned = advert.interval;
            return;
        }
        if advert.priority == Priority::RELEASE {
            election.listen_briefly(now);
        } else if !preempts {
            election.listen(now, advert.interval);
        }
    }

    /// Whether an Active router of `priority` is to be preempted by now (§6.1 `Preempt_Mode`).
    fn preempts(&mut self, now: Instant, own: Priority, priority: Priority) -> bool {
        if priority >= own {
            self.preempt_from = None;
            return false;
        }
        if own == Priority::OWNER {
            return true;
        }
        let from = *self.preempt_from.get_or_insert(now);
        self.config.preempt && now >= from + self.config.preempt_delay
    }

    fn advert_in_active(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        own: Priority,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let source = out.source(self.port, family);
        match Election::compare(own, source, from, advert.priority) {
            Rival::Better if !self.is_leased() => self.lose(now, family, from, advert, out),
            rival @ (Rival::Gone | Rival::Worse | Rival::Better) => {
                self.assert_in(now, family, own, out);
                if self.signs.rival.see(now, from) {
                    let text = match rival {
                        Rival::Gone => format!("{} gave up; announced again", out.name(from)),
                        Rival::Better => format!(
                            "{} also claimed the addresses, with priority {}, but has no lease: this \
                             host keeps them; advertised and announced again",
                            out.name(from),
                            advert.priority
                        ),
                        Rival::Worse => format!(
                            "{} also claimed the addresses with priority {} < {own}; advertised and \
                             announced again",
                            out.name(from),
                            advert.priority
                        ),
                    };
                    self.note(now, Severity::Warn, "rival", text, out);
                }
                self.addresses.announce_again(now);
            }
        }
    }

    /// §6.4.3: a better router is Active. One last advert tells it that clients may have
    /// listened to us, so that it announces the addresses again.
    fn lose(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let own = self.effective_priority();
        self.send(family, own, out);
        let than = if advert.priority == own {
            "same priority, higher address"
        } else {
            "higher priority"
        };
        let text = format!(
            "{} is Active with priority {} ({than} than our {own})",
            out.name(from),
            advert.priority
        );
        if let [election] = self.elections.as_mut_slice() {
            election.listen(now, advert.interval);
            self.gave_way = true;
            self.enter(now, State::Backup, text, out);
            return;
        }
        // The other family's peers have heard nobody better: they are told once the addresses
        // are gone.
        if let Some(election) = self.election(family) {
            election.learned = advert.interval;
        }
        self.release(now, Then::Backup, text, out);
    }
}
