//! What can go wrong with an archive: what happened, to what, what to do.

use std::time::Duration;

use super::peer::PeerError;

/// Failure of an archive operation.
///
/// The text names the archive's address and application entity titles, never a patient or a UID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// No connection to the archive.
    #[error("no connection to {address}: {detail}. Check host, port and firewall")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// What the system said.
        detail: String,
    },
    /// TLS failed.
    #[error("TLS with {address} failed: {detail}. Check the certificates on both sides")]
    Tls {
        /// `host:port`.
        address: String,
        /// What TLS said.
        detail: String,
    },
    /// A-ASSOCIATE-RJ (PS3.8 §9.3.4).
    #[error("association rejected by {ae_title} at {address}: {reason}. {remedy}")]
    Rejected {
        /// `host:port`.
        address: String,
        /// AE title of the archive.
        ae_title: String,
        /// Reason in words.
        reason: String,
        /// What to do.
        remedy: &'static str,
        /// Rejected-transient: worth a later try.
        transient: bool,
    },
    /// Nothing came within the time allowed.
    #[error("{address} did not answer within {after:?} ({stage})")]
    TimedOut {
        /// `host:port`.
        address: String,
        /// What was waited for.
        stage: &'static str,
        /// Time allowed.
        after: Duration,
    },
    /// The connection ended where more was due.
    #[error("{address} closed the connection ({stage})")]
    Closed {
        /// `host:port`.
        address: String,
        /// What was going on.
        stage: &'static str,
    },
    /// A-ABORT.
    #[error("{address} aborted the association")]
    Aborted {
        /// `host:port`.
        address: String,
    },
    /// What came is not DICOM, or breaks its rules or our limits.
    #[error("{address} broke the protocol: {detail}")]
    Protocol {
        /// `host:port`.
        address: String,
        /// What was wrong, without content.
        detail: String,
    },
    /// The archive accepts none of the presentation contexts that the service needs.
    #[error(
        "{address} does not offer {service}. Enable it in the PACS, or choose another way of retrieval"
    )]
    NotOffered {
        /// `host:port`.
        address: String,
        /// Service in words.
        service: &'static str,
    },
    /// A failure status of a service (PS3.7 annex C, PS3.4).
    #[error("{service} failed with status {status:04X}H {meaning}")]
    Failed {
        /// Service, for example `C-FIND`.
        service: &'static str,
        /// Status (0000,0900).
        status: u16,
        /// The status in words.
        meaning: &'static str,
    },
    /// An HTTP status that is no success.
    #[error("{service} at {address} was answered with HTTP status {status}. {}", remedy(*.status))]
    Status {
        /// `host:port`.
        address: String,
        /// Service, for example `QIDO-RS`.
        service: &'static str,
        /// Status (RFC 9110 §15).
        status: u16,
    },
    /// Sub-operations failed, or fewer instances came than were announced.
    #[error("{missing} of {expected} instances did not come")]
    Incomplete {
        /// Instances that did not come.
        missing: u64,
        /// Instances that should have come.
        expected: u64,
    },
    /// All associations are in use and too many requests wait already.
    #[error("all associations are in use and {waiting} requests wait already")]
    Busy {
        /// Requests that wait.
        waiting: usize,
    },
    /// Recent attempts failed; no new one is made for a while.
    #[error("not tried again yet after repeated failures, last: {last}")]
    BackingOff {
        /// Time until the next attempt.
        retry_after: Duration,
        /// The last failure.
        last: Box<ArchiveError>,
    },
    /// Another DRIMbox did not give an exam.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The operation was cancelled on our side.
    #[error("cancelled")]
    Cancelled,
    /// The gateway could not keep what came.
    #[error("the gateway could not keep what came: {0}")]
    Sink(String),
}

impl ArchiveError {
    /// A short fixed word for metrics.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Rejected { .. } => "rejected",
            Self::TimedOut { .. } => "timeout",
            Self::Closed { .. } => "closed",
            Self::Aborted { .. } => "aborted",
            Self::Protocol { .. } => "protocol",
            Self::NotOffered { .. } => "not_offered",
            Self::Failed { .. } => "failed",
            Self::Status {
                status: 401 | 403, ..
            } => "unauthorized",
            Self::Status { .. } => "status",
            Self::Incomplete { .. } => "incomplete",
            Self::Busy { .. } => "busy",
            Self::BackingOff { .. } => "backing_off",
            Self::Peer(error) => error.cause(),
            Self::Cancelled => "cancelled",
            Self::Sink(_) => "sink",
        }
    }

    /// Whether the archive as a whole is out of reach, rather than this one request refused.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Peer(PeerError::Unavailable { .. })
                | Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::Rejected { .. }
                | Self::TimedOut { .. }
                | Self::Closed { .. }
                | Self::Aborted { .. }
                | Self::BackingOff { .. }
                | Self::Status {
                    status: 401 | 429 | 502 | 503 | 504,
                    ..
                }
        )
    }
}

/// What to do about a status that is no success.
fn remedy(status: u16) -> &'static str {
    match status {
        300..=399 => "Redirections are not followed: put the final address in `url`",
        401 => "Check the user name and password, or the token",
        403 => "Allow this account to read images in the PACS",
        404 | 405 | 501 => "Check the path of `url` and that the PACS offers this service",
        406 => "The PACS cannot send images as they are stored",
        429 | 503 => "The PACS is overloaded: lower `max_requests`, or try later",
        502 | 504 => "Check what stands between the gateway and the PACS",
        _ => "Look into the log of the PACS",
    }
}
