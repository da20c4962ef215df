//! As much of netlink as the gate needs, byte by byte: requests, and dumps.
//!
//! Beside `io::netlink`, which is about links and addresses: what is here asks one thing at a
//! time, of any part of the kernel, and reads what comes back attribute by attribute.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::io::clock;

/// How long the kernel may take for one answer: it may wait for its network lock.
const LIMIT: Duration = Duration::from_secs(10);
const HEADER: usize = 16;
const DATAGRAM: usize = 64 * 1024;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLA_F_NESTED`, and the bits that are no part of an attribute's type.
const NESTED: u16 = 1 << 15;
const TYPE: u16 = 0x3fff;

/// A message, or attributes, in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Bytes {
    /// An attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// An attribute of attributes.
    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.with(kind | NESTED, &inner.0)
    }

    /// An attribute that is text, which ends with a zero.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut value = value.as_bytes().to_vec();
        value.push(0);
        self.with(kind, &value)
    }
}

/// The attributes in `bytes`; stops at the first whose length cannot be.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<4>()?;
        let [l0, l1, k0, k1] = *head;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & TYPE, value))
    })
}

/// The value of the attribute `kind`.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(of, _)| *of == kind).map(|(_, value)| value)
}

/// A number in the byte order of the machine.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A socket that asks one thing at a time.
#[derive(Debug)]
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Asker {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        let limit = TimeVal::new(LIMIT.as_secs().try_into().unwrap_or(10), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Asks for a change.
    pub(super) fn ask(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.exchange(kind, flags | NLM_F_ACK, payload, |_, _| {})
    }

    /// Asks for everything of a kind; `each` gets the type and what is behind the header.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.exchange(kind, NLM_F_DUMP, payload, each)
    }

    /// Asks netfilter for all of `requests` or none: what kind, with which flags, and what.
    ///
    /// `begin` and `end` are what it wants around them.
    pub(super) fn batch(
        &mut self,
        begin: (u16, &[u8]),
        requests: &[(u16, u16, Bytes)],
        end: (u16, &[u8]),
    ) -> io::Result<()> {
        let mut next = || {
            self.sequence = self.sequence.wrapping_add(1);
            self.sequence
        };
        let mut bytes = message(begin.0, 0, next(), begin.1);
        for (nth, (kind, flags, payload)) in (1..).zip(requests) {
            // What failed is told before the answer to the last of them.
            let flags = if nth == requests.len() { flags | NLM_F_ACK } else { *flags };
            bytes.extend(message(*kind, flags, next(), &payload.0));
        }
        bytes.extend(message(end.0, 0, next(), end.1));
        if setsockopt(&self.socket, sockopt::SndBufForce, &(2 * bytes.len())).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &(2 * bytes.len()))?;
        }
        self.socket.send(&bytes, 0)?;
        // Nothing that was asked before is still to be answered, but by one that came too late.
        let last = self.sequence;
        let many = requests.len() + 2;
        let ours = |sequence| usize::try_from(last.wrapping_sub(sequence)).is_ok_and(|n| n < many);
        self.answer(ours, |_, _| {})
    }

    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let asked = self.sequence;
        self.socket.send(&message(kind, flags, asked, payload), 0)?;
        self.answer(|sequence| sequence == asked, each)
    }

    /// Waits for how it ended: the first answer to what is `ours`.
    fn answer(
        &mut self,
        ours: impl Fn(u32) -> bool,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let end = clock::now() + LIMIT;
        loop {
            self.buffer.clear();
            let (_, sender) = self.socket.recv_from(&mut self.buffer, 0)?;
            // Any process can send to a netlink socket.
            if sender.port_number() == 0
                && let Some(result) = read(&self.buffer, &ours, &mut each)
            {
                return result;
            }
            if clock::now() >= end {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// A whole message.
pub(super) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Hands over the messages of one datagram; the result if it has the last of them.
fn read(
    mut datagram: &[u8],
    ours: &impl Fn(u32) -> bool,
    each: &mut impl FnMut(u16, &[u8]),
) -> Option<io::Result<()>> {
    while let Some((head, _)) = datagram.split_first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *head;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = datagram.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([k0, k1]);
        if ours(u32::from_ne_bytes([s0, s1, s2, s3])) {
            match kind {
                DONE | ERROR => {
                    // How a dump ended, which few parts of the kernel tell, or a request did.
                    let code = number(payload).map_or(0, u32::cast_signed);
                    return Some(if code < 0 {
                        Err(io::Error::from_raw_os_error(code.saturating_neg()))
                    } else {
                        Ok(())
                    });
                }
                _ => each(kind, payload),
            }
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let inner = Bytes::default().with(6, &7_u32.to_ne_bytes());
        let bytes = Bytes::default().text(1, "bpf").nest(2, &inner);
        assert_eq!(attribute(&bytes.0, 1), Some(&b"bpf\0"[..]));
        let options = attribute(&bytes.0, 2).unwrap();
        assert_eq!(attribute(options, 6).and_then(number), Some(7));
        assert_eq!(attribute(options, 7), None);
    }

    #[test]
    fn bytes_that_are_cut_end_it() {
        let bytes = Bytes::default().text(1, "bpf").0;
        for length in 0..bytes.len() {
            assert_eq!(attribute(bytes.get(..length).unwrap(), 1), None, "{length}");
        }
        let message = message(36, 0, 1, &bytes);
        for length in 0..message.len() {
            assert!(read(message.get(..length).unwrap(), &|_| true, &mut |_, _| ()).is_none());
        }
    }
}
