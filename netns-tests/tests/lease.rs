//! Groups that are held by lease, on real kernels: one host serves or none, whatever happens.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use netns_tests::cluster::{events, said};
use netns_tests::double::Report;
use netns_tests::trio::{GROUP, KEY, Kind, PORT, Trio, VIP};
use netns_tests::{
    Capture, Census, Dice, Double, Error, Injector, Result, Stamp, pause, udp_frame, wait_until,
};

use common::{MS, SECOND, conditions, counter, wait_condition};

/// How often every host is asked.
const EVERY: Duration = MS;
/// A takeover by silence takes a quarter of that; the rest is room for a busy machine.
const TAKEOVER: Duration = Duration::from_secs(2);

/// Three daemons, who holds, and a client that asks all the time and is served by it.
fn started(label: &str, kind: Kind) -> Result<(Trio, usize, Double)> {
    let trio = Trio::started(label, kind)?;
    let (holder, double) = watched(&trio)?;
    Ok((trio, holder, double))
}

fn watched(trio: &Trio) -> Result<(usize, Double)> {
    let double = trio.double(EVERY)?;
    let name = double.wait_single(SECOND / 2, 10 * SECOND)?;
    let holder = trio.hosts.iter().position(|host| host.name() == name).expect("one of them");
    Ok((holder, double))
}

fn others(holder: usize) -> [usize; 2] {
    [(holder + 1) % 3, (holder + 2) % 3]
}

fn has(trio: &Trio, n: usize) -> Result<bool> {
    trio.hosts[n].has(IpAddr::V4(VIP))
}

/// Waits until somebody else than number `old` serves alone, and shows that there was never more
/// than one.
fn taken_over(what: &str, trio: &Trio, double: &Double, old: usize, from: Stamp) -> Result<usize> {
    let new = trio.wait_holder_but(Some(old), 5 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(name, trio.hosts[new].name());
    let report = double.report(from);
    println!("{what}: out for {:.1?}", report.longest_outage());
    assert!(report.longest_outage() < TAKEOVER, "{what}: {:?}", report.longest_outage());
    one_at_a_time(&report);
    Ok(new)
}

fn one_at_a_time(report: &Report) {
    assert!(report.asked() > 100, "the client asked: {}", report.asked());
    assert_eq!(report.overlaps(), []);
}

/// Number `holder` served all that was asked since `from`.
fn undisturbed(what: &str, trio: &Trio, double: &Double, holder: usize, from: Stamp) {
    let report = double.report(from);
    let lost = report.lost_before(Stamp::now().before(100 * MS));
    println!("{what}: {lost} of {} lost", report.asked());
    one_at_a_time(&report);
    assert_eq!(report.hosts(), [trio.hosts[holder].name().to_owned()].into(), "{what}");
    assert_eq!(lost, 0, "{what}: {:?}", report.outages(Duration::ZERO));
}

fn tenure(trio: &mut Trio, n: usize) -> Result<u64> {
    let status = trio.vipd(n).status()?;
    let tenure = status["groups"][0]["lease"]["tenure"].as_u64();
    tenure.ok_or_else(|| Error::Answer { what: "the tenure".into(), text: status.to_string() })
}

/// Starts the daemons with a file that `edit` made of the usual one.
fn start_with(trio: &mut Trio, edit: impl Fn(usize, String) -> String) -> Result {
    (0..3).try_for_each(|n| {
        let config = edit(n, trio.config());
        trio.start_with(n, &config)
    })
}

// ---- a holder that dies ----

#[test]
fn a_holder_without_power_is_replaced_and_returns_as_backup() -> Result {
    let (mut trio, holder, double) = started("power", Kind::Lease)?;
    let from = Stamp::now();
    trio.power_loss(holder)?;
    let new = taken_over("power loss", &trio, &double, holder, from)?;
    assert_eq!(trio.holders()?, [new]);
    trio.power_on(holder)?;
    trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
    pause(SECOND);
    assert_eq!(trio.holders()?, [new], "nobody takes what is held");
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn a_killed_holder_stops_serving_by_itself_and_its_address_is_removed_later() -> Result {
    let (mut trio, holder, double) = started("kill-9", Kind::Lease)?;
    let from = Stamp::now();
    trio.kill(holder);
    let new = taken_over("kill -9", &trio, &double, holder, from)?;
    assert!(has(&trio, holder)?, "nobody removed it: the kernel alone keeps it from serving");
    pause(SECOND);
    let quiet = double.report(Stamp::now().before(SECOND));
    assert_eq!(quiet.hosts(), [trio.hosts[new].name().to_owned()].into());
    trio.start(holder)?;
    wait_until("the old address removed", 5 * SECOND, || Ok(!has(&trio, holder)?))?;
    trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
    assert_eq!(trio.holders()?, [new]);
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn a_killed_holder_that_is_started_at_once_loses_nothing() -> Result {
    let mut trio = Trio::new("restart", Kind::Lease)?;
    // Long enough for a start on a machine that does other things, too.
    let long = |file: &str| file.replace("[cluster]\n", "[cluster]\nlease = \"1s\"\n");
    start_with(&mut trio, |_, file| long(&file))?;
    trio.wait_holder(10 * SECOND)?;
    let (holder, double) = watched(&trio)?;
    let before = tenure(&mut trio, holder)?;
    let file = long(&trio.config());
    let from = Stamp::now();
    for round in 0..5_u32 {
        trio.kill(holder);
        pause(round * 20 * MS);
        trio.start_with(holder, &file)?;
        trio.vipd(holder).wait_role(GROUP, "active", 5 * SECOND)?;
        // Longer than what the predecessor left it.
        pause(1200 * MS);
    }
    undisturbed("kill -9 and start, five times", &trio, &double, holder, from);
    assert_eq!(tenure(&mut trio, holder)?, before, "it is the same tenure");
    assert_eq!(trio.holders()?, [holder]);
    Ok(())
}

#[test]
fn a_killed_holder_with_the_usual_lease_is_its_own_successor() -> Result {
    let (mut trio, mut holder, double) = started("restart-usual", Kind::Lease)?;
    let from = Stamp::now();
    let mut same = 0;
    for _ in 0..5 {
        let before = tenure(&mut trio, holder)?;
        let at = Stamp::now();
        trio.kill(holder);
        trio.start(holder)?;
        pause(SECOND);
        let report = double.report(at);
        let lost = report.lost_before(Stamp::now().before(100 * MS));
        let now = trio.wait_holder(5 * SECOND)?;
        let own = now == holder && tenure(&mut trio, holder)? == before;
        println!("kill -9 and start: {lost} of {} lost, same tenure: {own}", report.asked());
        same += u32::from(own && lost == 0);
        holder = now;
    }
    one_at_a_time(&double.report(from));
    // A machine that is busy with other things may be too late now and then.
    assert!(same > 0, "a start takes less than what is left of the lease");
    Ok(())
}

// ---- a holder that stands still ----

#[test]
fn a_paused_holder_comes_back_as_backup() -> Result {
    let (mut trio, holder, double) = started("pause", Kind::Lease)?;
    let from = Stamp::now();
    trio.process(holder).freeze()?;
    let new = taken_over("SIGSTOP", &trio, &double, holder, from)?;
    pause(SECOND);
    trio.process(holder).thaw()?;
    trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
    pause(SECOND);
    assert_eq!(trio.holders()?, [new]);
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn a_paused_backup_disturbs_nobody() -> Result {
    let (trio, holder, double) = started("pause-backup", Kind::Lease)?;
    let from = Stamp::now();
    let [backup, _] = others(holder);
    for time in [SECOND, 300 * MS, 200 * MS] {
        trio.process(backup).freeze()?;
        pause(time);
        trio.process(backup).thaw()?;
        pause(500 * MS);
    }
    undisturbed("SIGSTOP of a backup", &trio, &double, holder, from);
    Ok(())
}

// ---- a network that is cut ----

#[test]
fn a_holder_without_a_majority_stops_and_both_sides_say_why() -> Result {
    let (mut trio, holder, double) = started("partition", Kind::Lease)?;
    let from = Stamp::now();
    let silent = trio.hosts[holder].name().to_owned();
    for n in others(holder) {
        trio.hosts[holder].cut_between(&trio.hosts[n])?;
    }
    let new = taken_over("partition", &trio, &double, holder, from)?;
    wait_condition(trio.vipd(holder), "no-majority", 2 * SECOND)?;
    wait_until("the minority without the address", 2 * SECOND, || Ok(!has(&trio, holder)?))?;
    assert!(conditions(trio.vipd(holder))?.iter().any(|c| c == "voter-silent"));
    wait_condition(trio.vipd(new), "voter-silent", 2 * SECOND)?;
    assert!(!conditions(trio.vipd(new))?.iter().any(|c| c == "no-majority"));

    let minority = said(&trio.vipd(holder).ctl(&["status"])?);
    let majority = said(&trio.vipd(new).ctl(&["status"])?);
    println!("--- the minority\n{minority}\n--- the majority\n{majority}");
    assert!(minority.contains("1 of 3 voters are heard, 2 must be"), "{minority}");
    assert!(majority.contains(&format!("no word from {silent}")), "{majority}");
    let status = trio.vipd(new).status()?;
    let lease = &status["groups"][0]["lease"];
    assert_eq!(lease["holder"], trio.hosts[new].name(), "{lease:#}");
    assert_eq!(lease["granted-by"].as_array().map(Vec::len), Some(2), "{lease:#}");

    // And since when: the last word of the other two, not the start of the daemon.
    let status = trio.vipd(holder).status()?;
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let since = |name| all.iter().filter(move |c| c["name"] == name).map(|c| c["since"].as_u64());
    let last_word = since("voter-silent").max().flatten();
    assert!(last_word > status["started"].as_u64(), "{status:#}");
    assert_eq!(since("no-majority").next().flatten(), last_word, "{status:#}");

    trio.lab.heal()?;
    trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
    pause(SECOND);
    assert_eq!(conditions(trio.vipd(holder))?, [] as [String; 0]);
    assert_eq!(trio.holders()?, [new]);
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn a_holder_that_is_not_heard_or_does_not_hear_is_replaced() -> Result {
    for (what, outward) in [("deaf", false), ("dumb", true)] {
        let (mut trio, holder, double) = started(what, Kind::Lease)?;
        let from = Stamp::now();
        for n in others(holder) {
            let (holder, other) = (&trio.hosts[holder], &trio.hosts[n]);
            if outward {
                holder.cut_to(other)?
            } else {
                other.cut_to(holder)?
            };
        }
        let new = taken_over(what, &trio, &double, holder, from)?;
        trio.lab.heal()?;
        trio.vipd(holder).wait_role(GROUP, "backup", 5 * SECOND)?;
        pause(SECOND);
        assert_eq!(trio.holders()?, [new]);
        one_at_a_time(&double.report(from));
    }
    Ok(())
}

#[test]
fn a_majority_goes_on_without_the_third() -> Result {
    let (mut trio, holder, double) = started("third", Kind::Lease)?;
    let from = Stamp::now();
    let [third, other] = others(holder);
    trio.hosts[third].cut()?;
    wait_condition(trio.vipd(holder), "voter-silent", 2 * SECOND)?;
    pause(SECOND);
    undisturbed("the third is cut", &trio, &double, holder, from);
    trio.hosts[third].heal()?;
    pause(SECOND);
    undisturbed("and heard again", &trio, &double, holder, from);
    // With two of them cut from each other and from the third, nobody has a majority.
    trio.hosts[third].cut()?;
    trio.hosts[other].cut()?;
    wait_until("nobody with the address", 3 * SECOND, || Ok(trio.holders()?.is_empty()))?;
    let alone = Stamp::now();
    pause(SECOND);
    assert_eq!(double.report(alone).served(), []);
    trio.lab.heal()?;
    double.wait_single(SECOND / 2, 5 * SECOND)?;
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn one_of_two_paths_is_enough() -> Result {
    let (mut trio, holder, double) = started("paths", Kind::TwoPaths)?;
    let from = Stamp::now();
    trio.hosts[holder].ip("link set eth1 down\n")?;
    pause(2 * SECOND);
    undisturbed("the second path is down", &trio, &double, holder, from);
    trio.hosts[holder].ip("link set eth1 up\n")?;
    pause(SECOND);
    let filter = format!(
        "add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; \
         add rule inet lab in iifname eth0 udp dport {PORT} drop"
    );
    let filtered = trio.hosts[holder].run(&["nft", &filter])?;
    assert!(filtered.status.success(), "{filtered:?}");
    pause(2 * SECOND);
    undisturbed("the first path is deaf", &trio, &double, holder, from);
    // And without both of them, the right to hold is gone.
    trio.hosts[holder].ip("link set eth1 down\n")?;
    taken_over("no path", &trio, &double, holder, from)?;
    wait_condition(trio.vipd(holder), "no-majority", 2 * SECOND)?;
    Ok(())
}

// ---- files that differ ----

#[test]
fn different_files_make_no_majority() -> Result {
    let mut trio = Trio::new("differ", Kind::Lease)?;
    let address = |n: usize, file: String| {
        file.replace(&format!("\"{VIP}/24\""), &format!("\"{VIP}/24\", \"192.168.34.9{n}/24\""))
    };
    start_with(&mut trio, address)?;
    let double = trio.double(EVERY)?;
    let from = Stamp::now();
    for n in 0..3 {
        wait_condition(trio.vipd(n), "configuration-differs", 5 * SECOND)?;
        let text = said(&trio.vipd(n).ctl(&["status"])?);
        for other in others(n) {
            assert!(text.contains(trio.hosts[other].name()), "{text}");
        }
    }
    pause(2 * SECOND);
    assert_eq!(double.report(from).served(), []);
    assert_eq!(trio.holders()?, [] as [usize; 0]);

    // Two alike would be a majority, but nobody knows what the third agrees to.
    let same = address(0, trio.config());
    trio.kill(1);
    trio.start_with(1, &same)?;
    wait_condition(trio.vipd(0), "configuration-differs", 5 * SECOND)?;
    pause(2 * SECOND);
    assert_eq!(trio.holders()?, [] as [usize; 0]);
    println!("{}", said(&trio.vipd(0).ctl(&["status"])?));

    trio.kill(2);
    trio.start_with(2, &same)?;
    trio.wait_holder(5 * SECOND)?;
    double.wait_single(SECOND / 2, 5 * SECOND)?;
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn a_voter_with_another_key_is_named_by_the_others_and_names_them() -> Result {
    let (mut trio, holder, double) = started("key", Kind::Lease)?;
    let [stranger, other] = others(holder);
    let from = Stamp::now();
    let secret = trio.lab.dir().join("another");
    std::fs::write(&secret, KEY.replace("00", "ff"))
        .and_then(|()| std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)))
        .expect("a file");
    let theirs = trio.lab.dir().join("secret").display().to_string();
    let config = trio.config().replace(&theirs, &secret.display().to_string());
    trio.kill(stranger);
    trio.start_with(stranger, &config)?;
    for (n, named) in [(holder, stranger), (other, stranger), (stranger, holder)] {
        wait_condition(trio.vipd(n), "voter-refused", 15 * SECOND)?;
        let text = said(&trio.vipd(n).ctl(&["status"])?);
        let named = format!("what comes from {} cannot be opened", trio.hosts[named].name());
        assert!(text.contains(&named), "{text}");
    }
    assert_eq!(trio.holders()?, [holder], "the other two go on");

    // With the right key it is one of them again.
    trio.kill(stranger);
    trio.start(stranger)?;
    wait_until("nobody is refused", 15 * SECOND, || {
        let mut refused = false;
        for n in 0..3 {
            refused |= conditions(trio.vipd(n))?.iter().any(|c| c == "voter-refused");
        }
        Ok(!refused)
    })?;
    one_at_a_time(&double.report(from));
    Ok(())
}

// ---- datagrams that nobody honest sends ----

#[test]
fn forged_datagrams_between_voters_are_counted_and_change_nothing() -> Result {
    let (mut trio, holder, double) = started("forged", Kind::Lease)?;
    let [backup, _] = others(holder);
    let voters = |frame: &netns_tests::Frame| frame.bytes.get(36..38) == Some(&PORT.to_be_bytes());
    let heard = Capture::start(&trio.hosts[holder], "eth0", voters)?;
    let enough = || Ok(heard.frames().iter().filter(|f| !f.outgoing).count() > 100);
    wait_until("datagrams between voters", 20 * SECOND, enough)?;
    let real: Vec<Vec<u8>> = heard
        .frames()
        .into_iter()
        .filter(|f| !f.outgoing)
        .map(|f| f.bytes[42..].to_vec())
        .collect();
    let before = tenure(&mut trio, holder)?;
    let had = trio.vipd(holder).status()?;
    let from = Stamp::now();

    let injector = Injector::open(&trio.client, "eth0")?;
    let seed = Stamp::now().nanos();
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let to = trio.hosts[holder].hardware()?;
    let number = |n: usize| u8::try_from(132 + n).unwrap_or_default();
    let target = ([192, 168, 34, number(holder)].into(), PORT);
    let peer = ([192, 168, 34, number(backup)].into(), PORT);
    let stranger = ([192, 168, 34, 77].into(), PORT);
    let sent = injector.flood(2000, 4 * SECOND, || {
        let known = &real[dice.below(real.len())];
        let (source, payload) = match dice.below(5) {
            0 => (stranger, known.clone()),
            1 => (peer, known.clone()),
            2 => (peer, {
                let length = dice.below(1400);
                dice.bytes(length)
            }),
            _ => (peer, dice.mutate(&[&[0; 14], &known[..]].concat())[14..].to_vec()),
        };
        udp_frame(to, source, target, &payload)
    })?;
    pause(300 * MS);
    undisturbed("forged datagrams", &trio, &double, holder, from);
    assert_eq!(tenure(&mut trio, holder)?, before);
    let now = trio.vipd(holder).status()?;
    let rise = |name: &str| counter(&now, name) - counter(&had, name);
    let names = [
        "voters-stranger",
        "voters-not-ours",
        "voters-bad-tag",
        "voters-duplicate",
        "voters-replay",
    ];
    for name in names {
        println!("{name}: {}", rise(name));
    }
    println!("{sent} sent; {}", now["dropped"]);
    for name in ["voters-stranger", "voters-not-ours", "voters-bad-tag"] {
        assert!(rise(name) > 0, "{name}: {}", now["dropped"]);
    }
    assert!(rise("voters-duplicate") + rise("voters-replay") > 0, "{}", now["dropped"]);
    let told = events(trio.vipd(holder))?;
    assert_eq!(told.iter().filter(|e| e.kind == "active").count(), 1, "{told:?}");
    assert_eq!(conditions(trio.vipd(holder))?, [] as [String; 0]);
    Ok(())
}

// ---- a gate that others meddle with ----

#[test]
fn an_interface_that_comes_while_the_daemon_is_dead_does_not_answer() -> Result {
    let (mut trio, holder, double) = started("new-nic", Kind::Lease)?;
    let from = Stamp::now();
    trio.kill(holder);
    taken_over("kill -9", &trio, &double, holder, from)?;
    let host = &trio.hosts[holder];
    assert!(has(&trio, holder)?);
    host.plug("eth7", "br0", &[])?;
    let mac = host.mac().replace(':', "");
    let new = format!("{}01{}", &mac[..8], &mac[10..]);
    let own = match host.addresses()?.into_iter().find(|ip| *ip != IpAddr::V4(VIP)) {
        Some(IpAddr::V4(own)) => own,
        other => panic!("{other:?}"),
    };
    // It does answer for what is not virtual: an address is the host's, not the interface's.
    let control = Census::start(&trio.client, own, 20 * MS)?;
    let asked = Census::start(&trio.client, VIP, 20 * MS)?;
    wait_until("the new interface answers for the host's own address", 5 * SECOND, || {
        Ok(control.rounds().iter().any(|round| round.macs.contains(&new)))
    })?;
    pause(SECOND);
    let rounds = asked.rounds();
    let told = format!("{:?}", rounds.iter().map(|r| &r.macs).collect::<Vec<_>>());
    assert!(rounds.iter().any(|r| r.macs.len() == 1), "{told}");
    assert!(rounds.iter().all(|r| !r.macs.contains(&new) && !r.macs.contains(&mac)), "{told}");
    one_at_a_time(&double.report(from));
    Ok(())
}

#[test]
fn queueing_disciplines_that_come_and_go_change_nothing() -> Result {
    let (mut trio, holder, double) = started("clsact", Kind::Lease)?;
    let before = tenure(&mut trio, holder)?;
    let from = Stamp::now();
    let meddle = |trio: &Trio, n: usize| -> Result {
        for what in ["add", "del", "add", "del"] {
            let done = trio.hosts[n].run(&["tc", "qdisc", what, "dev", "eth0", "clsact"])?;
            assert!(done.status.success() || what == "add", "{what}: {done:?}");
            pause(100 * MS);
        }
        Ok(())
    };
    for n in 0..3 {
        meddle(&trio, n)?;
    }
    // The kernel itself sends nothing for some milliseconds while it changes the queues of an
    // interface, so some answers are lost; but not by the holder's doing.
    let report = double.report(from);
    println!("clsact while open: out for {:.1?}", report.longest_outage());
    one_at_a_time(&report);
    assert_eq!(report.hosts(), [trio.hosts[holder].name().to_owned()].into());
    assert!(report.longest_outage() < 100 * MS, "{:?}", report.longest_outage());
    assert_eq!(tenure(&mut trio, holder)?, before, "it is the same tenure");
    trio.kill(holder);
    let new = taken_over("kill -9", &trio, &double, holder, from)?;
    let shut = Stamp::now();
    meddle(&trio, holder)?;
    pause(500 * MS);
    undisturbed("clsact while shut", &trio, &double, new, shut);
    Ok(())
}
