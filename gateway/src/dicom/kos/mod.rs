//! Key Object Selection documents (PS3.3 §A.35.4), from bytes of which nothing is trusted: the manifest of an
//! exam that DRIM-M publishes, the key images of a reader (KIN), the rejection of instances (IOCM).
//!
//! Reading is lenient in everything that varies between products (implicit or explicit VR, defined or
//! undefined lengths, no TEXT item, unknown attributes and titles, missing numbers) and strict in what
//! identifies: SOP class, UIDs, one study. What a Retrieve URL says is kept as it stands: whoever would
//! ask there decides whether to.

mod patient;
mod read;

use std::collections::HashSet;

pub use patient::{Identifier, KosPatient, PersonIdentity};

use super::part10::Part10Error;
use super::reader::{Limits, ReadError};
use super::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid};

/// SOP class of Key Object Selection documents.
pub const KEY_OBJECT_SELECTION: &str = "1.2.840.10008.5.1.4.1.1.88.59";

/// Bounds on one document. They hold before anything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KosLimits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Series that it may name.
    pub series: usize,
    /// Instances that it may name, all series together.
    pub instances: usize,
    /// Key marks and references in its content, each.
    pub references: usize,
    /// Bytes of one text; a longer one counts as absent.
    pub text: usize,
}

impl Default for KosLimits {
    /// The largest manifest seen names 320 instances; a whole-body exam has thousands.
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            series: 1_000,
            instances: 100_000,
            references: 200_000,
            text: 64 << 10,
        }
    }
}

impl KosLimits {
    /// The bounds of the data set: about a dozen elements and items for each instance named.
    fn data_set(&self) -> Limits {
        let elements = self.instances.saturating_mul(15).saturating_add(20_000);
        Limits {
            depth: 32,
            elements: u32::try_from(elements).unwrap_or(u32::MAX),
            head_bytes: self.bytes as u64,
            inflated_bytes: self.bytes as u64,
        }
    }
}

/// A document that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kos {
    /// SOP Instance UID (0008,0018): what `KOS-SOPInstanceUID` of a request names.
    pub instance: InstanceUid,
    /// The study that everything referenced lies in: (0020,000D) of the evidence, which is the study
    /// of the document.
    pub study: StudyUid,
    /// Series that the document itself lies in (0020,000E), where it says so.
    pub series_of_document: Option<SeriesUid>,
    /// Instance Number (0020,0013): grows by one with every version that DRIM-M publishes.
    pub number: Option<u32>,
    /// Document title (0040,A043), where there is one.
    pub title: Option<Code>,
    /// Key Object Description (113012, DCM): the text for the reader.
    pub description: Option<String>,
    /// Study Description (0008,1030).
    pub study_description: Option<String>,
    /// Study Date (0008,0020), as it is written.
    pub study_date: Option<String>,
    /// Institution Name (0008,0080), as it is written.
    pub institution: Option<String>,
    /// The patient.
    pub patient: KosPatient,
    /// The orders (0040,A370); the accession number of the document itself where it has no orders.
    pub requests: Vec<Request>,
    /// The series (0040,A375), in the order of the document; a series that stands there twice is one.
    pub series: Vec<KosSeries>,
    /// What the content tree (0040,A730) refers to: the key images of a Key Image Note.
    pub content: Vec<Reference>,
}

/// A code (PS3.3 §8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Code Value (0008,0100).
    pub value: String,
    /// Coding Scheme Designator (0008,0102).
    pub scheme: String,
    /// Code Meaning (0008,0104).
    pub meaning: String,
}

/// An order of the exam.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Accession Number (0008,0050).
    pub accession: Option<String>,
    /// Universal Entity ID of the issuer of the accession number (0008,0051).
    pub accession_issuer: Option<String>,
    /// Placer Order Number (0040,2016).
    pub placer_order: Option<String>,
    /// Universal Entity ID of the placer (0040,0026).
    pub placer: Option<String>,
}

/// A series of the exam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KosSeries {
    /// Series Instance UID (0020,000E).
    pub series: SeriesUid,
    /// Retrieve URL (0008,1190), as it is written; nothing has checked it.
    pub retrieve_url: Option<String>,
    /// Retrieve Location UID (0040,E011), as it is written.
    pub retrieve_location: Option<String>,
    /// Series Number (0020,0011).
    pub number: Option<u32>,
    /// Modality, where the description of the document tells it. A hint: other products write other
    /// texts.
    pub modality: Option<String>,
    /// The instances, in the order of the document, each once.
    pub instances: Vec<KosInstance>,
}

/// An instance of the exam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KosInstance {
    /// Referenced SOP Class UID (0008,1150); missing in some documents.
    pub sop_class: Option<SopClassUid>,
    /// Referenced SOP Instance UID (0008,1155).
    pub instance: InstanceUid,
    /// Instance Number (0020,0013).
    pub number: Option<u32>,
    /// Marks that Key Image Notes of the exam put on it.
    pub marks: Vec<KeyMark>,
}

/// What a Key Image Note of the exam says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMark {
    /// SOP Instance UID of the note.
    pub note: InstanceUid,
    /// Series of the note.
    pub series: Option<SeriesUid>,
    /// Title of the note, mostly (113000, DCM, "Of Interest").
    pub title: Option<Code>,
    /// Text of the note.
    pub text: Option<String>,
}

/// An object that the content tree refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Referenced SOP Class UID.
    pub sop_class: Option<SopClassUid>,
    /// Referenced SOP Instance UID.
    pub instance: InstanceUid,
    /// Referenced Frame Number (0008,1160); empty means all frames.
    pub frames: Vec<u32>,
}

/// What a document is for, by its title (PS3.16 CID 7010, 7011).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The manifest of an exam (113030).
    Manifest,
    /// Instances that are to be used no more (IHE IOCM).
    Rejection(Rejection),
    /// Anything else: images that somebody marked.
    KeyImages,
}

/// Why instances are rejected (PS3.16 CID 7011).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// 113001: Rejected for Quality Reasons.
    Quality,
    /// 113037: Rejected for Patient Safety Reasons.
    PatientSafety,
    /// 113038: Incorrect Modality Worklist Entry.
    WrongWorklistEntry,
    /// 113039: Data Retention Policy Expired.
    RetentionExpired,
}

/// Why bytes are no document that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KosError {
    /// More bytes than any genuine document.
    #[error("the KOS has {bytes} bytes, {limit} are allowed; if it is genuine, raise the limit")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It is no DICOM file.
    #[error("the KOS cannot be read: {0}")]
    File(#[from] Part10Error),
    /// Its data set cannot be read.
    #[error("the KOS cannot be read: {0}")]
    DataSet(#[from] ReadError),
    /// Another kind of object.
    #[error("the object is no Key Object Selection document; give the KOS of the exam")]
    OtherSopClass,
    /// A UID is missing or is none.
    #[error("the KOS has no usable {attribute} ({tag}); ask its author for a corrected one")]
    NoUid {
        /// Name of the attribute.
        attribute: &'static str,
        /// Its tag.
        tag: &'static str,
    },
    /// The evidence names another study than the document, or several.
    #[error("the KOS refers to more than one study; only documents of one study are used")]
    SeveralStudies,
    /// Nothing is referenced.
    #[error("the KOS refers to no instance")]
    Empty,
    /// More of something than allowed.
    #[error("the KOS names more than {limit} {what}; if it is genuine, raise the limit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Kos {
    /// Reads a document from the bytes of a DICOM file (PS3.10), under the default limits.
    ///
    /// # Errors
    /// [`KosError`].
    pub fn parse(file: &[u8]) -> Result<Self, KosError> {
        Self::parse_within(file, &KosLimits::default())
    }

    /// Reads a document under these limits.
    ///
    /// # Errors
    /// [`KosError`].
    pub fn parse_within(file: &[u8], limits: &KosLimits) -> Result<Self, KosError> {
        read::parse(file, limits)
    }

    /// What the document is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match self.title.as_ref().map(|title| title.value.as_str()) {
            Some("113001") => Purpose::Rejection(Rejection::Quality),
            Some("113037") => Purpose::Rejection(Rejection::PatientSafety),
            Some("113038") => Purpose::Rejection(Rejection::WrongWorklistEntry),
            Some("113039") => Purpose::Rejection(Rejection::RetentionExpired),
            // A published sample has the scheme in place of the value.
            Some("113030" | "DCM") | None => Purpose::Manifest,
            Some(_) => Purpose::KeyImages,
        }
    }

    /// A series of the document.
    #[must_use]
    pub fn series(&self, series: &SeriesUid) -> Option<&KosSeries> {
        self.series.iter().find(|one| one.series == *series)
    }

    /// Instances of all series.
    #[must_use]
    pub fn instance_count(&self) -> usize {
        self.series.iter().map(|one| one.instances.len()).sum()
    }

    /// The Key Image Notes among the instances of the exam.
    pub fn key_image_notes(&self) -> impl Iterator<Item = &KosInstance> {
        let all = self.series.iter().flat_map(|series| &series.instances);
        all.filter(|one| {
            one.sop_class
                .as_ref()
                .is_some_and(|class| class.as_str() == KEY_OBJECT_SELECTION)
        })
    }

    /// The accession numbers of the orders, each once, with the issuer where it is named.
    #[must_use]
    pub fn accessions(&self) -> Vec<(&str, Option<&str>)> {
        let mut seen = HashSet::new();
        let all = self.requests.iter().filter_map(|request| {
            Some((
                request.accession.as_deref()?,
                request.accession_issuer.as_deref(),
            ))
        });
        all.filter(|pair| seen.insert(*pair)).collect()
    }
}

impl KosSeries {
    /// Whether the series holds this instance.
    #[must_use]
    pub fn contains(&self, instance: &InstanceUid) -> bool {
        self.instances.iter().any(|one| one.instance == *instance)
    }
}

impl std::fmt::Debug for Request {
    /// An order number identifies an exam: nothing of it is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request(…)")
    }
}

#[cfg(test)]
mod tests;
