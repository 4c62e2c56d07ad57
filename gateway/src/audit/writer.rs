//! The one hand that writes the trail: a thread that takes whatever waits, writes it in one piece,
//! makes it durable once, and only then answers.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use time::{Date, OffsetDateTime};
use tokio::sync::{mpsc, oneshot, watch};

use super::chain::{Fault, Line, Lines};
use super::event::{Event, Kind, Object, Outcome, TrailNote};
use super::files::{self, AnchorFile, Segment};
use super::record::{self, Anchor, Hash, NotARecord, Record, Sequence};
use super::{AuditError, Clock, Settings};

/// Most records made durable together.
pub(super) const MAX_GROUP: usize = 1024;
/// Bytes of records after which a group is full.
const MAX_GROUP_BYTES: usize = 1024 * 1024;

/// What the writer does to files, so that tests can count it and make it fail.
pub(super) trait Disk: Send + 'static {
    /// Writes at the end of a file.
    fn append(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Makes what was written durable.
    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The disk itself.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// What the writer is told.
pub(super) enum Told {
    /// An event that somebody waits for.
    Job(Job),
    /// Events in no hurry have waited long enough.
    Time,
}

/// Events in no hurry: they are written with the next that is.
pub(super) type Unhurried = Arc<Mutex<Vec<Job>>>;

/// An event that waits for its place.
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) event: String,
    pub(super) answer: oneshot::Sender<Result<Sequence, AuditError>>,
}

/// The writer, with the trail open behind it.
pub(super) struct Writer {
    dir: PathBuf,
    segment_bytes: u64,
    retention: Option<Duration>,
    clock: Clock,
    disk: Box<dyn Disk>,
    anchor_file: AnchorFile,
    last: Anchor,
    current: Option<Current>,
    /// Whether the end of the trail on disk may differ from what is known of it.
    doubtful: bool,
    acknowledged: watch::Sender<Anchor>,
    forwarded: Arc<AtomicU64>,
    /// Keeps other processes off the folder.
    _lock: File,
}

/// The segment that is written to.
struct Current {
    file: File,
    segment: Segment,
    bytes: u64,
}

/// The end of a trail as it is found at a start.
struct Tail {
    last: Anchor,
    current: Option<Current>,
    cut: u64,
}

impl Writer {
    /// Opens a trail, or begins one. Cuts off what a crash left unfinished.
    pub(super) fn open(
        settings: &Settings,
        clock: Clock,
        disk: Box<dyn Disk>,
        forwarded: Arc<AtomicU64>,
    ) -> Result<Self, AuditError> {
        let dir = settings.dir.clone();
        let failed = |what| move |source| AuditError::io(what, source);
        files::make_folder(&dir).map_err(failed("make the folder"))?;
        let lock = lock(&dir)?;
        let tail = tail(&dir)?;
        let mut anchor_file = AnchorFile::open(&dir).map_err(failed("open the anchor"))?;
        // Both places: the older one may stem from before a crash.
        for _ in 0..2 {
            let kept = anchor_file.write(tail.last);
            kept.map_err(failed("write the anchor"))?;
        }
        anchor_file.sync().map_err(failed("write the anchor"))?;
        files::sync_folder(&dir).map_err(failed("sync the folder"))?;
        let (acknowledged, _) = watch::channel(tail.last);
        let mut writer = Self {
            dir,
            segment_bytes: settings.segment_bytes,
            retention: settings.retention,
            clock,
            disk,
            anchor_file,
            last: tail.last,
            current: tail.current,
            doubtful: false,
            acknowledged,
            forwarded,
            _lock: lock,
        };
        if tail.cut > 0 {
            writer.note(Kind::TrailRepaired, tail.last, tail.cut)?;
        }
        writer.expire();
        Ok(writer)
    }

    /// Where the last acknowledged record can be followed.
    pub(super) fn acknowledged(&self) -> watch::Receiver<Anchor> {
        self.acknowledged.subscribe()
    }

    /// Writes what comes until nobody can send any more.
    pub(super) fn run(mut self, mut told: mpsc::Receiver<Told>, unhurried: &Unhurried) {
        let mut group = Vec::new();
        while let Some(first) = told.blocking_recv() {
            group.append(&mut unhurried.lock());
            let mut next = Some(first);
            let mut bytes: usize = group.iter().map(|job| job.event.len()).sum();
            while let Some(one) = next {
                if let Told::Job(job) = one {
                    bytes += job.event.len();
                    group.push(job);
                }
                let has_room = group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES;
                next = if has_room { told.try_recv().ok() } else { None };
            }
            self.answer(&mut group);
        }
        group.append(&mut unhurried.lock());
        self.answer(&mut group);
        if let Err(error) = self.anchor_file.sync() {
            tracing::warn!(%error, "the anchor of the audit trail could not be synced");
        }
    }

    fn answer(&mut self, group: &mut Vec<Job>) {
        if group.is_empty() {
            return;
        }
        let events: Vec<&str> = group.iter().map(|job| job.event.as_str()).collect();
        let written = self.turn_over().and_then(|()| self.commit(&events));
        match written {
            Ok(first) => {
                metrics::counter!("drimbox_audit_commits_total").increment(1);
                for (job, sequence) in group.drain(..).zip(first.0..) {
                    let kind = job.kind.word();
                    metrics::counter!("drimbox_audit_records_total", "kind" => kind).increment(1);
                    // Nobody waits any more: the record stays all the same.
                    let _ = job.answer.send(Ok(Sequence(sequence)));
                }
            }
            Err(error) => {
                tracing::error!(%error, records = group.len(), "the audit trail cannot be written: requests that it must hold are refused");
                metrics::counter!("drimbox_audit_failures_total", "cause" => error.cause())
                    .increment(group.len() as u64);
                for job in group.drain(..) {
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Writes events at the end of the trail and makes them durable, all or none. The sequence of
    /// the first one.
    fn commit(&mut self, events: &[&str]) -> Result<Sequence, AuditError> {
        if self.doubtful {
            self.find_the_end()?;
        }
        let mut last = self.last;
        let mut lines = String::new();
        for event in events {
            let (line, anchor) = record::encode(last, event).ok_or(AuditError::TooLong)?;
            lines.push_str(&line);
            last = anchor;
        }
        let today = (self.clock)().date();
        self.append(lines.as_bytes(), today).inspect_err(|_| {
            self.doubtful = true;
            if self.find_the_end().is_err() {
                tracing::warn!("the end of the audit trail cannot be restored yet");
            }
        })?;
        let first = self.last.sequence.next();
        self.last = last;
        // Not synced: what the anchor names is durable already, and an older anchor after a loss of
        // power is none the worse for the records after it.
        let kept = self.anchor_file.write(last);
        kept.map_err(|error| AuditError::io("write the anchor", error))?;
        self.acknowledged.send_replace(last);
        Ok(first)
    }

    fn append(&mut self, bytes: &[u8], today: Date) -> Result<(), AuditError> {
        let failed = |what| move |source| AuditError::io(what, source);
        let is_new = self.current.is_none();
        let current = match &mut self.current {
            Some(current) => current,
            none => {
                let segment = Segment::new(&self.dir, self.last.sequence.next(), today);
                let file = segment.create().map_err(failed("begin a segment"))?;
                none.insert(Current {
                    file,
                    segment,
                    bytes: 0,
                })
            }
        };
        let written = self.disk.append(&current.file, bytes);
        written.map_err(failed("write"))?;
        self.disk.sync(&current.file).map_err(failed("sync"))?;
        if is_new {
            files::sync_folder(&self.dir).map_err(failed("sync the folder"))?;
        }
        current.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the trail back to its last acknowledged record after a failure.
    fn find_the_end(&mut self) -> Result<(), AuditError> {
        let failed = |source| AuditError::io("cut back a failed write", source);
        if let Some(current) = self.current.take_if(|current| current.bytes == 0) {
            std::fs::remove_file(&current.segment.path)
                .or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })
                .inspect_err(|_| self.current = Some(current))
                .map_err(failed)?;
        }
        if let Some(current) = &self.current {
            current.file.set_len(current.bytes).map_err(failed)?;
            self.disk.sync(&current.file).map_err(failed)?;
        }
        self.doubtful = false;
        Ok(())
    }

    /// Ends the segment when it is full or of another day.
    fn turn_over(&mut self) -> Result<(), AuditError> {
        let today = (self.clock)().date();
        let over = self.current.as_ref().is_some_and(|current| {
            current.bytes > 0
                && (current.bytes >= self.segment_bytes || current.segment.day != today)
        });
        if over && !self.doubtful {
            // The anchor stays within the last two segments: a start reads no more than these.
            let synced = self.anchor_file.sync();
            synced.map_err(|error| AuditError::io("sync the anchor", error))?;
            self.current = None;
            self.expire();
        }
        Ok(())
    }

    /// Removes segments whose retention has ended and that every syslog server has. What cannot be
    /// removed stays, and stops nothing.
    fn expire(&mut self) {
        if let Some(retention) = self.retention
            && let Err(error) = self.remove_older_than(retention)
        {
            tracing::error!(%error, "an expired segment of the audit trail cannot be removed");
            metrics::counter!("drimbox_audit_failures_total", "cause" => "expiry").increment(1);
        }
    }

    /// A record says what is removed, before it is.
    fn remove_older_than(&mut self, retention: Duration) -> Result<(), AuditError> {
        let failed = |what| move |source| AuditError::io(what, source);
        let now = (self.clock)();
        let segments = files::segments(&self.dir).map_err(failed("list the segments"))?;
        for pair in segments.windows(2) {
            let [old, next] = pair else { break };
            // The youngest record of a segment is no younger than the day the next was begun.
            let ended = next.day.midnight().assume_utc() + Duration::from_secs(86_400);
            let through = Sequence(next.first.0.saturating_sub(1));
            let is_sent = through.0 <= self.forwarded.load(Ordering::Acquire);
            if now - ended < retention || !is_sent {
                break;
            }
            let last = last_record(old)?.ok_or_else(|| AuditError::damaged(old, through))?;
            if last.sequence != through {
                return Err(AuditError::damaged(old, through));
            }
            let bytes = std::fs::metadata(&old.path).map_err(failed("read a segment"))?;
            self.note(Kind::TrailExpired, last.anchor(), bytes.len())?;
            std::fs::remove_file(&old.path).map_err(failed("remove an expired segment"))?;
        }
        Ok(())
    }

    /// Records what the trail has to say about itself.
    fn note(&mut self, kind: Kind, about: Anchor, bytes: u64) -> Result<(), AuditError> {
        let now: OffsetDateTime = (self.clock)();
        let mut event = Event::new(now, kind)
            .on(Object::default())
            .ending(Outcome::default());
        event.trail = Some(TrailNote {
            sequence: about.sequence,
            hash: about.hash,
            bytes,
        });
        let event = serde_json::to_string(&event).map_err(|_| AuditError::TooLong)?;
        self.commit(&[&event]).map(|_| ())
    }
}

/// Takes the folder for this process.
fn lock(dir: &Path) -> Result<File, AuditError> {
    let failed = |source| AuditError::io("lock the folder", source);
    let file = File::create(dir.join("lock")).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AuditError::Locked),
        Err(error) => Err(failed(error.into())),
    }
}

/// Finds the end of a trail: its last segment is read whole and compared with the segment before and
/// with the anchor.
fn tail(dir: &Path) -> Result<Tail, AuditError> {
    let failed = |what| move |source| AuditError::io(what, source);
    let anchor = files::read_anchor(dir).map_err(failed("read the anchor"))?;
    let mut segments = files::segments(dir).map_err(failed("list the segments"))?;
    let mut cut = 0;
    loop {
        let Some(segment) = segments.pop() else {
            return match anchor {
                None | Some(Anchor::EMPTY) => Ok(Tail {
                    last: Anchor::EMPTY,
                    current: None,
                    cut,
                }),
                Some(anchor) => Err(AuditError::Damaged(Fault::Tail {
                    last: Sequence(0),
                    acknowledged: anchor.sequence,
                })),
            };
        };
        let anchor = anchor.ok_or(AuditError::Damaged(Fault::NoAnchor))?;
        let before = match segments.last() {
            Some(before) => Some(last_record(before)?.map(|record| record.anchor())),
            None => None,
        };
        let read = read_tail(&segment, before.flatten(), anchor)?;
        cut += read.unfinished;
        if read.unfinished > 0 {
            let file = segment.reopen().map_err(failed("open a segment"))?;
            let shorter = file.set_len(read.bytes).and_then(|()| file.sync_all());
            shorter.map_err(failed("cut off an unfinished record"))?;
        }
        if read.bytes == 0 {
            // Begun, and nothing in it was acknowledged.
            std::fs::remove_file(&segment.path).map_err(failed("remove an empty segment"))?;
            continue;
        }
        let file = segment.reopen().map_err(failed("open a segment"))?;
        return Ok(Tail {
            last: read.last,
            current: Some(Current {
                file,
                segment,
                bytes: read.bytes,
            }),
            cut,
        });
    }
}

struct ReadTail {
    last: Anchor,
    bytes: u64,
    unfinished: u64,
}

fn read_tail(
    segment: &Segment,
    before: Option<Anchor>,
    anchor: Anchor,
) -> Result<ReadTail, AuditError> {
    let failed = |source| AuditError::io("read a segment", source);
    let name = segment.name();
    let damaged = |line, what| {
        let segment = name.clone();
        AuditError::Damaged(Fault::Line {
            segment,
            line,
            what,
        })
    };
    let mut lines = Lines::open(segment).map_err(failed)?;
    let mut bytes = 0;
    let mut number = 0;
    let mut unfinished = 0;
    let start = Anchor {
        sequence: Sequence(segment.first.0.saturating_sub(1)),
        hash: Hash::ZERO,
    };
    let mut last = before.unwrap_or(start);
    // What stood before the first segment there is, is the business of `verify`.
    let mut is_bound = before.is_some() || start.sequence == Sequence(0);
    loop {
        number += 1;
        match lines.next().map_err(failed)? {
            Line::End => break,
            Line::Unfinished(length) => unfinished += length,
            Line::Whole(line) => match Record::parse(&line) {
                Ok(record) if unfinished > 0 => {
                    let sequence = record.sequence;
                    tracing::debug!(%sequence, "a whole record after an unfinished one");
                    return Err(damaged(number, NotARecord::Form));
                }
                Ok(record) => {
                    let expected = last.sequence.next();
                    if record.sequence != expected {
                        return Err(AuditError::Damaged(Fault::Order {
                            segment: name,
                            line: number,
                            expected,
                            found: record.sequence,
                        }));
                    }
                    if is_bound && record.previous != last.hash {
                        return Err(AuditError::Damaged(Fault::Link {
                            segment: name,
                            line: number,
                            sequence: record.sequence,
                        }));
                    }
                    is_bound = true;
                    last = record.anchor();
                    bytes = lines.offset;
                    if last.sequence == anchor.sequence && last.hash != anchor.hash {
                        let sequence = anchor.sequence;
                        return Err(AuditError::Damaged(Fault::Anchor { sequence }));
                    }
                }
                // After a loss of power, a line that was never acknowledged may hold anything.
                Err(NotARecord::Form) if last.sequence >= anchor.sequence => {
                    unfinished += line.len() as u64;
                }
                Err(what) => return Err(damaged(number, what)),
            },
        }
    }
    if last.sequence < anchor.sequence {
        return Err(AuditError::Damaged(Fault::Tail {
            last: last.sequence,
            acknowledged: anchor.sequence,
        }));
    }
    Ok(ReadTail {
        last,
        bytes,
        unfinished,
    })
}

/// The last record of a segment that is ended.
fn last_record(segment: &Segment) -> Result<Option<Record>, AuditError> {
    let failed = |source| AuditError::io("read a segment", source);
    let mut lines = Lines::open(segment).map_err(failed)?;
    let mut last = None;
    while let Line::Whole(line) = lines.next().map_err(failed)? {
        last = Some(line);
    }
    Ok(last.and_then(|line| Record::parse(&line).ok()))
}
