//! A switch for the power of hosts, and a fence agent that works it: what is cut here is really
//! gone, with all its processes, before the agent says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::worker::Worker;
use crate::{Error, Host, Result, Stamp};

/// How often the switch looks whether somebody wants something.
const LOOK: Duration = Duration::from_millis(1);

/// What is wrong with the device that works the switch of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be reached.
    Dead,
    /// It never answers.
    Hung,
    /// It says that the power is off, and does nothing.
    Lying,
    /// It takes half a minute for everything.
    Slow,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Hung => "hung",
            Self::Lying => "lying",
            Self::Slow => "slow",
        }
    }
}

/// What was done: when, to which host, and whether it has power since.
pub type Deeds = Vec<(Stamp, String, bool)>;

/// The power of some hosts.
#[derive(Debug)]
pub struct PowerSwitch {
    dir: PathBuf,
    deeds: Arc<Mutex<Deeds>>,
    _worker: Worker,
}

impl PowerSwitch {
    /// For `hosts`, with its agent and state in `dir`.
    pub fn new(dir: &Path, hosts: Vec<Host>) -> Result<Self> {
        let dir = dir.join("power");
        fs::create_dir_all(&dir).map_err(Error::io("make a directory"))?;
        let agent = dir.join("agent");
        fs::write(&agent, AGENT).map_err(Error::io("write an agent"))?;
        fs::set_permissions(&agent, PermissionsExt::from_mode(0o755))
            .map_err(Error::io("make an agent executable"))?;
        for host in &hosts {
            put(&dir, host.name(), "power", "on");
        }
        let deeds = Arc::new(Mutex::new(Vec::new()));
        let (place, done) = (dir.clone(), Arc::clone(&deeds));
        let worker = Worker::start("power", move |stop| {
            while !stop.after(LOOK) {
                for host in &hosts {
                    obey(&place, host, &done);
                }
            }
        })?;
        Ok(Self { dir, deeds, _worker: worker })
    }

    /// The `fence` of a node in the daemon's file.
    pub fn device(&self, host: &str) -> String {
        let agent = self.dir.join("agent");
        let dir = self.dir.display();
        format!(
            "{{ agent = \"{}\", plug = \"{host}\", switch = \"{dir}\", timeout = \"5s\", attempts = 1 }}",
            agent.display()
        )
    }

    /// Breaks the device of a host, or repairs it.
    pub fn fault(&self, host: &str, fault: Option<Fault>) {
        put(&self.dir, host, "fault", fault.map_or("", Fault::name));
    }

    /// What was done so far.
    pub fn deeds(&self) -> Deeds {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// In one step, so that nobody reads half of it.
fn put(dir: &Path, host: &str, what: &str, value: &str) {
    let path = dir.join(format!("{host}.{what}"));
    let new = path.with_extension(format!("{what}.new"));
    // A lab that is being taken down has no such directory any more.
    let _ = fs::write(&new, value).and_then(|()| fs::rename(&new, &path));
}

fn obey(dir: &Path, host: &Host, deeds: &Mutex<Deeds>) {
    let path = dir.join(format!("{}.want", host.name()));
    let Ok(wanted) = fs::read_to_string(&path) else { return };
    let _ = fs::remove_file(&path);
    let on = wanted.trim() == "on";
    if on != host.has_power() {
        let done = if on { host.power_on() } else { host.power_loss() };
        if let Err(e) = done {
            eprintln!("the power of {}: {e}", host.name());
            return;
        }
        let at = Stamp::now();
        deeds.lock().unwrap_or_else(PoisonError::into_inner).push((at, host.name().into(), on));
    }
    put(dir, host.name(), "power", if on { "on" } else { "off" });
}

const AGENT: &str = r#"#!/usr/bin/python3 -I
import os, sys, time
given = dict(line.split("=", 1) for line in sys.stdin.read().splitlines() if "=" in line)
verb = given.get("action", "reboot")
if verb == "metadata":
    print("""<?xml version="1.0" ?>
<resource-agent name="lab" shortdesc="The lab's switch">
<parameters>
<parameter name="action" required="1"><content type="string" default="off"/></parameter>
<parameter name="plug" required="1"><content type="string"/></parameter>
<parameter name="switch" required="1"><content type="string"/></parameter>
</parameters>
<actions><action name="on"/><action name="off"/><action name="status"/>
<action name="monitor"/><action name="metadata"/></actions>
</resource-agent>""")
    sys.exit(0)
place = os.path.join(given["switch"], given["plug"])
def read(what):
    try:
        with open(place + "." + what) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
fault = read("fault")
if fault == "dead":
    print("no route to the device", file=sys.stderr)
    sys.exit(1)
if fault == "hung":
    time.sleep(1000)
if fault == "slow":
    time.sleep(30)
if fault == "lying":
    sys.exit(2 if verb == "status" else 0)
if verb == "status":
    sys.exit(0 if read("power") == "on" else 2)
if verb == "monitor":
    sys.exit(0)
if verb not in ("on", "off"):
    print("no such action", file=sys.stderr)
    sys.exit(1)
with open(place + ".want.mine", "w") as file:
    file.write(verb)
os.rename(place + ".want.mine", place + ".want")
for _ in range(10000):
    if read("power") == verb and not os.path.exists(place + ".want"):
        sys.exit(0)
    time.sleep(0.001)
print("the switch does not move", file=sys.stderr)
sys.exit(1)
"#;
