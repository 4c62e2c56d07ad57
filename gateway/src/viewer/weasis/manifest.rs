//! The list of images that Weasis loads: an XML manifest of form 2.5, which every Weasis since 2.5 reads.
//!
//! Each instance is an address of WADO-RS on this host, asked for with plain GET; the field that every request carries
//! stands at the head of the list. What the archive says of patient, study and series lets Weasis show and sort them
//! before the first image is there; once it is, Weasis goes by the image.

use std::collections::HashMap;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, Event};

use super::super::ViewedPacs;
use super::super::api::text_of;
use crate::archive::{FindRequest, Identifier, Level, Match};
use crate::dicom::compose::Reading;
use crate::source::PublishedExam;
use crate::studies::StudiesError;

const NAMESPACE: &str = "http://www.weasis.org/xsd/2.5";
/// One Part 10 file, in the transfer syntax in which it is stored (PS3.18 §8.3.3.1).
const AS_STORED: &str = "accept=application%2Fdicom%3B%20transfer-syntax%3D*";
/// Series of a study that are described; the others are listed without.
const MOST_SERIES: usize = 2_000;

/// What the schema of the manifest lets a value be.
#[derive(Clone, Copy)]
enum Form {
    /// So many characters.
    Text(usize),
    /// The alphabetic group of a person name (PS3.5 §6.2).
    Name,
    /// Year, month and day.
    Date,
    /// Hour, minute, second, fraction.
    Time,
    /// A whole number.
    Number,
    /// Capital letters, digits, blanks and low lines, 16 at most.
    Code,
    /// M, F or O.
    Sex,
}

/// An attribute of the manifest, and where its value comes from.
type Field = (&'static str, Tag, VR, Form);

const OF_PATIENT: &[Field] = &[
    ("PatientID", tags::PATIENT_ID, VR::LO, Form::Text(64)),
    ("PatientName", tags::PATIENT_NAME, VR::PN, Form::Name),
    (
        "IssuerOfPatientID",
        tags::ISSUER_OF_PATIENT_ID,
        VR::LO,
        Form::Text(64),
    ),
    (
        "PatientBirthDate",
        tags::PATIENT_BIRTH_DATE,
        VR::DA,
        Form::Date,
    ),
    ("PatientSex", tags::PATIENT_SEX, VR::CS, Form::Sex),
];
/// What the schema asks for also when nobody knows it.
const REQUIRED: [&str; 2] = ["PatientID", "PatientName"];
const OF_STUDY: &[Field] = &[
    (
        "StudyDescription",
        tags::STUDY_DESCRIPTION,
        VR::LO,
        Form::Text(64),
    ),
    ("StudyDate", tags::STUDY_DATE, VR::DA, Form::Date),
    ("StudyTime", tags::STUDY_TIME, VR::TM, Form::Time),
];
const OF_SERIES: &[Field] = &[
    (
        "SeriesDescription",
        tags::SERIES_DESCRIPTION,
        VR::LO,
        Form::Text(64),
    ),
    ("SeriesNumber", tags::SERIES_NUMBER, VR::IS, Form::Number),
    ("Modality", tags::MODALITY, VR::CS, Form::Code),
];

type Attributes = Vec<(&'static str, String)>;

/// What the archive says of an exam.
#[derive(Debug, Default)]
pub(super) struct Described {
    patient: Attributes,
    study: Attributes,
    /// By Series Instance UID.
    series: HashMap<String, Attributes>,
}

/// Asks the archive.
///
/// # Errors
/// The archive's.
pub(super) async fn described(
    pacs: &ViewedPacs,
    exam: &PublishedExam,
) -> Result<Described, StudiesError> {
    let of_study = [OF_PATIENT, OF_STUDY].concat();
    let study = find(pacs, exam, Level::Study, &of_study, 1).await?;
    let series = find(pacs, exam, Level::Series, OF_SERIES, MOST_SERIES).await?;
    let of = |fields: &[Field]| {
        let found = study.first();
        let found = found.map(|found| values(found, fields, pacs.reading()));
        found.unwrap_or_default()
    };
    let of_series = series.iter().filter_map(|found| {
        let uid = found.uid(tags::SERIES_INSTANCE_UID)?;
        Some((uid.to_string(), values(found, OF_SERIES, pacs.reading())))
    });
    Ok(Described {
        patient: of(OF_PATIENT),
        study: of(OF_STUDY),
        series: of_series.collect(),
    })
}

async fn find(
    pacs: &ViewedPacs,
    exam: &PublishedExam,
    level: Level,
    fields: &[Field],
    most: usize,
) -> Result<Vec<Match>, StudiesError> {
    let study = exam.study.as_str();
    let mut identifier = Identifier::default().with(tags::STUDY_INSTANCE_UID, VR::UI, study);
    if level == Level::Series {
        identifier.want(tags::SERIES_INSTANCE_UID, VR::UI);
    }
    for (_, tag, vr, _) in fields {
        identifier.want(*tag, *vr);
    }
    let request = FindRequest {
        level,
        identifier,
        max_matches: most,
    };
    let found = pacs.studies.search(request, pacs.reading(), false).await?;
    Ok(found.items.clone())
}

fn values(found: &Match, fields: &[Field], reading: Reading<'_>) -> Attributes {
    let of_field = |(name, tag, _, form): &Field| {
        let text = text_of(found, *tag, reading)?;
        Some((*name, fitting(*form, &text)?))
    };
    fields.iter().filter_map(of_field).collect()
}

/// The value as the schema wants it; `None` when it cannot be that.
fn fitting(form: Form, text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\0']);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let text = match form {
        Form::Text(most) => plain(text, most),
        Form::Name => plain(text.split('=').next().unwrap_or_default(), 64),
        Form::Date => (text.len() == 8 && digits(text)).then(|| text.to_owned())?,
        Form::Time => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let fits = matches!(whole.len(), 2 | 4 | 6) && digits(whole) && digits(fraction);
            let fits = fits && fraction.len() <= 6 && (fraction.is_empty() || whole.len() == 6);
            let dot = if fraction.is_empty() { "" } else { "." };
            fits.then(|| format!("{whole}{dot}{fraction}"))?
        }
        Form::Number => text.parse::<i32>().ok()?.to_string(),
        Form::Code => {
            let allowed = |byte: u8| {
                byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_')
            };
            let fits = text.len() <= 16 && text.bytes().all(allowed);
            fits.then(|| text.to_owned())?
        }
        Form::Sex => matches!(text, "M" | "F" | "O").then(|| text.to_owned())?,
    };
    (!text.is_empty()).then_some(text)
}

/// Without what XML 1.0 cannot hold, and so long at most.
fn plain(text: &str, most: usize) -> String {
    let printable = |c: char| {
        let is_none = c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}');
        if is_none { ' ' } else { c }
    };
    let text: String = text.trim().chars().map(printable).take(most).collect();
    text.trim().to_owned()
}

/// A list.
pub(super) struct Manifest<'a> {
    /// Scheme, host and port of the images.
    pub(super) origin: &'a str,
    /// The field `Authorization` of every request for one.
    pub(super) authorization: &'a str,
    /// What is listed: what the KOS names.
    pub(super) exam: &'a PublishedExam,
    /// What is said of it.
    pub(super) described: &'a Described,
}

impl Manifest<'_> {
    /// The document.
    pub(super) fn to_xml(&self) -> Vec<u8> {
        let mut xml = Writer::new(Vec::new());
        // A Vec takes every byte.
        let _ = self.write(&mut xml);
        xml.into_inner()
    }

    fn write(&self, xml: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let root = format!("{}/dicom-web/", self.origin);
        xml.create_element("manifest")
            .with_attribute(("xmlns", NAMESPACE))
            .write_inner_content(|xml| {
                xml.create_element("arcQuery")
                    .with_attributes([("arcId", "drimbox"), ("baseUrl", root.as_str())])
                    .write_inner_content(|xml| {
                        let key = [("key", "Authorization"), ("value", self.authorization)];
                        xml.create_element("httpTag")
                            .with_attributes(key)
                            .write_empty()?;
                        self.patient(xml)
                    })
                    .map(drop)
            })
            .map(drop)
    }

    fn patient(&self, xml: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let patient = &self.described.patient;
        let unknown = REQUIRED.iter().copied();
        let unknown = unknown.filter(|name| !patient.iter().any(|(known, _)| known == name));
        xml.create_element("Patient")
            .with_attributes(pairs(patient))
            .with_attributes(unknown.map(|name| (name, "")))
            .write_inner_content(|xml| {
                xml.create_element("Study")
                    .with_attribute(("StudyInstanceUID", self.exam.study.as_str()))
                    .with_attributes(pairs(&self.described.study))
                    .write_inner_content(|xml| self.series(xml))
                    .map(drop)
            })
            .map(drop)
    }

    fn series(&self, xml: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let study = self.exam.study.as_str();
        for series in &self.exam.series {
            let uid = series.series.as_str();
            let said = self.described.series.get(uid);
            xml.create_element("Series")
                .with_attribute(("SeriesInstanceUID", uid))
                .with_attributes(pairs(said.map(Vec::as_slice).unwrap_or_default()))
                .write_inner_content(|xml| {
                    // In the order of the KOS, which is the one that images are loaded in.
                    for (number, instance) in (1..).zip(&series.instances) {
                        let number: u32 = number;
                        let instance = instance.as_str();
                        let file = format!(
                            "studies/{study}/series/{uid}/instances/{instance}?{AS_STORED}"
                        );
                        let number = number.to_string();
                        xml.create_element("Instance")
                            .with_attributes([
                                ("SOPInstanceUID", instance),
                                ("InstanceNumber", number.as_str()),
                                ("DirectDownloadFile", file.as_str()),
                            ])
                            .write_empty()?;
                    }
                    Ok(())
                })?;
        }
        Ok(())
    }
}

fn pairs<'a>(attributes: &'a [(&'static str, String)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    attributes
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quick_xml::Reader;

    use super::*;
    use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
    use crate::source::exams::{PublishedSeries, Restrictions};

    fn exam() -> PublishedExam {
        let instance = |number: u8| InstanceUid::parse(&format!("1.2.3.1.{number}")).unwrap();
        PublishedExam {
            pacs: "ct".into(),
            study: StudyUid::parse("1.2.3").unwrap(),
            kos: InstanceUid::parse("1.2.3.99").unwrap(),
            series: vec![PublishedSeries {
                series: SeriesUid::parse("1.2.3.1").unwrap(),
                instances: vec![instance(1), instance(2)],
            }],
            accessions: Vec::new(),
            cda_id: None,
            ins: None,
            restrictions: Restrictions::default(),
            patient: Default::default(),
            identity: Default::default(),
        }
    }

    /// Elements with their attributes, in order.
    fn read(xml: &[u8]) -> Vec<(String, Vec<(String, String)>)> {
        let mut reader = Reader::from_reader(xml);
        let mut found = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) | Event::Empty(start) => {
                    let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
                    let attributes = start.attributes().map(|attribute| {
                        let attribute = attribute.unwrap();
                        let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                        (key, attribute.unescape_value().unwrap().into_owned())
                    });
                    found.push((name, attributes.collect()));
                }
                Event::Eof => return found,
                _ => {}
            }
        }
    }

    #[test]
    fn the_list_names_what_the_kos_names_and_carries_the_key() {
        let described = Described {
            patient: vec![("PatientName", "D'ÉON^\"Léa\" <&>".to_owned())],
            study: vec![("StudyDate", "20261121".to_owned())],
            series: HashMap::from([("1.2.3.1".to_owned(), vec![("Modality", "CT".to_owned())])]),
        };
        let xml = Manifest {
            origin: "https://vi.example:8443",
            authorization: "Drimbox-Weasis abc",
            exam: &exam(),
            described: &described,
        }
        .to_xml();
        let found = read(&xml);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let order = [
            "manifest", "arcQuery", "httpTag", "Patient", "Study", "Series", "Instance", "Instance",
        ];
        assert_eq!(names, order);
        let all: Vec<(&str, &str)> = found
            .iter()
            .flat_map(|(_, attributes)| attributes)
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        for pair in [
            ("xmlns", NAMESPACE),
            ("baseUrl", "https://vi.example:8443/dicom-web/"),
            ("key", "Authorization"),
            ("value", "Drimbox-Weasis abc"),
            ("PatientName", "D'ÉON^\"Léa\" <&>"),
            ("PatientID", ""),
            ("StudyInstanceUID", "1.2.3"),
            ("StudyDate", "20261121"),
            ("SeriesInstanceUID", "1.2.3.1"),
            ("Modality", "CT"),
            ("SOPInstanceUID", "1.2.3.1.2"),
            ("InstanceNumber", "2"),
            (
                "DirectDownloadFile",
                "studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.2?accept=application%2Fdicom%3B%20transfer-syntax%3D*",
            ),
        ] {
            assert!(all.contains(&pair), "{pair:?} of {all:?}");
        }
    }

    #[test]
    fn what_the_schema_does_not_take_is_left_out() {
        let of = |form, text: &str| fitting(form, text);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(Form::Text(4), " a\u{1b}\nbcd "), some("a  b"));
        assert_eq!(of(Form::Text(4), " \u{0}"), None);
        assert_eq!(of(Form::Name, "DUPONT^Émilie=漢字"), some("DUPONT^Émilie"));
        assert_eq!(of(Form::Date, "20261121"), some("20261121"));
        assert_eq!(of(Form::Date, "2026.11.21"), None);
        assert_eq!(of(Form::Time, "0915"), some("0915"));
        assert_eq!(of(Form::Time, "091500.5"), some("091500.5"));
        for wrong in ["9:15", "09150", "0915.5", "091500.1234567", "é1"] {
            assert_eq!(of(Form::Time, wrong), None, "{wrong}");
        }
        assert_eq!(of(Form::Number, "+7 "), some("7"));
        assert_eq!(of(Form::Number, "7.5"), None);
        assert_eq!(of(Form::Code, "CT"), some("CT"));
        assert_eq!(of(Form::Code, "ct"), None);
        assert_eq!(of(Form::Sex, "W"), None);
        assert_eq!(of(Form::Sex, "F "), some("F"));
    }
}
