//! Blind spots around the proxy: its host's disk, the database behind it, the manager itself, with
//! keepalived and with the daemon. `docs/blind-spots.md` is the table.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netns_tests::freezer::StuckDisk;
use netns_tests::front::{DATABASE, Front, PORT, Tier, explain, says};
use netns_tests::peer::haproxy;
use netns_tests::peer::keepalived::{self, Instance};
use netns_tests::trio::{GROUP, Kind, Trio, VIP};
use netns_tests::{Error, Host, Lab, Proc, Result, Stamp, Watch, pause, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// Far more than a script of keepalived's needs to fail: twice each second.
const WATCHED: Duration = Duration::from_secs(6);

/// Between two looks, how long one may take, and how many in a row must be bad.
const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(200);
const FALL: u32 = 2;

/// The database itself answers.
fn database(_: &Host) -> String {
    format!(
        "[[check]]\nname = \"database\"\npostgresql = \"{DATABASE}:5432\"\n\
         interval = \"{INTERVAL:?}\"\ntimeout = \"{TIMEOUT:?}\"\nfall = {FALL}\n"
    )
}

/// Blind spots 1 and 2, before: HAProxy has nobody to pass clients on to, and is there.
#[test]
fn a_load_balancer_without_a_database_keeps_the_address_with_keepalived() -> Result {
    let mut front = Front::new("cut-keepalived", Kind::Keepalived, Tier::Plain)?;
    let holder = front.start_keepalived()?;
    assert!(front.serves()?);
    let moves = front.moves();
    front.trio.hosts[holder].cut_between(&front.db)?;
    pause(WATCHED);
    assert_eq!((front.moves(), front.trio.holders()?), (moves, vec![holder]));
    assert!(!front.serves()?, "and nobody is served");
    println!("keepalived: {WATCHED:?} without a database: not moved, nobody served");
    Ok(())
}

/// The same with a check that asks the database: moved within the fall time of the check, and
/// 50 ms.
#[test]
fn a_load_balancer_without_a_database_is_left_within_the_fall_time() -> Result {
    let mut front = Front::new("cut", Kind::Lease, Tier::Plain)?;
    let mut holder = front.start(database)?;
    // Jitter and the common beat, and a machine that is busy with other things.
    let pauses = INTERVAL + INTERVAL / 5 * (FALL - 1);
    let fall = pauses * 113 / 100 + TIMEOUT * FALL;
    let room = 250 * MS;
    for turn in 1..=3 {
        pause(turn * INTERVAL / 4);
        let at = Stamp::now();
        front.trio.hosts[holder].cut_between(&front.db)?;
        let (new, took) = front.moved(holder, at, 5 * SECOND)?;
        let failed = told(&mut front.trio, holder, "unfit")?;
        let moved = address(&front.trio, new, at)?;
        println!(
            "moved {took:.2?} after the cut, of a fall time of {fall:?}; {:.1?} after the check failed",
            moved.since(failed)
        );
        assert!(took < fall + 50 * MS + room, "{took:?}");
        assert!(moved.since(failed) < 50 * MS + room, "{:?}", moved.since(failed));
        says(&front.explain(holder)?, &["cannot serve well", "check database fails", DATABASE]);
        assert!(front.serves()?);
        front.trio.hosts[holder].heal()?;
        front.wait_verdict(holder, true)?;
        pause(SECOND);
        holder = new;
    }
    Ok(())
}

/// When host number `n` last told something of `kind`.
fn told(trio: &mut Trio, n: usize, kind: &str) -> Result<Stamp> {
    let said = trio.ctl(n, &["events", "--json", "--limit", "4096"])?;
    let events = said.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let of_kind = events.rev().find(|e| e["kind"] == kind);
    let missing = || Error::Answer { what: format!("an event {kind}"), text: said.clone() };
    let at = of_kind.and_then(|e| e["at"].as_u64()).ok_or_else(missing)?;
    Ok(Stamp::of_boot_clock(at))
}

/// When host number `n` got the address after `from`.
fn address(trio: &Trio, n: usize, from: Stamp) -> Result<Stamp> {
    let name = trio.hosts[n].name();
    let event = trio.watch.wait_event(VIP.into(), true, from, SECOND)?;
    assert_eq!(event.host, name);
    Ok(event.at)
}

/// A client is let in through HAProxy.
fn handshake(_: &Host) -> String {
    format!(
        "[[check]]\nname = \"writes\"\npostgresql = \"127.0.0.1:{PORT}\"\n\
         interval = \"500ms\"\ntimeout = \"400ms\"\n"
    )
}

/// Blind spot 15, before: HAProxy asks Patroni, which is well; the pooler in front of the database
/// is dead.
#[test]
fn a_dead_pooler_is_not_seen_by_haproxy_nor_keepalived() -> Result {
    let mut front = Front::new("pooler-keepalived", Kind::Keepalived, Tier::Pooled)?;
    let holder = front.start_keepalived()?;
    wait_until("a client that is served", 20 * SECOND, || front.serves())?;
    let moves = front.moves();
    front.database[1].kill_tree()?;
    pause(WATCHED);
    assert_eq!((front.moves(), front.trio.holders()?), (moves, vec![holder]));
    assert!(!front.serves()?, "and nobody is served");
    let socket = haproxy::socket(&front.trio.hosts[holder]);
    let state = stat(&socket).map_err(Error::io("ask HAProxy"))?;
    println!("keepalived: {WATCHED:?} after the pooler died: not moved, HAProxy says {state}");
    assert_eq!(state, "UP");
    Ok(())
}

/// What HAProxy says of its only server.
fn stat(socket: &Path) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.write_all(b"show stat production 4 -1\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find(|line| line.starts_with("production,pg,")).unwrap_or_default();
    Ok(line.split(',').nth(17).unwrap_or_default().to_owned())
}

/// The same with a check that asks for a client's place: every host says what is wrong, and the
/// address stays, as nobody is better.
#[test]
fn a_dead_pooler_is_named_on_every_host_and_moves_nothing() -> Result {
    let mut front = Front::new("pooler", Kind::Lease, Tier::Pooled)?;
    let holder = front.start(handshake)?;
    let moves = front.moves();
    let at = Stamp::now();
    front.database[1].kill_tree()?;
    (0..3).try_for_each(|n| front.wait_verdict(n, false))?;
    println!("named on every host {:.1?} after the pooler died", Stamp::now().since(at));
    pause(2 * SECOND);
    assert_eq!((front.moves(), front.trio.holders()?), (moves, vec![holder]));
    // HAProxy tries the pooler for longer than the check waits.
    let words = "127.0.0.1:5000: it accepted the connection and does not answer";
    for n in 0..3 {
        says(&front.explain(n)?, &["check writes fails", words]);
    }
    says(
        &front.explain(holder)?,
        &["holds it, though it cannot serve well: nobody better is known"],
    );
    Ok(())
}

/// A script that writes to `disk`, which says in `runs` that it was started.
fn writes_to(disk: &StuckDisk, dir: &Path) -> Result<PathBuf> {
    let script = dir.join("look");
    let text = format!(
        "#!/bin/sh\necho $$ >>{}\nexec touch {}/file\n",
        dir.join("runs").display(),
        disk.path().display()
    );
    let made = fs::write(&script, text)
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)));
    made.map_err(Error::io("write a script"))?;
    Ok(script)
}

/// Those of the runs that still go on, and their states.
fn running(dir: &Path) -> Vec<(i32, char)> {
    let runs = fs::read_to_string(dir.join("runs")).unwrap_or_default();
    let state = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, stat.rsplit_once(") ")?.1.chars().next()?))
    };
    runs.lines().filter_map(|pid| state(pid.parse().ok()?)).filter(|(_, s)| *s != 'Z').collect()
}

/// A script on a host whose disk does not answer: it sleeps where no signal reaches it. The check
/// fails and says so, no further script is started, and all is well when the disk is back.
#[test]
fn a_script_that_hangs_on_a_disk_is_one_and_is_named() -> Result {
    let mut trio = Trio::new("stuck-disk", Kind::Lease)?;
    let dir = trio.lab.dir().to_path_buf();
    let disk = StuckDisk::make(&dir)?;
    let script = writes_to(&disk, &dir)?;
    for n in 0..3 {
        // On the others it is another one, which works.
        let run = if n == 0 { script.display().to_string() } else { "/bin/true".to_owned() };
        let check = format!(
            "\n[[check]]\nname = \"disk\"\nrun = [\"{run}\"]\nuser = \"root\"\n\
             interval = \"200ms\"\ntimeout = \"500ms\"\nfall = 1\n"
        );
        trio.start_with(n, &format!("{}{check}", trio.config()))?;
    }
    if trio.wait_holder(10 * SECOND)? != 0 {
        trio.ctl(0, &["move", GROUP, "hap1"])?;
        wait_until("the address on hap1", 5 * SECOND, || Ok(trio.holders()? == [0]))?;
    }
    let passes = |trio: &mut Trio| -> Result<bool> {
        Ok(trio.vipd(0).status()?["groups"][0]["checks"][0]["verdict"] == true)
    };
    wait_until("a check that passes", 5 * SECOND, || passes(&mut trio))?;
    pause(SECOND);

    let at = Stamp::now();
    disk.freeze()?;
    let new = trio.wait_holder_but(Some(0), 5 * SECOND)?;
    println!("moved {:.2?} after the disk hung", Stamp::now().since(at));
    // Fifteen intervals.
    pause(3 * SECOND);
    let there = running(&dir);
    assert!(matches!(there[..], [(_, 'D')]), "one, where no signal reaches it: {there:?}");
    let said = explain(&mut trio, 0)?;
    says(&said, &["check disk fails", "an earlier run goes on after SIGKILL", "cannot serve well"]);

    disk.thaw()?;
    wait_until("a check that passes", 5 * SECOND, || passes(&mut trio))?;
    assert_eq!(trio.holders()?, [new]);

    // Whoever is told to stop does not wait for it.
    disk.freeze()?;
    let hangs = || Ok(running(&dir).iter().any(|(_, state)| *state == 'D'));
    wait_until("a script that hangs", 5 * SECOND, hangs)?;
    trio.process(0).term()?;
    wait_until("the end of vipd", 5 * SECOND, || Ok(trio.ended().iter().any(|(n, _)| *n == 0)))?;
    Ok(())
}

/// The same, before: a further script each second, and the address stays.
#[test]
fn scripts_that_hang_on_a_disk_pile_up_with_keepalived() -> Result {
    let mut front = Front::new("stuck-keepalived", Kind::Keepalived, Tier::Plain)?;
    let dir = front.trio.lab.dir().to_path_buf();
    let disk = StuckDisk::make(&dir)?;
    let script = writes_to(&disk, &dir)?;
    let holder = front.start_keepalived()?;
    // keepalived runs what is at this path.
    let own = front.trio.hosts[holder].dir().join("alive");
    fs::rename(&script, &own).map_err(Error::io("put a script in place"))?;
    pause(3 * SECOND);
    assert_eq!(front.trio.holders()?, [holder]);
    disk.freeze()?;
    pause(WATCHED + 2 * SECOND);
    let there = running(&dir);
    println!(
        "keepalived: {:?} after the disk hung: not moved, {} scripts hang",
        WATCHED + 2 * SECOND,
        there.len()
    );
    assert!(there.len() > 2 && there.iter().all(|(_, state)| *state == 'D'), "{there:?}");
    assert_eq!(front.trio.holders()?, [holder]);
    Ok(())
}

/// Blind spots 4 and 5, before: whoever is killed, hangs or is cut off keeps the address, and
/// another one takes it. The tests of the lease are what comes after.
#[test]
fn two_hold_the_address_when_keepalived_is_killed_hangs_or_is_cut_off() -> Result {
    let trio = Trio::started("two-keepalived", Kind::Keepalived)?;
    let twice = |trio: &Trio, what: &str| -> Result {
        wait_until(what, 5 * SECOND, || Ok(trio.holders()?.len() == 2))?;
        pause(2 * SECOND);
        assert_eq!(trio.holders()?.len(), 2, "{what}, and for as long as nobody looks");
        println!("keepalived {what}: two hold the address");
        Ok(())
    };
    let holder = trio.wait_holder(5 * SECOND)?;
    trio.hosts[holder].cut()?;
    twice(&trio, "cut off")?;
    trio.hosts[holder].heal()?;
    let holder = trio.wait_holder(5 * SECOND)?;

    trio.process(holder).freeze()?;
    twice(&trio, "hung")?;
    trio.process(holder).thaw()?;
    let holder = trio.wait_holder(5 * SECOND)?;

    trio.process(holder).kill_tree()?;
    twice(&trio, "killed")
}

/// A proxy is killed: the kernel tells, and nobody waits for the next look, two seconds later.
#[test]
fn a_killed_proxy_is_noticed_by_the_kernels_word() -> Result {
    let mut front = Front::new("killed", Kind::Lease, Tier::Plain)?;
    let process = |host: &Host| {
        let file = host.dir().join("haproxy.pid");
        format!(
            "[[check]]\nname = \"process\"\nprocess = \"{}\"\ninterval = \"2s\"\nfall = 1\nrise = 1\n",
            file.display()
        )
    };
    let mut holder = front.start(process)?;
    let mut noticed = Vec::new();
    for _ in 0..3 {
        let at = Stamp::now();
        front.proxy(holder).kill_tree()?;
        let (new, took) = front.moved(holder, at, 5 * SECOND)?;
        noticed.push(told(&mut front.trio, holder, "check-failed")?.since(at));
        println!("noticed {:.1?}, moved {took:.1?} after the kill", noticed.last());
        says(&front.explain(holder)?, &["check process fails", "haproxy.pid is gone"]);
        front.start_proxy(holder)?;
        front.wait_verdict(holder, true)?;
        holder = new;
    }
    noticed.sort_unstable();
    // A machine that is busy elsewhere may be late now and then.
    assert!(noticed[1] < 20 * MS, "{noticed:?}");
    Ok(())
}

/// Three keepalived as they are set up by default: the one with the highest priority preempts.
fn keepalived_by_default(label: &str) -> Result<(Lab, Watch, Vec<Host>, Vec<Proc>)> {
    let (lab, watch) = (Lab::new(label)?, Watch::new());
    let (mut hosts, mut processes) = (Vec::new(), Vec::new());
    for n in 0..3_u8 {
        let host = lab.host(&format!("hap{}", n + 1), &[&format!("192.168.34.13{}/24", n + 2)])?;
        watch.follow(&host)?;
        processes.push(keepalived::start(&host, &[default_instance(n)])?);
        hosts.push(host);
    }
    watch.wait_holders(VIP.into(), &["hap1"], 10 * SECOND)?;
    Ok((lab, watch, hosts, processes))
}

fn default_instance(n: u8) -> Instance {
    Instance::new(85, 150 - 10 * n, &[&format!("{VIP}/24")])
}

/// Blind spots 9 and 10, before: a power loss costs three adverts and a skew, and the return of the
/// host a second interruption.
#[test]
fn a_host_that_comes_back_interrupts_again_with_keepalived() -> Result {
    let (_lab, watch, hosts, mut processes) = keepalived_by_default("return-keepalived")?;
    let at = Stamp::now();
    hosts[0].power_loss()?;
    drop(processes.remove(0));
    let taken = watch.wait_event(VIP.into(), true, at, 5 * SECOND)?;
    println!("keepalived: another host has the address {:?} after power loss", taken.at.since(at));
    pause(SECOND);
    let holder = watch.holders_now(VIP.into());
    hosts[0].power_on()?;
    watch.follow(&hosts[0])?;
    let _back = keepalived::start(&hosts[0], &[default_instance(0)])?;
    watch.wait_holders(VIP.into(), &["hap1"], 10 * SECOND)?;
    println!("keepalived: it left {holder:?}, who served well, for the host that came back");
    Ok(())
}
