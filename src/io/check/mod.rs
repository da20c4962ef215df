//! Looks at what a check is about: one file for each kind. Says what was seen in words, whether
//! that is good or bad; how often that has to be is decided elsewhere.
//!
//! Nothing forks but `run`. Whatever may wait for a disk or for a name waits on a thread of its own,
//! and no second one is started while it does.

mod file;
mod haproxy;
mod http;
mod interface;
mod kept;
mod neighbour;
mod ping;
mod postgresql;
mod process;
mod run;
mod tcp;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use super::proxy::Bus;
use super::proxy::unit::Looked;
use crate::config::Probe;

/// Looks at one thing, again and again.
pub struct Prober(Kind);

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

/// What is looked at, with what is kept from one look to the next.
enum Kind {
    Tcp(std::net::SocketAddr),
    Http(http::Http),
    Haproxy(haproxy::Haproxy),
    Postgresql(crate::config::Postgresql),
    Unit(Box<Looked>),
    Process(process::Process),
    File(file::File),
    Interface(interface::Interface),
    Neighbour(neighbour::Neighbour),
    Ping(ping::Ping),
    Run(run::Run),
}

impl Prober {
    /// Finds systemd on the system bus.
    pub fn new(what: &Probe) -> Self {
        Self::with_bus(what, Bus::System)
    }

    /// The same, with systemd on another bus.
    pub fn with_bus(what: &Probe, bus: Bus) -> Self {
        Self(match what.clone() {
            Probe::Tcp(address) => Kind::Tcp(address),
            Probe::Http(http) => Kind::Http(http::Http::new(http)),
            Probe::Haproxy { socket, backend } => {
                Kind::Haproxy(haproxy::Haproxy { socket, backend })
            }
            Probe::Postgresql(postgresql) => Kind::Postgresql(postgresql),
            Probe::Unit(name) => Kind::Unit(Box::new(Looked::new(bus, name))),
            Probe::Process(path) => Kind::Process(process::Process::new(path)),
            Probe::File { path, value } => Kind::File(file::File::new(path, value)),
            Probe::Interface(name) => Kind::Interface(interface::Interface::new(name)),
            Probe::Neighbour(ip) => Kind::Neighbour(neighbour::Neighbour::new(ip)),
            Probe::Ping(ip) => Kind::Ping(ping::Ping::new(ip)),
            Probe::Run { argv, user } => Kind::Run(run::Run { argv, user, immortal: None }),
        })
    }

    /// Looks once, for no longer than `limit`; a script may take a second more to be killed.
    ///
    /// May be dropped at any moment, and called again.
    ///
    /// # Errors
    /// In words: what is not as it should be.
    pub async fn look(&mut self, limit: Duration) -> Result<String, String> {
        let mut limit = Limit::after(limit);
        let limit = &mut limit;
        match &mut self.0 {
            Kind::Tcp(address) => tcp::look(*address, limit).await,
            Kind::Http(http) => http.look(limit).await,
            Kind::Haproxy(haproxy) => haproxy.look(limit).await,
            Kind::Postgresql(what) => postgresql::look(what, limit).await,
            Kind::Unit(unit) => {
                limit.of(unit.look(), "systemd does not answer").await.and_then(|seen| seen)
            }
            Kind::Process(process) => process.look(limit).await,
            Kind::File(file) => file.look(limit).await,
            Kind::Interface(interface) => interface.look(),
            Kind::Neighbour(neighbour) => neighbour.look(limit).await,
            Kind::Ping(ping) => ping.look(limit).await,
            Kind::Run(run) => run.look(limit.time).await,
        }
    }

    /// Waits until what is looked at may have changed, so that it is worth a look before its time:
    /// a process that was there ends, a unit or an interface changes. For ever where that cannot be
    /// known.
    ///
    /// May be dropped at any moment, and called again. To be called between looks, for what was
    /// told by then is forgotten by the next look.
    pub async fn changed(&mut self) {
        match &mut self.0 {
            Kind::Unit(unit) => unit.changed().await,
            Kind::Process(process) => process.changed().await,
            Kind::Interface(interface) => interface.changed().await,
            Kind::Tcp(_)
            | Kind::Http(_)
            | Kind::Haproxy(_)
            | Kind::Postgresql(_)
            | Kind::File(_)
            | Kind::Neighbour(_)
            | Kind::Ping(_)
            | Kind::Run(_) => std::future::pending().await,
        }
    }
}

/// How long a look may take.
struct Limit {
    over: Pin<Box<Sleep>>,
    time: Duration,
}

impl Limit {
    fn after(time: Duration) -> Self {
        Self { over: Box::pin(sleep(time)), time }
    }

    /// Works until the time is up, and then says `late`, with the time.
    async fn of<T>(&mut self, work: impl Future<Output = T>, late: &str) -> Result<T, String> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = &mut self.over => Err(format!("{late} within {:?}", self.time)),
        }
    }
}

/// Work that may hang, on a thread of its own; at most one at a time.
struct Aside<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Aside<T> {
    const IDLE: Self = Self(None);

    /// Starts `work`, or waits for what was started before and did not come to its end.
    async fn run(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let task = self.0.get_or_insert_with(|| tokio::task::spawn_blocking(work));
        let done = task.await;
        self.0 = None;
        done.map_err(|e| e.to_string())
    }
}
