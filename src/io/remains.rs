//! The routes and rules that may be ours in the kernel, where that outlives the process.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::durable;
use crate::core::routing::Entry;

/// The file.
#[derive(Debug)]
pub struct Remains(PathBuf);

impl Remains {
    /// That at `path`, which need not exist.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What is in it. A file that makes no sense is as good as none: it costs the clean-up.
    pub fn read(&self) -> BTreeSet<Entry> {
        let bytes = fs::read(&self.0).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Puts `known` there.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, known: &BTreeSet<Entry>) -> io::Result<()> {
        durable::replace(&self.0, 0o600, &serde_json::to_vec(known)?)
    }

    /// Nothing is left.
    pub fn forget(&self) {
        // What it says is seen not to be there.
        let _ = fs::remove_file(&self.0);
    }
}
