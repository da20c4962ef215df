//! What the status says of votes: who may hold, until when, who granted it, what each voter
//! thinks.

use crate::config::Config;
use crate::types::{Instant, Priority, VoterIx};

use super::Node;
use super::group::Group;
use super::lease::{Elector, Lease};
use super::status::{
    Condition, LeaseStatus, Severity, VoteStatus, VoterStatus, VotingStatus, condition,
};

/// Parts of a file that are named; beyond, how many more differ.
const SHOWN: usize = 8;

/// The voters of a cluster, as one of them sees it: a node, or a witness.
#[derive(Clone, Copy, Debug)]
pub struct Council<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// What is known.
    pub lease: &'a Lease,
}

impl Node {
    fn council(&self) -> Option<Council<'_>> {
        Some(Council { config: &self.config, lease: self.lease.as_ref()? })
    }

    /// The voters, where anything is held by lease.
    pub(super) fn voting_status(&self, now: Instant) -> Option<VotingStatus> {
        self.council().map(|council| council.voting(now))
    }

    pub(super) fn lease_status(&self, now: Instant, group: &Group) -> Option<LeaseStatus> {
        let council = self.council().filter(|_| group.config.safety.is_leased())?;
        let place = u16::try_from(self.order.iter().position(|id| *id == group.id)?).ok()?;
        council.group(now, place, Some(group.effective_priority()))
    }

    /// What keeps this node, or another, from voting or holding.
    pub(super) fn voting_conditions(&self, now: Instant) -> Vec<Condition> {
        let mut found = Vec::new();
        if let Err(why) = &self.gate {
            let severity = if self.lease.is_some() { Severity::Error } else { Severity::Warn };
            found.push(condition("gate-missing", severity, why.to_string(), self.started));
        }
        let Some(council) = self.council() else { return found };
        found.extend(council.conditions(now, self.started, &self.clock));
        found
    }
}

impl Council<'_> {
    /// Who votes, and how.
    pub fn voting(&self, now: Instant) -> VotingStatus {
        let lease = self.lease;
        let next = lease.digests().1;
        let accepts = |e: &Elector| next.is_none_or(|next| e.accepts(next));
        let waits_for = self.elsewhere().filter(|(_, _, e)| !accepts(e));
        VotingStatus {
            voters: self.voters(now),
            majority: lease.majority(),
            settled: lease.is_settled(),
            quiet_until: lease.quiet(now),
            waits_for: next.map(|_| waits_for.map(|(_, name, _)| name).collect()),
            term_us: micros(lease.terms().term),
            renew_us: micros(lease.terms().renew),
            vote_us: micros(lease.terms().vote),
        }
    }

    /// Every other voter: its place, its name, what is known of it.
    fn elsewhere(&self) -> impl Iterator<Item = (VoterIx, String, &Elector)> {
        let lease = self.lease;
        let all = (0..).map(VoterIx).zip(self.config.voters()).zip(lease.electors());
        all.filter(|((voter, _), _)| *voter != lease.me())
            .map(|((voter, is), elector)| (voter, is.name.to_owned(), elector))
    }

    fn voters(&self, now: Instant) -> Vec<VoterStatus> {
        let lease = self.lease;
        let all = (0..).map(VoterIx).zip(self.config.voters()).zip(lease.electors());
        all.map(|((voter, is), elector)| {
            let me = voter == lease.me();
            VoterStatus {
                name: is.name.to_owned(),
                witness: is.witness,
                me,
                alive: me || lease.is_alive(now, voter),
                heard: elector.heard(),
                hears_us: me || elector.hears(lease.me()),
                same_configuration: elector
                    .head()
                    .map(|h| h.active == lease.digests().0)
                    .or(me.then_some(true)),
                settled: if me {
                    lease.is_settled()
                } else {
                    elector.head().is_some_and(|h| h.settled)
                },
                twin: elector.twin(),
                clock_ppm: elector.wrong_clock(),
            }
        })
        .collect()
    }

    fn name(&self, voter: VoterIx) -> String {
        let name = self.config.voters().nth(voter.index()).map(|v| v.name.to_owned());
        name.unwrap_or_else(|| format!("voter {}", voter.0))
    }

    /// Who may hold the group at a place; `priority` is that of this host, unless it is a witness.
    pub fn group(
        &self,
        now: Instant,
        place: u16,
        priority: Option<Priority>,
    ) -> Option<LeaseStatus> {
        let lease = self.lease;
        let seat = lease.seat(place)?;
        let own = lease.holds(now, place);
        let holder = match own {
            Some(_) => Some(lease.me()),
            None => lease.holder(now, place).map(|(voter, _)| voter),
        };
        let votes = (0..).map(VoterIx).zip(self.config.voters()).map(|(voter, is)| {
            let report = lease.electors().get(voter.index())?.on(now, place, lease.alive());
            let (vote, priority) = if voter == lease.me() {
                let vote = seat.voter().grant(now).map(|g| (g.to, g.until.since(now)));
                (vote, priority)
            } else {
                (report.and_then(|r| r.vote), report.and_then(|r| r.priority))
            };
            Some(VoteStatus {
                voter: is.name.to_owned(),
                to: vote.map(|(to, _)| self.name(to)),
                left_us: vote.map(|(_, left)| micros(left)),
                priority,
                known: voter == lease.me() || report.is_some(),
            })
        });
        let theirs =
            holder.and_then(|by| lease.electors().get(by.index())?.on(now, place, lease.alive()));
        let (left, gap) = match own {
            Some(until) => (Some(until.since(now)), seat.gap()),
            None => (theirs.map(|r| r.holds), theirs.and_then(|r| r.gap)),
        };
        Some(LeaseStatus {
            holder: holder.map(|v| self.name(v)),
            until: own,
            left_us: left.map(micros),
            preempt: self.config.groups.get(usize::from(place)).is_some_and(|g| g.preempt),
            gap_us: gap.map(micros),
            tenure: seat.epoch().max(seat.voter().epoch().0),
            granted_by: own
                .map(|_| seat.votes().iter().map(|v| self.name(v)).collect())
                .unwrap_or_default(),
            votes: votes.flatten().collect(),
        })
    }

    /// What the file of another voter says otherwise, as far as it told.
    fn unlike(&self, elector: &Elector) -> String {
        let theirs = elector.parts();
        if theirs.is_empty() {
            return String::new();
        }
        let mut parts = self.config.parts_unlike(|name| theirs.get(&name).copied());
        let hidden = parts.len().saturating_sub(SHOWN);
        parts.truncate(SHOWN);
        let more = if hidden > 0 { format!(" and {hidden} more") } else { String::new() };
        format!(" (in: {}{more})", parts.join(", "))
    }

    /// What keeps this host, or another, from voting or holding. It runs since `started`.
    pub fn conditions(
        &self,
        now: Instant,
        started: Instant,
        clock: &Result<(), Box<str>>,
    ) -> Vec<Condition> {
        let lease = self.lease;
        let mut found = Vec::new();
        if let Err(why) = clock {
            found.push(condition("clock-wrong", Severity::Error, why.to_string(), started));
        }
        let mut add = |name: &str, severity, text: String, since: Option<Instant>| {
            found.push(condition(name, severity, text, since.unwrap_or(started)));
        };
        let (digest, next) = lease.digests();
        let (mut differ, mut differs_since) = (Vec::new(), None);
        for (voter, name, elector) in self.elsewhere() {
            if !lease.is_alive(now, voter) {
                let text = format!("no word from {name}");
                add("voter-silent", Severity::Warn, text, elector.heard());
            } else if !elector.runs(digest) {
                differ.push(name.clone() + &self.unlike(elector));
                // Since the second of the two was in force.
                let since = elector.active_since().map(|at| at.max(lease.digest_since()));
                differs_since = differs_since.into_iter().chain(since).min();
            }
            if let Some(at) = elector.twin() {
                let text = format!("two machines answer to the name {name}");
                add("twin", Severity::Error, text, Some(at));
            }
            if let Some(ppm) = elector.wrong_clock() {
                let text = format!("the clock of {name} runs {ppm} millionths faster than ours");
                add("clock-differs", Severity::Warn, text, None);
            }
        }
        if !differ.is_empty() {
            let names = differ.join("; ");
            let text = format!("{names}: another configuration; such votes do not count together");
            add("configuration-differs", Severity::Error, text, differs_since);
        }
        if next.is_some() {
            let text = "a new configuration waits until every voter has it".to_owned();
            add("reload-waits", Severity::Warn, text, None);
        }
        if !lease.is_settled() {
            let missing =
                self.elsewhere().filter(|(v, _, e)| !lease.is_alive(now, *v) || !e.runs(digest));
            let names: Vec<_> = missing.map(|(_, name, _)| name).collect();
            let text = format!(
                "this configuration has not been seen on every voter yet, so this one does not vote; \
                 missing: {}",
                names.join(", ")
            );
            add("unsettled", Severity::Error, text, Some(lease.digest_since()));
        }
        let heard = lease.heard(now).count();
        if heard < lease.majority() {
            let text = format!(
                "{heard} of {} voters are heard, {} must be: nothing can be held here",
                lease.electors().len(),
                lease.majority()
            );
            // Since the last one fell silent that was needed beside this one.
            let mut last: Vec<_> = self.elsewhere().map(|(_, _, e)| e.heard()).collect();
            last.sort_unstable_by_key(|heard| std::cmp::Reverse(*heard));
            let since = last.get(lease.majority().saturating_sub(2)).copied().flatten();
            add("no-majority", Severity::Error, text, since);
        }
        found
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::event::Action;
    use super::super::lease::Setup;
    use super::*;
    use crate::config::{Member, parse};
    use crate::types::Incarnation;
    use crate::wire::peer::Message;

    const FILE: &str = "
        [cluster]\nname = \"lb\"\nsecret = \"/s\"
        [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"
        [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"
        [[node]]\nname = \"hap3\"\naddress = \"192.168.34.134\"
        [[group]]\nname = \"postgres\"\nvrid = 85\naddresses = [\"192.168.34.85/24\"]
        [[group]]\nname = \"stats\"\nvrid = 86\naddresses = [\"192.168.34.86/24\"]
    ";

    fn lease(now: Instant, config: &Config, me: usize) -> Lease {
        let mut lease =
            Lease::new(now, &Setup::new(config, config.voter_ix(Member::Node(me)), Incarnation(1)));
        lease.set_marks(config.marks());
        lease
    }

    /// What each tells the other with its beat.
    fn talk(now: Instant, all: &mut [Lease; 2]) {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut out = Vec::new();
            all[from].tick(now, &mut out);
            let told = out.into_iter().filter_map(|action| {
                let Action::Tell { to: voter, entry } = action else { return None };
                (voter == all[to].me()).then_some(entry)
            });
            let message = Message { entries: told.collect(), head: all[from].head(now) };
            let from = all[from].me();
            all[to].hear(now, from, &message, &mut Vec::new());
        }
    }

    #[test]
    fn what_two_files_do_not_have_alike_is_named_on_both_hosts() {
        let other = FILE.replace("34.85/24", "34.95/24");
        let [a, b] = [FILE, &other].map(|text| parse(text).unwrap().0);
        let start = Instant::from_nanos(1_000_000_000);
        let mut all = [lease(start, &a, 0), lease(start, &b, 1)];
        let beat = Duration::from_secs(1);
        let mut now = start + beat;
        for _ in 0..3 {
            talk(now, &mut all);
            now += beat / 10;
        }
        for (lease, config, name) in [(&all[0], &a, "hap2"), (&all[1], &b, "hap1")] {
            let council = Council { config, lease };
            let found = council.conditions(now, start, &Ok(()));
            let differs = found.iter().find(|c| c.name == "configuration-differs").unwrap();
            let expected = format!("{name} (in: group postgres): another configuration");
            assert!(differs.text.starts_with(&expected), "{}", differs.text);
            assert_eq!(differs.since, start + beat, "when the other was first heard");
        }
    }
}
