//! Why a login did not succeed: what the user reads, and the status.

use http::StatusCode;
use psc_auth::{CallbackFault, Endpoint, ErrorCode, PscError};

use crate::access::professional::NotAdmitted;

/// Why nobody came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The return is of no login of this browser: too late, used before, or of another browser.
    #[error("no such login in this browser")]
    Unknown,
    /// The user, or PSC, said no.
    #[error("refused at Pro Santé Connect")]
    Refused,
    /// PSC cannot be asked now.
    #[error("Pro Santé Connect cannot be asked now")]
    Unavailable,
    /// PSC does not accept the gateway: certificate, Client ID, return address.
    #[error("Pro Santé Connect does not accept this gateway")]
    Misconfigured,
    /// An answer of PSC did not stand the checks.
    #[error("an answer of Pro Santé Connect could not be verified")]
    Unverified,
    /// Identified, but not someone who may come in.
    #[error("not admitted: {0}")]
    NotAdmitted(#[from] NotAdmitted),
    /// The gateway itself cannot do it now.
    #[error("the gateway cannot log anybody in now")]
    Internal,
}

/// What a page says about a failure.
pub(super) struct Explained {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    /// Whether another try may help.
    pub(super) again: bool,
    /// Whether to say whom to call.
    pub(super) call: bool,
}

impl Failure {
    /// The word for metrics and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_login",
            Self::Refused => "refused_at_psc",
            Self::Unavailable => "psc_unavailable",
            Self::Misconfigured => "not_accepted_by_psc",
            Self::Unverified => "unverified",
            Self::NotAdmitted(why) => why.as_str(),
            Self::Internal => "internal",
        }
    }

    /// Of a failure at PSC.
    pub(super) fn of(error: &PscError) -> Self {
        match error {
            error if error.is_temporary() => Self::Unavailable,
            PscError::Callback(CallbackFault::Late | CallbackFault::State) => Self::Unknown,
            PscError::Refused { endpoint, code, .. } => Self::of_code(*endpoint, code),
            PscError::Status { .. }
            | PscError::NoEndpoint(_)
            | PscError::WrongIssuer { .. }
            | PscError::EncryptedUserInfo => Self::Misconfigured,
            PscError::SessionEnded(_) => Self::Unknown,
            _ => Self::Unverified,
        }
    }

    fn of_code(endpoint: Endpoint, code: &ErrorCode) -> Self {
        match code {
            ErrorCode::AccessDenied | ErrorCode::LoginRequired => Self::Refused,
            // A code is good once and for a minute.
            ErrorCode::InvalidGrant if endpoint == Endpoint::Token => Self::Unknown,
            ErrorCode::InvalidToken => Self::Unverified,
            _ => Self::Misconfigured,
        }
    }

    pub(super) fn explained(self) -> Explained {
        let page = |status, title, text| Explained {
            status,
            title,
            text,
            again: true,
            call: false,
        };
        match self {
            Self::Unknown => page(
                StatusCode::BAD_REQUEST,
                "Cette connexion n'est plus valable",
                "Elle a pris trop de temps, elle a déjà servi, ou elle a été commencée dans un autre navigateur. \
                 Rien n'a été consulté. Si vous veniez d'un compte rendu, ouvrez à nouveau son lien.",
            ),
            Self::Refused => page(
                StatusCode::FORBIDDEN,
                "Connexion abandonnée",
                "Pro Santé Connect n'a pas confirmé votre identité : vous avez annulé, ou votre moyen \
                 d'identification (carte CPS, e-CPS) a été refusé.",
            ),
            Self::Unavailable => page(
                StatusCode::SERVICE_UNAVAILABLE,
                "Pro Santé Connect ne répond pas",
                "Votre identité ne peut pas être vérifiée pour le moment. Réessayez dans quelques minutes.",
            ),
            Self::Misconfigured => Explained {
                again: false,
                call: true,
                ..page(
                    StatusCode::BAD_GATEWAY,
                    "La connexion n'est pas possible ici",
                    "Pro Santé Connect n'accepte pas ce service : il faut l'intervention de son exploitant.",
                )
            },
            Self::Unverified => Explained {
                call: true,
                ..page(
                    StatusCode::BAD_GATEWAY,
                    "Votre identité n'a pas pu être vérifiée",
                    "La réponse de Pro Santé Connect ne passe pas les contrôles de sécurité.",
                )
            },
            Self::NotAdmitted(NotAdmitted::NoNationalId) => Explained {
                again: false,
                call: true,
                ..page(
                    StatusCode::FORBIDDEN,
                    "Accès refusé",
                    "Pro Santé Connect vous a reconnu, mais ne transmet pas votre identifiant national (RPPS ou \
                     équivalent), sans lequel l'accès aux images n'est pas possible.",
                )
            },
            Self::NotAdmitted(NotAdmitted::Profession) => Explained {
                again: false,
                call: true,
                ..page(
                    StatusCode::FORBIDDEN,
                    "Accès réservé à d'autres professions",
                    "Pro Santé Connect vous a reconnu, mais aucune de vos situations d'exercice ne donne accès aux \
                     images dans ce centre.",
                )
            },
            Self::Internal => Explained {
                call: true,
                ..page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Le service ne peut pas vous connecter",
                    "Une panne de ce service l'empêche. Réessayez dans quelques minutes.",
                )
            },
        }
    }
}
