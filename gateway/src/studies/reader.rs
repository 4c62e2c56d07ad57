//! Reading what was asked for: complete bundles from the cache, and retrievals while they run.

use std::sync::Arc;

use tokio::sync::watch;

use super::flight::{Group, Item, SeriesFlight, arrivals};
use super::{Flights, Registry, StudiesError};
use crate::cache::Bundle;
use crate::dicom::uid::InstanceUid;

/// Items handed out at a time.
const BATCH: usize = 256;

/// The instances of one request, in the order they are to be sent: what is cached first, then what
/// arrives, as it arrives.
pub struct Reader {
    sources: Vec<Source>,
    groups: Vec<Joined>,
    registry: Arc<Registry>,
    only: Option<Filter>,
}

/// Which instances are handed out.
type Filter = Box<dyn Fn(&InstanceUid) -> bool + Send + Sync>;

enum Source {
    Bundle {
        bundle: Arc<Bundle>,
        next: usize,
    },
    Flight {
        flight: Arc<SeriesFlight>,
        reader: u64,
    },
    Single(Option<Item>),
}

struct Joined {
    group: Arc<Group>,
    changed: watch::Receiver<u64>,
    /// Every series of the group is wanted, also one that was not listed.
    whole: bool,
}

impl Reader {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self {
            sources: Vec::new(),
            groups: Vec::new(),
            registry,
            only: None,
        }
    }

    /// Hands out nothing but what a filter admits.
    #[must_use]
    pub fn only(mut self, filter: impl Fn(&InstanceUid) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Box::new(filter));
        self
    }

    /// Leaves out what the filter does not admit.
    fn admitted(&self, mut items: Vec<Item>) -> Vec<Item> {
        if let Some(admits) = &self.only {
            items.retain(|item| admits(&item.entry().instance));
        }
        items
    }

    pub(super) fn add_bundle(&mut self, bundle: Arc<Bundle>) {
        self.sources.push(Source::Bundle { bundle, next: 0 });
    }

    pub(super) fn add_item(&mut self, item: Item) {
        self.sources.push(Source::Single(Some(item)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Joins a flight; false when it cannot be read from its start any more. Called under the lock
    /// of the registry, which counts each reader of a group once.
    pub(super) fn add_flight(
        &mut self,
        flights: &mut Flights,
        flight: &Arc<SeriesFlight>,
        group: &Arc<Group>,
        whole: bool,
    ) -> bool {
        let Some(reader) = flight.join() else {
            return false;
        };
        self.sources.push(Source::Flight {
            flight: Arc::clone(flight),
            reader,
        });
        if !self
            .groups
            .iter()
            .any(|joined| Arc::ptr_eq(&joined.group, group))
        {
            flights.enter(group);
            let changed = group.changed.subscribe();
            self.groups.push(Joined {
                group: Arc::clone(group),
                changed,
                whole,
            });
        }
        true
    }

    /// Every item, when all of it is known already (nothing is being retrieved).
    ///
    /// # Errors
    /// The system's, when a file of the cache cannot be opened.
    pub fn known_items(&self) -> Result<Option<Vec<Item>>, StudiesError> {
        let mut items = Vec::new();
        for source in &self.sources {
            match source {
                Source::Bundle { bundle, .. } => {
                    for entry in bundle.entries() {
                        items.push(stored(bundle, entry)?);
                    }
                }
                Source::Single(item) => items.extend(item.clone()),
                Source::Flight { .. } => return Ok(None),
            }
        }
        Ok(Some(self.admitted(items)))
    }

    /// The next items; `None` when all were handed out and nothing is missing.
    ///
    /// # Errors
    /// Why the retrieval failed; what was handed out before is then not the whole.
    pub async fn next(&mut self) -> Result<Option<Vec<Item>>, StudiesError> {
        loop {
            for joined in &mut self.groups {
                // What changes from here on wakes the wait below.
                joined.changed.borrow_and_update();
            }
            let ended: Vec<Option<Result<(), StudiesError>>> = self
                .groups
                .iter()
                .map(|joined| joined.group.outcome())
                .collect();
            self.add_unlisted()?;
            while let Some(items) = self.take()? {
                let items = self.admitted(items);
                if !items.is_empty() {
                    return Ok(Some(items));
                }
            }
            if let Some(error) = ended
                .iter()
                .flatten()
                .find_map(|outcome| outcome.clone().err())
            {
                return Err(error);
            }
            if ended.iter().all(Option::is_some) {
                return Ok(None);
            }
            let waits = self
                .groups
                .iter_mut()
                .zip(&ended)
                .filter(|(_, outcome)| outcome.is_none())
                .map(|(joined, _)| Box::pin(joined.changed.changed()));
            if futures_util::future::select_all(waits).await.0.is_err() {
                return Err(StudiesError::Internal(
                    "a retrieval ended without outcome".into(),
                ));
            }
        }
    }

    /// What is at hand first, then what arrived first.
    fn take(&mut self) -> Result<Option<Vec<Item>>, StudiesError> {
        // What arrives from here on may be seen of one series before it is seen of another.
        let now = arrivals();
        let next = self.sources.iter().enumerate().filter_map(|(at, source)| {
            let Source::Flight { flight, reader } = source else {
                return None;
            };
            let arrival = flight.next_arrival(*reader)?;
            (arrival < now).then_some((arrival, at))
        });
        let mut next: Vec<(u64, usize)> = next.collect();
        next.sort_unstable();
        let first = next.first().map(|(_, at)| *at);
        let second = next.get(1).map_or(now, |(arrival, _)| *arrival);
        for (at, source) in self.sources.iter_mut().enumerate() {
            let items = match source {
                Source::Bundle { bundle, next } => {
                    let entries = bundle.entries().iter().skip(*next).take(BATCH);
                    let items: Result<Vec<Item>, StudiesError> =
                        entries.map(|entry| stored(bundle, entry)).collect();
                    let items = items?;
                    *next += items.len();
                    items
                }
                Source::Flight { flight, reader } if first == Some(at) => {
                    flight.take(*reader, second, BATCH)
                }
                Source::Flight { .. } => continue,
                Source::Single(item) => item.take().into_iter().collect(),
            };
            if !items.is_empty() {
                return Ok(Some(items));
            }
        }
        Ok(None)
    }

    /// Joins the series that a study retrieval brings though they were not listed.
    fn add_unlisted(&mut self) -> Result<(), StudiesError> {
        let mut found = Vec::new();
        for joined in self.groups.iter().filter(|joined| joined.whole) {
            for flight in joined.group.series.lock().iter() {
                let known = self.sources.iter().any(|source| match source {
                    Source::Flight { flight: known, .. } => Arc::ptr_eq(known, flight),
                    Source::Bundle { .. } | Source::Single(_) => false,
                });
                if !known {
                    found.push(Arc::clone(flight));
                }
            }
        }
        for flight in found {
            let reader = flight.join().ok_or_else(|| {
                // The disk has no room, and nobody knew that this series would come.
                StudiesError::Internal("a series that was not listed was not kept".into())
            })?;
            self.sources.push(Source::Flight { flight, reader });
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for source in &self.sources {
            if let Source::Flight { flight, reader } = source {
                flight.leave(*reader);
            }
        }
        for joined in &self.groups {
            self.registry.leave(&joined.group);
        }
    }
}

/// An entry of a bundle with its open file.
pub(super) fn stored(
    bundle: &Arc<Bundle>,
    entry: &Arc<crate::cache::Entry>,
) -> Result<Item, StudiesError> {
    let file = bundle.file(entry).map_err(|error| {
        bundle.is_unreadable(&error);
        StudiesError::Internal(format!("opening the cache: {error}"))
    })?;
    Ok(Item::Stored {
        entry: Arc::clone(entry),
        file,
        fresh: None,
        bundle: Some(Arc::clone(bundle)),
    })
}
