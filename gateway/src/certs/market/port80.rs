//! Port 80: the answers to challenges (RFC 8555 §8.3), and the way to https for browsers. Nothing else.
//!
//! ANS FAQ C17: challenges are one of the few flows that stay in clear.

use std::sync::Arc;

use acme::{CHALLENGE_PATH, Tokens};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::dicomweb::problem::Problem;
use crate::net::ResourceName;

const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

/// What port 80 knows.
#[derive(Debug)]
pub struct Port80 {
    /// The answers to challenges.
    pub tokens: Tokens,
    /// The `vi` names, in lower case.
    pub names: Vec<String>,
    /// The public port of https; `None` for 443.
    pub https_port: Option<u16>,
}

/// Answers port 80.
pub fn router(port80: Port80) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(port80))
}

async fn answer(State(port80): State<Arc<Port80>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::method_not_allowed("GET, HEAD").into_response();
    }
    if let Some(token) = request.uri().path().strip_prefix(CHALLENGE_PATH) {
        return named("challenge", challenge(&port80.tokens, token).await);
    }
    let host = host(&request);
    match host.and_then(|host| port80.names.iter().find(|name| **name == host)) {
        Some(name) => named("redirect", to_https(name, port80.https_port, request.uri())),
        None => Problem::not_found("there is nothing here").into_response(),
    }
}

async fn challenge(tokens: &Tokens, token: &str) -> Response {
    match tokens.answer(token).await {
        Ok(Some(answer)) => {
            let kind = HeaderValue::from_static("application/octet-stream");
            let fresh = HeaderValue::from_static("no-store");
            let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, fresh)];
            (headers, Body::from(answer)).into_response()
        }
        Ok(None) => Problem::not_found("there is no such challenge").into_response(),
        Err(error) => {
            tracing::error!(%error, "challenges cannot be read");
            Problem::internal().into_response()
        }
    }
}

/// The same path under https; the name is ours and never taken from the request.
fn to_https(name: &str, port: Option<u16>, uri: &Uri) -> Response {
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    match HeaderValue::from_str(&format!("https://{name}{port}{path}")) {
        Ok(location) => {
            // The address may be the link of a report: nobody keeps it, repeats it or lists it.
            let headers = [
                (LOCATION, location),
                (CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
                (ROBOTS, HeaderValue::from_static("noindex")),
            ];
            (StatusCode::PERMANENT_REDIRECT, headers).into_response()
        }
        Err(_) => Problem::bad_request("unreadable path", "send another").into_response(),
    }
}

/// The host that the request is for, in lower case, without port.
fn host(request: &Request) -> Option<String> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => request.headers().get(HOST)?.to_str().ok()?.parse().ok()?,
    };
    let host = authority.host();
    Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

fn named(resource: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(ResourceName(resource));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use acme::FileStore;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(method: &str, host: &str, path: &str) -> (StatusCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(Arc::new(FileStore::new(folder.path())));
        tokens.publish("abc", "abc.thumb").await.unwrap();
        let router = router(Port80 {
            tokens,
            names: vec!["vi1.centre.example".into()],
            https_port: None,
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .body(Body::empty())
            .unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let headers = answer.headers();
        let location = headers.get(LOCATION);
        if location.is_some() {
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer");
            assert_eq!(headers[ROBOTS], "noindex");
        }
        let location = location
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            location,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    #[tokio::test]
    async fn a_challenge_is_answered_under_any_name() {
        for host in ["vi1.centre.example", "192.0.2.1"] {
            let path = "/.well-known/acme-challenge/abc";
            let (status, _, body) = ask("GET", host, path).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, "abc.thumb"));
        }
        for path in ["other", "", "../state", "%2e%2e/state", "abc/"] {
            let path = format!("/.well-known/acme-challenge/{path}");
            let (status, _, _) = ask("GET", "vi1.centre.example", &path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn browsers_are_sent_to_https_of_a_known_name_only() {
        let (status, location, _) = ask("GET", "VI1.centre.example:80", "/r/1?a=b").await;
        assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(location, "https://vi1.centre.example/r/1?a=b");
        let (_, location, _) = ask("GET", "vi1.centre.example", "//evil.example/").await;
        assert_eq!(location, "https://vi1.centre.example//evil.example/");
        for host in [
            "evil.example",
            "vi1.centre.example.evil.example",
            "vi1.centre.example@evil.example",
        ] {
            let (status, location, _) = ask("GET", host, "/").await;
            assert_eq!(
                (status, location.as_str()),
                (StatusCode::NOT_FOUND, ""),
                "{host}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_but_get_and_head_is_answered() {
        for method in ["POST", "PUT", "OPTIONS", "TRACE", "DELETE"] {
            let (status, location, _) = ask(method, "vi1.centre.example", "/").await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(location, "");
        }
        let (status, location, _) = ask("HEAD", "vi1.centre.example", "/x").await;
        assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(location, "https://vi1.centre.example/x");
    }
}
