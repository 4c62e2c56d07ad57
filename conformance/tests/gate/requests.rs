//! What a request of a peer must carry, and what it then gets.

use conformance::testkit::psc::{MANIPULATOR, NURSE, STUDENT};
use serde_json::json;

use crate::network::{CONSUMER_CLIENT, INS, KOS, SOURCE, STUDY, network, published};
use crate::support::{AS_STORED, exam, folder, instance_path, run, series_path, study_path, until};

#[test]
fn a_series_of_the_kos_arrives_whole_with_the_ins_and_on_record() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        let answer = network.ask(&asking).await;
        assert_eq!(answer.status(), 200);
        assert!(
            answer
                .header("strict-transport-security")
                .contains("63072000")
        );
        let into = folder("with-ins");
        let body = answer.multipart_to(&into).await.unwrap();
        assert!(body.is_complete());
        let series = &exam(STUDY).series[0];
        assert_eq!(body.parts.len(), series.count);
        let first = std::fs::read(into.join("0.part")).unwrap();
        let found = first
            .windows(INS.len())
            .any(|window| window == INS.as_bytes());
        assert!(found, "the INS is not in the image");

        until("the end is on record", async || {
            network.trail().last().unwrap()["kind"] == "request-ended"
        })
        .await;
        let trail = network.trail();
        let [begun, ended] = &trail[trail.len() - 2..] else {
            panic!("no two events");
        };
        assert_eq!(begun["kind"], "request-started");
        assert_eq!(begun["object"]["kos"], KOS);
        assert_eq!(
            begun["object"]["series"],
            series.series_instance_uid.as_str()
        );
        let subject = begun["actor"]["peer"]["subject"].as_str().unwrap();
        assert!(subject.contains("db2.peer.example"), "{subject}");
        assert_eq!(begun["actor"]["person"]["national_id"], "899700218896");
        assert_eq!(
            begun["actor"]["person"]["authorized_party"],
            CONSUMER_CLIENT
        );
        assert_eq!(ended["outcome"]["ending"], "success");
        assert!(ended["outcome"]["bytes"].as_u64().unwrap() > 0);
    });
}

#[test]
fn without_a_token_a_peer_gets_nothing() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.token = None;
        let answer = network.refused(&asking, 401, "no_token").await;
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    });
}

#[test]
fn a_token_of_nobody_is_refused_without_asking_pro_sante_connect() {
    run(async {
        let network = network().await;
        let before = network
            .provider
            .report()
            .await
            .unwrap()
            .count("introspection");
        for (token, reason) in [
            ("a.b.c".to_owned(), "token_malformed"),
            ("x".repeat(9000), "token_too_long"),
        ] {
            let mut asking = network.request().await;
            asking.token = Some(token);
            network.refused(&asking, 401, reason).await;
        }
        let after = network
            .provider
            .report()
            .await
            .unwrap()
            .count("introspection");
        assert_eq!(after, before);
    });
}

#[test]
fn a_token_that_was_changed_is_refused() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        let token = asking.token.take().unwrap();
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        asking.token = Some(format!("{rest}.{first}{}", &signature[1..]));
        network.refused(&asking, 401, "token_signature").await;
    });
}

/// Seconds since 1970, and these more.
fn in_seconds(more: i64) -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp() + more
}

#[test]
fn what_is_wrong_with_a_token_of_pro_sante_connect_is_said_and_on_record() {
    run(async {
        let network = network().await;
        for (claims, reason) in [
            (
                json!({"iat": in_seconds(-130), "exp": in_seconds(-10)}),
                "token_expired",
            ),
            (
                json!({"iat": in_seconds(90), "exp": in_seconds(210)}),
                "token_in_future",
            ),
            (
                json!({"iss": "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet"}),
                "token_of_other_issuer",
            ),
            (
                json!({"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}}),
                "token_of_other_certificate",
            ),
            (json!({"acr": "eidas0"}), "token_level"),
        ] {
            let knobs = json!({ "accessToken": claims });
            network.provider.set(knobs).await.unwrap();
            let asking = network.request().await;
            let answer = network.refused(&asking, 401, reason).await;
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    });
}

#[test]
fn a_token_that_a_faster_clock_issued_twenty_seconds_ahead_is_accepted() {
    run(async {
        let network = network().await;
        let ahead = json!({"iat": in_seconds(20), "exp": in_seconds(140)});
        let knobs = json!({ "accessToken": ahead });
        network.provider.set(knobs).await.unwrap();
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn a_token_of_a_session_that_ended_is_refused() {
    run(async {
        let network = network().await;
        let (token, sid) = network
            .provider
            .issue(conformance::testkit::psc::PHYSICIAN, CONSUMER_CLIENT)
            .await
            .unwrap();
        assert!(network.provider.end_session(&sid).await.unwrap());
        let mut asking = network.request().await;
        asking.token = Some(token);
        network.refused(&asking, 401, "token_inactive").await;
    });
}

#[test]
fn one_token_is_introspected_once_for_many_requests() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        let before = network
            .provider
            .report()
            .await
            .unwrap()
            .count("introspection");
        for _ in 0..5 {
            assert_eq!(network.ask(&asking).await.status(), 200);
        }
        let after = network
            .provider
            .report()
            .await
            .unwrap()
            .count("introspection");
        assert_eq!(after, before + 1);
    });
}

#[test]
fn while_pro_sante_connect_is_away_a_peer_is_told_to_come_back() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        network
            .provider
            .set(json!({ "faults": { "introspection": { "status": 503 } } }))
            .await
            .unwrap();
        let answer = network.refused(&asking, 503, "psc_unavailable").await;
        assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
        network.provider.reset().await.unwrap();
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn a_nurse_is_refused() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.token = Some(network.token_of(NURSE).await);
        network.refused(&asking, 403, "profession").await;
    });
}

#[test]
fn a_student_is_refused() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.token = Some(network.token_of(STUDENT).await);
        network.refused(&asking, 403, "profession").await;
    });
}

#[test]
fn a_radiographer_is_refused_by_default() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.token = Some(network.token_of(MANIPULATOR).await);
        network.refused(&asking, 403, "profession").await;
    });
}

#[test]
fn a_request_without_a_kos_is_malformed() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.kos = None;
        network.refused(&asking, 400, "no_kos").await;
        asking.kos = Some("not a uid".to_owned());
        network.refused(&asking, 400, "unreadable_kos").await;
    });
}

#[test]
fn what_was_not_published_cannot_be_told_from_what_does_not_exist() {
    run(async {
        let network = network().await;
        let root = network.gateway.peer_url(SOURCE);
        let published = exam(STUDY);
        let good = network.request().await;
        let series = &published.series[0];
        let unlisted = format!("{}/series/1.2.3.4", study_path(published));
        let of_nobody = format!("/studies/1.2.3.4/series/{}", series.series_instance_uid);
        let instance = format!("{}/instances/1.2.3.4", series_path(published, series));
        let cases = [
            (unlisted, KOS, "series_not_named"),
            (of_nobody, KOS, "not_published"),
            (series_path(published, series), "2.25.999", "other_kos"),
            (study_path(published), KOS, "whole_study"),
            (instance, KOS, "instance_not_named"),
        ];
        let mut bodies = std::collections::BTreeSet::new();
        for (path, kos, reason) in cases {
            let mut asking = good.clone();
            asking.url = format!("{root}{path}");
            asking.kos = Some(kos.to_owned());
            let answer = network.refused(&asking, 404, reason).await;
            let mut body = answer.json().await.unwrap();
            // The one thing that differs from answer to answer.
            body.as_object_mut().unwrap().remove("requestId");
            bodies.insert(body.to_string());
        }
        assert_eq!(bodies.len(), 1, "{bodies:?}");
    });
}

#[test]
fn an_instance_and_the_metadata_of_a_named_series_are_served() {
    run(async {
        let network = network().await;
        let root = network.gateway.peer_url(SOURCE);
        let published = exam(STUDY);
        let series = &published.series[0];
        for path in [
            instance_path(published, series, 0),
            series_path(published, series) + "/metadata",
        ] {
            let mut asking = network.request().await;
            asking.url = format!("{root}{path}");
            if path.ends_with("metadata") {
                asking.accept = "application/dicom+json";
            }
            let status = network.ask(&asking).await.status();
            assert_eq!(status, 200, "{path}");
        }
    });
}

#[test]
fn of_a_series_a_peer_gets_what_the_kos_names_and_no_more() {
    run(async {
        let network = network().await;
        let mut shorter = published();
        let instances = shorter["series"][0]["instances"].as_array_mut().unwrap();
        let hidden = instances.remove(1);
        let named = instances.len();
        network.publish(&shorter).await;
        let mut asking = network.request().await;
        let series = asking.url.clone();
        for (below, accept) in [
            ("", AS_STORED),
            ("/pixeldata", "*/*"),
            ("/bulkdata", "*/*"),
            ("/metadata", "application/dicom+json"),
        ] {
            asking.url = format!("{series}{below}");
            asking.accept = accept;
            let answer = network.ask(&asking).await;
            assert_eq!(answer.status(), 200, "{below}");
            if below == "/metadata" {
                let metadata = answer.json().await.unwrap();
                assert_eq!(metadata.as_array().unwrap().len(), named);
                assert!(!metadata.to_string().contains(hidden.as_str().unwrap()));
            } else {
                let into = folder("named-parts");
                let body = answer.multipart_to(&into).await.unwrap();
                assert!(body.is_complete(), "{below}");
                assert_eq!(body.parts.len(), named, "{below}");
            }
        }
        network.publish(&published()).await;
    });
}

#[test]
fn a_search_is_closed_to_peers() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.url = network.gateway.peer_url(SOURCE) + "/studies?PatientID=1";
        network.refused(&asking, 403, "not_offered").await;
    });
}

#[test]
fn an_exam_whose_patient_is_opposed_is_closed_at_once_and_opened_again() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
        for (restriction, reason) in [
            ("opposed", "opposed"),
            ("masked_to_professionals", "masked"),
        ] {
            let mut restricted = published();
            restricted["restrictions"] = json!({ restriction: true });
            network.publish(&restricted).await;
            network.refused(&asking, 404, reason).await;
        }
        network.publish(&published()).await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn a_newer_kos_closes_the_one_before() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        let mut newer = published();
        newer["kos"] = json!("2.25.1000002");
        network.publish(&newer).await;
        network.refused(&asking, 404, "other_kos").await;
        network.publish(&published()).await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn no_log_holds_a_token_a_name_or_an_ins() {
    run(async {
        let mut network = network().await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
        let file = network.gateway.process().log_file().to_owned();
        let log = std::fs::read_to_string(file).unwrap();
        let exam = exam(STUDY);
        for secret in [
            asking.token.as_deref().unwrap(),
            INS,
            "899700218896",
            exam.accession_number.as_str(),
            exam.patient_id.as_str(),
            exam.study_instance_uid.as_str(),
        ] {
            assert!(!log.contains(secret), "the log holds {secret}");
        }
    });
}
