//! What the gate is not on, has no virtual addresses: a rule of the packet filter that needs no
//! daemon.
//!
//! An interface that is made while the daemon is dead, or that has been up for a moment before
//! the daemon hears of it, has no gate, and the host would answer there for addresses that it has
//! on another. The rule knows the numbers of the interfaces that are gated, which no later one
//! gets, and drops what comes in for a virtual address, or goes out from one, anywhere else.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::error::GateError;
use super::netlink::{Asker, Bytes};
use crate::types::IfIndex;

// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = NEW_TABLE + 1;
const DEL_TABLE: u16 = NEW_TABLE + 2;
const NEW_CHAIN: u16 = NEW_TABLE + 3;
const NEW_RULE: u16 = NEW_TABLE + 6;
const NEW_SET: u16 = NEW_TABLE + 9;
const NEW_ELEMENTS: u16 = NEW_TABLE + 12;
const INET: u8 = 1;
const ARP: u8 = 3;
const LIST_ELEMENT: u16 = 1;
/// `NLM_F_APPEND`: a rule goes behind those there are.
const APPEND: u16 = 0x800;

/// Before all that others have: `raw` is at -300.
const PRIORITY: i32 = -450;
/// So many elements fit into one attribute, whose length has 16 bits.
const ELEMENTS: usize = 1000;
/// Of meta expressions: the number of the interface a packet came from, and goes to.
const META_IN: u32 = 4;
const META_OUT: u32 = 5;
const META_FAMILY: u32 = 15;
/// The first register, and the one for verdicts.
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const LOOKUP_NOT_IN: u32 = 1;

/// The kinds of elements, as nft(8) shows them, and their length.
const IPV4: (u32, u32) = (7, 4);
const IPV6: (u32, u32) = (8, 16);
const INTERFACE: (u32, u32) = (20, 4);

/// A rule of the packet filter, in tables of its own. Calls wait for the kernel.
#[derive(Debug)]
pub struct Deny {
    asker: Asker,
    table: String,
}

impl Deny {
    /// The rule of the name `name`, `vipd` or something that begins so: one for each daemon in a
    /// network. Does nothing yet, and leaves what an earlier daemon has set.
    ///
    /// # Errors
    /// The kernel has no nftables, or this process may not use it.
    pub fn open(name: &str) -> Result<Self, GateError> {
        let asker = Asker::open(NETLINK_NETFILTER);
        let asker = asker.map_err(|e| failed("open a netlink socket of nftables", e))?;
        Ok(Self { asker, table: name.to_owned() })
    }

    /// From now on `addresses` are dropped everywhere but on `gated`: where the gate is known to
    /// be. Replaces what was set before, at one moment.
    ///
    /// # Errors
    /// The kernel does not, and then what was set before holds.
    pub fn set(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
        gated: &BTreeSet<IfIndex>,
    ) -> Result<(), GateError> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address.octets().to_vec()),
                IpAddr::V6(address) => v6.push(address.octets().to_vec()),
            }
        }
        let interfaces: Vec<_> = gated.iter().map(|index| index.0.to_ne_bytes().to_vec()).collect();
        let mut all = self.emptied();
        let inet = Table { name: &self.table, family: INET };
        inet.set(&mut all, "v4", IPV4, &v4);
        inet.set(&mut all, "v6", IPV6, &v6);
        inet.set(&mut all, "gated", INTERFACE, &interfaces);
        for (chain, hook, meta, at4, at6) in
            [("in", 0, META_IN, 16, 24), ("out", 3, META_OUT, 12, 8)]
        {
            inet.chain(&mut all, chain, hook);
            for (of, set, at, length) in [(2, "v4", at4, 4), (10, "v6", at6, 16)] {
                let family = [meta_of(META_FAMILY), equal(&[of])];
                inet.rule(&mut all, chain, &family, (set, at, length), meta);
            }
        }
        let arp = Table { name: &self.table, family: ARP };
        arp.set(&mut all, "v4", IPV4, &v4);
        arp.set(&mut all, "gated", INTERFACE, &interfaces);
        // The target's address on the way in, the sender's on the way out.
        for (chain, hook, meta, at) in [("in", 0, META_IN, 24), ("out", 1, META_OUT, 14)] {
            arp.chain(&mut all, chain, hook);
            arp.rule(&mut all, chain, &[], ("v4", at, 4), meta);
        }
        self.ask(&all).map_err(|e| failed("set the packet filter's rule", e))
    }

    /// Whether the rule is there: anybody who may change the packet filter can delete it.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn is_there(&mut self) -> Result<bool, GateError> {
        for family in [INET, ARP] {
            let question = header(family).text(1, &self.table);
            match self.asker.ask(GET_TABLE, 0, &question.0) {
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
                Err(e) => return Err(failed("ask for the packet filter's rule", e)),
                Ok(()) => {}
            }
        }
        Ok(true)
    }

    /// Takes the rule away.
    ///
    /// # Errors
    /// It is still there.
    pub fn remove(&mut self) -> Result<(), GateError> {
        let mut all = self.emptied();
        for family in [INET, ARP] {
            all.push((DEL_TABLE, 0, header(family).text(1, &self.table)));
        }
        self.ask(&all).map_err(|e| failed("remove the packet filter's rule", e))
    }

    /// Both tables, with nothing in them. One that is not there cannot be deleted.
    fn emptied(&self) -> Vec<Request> {
        let mut all = Vec::new();
        for family in [INET, ARP] {
            let table = header(family).text(1, &self.table);
            all.push((NEW_TABLE, NLM_F_CREATE, table.clone()));
            all.push((DEL_TABLE, 0, table.clone()));
            all.push((NEW_TABLE, NLM_F_CREATE, table));
        }
        all
    }

    fn ask(&mut self, all: &[Request]) -> io::Result<()> {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        let around = [0, 0, high, low];
        self.asker.batch((BATCH_BEGIN, &around), all, (BATCH_END, &around))
    }
}

type Request = (u16, u16, Bytes);

fn failed(doing: &str, source: io::Error) -> GateError {
    match source.raw_os_error() {
        Some(libc::EPERM) => GateError::of(doing, source),
        _ => GateError::Kernel { doing: doing.to_owned(), source },
    }
}

/// One table of ours.
struct Table<'a> {
    name: &'a str,
    family: u8,
}

impl Table<'_> {
    /// What every message about something in it begins with.
    fn message(&self) -> Bytes {
        header(self.family).text(1, self.name)
    }

    fn chain(&self, all: &mut Vec<Request>, name: &str, number: u32) {
        let priority = PRIORITY.cast_unsigned();
        let hook = big(Bytes::default(), 1, number);
        let message = self.message().text(3, name).nest(4, &big(hook, 2, priority));
        all.push((NEW_CHAIN, NLM_F_CREATE, message.text(7, "filter")));
    }

    fn set(&self, all: &mut Vec<Request>, name: &str, kind: (u32, u32), elements: &[Vec<u8>]) {
        let number = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let (kind, length) = kind;
        let mut message = self.message().text(2, name);
        for (attribute, value) in [(3, 0), (4, kind), (5, length), (10, number)] {
            message = big(message, attribute, value);
        }
        all.push((NEW_SET, NLM_F_CREATE, message));
        for some in elements.chunks(ELEMENTS) {
            let mut list = Bytes::default();
            for element in some {
                let key = Bytes::default().with(1, element);
                list = list.nest(LIST_ELEMENT, &Bytes::default().nest(1, &key));
            }
            let message = self.message().text(2, name).nest(3, &list);
            all.push((NEW_ELEMENTS, NLM_F_CREATE, message));
        }
    }

    /// What `first` says, an address in a set and an interface that is not gated: drop.
    fn rule(
        &self,
        all: &mut Vec<Request>,
        chain: &str,
        first: &[Bytes],
        (set, at, length): (&str, u32, u32),
        meta: u32,
    ) {
        let mut list = Bytes::default();
        for expression in first {
            list = list.nest(LIST_ELEMENT, expression);
        }
        let behind = [
            payload(at, length),
            lookup(set, 0),
            meta_of(meta),
            lookup("gated", LOOKUP_NOT_IN),
            expression("counter", &Bytes::default()),
            drop_it(),
        ];
        for expression in &behind {
            list = list.nest(LIST_ELEMENT, expression);
        }
        all.push((NEW_RULE, NLM_F_CREATE | APPEND, self.message().text(2, chain).nest(4, &list)));
    }
}

/// `struct nfgenmsg`.
fn header(family: u8) -> Bytes {
    Bytes(vec![family, 0, 0, 0])
}

/// A number in the byte order of the network.
fn big(bytes: Bytes, kind: u16, value: u32) -> Bytes {
    bytes.with(kind, &value.to_be_bytes())
}

fn expression(name: &str, data: &Bytes) -> Bytes {
    Bytes::default().text(1, name).nest(2, data)
}

fn meta_of(key: u32) -> Bytes {
    expression("meta", &big(big(Bytes::default(), 1, REGISTER), 2, key))
}

fn equal(value: &[u8]) -> Bytes {
    let data = big(big(Bytes::default(), 1, REGISTER), 2, 0);
    expression("cmp", &data.nest(3, &Bytes::default().with(1, value)))
}

fn payload(at: u32, length: u32) -> Bytes {
    let mut data = big(Bytes::default(), 1, REGISTER);
    for (kind, value) in [(2, NETWORK_HEADER), (3, at), (4, length)] {
        data = big(data, kind, value);
    }
    expression("payload", &data)
}

fn lookup(set: &str, flags: u32) -> Bytes {
    let data = big(Bytes::default().text(1, set), 2, REGISTER);
    expression("lookup", &big(data, 5, flags))
}

fn drop_it() -> Bytes {
    let verdict = big(Bytes::default(), 1, libc::NF_DROP.cast_unsigned());
    let data = big(Bytes::default(), 1, VERDICT);
    expression("immediate", &data.nest(2, &Bytes::default().nest(2, &verdict)))
}
