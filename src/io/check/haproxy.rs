//! HAProxy says of itself, through its admin socket, that it has servers.

use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::super::http::reason;
use super::Limit;
use crate::wire::haproxy::{Server, State, servers};

/// The table of ten thousand servers is shorter, in bytes.
const LONGEST: u64 = 8 << 20;
/// That of a dozen is, so that it is read in one go.
const USUAL: usize = 8 << 10;

pub(super) struct Haproxy {
    pub(super) socket: PathBuf,
    pub(super) backend: Option<(String, u32)>,
}

impl Haproxy {
    pub(super) async fn look(&self, limit: &mut Limit) -> Result<String, String> {
        let name = self.backend.as_ref().map_or("-1", |(name, _)| name.as_str());
        // Servers (4) of one backend, or of all of them (-1).
        let question = format!("show stat {name} 4 -1\n");
        let path = self.socket.display();
        let answer = limit.of(self.ask(&question), "HAProxy does not answer").await?;
        let answer = answer.map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT) => format!("there is no {path}"),
            Some(libc::ECONNREFUSED) => format!("nobody listens at {path}"),
            _ => format!("{path}: {}", reason(&e)),
        })?;
        judge(&servers(&answer).map_err(|e| e.to_string())?, self.backend.as_ref())
    }

    async fn ask(&self, question: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut bytes = Vec::with_capacity(USUAL);
        (&mut stream).take(LONGEST).read_to_end(&mut bytes).await?;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| lossy(e.as_bytes())))
    }
}

fn judge(servers: &[Server], backend: Option<&(String, u32)>) -> Result<String, String> {
    let count = |state| servers.iter().filter(|s| s.state == state).count();
    let (up, unchecked) = (count(State::Up), count(State::Unchecked));
    let serving = servers.len() - count(State::Maintenance);
    let place = backend.map_or("HAProxy", |(name, _)| name);
    if unchecked > 0 {
        return Err(format!("{place}: {unchecked} of {serving} servers not yet checked"));
    }
    let seen = format!("{place}: {up} of {} servers up", servers.len());
    match backend {
        Some((_, least)) if up < usize::try_from(*least).unwrap_or(usize::MAX) => Err(seen),
        Some(_) | None => Ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(states: &[State], least: Option<u32>) -> Result<String, String> {
        let server = |s: &State| Server { backend: "b".into(), name: "s".into(), state: *s };
        let servers: Vec<_> = states.iter().map(server).collect();
        judge(&servers, least.map(|n| ("b".to_owned(), n)).as_ref())
    }

    #[test]
    fn so_many_are_up_and_all_were_looked_at() {
        use State::{Down, Maintenance, Unchecked, Up};
        assert_eq!(looked(&[Up, Down, Maintenance], Some(1)), Ok("b: 1 of 3 servers up".into()));
        assert_eq!(looked(&[Up, Down], Some(2)), Err("b: 1 of 2 servers up".into()));
        assert_eq!(looked(&[Down], None), Ok("HAProxy: 0 of 1 servers up".into()));
        let unchecked = "b: 1 of 2 servers not yet checked";
        assert_eq!(looked(&[Up, Unchecked, Maintenance], Some(1)), Err(unchecked.into()));
        assert_eq!(looked(&[], Some(1)), Err("b: 0 of 0 servers up".into()));
    }
}
