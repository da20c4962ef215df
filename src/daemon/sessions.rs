//! The sessions that a dead host left on PostgreSQL are ended on every server, and it is told how
//! many there were.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;

use crate::config::Sessions;
use crate::core::status::{Note, Severity};
use crate::io::clock;
use crate::io::sessions::{self, Failed};
use crate::types::Instant;

use super::turn::note;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// A server that cannot be reached is asked again after this,
const PAUSE: Duration = Duration::from_secs(1);
/// and given up after so long: it may have died with the host, and be about to be replaced.
const PATIENCE: Duration = Duration::from_mins(1);

/// Ends what comes `from` the addresses of `node`; takes a minute at most.
pub(super) async fn end(node: &str, from: &[IpAddr], on: &Sessions) -> Note {
    let began = clock::now();
    let all = on
        .servers
        .iter()
        .map(|server| async move { (*server, persist(began, *server, from, on).await) });
    told(clock::now(), node, &join_all(all).await)
}

/// Tries until the server has done it, or says that it will not.
async fn persist(
    began: Instant,
    server: SocketAddr,
    from: &[IpAddr],
    on: &Sessions,
) -> Result<u64, String> {
    loop {
        // What began later is of a host that is back.
        let age = clock::now().since(began);
        let done = tokio::time::timeout(ATTEMPT, sessions::end(server, on, from, age)).await;
        let why = match done {
            Ok(Ok(count)) => return Ok(count),
            Ok(Err(Failed { why, is_final: true })) => return Err(why),
            Ok(Err(Failed { why, is_final: false })) => why,
            Err(_) => format!("no answer within {} s", ATTEMPT.as_secs()),
        };
        if clock::now().since(began) >= PATIENCE {
            return Err(why);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn told(at: Instant, node: &str, all: &[(SocketAddr, Result<u64, String>)]) -> Note {
    let each: Vec<_> = all
        .iter()
        .map(|(server, done)| match done {
            Ok(count) => format!("{count} on {server}"),
            Err(why) => format!("none on {server}: {why}"),
        })
        .collect();
    let failed = all.iter().any(|(_, done)| done.is_err());
    let (severity, kind) =
        if failed { (Severity::Warn, "sessions-kept") } else { (Severity::Info, "sessions-ended") };
    let text = format!("sessions of {node}, which is gone, were ended: {}", each.join(", "));
    note(at, severity, kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told() {
        let server = |n: u8| SocketAddr::from(([192, 0, 2, n], 5432));
        let mut all = vec![(server(1), Ok(36)), (server(2), Ok(0))];
        let good = told(Instant::BOOT, "hap1", &all);
        assert_eq!((good.kind.as_str(), good.severity), ("sessions-ended", Severity::Info));
        let text = "sessions of hap1, which is gone, were ended: 36 on 192.0.2.1:5432, 0 on 192.0.2.2:5432";
        assert_eq!(good.text, text);
        all[1].1 = Err("refused".to_owned());
        let bad = told(Instant::BOOT, "hap1", &all);
        assert_eq!((bad.kind.as_str(), bad.severity), ("sessions-kept", Severity::Warn));
        assert!(bad.text.ends_with("none on 192.0.2.2:5432: refused"), "{}", bad.text);
    }
}
