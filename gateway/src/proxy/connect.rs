//! `POST /connect` and `DELETE /disconnect`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use psc_auth::{BindingMessage, Channel, NationalId, PscError, Session, Thumbprint};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::net::Connection;

use super::Proxy;
use super::answers::{self, Metadata, Refusal};
use super::clients::Client;
use super::exchange::{self, ExchangeError};
use super::farewells::Revocable;
use super::sessions::{End, Opened, ProxySession};
use super::traces::{Trace, Who};

/// Largest body of `/connect` that is read.
const BODY_LIMIT: usize = 16 * 1024;

/// The body of `/connect`, every member optional so that all that is missing is told at once.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    national_id: Option<String>,
    binding_message: Option<String>,
    client_id: Option<String>,
    channel: Option<String>,
}

struct Wanted {
    national_id: NationalId,
    binding: BindingMessage,
    channel: Channel,
}

#[derive(Serialize)]
struct Connected<'a> {
    proxy_session_id: &'a str,
    session_state: &'a str,
}

/// The certificate that the software showed on this connection.
pub(super) fn peer_of(connection: &Connection) -> Option<Thumbprint> {
    let first = connection.peer_certificates.as_ref()?.first()?;
    Some(Thumbprint::of(first))
}

pub(super) async fn connect(
    State(proxy): State<Arc<Proxy>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = match read(&body) {
        Ok(asked) => asked,
        Err(refusal) => return without_cookie(&proxy, &refusal, &Metadata::default()),
    };
    let metadata = Metadata {
        national_id: asked.national_id.clone(),
        client_id: asked.client_id.clone(),
    };
    let outcome = open(&proxy, &connection, &headers, &asked).await;
    let status = match &outcome {
        Ok(Opening::Replayed) => StatusCode::NOT_MODIFIED,
        Ok(Opening::New(_)) => StatusCode::OK,
        Err(refusal) => refusal.status(),
    };
    metrics::counter!("drimbox_proxy_connects_total", "status" => status.as_u16().to_string())
        .increment(1);
    match outcome {
        Ok(Opening::Replayed) => answers::empty(StatusCode::NOT_MODIFIED),
        Ok(Opening::New(session)) => {
            let seconds = session.ends_at.since(proxy.now()).as_secs();
            let said = Connected {
                proxy_session_id: &session.id,
                session_state: session.state.as_deref().unwrap_or_default(),
            };
            let mut answer = answers::json(StatusCode::OK, &said);
            answers::set_cookie(&mut answer, Some((&session.id, seconds)), proxy.secure);
            answer
        }
        Err(refusal) => without_cookie(&proxy, &refusal, &metadata),
    }
}

/// After an error no cookie may remain.
fn without_cookie(proxy: &Proxy, refusal: &Refusal, metadata: &Metadata) -> Response {
    let mut answer = refusal.with(metadata);
    answers::set_cookie(&mut answer, None, proxy.secure);
    answer
}

enum Opening {
    /// The session of the cookie is this one, and active.
    Replayed,
    New(Arc<ProxySession>),
}

async fn open(
    proxy: &Arc<Proxy>,
    connection: &Connection,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Opening, Refusal> {
    let wanted = checked(asked)?;
    let client_id = asked.client_id.as_deref().unwrap_or_default();
    let client = proxy
        .clients
        .get(client_id)
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "Client ID inconnu de ce proxy"))?;
    let who = Who {
        client_id: client.id.clone(),
        national_id: wanted.national_id.clone(),
        dn: client.subject(),
        remote: connection.remote,
    };
    let peer = peer_of(connection);
    if let Some(active) = active(proxy, headers, peer.as_ref()).await {
        let same = active.client_id == client.id && active.national_id == wanted.national_id;
        if same {
            proxy
                .trace(Trace::replay(&who, &active, proxy.now()))
                .await?;
            return Ok(Opening::Replayed);
        }
        if let Some(taken) = proxy.sessions.take(&active) {
            proxy.end(&taken, End::Asked).await;
        }
    }
    match log_in(proxy, client, &wanted, &who, peer).await {
        Ok(session) => Ok(Opening::New(session)),
        Err(refusal) => {
            let said = refusal.status().as_u16();
            let failure = Trace::failure(&who, said, proxy.now());
            proxy.trace(failure).await?;
            Err(refusal)
        }
    }
}

/// The session of a request's cookie, while its time has not come.
pub(super) async fn active(
    proxy: &Proxy,
    headers: &HeaderMap,
    peer: Option<&Thumbprint>,
) -> Option<Arc<ProxySession>> {
    let session = proxy.sessions.find(answers::cookie(headers)?, peer)?;
    let now = proxy.now();
    if now < session.ends_at {
        session.touch(now);
        return Some(session);
    }
    if let Some(taken) = proxy.sessions.take(&session) {
        proxy.end(&taken, End::Expired).await;
    }
    None
}

async fn log_in(
    proxy: &Arc<Proxy>,
    client: &Arc<Client>,
    wanted: &Wanted,
    who: &Who,
    peer: Option<Thumbprint>,
) -> Result<Arc<ProxySession>, Refusal> {
    let full = |what| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what);
    let psc = {
        let _place = proxy
            .pending
            .try_acquire()
            .map_err(|_| full("trop de connexions en attente : réessayer plus tard"))?;
        let waiting = Waiting {
            proxy: Arc::clone(proxy),
            who: Some(who.clone()),
        };
        let outcome = by_ciba(client, wanted).await;
        waiting.end();
        outcome.map_err(|error| {
            tracing::warn!(client = client.id, %error, remedy = error.remedy(), "a professional was not logged in");
            Refusal::of_psc(&error)
        })?
    };
    // From here on there is something to undo, also when the software goes away.
    let (proxy, client, who) = (Arc::clone(proxy), Arc::clone(client), who.clone());
    let national_id = wanted.national_id.clone();
    let (give, given) = oneshot::channel();
    tokio::spawn(async move {
        let opened = keep(&proxy, &client, national_id, &psc, &who, peer).await;
        if opened.is_err()
            && let Err(error) = client.party.logout(&psc).await
        {
            tracing::warn!(%error, "Pro Santé Connect could not be told that a login came to nothing");
        }
        // Nobody else knows its id.
        if let Err(Ok(session)) = give.send(opened)
            && let Some(taken) = proxy.sessions.take(&session)
        {
            proxy.end(&taken, End::Abandoned).await;
        }
    });
    let opened = given.await;
    opened.unwrap_or_else(|_| Err(full("le proxy s'arrête")))
}

/// A login that waits for its user. Software that goes away meanwhile drops it, and that is traced.
struct Waiting {
    proxy: Arc<Proxy>,
    who: Option<Who>,
}

impl Waiting {
    fn end(mut self) {
        self.who = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(who) = self.who.take() else { return };
        let proxy = Arc::clone(&self.proxy);
        tokio::spawn(async move {
            let trace = Trace::abandoned(&who, proxy.now());
            if proxy.trace(trace).await.is_err() {
                tracing::error!("a login that was given up is not traced");
            }
        });
    }
}

async fn by_ciba(client: &Client, wanted: &Wanted) -> Result<Session, PscError> {
    let party = &client.party;
    let pending = party
        .begin_ciba(&wanted.national_id, wanted.binding, wanted.channel)
        .await?;
    party.wait_for_ciba(pending).await
}

/// Exchanges the token at every API, and keeps the session; a session without all of them is none.
async fn keep(
    proxy: &Proxy,
    client: &Client,
    national_id: NationalId,
    psc: &Session,
    who: &Who,
    peer: Option<Thumbprint>,
) -> Result<Arc<ProxySession>, Refusal> {
    let refused = |error: ExchangeError| {
        tracing::warn!(client = client.id, %error, "a token was not exchanged");
        error.refusal()
    };
    let subject = client.party.access_token(psc).await;
    let subject = subject.map_err(|error| refused(error.into()))?;
    let now = proxy.now();
    let exchanges = proxy.apis.values().map(|api| {
        let subject = &subject;
        async move {
            let token = exchange::exchange(client, api, subject, now).await?;
            Ok::<_, ExchangeError>((api.name.clone(), token))
        }
    });
    let mut tokens = Vec::new();
    let mut failure = None;
    for outcome in futures_util::future::join_all(exchanges).await {
        match outcome {
            Ok(token) => tokens.push(token),
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        undo(proxy, client, tokens).await;
        return Err(refused(error));
    }
    let opened = Opened {
        dn: who.dn.clone(),
        remote: who.remote,
        peer,
    };
    let session = ProxySession::new(
        &client.id,
        national_id,
        psc.clone(),
        opened,
        tokens,
        now,
        proxy.lifetime,
    );
    let session = Arc::new(session);
    let kept = match proxy.sessions.insert(Arc::clone(&session)) {
        Ok(()) => match proxy.keep(&session).await {
            Ok(()) => proxy.trace(Trace::success(who, &session, now)).await,
            Err(refusal) => Err(refusal),
        },
        Err(_) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "trop de sessions en cours : réessayer plus tard",
        )),
    };
    if let Err(refusal) = kept {
        let _ = proxy.sessions.take(&session);
        let tokens = session.tokens().await;
        session.drop_tokens().await;
        undo(proxy, client, tokens).await;
        proxy.forget(&session.id).await;
        return Err(refusal);
    }
    Ok(session)
}

async fn undo(proxy: &Proxy, client: &Client, tokens: Vec<(String, super::sessions::ApiToken)>) {
    for (api, token) in tokens {
        if let Some(api) = proxy.apis.get(&api) {
            let token = Revocable {
                access: token.access,
                refresh: token.refresh,
            };
            exchange::revoke(client, api, &token).await;
        }
    }
}

fn read(body: &[u8]) -> Result<Asked, Refusal> {
    let bad = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, what);
    if body.len() > BODY_LIMIT {
        return Err(bad("le corps est trop long"));
    }
    // An array would be taken for the members in their order.
    let object: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(body);
    object
        .and_then(|object| serde_json::from_value(object.into()))
        .map_err(|_| bad("le corps n'est pas l'objet JSON attendu"))
}

fn checked(asked: &Asked) -> Result<Wanted, Refusal> {
    let bad = |what: String| Refusal::new(StatusCode::BAD_REQUEST, what);
    let members = [
        ("nationalId", &asked.national_id),
        ("bindingMessage", &asked.binding_message),
        ("clientId", &asked.client_id),
        ("channel", &asked.channel),
    ];
    let missing: Vec<&str> = members
        .iter()
        .filter(|(_, value)| value.as_deref().is_none_or(str::is_empty))
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        return Err(bad(format!("champs manquants : {}", missing.join(", "))));
    }
    let national_id = asked.national_id.as_deref().unwrap_or_default();
    let national_id = NationalId::parse(national_id)
        .map_err(|_| bad("nationalId n'est pas un identifiant national préfixé".to_owned()))?;
    let binding = digits(asked.binding_message.as_deref().unwrap_or_default())
        .ok_or_else(|| bad("bindingMessage est un nombre de deux chiffres".to_owned()))?;
    let channel = match asked.channel.as_deref() {
        Some("CARD") => Channel::Card,
        Some("MOBILE") => Channel::Mobile,
        _ => return Err(bad("channel est CARD ou MOBILE".to_owned())),
    };
    Ok(Wanted {
        national_id,
        binding,
        channel,
    })
}

/// Exactly two digits.
fn digits(text: &str) -> Option<BindingMessage> {
    let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| fits)?;
    BindingMessage::new(number).ok()
}

pub(super) async fn disconnect(
    State(proxy): State<Arc<Proxy>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let peer = peer_of(&connection);
    let session = active(&proxy, &headers, peer.as_ref()).await;
    // Whoever takes it out of the table ends it, once.
    let taken = session.and_then(|session| proxy.sessions.take(&session));
    let Some(session) = taken else {
        return without_cookie(&proxy, &Refusal::no_session(), &Metadata::default());
    };
    let ending = Arc::clone(&proxy);
    // The software may go away; the session ends all the same.
    let ended = tokio::spawn(async move { ending.end(&session, End::Asked).await }).await;
    if ended.is_err() {
        tracing::error!("the end of a session broke off");
    }
    let mut answer = answers::json(StatusCode::OK, &serde_json::json!({}));
    answers::set_cookie(&mut answer, None, proxy.secure);
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn refusal(body: &str) -> String {
        let asked = read(body.as_bytes());
        let refused = asked.and_then(|asked| checked(&asked).map(drop));
        refused.unwrap_err().message().to_owned()
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once() {
        let said = refusal(r#"{"clientId": "c", "channel": ""}"#);
        assert_eq!(
            said,
            "champs manquants : nationalId, bindingMessage, channel"
        );
    }

    #[test]
    fn values_are_checked_before_pro_sante_connect_is_asked() {
        let with = |id: &str, digits: &str, channel: &str| {
            let body = serde_json::json!({
                "nationalId": id, "bindingMessage": digits, "clientId": "c", "channel": channel,
            });
            checked(&read(body.to_string().as_bytes()).unwrap()).is_ok()
        };
        assert!(with("899700218896", "07", "CARD"));
        for (id, digits, channel) in [
            ("x", "07", "CARD"),
            ("899700218896", "7", "CARD"),
            ("899700218896", "+7", "CARD"),
            ("899700218896", "100", "CARD"),
            ("899700218896", "07", "card"),
        ] {
            assert!(!with(id, digits, channel), "{id} {digits} {channel}");
        }
        assert!(refusal("[]").contains("JSON"));
    }
}
