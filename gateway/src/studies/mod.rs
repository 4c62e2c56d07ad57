//! One front for the images of one PACS, wherever they are: the cache, a retrieval under way, or
//! the archive.
//!
//! A series is retrieved once however many ask for it. The first instance is handed out while the
//! rest arrives. A slow reader slows only itself: bytes wait on disk. Nothing here knows HTTP, nor
//! who may see what.

pub mod bytes;
mod error;
mod flight;
mod flowing;
mod ingest;
mod listing;
mod reader;
mod retrieval;
pub mod search;
#[cfg(test)]
mod tests;

pub use error::StudiesError;
pub use flight::{HeldItem, Item, MEMORY_BUDGET};
pub use flowing::FlowingItem;
pub use listing::{Counts, SeriesSummary, StudyListing};
pub use reader::Reader;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archive::{Archive, Scope};
use crate::cache::{Bundle, Cache, Key};
use crate::dicom::reader::Limits;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::store::ListingStore;
use flight::{Group, SeriesFlight};
use listing::Listings;
use retrieval::{Places, Retrieval};
use search::Searches;

/// Series of one request that are retrieved at the same time.
const SERIES_AT_ONCE: usize = 4;
/// What the front of one PACS needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the PACS in the configuration.
    pub pacs: String,
    /// Age after which the archive is asked again what a study holds.
    pub revalidate_after: Duration,
    /// Whether cached series are served while the archive cannot be asked.
    pub serve_when_unreachable: bool,
    /// Whether the archive's counts of related instances can be trusted.
    pub related_counts: bool,
    /// Whether the archive takes queries below the study level without the parent UIDs.
    pub relational_queries: bool,
    /// Whether a study is retrieved series by series, each kept as soon as it is whole.
    pub by_series: bool,
    /// Limits of what is read from a data set.
    pub limits: Limits,
}

/// The images of one PACS.
pub struct Studies {
    settings: Settings,
    archive: Arc<dyn Archive>,
    cache: Arc<Cache>,
    listings: Listings,
    searches: Searches,
    registry: Arc<Registry>,
    /// Modalities of the last retrieval: the likeliest of a study that nothing is known of.
    last_modalities: Mutex<Vec<String>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The retrievals under way, by what they retrieve.
#[derive(Default)]
pub struct Registry {
    flights: Mutex<Flights>,
}

#[derive(Default)]
struct Flights {
    by_key: HashMap<Key, (Arc<SeriesFlight>, Arc<Group>)>,
    readers: HashMap<usize, usize>,
    /// Whose turn it is to flow through, for each study that is retrieved.
    turns: HashMap<StudyUid, Weak<Semaphore>>,
}

impl Registry {
    /// A reader of the group ended; the last one stops a retrieval that is far from its end.
    fn leave(&self, group: &Arc<Group>) {
        let mut flights = self.flights.lock();
        let id = Arc::as_ptr(group) as usize;
        if let Some(count) = flights.readers.get_mut(&id) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        flights.readers.remove(&id);
        if group.outcome().is_none() && !group.is_worth_finishing() {
            group.cancel.cancel();
            // Nobody may join what is being cancelled.
            flights.by_key.retain(|_, (_, of)| !Arc::ptr_eq(of, group));
        }
    }

    fn forget(&self, group: &Arc<Group>) {
        self.flights
            .lock()
            .by_key
            .retain(|_, (_, of)| !Arc::ptr_eq(of, group));
    }
}

impl Flights {
    /// A retrieval that did not fail, and may be followed.
    fn joinable(&self, key: &Key) -> Option<(Arc<SeriesFlight>, Arc<Group>)> {
        let (flight, group) = self.by_key.get(key)?;
        let failed = group.outcome().is_some_and(|outcome| outcome.is_err());
        (!failed).then(|| (Arc::clone(flight), Arc::clone(group)))
    }

    fn enter(&mut self, group: &Arc<Group>) {
        *self.readers.entry(Arc::as_ptr(group) as usize).or_default() += 1;
    }

    /// The turn of a study. Instances of one study flow through one after the other, whichever
    /// retrieval brings them: of two at once, two readers of both might each be in the middle of
    /// another one, and wait for each other.
    fn turn(&mut self, study: &StudyUid) -> Arc<Semaphore> {
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = self.turns.get(study).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Semaphore::new(1));
        self.turns.insert(study.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// A series, or an instance, that a request wants.
#[derive(Clone)]
struct Wanted {
    key: Key,
    expected: Option<u64>,
    modality: Option<String>,
    /// Bundles the cache had taken in before it was looked into.
    looked: u64,
}

impl Wanted {
    /// Whether a bundle is what the archive has now.
    fn matches(&self, bundle: &Bundle) -> bool {
        self.expected
            .is_none_or(|expected| expected == bundle.entries().len() as u64)
    }
}

impl Studies {
    /// The front of an archive.
    #[must_use]
    pub fn new(
        settings: Settings,
        archive: Arc<dyn Archive>,
        cache: Arc<Cache>,
        store: Arc<dyn ListingStore>,
    ) -> Arc<Self> {
        Arc::new(Self {
            listings: Listings::new(&settings.pacs, settings.revalidate_after, store),
            searches: Searches::new(settings.revalidate_after),
            settings,
            archive,
            cache,
            registry: Arc::default(),
            last_modalities: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The archive behind.
    #[must_use]
    pub fn archive(&self) -> &Arc<dyn Archive> {
        &self.archive
    }

    /// Name of the PACS in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.pacs
    }

    /// Limits of what is read from a data set.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    /// Cancels the retrievals under way and waits for them, at the end of the service.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Opens what a scope names, and starts to retrieve what is neither cached nor on its way.
    ///
    /// # Errors
    /// [`StudiesError::NotFound`], [`StudiesError::Gone`]; the archive's, when it must be asked and
    /// cannot be.
    pub async fn open(self: &Arc<Self>, scope: &Scope) -> Result<Reader, StudiesError> {
        match scope {
            Scope::Instance(study, series, instance) => {
                self.open_instance(study, series, instance).await
            }
            Scope::Study(_) | Scope::Series(..) => {
                if let Some(reader) = self.open_at_once(scope).await? {
                    return Ok(reader);
                }
                let wanted = self.wanted(scope).await?;
                self.open_series(scope, wanted).await
            }
        }
    }

    /// Starts to retrieve what the scope holds as far as is known, when nothing of it is cached or on
    /// its way: the archive sends the first instance while it would still be asked what there is. What
    /// it says then is compared with what it sent before the retrieval counts as complete.
    async fn open_at_once(self: &Arc<Self>, scope: &Scope) -> Result<Option<Reader>, StudiesError> {
        let by_series = self.settings.by_series && matches!(scope, Scope::Study(_));
        if by_series || self.listings.is_fresh(scope.study()) {
            return Ok(None);
        }
        let last = match self.listings.last_known(scope.study()).await {
            Some(last) => last,
            None => match self.series_alone(scope).await? {
                Some(listing) => StudyListing::clone(&listing),
                None => return Ok(None),
            },
        };
        let wanted: Vec<Wanted> = last
            .series
            .iter()
            .filter(|summary| summary.is_in(scope))
            .map(|summary| Wanted {
                key: self.key(scope.study(), &summary.series),
                expected: summary.instances,
                modality: summary.modality.clone(),
                looked: 0,
            })
            .collect();
        let mut reader = Reader::new(Arc::clone(&self.registry));
        let mut flights = self.registry.flights.lock();
        let is_at_hand = |series: &Wanted| {
            self.cache.contains(&series.key) || flights.by_key.contains_key(&series.key)
        };
        if wanted.is_empty() || wanted.iter().any(is_at_hand) {
            return Ok(None);
        }
        metrics::counter!("drimbox_cache_misses_total").increment(wanted.len() as u64);
        let whole = matches!(scope, Scope::Study(_));
        let retrieval = Retrieval {
            scope: scope.clone(),
            wanted,
            whole,
            confirmed: false,
            places: None,
        };
        self.start(&mut flights, &mut reader, retrieval);
        drop(flights);
        Ok(Some(reader))
    }

    /// The series of a study that nothing is known of, uncounted: some PACS take as long again to
    /// count. `None` when counting costs nothing, or a cache may have to stand in for the archive.
    async fn series_alone(&self, scope: &Scope) -> Result<Option<Arc<StudyListing>>, StudiesError> {
        let is_cached = |series| self.cache.contains(&self.key(scope.study(), series));
        if !self.archive.counts_slowly() || scope.series().is_some_and(is_cached) {
            return Ok(None);
        }
        self.anticipate_as_last_time();
        let asked = self.ask(scope.study(), false);
        self.listings.alone(scope.study(), asked).await.map(Some)
    }

    fn key(&self, study: &StudyUid, series: &SeriesUid) -> Key {
        Key {
            pacs: self.settings.pacs.clone(),
            study: study.clone(),
            series: series.clone(),
            instance: None,
        }
    }

    /// The series of a scope that the archive, or a cache that may stand in for it, knows.
    async fn wanted(&self, scope: &Scope) -> Result<Vec<Wanted>, StudiesError> {
        let study = scope.study();
        let key = |series: &SeriesUid| self.key(study, series);
        let ((), listing) = tokio::join!(self.anticipate(scope), self.listing(study));
        let listing = match listing {
            Ok(listing) => listing,
            Err(StudiesError::Archive(error))
                if error.is_outage() && self.settings.serve_when_unreachable =>
            {
                let cached = |series: &SeriesUid| self.cache.contains(&key(series));
                return self
                    .without_archive(scope, key, cached)
                    .await
                    .ok_or(StudiesError::Archive(error));
            }
            // Gone is what was there: not any series of a study that is.
            Err(StudiesError::Gone) => {
                let last = self.listings.last_known(study).await;
                let mut series = last.iter().flat_map(|last| &last.series);
                let was_there = series.any(|summary| summary.is_in(scope));
                return Err(if was_there {
                    StudiesError::Gone
                } else {
                    StudiesError::NotFound
                });
            }
            Err(error) => return Err(error),
        };
        let wanted: Vec<Wanted> = listing
            .series
            .iter()
            .filter(|summary| summary.is_in(scope))
            .map(|summary| Wanted {
                key: key(&summary.series),
                expected: summary.instances,
                modality: summary.modality.clone(),
                looked: self.cache.adoptions(),
            })
            .collect();
        if wanted.is_empty() {
            Err(StudiesError::NotFound)
        } else {
            Ok(wanted)
        }
    }

    /// Lets the archive make ready for a retrieval while it is asked what there is: of what the study
    /// had before and is not cached any more, else of what was retrieved last.
    async fn anticipate(&self, scope: &Scope) {
        if self.listings.is_fresh(scope.study()) {
            return;
        }
        let Some(last) = self.listings.last_known(scope.study()).await else {
            self.anticipate_as_last_time();
            return;
        };
        let absent = last.series.into_iter().filter(|summary| {
            let key = self.key(scope.study(), &summary.series);
            summary.is_in(scope) && !self.cache.contains(&key)
        });
        let modalities: Option<Vec<String>> = absent.map(|summary| summary.modality).collect();
        if let Some(modalities) = modalities
            && !modalities.is_empty()
        {
            self.archive.anticipate(&modalities);
        }
    }

    fn anticipate_as_last_time(&self) {
        let modalities = self.last_modalities.lock().clone();
        if !modalities.is_empty() {
            self.archive.anticipate(&modalities);
        }
    }

    /// What may be served while the archive cannot be asked: a cached series, or a study whose
    /// last known series are all cached.
    async fn without_archive(
        &self,
        scope: &Scope,
        key: impl Fn(&SeriesUid) -> Key,
        cached: impl Fn(&SeriesUid) -> bool,
    ) -> Option<Vec<Wanted>> {
        let series: Vec<SeriesUid> = match scope.series() {
            Some(series) => vec![series.clone()],
            None => {
                let last = self.listings.last_known(scope.study()).await?;
                last.series
                    .iter()
                    .map(|summary| summary.series.clone())
                    .collect()
            }
        };
        if series.is_empty() || !series.iter().all(cached) {
            return None;
        }
        metrics::counter!("drimbox_cache_served_unreachable_total").increment(1);
        let wanted = series
            .iter()
            .map(|series| Wanted {
                key: key(series),
                expected: None,
                modality: None,
                looked: self.cache.adoptions(),
            })
            .collect();
        Some(wanted)
    }

    async fn open_series(
        self: &Arc<Self>,
        scope: &Scope,
        mut wanted: Vec<Wanted>,
    ) -> Result<Reader, StudiesError> {
        loop {
            let bundles = self
                .load(wanted.iter().map(|series| series.key.clone()), None)
                .await;
            let mut reader = Reader::new(Arc::clone(&self.registry));
            let mut flights = self.registry.flights.lock();
            let mut absent = Vec::new();
            let mut outdated = false;
            for (series, bundle) in wanted.iter().zip(bundles) {
                let fresh = bundle.filter(|bundle| series.matches(bundle));
                if let Some((flight, group)) = flights.joinable(&series.key)
                    && reader.add_flight(&mut flights, &flight, &group, false)
                {
                    metrics::counter!("drimbox_cache_joined_total").increment(1);
                } else if let Some(bundle) = fresh {
                    metrics::counter!("drimbox_cache_hits_total").increment(1);
                    reader.add_bundle(bundle);
                } else {
                    outdated |= self.cache.was_adopted_after(&series.key, series.looked);
                    absent.push(series.clone());
                }
            }
            if outdated {
                // A retrieval ended between the look into the cache and the one at the flights.
                drop(flights);
                for series in &mut wanted {
                    series.looked = self.cache.adoptions();
                }
                continue;
            }
            let whole_study = matches!(scope, Scope::Study(_))
                && !self.settings.by_series
                && reader.is_empty()
                && absent.len() > 1;
            let groups: Vec<(Scope, Vec<Wanted>)> = if whole_study {
                vec![(scope.clone(), absent)]
            } else {
                let alone = absent.into_iter().map(|series| {
                    let Key {
                        study, series: uid, ..
                    } = series.key.clone();
                    (Scope::Series(study, uid), vec![series])
                });
                alone.collect()
            };
            let at_once = Arc::new(Semaphore::new(SERIES_AT_ONCE));
            for (scope, series) in groups {
                metrics::counter!("drimbox_cache_misses_total").increment(series.len() as u64);
                let retrieval = Retrieval {
                    whole: matches!(scope, Scope::Study(_)),
                    scope,
                    wanted: series,
                    confirmed: true,
                    places: Some(Places {
                        at_once: Arc::clone(&at_once),
                        may_wait: !reader.is_empty(),
                    }),
                };
                self.start(&mut flights, &mut reader, retrieval);
            }
            return Ok(reader);
        }
    }

    /// The bundles of some keys, with the files of all instances, or of one, open: what cannot be
    /// opened is not there. Off the async threads.
    async fn load(
        &self,
        keys: impl Iterator<Item = Key>,
        only: Option<&InstanceUid>,
    ) -> Vec<Option<Arc<Bundle>>> {
        let keys: Vec<Key> = keys.collect();
        if !keys.iter().any(|key| self.cache.contains(key)) {
            return vec![None; keys.len()];
        }
        let count = keys.len();
        let cache = Arc::clone(&self.cache);
        let only = only.cloned();
        let get = move |key: &Key| {
            let bundle = cache.get(key)?;
            let opened = match &only {
                Some(instance) => bundle.open(bundle.find(instance)),
                None => bundle.open(bundle.entries()),
            };
            match opened {
                Ok(()) => Some(bundle),
                Err(error) => {
                    bundle.is_unreadable(&error);
                    None
                }
            }
        };
        let loaded = tokio::task::spawn_blocking(move || keys.iter().map(get).collect());
        loaded.await.unwrap_or_else(|_| vec![None; count])
    }

    async fn open_instance(
        self: &Arc<Self>,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> Result<Reader, StudiesError> {
        let scope = Scope::Instance(study.clone(), series.clone(), instance.clone());
        let whole = self.key(study, series);
        let alone = Key {
            instance: Some(instance.clone()),
            ..whole.clone()
        };
        // An instance never changes under its UID; that it is still there is asked now and then.
        let wanted = self
            .wanted(&Scope::Series(study.clone(), series.clone()))
            .await;
        let wanted = match wanted {
            Err(StudiesError::Archive(error))
                if error.is_outage()
                    && self.settings.serve_when_unreachable
                    && self.cache.contains(&alone) =>
            {
                Vec::new()
            }
            wanted => wanted?,
        };
        let mut reader = Reader::new(Arc::clone(&self.registry));
        let keys = [whole.clone(), alone.clone()].into_iter();
        let bundles = self.load(keys, Some(instance)).await;
        for bundle in bundles.iter().flatten() {
            if let Some(entry) = bundle.find(instance) {
                metrics::counter!("drimbox_cache_hits_total").increment(1);
                reader.add_item(reader::stored(bundle, entry)?);
                return Ok(reader);
            }
        }
        let mut flights = self.registry.flights.lock();
        // On its way with its series, and here already.
        if let Some((flight, _)) = flights.by_key.get(&whole)
            && let Some(item @ Item::Stored { .. }) = flight.find(instance)
        {
            metrics::counter!("drimbox_cache_joined_total").increment(1);
            reader.add_item(item);
            return Ok(reader);
        }
        if let Some((flight, group)) = flights.joinable(&alone)
            && reader.add_flight(&mut flights, &flight, &group, false)
        {
            metrics::counter!("drimbox_cache_joined_total").increment(1);
            return Ok(reader);
        }
        metrics::counter!("drimbox_cache_misses_total").increment(1);
        let modality = wanted.into_iter().find_map(|series| series.modality);
        let looked = self.cache.adoptions();
        let wanted = vec![Wanted {
            key: alone,
            expected: Some(1),
            modality,
            looked,
        }];
        let retrieval = Retrieval {
            scope,
            wanted,
            whole: false,
            confirmed: true,
            places: None,
        };
        self.start(&mut flights, &mut reader, retrieval);
        drop(flights);
        Ok(reader)
    }
}
