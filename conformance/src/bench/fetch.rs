//! The client that measures: HTTP/1.1 over TLS or plain TCP, blocking, reading large blocks and
//! throwing them away. The same for every server, and cheap, because it shares the processors with
//! what it measures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, RootCertStore};

use crate::testkit::{Identity, KitError, Pki};

use super::http1::Parser;

/// Bytes read from a socket at once.
const BLOCK: usize = 256 << 10;
/// Bytes of a TLS flight or of a request, encrypted.
const OUTGOING: usize = 64 << 10;
/// A server that sends nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(120);

/// Where a server is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Server {
    /// Name in the table.
    pub name: String,
    /// Its socket.
    pub address: SocketAddr,
    /// Host name of its certificate and of the `Host` field.
    pub host: String,
    /// Path that every requested path is appended to.
    pub base: String,
    /// TLS settings; plain HTTP without.
    pub tls: Option<Arc<ClientConfig>>,
}

/// TLS settings of a client that presents `identity` and trusts the test authority. Sessions are not
/// resumed: every connection pays its whole handshake, at every server.
///
/// # Errors
/// When a file of the test PKI is not usable.
pub fn tls_settings(pki: &Pki, identity: &Identity) -> Result<Arc<ClientConfig>, KitError> {
    let unusable = |error: rustls::pki_types::pem::Error| KitError::Invalid {
        what: "test PKI".into(),
        reason: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.ca_file()).map_err(unusable)?)?;
    let chain = CertificateDer::pem_file_iter(&identity.certificate_file)
        .and_then(Iterator::collect)
        .map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key_file).map_err(unusable)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// An answer, when what of it arrived.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// Bytes of its body.
    pub bytes: u64,
    /// Whether the body ended as its head announced.
    pub complete: bool,
    /// From the start (see [`fetch`], [`Connection::get`]) to the first byte of the body.
    pub first_byte: Option<Duration>,
    /// From the start to byte 1 024 of the body: past every head, inside the first instance.
    pub first_image: Option<Duration>,
    /// From the start to the end of the body.
    pub total: Duration,
}

/// Opens a connection, asks for one resource and reads it to its end. The start of its times is
/// before the connection.
///
/// # Errors
/// When the connection, the handshake or the answer breaks, or the status is not 200.
pub fn fetch(server: &Server, path: &str, accept: &str) -> Result<Answer, KitError> {
    let started = Instant::now();
    let mut connection = Connection::open(server)?;
    let answer = connection.get_since(started, path, accept, &mut |_| ControlFlow::Continue(()))?;
    expect_ok(server, path, answer)
}

/// As [`fetch`], keeping the body.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_body(server: &Server, path: &str, accept: &str) -> Result<Vec<u8>, KitError> {
    let mut body = Vec::new();
    let mut keep = |data: &[u8]| {
        body.extend_from_slice(data);
        ControlFlow::Continue(())
    };
    let answer = Connection::open(server)?.get(path, accept, &mut keep)?;
    expect_ok(server, path, answer)?;
    Ok(body)
}

/// An answer whose bytes arrived and were not looked at.
pub struct Kept<'a> {
    connection: Connection,
    server: &'a Server,
    path: &'a str,
    started: Instant,
    arrived: Duration,
}

/// As [`fetch`], but what arrives is only put into `room`, up to the end of the connection:
/// deciphering it is left to [`Kept::open`]. For clients that share the processors with the server
/// where the others' clients would not. A `room` whose pages were touched costs least.
///
/// # Errors
/// When the connection or the handshake breaks, or `room` is too small.
pub fn fetch_kept<'a>(
    server: &'a Server,
    path: &'a str,
    accept: &str,
    room: Vec<u8>,
) -> Result<Kept<'a>, KitError> {
    let started = Instant::now();
    let mut connection = Connection::open(server)?;
    connection.ask(path, accept, "close")?;
    connection
        .wire
        .keep(room)
        .map_err(KitError::http(format!("{}: GET {path}", server.name)))?;
    Ok(Kept {
        connection,
        server,
        path,
        started,
        arrived: started.elapsed(),
    })
}

impl Kept<'_> {
    /// Deciphers and checks what arrived; gives the memory back for the next answer.
    ///
    /// # Errors
    /// When it is not a whole 200.
    pub fn open(mut self) -> Result<(Answer, Vec<u8>), KitError> {
        let mut all = |_: &[u8]| ControlFlow::Continue(());
        let answer = self.connection.answer(self.started, self.path, &mut all)?;
        let mut answer = expect_ok(self.server, self.path, answer)?;
        answer.total = self.arrived;
        let kept = self.connection.wire.kept.take();
        Ok((answer, kept.map(|kept| kept.room).unwrap_or_default()))
    }
}

/// The answer when it is a whole 200.
///
/// # Errors
/// When it is not.
pub fn expect_ok(server: &Server, path: &str, answer: Answer) -> Result<Answer, KitError> {
    if answer.status == 200 && answer.complete {
        return Ok(answer);
    }
    let what = format!("{}: GET {path}", server.name);
    Err(KitError::http(what)(format!("status {}", answer.status)))
}

/// An open connection, for several requests one after the other.
pub struct Connection {
    what: String,
    host: String,
    base: String,
    wire: Wire,
}

impl Connection {
    /// Connects, with the TLS handshake.
    ///
    /// # Errors
    /// When the server is not there or the handshake fails.
    pub fn open(server: &Server) -> Result<Self, KitError> {
        let what = format!("{} at {}", server.name, server.address);
        let failed = |error: std::io::Error| KitError::http(what.clone())(error);
        let tcp = TcpStream::connect(server.address).map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        tcp.set_read_timeout(Some(SILENCE)).map_err(failed)?;
        let mut wire = Wire {
            tcp,
            tls: None,
            incoming: vec![0; BLOCK],
            start: 0,
            end: 0,
            outgoing: Vec::new(),
            kept: None,
        };
        if let Some(config) = &server.tls {
            let name =
                ServerName::try_from(server.host.clone()).map_err(KitError::http(what.clone()))?;
            wire.tls = Some(UnbufferedClientConnection::new(Arc::clone(config), name)?);
            wire.handshake().map_err(KitError::http(what.clone()))?;
        }
        Ok(Self {
            what,
            host: server.host.clone(),
            base: server.base.clone(),
            wire,
        })
    }

    /// Version and cipher suite of TLS, as text.
    #[must_use]
    pub fn security(&self) -> String {
        let Some(tls) = &self.wire.tls else {
            return "no TLS".into();
        };
        let version = tls.protocol_version().map(|v| format!("{v:?}"));
        let suite = tls
            .negotiated_cipher_suite()
            .map(|s| format!("{:?}", s.suite()));
        [version, suite]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Asks for a resource and hands its body to `body` as it arrives, until its end or until
    /// `body` breaks off. The start of the times is the call.
    ///
    /// # Errors
    /// When the connection breaks or ends before the body does.
    pub fn get(
        &mut self,
        path: &str,
        accept: &str,
        body: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Answer, KitError> {
        self.get_since(Instant::now(), path, accept, body)
    }

    fn get_since(
        &mut self,
        started: Instant,
        path: &str,
        accept: &str,
        body: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Answer, KitError> {
        self.ask(path, accept, "keep-alive")?;
        self.answer(started, path, body)
    }

    fn ask(&mut self, path: &str, accept: &str, connection: &str) -> Result<(), KitError> {
        let request = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nUser-Agent: bench\r\n\
             Connection: {connection}\r\n\r\n",
            self.base, self.host
        );
        let what = format!("{}: GET {path}", self.what);
        self.wire
            .send(request.as_bytes())
            .map_err(KitError::http(what))
    }

    fn answer(
        &mut self,
        started: Instant,
        path: &str,
        body: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Answer, KitError> {
        let what = || format!("{}: GET {path}", self.what);
        let mut parser = Parser::new();
        let mut arrival = Arrival {
            started,
            bytes: 0,
            first_byte: None,
            first_image: None,
            broken_off: false,
        };
        while !parser.is_done() && !arrival.broken_off {
            let mut refused = None;
            let open = self
                .wire
                .receive(&mut |data| {
                    let mut sink = |part: &[u8]| arrival.take(part, body);
                    if let Err(error) = parser.push(data, &mut sink) {
                        refused = Some(error);
                    }
                })
                .map_err(KitError::http(what()))?;
            if let Some(reason) = refused {
                return Err(KitError::http(what())(reason));
            }
            if !open && !parser.end() {
                let reason = format!("the connection ended after {} bytes", arrival.bytes);
                return Err(KitError::http(what())(reason));
            }
        }
        Ok(Answer {
            status: parser.status(),
            content_type: parser.content_type().to_owned(),
            bytes: arrival.bytes,
            complete: parser.is_done() && !arrival.broken_off,
            first_byte: arrival.first_byte,
            first_image: arrival.first_image,
            total: started.elapsed(),
        })
    }
}

/// What of a body arrived when.
struct Arrival {
    started: Instant,
    bytes: u64,
    first_byte: Option<Duration>,
    first_image: Option<Duration>,
    broken_off: bool,
}

impl Arrival {
    fn take(&mut self, part: &[u8], body: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        if self.broken_off {
            return;
        }
        self.bytes += part.len() as u64;
        if self.first_image.is_none() {
            let now = self.started.elapsed();
            self.first_byte.get_or_insert(now);
            if self.bytes >= 1024 {
                self.first_image = Some(now);
            }
        }
        self.broken_off = body(part).is_break();
    }
}

/// The socket, with TLS when there is some.
struct Wire {
    tcp: TcpStream,
    tls: Option<UnbufferedClientConnection>,
    /// Received, not yet processed: `incoming[start..end]`.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// TLS records to be sent.
    outgoing: Vec<u8>,
    /// What arrived and is read instead of the socket.
    kept: Option<KeptBytes>,
}

/// All that a socket brought: `room[at..end]` was not read yet.
struct KeptBytes {
    room: Vec<u8>,
    at: usize,
    end: usize,
}

impl Read for KeptBytes {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut left = self.room.get(self.at..self.end).unwrap_or_default();
        let length = left.read(into)?;
        self.at += length;
        Ok(length)
    }
}

/// What TLS came to with the bytes at hand.
enum Turn {
    /// More may follow without new bytes.
    Again,
    /// Nothing more without new bytes; the handshake goes on.
    Handshaking,
    /// Nothing more without new bytes; data may be sent.
    Ready,
    /// The peer will send nothing more.
    Closed,
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]);

impl Wire {
    fn handshake(&mut self) -> std::io::Result<()> {
        loop {
            match self.turn(None, &mut |_| {})? {
                Turn::Again => {}
                Turn::Ready => return Ok(()),
                Turn::Handshaking => {
                    if self.fill()? == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Turn::Closed => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    fn send(&mut self, request: &[u8]) -> std::io::Result<()> {
        if self.tls.is_none() {
            return self.tcp.write_all(request);
        }
        // Tickets and the like that arrived since the last answer come first.
        loop {
            match self.turn(Some(request), &mut |_| {})? {
                Turn::Again => {}
                Turn::Ready => return Ok(()),
                Turn::Handshaking | Turn::Closed => {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
    }

    /// Waits for bytes and hands what they hold to `sink`; false at the end of the connection.
    fn receive(&mut self, sink: Sink<'_>) -> std::io::Result<bool> {
        if self.tls.is_none() {
            let length = self.tcp.read(&mut self.incoming)?;
            sink(self.incoming.get(..length).unwrap_or_default());
            return Ok(length > 0);
        }
        if self.fill()? == 0 {
            return Ok(false);
        }
        loop {
            match self.turn(None, sink)? {
                Turn::Again => {}
                Turn::Ready | Turn::Handshaking => return Ok(true),
                Turn::Closed => return Ok(false),
            }
        }
    }

    /// Takes everything up to the end of the connection.
    fn keep(&mut self, mut room: Vec<u8>) -> std::io::Result<()> {
        let mut end = 0;
        loop {
            let free = room.get_mut(end..).unwrap_or_default();
            if free.is_empty() {
                return Err(std::io::ErrorKind::OutOfMemory.into());
            }
            let most = free.len().min(BLOCK);
            match self.tcp.read(free.get_mut(..most).unwrap_or_default())? {
                0 => break,
                length => end += length,
            }
        }
        self.kept = Some(KeptBytes { room, at: 0, end });
        Ok(())
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let free = self.incoming.get_mut(self.end..).unwrap_or_default();
        let length = match &mut self.kept {
            Some(kept) => kept.read(free)?,
            None => self.tcp.read(free)?,
        };
        self.end += length;
        Ok(length)
    }

    /// Lets TLS do one thing; `request` is sent when data may be.
    fn turn(&mut self, request: Option<&[u8]>, sink: Sink<'_>) -> std::io::Result<Turn> {
        let broken = std::io::Error::other::<rustls::Error>;
        let Some(tls) = &mut self.tls else {
            return Ok(Turn::Ready);
        };
        let bytes = self.incoming.get_mut(self.start..self.end);
        let UnbufferedStatus { mut discard, state } =
            tls.process_tls_records(bytes.unwrap_or_default());
        let turn = match state.map_err(broken)? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(broken)?;
                    discard += record.discard;
                    sink(record.payload);
                }
                Turn::Again
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let from = self.outgoing.len();
                self.outgoing.resize(from + OUTGOING, 0);
                let free = self.outgoing.get_mut(from..).unwrap_or_default();
                let length = data.encode(free).map_err(std::io::Error::other)?;
                self.outgoing.truncate(from + length);
                Turn::Again
            }
            ConnectionState::TransmitTlsData(data) => {
                self.tcp.write_all(&self.outgoing)?;
                self.outgoing.clear();
                data.done();
                Turn::Again
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                if let Some(request) = request {
                    let mut record = vec![0; OUTGOING];
                    let length = traffic
                        .encrypt(request, &mut record)
                        .map_err(std::io::Error::other)?;
                    self.tcp
                        .write_all(record.get(..length).unwrap_or_default())?;
                }
                Turn::Ready
            }
            ConnectionState::BlockedHandshake => Turn::Handshaking,
            ConnectionState::PeerClosed | ConnectionState::Closed => Turn::Closed,
            _ => return Err(std::io::Error::other("an unexpected state of TLS")),
        };
        self.start += discard;
        Ok(turn)
    }
}
