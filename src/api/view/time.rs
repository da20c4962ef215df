//! Moments and durations, as people say them.

use std::time::Duration;

use jiff::{SignedDuration, Zoned};

use crate::types::Instant;

/// Two clocks read at one moment: what turns boot-clock times into wall-clock times.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    pub(super) boot: Instant,
    pub(super) wall: Zoned,
}

impl Clocks {
    /// `3m 20s ago`.
    pub(super) fn ago(&self, then: Instant) -> String {
        format!("{} ago", lasted(self.boot.since(then)))
    }

    /// The time of day, with the date if it is another day's.
    pub(super) fn wall(&self, then: Instant) -> String {
        let ago = SignedDuration::try_from(self.boot.since(then)).unwrap_or(SignedDuration::MAX);
        // Only a moment before the calendar begins is refused.
        let Ok(wall) = self.wall.checked_sub(ago) else { return "long ago".into() };
        let form = if wall.date() == self.wall.date() { "%H:%M:%S" } else { "%b %d %H:%M" };
        wall.strftime(form).to_string()
    }

    /// `03:09:25, 3m 20s ago`.
    pub(super) fn since(&self, then: Instant) -> String {
        format!("{}, {}", self.wall(then), self.ago(then))
    }
}

/// A duration in at most two units: `80 ms`, `3.2s`, `42s`, `3m 20s`, `4h 5m`, `3d 4h`.
pub(super) fn lasted(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{} ms", d.as_millis()),
        1..10 => format!("{s}.{}s", d.subsec_millis() / 100),
        10..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_two_units() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (3_250, "3.2s"),
            (59_999, "59s"),
            (200_000, "3m 20s"),
            (14_700_000, "4h 5m"),
            (273_600_000, "3d 4h"),
        ];
        for (ms, text) in cases {
            assert_eq!(lasted(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn another_day_has_its_date() {
        let wall: Zoned = "2026-11-24T00:10:00+01:00[+01:00]".parse().unwrap();
        let clocks = Clocks { boot: Instant::from_nanos(1_000_000_000_000), wall };
        assert_eq!(clocks.wall(Instant::from_nanos(900_000_000_000)), "00:08:20");
        assert_eq!(clocks.since(Instant::BOOT), "Nov 23 23:53, 16m 40s ago");
    }
}
