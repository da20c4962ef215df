//! What the core thread waits for, as epoll carries it.

use crate::io::port::Source;
use crate::types::IfIndex;

/// What the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Timer,
    Kernel,
    Completions,
    Inbox,
    Peers(u8),
    Port(IfIndex, Source),
}

/// Paths to other voters, counted from zero.
pub(super) const MOST_PATHS: u8 = 7;
const SOURCES: [Source; 4] = [Source::V4, Source::V6, Source::Arp, Source::Nd];

impl Token {
    /// As the 64 bits that epoll carries.
    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Timer => 0,
            Self::Kernel => 1,
            Self::Completions => 2,
            Self::Inbox => 3,
            Self::Peers(path) => 4 + u64::from(path.min(MOST_PATHS)),
            Self::Port(index, source) => {
                let source = SOURCES.iter().position(|s| *s == source).unwrap_or(0);
                u64::from(index.0) << 8 | 0x80 | source as u64
            }
        }
    }

    /// From those bits.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => Some(Self::Timer),
            1 => Some(Self::Kernel),
            2 => Some(Self::Completions),
            3 => Some(Self::Inbox),
            4..=11 => Some(Self::Peers(u8::try_from(bits - 4).ok()?)),
            _ => {
                let source = SOURCES.get(usize::try_from(bits & 0x7f).ok()?)?;
                Some(Self::Port(IfIndex(u32::try_from(bits >> 8).ok()?), *source))
            }
        }
    }
}
