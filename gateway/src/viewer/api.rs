//! What the exam page shows besides images.

use std::time::Duration;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use serde_json::{Value, json};

use super::ViewedPacs;
use crate::archive::{FindRequest, Identifier, Level, Match};
use crate::dicom::compose::Reading;
use crate::dicom::kos::PersonIdentity;
use crate::dicom::uid::SeriesUid;
use crate::source::PublishedExam;
use crate::studies::StudiesError;

/// Series told with an exam at most; the page searches for the series of an exam that has more.
const MAX_SERIES: usize = 500;

/// Who looks, how long the session of the page still lives, and what its forms must carry.
pub(super) struct SessionFacts {
    pub(super) idle: Duration,
    pub(super) absolute: Duration,
    pub(super) csrf: String,
    pub(super) visitor: &'static str,
    pub(super) logout: &'static str,
    pub(super) report: bool,
    pub(super) download: bool,
    pub(super) weasis: bool,
}

/// The JSON object of `GET /viewer/api/exam`.
///
/// It tells the series too, each with an instance in its middle, so that the page can ask for an image
/// at once. Where the archive does not tell them they are `null`, and the page searches for them.
///
/// # Errors
/// The archive's.
pub(super) async fn exam(
    pacs: &ViewedPacs,
    exam: &PublishedExam,
    session: SessionFacts,
) -> Result<Value, StudiesError> {
    // What the archive is asked before it gives an image is asked meanwhile, and remembered.
    let (found, series, _) = tokio::join!(
        study(pacs, exam),
        series(pacs, exam),
        pacs.studies.listing(&exam.study),
    );
    let found = found?;
    let series = series.unwrap_or_else(|error| {
        tracing::warn!("the exam page has to search for the series itself: {error}");
        None
    });
    let text = |tag: Tag| text_of(found.as_ref()?, tag, pacs.reading());
    let ins = exam.ins.as_ref().map(|ins| {
        // A matricule is only passed on with a qualified identity (référentiel INS).
        json!({ "value": ins.matricule, "oid": ins.authority, "qualified": true })
    });
    Ok(json!({
        "study": exam.study,
        "description": text(tags::STUDY_DESCRIPTION),
        "date": text(tags::STUDY_DATE),
        "patient": patient(&exam.identity, ins, text),
        "visitor": session.visitor,
        "logout": session.logout,
        "report": session.report.then(|| json!({
            "href": "/viewer/api/report",
            "type": "application/pdf",
        })),
        "download": session.download,
        "instances": exam.instance_count(),
        "series": series,
        "weasis": session.weasis,
        "idleSeconds": session.idle.as_secs(),
        "absoluteSeconds": session.absolute.as_secs(),
        "csrf": session.csrf,
    }))
}

/// The traits of the patient: those of the KOS, which are the qualified ones; those of the archive where the KOS has
/// none, or the exam was published before they were kept.
fn patient(
    known: &PersonIdentity,
    ins: Option<Value>,
    of_archive: impl Fn(Tag) -> Option<String>,
) -> Value {
    let known_or = |text: &Option<String>, tag| text.clone().or_else(|| of_archive(tag));
    let name = known_or(&known.name, tags::PATIENT_NAME);
    let birth = name.as_deref().map(person).unwrap_or_default();
    let (givens, used) = other_names(&known.other_names);
    json!({
        "name": {
            "birth": birth.family,
            "firstGiven": birth.given,
            "givens": givens,
            "used": used.family,
            "usedGiven": used.given,
        },
        "birthDate": known_or(&known.birth_date, tags::PATIENT_BIRTH_DATE),
        "sex": known_or(&known.sex, tags::PATIENT_SEX),
        "birthPlace": known.birth_place,
        "ins": ins,
    })
}

/// Family and given names of a person name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Name {
    family: Option<String>,
    given: Option<String>,
}

/// A person name taken apart (PS3.5 §6.2), alphabetic group.
fn person(name: &str) -> Name {
    let alphabetic = name.split('=').next().unwrap_or_default();
    let mut parts = alphabetic.split('^').map(str::trim);
    let mut next = || {
        let part = parts.next().filter(|part| !part.is_empty());
        part.map(str::to_owned)
    };
    Name {
        family: next(),
        given: next(),
    }
}

/// Given names at birth, and the name in use, of the Other Patient Names of a KOS (DRIM-M): `^given names`, then
/// `name^given name` where the patient uses another.
fn other_names(names: &[String]) -> (Option<String>, Name) {
    let mut names = names.iter().map(|name| person(name));
    let (first, second) = (names.next().unwrap_or_default(), names.next());
    match second {
        Some(used) => (first.given, used),
        None if first.family.is_none() => (first.given, Name::default()),
        // Some write the name in use alone.
        None => (None, first),
    }
}

async fn study(pacs: &ViewedPacs, exam: &PublishedExam) -> Result<Option<Match>, StudiesError> {
    let identifier = Identifier::default()
        .with(tags::STUDY_INSTANCE_UID, VR::UI, exam.study.as_str())
        .with(tags::STUDY_DESCRIPTION, VR::LO, "")
        .with(tags::STUDY_DATE, VR::DA, "")
        .with(tags::PATIENT_NAME, VR::PN, "")
        .with(tags::PATIENT_BIRTH_DATE, VR::DA, "")
        .with(tags::PATIENT_SEX, VR::CS, "");
    let request = FindRequest {
        level: Level::Study,
        identifier,
        max_matches: 1,
    };
    let found = pacs.studies.search(request, pacs.reading(), false).await?;
    Ok(found.items.first().cloned())
}

/// The published series as the page lists them; none when there are too many.
async fn series(
    pacs: &ViewedPacs,
    exam: &PublishedExam,
) -> Result<Option<Vec<Value>>, StudiesError> {
    let identifier = Identifier::default()
        .with(tags::STUDY_INSTANCE_UID, VR::UI, exam.study.as_str())
        .with(tags::SERIES_INSTANCE_UID, VR::UI, "")
        .with(tags::MODALITY, VR::CS, "")
        .with(tags::SERIES_DESCRIPTION, VR::LO, "")
        .with(tags::SERIES_NUMBER, VR::IS, "");
    let request = FindRequest {
        level: Level::Series,
        identifier,
        max_matches: MAX_SERIES,
    };
    let found = pacs.studies.search(request, pacs.reading(), false).await?;
    if found.truncated {
        return Ok(None);
    }
    let told = found.items.iter();
    let told = told.filter_map(|one| series_of(one, exam, pacs.reading()));
    Ok(Some(told.collect()))
}

/// A series that the archive found, unless the KOS does not name it.
fn series_of(found: &Match, exam: &PublishedExam, reading: Reading<'_>) -> Option<Value> {
    let uid = SeriesUid::from(found.uid(tags::SERIES_INSTANCE_UID)?);
    let published = exam.series.iter().find(|one| one.series == uid)?;
    let instances = &published.instances;
    let text = |tag| text_of(found, tag, reading);
    let number = text(tags::SERIES_NUMBER).and_then(|number| number.parse::<i64>().ok());
    Some(json!({
        "uid": uid,
        "modality": text(tags::MODALITY),
        "description": text(tags::SERIES_DESCRIPTION),
        "number": number,
        "count": instances.len(),
        // In the order of the KOS, which is most often that of the instance numbers.
        "middle": instances.get(instances.len() / 2),
    }))
}

/// A text of a match, in the character set that the archive says, or that stands for what it does not say.
pub(super) fn text_of(found: &Match, tag: Tag, reading: Reading<'_>) -> Option<String> {
    let set = found.data_set().ok()?;
    let elements = set.elements();
    let text = elements.text(tag, &reading.charset(elements))?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::dicom::charset::Repertoire;
    use crate::dicom::syntax::Encoding;
    use crate::dicom::testdata::Writer;
    use crate::dicom::uid::{InstanceUid, TransferSyntaxUid};
    use crate::dicom::write::put_element;
    use crate::source::exams::tests::exam as published;

    const READING: Reading<'_> = Reading {
        fallback: Repertoire::Ascii,
        replaces: None,
    };

    /// What a PACS that writes Latin-1 tells of a series.
    fn found(uid: &str) -> Match {
        let data = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x0005), VR::CS, b"ISO_IR 100")
            .put((0x0008, 0x0060), VR::CS, b"CT")
            .put((0x0008, 0x103E), VR::LO, b"Thorax inject\xe9")
            .put((0x0020, 0x000E), VR::UI, uid.as_bytes())
            .put((0x0020, 0x0011), VR::IS, b"4");
        Match {
            data: data.bytes.into(),
            transfer_syntax: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
        }
    }

    #[test]
    fn a_published_series_is_told_with_an_instance_in_its_middle() {
        let mut exam = published("ct", "1.2", "1.9");
        let instances = (1..=7).map(|n| InstanceUid::parse(&format!("1.2.1.{n}")).unwrap());
        exam.series.first_mut().unwrap().instances = instances.collect();
        assert_eq!(
            series_of(&found("1.2.1"), &exam, READING),
            Some(json!({
                "uid": "1.2.1",
                "modality": "CT",
                "description": "Thorax injecté",
                "number": 4,
                "count": 7,
                "middle": "1.2.1.4",
            }))
        );
    }

    #[test]
    fn a_series_that_was_not_published_is_not_told() {
        let exam = published("ct", "1.2", "1.9");
        assert_eq!(series_of(&found("1.2.2"), &exam, READING), None);
    }

    #[test]
    fn a_name_is_read_in_the_character_set_of_its_archive() {
        let of = |declared: &[u8], name: &[u8], fallback| {
            let mut data = Vec::new();
            if !declared.is_empty() {
                put_element(&mut data, tags::SPECIFIC_CHARACTER_SET, VR::CS, declared);
            }
            put_element(&mut data, tags::PATIENT_NAME, VR::PN, name);
            let found = Match {
                transfer_syntax: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
                data: data.into(),
            };
            let reading = Reading {
                fallback,
                replaces: None,
            };
            text_of(&found, tags::PATIENT_NAME, reading).unwrap()
        };
        let latin1 = b"LEF\xC8VRE^ZO\xC9";
        let plain = Repertoire::Ascii;
        assert_eq!(of(b"ISO_IR 100", latin1, plain), "LEFÈVRE^ZOÉ");
        let utf8 = "LEFÈVRE^ZOÉ ".as_bytes();
        assert_eq!(of(b"ISO_IR 192", utf8, plain), "LEFÈVRE^ZOÉ");
        assert_eq!(of(b"", latin1, Repertoire::Latin1), "LEFÈVRE^ZOÉ");
    }

    fn name(family: &str, given: &str) -> Name {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Name {
            family: part(family),
            given: part(given),
        }
    }

    #[test]
    fn a_person_name_is_taken_apart() {
        assert_eq!(person("DUPONT^Émilie^^Dr=漢字"), name("DUPONT", "Émilie"));
        assert_eq!(person("DUPONT"), name("DUPONT", ""));
        assert_eq!(person("^Émilie"), name("", "Émilie"));
        assert_eq!(person(""), Name::default());
    }

    #[test]
    fn given_names_at_birth_are_told_from_the_name_in_use() {
        let read = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            other_names(&names)
        };
        let givens = Some("DOMINIQUE PIERRE".to_owned());
        let both = ["^DOMINIQUE PIERRE", "PAT-SIX^DOM"];
        assert_eq!(read(&both), (givens.clone(), name("PAT-SIX", "DOM")));
        assert_eq!(read(&both[..1]), (givens.clone(), Name::default()));
        let given_alone = ["^DOMINIQUE PIERRE", "^DOM"];
        assert_eq!(read(&given_alone), (givens, name("", "DOM")));
        assert_eq!(read(&["PAT-SIX"]), (None, name("PAT-SIX", "")));
        assert_eq!(read(&[]), (None, Name::default()));
    }

    #[test]
    fn the_traits_of_the_kos_come_before_those_of_the_archive() {
        let of_archive = |tag: Tag| match tag {
            tags::PATIENT_NAME => Some("ARCHIVE^ANNE".to_owned()),
            tags::PATIENT_BIRTH_DATE => Some("19800102".to_owned()),
            _ => None,
        };
        let kos = PersonIdentity {
            name: Some("ESSAI^AMELIE".into()),
            other_names: vec!["^AMELIE JEANNE".into(), "MARTIN^AMELIE".into()],
            sex: Some("F".into()),
            birth_place: Some("63220".into()),
            ..PersonIdentity::default()
        };
        assert_eq!(
            patient(&kos, None, of_archive),
            json!({
                "name": {
                    "birth": "ESSAI",
                    "firstGiven": "AMELIE",
                    "givens": "AMELIE JEANNE",
                    "used": "MARTIN",
                    "usedGiven": "AMELIE",
                },
                "birthDate": "19800102",
                "sex": "F",
                "birthPlace": "63220",
                "ins": null,
            })
        );
        let told = patient(&PersonIdentity::default(), None, of_archive);
        assert_eq!(told["name"]["birth"], "ARCHIVE");
        assert!(told["birthPlace"].is_null());
    }
}
