//! The watchdog: a machine that is really reset by it, and one that is not.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::{Duration, Instant};

use netns_tests::qemu::Machine;
use netns_tests::{Result, pause, wait_until};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// As in the file below.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Emulation is slow, and a watchdog counts coarsely.
const SLACK: Duration = Duration::from_secs(1);
const PROXY: &str = "proxy = { command = [\"/bin/sleep\", \"1000\"], stop-timeout = \"200ms\" }\n";

fn file(proxy: &str, watchdog: &str) -> String {
    format!(
        "cluster = {{ name = \"lb\" }}\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.0.2.1\"\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.0.2.2\"\n\
         [[group]]\nname = \"web\"\nvrid = 7\naddresses = [\"192.0.2.100/24\"]\n{proxy}\
         [watchdog]\ndevice = \"/dev/watchdog0\"\ntimeout = \"5s\"\n{watchdog}"
    )
}

/// Starts the daemon with that file, and waits until it holds the address and feeds the watchdog.
fn start(machine: &mut Machine, text: &str) -> Result {
    machine.write("/etc/vipd.toml", text)?;
    again(machine)
}

fn again(machine: &mut Machine) -> Result {
    again_after(machine, "true")
}

/// The same at once after something: a machine that is emulated is slow, and its watchdog is not.
fn again_after(machine: &mut Machine, first: &str) -> Result {
    machine.run(&format!(
        "{first}; vipd --config /etc/vipd.toml --node hap1 --state-dir /state/vipd --gate-dir \
         /sys/fs/bpf/vipd >>/run/log 2>&1 & echo $! >/run/pid"
    ))?;
    let waited = wait_until("an armed watchdog and a holder", 60 * SECOND, || {
        let status = status(machine)?;
        Ok(!status["watchdog"].is_null() && status["groups"][0]["role"] == "active")
    });
    if waited.is_err() {
        println!("{}", machine.try_run("cat /run/log")?.1);
    }
    waited.map(drop)
}

fn status(machine: &mut Machine) -> Result<Value> {
    let (_, text) = machine.try_run("vipctl status --json")?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// Every event that the daemon tells of: its kind and its text.
fn told(machine: &mut Machine) -> Result<Vec<(String, String)>> {
    let text = machine.run("vipctl events --json")?;
    let lines = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let word = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    Ok(lines.map(|v| (word(&v, "kind"), word(&v, "text"))).collect())
}

fn tells(machine: &mut Machine, kind: &str, words: &str) -> Result {
    let all = told(machine)?;
    assert!(all.iter().any(|(k, text)| k == kind && text.contains(words)), "{kind}: {all:?}");
    Ok(())
}

/// Nothing resets the machine for twice the timeout.
fn lives(machine: &mut Machine, why: &str) {
    pause(2 * TIMEOUT);
    let events = machine.events();
    assert!(events.is_empty(), "{why}: {events:?}");
}

/// The watchdog resets the machine; how long after `since`.
fn dies(machine: &mut Machine, since: Instant, what: &str) -> Result<Duration> {
    let events = machine.wait_for("RESET", TIMEOUT + 5 * SECOND)?;
    let struck = events.iter().find(|e| e.name == "WATCHDOG");
    let struck = struck.unwrap_or_else(|| panic!("{what}: {events:?}"));
    let after = struck.at.duration_since(since);
    println!("{what}: reset after {after:?}");
    machine.booted()?;
    Ok(after)
}

/// The proxy stands still where no signal reaches it.
fn freeze_proxy(machine: &mut Machine) -> Result {
    let mut pid = None;
    let waited = wait_until("a proxy", 5 * SECOND, || {
        pid = status(machine)?["groups"][0]["proxy"]["pid"].as_u64();
        Ok(pid.is_some())
    });
    let Some(pid) = pid else { panic!("{waited:?}: {}", machine.run("cat /run/log")?) };
    machine.run("mkdir -p /sys/fs/cgroup/freezer/stuck")?;
    machine.run(&format!("echo {pid} >/sys/fs/cgroup/freezer/stuck/tasks"))?;
    machine.run("echo FROZEN >/sys/fs/cgroup/freezer/stuck/freezer.state")?;
    let read = "cat /sys/fs/cgroup/freezer/stuck/freezer.state";
    wait_until("a frozen proxy", 5 * SECOND, || Ok(machine.run(read)?.trim() == "FROZEN"))?;
    Ok(())
}

#[test]
fn a_host_whose_daemon_stands_still_is_reset() -> Result {
    let mut machine = Machine::boot("still", "")?;
    let text = file("", "reboot = false\n");
    start(&mut machine, &text)?;
    let watchdog = status(&mut machine)?["watchdog"].clone();
    assert_eq!(watchdog["timeout-us"], 5_000_000, "{watchdog}");
    assert_eq!((&watchdog["nowayout"], &watchdog["reset-before"]), (&false.into(), &false.into()));
    tells(&mut machine, "watchdog-armed", "/dev/watchdog0 (i6300ESB timer)")?;
    let since = Instant::now();
    machine.run("kill -STOP $(cat /run/pid)")?;
    let after = dies(&mut machine, since, "stopped by a signal")?;
    assert!(after > TIMEOUT / 2 && after < TIMEOUT + SLACK, "{after:?}");
    start(&mut machine, &text)?;
    tells(&mut machine, "watchdog-reset", "caused the last boot")
}

#[test]
#[ignore = "takes minutes: make test-slow"]
fn a_host_lives_while_it_is_fed_or_needs_no_food() -> Result {
    let mut machine = Machine::boot("fed", "")?;
    start(&mut machine, &file("", "reboot = false\n"))?;
    lives(&mut machine, "fed");

    machine.run("kill $(cat /run/pid); wait $(cat /run/pid)")?;
    lives(&mut machine, "stopped in good order");

    again(&mut machine)?;
    again_after(&mut machine, "kill -9 $(cat /run/pid); wait $(cat /run/pid)")?;
    tells(&mut machine, "watchdog-armed", "as it would have before")?;
    lives(&mut machine, "killed, and started again at once");

    // It stays armed over a restart.
    let leave = "kill -USR2 $(cat /run/pid); wait $(cat /run/pid); \
                 cat /sys/class/watchdog/watchdog0/state >/run/state";
    again_after(&mut machine, leave)?;
    let log = machine.run("cat /run/log")?;
    assert!(log.contains("leaving everything to the next run"), "{log}");
    assert_eq!(machine.run("cat /run/state")?.trim(), "active", "{log}");
    tells(&mut machine, "watchdog-armed", "as it would have before")?;
    lives(&mut machine, "restarted");
    Ok(())
}

#[test]
#[ignore = "takes minutes: make test-slow"]
fn a_host_that_cannot_give_up_is_reset() -> Result {
    let mut machine = Machine::boot("stuck", "")?;
    start(&mut machine, &file(PROXY, "reboot = false\n"))?;
    freeze_proxy(&mut machine)?;
    let since = Instant::now();
    machine.send("kill $(cat /run/pid)")?;
    let after = dies(&mut machine, since, "a proxy that cannot be stopped")?;
    assert!(after < TIMEOUT + 5 * SECOND, "{after:?}");

    // And at once where it may be rebooted; the state directory knows why.
    start(&mut machine, &file(PROXY, ""))?;
    tells(&mut machine, "watchdog-reset", "caused the last boot")?;
    tells(&mut machine, "self-fenced", "sleep cannot be stopped")?;
    freeze_proxy(&mut machine)?;
    machine.events();
    machine.send("kill $(cat /run/pid)")?;
    let events = machine.wait_for("RESET", 5 * SECOND)?;
    assert!(events.iter().all(|e| e.name != "WATCHDOG"), "rebooted first: {events:?}");
    machine.booted()?;
    start(&mut machine, &file(PROXY, ""))?;
    tells(&mut machine, "self-fenced", "sleep cannot be stopped")
}

#[test]
#[ignore = "takes minutes: make test-slow"]
fn a_watchdog_without_a_way_out_is_told() -> Result {
    let mut machine = Machine::boot("nowayout", "nowayout=1")?;
    start(&mut machine, &file("", ""))?;
    assert_eq!(status(&mut machine)?["watchdog"]["nowayout"], true);
    tells(&mut machine, "watchdog-nowayout", "cannot be disarmed")?;
    let since = Instant::now();
    machine.run("kill $(cat /run/pid)")?;
    let after = dies(&mut machine, since, "stopped, without a way out")?;
    assert!(after > TIMEOUT / 2 && after < TIMEOUT + SLACK, "{after:?}");
    Ok(())
}
