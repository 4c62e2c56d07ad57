//! The way to Pro Santé Connect: HTTPS with the client certificate, capped in bytes and in time, without
//! redirects, directly or through the CONNECT of an outgoing proxy.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use crate::error::Said;

/// A request to Pro Santé Connect.
pub type Request = http::Request<Bytes>;

/// What came back: read whole, within the cap.
pub struct Response {
    /// HTTP status; never a redirect.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body, wiped from memory when dropped because it may hold tokens.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends one request; the seam for whoever has an HTTP client of their own.
///
/// An implementation authenticates with the ORG_AUTH_CLI certificate, speaks `https` only, follows no
/// redirect and caps body and time.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends it and reads the whole answer.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection.
    #[error("it cannot be reached: {0}")]
    Unreachable(Said),
    /// The TLS handshake failed: their certificate is not trusted here, or ours is refused there.
    #[error("the TLS connection failed: {0}")]
    Tls(Said),
    /// No answer, or not the whole of it, in time.
    #[error("no complete answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer is larger than the cap.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// A redirect, which is never followed: it would carry tokens elsewhere.
    #[error("it answered with a redirect (status {status})")]
    Redirected {
        /// HTTP status.
        status: u16,
    },
    /// The address is not `https`.
    #[error("its address is not https")]
    NotHttps,
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Broken(Said),
}

impl TransportError {
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Timeout(_) | Self::Broken(_) | Self::Tls(_)
        )
    }

    pub(crate) fn explained(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unreachable(_) => (
                "name, network, firewall or outgoing proxy do not let through",
                "check the name resolution and that port 443 to Pro Santé Connect is open, directly or through the configured proxy",
            ),
            Self::Tls(_) => (
                "the certificate of the other side is not trusted, or the ORG_AUTH_CLI certificate is refused",
                "check the dates of the ORG_AUTH_CLI certificate and that no proxy opens the TLS connection",
            ),
            Self::Timeout(_) | Self::Broken(_) => (
                "Pro Santé Connect or the network is slow",
                "try again later",
            ),
            Self::TooLarge { .. } | Self::Redirected { .. } | Self::NotHttps => (
                "something else than Pro Santé Connect answers",
                "check the issuer and that no proxy answers in its place",
            ),
        }
    }
}

/// The ORG_AUTH_CLI certificate with its chain, and its key.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
}

impl ClientIdentity {
    /// The certificate first, then its intermediates.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        let key = Zeroizing::new(key);
        Self { chain, key }
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Limits and route of [`HttpsTransport`].
///
/// `Debug` shows neither user nor password of the proxy.
#[derive(Clone)]
pub struct TransportSettings {
    /// From the request to the last byte of the answer: 10 s.
    pub timeout: Duration,
    /// To open the TCP connection: 5 s.
    pub connect_timeout: Duration,
    /// Largest body of an answer: 256 KiB.
    pub body_limit: usize,
    /// Outgoing HTTP proxy, asked with CONNECT: `http://host:port`, or `http://user:password@host:port` for one that
    /// asks who comes (RFC 7617).
    pub proxy: Option<Url>,
    /// What judges the certificates of servers, in place of the authorities given with it.
    pub verifier: Option<Arc<dyn ServerCertVerifier>>,
}

impl fmt::Debug for TransportSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportSettings")
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("body_limit", &self.body_limit)
            .field("proxy", &self.proxy.as_ref().map(Url::host_str))
            .field("verifier", &self.verifier)
            .finish()
    }
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            body_limit: 256 * 1024,
            proxy: None,
            verifier: None,
        }
    }
}

/// Why an [`HttpsTransport`] cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportSetupError {
    /// Certificate and key do not fit, or the key is of an unknown kind.
    #[error(
        "the client certificate cannot be used: {0}: check that certificate and key belong together"
    )]
    Identity(#[source] rustls::Error),
    /// The proxy's address is not `http://host:port`.
    #[error("the proxy at `{0}` has not an address like http://host:port")]
    Proxy(String),
}

/// HTTPS over rustls.
pub struct HttpsTransport {
    settings: TransportSettings,
    roots: Arc<RootCertStore>,
    pool: ArcSwap<Pool>,
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
    /// A transport that trusts `roots` and presents `identity`.
    ///
    /// # Errors
    /// When certificate and key do not fit, or the proxy's address is none.
    pub fn new(
        settings: TransportSettings,
        roots: RootCertStore,
        identity: Option<ClientIdentity>,
    ) -> Result<Self, TransportSetupError> {
        let roots = Arc::new(roots);
        let pool = Pool::new(&settings, Arc::clone(&roots), identity)?;
        Ok(Self {
            settings,
            roots,
            pool: ArcSwap::from_pointee(pool),
        })
    }

    /// Presents another certificate from the next request on; no connection of the old one is used again.
    ///
    /// # Errors
    /// When certificate and key do not fit; the old ones stay in use.
    pub fn replace_identity(&self, identity: ClientIdentity) -> Result<(), TransportSetupError> {
        let pool = Pool::new(&self.settings, Arc::clone(&self.roots), Some(identity))?;
        self.pool.store(Arc::new(pool));
        Ok(())
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        if request.uri().scheme_str() != Some("https") {
            return Err(TransportError::NotHttps);
        }
        let request = request.map(Full::new);
        let pool = self.pool.load_full();
        let answer = match &*pool {
            Pool::Direct(client) => client.request(request).await,
            Pool::Proxy(client) => client.request(request).await,
        };
        let answer = answer.map_err(|error| no_connection(&error))?;
        let (head, mut body) = answer.into_parts();
        if head.status.is_redirection() {
            return Err(TransportError::Redirected {
                status: head.status.as_u16(),
            });
        }
        let limit = self.settings.body_limit;
        // With the whole capacity at once no copy of a token stays behind in a reallocation.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| TransportError::Broken(Said::new(&chain_text(&error))))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if data.len() > limit.saturating_sub(bytes.len()) {
                return Err(TransportError::TooLarge { limit });
            }
            bytes.extend_from_slice(data);
        }
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: bytes,
        })
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

impl Pool {
    fn new(
        settings: &TransportSettings,
        roots: Arc<RootCertStore>,
        identity: Option<ClientIdentity>,
    ) -> Result<Self, TransportSetupError> {
        let config = ClientConfig::builder_with_provider(cryptography())
            .with_safe_default_protocol_versions()
            .map_err(TransportSetupError::Identity)?;
        let config = match &settings.verifier {
            Some(verifier) => config
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(verifier)),
            None => config.with_root_certificates(roots),
        };
        let config = match identity {
            Some(identity) => config
                .with_client_auth_cert(identity.chain, identity.key.clone_key())
                .map_err(TransportSetupError::Identity)?,
            None => config.with_no_client_auth(),
        };

        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1();
        let mut client = Client::builder(TokioExecutor::new());
        // A connection that the other side is about to close would lose a code or a refresh token; servers close idle
        // ones after 5 s and more.
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(2));
        Ok(match &settings.proxy {
            None => Self::Direct(client.build(https.wrap_connector(tcp))),
            Some(proxy) => {
                let proxy = way_out(proxy)?;
                let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                let tunnel = match proxy.basic_auth() {
                    Some(basic) => tunnel.with_auth(basic.clone()),
                    None => tunnel,
                };
                Self::Proxy(client.build(https.wrap_connector(tunnel)))
            }
        })
    }
}

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

#[cfg(feature = "aws_lc_rs")]
fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "aws_lc_rs", feature = "ring")))]
compile_error!("choose a cryptographic provider: feature `aws_lc_rs` or `ring`");

fn no_connection(error: &hyper_util::client::legacy::Error) -> TransportError {
    let said = Said::new(&chain_text(error));
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

fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
