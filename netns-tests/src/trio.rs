//! Three hosts that share an address, and a client: held by lease with the daemon, or with what it
//! is compared to.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::clock::wait_until;
use crate::cluster::said;
use crate::double::Double;
use crate::peer::keepalived::{self, Instance};
use crate::peer::vipd::Vipd;
use crate::{Error, Host, Lab, Proc, Result, Watch};

/// The address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 85);
/// Its group.
pub const GROUP: &str = "postgres";
/// Where the hosts answer.
pub const ECHO: u16 = 7;
/// Where voters hear each other.
pub const PORT: u16 = 8112;

const VRID: u8 = 85;
/// The key of the cluster.
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What decides who has the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The daemon, with a lease.
    Lease,
    /// The daemon with a lease, and a second network between the hosts.
    TwoPaths,
    /// The daemon as a plain VRRP router.
    Vrrp,
    /// keepalived: version 3, every 100 ms, without preemption.
    Keepalived,
}

/// What runs on a host.
#[derive(Debug)]
pub enum Daemon {
    /// The daemon.
    Vipd(Vipd),
    /// keepalived.
    Keepalived(Proc),
}

impl Daemon {
    /// Its process.
    pub fn process(&self) -> &Proc {
        match self {
            Self::Vipd(vipd) => &vipd.process,
            Self::Keepalived(process) => process,
        }
    }

    fn process_mut(&mut self) -> &mut Proc {
        match self {
            Self::Vipd(vipd) => &mut vipd.process,
            Self::Keepalived(process) => process,
        }
    }
}

/// Three hosts with the same right to one address. Who of them has it first is not fixed.
#[derive(Debug)]
pub struct Trio {
    /// What runs on each host; it ends before the hosts do.
    pub daemons: [Option<Daemon>; 3],
    /// Who has which address.
    pub watch: Watch,
    /// `hap1`, `hap2`, `hap3`.
    pub hosts: Vec<Host>,
    /// Somebody else on the link.
    pub client: Host,
    kind: Kind,
    /// The network; it goes last.
    pub lab: Lab,
}

impl Trio {
    /// Hosts without daemons; their addresses are watched, and they answer probes.
    pub fn new(label: &str, kind: Kind) -> Result<Self> {
        let lab = Lab::new(label)?;
        let watch = Watch::new();
        let mut hosts = Vec::new();
        for n in 1..=3 {
            let host = lab.host(&format!("hap{n}"), &[&format!("192.168.34.13{}/24", n + 1)])?;
            if kind == Kind::TwoPaths {
                host.plug("eth1", "br1", &[&format!("10.34.0.13{}/24", n + 1)])?;
            }
            host.echo(ECHO)?;
            watch.follow(&host)?;
            hosts.push(host);
        }
        let client = lab.host("client", &["192.168.34.200/24"])?;
        let secret = lab.dir().join("secret");
        let kept = std::fs::write(&secret, KEY);
        kept.and_then(|()| std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)))
            .map_err(Error::io("write a secret"))?;
        Ok(Self { daemons: [None, None, None], watch, hosts, client, kind, lab })
    }

    /// The same with all daemons started, and an address that is served.
    pub fn started(label: &str, kind: Kind) -> Result<Self> {
        let mut trio = Self::new(label, kind)?;
        trio.start_all(&trio.config())?;
        trio.wait_holder(Duration::from_secs(10))?;
        Ok(trio)
    }

    /// The file of the daemons.
    pub fn config(&self) -> String {
        let secret = self.lab.dir().join("secret");
        let safety = if self.kind == Kind::Vrrp { "vrrp" } else { "lease" };
        let mut text = format!("[cluster]\nname = \"lb\"\nsecret = \"{}\"\n", secret.display());
        for n in 1..=3 {
            text +=
                &format!("\n[[node]]\nname = \"hap{n}\"\naddress = \"192.168.34.13{}\"\n", n + 1);
            if self.kind == Kind::TwoPaths {
                text += &format!("paths = [\"10.34.0.13{}\"]\n", n + 1);
            }
        }
        text + &format!(
            "\n[[group]]\nname = \"{GROUP}\"\nvrid = {VRID}\naddresses = [\"{VIP}/24\"]\n\
             interface = \"eth0\"\nsafety = \"{safety}\"\n"
        )
    }

    /// The same for the first `nodes` of the hosts, with `safety` for their group, and for each what
    /// `device` says fences it.
    pub fn fenced(&self, nodes: usize, safety: &str, device: impl Fn(usize) -> String) -> String {
        let mut text = String::new();
        for part in self.config().split("\n\n") {
            let name = part.split('"').nth(1).unwrap_or_default();
            if part.starts_with("[[node]]") {
                let place = self.hosts.iter().position(|host| host.name() == name);
                let Some(n) = place.filter(|n| *n < nodes) else { continue };
                text += &format!("{}\nfence = {}\n\n", part.trim_end(), device(n));
            } else {
                text += &format!("{part}\n\n");
            }
        }
        text.replace("safety = \"lease\"", &format!("safety = \"{safety}\""))
    }

    /// Starts what runs on host number `n`.
    pub fn start(&mut self, n: usize) -> Result {
        self.start_with(n, &self.config())
    }

    /// The same with another file for the daemon.
    pub fn start_with(&mut self, n: usize, config: &str) -> Result {
        let host = &self.hosts[n];
        let daemon = if self.kind == Kind::Keepalived {
            let priority = u8::try_from(150 - 10 * n).unwrap_or(1);
            let mut instance = Instance::new(VRID, priority, &[&format!("{VIP}/24")]);
            instance.preempt = false;
            Daemon::Keepalived(keepalived::start(host, &[instance])?)
        } else {
            Daemon::Vipd(Vipd::start(host, config)?)
        };
        self.daemons[n] = Some(daemon);
        Ok(())
    }

    /// Starts what runs on every host, with this file.
    pub fn start_all(&mut self, config: &str) -> Result {
        (0..3).try_for_each(|n| self.start_with(n, config))
    }

    /// SIGKILL for what runs on host number `n`; what it had added stays.
    pub fn kill(&mut self, n: usize) {
        // Dropped, it is killed and waited for.
        self.daemons[n] = None;
    }

    /// Power loss of host number `n`.
    pub fn power_loss(&mut self, n: usize) -> Result {
        self.hosts[n].power_loss()?;
        self.kill(n);
        Ok(())
    }

    /// Power for host number `n`, and its daemon.
    pub fn power_on(&mut self, n: usize) -> Result {
        self.hosts[n].power_on()?;
        self.watch.follow(&self.hosts[n])?;
        self.start(n)
    }

    /// The daemon on host number `n`.
    ///
    /// # Panics
    /// If none runs there.
    pub fn vipd(&mut self, n: usize) -> &mut Vipd {
        match self.daemons[n].as_mut() {
            Some(Daemon::Vipd(vipd)) => vipd,
            Some(Daemon::Keepalived(_)) | None => panic!("no vipd on host number {n}"),
        }
    }

    /// What `vipctl` says on host number `n`.
    ///
    /// # Panics
    /// If no daemon of ours runs there, or `vipctl` does not succeed.
    pub fn ctl(&mut self, n: usize, arguments: &[&str]) -> Result<String> {
        let output = self.vipd(n).ctl(arguments)?;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        Ok(said(&output))
    }

    /// The process of what runs on host number `n`.
    ///
    /// # Panics
    /// If nothing runs there.
    pub fn process(&self, n: usize) -> &Proc {
        self.daemons[n].as_ref().map(Daemon::process).expect("a daemon runs there")
    }

    /// Every daemon that was started and has ended, and what it printed.
    pub fn ended(&mut self) -> Vec<(usize, String)> {
        let all = self.daemons.iter_mut().enumerate();
        let ended = all.filter_map(|(n, daemon)| {
            let process = daemon.as_mut()?.process_mut();
            (!process.is_running()).then(|| (n, process.log()))
        });
        ended.collect()
    }

    /// The hosts that have the address, by number.
    pub fn holders(&self) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for (n, host) in self.hosts.iter().enumerate() {
            if host.has(IpAddr::V4(VIP))? {
                found.push(n);
            }
        }
        Ok(found)
    }

    /// Waits until exactly one host has the address; its number.
    pub fn wait_holder(&self, within: Duration) -> Result<usize> {
        self.wait_holder_but(None, within)
    }

    /// Waits until exactly one host, but not number `but`, has the address; its number. Where
    /// `but` has it too, it does not count.
    pub fn wait_holder_but(&self, but: Option<usize>, within: Duration) -> Result<usize> {
        let mut holder = None;
        wait_until("one host with the address", within, || {
            let holders = self.holders()?;
            let mut others = holders.into_iter().filter(|n| Some(*n) != but);
            holder = others.next().filter(|_| others.next().is_none());
            Ok(holder.is_some())
        })?;
        holder.ok_or(Error::Timeout { what: "one host with the address".into(), within })
    }

    /// Asks every host for the address from now on.
    pub fn double(&self, every: Duration) -> Result<Double> {
        Double::start(&self.client, &self.hosts, (VIP, ECHO), every)
    }
}
