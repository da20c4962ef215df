//! A daemon that is only an API: what it answers is set by the test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vipd::api::server::Server;
use vipd::api::{
    Asked, Backend, Connections, FenceOrder, HookReport, MoveReport, ReloadError, ReloadReport,
    Unavailable, WillReport,
};
use vipd::core::status::{
    AddressState, AddressStatus, Condition, GroupStatus, HookCall, Note, Role, Severity, Status,
};
use vipd::core::will::Topic;
use vipd::io::events::{EventLog, Record, Want};
use vipd::types::{Instant, Priority, Version, VrId};

pub(crate) struct Fake {
    pub(crate) events: EventLog,
    pub(crate) status: Mutex<Result<Status, Unavailable>>,
    pub(crate) reload: Mutex<Result<ReloadReport, ReloadError>>,
    /// How many were carried through.
    pub(crate) reloads: AtomicU32,
    /// How often it was asked for connections.
    pub(crate) asked: AtomicU32,
}

impl Backend for Fake {
    async fn status(&self) -> Result<Status, Unavailable> {
        self.status.lock().unwrap().clone()
    }

    async fn hand_over(&self, group: String, to: String) -> Result<MoveReport, ReloadError> {
        match to.as_str() {
            "hap2" => Ok(MoveReport { group, from: "hap1".into(), to, gap_us: Some(2_140) }),
            _ => Err(ReloadError::Refused(format!("no node {to:?}; the file has hap1, hap2"))),
        }
    }

    async fn connections(
        &self,
        group: String,
        before: Option<Instant>,
    ) -> Result<Connections, ReloadError> {
        if group != "postgres" {
            return Err(ReloadError::Refused(format!("nothing is known of {group:?}")));
        }
        // One ends between two answers.
        let asked = usize::try_from(self.asked.fetch_add(1, Ordering::Relaxed)).unwrap();
        let older = if before.is_some() { 3_usize.saturating_sub(asked) } else { 3 };
        let now = Instant::from_nanos(1);
        Ok(Connections { group, node: "hap1".into(), now, known: older + 1, older, left_out: 0 })
    }

    async fn fence(&self, node: String, order: FenceOrder) -> Result<(), ReloadError> {
        match (node.as_str(), order) {
            ("hap2", FenceOrder::Off) | ("hap3", FenceOrder::Confirm) => Ok(()),
            _ => Err(ReloadError::Refused(format!("{node}: {order:?} makes no sense"))),
        }
    }

    async fn decide(&self, asked: Asked) -> Result<WillReport, ReloadError> {
        if asked.node.as_deref() == Some("hap9") {
            return Err(ReloadError::Refused("no node \"hap9\"".to_owned()));
        }
        let not_kept = asked.why.as_deref().filter(|why| *why == "disk full");
        Ok(WillReport {
            text: format!("{asked:?}"),
            shared: asked.topic != Topic::Maintenance,
            unheard: vec!["hap3".into()],
            not_kept: not_kept.map(str::to_owned),
        })
    }

    fn fence_history(&self) -> Vec<Record> {
        self.events.page(Want { after: None, limit: 10, group: None }).events
    }

    async fn hook(
        &self,
        name: String,
        group: Option<String>,
        state: String,
    ) -> Result<HookReport, ReloadError> {
        let (failed, output) = match name.as_str() {
            "good" => (None, "all is well\ntwice"),
            "bad" => (Some("exit status 3".to_owned()), "no mail today"),
            _ => return Err(ReloadError::Refused(format!("there is no hook {name}"))),
        };
        let output = output.to_owned();
        let call = HookCall { at: Instant::BOOT, kind: state, group, took_ms: 12, failed, output };
        Ok(HookReport { name, target: "/etc/vipd/notify".into(), call })
    }

    async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.reload.lock().unwrap().clone()
    }

    fn events(&self) -> &EventLog {
        &self.events
    }
}

pub(crate) struct Daemon {
    pub(crate) dir: PathBuf,
    pub(crate) fake: Arc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Within a tokio runtime; `name` is unique among the tests.
    pub(crate) fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vipd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fake = Arc::new(Fake {
            events: EventLog::new("hap1", Timestamp::from_second(1).unwrap()),
            status: Mutex::new(Ok(status())),
            reload: Mutex::new(Ok(ReloadReport::default())),
            reloads: AtomicU32::new(0),
            asked: AtomicU32::new(0),
        });
        let mut daemon = Self { dir, fake, stop: None, server: None };
        daemon.serve();
        daemon
    }

    pub(crate) fn serve(&mut self) {
        let server = Server::bind(&self.socket(), None).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        self.stop = Some(stop);
        self.server = Some(tokio::spawn(server.run(Arc::clone(&self.fake), stopped)));
    }

    /// Waits for the server to end, however long that takes.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        tokio::time::timeout(Duration::from_secs(5), self.server.take().unwrap())
            .await
            .expect("stopping is bounded")
            .unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("vipd.sock")
    }

    pub(crate) fn note(&self, group: &str, kind: &str, text: &str) -> u64 {
        let note = Note {
            at: Instant::BOOT,
            severity: Severity::Info,
            group: Some(group.into()),
            kind: kind.into(),
            text: text.into(),
            about: None,
        };
        self.fake.events.append(Timestamp::UNIX_EPOCH, note)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.dir));
    }
}

pub(crate) fn status() -> Status {
    let now = Instant::from_nanos(1_000_000_000_000);
    let group = |name: &str, role| GroupStatus {
        safety: "vrrp".to_owned(),
        lease: None,
        name: name.into(),
        role,
        since: now,
        why: "first to speak".into(),
        vrid: VrId::new(85).unwrap(),
        version: Version::V3,
        interface: Some("eth0".into()),
        priority: Priority(120),
        effective_priority: Priority(120),
        active: Some("hap1".into()),
        addresses: vec![AddressStatus {
            address: "192.168.34.85/24".into(),
            interface: Some("eth0".into()),
            state: AddressState::Present,
            restored: 0,
        }],
        elections: vec![],
        proxy: None,
        checks: vec![],
        recovering: None,
        standings: Vec::new(),
        outlook: String::new(),
        routing: Vec::new(),
        conditions: vec![],
    };
    Status {
        connections: vec![],
        voting: None,
        gate: None,
        watchdog: None,
        cluster: "lb".into(),
        node: "hap1".into(),
        now,
        started: Instant::BOOT,
        peers: vec![],
        groups: vec![group("postgres", Role::Active), group("web", Role::Active)],
        conditions: vec![Condition {
            name: "never-heard-peer".into(),
            severity: Severity::Warn,
            text: "hap2 was never heard".into(),
            since: now,
        }],
        dropped: vec![],
        hooks: vec![],
        further: vec![],
        fencing: vec![],
        decisions: vec![],
    }
}
