//! The documents keep up with the code: every name that an operator may be shown is explained,
//! every file and command that is mentioned exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

const OPERATIONS: &str = "docs/operations.md";
const NAMES: &str = "## Conditions and notes";
/// Written by people; `docs/rfc9568.md` and others come and go, and are found by themselves.
const TOP: [&str; 4] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ARCHITECTURE.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn files(dir: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(dir)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a directory that can be listed").path();
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every document, by its path from here.
fn documents() -> BTreeMap<String, String> {
    let top = TOP.iter().map(|name| root().join(name)).filter(|path| path.exists());
    let all = top.chain(files("docs", ".md"));
    all.map(|path| {
        let name = path.strip_prefix(root()).expect("a file of ours").display().to_string();
        (name, read(path))
    })
    .collect()
}

// ---- names in the sources ----

/// Comments, tests and white space left out, so that a call looks the same however it is laid out.
fn code(source: &str) -> String {
    let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = shipped.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.collect::<Vec<_>>().join(" ")
}

/// A string literal that could be the name of a condition or a note.
fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c == '-')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The string literals of `code` that are names, with what stands before each.
fn literals(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let quotes = code.match_indices('"').map(|(at, _)| at);
    let pairs: Vec<usize> = quotes.collect();
    let names = pairs.windows(2).map(|pair| (pair[0], &code[pair[0] + 1..pair[1]]));
    names.filter(|(_, text)| is_name(text)).collect::<Vec<_>>().into_iter()
}

/// What is between the bracket at `open` and the one that closes it.
fn bracketed(code: &str, open: usize) -> &str {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'{' => depth += 1,
            b')' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &code[open..=at];
        }
    }
    &code[open..]
}

/// The names of conditions and the kinds of notes in a source.
///
/// They are handed to `condition()`, `note()` or `add()`; or returned by a function `name()`; or
/// stand in a row with a severity, or with the text that will go with them; or are the kind that
/// a role has.
fn names(source: &str) -> BTreeSet<String> {
    let code = code(source);
    let mut found = BTreeSet::new();
    for call in ["condition(", "note(", "add(", "fn name("] {
        for (at, _) in code.match_indices(call) {
            // Not the end of another name: `is_note(`.
            if code[..at].ends_with(is_word) {
                continue;
            }
            let open = at + call.len() - 1;
            let open = if call.starts_with("fn") {
                open + code[open..].find('{').expect("a function has a body")
            } else {
                open
            };
            found.extend(literals(bracketed(&code, open)).map(|(_, name)| name.to_owned()));
        }
    }
    for (at, name) in literals(&code) {
        let (before, after) = (code[..at].trim_end(), code[at + name.len() + 2..].trim_start());
        let severity = before.strip_suffix(',').is_some_and(|b| {
            ["Debug", "Info", "Warn", "Error"]
                .iter()
                .any(|s| b.ends_with(&format!("Severity::{s}")))
        });
        // A tuple, not a call.
        let tuple = before.strip_suffix('(').is_some_and(|b| !b.ends_with(is_word));
        let row = tuple && (after.starts_with(", Severity::") || after.starts_with(", format!("));
        let role = before.strip_suffix("=>").is_some_and(|b| {
            b.trim_end().rsplit(' ').next().is_some_and(|w| w.starts_with("Role::"))
        });
        if severity || row || role {
            found.insert(name.to_owned());
        }
    }
    found
}

fn names_in(dir: &str) -> BTreeSet<String> {
    files(dir, ".rs").into_iter().flat_map(|path| names(&read(path))).collect()
}

// ---- headings ----

/// The text of every heading, with its line number.
fn headings(document: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (at, line) in document.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            found.push((at, line.trim_start_matches('#').trim()));
        }
    }
    found
}

/// The anchor that a heading has where the document is shown.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_condition_and_note_has_a_heading() {
    let operations = read(OPERATIONS);
    let anchors: Vec<String> = headings(&operations).iter().map(|(_, h)| anchor(h)).collect();
    let names: BTreeSet<_> =
        names_in("src/core").into_iter().chain(names_in("src/daemon")).collect();
    // One for each way in which a name is written: if these are not found, nothing is.
    for known in
        ["stalled", "no-carrier", "foreign-router", "address-stuck", "proxy-died", "active"]
    {
        assert!(names.contains(known), "{known} is not found in the sources: {names:?}");
    }
    let missing: Vec<_> = names.iter().filter(|name| !anchors.contains(name)).collect();
    assert!(missing.is_empty(), "{OPERATIONS} has no heading for {missing:?}");

    let (_, section) = operations.split_once(NAMES).expect("the section of the names");
    let section = section.split("\n## ").next().unwrap_or_default();
    let told = headings(section).into_iter().map(|(_, h)| h).filter(|h| is_name(h));
    let gone: Vec<_> = told.filter(|h| !names.contains(*h)).collect();
    assert!(gone.is_empty(), "{OPERATIONS} explains what the sources do not say: {gone:?}");
}

#[test]
fn every_counter_is_explained() {
    let operations = read(OPERATIONS);
    let election = code(&read("src/core/election.rs"));
    let at = election.find("fn named(").expect("the counters' names");
    let open = at + election[at..].find('{').expect("a body");
    let parse = vipd::wire::vrrp::ParseError::ALL_NAMES;
    let counters: Vec<_> =
        literals(bracketed(&election, open)).map(|(_, name)| name).chain(parse).collect();
    assert!(counters.contains(&"advertisements-sent") && counters.len() > parse.len() + 5);
    for counter in counters {
        assert!(operations.contains(&format!("`{counter}`")), "{OPERATIONS}: {counter}");
    }
}

#[test]
fn no_anchor_is_there_twice() {
    for (name, text) in documents() {
        let mut seen = BTreeSet::new();
        for (line, heading) in headings(&text) {
            // The changelog has the same headings in each version.
            let news = seen.insert(anchor(heading)) || name == "CHANGELOG.md";
            assert!(news, "{name}:{}: a second {heading:?}", line + 1);
        }
    }
}

// ---- links ----

/// The targets of `[text](target)`, outside of code.
fn links(document: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (at, line) in document.lines().enumerate() {
        fenced ^= line.starts_with("```");
        if fenced {
            continue;
        }
        let ends = line.match_indices("](").map(|(i, _)| &line[i + 2..]);
        found.extend(ends.filter_map(|rest| Some((at + 1, rest.split_once(')')?.0))));
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    for (name, text) in documents() {
        let dir = root().join(&name);
        let dir = dir.parent().expect("a file is in a directory");
        for (line, link) in links(&text).into_iter().filter(|(_, l)| !l.contains("://")) {
            let (path, fragment) = link.split_once('#').map_or((link, None), |(p, f)| (p, Some(f)));
            let target = if path.is_empty() { root().join(&name) } else { dir.join(path) };
            assert!(target.exists(), "{name}:{line}: there is no {link}");
            if let Some(fragment) = fragment
                && target.extension().is_some_and(|e| e == "md")
            {
                let there = read(&target);
                let is = headings(&there).iter().any(|(_, h)| anchor(h) == fragment);
                assert!(is, "{name}:{line}: there is no heading for {link}");
            }
        }
    }
}

/// Spans of `code` that look like paths of this repository.
#[test]
fn every_path_exists() {
    let dirs =
        ["src/", "docs/", "tests/", "conf/", "systemd/", "scripts/", "netns-tests/", "fuzz/"];
    for (name, text) in documents() {
        for (at, line) in text.lines().enumerate() {
            let words = line.split(|c: char| c.is_whitespace() || "`()[]|,;\"'".contains(c));
            for word in words.map(|w| w.trim_end_matches(['.', ':'])) {
                let path = word.split(['#', ':']).next().unwrap_or_default();
                if dirs.iter().any(|d| path.starts_with(d)) && !path.contains(['*', '{', '<']) {
                    assert!(root().join(path).exists(), "{name}:{}: there is no {path}", at + 1);
                }
            }
        }
    }
}

// ---- what is quoted ----

#[test]
fn the_minimal_configuration_is_the_file() {
    let readme = read("README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(block.expect("the readme shows a configuration"), read("conf/minimal.toml"));
}

#[test]
fn every_command_mentioned_exists() {
    let vipctl = vipd::cli::Vipctl::command();
    let commands: BTreeSet<_> = vipctl.get_subcommands().map(clap::Command::get_name).collect();
    let mut mentioned = BTreeSet::new();
    for (name, text) in documents() {
        for (at, line) in text.lines().enumerate() {
            // A command begins a span of code or follows a prompt; elsewhere `vipctl` is a noun.
            for start in ["`vipctl ", "$ vipctl ", "# vipctl "] {
                for (i, _) in line.match_indices(start) {
                    let rest = &line[i + start.len()..];
                    let word = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or("");
                    let there = commands.contains(word);
                    assert!(there, "{name}:{}: vipctl has no command {word:?}", at + 1);
                    mentioned.insert(word.to_owned());
                }
            }
        }
    }
    assert!(mentioned.contains("status") && mentioned.contains("check"), "{mentioned:?}");
    let operations = read(OPERATIONS);
    for command in commands {
        let span = format!("`vipctl {command}");
        assert!(operations.contains(&span), "{OPERATIONS} does not mention {span}`");
    }
}

/// The table of blind spots names tests: a word with four underscores is the name of one.
#[test]
fn every_test_mentioned_exists() {
    let tests: String = files("netns-tests/tests", ".rs").into_iter().map(read).collect();
    let text = read("docs/blind-spots.md");
    let words = text.split(|c: char| !is_word(c));
    let named: BTreeSet<_> = words.filter(|word| word.matches('_').count() > 3).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}

#[test]
fn every_make_target_mentioned_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<_> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', ' ', '#', '.']))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    for (name, text) in documents() {
        for start in ["`make ", "$ make ", "# make "] {
            for (i, _) in text.match_indices(start) {
                let rest = &text[i + start.len()..];
                let end = |c: char| !(c.is_ascii_lowercase() || c == '-');
                let word = rest.split(end).next().unwrap_or_default();
                assert!(targets.contains(word), "{name}: make has no target {word:?}");
            }
        }
    }
}

#[test]
fn names_are_found_however_they_are_written() {
    let source = r#"
        // note("in-a-comment")
        group.note(now, Severity::Warn, "a-kind", format!("text {x}"), out);
        all.push(condition("a-condition", severity, text, at));
        add(
            "an-added",
            Severity::Error,
            text,
        );
        let rows = [("a-row", Severity::Info, signs.x, "is not a name")];
        let (name, text) = match t { A(w) => ("a-pair", format!("{ip} {w}")), };
        T::D { how } => ( Severity::Warn, "a-tuple", format!("died") ),
        impl X { fn name(&self) -> &'static str { match self { Self::A => "a-returned" } } }
        let kind = match role { Role::Init => "a-role" };
        compare("a-key", old, new);
        #[cfg(test)]
        mod tests { note("in-a-test"); }
    "#;
    let expected =
        ["a-condition", "a-kind", "a-pair", "a-returned", "a-role", "a-row", "a-tuple", "an-added"];
    assert!(names(source).iter().eq(expected.iter()), "{:?}", names(source));
}
