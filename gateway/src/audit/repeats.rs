//! Events that anybody can cause, any number of times: each kind from each address is recorded when
//! it first comes, and what follows within a minute is one record that says how often it came.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Audit, Event, Kind, Text};

/// Time over which events are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses told apart within it; events of the others are counted together.
const MAX_ADDRESSES: usize = 64;

/// A trail for such events. It writes at most two records a minute for each of 64 addresses, and as
/// many for the others together, for each reason that the program has a word for: no one fills the
/// disk through it. A crash loses the count of the current minute, never that there was something to
/// count.
#[derive(Debug)]
pub struct Repeats {
    audit: Audit,
    runtime: Handle,
    on_the_way: TaskTracker,
    seen: Mutex<HashMap<Key, Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `None`: one of those beyond [`MAX_ADDRESSES`].
    address: Option<IpAddr>,
    kind: Kind,
    reason: Option<Text>,
}

/// What came after the event that is on record.
#[derive(Debug, Default)]
struct Seen {
    times: u64,
    last: Option<Event>,
}

impl Repeats {
    /// Over this trail. To be made on the runtime of the service.
    #[must_use]
    pub fn new(audit: Audit) -> Self {
        Self {
            audit,
            runtime: Handle::current(),
            on_the_way: TaskTracker::new(),
            seen: Mutex::default(),
        }
    }

    /// Records an event that is the first of its kind, address and reason within a minute, and counts
    /// the others. It does not wait for the disk.
    pub fn tell(&self, event: Event) {
        let Some(event) = self.first(event) else {
            return;
        };
        let audit = self.audit.clone();
        self.on_the_way
            .spawn_on(record(audit, event), &self.runtime);
    }

    /// An event of this kind, now.
    #[must_use]
    pub fn event(&self, kind: Kind) -> Event {
        self.audit.event(kind)
    }

    /// Records what was counted, every minute until `stop`, and once more then.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut windows = tokio::time::interval(WINDOW);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = windows.tick() => self.settle().await,
            }
        }
        self.settle().await;
        self.on_the_way.close();
        self.on_the_way.wait().await;
    }

    /// Ends the current minute: what was counted in it is on disk when this returns.
    pub async fn settle(&self) {
        let seen = std::mem::take(&mut *self.seen.lock());
        for Seen { times, last } in seen.into_values() {
            let Some(mut event) = last else { continue };
            event.outcome.times = Some(times);
            record(self.audit.clone(), event).await;
        }
    }

    /// The event, when it is to be recorded itself.
    fn first(&self, mut event: Event) -> Option<Event> {
        let mut seen = self.seen.lock();
        let mut key = Key {
            address: event.actor.address,
            kind: event.kind,
            reason: event.outcome.reason.clone(),
        };
        let is_known = |one: &Key| one.address.is_some() && one.address == key.address;
        if !seen.keys().any(is_known) && addresses(&seen) >= MAX_ADDRESSES {
            key.address = None;
        }
        let shared = key.address.is_none();
        let Some(counted) = seen.get_mut(&key) else {
            seen.insert(key, Seen::default());
            return Some(event);
        };
        counted.times = counted.times.saturating_add(1);
        if shared {
            // They come from more than one.
            event.actor = super::Actor::default();
        }
        let of_another = |last: &Event| last.actor.peer != event.actor.peer;
        if counted.last.as_ref().is_some_and(of_another) {
            // One record stands for them all: it names nobody.
            event.actor.peer = None;
        }
        counted.last = Some(event);
        None
    }
}

fn addresses(seen: &HashMap<Key, Seen>) -> usize {
    let addresses: std::collections::HashSet<_> =
        seen.keys().filter_map(|key| key.address).collect();
    addresses.len()
}

async fn record(audit: Audit, event: Event) {
    if let Err(error) = audit.record(event).await {
        metrics::counter!("drimbox_peer_refusals_unrecorded_total").increment(1);
        tracing::error!(%error, "a refusal is not in the audit trail");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::super::tests::{Hands, settings};
    use super::super::{Actor, Chain, Outcome};
    use super::*;

    fn refusal(repeats: &Repeats, address: u32, reason: &str) -> Event {
        let address = Ipv4Addr::from_bits(address).into();
        let outcome = Outcome {
            reason: Some(reason.into()),
            ..Outcome::of(super::super::Ending::Refused)
        };
        repeats
            .event(Kind::ConnectionRefused)
            .by(Actor {
                address: Some(address),
                ..Actor::default()
            })
            .ending(outcome)
    }

    /// Address, reason and number of every record.
    fn recorded(dir: &Path) -> Vec<(Option<IpAddr>, String, Option<u64>)> {
        let records = Chain::open(dir, None).unwrap();
        let events = records.filter_map(|record| record.unwrap().event());
        events
            .map(|event| {
                let reason = event.outcome.reason.unwrap().to_string();
                (event.actor.address, reason, event.outcome.times)
            })
            .collect()
    }

    #[tokio::test]
    async fn a_scanner_leaves_two_records_a_minute_however_often_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
        let repeats = Repeats::new(audit.clone());
        for minute in 1..=2 {
            for _ in 0..10_000 {
                repeats.tell(refusal(&repeats, 7, "unknown_name"));
            }
            repeats.tell(refusal(&repeats, 7, "revoked"));
            repeats.settle().await;
            assert!(repeats.seen.lock().is_empty(), "minute {minute}");
        }
        end(&repeats).await;
        audit.close().await;
        let scanner = Some(Ipv4Addr::from_bits(7).into());
        let mut records = recorded(dir.path());
        records.sort();
        let told = |reason: &str, times| (scanner, reason.to_owned(), times);
        let (alone, again) = (
            told("unknown_name", None),
            told("unknown_name", Some(9_999)),
        );
        let revoked = told("revoked", None);
        assert_eq!(
            records,
            [&revoked, &revoked, &alone, &alone, &again, &again].map(Clone::clone)
        );
    }

    #[tokio::test]
    async fn one_record_for_several_peers_of_an_address_names_none_of_them() {
        let peer = |name: &str| {
            Some(super::super::Peer {
                subject: Some(name.into()),
                fingerprint: None,
                host: None,
            })
        };
        for (names, counted) in [(["a", "b", "b"], peer("b")), (["a", "a", "b"], None)] {
            let dir = tempfile::tempdir().unwrap();
            let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
            let repeats = Repeats::new(audit.clone());
            for name in names {
                let mut event = refusal(&repeats, 7, "host_field");
                event.actor.peer = peer(name);
                repeats.tell(event);
            }
            end(&repeats).await;
            audit.close().await;
            let records = Chain::open(dir.path(), None).unwrap();
            let mut events = records.filter_map(|record| record.unwrap().event());
            let more = events.find(|event| event.outcome.times.is_some()).unwrap();
            assert_eq!((more.outcome.times, more.actor.peer), (Some(2), counted));
        }
    }

    #[tokio::test]
    async fn many_addresses_share_a_place_and_their_number_is_still_told() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
        let repeats = Repeats::new(audit.clone());
        for address in 0..5_000 {
            repeats.tell(refusal(&repeats, address, "protocol"));
        }
        end(&repeats).await;
        audit.close().await;
        let records = recorded(dir.path());
        // Each of the first, the first of the others, and how many more there were.
        assert_eq!(records.len(), MAX_ADDRESSES + 2);
        let together = (None, "protocol".to_owned(), Some(5_000 - 64 - 1));
        assert!(records.contains(&together), "{records:?}");
    }

    #[tokio::test]
    async fn what_was_counted_is_on_record_when_the_service_stops() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
        let repeats = Arc::new(Repeats::new(audit.clone()));
        let stop = CancellationToken::new();
        let kept = tokio::spawn(Arc::clone(&repeats).keep(stop.clone()));
        for _ in 0..3 {
            repeats.tell(refusal(&repeats, 7, "misdirected"));
        }
        stop.cancel();
        kept.await.unwrap();
        audit.close().await;
        let times: u64 = recorded(dir.path())
            .iter()
            .map(|(_, _, times)| times.unwrap_or(1))
            .sum();
        assert_eq!(times, 3);
    }

    /// What was told is on disk after it.
    async fn end(repeats: &Repeats) {
        repeats.settle().await;
        repeats.on_the_way.close();
        repeats.on_the_way.wait().await;
    }
}
