//! Any text as what HAProxy says of its servers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vipd::wire::haproxy::servers;

fuzz_target!(|text: &str| {
    if let Ok(found) = servers(text) {
        assert!(found.len() < text.lines().count());
        assert!(found.iter().all(|s| s.name.len() <= text.len()));
    }
});
