//! FRR's zebra and vrrpd.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::clock::wait_until;
use crate::host::Host;
use crate::process::Proc;
use crate::{Error, Result, run};

/// One virtual router on `eth0`, IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// 2 or 3.
    pub version: u8,
    /// Between adverts.
    pub interval: Duration,
    /// Virtual address, without prefix length.
    pub address: String,
}

/// Both daemons; `vrrpd` first, so that it is dropped, hence killed, first.
#[derive(Debug)]
pub struct Frr {
    /// The VRRP daemon.
    pub vrrpd: Proc,
    /// The kernel's interface to it.
    pub zebra: Proc,
    dir: String,
    namespace: String,
}

/// Where Debian puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";

impl Frr {
    /// Makes the interface that carries the virtual address and its hardware address, and starts
    /// both daemons on `host`.
    pub fn start(host: &Host, instance: &Instance) -> Result<Self> {
        let Instance { vrid, address, .. } = instance;
        host.ip(&format!(
            "link add vrrp4-2-{vrid} link eth0 type macvlan mode bridge\n\
             link set vrrp4-2-{vrid} address 00:00:5e:00:01:{vrid:02x}\n\
             addr add {address}/32 dev vrrp4-2-{vrid}\n\
             link set vrrp4-2-{vrid} up\n"
        ))?;
        let zebra_conf = host.write("frr/zebra.conf", "log stdout informational\n")?;
        let vrrpd_conf = host.write("frr/vrrpd.conf", &config(instance))?;
        let dir = host.dir().join("frr");
        open_up(&dir)?;
        let dir = dir.to_string_lossy().into_owned();
        let api = format!("{dir}/zserv.api");
        // That of a predecessor would be taken for the new one's; usually there is none.
        let _ = std::fs::remove_file(&api);
        let zebra = daemon(host, "zebra", &zebra_conf, &dir)?;
        wait_until("zebra's socket", Duration::from_secs(5), || Ok(Path::new(&api).exists()))?;
        let vrrpd = daemon(host, "vrrpd", &vrrpd_conf, &dir)?;
        Ok(Self { vrrpd, zebra, dir, namespace: host.namespace().to_owned() })
    }

    /// `show vrrp json`.
    pub fn show(&self) -> Result<serde_json::Value> {
        let what = "show vrrp json";
        let vtysh = ["vtysh", "--vty_socket", &self.dir, "-d", "vrrpd", "-c", what];
        let mut argv = vec!["ip", "netns", "exec", &self.namespace];
        argv.extend(vtysh);
        let text = run::stdout(&argv)?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Answer { what: what.to_owned(), text: format!("{e}: {text}") })
    }

    /// Whether its IPv4 virtual router is Active, which FRR calls Master.
    pub fn is_active(&self) -> Result<bool> {
        Ok(self.show()?[0]["v4"]["status"] == "Master")
    }

    /// Asks both to end, `vrrpd` first, as its own init script does.
    pub fn term(&mut self) -> Result {
        self.vrrpd.term()?;
        self.vrrpd.wait(Duration::from_secs(5))?;
        self.zebra.term()
    }
}

fn config(instance: &Instance) -> String {
    let Instance { vrid, priority, version, address, .. } = instance;
    let mut text =
        format!("log stdout informational\ninterface eth0\n vrrp {vrid} version {version}\n");
    let _ = writeln!(text, " vrrp {vrid} priority {priority}");
    let _ = writeln!(text, " vrrp {vrid} advertisement-interval {}", instance.interval.as_millis());
    let _ = writeln!(text, " vrrp {vrid} ip {address}");
    text
}

fn daemon(host: &Host, name: &str, config: &Path, dir: &str) -> Result<Proc> {
    let program = format!("{DAEMONS}/{name}");
    let config = config.to_string_lossy().into_owned();
    let (pid, api) = (format!("{dir}/{name}.pid"), format!("{dir}/zserv.api"));
    let argv = [
        &program,
        "-f",
        &config,
        "-i",
        &pid,
        "-z",
        &api,
        "--vty_socket",
        dir,
        "-P",
        "0",
        "--log",
        "stdout",
    ];
    host.spawn(name, &argv)
}

/// The daemons run as a user of their own, which has to write there.
fn open_up(dir: &Path) -> Result {
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(Error::io(format!("chmod {}", path.display())))
    };
    mode(dir, 0o777)?;
    let entries = std::fs::read_dir(dir).map_err(Error::io("list the FRR directory"))?;
    entries.flatten().try_for_each(|entry| mode(&entry.path(), 0o644))
}
