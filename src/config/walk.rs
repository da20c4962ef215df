//! Holds the document against the keys: what is unknown, missing, or not what it must be.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diag::{Diagnostic, Span};
use super::form::{self, Form};
use super::keys::{Key, Kind, Need, TABLES, Table};
use super::words::{FOREIGN, INLINE_SECRETS};

/// What a value belongs to.
#[derive(Clone, Copy)]
pub(super) struct Place<'k> {
    pub(super) key: &'k Key,
    /// Whether it is one of several.
    pub(super) each: bool,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}`{}`", if self.each { "each of " } else { "" }, self.key.name)
    }
}

/// A walk over one document.
pub(super) struct Walk<'a> {
    pub(super) text: &'a str,
    /// Whether the text is not TOML, so that what seems to be missing may not be.
    pub(super) broken: bool,
    pub(super) found: Vec<Diagnostic>,
}

impl Walk<'_> {
    /// Checks every key of `map`, whose header is at `at`.
    pub(super) fn table(&mut self, table: &'static Table, map: &DeTable<'_>, at: &Span) {
        let mut meant = Vec::new();
        for (name, value) in map {
            if let Some(key) = table.key(name.get_ref()) {
                self.value(Place { key, each: false }, &key.kind, value);
            } else {
                let (d, key) = unknown(table, name.get_ref(), &name.span(), value);
                meant.extend(key);
                self.found.push(d);
            }
        }
        if !self.broken {
            self.required(table, map, &meant, at);
        }
    }

    /// Tells what is missing, but for what was `meant` by another name.
    pub(super) fn required(&mut self, table: &Table, map: &DeTable<'_>, meant: &[&str], at: &Span) {
        for key in table.keys.iter().filter(|k| matches!(k.need, Need::Required)) {
            if !map.contains_key(key.name) && !meant.contains(&key.name) {
                self.found.push(missing(table, key, at));
            }
        }
    }

    pub(super) fn value(
        &mut self,
        of: Place<'_>,
        kind: &'static Kind,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = value.span();
        match (kind, value.get_ref()) {
            (Kind::Text(form) | Kind::Either(form, _), DeValue::String(s)) => {
                self.text_value(of, form, s, at);
            }
            (Kind::Either(_, table) | Kind::Table(table), DeValue::Table(map)) => {
                self.table(table, map, &at);
            }
            (Kind::Bool, DeValue::Boolean(_)) => {}
            (Kind::Int { min, max }, DeValue::Integer(_)) => {
                let n = integer(value.get_ref());
                if !n.is_some_and(|n| (i64::from(*min)..=i64::from(*max)).contains(&n)) {
                    let message = format!("{of} is out of range");
                    let d = Diagnostic::error(at, message).label(format!("{min} to {max}"));
                    self.found.push(d.help(example(of.key)));
                }
            }
            (Kind::Time { min, max, never }, DeValue::String(s)) => {
                if !(*never && s == "never") {
                    self.time(of, s, *min, *max, at);
                }
            }
            (Kind::Choice(words), DeValue::String(s)) => self.choice(of, words, s, at),
            (Kind::List { of: each, min, max }, DeValue::Array(list)) => {
                self.count(of, list, *min, *max, at);
                let of = Place { each: true, ..of };
                list.iter().for_each(|v| self.value(of, each, v));
            }
            (Kind::Map { of: each, .. }, DeValue::Table(map)) => {
                let of = Place { each: true, ..of };
                map.values().for_each(|v| self.value(of, each, v));
            }
            (Kind::Devices { of: table, .. }, DeValue::Table(map)) => self.device(table, map, &at),
            (Kind::Devices { of: table, max }, DeValue::Array(list)) => {
                self.count(of, list, 1, *max, at);
                for v in list {
                    match v.get_ref().as_table() {
                        Some(map) => self.device(table, map, &v.span()),
                        None => self.mismatch(of, kind, v),
                    }
                }
            }
            (Kind::Tables { of: table, max }, DeValue::Array(list)) => {
                self.count(of, list, 0, *max, at);
                for v in list {
                    if let Some(map) = v.get_ref().as_table() {
                        self.table(table, map, &v.span());
                    } else {
                        self.mismatch(of, kind, v);
                    }
                }
            }
            _ => self.mismatch(of, kind, value),
        }
    }

    fn text_value(&mut self, of: Place<'_>, form: &Form, s: &str, at: Span) {
        let Err(refusal) = (form.check)(s) else { return };
        let message = format!("{of} must be {}", form.what);
        let mut d = Diagnostic::error(at.clone(), message).label(refusal.why);
        if form.hide {
            let help = "secrets never stand in this file: put it into a file of mode 0600 and";
            d = d.help(format!("{help} write `{} = {}`", of.key.name, of.key.example)).hide(at);
        } else if let Some(instead) = refusal.write {
            d = d.help(format!("write `{instead}`"));
        } else if !matches!(of.key.kind, Kind::List { .. }) {
            d = d.help(example(of.key));
        }
        self.found.push(d);
    }

    fn time(&mut self, of: Place<'_>, s: &str, min: u64, max: u64, at: Span) {
        let message = format!("{of} must be a time");
        match form::time(s) {
            Ok(t) => {
                let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
                if !(min..=max).contains(&t) {
                    let message = format!("{of} is out of range");
                    let label = format!("from {} to {}", show(min), show(max));
                    self.found
                        .push(Diagnostic::error(at, message).label(label).help(example(of.key)));
                }
            }
            Err(refusal) => {
                let d = Diagnostic::error(at, message).label(refusal.why);
                let help =
                    refusal.write.map_or_else(|| example(of.key), |w| format!("write `{w}`"));
                self.found.push(d.help(help));
            }
        }
    }

    fn choice(&mut self, of: Place<'_>, words: &[&str], s: &str, at: Span) {
        if words.contains(&s) {
            return;
        }
        let all: Vec<_> = words.iter().map(|w| format!("`\"{w}\"`")).collect();
        let d = Diagnostic::error(at, format!("{of} cannot be \"{}\"", brief(s)))
            .label(format!("must be {}", any_of(&all)));
        self.found.push(match nearest(s, words.iter().copied()) {
            Some(word) if of.each => d.help(format!("write `\"{word}\"`")),
            Some(word) => d.help(format!("write `{} = \"{word}\"`", of.key.name)),
            None => d.help(example(of.key)),
        });
    }

    fn count(&mut self, of: Place<'_>, list: &DeArray<'_>, min: usize, max: usize, at: Span) {
        if list.len() < min {
            let d = Diagnostic::error(at, format!("`{}` is empty", of.key.name));
            self.found.push(d.label("must name at least one").help(example(of.key)));
        } else if let Some(first) = list.get(max) {
            let d = Diagnostic::error(first.span(), format!("too many of `{}`", of.key.name));
            self.found.push(d.label(format!("there are {}; at most {max}", list.len())));
        }
    }

    fn mismatch(&mut self, of: Place<'_>, kind: &Kind, value: &Spanned<DeValue<'_>>) {
        let found = with_article(value.get_ref());
        let at = value.span();
        let source = self.text.get(at.clone()).unwrap_or_default();
        let d =
            Diagnostic::error(at.clone(), format!("{of} must be {}, not {found}", expected(kind)))
                .label(format!("this is {found}"));
        let help = match (kind, value.get_ref()) {
            (Kind::Time { .. }, DeValue::Integer(_) | DeValue::Float(_)) => {
                format!(
                    "a time has a unit: write `\"{source}s\"` for seconds, `\"{source}ms\"` for milliseconds"
                )
            }
            (Kind::Int { .. }, DeValue::String(s)) if s.parse::<u32>().is_ok() => {
                format!("write `{} = {s}`, without quotes", of.key.name)
            }
            (Kind::Bool, DeValue::String(s)) if matches!(&**s, "true" | "yes" | "on") => {
                format!("write `{} = true`", of.key.name)
            }
            (Kind::Bool, DeValue::String(s)) if matches!(&**s, "false" | "no" | "off") => {
                format!("write `{} = false`", of.key.name)
            }
            (Kind::List { .. }, DeValue::String(_)) => {
                format!("write `{} = [{source}]`", of.key.name)
            }
            (Kind::Tables { of: table, .. }, DeValue::Table(_))
                if table.header.starts_with("[[") =>
            {
                format!("write `{}`, with two brackets: there can be many", table.header)
            }
            (Kind::Table(table), DeValue::Array(_)) => {
                format!("write `{}`, with one bracket: there is only one", table.header)
            }
            _ => example(of.key),
        };
        let secret = matches!(kind, Kind::Text(form) if form.hide);
        self.found.push(if secret { d.help(help).hide(at) } else { d.help(help) });
    }
}

fn missing(table: &Table, key: &Key, at: &Span) -> Diagnostic {
    if let Kind::Table(t) | Kind::Tables { of: t, .. } = &key.kind {
        let d = Diagnostic::error(at.start..at.start, format!("there is no `{}`", t.header));
        let lines = t.keys.iter().filter(|k| matches!(k.need, Need::Required));
        let lines: Vec<_> = lines.map(|k| format!("{} = {}", k.name, k.example)).collect();
        return d.help(format!("write\n{}\n{}", t.header, lines.join("\n")));
    }
    let d = Diagnostic::error(at.clone(), format!("{} has no `{}`", place(table), key.name));
    d.label(format!("needs `{}`", key.name)).help(format!(
        "write `{} = {}`: {}",
        key.name,
        key.example,
        gist(key.doc)
    ))
}

/// The first clause of a sentence, to follow a colon.
fn gist(doc: &str) -> String {
    let clause = doc.split(['.', ':', ';']).next().unwrap_or(doc);
    let mut chars = clause.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// What to say of a key that `table` has not, and which key was meant.
fn unknown(
    table: &Table,
    name: &str,
    at: &Span,
    value: &Spanned<DeValue<'_>>,
) -> (Diagnostic, Option<&'static str>) {
    let plain = name.to_lowercase().replace('_', "-");
    if INLINE_SECRETS.contains(&plain.as_str()) {
        let d = Diagnostic::error(at.clone(), format!("`{name}`: a secret in the shared file"))
            .label("secrets only by file")
            .hide(value.span());
        if table.key("rise").is_some() {
            return (d.help("take it out: no check needs a password"), None);
        }
        let (key, place) = match table.key("token-file") {
            Some(_) => ("token-file = \"/etc/vipd/hook.token\"", "[[hook]]"),
            None if table.key("servers").is_some() => {
                ("password-file = \"/etc/vipd/sessions.password\"", table.header)
            }
            None => ("password-file = \"/etc/vipd/postgres.password\"", "[[group]]"),
        };
        let help = format!("put it into a file of mode 0600 and write `{key}` under `{place}`");
        return (d.help(help), None);
    }
    let d = Diagnostic::error(at.clone(), format!("unknown key `{}`", brief(name)));
    let perhaps_secret = plain.contains("pass") || plain.contains("secret");
    let d = if perhaps_secret { d.hide(value.span()) } else { d };
    if let Some(key) = table.key(&plain) {
        let d = d.label("keys are in lower case with `-`").help(format!("write `{}`", key.name));
        return (d, Some(key.name));
    }
    let d = d.label(format!("not a key of {}", place(table)));
    if let Some((_, instead)) = FOREIGN.iter().find(|(foreign, _)| *foreign == plain) {
        let meant = table.keys.iter().find(|k| instead.contains(&format!("`{} = ", k.name)));
        return (d.help(*instead), meant.map(|k| k.name));
    }
    if let Some(owner) = TABLES.iter().find(|t| t.key(&plain).is_some()) {
        return (d.help(format!("`{plain}` belongs in {}: move it there", place(owner))), None);
    }
    if let Some(key) = nearest(&plain, table.keys.iter().map(|k| k.name)) {
        return (d.help(format!("write `{key}`")), Some(key));
    }
    let all: Vec<_> = table.keys.iter().map(|k| format!("`{}`", k.name)).collect();
    (d.help(format!("{} has {}", place(table), all.join(", "))), None)
}

fn place(table: &Table) -> String {
    if table.header.starts_with('[') {
        format!("`{}`", table.header)
    } else {
        table.header.to_owned()
    }
}

fn brief(s: &str) -> String {
    if s.chars().count() <= 40 {
        s.to_owned()
    } else {
        s.chars().take(37).chain("...".chars()).collect()
    }
}

fn example(key: &Key) -> String {
    if let Kind::Tables { of: t, .. } | Kind::Table(t) = &key.kind
        && t.header.starts_with('[')
    {
        return format!("write `{}` and its keys below it", t.header);
    }
    format!("write `{} = {}`", key.name, key.example)
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Text(form) => format!("a string: {}", form.what),
        Kind::Bool => "true or false".to_owned(),
        Kind::Int { min, max } => format!("a number from {min} to {max}"),
        Kind::Time { never, .. } => {
            format!("a time in a string{}", if *never { " or \"never\"" } else { "" })
        }
        Kind::Choice(words) => {
            any_of(&words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>())
        }
        Kind::List { .. } => "a list".to_owned(),
        Kind::Either(form, _) => format!("{} or a table", form.what),
        Kind::Map { name, .. } => format!("a table of numbers by {name}"),
        Kind::Table(_) => "a table".to_owned(),
        Kind::Tables { .. } => "a list of tables".to_owned(),
        Kind::Devices { .. } => "a table, or a list of tables".to_owned(),
    }
}

fn any_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

fn with_article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The integer, where it is one of 64 bits.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let n = value.as_integer()?;
    i64::from_str_radix(n.as_str(), n.radix()).ok()
}

/// A time as people write it in the file.
pub(super) fn show(t: Duration) -> String {
    match t.as_secs() {
        s if s >= 3600 && s % 3600 == 0 && t.subsec_nanos() == 0 => format!("{}h", s / 3600),
        s if s >= 120 && s % 60 == 0 && t.subsec_nanos() == 0 => format!("{}m", s / 60),
        _ => format!("{t:?}"),
    }
}

/// The candidate that was probably meant.
pub(super) fn nearest<'c>(word: &str, all: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    all.map(|c| (strsim::damerau_levenshtein(&word, c), c))
        .filter(|(distance, c)| {
            *distance <= (c.len().max(word.len()) / 3).max(1)
                || (word.len() >= 4
                    && c.len() >= 4
                    && (c.starts_with(&word) || word.starts_with(c)))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}
