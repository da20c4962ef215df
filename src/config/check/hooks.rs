//! Hooks.

use super::super::diag::Diagnostic;
use super::super::hook::{On, keepalived, name};
use super::super::read::{File, Hook};

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    for (i, hook) in file.hooks.iter().enumerate() {
        what(hook, found);
        style(hook, found);
        misplaced(hook, found);
        for group in hook.groups.iter().flat_map(|g| &g.value) {
            let known = file.groups.iter().filter_map(|g| g.name.as_ref());
            if !known.clone().any(|name| name.value == group.value) {
                let names: Vec<_> = known.map(|name| name.value.as_str()).collect();
                let d = Diagnostic::error(group.at.clone(), "there is no such group");
                found.push(d.label(format!("there is: {}", names.join(", "))));
            }
        }
        let mine = name(hook);
        let twin = file.hooks[..i].iter().find(|other| mine.is_some() && name(other) == mine);
        if let Some(twin) = twin {
            let d = Diagnostic::error(hook.at.clone(), "two hooks have one name")
                .label(format!("{} again", mine.unwrap_or_default()))
                .related(twin.at.clone(), "first here")
                .help("give each a `name`");
            found.push(d);
        }
    }
}

fn what(hook: &Hook, found: &mut Vec<Diagnostic>) {
    match (&hook.run, &hook.url) {
        (Some(run), Some(url)) => {
            let d = Diagnostic::error(url.at.clone(), "a hook is a `run` or a `url`")
                .label("both are given")
                .related(run.at.clone(), "the script")
                .help("make two hooks of them");
            found.push(d);
        }
        (None, None) if !hook.named => {
            let d = Diagnostic::error(hook.at.clone(), "the hook has no `run` and no `url`")
                .label("one of them is needed")
                .help("write `run = [\"/etc/vipd/notify\"]`");
            found.push(d);
        }
        (Some(_), None) | (None, Some(_) | None) => {}
    }
    if let Some(program) = hook.run.as_ref().and_then(|r| r.value.first())
        && !program.value.starts_with('/')
    {
        let d = Diagnostic::error(program.at.clone(), "the script must be an absolute path")
            .label("vipd searches no $PATH and uses no shell")
            .help("write each word as a string of its own: `[\"/etc/vipd/notify\", \"mail\"]`");
        found.push(d);
    }
}

fn style(hook: &Hook, found: &mut Vec<Diagnostic>) {
    let style = hook.style.as_ref();
    if let (Some(style), Some(_)) = (style.filter(|s| s.value != "vipd"), &hook.url) {
        let d = Diagnostic::error(style.at.clone(), "a webhook has style \"vipd\"")
            .label("this is how a script is told")
            .help("take it out");
        found.push(d);
    }
    if !keepalived(style.map(|s| s.value.as_str())) {
        return;
    }
    for on in hook.on.iter().flat_map(|on| &on.value) {
        if !On::is_state(&on.value) {
            let d = Diagnostic::error(on.at.clone(), "a notify script hears of states only")
                .label("keepalived has no word for this")
                .help("make a hook of its own for it, with style \"vipd\" or \"pacemaker\"");
            found.push(d);
        }
    }
}

/// Keys that mean nothing here.
fn misplaced(hook: &Hook, found: &mut Vec<Diagnostic>) {
    let agent = hook.style.as_ref().is_some_and(|s| s.value == "pacemaker");
    let rows = [
        (&hook.user, hook.url.is_some(), "`user` is for `run` only"),
        (&hook.token_file, hook.run.is_some(), "`token-file` is for `url` only"),
        (&hook.recipient, !agent, "`recipient` is for style \"pacemaker\" only"),
    ];
    for (key, wrong, text) in rows {
        if let Some(key) = key.as_ref().filter(|_| wrong) {
            found.push(Diagnostic::error(key.at.clone(), text).label("means nothing here"));
        }
    }
    let url = hook.url.as_ref().map_or("", |u| u.value.as_str());
    let near = ["http://127.", "http://localhost", "http://[::1]"];
    if let Some(token) = &hook.token_file
        && url.starts_with("http://")
        && !near.iter().any(|n| url.starts_with(n))
    {
        let d = Diagnostic::warning(token.at.clone(), "the token can be read on the way")
            .label("it goes over http, to another host")
            .help("write `https://`");
        found.push(d);
    }
}
