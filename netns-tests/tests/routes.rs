//! Routes and policy rules that come and go with the virtual addresses.

use std::time::Duration;

use netns_tests::cluster::{Cluster, NODES, conditions, events, wait_condition, wait_event};
use netns_tests::peer::keepalived;
use netns_tests::peer::vipd::Vipd;
use netns_tests::trio::{Kind, Trio};
use netns_tests::{Host, Result, pause, run, wait_until};
use nix::sys::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "postgres";
const VIPS: [&str; 2] = ["192.168.34.85", "fd00:34::85"];
/// As `ip` shows them, of both families.
const ROUTES: [&str; 2] = ["default via 192.168.34.1", "default via fd00:34::1"];
const RULES: [&str; 2] = ["from 192.168.34.85 lookup 100", "from fd00:34::85 lookup 100"];

const ADDRESSES: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24", "fd00:34::85/64"]
routes = [
    { to = "default", via = "192.168.34.1", source = "192.168.34.85", table = 100 },
    { to = "default", via = "fd00:34::1", source = "fd00:34::85", table = 100 },
    { to = "10.78.0.0/16", via = "192.168.34.1", source = "192.168.34.85", metric = 5 },
]
"#;

const WITH_RULES: &str = r#"
rules = [
    { priority = 1000, from = "192.168.34.85", table = 100 },
    { priority = 1000, from = "fd00:34::85", table = 100 },
]
"#;

fn group() -> String {
    format!("{ADDRESSES}{WITH_RULES}")
}

/// Two hosts, a router on their link, and somebody behind it. No host has a default route.
struct Scene {
    cluster: Cluster,
    far: Host,
}

impl Scene {
    fn new(label: &str) -> Result<Self> {
        let cluster = Cluster::new(label)?;
        let router = cluster.lab.host("router", &["192.168.34.1/24", "fd00:34::1/64"])?;
        router.plug("eth1", "behind", &["10.9.0.1/24", "fd00:9::1/64"])?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let far = cluster.lab.host("far", &[])?;
        far.plug("eth1", "behind", &["10.9.0.2/24", "fd00:9::2/64"])?;
        far.ip("route add 192.168.34.0/24 via 10.9.0.1\nroute add fd00:34::/64 via fd00:9::1\n")?;
        Ok(Self { cluster, far })
    }

    /// Which of the virtual addresses answer somebody behind the router.
    fn answers(&self) -> Result<[bool; 2]> {
        let ask = |vip| Ok(self.far.run(&["ping", "-n", "-c1", "-W1", vip])?.status.success());
        Ok([ask(VIPS[0])?, ask(VIPS[1])?])
    }

    fn wait_answers(&self, within: Duration) -> Result {
        wait_until("answers from both addresses", within, || Ok(self.answers()? == [true; 2]))?;
        Ok(())
    }
}

/// What `ip` lists of table 100 and of the rules, of both families.
fn listed(host: &Host) -> String {
    lists(host, &[&["route", "show", "table", "100"], &["rule"]])
}

/// What `ip` lists of several things, of both families.
fn lists(host: &Host, things: &[&[&str]]) -> String {
    let mut all = String::new();
    for family in ["-4", "-6"] {
        for what in things {
            let argv = [&["ip", "-n", host.namespace(), family], *what].concat();
            // A table that never had a route is none, to `ip`.
            all.push_str(&run::stdout(&argv).unwrap_or_default());
        }
    }
    all
}

/// Which of the routes and rules a host has, in the order of the constants.
fn here(host: &Host) -> Vec<bool> {
    let all = listed(host);
    ROUTES.iter().chain(&RULES).map(|line| all.contains(line)).collect()
}

fn wait_here(host: &Host, all: bool, within: Duration) -> Result {
    let what = format!("routes and rules on {}: {all}", host.name());
    wait_until(&what, within, || Ok(here(host) == [all; 4]))
        .inspect_err(|_| eprintln!("{}", listed(host)))?;
    Ok(())
}

fn reload(host: &Host, vipd: &Vipd, config: &str) -> Result {
    host.write("vipd/vipd.toml", config)?;
    vipd.process.signal(Signal::SIGHUP)
}

#[test]
fn who_is_behind_a_router_is_answered_by_that_rule_only() -> Result {
    let scene = Scene::new("routes-needed")?;
    let hap1 = &scene.cluster.hap1;
    let (one, _two) = scene.cluster.start(&group(), GROUP)?;
    wait_here(hap1, true, 2 * SECOND)?;
    wait_here(&scene.cluster.hap2, false, SECOND)?;
    scene.wait_answers(5 * SECOND)?;
    let status = one.status()?;
    let routing = status["groups"][0]["routing"].as_array().cloned().unwrap_or_default();
    assert_eq!(routing.len(), 5, "{status:#}");
    assert!(routing.iter().all(|r| r["state"] == "present"), "{routing:#?}");

    // Without the rules the routes are of no use.
    let marks = listed(hap1);
    assert!(marks.contains("proto 86"), "{marks}");
    reload(hap1, &one, &format!("{NODES}{ADDRESSES}"))?;
    wait_event(&one, "reconfigured", "rule 1000", 2 * SECOND)?;
    wait_until("no rule", 2 * SECOND, || Ok(here(hap1) == [true, true, false, false]))?;
    assert_eq!(scene.answers()?, [false; 2]);
    reload(hap1, &one, &format!("{NODES}{}", group()))?;
    wait_here(hap1, true, 2 * SECOND)?;
    assert_eq!(scene.answers()?, [true; 2]);
    assert_eq!(one.role(GROUP)?, "active");
    assert!(!events(&one)?.iter().any(|e| e.kind.starts_with("route-")), "nothing was refused");
    Ok(())
}

#[test]
fn routes_and_rules_go_where_the_addresses_go() -> Result {
    let scene = Scene::new("routes-move")?;
    let Cluster { hap1, hap2, .. } = &scene.cluster;
    let (mut one, mut two) = scene.cluster.start(&group(), GROUP)?;
    wait_here(hap1, true, 2 * SECOND)?;
    let away = one.ctl(&["standby"])?;
    assert!(away.status.success(), "{away:?}");
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    wait_here(hap2, true, 2 * SECOND)?;
    wait_here(hap1, false, SECOND)?;
    scene.wait_answers(5 * SECOND)?;
    assert!(!events(&one)?.iter().any(|e| e.kind.starts_with("route-")), "{:?}", events(&one)?);

    assert!(one.ctl(&["resume"])?.status.success());
    one.wait_role(GROUP, "backup", 3 * SECOND)?;
    hap2.power_loss()?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    wait_here(hap1, true, 2 * SECOND)?;
    scene.wait_answers(5 * SECOND)?;

    // A daemon that is told to stop leaves nothing.
    one.process.term()?;
    one.process.wait(5 * SECOND)?;
    assert_eq!(here(hap1), [false; 4], "{}", listed(hap1));
    assert!(!one.runtime().join("routing").exists());
    Ok(())
}

/// What an operator has there: another metric, another priority, and no mark of ours.
const OPERATORS: &str = "route add default via 192.168.34.200 table 100 metric 7\n\
                         rule add from 192.168.34.85 lookup 200 priority 1001\n";

fn operators(host: &Host) -> bool {
    let all = listed(host);
    all.contains("default via 192.168.34.200") && all.contains("lookup 200")
}

#[test]
fn what_a_killed_daemon_left_is_removed_and_what_others_have_is_not() -> Result {
    let scene = Scene::new("routes-killed")?;
    let Cluster { hap1, hap2, .. } = &scene.cluster;
    hap1.ip(OPERATORS)?;
    let (mut one, mut two) = scene.cluster.start(&group(), GROUP)?;
    wait_here(hap1, true, 2 * SECOND)?;
    // The mark alone makes nothing ours: another vipd may run here.
    hap1.ip("route add 10.77.0.0/16 via 192.168.34.1 table 100 proto 86\n")?;
    one.process.kill()?;
    one.process.wait(SECOND)?;
    two.wait_role(GROUP, "active", 5 * SECOND)?;
    wait_here(hap2, true, 2 * SECOND)?;
    assert_eq!(here(hap1), [true; 4], "a killed daemon removes nothing");
    // The next one has none of it in its file.
    let plain = "[[group]]\nname = \"postgres\"\nvrid = 85\naddresses = [\"192.168.34.85/24\"]\n";
    let mut one = Vipd::start(hap1, &format!("{NODES}{plain}"))?;
    one.wait_role(GROUP, "backup", 5 * SECOND)?;
    wait_here(hap1, false, 3 * SECOND)?;
    wait_event(&one, "leftover", "route default via 192.168.34.1", SECOND)?;
    assert!(operators(hap1), "{}", listed(hap1));
    assert!(listed(hap1).contains("10.77.0.0/16"), "{}", listed(hap1));
    Ok(())
}

#[test]
fn what_is_deleted_by_hand_is_put_back() -> Result {
    let scene = Scene::new("routes-deleted")?;
    let hap1 = &scene.cluster.hap1;
    hap1.ip(OPERATORS)?;
    let (one, _two) = scene.cluster.start(&group(), GROUP)?;
    wait_here(hap1, true, 2 * SECOND)?;
    for (command, words) in [
        ("-4 route del default via 192.168.34.1 table 100\n", "192.168.34.1 src"),
        ("-6 route del default via fd00:34::1 table 100\n", "fd00:34::1 src"),
        ("-4 rule del from 192.168.34.85 lookup 100\n", "rule 1000: from 192.168.34.85"),
        ("-6 rule del from fd00:34::85 lookup 100\n", "rule 1000: from fd00:34::85"),
    ] {
        let argv: Vec<_> =
            ["ip", "-n", hap1.namespace()].into_iter().chain(command.split_whitespace()).collect();
        run::stdout(&argv)?;
        wait_event(&one, "route-restored", words, 2 * SECOND)?;
        wait_here(hap1, true, SECOND)?;
    }
    // With an address its routes go; nobody deleted those.
    let before = events(&one)?.iter().filter(|e| e.kind.starts_with("route-")).count();
    for vip in ["192.168.34.85/24", "fd00:34::85/64"] {
        hap1.ip(&format!("addr del {vip} dev eth0\n"))?;
        wait_event(&one, "address-restored", vip.split('/').next().unwrap_or_default(), SECOND)?;
        wait_here(hap1, true, 2 * SECOND)?;
    }
    pause(200 * Duration::from_millis(1));
    let main = run::stdout(&["ip", "-n", hap1.namespace(), "route", "show", "10.78.0.0/16"])?;
    assert!(main.contains("src 192.168.34.85 metric 5"), "{main}");
    let after = events(&one)?.iter().filter(|e| e.kind.starts_with("route-")).count();
    assert_eq!(before, after, "{:?}", events(&one)?);
    assert!(operators(hap1), "{}", listed(hap1));
    scene.wait_answers(2 * SECOND)
}

#[test]
fn a_route_that_somebody_else_has_is_told_of_and_the_addresses_stay() -> Result {
    let scene = Scene::new("routes-refused")?;
    let hap1 = &scene.cluster.hap1;
    hap1.ip("route add default via 192.168.34.200 table 100\n")?;
    let (one, two) = scene.cluster.start(&group(), GROUP)?;
    wait_condition(&one, "route-refused", 3 * SECOND)?;
    wait_event(&one, "route-refused", "somebody else has the same one", SECOND)?;
    assert!(listed(hap1).contains("default via 192.168.34.200"));
    assert_eq!(here(hap1), [false, true, true, true]);
    let shown = String::from_utf8_lossy(&one.ctl(&["status"])?.stdout).into_owned();
    assert!(shown.contains("route-refused"), "{shown}");
    pause(SECOND);
    assert_eq!((one.role(GROUP)?, two.role(GROUP)?), ("active".to_owned(), "backup".to_owned()));
    hap1.ip("route del default via 192.168.34.200 table 100\n")?;
    wait_event(&one, "route-arrived", "192.168.34.1", 35 * SECOND)?;
    wait_here(hap1, true, SECOND)?;
    assert!(!conditions(&one)?.iter().any(|name| name == "route-refused"));
    Ok(())
}

const UNUSUAL: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24", "fd00:34::85/64"]
routes = [
    { to = "10.80.0.0/16", via = "10.99.0.1", onlink = true, source = "192.168.34.85" },
    { to = "fd00:80::/32", via = "fd00:99::1", onlink = true },
    { type = "blackhole", to = "10.81.0.0/16" },
    { type = "unreachable", to = "fd00:81::/32" },
    { type = "prohibit", to = "10.82.0.0/16", metric = 5 },
]
"#;

/// What `ip` shows of them: a gateway in no network of the host, and three that lead nowhere.
const SHOWN: [&str; 5] = [
    "10.80.0.0/16 via 10.99.0.1 dev eth0 src 192.168.34.85 onlink",
    "fd00:80::/32 via fd00:99::1 dev eth0 metric 1024 onlink",
    "blackhole 10.81.0.0/16",
    "unreachable fd00:81::/32 dev lo metric 1024",
    "prohibit 10.82.0.0/16 metric 5",
];

#[test]
fn a_gateway_is_on_the_link_if_the_file_says_so_and_a_route_may_lead_nowhere() -> Result {
    let cluster = Cluster::new("routes-unusual")?;
    let shown = |host: &Host| {
        let all = lists(host, &[&["route", "show", "proto", "86"]]);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = all.lines().map(words).collect();
        SHOWN.iter().filter(|s| lines.iter().any(|line| line.starts_with(*s))).count()
    };
    let wait = |host: &Host, count: usize| {
        wait_until("those routes", 2 * SECOND, || Ok(shown(host) == count))
    };
    let (one, mut two) = cluster.start(UNUSUAL, GROUP)?;
    wait(&cluster.hap1, 5)?;
    for (what, to) in [("blackhole", "10.81.0.0/16"), ("unicast", "fd00:80::/32")] {
        cluster.hap1.ip(&format!("route del {what} {to}\n"))?;
        wait_event(&one, "route-restored", to, SECOND)?;
        wait(&cluster.hap1, 5)?;
    }
    pause(SECOND);
    let told = events(&one)?.iter().filter(|e| e.kind.starts_with("route-")).count();
    assert_eq!(told, 2, "nothing was refused, and all are known again: {:?}", events(&one)?);

    assert!(one.ctl(&["standby"])?.status.success());
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    wait(&cluster.hap2, 5)?;
    wait(&cluster.hap1, 0)?;
    let without = UNUSUAL.replace("via = \"10.99.0.1\", onlink = true", "via = \"10.99.0.1\"");
    reload(&cluster.hap2, &two, &format!("{NODES}{without}"))?;
    wait_event(&two, "route-refused", "10.80.0.0/16 via 10.99.0.1", 3 * SECOND)?;
    Ok(())
}

const LEASED: &str = r#"routes = [
    { to = "default", via = "192.168.34.1", source = "192.168.34.85", table = 100 },
]
rules = [
    { priority = 1000, from = "192.168.34.85", table = 100 },
]
"#;

/// Waits until the hosts with the numbers `on` have the route and the rule of the lease, and the
/// others neither.
fn wait_leased(trio: &Trio, on: &[usize], within: Duration) -> Result {
    wait_until(&format!("route and rule on {on:?} only"), within, || {
        Ok(trio.hosts.iter().enumerate().all(|(n, host)| {
            let here = here(host);
            [here[0], here[2]] == [on.contains(&n); 2]
        }))
    })
    .inspect_err(|_| trio.hosts.iter().for_each(|host| eprintln!("{}", listed(host))))?;
    Ok(())
}

#[test]
fn with_a_lease_they_follow_it_and_a_restart_leaves_them_alone() -> Result {
    let mut trio = Trio::new("routes-lease", Kind::Lease)?;
    // Long enough for a start on a machine that does other things, too.
    let long = "[cluster]\nlease = \"1s\"\n";
    let config = trio.config().replace("[cluster]\n", long) + LEASED;
    trio.start_all(&config)?;
    let first = trio.wait_holder(10 * SECOND)?;
    wait_leased(&trio, &[first], 2 * SECOND)?;

    let argv = ["ip", "monitor", "route", "rule"];
    let monitor = trio.hosts[first].spawn("monitor", &argv)?;
    pause(200 * Duration::from_millis(1));
    trio.kill(first);
    trio.start_with(first, &config)?;
    trio.vipd(first).wait_role(GROUP, "active", 5 * SECOND)?;
    // Longer than what the predecessor left it.
    pause(1200 * Duration::from_millis(1));
    assert_eq!(trio.wait_holder(SECOND)?, first);
    wait_leased(&trio, &[first], SECOND)?;
    assert_eq!(monitor.log(), "", "nothing was touched");
    assert!(!events(trio.vipd(first))?.iter().any(|e| e.kind.starts_with("route-")));

    let second = (first + 1) % 3;
    let to = trio.hosts[second].name().to_owned();
    trio.ctl(first, &["move", GROUP, &to])?;
    wait_leased(&trio, &[second], 2 * SECOND)?;
    assert!(monitor.log().contains("Deleted default via 192.168.34.1"), "{}", monitor.log());

    // Of one that is killed they stay, as its address does, until it is started again.
    trio.kill(second);
    let third = trio.wait_holder_but(Some(second), 10 * SECOND)?;
    wait_leased(&trio, &[second, third], 2 * SECOND)?;
    trio.start_with(second, &config)?;
    wait_leased(&trio, &[third], 5 * SECOND)?;
    wait_event(trio.vipd(second), "leftover", "route default via 192.168.34.1", SECOND)?;
    Ok(())
}

/// What keepalived leaves behind is there for good.
#[test]
fn keepalived_beside_it_leaves_what_its_killed_self_had() -> Result {
    let scene = Scene::new("routes-keepalived")?;
    let hap1 = &scene.cluster.hap1;
    let config = |routing: &str| {
        format!(
            "vrrp_instance v {{\n state BACKUP\n interface eth0\n virtual_router_id 85\n \
             priority 100\n version 3\n advert_int 0.1\n virtual_ipaddress {{\n \
             192.168.34.85/24\n }}\n{routing}}}\n"
        )
    };
    let routing = " virtual_routes {\n 0.0.0.0/0 via 192.168.34.1 src 192.168.34.85 table 100\n \
                   }\n virtual_rules {\n from 192.168.34.85 lookup 100 priority 1000\n }\n";
    let mut first = keepalived::start_with(hap1, &config(routing))?;
    wait_until("keepalived's route", 5 * SECOND, || Ok(here(hap1)[0] && here(hap1)[2]))?;
    first.kill_tree()?;
    first.wait(SECOND)?;
    let _second = keepalived::start_with(hap1, &config(""))?;
    wait_until("keepalived again", 5 * SECOND, || {
        hap1.has("192.168.34.85".parse().expect("an address"))
    })?;
    pause(SECOND);
    let left = here(hap1);
    println!("keepalived, killed and started without them, leaves {left:?}");
    assert_eq!((left[0], left[2]), (true, true), "{}", listed(hap1));
    Ok(())
}
