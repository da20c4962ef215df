//! What the document says of fencing: as spanned values, and as values of [`super::Config`].

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::diag::Span;
use super::read::{At, Refresh, View, every};
use super::walk::integer;
use super::walk_device::secret_file;
use super::{FenceAction, Fencing as Settings, Secret, SecretSource, When};

/// `[fencing]`
#[derive(Debug)]
pub(super) struct Fencing {
    pub(super) at: Span,
    pub(super) when: Option<Vec<When>>,
    pub(super) action: Option<At<String>>,
    pub(super) head_start: Option<At<Duration>>,
    pub(super) random_delay: Option<At<Duration>>,
    pub(super) startup_wait: Option<At<Duration>>,
    pub(super) limit: Option<At<u32>>,
    pub(super) check: Option<Refresh>,
}

/// `[node.fence]`
#[derive(Debug)]
pub(super) struct Device {
    pub(super) at: Span,
    pub(super) agent: Option<At<String>>,
    pub(super) level: Option<At<u8>>,
    pub(super) timeout: Option<At<Duration>>,
    pub(super) attempts: Option<At<u32>>,
    pub(super) delay: Option<At<Duration>>,
    /// By the names that the agent knows, in the order of the file.
    pub(super) parameters: Vec<(At<String>, At<String>)>,
    pub(super) secrets: Vec<At<Secret>>,
}

impl Device {
    /// The value of a parameter, by any of its names.
    pub(super) fn parameter(&self, names: &[&str]) -> Option<&At<String>> {
        let found = self.parameters.iter().find(|(n, _)| names.contains(&n.value.as_str()));
        found.map(|(_, value)| value)
    }
}

pub(super) fn fencing(at: Span, v: &View<'_>) -> Fencing {
    Fencing {
        at,
        when: v.with("when", when).map(|w| w.value),
        action: v.text("action"),
        head_start: v.time("head-start"),
        random_delay: v.time("random-delay"),
        startup_wait: v.time("startup-wait"),
        limit: v.int("limit"),
        check: every(v, "check"),
    }
}

fn when(value: &DeValue<'_>) -> Option<Vec<When>> {
    let words: Vec<_> = value.as_array()?.iter().filter_map(|v| v.get_ref().as_str()).collect();
    Some(When::ALL.into_iter().filter(|w| words.contains(&w.name())).collect())
}

/// The devices of a node, of which there may be one without a list.
pub(super) fn devices(node: &View<'_>) -> Vec<Device> {
    match node.view("fence") {
        Some(one) => vec![read(node.at("fence"), &one)],
        None => node.tables("fence").into_iter().map(|(at, v)| read(at, &v)).collect(),
    }
}

fn read(at: Span, v: &View<'_>) -> Device {
    let (mut parameters, mut secrets) = (Vec::new(), Vec::new());
    for (name, value) in v.0 {
        let plain = name.get_ref().to_lowercase().replace('_', "-");
        let source = match value.get_ref().as_str() {
            Some(s) if plain == "password-credential" => {
                Some(("password", SecretSource::Credential(s.to_owned())))
            }
            Some(s) => secret_file(&plain).map(|of| (of, SecretSource::File(PathBuf::from(s)))),
            None => None,
        };
        if let Some((of, source)) = source {
            let secret = Secret { parameter: of.replace('-', "_"), source };
            secrets.push(At { at: name.span(), value: secret });
        } else if super::keys::fence::DEVICE.key(name.get_ref()).is_none()
            && let Some(text) = written(value.get_ref())
        {
            let name = At { at: name.span(), value: name.get_ref().replace('-', "_") };
            parameters.push((name, At { at: value.span(), value: text }));
        }
    }
    parameters.sort_by_key(|(name, _)| name.at.start);
    secrets.sort_by_key(|s| s.at.start);
    Device {
        at,
        agent: v.text("agent"),
        level: v.int("level"),
        timeout: v.time("timeout"),
        attempts: v.int("attempts"),
        delay: v.time("delay"),
        parameters,
        secrets,
    }
}

/// A value as agents are given it.
fn written(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(s) => Some(s.to_string()),
        DeValue::Integer(_) => integer(value).map(|n| n.to_string()),
        DeValue::Boolean(b) => Some(if *b { "1" } else { "0" }.to_owned()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn value<T>(at: Option<At<T>>, default: T) -> T {
    at.map_or(default, |a| a.value)
}

/// The settings, with the defaults filled in.
pub(super) fn settings(f: Fencing) -> Settings {
    let default = Settings::default();
    Settings {
        when: f.when.unwrap_or(default.when),
        action: match f.action.as_ref().map(|a| a.value.as_str()) {
            Some("off") => FenceAction::Off,
            Some(_) | None => FenceAction::Reboot,
        },
        head_start: value(f.head_start, default.head_start),
        random_delay: value(f.random_delay, default.random_delay),
        startup_wait: value(f.startup_wait, default.startup_wait),
        limit: value(f.limit, default.limit),
        check: match f.check {
            Some(Refresh::Every(t)) => Some(t),
            Some(Refresh::Never) => None,
            None => default.check,
        },
    }
}

/// A device, with the defaults filled in.
pub(super) fn device(d: Device) -> Option<super::Device> {
    Some(super::Device {
        agent: d.agent?.value,
        level: value(d.level, 1),
        timeout: value(d.timeout, Duration::from_mins(1)),
        attempts: value(d.attempts, 2),
        delay: value(d.delay, Duration::ZERO),
        parameters: d.parameters.into_iter().map(|(n, v)| (n.value, v.value)).collect(),
        secrets: d.secrets.into_iter().map(|s| s.value).collect(),
    })
}
