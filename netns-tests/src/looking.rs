//! A host that has hundreds of checks, of what a load balancer looks at: what they cost.

use std::time::Duration;

use crate::clock::{pause, wait_until};
use crate::peer::backend::Backend;
use crate::peer::haproxy::{self, Mode};
use crate::peer::postgresql;
use crate::peer::vipd::Vipd;
use crate::process::{Proc, tree};
use crate::usage::{Usage, cpu_percent};
use crate::{Host, Lab, Result};

/// How many there are; each is run once a second.
pub const CHECKS: usize = 500;

/// The kinds, by how many of ten are of each: all that neither fork nor need systemd.
const MIX: [&str; 10] = [
    "tcp = \"127.0.0.1:5000\"",
    "haproxy = \"SOCKET\"\nbackend = \"servers\"",
    "http = \"http://192.168.34.10:8000/\"",
    "postgresql = \"192.168.34.10:5432\"",
    "process = \"PID\"",
    "tcp = \"192.168.34.10:8000\"",
    "http = \"http://127.0.0.1:5001/\"",
    "file = \"/nonexistent\"",
    "ping = \"192.168.34.10\"",
    "neighbour = \"192.168.34.10\"",
];

/// The daemon with its checks, and what they look at.
#[derive(Debug)]
pub struct Looking {
    vipd: Vipd,
    _peers: Vec<Proc>,
    _servers: [Backend; 2],
    _lab: Lab,
}

impl Looking {
    /// Starts everything, and waits until every check has passed.
    pub fn start() -> Result<Self> {
        let lab = Lab::new("looking")?;
        let host = lab.host("hap1", &["192.168.34.132/24"])?;
        // As systemd sets it.
        host.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
        let far = lab.host("pg1", &["192.168.34.10/24"])?;
        let servers = [Backend::start(&far, 8000)?, Backend::start(&host, 5001)?];
        let at = ("pg1", "192.168.34.10:8000".parse().unwrap_or(([0, 0, 0, 0], 0).into()));
        let proxy = haproxy::start(&host, Mode::Tcp, 5000, &[at])?;
        let peers = vec![postgresql::start(&far)?, proxy];
        let pid = host.write("haproxy.pid", &peers[1].pid().to_string())?;
        let config = config(&host, &pid.to_string_lossy(), CHECKS);
        let vipd = Vipd::start(&host, &config)?;
        wait_until("checks that pass", Duration::from_secs(30), || {
            let Ok(status) = vipd.status() else { return Ok(false) };
            let checks = status["groups"][0]["checks"].as_array().cloned().unwrap_or_default();
            Ok(checks.len() == CHECKS && checks.iter().all(|c| c["verdict"] == true))
        })?;
        pause(Duration::from_secs(2));
        Ok(Self { vipd, _peers: peers, _servers: servers, _lab: lab })
    }

    /// The share of one processor that the daemon uses over `during`, in percent.
    pub fn cpu(&self, during: Duration) -> f64 {
        let pids = tree(self.vipd.process.pid());
        cpu_percent(&[&pids], during).first().copied().unwrap_or_default()
    }

    /// Its resident memory in MiB.
    pub fn rss_mib(&self) -> f64 {
        let kib = Usage::of(&tree(self.vipd.process.pid())).rss_kib;
        u32::try_from(kib).map_or(f64::MAX, f64::from) / 1024.0
    }
}

fn config(host: &Host, pid: &str, count: usize) -> String {
    let mut text = String::from(
        "[cluster]\nname = \"lb\"\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\n\
         [[group]]\nname = \"postgres\"\nvrid = 85\nsafety = \"vrrp\"\n\
         addresses = [\"192.168.34.85/24\"]\n",
    );
    let socket = haproxy::socket(host).to_string_lossy().into_owned();
    for (n, kind) in MIX.iter().cycle().take(count).enumerate() {
        let kind = kind.replace("SOCKET", &socket).replace("PID", pid);
        text += &format!("\n[[check]]\nname = \"c{n}\"\n{kind}\ninterval = \"1s\"\n");
    }
    text
}
