//! `vipd --witness`: votes in one cluster or several, and holds nothing.
//!
//! One plain thread ([`hall`]) with a [`booth`] for each cluster does the voting; the service
//! runtime ([`service`]) does the rest, as a node's does. No capability is needed: UDP sockets, and
//! a file for votes.

mod booth;
mod hall;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cli;
use crate::config::{Config, Member};
use crate::core::lease::Vote;
use crate::core::status::Note;
use crate::io::ballots::Ballots;
use crate::io::record::Record;
use crate::io::{clock, random, wake};
use crate::types::{Digest, Incarnation};
use crate::wire::peer::Keyring;

use super::service::{LoadError, keys, read};
use super::{StartError, instance};
use booth::{Before, Booth, Fresh};

/// Requests, and what is told, that may wait.
const QUEUE: usize = 1024;

/// What the thread tells the service runtime.
enum Output {
    Note(Note),
    /// Every voter of a cluster was seen with a configuration, in which a vote lasts so long.
    Settled {
        cluster: String,
        digest: Digest,
        vote: Duration,
    },
}

/// What a witness was started with.
#[derive(Clone, Debug)]
struct Options {
    files: Vec<PathBuf>,
    name: String,
    runtime_dir: PathBuf,
    state_dir: PathBuf,
    socket: PathBuf,
}

/// Why files are not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(
        "{}: no group is held by lease, so there is nothing to vote on", path.display()
    )]
    Idle { path: PathBuf },
    #[error(
        "{} and {} are both of cluster {cluster:?}: a witness has one vote in it",
        first.display(), second.display()
    )]
    SameCluster { first: PathBuf, second: PathBuf, cluster: String },
    #[error(
        "{} and {} both want {address} here: give one of the clusters another `port`, on all of its \
         hosts",
        first.display(), second.display()
    )]
    SamePort { first: PathBuf, second: PathBuf, address: SocketAddr },
    #[error(
        "{}: the cluster was called {was:?} and is now {is:?}: that takes a restart",
        path.display()
    )]
    Renamed { path: PathBuf, was: String, is: String },
}

/// What one file says.
struct Loaded {
    path: PathBuf,
    config: Arc<Config>,
    me: usize,
    keys: Keyring,
    warnings: String,
}

impl Loaded {
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let me = self.config.voter_ix(Member::Witness(self.me));
        let own = self.config.voters().nth(me.index());
        own.into_iter().flat_map(|v| v.addresses()).map(|ip| SocketAddr::new(ip, self.config.port))
    }

    fn name(&self) -> &str {
        &self.config.witnesses[self.me].name
    }
}

/// Reads and validates every file.
fn load(options: &Options) -> Result<Vec<Loaded>, Refusal> {
    let all = options.files.iter().map(|path| load_one(path, &options.name));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let mut clusters: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut ports: BTreeMap<SocketAddr, &Path> = BTreeMap::new();
    for loaded in &all {
        let second = loaded.path.clone();
        if let Some(first) = clusters.insert(&loaded.config.cluster, &loaded.path) {
            let (first, cluster) = (first.to_owned(), loaded.config.cluster.clone());
            return Err(Refusal::SameCluster { first, second, cluster });
        }
        for address in loaded.addresses().collect::<BTreeSet<_>>() {
            if let Some(first) = ports.insert(address, &loaded.path) {
                return Err(Refusal::SamePort { first: first.to_owned(), second, address });
            }
        }
    }
    Ok(all)
}

fn load_one(path: &Path, name: &str) -> Result<Loaded, Refusal> {
    let (config, _, warnings) = read(path)?;
    let me = config
        .validate_witness(name)
        .map_err(|source| LoadError::NotANode { path: path.to_owned(), source })?;
    let keys = keys(&config)?.ok_or_else(|| Refusal::Idle { path: path.to_owned() })?;
    Ok(Loaded { path: path.to_owned(), config: Arc::new(config), me, keys, warnings })
}

/// A witness whose files are valid, and which has not begun.
pub(super) struct Witness {
    options: Options,
    loaded: Vec<Loaded>,
}

impl Witness {
    /// Reads the files.
    ///
    /// # Errors
    /// If one is wrong, or they do not go together.
    pub(super) fn new(args: &cli::Vipd, name: String) -> Result<Self, Refusal> {
        let options = Options {
            files: args.config.clone(),
            name,
            runtime_dir: args.runtime_dir.clone(),
            state_dir: args.state_dir.clone(),
            socket: args.socket(),
        };
        let loaded = load(&options)?;
        Ok(Self { options, loaded })
    }

    /// Votes until it is told to stop; says whether that went well.
    ///
    /// # Errors
    /// If it cannot begin.
    pub(super) fn run(self) -> Result<bool, StartError> {
        let Self { options, loaded } = self;
        let io_error = |what| move |source| StartError::Io { what, source };
        let members: Vec<_> =
            loaded.iter().map(|l| (l.config.cluster.as_str(), l.name())).collect();
        let _instance = instance::Instance::claim(&options.runtime_dir, &members)?;
        let boot = boot().map_err(io_error("the boot id"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error("the service runtime"))?;
        let server = {
            let _inside = runtime.enter();
            crate::api::server::Server::bind(&options.socket, None)?
        };
        let name = loaded.first().map(|l| l.name().to_owned()).unwrap_or_default();
        let warnings: Vec<_> = loaded.iter().map(|l| l.warnings.clone()).collect();
        let clusters = loaded.iter().map(|l| l.config.cluster.clone()).collect();
        let mut records = BTreeMap::new();
        let mut booths = Vec::new();
        for one in loaded {
            let record = record(&options, &one.config)?;
            booths.push(open_booth(&options, one, &record, boot)?);
            let (cluster, record) = record;
            records.insert(cluster, record);
        }
        let (inbox, from_service) =
            wake::mailbox(QUEUE).map_err(io_error("the mailbox of the voting thread"))?;
        let (to_service, outbox) = mpsc::channel(QUEUE);
        let hall = hall::Hall::open(booths, from_service, to_service)
            .map_err(io_error("the voting thread's sockets"))?;
        let voting = std::thread::Builder::new()
            .name("vipd-witness".to_owned())
            .spawn(move || hall.run())
            .map_err(io_error("the voting thread"))?;
        let service =
            Arc::new(service::Service::new(options, (clusters, records), boot, &name, inbox));
        let clean = runtime.block_on(service.run(&warnings, server, outbox));
        Ok(voting.join().is_ok() && clean)
    }
}

/// What outlives a reboot of one cluster, with its name.
fn record(options: &Options, config: &Config) -> Result<(String, Record), StartError> {
    let path = options.state_dir.join(&config.cluster);
    let failed = |source| StartError::State { path: path.clone(), source };
    let record = Record::open(&path).map_err(failed)?;
    Ok((config.cluster.clone(), record))
}

fn open_booth(
    options: &Options,
    loaded: Loaded,
    (cluster, record): &(String, Record),
    boot: u128,
) -> Result<Booth, StartError> {
    let Loaded { config, me, keys, .. } = loaded;
    let path = options.state_dir.join(cluster);
    let confirmed = record.read();
    let doubt = record.doubt_unless(config.digest());
    doubt.map_err(|source| StartError::State { path, source })?;
    let mut before = Before { votes: None, confirmed };
    let mut kept = None;
    match open_ballots(&options.runtime_dir, boot, &config) {
        Ok((ballots, votes)) if ballots.publish().is_ok() => {
            (kept, before.votes) = (Some(ballots), votes);
        }
        Ok(_) => tracing::warn!("votes in {cluster} do not outlive a restart"),
        Err(error) => tracing::warn!("votes in {cluster} do not outlive a restart: {error}"),
    }
    let io_error = |what| move |source| StartError::Io { what, source };
    let run = Incarnation(random::bits().map_err(io_error("random bits"))?);
    let fresh = Fresh { config, me, keys, ballots: kept };
    Booth::open(clock::now(), fresh, &before, run)
        .map_err(io_error("the channel to the other voters"))
}

/// The file of votes in a cluster; not in place yet.
fn open_ballots(
    dir: &Path,
    boot: u128,
    config: &Config,
) -> std::io::Result<(Ballots, Option<BTreeMap<String, Vote>>)> {
    let path = dir.join(format!("votes-{}", config.cluster));
    Ballots::open(&path, boot, config.groups.iter().map(|g| g.name.as_str()))
}

/// Which boot of this host this is: what votes are bound to, as a vote's end is counted from it.
fn boot() -> std::io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits = text.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, cluster: &str, port: u16) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = dir.join("secret");
        std::fs::write(&secret, "000102030405060708090a0b0c0d0e0f").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let secret = secret.display();
        let text = format!(
            "[cluster]\nname = \"{cluster}\"\nsecret = \"{secret}\"\nport = {port}\n\
             [[node]]\nname = \"hap1\"\naddress = \"192.0.2.1\"\n\
             [[node]]\nname = \"hap2\"\naddress = \"192.0.2.2\"\n\
             [[witness]]\nname = \"tie\"\naddress = \"192.0.2.3\"\n\
             [[group]]\nname = \"pg\"\nvrid = 85\naddresses = [\"192.0.2.85/24\"]\n"
        );
        let path = dir.join(format!("{cluster}-{port}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn files_that_do_not_go_together_are_refused() {
        let dir = std::env::temp_dir().join(format!("vipd-witness-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let refused = |name: &str, files: &[(&str, u16)]| {
            let files = files.iter().map(|(c, p)| file(&dir, c, *p)).collect();
            let options = Options {
                files,
                name: name.to_owned(),
                runtime_dir: dir.clone(),
                state_dir: dir.clone(),
                socket: dir.join("sock"),
            };
            load(&options).map(|all| all.len()).map_err(|e| e.to_string())
        };
        assert_eq!(refused("tie", &[("a", 8600), ("b", 8601)]), Ok(2));
        let same = refused("tie", &[("a", 8600), ("b", 8600)]).unwrap_err();
        assert!(same.contains("192.0.2.3:8600 here: give one of the clusters"), "{same}");
        let same = refused("tie", &[("a", 8600), ("a", 8601)]).unwrap_err();
        assert!(same.contains("both of cluster \"a\""), "{same}");
        let node = refused("hap1", &[("a", 8600)]).unwrap_err();
        assert!(node.contains("without --witness"), "{node}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_boot_has_a_name() {
        assert_ne!(boot().unwrap(), 0);
        assert_eq!(boot().unwrap(), boot().unwrap());
    }
}
