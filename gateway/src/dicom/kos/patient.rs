//! The patient of a KOS: the INS and the strict traits that DRIM-M puts there.

use std::fmt;

use dicom_core::Tag;
use serde::{Deserialize, Serialize};

use super::read::Reader;
use crate::dicom::reader::Elements;

const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER_OF_PATIENT_ID: Tag = Tag(0x0010, 0x0021);
const ISSUER_QUALIFIERS: Tag = Tag(0x0010, 0x0024);
const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
const SEX: Tag = Tag(0x0010, 0x0040);
const OTHER_PATIENT_NAMES: Tag = Tag(0x0010, 0x1001);
const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1002);
const PATIENT_COMMENTS: Tag = Tag(0x0010, 0x4000);
const UNIVERSAL_ENTITY_ID: Tag = Tag(0x0040, 0x0032);

/// How the local name of an INS issuer begins: `ASIP-SANTE-INS-NIR`, `ASIP-SANTE-INS-NIA`.
const INS_ISSUER: &str = "ASIP-SANTE-INS-";
/// What the OIDs of the INS have in common: `.8` NIR, `.9` NIA, `.10` and `.11` for tests.
const INS_ROOT: &str = "1.2.250.1.213.1.4.";
/// Identifiers kept of one patient.
const MAX_IDENTIFIERS: usize = 64;

/// The patient of a document.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KosPatient {
    /// Who the patient is.
    pub identity: PersonIdentity,
    /// Patient ID (0010,0020) first, then those of (0010,1002), each once.
    pub identifiers: Vec<Identifier>,
}

/// The traits of a person, as they are written.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersonIdentity {
    /// Patient's Name (0010,0010): birth name ^ first given name at birth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Other Patient Names (0010,1001): given names at birth, then the name in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<String>,
    /// Patient's Birth Date (0010,0030).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
    /// Patient's Sex (0010,0040).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<String>,
    /// Code of the place of birth, which DRIM-M puts into Patient Comments (0010,4000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_place: Option<String>,
}

impl PersonIdentity {
    /// Every text of it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let single = [&self.name, &self.birth_date, &self.sex, &self.birth_place];
        let single = single.into_iter().flatten();
        single.chain(&self.other_names).map(String::as_str)
    }
}

/// An identifier of the patient and who issued it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identifier {
    /// Patient ID (0010,0020).
    pub value: String,
    /// Issuer of Patient ID (0010,0021).
    pub issuer: Option<String>,
    /// Universal Entity ID of the issuer (0010,0024) (0040,0032): an OID.
    pub universal_issuer: Option<String>,
}

impl Identifier {
    /// Whether it is an INS: issued under its root OID, or, where no OID is given, by its local name.
    #[must_use]
    pub fn is_ins(&self) -> bool {
        match (&self.universal_issuer, &self.issuer) {
            (Some(oid), _) => oid
                .strip_prefix(INS_ROOT)
                .is_some_and(|last| matches!(last, "8" | "9" | "10" | "11")),
            (None, Some(issuer)) => issuer.starts_with(INS_ISSUER),
            (None, None) => false,
        }
    }
}

impl KosPatient {
    /// The INS of the patient, where the document has one.
    #[must_use]
    pub fn ins(&self) -> Option<&Identifier> {
        self.identifiers.iter().find(|one| one.is_ins())
    }

    pub(super) fn read(reader: &Reader<'_>, document: Elements<'_>) -> Self {
        let identity = PersonIdentity {
            name: reader.text(document, PATIENT_NAME),
            other_names: reader.texts(document, OTHER_PATIENT_NAMES),
            birth_date: reader.text(document, BIRTH_DATE),
            sex: reader.text(document, SEX),
            birth_place: reader.text(document, PATIENT_COMMENTS),
        };
        let others = document.items(OTHER_PATIENT_IDS);
        let mut identifiers: Vec<Identifier> = Vec::new();
        for holder in std::iter::once(document).chain(others) {
            let Some(value) = reader.text(holder, PATIENT_ID) else {
                continue;
            };
            let qualifier = holder.items(ISSUER_QUALIFIERS).next();
            let identifier = Identifier {
                value,
                issuer: reader.text(holder, ISSUER_OF_PATIENT_ID),
                universal_issuer: qualifier.and_then(|q| reader.text(q, UNIVERSAL_ENTITY_ID)),
            };
            if identifiers.len() < MAX_IDENTIFIERS && !identifiers.contains(&identifier) {
                identifiers.push(identifier);
            }
        }
        Self {
            identity,
            identifiers,
        }
    }
}

impl fmt::Debug for KosPatient {
    /// Nothing of a person is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KosPatient(…)")
    }
}

impl fmt::Debug for PersonIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonIdentity(…)")
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identifier(…)")
    }
}
