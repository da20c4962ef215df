//! A program that runs on a host.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::clock::wait_until;
use crate::{Error, Result};

/// A program on a host; it is killed when this is dropped.
#[derive(Debug)]
pub struct Proc {
    what: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Proc {
    /// Starts `argv` in `namespace` with `env` added to its environment, its output appended to
    /// `log`. Its process group is its own, so Ctrl-C does not reach it.
    pub(crate) fn start(
        namespace: &str,
        argv: &[&str],
        env: &[(&str, &str)],
        log: PathBuf,
    ) -> Result<Self> {
        let what = argv.join(" ");
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(Error::io(format!("open {}", log.display())))?;
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(argv)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {what}")))?;
        Ok(Self { what, child, log, ended: None })
    }

    /// Its process identifier: `ip netns exec` becomes the program.
    ///
    /// # Panics
    /// Never: the kernel's process identifiers fit.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits 31 bits")
    }

    /// Sends `signal` to it.
    pub fn signal(&self, signal: Signal) -> Result {
        if self.ended.is_some() {
            return Ok(());
        }
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal)
            .map_err(Error::errno(format!("send {signal} to {}", self.what)))
    }

    /// Asks it to end.
    pub fn term(&self) -> Result {
        self.signal(Signal::SIGTERM)
    }

    /// Kills it, but not what it started.
    pub fn kill(&self) -> Result {
        self.signal(Signal::SIGKILL)
    }

    /// Kills it and everything it started; none of them can act on the death of another.
    pub fn kill_tree(&self) -> Result {
        let mut tree = tree(self.pid());
        signal_all(&tree, Signal::SIGSTOP);
        // Children first: the kernel continues the stopped members of a group whose leader dies.
        tree.reverse();
        signal_all(&tree, Signal::SIGKILL);
        Ok(())
    }

    /// Stops it and everything it started from running, as a hang or a paused machine would.
    pub fn freeze(&self) -> Result {
        signal_all(&tree(self.pid()), Signal::SIGSTOP);
        Ok(())
    }

    /// Ends [`Proc::freeze`].
    pub fn thaw(&self) -> Result {
        signal_all(&tree(self.pid()), Signal::SIGCONT);
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.what);
        wait_until(&what, within, || self.poll().map(|ended| ended.is_some()))?;
        self.ended.ok_or(Error::Timeout { what, within })
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_ok_and(|ended| ended.is_none())
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has printed so far, and others that log to the same file.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let ended = self.child.try_wait();
            self.ended = ended.map_err(Error::io(format!("wait for {}", self.what)))?;
        }
        Ok(self.ended)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.is_running() {
            // Both fail only if it is gone already.
            let _ = self.kill_tree();
            let _ = self.child.wait();
        }
    }
}

/// `pid` and all its descendants, ancestors first.
pub fn tree(pid: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> =
        crate::netns::all_pids().filter_map(|p| Some((p, parent(p)?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&ancestor) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == ancestor).map(|(p, _)| *p));
        next += 1;
    }
    found
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Sends `signal` to each of `pids` that still exists.
pub(crate) fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        // One that is gone needs no signal.
        let _ = nix::sys::signal::kill(Pid::from_raw(*pid), signal);
    }
}
