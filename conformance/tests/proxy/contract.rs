//! What software and APIs are answered, and with which certificates.

use conformance::testkit::metrics::Metrics;
use conformance::testkit::psc::{PHYSICIAN, RADIOLOGIST};
use conformance::testkit::{Pki, free_port};
use http::Method;
use serde_json::{Value as Json, json};
use toml::Value;

use super::support::until;
use super::world::{EDITOR, OTHER, kinds, world};

#[tokio::test]
async fn a_professional_connects_sends_and_disconnects_and_all_of_it_is_traced() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    let session = body["proxy_session_id"].as_str().unwrap().to_owned();
    assert_eq!(software.cookie, format!("proxy_session_id={session}"));
    let state = body["session_state"].as_str().unwrap().to_owned();
    let known = world.psc.sessions_of(RADIOLOGIST).await.unwrap();
    assert_eq!(known, [state.as_str()]);
    let report = world.psc.report().await.unwrap();
    assert_eq!((report.count("ciba"), report.count("exchange")), (1, 2));

    // The same again: 304, and Pro Santé Connect is not asked.
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!((status, body), (304, Json::Null));
    assert_eq!(world.psc.report().await.unwrap().count("ciba"), 1);

    for (method, status) in [
        (Method::GET, 200),
        (Method::POST, 201),
        (Method::PUT, 200),
        (Method::PATCH, 200),
        (Method::DELETE, 200),
    ] {
        let path = "/send/signsessiondata/signsessiondata?a=b%20c";
        let answer = software.ask(method.clone(), path, r#"{"x":1}"#).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.header("x-api"), "signsessiondata");
        let seen = answer.json().await.unwrap();
        assert_eq!(seen["method"], method.as_str());
        assert_eq!(seen["path"], "/signsessiondata?a=b%20c");
        assert_eq!(seen["certificate"], EDITOR);
        assert_eq!(seen["nationalId"], RADIOLOGIST);
        assert_eq!(seen["body"], r#"{"x":1}"#);
        assert_eq!(seen["headers"]["cookie"], Json::Null);
        assert_ne!(seen["headers"]["authorization"], "Bearer forged");
    }

    let answer = software.ask(Method::DELETE, "/disconnect", "").await;
    assert_eq!(answer.status(), 200);
    let report = world.psc.report().await.unwrap();
    assert_eq!((report.count("logout"), report.count("revocation")), (1, 1));
    assert_eq!(report.count("apiRevocation"), 4, "both tokens of both APIs");
    let second = software.ask(Method::DELETE, "/disconnect", "").await;
    assert_eq!(second.status(), 401);
    let after = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(after.status(), 401);

    let traces = world.traces().await;
    let mut expected = vec!["CONNECT_SUCCESS", "CONNECT_REPLAY"];
    expected.extend(["SEND"; 5]);
    expected.push("DISCONNECT");
    assert_eq!(kinds(&traces), expected);
    for trace in &traces {
        assert_eq!(trace["IdRPPS"], RADIOLOGIST);
        assert_eq!(trace["clientId"], EDITOR);
        assert_eq!(trace["ipAddress"], "127.0.0.1");
        assert_eq!(trace["proxy_id_session"], session);
        assert_eq!(trace["session_state"], state);
        assert!(trace["dn"].as_str().unwrap().contains(EDITOR));
        assert!(trace["ports"][0].as_u64().unwrap() > 0);
        assert!(trace["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    let sent =
        json!({"nomApiPsc": "signsessiondata", "methode": "GET", "path": "/signsessiondata"});
    assert_eq!(traces[2]["apiRequest"], sent);

    // No token, no identity and no session id in the log.
    world.stop().await;
    let log = std::fs::read_to_string(world.folder.path().join("proxy.log")).unwrap();
    for secret in [RADIOLOGIST, session.as_str(), "eyJ"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn refusals_have_the_status_and_the_body_of_the_contract_and_leave_no_cookie() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as("inconnu", RADIOLOGIST).await;
    assert_eq!((status, &body["code"]), (404, &json!("404")));
    let metadata = json!({"nationalId": RADIOLOGIST, "clientId": "inconnu"});
    assert_eq!(body["metadata"], metadata);
    let answer = software
        .ask(Method::POST, "/connect", r#"{"channel": "CARD"}"#)
        .await;
    assert_eq!(answer.status(), 400);
    let said = answer.json().await.unwrap();
    let message = said["message"].as_str().unwrap();
    assert_eq!(
        message,
        "champs manquants : nationalId, bindingMessage, clientId"
    );
    for (knobs, expected) in [
        (json!({"ciba": "refuse"}), 401),
        (json!({"faults": {"ciba": {"status": 502}}}), 503),
        // Nobody knows whether the professional confirmed.
        (
            json!({"cibaSeconds": 10, "faults": {"token": {"status": 503}}}),
            503,
        ),
        (json!({"cibaSeconds": 3, "ciba": "ignore"}), 401),
        (
            json!({"faults": {"ciba": {"status": 500, "body": {"error": "unknown_error"}}}}),
            503,
        ),
        (
            json!({"faults": {"exchange": {"status": 429, "body": {"error": "slow_down"}}}}),
            503,
        ),
        (
            json!({"idToken": {"SubjectNameID": PHYSICIAN, "preferred_username": PHYSICIAN}}),
            401,
        ),
        (
            json!({"faults": {"ciba": {"status": 401, "body": {"error": "invalid_client"}}}}),
            401,
        ),
        (json!({"faults": {"exchange": {"status": 504}}}), 503),
        (
            json!({"faults": {"exchange": {"status": 400, "body": {"error": "invalid_scope"}}}}),
            401,
        ),
        (json!({"faults": {"exchange": {"cut": true}}}), 503),
    ] {
        world.psc.reset().await.unwrap();
        world.psc.set(knobs.clone()).await.unwrap();
        let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
        assert_eq!(status, expected, "{knobs}: {body}");
        assert_eq!(software.cookie, "proxy_session_id=", "{knobs}");
    }
    // What was opened at Pro Santé Connect before an exchange failed is closed again.
    assert_eq!(world.psc.report().await.unwrap().count("logout"), 1);
    assert_eq!(kinds(&world.traces().await), ["CONNECT_FAILURE"; 11]);
    let stranger = Pki::new(&world.folder.path().join("other"), "Other CA").unwrap();
    let stranger = stranger.client("logiciel").unwrap();
    let refused = world.software_with(&stranger);
    let asked = refused.client.get(&format!("{}/traces", refused.root));
    assert!(asked.send().await.is_err(), "software of another authority");
}

#[tokio::test]
async fn what_an_api_does_wrong_has_its_own_status() {
    let Some(mut world) = world().await else {
        return;
    };
    let api = world.config["api"].as_array_mut().unwrap();
    let first = api[1].as_table_mut().unwrap();
    first.insert("timeout_seconds".into(), Value::from(0.7));
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    for (fault, expected) in [
        (json!({"status": 403, "body": {"error": "scope"}}), 403),
        (json!({"status": 503}), 503),
        (json!({"cut": true}), 502),
        (
            json!({"status": 302, "headers": {"location": "https://evil.test/"}}),
            502,
        ),
        (json!({"body": "x".repeat(100_000)}), 502),
        (json!({"hang": true}), 504),
    ] {
        world
            .psc
            .set(json!({"faults": {"api": fault}}))
            .await
            .unwrap();
        let answer = software.ask(Method::GET, "/send/dmp/patients", "").await;
        let what = fault.to_string().chars().take(60).collect::<String>();
        assert_eq!(answer.status(), expected, "{what}");
    }
    world.psc.reset().await.unwrap();
    for (path, expected) in [
        ("/send/inconnue/x", 404),
        ("/send/dmp/a/%2e%2e/%2e%2e/realms", 400),
        ("/send/dmp/a%2f..%2fx", 400),
        ("/ailleurs", 404),
    ] {
        let answer = software.ask(Method::GET, path, "").await;
        assert_eq!(answer.status(), expected, "{path}");
    }
    let long = "x".repeat(70 * 1024);
    let answer = software.ask(Method::POST, "/send/dmp/x", &long).await;
    assert_eq!(answer.status(), 413);
    assert_eq!(world.psc.report().await.unwrap().count("api"), 0);
}

#[tokio::test]
async fn tokens_of_an_api_are_renewed_and_exchanged_again() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    // Used up at once: every request renews it first.
    world.psc.set(json!({"apiTokenSeconds": 1})).await.unwrap();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    world
        .psc
        .set(json!({"apiTokenSeconds": 600}))
        .await
        .unwrap();
    let exchanges = async || world.psc.report().await.unwrap().count("exchange");
    let before = exchanges().await;
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(exchanges().await, before + 1, "renewed");
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(exchanges().await, before + 1, "still good");
    // The API ends it before its time, once: another token, and the request again.
    let fault = json!({"faults": {"api": {"status": 401, "times": 1}}});
    world.psc.set(fault).await.unwrap();
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(exchanges().await, before + 2);
    // Neither renewal nor exchange: the session is over.
    let refused = json!({"status": 400, "body": {"error": "invalid_grant"}});
    let fault = json!({"faults": {"api": {"status": 401}, "exchange": refused}});
    world.psc.set(fault).await.unwrap();
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 401);
    world.psc.reset().await.unwrap();
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 401);
    let traces = world.traces().await;
    assert_eq!(traces.last().unwrap()["reason"], "refused");
}

#[tokio::test]
async fn each_client_has_its_own_certificate_and_a_session_serves_one_software() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut first = world.software();
    first.connect_as(EDITOR, RADIOLOGIST).await;
    let mut second = world.software();
    second.connect_as(OTHER, PHYSICIAN).await;
    for (software, client, user) in [(&first, EDITOR, RADIOLOGIST), (&second, OTHER, PHYSICIAN)] {
        let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
        let seen = answer.json().await.unwrap();
        assert_eq!(seen["certificate"], client);
        assert_eq!(seen["nationalId"], user);
    }
    let asked = world.psc.report().await.unwrap().seen;
    let by = asked.iter().filter(|one| one.endpoint == "ciba");
    let by: Vec<_> = by.map(|one| one.certificate.as_deref().unwrap()).collect();
    assert_eq!(by, [EDITOR, OTHER]);
    // A cookie that was taken away serves nobody without the certificate that opened the session.
    let thief = world.pki.client("autre-logiciel").unwrap();
    let mut thief = world.software_with(&thief);
    thief.cookie.clone_from(&first.cookie);
    let answer = thief.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 401);
    let answer = thief.ask(Method::DELETE, "/disconnect", "").await;
    assert_eq!(answer.status(), 401);
    assert_eq!(
        first.ask(Method::GET, "/send/dmp/x", "").await.status(),
        200
    );
    // Another professional at the same software: the session before ends.
    let (status, _) = first.connect_as(EDITOR, PHYSICIAN).await;
    assert_eq!(status, 200);
    let traces = world.traces().await;
    let last = &kinds(&traces)[traces.len() - 2..];
    assert_eq!(last, ["DISCONNECT", "CONNECT_SUCCESS"]);
}

#[tokio::test]
async fn the_session_state_is_the_one_that_comes_beside_the_tokens() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    for (knobs, expected) in [
        (
            json!({"tokenAnswer": {"session_state": "beside"}, "idToken": {"session_state": "in", "sid": "sid"}}),
            "beside",
        ),
        (
            json!({"tokenAnswer": {"session_state": "beside"}, "idToken": {"session_state": null, "sid": null}}),
            "beside",
        ),
        (
            json!({"tokenAnswer": {"session_state": null}, "idToken": {"session_state": null, "sid": "sid"}}),
            "sid",
        ),
    ] {
        world.psc.set(knobs.clone()).await.unwrap();
        let mut software = world.software();
        let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
        assert_eq!(
            (status, &body["session_state"]),
            (200, &json!(expected)),
            "{knobs}"
        );
        let traces = world.traces().await;
        assert_eq!(traces.last().unwrap()["session_state"], expected);
    }
}

#[tokio::test]
async fn an_api_that_keeps_its_refresh_token_is_asked_with_it_again() {
    let Some(mut world) = world().await else {
        return;
    };
    world
        .psc
        .set(json!({"apiRefreshRotates": false}))
        .await
        .unwrap();
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    // Pro Santé Connect has nothing to exchange any more.
    let sid = body["session_state"].as_str().unwrap();
    assert!(world.psc.end_session(sid).await.unwrap());
    for renewal in 1..=3 {
        let fault = json!({"faults": {"api": {"status": 401, "times": 1}}});
        world.psc.set(fault).await.unwrap();
        let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
        assert_eq!(answer.status(), 200, "renewal {renewal}");
    }
}

#[tokio::test]
async fn a_fault_of_pro_sante_connect_ends_no_session() {
    let Some(mut world) = world().await else {
        return;
    };
    // Its tokens are taken for old at once, and the API renews nothing: another try needs Pro Santé Connect.
    world
        .psc
        .set(json!({"tokenAnswer": {"expires_in": 1}, "apiRefreshSeconds": 0}))
        .await
        .unwrap();
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    let fault = json!({"status": 500, "body": {"error": "unknown_error"}});
    until("the token at hand is over", async || {
        let once = json!({"status": 401, "times": 1});
        let faults = json!({"faults": {"token": fault, "api": once}});
        world.psc.set(faults).await.unwrap();
        let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
        assert_ne!(answer.status(), 401, "the session is over");
        answer.status() == 503
    })
    .await;
    world.psc.set(json!({"faults": {}})).await.unwrap();
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn traces_are_served_by_range_and_only_where_the_configuration_says_so() {
    let Some(mut world) = world().await else {
        return;
    };
    world.set("traces", "serve", false);
    world.start().await;
    let (status, body) = world.software().connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    let asked = world.software().ask(Method::GET, "/traces", "").await;
    assert_eq!(asked.status(), 404);
    assert_eq!(asked.json().await.unwrap()["code"], "404");
    world.stop().await;

    world.set("traces", "serve", true);
    world.start().await;
    let all = world.traces().await;
    assert_eq!(kinds(&all), ["CONNECT_SUCCESS", "DISCONNECT"]);
    let first = all[0]["timestamp"].as_str().unwrap();
    let last = all[1]["timestamp"].as_str().unwrap();
    for (query, expected) in [
        (format!("start={first}&end={last}"), 2),
        (format!("start={first}"), 2),
        ("start=0".to_owned(), 2),
        ("start=2100-01-01T00:00:00Z".to_owned(), 0),
        ("start=2000-01-01T00:00:00Z&end=978307200000".to_owned(), 0),
    ] {
        let path = format!("/traces?{query}");
        let answer = world.software().ask(Method::GET, &path, "").await;
        assert_eq!(answer.status(), 200, "{query}");
        let found = answer.json().await.unwrap();
        assert_eq!(found.as_array().unwrap().len(), expected, "{query}");
    }
    for query in ["start=hier", "end=2026-13-01T00:00:00Z"] {
        let path = format!("/traces?{query}");
        let answer = world.software().ask(Method::GET, &path, "").await;
        assert_eq!(answer.status(), 400, "{query}");
        let said = answer.json().await.unwrap();
        assert!(said["message"].as_str().unwrap().contains("RFC 3339"));
    }
}

#[tokio::test]
async fn the_means_of_confirming_and_the_audience_of_an_api_are_passed_on() {
    let Some(mut world) = world().await else {
        return;
    };
    let apis = world.config["api"].as_array_mut().unwrap();
    let dmp = apis[1].as_table_mut().unwrap();
    dmp.insert("audience".into(), Value::from("urn:api:dmp"));
    world.start().await;
    for (channel, user) in [("CARD", RADIOLOGIST), ("MOBILE", PHYSICIAN)] {
        let body = json!({
            "nationalId": user, "bindingMessage": "42", "clientId": EDITOR, "channel": channel,
        })
        .to_string();
        let asked = world.software();
        let answer = asked.ask(Method::POST, "/connect", &body);
        assert_eq!(answer.await.status(), 200, "{channel}");
        let report = world.psc.report().await.unwrap();
        assert_eq!(report.count(&format!("ciba:{channel}")), 1);
    }
    let report = world.psc.report().await.unwrap();
    let exchanges = (
        report.count("exchange"),
        report.count("exchange:urn:api:dmp"),
    );
    assert_eq!(exchanges, (4, 2), "one API of two has one");
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_is_unavailable_and_the_others_are_not() {
    let Some(mut world) = world().await else {
        return;
    };
    let nobody = free_port().unwrap();
    let apis = world.config["api"].as_array_mut().unwrap();
    let dmp = apis[1].as_table_mut().unwrap();
    let url = format!("https://127.0.0.1:{nobody}/api/dmp");
    dmp.insert("url".into(), Value::from(url));
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 503);
    let said = answer.json().await.unwrap();
    assert_eq!(said["message"], "l'API dmp n'est pas joignable");
    let other = software.ask(Method::GET, "/send/signsessiondata/x", "");
    assert_eq!(other.await.status(), 200);
}

#[tokio::test]
async fn the_proxy_says_how_far_its_clock_is_from_that_of_pro_sante_connect() {
    let Some(mut world) = world().await else {
        return;
    };
    world
        .psc
        .set(json!({"clockOffsetSeconds": -20}))
        .await
        .unwrap();
    world.start().await;
    // Before anybody logs in.
    until("the metric says it", async || {
        let (_, text) = world.vital("/metrics").await;
        let skew = Metrics::parse(&text).sum("drimbox_psc_clock_skew_seconds", &[]);
        (skew + 20.0).abs() < 2.0
    })
    .await;
    let (status, body) = world.software().connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
}
