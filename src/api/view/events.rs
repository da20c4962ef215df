//! `vipctl events`: one line for each.

use jiff::tz::TimeZone;

use super::text::{Tone, clean};
use crate::core::status::Severity;
use crate::io::events::Record;

/// `2026-11-24 03:09:25.123  !  postgres  address-restored  192.168.34.85/24 was deleted`.
pub fn event(record: &Record, zone: &TimeZone, color: bool) -> String {
    let note = &record.note;
    let (mark, tone) = match note.severity {
        Severity::Error => ("!!", Tone::Bad),
        Severity::Warn => ("! ", Tone::Warn),
        Severity::Info => ("  ", Tone::Plain),
        Severity::Debug => ("  ", Tone::Dim),
    };
    let time = record.wall.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
    let group = clean(note.group.as_deref().unwrap_or("-"));
    let rest = format!("{mark}  {group:<12}  {:<18}  {}", clean(&note.kind), clean(&note.text));
    format!("{}  {}\n", Tone::Dim.paint(&time, color), tone.paint(&rest, color))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::Note;
    use crate::types::Instant;

    #[test]
    fn a_line_each() {
        let note = Note {
            at: Instant::BOOT,
            severity: Severity::Warn,
            group: Some("postgres".into()),
            kind: "address-restored".into(),
            text: "192.168.34.85/24 was deleted\nby somebody".into(),
            about: None,
        };
        let record = Record { id: 1, wall: jiff::Timestamp::UNIX_EPOCH, node: "hap1".into(), note };
        assert_eq!(
            event(&record, &TimeZone::UTC, false),
            "1970-01-01 00:00:00.000  !   postgres      address-restored    192.168.34.85/24 was \
             deleted by somebody\n"
        );
        assert!(event(&record, &TimeZone::UTC, true).contains("\x1b[33m! "));
    }
}
