//! What a supervisor asks of the proxy, on a port of its own.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::admin::{Metrics, vitals};

use super::Proxy;

/// `GET /health/live`, `/health/ready`, `/metrics`, `/version`.
pub(super) fn router(proxy: &Arc<Proxy>, metrics: Metrics, stop: CancellationToken) -> Router {
    let proxy = Arc::clone(proxy);
    let ready = async move || ready(&proxy, &stop);
    vitals(metrics).route("/health/ready", get(ready))
}

/// 200 until the proxy is told to stop. Pro Santé Connect away is no reason: sessions that are open go on.
fn ready(proxy: &Proxy, stop: &CancellationToken) -> Response {
    let (status, word) = if stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else {
        (StatusCode::OK, "ready")
    };
    let body = serde_json::json!({ "status": word, "sessions": proxy.sessions.count() });
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
