//! An HTTP client for tests: HTTP/1.1 and HTTP/2, plain or TLS with a client certificate, host
//! names mapped to addresses by the test, and bodies read as a stream.
//!
//! It follows no redirect, retries nothing and hides nothing: a connection that breaks in the
//! middle of a body is a result that a test can look at.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::multipart::{self, Event, Splitter};
use super::{Identity, KitError};

/// Largest body that [`Response::bytes`] holds.
const MAX_BODY: usize = 256 << 20;

/// Version of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, by ALPN with TLS and by prior knowledge without.
    Http2,
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    protocol: Protocol,
    addresses: HashMap<String, SocketAddr>,
    ca_files: Vec<PathBuf>,
    identity: Option<Identity>,
    receive_buffer: Option<u32>,
}

impl ClientBuilder {
    /// Speaks this version; HTTP/1.1 unless said.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Connects to `address` for URLs with this host name, whatever their port.
    #[must_use]
    pub fn resolve(mut self, host: &str, address: SocketAddr) -> Self {
        self.addresses.insert(host.to_owned(), address);
        self
    }

    /// Trusts the authorities of a PEM file.
    #[must_use]
    pub fn ca(mut self, file: &Path) -> Self {
        self.ca_files.push(file.to_owned());
        self
    }

    /// Presents a client certificate.
    #[must_use]
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Sets the size of the socket's receive buffer: small ones make a slow reader felt soon.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// When a PEM file is not usable.
    pub fn build(self) -> Result<Client, KitError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for file in &self.ca_files {
            for certificate in certificates(file)? {
                roots.add(certificate)?;
            }
        }
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut tls = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates(&identity.certificate_file)?;
                let key = PrivateKeyDer::from_pem_file(&identity.key_file)
                    .map_err(|error| unusable(&identity.key_file, &error))?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        tls.alpn_protocols = vec![match self.protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        Ok(Client {
            inner: Arc::new(Inner {
                protocol: self.protocol,
                addresses: self.addresses,
                receive_buffer: self.receive_buffer,
                tls: Arc::new(tls),
                open: Mutex::default(),
            }),
        })
    }
}

/// An HTTP client; clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    protocol: Protocol,
    addresses: HashMap<String, SocketAddr>,
    receive_buffer: Option<u32>,
    tls: Arc<rustls::ClientConfig>,
    open: Mutex<HashMap<String, Vec<Connection>>>,
}

impl Client {
    /// Starts a client that speaks HTTP/1.1 and trusts nobody.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            protocol: Protocol::Http1,
            addresses: HashMap::new(),
            ca_files: Vec::new(),
            identity: None,
            receive_buffer: None,
        }
    }

    /// A client for `http://` addresses of loopback.
    ///
    /// # Errors
    /// When rustls refuses its own defaults.
    pub fn plain() -> Result<Self, KitError> {
        Self::builder().build()
    }

    /// A GET request.
    #[must_use]
    pub fn get(&self, url: &str) -> Call {
        self.request(Method::GET, url)
    }

    /// A request of any method.
    #[must_use]
    pub fn request(&self, method: Method, url: &str) -> Call {
        Call {
            client: self.clone(),
            method,
            url: url.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Drops the connections kept for later requests, so that the next one starts with a handshake.
    pub fn forget_connections(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(
        &self,
        target: &Target,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, KitError> {
        let failed = || KitError::http(format!("{} {}", request.method(), request.uri()));
        let failed = failed();
        let idle = {
            let mut open = self.lock();
            let connections = open.entry(target.key.clone()).or_default();
            connections.retain(|connection| !connection.is_closed());
            let ready = connections.iter().position(Connection::is_ready);
            ready.map(|at| connections.swap_remove(at))
        };
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect(target).await?,
        };
        let (keep, answer) = match &mut connection {
            Connection::Http1(sender) => {
                let answer = sender.send_request(request).await;
                (connection, answer)
            }
            Connection::Http2(sender) => {
                let mut sender = sender.clone();
                self.lock()
                    .entry(target.key.clone())
                    .or_default()
                    .push(connection);
                return sender.send_request(request).await.map_err(failed);
            }
        };
        self.lock()
            .entry(target.key.clone())
            .or_default()
            .push(keep);
        answer.map_err(failed)
    }

    async fn connect(&self, target: &Target) -> Result<Connection, KitError> {
        let what = format!("connect to {}", target.key);
        let address = match self.inner.addresses.get(&target.host) {
            Some(address) => *address,
            None => tokio::net::lookup_host((target.host.as_str(), target.port))
                .await
                .map_err(KitError::http(what.clone()))?
                .next()
                .ok_or_else(|| KitError::http(what.clone())("no address"))?,
        };
        let stream = self
            .open(address)
            .await
            .map_err(KitError::http(what.clone()))?;
        if !target.tls {
            return self.handshake(stream, what).await;
        }
        let name =
            ServerName::try_from(target.host.clone()).map_err(KitError::http(what.clone()))?;
        let stream = tokio_rustls::TlsConnector::from(self.inner.tls.clone())
            .connect(name, stream)
            .await
            .map_err(KitError::http(what.clone()))?;
        self.handshake(stream, what).await
    }

    async fn open(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(bytes) = self.inner.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn handshake<S>(&self, stream: S, what: String) -> Result<Connection, KitError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        match self.inner.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .handshake(stream)
                    .await
                    .map_err(KitError::http(what))?;
                tokio::spawn(connection);
                Ok(Connection::Http1(sender))
            }
            Protocol::Http2 => {
                // A slow reader must be felt by the server, a fast one must not be held back.
                let window = self.inner.receive_buffer.unwrap_or(4 << 20);
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(window)
                    .initial_connection_window_size(window.max(1 << 16))
                    .max_frame_size(1 << 20)
                    .handshake(stream)
                    .await
                    .map_err(KitError::http(what))?;
                tokio::spawn(connection);
                Ok(Connection::Http2(sender))
            }
        }
    }
}

#[derive(Debug)]
enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

struct Target {
    key: String,
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self {
            key: format!("{}{host}:{port}", if tls { "tls:" } else { "" }),
            host,
            port,
            tls,
        })
    }
}

/// A request before it is sent.
#[derive(Debug)]
pub struct Call {
    client: Client,
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the `Accept` header.
    #[must_use]
    pub fn accept(self, value: &str) -> Self {
        self.header("accept", value)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and waits for the head of the answer.
    ///
    /// # Errors
    /// When the URL is wrong, the connection or its TLS handshake fails, or the connection ends
    /// before the head of an answer.
    pub async fn send(self) -> Result<Response, KitError> {
        let started = Instant::now();
        let wrong = KitError::http(format!("URL {}", self.url));
        let uri: Uri = match self.url.parse() {
            Ok(uri) => uri,
            Err(error) => return Err(wrong(error.to_string())),
        };
        let Some(target) = Target::of(&uri) else {
            return Err(wrong("neither http nor https".to_owned()));
        };
        let mut request = Request::builder().method(self.method);
        request = match self.client.inner.protocol {
            Protocol::Http1 => {
                let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                request.uri(path).header("host", authority)
            }
            Protocol::Http2 => request.uri(&uri),
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(self.body))
            .map_err(KitError::http(format!("request for {}", self.url)))?;
        let response = self.client.send(&target, request).await?;
        Ok(Response {
            url: self.url,
            started,
            response,
        })
    }
}

/// The head of an answer, with its body still to be read.
#[derive(Debug)]
pub struct Response {
    url: String,
    started: Instant,
    response: http::Response<Incoming>,
}

impl Response {
    /// Its status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header field as text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection ends or the stream is reset before the body is whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, KitError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(KitError::http(format!("body of {}", self.url)))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it breaks, or is larger than 256 MiB.
    pub async fn bytes(mut self) -> Result<Bytes, KitError> {
        let mut all = Vec::new();
        while let Some(data) = self.next().await? {
            if all.len() + data.len() > MAX_BODY {
                return Err(KitError::http(self.url)("the body is larger than 256 MiB"));
            }
            all.extend_from_slice(&data);
        }
        Ok(all.into())
    }

    /// The whole body as text.
    ///
    /// # Errors
    /// As [`Self::bytes`], or when it is not UTF-8.
    pub async fn text(self) -> Result<String, KitError> {
        let what = format!("body of {}", self.url);
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.to_vec()).map_err(KitError::http(what))
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// As [`Self::bytes`], or when it is not JSON.
    pub async fn json(self) -> Result<serde_json::Value, KitError> {
        let what = format!("body of {}", self.url);
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(KitError::http(what))
    }

    /// Reads and counts the body without looking at it.
    pub async fn drain(mut self) -> Drained {
        let mut drained = Drained::default();
        loop {
            match self.next().await {
                Ok(Some(data)) => {
                    drained
                        .first_byte
                        .get_or_insert_with(|| self.started.elapsed());
                    drained.bytes += data.len() as u64;
                }
                Ok(None) => break,
                Err(error) => {
                    drained.broken = Some(error.to_string());
                    break;
                }
            }
        }
        drained.total = self.started.elapsed();
        drained
    }

    /// Reads a multipart body part by part, without keeping it.
    ///
    /// # Errors
    /// When the answer is not multipart, or its body is not what its head says. A body that stops
    /// early is not an error here: see [`Multipart::is_complete`].
    pub async fn multipart(self) -> Result<Multipart, KitError> {
        self.multipart_into(None).await
    }

    /// As [`Self::multipart`], keeping part number `n` (from 0) as `FOLDER/n.part`.
    ///
    /// # Errors
    /// As [`Self::multipart`], or when a file cannot be written.
    pub async fn multipart_to(self, folder: &Path) -> Result<Multipart, KitError> {
        self.multipart_into(Some(folder)).await
    }

    async fn multipart_into(mut self, folder: Option<&Path>) -> Result<Multipart, KitError> {
        let what = format!("multipart body of {}", self.url);
        let boundary = multipart::boundary(self.header("content-type"))
            .map_err(KitError::http(what.clone()))?;
        let mut splitter = Splitter::new(&boundary);
        let mut sink = Sink::new(folder);
        let mut result = Multipart::default();
        let mut events = Vec::new();
        loop {
            let data = match self.next().await {
                Ok(Some(data)) => data,
                Ok(None) => break,
                Err(error) => {
                    result.broken = Some(error.to_string());
                    break;
                }
            };
            let elapsed = self.started.elapsed();
            result.first_byte.get_or_insert(elapsed);
            result.bytes += data.len() as u64;
            splitter
                .push(&data, &mut events)
                .map_err(KitError::http(what.clone()))?;
            for event in events.drain(..) {
                sink.take(event, elapsed, &mut result.parts)?;
            }
        }
        result.is_closed = splitter.is_closed();
        result.total = self.started.elapsed();
        Ok(result)
    }
}

/// Turns the events of a body into parts.
struct Sink<'a> {
    folder: Option<&'a Path>,
    file: Option<std::fs::File>,
    digest: aws_lc_rs::digest::Context,
    current: Part,
    number: usize,
}

impl<'a> Sink<'a> {
    fn new(folder: Option<&'a Path>) -> Self {
        Self {
            folder,
            file: None,
            digest: digest(),
            current: Part::default(),
            number: 0,
        }
    }

    fn take(
        &mut self,
        event: Event,
        elapsed: Duration,
        parts: &mut Vec<Part>,
    ) -> Result<(), KitError> {
        use std::io::Write;
        match event {
            Event::Part(headers) => {
                self.digest = digest();
                self.current = Part {
                    headers,
                    ..Part::default()
                };
                if let Some(folder) = self.folder {
                    let path = folder.join(format!("{}.part", self.number));
                    let file =
                        std::fs::File::create(&path).map_err(KitError::io("create", &path))?;
                    self.file = Some(file);
                }
                self.number += 1;
            }
            Event::Data(data) => {
                self.digest.update(&data);
                self.current.bytes += data.len() as u64;
                if let (Some(file), Some(folder)) = (&mut self.file, self.folder) {
                    file.write_all(&data)
                        .map_err(KitError::io("write a part into", folder))?;
                }
            }
            Event::PartEnd => {
                let digest = std::mem::replace(&mut self.digest, digest()).finish();
                let mut part = std::mem::take(&mut self.current);
                part.sha256 = hex(digest.as_ref());
                part.ended = elapsed;
                parts.push(part);
            }
            Event::Closed => {}
        }
        Ok(())
    }
}

/// What a body that was not looked at came to.
#[derive(Debug, Clone, Default)]
pub struct Drained {
    /// Its size.
    pub bytes: u64,
    /// Time from the request to its first byte.
    pub first_byte: Option<Duration>,
    /// Time from the request (connection included) to its end.
    pub total: Duration,
    /// Why it stopped early, if it did.
    pub broken: Option<String>,
}

/// What a multipart body held.
#[derive(Debug, Clone, Default)]
pub struct Multipart {
    /// Parts that were whole, in order.
    pub parts: Vec<Part>,
    /// Size of the body.
    pub bytes: u64,
    /// Whether the closing boundary was there.
    pub is_closed: bool,
    /// Why the body stopped early, if the connection says so.
    pub broken: Option<String>,
    /// Time from the request to the first byte of the body.
    pub first_byte: Option<Duration>,
    /// Time from the request (connection included) to the end of the body.
    pub total: Duration,
}

impl Multipart {
    /// Whether a client may believe that it has everything: closing boundary, clean end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_closed && self.broken.is_none()
    }
}

/// A whole part of a multipart body.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Its header lines, `(lower-case name, value)`.
    pub headers: Vec<(String, String)>,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Time from the request to its last byte.
    pub ended: Duration,
}

impl Part {
    /// Its `Content-Type`; empty when it has none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.headers
            .iter()
            .find(|(name, _)| name == "content-type")
            .map_or("", |(_, value)| value)
    }
}

/// SHA-256 of bytes, in the form of [`Part::sha256`].
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn digest() -> aws_lc_rs::digest::Context {
    aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The certificates of a PEM file.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, KitError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn std::fmt::Display) -> KitError {
    KitError::Invalid {
        what: file.display().to_string(),
        reason: error.to_string(),
    }
}
