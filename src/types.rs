//! The words every layer shares: units, identifiers, the clock's values. PURE.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A moment on the boot clock (`CLOCK_BOOTTIME`), in nanoseconds since boot.
///
/// The boot clock never steps and counts suspend, so a deadline on it cannot be missed unseen.
/// Only `io::clock` reads it; everything else is handed the value.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The moment of boot.
    pub const BOOT: Self = Self(0);

    /// The moment `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment so long before, or that of boot.
    #[must_use]
    pub fn before(self, ago: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A virtual router identifier, 1 to 255 (RFC 9568 §5.2.3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct VrId(NonZeroU8);

impl VrId {
    /// `None` for zero, which no virtual router may have.
    pub const fn new(n: u8) -> Option<Self> {
        match NonZeroU8::new(n) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for VrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A VRRP priority as it is on the wire (RFC 9568 §5.2.4).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// "I stop": the Active router gives up.
    pub const RELEASE: Self = Self(0);
    /// The least a participant can have: what an unhealthy node uses.
    pub const LEAST: Self = Self(1);
    /// The default of a Backup router.
    pub const DEFAULT: Self = Self(100);
    /// The owner of the addresses.
    pub const OWNER: Self = Self(255);
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of the protocol.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "u8", try_from = "u8")]
pub enum Version {
    /// RFC 3768, IPv4 only, whole seconds.
    V2,
    /// RFC 9568, centiseconds.
    V3,
}

impl From<Version> for u8 {
    fn from(v: Version) -> Self {
        match v {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

impl TryFrom<u8> for Version {
    type Error = &'static str;
    fn try_from(n: u8) -> Result<Self, Self::Error> {
        match n {
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            _ => Err("version 2 or 3"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u8::from(*self).fmt(f)
    }
}

/// An address family; each has a virtual router of its own (RFC 9568 §1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `ip`.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The length of its addresses, in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An advertisement interval in centiseconds, the unit of the version 3 wire (RFC 9568 §5.2.7).
///
/// Never zero. Version 3 carries up to [`Centis::MAX_V3`]; version 2 carries whole seconds up
/// to 255.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Centis(u16);

impl Centis {
    /// Largest interval the 12-bit field of version 3 can carry: 40.95 s.
    pub const MAX_V3: Self = Self(0x0fff);
    /// Largest interval of version 2: 255 s (RFC 3768 §5.3.7).
    pub const MAX_V2: Self = Self(25_500);
    /// 100 ms, vipd's default in version 3.
    pub const DEFAULT_V3: Self = Self(10);
    /// Default for version 3 where adverts elect nobody: the RFC's own, 1 s.
    pub const LEASED_V3: Self = Self(100);
    /// 1 s, the default in version 2.
    pub const DEFAULT_V2: Self = Self(100);

    /// `None` for zero and for more than version 2 could carry.
    pub const fn new(n: u16) -> Option<Self> {
        if n == 0 || n > Self::MAX_V2.0 { None } else { Some(Self(n)) }
    }

    /// Centiseconds.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The same interval as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }

    /// `Skew_Time` to the microsecond: `(256 - priority) * interval / 256` in version 3
    /// (RFC 9568 §6.1), of one second in version 2 (RFC 3768 §6.1).
    pub fn skew(self, version: Version, priority: Priority) -> Duration {
        let of = match version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.duration(),
        };
        of * (256 - u32::from(priority.0)) / 256
    }

    /// `Active_Down_Interval`: `3 * interval + skew` (RFC 9568 §6.1).
    pub fn down_interval(self, version: Version, priority: Priority) -> Duration {
        3 * self.duration() + self.skew(version, priority)
    }
}

impl fmt::Display for Centis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.duration())
    }
}

/// The kernel's number of a network interface; never zero.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ix, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if ix == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// Which kernel gate a lease is bound to: random bits made together with the gate, which outlives
/// the daemon. A restarted daemon that finds its gate again is its predecessor's heir; a clone of
/// the machine that made a gate of its own is not.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct GateId(pub u128);

/// Which run of a daemon: random bits made at its start.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u128);

/// The place of a voter in the configuration: nodes in the order of the file, then witnesses.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct VoterIx(pub u8);

impl VoterIx {
    /// The most voters a cluster can have: sets of them are 32 bits.
    pub const MOST: usize = 32;

    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of voters.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Voters(pub u32);

impl Voters {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The first `count` voters.
    pub const fn first(count: usize) -> Self {
        if count >= VoterIx::MOST { Self(u32::MAX) } else { Self((1 << count) - 1) }
    }

    /// Whether `voter` is in the set.
    pub const fn has(self, voter: VoterIx) -> bool {
        voter.0 < 32 && self.0 & (1 << voter.0) != 0
    }

    /// The set with `voter`.
    #[must_use]
    pub const fn with(self, voter: VoterIx) -> Self {
        if voter.0 < 32 { Self(self.0 | 1 << voter.0) } else { self }
    }

    /// The set without `voter`.
    #[must_use]
    pub const fn without(self, voter: VoterIx) -> Self {
        if voter.0 < 32 { Self(self.0 & !(1 << voter.0)) } else { self }
    }

    /// How many there are.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = VoterIx> {
        (0..32).map(VoterIx).filter(move |v| self.has(*v))
    }
}

/// What two votes must agree on to count together: a hash of everything in the file that decides
/// who may serve what.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Digest(pub u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_keeps_the_order_of_priorities_at_ten_milliseconds() {
        let one = Centis::new(1).unwrap();
        let skews: Vec<_> = (1..=254).map(|p| one.skew(Version::V3, Priority(p))).collect();
        assert!(skews.windows(2).all(|w| w[0] > w[1]));
        assert_eq!(one.skew(Version::V3, Priority(254)), Duration::from_nanos(78_125));
    }

    #[test]
    fn version_2_skews_by_a_second_whatever_the_interval() {
        let three = Centis::new(300).unwrap();
        assert_eq!(
            three.down_interval(Version::V2, Priority(156)),
            Duration::from_micros(9_390_625)
        );
        assert_eq!(
            three.down_interval(Version::V3, Priority(156)),
            Duration::from_micros(10_171_875)
        );
    }

    #[test]
    fn an_interval_is_never_zero() {
        assert_eq!(Centis::new(0), None);
        assert_eq!(Centis::new(25_501), None);
        assert_eq!(Centis::new(1).unwrap().duration(), Duration::from_millis(10));
    }
}
