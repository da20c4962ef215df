//! Looks at the clocks every second, for as long as something is held by lease.

use std::time::Duration;

use crate::core::status::{Note, Severity};
use crate::io::clock;
use crate::io::timekeeping::{self, Timekeeper};

use super::turn::note;

const PERIOD: Duration = Duration::from_secs(1);

/// Something about the clocks.
pub(super) enum Told {
    /// Whether they can be trusted.
    Clock(Result<(), Box<str>>),
    /// Something that people should know.
    Note(Note),
}

/// Tells what there is to be told, until it is aborted. What `tell` does not take is told again.
pub(super) async fn keep(leased: impl Fn() -> bool, tell: impl Fn(Told) -> bool) {
    let mut keeper = Timekeeper::default();
    let mut pending = None;
    let mut source_told = false;
    let mut beat = tokio::time::interval(PERIOD);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if !leased() {
            continue;
        }
        if !std::mem::replace(&mut source_told, true) {
            source(&tell);
        }
        let Ok(reading) = timekeeping::read() else { continue };
        let found = keeper.look(reading);
        if let Some(by) = found.jump {
            let text = format!(
                "the clock of the mainboard and that of the kernel moved {by} s apart between two \
                 looks: this host was paused, or somebody set the former"
            );
            tell(Told::Note(note(clock::now(), Severity::Error, "clock-jumped", text)));
        }
        pending = found.clock.or(pending);
        if let Some(clock) = pending.take()
            && !tell(Told::Clock(clock.clone()))
        {
            pending = Some(clock);
        }
    }
}

fn source(tell: &impl Fn(Told) -> bool) {
    let Some(source) = timekeeping::source().filter(|s| timekeeping::is_paravirtual(s)) else {
        return;
    };
    let text = format!(
        "this host counts time by {source}, as a virtual machine does: one that is paused is outside \
         of what a lease can promise"
    );
    tell(Told::Note(note(clock::now(), Severity::Warn, "clock-source", text)));
}
