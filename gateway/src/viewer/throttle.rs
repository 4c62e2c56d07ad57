//! How often one address may follow links, how often links to one study may fail, and how often patients may try.
//!
//! An attempt counts from its beginning, and is given back when it was right: many at once get no further than one after
//! the other. What was refused is on disk, and a restart forgets none of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::UnixTime;

use crate::dicom::uid::StudyUid;
use crate::store::{AttemptStore, Attempts, StoreError};

/// Links that one address follows in a window: a practice behind one address opens many.
const OF_ADDRESS: Limit = Limit {
    most: 120,
    window: Duration::from_secs(600),
};
/// Refused links of one address in a window.
const REFUSED_OF_ADDRESS: Limit = Limit {
    most: 20,
    window: Duration::from_secs(3600),
};
/// Refused links to one study in a window: someone guesses its accession number or report.
const REFUSED_OF_STUDY: Limit = Limit {
    most: 20,
    window: Duration::from_secs(3600),
};
/// What patients at one address give for one study in a window, whether the link is right or wrong: what this costs the
/// address tells nothing of the link.
const TRIES_OF_ADDRESS: Limit = Limit {
    most: 10,
    window: Duration::from_secs(3600),
};
/// Wrong proofs, with the right link, for one exam in a window.
const REFUSED_PROOFS: Limit = Limit {
    most: 10,
    window: Duration::from_secs(24 * 3600),
};
/// One-time codes sent for one exam in a window: nobody's mailbox is filled.
const CODES_OF_STUDY: Limit = Limit {
    most: 6,
    window: Duration::from_secs(3600),
};
/// Counters kept of one kind. Beyond, those that are over go, then those that are furthest from their limit.
const MOST: usize = 100_000;
/// Share of the counters that makes room at once, so that it is seldom looked for.
const ROOM: usize = 10;
/// Writes between two looks for old counters on disk.
const SWEEP_EVERY: u32 = 1000;

struct Limit {
    most: u32,
    window: Duration,
}

/// What is counted, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    /// Links that an address follows.
    Followed(IpAddr),
    /// Refusals of an address.
    Refused(IpAddr),
    /// Links of professionals to a study.
    Links(StudyUid),
    /// What patients at an address gave for a study.
    Tries(IpAddr, StudyUid),
    /// Proofs of patients who have the link of this study.
    Proofs(StudyUid),
    /// One-time codes of this study.
    Codes(StudyUid),
}

impl Subject {
    fn limit(&self) -> &'static Limit {
        match self {
            Self::Followed(_) => &OF_ADDRESS,
            Self::Refused(_) => &REFUSED_OF_ADDRESS,
            Self::Links(_) => &REFUSED_OF_STUDY,
            Self::Tries(..) => &TRIES_OF_ADDRESS,
            Self::Proofs(_) => &REFUSED_PROOFS,
            Self::Codes(_) => &CODES_OF_STUDY,
        }
    }

    /// What is locked when it is at its limit; `None` where that is a pace, and no sign of somebody who guesses.
    fn lock(&self) -> Option<Lock> {
        match self {
            Self::Refused(_) => Some(Lock::Address),
            Self::Links(_) => Some(Lock::Study),
            Self::Proofs(_) => Some(Lock::Exam),
            Self::Followed(_) | Self::Tries(..) | Self::Codes(_) => None,
        }
    }

    /// Its name on disk.
    fn name(&self) -> Vec<u8> {
        let (kind, about) = match self {
            Self::Followed(address) => (b'f', octets(address).to_vec()),
            Self::Refused(address) => (b'a', octets(address).to_vec()),
            Self::Links(study) => (b's', study.as_str().into()),
            Self::Tries(address, study) => {
                let address = octets(address);
                let about = [address.as_slice(), study.as_str().as_bytes()];
                (b't', about.concat())
            }
            Self::Proofs(study) => (b'p', study.as_str().into()),
            Self::Codes(study) => (b'c', study.as_str().into()),
        };
        [&[kind], about.as_slice()].concat()
    }

    fn named(name: &[u8]) -> Option<Self> {
        let (kind, about) = name.split_first()?;
        let address = |octets| {
            let octets = <[u8; 16]>::try_from(octets).ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        };
        let study = |uid| StudyUid::parse(std::str::from_utf8(uid).ok()?).ok();
        match kind {
            b'f' => address(about).map(Self::Followed),
            b'a' => address(about).map(Self::Refused),
            b's' => study(about).map(Self::Links),
            b't' => {
                let (octets, uid) = about.split_at_checked(16)?;
                Some(Self::Tries(address(octets)?, study(uid)?))
            }
            b'p' => study(about).map(Self::Proofs),
            b'c' => study(about).map(Self::Codes),
            _ => None,
        }
    }
}

/// Who or what is locked when a counter is at its limit, and somebody has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    /// An address, for what was refused to it.
    Address,
    /// A study, for professionals.
    Study,
    /// An exam, for its patient.
    Exam,
}

impl Lock {
    /// The alarm: which address, study or exam it is stays out of logs and metrics.
    fn alarm(self) {
        match self {
            Self::Address => {
                metrics::counter!("drimbox_viewer_lockouts_total", "subject" => "address")
                    .increment(1);
                tracing::warn!("one address was refused too often: it is locked for an hour");
            }
            Self::Study => {
                metrics::counter!("drimbox_viewer_lockouts_total", "subject" => "study")
                    .increment(1);
                tracing::warn!(
                    "links to one study were refused too often: it is locked for an hour"
                );
            }
            Self::Exam => {
                metrics::counter!("drimbox_patient_lockouts_total").increment(1);
                tracing::warn!(
                    "a patient's proof was wrong too often for one exam: it is locked for a day"
                );
            }
        }
    }
}

/// The counters.
pub(super) struct Throttle {
    alarm: fn(Lock),
    followed: Counters,
    refused: Counters,
    links: Counters,
    tries: Counters,
    proofs: Counters,
    codes: Counters,
    store: Arc<dyn AttemptStore>,
    /// One write after the other: the last count is the one on disk.
    writing: Arc<tokio::sync::Mutex<()>>,
    writes: AtomicU32,
}

impl Throttle {
    /// With what was counted before the start. Blocks.
    pub(super) fn open(store: Arc<dyn AttemptStore>, now: UnixTime) -> Result<Self, StoreError> {
        Self::with_alarm(store, now, Lock::alarm)
    }

    fn with_alarm(
        store: Arc<dyn AttemptStore>,
        now: UnixTime,
        alarm: fn(Lock),
    ) -> Result<Self, StoreError> {
        let throttle = Self {
            alarm,
            followed: Counters::default(),
            refused: Counters::default(),
            links: Counters::default(),
            tries: Counters::default(),
            proofs: Counters::default(),
            codes: Counters::default(),
            store,
            writing: Arc::default(),
            writes: AtomicU32::new(0),
        };
        throttle.store.forget_before(oldest(now))?;
        for (name, attempts) in throttle.store.all(6 * MOST)? {
            if let Some(subject) = Subject::named(&name) {
                throttle.of(&subject).restore(subject, attempts);
            }
        }
        Ok(throttle)
    }

    /// Whether an address may follow another link now; counts it, on disk when this returns.
    pub(super) async fn may_follow(&self, address: IpAddr, now: UnixTime) -> bool {
        let address = network(address);
        // A link that is followed was not refused yet.
        let refused = [Subject::Refused(address)];
        if !self.has_room(&refused, now).await {
            return false;
        }
        self.take_and_keep(Subject::Followed(address), now).await
    }

    /// Whether a professional's link of this address to this study is looked at now; counts it as an attempt, until
    /// [`succeeded`](Self::succeeded). What is not looked at is not counted.
    pub(super) async fn may_open(&self, address: IpAddr, study: &StudyUid, now: UnixTime) -> bool {
        let asked = [
            Subject::Refused(network(address)),
            Subject::Links(study.clone()),
        ];
        self.take(&asked, now).await
    }

    /// An attempt that [`may_open`](Self::may_open) counted was right.
    pub(super) fn succeeded(&self, address: IpAddr, study: &StudyUid) {
        self.give_back(&[
            Subject::Refused(network(address)),
            Subject::Links(study.clone()),
        ]);
    }

    /// A link was refused: on disk when this returns.
    pub(super) async fn refused(&self, address: IpAddr, study: &StudyUid) {
        let refused = Subject::Refused(network(address));
        self.keep([refused, Subject::Links(study.clone())]).await;
    }

    /// Whether what a patient at this address gives for this study is looked at now; counts it as an attempt, until
    /// [`tried`](Self::tried). What is not looked at is not counted.
    pub(super) async fn may_try(&self, address: IpAddr, study: &StudyUid, now: UnixTime) -> bool {
        self.take(&tries(address, study), now).await
    }

    /// An attempt that [`may_try`](Self::may_try) counted was right.
    pub(super) fn tried(&self, address: IpAddr, study: &StudyUid) {
        self.give_back(&tries(address, study));
    }

    /// The link of a patient was wrong, or its exam is locked, which must cost the same: on disk when this returns.
    pub(super) async fn mistaken(&self, address: IpAddr, study: &StudyUid) {
        self.keep(tries(address, study)).await;
    }

    /// Whether the proof of a patient who has the link of this study is looked at now; counts it as an attempt, until
    /// [`proved`](Self::proved). Who knows no more than the study locks nobody out of it.
    pub(super) async fn may_prove(&self, study: &StudyUid, now: UnixTime) -> bool {
        self.take(&[Subject::Proofs(study.clone())], now).await
    }

    /// An attempt that [`may_prove`](Self::may_prove) counted was right.
    pub(super) fn proved(&self, study: &StudyUid) {
        self.give_back(&[Subject::Proofs(study.clone())]);
    }

    /// A patient's proof was wrong: on disk when this returns.
    pub(super) async fn failed(&self, address: IpAddr, study: &StudyUid) {
        let [refused, tries] = tries(address, study);
        self.keep([refused, tries, Subject::Proofs(study.clone())])
            .await;
    }

    /// Whether one more one-time code may be sent for this study, to somebody who has its link; counts it, on disk when
    /// this returns.
    pub(super) async fn may_send(&self, study: &StudyUid, now: UnixTime) -> bool {
        self.take_and_keep(Subject::Codes(study.clone()), now).await
    }

    fn of(&self, subject: &Subject) -> &Counters {
        match subject {
            Subject::Followed(_) => &self.followed,
            Subject::Refused(_) => &self.refused,
            Subject::Links(_) => &self.links,
            Subject::Tries(..) => &self.tries,
            Subject::Proofs(_) => &self.proofs,
            Subject::Codes(_) => &self.codes,
        }
    }

    /// Counts one more for each of them, or for none when one has no room here or with what the other nodes counted.
    async fn take(&self, subjects: &[Subject], now: UnixTime) -> bool {
        for (at, subject) in subjects.iter().enumerate() {
            if !self.of(subject).take(subject, now) {
                self.give_back(subjects.get(..at).unwrap_or_default());
                return false;
            }
        }
        // The own attempt is counted already.
        let has_room = self.has_room_elsewhere(subjects, 0, now).await;
        if !has_room {
            self.give_back(subjects);
        }
        has_room
    }

    /// Whether one more of each would be counted; counts none.
    async fn has_room(&self, subjects: &[Subject], now: UnixTime) -> bool {
        let has_room =
            |subject: &Subject| self.of(subject).count(subject, now) < subject.limit().most;
        subjects.iter().all(has_room) && self.has_room_elsewhere(subjects, 1, now).await
    }

    async fn take_and_keep(&self, subject: Subject, now: UnixTime) -> bool {
        let taken = self.take(std::slice::from_ref(&subject), now).await;
        if taken {
            self.keep([subject]).await;
        }
        taken
    }

    fn raise(&self, subject: &Subject) {
        if let Some(lock) = subject.lock() {
            (self.alarm)(lock);
        }
    }

    fn give_back(&self, subjects: &[Subject]) {
        for subject in subjects {
            self.of(subject).give_back(subject);
        }
    }

    /// Whether there is room, with what other nodes counted, for what is counted here and this many more. What cannot be
    /// known has no room.
    async fn has_room_elsewhere(&self, subjects: &[Subject], more: u32, now: UnixTime) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        let asked: Vec<_> = subjects
            .iter()
            .map(|subject| {
                let counted = self.of(subject).count(subject, now);
                (subject.clone(), counted.saturating_add(more))
            })
            .collect();
        let store = Arc::clone(&self.store);
        let work = move || {
            for (subject, own) in asked {
                let limit = subject.limit();
                let since = now.as_secs().saturating_sub(limit.window.as_secs());
                let elsewhere = store.counted_elsewhere(&subject.name(), since)?;
                if own.saturating_add(elsewhere) > limit.most {
                    return Ok(Some(subject));
                }
            }
            Ok::<_, StoreError>(None)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(None)) => true,
            Ok(Ok(Some(full))) => {
                // Filled on several nodes together: each tells it when it meets it.
                if self.of(&full).tell(&full, now) {
                    self.raise(&full);
                }
                false
            }
            Ok(Err(error)) => {
                tracing::error!(
                    "what other nodes refused cannot be read, nothing is opened: {error}"
                );
                false
            }
            Err(_) => false,
        }
    }

    /// Writes counts down, and raises the alarm for those that have just come to their limit.
    async fn keep<const N: usize>(&self, subjects: [Subject; N]) {
        for subject in &subjects {
            if self.of(subject).tell_full(subject) {
                self.raise(subject);
            }
        }
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let records = subjects.map(|subject| (subject.name(), self.of(&subject).get(&subject)));
        let turn = self.writes.fetch_add(1, Ordering::Relaxed);
        let sweep = turn % SWEEP_EVERY == SWEEP_EVERY - 1;
        let store = Arc::clone(&self.store);
        let work = move || {
            let _writing = writing;
            for (name, attempts) in records {
                let Some(attempts) = attempts else {
                    continue;
                };
                store.put(&name, attempts)?;
                if sweep {
                    store.forget_before(oldest(UnixTime::from_secs(attempts.since)))?;
                }
            }
            Ok::<(), StoreError>(())
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::error!("an attempt is counted in memory only: {error}");
        }
    }
}

fn tries(address: IpAddr, study: &StudyUid) -> [Subject; 2] {
    let address = network(address);
    [
        Subject::Refused(address),
        Subject::Tries(address, study.clone()),
    ]
}

fn octets(address: &IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Windows that began before this second are over.
fn oldest(now: UnixTime) -> u64 {
    let longest = REFUSED_OF_ADDRESS.window.max(REFUSED_OF_STUDY.window);
    let longest = longest.max(REFUSED_PROOFS.window);
    now.as_secs().saturating_sub(longest.as_secs())
}

/// One subscriber has 2^64 addresses of IPv6: the network counts.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(network.into())
        }
        address => address.to_canonical(),
    }
}

struct Counter {
    attempts: Attempts,
    /// Whether its lock was told.
    told: bool,
}

impl Counter {
    fn fresh(now: UnixTime) -> Self {
        Self {
            attempts: Attempts {
                since: now.as_secs(),
                count: 0,
            },
            told: false,
        }
    }

    fn is_over(&self, limit: &Limit, now: UnixTime) -> bool {
        now.since(UnixTime::from_secs(self.attempts.since)) >= limit.window
    }
}

/// Counters of one kind.
struct Counters {
    counters: Mutex<HashMap<Subject, Counter>>,
    most: usize,
}

impl Default for Counters {
    fn default() -> Self {
        Self::with_room_for(MOST)
    }
}

impl Counters {
    fn with_room_for(most: usize) -> Self {
        Self {
            counters: Mutex::default(),
            most,
        }
    }

    /// Counts one more, unless there is no room.
    fn take(&self, subject: &Subject, now: UnixTime) -> bool {
        let limit = subject.limit();
        let mut counters = self.counters.lock();
        if counters.len() >= self.most && !counters.contains_key(subject) {
            make_room(&mut counters, self.most, limit, now);
            // All of them are locked: whoever is not known yet waits until one is over.
            if counters.len() >= self.most {
                return false;
            }
        }
        let counter = counters.entry(subject.clone());
        let counter = counter.or_insert_with(|| Counter::fresh(now));
        if counter.is_over(limit, now) {
            *counter = Counter::fresh(now);
        }
        let has_room = counter.attempts.count < limit.most;
        counter.attempts.count += u32::from(has_room);
        has_room
    }

    fn give_back(&self, subject: &Subject) {
        if let Some(counter) = self.counters.lock().get_mut(subject) {
            counter.attempts.count = counter.attempts.count.saturating_sub(1);
        }
    }

    /// What is counted in the window of now.
    fn count(&self, subject: &Subject, now: UnixTime) -> u32 {
        let counters = self.counters.lock();
        let counter = counters.get(subject);
        let current = counter.filter(|counter| !counter.is_over(subject.limit(), now));
        current.map_or(0, |counter| counter.attempts.count)
    }

    /// Whether its last attempt was used up; told once in a window.
    fn tell_full(&self, subject: &Subject) -> bool {
        let mut counters = self.counters.lock();
        let counter = counters.get_mut(subject);
        counter.is_some_and(|counter| {
            let full = counter.attempts.count >= subject.limit().most;
            full && !std::mem::replace(&mut counter.told, true)
        })
    }

    /// Whether a lock that other nodes have a part in is told now: once in a window.
    fn tell(&self, subject: &Subject, now: UnixTime) -> bool {
        let mut counters = self.counters.lock();
        if counters.len() >= self.most && !counters.contains_key(subject) {
            return false;
        }
        let counter = counters.entry(subject.clone());
        let counter = counter.or_insert_with(|| Counter::fresh(now));
        if counter.is_over(subject.limit(), now) {
            *counter = Counter::fresh(now);
        }
        !std::mem::replace(&mut counter.told, true)
    }

    fn get(&self, subject: &Subject) -> Option<Attempts> {
        let counters = self.counters.lock();
        counters.get(subject).map(|counter| counter.attempts)
    }

    fn restore(&self, subject: Subject, attempts: Attempts) {
        let counter = Counter {
            attempts,
            told: false,
        };
        self.counters.lock().insert(subject, counter);
    }
}

/// Takes out counters that are over; where that is not enough, some of those furthest from their limit, and never one
/// that is at it: a lock ends with its window only.
fn make_room(counters: &mut HashMap<Subject, Counter>, most: usize, limit: &Limit, now: UnixTime) {
    counters.retain(|_, counter| !counter.is_over(limit, now));
    if counters.len() < most {
        return;
    }
    let mut counts: Vec<u32> = counters
        .values()
        .map(|counter| counter.attempts.count)
        .filter(|count| *count < limit.most)
        .collect();
    counts.sort_unstable();
    let wanted = (most / ROOM).max(1);
    let Some(highest) = counts.get(wanted - 1).or(counts.last()).copied() else {
        return;
    };
    let mut left = wanted;
    counters.retain(|_, counter| {
        let goes = left > 0 && counter.attempts.count <= highest;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests;
