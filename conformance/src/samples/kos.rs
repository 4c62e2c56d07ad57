//! The KOS of an exam, as a DRIMbox publishes it: what a consumer fetches images from.

use std::path::Path;

use dicom_dictionary_std::{tags, uids};

use super::Exam;
use super::dataset::{DataSet, Put};
use super::part10::{Pixels, write_file};
use super::uid::uid;
use super::{Error, Series};

/// Issuer of a test INS-NIR.
const INS_OID: &str = "1.2.250.1.213.1.4.10";

/// What a KOS says.
#[derive(Debug, Clone)]
pub struct Kos {
    /// SOP Instance UID of the document.
    pub instance: String,
    /// Study Instance UID.
    pub study: String,
    /// INS of the patient.
    pub ins: String,
    /// Accession number, with its issuer.
    pub accession: (String, String),
    /// Document title: a code of DCM.
    pub title: (&'static str, &'static str),
    /// The series.
    pub series: Vec<KosSeries>,
}

/// One series of a KOS.
#[derive(Debug, Clone)]
pub struct KosSeries {
    /// Series Instance UID.
    pub uid: String,
    /// Retrieve URL; left out when there is none.
    pub retrieve_url: Option<String>,
    /// Modality and description, in the text of the document.
    pub about: (String, String),
    /// SOP class and SOP Instance UID of each instance.
    pub instances: Vec<(String, String)>,
}

impl Kos {
    /// The manifest of an exam whose series are found under `root`, the root of a DICOMweb service.
    #[must_use]
    pub fn of(exam: &Exam, root: &str) -> Self {
        let series = |series: &Series| KosSeries {
            uid: series.series_instance_uid.clone(),
            retrieve_url: Some(format!(
                "{root}/studies/{}/series/{}",
                exam.study_instance_uid, series.series_instance_uid
            )),
            about: (series.modality.clone(), series.series_description.clone()),
            instances: series
                .instances
                .iter()
                .map(|one| (one.sop_class_uid.clone(), one.sop_instance_uid.clone()))
                .collect(),
        };
        Self {
            instance: uid(&format!("kos/{}", exam.name)),
            study: exam.study_instance_uid.clone(),
            ins: "299999999999999".into(),
            accession: (exam.accession_number.clone(), "1.2.250.1.999.5".into()),
            title: ("113030", "MANIFEST"),
            series: exam.series.iter().map(series).collect(),
        }
    }

    /// Writes it as a DICOM file in Implicit VR Little Endian, as the published ones are.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let syntax = uids::IMPLICIT_VR_LITTLE_ENDIAN;
        write_file(path, &self.data_set(), syntax, &mut Pixels::Absent).map(|_| ())
    }

    fn data_set(&self) -> DataSet {
        let issuer = |item: &mut DataSet, oid: &str| {
            item.text(tags::UNIVERSAL_ENTITY_ID, oid)
                .text(tags::UNIVERSAL_ENTITY_ID_TYPE, "ISO");
        };
        let patient = |item: &mut DataSet| {
            item.text(tags::PATIENT_ID, &self.ins)
                .text(tags::ISSUER_OF_PATIENT_ID, "ASIP-SANTE-INS-NIR")
                .item(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, |item| {
                    issuer(item, INS_OID);
                });
        };
        let mut kos = DataSet::new_empty();
        kos.text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
            .text(
                tags::SOP_CLASS_UID,
                uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
            )
            .text(tags::SOP_INSTANCE_UID, &self.instance)
            .text(tags::ACCESSION_NUMBER, "")
            .text(tags::MODALITY, "KO")
            .text(tags::MANUFACTURER, "SAMPLES")
            .text(tags::PATIENT_NAME, "ESSAI^AMELIE")
            // Those of the images differ, as they do where a registration was corrected later.
            .text(tags::PATIENT_BIRTH_DATE, "19790315")
            .text(tags::PATIENT_SEX, "F")
            // Given names at birth, the name in use, and the code of the place of birth, where DRIM-M puts them.
            .text(tags::OTHER_PATIENT_NAMES, "^AMELIE JEANNE\\MARTIN^AMELIE")
            .text(tags::PATIENT_COMMENTS, "63220");
        patient(&mut kos);
        let mut other = DataSet::new_empty();
        patient(&mut other);
        kos.sequence(tags::OTHER_PATIENT_I_DS_SEQUENCE, vec![other])
            .text(tags::STUDY_INSTANCE_UID, &self.study)
            .text(
                tags::SERIES_INSTANCE_UID,
                uid(&format!("kos series/{}", self.instance)),
            )
            .text(tags::SERIES_NUMBER, "59")
            .text(tags::INSTANCE_NUMBER, "1")
            .text(tags::VALUE_TYPE, "CONTAINER")
            .text(tags::CONTINUITY_OF_CONTENT, "SEPARATE")
            .code(
                tags::CONCEPT_NAME_CODE_SEQUENCE,
                (self.title.0, "DCM", self.title.1),
            )
            .item(tags::REFERENCED_REQUEST_SEQUENCE, |order| {
                order
                    .text(tags::ACCESSION_NUMBER, &self.accession.0)
                    .item(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, |item| {
                        issuer(item, &self.accession.1);
                    })
                    .text(tags::STUDY_INSTANCE_UID, &self.study);
            })
            .item(
                tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
                |evidence| {
                    let series = self.series.iter().map(KosSeries::item).collect();
                    evidence
                        .sequence(tags::REFERENCED_SERIES_SEQUENCE, series)
                        .text(tags::STUDY_INSTANCE_UID, &self.study);
                },
            )
            .sequence(tags::CONTENT_SEQUENCE, self.content());
        kos
    }

    fn content(&self) -> Vec<DataSet> {
        let all = self.series.iter().flat_map(|series| &series.instances);
        let mut content: Vec<DataSet> = all
            .map(|instance| {
                let mut item = DataSet::new_empty();
                item.text(tags::RELATIONSHIP_TYPE, "CONTAINS")
                    .text(tags::VALUE_TYPE, "IMAGE")
                    .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![reference(instance)]);
                item
            })
            .collect();
        let mut text = String::from("Examen : essai\n");
        for series in &self.series {
            let (modality, description) = &series.about;
            text += &format!("Série-{} : {modality} @ : {description}\n", series.uid);
        }
        let mut item = DataSet::new_empty();
        item.text(tags::RELATIONSHIP_TYPE, "CONTAINS")
            .text(tags::VALUE_TYPE, "TEXT")
            .code(
                tags::CONCEPT_NAME_CODE_SEQUENCE,
                ("113012", "DCM", "Key Object Description"),
            )
            .text(tags::TEXT_VALUE, text);
        content.push(item);
        content
    }
}

impl KosSeries {
    fn item(&self) -> DataSet {
        let mut item = DataSet::new_empty();
        if let Some(url) = &self.retrieve_url {
            item.text(tags::RETRIEVE_URL, url);
        }
        let instances = self.instances.iter().map(reference).collect();
        item.sequence(tags::REFERENCED_SOP_SEQUENCE, instances)
            .text(tags::SERIES_INSTANCE_UID, &self.uid);
        item
    }
}

fn reference((class, instance): &(String, String)) -> DataSet {
    let mut item = DataSet::new_empty();
    item.text(tags::REFERENCED_SOP_CLASS_UID, class)
        .text(tags::REFERENCED_SOP_INSTANCE_UID, instance);
    item
}
