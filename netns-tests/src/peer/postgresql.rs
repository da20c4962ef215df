//! PostgreSQL, as it is packaged: alone, under Patroni, and behind `PgBouncer`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::clock::wait_until;
use crate::cluster::said;
use crate::host::Host;
use crate::process::Proc;
use crate::{Error, Result};

/// Where PostgreSQL listens.
pub const PORT: u16 = 5432;
/// Where `PgBouncer` does.
pub const POOLER: u16 = 6432;
/// Where Patroni answers over HTTP.
pub const PATRONI: u16 = 8008;

const BIN: &str = "/usr/lib/postgresql/15/bin";
const RULES: &str = "host all all 0.0.0.0/0 trust\n";
const PATIENCE: Duration = Duration::from_secs(40);

/// Starts it on `host`, with an empty cluster that lets everybody in, and waits until it answers.
pub fn start(host: &Host) -> Result<Proc> {
    start_with(host, RULES)
}

/// The same, with an empty cluster that lets in whom `rules` (`pg_hba.conf`) do.
pub fn start_with(host: &Host, rules: &str) -> Result<Proc> {
    let home = home(host)?;
    let data = home.join("data").to_string_lossy().into_owned();
    let initdb = format!("{BIN}/initdb");
    let made =
        host.run_for(&as_postgres(&[&initdb, "-D", &data, "-A", "trust", "-N"]), PATIENCE)?;
    if !made.status.success() {
        let text = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(Error::Answer { what: "initdb".to_owned(), text });
    }
    write(&home.join("data/pg_hba.conf"), rules)?;
    let (program, sockets) = (format!("{BIN}/postgres"), home.to_string_lossy().into_owned());
    let argv = [&*program, "-D", &data, "-h", "*", "-k", &sockets, "-c", "fsync=off"];
    let server = host.spawn("postgres", &as_postgres(&argv))?;
    wait_answers(host, PORT)?;
    Ok(server)
}

/// What the server on `host` answers its superuser, who comes through its Unix socket.
///
/// # Errors
/// Also if it refuses.
pub fn sql(host: &Host, statement: &str) -> Result<String> {
    let sockets = home(host)?.to_string_lossy().into_owned();
    let argv = ["psql", "-h", &sockets, "-d", "postgres", "-XAtqc", statement];
    let output = host.run(&as_postgres(&argv))?;
    let text = said(&output);
    let failed = || Error::Answer { what: statement.to_owned(), text: text.clone() };
    output.status.success().then(|| text.clone()).ok_or_else(failed)
}

/// Starts Patroni on `host`, which makes an empty cluster that lets everybody in, and waits until
/// that answers.
pub fn start_patroni(host: &Host) -> Result<Proc> {
    let home = home(host)?;
    std::fs::create_dir_all(home.join("raft"))
        .map_err(Error::io("make a directory for Patroni"))?;
    give(host, &home)?;
    let text = format!(
        "scope: lab\nname: one\n\
         restapi: {{listen: '0.0.0.0:{PATRONI}', connect_address: '127.0.0.1:{PATRONI}'}}\n\
         raft: {{data_dir: {dir}/raft, self_addr: '127.0.0.1:2222'}}\n\
         bootstrap:\n  dcs: {{ttl: 20, loop_wait: 1, retry_timeout: 3}}\n  \
         initdb: [{{encoding: UTF8}}, no-sync]\n  pg_hba: [{rules}]\n\
         postgresql:\n  listen: 0.0.0.0:{PORT}\n  connect_address: 127.0.0.1:{PORT}\n  \
         data_dir: {dir}/data\n  bin_dir: {BIN}\n  pgpass: {dir}/pgpass\n  \
         authentication: {{superuser: {{username: postgres, password: x}}, \
         replication: {{username: replicator, password: x}}}}\n  \
         parameters: {{unix_socket_directories: {dir}, fsync: 'off'}}\n",
        dir = home.display(),
        rules = RULES.trim_end(),
    );
    let config = home.join("patroni.yml");
    write(&config, &text)?;
    let config = config.to_string_lossy().into_owned();
    let patroni = host.spawn("patroni", &as_postgres(&["/usr/bin/patroni", &config]))?;
    wait_answers(host, PORT)?;
    Ok(patroni)
}

/// Starts `PgBouncer` on `host`, in front of the PostgreSQL of the same host.
pub fn start_pooler(host: &Host) -> Result<Proc> {
    let home = home(host)?;
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={PORT} user=postgres\n[pgbouncer]\n\
         listen_addr = *\nlisten_port = {POOLER}\nauth_type = any\nunix_socket_dir = {}\n\
         pool_mode = transaction\n",
        home.display()
    );
    let config = home.join("pgbouncer.ini");
    write(&config, &text)?;
    let config = config.to_string_lossy().into_owned();
    let pooler = host.spawn("pgbouncer", &as_postgres(&["/usr/sbin/pgbouncer", &config]))?;
    wait_answers(host, POOLER)?;
    Ok(pooler)
}

/// Whether a client on `host` is let in at `at`, asked with `pg_isready` for a second.
pub fn lets_in(host: &Host, at: SocketAddr) -> Result<bool> {
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    let program = format!("{BIN}/pg_isready");
    let asked = host.run(&[&program, "-q", "-h", &ip, "-p", &port, "-t", "1", "-U", "postgres"])?;
    Ok(asked.status.success())
}

fn wait_answers(host: &Host, port: u16) -> Result {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("an answer to pg_isready", PATIENCE, || lets_in(host, at))?;
    Ok(())
}

/// A directory of the user that all of them run as.
fn home(host: &Host) -> Result<std::path::PathBuf> {
    let home = host.dir().join("postgres");
    std::fs::create_dir_all(&home).map_err(Error::io(format!("make {}", home.display())))?;
    give(host, &home)?;
    Ok(home)
}

fn give(host: &Host, path: &Path) -> Result {
    let path = path.to_string_lossy();
    host.run(&["chown", "-R", "postgres:postgres", &path]).map(drop)
}

fn write(path: &Path, text: &str) -> Result {
    std::fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}

fn as_postgres<'a>(argv: &[&'a str]) -> Vec<&'a str> {
    [&["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"], argv].concat()
}
