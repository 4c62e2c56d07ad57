//! `drimbox proxy` between software, the provider with the shape of Pro Santé Connect, and an API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conformance::testkit::metrics::Metrics;
use conformance::testkit::psc::{PHYSICIAN, RADIOLOGIST, left_out};
use conformance::testkit::{
    Client, ConnectProxy, Identity, Pki, Process, Program, PscClient, PscProvider, Response,
    binary, free_port,
};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use toml::{Table, Value};

use support::until;

const EDITOR: &str = "editeur-un";
const OTHER: &str = "editeur-deux";

struct World {
    psc: PscProvider,
    pki: Pki,
    folder: TempDir,
    port: u16,
    admin: u16,
    config: Table,
    software: Identity,
    process: Option<Process>,
}

async fn world() -> Option<World> {
    if left_out() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(&folder.path().join("pki"), "Test CA").unwrap();
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let psc = PscProvider::start(build, &folder.path().join("psc"), &pki)
        .await
        .unwrap();
    psc.register(&[PscClient::new(EDITOR), PscClient::new(OTHER)])
        .await
        .unwrap();
    let port = free_port().unwrap();
    let admin = free_port().unwrap();
    let server = pki.server(&["proxy.test"]).unwrap();
    let ca = text(pki.ca_file());
    let client = |id: &str| {
        let identity = pki.organisation(id, "312345678900011").unwrap();
        table(&[
            ("client_id", id),
            ("certificate_file", &text(&identity.certificate_file)),
            ("key_file", &text(&identity.key_file)),
        ])
    };
    let api = |name: &str| {
        let realm = format!("{}/realms/{name}/protocol/openid-connect", psc.api());
        table(&[
            ("name", name),
            ("url", &format!("{}/api/{name}", psc.api())),
            ("token_url", &format!("{realm}/token")),
            ("revocation_url", &format!("{realm}/revoke")),
            ("scope", "openid"),
            ("subject_issuer", "psc"),
        ])
    };
    let mut config = Table::new();
    let mut listen = table(&[
        ("address", &format!("127.0.0.1:{port}")),
        ("certificate_file", &text(&server.certificate_file)),
        ("key_file", &text(&server.key_file)),
        ("client_ca_file", &ca),
    ]);
    listen.insert("max_body_bytes".into(), Value::from("64 KiB"));
    config.insert("listen".into(), listen.into());
    let vitals = table(&[("listen", &format!("127.0.0.1:{admin}"))]);
    config.insert("admin".into(), vitals.into());
    let shared = table(&[
        ("environment", "custom"),
        ("issuer", psc.issuer()),
        ("ca_file", &ca),
    ]);
    config.insert("psc".into(), shared.into());
    let mut traces = table(&[("dir", &text(&folder.path().join("traces")))]);
    traces.insert("serve".into(), true.into());
    config.insert("traces".into(), traces.into());
    let session = table(&[
        ("dir", &text(&folder.path().join("sessions"))),
        ("key_file", &text(&folder.path().join("sessions.key"))),
    ]);
    config.insert("session".into(), session.into());
    let clients = vec![client(EDITOR).into(), client(OTHER).into()];
    config.insert("client".into(), Value::Array(clients));
    let apis = vec![api("signsessiondata").into(), api("dmp").into()];
    config.insert("api".into(), Value::Array(apis));
    let software = pki.client("logiciel").unwrap();
    Some(World {
        psc,
        pki,
        folder,
        port,
        admin,
        config,
        software,
        process: None,
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn table(pairs: &[(&str, &str)]) -> Table {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
        .collect()
}

impl World {
    fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) {
        let section = self.config.entry(section).or_insert(Table::new().into());
        let table = section.as_table_mut().unwrap();
        table.insert(key.to_owned(), value.into());
    }

    async fn start(&mut self) {
        let file = self.folder.path().join("proxy.toml");
        std::fs::write(&file, toml::to_string(&self.config).unwrap()).unwrap();
        let mut process = Program::new("proxy", binary().unwrap(), self.folder.path())
            .arg("proxy")
            .arg("--config")
            .arg(text(&file))
            .start()
            .unwrap();
        let address = ("127.0.0.1", self.port);
        process
            .ready(Duration::from_secs(60), async || {
                tokio::net::TcpStream::connect(address).await.is_ok()
            })
            .await
            .unwrap();
        self.process = Some(process);
    }

    async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let ended = process.stop(Duration::from_secs(60)).await.unwrap();
        assert!(ended.success(), "{}", process.tail(20));
    }

    /// Software with its own connections and the certificate of the centre.
    fn software(&self) -> Software {
        self.software_with(&self.software)
    }

    fn software_with(&self, identity: &Identity) -> Software {
        let address = ([127, 0, 0, 1], self.port).into();
        let client = Client::builder()
            .ca(self.pki.ca_file())
            .identity(identity)
            .resolve("proxy.test", address)
            .build()
            .unwrap();
        Software {
            client,
            root: format!("https://proxy.test:{}", self.port),
            cookie: String::new(),
        }
    }

    async fn traces(&self) -> Vec<Json> {
        let answer = self.software().ask(Method::GET, "/traces", "").await;
        assert_eq!(answer.status(), 200);
        let all = answer.json().await.unwrap();
        all.as_array().unwrap().clone()
    }

    /// What the admin listener answers.
    async fn vital(&self, path: &str) -> (u16, String) {
        let client = Client::builder().build().unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        let answer = client.get(&url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What is kept of sessions to end them after a crash.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("sessions")).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        let kept = entries.filter(|path| path.extension().is_some_and(|kind| kind == "session"));
        kept.collect()
    }

    fn trace_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("traces")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[derive(Clone)]
struct Software {
    client: Client,
    root: String,
    cookie: String,
}

impl Software {
    async fn ask(&self, method: Method, path: &str, body: &str) -> Response {
        self.client
            .request(method, &format!("{}{path}", self.root))
            .header("content-type", "application/json")
            .header("cookie", &self.cookie)
            .header("authorization", "Bearer forged")
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    async fn connect_as(&mut self, client: &str, user: &str) -> (u16, Json) {
        let body = json!({
            "nationalId": user, "bindingMessage": "42", "clientId": client, "channel": "MOBILE",
        });
        let answer = self.ask(Method::POST, "/connect", &body.to_string()).await;
        let status = answer.status().as_u16();
        if let Some((pair, rest)) = answer.header("set-cookie").split_once(';') {
            assert!(
                rest.contains("HttpOnly") && rest.contains("Secure"),
                "{rest}"
            );
            self.cookie = pair.to_owned();
        }
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Json::Null);
        (status, body)
    }
}

fn kinds(traces: &[Json]) -> Vec<&str> {
    let kinds = traces.iter();
    kinds.map(|trace| trace["type"].as_str().unwrap()).collect()
}

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
    assert_eq!(kinds(&world.traces().await), ["CONNECT_FAILURE"; 6]);
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
async fn private_keys_of_the_proxy_are_encrypted_at_rest_with_its_own_passphrase() {
    let Some(mut world) = world().await else {
        return;
    };
    let phrase = world.folder.path().join("phrase");
    std::fs::write(&phrase, "une phrase de passe\n").unwrap();
    std::fs::set_permissions(&phrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut keys: Vec<PathBuf> = vec![world.folder.path().join("sessions.key")];
    keys.push(world.config["listen"]["key_file"].as_str().unwrap().into());
    for client in world.config["client"].as_array().unwrap() {
        keys.push(client["key_file"].as_str().unwrap().into());
    }
    world.set("keys", "passphrase_file", text(&phrase));
    // The first start makes the key of the sessions, encrypted; the others are in clear until they are converted.
    world.start().await;
    world.stop().await;
    let in_clear = || {
        let of = |key: &PathBuf| {
            let content = std::fs::read(key).unwrap();
            let sealed = content.starts_with(b"age-encryption.org/v1\n")
                || content.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----");
            !sealed
        };
        keys.iter().filter(|key| of(key)).count()
    };
    assert_eq!(in_clear(), keys.len() - 1);
    let file = world.folder.path().join("proxy.toml");
    let convert = |word: &str| {
        let mut command = Command::new(binary().unwrap());
        command.args(["keys", word, "--proxy", &text(&file)]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = convert("encrypt");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(in_clear(), 0, "{said}");
    let (_, said) = convert("status");
    assert_eq!(said.matches("chiffrée").count(), keys.len(), "{said}");

    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    world.stop().await;

    // Without the passphrase nothing starts, and why is said.
    world.config.remove("keys");
    std::fs::write(&file, toml::to_string(&world.config).unwrap()).unwrap();
    let mut command = Command::new(binary().unwrap());
    command.args(["proxy", "--config", &text(&file)]);
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("keys.passphrase_file"), "{said}");
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
async fn the_way_out_is_the_proxy_of_the_hospital() {
    let Some(mut world) = world().await else {
        return;
    };
    let way_out = ConnectProxy::start().await.unwrap();
    world.set("psc", "http_proxy", way_out.url());
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    let tunnels = way_out.tunnels();
    for origin in [world.psc.issuer(), world.psc.mtls(), world.psc.api()] {
        let host = origin.split('/').nth(2).unwrap();
        assert!(tunnels.iter().any(|tunnel| tunnel == host), "{tunnels:?}");
    }
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
async fn a_renewed_certificate_of_a_client_is_presented_without_a_restart() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    // Written where the one before was.
    world.pki.organisation(EDITOR, "398765432100012").unwrap();
    world.process.as_mut().unwrap().signal(Signal::HUP);
    until("the traces name the new one", async || {
        let (status, _) = software.clone().connect_as(EDITOR, RADIOLOGIST).await;
        assert_eq!(status, 304);
        let traces = world.traces().await;
        let dn = traces.last().unwrap()["dn"].as_str().unwrap();
        dn.contains("398765432100012")
    })
    .await;
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json().await.unwrap()["certificate"], EDITOR);
}

#[tokio::test]
async fn a_supervisor_sees_health_and_counts_and_no_identity() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    software.connect_as(EDITOR, RADIOLOGIST).await;
    software.ask(Method::GET, "/send/dmp/x", "").await;
    software.ask(Method::GET, "/send/inconnue/x", "").await;
    let (status, health) = world.vital("/health/ready").await;
    assert_eq!(
        (status, health.as_str()),
        (200, r#"{"sessions":1,"status":"ready"}"#)
    );
    assert_eq!(world.vital("/health/live").await.0, 200);
    let (_, text) = world.vital("/metrics").await;
    let metrics = Metrics::parse(&text);
    for (name, labels, expected) in [
        ("drimbox_proxy_sessions", &[][..], 1.0),
        ("drimbox_proxy_connects_total", &[("status", "200")], 1.0),
        ("drimbox_proxy_connects_total", &[("status", "304")], 1.0),
        (
            "drimbox_proxy_sends_total",
            &[("api", "dmp"), ("status", "200")],
            1.0,
        ),
        ("drimbox_proxy_sends_total", &[], 1.0),
        ("drimbox_proxy_tokens_total", &[("outcome", "success")], 2.0),
        ("drimbox_proxy_sessions_ended_total", &[], 0.0),
    ] {
        assert_eq!(metrics.sum(name, labels), expected, "{name} {labels:?}");
    }
    let cookie = software.cookie.split_once('=').unwrap().1;
    for secret in [RADIOLOGIST, cookie, "eyJ"] {
        assert!(!text.contains(secret), "{text}");
    }
    software.ask(Method::DELETE, "/disconnect", "").await;
    let (_, text) = world.vital("/metrics").await;
    let metrics = Metrics::parse(&text);
    assert_eq!(metrics.sum("drimbox_proxy_sessions", &[]), 0.0);
    let ended = [("cause", "asked")];
    assert_eq!(
        metrics.sum("drimbox_proxy_sessions_ended_total", &ended),
        1.0
    );
}
