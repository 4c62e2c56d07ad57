//! Searches as a client sends them, and studies made to be searched among.

use std::path::{Path, PathBuf};

use conformance::testkit::{Client, Gateway, GatewayConfig, PacsConfig, Response};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use serde_json::Value as Json;

use super::json::text;
use super::{JSON, exam, exams, folder};

/// A gateway in front of one PACS.
pub async fn gateway(name: &str, pacs: PacsConfig) -> Gateway {
    Gateway::start(GatewayConfig::new(&folder(name)).unwrap().pacs(pacs))
        .await
        .unwrap()
}

/// The answer to a search, whatever it is.
pub async fn ask(gateway: &Gateway, path_and_query: &str) -> Response {
    let url = gateway.local_url() + path_and_query;
    let client = Client::plain().unwrap();
    client.get(&url).accept(JSON).send().await.unwrap()
}

/// The matches of a search and the warnings that came with them.
pub async fn search(gateway: &Gateway, path_and_query: &str) -> (Vec<Json>, Vec<String>) {
    let answer = ask(gateway, path_and_query).await;
    if answer.status() != 200 {
        let status = answer.status();
        panic!(
            "{path_and_query}: {status}: {}",
            answer.text().await.unwrap()
        );
    }
    assert_eq!(answer.header("content-type"), JSON);
    let warnings = answer.headers().get_all("warning").iter();
    let warnings = warnings
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    let matches = answer.json().await.unwrap();
    (matches.as_array().unwrap().clone(), warnings)
}

/// The matches of a search that gives no warning.
pub async fn found(gateway: &Gateway, path_and_query: &str) -> Vec<Json> {
    let (found, warnings) = search(gateway, path_and_query).await;
    assert_eq!(warnings, Vec::<String>::new(), "{path_and_query}");
    found
}

/// The status of the answer to a search.
pub async fn status(gateway: &Gateway, path_and_query: &str) -> u16 {
    ask(gateway, path_and_query).await.status().as_u16()
}

/// A UID of each match, sorted.
pub fn uids(matches: &[Json], tag: Tag) -> Vec<String> {
    let mut uids: Vec<String> = matches.iter().map(|found| text(found, tag)).collect();
    uids.sort();
    uids
}

/// An instance of a made study: the numbers of its study, series, and own, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub study: usize,
    pub series: usize,
    pub instance: usize,
}

/// Modality of the second series of each study; that of the first is CT.
const MODALITIES: [&str; 4] = ["MR", "US", "PT", "MR"];
const NAMES: [&str; 4] = ["MARTIN^JEAN", "MARTINEZ^ANNE", "DURAND^PAUL", "MARTIN^ZOE"];

impl Made {
    /// 4 studies of 2 series of 2 instances, whose attributes tell them apart.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for study in 0..4 {
            for series in 0..2 {
                for instance in 0..2 {
                    all.push(Self {
                        study,
                        series,
                        instance,
                    });
                }
            }
        }
        all
    }

    pub fn study_uid(self) -> String {
        format!("2.25.7706{}", self.study)
    }

    pub fn series_uid(self) -> String {
        format!("{}.{}", self.study_uid(), self.series + 1)
    }

    pub fn instance_uid(self) -> String {
        format!("{}.{}", self.series_uid(), self.instance + 1)
    }

    pub fn modality(self) -> &'static str {
        if self.series == 0 {
            "CT"
        } else {
            MODALITIES[self.study]
        }
    }

    pub fn sop_class(self) -> &'static str {
        if self.instance == 0 {
            uids::CT_IMAGE_STORAGE
        } else {
            uids::SECONDARY_CAPTURE_IMAGE_STORAGE
        }
    }

    /// Writes its file.
    pub fn write(self, folder: &Path) -> PathBuf {
        let model = exam("many-studies/0001").instances().next().unwrap();
        let mut object: DefaultDicomObject = dicom_object::open_file(exams().path(model)).unwrap();
        let (study, series) = (self.study, self.series);
        let texts = [
            (tags::SOP_CLASS_UID, self.sop_class().to_owned()),
            (tags::SOP_INSTANCE_UID, self.instance_uid()),
            (tags::STUDY_DATE, format!("2025010{}", study + 1)),
            (tags::STUDY_TIME, format!("{:02}3000", 8 + 2 * study)),
            (tags::ACCESSION_NUMBER, format!("ACC-{study}")),
            (tags::MODALITY, self.modality().to_owned()),
            (tags::REFERRING_PHYSICIAN_NAME, format!("HOUSE^R{study}")),
            (tags::PATIENT_NAME, NAMES[study].to_owned()),
            (tags::PATIENT_ID, format!("MADE-{study}")),
            (tags::STUDY_INSTANCE_UID, self.study_uid()),
            (tags::SERIES_INSTANCE_UID, self.series_uid()),
            (tags::STUDY_ID, format!("S{study}")),
            (tags::SERIES_NUMBER, format!("{}", 10 * study + series + 1)),
            (tags::SERIES_DESCRIPTION, format!("Serie {study} {series}")),
            (
                tags::PERFORMED_PROCEDURE_STEP_START_DATE,
                format!("202502{study}{}", series + 1),
            ),
            (
                tags::PERFORMED_PROCEDURE_STEP_START_TIME,
                format!("1{study}0{series}00"),
            ),
            (tags::INSTANCE_NUMBER, format!("{}", self.instance + 1)),
        ];
        for (tag, value) in texts {
            object.put_str(tag, vr(tag), value);
        }
        let mut request = InMemDicomObject::new_empty();
        request.put_str(
            tags::SCHEDULED_PROCEDURE_STEP_ID,
            VR::SH,
            format!("SPS-{study}{series}"),
        );
        request.put_str(tags::REQUESTED_PROCEDURE_ID, VR::SH, format!("RP-{study}"));
        object.put(DataElement::new(
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            VR::SQ,
            DataSetSequence::from(vec![request]),
        ));
        write(object, &folder.join(format!("{}.dcm", self.instance_uid())))
    }
}

/// The files of all made instances.
pub fn made(name: &str) -> Vec<PathBuf> {
    let folder = folder(name);
    Made::all()
        .into_iter()
        .map(|one| one.write(&folder))
        .collect()
}

/// So many studies of one instance each, for PACS that hold many.
pub fn many(name: &str, count: usize) -> Vec<PathBuf> {
    let folder = folder(name);
    let model = exam("many-studies/0001").instances().next().unwrap();
    let model: DefaultDicomObject = dicom_object::open_file(exams().path(model)).unwrap();
    let make = |n: usize| {
        let mut object = model.clone();
        let study = format!("2.25.8806.{n}");
        object.put_str(tags::PATIENT_ID, VR::LO, format!("MANY-{n:04}"));
        object.put_str(tags::STUDY_INSTANCE_UID, VR::UI, study.clone());
        object.put_str(tags::SERIES_INSTANCE_UID, VR::UI, format!("{study}.1"));
        object.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("{study}.1.1"));
        write(object, &folder.join(format!("{n}.dcm")))
    };
    (0..count).map(make).collect()
}

/// Writes an object whose file meta information follows its data set.
pub fn write(mut object: DefaultDicomObject, to: &Path) -> PathBuf {
    let uid = |tag| {
        let text = object.element(tag).unwrap().to_str().unwrap();
        text.trim_end_matches('\0').to_owned()
    };
    let (class, instance) = (uid(tags::SOP_CLASS_UID), uid(tags::SOP_INSTANCE_UID));
    object.update_meta(|meta| {
        meta.media_storage_sop_class_uid = class;
        meta.media_storage_sop_instance_uid = instance;
    });
    object.write_to_file(to).unwrap();
    to.to_owned()
}

fn vr(tag: Tag) -> VR {
    use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
    let entry = dicom_dictionary_std::StandardDataDictionary.by_tag(tag);
    entry.unwrap().vr().relaxed()
}

/// Sets a text of an object.
pub trait PutText {
    /// Puts one value.
    fn put_str(&mut self, tag: Tag, vr: VR, value: impl Into<String>);
}

impl PutText for InMemDicomObject {
    fn put_str(&mut self, tag: Tag, vr: VR, value: impl Into<String>) {
        let value = PrimitiveValue::from(value.into());
        self.put(DataElement::new(tag, vr, value));
    }
}
