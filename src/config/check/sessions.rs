//! Sessions on PostgreSQL.

use super::super::diag::Diagnostic;
use super::super::read::File;
use super::safety;

pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    let Some(sessions) = &file.sessions else { return };
    if !file.groups.iter().any(|g| safety(file, g).is_leased()) {
        let d = Diagnostic::error(sessions.at.clone(), "no group is held by lease")
            .label("so no host is ever known to serve nobody")
            .help("take `[sessions]` out, or hold a group with `safety = \"lease\"`");
        found.push(d);
    }
}
