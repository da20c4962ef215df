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
use netns_tests::{Host, Lab, Result, pause, wait_until};

const GROUP: &str = "postgres";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);

fn config(secret: &Path, extra: &str) -> String {
    let node = |n| format!("[[node]]\nname = \"hap{n}\"\naddress = \"192.168.34.13{}\"\n", n + 1);
    let nodes: String = (1..=3).map(node).collect();
    format!(
        "[cluster]\nname = \"lb\"\nsecret = \"{}\"\n{nodes}[[group]]\nname = \"{GROUP}\"\nvrid = \
         85\naddresses = [\"192.168.34.85/24\"]\n{extra}",
        secret.display()
    )
}

fn replay(host: &Host, trace: &Path) -> Result<(Option<i32>, String)> {
    let program = binary("vipctl")?.to_string_lossy().into_owned();
    let output = host.run(&[&program, "replay", &trace.to_string_lossy()])?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn a_trace_is_gone_through_again_to_the_same_end() -> Result {
    let lab = Lab::new("record")?;
    let secret = lab.dir().join("secret");
    std::fs::write(&secret, KEY).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let hosts: Vec<Host> = (1..=3)
        .map(|n| lab.host(&format!("hap{n}"), &[&format!("192.168.34.13{}/24", n + 1)]))
        .collect::<Result<_>>()?;
    let trace: PathBuf = hosts[0].dir().join("trace");
    let text = config(&secret, "");
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
    std::fs::write(hosts[0].dir().join("vipd/vipd.toml"), config(&secret, "preempt = true\n"))
        .unwrap();
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
