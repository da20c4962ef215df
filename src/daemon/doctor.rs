//! `vipctl doctor`: whether what will be needed one day works now, asked without the daemon.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;

use crate::config::{Config, Device, Sessions};
use crate::io::fence::{Agents, Outcome, Run};
use crate::io::{secret, sessions, timekeeping};

/// How long a server may take to answer.
const ASKED: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What concerns this host alone.
    pub here: Vec<Look>,
    /// Every fence device, in the order of the file.
    pub devices: Vec<Answer>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Good,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Bad,
}

impl Verdict {
    fn word(self, color: bool) -> String {
        let (word, on) = match self {
            Self::Good => ("ok", "\x1b[1;32m"),
            Self::Warning => ("warning", "\x1b[33m"),
            Self::Bad => ("bad", "\x1b[1;31m"),
        };
        if color { format!("{on}{word:<7}\x1b[0m") } else { format!("{word:<7}") }
    }
}

/// What a device answered when it was asked for its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whose power it can cut.
    pub node: String,
    /// When its turn is.
    pub level: u8,
    /// Its agent.
    pub agent: String,
    /// What became of it.
    pub run: Run,
    /// Whether that is this host, which has power.
    pub is_here: bool,
}

impl Answer {
    /// Whether it can be counted on.
    pub fn verdict(&self) -> Verdict {
        if !self.run.outcome.is_good() || (self.is_here && self.run.outcome == Outcome::Off) {
            Verdict::Bad
        } else {
            Verdict::Good
        }
    }

    fn power(&self) -> &'static str {
        match self.run.outcome {
            Outcome::On => "on",
            Outcome::Off => "off",
            Outcome::Done
            | Outcome::Failed { .. }
            | Outcome::TimedOut
            | Outcome::NotStarted { .. } => "-",
        }
    }

    fn words(&self) -> String {
        match &self.run.outcome {
            Outcome::Off if self.is_here => {
                "says that this host is off: it is the device of another one".to_owned()
            }
            Outcome::Done | Outcome::On | Outcome::Off => String::new(),
            Outcome::Failed { why } => why.clone(),
            Outcome::TimedOut => "no answer in time".to_owned(),
            Outcome::NotStarted { why } => format!("not started: {why}"),
        }
    }
}

/// Looks at everything. `here` is the node of this host, where it is one.
pub async fn examine(config: &Config, here: Option<usize>, gate_dir: &Path) -> Report {
    let mut looks = host(config, gate_dir);
    if let Some(sessions) = &config.sessions {
        looks.extend(join_all(sessions.servers.iter().map(|s| server(*s, sessions))).await);
    }
    Report { here: looks, devices: devices(config, here).await }
}

/// What can be told of this host at once.
fn host(config: &Config, gate_dir: &Path) -> Vec<Look> {
    let mut looks = Vec::new();
    if let Some(path) = &config.secret {
        looks.push(secret_file(path));
    }
    looks.push(gate(gate_dir));
    looks.extend(clock());
    looks
}

/// Whether the sessions of a dead host could be ended there.
async fn server(server: SocketAddr, with: &Sessions) -> Look {
    let tried = tokio::time::timeout(ASKED, sessions::try_out(server, with)).await;
    let (verdict, words) = match tried {
        Ok(Ok(())) => (Verdict::Good, format!("{} may end those on {server}", with.user)),
        Ok(Err(failed)) => (Verdict::Bad, format!("{server}: {}", failed.why)),
        Err(_) => (Verdict::Bad, format!("{server}: no answer within {} s", ASKED.as_secs())),
    };
    Look { name: "sessions", verdict, words }
}

fn secret_file(path: &Path) -> Look {
    let (verdict, words) = match secret::read(path) {
        Ok(found) if found.is_public => {
            (Verdict::Warning, format!("{}: everybody can read it: chmod 0640", path.display()))
        }
        Ok(_) => (Verdict::Good, path.display().to_string()),
        Err(e) => (Verdict::Bad, e.to_string()),
    };
    Look { name: "secret", verdict, words }
}

/// The gate is kept on a BPF file system; vipd mounts one for itself where there is none.
fn gate(dir: &Path) -> Look {
    let above = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    let kind = nix::sys::statfs::statfs(above).map(|s| s.filesystem_type());
    let (verdict, words) = match kind {
        Ok(kind) if kind == nix::sys::statfs::BPF_FS_MAGIC => {
            (Verdict::Good, format!("{} is on a BPF file system", dir.display()))
        }
        Ok(_) => (
            Verdict::Warning,
            format!("{} is on no BPF file system: the gate ends with the daemon", dir.display()),
        ),
        Err(e) => (Verdict::Bad, format!("{}: {e}", above.display())),
    };
    Look { name: "gate", verdict, words }
}

fn clock() -> Option<Look> {
    let source = timekeeping::source()?;
    let (verdict, words) = if timekeeping::is_paravirtual(&source) {
        let why = "the hypervisor's, which may stop or jump; see clock-source";
        (Verdict::Warning, format!("{source}: {why}"))
    } else {
        (Verdict::Good, source)
    };
    Some(Look { name: "clock", verdict, words })
}

/// Asks every device for its status, all at once: each has its own limit.
async fn devices(config: &Config, here: Option<usize>) -> Vec<Answer> {
    let agents = Agents::new(Path::new(&format!("vipctl doctor {}", std::process::id())));
    let all = config.nodes.iter().enumerate().flat_map(|(i, node)| {
        let mut devices: Vec<&Device> = node.fence.iter().collect();
        devices.sort_by_key(|d| d.level);
        devices.into_iter().map(move |d| (i, node.name.as_str(), d))
    });
    let asked = all.map(|(i, node, device)| {
        let agents = &agents;
        async move {
            Answer {
                node: node.to_owned(),
                level: device.level,
                agent: device.agent.clone(),
                run: agents.probe(device, node).await,
                is_here: here == Some(i),
            }
        }
    });
    join_all(asked).await
}

impl Report {
    /// Whether something does not work.
    pub fn is_bad(&self) -> bool {
        self.here.iter().any(|l| l.verdict == Verdict::Bad)
            || self.devices.iter().any(|d| d.verdict() == Verdict::Bad)
    }

    /// As a person reads it.
    pub fn text(&self, color: bool) -> String {
        let mut out = String::new();
        let wide = self.here.iter().map(|l| l.name.len()).max().unwrap_or_default().max(7);
        for look in &self.here {
            let word = look.verdict.word(color);
            let _ = writeln!(out, "{:<wide$} {word} {}", look.name, look.words);
        }
        if self.devices.is_empty() {
            let _ = writeln!(out, "{:<wide$} no node has a fence device", "fence");
            return out;
        }
        let width = |head: &str, of: fn(&Answer) -> &str| {
            let widths = self.devices.iter().map(|d| of(d).chars().count());
            widths.chain([head.len()]).max().unwrap_or_default()
        };
        let (node, agent) = (width("NODE", |d| &d.node), width("AGENT", |d| &d.agent));
        let _ = writeln!(
            out,
            "\n{:<node$}  LEVEL  {:<agent$}  ANSWER   POWER  {:>7}",
            "NODE", "AGENT", "TOOK"
        );
        for d in &self.devices {
            let took = seconds(d.run.took);
            let line = format!(
                "{:<node$}  {:<5}  {:<agent$}  {}  {:<5}  {took:>7}  {}",
                d.node,
                d.level,
                d.agent,
                d.verdict().word(color),
                d.power(),
                d.words()
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

fn seconds(t: Duration) -> String {
    format!("{:.2} s", t.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node: &str, outcome: Outcome, is_here: bool) -> Answer {
        let run = Run { outcome, output: String::new(), took: Duration::from_millis(84) };
        Answer { node: node.to_owned(), level: 1, agent: "fence_x".to_owned(), run, is_here }
    }

    #[test]
    fn a_table() {
        let failed = Outcome::Failed { why: "Connection timed out".to_owned() };
        let look = Look { name: "secret", verdict: Verdict::Good, words: "/s".to_owned() };
        let mut report = Report {
            here: vec![look],
            devices: vec![
                answer("hap1", Outcome::On, true),
                answer("hap22", Outcome::Off, false),
                answer("hap3", failed, false),
                answer("hap4", Outcome::TimedOut, false),
            ],
        };
        let expected = "\
secret  ok      /s

NODE   LEVEL  AGENT    ANSWER   POWER     TOOK
hap1   1      fence_x  ok       on      0.08 s
hap22  1      fence_x  ok       off     0.08 s
hap3   1      fence_x  bad      -       0.08 s  Connection timed out
hap4   1      fence_x  bad      -       0.08 s  no answer in time
";
        assert_eq!(report.text(false), expected);
        assert!(report.is_bad());
        report.devices.truncate(2);
        assert!(!report.is_bad());
        report.devices = vec![answer("hap1", Outcome::Off, true)];
        assert!(report.is_bad(), "a host that asks has power");
        assert!(report.text(false).contains("it is the device of another one"));
    }
}
