//! Hooks as real processes and real requests: who they are, what they get, and how they end.
//! Needs root: a script belongs to somebody else than whoever runs it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vipd::io::clock;
use vipd::io::hook::{self, Outcome, Post, Script};

/// Far more than any call takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of scripts that everybody may read.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let dir = std::env::temp_dir().join(format!("vipd-hooks-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        mode(&dir, 0o755);
        Self(dir)
    }

    fn script(&self, text: &str) -> Script {
        let path = self.0.join("notify");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        mode(&path, 0o755);
        Script { argv: vec![path.to_string_lossy().into_owned()], ..Script::default() }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_script_is_told_and_its_output_is_kept() {
    let dir = Dir::new("told");
    let text = "echo \"$1 $VIPD_KIND [$HOME] $(pwd)\"; cat; echo oops >&2; env | wc -l; exit 3";
    let mut script = dir.script(text);
    script.argv.push("a b".to_owned());
    script.env = vec![("VIPD_KIND", "active".to_owned())];
    script.input = Some("{\"a\":1}".to_owned());
    let Outcome { result, output } = hook::run(script, PATIENCE).await;
    assert_eq!(result, Err("exit status 3".to_owned()));
    let lines: Vec<_> = output.lines().collect();
    for expected in ["a b active [/nonexistent] /", "{\"a\":1}", "oops"] {
        assert!(lines.contains(&expected), "{expected}: {output}");
    }
    // PATH, LANG, USER, LOGNAME, HOME and ours; the shell adds PWD. Nothing of vipd's own.
    assert!(lines.contains(&"7"), "{output}");
}

#[tokio::test]
async fn whoever_reads_nothing_is_not_waited_for() {
    let dir = Dir::new("deaf");
    let mut script = dir.script("exec <&-; echo done");
    script.input = Some("x".repeat(1 << 20));
    let Outcome { result, output } = hook::run(script, PATIENCE).await;
    assert_eq!((result, output.as_str()), (Ok(()), "done"));
}

#[tokio::test]
async fn a_script_has_no_rights_unless_it_is_roots_by_name() {
    let dir = Dir::new("rights");
    let text = "id -u; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | cut -f 2";
    let said = async |user: Option<&str>| {
        let mut script = dir.script(text);
        script.user = user.map(str::to_owned);
        let Outcome { result, output } = hook::run(script, PATIENCE).await;
        assert_eq!(result, Ok(()), "{output}");
        output.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let none = "0000000000000000";
    assert_eq!(said(None).await, ["65534", none, none, "1"]);
    assert_eq!(said(Some("daemon")).await, ["1", none, none, "1"]);
    let root = said(Some("root")).await;
    assert_eq!((root[0].as_str(), root[3].as_str()), ("0", "0"));
    assert_ne!(root[1], none);
    let mut nobody = dir.script("true");
    nobody.user = Some("no-such-user".to_owned());
    let why = hook::run(nobody, PATIENCE).await.result.unwrap_err();
    assert_eq!(why, "there is no user no-such-user");
}

#[tokio::test]
async fn what_others_may_write_is_refused() {
    let dir = Dir::new("writable");
    let script = dir.script("echo ran");
    let path = PathBuf::from(&script.argv[0]);
    let refused = async || hook::run(script.clone(), PATIENCE).await.result.unwrap_err();
    mode(&path, 0o757);
    assert!(refused().await.starts_with(&format!("refused: {}: everybody", path.display())));
    mode(&path, 0o755);
    mode(&dir.0, 0o777);
    assert!(refused().await.contains("everybody may write to it (mode 0777)"));
    mode(&dir.0, 0o755);
    // Whoever runs it may own it; somebody else may not.
    std::os::unix::fs::chown(&path, Some(1), None).unwrap();
    assert!(refused().await.contains("belongs to user 1"), "{}", refused().await);
    let own = Script { user: Some("daemon".to_owned()), ..script.clone() };
    assert_eq!(hook::run(own, PATIENCE).await.output, "ran");
    fs::remove_file(&path).unwrap();
    assert!(refused().await.ends_with("is not there"));
}

#[tokio::test]
async fn a_late_script_is_killed_with_all_it_started() {
    let dir = Dir::new("late");
    let text = "trap '' TERM\nsleep 300 &\necho $!\necho $$\nwait";
    let begun = clock::now();
    let Outcome { result, output } = hook::run(dir.script(text), Duration::from_millis(300)).await;
    let took = clock::now().since(begun);
    assert_eq!(result, Err("killed: not done after 300ms".to_owned()));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let pids: Vec<_> = output.lines().collect();
    assert_eq!(pids.len(), 2, "{output}");
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing() {
    let dir = Dir::new("dropped");
    let file = dir.0.join("pid");
    fs::write(&file, "").unwrap();
    mode(&file, 0o666);
    let text = format!("sleep 300 & echo $! >{}; wait", file.display());
    let call = hook::run(dir.script(&text), PATIENCE);
    let pid = tokio::select! {
        _ = call => panic!("it ended"),
        pid = async {
            loop {
                let pid = fs::read_to_string(&file).unwrap();
                if pid.ends_with('\n') {
                    break pid;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => pid,
    };
    gone(pid.trim()).await;
}

/// Waits until a process is gone; a zombie counts as gone.
async fn gone(pid: &str) {
    let status = format!("/proc/{pid}/status");
    for _ in 0..200 {
        match fs::read_to_string(&status) {
            Ok(text) if !text.contains("State:\tZ") => {}
            Ok(_) | Err(_) => return,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} lives on");
}

/// Answers one request; what it was asked comes back.
async fn answer(listener: TcpListener, answer: &'static str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        asked.extend_from_slice(&buffer[..n]);
        if n == 0 || asked.ends_with(b"}") {
            break;
        }
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(asked).unwrap()
}

async fn posted(path: &str, said: &'static str, token: Option<&str>) -> (Outcome, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let token = token.map(|t| t.to_owned().into());
    let post = Post { url, token, body: "{\"kind\":\"active\"}".to_owned() };
    tokio::join!(hook::post(post, PATIENCE), answer(listener, said))
}

#[tokio::test]
async fn a_webhook_gets_one_object() {
    let good = "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nqueue";
    let (outcome, asked) = posted("/a?b=c", good, Some("s3cret")).await;
    assert_eq!((outcome.result, outcome.output.as_str()), (Ok(()), "queue"));
    assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n{\"kind\":\"active\"}"), "{asked}");
    let head = asked.to_lowercase();
    assert!(head.contains("content-type: application/json\r\n"), "{asked}");
    assert!(head.contains("authorization: bearer s3cret\r\n"), "{asked}");
    assert!(head.contains("\r\nhost: 127.0.0.1:"), "{asked}");

    let bad = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let (outcome, asked) = posted("", bad, None).await;
    assert_eq!(outcome.result, Err("answered 503 Service Unavailable".to_owned()));
    assert_eq!(outcome.output, "busy");
    assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
    let (outcome, _) = posted("", "SSH-2.0-OpenSSH\r\n", None).await;
    assert!(outcome.result.is_err());
}

#[tokio::test]
async fn a_webhook_has_its_limit() {
    // Connected by the kernel, and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(200);
    let post = |url: String| Post { url, token: None, body: "{}".to_owned() };
    let late = hook::post(post(format!("http://{address}/")), limit).await;
    assert_eq!(late.result, Err("no answer within 200ms".to_owned()));
    let late = hook::post(post(format!("https://{address}/")), limit).await;
    assert_eq!(late.result, Err("no answer within 200ms".to_owned()));
    drop(listener);
    let none = hook::post(post(format!("http://{address}/")), PATIENCE).await;
    assert!(none.result.unwrap_err().starts_with("cannot connect to 127.0.0.1:"));
}
