//! How many requests an archive gets at once, how many more may wait, and when a failing archive is
//! left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn the_pauses_of_a_failing_archive_double_up_to_the_longest() {
        let gate = gate(1, 0);
        gate.record(Err(&refused()));
        gate.record(Err(&refused()));
        assert_eq!(gate.check(), Ok(()), "two failures are no outage");
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            gate.record(Err(&refused()));
            assert_eq!(pause(&gate), Duration::from_secs(seconds));
            assert!(gate.enter().await.is_err(), "a place during a pause");
            advance(pause(&gate)).await;
            assert_eq!(gate.check(), Ok(()), "after {seconds} s");
            assert!(gate.enter().await.is_ok(), "after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_failures_there_were_the_pause_is_the_longest() {
        let gate = gate(1, 0);
        for _ in 0..100 {
            gate.record(Err(&refused()));
        }
        assert_eq!(pause(&gate), LONGEST_BACK_OFF);
    }

    #[tokio::test(start_paused = true)]
    async fn an_archive_that_answers_again_starts_from_nothing() {
        let gate = gate(1, 0);
        for _ in 0..5 {
            gate.record(Err(&refused()));
        }
        gate.record(Ok(()));
        assert_eq!(gate.check(), Ok(()));
        gate.record(Err(&refused()));
        gate.record(Err(&refused()));
        assert_eq!(gate.check(), Ok(()));
        gate.record(Err(&refused()));
        assert_eq!(pause(&gate), FIRST_BACK_OFF);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_place_and_who_finds_the_queue_full_none() {
        let gate = gate(2, 1);
        let (first, second) = (gate.enter().await.unwrap(), gate.enter().await.unwrap());
        assert_eq!(gate.in_use(), 2);
        assert!(gate.try_enter().is_none());
        let mut third = Box::pin(gate.enter());
        assert!((&mut third).now_or_never().is_none(), "three places of two");
        let fourth = gate.enter().await.map(|_| ());
        assert_eq!(fourth, Err(ArchiveError::Busy { waiting: 1 }));
        drop(first);
        let third = third.await.unwrap();
        assert_eq!(gate.in_use(), 2);
        drop((second, third));
        assert_eq!(gate.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_and_leaves_the_queue() {
        let gate = gate(1, 1);
        let _place = gate.enter().await.unwrap();
        let before = Instant::now();
        for _ in 0..2 {
            let waited = gate.enter().await.map(|_| ());
            assert!(
                matches!(waited, Err(ArchiveError::Busy { .. })),
                "{waited:?}"
            );
        }
        assert_eq!(before.elapsed(), 2 * PATIENCE);
    }

    fn gate(places: usize, max_waiting: usize) -> Gate {
        let limits = GateLimits {
            places,
            max_waiting,
            patience: PATIENCE,
        };
        Gate::new("pacs", limits, "drimbox_dimse_breaker_open")
    }

    fn refused() -> ArchiveError {
        ArchiveError::Aborted {
            address: "pacs:104".into(),
        }
    }

    /// Time until the archive may be tried again.
    fn pause(gate: &Gate) -> Duration {
        match gate.check() {
            Err(ArchiveError::BackingOff { retry_after, last }) => {
                assert_eq!(*last, refused());
                retry_after
            }
            other => panic!("no pause: {other:?}"),
        }
    }
}
