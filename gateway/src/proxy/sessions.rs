//! Sessions of the proxy: which professional, by which client, with which tokens, until when. They serve from memory;
//! what is on disk ([`farewells`](super::farewells)) is there to end them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::{NationalId, Session, Thumbprint, UnixTime};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The software asked for it, or opened another one.
    Asked,
    /// Its time had come.
    Expired,
    /// Pro Santé Connect, or an API, accepts it no more.
    Refused,
    /// The software went away before it was told of it.
    Abandoned,
    /// The proxy stops.
    Stopped,
    /// The process that had it is gone.
    Interrupted,
}

impl End {
    /// The word for traces and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One session.
pub(super) struct ProxySession {
    /// What the cookie holds; also in the traces, by the contract.
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) national_id: NationalId,
    /// `session_state` of Pro Santé Connect.
    pub(super) state: Option<String>,
    pub(super) psc: Session,
    pub(super) opened: Opened,
    pub(super) ends_at: UnixTime,
    tokens: HashMap<String, tokio::sync::Mutex<Option<ApiToken>>>,
    /// Last request of the software.
    used_at: AtomicU64,
    /// When Pro Santé Connect was last asked for a token of it, or said that it is over.
    heard_at: AtomicU64,
    /// Whether it is being ended; held while it is written to disk.
    pub(super) over: tokio::sync::Mutex<bool>,
}

/// From where a session was opened, for the traces; it is served to the same certificate only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) dn: String,
    pub(super) remote: SocketAddr,
    pub(super) peer: Option<Thumbprint>,
}

/// A token of an API.
#[derive(Clone)]
pub(super) struct ApiToken {
    pub(super) access: SecretString,
    pub(super) refresh: Option<SecretString>,
    pub(super) obtained_at: UnixTime,
    pub(super) expires_at: UnixTime,
}

impl ApiToken {
    /// Whether it should be renewed before it is used: half a minute is left or less, or half of a shorter life.
    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        let life = self.expires_at.since(self.obtained_at);
        let margin = Duration::from_secs(30).min(life / 2);
        self.expires_at.since(now) <= margin.max(Duration::from_secs(1))
    }
}

impl ProxySession {
    /// A session with a fresh id.
    pub(super) fn new(
        client_id: &str,
        national_id: NationalId,
        psc: Session,
        opened: Opened,
        tokens: Vec<(String, ApiToken)>,
        now: UnixTime,
        lifetime: Duration,
    ) -> Self {
        let tokens = tokens.into_iter();
        let user = psc.user();
        Self {
            // 244 random bits of the system's generator.
            id: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()),
            client_id: client_id.to_owned(),
            national_id,
            state: user.session_state.clone().or_else(|| user.sid.clone()),
            ends_at: now.plus(lifetime).min(psc.ends_at()),
            used_at: AtomicU64::new(now.as_secs()),
            heard_at: AtomicU64::new(now.as_secs()),
            psc,
            opened,
            tokens: tokens
                .map(|(api, token)| (api, tokio::sync::Mutex::new(Some(token))))
                .collect(),
            over: tokio::sync::Mutex::default(),
        }
    }

    /// The software uses it.
    pub(super) fn touch(&self, now: UnixTime) {
        self.used_at.fetch_max(now.as_secs(), Ordering::Relaxed);
    }

    /// Pro Santé Connect was asked.
    pub(super) fn heard(&self, now: UnixTime) {
        self.heard_at.fetch_max(now.as_secs(), Ordering::Relaxed);
    }

    /// Whether it was used since Pro Santé Connect was asked, and that is longer ago than `every`.
    fn is_unheard(&self, now: UnixTime, every: Duration) -> bool {
        let [used, heard] = [&self.used_at, &self.heard_at]
            .map(|at| UnixTime::from_secs(at.load(Ordering::Relaxed)));
        used > heard && now.since(heard) >= every
    }

    /// The place of an API's token, held by one renewal at a time.
    pub(super) fn token(&self, api: &str) -> Option<&tokio::sync::Mutex<Option<ApiToken>>> {
        self.tokens.get(api)
    }

    /// Every token, as it is now.
    pub(super) async fn tokens(&self) -> Vec<(String, ApiToken)> {
        let mut all = Vec::new();
        for (api, place) in &self.tokens {
            if let Some(token) = &*place.lock().await {
                all.push((api.clone(), token.clone()));
            }
        }
        all
    }

    /// Forgets every token.
    pub(super) async fn drop_tokens(&self) {
        for place in self.tokens.values() {
            place.lock().await.take();
        }
    }
}

/// The table of sessions. Ids are looked up by their digest, so that the time it takes tells nothing of them.
pub(super) struct Sessions {
    most: usize,
    open: Mutex<HashMap<[u8; 32], Arc<ProxySession>>>,
}

/// The table is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: Mutex::default(),
        }
    }

    pub(super) fn insert(&self, session: Arc<ProxySession>) -> Result<(), Full> {
        let mut open = self.open.lock();
        if open.len() >= self.most {
            return Err(Full);
        }
        open.insert(key(&session.id), session);
        gauge(&open);
        Ok(())
    }

    /// The session of this id, for whoever shows the certificate that opened it.
    pub(super) fn find(&self, id: &str, peer: Option<&Thumbprint>) -> Option<Arc<ProxySession>> {
        let session = self.open.lock().get(&key(id)).cloned()?;
        (session.opened.peer.as_ref() == peer).then_some(session)
    }

    /// Takes a session out; `None` when somebody else did.
    pub(super) fn take(&self, session: &ProxySession) -> Option<Arc<ProxySession>> {
        let mut open = self.open.lock();
        let taken = open.remove(&key(&session.id));
        gauge(&open);
        taken
    }

    /// Takes out those whose time has come.
    pub(super) fn take_over(&self, now: UnixTime) -> Vec<Arc<ProxySession>> {
        let mut open = self.open.lock();
        let over: Vec<_> = open
            .extract_if(|_, session| now >= session.ends_at)
            .map(|(_, session)| session)
            .collect();
        gauge(&open);
        over
    }

    /// Those in use of which Pro Santé Connect has not been asked for this long.
    pub(super) fn unheard(&self, now: UnixTime, every: Duration) -> Vec<Arc<ProxySession>> {
        let open = self.open.lock();
        let unheard = open.values().filter(|one| one.is_unheard(now, every));
        unheard.cloned().collect()
    }

    /// Takes out all of them.
    pub(super) fn take_all(&self) -> Vec<Arc<ProxySession>> {
        let mut open = self.open.lock();
        let all = open.drain().map(|(_, one)| one).collect();
        gauge(&open);
        all
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open.lock().len()
    }
}

fn gauge(open: &HashMap<[u8; 32], Arc<ProxySession>>) {
    metrics::gauge!("drimbox_proxy_sessions").set(open.len() as f64);
}

fn key(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}
