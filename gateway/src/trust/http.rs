//! Downloads: bounded in bytes and time, without redirects, directly or through an outgoing proxy.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HttpProxy;

/// From the request to the last byte: a list of 20 MB over a slow line.
const TIME: Duration = Duration::from_secs(120);
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Why nothing was downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an address of the web.
    #[error("{0:?} is no address: write http://… or an absolute path")]
    Address(String),
    /// No answer.
    #[error("{url}: no answer: {reason}. Check the network and the firewall.")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// No complete answer in time.
    #[error("{url}: no complete answer within {} s", .time.as_secs())]
    Timeout {
        /// The address.
        url: String,
        /// Time that was given.
        time: Duration,
    },
    /// A status that brings nothing; redirects are not followed.
    #[error("{url}: answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// Larger than allowed.
    #[error("{url}: larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// Bytes allowed.
        limit: usize,
    },
    /// A file that cannot be read.
    #[error("{path}: cannot be read: {source}")]
    File {
        /// The path.
        path: std::path::PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The authorities of web servers cannot be read.
    #[error("{path}: no authority of web servers can be read from it (`trust.white_list.ca_file`)")]
    Authorities {
        /// The path.
        path: std::path::PathBuf,
    },
}

/// A client for the addresses of lists and of OCSP responders.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    pool: Pool,
    proxy: Option<Intercept>,
}

#[derive(Debug, Clone)]
enum Pool {
    Direct(Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Tunnel(Pooled<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

/// What the server said of a document when it gave it, to ask only whether there is a newer one
/// (RFC 9110 §13.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<HeaderValue>,
    pub(super) modified: Option<HeaderValue>,
}

impl Validators {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What stands at an address.
#[derive(Debug)]
pub(super) enum Answer {
    /// The document, and how to ask for a newer one.
    Document(Bytes, Validators),
    /// The one that the validators are of.
    NotModified,
}

impl Downloads {
    /// A client; servers called by `https` must have a certificate of one of these authorities. A proxy
    /// is asked for a tunnel to those (CONNECT), and for the document itself in plain HTTP.
    pub(super) fn new(
        roots: RootCertStore,
        proxy: Option<&HttpProxy>,
    ) -> Result<Self, rustls::Error> {
        let tls = ClientConfig::builder_with_provider(crate::net::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIME));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1();
        let mut client = Pooled::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        let proxy = proxy.and_then(way_out);
        let pool = match &proxy {
            None => Pool::Direct(client.build(https.wrap_connector(http))),
            Some(proxy) => {
                let tunnel = Tunnel::new(proxy.uri().clone(), http);
                let tunnel = match proxy.basic_auth() {
                    Some(basic) => tunnel.with_auth(basic.clone()),
                    None => tunnel,
                };
                Pool::Tunnel(client.build(https.wrap_connector(tunnel)))
            }
        };
        Ok(Self { pool, proxy })
    }

    /// Everything that stands at an address, when it is not what `known` is of.
    pub(super) async fn get(
        &self,
        url: &str,
        limit: usize,
        known: &Validators,
    ) -> Result<Answer, FetchError> {
        let request = Request::builder()
            .method(Method::GET)
            .header(header::CACHE_CONTROL, "no-cache");
        let mut request = request
            .body(Full::default())
            .map_err(|_| FetchError::Address(url.to_owned()))?;
        let conditions = [
            (header::IF_NONE_MATCH, &known.etag),
            (header::IF_MODIFIED_SINCE, &known.modified),
        ];
        for (name, value) in conditions {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let conditional = !known.is_none();
        let exchange = async {
            let answer = self.send(url, request).await?;
            if conditional && answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(Answer::NotModified);
            }
            let field = |name| answer.headers().get(name).cloned();
            let validators = Validators {
                etag: field(header::ETAG),
                modified: field(header::LAST_MODIFIED),
            };
            let document = whole(url, answer, limit).await?;
            Ok(Answer::Document(document, validators))
        };
        in_time(url, TIME, exchange).await
    }

    /// What is answered to a document within `time`.
    pub(super) async fn post(
        &self,
        url: &str,
        media_type: &'static str,
        document: Vec<u8>,
        limit: usize,
        time: Duration,
    ) -> Result<Bytes, FetchError> {
        let request = Request::builder()
            .method(Method::POST)
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::from(document))
            .map_err(|_| FetchError::Address(url.to_owned()))?;
        let exchange = async {
            let answer = self.send(url, request).await?;
            whole(url, answer, limit).await
        };
        in_time(url, time, exchange).await
    }

    async fn send(
        &self,
        url: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, FetchError> {
        let address: Uri = url
            .parse()
            .map_err(|_| FetchError::Address(url.to_owned()))?;
        let clear = address.scheme_str() == Some("http");
        *request.uri_mut() = address;
        request.headers_mut().insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("drimbox/", env!("CARGO_PKG_VERSION"))),
        );
        let answer = match (&self.pool, &self.proxy) {
            (_, Some(proxy)) if clear => return forwarded(url, proxy, request).await,
            (Pool::Direct(client), _) => client.request(request).await,
            (Pool::Tunnel(client), _) => client.request(request).await,
        };
        answer.map_err(|error| unreachable(url, &error))
    }
}

/// Where the proxy is, and what says to it who comes.
fn way_out(proxy: &HttpProxy) -> Option<Intercept> {
    let matcher = Matcher::builder().all(proxy.url().as_str()).build();
    matcher.intercept(&Uri::from_static("https://localhost"))
}

/// Has a proxy fetch a document that goes in clear (RFC 9112 §3.2.2): many open tunnels to port 443
/// alone.
async fn forwarded(
    url: &str,
    proxy: &Intercept,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, FetchError> {
    let address = proxy.uri();
    let host = address.host().unwrap_or_default();
    let place = (
        host.trim_matches(['[', ']']),
        address.port_u16().unwrap_or(80),
    );
    let connecting = TcpStream::connect(place);
    let stream = match timeout(CONNECT_TIME, connecting).await {
        Ok(stream) => stream.map_err(|error| unreachable(url, &error))?,
        Err(elapsed) => return Err(unreachable(url, &elapsed)),
    };
    let authority = request.uri().authority().map(ToString::to_string);
    let host = authority.and_then(|authority| HeaderValue::from_str(&authority).ok());
    let host = host.ok_or_else(|| FetchError::Address(url.to_owned()))?;
    request.headers_mut().insert(header::HOST, host);
    if let Some(basic) = proxy.basic_auth() {
        let basic = basic.clone();
        request
            .headers_mut()
            .insert(header::PROXY_AUTHORIZATION, basic);
    }
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| unreachable(url, &error))?;
    // It ends when the answer is read, or nobody waits for it any more.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    answer.map_err(|error| unreachable(url, &error))
}

/// The body of an answer that brings something.
async fn whole(url: &str, answer: Response<Incoming>, limit: usize) -> Result<Bytes, FetchError> {
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status {
            url: url.to_owned(),
            status: answer.status().as_u16(),
        });
    }
    let body = Limited::new(answer.into_body(), limit).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| {
        match error.downcast_ref::<http_body_util::LengthLimitError>() {
            Some(_) => FetchError::TooLarge {
                url: url.to_owned(),
                limit,
            },
            None => unreachable(url, error.as_ref()),
        }
    })
}

async fn in_time<T>(
    url: &str,
    time: Duration,
    exchange: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    match timeout(time, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::Timeout {
            url: url.to_owned(),
            time,
        }),
    }
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> FetchError {
    FetchError::Unreachable {
        url: url.to_owned(),
        reason: causes(error),
    }
}

/// Authorities of web servers in a PEM file; entries that cannot be used are left out.
pub(super) fn web_authorities(path: &Path) -> Result<RootCertStore, FetchError> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    let unusable = || FetchError::Authorities {
        path: path.to_owned(),
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|_| unusable())?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        Err(unusable())
    } else {
        Ok(roots)
    }
}

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
