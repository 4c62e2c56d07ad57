//! Answers of the proxy: the error body of the contract, and the cookie.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use psc_auth::{ErrorCode, PscError};
use serde::Serialize;

/// Name of the cookie, by the contract.
pub(super) const COOKIE: &str = "proxy_session_id";

/// Why a request is not served: a status and a French sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

/// Whose request it was, as far as it was said.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) national_id: Option<String>,
    pub(super) client_id: Option<String>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: String,
    message: &'a str,
    metadata: &'a Metadata,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// No session, or not any more.
    pub(super) fn no_session() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "aucune session en cours : se connecter par /connect",
        )
    }

    /// What a failure at Pro Santé Connect is to the software: 401 when it says no, 503 when it cannot be asked.
    pub(super) fn of_psc(error: &PscError) -> Self {
        let away = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Pro Santé Connect n'est pas joignable ou pas en état de répondre : réessayer plus tard",
        );
        let refused = |message: &str| Self::new(StatusCode::UNAUTHORIZED, message);
        match error {
            error if error.is_temporary() => away,
            PscError::Refused { code, .. } => match code {
                ErrorCode::AccessDenied => refused("le professionnel a refusé la connexion"),
                ErrorCode::ExpiredToken => {
                    refused("le professionnel n'a pas confirmé dans le temps imparti")
                }
                ErrorCode::UnknownUserId => {
                    refused("Pro Santé Connect ne connaît pas cet identifiant national")
                }
                ErrorCode::InvalidClient
                | ErrorCode::UnauthorizedClient
                | ErrorCode::UnsupportedGrantType => refused(
                    "Pro Santé Connect refuse ce Client ID ou son certificat : prévenir l'exploitant du proxy",
                ),
                _ => refused("Pro Santé Connect refuse la connexion"),
            },
            PscError::OtherConfirmed => {
                refused("la connexion a été confirmée par un autre professionnel que celui demandé")
            }
            PscError::Token { .. } | PscError::SessionEnded(_) => {
                refused("la session à Pro Santé Connect est terminée : se connecter à nouveau")
            }
            PscError::Status { .. } => refused("Pro Santé Connect refuse la connexion"),
            _ => away,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn into_answer(self) -> Response {
        self.with(&Metadata::default())
    }

    pub(super) fn with(&self, metadata: &Metadata) -> Response {
        let body = ErrorBody {
            code: self.status.as_str().to_owned(),
            message: &self.message,
            metadata,
        };
        json(self.status, &body)
    }
}

/// A JSON answer that nobody keeps.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = empty(status);
    *answer.body_mut() = Body::from(text);
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    answer
}

/// An answer without body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Gives the cookie, or takes it away when there is no id.
pub(super) fn set_cookie(answer: &mut Response, id: Option<(&str, u64)>, secure: bool) {
    let (value, seconds) = id.unwrap_or_default();
    let secure = if secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
}

/// The session id of a request's cookie.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    let first = pairs.next()?;
    // Two of them: somebody planted one.
    pairs.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(cookies: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        headers
    }

    #[test]
    fn the_cookie_is_found_among_others_and_not_taken_when_there_are_two() {
        let among = headers(&["a=b; proxy_session_id=abc", "c=d"]);
        assert_eq!(cookie(&among), Some("abc"));
        let two = headers(&["proxy_session_id=abc", "proxy_session_id=planted"]);
        assert_eq!(cookie(&two), None);
        assert_eq!(cookie(&headers(&["xproxy_session_id=abc"])), None);
    }

    #[test]
    fn a_cookie_is_taken_away_with_an_age_of_zero() {
        let mut answer = empty(StatusCode::UNAUTHORIZED);
        set_cookie(&mut answer, None, true);
        let text = answer.headers().get(header::SET_COOKIE).unwrap();
        let text = text.to_str().unwrap();
        assert!(text.starts_with("proxy_session_id=; Path=/; Max-Age=0; HttpOnly"));
        assert!(text.ends_with("; Secure"));
    }
}
