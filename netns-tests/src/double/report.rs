//! What became of the questions: tenures, overlaps, outages.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Stamp;

/// A host that serves nothing for so long has ended a tenure. Two hosts that hand an address to
/// and fro faster than this would count as an overlap; the lease takes longer to come back.
const PAUSE: Duration = Duration::from_millis(20);

/// With what a host was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A datagram, which its service answered.
    Udp,
    /// An ARP request, which its kernel answered.
    Arp,
}

/// One question that one host answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its place among the hosts.
    pub host: usize,
    /// With what it was asked.
    pub way: Way,
    /// When it was asked.
    pub sent: Stamp,
    /// When the answer came.
    pub at: Stamp,
}

/// A time in which one host answered without a long pause. It served at least from `from` to
/// `to`; of a single answer only that it was given between `to` and `from` is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Who, by place.
    pub host: usize,
    /// Its first answer.
    pub from: Stamp,
    /// The last question that it answered.
    pub to: Stamp,
}

/// Two hosts that served at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Who.
    pub hosts: [String; 2],
    /// When it began.
    pub at: Stamp,
    /// How long both served.
    pub lasted: Duration,
    /// How many answers the two gave in that time.
    pub answers: usize,
}

/// A time in which no datagram was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The first question without an answer.
    pub from: Stamp,
    /// The next one with an answer; the last question where none came.
    pub to: Stamp,
}

impl Outage {
    /// Its length.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// The questions of a time, and their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    names: Vec<String>,
    rounds: Vec<Stamp>,
    served: Vec<Served>,
}

impl Report {
    pub(super) fn new(names: Vec<String>, rounds: Vec<Stamp>, mut served: Vec<Served>) -> Self {
        served.sort_by_key(|s| (s.sent, s.host));
        Self { names, rounds, served }
    }

    /// How often all hosts were asked.
    pub fn asked(&self) -> usize {
        self.rounds.len()
    }

    /// When each round of questions was sent.
    pub fn rounds(&self) -> &[Stamp] {
        &self.rounds
    }

    /// What was answered, in the order in which it was asked.
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// Who answered anything.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.served.iter().filter_map(|s| self.names.get(s.host)).cloned().collect()
    }

    /// What the host called `name` answered.
    pub fn answers_of(&self, name: &str) -> Vec<Served> {
        let ix = self.names.iter().position(|n| n == name);
        self.served.iter().filter(|s| Some(s.host) == ix).copied().collect()
    }

    /// The tenures, in the order of their beginnings.
    pub fn tenures(&self) -> Vec<Tenure> {
        let mut all = Vec::new();
        for host in 0..self.names.len() {
            let mut last: Option<(Tenure, Stamp)> = None;
            for served in self.served.iter().filter(|s| s.host == host) {
                match &mut last {
                    Some((tenure, sent)) if served.sent.since(*sent) <= PAUSE => {
                        *sent = served.sent;
                        tenure.to = served.sent;
                        // An answer can overtake another.
                        tenure.from = tenure.from.min(served.at);
                    }
                    _ => {
                        let tenure = Tenure { host, from: served.at, to: served.sent };
                        all.extend(last.replace((tenure, served.sent)));
                    }
                }
            }
            all.extend(last);
        }
        let mut all: Vec<Tenure> = all.into_iter().map(|(tenure, _)| tenure).collect();
        all.sort_by_key(|t| (t.from, t.host));
        all
    }

    /// The times in which two hosts served at once, for sure.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let tenures = self.tenures();
        let mut found = Vec::new();
        for (ix, one) in tenures.iter().enumerate() {
            for other in &tenures[ix + 1..] {
                // Also true of a single answer in the middle of another's tenure.
                if one.host != other.host && one.from < other.to && other.from < one.to {
                    found.push(self.overlap(one, other));
                }
            }
        }
        found.sort_by_key(|overlap| overlap.at);
        found
    }

    fn overlap(&self, one: &Tenure, other: &Tenure) -> Overlap {
        let (from, to) = (one.from.max(other.from), one.to.min(other.to));
        let answers = self.served.iter().filter(|s| {
            (s.host == one.host || s.host == other.host) && s.at >= from && s.sent <= to
        });
        Overlap {
            hosts: self.pair(one, other),
            at: from,
            lasted: to.since(from),
            answers: answers.count(),
        }
    }

    fn pair(&self, one: &Tenure, other: &Tenure) -> [String; 2] {
        [one, other].map(|t| self.names.get(t.host).cloned().unwrap_or_default())
    }

    /// The questions that were answered with a datagram by anybody, of each round once.
    fn answered(&self) -> BTreeSet<Stamp> {
        self.served.iter().filter(|s| s.way == Way::Udp).map(|s| s.sent).collect()
    }

    /// The share of the rounds in which some host answered.
    pub fn availability(&self) -> f64 {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        count(self.answered().len()) / count(self.rounds.len()).max(1.0)
    }

    /// The same of what was asked within `times`.
    #[must_use]
    pub fn within(&self, times: &[(Stamp, Stamp)]) -> Self {
        let inside = |at: Stamp| times.iter().any(|(from, to)| *from <= at && at < *to);
        let rounds = self.rounds.iter().copied().filter(|at| inside(*at)).collect();
        let served = self.served.iter().copied().filter(|s| inside(s.sent)).collect();
        Self { names: self.names.clone(), rounds, served }
    }

    /// How many rounds before `until` nobody answered.
    pub fn lost_before(&self, until: Stamp) -> usize {
        let answered = self.answered();
        self.rounds.iter().filter(|at| **at < until && !answered.contains(at)).count()
    }

    /// The times in which nobody answered, longer than `than`. The client was asking all the time:
    /// a pause of its own is none.
    pub fn outages(&self, than: Duration) -> Vec<Outage> {
        let answered = self.answered();
        let mut found = Vec::new();
        let mut since = None;
        for at in &self.rounds {
            if !answered.contains(at) {
                since.get_or_insert(*at);
            } else if let Some(from) = since.take() {
                found.push(Outage { from, to: *at });
            }
        }
        let end = self.rounds.last().copied().unwrap_or_default();
        found.extend(since.map(|from| Outage { from, to: end }));
        found.retain(|outage| outage.length() > than);
        found
    }

    /// The longest time in which nobody answered.
    pub fn longest_outage(&self) -> Duration {
        self.outages(Duration::ZERO).iter().map(Outage::length).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> Stamp {
        Stamp::from_nanos(t * 1_000_000)
    }

    /// Answers of hosts by place: asked at, answered at.
    fn report(answers: &[(usize, u64, u64)]) -> Report {
        let served = answers.iter().map(|&(host, sent, at)| Served {
            host,
            way: Way::Udp,
            sent: ms(sent),
            at: ms(at),
        });
        let names = ["a", "b"].map(str::to_owned).to_vec();
        Report::new(names, (0..=100).map(ms).collect(), served.collect())
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        let report = report(&[(0, 1, 3), (0, 5, 9), (1, 5, 10), (1, 7, 11)]);
        assert_eq!(report.overlaps(), [], "both of one round is possible, if answered late");
        assert_eq!(report.tenures().len(), 2);
    }

    #[test]
    fn an_answer_after_another_has_begun_is_an_overlap() {
        let report = report(&[(0, 1, 2), (0, 8, 9), (1, 5, 6), (1, 12, 13)]);
        let [overlap] = &report.overlaps()[..] else { panic!("{:?}", report.overlaps()) };
        assert_eq!((overlap.at, overlap.lasted), (ms(6), Duration::from_millis(2)));
        assert_eq!(overlap.hosts, ["a", "b"]);
    }

    #[test]
    fn a_stray_answer_within_another_tenure_is_an_overlap() {
        let report = report(&[(0, 1, 2), (1, 40, 41), (1, 50, 51), (1, 60, 61), (0, 55, 56)]);
        let overlaps = report.overlaps();
        assert_eq!(overlaps.len(), 1, "{overlaps:?}");
        // And one that may have been given before.
        let report = self::report(&[(0, 35, 42), (1, 40, 41), (1, 50, 51)]);
        assert_eq!(report.overlaps(), []);
    }

    #[test]
    fn a_return_after_a_pause_is_no_overlap() {
        let report = report(&[(0, 1, 2), (0, 3, 4), (1, 10, 11), (1, 12, 13), (0, 40, 41)]);
        assert_eq!(report.overlaps(), []);
        assert_eq!(report.tenures().len(), 3);
    }

    #[test]
    fn outages_are_rounds_without_an_answer() {
        let answers: Vec<_> =
            (0..=100).filter(|t| !(20..70).contains(t)).map(|t| (0, t, t + 1)).collect();
        let report = report(&answers);
        let outages = report.outages(Duration::from_millis(10));
        assert_eq!(outages, [Outage { from: ms(20), to: ms(70) }]);
        assert_eq!(report.lost_before(ms(50)), 30);
        assert!((report.availability() - 51.0 / 101.0).abs() < 1e-9);
    }
}
