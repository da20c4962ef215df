//! The address follows health: what a check's failure comes to on one host, and on all.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use netns_tests::freezer::Unkillable;
use netns_tests::peer::backend::Backend;
use netns_tests::trio::{GROUP, Kind, Trio, VIP};
use netns_tests::{Host, Result, Stamp, pause, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const DATABASE: u16 = 5432;

/// Three hosts that look at a database again and again.
struct Scene {
    trio: Trio,
    database: Host,
    _backend: Backend,
}

impl Scene {
    fn new(label: &str, kind: Kind, effect: &str) -> Result<Self> {
        let mut trio = Trio::new(label, kind)?;
        let database = trio.lab.host("pg1", &["192.168.34.10/24"])?;
        let backend = Backend::start(&database, DATABASE)?;
        let config = trio.config()
            + &format!(
                "\n[[check]]\nname = \"database\"\ntcp = \"192.168.34.10:{DATABASE}\"\n\
                 interval = \"200ms\"\ntimeout = \"200ms\"\nrise = 2\nfall = 2\n{effect}\n"
            );
        trio.start_all(&config)?;
        trio.wait_holder(10 * SECOND)?;
        // By then everybody has looked, and voted for whoever holds.
        pause(SECOND);
        Ok(Self { trio, database, _backend: backend })
    }

    /// Whether host number `n` says that the check passes.
    fn passes(&mut self, n: usize) -> Result<Option<bool>> {
        Ok(self.trio.vipd(n).status()?["groups"][0]["checks"][0]["verdict"].as_bool())
    }

    fn wait_verdict(&mut self, n: usize, verdict: bool) -> Result {
        wait_until("a verdict", 5 * SECOND, || Ok(self.passes(n)? == Some(verdict)))?;
        Ok(())
    }

    /// What happened to addresses so far.
    fn moves(&self) -> usize {
        self.trio.watch.events().len()
    }
}

/// Blind spots 1 and 15 of a stack whose checks ask only whether a process is there: the address
/// stays on a load balancer that reaches no database.
fn alone(label: &str, kind: Kind, effect: &str) -> Result {
    let mut scene = Scene::new(label, kind, effect)?;
    let holder = scene.trio.wait_holder(SECOND)?;
    let at = Stamp::now();
    scene.trio.hosts[holder].cut_between(&scene.database)?;
    let next = scene.trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    println!("{label}: moved {:?} after the holder lost the database", Stamp::now().since(at));
    wait_until("the old holder without the address", 5 * SECOND, || {
        Ok(scene.trio.holders()? == [next])
    })?;
    let said = scene.trio.ctl(holder, &["status"])?;
    assert!(said.contains("FAILS"), "{said}");
    let said = scene.trio.ctl(holder, &["explain", GROUP])?;
    println!("{said}");
    let score = effect.contains("score");
    let how = if score { "5 points worse" } else { "cannot serve well" };
    assert!(said.contains(how) && said.contains("check database fails"), "{said}");
    let said = scene.trio.ctl(next, &["explain", GROUP])?;
    println!("{said}");
    assert!(said.contains(&format!("hap{}, this node, holds it", next + 1)), "{said}");
    assert!(said.contains(&format!("if hap{} died now", next + 1)), "{said}");
    // A Backup of plain VRRP says nothing of itself.
    assert!(said.contains(how) || kind == Kind::Vrrp, "{said}");

    // It comes back, and nothing moves: nobody is better than who holds.
    scene.trio.hosts[holder].heal()?;
    scene.wait_verdict(holder, true)?;
    let moves = scene.moves();
    pause(4 * SECOND);
    assert_eq!(scene.moves(), moves);
    assert_eq!(scene.trio.holders()?, [next]);
    Ok(())
}

#[test]
fn a_holder_that_cannot_reach_the_database_is_replaced() -> Result {
    alone("alone", Kind::Lease, "")
}

#[test]
fn without_a_lease_as_well() -> Result {
    alone("alone-vrrp", Kind::Vrrp, "")
}

/// A weight that is smaller than the gap between the priorities counts.
#[test]
fn a_few_points_are_enough() -> Result {
    alone("points", Kind::Lease, "effect = \"score\"\nweight = 5")
}

/// All hosts lose the database, and find it again one after the other, the holder last: the
/// address is never given up to nobody, and does not move.
fn common(label: &str, kind: Kind) -> Result {
    let mut scene = Scene::new(label, kind, "")?;
    let holder = scene.trio.wait_holder(SECOND)?;
    let moves = scene.moves();
    for n in 0..3 {
        scene.trio.hosts[n].cut_between(&scene.database)?;
    }
    for n in 0..3 {
        scene.wait_verdict(n, false)?;
    }
    pause(2 * SECOND);
    assert_eq!(scene.trio.holders()?, [holder]);
    let said = scene.trio.vipd(holder).status()?["groups"][0].to_string();
    assert!(said.contains("check-failing") && said.contains("\"unfit\""), "{said}");
    let said = scene.trio.ctl(holder, &["explain", GROUP])?;
    println!("{said}");
    assert!(said.contains("though it cannot serve well: nobody better is known"), "{said}");
    for n in (0..3).filter(|n| *n != holder).chain([holder]) {
        scene.trio.hosts[n].heal()?;
        pause(SECOND / 10);
    }
    for n in 0..3 {
        scene.wait_verdict(n, true)?;
    }
    pause(3 * SECOND);
    assert_eq!(scene.moves(), moves, "no event of any address");
    assert_eq!(scene.trio.watch.holders_now(VIP.into()).len(), 1);
    let events = scene.trio.ctl(holder, &["events", "--group", GROUP])?;
    assert!(!events.contains("releasing"), "{events}");
    Ok(())
}

#[test]
fn a_failure_that_all_share_moves_nothing() -> Result {
    common("common", Kind::Lease)
}

#[test]
fn nor_without_a_lease() -> Result {
    common("common-vrrp", Kind::Vrrp)
}

/// A script that SIGKILL does not end: the check fails, no further one is started, and it is run
/// again once that one is gone.
#[test]
fn a_script_that_cannot_be_killed_is_not_joined_by_others() -> Result {
    let mut trio = Trio::new("immortal", Kind::Lease)?;
    let dir = trio.lab.dir().to_path_buf();
    let (pid, script) = (dir.join("pid"), dir.join("look"));
    // Only the first run hangs.
    let text =
        format!("#!/bin/sh\n[ -e {0} ] && exit 0\necho $$ >{0}\nexec sleep 60\n", pid.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = trio.config()
        + &format!(
            "\n[[check]]\nname = \"look\"\nrun = [{script:?}]\nuser = \"root\"\n\
             interval = \"200ms\"\ntimeout = \"1s\"\n"
        );
    trio.start_with(0, &config)?;
    let mut found = None;
    wait_until("a run", 5 * SECOND, || {
        found = fs::read_to_string(&pid).ok().and_then(|text| text.trim().parse().ok());
        Ok(found.is_some())
    })?;
    let stuck = Unkillable::make(&dir, found.unwrap())?;
    let check = |trio: &mut Trio| -> Result<serde_json::Value> {
        Ok(trio.vipd(0).status()?["groups"][0]["checks"][0].clone())
    };
    let joins = |said: &serde_json::Value| said["found"].to_string().contains("an earlier run");
    wait_until("a check that waits", 10 * SECOND, || Ok(joins(&check(&mut trio)?)))?;
    pause(2 * SECOND);
    let said = check(&mut trio)?;
    assert!(joins(&said) && said["verdict"] == false, "{said}");
    assert!(stuck.lives());
    drop(stuck);
    wait_until("a check that passes", 5 * SECOND, || Ok(check(&mut trio)?["verdict"] == true))?;
    Ok(())
}
