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

/// A word for what need not be secret, only different on each host; zero if the kernel has none.
pub fn word() -> u32 {
    let mut bytes = [0; 4];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE);
    got.map_or(0, |_| u32::from_ne_bytes(bytes))
}
