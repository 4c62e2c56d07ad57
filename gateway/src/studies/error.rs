//! What can go wrong between a request and its images.

use crate::archive::ArchiveError;

/// Failure to find or hand out images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StudiesError {
    /// The archive knows nothing under these identifiers.
    #[error("not found")]
    NotFound,
    /// The archive knows nothing under these identifiers any more, and did before.
    #[error("gone from the archive")]
    Gone,
    /// A retrieval ended without saying how: a defect of the gateway. Asking again may do.
    #[error("the retrieval was lost; ask again")]
    Lost,
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
            Self::Gone => "gone",
            Self::Lost => "lost",
            Self::Archive(error) => error.cause(),
            Self::Internal(_) => "internal",
        }
    }
}
