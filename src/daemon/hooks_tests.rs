use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

/// One script for all hooks: it waits where it is told to, and writes down each call.
struct Rig {
    dir: PathBuf,
    hooks: Hooks,
    events: Arc<EventLog>,
}

impl Rig {
    /// `rows` are hooks, after their script.
    fn new(name: &str, script: &str, rows: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("vipd-lane-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("notify");
        let log = dir.join("log");
        fs::write(&log, "").unwrap();
        let script = script.replace("LOG", &log.to_string_lossy());
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        for (path, mode) in [(&dir, 0o755), (&path, 0o755), (&log, 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let events = Arc::new(EventLog::new("hap1", Timestamp::UNIX_EPOCH));
        let hooks = Hooks::new(Arc::clone(&events), "lb", "hap1");
        let rig = Self { dir, hooks, events };
        rig.configure(rows);
        rig
    }

    fn configure(&self, rows: &[&str]) -> Vec<String> {
        let nodes = [1, 2]
            .map(|n| format!("[[node]]\nname = \"hap{n}\"\naddress = \"192.168.34.13{n}\"\n"));
        let groups = [("a", 85), ("b", 86)].map(|(name, n)| {
            let address = format!("addresses = [\"192.168.34.{n}/24\"]");
            format!("[[group]]\nname = \"{name}\"\nvrid = {n}\n{address}\n")
        });
        let run = self.dir.join("notify");
        let hook = |(n, row): (usize, &&str)| {
            format!("[[hook]]\nname = \"h{n}\"\nrun = [\"{}\"]\n{row}\n", run.display())
        };
        let hooks: String = rows.iter().enumerate().map(hook).collect();
        let all = [nodes.concat(), groups.concat(), hooks].concat();
        let text = format!("[cluster]\nname = \"lb\"\n{all}");
        self.hooks.configure(&config_of(&text))
    }

    fn tell(&self, group: &str, kind: &str) {
        let (at, severity) = (clock::now(), Severity::Info);
        let (group, kind, text) = (Some(group.to_owned()), kind.to_owned(), String::new());
        self.hooks.tell(&Note { at, severity, group, kind, text, about: None });
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    async fn idle(&self) {
        let mut busy = self.hooks.0.busy.subscribe();
        let idle = busy.wait_for(|busy| *busy == 0);
        tokio::time::timeout(Duration::from_secs(20), idle).await.unwrap().unwrap();
    }

    fn kinds(&self) -> Vec<String> {
        let all = crate::io::events::Want { after: None, limit: 100, group: None };
        self.events.page(all).events.into_iter().map(|record| record.note.kind).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn config_of(text: &str) -> Config {
    crate::config::parse(text).unwrap_or_else(|e| panic!("{e:?}")).0
}

const WRITE: &str = "echo $VIPD_HOOK $VIPD_GROUP $VIPD_KIND >>LOG";

#[tokio::test]
async fn one_group_is_in_order_and_another_is_not_held_up() {
    // The first call of a takes its time; those after it are quick.
    let slow = format!("[ $VIPD_GROUP.$VIPD_KIND = a.backup ] && sleep 0.4\n{WRITE}");
    let rig = Rig::new("order", &slow, &["", "on = [\"active\"]\ngroups = [\"a\"]"]);
    for kind in ["backup", "active", "backup"] {
        rig.tell("a", kind);
    }
    rig.tell("b", "backup");
    rig.tell("b", "active");
    rig.idle().await;
    let log = rig.log();
    let of = |group: &str| {
        let ours = log.iter().filter(|line| line.split(' ').nth(1) == Some(group));
        ours.map(|line| line.replace(&format!(" {group} "), " ")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(of("a"), "h0 backup, h0 active, h1 active, h0 backup");
    assert_eq!(of("b"), "h0 backup, h0 active");
    assert!(log[1].contains(" b "), "b was held up: {log:?}");
}

#[tokio::test]
async fn what_does_not_fit_is_counted_and_the_newest_stays() {
    let rig = Rig::new("full", &format!("sleep 0.02; {WRITE}"), &[""]);
    let turns = ["backup", "active"];
    let many = 2 * WAITING + 1;
    for n in 0..many {
        rig.tell("a", turns[n % 2]);
    }
    let (status, conditions) = rig.hooks.status();
    let left_out = many - WAITING;
    assert_eq!(status[0].dropped, left_out as u64);
    assert_eq!(conditions.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["hook-behind"]);
    assert!(conditions[0].text.contains("33 events of a were left out, 32 wait"), "{conditions:?}");
    rig.idle().await;
    let log = rig.log();
    assert_eq!(log.len(), WAITING);
    // What is left is what came last, as it came.
    assert_eq!(log.first().map(String::as_str), Some("h0 a active"));
    assert_eq!(log.last().map(String::as_str), Some("h0 a backup"));
    assert_eq!(rig.hooks.status().1, []);
    assert_eq!(rig.kinds(), ["hook-behind"]);
}

#[tokio::test]
async fn a_failure_is_told_and_shown_until_a_call_goes_well() {
    let rig = Rig::new("failed", "echo no mail; [ $VIPD_KIND = active ]", &[""]);
    rig.tell("a", "backup");
    rig.idle().await;
    let (status, conditions) = rig.hooks.status();
    let last = status[0].last.clone().unwrap();
    assert_eq!((last.kind.as_str(), last.group.as_deref()), ("backup", Some("a")));
    assert_eq!((last.failed.as_deref(), last.output.as_str()), (Some("exit status 1"), "no mail"));
    let expected = "for backup of a: exit status 1; it said: no mail";
    assert!(conditions[0].text.ends_with(expected), "{conditions:?}");
    assert_eq!(rig.kinds(), ["hook-failed"]);
    let report = rig.hooks.test("h0", None, State::Active).await.unwrap();
    assert_eq!(report.call.failed, None);
    let (status, conditions) = rig.hooks.status();
    assert_eq!((status[0].calls, status[0].failures, conditions.len()), (2, 1, 0));
    let why = rig.hooks.test("h1", None, State::Active).await.unwrap_err();
    assert_eq!(why, "there is no hook h1; there is: h0");
    let why = rig.hooks.test("h0", Some("c"), State::Active).await.unwrap_err();
    assert_eq!(why, "there is no group c");
}

#[tokio::test]
async fn the_end_tells_every_group_and_waits() {
    let rig = Rig::new("end", &format!("sleep 0.1; {WRITE}"), &["style = \"keepalived\""]);
    rig.tell("a", "active");
    rig.hooks.end().await;
    let mut log = rig.log();
    log.sort();
    assert_eq!(log, ["h0 a active", "h0 a stop", "h0 b stop"]);
}

#[tokio::test]
async fn what_is_not_to_be_trusted_is_known_at_the_start() {
    let rig = Rig::new("trust", WRITE, &[]);
    fs::set_permissions(rig.dir.join("notify"), fs::Permissions::from_mode(0o777)).unwrap();
    rig.configure(&[""]);
    for _ in 0..200 {
        if !rig.hooks.status().1.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, conditions) = rig.hooks.status();
    assert!(conditions[0].text.contains("refused: "), "{conditions:?}");
    assert_eq!((status[0].calls, status[0].failures), (0, 0));
    rig.tell("a", "active");
    rig.idle().await;
    assert_eq!(rig.log(), Vec::<String>::new());
}

#[tokio::test]
async fn a_reload_says_what_became_of_the_hooks() {
    let rig = Rig::new("reload", WRITE, &["", ""]);
    assert_eq!(rig.configure(&["", ""]), Vec::<String>::new());
    let changes = rig.configure(&["timeout = \"1s\""]);
    assert_eq!(changes, ["hook h0: changed", "- hook h1"]);
    assert_eq!(rig.configure(&["timeout = \"1s\"", ""]), ["+ hook h1"]);
}

#[tokio::test]
async fn a_mended_script_is_seen_at_the_reload() {
    let rig = Rig::new("mended", WRITE, &[]);
    let notify = rig.dir.join("notify");
    for (mode, wrong) in [(0o777, true), (0o755, false)] {
        fs::set_permissions(&notify, fs::Permissions::from_mode(mode)).unwrap();
        rig.configure(&[""]);
        for _ in 0..200 {
            if rig.hooks.status().1.is_empty() != wrong {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(rig.hooks.status().1.is_empty(), !wrong, "{mode:o}");
    }
}
