//! `/api/acme`: the market certificates that the gateway obtains itself, for an administrator with the token.
//!
//! `GET` tells how each stands and the accounts with the authorities. `POST /api/acme/renew` and
//! `/api/acme/revoke` act on one name, `POST /api/acme/account/roll-over` and `/api/acme/account/deactivate` on one
//! account. What changes something is in the audit trail before it is done, and is done to its end whether or not the
//! client waits for the answer.

use std::time::Duration;

use acme::{AccountStanding, Authority, Cause, Failure, Lifecycle, Reason, Status, UnixTime};
use axum::extract::State;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AdminToken;
use super::trust::authorize;
use crate::audit::{Actor, Audit, Kind, Object, Outcome};
use crate::certs::market::{Market, moment, words};
use crate::dicomweb::problem::Problem;

/// When to come back while an order is under way, here or elsewhere.
const BUSY: Duration = Duration::from_secs(60);

/// What the routes need.
#[derive(Clone)]
pub struct AcmeApi {
    /// The certificates.
    pub market: Market,
    /// Where changes are recorded.
    pub audit: Audit,
    /// Who may come in.
    pub token: AdminToken,
}

/// Which name, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfName {
    /// The `vi` name.
    pub name: String,
    /// For a revocation: others may know the key.
    #[serde(default)]
    pub key_compromised: bool,
}

/// Which account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfAuthority {
    /// Directory of its authority; may be left out where there is one authority.
    #[serde(default)]
    pub directory: Option<String>,
}

impl AcmeApi {
    /// The routes.
    pub fn router(self) -> Router {
        let authorized = middleware::from_fn_with_state(self.token.clone(), authorize);
        Router::new()
            .route("/api/acme", get(show))
            .route("/api/acme/renew", post(renew))
            .route("/api/acme/revoke", post(revoke))
            .route("/api/acme/account/roll-over", post(roll_over))
            .route("/api/acme/account/deactivate", post(deactivate))
            .layer(authorized)
            .with_state(self)
    }

    /// What another process orders is changed there: two would undo each other's work.
    fn orders(&self) -> Result<(), Problem> {
        if self.market.orders() {
            return Ok(());
        }
        let who = self.market.who_orders();
        let who = who.as_deref().unwrap_or("not known yet");
        let elsewhere = format!("another process that shares data_dir/acme orders: {who}");
        Err(Problem::unavailable(elsewhere, BUSY)
            .remedy("run the command there, or try again once it has ended"))
    }

    fn lifecycle(&self, name: &str) -> Result<&Lifecycle, Problem> {
        let wanted = name.to_ascii_lowercase();
        let mut all = self.market.lifecycles();
        let found = all.find(|one| one.name().as_str() == wanted);
        let lifecycle = found.ok_or_else(|| {
            let names: Vec<&str> = self
                .market
                .lifecycles()
                .map(|l| l.name().as_str())
                .collect();
            Problem::not_found("the gateway obtains no certificate for this name")
                .remedy(format!("choose one of: {}", names.join(", ")))
        })?;
        self.orders()?;
        if lifecycle.is_busy() {
            let busy = "an order for this name is under way";
            return Err(Problem::unavailable(busy, BUSY).remedy("try again in a minute"));
        }
        Ok(lifecycle)
    }

    /// The authority whose account is to be changed.
    fn authority(&self, wanted: &OfAuthority) -> Result<&Authority, Problem> {
        let all = self.market.authorities();
        let found = match (&wanted.directory, all) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(directory), _) => all.iter().find(|one| one.directory == *directory),
        };
        self.orders()?;
        found.ok_or_else(|| {
            let directories: Vec<&str> = all.iter().map(|one| one.directory.as_str()).collect();
            Problem::bad_request(
                "which authority is not said, or it is not configured",
                format!("name one of: {}", directories.join(", ")),
            )
        })
    }

    /// Records an action before it is done.
    async fn record(&self, action: &'static str, subject: &str) -> Result<(), Problem> {
        let actor = Actor {
            account: Some("admin-token".into()),
            ..Actor::default()
        };
        let object = Object {
            resource: Some(action.into()),
            subject: Some(subject.into()),
            ..Object::default()
        };
        let event = self.audit.event(Kind::Administration).by(actor).on(object);
        let recorded = self.audit.record(event.ending(Outcome::default())).await;
        recorded.map(drop).map_err(|error| {
            tracing::error!(
                "an action on certificates cannot be recorded and is not done: {error}"
            );
            Problem::internal()
        })
    }
}

async fn show(State(api): State<AcmeApi>) -> Json<Value> {
    let mut names = Vec::new();
    for lifecycle in api.market.lifecycles() {
        let busy = lifecycle.is_busy();
        let name = lifecycle.name().as_str();
        names.push(match lifecycle.standing().await {
            Ok(status) => standing(&status, busy),
            Err(failure) => json!({ "name": name, "failure": said(&failure) }),
        });
    }
    let mut accounts = Vec::new();
    for authority in api.market.authorities() {
        let directory = &authority.directory;
        accounts.push(match api.market.accounts().standing(authority).await {
            Ok(AccountStanding::None) => json!({ "directory": directory, "state": "none" }),
            Ok(AccountStanding::Lost) => json!({ "directory": directory, "state": "lost" }),
            Ok(AccountStanding::Open(url)) => {
                json!({ "directory": directory, "state": "open", "url": url })
            }
            Err(failure) => json!({
                "directory": directory,
                "state": "unknown",
                "failure": said(&failure),
            }),
        });
    }
    let who = (!api.market.orders())
        .then(|| api.market.who_orders())
        .flatten();
    Json(json!({ "names": names, "accounts": accounts, "ordered_by": who }))
}

fn standing(status: &Status, busy: bool) -> Value {
    let (next, reason) = status.next;
    let blocked = status.blocked.iter().map(|(directory, until)| {
        json!({ "directory": directory, "until": seconds(*until), "until_text": moment(*until) })
    });
    json!({
        "name": status.name.as_str(),
        "not_after": status.validity.map(|validity| seconds(validity.not_after)),
        "not_after_text": status.validity.map(|validity| moment(validity.not_after)),
        "issued_by": status.directory,
        "under_way": busy,
        "next": seconds(next),
        "next_text": moment(next),
        "reason": word(reason),
        "failures": status.failures,
        "failure": status.last_failure.as_ref().map(said),
        "blocked": blocked.collect::<Vec<_>>(),
        "revoking": status.revoking,
    })
}

fn seconds(at: UnixTime) -> u64 {
    at.as_secs()
}

const fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "missing",
        Reason::UnderWay => "under-way",
        Reason::Asked => "asked",
        Reason::Suggested => "suggested",
        Reason::TwoThirds => "two-thirds",
        Reason::Emergency => "emergency",
        Reason::Retry => "retry",
    }
}

/// A failure in the words for administrators.
fn said(failure: &Failure) -> Value {
    let (what, remedy) = words::explain(failure.cause);
    json!({
        "cause": failure.cause.as_str(),
        "what": what,
        "remedy": remedy,
        "detail": failure.detail,
        "authority": failure.authority,
    })
}

async fn renew(
    State(api): State<AcmeApi>,
    Json(wanted): Json<OfName>,
) -> Result<StatusCode, Problem> {
    let lifecycle = api.lifecycle(&wanted.name)?;
    api.record("acme-renew", lifecycle.name().as_str()).await?;
    lifecycle
        .renew_now()
        .await
        .map_err(|failure| refused(&failure))?;
    Ok(StatusCode::ACCEPTED)
}

async fn revoke(
    State(api): State<AcmeApi>,
    Json(wanted): Json<OfName>,
) -> Result<Json<Value>, Problem> {
    let name = api.lifecycle(&wanted.name)?.name().as_str().to_owned();
    api.record("acme-revoke", &name).await?;
    to_its_end(async move {
        let lifecycle = api.lifecycle(&wanted.name)?;
        let revoked = lifecycle.revoke(wanted.key_compromised).await;
        let revoked = revoked.map_err(|failure| refused(&failure))?;
        Ok(Json(json!({ "revoked": revoked })))
    })
    .await
}

async fn roll_over(
    State(api): State<AcmeApi>,
    Json(wanted): Json<OfAuthority>,
) -> Result<StatusCode, Problem> {
    let directory = api.authority(&wanted)?.directory.clone();
    api.record("acme-account-roll-over", &directory).await?;
    to_its_end(async move {
        let done = api
            .market
            .accounts()
            .roll_over(api.authority(&wanted)?)
            .await;
        done.map_err(|failure| refused(&failure))?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn deactivate(
    State(api): State<AcmeApi>,
    Json(wanted): Json<OfAuthority>,
) -> Result<StatusCode, Problem> {
    let directory = api.authority(&wanted)?.directory.clone();
    api.record("acme-account-deactivate", &directory).await?;
    to_its_end(async move {
        let accounts = api.market.accounts();
        let authority = api.authority(&wanted)?;
        // An account that is closed must not be opened for that.
        let open = accounts.standing(authority).await;
        match open.map_err(|failure| refused(&failure))? {
            AccountStanding::Open(_) => {}
            AccountStanding::None | AccountStanding::Lost => {
                return Err(Problem::not_found(
                    "there is no open account at this authority",
                ));
            }
        }
        let done = accounts.deactivate(authority).await;
        done.map_err(|failure| refused(&failure))?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// A client that goes away does not leave half of it done.
async fn to_its_end<T: Send + 'static>(
    action: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(action).await;
    done.unwrap_or_else(|_| Err(Problem::internal()))
}

fn refused(failure: &Failure) -> Problem {
    let (what, remedy) = words::explain(failure.cause);
    if failure.cause == Cause::Store {
        tracing::error!(detail = failure.detail, "{what} {remedy}");
    }
    Problem::bad_gateway(format!("{what} {}", failure.detail)).remedy(remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let all = [
            Reason::Missing,
            Reason::UnderWay,
            Reason::Asked,
            Reason::Suggested,
            Reason::TwoThirds,
            Reason::Emergency,
            Reason::Retry,
        ];
        let words: std::collections::HashSet<_> = all.into_iter().map(word).collect();
        assert_eq!(words.len(), all.len());
    }

    #[test]
    fn a_request_with_an_unknown_field_is_refused() {
        let strange = r#"{"name": "vi1.centre.example", "force": true}"#;
        assert!(serde_json::from_str::<OfName>(strange).is_err());
        let plain: OfName = serde_json::from_str(r#"{"name": "vi1.centre.example"}"#).unwrap();
        assert!(!plain.key_compromised);
    }
}
