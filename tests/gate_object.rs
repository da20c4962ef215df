//! The gate's programs are what their source says. Needs clang: a check that is skipped is one
//! that nobody has made.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::Command;

#[test]
fn the_object_in_the_tree_is_made_of_the_source_beside_it() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/gate.sh");
    let output = Command::new(script).arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/gate.sh --check: {said}");
}
