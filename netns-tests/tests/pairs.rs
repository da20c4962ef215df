//! Two nodes without a witness, and the link between them is cut: one of them survives.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use netns_tests::peer::bmc::Fault;
use netns_tests::racked::{BRISK, Racked};
use netns_tests::trio::GROUP;
use netns_tests::{Result, pause, wait_until};

use common::{MS, SECOND};

/// Longer than the head start of a holder, and an agent's work after it.
const LATER: std::time::Duration = std::time::Duration::from_secs(4);

/// One cut; whether the holder survives. Exactly one of the two does, or this fails.
fn cut(turn: u32) -> Result<bool> {
    let mut rig = Racked::new("pair", 2, "lease+fence", BRISK, "")?;
    rig.start(0)?;
    rig.start(1)?;
    let (mut holder, double) = rig.serving(SECOND)?;
    // Each of them in turn.
    if holder != turn as usize % 2 {
        let to = rig.name(1 - holder);
        assert!(rig.vipd(holder).ctl(&["move", GROUP, &to])?.status.success());
        holder = rig.number(&double.wait_single(SECOND, 10 * SECOND)?);
    }
    // At any moment between two words.
    pause(7 * turn * MS);
    let at = rig.trio.hosts[holder].cut_between(&rig.trio.hosts[1 - holder])?;
    let mut dead = Vec::new();
    wait_until("one of them is off", 15 * SECOND, || {
        dead = (0..2).filter(|n| !rig.switched(*n).is_empty()).collect();
        Ok(!dead.is_empty())
    })?;
    let victim = dead[0];
    let off = rig.switched(victim)[0].0;
    rig.wait_cycles(victim, &[false, true], 10 * SECOND)?;
    // It boots while the link is still cut: it serves nothing, and fences nobody.
    rig.boot(victim)?;
    pause(LATER);
    let cycles = [0, 1].map(|n| rig.cycles(n));
    assert_eq!(cycles[victim], [false, true], "{cycles:?}");
    assert!(cycles[1 - victim].is_empty(), "never both: {cycles:?}");
    let report = double.report(at);
    assert_eq!(report.overlaps(), []);
    let survived = victim != holder;
    println!(
        "turn {turn}: {} held and {}, {} off after {:.0?}, nobody served for {:.1?}",
        rig.name(holder),
        if survived { "survived" } else { "did not survive" },
        rig.name(victim),
        off.since(at),
        report.longest_outage()
    );
    // Whoever survived serves, to the end.
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(rig.number(&name), 1 - victim);
    // And once they hear each other again there are two.
    rig.trio.lab.heal()?;
    rig.wait_told(&[1 - victim], "fence-returned", 10 * SECOND)?;
    assert_eq!(double.report(at).overlaps(), []);
    Ok(survived)
}

#[test]
fn of_two_nodes_the_holder_survives_a_cut() -> Result {
    for turn in 0..2 {
        assert!(cut(turn)?);
    }
    Ok(())
}

#[test]
fn of_two_nodes_one_that_is_killed_while_it_fences_does_so_once() -> Result {
    let mut rig = Racked::new("pairkill", 2, "lease+fence", "attempts = 1", "")?;
    rig.start(0)?;
    rig.start(1)?;
    let (holder, double) = rig.serving(SECOND)?;
    let victim = 1 - holder;
    rig.fault(Fault::Slow(1500 * MS));
    let at = rig.trio.hosts[holder].cut_between(&rig.trio.hosts[victim])?;
    rig.wait_told(&[holder], "fence-started", 10 * SECOND)?;
    // The order is with the controller.
    pause(500 * MS);
    assert_eq!(rig.switched(victim), []);
    rig.vipd(holder).process.kill()?;
    rig.vipd(holder).process.wait(5 * SECOND)?;
    rig.start(holder)?;
    rig.wait_cycles(victim, &[false], 10 * SECOND)?;
    pause(LATER);
    assert_eq!([0, 1].map(|n| rig.cycles(n).len()).iter().sum::<usize>(), 1, "never both");
    let report = double.report(at);
    println!("nobody served for {:.1?}", report.longest_outage());
    assert_eq!((report.overlaps().len(), report.hosts().len()), (0, 1));
    // On a machine so busy that its gate was shut before, it waits for a human.
    if rig.vipd(holder).role(GROUP)? != "active" {
        let name = rig.name(victim);
        assert!(rig.vipd(holder).ctl(&["fence", "confirm", &name, "--yes"])?.status.success());
    }
    assert_eq!(rig.number(&double.wait_single(SECOND / 2, 5 * SECOND)?), holder);
    let told = rig.wait_told(&[holder], "fence-unfinished", SECOND)?;
    assert!(told.text.contains(&rig.name(victim)), "{told:?}");
    Ok(())
}

#[test]
#[ignore = "takes minutes: make test-slow"]
fn of_two_nodes_one_survives_each_of_twenty_cuts() -> Result {
    let mut survived = 0;
    for turn in 0..20 {
        survived += u32::from(cut(turn)?);
    }
    println!("the holder survived {survived} of 20 cuts; one of the two survived each of them");
    assert!(survived >= 19);
    Ok(())
}
