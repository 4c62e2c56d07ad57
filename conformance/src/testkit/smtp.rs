//! A mail server with TLS (RFC 5321, RFC 3207): it keeps what it is given, refuses an address, goes away and returns.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::KitError;
use super::pki::Identity;

/// Bytes of one message that are kept.
const MAX_MESSAGE: usize = 1 << 20;

/// A mail that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Whom the envelope names.
    pub to: String,
    /// Head and body as they came.
    pub raw: String,
}

impl Mail {
    /// A field of the head.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.raw.split_once("\r\n\r\n")?;
        head.split("\r\n").find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body without its transfer encoding (RFC 2045 §6).
    #[must_use]
    pub fn text(&self) -> String {
        let body = self.raw.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        match self.header("Content-Transfer-Encoding") {
            Some("base64") => {
                let packed: String = body.split_whitespace().collect();
                let bytes = STANDARD.decode(packed).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some("quoted-printable") => unquoted(&body.replace("=\r\n", "")),
            _ => body.to_owned(),
        }
    }
}

fn unquoted(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|_| *first == b'=') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug, Default)]
struct State {
    mails: Vec<Mail>,
    refused: BTreeSet<String>,
    account: Option<String>,
    withholds_tls: bool,
    /// Commands that came in clear.
    clear: Vec<String>,
}

/// A mail server; it ends when dropped.
#[derive(Debug)]
pub struct SmtpServer {
    address: SocketAddr,
    start_tls: bool,
    acceptor: Acceptor,
    state: Arc<Mutex<State>>,
    arrived: watch::Sender<usize>,
    running: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl SmtpServer {
    /// Listens on a free port of loopback. TLS begins by STARTTLS, or with the first byte.
    ///
    /// # Errors
    /// When it cannot listen, or the certificate cannot be used.
    pub async fn start(identity: &Identity, start_tls: bool) -> Result<Self, KitError> {
        let invalid = |reason: String| KitError::Invalid {
            what: "certificate of the mail server".into(),
            reason,
        };
        let chain = CertificateDer::pem_file_iter(&identity.certificate_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| invalid(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(&identity.key_file)
            .map_err(|error| invalid(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| invalid(error.to_string()))?;
        let mut server = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            start_tls,
            acceptor: Acceptor(TlsAcceptor::from(Arc::new(config))),
            state: Arc::default(),
            arrived: watch::Sender::new(0),
            running: None,
        };
        server.come_back().await?;
        Ok(server)
    }

    /// The port it has, also while it is away.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Asks for this account (AUTH PLAIN).
    pub fn require(&self, user: &str, password: &str) {
        self.state().account = Some(STANDARD.encode(format!("\0{user}\0{password}")));
    }

    /// Refuses this recipient with 550.
    pub fn refuse(&self, address: &str) {
        self.state().refused.insert(address.to_owned());
    }

    /// Offers no STARTTLS any more, as somebody in between would have it (RFC 3207 §6), and takes mail in clear.
    pub fn withhold_tls(&self) {
        self.state().withholds_tls = true;
    }

    /// The commands that came in clear since.
    #[must_use]
    pub fn said_in_clear(&self) -> Vec<String> {
        self.state().clear.clone()
    }

    /// Stops answering.
    pub async fn go_away(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }

    /// Answers again, on the same port.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub async fn come_back(&mut self) -> Result<(), KitError> {
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let listener = TcpListener::bind(self.address).await.map_err(failed)?;
        self.address = listener.local_addr().map_err(failed)?;
        let (acceptor, start_tls) = (self.acceptor.clone(), self.start_tls);
        let (state, arrived) = (Arc::clone(&self.state), self.arrived.clone());
        self.running = Some(tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, state, arrived) =
                    (acceptor.clone(), Arc::clone(&state), arrived.clone());
                clients.spawn(async move {
                    let _ = greet(client, &acceptor, start_tls, &state, &arrived).await;
                });
            }
        }));
        Ok(())
    }

    /// What was taken so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.state().mails.clone()
    }

    /// Waits until so many mails have been taken.
    pub async fn wait_for(&self, count: usize) -> Vec<Mail> {
        let mut arrived = self.arrived.subscribe();
        let _ = arrived.wait_for(|taken| *taken >= count).await;
        self.mails()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn greet(
    client: TcpStream,
    acceptor: &Acceptor,
    start_tls: bool,
    state: &Mutex<State>,
    arrived: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    if start_tls {
        client.write_all(b"220 mail.example ESMTP\r\n").await?;
        let withheld = {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.withholds_tls
        };
        if withheld {
            return converse(&mut client, state, arrived).await;
        }
        let mut line = String::new();
        loop {
            line.clear();
            if client.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.starts_with("EHLO") {
                client
                    .write_all(b"250-mail.example\r\n250 STARTTLS\r\n")
                    .await?;
            } else if line.starts_with("STARTTLS") {
                client.write_all(b"220 go ahead\r\n").await?;
                break;
            } else {
                client.write_all(b"530 TLS first\r\n").await?;
            }
        }
    }
    let mut secure = BufReader::new(acceptor.0.accept(client.into_inner()).await?);
    if !start_tls {
        secure.write_all(b"220 mail.example ESMTP\r\n").await?;
    }
    converse(&mut secure, state, arrived).await
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut BufReader<S>,
    state: &Mutex<State>,
    arrived: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let locked = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut to = None;
    let mut known = locked().account.is_none();
    let mut line = String::new();
    loop {
        line.clear();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        {
            let mut state = locked();
            if state.withholds_tls {
                state.clear.push(line.trim_end().to_owned());
            }
        }
        let answer = match line.trim_end() {
            hello if hello.starts_with("EHLO") => {
                "250-mail.example\r\n250-8BITMIME\r\n250 AUTH PLAIN"
            }
            auth if auth.starts_with("AUTH PLAIN ") => {
                let wanted = locked().account.clone();
                known = wanted.is_none_or(|wanted| auth.get(11..) == Some(&wanted));
                if known { "235 welcome" } else { "535 no" }
            }
            _ if !known => "530 who are you",
            mail if mail.starts_with("MAIL FROM:") => "250 go on",
            rcpt if rcpt.starts_with("RCPT TO:<") => {
                let address = rcpt.get(9..).and_then(|rest| rest.split('>').next());
                let address = address.unwrap_or_default().to_owned();
                if locked().refused.contains(&address) {
                    "550 no such mailbox"
                } else {
                    to = Some(address);
                    "250 go on"
                }
            }
            "DATA" => {
                client.write_all(b"354 go on\r\n").await?;
                let raw = data(client).await?;
                let taken = {
                    let mut state = locked();
                    state.mails.push(Mail {
                        to: to.take().unwrap_or_default(),
                        raw,
                    });
                    state.mails.len()
                };
                client.write_all(b"250 taken\r\n").await?;
                client.flush().await?;
                arrived.send_replace(taken);
                continue;
            }
            "QUIT" => {
                client.write_all(b"221 bye\r\n").await?;
                return client.flush().await;
            }
            _ => "250 fine",
        };
        client.write_all(format!("{answer}\r\n").as_bytes()).await?;
        client.flush().await?;
    }
}

/// A message up to its final dot (RFC 5321 §4.5.2).
async fn data<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut BufReader<S>,
) -> std::io::Result<String> {
    let mut raw = String::new();
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 || raw.len() > MAX_MESSAGE {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(raw);
        }
        raw.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
