use super::call::{Scene, call};
use super::*;
use crate::config::Style;

const FILE: &str = r#"
[cluster]
name = "lb"
[[node]]
name = "hap1"
address = "192.168.34.132"
[[node]]
name = "hap2"
address = "192.168.34.133"
[[group]]
name = "pg"
vrid = 85
addresses = ["192.168.34.85/24"]
"#;

fn config(hooks: &str) -> Config {
    crate::config::parse(&format!("{FILE}{hooks}")).unwrap_or_else(|e| panic!("{e:?}")).0
}

fn book() -> Book {
    let mut book = Book::default();
    book.configure(&config(""), 0);
    book
}

fn heard(kind: &str, severity: Severity, group: Option<&str>) -> Note {
    let (group, text) = (group.map(str::to_owned), format!("why {kind}"));
    Note { at: Instant::BOOT, severity, group, kind: kind.to_owned(), text, about: None }
}

/// What a row of notes about the group makes of it; `!` before one is a warning.
fn told(book: &mut Book, kinds: &str) -> String {
    let mut all = Vec::new();
    for kind in kinds.split_whitespace() {
        let severity = if kind.starts_with('!') { Severity::Warn } else { Severity::Info };
        let note = heard(kind.trim_start_matches('!'), severity, Some("pg"));
        let said = book.hear(&note).filter(|o| matches!(o.what, What::State { .. }));
        all.extend(said.map(|o| o.kind().to_owned()));
    }
    all.extend(book.end(Instant::BOOT).iter().map(|o| o.kind().to_owned()));
    all.join(" ")
}

#[test]
fn each_state_is_told_once() {
    for (notes, expected) in [
        // A life without events: nothing was said, so a stop is all.
        ("", "stop"),
        ("backup active releasing init", "backup active stop"),
        ("backup active releasing backup", "backup active backup stop"),
        ("backup backup active active", "backup active stop"),
        // No carrier, and back.
        ("backup active releasing !init backup", "backup active fault backup stop"),
        ("!init !init backup", "fault backup stop"),
        // An unfit proxy: out of service, though it listens.
        ("backup active !unfit releasing backup fit", "backup active fault backup stop"),
        ("backup active !unfit fit", "backup active stop"),
        // Nobody fitter: it goes on.
        ("!unfit backup active", "fault active stop"),
        ("!unfit backup active releasing backup", "fault active fault stop"),
    ] {
        assert_eq!(told(&mut book(), notes), expected, "{notes}");
    }
}

#[test]
fn a_group_that_leaves_the_file_is_told_its_stop_and_no_more() {
    let mut book = book();
    let hear = |book: &mut Book, kind| book.hear(&heard(kind, Severity::Info, Some("pg")));
    assert!(hear(&mut book, "backup").is_some());
    let mut config = config("");
    config.groups.clear();
    book.configure(&config, 0);
    assert_eq!(hear(&mut book, "init").map(|o| o.kind().to_owned()).as_deref(), Some("stop"));
    book.configure(&config, 0);
    assert_eq!(book.end(Instant::BOOT), []);
}

#[test]
fn what_is_not_a_state_has_its_own_word() {
    let mut book = book();
    for (kind, expected) in [
        ("fence-started", Some(What::Fencing(Fencing::Started))),
        ("fence-done", Some(What::Fencing(Fencing::Done))),
        ("fence-confirmed", Some(What::Fencing(Fencing::Done))),
        ("fence-failed", Some(What::Fencing(Fencing::Failed))),
        ("fence-check-failed", Some(What::Fencing(Fencing::Other))),
        ("peer-unreachable", Some(What::Peer { back: false })),
        ("peer-returned", Some(What::Peer { back: true })),
        ("stalled", Some(What::Other)),
        ("hook-failed", None),
        ("hook-behind", None),
    ] {
        let got = book.hear(&heard(kind, Severity::Warn, None));
        assert_eq!(got.map(|o| o.what), expected, "{kind}");
    }
}

#[test]
fn a_hook_hears_of_what_it_is_on_and_of_its_groups() {
    let hook =
        |keys: &str| config(&format!("[[hook]]\nrun = [\"/n\"]\n{keys}")).hooks.pop().expect("one");
    let state = Occasion::sample(Instant::BOOT, "pg", Priority(150), State::Active);
    let mut of_nobody = state.clone();
    of_nobody.note.group = Some("other".to_owned());
    let note = heard("fence-done", Severity::Warn, None);
    let fencing = Occasion { what: What::Fencing(Fencing::Done), note, priority: None };
    let other = Occasion { what: What::Other, ..fencing.clone() };
    let peer = Occasion { what: What::Peer { back: true }, ..fencing.clone() };
    for (keys, expected) in [
        ("", [true, true, true, false, false]),
        ("style = \"keepalived\"", [true, true, false, false, false]),
        ("groups = [\"pg\"]", [true, false, true, false, false]),
        ("on = [\"backup\", \"peer\"]", [false, false, false, false, true]),
        ("on = [\"any\"]", [true, true, true, true, true]),
    ] {
        let hook = hook(keys);
        let got = [&state, &of_nobody, &fencing, &other, &peer].map(|o| o.is_for(&hook));
        assert_eq!(got, expected, "{keys}");
    }
}

const SCENE: Scene<'_> = Scene {
    cluster: "lb",
    node: "hap1",
    node_number: 1,
    time: "2026-11-24T18:00:00.5Z",
    clock: "18:00:00.500000",
    epoch: 1_795_543_200,
    micros: 500_000,
    sequence: 7,
};

fn hook(style: Style) -> Hook {
    let keys = "[[hook]]\nrun = [\"/n\", \"mine\"]\n";
    Hook { style, recipient: Some("ops".to_owned()), ..config(keys).hooks.pop().expect("one") }
}

fn state(now: State, was: Option<State>) -> Occasion {
    let mut occasion = Occasion::sample(Instant::BOOT, "pg", Priority(150), now);
    occasion.what = What::State { now, was };
    occasion.note.text = "hap2 gave up\n(priority 0)".to_owned();
    occasion
}

#[test]
fn keepalived_is_told_by_four_words() {
    for (now, group, expected) in [
        (State::Active, false, "/n mine INSTANCE pg MASTER 150"),
        (State::Backup, false, "/n mine INSTANCE pg BACKUP 150"),
        (State::Fault, false, "/n mine INSTANCE pg FAULT 150"),
        (State::Stop, false, "/n mine INSTANCE pg STOP 150"),
        (State::Active, true, "/n mine GROUP pg MASTER 0"),
    ] {
        let called = call(&hook(Style::Keepalived { group }), &state(now, None), &SCENE).unwrap();
        assert_eq!(called.argv.join(" "), expected);
        assert_eq!(called.body, None);
        let reason = called.env.iter().find(|(name, _)| *name == "VIPD_REASON").unwrap();
        assert_eq!(reason.1, "hap2 gave up (priority 0)");
    }
    let peer = Occasion { what: What::Peer { back: true }, ..state(State::Stop, None) };
    assert_eq!(call(&hook(Style::Keepalived { group: false }), &peer, &SCENE), None);
}

#[test]
fn pacemaker_is_told_by_variables() {
    let about = |what| {
        let mut occasion = Occasion { what, ..state(State::Active, None) };
        occasion.note.about = Some("hap2".to_owned());
        occasion
    };
    let active = Some(State::Active);
    for (occasion, expected) in [
        (state(State::Active, None), Some("resource hap1 start pg 0")),
        (state(State::Backup, active), Some("resource hap1 stop pg 0")),
        (state(State::Stop, active), Some("resource hap1 stop pg 0")),
        (state(State::Fault, active), Some("resource hap1 stop pg 0")),
        (state(State::Fault, None), Some("resource hap1 monitor pg 1")),
        (state(State::Backup, None), None),
        (state(State::Stop, Some(State::Backup)), None),
        (about(What::Fencing(Fencing::Done)), Some("fencing hap2 off - 0")),
        (about(What::Fencing(Fencing::Failed)), Some("fencing hap2 off - 1")),
        (about(What::Fencing(Fencing::Started)), None),
        (about(What::Peer { back: false }), Some("node hap2 - - -")),
        (about(What::Other), None),
    ] {
        let called = call(&hook(Style::Pacemaker), &occasion, &SCENE);
        let said = called.map(|c| {
            assert_eq!(c.argv, ["/n", "mine"]);
            let names = ["kind", "node", "task", "rsc", "rc"];
            let value = |name: &str| {
                let found = c.env.iter().find(|(n, _)| *n == format!("CRM_alert_{name}"));
                found.map_or("-", |(_, value)| value.as_str())
            };
            assert_eq!([value("recipient"), value("node_sequence")], ["ops", "7"]);
            assert_eq!(value("timestamp_epoch"), "1795543200");
            names.map(value).join(" ")
        });
        assert_eq!(said.as_deref(), expected, "{occasion:?}");
    }
}

#[test]
fn vipd_tells_one_object_and_the_same_in_variables() {
    let called = call(&hook(Style::Vipd), &state(State::Active, Some(State::Backup)), &SCENE);
    let called = called.unwrap();
    let body: serde_json::Value = serde_json::from_str(&called.body.unwrap()).unwrap();
    let expected = serde_json::json!({
        "hook": "n", "cluster": "lb", "node": "hap1", "kind": "active", "was": "backup",
        "group": "pg", "about": null, "severity": "info", "priority": 150,
        "reason": "hap2 gave up\n(priority 0)", "time": "2026-11-24T18:00:00.5Z",
    });
    assert_eq!(body, expected);
    for (name, value) in &called.env {
        let key = name.strip_prefix("VIPD_").unwrap().to_lowercase();
        let fact = &body[&key];
        let number = || fact.as_u64().map(|n| n.to_string()).unwrap_or_default();
        let there = fact.as_str().map_or_else(number, |text| text.replace('\n', " "));
        assert_eq!(*value, there, "{name}");
    }
}

#[test]
fn a_variable_has_one_line_and_an_end() {
    let mut occasion = state(State::Active, None);
    occasion.note.text = format!("a\0b{}", "ä".repeat(5000));
    let called = call(&hook(Style::Vipd), &occasion, &SCENE).unwrap();
    let (_, reason) = called.env.iter().find(|(name, _)| *name == "VIPD_REASON").unwrap();
    assert!(reason.starts_with("a bä") && reason.len() <= 4096, "{}", reason.len());
}
