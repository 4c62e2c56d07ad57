//! Upstreams that hold images: one trait, [`Archive`], whatever the protocol behind it.
//!
//! An archive finds, retrieves and stores; it decides nothing about who may see what, keeps no
//! image, and knows nothing of the cache. [`dimse`] is a PACS spoken to with DIMSE services,
//! [`dicomweb`] one spoken to with DICOMweb, [`peer`] an exam at another DRIMbox.

pub mod dicomweb;
pub mod dimse;
mod error;
pub mod gate;
mod identifier;
mod listing;
pub mod peer;
pub mod socket;

pub use error::ArchiveError;
pub use identifier::{Identifier, Key};

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use dicom_core::Tag;

use crate::dicom::charset::{CharacterSet, Repertoire};
use crate::dicom::reader::{DataSet, Limits, ReadError};
use crate::dicom::syntax::Encoding;
use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid, Uid};

/// A place that holds images.
pub trait Archive: Send + Sync + 'static {
    /// Asks whether the archive answers (C-ECHO, or its like).
    fn verify(&self) -> BoxFuture<'_, Result<(), ArchiveError>>;

    /// Searches; at most `request.max_matches` answers are kept.
    fn find(&self, request: FindRequest) -> BoxFuture<'_, Result<Matches, ArchiveError>>;

    /// Whether a search takes longer when it asks for the number of instances too.
    fn counts_slowly(&self) -> bool {
        false
    }

    /// Says that series of these modalities are likely to be retrieved in a moment: what a retrieval
    /// needs may be made ready. Nothing depends on it.
    fn anticipate(&self, modalities: &[String]) {
        let _ = modalities;
    }

    /// Retrieves what `request.scope` names into `sink`, as stored, in the order of arrival.
    ///
    /// `Ok` means that the archive and the count of deliveries agree that everything it announced
    /// was delivered. A report with failures is an `Err`: [`ArchiveError::Incomplete`].
    fn retrieve(
        &self,
        request: RetrieveRequest,
        sink: Arc<dyn InstanceSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<RetrieveReport, ArchiveError>>;

    /// Keeps what the archive needs open tidy until `stop`, then closes what is idle.
    fn maintain(&self, stop: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(async move { stop.cancelled().await })
    }

    /// Sends instances to the archive; the outcome is per instance, in the order given.
    fn store(
        &self,
        instances: Vec<OutgoingInstance>,
    ) -> BoxFuture<'_, Result<Vec<StoreOutcome>, ArchiveError>>;
}

/// Query/retrieve level (0008,0052) of PS3.4 annex C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Patients; queries of the patient root information model only.
    Patient,
    /// Studies.
    Study,
    /// Series.
    Series,
    /// Instances (`IMAGE` on the wire).
    Image,
}

impl Level {
    /// The value of (0008,0052).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "PATIENT",
            Self::Study => "STUDY",
            Self::Series => "SERIES",
            Self::Image => "IMAGE",
        }
    }
}

/// A search.
#[derive(Debug, Clone)]
pub struct FindRequest {
    /// Level of the answers.
    pub level: Level,
    /// Matching and return keys, without (0008,0052) and (0008,0005).
    pub identifier: Identifier,
    /// Answers kept at most; the archive is told to stop beyond.
    pub max_matches: usize,
}

/// The answers of a search.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    /// One data set an answer.
    pub items: Vec<Match>,
    /// True when the search was stopped, or stopped itself, before its last answer.
    pub truncated: bool,
    /// True when names of persons were matched by their meaning, as the identifier wanted.
    pub fuzzy_names: bool,
    /// True when an answer lacks an attribute that was searched by: the archive may not have
    /// compared it.
    pub unchecked: bool,
}

/// One answer of a search: an encoded data set.
#[derive(Debug, Clone)]
pub struct Match {
    /// The data set.
    pub data: Bytes,
    /// How it is encoded.
    pub transfer_syntax: TransferSyntaxUid,
}

impl Match {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`ReadError`] when it is not a data set, or beyond the limits.
    pub fn data_set(&self) -> Result<DataSet<'_>, ReadError> {
        let limits = Limits {
            elements: 20_000,
            head_bytes: 4 << 20,
            ..Limits::default()
        };
        DataSet::parse(&self.data, Encoding::of(&self.transfer_syntax), limits)
    }

    /// A UID of the answer.
    #[must_use]
    pub fn uid(&self, tag: Tag) -> Option<Uid> {
        self.data_set().ok()?.elements().uid(tag)
    }

    /// A text of the answer that no character set affects (CS, IS, DA…).
    #[must_use]
    pub fn text(&self, tag: Tag) -> Option<String> {
        let charset = CharacterSet::undeclared(Repertoire::Ascii);
        self.data_set().ok()?.elements().text(tag, &charset)
    }
}

/// What to retrieve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A whole study.
    Study(StudyUid),
    /// One series.
    Series(StudyUid, SeriesUid),
    /// One instance.
    Instance(StudyUid, SeriesUid, InstanceUid),
}

impl Scope {
    /// The study that the scope lies in.
    #[must_use]
    pub fn study(&self) -> &StudyUid {
        match self {
            Self::Study(study) | Self::Series(study, _) | Self::Instance(study, _, _) => study,
        }
    }

    /// The series, unless the scope is a study.
    #[must_use]
    pub fn series(&self) -> Option<&SeriesUid> {
        match self {
            Self::Study(_) => None,
            Self::Series(_, series) | Self::Instance(_, series, _) => Some(series),
        }
    }

    /// The instance, if the scope is one.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceUid> {
        match self {
            Self::Instance(_, _, instance) => Some(instance),
            _ => None,
        }
    }

    /// Query/retrieve level of the scope.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Study(_) => Level::Study,
            Self::Series(..) => Level::Series,
            Self::Instance(..) => Level::Image,
        }
    }
}

/// A retrieval.
#[derive(Debug, Clone)]
pub struct RetrieveRequest {
    /// What to retrieve.
    pub scope: Scope,
    /// Modalities (0008,0060) of the series in the scope, where a query told them. They choose the
    /// SOP classes that are negotiated first.
    pub modalities: Vec<String>,
    /// Number of instances in the scope, where a query told it.
    pub expected: Option<u64>,
}

/// Outcome of a complete retrieval.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetrieveReport {
    /// Instances that the sink took.
    pub delivered: u64,
}

/// Identity of an instance that is about to arrive.
#[derive(Debug, Clone)]
pub struct IncomingInstance {
    /// SOP class.
    pub sop_class: SopClassUid,
    /// SOP instance.
    pub instance: InstanceUid,
    /// How its data set is encoded.
    pub transfer_syntax: TransferSyntaxUid,
}

/// Why a sink did not take an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The instance is not part of what was asked for.
    #[error("the instance was not asked for")]
    NotAskedFor,
    /// The data set is malformed or beyond a limit.
    #[error("the data set cannot be read: {0}")]
    Malformed(String),
    /// Nobody waits for the retrieval any more.
    #[error("nobody waits for the retrieval")]
    Abandoned,
    /// The instance cannot be kept: no space, no memory within the limits.
    #[error("no room for the instance: {0}")]
    NoRoom(String),
}

impl SinkError {
    /// A short fixed word for metrics; `None` when our own side went away and nothing is wrong with
    /// the instance.
    #[must_use]
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::NotAskedFor => Some("not_asked_for"),
            Self::Malformed(_) => Some("malformed"),
            Self::NoRoom(_) => Some("no_room"),
            Self::Abandoned => None,
        }
    }

    /// What ends a whole retrieval rather than one instance.
    #[must_use]
    pub fn ends_retrieval(&self) -> Option<ArchiveError> {
        match self {
            Self::Abandoned => Some(ArchiveError::Cancelled),
            Self::NoRoom(detail) => Some(ArchiveError::Sink(detail.clone())),
            Self::NotAskedFor | Self::Malformed(_) => None,
        }
    }
}

/// Where retrieved instances go. Calls may come from several associations at once.
pub trait InstanceSink: Send + Sync + 'static {
    /// Announces an instance; its data set follows through the writer.
    ///
    /// # Errors
    /// [`SinkError`] when the instance is refused before its first byte.
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError>;
}

/// Takes the data set of one instance. Dropping it before `finish` discards the instance.
pub trait InstanceWriter: Send {
    /// Takes the next bytes. Slow storage makes the caller wait here.
    ///
    /// # Errors
    /// [`SinkError`]: the rest of the instance should be read and dropped.
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>>;

    /// The data set is whole.
    ///
    /// # Errors
    /// [`SinkError`] when the instance was not taken.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>>;
}

/// An instance to send, without its file meta information.
pub struct OutgoingInstance {
    /// SOP class.
    pub sop_class: SopClassUid,
    /// SOP instance.
    pub instance: InstanceUid,
    /// How `data` is encoded.
    pub transfer_syntax: TransferSyntaxUid,
    /// The data set, in pieces of any size.
    pub data: BoxStream<'static, std::io::Result<Bytes>>,
}

/// What became of one instance that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOutcome {
    /// Stored.
    Stored,
    /// Stored with a warning status (PS3.4 table B.2-1).
    StoredWithWarning(u16),
    /// Refused or failed.
    Failed {
        /// Status (0000,0900).
        status: u16,
        /// Error comment (0000,0902) without patient data, where the archive gave one.
        comment: String,
    },
    /// The archive accepted no presentation context for it.
    NotAccepted,
}
