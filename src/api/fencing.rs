//! `vipctl fence`: whether an order makes sense, as the status tells. PURE.

use serde::{Deserialize, Serialize};

use crate::core::status::Status;

/// What an operator says about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceOrder {
    /// Its power is to be cut.
    Off,
    /// It is off: a human has seen to that.
    Confirm,
}

/// The place of a node that can be fenced, or confirmed to be off.
///
/// # Errors
/// Why not, in words.
pub fn may_fence(status: &Status, node: &str, order: FenceOrder) -> Result<u16, String> {
    let names = || status.fencing.iter().map(|f| f.node.as_str()).collect::<Vec<_>>().join(", ");
    if status.node == node {
        return Err(format!("{node} is this host: order it on another node"));
    }
    let found = status.fencing.iter().find(|f| f.node == node);
    let found = found.ok_or_else(|| {
        let others = names();
        let others = if others.is_empty() { "none" } else { &others };
        format!("no node {node:?} that could be fenced; there is: {others}")
    })?;
    match order {
        FenceOrder::Off if found.devices.is_empty() => {
            Err(format!("{node} has no fence devices: see `fence` in its table of the file"))
        }
        FenceOrder::Off if found.state == "fencing" => {
            Err(format!("{node} is being fenced already"))
        }
        FenceOrder::Confirm if found.heard => {
            Err(format!("{node} is heard, so it is not off: nothing was confirmed"))
        }
        FenceOrder::Off | FenceOrder::Confirm => Ok(found.place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::{DeviceStatus, FencingStatus};

    fn status() -> Status {
        let device = DeviceStatus { level: 1, agent: "fence_dummy".to_owned(), answer: None };
        let of = |place, node: &str, heard, devices| FencingStatus {
            place,
            node: node.to_owned(),
            heard,
            state: "idle".to_owned(),
            why: None,
            since: None,
            text: None,
            next: None,
            agent: None,
            devices,
        };
        let fencing = vec![
            of(1, "hap2", true, vec![device.clone()]),
            of(2, "hap3", false, vec![device]),
            of(3, "hap4", false, Vec::new()),
        ];
        Status { node: "hap1".to_owned(), fencing, ..Status::default() }
    }

    #[test]
    fn orders_that_make_no_sense_are_refused_with_words() {
        let rows = [
            ("hap2", FenceOrder::Off, Ok(1)),
            ("hap3", FenceOrder::Confirm, Ok(2)),
            ("hap4", FenceOrder::Confirm, Ok(3)),
            ("hap1", FenceOrder::Off, Err("this host")),
            ("hap2", FenceOrder::Confirm, Err("not off")),
            ("hap4", FenceOrder::Off, Err("no fence devices")),
            ("hap9", FenceOrder::Off, Err("hap2, hap3, hap4")),
        ];
        for (node, order, expected) in rows {
            match (may_fence(&status(), node, order), expected) {
                (Ok(place), Ok(expected)) => assert_eq!(place, expected, "{node}"),
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{node}: {said}"),
                (said, _) => panic!("{node} {order:?}: {said:?}"),
            }
        }
    }
}
