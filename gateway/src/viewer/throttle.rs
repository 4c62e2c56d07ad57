//! How often one address may follow links, how often links to one study may fail, and how often patients may try.
//!
//! An attempt counts from its beginning, and is given back when it was right: many at once get no further than one after
//! the other. What was refused is on disk, and a restart forgets none of it.

use std::collections::HashMap;
use std::hash::Hash;
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
/// Wrong proofs of a patient for one exam in a window.
const REFUSED_PROOFS: Limit = Limit {
    most: 10,
    window: Duration::from_secs(24 * 3600),
};
/// One-time codes sent for one exam in a window: nobody's mailbox is filled.
const CODES_OF_STUDY: Limit = Limit {
    most: 6,
    window: Duration::from_secs(3600),
};
/// Counters kept; beyond, those of old windows go, then the table starts again.
const MOST: usize = 100_000;
/// Writes between two looks for old counters on disk.
const SWEEP_EVERY: u32 = 1000;

/// First byte of the name of a counter on disk.
const ADDRESS: u8 = b'a';
const STUDY: u8 = b's';
const PROOF: u8 = b'p';

struct Limit {
    most: u32,
    window: Duration,
}

/// The counters.
pub(super) struct Throttle {
    followed: Counters<IpAddr>,
    refused: Counters<IpAddr>,
    studies: Counters<StudyUid>,
    proofs: Counters<StudyUid>,
    codes: Counters<StudyUid>,
    store: Arc<dyn AttemptStore>,
    /// One write after the other: the last count is the one on disk.
    writing: Arc<tokio::sync::Mutex<()>>,
    writes: AtomicU32,
}

impl Throttle {
    /// With what was refused before the start. Blocks.
    pub(super) fn open(store: Arc<dyn AttemptStore>, now: UnixTime) -> Result<Self, StoreError> {
        let throttle = Self {
            followed: Counters::default(),
            refused: Counters::default(),
            studies: Counters::default(),
            proofs: Counters::default(),
            codes: Counters::default(),
            store,
            writing: Arc::default(),
            writes: AtomicU32::new(0),
        };
        throttle.store.forget_before(oldest(now))?;
        for (name, attempts) in throttle.store.all(MOST)? {
            match name.split_first() {
                Some((&ADDRESS, octets)) => {
                    if let Ok(octets) = <[u8; 16]>::try_from(octets) {
                        let address = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical();
                        throttle.refused.restore(address, attempts);
                    }
                }
                Some((&kind @ (STUDY | PROOF), uid)) => {
                    let uid = std::str::from_utf8(uid).ok();
                    if let Some(study) = uid.and_then(|uid| StudyUid::parse(uid).ok()) {
                        throttle.of_kind(kind).restore(study, attempts);
                    }
                }
                _ => {}
            }
        }
        Ok(throttle)
    }

    /// Whether an address may follow another link now; counts it.
    pub(super) fn may_follow(&self, address: IpAddr, now: UnixTime) -> bool {
        let address = network(address);
        self.followed.take(&address, &OF_ADDRESS, now)
            && self.refused.has_room(&address, &REFUSED_OF_ADDRESS, now)
    }

    /// Whether a link of this address to this study is looked at now; counts it as an attempt, until
    /// [`succeeded`](Self::succeeded).
    pub(super) async fn may_open(&self, address: IpAddr, study: &StudyUid, now: UnixTime) -> bool {
        let address = network(address);
        self.refused.take(&address, &REFUSED_OF_ADDRESS, now)
            && self.studies.take(study, &REFUSED_OF_STUDY, now)
            && self.has_room_elsewhere(address, STUDY, study, now).await
    }

    /// Whether a patient's proof from this address for this study is looked at now; counts it as an attempt, until
    /// [`proved`](Self::proved).
    pub(super) async fn may_try(&self, address: IpAddr, study: &StudyUid, now: UnixTime) -> bool {
        let address = network(address);
        self.refused.take(&address, &REFUSED_OF_ADDRESS, now)
            && self.proofs.take(study, &REFUSED_PROOFS, now)
            && self.has_room_elsewhere(address, PROOF, study, now).await
    }

    /// An attempt that [`may_try`](Self::may_try) counted was right.
    pub(super) fn proved(&self, address: IpAddr, study: &StudyUid) {
        self.refused.give_back(&network(address));
        self.proofs.give_back(study);
    }

    /// A patient's proof was wrong: on disk when this returns. `true` when it is the one after which the exam is
    /// locked.
    pub(super) async fn failed(&self, address: IpAddr, study: &StudyUid) -> bool {
        self.keep_refusal(address, PROOF, study, &REFUSED_PROOFS)
            .await
    }

    /// Whether one more one-time code may be sent for this study; counts it.
    pub(super) fn may_send(&self, study: &StudyUid, now: UnixTime) -> bool {
        self.codes.take(study, &CODES_OF_STUDY, now)
    }

    fn of_kind(&self, kind: u8) -> &Counters<StudyUid> {
        if kind == PROOF {
            &self.proofs
        } else {
            &self.studies
        }
    }

    /// Whether there is room still with what other nodes counted. What cannot be known has no room.
    async fn has_room_elsewhere(
        &self,
        address: IpAddr,
        kind: u8,
        study: &StudyUid,
        now: UnixTime,
    ) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        let of_study = if kind == PROOF {
            &REFUSED_PROOFS
        } else {
            &REFUSED_OF_STUDY
        };
        let own = |attempts: Option<Attempts>| attempts.map_or(0, |attempts| attempts.count);
        let asked = [
            (
                of_address(address),
                own(self.refused.get(&address)),
                &REFUSED_OF_ADDRESS,
            ),
            (
                name(kind, study.as_str().as_bytes()),
                own(self.of_kind(kind).get(study)),
                of_study,
            ),
        ];
        let store = Arc::clone(&self.store);
        let work = move || {
            for (name, own, limit) in asked {
                let since = now.as_secs().saturating_sub(limit.window.as_secs());
                let elsewhere = store.counted_elsewhere(&name, since)?;
                // The own attempt is among the own ones.
                if own.saturating_add(elsewhere) > limit.most {
                    return Ok(false);
                }
            }
            Ok::<bool, StoreError>(true)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(room)) => room,
            Ok(Err(error)) => {
                tracing::error!(
                    "what other nodes refused cannot be read, nothing is opened: {error}"
                );
                false
            }
            Err(_) => false,
        }
    }

    /// An attempt that [`may_open`](Self::may_open) counted was right.
    pub(super) fn succeeded(&self, address: IpAddr, study: &StudyUid) {
        self.refused.give_back(&network(address));
        self.studies.give_back(study);
    }

    /// An attempt was refused: on disk when this returns. `true` when it is the one after which the study is locked.
    pub(super) async fn refused(&self, address: IpAddr, study: &StudyUid) -> bool {
        self.keep_refusal(address, STUDY, study, &REFUSED_OF_STUDY)
            .await
    }

    async fn keep_refusal(
        &self,
        address: IpAddr,
        kind: u8,
        study: &StudyUid,
        limit: &Limit,
    ) -> bool {
        let address = network(address);
        let locked = self.of_kind(kind).tell_lock(study, limit);
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let records = [
            (of_address(address), self.refused.get(&address)),
            (
                name(kind, study.as_str().as_bytes()),
                self.of_kind(kind).get(study),
            ),
        ];
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
            tracing::error!("a refused link is counted in memory only: {error}");
        }
        locked
    }
}

fn of_address(address: IpAddr) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    name(ADDRESS, &octets)
}

fn name(kind: u8, about: &[u8]) -> Vec<u8> {
    [&[kind], about].concat()
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
    fn is_over(&self, limit: &Limit, now: UnixTime) -> bool {
        now.since(UnixTime::from_secs(self.attempts.since)) >= limit.window
    }
}

struct Counters<K>(Mutex<HashMap<K, Counter>>);

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Counters<K> {
    /// Counts one more, unless there is no room.
    fn take(&self, key: &K, limit: &Limit, now: UnixTime) -> bool {
        let mut counters = self.0.lock();
        if counters.len() >= MOST {
            counters.retain(|_, counter| !counter.is_over(limit, now));
            if counters.len() >= MOST {
                counters.clear();
            }
        }
        let fresh = || Counter {
            attempts: Attempts {
                since: now.as_secs(),
                count: 0,
            },
            told: false,
        };
        let counter = counters.entry(key.clone()).or_insert_with(fresh);
        if counter.is_over(limit, now) {
            *counter = fresh();
        }
        let has_room = counter.attempts.count < limit.most;
        counter.attempts.count += u32::from(has_room);
        has_room
    }

    fn give_back(&self, key: &K) {
        if let Some(counter) = self.0.lock().get_mut(key) {
            counter.attempts.count = counter.attempts.count.saturating_sub(1);
        }
    }

    fn has_room(&self, key: &K, limit: &Limit, now: UnixTime) -> bool {
        let counters = self.0.lock();
        let counter = counters.get(key);
        counter.is_none_or(|counter| {
            counter.is_over(limit, now) || counter.attempts.count < limit.most
        })
    }

    /// Whether the last of the attempts was used up; told once.
    fn tell_lock(&self, key: &K, limit: &Limit) -> bool {
        let mut counters = self.0.lock();
        let counter = counters.get_mut(key);
        counter.is_some_and(|counter| {
            let full = counter.attempts.count >= limit.most;
            full && !std::mem::replace(&mut counter.told, true)
        })
    }

    fn get(&self, key: &K) -> Option<Attempts> {
        self.0.lock().get(key).map(|counter| counter.attempts)
    }

    fn restore(&self, key: K, attempts: Attempts) {
        let counter = Counter {
            attempts,
            told: false,
        };
        self.0.lock().insert(key, counter);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::SledStore;

    const NOW: u64 = 1_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(NOW + seconds)
    }

    fn study(number: u32) -> StudyUid {
        StudyUid::parse(&format!("1.{number}")).unwrap()
    }

    fn throttle(dir: &std::path::Path, now: UnixTime) -> Throttle {
        let store = SledStore::open(dir).unwrap().attempts().unwrap();
        Throttle::open(Arc::new(store), now).unwrap()
    }

    fn new() -> (tempfile::TempDir, Throttle) {
        let dir = tempfile::tempdir().unwrap();
        let throttle = throttle(dir.path(), at(0));
        (dir, throttle)
    }

    #[tokio::test]
    async fn an_address_that_guesses_is_locked_out_and_the_others_are_not() {
        let (_dir, throttle) = new();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for number in 0..REFUSED_OF_ADDRESS.most {
            assert!(throttle.may_follow(one, at(0)));
            assert!(throttle.may_open(one, &study(number), at(0)).await);
            assert!(!throttle.refused(one, &study(number)).await);
        }
        assert!(!throttle.may_follow(one, at(1)));
        assert!(!throttle.may_open(one, &study(0), at(1)).await);
        assert!(throttle.may_follow(other, at(1)));
        assert!(throttle.may_follow(one, at(3600)));
    }

    #[tokio::test]
    async fn a_study_that_is_guessed_at_is_locked_whoever_asks_also_after_a_restart() {
        let (dir, before) = new();
        let mut locked = 0;
        for address in 0..REFUSED_OF_STUDY.most {
            let address = IpAddr::from([198, 51, 100, address as u8]);
            assert!(before.may_open(address, &study(2), at(0)).await);
            locked += u32::from(before.refused(address, &study(2)).await);
        }
        assert_eq!(locked, 1, "the lock is told once");
        drop(before);
        let after = throttle(dir.path(), at(60));
        let other = "203.0.113.1".parse().unwrap();
        assert!(!after.may_open(other, &study(2), at(61)).await);
        assert!(after.may_open(other, &study(3), at(61)).await);
        assert!(after.may_open(other, &study(2), at(3600)).await);
        drop(after);
        let later = throttle(dir.path(), at(24 * 3600 + 1));
        assert!(later.store.all(MOST).unwrap().is_empty());
    }

    #[tokio::test]
    async fn attempts_at_once_get_no_further_than_one_after_the_other() {
        let (_dir, throttle) = new();
        let mut looked_at = 0;
        for n in 0..100 {
            let address = IpAddr::from([198, 51, 100, n]);
            looked_at += u32::from(throttle.may_open(address, &study(1), at(0)).await);
        }
        assert_eq!(looked_at, REFUSED_OF_STUDY.most);
    }

    #[tokio::test]
    async fn whoever_has_the_right_link_is_never_locked_out() {
        let (_dir, throttle) = new();
        let address = "192.0.2.1".parse().unwrap();
        for _ in 0..10 * REFUSED_OF_STUDY.most {
            assert!(throttle.may_open(address, &study(1), at(0)).await);
            throttle.succeeded(address, &study(1));
        }
    }

    #[tokio::test]
    async fn a_network_of_ipv6_counts_as_one() {
        let (dir, before) = new();
        for n in 0..REFUSED_OF_ADDRESS.most {
            let address: IpAddr = format!("2001:db8::{n:x}").parse().unwrap();
            assert!(before.may_open(address, &study(n), at(0)).await);
            before.refused(address, &study(n)).await;
        }
        drop(before);
        let after = throttle(dir.path(), at(0));
        assert!(!after.may_follow("2001:db8::ffff".parse().unwrap(), at(0)));
        assert!(after.may_follow("2001:db8:0:1::1".parse().unwrap(), at(0)));
    }

    #[tokio::test]
    async fn a_patient_who_guesses_is_locked_out_for_a_day_from_everywhere_also_after_a_restart() {
        let (dir, before) = new();
        let mut locked = 0;
        for try_ in 0..REFUSED_PROOFS.most {
            let address = IpAddr::from([198, 51, 100, try_ as u8]);
            assert!(before.may_try(address, &study(2), at(0)).await);
            locked += u32::from(before.failed(address, &study(2)).await);
        }
        assert_eq!(locked, 1, "the lock is told once");
        drop(before);
        let after = throttle(dir.path(), at(60));
        let other = "203.0.113.1".parse().unwrap();
        assert!(!after.may_try(other, &study(2), at(61)).await);
        assert!(after.may_try(other, &study(3), at(61)).await);
        // Professionals come in all the same.
        assert!(after.may_open(other, &study(2), at(61)).await);
        assert!(after.may_try(other, &study(2), at(24 * 3600)).await);
    }

    #[test]
    fn a_mailbox_gets_few_codes_in_an_hour() {
        let (_dir, throttle) = new();
        let sent = (0..50)
            .filter(|_| throttle.may_send(&study(1), at(0)))
            .count();
        assert_eq!(sent as u32, CODES_OF_STUDY.most);
        assert!(throttle.may_send(&study(1), at(3600)));
    }

    #[tokio::test]
    async fn what_was_refused_on_one_node_counts_on_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let node = |name: &str| {
            let store = crate::store::SharedAttempts::open(dir.path(), name).unwrap();
            Throttle::open(Arc::new(store), at(0)).unwrap()
        };
        let (one, two) = (node("one"), node("two"));
        let address = |n: u32| IpAddr::from([198, 51, 100, n as u8]);
        for n in 0..REFUSED_PROOFS.most {
            let node = if n % 2 == 0 { &one } else { &two };
            assert!(node.may_try(address(n), &study(1), at(0)).await, "{n}");
            node.failed(address(n), &study(1)).await;
        }
        for node in [&one, &two] {
            assert!(!node.may_try(address(99), &study(1), at(1)).await);
            assert!(node.may_try(address(99), &study(2), at(1)).await);
        }
        // A node that starts again, and one that is new.
        for name in ["one", "three"] {
            assert!(
                !node(name).may_try(address(98), &study(1), at(2)).await,
                "{name}"
            );
        }
    }
}
