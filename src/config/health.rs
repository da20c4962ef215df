//! What is looked at to know whether a host can serve.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::form;
use super::keys::check::ROLES;
use super::{Config, read, read_check};

pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// A look's time by default, in tenths of its interval, and the bounds of that. Together with
/// [`FAST`] what hangs is found within two intervals, jitter and all, from `interval` 350 ms on.
const TIMEOUT: (u32, u32) = (3, 10);
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
/// How many pauses of a check that falls fit into its interval by default.
const FAST: u32 = 5;
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(5);
const WEIGHT: u8 = 10;

/// One thing that is looked at again and again on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Unique name.
    pub name: String,
    /// What is looked at.
    pub what: Probe,
    /// What a failure means.
    pub effect: Effect,
    /// From the end of one run to the begin of the next, before jitter.
    pub interval: Duration,
    /// The same while it falls: after a bad look at what was good, until it has failed or is good.
    pub fast_interval: Duration,
    /// How long one run may take; reaching it is a failure.
    pub timeout: Duration,
    /// Runs in a row that must pass before a failed check passes again.
    pub rise: u32,
    /// Runs in a row that must fail before a check fails.
    pub fall: u32,
    /// Whether its failure is one of the proxy, which is started anew in place.
    pub restart_proxy: bool,
    /// The groups it is about; empty for all.
    pub groups: Vec<String>,
}

impl Check {
    /// How long after it began to hang, at most and but for jitter, what is looked at has failed:
    /// it hangs just after a good look, and each look from there takes all its time.
    pub fn hung_after(&self) -> Duration {
        let falls = self.fall.max(1);
        self.interval + self.fast_interval * (falls - 1) + self.timeout * falls
    }
}

/// What the failure of a check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This host must not hold the group if another one can.
    Disqualify,
    /// This host is that much worse than its priority says.
    Score(u8),
    /// People are told.
    Warn,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Something accepts a TCP connection.
    Tcp(SocketAddr),
    /// A web server answers as it should.
    Http(Http),
    /// HAProxy says of itself, through its admin socket, that it has servers.
    Haproxy {
        /// The admin socket.
        socket: PathBuf,
        /// Its backend, and the fewest servers in it that must be up; `None` asks only whether
        /// HAProxy answers and has finished its first round of checks.
        backend: Option<(String, u32)>,
    },
    /// PostgreSQL, or a pooler in front of it, answers a start-up packet.
    Postgresql(Postgresql),
    /// A systemd unit is active.
    Unit(String),
    /// The process whose number is in this file is there.
    Process(PathBuf),
    /// A file that an administrator or another program writes says that this host may serve.
    File {
        /// The file.
        path: PathBuf,
        /// What it must hold, without white space at its ends; `None`: the file must not be there.
        value: Option<String>,
    },
    /// An interface is up and has carrier.
    Interface(String),
    /// A neighbour on the local network answers ARP or neighbour discovery.
    Neighbour(IpAddr),
    /// A host answers ICMP echo.
    Ping(IpAddr),
    /// A program ends with status 0.
    Run {
        /// Its path and arguments; no shell.
        argv: Vec<String>,
        /// Who runs it.
        user: Option<String>,
    },
}

impl Probe {
    /// What must be so, as a person would say it.
    pub fn in_words(&self) -> String {
        match self {
            Self::Tcp(address) => format!("{address} accepts connections"),
            Self::Http(http) => match http.urls.as_slice() {
                [url] => format!("{url} answers as it should"),
                urls => format!("one of {} answers as it should", urls.join(", ")),
            },
            Self::Haproxy { socket, backend: None } => {
                format!("HAProxy at {} answers and has looked at its servers", socket.display())
            }
            Self::Haproxy { backend: Some((name, servers)), .. } => {
                let noun = if *servers == 1 { "server" } else { "servers" };
                format!("HAProxy has {servers} {noun} or more up in {name}")
            }
            Self::Postgresql(p) => format!("{} answers as PostgreSQL does", p.address),
            Self::Unit(unit) => format!("{unit} is active"),
            Self::Process(path) => format!("the process of {} is there", path.display()),
            Self::File { path, value: Some(value) } => {
                format!("{} holds {value:?}", path.display())
            }
            Self::File { path, value: None } => format!("{} is not there", path.display()),
            Self::Interface(name) => format!("{name} is up and has carrier"),
            Self::Neighbour(ip) => format!("{ip} answers ARP/ND"),
            Self::Ping(ip) => format!("{ip} answers ping"),
            Self::Run { argv, .. } => {
                format!("{} succeeds", argv.first().map_or("", String::as_str))
            }
        }
    }
}

/// A request over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where, `http` or `https`: one good answer is enough.
    pub urls: Vec<String>,
    /// The answers that are good; empty for 200 to 399.
    pub status: Vec<u16>,
    /// What the answer's body must contain.
    pub body: Option<String>,
}

/// A start-up packet of PostgreSQL's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgresql {
    /// Where.
    pub address: SocketAddr,
    /// As whom.
    pub user: String,
    /// To which database.
    pub database: String,
}

impl Config {
    /// Whether any check costs a group points: its own, or one of a group of its sync.
    pub fn has_scores(&self, group: &str) -> bool {
        let scores = |name| self.checks_of(name).any(|c| matches!(c.effect, Effect::Score(_)));
        let of = |name: &str| self.groups.iter().find(|g| g.name == name)?.sync.as_deref();
        let sync = of(group);
        let mates = self.groups.iter().filter(|g| sync.is_some() && g.sync.as_deref() == sync);
        scores(group) || mates.map(|g| g.name.as_str()).any(scores)
    }

    /// The checks that are about a group.
    pub fn checks_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Check> {
        let about = move |c: &&Check| c.groups.is_empty() || c.groups.iter().any(|g| g == group);
        self.checks.iter().filter(about)
    }
}

/// The name of a check that was not given one: what is looked at, and where.
pub(super) fn name(check: &read_check::Check) -> Option<String> {
    if let Some(name) = &check.name {
        return Some(name.value.clone());
    }
    let kind = check.kind()?;
    let first = |list: &Option<read::At<Vec<read::At<String>>>>| {
        list.as_ref().and_then(|l| l.value.first()).map(|w| w.value.clone())
    };
    let target = match kind {
        "run" => first(&check.run)?,
        "patroni" => first(&check.patroni)?,
        _ => check.target.as_ref()?.value.clone(),
    };
    let place = match kind {
        "haproxy" => match &check.backend {
            Some(backend) => &backend.value,
            None => return Some(kind.to_owned()),
        },
        "run" | "process" | "file" => target.rsplit('/').next()?,
        "http" | "patroni" => target.split("://").nth(1)?.split(['/', '?']).next()?,
        _ => &target,
    };
    Some(format!("{kind}-{place}"))
}

/// `None` if something required is absent, which was told.
pub(super) fn lower(check: read_check::Check) -> Option<Check> {
    let name = name(&check)?;
    let script = check.kind() == Some("run");
    let effect = match check.effect.as_ref().map(|e| e.value.as_str()) {
        Some("score") => Effect::Score(check.weight.as_ref().map_or(WEIGHT, |w| w.value)),
        Some("warn") => Effect::Warn,
        Some(_) | None => Effect::Disqualify,
    };
    let interval = check.interval.as_ref().map_or(INTERVAL, |t| t.value);
    let timeout = if script {
        SCRIPT_TIMEOUT
    } else {
        (interval * TIMEOUT.0 / TIMEOUT.1).clamp(TIMEOUTS[0], TIMEOUTS[1])
    };
    Some(Check {
        name,
        effect,
        interval,
        fast_interval: check.fast_interval.as_ref().map_or(interval / FAST, |t| t.value),
        timeout: check.timeout.as_ref().map_or(timeout, |t| t.value),
        rise: check.rise.as_ref().map_or(2, |n| n.value),
        fall: check.fall.as_ref().map_or(2, |n| n.value),
        restart_proxy: check.restart_proxy.as_ref().is_some_and(|r| r.value),
        groups: words(check.groups.as_ref()),
        what: probe(check)?,
    })
}

fn words(list: Option<&read::At<Vec<read::At<String>>>>) -> Vec<String> {
    list.map(|l| l.value.iter().map(|w| w.value.clone()).collect()).unwrap_or_default()
}

fn probe(check: read_check::Check) -> Option<Probe> {
    let kind = check.kind()?;
    let value = |at: Option<read::At<String>>| at.map(|a| a.value);
    if kind == "run" {
        return Some(Probe::Run { argv: words(check.run.as_ref()), user: value(check.user) });
    }
    if kind == "patroni" {
        let role = check.role.as_ref().map_or("primary", |r| r.value.as_str());
        let (_, path) = ROLES.iter().find(|(name, _)| *name == role)?;
        let urls = words(check.patroni.as_ref());
        let urls = urls.iter().map(|url| format!("{}/{path}", url.trim_end_matches('/')));
        return Some(Probe::Http(Http { urls: urls.collect(), status: vec![200], body: None }));
    }
    let target = value(check.target)?;
    let socket = |text: &str| form::socket(text).ok();
    Some(match kind {
        "tcp" => Probe::Tcp(socket(&target)?),
        "http" => Probe::Http(Http {
            urls: vec![target],
            status: check.status.map(|s| s.value).unwrap_or_default(),
            body: value(check.body),
        }),
        "haproxy" => Probe::Haproxy {
            socket: target.into(),
            backend: check.backend.map(|b| (b.value, check.servers.map_or(1, |s| s.value))),
        },
        "postgresql" => Probe::Postgresql(Postgresql {
            address: socket(&target)?,
            user: value(check.user).unwrap_or_else(|| "postgres".to_owned()),
            database: value(check.database).unwrap_or_else(|| "postgres".to_owned()),
        }),
        "unit" => Probe::Unit(target),
        "process" => Probe::Process(target.into()),
        "file" => Probe::File { path: target.into(), value: value(check.value) },
        "interface" => Probe::Interface(target),
        "neighbour" => Probe::Neighbour(form::voter_ip(&target).ok()?),
        "ping" => Probe::Ping(form::voter_ip(&target).ok()?),
        _ => return None,
    })
}
