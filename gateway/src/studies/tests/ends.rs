//! However a retrieval ends or waits, its readers are not left waiting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::super::flight::{Group, SeriesFlight, held_entry};
use super::super::flowing::Opening;
use super::super::{MEMORY_BUDGET, StudiesError};
use super::fake::{
    Bench, FakePacs, all, contents, instance_uid, series, series_uid, study, study_uid,
};
use super::{NO_ROOM, known};
use crate::archive::{ArchiveError, SinkError};
use crate::cache::Object;
use crate::dicom::uid::{SopClassUid, TransferSyntaxUid};

#[tokio::test]
async fn a_retrieval_that_panics_ends_for_its_readers_and_is_begun_anew_for_the_next() {
    let pacs = FakePacs::with(&[("1.1", 3)]);
    *pacs.panics.lock() = true;
    let bench = Bench::over(&pacs);
    let one = bench.studies.open(&series("1.1")).await.unwrap();
    let two = bench.studies.open(&series("1.1")).await.unwrap();
    pacs.send.add_permits(6);
    let (one, two) = tokio::join!(all(one), all(two));
    assert_eq!(one.err(), Some(StudiesError::Lost));
    assert_eq!(two.err(), Some(StudiesError::Lost));
    bench.settle().await;
    assert_eq!(bench.cache.size(), (0, 0));
    let again = bench.studies.open(&series("1.1")).await.unwrap();
    assert_eq!(all(again).await.unwrap().len(), 3);
    assert_eq!(pacs.retrievals(), 2);
}

#[tokio::test(start_paused = true)]
async fn readers_of_two_flows_in_another_order_do_not_wait_for_each_other() {
    let pacs = FakePacs::with(&[("1.1", 1), ("1.2", 1)]);
    let bench = Bench::with(&pacs, NO_ROOM);
    // The second series is on its way when the study is asked for: it comes first for this reader.
    let alone = bench.studies.open(&series("1.2")).await.unwrap();
    let one = bench.studies.open(&study()).await.unwrap();
    let two = bench.studies.open(&study()).await.unwrap();
    drop(alone);
    let (first, second) = (flight(&bench, "1.1"), flight(&bench, "1.2"));
    assert!(
        !Arc::ptr_eq(&first.1, &second.1),
        "one retrieval: the story proves nothing"
    );
    // Both as far as they come before anybody reads.
    let sending = tokio::spawn(async move {
        tokio::try_join!(flow(&first.1, &first.0), flow(&second.1, &second.0))?;
        first.1.end(Ok(()));
        second.1.end(Ok(()));
        Ok::<_, SinkError>(())
    });
    tokio::task::yield_now().await;
    let (one, two) = tokio::join!(contents(one), contents(two));
    assert_eq!((one.unwrap().len(), two.unwrap().len()), (2, 2));
    sending.await.unwrap().unwrap();
}

fn flight(bench: &Bench, uid: &str) -> (Arc<SeriesFlight>, Arc<Group>) {
    let flights = bench.studies.registry.flights.lock();
    let mut all = flights.by_key.iter();
    let found = all.find(|(key, _)| key.series == series_uid(uid)).unwrap();
    found.1.clone()
}

/// Lets an instance larger than the budgets flow through.
async fn flow(group: &Group, series: &SeriesFlight) -> Result<(), SinkError> {
    let object = Object {
        instance: instance_uid(series.key.series.as_str(), 0),
        sop_class: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        transfer_syntax: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
        meta_length: 0,
        head_length: 0,
        tail_length: 0,
    };
    let opening = Opening {
        entry: held_entry(object, 0),
        stored: None,
    };
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let mut flow = group.flow(series, &opening, &full).await?;
    flow.send(Bytes::from(vec![7; MEMORY_BUDGET])).await?;
    flow.finish();
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_study_of_more_series_than_the_archive_sends_at_once_is_whole() {
    let uids = ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6"];
    let pacs = FakePacs::with(&uids.map(|uid| (uid, 2)));
    pacs.places.store(2, Ordering::SeqCst);
    pacs.send.add_permits(2 * uids.len());
    let bench = Bench::over(&pacs);
    // What is cached already is read first, and each other series is retrieved on its own.
    all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    bench.settle().await;
    let reader = bench.studies.open(&study()).await.unwrap();
    assert_eq!(all(reader).await.unwrap().len(), 2 * uids.len());
    assert_eq!(pacs.retrievals(), uids.len());
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_stays_busy_is_not_waited_for_without_end() {
    let pacs = FakePacs::with(&[("1.1", 2), ("1.2", 2)]);
    pacs.send.add_permits(2);
    let bench = Bench::over(&pacs);
    all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    bench.settle().await;
    pacs.places.store(0, Ordering::SeqCst);
    let reader = bench.studies.open(&study()).await.unwrap();
    let busy = all(reader).await.err();
    assert!(
        matches!(busy, Some(StudiesError::Archive(ArchiveError::Busy { .. }))),
        "{busy:?}"
    );
}

#[tokio::test]
async fn who_has_nothing_to_read_yet_is_told_that_the_archive_is_busy() {
    let pacs = FakePacs::with(&[("1.1", 2)]);
    pacs.places.store(0, Ordering::SeqCst);
    let bench = Bench::over(&pacs);
    let reader = bench.studies.open(&series("1.1")).await.unwrap();
    let busy = all(reader).await.err();
    assert!(
        matches!(busy, Some(StudiesError::Archive(ArchiveError::Busy { .. }))),
        "{busy:?}"
    );
}

#[tokio::test]
async fn a_study_that_was_removed_is_gone_and_what_it_never_held_is_not_found() {
    let pacs = FakePacs::with(&[("1.1", 1)]);
    let bench = known(&pacs).await;
    pacs.series.lock().clear();
    // Asked for as it was known, with the archive asked meanwhile; and asked about first.
    let reader = bench.studies.open(&study()).await.unwrap();
    assert_eq!(all(reader).await.err(), Some(StudiesError::Gone));
    bench.settle().await;
    let error = async |scope| match bench.studies.open(&scope).await {
        Ok(reader) => all(reader).await.err(),
        Err(error) => Some(error),
    };
    assert_eq!(error(series("1.1")).await, Some(StudiesError::Gone));
    assert_eq!(error(series("9.9")).await, Some(StudiesError::NotFound));
    let listed = bench.studies.listing(&study_uid()).await;
    assert_eq!(listed.err(), Some(StudiesError::Gone));
}
