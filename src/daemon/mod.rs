//! The daemon: two threads of its own, and the worker that asks the kernel.
//!
//! * The **core thread** ([`turn`]) runs the [`core`](crate::core) alone: real-time, memory locked,
//!   one loop over sockets, kernel events, completions and one deadline. It never waits for
//!   anything slow and does no file input or output.
//! * The **service runtime** ([`service`]) does everything else: API, proxies, signals, logs, the
//!   configuration file. Bounded queues connect the two; a full one drops and counts.
//!
//! A [`witness`] only votes, in a thread without any privilege.
//!
//! `instance` makes sure that one node runs once, and remembers what it may leave behind.

mod act;
mod asking;
mod checks;
mod clients;
mod clocks;
mod decisions;
pub mod doctor;
mod failures;
mod fencing;
mod gatekeeper;
mod hooks;
mod instance;
mod known;
mod recorder;
pub mod replay;
mod routing;
mod service;
mod sessions;
mod talk;
mod token;
mod turn;
mod voters;
mod watchdog;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cli::{self, exit};
use crate::config::Config;
use crate::core::event::{Inheritance, Secrets};
use crate::core::lease::Vote;
use crate::io::ballots::Ballots;
use crate::io::record::{Confirmed, Record};
use crate::io::{self, random};
use crate::types::{GateId, Incarnation};
use crate::wire::peer::Keyring;

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
    /// Where what outlives a reboot is.
    pub state_dir: PathBuf,
    /// Where the kernel's gate is.
    pub gate_dir: PathBuf,
    /// Where everything that happens is written down.
    pub record: Option<PathBuf>,
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
    #[error("{}: {source}; give --state-dir a directory that vipd may write to", path.display())]
    State { path: PathBuf, source: std::io::Error },
    #[error("--record {}: {why}", path.display())]
    Trace { path: PathBuf, why: String },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

/// Runs until it is told to stop; the exit code says how it went.
pub fn run(args: &cli::Vipd) -> ExitCode {
    let name = match args.node_name() {
        Ok(name) => name,
        Err(error) => return refuse(exit::FAILED, &format!("host name: {error}")),
    };
    if args.witness {
        return run_witness(args, name);
    }
    let options = Options {
        config: args.config.first().cloned().unwrap_or_default(),
        node: name,
        runtime_dir: args.runtime_dir.clone(),
        socket: args.socket(),
        state_dir: args.state_dir.clone(),
        gate_dir: args.gate_dir.clone(),
        record: args.record.clone(),
    };
    let loaded = match service::load(&options) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(exit::CONFIG, &error.to_string()),
    };
    if args.check {
        return ExitCode::from(exit::OK);
    }
    logged(args, || start(&options, &loaded))
}

fn run_witness(args: &cli::Vipd, name: String) -> ExitCode {
    let witness = match witness::Witness::new(args, name) {
        Ok(witness) => witness,
        Err(refusal) => return refuse(exit::CONFIG, &refusal.to_string()),
    };
    if args.check {
        return ExitCode::from(exit::OK);
    }
    logged(args, || witness.run())
}

/// Runs with a log; the exit code says how it went.
fn logged(args: &cli::Vipd, run: impl FnOnce() -> Result<bool, StartError>) -> ExitCode {
    let flush = match io::log::init(&args.log_level) {
        Ok(flush) => flush,
        Err(error) => return refuse(exit::FAILED, &error.to_string()),
    };
    let code = match run() {
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
    /// Of the cluster, where anything is held by lease.
    keys: Option<Keyring>,
    /// The file itself.
    text: String,
    /// Rendered warnings, for people.
    warnings: String,
}

fn start(options: &Options, loaded: &Loaded) -> Result<bool, StartError> {
    let io_error = |what| move |source| StartError::Io { what, source };
    let node = loaded.config.nodes[loaded.me].name.clone();
    let instance =
        instance::Instance::claim(&options.runtime_dir, &[(&loaded.config.cluster, &node)])?;
    let record = Record::open(&options.state_dir)
        .map_err(|source| StartError::State { path: options.state_dir.clone(), source })?;
    let confirmed = record.read();
    record
        .doubt_unless(loaded.config.digest())
        .map_err(|source| StartError::State { path: options.state_dir.clone(), source })?;
    let orphans = instance.remember(&loaded.config);
    let mut start = inherit(options, loaded, orphans, confirmed)?;
    let kept = io::decisions::Decisions::new(&options.state_dir);
    let unreadable;
    (start.inheritance.will, unreadable) = kept.read(decisions::utc());
    let keeping = decisions::Keeping::new(kept, unreadable);
    let failures = failures::Book::open(&options.state_dir);
    start.inheritance.failures = failures.read();
    let gate = start.inheritance.gate;
    start.recorder = recorder(options, loaded)?;
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
    let (desk, told) = clients::desk();
    let shell = turn::Shell::open(&mut start, from_service, (to_service, desk)).map_err(|e| {
        if e.kind() == std::io::ErrorKind::PermissionDenied {
            StartError::Capabilities(e)
        } else {
            io_error("kernel sockets")(e)
        }
    })?;
    let core = std::thread::Builder::new()
        .name("vipd-core".to_owned())
        .stack_size(turn::STACK)
        .spawn(move || turn::run(shell, start))
        .map_err(io_error("the core thread"))?;
    // Kills what earlier agents left, while the core goes on with what cannot wait.
    let (before, of) = ((record, gate), (node.as_str(), &*loaded.config));
    let service = Arc::new(service::Service::new(
        options.clone(),
        instance,
        before,
        of,
        (inbox, keeping, failures),
    ));
    let clean =
        runtime.block_on(service.run((&loaded.warnings, &loaded.config), server, (outbox, told)));
    let joined = core.join().is_ok();
    // Whoever still waits for a name server is not waited for.
    runtime.shutdown_background();
    Ok(clean && joined)
}

/// What an earlier run left: in the kernel, in the runtime directory, on the disk. The instance
/// must have been claimed: until then another process may go on with it.
fn inherit(
    options: &Options,
    loaded: &Loaded,
    orphans: BTreeSet<IpAddr>,
    confirmed: Confirmed,
) -> Result<turn::Start, StartError> {
    let config = Arc::clone(&loaded.config);
    let gate = gatekeeper::open(&options.gate_dir, &config);
    let (found, no_gate) = match gate {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(format!("the kernel's gate: {error}").into_boxed_str())),
    };
    let (mut ballots, mut votes) = (None, None);
    // Bound to the gate, which does not outlive the boot.
    if let Some(found) = found.as_ref().filter(|_| config.needs_lease()) {
        match open_ballots(options, found.id, &config) {
            Ok((opened, known)) if opened.publish().is_ok() => {
                (ballots, votes) = (Some(opened), known);
            }
            Ok(_) => tracing::warn!("votes do not outlive a restart"),
            Err(error) => {
                tracing::warn!("votes do not outlive a restart: {error}");
            }
        }
    }
    let (id, open) = found.as_ref().map(|f| (f.id, f.open.clone())).unzip();
    let random = random::bits();
    let run = random.map_err(|source| StartError::Io { what: "random bits", source })?;
    let (keeper, deadlines) = found.map(|f| (f.keeper, f.deadlines)).unzip();
    Ok(turn::Start {
        me: loaded.me,
        secrets: loaded.secrets.clone(),
        inheritance: Inheritance {
            orphans,
            gate: id,
            open: open.unwrap_or_default(),
            votes,
            quiet: confirmed.longest(),
            confirmed: confirmed.digest,
            fenced: io::history::past(&options.state_dir),
            run: Incarnation(run),
            will: Vec::new(),
            failures: Vec::new(),
        },
        keeper: keeper.map(|k| Box::new(k) as Box<dyn io::worker::Gatekeeper>),
        deadlines,
        no_gate,
        ballots,
        keys: loaded.keys.clone(),
        remains: options.runtime_dir.join("routing"),
        recorder: None,
        run: Incarnation(run),
        config,
    })
}

/// The trace that was asked for. It never holds a secret: where adverts have a password, there is
/// none, as it could not be gone through again without.
fn recorder(options: &Options, loaded: &Loaded) -> Result<Option<recorder::Recorder>, StartError> {
    let Some(path) = &options.record else { return Ok(None) };
    let refuse = |why: String| StartError::Trace { path: path.clone(), why };
    if loaded.config.groups.iter().any(|g| g.password_file.is_some()) {
        return Err(refuse("a group has a password-file, and a trace holds no secrets".to_owned()));
    }
    let mut recorder = recorder::Recorder::create(path).map_err(|e| refuse(e.to_string()))?;
    recorder.text.clone_from(&loaded.text);
    Ok(Some(recorder))
}

/// The file of votes about the groups of `config`; not in place yet.
fn open_ballots(
    options: &Options,
    gate: GateId,
    config: &Config,
) -> std::io::Result<(Ballots, Option<BTreeMap<String, Vote>>)> {
    let path = options.runtime_dir.join("votes");
    let groups = config.groups.iter().map(|g| g.name.as_str());
    Ballots::open(&path, gate.0, groups)
}
