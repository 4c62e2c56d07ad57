//! What can go wrong between a request and its images.

use crate::archive::ArchiveError;

/// Failure to find or hand out images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StudiesError {
    /// The archive knows nothing under these identifiers.
    #[error("not found")]
    NotFound,
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The gateway failed: disk, memory, a defect.
    #[error("{0}")]
    Internal(String),
}

impl StudiesError {
    /// A short fixed word for metrics.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Archive(error) => error.cause(),
            Self::Internal(_) => "internal",
        }
    }
}
