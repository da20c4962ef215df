//! Whole pictures: what a person sees.

use super::*;
use crate::core::status::*;
use crate::types::{Family, Instant, Priority, Version, VrId};

const NOW: u64 = 1_000_000;

fn at(seconds_ago: u64) -> Instant {
    Instant::from_nanos((NOW - seconds_ago) * 1_000_000_000)
}

fn address(text: &str, state: AddressState) -> AddressStatus {
    AddressStatus { address: text.into(), interface: Some("eth0".into()), state, restored: 0 }
}

fn group(name: &str, role: Role) -> GroupStatus {
    let state = if role == Role::Active { AddressState::Present } else { AddressState::Absent };
    GroupStatus {
        safety: "vrrp".to_owned(),
        lease: None,
        name: name.into(),
        role,
        since: at(200),
        why: "no advert from hap2 for 361 ms".into(),
        vrid: VrId::new(85).unwrap(),
        version: Version::V3,
        interface: Some("eth0".into()),
        priority: Priority(120),
        effective_priority: Priority(120),
        active: Some(if role == Role::Active { "hap1" } else { "hap2" }.into()),
        addresses: vec![address("192.168.34.85/24", state)],
        elections: vec![ElectionStatus {
            family: Family::V4,
            counters: vec![("adverts-sent".into(), 12), ("adverts-received".into(), 0)],
            learned_interval_ms: 100,
            heard: Some(Heard {
                from: "192.168.34.133".parse().unwrap(),
                priority: Priority(110),
                at: at(200),
            }),
        }],
        proxy: Some(ProxyStatus {
            what: "haproxy.service".into(),
            state: "running".into(),
            since: at(86_400),
            pid: Some(812),
            failures: 0,
            migration_threshold: 3,
            last_failure: None,
        }),
        checks: vec![],
        recovering: None,
        standings: Vec::new(),
        outlook: String::new(),
        routing: Vec::new(),
        conditions: vec![],
    }
}

fn peer(name: &str, last: u8, reachable: Option<bool>) -> PeerStatus {
    PeerStatus {
        name: name.into(),
        address: [192, 168, 34, last].into(),
        kind: PeerKind::Node,
        reachable,
        since: reachable.map(|_| at(130)),
        last_advert: reachable.filter(|r| *r).map(|_| at(200)),
    }
}

fn node(groups: Vec<GroupStatus>) -> Status {
    Status {
        voting: None,
        fencing: Vec::new(),
        decisions: Vec::new(),
        gate: None,
        watchdog: None,
        cluster: "lb".into(),
        node: "hap1".into(),
        now: at(0),
        started: at(273_600),
        peers: vec![peer("hap2", 133, Some(false)), peer("hap3", 134, Some(true))],
        groups,
        conditions: vec![],
        dropped: vec![("bad-checksum".into(), 0)],
        hooks: vec![],
        connections: vec![],
        further: vec![],
    }
}

fn view(width: usize) -> View {
    let now = "2026-11-24T03:12:45+00:00[UTC]".parse().unwrap();
    View { width, color: false, now, all: false }
}

fn shown(s: &Status, width: usize) -> String {
    status(s, None, &view(width)).unwrap()
}

#[test]
fn a_healthy_holder() {
    assert_eq!(
        shown(&node(vec![group("postgres", Role::Active)]), 120),
        "\
cluster lb, node hap1, up 3d 4h, 2026-11-24 03:12:45 UTC

GROUP     ROLE    HOLDER     PRIO  ADDRESSES         PROXY    SINCE       WHY
postgres  Active  this node  120   192.168.34.85/24  haproxy  03:09:25    no advert from hap2 for 361 ms
                                                     running  3m 20s ago

PEER  ADDRESS         KIND  REACHABLE        LAST ADVERT
hap2  192.168.34.133  node  NO, for 2m 10s   never
hap3  192.168.34.134  node  yes, for 2m 10s  3m 20s ago

Nothing is known to be wrong.
"
    );
}

#[test]
fn everything_is_wrong_in_eighty_columns() {
    let mut g = group("postgres", Role::Backup);
    g.active = None;
    g.effective_priority = Priority(1);
    g.addresses.push(address("fd00::85/64", AddressState::Failed));
    g.addresses.extend((1..=5000).map(|i| address(&format!("10.0.{i}/24"), AddressState::Absent)));
    g.addresses[0].state = AddressState::Present;
    g.addresses[0].restored = 3;
    let proxy = g.proxy.as_mut().unwrap();
    proxy.state = "failed".into();
    proxy.failures = 4;
    proxy.last_failure = Some("exit status 1".into());
    g.conditions.push(Condition {
        name: "proxy-failed".into(),
        severity: Severity::Warn,
        text: "haproxy.service failed 4 times in 1m; this node yields".into(),
        since: at(20),
    });
    let mut s = node(vec![g]);
    s.peers.clear();
    s.conditions.push(Condition {
        name: "address-contended".into(),
        severity: Severity::Error,
        text:
            "52:54:00:12:34:56 answers for 192.168.34.85 on eth0, and it is none of the nodes of \
               the file"
                .into(),
        since: at(90_000),
    });
    s.dropped.push(("unknown-vrid".into(), 7));
    assert_eq!(
        shown(&s, 80),
        "\
cluster lb, node hap1, up 3d 4h, 2026-11-24 03:12:45 UTC

GROUP     ROLE    HOLDER   PRIO     ADDRESSES               PROXY    SINCE
postgres  Backup  nobody?  1        192.168.34.85/24        haproxy  03:09:25
                           not 120    PRESENT, restored 3x  failed   3m 20s ago
                                    fd00::85/64
                                      FAILED
                                    10.0.1/24
                                    +4999 more
    why: no advert from hap2 for 361 ms
    proxy: 4 recent failures; the last: exit status 1

!! ERROR address-contended since Nov 23 02:12, 1d 1h ago
   52:54:00:12:34:56 answers for 192.168.34.85 on eth0, and it is none of the
   nodes of the file
   what to do: /usr/share/doc/vipd/operations.md#address-contended
!  warning postgres: proxy-failed since 03:12:25, 20s ago
   haproxy.service failed 4 times in 1m; this node yields
   what to do: /usr/share/doc/vipd/operations.md#proxy-failed

packets dropped: unknown-vrid 7
"
    );
}

#[test]
fn one_group_in_detail() {
    let s = node(vec![group("a", Role::Active), group("postgres", Role::Active)]);
    let text = status(&s, Some("postgres"), &view(120)).unwrap();
    assert!(
        text.contains(
            "\
vrid 85, VRRPv3, interface eth0
proxy haproxy.service running since Nov 23 03:12, 1d 0h ago, pid 812
IPv4: interval 100 ms, heard 192.168.34.133 priority 110 3m 20s ago, adverts-sent 12
"
        ),
        "{text}"
    );
    assert!(!text.contains("PEER") && !text.contains("\na "), "{text}");
    assert_eq!(status(&s, Some("mysql"), &view(120)), None);
}

#[test]
fn all_addresses_if_asked_and_colours_if_understood() {
    let mut g = group("postgres", Role::Active);
    g.addresses.extend((1..=9).map(|i| address(&format!("10.0.0.{i}/24"), AddressState::Present)));
    let s = node(vec![g]);
    assert!(!shown(&s, 100).contains("10.0.0.9/24"));
    let v = View { all: true, color: true, ..view(100) };
    let text = status(&s, None, &v).unwrap();
    assert!(text.contains("10.0.0.9/24") && !text.contains("more"), "{text}");
    assert!(text.contains("\x1b[1;32mActive\x1b[0m"), "{text}");
}

#[test]
fn nothing_from_outside_reaches_the_terminal_raw() {
    let mut g = group("post\x1b[2Jgres", Role::Active);
    g.why = "\x1b]0;x\x07".into();
    let mut s = node(vec![g]);
    s.cluster = "\x1b[31m".into();
    s.dropped.push(("\x1b".into(), 1));
    assert!(!shown(&s, 100).contains('\x1b'));
}

#[test]
fn no_groups_no_panic() {
    for width in [0, 1, 20, 400] {
        assert!(shown(&node(vec![]), width).contains("no groups"));
        let _ = shown(&node(vec![group("g", Role::Releasing)]), width);
    }
}

fn leased(holder: Option<&str>, alive: bool) -> Status {
    let mut group = group("postgres", if alive { Role::Active } else { Role::Backup });
    group.safety = "lease".to_owned();
    group.why = if alive { "3 of 3 voters agree" } else { "listening" }.to_owned();
    group.active = holder.map(str::to_owned);
    let vote = |voter: &str, known, to: Option<&str>| VoteStatus {
        voter: voter.into(),
        known,
        to: to.map(str::to_owned),
        left_us: to.map(|_| 217_160),
        priority: Some(Priority(120)),
    };
    group.lease = Some(LeaseStatus {
        holder: holder.map(str::to_owned),
        until: None,
        left_us: holder.map(|_| 172_000),
        preempt: false,
        gap_us: None,
        tenure: 4,
        granted_by: holder.map(|_| vec!["hap1".into(), "hap3".into()]).unwrap_or_default(),
        votes: vec![
            vote("hap1", true, holder),
            vote("hap2", false, None),
            vote("hap3", alive, holder.filter(|_| alive)),
        ],
    });
    let voter = |name: &str, me, alive| VoterStatus {
        name: name.into(),
        witness: name == "hap3",
        me,
        alive,
        heard: (!me).then(|| at(if alive { 0 } else { 4 })),
        hears_us: true,
        same_configuration: Some(true),
        settled: true,
        twin: None,
        clock_ppm: None,
    };
    let mut status = node(vec![group]);
    status.voting = Some(VotingStatus {
        voters: vec![
            voter("hap1", true, true),
            voter("hap2", false, false),
            voter("hap3", false, alive),
        ],
        majority: 2,
        settled: true,
        quiet_until: None,
        waits_for: None,
        term_us: 220_000,
        renew_us: 55_000,
        vote_us: 240_461,
    });
    let (mode, interfaces) = ("tcx".to_owned(), 2);
    status.gate = Some(GateStatus { mode, interfaces, dropped_in: 12, dropped_out: 3 });
    status.peers.clear();
    status
}

#[test]
fn a_witness_votes_only() {
    let witness = GroupStatus {
        priority: Priority::LEAST,
        effective_priority: Priority::LEAST,
        proxy: None,
        ..group("postgres", Role::VotesOnly)
    };
    let text = shown(&node(vec![witness]), 120);
    let row = text.lines().find(|line| line.starts_with("postgres")).unwrap();
    assert!(row.starts_with("postgres  votes only  hap2    -     192.168.34.85/24"), "{row}");
}

#[test]
fn a_holder_by_lease() {
    assert_eq!(
        shown(&leased(Some("hap1"), true), 120),
        "\
cluster lb, node hap1, up 3d 4h, 2026-11-24 03:12:45 UTC

GROUP     ROLE    HOLDER     PRIO  ADDRESSES         PROXY    SINCE       WHY
postgres  Active  this node  120   192.168.34.85/24  haproxy  03:09:25    3 of 3 voters agree
                                                     running  3m 20s ago

LEASE     MAY HOLD   FOR     TENURE  GRANTED BY          EACH VOTE
postgres  this node  172 ms  4       2 of 3: hap1, hap3  hap1 for hap1, 217.2 ms; hap2 not known; hap3 for hap1, 217.2
                                                         ms

VOTER           HEARD         HEARS US  CONFIGURATION  VOTES
hap1            this node     -         the same       yes
hap2            NO, for 4.0s  -         the same       -
hap3 (witness)  0 ms ago      yes       the same       yes
2 of 3 votes are a majority; a holder asks every 55 ms, serves for at most 220 ms after that; a vote lasts 240.5 ms
the kernel's gate (tcx) is on 2 interfaces; while shut it dropped 12 frames in, 3 out

Nothing is known to be wrong.
"
    );
}

#[test]
fn a_host_that_is_cut_off() {
    let mut status = leased(None, false);
    let text = "1 of 3 voters are heard, 2 must be: nothing can be held here".to_owned();
    status.conditions =
        vec![crate::core::status::condition("no-majority", Severity::Error, text, at(4))];
    let all = shown(&status, 120);
    let (_, lease) = all.split_once("\n\n").unwrap().1.split_once("\n\n").unwrap();
    assert_eq!(
        lease,
        "\
LEASE     MAY HOLD      FOR  TENURE  GRANTED BY  EACH VOTE
postgres  nobody known  -    4       -           hap1 for nobody; hap2 not known; hap3 not known

VOTER           HEARD         HEARS US  CONFIGURATION  VOTES
hap1            this node     -         the same       yes
hap2            NO, for 4.0s  -         the same       -
hap3 (witness)  NO, for 4.0s  -         the same       -
2 of 3 votes are a majority; a holder asks every 55 ms, serves for at most 220 ms after that; a vote lasts 240.5 ms
the kernel's gate (tcx) is on 2 interfaces; while shut it dropped 12 frames in, 3 out

!! ERROR no-majority since 03:12:41, 4.0s ago
   1 of 3 voters are heard, 2 must be: nothing can be held here
   what to do: /usr/share/doc/vipd/operations.md#no-majority
"
    );
}

#[test]
fn connections_are_counted_where_they_are_known() {
    let at = |group: &str, known, left_out| ConnectionsStatus {
        group: group.into(),
        node: "hap1".into(),
        known,
        left_out,
    };
    let names = ["postgres", "web", "mail"].map(|name| group(name, Role::Active));
    let mut status = node(names.to_vec());
    status.connections = vec![at("postgres", 134, 0), at("web", 0, 0), at("mail", 20_000, 7)];
    let text = shown(&status, 200);
    let line = text.lines().find(|line| line.starts_with("connections: ")).unwrap();
    assert_eq!(
        line,
        "connections: 134 to postgres on hap1; none to web on hap1; 20000 to mail on hap1, and 7 \
         that no other node knows of"
    );
    let one = self::status(&status, Some("web"), &view(80)).unwrap();
    assert!(one.contains("\nconnections: none to web on hap1\n"), "{one}");
}
