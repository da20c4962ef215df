//! A client that opens a connection every few milliseconds and asks over HTTP.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};

use crate::clock::Stamp;
use crate::host::Host;
use crate::netns::run_in;
use crate::probe::Seen;
use crate::timeline::{Answer, Timeline};
use crate::worker::{Stop, Worker};
use crate::{Error, Result};

/// A client that does a whole `GET /` on a new connection every so often. Who answered is the
/// `x-proxy` header of the response, or its body where there is none.
#[derive(Debug)]
pub struct HttpProbe {
    from: Stamp,
    seen: Arc<Seen>,
    _worker: Worker,
}

/// A request under way.
struct Request {
    socket: Socket,
    sent: Stamp,
    asked: bool,
    response: Vec<u8>,
}

/// What became of a request that could go on.
enum Progress {
    Pending,
    Done(Option<String>),
}

impl HttpProbe {
    /// Asks `target` from `client`, once `every`; each request gets `patience`.
    pub fn start(
        client: &Host,
        target: SocketAddr,
        every: Duration,
        patience: Duration,
    ) -> Result<Self> {
        let from = Stamp::now();
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        let namespace = client.namespace().to_owned();
        let worker = Worker::start("http", move |stop| {
            // Each connection is a new socket, so the thread itself has to be inside.
            let entered = run_in(&namespace, || {
                ask(&stop, target, every, patience, &kept);
                Ok(())
            });
            if let Err(error) = entered {
                eprintln!("http probe: {error}");
            }
        })?;
        Ok(Self { from, seen, _worker: worker })
    }

    /// What it has seen so far.
    pub fn timeline(&self) -> Timeline {
        self.seen.timeline(self.from)
    }

    /// Waits for an answer to something asked after `from`, by whom does not matter.
    pub fn wait_answer(&self, from: Stamp, within: Duration) -> Result<Answer> {
        self.seen.wait_answer(from, within)
    }
}

fn ask(stop: &Stop, target: SocketAddr, every: Duration, patience: Duration, seen: &Seen) {
    let mut open: Vec<Request> = Vec::new();
    let mut next = Stamp::now();
    while !stop.asked() {
        wait(stop, &open, next.since(Stamp::now()));
        open.retain_mut(|request| match request.go_on() {
            Progress::Pending => Stamp::now().since(request.sent) < patience,
            Progress::Done(who) => {
                if let Some(who) = who {
                    seen.add(Answer { sent: request.sent, at: Stamp::now(), who });
                }
                false
            }
        });
        let now = Stamp::now();
        if now >= next {
            open.extend(Request::open(target));
            seen.asked.fetch_add(1, Ordering::Relaxed);
            next = if now.since(next) > 10 * every { now + every } else { next + every };
        }
    }
}

fn wait(stop: &Stop, open: &[Request], timeout: Duration) {
    let interest = |r: &Request| if r.asked { PollFlags::POLLIN } else { PollFlags::POLLOUT };
    let mut set: Vec<PollFd> =
        open.iter().map(|r| PollFd::new(r.socket.as_fd(), interest(r))).collect();
    set.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
    // Interrupted or not: the caller looks at all of them.
    let _ = ppoll(&mut set, Some(TimeSpec::from_duration(timeout)), None);
}

impl Request {
    /// `None` if there is not even a way to send.
    fn open(target: SocketAddr) -> Option<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).ok()?;
        socket.set_nonblocking(true).ok()?;
        let sent = Stamp::now();
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(_) => return None,
        }
        Some(Self { socket, sent, asked: false, response: Vec::new() })
    }

    fn go_on(&mut self) -> Progress {
        if !self.asked {
            match self.socket.write(b"GET / HTTP/1.0\r\nHost: vip\r\n\r\n") {
                Ok(_) => self.asked = true,
                Err(e) if pending(&e) => return Progress::Pending,
                Err(_) => return Progress::Done(None),
            }
        }
        let mut buffer = [0; 2048];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Progress::Done(who(&self.response)),
                Ok(n) => self.response.extend(&buffer[..n]),
                Err(e) if pending(&e) => return Progress::Pending,
                Err(_) => return Progress::Done(None),
            }
        }
    }
}

fn pending(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// Who answered, if it was a success.
fn who(response: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(response).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    if lines.next()?.split(' ').nth(1) != Some("200") {
        return None;
    }
    let proxy = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-proxy").then(|| value.trim().to_owned())
    });
    Some(proxy.unwrap_or_else(|| body.trim().to_owned()))
}

/// One `GET /` from `client`, by hand.
///
/// # Errors
/// If there is no answer within `patience`, or it is no success.
pub fn get(client: &Host, target: SocketAddr, patience: Duration) -> Result<String> {
    run_in(client.namespace(), || {
        let fetch = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect_timeout(&target, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(b"GET / HTTP/1.0\r\nHost: vip\r\n\r\n")?;
            let mut response = Vec::new();
            stream.read_to_end(&mut response)?;
            Ok(response)
        };
        let response = fetch().map_err(Error::io(format!("GET http://{target}/")))?;
        who(&response).ok_or_else(|| Error::Answer {
            what: format!("GET http://{target}/"),
            text: String::from_utf8_lossy(&response).into_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::who;

    #[test]
    fn the_proxy_signs_the_answer() {
        let by = |text: &str| who(text.as_bytes());
        assert_eq!(by("HTTP/1.0 200 OK\r\nX-Proxy: hap1\r\n\r\npg1\n").as_deref(), Some("hap1"));
        assert_eq!(by("HTTP/1.1 200 OK\r\n\r\npg1\n").as_deref(), Some("pg1"));
        assert_eq!(by("HTTP/1.0 503 Service Unavailable\r\n\r\nno"), None);
        assert_eq!(by("HTTP/1.0 200 OK\r\n"), None);
    }
}
