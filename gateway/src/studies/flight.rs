//! Retrievals under way: one for each series, however many ask.
//!
//! A [`Group`] is one retrieval from the archive; it fills one [`SeriesFlight`] or more. What
//! arrives is written to a staged bundle and published in the order of arrival; readers follow at
//! their own pace from the disk. When the disk has no room, instances are handed to the readers from
//! memory instead, within a budget that holds the archive back; larger ones flow through.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::flowing::{FLOW_BUDGET, Flow, FlowingItem, Opening, Sender, flowing};
use super::{StudiesError, StudyListing};
use crate::archive::{Scope, SinkError};
use crate::cache::{Bundle, Cache, Entry, Key, LargeObject, Object, Staging};
use crate::dicom::uid::{InstanceUid, SeriesUid};

/// Bytes of one retrieval in memory between the archive and the disk, or the readers when the disk
/// has no room.
pub const MEMORY_BUDGET: usize = 24 * 1024 * 1024;
/// Instances written at a time.
const WRITE_BATCH: usize = 32;
/// Bytes of what was written last that a series under way keeps in memory, for readers that keep up.
const FRESH: usize = 2 * 1024 * 1024;
/// Instances that arrived since the start, of all retrievals: the number of the next.
static ARRIVALS: AtomicU64 = AtomicU64::new(0);
/// A retrieval nobody waits for goes on when this part of it is in: 3/4.
const WORTH_FINISHING: (u64, u64) = (3, 4);

/// An instance that a reader may have: a Part 10 file.
#[derive(Clone)]
pub enum Item {
    /// On disk.
    Stored {
        /// Where.
        entry: Arc<Entry>,
        /// The open file.
        file: Arc<File>,
        /// The Part 10 file itself, when it has just arrived: its readers need not ask the disk.
        fresh: Option<Bytes>,
        /// The bundle of the cache that it comes from; `None` while the bundle is written.
        bundle: Option<Arc<Bundle>>,
    },
    /// In memory, because the disk has no room.
    Held(Arc<HeldItem>),
    /// On its way from the archive, because neither disk nor memory has room.
    Flowing(Arc<FlowingItem>),
}

impl Item {
    /// Identity and shape.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Stored { entry, .. } => entry,
            Self::Held(held) => &held.entry,
            Self::Flowing(flowing) => &flowing.opening.entry,
        }
    }

    /// Bytes of the Part 10 file; `None` while nobody knows.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Stored { .. } | Self::Held(_) => Some(self.entry().length),
            Self::Flowing(_) => None,
        }
    }

    /// Says that its file could not be read.
    pub fn is_unreadable(&self, error: &io::Error) {
        if let Self::Stored {
            bundle: Some(bundle),
            ..
        } = self
        {
            bundle.is_unreadable(error);
        }
    }
}

/// An instance in memory; its share of the budget is free again when the last reader drops it.
pub struct HeldItem {
    /// Identity and shape; its file means nothing.
    pub entry: Entry,
    /// The Part 10 file.
    pub pieces: Vec<Bytes>,
    _budget: OwnedSemaphorePermit,
}

/// One retrieval from the archive.
pub struct Group {
    pub(super) scope: Scope,
    pub(super) pacs: String,
    expected: Mutex<Option<u64>>,
    pub(super) cancel: CancellationToken,
    pub(super) series: Mutex<Vec<Arc<SeriesFlight>>>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) budget: Arc<Semaphore>,
    flow_budget: Arc<Semaphore>,
    /// Instances of the study flow one after the other, whichever retrieval they come with.
    flow_turn: Arc<Semaphore>,
    pub(super) jobs: mpsc::Sender<Job>,
    received: AtomicU64,
    outcome: Mutex<Option<Result<(), StudiesError>>>,
    cache: Arc<Cache>,
}

/// One series of a retrieval.
pub struct SeriesFlight {
    /// Key in the cache.
    pub key: Key,
    /// Instances the archive should deliver, where it said.
    pub expected: Option<u64>,
    state: Mutex<SeriesState>,
    passing_through: AtomicBool,
}

#[derive(Default)]
struct SeriesState {
    items: Vec<Option<Item>>,
    /// When each item arrived, among those of all series.
    arrivals: Vec<u64>,
    entries: Vec<Arc<Entry>>,
    known: std::collections::HashSet<InstanceUid>,
    staging: Option<Arc<Staging>>,
    readers: HashMap<u64, usize>,
    next_reader: u64,
    /// Items that flow through, by their place and reader, until it takes them.
    flowing: HashMap<(usize, u64), Item>,
    /// The last items that were written, by their place.
    fresh: VecDeque<(usize, Bytes)>,
    fresh_bytes: usize,
    /// Some items are in memory.
    holds_memory: bool,
    /// Items were dropped: nobody can read this flight from its start any more.
    partial: bool,
}

/// Work for the writer of a retrieval.
pub enum Job {
    /// An instance in memory.
    Write {
        /// Its series.
        series: Arc<SeriesFlight>,
        /// Identity and shape.
        object: Object,
        /// The Part 10 file.
        pieces: Vec<Bytes>,
        /// Its share of the memory budget.
        budget: OwnedSemaphorePermit,
        /// Its share of [`Cache::writing`].
        writing: OwnedSemaphorePermit,
    },
    /// An instance that has its own file already.
    Large {
        /// Its series.
        series: Arc<SeriesFlight>,
        /// The file.
        large: LargeObject,
        /// The bundle that the file belongs to.
        staging: Arc<Staging>,
        /// Identity and shape.
        object: Object,
    },
    /// Everything before was written.
    Flush(oneshot::Sender<()>),
}

impl Group {
    /// A retrieval that has not started, and the work it will give its writer. `flow_turn` is shared
    /// with the other retrievals of the study.
    pub fn new(
        pacs: &str,
        scope: Scope,
        expected: Option<u64>,
        cache: Arc<Cache>,
        flow_turn: Arc<Semaphore>,
    ) -> (Arc<Self>, mpsc::Receiver<Job>) {
        let (jobs, work) = mpsc::channel(WRITE_BATCH);
        let group = Arc::new(Self {
            scope,
            pacs: pacs.to_owned(),
            expected: Mutex::new(expected),
            cancel: CancellationToken::new(),
            series: Mutex::default(),
            changed: watch::Sender::new(0),
            budget: Arc::new(Semaphore::new(MEMORY_BUDGET)),
            flow_budget: Arc::new(Semaphore::new(FLOW_BUDGET)),
            flow_turn,
            jobs,
            received: AtomicU64::new(0),
            outcome: Mutex::new(None),
            cache,
        });
        (group, work)
    }

    /// Notes how many instances the archive says there are.
    pub fn expect(&self, listing: &StudyListing) {
        let series = listing.series.iter();
        let series = series.filter(|summary| summary.is_in(&self.scope));
        if let Some(said) = series.map(|summary| summary.instances).sum() {
            *self.expected.lock() = Some(said);
        }
    }

    /// Adds a series.
    pub fn add(&self, series: SeriesUid, expected: Option<u64>) -> Arc<SeriesFlight> {
        let flight = Arc::new(SeriesFlight {
            key: Key {
                pacs: self.pacs.clone(),
                study: self.scope.study().clone(),
                series,
                instance: self.scope.instance().cloned(),
            },
            expected,
            state: Mutex::default(),
            passing_through: AtomicBool::new(false),
        });
        self.series.lock().push(Arc::clone(&flight));
        flight
    }

    /// The flight of a series that arrives; a series of the study that was not listed is added.
    pub fn series(&self, uid: &SeriesUid) -> Option<Arc<SeriesFlight>> {
        let found = self
            .series
            .lock()
            .iter()
            .find(|flight| flight.key.series == *uid)
            .cloned();
        match (&self.scope, found) {
            (_, Some(found)) => Some(found),
            (Scope::Study(_), None) => Some(self.add(uid.clone(), None)),
            _ => None,
        }
    }

    /// How it ended; `None` while it runs.
    pub fn outcome(&self) -> Option<Result<(), StudiesError>> {
        self.outcome.lock().clone()
    }

    /// Waits for the first instance.
    pub async fn first_arrival(&self) {
        let mut changed = self.changed.subscribe();
        while self.received.load(Ordering::Acquire) == 0 {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether an instance has arrived.
    pub fn has_begun(&self) -> bool {
        self.received.load(Ordering::Acquire) > 0
    }

    /// Ends it, once, and tells the readers.
    pub fn end(&self, outcome: Result<(), StudiesError>) {
        self.outcome.lock().get_or_insert(outcome);
        self.tell();
    }

    /// Whether it should go on though nobody reads it.
    pub fn is_worth_finishing(&self) -> bool {
        let received = self.received.load(Ordering::Acquire);
        let (part, whole) = WORTH_FINISHING;
        let expected = *self.expected.lock();
        expected.is_some_and(|expected| received * whole >= expected * part)
            && !self
                .series
                .lock()
                .iter()
                .any(|flight| flight.is_passing_through())
    }

    /// Writes what arrives until the retrieval drops its end of the channel.
    pub async fn write(self: Arc<Self>, mut work: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(WRITE_BATCH);
        while work.recv_many(&mut batch, WRITE_BATCH).await > 0 {
            let jobs = std::mem::take(&mut batch);
            let group = Arc::clone(&self);
            let flushed = tokio::task::spawn_blocking(move || {
                let mut flushed = Vec::new();
                for job in jobs {
                    match job {
                        Job::Flush(done) => flushed.push(done),
                        job => group.write_one(job),
                    }
                }
                flushed
            })
            .await;
            match flushed {
                Ok(flushed) => {
                    for done in flushed {
                        let _ = done.send(());
                    }
                }
                Err(error) => {
                    self.end(Err(StudiesError::Internal(format!(
                        "the writer failed: {error}"
                    ))));
                    self.cancel.cancel();
                    return;
                }
            }
        }
    }

    fn write_one(&self, job: Job) {
        match job {
            Job::Write {
                series,
                object,
                pieces,
                budget,
                writing,
            } => {
                let stored = series.staging(&self.cache).and_then(|staging| {
                    let entry = Arc::new(staging.append(object.clone(), &pieces)?);
                    let file = staging.file(&entry)?;
                    Ok((entry, file))
                });
                let item = match stored {
                    Ok((entry, file)) => {
                        let fresh = Some(concatenated(&pieces));
                        drop((budget, writing));
                        Item::Stored {
                            entry,
                            file,
                            fresh,
                            bundle: None,
                        }
                    }
                    Err(error) => {
                        series.pass_through(&self.cache, &error);
                        drop(writing);
                        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
                        let entry = held_entry(object, length);
                        Item::Held(Arc::new(HeldItem {
                            entry,
                            pieces,
                            _budget: budget,
                        }))
                    }
                };
                self.publish(&series, item);
            }
            Job::Large {
                series,
                large,
                staging,
                object,
            } => {
                let stored = staging.finish_large(large, object).and_then(|entry| {
                    let entry = Arc::new(entry);
                    let file = staging.file(&entry)?;
                    Ok(Item::Stored {
                        entry,
                        file,
                        fresh: None,
                        bundle: None,
                    })
                });
                match stored {
                    Ok(item) => self.publish(&series, item),
                    Err(error) => {
                        let error = StudiesError::Internal(format!("writing the cache: {error}"));
                        self.end(Err(error));
                        self.cancel.cancel();
                    }
                }
            }
            Job::Flush(done) => drop(done.send(())),
        }
    }

    /// Takes an instance in: it counts before the archive is told that it arrived.
    ///
    /// # Errors
    /// [`SinkError::Abandoned`] when the retrieval has ended.
    pub async fn take_in(&self, job: Job) -> Result<(), SinkError> {
        self.received.fetch_add(1, Ordering::AcqRel);
        self.jobs.send(job).await.map_err(|_| SinkError::Abandoned)
    }

    fn publish(&self, series: &SeriesFlight, item: Item) {
        if series.push(item) {
            self.tell();
        } else {
            self.received.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Starts to hand an instance through to who reads its series now.
    ///
    /// # Errors
    /// [`SinkError::Abandoned`] when the retrieval is cancelled.
    pub async fn flow(
        &self,
        series: &SeriesFlight,
        opening: &Opening,
        error: &io::Error,
    ) -> Result<Flow, SinkError> {
        series.pass_through(&self.cache, error);
        let turn = Arc::clone(&self.flow_turn).acquire_owned();
        let turn = tokio::select! {
            turn = turn => turn.map_err(|_| SinkError::Abandoned)?,
            () = self.cancel.cancelled() => return Err(SinkError::Abandoned),
        };
        self.received.fetch_add(1, Ordering::AcqRel);
        let readers = if let Some(readers) = series.push_flowing(opening) {
            self.tell();
            readers
        } else {
            self.received.fetch_sub(1, Ordering::AcqRel);
            Vec::new()
        };
        let budget = Arc::clone(&self.flow_budget);
        Ok(Flow::new(readers, budget, self.cancel.clone(), turn))
    }

    fn tell(&self) {
        self.changed
            .send_modify(|generation| *generation = generation.wrapping_add(1));
    }
}

impl SeriesFlight {
    /// Whether instances pass through unkept.
    pub fn is_passing_through(&self) -> bool {
        self.passing_through.load(Ordering::Acquire)
    }

    /// The bundle that is written; started with the first instance.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::StorageFull`] also once instances pass through.
    pub fn staging(&self, cache: &Arc<Cache>) -> io::Result<Arc<Staging>> {
        if self.is_passing_through() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut state = self.state.lock();
        if let Some(staging) = &state.staging {
            return Ok(Arc::clone(staging));
        }
        let staging = Arc::new(cache.stage(self.key.clone())?);
        state.staging = Some(Arc::clone(&staging));
        Ok(staging)
    }

    /// Notes that instances pass through unkept from now on.
    pub fn pass_through(&self, cache: &Cache, error: &io::Error) {
        if !self.passing_through.swap(true, Ordering::AcqRel) {
            metrics::counter!("drimbox_cache_passed_through_total").increment(1);
            cache.set_degraded(true, &error.to_string());
        }
    }

    /// Instances published so far.
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether an instance has been published, and where.
    pub fn find(&self, instance: &InstanceUid) -> Option<Item> {
        let state = self.state.lock();
        if !state.known.contains(instance) {
            return None;
        }
        state
            .items
            .iter()
            .flatten()
            .find(|item| item.entry().instance == *instance)
            .cloned()
    }

    /// Adds an item; false when the instance is there already.
    fn push(&self, mut item: Item) -> bool {
        let mut state = self.state.lock();
        if !state.known.insert(item.entry().instance.clone()) {
            return false;
        }
        if let Item::Stored { fresh, .. } = &mut item
            && let Some(bytes) = fresh.take()
        {
            state.keep_fresh(bytes);
        }
        match &item {
            Item::Stored { entry, .. } => state.entries.push(Arc::clone(entry)),
            Item::Held(_) | Item::Flowing(_) => state.entries.push(Arc::new(item.entry().clone())),
        }
        state.arrivals.push(ARRIVALS.fetch_add(1, Ordering::AcqRel));
        state.holds_memory |= matches!(item, Item::Held(_));
        if matches!(item, Item::Held(_)) && state.readers.is_empty() {
            state.partial = true;
            state.items.push(None);
        } else {
            state.items.push(Some(item));
        }
        true
    }

    /// Adds an instance that flows through to the readers there are; `None` when it is there already.
    fn push_flowing(&self, opening: &Opening) -> Option<Vec<Sender>> {
        let mut state = self.state.lock();
        if !state.known.insert(opening.entry.instance.clone()) {
            return None;
        }
        let (items, senders) = flowing(opening, state.readers.keys().copied());
        let at = state.items.len();
        let own = items
            .into_iter()
            .map(|(reader, item)| ((at, reader), Item::Flowing(item)));
        state.flowing.extend(own);
        state.items.push(None);
        state.arrivals.push(ARRIVALS.fetch_add(1, Ordering::AcqRel));
        state.entries.push(Arc::new(opening.entry.clone()));
        // Who joins from now on would miss its start.
        state.partial = true;
        Some(senders)
    }

    /// Starts to read from the first item; `None` when items were dropped already.
    pub fn join(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.partial {
            return None;
        }
        let reader = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(reader, 0);
        Some(reader)
    }

    /// When the next item of a reader arrived, among those of all series; `None` when there is none yet.
    pub fn next_arrival(&self, reader: u64) -> Option<u64> {
        let state = self.state.lock();
        state.arrivals.get(*state.readers.get(&reader)?).copied()
    }

    /// The next items of a reader that arrived before another, `most` at most; empty when there are
    /// none yet.
    pub fn take(&self, reader: u64, before: u64, most: usize) -> Vec<Item> {
        let mut state = self.state.lock();
        let Some(cursor) = state.readers.get(&reader).copied() else {
            return Vec::new();
        };
        let arrivals = state.arrivals.iter().skip(cursor).take(most);
        let end = cursor + arrivals.take_while(|arrival| **arrival < before).count();
        let slots = cursor..end;
        let taken: Vec<Item> = slots
            .filter_map(|at| {
                let Some(mut item) = state.items.get(at).cloned().flatten() else {
                    return state.flowing.remove(&(at, reader));
                };
                if let Item::Stored { fresh, .. } = &mut item {
                    *fresh = state.fresh_at(at);
                }
                Some(item)
            })
            .collect();
        state.readers.insert(reader, cursor + taken.len());
        state.drop_what_all_have_read();
        taken
    }

    /// Ends a reader.
    pub fn leave(&self, reader: u64) {
        let mut state = self.state.lock();
        state.readers.remove(&reader);
        state.flowing.retain(|(_, of), _| *of != reader);
        state.drop_what_all_have_read();
    }

    /// The staged bundle and its entries, when all of it is on disk.
    pub fn take_staging(&self) -> Option<(Staging, Vec<Arc<Entry>>)> {
        let mut state = self.state.lock();
        state.fresh.clear();
        let staging = Arc::into_inner(state.staging.take()?)?;
        if self.is_passing_through() {
            return None;
        }
        Some((staging, state.entries.clone()))
    }
}

impl SeriesState {
    /// Holds the bytes of the item that is about to be added, and lets the oldest go.
    fn keep_fresh(&mut self, bytes: Bytes) {
        self.fresh_bytes += bytes.len();
        self.fresh.push_back((self.items.len(), bytes));
        while self.fresh_bytes > FRESH
            && let Some((_, oldest)) = self.fresh.pop_front()
        {
            self.fresh_bytes -= oldest.len();
        }
    }

    fn fresh_at(&self, at: usize) -> Option<Bytes> {
        let (first, _) = self.fresh.front()?;
        let found = self
            .fresh
            .iter()
            .skip(at.checked_sub(*first)?)
            .find(|(place, _)| *place >= at);
        found
            .filter(|(place, _)| *place == at)
            .map(|(_, bytes)| bytes.clone())
    }

    /// Items in memory are dropped once every reader has had them.
    fn drop_what_all_have_read(&mut self) {
        if !self.holds_memory {
            return;
        }
        let everyone = self
            .readers
            .values()
            .min()
            .copied()
            .unwrap_or(self.items.len());
        let mut dropped = false;
        for slot in self.items.iter_mut().take(everyone) {
            if matches!(slot, Some(Item::Held(_))) {
                *slot = None;
                dropped = true;
            }
        }
        self.partial |= dropped;
    }
}

/// Instances that arrived so far. Who then looks into a series finds every earlier one of it.
pub(super) fn arrivals() -> u64 {
    ARRIVALS.load(Ordering::Acquire)
}

fn concatenated(pieces: &[Bytes]) -> Bytes {
    let length = pieces.iter().map(Bytes::len).sum();
    let mut whole = Vec::with_capacity(length);
    pieces
        .iter()
        .for_each(|piece| whole.extend_from_slice(piece));
    whole.into()
}

/// The entry of an instance that is not on disk.
pub(super) fn held_entry(object: Object, length: u64) -> Entry {
    Entry {
        instance: object.instance,
        sop_class: object.sop_class,
        transfer_syntax: object.transfer_syntax,
        file: 0,
        offset: 0,
        length,
        // Never on disk, so never checked against it.
        crc32: 0,
        meta_length: object.meta_length,
        head_length: object.head_length,
        tail_length: object.tail_length,
    }
}
