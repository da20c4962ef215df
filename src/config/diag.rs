//! What is wrong with a file, where, and what to write instead; and how that looks to people.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A range of bytes of the text.
pub type Span = Range<usize>;

/// How many diagnostics are written out; the rest are only counted.
const RENDER_MAX: usize = 200;

/// Whether a file with it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file can be used, but hardly as meant.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused.
    pub severity: Severity,
    /// The offending text.
    pub span: Span,
    /// What is wrong, in one line.
    pub message: String,
    /// What to say beside the offending text; may be empty.
    pub label: String,
    /// What to write instead, or why it matters.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<(Span, String)>,
    /// Text that is a secret, to be starred out wherever this file is shown.
    pub hide: Option<Span>,
}

impl Diagnostic {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span,
            message: message.into(),
            label: String::new(),
            help: None,
            related: Vec::new(),
            hide: None,
        }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    pub(crate) fn hide(mut self, span: Span) -> Self {
        self.hide = Some(span);
        self
    }

    /// Cuts every span to what `text` has, on character boundaries.
    pub(crate) fn fit(mut self, text: &str) -> Self {
        fit(&mut self.span, text);
        self.related.iter_mut().for_each(|(span, _)| fit(span, text));
        if let Some(span) = &mut self.hide {
            fit(span, text);
        }
        self
    }
}

fn fit(span: &mut Span, text: &str) {
    let boundary = |at: usize, step: fn(usize) -> usize| {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at = step(at);
        }
        at
    };
    let start = boundary(span.start, |at| at.saturating_sub(1));
    *span = start..boundary(span.end, |at| at + 1).max(start);
}

/// Line and column of byte `at`, both from 1; the column counts characters.
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Writes `diagnostics` of the file `name` with contents `text` as rustc does, then how many.
///
/// Empty if there are none.
pub fn render(diagnostics: &[Diagnostic], name: &str, text: &str, color: bool) -> String {
    let mut out = String::new();
    if diagnostics.is_empty() {
        return out;
    }
    let text = starred(diagnostics, text);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    for d in diagnostics.iter().take(RENDER_MAX) {
        let d = d.clone().fit(&text);
        out.push_str(&renderer.render(&[group(&d, name, &text)]));
        out.push_str("\n\n");
    }
    let more = diagnostics.len().saturating_sub(RENDER_MAX);
    if more > 0 {
        let _ = writeln!(out, "and {more} more");
    }
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    let _ = match (errors, warnings) {
        (0, w) => writeln!(out, "{name}: {}", count(w, "warning")),
        (e, 0) => writeln!(out, "{name}: {}", count(e, "error")),
        (e, w) => writeln!(out, "{name}: {}, {}", count(e, "error"), count(w, "warning")),
    };
    out
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn group<'a>(d: &'a Diagnostic, name: &'a str, text: &'a str) -> Group<'a> {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let label = Some(d.label.as_str()).filter(|l| !l.is_empty());
    let (lines, first) = lines(d, text);
    let within = |span: &Span| {
        let span = first_line(span, text);
        span.start - lines.start..span.end - lines.start
    };
    let snippet =
        Snippet::source(&text[lines.clone()])
            .line_start(first)
            .path(name)
            .annotation(AnnotationKind::Primary.span(within(&d.span)).label(label))
            .annotations(d.related.iter().map(|(span, label)| {
                AnnotationKind::Context.span(within(span)).label(label.as_str())
            }));
    let group = level.primary_title(d.message.as_str()).element(snippet);
    match &d.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

/// The part of the text that is shown, in whole lines, and the number of its first.
fn lines(d: &Diagnostic, text: &str) -> (Span, usize) {
    let spans = || std::iter::once(&d.span).chain(d.related.iter().map(|(span, _)| span));
    let start = spans().map(|s| s.start).min().unwrap_or(0);
    let end = spans().map(|s| first_line(s, text).end).max().unwrap_or(0);
    let before = text.get(..start).unwrap_or_default();
    let after = text.get(end..).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    let end = after.find('\n').map_or(text.len(), |n| end + n);
    (start..end.max(start), before.matches('\n').count() + 1)
}

/// Underlining many lines hides the one that matters.
fn first_line(span: &Span, text: &str) -> Span {
    let end = text.get(span.clone()).and_then(|s| s.find('\n')).map(|n| span.start + n);
    span.start..end.unwrap_or(span.end).max(span.start)
}

fn starred(diagnostics: &[Diagnostic], text: &str) -> String {
    let mut out = text.to_owned();
    for span in diagnostics.iter().filter_map(|d| d.hide.clone()) {
        if let Some(secret) = text.get(span.clone()) {
            let stars: String = secret
                .chars()
                .map(|c| if c == '\n' { c.to_string() } else { "*".repeat(c.len_utf8()) })
                .collect();
            out.replace_range(span, &stars);
        }
    }
    out
}
