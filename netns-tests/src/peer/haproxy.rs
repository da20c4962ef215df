//! HAProxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::wait_until;
use crate::host::Host;
use crate::process::Proc;
use crate::{Error, Result};

/// Where Debian puts it.
pub const PROGRAM: &str = "/usr/sbin/haproxy";

/// How it passes requests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Connections.
    Tcp,
    /// Requests; responses get an `x-proxy` header with the host's name.
    Http,
}

/// Writes `haproxy.cfg` for `host`: port `port` on every address, in front of `servers`, with a
/// management socket next to it. It needs no user and no `/run`.
pub fn write_config(
    host: &Host,
    mode: Mode,
    port: u16,
    servers: &[(&str, SocketAddr)],
) -> Result<PathBuf> {
    let socket = socket(host);
    let global = format!("    stats socket {} mode 600 level admin\n", socket.display());
    host.write("haproxy.cfg", &config(&global, mode, host.name(), port, servers))
}

/// Writes a `haproxy.cfg` into `dir` that several hosts may use: the `x-proxy` header is the
/// host's own address.
pub fn write_shared_config(
    dir: &Path,
    port: u16,
    servers: &[(&str, SocketAddr)],
) -> Result<PathBuf> {
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, config("", Mode::Http, "%bi", port, servers))
        .map_err(Error::io(format!("write {}", path.display())))?;
    Ok(path)
}

fn config(
    global: &str,
    mode: Mode,
    name: &str,
    port: u16,
    servers: &[(&str, SocketAddr)],
) -> String {
    let (word, sign) = match mode {
        Mode::Tcp => ("tcp", String::new()),
        Mode::Http => ("http", format!("    http-response set-header x-proxy {name}\n")),
    };
    let servers: String = servers
        .iter()
        .map(|(name, at)| format!("    server {name} {at} check inter 500ms fall 2 rise 1\n"))
        .collect();
    format!(
        "global\n{global}    maxconn 2000\n\
         defaults\n    mode {word}\n    timeout connect 1s\n    timeout client 10s\n    \
         timeout server 10s\n    retries 1\n    option redispatch\n\
         frontend vip\n    bind :{port}\n    bind :::{port} v6only\n{sign}    \
         default_backend servers\n\
         backend servers\n    balance roundrobin\n{servers}"
    )
}

/// Its management socket.
pub fn socket(host: &Host) -> PathBuf {
    host.dir().join("haproxy.sock")
}

/// The command that runs it in the foreground, for a daemon that keeps it.
pub fn command(config: &Path) -> [String; 4] {
    let config = config.to_string_lossy().into_owned();
    [PROGRAM.to_owned(), "-f".to_owned(), config, "-db".to_owned()]
}

/// Starts it on `host` and waits until it listens.
pub fn start(host: &Host, mode: Mode, port: u16, servers: &[(&str, SocketAddr)]) -> Result<Proc> {
    let config = write_config(host, mode, port, servers)?;
    let command = command(&config);
    let haproxy = host.spawn("haproxy", &command.each_ref().map(String::as_str))?;
    let socket = socket(host);
    wait_until("haproxy's socket", Duration::from_secs(5), || Ok(socket.exists()))?;
    Ok(haproxy)
}
