//! Sessions of patients: one exam each, in memory for requests and sealed on disk for the next start.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use psc_auth::UnixTime;
use serde::{Deserialize, Serialize};

use crate::access::{Comer, Granted, Through, Visitor};
use crate::login::{NoRandom, SessionId, SessionKey, Vault, cookies};
use crate::store::{Removals, SessionStore, StoreError, written};

/// Session of a patient. The prefix `__Host-` keeps it to its own host (RFC 6265bis §4.1.3.2).
pub(in crate::viewer) const COOKIE: &str = "__Host-drimbox-patient";
/// What is on disk when a session ends, in words.
const ENDED: &str = "the end of a patient's session";
/// A use is written down when the record is older than this.
const SEEN_EVERY: u64 = 60;

/// Limits of sessions.
#[derive(Debug, Clone, Copy)]
pub struct PatientLimits {
    /// Without a request for this long, a session is over.
    pub idle: Duration,
    /// It is over this long after its beginning, whatever happens.
    pub absolute: Duration,
    /// Sessions at once; beyond, the one unused for longest ends.
    pub most: usize,
}

/// The sessions.
pub struct PatientSessions {
    limits: PatientLimits,
    vault: Vault,
    store: Arc<dyn SessionStore>,
    removals: Removals,
    open: Mutex<HashMap<SessionKey, Arc<Session>>>,
}

struct Session {
    record: Record,
    seen_at: AtomicU64,
    /// `seen_at` as it is on disk.
    written: AtomicU64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    host: String,
    granted: Granted,
    proof: String,
    ends_at: u64,
    seen_at: u64,
}

/// A session as a request sees it.
#[derive(Clone)]
pub(in crate::viewer) struct PatientView {
    pub(in crate::viewer) key: SessionKey,
    pub(in crate::viewer) granted: Granted,
    pub(in crate::viewer) proof: Arc<str>,
    pub(in crate::viewer) csrf: String,
    pub(in crate::viewer) idle_at: UnixTime,
    pub(in crate::viewer) ends_at: UnixTime,
}

impl PatientView {
    /// What `access` is told.
    pub(in crate::viewer) fn visitor(&self) -> Visitor {
        Visitor {
            session: self.key.bytes(),
            who: Comer::Patient {
                proof: Arc::clone(&self.proof),
            },
            granted: Some(self.granted.clone()),
            through: Through::Page,
        }
    }
}

impl PatientSessions {
    /// Those of the store that still live. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn open(
        limits: PatientLimits,
        vault: Vault,
        store: Arc<dyn SessionStore>,
        now: UnixTime,
    ) -> Result<Self, StoreError> {
        let mut open = HashMap::new();
        for (name, sealed) in store.all(usize::MAX)? {
            let session = SessionKey::from_bytes(&name)
                .filter(|_| open.len() < limits.most)
                .and_then(|key| {
                    let content = vault.open_record(&name, &sealed)?;
                    let record: Record = serde_json::from_slice(&content).ok()?;
                    let session = Session::of(record);
                    session.lives(&limits, now).then_some((key, session))
                });
            match session {
                Some((key, session)) => drop(open.insert(key, Arc::new(session))),
                None => store.remove(&name)?,
            }
        }
        gauge(open.len());
        Ok(Self {
            limits,
            vault,
            store,
            removals: Removals::default(),
            open: Mutex::new(open),
        })
    }

    /// Begins one, with an id that nobody had before.
    pub(in crate::viewer) async fn begin(
        &self,
        host: &str,
        granted: Granted,
        proof: &str,
        now: UnixTime,
    ) -> Result<SessionId, NoRandom> {
        let id = SessionId::new()?;
        let session = Arc::new(Session::of(Record {
            host: host.to_owned(),
            granted,
            proof: proof.to_owned(),
            ends_at: now.plus(self.limits.absolute).as_secs(),
            seen_at: now.as_secs(),
        }));
        let mut gone = Vec::new();
        {
            let mut open = self.open.lock();
            while open.len() >= self.limits.most {
                let seen = |session: &Session| session.seen_at.load(Ordering::Relaxed);
                let oldest = open.iter().min_by_key(|(_, session)| seen(session));
                let Some(oldest) = oldest.map(|(key, _)| *key) else {
                    break;
                };
                open.remove(&oldest);
                gone.push(oldest);
            }
            open.insert(id.key(), Arc::clone(&session));
            gauge(open.len());
        }
        for key in gone {
            self.forget(key).await;
        }
        self.save(id.key(), &session).await;
        Ok(id)
    }

    /// The patient of a request, which counts as a use of the session unless the page makes it by itself.
    pub(in crate::viewer) fn current(
        &self,
        headers: &HeaderMap,
        host: &str,
        now: UnixTime,
        is_use: bool,
    ) -> Option<PatientView> {
        let id = cookies::read(headers, COOKIE)?;
        let session = self.open.lock().get(&id.key()).cloned()?;
        // A cookie carried to another host is not that host's.
        if session.record.host != host || !session.lives(&self.limits, now) {
            return None;
        }
        if is_use {
            session.seen_at.fetch_max(now.as_secs(), Ordering::Relaxed);
        }
        let seen_at = UnixTime::from_secs(session.seen_at.load(Ordering::Relaxed));
        Some(PatientView {
            key: id.key(),
            granted: session.record.granted.clone(),
            proof: session.record.proof.as_str().into(),
            csrf: id.csrf(),
            idle_at: seen_at.plus(self.limits.idle),
            ends_at: UnixTime::from_secs(session.record.ends_at),
        })
    }

    /// Ends one: at once for requests, then on disk. `false` when it was over already.
    pub(in crate::viewer) async fn end(&self, key: SessionKey) -> bool {
        let was_open = {
            let mut open = self.open.lock();
            let was_open = open.remove(&key).is_some();
            gauge(open.len());
            was_open
        };
        if was_open {
            self.forget(key).await;
        }
        was_open
    }

    /// Ends what is over and writes uses down.
    pub(in crate::viewer) async fn sweep(&self, now: UnixTime) {
        self.removals.again(&self.store, ENDED).await;
        let all: Vec<_> = {
            let open = self.open.lock();
            let all = open.iter();
            all.map(|(key, session)| (*key, Arc::clone(session)))
                .collect()
        };
        for (key, session) in all {
            if !session.lives(&self.limits, now) {
                self.end(key).await;
            } else if session.is_late() {
                self.save(key, &session).await;
            }
        }
    }

    async fn save(&self, key: SessionKey, session: &Session) {
        let seen_at = session.seen_at.load(Ordering::Relaxed);
        let record = Record {
            seen_at,
            ..session.record.clone()
        };
        let Ok(content) = serde_json::to_vec(&record) else {
            return;
        };
        let Ok(sealed) = self.vault.seal(key.as_bytes(), &content) else {
            return;
        };
        session.written.store(seen_at, Ordering::Relaxed);
        let store = Arc::clone(&self.store);
        let _ = written("a patient's session", move || {
            store.put(key.as_bytes(), &sealed)
        })
        .await;
        // A logout meanwhile took it out: it must not come back.
        let is_open = self.open.lock().contains_key(&key);
        if !is_open {
            self.forget(key).await;
        }
    }

    async fn forget(&self, key: SessionKey) {
        let name = key.as_bytes();
        self.removals.remove(&self.store, ENDED, name).await;
    }
}

impl Session {
    fn of(record: Record) -> Self {
        let seen_at = record.seen_at;
        Self {
            record,
            seen_at: AtomicU64::new(seen_at),
            written: AtomicU64::new(seen_at),
        }
    }

    fn lives(&self, limits: &PatientLimits, now: UnixTime) -> bool {
        let seen_at = UnixTime::from_secs(self.seen_at.load(Ordering::Relaxed));
        now.as_secs() < self.record.ends_at && now.since(seen_at) < limits.idle
    }

    fn is_late(&self) -> bool {
        let (seen, written) = (&self.seen_at, &self.written);
        let since = written.load(Ordering::Relaxed);
        seen.load(Ordering::Relaxed) >= since.saturating_add(SEEN_EVERY)
    }
}

fn gauge(sessions: usize) {
    metrics::gauge!("drimbox_patient_sessions").set(sessions as f64);
}

impl fmt::Debug for PatientSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientSessions")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::dicom::uid::StudyUid;
    use crate::store::SledStore;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    fn sessions(dir: &Path, now: UnixTime) -> PatientSessions {
        let limits = PatientLimits {
            idle: Duration::from_secs(600),
            absolute: Duration::from_secs(3600),
            most: 2,
        };
        let vault = Vault::open(&dir.join("key")).unwrap();
        let store = SledStore::open(dir).unwrap().patients().unwrap();
        PatientSessions::open(limits, vault, Arc::new(store), now).unwrap()
    }

    fn granted() -> Granted {
        Granted {
            pacs: "ct".into(),
            study: StudyUid::parse("1.2.3").unwrap(),
        }
    }

    fn with(id: &SessionId) -> HeaderMap {
        let line = cookies::set(COOKIE, id).unwrap();
        let pair = line.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(http::header::COOKIE, pair.parse().unwrap())])
    }

    #[tokio::test]
    async fn a_session_survives_a_restart_and_ends_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let before = sessions(dir.path(), at(0));
        let id = before
            .begin("vi.example", granted(), "report_code", at(0))
            .await
            .unwrap();
        let headers = with(&id);
        assert!(
            before
                .current(&headers, "vi.example", at(500), true)
                .is_some()
        );
        assert!(
            before
                .current(&headers, "other.example", at(500), true)
                .is_none()
        );
        before.sweep(at(500)).await;
        drop(before);
        let after = sessions(dir.path(), at(1000));
        let view = after
            .current(&headers, "vi.example", at(1000), false)
            .unwrap();
        assert_eq!((view.granted, &*view.proof), (granted(), "report_code"));
        // Asked without use: idle since 500.
        assert!(
            after
                .current(&headers, "vi.example", at(1100), true)
                .is_none()
        );
        drop(after);
        let later = sessions(dir.path(), at(1100));
        assert!(later.store.all(9).unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_ended_does_not_come_back_with_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let before = sessions(dir.path(), at(0));
        let id = before
            .begin("vi", granted(), "mail_code", at(0))
            .await
            .unwrap();
        assert!(before.end(id.key()).await);
        assert!(!before.end(id.key()).await);
        assert!(before.current(&with(&id), "vi", at(1), true).is_none());
        drop(before);
        let after = sessions(dir.path(), at(1));
        assert!(after.current(&with(&id), "vi", at(1), true).is_none());
    }

    #[tokio::test]
    async fn the_oldest_gives_way_and_no_session_outlives_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = sessions(dir.path(), at(0));
        let mut ids = Vec::new();
        for second in 0..3 {
            ids.push(
                sessions
                    .begin("vi", granted(), "x", at(second))
                    .await
                    .unwrap(),
            );
        }
        let open = |at_: u64| {
            ids.iter()
                .filter(|id| sessions.current(&with(id), "vi", at(at_), true).is_some())
                .count()
        };
        assert_eq!(open(3), 2);
        for minute in 1..60 {
            assert_eq!(open(minute * 60), 2);
        }
        assert_eq!(open(3602), 0);
    }
}
