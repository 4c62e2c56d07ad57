//! Every matching key of a search (PS3.18 table 10.6.1-5), in all six forms, over real PACS: what
//! is found is what matches, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;

use conformance::testkit::{Dcmqrscp, FaultyPacs, Gateway, Orthanc, PacsConfig};
use dicom_dictionary_std::{tags, uids};
use support::search::{Made, found, gateway, made, search, uids};
use support::{folder, run};

/// A level of the study root model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Level {
    Study,
    Series,
    Instance,
}

use Level::{Instance, Series, Study};

struct Case {
    level: Level,
    query: String,
    matches: fn(Made) -> bool,
    /// Whether PS3.4 requires every PACS to know the key.
    required: bool,
}

fn cases() -> Vec<Case> {
    let required = |level, query: &str, matches| Case {
        level,
        query: query.to_owned(),
        matches,
        required: true,
    };
    let optional = |level, query: &str, matches| Case {
        required: false,
        ..required(level, query, matches)
    };
    let one = |study, series, instance| Made {
        study,
        series,
        instance,
    };
    let study_uid = one(1, 0, 0).study_uid();
    let series_uid = one(1, 1, 0).series_uid();
    let instance_uid = one(1, 1, 1).instance_uid();
    vec![
        required(Study, "StudyDate=20250102", |m| m.study == 1),
        required(Study, "StudyDate=20250102-20250103", |m| {
            (1..=2).contains(&m.study)
        }),
        required(Study, "StudyDate=20250103-", |m| m.study >= 2),
        required(Study, "00080020=-20250102", |m| m.study <= 1),
        required(Study, "StudyTime=103000", |m| m.study == 1),
        required(Study, "StudyTime=1000-1300", |m| (1..=2).contains(&m.study)),
        required(Study, "StudyTime=1200-", |m| m.study >= 2),
        // One range of moments: not the hours of every day.
        required(
            Study,
            "StudyDate=20250101-20250103&StudyTime=0900-1200",
            |m| m.study == 1,
        ),
        required(
            Study,
            "StudyDate=20250101-20250104&StudyTime=0900-1000",
            |m| (1..=2).contains(&m.study),
        ),
        required(Study, "AccessionNumber=ACC-2", |m| m.study == 2),
        optional(Study, "ModalitiesInStudy=MR", |m| [0, 3].contains(&m.study)),
        optional(Study, "ModalitiesInStudy=US,PT", |m| {
            [1, 2].contains(&m.study)
        }),
        optional(Study, "ModalitiesInStudy=U*", |m| m.study == 1),
        optional(Study, "ReferringPhysicianName=HOUSE%5ER3", |m| m.study == 3),
        required(Study, "PatientName=MARTIN*", |m| m.study != 2),
        required(Study, "PatientName=MARTIN%5E*", |m| {
            [0, 3].contains(&m.study)
        }),
        required(Study, "PatientName=MARTIN", |_| false),
        required(Study, "PatientName=MART?N^ZOE", |m| m.study == 3),
        required(Study, "PatientID=MADE-0", |m| m.study == 0),
        required(Study, "PatientID=MADE-%3F", |_| true),
        required(Study, &format!("StudyInstanceUID={study_uid}"), |m| {
            m.study == 1
        }),
        required(
            Study,
            &format!("StudyInstanceUID={study_uid},2.25.77063"),
            |m| [1, 3].contains(&m.study),
        ),
        required(Study, "StudyID=S2", |m| m.study == 2),
        required(Series, "Modality=US", |m| m.modality() == "US"),
        required(Series, "Modality=US%5CMR", |m| {
            ["US", "MR"].contains(&m.modality())
        }),
        required(Series, &format!("SeriesInstanceUID={series_uid}"), |m| {
            (m.study, m.series) == (1, 1)
        }),
        required(Series, "SeriesNumber=12", |m| (m.study, m.series) == (1, 1)),
        optional(Series, "PerformedProcedureStepStartDate=20250211", |m| {
            (m.study, m.series) == (1, 0)
        }),
        optional(
            Series,
            "PerformedProcedureStepStartDate=20250211-20250212&PerformedProcedureStepStartTime=110030-1200",
            |m| (m.study, m.series) == (1, 1),
        ),
        optional(Series, "PerformedProcedureStepStartTime=110100", |m| {
            (m.study, m.series) == (1, 1)
        }),
        optional(
            Series,
            "RequestAttributesSequence.ScheduledProcedureStepID=SPS-11",
            |m| (m.study, m.series) == (1, 1),
        ),
        optional(Series, "00400275.00401001=RP-1", |m| m.study == 1),
        optional(
            Instance,
            &format!("SOPClassUID={}", uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
            |m| m.instance == 1,
        ),
        required(Instance, &format!("SOPInstanceUID={instance_uid}"), |m| {
            (m.study, m.series, m.instance) == (1, 1, 1)
        }),
        required(Instance, "InstanceNumber=2", |m| m.instance == 1),
        // Keys of several levels together.
        required(
            Instance,
            "PatientName=MARTIN*&Modality=CT&InstanceNumber=1",
            |m| m.study != 2 && m.series == 0 && m.instance == 0,
        ),
    ]
}

/// Every case in every form in which its key may stand.
async fn assert_cases(gateway: &Gateway, asked: impl Fn(&Case) -> bool) {
    for case in cases().into_iter().filter(asked) {
        for level in [Study, Series, Instance] {
            if level < case.level {
                continue;
            }
            let name = ["studies", "series", "instances"][level as usize];
            let path = format!("/{name}?{}", case.query);
            assert_found(gateway, &path, level, case.matches).await;
        }
        let (study, series) = (Made::all()[4].study_uid(), Made::all()[6].series_uid());
        let in_study = |m: Made| (case.matches)(m) && m.study == 1;
        if case.level <= Series {
            let path = format!("/studies/{study}/series?{}", case.query);
            assert_found(gateway, &path, Series, in_study).await;
        }
        let path = format!("/studies/{study}/instances?{}", case.query);
        assert_found(gateway, &path, Instance, in_study).await;
        let path = format!("/studies/{study}/series/{series}/instances?{}", case.query);
        assert_found(gateway, &path, Instance, |m| in_study(m) && m.series == 1).await;
    }
}

async fn assert_found(gateway: &Gateway, path: &str, level: Level, matches: impl Fn(Made) -> bool) {
    let (tag, uid): (_, fn(Made) -> String) = match level {
        Study => (tags::STUDY_INSTANCE_UID, Made::study_uid),
        Series => (tags::SERIES_INSTANCE_UID, Made::series_uid),
        Instance => (tags::SOP_INSTANCE_UID, Made::instance_uid),
    };
    let wanted: BTreeSet<String> = Made::all()
        .into_iter()
        .filter(|made| matches(*made))
        .map(uid)
        .collect();
    let given = uids(&found(gateway, path).await, tag);
    assert_eq!(given, wanted.into_iter().collect::<Vec<_>>(), "{path}");
}

#[test]
fn a_field_of_a_sequence_is_had_by_its_path() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &made("dotted-files"), &[])
            .await
            .unwrap();
        let gateway = gateway("dotted", PacsConfig::new("sim", "SIM", pacs.port())).await;
        let path = "/series?includefield=RequestAttributesSequence.ScheduledProcedureStepID";
        let found = found(&gateway, path).await;
        let items = |series: &serde_json::Value| series["00400275"]["Value"].as_array().cloned();
        let all = found.iter().filter_map(items).flatten();
        let values: Vec<_> = all
            .filter_map(|item| item["00400009"]["Value"][0].as_str().map(str::to_owned))
            .collect();
        assert!(!values.is_empty(), "{found:?}");
    });
}

#[test]
fn every_key_matches_over_orthanc() {
    run(async {
        let orthanc = Orthanc::builder(&folder("orthanc")).start().await.unwrap();
        orthanc.upload(made("orthanc-files")).await.unwrap();
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        assert_cases(&gateway("orthanc-gateway", pacs).await, |_| true).await;
    });
}

#[test]
fn every_key_matches_over_orthanc_by_dicomweb() {
    run(async {
        let orthanc = Orthanc::builder(&folder("web")).start().await.unwrap();
        orthanc.upload(made("web-files")).await.unwrap();
        let pacs = PacsConfig::dicomweb("pacs", &orthanc.dicomweb_url())
            .set("quirks.decodes_queries", false);
        let gateway = gateway("web-gateway", pacs).await;
        // Keys of sequences are searched by, and not answered: that is told.
        let is_in_sequence = |case: &Case| {
            case.query
                .split('=')
                .next()
                .is_some_and(|key| key.contains('.'))
        };
        assert_cases(&gateway, |case| !is_in_sequence(case)).await;
        let (_, warnings) = search(
            &gateway,
            "/series?RequestAttributesSequence.ScheduledProcedureStepID=SPS-11",
        )
        .await;
        assert!(warnings[0].contains("may not match"), "{warnings:?}");
    });
}

#[test]
fn every_required_key_matches_over_dcmqrscp() {
    run(async {
        let dcmqrscp = Dcmqrscp::builder(&folder("dcmqrscp"))
            .start(&made("dcmqrscp-files"))
            .await
            .unwrap();
        let pacs = PacsConfig::new("pacs", dcmqrscp.ae_title(), dcmqrscp.port())
            .set("quirks.relational_queries", false)
            .set("quirks.related_counts", false);
        let gateway = gateway("dcmqrscp-gateway", pacs).await;
        assert_cases(&gateway, |case| case.required).await;
        // A key that it does not know, and does not answer: that is told.
        let query = "/series?PerformedProcedureStepStartDate=20250211";
        let (_, warnings) = search(&gateway, query).await;
        assert!(warnings[0].contains("may not match"), "{warnings:?}");
        // It does not know this one either, but what it holds can be found out.
        let path = "/studies?ModalitiesInStudy=MR";
        assert_found(&gateway, path, Study, |m| [0, 3].contains(&m.study)).await;
    });
}

#[test]
fn every_key_matches_over_a_pacs_that_compares_none() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &made("careless-files"), &[])
            .await
            .unwrap();
        pacs.behave(|b| b.ignores_keys = true);
        let entry = PacsConfig::new("sim", "SIM", pacs.port());
        assert_cases(&gateway("careless-gateway", entry).await, |_| true).await;
    });
}

#[test]
fn every_key_matches_over_a_pacs_that_knows_one_level_at_a_time() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &made("strict-files"), &[])
            .await
            .unwrap();
        pacs.behave(|b| {
            b.without_relational_queries = true;
            b.own_level_only = true;
            b.without_related_counts = true;
        });
        // Nobody told the gateway: the refusals do.
        let entry = PacsConfig::new("sim", "SIM", pacs.port()).set("quirks.related_counts", false);
        assert_cases(&gateway("strict-gateway", entry).await, |_| true).await;
    });
}
