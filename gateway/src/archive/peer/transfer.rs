//! One answer of a peer, to its closing boundary: what was asked for goes to the sink, anything else ends
//! the transfer.
//!
//! The peer is identified, and still not trusted with the content: the number of parts is that of the
//! instances named, every size has a bound, and each instance must be one of the series that the KOS
//! names, in what it says of itself too.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::PeerError;
use crate::archive::dicomweb::client::Answer;
use crate::archive::dicomweb::instance::IncomingFile;
use crate::archive::dicomweb::multipart::{Event, Parts};
use crate::archive::{ArchiveError, IncomingInstance, InstanceSink, InstanceWriter, SinkError};
use crate::dicom::scan::{HeadScanner, Limits};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// Bytes that count as progress: less within the time allowed is a peer that wants to be waited for.
const PROGRESS: u64 = 4 << 10;

/// Bounds on what a peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferLimits {
    /// Bytes of one instance.
    pub instance_bytes: u64,
    /// Bytes of one answer.
    pub answer_bytes: u64,
    /// Time in which something must come.
    pub response_timeout: Duration,
    /// Limits of what is read from a data set.
    pub data_set: Limits,
}

/// What one answer may hold.
pub(super) struct Expected {
    pub study: StudyUid,
    pub series: SeriesUid,
    /// Every instance of the series: each may come once.
    pub known: Arc<HashSet<InstanceUid>>,
    /// Those that the sink wants; the others that are known are read and dropped.
    pub wanted: HashSet<InstanceUid>,
}

/// What an answer held.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Instances that the sink took.
    pub instances: HashSet<InstanceUid>,
    /// Instances that cannot be read.
    pub malformed: u64,
    /// Bytes of the body.
    pub bytes: u64,
}

/// Reads one answer into a sink. What was delivered before a failure is in `delivered`.
///
/// # Errors
/// [`ArchiveError::Peer`] and those of the exchange.
pub(super) async fn receive(
    mut answer: Answer,
    host: &str,
    expected: Expected,
    limits: TransferLimits,
    sink: Arc<dyn InstanceSink>,
    delivered: &mut Delivered,
) -> Result<(), ArchiveError> {
    answer.check_encoding()?;
    if answer.media_type() != "multipart/related" {
        let detail = "the answer is not multipart/related".into();
        return Err(untrustworthy(host, detail));
    }
    let mut reader = Reader::new(answer.content_type(), host, expected, limits, sink)?;
    let mut clock = Clock::new(limits.response_timeout);
    while !reader.is_closed() {
        let Some(bytes) = clock.limit(answer.next("the transfer of a series")).await? else {
            return Err(answer.closed("the transfer of a series"));
        };
        reader.take(bytes, delivered).await?;
    }
    answer.finish().await;
    Ok(())
}

/// Reads `body`, in these pieces, as a peer's answer of this type about a series of which it may send `known`; what a
/// transfer does once the answer is there. The instances that `sink` took.
///
/// # Errors
/// [`ArchiveError::Peer`], and what ends a transfer at the sink; [`PeerError::Untrustworthy`] also for a body that stops
/// before its closing boundary.
pub async fn inspect(
    content_type: &str,
    body: impl IntoIterator<Item = Bytes>,
    series: (StudyUid, SeriesUid),
    known: HashSet<InstanceUid>,
    limits: TransferLimits,
    sink: Arc<dyn InstanceSink>,
) -> Result<HashSet<InstanceUid>, ArchiveError> {
    let expected = Expected {
        study: series.0,
        series: series.1,
        wanted: known.clone(),
        known: Arc::new(known),
    };
    let mut reader = Reader::new(content_type, "inspected", expected, limits, sink)?;
    let mut delivered = Delivered::default();
    let mut body = body.into_iter();
    while !reader.is_closed() {
        let Some(bytes) = body.next() else {
            return Err(reader.untrustworthy("the answer stops before its end".into()));
        };
        reader.take(bytes, &mut delivered).await?;
    }
    Ok(delivered.instances)
}

/// An answer as far as it has come.
struct Reader<'a> {
    host: &'a str,
    parts: Parts,
    /// Parts begun.
    count: usize,
    file: IncomingFile,
    file_bytes: u64,
    checked: Checked,
}

impl<'a> Reader<'a> {
    fn new(
        content_type: &str,
        host: &'a str,
        expected: Expected,
        limits: TransferLimits,
        sink: Arc<dyn InstanceSink>,
    ) -> Result<Self, ArchiveError> {
        let parts = Parts::of(content_type);
        Ok(Self {
            host,
            parts: parts.map_err(|error| untrustworthy(host, error.to_string()))?,
            count: 0,
            file: IncomingFile::new(),
            file_bytes: 0,
            checked: Checked {
                inner: sink,
                limits,
                expected: Arc::new(expected),
                seen: Mutex::default(),
            },
        })
    }

    fn is_closed(&self) -> bool {
        self.parts.is_closed()
    }

    async fn take(&mut self, bytes: Bytes, delivered: &mut Delivered) -> Result<(), ArchiveError> {
        let limits = self.checked.limits;
        delivered.bytes += bytes.len() as u64;
        if delivered.bytes > limits.answer_bytes {
            return Err(self.untrustworthy(format!(
                "more than {} bytes in one answer",
                limits.answer_bytes
            )));
        }
        self.parts.push(bytes);
        loop {
            let event = self.parts.event();
            match event.map_err(|error| self.untrustworthy(error.to_string()))? {
                None => return Ok(()),
                Some(Event::Part) => {
                    self.count += 1;
                    let most_parts = self.checked.expected.known.len();
                    if self.count > most_parts {
                        return Err(self.untrustworthy(format!(
                            "more than the {most_parts} instances that the KOS names"
                        )));
                    }
                    self.file = IncomingFile::new();
                    self.file_bytes = 0;
                }
                Some(Event::Content(bytes)) => {
                    self.file_bytes += bytes.len() as u64;
                    if self.file_bytes > limits.instance_bytes {
                        return Err(self.untrustworthy(format!(
                            "an instance of more than {} bytes",
                            limits.instance_bytes
                        )));
                    }
                    if let Err(error) = self.file.take(bytes, &self.checked).await {
                        ends(&error, self.host).map_or(Ok(()), Err)?;
                    }
                }
                Some(Event::PartEnd) => {
                    let whole = std::mem::replace(&mut self.file, IncomingFile::new());
                    match whole.finish().await {
                        Ok(instance) if self.checked.expected.wanted.contains(&instance) => {
                            delivered.instances.insert(instance);
                        }
                        Ok(_) => {}
                        Err(error) => {
                            ends(&error, self.host).map_or(Ok(()), Err)?;
                            delivered.malformed += 1;
                        }
                    }
                }
                Some(Event::Close) => {}
            }
        }
    }

    fn untrustworthy(&self, detail: String) -> ArchiveError {
        untrustworthy(self.host, detail)
    }
}

fn untrustworthy(host: &str, detail: String) -> ArchiveError {
    ArchiveError::Peer(PeerError::Untrustworthy {
        host: host.to_owned(),
        detail,
    })
}

/// The end of a transfer that a refused instance means: one that is damaged does not end it.
fn ends(error: &SinkError, host: &str) -> Option<ArchiveError> {
    match error {
        SinkError::NotAskedFor => Some(ArchiveError::Peer(PeerError::Untrustworthy {
            host: host.to_owned(),
            detail: "an instance that the KOS does not name in this series".into(),
        })),
        SinkError::Malformed(detail) => {
            tracing::warn!(peer = host, "an instance cannot be read: {detail}");
            None
        }
        error => error.ends_retrieval(),
    }
}

/// Time without progress.
struct Clock {
    limit: Duration,
    until: Instant,
    since: u64,
}

impl Clock {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            until: Instant::now() + limit,
            since: 0,
        }
    }

    async fn limit(
        &mut self,
        next: impl Future<Output = Result<Option<Bytes>, ArchiveError>>,
    ) -> Result<Option<Bytes>, ArchiveError> {
        let next = timeout_at(self.until, next).await;
        let next = next.map_err(|_| ArchiveError::TimedOut {
            address: "the source".into(),
            stage: "the transfer of a series",
            after: self.limit,
        })??;
        self.since += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.since >= PROGRESS {
            self.since = 0;
            self.until = Instant::now() + self.limit;
        }
        Ok(next)
    }
}

/// Lets through to a sink what was asked for, and nothing else.
struct Checked {
    inner: Arc<dyn InstanceSink>,
    limits: TransferLimits,
    expected: Arc<Expected>,
    seen: Mutex<HashSet<InstanceUid>>,
}

impl InstanceSink for Checked {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        let instance = incoming.instance.clone();
        if !self.expected.known.contains(&instance) || !self.seen.lock().insert(instance.clone()) {
            return Err(SinkError::NotAskedFor);
        }
        let scanner = HeadScanner::new(&incoming.transfer_syntax, self.limits.data_set);
        let inner = if self.expected.wanted.contains(&instance) {
            Some(self.inner.begin(incoming)?)
        } else {
            None
        };
        Ok(Box::new(CheckedWriter {
            inner,
            scanner,
            instance,
            expected: Arc::clone(&self.expected),
        }))
    }
}

struct CheckedWriter {
    /// `None`: read and dropped.
    inner: Option<Box<dyn InstanceWriter>>,
    scanner: HeadScanner,
    instance: InstanceUid,
    expected: Arc<Expected>,
}

impl InstanceWriter for CheckedWriter {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            self.scanner.feed(&data).map_err(malformed)?;
            match &mut self.inner {
                Some(inner) => inner.write(data).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move {
            let head = self.scanner.finish().map_err(malformed)?;
            let expected = &self.expected;
            let is_it = head.study.as_ref() == Some(&expected.study)
                && head.series.as_ref() == Some(&expected.series)
                && head.instance.as_ref() == Some(&self.instance);
            if !is_it {
                return Err(SinkError::NotAskedFor);
            }
            match self.inner {
                Some(inner) => inner.finish().await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}

fn malformed(error: impl std::fmt::Display) -> SinkError {
    SinkError::Malformed(error.to_string())
}
