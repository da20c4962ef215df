//! What a client saw: who answered, when, and when nobody did.

use std::time::Duration;

use crate::clock::Stamp;

/// One answered probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked.
    pub sent: Stamp,
    /// When the answer came.
    pub at: Stamp,
    /// Who answered.
    pub who: String,
}

/// All answers of a probe, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// When the probe began.
    pub from: Stamp,
    /// When it was looked at or ended.
    pub to: Stamp,
    /// How many were asked.
    pub asked: usize,
    /// The answers.
    pub answers: Vec<Answer>,
}

/// A time without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last answer before it, or the beginning.
    pub from: Stamp,
    /// The first answer after it, or the end.
    pub to: Stamp,
    /// Who answered last.
    pub before: Option<String>,
    /// Who answered next; `None` if nobody has yet.
    pub after: Option<String>,
}

impl Gap {
    /// Its length.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }

    /// Whether it ended with an answer.
    pub fn ended(&self) -> bool {
        self.after.is_some()
    }
}

/// A time in which one host answered everything that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Who.
    pub who: String,
    /// Its first answer.
    pub from: Stamp,
    /// Its last.
    pub to: Stamp,
    /// How many.
    pub answers: usize,
}

impl Timeline {
    /// The times between answers, and before the first and after the last.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::with_capacity(self.answers.len() + 1);
        let (mut from, mut before) = (self.from, None);
        for answer in &self.answers {
            let after = Some(answer.who.clone());
            gaps.push(Gap { from, to: answer.at, before, after: after.clone() });
            (from, before) = (answer.at, after);
        }
        gaps.push(Gap { from, to: self.to, before, after: None });
        gaps
    }

    /// The longest time without an answer.
    pub fn longest_gap(&self) -> Gap {
        self.outage_after(Stamp::default())
    }

    /// The longest time without an answer that ended after `fault`.
    pub fn outage_after(&self, fault: Stamp) -> Gap {
        let end = Gap { from: self.to, to: self.to, before: None, after: None };
        let gaps = self.gaps().into_iter().filter(|gap| gap.to >= fault);
        gaps.max_by_key(Gap::length).unwrap_or(end)
    }

    /// Who answered, in turn.
    pub fn holders(&self) -> Vec<Holding> {
        let mut holdings: Vec<Holding> = Vec::new();
        for Answer { at, who, .. } in &self.answers {
            match holdings.last_mut() {
                Some(last) if last.who == *who => {
                    last.to = *at;
                    last.answers += 1;
                }
                _ => holdings.push(Holding { who: who.clone(), from: *at, to: *at, answers: 1 }),
            }
        }
        holdings
    }

    /// The times in which two hosts answered in turn: the holder changed and changed back within
    /// `within`.
    pub fn disputes(&self, within: Duration) -> Vec<(Stamp, Stamp)> {
        let holders = self.holders();
        let mut disputes: Vec<(Stamp, Stamp)> = Vec::new();
        for turn in holders.windows(3) {
            let (from, to) = (turn[0].to, turn[2].from);
            if to.since(from) > within {
                continue;
            }
            match disputes.last_mut() {
                Some(last) if last.1 >= from => last.1 = to,
                _ => disputes.push((from, to)),
            }
        }
        disputes
    }

    /// How many probes were never answered.
    pub fn lost(&self) -> usize {
        self.asked.saturating_sub(self.answers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(answers: &[(u64, &str)]) -> Timeline {
        let ms = |t: u64| Stamp::from_nanos(t * 1_000_000);
        let answers = answers
            .iter()
            .map(|&(t, who)| Answer { sent: ms(t), at: ms(t), who: who.to_owned() })
            .collect();
        Timeline { from: ms(0), to: ms(1000), asked: 1000, answers }
    }

    #[test]
    fn an_outage_lies_between_two_answers() {
        let t = timeline(&[(1, "a"), (400, "b"), (700, "b"), (999, "b")]);
        let gap = t.outage_after(Stamp::from_nanos(2_000_000));
        assert_eq!((gap.length().as_millis(), gap.before.as_deref()), (399, Some("a")));
        assert_eq!(gap.after.as_deref(), Some("b"));
        let late = t.outage_after(Stamp::from_nanos(500_000_000));
        assert_eq!(late.length().as_millis(), 300, "{late:?}");
    }

    #[test]
    fn silence_at_the_end_is_an_outage_without_an_end() {
        let gap = timeline(&[(1, "a")]).longest_gap();
        assert_eq!((gap.length().as_millis(), gap.ended()), (999, false));
    }

    #[test]
    fn a_move_is_no_dispute_but_a_change_back_is() {
        let within = Duration::from_millis(50);
        let moved = timeline(&[(1, "a"), (2, "b"), (500, "b"), (501, "a")]);
        assert_eq!(moved.disputes(within), []);
        let fight = timeline(&[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (500, "b")]);
        let ms = |t: u64| Stamp::from_nanos(t * 1_000_000);
        assert_eq!(fight.disputes(within), [(ms(1), ms(4))]);
        assert_eq!(fight.holders().len(), 4);
    }
}
