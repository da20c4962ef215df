//! A proxy that is a command: vipd starts it, watches it, reaps it.
//!
//! The command stays in the foreground. It has started when it is alive [`SETTLE`] after its
//! program was executed. It is stopped with SIGTERM and, when its time is up, SIGKILL, both to
//! its whole process group; what is left of the group when the command itself ends is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::spawn::{self, Account, Child};
use super::{Drive, GRACE, Limit, Limits, Orders, Report, Request, words};
use crate::core::event::ProxyEvent;

/// How long a command must have lived to have started: long enough to fail over a bad
/// configuration or a port in use.
const SETTLE: Duration = Duration::from_millis(100);
/// Longest line of output that is logged whole, in bytes.
const LINE: usize = 1024;
/// How many lines of each output a command may log in a second; the rest is counted.
const LINES: u32 = 100;
/// How long the last words of a dead command are waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Works for one command until it is retired and the command has ended.
pub(super) async fn run(argv: Vec<String>, user: Option<String>, orders: Orders, report: Report) {
    let mut command = Command {
        argv,
        user,
        orders,
        report,
        limits: Limits { start: GRACE, stop: GRACE, active_only: false },
        phase: Phase::Down { how: words("not started") },
        pending: None,
        retired: false,
        noticed: false,
    };
    while !(command.retired && matches!(command.phase, Phase::Down { .. })) {
        command.turn().await;
    }
}

/// One command and what is to become of it.
struct Command {
    argv: Vec<String>,
    user: Option<String>,
    orders: Orders,
    report: Report,
    limits: Limits,
    phase: Phase,
    /// An order that is not answered yet and, for a start, until when it must be.
    pending: Option<(Drive, Limit)>,
    retired: bool,
    noticed: bool,
}

/// Where the command is.
enum Phase {
    Down {
        /// How it ended.
        how: Box<str>,
    },
    /// Its user is being looked up.
    Preparing {
        lookup: JoinHandle<Result<Option<Account>, String>>,
    },
    /// Executed, and not yet alive for long enough.
    Settling {
        live: Live,
        until: Limit,
    },
    Up {
        live: Live,
    },
    /// Signalled.
    Stopping {
        live: Live,
        until: Limit,
        killed: bool,
    },
}

/// A child, and the readers of its two outputs, which return the last line.
struct Live {
    child: Child,
    output: [JoinHandle<String>; 2],
}

/// What may happen.
enum Turn {
    Order(Request),
    /// The user is known, or not.
    Prepared(Result<Option<Account>, String>),
    Ended(io::Result<ExitStatus>),
    /// The time of the phase is up.
    PhaseOver,
    /// The time of the order is up.
    Overdue,
}

impl Phase {
    /// Waits for what ends the phase. May be dropped and called again.
    async fn over(&mut self) -> Turn {
        match self {
            Self::Down { .. } => std::future::pending().await,
            Self::Preparing { lookup } => {
                Turn::Prepared(lookup.await.unwrap_or_else(|e| Err(e.to_string())))
            }
            Self::Up { live } => Turn::Ended(live.child.ended().await),
            Self::Settling { live, until } | Self::Stopping { live, until, .. } => tokio::select! {
                status = live.child.ended() => Turn::Ended(status),
                () = until.over() => Turn::PhaseOver,
            },
        }
    }

    fn state(&self) -> ProxyEvent {
        match self {
            Self::Down { how } => ProxyEvent::Stopped { how: how.clone() },
            Self::Preparing { .. } | Self::Settling { .. } => ProxyEvent::Starting,
            Self::Up { live } => ProxyEvent::Running { pid: live.child.id() },
            Self::Stopping { .. } => ProxyEvent::Stopping,
        }
    }
}

impl Command {
    async fn turn(&mut self) {
        let overdue = async {
            match &mut self.pending {
                Some((_, limit)) => limit.over().await,
                None => std::future::pending().await,
            }
        };
        let turn = tokio::select! {
            biased;
            turn = self.phase.over() => turn,
            request = self.orders.next(), if !self.retired => Turn::Order(request),
            () = overdue => Turn::Overdue,
        };
        match turn {
            Turn::Order(request) => self.take(request).await,
            Turn::Prepared(account) => self.execute(account).await,
            Turn::Ended(status) => self.bury(status).await,
            Turn::PhaseOver => self.phase_over().await,
            Turn::Overdue => self.overdue().await,
        }
    }

    async fn take(&mut self, request: Request) {
        self.limits = request.limits;
        self.retired = request.retired;
        self.report.muted = !request.watched;
        if request.watch {
            self.report.told = None;
            self.report.state(self.phase.state()).await;
        }
        match request.drive {
            Some(Drive::Start) if !self.retired => self.start().await,
            Some(Drive::Stop) => self.stop().await,
            _ if self.retired => self.stop().await,
            _ => {}
        }
    }

    async fn start(&mut self) {
        self.pending = Some((Drive::Start, Limit::after(self.limits.start)));
        match self.phase {
            Phase::Down { .. } => self.prepare().await,
            Phase::Up { .. } => self.done(self.phase.state()).await,
            // The start goes on by itself, or follows when the one before has ended.
            Phase::Preparing { .. } | Phase::Settling { .. } | Phase::Stopping { .. } => {}
        }
    }

    async fn prepare(&mut self) {
        let user = self.user.clone();
        let lookup = tokio::task::spawn_blocking(move || spawn::account(user.as_deref()));
        self.phase = Phase::Preparing { lookup };
        self.report.state(ProxyEvent::Starting).await;
    }

    async fn execute(&mut self, account: Result<Option<Account>, String>) {
        if matches!(account, Ok(None)) && !self.noticed {
            self.noticed = true;
            let text = format!(
                "{} runs as vipd's own user, without its capabilities: vipd may not become another",
                self.program()
            );
            self.report.notice(ProxyEvent::Notice { text: text.into() }).await;
        }
        let live = account.and_then(|account| {
            let spawn::Spawned { child, out, err, .. } =
                spawn::spawn(&self.argv, account.as_ref(), spawn::Given::default())
                    .map_err(|e| format!("{}: {e}", self.program()))?;
            let output = [self.relay("stdout", out.into()), self.relay("stderr", err.into())];
            Ok(Live { child, output })
        });
        match live {
            Ok(live) => {
                self.phase =
                    Phase::Settling { live, until: Limit::after(SETTLE.min(self.limits.start)) };
            }
            Err(why) => {
                self.phase = Phase::Down { how: words(&why) };
                self.done(ProxyEvent::Failed { why: words(why) }).await;
            }
        }
    }

    async fn stop(&mut self) {
        self.pending = Some((Drive::Stop, Limit::NEVER));
        match std::mem::replace(&mut self.phase, Phase::Down { how: words("not started") }) {
            Phase::Down { how } => {
                self.phase = Phase::Down { how };
                self.done(self.phase.state()).await;
            }
            Phase::Preparing { .. } => self.done(self.phase.state()).await,
            Phase::Settling { live, .. } | Phase::Up { live } => {
                live.child.signal(Signal::TERM);
                let until = Limit::after(self.limits.stop);
                self.phase = Phase::Stopping { live, until, killed: false };
                self.report.state(ProxyEvent::Stopping).await;
            }
            Phase::Stopping { live, until, killed } => {
                // Given up before: then it has a little time once more.
                let until = if until.0.is_none() { Limit::after(GRACE) } else { until };
                self.phase = Phase::Stopping { live, until, killed };
            }
        }
    }

    /// The command ended.
    async fn bury(&mut self, status: io::Result<ExitStatus>) {
        let how = status.map_or_else(|e| e.to_string(), spawn::how);
        let ended = std::mem::replace(&mut self.phase, Phase::Down { how: words(&how) });
        let stopping = matches!(ended, Phase::Stopping { .. });
        let last_words = ended.last_words().await;
        tracing::debug!(group = self.report.group, program = self.program(), how, "proxy ended");
        match self.pending.as_ref().map(|(drive, _)| *drive) {
            Some(Drive::Start) if stopping => self.prepare().await,
            Some(Drive::Start) => {
                let why = if last_words.is_empty() { how } else { format!("{how}: {last_words}") };
                self.done(ProxyEvent::Failed { why: words(why) }).await;
            }
            Some(Drive::Stop) => self.done(self.phase.state()).await,
            None => self.report.state(self.phase.state()).await,
        }
    }

    async fn phase_over(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Down { how: words("not started") }) {
            Phase::Settling { live, .. } => {
                self.phase = Phase::Up { live };
                self.done(self.phase.state()).await;
            }
            Phase::Stopping { live, killed: false, .. } => {
                live.child.signal(Signal::KILL);
                self.phase = Phase::Stopping { live, until: Limit::after(GRACE), killed: true };
            }
            Phase::Stopping { live, killed, .. } => {
                let why = format!("process {} goes on after SIGKILL", live.child.id());
                self.phase = Phase::Stopping { live, until: Limit::NEVER, killed };
                if matches!(self.pending, Some((Drive::Stop, _))) {
                    self.done(ProxyEvent::Stuck { why: words(why) }).await;
                }
            }
            // They have no end of their own.
            phase @ (Phase::Down { .. } | Phase::Preparing { .. } | Phase::Up { .. }) => {
                self.phase = phase;
            }
        }
    }

    /// The time of a start is up.
    async fn overdue(&mut self) {
        let why = match &self.phase {
            Phase::Preparing { .. } => {
                self.phase = Phase::Down { how: words("not started") };
                "its user could not be looked up"
            }
            Phase::Stopping { .. } => "the one before has not ended",
            Phase::Settling { .. } => return self.phase_over().await,
            Phase::Down { .. } | Phase::Up { .. } => "no answer",
        };
        let why = words(format!("not started after {:?}: {why}", self.limits.start));
        self.done(ProxyEvent::Failed { why }).await;
    }

    async fn done(&mut self, answer: ProxyEvent) {
        self.pending = None;
        self.report.answer(answer).await;
        // The state that goes with a refusal need not be told again; the next one must.
        self.report.told = Some(self.phase.state());
    }

    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    fn relay(&self, stream: &'static str, fd: OwnedFd) -> JoinHandle<String> {
        tokio::spawn(relay(self.report.group, stream, fd))
    }
}

impl Phase {
    /// The last line of output, of the errors if there is one.
    async fn last_words(self) -> String {
        let (Self::Settling { live, .. } | Self::Up { live } | Self::Stopping { live, .. }) = self
        else {
            return String::new();
        };
        let mut last = String::new();
        for mut reader in live.output {
            match tokio::time::timeout(LAST_WORDS, &mut reader).await {
                Ok(Ok(line)) if !line.is_empty() => last = line,
                Ok(_) => {}
                Err(_) => reader.abort(),
            }
        }
        last
    }
}

/// Logs what comes through a pipe, line by line, until its end; returns the last line.
///
/// Reads on when the limit is reached, so the writer is never held up.
async fn relay(group: u16, stream: &'static str, fd: OwnedFd) -> String {
    let Ok(mut pipe) = pipe::Receiver::from_owned_fd(fd) else { return String::new() };
    let (mut left, mut dropped) = (LINES, 0_u64);
    let mut second = Limit::after(Duration::from_secs(1));
    let mut buffer = [0; 4096];
    let (mut line, mut last) = (Vec::new(), String::new());
    loop {
        tokio::select! {
            read = pipe.read(&mut buffer) => {
                let bytes = &buffer[..read.unwrap_or(0)];
                for byte in bytes {
                    match byte {
                        b'\n' => tell(group, stream, &mut line, &mut last, &mut left, &mut dropped),
                        byte if line.len() < LINE => line.push(*byte),
                        _ => {}
                    }
                }
                if bytes.is_empty() {
                    tell(group, stream, &mut line, &mut last, &mut left, &mut dropped);
                    return last;
                }
            }
            () = second.over(), if left < LINES => {
                if dropped > 0 {
                    tracing::info!(target: "proxy", group, stream, dropped, "lines not logged");
                }
                (left, dropped, second) = (LINES, 0, Limit::after(Duration::from_secs(1)));
            }
        }
    }
}

fn tell(
    group: u16,
    stream: &str,
    line: &mut Vec<u8>,
    last: &mut String,
    left: &mut u32,
    dropped: &mut u64,
) {
    let text: String =
        String::from_utf8_lossy(line).chars().filter(|c| !c.is_control() || *c == '\t').collect();
    line.clear();
    if text.trim().is_empty() {
        return;
    }
    if *left == 0 {
        *dropped += 1;
    } else {
        *left -= 1;
        tracing::info!(target: "proxy", group, stream, "{text}");
    }
    *last = text;
}
