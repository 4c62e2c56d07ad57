//! The table of published exams, by its API and its command.

use std::process::Command;

use conformance::samples::kos::Kos;
use conformance::testkit::Client;
use conformance::testkit::gateway::binary;
use http::Method;
use serde_json::json;

use crate::network::{Network, STUDY, network, published};
use crate::support::{exam, run};

#[test]
fn without_the_token_of_the_administrator_the_table_is_closed() {
    run(async {
        let network = network().await;
        let client = Client::plain().unwrap();
        let url = network.gateway.admin_url() + "/api/exams";
        let study = &exam(STUDY).study_instance_uid;
        for (method, url) in [
            (Method::GET, url.clone()),
            (Method::POST, url.clone()),
            (Method::DELETE, format!("{url}/sim/{study}")),
        ] {
            for token in ["", "Bearer 0000", "Basic eA=="] {
                let call = client
                    .request(method.clone(), &url)
                    .header("authorization", token);
                assert_eq!(call.send().await.unwrap().status(), 401, "{method} {token}");
            }
        }
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn an_exam_that_makes_no_sense_is_not_taken() {
    run(async {
        let network = network().await;
        let change = |path: &str, value| {
            let mut exam = published();
            *exam.pointer_mut(path).unwrap() = value;
            exam
        };
        for wrong in [
            change("/study", json!("not a uid")),
            change("/pacs", json!("elsewhere")),
            change("/series", json!([])),
            json!({ "pacs": "sim" }),
        ] {
            assert_eq!(network.administrate(&wrong).await.status(), 400, "{wrong}");
        }
    });
}

#[test]
fn what_is_published_survives_a_crash() {
    run(async {
        let mut network = network().await;
        network.gateway.kill();
        network.gateway.restart().await.unwrap();
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

/// `drimbox exams` with these arguments: its exit code, and what it said.
async fn exams(network: &Network, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary().unwrap());
    command.arg("exams").args(arguments);
    command.env("DRIMBOX_CONFIG", network.home.join("gateway/drimbox.toml"));
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn what_closes_an_exam_stays_when_its_kos_comes_again() {
    run(async {
        let network = network().await;
        let kos = network.home.join("again.dcm");
        let again = Kos::of(exam(STUDY), "https://db1.source.example/dicom-web");
        again.write(&kos).unwrap();
        let kos = kos.display().to_string();
        let add = ["add", "--pacs", "sim", "--kos", &kos];
        let opposed = "opposition du patient";
        for (flags, is_closed) in [
            (vec!["--opposed", "--cda-id", "1.2.3^CR-1"], true),
            (vec![], true),
            (vec!["--masque-ps"], true),
            (vec!["--opposed=false"], false),
            (vec![], false),
        ] {
            let (code, said) = exams(&network, &[&add[..], &flags].concat()).await;
            assert_eq!(code, Some(0), "{said}");
            let (_, listed) = exams(&network, &["list"]).await;
            assert_eq!(listed.contains(opposed), is_closed, "{flags:?}: {listed}");
        }
        let (_, listed) = exams(&network, &["list"]).await;
        assert!(listed.contains("masqué"), "{listed}");
        network.publish(&published()).await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn the_command_lists_and_closes_what_is_published() {
    run(async {
        let network = network().await;
        let study = exam(STUDY).study_instance_uid.clone();
        let drimbox = async |arguments: &[&str]| exams(&network, arguments).await;
        let (code, text) = drimbox(&["list"]).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains(&study) && text.contains("1 examens publiés"),
            "{text}"
        );
        let remove = ["remove", "--pacs", "sim", "--study", &study];
        let (code, text) = drimbox(&remove).await;
        assert_eq!(code, Some(0), "{text}");
        let asking = network.request().await;
        network.refused(&asking, 404, "not_published").await;
        let (code, text) = drimbox(&remove).await;
        assert_eq!(code, Some(1), "{text}");
        network.publish(&published()).await;
        let kinds: Vec<_> = network
            .trail()
            .iter()
            .map(|event| event["kind"].clone())
            .collect();
        assert!(
            kinds.contains(&json!("exam-removed")) && kinds.contains(&json!("exam-registered"))
        );
    });
}
