//! Why there is no gate, in words for the operator.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::Instant;

/// Why the gate cannot be had, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The directory is on no BPF file system, and none could be mounted.
    #[error(
        "{dir} is on no BPF file system, and none could be mounted there: {source}; mount one \
         before vipd starts (mount -t bpf bpf /sys/fs/bpf)",
        dir = dir.display()
    )]
    NoBpffs {
        /// Where the gate was to be kept.
        dir: PathBuf,
        /// Why none could be mounted.
        source: io::Error,
    },
    /// The kernel has no bpf(2).
    #[error(
        "this kernel has no BPF programs (CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF), or a seccomp \
         filter hides them"
    )]
    NoBpf,
    /// Not allowed to use bpf(2).
    #[error(
        "not allowed to {doing}: {source}; vipd needs CAP_BPF and CAP_NET_ADMIN (before Linux \
         5.11 also LimitMEMLOCK=infinity), no seccomp filter against bpf(2), and no kernel \
         lockdown that forbids it"
    )]
    Refused {
        /// What was tried.
        doing: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The verifier takes the program to be unsafe, or does not know something it uses.
    #[error(
        "the kernel does not take the program \"{program}\": {source} ({verdict}); Linux 5.8 or \
         later is needed"
    )]
    Rejected {
        /// Which one.
        program: &'static str,
        /// What the kernel answered.
        source: io::Error,
        /// The last of what the verifier had to say.
        verdict: String,
    },
    /// What is kept is of another version of vipd, and still in use.
    #[error(
        "{path} was made by another version of vipd and is open for {left:?}: stop that vipd, and \
         wait until then", path = path.display(), left = until.since(*now)
    )]
    Layout {
        /// What is kept.
        path: PathBuf,
        /// When it will have shut.
        until: Instant,
        /// When that was looked at.
        now: Instant,
    },
    /// What is built in is not what the loader expects.
    #[error("the built-in programs cannot be read: {0}")]
    Object(String),
    /// The boot clock here is not that of the kernel.
    #[error(
        "the boot clock is {offset:?} off the kernel's: vipd runs in a time namespace, where a \
         deadline means another moment; start it outside"
    )]
    Clock {
        /// How far.
        offset: Duration,
    },
    /// There is no room for more addresses.
    #[error("the gate has room for {capacity} addresses and {wanted} are wanted")]
    Full {
        /// How many there may be.
        capacity: usize,
        /// How many there are.
        wanted: usize,
    },
    /// Anything else the kernel did not do.
    #[error("cannot {doing}: {source}")]
    Kernel {
        /// What was tried.
        doing: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl GateError {
    /// What an answer of bpf(2) means.
    pub(super) fn of(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        match source.raw_os_error() {
            Some(libc::ENOSYS) => Self::NoBpf,
            Some(libc::EPERM | libc::EACCES) => Self::Refused { doing, source },
            _ => Self::Kernel { doing, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_give() {
        let error = GateError::of("make a map", io::Error::from_raw_os_error(libc::EPERM));
        let said = error.to_string();
        assert!(said.starts_with("not allowed to make a map: Operation not permitted"), "{said}");
        assert!(said.contains("CAP_BPF and CAP_NET_ADMIN"), "{said}");
        let error = GateError::of("make a map", io::Error::from_raw_os_error(libc::ENOSYS));
        assert!(error.to_string().contains("no BPF programs"), "{error}");
    }
}
