//! The packaged service on real systemds, with addresses held by lease: restarts that nobody
//! sees, a stop, a crash.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`, and `vipd` built in the profile of the test.

#![allow(clippy::print_stdout, reason = "it prints the figures")]

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::nspawn;
use netns_tests::session::{Database, Habit, Session};
use netns_tests::{Host, Lab, Probe, Result, Stamp, Watch, pause};

const VIP: &str = "192.168.34.85";
const PORT: u16 = 7;
const DATABASE: u16 = 5432;
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);
/// How often the client asks.
const EVERY: Duration = Duration::from_millis(5);

const FILES: [&str; 3] = ["vipd.service", "vipd-gate.service", "vipd.sysusers"];

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

fn config() -> String {
    let node =
        |n: u8| format!("[[node]]\nname = \"hap{n}\"\naddress = \"192.168.34.{}\"\n", 131 + n);
    let nodes: String = (1..=3).map(node).collect();
    format!(
        "[cluster]\nname = \"lb\"\nsecret = \"/etc/vipd/secret\"\n{nodes}\n\
         [[group]]\nname = \"postgres\"\nvrid = 85\naddresses = [\"{VIP}/24\"]\n"
    )
}

/// Three machines with the packaged service, and a client that asks all the time.
struct Three {
    probe: Probe,
    machines: Vec<nspawn::Host>,
    watch: Watch,
    hosts: Vec<Host>,
    _lab: Lab,
}

impl Three {
    fn start(label: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let watch = Watch::new();
        let (mut hosts, mut machines) = (Vec::new(), Vec::new());
        for n in 1..=3 {
            let name = format!("hap{n}");
            let host = lab.host(&name, &[&format!("192.168.34.{}/24", 131 + n)])?;
            host.echo(PORT)?;
            watch.follow(&host)?;
            machines.push(machine(&name, host.namespace()));
            hosts.push(host);
        }
        let client = lab.host("client", &["192.168.34.10/24"])?;
        for machine in &machines {
            machine.sh("systemctl start vipd.service || { journalctl -u vipd; exit 1; }");
        }
        let held = watch.wait_event(vip(), true, Stamp::default(), 10 * SECOND);
        held.inspect_err(|_| story(&machines))?;
        // Until every voter was seen with this configuration.
        pause(3 * SECOND);
        let probe = Probe::start(&client, (vip(), PORT).into(), EVERY)?;
        hosts.push(client);
        probe.wait_answer(Stamp::now(), SECOND)?;
        Ok(Self { probe, machines, watch, hosts, _lab: lab })
    }

    fn holder(&self) -> &nspawn::Host {
        let now = self.watch.holders_now(vip());
        let mut all = self.machines.iter();
        all.find(|m| now.contains(m.name())).unwrap_or_else(|| panic!("held by {now:?}"))
    }

    /// How many probes were lost since, and the longest time without an answer. One that is on
    /// its way counts as lost.
    fn loss(&self, what: &str, (since, before): (Stamp, usize)) -> (usize, Duration) {
        let all = self.probe.timeline();
        let gap = all.outage_after(since).length();
        let lost = all.lost().saturating_sub(before);
        let (answers, took) =
            (all.answers.iter().filter(|a| a.sent >= since).count(), all.to.since(since));
        println!("{what}: {lost} lost, {answers} answered in {took:?}, longest gap {gap:?}");
        (lost, gap)
    }

    /// Now, and how many were lost before.
    fn mark(&self) -> (Stamp, usize) {
        (Stamp::now(), self.probe.timeline().lost())
    }

    fn never_two(&self) {
        assert_eq!(self.watch.two_holders(vip()), []);
    }
}

/// How long a restart took, as systemd saw it: until the old process was gone, until the new one
/// was forked, until it was ready.
fn phases(machine: &nspawn::Host) -> String {
    let at = |property: &str| -> u64 {
        let text = machine.sh(&format!("systemctl show -P {property}TimestampMonotonic vipd"));
        text.parse().unwrap_or_default()
    };
    let names = ["InactiveEnter", "ExecMainStart", "ActiveEnter"];
    let [gone, forked, ready] = names.map(|name| Duration::from_micros(at(name)));
    let began = Duration::from_micros(at("ActiveExit"));
    format!(
        "gone after {:?}, forked {:?} later, ready {:?} later",
        gone.saturating_sub(began),
        forked.saturating_sub(gone),
        ready.saturating_sub(forked)
    )
}

/// What the daemons say of it.
fn story(machines: &[nspawn::Host]) {
    for machine in machines {
        let said = machine.sh("journalctl -u vipd -o short-monotonic --no-pager | tail -60");
        println!("--- {}\n{said}", machine.name());
    }
}

fn machine(name: &str, namespace: &str) -> nspawn::Host {
    let netns = format!("/run/netns/{namespace}");
    let host = nspawn::Host::boot(name, Some(&netns)).unwrap_or_else(|e| panic!("{e}"));
    host.install(&FILES).unwrap_or_else(|e| panic!("{e}"));
    host.install_programs().unwrap_or_else(|e| panic!("{e}"));
    host.write("/etc/vipd/vipd.toml", config().as_bytes(), 0o644)
        .and_then(|()| host.write("/etc/vipd/secret", KEY.as_bytes(), 0o640))
        .unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl disable --now haproxy.service; systemd-sysusers; systemctl daemon-reload");
    host.sh("chown root:vipd /etc/vipd/secret");
    host
}

#[test]
fn a_restart_is_not_seen_by_clients() -> Result {
    let three = Three::start("restart")?;
    let from = three.mark();
    let first = three.holder().name();
    for turn in 1..=5 {
        let holder = three.holder();
        let began = three.mark();
        holder.sh("systemctl restart vipd.service");
        pause(2 * SECOND);
        println!("{}: {}", holder.name(), phases(holder));
        three.loss(&format!("restart {turn}"), began);
    }
    let (lost, gap) = three.loss("five restarts", from);
    story(&three.machines);
    three.never_two();
    assert_eq!(three.watch.holders_now(vip()).len(), 1);
    assert_eq!(three.holder().name(), first);
    let moved = three.watch.events().into_iter().filter(|e| e.ip == vip() && e.at >= from.0);
    assert_eq!(moved.count(), 0, "the address never left");
    assert!(lost <= 1, "{lost} lost, longest gap {gap:?}");
    Ok(())
}

#[test]
fn a_stop_hands_over_and_clients_are_told() -> Result {
    let three = Three::start("stop")?;
    let before = three.holder().name().to_owned();
    let serve = |host: &Host| Database::start(host, DATABASE);
    let _databases: Vec<_> = three.hosts.iter().map(serve).collect::<Result<_>>()?;
    let client = three.hosts.last().expect("the client");
    let session = Session::open(client, (vip(), DATABASE).into(), Habit::Idle)?;
    pause(SECOND);
    let from = three.mark();
    three.holder().sh("systemctl stop vipd.service");
    pause(2 * SECOND);
    let (_, gap) = three.loss("stop", from);
    three.never_two();
    assert_ne!(three.holder().name(), before);
    assert!(gap < SECOND, "{gap:?}");
    // The service may do that with what it is left of root's rights.
    let end = session.end();
    println!("an idle client knew after {:?}", end.as_ref().map(|end| end.at.since(from.0)));
    assert!(end.is_some_and(|end| end.reset), "{}", three.holder().sh("journalctl -u vipd"));
    Ok(())
}

#[test]
fn a_crash_is_over_within_the_lease_or_another_host_holds() -> Result {
    let three = Three::start("crash")?;
    let before = three.holder().name().to_owned();
    let from = three.mark();
    three.holder().sh("systemctl kill -s KILL vipd.service");
    pause(2 * SECOND);
    let (_, gap) = three.loss("kill", from);
    println!("held by {before}, then by {}", three.holder().name());
    story(&three.machines);
    three.never_two();
    assert!(gap < SECOND, "{gap:?}");
    Ok(())
}
