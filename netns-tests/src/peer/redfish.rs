//! A Redfish service: the emulator of `sushy-tools` with systems that it only imagines, which take
//! their time to switch as real ones do. It cuts no host's power.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::wait_until;
use crate::host::Host;
use crate::process::Proc;
use crate::{Error, Result, run};

/// The user and its password.
pub const USER: (&str, &str) = ("admin", "s3cret-word");

/// What is installed, exactly.
const PACKAGES: [&str; 2] = ["sushy-tools==2.2.0", "bcrypt"];
/// How long it may take to fetch that.
const PATIENCE: Duration = Duration::from_mins(5);
const PORT: u16 = 8443;

/// A Redfish service.
#[derive(Debug)]
pub struct Redfish {
    /// The emulator.
    pub process: Proc,
    address: String,
}

impl Redfish {
    /// A service on `rack` at `address`, an address of `rack`, with systems that are on or off.
    pub fn start(rack: &Host, address: &str, systems: &[(&str, bool)]) -> Result<Self> {
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
        let each = systems.iter().map(|(name, on)| {
            let state = if *on { "On" } else { "Off" };
            format!(
                "{{'uuid': '{name}', 'name': '{name}', 'power_state': '{state}', \
                 'external_notifier': False, 'nics': []}},"
            )
        });
        let config = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '{address}'\nSUSHY_EMULATOR_LISTEN_PORT = {PORT}\n\
             SUSHY_EMULATOR_SSL_CERT = '{certificate}'\nSUSHY_EMULATOR_SSL_KEY = '{key}'\n\
             SUSHY_EMULATOR_AUTH_FILE = '{}'\nSUSHY_EMULATOR_STATE_DIR = '{}'\n\
             SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_FAKE_SYSTEMS = [{}]\n",
            users.display(),
            dir.display(),
            each.collect::<String>()
        );
        let config = rack.write("redfish/redfish.conf", &config)?;
        let program = python.with_file_name("sushy-emulator");
        let argv = [program.to_string_lossy(), "--config".into(), config.to_string_lossy()];
        let process = rack.spawn("redfish", &argv.each_ref().map(|a| &**a))?;
        let namespace = rack.namespace().to_owned();
        wait_until("the Redfish service", Duration::from_secs(20), || {
            let listening = run::stdout(&["ip", "netns", "exec", &namespace, "ss", "-Hltn"])?;
            Ok(listening.contains(&format!("{address}:{PORT}")))
        })?;
        Ok(Self { process, address: address.to_owned() })
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
