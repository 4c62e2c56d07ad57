//! The page by which a recipient acknowledges the monthly test.
//!
//! Opening the link changes nothing: programs that look at links in mail open them too. The button does.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use time::OffsetDateTime;

use super::Alerts;

/// Path of the page, before the token.
pub const PATH: &str = "/alertes/accuse";
/// A token is 32 bytes in hexadecimal.
const TOKEN_CHARACTERS: usize = 64;

#[derive(Template)]
#[template(path = "alerts/acknowledge.html")]
struct Page {
    state: PageState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageState {
    Asked,
    Done,
    Unknown,
}

/// `GET` and `POST /alertes/accuse/{token}`.
pub fn router(alerts: Alerts) -> Router {
    let path = format!("{PATH}/{{token}}");
    Router::new().route(&path, get(ask).post(done).with_state(alerts))
}

async fn ask(State(alerts): State<Alerts>, Path(token): Path<String>) -> Response {
    let known = is_token(&token) && alerts.knows(&token);
    page(if known {
        PageState::Asked
    } else {
        PageState::Unknown
    })
}

async fn done(State(alerts): State<Alerts>, Path(token): Path<String>) -> Response {
    // Looked up before anything is written: a stranger causes no work.
    if !is_token(&token) || !alerts.knows(&token) {
        return page(PageState::Unknown);
    }
    let now = OffsetDateTime::now_utc();
    let known = tokio::task::spawn_blocking(move || alerts.acknowledge(&token, now)).await;
    page(match known {
        Ok(true) => PageState::Done,
        _ => PageState::Unknown,
    })
}

fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn page(state: PageState) -> Response {
    let status = match state {
        PageState::Unknown => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    let Ok(text) = (Page { state }).render() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = (status, Html(text)).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
