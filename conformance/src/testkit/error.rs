//! What can go wrong while an outside system is started, asked or stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// An outside system did not do what a test needs of it.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A program of the system is not there.
    #[error("{program} is not installed: run `make setup`")]
    Missing {
        /// Path or name that was looked for.
        program: String,
    },
    /// The gateway's binary was not built.
    #[error(
        "no drimbox binary at {path}: run `cargo build -p drimbox`, or name one in DRIMBOX_BIN"
    )]
    NoGateway {
        /// Path that was looked for.
        path: PathBuf,
    },
    /// A process ended although it should serve.
    #[error("{name} ended ({status}) before it was ready; last lines of {log}:\n{tail}")]
    Ended {
        /// Name of the process in the kit.
        name: String,
        /// Its exit status.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The end of that file.
        tail: String,
    },
    /// A process runs but did not become ready, or did not stop.
    #[error("{name}: {what} not reached within {limit:?}; last lines of {log}:\n{tail}")]
    Deadline {
        /// Name of the process in the kit.
        name: String,
        /// State that was waited for.
        what: &'static str,
        /// Time that was given.
        limit: Duration,
        /// Its log file.
        log: PathBuf,
        /// The end of that file.
        tail: String,
    },
    /// A file or socket operation failed.
    #[error("{what}: {source}")]
    Io {
        /// Operation and its object.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// An HTTP exchange failed below HTTP, or its answer was not what the kit needs.
    #[error("{what}: {reason}")]
    Http {
        /// Request or step.
        what: String,
        /// What went wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("certificate {name}: {source}")]
    Certificate {
        /// Its subject.
        name: String,
        /// The generator's error.
        source: rcgen::Error,
    },
    /// A TLS configuration was refused.
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// A value is not what the kit can use.
    #[error("{what} is not usable: {reason}")]
    Invalid {
        /// The value.
        what: String,
        /// Why it is refused.
        reason: String,
    },
}

impl KitError {
    /// For `map_err`: an operation on a path that failed.
    pub fn io(operation: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{operation} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: a step of an HTTP exchange that failed.
    pub fn http<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Http {
            what,
            reason: source.to_string(),
        }
    }
}
