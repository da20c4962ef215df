//! Units as proxies, with a real systemd: started, watched, stopped, killed, and found wanting.
//!
//! Needs root, `debootstrap` and `systemd-nspawn`; the first run makes the hosts' file system.

use std::time::Duration;

use netns_tests::nspawn::Host;
use tokio::sync::mpsc;
use vipd::config::{Proxy, ProxyKind, Run};
use vipd::core::event::{ProxyEvent, ProxyOrder};
use vipd::io::proxy::{Bus, Supervisor};

/// Far more than any step takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

const GOOD: (&str, &str) = ("good.service", "Type=exec\nExecStart=/bin/sleep infinity");

fn proxy(unit: &str) -> Proxy {
    Proxy {
        what: ProxyKind::Unit(unit.into()),
        run: Run::Active,
        start_timeout: Duration::from_secs(5),
        stop_timeout: Duration::from_secs(5),
        migration_threshold: 1,
        failure_expiry: Duration::from_mins(1),
        config: None,
    }
}

/// A host with the units, and a supervisor that manages them.
struct Rig {
    host: Host,
    supervisor: Supervisor,
    events: mpsc::Receiver<(u16, ProxyEvent)>,
    notices: Vec<String>,
}

impl Rig {
    fn new(name: &str, units: &[(&str, &str)]) -> Self {
        let host = Host::boot(name, None).unwrap_or_else(|e| panic!("{e}"));
        for (unit, service) in units {
            let text = format!("[Service]\n{service}\n[Install]\nWantedBy=multi-user.target\n");
            host.write(&format!("/etc/systemd/system/{unit}"), text.as_bytes(), 0o644)
                .unwrap_or_else(|e| panic!("{e}"));
        }
        host.sh("systemctl daemon-reload");
        let (tx, events) = mpsc::channel(16);
        let supervisor = Supervisor::with_bus(tx, Bus::Address(host.bus_address()));
        Self { host, supervisor, events, notices: Vec::new() }
    }

    fn order(&mut self, proxy: &Proxy, order: ProxyOrder) {
        self.supervisor.order(1, proxy, order);
    }

    async fn next(&mut self) -> ProxyEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("an event in time").expect("a supervisor") {
                (_, ProxyEvent::Notice { text }) => self.notices.push(text.into()),
                (_, event) => return event,
            }
        }
    }

    /// The next event that is not one of the way up or down.
    async fn outcome(&mut self) -> ProxyEvent {
        self.next_but(|e| matches!(e, ProxyEvent::Starting | ProxyEvent::Stopping)).await
    }

    /// The next event that says something.
    async fn known(&mut self) -> ProxyEvent {
        self.next_but(|e| matches!(e, ProxyEvent::Unknown { .. })).await
    }

    async fn next_but(&mut self, skipped: impl Fn(&ProxyEvent) -> bool) -> ProxyEvent {
        loop {
            let event = self.next().await;
            if !skipped(&event) {
                return event;
            }
        }
    }

    async fn up(&mut self, proxy: &Proxy) -> u32 {
        self.order(proxy, ProxyOrder::Start);
        running(&self.outcome().await)
    }

    fn main_pid(&self, unit: &str) -> String {
        self.host.sh(&format!("systemctl show -P MainPID {unit}"))
    }
}

fn running(event: &ProxyEvent) -> u32 {
    let ProxyEvent::Running { pid } = event else { panic!("expected Running, got {event:?}") };
    *pid
}

fn stopped(how: &str) -> ProxyEvent {
    ProxyEvent::Stopped { how: how.into() }
}

#[tokio::test]
async fn haproxy_is_started_watched_and_stopped() {
    let mut rig = Rig::new("haproxy", &[]);
    rig.host.sh("systemctl stop haproxy.service");
    let proxy = proxy("haproxy.service");
    rig.order(&proxy, ProxyOrder::Watch);
    assert_eq!(rig.next().await, stopped("inactive"));

    let pid = rig.up(&proxy).await;
    assert_eq!(rig.main_pid("haproxy.service"), pid.to_string());
    rig.order(&proxy, ProxyOrder::Start);
    assert_eq!(rig.next().await, ProxyEvent::Running { pid }, "an order is answered again");
    rig.order(&proxy, ProxyOrder::Watch);
    assert_eq!(rig.next().await, ProxyEvent::Running { pid });

    rig.order(&proxy, ProxyOrder::Stop);
    assert!(matches!(rig.outcome().await, ProxyEvent::Stopped { .. }));
    assert_eq!(rig.main_pid("haproxy.service"), "0");

    let wanted = ["haproxy.service is enabled", "haproxy.service has Restart=always"];
    for text in wanted {
        assert!(rig.notices.iter().any(|n| n.starts_with(text)), "{text}: {:?}", rig.notices);
    }
    assert_eq!(rig.notices.len(), wanted.len(), "each is told once: {:?}", rig.notices);
}

#[tokio::test]
async fn what_somebody_else_does_is_told() {
    let mut rig = Rig::new("else", &[GOOD]);
    let proxy = proxy("good.service");
    rig.order(&proxy, ProxyOrder::Watch);
    assert_eq!(rig.next().await, stopped("inactive"));
    rig.host.sh("systemctl start good.service");
    let first = running(&rig.outcome().await);
    rig.host.sh("systemctl restart good.service");
    let event = rig.outcome().await;
    assert!(matches!(event, ProxyEvent::Stopped { .. }), "{event:?}");
    assert_ne!(running(&rig.outcome().await), first);
    rig.host.sh("systemctl kill -s KILL good.service");
    assert_eq!(rig.outcome().await, stopped("killed by signal 9"));
}

#[tokio::test]
async fn a_start_that_comes_to_nothing_says_why() {
    let units = [
        ("absent.service", "Type=exec\nExecStart=/nonexistent"),
        ("three.service", "Type=notify\nExecStart=/bin/sh -c 'exit 3'"),
        ("once.service", "Type=oneshot\nExecStart=/bin/true"),
        ("never.service", "Type=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity"),
    ];
    let mut rig = Rig::new("fail", &units);
    let cases = [
        ("absent.service", "exit status 203"),
        ("three.service", "exit status 3"),
        ("once.service", "it ended at once: not a unit that stays up"),
        ("none.service", "there is no such unit"),
        ("never.service", "not started after 500ms: activating (start)"),
    ];
    for (unit, words) in cases {
        let mut proxy = proxy(unit);
        if unit == "never.service" {
            proxy.start_timeout = Duration::from_millis(500);
        }
        rig.order(&proxy, ProxyOrder::Start);
        assert_eq!(rig.outcome().await, ProxyEvent::Failed { why: words.into() }, "{unit}");
        rig.order(&proxy, ProxyOrder::Stop);
        let event = rig.outcome().await;
        assert!(matches!(event, ProxyEvent::Stopped { .. }), "{unit}: {event:?}");
    }
}

#[tokio::test]
async fn a_unit_that_ignores_sigterm_is_killed_when_its_time_is_up() {
    let script = "ExecStart=/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 1; done'";
    let mut rig = Rig::new("deaf", &[("deaf.service", script)]);
    let mut proxy = proxy("deaf.service");
    proxy.stop_timeout = Duration::from_millis(300);
    rig.up(&proxy).await;
    rig.host.sh("until journalctl -u deaf.service | grep -q up; do sleep 0.05; done");
    rig.order(&proxy, ProxyOrder::Stop);
    assert_eq!(rig.next().await, ProxyEvent::Stopping);
    assert_eq!(rig.next().await, stopped("killed by signal 9"));
}

#[tokio::test]
async fn a_stop_supersedes_a_start_and_a_start_a_stop() {
    let never = ("never.service", "Type=notify\nExecStart=/bin/sleep infinity");
    let mut rig = Rig::new("both", &[never, GOOD]);
    let slow = proxy("never.service");
    rig.order(&slow, ProxyOrder::Start);
    assert_eq!(rig.next().await, ProxyEvent::Starting);
    rig.order(&slow, ProxyOrder::Stop);
    assert!(matches!(rig.outcome().await, ProxyEvent::Stopped { .. }));

    let good = proxy("good.service");
    rig.up(&good).await;
    rig.order(&good, ProxyOrder::Stop);
    rig.order(&good, ProxyOrder::Start);
    running(&rig.outcome().await);
}

#[tokio::test]
async fn a_unit_that_systemd_restarts_is_waited_for() {
    let again = "Type=exec\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=500ms";
    let mut rig = Rig::new("again", &[("again.service", again)]);
    let proxy = proxy("again.service");
    let first = rig.up(&proxy).await;
    rig.host.sh("systemctl kill -s KILL again.service");
    let mut seen = Vec::new();
    loop {
        let event = rig.next().await;
        if event == ProxyEvent::Starting {
            rig.order(&proxy, ProxyOrder::Start);
        }
        seen.push(event);
        if let Some(ProxyEvent::Running { pid }) = seen.last() {
            assert_ne!(*pid, first);
            break;
        }
    }
    assert!(seen.contains(&ProxyEvent::Starting), "{seen:?}");
    assert_eq!(rig.host.sh("systemctl show -P NRestarts again.service"), "1");
}

#[tokio::test]
async fn a_bus_that_goes_away_is_survived() {
    let mut rig = Rig::new("bus", &[GOOD]);
    let proxy = proxy("good.service");
    let pid = rig.up(&proxy).await;
    rig.host.sh("systemctl stop dbus.socket dbus.service");
    let event = rig.next().await;
    assert!(matches!(event, ProxyEvent::Unknown { .. }), "{event:?}");

    let mut hasty = proxy.clone();
    hasty.start_timeout = Duration::from_millis(300);
    rig.order(&hasty, ProxyOrder::Start);
    let event = rig.known().await;
    assert!(matches!(event, ProxyEvent::Failed { .. }), "answered without a bus: {event:?}");

    rig.host.sh("systemctl start dbus.socket dbus.service");
    assert_eq!(rig.known().await, ProxyEvent::Running { pid });
    rig.order(&proxy, ProxyOrder::Stop);
    assert!(matches!(rig.outcome().await, ProxyEvent::Stopped { .. }));
}

#[tokio::test]
async fn a_bus_that_hangs_is_survived() {
    let mut rig = Rig::new("hang", &[GOOD]);
    let proxy = proxy("good.service");
    let pid = rig.up(&proxy).await;
    rig.host.sh("systemctl kill -s STOP dbus.service");
    let mut hasty = proxy.clone();
    hasty.stop_timeout = Duration::from_millis(300);
    rig.order(&hasty, ProxyOrder::Stop);
    let answer = rig.next_but(|e| !matches!(e, ProxyEvent::Stuck { .. }));
    let limit = hasty.stop_timeout + 2 * vipd::io::proxy::GRACE + Duration::from_millis(200);
    tokio::time::timeout(limit, answer).await.expect("an answer within its limit");
    rig.host.sh("kill -CONT $(pidof dbus-daemon)");
    // Whether the stop got through before the answer is systemd's secret; now it can be told.
    rig.order(&proxy, ProxyOrder::Watch);
    let told = rig.next_but(|e| matches!(e, ProxyEvent::Unknown { .. } | ProxyEvent::Stopping));
    let event = told.await;
    let consistent =
        matches!(event, ProxyEvent::Stopped { .. }) || event == ProxyEvent::Running { pid };
    assert!(consistent, "{event:?}");
}

/// On the host itself the death is seen on a pidfd, which needs the host's process numbers: so
/// this very program is run in it.
#[test]
fn a_death_is_seen_before_systemd_has_put_the_unit_away() {
    let rig_units = "Type=exec\nExecStart=/bin/sleep infinity\nExecStopPost=/bin/sleep 2";
    let host = Host::boot("pidfd", None).unwrap_or_else(|e| panic!("{e}"));
    let text = format!("[Service]\n{rig_units}\n");
    host.write("/etc/systemd/system/slow-end.service", text.as_bytes(), 0o644)
        .and_then(|()| host.copy_in(&std::env::current_exe().unwrap(), "/usr/local/bin/t", 0o755))
        .unwrap_or_else(|e| panic!("{e}"));
    host.sh("systemctl daemon-reload; /usr/local/bin/t --ignored --exact death_inside 1>&2");
}

#[tokio::test]
#[ignore = "runs inside a host, see the test above"]
async fn death_inside() {
    let (tx, mut events) = mpsc::channel(16);
    let mut supervisor = Supervisor::new(tx);
    supervisor.order(1, &proxy("slow-end.service"), ProxyOrder::Start);
    let mut next = async || {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await;
        event.expect("an event in time").expect("a supervisor").1
    };
    let pid = loop {
        let event = next().await;
        if event != ProxyEvent::Starting {
            break running(&event);
        }
    };
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    // The unit is in its stop-post phase for two seconds from now on.
    let event = tokio::time::timeout(Duration::from_millis(500), next()).await;
    assert_eq!(event.expect("at once"), stopped("killed by signal 9"));
}
