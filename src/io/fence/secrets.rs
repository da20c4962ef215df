//! Secrets of devices, read when they are needed.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::{Secret, SecretSource};

/// The longest secret, in bytes.
pub(super) const LONGEST: usize = 1024;
/// Where systemd puts a unit's credentials.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A secret that was read.
pub(super) struct Known {
    pub(super) parameter: String,
    pub(super) value: Zeroizing<String>,
}

/// Where a secret is on this host.
///
/// # Errors
/// A credential, and systemd gave this process none.
pub(super) fn place(secret: &Secret) -> Result<PathBuf, String> {
    match &secret.source {
        SecretSource::File(path) => Ok(path.clone()),
        SecretSource::Credential(name) => match std::env::var_os(DIRECTORY) {
            Some(dir) => Ok(PathBuf::from(dir).join(name)),
            None => Err(format!("credential {name}: there is no ${DIRECTORY}")),
        },
    }
}

/// Reads a secret. One newline at the end is not part of it.
///
/// # Errors
/// In words, without a byte of it.
pub(super) fn read(secret: &Secret) -> Result<Known, String> {
    Ok(Known { parameter: secret.parameter.clone(), value: read_file(&place(secret)?)? })
}

/// What the file of a secret says; as [`read`].
///
/// # Errors
/// In words, without a byte of it.
pub(in super::super) fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let fail = |why: String| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    let most = u64::try_from(LONGEST + 2).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| fail("is not text".to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(fail("is empty".to_owned()));
    }
    if text.len() > LONGEST {
        return Err(fail(format!("is longer than {LONGEST} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(fail("has more than one line".to_owned()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether others than its owner and its group may read it.
///
/// # Errors
/// If there is none.
pub(super) fn is_public(secret: &Secret) -> Result<bool, String> {
    let path = place(secret)?;
    let found = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(found.mode() & 0o007 != 0)
}
