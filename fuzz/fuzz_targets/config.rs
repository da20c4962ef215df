//! Any text as a configuration, and as the proxy's: mistakes are pointed at within it.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use vipd::config::{self, Diagnostic, lint};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 34, 85));

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let told = match config::parse(&text) {
        Ok((config, warnings)) => {
            assert!(!config.nodes.is_empty() && !config.groups.is_empty());
            assert!(config.lease.is_safe() && (config.secret.is_some() || !config.needs_lease()));
            let _ = (config.meaning(), config.proxy_files(), config.digest(), config.parts());
            let _ = config.find_node(&config.nodes[0].name).expect("a node finds itself");
            warnings
        }
        Err(mistakes) => mistakes,
    };
    pointed_at(&told, &text);
    pointed_at(&lint::haproxy(&text, &[VIP]), &text);
    let _ = config::password(bytes);
});

fn pointed_at(told: &[Diagnostic], text: &str) {
    for diagnostic in told {
        assert!(text.get(diagnostic.span.clone()).is_some(), "{:?}", diagnostic.span);
    }
    let _ = config::render(told, "fuzz.toml", text, false);
}
