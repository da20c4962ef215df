//! Files beside the repository's answers.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use vipd::config::{self, parse, render};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Compares with the file, or writes it where `VIPD_BLESS` is set; whether they were the same.
fn is_file(path: impl AsRef<Path>, is: &str) -> bool {
    let path = root().join(path);
    if std::env::var_os("VIPD_BLESS").is_some() {
        fs::write(&path, is).expect("the checkout is writable");
        return true;
    }
    let same = fs::read_to_string(&path).is_ok_and(|was| was == is);
    if !same {
        eprintln!("{} differs; it should be\n{is}", path.display());
    }
    same
}

#[test]
fn every_bad_file_is_explained() {
    let mut files: Vec<_> = fs::read_dir(root().join("tests/config"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 30, "{} files", files.len());
    let mut wrong = 0;
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = read(&file);
        let (diagnostics, config) = match parse(&text) {
            Ok((config, warnings)) => (warnings, Some(config)),
            Err(errors) => (errors, None),
        };
        assert!(!diagnostics.is_empty(), "{name} is clean");
        let mut said = render(&diagnostics, name, &text, false);
        let _ = writeln!(said, "{}", if config.is_some() { "accepted" } else { "refused" });
        wrong += usize::from(!is_file(file.with_extension("txt"), &said));
    }
    assert_eq!(wrong, 0, "answers that differ");
}

#[test]
fn the_schema_is_up_to_date() {
    assert!(is_file("conf/vipd.schema.json", &config::schema()));
}

#[test]
fn the_reference_is_up_to_date() {
    const BEGIN: &str = "<!-- keys: made from the source -->\n\n";
    const END: &str = "<!-- end of keys -->\n";
    let text = read("docs/configuration.md");
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let is = format!("{before}{BEGIN}{}{END}{after}", config::reference());
    assert!(is_file("docs/configuration.md", &is));
}

#[test]
fn the_examples_are_clean() {
    for name in ["conf/vipd.toml", "conf/minimal.toml", "conf/active-active.toml"] {
        let text = read(name);
        match parse(&text) {
            Ok((_, warnings)) => {
                assert!(warnings.is_empty(), "{}", render(&warnings, name, &text, false));
            }
            Err(errors) => panic!("{}", render(&errors, name, &text, false)),
        }
    }
}

/// The commented example names every key, and is right about every default.
#[test]
fn the_example_has_every_key_and_default() {
    let text = read("conf/vipd.toml");
    let reference = config::reference();
    let rows: Vec<Vec<&str>> = reference
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| l.split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 40);
    for row in rows {
        let key = row[1].trim_matches('`');
        let is_key = |l: &&str| {
            l.trim_start_matches(['#', ' ', '{'])
                .strip_prefix(key)
                .is_some_and(|r| r.starts_with(" = "))
        };
        let group_table = key == "announce" || key == "proxy";
        let lines: Vec<_> = text.lines().filter(is_key).collect();
        assert!(group_table || !lines.is_empty(), "`{key}` is not in conf/vipd.toml");
        if let Some(default) = row[2].strip_prefix('`').and_then(|d| d.strip_suffix('`')) {
            let line = format!("{key} = {default}");
            assert!(lines.iter().any(|l| l.contains(&line)), "no `{line}` in conf/vipd.toml");
        }
    }
}

/// With every default written out the example means the same.
#[test]
fn the_defaults_of_the_example_are_the_defaults() {
    let text = read("conf/vipd.toml");
    let mut out = String::new();
    let mut example = false;
    for line in text.lines() {
        let commented = line.strip_prefix("# ");
        let key = commented.filter(|l| {
            l.split_once(" = ").is_some_and(|(k, _)| {
                !k.is_empty() && k.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'6')
            })
        });
        match key {
            // Only for unicast, which the example is not.
            Some(l) if !example && !l.starts_with("min-ttl") && !l.starts_with("priority") => {
                out.push_str(l);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
        example = commented.is_some_and(|l| l.ends_with("Example:"));
    }
    let written = parse(&out).unwrap_or_else(|e| panic!("{}", render(&e, "x", &out, false)));
    assert!(out.contains("\nfailure-expiry"));
    assert_eq!(written.0, parse(&text).unwrap().0);
}
