//! A cluster of the daemon: its hosts, a client, who holds what, and what the daemons say.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::clock::{Stamp, wait_until};
use crate::peer::vipd::Vipd;
use crate::{Error, Host, Lab, Result, Watch};

/// The beginning of a file for two nodes, `hap1` preferred.
pub const NODES: &str = r#"
[cluster]
name = "lb"

[[node]]
name = "hap1"
address = "192.168.34.132"

[[node]]
name = "hap2"
address = "192.168.34.133"
"#;

/// Two hosts called as in [`NODES`], and a client, all with addresses of both families.
#[derive(Debug)]
pub struct Cluster {
    /// Who has which address.
    pub watch: Watch,
    /// The preferred host.
    pub hap1: Host,
    /// The other one.
    pub hap2: Host,
    /// Somebody else on the link.
    pub client: Host,
    /// The network; it goes last.
    pub lab: Lab,
}

impl Cluster {
    /// Hosts without daemons; their addresses are watched.
    pub fn new(label: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let hap1 = lab.host("hap1", &["192.168.34.132/24", "fd00:34::132/64"])?;
        let hap2 = lab.host("hap2", &["192.168.34.133/24", "fd00:34::133/64"])?;
        let client = lab.host("client", &["192.168.34.200/24", "fd00:34::200/64"])?;
        let watch = Watch::new();
        watch.follow(&hap1)?;
        watch.follow(&hap2)?;
        Ok(Self { watch, hap1, hap2, client, lab })
    }

    /// Starts both daemons with [`NODES`] and `groups`; `hap1` is Active to `group` when it
    /// returns, and `hap2` Backup.
    pub fn start(&self, groups: &str, group: &str) -> Result<(Vipd, Vipd)> {
        let config = format!("{NODES}{groups}");
        let within = Duration::from_secs(5);
        let mut one = Vipd::start(&self.hap1, &config)?;
        one.wait_role(group, "active", within)?;
        let mut two = Vipd::start(&self.hap2, &config)?;
        two.wait_role(group, "backup", within)?;
        Ok((one, two))
    }
}

/// Something a daemon told, as in `vipctl events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `active`, `address-restored`, ...
    pub kind: String,
    /// The rest, in words.
    pub text: String,
}

/// Everything a daemon told since it started.
pub fn events(vipd: &Vipd) -> Result<Vec<Event>> {
    let output = vipd.ctl(&["events", "--json", "--limit", "4096"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let event = |line: &str| -> Option<Event> {
        let value: Value = serde_json::from_str(line).ok()?;
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Event { kind: field("kind")?, text: field("text")? })
    };
    let bad = || Error::Answer { what: "vipctl events --json".to_owned(), text: said(&output) };
    text.lines().map(|line| event(line).ok_or_else(bad)).collect()
}

/// Waits until a daemon told something of `kind` whose text contains `part`.
pub fn wait_event(vipd: &Vipd, kind: &str, part: &str, within: Duration) -> Result<Stamp> {
    let what = format!("an event {kind} about {part:?}");
    wait_until(&what, within, || {
        Ok(events(vipd)?.iter().any(|e| e.kind == kind && e.text.contains(part)))
    })
}

/// The names of the conditions of a daemon and its first group.
pub fn conditions(vipd: &Vipd) -> Result<Vec<String>> {
    let status = vipd.status()?;
    let all = [&status["conditions"], &status["groups"][0]["conditions"]];
    let all = all.into_iter().filter_map(Value::as_array).flatten();
    Ok(all.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect())
}

/// Waits until a daemon is in the condition called `name`.
pub fn wait_condition(vipd: &Vipd, name: &str, within: Duration) -> Result<Stamp> {
    wait_until(&format!("the condition {name}"), within, || {
        Ok(conditions(vipd)?.iter().any(|is| is == name))
    })
    .inspect_err(|_| eprintln!("{:#}", vipd.status().unwrap_or_default()))
}

/// Everything a program printed.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
