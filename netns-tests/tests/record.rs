//! What a daemon wrote down on a real kernel is gone through again, to the same end.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use netns_tests::peer::vipd::{Vipd, binary};
use netns_tests::trio::{GROUP, KEY, Kind, Trio};
use netns_tests::{Host, Result, pause, wait_until};

const SECOND: Duration = Duration::from_secs(1);

fn replay(host: &Host, trace: &Path) -> Result<(Option<i32>, String)> {
    let program = binary("vipctl")?.to_string_lossy().into_owned();
    let output = host.run(&[&program, "replay", &trace.to_string_lossy()])?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn a_trace_is_gone_through_again_to_the_same_end() -> Result {
    let trio = Trio::new("record", Kind::Lease)?;
    let (hosts, text) = (&trio.hosts, trio.config());
    let trace: PathBuf = hosts[0].dir().join("trace");
    let one = Vipd::start_with(&hosts[0], &text, &["--record", &trace.to_string_lossy()])?;
    let two = Vipd::start(&hosts[1], &text)?;
    let three = Vipd::start(&hosts[2], &text)?;
    let holder = |all: &[&Vipd]| -> Option<usize> {
        all.iter().position(|v| v.role(GROUP).is_ok_and(|role| role == "active"))
    };
    wait_until("a holder", 5 * SECOND, || Ok(holder(&[&one, &two, &three]).is_some()))?;
    // Another one, a file that changes while it runs, and a cable.
    hosts[2].power_loss()?;
    pause(SECOND);
    std::fs::write(hosts[0].dir().join("vipd/vipd.toml"), text + "preempt = true\n").unwrap();
    let reload = one.ctl(&["reload"])?;
    assert!(reload.status.success(), "{reload:?}");
    hosts[0].carrier_down()?;
    pause(SECOND / 2);
    hosts[0].carrier_up()?;
    pause(SECOND);
    drop(one);

    let (code, said) = replay(&hosts[0], &trace)?;
    println!("{said}");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("this version does the same"), "{said}");

    // The trace of a daemon that did something else.
    let lines = std::fs::read_to_string(&trace).unwrap();
    let other = lines.replacen("Advertise { group: 0", "Advertise { group: 1", 1);
    assert_ne!(lines, other, "a trace in which nothing was advertised shows nothing");
    std::fs::write(&trace, other).unwrap();
    let (code, said) = replay(&hosts[0], &trace)?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("- Advertise { group: 1"), "{said}");
    assert!(!lines.contains(KEY), "a trace holds no secrets");
    Ok(())
}
