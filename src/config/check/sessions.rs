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
    let verified = sessions.tls.as_ref().is_some_and(|tls| tls.value == "verify");
    if let (Some(ca), false) = (&sessions.ca, verified) {
        let d = Diagnostic::error(ca.at.clone(), "a certificate authority for nothing")
            .label("no certificate is looked at")
            .help("write `tls = \"verify\"`, or take `ca` out");
        found.push(d);
    }
}
