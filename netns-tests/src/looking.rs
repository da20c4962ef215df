//! A host that has hundreds of checks, of what a load balancer looks at: what they cost.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::clock::{pause, wait_until};
use crate::peer::backend::Backend;
use crate::peer::haproxy::{self, Mode};
use crate::peer::postgresql;
use crate::peer::vipd::Vipd;
use crate::process::{Proc, tree};
use crate::usage::{Usage, cpu_percent};
use crate::{Error, Host, Lab, Result};

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

/// Those that HAProxy has too: how vipd looks, what a backend of HAProxy's says for the same, and
/// where its servers are.
const COMMON: [(&str, &str, &str); 5] = [
    (MIX[0], "", "127.0.0.1:5000"),
    (MIX[5], "", "192.168.34.10:8000"),
    (MIX[2], "option httpchk GET /", "192.168.34.10:8000"),
    (MIX[6], "option httpchk GET /", "127.0.0.1:5001"),
    (MIX[3], "option pgsql-check user postgres", "192.168.34.10:5432"),
];

/// Which checks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All that neither fork nor need systemd.
    All,
    /// Those that HAProxy has too, and one that runs them.
    Common,
}

/// The daemon with its checks, and what they look at.
#[derive(Debug)]
pub struct Looking {
    vipd: Vipd,
    /// What runs the same checks.
    peer: Option<Proc>,
    _peers: Vec<Proc>,
    _servers: [Backend; 2],
    _lab: Lab,
}

impl Looking {
    /// Starts everything, and waits until every check has passed.
    pub fn start(mix: Mix) -> Result<Self> {
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
        let kinds: Vec<&str> = match mix {
            Mix::All => MIX.to_vec(),
            Mix::Common => COMMON.map(|(look, ..)| look).to_vec(),
        };
        let config = config(&host, &pid.to_string_lossy(), &kinds);
        let vipd = Vipd::start(&host, &config)?;
        wait_until("checks that pass", Duration::from_secs(30), || {
            let Ok(status) = vipd.status() else { return Ok(false) };
            let checks = status["groups"][0]["checks"].as_array().cloned().unwrap_or_default();
            Ok(checks.len() == CHECKS && checks.iter().all(|c| c["verdict"] == true))
        })?;
        let peer = (mix == Mix::Common).then(|| looker(&host)).transpose()?;
        pause(Duration::from_secs(2));
        Ok(Self { vipd, peer, _peers: peers, _servers: servers, _lab: lab })
    }

    /// The share of one processor that the daemon uses over `during`, in percent, and then that of
    /// HAProxy where it runs the same checks.
    pub fn cpu(&self, during: Duration) -> Vec<f64> {
        let both = std::iter::once(&self.vipd.process).chain(&self.peer);
        let trees: Vec<_> = both.map(|process| tree(process.pid())).collect();
        cpu_percent(&trees.iter().map(Vec::as_slice).collect::<Vec<_>>(), during)
    }

    /// Its resident memory in MiB.
    pub fn rss_mib(&self) -> f64 {
        let kib = Usage::of(&tree(self.vipd.process.pid())).rss_kib;
        u32::try_from(kib).map_or(f64::MAX, f64::from) / 1024.0
    }
}

fn config(host: &Host, pid: &str, kinds: &[&str]) -> String {
    let mut text = String::from(
        "[cluster]\nname = \"lb\"\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\n\
         [[group]]\nname = \"postgres\"\nvrid = 85\nsafety = \"vrrp\"\n\
         addresses = [\"192.168.34.85/24\"]\n",
    );
    let socket = haproxy::socket(host).to_string_lossy().into_owned();
    for (n, kind) in kinds.iter().cycle().take(CHECKS).enumerate() {
        let kind = kind.replace("SOCKET", &socket).replace("PID", pid);
        text += &format!("\n[[check]]\nname = \"c{n}\"\n{kind}\ninterval = \"1s\"\n");
    }
    text
}

/// HAProxy that serves nobody and runs the checks that it has too, as often.
fn looker(host: &Host) -> Result<Proc> {
    let socket = host.dir().join("looker.sock");
    let mut text = format!(
        "global\n stats socket {} mode 600 level admin\n spread-checks 10\n nbthread 1\n\
         defaults\n mode tcp\n timeout connect 1s\n timeout check 1s\n timeout server 1s\n",
        socket.display()
    );
    for (n, (_, option, at)) in COMMON.iter().enumerate() {
        text += &format!("backend b{n}\n {option}\n");
        for server in 0..CHECKS / COMMON.len() {
            text += &format!(" server s{server} {at} check inter 1s\n");
        }
    }
    let config = host.write("looker.cfg", &text)?;
    let looker = host.spawn("looker", &haproxy::command(&config).each_ref().map(String::as_str))?;
    wait_until("500 servers that HAProxy finds well", Duration::from_secs(10), || {
        let mut stats = UnixStream::connect(&socket).map_err(Error::io("ask HAProxy"))?;
        let mut text = String::new();
        let asked = stats.write_all(b"show stat -1 4 -1\n");
        asked.and_then(|()| stats.read_to_string(&mut text)).map_err(Error::io("ask HAProxy"))?;
        let passed = |line: &&str| [",L4OK,", ",L7OK,"].iter().any(|end| line.contains(end));
        Ok(text.lines().filter(passed).count() == CHECKS)
    })?;
    Ok(looker)
}
