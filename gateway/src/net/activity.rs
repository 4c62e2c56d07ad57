//! Which requests of a connection are open, so that one without any does not stay for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The requests of one connection. Clones share one count.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<watch::Sender<usize>>);

/// A request, from its head to the last byte of its answer; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct Open(Activity);

impl Activity {
    /// Of a connection that had no request yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// One more request.
    pub(super) fn begins(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }

    /// Ends once no request was open for `later`, or none came within `first`. Whether one came.
    pub(super) async fn quiet(&self, first: Duration, later: Duration) -> bool {
        let mut open = self.0.subscribe();
        let mut asked = *open.borrow_and_update() > 0;
        loop {
            let limit = if asked { later } else { first };
            let busy = *open.borrow_and_update() > 0;
            let changed = async {
                match busy {
                    true => Ok(open.changed().await),
                    false => tokio::time::timeout(limit, open.changed()).await,
                }
            };
            match changed.await {
                // Also one that began and ended since.
                Ok(Ok(())) => asked = true,
                Ok(Err(_)) | Err(_) => return asked,
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const FIRST: Duration = Duration::from_secs(10);
    const LATER: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_noticed_early() {
        let before = Instant::now();
        assert!(!Activity::new().quiet(FIRST, LATER).await);
        assert_eq!(before.elapsed().as_secs(), FIRST.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_request_keeps_its_connection() {
        let activity = Activity::new();
        let open = activity.begins();
        let quiet = activity.quiet(FIRST, LATER);
        let outcome = tokio::time::timeout(LATER * 1_000, quiet).await;
        assert!(outcome.is_err(), "taken for quiet while a request was open");
        drop(open);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_now_and_then_keep_it_until_they_stop() {
        let activity = Activity::new();
        let before = Instant::now();
        let asking = async {
            for _ in 0..10 {
                tokio::time::sleep(FIRST / 2).await;
                drop(activity.begins());
            }
        };
        let (asked, ()) = tokio::join!(activity.quiet(FIRST, LATER), asking);
        assert!(asked);
        assert_eq!(before.elapsed(), FIRST * 5 + LATER);
    }
}
