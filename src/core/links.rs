//! The kernel's interfaces and addresses as last reported, and the sockets wanted on them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::config::Net;
use crate::types::{Family, IfIndex, Instant};

use super::event::{Failure, KernelAddress, Link, PortSpec};

/// How long to wait before sockets that could not be opened are tried again.
const REOPEN: Duration = Duration::from_secs(1);

/// Interfaces, addresses and ports.
#[derive(Debug, Default)]
pub(crate) struct Links {
    interfaces: BTreeMap<IfIndex, Link>,
    addresses: BTreeMap<(IfIndex, IpAddr), KernelAddress>,
    ports: BTreeMap<IfIndex, Port>,
    resync: Option<Seen>,
}

/// What a resynchronisation has named so far.
#[derive(Debug, Default)]
struct Seen {
    links: Vec<IfIndex>,
    addresses: Vec<(IfIndex, IpAddr)>,
}

/// The sockets on one interface.
#[derive(Debug)]
struct Port {
    /// What is wanted.
    spec: PortSpec,
    opening: Opening,
    /// What is there.
    usable: Option<PortSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Due,
    Asked,
    Done,
    Failed { why: Failure, retry_at: Instant },
}

/// What vanished while nobody looked.
pub(crate) struct Gone {
    pub(crate) links: Vec<IfIndex>,
    pub(crate) addresses: Vec<KernelAddress>,
}

/// Why a group cannot take part in its election.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("no interface carries {0}, this node's address")]
    NoAddress(IpAddr),
    #[error("interface {0} does not exist")]
    NoInterface(String),
    #[error("interface {0} is down or has no carrier")]
    NoCarrier(String),
    #[error("interface {0} has no {1} address of its own to send from")]
    NoSource(String, Family),
    #[error("opening sockets on {0}")]
    Opening(String),
    #[error("sockets on {0}: {1}")]
    Failed(String, Failure),
}

impl NotReady {
    /// The name of the condition.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NoAddress(_) => "no-address",
            Self::NoInterface(_) => "no-interface",
            Self::NoCarrier(_) => "no-carrier",
            Self::NoSource(..) => "no-source",
            Self::Opening(_) => "opening",
            Self::Failed(..) => "port-failed",
        }
    }
}

impl Links {
    pub(crate) fn link(&mut self, link: Link) {
        if let Some(seen) = &mut self.resync {
            seen.links.push(link.index);
        }
        self.interfaces.insert(link.index, link);
    }

    pub(crate) fn link_gone(&mut self, index: IfIndex) -> Vec<KernelAddress> {
        self.interfaces.remove(&index);
        let gone: Vec<_> = self.addresses.values().filter(|a| a.index == index).copied().collect();
        self.addresses.retain(|(i, _), _| *i != index);
        gone
    }

    pub(crate) fn address(&mut self, address: KernelAddress) {
        let key = (address.index, address.ip);
        if let Some(seen) = &mut self.resync {
            seen.addresses.push(key);
        }
        self.addresses.insert(key, address);
    }

    pub(crate) fn address_gone(&mut self, address: KernelAddress) {
        self.addresses.remove(&(address.index, address.ip));
    }

    pub(crate) fn resync_begin(&mut self) {
        self.resync = Some(Seen::default());
    }

    /// Ends a resynchronisation: forgets and returns what it did not name.
    pub(crate) fn resync_end(&mut self) -> Gone {
        let Some(mut seen) = self.resync.take() else {
            return Gone { links: Vec::new(), addresses: Vec::new() };
        };
        seen.links.sort_unstable();
        seen.addresses.sort_unstable();
        let links: Vec<_> = self
            .interfaces
            .keys()
            .filter(|i| seen.links.binary_search(i).is_err())
            .copied()
            .collect();
        let addresses: Vec<_> = self
            .addresses
            .iter()
            .filter(|(key, _)| seen.addresses.binary_search(key).is_err())
            .map(|(_, a)| *a)
            .collect();
        Gone { links, addresses }
    }

    pub(crate) fn get(&self, index: IfIndex) -> Option<&Link> {
        self.interfaces.get(&index)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.interfaces.values().find(|l| &*l.name == name)
    }

    /// The interface that carries `ip`.
    pub(crate) fn carrying(&self, ip: IpAddr) -> Option<&Link> {
        self.addresses.values().find(|a| a.ip == ip).and_then(|a| self.interfaces.get(&a.index))
    }

    /// Every address of every interface.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &KernelAddress> {
        self.addresses.values()
    }

    /// Whether `index` carries `ip`.
    pub(crate) fn has(&self, index: IfIndex, ip: IpAddr) -> bool {
        self.addresses.contains_key(&(index, ip))
    }

    pub(crate) fn is_loopback(&self, index: IfIndex) -> bool {
        self.interfaces.get(&index).is_some_and(|l| &*l.name == "lo")
    }

    /// The addresses of an interface.
    pub(crate) fn on(&self, index: IfIndex) -> impl Iterator<Item = &KernelAddress> {
        let first = (index, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.addresses.range(first..).map(|(_, a)| a).take_while(move |a| a.index == index)
    }

    /// Whether `ip` is on the link of `index`, by the prefix of an address of ours there.
    pub(crate) fn on_link(&self, index: IfIndex, ip: IpAddr) -> bool {
        if let IpAddr::V6(ip) = ip
            && is_link_local(ip)
        {
            return true;
        }
        self.on(index).any(|a| same_network(a.ip, ip, a.prefix))
    }

    /// A source address for adverts of `family`: `own` where the interface carries it, else the
    /// first real address there that `is_virtual` does not name; of IPv6 always a link-local one
    /// unless `own` is given (RFC 9568 §5.1.1.1, §5.1.2.1).
    pub(crate) fn source(
        &self,
        index: IfIndex,
        family: Family,
        own: Option<IpAddr>,
        is_virtual: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        if let Some(own) = own
            && self.addresses.contains_key(&(index, own))
        {
            return Some(own);
        }
        self.on(index)
            .filter(|a| Family::of(a.ip) == family && !a.ours && !is_virtual(a.ip))
            .map(|a| a.ip)
            .find(|ip| match ip {
                IpAddr::V4(_) => true,
                IpAddr::V6(ip) => is_link_local(*ip),
            })
    }

    /// Compares the sockets wanted with those there are; returns what to close and what to open.
    ///
    /// What is open goes on serving until its replacement is: nobody is deaf for a reload.
    pub(crate) fn plan_ports(
        &mut self,
        now: Instant,
        wanted: BTreeMap<IfIndex, PortSpec>,
    ) -> (Vec<IfIndex>, Vec<PortSpec>) {
        let close: Vec<_> =
            self.ports.keys().filter(|i| !wanted.contains_key(i)).copied().collect();
        self.ports.retain(|index, _| wanted.contains_key(index));
        let mut open = Vec::new();
        for (index, spec) in wanted {
            let port = self.ports.entry(index).or_insert_with(|| Port::new(spec.clone()));
            let due = match port.opening {
                Opening::Due => true,
                Opening::Asked | Opening::Done => port.spec != spec,
                Opening::Failed { retry_at, .. } => port.spec != spec || now >= retry_at,
            };
            if due {
                port.spec = spec.clone();
                port.opening = Opening::Asked;
                open.push(spec);
            }
        }
        (close, open)
    }

    /// Records how opening went; `false` if nobody wants that any more.
    pub(crate) fn opened(
        &mut self,
        now: Instant,
        spec: &PortSpec,
        result: Result<(), Failure>,
    ) -> bool {
        let Some(port) = self.ports.get_mut(&spec.index).filter(|p| p.spec == *spec) else {
            return false;
        };
        port.opening = match result {
            Ok(()) => {
                port.usable = Some(spec.clone());
                Opening::Done
            }
            Err(why) => Opening::Failed { why, retry_at: now + REOPEN },
        };
        true
    }

    /// When a port that could not be opened is to be tried again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ports
            .values()
            .filter_map(|p| match p.opening {
                Opening::Failed { retry_at, .. } => Some(retry_at),
                Opening::Due | Opening::Asked | Opening::Done => None,
            })
            .min()
    }

    /// Whether sockets are wanted on `index`.
    pub(crate) fn has_port(&self, index: IfIndex) -> bool {
        self.ports.contains_key(&index)
    }

    /// The sockets on `index` that can be used.
    pub(crate) fn port(&self, index: IfIndex) -> Option<&PortSpec> {
        self.ports.get(&index)?.usable.as_ref()
    }

    /// Why there are none.
    pub(crate) fn port_trouble(&self, index: IfIndex, name: &str) -> NotReady {
        match self.ports.get(&index).map(|p| p.opening) {
            Some(Opening::Failed { why, .. }) => NotReady::Failed(name.to_owned(), why),
            Some(Opening::Due | Opening::Asked | Opening::Done) | None => {
                NotReady::Opening(name.to_owned())
            }
        }
    }
}

impl PortSpec {
    /// Our source address of `family`.
    pub(crate) fn source(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }
}

impl Port {
    fn new(spec: PortSpec) -> Self {
        Self { spec, opening: Opening::Due, usable: None }
    }
}

/// `fe80::/10`.
pub(crate) fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let network = Net::of(a, prefix);
    !network.is_one() && network == Net::of(b, prefix)
}
