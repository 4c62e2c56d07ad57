#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::VR;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::bytes::ItemBytes;
use super::{Item, Reader, Settings, Studies, StudiesError};
use crate::archive::{
    Archive, ArchiveError, FindRequest, IncomingInstance, InstanceSink, Matches, OutgoingInstance,
    RetrieveReport, RetrieveRequest, Scope, SinkError, StoreOutcome,
};
use crate::cache::{Bounds, Cache};
use crate::dicom::reader::Limits;
use crate::dicom::syntax::Encoding;
use crate::dicom::testdata::Writer;
use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid};
use crate::store::SledStore;

const NO_ROOM: Bounds = Bounds {
    max_bytes: 1 << 30,
    min_free_bytes: u64::MAX,
};

const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";

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
    let outage = bench.studies.open(&series("1.2")).await.err();
    assert!(matches!(outage, Some(StudiesError::Archive(error)) if error.is_outage()));
}

struct Bench {
    studies: Arc<Studies>,
    cache: Arc<Cache>,
    dir: TempDir,
}

impl Bench {
    fn over(pacs: &Arc<FakePacs>) -> Self {
        Self::with(
            pacs,
            Bounds {
                max_bytes: 1 << 30,
                min_free_bytes: 0,
            },
        )
    }

    fn with(pacs: &Arc<FakePacs>, bounds: Bounds) -> Self {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(&dir.path().join("cache"), bounds).unwrap();
        let settings = Settings {
            pacs: "fake".into(),
            // Every opening asks the archive again.
            revalidate_after: Duration::from_nanos(1),
            serve_when_unreachable: true,
            related_counts: true,
            relational_queries: true,
            limits: Limits::default(),
        };
        let archive = Arc::clone(pacs) as Arc<dyn Archive>;
        let store = Arc::new(SledStore::open(dir.path()).unwrap());
        Self {
            studies: Studies::new(settings, archive, Arc::clone(&cache), store),
            cache,
            dir,
        }
    }

    /// Cuts the pack of the only bundle; a look at its name shows it as it was.
    fn cut_the_open_pack(&self) {
        let folders = std::fs::read_dir(self.dir.path().join("cache")).unwrap();
        let folders: Vec<_> = folders.map(|folder| folder.unwrap().path()).collect();
        assert_eq!(folders.len(), 1);
        let (pack, aside) = (folders[0].join("pack"), folders[0].join("aside"));
        let changed = std::fs::metadata(&pack).unwrap().modified().unwrap();
        std::fs::rename(&pack, &aside).unwrap();
        std::fs::copy(&aside, &pack).unwrap();
        let open = |path| std::fs::File::options().write(true).open(path).unwrap();
        open(&pack).set_modified(changed).unwrap();
        open(&aside).set_len(1).unwrap();
    }

    /// Waits until no retrieval is under way.
    async fn settle(&self) {
        while !self.studies.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

async fn all(mut reader: Reader) -> Result<Vec<Item>, StudiesError> {
    let mut items = Vec::new();
    while let Some(batch) = reader.next().await? {
        items.extend(batch);
    }
    Ok(items)
}

/// The Part 10 files of a reader, read as they come.
async fn contents(mut reader: Reader) -> std::io::Result<Vec<Vec<u8>>> {
    let mut contents = Vec::new();
    while let Some(items) = reader.next().await.map_err(std::io::Error::other)? {
        let mut bytes = ItemBytes::new(&items);
        for item in &items {
            let mut content = Vec::new();
            loop {
                let left = item.length().map(|length| length - content.len() as u64);
                if left == Some(0) {
                    break;
                }
                let piece = bytes.next(left.unwrap_or(u64::MAX)).await?;
                if piece.is_empty() {
                    break;
                }
                content.extend_from_slice(&piece);
            }
            contents.push(content);
        }
    }
    Ok(contents)
}

/// An archive that sends one instance for each permit of `send`.
struct FakePacs {
    series: Mutex<Vec<(&'static str, usize)>>,
    send: Semaphore,
    started: AtomicUsize,
    cancelled: AtomicUsize,
    /// Instances announced but not sent.
    withheld: AtomicUsize,
    /// Also sends an instance of another study.
    intruder: Mutex<bool>,
    /// Bytes of the pixels of each instance.
    pixels: AtomicUsize,
    /// Fails in the middle of an instance.
    breaks_off: Mutex<bool>,
    away: Mutex<bool>,
    refused: Mutex<Vec<SinkError>>,
    anticipated: Mutex<Vec<Vec<String>>>,
    ends: mpsc::UnboundedSender<()>,
    ended: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
}

impl FakePacs {
    fn with(series: &[(&'static str, usize)]) -> Arc<Self> {
        let (ends, ended) = mpsc::unbounded_channel();
        Arc::new(Self {
            series: Mutex::new(series.to_vec()),
            send: Semaphore::new(0),
            started: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            withheld: AtomicUsize::new(0),
            intruder: Mutex::new(false),
            pixels: AtomicUsize::new(64),
            breaks_off: Mutex::new(false),
            away: Mutex::new(false),
            refused: Mutex::default(),
            anticipated: Mutex::default(),
            ends,
            ended: tokio::sync::Mutex::new(ended),
        })
    }

    fn retrievals(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    fn object(&self, series: &str, at: usize) -> Vec<u8> {
        let instance = instance_uid(series, at);
        let pixels = vec![(at % 251) as u8; self.pixels.load(Ordering::SeqCst)];
        data_set_with(study_uid().as_str(), series, instance.as_str(), &pixels)
    }

    async fn ended(&self) {
        self.ended.lock().await.recv().await.unwrap();
    }

    async fn send_one(
        &self,
        sink: &dyn InstanceSink,
        instance: InstanceUid,
        data: Vec<u8>,
    ) -> Result<(), SinkError> {
        let mut writer = sink.begin(IncomingInstance {
            sop_class: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            instance,
            transfer_syntax: TransferSyntaxUid::parse(EXPLICIT_LE).unwrap(),
        })?;
        for (at, piece) in data.chunks(7.max(data.len() / 200)).enumerate() {
            if at == 190 && *self.breaks_off.lock() {
                return Err(SinkError::Abandoned);
            }
            writer.write(Bytes::copy_from_slice(piece)).await?;
        }
        writer.finish().await
    }

    async fn send_all(
        &self,
        request: RetrieveRequest,
        sink: Arc<dyn InstanceSink>,
        cancel: CancellationToken,
    ) -> Result<RetrieveReport, ArchiveError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let mut delivered = 0;
        if *self.intruder.lock() {
            let data = data_set("7.7.7", "1.1", "1.1.0");
            let refused = self.send_one(&*sink, instance_uid("1.1", 0), data).await;
            self.refused.lock().extend(refused.err());
        }
        let series = self.series.lock().clone();
        for (uid, count) in series {
            if request
                .scope
                .series()
                .is_some_and(|asked| asked.as_str() != uid)
            {
                continue;
            }
            for at in 0..count - self.withheld.load(Ordering::SeqCst) {
                let instance = instance_uid(uid, at);
                if request
                    .scope
                    .instance()
                    .is_some_and(|asked| *asked != instance)
                {
                    continue;
                }
                tokio::select! {
                    permit = self.send.acquire() => permit.unwrap().forget(),
                    () = cancel.cancelled() => {
                        self.cancelled.fetch_add(1, Ordering::SeqCst);
                        return Err(ArchiveError::Cancelled);
                    }
                }
                let sent = self.send_one(&*sink, instance, self.object(uid, at)).await;
                if *self.breaks_off.lock() {
                    return Err(ArchiveError::Cancelled);
                }
                sent.unwrap();
                delivered += 1;
            }
        }
        Ok(RetrieveReport { delivered })
    }
}

impl Archive for FakePacs {
    fn verify(&self) -> BoxFuture<'_, Result<(), ArchiveError>> {
        async { Ok(()) }.boxed()
    }

    fn find(&self, _: FindRequest) -> BoxFuture<'_, Result<Matches, ArchiveError>> {
        async move {
            if *self.away.lock() {
                let (address, detail) = ("pacs:104".to_owned(), "refused".to_owned());
                return Err(ArchiveError::Unreachable { address, detail });
            }
            let series = self.series.lock().clone();
            let items = series.iter().map(|(uid, count)| {
                let data = Writer::new(Encoding::ExplicitLittle)
                    .put((0x0008, 0x0060), VR::CS, b"CT")
                    .put((0x0020, 0x000D), VR::UI, study_uid().as_str().as_bytes())
                    .put((0x0020, 0x000E), VR::UI, uid.as_bytes())
                    .put((0x0020, 0x1209), VR::IS, count.to_string().as_bytes())
                    .bytes;
                crate::archive::Match {
                    data: data.into(),
                    transfer_syntax: TransferSyntaxUid::parse(EXPLICIT_LE).unwrap(),
                }
            });
            Ok(Matches {
                items: items.collect(),
                ..Matches::default()
            })
        }
        .boxed()
    }

    fn anticipate(&self, modalities: &[String]) {
        self.anticipated.lock().push(modalities.to_vec());
    }

    fn retrieve(
        &self,
        request: RetrieveRequest,
        sink: Arc<dyn InstanceSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<RetrieveReport, ArchiveError>> {
        async move {
            let outcome = self.send_all(request, sink, cancel).await;
            let _ = self.ends.send(());
            outcome
        }
        .boxed()
    }

    fn store(
        &self,
        _: Vec<OutgoingInstance>,
    ) -> BoxFuture<'_, Result<Vec<StoreOutcome>, ArchiveError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

fn study_uid() -> StudyUid {
    StudyUid::parse("1.2.3").unwrap()
}

fn series_uid(uid: &str) -> SeriesUid {
    SeriesUid::parse(uid).unwrap()
}

fn instance_uid(series: &str, at: usize) -> InstanceUid {
    InstanceUid::parse(&format!("{series}.{at}")).unwrap()
}

fn study() -> Scope {
    Scope::Study(study_uid())
}

fn series(uid: &str) -> Scope {
    Scope::Series(study_uid(), series_uid(uid))
}

fn data_set(study: &str, series: &str, instance: &str) -> Vec<u8> {
    data_set_with(study, series, instance, &[7; 64])
}

fn data_set_with(study: &str, series: &str, instance: &str, pixels: &[u8]) -> Vec<u8> {
    Writer::new(Encoding::ExplicitLittle)
        .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.2")
        .put((0x0008, 0x0018), VR::UI, instance.as_bytes())
        .put((0x0020, 0x000D), VR::UI, study.as_bytes())
        .put((0x0020, 0x000E), VR::UI, series.as_bytes())
        .put((0x7FE0, 0x0010), VR::OW, pixels)
        .bytes
}
