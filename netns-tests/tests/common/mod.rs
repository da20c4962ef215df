//! What the tests with peers share: one virtual router in files of both kinds, and what its hosts
//! are asked.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub(crate) use netns_tests::cluster::{conditions, wait_condition};
use netns_tests::peer::vipd::Vipd;
use netns_tests::{Host, Lab, Result, Stamp, Watch, wait_until};
use serde_json::Value;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Room for a machine that is busy with other things; what a protocol bounds is a multiple of it.
pub(crate) const SLACK: Duration = Duration::from_millis(250);

pub(crate) const GROUP: &str = "postgres";
pub(crate) const VRID: u8 = 85;
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 85);
pub(crate) const VIP_NET: &str = "192.168.34.85/24";
pub(crate) const VIP6_NET: &str = "fd00:34::85/64";

/// The fixed addresses of host number `n`.
pub(crate) fn v4(n: u8) -> String {
    format!("192.168.34.{n}")
}

pub(crate) fn v6(n: u8) -> String {
    format!("fd00:34::{n}")
}

/// A host with the addresses of number `n`.
pub(crate) fn host(lab: &Lab, name: &str, n: u8) -> Result<Host> {
    lab.host(name, &[&format!("{}/24", v4(n)), &format!("{}/64", v6(n))])
}

/// The file of a vipd cluster with one group.
#[derive(Clone, Debug)]
pub(crate) struct File<'a> {
    /// Nodes: name, number, priority.
    pub nodes: &'a [(&'a str, u8, u8)],
    /// Routers of other makes: name, address.
    pub routers: &'a [(&'a str, String)],
    /// Virtual addresses.
    pub addresses: &'a [&'a str],
    /// Further keys of the group, as in the file.
    pub keys: String,
}

impl File<'_> {
    pub(crate) fn text(&self) -> String {
        let node = |(name, n, priority): &(&str, u8, u8)| {
            let (v4, v6) = (v4(*n), v6(*n));
            format!(
                "[[node]]\nname = \"{name}\"\naddress = \"{v4}\"\naddress6 = \"{v6}\"\n\
                 priority = {priority}\n"
            )
        };
        let router = |(name, address): &(&str, String)| {
            format!("{{ name = \"{name}\", address = \"{address}\" }}")
        };
        let nodes: Vec<String> = self.nodes.iter().map(node).collect();
        let routers: Vec<String> = self.routers.iter().map(router).collect();
        format!(
            "[cluster]\nname = \"lb\"\n{}[[group]]\nname = \"{GROUP}\"\nvrid = {VRID}\n\
             safety = \"vrrp\"\naddresses = {:?}\nrouters = [{}]\n{}\n",
            nodes.concat(),
            self.addresses,
            routers.join(", "),
            self.keys
        )
    }
}

/// Starts a vipd and waits until it answers.
pub(crate) fn start(host: &Host, file: &str) -> Result<Vipd> {
    let mut vipd = Vipd::start(host, file)?;
    let what = format!("vipd on {} answers", host.name());
    wait_until(&what, 5 * SECOND, || {
        let log = || vipd.process.log();
        let (name, text) = (what.clone(), log());
        if vipd.process.is_running() {
            return Ok(vipd.status().is_ok());
        }
        Err(netns_tests::Error::Answer { what: name, text })
    })?;
    Ok(vipd)
}

/// A watch of all of `hosts`.
pub(crate) fn watch(hosts: &[&Host]) -> Result<Watch> {
    let watch = Watch::new();
    hosts.iter().try_for_each(|host| watch.follow(host))?;
    Ok(watch)
}

/// The longest time in which two hosts had `ip`, since `from`.
pub(crate) fn longest_overlap(watch: &Watch, ip: IpAddr, from: Stamp) -> Duration {
    let times = watch.two_holders(ip).into_iter().filter(|(_, to)| *to >= from);
    times.map(|(from, to)| to.since(from)).max().unwrap_or_default()
}

/// The sum of the counter called `name` over the elections, and among what belongs to no group.
pub(crate) fn counter(status: &Value, name: &str) -> u64 {
    let elections = status["groups"][0]["elections"].as_array().cloned().unwrap_or_default();
    let lists = elections.iter().map(|e| &e["counters"]).chain([&status["dropped"]]);
    let rows = lists.filter_map(Value::as_array).flatten();
    rows.filter(|row| row[0] == name).filter_map(|row| row[1].as_u64()).sum()
}

/// The kind of each peer by name, as `vipd` shows it.
pub(crate) fn kinds(vipd: &Vipd) -> Result<Vec<(String, String)>> {
    let status = vipd.status()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    Ok(peers.iter().map(|p| (text(&p["name"]), text(&p["kind"]))).collect())
}
