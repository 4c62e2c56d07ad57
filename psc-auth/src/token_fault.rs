//! Why a signed token is not accepted.

use std::fmt;

use thiserror::Error;

use crate::error::Said;

/// Which token was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenKind {
    /// id_token of a login or a refresh.
    Id,
    /// Access token that someone presents.
    Access,
    /// Logout token of a back-channel logout.
    Logout,
    /// Signed UserInfo.
    UserInfo,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "id_token",
            Self::Access => "access token",
            Self::Logout => "logout token",
            Self::UserInfo => "signed UserInfo",
        })
    }
}

/// Why it is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// Longer than the cap.
    #[error("it has {found} bytes, {limit} are accepted")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// Not three base64url segments with JSON objects.
    #[error("it is not a signed JWT: {0}")]
    NotJws(&'static str),
    /// Signed with another algorithm than RS256, or not at all.
    #[error("algorithm `{0}`, only RS256 is accepted")]
    Algorithm(Said),
    /// No key of PSC has this `kid`.
    #[error("no signing key of Pro Santé Connect has its `kid`")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the signature is wrong")]
    Signature,
    /// A member stands twice with two values.
    #[error("`{0}` stands twice with different values")]
    Repeated(Said),
    /// A member is missing or of the wrong type.
    #[error("`{0}` is missing or not as it should be")]
    Missing(&'static str),
    /// A member has another value than it should.
    #[error("`{0}` is not the expected one")]
    Mismatch(&'static str),
    /// It is over.
    #[error("it expired {seconds} s ago")]
    Expired {
        /// Since when, in seconds.
        seconds: u64,
    },
    /// It was issued in the future.
    #[error("`{claim}` is {seconds} s in the future")]
    Future {
        /// Which time.
        claim: &'static str,
        /// How far, in seconds.
        seconds: u64,
    },
    /// It is too old, or lives too long.
    #[error("`{0}` is too far in the past, or its life is too long")]
    Age(&'static str),
    /// The authentication level is not in the accepted set.
    #[error("authentication level `{0}` is not accepted")]
    Acr(Said),
    /// The certificate that presents it is not the one it is bound to.
    #[error("it is bound to another certificate (`cnf`)")]
    OtherCertificate,
    /// It was seen before.
    #[error("it was used before")]
    Replayed,
    /// The OpenID library refused it.
    #[error("{0}")]
    Library(Said),
}

impl TokenFault {
    pub(crate) fn explained(&self) -> (&'static str, &'static str) {
        match self {
            Self::Expired { .. } => ("the token is over", "log in again"),
            Self::Future { .. } => (
                "the clocks differ",
                "check the time synchronisation of this machine (NTP)",
            ),
            Self::Acr(_) => (
                "the user logged in with a means that is too weak",
                "log in again with the e-CPS or the card",
            ),
            Self::OtherCertificate => (
                "the token is bound to a certificate, and another one presents it",
                "the peer must present the certificate that the token was given to; if all peers fail, Pro Santé Connect started to bind tokens: report it",
            ),
            Self::UnknownKey => (
                "the token is of another environment, or the keys were just changed",
                "check that both sides use the same environment (sandbox or production); else try again in a minute",
            ),
            Self::Mismatch("iss") => (
                "the token is of another issuer",
                "check that both sides use the same environment (sandbox or production)",
            ),
            _ => (
                "the token is not one that Pro Santé Connect gives for this use",
                "log in again; if it happens again, report it",
            ),
        }
    }
}
