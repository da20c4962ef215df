//! What the document says of checks, as spanned values.

use std::time::Duration;

use super::diag::Span;
use super::keys::check::KINDS;
use super::read::{At, View};
use super::walk::integer;

/// `[[check]]`
#[derive(Debug)]
pub(super) struct Check {
    pub(super) at: Span,
    /// The keys that say what is looked at, be their values refused; in the order of the file.
    pub(super) kinds: Vec<At<&'static str>>,
    pub(super) name: Option<At<String>>,
    /// The value of the first of `kinds`, where that is a text.
    pub(super) target: Option<At<String>>,
    pub(super) patroni: Option<At<Vec<At<String>>>>,
    pub(super) run: Option<At<Vec<At<String>>>>,
    pub(super) status: Option<At<Vec<u16>>>,
    pub(super) body: Option<At<String>>,
    pub(super) backend: Option<At<String>>,
    pub(super) servers: Option<At<u32>>,
    pub(super) user: Option<At<String>>,
    pub(super) database: Option<At<String>>,
    pub(super) role: Option<At<String>>,
    pub(super) value: Option<At<String>>,
    pub(super) effect: Option<At<String>>,
    pub(super) weight: Option<At<u8>>,
    pub(super) restart_proxy: Option<At<bool>>,
    pub(super) groups: Option<At<Vec<At<String>>>>,
    pub(super) interval: Option<At<Duration>>,
    pub(super) fast_interval: Option<At<Duration>>,
    pub(super) timeout: Option<At<Duration>>,
    pub(super) rise: Option<At<u32>>,
    pub(super) fall: Option<At<u32>>,
}

impl Check {
    /// What is looked at; of several, what the file names first.
    pub(super) fn kind(&self) -> Option<&'static str> {
        self.kinds.first().map(|k| k.value)
    }
}

/// Reads one.
pub(super) fn check(at: Span, v: &View<'_>) -> Check {
    let there = KINDS.iter().filter_map(|k| Some(At { at: v.value(k)?.span(), value: *k }));
    let mut kinds: Vec<_> = there.collect();
    kinds.sort_by_key(|k| k.at.start);
    Check {
        at,
        target: kinds.first().and_then(|k| v.text(k.value)),
        kinds,
        name: v.text("name"),
        patroni: v.words("patroni"),
        run: v.words("run"),
        status: v.with("status", |v| {
            let each = v.as_array()?.iter();
            each.map(|n| u16::try_from(integer(n.get_ref())?).ok()).collect()
        }),
        body: v.text("body"),
        backend: v.text("backend"),
        servers: v.int("servers"),
        user: v.text("user"),
        database: v.text("database"),
        role: v.text("role"),
        value: v.text("value"),
        effect: v.text("effect"),
        weight: v.int("weight"),
        restart_proxy: v.flag("restart-proxy"),
        groups: v.words("groups"),
        interval: v.time("interval"),
        fast_interval: v.time("fast-interval"),
        timeout: v.time("timeout"),
        rise: v.int("rise"),
        fall: v.int("fall"),
    }
}
