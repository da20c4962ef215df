//! One run of an agent, from the first line of its input to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use zeroize::Zeroizing;

use super::secrets::Known;
use super::{Verb, marks};
use crate::config::Device;
use crate::io::proxy::spawn::{self, Child, Given, Spawned};

/// How long the last words of an agent that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How much of the output people are shown, in bytes.
const SHOWN: usize = 4096;
/// How much of each output is kept; longer than what is shown by more than any secret is long.
pub(super) const TAIL: Keep = Keep::Last(SHOWN + secrets_room());
/// Metadata: all of it, within reason.
pub(super) const WHOLE: Keep = Keep::First(1 << 20);

const fn secrets_room() -> usize {
    super::secrets::LONGEST
}

/// Which part of an output is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    First(usize),
    Last(usize),
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    /// By a signal that was not ours.
    Killed(String),
    TimedOut,
}

/// What an agent told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) ended: Ended,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Whether something before it is not kept.
    cut: [bool; 2],
}

/// What an agent reads: what to do comes first, for without it agents reboot.
///
/// # Errors
/// If a value cannot stand in one line.
pub(super) fn input(
    device: &Device,
    verb: Verb,
    victim: &str,
    host: Option<&'static str>,
    secrets: &[Known],
) -> Result<Zeroizing<String>, String> {
    let room: usize = device.parameters.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
    let secret: usize = secrets.iter().map(|s| s.parameter.len() + s.value.len() + 4).sum();
    // A string that had to grow would leave secrets behind.
    let mut text = Zeroizing::new(String::with_capacity(room + secret + 3 * victim.len() + 64));
    let mut line = |name: &str, value: &str| {
        if value.contains(['\n', '\r', '\0']) {
            return Err(format!("`{name}` is more than one line"));
        }
        text.push_str(name);
        // Agents take one pair of quotes off.
        let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
        let mark = if quoted { "\"" } else { "" };
        for part in ["=", mark, value, mark, "\n"] {
            text.push_str(part);
        }
        Ok(())
    };
    line("action", verb.name())?;
    line("nodename", victim)?;
    if let Some(host) = host {
        line(host, victim)?;
    }
    for (name, value) in &device.parameters {
        line(name, value)?;
    }
    for secret in secrets {
        line(&secret.parameter, &secret.value)?;
    }
    Ok(text)
}

/// Kills everything that has the mark when it goes out of scope; whoever left the agent's session
/// is among them.
struct Guard<'m> {
    child: Child,
    mark: &'m str,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.child.signal(rustix::process::Signal::KILL);
        marks::kill(self.mark);
    }
}

/// Runs `program` with `input` until it ends, or until `limit` and then it is killed.
///
/// # Errors
/// It could not be executed.
pub(super) async fn execute(
    program: &Path,
    mark: &str,
    input: Zeroizing<String>,
    limit: Duration,
    keep: Keep,
) -> io::Result<Told> {
    let variables = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("HOME", "/"),
        // Agents tell people about failures, not about the age of a library.
        ("PYTHONWARNINGS", "ignore"),
        (marks::VARIABLE, mark),
    ];
    let argv = [program.to_string_lossy().into_owned()];
    let env = variables.map(|(name, value)| (name, value.to_owned())).to_vec();
    let given = Given { env: Some(env), input: true, doomed: true, ..Given::default() };
    let Spawned { child, input: stdin, out: stdout, err: stderr } =
        spawn::spawn(&argv, None, given)?;
    let mut guard = Guard { child, mark };
    let stdin = stdin.ok_or(io::ErrorKind::BrokenPipe)?;
    let mut sender = pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?;
    let (mut out, mut err) = (Kept::new(keep), Kept::new(TAIL));
    let ended = {
        let feed = async move {
            // An agent that does not listen says so by its exit status.
            let _ = sender.write_all(input.as_bytes()).await;
        };
        let (stdout, stderr) = (OwnedFd::from(stdout), OwnedFd::from(stderr));
        let mut talk = pin!(async { tokio::join!(feed, out.fill(stdout), err.fill(stderr)) });
        let mut silent = false;
        let whole = async {
            loop {
                tokio::select! {
                    status = guard.child.ended() => break status,
                    _ = &mut talk, if !silent => silent = true,
                }
            }
        };
        let ended = tokio::time::timeout(limit, whole).await;
        if ended.is_err() {
            guard.child.signal(rustix::process::Signal::KILL);
        }
        if !silent {
            let _ = tokio::time::timeout(LAST_WORDS, talk).await;
        }
        ended
    };
    let ended = match ended {
        Err(_) => Ended::TimedOut,
        Ok(status) => {
            let status = status?;
            status.code().map_or_else(|| Ended::Killed(spawn::how(status)), Ended::Exited)
        }
    };
    Ok(Told { ended, cut: [out.cut, err.cut], stdout: out.bytes, stderr: err.bytes })
}

/// As much of an output as is kept.
struct Kept {
    keep: Keep,
    bytes: Vec<u8>,
    cut: bool,
}

impl Kept {
    fn new(keep: Keep) -> Self {
        Self { keep, bytes: Vec::new(), cut: false }
    }

    /// Reads until the end, and keeps what is to be kept: the writer is never held up.
    async fn fill(&mut self, fd: OwnedFd) {
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(fd) else { return };
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer).await {
                Ok(read @ 1..) => self.take(&buffer[..read]),
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn take(&mut self, more: &[u8]) {
        self.bytes.extend(more);
        match self.keep {
            Keep::First(most) => {
                self.cut |= self.bytes.len() > most;
                self.bytes.truncate(most);
            }
            Keep::Last(most) => {
                if let Some(extra) = self.bytes.len().checked_sub(most).filter(|e| *e > 0) {
                    self.bytes.drain(..extra);
                    self.cut = true;
                }
            }
        }
    }
}

/// What an agent printed, its errors first, as text for people, without `secrets`.
pub(super) fn readable(told: &Told, secrets: &[&Zeroizing<String>]) -> String {
    let parts = [(&told.stderr, told.cut[1]), (&told.stdout, told.cut[0])];
    let mut text = String::new();
    for (bytes, cut) in parts {
        let part = masked(&String::from_utf8_lossy(bytes), secrets);
        // What is left of a secret whose beginning is gone stands at the very beginning.
        let part = if cut { part.split_once('\n').map_or("", |(_, rest)| rest) } else { &part };
        text.extend(part.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')));
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    }
    let mut from = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.split_off(from)
}

fn masked(text: &str, secrets: &[&Zeroizing<String>]) -> String {
    let mut longest_first: Vec<_> = secrets.iter().map(|s| s.as_str()).collect();
    longest_first.sort_by_key(|s| std::cmp::Reverse(s.len()));
    longest_first.into_iter().fold(text.to_owned(), |text, s| text.replace(s, "****"))
}

/// The line of `output` that says what went wrong; `otherwise` where there is none.
pub(super) fn last_words(output: &str, otherwise: &str) -> String {
    const LONGEST: usize = 300;
    let lines = || output.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let line = lines().find(|l| l.contains("ERROR")).or_else(|| lines().next());
    let words = line.map_or(otherwise, plain);
    words.chars().take(LONGEST).collect()
}

/// A log line without the time and the severity in front of it.
fn plain(line: &str) -> &str {
    let rest = line.split_once("ERROR:").map_or(line, |(before, rest)| {
        let is_stamp = |c: char| c.is_ascii_digit() || " -:,.".contains(c);
        if before.chars().all(is_stamp) { rest } else { line }
    });
    let rest = rest.trim();
    if rest.is_empty() { line } else { rest }
}
