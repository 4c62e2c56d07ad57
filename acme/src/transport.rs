//! The way to a certificate authority, and what is noticed on the way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;
use url::Url;

use crate::BoxFuture;
use crate::failure::bounded;

/// A request to a certificate authority.
pub type Request = http::Request<Bytes>;

/// An answer, read whole, within a cap.
pub type Response = http::Response<Bytes>;

/// Sends one request; the seam for whoever has an HTTP client of their own.
///
/// An implementation checks the authority's certificate, speaks `https` only, follows no redirect, and caps the body
/// and the time.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends it and reads the whole answer.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;
}

/// Why there is no answer from a certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection: name resolution, network, firewall or outgoing proxy.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Its TLS certificate is not trusted here.
    #[error("the TLS connection failed: {0}")]
    Tls(String),
    /// No whole answer in time.
    #[error("no complete answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer is larger than the cap.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// The address is not `https`.
    #[error("its address is not https")]
    NotHttps,
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Limits and route of [`HttpsTransport`].
///
/// `Debug` shows neither user nor password of the proxy.
#[derive(Clone)]
pub struct TransportSettings {
    /// From the request to the last byte of the answer: 30 s.
    pub timeout: Duration,
    /// To open the TCP connection: 10 s.
    pub connect_timeout: Duration,
    /// Largest body of an answer: 256 KiB.
    pub body_limit: usize,
    /// Outgoing HTTP proxy, asked with CONNECT: `http://host:port`, or `http://user:password@host:port` for one that
    /// asks who comes (RFC 7617).
    pub proxy: Option<Url>,
}

impl fmt::Debug for TransportSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportSettings")
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("body_limit", &self.body_limit)
            .field("proxy", &self.proxy.as_ref().map(Url::host_str))
            .finish()
    }
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            body_limit: 256 * 1024,
            proxy: None,
        }
    }
}

/// Why an [`HttpsTransport`] cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportSetupError {
    /// No TLS with these settings.
    #[error("TLS towards the certificate authority cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The proxy's address is not `http://host:port`.
    #[error("the proxy at `{0}` has not an address like http://host:port")]
    Proxy(String),
}

/// HTTPS over rustls.
pub struct HttpsTransport {
    settings: TransportSettings,
    pool: Pool,
}

impl fmt::Debug for HttpsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsTransport")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

enum Pool {
    Direct(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Proxy(Client<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

impl HttpsTransport {
    /// A transport that trusts the authorities in `roots` for the connection; it says nothing on who may issue.
    ///
    /// # Errors
    /// When the proxy's address is none.
    pub fn new(
        settings: TransportSettings,
        roots: RootCertStore,
    ) -> Result<Self, TransportSetupError> {
        let config = ClientConfig::builder_with_provider(cryptography())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1();
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(15));
        let pool = match &settings.proxy {
            None => Pool::Direct(client.build(https.wrap_connector(tcp))),
            Some(proxy) => {
                let proxy = way_out(proxy)?;
                let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                let tunnel = match proxy.basic_auth() {
                    Some(basic) => tunnel.with_auth(basic.clone()),
                    None => tunnel,
                };
                Pool::Proxy(client.build(https.wrap_connector(tunnel)))
            }
        };
        Ok(Self { settings, pool })
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        if request.uri().scheme_str() != Some("https") {
            return Err(TransportError::NotHttps);
        }
        let request = request.map(Full::new);
        let answer = match &self.pool {
            Pool::Direct(client) => client.request(request).await,
            Pool::Proxy(client) => client.request(request).await,
        };
        let answer = answer.map_err(|error| no_connection(&error))?;
        let (head, body) = answer.into_parts();
        let limit = self.settings.body_limit;
        let body = http_body_util::Limited::new(body, limit)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    TransportError::TooLarge { limit }
                } else {
                    TransportError::Broken(chain_text(error.as_ref()))
                }
            })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

impl Transport for HttpsTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let limit = self.settings.timeout;
            match tokio::time::timeout(limit, self.exchange(request)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(TransportError::Timeout(limit)),
            }
        })
    }
}

#[cfg(feature = "aws_lc_rs")]
pub(crate) fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
pub(crate) fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "aws_lc_rs", feature = "ring")))]
compile_error!("choose a cryptographic provider: feature `aws_lc_rs` or `ring`");

/// Where the proxy is, and what says to it who comes.
fn way_out(proxy: &Url) -> Result<Intercept, TransportSetupError> {
    // User and password stay out of what is said of it.
    let refused = || TransportSetupError::Proxy(proxy.host_str().unwrap_or_default().to_owned());
    if proxy.scheme() != "http" || !proxy.has_host() {
        return Err(refused());
    }
    let matcher = Matcher::builder().all(proxy.as_str()).build();
    let anywhere = http::Uri::from_static("https://localhost");
    matcher.intercept(&anywhere).ok_or_else(refused)
}

fn no_connection(error: &hyper_util::client::legacy::Error) -> TransportError {
    let said = chain_text(error);
    if is_tls(error) {
        TransportError::Tls(said)
    } else if error.is_connect() {
        TransportError::Unreachable(said)
    } else {
        TransportError::Broken(said)
    }
}

fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An io::Error hides the error it was made of from `source`.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| is_tls(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn chain_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    bounded(&text)
}

/// What the last answers said that instant-acme does not hand on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noticed {
    /// Status of the last answer.
    pub(crate) status: Option<StatusCode>,
    /// `Retry-After` of the last answer.
    pub(crate) retry_after: Option<Duration>,
    /// `Location` of the last answer that created something.
    pub(crate) created: Option<String>,
    /// The last chain that was downloaded, and where its alternatives are (RFC 8555 §7.4.2).
    pub(crate) chain: Option<(String, Vec<String>)>,
    /// Why the last request had no answer.
    pub(crate) lost: Option<TransportError>,
}

/// A [`Transport`] as instant-acme wants it, with a memory of what came back.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    transport: Arc<dyn Transport>,
    noticed: Arc<Mutex<Noticed>>,
    /// By which names the authority goes in CAA records, as its directory says (RFC 8555 §7.1.1).
    identities: Arc<Mutex<Vec<String>>>,
}

impl Exchange {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            noticed: Arc::default(),
            identities: Arc::default(),
        }
    }

    /// The names of the authority in CAA records; empty when it does not say.
    pub(crate) fn identities(&self) -> Vec<String> {
        let identities = self.identities.lock();
        identities.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was noticed since the last call of this.
    pub(crate) fn take(&self) -> Noticed {
        std::mem::take(&mut self.noticed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a request, and notices what comes back.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, instant_acme::Error> {
        let is_get = request.method() == Method::GET;
        let answer = self.transport.send(request).await;
        self.notice(&answer);
        if is_get && let Ok(answer) = &answer {
            let said = caa_identities(answer.body());
            if !said.is_empty() {
                let identities = self.identities.lock();
                *identities.unwrap_or_else(PoisonError::into_inner) = said;
            }
        }
        answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))
    }

    fn notice(&self, answer: &Result<Response, TransportError>) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                let headers = answer.headers();
                noticed.status = Some(answer.status());
                noticed.retry_after = retry_after(headers, SystemTime::now());
                noticed.lost = None;
                if answer.status() == StatusCode::CREATED {
                    noticed.created = text(headers, LOCATION).map(str::to_owned);
                }
                let kind = text(headers, CONTENT_TYPE).unwrap_or_default();
                if kind.starts_with("application/pem-certificate-chain") {
                    let pem = String::from_utf8_lossy(answer.body()).into_owned();
                    noticed.chain = Some((pem, alternates(headers)));
                }
            }
            Err(error) => noticed.lost = Some(error.clone()),
        }
    }
}

impl HttpClient for Exchange {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let exchange = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let is_get = head.method == Method::GET;
            // Never fails: the body is in memory.
            let body = body
                .collect()
                .await
                .map_err(|never| instant_acme::Error::Other(Box::new(never)))?;
            let request = Request::from_parts(head, body.to_bytes());
            let mut answer = exchange.send(request).await?;
            if is_get && !answer.headers().contains_key(RETRY_AFTER) {
                // instant-acme takes no renewal information without it; RFC 9773 §4.3.3 asks for a default.
                answer
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("21600"));
            }
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

/// `meta.caaIdentities` of a directory (RFC 8555 §7.1.1), sixteen at most; empty where it has none.
#[must_use]
pub fn caa_identities(directory: &[u8]) -> Vec<String> {
    let directory: serde_json::Value = serde_json::from_slice(directory).unwrap_or_default();
    let named = directory.pointer("/meta/caaIdentities");
    let named = named.and_then(serde_json::Value::as_array);
    let texts = named.into_iter().flatten().filter_map(|one| one.as_str());
    texts.take(16).map(str::to_ascii_lowercase).collect()
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `Retry-After` (RFC 9110 §10.2.3) as a span from `now`, the clock of the machine: a date is one of the world's.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .ok(),
    }
}

/// The addresses of `Link: <…>;rel="alternate"` (RFC 8555 §7.4.2), four at most.
fn alternates(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let alternate = parameters.split(';').any(|parameter| {
                let parameter = parameter.trim().replace('"', "");
                parameter.eq_ignore_ascii_case("rel=alternate")
            });
            alternate.then(|| target.to_owned())
        })
        .take(4)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_time_to_come_back_is_said_in_seconds_or_as_a_date() {
        // 2026-11-01 00:00:00 UTC.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200);
        let asked = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        let two_hours = Some(Duration::from_secs(7_200));
        assert_eq!(asked("Sun, 01 Nov 2026 02:00:00 GMT"), two_hours);
        assert_eq!(asked("Sunday, 01-Nov-26 02:00:00 GMT"), two_hours);
        assert_eq!(asked("Sun, 01 Nov 2026 00:00:00 GMT"), Some(Duration::ZERO));
        for nothing in ["Sat, 31 Oct 2026 23:00:00 GMT", "soon", "-5", ""] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
