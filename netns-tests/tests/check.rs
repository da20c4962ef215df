//! `vipctl check`, and `vipd --check`, as an operator runs them before a file goes out.

use std::process::Output;

use netns_tests::cluster::{NODES, said};
use netns_tests::peer::vipd::binary;
use netns_tests::{Host, Lab, Result};

const GROUP: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24"]
"#;

/// What `vipctl check` with `options` says of a file with `text`.
fn check(host: &Host, text: &str, options: &[&str]) -> Result<Output> {
    let file = host.write("vipd.toml", text)?.display().to_string();
    let vipctl = binary("vipctl")?.display().to_string();
    host.run(&[&[vipctl.as_str(), "check", &file], options].concat())
}

/// The line of `text` that begins with `word`, counted from one.
fn line(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.starts_with(word)).expect("a line") + 1
}

#[test]
fn a_good_file_is_explained() -> Result {
    let lab = Lab::new("check-good")?;
    let host = lab.host("hap1", &[])?;
    let good = check(&host, &format!("{NODES}{GROUP}"), &[])?;
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    for part in ["hap1", "192.168.34.85"] {
        assert!(said(&good).contains(part), "{part}: {good:?}");
    }
    for file in ["vipd.toml", "minimal.toml"] {
        let text =
            std::fs::read_to_string(format!("{}/../conf/{file}", env!("CARGO_MANIFEST_DIR")));
        let output = check(&host, &text.expect("the example"), &[])?;
        assert_eq!(output.status.code(), Some(0), "{file}: {output:?}");
    }
    Ok(())
}

#[test]
fn every_mistake_is_pointed_at_and_what_to_write_is_said() -> Result {
    let lab = Lab::new("check-bad")?;
    let host = lab.host("hap1", &[])?;
    let group = GROUP.replace("vrid", "vird").replace("192.168.34.85/24", "192.168.34.85")
        + "interval = 100\n";
    let text = format!("{NODES}{group}");
    let bad = check(&host, &text, &[])?;
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let places = [
        ("vird", 1, "write `vrid`"),
        ("addresses", 14, "192.168.34.85/32"),
        ("interval", 12, "100ms"),
    ];
    for (key, column, suggestion) in places {
        let place = format!("vipd.toml:{}:{column}", line(&text, key));
        assert!(said(&bad).contains(&place), "{place}: {}", said(&bad));
        assert!(said(&bad).contains(suggestion), "{suggestion}: {}", said(&bad));
    }
    Ok(())
}

#[test]
fn warnings_are_errors_to_the_strict_and_so_is_a_missing_file_to_all() -> Result {
    let lab = Lab::new("check-strict")?;
    let host = lab.host("hap1", &[])?;
    let doubtful = format!("{NODES}{GROUP}preempt-delay = \"3s\"\n");
    for (options, status) in [(&[][..], 0), (&["--strict"], 1)] {
        let output = check(&host, &doubtful, options)?;
        assert_eq!(output.status.code(), Some(status), "{options:?}: {output:?}");
        assert!(said(&output).contains("preempt-delay"), "{output:?}");
    }
    let vipctl = binary("vipctl")?.display().to_string();
    let missing = host.run(&[&vipctl, "check", "/nonexistent/vipd.toml"])?;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    Ok(())
}

#[test]
fn the_daemon_checks_the_same_and_touches_nothing() -> Result {
    let lab = Lab::new("check-daemon")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let vipd = binary("vipd")?.display().to_string();
    let statuses = [
        (format!("{NODES}{GROUP}"), "hap1", 0),
        (format!("{NODES}{GROUP}"), "hap9", 78),
        (format!("{NODES}{}", GROUP.replace("vrid", "vird")), "hap1", 78),
    ];
    for (text, node, status) in statuses {
        let file = host.write("vipd.toml", &text)?.display().to_string();
        let output = host.run(&[&vipd, "--check", "-c", &file, "-n", node])?;
        assert_eq!(output.status.code(), Some(status), "{node}: {output:?}");
        assert_eq!(status != 0, said(&output).contains("vipd.toml"), "{output:?}");
    }
    assert_eq!(host.addresses()?.iter().filter(|ip| ip.is_ipv4()).count(), 1);
    Ok(())
}
