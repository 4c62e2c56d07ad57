//! Downloads: bounded in bytes and time, without redirects.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

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
    #[error("{url}: no complete answer within {} s", TIME.as_secs())]
    Timeout {
        /// The address.
        url: String,
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

/// A client for addresses of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    pooled: Pooled<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Downloads {
    /// A client; servers called by `https` must have a certificate of one of these authorities.
    pub(super) fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let tls = ClientConfig::builder_with_provider(crate::net::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIME));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pooled = Pooled::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { pooled })
    }

    /// Everything that stands at an address.
    pub(super) async fn get(&self, url: &str, limit: usize) -> Result<Bytes, FetchError> {
        match timeout(TIME, self.exchange(url, limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout {
                url: url.to_owned(),
            }),
        }
    }

    async fn exchange(&self, url: &str, limit: usize) -> Result<Bytes, FetchError> {
        let unreachable = |error: &dyn std::error::Error| FetchError::Unreachable {
            url: url.to_owned(),
            reason: causes(error),
        };
        let address: Uri = url
            .parse()
            .map_err(|_| FetchError::Address(url.to_owned()))?;
        let request = Request::builder()
            .method(Method::GET)
            .uri(address)
            .header(
                header::USER_AGENT,
                concat!("drimbox/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CACHE_CONTROL, "no-cache")
            .body(Empty::new())
            .map_err(|_| FetchError::Address(url.to_owned()))?;
        let answer = self
            .pooled
            .request(request)
            .await
            .map_err(|e| unreachable(&e))?;
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
                None => unreachable(error.as_ref()),
            }
        })
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
