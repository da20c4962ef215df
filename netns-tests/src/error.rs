//! Why the lab could not do what it was asked.

use std::time::Duration;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, bridges and addresses are made by root only.
    #[error(
        "the lab needs root to make network namespaces: run it with sudo, as in `sudo -E make test`"
    )]
    NeedsRoot,
    /// A program said no.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed, both streams.
        output: String,
    },
    /// The kernel said no.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// Something expected did not happen.
    #[error("{what} did not happen within {within:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// A program answered, but not what it should.
    #[error("{what}: {text}")]
    Answer {
        /// Whose answer.
        what: String,
        /// The answer, or what is wrong with it.
        text: String,
    },
}

impl Error {
    /// Wraps an error of the kernel with what was attempted.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The same for an error number.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }
}

/// The result of everything the lab does.
pub type Result<T = ()> = std::result::Result<T, Error>;
