//! One call of a script: looked at, run, fed, listened to, and ended in time.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::process::ChildStdin;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::{sleep, timeout};

use super::super::proxy::spawn::{self, Account, Child, Given, Spawned};
use super::super::trust::{self, Distrust};
use super::{Outcome, Tail};

/// How long a killed script may take to go away.
const GRACE: Duration = Duration::from_secs(1);
/// How long output is waited for after the end.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Where a script finds programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ROOT: &str = "root";

/// What is run.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Its path and arguments.
    pub argv: Vec<String>,
    /// Variables, beside `PATH` and the user's.
    pub env: Vec<(&'static str, String)>,
    /// What it reads; nothing if there is none.
    pub input: Option<String>,
    /// Who runs it; root's rights only for root by name.
    pub user: Option<String>,
}

/// Who a script is run as, once it was looked at.
#[derive(Debug)]
pub struct Trusted(Option<Account>);

/// Finds the user and looks at the script. May ask the network for the user.
///
/// # Errors
/// In words: there is no such user, or the script is not to be trusted.
pub fn examine(path: &Path, user: Option<&str>) -> Result<Trusted, String> {
    let account = spawn::account(user)?;
    let me = || nix::unistd::geteuid().as_raw();
    let uid = account.as_ref().map_or_else(me, Account::uid);
    match trust::look(path, &[uid]) {
        Ok(()) => Ok(Trusted(account)),
        Err(e @ Distrust::Missing(_)) => Err(e.to_string()),
        Err(e @ Distrust::Unsafe { .. }) => Err(format!("refused: {e}")),
    }
}

/// Runs `script` for no longer than `limit`; then it is killed with everything it started that
/// did not leave its group.
pub async fn run(script: Script, limit: Duration) -> Outcome {
    attempt(script, limit).await.0
}

/// The same; gives back what goes on after SIGKILL, so that whoever calls again can wait for its
/// end.
pub(in crate::io) async fn attempt(script: Script, limit: Duration) -> (Outcome, Option<Child>) {
    let mut over = pin!(sleep(limit));
    let late = format!("killed: not done after {limit:?}");
    let (path, user) = (script.argv.first().cloned().unwrap_or_default(), script.user.clone());
    let looked = tokio::task::spawn_blocking(move || examine(Path::new(&path), user.as_deref()));
    let trusted = tokio::select! {
        looked = looked => looked.unwrap_or_else(|e| Err(e.to_string())),
        () = &mut over => {
            return (Outcome::failed(format!("its user was not found within {limit:?}")), None);
        }
    };
    let started = trusted.and_then(|Trusted(account)| start(&script, account.as_ref()));
    let Spawned { mut child, input, out, err } = match started {
        Ok(started) => started,
        Err(why) => return (Outcome::failed(why), None),
    };
    let mut streams = Streams::new(out.into(), err.into());
    let (mut feeding, mut done) = (pin!(feed(input, script.input)), false);
    let (mut tail, mut immortal) = (Tail::default(), false);
    let result = loop {
        tokio::select! {
            biased;
            status = child.ended() => break match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(spawn::how(status)),
                Err(e) => Err(e.to_string()),
            },
            () = &mut over => {
                child.signal(Signal::KILL);
                let gone = timeout(GRACE, child.ended()).await.is_ok();
                immortal = !gone;
                break Err(if gone { late } else { format!("{late}, and goes on after SIGKILL") });
            }
            () = &mut feeding, if !done => done = true,
            bytes = streams.next() => tail.push(&bytes),
        }
    };
    let rest = async {
        while streams.are_open() {
            let bytes = streams.next().await;
            tail.push(&bytes);
        }
    };
    // Whoever left the group may hold them open for ever.
    let _ = timeout(LAST_WORDS, rest).await;
    (Outcome { result, output: tail.text() }, immortal.then_some(child))
}

fn start(script: &Script, account: Option<&Account>) -> Result<Spawned, String> {
    let mut env = vec![("PATH", PATH.to_owned()), ("LANG", "C.UTF-8".to_owned())];
    env.extend(script.env.iter().cloned());
    let given = Given {
        env: Some(env),
        input: script.input.is_some(),
        rights: script.user.as_deref() == Some(ROOT),
        doomed: false,
    };
    spawn::spawn(&script.argv, account, given).map_err(|e| e.to_string())
}

/// Writes all of it; whoever does not read it misses it.
async fn feed(pipe: Option<ChildStdin>, text: Option<String>) {
    if let (Some(pipe), Some(text)) = (pipe, text)
        && let Ok(mut pipe) = pipe::Sender::from_owned_fd(pipe.into())
    {
        let _ = pipe.write_all(text.as_bytes()).await;
        let _ = pipe.write_all(b"\n").await;
    }
}

/// Both outputs, in the order in which they are read.
struct Streams([Option<pipe::Receiver>; 2]);

impl Streams {
    fn new(out: OwnedFd, err: OwnedFd) -> Self {
        Self([out, err].map(|fd| pipe::Receiver::from_owned_fd(fd).ok()))
    }

    fn are_open(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// What is read next; nothing at the end of one. May be dropped without losing anything.
    async fn next(&mut self) -> Vec<u8> {
        async fn read(pipe: &mut Option<pipe::Receiver>) -> Vec<u8> {
            let Some(open) = pipe else { return std::future::pending().await };
            let mut buffer = vec![0; 4096];
            let n = open.read(&mut buffer).await.unwrap_or(0);
            buffer.truncate(n);
            if n == 0 {
                *pipe = None;
            }
            buffer
        }
        let [out, err] = &mut self.0;
        tokio::select! {
            bytes = read(out) => bytes,
            bytes = read(err) => bytes,
        }
    }
}
