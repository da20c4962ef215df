//! The last word counts, in whatever order it is heard.

use proptest::prelude::*;

use super::*;

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn order(about: About, on: bool, at: u64) -> Order {
    Order { about, on, left: None, at, by: Text::new("root on hap1"), why: Text::new("a disk") }
}

fn told(will: &Will) -> Vec<Decision> {
    will.all(NOW).collect()
}

fn knowing(decisions: &[Decision]) -> Will {
    let mut will = Will::default();
    for decision in decisions {
        will.merge(NOW, decision);
    }
    will
}

#[test]
fn a_resume_is_not_undone_by_the_standby_that_comes_back() {
    let (mut here, mut there) = (Will::default(), Will::default());
    let about = About::standby("hap1");
    let standby = here.say(NOW, VoterIx(0), &order(about.clone(), true, 5_000)).unwrap();
    assert!(there.merge(NOW, &standby) && !there.merge(NOW, &standby));
    assert!(here.about(NOW, &about).is_some());
    // Its clock is an hour behind: what answers a word counts all the same.
    let resume = here.say(NOW, VoterIx(1), &order(about.clone(), false, 1_000)).unwrap();
    assert!(here.about(NOW, &about).is_none());
    assert!(!here.merge(NOW, &standby), "the old word is no news");
    assert!(there.merge(NOW, &resume));
    assert_eq!((there.mark(), there.about(NOW, &about)), (here.mark(), None));
}

#[test]
fn of_two_words_on_either_side_of_a_partition_the_later_one_counts() {
    let (mut here, mut there) = (Will::default(), Will::default());
    let about = About::maintenance(None);
    let mut earlier = here.say(NOW, VoterIx(1), &order(about.clone(), true, 5_000)).unwrap();
    let later = there.say(NOW, VoterIx(0), &order(about.clone(), false, 6_000)).unwrap();
    assert!(here.merge(NOW, &later) && !there.merge(NOW, &earlier));
    // At the same millisecond the place in the file decides, on both sides alike.
    earlier.version = later.version;
    assert!(here.merge(NOW, &earlier) && there.merge(NOW, &earlier));
    assert_eq!(here, there);
}

#[test]
fn a_decision_ends_by_itself_and_stays_known_as_over() {
    let mut will = Will::default();
    let about = About::ban("web", "hap2");
    let mut ban = order(about.clone(), true, 5_000);
    ban.left = Some(HOUR);
    will.say(NOW, VoterIx(0), &ban).unwrap();
    assert_eq!(will.due(NOW), Some(NOW + HOUR));
    let after = NOW + HOUR;
    assert_eq!(will.ended(NOW, NOW + HOUR / 2).count(), 0);
    assert_eq!(will.ended(NOW, after).collect::<Vec<_>>(), [&about]);
    assert_eq!(will.ended(after, after + HOUR).count(), 0, "told once");
    assert!(will.about(after, &about).is_none() && will.due(after).is_none());
    // Another node's clock is a minute behind: it ends where it ends first.
    let mut slow = will.all(after).next().unwrap();
    assert_eq!(slow.left, Some(Duration::ZERO));
    slow.left = Some(HOUR / 60);
    assert!(!will.merge(after, &slow) && will.about(after, &about).is_none());
}

/// On the other side of a partition it is heard an hour later.
#[test]
fn how_long_ago_failures_were_forgotten_is_known_wherever_it_is_heard() {
    let mut will = Will::default();
    let decision = will.say(NOW, VoterIx(0), &order(About::cleanup(None, None), true, 5_000));
    assert_eq!(decision.unwrap().age(), Duration::ZERO);
    let late = will.all(NOW + HOUR).next().unwrap();
    assert_eq!(late.age(), HOUR);
    let mut other = Will::default();
    assert!(other.merge(NOW, &late));
    assert_eq!(other.all(NOW + HOUR).next().unwrap().age(), HOUR * 2);
    assert_eq!(
        other.ended(NOW, NOW + HOUR * 48).count(),
        0,
        "nothing changes when it is forgotten"
    );
}

#[test]
fn there_is_a_limit_and_what_is_over_makes_room() {
    let mut will = Will::default();
    let about = |n: usize| About::ban(&format!("group {n}"), "hap1");
    for n in 0..MOST {
        assert!(will.say(NOW, VoterIx(0), &order(about(n), true, 1)).is_some());
    }
    assert_eq!(will.say(NOW, VoterIx(0), &order(about(MOST), true, 1)), None);
    assert!(will.say(NOW, VoterIx(0), &order(about(7), false, 1)).is_some());
    assert!(will.say(NOW, VoterIx(0), &order(about(MOST), true, 1)).is_some());
    assert_eq!(told(&will).len(), MOST);
    assert!(!told(&will).iter().any(|d| d.about == about(7)));
}

#[test]
fn names_are_told_by_their_marks_and_those_of_another_file_are_not_known() {
    let mut will = Will::default();
    let ban = will.say(NOW, VoterIx(0), &order(About::ban("web", "hap2"), true, 1)).unwrap();
    assert_eq!(Decision::of(&ban.word(), ["hap1", "hap2"], ["web"]), Some(ban.clone()));
    assert_eq!(Decision::of(&ban.word(), ["hap1", "hap3"], ["web"]), None);
    assert_eq!(Decision::of(&ban.word(), ["hap1", "hap2"], []), None);
    let nonsense = Word { topic: Topic::Standby, ..ban.word() };
    assert_eq!(Decision::of(&nonsense, ["hap1", "hap2"], ["web"]), None);
}

fn decision() -> impl Strategy<Value = Decision> {
    let about = prop::sample::select(vec![
        About::standby("hap1"),
        About::standby("hap2"),
        About::ban("web", "hap1"),
        About::maintenance(None),
        About::maintenance(Some("web")),
    ]);
    let left = prop::option::of((0..5_u64).prop_map(Duration::from_secs));
    // Few values, so that ties are common.
    (about, any::<bool>(), 0..3_u64, 0..3_u8, 0..2_u64, left).prop_map(
        |(about, on, version, origin, at, left)| Decision {
            about,
            on,
            version,
            origin: VoterIx(origin),
            at,
            left,
            by: Text::new("root"),
            why: Text::new(""),
        },
    )
}

fn decisions() -> impl Strategy<Value = Vec<Decision>> {
    prop::collection::vec(decision(), 0..12)
}

proptest! {
    #[test]
    fn the_order_in_which_it_is_heard_does_not_matter(all in decisions(), seed in any::<u64>()) {
        let mut shuffled = all.clone();
        let mut dice = seed;
        for ix in (1..shuffled.len()).rev() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(ix, usize::try_from(dice >> 33).unwrap() % (ix + 1));
        }
        let (one, other) = (knowing(&all), knowing(&shuffled));
        prop_assert_eq!(one.mark(), other.mark());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn hearing_it_again_changes_nothing(all in decisions()) {
        let will = knowing(&all);
        let again = knowing(&[all.clone(), all, told(&will)].concat());
        prop_assert_eq!(again, will);
    }

    #[test]
    fn what_two_tell_each_other_both_know(one in decisions(), other in decisions(), third in decisions()) {
        let (one, other, third) = (knowing(&one), knowing(&other), knowing(&third));
        let join = |a: &Will, b: &Will| knowing(&[told(a), told(b)].concat());
        prop_assert_eq!(join(&one, &other), join(&other, &one));
        prop_assert_eq!(join(&join(&one, &other), &third), join(&one, &join(&other, &third)));
    }

    #[test]
    fn what_is_said_now_counts_wherever_it_is_heard(all in decisions(), at in 0..4_u64, on in any::<bool>()) {
        let mut will = knowing(&all);
        let about = About::standby("hap1");
        let said = will.say(NOW, VoterIx(0), &order(about.clone(), on, at)).unwrap();
        let everywhere = knowing(&[vec![said], all].concat());
        prop_assert_eq!(everywhere.about(NOW, &about).is_some(), on);
        prop_assert_eq!(everywhere, will);
    }
}
