//! Checks: what they mean, and their defaults.

use std::time::Duration;

use vipd::config::{Check, Config, Effect, Http, Postgresql, Probe, parse};

use super::values::good;

/// A file of two nodes and two groups, which goes on with `checks`.
pub(crate) fn file(checks: &str) -> String {
    const BEFORE: &str = r#"
        cluster = { name = "lb" }
        node = [
            { name = "hap1", address = "192.168.34.132" },
            { name = "hap2", address = "192.168.34.133" },
        ]
        group = [
            { name = "writes", vrid = 85, addresses = ["192.168.34.85/24"] },
            { name = "reads", vrid = 86, addresses = ["192.168.34.86/24"] },
        ]
    "#;
    format!("{BEFORE}\n{checks}")
}

fn checks(text: &str) -> Vec<Check> {
    good(&file(text)).checks
}

fn only(keys: &str) -> Check {
    checks(&format!("[[check]]\n{keys}\n")).remove(0)
}

#[test]
fn the_defaults() {
    let expected = Check {
        name: "tcp-127.0.0.1:5000".into(),
        what: Probe::Tcp("127.0.0.1:5000".parse().unwrap()),
        effect: Effect::Disqualify,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(200),
        timeout: Duration::from_millis(300),
        rise: 2,
        fall: 2,
        restart_proxy: false,
        groups: Vec::new(),
    };
    assert_eq!(only("tcp = \"127.0.0.1:5000\""), expected);
    let script = only("run = [\"/etc/vipd/healthy\"]");
    assert_eq!(script.timeout, Duration::from_secs(5));
    assert_eq!(script.name, "run-healthy");
    assert_eq!(only("unit = \"a.mount\"\neffect = \"score\"").effect, Effect::Score(10));
}

/// Where nothing else is said, what hangs is found within two intervals, even if jitter makes each
/// pause an eighth longer.
#[test]
fn what_hangs_is_found_within_two_intervals() {
    for interval in [350, 500, 999, 1000, 5000, 60_000] {
        let check = only(&format!("tcp = \"127.0.0.1:5000\"\ninterval = \"{interval}ms\""));
        let pauses = check.interval + check.fast_interval;
        assert_eq!(check.hung_after(), pauses + check.timeout * 2);
        assert!(check.hung_after() + pauses / 8 <= check.interval * 2, "{check:?}");
    }
    let rows = [
        ("interval = \"100ms\"", 100, 20),
        ("interval = \"500ms\"", 150, 100),
        ("interval = \"10s\"\nfast-interval = \"10s\"", 300, 10_000),
        ("timeout = \"500ms\"\nfast-interval = \"10ms\"", 500, 10),
    ];
    for (keys, timeout, fast) in rows {
        let check = only(&format!("tcp = \"127.0.0.1:5000\"\n{keys}"));
        let times = (check.timeout.as_millis(), check.fast_interval.as_millis());
        assert_eq!(times, (timeout, fast), "{keys}");
    }
    let slow = only("tcp = \"127.0.0.1:5000\"\nfall = 1\ntimeout = \"2s\"");
    assert_eq!(slow.hung_after(), Duration::from_secs(3), "no second look, no pause before it");
}

#[test]
fn everything_that_can_be_looked_at() {
    let http = |urls: &[&str], status: &[u16], body: Option<&str>| {
        Probe::Http(Http {
            urls: urls.iter().map(|u| (*u).to_owned()).collect(),
            status: status.to_vec(),
            body: body.map(str::to_owned),
        })
    };
    let socket = "/run/haproxy.sock";
    let postgresql = |user: &str, database: &str| {
        let address = "[::1]:5000".parse().unwrap();
        Probe::Postgresql(Postgresql { address, user: user.into(), database: database.into() })
    };
    let rows = [
        ("http = \"http://10.0.0.1:7000/x?y\"", http(&["http://10.0.0.1:7000/x?y"], &[], None)),
        (
            "http = \"https://10.0.0.1/\"\nstatus = [200, 404]\nbody = \"ok\"",
            http(&["https://10.0.0.1/"], &[200, 404], Some("ok")),
        ),
        (
            "patroni = [\"http://10.0.0.1:8008\", \"http://10.0.0.2:8008/\"]",
            http(&["http://10.0.0.1:8008/primary", "http://10.0.0.2:8008/primary"], &[200], None),
        ),
        (
            "patroni = [\"http://10.0.0.1:8008\"]\nrole = \"any\"",
            http(&["http://10.0.0.1:8008/health"], &[200], None),
        ),
        (
            "haproxy = \"/run/haproxy.sock\"",
            Probe::Haproxy { socket: socket.into(), backend: None },
        ),
        (
            "haproxy = \"/run/haproxy.sock\"\nbackend = \"pg\"",
            Probe::Haproxy { socket: socket.into(), backend: Some(("pg".into(), 1)) },
        ),
        (
            "haproxy = \"/run/haproxy.sock\"\nbackend = \"pg\"\nservers = 2",
            Probe::Haproxy { socket: socket.into(), backend: Some(("pg".into(), 2)) },
        ),
        ("postgresql = \"[::1]:5000\"", postgresql("postgres", "postgres")),
        (
            "postgresql = \"[::1]:5000\"\nuser = \"vipd\"\ndatabase = \"app\"",
            postgresql("vipd", "app"),
        ),
        ("unit = \"pgbouncer.service\"", Probe::Unit("pgbouncer.service".into())),
        ("process = \"/run/x.pid\"", Probe::Process("/run/x.pid".into())),
        ("file = \"/run/off\"", Probe::File { path: "/run/off".into(), value: None }),
        (
            "file = \"/run/state\"\nvalue = \"on\"",
            Probe::File { path: "/run/state".into(), value: Some("on".into()) },
        ),
        ("interface = \"eth1\"", Probe::Interface("eth1".into())),
        ("neighbour = \"2001:db8::1\"", Probe::Neighbour("2001:db8::1".parse().unwrap())),
        ("ping = \"10.0.0.1\"", Probe::Ping("10.0.0.1".parse().unwrap())),
        (
            "run = [\"/bin/true\", \"a b\"]\nuser = \"root\"",
            Probe::Run { argv: vec!["/bin/true".into(), "a b".into()], user: Some("root".into()) },
        ),
    ];
    for (keys, what) in rows {
        assert_eq!(only(keys).what, what, "{keys}");
    }
}

#[test]
fn a_check_is_about_the_groups_it_names() {
    let text = "[[check]]\ntcp = \"127.0.0.1:5000\"\ngroups = [\"writes\"]\n\
                [[check]]\nunit = \"a.service\"\neffect = \"warn\"\n";
    let config = good(&file(text));
    let of = |group| config.checks_of(group).map(|c| c.name.as_str()).collect::<Vec<_>>();
    assert_eq!(of("writes"), ["tcp-127.0.0.1:5000", "unit-a.service"]);
    assert_eq!(of("reads"), ["unit-a.service"]);
}

/// A check is each host's own business: the votes of hosts with different ones count together.
#[test]
fn checks_are_no_part_of_what_voters_agree_on() {
    let with = good(&file("[[check]]\nunit = \"a.service\"\n"));
    assert_eq!(with.digest(), good(&file("")).digest());
}

#[test]
fn the_meaning() {
    let text = "[[check]]\nname = \"w\"\npostgresql = \"127.0.0.1:5000\"\ngroups = [\"writes\"]\n\
                [[check]]\nhaproxy = \"/run/h.sock\"\nbackend = \"pg\"\neffect = \"score\"\nfall = 1\n";
    let meaning = good(&file(text)).meaning();
    let lines: Vec<_> = meaning.iter().filter(|l| l.starts_with("check ")).collect();
    assert_eq!(
        lines,
        [
            "check w: 127.0.0.1:5000 answers as PostgreSQL does, every 1s; after 2 bad looks in a \
             row, 1.8s if it hangs, the node must not hold writes if another one can",
            "check haproxy-pg: HAProxy has 1 server or more up in pg, every 1s; after one bad look, \
             1.3s if it hangs, the node's priority counts 10 less",
        ]
    );
}

#[test]
fn names_are_made_of_what_is_looked_at() {
    let rows = [
        ("http = \"http://10.0.0.1:7000/x\"", "http-10.0.0.1:7000"),
        ("patroni = [\"http://10.0.0.1:8008\"]", "patroni-10.0.0.1:8008"),
        ("haproxy = \"/run/haproxy.sock\"", "haproxy"),
        ("process = \"/run/haproxy.pid\"", "process-haproxy.pid"),
        ("interface = \"eth1\"", "interface-eth1"),
        ("name = \"x\"\ninterface = \"eth1\"", "x"),
    ];
    for (keys, name) in rows {
        assert_eq!(only(keys).name, name);
    }
}

#[test]
fn a_refused_value_is_no_check() {
    for keys in ["tcp = 5000", "run = []", "run = \"/bin/true\"", "patroni = []", "status = [200]"]
    {
        let text = file(&format!("[[check]]\n{keys}\n"));
        let refused: Result<(Config, _), _> = parse(&text);
        assert!(refused.is_err(), "{keys}");
    }
}
