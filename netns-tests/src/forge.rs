//! Frames that nobody honest would send.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clock::{Stamp, pause};
use crate::host::Host;
use crate::packet_socket::{Hears, PacketSocket};
use crate::{Error, Result};

/// Sends any bytes from an interface.
#[derive(Debug)]
pub struct Injector(PacketSocket);

impl Injector {
    /// Sends from `nic` of `host`.
    pub fn open(host: &Host, nic: &str) -> Result<Self> {
        PacketSocket::open(host.namespace(), nic, Hears::Nothing).map(Self)
    }

    /// Sends one frame, from the Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> Result {
        self.0.send(frame).map_err(Error::errno("send a forged frame"))
    }

    /// Sends what `frame` makes, `per_second` of them for `during`; how many were sent.
    pub fn flood(
        &self,
        per_second: u32,
        during: Duration,
        mut frame: impl FnMut() -> Vec<u8>,
    ) -> Result<u32> {
        let start = Stamp::now();
        let mut sent = 0;
        while Stamp::now().since(start) < during {
            let due = Stamp::now().since(start).as_secs_f64() * f64::from(per_second);
            while f64::from(sent) <= due {
                self.send(&frame())?;
                sent += 1;
            }
            pause(Duration::from_micros(500));
        }
        Ok(sent)
    }
}

/// An IPv4 advertisement and everything around it. All fields are as given: none is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgedAdvert {
    /// Sender's hardware address.
    pub mac: [u8; 6],
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address, 224.0.0.18 for a real one.
    pub destination: Ipv4Addr,
    /// Time to live, 255 for a real one.
    pub ttl: u8,
    /// 2 or 3.
    pub version: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Seconds (version 2) or centiseconds (version 3).
    pub interval: u16,
    /// Virtual addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether a version 3 checksum covers the pseudo-header.
    pub pseudo_header: bool,
}

impl ForgedAdvert {
    /// A version 3 advert that any Backup believes: 100 ms, TTL 255.
    pub fn new(source: Ipv4Addr, vrid: u8, priority: u8, addresses: &[Ipv4Addr]) -> Self {
        Self {
            mac: [0x02, 0, 0, 0x0b, 0xad, 0x01],
            source,
            destination: Ipv4Addr::new(224, 0, 0, 18),
            ttl: 255,
            version: 3,
            vrid,
            priority,
            interval: 10,
            addresses: addresses.to_vec(),
            pseudo_header: true,
        }
    }

    /// The VRRP message.
    pub fn message(&self) -> Vec<u8> {
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        let mut message = vec![self.version << 4 | 1, self.vrid, self.priority, count];
        if self.version == 2 {
            message.extend([0, self.interval.to_be_bytes()[1]]);
        } else {
            message.extend(self.interval.to_be_bytes());
        }
        message.extend([0, 0]);
        message.extend(self.addresses.iter().flat_map(Ipv4Addr::octets));
        if self.version == 2 {
            message.extend([0; 8]);
        }
        let mut covered = Vec::new();
        if self.version == 3 && self.pseudo_header {
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
            covered.extend(self.source.octets());
            covered.extend(self.destination.octets());
            covered.extend([0, 112]);
            covered.extend(length.to_be_bytes());
        }
        covered.extend(&message);
        message[6..8].copy_from_slice(&checksum(&covered).to_be_bytes());
        message
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_with(&self.message())
    }

    /// The frame with another VRRP message in it.
    pub fn frame_with(&self, message: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + message.len()).unwrap_or(u16::MAX);
        let mut header = vec![0x45, 0xc0];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, 0, 0, self.ttl, 112, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        let mut frame = vec![0x01, 0, 0x5e, 0, 0, 18];
        frame.extend(self.mac);
        frame.extend([0x08, 0]);
        frame.extend(header);
        frame.extend(message);
        frame
    }
}

/// A UDP datagram over IPv4 in a frame from a hardware address that nobody has: not that of the
/// sender it claims, as the switch would learn it.
pub fn udp_frame(
    to: [u8; 6],
    source: (Ipv4Addr, u16),
    target: (Ipv4Addr, u16),
    payload: &[u8],
) -> Vec<u8> {
    let length =
        |more: usize| u16::try_from(more + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = vec![0x45, 0];
    header.extend(length(20 + 8));
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend(source.0.octets());
    header.extend(target.0.octets());
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    let mut frame = to.to_vec();
    frame.extend([0x02, 0, 0, 0x0b, 0xad, 0x02, 0x08, 0]);
    frame.extend(header);
    frame.extend(source.1.to_be_bytes());
    frame.extend(target.1.to_be_bytes());
    frame.extend(length(8));
    // Without a checksum, which zero says.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The checksum of the Internet.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Dice that fall the same way for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// 64 random bits (splitmix64).
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap_or_default()
    }

    /// A time below `end`.
    pub fn time_below(&mut self, end: Duration) -> Duration {
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.roll() % nanos)
    }

    /// `length` random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll().to_be_bytes()[0]).collect()
    }

    /// `frame` with up to four of its bytes after the Ethernet header changed, or cut short.
    pub fn mutate(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if self.below(8) == 0 {
            frame.truncate(14 + self.below(frame.len() - 14));
        }
        for _ in 0..=self.below(4) {
            if frame.len() > 14 {
                let at = 14 + self.below(frame.len() - 14);
                frame[at] ^= 1 << self.below(8);
            }
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_advert_has_right_checksums() {
        let vip = Ipv4Addr::new(192, 168, 34, 85);
        let advert = ForgedAdvert::new(Ipv4Addr::new(192, 168, 34, 9), 85, 255, &[vip]);
        let plain = ForgedAdvert { pseudo_header: false, ..advert.clone() };
        assert_eq!(checksum(&plain.message()), 0);
        assert_ne!(checksum(&advert.message()), 0);
        let frame = advert.frame();
        assert_eq!(checksum(&frame[14..34]), 0);
        assert_eq!(frame.len(), 14 + 20 + 12);
    }
}
