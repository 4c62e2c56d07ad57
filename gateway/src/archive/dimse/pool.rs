//! Associations with one PACS: how many at once, which are kept for the next request, and when to
//! leave a failing PACS alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::upper_layer::{Association, Local, ProposedContext};
use crate::archive::ArchiveError;
use crate::archive::gate::{Gate, GateLimits, Place};
use crate::archive::socket::{Socket, Tls};
use crate::config::PacsDimse;

/// Associations with one PACS.
pub struct Pool {
    gate: Gate,
    settings: PacsDimse,
    tls: Option<Tls>,
    idle: Mutex<Vec<Idle>>,
    coming: Mutex<Vec<Coming>>,
    message_id: AtomicU16,
}

/// An association nobody uses, kept for the next request with the same contexts.
struct Idle {
    association: Association,
    contexts: Arc<[ProposedContext]>,
    since: Instant,
}

/// An association that is being opened ahead of the request that will need it.
struct Coming {
    contexts: Arc<[ProposedContext]>,
    /// Closed once the association is idle, or did not come about.
    here: watch::Receiver<()>,
}

/// An association in use; dropped without [`Lease::keep`] or [`Lease::release`] it is aborted.
pub struct Lease {
    association: Option<Association>,
    contexts: Arc<[ProposedContext]>,
    pool: Arc<Pool>,
    reused: bool,
    place: Option<Place>,
}

impl Pool {
    /// A pool without any association yet.
    #[must_use]
    pub fn new(name: &str, settings: PacsDimse, tls: Option<Tls>) -> Arc<Self> {
        let limits = GateLimits {
            places: settings.max_associations,
            max_waiting: settings.max_waiting,
            patience: settings.response_timeout,
        };
        Arc::new(Self {
            gate: Gate::new(name, limits, "drimbox_dimse_breaker_open"),
            settings,
            tls,
            idle: Mutex::new(Vec::new()),
            coming: Mutex::new(Vec::new()),
            message_id: AtomicU16::new(1),
        })
    }

    /// Name of the PACS in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        self.gate.name()
    }

    /// The PACS as configured.
    #[must_use]
    pub fn settings(&self) -> &PacsDimse {
        &self.settings
    }

    /// The next message identifier on this PACS.
    pub fn next_message_id(&self) -> u16 {
        self.message_id.fetch_add(1, Ordering::Relaxed).max(1)
    }

    /// An association with these contexts: an idle one, else a new one. Waits for a free place.
    ///
    /// # Errors
    /// [`ArchiveError::Busy`], [`ArchiveError::BackingOff`], or why the association failed.
    pub async fn acquire(
        self: &Arc<Self>,
        contexts: &Arc<[ProposedContext]>,
    ) -> Result<Lease, ArchiveError> {
        let place = self.gate.enter().await?;
        if let Some(association) = self.take_idle(contexts) {
            return Ok(self.lease(association, contexts, place, true));
        }
        if let Some(mut here) = self.coming(contexts) {
            // It closes at the latest when the association times out.
            let _ = here.changed().await;
            if let Some(association) = self.take_idle(contexts) {
                return Ok(self.lease(association, contexts, place, true));
            }
        }
        self.open(contexts, place).await
    }

    /// Opens an association that will be needed in a moment, unless there is one already or the
    /// places are taken. A failure is noted like any other, and left to the request that follows.
    pub fn anticipate(self: &Arc<Self>, contexts: Arc<[ProposedContext]>) {
        if self.gate.check().is_err() || self.has_idle(&contexts) {
            return;
        }
        let Some(place) = self.gate.try_enter() else {
            return;
        };
        let (done, here) = watch::channel(());
        {
            let mut coming = self.coming.lock();
            if coming.iter().any(|entry| entry.contexts == contexts) {
                return;
            }
            let contexts = Arc::clone(&contexts);
            coming.push(Coming { contexts, here });
        }
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(lease) = pool.open(&contexts, place).await {
                lease.keep();
            }
            pool.coming
                .lock()
                .retain(|entry| entry.contexts != contexts);
            drop(done);
        });
    }

    /// Releases idle associations past their time; called now and then.
    pub async fn sweep(&self) {
        let limit = self.settings.idle_timeout;
        let past = |entry: &Idle| entry.since.elapsed() >= limit;
        while self.idle.lock().iter().any(past) {
            // Until the PACS has said goodbye an association counts: it has a place. Without a free
            // place nothing is idle.
            let Some(_place) = self.gate.try_enter() else {
                return;
            };
            let old = {
                let mut idle = self.idle.lock();
                idle.iter().position(past).map(|at| idle.swap_remove(at))
            };
            if let Some(entry) = old {
                entry.association.release().await;
            }
        }
    }

    /// Releases every idle association, at the end of the service.
    pub async fn close(&self) {
        let all = std::mem::take(&mut *self.idle.lock());
        for entry in all {
            entry.association.release().await;
        }
    }

    fn coming(&self, contexts: &Arc<[ProposedContext]>) -> Option<watch::Receiver<()>> {
        let coming = self.coming.lock();
        let found = coming.iter().find(|entry| entry.contexts == *contexts);
        found.map(|entry| entry.here.clone())
    }

    fn has_idle(&self, contexts: &Arc<[ProposedContext]>) -> bool {
        let idle = self.idle.lock();
        idle.iter().any(|entry| entry.contexts == *contexts)
    }

    /// What is past its time is left for [`Self::sweep`], which takes leave of the PACS.
    fn take_idle(&self, contexts: &Arc<[ProposedContext]>) -> Option<Association> {
        let mut idle = self.idle.lock();
        let fits = |entry: &Idle| {
            entry.contexts == *contexts && entry.since.elapsed() < self.settings.idle_timeout
        };
        while let Some(at) = idle.iter().rposition(fits) {
            let entry = idle.swap_remove(at);
            if !entry.association.is_stale() {
                return Some(entry.association);
            }
        }
        None
    }

    async fn open(
        self: &Arc<Self>,
        contexts: &Arc<[ProposedContext]>,
        place: Place,
    ) -> Result<Lease, ArchiveError> {
        self.gate.check()?;
        self.make_room().await;
        let limit = self.settings.connect_timeout;
        let outcome = match timeout(limit, self.associate(contexts)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ArchiveError::TimedOut {
                address: self.address(),
                stage: "association",
                after: limit,
            }),
        };
        self.record(&outcome);
        outcome.map(|association| self.lease(association, contexts, place, false))
    }

    async fn associate(&self, contexts: &[ProposedContext]) -> Result<Association, ArchiveError> {
        let address = self.address();
        let (host, port) = (self.settings.host.as_str(), self.settings.port);
        let socket = Socket::connect(host, port, self.tls.as_ref()).await?;
        let local = Local {
            ae_title: &self.settings.calling_ae_title,
            max_pdu: self.settings.max_pdu,
            response_timeout: self.settings.response_timeout,
        };
        Association::request(socket, address, local, &self.settings.ae_title, contexts).await
    }

    fn lease(
        self: &Arc<Self>,
        association: Association,
        contexts: &Arc<[ProposedContext]>,
        place: Place,
        reused: bool,
    ) -> Lease {
        metrics::gauge!("drimbox_dimse_associations", "pacs" => self.name().to_owned())
            .increment(1.0);
        Lease {
            association: Some(association),
            contexts: Arc::clone(contexts),
            pool: Arc::clone(self),
            reused,
            place: Some(place),
        }
    }

    /// The PACS counts idle associations too: the oldest gives way to a new one.
    async fn make_room(&self) {
        let in_use = self.gate.in_use();
        let surplus = {
            let mut idle = self.idle.lock();
            let oldest = idle.iter().enumerate().min_by_key(|(_, entry)| entry.since);
            match oldest.map(|(at, _)| at) {
                Some(at) if in_use + idle.len() > self.settings.max_associations => {
                    Some(idle.swap_remove(at))
                }
                _ => None,
            }
        };
        if let Some(entry) = surplus {
            entry.association.release().await;
        }
    }

    fn record(&self, outcome: &Result<Association, ArchiveError>) {
        if outcome.is_ok() {
            metrics::counter!("drimbox_dimse_associations_opened_total", "pacs" => self.name().to_owned())
                .increment(1);
        }
        self.gate.record(outcome.as_ref().map(|_| ()));
    }

    fn address(&self) -> String {
        format!("{}:{}", self.settings.host, self.settings.port)
    }
}

impl Lease {
    /// The association.
    ///
    /// # Errors
    /// Never after [`Pool::acquire`]: the association is there until [`Self::keep`] takes it.
    pub fn association(&mut self) -> Result<&mut Association, ArchiveError> {
        self.association.as_mut().ok_or(ArchiveError::Cancelled)
    }

    /// Whether the association served before: it may have died since.
    #[must_use]
    pub fn was_reused(&self) -> bool {
        self.reused
    }

    /// A new association in the place of this one, which turned out to be dead.
    ///
    /// # Errors
    /// Why the association failed.
    pub async fn renew(mut self) -> Result<Self, ArchiveError> {
        if let Some(dead) = self.association.take() {
            dead.abort().await;
        }
        let place = self.place.take().ok_or(ArchiveError::Cancelled)?;
        self.pool.open(&self.contexts, place).await
    }

    /// Ends the association in good order: its last response has been read, but it is of no use to
    /// the next request.
    pub async fn release(mut self) {
        if let Some(association) = self.association.take() {
            association.release().await;
        }
    }

    /// Gives the association back for the next request: its last response has been read.
    pub fn keep(mut self) {
        if let Some(association) = self.association.take() {
            let entry = Idle {
                association,
                contexts: Arc::clone(&self.contexts),
                since: Instant::now(),
            };
            self.pool.idle.lock().push(entry);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        metrics::gauge!("drimbox_dimse_associations", "pacs" => self.pool.name().to_owned())
            .decrement(1.0);
        let place = self.place.take();
        if let Some(association) = self.association.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                association.abort().await;
                // The PACS counts it until then.
                drop(place);
            });
        }
    }
}
