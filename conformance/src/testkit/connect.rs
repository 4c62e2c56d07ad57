//! An outgoing HTTP proxy as hospitals have: it opens a tunnel on CONNECT (RFC 9110 §9.3.6), and passes a request on
//! that names an `http` address whole (RFC 9112 §3.2.2).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::KitError;

/// Longest head of a request that is read.
const HEAD_LIMIT: usize = 16 * 1024;

/// A running proxy; it ends, with its tunnels, when dropped.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accept: AbortHandle,
    _alive: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    tunnels: Vec<String>,
    forwarded: Vec<String>,
    refuses: bool,
    credentials: Option<String>,
}

impl ConnectProxy {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> Result<Self, KitError> {
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::<Mutex<State>>::default();
        let (alive, life) = watch::channel(());
        let shared = Arc::clone(&state);
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, mut life) = (Arc::clone(&shared), life.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(client, state) => {}
                        _ = life.changed() => {}
                    }
                });
            }
        });
        Ok(Self {
            address,
            state,
            accept: accept.abort_handle(),
            _alive: alive,
        })
    }

    /// Its address as settings want it: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `host:port` of every tunnel that was opened, in order.
    #[must_use]
    pub fn tunnels(&self) -> Vec<String> {
        self.lock().tunnels.clone()
    }

    /// The address of every request in clear that was passed on, in order.
    #[must_use]
    pub fn forwarded(&self) -> Vec<String> {
        self.lock().forwarded.clone()
    }

    /// Answers 403 to every CONNECT from now on, or does so no more.
    pub fn refuse(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// Opens tunnels only for who sends this user and password (Basic), and answers 407 to others.
    pub fn require(&self, user: &str, password: &str) {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        self.lock().credentials = Some(format!("Basic {encoded}"));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve(mut client: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_LIMIT {
            return Ok(());
        }
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split_ascii_whitespace();
    let (target, passed_on) = match (words.next(), words.next()) {
        (Some("CONNECT"), Some(target)) => (target.to_owned(), None),
        (Some(_), Some(address)) if address.starts_with("http://") => {
            let place = address.trim_start_matches("http://");
            let target = place.split('/').next().unwrap_or(place);
            (target.to_owned(), Some(address.to_owned()))
        }
        _ => return client.write_all(b"HTTP/1.1 400 No address\r\n\r\n").await,
    };
    let shown = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let wanted = name.eq_ignore_ascii_case("proxy-authorization");
        wanted.then(|| value.trim().to_owned())
    });
    let refusal = {
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.refuses {
            Some("HTTP/1.1 403 Forbidden\r\n\r\n")
        } else if state.credentials.is_some() && state.credentials != shown {
            Some(
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"kit\"\r\n\r\n",
            )
        } else {
            None
        }
    };
    if let Some(refusal) = refusal {
        return client.write_all(refusal.as_bytes()).await;
    }
    let Ok(mut server) = TcpStream::connect(&target).await else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    if let Some(address) = passed_on {
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        lock().forwarded.push(address.clone());
        let path = address.replacen(&format!("http://{target}"), "", 1);
        let head = head.replacen(&address, &path, 1);
        server.write_all(head.as_bytes()).await?;
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    state
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .tunnels
        .push(target);
    client
        .write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
