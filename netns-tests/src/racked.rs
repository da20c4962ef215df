//! Hosts that share an address, each with a baseboard controller that cuts its power.

use std::time::Duration;

use vipd::io::events::Record;

use crate::clock::{Stamp, wait_until};
use crate::double::Double;
use crate::peer::bmc::{Bmc, Fault, USER};
use crate::peer::vipd::Vipd;
use crate::trio::{Kind, Trio};
use crate::{Error, Host, Result};

/// What an agent need not wait for: the controllers of the lab answer at once.
pub const BRISK: &str = "power-timeout = 2, attempts = 1";
/// How long three nodes hear each other before one fences another.
pub const ACQUAINTED: Duration = Duration::from_millis(3500);
/// How often every host is asked.
const EVERY: Duration = Duration::from_millis(1);

/// The hosts, their controllers, and what is told of both.
#[derive(Debug)]
pub struct Racked {
    /// The hosts; the daemons of the first [`Racked::nodes`] of them run.
    pub trio: Trio,
    /// Their controllers, in their order.
    pub bmcs: Vec<Bmc>,
    /// Where the controllers are: on the hosts' network, with power of its own.
    pub rack: Host,
    /// The file of the daemons.
    pub config: String,
    /// How many of the hosts are nodes.
    pub nodes: usize,
}

/// Something a daemon told, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// By the wall clock.
    pub at: Stamp,
    /// Whose daemon.
    pub node: String,
    /// `active`, `fence-done`, ...
    pub kind: String,
    /// The rest, in words.
    pub text: String,
}

impl Racked {
    /// `nodes` hosts in one group with that `safety`; each is fenced by its controller, with `keys`
    /// added to the device, and `more` to the file.
    pub fn new(label: &str, nodes: usize, safety: &str, keys: &str, more: &str) -> Result<Self> {
        let trio = Trio::new(label, Kind::Lease)?;
        let addresses = [11, 12, 13].map(|n| format!("192.168.34.{n}"));
        let plugged = addresses.each_ref().map(|a| format!("{a}/24"));
        let rack = trio.lab.host("rack", &plugged.each_ref().map(String::as_str))?;
        let started = trio.hosts.iter().zip(&addresses).take(nodes);
        let bmcs = started.map(|(host, address)| Bmc::start(&rack, host, address));
        let bmcs = bmcs.collect::<Result<Vec<_>>>()?;
        let secret = trio.lab.dir().join("bmc");
        std::fs::write(&secret, USER.1).map_err(Error::io("write a password"))?;
        let secret = secret.to_string_lossy();
        let config = trio.fenced(nodes, safety, |n| {
            bmcs[n].device(&secret).replace(" }", &format!(", {keys} }}"))
        }) + more;
        Ok(Self { trio, bmcs, rack, config, nodes })
    }

    /// The same with all daemons started; who serves, and a client that asks all the time. The
    /// nodes know each other long enough to fence each other.
    pub fn started(
        label: &str,
        nodes: usize,
        safety: &str,
        keys: &str,
        more: &str,
    ) -> Result<(Self, usize, Double)> {
        let mut racked = Self::new(label, nodes, safety, keys, more)?;
        for n in 0..nodes {
            racked.start(n)?;
        }
        let (holder, double) = racked.serving(ACQUAINTED)?;
        Ok((racked, holder, double))
    }

    /// Waits until one host has served for `lasting`; who it is, and the client that knows.
    pub fn serving(&self, lasting: Duration) -> Result<(usize, Double)> {
        let double = self.trio.double(EVERY)?;
        let name = double.wait_single(lasting, Duration::from_secs(30))?;
        Ok((self.number(&name), double))
    }

    /// Starts the daemon of host number `n`.
    pub fn start(&mut self, n: usize) -> Result {
        let config = self.config.clone();
        self.trio.start_with(n, &config)
    }

    /// Starts the daemon of a host whose power is on again.
    pub fn boot(&mut self, n: usize) -> Result {
        self.trio.watch.follow(&self.trio.hosts[n])?;
        self.trio.kill(n);
        self.start(n)
    }

    /// The number of the host called `name`.
    ///
    /// # Panics
    /// If none is.
    pub fn number(&self, name: &str) -> usize {
        self.trio.hosts.iter().position(|host| host.name() == name).expect("one of them")
    }

    /// The name of host number `n`.
    pub fn name(&self, n: usize) -> String {
        self.trio.hosts[n].name().to_owned()
    }

    /// The nodes but number `n`.
    pub fn others(&self, n: usize) -> Vec<usize> {
        (0..self.nodes).filter(|other| *other != n).collect()
    }

    /// The daemon of host number `n`.
    pub fn vipd(&mut self, n: usize) -> &mut Vipd {
        self.trio.vipd(n)
    }

    /// Breaks every controller, or repairs them.
    pub fn fault(&self, fault: Fault) {
        self.bmcs.iter().for_each(|bmc| bmc.set(fault));
    }

    /// When the power of host number `n` was switched, and whether on.
    pub fn switched(&self, n: usize) -> Vec<(Stamp, bool)> {
        self.bmcs[n].history()
    }

    /// Whether the power of host number `n` was switched, in order: `[false, true]` is a reboot.
    pub fn cycles(&self, n: usize) -> Vec<bool> {
        self.switched(n).into_iter().map(|(_, on)| on).collect()
    }

    /// Waits until the power of host number `n` was switched so.
    pub fn wait_cycles(&self, n: usize, cycles: &[bool], within: Duration) -> Result<Stamp> {
        let what = format!("the power of {} switched {cycles:?}", self.name(n));
        wait_until(&what, within, || Ok(self.cycles(n) == cycles))
    }

    /// What the daemons of `nodes` told of `kind`, in the order of time.
    pub fn told(&mut self, nodes: &[usize], kind: &str) -> Result<Vec<Told>> {
        let mut all = Vec::new();
        for n in nodes {
            all.extend(told(self.vipd(*n))?.into_iter().filter(|t| t.kind == kind));
        }
        all.sort_by_key(|t| t.at);
        Ok(all)
    }

    /// Waits until one of `nodes` told of `kind`; the first that did.
    pub fn wait_told(&mut self, nodes: &[usize], kind: &str, within: Duration) -> Result<Told> {
        let mut first = None;
        wait_until(&format!("{kind} from one of {nodes:?}"), within, || {
            first = self.told(nodes, kind)?.into_iter().next();
            Ok(first.is_some())
        })?;
        first.ok_or(Error::Timeout { what: kind.to_owned(), within })
    }
}

/// Everything that a daemon told, oldest first.
pub fn told(vipd: &Vipd) -> Result<Vec<Told>> {
    let output = vipd.ctl(&["events", "--json", "--limit", "4096"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let record = |line: &str| -> Option<Told> {
        let Record { wall, node, note, .. } = serde_json::from_str(line).ok()?;
        let at = Stamp::from_nanos(u64::try_from(wall.as_nanosecond()).ok()?);
        Some(Told { at, node, kind: note.kind, text: note.text })
    };
    let bad = || Error::Answer { what: "vipctl events --json".to_owned(), text: text.clone() };
    text.lines().map(|line| record(line).ok_or_else(bad)).collect()
}
