//! What cuts the power of whom: what a group needs, and devices that would not do what is meant.

use super::super::diag::Diagnostic;
use super::super::read::{At, File, Group};
use super::super::read_fence::Device;
use super::super::{Safety, Secret};
use super::voters::safety;

/// What a word of the file means to an agent.
const TRUE: [&str; 4] = ["1", "yes", "on", "true"];

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    for node in &file.nodes {
        node.fence.iter().for_each(|d| device(d, found));
    }
    same_hardware(file, found);
    idle(file, found);
}

/// What `lease+fence` needs of the file.
pub(super) fn group(file: &File, group: &Group, found: &mut Vec<Diagnostic>) {
    if safety(file, group) != Safety::LeaseFence {
        return;
    }
    let nodes = file.nodes.len();
    // Without a node, or with one, that has been told.
    let bare: Vec<_> = file.nodes.iter().filter(|n| n.fence.is_empty()).collect();
    if let (Some(first), true) = (bare.first(), nodes > 0) {
        let name = first.name.as_ref().map_or("this node", |n| n.value.as_str());
        let label = match bare.len() {
            1 => format!("nothing can cut the power of {name}"),
            more => format!("nothing can cut the power of {name} and {} more", more - 1),
        };
        let d = Diagnostic::error(group.place(), "a node has no fence device")
            .label(label)
            .related(first.at.clone(), "this one")
            .help(
                "write its device below its address, as in `fence = { agent = \"fence_ipmilan\", \
                 ip = \"10.0.0.11\", username = \"vipd\", password-file = \"/etc/vipd/bmc1\" }`; or \
                 `safety = \"lease\"` in the group",
            );
        found.push(d);
    }
}

/// One device by itself.
fn device(device: &Device, found: &mut Vec<Diagnostic>) {
    for (i, secret) in device.secrets.iter().enumerate() {
        let same = |o: &&At<Secret>| alias(&o.value.parameter) == alias(&secret.value.parameter);
        if let Some(first) = device.secrets[..i].iter().find(same) {
            let d = Diagnostic::error(secret.at.clone(), "one secret from two places")
                .label("again")
                .related(first.at.clone(), "first here")
                .help("take one of them out");
            found.push(d);
        }
    }
    if let Some(method) = device.parameter(&["method"]).filter(|m| m.value == "cycle") {
        let d = Diagnostic::warning(method.at.clone(), "`method = \"cycle\"` is never verified")
            .label("the agent says that it worked, whatever the power did")
            .help("take it out: the power is then cut, and seen to be off");
        found.push(d);
    }
    let endless = device.parameter(&["disable_timeout"]);
    if let Some(at) = endless.filter(|d| TRUE.contains(&d.value.to_lowercase().as_str())) {
        let d = Diagnostic::warning(at.at.clone(), "the agent waits without end")
            .label("only `timeout` ends it")
            .help("take it out: the agent's own limits tell what failed");
        found.push(d);
    }
    let is = |name: &str| device.agent.as_ref().is_some_and(|a| stem(&a.value) == name);
    if is("fence_redfish") && device.parameter(&["systems_uri"]).is_none() {
        let d = Diagnostic::warning(device.at.clone(), "which system it is is left to the agent")
            .label("without `systems-uri` it takes the last one of the device")
            .help(
                "write `systems-uri = \"/redfish/v1/Systems/...\"`: where a device has several \
                 systems, another host would lose its power",
            );
        found.push(d);
    }
}

/// Both names of the one parameter that people know by two.
fn alias(parameter: &str) -> &str {
    if parameter == "passwd" { "password" } else { parameter }
}

/// The name of a program.
fn stem(agent: &str) -> &str {
    agent.rsplit('/').next().unwrap_or(agent)
}

/// Controllers on the board of one host.
const BOARDS: [&str; 12] = [
    "fence_ipmilan",
    "fence_ipmilanplus",
    "fence_idrac",
    "fence_ilo",
    "fence_ilo2",
    "fence_ilo3",
    "fence_ilo4",
    "fence_ilo5",
    "fence_imm",
    "fence_drac",
    "fence_drac5",
    "fence_redfish",
];

/// What says which host a controller belongs to.
fn hardware(device: &Device) -> Option<(&str, [Option<&str>; 3])> {
    let agent = stem(&device.agent.as_ref()?.value);
    let value = |names: &[&str]| device.parameter(names).map(|v| v.value.as_str());
    let ip = value(&["ip", "ipaddr"])?;
    let rest = [value(&["ipport"]), value(&["systems_uri"]), value(&["plug", "port"])];
    BOARDS.contains(&agent).then_some((ip, rest))
}

/// A line copied from one node to the next, that would cut the power of the wrong one.
fn same_hardware(file: &File, found: &mut Vec<Diagnostic>) {
    for (i, node) in file.nodes.iter().enumerate() {
        for device in &node.fence {
            let Some(own) = hardware(device) else { continue };
            let others = file.nodes[..i].iter().flat_map(|n| &n.fence);
            let same = others.clone().find(|o| hardware(o) == Some(own));
            if let Some(first) = same {
                let d = Diagnostic::error(device.at.clone(), "two nodes have one fence device")
                    .label(format!("{} again", own.0))
                    .related(first.at.clone(), "of another node")
                    .help("write for each node what cuts its own power, and that of no other");
                found.push(d);
            }
        }
    }
}

/// What is for fencing, where nobody fences.
fn idle(file: &File, found: &mut Vec<Diagnostic>) {
    let devices = file.nodes.iter().flat_map(|n| &n.fence).next();
    let leased = file.groups.iter().any(|g| safety(file, g).is_leased());
    if let Some(device) = devices.filter(|_| !leased) {
        let d = Diagnostic::warning(device.at.clone(), "nothing uses this fence device")
            .label("no group is held by lease")
            .help("write `safety = \"lease+fence\"` in a group, or take it out");
        found.push(d);
    }
    if let Some(fencing) = file.fencing.as_ref().filter(|_| devices.is_none()) {
        let d = Diagnostic::warning(fencing.at.clone(), "`[fencing]` has no effect")
            .label("no node has a fence device")
            .help("write `fence = { ... }` in each node, or take this out");
        found.push(d);
    }
}
