//! Which status a failure becomes.

use std::time::Duration;

use super::problem::Problem;
use crate::access::Refusal;
use crate::archive::ArchiveError;
use crate::studies::StudiesError;

/// Time after which a busy PACS is worth another try.
const BUSY: Duration = Duration::from_secs(5);

/// Time after which a gateway that lacks what it needs to decide is worth another try.
const LATER: Duration = Duration::from_secs(30);

/// What a caller who is refused learns.
const REFUSED: &str = "the request is refused";

/// 404: not a resource of this service, or none that this client may know of.
pub fn no_resource() -> Problem {
    Problem::not_found("there is no resource at this path")
}

/// 404: the images are not there, or this client may not know whether they are.
pub fn nothing_known() -> Problem {
    Problem::not_found("nothing is known under these UIDs")
}

/// The status of a refusal of [`access`](crate::access). What is not the caller's own affair is in
/// the log and the audit alone.
pub fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Unauthenticated => Problem::unauthorized(refusal.to_string()),
        Refusal::NoPacs => no_resource(),
        Refusal::NoToken | Refusal::Token(_) => Problem::unauthorized(REFUSED),
        Refusal::NoKos | Refusal::UnreadableKos => Problem::bad_request(
            "the field KOS-SOPInstanceUID is missing or is no UID",
            "send the SOP Instance UID of the KOS that announced the exam",
        ),
        Refusal::NotPublished
        | Refusal::OtherKos
        | Refusal::Opposed
        | Refusal::Masked
        | Refusal::SeriesNotNamed
        | Refusal::InstanceNotNamed
        | Refusal::WholeStudy
        | Refusal::OtherLink
        | Refusal::Invisible
        | Refusal::PatientGateClosed
        | Refusal::NotProved
        | Refusal::Locked
        | Refusal::NotGranted => nothing_known(),
        Refusal::PeersUnknown(_) | Refusal::ExamsUnknown => Problem::unavailable("not now", LATER),
        Refusal::TokenUnchecked { retry_after, .. } => Problem::unavailable("not now", retry_after),
        // Whatever else there is: known, and not allowed.
        _ => Problem::forbidden(REFUSED),
    }
}

/// The status of a failure before the first byte.
pub fn failed(error: StudiesError) -> Problem {
    match error {
        StudiesError::NotFound => nothing_known(),
        StudiesError::Gone => Problem::gone("the PACS had these images and has them no more"),
        StudiesError::Lost => Problem::unavailable("the retrieval was interrupted", BUSY),
        StudiesError::Archive(error) => {
            tracing::warn!(cause = error.cause(), "{error}");
            match error {
                ArchiveError::Busy { .. }
                | ArchiveError::Rejected {
                    transient: true, ..
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(refusal: Refusal) -> (u16, String) {
        let problem = refused(refusal);
        (problem.status().as_u16(), format!("{problem:?}"))
    }

    #[test]
    fn a_peer_cannot_tell_one_reason_from_another() {
        let alike: [&[Refusal]; 3] = [
            &[Refusal::NoToken, Refusal::Token("token_expired")],
            &[
                Refusal::NoCertificate,
                Refusal::NotOffered,
                Refusal::NotAPeer("not_listed"),
                Refusal::TokenOfOtherClient,
                Refusal::Profession,
            ],
            &[
                Refusal::NotPublished,
                Refusal::OtherKos,
                Refusal::Opposed,
                Refusal::Masked,
                Refusal::SeriesNotNamed,
                Refusal::InstanceNotNamed,
                Refusal::WholeStudy,
            ],
        ];
        for (group, status) in alike.iter().zip([401, 403, 404]) {
            for refusal in *group {
                assert_eq!(seen(*refusal).0, status, "{refusal:?}");
                assert_eq!(
                    Some(seen(*refusal)),
                    group.first().map(|first| seen(*first))
                );
            }
        }
        // Nor an exam that is refused from one that the PACS does not have.
        let absent = format!("{:?}", failed(StudiesError::NotFound));
        assert_eq!(seen(Refusal::NotPublished).1, absent);
    }

    #[test]
    fn what_cannot_be_known_now_is_worth_another_try() {
        let waits = [
            Refusal::PeersUnknown("no_white_list"),
            Refusal::ExamsUnknown,
            Refusal::TokenUnchecked {
                reason: "psc_unavailable",
                retry_after: LATER,
            },
        ];
        for refusal in waits {
            let answer = refused(refusal).response(None);
            assert_eq!(answer.status().as_u16(), 503);
            assert!(answer.headers().contains_key("retry-after"));
        }
    }

    #[test]
    fn what_left_the_pacs_is_gone_and_a_lost_retrieval_is_worth_another_try() {
        assert_eq!(failed(StudiesError::Gone).status().as_u16(), 410);
        let lost = failed(StudiesError::Lost).response(None);
        assert_eq!(lost.status().as_u16(), 503);
        assert!(lost.headers().contains_key("retry-after"));
    }
}
