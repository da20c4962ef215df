//! keepalived, the VRRP half.

use std::fmt::Write;
use std::time::Duration;

use crate::Result;
use crate::host::Host;
use crate::process::Proc;

/// One `vrrp_instance`; its addresses are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// 2 or 3.
    pub version: u8,
    /// Between adverts; whole seconds in version 2.
    pub interval: Duration,
    /// Virtual addresses with prefix length.
    pub addresses: Vec<String>,
    /// Whether it takes over from a lower priority that is alive.
    pub preempt: bool,
    /// Version 2 password.
    pub password: Option<String>,
    /// Unicast from the first to the others, instead of multicast.
    pub unicast: Option<(String, Vec<String>)>,
    /// Interface.
    pub interface: String,
}

impl Instance {
    /// Version 3, 100 ms, multicast on `eth0`, and preempting, as keepalived does by default.
    pub fn new(vrid: u8, priority: u8, addresses: &[&str]) -> Self {
        Self {
            vrid,
            priority,
            version: 3,
            interval: Duration::from_millis(100),
            addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
            preempt: true,
            password: None,
            unicast: None,
            interface: "eth0".to_owned(),
        }
    }

    fn text(&self) -> String {
        let Self { vrid, priority, version, interface, .. } = self;
        let family = if self.addresses.iter().any(|a| a.contains(':')) { 6 } else { 4 };
        let mut text = format!(
            "vrrp_instance v{vrid}_{family} {{\n  state BACKUP\n  interface {interface}\n  \
             virtual_router_id {vrid}\n  priority {priority}\n  version {version}\n  \
             advert_int {}\n",
            self.interval.as_secs_f64()
        );
        if !self.preempt {
            text.push_str("  nopreempt\n");
        }
        if let Some(password) = &self.password {
            let _ = writeln!(
                text,
                "  authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}"
            );
        }
        if let Some((source, peers)) = &self.unicast {
            let peers = peers.join("\n    ");
            let _ =
                writeln!(text, "  unicast_src_ip {source}\n  unicast_peer {{\n    {peers}\n  }}");
        }
        let addresses = self.addresses.join("\n    ");
        let _ = writeln!(text, "  virtual_ipaddress {{\n    {addresses}\n  }}\n}}");
        text
    }
}

/// `keepalived.conf` with `instances`.
pub fn config(router: &str, instances: &[Instance]) -> String {
    let instances: String = instances.iter().map(Instance::text).collect();
    format!("global_defs {{\n  router_id {router}\n}}\n{instances}")
}

/// Starts keepalived on `host`, in the foreground, with pid files and log of its own.
pub fn start(host: &Host, instances: &[Instance]) -> Result<Proc> {
    start_with(host, &config(host.name(), instances))
}

/// The same with a whole configuration file.
pub fn start_with(host: &Host, config: &str) -> Result<Proc> {
    let config = host.write("keepalived/keepalived.conf", config)?;
    let dir = host.run_dir()?;
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (main, child) = (file("keepalived.pid"), file("vrrp.pid"));
    for stale in [&main, &child] {
        // It refuses to start over one of a killed predecessor; usually there is none.
        let _ = std::fs::remove_file(stale);
    }
    let config = config.to_string_lossy().into_owned();
    let argv = ["keepalived", "-n", "-l", "-P", "-p", &main, "-r", &child, "-f", &config];
    host.spawn("keepalived", &argv)
}
