//! `/api/fetches`: what `drimbox fetch` writes to the audit trail while the service holds it.
//!
//! `POST` records that images of another DRIMbox are asked for, with `follows` how that ended, or with
//! `bypassed` that a DRIMbox was believed by the bypass alone, and answers the number of the record. For whoever has the token of the administrator.

use axum::extract::State;
use axum::middleware;
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AdminToken;
use super::trust::authorize;
use crate::audit::{Actor, Audit, Kind, Object, Outcome, Peer, Sequence, Text};
use crate::dicomweb::problem::Problem;

/// What the route needs.
#[derive(Clone)]
pub struct FetchesApi {
    /// Where fetches are recorded.
    pub audit: Audit,
    /// Who may come in.
    pub token: AdminToken,
}

/// The beginning or the end of a fetch, or a use of the bypass by one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRecord {
    /// Which images.
    pub object: Object,
    /// How it went.
    pub outcome: Outcome,
    /// The record of its beginning; `None`: it begins.
    #[serde(default)]
    pub follows: Option<Sequence>,
    /// Subject of the certificate of a DRIMbox that was believed only because missing or expired
    /// revocation lists are bypassed: the record is about that.
    #[serde(default)]
    pub bypassed: Option<Text>,
}

impl FetchRecord {
    /// Writes it to a trail.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub async fn write(self, audit: &Audit) -> Result<Sequence, crate::audit::AuditError> {
        let kind = match (&self.bypassed, self.follows) {
            (Some(_), _) => Kind::BypassUsed,
            (None, None) => Kind::FetchStarted,
            (None, Some(_)) => Kind::FetchEnded,
        };
        let actor = Actor {
            account: Some("drimbox fetch".into()),
            peer: self.bypassed.map(|subject| Peer {
                subject: Some(subject),
                ..Peer::default()
            }),
            ..Actor::default()
        };
        let event = audit.event(kind).by(actor).on(self.object);
        let event = event.ending(self.outcome);
        audit
            .record(match self.follows {
                None => event,
                Some(begun) => event.following(begun),
            })
            .await
    }
}

impl FetchesApi {
    /// The route.
    pub fn router(self) -> Router {
        let authorized = middleware::from_fn_with_state(self.token.clone(), authorize);
        Router::new()
            .route("/api/fetches", post(record))
            .layer(authorized)
            .with_state(self)
    }
}

async fn record(
    State(api): State<FetchesApi>,
    Json(record): Json<FetchRecord>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let recorded = record.write(&api.audit).await.map_err(|error| {
        tracing::error!("a fetch cannot be recorded: {error}");
        Problem::internal()
    })?;
    Ok((StatusCode::CREATED, Json(json!({ "sequence": recorded }))))
}
