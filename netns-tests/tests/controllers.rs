//! Daemons whose hosts have controllers: real agents really cut the power, what follows is in
//! its order, and what no controller does has a name and an end.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use netns_tests::cluster::said;
use netns_tests::peer::bmc::{Fault, USER};
use netns_tests::peer::redfish::Redfish;
use netns_tests::racked::{ACQUAINTED, BRISK, Racked};
use netns_tests::{PowerSwitch, Result, Stamp, pause, wait_until};

use common::{MS, SECOND, SLACK, conditions};

/// A lease ends, and who is best among the others agrees to fence.
const LEASE: std::time::Duration = std::time::Duration::from_millis(241);

#[test]
fn the_power_goes_off_then_another_one_serves_then_it_comes_on() -> Result {
    let (mut rig, holder, double) = Racked::started("ipmi", 3, "lease+fence", BRISK, "")?;
    let cut = rig.trio.hosts[holder].cut()?;
    let new = rig.trio.wait_holder_but(Some(holder), 10 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(rig.number(&name), new);
    rig.wait_cycles(holder, &[false, true], 10 * SECOND)?;

    // In this order, by the times that people are shown.
    let others = rig.others(holder);
    let [started, done] = ["fence-started", "fence-done"].map(|kind| rig.told(&others, kind));
    let (started, done) = (started?, done?);
    assert_eq!((started.len(), done.len()), (1, 1), "one of two fences: {started:?} {done:?}");
    let active = rig.told(&[new], "active")?.pop().expect("it became active").at;
    let [off, on] = [0, 1].map(|n| rig.switched(holder)[n].0);
    let report = double.report(cut);
    let served = report.answers_of(&name).first().expect("it answers").at;
    println!(
        "cut to fencing {:.0?}, to off {:.0?}, to verified {:.0?}, to served {:.1?}; on {:.0?} after \
         it was off",
        started[0].at.since(cut),
        off.since(started[0].at),
        done[0].at.since(off),
        served.since(done[0].at),
        on.since(off),
    );
    // What is told comes a moment after it was so.
    let order = [cut, started[0].at, off, done[0].at];
    assert!(order.is_sorted() && off < active && off < served, "{order:?} {active:?} {served:?}");
    assert_eq!(report.overlaps(), []);
    assert!(started[0].at.since(cut) < LEASE + 2 * SLACK, "{order:?}");
    assert!(served.since(done[0].at) < 50 * MS + SLACK, "{order:?}");

    // It boots, and is one of three again; the history knows why, also that it was on again.
    rig.trio.hosts[holder].heal()?;
    rig.boot(holder)?;
    rig.wait_told(&others, "fence-returned", 15 * SECOND)?;
    let fencer = rig.number(&done[0].node);
    let history = said(&rig.vipd(fencer).ctl(&["fence", "history"])?);
    for words in ["is not heard and may serve", "verified off", "is back"] {
        assert!(history.contains(words), "{words}: {history}");
    }
    // The third one heard what was done, why, and how long it took.
    let third = others.iter().copied().find(|n| *n != fencer).expect("there are three");
    let history = said(&rig.vipd(third).ctl(&["fence", "history"])?);
    for words in ["says:", "verified off after", "is not heard and may serve"] {
        assert!(history.contains(words), "{words}: {history}");
    }
    assert_eq!(rig.cycles(holder), [false, true]);
    assert_eq!(double.report(cut).overlaps(), []);
    Ok(())
}

#[test]
fn without_its_controller_a_lost_holder_is_replaced_when_a_human_says_so() -> Result {
    let keys = "timeout = \"2s\", attempts = 1";
    let (mut rig, holder, double) = Racked::started("ipmidead", 3, "lease+fence", keys, "")?;
    rig.bmcs[holder].process.freeze()?;
    let (victim, others) = (rig.name(holder), rig.others(holder));
    let from = rig.trio.hosts[holder].cut()?;
    // From when the last datagram of the old holder was answered.
    let dark = from + LEASE + SLACK;
    let failed = rig.wait_told(&others, "fence-failed", 10 * SECOND)?;
    assert!(failed.text.contains("took too long"), "{failed:?}");
    let fencer = rig.number(&failed.node);
    let named = conditions(rig.vipd(fencer))?;
    assert!(named.contains(&"fence-failed".to_owned()), "{named:?}");
    let shown = said(&rig.vipd(fencer).ctl(&["status"])?);
    assert!(shown.contains(&format!("vipctl fence confirm {victim}")), "{shown}");
    pause(SECOND);
    assert_eq!(double.report(dark).hosts().len(), 0, "nobody serves");

    let out = rig.vipd(others[0]).ctl(&["fence", "confirm", &victim])?;
    assert!(!out.status.success(), "there is no terminal to ask: {}", said(&out));
    let confirmed = Stamp::now();
    let out = rig.vipd(others[0]).ctl(&["fence", "confirm", &victim, "--yes"])?;
    assert!(out.status.success(), "{}", said(&out));
    rig.trio.wait_holder_but(Some(holder), 5 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    let report = double.report(confirmed);
    let served = report.answers_of(&name).first().expect("it answers").at;
    println!("confirmed to served {:.1?}", served.since(confirmed));
    let human = rig.told(&others, "fence-confirmed")?;
    assert!(human[0].text.contains("a human says"), "{human:?}");
    // Who was cut off stopped by itself, comes back and goes on as one of three.
    assert_eq!(rig.switched(holder), []);
    rig.trio.hosts[holder].heal()?;
    pause(2 * SECOND);
    assert_eq!(double.report(from).overlaps(), []);
    assert_eq!(double.wait_single(SECOND / 2, 5 * SECOND)?, name);
    rig.bmcs[holder].process.thaw()
}

#[test]
#[ignore = "takes long with the others: make test-slow"]
fn redfish_cuts_the_power_of_a_lost_holder() -> Result {
    let mut rig = Racked::new("redfished", 3, "lease+fence", BRISK, "")?;
    let service = Redfish::wired(&rig.rack, "192.168.34.11", &rig.trio.hosts)?;
    let secret = rig.trio.lab.dir().join("bmc");
    let names = [0, 1, 2].map(|n| rig.name(n));
    rig.config = rig
        .trio
        .fenced(3, "lease+fence", |n| service.device(Some(&names[n]), &secret.to_string_lossy()))
        + "[fencing]\naction = \"off\"\n";
    for n in 0..3 {
        rig.start(n)?;
    }
    let (holder, double) = rig.serving(ACQUAINTED)?;
    let cut = rig.trio.hosts[holder].cut()?;
    let new = rig.trio.wait_holder_but(Some(holder), 30 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(rig.number(&name), new);
    let deeds = service.deeds();
    assert!(deeds.len() == 1 && deeds[0].1 == names[holder] && !deeds[0].2, "{deeds:?}");
    let report = double.report(cut);
    let served = report.answers_of(&name).first().expect("it answers").at;
    let done = rig.told(&rig.others(holder), "fence-done")?.remove(0).at;
    let off = deeds[0].0;
    println!("cut to off {:.1?}, verified to served {:.1?}", off.since(cut), served.since(done));
    assert!(cut < off && off < done && off < served, "{cut:?} {off:?} {done:?} {served:?}");
    assert_eq!(report.overlaps(), []);
    Ok(())
}

/// An operator orders; what the controller does is said, and the order ends.
#[test]
#[ignore = "takes long with the others: make test-slow"]
fn what_is_wrong_with_a_controller_is_said() -> Result {
    let (mut rig, holder, double) = Racked::started("faults", 3, "lease", BRISK, "")?;
    let from = Stamp::now();
    let (victim, other) = (rig.others(holder)[0], rig.others(holder)[1]);
    let secret = rig.trio.lab.dir().join("bmc");
    let word = |text: &str| std::fs::write(&secret, text).expect("a file of the lab");
    let order = |rig: &mut Racked, node: usize| -> Result<(bool, String)> {
        let name = rig.name(node);
        let out = rig.vipd(other).ctl(&["fence", &name, "--yes"])?;
        Ok((out.status.success(), said(&out)))
    };
    let rows = [
        (Fault::StuckOn, USER.1, "Timed out waiting to power OFF"),
        (Fault::Refuses, USER.1, "could not be switched off"),
        (Fault::None, "wrong-one", "could not be switched off"),
    ];
    for (fault, password, words) in rows {
        word(password);
        rig.bmcs[victim].set(fault);
        let (done, text) = order(&mut rig, victim)?;
        assert!(!done && text.contains(words) && !text.contains(password), "{fault:?}: {text}");
        assert!(rig.trio.hosts[victim].has_power(), "{fault:?}");
    }
    assert_eq!(rig.switched(victim), []);
    word(USER.1);

    // One that lies is believed, and the host that is heard all the same is back.
    rig.bmcs[victim].set(Fault::Lies);
    let (done, text) = order(&mut rig, victim)?;
    assert!(done && text.contains("verified off"), "{text}");
    rig.wait_told(&[other], "fence-returned", 5 * SECOND)?;
    assert_eq!(rig.switched(victim), []);

    // One that is slow is waited for; that it does not come on again is said, and holds up nothing.
    rig.bmcs[victim].set(Fault::Slow(600 * MS));
    let (done, text) = order(&mut rig, victim)?;
    assert!(done && text.contains("verified off"), "{text}");
    rig.bmcs[victim].set(Fault::StuckOff);
    assert_eq!(rig.cycles(victim), [false]);
    let stays = rig.wait_told(&[other], "fence-stays-off", 15 * SECOND)?;
    assert!(stays.text.contains("Timed out waiting to power ON"), "{stays:?}");

    // One that hangs is not waited for.
    rig.bmcs[holder].set(Fault::Hangs);
    let (done, text) = order(&mut rig, holder)?;
    assert!(!done && text.contains("Connection timed out"), "{text}");
    let report = double.report(from);
    assert_eq!((report.overlaps().len(), report.hosts().len()), (0, 1), "the holder goes on");
    Ok(())
}

#[test]
fn where_the_first_level_fails_the_second_cuts_the_power() -> Result {
    let keys = "timeout = \"2s\", attempts = 1";
    let mut rig = Racked::new("levels", 3, "lease+fence", keys, "")?;
    let socket = PowerSwitch::new(rig.trio.lab.dir(), rig.trio.hosts.clone())?;
    for n in 0..3 {
        let name = rig.name(n);
        let (board, plug) = (format!("ip = \"192.168.34.{}\"", 11 + n), socket.device(&name));
        let at = rig.config.find(&board).expect("its controller");
        let from = rig.config[..at].rfind("fence = ").expect("its device") + "fence = ".len();
        let to = from + rig.config[from..].find('\n').expect("the end of the line");
        let both = format!("[{}, {}]", &rig.config[from..to], plug.replace("{ ", "{ level = 2, "));
        rig.config.replace_range(from..to, &both);
        rig.start(n)?;
    }
    let (holder, double) = rig.serving(ACQUAINTED)?;
    rig.fault(Fault::Hangs);
    let cut = rig.trio.hosts[holder].cut()?;
    // With room for a device that takes too long on a busy machine, and is tried again.
    let new = rig.trio.wait_holder_but(Some(holder), 30 * SECOND)?;
    let name = double.wait_single(SECOND / 2, 5 * SECOND)?;
    assert_eq!(rig.number(&name), new);
    assert_eq!(rig.switched(holder), []);
    let deeds = socket.deeds();
    let off = deeds.first().expect("the socket is off");
    println!("cut to off {:.1?}", off.0.since(cut));
    assert!(off.1 == rig.name(holder) && !off.2 && off.0.since(cut) >= 2 * SECOND, "{deeds:?}");
    let report = double.report(cut);
    assert!(off.0 < report.answers_of(&name).first().expect("it answers").at);
    assert_eq!(report.overlaps(), []);
    wait_until("the socket is on again", 10 * SECOND, || Ok(socket.deeds().len() == 2))?;
    Ok(())
}
