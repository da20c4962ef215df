//! What can be moved where.

use super::*;
use crate::core::status::{LeaseStatus, VoteStatus, VoterStatus, VotingStatus};
use crate::types::Priority;

fn status(preempt: bool, priorities: [Option<u8>; 3]) -> Status {
    let text = r#"{"cluster":"lb","node":"hap1","now":0,"started":0,"peers":[],"conditions":[],
        "dropped":[],"groups":[{"name":"postgres","role":"active","since":0,"why":"","vrid":85,
        "version":3,"interface":null,"priority":150,"effective-priority":150,"active":null,
        "addresses":[],"elections":[],"proxy":null,"conditions":[]}]}"#;
    let mut status: Status = serde_json::from_str(text).unwrap();
    let names = ["hap1", "hap2", "hap3"];
    let vote = |(name, priority): (&&str, &Option<u8>)| VoteStatus {
        voter: (*name).to_owned(),
        known: true,
        to: Some("hap1".to_owned()),
        left_us: Some(1),
        priority: priority.map(Priority),
    };
    status.groups[0].lease = Some(LeaseStatus {
        holder: Some("hap1".to_owned()),
        until: None,
        left_us: Some(1),
        tenure: 1,
        preempt,
        gap_us: None,
        granted_by: Vec::new(),
        votes: names.iter().zip(&priorities).map(vote).collect(),
    });
    let voter = |name: &str, witness, alive| VoterStatus {
        name: name.to_owned(),
        witness,
        me: false,
        alive,
        heard: None,
        hears_us: true,
        same_configuration: Some(true),
        settled: true,
        twin: None,
        clock_ppm: None,
    };
    status.voting = Some(VotingStatus {
        voters: vec![
            voter("hap1", false, true),
            voter("hap2", false, true),
            voter("hap3", false, false),
            voter("tie", true, true),
        ],
        majority: 3,
        settled: true,
        quiet_until: None,
        waits_for: None,
        term_us: 1,
        renew_us: 1,
        vote_us: 1,
    });
    status
}

#[test]
fn a_group_is_moved_to_a_live_fit_node_that_may_keep_it() {
    let fit = [Some(150), Some(140), Some(130)];
    let refused =
        |status: &Status, group: &str, node: &str| may_move(status, group, node).unwrap_err();
    let plain = status(false, fit);
    assert_eq!(may_move(&plain, "postgres", "hap2").unwrap(), "hap1");
    assert_eq!(may_move(&plain, "postgres", "hap1").unwrap(), "hap1", "nothing to do");
    assert!(refused(&plain, "mysql", "hap2").contains("the file has postgres"));
    assert!(refused(&plain, "postgres", "hap9").contains("hap1, hap2, hap3"));
    assert!(refused(&plain, "postgres", "tie").contains("no node"), "a witness holds nothing");
    assert!(refused(&plain, "postgres", "hap3").contains("not heard"));
    assert!(refused(&status(true, fit), "postgres", "hap2").contains("back at once"));
    let up = status(true, [Some(130), Some(140), None]);
    assert_eq!(may_move(&up, "postgres", "hap2").unwrap(), "hap1");
    assert!(
        refused(&status(false, [Some(150), Some(1), None]), "postgres", "hap2").contains("unfit")
    );
    assert!(
        refused(&status(false, [Some(150), None, None]), "postgres", "hap2").contains("cannot")
    );
    let mut vrrp = plain;
    vrrp.groups[0].lease = None;
    assert!(refused(&vrrp, "postgres", "hap2").contains("not held by lease"));
}
