//! Health, metrics and version, on their own port: what a supervisor asks.
//!
//! Nothing of that names a patient or a study, or changes anything. What does is below `/api`, for
//! whoever has the token of the administrator.

mod acme;
mod addresses;
mod certificates;
mod exams;
mod fetches;
mod metrics;
mod probe;
mod token;
mod trust;

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use acme::{AcmeApi, OfAuthority, OfName};
pub use addresses::{AddressList, AddressListError};
pub use certificates::CertificatesApi;
pub use exams::ExamsApi;
pub use fetches::{FetchRecord, FetchesApi};
pub use metrics::{Kind, METRICS, Metric, Metrics};
pub use probe::Probe;
pub use token::{AdminToken, AdminTokenError};
pub use trust::{Refresh, Refreshed, TrustApi};

/// What the parts of the gateway know about their own state. Asked at each `/health/ready`; answers
/// from memory, without asking the PACS.
pub trait Readiness: Send + Sync + 'static {
    /// Every configured PACS, in the order of the configuration.
    fn pacs(&self) -> BoxFuture<'_, Vec<PacsHealth>>;

    /// The cache.
    fn cache(&self) -> CacheHealth;

    /// True from the moment the service is told to stop.
    fn stopping(&self) -> bool;
}

/// The state of one PACS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacsHealth {
    /// Its name in the configuration.
    pub name: String,
    /// Whether the last exchange with it went well.
    pub up: bool,
    /// Since when it is in that state.
    pub since: SystemTime,
    /// Kind of the last failure, a fixed word such as `timeout` or `association_rejected`; kept
    /// while the PACS is up again.
    pub last_error_kind: Option<&'static str>,
}

/// The state of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheHealth {
    /// True when images pass through without being kept (disk full or failing).
    pub degraded: bool,
    /// Complete series kept.
    pub series: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Bytes kept at most.
    pub max_bytes: u64,
}

/// `GET /health/live`, `/health/ready`, `/metrics`, `/version`.
pub fn router(readiness: Arc<dyn Readiness>, metrics: Metrics) -> Router {
    vitals(metrics).route("/health/ready", get(ready).with_state(readiness))
}

/// What is the same for every process of this binary: `GET /health/live`, `/metrics`, `/version`.
pub fn vitals(metrics: Metrics) -> Router {
    Router::new()
        .route("/health/live", get(async || "ok\n"))
        .route("/metrics", get(render).with_state(metrics))
        .route("/version", get(version))
}

/// 200 while at least one PACS answers and the service is not stopping, else 503.
///
/// One PACS down among several leaves the others to be served, and a degraded cache still lets
/// images through: both show in the body and in the metrics, not in the status.
async fn ready(State(readiness): State<Arc<dyn Readiness>>) -> Response {
    let pacs = readiness.pacs().await;
    let up = pacs.iter().filter(|pacs| pacs.up).count();
    let (status, word) = match up {
        _ if readiness.stopping() => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        0 => (StatusCode::SERVICE_UNAVAILABLE, "down"),
        up if up < pacs.len() => (StatusCode::OK, "partial"),
        _ => (StatusCode::OK, "ready"),
    };
    let pacs: Vec<_> = pacs.iter().map(pacs_state).collect();
    let body = json!({ "status": word, "pacs": pacs, "cache": readiness.cache() });
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn pacs_state(pacs: &PacsHealth) -> serde_json::Value {
    // A clock before 1970 or after year 9999 has no RFC 3339 form: null then.
    let since = OffsetDateTime::from(pacs.since).format(&Rfc3339).ok();
    json!({
        "name": pacs.name,
        "up": pacs.up,
        "since": since,
        "last_error_kind": pacs.last_error_kind,
    })
}

async fn render(State(metrics): State<Metrics>) -> impl IntoResponse {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], metrics.render())
}

async fn version() -> impl IntoResponse {
    Json(json!({ "name": "drimbox", "version": env!("CARGO_PKG_VERSION") }))
}

#[cfg(test)]
mod tests;
