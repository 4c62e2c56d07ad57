//! What a request of a peer must carry, and what it then gets.

use std::collections::BTreeMap;
use std::path::Path;

use conformance::samples::{Exam, Series, pixel_digest};
use conformance::testkit::psc::{MANIPULATOR, NURSE, STUDENT};
use conformance::testkit::{Client, Protocol};
use dicom_core::Tag;
use serde_json::{Value as Json, json};

use crate::network::{CONSUMER_CLIENT, INS, KOS, SOURCE, STUDY, network, published};
use crate::support::compare::Part10;
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
        let received = parts(&into, series.count);
        for stored in &series.instances {
            let (pixels, identifiers) = &received[&stored.sop_instance_uid];
            assert_eq!(*pixels, stored.pixel_sha256, "{}", stored.file);
            assert_eq!(*identifiers, [INS], "{}", stored.file);
        }

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
        assert_eq!(ended["outcome"]["instances"], series.count);
    });
}

/// Of each instance in a folder of parts, the digest of its pixels and its Other Patient IDs
/// (0010,1002).
fn parts(folder: &Path, count: usize) -> BTreeMap<String, (Option<String>, Vec<String>)> {
    let read = |number: usize| {
        let file = std::fs::read(folder.join(format!("{number}.part"))).unwrap();
        let part = Part10::read(&file);
        let others = part.data_set.get(Tag(0x0010, 0x1002));
        let items = others.and_then(|others| others.items()).unwrap_or_default();
        let identifiers = items.iter().map(|item| {
            let id = item.element(Tag(0x0010, 0x0020)).unwrap().to_str();
            id.unwrap().trim().to_owned()
        });
        let found = (pixel_digest(&part.data_set), identifiers.collect());
        (part.instance(), found)
    };
    (0..count).map(read).collect()
}

#[test]
fn a_series_that_is_transcoded_for_a_peer_has_the_ins_and_the_pixels_of_anybody() {
    run(async {
        const JPEG_LS: &str =
            "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.80";
        let network = network().await;
        let mut asking = network.request().await;
        asking.accept = JPEG_LS;
        let series = &exam(STUDY).series[0];
        let answer = network.ask(&asking).await;
        assert_eq!(answer.status(), 200);
        let into = folder("transcoded-with-ins");
        let body = answer.multipart_to(&into).await.unwrap();
        assert!(body.is_complete());
        let with_ins = parts(&into, series.count);
        // The centre itself is sent the objects as they are.
        let url = network.gateway.local_url() + &series_path(exam(STUDY), series);
        let local = Client::plain().unwrap();
        let answer = local.get(&url).accept(JPEG_LS).send().await.unwrap();
        let into = folder("transcoded-without-ins");
        assert!(answer.multipart_to(&into).await.unwrap().is_complete());
        let without = parts(&into, series.count);
        assert_eq!(with_ins.len(), series.count);
        for (instance, (pixels, identifiers)) in &with_ins {
            assert_eq!(*identifiers, [INS]);
            assert!(pixels.is_some());
            assert_eq!(without[instance], (pixels.clone(), vec![]));
        }
    });
}

#[test]
fn the_metadata_for_a_peer_have_the_ins_as_the_images_have() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.url += "/metadata";
        asking.accept = "application/dicom+json";
        let metadata = network.ask(&asking).await.json().await.unwrap();
        let metadata = metadata.as_array().unwrap();
        assert_eq!(metadata.len(), exam(STUDY).series[0].count);
        for instance in metadata {
            let items = instance["00101002"]["Value"].as_array().unwrap();
            assert_eq!(items.len(), 1);
            assert_eq!(items[0]["00100020"]["Value"][0], INS);
            let authority = &items[0]["00100024"]["Value"][0]["00400032"]["Value"][0];
            assert_eq!(authority, "1.2.250.1.213.1.4.10");
        }
    });
}

#[test]
fn a_question_for_the_head_alone_is_on_record_as_answered() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        let before = network.trail().len();
        let client = network.client(asking.identity.as_ref());
        let head = client.request(http::Method::HEAD, &asking.url);
        let token = format!("Bearer {}", asking.token.unwrap());
        let head = head
            .accept(AS_STORED)
            .header("authorization", &token)
            .header("kos-sopinstanceuid", KOS);
        assert_eq!(head.send().await.unwrap().status(), 200);
        let ended = async || {
            let trail = network.trail();
            let ended = trail[before..]
                .iter()
                .find(|event| event["kind"] == "request-ended");
            ended.map(|event| event["outcome"].clone())
        };
        until("the end is on record", async || ended().await.is_some()).await;
        let outcome = ended().await.unwrap();
        assert_eq!(outcome["ending"], "success");
        assert_eq!(outcome["bytes"], 0);
        assert_eq!(outcome["instances"], 0);
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

/// A token that is told to be none before Pro Santé Connect is asked.
fn no_token_at_all(token: &str, reason: &str) {
    run(async {
        let network = network().await;
        let introspected = async || {
            let report = network.provider.report().await;
            report.unwrap().count("introspection")
        };
        let before = introspected().await;
        let mut asking = network.request().await;
        asking.token = Some(token.to_owned());
        network.refused(&asking, 401, reason).await;
        assert_eq!(introspected().await, before);
    });
}

#[test]
fn a_malformed_token_is_refused_without_asking_pro_sante_connect() {
    no_token_at_all("a.b.c", "token_malformed");
}

#[test]
fn an_oversized_token_is_refused_without_asking_pro_sante_connect() {
    no_token_at_all(&"x".repeat(9000), "token_too_long");
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

/// A token that Pro Santé Connect issued with these claims.
fn token_with(claims: &Json, reason: &str) {
    run(async {
        let network = network().await;
        let knobs = json!({ "accessToken": claims });
        network.provider.set(knobs).await.unwrap();
        let asking = network.request().await;
        let answer = network.refused(&asking, 401, reason).await;
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    });
}

#[test]
fn an_expired_token_is_refused() {
    let claims = json!({"iat": in_seconds(-130), "exp": in_seconds(-10)});
    token_with(&claims, "token_expired");
}

#[test]
fn a_token_of_a_later_time_is_refused() {
    let claims = json!({"iat": in_seconds(90), "exp": in_seconds(210)});
    token_with(&claims, "token_in_future");
}

#[test]
fn a_token_of_a_foreign_issuer_is_refused() {
    let production = "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet";
    token_with(&json!({ "iss": production }), "token_of_other_issuer");
}

#[test]
fn a_token_that_is_bound_to_another_certificate_is_refused() {
    let other = json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"});
    token_with(&json!({ "cnf": other }), "token_of_other_certificate");
}

#[test]
fn a_token_of_a_weaker_identification_is_refused() {
    token_with(&json!({"acr": "eidas0"}), "token_level");
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
    });
}

#[test]
fn a_request_whose_kos_is_no_uid_is_malformed() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.kos = Some("not a uid".to_owned());
        network.refused(&asking, 400, "unreadable_kos").await;
    });
}

/// A good request with this field once more, the same or with another value.
fn twice(name: &'static str, values: &[&str], status: u16, reason: &str) {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
        let token = asking.token.clone().unwrap();
        for value in values {
            let value = value.replace("{token}", &token);
            asking.more = vec![(name, value)];
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let client = network.client_of(protocol, asking.identity.as_ref());
                network.refused_by(&client, &asking, status, reason).await;
            }
        }
    });
}

#[test]
fn a_request_that_names_a_kos_twice_is_malformed() {
    let values = [KOS, "2.25.999", "not a uid", ""];
    twice("kos-sopinstanceuid", &values, 400, "unreadable_kos");
}

#[test]
fn a_request_with_two_tokens_has_none() {
    let values = ["Bearer {token}", "Bearer a.b.c", "Basic YTpi", ""];
    twice("authorization", &values, 401, "no_token");
}

/// A request for what is not open, which gets the answer for what does not exist.
fn not_there(path: impl FnOnce(&Exam, &Series) -> String, kos: &str, reason: &str) {
    run(async {
        let network = network().await;
        let root = network.gateway.peer_url(SOURCE);
        let published = exam(STUDY);
        let path = path(published, &published.series[0]);
        let mut asking = network.request().await;
        asking.url = format!("{root}{path}");
        asking.kos = Some(kos.to_owned());
        let answer = network.refused(&asking, 404, reason).await;
        let mut body = answer.json().await.unwrap();
        // The one thing that differs from answer to answer.
        body.as_object_mut().unwrap().remove("requestId");
        assert_eq!(body, nothing_known());
    });
}

fn nothing_known() -> Json {
    json!({
        "title": "Not Found",
        "status": 404,
        "detail": "nothing is known under these UIDs",
    })
}

#[test]
fn a_series_that_the_kos_does_not_name_is_not_there() {
    let path = |exam: &Exam, _: &Series| format!("{}/series/1.2.3.4", study_path(exam));
    not_there(path, KOS, "series_not_named");
}

#[test]
fn a_kos_opens_no_study_that_is_not_published() {
    let path =
        |_: &Exam, one: &Series| format!("/studies/1.2.3.4/series/{}", one.series_instance_uid);
    not_there(path, KOS, "not_published");
}

#[test]
fn a_foreign_kos_opens_nothing() {
    not_there(series_path, "2.25.999", "other_kos");
}

#[test]
fn a_whole_study_is_not_there() {
    not_there(|exam, _| study_path(exam), KOS, "whole_study");
}

#[test]
fn an_instance_that_the_kos_does_not_name_is_not_there() {
    let path = |exam: &Exam, one: &Series| format!("{}/instances/1.2.3.4", series_path(exam, one));
    not_there(path, KOS, "instance_not_named");
}

#[test]
fn the_kos_of_another_published_study_opens_nothing() {
    run(async {
        let network = network().await;
        // Of the same PACS, and published too; the images of the first are asked for with its KOS.
        let mut other = published();
        other["study"] = json!("1.2.3.4.5");
        other["kos"] = json!("2.25.1000005");
        network.publish(&other).await;
        let mut asking = network.request().await;
        asking.kos = Some("2.25.1000005".to_owned());
        network.refused(&asking, 404, "other_kos").await;
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
fn everything_but_images_is_closed_to_a_peer_with_everything_in_order() {
    run(async {
        use http::Method;
        let network = network().await;
        let root = network.gateway.peer_url(SOURCE);
        let port = network.gateway.address("peer").port();
        let origin = format!("https://{SOURCE}:{port}");
        let published = exam(STUDY);
        let series = series_path(published, &published.series[0]);
        let good = network.request().await;
        let token = format!("Bearer {}", good.token.as_deref().unwrap());
        let client = network.client(good.identity.as_ref());
        for (method, url, status) in [
            (Method::OPTIONS, format!("{root}/studies"), 403),
            (Method::OPTIONS, format!("{root}{series}"), 403),
            (Method::GET, format!("{root}/series"), 403),
            (
                Method::GET,
                format!("{root}{}/series", study_path(published)),
                403,
            ),
            (Method::POST, format!("{root}/studies"), 405),
            (Method::PUT, format!("{root}{series}"), 405),
            (Method::DELETE, format!("{root}{series}"), 405),
            (Method::GET, format!("{origin}/"), 404),
            (Method::GET, format!("{origin}/metrics"), 404),
            (Method::GET, format!("{origin}/api/exams"), 404),
            (Method::POST, format!("{origin}/api/exams"), 404),
            (Method::GET, format!("{origin}/viewer"), 404),
            (Method::GET, format!("{origin}/connect"), 404),
            (
                Method::GET,
                format!("{origin}/pacs/sim/dicom-web/studies"),
                404,
            ),
        ] {
            let what = format!("{method} {url}");
            let before = network.trail().len();
            let call = client.request(method, &url);
            let call = call.header("authorization", &token);
            let answer = call.header("kos-sopinstanceuid", KOS).send().await;
            assert_eq!(answer.unwrap().status(), status, "{what}");
            let on_record = network.trail().split_off(before);
            let refused = on_record
                .iter()
                .find(|one| one["kind"] == "request-refused");
            let refused = refused.unwrap_or_else(|| panic!("{what} is not on record"));
            assert_eq!(refused["outcome"]["status"], status, "{what}");
        }
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
