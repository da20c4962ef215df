//! Text that is not TOML.

use super::diag::Diagnostic;

/// The syntax errors, and what was found on lines that have none.
///
/// What the reader made of a broken line is a guess, and nobody is helped by errors in it.
pub(super) fn beside(
    syntax: Vec<toml::de::Error>,
    found: Vec<Diagnostic>,
    text: &str,
) -> Vec<Diagnostic> {
    let line = |at: usize| text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count();
    let mut out: Vec<Diagnostic> = Vec::new();
    for error in syntax {
        let d = diagnostic(&error, text);
        // The first error of a line causes the others.
        if !out.iter().any(|o| line(o.span.start) == line(d.span.start)) {
            out.push(d);
        }
    }
    let broken: Vec<_> = out.iter().map(|d| line(d.span.start)).collect();
    out.extend(found.into_iter().filter(|d| !broken.contains(&line(d.span.start))));
    out
}

fn diagnostic(error: &toml::de::Error, text: &str) -> Diagnostic {
    let span = error.span().unwrap_or(text.len()..text.len());
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let d = Diagnostic::error(span, format!("not TOML: {what}"));
    let d = match expected {
        Some("nothing") | None => d,
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
    } else if has("escape") || has("control") {
        Some("a backslash is written twice: `\\\\`")
    } else {
        None
    }
}
