//! The network between the hosts: bridges in a namespace of their own, and what they drop.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::netns::run_in;
use crate::run::{stdout, stdout_of};
use crate::{Error, Result};

/// Frames that do not get through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Port they come from; any if `None`.
    pub from: Option<String>,
    /// Port they go to; any if `None`.
    pub to: Option<String>,
    /// How many of a hundred are lost.
    pub percent: u8,
}

/// The namespace with the bridges; shared by the lab and its hosts.
#[derive(Debug)]
pub(crate) struct Switch {
    /// What every name of this lab begins with.
    pub(crate) prefix: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Configuration, logs and captures.
    pub(crate) dir: PathBuf,
    bridges: Mutex<BTreeSet<String>>,
    cuts: Mutex<BTreeSet<Cut>>,
}

impl Switch {
    pub(crate) fn start(prefix: String, dir: PathBuf) -> Result<Self> {
        let namespace = format!("{prefix}-switch");
        stdout(&["ip", "netns", "add", &namespace])?;
        run_in(&namespace, || {
            // The switch forwards; it says nothing of its own.
            sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
            sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
            // A machine that also runs containers filters bridged packets by the rules of hosts.
            for family in ["arp", "ip", "ip6"] {
                let key = format!("net/bridge/bridge-nf-call-{family}tables");
                if Path::new("/proc/sys").join(&key).exists() {
                    sysctl(&key, "0")?;
                }
            }
            Ok(())
        })?;
        Ok(Self { prefix, namespace, dir, bridges: Mutex::default(), cuts: Mutex::default() })
    }

    /// Runs `ip` commands in the namespace of the switch.
    pub(crate) fn ip(&self, commands: &str) -> Result {
        ip_batch(&self.namespace, commands)
    }

    /// Makes `bridge` if there is none.
    pub(crate) fn bridge(&self, bridge: &str) -> Result {
        let mut bridges = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        if bridges.insert(bridge.to_owned()) {
            self.ip(&format!(
                "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set {bridge} up\n"
            ))?;
        }
        Ok(())
    }

    /// Changes what is dropped, and puts it in force in one transaction.
    pub(crate) fn change_cuts(&self, change: impl FnOnce(&mut BTreeSet<Cut>)) -> Result {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut cuts);
        stdout_of(&["ip", "netns", "exec", &self.namespace, "nft", "-f", "-"], &ruleset(&cuts))?;
        Ok(())
    }
}

/// The rules that make `cuts` true and nothing else.
fn ruleset(cuts: &BTreeSet<Cut>) -> String {
    let mut text = String::from(
        "add table bridge lab\n\
         add chain bridge lab forward { type filter hook forward priority 0; }\n\
         flush chain bridge lab forward\n",
    );
    for cut in cuts {
        text.push_str("add rule bridge lab forward");
        if let Some(from) = &cut.from {
            let _ = write!(text, " iifname \"{from}\"");
        }
        if let Some(to) = &cut.to {
            let _ = write!(text, " oifname \"{to}\"");
        }
        if cut.percent < 100 {
            let _ = write!(text, " numgen random mod 100 < {}", cut.percent);
        }
        text.push_str(" drop\n");
    }
    text
}

/// Runs `ip` commands, one a line, in `namespace`.
pub(crate) fn ip_batch(namespace: &str, commands: &str) -> Result {
    stdout_of(&["ip", "-n", namespace, "-batch", "-"], commands).map(drop)
}

/// Sets a kernel parameter of the namespace that the calling thread is in.
pub(crate) fn sysctl(key: &str, value: &str) -> Result {
    std::fs::write(format!("/proc/sys/{key}"), value)
        .map_err(Error::io(format!("set {key} to {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_a_rule() {
        let cut = |from: Option<&str>, to: Option<&str>, percent| Cut {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            percent,
        };
        let text = ruleset(&BTreeSet::from([
            cut(Some("hap1"), None, 100),
            cut(Some("hap1"), Some("hap2"), 30),
        ]));
        assert!(text.contains("forward iifname \"hap1\" drop\n"), "{text}");
        assert!(
            text.contains("iifname \"hap1\" oifname \"hap2\" numgen random mod 100 < 30 drop"),
            "{text}"
        );
    }
}
