//! `vipctl` as it is run: output, errors, exit statuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Output, Stdio};
use std::time::Duration;

use fake::Daemon;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use vipd::api::{ReloadError, ReloadReport, Unavailable};
use vipd::core::status::Status;
use vipd::io::secret;

const LIMIT: Duration = Duration::from_secs(10);

fn vipctl(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipctl"));
    command.args(args).arg("--runtime-dir").arg(&daemon.dir);
    command.env_clear().env("TZ", "UTC").kill_on_drop(true);
    command
}

async fn run(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let output = timeout(LIMIT, vipctl(daemon, args).output()).await.unwrap().unwrap();
    shown(&output)
}

fn shown(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_table_without_colours_in_a_pipe() {
    let daemon = Daemon::start("table");
    let (code, out, err) = run(&daemon, &["status"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("cluster lb, node hap1, up 16m 40s, "), "{out}");
    assert!(out.contains("\npostgres  Active  this node  120   192.168.34.85/24"), "{out}");
    assert!(out.contains("/usr/share/doc/vipd/operations.md#never-heard-peer"), "{out}");
    assert!(!out.contains('\x1b') && out.lines().all(|l| l.len() <= 100), "{out}");
    let (_, out, _) = run(&daemon, &["status", "--color", "always"]).await;
    assert!(out.contains("\x1b[1;32mActive\x1b[0m"), "{out}");
}

#[tokio::test]
async fn json_is_the_status_and_can_be_narrowed() {
    let daemon = Daemon::start("json");
    let (code, out, _) = run(&daemon, &["status", "--json"]).await;
    assert_eq!(code, 0);
    let status: Status = serde_json::from_str(&out).unwrap();
    assert_eq!(status, fake::status());
    let (_, out, _) = run(&daemon, &["status", "web", "--json"]).await;
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["groups"].as_array().unwrap().len(), 1);
    assert_eq!(value["groups"][0]["role"], "active");
}

#[tokio::test]
async fn an_unknown_group_is_told_which_there_are() {
    let daemon = Daemon::start("unknown");
    for args in [&["status", "mysql"][..], &["status", "mysql", "--json"]] {
        let (code, out, err) = run(&daemon, args).await;
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(err, "vipctl: there is no group mysql; there is: postgres, web\n");
    }
}

#[tokio::test]
async fn without_a_daemon_it_is_said_what_to_look_at() {
    let mut daemon = Daemon::start("none");
    daemon.stop().await;
    for command in ["status", "events", "reload"] {
        let (code, out, err) = run(&daemon, &[command]).await;
        assert_eq!((code, out.as_str()), (3, ""));
        let socket = daemon.socket();
        assert!(err.contains(&format!("there is no socket {}", socket.display())), "{err}");
        assert!(err.contains("systemctl status vipd"), "{err}");
    }
    drop(std::os::unix::net::UnixListener::bind(daemon.socket()).unwrap());
    let (code, _, err) = run(&daemon, &["status"]).await;
    assert_eq!(code, 3);
    assert!(err.contains("nobody listens"), "{err}");
}

#[tokio::test]
async fn without_permission_it_is_said_who_has_it() {
    let daemon = Daemon::start("permission");
    // Root may do anything: become somebody else, who must reach the program.
    let program = daemon.dir.join("vipctl");
    std::fs::copy(env!("CARGO_BIN_EXE_vipctl"), &program).unwrap();
    for path in [&daemon.dir, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&program);
    command.arg("status").arg("--runtime-dir").arg(&daemon.dir).env_clear();
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    } else {
        let nobody = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(daemon.socket(), nobody).unwrap();
    }
    let (code, _, err) = shown(&timeout(LIMIT, command.output()).await.unwrap().unwrap());
    assert_eq!(code, 3);
    assert!(err.contains("no permission") && err.contains("sudo"), "{err}");
}

#[tokio::test]
async fn a_core_that_hangs_counts_as_unreachable() {
    let daemon = Daemon::start("hung");
    *daemon.fake.status.lock().unwrap() = Err(Unavailable::Late(Duration::from_secs(1)));
    let (code, _, err) = run(&daemon, &["status"]).await;
    assert_eq!((code, err.as_str()), (3, "vipctl: the core thread did not answer within 1s\n"));
}

#[tokio::test]
async fn a_move_says_what_it_cost_or_why_it_was_not_done() {
    let daemon = Daemon::start("vmove");
    let (code, out, _) = run(&daemon, &["move", "postgres", "hap2"]).await;
    assert_eq!(code, 0);
    assert_eq!(out, "postgres moved from hap1 to hap2: nobody answered for 2.1 ms\n");
    let (code, _, err) = run(&daemon, &["move", "postgres", "hap9"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no node \"hap9\"; the file has hap1, hap2"), "{err}");
}

/// hap1 has `postgres` by lease, and hap2 could have it.
fn leased() -> Status {
    let mut status = serde_json::to_value(fake::status()).unwrap();
    let vote = |voter| serde_json::json!({ "voter": voter, "known": true, "priority": 120 });
    status["groups"][0]["lease"] = serde_json::json!({
        "holder": "hap1", "tenure": 1, "preempt": false, "granted-by": [],
        "votes": [vote("hap1"), vote("hap2")],
    });
    let voter = |name| {
        serde_json::json!({
            "name": name, "witness": false, "me": name == "hap1", "alive": true, "hears-us": true,
            "settled": true,
        })
    };
    status["voting"] = serde_json::json!({
        "voters": [voter("hap1"), voter("hap2")], "majority": 2, "settled": true, "term-us": 1,
        "renew-us": 1, "vote-us": 1,
    });
    serde_json::from_value(status).unwrap()
}

#[tokio::test]
async fn a_move_waits_for_the_connections_that_there_were() {
    let daemon = Daemon::start("vdrain");
    *daemon.fake.status.lock().unwrap() = Ok(leased());
    let (code, out, err) = run(&daemon, &["move", "postgres", "hap2", "--drain", "30s"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "postgres moved from hap1 to hap2: nobody answered for 2.1 ms\n");
    let lines: Vec<_> = err.lines().collect();
    assert!(lines[0].starts_with("3 connection(s) to postgres on hap1 are waited for"), "{err}");
    assert_eq!((lines.len(), lines[3]), (4, "every connection has ended"), "{err}");

    let (code, _, err) = run(&daemon, &["move", "postgres", "hap9", "--drain", "30"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("no node \"hap9\""), "nothing is waited for in vain: {err}");
    let (code, ..) = run(&daemon, &["move", "postgres", "hap2", "--drain", "long"]).await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn a_hook_is_tried_and_all_are_shown() {
    let daemon = Daemon::start("vhook");
    let (code, out, _) = run(&daemon, &["hook", "good", "--group", "postgres"]).await;
    assert_eq!(code, 0);
    assert_eq!(out, "good (/etc/vipd/notify): done, after 12 ms\n  all is well\n  twice\n");
    let (code, out, _) = run(&daemon, &["hook", "bad", "--state", "stop"]).await;
    assert_eq!(code, 1);
    assert_eq!(out, "bad (/etc/vipd/notify): exit status 3, after 12 ms\n  no mail today\n");
    let (code, _, err) = run(&daemon, &["hook", "none"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("there is no hook none"), "{err}");
    let (code, _, _) = run(&daemon, &["hook", "good", "--state", "tired"]).await;
    assert_eq!(code, 2);
    let (_, out, _) = run(&daemon, &["hook"]).await;
    assert_eq!(out, "The file has no hooks.\n");
}

#[tokio::test]
async fn reload_says_what_changed_or_what_is_wrong() {
    let daemon = Daemon::start("vreload");
    let (code, out, _) = run(&daemon, &["reload"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("nothing changed"), "{out}");
    let changes = vec!["group web: priority of hap1 120, was 100".to_owned()];
    *daemon.fake.reload.lock().unwrap() =
        Ok(ReloadReport { changes, warnings: "warning: odd\n".into() });
    let (_, out, _) = run(&daemon, &["reload"]).await;
    assert_eq!(out, "warning: odd\ngroup web: priority of hap1 120, was 100\n");
    *daemon.fake.reload.lock().unwrap() = Err(ReloadError::Refused("error: vrid 0".into()));
    let (code, out, err) = run(&daemon, &["reload"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "vipctl: vipd refused, and goes on unchanged\nerror: vrid 0\n");
}

#[tokio::test]
async fn events_as_lines_and_as_json() {
    let daemon = Daemon::start("vevents");
    daemon.note("postgres", "backup", "started");
    let id = daemon.note("postgres", "active", "no advert from hap2 for 361 ms");
    let (code, out, _) = run(&daemon, &["events", "-n", "1"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "1970-01-01 00:00:00.000      postgres      active              no advert from hap2 for \
         361 ms\n"
    );
    let (_, out, _) = run(&daemon, &["events", "--json", "--group", "postgres"]).await;
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["id"], &last["kind"]), (&id.into(), &"active".into()));
    assert_eq!(out.lines().count(), 2);
    let (_, out, _) = run(&daemon, &["events", "--group", "web"]).await;
    assert_eq!(out, "");
}

#[tokio::test]
async fn following_goes_on_across_a_restart_and_ends_cleanly() {
    let mut daemon = Daemon::start("follow");
    daemon.note("postgres", "active", "one");
    let mut child = vipctl(&daemon, &["events", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(next().await.ends_with("one"));
    daemon.note("postgres", "backup", "two");
    assert!(next().await.ends_with("two"));
    daemon.stop().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.serve();
    daemon.note("postgres", "active", "three");
    assert!(next().await.ends_with("three"));
    interrupt(&child);
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    assert!(err.contains("waiting for it to come back"), "{err}");
}

#[tokio::test]
async fn watching_repeats_until_interrupted() {
    let daemon = Daemon::start("watch");
    let mut child = vipctl(&daemon, &["status", "--json", "--watch", "0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
        let status: Status = serde_json::from_str(&line).unwrap();
        assert_eq!(status.node, "hap1");
    }
    interrupt(&child);
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let daemon = Daemon::start("pipe");
    for args in [&["status", "--watch", "0.1"][..], &["completions", "zsh"], &["man"]] {
        let mut child =
            vipctl(&daemon, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(shown(&output), (0, String::new(), String::new()), "{args:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let daemon = Daemon::start("full");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = vipctl(&daemon, &["status"]);
    command.stdout(full).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (code, _, err) = shown(&timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap());
    assert_eq!(code, 1);
    assert!(err.starts_with("vipctl: cannot write: "), "{err}");
}

#[tokio::test]
async fn usage_errors_are_two() {
    let daemon = Daemon::start("usage");
    for args in [&["stats"][..], &["status", "--watch=pg"], &["events", "-n", "x"]] {
        let (code, _, err) = run(&daemon, args).await;
        assert_eq!(code, 2, "{err}");
    }
    let (code, out, _) = run(&daemon, &["--help"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("Exit status:"), "{out}");
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_key_is_printed_or_put_into_a_file_of_its_owner() {
    let daemon = Daemon::start("keygen");
    let (code, key, err) = run(&daemon, &["keygen"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(key.len() == 65 && key.trim_end().bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
    let (_, other, _) = run(&daemon, &["keygen"]).await;
    assert_ne!(key, other);

    let file = daemon.dir.join("secret");
    let path = file.to_str().unwrap();
    let (code, out, err) = run(&daemon, &["keygen", path]).await;
    assert_eq!((code, err.as_str(), mode(&file)), (0, "", 0o600));
    let first = secret::read(&file).unwrap();
    let id = first.keys.ids().next().unwrap();
    assert_eq!(out, format!("{path}: key {id}\n"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.len(), 65);
    assert!(!out.contains(&text[..8]) && !first.is_public);

    let (code, out, err) = run(&daemon, &["keygen", path]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("is there already; --add puts"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let (code, _, err) = run(&daemon, &["keygen", "/nonexistent/secret"]).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("vipctl: /nonexistent/secret: No such file"), "{err}");
    let (code, _, _) = run(&daemon, &["keygen", "--add"]).await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn a_key_is_put_on_top_and_the_file_stays_what_it_was() {
    let daemon = Daemon::start("keygen-add");
    let (file, link) = (daemon.dir.join("secret"), daemon.dir.join("link"));
    let path = link.to_str().unwrap();
    std::os::unix::fs::symlink("secret", &link).unwrap();
    let (code, _, err) = run(&daemon, &["keygen", path, "--add"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("No such file"), "{err}");

    let old = "# of old\n000102030405060708090a0b0c0d0e0f # no line end";
    std::fs::write(&file, old).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(secret::read(&file).unwrap().is_public);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&file, Some(65534), Some(65533)).unwrap();
    }
    for count in 2..=8 {
        let (code, out, err) = run(&daemon, &["keygen", path, "--add"]).await;
        assert_eq!((code, err.as_str()), (0, ""));
        let ids: Vec<_> = secret::read(&file).unwrap().keys.ids().collect();
        assert_eq!(ids.len(), count);
        assert_eq!(out, format!("{path}: key {}\n", ids[0]));
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.ends_with(&format!("\n{old}")), "{text}");
    let about = std::fs::metadata(&file).unwrap();
    assert!(!is_root || (about.uid(), about.gid()) == (65534, 65533));
    assert!(mode(&file) == 0o640 && link.is_symlink());

    let (code, _, err) = run(&daemon, &["keygen", path, "--add"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("line 10: there are more than 8 keys"), "{err}");
    std::fs::write(&file, "oops").unwrap();
    let (code, _, err) = run(&daemon, &["keygen", path, "--add"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("line 1: a key is an even number of hexadecimal digits"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "oops");
    let left = std::fs::read_dir(&daemon.dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
}

#[tokio::test]
async fn what_an_operator_decides_is_asked_for_and_told() {
    let daemon = Daemon::start("will");
    let ban = ["ban", "web", "hap2", "--for", "2h", "--reason", "a disk"];
    let (code, out, _) = run(&daemon, &ban).await;
    assert_eq!(code, 0, "{out}");
    for part in ["topic: Ban", "on: true", "Some(\"web\")", "7200000", "Some(\"a disk\")"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.ends_with("\nnot heard, so told later: hap3\n"), "{out}");
    let (code, out, _) = run(&daemon, &["maintenance", "off", "web", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["shared"]), (0, &serde_json::Value::Bool(false)));
    assert!(report["text"].as_str().unwrap().contains("on: false"), "{report}");
    // Whoever would leave a group to nobody is asked, and nobody is there to answer.
    let (code, _, err) = run(&daemon, &["standby"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("Nobody else can have postgres, web"), "{err}");
    let (code, out, _) = run(&daemon, &["standby", "--yes"]).await;
    assert_eq!((code, out.contains("force: true")), (0, true), "{out}");
    let (code, out, _) = run(&daemon, &["cleanup", "--reason", "disk full"]).await;
    assert_eq!((code, out.contains("NOT WRITTEN DOWN (disk full)")), (1, true), "{out}");
    let (code, _, err) = run(&daemon, &["resume", "hap9"]).await;
    assert_eq!((code, err.contains("no node")), (1, true), "{err}");
    for bad in [&["ban", "web", "hap2"][..], &["standby", "--for", "soon"], &["maintenance"]] {
        assert_eq!(run(&daemon, bad).await.0, 2, "{bad:?}");
    }
}

#[tokio::test]
async fn man_pages_are_written() {
    let daemon = Daemon::start("man");
    let dir = daemon.dir.join("man");
    let (code, out, _) = run(&daemon, &["man", dir.to_str().unwrap()]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    let text = std::fs::read_to_string(dir.join("vipctl-status.8")).unwrap();
    assert!(text.contains("HOLDER"), "{text}");
    assert!(dir.join("vipd.8").exists());
    let (code, _, err) = run(&daemon, &["man", "/dev/null/x"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("cannot write /dev/null/x/vipctl.8"), "{err}");
}

#[tokio::test]
async fn a_file_is_checked_without_a_daemon() {
    const GOOD: &str = "[cluster]\nname = \"lb\"\n\n[[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\n\n\
        [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\n\n\
        [[group]]\nname = \"postgres\"\nvrid = 85\naddresses = [\"192.168.34.85/24\"]\n";
    let daemon = Daemon::start("check");
    let file = daemon.dir.join("vipd.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, GOOD).unwrap();
    let (code, out, err) = run(&daemon, &["check", path, "--node", "hap1"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("cluster lb: hap1, hap2\n"), "{out}");
    let (code, _, err) = run(&daemon, &["check", path, "--node", "hap9"]).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("vipctl: no [[node]] is named `hap9`"), "{err}");
    std::fs::write(&file, GOOD.replace("vrid", "vird")).unwrap();
    let (code, out, err) = run(&daemon, &["check", path]).await;
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(
        out.contains("vird") && out.contains("vipd.toml:14:1") && !out.contains('\x1b'),
        "{out}"
    );
    let (code, _, err) = run(&daemon, &["check", "/nonexistent"]).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("vipctl: cannot read /nonexistent: "), "{err}");
    let (code, out, _) = run(&daemon, &["schema"]).await;
    assert_eq!(code, 0);
    let _: serde_json::Value = serde_json::from_str(&out).unwrap();
}

fn interrupt(child: &tokio::process::Child) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGINT).unwrap();
}

/// Two hosts with devices: one whose agent answers, and one that has a mistake in it.
fn fenced(daemon: &Daemon, second: &str) -> std::path::PathBuf {
    let state = daemon.dir.join("power");
    std::fs::write(&state, "on").unwrap();
    let text = format!(
        "[cluster]\nname = \"lb\"\nsecret = \"{0}/secret\"\n\n\
         [[node]]\nname = \"hap1\"\naddress = \"192.168.34.132\"\n\
         fence = {{ agent = \"fence_dummy\", status-file = \"{0}/power\" }}\n\n\
         [[node]]\nname = \"hap2\"\naddress = \"192.168.34.133\"\nfence = {second}\n\n\
         [[group]]\nname = \"postgres\"\nvrid = 85\nsafety = \"lease+fence\"\n\
         addresses = [\"192.168.34.85/24\"]\n",
        daemon.dir.display()
    );
    let file = daemon.dir.join("fenced.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn devices_are_held_against_their_agents() {
    let daemon = Daemon::start("check-fence");
    let bad = "{ agent = \"fence_ipmilan\", ip = \"10.0.0.1\", lanpuls = true, \
               password-file = \"/nonexistent\" }";
    let file = fenced(&daemon, bad);
    let (code, out, _) = run(&daemon, &["check", file.to_str().unwrap()]).await;
    assert_eq!(code, 1, "{out}");
    for line in [
        "error: hap2: fence_ipmilan: has no parameter `lanpuls`: write `lanplus`\n",
        "warning: hap2: fence_ipmilan: /nonexistent: No such file",
        "warning: hap2: fence_ipmilan: hands its password to ipmitool's command line",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(!out.contains("hap1: fence_dummy"), "{out}");
    let file = fenced(&daemon, "{ agent = \"fence_elsewhere\", port = 1 }");
    let (code, out, _) = run(&daemon, &["check", "--strict", file.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("note: fence_elsewhere: is not on this host"), "{out}");
}

#[tokio::test]
async fn doctor_asks_every_device() {
    let daemon = Daemon::start("doctor");
    let secret = daemon.dir.join("secret");
    let file = fenced(&daemon, "{ agent = \"fence_dummy\", type = \"fail\", level = 2 }");
    let file = file.to_str().unwrap();
    let (code, out, _) = run(&daemon, &["doctor", file]).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("secret  bad"), "{out}");
    run(&daemon, &["keygen", secret.to_str().unwrap()]).await;
    let (_, out, _) = run(&daemon, &["doctor", file]).await;
    assert!(out.contains("secret  ok"), "{out}");
    assert!(out.contains("\nhap1  1      fence_dummy  ok       on "), "{out}");
    let good = fenced(&daemon, "{ agent = \"fence_dummy\", status-file = \"/nonexistent/x\" }");
    let (code, out, err) = run(&daemon, &["doctor", good.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, _) = run(&daemon, &["doctor", good.to_str().unwrap(), "--node", "hap2"]).await;
    assert!(out.contains("it is the device of another one"), "{out}");
    assert_eq!(code, 1);
}
