//! Accept loops: from a TCP connection to requests, and the end of it all.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::connection::{Connection, ListenerKind, canonical_host};
use super::idle::WriteIdle;
use super::names::{Choice, NamedConfigs};
use super::refusals::{HANDSHAKE, Note, Refusals, Refused, Told};
use super::requests::{self, Capacity};
use super::routers::Routers;
use super::stall::Streams;
use super::tls::BUFFER_LIMIT;
use crate::config::Limits;

/// Bytes hyper may keep per HTTP/1.1 connection of what it reads or has yet to write.
const HTTP1_BUFFER: usize = 256 * 1024;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 64;

/// Streams that a client of HTTP/2 resets before they are looked at, and errors that make the
/// gateway reset one, after which its connection ends (CVE-2023-44487 and its kind).
const HTTP2_RESETS: usize = 64;

/// Times `max_header_bytes` that HTTP/2 takes in of one head, so that one that is too large becomes a
/// request, which is refused and told. Of one that is larger than this nothing is kept: h2 answers it, and
/// nobody is told. No more than [`HTTP2_STREAMS`] of them wait at a time.
const HTTP2_HEADS: u32 = 2;

/// Time between two signs of life asked of an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A fatal `unrecognized_name` alert in a record of its own (RFC 6066 §3, RFC 8446 §6): refused
/// before any certificate is shown.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// How a listener secures its connections.
#[derive(Clone)]
pub enum Security {
    /// Clear text, HTTP/1.1: for loopback.
    Plain,
    /// One certificate for every name.
    Tls(Arc<ServerConfig>),
    /// A certificate per host name; a client without a known name is refused.
    Named(Arc<NamedConfigs>),
}

impl Security {
    /// What a handshake is answered with, on a listener of this kind.
    fn choose(&self, hello: &ClientHello<'_>, kind: ListenerKind) -> Choice {
        match self {
            Self::Plain => Choice::UnknownName,
            Self::Tls(config) => Choice::Known(config.clone(), kind),
            Self::Named(configs) => configs.choose(hello),
        }
    }
}

/// Why a listener could not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "{kind} listener: cannot listen on {address}: {source}. Choose another address, or stop what uses it."
)]
pub struct ListenError {
    /// The listener.
    pub kind: ListenerKind,
    /// Address it was to listen on.
    pub address: SocketAddr,
    /// What the system answered.
    pub source: io::Error,
}

/// What became of the connections that were open when the listener was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Ended by themselves within the grace period.
    pub finished: usize,
    /// Cut at its end.
    pub aborted: usize,
}

/// A bound socket, not yet accepting.
pub struct Listener {
    kind: ListenerKind,
    socket: TcpListener,
    address: SocketAddr,
    security: Security,
    told: Told,
}

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// [`ListenError`] when the address is in use or not this machine's.
    pub async fn bind(
        kind: ListenerKind,
        address: SocketAddr,
        security: Security,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError {
            kind,
            address,
            source,
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self {
            kind,
            socket,
            address,
            security,
            told: Told::default(),
        })
    }

    /// Tells somebody what is refused here before any handler sees it.
    #[must_use]
    pub fn telling(self, refusals: Arc<dyn Refusals>) -> Self {
        Self {
            told: Told::by(refusals),
            ..self
        }
    }

    /// Which listener it is.
    #[must_use]
    pub fn kind(&self) -> ListenerKind {
        self.kind
    }

    /// The address it listens on, with the port the system chose when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections and answers their requests with `routers` until `stop`; then lets those
    /// in progress finish within the grace period of `capacity`'s limits and cuts the rest.
    ///
    /// Every request carries a [`Connection`] and a [`super::RequestId`] as extensions.
    pub async fn serve(
        self,
        routers: impl Into<Routers>,
        capacity: Capacity,
        stop: CancellationToken,
    ) -> Drained {
        let routers = routers.into();
        let Self {
            kind,
            socket,
            security,
            told,
            ..
        } = self;
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // The place first: what does not fit waits in the system's queue, not in memory.
            let accepted = async {
                let place = capacity.connections.clone().acquire_owned().await;
                (place, socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    after_failed_accept(kind, &error).await;
                    continue;
                }
            };
            // The centre's own network comes through one machine where a relay stands before us.
            let of_address = match kind {
                ListenerKind::Peer | ListenerKind::Clear => {
                    match capacity.per_address.take(remote.ip()) {
                        Some(of_address) => Some(of_address),
                        None => {
                            metrics::counter!(
                            "drimbox_http_connections_refused_total", "listener" => kind.as_str()
                        )
                        .increment(1);
                            tracing::debug!(listener = %kind, %remote, "too many connections of one address");
                            let refused = Refused {
                                listener: kind,
                                remote: remote.ip(),
                                host: None,
                                reason: "too_many_connections",
                                status: None,
                                certificate: None,
                                peer: None,
                            };
                            told.tell(refused);
                            continue;
                        }
                    }
                }
                ListenerKind::Admin | ListenerKind::Local | ListenerKind::Viewer => None,
            };
            let arrival = Arrival {
                kind,
                id: capacity.next_connection(),
                remote,
                routers: routers.clone(),
                capacity: capacity.clone(),
                told: told.clone(),
                stop: stop.clone(),
            };
            let security = security.clone();
            connections.spawn(async move {
                let _places = (place, of_address);
                let open = metrics::gauge!("drimbox_http_connections", "listener" => kind.as_str());
                open.increment(1.0);
                let _closed = Defer(|| open.decrement(1.0));
                arrival.serve(stream, security).await;
            });
        }
        drop(socket);
        drain(connections, capacity.limits.grace_period).await
    }
}

async fn drain(mut connections: JoinSet<()>, grace: Duration) -> Drained {
    while connections.try_join_next().is_some() {}
    let open = connections.len();
    let all_done = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(grace, all_done).await;
    while connections.try_join_next().is_some() {}
    let aborted = connections.len();
    connections.shutdown().await;
    Drained {
        finished: open - aborted,
        aborted,
    }
}

/// Out of file descriptors or memory: accepting again at once would only spin.
async fn after_failed_accept(kind: ListenerKind, error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        tracing::warn!(
            listener = %kind, %error,
            "cannot accept connections; raise the limit of open files if it is reached"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A connection that was just accepted, and all it needs.
struct Arrival {
    kind: ListenerKind,
    id: u64,
    remote: SocketAddr,
    routers: Routers,
    capacity: Capacity,
    told: Told,
    stop: CancellationToken,
}

/// What the TLS handshake told.
struct Handshake {
    kind: ListenerKind,
    host: Option<Arc<str>>,
    peer_certificates: Option<Arc<[CertificateDer<'static>]>>,
    http2: bool,
}

/// Why a handshake did not succeed, as a label of the metric.
struct HandshakeFailure {
    cause: &'static str,
    error: io::Error,
}

impl Arrival {
    async fn serve(self, stream: TcpStream, security: Security) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(listener = %self.kind, %error, "connection lost at once");
            return;
        }
        let limits = self.capacity.limits.clone();
        let stream = WriteIdle::new(stream, limits.idle_timeout);
        if matches!(security, Security::Plain) {
            let plain = Handshake {
                kind: self.kind,
                host: None,
                peer_certificates: None,
                http2: false,
            };
            return self.speak(stream, plain).await;
        }
        let note = Note::default();
        let handshake = secure(stream, &note, |hello| security.choose(hello, self.kind));
        let handshake = HANDSHAKE.scope(note.clone(), handshake);
        let outcome = tokio::select! {
            biased;
            // No request is in progress yet.
            () = self.stop.cancelled() => return,
            outcome = tokio::time::timeout(limits.handshake_timeout, handshake) => outcome,
        };
        let failure = match outcome {
            Ok(Ok((stream, handshake))) => return self.speak(stream, handshake).await,
            Ok(Err(failure)) => failure,
            Err(_) => HandshakeFailure {
                cause: "timeout",
                error: io::ErrorKind::TimedOut.into(),
            },
        };
        let HandshakeFailure { cause, error } = failure;
        metrics::counter!(
            "drimbox_tls_handshake_failures_total",
            "listener" => self.kind.as_str(), "cause" => cause
        )
        .increment(1);
        tracing::info!(
            listener = %self.kind, connection = self.id, remote = %self.remote, cause, %error,
            "TLS handshake failed"
        );
        if let Some(refused) = note.refusal(self.kind, self.remote.ip(), cause) {
            self.told.tell(refused);
        }
    }

    /// HTTP over a ready stream, by the protocol that was agreed on.
    async fn speak<S>(self, stream: S, handshake: Handshake)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.capacity.limits.clone();
        let connection = Connection {
            id: self.id,
            listener: handshake.kind,
            remote: self.remote,
            host: handshake.host,
            peer_certificates: handshake.peer_certificates,
        };
        let activity = Activity::new();
        let service = {
            let (activity, capacity, told) = (activity.clone(), self.capacity, self.told.clone());
            let (router, connection) = (self.routers.of(&connection), connection.clone());
            service_fn(move |request: hyper::Request<Incoming>| {
                let open = activity.begins();
                let (router, connection, capacity) =
                    (router.clone(), connection.clone(), capacity.clone());
                let told = told.clone();
                async move {
                    let answer =
                        requests::answer(router, connection, capacity, told, open, request);
                    Ok::<_, std::convert::Infallible>(answer.await)
                }
            })
        };
        let io = TokioIo::new(stream);
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let header_bytes = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
        let outcome = if handshake.http2 {
            let streams = Streams {
                limit: limits.idle_timeout,
                connection_gone: gone,
                listener: handshake.kind.as_str(),
            };
            let connection = http2::Builder::new(streams)
                .timer(TokioTimer::new())
                .max_concurrent_streams(HTTP2_STREAMS)
                .max_pending_accept_reset_streams(HTTP2_RESETS)
                .max_local_error_reset_streams(HTTP2_RESETS)
                .max_header_list_size(HTTP2_HEADS.saturating_mul(header_bytes))
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .serve_connection(io, service);
            drive(connection, &activity, &limits, &self.stop).await
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .max_header_size(limits.max_header_bytes)
                .max_buf_size(HTTP1_BUFFER.max(limits.max_header_bytes))
                .serve_connection(io, service);
            drive(connection, &activity, &limits, &self.stop).await
        };
        if let Err(error) = outcome {
            tracing::debug!(listener = %self.kind, connection = self.id, %error, "connection ended");
            if let Some((reason, status)) = unread(&error) {
                let listener = connection.listener.as_str();
                metrics::counter!(
                    "drimbox_http_requests_total",
                    "listener" => listener, "resource" => "other", "status" => status.as_str().to_owned()
                )
                .increment(1);
                let refused = Refused::request(&connection, reason, status.as_u16());
                self.told.tell(refused);
            }
        }
    }
}

/// Why hyper answered a head of HTTP/1.1 before there was a request, and with what.
fn unread(error: &hyper::Error) -> Option<(&'static str, StatusCode)> {
    if error.is_parse_too_large() {
        Some((
            "header_too_large",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ))
    } else if error.is_parse() {
        Some(("request_malformed", StatusCode::BAD_REQUEST))
    } else {
        None
    }
}

/// Runs a connection to its end; asks it to finish when the service stops, when it grows old or has
/// no request for long, and drops it when it brings no first one in time.
async fn drive<C>(
    connection: C,
    activity: &Activity,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<(), C::Error>
where
    C: GracefulConnection,
{
    let mut connection = pin!(connection);
    // So that a change of certificates, authorities or revocation lists reaches clients that never
    // let go.
    let longest = limits.max_connection_age;
    let mut old_or_stopped = pin!(tokio::time::timeout(longest, stop.cancelled()));
    let mut quiet = pin!(activity.quiet(limits.header_timeout, limits.idle_timeout));
    let mut finishing = false;
    loop {
        tokio::select! {
            outcome = connection.as_mut() => return outcome,
            asked = quiet.as_mut() => {
                if finishing || !asked {
                    return Ok(());
                }
            }
            _ = &mut old_or_stopped, if !finishing => {}
        }
        finishing = true;
        connection.as_mut().graceful_shutdown();
        // Of a client that does not go either. It is patient: what hyper still holds of an answer may
        // be on its way to a slow one.
        quiet.set(activity.quiet(longest, longest));
    }
}

/// Socket options of an accepted connection.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}

type TlsStream<S> = tokio_rustls::server::TlsStream<S>;

/// The handshake, with the configuration that `choose` finds for the name asked for.
async fn secure<S>(
    stream: S,
    note: &Note,
    choose: impl FnOnce(&ClientHello<'_>) -> Choice,
) -> Result<(TlsStream<S>, Handshake), HandshakeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(HandshakeFailure::from)?;
    note.asks_for(start.client_hello().server_name());
    let (cause, reason) = match choose(&start.client_hello()) {
        Choice::Known(config, kind) => return accept(start, config, kind).await,
        Choice::UnknownName => ("unknown_name", "host name missing or unknown"),
        Choice::NoCertificate => ("no_certificate", "the host name has no certificate yet"),
    };
    let mut stream = start.io;
    // The other end may be gone already; it is refused either way.
    let _ = stream.write_all(&UNRECOGNIZED_NAME).await;
    let _ = stream.shutdown().await;
    Err(HandshakeFailure {
        cause,
        error: io::Error::other(reason),
    })
}

/// The rest of a handshake, with the configuration of its name.
async fn accept<S>(
    start: StartHandshake<S>,
    config: Arc<ServerConfig>,
    kind: ListenerKind,
) -> Result<(TlsStream<S>, Handshake), HandshakeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = start
        .into_stream_with(config, |session| {
            session.set_buffer_limit(Some(BUFFER_LIMIT))
        })
        .await
        .map_err(HandshakeFailure::from)?;
    let (_, session) = stream.get_ref();
    let handshake = Handshake {
        kind,
        host: session
            .server_name()
            .map(|name| canonical_host(name).into()),
        peer_certificates: session
            .peer_certificates()
            .map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect()),
        http2: session.alpn_protocol() == Some(b"h2"),
    };
    Ok((stream, handshake))
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        use rustls::Error as Tls;
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Tls>());
        let cause = match tls {
            Some(Tls::NoCertificatesPresented) => "no_client_certificate",
            Some(Tls::InvalidCertificate(_) | Tls::InvalidCertRevocationList(_)) => {
                "client_certificate"
            }
            Some(Tls::AlertReceived(_)) => "refused_by_client",
            Some(Tls::PeerIncompatible(_)) => "no_common_parameters",
            Some(_) => "protocol",
            None if error.kind() == io::ErrorKind::TimedOut => "timeout",
            None => "closed",
        };
        Self { cause, error }
    }
}

/// Calls its function when dropped.
struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
