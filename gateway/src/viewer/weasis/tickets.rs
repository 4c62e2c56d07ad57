//! What Weasis shows: a ticket, once and at once, for the list of the images; then a key, for the images.
//!
//! Both are 256 random bits, and stand for one exam of one session on one host. The gateway keeps their SHA-256, sealed
//! on disk for the next start; they open nothing once the session is over.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::UnixTime;
use serde::{Deserialize, Serialize};

use crate::access::Granted;
use crate::login::{NoRandom, SessionId, SessionKey, Vault};
use crate::store::{SessionStore, StoreError, written};

/// How long a ticket can be shown.
pub(super) const TICKET: Duration = Duration::from_secs(60);
/// Tickets and keys at once; beyond, the oldest goes.
const MOST: usize = 10_000;
/// Those of one session.
const MOST_OF_SESSION: usize = 8;
/// What is on disk, in words.
const WHAT: &str = "what was opened in Weasis";

/// Tickets and keys.
pub struct Tickets {
    vault: Vault,
    store: Arc<dyn SessionStore>,
    open: Mutex<HashMap<SessionKey, Record>>,
}

/// What a ticket or a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::viewer) struct Opened {
    /// The session that it was made for.
    pub(in crate::viewer) session: SessionKey,
    /// The exam.
    pub(in crate::viewer) granted: Granted,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    kind: Kind,
    host: String,
    session: [u8; 32],
    granted: Granted,
    made_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Ticket,
    Key,
}

impl Tickets {
    /// Those of the store whose session `lives`. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn open(
        vault: Vault,
        store: Arc<dyn SessionStore>,
        now: UnixTime,
        lives: impl Fn(SessionKey, &str) -> bool,
    ) -> Result<Self, StoreError> {
        let mut open = HashMap::new();
        for (name, sealed) in store.all(usize::MAX)? {
            let found = SessionKey::from_bytes(&name)
                .filter(|_| open.len() < MOST)
                .and_then(|key| {
                    let content = vault.open_record(&name, &sealed)?;
                    let record: Record = serde_json::from_slice(&content).ok()?;
                    record.is_good(now, &lives).then_some((key, record))
                });
            match found {
                Some((key, record)) => drop(open.insert(key, record)),
                None => store.remove(&name)?,
            }
        }
        Ok(Self {
            vault,
            store,
            open: Mutex::new(open),
        })
    }

    /// A ticket for the exam of a session.
    pub(in crate::viewer) async fn ticket(
        &self,
        host: &str,
        opened: Opened,
        now: UnixTime,
    ) -> Result<SessionId, NoRandom> {
        self.add(Kind::Ticket, host, opened, now).await
    }

    /// A key for the exam of a ticket that was redeemed.
    pub(in crate::viewer) async fn key(
        &self,
        host: &str,
        opened: Opened,
        now: UnixTime,
    ) -> Result<SessionId, NoRandom> {
        self.add(Kind::Key, host, opened, now).await
    }

    /// What a ticket stands for, the first time that it is shown on its own host. `None` also when the disk does not
    /// take it back: after the next start it would be good again.
    pub(in crate::viewer) async fn redeem(
        &self,
        id: &SessionId,
        host: &str,
        now: UnixTime,
    ) -> Option<Opened> {
        let record = {
            let mut open = self.open.lock();
            let record = open.get(&id.key())?;
            if record.kind != Kind::Ticket || record.host != host {
                return None;
            }
            open.remove(&id.key())?
        };
        self.forget(id.key()).await.ok()?;
        let in_time = record.is_in_time(now);
        in_time.then(|| record.opened())
    }

    /// What a key stands for, on its own host. Whether the session still lives is for the caller to ask.
    pub(in crate::viewer) fn opened(&self, id: &SessionId, host: &str) -> Option<Opened> {
        let open = self.open.lock();
        let record = open.get(&id.key())?;
        let good = record.kind == Kind::Key && record.host == host;
        good.then(|| record.opened())
    }

    /// Forgets tickets that were never shown, and what belongs to sessions that do not live any more.
    pub(in crate::viewer) async fn sweep(
        &self,
        now: UnixTime,
        lives: impl Fn(SessionKey, &str) -> bool,
    ) {
        let all: Vec<_> = {
            let open = self.open.lock();
            let all = open.iter();
            all.map(|(key, record)| (*key, record.clone())).collect()
        };
        for (key, record) in all {
            if !record.is_good(now, &lives) {
                self.open.lock().remove(&key);
                let _ = self.forget(key).await;
            }
        }
    }

    async fn add(
        &self,
        kind: Kind,
        host: &str,
        opened: Opened,
        now: UnixTime,
    ) -> Result<SessionId, NoRandom> {
        let id = SessionId::new()?;
        let record = Record {
            kind,
            host: host.to_owned(),
            session: opened.session.bytes(),
            granted: opened.granted,
            made_at: now.as_secs(),
        };
        let content = serde_json::to_vec(&record).map_err(|_| NoRandom)?;
        let sealed = self.vault.seal(id.key().as_bytes(), &content)?;
        let gone = {
            let mut open = self.open.lock();
            let of_session = |one: &Record| one.session == record.session;
            let mut gone = make_room(&mut open, MOST_OF_SESSION, of_session);
            gone.extend(make_room(&mut open, MOST, |_| true));
            open.insert(id.key(), record);
            gone
        };
        for key in gone {
            let _ = self.forget(key).await;
        }
        let (store, key) = (Arc::clone(&self.store), id.key());
        // One that is in memory only lasts until the next start.
        let _ = written(WHAT, move || store.put(key.as_bytes(), &sealed)).await;
        Ok(id)
    }

    /// On disk too, when this returns `Ok`.
    async fn forget(&self, key: SessionKey) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        written(WHAT, move || store.remove(key.as_bytes())).await
    }
}

/// Takes out the oldest until there is room for one more among `those`.
fn make_room(
    open: &mut HashMap<SessionKey, Record>,
    most: usize,
    those: impl Fn(&Record) -> bool,
) -> Vec<SessionKey> {
    let mut gone = Vec::new();
    loop {
        let found = open.iter().filter(|(_, record)| those(record));
        if found.clone().count() < most {
            return gone;
        }
        let oldest = found.min_by_key(|(_, record)| record.made_at);
        let Some(oldest) = oldest.map(|(key, _)| *key) else {
            return gone;
        };
        open.remove(&oldest);
        gone.push(oldest);
    }
}

impl Record {
    fn opened(&self) -> Opened {
        Opened {
            session: self.session(),
            granted: self.granted.clone(),
        }
    }

    fn session(&self) -> SessionKey {
        SessionKey::of(self.session)
    }

    fn is_in_time(&self, now: UnixTime) -> bool {
        let since = now.since(UnixTime::from_secs(self.made_at));
        self.kind == Kind::Key || since < TICKET
    }

    fn is_good(&self, now: UnixTime, lives: &impl Fn(SessionKey, &str) -> bool) -> bool {
        self.is_in_time(now) && lives(self.session(), &self.host)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::dicom::uid::StudyUid;
    use crate::store::SealedSession;

    /// A disk: what is on it outlives whoever writes it.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>, Arc<Mutex<bool>>);

    impl SessionStore for Disk {
        fn put(&self, name: &[u8], record: &[u8]) -> Result<(), StoreError> {
            self.0.lock().insert(name.to_vec(), record.to_vec());
            Ok(())
        }

        fn remove(&self, name: &[u8]) -> Result<(), StoreError> {
            if *self.1.lock() {
                return Err(StoreError("no space left".into()));
            }
            self.0.lock().remove(name);
            Ok(())
        }

        fn all(&self, most: usize) -> Result<Vec<SealedSession>, StoreError> {
            let all = self.0.lock();
            let all = all.iter().take(most);
            Ok(all
                .map(|(name, record)| (name.clone(), record.clone()))
                .collect())
        }
    }

    struct Place {
        folder: tempfile::TempDir,
        disk: Disk,
    }

    impl Place {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                disk: Disk::default(),
            }
        }

        fn start(&self, now: UnixTime) -> Tickets {
            let vault = Vault::open(&self.folder.path().join("key")).unwrap();
            let store = Arc::new(self.disk.clone());
            Tickets::open(vault, store, now, |_, _| true).unwrap()
        }
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_900_000_000 + seconds)
    }

    fn opened(session: u8, study: usize) -> Opened {
        Opened {
            session: SessionKey::of([session; 32]),
            granted: Granted {
                pacs: "ct".into(),
                study: StudyUid::parse(&format!("1.2.{study}")).unwrap(),
            },
        }
    }

    #[tokio::test]
    async fn a_ticket_is_good_once_within_a_minute_on_its_own_host() {
        let place = Place::new();
        let tickets = place.start(at(0));
        let id = tickets.ticket("vi.a", opened(1, 3), at(0)).await.unwrap();
        assert_eq!(tickets.redeem(&id, "vi.b", at(1)).await, None);
        assert_eq!(tickets.opened(&id, "vi.a"), None, "a ticket is no key");
        let got = tickets.redeem(&id, "vi.a", at(59)).await;
        assert_eq!(got, Some(opened(1, 3)));
        assert_eq!(tickets.redeem(&id, "vi.a", at(59)).await, None);
        let late = tickets.ticket("vi.a", opened(1, 3), at(100)).await.unwrap();
        assert_eq!(tickets.redeem(&late, "vi.a", at(160)).await, None);
        assert_eq!(tickets.redeem(&late, "vi.a", at(101)).await, None);
    }

    #[tokio::test]
    async fn a_key_lasts_as_long_as_its_session_and_is_no_ticket() {
        let place = Place::new();
        let tickets = place.start(at(0));
        let id = tickets.key("vi.a", opened(1, 3), at(0)).await.unwrap();
        assert_eq!(tickets.redeem(&id, "vi.a", at(1)).await, None);
        tickets.sweep(at(7200), |_, _| true).await;
        assert_eq!(tickets.opened(&id, "vi.a"), Some(opened(1, 3)));
        assert_eq!(tickets.opened(&id, "vi.b"), None);
        tickets.sweep(at(7200), |_, host| host != "vi.a").await;
        assert_eq!(tickets.opened(&id, "vi.a"), None);
        assert!(place.disk.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_start_changes_nothing_and_a_used_ticket_does_not_come_back() {
        let place = Place::new();
        let before = place.start(at(0));
        let used = before.ticket("vi", opened(1, 3), at(0)).await.unwrap();
        let waiting = before.ticket("vi", opened(1, 3), at(0)).await.unwrap();
        let late = before.ticket("vi", opened(1, 4), at(0)).await.unwrap();
        let key = before.key("vi", opened(2, 5), at(0)).await.unwrap();
        assert!(before.redeem(&used, "vi", at(1)).await.is_some());
        drop(before);
        let after = place.start(at(2));
        assert_eq!(after.redeem(&used, "vi", at(2)).await, None);
        assert!(after.redeem(&waiting, "vi", at(2)).await.is_some());
        assert_eq!(after.opened(&key, "vi"), Some(opened(2, 5)));
        drop(after);
        let later = place.start(at(60));
        assert_eq!(later.redeem(&late, "vi", at(1)).await, None);
        assert_eq!(place.disk.0.lock().len(), 1, "the key");
    }

    #[tokio::test]
    async fn a_ticket_that_the_disk_does_not_take_back_opens_nothing() {
        let place = Place::new();
        let tickets = place.start(at(0));
        let id = tickets.ticket("vi", opened(1, 3), at(0)).await.unwrap();
        *place.disk.1.lock() = true;
        assert_eq!(tickets.redeem(&id, "vi", at(1)).await, None);
    }

    #[tokio::test]
    async fn neither_disk_nor_debug_has_the_secret_or_the_exam() {
        let place = Place::new();
        let tickets = place.start(at(0));
        let id = tickets
            .key("vi.example", opened(1, 333), at(0))
            .await
            .unwrap();
        let records = place.disk.0.lock().clone();
        let (name, record) = records.first_key_value().unwrap();
        for text in [id.expose(), "vi.example", "1.2.333"] {
            let has = |bytes: &[u8]| {
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            assert!(!has(name) && !has(record), "{text}");
        }
        assert_eq!(format!("{tickets:?}"), "Tickets { .. }");
    }

    #[tokio::test]
    async fn a_session_has_few_and_the_oldest_gives_way() {
        let place = Place::new();
        let tickets = place.start(at(0));
        let other = tickets.key("vi", opened(2, 3), at(0)).await.unwrap();
        let mut ids = Vec::new();
        for second in 0..=MOST_OF_SESSION {
            let now = at(second as u64);
            ids.push(tickets.key("vi", opened(1, 3), now).await.unwrap());
        }
        assert_eq!(tickets.opened(&ids[0], "vi"), None);
        assert!(ids[1..].iter().all(|id| tickets.opened(id, "vi").is_some()));
        assert!(tickets.opened(&other, "vi").is_some());
    }

    /// What happens, in any order.
    #[derive(Debug, Clone)]
    enum Step {
        Ticket(u8, usize, usize),
        Key(u8, usize, usize),
        Redeem(usize, usize),
        Open(usize, usize),
        Pass(u64),
        Restart,
        End(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3u8, 0..3usize, 0..2usize).prop_map(|(s, e, h)| Step::Ticket(s, e, h)),
            (0..3u8, 0..3usize, 0..2usize).prop_map(|(s, e, h)| Step::Key(s, e, h)),
            (0..12usize, 0..2usize).prop_map(|(id, h)| Step::Redeem(id, h)),
            (0..12usize, 0..2usize).prop_map(|(id, h)| Step::Open(id, h)),
            (0..40u64).prop_map(Step::Pass),
            Just(Step::Restart),
            (0..3u8).prop_map(Step::End),
        ]
    }

    /// What somebody who writes everything down knows of one.
    struct Known {
        id: SessionId,
        is_key: bool,
        opened: Opened,
        host: &'static str,
        made: u64,
        over: bool,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whoever shows whatever, wherever and whenever: nothing opens but what was given for it.
        #[test]
        fn nothing_opens_but_what_it_was_given_for(steps in proptest::collection::vec(step(), 1..40)) {
            let hosts = ["vi.a", "vi.b"];
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let place = Place::new();
                let (mut tickets, mut now) = (place.start(at(0)), 0);
                let mut known: Vec<Known> = Vec::new();
                for step in steps {
                    match step {
                        Step::Ticket(session, study, host) | Step::Key(session, study, host) => {
                            let of_session = |one: &&Known| !one.over && one.opened == opened(session, study);
                            // Those that give way have a test of their own.
                            if known.iter().filter(of_session).count() >= 2 || known.len() >= 12 {
                                continue;
                            }
                            let is_key = matches!(step, Step::Key(..));
                            let (opened, host) = (opened(session, study), hosts[host]);
                            let id = match is_key {
                                true => tickets.key(host, opened.clone(), at(now)).await.unwrap(),
                                false => tickets.ticket(host, opened.clone(), at(now)).await.unwrap(),
                            };
                            known.push(Known { id, is_key, opened, host, made: now, over: false });
                        }
                        Step::Redeem(which, host) => {
                            let Some(one) = known.get_mut(which) else { continue };
                            let got = tickets.redeem(&one.id, hosts[host], at(now)).await;
                            let shown = !one.is_key && one.host == hosts[host];
                            let good = shown && !one.over && now - one.made < 60;
                            prop_assert_eq!(got, good.then(|| one.opened.clone()));
                            one.over |= shown;
                        }
                        Step::Open(which, host) => {
                            let Some(one) = known.get(which) else { continue };
                            let good = one.is_key && !one.over && one.host == hosts[host];
                            let got = tickets.opened(&one.id, hosts[host]);
                            prop_assert_eq!(got, good.then(|| one.opened.clone()));
                        }
                        Step::Pass(seconds) => now += seconds,
                        Step::Restart => tickets = place.start(at(now)),
                        Step::End(session) => {
                            let ended = SessionKey::of([session; 32]);
                            tickets.sweep(at(now), |key, _| key != ended).await;
                            for one in known.iter_mut().filter(|one| one.opened.session == ended) {
                                one.over = true;
                            }
                        }
                    }
                }
                Ok(())
            })?;
        }
    }
}
