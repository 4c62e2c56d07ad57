//! Instances written in another transfer syntax for a client that does not accept theirs.
//!
//! One instance is made whole before its first byte is sent: in memory while it is small, in an
//! unnamed file of the cache's disk beyond. So a slow client holds no decoder, and a damaged frame is
//! found while there is still a status to tell it with. What waits for clients is bounded in bytes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tempfile::SpooledData;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::body::BodyError;
use super::frames::{self, Image};
use super::negotiate::NotAcceptable;
use super::problem::Problem;
use super::spool::{IN_MEMORY, Measured, Share, Spool, SpoolError};
use crate::dicom::edit::Edit;
use crate::dicom::uid::TransferSyntaxUid;
use crate::pixels::pool::{Pool, PoolError};
use crate::pixels::{PixelError, TranscodeOptions, can_transcode, transcode_image};
use crate::studies::Item;
use crate::studies::bytes::ItemBytes;

/// Instances of one answer that are made while those before them are sent.
const AHEAD: usize = 2;
/// Time after which a full pool is asked again by an answer that has begun.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where instances are transcoded.
#[derive(Debug, Clone)]
pub struct Transcoding {
    /// What decodes and encodes.
    pub pool: Pool,
    /// Where results wait for their clients.
    pub spool: Spool,
}

/// An instance in another transfer syntax than its own.
pub struct Transcoded {
    /// The syntax.
    pub transfer_syntax: TransferSyntaxUid,
    /// Bytes of the Part 10 file.
    pub length: u64,
    content: SpooledData,
    room: Share,
}

/// What is to be transcoded, and to what.
#[derive(Clone)]
pub struct Wish {
    /// The instance.
    pub item: Item,
    /// The syntaxes it may be written in, the preferred one first.
    pub targets: Arc<[TransferSyntaxUid]>,
    /// Changes to its head.
    pub edits: Arc<[Edit]>,
}

/// Why an instance could not be transcoded.
#[derive(Debug, thiserror::Error)]
pub enum TranscodingError {
    /// The image fits none of the syntaxes that the client accepts.
    #[error(transparent)]
    NotAcceptable(#[from] NotAcceptable),
    /// It is too large for memory, and the disk is full.
    #[error("no room on disk for an instance that is transcoded: {0}")]
    NoRoom(#[source] io::Error),
    /// It only flows by, because the disk is full.
    #[error("no room on disk for an instance that is to be transcoded")]
    PassesBy,
    /// Too much waits for clients already, or it is too large to.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// It cannot be decoded, or there is no room to.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl From<TranscodingError> for Problem {
    fn from(error: TranscodingError) -> Self {
        match error {
            TranscodingError::NotAcceptable(reason) => reason.into(),
            TranscodingError::NoRoom(_) => {
                tracing::error!("{error}");
                Self::unavailable(
                    "no room on disk to transcode an instance of this size",
                    frames::BUSY,
                )
            }
            TranscodingError::PassesBy => frames::passes_by(),
            TranscodingError::Spool(error @ SpoolError::Full) => {
                Self::unavailable(error.to_string(), frames::BUSY)
            }
            TranscodingError::Spool(error @ SpoolError::TooLarge { .. }) => {
                Self::content_too_large(
                    error.to_string(),
                    "ask for the instance itself, as it is stored",
                )
            }
            TranscodingError::Pool(error) => frames::failed(error),
        }
    }
}

/// An instance that was looked into before it is written.
struct Prepared {
    image: Image,
    target: TransferSyntaxUid,
    edits: Arc<[Edit]>,
    /// Bytes besides the pixels.
    besides: u64,
}

impl Prepared {
    /// Bytes that the result takes at most: samples as they are, and what encoders add to those that
    /// cannot be compressed.
    fn estimate(&self) -> u64 {
        let frame = self.image.shape().frame_bytes();
        let pixels = frame.saturating_mul(self.image.index().frames().into());
        let tables = u64::from(self.image.index().frames()).saturating_mul(64);
        pixels
            .saturating_add(pixels / 8)
            .saturating_add(tables)
            .saturating_add(self.besides)
            .saturating_add(64 << 10)
    }
}

impl Transcoding {
    /// Writes an instance in the first of the syntaxes that it fits.
    ///
    /// # Errors
    /// [`TranscodingError`].
    pub async fn make(&self, wish: Wish) -> Result<Transcoded, TranscodingError> {
        let prepared = self.prepare(&wish).await?;
        let room = self.spool.try_reserve(prepared.estimate())?;
        let written = self.write(&prepared, &room).await?;
        Ok(written.with(prepared, room))
    }

    /// As [`make`](Self::make), for an answer that has begun: waits where there is no room now.
    /// `before` ends once the instance before it has its room; `after` is dropped once this one has.
    async fn make_patiently(
        &self,
        wish: Wish,
        before: Option<oneshot::Receiver<()>>,
        after: oneshot::Sender<()>,
    ) -> Result<Transcoded, BodyError> {
        let unreadable = |error: TranscodingError| BodyError::Unreadable(error.to_string());
        let prepared = loop {
            match self.prepare(&wish).await {
                Err(TranscodingError::Pool(PoolError::Busy)) => {
                    tokio::time::sleep(PATIENCE).await;
                }
                prepared => break prepared.map_err(unreadable)?,
            }
        };
        if let Some(before) = before {
            let _ = before.await;
        }
        let room = self.spool.reserve(prepared.estimate()).await;
        drop(after);
        let room = room.map_err(|error| unreadable(error.into()))?;
        loop {
            match self.write(&prepared, &room).await {
                Err(TranscodingError::Pool(PoolError::Busy)) => {
                    tokio::time::sleep(PATIENCE).await;
                }
                written => return Ok(written.map_err(unreadable)?.with(prepared, room)),
            }
        }
    }

    async fn prepare(&self, wish: &Wish) -> Result<Prepared, TranscodingError> {
        let stored = &wish.item.entry().transfer_syntax;
        let image = frames::open_in(&self.pool, &wish.item).await;
        let image = match image {
            Ok(image) => image.ok_or(TranscodingError::PassesBy)?,
            Err(PoolError::Pixels(PixelError::NoPixels)) => {
                return Err(NotAcceptable::transfer_syntax([stored]).into());
            }
            Err(error) => return Err(error.into()),
        };
        let fits = |target: &&TransferSyntaxUid| can_transcode(image.shape(), stored, target);
        let Some(target) = wish.targets.iter().find(fits).cloned() else {
            return Err(NotAcceptable::transfer_syntax([stored]).into());
        };
        let entry = wish.item.entry();
        // A deflated head is longer than it is stored.
        let head = entry.head_length.max(image.head_bytes());
        Ok(Prepared {
            besides: head.saturating_add(entry.tail_length),
            image,
            target,
            edits: Arc::clone(&wish.edits),
        })
    }

    async fn write(&self, prepared: &Prepared, room: &Share) -> Result<Written, TranscodingError> {
        let (file, most) = (self.spool.file(), room.bytes());
        let image = Arc::clone(&prepared.image);
        let memory = image.shape().working_memory() + IN_MEMORY as u64;
        let target = prepared.target.clone();
        let options = TranscodeOptions {
            edits: Arc::clone(&prepared.edits),
            ..self.pool.transcoding()
        };
        let made = self.pool.run(memory, move || {
            let mut out = Measured {
                inner: file,
                length: 0,
                most,
            };
            transcode_image(&image, &target, &options, &mut out)?;
            Ok(Written {
                length: out.length,
                content: out.inner.into_inner(),
            })
        });
        made.await.map_err(|error| match error {
            PoolError::Pixels(PixelError::Output(error)) => TranscodingError::NoRoom(error),
            error => TranscodingError::Pool(error),
        })
    }
}

/// A result.
struct Written {
    length: u64,
    content: SpooledData,
}

impl Written {
    fn with(self, prepared: Prepared, mut room: Share) -> Transcoded {
        room.shrink(self.length);
        Transcoded {
            transfer_syntax: prepared.target,
            length: self.length,
            content: self.content,
            room,
        }
    }
}

impl Transcoded {
    /// Its bytes, [`length`](Self::length) of them, and their room, which is to be kept until they
    /// were sent.
    #[must_use]
    pub fn into_bytes(self) -> (ItemBytes, Share) {
        let bytes = match self.content {
            SpooledData::InMemory(content) => ItemBytes::in_memory(content.into_inner().into()),
            SpooledData::OnDisk(file) => ItemBytes::of_file(Arc::new(file), self.length),
        };
        (bytes, self.room)
    }
}

/// The instances of an answer, made a little ahead of their turn and in order.
pub struct Ahead {
    transcoding: Transcoding,
    first: Option<Transcoded>,
    wishes: VecDeque<Wish>,
    making: VecDeque<AbortOnDropHandle<Result<Transcoded, BodyError>>>,
    /// Ends once the last of them has its room: they get it in the order in which they are sent.
    last: Option<oneshot::Receiver<()>>,
}

impl Ahead {
    /// Nothing yet; `first`: the result for the first wish, which was made to know the status.
    #[must_use]
    pub fn new(transcoding: Transcoding, first: Option<Transcoded>) -> Self {
        Self {
            transcoding,
            first,
            wishes: VecDeque::new(),
            making: VecDeque::new(),
            last: None,
        }
    }

    /// Adds an instance at the end.
    pub fn push(&mut self, wish: Wish) {
        self.wishes.push_back(wish);
    }

    /// The next of those that were added.
    ///
    /// # Errors
    /// Why it could not be made.
    pub async fn next(&mut self) -> Result<Transcoded, BodyError> {
        if let Some(first) = self.first.take() {
            self.wishes.pop_front();
            self.start();
            return Ok(first);
        }
        self.start();
        let Some(making) = self.making.pop_front() else {
            return Err(BodyError::NotAcceptable);
        };
        let made = making.await.map_err(io::Error::other)?;
        self.start();
        made
    }

    fn start(&mut self) {
        while self.making.len() < AHEAD
            && let Some(wish) = self.wishes.pop_front()
        {
            let transcoding = self.transcoding.clone();
            let (after, next) = oneshot::channel();
            let before = self.last.replace(next);
            let making = async move { transcoding.make_patiently(wish, before, after).await };
            self.making
                .push_back(AbortOnDropHandle::new(tokio::spawn(making)));
        }
    }
}
