//! The end of sessions: by the software, by time, by a stop, by a kill.

use std::path::PathBuf;
use std::time::Duration;

use conformance::testkit::metrics::Metrics;
use conformance::testkit::psc::{PHYSICIAN, RADIOLOGIST};
use conformance::testkit::{Client, Identity};
use http::Method;
use serde_json::{Value as Json, json};

use super::support::until;
use super::world::{EDITOR, OTHER, kinds, text, world};

#[tokio::test]
async fn a_stop_ends_the_sessions_and_leaves_nothing_of_them() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, PHYSICIAN).await;
    assert_eq!(world.kept().len(), 1);
    world.stop().await;
    assert_eq!(world.psc.report().await.unwrap().count("logout"), 1);
    assert!(world.kept().is_empty());
    world.start().await;
    let traces = world.traces().await;
    assert_eq!(kinds(&traces), ["CONNECT_SUCCESS", "DISCONNECT"]);
    assert_eq!(traces[1]["reason"], "stopped");
    assert_eq!(world.trace_files().len(), 1);
}

#[tokio::test]
async fn sessions_of_a_killed_proxy_are_ended_and_traced_by_the_next() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    let (_, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    let session = body["proxy_session_id"].as_str().unwrap().to_owned();
    // What is on disk says nothing to who has not the key.
    let [kept] = &world.kept()[..] else {
        panic!("one session, one file: {:?}", world.kept())
    };
    let content = std::fs::read(kept).unwrap();
    for secret in [RADIOLOGIST, EDITOR, session.as_str(), "eyJ"] {
        let found = content
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} in clear");
    }
    assert!(!text(kept).contains(&session));

    world.process.as_mut().unwrap().kill();
    assert_eq!(world.psc.report().await.unwrap().count("logout"), 0);
    world.start().await;
    until("Pro Santé Connect and the APIs are told", async || {
        let report = world.psc.report().await.unwrap();
        let told = (report.count("logout"), report.count("revocation"));
        (told, report.count("apiRevocation")) == ((1, 1), 4)
    })
    .await;
    until("nothing of it is left", async || world.kept().is_empty()).await;
    let after = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(after.status(), 401, "the cookie serves no more");
    let traces = world.traces().await;
    assert_eq!(kinds(&traces), ["CONNECT_SUCCESS", "DISCONNECT"]);
    assert_eq!(traces[1]["reason"], "interrupted");
    assert_eq!(traces[1]["proxy_id_session"], session);
    assert_eq!(traces[1]["session_state"], traces[0]["session_state"]);
    assert_eq!(traces[1]["IdRPPS"], RADIOLOGIST);

    // Ended once: another start has nothing to do.
    world.process.as_mut().unwrap().kill();
    world.start().await;
    world.stop().await;
    assert_eq!(world.psc.report().await.unwrap().count("logout"), 1);
}

#[tokio::test]
async fn who_could_not_be_told_of_the_end_of_a_session_is_told_by_a_later_process() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    let away = json!({"faults": {"logout": {"status": 503}, "apiRevocation": {"status": 503}}});
    world.psc.set(away).await.unwrap();
    let answer = software.ask(Method::DELETE, "/disconnect", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(world.kept().len(), 1, "somebody is still to be told");
    for _ in 0..2 {
        world.process.as_mut().unwrap().kill();
        let before = world.psc.report().await.unwrap().count("logout");
        world.start().await;
        until("it is tried again", async || {
            world.psc.report().await.unwrap().count("logout") > before
        })
        .await;
        assert_eq!(world.kept().len(), 1);
    }
    world.process.as_mut().unwrap().kill();
    world.psc.reset().await.unwrap();
    world.start().await;
    until("nothing of it is left", async || world.kept().is_empty()).await;
    let report = world.psc.report().await.unwrap();
    assert_eq!(
        (report.count("logout"), report.count("apiRevocation")),
        (1, 4)
    );
    // Its end is one event, however many processes it took.
    let traces = world.traces().await;
    assert_eq!(kinds(&traces), ["CONNECT_SUCCESS", "DISCONNECT"]);
    assert_eq!(traces[1]["reason"], Json::Null);
}

#[tokio::test]
async fn renewed_tokens_are_what_the_next_process_revokes() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    world.psc.set(json!({"apiTokenSeconds": 1})).await.unwrap();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    let [kept] = &world.kept()[..] else {
        panic!("one session, one file")
    };
    let before = std::fs::read(kept).unwrap();
    world
        .psc
        .set(json!({"apiTokenSeconds": 600}))
        .await
        .unwrap();
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    until("the new token is kept", async || {
        std::fs::read(kept).unwrap() != before
    })
    .await;
    let bearer = answer.json().await.unwrap()["headers"]["authorization"].clone();
    let bearer = bearer.as_str().unwrap().to_owned();
    let editor = &world.config["client"][0];
    let path = |key: &str| PathBuf::from(editor[key].as_str().unwrap());
    let identity = Identity {
        certificate_file: path("certificate_file"),
        key_file: path("key_file"),
    };
    let url = format!("{}/api/dmp/x", world.psc.api());
    let ca = world.pki.ca_file().to_owned();
    let status = async || {
        let client = Client::builder().ca(&ca).identity(&identity);
        let asked = client.build().unwrap();
        let asked = asked.get(&url).header("authorization", &bearer);
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status().await, 200);
    world.process.as_mut().unwrap().kill();
    world.start().await;
    until("the new token is revoked", async || status().await == 401).await;
}

#[tokio::test]
async fn a_session_ends_when_its_time_has_come() {
    let Some(mut world) = world().await else {
        return;
    };
    world.set("session", "lifetime_seconds", 2);
    world.start().await;
    let mut software = world.software();
    let (status, _) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200);
    let over =
        async { while software.ask(Method::GET, "/send/dmp/x", "").await.status() != 401 {} };
    tokio::time::timeout(Duration::from_secs(60), over)
        .await
        .expect("the session goes on");
    let traces = world.traces().await;
    let last = traces.last().unwrap();
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&json!("DISCONNECT"), &json!("expired"))
    );
    let report = world.psc.report().await.unwrap();
    assert_eq!(
        (report.count("logout"), report.count("apiRevocation")),
        (1, 4)
    );
}

#[tokio::test]
async fn a_login_that_the_software_gives_up_is_traced_and_makes_room() {
    let Some(mut world) = world().await else {
        return;
    };
    world.set("session", "max_pending", 1);
    world.start().await;
    world
        .psc
        .set(json!({"ciba": "ignore", "cibaInterval": 1}))
        .await
        .unwrap();
    let mut gone = world.software();
    let waiting = tokio::spawn(async move { gone.connect_as(EDITOR, PHYSICIAN).await });
    until("the professional is asked", async || {
        world.psc.report().await.unwrap().count("ciba") == 1
    })
    .await;
    let mut second = world.software();
    let (status, body) = second.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 503, "the one place is taken: {body}");
    waiting.abort();
    world.psc.reset().await.unwrap();
    until("there is room again", async || {
        let mut next = world.software();
        next.connect_as(EDITOR, RADIOLOGIST).await.0 == 200
    })
    .await;
    until("it is on record", async || {
        let traces = world.traces().await;
        traces.iter().any(|trace| trace["reason"] == "abandoned")
    })
    .await;
    let traces = world.traces().await;
    let given_up: Vec<_> = traces
        .iter()
        .filter(|trace| trace["reason"] == "abandoned")
        .collect();
    assert_eq!(given_up.len(), 1, "{traces:?}");
    assert_eq!(given_up[0]["type"], "CONNECT_FAILURE");
    assert_eq!(given_up[0]["IdRPPS"], PHYSICIAN);
}

#[tokio::test]
async fn a_session_that_its_software_did_not_wait_for_ends() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let hang = json!({"faults": {"exchange": {"hang": true, "times": 2}}});
    world.psc.set(hang).await.unwrap();
    let mut gone = world.software();
    let waiting = tokio::spawn(async move { gone.connect_as(EDITOR, PHYSICIAN).await });
    world.psc.holds(2).await.unwrap();
    waiting.abort();
    until("the proxy has noticed", async || {
        let (_, text) = world.vital("/metrics").await;
        let metrics = Metrics::parse(&text);
        let open = metrics.sum(
            "drimbox_http_requests_in_progress",
            &[("listener", "local")],
        );
        open == 0.0
    })
    .await;
    world.psc.release().await.unwrap();
    until("its end is on record", async || {
        let traces = world.traces().await;
        traces.iter().any(|trace| trace["type"] == "DISCONNECT")
    })
    .await;
    let traces = world.traces().await;
    assert_eq!(kinds(&traces), ["CONNECT_SUCCESS", "DISCONNECT"]);
    assert_eq!(traces[1]["reason"], "abandoned");
    until("Pro Santé Connect and the APIs are told", async || {
        let report = world.psc.report().await.unwrap();
        (report.count("logout"), report.count("apiRevocation")) == (1, 4)
    })
    .await;
}

#[tokio::test]
async fn a_session_in_use_is_kept_alive_at_pro_sante_connect_and_one_that_is_not_is_left_alone() {
    let Some(mut world) = world().await else {
        return;
    };
    world.set("session", "keep_alive_seconds", 1);
    // Due at once; the APIs' own tokens are good for hours.
    world
        .psc
        .set(json!({"tokenAnswer": {"expires_in": 1}}))
        .await
        .unwrap();
    world.start().await;
    let mut idle = world.software();
    idle.connect_as(OTHER, PHYSICIAN).await;
    let mut busy = world.software();
    busy.connect_as(EDITOR, RADIOLOGIST).await;
    let asked = async || {
        let seen = world.psc.report().await.unwrap().seen;
        let by = |client: &str| {
            let asked = seen.iter().filter(|one| {
                one.endpoint == "token" && one.certificate.as_deref() == Some(client)
            });
            asked.count()
        };
        [by(EDITOR), by(OTHER)]
    };
    let before = asked().await;
    until("its tokens are renewed twice", async || {
        let answer = busy.ask(Method::GET, "/send/dmp/x", "").await;
        assert_eq!(answer.status(), 200);
        asked().await[0] >= before[0] + 2
    })
    .await;
    assert_eq!(asked().await[1], before[1], "nobody uses it");
    // Nobody was asked to confirm, and nothing was exchanged again.
    let report = world.psc.report().await.unwrap();
    assert_eq!((report.count("ciba"), report.count("exchange")), (2, 4));
}

#[tokio::test]
async fn tokens_are_revoked_after_a_fault_of_pro_sante_connect_that_names_an_error() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    let fault = json!({"status": 502, "body": {"error": "bad_gateway"}});
    let away = json!({"faults": {"logout": fault, "revocation": fault}});
    world.psc.set(away).await.unwrap();
    let answer = software.ask(Method::DELETE, "/disconnect", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        world.kept().len(),
        1,
        "Pro Santé Connect is still to be told"
    );
    world.process.as_mut().unwrap().kill();
    world.psc.reset().await.unwrap();
    world.start().await;
    until("nothing of it is left", async || world.kept().is_empty()).await;
    let report = world.psc.report().await.unwrap();
    assert_eq!((report.count("logout"), report.count("revocation")), (1, 1));
}

#[tokio::test]
async fn a_login_for_which_there_is_no_room_is_undone() {
    let Some(mut world) = world().await else {
        return;
    };
    world.set("session", "max_sessions", 1);
    world.start().await;
    let mut first = world.software();
    assert_eq!(first.connect_as(EDITOR, RADIOLOGIST).await.0, 200);
    let mut second = world.software();
    let (status, body) = second.connect_as(OTHER, PHYSICIAN).await;
    assert_eq!((status, &body["code"]), (503, &json!("503")), "{body}");
    assert_eq!(second.cookie, "proxy_session_id=");
    // Neither Pro Santé Connect nor the APIs keep what nobody uses.
    let report = world.psc.report().await.unwrap();
    let told = (report.count("logout"), report.count("revocation"));
    assert_eq!((told, report.count("apiRevocation")), ((1, 1), 4));
    assert_eq!(world.kept().len(), 1);
    let answer = first.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        kinds(&world.traces().await),
        ["CONNECT_SUCCESS", "CONNECT_FAILURE", "SEND"]
    );
    let answer = first.ask(Method::DELETE, "/disconnect", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(second.connect_as(OTHER, PHYSICIAN).await.0, 200);
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_traced() {
    let Some(mut world) = world().await else {
        return;
    };
    world.set("traces", "max_file_bytes", "4 KiB");
    world.start().await;
    let mut software = world.software();
    assert_eq!(software.connect_as(EDITOR, RADIOLOGIST).await.0, 200);
    // The next file cannot be made, for whoever the proxy runs as.
    let next = world.folder.path().join("traces/traces-00000002.jsonl");
    std::fs::create_dir(&next).unwrap();
    let mut sent = 0;
    let refused = loop {
        let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
        if answer.status() != 200 {
            break answer;
        }
        sent += 1;
        assert!(sent < 100, "the file does not fill");
    };
    assert_eq!(refused.status(), 503);
    let said = refused.json().await.unwrap();
    let said = said["message"].as_str().unwrap().to_owned();
    assert!(
        said.contains("traces ne peuvent pas être écrites"),
        "{said}"
    );
    assert_eq!(world.psc.report().await.unwrap().count("api"), sent);

    let mut second = world.software();
    assert_eq!(second.connect_as(OTHER, PHYSICIAN).await.0, 503);
    assert_eq!(second.cookie, "proxy_session_id=");
    let report = world.psc.report().await.unwrap();
    assert_eq!(
        (report.count("logout"), report.count("apiRevocation")),
        (1, 4)
    );
    assert_eq!(world.kept().len(), 1, "the session of before goes on");

    std::fs::remove_dir(&next).unwrap();
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    let traces = world.traces().await;
    let mut expected = vec!["CONNECT_SUCCESS"];
    expected.extend(vec!["SEND"; usize::try_from(sent).unwrap() + 1]);
    assert_eq!(kinds(&traces), expected);
}
