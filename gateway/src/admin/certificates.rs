//! `GET /api/certificates`: the inventory, as `drimbox certs list --format json` has it, for an
//! administrator with the token.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use time::OffsetDateTime;

use super::AdminToken;
use crate::certs::inventory::Inventory;
use crate::certs::report;
use crate::dicomweb::problem::Problem;

/// What the route needs.
#[derive(Clone)]
pub struct CertificatesApi {
    /// The certificates.
    pub inventory: Arc<Inventory>,
    /// Who may come in.
    pub token: AdminToken,
}

impl CertificatesApi {
    /// The route.
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/certificates", get(list))
            .with_state(self)
    }
}

async fn list(State(api): State<CertificatesApi>, headers: HeaderMap) -> Response {
    if !api.token.is_in(&headers) {
        return Problem::unauthorized("the token of the administrator is needed")
            .remedy("it stands in admin.token in the data folder of the service")
            .into_response();
    }
    // Files may have changed since the last look: they are read anew.
    let examined = tokio::task::spawn_blocking(move || {
        let now = OffsetDateTime::now_utc();
        json!({
            "certificates": report::json(&api.inventory.examine(now), now),
            "presented": report::presented_json(&api.inventory.presented(now), now),
        })
    });
    let Ok(certificates) = examined.await else {
        return Problem::internal().into_response();
    };
    let mut answer = axum::Json(certificates).into_response();
    let value = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(CACHE_CONTROL, value);
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use http::{Request, StatusCode};
    use secrecy::ExposeSecret as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::certs::place::Role;

    #[tokio::test]
    async fn the_inventory_is_for_whoever_has_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let api = CertificatesApi {
            inventory: Arc::new(Inventory::new(
                vec![crate::certs::alerts::testdata::place("local", Role::Local)],
                folder.path(),
            )),
            token: AdminToken::load_or_make(folder.path()).unwrap(),
        };
        let field = api.token.field();
        let router = api.router();
        let ask = |field: Option<&str>| {
            let mut request = Request::get("/api/certificates");
            if let Some(field) = field {
                request = request.header("authorization", field);
            }
            router.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        for field in [None, Some("Bearer 00")] {
            let answer = ask(field).await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        }
        let answer = ask(Some(field.expose_secret())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let first = body.pointer("/certificates/0").unwrap();
        assert_eq!(first.get("place").unwrap(), "local");
        assert_eq!(first.get("status").unwrap(), "critical");
    }
}
