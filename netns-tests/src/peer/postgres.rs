//! PostgreSQL.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::wait_until;
use crate::cluster::said;
use crate::host::Host;
use crate::process::Proc;
use crate::run::{self, DEADLINE};
use crate::{Error, Result};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// It refuses to be root.
const AS_POSTGRES: [&str; 5] =
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"];
/// Where it listens.
pub const PORT: u16 = 5432;

/// A server that everybody may log in to with the right password, until it is dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    /// Its process.
    pub process: Proc,
}

impl Postgres {
    /// Starts one on `host` that listens at `address`.
    pub fn start(host: &Host, address: IpAddr) -> Result<Self> {
        // Whoever it runs as must get there.
        let dir = std::env::temp_dir().join(format!("vipd-pg-{}", host.namespace()));
        std::fs::create_dir_all(&dir).map_err(Error::io("make a directory"))?;
        run_well(&["chown", "postgres:", &dir.display().to_string()])?;
        let data = dir.join("data").display().to_string();
        let init = [&AS_POSTGRES[..], &[&format!("{BIN}/initdb"), "-D", &data, "-A", "trust"]];
        run_well(&[&init.concat()[..], &["--no-sync", "-N"]].concat())?;
        let rules = "local all all trust\nhost all all all scram-sha-256\n";
        std::fs::write(Path::new(&data).join("pg_hba.conf"), rules)
            .map_err(Error::io("write pg_hba.conf"))?;
        let (program, place) = (format!("{BIN}/postgres"), dir.display().to_string());
        let listen = format!("listen_addresses={address}");
        let argv = [&program, "-D", &data, "-k", &place, "-c", "fsync=off", "-c", &listen];
        let process = host.spawn("postgres", &[&AS_POSTGRES[..], &argv].concat())?;
        let server = Self { dir, process };
        wait_until("PostgreSQL", Duration::from_secs(20), || Ok(server.sql("SELECT 1").is_ok()))?;
        Ok(server)
    }

    /// What the server answers its owner, who comes by another way than clients.
    ///
    /// # Errors
    /// Also if it refuses.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let socket = self.dir.display().to_string();
        let argv = ["psql", "-h", &socket, "-d", "postgres", "-XAtqc", statement];
        run_well(&[&AS_POSTGRES[..], &argv].concat())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn run_well(argv: &[&str]) -> Result<String> {
    let output = run::output(argv, "", DEADLINE)?;
    let text = said(&output);
    if output.status.success() {
        Ok(text)
    } else {
        Err(Error::Answer { what: argv.join(" "), text })
    }
}
