//! One connection to systemd over D-Bus, and what it may say against a request.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use zbus::proxy::{CacheProperties, OwnerChangedStream};
use zbus::{OwnedObjectPath, OwnedVariant};

use super::super::{GRACE, words};
use super::snapshot::{Snapshot, text};

/// Where systemd is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// The system bus of this host.
    #[default]
    System,
    /// Another bus, as a D-Bus address. Its process numbers mean nothing here: deaths are then
    /// learned from the bus alone.
    Address(String),
}

/// One connection to systemd, with everything subscribed that one unit needs.
pub(super) struct Session {
    pub(super) manager: ManagerProxy<'static>,
    pub(super) properties: PropertiesProxy<'static>,
    pub(super) jobs: JobRemovedStream,
    pub(super) changes: PropertiesChangedStream,
    pub(super) owner: OwnerChangedStream<'static>,
}

impl Session {
    pub(super) async fn open(bus: Bus, name: String) -> Result<Self, Box<str>> {
        Self::try_open(bus, &name).await.map_err(|e| lost(&e))
    }

    async fn try_open(bus: Bus, name: &str) -> zbus::Result<Self> {
        let builder = match bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = builder.method_timeout(GRACE).build().await?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let owner = manager.inner().receive_owner_changed().await?;
        manager.subscribe().await?;
        let path = manager.load_unit(name).await?;
        let properties = PropertiesProxy::builder(&connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let changes = properties.receive_properties_changed().await?;
        // Jobs are announced under the unit's own name, of which `name` may be an alias. Only
        // ours: a full queue would hold up the replies, too.
        let id = text(&properties.get_all("").await?, "Id");
        let jobs = manager.receive_job_removed_with_args(&[(2, id.as_str())]).await?;
        Ok(Self { manager, properties, jobs, changes, owner })
    }

    pub(super) async fn read(&self) -> Result<Snapshot, Box<str>> {
        Ok(Snapshot::of(&self.properties.get_all("").await.map_err(|e| lost(&e))?))
    }

    /// Reads until systemd, too, knows that process `pid` ended.
    pub(super) async fn read_after(&mut self, pid: u32) -> Result<Snapshot, Box<str>> {
        loop {
            let now = self.read().await?;
            if now.running() != Some(pid) {
                return Ok(now);
            }
            self.changes.next().await.ok_or("the connection to D-Bus is gone")?;
        }
    }
}

/// What systemd says against a request; `None` if there was no answer.
pub(super) fn refusal(name: &str, error: &zbus::Error) -> Option<Box<str>> {
    use zbus::fdo::Error as Fdo;
    if let zbus::Error::MethodError(_, text, _) = error {
        return Some(words(text.as_deref().unwrap_or("refused")));
    }
    let zbus::Error::FDO(error) = error else { return None };
    #[allow(clippy::wildcard_enum_match_arm, reason = "whatever else it is, it is an answer")]
    match &**error {
        Fdo::AccessDenied(_) | Fdo::AuthFailed(_) | Fdo::InteractiveAuthorizationRequired(_) => {
            Some(words(format!(
                "not authorised to manage {name}: is vipd's polkit rule installed, and does it \
                 name the unit?"
            )))
        }
        Fdo::NoReply(_)
        | Fdo::Timeout(_)
        | Fdo::TimedOut(_)
        | Fdo::Disconnected(_)
        | Fdo::ServiceUnknown(_)
        | Fdo::NameHasNoOwner(_) => None,
        answer => Some(words(answer.to_string())),
    }
}

pub(super) fn lost(error: &zbus::Error) -> Box<str> {
    words(format!("no systemd on D-Bus: {error}"))
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: zbus::ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// An empty interface name, which `zbus::fdo` does not allow, makes systemd give the properties
/// of all interfaces as they are at one moment.
#[zbus::proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1"
)]
pub(super) trait Properties {
    fn get_all(&self, interface: &str) -> zbus::Result<BTreeMap<String, OwnedVariant>>;
    #[zbus(signal)]
    fn properties_changed(&self) -> zbus::Result<()>;
}
