//! The proxy with its provider, its configuration and the software that calls it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::testkit::psc::left_out;
use conformance::testkit::{
    Client, Identity, Pki, Process, Program, PscClient, PscProvider, Response, binary, free_port,
};
use http::Method;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use toml::{Table, Value};

pub(super) const EDITOR: &str = "editeur-un";

pub(super) const OTHER: &str = "editeur-deux";

pub(super) struct World {
    pub(super) psc: PscProvider,
    pub(super) pki: Pki,
    pub(super) folder: TempDir,
    pub(super) port: u16,
    pub(super) admin: u16,
    pub(super) config: Table,
    pub(super) software: Identity,
    pub(super) process: Option<Process>,
}

pub(super) async fn world() -> Option<World> {
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

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn table(pairs: &[(&str, &str)]) -> Table {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
        .collect()
}

impl World {
    pub(super) fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) {
        let section = self.config.entry(section).or_insert(Table::new().into());
        let table = section.as_table_mut().unwrap();
        table.insert(key.to_owned(), value.into());
    }

    pub(super) async fn start(&mut self) {
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

    pub(super) async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let ended = process.stop(Duration::from_secs(60)).await.unwrap();
        assert!(ended.success(), "{}", process.tail(20));
    }

    /// Software with its own connections and the certificate of the centre.
    pub(super) fn software(&self) -> Software {
        self.software_with(&self.software)
    }

    pub(super) fn software_with(&self, identity: &Identity) -> Software {
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

    pub(super) async fn traces(&self) -> Vec<Json> {
        let answer = self.software().ask(Method::GET, "/traces", "").await;
        assert_eq!(answer.status(), 200);
        let all = answer.json().await.unwrap();
        all.as_array().unwrap().clone()
    }

    /// What the admin listener answers.
    pub(super) async fn vital(&self, path: &str) -> (u16, String) {
        let client = Client::builder().build().unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        let answer = client.get(&url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What is kept of sessions to end them after a crash.
    pub(super) fn kept(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("sessions")).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        let kept = entries.filter(|path| path.extension().is_some_and(|kind| kind == "session"));
        kept.collect()
    }

    pub(super) fn trace_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("traces")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[derive(Clone)]
pub(super) struct Software {
    pub(super) client: Client,
    pub(super) root: String,
    pub(super) cookie: String,
}

impl Software {
    pub(super) async fn ask(&self, method: Method, path: &str, body: &str) -> Response {
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

    pub(super) async fn connect_as(&mut self, client: &str, user: &str) -> (u16, Json) {
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

pub(super) fn kinds(traces: &[Json]) -> Vec<&str> {
    let kinds = traces.iter();
    kinds.map(|trace| trace["type"].as_str().unwrap()).collect()
}
