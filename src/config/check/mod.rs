//! What no key can tell alone: values held against each other.

mod addresses;
mod checks;
mod fence;
mod futile;
mod group;
mod hooks;
mod nodes;
mod proxy;
mod routing;
mod sessions;
mod ties;
mod voters;
mod watchdog;

use super::diag::Diagnostic;
use super::read::File;

pub(super) use nodes::{assign, overrides, same_host, short};
pub(super) use voters::safety;

/// Every mistake between values.
pub(super) fn check(file: &File) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    nodes::check(file, &mut found);
    voters::check(file, &mut found);
    fence::check(file, &mut found);
    sessions::check(file, &mut found);
    watchdog::check(file, &mut found);
    for group in &file.groups {
        voters::group(file, group, &mut found);
        fence::group(file, group, &mut found);
        group::check(file, group, &mut found);
        addresses::check(file, group, &mut found);
        proxy::check(group, &mut found);
        routing::check(group, &mut found);
    }
    group::between(&file.groups, &mut found);
    ties::check(file, &mut found);
    addresses::between(&file.groups, &mut found);
    proxy::between(&file.groups, &mut found);
    routing::between(&file.groups, &mut found);
    checks::check(file, &mut found);
    futile::check(file, &mut found);
    hooks::check(file, &mut found);
    found
}
