//! Every session, in memory for requests and sealed on disk for the next start.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use psc_auth::{Clock, LogoutNotice, UnixTime};

use super::cookies;
use super::secret::{SessionId, SessionKey};
use super::session::{NewSession, Session};
use super::vault::{NoRandom, Vault};
use crate::access::professional::{Professional, Situation};
use crate::store::{Removals, SessionStore, StoreError, written};

/// What is on disk when a session ends, in words.
const ENDED: &str = "the end of a session";
/// Largest text of the viewer in a session, bytes.
pub const MAX_DATA: usize = 64 * 1024;

/// A use is written down when the record is older than this; a restart forgets no more of it.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Limits of sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Without a request for this long, a session is over.
    pub idle: Duration,
    /// It is over this long after its login, whatever happens.
    pub absolute: Duration,
    /// Sessions at once; beyond, the one unused for longest ends.
    pub most: usize,
}

/// Who makes a request, in which situation. `Debug` shows no name.
#[derive(Clone)]
pub struct SessionView {
    /// Stands for the session; gives nobody its cookie.
    pub key: SessionKey,
    /// Who.
    pub professional: Arc<Professional>,
    /// The situation that was chosen.
    pub situation: Situation,
    /// Token that state-changing requests of this session carry.
    pub csrf: String,
    /// When the session is over without another request.
    pub idle_at: UnixTime,
    /// When it is over whatever happens.
    pub ends_at: UnixTime,
    /// What the login was started for, until [`Sessions::take_link`].
    pub link: Option<Arc<str>>,
    /// What [`Sessions::set_data`] kept.
    pub data: Option<Arc<str>>,
}

/// Who a session is of, for requests that come without its cookie.
#[derive(Clone)]
pub struct Behind {
    /// Who.
    pub professional: Arc<Professional>,
    /// The situation that was chosen.
    pub situation: Situation,
    /// What [`Sessions::set_data`] kept.
    pub data: Option<Arc<str>>,
}

/// There is no such session, or its text is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The session is over.
    #[error("the session is over")]
    Over,
    /// More than [`MAX_DATA`] bytes.
    #[error("more than {MAX_DATA} bytes for one session")]
    TooLong,
}

/// The sessions of a gateway.
pub struct Sessions {
    limits: SessionLimits,
    vault: Vault,
    store: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<SessionKey, Arc<Session>>>,
    /// Those that ended and whose records may still be in the store: with the next start they would come back.
    removals: Removals,
}

impl Sessions {
    /// Those of the store that still live. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn open(
        limits: SessionLimits,
        vault: Vault,
        store: Arc<dyn SessionStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let mut open = HashMap::new();
        for (name, record) in store.all(usize::MAX)? {
            let session = SessionKey::from_bytes(&name)
                .filter(|_| open.len() < limits.most)
                .and_then(|key| {
                    let content = vault.open_record(&name, &record)?;
                    Session::import(key, &content)
                })
                .filter(|session| session.over(now, limits.idle).is_none());
            match session {
                Some(session) => drop(open.insert(session.key, Arc::new(session))),
                None => store.remove(&name)?,
            }
        }
        gauge(open.len());
        Ok(Self {
            limits,
            vault,
            store,
            clock,
            open: Mutex::new(open),
            removals: Removals::default(),
        })
    }

    /// Who makes a request with these headers on this host, which counts as a use of the session. `None`: nobody is
    /// logged in, or the situation is not chosen yet.
    #[must_use]
    pub fn current(&self, headers: &HeaderMap, host: &str) -> Option<SessionView> {
        let (id, session) = self.find(headers, host)?;
        let view = self.view(&id, &session)?;
        session.touch(self.clock.now());
        Some(view)
    }

    /// As [`current`](Self::current), for requests that the page makes by itself: they do not keep a session alive.
    #[must_use]
    pub fn peek(&self, headers: &HeaderMap, host: &str) -> Option<SessionView> {
        let (id, session) = self.find(headers, host)?;
        self.view(&id, &session)
    }

    /// The session of this host with this key, for what was opened from it and has no cookie: such requests do not
    /// keep it alive. `None`: it is over, or its situation is not chosen yet.
    #[must_use]
    pub fn behind(&self, key: SessionKey, host: &str) -> Option<Behind> {
        let session = self.get(key)?;
        let here = *session.host == *host;
        let lives = session.over(self.clock.now(), self.limits.idle).is_none();
        let situation = session.situation().filter(|_| here && lives)?;
        let data = session.state.lock().data.clone();
        Some(Behind {
            professional: Arc::clone(&session.professional),
            situation,
            data,
        })
    }

    /// Keeps a text of the viewer in the session, in place of the one before.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn set_data(&self, key: SessionKey, data: Option<String>) -> Result<(), NotKept> {
        if data.as_ref().is_some_and(|data| data.len() > MAX_DATA) {
            return Err(NotKept::TooLong);
        }
        let session = self.get(key).ok_or(NotKept::Over)?;
        session.state.lock().data = data.map(Into::into);
        self.save(&session).await;
        Ok(())
    }

    /// What the login was started for; given once.
    pub async fn take_link(&self, key: SessionKey) -> Option<Arc<str>> {
        let session = self.get(key)?;
        let link = session.state.lock().link.take()?;
        self.save(&session).await;
        Some(link)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    pub(super) fn get(&self, key: SessionKey) -> Option<Arc<Session>> {
        self.open.lock().get(&key).cloned()
    }

    /// The live session of a request, its situation chosen or not.
    pub(super) fn find(
        &self,
        headers: &HeaderMap,
        host: &str,
    ) -> Option<(SessionId, Arc<Session>)> {
        let id = cookies::read(headers, cookies::SESSION)?;
        let session = self.get(id.key())?;
        // A cookie carried to another host is not that host's.
        let here = *session.host == *host;
        let lives = session.over(self.clock.now(), self.limits.idle).is_none();
        (here && lives).then_some((id, session))
    }

    fn view(&self, id: &SessionId, session: &Session) -> Option<SessionView> {
        let situation = session.situation()?;
        let state = session.state.lock();
        Some(SessionView {
            key: session.key,
            professional: Arc::clone(&session.professional),
            situation,
            csrf: id.csrf(),
            idle_at: session.seen_at().plus(self.limits.idle),
            ends_at: session.ends_at,
            link: state.link.clone(),
            data: state.data.clone(),
        })
    }

    /// Begins a session; those that had to make room for it come with it.
    pub(super) async fn begin(
        &self,
        new: NewSession,
    ) -> Result<(SessionId, Arc<Session>, Vec<Arc<Session>>), NoRandom> {
        let id = SessionId::new()?;
        let session = Session::begin(new, id.key(), self.clock.now(), self.limits.absolute);
        let session = Arc::new(session);
        let mut crowded_out = Vec::new();
        {
            let mut open = self.open.lock();
            while open.len() >= self.limits.most {
                let oldest = open.values().min_by_key(|session| session.seen_at());
                let Some(oldest) = oldest.map(|session| session.key) else {
                    break;
                };
                crowded_out.extend(open.remove(&oldest));
            }
            open.insert(session.key, Arc::clone(&session));
            gauge(open.len());
        }
        self.save(&session).await;
        Ok((id, session, crowded_out))
    }

    /// Ends a session: at once for requests, then on disk. `false` when it was over already.
    pub(super) async fn end(&self, session: &Session) -> bool {
        let was_open = {
            let mut open = self.open.lock();
            let was_open = open.remove(&session.key).is_some();
            gauge(open.len());
            was_open
        };
        let mut record = session.record.lock().await;
        if !record.removed {
            record.removed = true;
            let name = session.key.as_bytes();
            self.removals.remove(&self.store, ENDED, name).await;
        }
        was_open
    }

    /// Removes the records that could not be removed when their sessions ended.
    pub(super) async fn remove_ended(&self) {
        self.removals.again(&self.store, ENDED).await;
    }

    /// Writes the record of a session that lives.
    pub(super) async fn save(&self, session: &Session) {
        let mut record = session.record.lock().await;
        if record.removed {
            return;
        }
        let Some((content, seen_at)) = session.export().await else {
            return;
        };
        let Ok(sealed) = self.vault.seal(session.key.as_bytes(), &content) else {
            return;
        };
        let (store, key) = (Arc::clone(&self.store), session.key);
        let _ = written("a session", move || store.put(key.as_bytes(), &sealed)).await;
        record.seen_at = seen_at;
    }

    /// Writes down uses that are only in memory.
    pub(super) async fn save_uses(&self) {
        for session in self.all() {
            let saved = session.record.lock().await.seen_at;
            if session.seen_at().since(UnixTime::from_secs(saved)) >= SEEN_EVERY {
                self.save(&session).await;
            }
        }
    }

    /// Writes down every use: before a stop.
    pub(super) async fn save_all(&self) {
        for session in self.all() {
            if session.record.lock().await.seen_at != session.seen_at().as_secs() {
                self.save(&session).await;
            }
        }
    }

    /// Sessions that are over, with the reason.
    pub(super) fn over(&self) -> Vec<(Arc<Session>, &'static str)> {
        let now = self.clock.now();
        let with_reason = |session: Arc<Session>| {
            let reason = session.over(now, self.limits.idle)?;
            Some((session, reason))
        };
        self.all().into_iter().filter_map(with_reason).collect()
    }

    /// Every session of a person, on every host.
    pub(super) fn of_subject(&self, sub: &str) -> Vec<Arc<Session>> {
        self.those(|session| session.professional.sub == sub)
    }

    /// Those that share the session at PSC of this one, itself included.
    pub(super) fn sharing(&self, session: &Session) -> Vec<Arc<Session>> {
        let one = &session.professional;
        self.those(|other| {
            let other = &other.professional;
            other.sub == one.sub && other.sid.is_some() && other.sid == one.sid
        })
    }

    /// Those that PSC wants ended.
    pub(super) fn meant_by(&self, notice: &LogoutNotice) -> Vec<Arc<Session>> {
        self.those(|session| notice.means(&session.psc))
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.those(|_| true)
    }

    fn those(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let open = self.open.lock();
        let wanted = open.values().filter(|session| wanted(session));
        wanted.cloned().collect()
    }
}

fn gauge(sessions: usize) {
    metrics::gauge!("drimbox_login_sessions").set(sessions as f64);
}

impl fmt::Debug for SessionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionView")
            .field("professional", &self.professional)
            .field("situation", &self.situation)
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("limits", &self.limits)
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
