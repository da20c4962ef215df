//! How proxies and checks are on a node, as it tells the others.
//!
//! ```text
//! failed  group 8, count 2, ago 8, length of the words 1, the words
//! looked  check 8, verdict 1 (0: none yet, 1: passes, 2: fails), since 8, length 1, the words
//! ```
//!
//! Groups and checks are told by marks of their names, as in `will`. Times are milliseconds.

use std::time::Duration;

use super::codec::{Input, Malformed};
use super::will::{Text, put_text, text};

/// Bytes that the words about a failure may have.
pub const LONGEST_WORDS: usize = 96;

/// How often a proxy failed lately.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Failed {
    /// A mark of the name of its group.
    pub group: u64,
    /// How many of its failures have not expired.
    pub count: u16,
    /// How long ago the last one was, to the millisecond.
    pub ago: Duration,
    /// The last one.
    pub words: Text<LONGEST_WORDS>,
}

/// What a check finds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Looked {
    /// A mark of its name.
    pub check: u64,
    /// Whether it passes; `None` before the first look.
    pub verdict: Option<bool>,
    /// For how long that has been so, to the millisecond.
    pub since: Duration,
    /// What it finds; nothing where it passes.
    pub words: Text<LONGEST_WORDS>,
}

pub(super) fn put_failed(failed: &Failed, out: &mut Vec<u8>) {
    let Failed { group, count, ago, words } = failed;
    out.extend(group.to_be_bytes());
    out.extend(count.to_be_bytes());
    out.extend(millis(*ago));
    put_text(words, out);
}

pub(super) fn take_failed(input: &mut Input<'_>) -> Result<Failed, Malformed> {
    let (group, count) = (input.u64()?, input.u16()?);
    let ago = Duration::from_millis(input.u64()?);
    let length = input.u8()?;
    Ok(Failed { group, count, ago, words: text(input, length)? })
}

pub(super) fn put_looked(looked: &Looked, out: &mut Vec<u8>) {
    let Looked { check, verdict, since, words } = looked;
    out.extend(check.to_be_bytes());
    out.push(match verdict {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    });
    out.extend(millis(*since));
    put_text(words, out);
}

pub(super) fn take_looked(input: &mut Input<'_>) -> Result<Looked, Malformed> {
    let check = input.u64()?;
    let verdict = match input.u8()? {
        0 => None,
        1 => Some(true),
        2 => Some(false),
        other => return Err(Malformed::Verdict(other)),
    };
    let since = Duration::from_millis(input.u64()?);
    let length = input.u8()?;
    Ok(Looked { check, verdict, since, words: text(input, length)? })
}

fn millis(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn failed() -> impl Strategy<Value = Failed> {
        (any::<(u64, u16, u64)>(), "\\PC{0,120}").prop_map(|((group, count, ago), words)| Failed {
            group,
            count,
            ago: Duration::from_millis(ago),
            words: Text::new(&words),
        })
    }

    pub(in super::super) fn looked() -> impl Strategy<Value = Looked> {
        (any::<(u64, Option<bool>, u64)>(), "\\PC{0,120}").prop_map(
            |((check, verdict, since), words)| Looked {
                check,
                verdict,
                since: Duration::from_millis(since),
                words: Text::new(&words),
            },
        )
    }
}
