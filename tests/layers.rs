//! The architecture as a test: who may use whom, what pure code may name, how long anything may
//! be, and that ARCHITECTURE.md shows the tree as it is.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Pure code names no clock, no thread, no socket, no file: its inputs are its arguments.
const IMPURE: &[&str] = &[
    "::now()",
    "SystemTime",
    "std::time::Instant",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::sync::mpsc",
    "Mutex",
    "UdpSocket",
    "TcpStream",
    "tokio",
    "nix::",
    "libc::",
    "rustix",
    "socket2",
    "netlink_",
    "tracing",
    "zbus",
    "jiff",
    "HashMap",
    "HashSet",
    "println!",
    "rand::",
];

const PURE: &[&str] = &["types", "wire", "config", "core"];

/// Who may `use crate::…` whom. A path names a module, or one file of it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    ("config", &["types", "wire"]),
    ("core", &["types", "wire", "config"]),
    (
        "io",
        &[
            "types",
            "wire",
            "config",
            "core::event",
            "core::lease",
            "core::routing",
            "core::status",
            "core::will",
        ],
    ),
    ("gate", &["types", "io::clock"]),
    ("cli", &["types", "config"]),
    ("api", &["types", "core::status", "core::will", "config", "io::events", "io::clock", "cli"]),
    ("daemon", &["types", "wire", "config", "core", "io", "gate", "api", "cli"]),
];

/// The longest a file may be, tests in it not counted, and a function.
const FILE: usize = 600;
const FUNCTION: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `dir`, relative to the root, sorted.
fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(dir)];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// The files of a module: one of its name, or all in the directory of its name.
fn module(name: &str) -> Vec<PathBuf> {
    let file = PathBuf::from(format!("src/{name}.rs"));
    if root().join(&file).exists() { vec![file] } else { sources(&format!("src/{name}")) }
}

/// The lines of a file before its tests, with their numbers, without comments.
fn lines(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    (1..).zip(code.map(|line| line.split("//").next().unwrap_or("").to_owned())).collect()
}

/// `crate::` paths a line names, a group of them taken apart.
fn used(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    for rest in line.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let names = group.split('}').next().unwrap_or_default().split(',');
            all.extend(names.map(|name| name.trim().to_owned()));
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            all.push(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    all
}

#[test]
fn a_line_is_taken_apart() {
    assert_eq!(used("use crate::io::{wake, clock};"), ["io::"]);
    assert_eq!(used("use crate::{io, core::event};"), ["io", "core::event"]);
    assert_eq!(used("a(crate::wire::vrrp::HOPS, crate::cli)"), ["wire::vrrp::HOPS", "cli"]);
    assert_eq!(used("pub(crate) fn nothing() {"), Vec::<String>::new());
}

#[test]
fn layers_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (name, allowed) in MAY_USE {
        for file in module(name) {
            for (number, line) in lines(&file) {
                for path in used(&line) {
                    let within = |of: &str| path == of || path.starts_with(&format!("{of}::"));
                    if !within(name) && !allowed.iter().any(|a| within(a)) {
                        wrong.push(format!("{}:{number}: {}", file.display(), line.trim()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed by MAY_USE:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_row() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: BTreeSet<_> =
        text.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, MAY_USE.iter().map(|(name, _)| *name).collect());
}

#[test]
fn pure_modules_stay_pure() {
    let mut wrong = Vec::new();
    for file in PURE.iter().flat_map(|name| module(name)) {
        for (number, line) in lines(&file) {
            let named = |word: &&&str| line.contains(**word);
            for word in IMPURE.iter().filter(named) {
                wrong.push(format!("{}:{number}: `{word}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "this belongs in src/io or src/daemon:\n{}", wrong.join("\n"));
}

/// Only the daemon knows both the core and the world.
#[test]
fn only_the_daemon_steps_the_core() {
    for file in sources("src") {
        let knows = lines(&file).iter().any(|(_, line)| line.contains("Node::new("));
        let may = file.starts_with("src/daemon") || file.starts_with("src/core");
        assert!(may || !knows, "{}", file.display());
    }
}

#[test]
fn no_file_is_too_long() {
    for file in sources("src") {
        let length = lines(&file).len();
        assert!(length <= FILE, "{}: {length} lines", file.display());
    }
}

/// As rustfmt leaves it, a function ends where its indentation does.
#[test]
fn no_function_is_too_long() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let indent = line.len() - line.trim_start().len();
            let starts = line.contains("fn ") && !line.trim_start().starts_with("//");
            match &open {
                None if starts && !line.trim_end().ends_with(['}', ';']) => {
                    open = Some((number, indent, line.trim().to_owned()));
                }
                Some((start, of, name)) if indent == *of && line.trim() == "}" => {
                    let length = number - start + 1;
                    if length > FUNCTION {
                        wrong.push(format!("{}:{start}: {length}: {name}", file.display()));
                    }
                    open = None;
                }
                None | Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "longer than {FUNCTION} lines:\n{}", wrong.join("\n"));
}

/// The fenced block below "The tree" in ARCHITECTURE.md: a path at the beginning of each line,
/// relative to the directory it is indented below.
fn drawn() -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## The tree").nth(1).expect("a section \"The tree\"");
    let block = section.split("```").nth(1).expect("a fenced block");
    let mut below: Vec<(usize, PathBuf)> = Vec::new();
    let mut all = BTreeSet::new();
    for line in block.lines().skip(1) {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = line.split_whitespace().next() else { continue };
        below.retain(|(of, _)| *of < indent);
        let path = below.last().map_or_else(PathBuf::new, |(_, dir)| dir.clone()).join(name);
        if name.ends_with('/') {
            below.push((indent, path.clone()));
        }
        all.insert(path);
    }
    all
}

#[test]
fn the_drawn_tree_is_the_tree() {
    let drawn = drawn();
    for path in &drawn {
        assert!(root().join(path).exists(), "{} is drawn but not there", path.display());
    }
    let drawn: BTreeSet<_> = drawn.iter().map(|p| p.components().collect::<PathBuf>()).collect();
    let mut missing = Vec::new();
    for file in ["src", "tests", "netns-tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        if file.starts_with("fuzz/target") {
            continue;
        }
        let dirs = file.ancestors().skip(1).filter(|dir| dir.components().next().is_some());
        for path in dirs.chain([file.as_path()]) {
            if !drawn.contains(path) {
                missing.push(path.display().to_string());
            }
        }
    }
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "not drawn:\n{}", missing.join("\n"));
}
