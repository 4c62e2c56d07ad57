//! A retrieval from its start to its end: asked of the archive, followed by readers, checked, kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::flight::{Group, Job, SeriesFlight};
use super::ingest::Ingest;
use super::{Flights, Reader, Registry, Studies, StudiesError, StudyListing, Wanted};
use crate::archive::{ArchiveError, RetrieveReport, RetrieveRequest, Scope};
use crate::dicom::uid::StudyUid;

/// Time after which a busy archive is asked again for a series whose readers have others to read.
const BUSY: Duration = Duration::from_millis(500);
/// Longest time that it is asked for.
const BUSY_FOR: Duration = Duration::from_secs(10 * 60);

/// What is to be retrieved at once.
pub(super) struct Retrieval {
    pub(super) scope: Scope,
    /// What it is known to hold.
    pub(super) wanted: Vec<Wanted>,
    /// The reader wants every series that arrives, also one that is not known.
    pub(super) whole: bool,
    /// Whether the archive said a short while ago what there is.
    pub(super) confirmed: bool,
    /// Places for the retrievals of the same request; none for one alone.
    pub(super) places: Option<Places>,
}

/// What the retrievals of one request share.
pub(super) struct Places {
    /// One permit for each that is at the archive.
    pub(super) at_once: Arc<Semaphore>,
    /// Whether the reader has something to read before this one begins.
    pub(super) may_wait: bool,
}

/// A retrieval that runs. However it ends, its readers are told that it did, and nobody joins it
/// any more.
struct Running {
    group: Arc<Group>,
    registry: Arc<Registry>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.group.outcome().is_none() {
            let error = StudiesError::Lost;
            metrics::counter!("drimbox_retrievals_failed_total", "cause" => error.cause())
                .increment(1);
            tracing::error!(pacs = %self.group.pacs, "a retrieval ended without an outcome");
            self.group.end(Err(error));
        }
        self.group.cancel.cancel();
        self.registry.forget(&self.group);
    }
}

impl Studies {
    /// Starts a retrieval and lets the reader follow it.
    pub(super) fn start(
        self: &Arc<Self>,
        flights: &mut Flights,
        reader: &mut Reader,
        retrieval: Retrieval,
    ) {
        let Retrieval {
            scope,
            wanted,
            whole,
            confirmed,
            places,
        } = retrieval;
        let expected: Option<u64> = wanted.iter().map(|series| series.expected).sum();
        let mut modalities: Vec<String> = Vec::new();
        let mut all_known = true;
        for series in &wanted {
            match &series.modality {
                Some(modality) => modalities.push(modality.clone()),
                None => all_known = false,
            }
        }
        if !all_known {
            modalities.clear();
        }
        if !modalities.is_empty() {
            self.last_modalities.lock().clone_from(&modalities);
        }
        let (group, work) = Group::new(
            &self.settings.pacs,
            scope.clone(),
            expected,
            Arc::clone(&self.cache),
            flights.turn(scope.study()),
        );
        for series in wanted {
            // What was said long ago binds nobody.
            let expected = series.expected.filter(|_| confirmed);
            let flight = group.add(series.key.series.clone(), expected);
            flights
                .by_key
                .insert(series.key, (Arc::clone(&flight), Arc::clone(&group)));
            reader.add_flight(flights, &flight, &group, whole);
        }
        let request = RetrieveRequest {
            scope,
            modalities,
            expected,
        };
        let running = Running {
            group,
            registry: Arc::clone(&self.registry),
        };
        let run = Arc::clone(self).run(running, work, request, confirmed, places);
        self.tasks.spawn(run);
    }

    /// Runs a retrieval to its end, whoever still waits for it.
    async fn run(
        self: Arc<Self>,
        running: Running,
        work: mpsc::Receiver<Job>,
        request: RetrieveRequest,
        confirmed: bool,
        places: Option<Places>,
    ) {
        let group = Arc::clone(&running.group);
        let _writer = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&group).write(work)));
        let sink = Arc::new(Ingest::new(
            Arc::clone(&group),
            Arc::clone(&self.cache),
            self.settings.limits,
        ));
        let stopping = {
            let stop = self.stop.clone();
            let cancel = group.cancel.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => cancel.cancel(),
                    () = cancel.cancelled() => {}
                }
            }))
        };
        let study = request.scope.study().clone();
        let ended = CancellationToken::new();
        let retrieve = async {
            let outcome = self.retrieve(&group, request, sink, places).await;
            ended.cancel();
            outcome
        };
        let confirm = async {
            if confirmed {
                return None;
            }
            // Not before the first instance: the archive does one thing at a time.
            tokio::select! {
                () = group.first_arrival() => {}
                () = ended.cancelled() => {}
            }
            let listing = self.listing(&study).await;
            if let Ok(listing) = &listing {
                group.expect(listing);
            }
            Some(listing)
        };
        let (outcome, listing) = tokio::join!(retrieve, confirm);
        let listing = match (&outcome, listing) {
            // The retrievals themselves had the places.
            (Ok(_), Some(Err(StudiesError::Archive(ArchiveError::Busy { .. })))) => {
                Some(self.listing_when_free(&study, &group.cancel).await)
            }
            (_, listing) => listing,
        };
        let (done, flushed) = oneshot::channel();
        let _ = group.jobs.send(Job::Flush(done)).await;
        let written = flushed.await.is_ok();
        drop(stopping);
        let outcome = match (outcome, listing) {
            // Whatever an archive says that is asked to send what it does not have any more.
            (_, Some(Err(StudiesError::Gone))) if !group.has_begun() => Err(StudiesError::Gone),
            (Err(error), _) => Err(StudiesError::Archive(error)),
            (Ok(_), _) if !written => Err(StudiesError::Internal("the writer stopped".into())),
            (Ok(_), Some(Err(error))) => Err(error),
            (Ok(report), _) if report.delivered == 0 => Err(StudiesError::NotFound),
            (Ok(_), Some(Ok(listing))) => check_counts(&group, Some(&listing)),
            (Ok(_), None) => check_counts(&group, None),
        };
        if let Err(error) = &outcome {
            metrics::counter!("drimbox_retrievals_failed_total", "cause" => error.cause())
                .increment(1);
        }
        let whole = outcome.is_ok();
        group.end(outcome);
        if whole {
            self.keep(&group).await;
        }
    }

    /// Asks the archive, once there is a place.
    async fn retrieve(
        &self,
        group: &Group,
        request: RetrieveRequest,
        sink: Arc<Ingest>,
        places: Option<Places>,
    ) -> Result<RetrieveReport, ArchiveError> {
        let may_wait = places.as_ref().is_some_and(|places| places.may_wait);
        let place = async {
            match places {
                Some(places) => places.at_once.acquire_owned().await.ok(),
                None => None,
            }
        };
        let _place = tokio::select! {
            place = place => place,
            () = group.cancel.cancelled() => return Err(ArchiveError::Cancelled),
        };
        let until = Instant::now() + BUSY_FOR;
        loop {
            let sink = Arc::clone(&sink);
            let cancel = group.cancel.clone();
            match self.archive.retrieve(request.clone(), sink, cancel).await {
                // Its readers have the series before it to read, and lose those to an error here.
                Err(ArchiveError::Busy { .. })
                    if may_wait && !group.has_begun() && Instant::now() < until => {}
                outcome => return outcome,
            }
            tokio::select! {
                () = tokio::time::sleep(BUSY) => {}
                () = group.cancel.cancelled() => return Err(ArchiveError::Cancelled),
            }
        }
    }

    /// What a busy archive says of a study whose images are here: it is asked again until there is a
    /// place, so that nothing that came is lost to the queue.
    async fn listing_when_free(
        &self,
        study: &StudyUid,
        cancel: &CancellationToken,
    ) -> Result<Arc<StudyListing>, StudiesError> {
        let until = Instant::now() + BUSY_FOR;
        loop {
            match self.listing(study).await {
                Err(StudiesError::Archive(ArchiveError::Busy { .. })) if Instant::now() < until => {
                }
                listing => return listing,
            }
            tokio::select! {
                () = tokio::time::sleep(BUSY) => {}
                () = cancel.cancelled() => return Err(ArchiveError::Cancelled.into()),
            }
        }
    }

    /// Keeps the bundles of a complete retrieval.
    async fn keep(&self, group: &Arc<Group>) {
        let series = group.series.lock().clone();
        let cache = Arc::clone(&self.cache);
        let kept = tokio::task::spawn_blocking(move || {
            for flight in series {
                if let Some((staging, entries)) = flight.take_staging() {
                    staging.commit(entries)?;
                    cache.set_degraded(false, "");
                }
            }
            std::io::Result::Ok(())
        })
        .await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.cache.set_degraded(true, &error.to_string()),
            Err(error) => tracing::error!("keeping a bundle failed: {error}"),
        }
    }
}

/// Every series has as many instances as the archive said, before or in `now`, and every series of
/// `now` came.
fn check_counts(group: &Group, now: Option<&StudyListing>) -> Result<(), StudiesError> {
    if group.scope.instance().is_some() {
        return Ok(());
    }
    let incomplete = |missing, expected| {
        let error = ArchiveError::Incomplete { missing, expected };
        Err(StudiesError::Archive(error))
    };
    let flights = group.series.lock();
    for flight in flights.iter() {
        let delivered = flight.len() as u64;
        let said = || now.and_then(|listing| listing.instances_of(&flight.key.series));
        if let Some(expected) = flight.expected.or_else(said)
            && delivered < expected
        {
            return incomplete(expected - delivered, expected);
        }
    }
    let listed = now.map(|listing| listing.series.as_slice());
    for summary in listed.unwrap_or_default() {
        let came = |flight: &Arc<SeriesFlight>| flight.key.series == summary.series;
        if summary.is_in(&group.scope) && !flights.iter().any(came) {
            let expected = summary.instances.unwrap_or(1);
            return incomplete(expected, expected);
        }
    }
    Ok(())
}
