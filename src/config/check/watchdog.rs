//! The watchdog.

use super::super::diag::Diagnostic;
use super::super::read::File;

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    let timeout = file.watchdog.as_ref().and_then(|w| w.timeout.as_ref());
    if let Some(timeout) = timeout.filter(|t| t.value.subsec_nanos() != 0) {
        let d = Diagnostic::error(timeout.at.clone(), "a watchdog counts whole seconds")
            .label("not a whole number of seconds")
            .help(format!("write `\"{}s\"`", timeout.value.as_secs() + 1));
        found.push(d);
    }
}
