//! One node runs once, and its successor knows what it may have left behind.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

use crate::config::Config;

/// The claim of this process to be the only one for its node, given up when dropped.
#[derive(Debug)]
pub(super) struct Instance {
    _lock: Flock<File>,
    _names: Vec<OwnedFd>,
    addresses: PathBuf,
}

/// Why this process may not run.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another one holds the lock of the runtime directory.
    #[error(
        "another vipd already uses {}: stop it, or give this one a --runtime-dir of its own",
        dir.display()
    )]
    Locked {
        /// The runtime directory.
        dir: PathBuf,
    },
    /// Another one runs for the same node in this network namespace.
    #[error(
        "another vipd already runs for node {node:?} of cluster {cluster:?} here: one node, one vipd"
    )]
    Running {
        /// The node.
        node: String,
        /// The cluster.
        cluster: String,
    },
    /// A file or socket could not be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Instance {
    /// Claims the runtime directory, and the node's name in this network namespace: an abstract
    /// socket is gone with the process that bound it, however it ends.
    ///
    /// `members` are clusters, each with the name of this host in it.
    pub(super) fn claim(dir: &Path, members: &[(&str, &str)]) -> Result<Self, InstanceError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| InstanceError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(at(dir))?;
        let path = dir.join("vipd.lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).map_err(at(&path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                InstanceError::Locked { dir: dir.to_owned() }
            } else {
                at(&path)(errno.into())
            }
        })?;
        let claim = |&(cluster, node): &(&str, &str)| {
            claim_name(cluster, node).map_err(|errno| {
                if errno == Errno::EADDRINUSE {
                    InstanceError::Running { node: node.to_owned(), cluster: cluster.to_owned() }
                } else {
                    at(&path)(errno.into())
                }
            })
        };
        let names = members.iter().map(claim).collect::<Result<_, _>>()?;
        Ok(Self { _lock: lock, _names: names, addresses: dir.join("addresses") })
    }

    /// Writes down which addresses this process may add, before it does; returns those an
    /// earlier one wrote down. A file that cannot be written costs the clean-up after a change of
    /// configuration, so that is only told.
    pub(super) fn remember(&self, config: &Config) -> BTreeSet<IpAddr> {
        let old: BTreeSet<IpAddr> = fs::read_to_string(&self.addresses)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        let new = config.groups.iter().flat_map(|g| &g.addresses).map(|a| a.ip);
        let all: BTreeSet<IpAddr> = new.chain(old.iter().copied()).collect();
        if let Err(error) = self.write(&all) {
            tracing::warn!("{}: {error}", self.addresses.display());
        }
        old
    }

    fn write(&self, addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
        let new = self.addresses.with_extension("new");
        let mut file = File::create(&new)?;
        for ip in addresses {
            writeln!(file, "{ip}")?;
        }
        file.sync_data()?;
        fs::rename(&new, &self.addresses)
    }

    /// Nothing was left behind.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.addresses);
    }
}

fn claim_name(cluster: &str, node: &str) -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let name = format!("vipd/{cluster}/{node}");
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_refused_by_directory_and_by_name() {
        let dir = std::env::temp_dir().join(format!("vipd-instance-{}", std::process::id()));
        let name = format!("t{}", std::process::id());
        let first = Instance::claim(&dir, &[(name.as_str(), "hap1")]).unwrap();
        let again = Instance::claim(&dir, &[(name.as_str(), "hap2")]);
        assert!(matches!(again, Err(InstanceError::Locked { .. })), "{again:?}");
        let elsewhere = Instance::claim(&dir.join("other"), &[(name.as_str(), "hap1")]);
        assert!(matches!(elsewhere, Err(InstanceError::Running { .. })), "{elsewhere:?}");
        drop(first);
        Instance::claim(&dir, &[(name.as_str(), "hap1")]).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
