//! `/send/<api>/<endpoint>`: the request with the API's token and the client's certificate, and the API's answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use psc_auth::{Transport, TransportError};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use crate::config::ProxyApi;
use crate::net::Connection;

use super::Proxy;
use super::answers::{self, Metadata, Refusal};
use super::clients::Client;
use super::connect::{active, peer_of};
use super::exchange::{self, ExchangeError, within};
use super::sessions::{End, ProxySession};
use super::traces::{Trace, Who};

/// Header fields that belong to one connection (RFC 9110 §7.6.1), or say who asks: they are never passed on.
const NOT_PASSED: [&str; 17] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
];

pub(super) async fn send(
    State(proxy): State<Arc<Proxy>>,
    Extension(connection): Extension<Connection>,
    Path((api, _)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let peer = peer_of(&connection);
    let Some(session) = active(&proxy, &headers, peer.as_ref()).await else {
        let mut answer = Refusal::no_session().into_answer();
        answers::set_cookie(&mut answer, None, proxy.secure);
        return answer;
    };
    let metadata = Metadata {
        national_id: Some(session.national_id.as_str().to_owned()),
        client_id: Some(session.client_id.clone()),
    };
    let asked = Asked {
        method,
        headers,
        body,
    };
    let outcome = pass(&proxy, &connection, &session, &api, &uri, asked).await;
    let status = match &outcome {
        Ok(answer) => answer.status(),
        Err(refusal) => refusal.status(),
    };
    // Only names of the configuration become labels.
    if proxy.apis.contains_key(&api) {
        let status = status.as_u16().to_string();
        metrics::counter!("drimbox_proxy_sends_total", "api" => api, "status" => status)
            .increment(1);
    }
    match outcome {
        Ok(answer) => answer,
        Err(refusal) => {
            let mut answer = refusal.with(&metadata);
            if refusal.status() == StatusCode::UNAUTHORIZED {
                answers::set_cookie(&mut answer, None, proxy.secure);
            }
            answer
        }
    }
}

struct Asked {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

async fn pass(
    proxy: &Arc<Proxy>,
    connection: &Connection,
    session: &Arc<ProxySession>,
    api: &str,
    uri: &Uri,
    asked: Asked,
) -> Result<Response, Refusal> {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    if !known.contains(&asked.method) {
        let what = "méthodes admises : GET, POST, PUT, PATCH, DELETE";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "API inconnue de ce proxy");
    let api = proxy.apis.get(api).ok_or_else(unknown)?;
    let client = proxy
        .clients
        .get(&session.client_id)
        .ok_or_else(Refusal::no_session)?;
    let (target, path) = target(api, uri).ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "ce chemin ne peut pas être transmis",
        )
    })?;
    let who = Who {
        client_id: client.id.clone(),
        national_id: session.national_id.clone(),
        dn: client.subject(),
        remote: connection.remote,
    };
    let trace = Trace::send(
        &who,
        session,
        &api.name,
        asked.method.as_str(),
        &path,
        proxy.now(),
    );
    proxy.trace(trace).await?;

    let token = token(proxy, client, api, session, None).await?;
    let answer = forward(client, api, &target, &asked, &token).await?;
    if answer.status() != StatusCode::UNAUTHORIZED {
        return Ok(answer);
    }
    // The API ended the token before its time: one more try with another.
    let token = self::token(proxy, client, api, session, Some(&token)).await?;
    forward(client, api, &target, &asked, &token).await
}

async fn token(
    proxy: &Arc<Proxy>,
    client: &Client,
    api: &ProxyApi,
    session: &Arc<ProxySession>,
    stale: Option<&SecretString>,
) -> Result<SecretString, Refusal> {
    let outcome = exchange::token_for(client, api, session, stale, proxy.now()).await;
    let error = match outcome {
        Ok(usable) => {
            if usable.is_new {
                // The request does not wait for the disk, nor for another API that is slow to renew.
                let (proxy, session) = (Arc::clone(proxy), Arc::clone(session));
                tokio::spawn(async move { proxy.remember(&session).await });
            }
            return Ok(usable.token);
        }
        Err(error) => error,
    };
    tracing::warn!(client = client.id, %error, "there is no token for a request");
    let refusal = error.refusal();
    let over = matches!(error, ExchangeError::Psc(_) | ExchangeError::Refused { .. })
        && refusal.status() == StatusCode::UNAUTHORIZED;
    if over && let Some(taken) = proxy.sessions.take(session) {
        proxy.end(&taken, End::Refused).await;
    }
    Err(refusal)
}

/// The address at the API, and the path for the trace, without query: queries name patients.
///
/// Nothing in it may leave the root of the API: no `.` or `..`, encoded or not, no backslash, no NUL.
fn target(api: &ProxyApi, uri: &Uri) -> Option<(Url, String)> {
    let (_, rest) = uri.path().strip_prefix("/send/")?.split_once('/')?;
    for segment in rest.split('/') {
        let plain: Vec<u8> = percent_decode_str(segment).collect();
        let escapes = plain.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0));
        if matches!(plain.as_slice(), b"." | b"..") || escapes {
            return None;
        }
    }
    let root = api.url.as_str().trim_end_matches('/');
    let mut url = Url::parse(&format!("{root}/{rest}")).ok()?;
    url.set_query(uri.query());
    let same = url.origin() == api.url.origin() && url.as_str().starts_with(&format!("{root}/"));
    same.then(|| (url, format!("/{rest}")))
}

async fn forward(
    client: &Client,
    api: &ProxyApi,
    target: &Url,
    asked: &Asked,
    token: &SecretString,
) -> Result<Response, Refusal> {
    let impossible = || Refusal::new(StatusCode::BAD_REQUEST, "requête impossible à transmettre");
    let bearer = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| impossible())?;
    bearer.set_sensitive(true);
    let mut request = http::Request::builder()
        .method(asked.method.clone())
        .uri(target.as_str())
        .body(asked.body.clone())
        .map_err(|_| impossible())?;
    *request.headers_mut() = passed(&asked.headers);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let answer = within(api.timeout, client.apis.send(request))
        .await
        .map_err(|error| failure(api, &error))?;
    let mut response = Response::new(Body::from(answer.body.to_vec()));
    *response.status_mut() = answer.status;
    *response.headers_mut() = passed(&answer.headers);
    Ok(response)
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    // RFC 9110 §7.6.1: what `Connection` names is for the next hop alone.
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let passes = |name: &HeaderName| {
        !NOT_PASSED.contains(&name.as_str()) && !named.iter().any(|other| other == name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| passes(name));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// 504 when the API is too slow, 503 when it cannot be reached, 502 when its answer cannot be passed on.
fn failure(api: &ProxyApi, error: &TransportError) -> Refusal {
    tracing::warn!(api = api.name, %error, "an API could not be asked");
    let name = &api.name;
    match error {
        TransportError::Timeout(_) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("l'API {name} n'a pas répondu à temps"),
        ),
        TransportError::Unreachable(_) | TransportError::Tls(_) => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("l'API {name} n'est pas joignable"),
        ),
        _ => Refusal::new(
            StatusCode::BAD_GATEWAY,
            format!("la réponse de l'API {name} n'est pas utilisable"),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn api() -> ProxyApi {
        let address = |text: &str| Url::parse(text).unwrap();
        ProxyApi {
            name: "dmp".to_owned(),
            url: address("https://api.example/v1/"),
            token_url: address("https://as.example/token"),
            revocation_url: None,
            scope: "openid".to_owned(),
            audience: None,
            subject_issuer: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn to(path: &str) -> Option<String> {
        let (url, _) = target(&api(), &path.parse().unwrap())?;
        Some(url.into())
    }

    #[test]
    fn requests_stay_below_the_root_of_their_api() {
        let below = to("/send/dmp/a%20b/c?d=e%2Ff").unwrap();
        assert_eq!(below, "https://api.example/v1/a%20b/c?d=e%2Ff");
        assert_eq!(
            to("/send/dmp//host/x").unwrap(),
            "https://api.example/v1//host/x"
        );
        for path in [
            "/send/dmp/../x",
            "/send/dmp/a/%2e%2E/x",
            "/send/dmp/a%2f..%2fx",
            "/send/dmp/a%5c..",
            "/send/dmp/%00",
            "/send/dmp/./x",
        ] {
            assert_eq!(to(path), None, "{path}");
        }
    }

    #[test]
    fn what_belongs_to_a_connection_or_a_person_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cookie", "proxy_session_id=x"),
            ("authorization", "Bearer forged"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("accept", "application/fhir+json"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_static(value));
        }
        let passed = passed(&headers);
        assert_eq!(passed.len(), 1);
        assert!(passed.contains_key(header::ACCEPT));
    }
}
