//! Orders that make sense, and those that do not.

use super::*;
use crate::core::status::{DecisionStatus, PeerStatus};
use crate::types::{Instant, Priority, Version, VrId};

fn status() -> Status {
    let peer = |name: &str, reachable| PeerStatus {
        name: name.to_owned(),
        address: "192.168.34.133".parse().unwrap(),
        kind: PeerKind::Node,
        reachable,
        since: None,
        last_advert: None,
    };
    let group = |name: &str| GroupStatus {
        name: name.to_owned(),
        role: Role::Active,
        since: Instant::BOOT,
        why: String::new(),
        vrid: VrId::new(85).unwrap(),
        version: Version::V3,
        interface: None,
        priority: Priority(100),
        effective_priority: Priority(100),
        active: Some("hap1".to_owned()),
        addresses: Vec::new(),
        elections: Vec::new(),
        proxy: None,
        safety: "vrrp".to_owned(),
        lease: None,
        checks: Vec::new(),
        recovering: None,
        standings: Vec::new(),
        outlook: String::new(),
        routing: Vec::new(),
        conditions: Vec::new(),
    };
    Status {
        node: "hap1".to_owned(),
        peers: vec![peer("hap2", Some(true)), peer("hap3", Some(false))],
        groups: vec![group("web"), group("db")],
        ..Status::default()
    }
}

fn asked(topic: Topic, node: Option<&str>, group: Option<&str>) -> Asked {
    let (node, group) = (node.map(str::to_owned), group.map(str::to_owned));
    let by = Some("root".to_owned());
    Asked { topic, on: true, node, group, for_ms: None, why: None, by, force: false }
}

fn said(status: &Status, shared: bool, asked: &Asked) -> Result<Order, String> {
    may_say(status, shared, asked, 5_000)
}

fn in_force(about: &About) -> DecisionStatus {
    DecisionStatus {
        topic: about.topic,
        node: about.node.clone(),
        group: about.group.clone(),
        by: String::new(),
        why: String::new(),
        at_ms: 0,
        until: None,
        ends_with: String::new(),
    }
}

#[test]
fn an_order_says_who_why_and_for_how_long() {
    let ban = Asked {
        for_ms: Some(60_000),
        why: Some("a disk".to_owned()),
        ..asked(Topic::Ban, Some("hap2"), Some("web"))
    };
    let order = said(&status(), true, &ban).unwrap();
    assert_eq!(order.about, About::ban("web", "hap2"));
    assert_eq!((order.by.as_str(), order.why.as_str()), ("root on hap1", "a disk"));
    assert_eq!((order.at, order.left), (5_000, Some(Duration::from_mins(1))));
    let standby = said(&status(), false, &asked(Topic::Standby, None, None)).unwrap();
    assert_eq!(standby.about, About::standby("hap1"), "this host, if none is named");
    let cleanup = |node| said(&status(), true, &asked(Topic::Cleanup, node, Some("web"))).unwrap();
    assert_eq!(cleanup(Some("hap2")).about, About::cleanup(Some("hap2"), Some("web")));
    assert_eq!(cleanup(None).about, About::cleanup(None, Some("web")), "everywhere");
}

#[test]
fn what_makes_no_sense_is_refused_with_words() {
    let standby = |node| asked(Topic::Standby, node, None);
    let off = Asked { on: false, ..standby(None) };
    let ban = asked(Topic::Ban, Some("hap2"), Some("web"));
    let long = Asked { why: Some("x".repeat(65)), ..standby(None) };
    let never = Asked { for_ms: Some(0), ..standby(None) };
    let rows = [
        (true, standby(Some("hap9")), "the file has hap1, hap2, hap3"),
        (false, standby(Some("hap2")), "say it on hap2"),
        (true, off, "nothing to end: it is not so that hap1 is in standby"),
        (true, ban.clone(), "a ban needs an end"),
        (true, Asked { group: None, ..ban.clone() }, "not what ban is about"),
        (true, Asked { group: Some("mail".to_owned()), ..ban }, "no group \"mail\""),
        (true, asked(Topic::Maintenance, Some("hap2"), None), "not what maintenance is about"),
        (true, long, "at most 64 bytes"),
        (true, never, "366 days"),
    ];
    for (shared, asked, expected) in rows {
        let refusal = said(&status(), shared, &asked).unwrap_err();
        assert!(refusal.contains(expected), "{asked:?}: {refusal}");
    }
}

#[test]
fn what_would_leave_a_group_to_nobody_needs_a_word_more() {
    let mut status = status();
    let standby = asked(Topic::Standby, None, None);
    assert!(said(&status, true, &standby).is_ok(), "hap2 is there");
    status.decisions = vec![in_force(&About::ban("web", "hap2"))];
    let refusal = said(&status, true, &standby).unwrap_err();
    assert_eq!(refusal, "nobody else can have web: see --yes");
    assert!(said(&status, true, &Asked { force: true, ..standby.clone() }).is_ok());
    status.groups[0].active = Some("hap2".to_owned());
    assert!(said(&status, true, &standby).is_ok(), "hap1 does not have it");
    status.decisions.clear();
    status.peers[0].reachable = None;
    assert_eq!(leaves_nobody(&status, &About::standby("hap1")), ["db"]);
}
