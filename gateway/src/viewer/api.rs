//! What the exam page shows besides images.

use std::time::Duration;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use serde_json::{Value, json};

use super::ViewedPacs;
use crate::archive::{FindRequest, Identifier, Level, Match};
use crate::dicom::compose::Reading;
use crate::source::PublishedExam;
use crate::studies::StudiesError;

/// Who looks, how long the session of the page still lives, and what its forms must carry.
pub(super) struct SessionFacts {
    pub(super) idle: Duration,
    pub(super) absolute: Duration,
    pub(super) csrf: String,
    pub(super) visitor: &'static str,
    pub(super) logout: &'static str,
    pub(super) report: bool,
    pub(super) download: bool,
}

/// The JSON object of `GET /viewer/api/exam`.
///
/// # Errors
/// The archive's.
pub(super) async fn exam(
    pacs: &ViewedPacs,
    exam: &PublishedExam,
    session: SessionFacts,
) -> Result<Value, StudiesError> {
    let found = study(pacs, exam).await?;
    let text = |tag: Tag| {
        let text = found.as_ref()?.text(tag)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let ins = exam.ins.as_ref().map(|ins| {
        // A matricule is only passed on with a qualified identity (référentiel INS).
        json!({ "value": ins.matricule, "oid": ins.authority, "qualified": true })
    });
    Ok(json!({
        "study": exam.study,
        "description": text(tags::STUDY_DESCRIPTION),
        "date": text(tags::STUDY_DATE),
        "patient": {
            "name": text(tags::PATIENT_NAME).map(|name| person(&name)),
            "birthDate": text(tags::PATIENT_BIRTH_DATE),
            "sex": text(tags::PATIENT_SEX),
            "ins": ins,
        },
        "visitor": session.visitor,
        "logout": session.logout,
        "report": session.report.then(|| json!({
            "href": "/viewer/api/report",
            "type": "application/pdf",
        })),
        "download": session.download,
        "instances": exam.instance_count(),
        "weasis": false,
        "priors": [],
        "idleSeconds": session.idle.as_secs(),
        "absoluteSeconds": session.absolute.as_secs(),
        "csrf": session.csrf,
    }))
}

/// Family and given names of a person name (PS3.5 §6.2), alphabetic group.
fn person(name: &str) -> Value {
    let alphabetic = name.split('=').next().unwrap_or_default();
    let mut parts = alphabetic.split('^').map(str::trim);
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (family, given) = (next(), next());
    json!({ "birth": family, "firstGiven": given })
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
    let reading = Reading {
        fallback: pacs.texts.fallback,
        replaces: pacs.texts.replaces.as_ref(),
    };
    let found = pacs.studies.search(request, reading, false).await?;
    Ok(found.items.first().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_name_is_taken_apart() {
        assert_eq!(
            person("DUPONT^Émilie^^Dr=漢字"),
            json!({ "birth": "DUPONT", "firstGiven": "Émilie" })
        );
        assert_eq!(
            person("DUPONT"),
            json!({ "birth": "DUPONT", "firstGiven": null })
        );
        assert_eq!(person(""), json!({ "birth": null, "firstGiven": null }));
    }
}
