//! A small OpenID provider: the wallet's login is a function call, everything else is HTTPS with client certificates.

mod pki;
mod server;
mod tokens;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use psc_auth::{
    Callback, Clock, Environment, HttpsTransport, LoginChoice, PendingLogin, Provider, PscError,
    RelyingParty, Session, Settings, TransportSettings, UnixTime,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

pub use pki::{Certificate, Pki};
pub use server::{Answer, Asked, signed, user_info};
pub use tokens::{Signer, sign};

pub const CLIENT: &str = "drimbox-test";
pub const OTHER_CLIENT: &str = "drimbox-source";
pub const REDIRECT: &str = "https://box.example/auth/retour";
pub const USER: &str = "899700000017";
pub const SUB: &str = "f:550dc1c8-d97b-4b1e-ac8c-8eb4471cf9dd:899700000017";

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Changes the text of a token's claims, or of an answer, before it is signed or sent.
pub type Change = Box<dyn Fn(String) -> String + Send + Sync>;
/// Answers a path in place of the provider.
pub type Instead = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// What the provider does otherwise than usual.
#[derive(Default)]
pub struct Knobs {
    pub id_token: Option<Change>,
    pub id_signer: Signer,
    pub access_token: Option<Change>,
    pub access_signer: Signer,
    pub discovery: Option<Change>,
    pub instead: HashMap<&'static str, Instead>,
    pub no_iss: bool,
    pub kid: Option<String>,
    pub inactive: bool,
    pub introspection: Option<Change>,
    pub ciba_answers: Vec<&'static str>,
    /// How far its clock is ahead of that of the machine, in seconds.
    pub ahead: i64,
    /// Told when the token endpoint has received a request, before it answers.
    pub arrived: Option<Arc<tokio::sync::Notify>>,
}

/// What the provider remembers.
#[derive(Default)]
pub struct Memory {
    codes: HashMap<String, Code>,
    refresh: HashSet<String>,
    counts: BTreeMap<String, usize>,
    next: u64,
    pub last_form: HashMap<String, String>,
    pub last_query: HashMap<String, String>,
}

struct Code {
    challenge: String,
    nonce: String,
}

pub struct State {
    pub issuer: String,
    pub clock: Arc<TestClock>,
    pub knobs: Mutex<Knobs>,
    pub memory: Mutex<Memory>,
    /// Certificates in DER, and the client each belongs to.
    registered: Mutex<HashMap<Vec<u8>, String>>,
}

/// The provider, running until it is dropped.
pub struct FakePsc {
    pub state: Arc<State>,
    pub pki: Pki,
    pub certificate: Certificate,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for FakePsc {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakePsc {
    pub async fn start() -> Self {
        let pki = Pki::new();
        let certificate = pki.client(CLIENT);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            issuer: format!("https://localhost:{port}/auth/realms/esante-wallet"),
            clock: Arc::new(TestClock(AtomicU64::new(1_800_000_000))),
            knobs: Mutex::default(),
            memory: Mutex::default(),
            registered: Mutex::default(),
        });
        let psc = Self {
            server: tokio::spawn(server::serve(listener, pki.server(), Arc::clone(&state))),
            state,
            pki,
            certificate,
        };
        psc.register(&psc.certificate, CLIENT);
        psc
    }

    pub fn register(&self, certificate: &Certificate, client: &str) {
        let mut registered = self.state.registered.lock().unwrap();
        registered.insert(certificate.der.to_vec(), client.to_owned());
    }

    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.state.knobs.lock().unwrap());
    }

    pub fn answer_instead(
        &self,
        path: &'static str,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) {
        self.set(|knobs| {
            knobs.instead.insert(path, Arc::new(answer));
        });
    }

    /// How often the last segment of a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        let memory = self.state.memory.lock().unwrap();
        memory.counts.get(path).copied().unwrap_or_default()
    }

    pub fn advance(&self, seconds: u64) {
        self.state.clock.advance(seconds);
    }

    pub fn now(&self) -> u64 {
        self.state.clock.now().as_secs()
    }

    pub fn settings(&self, client: &str) -> Settings {
        let issuer = Environment::Issuer(self.state.issuer.clone());
        Settings::new(issuer, client, REDIRECT).unwrap()
    }

    pub fn transport(
        &self,
        settings: TransportSettings,
        certificate: Option<&Certificate>,
    ) -> Arc<HttpsTransport> {
        let identity = certificate.map(Certificate::identity);
        Arc::new(HttpsTransport::new(settings, self.pki.roots(), identity).unwrap())
    }

    pub fn provider_for(&self, client: &str, certificate: Option<&Certificate>) -> Arc<Provider> {
        let transport = self.transport(short_timeout(), certificate);
        Arc::new(Provider::new(
            self.settings(client),
            transport,
            self.state.clock.clone(),
        ))
    }

    pub fn provider(&self) -> Arc<Provider> {
        self.provider_for(CLIENT, Some(&self.certificate))
    }

    pub fn party(&self) -> RelyingParty {
        RelyingParty::new(self.provider())
    }

    /// What the wallet does once the user has proved who they are: the query of the return.
    pub fn user_logs_in(&self, url: &Url) -> String {
        let asked: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(url.path(), "/wallet/auth");
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["redirect_uri"], REDIRECT);
        assert_eq!(asked["scope"], "openid scope_all");
        assert_eq!(asked["acr_values"], "eidas1");
        assert_eq!(asked["code_challenge_method"], "S256");
        let code = {
            let mut memory = self.state.memory.lock().unwrap();
            memory.next += 1;
            let code = format!("code-{}", memory.next);
            let granted = Code {
                challenge: asked["code_challenge"].clone(),
                nonce: asked["nonce"].clone(),
            };
            memory.codes.insert(code.clone(), granted);
            code
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", &asked["state"]);
        query.append_pair("session_state", "a-session");
        query.append_pair("code", &code);
        if !self.state.knobs.lock().unwrap().no_iss {
            query.append_pair("iss", &self.state.issuer);
        }
        query.finish()
    }

    pub async fn start_login(&self, party: &RelyingParty) -> (PendingLogin, Callback) {
        let pending = party.begin_login(LoginChoice::default()).await.unwrap();
        let back = Callback::parse(&self.user_logs_in(pending.url())).unwrap();
        (pending, back)
    }

    pub async fn log_in(&self, party: &RelyingParty) -> Result<Session, PscError> {
        let (pending, back) = self.start_login(party).await;
        party.complete_login(pending, back).await
    }

    /// An access token as PSC gives one to the client `azp`, after `change`.
    pub fn access_token(&self, azp: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.state.access_claims(azp);
        change(&mut claims);
        sign(&claims.to_string(), Signer::Good, "key-1")
    }

    pub fn logout_token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": self.state.issuer, "aud": CLIENT, "iat": self.now(), "jti": format!("logout-{}", self.state.next()),
            "typ": "Logout", "sub": SUB, "sid": "a-session",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        change(&mut claims);
        sign(&claims.to_string(), Signer::Good, "key-1")
    }
}

impl State {
    fn next(&self) -> u64 {
        let mut memory = self.memory.lock().unwrap();
        memory.next += 1;
        memory.next
    }

    fn access_claims(&self, azp: &str) -> Value {
        let now = self.clock.now().as_secs();
        json!({
            "exp": now + 120, "iat": now, "auth_time": now, "jti": format!("at-{}", self.next()), "iss": self.issuer,
            "sub": SUB, "typ": "Bearer", "azp": azp, "session_state": "a-session", "acr": "eidas3",
            "scope": "openid scope_all", "sid": "a-session", "authMode": "CARD", "preferred_username": USER,
        })
    }
}

/// Long enough for a loaded machine.
pub fn short_timeout() -> TransportSettings {
    TransportSettings {
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(60),
        ..TransportSettings::default()
    }
}

/// Replaces the value of a member, or adds it.
pub fn with(name: &'static str, value: Value) -> Option<Change> {
    Some(Box::new(move |text| {
        let mut claims: Value = serde_json::from_str(&text).unwrap();
        claims[name] = value.clone();
        claims.to_string()
    }))
}

pub fn without(name: &'static str) -> Option<Change> {
    Some(Box::new(move |text| {
        let mut claims: Value = serde_json::from_str(&text).unwrap();
        claims.as_object_mut().unwrap().remove(name);
        claims.to_string()
    }))
}

/// Puts text right after the opening brace: for members that stand twice.
pub fn before(members: &'static str) -> Option<Change> {
    Some(Box::new(move |text| format!("{{{members},{}", &text[1..])))
}

fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}
