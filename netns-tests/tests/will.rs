//! What operators decide holds over restarts, reboots and partitions, on real kernels, with a lease
//! and in plain VRRP.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::Duration;

use netns_tests::cluster::{events, said, wait_event};
use netns_tests::trio::{GROUP, Kind, Trio, VIP};
use netns_tests::{Result, Stamp, pause, wait_until};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// As long as nodes may take to tell each other what they know, and a session may to be agreed on.
const TOLD: Duration = Duration::from_secs(10);
/// As long as a host could take to come back and take what it must not.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// The commands that would end what is in force, as host number `n` knows it.
fn in_force(trio: &mut Trio, n: usize) -> Result<Vec<String>> {
    let status = trio.vipd(n).status()?;
    let all = status["decisions"].as_array().cloned().unwrap_or_default();
    let ends = |d: &Value| d["ends-with"].as_str().unwrap_or_default().to_owned();
    Ok(all.iter().map(ends).collect())
}

/// Waits until each of `hosts` knows just that.
fn wait_known(trio: &mut Trio, hosts: &[usize], expected: &[&str]) -> Result {
    for n in hosts {
        let what = format!("host {n} knows {expected:?}");
        // A daemon that has only just started does not answer yet.
        wait_until(&what, TOLD, || Ok(in_force(trio, *n)? == expected))?;
    }
    Ok(())
}

fn name(n: usize) -> String {
    format!("hap{}", n + 1)
}

/// Host number `n` does not have the address, and has not taken it since `from`.
fn assert_never_had(trio: &Trio, n: usize, from: Stamp) {
    let had = trio.watch.holders(VIP.into());
    let had: Vec<_> =
        had.into_iter().filter(|(at, who)| *at > from && who.contains(&name(n))).collect();
    assert!(had.is_empty(), "{} had it: {had:?}", name(n));
}

/// Standby moves the address away, and keeps it away over a restart and a reboot.
fn standby_outlives(label: &str, kind: Kind) -> Result {
    let mut trio = Trio::started(label, kind)?;
    let holder = trio.wait_holder(10 * SECOND)?;
    let others = [(holder + 1) % 3, (holder + 2) % 3];
    wait_until("peers are heard", TOLD, || {
        let json = trio.ctl(holder, &["cleanup", "--json"])?;
        Ok(json.contains("\"unheard\":[]"))
    })?;

    let at = Stamp::now();
    let text = trio.ctl(others[0], &["standby", &name(holder), "--reason", "new disk"])?;
    assert_eq!(text.trim(), format!("{} is in standby", name(holder)));
    let next = trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    trio.watch.wait_holders(VIP.into(), &[&name(next)], 5 * SECOND)?;
    println!("{kind:?}: moved away within {:?} of the order", Stamp::now().since(at));
    let ends = format!("vipctl resume {}", name(holder));
    wait_known(&mut trio, &[0, 1, 2], &[&ends])?;
    let text = trio.ctl(others[1], &["status"])?;
    assert!(text.contains("is in standby") && text.contains("\"new disk\""), "{text}");
    let away = Stamp::now();

    // Killed and started again.
    trio.kill(holder);
    trio.start(holder)?;
    wait_known(&mut trio, &[holder], &[&ends])?;
    // Everything in the kernel gone, and nobody there to tell it: it is on the disk.
    for n in others {
        trio.kill(n);
    }
    trio.power_loss(holder)?;
    trio.power_on(holder)?;
    wait_known(&mut trio, &[holder], &[&ends])?;
    pause(LONG_ENOUGH);
    let status = trio.vipd(holder).status()?;
    assert_eq!(status["groups"][0]["role"], "init", "{status:#}");
    assert!(status["groups"][0]["why"].as_str().unwrap().starts_with("in standby"), "{status:#}");
    assert_never_had(&trio, holder, away);
    for n in others {
        trio.start(n)?;
    }
    wait_known(&mut trio, &[0, 1, 2], &[&ends])?;

    trio.ctl(holder, &["resume"])?;
    wait_known(&mut trio, &[0, 1, 2], &[])?;
    trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
    Ok(())
}

#[test]
fn standby_outlives_restarts_and_reboots_with_a_lease() -> Result {
    standby_outlives("will-standby", Kind::Lease)
}

#[test]
fn standby_outlives_restarts_and_reboots_in_plain_vrrp() -> Result {
    standby_outlives("will-standby-vrrp", Kind::Vrrp)
}

/// What is decided on one side of a cut is known on the other when it heals; what was taken back
/// meanwhile does not come back.
fn partitions_heal(label: &str, kind: Kind) -> Result {
    let mut trio = Trio::started(label, kind)?;
    let holder = trio.wait_holder(10 * SECOND)?;
    let (alone, other) = ((holder + 1) % 3, (holder + 2) % 3);
    // An old standby that all know.
    trio.ctl(holder, &["standby", &name(other)])?;
    let old = format!("vipctl resume {}", name(other));
    wait_known(&mut trio, &[0, 1, 2], &[&old])?;

    trio.hosts[alone].cut()?;
    pause(SECOND);
    // On this side it is over, and another one begins: of the node behind the cut.
    trio.ctl(holder, &["resume", &name(other)])?;
    trio.ctl(holder, &["standby", &name(alone)])?;
    let new = format!("vipctl resume {}", name(alone));
    wait_known(&mut trio, &[holder, other], &[&new])?;
    // Behind it nobody knows; and something else is decided there.
    trio.ctl(alone, &["ban", GROUP, &name(other), "--for", "1h", "--yes"])?;
    let ban = format!("vipctl unban {GROUP} {}", name(other));
    assert_eq!(in_force(&mut trio, alone)?, [old.as_str(), &ban]);

    trio.hosts[alone].heal()?;
    wait_known(&mut trio, &[0, 1, 2], &[&new, &ban])?;
    trio.vipd(alone).wait_role(GROUP, "init", 5 * SECOND)?;
    pause(LONG_ENOUGH);
    wait_known(&mut trio, &[0, 1, 2], &[&new, &ban])?;
    let holders = trio.wait_holder(5 * SECOND)?;
    assert_eq!(holders, holder, "the only one that may have it");
    Ok(())
}

#[test]
fn decisions_cross_a_partition_that_heals_with_a_lease() -> Result {
    partitions_heal("will-cut", Kind::Lease)
}

#[test]
fn decisions_cross_a_partition_that_heals_in_plain_vrrp() -> Result {
    partitions_heal("will-cut-vrrp", Kind::Vrrp)
}

/// A ban moves the address away, and ends by itself; who would leave it to nobody is asked.
fn bans_end(label: &str, kind: Kind) -> Result {
    let mut trio = Trio::started(label, kind)?;
    let holder = trio.wait_holder(10 * SECOND)?;
    let next = (holder + 1) % 3;
    trio.ctl(holder, &["ban", GROUP, &name(holder), "--for", "8s"])?;
    let at = Stamp::now();
    trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    trio.vipd(holder).wait_role(GROUP, "init", 5 * SECOND)?;
    wait_known(&mut trio, &[0, 1, 2], &[])?;
    let lasted = Stamp::now().since(at);
    assert!(lasted > 7 * SECOND, "{lasted:?}");
    trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
    let told = events(trio.vipd(next))?;
    assert!(told.iter().any(|e| e.kind == "operator-over"), "{told:?}");

    let holder = trio.wait_holder(5 * SECOND)?;
    for n in [(holder + 1) % 3, (holder + 2) % 3] {
        trio.ctl(n, &["standby"])?;
    }
    let (one, two) = (name((holder + 1) % 3), name((holder + 2) % 3));
    let mut both = [format!("vipctl resume {one}"), format!("vipctl resume {two}")];
    both.sort();
    wait_known(&mut trio, &[holder], &both.each_ref().map(String::as_str))?;
    let refused = trio.vipd(holder).ctl(&["standby"])?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("Nobody else can have"), "{refused:?}");
    trio.ctl(holder, &["standby", "--force"])?;
    wait_until("nobody has it", 5 * SECOND, || Ok(trio.holders()?.is_empty()))?;
    wait_until("that is told", 10 * SECOND, || {
        Ok(trio.vipd(holder).status()?["conditions"].to_string().contains("held-by-nobody"))
    })?;
    trio.ctl(holder, &["resume"])?;
    assert_eq!(trio.wait_holder(5 * SECOND)?, holder);
    Ok(())
}

#[test]
fn a_ban_ends_by_itself_with_a_lease() -> Result {
    bans_end("will-ban", Kind::Lease)
}

#[test]
fn a_ban_ends_by_itself_in_plain_vrrp() -> Result {
    bans_end("will-ban-vrrp", Kind::Vrrp)
}

/// A proxy that failed too often is tried at once on every node. Who hears of it late keeps what
/// failed since.
#[test]
fn a_cleanup_forgets_failures_on_every_node() -> Result {
    let mut trio = Trio::new("will-cleanup", Kind::Lease)?;
    let fifo = trio.lab.dir().join("fifo");
    let config = trio.config()
        + &format!(
            "[group.proxy]\ncommand = [\"/bin/cat\", {fifo:?}]\nuser = \"root\"\nrun = \"always\"\n\
             restarts = 1\n"
        );
    trio.start_all(&config)?;
    let holder = trio.wait_holder(10 * SECOND)?;
    for n in 0..3 {
        wait_until("it failed too often", 10 * SECOND, || {
            let status = trio.vipd(n).status()?;
            Ok(status["groups"][0]["conditions"].to_string().contains("unfit"))
        })?;
    }
    let made = trio.hosts[holder].run(&["mkfifo", "-m", "666", &fifo.to_string_lossy()])?;
    assert!(made.status.success(), "{made:?}");
    trio.ctl(holder, &["cleanup", GROUP])?;
    // By itself it would be tried again after half a minute.
    for n in 0..3 {
        wait_until("it runs", 10 * SECOND, || trio.vipd(n).proxy_runs(GROUP))?;
        let status = trio.vipd(n).status()?;
        assert_eq!(status["groups"][0]["proxy"]["failures"], 0, "{status:#}");
        assert!(!status["groups"][0]["conditions"].to_string().contains("unfit"), "{status:#}");
    }

    let away = (holder + 1) % 3;
    let failures = |trio: &mut Trio| {
        let status = trio.vipd(away).status()?;
        let proxy = &status["groups"][0]["proxy"];
        Ok((proxy["state"] == "running", proxy["failures"].clone()))
    };
    trio.hosts[away].cut()?;
    pause(SECOND);
    trio.ctl(holder, &["cleanup", GROUP, "--reason", "a second one"])?;
    pause(SECOND);
    let pid = trio.vipd(away).status()?["groups"][0]["proxy"]["pid"].to_string();
    assert!(trio.hosts[away].run(&["kill", "-9", &pid])?.status.success());
    wait_until("it failed and runs", 10 * SECOND, || Ok(failures(&mut trio)? == (true, 1.into())))?;
    trio.hosts[away].heal()?;
    wait_event(trio.vipd(away), "operator-says", "a second one", TOLD)?;
    assert_eq!(failures(&mut trio)?, (true, 1.into()));
    Ok(())
}

/// With the hands off nothing moves, and no proxy is started again.
fn hands_are_off(label: &str, kind: Kind) -> Result {
    let mut trio = Trio::new(label, kind)?;
    let config = trio.config()
        + "[group.proxy]\ncommand = [\"/bin/sleep\", \"600\"]\nuser = \"nobody\"\nrun = \"always\"\n";
    trio.start_all(&config)?;
    let holder = trio.wait_holder(10 * SECOND)?;
    let other = (holder + 1) % 3;
    wait_until("the proxy runs", 5 * SECOND, || trio.vipd(holder).proxy_runs(GROUP))?;
    trio.ctl(other, &["maintenance", "on", "--reason", "new switch"])?;
    wait_known(&mut trio, &[0, 1, 2], &["vipctl maintenance off"])?;

    let pid = trio.vipd(holder).status()?["groups"][0]["proxy"]["pid"].to_string();
    trio.hosts[holder].run(&["kill", "-9", &pid])?;
    pause(LONG_ENOUGH);
    let status = trio.vipd(holder).status()?;
    assert_eq!(status["groups"][0]["proxy"]["state"], "stopped", "{status:#}");
    assert_eq!(trio.holders()?, [holder]);
    let text = trio.ctl(holder, &["status"])?;
    assert!(text.contains("hands off every group") && text.contains("new switch"), "{text}");
    let told = events(trio.vipd(holder))?;
    assert!(told.iter().any(|e| e.kind == "proxy-died" && e.text.contains("left as it is")));
    // Standby waits until the hands are on again.
    trio.ctl(other, &["standby", &name(holder)])?;
    pause(SECOND);
    assert_eq!(trio.holders()?, [holder]);

    trio.ctl(other, &["maintenance", "off"])?;
    let next = trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    trio.ctl(other, &["resume", &name(holder)])?;
    wait_until("the proxy runs again", 5 * SECOND, || trio.vipd(holder).proxy_runs(GROUP))?;

    // A dead holder is not replaced.
    trio.ctl(holder, &["maintenance", "on", GROUP])?;
    wait_known(&mut trio, &[0, 1, 2], &[&format!("vipctl maintenance off {GROUP}")])?;
    trio.power_loss(next)?;
    pause(LONG_ENOUGH);
    assert_eq!(trio.holders().unwrap_or_default(), [0_usize; 0]);
    wait_until("that is told", 10 * SECOND, || {
        Ok(trio.vipd(holder).status()?["conditions"].to_string().contains("held-by-nobody"))
    })?;
    trio.ctl(holder, &["maintenance", "off", GROUP])?;
    trio.watch.wait_holders(VIP.into(), &[&name(holder)], 5 * SECOND).or_else(|_| {
        trio.watch.wait_holders(VIP.into(), &[&name(3 - holder - next)], 5 * SECOND)
    })?;
    Ok(())
}

#[test]
fn with_the_hands_off_nothing_moves_with_a_lease() -> Result {
    hands_are_off("will-off", Kind::Lease)
}

#[test]
fn with_the_hands_off_nothing_moves_in_plain_vrrp() -> Result {
    hands_are_off("will-off-vrrp", Kind::Vrrp)
}
