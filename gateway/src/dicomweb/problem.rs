//! What an HTTP error says, and the one place where it becomes a response.
//!
//! A problem never repeats a UID, a key's value or any other text of the request that could speak
//! of a patient: it names the parameter, not what was in it.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};

/// A text of a [`Problem`]: fixed, or built from the names of parameters.
pub type Text = Cow<'static, str>;

/// An error as the client sees it (RFC 9457, and the status report of PS3.18 §8.5).
///
/// As a response it also carries itself as an extension, so that the listener can write it again
/// with the request's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: Text,
    remedy: Option<Text>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    length: Option<u64>,
}

impl Problem {
    /// 400: the request is not well formed; `remedy` says how to write it.
    pub fn bad_request(detail: impl Into<Text>, remedy: impl Into<Text>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).remedy(remedy)
    }

    /// 401: no valid credentials.
    pub fn unauthorized(detail: impl Into<Text>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403: known, and not allowed.
    pub fn forbidden(detail: impl Into<Text>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404: nothing there that this client may know of.
    pub fn not_found(detail: impl Into<Text>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405: the resource exists, not with this method; `allow` is the list for the header.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this resource does not offer the method of the request",
        );
        Self {
            allow: Some(allow),
            ..problem
        }
    }

    /// 406: it exists, not in a form the client accepts; `remedy` says what to ask for.
    pub fn not_acceptable(detail: impl Into<Text>, remedy: impl Into<Text>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, detail).remedy(remedy)
    }

    /// 408: the body of the request did not come in time (RFC 9110 §15.5.9).
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body of the request did not come in time",
        )
        .remedy("send the body together with the head of the request")
    }

    /// 410: it was there when it was last asked for, and is no more (PS3.18 §8.5).
    pub fn gone(detail: impl Into<Text>) -> Self {
        Self::new(StatusCode::GONE, detail)
    }

    /// 413: more than the gateway takes, or gives in one answer (PS3.18 §10.6.3.2).
    pub fn content_too_large(detail: impl Into<Text>, remedy: impl Into<Text>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).remedy(remedy)
    }

    /// 416: the range asked for lies outside the `length` bytes there are (RFC 9110 §15.5.17).
    #[must_use]
    pub fn range_not_satisfiable(length: u64) -> Self {
        let problem = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "the range lies outside the value",
        );
        Self {
            length: Some(length),
            ..problem.remedy("leave the Range field out")
        }
    }

    /// 421: the host asked for is not the one this connection was opened to (RFC 9110 §15.5.20).
    #[must_use]
    pub fn misdirected() -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "the host of the request is not the one this TLS connection was opened for",
        )
        .remedy("open a connection of its own for each host name")
    }

    /// 431: the head of the request is larger than the configured limit.
    #[must_use]
    pub fn header_too_large() -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the head of the request is larger than this service reads",
        )
        .remedy("send fewer or shorter header fields and query parameters")
    }

    /// 500: a defect of the gateway; the log has the reason under the request's id.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the gateway failed on this request",
        )
        .remedy("give the request id to the administrator of the gateway")
    }

    /// 502: the archive answered with a failure, or not as it should.
    pub fn bad_gateway(detail: impl Into<Text>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, detail)
    }

    /// 503: not now; `after` becomes `Retry-After` in whole seconds, one at least.
    pub fn unavailable(detail: impl Into<Text>, after: Duration) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        Self {
            retry_after: Some(after),
            ..problem
        }
    }

    /// 504: the archive did not answer in time.
    pub fn gateway_timeout(detail: impl Into<Text>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, detail)
    }

    /// Adds what the client, or its administrator, can do.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<Text>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// The status it becomes.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response, with the request's id in the body when there is one.
    #[must_use]
    pub fn response(&self, request_id: Option<&str>) -> Response {
        let mut response = Response::new(Body::from(self.body(request_id)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(length) = self.length {
            let range = HeaderValue::from_str(&format!("bytes */{length}"));
            headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.clone());
        response
    }

    fn new(status: StatusCode, detail: impl Into<Text>) -> Self {
        Self {
            status,
            detail: detail.into(),
            remedy: None,
            retry_after: None,
            allow: None,
            length: None,
        }
    }

    fn body(&self, request_id: Option<&str>) -> String {
        let mut report = serde_json::json!({
            "status": self.status.as_u16(),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "detail": self.detail,
        });
        if let Some(members) = report.as_object_mut() {
            let optional = [
                ("remedy", self.remedy.as_deref()),
                ("requestId", request_id),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    members.insert(name.to_owned(), value.into());
                }
            }
        }
        report.to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_body_says_what_happened_and_what_to_do() {
        let problem = Problem::not_acceptable("no form fits", "ask for transfer-syntax=*");
        let response = problem.response(Some("ab-1"));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "status": 406, "title": "Not Acceptable", "detail": "no form fits",
                "remedy": "ask for transfer-syntax=*", "requestId": "ab-1",
            })
        );
    }

    #[test]
    fn a_refusal_for_now_says_when_to_come_back() {
        let at_once = Problem::unavailable("busy", Duration::ZERO).into_response();
        assert_eq!(at_once.headers()[RETRY_AFTER], "1");
        let later = Problem::unavailable("busy", Duration::from_secs(30)).into_response();
        assert_eq!(later.headers()[RETRY_AFTER], "30");
    }

    #[test]
    fn statuses_carry_the_fields_http_requires_with_them() {
        assert_eq!(
            Problem::method_not_allowed("GET, HEAD")
                .into_response()
                .headers()[ALLOW],
            "GET, HEAD"
        );
        assert!(
            Problem::unauthorized("no token")
                .into_response()
                .headers()
                .contains_key(WWW_AUTHENTICATE)
        );
    }
}
