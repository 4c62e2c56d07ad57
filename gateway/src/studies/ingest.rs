//! What arrives from an archive: checked, brought to a form that web services may carry, written.
//!
//! The pixel data of compressed images are never touched. Native data sets in implicit VR or big
//! endian become explicit VR little endian, without loss (PS3.18 §8.7.3.5.2 excludes both from web
//! services).

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flight::{Group, Job, MEMORY_BUDGET, SeriesFlight, held_entry};
use super::flowing::{Flow, Opening};
use crate::archive::{IncomingInstance, InstanceSink, InstanceWriter, SinkError};
use crate::cache::{Cache, LargeObject, Object, Staging, WRITING};
use crate::dicom::convert::Converter;
use crate::dicom::part10;
use crate::dicom::reader::Limits;
use crate::dicom::scan::{Head, HeadScanner};
use crate::dicom::syntax::Encoding;
use crate::dicom::uid::TransferSyntaxUid;

/// Instances above this size get a file of their own instead of waiting in memory.
const SPILL: usize = 4 * 1024 * 1024;
/// Bytes of a large instance written at a time.
const LARGE_WRITE: usize = 1024 * 1024;
/// Bytes kept in memory of an instance that has not said yet which series it belongs to.
const UNKNOWN_MAX: usize = 24 * 1024 * 1024;

/// The sink of one retrieval.
pub struct Ingest {
    group: Arc<Group>,
    cache: Arc<Cache>,
    limits: Limits,
}

impl Ingest {
    /// A sink that fills the flights of `group`.
    pub fn new(group: Arc<Group>, cache: Arc<Cache>, limits: Limits) -> Self {
        Self {
            group,
            cache,
            limits,
        }
    }
}

impl InstanceSink for Ingest {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        if self.group.cancel.is_cancelled() {
            return Err(SinkError::Abandoned);
        }
        if let Some(asked) = self.group.scope.instance()
            && *asked != incoming.instance
        {
            return Err(SinkError::NotAskedFor);
        }
        let from = Encoding::of(&incoming.transfer_syntax);
        let convert = matches!(from, Encoding::ImplicitLittle | Encoding::ExplicitBig);
        let transfer_syntax = if convert {
            TransferSyntaxUid::known(dicom_dictionary_std::uids::EXPLICIT_VR_LITTLE_ENDIAN)
        } else {
            incoming.transfer_syntax.clone()
        };
        let meta = Bytes::from(part10::file_meta(
            &incoming.sop_class,
            &incoming.instance,
            &transfer_syntax,
        ));
        Ok(Box::new(Writer {
            group: Arc::clone(&self.group),
            cache: Arc::clone(&self.cache),
            scanner: HeadScanner::new(&transfer_syntax, self.limits),
            converter: convert.then(|| Converter::new(&incoming.transfer_syntax, self.limits)),
            meta_length: meta.len() as u64,
            size: meta.len(),
            pieces: vec![meta],
            pending: 0,
            large: None,
            flow: None,
            incoming,
            transfer_syntax,
        }))
    }
}

struct Writer {
    group: Arc<Group>,
    cache: Arc<Cache>,
    incoming: IncomingInstance,
    transfer_syntax: TransferSyntaxUid,
    scanner: HeadScanner,
    converter: Option<Converter>,
    meta_length: u64,
    /// The Part 10 file so far, or its end that is not in `large` yet.
    pieces: Vec<Bytes>,
    /// Bytes in `pieces` once there is a large file.
    pending: usize,
    size: usize,
    large: Option<Large>,
    /// The disk has no room: the instance goes through to its readers.
    flow: Option<Flow>,
}

struct Large {
    staging: Arc<Staging>,
    file: Option<LargeObject>,
}

impl Drop for Large {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.staging.discard_large(file);
        }
    }
}

impl Writer {
    async fn take(&mut self, data: Bytes) -> Result<(), SinkError> {
        self.scanner.feed(&data).map_err(malformed)?;
        self.size = self.size.saturating_add(data.len());
        self.pending += data.len();
        self.pieces.push(data);
        if self.flow.is_some() {
            return self.hand_on().await;
        }
        // Long private values may stand before the identity (0009,xx… before 0020,000E).
        let is_known = self.scanner.seen().series.is_some() || self.size > UNKNOWN_MAX;
        if self.large.is_none() && self.size > SPILL && is_known {
            self.spill().await?;
        }
        if self.large.is_some() && self.pending >= LARGE_WRITE {
            self.write_large().await?;
        }
        Ok(())
    }

    /// Moves a large instance to a file of its own.
    async fn spill(&mut self) -> Result<(), SinkError> {
        let series = self.series()?;
        let cache = Arc::clone(&self.cache);
        let opened = blocking(move || {
            let staging = series.staging(&cache)?;
            let file = staging.begin_large()?;
            Ok(Large {
                staging,
                file: Some(file),
            })
        })
        .await;
        match opened {
            Ok(large) => {
                self.large = Some(large);
                self.write_large().await
            }
            // No room on disk: what fits in memory passes through.
            Err(_) if self.size <= MEMORY_BUDGET => Ok(()),
            Err(error) => self.flow(None, &error).await,
        }
    }

    async fn write_large(&mut self) -> Result<(), SinkError> {
        let Some(mut large) = self.large.take() else {
            return Ok(());
        };
        let pieces = std::mem::take(&mut self.pieces);
        self.pending = 0;
        let written = blocking(move || {
            let Large { staging, file, .. } = &mut large;
            let Some(file) = file else {
                return Ok(Ok(large));
            };
            match staging.append_large(file, &pieces) {
                Ok(()) => Ok(Ok(large)),
                // The disk became full: what is on it can still be read.
                Err(error) => Ok(Err((staging.written(file)?, pieces, error))),
            }
        })
        .await;
        match written {
            Ok(Ok(large)) => {
                self.large = Some(large);
                Ok(())
            }
            Ok(Err((stored, pieces, error))) => {
                self.pieces = pieces;
                self.flow(Some(stored), &error).await
            }
            Err(error) => {
                self.cache.set_degraded(true, &error.to_string());
                Err(SinkError::NoRoom(error.to_string()))
            }
        }
    }

    /// Lets the instance through to its readers from here on.
    async fn flow(
        &mut self,
        stored: Option<(Arc<File>, u64)>,
        error: &std::io::Error,
    ) -> Result<(), SinkError> {
        let series = self.series()?;
        self.is_the_one_asked_for(self.scanner.seen())?;
        let deflated = Encoding::of(&self.transfer_syntax) == Encoding::DeflatedExplicitLittle;
        let head = self.scanner.head().filter(|_| !deflated);
        let head_length = head.and_then(|head| head.pixel_data_offset);
        let opening = Opening {
            entry: held_entry(self.object(head_length.unwrap_or(u64::MAX), 0), 0),
            stored,
        };
        self.flow = Some(self.group.flow(&series, &opening, error).await?);
        self.hand_on().await
    }

    async fn hand_on(&mut self) -> Result<(), SinkError> {
        if let Some(flow) = &mut self.flow {
            for piece in self.pieces.drain(..) {
                flow.send(piece).await?;
            }
        }
        Ok(())
    }

    /// The head is that of the instance that was announced, in the study that was asked for.
    fn is_the_one_asked_for(&self, head: &Head) -> Result<(), SinkError> {
        if head.study.as_ref() != Some(self.group.scope.study()) {
            return Err(SinkError::NotAskedFor);
        }
        if head.instance.as_ref() != Some(&self.incoming.instance) {
            return Err(SinkError::Malformed(
                "SOP Instance UID (0008,0018) is not the one of the command".into(),
            ));
        }
        Ok(())
    }

    fn object(&self, head_length: u64, tail_length: u64) -> Object {
        Object {
            instance: self.incoming.instance.clone(),
            sop_class: self.incoming.sop_class.clone(),
            transfer_syntax: self.transfer_syntax.clone(),
            meta_length: self.meta_length,
            head_length,
            tail_length,
        }
    }

    /// The flight that the instance belongs to, once its head has told.
    fn series(&self) -> Result<Arc<SeriesFlight>, SinkError> {
        let seen = self.scanner.seen();
        if seen
            .study
            .as_ref()
            .is_some_and(|study| study != self.group.scope.study())
        {
            return Err(SinkError::NotAskedFor);
        }
        let series = seen
            .series
            .as_ref()
            .ok_or_else(|| SinkError::Malformed("no Series Instance UID (0020,000E)".into()))?;
        self.group.series(series).ok_or(SinkError::NotAskedFor)
    }

    /// Waits for the share of this instance in a budget of `whole` bytes.
    async fn share(
        &self,
        budget: &Arc<Semaphore>,
        whole: usize,
    ) -> Result<OwnedSemaphorePermit, SinkError> {
        let share = u32::try_from(self.size.clamp(1, whole)).unwrap_or(u32::MAX);
        tokio::select! {
            share = Arc::clone(budget).acquire_many_owned(share) => {
                share.map_err(|_| SinkError::Abandoned)
            }
            () = self.group.cancel.cancelled() => Err(SinkError::Abandoned),
        }
    }

    async fn complete(mut self) -> Result<(), SinkError> {
        if let Some(converter) = self.converter.take() {
            let mut rest = Vec::new();
            converter.finish(&mut rest).map_err(malformed)?;
            if !rest.is_empty() {
                self.take(rest.into()).await?;
            }
        }
        if self.large.is_some() {
            self.write_large().await?;
        }
        let series = self.series()?;
        let data_set_length = (self.size as u64).saturating_sub(self.meta_length);
        let scanner = std::mem::replace(
            &mut self.scanner,
            HeadScanner::new(&self.transfer_syntax, Limits::default()),
        );
        let head = scanner.finish().map_err(malformed)?;
        self.is_the_one_asked_for(&head)?;
        // Offsets in a deflated data set say nothing of the bytes on disk: its head is all of it.
        let (head_length, tail_length) = match Encoding::of(&self.transfer_syntax) {
            Encoding::DeflatedExplicitLittle => (data_set_length, 0),
            _ => (
                head.pixel_data_offset.unwrap_or(data_set_length),
                head.tail_offset
                    .map_or(0, |offset| data_set_length.saturating_sub(offset)),
            ),
        };
        let object = self.object(head_length, tail_length);
        if let Some(flow) = self.flow.take() {
            flow.finish();
            return Ok(());
        }
        let job = if self.large.is_some() {
            let Some(mut large) = self.large.take() else {
                return Err(SinkError::Abandoned);
            };
            let Some(file) = large.file.take() else {
                return Err(SinkError::Abandoned);
            };
            Job::Large {
                series,
                large: file,
                staging: Arc::clone(&large.staging),
                object,
            }
        } else {
            let budget = self.share(&self.group.budget, MEMORY_BUDGET).await?;
            // Last: whoever has this one waits for nothing but the disk.
            let writing = self.share(self.cache.writing(), WRITING).await?;
            Job::Write {
                series,
                object,
                pieces: std::mem::take(&mut self.pieces),
                budget,
                writing,
            }
        };
        self.group.take_in(job).await
    }
}

impl InstanceWriter for Writer {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            let Some(converter) = &mut self.converter else {
                return self.take(data).await;
            };
            let mut converted = Vec::with_capacity(data.len() + 1024);
            converter.feed(&data, &mut converted).map_err(malformed)?;
            if converted.is_empty() {
                Ok(())
            } else {
                self.take(converted.into()).await
            }
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move { self.complete().await }.boxed()
    }
}

fn malformed(error: impl std::fmt::Display) -> SinkError {
    SinkError::Malformed(error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
