//! Instances written in another transfer syntax for a client that does not accept theirs.
//!
//! One instance is made whole before its first byte is sent: in memory while it is small, in an
//! unnamed file of the cache's disk beyond. So a slow client holds no decoder, and a damaged frame is
//! found while there is still a status to tell it with.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::{SpooledData, SpooledTempFile};
use tokio_util::task::AbortOnDropHandle;

use super::body::BodyError;
use super::frames;
use super::negotiate::NotAcceptable;
use super::problem::Problem;
use crate::dicom::edit::Edit;
use crate::dicom::uid::TransferSyntaxUid;
use crate::pixels::pool::{Pool, PoolError};
use crate::pixels::{PixelError, TranscodeOptions, can_transcode, transcode_image};
use crate::studies::Item;
use crate::studies::bytes::ItemBytes;

/// Bytes of a result kept in memory; a larger one goes to disk.
const IN_MEMORY: usize = 8 << 20;
/// Instances of one answer that are made while those before them are sent.
const AHEAD: usize = 2;
/// Time after which a full pool is asked again by an answer that has begun.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where instances are transcoded.
#[derive(Debug, Clone)]
pub struct Transcoding {
    /// What decodes and encodes.
    pub pool: Pool,
    /// Folder of results that are too large for memory; they have no name in it.
    pub spool: PathBuf,
}

/// An instance in another transfer syntax than its own.
pub struct Transcoded {
    /// The syntax.
    pub transfer_syntax: TransferSyntaxUid,
    /// Bytes of the Part 10 file.
    pub length: u64,
    content: SpooledData,
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
            TranscodingError::Pool(error) => frames::failed(error),
        }
    }
}

impl Transcoding {
    /// Writes an instance in the first of the syntaxes that it fits.
    ///
    /// # Errors
    /// [`TranscodingError`].
    pub async fn make(&self, wish: Wish) -> Result<Transcoded, TranscodingError> {
        let stored = wish.item.entry().transfer_syntax.clone();
        let image = frames::open_in(&self.pool, &wish.item).await;
        let image = match image {
            Ok(image) => image.ok_or(TranscodingError::PassesBy)?,
            Err(PoolError::Pixels(PixelError::NoPixels)) => {
                return Err(NotAcceptable::transfer_syntax([&stored]).into());
            }
            Err(error) => return Err(error.into()),
        };
        let fits = |target: &&TransferSyntaxUid| can_transcode(image.shape(), &stored, target);
        let Some(target) = wish.targets.iter().find(fits).cloned() else {
            return Err(NotAcceptable::transfer_syntax([&stored]).into());
        };
        let spool = SpooledTempFile::new_in(IN_MEMORY, &self.spool);
        let memory = image.shape().working_memory() + IN_MEMORY as u64;
        let transfer_syntax = target.clone();
        let options = TranscodeOptions {
            edits: wish.edits,
            ..self.pool.transcoding()
        };
        let made = self.pool.run(memory, move || {
            let mut out = Measured {
                inner: spool,
                length: 0,
            };
            transcode_image(&image, &target, &options, &mut out)?;
            Ok((out.length, out.inner.into_inner()))
        });
        let (length, content) = made.await.map_err(|error| match error {
            PoolError::Pixels(PixelError::Output(error)) => TranscodingError::NoRoom(error),
            error => TranscodingError::Pool(error),
        })?;
        Ok(Transcoded {
            transfer_syntax,
            length,
            content,
        })
    }

    /// As [`make`](Self::make), for an answer that has begun: waits where there is no room now.
    async fn make_patiently(&self, wish: Wish) -> Result<Transcoded, BodyError> {
        loop {
            match self.make(wish.clone()).await {
                Err(TranscodingError::Pool(PoolError::Busy)) => {
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(error) => return Err(BodyError::Unreadable(error.to_string())),
                Ok(made) => return Ok(made),
            }
        }
    }
}

impl Transcoded {
    /// Its bytes, [`length`](Self::length) of them.
    #[must_use]
    pub fn bytes(self) -> ItemBytes {
        match self.content {
            SpooledData::InMemory(content) => ItemBytes::in_memory(content.into_inner().into()),
            SpooledData::OnDisk(file) => ItemBytes::of_file(Arc::new(file), self.length),
        }
    }
}

/// The instances of an answer, made a little ahead of their turn and in order.
pub struct Ahead {
    transcoding: Transcoding,
    first: Option<Transcoded>,
    wishes: VecDeque<Wish>,
    making: VecDeque<AbortOnDropHandle<Result<Transcoded, BodyError>>>,
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
            let making = async move { transcoding.make_patiently(wish).await };
            self.making
                .push_back(AbortOnDropHandle::new(tokio::spawn(making)));
        }
    }
}

/// Counts what is written.
struct Measured<W> {
    inner: W,
    length: u64,
}

impl<W: io::Write> io::Write for Measured<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(data)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
