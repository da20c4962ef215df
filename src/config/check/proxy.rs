//! Proxies.

use super::super::diag::Diagnostic;
use super::super::read::{At, Group};

pub(super) fn check(group: &Group, found: &mut Vec<Diagnostic>) {
    let Some(proxy) = &group.proxy else { return };
    match (&proxy.unit, &proxy.command) {
        (Some(unit), Some(command)) => {
            let d = Diagnostic::error(command.at.clone(), "a proxy is a `unit` or a `command`")
                .label("both are given")
                .related(unit.at.clone(), "the unit")
                .help("take one of them out");
            found.push(d);
        }
        (None, None) if !proxy.named => {
            let d = Diagnostic::error(proxy.at.clone(), "the proxy has no `unit` and no `command`")
                .label("one of them is needed")
                .help("write `unit = \"haproxy.service\"`");
            found.push(d);
        }
        (Some(_), None) | (None, Some(_) | None) => {}
    }
    twice("restarts", proxy.restarts.as_ref(), proxy.migration_threshold.as_ref(), found);
    twice("restart-window", proxy.restart_window.as_ref(), proxy.failure_expiry.as_ref(), found);
    if let Some(program) = proxy.command.as_ref().and_then(|c| c.value.first())
        && !program.value.starts_with('/')
    {
        let d = Diagnostic::error(program.at.clone(), "the program must be an absolute path")
            .label("vipd searches no $PATH and uses no shell");
        let name = program.value.rsplit('/').next().unwrap_or_default();
        let simple = !name.is_empty() && !program.value.contains(char::is_whitespace);
        found.push(d.help(if simple {
            format!("write `\"/usr/sbin/{name}\"`, or wherever it is")
        } else {
            "write each word as a string of its own: `[\"/usr/sbin/haproxy\", \"-db\"]`".to_owned()
        }));
    }
    if let (Some(user), Some(_), None) = (&proxy.user, &proxy.unit, &proxy.command) {
        let d = Diagnostic::error(user.at.clone(), "`user` is for `command` only")
            .label("systemd decides as whom a unit runs")
            .help("take it out, or write `User=` into the unit");
        found.push(d);
    }
}

/// One thing said in two words.
fn twice<A, B>(old: &str, says: Option<&At<A>>, new: Option<&At<B>>, found: &mut Vec<Diagnostic>) {
    if let (Some(old_key), Some(new_key)) = (says, new) {
        let d = Diagnostic::error(old_key.at.clone(), "one thing is said twice")
            .label(format!("`{old}` is another word for it"))
            .related(new_key.at.clone(), "said here")
            .help(format!("take `{old}` out"));
        found.push(d);
    }
}

/// Two groups that would start and stop one unit against each other.
pub(super) fn between(groups: &[Group], found: &mut Vec<Diagnostic>) {
    let units: Vec<_> =
        groups.iter().filter_map(|g| g.proxy.as_ref().and_then(|p| p.unit.as_ref())).collect();
    for (i, unit) in units.iter().enumerate() {
        if let Some(first) = units[..i].iter().find(|u| u.value == unit.value) {
            let d = Diagnostic::error(unit.at.clone(), "two groups manage one unit")
                .label(format!("`{}` again", unit.value))
                .related(first.at.clone(), "first here")
                .help("put the addresses into one group, or run an instance of the proxy for each");
            found.push(d);
        }
    }
}
