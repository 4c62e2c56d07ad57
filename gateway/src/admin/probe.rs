//! The public health check: whether the service is up, told to anybody and telling nothing else.
//!
//! It is what the service weather of the network asks on `db` and `vi` names, without certificate
//! and without token.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{AddressList, Readiness};
use crate::dicomweb::problem::Problem;
use crate::net::{Connection, ResourceName};

/// What the public health check answers with.
pub struct Probe {
    /// Paths from the root of every name.
    pub paths: Vec<String>,
    /// Host name → name of its PACS.
    pub pacs: HashMap<String, String>,
    /// Who is answered; `None`: everybody.
    pub addresses: Option<AddressList>,
    /// What is known of the PACS.
    pub readiness: Arc<dyn Readiness>,
}

impl Probe {
    /// The health check in front of a router, which gets everything else.
    pub fn before(self: &Arc<Self>, router: Router) -> Router {
        let mut probe = Router::new();
        for path in &self.paths {
            probe = probe.route(path, get(answer).with_state(Arc::clone(self)));
        }
        probe.fallback_service(router)
    }

    /// Up while the PACS of the name answers and the service is not stopping.
    async fn is_up(&self, host: &str) -> bool {
        let Some(name) = self.pacs.get(host) else {
            return false;
        };
        let pacs = self.readiness.pacs().await;
        !self.readiness.stopping() && pacs.iter().any(|pacs| pacs.name == *name && pacs.up)
    }
}

async fn answer(
    State(probe): State<Arc<Probe>>,
    Extension(connection): Extension<Connection>,
) -> Response {
    let known = probe.addresses.as_ref();
    if known.is_some_and(|known| !known.holds(connection.remote.ip())) {
        return Problem::not_found("there is no resource at this path").into_response();
    }
    let up = match connection.host.as_deref() {
        Some(host) => probe.is_up(host).await,
        None => false,
    };
    let (status, body) = if up {
        (StatusCode::OK, "{\"status\":\"up\"}\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"down\"}\n")
    };
    let fields = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut answer = (status, fields, body).into_response();
    answer.extensions_mut().insert(ResourceName("healthcheck"));
    answer
}
