//! The packaged service on a real systemd: not root, little exposed, reloaded, watched, stopped.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`, and `vipd` built in the profile of the test.

use std::path::Path;

use netns_tests::nspawn::{Host, SERVICE};

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_IPC_LOCK`, `CAP_SYS_NICE` and `CAP_BPF`.
const CAPABILITIES: &str = "0000008000807000";
const VIP: &str = "192.0.2.100";
const SECOND_VIP: &str = "192.0.2.101";

fn config(addresses: &str, proxy: &str) -> String {
    format!(
        r#"cluster = {{ name = "lb" }}

[[node]]
name = "hap1"
address = "192.0.2.1"

[[node]]
name = "hap2"
address = "192.0.2.2"

[[group]]
name = "postgres"
vrid = 85
addresses = [{addresses}]
{proxy}
"#
    )
}

/// A host with everything of the package but the programs.
fn packaged() -> Host {
    let host = Host::boot("hap1", None).unwrap_or_else(|e| panic!("{e}"));
    host.install(&SERVICE).unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl disable --now haproxy.service; systemd-sysusers; systemctl daemon-reload");
    host.sh("systemctl restart polkit.service");
    host
}

/// A host on which the service runs and holds its address.
fn serving(addresses: &str, proxy: &str) -> Host {
    let host = packaged();
    host.install_programs().unwrap_or_else(|e| panic!("{e}"));
    host.sh("ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up");
    host.sh("ip address add 192.0.2.1/24 dev eth0");
    configure(&host, &config(addresses, proxy));
    host.sh("systemctl start vipd.service || { journalctl -u vipd --no-pager; exit 1; }");
    comes(&host, &format!("ip -o address | grep -q ' {VIP}/'"));
    host
}

fn configure(host: &Host, text: &str) {
    host.write("/etc/vipd/vipd.toml", text.as_bytes(), 0o644).unwrap_or_else(|e| panic!("{e}"));
}

/// Waits until a shell condition holds in the host.
fn comes(host: &Host, condition: &str) {
    let script = format!(
        "for i in $(seq 200); do {condition} && exit 0; sleep 0.05; done; \
         ip address; journalctl -u vipd --no-pager | tail -50; exit 1"
    );
    host.sh(&script);
}

fn fails(host: &Host, script: &str) -> String {
    let output = host.run(["/bin/sh", "-c", script]).unwrap_or_else(|e| panic!("{e}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{script} succeeded");
    text
}

fn main_pid(host: &Host) -> String {
    host.sh("systemctl show -P MainPID vipd.service")
}

#[test]
fn polkit_lets_vipd_manage_proxies_and_nothing_else() {
    let host = packaged();
    let as_vipd = "setpriv --reuid=vipd --regid=vipd --clear-groups";
    host.sh(&format!("{as_vipd} systemctl --no-ask-password start haproxy.service"));
    host.sh(&format!("{as_vipd} systemctl --no-ask-password kill -s HUP haproxy.service"));
    host.sh(&format!("{as_vipd} systemctl --no-ask-password stop haproxy.service"));
    for refused in [
        "systemctl --no-ask-password start systemd-tmpfiles-clean.service",
        "systemctl --no-ask-password stop dbus.service",
        "systemctl --no-ask-password enable haproxy.service",
        "systemctl --no-ask-password set-property haproxy.service CPUWeight=1",
        "systemd-run --no-ask-password /bin/true",
        "systemd-run --no-ask-password --unit=haproxy.service /bin/true",
    ] {
        fails(&host, &format!("{as_vipd} {refused}"));
    }
    fails(
        &host,
        "setpriv --reuid=nobody --clear-groups systemctl --no-ask-password start haproxy.service",
    );
}

#[test]
fn the_unit_is_valid_and_little_exposed() {
    let host = packaged();
    for program in ["vipd", "vipctl"] {
        let path = format!("/usr/bin/{program}");
        host.write(&path, b"#!/bin/sh\n", 0o755).unwrap_or_else(|e| panic!("{e}"));
    }
    let said = host.sh("systemd-analyze verify --man=no /usr/lib/systemd/system/vipd.service 2>&1");
    assert_eq!(said, "");
    println!("{}", host.sh("systemd-analyze security --no-pager vipd.service | tail -1"));
    host.sh("systemd-analyze security --no-pager --threshold=30 vipd.service");
}

#[test]
fn the_drop_in_for_a_watchdog_is_valid_and_opens_little_more() {
    let host = packaged();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let drop_in = "/etc/systemd/system/vipd.service.d/watchdog.conf";
    host.sh("mkdir -p /etc/systemd/system/vipd.service.d");
    host.copy_in(&sources.join("vipd-watchdog.conf"), drop_in, 0o644)
        .unwrap_or_else(|e| panic!("{e}"));
    host.install_programs().unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl daemon-reload");
    let said = host.sh("systemd-analyze verify --man=no /usr/lib/systemd/system/vipd.service 2>&1");
    assert_eq!(said, "");
    host.sh("systemd-analyze security --no-pager --threshold=35 vipd.service");
    let show = |what: &str| host.sh(&format!("systemctl show -P {what} vipd.service"));
    assert!(show("AmbientCapabilities").contains("cap_sys_boot"));
    assert!(show("AmbientCapabilities").contains("cap_net_admin"), "beside those of the unit");
    assert!(show("SystemCallFilter").split(' ').any(|call| call == "reboot"));
    assert_eq!((show("PrivateDevices"), show("DevicePolicy")), ("no".into(), "closed".into()));

    // A host without the device: vipd says so and goes on.
    host.sh("ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up");
    host.sh("ip address add 192.0.2.1/24 dev eth0");
    let watchdog = "[watchdog]\ndevice = \"/dev/watchdog0\"\n";
    configure(&host, &config(&format!("\"{VIP}/24\""), watchdog));
    host.sh("systemctl start vipd.service");
    comes(&host, "vipctl status | grep -q watchdog-missing");
    comes(&host, &format!("ip -o address | grep -q ' {VIP}/'"));
    host.sh("systemctl stop vipd.service");
}

#[test]
fn the_service_is_not_root_and_leaves_nothing_behind() {
    let host = serving(&format!("\"{VIP}/24\""), "");
    assert_eq!(host.sh("systemctl is-active vipd.service"), "active");
    let pid = main_pid(&host);
    assert_eq!(host.sh(&format!("stat -c %U /proc/{pid}")), "vipd");
    let status = host.sh(&format!("cat /proc/{pid}/status"));
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t{CAPABILITIES}\n")), "{set} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    let classes = host.sh(&format!("ps -L -o cls= -p {pid}"));
    assert!(classes.contains("RR"), "no thread is real-time: {classes}");
    let locked = status.lines().find(|l| l.starts_with("VmLck:")).unwrap_or_default();
    assert!(!locked.ends_with("\t       0 kB"), "no memory is locked: {locked:?}");
    host.sh("test -S /run/vipd/vipd.sock && vipctl status");
    fails(&host, "journalctl -u vipd | grep gate-missing");

    host.sh("systemctl stop vipd.service");
    assert_eq!(host.sh("systemctl show -P Result vipd.service"), "success");
    fails(&host, &format!("ip -o address | grep ' {VIP}/'"));
    fails(&host, "test -e /run/vipd/vipd.sock");
}

#[test]
fn a_reload_applies_a_good_file_and_a_bad_one_changes_nothing() {
    let host = serving(&format!("\"{VIP}/24\""), "");
    let pid = main_pid(&host);
    configure(&host, "this is no configuration");
    fails(&host, "systemctl reload vipd.service");
    comes(&host, "systemctl is-active -q vipd.service");
    host.sh(&format!("ip -o address | grep ' {VIP}/'"));

    configure(&host, &config(&format!("\"{VIP}/24\", \"{SECOND_VIP}/24\""), ""));
    host.sh("systemctl reload vipd.service");
    comes(&host, &format!("ip -o address | grep -q ' {SECOND_VIP}/'"));
    host.sh(&format!("ip -o address | grep ' {VIP}/'"));
    assert_eq!(main_pid(&host), pid, "it is the same process");
}

#[test]
fn the_watchdog_replaces_a_daemon_that_stands_still() {
    let host = serving(&format!("\"{VIP}/24\""), "");
    let pid = main_pid(&host);
    host.sh(&format!("kill -STOP {pid}"));
    comes(&host, "test $(systemctl show -P NRestarts vipd.service) = 1");
    comes(&host, "systemctl is-active -q vipd.service");
    assert_ne!(main_pid(&host), pid);
    comes(&host, &format!("ip -o address | grep -q ' {VIP}/'"));
}

#[test]
fn a_bad_configuration_is_not_tried_again() {
    let host = serving(&format!("\"{VIP}/24\""), "");
    host.sh("systemctl stop vipd.service");
    configure(&host, "this is no configuration");
    fails(&host, "systemctl start vipd.service");
    assert_eq!(host.sh("systemctl show -P NRestarts vipd.service"), "0");
}

#[test]
fn haproxy_runs_only_where_the_address_is() {
    let proxy = r#"proxy = { unit = "haproxy.service", run = "active" }"#;
    let host = serving(&format!("\"{VIP}/24\""), proxy);
    comes(&host, "systemctl is-active -q haproxy.service");
    let first = host.sh("systemctl show -P MainPID haproxy.service");
    host.sh("systemctl kill -s KILL haproxy.service");
    comes(&host, &format!("test $(systemctl show -P MainPID haproxy.service) -gt {first}"));
    comes(&host, "systemctl is-active -q haproxy.service");

    host.sh("systemctl stop vipd.service");
    assert_ne!(host.sh("systemctl is-active haproxy.service || true"), "active");
    fails(&host, &format!("ip -o address | grep ' {VIP}/'"));
}

/// As packaged there is no other user to become, and no right to be had.
#[test]
fn hooks_are_called_as_vipd_in_its_sandbox_also_at_the_end() {
    const CALLS: &str = "/var/lib/vipd/calls";
    let script = format!(
        "#!/bin/sh\necho \"$VIPD_KIND $(id -un) $(grep CapEff /proc/self/status | cut -f 2) \
         $(touch /etc/mine 2>&1 | grep -c Read-only)\" >>{CALLS}\n"
    );
    let hook = "[[hook]]\nrun = [\"/etc/vipd/notify\"]\n";
    let host = serving(&format!("\"{VIP}/24\""), hook);
    // It was not there yet: that is told, and nothing else suffers.
    comes(&host, "vipctl status | grep -q '/etc/vipd/notify is not there'");
    host.write("/etc/vipd/notify", script.as_bytes(), 0o755).unwrap_or_else(|e| panic!("{e}"));
    host.sh("vipctl hook notify --state backup");
    host.sh("systemctl restart vipd.service");
    comes(&host, &format!("grep -q active {CALLS}"));
    host.sh("systemctl stop vipd.service");
    let expected =
        ["backup", "active", "stop"].map(|kind| format!("{kind} vipd 0000000000000000 1"));
    assert_eq!(host.sh(&format!("cat {CALLS}")), expected.join("\n"));
    let refused = fails(&host, "chmod 777 /etc/vipd/notify; vipctl check >/dev/stderr");
    assert!(refused.contains("vipd would refuse it: /etc/vipd/notify: everybody"), "{refused}");
}
