//! An archive that a test steers, and the front over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::VR;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::super::bytes::ItemBytes;
use super::super::{Item, Reader, Settings, Studies, StudiesError};
use crate::archive::{
    Archive, ArchiveError, FindRequest, IncomingInstance, InstanceSink, Level, Matches,
    OutgoingInstance, RetrieveReport, RetrieveRequest, Scope, SinkError, StoreOutcome,
};
use crate::cache::{Bounds, Cache};
use crate::dicom::reader::Limits;
use crate::dicom::syntax::Encoding;
use crate::dicom::testdata::Writer;
use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid};
use crate::store::SledStore;

const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";

pub(super) struct Bench {
    pub(super) studies: Arc<Studies>,
    pub(super) cache: Arc<Cache>,
    pub(super) dir: TempDir,
}

impl Bench {
    pub(super) fn over(pacs: &Arc<FakePacs>) -> Self {
        Self::with(
            pacs,
            Bounds {
                max_bytes: 1 << 30,
                min_free_bytes: 0,
            },
        )
    }

    pub(super) fn with(pacs: &Arc<FakePacs>, bounds: Bounds) -> Self {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(&dir.path().join("cache"), bounds).unwrap();
        let settings = Settings {
            pacs: "fake".into(),
            // Every opening asks the archive again.
            revalidate_after: Duration::from_nanos(1),
            serve_when_unreachable: true,
            related_counts: true,
            relational_queries: true,
            by_series: false,
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
    pub(super) fn cut_the_open_pack(&self) {
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
    pub(super) async fn settle(&self) {
        while !self.studies.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

pub(super) async fn all(mut reader: Reader) -> Result<Vec<Item>, StudiesError> {
    let mut items = Vec::new();
    while let Some(batch) = reader.next().await? {
        items.extend(batch);
    }
    Ok(items)
}

/// The Part 10 files of a reader, read as they come.
pub(super) async fn contents(mut reader: Reader) -> std::io::Result<Vec<Vec<u8>>> {
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
pub(super) struct FakePacs {
    pub(super) series: Mutex<Vec<(&'static str, usize)>>,
    pub(super) send: Semaphore,
    pub(super) started: AtomicUsize,
    /// Whether it takes long to count.
    pub(super) slow_counts: AtomicBool,
    pub(super) cancelled: AtomicUsize,
    /// Instances announced but not sent.
    pub(super) withheld: AtomicUsize,
    /// Also sends an instance of another study.
    pub(super) intruder: Mutex<bool>,
    /// Bytes of the pixels of each instance.
    pub(super) pixels: AtomicUsize,
    /// Fails in the middle of an instance.
    pub(super) breaks_off: Mutex<bool>,
    pub(super) away: Mutex<bool>,
    /// Says how many instances a series has.
    pub(super) counts: AtomicBool,
    /// Panics in the middle of an instance, once.
    pub(super) panics: Mutex<bool>,
    /// Retrievals at once; one more is told that the archive is busy.
    pub(super) places: AtomicUsize,
    pub(super) refused: Mutex<Vec<SinkError>>,
    pub(super) anticipated: Mutex<Vec<Vec<String>>>,
    /// What was asked, in order: `find` or `retrieve`.
    pub(super) asked: Mutex<Vec<&'static str>>,
    ends: mpsc::UnboundedSender<()>,
    ended: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
}

impl FakePacs {
    pub(super) fn with(series: &[(&'static str, usize)]) -> Arc<Self> {
        let (ends, ended) = mpsc::unbounded_channel();
        Arc::new(Self {
            series: Mutex::new(series.to_vec()),
            send: Semaphore::new(0),
            slow_counts: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            withheld: AtomicUsize::new(0),
            intruder: Mutex::new(false),
            pixels: AtomicUsize::new(64),
            breaks_off: Mutex::new(false),
            away: Mutex::new(false),
            counts: AtomicBool::new(true),
            panics: Mutex::new(false),
            places: AtomicUsize::new(usize::MAX),
            refused: Mutex::default(),
            anticipated: Mutex::default(),
            asked: Mutex::default(),
            ends,
            ended: tokio::sync::Mutex::new(ended),
        })
    }

    pub(super) fn retrievals(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    fn is_there(&self) -> Result<(), ArchiveError> {
        if !*self.away.lock() {
            return Ok(());
        }
        let (address, detail) = ("pacs:104".to_owned(), "refused".to_owned());
        Err(ArchiveError::Unreachable { address, detail })
    }

    pub(super) fn object(&self, series: &str, at: usize) -> Vec<u8> {
        let instance = instance_uid(series, at);
        let pixels = vec![(at % 251) as u8; self.pixels.load(Ordering::SeqCst)];
        data_set_with(study_uid().as_str(), series, instance.as_str(), &pixels)
    }

    pub(super) async fn ended(&self) {
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
            if std::mem::take(&mut *self.panics.lock()) {
                panic!("a defect of the archive");
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

    fn find(&self, request: FindRequest) -> BoxFuture<'_, Result<Matches, ArchiveError>> {
        async move {
            self.asked.lock().push("find");
            self.is_there()?;
            let series = self.series.lock().clone();
            let rows: Vec<(&str, usize)> = match request.level {
                // Every test that counts has one series.
                Level::Image => series
                    .iter()
                    .flat_map(|(uid, count)| vec![(*uid, 1); *count])
                    .collect(),
                _ => series,
            };
            let items = rows.iter().map(|(uid, count)| {
                let data = Writer::new(Encoding::ExplicitLittle)
                    .put((0x0008, 0x0060), VR::CS, b"CT")
                    .put((0x0020, 0x000D), VR::UI, study_uid().as_str().as_bytes())
                    .put((0x0020, 0x000E), VR::UI, uid.as_bytes());
                let count = count.to_string();
                let data = match self.counts.load(Ordering::SeqCst) {
                    true => data.put((0x0020, 0x1209), VR::IS, count.as_bytes()),
                    false => data,
                };
                let data = data.bytes;
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

    fn counts_slowly(&self) -> bool {
        self.slow_counts.load(Ordering::SeqCst)
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
            self.asked.lock().push("retrieve");
            self.is_there()?;
            let taken = self
                .places
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| {
                    free.checked_sub(1)
                });
            taken.map_err(|_| ArchiveError::Busy { waiting: 0 })?;
            let outcome = self.send_all(request, sink, cancel).await;
            self.places.fetch_add(1, Ordering::SeqCst);
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

pub(super) fn study_uid() -> StudyUid {
    StudyUid::parse("1.2.3").unwrap()
}

pub(super) fn series_uid(uid: &str) -> SeriesUid {
    SeriesUid::parse(uid).unwrap()
}

pub(super) fn instance_uid(series: &str, at: usize) -> InstanceUid {
    InstanceUid::parse(&format!("{series}.{at}")).unwrap()
}

pub(super) fn study() -> Scope {
    Scope::Study(study_uid())
}

pub(super) fn series(uid: &str) -> Scope {
    Scope::Series(study_uid(), series_uid(uid))
}

pub(super) fn data_set(study: &str, series: &str, instance: &str) -> Vec<u8> {
    data_set_with(study, series, instance, &[7; 64])
}

pub(super) fn data_set_with(study: &str, series: &str, instance: &str, pixels: &[u8]) -> Vec<u8> {
    Writer::new(Encoding::ExplicitLittle)
        .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.2")
        .put((0x0008, 0x0018), VR::UI, instance.as_bytes())
        .put((0x0020, 0x000D), VR::UI, study.as_bytes())
        .put((0x0020, 0x000E), VR::UI, series.as_bytes())
        .put((0x7FE0, 0x0010), VR::OW, pixels)
        .bytes
}
