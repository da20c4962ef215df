//! Clients that keep a connection open, each in a way of its own, and the database they talk to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Stamp, pause, wait_until};
use crate::host::Host;
use crate::netns::run_in;
use crate::worker::Worker;
use crate::{Error, Result};

/// Between two questions of a busy client.
const THINKS: Duration = Duration::from_millis(20);
/// How long a client waits for its connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a client does with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Habit {
    /// Nothing.
    Idle,
    /// It has asked something that takes long, and waits for the answer.
    Waiting,
    /// It asks again and again.
    Busy,
}

impl Habit {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Idle, Self::Waiting, Self::Busy];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Busy => "busy",
        }
    }
}

/// How a client found out that its connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Stamp,
    /// Whether it was reset, not closed.
    pub reset: bool,
}

/// One client with its connection, which is closed when this is dropped.
#[derive(Debug)]
pub struct Session {
    /// What it does.
    pub habit: Habit,
    end: Arc<Mutex<Option<End>>>,
    stream: TcpStream,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Session {
    /// Connects from `client` to `target` and shows that it is served: somebody answers.
    pub fn open(client: &Host, target: SocketAddr, habit: Habit) -> Result<Self> {
        let failed = || Error::io(format!("connect to {target}"));
        let mut stream = run_in(client.namespace(), || {
            TcpStream::connect_timeout(&target, PATIENCE).map_err(failed())
        })?;
        stream.set_nodelay(true).map_err(failed())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed())?;
        ping(&mut stream).map_err(failed())?;
        stream.set_read_timeout(None).map_err(failed())?;
        let end = Arc::<Mutex<Option<End>>>::default();
        let (mut own, noted) = (stream.try_clone().map_err(failed())?, Arc::clone(&end));
        let live = move || {
            let error = match habit {
                Habit::Idle => read(&mut own),
                Habit::Waiting => own.write_all(b"wait\n").and_then(|()| read(&mut own)),
                Habit::Busy => loop {
                    if let Err(error) = ping(&mut own) {
                        break Err(error);
                    }
                    pause(THINKS);
                },
            };
            let reset = |e: std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
            let reset = error.err().is_some_and(reset);
            let end = End { at: Stamp::now(), reset };
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        };
        let thread = std::thread::Builder::new().name("session".to_owned()).spawn(live);
        let thread = thread.map_err(Error::io("start a thread"))?;
        Ok(Self { habit, end, stream, thread: Some(thread) })
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by that thread.
            let _ = thread.join();
        }
    }
}

/// Waits until all of `sessions` have ended, for `within` at most.
pub fn wait_all_ended(sessions: &[Session], within: Duration) -> Result<Stamp> {
    let ended = || Ok(sessions.iter().all(|session| session.end().is_some()));
    wait_until("every client to know", within, ended)
}

/// Until something comes, or the end.
fn read(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0; 16]).map(drop)
}

fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping\n")?;
    stream.read_exact(&mut [0; 5])
}

/// Answers each `ping` with `pong`, and nothing else, until it is dropped.
#[derive(Debug)]
pub struct Database {
    _worker: Worker,
}

impl Database {
    /// Serves on `port` of every address of `host`.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let listener = run_in(host.namespace(), || {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .map_err(Error::io(format!("listen on port {port}")))?;
            listener.set_nonblocking(true).map_err(Error::io("O_NONBLOCK"))?;
            Ok(listener)
        })?;
        let worker = Worker::start("database", move |stop| {
            while stop.wait([listener.as_fd()], None).is_some() {
                while let Ok((stream, _)) = listener.accept() {
                    // Ends with its connection, at the latest when the lab's hosts go.
                    std::thread::spawn(move || serve(stream));
                }
            }
        })?;
        Ok(Self { _worker: worker })
    }
}

/// A client that goes away is no error here.
fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        if line? == "ping" {
            out.write_all(b"pong\n")?;
        }
    }
    Ok(())
}
