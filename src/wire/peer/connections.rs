//! TCP connections to virtual addresses, as a holder tells the other nodes of them.
//!
//! Connections are spread over [`CELLS`] cells by a hash of what they are. A [`Sheet`] says of
//! some neighbouring cells exactly which connections are in them, so it needs no other sheet to be
//! understood: what is lost is made good by the next about the same cells, and a connection that
//! comes or goes costs no more than its cell.
//!
//! ```text
//! sheet   version 8, total 4, first cell 2, last cell 2, then blocks to the end
//! block   family 1 (4 or 6), local address 4 or 16, local port 2, number 2,
//!         then so many times: remote address 4 or 16, remote port 2
//! ```
//!
//! Blocks and what is in them rise, so that what can be said can be said in one way only.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::datagram;

/// Into how many cells connections are spread.
pub const CELLS: u16 = 1024;
/// The most bytes a sheet can have: what one datagram has room for.
pub const MAX_SHEET: usize = datagram::ROOM;

/// Bytes before the first block.
const HEAD: usize = 16;

/// A TCP connection, as seen from the host that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    local: IpAddr,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
}

impl Connection {
    /// Between `local` and `remote`; mapped addresses are those of IPv4. `None` for what is no
    /// connection, and for link-local addresses, which mean nothing without their interface.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        let [ours, theirs] = [local, remote].map(|end| end.ip().to_canonical());
        let is_one = ours.is_ipv4() == theirs.is_ipv4() && local.port() != 0 && remote.port() != 0;
        let is_usable = [ours, theirs].iter().all(|ip| !ip.is_unspecified() && !is_link_local(*ip));
        (is_one && is_usable && !theirs.is_multicast()).then(|| Self {
            local: ours,
            local_port: local.port(),
            remote: theirs,
            remote_port: remote.port(),
        })
    }

    /// The virtual address.
    pub const fn ip(&self) -> IpAddr {
        self.local
    }

    /// This end.
    pub const fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    /// The client.
    pub const fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }

    /// In which cell it is, the same everywhere.
    pub fn cell(&self) -> u16 {
        u16::try_from(self.mark() % u64::from(CELLS)).unwrap_or(0)
    }

    /// A number of its own: FNV-1a, with its high bits in the low ones, too.
    pub(in crate::wire) fn mark(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (ip, port) in [(self.local, self.local_port), (self.remote, self.remote_port)] {
            match ip {
                IpAddr::V4(ip) => eat(&ip.octets()),
                IpAddr::V6(ip) => eat(&ip.octets()),
            }
            eat(&port.to_be_bytes());
        }
        hash ^ hash >> 32 ^ hash >> 16
    }

    /// Bytes of its remote end, and of a block for its local one.
    const fn bytes(&self) -> (usize, usize) {
        if self.local.is_ipv4() { (6, 9) } else { (18, 21) }
    }
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// What connections there are in some cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Rises with the time at which the holder looked: of two about one cell, the higher holds.
    pub version: u64,
    /// How many connections the holder has in all, those included that it tells nobody of.
    pub total: u32,
    /// Which cells; never empty, and below [`CELLS`].
    pub cells: RangeInclusive<u16>,
    /// All connections in them, rising.
    pub connections: Vec<Connection>,
}

/// Why bytes are no sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of connections")]
pub struct Malformed;

impl Sheet {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_SHEET);
        out.extend(self.version.to_be_bytes());
        out.extend(self.total.to_be_bytes());
        out.extend(self.cells.start().to_be_bytes());
        out.extend(self.cells.end().to_be_bytes());
        for block in self.connections.chunk_by(|a, b| a.local() == b.local()) {
            let Some(first) = block.first() else { continue };
            out.push(if first.local.is_ipv4() { 4 } else { 6 });
            put_end(first.local(), &mut out);
            out.extend(u16::try_from(block.len()).unwrap_or(u16::MAX).to_be_bytes());
            for connection in block {
                put_end(connection.remote(), &mut out);
            }
        }
        out
    }

    /// What `bytes` say.
    ///
    /// # Errors
    /// They are not exactly what [`encode`](Self::encode) makes of some sheet.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes).ok_or(Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let version = u64::from_be_bytes(take(&mut rest)?);
        let total = u32::from_be_bytes(take(&mut rest)?);
        let cells = u16::from_be_bytes(take(&mut rest)?)..=u16::from_be_bytes(take(&mut rest)?);
        if bytes.len() > MAX_SHEET || cells.is_empty() || *cells.end() >= CELLS {
            return None;
        }
        let mut connections: Vec<Connection> = Vec::new();
        while !rest.is_empty() {
            let [family] = take(&mut rest)?;
            let local = take_end(family, &mut rest)?;
            let number = u16::from_be_bytes(take(&mut rest)?);
            if number == 0 || connections.last().is_some_and(|last| last.local() == local) {
                return None;
            }
            for _ in 0..number {
                let connection = Connection::new(local, take_end(family, &mut rest)?)?;
                let rises = connections.last().is_none_or(|last| *last < connection);
                // Also where a mapped address would have become another one.
                if !rises || connection.local() != local || !cells.contains(&connection.cell()) {
                    return None;
                }
                connections.push(connection);
            }
        }
        Some(Self { version, total, cells, connections })
    }
}

fn put_end(end: SocketAddr, out: &mut Vec<u8>) {
    match end.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(end.port().to_be_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn take_end(family: u8, rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip = match family {
        4 => IpAddr::V4(Ipv4Addr::from(take::<4>(rest)?)),
        6 => IpAddr::V6(Ipv6Addr::from(take::<16>(rest)?)),
        _ => return None,
    };
    let is_plain = ip.to_canonical() == ip;
    let port = u16::from_be_bytes(take(rest)?);
    is_plain.then_some(SocketAddr::new(ip, port))
}

/// How much of a sheet is used.
#[derive(Clone, Debug)]
pub struct Room {
    left: usize,
    locals: BTreeSet<SocketAddr>,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: MAX_SHEET - HEAD, locals: BTreeSet::new() }
    }
}

impl Room {
    /// Takes room for as many of `connections` as there is room for; says for how many.
    pub fn take(&mut self, connections: impl IntoIterator<Item = Connection>) -> usize {
        let mut taken = 0;
        for connection in connections {
            let (remote, block) = connection.bytes();
            let is_new = !self.locals.contains(&connection.local());
            let need = remote + if is_new { block } else { 0 };
            let Some(left) = self.left.checked_sub(need) else { break };
            self.left = left;
            if is_new {
                self.locals.insert(connection.local());
            }
            taken += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connection(v6: bool, local: u8, client: u16, port: u16) -> Connection {
        let [high, low] = client.to_be_bytes();
        let (local, remote): (IpAddr, IpAddr) = if v6 {
            let ip = |n: u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 0x34, 0, 0, 0, 0, 0, n));
            (ip(local.into()), ip(client))
        } else {
            let ip = |high, low| IpAddr::V4(Ipv4Addr::new(192, 168, high, low));
            (ip(34, local), ip(high, low))
        };
        let local = SocketAddr::new(local, 5000);
        Connection::new(local, SocketAddr::new(remote, port.max(1))).unwrap()
    }

    fn some() -> impl Strategy<Value = BTreeSet<Connection>> {
        let one = (any::<bool>(), 1..4_u8, 1..=u16::MAX, 1..=u16::MAX);
        prop::collection::btree_set(one.prop_map(|(v6, l, c, p)| connection(v6, l, c, p)), 0..60)
    }

    proptest! {
        #[test]
        fn a_sheet_is_read_as_it_was_written(connections in some(), version: u64, total: u32) {
            let connections = Vec::from_iter(connections);
            let mut room = Room::default();
            let fits = room.take(connections.iter().copied()) == connections.len();
            let sheet = Sheet { version, total, cells: 0..=CELLS - 1, connections };
            let bytes = sheet.encode();
            prop_assert_eq!(bytes.len() <= MAX_SHEET, fits, "room is counted to the byte");
            prop_assert_eq!(bytes.len(), MAX_SHEET - room.left, "{}", fits);
            if fits {
                prop_assert_eq!(Sheet::decode(&bytes), Ok(sheet));
                prop_assert_eq!(Sheet::decode(&bytes[..bytes.len() - 1]), Err(Malformed));
                let longer = [&bytes[..], &[4]].concat();
                prop_assert_eq!(Sheet::decode(&longer), Err(Malformed));
            }
        }

        #[test]
        fn whatever_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(sheet) = Sheet::decode(&bytes) {
                prop_assert_eq!(sheet.encode(), bytes);
            }
        }
    }

    #[test]
    fn what_has_a_second_spelling_is_refused() {
        let one = connection(false, 85, 7, 40_000);
        let sheet = |cells, connections| Sheet { version: 1, total: 1, cells, connections };
        let cell = one.cell();
        let good = sheet(cell..=cell, vec![one]).encode();
        assert!(Sheet::decode(&good).is_ok());
        let elsewhere = (cell + 1) % CELLS;
        let bad = [
            sheet(elsewhere..=elsewhere, vec![one]).encode(),
            sheet(0..=CELLS - 1, vec![one, one]).encode(),
            sheet(0..=CELLS, vec![]).encode(),
            sheet(RangeInclusive::new(2, 1), vec![]).encode(),
            // An empty block, and a family that there is not.
            [&sheet(0..=CELLS - 1, vec![]).encode()[..], &[4, 192, 168, 34, 85, 0, 80, 0, 0]]
                .concat(),
            [&sheet(0..=CELLS - 1, vec![]).encode()[..], &[5]].concat(),
            Vec::new(),
        ];
        for bytes in bad {
            assert_eq!(Sheet::decode(&bytes), Err(Malformed), "{bytes:02x?}");
        }
    }

    #[test]
    fn only_what_can_be_answered_is_a_connection() {
        let new = |a: &str, b: &str| Connection::new(a.parse().unwrap(), b.parse().unwrap());
        let plain = new("192.0.2.85:80", "192.0.2.1:999").unwrap();
        assert_eq!(new("[::ffff:192.0.2.85]:80", "[::ffff:192.0.2.1]:999"), Some(plain));
        for (a, b) in [
            ("192.0.2.85:80", "[fd00::1]:999"),
            ("192.0.2.85:80", "192.0.2.1:0"),
            ("192.0.2.85:80", "0.0.0.0:999"),
            ("[fe80::85]:80", "[fe80::1]:999"),
        ] {
            assert_eq!(new(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn cells_are_filled_evenly() {
        let mut cells = vec![0_u32; CELLS.into()];
        for (client, port) in (0..20).flat_map(|c| (0..1024).map(move |p| (c, 32_768 + p))) {
            cells[usize::from(connection(true, 85, client, port).cell())] += 1;
        }
        assert!(cells.iter().all(|n| (4..50).contains(n)), "{cells:?}");
    }
}
