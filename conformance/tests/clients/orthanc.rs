//! Orthanc's DICOMweb plugin as a client: another Orthanc, empty, knows the gateway as a DICOMweb
//! server, searches it and fetches a study.

use std::collections::BTreeSet;

use conformance::samples::Exam;
use conformance::testkit::{Client, Orthanc};
use serde_json::{Value as Json, json};

use crate::site;
use crate::support::compare::assert_same;
use crate::support::{AS_STORED, exam, folder, run, until};

/// The name of the gateway in Orthanc.
const SERVER: &str = "drimbox";

async fn post(orthanc: &Orthanc, path: &str, asked: Json) -> Json {
    let url = format!("{}/dicom-web/servers/{SERVER}{path}", orthanc.http_url());
    let client = Client::plain().unwrap();
    let call = client.request(http::Method::POST, &url);
    let answer = call.body(asked.to_string()).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or(Json::String(text))
}

/// Every instance of the study is in this Orthanc as it was in the first.
async fn assert_holds(orthanc: &Orthanc, exam: &Exam) {
    let all = orthanc.rest("/instances?expand").await.unwrap();
    let mut missing: BTreeSet<&str> = exam
        .instances()
        .map(|instance| instance.sop_instance_uid.as_str())
        .collect();
    for held in all.as_array().unwrap() {
        let uid = held["MainDicomTags"]["SOPInstanceUID"].as_str().unwrap();
        let Some(source) = exam.instances().find(|one| one.sop_instance_uid == uid) else {
            continue;
        };
        let id = held["ID"].as_str().unwrap();
        let url = format!("{}/instances/{id}/file", orthanc.http_url());
        let file = Client::plain().unwrap().get(&url).send().await.unwrap();
        assert_same(source, &file.bytes().await.unwrap());
        missing.remove(uid);
    }
    assert!(missing.is_empty(), "{}: {missing:?}", exam.name);
}

#[test]
fn orthanc_searches_the_gateway_and_fetches_studies_from_it() {
    run(async {
        let gateway = &site().await.gateway;
        let servers = json!({ SERVER: { "Url": gateway.local_url() + "/" } });
        let orthanc = Orthanc::builder(&folder("orthanc-client"))
            .ae_title("CLIENT")
            .setting(
                "DicomWeb",
                json!({ "Enable": true, "Root": "/dicom-web/", "Servers": servers }),
            )
            .start()
            .await
            .unwrap();
        // The plugin reads its servers after Orthanc began to answer.
        until("the plugin knows the gateway", async || {
            let servers = orthanc.rest("/dicom-web/servers").await;
            servers.is_ok_and(|known| {
                known
                    .as_array()
                    .is_some_and(|known| known.contains(&json!(SERVER)))
            })
        })
        .await;

        let exam = exam("ct");
        let asked = json!({
            "Uri": "/studies",
            "Arguments": { "00100020": exam.patient_id },
        });
        let found = post(&orthanc, "/qido", asked).await;
        let uid = exam.study_instance_uid.as_str();
        let uids: Vec<&str> = found
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|study| study["0020000D"]["Value"].as_str())
            .collect();
        assert!(uids.contains(&uid), "{found}");

        let metadata = post(
            &orthanc,
            "/get",
            json!({
                "Uri": format!("/studies/{uid}/metadata"),
                "HttpHeaders": { "Accept": "application/dicom+json" },
            }),
        )
        .await;
        assert_eq!(metadata.as_array().unwrap().len(), exam.instances().count());

        // One by study, one by series, one by instance: (exam, what of it is named).
        for (name, series, instance) in [
            ("ct", false, false),
            ("us", true, false),
            ("enhanced-ct", true, true),
        ] {
            let exam = crate::support::exam(name);
            let mut resource = json!({ "Study": exam.study_instance_uid });
            if series {
                resource["Series"] = json!(exam.series[0].series_instance_uid);
            }
            if instance {
                resource["Instance"] = json!(exam.series[0].instances[0].sop_instance_uid);
            }
            let headers = json!({ "Accept": AS_STORED });
            let asked = json!({ "Resources": [resource], "HttpHeaders": headers });
            post(&orthanc, "/retrieve", asked).await;
            assert_holds(&orthanc, exam).await;
        }
    });
}
