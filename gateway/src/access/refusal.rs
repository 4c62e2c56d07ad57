//! Why a request is refused: for the log, the counter and the audit, never for the caller.

use std::time::Duration;

use psc_auth::{GateError, TokenFault};

/// Why a request is refused. The caller learns no more than a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No token, or one that is not known.
    #[error("a valid bearer token is needed")]
    Unauthenticated,
    /// The listener does not offer this kind of resource.
    #[error("this listener does not offer this service")]
    NotOffered,
    /// The host name of the connection, or the name in the path, stands for no PACS.
    #[error("no PACS under this name")]
    NoPacs,
    /// A `db` name, and no client certificate.
    #[error("no client certificate was shown")]
    NoCertificate,
    /// The certificate is not that of a peer.
    #[error("the certificate is not that of a DRIMbox of the white list: {0}")]
    NotAPeer(&'static str),
    /// Who is a peer cannot be known now.
    #[error("nobody can be recognised as a peer now: {0}")]
    PeersUnknown(&'static str),
    /// No `Authorization: Bearer`, or more than one.
    #[error("no access token of a professional")]
    NoToken,
    /// The token is not good.
    #[error("the access token of the professional is not accepted: {0}")]
    Token(&'static str),
    /// The token was given to a client that is not in the list.
    #[error("the access token was given to a client that is not in `psc.peer_client_ids`")]
    TokenOfOtherClient,
    /// Whether the token is good cannot be known now.
    #[error("the access token of the professional cannot be checked now: {reason}")]
    TokenUnchecked {
        /// Why.
        reason: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// Not a profession that may see images.
    #[error("the professional has no profession that is allowed (`psc.professions`)")]
    Profession,
    /// The field `KOS-SOPInstanceUID` is missing.
    #[error("the request names no KOS")]
    NoKos,
    /// The field `KOS-SOPInstanceUID` is no UID, or stands there twice.
    #[error("the request names the KOS in a way that cannot be read")]
    UnreadableKos,
    /// Nothing was published for this study.
    #[error("no exam is published for this study")]
    NotPublished,
    /// The study has another KOS now, or never had this one.
    #[error("the KOS is not the one published for this study")]
    OtherKos,
    /// The patient does not want the exam shared.
    #[error("the patient is opposed to sharing this exam")]
    Opposed,
    /// The exam is masked to professionals.
    #[error("the exam is masked to professionals (`peer.serve_masked`)")]
    Masked,
    /// The exam is not yet for the patient.
    #[error("the exam is not for the patient yet (INVISIBLE_PATIENT)")]
    Invisible,
    /// Patients have the page, and no other program.
    #[error("patients look at their exam with the page alone")]
    NotForPatients,
    /// The centre opens no exam to patients.
    #[error("patients are not let in (`viewer.patient_gate`)")]
    PatientGateClosed,
    /// What the patient gave does not prove who they are.
    #[error("the patient did not prove who they are")]
    NotProved,
    /// Too many wrong tries.
    #[error("too many wrong tries")]
    Locked,
    /// The KOS does not name this series.
    #[error("the KOS does not name this series")]
    SeriesNotNamed,
    /// The KOS does not name this instance.
    #[error("the KOS does not name this instance in this series")]
    InstanceNotNamed,
    /// A whole study: it may hold more than the KOS names.
    #[error("a peer asks for the series that a KOS names, not for a whole study")]
    WholeStudy,
    /// The link of the report names no exam that is published here.
    #[error("the link names no published exam")]
    OtherLink,
    /// A person without an exam, or one who asks for another than theirs.
    #[error("the session was not opened for this exam")]
    NotGranted,
    /// The table of published exams cannot be read.
    #[error("the table of published exams cannot be read")]
    ExamsUnknown,
}

impl Refusal {
    /// The fixed word for logs, counters and the audit.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::NotOffered => "not_offered",
            Self::NoPacs => "no_pacs",
            Self::NoCertificate => "no_certificate",
            Self::NotAPeer(label) | Self::PeersUnknown(label) | Self::Token(label) => label,
            Self::NoToken => "no_token",
            Self::TokenOfOtherClient => "token_of_other_client",
            Self::TokenUnchecked { reason, .. } => reason,
            Self::Profession => "profession",
            Self::NoKos => "no_kos",
            Self::UnreadableKos => "unreadable_kos",
            Self::NotPublished => "not_published",
            Self::OtherKos => "other_kos",
            Self::Opposed => "opposed",
            Self::Masked => "masked",
            Self::Invisible => "invisible_patient",
            Self::NotForPatients => "not_for_patients",
            Self::PatientGateClosed => "patient_gate_closed",
            Self::NotProved => "not_proved",
            Self::Locked => "locked",
            Self::SeriesNotNamed => "series_not_named",
            Self::InstanceNotNamed => "instance_not_named",
            Self::WholeStudy => "whole_study",
            Self::OtherLink => "other_link",
            Self::NotGranted => "not_granted",
            Self::ExamsUnknown => "exams_unknown",
        }
    }
}

impl From<&GateError> for Refusal {
    fn from(error: &GateError) -> Self {
        match error {
            GateError::Refused(fault) => Self::Token(label_of(fault)),
            GateError::Inactive => Self::Token("token_inactive"),
            GateError::Client(_) => Self::TokenOfOtherClient,
            GateError::Unavailable { retry_after, .. } => Self::TokenUnchecked {
                reason: "psc_unavailable",
                retry_after: *retry_after,
            },
            GateError::Busy => Self::TokenUnchecked {
                reason: "psc_busy",
                retry_after: Duration::from_secs(2),
            },
            // Whatever else there will be: not known to be good.
            _ => Self::Token("token_refused"),
        }
    }
}

fn label_of(fault: &TokenFault) -> &'static str {
    match fault {
        TokenFault::TooLong { .. } => "token_too_long",
        TokenFault::NotJws(_) => "token_malformed",
        TokenFault::Algorithm(_) | TokenFault::UnknownKey | TokenFault::Signature => {
            "token_signature"
        }
        TokenFault::Expired { .. } => "token_expired",
        TokenFault::Future { .. } => "token_in_future",
        TokenFault::OtherCertificate => "token_of_other_certificate",
        TokenFault::Mismatch("iss") => "token_of_other_issuer",
        TokenFault::Acr(_) => "token_level",
        _ => "token_refused",
    }
}
