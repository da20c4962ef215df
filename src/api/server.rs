//! The listening side. Nobody at the other end can hold it up: every connection carries one
//! request, and has a limit for its head, its size and its whole life.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::Gid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::route::{Asker, Shared, WAITERS, router};
use super::{Backend, LONGEST_WAIT};

/// Connections served at once; more wait in the socket's backlog.
pub const CONNECTIONS: usize = 32;
const BACKLOG: i32 = 128;
/// A request's head must have come by then.
const HEAD: Duration = Duration::from_secs(2);
/// A connection's whole life: the longest wait, and time to write the answer.
const LIFE: Duration = LONGEST_WAIT.saturating_add(Duration::from_secs(10));
/// How long running requests may take to end when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The whole head of a request.
const HEAD_BYTES: usize = 8192;
/// Pause after a failed `accept`: out of descriptors is not over at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("API socket {}: cannot {doing}: {source}", path.display())]
pub struct BindError {
    path: PathBuf,
    doing: &'static str,
    source: io::Error,
}

/// A bound socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, mode 0660, of `group` if one is given; within a tokio runtime.
    ///
    /// What is left of an earlier run is removed: the caller holds the instance lock, so nobody
    /// listens there.
    ///
    /// # Errors
    /// If the file system does not let us.
    pub fn bind(path: &Path, group: Option<Gid>) -> Result<Self, BindError> {
        let step = |doing| move |source| BindError { path: path.to_owned(), doing, source };
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(step("remove what is left of an earlier run")(e));
            }
            _ => {}
        }
        let socket =
            Socket::new(Domain::UNIX, Type::STREAM, None).map_err(step("make a socket"))?;
        let address = SockAddr::unix(path).map_err(step("use this path"))?;
        socket.bind(&address).map_err(step("bind"))?;
        // Before `listen`, nobody can connect: there is no moment with other permissions.
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(path, mode).map_err(step("set its mode"))?;
        if group.is_some() {
            nix::unistd::chown(path, None, group).map_err(|e| step("set its group")(e.into()))?;
        }
        socket.listen(BACKLOG).map_err(step("listen"))?;
        socket.set_nonblocking(true).map_err(step("make it non-blocking"))?;
        let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(
            std::os::fd::OwnedFd::from(socket),
        ))
        .map_err(step("register"))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until `stop` is ready, then lets running requests end, within a bounded time.
    pub async fn run<B: Backend>(self, backend: Arc<B>, stop: impl Future<Output = ()>) {
        let (stopped, stopping) = watch::channel(false);
        let waiters = Arc::new(Semaphore::new(WAITERS));
        let shared = Shared { backend, waiters, stopping };
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => { connections.spawn(serve(stream, shared.clone())); }
                        Err(error) => {
                            tracing::debug!(%error, "API connection not accepted");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
        stopped.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        // Those that are not done are cut off when the set is dropped.
        let _ = timeout(LAST_WORDS, drained).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done about a failure; the next run removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve<B: Backend>(stream: UnixStream, shared: Shared<B>) {
    // The peer may be gone already.
    let Ok(peer) = stream.peer_cred() else { return };
    let asker = Asker { uid: peer.uid(), pid: peer.pid() };
    let service = TowerToHyperService::new(router(shared).layer(Extension(asker)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // However it ends, it is the client's business.
    let _ = timeout(LIFE, connection).await;
}
