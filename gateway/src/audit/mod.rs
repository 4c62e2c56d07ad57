//! The audit trail: who saw what, durable before it is shown, and proof against later changes.
//!
//! A trail is a folder of append-only segments, one record a line, each tied to the one before by a
//! SHA-256. [`Audit::record`] answers when the record is on disk; who cannot record refuses the request.
//! [`verify`] finds what was changed, removed, moved or cut off; it cannot find what was done by someone
//! who rewrote all of the trail and its anchor: for that, an anchor is kept elsewhere, or the records are
//! sent to a syslog server as they are made.
//!
//! Events hold identities of professionals and UIDs of studies, and are the one place that does. The
//! module knows neither HTTP nor DICOM nor the configuration.

pub mod atna;
mod chain;
mod event;
mod files;
mod filter;
mod follow;
pub mod forward;
mod record;
mod repeats;
pub mod stats;
pub mod syslog;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};

pub use chain::{Chain, Fault, Report, verify};
pub use event::{Actor, Ending, Event, Kind, Object, Outcome, Peer, Person, Text, TrailNote};
pub use filter::Filter;
pub use record::{Anchor, Hash, NotARecord, Record, Sequence};
pub use repeats::Repeats;

use files::Segment;
use writer::{Disk, Job, RealDisk, Told, Unhurried, Writer};

/// Records that wait to be written at most; who comes later waits for a place.
const MAX_WAITING: usize = 4096;

/// Longest time that an event in no hurry waits for one that is.
const UNHURRIED: Duration = Duration::from_millis(50);

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The clock of the machine, in UTC.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

/// How a trail is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its folder, which nothing else writes to.
    pub dir: PathBuf,
    /// Bytes after which a segment is ended; one is also ended at the end of the day (UTC).
    pub segment_bytes: u64,
    /// How long records are kept at least; `None`: for ever. What a syslog server has not got yet is
    /// kept longer.
    pub retention: Option<Duration>,
    /// Names of the syslog servers that get the records.
    pub targets: Vec<String>,
}

/// Why a trail cannot be opened, or an event not be recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The disk failed or is full.
    #[error("the audit trail could not {what}: {source}. Make room or mend the disk")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process has the folder.
    #[error("the audit trail is in use: is another drimbox running on this folder?")]
    Locked,
    /// What is on disk was changed since it was written.
    #[error(
        "the audit trail was changed outside of drimbox: {0}. Run `drimbox audit verify`, move its \
         folder aside as evidence, and start again: a new trail begins"
    )]
    Damaged(Fault),
    /// An event is longer than a record may be.
    #[error("an event is too long for the audit trail")]
    TooLong,
    /// The trail was closed.
    #[error("the audit trail is closed: the service is stopping")]
    Closed,
}

impl AuditError {
    fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io {
            what,
            source: Arc::new(source),
        }
    }

    fn damaged(segment: &Segment, last: Sequence) -> Self {
        Self::Damaged(Fault::Order {
            segment: segment.name(),
            line: 0,
            expected: last,
            found: Sequence(0),
        })
    }

    /// A fixed word, for metrics and reasons of refusals.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "disk-full",
            Self::Io { .. } => "disk",
            Self::Locked => "locked",
            Self::Damaged(_) => "damaged",
            Self::TooLong => "too-long",
            Self::Closed => "closed",
        }
    }
}

/// An open trail. Clones are the same trail.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    jobs: Mutex<Option<mpsc::Sender<Told>>>,
    unhurried: Unhurried,
    acknowledged: watch::Receiver<Anchor>,
    forwarded: Arc<AtomicU64>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Audit {
    /// Opens a trail or begins one, and cuts off what a crash left of a record that was never
    /// acknowledged. Blocks.
    ///
    /// # Errors
    /// [`AuditError`]; a trail that was changed from outside is not opened.
    pub fn open(settings: Settings, clock: Clock) -> Result<Self, AuditError> {
        Self::open_on(&settings, clock, Box::new(RealDisk))
    }

    fn open_on(settings: &Settings, clock: Clock, disk: Box<dyn Disk>) -> Result<Self, AuditError> {
        let sent = settings.targets.iter().map(|target| {
            let sent = follow::read_position(&settings.dir, target);
            sent.map_or(0, |sent| sent.0)
        });
        let forwarded = Arc::new(AtomicU64::new(sent.min().unwrap_or(u64::MAX)));
        let writer = Writer::open(settings, Arc::clone(&clock), disk, Arc::clone(&forwarded))?;
        let acknowledged = writer.acknowledged();
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let unhurried = Unhurried::default();
        let waiting = Arc::clone(&unhurried);
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(receiver, &waiting))
            .map_err(|error| AuditError::io("start its thread", error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                clock,
                jobs: Mutex::new(Some(sender)),
                unhurried,
                acknowledged,
                forwarded,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// An event of this kind, now.
    #[must_use]
    pub fn event(&self, kind: Kind) -> Event {
        Event::new((self.inner.clock)(), kind)
    }

    /// Records an event. When this returns, it is on disk. Callers at the same time share one sync.
    ///
    /// A caller that goes away while it waits leaves the record behind.
    ///
    /// # Errors
    /// [`AuditError`]: the event is not recorded, and what it stands for must not happen.
    pub async fn record(&self, event: Event) -> Result<Sequence, AuditError> {
        let (job, answered) = job(&event)?;
        let jobs = self.inner.jobs.lock().clone().ok_or(AuditError::Closed)?;
        let sent = jobs.send(Told::Job(job)).await;
        sent.map_err(|_| AuditError::Closed)?;
        drop(jobs);
        answered.await.map_err(|_| AuditError::Closed)?
    }

    /// Records an event that nothing waits for, such as the end of an answer whose beginning is on
    /// disk: it shares the sync of the next event that is in a hurry, and waits for it
    /// [`UNHURRIED`] at most. When this returns, it is on disk.
    ///
    /// # Errors
    /// [`AuditError`]: the event is not recorded.
    pub async fn record_unhurried(&self, event: Event) -> Result<Sequence, AuditError> {
        let (job, answered) = job(&event)?;
        let (full, first) = {
            // Closing takes the sender before the writer looks here for the last time.
            let jobs = self.inner.jobs.lock();
            if jobs.is_none() {
                return Err(AuditError::Closed);
            }
            let mut waiting = self.inner.unhurried.lock();
            waiting.push(job);
            (waiting.len() >= writer::MAX_GROUP, waiting.len() == 1)
        };
        if first {
            tokio::time::sleep(UNHURRIED).await;
        }
        if first || full {
            // A trail that was closed meanwhile has it.
            let jobs = self.inner.jobs.lock().clone();
            if let Some(jobs) = jobs {
                let _ = jobs.send(Told::Time).await;
            }
        }
        answered.await.map_err(|_| AuditError::Closed)?
    }

    /// Keeps records after this one beyond their retention: a server has not got them yet.
    fn hold_after(&self, sent: Sequence) {
        self.inner.forwarded.store(sent.0, Ordering::Release);
    }

    /// Records that wait to be written.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        let jobs = self.inner.jobs.lock();
        let jobs = jobs.as_ref();
        jobs.map_or(0, |jobs| jobs.max_capacity() - jobs.capacity())
    }

    /// The last acknowledged record.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        *self.inner.acknowledged.borrow()
    }

    /// Follows the last acknowledged record.
    fn acknowledged(&self) -> watch::Receiver<Anchor> {
        self.inner.acknowledged.clone()
    }

    /// Waits until everything taken so far is on disk, and closes the trail: later events are
    /// [`AuditError::Closed`].
    pub async fn close(&self) {
        self.inner.jobs.lock().take();
        let thread = self.inner.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread was logged by the hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// An event for the writer, and its answer.
fn job(event: &Event) -> Result<(Job, Answered), AuditError> {
    let json = serde_json::to_string(event).map_err(|_| AuditError::TooLong)?;
    if json.len() > record::MAX_EVENT {
        return Err(AuditError::TooLong);
    }
    let (answer, answered) = oneshot::channel();
    let job = Job {
        kind: event.kind,
        event: json,
        answer,
    };
    Ok((job, answered))
}

type Answered = oneshot::Receiver<Result<Sequence, AuditError>>;

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("anchor", &self.anchor())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
