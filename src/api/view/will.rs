//! What operators have decided: in force, in `vipctl status`; and just now.

use jiff::Timestamp;

use super::View;
use super::text::{Row, Tone, cell, table};
use super::time::{Clocks, lasted};
use crate::api::will::WillReport;
use crate::core::status::DecisionStatus;
use crate::core::will::About;

/// A row for each decision in force.
pub(super) fn decisions(all: &[DecisionStatus], view: &View, clocks: &Clocks) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Row> = all.iter().map(|d| row(d, clocks)).collect();
    table(
        &["OPERATORS SAY", "WHO", "SINCE", "LEFT", "UNTIL YOU RUN"],
        &rows,
        view.width,
        view.color,
    )
}

fn row(decision: &DecisionStatus, clocks: &Clocks) -> Row {
    let DecisionStatus { topic, node, group, by, why, at_ms, until, ends_with } = decision;
    let about = About { topic: *topic, node: node.clone(), group: group.clone() };
    let mut what = cell(about.words(true), Tone::Warn);
    if !why.is_empty() {
        what.extend(cell(format!("\"{why}\""), Tone::Plain));
    }
    let at = i64::try_from(*at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map(|at| at.to_zoned(clocks.wall.time_zone().clone()));
    let since = at.map_or_else(|| "-".to_owned(), |at| at.strftime("%b %d %H:%M").to_string());
    let left = until.map_or_else(|| "-".to_owned(), |until| lasted(until.since(clocks.boot)));
    let cells = vec![
        what,
        cell(by, Tone::Plain),
        cell(since, Tone::Plain),
        cell(left, Tone::Plain),
        cell(ends_with, Tone::Plain),
    ];
    Row { cells, ..Row::default() }
}

/// What became of a decision.
pub fn decided(report: &WillReport) -> String {
    let WillReport { text, shared, unheard, not_kept } = report;
    let mut lines = vec![text.clone()];
    if !shared {
        lines.push(
            "known to this node only: the file has no `secret`, so the nodes tell each other nothing"
                .to_owned(),
        );
    }
    if !unheard.is_empty() {
        lines.push(format!("not heard, so told later: {}", unheard.join(", ")));
    }
    if let Some(why) = not_kept {
        lines.push(format!(
            "NOT WRITTEN DOWN ({why}): it is in force, but forgotten if this host is started anew \
             and no other node knows it"
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::will::Topic;
    use crate::types::Instant;

    #[test]
    fn each_decision_is_listed_with_what_ends_it() {
        let wall: jiff::Zoned = "2026-11-24T10:10:00+01:00[Europe/Berlin]".parse().unwrap();
        let clocks = Clocks { boot: Instant::from_nanos(1_000_000_000_000), wall: wall.clone() };
        let view = View { width: 120, color: false, now: wall, all: false };
        let of = |about: About, why: &str, left: Option<Duration>| DecisionStatus {
            topic: about.topic,
            node: about.node.clone(),
            group: about.group.clone(),
            by: "anna on hap2".to_owned(),
            why: why.to_owned(),
            at_ms: 1_795_500_000_000,
            until: left.map(|left| clocks.boot + left),
            ends_with: about.ends_with(),
        };
        let all = [
            of(About::standby("hap1"), "new disk", None),
            of(About::ban("web", "hap3"), "", Some(Duration::from_mins(90))),
            of(About::maintenance(None), "", None),
        ];
        let expected = "\
OPERATORS SAY             WHO           SINCE         LEFT   UNTIL YOU RUN
hap1 is in standby        anna on hap2  Nov 24 07:00  -      vipctl resume hap1
\"new disk\"
hap3 is banned from web   anna on hap2  Nov 24 07:00  1h 30m  vipctl unban web hap3
hands off every group     anna on hap2  Nov 24 07:00  -      vipctl maintenance off
";
        let said = decisions(&all, &view, &clocks);
        let squeeze = |text: &str| -> Vec<String> {
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(squeeze(&said), squeeze(expected), "{said}");
        assert_eq!(decisions(&[], &view, &clocks), "");
        assert_eq!(all[2].topic, Topic::Maintenance);
    }

    #[test]
    fn whoever_decides_is_told_what_may_be_lost() {
        let report = WillReport {
            text: "hap1 is in standby".to_owned(),
            shared: true,
            unheard: vec!["hap3".to_owned()],
            not_kept: Some("No space left on device".to_owned()),
        };
        let said = decided(&report);
        assert!(said.starts_with("hap1 is in standby\n"), "{said}");
        assert!(said.contains("told later: hap3") && said.contains("NOT WRITTEN DOWN"), "{said}");
        let alone = WillReport { shared: false, unheard: Vec::new(), not_kept: None, ..report };
        assert!(decided(&alone).contains("this node only"));
    }
}
