//! Checks.

use super::super::diag::{Diagnostic, Span};
use super::super::health::{INTERVAL, name};
use super::super::keys::check::KINDS;
use super::super::read::{At, File, Group};
use super::super::read_check::Check;
use super::super::walk::show;

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    for (i, check) in file.checks.iter().enumerate() {
        what(check, found);
        misplaced(check, found);
        groups(file, check, found);
        no_proxy(file, check, found);
        pace(check, found);
        let mine = name(check);
        let twin = file.checks[..i].iter().find(|other| mine.is_some() && name(other) == mine);
        if let Some(twin) = twin {
            let d = Diagnostic::error(check.at.clone(), "two checks have one name")
                .label(format!("{} again", mine.unwrap_or_default()))
                .related(twin.at.clone(), "first here")
                .help("give each a `name`");
            found.push(d);
        }
    }
}

fn what(check: &Check, found: &mut Vec<Diagnostic>) {
    match check.kinds.as_slice() {
        [] => {
            let all: Vec<_> = KINDS.iter().map(|k| format!("`{k}`")).collect();
            let d = Diagnostic::error(check.at.clone(), "the check does not say what it looks at")
                .label(format!("one of {} is needed", all.join(", ")))
                .help("write `tcp = \"127.0.0.1:5000\"`");
            found.push(d);
        }
        [_] => {}
        [first, others @ ..] => {
            for other in others {
                let message = format!("a check is a `{}` or a `{}`", first.value, other.value);
                let d = Diagnostic::error(other.at.clone(), message)
                    .label("both are given")
                    .related(first.at.clone(), "the first one")
                    .help("make two checks of them");
                found.push(d);
            }
        }
    }
    if let Some(program) = check.run.as_ref().and_then(|r| r.value.first())
        && !program.value.starts_with('/')
    {
        let d = Diagnostic::error(program.at.clone(), "the script must be an absolute path")
            .label("vipd searches no $PATH and uses no shell")
            .help("write each word as a string of its own: `[\"/etc/vipd/healthy\", \"writes\"]`");
        found.push(d);
    }
}

/// Keys that mean nothing here.
fn misplaced(check: &Check, found: &mut Vec<Diagnostic>) {
    fn at<T>(key: Option<&At<T>>) -> Option<Span> {
        key.map(|k| k.at.clone())
    }
    let rows: [(&str, Option<Span>, &[&str]); 8] = [
        ("status", at(check.status.as_ref()), &["http"]),
        ("body", at(check.body.as_ref()), &["http"]),
        ("backend", at(check.backend.as_ref()), &["haproxy"]),
        ("servers", at(check.servers.as_ref()), &["haproxy"]),
        ("user", at(check.user.as_ref()), &["postgresql", "run"]),
        ("database", at(check.database.as_ref()), &["postgresql"]),
        ("role", at(check.role.as_ref()), &["patroni"]),
        ("value", at(check.value.as_ref()), &["file"]),
    ];
    for (key, at, of) in rows {
        // A check of nothing, or of two things, was told already.
        let wrong = check.kinds.len() == 1 && !check.kinds.iter().any(|k| of.contains(&k.value));
        if let Some(at) = at.filter(|_| wrong) {
            let of: Vec<_> = of.iter().map(|k| format!("`{k}`")).collect();
            let message = format!("`{key}` is for {} only", of.join(" and "));
            found.push(Diagnostic::error(at, message).label("means nothing here"));
        }
    }
    if let (Some(servers), None) = (&check.servers, &check.backend)
        && check.kind() == Some("haproxy")
    {
        let d = Diagnostic::error(servers.at.clone(), "`servers` of which backend?")
            .label("the backend is not named")
            .help("write `backend = \"production\"`");
        found.push(d);
    }
    let scores = check.effect.as_ref().is_some_and(|e| e.value == "score");
    if let Some(weight) = check.weight.as_ref().filter(|_| !scores) {
        let d = Diagnostic::error(weight.at.clone(), "`weight` is for effect \"score\" only")
            .label("means nothing here")
            .help("write `effect = \"score\"`, or take it out");
        found.push(d);
    }
}

/// Nothing that could be started anew.
fn no_proxy(file: &File, check: &Check, found: &mut Vec<Diagnostic>) {
    let Some(restart) = check.restart_proxy.as_ref().filter(|r| r.value) else { return };
    let named = |name: &str| {
        check.groups.as_ref().is_none_or(|groups| groups.value.iter().any(|g| g.value == name))
    };
    let about = |g: &&Group| g.name.as_ref().is_some_and(|name| named(&name.value));
    if !file.groups.iter().filter(about).any(|g| g.proxy.is_some()) {
        let d = Diagnostic::error(restart.at.clone(), "there is no proxy to restart")
            .label("no group of this check has a `proxy`")
            .help("give its group a `proxy`, or take this out");
        found.push(d);
    }
}

/// A pause that is to be the shorter one.
fn pace(check: &Check, found: &mut Vec<Diagnostic>) {
    let Some(fast) = &check.fast_interval else { return };
    let interval = check.interval.as_ref().map_or(INTERVAL, |t| t.value);
    if fast.value > interval {
        let d = Diagnostic::error(fast.at.clone(), "`fast-interval` is longer than `interval`")
            .label(format!("`interval` is {}", show(interval)))
            .help("make it shorter, or take it out: it is a fifth of `interval` then");
        found.push(d);
    }
}

fn groups(file: &File, check: &Check, found: &mut Vec<Diagnostic>) {
    let Some(groups) = &check.groups else { return };
    for (i, group) in groups.value.iter().enumerate() {
        let known = file.groups.iter().filter_map(|g| g.name.as_ref());
        if !known.clone().any(|name| name.value == group.value) {
            let names: Vec<_> = known.map(|name| name.value.as_str()).collect();
            let d = Diagnostic::error(group.at.clone(), "there is no such group");
            found.push(d.label(format!("there is: {}", names.join(", "))));
        }
        if let Some(twin) = groups.value[..i].iter().find(|g| g.value == group.value) {
            let d = Diagnostic::error(group.at.clone(), "the group is named twice")
                .related(twin.at.clone(), "first here");
            found.push(d);
        }
    }
}
