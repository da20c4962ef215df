//! The asking side. Every error says what to do about it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    Asked, Connections, ErrorBody, FenceOrder, Health, HookReport, LONGEST_WAIT, MoveReport,
    ReloadReport, WillReport,
};
use crate::core::status::Status;
use crate::io::events::{Page, Record, Want};
use crate::types::Instant;

/// How long an answer may take, beyond the wait that was asked for.
pub const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer: a status of tens of thousands of addresses.
const LONGEST: usize = 32 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket.
    #[error(
        "vipd is not running here: there is no socket {}\n\
         see `systemctl status vipd`, or name another with --runtime-dir", .0.display()
    )]
    NoSocket(PathBuf),
    /// There is a socket nobody listens on.
    #[error(
        "vipd is not running: nobody listens on {}\n\
         it has died without tidying up; see `systemctl status vipd` and `journalctl -u vipd`",
        .0.display()
    )]
    NobodyListens(PathBuf),
    /// We may not open it.
    #[error("no permission to use {}\n{hint}", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
        /// Who may.
        hint: String,
    },
    /// It could not be connected to for another reason.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error(
        "vipd does not answer within {}s\n\
         it hangs or is overloaded; see `systemctl status vipd` and `journalctl -u vipd`",
        .0.as_secs()
    )]
    TimedOut(Duration),
    /// The connection broke.
    #[error("vipd went away during the request: {0}")]
    Broken(#[from] hyper::Error),
    /// vipd said no.
    #[error("{}", .body.detail)]
    Answer {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        body: ErrorBody,
    },
    /// The answer makes no sense to us.
    #[error("vipd's answer is not understood: {0}\nare vipctl and vipd of the same version?")]
    Nonsense(String),
}

impl ClientError {
    /// Whether vipd looked at the request and refused it; else it could not be asked.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Answer { status, .. } if status.is_client_error())
    }
}

/// Asks the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Everything the node knows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/v1/status", LIMIT).await
    }

    /// Whether the daemon and its core are alive.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.ask(Method::GET, "/v1/health", LIMIT).await
    }

    /// What happened, waiting up to `patience` for it to happen.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self, want: Want<'_>, patience: Duration) -> Result<Page, ClientError> {
        let mut query = vec![format!("limit={}", want.limit)];
        query.extend(want.after.map(|after| format!("after={after}")));
        query.extend(want.group.map(|group| format!("group={}", percent(group))));
        if !patience.is_zero() {
            query.push(format!("wait={}", patience.as_secs()));
        }
        let path = format!("/v1/events?{}", query.join("&"));
        self.ask(Method::GET, &path, patience + LIMIT).await
    }

    /// Has the configuration file read again.
    ///
    /// # Errors
    /// See [`ClientError`]; a bad file is an `Answer`.
    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.ask(Method::POST, "/v1/reload", LIMIT).await
    }

    /// Has a group handed over to a node.
    ///
    /// # Errors
    /// See [`ClientError`]; what cannot be moved is an `Answer`.
    pub async fn hand_over(&self, group: &str, node: &str) -> Result<MoveReport, ClientError> {
        let path = format!("/v1/move?group={}&node={}", percent(group), percent(node));
        self.ask(Method::POST, &path, LIMIT).await
    }

    /// The connections to a group, and how many of them were there at `before`, a moment of an
    /// earlier answer.
    ///
    /// # Errors
    /// See [`ClientError`]; a group of which nothing is known is an `Answer`.
    pub async fn connections(
        &self,
        group: &str,
        before: Option<Instant>,
    ) -> Result<Connections, ClientError> {
        let before = before.map_or_else(String::new, |at| format!("&before={}", at.nanos()));
        let path = format!("/v1/connections?group={}{before}", percent(group));
        self.ask(Method::GET, &path, LIMIT).await
    }

    /// Gives an order about the fencing of a node; what becomes of it is told by events.
    ///
    /// # Errors
    /// See [`ClientError`]; what makes no sense is an `Answer`.
    pub async fn fence(&self, node: &str, order: FenceOrder) -> Result<(), ClientError> {
        let order = match order {
            FenceOrder::Off => "off",
            FenceOrder::Confirm => "confirm",
        };
        let path = format!("/v1/fence?node={}&order={order}", percent(node));
        self.ask(Method::POST, &path, LIMIT).await
    }

    /// Decides something.
    ///
    /// # Errors
    /// See [`ClientError`]; what makes no sense is an `Answer`.
    pub async fn decide(&self, asked: &Asked) -> Result<WillReport, ClientError> {
        let Asked { topic, on, node, group, for_ms, why, by, force } = asked;
        let mut path = format!("/v1/will?topic={}&on={on}&force={force}", topic.name());
        for (key, value) in [("node", node), ("group", group), ("why", why), ("by", by)] {
            path.extend(value.iter().map(|value| format!("&{key}={}", percent(value))));
        }
        path.extend(for_ms.map(|ms| format!("&for-ms={ms}")));
        self.ask(Method::POST, &path, LIMIT).await
    }

    /// What was told of fencing, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn fence_history(&self) -> Result<Vec<Record>, ClientError> {
        self.ask(Method::GET, "/v1/fence/history", LIMIT).await
    }

    /// Has a hook called as if `group`, or any, became `state`.
    ///
    /// # Errors
    /// See [`ClientError`]; a hook that is not there is an `Answer`.
    pub async fn hook(
        &self,
        name: &str,
        group: Option<&str>,
        state: &str,
    ) -> Result<HookReport, ClientError> {
        let group = group.map_or_else(String::new, |g| format!("&group={}", percent(g)));
        let path = format!("/v1/hook?name={}&state={}{group}", percent(name), percent(state));
        self.ask(Method::POST, &path, LONGEST_WAIT + LIMIT).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let (status, body) = timeout(limit, self.exchange(method, path))
            .await
            .map_err(|_| ClientError::TimedOut(limit))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| ClientError::Nonsense(e.to_string()));
        }
        match serde_json::from_slice(&body) {
            Ok(body) => Err(ClientError::Answer { status, body }),
            Err(_) => Err(ClientError::Nonsense(format!("HTTP status {status}"))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|e| explain(&self.socket, e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "vipd")
            .body(Empty::<Bytes>::new())
            .map_err(|e| ClientError::Nonsense(e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST)
                .collect()
                .await
                .map_err(|e| ClientError::Nonsense(e.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        // The connection is driven beside the request and ends with it.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => { ended?; answer.await }
        }
    }
}

fn explain(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        ClientError::NoSocket(path)
    } else if source.kind() == io::ErrorKind::ConnectionRefused {
        ClientError::NobodyListens(path)
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        let hint = who_may(&path);
        ClientError::Permission { path, hint }
    } else {
        ClientError::Connect { path, source }
    }
}

fn who_may(path: &Path) -> String {
    let group = std::fs::metadata(path)
        .ok()
        .and_then(|m| nix::unistd::Group::from_gid(m.gid().into()).ok().flatten())
        .filter(|g| g.gid.as_raw() != 0);
    match group {
        Some(g) => format!("use sudo, or have somebody add you to the group {}", g.name),
        None => "only root may; use sudo".to_owned(),
    }
}

/// Percent-encodes everything that could mean something in a query.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}
