//! Tokens of the APIs: exchange of the token of Pro Santé Connect (RFC 8693), renewal, revocation (RFC 7009); always
//! with the client's certificate, to which the API binds what it gives (RFC 8705).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use psc_auth::{PscError, Request, Response, Transport, TransportError, UnixTime};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::config::ProxyApi;

use super::answers::Refusal;
use super::clients::Client;
use super::farewells::Revocable;
use super::sessions::{ApiToken, ProxySession};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Longest life that is believed, above what any API gives.
const LONGEST_LIFE: u64 = 24 * 3600;

/// Bytes of a form with its tokens, with room to spare.
const FORM_ROOM: usize = 32 * 1024;

/// Why there is no token of an API.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// Its authorisation server says no.
    #[error("the authorisation server of {api} refuses (status {status}, `{code}`)")]
    Refused {
        api: String,
        status: u16,
        code: String,
    },
    /// It cannot be asked, or cannot answer.
    #[error("the authorisation server of {api} does not answer as it should: {what}")]
    Away { api: String, what: String },
    /// Pro Santé Connect gives no token to exchange.
    #[error(transparent)]
    Psc(#[from] PscError),
}

impl ExchangeError {
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Refused { api, .. } => Refusal::new(
                StatusCode::UNAUTHORIZED,
                format!("l'API {api} refuse ce professionnel ou ce Client ID"),
            ),
            Self::Away { api, .. } => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("le serveur d'autorisation de l'API {api} n'est pas en état de répondre"),
            ),
            Self::Psc(error) => Refusal::of_psc(error),
        }
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    token_type: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<SecretString>,
}

#[derive(Deserialize)]
struct Denied {
    error: String,
}

/// Exchanges a token of Pro Santé Connect for one of the API.
pub(super) async fn exchange(
    client: &Client,
    api: &ProxyApi,
    subject: &SecretString,
    now: UnixTime,
) -> Result<ApiToken, ExchangeError> {
    let mut fields = vec![
        ("grant_type", EXCHANGE),
        ("subject_token", subject.expose_secret()),
        ("subject_token_type", ACCESS_TOKEN),
        ("scope", &api.scope),
    ];
    let optional = [
        ("audience", &api.audience),
        ("subject_issuer", &api.subject_issuer),
    ];
    for (name, value) in optional {
        fields.extend(value.as_deref().map(|value| (name, value)));
    }
    ask(client, api, &fields, now).await
}

/// A token to use now.
pub(super) struct Usable {
    pub(super) token: SecretString,
    /// Whether it came just now: what is kept of the session is not true any more.
    pub(super) is_new: bool,
}

/// The token to use now: the one at hand, a renewed one, or a newly exchanged one. `stale` says that the API did not
/// take the one at hand.
pub(super) async fn token_for(
    client: &Client,
    api: &ProxyApi,
    session: &ProxySession,
    stale: Option<&SecretString>,
    now: UnixTime,
) -> Result<Usable, ExchangeError> {
    let usable = |token: &SecretString, is_new| Usable {
        token: token.clone(),
        is_new,
    };
    let place = session
        .token(&api.name)
        .ok_or_else(|| away(api, "closed"))?;
    // One renewal at a time: the rotated refresh token would be lost.
    let mut held = place.lock().await;
    let token = held.as_ref().ok_or_else(|| away(api, "closed"))?;
    let refused = stale.is_some_and(|old| old.expose_secret() == token.access.expose_secret());
    if !refused && !token.is_due(now) {
        return Ok(usable(&token.access, false));
    }
    if let Some(refresh) = &token.refresh {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.expose_secret()),
        ];
        match ask(client, api, &fields, now).await {
            Ok(mut renewed) => {
                // RFC 6749 §6: without a new refresh token the old one stays.
                renewed.refresh.get_or_insert_with(|| refresh.clone());
                let fresh = usable(&renewed.access, true);
                *held = Some(renewed);
                return Ok(fresh);
            }
            // The refresh token is over: the session at PSC gives another token to exchange.
            Err(ExchangeError::Refused { .. }) => {}
            Err(error) if refused || now >= token.expires_at => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a token of an API was not renewed yet");
                return Ok(usable(&token.access, false));
            }
        }
    }
    let subject = client.party.access_token(&session.psc).await?;
    let renewed = exchange(client, api, &subject, now).await?;
    let fresh = usable(&renewed.access, true);
    *held = Some(renewed);
    Ok(fresh)
}

/// Revokes a token where the API offers it; what fails is told in the log. `false` when the API could not be asked, or
/// could not answer: it should be asked again.
pub(super) async fn revoke(client: &Client, api: &ProxyApi, token: &Revocable) -> bool {
    let mut told = true;
    let Some(url) = &api.revocation_url else {
        return told;
    };
    let both = [
        Some((&token.access, "access_token")),
        token.refresh.as_ref().map(|token| (token, "refresh_token")),
    ];
    for (token, hint) in both.into_iter().flatten() {
        let fields = [("token", token.expose_secret()), ("token_type_hint", hint)];
        match post(client, url, &fields, api.timeout).await {
            Ok(answer) if answer.status.is_success() => {}
            Ok(answer) => {
                told &= !is_temporary(answer.status);
                tracing::warn!(api = api.name, status = %answer.status, "a token was not revoked");
            }
            Err(error) => {
                told = false;
                tracing::warn!(api = api.name, %error, "a token was not revoked");
            }
        }
    }
    told
}

async fn ask(
    client: &Client,
    api: &ProxyApi,
    fields: &[(&str, &str)],
    now: UnixTime,
) -> Result<ApiToken, ExchangeError> {
    let outcome = answered(client, api, fields, now).await;
    let word = match &outcome {
        Ok(_) => "success",
        Err(ExchangeError::Refused { .. }) => "refused",
        Err(_) => "unavailable",
    };
    let name = api.name.clone();
    metrics::counter!("drimbox_proxy_tokens_total", "api" => name, "outcome" => word).increment(1);
    outcome
}

async fn answered(
    client: &Client,
    api: &ProxyApi,
    fields: &[(&str, &str)],
    now: UnixTime,
) -> Result<ApiToken, ExchangeError> {
    let answer = post(client, &api.token_url, fields, api.timeout)
        .await
        .map_err(|error| away(api, error))?;
    if is_temporary(answer.status) {
        return Err(away(api, answer.status));
    }
    if answer.status != StatusCode::OK {
        let said = serde_json::from_slice::<Denied>(&answer.body);
        // Only words of OAuth go to the log.
        let code = said.map(|said| said.error).unwrap_or_default();
        let code = code
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_');
        return Err(ExchangeError::Refused {
            api: api.name.clone(),
            status: answer.status.as_u16(),
            code: code.take(40).collect(),
        });
    }
    let granted: Granted =
        serde_json::from_slice(&answer.body).map_err(|_| away(api, "no token answer"))?;
    let bearer = granted.token_type.as_deref().unwrap_or("bearer");
    let access = granted.access_token.expose_secret();
    let printable = !access.is_empty() && access.bytes().all(|byte| byte.is_ascii_graphic());
    if !bearer.eq_ignore_ascii_case("bearer") || !printable {
        return Err(away(api, "no bearer token"));
    }
    // Without a life it is used once (RFC 6749 §5.1 recommends to state it).
    let life = Duration::from_secs(granted.expires_in.unwrap_or(0).min(LONGEST_LIFE));
    Ok(ApiToken {
        access: granted.access_token,
        refresh: granted.refresh_token,
        obtained_at: now,
        expires_at: now.plus(life),
    })
}

async fn post(
    client: &Client,
    url: &Url,
    fields: &[(&str, &str)],
    limit: Duration,
) -> Result<Response, TransportError> {
    // The whole room at once: no copy of a token stays behind in a reallocation. hyper's own are not wiped.
    let form = form_urlencoded::Serializer::new(String::with_capacity(FORM_ROOM))
        .extend_pairs(fields)
        .append_pair("client_id", &client.id)
        .finish();
    let request: Request = http::Request::builder()
        .method(Method::POST)
        .uri(url.as_str())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Bytes::from(form))
        .map_err(|_| TransportError::NotHttps)?;
    within(limit, client.apis.send(request)).await
}

/// The server's fault, or too many requests: it says nothing of the token, whatever word comes with it.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Sends within the time of this API, which may be shorter than the client's.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(TransportError::Timeout(limit)),
    }
}

fn away(api: &ProxyApi, what: impl fmt::Display) -> ExchangeError {
    ExchangeError::Away {
        api: api.name.clone(),
        what: what.to_string(),
    }
}
