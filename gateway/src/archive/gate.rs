//! How many requests an archive gets at once, how many more may wait, and when a failing archive is
//! left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::ArchiveError;

/// Failures in a row after which nothing new is tried for a while.
const FAILURES_BEFORE_BACK_OFF: u32 = 3;
/// First pause; doubled at every further failure.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// Bounds of a [`Gate`].
#[derive(Debug, Clone, Copy)]
pub struct GateLimits {
    /// Exchanges at once.
    pub places: usize,
    /// Requests that wait for a place at most.
    pub max_waiting: usize,
    /// Time a request waits for a place.
    pub patience: Duration,
}

/// The way to one archive.
pub struct Gate {
    name: Arc<str>,
    limits: GateLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    breaker: Mutex<Breaker>,
    /// Name of the gauge that is 1 while the archive is left alone.
    paused_gauge: &'static str,
}

/// A place at an archive, free again when dropped.
pub type Place = OwnedSemaphorePermit;

#[derive(Default)]
struct Breaker {
    failures: u32,
    pause: Option<(Instant, ArchiveError)>,
}

impl Gate {
    /// The gate of the archive of this name. `paused_gauge` is the metric that tells its pauses.
    #[must_use]
    pub fn new(name: &str, limits: GateLimits, paused_gauge: &'static str) -> Self {
        Self {
            name: name.into(),
            permits: Arc::new(Semaphore::new(limits.places)),
            limits,
            waiting: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::default()),
            paused_gauge,
        }
    }

    /// Name of the archive in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Places taken now.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let free = self.permits.available_permits();
        self.limits.places.saturating_sub(free)
    }

    /// Takes a place, waiting for one if need be.
    ///
    /// # Errors
    /// [`ArchiveError::Busy`], [`ArchiveError::BackingOff`].
    pub async fn enter(&self) -> Result<Place, ArchiveError> {
        self.check()?;
        if let Some(place) = self.try_enter() {
            return Ok(place);
        }
        let _waiting = Waiting::enter(&self.waiting, self.limits.max_waiting)?;
        let place = Arc::clone(&self.permits).acquire_owned();
        match timeout(self.limits.patience, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(ArchiveError::Busy {
                waiting: self.waiting.load(Ordering::Relaxed),
            }),
        }
    }

    /// Takes a place if one is free.
    #[must_use]
    pub fn try_enter(&self) -> Option<Place> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Whether the archive may be tried now.
    ///
    /// # Errors
    /// [`ArchiveError::BackingOff`].
    pub fn check(&self) -> Result<(), ArchiveError> {
        let breaker = self.breaker.lock();
        match &breaker.pause {
            Some((until, last)) => {
                let retry_after = until.saturating_duration_since(Instant::now());
                if retry_after.is_zero() {
                    return Ok(());
                }
                Err(ArchiveError::BackingOff {
                    retry_after,
                    last: Box::new(last.clone()),
                })
            }
            None => Ok(()),
        }
    }

    /// Notes whether the archive could be reached.
    pub fn record(&self, outcome: Result<(), &ArchiveError>) {
        let mut breaker = self.breaker.lock();
        match outcome {
            Ok(()) => {
                if breaker.failures > 0 {
                    tracing::info!(pacs = %self.name, "the PACS answers again");
                }
                *breaker = Breaker::default();
            }
            Err(error) => {
                breaker.failures = breaker.failures.saturating_add(1);
                tracing::warn!(pacs = %self.name, failures = breaker.failures, "{error}");
                if let Some(step) = breaker.failures.checked_sub(FAILURES_BEFORE_BACK_OFF) {
                    let pause = FIRST_BACK_OFF
                        .saturating_mul(1_u32.checked_shl(step).unwrap_or(u32::MAX))
                        .min(LONGEST_BACK_OFF);
                    breaker.pause = Some((Instant::now() + pause, error.clone()));
                }
            }
        }
        let paused = if breaker.pause.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!(self.paused_gauge, "pacs" => self.name.to_string()).set(paused);
    }
}

/// A place in the queue for a permit.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(counter: &'a AtomicUsize, most: usize) -> Result<Self, ArchiveError> {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        let place = Self(counter);
        if before >= most {
            return Err(ArchiveError::Busy { waiting: before });
        }
        Ok(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
