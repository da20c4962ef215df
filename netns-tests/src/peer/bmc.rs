//! A baseboard controller for a host: `ipmi_sim` with a power switch that really switches.
//!
//! The simulator runs on a host of its own, for a controller goes on when its machine has no
//! power. It asks the helper `chassis` to switch, and that asks this process, which knows the
//! host: [`Host::power_loss`] and [`Host::power_on`].

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{Stamp, wait_until};
use crate::host::Host;
use crate::process::Proc;
use crate::worker::{Stop, Worker};
use crate::{Error, Result, run};

/// The user that may switch, and its password.
pub const USER: (&str, &str) = ("admin", "s3cret-word");

/// What is wrong with a controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It says that it turned the power off, and it is on.
    StuckOn,
    /// It says that it turned the power on, and it is off.
    StuckOff,
    /// It turns the power off or on so long after it said that it did.
    Slow(Duration),
    /// It says nothing any more.
    Hangs,
    /// It says no to everything.
    Refuses,
    /// It does nothing, and says that the power is as it was told.
    Lies,
}

/// A controller.
#[derive(Debug)]
pub struct Bmc {
    /// The simulator.
    pub process: Proc,
    address: String,
    switch: Arc<Mutex<Switch>>,
    _worker: Worker,
}

/// The power switch.
#[derive(Debug)]
struct Switch {
    host: Host,
    fault: Fault,
    /// What it was told last: the lie of [`Fault::Lies`].
    told: Option<bool>,
    /// What is still to be done, and when.
    later: Option<(Instant, bool)>,
    history: Vec<(Stamp, bool)>,
}

impl Bmc {
    /// A controller of `host` that runs on `rack` and is reached at `address`, an address of
    /// `rack`.
    pub fn start(rack: &Host, host: &Host, address: &str) -> Result<Self> {
        let name = host.name();
        let dir = rack.dir().join(name);
        let state = dir.join("state");
        std::fs::create_dir_all(&state).map_err(Error::io(format!("make {}", state.display())))?;
        let socket = dir.join("power");
        let _ = std::fs::remove_file(&socket);
        let listener =
            UnixListener::bind(&socket).map_err(Error::io(format!("bind {}", socket.display())))?;
        let switch = Arc::new(Mutex::new(Switch {
            host: host.clone(),
            fault: Fault::None,
            told: None,
            later: None,
            history: Vec::new(),
        }));
        let worker = {
            let switch = Arc::clone(&switch);
            Worker::start("chassis", move |stop| serve(&stop, &listener, &switch))?
        };
        let helper = helper()?;
        let chassis = format!("{} {}", helper.display(), socket.display());
        let lan = rack.write(&format!("{name}/lan.conf"), &lan(name, address, &chassis))?;
        let emu = rack.write(&format!("{name}/sim.emu"), EMULATOR)?;
        let [lan, emu, state] = [lan, emu, state].map(|p| p.to_string_lossy().into_owned());
        let argv = ["ipmi_sim", "-c", &lan, "-f", &emu, "-s", &state, "-n"];
        let process = rack.spawn(&format!("bmc-{name}"), &argv)?;
        let bmc = Self { process, address: address.to_owned(), switch, _worker: worker };
        let namespace = rack.namespace().to_owned();
        wait_until(&format!("the controller of {name}"), Duration::from_secs(10), || {
            let listening = run::stdout(&["ip", "netns", "exec", &namespace, "ss", "-Hlun"])?;
            Ok(listening.contains(&format!("{address}:623")))
        })?;
        Ok(bmc)
    }

    /// What is wrong from now on.
    pub fn set(&self, fault: Fault) {
        let mut switch = self.switch();
        switch.fault = fault;
        switch.told = None;
    }

    /// When the power of the host was really switched, and whether on.
    pub fn history(&self) -> Vec<(Stamp, bool)> {
        self.switch().history.clone()
    }

    /// A fence device for this controller, as it is written in vipd's file; `password` is a file.
    pub fn device(&self, password: &str) -> String {
        format!(
            "{{ agent = \"fence_ipmilan\", ip = \"{}\", username = \"{}\", lanplus = true, \
             cipher = 3, power-wait = 0, password-file = \"{password}\" }}",
            self.address, USER.0
        )
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        lock(&self.switch)
    }
}

fn lock(switch: &Mutex<Switch>) -> MutexGuard<'_, Switch> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The helper, beside the program that runs.
fn helper() -> Result<PathBuf> {
    let here = std::env::current_exe().map_err(Error::io("find this program"))?;
    let found =
        here.ancestors().skip(1).take(2).map(|dir| dir.join("chassis")).find(|p| p.exists());
    found.ok_or_else(|| Error::Answer {
        what: "the helper `chassis`".to_owned(),
        text: "is not built: cargo build -p netns-tests".to_owned(),
    })
}

/// Answers the helper until the owner goes.
fn serve(stop: &Stop, listener: &UnixListener, switch: &Mutex<Switch>) {
    // Those that a hanging controller keeps waiting.
    let mut waiting = Vec::new();
    loop {
        let later = lock(switch).later;
        let timeout = later.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let Some([ready]) = stop.wait([listener.as_fd()], timeout) else { return };
        lock(switch).catch_up();
        if !ready {
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        match ask(stream, switch) {
            Some(kept) if waiting.len() < 64 => waiting.push(kept),
            Some(_) | None => {}
        }
    }
}

/// Carries out one order; the connection, if it is not to be answered.
fn ask(mut stream: UnixStream, switch: &Mutex<Switch>) -> Option<UnixStream> {
    let mut line = String::new();
    // A helper that was killed has nothing to say.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    BufReader::new(&stream).read_line(&mut line).ok()?;
    match lock(switch).order(line.trim()) {
        Some(answer) => {
            let _ = stream.write_all(answer.as_bytes());
            None
        }
        None => Some(stream),
    }
}

impl Switch {
    /// What is answered to an order; `None` for nothing, ever.
    fn order(&mut self, order: &str) -> Option<String> {
        match (self.fault, order) {
            (Fault::Hangs, _) => None,
            (fault, "get power") if fault != Fault::Refuses => {
                let lie = self.told.filter(|_| fault == Fault::Lies);
                let on = lie.unwrap_or_else(|| self.host.has_power());
                Some(format!("ok power:{}\n", u8::from(on)))
            }
            (fault, "set power 0" | "set power 1" | "set reset 1") if fault != Fault::Refuses => {
                let (off, on) = (order != "set power 1", order != "set power 0");
                for power in [(off, false), (on, true)].into_iter().filter(|p| p.0) {
                    self.switch(power.1);
                }
                Some("ok\n".to_owned())
            }
            _ => Some("no\n".to_owned()),
        }
    }

    fn switch(&mut self, on: bool) {
        self.told = Some(on);
        match self.fault {
            Fault::None => self.turn(on),
            Fault::StuckOn if on => self.turn(on),
            Fault::StuckOff if !on => self.turn(on),
            Fault::Slow(by) => self.later = Some((Instant::now() + by, on)),
            Fault::StuckOn | Fault::StuckOff | Fault::Hangs | Fault::Refuses | Fault::Lies => {}
        }
    }

    fn catch_up(&mut self) {
        if let Some((_, on)) = self.later.filter(|(at, _)| Instant::now() >= *at) {
            self.later = None;
            self.turn(on);
        }
    }

    fn turn(&mut self, on: bool) {
        if on == self.host.has_power() {
            return;
        }
        let done = if on { self.host.power_on() } else { self.host.power_loss() };
        match done {
            Ok(at) => self.history.push((at, on)),
            Err(e) => eprintln!("the power of {}: {e}", self.host.name()),
        }
    }
}

/// The configuration of the simulator's LAN side.
fn lan(name: &str, address: &str, chassis: &str) -> String {
    let auths: String = ["callback", "user", "operator", "admin"]
        .map(|level| format!("    allowed_auths_{level} none md2 md5 straight\n"))
        .concat();
    let (user, password) = USER;
    format!(
        "name \"{name}-bmc\"\nset_working_mc 0x20\n  startlan 1\n    addr {address} 623\n    \
         priv_limit admin\n{auths}    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
         chassis_control \"{chassis}\"\n  \
         user 1 true \"\" \"test\" user 10 none md2 md5 straight\n  \
         user 2 true \"{user}\" \"{password}\" admin 10 none md2 md5 straight\n"
    )
}

/// One controller with an event log.
const EMULATOR: &str = "mc_setbmc 0x20\n\
    mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
    sel_enable 0x20 1000 0x0a\n\
    mc_enable 0x20\n";
