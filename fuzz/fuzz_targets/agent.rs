//! Any text as what a fence agent says of itself, and a device held against it.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vipd::config::Device;
use vipd::io::fence::{check, metadata};

fuzz_target!(|text: &str| {
    let Ok(agent) = metadata::parse(text) else { return };
    assert!(!agent.actions.is_empty());
    let _ = (agent.unfences(), agent.host_argument());
    let names = agent.parameters.iter().map(|p| p.name.clone());
    let parameters = names.chain(["ip".to_owned()]).map(|name| (name, "1".to_owned())).collect();
    let device = Device {
        agent: agent.name.clone(),
        level: 1,
        timeout: Duration::from_secs(1),
        attempts: 1,
        delay: Duration::ZERO,
        parameters,
        secrets: Vec::new(),
    };
    for (_, text) in check::against(&device, &agent) {
        assert!(!text.is_empty());
    }
});
