//! A network of its own for each test, and programs that do not outlive it.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vipd::config::Probe;
use vipd::io::check::Prober;

use super::namespace;

/// Far more than any peer takes to do anything; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an answer over loopback is given on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// What one that never comes is given.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// Runs a test in a fresh network.
pub(crate) fn inside<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    namespace::enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test());
}

/// One look, with time enough.
pub(crate) async fn look(what: &Probe) -> Result<String, String> {
    Prober::new(what).look(SOON).await
}

/// One look at something that does not answer.
pub(crate) async fn look_shortly(what: &Probe) -> Result<String, String> {
    Prober::new(what).look(SHORT).await
}

/// Looks until it sees `expected`, as people would.
pub(crate) async fn until(what: &Probe, expected: &Result<&str, &str>) {
    let mut seen = None;
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let now = look(what).await;
            if now.as_deref().map_err(String::as_str) == expected.as_deref().map_err(|e| *e) {
                return;
            }
            seen = Some(now);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let found = found.await.is_ok();
    assert!(found, "{what:?}: {seen:?}, not {expected:?}");
}

/// A directory that everybody may read and that is gone afterwards.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let dir = std::env::temp_dir().join(format!("vipd-check-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        mode(&dir, 0o755);
        Self(dir)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        mode(&path, 0o644);
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A program that ends with the test, and everything it started with it.
pub(crate) struct Peer(Child);

impl Peer {
    /// Runs it as whoever runs the test.
    pub(crate) fn run(argv: &[&str]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        if std::env::var_os("VIPD_LOUD").is_none() {
            command.stderr(Stdio::null());
        }
        Self(command.spawn().unwrap_or_else(|e| panic!("{}: {e}", argv[0])))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Signals it and all that it started.
    pub(crate) fn signal(&self, signal: Signal) {
        let group = -i32::try_from(self.0.id()).unwrap();
        kill(Pid::from_raw(group), signal).unwrap();
    }

    pub(crate) fn end(mut self, signal: Signal) {
        self.signal(signal);
        let _ = self.0.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let group = -i32::try_from(self.0.id()).unwrap();
        let _ = kill(Pid::from_raw(group), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
