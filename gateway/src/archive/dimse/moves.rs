//! C-MOVE operations under way, and which of them an incoming C-STORE belongs to.
//!
//! A PACS says so with the Move Originator AE title and message identifier (PS3.7 §9.1.1.1.11).
//! Message identifiers are unique over all PACS of the gateway, so that several moves to its one AE
//! title are told apart. A PACS that leaves them out is told apart by its calling AE title, then by
//! the study, series and instance that the object itself names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::Tag;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::command::Command;
use super::pool::Pool;
use crate::archive::{
    ArchiveError, Identifier, IncomingInstance, InstanceSink, InstanceWriter, SinkError,
};
use crate::config::AeTitle;
use crate::dicom::reader::Limits;
use crate::dicom::scan::HeadScanner;
use crate::dicom::uid::InstanceUid;

const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);

/// Moves under way at once, all PACS together: identifiers stay far from running out.
const MAX_MOVES: usize = 4096;
/// Bytes held while the owner of an object is looked for.
const MAX_UNROUTED: usize = 4 * 1024 * 1024;

/// The moves of one gateway.
pub struct Moves {
    ae_title: AeTitle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u16,
    active: HashMap<u16, Entry>,
}

#[derive(Clone)]
struct Entry {
    pacs_ae_title: String,
    active: Arc<ActiveMove>,
}

/// A move that images may arrive for; forgotten when dropped.
pub struct Ticket {
    id: u16,
    moves: Arc<Moves>,
}

impl Moves {
    /// No move yet. `ae_title` is the destination that the PACS knows.
    #[must_use]
    pub fn new(ae_title: AeTitle) -> Arc<Self> {
        Arc::new(Self {
            ae_title,
            state: Mutex::default(),
        })
    }

    /// The destination of every move.
    #[must_use]
    pub fn ae_title(&self) -> &AeTitle {
        &self.ae_title
    }

    /// Announces a move and gives it its message identifier.
    ///
    /// # Errors
    /// [`ArchiveError::Busy`] with thousands of moves under way.
    pub fn register(
        self: &Arc<Self>,
        pool: &Pool,
        active: Arc<ActiveMove>,
    ) -> Result<Ticket, ArchiveError> {
        let mut state = self.state.lock();
        if state.active.len() >= MAX_MOVES {
            return Err(ArchiveError::Busy {
                waiting: state.active.len(),
            });
        }
        loop {
            state.next = state.next.wrapping_add(1).max(1);
            if !state.active.contains_key(&state.next) {
                break;
            }
        }
        let id = state.next;
        let pacs_ae_title = pool.settings().ae_title.to_string();
        state.active.insert(
            id,
            Entry {
                pacs_ae_title,
                active,
            },
        );
        Ok(Ticket {
            id,
            moves: Arc::clone(self),
        })
    }

    /// The sink for an incoming C-STORE of `calling`; `None` when no move expects it.
    #[must_use]
    pub fn sink_for(&self, calling: &str, request: &Command) -> Option<Arc<dyn InstanceSink>> {
        let state = self.state.lock();
        if let Some(id) = request.originator_id
            && let Some(entry) = state.active.get(&id)
            && entry.pacs_ae_title == calling
        {
            return Some(Arc::new(Counting(Arc::clone(&entry.active))));
        }
        let mut candidates: Vec<Arc<ActiveMove>> = state
            .active
            .values()
            .filter(|entry| entry.pacs_ae_title == calling)
            .map(|entry| Arc::clone(&entry.active))
            .collect();
        match candidates.len() {
            0 => None,
            1 => candidates
                .pop()
                .map(|active| Arc::new(Counting(active)) as Arc<dyn InstanceSink>),
            _ => Some(Arc::new(ByContent { candidates })),
        }
    }
}

impl Ticket {
    /// Message identifier of the C-MOVE request.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.moves.state.lock().active.remove(&self.id);
    }
}

/// One move: its sink, and what came for it.
pub struct ActiveMove {
    pacs: String,
    fatal: Mutex<Option<ArchiveError>>,
    sink: Arc<dyn InstanceSink>,
    identifier: Identifier,
    delivered: Mutex<HashSet<InstanceUid>>,
    refused: AtomicU64,
    changed: Notify,
}

impl ActiveMove {
    /// A move of what `identifier` names, from a PACS into `sink`.
    #[must_use]
    pub fn new(pacs: String, sink: Arc<dyn InstanceSink>, identifier: Identifier) -> Arc<Self> {
        Arc::new(Self {
            pacs,
            fatal: Mutex::new(None),
            sink,
            identifier,
            delivered: Mutex::default(),
            refused: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// Instances that arrived so far.
    #[must_use]
    pub fn delivered_count(&self) -> usize {
        self.delivered.lock().len()
    }

    /// The instances that arrived.
    #[must_use]
    pub fn take_delivered(&self) -> HashSet<InstanceUid> {
        std::mem::take(&mut *self.delivered.lock())
    }

    /// Waits until as many instances as the PACS announced have come or were refused; gives up when
    /// none comes for `idle`.
    pub async fn wait_for(&self, announced: u64, idle: Duration) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the count is read: no arrival falls in between.
            changed.as_mut().enable();
            let seen = self.delivered_count() as u64 + self.refused.load(Ordering::Acquire);
            if seen & 0xFFFF >= announced || timeout(idle, changed).await.is_err() {
                return;
            }
        }
    }

    /// What ended the whole move, rather than one instance.
    #[must_use]
    pub fn fatal(&self) -> Option<ArchiveError> {
        self.fatal.lock().clone()
    }

    fn took(&self, instance: InstanceUid) {
        self.delivered.lock().insert(instance);
        self.changed.notify_waiters();
    }

    fn refused(&self, error: &SinkError) {
        super::count_refused(&self.pacs, error);
        if let Some(fatal) = error.ends_retrieval() {
            self.fatal.lock().get_or_insert(fatal);
        }
        self.refused.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn names(&self, tag: Tag, uid: Option<&str>) -> bool {
        match (self.identifier.value(tag), uid) {
            (Some(list), Some(uid)) => list.split('\\').any(|named| named == uid),
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

/// The sink of one move: hands on, and counts.
struct Counting(Arc<ActiveMove>);

impl InstanceSink for Counting {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        let instance = incoming.instance.clone();
        match self.0.sink.begin(incoming) {
            Ok(writer) => Ok(Box::new(CountingWriter {
                active: Arc::clone(&self.0),
                instance,
                writer,
            })),
            Err(error) => {
                self.0.refused(&error);
                Err(error)
            }
        }
    }
}

struct CountingWriter {
    active: Arc<ActiveMove>,
    instance: InstanceUid,
    writer: Box<dyn InstanceWriter>,
}

impl InstanceWriter for CountingWriter {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            let outcome = self.writer.write(data).await;
            if let Err(error) = &outcome {
                self.active.refused(error);
            }
            outcome
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        let Self {
            active,
            instance,
            writer,
        } = *self;
        async move {
            let outcome = writer.finish().await;
            match &outcome {
                Ok(()) => active.took(instance),
                Err(error) => active.refused(error),
            }
            outcome
        }
        .boxed()
    }
}

/// Several moves of one PACS could own the object: its own identifiers tell.
struct ByContent {
    candidates: Vec<Arc<ActiveMove>>,
}

impl InstanceSink for ByContent {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        Ok(Box::new(Unrouted {
            scanner: HeadScanner::new(&incoming.transfer_syntax, Limits::default()),
            incoming,
            candidates: self.candidates.clone(),
            held: Vec::new(),
            held_bytes: 0,
            owner: None,
        }))
    }
}

struct Unrouted {
    incoming: IncomingInstance,
    candidates: Vec<Arc<ActiveMove>>,
    scanner: HeadScanner,
    held: Vec<Bytes>,
    held_bytes: usize,
    owner: Option<Box<dyn InstanceWriter>>,
}

impl Unrouted {
    /// Hands what is held to the move that the object belongs to.
    async fn route(&mut self) -> Result<(), SinkError> {
        let instance = self.incoming.instance.as_str();
        let (study, series) = {
            let seen = self.scanner.seen();
            (seen.study.clone(), seen.series.clone())
        };
        let owner = self
            .candidates
            .iter()
            .find(|active| {
                active.names(STUDY_INSTANCE_UID, study.as_ref().map(|uid| uid.as_str()))
                    && active.names(SERIES_INSTANCE_UID, series.as_ref().map(|uid| uid.as_str()))
                    && active.names(SOP_INSTANCE_UID, Some(instance))
            })
            .ok_or(SinkError::NotAskedFor)?;
        let mut writer = Counting(Arc::clone(owner)).begin(self.incoming.clone())?;
        for piece in std::mem::take(&mut self.held) {
            writer.write(piece).await?;
        }
        self.owner = Some(writer);
        Ok(())
    }
}

impl InstanceWriter for Unrouted {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            if let Some(owner) = &mut self.owner {
                return owner.write(data).await;
            }
            self.scanner
                .feed(&data)
                .map_err(|error| SinkError::Malformed(error.to_string()))?;
            self.held_bytes += data.len();
            self.held.push(data);
            let identified = {
                let seen = self.scanner.seen();
                seen.study.is_some() && seen.series.is_some()
            };
            if identified {
                self.route().await
            } else if self.held_bytes > MAX_UNROUTED {
                Err(SinkError::Malformed(
                    "no study and series within its first bytes".into(),
                ))
            } else {
                Ok(())
            }
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move {
            if self.owner.is_none() {
                self.route().await?;
            }
            match self.owner.take() {
                Some(owner) => owner.finish().await,
                None => Err(SinkError::NotAskedFor),
            }
        }
        .boxed()
    }
}
