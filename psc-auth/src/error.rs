//! What can go wrong with Pro Santé Connect: what it said, what that means, what to do.

use std::fmt;

use thiserror::Error;

use crate::token_fault::{TokenFault, TokenKind};
use crate::transport::TransportError;

/// An address of Pro Santé Connect, by its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// The discovery document.
    Discovery,
    /// The signing keys (JWKS).
    Keys,
    /// The login page of the wallet.
    Authorization,
    /// Tokens.
    Token,
    /// UserInfo.
    UserInfo,
    /// Introspection of a token (RFC 7662).
    Introspection,
    /// Revocation of a token (RFC 7009).
    Revocation,
    /// End of the session.
    Logout,
    /// CIBA: login on another device.
    Ciba,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discovery => "discovery",
            Self::Keys => "signing keys",
            Self::Authorization => "login page",
            Self::Token => "token endpoint",
            Self::UserInfo => "UserInfo",
            Self::Introspection => "introspection",
            Self::Revocation => "revocation",
            Self::Logout => "logout",
            Self::Ciba => "CIBA endpoint",
        })
    }
}

/// The `error` member of an OAuth answer (RFC 6749 §5.2, RFC 6750 §3.1, CIBA §11 and §13).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The client is not known, or its certificate is not the registered one.
    InvalidClient,
    /// The code, the refresh token or the request to log in is used up, expired or of someone else.
    InvalidGrant,
    /// The request is not as it should be.
    InvalidRequest,
    /// The client may not use this way of logging in.
    UnauthorizedClient,
    /// The way of logging in is not offered.
    UnsupportedGrantType,
    /// A scope is not allowed.
    InvalidScope,
    /// The access token is not accepted.
    InvalidToken,
    /// The user, or PSC, refused.
    AccessDenied,
    /// A login without questions was not possible.
    LoginRequired,
    /// CIBA: the user has not answered yet.
    AuthorizationPending,
    /// CIBA: asked too often.
    SlowDown,
    /// CIBA: the user did not answer in time.
    ExpiredToken,
    /// CIBA: no such user.
    UnknownUserId,
    /// CIBA: the two digits are not accepted.
    InvalidBindingMessage,
    /// PSC has a fault.
    ServerError,
    /// PSC is overloaded.
    TemporarilyUnavailable,
    /// Another one, cut at 64 characters.
    Other(Said),
}

impl ErrorCode {
    /// The value as it stands in an answer.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        match value {
            "invalid_client" => Self::InvalidClient,
            "invalid_grant" => Self::InvalidGrant,
            "invalid_request" => Self::InvalidRequest,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "invalid_scope" => Self::InvalidScope,
            "invalid_token" => Self::InvalidToken,
            "access_denied" => Self::AccessDenied,
            "login_required" | "interaction_required" | "consent_required" => Self::LoginRequired,
            "authorization_pending" => Self::AuthorizationPending,
            "slow_down" => Self::SlowDown,
            "expired_token" => Self::ExpiredToken,
            "unknown_user_id" => Self::UnknownUserId,
            "invalid_binding_message" => Self::InvalidBindingMessage,
            "server_error" => Self::ServerError,
            "temporarily_unavailable" => Self::TemporarilyUnavailable,
            other => Self::Other(Said::new(other)),
        }
    }

    fn meaning(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidClient => (
                "the Client ID is unknown or the certificate is not the one registered for it",
                "check that the ORG_AUTH_CLI certificate has the Client ID as CN, is in date and is declared at Pro Santé Connect",
            ),
            Self::InvalidGrant => (
                "the code or the token was used already, has expired or belongs to another client",
                "log in again",
            ),
            Self::UnauthorizedClient | Self::UnsupportedGrantType => (
                "this way of logging in is not enabled for the Client ID",
                "have it enabled in the service management of Pro Santé Connect",
            ),
            Self::InvalidScope => (
                "a scope is not allowed for the Client ID",
                "check the scopes against the Datapass authorisation",
            ),
            Self::InvalidToken => ("the access token is not valid any more", "log in again"),
            Self::AccessDenied => (
                "the user refused, or is not entitled",
                "try again; if the user did not refuse, call the support of Pro Santé Connect",
            ),
            Self::LoginRequired => ("the user has to log in", "start a login"),
            Self::AuthorizationPending => (
                "the user has not confirmed yet",
                "ask again after the interval",
            ),
            Self::SlowDown => ("asked too often", "ask again after a longer interval"),
            Self::ExpiredToken => ("the user did not confirm in time", "start a new login"),
            Self::UnknownUserId => (
                "Pro Santé Connect does not know this national id",
                "check the national id of the professional",
            ),
            Self::InvalidBindingMessage => ("the two digits are not accepted", "start a new login"),
            Self::ServerError | Self::TemporarilyUnavailable => (
                "Pro Santé Connect has a fault or too much to do",
                "try again later; see the status page of Pro Santé Connect",
            ),
            Self::InvalidRequest | Self::Other(_) => (
                "Pro Santé Connect does not accept the request as it is",
                "check Client ID, return address and scopes against the registration",
            ),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidToken => "invalid_token",
            Self::AccessDenied => "access_denied",
            Self::LoginRequired => "login_required",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::UnknownUserId => "unknown_user_id",
            Self::InvalidBindingMessage => "invalid_binding_message",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::Other(said) => &said.0,
        })
    }
}

/// A text of the other side, made fit for a log: 200 characters at most, no control characters, and
/// words long enough to be a token are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said(String);

impl Said {
    const LONGEST: usize = 200;
    const LONGEST_WORD: usize = 64;

    pub(crate) fn new(text: &str) -> Self {
        let mut kept = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
            if word.is_empty() {
                continue;
            }
            let word = if word.chars().count() > Self::LONGEST_WORD {
                "…"
            } else {
                word
            };
            if kept.chars().count() + word.chars().count() >= Self::LONGEST {
                break;
            }
            if !kept.is_empty() {
                kept.push(' ');
            }
            kept.push_str(word);
        }
        Self(kept)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "(no text)"
        } else {
            &self.0
        })
    }
}

/// A failure with Pro Santé Connect.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PscError {
    /// It could not be asked, or its answer could not be read.
    #[error("Pro Santé Connect, {endpoint}: {failure}")]
    Transport {
        /// Where.
        endpoint: Endpoint,
        /// What happened.
        #[source]
        failure: TransportError,
    },
    /// It said no, in OAuth's words.
    #[error("Pro Santé Connect, {endpoint}, answered `{code}`: {said}")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// The code.
        code: ErrorCode,
        /// The text with it.
        said: Said,
    },
    /// It answered with a status that says nothing more.
    #[error("Pro Santé Connect, {endpoint}, answered with status {status}")]
    Status {
        /// Where.
        endpoint: Endpoint,
        /// HTTP status.
        status: u16,
    },
    /// Its answer is not what the standard asks for.
    #[error("Pro Santé Connect, {endpoint}: the answer is not usable: {what}")]
    Malformed {
        /// Where.
        endpoint: Endpoint,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The discovery document is one of another issuer.
    #[error("the discovery document is of issuer `{found}`, expected `{expected}`")]
    WrongIssuer {
        /// The configured issuer.
        expected: String,
        /// The issuer in the document.
        found: Said,
    },
    /// The discovery document does not name an address that is needed.
    #[error("the discovery document of Pro Santé Connect does not name its {0}")]
    NoEndpoint(Endpoint),
    /// A token did not stand the checks.
    #[error("{token} refused: {fault}")]
    Token {
        /// Which token.
        token: TokenKind,
        /// Why.
        #[source]
        fault: TokenFault,
    },
    /// The user's return from PSC did not stand the checks.
    #[error("return from Pro Santé Connect refused: {0}")]
    Callback(#[from] CallbackFault),
    /// UserInfo is of someone else than the token.
    #[error("UserInfo is of another user than the token")]
    OtherUser,
    /// CIBA: the one who confirmed is not the one who was asked, or PSC names nobody.
    #[error("another professional confirmed than the one who was asked")]
    OtherConfirmed,
    /// UserInfo came encrypted. It is not read: a client that is known by its certificate (`tls_client_auth`) has
    /// registered no key to encrypt for. Have the registration of the client set to JSON or signed answers.
    #[error("UserInfo came encrypted")]
    EncryptedUserInfo,
    /// The session is over.
    #[error("the session at Pro Santé Connect is over: {0}")]
    SessionEnded(SessionEnd),
    /// The failure of a moment ago still counts: nothing was asked.
    #[error("Pro Santé Connect, {endpoint}, failed a moment ago; it is asked again in {seconds} s")]
    BackingOff {
        /// Where.
        endpoint: Endpoint,
        /// Until when, in seconds.
        seconds: u64,
    },
    /// A task of this process ended before its time.
    #[error("the work was interrupted")]
    Interrupted,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// PSC sessions last 4 h at most.
    #[error("it reached its longest life")]
    TooOld,
    /// PSC does not renew it (`invalid_grant`): logout elsewhere, or too long without use.
    #[error("Pro Santé Connect does not renew it")]
    NotRenewed,
    /// There is no refresh token, and the access token is used up.
    #[error("there is no refresh token")]
    NoRefreshToken,
    /// It was ended here.
    #[error("it was closed")]
    Closed,
}

/// Why a return from the login page is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallbackFault {
    /// A parameter is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A parameter stands twice.
    #[error("`{0}` stands twice")]
    Repeated(&'static str),
    /// The query is too long.
    #[error("the query is too long")]
    TooLong,
    /// `state` is not the one of this login: another tab, another browser, or an attack.
    #[error("`state` is not the one of this login")]
    State,
    /// `iss` is of another provider (RFC 9207).
    #[error("`iss` is of another provider")]
    Issuer,
    /// The login took too long.
    #[error("the login took too long")]
    Late,
}

/// Whether this HTTP status is of a moment: the server's fault (5xx), or too many requests (429).
pub(crate) fn is_temporary(status: u16) -> bool {
    status >= 500 || status == 429
}

impl PscError {
    /// What it means, for an operator.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        self.explained().0
    }

    /// What to do about it, for an operator.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.explained().1
    }

    /// Whether the same request may succeed later without anyone doing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { failure, .. } => failure.is_temporary(),
            Self::Status { status, .. } => is_temporary(*status),
            // PSC signs with a key that was not published when the keys were read last; nobody else makes up a token
            // that comes from PSC itself.
            Self::Token {
                token: TokenKind::Id | TokenKind::UserInfo,
                fault: TokenFault::UnknownKey,
            } => true,
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::ServerError | ErrorCode::TemporarilyUnavailable
            ),
            Self::BackingOff { .. } | Self::Interrupted => true,
            _ => false,
        }
    }

    fn explained(&self) -> (&'static str, &'static str) {
        match self {
            Self::Transport { failure, .. } => failure.explained(),
            Self::Refused { code, .. } => code.meaning(),
            Self::Status { status, .. } if *status == 401 || *status == 403 => (
                "Pro Santé Connect does not accept the certificate or the token",
                "check the ORG_AUTH_CLI certificate: CN is the Client ID, in date, declared at Pro Santé Connect",
            ),
            Self::Status { .. } => (
                "Pro Santé Connect, or a proxy before it, has a fault",
                "try again later; see the status page of Pro Santé Connect",
            ),
            Self::EncryptedUserInfo => (
                "Pro Santé Connect encrypts UserInfo for this Client ID, which has no key to read it",
                "have UserInfo set to JSON or to signed answers in the service management of Pro Santé Connect",
            ),
            Self::Malformed { .. } | Self::NoEndpoint(_) => (
                "something else than Pro Santé Connect answered, or it changed its answers",
                "check the issuer and that no proxy answers in its place; if both are right, report it",
            ),
            Self::WrongIssuer { .. } => (
                "sandbox and production are mixed up, or something else answered",
                "check the issuer in the configuration",
            ),
            Self::Token { fault, .. } => fault.explained(),
            Self::Callback(CallbackFault::Late) => {
                ("the user took too long to log in", "start a new login")
            }
            Self::Callback(_) => (
                "the return is not of a login started here, or was changed on its way",
                "start a new login from the first page; if it happens again, report it",
            ),
            Self::OtherUser => (
                "two users' answers were mixed up",
                "log in again; if it happens again, report it",
            ),
            Self::OtherConfirmed => (
                "the login was confirmed with the means of somebody else, or Pro Santé Connect does not say whose",
                "start a new login with the national id of the professional who confirms; if it happens again, report it",
            ),
            Self::SessionEnded(_) => ("the user has to log in again", "start a new login"),
            Self::BackingOff { .. } | Self::Interrupted => {
                ("Pro Santé Connect could not be asked just now", "try again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::GateError;

    #[test]
    fn a_token_in_an_error_text_is_left_out() {
        let token = "eyJ".repeat(60);
        let said = Said::new(&format!("bad\r\ntoken {token} for you"));
        assert_eq!(said.to_string(), "bad token … for you");
    }

    /// One of each, with a token wherever PSC gives a text.
    fn every_error() -> Vec<PscError> {
        let said = || Said::new(&"eyJ".repeat(60));
        let endpoint = Endpoint::Token;
        let codes = [
            "invalid_client",
            "invalid_grant",
            "invalid_request",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_token",
            "access_denied",
            "login_required",
            "authorization_pending",
            "slow_down",
            "expired_token",
            "unknown_user_id",
            "invalid_binding_message",
            "server_error",
            "temporarily_unavailable",
        ];
        let mut codes: Vec<_> = codes.map(ErrorCode::parse).into();
        assert!(!codes.iter().any(|code| matches!(code, ErrorCode::Other(_))));
        codes.push(ErrorCode::parse(&"eyJ".repeat(60)));
        let mut all: Vec<_> = codes
            .into_iter()
            .map(|code| PscError::Refused {
                endpoint,
                code,
                said: said(),
            })
            .collect();
        let failures = [
            TransportError::Unreachable(said()),
            TransportError::Tls(said()),
            TransportError::Timeout(std::time::Duration::from_secs(10)),
            TransportError::TooLarge { limit: 1 },
            TransportError::Redirected { status: 302 },
            TransportError::NotHttps,
            TransportError::Broken(said()),
        ];
        all.extend(failures.map(|failure| PscError::Transport { endpoint, failure }));
        all.extend([401, 403, 404, 500].map(|status| PscError::Status { endpoint, status }));
        let faults = [
            TokenFault::TooLong { found: 2, limit: 1 },
            TokenFault::NotJws("it has two segments"),
            TokenFault::Algorithm(said()),
            TokenFault::UnknownKey,
            TokenFault::Signature,
            TokenFault::Repeated(said()),
            TokenFault::Missing("sub"),
            TokenFault::Mismatch("iss"),
            TokenFault::Mismatch("aud"),
            TokenFault::Expired { seconds: 1 },
            TokenFault::Future {
                claim: "iat",
                seconds: 40,
            },
            TokenFault::Age("iat"),
            TokenFault::Acr(said()),
            TokenFault::OtherCertificate,
            TokenFault::Replayed,
            TokenFault::Library(said()),
        ];
        let kinds = [
            TokenKind::Id,
            TokenKind::Access,
            TokenKind::Logout,
            TokenKind::UserInfo,
        ];
        for token in kinds {
            all.extend(
                faults
                    .iter()
                    .cloned()
                    .map(|fault| PscError::Token { token, fault }),
            );
        }
        let returns = [
            CallbackFault::Missing("code"),
            CallbackFault::Repeated("code"),
            CallbackFault::TooLong,
            CallbackFault::State,
            CallbackFault::Issuer,
            CallbackFault::Late,
        ];
        all.extend(returns.map(PscError::Callback));
        let ends = [
            SessionEnd::TooOld,
            SessionEnd::NotRenewed,
            SessionEnd::NoRefreshToken,
            SessionEnd::Closed,
        ];
        all.extend(ends.map(PscError::SessionEnded));
        all.extend([
            PscError::Malformed {
                endpoint,
                what: "no `access_token`",
            },
            PscError::WrongIssuer {
                expected: "https://psc.example".into(),
                found: said(),
            },
            PscError::NoEndpoint(endpoint),
            PscError::OtherUser,
            PscError::OtherConfirmed,
            PscError::EncryptedUserInfo,
            PscError::BackingOff {
                endpoint,
                seconds: 1,
            },
            PscError::Interrupted,
        ]);
        all
    }

    #[test]
    fn every_error_says_what_it_means_and_what_to_do_and_shows_no_token() {
        let sentences = |(meaning, remedy): (&str, &str)| {
            meaning.len() > 10 && remedy.len() > 8 && meaning != remedy
        };
        for error in every_error() {
            assert!(sentences((error.meaning(), error.remedy())), "{error:?}");
            let shown = format!("{error} {error:?} {} {}", error.meaning(), error.remedy());
            assert!(!shown.contains("eyJ"), "{shown}");
        }
        let mut refusals: Vec<_> = every_error()
            .into_iter()
            .filter_map(|error| match error {
                PscError::Token {
                    token: TokenKind::Access,
                    fault,
                } => Some(GateError::Refused(fault)),
                _ => None,
            })
            .collect();
        refusals.extend([
            GateError::Inactive,
            GateError::Client("client".into()),
            GateError::Busy,
            GateError::Unavailable {
                cause: std::sync::Arc::new(PscError::Interrupted),
                retry_after: std::time::Duration::from_secs(5),
            },
        ]);
        for refusal in refusals {
            assert!(sentences(refusal.explained()), "{refusal:?}");
            assert!(!format!("{refusal} {refusal:?}").contains("eyJ"));
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        assert!(Said::new(&"mot ".repeat(500)).0.chars().count() <= Said::LONGEST);
    }
}
