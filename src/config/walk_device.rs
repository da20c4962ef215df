//! Holds a device's table against its keys: what is not a key is a parameter of the agent.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diag::{Diagnostic, Span};
use super::fence::is_secret;
use super::form;
use super::keys::Table;
use super::walk::{Place, Walk, integer, nearest};

/// Parameters that vipd gives an agent by itself, and what to do instead.
const OURS: &[(&str, &str)] = &[
    ("action", "leave it out: vipd says what is to be done; `action` under `[fencing]` chooses"),
    ("option", "leave it out: vipd says what is to be done; `action` under `[fencing]` chooses"),
    ("nodename", "leave it out: vipd names the node; `port` or `plug` is its name at the device"),
];

impl Walk<'_> {
    /// Checks one device of a node.
    pub(super) fn device(&mut self, table: &'static Table, map: &DeTable<'_>, at: &Span) {
        let mut seen: Vec<(String, Span)> = Vec::new();
        for (name, value) in map {
            let (text, span) = (name.get_ref().as_ref(), name.span());
            let plain = text.to_lowercase().replace('_', "-");
            if let Some(key) = table.key(text) {
                self.value(Place { key, each: false }, &key.kind, value);
                continue;
            }
            if let Some(d) = refused(table, text, &plain, &span, value) {
                self.found.push(d);
                continue;
            }
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == plain) {
                let d = Diagnostic::error(span, format!("`{text}` is given twice"))
                    .label("`-` and `_` are the same to an agent")
                    .related(first.clone(), "first here");
                self.found.push(d);
                continue;
            }
            seen.push((plain, span));
            self.parameter(text, value);
        }
        if !self.broken {
            self.required(table, map, &[], at);
        }
    }

    fn parameter(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        let at = value.span();
        let d = match value.get_ref() {
            DeValue::Boolean(_) => return,
            DeValue::Integer(_) if integer(value.get_ref()).is_some() => return,
            DeValue::String(s) => match form::line(s) {
                Ok(()) => return,
                Err(refusal) => {
                    Diagnostic::error(at, format!("`{name}` must be one line")).label(refusal.why)
                }
            },
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => Diagnostic::error(
                at,
                format!("`{name}` must be a string, a number, or true or false"),
            )
            .label("no agent takes this")
            .help(format!("write it in quotes, as the agent is to have it: `{name} = \"...\"`")),
        };
        self.found.push(d);
    }
}

/// What cannot be a parameter.
fn refused(
    table: &Table,
    text: &str,
    plain: &str,
    at: &Span,
    value: &Spanned<DeValue<'_>>,
) -> Option<Diagnostic> {
    if let Some((_, help)) = OURS.iter().find(|(name, _)| *name == plain) {
        let d = Diagnostic::error(at.clone(), format!("`{text}` is not for this file"));
        return Some(d.label("vipd gives it to the agent").help(*help));
    }
    if is_secret(plain) {
        let key = if plain == "passwd" { "password" } else { plain };
        let d = Diagnostic::error(at.clone(), format!("`{text}`: a secret in the shared file"))
            .label("secrets only by file")
            .hide(value.span());
        return Some(d.help(format!(
            "every host has this file, and it is shown to people: put the secret into a file of \
             mode 0600 and write `{key}-file = \"/etc/vipd/bmc1\"`"
        )));
    }
    if let Some(key) = table.key(plain) {
        let d = Diagnostic::error(at.clone(), format!("unknown key `{text}`"));
        let d = d.label("keys are in lower case with `-`");
        return Some(d.help(format!("write `{}`", key.name)));
    }
    if let Some(of) = secret_file(plain) {
        let ok =
            value.get_ref().as_str().is_some_and(|s| s.starts_with('/') && form::line(s).is_ok());
        let d = Diagnostic::error(value.span(), format!("`{text}` must be the path of a file"))
            .label("a path that begins with `/`")
            .help(format!("it has the `{of}` that the agent is given"))
            .hide(value.span());
        return (!ok).then_some(d);
    }
    if plain.starts_with("pcmk-") {
        let d = Diagnostic::error(at.clone(), format!("`{text}` is a word of Pacemaker's"));
        return Some(d.label("no agent knows it").help(
            "write `port` for the node's name at the device, and `timeout`, `attempts` and `delay`",
        ));
    }
    if text.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        let d = Diagnostic::error(at.clone(), "no agent has such a parameter");
        return Some(d.label("letters, digits, `_` and `-`"));
    }
    // Which parameters there are is the agent's to say, and asked where it is installed.
    let near = nearest(plain, ["agent", "attempts", "password-file"].into_iter());
    let typo = near.filter(|near| strsim::damerau_levenshtein(plain, near) == 1)?;
    let d = Diagnostic::error(at.clone(), format!("unknown key `{text}`"));
    Some(d.label("neither a key nor a parameter").help(format!("write `{typo}`")))
}

/// The parameter whose secret is in the file that `X-file` names.
pub(super) fn secret_file(plain: &str) -> Option<&str> {
    plain.strip_suffix("-file").filter(|of| is_secret(of))
}
