//! Metadata in the DICOM JSON model against dicom-object's reading of the stored files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::{Path, PathBuf};

use conformance::samples::Instance;
use conformance::testkit::{Client, FaultyPacs, Gateway, GatewayConfig, Orthanc, PacsConfig};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use serde_json::Value as Json;
use support::compare::{Part10, sent_syntax};
use support::objects;
use support::pair;
use support::{
    JSON, exam, exams, files, folder, instance_path, json, metric, run, series_path, study_path,
};
use tokio::sync::OnceCell;

/// Attributes of the answer that the data set does not have.
const ADDED: [Tag; 3] = [
    tags::RETRIEVE_URL,
    tags::AVAILABLE_TRANSFER_SYNTAX_UID,
    tags::SPECIFIC_CHARACTER_SET,
];

struct Shared {
    _orthanc: Orthanc,
    gateway: Gateway,
}

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let orthanc = Orthanc::builder(&folder("orthanc")).start().await.unwrap();
            orthanc.upload(exams().files().collect()).await.unwrap();
            let config = GatewayConfig::new(&folder("gateway")).unwrap();
            let gateway = Gateway::start(config.pacs(pair::entry(&orthanc)));
            let gateway = gateway.await.unwrap();
            Shared {
                _orthanc: orthanc,
                gateway,
            }
        })
        .await
}

async fn metadata(gateway: &Gateway, path: &str) -> Vec<Json> {
    let url = format!("{}{path}/metadata", gateway.local_url());
    let answer = Client::plain()
        .unwrap()
        .get(&url)
        .accept(JSON)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    assert_eq!(answer.header("content-type"), JSON);
    let answer = answer.json().await.unwrap();
    answer.as_array().unwrap().clone()
}

fn find<'a>(all: &'a [Json], instance: &Instance) -> &'a Json {
    let found: Vec<&Json> = all
        .iter()
        .filter(|object| json::text(object, tags::SOP_INSTANCE_UID) == instance.sop_instance_uid)
        .collect();
    assert_eq!(found.len(), 1, "{}", instance.file);
    found[0]
}

#[test]
fn every_attribute_of_every_kind_of_object_is_in_its_metadata() {
    run(async {
        let gateway = &shared().await.gateway;
        let names = [
            "ct",
            "mr",
            "enhanced-ct",
            "enhanced-mr",
            "multiframe",
            "us",
            "dx",
            "documents",
            "rtstruct",
            "syntaxes",
            "pixels",
            "elements",
            "fragments",
            "many-classes",
        ];
        for name in names {
            let exam = exam(name);
            let all = metadata(gateway, &study_path(exam)).await;
            assert_eq!(all.len(), exam.instances().count(), "{name}");
            for instance in exam.instances() {
                let object = find(&all, instance);
                let stored = Part10::read(&std::fs::read(exams().path(instance)).unwrap());
                json::assert_model(&stored.data_set, object, &ADDED, &instance.file);
                let syntax = sent_syntax(&instance.transfer_syntax_uid);
                let given = json::text(object, tags::AVAILABLE_TRANSFER_SYNTAX_UID);
                assert_eq!(given, syntax, "{}", instance.file);
            }
        }
    });
}

#[test]
fn a_series_and_an_instance_have_the_metadata_that_their_study_has() {
    run(async {
        let gateway = &shared().await.gateway;
        let exam = exam("documents");
        let study = metadata(gateway, &study_path(exam)).await;
        for series in &exam.series {
            let of_series = metadata(gateway, &series_path(exam, series)).await;
            assert_eq!(of_series.len(), series.count);
            for (number, instance) in series.instances.iter().enumerate() {
                let of_instance = metadata(gateway, &instance_path(exam, series, number)).await;
                assert_eq!(of_instance.len(), 1);
                assert_eq!(&of_instance[0], find(&study, instance));
                assert_eq!(&of_instance[0], find(&of_series, instance));
                let url = json::text(&of_instance[0], tags::RETRIEVE_URL);
                assert_eq!(
                    url,
                    gateway.local_url() + &instance_path(exam, series, number)
                );
            }
        }
    });
}

#[test]
fn names_of_every_character_set_are_unicode_in_their_three_groups() {
    run(async {
        let gateway = &shared().await.gateway;
        for exam in exams().set("charsets") {
            let all = metadata(gateway, &study_path(exam)).await;
            let name = json::name(&all[0], tags::PATIENT_NAME);
            if exam.specific_character_set.is_empty() {
                // Nothing declares these bytes; what the administrator may is the next story.
                continue;
            }
            assert_eq!(
                name,
                exam.patient_name.trim_end_matches('='),
                "{}",
                exam.name
            );
            let comment = json::text(&all[0], tags::PATIENT_COMMENTS);
            assert_eq!(
                comment.trim_end_matches('='),
                exam.patient_name.trim_end_matches('='),
                "{}",
                exam.name
            );
            let set = json::text(&all[0], tags::SPECIFIC_CHARACTER_SET);
            assert_eq!(set, "ISO_IR 192", "{}", exam.name);
        }
    });
}

#[test]
fn a_name_in_undeclared_latin_1_is_read_as_the_configuration_says() {
    run(async {
        let name = "charsets/undeclared-latin1";
        let pacs = FaultyPacs::start("SIM", &files(&[name]), &[])
            .await
            .unwrap();
        let config = GatewayConfig::new(&folder("undeclared")).unwrap();
        let entry = PacsConfig::new("sim", "SIM", pacs.port()).set("quirks.charset", "ISO_IR 100");
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let all = metadata(&gateway, &study_path(exam(name))).await;
        assert_eq!(
            json::name(&all[0], tags::PATIENT_NAME),
            exam(name).patient_name
        );
    });
}

#[test]
fn metadata_of_what_is_cached_asks_the_pacs_for_no_image() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&["mr"]), &[])
            .await
            .unwrap();
        let config = GatewayConfig::new(&folder("cached")).unwrap();
        let gateway = config.pacs(PacsConfig::new("sim", "SIM", pacs.port()));
        let gateway = Gateway::start(gateway).await.unwrap();
        let cold = metadata(&gateway, &study_path(exam("mr"))).await;
        let received = "drimbox_dimse_instances_received_total";
        let once = metric(&gateway, received, &[]).await;
        assert_eq!(once, exam("mr").instances().count() as u64);
        let warm = metadata(&gateway, &study_path(exam("mr"))).await;
        assert_eq!(metric(&gateway, received, &[]).await, once);
        for instance in exam("mr").instances() {
            assert_eq!(find(&cold, instance), find(&warm, instance));
        }
    });
}

#[test]
fn attributes_after_the_pixels_are_in_the_metadata_too() {
    run(async {
        let from = folder("after-the-pixels-files");
        let of = |syntax: &str| {
            let found = exam("syntaxes").instances();
            let mut found = found.filter(|instance| instance.transfer_syntax_uid == syntax);
            exams().path(found.next().unwrap())
        };
        // Native, converted on its way in, encapsulated; and one that gets a file of its own.
        let large = objects::make(&from, "2.25.8701", 1, 5 << 20);
        let files = [
            of(uids::EXPLICIT_VR_LITTLE_ENDIAN),
            of(uids::IMPLICIT_VR_LITTLE_ENDIAN),
            of(uids::JPEGLS_LOSSLESS),
            large.files[0].clone(),
        ];
        let files: Vec<PathBuf> = (0..)
            .zip(&files)
            .map(|(number, file)| with_a_tail(file, &from.join(format!("tail-{number}.dcm"))))
            .collect();
        let pacs = FaultyPacs::start("SIM", &files, &[]).await.unwrap();
        // On disk, and handed through where the disk has no room.
        for (name, free) in [("after", 0), ("after-no-room", 1_i64 << 49)] {
            let config = GatewayConfig::new(&folder(name)).unwrap();
            let config = config.set("cache.min_free_bytes", free);
            let gateway = config.pacs(PacsConfig::new("sim", "SIM", pacs.port()));
            let gateway = Gateway::start(gateway).await.unwrap();
            // Once as they arrive, once from the cache.
            for _ in 0..2 {
                let mut all = metadata(&gateway, &study_path(exam("syntaxes"))).await;
                all.extend(metadata(&gateway, &large.path()).await);
                assert_eq!(all.len(), files.len());
                for file in &files {
                    let stored = Part10::read(&std::fs::read(file).unwrap());
                    let object = all.iter().find(|object| {
                        json::text(object, tags::SOP_INSTANCE_UID) == stored.instance()
                    });
                    let object = object.unwrap();
                    let which = file.display().to_string();
                    assert_eq!(json::text(object, MAKER), "MAKER", "{which}");
                    for tag in [MADE, tags::DIGITAL_SIGNATURES_SEQUENCE] {
                        assert!(object.get(json::key(tag)).is_some(), "{which}: {tag}");
                    }
                    json::assert_model(&stored.data_set, object, &ADDED, &which);
                }
            }
        }
    });
}

const MAKER: Tag = Tag(0x7FE1, 0x0010);
const MADE: Tag = Tag(0x7FE1, 0x1001);

/// Writes the object of `file` to `to`, with a private block, a signature and padding after its
/// pixels.
fn with_a_tail(file: &Path, to: &Path) -> PathBuf {
    let mut object = dicom_object::open_file(file).unwrap();
    let mut signature = InMemDicomObject::new_empty();
    signature.put_str(tags::CERTIFICATE_TYPE, VR::CS, "X509_1993_SIG");
    object.put_str(MAKER, VR::LO, "MAKER");
    object.put_str(MADE, VR::LO, "After the pixels");
    object.put(DataElement::new(
        tags::DIGITAL_SIGNATURES_SEQUENCE,
        VR::SQ,
        DataSetSequence::from(vec![signature]),
    ));
    let padding = PrimitiveValue::from(vec![0_u8; 32]);
    object.put(DataElement::new(
        tags::DATA_SET_TRAILING_PADDING,
        VR::OB,
        padding,
    ));
    object.write_to_file(to).unwrap();
    to.to_owned()
}

#[test]
fn metadata_in_another_form_or_of_nothing_is_refused() {
    run(async {
        let gateway = &shared().await.gateway;
        let client = Client::plain().unwrap();
        let status = async |path: &str, accept: &str| {
            let url = format!("{}{path}/metadata", gateway.local_url());
            let answer = client.get(&url).accept(accept).send().await.unwrap();
            assert_eq!(answer.header("content-type"), "application/problem+json");
            answer.status().as_u16()
        };
        let study = study_path(exam("ct300"));
        assert_eq!(status(&study, "image/png").await, 406);
        assert_eq!(status("/studies/1.2.3", JSON).await, 404);
        assert_eq!(status("/studies/1.2.x", JSON).await, 400);
    });
}
