//! Searches (QIDO-RS) over real PACS, against the list of what was generated.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::PathBuf;

use conformance::samples::{Exam, Series};
use conformance::testkit::{
    Client, Dcmqrscp, FaultyPacs, Gateway, GatewayConfig, Orthanc, PacsConfig, Pki,
};
use dicom_dictionary_std::tags;
use serde_json::Value as Json;
use support::json::{key, name, text, values};
use support::search::{gateway, search, status, uids};
use support::{JSON, exam, exams, files, folder, run, series_path, study_path};
use tokio::sync::OnceCell;

/// A PACS that the stories share, and the gateway in front of it.
struct Shared {
    _orthanc: Option<Orthanc>,
    _dcmqrscp: Option<Dcmqrscp>,
    gateway: Gateway,
    /// What the PACS holds.
    exams: Vec<&'static Exam>,
    /// Whether it knows attributes that PS3.4 §C.6.2.1 leaves optional: Series Description, SOP Class
    /// UID.
    knows_optional: bool,
}

async fn orthanc() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let orthanc = Orthanc::builder(&folder("orthanc"))
                .setting("DefaultEncoding", "Utf8".into())
                .start()
                .await
                .unwrap();
            orthanc.upload(exams().files().collect()).await.unwrap();
            let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
            Shared {
                gateway: gateway("orthanc-gateway", pacs).await,
                _orthanc: Some(orthanc),
                _dcmqrscp: None,
                exams: exams().exams.iter().collect(),
                knows_optional: true,
            }
        })
        .await
}

/// Orthanc asked by DICOMweb.
async fn orthanc_web() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let orthanc = orthanc().await._orthanc.as_ref().unwrap();
            // Debian's Orthanc does not undo percent-encoding.
            let pacs = PacsConfig::dicomweb("pacs", &orthanc.dicomweb_url())
                .set("quirks.decodes_queries", false);
            Shared {
                gateway: gateway("orthanc-web-gateway", pacs).await,
                _orthanc: None,
                _dcmqrscp: None,
                exams: exams().exams.iter().collect(),
                knows_optional: true,
            }
        })
        .await
}

async fn dcmqrscp() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let held: Vec<&Exam> = exams()
                .set("many-studies")
                .chain([exam("mr"), exam("documents")])
                .collect();
            let files: Vec<PathBuf> = held
                .iter()
                .flat_map(|exam| exam.instances())
                .map(|instance| exams().path(instance))
                .collect();
            let dcmqrscp = Dcmqrscp::builder(&folder("dcmqrscp"))
                .start(&files)
                .await
                .unwrap();
            // It has no NumberOf…Related… attributes.
            let pacs = PacsConfig::new("pacs", dcmqrscp.ae_title(), dcmqrscp.port())
                .set("quirks.related_counts", false);
            Shared {
                gateway: gateway("dcmqrscp-gateway", pacs).await,
                _orthanc: None,
                _dcmqrscp: Some(dcmqrscp),
                exams: held,
                knows_optional: false,
            }
        })
        .await
}

/// A search of studies finds exactly the exams for which `expected` holds.
async fn assert_studies(shared: &Shared, query: &str, expected: impl Fn(&Exam) -> bool) {
    let (found, _) = search(&shared.gateway, &format!("/studies?{query}")).await;
    let mut wanted: Vec<String> = shared
        .exams
        .iter()
        .filter(|exam| expected(exam))
        .map(|exam| exam.study_instance_uid.clone())
        .collect();
    wanted.sort();
    assert!(!wanted.is_empty(), "{query}: the story proves nothing");
    assert_eq!(uids(&found, tags::STUDY_INSTANCE_UID), wanted, "{query}");
}

async fn studies_are_found_by_their_keys(shared: &Shared) {
    let one = &shared.exams[0];
    let by = |name: &str, value: &str| format!("{name}={value}");
    let patient = &exams().set("many-studies").next().unwrap().patient_id;
    assert_studies(shared, &by("PatientID", patient), |e| {
        e.patient_id == *patient
    })
    .await;
    assert_studies(shared, &by("00100020", patient), |e| {
        e.patient_id == *patient
    })
    .await;
    let accession = one.accession_number.as_str();
    assert_studies(shared, &by("AccessionNumber", accession), |e| {
        e.accession_number == accession
    })
    .await;
    let date = one.study_date.as_str();
    assert_studies(shared, &by("StudyDate", date), |e| e.study_date == date).await;
    assert_studies(shared, "StudyDate=20250301-20250630", |e| {
        ("20250301"..="20250630").contains(&e.study_date.as_str())
    })
    .await;
    assert_studies(shared, "StudyDate=20260101-", |e| {
        e.study_date.as_str() >= "20260101"
    })
    .await;
    assert_studies(shared, "StudyDate=-20250228", |e| {
        e.study_date.as_str() <= "20250228"
    })
    .await;
    assert_studies(shared, "PatientName=ESSAI*", |e| {
        e.patient_name.starts_with("ESSAI")
    })
    .await;
    assert_studies(shared, "PatientName=*%5EALICE", |e| {
        e.patient_name.ends_with("^ALICE")
    })
    .await;
    assert_studies(shared, "PatientID=SEARCH-00%3F", |e| {
        e.patient_id
            .strip_prefix("SEARCH-00")
            .is_some_and(|rest| rest.len() == 1)
    })
    .await;
    let two = [
        &shared.exams[1].study_instance_uid,
        &shared.exams[2].study_instance_uid,
    ];
    for between in [",", "%2C", "%5C"] {
        let query = format!("StudyInstanceUID={}{between}{}", two[0], two[1]);
        assert_studies(shared, &query, |e| two.contains(&&e.study_instance_uid)).await;
    }
    // Keys together narrow the search.
    let query = "PatientName=ESSAI*&StudyDate=20250101-20251231";
    assert_studies(shared, query, |e| {
        e.patient_name.starts_with("ESSAI") && e.study_date.starts_with("2025")
    })
    .await;
    // Nobody adds a wildcard.
    let (found, _) = search(&shared.gateway, "/studies?PatientName=ESSA").await;
    assert_eq!(found, Vec::<Json>::new());
}

/// PS3.18 tables 10.6.3-3 to 10.6.3-5: attributes that a match has, perhaps without a value. Those of a type 1C or 3
/// are left out.
const OF_STUDY: [&str; 14] = [
    "00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00081190", "00100010",
    "00100020", "00100030", "00100040", "0020000D", "00200010", "00201206",
];
const OF_SERIES: [&str; 5] = ["00080060", "0020000E", "00200011", "00201209", "00081190"];
const OF_INSTANCE: [&str; 5] = ["00080016", "00080018", "00200013", "00080056", "00081190"];

async fn every_match_has_what_the_standard_demands(shared: &Shared, name: &str) {
    let exam = exam(name);
    let study = study_path(exam);
    let series = series_path(exam, &exam.series[0]);
    let uid = &exam.study_instance_uid;
    let cases: [(String, &[&[&str]]); 6] = [
        (
            format!("/studies?StudyInstanceUID={uid}"),
            &[&OF_STUDY, &["00201208"]],
        ),
        (format!("{study}/series"), &[&OF_SERIES]),
        (format!("{series}/instances"), &[&OF_INSTANCE]),
        // Below a level that the path does not name, the attributes of that level too.
        (format!("{study}/instances"), &[&OF_SERIES, &OF_INSTANCE]),
        (
            format!("/series?StudyInstanceUID={uid}"),
            &[&OF_STUDY, &OF_SERIES],
        ),
        (
            format!("/instances?StudyInstanceUID={uid}"),
            &[&OF_STUDY, &OF_SERIES, &OF_INSTANCE],
        ),
    ];
    for (path, wanted) in cases {
        let (found, _) = search(&shared.gateway, &path).await;
        assert!(!found.is_empty(), "{path}");
        for one in &found {
            for attribute in wanted.iter().copied().flatten() {
                assert!(
                    one.get(*attribute).is_some(),
                    "{attribute} in {path}: {one}"
                );
            }
        }
    }
}

async fn nothing_found_is_an_empty_list(shared: &Shared) {
    let study = study_path(shared.exams[0]);
    for path in [
        "/studies?PatientID=NOBODY",
        "/studies?StudyDate=19000101",
        "/series?SeriesInstanceUID=1.2.3.4.5",
        "/instances?SOPInstanceUID=1.2.3.4.5",
        "/studies/1.2.3.4.5/series",
        &format!("{study}/instances?SOPInstanceUID=1.2.3.4.5"),
    ] {
        let (found, _) = search(&shared.gateway, path).await;
        assert_eq!(found, Vec::<Json>::new(), "{path}");
    }
}

async fn series_and_instances_are_found_below_their_study(shared: &Shared, name: &str) {
    let exam = exam(name);
    let (found, _) = search(&shared.gateway, &format!("{}/series", study_path(exam))).await;
    let mut wanted: Vec<&str> = exam
        .series
        .iter()
        .map(|series| series.series_instance_uid.as_str())
        .collect();
    wanted.sort_unstable();
    assert_eq!(uids(&found, tags::SERIES_INSTANCE_UID), wanted);
    for series in &exam.series {
        let of =
            |found: &&Json| text(found, tags::SERIES_INSTANCE_UID) == series.series_instance_uid;
        let given = found.iter().find(of).unwrap();
        assert_series(shared, exam, series, given);

        let path = format!("{}/instances", series_path(exam, series));
        let (instances, _) = search(&shared.gateway, &path).await;
        let mut wanted: Vec<&str> = series
            .instances
            .iter()
            .map(|i| i.sop_instance_uid.as_str())
            .collect();
        wanted.sort_unstable();
        assert_eq!(uids(&instances, tags::SOP_INSTANCE_UID), wanted);
        let last = series.instances.last().unwrap();
        let query = format!("{path}?InstanceNumber={}", last.instance_number);
        let (one, _) = search(&shared.gateway, &query).await;
        assert_eq!(
            uids(&one, tags::SOP_INSTANCE_UID),
            std::slice::from_ref(&last.sop_instance_uid)
        );
        // dcmqrscp answers no SOP class.
        if shared.knows_optional {
            assert_eq!(text(&one[0], tags::SOP_CLASS_UID), last.sop_class_uid);
        }
        let url = text(&one[0], tags::RETRIEVE_URL);
        let below = format!(
            "{}/instances/{}",
            series_path(exam, series),
            last.sop_instance_uid
        );
        assert_eq!(url, shared.gateway.local_url() + &below);
    }
    let (all, _) = search(&shared.gateway, &format!("{}/instances", study_path(exam))).await;
    let mut wanted: Vec<&str> = exam
        .instances()
        .map(|i| i.sop_instance_uid.as_str())
        .collect();
    wanted.sort_unstable();
    assert_eq!(uids(&all, tags::SOP_INSTANCE_UID), wanted);
}

fn assert_series(shared: &Shared, exam: &Exam, series: &Series, given: &Json) {
    assert_eq!(text(given, tags::MODALITY), series.modality);
    assert_eq!(
        text(given, tags::SERIES_NUMBER),
        series.series_number.to_string()
    );
    if shared.knows_optional {
        assert_eq!(
            text(given, tags::SERIES_DESCRIPTION),
            series.series_description
        );
    }
    let count = text(given, tags::NUMBER_OF_SERIES_RELATED_INSTANCES);
    assert_eq!(count, series.count.to_string());
    let url = text(given, tags::RETRIEVE_URL);
    assert_eq!(url, shared.gateway.local_url() + &series_path(exam, series));
}

async fn pages_are_exact_and_do_not_change(shared: &Shared) {
    let gateway = &shared.gateway;
    let (all, warnings) = search(gateway, "/studies").await;
    assert_eq!(all.len(), shared.exams.len());
    assert_eq!(warnings, Vec::<String>::new());
    let mut pages = Vec::new();
    for offset in (0..).step_by(7) {
        let path = format!("/studies?limit=7&offset={offset}");
        let (page, warnings) = search(gateway, &path).await;
        let is_last = offset + 7 >= all.len();
        assert_eq!(page.len(), 7.min(all.len() - offset), "{path}");
        assert_eq!(warnings.is_empty(), is_last, "{path}: {warnings:?}");
        assert!(warnings.iter().all(|warning| warning.starts_with("299 ")));
        pages.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(pages, all);
    let (beyond, _) = search(gateway, &format!("/studies?limit=7&offset={}", all.len())).await;
    assert_eq!(beyond, Vec::<Json>::new());
    let (none, _) = search(gateway, "/studies?limit=0").await;
    assert_eq!(none, Vec::<Json>::new());
}

async fn what_is_asked_for_besides_is_there(shared: &Shared) {
    let exam = shared.exams[0];
    let gateway = &shared.gateway;
    let path = format!("/studies?StudyInstanceUID={}", exam.study_instance_uid);
    let (plain, _) = search(gateway, &path).await;
    assert_eq!(text(&plain[0], tags::PATIENT_ID), exam.patient_id);
    assert_eq!(text(&plain[0], tags::STUDY_DATE), exam.study_date);
    assert_eq!(
        text(&plain[0], tags::ACCESSION_NUMBER),
        exam.accession_number
    );
    let instances = exam.instances().count().to_string();
    assert_eq!(
        text(&plain[0], tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
        instances
    );
    let series = exam.series.len().to_string();
    assert_eq!(
        text(&plain[0], tags::NUMBER_OF_STUDY_RELATED_SERIES),
        series
    );
    let mut modalities: Vec<&str> = exam.series.iter().map(|s| s.modality.as_str()).collect();
    modalities.sort_unstable();
    modalities.dedup();
    let given = values(&plain[0], tags::MODALITIES_IN_STUDY);
    let mut given: Vec<&str> = given.iter().map(|value| value.as_str().unwrap()).collect();
    given.sort_unstable();
    assert_eq!(given, modalities);
    let description = key(tags::STUDY_DESCRIPTION);
    assert!(
        plain[0].get(&description).is_none(),
        "nobody asked for the description"
    );
    for field in [
        "StudyDescription",
        "00081030",
        "StudyDescription,PatientAge",
        "all",
    ] {
        let (found, _) = search(gateway, &format!("{path}&includefield={field}")).await;
        assert_eq!(
            text(&found[0], tags::STUDY_DESCRIPTION),
            exam.study_description,
            "{field}"
        );
    }
    let (found, _) = search(
        gateway,
        &format!("{path}&includefield=PatientAge&includefield=00081030"),
    )
    .await;
    assert_eq!(
        text(&found[0], tags::STUDY_DESCRIPTION),
        exam.study_description
    );
}

async fn what_is_no_value_is_refused(shared: &Shared) {
    for query in [
        "limit=abc",
        "limit=-1",
        "offset=x",
        "limit=1&limit=2",
        "StudyDate=2026-01-01",
        "StudyDate=20261301",
        "StudyDate=20260101-20260102-20260103",
        "StudyInstanceUID=abc",
        "StudyInstanceUID=1..2",
        "PatientName=%FF%FE",
        "fuzzymatching=maybe",
        "00200013=one",
    ] {
        assert_eq!(
            status(&shared.gateway, &format!("/studies?{query}")).await,
            400,
            "{query}"
        );
    }
    for query in [
        "StudyDate=DUPONT",
        "PatientID=DUPONT&PatientID=DURAND",
        "00100010.00100020=DUPONT",
    ] {
        let answer = support::search::ask(&shared.gateway, &format!("/studies?{query}")).await;
        assert_eq!(answer.status(), 400, "{query}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let body = answer.text().await.unwrap();
        assert!(
            !body.contains("DUPONT") && !body.contains("DURAND"),
            "{body}"
        );
    }
    let (found, warnings) = search(&shared.gateway, "/studies?unknown=1&limit=1").await;
    assert_eq!(found.len(), 1);
    assert!(!warnings.is_empty());
}

macro_rules! over {
    ($module:ident, $shared:path, $study:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn studies_are_found_by_their_keys() {
                run(async { super::studies_are_found_by_their_keys($shared().await).await });
            }

            #[test]
            fn nothing_found_is_an_empty_list() {
                run(async { super::nothing_found_is_an_empty_list($shared().await).await });
            }

            #[test]
            fn series_and_instances_are_found_below_their_study() {
                run(async {
                    super::series_and_instances_are_found_below_their_study(
                        $shared().await,
                        $study,
                    )
                    .await;
                });
            }

            #[test]
            fn pages_are_exact_and_do_not_change() {
                run(async { super::pages_are_exact_and_do_not_change($shared().await).await });
            }

            #[test]
            fn what_is_asked_for_besides_is_there() {
                run(async { super::what_is_asked_for_besides_is_there($shared().await).await });
            }

            #[test]
            fn every_match_has_what_the_standard_demands() {
                run(async {
                    super::every_match_has_what_the_standard_demands($shared().await, $study).await
                });
            }

            #[test]
            fn what_is_no_value_is_refused() {
                run(async { super::what_is_no_value_is_refused($shared().await).await });
            }
        }
    };
}

over!(over_orthanc, orthanc, "documents");
over!(over_orthanc_web, orthanc_web, "documents");
over!(over_dcmqrscp, dcmqrscp, "documents");

#[test]
fn series_and_instances_are_found_without_their_study() {
    run(async {
        let shared = orthanc().await;
        let exam = exam("documents");
        let report = &exam.series[1];
        let query = format!("/series?SeriesInstanceUID={}", report.series_instance_uid);
        let (found, _) = search(&shared.gateway, &query).await;
        assert_eq!(found.len(), 1);
        assert_eq!(
            text(&found[0], tags::STUDY_INSTANCE_UID),
            exam.study_instance_uid
        );
        assert_series(shared, exam, report, &found[0]);
        let (found, _) = search(&shared.gateway, "/series?Modality=KO").await;
        let wanted = exams()
            .exams
            .iter()
            .flat_map(|e| &e.series)
            .filter(|s| s.modality == "KO");
        assert_eq!(found.len(), wanted.count());
        let instance = &report.instances[0].sop_instance_uid;
        let query = format!("/instances?SOPInstanceUID={instance}");
        let (found, _) = search(&shared.gateway, &query).await;
        assert_eq!(
            uids(&found, tags::SOP_INSTANCE_UID),
            std::slice::from_ref(instance)
        );
    });
}

#[test]
fn names_beyond_ascii_are_found_and_returned_in_unicode() {
    run(async {
        let shared = orthanc().await;
        for set in ["ir100", "ir101", "ir144", "ir192-latin", "ir192-groups"] {
            let exam = exam(&format!("charsets/{set}"));
            let query = format!("/studies?PatientID={}", exam.patient_id);
            let (found, _) = search(&shared.gateway, &query).await;
            let wanted = exam.patient_name.trim_end_matches('=');
            assert_eq!(name(&found[0], tags::PATIENT_NAME), wanted, "{set}");
        }
        let query = "/studies?PatientName=LEF%C3%88VRE*";
        let (found, _) = search(&shared.gateway, query).await;
        let wanted = &exam("charsets/ir100-capitals").study_instance_uid;
        assert_eq!(
            uids(&found, tags::STUDY_INSTANCE_UID),
            std::slice::from_ref(wanted)
        );
    });
}

#[test]
fn a_pacs_without_relational_queries_or_counts_gives_the_same_answers() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&["documents", "mr"]), &[])
            .await
            .unwrap();
        pacs.behave(|b| {
            b.without_relational_queries = true;
            b.without_related_counts = true;
        });
        let entry = PacsConfig::new("sim", "SIM", pacs.port())
            .set("quirks.relational_queries", false)
            .set("quirks.related_counts", false);
        let shared = Shared {
            _orthanc: None,
            _dcmqrscp: None,
            gateway: gateway("hierarchical", entry).await,
            exams: vec![exam("documents"), exam("mr")],
            knows_optional: true,
        };
        series_and_instances_are_found_below_their_study(&shared, "documents").await;
        what_is_asked_for_besides_is_there(&shared).await;
        let (found, _) = search(&shared.gateway, "/series?Modality=MR").await;
        assert_eq!(found.len(), exam("mr").series.len());
    });
}

#[test]
fn peers_may_not_search_unless_the_configuration_says_so() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&["mr"]), &[])
            .await
            .unwrap();
        let pki = Pki::new(&folder("pki"), "Scenario CA").unwrap();
        let host = "db.search.example";
        let (server, peer) = (pki.server(&[host]).unwrap(), pki.client("peer").unwrap());
        for (allowed, expected) in [(false, 403), (true, 200)] {
            let config = GatewayConfig::new(&folder(&format!("peer-{allowed}"))).unwrap();
            let mut config = config.peer(&pki).unwrap();
            if allowed {
                let both = toml::Value::Array(vec!["wado".into(), "qido".into()]);
                config = config.set("peer.resources", both);
            }
            let entry = PacsConfig::new("sim", "SIM", pacs.port()).db_host(host, &server);
            let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
            let client = gateway.peer_client(&pki, &peer, &[host]).build().unwrap();
            let url = gateway.peer_url(host) + "/studies";
            let answer = client.get(&url).accept(JSON).send().await.unwrap();
            assert_eq!(answer.status(), expected);
            if allowed {
                let found = answer.json().await.unwrap();
                let url = text(&found[0], tags::RETRIEVE_URL);
                assert_eq!(url, gateway.peer_url(host) + &study_path(exam("mr")));
            }
        }
    });
}

#[test]
fn a_search_in_another_form_is_not_acceptable() {
    run(async {
        let gateway = &orthanc().await.gateway;
        let url = gateway.local_url() + "/studies?limit=1";
        let client = Client::plain().unwrap();
        for accept in [
            "text/html",
            "application/pdf",
            "multipart/related; type=\"image/jpeg\"",
        ] {
            let answer = client.get(&url).accept(accept).send().await.unwrap();
            assert_eq!(answer.status(), 406, "{accept}");
        }
        for accept in [
            "application/json",
            "*/*",
            "application/dicom+json;q=0.5, text/html",
        ] {
            let answer = client.get(&url).accept(accept).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{accept}");
        }
    });
}
