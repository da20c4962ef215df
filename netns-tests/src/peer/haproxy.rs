//! HAProxy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::clock::wait_until;
use crate::host::Host;
use crate::process::Proc;

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
    let name = host.name();
    let socket = socket(host).to_string_lossy().into_owned();
    let (word, sign) = match mode {
        Mode::Tcp => ("tcp", String::new()),
        Mode::Http => ("http", format!("    http-response set-header x-proxy {name}\n")),
    };
    let servers: String = servers
        .iter()
        .map(|(name, at)| format!("    server {name} {at} check inter 500ms fall 2 rise 1\n"))
        .collect();
    host.write(
        "haproxy.cfg",
        &format!(
            "global\n    stats socket {socket} mode 600 level admin\n    maxconn 2000\n\
             defaults\n    mode {word}\n    timeout connect 1s\n    timeout client 10s\n    \
             timeout server 10s\n    retries 1\n    option redispatch\n\
             frontend vip\n    bind :{port}\n    bind :::{port} v6only\n{sign}    \
             default_backend servers\n\
             backend servers\n    balance roundrobin\n{servers}"
        ),
    )
}

/// Its management socket.
pub fn socket(host: &Host) -> PathBuf {
    host.dir().join("haproxy.sock")
}

/// The command that runs it in the foreground, for a daemon that keeps it.
pub fn command(config: &std::path::Path) -> [String; 4] {
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
