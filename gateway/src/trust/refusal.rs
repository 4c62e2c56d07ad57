//! Why a certificate, or the peer who shows it, is not trusted.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;

use super::anchors::Environment;

/// Why a certificate, or the peer who shows it, is not trusted. The texts are for logs; none of them
/// is told to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRefusal {
    /// No certificate was shown.
    #[error("no certificate was shown")]
    NoCertificate,
    /// Not a certificate of X.509 version 3, or one with an extension that must be understood and
    /// is not (RFC 5280 §4.2).
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// It comes from the other IGC Santé: production and test are never mixed.
    #[error(
        "the certificate comes from the {found} authorities, this gateway is set to {expected} (`trust.environment`)"
    )]
    OtherEnvironment {
        /// Where it comes from.
        found: Environment,
        /// What this gateway accepts.
        expected: Environment,
    },
    /// No known authority issued it.
    #[error("no authority of `trust.authority_files` issued the certificate (issuer: {issuer})")]
    UnknownIssuer {
        /// The issuer it names.
        issuer: String,
    },
    /// Known, but not an authority that may issue peers.
    #[error(
        "the authority {issuer:?} may not issue these certificates (`trust.issuing_authorities`)"
    )]
    IssuerNotAllowed {
        /// Common name of the issuer.
        issuer: String,
    },
    /// Its signature, or one above it, is wrong.
    #[error("a signature in the certificate chain is wrong")]
    BadSignature,
    /// Signed with an algorithm that is too weak, or unknown.
    #[error("the certificate chain uses a signature algorithm that is not accepted, such as SHA-1")]
    WeakSignature,
    /// Its key is too short, or of an unknown kind.
    #[error(
        "the key of the certificate is not accepted: RSA of 2048 bits or more, or EC P-256, P-384 or P-521"
    )]
    WeakKey,
    /// A constraint of an authority does not allow it (path length, names: RFC 5280 §6.1).
    #[error("the certificate chain breaks a constraint of an authority: {0}")]
    Constraint(String),
    /// Past its date.
    #[error("a certificate of the chain has expired")]
    Expired,
    /// Before its date.
    #[error("a certificate of the chain is not valid yet: check the clock of this machine")]
    NotYetValid,
    /// On the list of its authority.
    #[error("the {whom} is revoked")]
    Revoked {
        /// `certificate` or `authority`.
        whom: &'static str,
    },
    /// Nobody can say whether it is revoked.
    #[error(
        "there is no revocation list of {authority:?} that speaks of the certificate: check `trust.crl_sources` and that they can be reached"
    )]
    CrlMissing {
        /// Common name of the authority.
        authority: String,
    },
    /// The revocation list is past its `nextUpdate`.
    #[error("the revocation list of {authority:?} expired at {} (Unix time): check that its address can be reached", .next_update.as_secs())]
    CrlExpired {
        /// Common name of the authority.
        authority: String,
        /// Its `nextUpdate`.
        next_update: UnixTime,
    },
    /// Not for this use.
    #[error("the certificate is not for this use: its extended key usage is {found}")]
    Usage {
        /// What it is for.
        found: String,
    },
    /// A name that is not the one expected.
    #[error("the certificate is for {found:?}, not for {expected:?}")]
    Name {
        /// Common name or DNS name in it.
        found: String,
        /// Who was expected.
        expected: String,
    },
    /// A subject without exactly one common name, or that is no text.
    #[error("the subject of the certificate names nobody: exactly one common name is needed")]
    NoName,
    /// Not in the white list.
    #[error("{dn} is not in the white list")]
    NotListed {
        /// The subject.
        dn: String,
    },
    /// In the white list under another subject.
    #[error("{host:?} is in the white list under another subject than {dn}")]
    OtherSubject {
        /// The `db` host.
        host: String,
        /// The subject shown.
        dn: String,
    },
    /// There is no white list yet.
    #[error("there is no white list: run `drimbox whitelist refresh`")]
    NoWhiteList,
    /// The white list could not be confirmed for too long.
    #[error("the white list was last confirmed {} hours ago, longer than allowed: run `drimbox whitelist refresh`", .age_seconds / 3_600)]
    WhiteListTooOld {
        /// Seconds since it was last confirmed.
        age_seconds: u64,
    },
}

impl TrustRefusal {
    /// A short, stable name for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Malformed(_) => "malformed",
            Self::OtherEnvironment { .. } => "other_environment",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::IssuerNotAllowed { .. } => "issuer_not_allowed",
            Self::BadSignature => "bad_signature",
            Self::WeakSignature => "weak_signature",
            Self::WeakKey => "weak_key",
            Self::Constraint(_) => "constraint",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked { .. } => "revoked",
            Self::CrlMissing { .. } => "crl_missing",
            Self::CrlExpired { .. } => "crl_expired",
            Self::Usage { .. } => "usage",
            Self::Name { .. } => "name",
            Self::NoName => "no_name",
            Self::NotListed { .. } => "not_listed",
            Self::OtherSubject { .. } => "other_subject",
            Self::NoWhiteList => "no_white_list",
            Self::WhiteListTooOld { .. } => "white_list_too_old",
        }
    }

    /// The same for the administrator.
    #[must_use]
    pub fn in_french(&self) -> String {
        match self {
            Self::NoCertificate => "aucun certificat n'a été présenté".into(),
            Self::Malformed(why) => format!("le certificat est illisible ({why})"),
            Self::OtherEnvironment { found, expected } => format!(
                "le certificat vient des autorités de {found}, cette passerelle est réglée sur {expected} (`trust.environment`)"
            ),
            Self::UnknownIssuer { issuer } => format!(
                "aucune autorité de `trust.authority_files` ne l'a émis (émetteur : {issuer})"
            ),
            Self::IssuerNotAllowed { issuer } => format!(
                "l'autorité « {issuer} » n'émet pas ces certificats (`trust.issuing_authorities`)"
            ),
            Self::BadSignature => "une signature de sa chaîne est fausse".into(),
            Self::WeakSignature => {
                "sa chaîne est signée par un algorithme qui n'est pas accepté, comme SHA-1".into()
            }
            Self::WeakKey => {
                "sa clé n'est pas acceptée : RSA d'au moins 2048 bits, ou EC P-256, P-384 ou P-521"
                    .into()
            }
            Self::Constraint(what) => {
                format!("sa chaîne enfreint une contrainte d'une autorité ({what})")
            }
            Self::Expired => "un certificat de sa chaîne a expiré".into(),
            Self::NotYetValid => {
                "un certificat de sa chaîne n'est pas encore valable : vérifier l'heure de la machine"
                    .into()
            }
            Self::Revoked { .. } => "il est révoqué, lui ou une autorité de sa chaîne".into(),
            Self::CrlMissing { authority } => format!(
                "il n'y a pas de liste de révocation de « {authority} » qui parle de ce certificat : vérifier `trust.crl_sources` et l'accès à ces adresses"
            ),
            Self::CrlExpired { authority, .. } => format!(
                "la liste de révocation de « {authority} » est périmée : vérifier l'accès à son adresse"
            ),
            Self::Usage { found } => {
                format!("il n'est pas fait pour cet usage (usages étendus : {found})")
            }
            Self::Name { found, expected } => {
                format!("il est au nom de « {found} », et non de « {expected} »")
            }
            Self::NoName => "son sujet ne nomme personne : il faut un nom commun, un seul".into(),
            Self::NotListed { dn } => format!("« {dn} » n'est pas dans la liste blanche"),
            Self::OtherSubject { host, dn } => format!(
                "« {host} » est dans la liste blanche sous un autre sujet que « {dn} »"
            ),
            Self::NoWhiteList => {
                "il n'y a pas de liste blanche : lancer `drimbox whitelist refresh`".into()
            }
            Self::WhiteListTooOld { age_seconds } => format!(
                "la liste blanche n'a pas été confirmée depuis {} heures : lancer `drimbox whitelist refresh`",
                age_seconds / 3_600
            ),
        }
    }

    /// Whether this gateway lacks what it needs to decide, rather than the peer being wrong.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::CrlMissing { .. }
                | Self::CrlExpired { .. }
                | Self::NoWhiteList
                | Self::WhiteListTooOld { .. }
        )
    }
}

/// What rustls needs to choose the TLS alert (RFC 8446 §6.2).
impl From<TrustRefusal> for rustls::Error {
    fn from(refusal: TrustRefusal) -> Self {
        let error = match &refusal {
            TrustRefusal::NoCertificate => return Self::NoCertificatesPresented,
            TrustRefusal::Malformed(_) => CertificateError::BadEncoding,
            TrustRefusal::UnknownIssuer { .. }
            | TrustRefusal::IssuerNotAllowed { .. }
            | TrustRefusal::OtherEnvironment { .. } => CertificateError::UnknownIssuer,
            TrustRefusal::BadSignature => CertificateError::BadSignature,
            TrustRefusal::Expired => CertificateError::Expired,
            TrustRefusal::NotYetValid => CertificateError::NotValidYet,
            TrustRefusal::Revoked { .. } => CertificateError::Revoked,
            TrustRefusal::CrlMissing { .. } => CertificateError::UnknownRevocationStatus,
            TrustRefusal::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
            TrustRefusal::Usage { .. } => CertificateError::InvalidPurpose,
            TrustRefusal::Name { .. } | TrustRefusal::NoName => CertificateError::NotValidForName,
            _ => CertificateError::Other(OtherError(Arc::new(refusal))),
        };
        Self::InvalidCertificate(error)
    }
}
