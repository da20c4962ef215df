//! `docs/rfc9568.md` cites what exists, and leaves out nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows of level M.
const MUST: &[(u32, u32)] = &[
    (1, 25),
    (30, 41),
    (43, 45),
    (54, 56),
    (58, 60),
    (63, 76),
    (82, 92),
    (95, 98),
    (101, 101),
    (105, 106),
];
const LAST: u32 = 111;
/// Rows about packets received.
const HEARD: std::ops::RangeInclusive<u32> = 31..=45;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The cells of each row, by its number.
fn rows() -> BTreeMap<u32, Vec<String>> {
    let text = fs::read_to_string(root().join("docs/rfc9568.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("| ")?.strip_suffix(" |")) {
        let cells: Vec<_> = line.split(" | ").map(str::to_owned).collect();
        let Ok(number) = cells[0].parse() else { continue };
        assert_eq!(cells.len(), 7, "row {number}");
        assert!(rows.insert(number, cells).is_none(), "row {number} twice");
    }
    rows
}

/// What stands between backticks.
fn cited(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn code(dir: &str) -> String {
    let mut all = String::new();
    let mut todo = vec![root().join(dir)];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            all += &fs::read_to_string(&path).unwrap();
        }
    }
    all
}

/// `core/group.rs::take`, or a file alone.
fn exists(place: &str) -> bool {
    let (file, name) = place.split_once("::").unwrap_or((place, ""));
    let path: PathBuf = root().join("src").join(file);
    let Ok(text) = fs::read_to_string(path) else { return false };
    let words = ["fn", "const", "struct", "enum"];
    name.is_empty() || words.iter().any(|word| is_defined(&text, word, name))
}

fn is_defined(text: &str, word: &str, name: &str) -> bool {
    let found = format!("{word} {name}");
    let after = text.match_indices(&found).map(|(at, _)| text[at + found.len()..].chars().next());
    after.flatten().any(|c| !(c.is_alphanumeric() || c == '_'))
}

#[test]
fn every_row_is_there() {
    let numbers: Vec<_> = rows().into_keys().collect();
    assert_eq!(numbers, (1..=LAST).collect::<Vec<_>>());
}

#[test]
fn every_must_has_its_function_and_tests_or_a_reason() {
    let rows = rows();
    let reasoned = |cell: &str| cell.contains("deviation: ") || cell.contains("not applicable: ");
    for number in MUST.iter().flat_map(|(from, to)| *from..=*to) {
        let cells = &rows[&number];
        assert_eq!(cells[1], "M", "row {number}");
        let (place, accepts, rejects) = (&cells[4], &cells[5], &cells[6]);
        assert!(cited(place).next().is_some() || reasoned(place), "row {number}: where?");
        let tested = cited(accepts).next().is_some();
        assert!(tested || reasoned(place), "row {number}: no test");
        if HEARD.contains(&number) {
            let refused = cited(rejects).next().is_some();
            assert!(refused || reasoned(rejects), "row {number}: nothing is refused");
        }
    }
    let must = |number: &u32| MUST.iter().any(|(from, to)| (from..=to).contains(&number));
    for (number, cells) in &rows {
        assert_eq!(cells[1] == "M", must(number), "row {number}");
    }
}

#[test]
fn every_place_exists() {
    for (number, cells) in rows() {
        for place in cited(&cells[4]).filter(|place| place.contains(".rs")) {
            assert!(exists(place), "row {number}: {place}");
        }
    }
    assert!(!exists("core/group/mod.rs::nothing_of_the_kind"));
}

#[test]
fn every_test_exists() {
    let all = code("tests") + &code("src") + &code("netns-tests");
    let is_test = |name: &str| is_defined(&all, "fn", name);
    for (number, cells) in rows() {
        for name in cells[5..].iter().flat_map(|cell| cited(cell)) {
            assert!(is_test(name), "row {number}: {name}");
        }
    }
    let text = fs::read_to_string(root().join("docs/rfc9568.md")).unwrap();
    for name in cited(&text).filter(|name| name.starts_with("row")) {
        assert!(is_test(name), "{name}");
    }
    assert!(!is_test("a_test_that_is_not_there"));
}

/// A row that is tested here is cited there.
#[test]
fn every_test_of_a_row_is_cited() {
    let text = fs::read_to_string(root().join("docs/rfc9568.md")).unwrap();
    for line in code("tests/rfc9568").lines() {
        let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        if let Some(name) = name.filter(|n| n.starts_with("row_") || n.starts_with("rows_")) {
            assert!(text.contains(&format!("`{name}`")), "{name}");
        }
    }
}
