//! What a group is made from, and how it takes other settings while it runs.

use std::net::IpAddr;
use std::time::Duration;

use crate::config;
use crate::types::{Family, IfIndex, Instant, Priority, Version};
use crate::wire::vrrp::{Template, max_addresses};

use super::super::election::Election;
use super::super::event::{Action, AddressSpec, ProxyOrder};
use super::super::status::Severity;
use super::super::{Out, why};
use super::Group;

/// What an advert may fill: it is never fragmented on an Ethernet.
const MTU: u32 = 1500;

/// What a group is made from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: config::Group,
    /// Its checks.
    pub(crate) checks: Vec<config::Check>,
    pub(crate) priority: Priority,
    /// The other nodes by the source of their adverts, with the priorities that the file gives them
    /// where checks cost points: only then what they advertise says two things.
    pub(crate) rivals: Vec<(IpAddr, Option<Priority>)>,
    pub(crate) password: Option<[u8; 8]>,
    /// The other nodes and routers.
    pub(crate) destinations: Vec<IpAddr>,
    /// This node's place in the file.
    pub(crate) rank: u32,
}

impl Group {
    /// Takes other settings: at once where that disturbs nobody, by a graceful stop and a new
    /// start where the wire changes. Says what changed, in words.
    pub(crate) fn configure(
        &mut self,
        now: Instant,
        settings: Settings,
        out: &mut Out<'_>,
    ) -> Vec<String> {
        let changes = why::changes(self, &settings);
        self.rivals.clone_from(&settings.rivals);
        if changes.is_empty() {
            return changes;
        }
        let old = &self.config;
        let new = &settings.config;
        let hard = old.vrid != new.vrid
            || old.version != new.version
            || old.interface != new.interface
            || old.transport != new.transport
            || old.safety != new.safety
            || self.password != settings.password
            || !old.families().eq(new.families())
            || old.proxy != new.proxy;
        if hard || self.stopping {
            self.replacement = Some(Box::new(settings));
            self.stop(now, "restarting with a new configuration", out);
            self.shut_for_lease(out);
            return changes;
        }
        let Settings { config, checks, priority, destinations, .. } = settings;
        self.health.configure(now, &checks);
        self.recovery_delay = recovery_delay(&config, &checks);
        self.config = config;
        self.priority = priority;
        self.destinations = destinations;
        for ix in 0..self.elections.len() {
            let family = self.elections[ix].family;
            let (addresses, template) = template(&self.config, self.password, family);
            self.elections[ix].addresses = addresses;
            self.elections[ix].template = template;
            self.elections[ix].interval = self.config.interval;
            self.elections[ix].set_checksum(self.config.checksum);
        }
        if self.is_active() {
            let own = self.effective_priority();
            for ix in 0..self.elections.len() {
                self.elections[ix].arm_advert(now);
                let family = self.elections[ix].family;
                self.send(family, own, out);
            }
        }
        self.note(now, Severity::Info, "reconfigured", changes.join("; "), out);
        changes
    }

    pub(super) fn replace(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(settings) = self.replacement.take() else { return };
        if let Some(proxy) = &self.proxy
            && settings.config.proxy.as_ref() != Some(&proxy.config)
        {
            out.push(Action::Proxy(self.id, ProxyOrder::Unwatch));
        }
        let past = self.proxy.as_ref().and_then(|care| care.past(now, &self.config.name));
        *self = Self::new(now, self.id, *settings, None);
        if let (Some(proxy), Some(past)) = (&mut self.proxy, past) {
            proxy.recall(now, &past);
        }
        if self.proxy.is_some() {
            out.push(Action::Proxy(self.id, ProxyOrder::Watch));
        }
    }
}

/// How long a host must be better before that counts: by default twice what its slowest check takes
/// to notice, as the same cause may end a little later elsewhere.
pub(super) fn recovery_delay(config: &config::Group, checks: &[config::Check]) -> Duration {
    let counts = checks.iter().filter(|c| c.effect != config::Effect::Warn);
    let notice = counts.map(|c| (c.interval + c.timeout) * c.rise).max().unwrap_or_default();
    config.recovery_delay.unwrap_or(2 * notice)
}

/// The virtual router of one family.
pub(super) fn election(
    config: &config::Group,
    password: Option<[u8; 8]>,
    family: Family,
) -> Election {
    let (addresses, template) = template(config, password, family);
    Election::new(family, config.version, config.interval, config.checksum, addresses, template)
}

/// What the adverts of a family carry, and their bytes.
fn template(
    config: &config::Group,
    password: Option<[u8; 8]>,
    family: Family,
) -> (Vec<IpAddr>, Template) {
    let addresses: Vec<_> = config
        .addresses
        .iter()
        .filter(|a| a.advertise && Family::of(a.ip) == family)
        .map(|a| a.ip)
        .take(usize::from(max_addresses(family, MTU)))
        .collect();
    let password = password.filter(|_| config.version == Version::V2);
    let template =
        Template::new(config.version, config.vrid, config.interval, &addresses, password).expect(
            "the configuration gives each family of a group an advertised address and fit timing",
        );
    (addresses, template)
}

/// What to add to the kernel for an address of the configuration.
pub(crate) fn spec(address: &config::Address, index: IfIndex) -> AddressSpec {
    AddressSpec {
        index,
        ip: address.ip,
        prefix: address.prefix,
        label: address.label.as_deref().map(Into::into),
        preferred: address.preferred,
    }
}
