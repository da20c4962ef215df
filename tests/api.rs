//! The API from the outside: what it answers, and that nobody can hold it up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::Daemon;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use vipd::api::client::{Client, ClientError};
use vipd::api::server::{CONNECTIONS, Server};
use vipd::api::{ReloadError, ReloadReport, Unavailable};
use vipd::io::events::Want;

const NEWEST: Want<'_> = Want { after: None, limit: 100, group: None };

fn client(daemon: &Daemon) -> Client {
    Client::new(daemon.socket())
}

/// Sends `request` as it is and reads until the server closes.
async fn raw(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    // The server may close before it has taken everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(daemon: &Daemon, path: &str) -> (u16, serde_json::Value) {
    let text = raw(daemon, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn status_and_health() {
    let daemon = Daemon::start("status");
    assert_eq!(client(&daemon).status().await.unwrap(), fake::status());
    assert_eq!(client(&daemon).health().await.unwrap().version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_core_that_does_not_answer_is_said_so() {
    let daemon = Daemon::start("late");
    *daemon.fake.status.lock().unwrap() = Err(Unavailable::Late(Duration::from_secs(1)));
    let (code, body) = get(&daemon, "/v1/health").await;
    assert_eq!((code, &body["error"]), (503, &"unavailable".into()));
    let error = client(&daemon).status().await.unwrap_err();
    assert_eq!(error.to_string(), "the core thread did not answer within 1s");
    assert!(!error.is_refusal());
}

#[tokio::test]
async fn a_reload_tells_what_changed_or_why_nothing_did() {
    let daemon = Daemon::start("reload");
    let report = ReloadReport { changes: vec!["group web: added".into()], warnings: "w".into() };
    *daemon.fake.reload.lock().unwrap() = Ok(report.clone());
    assert_eq!(client(&daemon).reload().await.unwrap(), report);
    *daemon.fake.reload.lock().unwrap() = Err(ReloadError::Refused("error: no such key".into()));
    let error = client(&daemon).reload().await.unwrap_err();
    assert!(error.is_refusal());
    let ClientError::Answer { status, body } = error else { panic!("{error}") };
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!((&*body.error, &*body.detail), ("refused", "error: no such key"));
}

#[tokio::test]
async fn a_reload_is_carried_through_whoever_leaves() {
    let daemon = Daemon::start("leaves");
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    stream.write_all(b"POST /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(daemon.fake.reloads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn events_by_place_group_and_number() {
    let daemon = Daemon::start("events");
    let first = daemon.note("a", "active", "1");
    daemon.note("b", "active", "2");
    daemon.note("a", "backup", "3");
    let page = client(&daemon).events(NEWEST, Duration::ZERO).await.unwrap();
    assert_eq!(page.events.len(), 3);
    assert_eq!((page.last, page.missed), (first + 2, 0));
    let want = Want { after: Some(first), limit: 1, group: None };
    let page = client(&daemon).events(want, Duration::ZERO).await.unwrap();
    assert_eq!((page.events[0].id, page.last), (first + 1, first + 1));
    let want = Want { after: None, limit: 9, group: Some("a&b=%/ü") };
    let page = client(&daemon).events(want, Duration::ZERO).await.unwrap();
    assert_eq!(page.events, []);
}

#[tokio::test]
async fn a_long_poll_ends_with_an_event_and_without_one() {
    let daemon = Daemon::start("poll");
    let id = daemon.note("a", "active", "old");
    let want = Want { after: Some(id), ..NEWEST };
    let later = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        daemon.note("a", "backup", "new");
    };
    let client = client(&daemon);
    let (page, ()) = tokio::join!(client.events(want, Duration::from_secs(20)), later);
    let page = page.unwrap();
    assert_eq!(page.events[0].note.text, "new");
    let want = Want { after: Some(page.last), ..NEWEST };
    let page = client.events(want, Duration::from_secs(1)).await.unwrap();
    assert_eq!((page.events.len(), page.last), (0, id + 1));
}

#[tokio::test]
async fn a_bad_request_is_told_what_is_bad() {
    let daemon = Daemon::start("bad");
    for (path, code, error) in [
        ("/", 404, "not-found"),
        ("/v1/status/../x", 404, "not-found"),
        ("/v1/reload", 405, "method-not-allowed"),
        ("/v1/events?after=-1", 400, "bad-request"),
        ("/v1/events?limit=99999999999999999999", 400, "bad-request"),
        ("/v1/events?afer=3", 400, "bad-request"),
    ] {
        let (got, body) = get(&daemon, path).await;
        assert_eq!((got, &body["error"]), (code, &error.into()), "{path}: {body}");
    }
    let (code, _) = get(&daemon, "/v1/events?limit=4294967295&wait=0").await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn garbage_is_answered_and_closed() {
    let daemon = Daemon::start("garbage");
    assert!(raw(&daemon, b"\x16\x03\x01\x02\0\x01\0\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    assert_eq!(raw(&daemon, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
    let long = format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    assert!(raw(&daemon, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let body = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\nx";
    assert!(raw(&daemon, body).await.starts_with("HTTP/1.1 200"));
    client(&daemon).status().await.unwrap();
}

#[tokio::test]
async fn idle_connections_cannot_lock_others_out() {
    let daemon = Daemon::start("idle");
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
        stream.write_all(b"GET /v1/st").await.unwrap();
        idle.push(stream);
    }
    client(&daemon).status().await.unwrap();
}

#[tokio::test]
async fn waiting_has_its_own_limit_and_the_gone_make_room() {
    let daemon = Daemon::start("waiters");
    let id = daemon.note("a", "active", "old");
    let request = format!("GET /v1/events?after={id}&wait=30 HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let want = Want { after: Some(id), ..NEWEST };
    let mut one_more = client(&daemon).events(want, Duration::from_secs(1)).await;
    assert!(matches!(&one_more, Err(ClientError::Answer { status, .. }) if *status == 503));
    client(&daemon).status().await.unwrap();
    waiting.clear();
    for _ in 0..20 {
        one_more = client(&daemon).events(want, Duration::from_secs(1)).await;
        if one_more.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    one_more.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_up() {
    let daemon = Daemon::start("deaf");
    for i in 0..4000 {
        daemon.note("a", "active", &i.to_string());
    }
    let mut deaf = Vec::new();
    for _ in 0..CONNECTIONS - 1 {
        let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    client(&daemon).status().await.unwrap();
    assert_eq!(
        client(&daemon)
            .events(Want { limit: 4096, ..NEWEST }, Duration::ZERO)
            .await
            .unwrap()
            .events
            .len(),
        4000
    );
}

#[tokio::test]
async fn stopping_ends_waits_and_removes_the_socket() {
    let mut daemon = Daemon::start("stop");
    let id = daemon.note("a", "active", "old");
    let client = client(&daemon);
    let wait = tokio::spawn(async move {
        client.events(Want { after: Some(id), ..NEWEST }, Duration::from_secs(25)).await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    daemon.stop().await;
    assert_eq!(wait.await.unwrap().unwrap().events, []);
    assert!(!daemon.socket().exists());
    let error = Client::new(daemon.socket()).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoSocket(_)), "{error}");
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_the_mode_is_right() {
    let mut daemon = Daemon::start("stale");
    daemon.stop().await;
    drop(std::os::unix::net::UnixListener::bind(daemon.socket()).unwrap());
    let error = client(&daemon).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NobodyListens(_)), "{error}");
    daemon.serve();
    client(&daemon).status().await.unwrap();
    let meta = std::fs::metadata(daemon.socket()).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
}

#[tokio::test]
async fn a_path_that_cannot_be_a_socket_is_an_error_that_names_it() {
    let long = std::path::PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
    let error = Server::bind(&long, None).unwrap_err().to_string();
    assert!(error.starts_with("API socket /tmp/xxx") && error.contains("use this path"), "{error}");
    let error = Server::bind("/nonexistent/vipd.sock".as_ref(), None).unwrap_err().to_string();
    assert!(error.contains("bind"), "{error}");
}

#[tokio::test]
async fn an_answer_that_never_comes_is_waited_for_in_vain_only_so_long() {
    let dir = std::env::temp_dir().join(format!("vipd-hang-{}", std::process::id()));
    let _hangs = std::os::unix::net::UnixListener::bind(&dir).unwrap();
    let error = Client::new(&dir).status().await.unwrap_err();
    std::fs::remove_file(&dir).unwrap();
    assert!(matches!(error, ClientError::TimedOut(_)), "{error}");
}
