//! HTTP/2 streams whose client stops taking data.
//!
//! Flow control lets a client hold one stream for ever while the connection lives on, without any
//! write waiting at the socket. A stream therefore ends on its own when its body was not asked for
//! more during the time a client is given to accept a byte.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// What became of a body's data: asked for, or handed over and waiting for the client.
#[derive(Debug, Default)]
pub(super) struct Progress {
    asked: AtomicU64,
    handed_over: AtomicBool,
}

impl Progress {
    /// That of the HTTP/2 stream this task serves; `None` on HTTP/1.1, where the socket tells.
    pub(super) fn current() -> Option<Arc<Self>> {
        PROGRESS.try_with(Arc::clone).ok()
    }

    /// The transport has room for more.
    pub(super) fn asked(&self) {
        self.handed_over.store(false, Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// The transport holds data for the client.
    pub(super) fn handed_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// Ends once data waited for the client during one whole `limit` (noticed within two).
    async fn stalled(&self, limit: Duration) {
        let mut before = None;
        loop {
            let waiting = self.handed_over.load(Ordering::Relaxed);
            let now = waiting.then(|| self.asked.load(Ordering::Relaxed));
            if now.is_some() && now == before {
                return;
            }
            before = now;
            tokio::time::sleep(limit).await;
        }
    }
}

/// Runs the streams of one HTTP/2 connection: each until it is done, its client stalls, or the
/// connection is gone.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) limit: Duration,
    pub(super) connection_gone: CancellationToken,
    pub(super) listener: &'static str,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self {
            limit,
            connection_gone,
            listener,
        } = self.clone();
        let progress = Arc::new(Progress::default());
        tokio::spawn(PROGRESS.scope(progress.clone(), async move {
            tokio::select! {
                // The stream first: what it can still hand over counts.
                biased;
                () = stream => {}
                () = connection_gone.cancelled() => {}
                () = progress.stalled(limit) => {
                    metrics::counter!("drimbox_http_stalled_streams_total", "listener" => listener)
                        .increment(1);
                    tracing::info!(listener, "stream ended: its client accepted no data");
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn data_nobody_takes_ends_the_wait() {
        let progress = Progress::default();
        progress.handed_over();
        let before = Instant::now();
        progress.stalled(LIMIT).await;
        assert!(before.elapsed() >= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_nothing_to_send_is_not_stalled() {
        let progress = Progress::default();
        progress.handed_over();
        progress.asked();
        let outcome = tokio::time::timeout(LIMIT * 100, progress.stalled(LIMIT)).await;
        assert!(
            outcome.is_err(),
            "waiting for the archive was taken for a stalled client"
        );
    }
}
