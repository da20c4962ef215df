//! Commands as proxies: real children, started, watched, stopped, killed and reaped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use vipd::config::{Proxy, ProxyKind, Run};
use vipd::core::event::{ProxyEvent, ProxyOrder};
use vipd::io::proxy::Supervisor;

/// Far more than any step takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Proxy {
    command(&["/bin/sh", "-c", script])
}

fn command(argv: &[&str]) -> Proxy {
    Proxy {
        what: ProxyKind::Command {
            argv: argv.iter().map(ToString::to_string).collect(),
            user: None,
        },
        run: Run::Active,
        start_timeout: Duration::from_secs(2),
        stop_timeout: Duration::from_millis(200),
        migration_threshold: 1,
        failure_expiry: Duration::from_mins(1),
        config: None,
    }
}

struct Rig {
    supervisor: Supervisor,
    events: mpsc::Receiver<(u16, ProxyEvent)>,
}

impl Rig {
    fn new() -> Self {
        let (tx, events) = mpsc::channel(16);
        Self { supervisor: Supervisor::new(tx), events }
    }

    fn order(&mut self, proxy: &Proxy, order: ProxyOrder) {
        self.supervisor.order(7, proxy, order);
    }

    /// The next event that is not a notice.
    async fn next(&mut self) -> ProxyEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("an event in time").expect("a supervisor") {
                (7, ProxyEvent::Notice { .. }) => {}
                (group, event) => {
                    assert_eq!(group, 7);
                    return event;
                }
            }
        }
    }

    /// Skips the way up or down to what it leads to.
    async fn outcome(&mut self) -> ProxyEvent {
        loop {
            let event = self.next().await;
            if !matches!(event, ProxyEvent::Starting | ProxyEvent::Stopping) {
                return event;
            }
        }
    }

    async fn up(&mut self, proxy: &Proxy) -> u32 {
        self.order(proxy, ProxyOrder::Start);
        let event = self.outcome().await;
        let ProxyEvent::Running { pid } = event else { panic!("expected Running, got {event:?}") };
        pid
    }
}

fn stopped(how: &str) -> ProxyEvent {
    ProxyEvent::Stopped { how: how.into() }
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn until(what: &str, mut test: impl FnMut() -> bool) {
    let waiting = async {
        while !test() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A directory that any user may write to, gone with its handle.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("vipd-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("it is ours");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_command_is_started_watched_stopped_and_reaped() {
    let mut rig = Rig::new();
    let proxy = command(&["/bin/sleep", "1000"]);
    rig.order(&proxy, ProxyOrder::Watch);
    assert_eq!(rig.next().await, stopped("not started"));

    rig.order(&proxy, ProxyOrder::Start);
    assert_eq!(rig.next().await, ProxyEvent::Starting);
    let ProxyEvent::Running { pid } = rig.next().await else { panic!("it does not run") };
    assert!(alive(pid));
    rig.order(&proxy, ProxyOrder::Start);
    assert_eq!(rig.next().await, ProxyEvent::Running { pid }, "an order is answered again");

    rig.order(&proxy, ProxyOrder::Stop);
    assert_eq!(rig.next().await, ProxyEvent::Stopping);
    assert_eq!(rig.next().await, stopped("killed by signal 15"));
    assert!(!alive(pid), "not even as a zombie");
    rig.order(&proxy, ProxyOrder::Stop);
    assert_eq!(rig.next().await, stopped("killed by signal 15"));
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_when_its_time_is_up() {
    let mut rig = Rig::new();
    let proxy = shell("trap '' TERM; while :; do sleep 1000; done");
    let pid = rig.up(&proxy).await;
    rig.order(&proxy, ProxyOrder::Stop);
    assert_eq!(rig.next().await, ProxyEvent::Stopping);
    assert_eq!(rig.next().await, stopped("killed by signal 9"));
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why() {
    let mut rig = Rig::new();
    let missing = command(&["/nonexistent/proxy"]);
    rig.order(&missing, ProxyOrder::Start);
    let ProxyEvent::Failed { why } = rig.outcome().await else { panic!("it started") };
    assert_eq!(&*why, "/nonexistent/proxy: No such file or directory (os error 2)");

    let bad = shell("echo 'cannot bind socket' >&2; exit 3");
    rig.order(&bad, ProxyOrder::Start);
    let ProxyEvent::Failed { why } = rig.outcome().await else { panic!("it started") };
    assert_eq!(&*why, "exit status 3: cannot bind socket");
    rig.order(&bad, ProxyOrder::Watch);
    assert_eq!(rig.next().await, stopped("exit status 3"));
}

#[tokio::test]
async fn a_user_that_does_not_exist_is_named() {
    let mut rig = Rig::new();
    let mut proxy = command(&["/bin/sleep", "1000"]);
    let ProxyKind::Command { user, .. } = &mut proxy.what else { unreachable!() };
    *user = Some("no-such-user".into());
    rig.order(&proxy, ProxyOrder::Start);
    let ProxyEvent::Failed { why } = rig.outcome().await else { panic!("it started") };
    assert_eq!(&*why, "there is no user no-such-user");
}

#[tokio::test]
async fn a_death_is_noticed_by_event() {
    let mut rig = Rig::new();
    let pid = rig.up(&command(&["/bin/sleep", "1000"])).await;
    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(rig.next().await, stopped("killed by signal 9"));
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let scratch = Scratch::new("leftover");
    let file = scratch.0.join("pid");
    let mut rig = Rig::new();
    let script = format!("trap '' HUP; sleep 1000 & echo $! > {}; exec sleep 0.3", file.display());
    rig.up(&shell(&script)).await;
    let left: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert!(alive(left));
    assert_eq!(rig.next().await, stopped("exit status 0"));
    until("the rest of the group is gone", || !running(left)).await;
}

/// Runs, and is not merely waiting for somebody else to reap it.
fn running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[tokio::test]
async fn a_stop_supersedes_a_start_and_a_start_a_stop() {
    let mut rig = Rig::new();
    let proxy = command(&["/bin/sleep", "1000"]);
    rig.order(&proxy, ProxyOrder::Start);
    rig.order(&proxy, ProxyOrder::Stop);
    assert!(matches!(rig.outcome().await, ProxyEvent::Stopped { .. }));

    let first = rig.up(&proxy).await;
    rig.order(&proxy, ProxyOrder::Stop);
    assert_eq!(rig.next().await, ProxyEvent::Stopping);
    rig.order(&proxy, ProxyOrder::Start);
    let ProxyEvent::Running { pid } = rig.outcome().await else { panic!("it does not run") };
    assert_ne!(pid, first);
}

#[tokio::test]
async fn another_command_replaces_the_one_before() {
    let mut rig = Rig::new();
    let first = rig.up(&command(&["/bin/sleep", "1000"])).await;
    let second = rig.up(&command(&["/bin/sleep", "1001"])).await;
    assert!(!alive(first) && alive(second));
}

#[tokio::test]
async fn an_unwatched_command_goes_on_in_silence() {
    let mut rig = Rig::new();
    let proxy = command(&["/bin/sleep", "1000"]);
    let pid = rig.up(&proxy).await;
    rig.order(&proxy, ProxyOrder::Unwatch);
    rig.order(&proxy, ProxyOrder::Watch);
    assert_eq!(rig.next().await, ProxyEvent::Running { pid });
}

#[tokio::test]
async fn no_command_outlives_its_supervisor() {
    let mut rig = Rig::new();
    let pid = rig.up(&shell("trap '' TERM; while :; do sleep 1000; done")).await;
    drop(rig);
    until("the command is gone", || !alive(pid)).await;

    let mut rig = Rig::new();
    let pid = rig.up(&command(&["/bin/sleep", "1000"])).await;
    rig.supervisor.shutdown().await;
    assert!(!alive(pid), "a shutdown waits for it");
}

/// A daemon that is killed cannot clean up: the kernel tells the command. This very program is
/// the daemon.
#[tokio::test]
async fn no_command_outlives_a_daemon_that_is_killed() {
    let scratch = Scratch::new("orphan");
    let file = scratch.0.join("pid");
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "daemon_inside"])
        .env("PID_FILE", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the command runs", || file.exists()).await;
    let pid = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(running(pid));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    until("the command is gone", || !running(pid)).await;
}

#[tokio::test]
#[ignore = "the daemon of the test above"]
async fn daemon_inside() {
    let file = PathBuf::from(std::env::var_os("PID_FILE").expect("where to write"));
    let mut rig = Rig::new();
    let pid = rig.up(&command(&["/bin/sleep", "1000"])).await;
    std::fs::write(file.with_extension("part"), pid.to_string()).unwrap();
    std::fs::rename(file.with_extension("part"), &file).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_command_inherits_nothing_that_makes_vipd_special() {
    let scratch = Scratch::new("status");
    let file = scratch.0.join("out");
    let script = format!(
        "exec > {}; cat /proc/self/status /proc/self/limits; env; \
         echo sid $(ps -o sid= -p $$) $$; echo done; exec sleep 1000",
        file.display()
    );
    let mut rig = Rig::new();
    rig.up(&shell(&script)).await;
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    until("it has written everything", || read().ends_with("done\n")).await;
    let text = read();
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name} in {text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("SigBlk:"), "0000000000000000");
    assert_eq!(field("SigIgn:"), "0000000000000000", "Rust's own SIGPIPE is not inherited");
    for name in ["NOTIFY_SOCKET=", "WATCHDOG_USEC=", "LISTEN_FDS="] {
        assert!(!text.contains(name), "{name}");
    }
    assert!(field("Max realtime priority").starts_with("0 0"));
    assert!(field("Max nice priority").starts_with("0 0"));
    let session = field("sid ");
    assert_eq!(session.split(' ').next(), session.split(' ').nth(1), "a session of its own");
    if nix::unistd::Uid::effective().is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let uid = nobody.uid.to_string();
        assert_eq!(field("Uid:"), [&*uid; 4].join(" "));
        assert_eq!(field("CapBnd:"), "0000000000000000");
        assert_eq!(field("Groups:"), nobody.gid.to_string());
        assert!(text.contains("\nUSER=nobody\n"));
    }
}
