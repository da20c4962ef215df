//! The daemon: two threads of its own, and the worker that asks the kernel.
//!
//! * The **core thread** ([`turn`]) runs the [`core`](crate::core) alone: real-time, memory locked,
//!   one loop over sockets, kernel events, completions and one deadline. It never waits for
//!   anything slow and does no file input or output.
//! * The **service runtime** ([`service`]) does everything else: API, proxies, signals, logs, the
//!   configuration file. Bounded queues connect the two; a full one drops and counts.
//!
//! `instance` makes sure that one node runs once, and remembers what it may leave behind.

mod instance;
mod service;
mod turn;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cli::{self, exit};
use crate::config::Config;
use crate::core::event::{Inheritance, Secrets};
use crate::io::{self, clock};

pub use instance::InstanceError;

/// What the daemon was started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Which node of it this is.
    pub node: String,
    /// Where the lock is.
    pub runtime_dir: PathBuf,
    /// Where the API is.
    pub socket: PathBuf,
}

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Config(#[from] service::LoadError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Socket(#[from] crate::api::server::BindError),
    #[error(
        "kernel sockets: {0}; vipd needs CAP_NET_ADMIN and CAP_NET_RAW: start its unit, or run it as root"
    )]
    Capabilities(std::io::Error),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

/// Runs until it is told to stop; the exit code says how it went.
pub fn run(args: &cli::Vipd) -> ExitCode {
    let name = match args.node_name() {
        Ok(name) => name,
        Err(error) => return refuse(exit::FAILED, &format!("host name: {error}")),
    };
    let options = Options {
        config: args.config.first().cloned().unwrap_or_default(),
        node: name,
        runtime_dir: args.runtime_dir.clone(),
        socket: args.socket(),
    };
    let loaded = match service::load(&options) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(exit::CONFIG, &error.to_string()),
    };
    if args.check {
        return ExitCode::from(exit::OK);
    }
    let flush = match io::log::init(&args.log_level) {
        Ok(flush) => flush,
        Err(error) => return refuse(exit::FAILED, &error.to_string()),
    };
    let code = match start(&options, &loaded) {
        Ok(clean) => ExitCode::from(if clean { exit::OK } else { exit::FAILED }),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(exit::FAILED)
        }
    };
    drop(flush);
    code
}

fn refuse(code: u8, why: &str) -> ExitCode {
    use std::io::Write as _;
    // Nobody is left to tell if standard error is gone.
    let _ = writeln!(std::io::stderr(), "vipd: {why}");
    ExitCode::from(code)
}

/// A valid configuration and what belongs to it.
#[derive(Debug)]
struct Loaded {
    config: Arc<Config>,
    me: usize,
    secrets: Secrets,
    /// Rendered warnings, for people.
    warnings: String,
}

fn start(options: &Options, loaded: &Loaded) -> Result<bool, StartError> {
    let io_error = |what| move |source| StartError::Io { what, source };
    let node = loaded.config.nodes[loaded.me].name.clone();
    let instance = instance::Instance::claim(&options.runtime_dir, &loaded.config.cluster, &node)?;
    let start =
        Inheritance { orphans: instance.remember(&loaded.config), ..Inheritance::default() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_error("the service runtime"))?;
    let server = {
        let _inside = runtime.enter();
        crate::api::server::Server::bind(&options.socket, None)?
    };
    let (inbox, from_service) =
        io::wake::mailbox(turn::INBOX).map_err(io_error("the core thread's mailbox"))?;
    let (to_service, outbox) = mpsc::channel(turn::OUTBOX);
    let shell = turn::Shell::open(from_service, to_service).map_err(|e| {
        if e.kind() == std::io::ErrorKind::PermissionDenied {
            StartError::Capabilities(e)
        } else {
            io_error("kernel sockets")(e)
        }
    })?;
    let core = std::thread::Builder::new()
        .name("vipd-core".to_owned())
        .stack_size(turn::STACK)
        .spawn({
            let config = Arc::clone(&loaded.config);
            let (me, secrets) = (loaded.me, loaded.secrets.clone());
            move || turn::run(shell, clock::now(), config, me, &secrets, &start)
        })
        .map_err(io_error("the core thread"))?;
    let service = Arc::new(service::Service::new(options.clone(), instance, &node, inbox));
    let clean = runtime.block_on(service.run(&loaded.warnings, server, outbox));
    let joined = core.join().is_ok();
    Ok(clean && joined)
}
