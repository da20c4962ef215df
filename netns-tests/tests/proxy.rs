//! The proxy behind the addresses, as a command that the daemon runs itself: a real HAProxy, and
//! programs that behave worse.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_tests::cluster::{Cluster, NODES, wait_event};
use netns_tests::peer::vipd::Vipd;
use netns_tests::peer::{backend::Backend, haproxy};
use netns_tests::{Host, Lab, Result, Stamp, http, pause, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "postgres";
const VIP: &str = "192.168.34.85";
const PORT: u16 = 8080;

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

/// The file for both nodes with `argv` as the proxy and further keys of its table.
fn config(argv: &[&str], keys: &str) -> String {
    format!(
        "{NODES}[[group]]\nname = \"{GROUP}\"\nvrid = 85\naddresses = [\"{VIP}/24\"]\n\
         [group.proxy]\ncommand = {argv:?}\nuser = \"haproxy\"\n{keys}"
    )
}

/// A cluster, a server behind it, and the command of an HAProxy in front of that.
fn with_server(label: &str) -> Result<(Backend, Cluster, [String; 4])> {
    let cluster = Cluster::new(label)?;
    let server = cluster.lab.host("pg1", &["192.168.34.10/24"])?;
    let backend = Backend::start(&server, 8000)?;
    let servers = [("pg1", SocketAddr::from(([192, 168, 34, 10], 8000)))];
    let file = haproxy::write_shared_config(cluster.lab.dir(), PORT, &servers)?;
    Ok((backend, cluster, haproxy::command(&file)))
}

/// Starts both daemons, the preferred one first.
fn start(cluster: &Cluster, config: &str) -> Result<(Vipd, Vipd)> {
    let mut one = Vipd::start(&cluster.hap1, config)?;
    one.wait_role(GROUP, "active", 5 * SECOND)?;
    let mut two = Vipd::start(&cluster.hap2, config)?;
    two.wait_role(GROUP, "backup", 5 * SECOND)?;
    Ok((one, two))
}

/// The main process of the proxy, if it runs.
fn proxy(vipd: &Vipd) -> Result<Option<i32>> {
    let status = vipd.status()?;
    let pid = status["groups"][0]["proxy"]["pid"].as_i64();
    Ok(pid.and_then(|pid| i32::try_from(pid).ok()))
}

/// Waits until a proxy other than `old` runs.
fn wait_proxy(vipd: &Vipd, old: Option<i32>, within: Duration) -> Result<i32> {
    let mut found = None;
    wait_until("a running proxy", within, || {
        found = proxy(vipd)?.filter(|pid| Some(*pid) != old);
        Ok(found.is_some())
    })?;
    Ok(found.expect("it was found"))
}

/// Waits until the client is served at the virtual address, by the proxy of `host`.
fn wait_served(cluster: &Cluster, host: &str, within: Duration) -> Result<Stamp> {
    // A proxy signs with its own address.
    let own = if host == "hap1" { "192.168.34.132" } else { "192.168.34.133" };
    let at = SocketAddr::new(vip(), PORT);
    wait_until(&format!("an answer by {host}"), within, || {
        Ok(http::get(&cluster.client, at, SECOND)? == own)
    })
}

fn slay(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it was running");
}

/// The programs called `name` that run on a host.
fn running(host: &Host, name: &str) -> Vec<i32> {
    let is = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    host.processes().into_iter().filter(is).collect()
}

#[test]
fn a_killed_proxy_is_started_again_and_the_address_stays() -> Result {
    let (_server, cluster, command) = with_server("restart")?;
    let config = config(&command.each_ref().map(String::as_str), "run = \"always\"\n");
    let (one, two) = start(&cluster, &config)?;
    let first = wait_proxy(&one, None, 3 * SECOND)?;
    wait_proxy(&two, None, 3 * SECOND)?;
    wait_served(&cluster, "hap1", 3 * SECOND)?;
    let at = Stamp::now();
    slay(first);
    wait_proxy(&one, Some(first), 3 * SECOND)?;
    let served = wait_served(&cluster, "hap1", 3 * SECOND)?;
    println!("served again {:?} after the kill", served.since(at));
    wait_event(&one, "proxy-died", "haproxy", SECOND)?;
    pause(300 * MS);
    let moved: Vec<_> = cluster.watch.events().into_iter().filter(|e| e.at > at).collect();
    assert!(moved.is_empty(), "{moved:?}");
    assert_eq!(one.role(GROUP)?, "active");
    Ok(())
}

#[test]
fn a_holder_whose_proxy_dies_too_often_gives_way() -> Result {
    let (_server, cluster, command) = with_server("too-often")?;
    let keys = "run = \"always\"\nrestarts = 1\n";
    let (one, mut two) = start(&cluster, &config(&command.each_ref().map(String::as_str), keys))?;
    wait_proxy(&two, None, 3 * SECOND)?;
    let first = wait_proxy(&one, None, 3 * SECOND)?;
    slay(first);
    slay(wait_proxy(&one, Some(first), 3 * SECOND)?);
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    cluster.watch.wait_holders(vip(), &["hap2"], SECOND)?;
    wait_served(&cluster, "hap2", SECOND)?;
    wait_event(&one, "unfit", "haproxy failed 2 times", SECOND)?;
    wait_event(&one, "releasing", "unfit", SECOND)?;
    wait_event(&two, "active", "hap1 (192.168.34.132) gave up", SECOND)?;
    pause(SECOND);
    assert_eq!(cluster.watch.holders_now(vip()), ["hap2".to_owned()].into());
    assert_eq!(cluster.watch.two_holders(vip()), []);
    Ok(())
}

#[test]
fn a_proxy_for_the_holder_only_moves_with_the_address() -> Result {
    let (_server, cluster, command) = with_server("active")?;
    let config = config(&command.each_ref().map(String::as_str), "run = \"active\"\n");
    let (mut one, two) = start(&cluster, &config)?;
    wait_proxy(&one, None, 3 * SECOND)?;
    wait_served(&cluster, "hap1", 3 * SECOND)?;
    assert_eq!((running(&cluster.hap1, "haproxy").len(), proxy(&two)?), (1, None));
    assert!(running(&cluster.hap2, "haproxy").is_empty());

    let at = Stamp::now();
    one.process.term()?;
    wait_proxy(&two, None, 3 * SECOND)?;
    let served = wait_served(&cluster, "hap2", 3 * SECOND)?;
    println!("served by the other host {:?} after the order to stop", served.since(at));
    assert_eq!(one.process.wait(5 * SECOND)?.code(), Some(0));
    assert!(running(&cluster.hap1, "haproxy").is_empty());
    assert_eq!(running(&cluster.hap2, "haproxy").len(), 1);
    Ok(())
}

/// An HAProxy that ends at once.
fn broken(lab: &Lab) -> [String; 4] {
    let file = lab.dir().join("broken.cfg");
    std::fs::write(&file, "frontend vip\n    bnid :8080\n").expect("a file of the lab");
    haproxy::command(&file)
}

#[test]
fn a_host_whose_proxy_never_starts_holds_only_while_nobody_can_serve() -> Result {
    let (_server, cluster, command) = with_server("broken")?;
    let keys = "run = \"always\"\nrestarts = 1\n";
    let good = config(&command.each_ref().map(String::as_str), keys);
    let bad = config(&broken(&cluster.lab).each_ref().map(String::as_str), keys);
    let mut two = Vipd::start(&cluster.hap2, &good)?;
    two.wait_role(GROUP, "active", 5 * SECOND)?;
    let one = Vipd::start(&cluster.hap1, &bad)?;
    wait_event_of(&one, "proxy-failed", "haproxy did not start")?;
    wait_event_of(&one, "unfit", "haproxy failed 2 times")?;
    assert_eq!(one.status()?["groups"][0]["effective-priority"], 1);
    wait_served(&cluster, "hap2", SECOND)?;

    two.process.term()?;
    two.process.wait(5 * SECOND)?;
    wait_until("the address on the broken host", 3 * SECOND, || cluster.hap1.has(vip()))?;
    let at = Stamp::now();
    let _two = Vipd::start(&cluster.hap2, &good)?;
    let served = wait_served(&cluster, "hap2", 15 * SECOND)?;
    println!("a fit host serves {:?} after its start", served.since(at));
    assert_eq!(cluster.watch.holders_now(vip()), ["hap2".to_owned()].into());
    Ok(())
}

/// Events of a daemon that has just been started may not be there to be asked for.
fn wait_event_of(vipd: &Vipd, kind: &str, part: &str) -> Result<Stamp> {
    wait_until("the API", 2 * SECOND, || Ok(vipd.status().is_ok()))?;
    wait_event(vipd, kind, part, 5 * SECOND)
}

#[test]
fn where_no_host_can_serve_one_holds_the_address_all_the_same() -> Result {
    let cluster = Cluster::new("all-broken")?;
    let bad = broken(&cluster.lab);
    let keys = "run = \"always\"\nrestarts = 1\n";
    let config = config(&bad.each_ref().map(String::as_str), keys);
    let one = Vipd::start(&cluster.hap1, &config)?;
    let two = Vipd::start(&cluster.hap2, &config)?;
    for vipd in [&one, &two] {
        wait_event_of(vipd, "unfit", "")?;
    }
    // Each had its turn to find somebody fitter.
    pause(3 * SECOND);
    let mut times = 0;
    for _ in 0..20 {
        times += usize::from(cluster.watch.holders_now(vip()).len() == 1);
        pause(100 * MS);
    }
    assert!(
        times >= 19,
        "{times} of 20 looks found one holder: {:?}",
        cluster.watch.holders(vip())
    );
    Ok(())
}

#[test]
fn a_program_that_ignores_sigterm_is_killed_in_time() -> Result {
    let cluster = Cluster::new("hang")?;
    let stubborn = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"];
    let keys = "run = \"active\"\nstop-timeout = \"700ms\"\n";
    let (mut one, two) = start(&cluster, &config(&stubborn, keys))?;
    let pid = wait_proxy(&one, None, 3 * SECOND)?;
    let at = Stamp::now();
    one.process.term()?;
    let moved = cluster.watch.wait_holders(vip(), &["hap2"], 3 * SECOND)?;
    assert_eq!(one.process.wait(5 * SECOND)?.code(), Some(0));
    let ended = Stamp::now().since(at);
    println!("moved after {:?}, ended after {ended:?}", moved.since(at));
    assert!(ended > 600 * MS && ended < 3 * SECOND, "{ended:?}");
    assert!(moved.since(at) < 600 * MS, "the address does not wait: {:?}", moved.since(at));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(running(&cluster.hap1, "sh").is_empty() && running(&cluster.hap1, "sleep").is_empty());
    assert!(proxy(&two)?.is_some());
    Ok(())
}

#[test]
fn a_killed_daemon_leaves_no_proxy_behind() -> Result {
    let (_server, cluster, command) = with_server("orphan")?;
    let config = config(&command.each_ref().map(String::as_str), "run = \"always\"\n");
    let mut one = Vipd::start(&cluster.hap1, &config)?;
    let first = wait_proxy_of_new(&one)?;
    one.process.kill()?;
    one.process.wait(SECOND)?;
    wait_until(
        "the end of the proxy",
        SECOND,
        || Ok(running(&cluster.hap1, "haproxy").is_empty()),
    )?;
    // Its successor starts one of its own, at once.
    let one = Vipd::start(&cluster.hap1, &config)?;
    assert_ne!(wait_proxy_of_new(&one)?, first);
    assert_eq!(running(&cluster.hap1, "haproxy").len(), 1);
    Ok(())
}

/// The first proxy of a daemon that has just been started.
fn wait_proxy_of_new(vipd: &Vipd) -> Result<i32> {
    wait_until("the API", 2 * SECOND, || Ok(vipd.status().is_ok()))?;
    wait_proxy(vipd, None, 3 * SECOND)
}

/// The state of a process as the kernel tells it, by the names of its fields.
fn process(pid: i32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
}

#[test]
fn the_proxy_may_do_nothing_that_the_daemon_may() -> Result {
    let (_server, cluster, command) = with_server("unprivileged")?;
    let config = config(&command.each_ref().map(String::as_str), "run = \"always\"\n");
    let as_user = Vipd::start(&cluster.hap1, &config)?;
    let as_root = Vipd::start(&cluster.hap2, &config.replace("user = \"haproxy\"\n", ""))?;
    let as_user = wait_proxy_of_new(&as_user)?;
    let as_root = wait_proxy_of_new(&as_root)?;
    for pid in [as_user, as_root] {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(process(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(process(pid, "NoNewPrivs"), "1");
        // Nothing of the daemon's is open in it.
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
        let open: Vec<_> =
            files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        assert!(!open.iter().any(|file| file.ends_with("vipd.lock")), "{open:?}");
    }
    for ids in ["Uid", "Gid", "Groups"] {
        let all = process(as_user, ids);
        assert!(!all.split_whitespace().any(|id| id == "0"), "{ids}: {all}");
    }
    Ok(())
}
