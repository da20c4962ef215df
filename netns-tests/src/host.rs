//! A host: a network namespace with its plugs, its programs and its faults.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::clock::Stamp;
use crate::echo::Echo;
use crate::netns::{processes, run_in};
use crate::process::{Proc, signal_all};
use crate::run;
use crate::switch::{Cut, Switch, ip_batch, sysctl};
use crate::{Error, Result};

/// A host of a lab. Clones are the same host.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    namespace: String,
    dir: PathBuf,
    index: u8,
    switch: Arc<Switch>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nics: Vec<Nic>,
    /// Ports on which the host answers probes while it has power.
    echo_ports: Vec<u16>,
    echoes: Vec<Echo>,
}

/// One plug.
#[derive(Clone, Debug)]
struct Nic {
    /// Its name on the host.
    name: String,
    /// The port of the switch it is plugged into.
    port: String,
    bridge: String,
    mac: String,
    addresses: Vec<String>,
}

impl Host {
    pub(crate) fn start(
        switch: Arc<Switch>,
        name: &str,
        index: u8,
        addresses: &[&str],
    ) -> Result<Self> {
        let dir = switch.dir.join(name);
        std::fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let namespace = format!("{}-{name}", switch.prefix);
        let state = Mutex::default();
        let name = name.to_owned();
        let host = Self(Arc::new(Inner { name, namespace, dir, index, switch, state }));
        host.make_namespace()?;
        host.plug("eth0", "br0", addresses)?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of its network namespace.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// A directory for its files; it survives a power loss, as a disk does.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The hardware address of its `eth0`.
    pub fn mac(&self) -> String {
        self.state().nics.first().map(|nic| nic.mac.clone()).unwrap_or_default()
    }

    /// The same as bytes.
    pub fn hardware(&self) -> Result<[u8; 6]> {
        let text = self.mac();
        let bytes = text.split(':').filter_map(|b| u8::from_str_radix(b, 16).ok());
        bytes.collect::<Vec<u8>>().try_into().map_err(|_| Error::Answer {
            what: format!("the hardware address of {}", self.name()),
            text,
        })
    }

    /// Adds an interface `nic` with `addresses`, plugged into `bridge`.
    pub fn plug(&self, nic: &str, bridge: &str, addresses: &[&str]) -> Result {
        let mut state = self.state();
        let number = state.nics.len();
        let name = self.name();
        let nic = Nic {
            name: nic.to_owned(),
            port: if number == 0 { name.to_owned() } else { format!("{name}.{number}") },
            bridge: bridge.to_owned(),
            mac: format!("02:00:00:00:{number:02x}:{:02x}", self.0.index),
            addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
        };
        self.connect(&nic)?;
        state.nics.push(nic);
        Ok(())
    }

    /// Runs `ip` commands, one a line, on the host.
    pub fn ip(&self, commands: &str) -> Result {
        ip_batch(self.namespace(), commands)
    }

    /// Sets a kernel parameter of the host, as in `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result {
        run_in(self.namespace(), || sysctl(key, value))
    }

    /// Runs a program on the host to its end; it gets 20 s.
    ///
    /// # Errors
    /// If it cannot be run or takes longer; not if it ends badly.
    pub fn run(&self, argv: &[&str]) -> Result<Output> {
        self.run_for(argv, run::DEADLINE)
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// If it cannot be run or takes longer; not if it ends badly.
    pub fn run_for(&self, argv: &[&str], within: Duration) -> Result<Output> {
        let mut all = vec!["ip", "netns", "exec", self.namespace()];
        all.extend(argv);
        run::output(&all, "", within)
    }

    /// Starts a program on the host; its output goes to `NAME.log` in [`Host::dir`].
    pub fn spawn(&self, name: &str, argv: &[&str]) -> Result<Proc> {
        self.spawn_with(name, argv, &[])
    }

    /// The same with variables added to its environment.
    pub fn spawn_with(&self, name: &str, argv: &[&str], env: &[(&str, &str)]) -> Result<Proc> {
        let log = self.dir().join(format!("{name}.log"));
        Proc::start(self.namespace(), argv, env, log)
    }

    /// Writes a file into [`Host::dir`] and gives its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir().join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text))
            .map_err(Error::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// A directory for sockets and pid files; empty after a power loss, as `/run` is.
    pub fn run_dir(&self) -> Result<PathBuf> {
        let path = self.dir().join("run");
        std::fs::create_dir_all(&path).map_err(Error::io(format!("make {}", path.display())))?;
        Ok(path)
    }

    /// A directory for the kernel's gate, on a BPF file system of its own; empty after a power loss,
    /// as all that is only in memory.
    pub fn gate_dir(&self) -> Result<PathBuf> {
        let path = self.run_dir()?.join("gate");
        std::fs::create_dir_all(&path).map_err(Error::io(format!("make {}", path.display())))?;
        let failed = || Error::errno(format!("mount {}", path.display()));
        if statfs(&path).map_err(failed())?.filesystem_type() != BPF_FS_MAGIC {
            let (none, flags) = (None::<&str>, MsFlags::empty());
            mount(Some("bpf"), &path, Some("bpf"), flags, none).map_err(failed())?;
        }
        Ok(path)
    }

    /// The processes that run on it.
    pub fn processes(&self) -> Vec<i32> {
        processes(self.namespace())
    }

    /// The addresses of all its interfaces but `lo`; none while it is without power.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        if !self.has_power() {
            return Ok(Vec::new());
        }
        let text = match run::stdout(&["ip", "-n", self.namespace(), "-j", "addr"]) {
            Ok(text) => text,
            Err(e) => {
                // Whoever asks is killed with the host; the lock is free when all of it is gone.
                drop(self.state());
                return if self.has_power() { Err(e) } else { Ok(Vec::new()) };
            }
        };
        let links: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| Error::Answer { what: "ip -j addr".into(), text: e.to_string() })?;
        let links = links.as_array().cloned().unwrap_or_default();
        let of = |link: &serde_json::Value| link["addr_info"].as_array().cloned();
        let addresses = links.iter().filter(|link| link["ifname"] != "lo").filter_map(of).flatten();
        Ok(addresses.filter_map(|a| a["local"].as_str()?.parse().ok()).collect())
    }

    /// Whether `ip` is configured on it.
    pub fn has(&self, ip: IpAddr) -> Result<bool> {
        Ok(self.addresses()?.contains(&ip))
    }

    /// Answers UDP probes to `port` at any of its addresses, as long as it has power.
    pub fn echo(&self, port: u16) -> Result {
        let echo = Echo::start(self.namespace(), self.name(), port)?;
        let mut state = self.state();
        state.echo_ports.push(port);
        state.echoes.push(echo);
        Ok(())
    }

    /// No frame gets in or out any more; the link stays up.
    pub fn cut(&self) -> Result<Stamp> {
        self.lossy(100)
    }

    /// No frame gets in any more.
    pub fn cut_in(&self) -> Result<Stamp> {
        let ports = self.ports();
        self.drop_frames(ports.into_iter().map(|port| Cut {
            from: None,
            to: Some(port),
            percent: 100,
        }))
    }

    /// No frame gets out any more.
    pub fn cut_out(&self) -> Result<Stamp> {
        let ports = self.ports();
        self.drop_frames(ports.into_iter().map(|port| Cut {
            from: Some(port),
            to: None,
            percent: 100,
        }))
    }

    /// No frame gets from this host to `other`; the way back is open.
    pub fn cut_to(&self, other: &Self) -> Result<Stamp> {
        let to = other.ports();
        let from = self.ports();
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
        self.drop_frames(pairs.map(|(from, to)| Cut {
            from: Some(from.clone()),
            to: Some(to.clone()),
            percent: 100,
        }))
    }

    /// No frame gets from one of the two to the other.
    pub fn cut_between(&self, other: &Self) -> Result<Stamp> {
        self.cut_to(other)?;
        other.cut_to(self)
    }

    /// Loses `percent` of a hundred frames in each direction.
    pub fn lossy(&self, percent: u8) -> Result<Stamp> {
        self.drop_frames(self.ports().into_iter().flat_map(|port| {
            [
                Cut { from: None, to: Some(port.clone()), percent },
                Cut { from: Some(port), to: None, percent },
            ]
        }))
    }

    /// Ends every cut and loss that this host is part of.
    pub fn heal(&self) -> Result<Stamp> {
        let ports = self.ports();
        let mine = |port: &Option<String>| port.as_ref().is_some_and(|p| ports.contains(p));
        self.0.switch.change_cuts(|cuts| cuts.retain(|cut| !mine(&cut.from) && !mine(&cut.to)))?;
        Ok(Stamp::now())
    }

    /// Pulls the plug at the switch: the host sees its carrier go.
    pub fn carrier_down(&self) -> Result<Stamp> {
        self.set_ports("down")
    }

    /// Plugs it in again.
    pub fn carrier_up(&self) -> Result<Stamp> {
        self.set_ports("up")
    }

    /// `ip link set eth0 down` on the host.
    pub fn link_down(&self) -> Result<Stamp> {
        self.ip("link set eth0 down\n")?;
        Ok(Stamp::now())
    }

    /// `ip link set eth0 up` on the host.
    pub fn link_up(&self) -> Result<Stamp> {
        self.ip("link set eth0 up\n")?;
        Ok(Stamp::now())
    }

    /// Everything on it is gone at once and says nothing any more: the ports go down first, so
    /// that the death of its processes cannot be heard. The stamp is from that moment.
    pub fn power_loss(&self) -> Result<Stamp> {
        let at = self.set_ports("down")?;
        let mut state = self.state();
        for _ in 0..2 {
            let pids = self.processes();
            signal_all(&pids, Signal::SIGSTOP);
            signal_all(&pids, Signal::SIGKILL);
        }
        state.echoes.clear();
        // Where there is none, nothing is mounted.
        let _ = umount2(&self.dir().join("run/gate"), MntFlags::MNT_DETACH);
        // It is made again when somebody asks for it.
        let _ = std::fs::remove_dir_all(self.dir().join("run"));
        let ports: String =
            state.nics.iter().map(|nic| format!("link del {}\n", nic.port)).collect();
        self.0.switch.ip(&ports)?;
        run::stdout(&["ip", "netns", "del", self.namespace()])?;
        Ok(at)
    }

    /// The same host boots: its own addresses, hardware address and disk, but none of its
    /// programs.
    pub fn power_on(&self) -> Result<Stamp> {
        self.make_namespace()?;
        let mut state = self.state();
        for nic in &state.nics {
            self.connect(nic)?;
        }
        let ports = state.echo_ports.clone();
        for port in ports {
            state.echoes.push(Echo::start(self.namespace(), self.name(), port)?);
        }
        Ok(Stamp::now())
    }

    /// Whether it has power.
    pub fn has_power(&self) -> bool {
        crate::netns::path(self.namespace()).exists()
    }

    /// Ends the threads that answer for it, so that nothing holds its namespace.
    pub(crate) fn dismiss_residents(&self) {
        self.state().echoes.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> Vec<String> {
        self.state().nics.iter().map(|nic| nic.port.clone()).collect()
    }

    fn drop_frames(&self, more: impl Iterator<Item = Cut>) -> Result<Stamp> {
        let more: Vec<Cut> = more.collect();
        self.0.switch.change_cuts(|cuts| cuts.extend(more))?;
        Ok(Stamp::now())
    }

    fn set_ports(&self, state: &str) -> Result<Stamp> {
        let ports = self.ports();
        let commands = ports.iter().map(|port| format!("link set {port} {state}\n"));
        self.0.switch.ip(&commands.collect::<String>())?;
        Ok(Stamp::now())
    }

    fn make_namespace(&self) -> Result {
        run::stdout(&["ip", "netns", "add", self.namespace()])?;
        run_in(self.namespace(), || {
            for scope in ["all", "default"] {
                sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
                // Link-local addresses are usable at once, and nobody asks for routers.
                sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
                sysctl(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
            }
            Ok(())
        })?;
        self.ip("link set lo up\n")
    }

    fn connect(&self, nic: &Nic) -> Result {
        let Nic { name, port, bridge, mac, addresses } = nic;
        self.0.switch.bridge(bridge)?;
        self.0.switch.ip(&format!(
            "link add {port} type veth peer name {name} address {mac} netns {}\n\
             link set {port} master {bridge} up\n",
            self.namespace()
        ))?;
        let mut commands = String::new();
        for address in addresses {
            let dad = if address.contains(':') { " nodad" } else { "" };
            commands += &format!("addr add {address} dev {name}{dad}\n");
        }
        self.ip(&format!("{commands}link set {name} up\n"))
    }
}
