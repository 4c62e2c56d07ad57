//! The trail as a whole: durability, faults of the disk, tampering.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod crash;
pub(crate) mod disk;
mod tampering;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;

/// A moment that stands still until it is moved.
#[derive(Clone)]
pub(super) struct Hands(Arc<Mutex<OffsetDateTime>>);

impl Hands {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(datetime!(2026-11-21 09:30 UTC))))
    }

    pub(super) fn clock(&self) -> Clock {
        let moment = Arc::clone(&self.0);
        Arc::new(move || *moment.lock())
    }

    pub(super) fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

pub(super) fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        segment_bytes: 1 << 20,
        retention: None,
        targets: Vec::new(),
    }
}

pub(super) async fn record(audit: &Audit, study: &str) -> Sequence {
    let event = audit.event(Kind::RequestStarted).on(Object {
        study: Some(study.into()),
        ..Object::default()
    });
    audit.record(event).await.unwrap()
}

/// A trail with so many records in segments of about three.
pub(super) async fn trail(records: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings {
        segment_bytes: 900,
        ..settings(dir.path())
    };
    let audit = Audit::open(small, Hands::new().clock()).unwrap();
    for number in 1..=records {
        assert_eq!(record(&audit, &format!("1.2.{number}")).await.0, number);
    }
    audit.close().await;
    dir
}

fn studies(dir: &Path) -> Vec<String> {
    let chain = Chain::open(dir, None).unwrap();
    let events = chain.filter_map(|record| record.unwrap().event());
    let studies = events.filter_map(|event| event.object.study);
    studies.map(|study| study.to_string()).collect()
}

fn is_whole(dir: &Path) -> Report {
    let report = verify(dir, None).unwrap();
    assert_eq!(report.faults, []);
    report
}

#[tokio::test]
async fn what_is_recorded_is_there_in_order_after_a_restart() {
    let dir = trail(10).await;
    let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    assert_eq!(record(&audit, "1.2.11").await, Sequence(11));
    audit.close().await;
    let expected: Vec<_> = (1..=11).map(|number| format!("1.2.{number}")).collect();
    assert_eq!(studies(dir.path()), expected);
    let report = is_whole(dir.path());
    assert!(report.segments > 2, "{report:?}");
    assert_eq!(report.records, 11);
    assert_eq!(report.last, Some(audit.anchor()));
}

#[tokio::test]
async fn a_trail_is_read_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    for number in 1..=5 {
        record(&audit, "1.2").await;
        assert_eq!(is_whole(dir.path()).records, number);
    }
}

#[tokio::test]
async fn a_second_process_does_not_get_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    let second = Audit::open(settings(dir.path()), Hands::new().clock());
    assert!(matches!(second, Err(AuditError::Locked)));
    first.close().await;
    Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
}

#[tokio::test]
async fn a_closed_trail_refuses_events() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    audit.close().await;
    let refused = audit.record(audit.event(Kind::Login)).await;
    assert!(matches!(refused, Err(AuditError::Closed)));
}

#[tokio::test]
async fn another_day_begins_another_segment() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let audit = Audit::open(settings(dir.path()), hands.clock()).unwrap();
    record(&audit, "1.2").await;
    record(&audit, "1.2").await;
    hands.advance(Duration::from_secs(86_400));
    record(&audit, "1.2").await;
    let firsts: Vec<_> = files::segments(dir.path())
        .unwrap()
        .iter()
        .map(|segment| (segment.first.0, segment.day.day()))
        .collect();
    assert_eq!(firsts, [(1, 21), (3, 22)]);
    is_whole(dir.path());
}

#[tokio::test]
async fn segments_older_than_the_retention_go_and_the_rest_stays_provable() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let day = Duration::from_secs(86_400);
    let kept = Settings {
        retention: Some(3 * day),
        ..settings(dir.path())
    };
    let audit = Audit::open(kept, hands.clock()).unwrap();
    for number in 0..10 {
        record(&audit, &format!("1.{number}")).await;
        hands.advance(day);
    }
    audit.close().await;
    let left = studies(dir.path());
    assert_eq!(left.first().map(String::as_str), Some("1.5"), "{left:?}");
    let report = is_whole(dir.path());
    assert!(report.first.unwrap().sequence > Sequence(1));

    // The same, but removed by hand.
    let oldest = files::segments(dir.path()).unwrap().remove(0);
    std::fs::remove_file(oldest.path).unwrap();
    let faults = verify(dir.path(), None).unwrap().faults;
    assert!(matches!(faults[..], [Fault::Head { .. }]), "{faults:?}");
}

#[tokio::test]
async fn what_no_server_has_yet_outlives_its_retention() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::new();
    let day = Duration::from_secs(86_400);
    let kept = Settings {
        retention: Some(day),
        ..settings(dir.path())
    };
    let audit = Audit::open(kept, hands.clock()).unwrap();
    audit.hold_after(Sequence(0));
    for _ in 0..5 {
        record(&audit, "1.2").await;
        hands.advance(2 * day);
    }
    assert_eq!(is_whole(dir.path()).first.unwrap().sequence, Sequence(1));
    audit.hold_after(Sequence(2));
    record(&audit, "1.2").await;
    assert_eq!(is_whole(dir.path()).first.unwrap().sequence, Sequence(3));
}
