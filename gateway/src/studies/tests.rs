#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod ends;
mod fake;

use std::sync::atomic::Ordering;

use super::bytes::ItemBytes;
use super::{Item, StudiesError};
use crate::archive::{ArchiveError, Scope, SinkError};
use crate::cache::{Bounds, WRITING};
use crate::dicom::uid::StudyUid;
use fake::{Bench, FakePacs, all, contents, instance_uid, series, series_uid, study, study_uid};

const NO_ROOM: Bounds = Bounds {
    max_bytes: 1 << 30,
    min_free_bytes: u64::MAX,
};

#[tokio::test]
async fn a_series_is_retrieved_once_however_many_ask() {
    let pacs = FakePacs::with(&[("1.1", 4)]);
    let bench = Bench::over(&pacs);
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(bench.studies.open(&series("1.1")).await.unwrap());
    }
    pacs.send.add_permits(4);
    for reader in readers {
        assert_eq!(all(reader).await.unwrap().len(), 4);
    }
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn the_first_instance_is_read_while_the_rest_has_not_arrived() {
    let pacs = FakePacs::with(&[("1.1", 2)]);
    let bench = Bench::over(&pacs);
    let mut reader = bench.studies.open(&series("1.1")).await.unwrap();
    pacs.send.add_permits(1);
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
    pacs.send.add_permits(1);
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_study_is_one_retrieval_and_its_second_reading_none() {
    let pacs = FakePacs::with(&[("1.1", 3), ("1.2", 2)]);
    pacs.send.add_permits(5);
    let bench = Bench::over(&pacs);
    let first = all(bench.studies.open(&study()).await.unwrap())
        .await
        .unwrap();
    bench.settle().await;
    let second = all(bench.studies.open(&study()).await.unwrap())
        .await
        .unwrap();
    assert_eq!((first.len(), second.len()), (5, 5));
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn a_reader_that_waits_does_not_hold_another_back() {
    let pacs = FakePacs::with(&[("1.1", 3)]);
    pacs.send.add_permits(3);
    let bench = Bench::over(&pacs);
    let slow = bench.studies.open(&series("1.1")).await.unwrap();
    let fast = bench.studies.open(&series("1.1")).await.unwrap();
    assert_eq!(all(fast).await.unwrap().len(), 3);
    assert_eq!(all(slow).await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_bytes_read_are_those_that_came_behind_a_file_header() {
    let pacs = FakePacs::with(&[("1.1", 2)]);
    pacs.send.add_permits(2);
    let bench = Bench::over(&pacs);
    let items = all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    let mut bytes = ItemBytes::new(&items);
    for (at, item) in items.iter().enumerate() {
        let mut whole = Vec::new();
        while (whole.len() as u64) < item.entry().length {
            let left = item.entry().length - whole.len() as u64;
            whole.extend_from_slice(&bytes.next(left).await.unwrap());
        }
        let meta = usize::try_from(item.entry().meta_length).unwrap();
        assert_eq!(&whole[128..132], b"DICM");
        assert_eq!(whole[meta..], pacs.object("1.1", at));
    }
}

#[tokio::test]
async fn a_retrieval_nobody_waits_for_is_cancelled() {
    let pacs = FakePacs::with(&[("1.1", 10)]);
    pacs.send.add_permits(1);
    let bench = Bench::over(&pacs);
    let mut reader = bench.studies.open(&series("1.1")).await.unwrap();
    reader.next().await.unwrap();
    drop(reader);
    pacs.ended().await;
    assert_eq!(pacs.cancelled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_retrieval_close_to_its_end_goes_on_into_the_cache() {
    let pacs = FakePacs::with(&[("1.1", 4)]);
    pacs.send.add_permits(3);
    let bench = Bench::over(&pacs);
    let mut reader = bench.studies.open(&series("1.1")).await.unwrap();
    let mut seen = 0;
    while seen < 3 {
        seen += reader.next().await.unwrap().unwrap().len();
    }
    drop(reader);
    pacs.send.add_permits(1);
    bench.settle().await;
    assert_eq!(pacs.cancelled.load(Ordering::SeqCst), 0);
    assert_eq!(
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap()
            .len(),
        4
    );
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn one_reader_that_leaves_does_not_end_the_retrieval_of_another() {
    let pacs = FakePacs::with(&[("1.1", 4)]);
    let bench = Bench::over(&pacs);
    let leaving = bench.studies.open(&series("1.1")).await.unwrap();
    let staying = bench.studies.open(&series("1.1")).await.unwrap();
    drop(leaving);
    pacs.send.add_permits(4);
    assert_eq!(all(staying).await.unwrap().len(), 4);
}

#[tokio::test]
async fn fewer_instances_than_announced_are_an_error_and_are_not_kept() {
    let pacs = FakePacs::with(&[("1.1", 3)]);
    pacs.withheld.store(1, Ordering::SeqCst);
    pacs.send.add_permits(3);
    let bench = Bench::over(&pacs);
    let outcome = all(bench.studies.open(&series("1.1")).await.unwrap()).await;
    assert!(matches!(
        outcome,
        Err(StudiesError::Archive(ArchiveError::Incomplete {
            missing: 1,
            expected: 3
        }))
    ));
    bench.settle().await;
    assert_eq!(bench.cache.size().0, 0);
}

#[tokio::test]
async fn an_instance_of_another_study_is_refused() {
    let pacs = FakePacs::with(&[("1.1", 1)]);
    *pacs.intruder.lock() = true;
    pacs.send.add_permits(1);
    let bench = Bench::over(&pacs);
    let items = all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(*pacs.refused.lock(), [SinkError::NotAskedFor]);
}

#[tokio::test]
async fn without_room_on_disk_the_images_pass_through_whole() {
    let pacs = FakePacs::with(&[("1.1", 5)]);
    pacs.send.add_permits(5);
    let bounds = Bounds {
        max_bytes: 700,
        min_free_bytes: 0,
    };
    let bench = Bench::with(&pacs, bounds);
    let first = bench.studies.open(&series("1.1")).await.unwrap();
    let items = all(first).await.unwrap();
    assert_eq!(items.len(), 5);
    assert!(matches!(items.last(), Some(Item::Held(_))));
    // Who reads slowly keeps nobody else from the disk.
    assert_eq!(bench.cache.writing().available_permits(), WRITING);
    drop(items);
    bench.settle().await;
    assert!(bench.cache.is_degraded());
    assert_eq!(bench.cache.size().0, 0);
    // And again, since nothing was kept.
    pacs.send.add_permits(5);
    assert_eq!(
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap()
            .len(),
        5
    );
    assert_eq!(pacs.retrievals(), 2);
}

#[tokio::test]
async fn a_file_cut_after_the_look_at_its_bundle_is_fetched_again_by_the_same_request() {
    let pacs = FakePacs::with(&[("1.1", 3)]);
    pacs.send.add_permits(7);
    let bench = Bench::over(&pacs);
    let one = Scope::Instance(study_uid(), series_uid("1.1"), instance_uid("1.1", 1));
    all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    for (scope, count, retrievals) in [(series("1.1"), 3, 2), (one, 1, 3)] {
        bench.settle().await;
        // The file is open from here on.
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap();
        bench.cut_the_open_pack();
        let reader = bench.studies.open(&scope).await.unwrap();
        assert_eq!(contents(reader).await.unwrap().len(), count);
        assert_eq!(pacs.retrievals(), retrievals);
    }
}

#[tokio::test]
async fn without_room_on_disk_an_instance_larger_than_memory_flows_to_every_reader() {
    // Never any room, none behind the first bytes, and none in the middle of an instance.
    for (max_bytes, min_free_bytes) in [(1 << 30, u64::MAX), (700, 0), (7 << 20, 0)] {
        let pacs = FakePacs::with(&[("1.1", 2)]);
        pacs.pixels.store(30 << 20, Ordering::SeqCst);
        let bounds = Bounds {
            max_bytes,
            min_free_bytes,
        };
        let bench = Bench::with(&pacs, bounds);
        let one = bench.studies.open(&series("1.1")).await.unwrap();
        let two = bench.studies.open(&series("1.1")).await.unwrap();
        // Who comes when it already flows starts a retrieval of its own.
        pacs.send.add_permits(2);
        let (one, two) = tokio::join!(contents(one), contents(two));
        for contents in [one.unwrap(), two.unwrap()] {
            assert_eq!(contents.len(), 2);
            for (at, content) in contents.iter().enumerate() {
                assert!(content.ends_with(&pacs.object("1.1", at)), "instance {at}");
            }
        }
        bench.settle().await;
        assert_eq!(pacs.retrievals(), 1);
        assert!(bench.cache.is_degraded());
        assert_eq!(bench.cache.size(), (0, 0));
    }
}

#[tokio::test]
async fn a_reader_that_wants_no_pixels_does_not_hold_a_flowing_instance_back() {
    let pacs = FakePacs::with(&[("1.1", 2)]);
    pacs.pixels.store(30 << 20, Ordering::SeqCst);
    pacs.send.add_permits(2);
    let bench = Bench::with(&pacs, NO_ROOM);
    let mut reader = bench.studies.open(&series("1.1")).await.unwrap();
    let mut seen = 0;
    while let Some(items) = reader.next().await.unwrap() {
        assert!(matches!(items.first(), Some(Item::Flowing(_))));
        seen += items.len();
    }
    assert_eq!(seen, 2);
}

#[tokio::test]
async fn a_flowing_instance_that_breaks_off_breaks_its_readers() {
    let pacs = FakePacs::with(&[("1.1", 1)]);
    pacs.pixels.store(30 << 20, Ordering::SeqCst);
    *pacs.breaks_off.lock() = true;
    pacs.send.add_permits(1);
    let bench = Bench::with(&pacs, NO_ROOM);
    let reader = bench.studies.open(&series("1.1")).await.unwrap();
    let broken = contents(reader).await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionAborted);
    bench.settle().await;
    assert_eq!(bench.cache.size(), (0, 0));
}

#[tokio::test]
async fn a_series_that_grew_is_retrieved_again() {
    let pacs = FakePacs::with(&[("1.1", 2)]);
    pacs.send.add_permits(2);
    let bench = Bench::over(&pacs);
    assert_eq!(
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap()
            .len(),
        2
    );
    bench.settle().await;
    pacs.series.lock()[0].1 = 3;
    pacs.send.add_permits(3);
    assert_eq!(
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn a_series_that_grew_is_retrieved_again_from_an_archive_that_does_not_count() {
    let pacs = FakePacs::with(&[("1.1", 2)]);
    pacs.counts.store(false, Ordering::SeqCst);
    pacs.send.add_permits(5);
    let bench = Bench::over(&pacs);
    for expected in [2, 2, 3] {
        pacs.series.lock()[0].1 = expected;
        let reader = bench.studies.open(&series("1.1")).await.unwrap();
        assert_eq!(all(reader).await.unwrap().len(), expected);
        bench.settle().await;
    }
    assert_eq!(pacs.retrievals(), 2);
}

#[tokio::test]
async fn nothing_is_handed_out_but_what_a_filter_admits() {
    let pacs = FakePacs::with(&[("1.1", 4)]);
    pacs.send.add_permits(4);
    let bench = Bench::over(&pacs);
    // While it is retrieved, and from the cache.
    for _ in 0..2 {
        let reader = bench.studies.open(&series("1.1")).await.unwrap();
        let reader = reader.only(|instance| *instance != instance_uid("1.1", 1));
        let known = reader.known_items().unwrap();
        assert!(known.is_none_or(|items| items.len() == 3));
        assert_eq!(all(reader).await.unwrap().len(), 3);
        bench.settle().await;
    }
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn a_retrieval_is_anticipated_for_what_is_known_and_not_cached() {
    let pacs = FakePacs::with(&[("1.1", 1), ("1.2", 1)]);
    pacs.send.add_permits(2);
    let bench = Bench::over(&pacs);
    all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    bench.settle().await;
    let listings = &bench.studies.listings;
    while listings.last_known(&study_uid()).await.is_none() {
        tokio::task::yield_now().await;
    }
    pacs.anticipated.lock().clear();
    all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    assert!(pacs.anticipated.lock().is_empty());
    all(bench.studies.open(&study()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(*pacs.anticipated.lock(), [["CT"]]);
}

#[tokio::test]
async fn for_a_study_never_asked_for_the_last_retrieval_is_anticipated() {
    let pacs = FakePacs::with(&[("1.1", 1)]);
    pacs.send.add_permits(1);
    let bench = Bench::over(&pacs);
    all(bench.studies.open(&study()).await.unwrap())
        .await
        .unwrap();
    // The list of its series may have been there before it was looked for what they were last time.
    pacs.anticipated.lock().clear();
    let other = Scope::Study(StudyUid::parse("1.9").unwrap());
    let _ = bench.studies.open(&other).await;
    assert_eq!(*pacs.anticipated.lock(), [["CT"]]);
}

#[tokio::test]
async fn one_instance_does_not_fetch_its_series() {
    let pacs = FakePacs::with(&[("1.1", 9)]);
    pacs.send.add_permits(9);
    let bench = Bench::over(&pacs);
    let scope = Scope::Instance(study_uid(), series_uid("1.1"), instance_uid("1.1", 4));
    let items = all(bench.studies.open(&scope).await.unwrap())
        .await
        .unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].entry().instance, instance_uid("1.1", 4));
    assert_eq!(pacs.send.available_permits(), 8);
}

#[tokio::test]
async fn every_instance_of_a_long_cached_series_is_found() {
    let pacs = FakePacs::with(&[("1.1", 600)]);
    pacs.send.add_permits(600);
    let bench = Bench::over(&pacs);
    all(bench.studies.open(&series("1.1")).await.unwrap())
        .await
        .unwrap();
    bench.settle().await;
    for at in [0, 255, 256, 599] {
        let scope = Scope::Instance(study_uid(), series_uid("1.1"), instance_uid("1.1", at));
        let items = all(bench.studies.open(&scope).await.unwrap())
            .await
            .unwrap();
        assert_eq!(items.len(), 1, "instance {at}");
        assert_eq!(items[0].entry().instance, instance_uid("1.1", at));
    }
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let pacs = FakePacs::with(&[("1.1", 1)]);
    let bench = Bench::over(&pacs);
    assert_eq!(
        bench.studies.open(&series("9.9")).await.err(),
        Some(StudiesError::NotFound)
    );
    assert_eq!(pacs.retrievals(), 0);
}

#[tokio::test]
async fn while_the_pacs_is_away_a_cached_series_is_served_and_another_is_an_outage() {
    let pacs = FakePacs::with(&[("1.1", 1), ("1.2", 1)]);
    pacs.send.add_permits(2);
    let bench = Bench::over(&pacs);
    assert_eq!(
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap()
            .len(),
        1
    );
    bench.settle().await;
    *pacs.away.lock() = true;
    assert_eq!(
        all(bench.studies.open(&series("1.1")).await.unwrap())
            .await
            .unwrap()
            .len(),
        1
    );
    let outage = match bench.studies.open(&series("1.2")).await {
        Ok(reader) => all(reader).await.err(),
        Err(error) => Some(error),
    };
    assert!(matches!(outage, Some(StudiesError::Archive(error)) if error.is_outage()));
}

/// A front whose archive was asked what the study holds, and nothing of it is cached.
async fn known(pacs: &std::sync::Arc<FakePacs>) -> Bench {
    let bench = Bench::over(pacs);
    bench.studies.listing(&study_uid()).await.unwrap();
    let listings = &bench.studies.listings;
    while listings.last_known(&study_uid()).await.is_none() {
        tokio::task::yield_now().await;
    }
    pacs.asked.lock().clear();
    bench
}

#[tokio::test]
async fn what_was_known_before_is_retrieved_first_and_asked_about_meanwhile() {
    let pacs = FakePacs::with(&[("1.1", 1), ("1.2", 1)]);
    let bench = known(&pacs).await;
    let mut reader = bench.studies.open(&study()).await.unwrap();
    pacs.send.add_permits(1);
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
    pacs.send.add_permits(1);
    assert_eq!(all(reader).await.unwrap().len(), 1);
    assert_eq!(*pacs.asked.lock(), ["retrieve", "find"]);
    bench.settle().await;
    // Cached: asked about, and served.
    assert_eq!(
        all(bench.studies.open(&study()).await.unwrap())
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(*pacs.asked.lock(), ["retrieve", "find", "find"]);
}

#[tokio::test]
async fn a_study_never_asked_for_is_counted_while_it_comes() {
    let pacs = FakePacs::with(&[("1.1", 2), ("1.2", 1)]);
    pacs.slow_counts.store(true, Ordering::SeqCst);
    let bench = Bench::over(&pacs);
    let (one, scope) = (bench.studies.open(&study()).await.unwrap(), study());
    let other = tokio::spawn({
        let studies = std::sync::Arc::clone(&bench.studies);
        async move { all(studies.open(&scope).await.unwrap()).await }
    });
    pacs.send.add_permits(3);
    assert_eq!(all(one).await.unwrap().len(), 3);
    assert_eq!(other.await.unwrap().unwrap().len(), 3);
    assert_eq!(pacs.asked.lock()[..3], ["find", "retrieve", "find"]);
    bench.settle().await;
    let found = all(bench.studies.open(&study()).await.unwrap()).await;
    assert_eq!(found.unwrap().len(), 3);
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn a_study_that_is_not_there_is_asked_for_once() {
    let pacs = FakePacs::with(&[]);
    pacs.slow_counts.store(true, Ordering::SeqCst);
    let bench = Bench::over(&pacs);
    let error = bench.studies.open(&study()).await.err();
    assert!(matches!(error, Some(StudiesError::NotFound)), "{error:?}");
    assert_eq!(*pacs.asked.lock(), ["find"]);
}

#[tokio::test]
async fn a_series_that_came_since_is_retrieved_with_those_that_were_known() {
    let pacs = FakePacs::with(&[("1.1", 1)]);
    let bench = known(&pacs).await;
    pacs.series.lock().push(("1.2", 2));
    pacs.send.add_permits(3);
    let reader = bench.studies.open(&study()).await.unwrap();
    assert_eq!(all(reader).await.unwrap().len(), 3);
    assert_eq!(pacs.retrievals(), 1);
}

#[tokio::test]
async fn what_the_archive_says_now_and_does_not_send_is_missing() {
    // An instance less than it says, and a series that it does not send at all.
    for (count, withheld, seen_before) in [(2, 1, true), (1, 1, true), (2, 1, false)] {
        let pacs = FakePacs::with(&[("1.1", 3), ("1.2", 2)]);
        let bench = match seen_before {
            true => known(&pacs).await,
            false => Bench::over(&pacs),
        };
        pacs.slow_counts.store(true, Ordering::SeqCst);
        pacs.series.lock()[1].1 = count;
        pacs.withheld.store(withheld, Ordering::SeqCst);
        pacs.send.add_permits(10);
        let reader = bench.studies.open(&study()).await.unwrap();
        let error = all(reader).await.err();
        assert!(
            matches!(
                &error,
                Some(StudiesError::Archive(ArchiveError::Incomplete { .. }))
            ),
            "{error:?}"
        );
        bench.settle().await;
        assert_eq!(bench.cache.size(), (0, 0));
    }
}
