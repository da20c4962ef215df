//! The daemon itself, and its command line.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::clock::{Stamp, wait_until};
use crate::host::Host;
use crate::process::Proc;
use crate::{Error, Result};

/// A `vipd` that runs on a host.
#[derive(Debug)]
pub struct Vipd {
    /// Its process.
    pub process: Proc,
    host: Host,
    runtime: PathBuf,
}

impl Vipd {
    /// Starts it on `host` as the node of the host's name, with the file that has `config` as its
    /// text.
    pub fn start(host: &Host, config: &str) -> Result<Self> {
        Self::start_with(host, config, &[])
    }

    /// The same, with further arguments.
    pub fn start_with(host: &Host, config: &str, more: &[&str]) -> Result<Self> {
        Self::start_in(host, config, more, &[])
    }

    /// The same, with variables added to its environment.
    pub fn start_in(
        host: &Host,
        config: &str,
        more: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let file = host.write("vipd/vipd.toml", config)?;
        let runtime = host.run_dir()?.join("vipd");
        let program = binary("vipd")?;
        let (gate, state) = (host.gate_dir()?, host.dir().join("state"));
        let [program, file, dir, gate, state] =
            [&program, &file, &runtime, &gate, &state].map(|p| p.to_string_lossy().into_owned());
        let mut argv = vec![
            program.as_str(),
            "--config",
            file.as_str(),
            "--node",
            host.name(),
            "--runtime-dir",
            dir.as_str(),
            "--gate-dir",
            gate.as_str(),
            "--state-dir",
            state.as_str(),
        ];
        argv.extend(more);
        let process = host.spawn_with("vipd", &argv, env)?;
        Ok(Self { process, host: host.clone(), runtime })
    }

    /// Runs `vipctl` with `arguments` against it.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        ctl(&self.host, &self.runtime, arguments)
    }

    /// `vipctl status --json`.
    pub fn status(&self) -> Result<Value> {
        status(&self.host, &self.runtime)
    }

    /// What it is to `group`: `init`, `backup`, `active`, `releasing`.
    pub fn role(&self, group: &str) -> Result<String> {
        let status = self.status()?;
        let groups = status["groups"].as_array().cloned().unwrap_or_default();
        let role = groups.iter().find(|g| g["name"] == group).and_then(|g| g["role"].as_str());
        role.map(str::to_owned).ok_or_else(|| Error::Answer {
            what: format!("the role of {} in {group}", self.host.name()),
            text: status.to_string(),
        })
    }

    /// Whether the proxy of `group` runs.
    pub fn proxy_runs(&self, group: &str) -> Result<bool> {
        let status = self.status()?;
        let groups = status["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().any(|g| g["name"] == group && g["proxy"]["state"] == "running"))
    }

    /// Waits until it is `role` to `group`; a daemon that does not answer yet is waited for.
    pub fn wait_role(&mut self, group: &str, role: &str, within: Duration) -> Result<Stamp> {
        let what = format!("{role} on {}", self.host.name());
        wait_until(&what, within, || {
            if !self.process.is_running() {
                return Err(Error::Answer { what: "vipd".into(), text: self.process.log() });
            }
            Ok(self.role(group)? == role)
        })
    }

    /// The directory of its sockets.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }
}

/// A `vipd --witness` that runs on a host.
#[derive(Debug)]
pub struct Witness {
    /// Its process.
    pub process: Proc,
    host: Host,
    runtime: PathBuf,
}

impl Witness {
    /// Starts it on `host` as the witness of the host's name, with a file for each of `configs`.
    pub fn start(host: &Host, configs: &[&str]) -> Result<Self> {
        let runtime = host.run_dir()?.join("witness");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let state = host.dir().join("state");
        let mut argv = [text(&binary("vipd")?), "--witness".into(), "--node".into()].to_vec();
        argv.extend([host.name().to_owned(), "--runtime-dir".into(), text(&runtime)]);
        argv.extend(["--state-dir".to_owned(), text(&state)]);
        for (n, config) in configs.iter().enumerate() {
            let file = host.write(&format!("witness/{n}.toml"), config)?;
            argv.extend(["--config".to_owned(), text(&file)]);
        }
        let argv: Vec<_> = argv.iter().map(String::as_str).collect();
        let process = host.spawn("witness", &argv)?;
        Ok(Self { process, host: host.clone(), runtime })
    }

    /// Runs `vipctl` with `arguments` against it.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        ctl(&self.host, &self.runtime, arguments)
    }

    /// `vipctl status --json`.
    pub fn status(&self) -> Result<Value> {
        status(&self.host, &self.runtime)
    }
}

fn status(host: &Host, runtime: &Path) -> Result<Value> {
    let output = ctl(host, runtime, &["status", "--json"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).map_err(|e| Error::Answer {
        what: format!("vipctl status --json on {}", host.name()),
        text: format!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)),
    })
}

/// Runs `vipctl` with `arguments` on `host` against the daemon in `runtime`.
pub fn ctl(host: &Host, runtime: &Path, arguments: &[&str]) -> Result<Output> {
    let program = binary("vipctl")?.to_string_lossy().into_owned();
    let runtime = runtime.to_string_lossy().into_owned();
    let mut argv = vec![program.as_str(), "--runtime-dir", runtime.as_str()];
    argv.extend(arguments);
    host.run(&argv)
}

/// The program `name` of this project: in `VIPD_BIN`, or where cargo put it next to this one.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("VIPD_BIN") {
        return found(Path::new(&dir).join(name));
    }
    let here = std::env::current_exe().map_err(Error::io("find this program"))?;
    // target/PROFILE/demo, or target/PROFILE/deps/lab-0123456789abcdef.
    let places = here.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    found(places.clone().find(|path| path.is_file()).unwrap_or_else(|| here.with_file_name(name)))
}

fn found(path: PathBuf) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    let what = path.display().to_string();
    Err(Error::Answer { what, text: "not there: build it first, with `make build`".to_owned() })
}

/// What a configuration of the lab varies.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Nodes: name, address, priority.
    pub nodes: &'a [(&'a str, &'a str, u8)],
    /// Interval of the adverts.
    pub interval: Duration,
    /// Whether a higher priority takes over from one that is alive.
    pub preempt: bool,
    /// Groups: name, virtual router identifier, addresses.
    pub groups: &'a [(String, u8, Vec<String>)],
    /// The proxy of each group, run by the daemon all the time.
    pub proxy: Option<&'a [String]>,
}

impl Setup<'_> {
    /// The file, the same on every node.
    pub fn text(&self) -> String {
        let mut text = String::from("[cluster]\nname = \"lb\"\n");
        for (name, address, priority) in self.nodes {
            text += &format!(
                "\n[[node]]\nname = \"{name}\"\naddress = \"{address}\"\npriority = {priority}\n"
            );
        }
        for (name, vrid, addresses) in self.groups {
            text += &format!(
                "\n[[group]]\nname = \"{name}\"\nsafety = \"vrrp\"\nvrid = {vrid}\n\
                 addresses = {addresses:?}\ninterval = \"{}ms\"\npreempt = {}\n",
                self.interval.as_millis(),
                self.preempt
            );
            if let Some(command) = self.proxy {
                text += &format!("\n[group.proxy]\ncommand = {command:?}\nrun = \"always\"\n");
            }
        }
        text
    }
}
