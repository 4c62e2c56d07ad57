//! A client that nobody here wrote: Python's dicomweb-client, from PyPI.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::Path;

use conformance::samples::{Exam, Instance};
use conformance::testkit::{Gateway, GatewayConfig, Orthanc, PacsConfig, Pki};
use serde_json::{Value as Json, json};
use support::compare::sent_syntax;
use support::{exam, exams, folder, python, run};

/// What is installed; another list makes another environment.
const PACKAGES: [&str; 2] = ["dicomweb-client==0.61.2", "pydicom==3.0.2"];

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/ask.py");

async fn ask(python: &Path, asked: Json) -> Json {
    python::ask(python, SCRIPT, &asked.to_string()).await
}

fn assert_instances<'a>(answer: &Json, expected: impl Iterator<Item = &'a Instance>, name: &str) {
    let given = answer.as_object().unwrap();
    let mut count = 0;
    for instance in expected {
        let one = &given[&instance.sop_instance_uid];
        assert_eq!(
            one["syntax"],
            sent_syntax(&instance.transfer_syntax_uid),
            "{}",
            instance.file
        );
        assert_eq!(
            one["pixels"].as_str(),
            instance.pixel_sha256.as_deref(),
            "{}",
            instance.file
        );
        assert_eq!(one["name"], name);
        count += 1;
    }
    assert_eq!(given.len(), count);
}

fn sorted<'a>(uids: impl Iterator<Item = &'a String>) -> Json {
    let mut uids: Vec<&String> = uids.collect();
    uids.sort();
    json!(uids)
}

fn assert_answer(answer: &Json, exam: &Exam) {
    let (series, name) = (&exam.series[0], exam.patient_name.as_str());
    assert_instances(&answer["study"], exam.instances(), name);
    assert_instances(&answer["study_iterated"], exam.instances(), name);
    assert_instances(&answer["series"], series.instances.iter(), name);
    assert_instances(&answer["instance"], series.instances[..1].iter(), name);
    let uids = |instances: &[Instance]| sorted(instances.iter().map(|i| &i.sop_instance_uid));
    assert_eq!(
        answer["study_metadata"],
        sorted(exam.instances().map(|i| &i.sop_instance_uid))
    );
    assert_eq!(answer["series_metadata"], uids(&series.instances));
    assert_eq!(answer["instance_metadata"], uids(&series.instances[..1]));
}

fn questions(url: String, exam: &Exam) -> Json {
    let series = &exam.series[0];
    json!({
        "url": url,
        "study": exam.study_instance_uid,
        "series": series.series_instance_uid,
        "instance": series.instances[0].sop_instance_uid,
    })
}

#[test]
fn dicomweb_client_retrieves_and_searches_on_both_listeners() {
    let Some(python) = python::environment("dicomweb-client", &PACKAGES) else {
        return;
    };
    run(async {
        let home = folder("gateway");
        let orthanc = Orthanc::builder(&folder("orthanc")).start().await.unwrap();
        orthanc.upload(exams().files().collect()).await.unwrap();
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let host = "db.clients.example";
        let (server, peer) = (pki.server(&[host]).unwrap(), pki.client("peer").unwrap());
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let config = GatewayConfig::new(&home).unwrap().peer(&pki).unwrap();
        let gateway = Gateway::start(config.pacs(pacs.db_host(host, &server)))
            .await
            .unwrap();

        for name in ["ct", "mr", "us", "documents", "charsets/ir100"] {
            let exam = exam(name);
            let mut asked = questions(gateway.local_url(), exam);
            asked["patient"] = json!(exam.patient_id);
            let answer = ask(&python, asked).await;
            assert_answer(&answer, exam);
            let series = &exam.series[0];
            let same = exams()
                .exams
                .iter()
                .filter(|other| other.patient_id == exam.patient_id);
            let same = sorted(same.map(|exam| &exam.study_instance_uid));
            assert_eq!(answer["found_studies"], same);
            assert_eq!(answer["found_page"], 3);
            let all = sorted(exam.series.iter().map(|series| &series.series_instance_uid));
            assert_eq!(answer["found_series"], all);
            let all = sorted(series.instances.iter().map(|i| &i.sop_instance_uid));
            assert_eq!(answer["found_instances"], all);
        }

        let mut asked = questions(gateway.peer_url(host), exam("ct300"));
        let path = |path: &Path| json!(path.display().to_string());
        asked["ca"] = path(pki.ca_file());
        asked["certificate"] = path(&peer.certificate_file);
        asked["key"] = path(&peer.key_file);
        asked["host"] = json!(host);
        asked["address"] = json!("127.0.0.1");
        assert_answer(&ask(&python, asked).await, exam("ct300"));
    });
}
