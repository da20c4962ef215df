//! Bits that nobody can foresee.

use std::fs::File;
use std::io::{self, Read as _};

/// As many as name a run of the daemon.
///
/// # Errors
/// The kernel has none.
pub fn bits() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}
