//! `/api/trust`: whom the trust store believes now, for an administrator with the token.
//!
//! `GET` tells, `POST /api/trust/refresh` reads authorities, revocation lists and the white list again,
//! `PUT /api/trust/bypass` lets peers in for a limited time although revocation lists are missing or
//! expired, `DELETE` ends that.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::AdminToken;
use crate::dicomweb::problem::Problem;
use crate::trust::{BypassError, Trust};

/// Reads everything again.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, Vec<Refreshed>> + Send + Sync>;

/// What became of one thing that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// What it is, or where it came from.
    pub what: String,
    /// Why what was there before stays, if it does.
    pub outcome: Result<(), String>,
}

/// What the routes need.
#[derive(Clone)]
pub struct TrustApi {
    /// The trust store.
    pub trust: Trust,
    /// Reads authorities, revocation lists and the white list again.
    pub refresh: Refresh,
    /// Who may come in.
    pub token: AdminToken,
}

impl TrustApi {
    /// The routes.
    pub fn router(self) -> Router {
        let authorized = middleware::from_fn_with_state(self.token.clone(), authorize);
        Router::new()
            .route("/api/trust", get(show))
            .route("/api/trust/refresh", post(refresh))
            .route("/api/trust/bypass", put(open).delete(close))
            .layer(authorized)
            .with_state(self)
    }
}

/// Answers 401 to whoever has not the token of the administrator.
pub(super) async fn authorize(
    State(token): State<AdminToken>,
    request: Request,
    next: Next,
) -> Response {
    if token.is_in(request.headers()) {
        next.run(request).await
    } else {
        Problem::unauthorized("the token of the administrator is needed")
            .remedy("it stands in admin.token in the data folder of the service")
            .into_response()
    }
}

async fn show(State(api): State<TrustApi>) -> Json<Value> {
    let trust = &api.trust;
    let crls = trust.crl_status().into_iter().map(|status| {
        json!({
            "authority": status.authority,
            "in_force": status.in_force,
            "entries": status.list.as_ref().map(|list| list.entries()),
            "next_update": status.list.as_ref().map(|list| moment(list.next_update.as_secs())),
        })
    });
    let list = trust.list_status().map(|status| {
        json!({
            "in_force": status.in_force,
            "domains": status.list.domains().len(),
            "signed": status.list.signing_time.format(&Rfc3339).ok(),
            "confirmed": moment(status.confirmed_at),
        })
    });
    Json(json!({
        "revocation_lists": crls.collect::<Vec<_>>(),
        "white_list": list,
        "bypass": trust.open_bypass().map(|bypass| json!({
            "until": moment(bypass.until),
            "reason": bypass.reason,
        })),
    }))
}

async fn refresh(State(api): State<TrustApi>) -> Json<Value> {
    let all = (api.refresh)().await;
    let told = all.into_iter().map(|one| {
        json!({
            "what": one.what,
            "error": one.outcome.err(),
        })
    });
    Json(json!({ "refreshed": told.collect::<Vec<_>>() }))
}

/// Body of `PUT /api/trust/bypass`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Until when, RFC 3339.
    until: String,
    /// Why, for the audit trail.
    reason: String,
}

async fn open(
    State(api): State<TrustApi>,
    Json(wanted): Json<Wanted>,
) -> Result<StatusCode, Problem> {
    let until = OffsetDateTime::parse(&wanted.until, &Rfc3339).ok();
    let until = until.and_then(|at| u64::try_from(at.unix_timestamp()).ok());
    let until = until.ok_or_else(|| {
        Problem::bad_request(
            "the end of the bypass is no moment",
            "write it as RFC 3339 has it, for example 2026-11-22T08:00:00Z",
        )
    })?;
    let opened = tokio::task::spawn_blocking(move || api.trust.bypass(until, &wanted.reason)).await;
    match opened {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(error @ (BypassError::Duration(_) | BypassError::NoReason))) => Err(
            Problem::bad_request(error.to_string(), "correct it, and send it again"),
        ),
        Ok(Err(error)) => {
            tracing::error!("{error}");
            Err(Problem::internal())
        }
        Err(_) => Err(Problem::internal()),
    }
}

async fn close(State(api): State<TrustApi>) -> Result<StatusCode, Problem> {
    let closed = tokio::task::spawn_blocking(move || api.trust.end_bypass()).await;
    match closed {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(error)) => {
            tracing::error!(%error, "the bypass is closed, but comes back at the next start: its file \
                                     cannot be removed");
            Err(Problem::internal())
        }
        Err(_) => Err(Problem::internal()),
    }
}

/// A moment (Unix seconds) as RFC 3339.
fn moment(seconds: u64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    at.format(&Rfc3339).ok()
}
