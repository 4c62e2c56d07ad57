//! A small public key infrastructure, listeners on free ports, and clients.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::{Limits, ServerIdentity};
use crate::net::tls::{certified_key, provider, server_config, verifier_of};
use crate::net::{
    Capacity, Clients, Drained, Listener, ListenerKind, NamedConfigs, NamedHost, Refusals,
    RefusedCertificate, Routers, Security, certificate_refused,
};

pub const DB_HOST: &str = "db1.example.org";
pub const OTHER_DB_HOST: &str = "db2.example.org";
pub const VI_HOST: &str = "vi1.example.org";
/// A `vi` name without certificate.
pub const NEW_VI_HOST: &str = "vi2.example.org";

pub fn limits() -> Limits {
    Limits {
        max_connections: 16,
        max_connections_per_address: 16,
        max_connection_age: Duration::from_secs(900),
        max_requests: 16,
        handshake_timeout: Duration::from_secs(10),
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        max_header_bytes: 16 * 1024,
        grace_period: Duration::from_secs(30),
        max_matches: 100,
        max_head_bytes: 1024 * 1024,
    }
}

/// An authority and the files of what it issued.
pub struct Pki {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self {
            folder: tempfile::tempdir().unwrap(),
            authority,
        };
        std::fs::write(pki.ca_file(), pki.authority.pem()).unwrap();
        pki
    }

    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and key for a host name, as files.
    pub fn server(&self, host: &str) -> ServerIdentity {
        let (certificate, key) = self.issue(host, ExtendedKeyUsagePurpose::ServerAuth);
        let identity = ServerIdentity {
            certificate_file: self.path(&format!("{host}.pem")),
            key_file: self.path(&format!("{host}.key")),
        };
        std::fs::write(&identity.certificate_file, certificate.pem()).unwrap();
        std::fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        set_mode(&identity.key_file, 0o600);
        identity
    }

    /// A certificate that names its host by its common name alone.
    pub fn server_without_san(&self, host: &str) -> ServerIdentity {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, host);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let identity = ServerIdentity {
            certificate_file: self.path("no-san.pem"),
            key_file: self.path("no-san.key"),
        };
        std::fs::write(&identity.certificate_file, certificate.pem()).unwrap();
        std::fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        set_mode(&identity.key_file, 0o600);
        identity
    }

    /// A client that trusts this authority, with a certificate of `issuer` or without any.
    pub fn client(&self, issuer: Option<&Pki>) -> Client {
        self.client_of(issuer, rustls::ALL_VERSIONS)
    }

    /// The same, with these versions of TLS only.
    pub fn client_of(
        &self,
        issuer: Option<&Pki>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match issuer {
            None => builder.with_no_client_auth(),
            Some(issuer) => {
                let (certificate, key) =
                    issuer.issue("peer.example.org", ExtendedKeyUsagePurpose::ClientAuth);
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain: Vec<CertificateDer<'static>> = vec![certificate.into()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Client(config)
    }

    fn issue(&self, host: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate, key)
    }
}

/// Both `db` hosts and both `vi` hosts.
pub fn names(pki: &Pki, mandatory: bool) -> Arc<NamedConfigs> {
    let peers = Clients::Peers {
        verifier: verifier_of(&pki.ca_file()).unwrap(),
        mandatory,
    };
    let named = |host: &str, clients: &Clients| NamedHost {
        host: host.to_owned(),
        clients: clients.clone(),
        certificate: Some(Arc::new(certified_key(&pki.server(host)).unwrap())),
    };
    let hosts = [
        named(DB_HOST, &peers),
        named(OTHER_DB_HOST, &peers),
        named(VI_HOST, &Clients::Anybody),
        NamedHost {
            host: NEW_VI_HOST.to_owned(),
            clients: Clients::Anybody,
            certificate: None,
        },
    ];
    Arc::new(NamedConfigs::new(hosts).unwrap())
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A listener that runs.
pub struct Server {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub ended: JoinHandle<Drained>,
}

impl Server {
    /// A listener for both `db` hosts, whose clients must show a certificate.
    pub async fn peer(pki: &Pki, router: Router, limits: &Limits) -> Self {
        Self::named(names(pki, true), router, limits).await
    }

    pub async fn named(
        names: Arc<NamedConfigs>,
        routers: impl Into<Routers>,
        limits: &Limits,
    ) -> Self {
        Self::start(ListenerKind::Peer, Security::Named(names), routers, limits).await
    }

    /// The same, with somebody who is told of refusals.
    pub async fn telling(
        names: Arc<NamedConfigs>,
        routers: impl Into<Routers>,
        limits: &Limits,
        refusals: Arc<dyn Refusals>,
    ) -> Self {
        let listener = Self::bind(ListenerKind::Peer, Security::Named(names)).await;
        Self::run(listener.telling(refusals), routers, limits)
    }

    pub async fn local_tls(pki: &Pki, router: Router, limits: &Limits) -> Self {
        let config = server_config(&pki.server("localhost")).unwrap();
        Self::start(ListenerKind::Local, Security::Tls(config), router, limits).await
    }

    pub async fn plain(router: Router, limits: &Limits) -> Self {
        Self::start(ListenerKind::Local, Security::Plain, router, limits).await
    }

    async fn start(
        kind: ListenerKind,
        security: Security,
        routers: impl Into<Routers>,
        limits: &Limits,
    ) -> Self {
        Self::run(Self::bind(kind, security).await, routers, limits)
    }

    async fn bind(kind: ListenerKind, security: Security) -> Listener {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Listener::bind(kind, any, security).await.unwrap()
    }

    fn run(listener: Listener, routers: impl Into<Routers>, limits: &Limits) -> Self {
        let address = listener.address();
        let stop = CancellationToken::new();
        let ended =
            tokio::spawn(listener.serve(routers.into(), Capacity::new(limits), stop.clone()));
        Self {
            address,
            stop,
            ended,
        }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// A verifier to whom every certificate is revoked, and who says whose it is.
#[derive(Debug)]
pub struct Refusing;

impl ClientCertVerifier for Refusing {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        certificate_refused(RefusedCertificate {
            reason: "revoked",
            subject: Some("CN=somebody".to_owned()),
            fingerprint: "ab".repeat(32),
        });
        Err(rustls::CertificateError::Revoked.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// How a client does TLS.
pub struct Client(ClientConfig);

impl Client {
    pub fn without_sni(mut self) -> Self {
        self.0.enable_sni = false;
        self
    }

    /// The first bytes of a handshake.
    pub fn hello(&self, host: &str) -> Vec<u8> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(self.0.clone()), name).unwrap();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        wire
    }

    pub async fn tls(
        &self,
        server: &Server,
        host: &str,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = self.0.clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, server.connect().await)
            .await
    }

    pub async fn http1(&self, server: &Server, host: &str) -> http1::SendRequest<Empty<Bytes>> {
        let stream = self.tls(server, host, b"http/1.1").await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn http2(&self, server: &Server, host: &str) -> http2::SendRequest<Empty<Bytes>> {
        let stream = self.tls(server, host, b"h2").await.unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// A request without body for HTTP/1.1.
pub fn get(host: &str, path: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header("host", host)
        .body(Empty::new())
        .unwrap()
}

/// A request without body for HTTP/2.
pub fn get2(host: &str, path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://{host}{path}"))
        .body(Empty::new())
        .unwrap()
}

/// A body that gives what is sent into the channel.
pub fn channel() -> (tokio::sync::mpsc::Sender<std::io::Result<Bytes>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (sender, Body::from_stream(frames))
}
