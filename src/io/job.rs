//! What systemd is about to do with the unit of this very process.

use std::time::Duration;

use zbus::OwnedObjectPath;
use zbus::proxy::CacheProperties;

/// How long systemd may take to answer: a restart that is not known in time is a stop.
const PATIENCE: Duration = Duration::from_millis(300);
/// What a service of systemd has in its environment.
const OF_SYSTEMD: &str = "INVOCATION_ID";
/// systemd's word for a stop that is followed by a start: of `restart`, and of `try-restart` once
/// it is known that the unit runs.
const RESTART: &str = "restart";

/// Whether systemd stops this process only to start it again at once. It does not where there is
/// no systemd, or where it does not answer in time.
pub async fn is_restart() -> bool {
    if std::env::var_os(OF_SYSTEMD).is_none() {
        return false;
    }
    match tokio::time::timeout(PATIENCE, current()).await {
        Ok(Ok(job)) => job.as_deref() == Some(RESTART),
        Ok(Err(error)) => {
            tracing::warn!("whether this is a restart cannot be told: {error}");
            false
        }
        Err(_) => {
            tracing::warn!("whether this is a restart cannot be told: no answer from systemd");
            false
        }
    }
}

/// The job that the unit of this process has, if any.
async fn current() -> zbus::Result<Option<String>> {
    let connection = zbus::Connection::system().await?;
    let manager =
        ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
    let unit = manager.get_unit_by_pid(std::process::id()).await?;
    let unit = UnitProxy::builder(&connection)
        .path(unit)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    // No job is number 0.
    let (number, path) = unit.job().await?;
    if number == 0 {
        return Ok(None);
    }
    let job = JobProxy::builder(&connection)
        .path(path)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    job.job_type().await.map(Some)
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property)]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Job",
    default_service = "org.freedesktop.systemd1"
)]
trait Job {
    #[zbus(property)]
    fn job_type(&self) -> zbus::Result<String>;
}
