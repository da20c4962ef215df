//! The lab does what it says: a fault is that fault and nothing else, a measurement measures,
//! and nothing is left behind.

#![allow(clippy::disallowed_methods, reason = "the lab measures and waits in real time")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tests::peer::{backend::Backend, frr, haproxy, keepalived};
use netns_tests::{
    Capture, Census, Dice, ForgedAdvert, Frame, Host, HttpProbe, Injector, Lab, Probe, Result,
    Stamp, Watch, http, netns, pause, run, wait_until,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 85);
const VIP_NET: &str = "192.168.34.85/24";

/// Two hosts and a client.
fn pair(label: &str) -> Result<(Lab, Host, Host, Host)> {
    let lab = Lab::new(label)?;
    let hap1 = lab.host("hap1", &["192.168.34.132/24", "fd00:34::132/64"])?;
    let hap2 = lab.host("hap2", &["192.168.34.133/24", "fd00:34::133/64"])?;
    let client = lab.host("client", &["192.168.34.200/24", "fd00:34::200/64"])?;
    Ok((lab, hap1, hap2, client))
}

/// Whether `from` reaches `to`; an ARP request that was lost just before is retried within the
/// patience.
fn pings(from: &Host, to: &str) -> bool {
    ping(from, to, "3")
}

/// Whether `from` does not reach `to`.
fn is_cut_off(from: &Host, to: &str) -> bool {
    !ping(from, to, "0.5")
}

fn ping(from: &Host, to: &str, patience: &str) -> bool {
    let output = from.run(&["ping", "-c1", "-W", patience, to]).expect("ping runs");
    output.status.success()
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::from((VIP, port))
}

#[test]
fn hosts_are_up_at_once_and_reach_each_other() -> Result {
    let begin = Instant::now();
    let (_lab, hap1, hap2, client) = pair("ping")?;
    assert!(begin.elapsed() < 2 * SECOND, "{:?}", begin.elapsed());
    assert!(pings(&client, "192.168.34.132"));
    assert!(pings(&client, "fd00:34::133"));
    assert!(pings(&hap1, "192.168.34.133"));
    assert_eq!(
        (hap1.mac().as_str(), hap2.mac().as_str()),
        ("02:00:00:00:00:01", "02:00:00:00:00:02")
    );
    let root = run::stdout(&["ip", "-o", "link"])?;
    assert!(!root.contains("hap1"), "{root}");
    Ok(())
}

#[test]
fn a_second_plug_is_a_second_network() -> Result {
    let (lab, hap1, hap2, client) = pair("plug")?;
    hap1.plug("eth1", "back", &["10.0.0.1/24"])?;
    hap2.plug("eth1", "back", &["10.0.0.2/24"])?;
    assert!(pings(&hap1, "10.0.0.2"));
    assert!(is_cut_off(&client, "10.0.0.2"));
    assert_eq!(lab.hosts().len(), 3);
    Ok(())
}

#[test]
fn a_cut_in_one_direction_leaves_the_other() -> Result {
    let (lab, hap1, hap2, _client) = pair("cut")?;
    assert!(pings(&hap1, "192.168.34.133"));
    // A kernel with a new interface also talks IPv6 at moments of its own choice.
    let theirs = |f: &Frame| !f.outgoing && (f.is_arp() || f.bytes[12..14] == [0x08, 0]);
    let heard = Capture::start(&hap2, "eth0", theirs)?;
    hap1.cut_in()?;
    let heard_back = Capture::start(&hap1, "eth0", theirs)?;
    assert!(is_cut_off(&hap1, "192.168.34.133"));
    assert!(!heard.frames().is_empty(), "out is open");
    assert!(heard_back.frames().is_empty(), "in is cut: {:?}", heard_back.frames());
    hap1.heal()?;
    assert!(pings(&hap1, "192.168.34.133"));

    hap1.cut_out()?;
    let before = heard.frames().len();
    assert!(is_cut_off(&hap1, "192.168.34.133"));
    assert_eq!(heard.frames().len(), before, "out is cut");
    lab.heal()?;
    assert!(pings(&hap1, "192.168.34.133"));
    Ok(())
}

#[test]
fn two_hosts_can_lose_each_other_and_keep_the_rest() -> Result {
    let (_lab, hap1, hap2, client) = pair("between")?;
    hap1.cut_between(&hap2)?;
    assert!(is_cut_off(&hap1, "192.168.34.133"));
    assert!(pings(&client, "192.168.34.132"));
    assert!(pings(&client, "192.168.34.133"));
    hap2.heal()?;
    assert!(pings(&hap1, "192.168.34.133"));
    Ok(())
}

#[test]
fn a_loss_is_about_as_large_as_asked() -> Result {
    let (_lab, hap1, _hap2, client) = pair("loss")?;
    hap1.echo(7)?;
    // A lost ARP request is retried a second later only.
    assert!(pings(&client, "192.168.34.132"));
    hap1.lossy(30)?;
    let probe = Probe::start(&client, "192.168.34.132:7".parse().expect("an address"), MS)?;
    pause(SECOND);
    let seen = probe.timeline();
    let lost = 100 * seen.lost() / seen.asked;
    // 30 % each way, so 51 % of the round trips.
    assert!((41..62).contains(&lost), "{lost} % of {}", seen.asked);
    Ok(())
}

#[test]
fn a_host_without_power_is_silent_and_comes_back_the_same() -> Result {
    let (_lab, hap1, _hap2, client) = pair("power")?;
    let heard = Capture::start(&client, "eth0", |f: &Frame| !f.outgoing)?;
    let mut sleeper = hap1.spawn("sleep", &["sleep", "1000"])?;
    let mut server = haproxy::start(&hap1, haproxy::Mode::Tcp, 9, &[])?;
    let connection = netns::run_in(client.namespace(), || {
        std::net::TcpStream::connect("192.168.34.132:9")
            .map_err(netns_tests::Error::io("connect to hap1"))
    })?;
    hap1.ip("addr add 192.168.34.85/24 dev eth0\n")?;
    assert_eq!(hap1.processes().len(), 2);
    std::fs::write(hap1.run_dir()?.join("left"), "").expect("the run directory is there");

    let at = hap1.power_loss()?;
    assert!(!sleeper.wait(SECOND)?.success());
    assert!(!server.is_running());
    assert!(!hap1.has_power() && hap1.processes().is_empty());
    pause(50 * MS);
    // A multicast report may be on its way when the plug is pulled; a goodbye may not.
    let is_tcp = |f: &Frame| f.bytes.get(12..14) == Some(&[8, 0]) && f.bytes.get(23) == Some(&6);
    let heard = heard.frames().into_iter();
    let said: Vec<Frame> = heard.filter(|f| f.at > at && is_tcp(f)).collect();
    assert!(said.is_empty(), "no FIN or RST leaks: {said:?}");
    drop(connection);

    let mac = hap1.mac();
    hap1.power_on()?;
    assert!(pings(&client, "192.168.34.132"));
    assert!(!hap1.has(VIP.into())?, "a virtual address does not survive");
    assert!(!hap1.run_dir()?.join("left").exists(), "nor does /run");
    let link = hap1.run(&["ip", "-o", "link", "show", "eth0"])?;
    assert!(String::from_utf8_lossy(&link.stdout).contains(&mac));
    Ok(())
}

#[test]
fn a_pulled_plug_is_seen_by_the_host() -> Result {
    let (_lab, hap1, _hap2, client) = pair("carrier")?;
    let no_carrier = || -> Result<bool> {
        let link = hap1.run(&["ip", "-o", "link", "show", "eth0"])?;
        Ok(String::from_utf8_lossy(&link.stdout).contains("NO-CARRIER"))
    };
    hap1.carrier_down()?;
    assert!(no_carrier()?);
    hap1.carrier_up()?;
    assert!(!no_carrier()?);
    assert!(pings(&client, "192.168.34.132"));
    hap1.link_down()?;
    assert!(is_cut_off(&client, "192.168.34.132"));
    hap1.link_up()?;
    assert!(pings(&client, "192.168.34.132"));
    Ok(())
}

#[test]
fn a_frozen_program_does_nothing_until_it_thaws() -> Result {
    let (_lab, hap1, _hap2, _client) = pair("freeze")?;
    let mut process = hap1.spawn("loop", &["sh", "-c", "while :; do echo x; sleep 0.01; done"])?;
    wait_until("output", 2 * SECOND, || Ok(!process.log().is_empty()))?;
    process.freeze()?;
    pause(30 * MS);
    let frozen = process.log().len();
    pause(100 * MS);
    assert_eq!(process.log().len(), frozen);
    process.thaw()?;
    wait_until("more output", 2 * SECOND, || Ok(process.log().len() > frozen))?;
    process.term()?;
    process.wait(SECOND)?;
    assert!(!process.is_running());
    Ok(())
}

#[test]
fn captures_carry_the_kernels_time_and_direction() -> Result {
    let (lab, hap1, _hap2, client) = pair("capture")?;
    let before = Stamp::now();
    let capture = Capture::start(&hap1, "eth0", Frame::any)?;
    assert!(pings(&client, "192.168.34.132"));
    let after = Stamp::now();
    let frames = capture.frames();
    assert!(frames.iter().any(|f| f.outgoing) && frames.iter().any(|f| !f.outgoing));
    assert!(frames.iter().all(|f| f.at > before), "{frames:?}");
    assert!(frames.iter().filter(|f| !f.is_nd()).any(|f| f.at < after), "{frames:?}");

    let verdicts = capture.tshark_verdicts(&lab.dir().join("ping.pcap"), &[])?;
    assert!(verdicts.len() >= frames.len());
    assert!(verdicts.iter().any(|v| v.protocol == "ICMP" && !v.malformed), "{verdicts:?}");
    Ok(())
}

#[test]
fn the_probe_measures_a_cut_of_known_length() -> Result {
    let (_lab, hap1, _hap2, client) = pair("probe")?;
    hap1.echo(7)?;
    for target in ["192.168.34.132:7", "[fd00:34::132]:7"] {
        let probe = Probe::start(&client, target.parse().expect("an address"), MS)?;
        probe.wait_answer(Stamp::now(), SECOND)?;
        let from = hap1.cut()?;
        pause(200 * MS);
        let healed = hap1.heal()?;
        probe.wait_answer(healed, SECOND)?;
        let seen = probe.timeline();
        let gap = seen.outage_after(from);
        let real = healed.since(from);
        assert!(gap.length() + 30 * MS > real && gap.length() < real + 30 * MS, "{gap:?} {real:?}");
        assert_eq!(gap.after.as_deref(), Some("hap1"));
        assert!(seen.asked > 150, "{}", seen.asked);
    }
    Ok(())
}

#[test]
fn two_holders_are_seen_in_the_kernel_and_on_the_wire() -> Result {
    let (_lab, hap1, hap2, client) = pair("two")?;
    let watch = Watch::new();
    watch.follow(&hap1)?;
    watch.follow(&hap2)?;
    let census = Census::start(&client, VIP, 5 * MS)?;
    let (add, del) =
        ("addr add 192.168.34.85/24 dev eth0\n", "addr del 192.168.34.85/24 dev eth0\n");
    hap1.ip(add)?;
    watch.wait_holders(VIP.into(), &["hap1"], SECOND)?;
    pause(30 * MS);
    assert_eq!(census.disputed(), []);
    hap2.ip(add)?;
    pause(50 * MS);
    let at = Stamp::now();
    hap1.ip(del)?;
    let gone = watch.wait_event(VIP.into(), false, at, SECOND)?;
    assert_eq!(gone.host, "hap1");
    watch.wait_holders(VIP.into(), &["hap2"], SECOND)?;
    let two = watch.two_holders(VIP.into());
    assert_eq!(two.len(), 1, "{two:?}");
    assert!(two[0].1.since(two[0].0) > 40 * MS, "{two:?}");
    let disputed = census.disputed();
    assert!(!disputed.is_empty());
    let macs = BTreeSet::from(["020000000001".to_owned(), "020000000002".to_owned()]);
    assert_eq!(disputed[0].macs, macs);
    Ok(())
}

#[test]
fn a_keepalived_pair_takes_over_after_a_power_loss() -> Result {
    let (lab, hap1, hap2, client) = pair("keepalived")?;
    let watch = Watch::new();
    for host in [&hap1, &hap2] {
        host.echo(7)?;
        watch.follow(host)?;
    }
    let adverts = Capture::start(&client, "eth0", Frame::is_vrrp)?;
    let instance = |priority| keepalived::Instance::new(85, priority, &[VIP_NET]);
    let _one = keepalived::start(&hap1, &[instance(200)])?;
    let two = keepalived::start(&hap2, &[instance(150)])?;
    watch.wait_holders(VIP.into(), &["hap1"], 5 * SECOND)?;
    let probe = Probe::start(&client, vip(7), MS)?;
    probe.wait_answer(Stamp::now(), SECOND)?;

    let at = hap1.power_loss()?;
    watch.wait_holders(VIP.into(), &["hap2"], 2 * SECOND)?;
    let answer = probe.wait_answer(at, 2 * SECOND)?;
    assert_eq!(answer.who, "hap2");
    let gap = probe.timeline().outage_after(at);
    assert!(gap.length() > 200 * MS && gap.length() < 600 * MS, "{gap:?}");

    let at = Stamp::now();
    two.term()?;
    let goodbye = |f: &Frame| f.advert().is_some_and(|a| a.priority == 0 && a.vrid == 85);
    adverts.wait_for("a goodbye", at, SECOND, goodbye)?;
    let verdicts = adverts.tshark_verdicts(&lab.dir().join("vrrp.pcap"), &[])?;
    assert!(verdicts.iter().all(|v| v.protocol == "VRRP" && !v.malformed), "{verdicts:?}");
    Ok(())
}

#[test]
fn an_frr_pair_elects() -> Result {
    let (_lab, hap1, hap2, client) = pair("frr")?;
    let instance = |priority| frr::Instance {
        vrid: 85,
        priority,
        version: 3,
        interval: 100 * MS,
        address: VIP.to_string(),
    };
    let mut one = frr::Frr::start(&hap1, &instance(200))?;
    let two = frr::Frr::start(&hap2, &instance(150))?;
    wait_until("hap1 to be Active", 8 * SECOND, || one.is_active())?;
    assert!(pings(&client, &VIP.to_string()));
    one.term()?;
    wait_until("hap2 to be Active", 8 * SECOND, || two.is_active())?;
    assert!(pings(&client, &VIP.to_string()));
    Ok(())
}

#[test]
fn haproxy_answers_through_the_address() -> Result {
    let (lab, hap1, _hap2, client) = pair("haproxy")?;
    let pg1 = lab.host("pg1", &["192.168.34.10/24"])?;
    let pg2 = lab.host("pg2", &["192.168.34.11/24"])?;
    let (_b1, _b2) = (Backend::start(&pg1, 8000)?, Backend::start(&pg2, 8000)?);
    let servers = [
        ("pg1", "192.168.34.10:8000".parse().expect("an address")),
        ("pg2", "192.168.34.11:8000".parse().expect("an address")),
    ];
    let _proxy = haproxy::start(&hap1, haproxy::Mode::Http, 80, &servers)?;
    hap1.ip("addr add 192.168.34.85/24 dev eth0\n")?;
    let probe = HttpProbe::start(&client, vip(80), 5 * MS, 200 * MS)?;
    probe.wait_answer(Stamp::now(), 2 * SECOND)?;
    let at = Stamp::now();
    hap1.ip("addr del 192.168.34.85/24 dev eth0\n")?;
    pause(150 * MS);
    hap1.ip("addr add 192.168.34.85/24 dev eth0\n")?;
    let back = Stamp::now();
    let answer = probe.wait_answer(back, 2 * SECOND)?;
    assert_eq!(answer.who, "hap1");
    let gap = probe.timeline().outage_after(at);
    assert!(gap.length() > 130 * MS && gap.length() < 400 * MS, "{gap:?}");
    assert_eq!(http::get(&client, vip(80), SECOND)?, "hap1");
    let direct =
        http::get(&client, SocketAddr::new(IpAddr::from([192, 168, 34, 11]), 8000), SECOND)?;
    assert_eq!(direct, "pg2");
    Ok(())
}

#[test]
fn forged_adverts_are_believed_by_keepalived_and_noise_is_sent_at_its_rate() -> Result {
    let (_lab, hap1, _hap2, client) = pair("forge")?;
    let watch = Watch::new();
    watch.follow(&hap1)?;
    let _one = keepalived::start(&hap1, &[keepalived::Instance::new(85, 200, &[VIP_NET])])?;
    watch.wait_holders(VIP.into(), &["hap1"], 5 * SECOND)?;
    let injector = Injector::open(&client, "eth0")?;
    let advert = ForgedAdvert::new(Ipv4Addr::new(192, 168, 34, 250), 85, 255, &[VIP]);
    injector.send(&advert.frame())?;
    watch.wait_holders(VIP.into(), &[], SECOND)?;
    let mut dice = Dice::new(1);
    let forger = advert.mac;
    let heard = Capture::start(&hap1, "eth0", move |f: &Frame| f.bytes[6..12] == forger)?;
    let sent = injector.flood(500, 400 * MS, || dice.mutate(&advert.frame()))?;
    assert!((150..=220).contains(&sent), "{sent}");
    pause(100 * MS);
    assert_eq!(heard.frames().len(), sent as usize);
    Ok(())
}

/// What the next test starts in a process of its own; does nothing when asked for otherwise.
#[test]
#[ignore = "a helper of nothing_is_left_behind"]
fn sits_in_a_lab() -> Result {
    if std::env::var_os("SIT_IN_A_LAB").is_none() {
        return Ok(());
    }
    let (lab, hap1, _hap2, _client) = pair("sit")?;
    hap1.echo(7)?;
    let _sleeper = hap1.spawn("sleep", &["sleep", "1000"])?;
    println!("\nsitting {} {:?}", lab.prefix(), lab.dir());
    pause(60 * SECOND);
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result {
    for signal in ["INT", "TERM", "KILL"] {
        let mut child = Command::new(std::env::current_exe().expect("this program exists"))
            .args(["--exact", "sits_in_a_lab", "--ignored", "--nocapture"])
            .env("SIT_IN_A_LAB", "1")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(netns_tests::Error::io("start the helper"))?;
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let line = output.lines().map_while(std::io::Result::ok).find(|l| l.starts_with("sitting"));
        let line = line.expect("the helper says where it sits");
        let mut words = line.split(' ').skip(1);
        let prefix = words.next().expect("the prefix").to_owned();
        let dir = words.next().expect("the directory").trim_matches('"').to_owned();
        let namespace = format!("{prefix}-hap1");
        wait_until("the sleeper", SECOND, || Ok(netns::processes(&namespace).len() == 1))?;
        let inside = netns::processes(&namespace);

        run::stdout(&["kill", &format!("-{signal}"), &child.id().to_string()])?;
        child.wait().map_err(netns_tests::Error::io("wait for the helper"))?;
        wait_until(&format!("the end of {prefix} after SIG{signal}"), 5 * SECOND, || {
            let names = run::stdout(&["ip", "netns", "list"])?;
            Ok(!names.contains(&prefix) && !std::path::Path::new(&dir).exists())
        })?;
        // Nobody may have collected it yet; then it has no command line any more.
        let line = std::fs::read(format!("/proc/{}/cmdline", inside[0])).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&line), "");
    }
    Ok(())
}
