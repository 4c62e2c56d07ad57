//! The dicomweb-client of PyPI.

use std::path::{Path, PathBuf};

use conformance::samples::{Exam, Instance};
use conformance::testkit::http::sha256;
use serde_json::{Value as Json, json};

use crate::support::compare::sent_syntax;
use crate::support::{exam, exams, python as pypi, run};
use crate::{HOST, frames_of, instances, questions, site, sorted, studies_of_patient};

/// What is installed; another list makes another environment.
const PACKAGES: [&str; 2] = ["dicomweb-client==0.61.2", "pydicom==3.0.2"];

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/ask.py");

/// The Python of the environment; `None` when the stories are to be left out.
fn python() -> Option<PathBuf> {
    pypi::environment("dicomweb-client of PyPI", &PACKAGES)
}

async fn ask(python: &Path, asked: Json) -> Json {
    pypi::ask(python, SCRIPT, &asked.to_string()).await
}

fn assert_instances<'a>(answer: &Json, expected: impl Iterator<Item = &'a Instance>, name: &str) {
    let given = answer.as_object().unwrap();
    let mut count = 0;
    for instance in expected {
        let (one, file) = (&given[&instance.sop_instance_uid], &instance.file);
        let syntax = sent_syntax(&instance.transfer_syntax_uid);
        assert_eq!(one["syntax"], syntax, "{file}");
        assert_eq!(
            one["pixels"].as_str(),
            instance.pixel_sha256.as_deref(),
            "{file}"
        );
        assert_eq!(one["name"], name);
        count += 1;
    }
    assert_eq!(given.len(), count);
}

fn assert_answer(answer: &Json, exam: &Exam) {
    let (series, name) = (&exam.series[0], exam.patient_name.as_str());
    let first = &series.instances[..1];
    assert_instances(&answer["study"], exam.instances(), name);
    assert_instances(&answer["study_iterated"], exam.instances(), name);
    assert_instances(&answer["series"], series.instances.iter(), name);
    assert_instances(&answer["instance"], first.iter(), name);
    assert_eq!(answer["study_metadata"], instances(exam.instances()));
    assert_eq!(answer["series_metadata"], instances(&series.instances));
    assert_eq!(answer["instance_metadata"], instances(first));
}

#[test]
fn dicomweb_client_retrieves_and_searches_on_both_listeners() {
    let Some(python) = python() else { return };
    run(async {
        let site = site().await;
        for name in ["ct", "mr", "us", "documents", "charsets/ir100"] {
            let exam = exam(name);
            let mut asked = questions(&site.gateway.local_url(), exam);
            asked["patient"] = json!(exam.patient_id);
            let answer = ask(&python, asked).await;
            assert_answer(&answer, exam);
            assert_eq!(answer["found_studies"], studies_of_patient(exam));
            let series = exam.series.iter().map(|series| &series.series_instance_uid);
            assert_eq!(answer["found_series"], sorted(series));
            let all = instances(&exam.series[0].instances);
            assert_eq!(answer["found_instances"], all);
            // No PACS here matches names by their sound: the plain match is what comes.
            assert_eq!(answer["found_fuzzy"], studies_of_patient(exam));
            let page = answer["found_page"].as_array().unwrap();
            let asked_for = ["00081030", "0020000D"];
            assert_eq!(page.len(), 3);
            assert!(page.iter().all(|study| asked_for.iter().all(|tag| {
                let keys = study.as_array().unwrap();
                keys.iter().any(|key| key == tag)
            })));
            let every = exams().exams.iter().map(|exam| &exam.study_instance_uid);
            assert_eq!(answer["found_by_pages"], sorted(every));
        }

        let (pki, exam) = (&site.pki, exam("ct300"));
        let peer = pki.client("peer").unwrap();
        let mut asked = questions(&site.gateway.peer_url(HOST), exam);
        let path = |path: &Path| json!(path.display().to_string());
        asked["ca"] = path(pki.ca_file());
        asked["certificate"] = path(&peer.certificate_file);
        asked["key"] = path(&peer.key_file);
        asked["host"] = json!(HOST);
        asked["address"] = json!("127.0.0.1");
        assert_answer(&ask(&python, asked).await, exam);
    });
}

#[test]
fn dicomweb_client_gets_frames_and_pictures() {
    let Some(python) = python() else { return };
    run(async {
        let site = site().await;
        // (exam, media type of a stored frame in the client's words)
        for (name, media_type) in [
            ("ct", "image/jls"),
            ("enhanced-ct", "image/jls"),
            ("dx", "image/jpeg"),
            ("multiframe", "application/octet-stream"),
        ] {
            let exam = exam(name);
            let instance = &exam.series[0].instances[0];
            let (stored, samples) = frames_of(instance);
            let numbers: Vec<usize> = (1..=stored.len().min(3)).rev().collect();
            let mut asked = questions(&site.gateway.local_url(), exam);
            asked["frames"] = json!(numbers);
            asked["media_type"] = json!([media_type, instance.transfer_syntax_uid]);
            let answer = ask(&python, asked).await;
            let expected = |frames: &[Vec<u8>]| {
                let digests = numbers.iter().map(|number| sha256(&frames[number - 1]));
                json!(digests.collect::<Vec<_>>())
            };
            assert_eq!(answer["frames_stored"], expected(&stored), "{name}");
            assert_eq!(answer["frames_any"], expected(&samples), "{name}");
            assert_eq!(answer["frames_octets"], expected(&samples), "{name}");
            // Compressed pixels come as frames, others as the value they are.
            let native = media_type == "application/octet-stream";
            let bulk: Vec<Vec<u8>> = if native {
                vec![stored.concat()]
            } else {
                samples.clone()
            };
            let bulk: Vec<String> = bulk.iter().map(|part| sha256(part)).collect();
            assert_eq!(answer["bulk"], json!(bulk), "{name}");
            assert_eq!(answer["bulk_any"], json!(bulk), "{name}");
            assert_eq!(answer["rendered_head"], "ffd8ff", "{name}");
            assert_eq!(answer["rendered_frame_head"], "89504e", "{name}");
        }
    });
}
