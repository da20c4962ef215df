//! What becomes of a holder whose interface, carrier or own address goes, and of one whose kernel
//! has more to tell than it can hear.

#![allow(clippy::print_stdout, reason = "figures are for whoever runs it")]

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::cluster::{Cluster, NODES, wait_condition, wait_event};
use netns_tests::peer::vipd::Vipd;
use netns_tests::{Host, Lab, Result, Stamp, pause, run};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "postgres";
const VIP: &str = "192.168.34.85";
const BOTH: [&str; 2] = [VIP, "fd00:34::85"];
const GROUPS: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24", "fd00:34::85/64"]
"#;
const ONE: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24"]
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `hap1`, which holds the addresses, loses something, gets it back, and is a Backup afterwards.
fn loses_and_regains(
    label: &str,
    condition: &str,
    lose: impl Fn(&Host) -> Result<Stamp>,
    regain: impl Fn(&Host) -> Result<Stamp>,
) -> Result {
    let cluster = Cluster::new(label)?;
    let (mut one, mut two) = cluster.start(GROUPS, GROUP)?;
    let at = lose(&cluster.hap1)?;
    wait_condition(&one, condition, SECOND)?;
    one.wait_role(GROUP, "init", SECOND)?;
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    for vip in BOTH {
        let moved = cluster.watch.wait_holders(ip(vip), &["hap2"], SECOND)?;
        println!("{vip} is on the other host {:?} after the loss", moved.since(at));
    }
    wait_event(&one, "init", "", SECOND)?;

    regain(&cluster.hap1)?;
    one.wait_role(GROUP, "backup", 3 * SECOND)?;
    pause(SECOND);
    assert_eq!((one.role(GROUP)?, two.role(GROUP)?), ("backup".to_owned(), "active".to_owned()));
    for vip in BOTH {
        assert_eq!(cluster.watch.holders_now(ip(vip)), ["hap2".to_owned()].into());
        assert_eq!(cluster.watch.two_holders(ip(vip)), []);
    }
    // It hears and is heard: it takes over when the other one dies.
    cluster.hap2.power_loss()?;
    one.wait_role(GROUP, "active", 3 * SECOND)?;
    Ok(())
}

#[test]
fn a_holder_without_carrier_gives_way_and_returns_as_backup() -> Result {
    loses_and_regains("carrier", "no-carrier", Host::carrier_down, Host::carrier_up)
}

#[test]
fn so_does_one_whose_interface_is_set_down() -> Result {
    loses_and_regains("down", "no-carrier", Host::link_down, |host| {
        // The kernel drops the host's own IPv6 address with the link.
        host.ip("link set eth0 up\naddr replace fd00:34::132/64 dev eth0 nodad\n")?;
        Ok(Stamp::now())
    })
}

#[test]
fn so_does_one_whose_own_address_is_deleted() -> Result {
    loses_and_regains(
        "own-address",
        "no-address",
        |host| {
            host.ip("addr del 192.168.34.132/24 dev eth0\n")?;
            Ok(Stamp::now())
        },
        |host| {
            host.ip("addr add 192.168.34.132/24 dev eth0\n")?;
            Ok(Stamp::now())
        },
    )
}

#[test]
fn so_does_one_whose_interface_is_deleted_and_made_again() -> Result {
    loses_and_regains(
        "deleted",
        "no-address",
        |host| {
            host.ip("link del eth0\n")?;
            Ok(Stamp::now())
        },
        |host| {
            // The first plug of a host, as the lab makes it; the kernel gives it a new number.
            let switch = host.namespace().replace("-hap1", "-switch");
            let (mac, namespace) = ("02:00:00:00:00:01", host.namespace());
            run::stdout_of(
                &["ip", "-n", &switch, "-batch", "-"],
                &format!(
                    "link add hap1 type veth peer name eth0 address {mac} netns {namespace}\n\
                     link set hap1 master br0 up\n"
                ),
            )?;
            host.ip("addr add 192.168.34.132/24 dev eth0\nlink set eth0 up\n")?;
            Ok(Stamp::now())
        },
    )
}

#[test]
fn an_interface_that_comes_later_is_waited_for() -> Result {
    let lab = Lab::new("later")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let config = format!("{NODES}{ONE}interface = \"eth1\"\n");
    let mut vipd = Vipd::start(&host, &config)?;
    wait_condition(&vipd, "no-interface", 2 * SECOND)?;
    assert_eq!(vipd.role(GROUP)?, "init");
    host.plug("eth1", "back", &["192.168.34.142/24"])?;
    vipd.wait_role(GROUP, "active", 3 * SECOND)?;
    let carried = run::stdout(&["ip", "-n", host.namespace(), "addr", "show", "eth1"])?;
    assert!(carried.contains(VIP), "{carried}");
    Ok(())
}

#[test]
fn a_start_delay_begins_with_the_carrier() -> Result {
    let lab = Lab::new("start-delay")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    host.carrier_down()?;
    let config = format!("{NODES}{ONE}start-delay = \"1s\"\n");
    let mut vipd = Vipd::start(&host, &config)?;
    wait_condition(&vipd, "no-carrier", 2 * SECOND)?;
    pause(1500 * MS);
    assert_eq!(vipd.role(GROUP)?, "init", "the delay does not pass without carrier");
    let at = host.carrier_up()?;
    let active = vipd.wait_role(GROUP, "active", 5 * SECOND)?;
    // The delay, and the time of silence after it.
    assert!(active.since(at) > 1300 * MS, "{:?}", active.since(at));
    Ok(())
}

/// Ten thousand addresses that come and go on an interface that is none of the daemon's business.
fn burst() -> String {
    let address = |n: u32| format!("10.1.{}.{}/32", n / 250, n % 250 + 1);
    let both = |n| format!("addr add {0} dev eth1\naddr del {0} dev eth1\n", address(n));
    (0..10_000).map(both).collect::<Vec<_>>().concat()
}

#[test]
fn a_burst_of_events_from_the_kernel_hides_nothing() -> Result {
    let cluster = Cluster::new("burst")?;
    cluster.hap1.plug("eth1", "back", &["10.0.0.1/24"])?;
    let (one, two) = cluster.start(ONE, GROUP)?;
    let commands = cluster.hap1.write("burst", &burst())?.display().to_string();
    let mut storm = cluster.hap1.spawn("burst", &["ip", "-batch", &commands])?;
    let mut deleted = 0;
    while storm.is_running() && deleted < 3 {
        pause(150 * MS);
        let at = Stamp::now();
        cluster.hap1.ip("addr del 192.168.34.85/24 dev eth0\n")?;
        let back = cluster.watch.wait_event(ip(VIP), true, at, 3 * SECOND)?;
        println!("back in {:?} during the burst", back.at.since(at));
        deleted += 1;
    }
    assert!(deleted > 0, "the burst was over too early");
    storm.wait(30 * SECOND)?;
    pause(500 * MS);
    assert!(cluster.hap1.has(ip(VIP))?);
    assert_eq!((one.role(GROUP)?, two.role(GROUP)?), ("active".to_owned(), "backup".to_owned()));
    let others = cluster.watch.events().into_iter().filter(|e| e.host == "hap2");
    assert_eq!(others.filter(|e| e.ip == ip(VIP)).count(), 0, "nobody took over");
    Ok(())
}

/// How many messages did not fit into the netlink sockets of a host.
fn lost_messages(host: &Host) -> Result<u64> {
    let sockets = host.run(&["cat", "/proc/net/netlink"])?;
    let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
    let drops = |line: &str| line.split_whitespace().nth(8)?.parse::<u64>().ok();
    Ok(sockets.lines().filter_map(drops).sum())
}

#[test]
fn what_a_paused_daemon_could_not_hear_it_asks_for() -> Result {
    let lab = Lab::new("overrun")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    host.plug("eth1", "back", &["10.0.0.1/24"])?;
    let mut vipd = Vipd::start(&host, &format!("{NODES}{ONE}"))?;
    vipd.wait_role(GROUP, "active", 5 * SECOND)?;
    vipd.process.freeze()?;
    // Its socket is full before the deletion is told.
    host.ip(&burst().repeat(3))?;
    host.ip("addr del 192.168.34.85/24 dev eth0\n")?;
    assert!(lost_messages(&host)? > 0);
    vipd.process.thaw()?;
    netns_tests::wait_until("the deleted address", 3 * SECOND, || host.has(ip(VIP)))?;
    vipd.wait_role(GROUP, "active", 3 * SECOND)?;
    Ok(())
}
