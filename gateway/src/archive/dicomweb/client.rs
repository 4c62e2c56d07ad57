//! HTTP with one DICOMweb server: connections, credentials, places and pauses, and time that is
//! limited by what arrives.
//!
//! No redirection is followed: credentials and questions go to the configured server only.

use std::error::Error as StdError;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client as Pooled, Error as PooledError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;

use crate::archive::ArchiveError;
use crate::archive::gate::{Gate, GateLimits, Place};
use crate::archive::socket::{Socket, Tls};
use crate::config::PacsDicomweb;

/// Body of a request.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Bytes read to the end of an answer nobody needs, so that its connection can serve again.
const DRAINED: usize = 64 << 10;

/// Who the gateway is to the server.
#[derive(Debug)]
pub enum Credentials {
    /// Nobody, or whom the client certificate names.
    None,
    /// The value of `Authorization`, Basic (RFC 7617) or Bearer (RFC 6750).
    Header(SecretString),
}

/// What a client needs to know of its server.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Root of the service, without a slash at the end: scheme, host, port and path.
    pub root: String,
    /// How errors call the server: `host:port`.
    pub address: String,
    /// Requests under way at once.
    pub max_requests: usize,
    /// Requests that wait for their turn at most.
    pub max_waiting: usize,
    /// Time an idle connection is kept for the next request.
    pub idle_timeout: Duration,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time without any byte while an answer is due.
    pub response_timeout: Duration,
}

/// Opens connections with one server.
pub trait Dial: Send + Sync + 'static {
    /// Opens one; whoever calls limits the time.
    fn dial(&self) -> BoxFuture<'_, Result<Socket, ArchiveError>>;
}

/// The client of one server.
pub struct Client {
    gate: Gate,
    settings: ClientSettings,
    credentials: Credentials,
    pooled: Pooled<Connector, Body>,
    address: Arc<str>,
}

/// What one request asks for.
pub struct Ask {
    /// Service in words, for errors: `QIDO-RS`.
    pub service: &'static str,
    /// Path and query below the root of the service, encoded.
    pub path: String,
    /// Value of `Accept`.
    pub accept: &'static str,
    /// Header fields besides; one of the same name as a usual one stands in its place.
    pub fields: HeaderMap,
}

impl Client {
    /// The client of a configured PACS; it has not connected yet.
    #[must_use]
    pub fn new(
        name: &str,
        settings: &PacsDicomweb,
        tls: Option<Tls>,
        credentials: Credentials,
    ) -> Self {
        let target = Target {
            host: settings.host.clone(),
            port: settings.port,
            tls,
        };
        let settings = ClientSettings {
            root: settings.root.clone(),
            address: format!("{}:{}", settings.host, settings.port),
            max_requests: settings.max_requests,
            max_waiting: settings.max_waiting,
            idle_timeout: settings.idle_timeout,
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
        };
        let gauge = "drimbox_upstream_breaker_open";
        Self::over(name, gauge, settings, Arc::new(target), credentials)
    }

    /// A client whose connections somebody else opens. `paused_gauge` is the metric that tells when
    /// the server is left alone.
    #[must_use]
    pub fn over(
        name: &str,
        paused_gauge: &'static str,
        settings: ClientSettings,
        dial: Arc<dyn Dial>,
        credentials: Credentials,
    ) -> Self {
        let limits = GateLimits {
            places: settings.max_requests,
            max_waiting: settings.max_waiting,
            patience: settings.response_timeout,
        };
        let address: Arc<str> = settings.address.as_str().into();
        let connector = Connector {
            dial,
            address: Arc::clone(&address),
            limit: settings.connect_timeout,
        };
        let pooled = Pooled::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.max_requests)
            .build(connector);
        Self {
            gate: Gate::new(name, limits, paused_gauge),
            address,
            settings,
            credentials,
            pooled,
        }
    }

    /// Name of the PACS in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        self.gate.name()
    }

    /// A failure of the rules of the exchange.
    pub fn protocol(&self, detail: impl ToString) -> ArchiveError {
        ArchiveError::Protocol {
            address: self.address.to_string(),
            detail: detail.to_string(),
        }
    }

    /// A status that is no success.
    #[must_use]
    pub fn status(&self, service: &'static str, status: StatusCode) -> ArchiveError {
        ArchiveError::Status {
            address: self.address.to_string(),
            service,
            status: status.as_u16(),
        }
    }

    /// Asks with GET. The server may have closed an idle connection at any time: when it did so
    /// instead of answering, it is asked once more.
    ///
    /// # Errors
    /// When there is no place, no connection or no answer. A status is not an error here, unless it
    /// says that the server as a whole cannot serve.
    pub async fn get(&self, ask: &Ask) -> Result<Answer, ArchiveError> {
        let (outcome, place) = self.get_once_more(ask).await?;
        self.answered(
            outcome.and_then(|response| self.serving(ask, response)),
            place,
        )
    }

    /// As [`Self::get`], but no status is an error.
    ///
    /// # Errors
    /// When there is no place, no connection or no answer.
    pub async fn get_any(&self, ask: &Ask) -> Result<Answer, ArchiveError> {
        let (outcome, place) = self.get_once_more(ask).await?;
        self.answered(outcome, place)
    }

    async fn get_once_more(
        &self,
        ask: &Ask,
    ) -> Result<(Result<http::Response<Incoming>, ArchiveError>, Place), ArchiveError> {
        let place = self.gate.enter().await?;
        let deadline = Deadline::new(self.settings.response_timeout);
        let once = || self.exchange(Method::GET, ask, None, empty(), &deadline);
        let outcome = match once().await {
            Err(ArchiveError::Closed { .. }) => {
                deadline.moved();
                once().await
            }
            outcome => outcome,
        };
        Ok((outcome, place))
    }

    /// Sends a body with POST. Time runs from the last piece that the server took.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(
        &self,
        ask: &Ask,
        content_type: &str,
        body: Body,
    ) -> Result<Answer, ArchiveError> {
        let place = self.gate.enter().await?;
        let deadline = Deadline::new(self.settings.response_timeout);
        let progress = deadline.clone();
        let body = body.map_frame(move |frame| {
            progress.moved();
            frame
        });
        let body = UnsyncBoxBody::new(body);
        let exchange = self.exchange(Method::POST, ask, Some(content_type), body, &deadline);
        let outcome = exchange.await;
        self.answered(
            outcome.and_then(|response| self.serving(ask, response)),
            place,
        )
    }

    /// Turns a status that says that the server cannot serve into an error.
    fn serving(
        &self,
        ask: &Ask,
        response: http::Response<Incoming>,
    ) -> Result<http::Response<Incoming>, ArchiveError> {
        let error = self.status(ask.service, response.status());
        if error.is_outage() {
            Err(error)
        } else {
            Ok(response)
        }
    }

    /// Notes whether the server could be reached.
    fn answered(
        &self,
        outcome: Result<http::Response<Incoming>, ArchiveError>,
        place: Place,
    ) -> Result<Answer, ArchiveError> {
        match &outcome {
            Err(error) if error.is_outage() => self.gate.record(Err(error)),
            _ => self.gate.record(Ok(())),
        }
        let (head, body) = outcome?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            address: Arc::clone(&self.address),
            limit: self.settings.response_timeout,
            _busy: Busy::new(self.name()),
            _place: place,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        ask: &Ask,
        content_type: Option<&str>,
        body: Body,
        deadline: &Deadline,
    ) -> Result<http::Response<Incoming>, ArchiveError> {
        self.gate.check()?;
        let uri = format!("{}{}", self.settings.root, ask.path);
        let uri: Uri = uri.parse().map_err(|_| {
            self.protocol("the question does not fit in the address of a request; ask for less")
        })?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
        let agent = concat!("drimbox/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(content_type) = content_type {
            let value = HeaderValue::from_str(content_type).map_err(|e| self.protocol(e))?;
            headers.insert(CONTENT_TYPE, value);
        }
        if let Credentials::Header(secret) = &self.credentials {
            let value = HeaderValue::from_str(secret.expose_secret());
            let mut value = value.map_err(|error| self.protocol(error))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in &ask.fields {
            headers.insert(name, value.clone());
        }
        let response = deadline.limit(self.pooled.request(request)).await;
        let response = response.ok_or_else(|| ArchiveError::TimedOut {
            address: self.address.to_string(),
            stage: ask.service,
            after: self.settings.response_timeout,
        })?;
        response.map_err(|error| self.failure(ask.service, &error))
    }

    fn failure(&self, stage: &'static str, error: &PooledError) -> ArchiveError {
        let mut next: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(cause) = next {
            if let Some(error) = cause.downcast_ref::<ArchiveError>() {
                return error.clone();
            }
            if let Some(error) = cause.downcast_ref::<hyper::Error>() {
                return broken(&self.address, stage, error);
            }
            next = cause.source();
        }
        self.protocol(error)
    }
}

/// The head of an answer, and its body as it arrives.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    address: Arc<str>,
    limit: Duration,
    _busy: Busy,
    _place: Place,
}

impl Answer {
    /// `Content-Type`; empty when there is none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        let value = self.headers.get(CONTENT_TYPE);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Type and subtype of `Content-Type` in lower case.
    #[must_use]
    pub fn media_type(&self) -> String {
        let text = self.content_type();
        let media_type = text.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }

    /// A header field, when it is text.
    #[must_use]
    pub fn field(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the server says that there is more (PS3.18 §8.3.4.4).
    #[must_use]
    pub fn warns_of_more(&self) -> bool {
        self.warnings().any(|text| !is_of_literal_names(text))
    }

    /// Whether the server says that it matched names literally (PS3.18 §8.3.4.2).
    #[must_use]
    pub fn warns_of_literal_names(&self) -> bool {
        self.warnings().any(is_of_literal_names)
    }

    fn warnings(&self) -> impl Iterator<Item = &[u8]> {
        let warnings = self.headers.get_all(http::header::WARNING).iter();
        let warnings = warnings.map(|value| value.as_bytes());
        warnings.filter(|text| text.starts_with(b"299"))
    }

    /// The address and what went wrong, as an error.
    pub fn protocol(&self, detail: impl ToString) -> ArchiveError {
        ArchiveError::Protocol {
            address: self.address.to_string(),
            detail: detail.to_string(),
        }
    }

    /// The connection ended where more was due.
    #[must_use]
    pub fn closed(&self, stage: &'static str) -> ArchiveError {
        ArchiveError::Closed {
            address: self.address.to_string(),
            stage,
        }
    }

    /// Refuses an encoding that nobody asked for.
    ///
    /// # Errors
    /// [`ArchiveError::Protocol`].
    pub fn check_encoding(&self) -> Result<(), ArchiveError> {
        match self.headers.get(CONTENT_ENCODING) {
            Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"identity") => {
                Err(self.protocol("a compressed answer that was not asked for"))
            }
            _ => Ok(()),
        }
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ArchiveError::TimedOut`] when nothing comes, [`ArchiveError::Closed`] when the body is cut.
    pub async fn next(&mut self, stage: &'static str) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            let frame = timeout(self.limit, self.body.frame()).await;
            let frame = frame.map_err(|_| ArchiveError::TimedOut {
                address: self.address.to_string(),
                stage,
                after: self.limit,
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(&self.address, stage, &error)),
                Some(Ok(frame)) => {
                    // What is not data is a trailer.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads what little is left, so that the connection can serve again.
    pub async fn finish(mut self) {
        let mut left = DRAINED;
        while let Ok(Some(data)) = self.next("the end of an answer").await {
            match left.checked_sub(data.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// What a failure of an exchange means.
fn broken(address: &str, stage: &'static str, error: &hyper::Error) -> ArchiveError {
    // With TLS 1.3 a client certificate is refused after the handshake, on the first read.
    if let Some(detail) = tls_failure(error) {
        return ArchiveError::Tls {
            address: address.to_owned(),
            detail,
        };
    }
    if error.is_parse() {
        return ArchiveError::Protocol {
            address: address.to_owned(),
            detail: error.to_string(),
        };
    }
    ArchiveError::Closed {
        address: address.to_owned(),
        stage,
    }
}

/// What TLS said, when that is why an exchange failed.
fn tls_failure(error: &hyper::Error) -> Option<String> {
    let mut next = error.source();
    while let Some(cause) = next {
        let inner = cause
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref());
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls.to_string());
        }
        next = cause.source();
    }
    None
}

fn is_of_literal_names(warning: &[u8]) -> bool {
    memchr::memmem::find(warning, b"fuzzymatching").is_some()
}

fn empty() -> Body {
    UnsyncBoxBody::new(Empty::new().map_err(|never| match never {}))
}

/// Time without progress.
#[derive(Clone)]
struct Deadline {
    limit: Duration,
    last: Arc<Mutex<Instant>>,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            last: Arc::new(Mutex::new(Instant::now())),
        }
    }

    fn moved(&self) {
        *self.last.lock() = Instant::now();
    }

    /// `None` when there was no progress for too long.
    async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let until = *self.last.lock() + self.limit;
            if let Ok(done) = timeout_at(until, &mut work).await {
                return Some(done);
            }
            if *self.last.lock() + self.limit <= Instant::now() {
                return None;
            }
        }
    }
}

/// Counts an exchange under way.
struct Busy(String);

impl Busy {
    fn new(name: &str) -> Self {
        metrics::gauge!("drimbox_upstream_exchanges", "pacs" => name.to_owned()).increment(1.0);
        Self(name.to_owned())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.0);
        metrics::gauge!("drimbox_upstream_exchanges", "pacs" => name).decrement(1.0);
    }
}

/// Opens connections with the one server, whatever the address of a request says.
#[derive(Clone)]
struct Connector {
    dial: Arc<dyn Dial>,
    address: Arc<str>,
    limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Socket>;
    type Error = ArchiveError;
    type Future = BoxFuture<'static, Result<TokioIo<Socket>, ArchiveError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ArchiveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        async move {
            let socket = timeout(this.limit, this.dial.dial()).await;
            let socket = socket.map_err(|_| ArchiveError::TimedOut {
                address: this.address.to_string(),
                stage: "connection",
                after: this.limit,
            })?;
            socket.map(TokioIo::new)
        }
        .boxed()
    }
}

/// A server of which host and port are configured.
struct Target {
    host: String,
    port: u16,
    tls: Option<Tls>,
}

impl Dial for Target {
    fn dial(&self) -> BoxFuture<'_, Result<Socket, ArchiveError>> {
        Socket::connect(&self.host, self.port, self.tls.as_ref()).boxed()
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
