//! What a hook is called with: arguments, variables, and JSON.

use serde_json::{Map, Value, json};

use crate::config::{Hook, HookKind, Style};

use super::{Fencing, Occasion, State, What};
use crate::core::status::Severity;

/// The longest text that is put into a variable, in bytes.
const LONGEST: usize = 4096;

/// What is true of every call of a moment.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// This node's name.
    pub node: &'a str,
    /// This node's number, from 1.
    pub node_number: usize,
    /// The wall clock, as RFC 3339.
    pub time: &'a str,
    /// The wall clock as a time of day with microseconds.
    pub clock: &'a str,
    /// Seconds since 1970.
    pub epoch: i64,
    /// And microseconds.
    pub micros: i32,
    /// How many calls there were before.
    pub sequence: u64,
}

/// What a hook is called with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Script and arguments; empty for a webhook.
    pub argv: Vec<String>,
    /// Variables, beside what every script has.
    pub env: Vec<(&'static str, String)>,
    /// What it reads, or is posted.
    pub body: Option<String>,
}

/// What `hook` is called with; `None` where its style has no word for the occasion.
pub fn call(hook: &Hook, occasion: &Occasion, scene: &Scene<'_>) -> Option<Call> {
    let mut argv = match &hook.what {
        HookKind::Run { argv, .. } => argv.clone(),
        HookKind::Post { .. } => Vec::new(),
    };
    // Whatever the style: this is where the reason is.
    let mut env = variables(hook, occasion, scene);
    let mut body = None;
    match hook.style {
        Style::Vipd => body = Some(object(hook, occasion, scene).to_string()),
        Style::Keepalived { group } => argv.extend(arguments(occasion, group)?),
        Style::Pacemaker => env.extend(alert(hook, occasion, scene)?),
    }
    for (_, value) in &mut env {
        *value = line(value);
    }
    Some(Call { argv, env, body })
}

/// A text as a variable can have it: one line, and not without end.
fn line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean[..clean.floor_char_boundary(LONGEST)].to_owned()
}

/// `[GROUP|INSTANCE] name STATE priority`. A sync group has no priority, so there it is 0.
fn arguments(occasion: &Occasion, group: bool) -> Option<[String; 4]> {
    let What::State { now, .. } = occasion.what else { return None };
    let state = match now {
        State::Active => "MASTER",
        State::Backup => "BACKUP",
        State::Fault => "FAULT",
        State::Stop => "STOP",
    };
    let name = occasion.note.group.clone()?;
    let (kind, priority) = if group {
        ("GROUP", 0)
    } else {
        ("INSTANCE", occasion.priority.map_or(0, |priority| priority.0))
    };
    Some([kind.to_owned(), name, state.to_owned(), priority.to_string()])
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Debug => "debug",
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    }
}

/// What happened, as names and values: the object and the variables are made of it.
fn facts<'a>(hook: &'a Hook, occasion: &'a Occasion, scene: &Scene<'a>) -> Facts<'a> {
    let was = match occasion.what {
        What::State { was, .. } => was.map(State::word),
        What::Fencing(_) | What::Peer { .. } | What::Other => None,
    };
    let note = &occasion.note;
    Facts {
        texts: [
            ("hook", Some(&hook.name)),
            ("cluster", Some(scene.cluster)),
            ("node", Some(scene.node)),
            ("kind", Some(occasion.kind())),
            ("was", was),
            ("group", note.group.as_deref()),
            ("about", note.about.as_deref()),
            ("severity", Some(severity(note.severity))),
            ("reason", Some(&note.text)),
            ("time", Some(scene.time)),
        ],
        priority: occasion.priority.map(|priority| priority.0),
    }
}

struct Facts<'a> {
    texts: [(&'static str, Option<&'a str>); 10],
    priority: Option<u8>,
}

fn object(hook: &Hook, occasion: &Occasion, scene: &Scene<'_>) -> Value {
    let facts = facts(hook, occasion, scene);
    let mut all: Map<_, _> =
        facts.texts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    all.insert("priority".to_owned(), json!(facts.priority));
    Value::Object(all)
}

fn variables(hook: &Hook, occasion: &Occasion, scene: &Scene<'_>) -> Vec<(&'static str, String)> {
    const NAMES: [&str; 10] = [
        "VIPD_HOOK",
        "VIPD_CLUSTER",
        "VIPD_NODE",
        "VIPD_KIND",
        "VIPD_WAS",
        "VIPD_GROUP",
        "VIPD_ABOUT",
        "VIPD_SEVERITY",
        "VIPD_REASON",
        "VIPD_TIME",
    ];
    let facts = facts(hook, occasion, scene);
    let texts = NAMES.into_iter().zip(facts.texts);
    let mut all: Vec<_> =
        texts.map(|(name, (_, text))| (name, text.unwrap_or_default().to_owned())).collect();
    let priority = facts.priority.map_or_else(String::new, |p| p.to_string());
    all.push(("VIPD_PRIORITY", priority));
    all
}

/// The variables of an alert agent, of which a group is a resource that starts and stops.
fn alert(
    hook: &Hook,
    occasion: &Occasion,
    scene: &Scene<'_>,
) -> Option<Vec<(&'static str, String)>> {
    let note = &occasion.note;
    let about = || note.about.clone().unwrap_or_else(|| scene.node.to_owned());
    let resource = |task: &str, rc: u8| {
        vec![
            ("CRM_alert_kind", "resource".to_owned()),
            ("CRM_alert_node", scene.node.to_owned()),
            ("CRM_alert_nodeid", scene.node_number.to_string()),
            ("CRM_alert_desc", note.text.clone()),
            ("CRM_alert_task", task.to_owned()),
            ("CRM_alert_rsc", note.group.clone().unwrap_or_default()),
            ("CRM_alert_rc", rc.to_string()),
            ("CRM_alert_target_rc", "0".to_owned()),
            // Of an operation: 0 is done, 4 an error.
            ("CRM_alert_status", if rc == 0 { "0" } else { "4" }.to_owned()),
            ("CRM_alert_interval", "0".to_owned()),
        ]
    };
    let mut all = match occasion.what {
        What::State { now: State::Active, .. } => resource("start", 0),
        What::State { was: Some(State::Active), .. } => resource("stop", 0),
        What::State { now: State::Fault, .. } => resource("monitor", 1),
        What::Fencing(outcome @ (Fencing::Done | Fencing::Failed)) => vec![
            ("CRM_alert_kind", "fencing".to_owned()),
            ("CRM_alert_node", about()),
            ("CRM_alert_desc", note.text.clone()),
            ("CRM_alert_task", "off".to_owned()),
            ("CRM_alert_rc", if outcome == Fencing::Done { "0" } else { "1" }.to_owned()),
        ],
        What::Peer { back } => vec![
            ("CRM_alert_kind", "node".to_owned()),
            ("CRM_alert_node", about()),
            ("CRM_alert_desc", if back { "member" } else { "lost" }.to_owned()),
        ],
        What::State { now: State::Backup | State::Stop, .. }
        | What::Fencing(Fencing::Started | Fencing::Other)
        | What::Other => return None,
    };
    all.extend([
        ("CRM_alert_recipient", hook.recipient.clone().unwrap_or_default()),
        ("CRM_alert_node_sequence", scene.sequence.to_string()),
        ("CRM_alert_timestamp", scene.clock.to_owned()),
        ("CRM_alert_timestamp_epoch", scene.epoch.to_string()),
        ("CRM_alert_timestamp_usec", scene.micros.to_string()),
        ("CRM_alert_version", env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    Some(all)
}
