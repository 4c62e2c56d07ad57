//! A DRIMbox that misbehaves: WADO-RS over mutual TLS with the images it was given, each answer spoiled
//! as it is told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;

use super::{Identity, KitError, Pki};

const BOUNDARY: &str = "b0undary";
/// Bytes of one piece of a body.
const PIECE: usize = 10_007;
/// Time between two bytes of a body that trickles.
const DRIP: Duration = Duration::from_millis(20);

/// An instance that the peer has.
#[derive(Debug, Clone)]
pub struct PeerInstance {
    /// Series Instance UID.
    pub series: String,
    /// SOP Instance UID.
    pub instance: String,
    /// The DICOM file.
    pub file: Bytes,
}

/// What happens to an answer.
#[derive(Debug, Clone)]
pub enum PeerFault {
    /// This status instead, with these header fields.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection is closed after this many parts, in the middle of the next.
    CutAfter(usize),
    /// Nothing comes any more after this many parts.
    StallAfter(usize),
    /// After this many parts, one byte at a time.
    TrickleAfter(usize),
    /// The body ends as it should, without its closing boundary.
    WithoutClosing,
    /// This part is left out.
    Without(usize),
    /// This file stands in place of a part.
    Instead(usize, Bytes),
    /// This file comes in a part more.
    Extra(Bytes),
    /// A part whose content never ends.
    EndlessPart,
    /// Parts without end.
    EndlessParts,
    /// A part whose header fields never end.
    EndlessHeaders,
    /// The body in good order, under another media type.
    MediaType(&'static str),
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct PeerRequest {
    /// Method, path and query.
    pub line: String,
    /// Header fields.
    pub fields: HeaderMap,
}

/// How the peer behaves.
#[derive(Debug, Clone, Default)]
pub struct PeerBehaviour {
    /// Faults of the next retrievals of series, each used once; `None` is an answer in good order.
    pub next: VecDeque<Option<PeerFault>>,
    /// Fault of every retrieval of a series after those.
    pub always: Option<PeerFault>,
    /// Fault of every retrieval of an instance.
    pub instance: Option<PeerFault>,
    /// Tokens that are accepted, each for this many requests; all when it is empty.
    pub tokens: Vec<(String, usize)>,
    /// Whether answers wait before their first byte.
    pub holds: bool,
}

/// A running peer; it ends when dropped.
#[derive(Debug)]
pub struct FaultyPeer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    instances: Vec<PeerInstance>,
    behaviour: Mutex<PeerBehaviour>,
    requests: Mutex<Vec<PeerRequest>>,
    connections: Mutex<usize>,
    /// First bytes of every connection.
    heads: Mutex<Vec<Vec<u8>>>,
    /// Requests whose answer is not at its end, and the most of them at once.
    open: Mutex<(usize, usize)>,
    let_go: Notify,
}

/// One of the requests whose answer is not at its end.
#[derive(Debug)]
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut open = lock(&shared.open);
        open.0 += 1;
        open.1 = open.1.max(open.0);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0.open).0 -= 1;
    }
}

impl FaultyPeer {
    /// Listens on a port of loopback with this certificate, for clients of the same authority.
    ///
    /// # Errors
    /// When it cannot listen, or a certificate cannot be used.
    pub async fn start(
        pki: &Pki,
        identity: &Identity,
        instances: Vec<PeerInstance>,
    ) -> Result<Self, KitError> {
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let acceptor = TlsAcceptor::from(Arc::new(tls(pki, identity)?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            instances,
            behaviour: Mutex::default(),
            requests: Mutex::default(),
            connections: Mutex::default(),
            heads: Mutex::default(),
            open: Mutex::default(),
            let_go: Notify::new(),
        });
        let serving = Arc::clone(&shared);
        let accept = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                let number = {
                    let mut connections = lock(&shared.connections);
                    *connections += 1;
                    *connections - 1
                };
                lock(&shared.heads).push(Vec::new());
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let noting = Arc::clone(&shared);
                    let stream = InspectReader::new(stream, move |bytes: &[u8]| {
                        if let Some(head) = lock(&noting.heads).get_mut(number) {
                            head.extend_from_slice(bytes);
                        }
                    });
                    let service = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move {
                            let open = Open::new(&shared);
                            let mut answer = answer(&shared, &request);
                            answer.body_mut().open = Some(open);
                            let let_go = shared.let_go.notified();
                            let holds = lock(&shared.behaviour).holds;
                            if holds {
                                let_go.await;
                            }
                            Ok::<_, Infallible>(answer)
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // A connection that is cut on purpose is an error.
                    let _ = connection.await;
                });
            }
        });
        Ok(Self {
            address,
            shared,
            accept: accept.abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut PeerBehaviour)) {
        change(&mut lock(&self.shared.behaviour));
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<PeerRequest> {
        lock(&self.shared.requests).clone()
    }

    /// What the connections that were opened brought, as it was on the wire.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        let heads = lock(&self.shared.heads);
        let heads = heads.iter().map(|head| String::from_utf8_lossy(head));
        heads.map(std::borrow::Cow::into_owned).collect()
    }

    /// Requests whose answer is not at its end.
    #[must_use]
    pub fn open(&self) -> usize {
        lock(&self.shared.open).0
    }

    /// The most of them that there were at once.
    #[must_use]
    pub fn most_open(&self) -> usize {
        lock(&self.shared.open).1
    }

    /// Sends the answers that wait, and those to come.
    pub fn let_go(&self) {
        lock(&self.shared.behaviour).holds = false;
        self.shared.let_go.notify_waiters();
    }

    /// TCP connections that were opened, whatever became of them.
    #[must_use]
    pub fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }
}

impl Drop for FaultyPeer {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

fn tls(pki: &Pki, identity: &Identity) -> Result<ServerConfig, KitError> {
    let invalid = |reason: String| KitError::Invalid {
        what: "certificate of a peer".into(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(pki.ca_file());
    let authority = authority.map_err(|error| invalid(error.to_string()))?;
    roots
        .add(authority)
        .map_err(|error| invalid(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    let chain = CertificateDer::from_pem_file(&identity.certificate_file);
    let chain = vec![chain.map_err(|error| invalid(error.to_string()))?];
    let key = PrivateKeyDer::from_pem_file(&identity.key_file);
    let key = key.map_err(|error| invalid(error.to_string()))?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)
        })
        .map_err(|error| invalid(error.to_string()))
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Spoiled> {
    let path = request.uri().path();
    lock(&shared.requests).push(PeerRequest {
        line: format!("{} {path}", request.method()),
        fields: request.headers().clone(),
    });
    let mut behaviour = lock(&shared.behaviour);
    if !is_authorized(&mut behaviour.tokens, request.headers()) {
        return status(401, &[]);
    }
    let segments: Vec<&str> = path.split('/').collect();
    let after = |name: &str| {
        let at = segments.iter().position(|segment| *segment == name)?;
        segments.get(at + 1).copied()
    };
    let (series, instance) = (after("series"), after("instances"));
    let fault = match instance {
        Some(_) => behaviour.instance.clone(),
        None => match behaviour.next.pop_front() {
            Some(fault) => fault,
            None => behaviour.always.clone(),
        },
    };
    let wanted = shared.instances.iter().filter(|one| {
        series == Some(&one.series) && instance.is_none_or(|uid| uid == one.instance)
    });
    let files: Vec<Bytes> = wanted.map(|one| one.file.clone()).collect();
    if files.is_empty() {
        return status(404, &[]);
    }
    spoiled(files, fault)
}

fn is_authorized(tokens: &mut [(String, usize)], fields: &HeaderMap) -> bool {
    if tokens.is_empty() {
        return true;
    }
    let shown = fields
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    let known = tokens
        .iter_mut()
        .find(|(token, left)| Some(token.as_str()) == shown && *left > 0);
    known.map(|(_, left)| *left -= 1).is_some()
}

fn spoiled(mut files: Vec<Bytes>, fault: Option<PeerFault>) -> Response<Spoiled> {
    let mut kind = format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}");
    let mut closing = true;
    let mut end = End::Whole;
    let mut tail = Vec::new();
    match fault {
        None => {}
        Some(PeerFault::Status(code, fields)) => return status(code, &fields),
        Some(PeerFault::CutAfter(parts)) => {
            if let Some(file) = files.get(parts) {
                tail = part(&file.slice(..file.len() / 2));
            }
            files.truncate(parts);
            (closing, end) = (false, End::Cut(Box::pin(sleep(DRIP))));
        }
        Some(PeerFault::StallAfter(parts)) => {
            files.truncate(parts);
            (closing, end) = (false, End::Stall);
        }
        Some(PeerFault::TrickleAfter(parts)) => {
            files.truncate(parts);
            tail = part(&[]);
            (closing, end) = (false, End::Trickle(Box::pin(sleep(DRIP))));
        }
        Some(PeerFault::WithoutClosing) => closing = false,
        Some(PeerFault::Without(at)) => drop(files.remove(at)),
        Some(PeerFault::Instead(at, file)) => {
            if let Some(place) = files.get_mut(at) {
                *place = file;
            }
        }
        Some(PeerFault::Extra(file)) => files.push(file),
        Some(PeerFault::EndlessPart) => {
            tail = files.first().map(|file| part(file)).unwrap_or_default();
            files.clear();
            (closing, end) = (false, End::Repeat(Bytes::from(vec![0; PIECE])));
        }
        Some(PeerFault::EndlessParts) => {
            let again = files.first().map(|file| part(file)).unwrap_or_default();
            (closing, end) = (false, End::Repeat(again.into()));
        }
        Some(PeerFault::EndlessHeaders) => {
            tail = format!("\r\n--{BOUNDARY}\r\n").into_bytes();
            (closing, end) = (
                false,
                End::Repeat(Bytes::from_static(b"X-Field: value\r\n")),
            );
        }
        Some(PeerFault::MediaType(other)) => kind = other.to_owned(),
    }
    let mut pieces: VecDeque<Bytes> = files.iter().map(|file| part(file).into()).collect();
    pieces.push_back(tail.into());
    if closing {
        pieces.push_back(format!("\r\n--{BOUNDARY}--\r\n").into());
    }
    let mut response = Response::new(Spoiled {
        pieces,
        end,
        open: None,
    });
    field(&mut response, CONTENT_TYPE, &kind);
    response
}

fn part(file: &[u8]) -> Vec<u8> {
    let head = format!("\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n");
    [head.as_bytes(), file].concat()
}

fn status(code: u16, fields: &[(&'static str, String)]) -> Response<Spoiled> {
    let mut response = Response::new(Spoiled {
        pieces: VecDeque::from([Bytes::from_static(b"no")]),
        end: End::Whole,
        open: None,
    });
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    for (name, value) in fields {
        field(&mut response, HeaderName::from_static(name), value);
    }
    response
}

fn field(response: &mut Response<Spoiled>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body in pieces, with an end of its own.
#[derive(Debug)]
struct Spoiled {
    pieces: VecDeque<Bytes>,
    end: End,
    open: Option<Open>,
}

#[derive(Debug)]
enum End {
    Whole,
    /// After a pause, in which what was sent goes out.
    Cut(Pin<Box<Sleep>>),
    Stall,
    Repeat(Bytes),
    Trickle(Pin<Box<Sleep>>),
}

impl Body for Spoiled {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        while let Some(front) = self.pieces.front_mut() {
            if front.is_empty() {
                self.pieces.pop_front();
                continue;
            }
            let length = front.len().min(PIECE);
            return Poll::Ready(Some(Ok(Frame::data(front.split_to(length)))));
        }
        match &mut self.end {
            End::Whole => {
                self.open = None;
                Poll::Ready(None)
            }
            End::Cut(pause) => {
                std::task::ready!(pause.as_mut().poll(cx));
                Poll::Ready(Some(Err(std::io::Error::other("cut"))))
            }
            // Nobody wakes it.
            End::Stall => Poll::Pending,
            End::Repeat(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes.clone())))),
            End::Trickle(pause) => {
                std::task::ready!(pause.as_mut().poll(cx));
                pause.set(sleep(DRIP));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
            }
        }
    }
}
