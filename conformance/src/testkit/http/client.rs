//! Clients and their connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::exchange::Call;
use crate::testkit::{Identity, KitError};

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
    local: Option<IpAddr>,
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

    /// Connects from this address of the machine: all of 127.0.0.0/8 are.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.local = Some(address);
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
                local: self.local,
                tls: Arc::new(tls),
                open: Mutex::default(),
                opened: AtomicUsize::new(0),
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
    local: Option<IpAddr>,
    tls: Arc<rustls::ClientConfig>,
    open: Mutex<HashMap<String, Vec<Connection>>>,
    opened: AtomicUsize,
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
            local: None,
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
        Call::new(self, method, url)
    }

    /// Drops the connections kept for later requests, so that the next one starts with a handshake.
    pub fn forget_connections(&self) {
        self.lock().clear();
    }

    /// Connections that it opened so far.
    #[must_use]
    pub fn connections_opened(&self) -> usize {
        self.inner.opened.load(Ordering::Relaxed)
    }

    /// Connections that are kept and free for the next request.
    #[must_use]
    pub fn connections_free(&self) -> usize {
        let open = self.lock();
        let free = |one: &&Connection| one.is_ready() && !one.is_closed();
        open.values().flatten().filter(free).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of HTTP it speaks.
    pub(super) fn protocol(&self) -> Protocol {
        self.inner.protocol
    }

    pub(super) async fn send(
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
        self.inner.opened.fetch_add(1, Ordering::Relaxed);
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
        if let Some(local) = self.inner.local {
            socket.bind(SocketAddr::new(local, 0))?;
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

/// Where a request goes.
pub(super) struct Target {
    key: String,
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Option<Self> {
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

/// The certificates of a PEM file.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, KitError> {
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
