//! A file says that this host may serve: by what it holds, or by not being there.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::super::http::reason;
use super::Limit;
use super::kept::{Kept, is_there};

/// As much as is read, in bytes.
const LONGEST: u64 = 4096;

pub(super) struct File {
    value: Option<String>,
    kept: Kept<String>,
}

impl File {
    pub(super) fn new(path: PathBuf, value: Option<String>) -> Self {
        Self { value, kept: Kept::new(path) }
    }

    pub(super) async fn look(&mut self, limit: &mut Limit) -> Result<String, String> {
        let path = self.kept.path();
        let shown = path.display().to_string();
        if self.value.is_none()
            && let Some(there) = is_there(path)
        {
            return if there {
                Err(format!("{shown} is there"))
            } else {
                Ok(format!("{shown} is not there"))
            };
        }
        let content = self.value.is_some();
        let reading = self.kept.get(move |path| read(path, content));
        let held = limit.of(reading, &format!("{shown} cannot be read")).await??;
        match (held, &self.value) {
            (Ok(held), Some(value)) if held.trim() == value.trim() => {
                Ok(format!("{shown} holds {:?}", value.trim()))
            }
            (Ok(held), Some(value)) => {
                let held: String = held.trim().chars().take(40).collect();
                Err(format!("{shown} holds {held:?}, not {:?}", value.trim()))
            }
            (Ok(_), None) => Err(format!("{shown} is there")),
            (Err(e), None) if e.kind() == io::ErrorKind::NotFound => {
                Ok(format!("{shown} is not there"))
            }
            (Err(e), Some(_)) if e.kind() == io::ErrorKind::NotFound => {
                Err(format!("there is no {shown}"))
            }
            (Err(e), _) => Err(format!("{shown}: {}", reason(&e))),
        }
    }
}

/// What it holds; nothing where that is not wanted.
fn read(path: &Path, content: bool) -> io::Result<String> {
    if !content {
        return std::fs::symlink_metadata(path).map(|_| String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
