//! Sessions on a PostgreSQL server, ended by the server itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fence::secrets;
use super::tls;
use crate::config::{Sessions, Tls};

/// The most sessions that are ended at a time.
const MOST: i64 = 10_000;

/// Roles that it takes. Without the right to see them, what others do looks like nothing.
const LACKS: &str = "SELECT role FROM unnest(ARRAY['pg_read_all_stats', 'pg_signal_backend']) role \
                     WHERE NOT pg_has_role(current_user, role, 'USAGE')";
const FROM: &str = "SELECT pid FROM pg_stat_activity \
                    WHERE client_addr = ANY($1::text[]::inet[]) \
                    AND backend_start < now() - make_interval(secs => $2) \
                    AND pid <> pg_backend_pid() LIMIT $3";
const END: &str = "SELECT pg_terminate_backend($1)";

/// Why sessions were not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In words.
    pub why: String,
    /// Whether it would be the same next time.
    pub is_final: bool,
}

fn refused(why: String) -> Failed {
    Failed { why, is_final: true }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;

        // A server that is starting or stopping says so, and is another one soon.
        let said = error.as_db_error();
        let is_final = said.is_some_and(|e| !e.code().code().starts_with("57"));
        let cause = said.map(|e| format!("{} ({})", e.message(), e.code().code()));
        let cause = cause.or_else(|| error.source().map(ToString::to_string));
        Self { why: cause.unwrap_or_else(|| error.to_string()), is_final }
    }
}

/// Ends every session that comes `from` one of these addresses and is older than `age`; says how
/// many there were.
///
/// # Errors
/// If the server cannot be reached, or does not let this role do it.
pub async fn end(
    server: SocketAddr,
    with: &Sessions,
    from: &[IpAddr],
    age: Duration,
) -> Result<u64, Failed> {
    let client = connect(server, with).await?;
    let from: Vec<_> = from.iter().map(ToString::to_string).collect();
    let rows = client.query(FROM, &[&from, &age.as_secs_f64(), &MOST]).await?;
    let mut count = 0;
    for row in rows {
        let pid: i32 = row.get(0);
        let ended: bool = client.query_one(END, &[&pid]).await?.get(0);
        count += u64::from(ended);
    }
    Ok(count)
}

/// Whether sessions could be ended there.
///
/// # Errors
/// Why not.
pub async fn try_out(server: SocketAddr, with: &Sessions) -> Result<(), Failed> {
    connect(server, with).await.map(drop)
}

/// A connection as somebody who may do it.
async fn connect(server: SocketAddr, with: &Sessions) -> Result<Client, Failed> {
    let mut config = Config::new();
    config
        .host(server.ip().to_string())
        .port(server.port())
        .user(&with.user)
        .dbname(&with.database)
        .application_name("vipd");
    if let Some(path) = &with.password_file {
        config.password(secrets::read_file(path).map_err(refused)?.as_bytes());
    }
    // A connection ends with its client.
    let client = match &with.tls {
        Tls::Off => {
            let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
            tokio::spawn(connection);
            client
        }
        Tls::Verify { ca } => {
            let ca = ca.clone();
            let trusted = tokio::task::spawn_blocking(move || {
                ca.map_or_else(tls::native, |ca| tls::only(&ca))
            });
            let trusted = trusted.await.map_err(|e| refused(e.to_string()))?.map_err(refused)?;
            let tls = MakeRustlsConnect::new((*trusted).clone());
            // A server without TLS is told nothing, not even who asks.
            let (client, connection) = config.ssl_mode(SslMode::Require).connect(tls).await?;
            tokio::spawn(connection);
            client
        }
    };
    let lacks = client.query(LACKS, &[]).await?;
    let lacks: Vec<&str> = lacks.iter().map(|row| row.get(0)).collect();
    if lacks.is_empty() {
        Ok(client)
    } else {
        Err(refused(format!("{} is no member of {}", with.user, lacks.join(" and "))))
    }
}
