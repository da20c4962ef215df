//! The file of keys: read by the daemon, made and added to by `vipctl keygen`.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use crate::wire::peer::{KeyError, KeyId, Keyring};

/// Bytes of a new key.
const KEY: usize = 32;
/// The longest file that is read; the most keys there can be, with long comments.
const LONGEST: u64 = 1 << 16;
/// Nobody but the owner reads or writes.
const PRIVATE: u32 = 0o600;

/// What is wrong with a file of keys. Never has a byte of a key in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file, or which directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What it says makes no sense.
    #[error("{}: {source}", path.display())]
    Keys {
        /// Which file.
        path: PathBuf,
        /// And why.
        source: KeyError,
    },
    /// There is one already, and it stays as it is.
    #[error("{} is there already; --add puts a new key on top of those in it", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The kernel has no random bytes.
    #[error("getrandom: {0}")]
    Random(io::Error),
}

trait At<T> {
    fn at(self, path: &Path) -> Result<T, SecretError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, SecretError> {
        self.map_err(|source| SecretError::Io { path: path.to_owned(), source })
    }
}

/// What a file of keys has.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The keys, newest first.
    pub keys: Keyring,
    /// Whether others than its owner and its group may read it.
    pub is_public: bool,
}

/// Reads a file of keys.
///
/// # Errors
/// If it cannot be read or makes no sense.
pub fn read(path: &Path) -> Result<Secret, SecretError> {
    let (text, mode) = text(path)?;
    Ok(Secret { keys: parse(path, &text)?, is_public: mode & 0o007 != 0 })
}

/// A new key as a line of such a file.
///
/// # Errors
/// If the kernel has no random bytes.
pub fn new_key() -> Result<Zeroizing<String>, SecretError> {
    let mut key = Zeroizing::new([0; KEY]);
    let mut missing = &mut key[..];
    while !missing.is_empty() {
        let got = match getrandom(&mut *missing, GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => 0,
            got => got.map_err(|e| SecretError::Random(e.into()))?,
        };
        missing = missing.get_mut(got..).unwrap_or_default();
    }
    let mut line = Zeroizing::new(String::with_capacity(2 * KEY + 1));
    for byte in key.iter() {
        // A string takes everything.
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    Ok(line)
}

/// Makes a file with one new key, for its owner alone; tells which key that is.
///
/// # Errors
/// If there is one already, or it cannot be made.
pub fn create(path: &Path) -> Result<KeyId, SecretError> {
    let line = new_key()?;
    let id = newest(path, line.as_bytes())?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path);
    let mut file = match opened {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SecretError::Exists { path: path.to_owned() });
        }
        opened => opened.at(path)?,
    };
    let written = fill(&mut file, Permissions::from_mode(PRIVATE), line.as_bytes());
    written.and_then(|()| sync_directory(path)).inspect_err(|_| discard(path)).at(path)?;
    Ok(id)
}

/// Puts a new key on top of those in a file, at once or not at all; owner and mode stay. Tells
/// which key that is.
///
/// # Errors
/// If the file cannot be read or replaced, makes no sense, or has as many keys as there can be.
pub fn add(path: &Path) -> Result<KeyId, SecretError> {
    // The file is replaced where it is, not a link to it.
    let path = &fs::canonicalize(path).at(path)?;
    let (old, _) = text(path)?;
    parse(path, &old)?;
    let line = new_key()?;
    let mut all = Zeroizing::new(Vec::with_capacity(line.len() + old.len()));
    all.extend(line.as_bytes());
    all.extend(old.iter());
    let id = newest(path, &all)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&fresh).at(&fresh)?;
    let replace = |file: &mut File| {
        let model = fs::metadata(path)?;
        fchown(&*file, Some(model.uid()), Some(model.gid()))?;
        fill(file, model.permissions(), &all)?;
        fs::rename(&fresh, path)?;
        sync_directory(path)
    };
    replace(&mut file).inspect_err(|_| discard(&fresh)).at(path)?;
    Ok(id)
}

/// After `chown`, which takes some bits of the mode away.
fn fill(file: &mut File, mode: Permissions, text: &[u8]) -> io::Result<()> {
    file.set_permissions(mode)?;
    file.write_all(text)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

/// What is half done is of no use; why it is half done is told already.
fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

/// The text and the mode of a file.
fn text(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), SecretError> {
    let file = File::open(path).at(path)?;
    let about = file.metadata().at(path)?;
    // All at once: a vector that grows leaves copies behind.
    let length = usize::try_from(about.len().min(LONGEST)).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(LONGEST + 1).read_to_end(&mut text).at(path)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge)).at(path);
    }
    Ok((text, about.mode()))
}

fn parse(path: &Path, text: &[u8]) -> Result<Keyring, SecretError> {
    Keyring::parse(text).map_err(|source| SecretError::Keys { path: path.to_owned(), source })
}

fn newest(path: &Path, text: &[u8]) -> Result<KeyId, SecretError> {
    let id = parse(path, text)?.ids().next();
    id.ok_or_else(|| SecretError::Keys { path: path.to_owned(), source: KeyError::Empty })
}
