//! Which status a failure becomes.

use std::time::Duration;

use super::problem::Problem;
use crate::access::Refusal;
use crate::archive::ArchiveError;
use crate::studies::StudiesError;

/// Time after which a busy PACS is worth another try.
const BUSY: Duration = Duration::from_secs(5);

/// 404: not a resource of this service, or none that this client may know of.
pub fn no_resource() -> Problem {
    Problem::not_found("there is no resource at this path")
}

/// The status of a refusal of [`access`](crate::access).
pub fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Unauthenticated => Problem::unauthorized(refusal.to_string()),
        Refusal::NotOffered => Problem::forbidden(refusal.to_string()),
        Refusal::NoPacs => no_resource(),
    }
}

/// The status of a failure before the first byte.
pub fn failed(error: StudiesError) -> Problem {
    match error {
        StudiesError::NotFound => Problem::not_found("nothing is known under these UIDs"),
        StudiesError::Archive(error) => {
            tracing::warn!(cause = error.cause(), "{error}");
            match error {
                ArchiveError::Busy { .. }
                | ArchiveError::Status {
                    status: 429 | 503, ..
                } => Problem::unavailable("the PACS is busy", BUSY),
                ArchiveError::BackingOff { retry_after, .. } => {
                    Problem::unavailable("the PACS does not answer", retry_after)
                }
                ArchiveError::Cancelled => Problem::unavailable("the retrieval was stopped", BUSY),
                ArchiveError::TimedOut { .. } => {
                    Problem::gateway_timeout("the PACS did not answer in time")
                }
                ArchiveError::Unreachable { .. } | ArchiveError::Rejected { .. } => {
                    Problem::bad_gateway("the PACS cannot be reached")
                }
                ArchiveError::Incomplete { missing, expected } => Problem::bad_gateway(format!(
                    "the PACS sent {} of {expected} instances",
                    expected - missing
                )),
                ArchiveError::Sink(_) => Problem::unavailable("no room for these images", BUSY),
                _ => Problem::bad_gateway("the PACS could not answer"),
            }
        }
        StudiesError::Internal(detail) => {
            tracing::error!("{detail}");
            Problem::internal()
        }
    }
}
