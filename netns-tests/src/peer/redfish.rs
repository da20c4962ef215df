//! A Redfish service: the emulator of `sushy-tools` with systems that it only imagines, which take
//! their time to switch as real ones do. Where they are hosts, it tells this process before it says
//! that one is switched, and that switches the host.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Stamp, wait_until};
use crate::host::Host;
use crate::netns::run_in;
use crate::process::Proc;
use crate::worker::{Stop, Worker};
use crate::{Error, Result, run};

/// The user and its password.
pub const USER: (&str, &str) = ("admin", "s3cret-word");

/// What is installed, exactly.
const PACKAGES: [&str; 2] = ["sushy-tools==2.2.0", "bcrypt"];
/// How long it may take to fetch that.
const PATIENCE: Duration = Duration::from_mins(5);
const PORT: u16 = 8443;
/// The emulator rolls dice for how long a switch takes, 1 s to 11 s; hosts of the lab take 1 s.
const BRISK: &str = "import random; random.randint = lambda least, most: least; ";
/// Where the emulator tells of changes.
const TOLD: (&str, u16) = ("127.0.0.1", 9999);

/// What was switched: when, which host, and whether on.
type Deeds = Arc<Mutex<Vec<(Stamp, String, bool)>>>;

/// A Redfish service.
#[derive(Debug)]
pub struct Redfish {
    /// The emulator.
    pub process: Proc,
    address: String,
    deeds: Deeds,
    _worker: Option<Worker>,
}

impl Redfish {
    /// A service on `rack` at `address`, an address of `rack`, with systems that are on or off and
    /// are nothing else.
    pub fn start(rack: &Host, address: &str, systems: &[(&str, bool)]) -> Result<Self> {
        Self::begin(rack, address, systems, &[])
    }

    /// The same with `hosts` as its systems: their power is really switched, within a second or two.
    pub fn wired(rack: &Host, address: &str, hosts: &[Host]) -> Result<Self> {
        let systems: Vec<_> = hosts.iter().map(|host| (host.name(), true)).collect();
        Self::begin(rack, address, &systems, hosts)
    }

    fn begin(rack: &Host, address: &str, systems: &[(&str, bool)], hosts: &[Host]) -> Result<Self> {
        let deeds = Deeds::default();
        let worker = (!hosts.is_empty()).then(|| listen(rack, hosts, &deeds)).transpose()?;
        let python = environment()?;
        let dir = rack.dir().join("redfish");
        std::fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let (certificate, key) = (at("cert.pem"), at("key.pem"));
        run::stdout(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=bmc",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])?;
        let hash = "import bcrypt, sys; print(bcrypt.hashpw(sys.stdin.buffer.read(), \
                    bcrypt.gensalt(4)).decode())";
        let hash = run::stdout_of(&[&python.to_string_lossy(), "-c", hash], USER.1)?;
        let users = rack.write("redfish/users", &format!("{}:{hash}", USER.0))?;
        let tells = if hosts.is_empty() { "False" } else { "True" };
        let each = systems.iter().map(|(name, on)| {
            let state = if *on { "On" } else { "Off" };
            format!(
                "{{'uuid': '{name}', 'name': '{name}', 'power_state': '{state}', \
                 'external_notifier': {tells}, 'nics': []}},"
            )
        });
        let config = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '{address}'\nSUSHY_EMULATOR_LISTEN_PORT = {PORT}\n\
             SUSHY_EMULATOR_SSL_CERT = '{certificate}'\nSUSHY_EMULATOR_SSL_KEY = '{key}'\n\
             SUSHY_EMULATOR_AUTH_FILE = '{}'\nSUSHY_EMULATOR_STATE_DIR = '{}'\n\
             EXTERNAL_NOTIFICATION_URL = 'http://{}:{}'\n\
             SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_FAKE_SYSTEMS = [{}]\n",
            users.display(),
            dir.display(),
            TOLD.0,
            TOLD.1,
            each.collect::<String>()
        );
        let config = rack.write("redfish/redfish.conf", &config)?;
        let [python, config] = [&python, &config].map(|p| p.to_string_lossy());
        let brisk = if hosts.is_empty() { "" } else { BRISK };
        let program = format!("{brisk}from sushy_tools.emulator.main import main; main()");
        let process = rack.spawn("redfish", &[&python, "-c", &program, "--config", &config])?;
        let namespace = rack.namespace().to_owned();
        wait_until("the Redfish service", Duration::from_secs(20), || {
            let listening = run::stdout(&["ip", "netns", "exec", &namespace, "ss", "-Hltn"])?;
            Ok(listening.contains(&format!("{address}:{PORT}")))
        })?;
        Ok(Self { process, address: address.to_owned(), deeds, _worker: worker })
    }

    /// What was really switched so far: when, which host, and whether on.
    pub fn deeds(&self) -> Vec<(Stamp, String, bool)> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A fence device for `system`, or for whichever the agent takes, as it is written in vipd's
    /// file; `password` is a file.
    pub fn device(&self, system: Option<&str>, password: &str) -> String {
        let uri = |s: &str| format!(", systems-uri = \"/redfish/v1/Systems/{s}\"");
        format!(
            "{{ agent = \"fence_redfish\", ip = \"{}\", ipport = {PORT}, ssl-insecure = true, \
             username = \"{}\", password-file = \"{password}\"{} }}",
            self.address,
            USER.0,
            system.map(uri).unwrap_or_default()
        )
    }
}

/// Switches hosts as the emulator tells, before it is answered.
fn listen(rack: &Host, hosts: &[Host], deeds: &Deeds) -> Result<Worker> {
    let listener = run_in(rack.namespace(), || {
        TcpListener::bind(TOLD).map_err(Error::io(format!("bind port {}", TOLD.1)))
    })?;
    let (hosts, deeds) = (hosts.to_vec(), Arc::clone(deeds));
    Worker::start("redfish", move |stop: Stop| {
        while let Some([ready]) = stop.wait([listener.as_fd()], None) {
            let Some(Ok((stream, _))) = ready.then(|| listener.accept()) else { continue };
            // One that says nothing that makes sense is told so by the silence.
            let _ = obey(stream, &hosts, &deeds);
        }
    })
}

/// One request: a system as it is now.
fn obey(mut stream: TcpStream, hosts: &[Host], deeds: &Deeds) -> Result {
    let failed = || Error::io("hear of a Redfish system");
    stream.set_read_timeout(Some(Duration::from_secs(1))).map_err(failed())?;
    let mut reader = BufReader::new(&stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).map_err(failed())? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(failed())?;
    let system: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let on = system["power_state"] == "On";
    if let Some(host) = hosts.iter().find(|host| system["name"] == host.name())
        && host.has_power() != on
    {
        let at = if on { host.power_on()? } else { host.power_loss()? };
        let mut deeds = deeds.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.push((at, host.name().to_owned(), on));
    }
    let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    stream.write_all(answer).map_err(failed())
}

/// The Python of an environment below `target/` that has the emulator; made where there is none.
fn environment() -> Result<PathBuf> {
    let here = std::env::current_exe().map_err(Error::io("find this program"))?;
    let target = here.ancestors().find(|dir| dir.ends_with("target"));
    let dir = target.unwrap_or(Path::new("/tmp")).join("sushy");
    let python = dir.join("bin/python");
    if !dir.join("bin/sushy-emulator").exists() {
        let [dir, pip] = [&dir, &dir.join("bin/pip")].map(|p| p.to_string_lossy().into_owned());
        let mut install = vec![pip.as_str(), "install", "--quiet"];
        install.extend(PACKAGES);
        for argv in [vec!["python3", "-m", "venv", &dir], install] {
            let output = run::output(&argv, "", PATIENCE)?;
            if !output.status.success() {
                return Err(Error::Command {
                    command: argv.join(" "),
                    status: output.status.to_string(),
                    output: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
        }
    }
    Ok(python)
}
