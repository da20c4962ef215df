//! Reasons in words, for people.

use std::time::Duration;

use crate::config::{self, Proxy, ProxyKind};
use crate::types::{Instant, Priority};

use super::Out;
use super::addresses::Trouble;
use super::check::Known;
use super::election::Heard;
use super::fence::{Deed, Phase, Why};
use super::group::{Group, Settings};
use super::status::{Condition, Severity, condition};
use super::worth::Worth;

/// Why a Backup takes over; `alive` where whoever was heard still advertises.
pub(crate) fn takeover(
    now: Instant,
    worths: Option<(Worth, Worth)>,
    heard: Option<Heard>,
    alive: bool,
    out: &Out<'_>,
) -> String {
    let better = worths.filter(|(own, theirs)| alive && own > theirs);
    match (heard, better) {
        (None, _) => "nobody else was heard".to_owned(),
        (Some(h), _) if h.priority == Priority::RELEASE => {
            format!("{} gave up (priority 0)", out.name(h.from))
        }
        (Some(h), Some((own, theirs))) => {
            if own.deficit() == theirs.deficit() && own.crowd() < theirs.crowd() {
                let from = out.name(h.from);
                format!("preempted {from}, which holds what this is kept apart from")
            } else if own.deficit() == theirs.deficit() {
                let (own, theirs) = (own.effective(), theirs.effective());
                format!("preempted {} ({own} > {theirs})", out.name(h.from))
            } else {
                format!("preempted {}", better_than(&out.name(h.from), own, theirs))
            }
        }
        (Some(h), None) => {
            let silent = now.since(h.at).as_millis();
            format!("no advert from {} for {silent} ms", out.name(h.from))
        }
    }
}

/// In which way a host that takes over is better than the one that holds.
fn better_than(holder: &str, own: Worth, theirs: Worth) -> String {
    if theirs.is_unfit() {
        return format!("{holder}, which cannot serve well");
    }
    let worse = theirs.deficit().saturating_sub(own.deficit());
    format!("{holder}, whose score is {worse} points worse")
}

/// Why a holder gives way to another node.
pub(crate) fn better(name: &str, theirs: Worth, own: Option<Worth>) -> String {
    match own {
        Some(own) if own.is_unfit() => format!("{name} can serve, and this host cannot"),
        Some(own) if own.deficit() > theirs.deficit() => {
            format!("the score of {name} is {} points better", own.deficit() - theirs.deficit())
        }
        Some(own) if own.crowd() > theirs.crowd() => {
            format!("kept apart from what this host holds as well; {name} has room")
        }
        Some(_) | None => format!("{name} has the higher priority {}", theirs.effective()),
    }
}

/// Why a lease was won: `before` is who had this voter's vote last, and whether it is still heard.
pub(crate) fn won(votes: usize, of: usize, before: Option<(String, bool)>) -> String {
    let votes = format!("{votes} of {of} voters agree");
    match before {
        None => votes,
        Some((name, true)) => format!("the lease of {name} ended; {votes}"),
        Some((name, false)) => format!("{name} is silent and its lease ended; {votes}"),
    }
}

/// Why a lease was lost, and who is not heard.
pub(crate) fn lost(why: &str, silent: &[String]) -> String {
    if silent.is_empty() {
        why.to_owned()
    } else {
        format!("{why}: no word from {}", silent.join(", "))
    }
}

/// What is told of the fencing of `name`: how bad, the kind of note, words.
pub(crate) fn fencing(name: &str, deed: &Deed) -> Option<(Severity, &'static str, String)> {
    let ms = |d: &Duration| d.as_millis();
    Some(match deed {
        Deed::Off(_) | Deed::On(_) => return None,
        Deed::Began(why) => (
            Severity::Warn,
            "fence-started",
            format!("{name} {}: its power is being cut", why.words()),
        ),
        Deed::Down { why, took, .. } => (
            Severity::Warn,
            "fence-done",
            format!("{name} is verified off after {} ms; it {}", ms(took), why.words()),
        ),
        Deed::Failed { why, took, text } => (
            Severity::Error,
            "fence-failed",
            format!(
                "{name} could not be switched off within {} ms: {text}; it {}",
                ms(took),
                why.words()
            ),
        ),
        Deed::Dropped(_) => {
            (Severity::Info, "fence-dropped", format!("{name} need not be fenced any more"))
        }
        Deed::Limited(why) => (
            Severity::Error,
            "fence-limited",
            format!("{name} was fenced too often within an hour, and {}", why.words()),
        ),
        Deed::Returned => (Severity::Info, "fence-returned", format!("{name} is back")),
        Deed::StaysOff(text) => {
            (Severity::Warn, "fence-stays-off", format!("{name} was not switched on again: {text}"))
        }
        Deed::Powered => {
            (Severity::Info, "fence-switched-on", format!("{name} is switched on again"))
        }
    })
}

/// The state of a fencing in a word, since when, why, and what the last device said.
pub(crate) fn phase(phase: &Phase) -> (&'static str, Option<Instant>, Option<Why>, Option<String>) {
    match phase {
        Phase::Idle => ("idle", None, None, None),
        Phase::Delayed { why, .. } => ("waiting", None, Some(*why), None),
        Phase::Asking { why, since } => ("asking", Some(*since), Some(*why), None),
        Phase::Off { why, began, .. } => ("fencing", Some(*began), Some(*why), None),
        Phase::Down { why, at } => ("off", Some(*at), Some(*why), None),
        Phase::Failed { why, at, text, .. } => {
            ("failed", Some(*at), Some(*why), Some(text.to_string()))
        }
        Phase::Limited { why, at } => ("limited", Some(*at), Some(*why), None),
    }
}

/// What is wrong with a fencing, and the command that resolves it.
pub(crate) fn fence_condition(now: Instant, name: &str, phase: &Phase) -> Option<Condition> {
    let resolve = format!("if it is off, run `vipctl fence confirm {name}`");
    Some(match phase {
        Phase::Off { why, began, .. } => condition(
            "fence-running",
            Severity::Warn,
            format!("{name} {}: its power is being cut", why.words()),
            *began,
        ),
        Phase::Failed { why, at, again, text } => condition(
            "fence-failed",
            Severity::Error,
            format!(
                "{name} {} and could not be switched off: {text}; tried again in {} s; {resolve}",
                why.words(),
                again.since(now).as_secs()
            ),
            *at,
        ),
        Phase::Limited { why, at } => condition(
            "fence-limited",
            Severity::Error,
            format!("{name} {}, but was fenced too often within an hour: {resolve}", why.words()),
            *at,
        ),
        Phase::Idle | Phase::Delayed { .. } | Phase::Asking { .. } | Phase::Down { .. } => {
            return None;
        }
    })
}

/// What makes this host unfit.
pub(crate) fn unfit(group: &Group) -> String {
    if let Some((ip, trouble)) = group.addresses.trouble() {
        return match trouble {
            Trouble::NotAdded(why) => format!("{ip} could not be added: {why}"),
            Trouble::NotRemoved(why) => format!("{ip} could not be removed: {why}"),
            Trouble::Contended => format!("somebody else keeps deleting {ip}"),
        };
    }
    match &group.proxy {
        Some(care) if !care.is_fit() => {
            let times = care.failures();
            match care.stands() {
                Some(why) => format!("{} cannot be stopped: {why}", proxy_name(&care.config)),
                None => failures(&care.config, times, care.last_failure.as_deref()),
            }
        }
        Some(_) | None => {
            let failing: Vec<_> = group.health.failing().map(failed).collect();
            if failing.is_empty() { "recovered".to_owned() } else { failing.join("; ") }
        }
    }
}

/// A failing check in words.
pub(crate) fn failed(check: &Known) -> String {
    format!("check {} fails: {}", check.name, check.found)
}

/// How often a proxy failed, and how.
pub(crate) fn failures(proxy: &Proxy, times: u32, last: Option<&str>) -> String {
    let name = proxy_name(proxy);
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    match last.filter(|last| !last.is_empty()) {
        Some(why) => format!("{name} failed {times}, last: {why}"),
        None => format!("{name} failed {times}"),
    }
}

/// What the proxy is called.
pub(crate) fn proxy_name(proxy: &Proxy) -> String {
    match &proxy.what {
        ProxyKind::Unit(unit) => unit.clone(),
        ProxyKind::Command { argv, .. } => {
            let program = argv.first().map_or("", String::as_str);
            program.rsplit('/').next().unwrap_or(program).to_owned()
        }
    }
}

/// A duration as people say it: to the millisecond below a second, else to a tenth.
pub(crate) fn span(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, millis) => format!("{millis} ms"),
        (seconds, millis) if millis < 100 => format!("{seconds} s"),
        (seconds, millis) => format!("{seconds}.{} s", millis / 100),
    }
}

/// What follows a failure under maintenance.
pub(crate) const HANDS_OFF: &str = "; left as it is: hands off, an operator says";

/// What follows a failure.
pub(crate) fn again(restarting: bool) -> &'static str {
    if restarting { "; restarting" } else { "; too often: this host is unfit" }
}

/// What other settings change, key by key.
pub(crate) fn changes(group: &Group, settings: &Settings) -> Vec<String> {
    let (old, new) = (&group.config, &settings.config);
    let mut changes = Vec::new();
    let mut compare = |key: &str, was: String, is: String| {
        if was != is {
            changes.push(format!("{key} {was} -> {is}"));
        }
    };
    compare("safety", old.safety.name().to_owned(), new.safety.name().to_owned());
    compare("vrid", old.vrid.to_string(), new.vrid.to_string());
    compare("version", old.version.to_string(), new.version.to_string());
    compare("interval", old.interval.to_string(), new.interval.to_string());
    compare("priority", group.priority.to_string(), settings.priority.to_string());
    compare("preempt", old.preempt.to_string(), new.preempt.to_string());
    compare("preempt-delay", span(old.preempt_delay), span(new.preempt_delay));
    compare("start-delay", span(old.start_delay), span(new.start_delay));
    compare("restore-limit", old.restore_limit.to_string(), new.restore_limit.to_string());
    for address in &new.addresses {
        if !old.addresses.contains(address) {
            changes.push(format!("+ address {}/{}", address.ip, address.prefix));
        }
    }
    for address in &old.addresses {
        if !new.addresses.contains(address) {
            changes.push(format!("- address {}/{}", address.ip, address.prefix));
        }
    }
    let routing = |group: &config::Group| -> Vec<String> {
        let routes = group.routes.iter().map(|r| format!("route {r}"));
        routes.chain(group.rules.iter().map(ToString::to_string)).collect()
    };
    let (was, is) = (routing(old), routing(new));
    changes.extend(is.iter().filter(|r| !was.contains(r)).map(|r| format!("+ {r}")));
    changes.extend(was.iter().filter(|r| !is.contains(r)).map(|r| format!("- {r}")));
    let mut flag = |key: &str, differs: bool| {
        if differs {
            changes.push(format!("{key} changed"));
        }
    };
    flag("sync", old.sync != new.sync);
    flag("spread", old.spread != new.spread);
    flag("interface", old.interface != new.interface);
    flag("checksum", old.checksum != new.checksum);
    flag("transport", old.transport != new.transport);
    flag("routers", old.routers != new.routers);
    flag("peers", group.destinations != settings.destinations);
    flag("password", group.password != settings.password);
    flag("announce", old.announce != new.announce);
    flag("proxy", old.proxy != new.proxy);
    changes
}
