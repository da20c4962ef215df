//! What another router's advert does to the group: RFC 9568 §6.4.2 and §6.4.3.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::types::{Family, Instant, Priority};
use crate::wire::vrrp::Advert;

use super::super::Out;
use super::super::election::{Election, Rival};
use super::super::status::Severity;
use super::super::worth::Worth;
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
        let Some(election) = self.election(family) else { return };
        election.hear(now, from, advert);
        match self.state {
            State::Init { .. } | State::Releasing { then: Then::Init, .. } => {}
            State::Backup | State::Releasing { then: Then::Backup, .. } => {
                self.advert_in_backup(now, family, from, advert, out);
            }
            State::Active => self.advert_in_active(now, family, from, advert, out),
        }
    }

    fn advert_in_backup(
        &mut self,
        now: Instant,
        family: Family,
        from: IpAddr,
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let (own, theirs) = self.against(from, advert.priority);
        // No preemption mode keeps the addresses on a host whose health is worse.
        let known = advert.priority != Priority::RELEASE && out.is_node(from);
        let healthier = known && own.is_healthier(theirs, self.config.stickiness);
        if !self.is_leased() {
            self.face(now, Some(theirs).filter(|_| known), out);
        }
        let proven = healthier && self.health.is_proven();
        let preempts = !healthier && self.preempts(now, own, theirs);
        let releasing = matches!(self.state, State::Releasing { .. });
        let Some(election) = self.election(family) else { return };
        if releasing {
            election.learned = advert.interval;
            return;
        }
        if advert.priority == Priority::RELEASE {
            election.listen_briefly(now);
        } else if proven {
            election.hurry(now);
        } else if !preempts {
            election.listen(now, advert.interval);
        }
    }

    /// Whether an Active router is to be preempted by now (§6.1 `Preempt_Mode`).
    fn preempts(&mut self, now: Instant, own: Worth, theirs: Worth) -> bool {
        if !own.is_preferred(theirs) {
            self.preempt_from = None;
            return false;
        }
        if own.effective() == Priority::OWNER {
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
        advert: &Advert<'_>,
        out: &mut Out<'_>,
    ) {
        let source = out.source(self.port, family);
        let (worth, theirs) = self.against(from, advert.priority);
        let rival = match advert.priority {
            Priority::RELEASE => Rival::Gone,
            _ => Election::compare(worth, source, from, theirs),
        };
        let own = worth.effective();
        match rival {
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
                            "{} also claimed the addresses with priority {}, ours is {own}; \
                             advertised and announced again",
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
        let than = match advert.priority.cmp(&own) {
            Ordering::Equal => "same priority, higher address",
            Ordering::Greater => "higher priority",
            Ordering::Less => "in better health",
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
