//! The care of the proxy, as every node sees it: a real HAProxy that hangs, crashes in a loop, or
//! does not stop.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use netns_tests::cluster::{conditions, events, wait_event};
use netns_tests::peer::backend::Backend;
use netns_tests::peer::haproxy::{self, Mode};
use netns_tests::trio::{GROUP, Kind, Trio, VIP};
use netns_tests::{Result, Stamp, http, pause, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const PORT: u16 = 8080;
/// As long as a look takes that finds nobody, and the pause before it.
const LOOK: Duration = Duration::from_millis(400);

/// Three hosts with an HAProxy each, looked at through its admin socket.
struct Scene {
    trio: Trio,
    keys: String,
    check: &'static str,
    _server: Backend,
}

impl Scene {
    /// `group` are further keys of the group, `proxy` of its proxy, `check` of the check.
    fn new(label: &str, group: &str, proxy: &str, check: &'static str) -> Result<Self> {
        let trio = Trio::new(label, Kind::Lease)?;
        let server = trio.lab.host("pg1", &["192.168.34.10/24"])?;
        let backend = Backend::start(&server, 8000)?;
        let keys = format!("{group}[group.proxy]\n{proxy}");
        let mut scene = Self { trio, keys, check, _server: backend };
        for n in 0..3 {
            scene.start(n)?;
        }
        scene.trio.wait_holder(10 * SECOND)?;
        Ok(scene)
    }

    /// Starts the daemon on host number `n`.
    fn start(&mut self, n: usize) -> Result {
        let host = &self.trio.hosts[n];
        let servers = [("pg1", SocketAddr::from(([192, 168, 34, 10], 8000)))];
        let file = haproxy::write_config(host, Mode::Http, PORT, &servers)?;
        // Its admin socket is made there.
        fs::set_permissions(host.dir(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut config = format!(
            "{}{}user = \"haproxy\"\ncommand = {:?}\n",
            self.trio.config(),
            self.keys,
            haproxy::command(&file)
        );
        if !self.check.is_empty() {
            config = format!(
                "{config}\n[[check]]\nname = \"admin\"\nhaproxy = \"{}\"\n\
                 interval = \"200ms\"\ntimeout = \"200ms\"\n{}",
                haproxy::socket(host).display(),
                self.check
            );
        }
        self.trio.start_with(n, &config)
    }

    /// The main process of the proxy on host number `n`, if it runs.
    fn proxy(&mut self, n: usize) -> Result<Option<i32>> {
        let status = self.trio.vipd(n).status()?;
        let pid = status["groups"][0]["proxy"]["pid"].as_i64();
        Ok(pid.and_then(|pid| i32::try_from(pid).ok()))
    }

    /// Waits until one other than `old` runs.
    fn wait_proxy(&mut self, n: usize, old: Option<i32>, within: Duration) -> Result<i32> {
        let mut found = None;
        wait_until("a running proxy", within, || {
            // A daemon that has only just started does not answer yet.
            found = self.proxy(n).unwrap_or(None).filter(|pid| Some(*pid) != old);
            Ok(found.is_some())
        })
        .inspect_err(|_| println!("{}", self.trio.process(n).log()))?;
        Ok(found.expect("it was found"))
    }

    /// Waits until the check passes on every host.
    fn wait_well(&mut self) -> Result {
        for n in 0..3 {
            wait_until("a check that passes", 10 * SECOND, || {
                let status = self.trio.vipd(n).status()?;
                Ok(status["groups"][0]["checks"][0]["verdict"] == true)
            })?;
        }
        Ok(())
    }

    /// What host number `n` knows of host number `of`.
    fn standing(&mut self, n: usize, of: usize) -> Result<Value> {
        Ok(self.trio.vipd(n).status()?["groups"][0]["standings"][of].clone())
    }

    /// The same in the words of `vipctl explain`.
    fn words(&mut self, n: usize, of: usize) -> Result<String> {
        Ok(self.standing(n, of)?["words"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until every host knows that the proxy of host number `of` failed so often.
    fn wait_failures(&mut self, of: usize, count: u64) -> Result {
        for n in 0..3 {
            wait_until(&format!("{count} failures, known to host {n}"), 5 * SECOND, || {
                // A daemon that has only just started does not answer yet.
                Ok(self.standing(n, of)?["failures"] == count)
            })?;
        }
        Ok(())
    }

    /// Waits until the client is served at the virtual address, by host number `n`.
    fn wait_served(&self, n: usize) -> Result {
        let at = SocketAddr::new(VIP.into(), PORT);
        let name = format!("hap{}", n + 1);
        wait_until(&format!("an answer by {name}"), 5 * SECOND, || {
            Ok(http::get(&self.trio.client, at, SECOND)? == name)
        })
        .inspect_err(|_| println!("{}", self.trio.process(n).log()))?;
        Ok(())
    }

    fn moves_since(&self, at: Stamp) -> usize {
        let of = |ip: IpAddr| ip == IpAddr::V4(VIP);
        self.trio.watch.events().iter().filter(|e| e.at > at && of(e.ip)).count()
    }
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it runs");
}

/// A hung HAProxy is killed and started in place: the address stays. That is counted, which every
/// node knows; and that it cannot be written down, as the disk is full, is said.
#[test]
fn a_hung_proxy_is_started_anew_in_place() -> Result {
    let mut scene = Scene::new("care-hung", "", "", "restart-proxy = true\n")?;
    let holder = scene.trio.wait_holder(SECOND)?;
    scene.wait_well()?;
    scene.wait_served(holder)?;
    let old = scene.wait_proxy(holder, None, SECOND)?;
    // One that has only just been started has more time.
    pause(4 * LOOK);
    let full = scene.trio.hosts[holder].dir().join("state/failures.new");
    std::os::unix::fs::symlink("/dev/full", full).unwrap();

    let at = Stamp::now();
    signal(old, Signal::SIGSTOP);
    scene.wait_proxy(holder, Some(old), 2 * LOOK + 3 * SECOND)?;
    println!("runs again {:?} after it hung", Stamp::now().since(at));
    scene.wait_served(holder)?;
    println!("serves again {:?} after it hung", Stamp::now().since(at));
    scene.wait_failures(holder, 1)?;
    scene.wait_well()?;
    assert_eq!(scene.moves_since(at), 0);
    assert_eq!(scene.trio.holders()?, [holder]);
    let vipd = scene.trio.vipd(holder);
    wait_event(vipd, "proxy-renewed", "failure 1 of 3", SECOND)?;
    let told = events(vipd)?;
    assert!(!told.iter().any(|e| e.kind == "releasing"), "{told:?}");
    let status = vipd.status()?["conditions"].to_string();
    assert!(status.contains("failures-not-kept"), "{status}");
    println!("{}", scene.trio.ctl((holder + 1) % 3, &["explain", GROUP])?);
    let said = scene.words((holder + 1) % 3, holder)?;
    assert!(said.contains("haproxy failed once, last: check admin fails"), "{said}");
    Ok(())
}

/// With as many failures as the threshold it moves instead, and the others know which check fails.
#[test]
fn a_hung_proxy_at_the_threshold_moves_the_address() -> Result {
    let proxy = "migration-threshold = 1\n";
    let mut scene = Scene::new("care-threshold", "", proxy, "restart-proxy = true\n")?;
    let holder = scene.trio.wait_holder(SECOND)?;
    scene.wait_well()?;
    let old = scene.wait_proxy(holder, None, SECOND)?;
    pause(4 * LOOK);
    let at = Stamp::now();
    signal(old, Signal::SIGSTOP);
    let next = scene.trio.wait_holder_but(Some(holder), 2 * LOOK + 3 * SECOND)?;
    println!("moved {:?} after it hung", Stamp::now().since(at));
    wait_until("others say why", 5 * SECOND, || {
        Ok(scene.words(next, holder)?.contains("check admin fails: HAProxy does not answer"))
    })?;
    println!("{}", scene.trio.ctl(next, &["explain", GROUP])?);
    scene.wait_failures(holder, 1)?;
    // By itself it would be tried again after half a minute.
    let name = format!("hap{}", holder + 1);
    scene.trio.ctl(next, &["cleanup", GROUP, "--node", &name])?;
    scene.wait_proxy(holder, Some(old), 10 * SECOND)?;
    scene.wait_well()?;
    wait_until("the check passes, others say", 5 * SECOND, || {
        Ok(scene.standing(next, holder)?["checks"][0]["verdict"] == true)
    })?;
    assert_eq!(scene.trio.holders()?, [next]);
    Ok(())
}

/// A proxy that crashes in a loop: the address moves at the threshold and does not come back,
/// though the host is the preferred one and its daemon is killed; until an operator says so.
#[test]
fn a_proxy_that_crashes_in_a_loop_costs_the_host_its_preference() -> Result {
    let mut scene = Scene::new("care-loop", "preempt = true\n", "", "")?;
    wait_until("the preferred host", 10 * SECOND, || Ok(scene.trio.holders()? == [0]))?;
    let at = Stamp::now();
    let mut last = None;
    for n in 1..=3 {
        assert_eq!(scene.moves_since(at), 0, "before crash {n}");
        let pid = scene.wait_proxy(0, last, 5 * SECOND)?;
        signal(pid, Signal::SIGKILL);
        last = Some(pid);
    }
    let next = scene.trio.wait_holder_but(Some(0), 5 * SECOND)?;
    scene.wait_served(next)?;
    scene.wait_failures(0, 3)?;
    for n in 0..3 {
        let said = scene.words(n, 0)?;
        assert!(said.contains("haproxy failed 3 times, last: killed by signal 9"), "{n}: {said}");
    }
    let said = scene.trio.ctl(next, &["status"])?;
    println!("{said}");
    assert!(said.contains("3 of 3"), "{said}");

    scene.trio.kill(0);
    scene.start(0)?;
    scene.wait_proxy(0, last, 5 * SECOND)?;
    scene.wait_failures(0, 3)?;
    // Long enough to preempt.
    pause(3 * SECOND);
    assert_eq!(scene.trio.holders()?, [next]);
    assert!(conditions(scene.trio.vipd(0))?.contains(&"failed-often".to_owned()));
    let said = scene.trio.ctl(next, &["explain", GROUP])?;
    println!("{said}");

    scene.trio.ctl(next, &["cleanup", GROUP, "--node", "hap1"])?;
    wait_until("the preferred host again", 5 * SECOND, || Ok(scene.trio.holders()? == [0]))?;
    scene.wait_failures(0, 0)?;
    scene.wait_served(0)
}

/// A proxy that is slow to stop holds nobody up, and is killed when its time is up.
#[test]
fn a_proxy_that_is_slow_to_stop_holds_nobody_up() -> Result {
    let proxy = "run = \"active\"\nstop-timeout = \"1500ms\"\n";
    let mut scene = Scene::new("care-slow", "", proxy, "")?;
    let holder = scene.trio.wait_holder(SECOND)?;
    let pid = scene.wait_proxy(holder, None, 5 * SECOND)?;
    scene.wait_served(holder)?;
    signal(pid, Signal::SIGSTOP);
    let at = Stamp::now();
    scene.trio.ctl(holder, &["standby"])?;
    let next = scene.trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    let moved = Stamp::now().since(at);
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "{moved:?}: not killed yet");
    scene.wait_served(next)?;
    wait_until("the end of the old one", 1500 * MS + 3 * SECOND, || {
        Ok(scene.trio.vipd(holder).status()?["groups"][0]["proxy"]["state"] == "stopped")
    })?;
    println!("moved after {moved:?}, stopped after {:?}", Stamp::now().since(at));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let told = events(scene.trio.vipd(holder))?;
    assert!(!told.iter().any(|e| e.kind == "proxy-stuck"), "{told:?}");
    Ok(())
}
