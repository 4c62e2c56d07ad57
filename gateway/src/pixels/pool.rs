//! Where decoding runs: a bounded number of threads, a bounded queue, bounded memory.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{PixelError, PixelLimits};
use super::transcode::TranscodeOptions;
use super::worker::Codecs;

/// Memory is counted in pieces of this size.
const PIECE: u64 = 64 << 10;

/// Bounds of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Jobs that run at the same time.
    pub workers: NonZeroUsize,
    /// Jobs that wait; one more is refused.
    pub queue: usize,
    /// Bytes that the running jobs are estimated to take together.
    pub memory: u64,
}

impl Default for PoolLimits {
    /// One job for each processor, 256 waiting, 1 GiB.
    fn default() -> Self {
        let one = NonZeroUsize::MIN;
        Self {
            workers: std::thread::available_parallelism().unwrap_or(one),
            queue: 256,
            memory: 1 << 30,
        }
    }
}

/// Why a job gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The queue is full: 503 with Retry-After.
    #[error(
        "too many images are being decoded; try again in a moment, and if this persists raise the number of decoding jobs"
    )]
    Busy,
    /// One job alone would take more memory than all may.
    #[error(
        "the image takes {needed} bytes to decode where {limit} are allowed; raise the limit on decoding memory or ask for the object as it is stored"
    )]
    TooLarge {
        /// The estimate in bytes.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The job ended without a result.
    #[error("decoding stopped without an answer; ask for the object as it is stored")]
    Stopped,
    /// The job's own error.
    #[error(transparent)]
    Pixels(#[from] PixelError),
}

/// The pool; clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    codecs: Codecs,
    pixels: PixelLimits,
    workers: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    limits: PoolLimits,
    pieces: u32,
}

impl Pool {
    /// A pool without work.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        let pieces = u32::try_from(limits.memory / PIECE)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            codecs: Codecs::InProcess,
            pixels: PixelLimits::default(),
            workers: Arc::new(Semaphore::new(
                limits.workers.get().min(Semaphore::MAX_PERMITS),
            )),
            memory: Arc::new(Semaphore::new(pieces as usize)),
            waiting: Arc::new(AtomicUsize::new(0)),
            limits,
            pieces,
        }
    }

    /// The same pool, whose jobs are to keep these bounds and use codecs there.
    #[must_use]
    pub fn with(self, pixels: PixelLimits, codecs: Codecs) -> Self {
        Self {
            codecs,
            pixels,
            ..self
        }
    }

    /// Where jobs of this pool run codecs written in C and C++: hand it to
    /// [`StoredImage::with_codecs`](super::StoredImage::with_codecs) and
    /// [`TranscodeOptions`](super::TranscodeOptions).
    #[must_use]
    pub fn codecs(&self) -> Codecs {
        self.codecs.clone()
    }

    /// The bounds on one object for jobs of this pool.
    #[must_use]
    pub fn pixel_limits(&self) -> PixelLimits {
        self.pixels
    }

    /// How jobs of this pool transcode.
    #[must_use]
    pub fn transcoding(&self) -> TranscodeOptions {
        TranscodeOptions {
            limits: self.pixels,
            codecs: self.codecs.clone(),
            ..TranscodeOptions::default()
        }
    }

    /// Runs a job that blocks, when there is room for it. `memory` is an estimate in bytes of what it
    /// takes: see [`ImageShape::working_memory`](super::ImageShape::working_memory).
    ///
    /// A caller that goes away while its job waits takes the job with it; a job that runs goes on to
    /// its end, and keeps its place until then.
    ///
    /// # Errors
    /// [`PoolError::Busy`], [`PoolError::TooLarge`] before the job starts; the job's own error;
    /// [`PoolError::Stopped`] when it panicked.
    pub async fn run<T, F>(&self, memory: u64, job: F) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, PixelError> + Send + 'static,
    {
        let pieces = u32::try_from(memory.div_ceil(PIECE)).unwrap_or(u32::MAX);
        if pieces > self.pieces {
            return Err(PoolError::TooLarge {
                needed: memory,
                limit: self.limits.memory,
            });
        }
        let places = self.places(pieces).await?;
        let job = move || {
            let result = job();
            drop(places);
            result
        };
        match tokio::task::spawn_blocking(job).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(PoolError::Stopped),
        }
    }

    /// Jobs that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn places(&self, pieces: u32) -> Result<[OwnedSemaphorePermit; 2], PoolError> {
        let now = || {
            let worker = Arc::clone(&self.workers).try_acquire_owned().ok()?;
            let memory = Arc::clone(&self.memory)
                .try_acquire_many_owned(pieces)
                .ok()?;
            Some([worker, memory])
        };
        if let Some(places) = now() {
            return Ok(places);
        }
        let _waiting = Waiting::enter(&self.waiting, self.limits.queue).ok_or(PoolError::Busy)?;
        // Memory first: who waits for it holds no thread.
        let memory = Arc::clone(&self.memory).acquire_many_owned(pieces).await;
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        // The semaphores are never closed.
        match (worker, memory) {
            (Ok(worker), Ok(memory)) => Ok([worker, memory]),
            _ => Err(PoolError::Stopped),
        }
    }
}

/// A place in the queue, given back when it is dropped.
struct Waiting<'q>(&'q AtomicUsize);

impl<'q> Waiting<'q> {
    fn enter(queue: &'q AtomicUsize, most: usize) -> Option<Self> {
        queue
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < most).then_some(count + 1)
            })
            .ok()
            .map(|_| Self(queue))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::mpsc;

    use super::*;

    fn pool(workers: usize, queue: usize, memory: u64) -> Pool {
        Pool::new(PoolLimits {
            workers: NonZeroUsize::new(workers).unwrap(),
            queue,
            memory,
        })
    }

    /// A job that runs until it is released.
    fn held(
        pool: &Pool,
        memory: u64,
    ) -> (
        tokio::task::JoinHandle<Result<(), PoolError>>,
        mpsc::Sender<()>,
    ) {
        let (release, held) = mpsc::channel();
        let pool = pool.clone();
        let job = tokio::spawn(async move {
            let wait = move || {
                held.recv().ok();
                Ok(())
            };
            pool.run(memory, wait).await
        });
        (job, release)
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_job_more_than_the_queue_holds_is_refused_and_those_before_run() {
        let pool = pool(1, 1, 1 << 20);
        let (first, release) = held(&pool, 1);
        until(|| pool.workers.available_permits() == 0).await;
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(1, || Ok(2)).await }
        });
        until(|| pool.waiting() == 1).await;
        assert!(matches!(pool.run(1, || Ok(3)).await, Err(PoolError::Busy)));
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(pool.waiting(), 0);
    }

    #[tokio::test]
    async fn jobs_wait_for_memory_as_they_do_for_threads() {
        let pool = pool(8, 8, 10 * PIECE);
        let (first, release) = held(&pool, 8 * PIECE);
        until(|| pool.memory.available_permits() == 2).await;
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(3 * PIECE, || Ok(())).await }
        });
        until(|| pool.waiting() == 1).await;
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        assert!(matches!(
            pool.run(11 * PIECE, || Ok(())).await,
            Err(PoolError::TooLarge { .. })
        ));
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_its_place() {
        let pool = pool(1, 1, 1 << 20);
        let (first, release) = held(&pool, 1);
        until(|| pool.workers.available_permits() == 0).await;
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(1, || Ok(())).await }
        });
        until(|| pool.waiting() == 1).await;
        second.abort();
        until(|| pool.waiting() == 0).await;
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        pool.run(1, || Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_job_that_panics_gives_an_error_and_its_place_back() {
        let pool = pool(1, 0, 1 << 20);
        let result = pool.run::<(), _>(1, || panic!("a codec")).await;
        assert!(matches!(result, Err(PoolError::Stopped)));
        until(|| pool.workers.available_permits() == 1).await;
        pool.run(1, || Ok(())).await.unwrap();
    }
}
