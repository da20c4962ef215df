//! The packaged service fences: its agents work inside its sandbox, with a secret that is a
//! credential of the unit.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`, and `vipd` built in the profile of the test.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab waits in real time, and prints what the host says"
)]

use std::path::Path;
use std::time::Duration;

use netns_tests::nspawn;
use netns_tests::peer::bmc::{Bmc, USER};
use netns_tests::peer::vipd::Vipd;
use netns_tests::trio::KEY;
use netns_tests::{Lab, wait_until};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const FILES: [&str; 3] = ["vipd.service", "vipd-gate.service", "vipd.sysusers"];
/// The agent is Debian's, from this machine; what it needs is on the host.
const AGENT: [&str; 2] = ["/usr/sbin/fence_ipmilan", "/usr/share/fence/fencing.py"];
/// As the documentation has it.
const DROP_IN: &str = "[Service]\nLoadCredential=bmc:/root/bmc\n";

/// The file of two nodes; `device` fences the second one.
fn config(secret: &str, device: &str) -> String {
    format!(
        "[cluster]\nname = \"lb\"\nsecret = \"{secret}\"\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\n\
         fence = {{ agent = \"/bin/false\" }}\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\nfence = {device}\n\
         [[group]]\nname = \"web\"\nvrid = 85\naddresses = [\"192.168.34.85/24\"]\n\
         safety = \"lease+fence\"\n"
    )
}

/// A host with the package and the agent, not started.
fn packaged(namespace: &str, device: &str) -> Result<nspawn::Host, nspawn::Error> {
    let host = nspawn::Host::boot("hap1", Some(&format!("/run/netns/{namespace}")))?;
    host.install(&FILES)?;
    host.install_programs()?;
    for path in AGENT {
        host.copy_in(Path::new(path), path, 0o755)?;
    }
    host.write("/etc/systemd/system/vipd.service.d/bmc.conf", DROP_IN.as_bytes(), 0o644)?;
    host.write("/root/bmc", USER.1.as_bytes(), 0o600)?;
    host.write("/etc/vipd/vipd.toml", config("/etc/vipd/secret", device).as_bytes(), 0o644)?;
    host.write("/etc/vipd/secret", KEY.as_bytes(), 0o640)?;
    host.sh("systemctl disable --now haproxy.service; systemd-sysusers; systemctl daemon-reload");
    host.sh("chown root:vipd /etc/vipd/secret");
    Ok(host)
}

#[test]
fn the_packaged_service_cuts_the_power_of_a_lost_node() -> netns_tests::Result {
    let lab = Lab::new("sandbox")?;
    let one = lab.host("hap1", &["192.168.34.132/24"])?;
    let two = lab.host("hap2", &["192.168.34.133/24"])?;
    let rack = lab.host("rack", &["192.168.34.12/24"])?;
    let bmc = Bmc::start(&rack, &two, "192.168.34.12")?;
    let device = bmc
        .device("PASSWORD")
        .replace("password-file = \"PASSWORD\"", "password-credential = \"bmc\"");
    let host = packaged(one.namespace(), &device).unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl start vipd.service || { journalctl -u vipd; exit 1; }");

    let key = two.write("key", KEY)?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a file of the lab");
    let mut other = Vipd::start(&two, &config(&key.to_string_lossy(), &device))?;
    let status = || host.sh("vipctl status --json");
    let holds = || {
        let status: Value = serde_json::from_str(&status()).unwrap_or_default();
        status["groups"][0]["role"] == "active"
    };
    let journal = || host.sh("journalctl -u vipd -o cat --no-pager");
    // Whoever is first when both hear each other.
    wait_until("one of them holds", 20 * SECOND, || {
        Ok(holds() || other.role("web").is_ok_and(|role| role == "active"))
    })?;
    if !holds() {
        println!("{}", host.sh("vipctl move web hap1"));
    }
    let held = wait_until("the packaged service holds", 5 * SECOND, || Ok(holds()));
    held.inspect_err(|_| println!("{}\n{}", status(), journal()))?;
    other.wait_role("web", "backup", 10 * SECOND)?;
    // Before it is needed: the device answers, asked from inside.
    let asked = wait_until("an answer of the device", 20 * SECOND, || {
        Ok(status().contains("the power is on"))
    });
    asked.inspect_err(|_| println!("{}\n{}", status(), journal()))?;

    one.cut_between(&two)?;
    let cut = wait_until("a reboot of the other one", 20 * SECOND, || {
        Ok(bmc.history().iter().map(|(_, on)| *on).eq([false, true]))
    });
    cut.inspect_err(|_| println!("{:?}\n{}", bmc.history(), journal()))?;
    let history = host.sh("vipctl fence history");
    assert!(history.contains("hap2 is verified off"), "{history}");
    assert!(holds(), "it goes on");
    // The secret is nowhere but where it was put.
    let said = journal() + &status() + &history;
    assert!(!said.contains(USER.1), "{said}");
    Ok(())
}
