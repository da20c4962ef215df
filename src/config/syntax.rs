//! Text that is not TOML.

use std::collections::BTreeMap;

use super::diag::Diagnostic;

/// The syntax errors, and what was found on lines that have none.
///
/// What the reader made of a broken line is a guess, and nobody is helped by errors in it.
pub(super) fn beside(
    syntax: Vec<toml::de::Error>,
    found: Vec<Diagnostic>,
    text: &str,
) -> Vec<Diagnostic> {
    let starts: Vec<_> = std::iter::once(0)
        .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1))
        .collect();
    let line = |at: usize| starts.partition_point(|start| *start <= at);
    let mut out: BTreeMap<usize, Diagnostic> = BTreeMap::new();
    for error in syntax {
        let d = diagnostic(&error, text);
        // The first error of a line causes the others.
        out.entry(line(d.span.start)).or_insert(d);
    }
    // Below a broken header, keys seem to belong to the table above it.
    let header = |line: &usize| {
        let rest = starts.get(line - 1).and_then(|start| text.get(*start..));
        rest.is_some_and(|r| r.trim_start_matches([' ', '\t']).starts_with('['))
    };
    let end = out.keys().copied().find(header).unwrap_or(usize::MAX);
    let found: Vec<_> = found
        .into_iter()
        .filter(|d| line(d.span.start) < end && !out.contains_key(&line(d.span.start)))
        .collect();
    out.into_values().chain(found).collect()
}

fn diagnostic(error: &toml::de::Error, text: &str) -> Diagnostic {
    let span = error.span().unwrap_or(text.len()..text.len());
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let d = Diagnostic::error(span, format!("not TOML: {what}"));
    let d = match expected {
        Some("nothing" | "literal string") | None => d,
        Some(expected) => d.label(format!("expected {expected}")),
    };
    match help(what) {
        Some(help) => d.help(help),
        None => d,
    }
}

fn help(what: &str) -> Option<&'static str> {
    let has = |word| what.contains(word);
    if has("quoted") {
        Some("put the text in quotes: `key = \"value\"`")
    } else if has("duplicate key") {
        Some("keep one of them; what there can be many of has two brackets: `[[node]]`")
    } else if has("missing comma") {
        Some("close the list with `]`, or put a comma between its entries")
    } else if has("escape") || has("control") {
        Some("a backslash is written twice: `\\\\`")
    } else {
        None
    }
}
