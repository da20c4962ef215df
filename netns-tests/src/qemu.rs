//! A machine of its own, with a watchdog that really resets it: `QEMU`, by emulation alone.
//!
//! It boots Debian's kernel with a `busybox`, the daemon and nothing else, has no network card, and
//! does what is written to its second serial line. What is below `/state` outlives its resets.
//!
//! Needs `qemu-system-x86`, `busybox-static`, `cpio`, `kmod`, and for the first time a Debian mirror.

mod image;
mod qmp;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock::{pause, wait_until};
use crate::{Error, Result};

pub use qmp::Event;
use qmp::Qmp;

/// How long it may take to boot: four seconds on an idle machine.
const BOOT: Duration = Duration::from_mins(2);
/// How long a command in it may take: a tenth of a second on an idle machine.
const COMMAND: Duration = Duration::from_mins(1);

/// The machine. It is killed when this is dropped.
#[derive(Debug)]
pub struct Machine {
    process: Child,
    dir: PathBuf,
    qmp: Qmp,
    line: BufReader<UnixStream>,
}

impl Machine {
    /// Boots one; `watchdog` are parameters of its watchdog's module, as in `nowayout=1`.
    pub fn boot(name: &str, watchdog: &str) -> Result<Self> {
        let kernel = image::kernel()?;
        let dir = std::env::temp_dir().join(format!("vipd-qemu-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(Error::io("make a directory for a machine"))?;
        let disk = image::disk(&dir)?;
        let path = |name: &str| dir.join(name).display().to_string();
        let initrd = image::initrd(&dir, &kernel, watchdog)?;
        let process = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "256", "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-nic", "none"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .args(["-serial", &format!("file:{}", path("console"))])
            .args(["-serial", &format!("unix:{},server=on,wait=off", path("line"))])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", path("qmp"))])
            .args(["-drive", &format!("file={},if=none,id=state,format=raw", disk.display())])
            .args(["-device", "virtio-blk-pci,drive=state"])
            .args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"])
            .arg("-kernel")
            .arg(kernel.image())
            .arg("-initrd")
            .arg(initrd)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("run qemu-system-x86_64"))?;
        let mut guard = Guard(Some(process), dir.clone());
        let line = connect(&dir.join("line"), &mut guard)?;
        let qmp = Qmp::open(connect(&dir.join("qmp"), &mut guard)?)?;
        let process = guard.0.take().ok_or_else(|| guard.died())?;
        let mut machine = Self { process, dir, qmp, line: BufReader::new(line) };
        machine.booted()?;
        Ok(machine)
    }

    /// Waits until it is up, for the first time or again.
    pub fn booted(&mut self) -> Result {
        self.limit(BOOT)?;
        self.until("READY").map(drop).map_err(|error| {
            let console = std::fs::read(self.dir.join("console")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            Error::Answer { what: format!("a machine that boots ({error})"), text: console.into() }
        })
    }

    /// Runs a line of shell in it; what it printed.
    ///
    /// # Errors
    /// If it fails, with what it printed.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let (status, output) = self.try_run(command)?;
        if status == "0" {
            return Ok(output);
        }
        Err(Error::Command { command: command.to_owned(), status, output })
    }

    /// The same; how it ended, and what it printed.
    pub fn try_run(&mut self, command: &str) -> Result<(String, String)> {
        self.send(command)?;
        self.limit(COMMAND)?;
        self.until("::").map_err(|error| Error::Answer {
            what: format!("`{command}` in the machine"),
            text: error.to_string(),
        })
    }

    /// Has it run a line of shell that it does not come back from.
    pub fn send(&mut self, command: &str) -> Result {
        let line = format!("{command}\n");
        let sent = self.line.get_mut().write_all(line.as_bytes());
        sent.map_err(Error::io("write to the machine's serial line"))
    }

    /// Writes a file in it.
    pub fn write(&mut self, path: &str, text: &str) -> Result {
        let lines = text.lines().map(|l| format!("'{l}'")).collect::<Vec<_>>().join(" ");
        self.run(&format!("printf '%s\\n' {lines} >{path}")).map(drop)
    }

    /// Everything up to a line that begins with `mark`; first what stands behind that.
    fn until(&mut self, mark: &str) -> Result<(String, String)> {
        let mut before = String::new();
        loop {
            let mut bytes = Vec::new();
            let read = self.line.read_until(b'\n', &mut bytes);
            if read.map_err(Error::io("read from the machine's serial line"))? == 0 {
                let text = before;
                return Err(Error::Answer { what: "a machine that ended".to_owned(), text });
            }
            let line = String::from_utf8_lossy(&bytes);
            // What it wrote as it was reset has no end.
            if let Some(at) = line.find(mark).filter(|at| *at == 0 || mark != "::") {
                return Ok((line[at + mark.len()..].trim().to_owned(), before));
            }
            before.push_str(&line);
        }
    }

    /// What its monitor told since the last time it was asked.
    pub fn events(&mut self) -> Vec<Event> {
        self.qmp.events()
    }

    /// Waits for an event called `name`; every event until then, with it.
    pub fn wait_for(&mut self, name: &str, within: Duration) -> Result<Vec<Event>> {
        self.qmp.wait_for(name, within)
    }

    fn limit(&self, limit: Duration) -> Result {
        self.line.get_ref().set_read_timeout(Some(limit)).map_err(Error::io("set a limit"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.process, &self.dir);
    }
}

/// Kills what does not become a machine.
struct Guard(Option<Child>, PathBuf);

impl Guard {
    fn died(&mut self) -> Error {
        let mut said = String::new();
        if let Some(mut stderr) = self.0.as_mut().and_then(|c| c.stderr.take()) {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        Error::Answer { what: "qemu-system-x86_64".to_owned(), text: said }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            end(process, &self.1);
        }
    }
}

fn end(process: &mut Child, dir: &Path) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
    let _ = std::fs::remove_dir_all(dir);
}

fn connect(path: &Path, guard: &mut Guard) -> Result<UnixStream> {
    let mut connected = None;
    let waited = wait_until("the machine's sockets", Duration::from_secs(10), || {
        connected = UnixStream::connect(path).ok();
        let dead = guard.0.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))));
        Ok(connected.is_some() || dead)
    });
    pause(Duration::from_millis(10));
    match connected {
        Some(stream) => Ok(stream),
        None => waited.and_then(|_| Err(guard.died())),
    }
}
