//! What the health pages tell: each PACS is asked now and then with a C-ECHO.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::admin::{CacheHealth, PacsHealth, Readiness};
use crate::cache::Cache;
use crate::studies::Studies;

/// Time between two looks at a PACS that answers.
const EVERY: Duration = Duration::from_secs(30);
/// Time between two looks at a PACS that does not.
const EVERY_WHILE_DOWN: Duration = Duration::from_secs(5);

/// The state of the gateway's surroundings.
pub(super) struct Health {
    pacs: Vec<Watched>,
    cache: Arc<Cache>,
    max_bytes: u64,
    stopping: AtomicBool,
}

struct Watched {
    studies: Arc<Studies>,
    state: Mutex<PacsHealth>,
}

impl Health {
    /// Starts to watch the PACS, until `stop`.
    pub(super) fn start(parts: &Parts, max_bytes: u64, stop: CancellationToken) -> Arc<Self> {
        let mut pacs: Vec<Watched> = parts
            .studies
            .values()
            .map(|studies| Watched {
                studies: Arc::clone(studies),
                state: Mutex::new(PacsHealth {
                    name: studies.name().to_owned(),
                    up: false,
                    since: SystemTime::now(),
                    last_error_kind: None,
                }),
            })
            .collect();
        pacs.sort_by(|a, b| a.studies.name().cmp(b.studies.name()));
        let health = Arc::new(Self {
            pacs,
            cache: Arc::clone(&parts.cache),
            max_bytes,
            stopping: AtomicBool::new(false),
        });
        for at in 0..health.pacs.len() {
            let health = Arc::clone(&health);
            let stop = stop.clone();
            tokio::spawn(async move {
                stop.run_until_cancelled(health.watch(at)).await;
            });
        }
        health
    }

    /// From now on the service is not ready.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn watch(&self, at: usize) {
        let Some(watched) = self.pacs.get(at) else {
            return;
        };
        loop {
            let outcome = watched.studies.archive().verify().await;
            let up = outcome.is_ok();
            {
                let mut state = watched.state.lock();
                if state.up != up {
                    state.up = up;
                    state.since = SystemTime::now();
                }
                if let Err(error) = &outcome {
                    state.last_error_kind = Some(error.cause());
                }
            }
            let up_gauge = if up { 1.0 } else { 0.0 };
            metrics::gauge!("drimbox_pacs_up", "pacs" => watched.studies.name().to_owned())
                .set(up_gauge);
            tokio::time::sleep(if up { EVERY } else { EVERY_WHILE_DOWN }).await;
        }
    }
}

impl Readiness for Health {
    fn pacs(&self) -> BoxFuture<'_, Vec<PacsHealth>> {
        async move {
            self.pacs
                .iter()
                .map(|watched| watched.state.lock().clone())
                .collect()
        }
        .boxed()
    }

    fn cache(&self) -> CacheHealth {
        let (series, bytes) = self.cache.size();
        CacheHealth {
            degraded: self.cache.is_degraded(),
            series,
            bytes,
            max_bytes: self.max_bytes,
        }
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
