//! One session: who, since when, in which situation; and its form on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::return_to::ReturnPath;
use super::secret::SessionKey;
use crate::access::professional::{Professional, Situation};

/// Largest record read, bytes: far above what a professional with many places makes.
const MAX_RECORD: usize = 512 * 1024;

/// Someone who logged in, on one host.
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) host: Arc<str>,
    pub(super) professional: Arc<Professional>,
    pub(super) situations: Arc<[Situation]>,
    /// When it is over whatever happens.
    pub(super) ends_at: UnixTime,
    /// Tokens of PSC.
    pub(super) psc: psc_auth::Session,
    /// Last request of the user.
    seen_at: AtomicU64,
    /// When PSC last said that its own session lives.
    heard_at: AtomicU64,
    pub(super) state: Mutex<State>,
    /// Held while the record is written, so that an older one never replaces a newer.
    pub(super) record: tokio::sync::Mutex<RecordState>,
}

/// What changes during a session.
pub(super) struct State {
    /// Position in `situations`.
    pub(super) chosen: Option<usize>,
    pub(super) return_to: ReturnPath,
    /// What the login was started for, until it is taken.
    pub(super) link: Option<Arc<str>>,
    /// Of the viewer: what was granted.
    pub(super) data: Option<Arc<str>>,
}

/// What the store holds of it.
#[derive(Default)]
pub(super) struct RecordState {
    /// `seen_at` as it was written.
    pub(super) seen_at: u64,
    /// The record was removed and must not come back.
    pub(super) removed: bool,
}

/// What a new session is made of.
pub(super) struct NewSession {
    pub(super) host: Arc<str>,
    pub(super) professional: Professional,
    pub(super) situations: Vec<Situation>,
    pub(super) psc: psc_auth::Session,
    pub(super) return_to: ReturnPath,
    pub(super) link: Option<Arc<str>>,
    pub(super) data: Option<Arc<str>>,
}

impl Session {
    /// Begins now.
    pub(super) fn begin(
        new: NewSession,
        key: SessionKey,
        now: UnixTime,
        absolute: Duration,
    ) -> Self {
        let ends_at = now.plus(absolute).min(new.psc.ends_at());
        Self {
            key,
            host: new.host,
            professional: Arc::new(new.professional),
            ends_at,
            psc: new.psc,
            seen_at: AtomicU64::new(now.as_secs()),
            heard_at: AtomicU64::new(now.as_secs()),
            state: Mutex::new(State {
                chosen: (new.situations.len() == 1).then_some(0),
                return_to: new.return_to,
                link: new.link,
                data: new.data,
            }),
            situations: new.situations.into(),
            record: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn seen_at(&self) -> UnixTime {
        UnixTime::from_secs(self.seen_at.load(Ordering::Relaxed))
    }

    pub(super) fn touch(&self, now: UnixTime) {
        self.seen_at.fetch_max(now.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn heard_at(&self) -> UnixTime {
        UnixTime::from_secs(self.heard_at.load(Ordering::Relaxed))
    }

    pub(super) fn heard(&self, now: UnixTime) {
        self.heard_at.fetch_max(now.as_secs(), Ordering::Relaxed);
    }

    /// Why it is over; `None` while it lives.
    pub(super) fn over(&self, now: UnixTime, idle: Duration) -> Option<&'static str> {
        if now >= self.ends_at {
            Some("absolute")
        } else if now.since(self.seen_at()) >= idle {
            Some("idle")
        } else {
            None
        }
    }

    /// The situation chosen.
    pub(super) fn situation(&self) -> Option<Situation> {
        let chosen = self.state.lock().chosen?;
        self.situations.get(chosen).cloned()
    }

    /// Chooses the situation with this id; `false` when there is none.
    pub(super) fn choose(&self, id: &str) -> bool {
        let found = self.situations.iter().position(|one| one.id == id);
        if found.is_some() {
            self.state.lock().chosen = found;
        }
        found.is_some()
    }

    /// The record in clear, and the `seen_at` in it; `None` when PSC's session is over.
    pub(super) async fn export(&self) -> Option<(Zeroizing<Vec<u8>>, u64)> {
        let tokens = self.psc.export().await?;
        let seen_at = self.seen_at();
        let record = {
            let state = self.state.lock();
            Record {
                host: self.host.to_string(),
                professional: (*self.professional).clone(),
                situations: self.situations.to_vec(),
                ends_at: self.ends_at,
                seen_at,
                chosen: state.chosen,
                return_to: state.return_to.clone(),
                link: state.link.as_deref().map(str::to_owned),
                data: state.data.as_deref().map(str::to_owned),
            }
        };
        let record = Zeroizing::new(serde_json::to_vec(&record).ok()?);
        let length = u32::try_from(record.len()).ok()?.to_be_bytes();
        let mut content = Zeroizing::new(Vec::with_capacity(4 + record.len() + tokens.len()));
        content.extend_from_slice(&length);
        content.extend_from_slice(&record);
        content.extend_from_slice(&tokens);
        (content.len() <= MAX_RECORD).then(|| (content, seen_at.as_secs()))
    }

    /// What [`export`](Self::export) wrote; `None` when it is something else.
    pub(super) fn import(key: SessionKey, content: &[u8]) -> Option<Self> {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (record, tokens) = rest.split_at_checked(length)?;
        let record: Record = serde_json::from_slice(record).ok()?;
        let seen_at = record.seen_at.as_secs();
        let chosen = record.chosen.filter(|at| *at < record.situations.len());
        Some(Self {
            key,
            host: record.host.into(),
            professional: Arc::new(record.professional),
            situations: record.situations.into(),
            ends_at: record.ends_at,
            psc: psc_auth::Session::import(tokens)?,
            seen_at: AtomicU64::new(seen_at),
            heard_at: AtomicU64::new(seen_at),
            state: Mutex::new(State {
                chosen,
                return_to: record.return_to,
                link: record.link.map(Into::into),
                data: record.data.map(Into::into),
            }),
            record: tokio::sync::Mutex::new(RecordState {
                seen_at,
                removed: false,
            }),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    host: String,
    professional: Professional,
    situations: Vec<Situation>,
    ends_at: UnixTime,
    seen_at: UnixTime,
    chosen: Option<usize>,
    return_to: ReturnPath,
    link: Option<String>,
    data: Option<String>,
}
