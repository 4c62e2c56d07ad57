//! Why another DRIMbox did not give an exam: what happened, and what a person may be told.

use std::time::Duration;

use super::location::LocationError;
use super::token::TokenError;
use crate::archive::ArchiveError;

/// Failure to fetch an exam from its source.
///
/// The text names host names of the white list, never a patient, a UID or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The KOS says to ask where nothing may be asked. Nothing was sent.
    #[error("the KOS is refused, nothing was sent: {0}")]
    Location(#[from] LocationError),
    /// There is no token to ask with.
    #[error("no token to ask {host} with: {cause}")]
    NoToken {
        /// Host name of the source.
        host: String,
        /// Why.
        cause: TokenError,
    },
    /// 400: the source does not understand the request.
    #[error("{host} does not understand the request (400); compare with the DRIM-M examples")]
    NotUnderstood {
        /// Host name of the source.
        host: String,
    },
    /// 401, also with a new token.
    #[error("{host} does not accept the token of the professional (401), also after a renewal")]
    NotAuthenticated {
        /// Host name of the source.
        host: String,
    },
    /// 403: this DRIMbox or this profession may not.
    #[error(
        "{host} refuses (403): this DRIMbox is not in its white list, or the profession is not allowed"
    )]
    Forbidden {
        /// Host name of the source.
        host: String,
    },
    /// 404 or 410: the exam, or this KOS of it, is not published any more.
    #[error("{host} does not have the exam under this KOS (404); look for a newer KOS in the DMP")]
    NotPublished {
        /// Host name of the source.
        host: String,
    },
    /// 406, also when asked for uncompressed images.
    #[error("{host} can send the images in no transfer syntax that was asked for (406)")]
    NotAcceptable {
        /// Host name of the source.
        host: String,
    },
    /// 421: the name leads to a machine that does not serve it.
    #[error("{host} leads to a machine that does not serve this name (421)")]
    Misdirected {
        /// Host name of the source.
        host: String,
    },
    /// 3xx: redirections are not followed, they would carry the token elsewhere.
    #[error("{host} answers with a redirection ({status}), which is never followed")]
    Redirected {
        /// Host name of the source.
        host: String,
        /// Status.
        status: u16,
    },
    /// Another status that is no success.
    #[error("{host} answers with status {status}")]
    Status {
        /// Host name of the source.
        host: String,
        /// Status.
        status: u16,
    },
    /// 429, 502, 503, 504, or no answer: worth a later try.
    #[error("{host} cannot serve now: {detail}")]
    Unavailable {
        /// Host name of the source.
        host: String,
        /// What it said, or what the system said.
        detail: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The certificates do not satisfy one of the two sides.
    #[error("{host}: TLS failed: {detail}. Compare both certificates with the white list")]
    Tls {
        /// Host name of the source.
        host: String,
        /// What TLS said.
        detail: String,
    },
    /// The host name leads to addresses that must not be asked.
    #[error("{host} leads to an address of a private network; nothing was sent")]
    PrivateAddress {
        /// Host name of the source.
        host: String,
    },
    /// What came is not what was asked for: the transfer was ended.
    #[error("{host} sent what was not asked for; the transfer was ended: {detail}")]
    Untrustworthy {
        /// Host name of the source.
        host: String,
        /// What was wrong, without content.
        detail: String,
    },
    /// The transfer ended early, time after time.
    #[error("{host}: the transfer broke off: {detail}")]
    Interrupted {
        /// Host name of the source.
        host: String,
        /// What happened.
        detail: String,
    },
}

/// What a radiologist is told, in French.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Who can help.
    pub contact: Contact,
}

/// Who can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Nobody is needed: try later, or log in again.
    Nobody,
    /// The administrator of this DRIMbox.
    OwnAdministrator,
    /// The centre that made the exam.
    SourceCentre,
}

impl PeerError {
    /// A short fixed word for metrics.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Location(_) => "location",
            Self::NoToken { .. } => "token",
            Self::NotUnderstood { .. } => "bad_request",
            Self::NotAuthenticated { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotPublished { .. } => "not_published",
            Self::NotAcceptable { .. } => "not_acceptable",
            Self::Misdirected { .. } => "misdirected",
            Self::Redirected { .. } => "redirected",
            Self::Status { .. } => "status",
            Self::Unavailable { .. } => "unavailable",
            Self::Tls { .. } => "tls",
            Self::PrivateAddress { .. } => "private_address",
            Self::Untrustworthy { .. } => "untrustworthy",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Whether asking again soon may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Interrupted { .. })
    }

    /// What to tell the person who asked for the exam.
    #[must_use]
    pub fn advice(&self) -> Advice {
        let (message, remedy, contact) = match self {
            Self::Location(error) => (
                format!("Le document de référence de l'examen (KOS) est refusé : {}.", error.french()),
                "Rien n'a été envoyé. Prévenir l'administrateur de la DRIMbox : ce document peut être \
                 mal formé, ou falsifié.".to_owned(),
                Contact::OwnAdministrator,
            ),
            Self::NoToken { cause, .. } => (
                "Votre session Pro Santé Connect ne permet plus de demander cet examen.".to_owned(),
                match cause {
                    TokenError::LoginNeeded => "Se reconnecter avec Pro Santé Connect, puis rouvrir l'examen.",
                    TokenError::Unavailable(_) => "Pro Santé Connect ne répond pas : réessayer dans quelques minutes.",
                    TokenError::Unusable => "Se reconnecter avec Pro Santé Connect ; si cela se répète, prévenir l'administrateur de la DRIMbox.",
                }.to_owned(),
                Contact::Nobody,
            ),
            Self::NotAuthenticated { host } => (
                format!("Le centre d'imagerie ({host}) ne reconnaît pas votre session Pro Santé Connect."),
                "Se reconnecter avec Pro Santé Connect, puis rouvrir l'examen.".to_owned(),
                Contact::Nobody,
            ),
            Self::Forbidden { host } => (
                format!("Le centre d'imagerie ({host}) refuse l'accès à cet examen."),
                "Votre profession n'y donne peut-être pas accès, ou cette DRIMbox n'est pas encore dans \
                 la liste blanche du centre : prévenir l'administrateur de la DRIMbox.".to_owned(),
                Contact::OwnAdministrator,
            ),
            Self::NotPublished { host } => (
                format!("L'examen n'est plus publié sous cette référence par le centre d'imagerie ({host})."),
                "Relancer la recherche dans le DMP : une version plus récente a pu le remplacer. Sinon, \
                 appeler le centre qui a fait l'examen.".to_owned(),
                Contact::SourceCentre,
            ),
            Self::NotAcceptable { host } => (
                format!("Le centre d'imagerie ({host}) ne peut pas envoyer les images sous une forme lisible."),
                "Demander l'examen sur un autre support au centre qui l'a fait, et prévenir \
                 l'administrateur de la DRIMbox.".to_owned(),
                Contact::SourceCentre,
            ),
            Self::Unavailable { host, retry_after, .. } => (
                format!("Le centre d'imagerie ({host}) ne répond pas en ce moment."),
                match retry_after {
                    Some(after) if *after > Duration::from_secs(90) => format!(
                        "Réessayer dans {} minutes. Si c'est urgent, appeler le centre qui a fait l'examen.",
                        after.as_secs().div_ceil(60)
                    ),
                    _ => "Réessayer dans une minute ou deux. Si c'est urgent, appeler le centre qui a \
                          fait l'examen.".to_owned(),
                },
                Contact::SourceCentre,
            ),
            Self::Interrupted { host, .. } => (
                format!("Le transfert depuis le centre d'imagerie ({host}) s'est interrompu plusieurs fois."),
                "Réessayer : les séries déjà reçues ne seront pas redemandées. Si cela se répète, \
                 prévenir l'administrateur de la DRIMbox.".to_owned(),
                Contact::OwnAdministrator,
            ),
            Self::Tls { host, .. } | Self::PrivateAddress { host } | Self::Misdirected { host } => (
                format!("La liaison sécurisée avec le centre d'imagerie ({host}) n'a pas pu s'établir."),
                "Prévenir l'administrateur de la DRIMbox : certificat, liste blanche ou adresse à \
                 vérifier. Le détail est dans le journal.".to_owned(),
                Contact::OwnAdministrator,
            ),
            Self::NotUnderstood { host }
            | Self::Redirected { host, .. }
            | Self::Status { host, .. }
            | Self::Untrustworthy { host, .. } => (
                format!("La réponse du centre d'imagerie ({host}) n'est pas conforme ; elle a été écartée."),
                "Prévenir l'administrateur de la DRIMbox, qui avertira le centre. Si c'est urgent, \
                 appeler le centre qui a fait l'examen.".to_owned(),
                Contact::OwnAdministrator,
            ),
        };
        Advice {
            message,
            remedy,
            contact,
        }
    }

    /// What a failure of the exchange with `host` means.
    #[must_use]
    pub(super) fn of(host: &str, error: &ArchiveError) -> Self {
        let host = host.to_owned();
        let detail = error.to_string();
        match error {
            ArchiveError::Peer(error) => error.clone(),
            ArchiveError::Tls { detail, .. } => Self::Tls {
                host,
                detail: detail.clone(),
            },
            ArchiveError::Protocol { detail, .. } => Self::Untrustworthy {
                host,
                detail: detail.clone(),
            },
            ArchiveError::Closed { .. } => Self::Interrupted { host, detail },
            ArchiveError::BackingOff { retry_after, last } => match &**last {
                last @ ArchiveError::Tls { .. } => Self::of(&host, last),
                _ => Self::Unavailable {
                    host,
                    detail,
                    retry_after: Some(*retry_after),
                },
            },
            _ => Self::Unavailable {
                host,
                detail,
                retry_after: None,
            },
        }
    }
}
