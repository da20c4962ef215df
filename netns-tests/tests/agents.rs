//! Fence agents against controllers that work, and that do not: each fault gives its named
//! outcome within its bound, and the power of the host is what the outcome says.

#![allow(clippy::disallowed_methods, reason = "the lab measures and waits in real time")]

mod common;

use std::path::PathBuf;
use std::time::Instant;

use common::{MS, SECOND};
use netns_tests::peer::bmc::{Bmc, Fault, USER};
use netns_tests::peer::redfish::Redfish;
use netns_tests::{Error, Host, Lab, Result, netns, pause, wait_until};
use vipd::config::{Device, parse, render};
use vipd::io::fence::{Agents, Outcome, Run, Verb};

/// A host with power, its controller, and a host that may have to cut it.
struct Rig {
    hap1: Host,
    hap2: Host,
    rack: Host,
    bmc: Bmc,
    agents: Agents,
    secret: PathBuf,
    _lab: Lab,
}

impl Rig {
    fn new(label: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let hap1 = lab.host("hap1", &["192.168.34.132/24"])?;
        let hap2 = lab.host("hap2", &["192.168.34.133/24"])?;
        let rack = lab.host("rack", &["192.168.34.11/24"])?;
        let bmc = Bmc::start(&rack, &hap1, "192.168.34.11")?;
        let secret = hap2.write("secret", USER.1)?;
        let agents = Agents::new(&hap2.run_dir()?);
        Ok(Self { hap1, hap2, rack, bmc, agents, secret, _lab: lab })
    }

    /// The controller as a device, with `more` keys.
    fn device(&self, more: &str) -> Device {
        let device = self.bmc.device(&self.secret.to_string_lossy());
        device_of(&device.replace(" }", &format!(", {more} }}")))
    }

    fn run(&self, device: &Device, verb: Verb) -> Result<Run> {
        self.on_hap2(async { Ok(self.agents.run(device, verb, "hap1").await) })
    }

    fn off(&self, device: &Device) -> Result<Run> {
        self.on_hap2(async { Ok(self.agents.off_verified(device, "hap1").await) })
    }

    /// Works in the network of the host that fences.
    fn on_hap2<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        netns::run_in(self.hap2.namespace(), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Error::io("a runtime"))?.block_on(work)
        })
    }

    /// Everything that agents of this rig started: number and command line.
    fn started(&self) -> Vec<(i32, String)> {
        let mark = format!("VIPD_FENCE={}#", self.hap2.dir().join("run").display());
        let text = |pid: i32, file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|pid| text(*pid, "environ").contains(&mark))
            .map(|pid| (pid, text(pid, "cmdline").replace('\0', " ")))
            .collect()
    }
}

/// A device as the file has it.
fn device_of(text: &str) -> Device {
    let text = format!(
        "[cluster]\nname = \"lb\"\nsecret = \"/s\"\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\nfence = {text}\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\nfence = {{ agent = \"/x\" }}\n\
         [[group]]\nname = \"g\"\nvrid = 1\nsafety = \"lease+fence\"\naddresses = [\"192.168.34.85/24\"]\n"
    );
    let parsed = parse(&text);
    let (config, _) = parsed.unwrap_or_else(|e| panic!("{}", render(&e, "x", &text, false)));
    config.nodes.into_iter().next().and_then(|n| n.fence.into_iter().next()).expect("a device")
}

fn why(run: &Run) -> &str {
    match &run.outcome {
        Outcome::Failed { why } => why,
        Outcome::Done
        | Outcome::On
        | Outcome::Off
        | Outcome::TimedOut
        | Outcome::NotStarted { .. } => panic!("{run:?}"),
    }
}

#[test]
fn off_is_off_and_on_is_on() -> Result {
    let rig = Rig::new("power")?;
    let device = rig.device("");
    assert_eq!(rig.run(&device, Verb::Status)?.outcome, Outcome::On);
    assert_eq!(rig.run(&device, Verb::Monitor)?.outcome, Outcome::Done);
    let sleeper = rig.hap1.spawn("sleep", &["sleep", "1000"])?;
    let off = rig.off(&device)?;
    assert_eq!(off.outcome, Outcome::Off, "{off:?}");
    assert!(off.took < 3 * SECOND, "{off:?}");
    assert!(!rig.hap1.has_power());
    drop(sleeper);
    assert_eq!(rig.run(&device, Verb::Status)?.outcome, Outcome::Off);
    assert_eq!(
        rig.run(&device, Verb::Monitor)?.outcome,
        Outcome::Done,
        "an empty host is no error"
    );
    // Whoever comes second is told the same.
    assert_eq!(rig.off(&device)?.outcome, Outcome::Off);
    let on = rig.run(&device, Verb::On)?;
    assert_eq!(on.outcome, Outcome::Done, "{on:?}");
    assert!(rig.hap1.has_power());
    let history: Vec<_> = rig.bmc.history().into_iter().map(|(_, on)| on).collect();
    assert_eq!(history, [false, true]);
    println!("off, seen to be off: {:?}; on: {:?}", off.took, on.took);
    Ok(())
}

#[test]
fn a_power_switch_that_is_stuck_is_a_failure() -> Result {
    let rig = Rig::new("stuck")?;
    let device = rig.device("power-timeout = 2, attempts = 1");
    rig.bmc.set(Fault::StuckOn);
    let off = rig.off(&device)?;
    assert!(why(&off).contains("Timed out waiting to power OFF"), "{off:?}");
    assert!(off.took < 8 * SECOND && rig.hap1.has_power(), "{off:?}");
    rig.bmc.set(Fault::StuckOff);
    assert_eq!(rig.off(&device)?.outcome, Outcome::Off);
    let on = rig.run(&device, Verb::On)?;
    assert!(why(&on).contains("Timed out waiting to power ON"), "{on:?}");
    assert!(!rig.hap1.has_power());
    Ok(())
}

#[test]
fn a_slow_one_is_waited_for() -> Result {
    let rig = Rig::new("slow")?;
    rig.bmc.set(Fault::Slow(1500 * MS));
    let off = rig.off(&rig.device(""))?;
    assert_eq!(off.outcome, Outcome::Off, "{off:?}");
    assert!(off.took >= 1500 * MS && off.took < 6 * SECOND, "{off:?}");
    assert!(!rig.hap1.has_power());
    Ok(())
}

/// What is said about it in the documentation: only another level, or a human, can help.
#[test]
fn a_liar_is_believed() -> Result {
    let rig = Rig::new("liar")?;
    rig.bmc.set(Fault::Lies);
    assert_eq!(rig.off(&rig.device(""))?.outcome, Outcome::Off);
    assert!(rig.hap1.has_power());
    assert_eq!(rig.bmc.history(), []);
    Ok(())
}

#[test]
fn one_that_refuses_or_does_not_know_the_password_is_a_failure() -> Result {
    let rig = Rig::new("refuses")?;
    rig.bmc.set(Fault::Refuses);
    let off = rig.off(&rig.device(""))?;
    assert!(!why(&off).is_empty() && off.took < 25 * SECOND, "{off:?}");
    rig.bmc.set(Fault::None);
    std::fs::write(&rig.secret, "wrong-one\n").map_err(Error::io("write the secret"))?;
    let off = rig.off(&rig.device(""))?;
    assert!(!why(&off).is_empty() && off.took < 25 * SECOND, "{off:?}");
    assert!(!off.output.contains("wrong-one"), "{off:?}");
    assert!(rig.hap1.has_power());
    println!("wrong password after {:?}: {}", off.took, why(&off));
    Ok(())
}

#[test]
fn one_that_cannot_be_reached_ends_at_the_limit() -> Result {
    let rig = Rig::new("away")?;
    rig.rack.cut()?;
    let off = rig.off(&rig.device("timeout = \"2s\""))?;
    assert_eq!(off.outcome, Outcome::TimedOut, "{off:?}");
    assert!(off.took >= 2 * SECOND && off.took < 3 * SECOND, "{off:?}");
    assert_eq!(rig.started(), []);
    // Given time, the agent says it itself.
    let off = rig.off(&rig.device(""))?;
    assert!(!why(&off).is_empty() && off.took < 30 * SECOND, "{off:?}");
    assert!(rig.hap1.has_power());
    println!("unreachable after {:?}: {}", off.took, why(&off));
    Ok(())
}

#[test]
fn one_that_hangs_leaves_nothing_behind_and_gives_nothing_away() -> Result {
    let rig = Rig::new("hangs")?;
    rig.bmc.set(Fault::Hangs);
    let device = rig.device("");
    let begin = Instant::now();
    rig.on_hap2(async {
        tokio::select! {
            run = rig.agents.run(&device, Verb::Off, "hap1") => panic!("{run:?}"),
            // ipmitool runs, and waits.
            () = tokio::time::sleep(1500 * MS) => {}
        }
        Ok(())
    })?;
    assert!(begin.elapsed() < 3 * SECOND);
    wait_until("the end of all that was started", SECOND, || Ok(rig.started().is_empty()))?;
    let seen = std::thread::scope(|scope| {
        let mut short = device.clone();
        short.timeout = 3 * SECOND;
        let rig = &rig;
        let running = scope.spawn(move || rig.run(&short, Verb::Off));
        let mut seen = Vec::new();
        while !running.is_finished() {
            for (pid, line) in rig.started() {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&environ).contains(USER.1), "{line}");
                seen.push(line);
            }
            pause(20 * MS);
        }
        let run = running.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        run.map(|run| (run, seen))
    });
    let (run, seen) = seen?;
    assert_eq!(run.outcome, Outcome::TimedOut, "{run:?}");
    let (ipmitool, others): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|line| line.contains("ipmitool "));
    assert!(others.iter().any(|line| line.contains("fence_ipmilan")), "{others:?}");
    assert!(others.iter().all(|line| !line.contains(USER.1)), "{others:?}");
    // It stars the password out soon after its start; that it was there is what `vipctl check`
    // warns of.
    assert!(ipmitool.iter().any(|line| line.contains(" -P ")), "{ipmitool:?}");
    assert!(rig.hap1.has_power());
    Ok(())
}

/// The emulator takes up to 11 s to switch.
#[test]
fn redfish_is_off_when_it_is_off() -> Result {
    let rig = Rig::new("redfish")?;
    let systems = [("hap1", true), ("last", false)];
    let service = Redfish::start(&rig.rack, "192.168.34.11", &systems)?;
    let secret = rig.secret.to_string_lossy();
    let device = device_of(&service.device(Some("hap1"), &secret));
    assert_eq!(rig.run(&device, Verb::Status)?.outcome, Outcome::On);
    // What the configuration warns of: without a name it is another system that is asked.
    let any = device_of(&service.device(None, &secret));
    assert_eq!(rig.run(&any, Verb::Status)?.outcome, Outcome::Off);
    let off = rig.off(&device)?;
    assert_eq!(off.outcome, Outcome::Off, "{off:?}");
    assert!(off.took < 20 * SECOND, "{off:?}");
    assert_eq!(rig.run(&device, Verb::Status)?.outcome, Outcome::Off);
    println!("Redfish, off and seen to be off: {:?}", off.took);
    std::fs::write(&rig.secret, "wrong-one\n").map_err(Error::io("write the secret"))?;
    let refused = rig.run(&device, Verb::Status)?;
    assert!(!why(&refused).is_empty() && !refused.output.contains("wrong-one"), "{refused:?}");
    service.process.freeze()?;
    let hung =
        device_of(&service.device(Some("hap1"), &secret).replace(" }", ", timeout = \"2s\" }"));
    let hung = rig.run(&hung, Verb::Status)?;
    assert_eq!(hung.outcome, Outcome::TimedOut);
    assert!(hung.took < 3 * SECOND, "{hung:?}");
    assert_eq!(rig.started(), []);
    service.process.thaw()?;
    Ok(())
}
