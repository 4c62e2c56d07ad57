#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::{Body, to_bytes};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, StatusCode, header};
use parking_lot::Mutex;
use psc_auth::{
    BoxFuture, Environment, PendingLogin, Provider, Settings, Transport, TransportError, UnixTime,
};
use secrecy::SecretString;
use serde_json::json;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use super::pending::Pending;
use super::session::{NewSession, Session};
use super::*;
use crate::access::professional::{Professional, Situation};
use crate::net::{Connection, ListenerKind, RequestId};
use crate::store::{SealedSession, SessionStore, SledStore, StoreError};

const HOST: &str = "vi.example";
const START: u64 = 1_900_000_000;

#[derive(Debug)]
pub(super) struct SetClock(AtomicU64);

impl SetClock {
    pub(super) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// A data folder, which outlives the sessions opened in it.
pub(super) struct Place {
    folder: tempfile::TempDir,
    pub(super) clock: Arc<SetClock>,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(SetClock(AtomicU64::new(START))),
        }
    }

    fn store(&self) -> Arc<dyn SessionStore> {
        let store = SledStore::open(self.folder.path()).unwrap();
        Arc::new(store.sessions().unwrap())
    }

    fn sessions(&self, most: usize) -> Sessions {
        self.sessions_on(self.store(), most)
    }

    fn sessions_on(&self, store: Arc<dyn SessionStore>, most: usize) -> Sessions {
        let vault = Vault::open(&self.folder.path().join("sessions.key")).unwrap();
        let limits = SessionLimits {
            idle: Duration::from_secs(1200),
            absolute: Duration::from_secs(14_400),
            most,
        };
        Sessions::open(
            limits,
            vault,
            store,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
        .unwrap()
    }
}

fn psc_session(sub: &str, ends_at: u64) -> psc_auth::Session {
    let record = json!({
        "user": { "sub": sub, "sid": "sid", "national_id": "899700366240", "acr": "eidas1",
                  "auth_time": START, "given_name": "Dominique", "family_name": "Secretname" },
        "ends_at": ends_at,
        "tokens": { "access": "secret-access", "refresh": "secret-refresh", "id": "secret-id",
                    "obtained_at": START, "expires_at": START + 120 },
    });
    psc_auth::Session::import(record.to_string().as_bytes()).unwrap()
}

fn situation(id: &str) -> Situation {
    Situation {
        id: id.into(),
        profession: "10".into(),
        skill: Some("SM44".into()),
        mode: None,
        role: None,
        sector: None,
        structure_id: None,
        structure: Some(format!("Structure {id} <b>")),
        town: None,
    }
}

pub(super) fn newcomer(sub: &str, situations: &[&str]) -> NewSession {
    let psc = psc_session(sub, START + 20_000);
    NewSession {
        host: HOST.into(),
        professional: Professional {
            national_id: psc.user().national_id.clone().unwrap(),
            rpps: None,
            family_name: Some("Secretname".into()),
            given_name: Some("Dominique".into()),
            sub: sub.into(),
            sid: Some("sid".into()),
        },
        situations: situations.iter().map(|id| situation(id)).collect(),
        psc,
        return_to: ReturnPath::parse("/viewer/").unwrap(),
        link: Some("link".into()),
        data: None,
    }
}

fn cookie(id: &SessionId) -> HeaderMap {
    let line = format!("{}={}", cookies::SESSION, id.expose());
    HeaderMap::from_iter([(header::COOKIE, line.parse().unwrap())])
}

pub(super) async fn begin(sessions: &Sessions, new: NewSession) -> (HeaderMap, Arc<Session>) {
    let (id, session, _) = sessions.begin(new).await.unwrap();
    (cookie(&id), session)
}

#[tokio::test]
async fn each_login_has_an_id_of_its_own_also_of_one_person_in_one_browser() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let (first, before) = begin(&sessions, newcomer("a", &["0"])).await;
    let (second, after) = begin(&sessions, newcomer("a", &["0"])).await;
    assert_ne!(first, second);
    assert!(before.key != after.key);
    // Nobody who knew the id from before the login has the session after it.
    assert!(sessions.end(&before).await);
    assert!(sessions.current(&first, HOST).is_none());
    assert!(sessions.current(&second, HOST).is_some());
}

#[tokio::test]
async fn sessions_come_back_after_a_restart_and_those_that_ended_do_not() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let (kept, session) = begin(&sessions, newcomer("a", &["0-0", "0-1"])).await;
    assert!(session.choose("0-1"));
    sessions
        .set_data(session.key, Some("granted".into()))
        .await
        .unwrap();
    assert_eq!(
        sessions.take_link(session.key).await.as_deref(),
        Some("link")
    );
    assert_eq!(sessions.take_link(session.key).await, None);
    let (gone, session) = begin(&sessions, newcomer("b", &["0"])).await;
    assert!(sessions.end(&session).await);
    // A record that is still being written does not come back either.
    sessions.save(&session).await;
    drop((sessions, session));

    let sessions = place.sessions(10);
    let view = sessions.current(&kept, HOST).unwrap();
    assert_eq!(view.situation.id, "0-1");
    assert_eq!((view.data.as_deref(), view.link), (Some("granted"), None));
    assert!(sessions.current(&gone, HOST).is_none());
    assert_eq!(sessions.count(), 1);
}

#[tokio::test]
async fn nothing_of_a_session_is_readable_on_disk_or_with_another_key() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let (headers, _) = begin(&sessions, newcomer("a", &["0"])).await;
    drop(sessions);
    let store = SledStore::open(place.folder.path()).unwrap();
    let records = store.sessions().unwrap().all(usize::MAX).unwrap();
    assert_eq!(records.len(), 1);
    let cookie = headers[header::COOKIE]
        .as_bytes()
        .rsplit(|b| *b == b'=')
        .next()
        .unwrap();
    for secret in [&b"Secretname"[..], b"secret-", b"899700366240", cookie] {
        for (name, record) in &records {
            assert!(!record.windows(secret.len()).any(|bytes| bytes == secret));
            assert!(!name.windows(secret.len()).any(|bytes| bytes == secret));
        }
    }
    drop(store);
    std::fs::remove_file(place.folder.path().join("sessions.key")).unwrap();
    assert!(place.sessions(10).current(&headers, HOST).is_none());
}

#[tokio::test]
async fn a_session_ends_without_use_and_at_its_longest_life() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let (used, _) = begin(&sessions, newcomer("a", &["0"])).await;
    let (looked_at, _) = begin(&sessions, newcomer("b", &["0"])).await;
    for _ in 0..12 {
        place.clock.pass(1199);
        assert!(sessions.current(&used, HOST).is_some());
        // Questions of the page itself keep nothing alive.
        let _ = sessions.peek(&looked_at, HOST);
    }
    assert!(sessions.peek(&looked_at, HOST).is_none());
    place.clock.pass(14_400 - 12 * 1199 - 1);
    assert!(sessions.current(&used, HOST).is_some());
    place.clock.pass(1);
    assert!(sessions.current(&used, HOST).is_none());
    let causes: Vec<_> = sessions
        .over()
        .into_iter()
        .map(|(_, cause)| cause)
        .collect();
    assert_eq!(causes, ["absolute", "absolute"]);
}

#[tokio::test]
async fn a_session_is_no_longer_than_that_of_psc() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let mut new = newcomer("a", &["0"]);
    new.psc = psc_session("a", START + 100);
    let (headers, _) = begin(&sessions, new).await;
    place.clock.pass(99);
    assert!(sessions.current(&headers, HOST).is_some());
    place.clock.pass(1);
    assert!(sessions.current(&headers, HOST).is_none());
}

#[tokio::test]
async fn nobody_is_told_of_before_the_situation_is_chosen_or_on_another_host() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let (headers, session) = begin(&sessions, newcomer("a", &["0-0", "0-1"])).await;
    assert!(sessions.current(&headers, HOST).is_none());
    assert!(!session.choose("0-2") && session.choose("0-0"));
    assert!(sessions.current(&headers, HOST).is_some());
    assert!(sessions.current(&headers, "vi2.example").is_none());
    assert!(sessions.current(&HeaderMap::new(), HOST).is_none());
}

#[tokio::test]
async fn beyond_the_limit_the_session_unused_for_longest_gives_way() {
    let place = Place::new();
    let sessions = place.sessions(2);
    let (first, _) = begin(&sessions, newcomer("a", &["0"])).await;
    place.clock.pass(1);
    let (second, _) = begin(&sessions, newcomer("b", &["0"])).await;
    place.clock.pass(1);
    assert!(sessions.current(&first, HOST).is_some());
    let (third, _) = begin(&sessions, newcomer("c", &["0"])).await;
    let live = [&first, &second, &third].map(|headers| sessions.current(headers, HOST).is_some());
    assert_eq!(live, [true, false, true]);
    assert_eq!(sessions.count(), 2);
    let long = "x".repeat(MAX_DATA + 1);
    let key = sessions.current(&third, HOST).unwrap().key;
    assert_eq!(
        sessions.set_data(key, Some(long)).await,
        Err(NotKept::TooLong)
    );
}

#[tokio::test]
async fn a_use_is_written_down_after_a_minute_and_at_the_stop() {
    let place = Place::new();
    let sessions = place.sessions(10);
    let (headers, session) = begin(&sessions, newcomer("a", &["0"])).await;
    let written = async || session.record.lock().await.seen_at;
    place.clock.pass(59);
    sessions.current(&headers, HOST).unwrap();
    sessions.save_uses().await;
    assert_eq!(written().await, START);
    place.clock.pass(1);
    sessions.current(&headers, HOST).unwrap();
    sessions.save_uses().await;
    assert_eq!(written().await, START + 60);
    place.clock.pass(1);
    sessions.current(&headers, HOST).unwrap();
    sessions.save_all().await;
    assert_eq!(written().await, START + 61);
}

fn pending(state: &str, at: u64) -> Pending {
    let record = json!({
        "url": "https://wallet.example/auth", "state": state, "nonce": "n", "verifier": "v",
        "redirect_uri": "https://vi.example/auth/psc/callback", "started_at": at,
    });
    let login = PendingLogin::import(record.to_string().as_bytes()).unwrap();
    Pending::new(HOST.into(), Destination::default(), login)
}

fn browser() -> SessionKey {
    SessionId::new().unwrap().key()
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

#[test]
fn a_login_belongs_to_its_browser_and_ends_in_time() {
    let pendings = Pendings::new(100, Duration::from_secs(600));
    let (mine, other) = (browser(), browser());
    pendings.add(mine, address(1), pending("s", START));
    pendings.add(other, address(2), pending("t", START));
    let find = |browser, state: &str, at| {
        let at = UnixTime::from_secs(at);
        pendings.find(browser, &SecretString::from(state), at)
    };
    assert!(find(mine, "s", START + 599).is_some());
    assert!(find(mine, "s", START + 600).is_none());
    assert!(find(mine, "t", START).is_none() && find(other, "s", START).is_none());
    find(mine, "s", START)
        .unwrap()
        .finished(UnixTime::from_secs(START + 5));
    assert!(find(mine, "s", START + 64).is_some() && find(mine, "s", START + 65).is_none());
    pendings.sweep(UnixTime::from_secs(START + 65));
    assert_eq!(pendings.count(), 1);
    pendings.forget(other);
    assert_eq!(pendings.count(), 0);
}

#[test]
fn tabs_of_one_browser_are_bounded() {
    let pendings = Pendings::new(100, Duration::from_secs(600));
    let browser = browser();
    for tab in 0..20 {
        pendings.add(browser, address(1), pending(&format!("s{tab}"), START));
    }
    assert_eq!(pendings.count(), 8);
    let find = |state: &str| pendings.find(browser, &state.into(), UnixTime::from_secs(START));
    assert!(find("s11").is_none() && find("s12").is_some() && find("s19").is_some());
}

#[test]
fn who_floods_crowds_out_himself() {
    let pendings = Pendings::new(256, Duration::from_secs(600));
    let honest = browser();
    pendings.add(honest, address(1), pending("s", START));
    for number in 0..5_000 {
        let flood = pending(&format!("f{number}"), START + 1);
        pendings.add(browser(), address(66), flood);
        assert!(pendings.count() <= 256);
    }
    let now = UnixTime::from_secs(START + 2);
    assert!(pendings.find(honest, &"s".into(), now).is_some());
}

/// PSC that nobody can reach.
#[derive(Debug)]
struct Away;

impl Transport for Away {
    fn send(
        &self,
        _: psc_auth::Request,
    ) -> BoxFuture<'_, Result<psc_auth::Response, TransportError>> {
        Box::pin(async { Err(TransportError::Timeout(Duration::from_secs(10))) })
    }
}

/// Pro Santé Connect that gives a token after the other, and no id_token; it refuses when it is told to.
#[derive(Debug, Default)]
pub(super) struct PscAnswers {
    asked: Mutex<Vec<String>>,
    refusal: Mutex<Option<(StatusCode, &'static str)>>,
}

impl PscAnswers {
    /// How often an address was asked for, by the last word of its path.
    pub(super) fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock();
        asked.iter().filter(|one| *one == path).count()
    }

    /// The token endpoint answers with this error from now on.
    pub(super) fn refuse(&self, status: StatusCode, error: &'static str) {
        *self.refusal.lock() = Some((status, error));
    }

    fn answer(&self, path: &str) -> (StatusCode, serde_json::Value) {
        self.asked.lock().push(path.to_owned());
        let issuer = "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet";
        let said = match path {
            "wallet-openid-configuration" => json!({
                "issuer": issuer, "authorization_endpoint": "https://wallet.example/auth",
                "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/certs"),
                "revocation_endpoint": format!("{issuer}/revoke"),
            }),
            "certs" => {
                let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
                let modulus = base64::Engine::encode(&engine, [0xC5_u8; 256]);
                json!({"keys": [{"kty": "RSA", "kid": "k", "use": "sig", "n": modulus, "e": "AQAB"}]})
            }
            "token" => {
                if let Some((status, error)) = *self.refusal.lock() {
                    return (status, json!({ "error": error }));
                }
                let number = self.asked("token");
                json!({
                    "access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": 120,
                    "refresh_token": format!("refresh-{number}"),
                })
            }
            _ => json!({}),
        };
        (StatusCode::OK, said)
    }
}

impl Transport for PscAnswers {
    fn send(
        &self,
        request: psc_auth::Request,
    ) -> BoxFuture<'_, Result<psc_auth::Response, TransportError>> {
        let path = request.uri().path().rsplit('/').next().unwrap_or_default();
        let (status, said) = self.answer(path);
        Box::pin(async move {
            Ok(psc_auth::Response {
                status,
                headers: HeaderMap::new(),
                body: Zeroizing::new(said.to_string().into_bytes()),
            })
        })
    }
}

pub(super) struct Pages {
    pub(super) place: Place,
    pub(super) login: Arc<Login>,
}

impl Pages {
    fn new() -> Self {
        Self::at(Arc::new(Away))
    }

    /// With this way to PSC.
    pub(super) fn at(transport: Arc<dyn Transport>) -> Self {
        let place = Place::new();
        let back = "https://vi.example/auth/psc/callback";
        let settings = Settings::new(Environment::Sandbox, "client", back).unwrap();
        let clock: Arc<dyn Clock> = Arc::clone(&place.clock) as _;
        let provider = Provider::new(settings, transport, Arc::clone(&clock));
        let login = Login::new(Parts {
            party: RelyingParty::new(Arc::new(provider)),
            professions: ProfessionPolicy::default(),
            sessions: Arc::new(place.sessions(10)),
            return_addresses: HashMap::from([(HOST.into(), back.parse().unwrap())]),
            max_pending: 10,
            login_lifetime: Duration::from_secs(600),
            audit: Arc::new(NoAudit),
            clock,
            centre: Some("Centre <i>".into()),
            contact: None,
        });
        Self {
            place,
            login: Arc::new(login),
        }
    }

    async fn ask(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> http::Response<Body> {
        let mut request: Request<Body> = request.body(body.into()).unwrap();
        request.extensions_mut().insert(Connection {
            id: 1,
            listener: ListenerKind::Viewer,
            remote: (address(1), 1).into(),
            host: Some(HOST.into()),
            peer_certificates: None,
        });
        request
            .extensions_mut()
            .insert(RequestId("reference-1".into()));
        router(Arc::clone(&self.login))
            .oneshot(request)
            .await
            .unwrap()
    }

    async fn get(&self, path: &str, headers: &HeaderMap) -> http::Response<Body> {
        let mut request = Request::get(path);
        request.headers_mut().unwrap().extend(headers.clone());
        self.ask(request, "").await
    }
}

async fn text(response: http::Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn every_answer_carries_the_headers_of_a_page_that_nobody_frames_or_keeps() {
    let pages = Pages::new();
    for path in [
        "/auth/",
        "/auth/bye",
        "/auth/psc/callback",
        "/auth/session.json",
        "/auth/logout",
    ] {
        let response = pages.get(path, &HeaderMap::new()).await;
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!(
            header("content-security-policy"),
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        );
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn while_psc_is_away_the_page_says_so_and_when_to_come_back() {
    let pages = Pages::new();
    let response = pages.get("/auth/psc/login", &HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "30");
    assert!(response.headers().get(header::SET_COOKIE).is_none());
    let page = text(response).await;
    assert!(page.contains("Pro Santé Connect ne répond pas") && page.contains("reference-1"));
}

#[tokio::test]
async fn texts_of_others_are_escaped() {
    let pages = Pages::new();
    let sessions = pages.login.sessions();
    let mut new = newcomer("a", &["0-0", "0-1"]);
    new.professional.given_name = Some("<script>alert(1)</script>".into());
    let (headers, _) = begin(sessions, new).await;
    let page = text(pages.get("/auth/situation", &headers).await).await;
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<i>"));
    assert!(page.contains("&#60;script&#62;"));
}

#[tokio::test]
async fn a_form_without_its_token_or_its_origin_changes_nothing() {
    let pages = Pages::new();
    let sessions = pages.login.sessions();
    let (id, session, _) = sessions
        .begin(newcomer("a", &["0-0", "0-1"]))
        .await
        .unwrap();
    assert!(session.choose("0-0"));
    let headers = cookie(&id);
    let post = async |path: &str, site: &str, body: String| {
        let request = Request::post(path)
            .header(header::COOKIE, headers[header::COOKIE].clone())
            .header("sec-fetch-site", site);
        pages.ask(request, body).await.status()
    };
    let chosen = || {
        let view = sessions.current(&headers, HOST);
        view.map(|view| view.situation.id)
    };
    let good = format!("csrf={}&situation=0-1", id.csrf());
    let other = SessionId::new().unwrap().csrf();
    let other = format!("csrf={other}&situation=0-1");
    for path in ["/auth/situation", "/auth/logout"] {
        for (site, body) in [
            ("cross-site", good.clone()),
            ("same-site", good.clone()),
            ("none", good.clone()),
            ("same-origin", "situation=0-1".to_owned()),
            ("same-origin", other.clone()),
            ("same-origin", "csrf=&situation=0-1".to_owned()),
        ] {
            let status = post(path, site, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {site}");
            assert_eq!(chosen().as_deref(), Some("0-0"), "{path} {site}");
        }
        let long = format!("{good}&x={}", "x".repeat(17 * 1024));
        let status = post(path, "same-origin", long).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert_eq!(chosen().as_deref(), Some("0-0"), "{path}");
    }
    let status = post("/auth/situation", "same-origin", good.clone()).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(chosen().as_deref(), Some("0-1"));
    let status = post("/auth/logout", "same-origin", good).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(chosen(), None);
}

/// Time passes by itself while everybody waits.
#[tokio::test(start_paused = true)]
async fn a_form_that_does_not_come_gives_its_place_back() {
    let pages = Pages::new();
    let (headers, _) = begin(pages.login.sessions(), newcomer("a", &["0-0", "0-1"])).await;
    for path in [
        "/auth/psc/backchannel-logout",
        "/auth/situation",
        "/auth/logout",
    ] {
        let first = stream::once(async { Ok::<_, std::io::Error>("l") });
        let body = Body::from_stream(first.chain(stream::pending()));
        let request = Request::post(path).header(header::COOKIE, headers[header::COOKIE].clone());
        let answer = pages.ask(request, body);
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        let answer = answer.unwrap_or_else(|_| panic!("{path}: it is waited for"));
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT, "{path}");
    }
}

/// A disk that takes nothing while it is full.
struct Full {
    sessions: Arc<dyn SessionStore>,
    full: Arc<AtomicBool>,
}

impl Full {
    fn room(&self) -> Result<(), StoreError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(StoreError("no space left on device".to_owned())),
            false => Ok(()),
        }
    }
}

impl SessionStore for Full {
    fn put(&self, name: &[u8], record: &[u8]) -> Result<(), StoreError> {
        self.room()?;
        self.sessions.put(name, record)
    }

    fn remove(&self, name: &[u8]) -> Result<(), StoreError> {
        self.room()?;
        self.sessions.remove(name)
    }

    fn all(&self, most: usize) -> Result<Vec<SealedSession>, StoreError> {
        self.sessions.all(most)
    }
}

#[tokio::test]
async fn a_logout_while_the_disk_is_full_is_not_undone_by_a_restart() {
    let place = Place::new();
    let full = Arc::new(AtomicBool::new(false));
    let disk = Full {
        sessions: place.store(),
        full: Arc::clone(&full),
    };
    let sessions = place.sessions_on(Arc::new(disk), 10);
    let (gone, session) = begin(&sessions, newcomer("a", &["0"])).await;
    full.store(true, Ordering::Relaxed);
    assert!(sessions.end(&session).await);
    assert!(sessions.current(&gone, HOST).is_none());
    sessions.remove_ended().await;
    full.store(false, Ordering::Relaxed);
    sessions.remove_ended().await;
    drop((sessions, session));
    assert!(place.sessions(10).current(&gone, HOST).is_none());
}

#[tokio::test]
async fn a_page_learns_how_long_the_session_lives_without_keeping_it_alive() {
    let pages = Pages::new();
    let (headers, _) = begin(pages.login.sessions(), newcomer("a", &["0"])).await;
    pages.place.clock.pass(100);
    let said = async || -> serde_json::Value {
        let page = text(pages.get("/auth/session.json", &headers).await).await;
        serde_json::from_str(&page).unwrap()
    };
    assert_eq!(said().await["idleSeconds"], 1100);
    assert_eq!(said().await["absoluteSeconds"], 14_300);
    pages.place.clock.pass(1100);
    assert_eq!(said().await, json!({ "loggedIn": false }));
}

/// A session in use for so long that PSC is to be asked about it.
async fn in_use(pages: &Pages, sub: &str) -> HeaderMap {
    let sessions = pages.login.sessions();
    let (headers, _) = begin(sessions, newcomer(sub, &["0"])).await;
    pages.place.clock.pass(301);
    assert!(sessions.current(&headers, HOST).is_some());
    headers
}

#[tokio::test]
async fn a_session_in_use_that_psc_does_not_renew_ends() {
    let psc = Arc::new(PscAnswers::default());
    let pages = Pages::at(Arc::clone(&psc) as _);
    let headers = in_use(&pages, "a").await;
    psc.refuse(StatusCode::BAD_REQUEST, "invalid_grant");
    pages.login.sweep().await;
    assert!(pages.login.sessions().current(&headers, HOST).is_none());
    assert_eq!(psc.asked("token"), 1);
    // On disk too.
    drop(pages.login);
    assert_eq!(pages.place.sessions(10).count(), 0);
}

#[tokio::test]
async fn while_psc_is_away_sessions_go_on_and_it_is_asked_again() {
    let psc = Arc::new(PscAnswers::default());
    let pages = Pages::at(Arc::clone(&psc) as _);
    let headers = in_use(&pages, "a").await;
    let lives = || pages.login.sessions().current(&headers, HOST).is_some();
    psc.refuse(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
    for times in 1..=2 {
        pages.login.sweep().await;
        assert!(lives());
        assert_eq!(psc.asked("token"), times);
    }
    *psc.refusal.lock() = None;
    pages.login.sweep().await;
    assert!(lives());
    assert_eq!(psc.asked("token"), 3);
    // It said that its session lives: it is left in peace for five minutes, however much the session is used.
    pages.place.clock.pass(299);
    assert!(lives());
    pages.login.sweep().await;
    assert_eq!(psc.asked("token"), 3);
    pages.place.clock.pass(1);
    assert!(lives());
    pages.login.sweep().await;
    assert_eq!(psc.asked("token"), 4);
    // A restart has the refresh token of the last renewal, not one that was used.
    drop(pages.login);
    let kept = pages.place.sessions(10).all();
    let record = kept[0].psc.export().await.unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["tokens"]["refresh"], "refresh-4");
}

#[tokio::test]
async fn psc_is_not_asked_about_a_session_that_nobody_uses() {
    let psc = Arc::new(PscAnswers::default());
    let pages = Pages::at(Arc::clone(&psc) as _);
    let sessions = pages.login.sessions();
    let (headers, _) = begin(sessions, newcomer("a", &["0"])).await;
    psc.refuse(StatusCode::BAD_REQUEST, "invalid_grant");
    pages.place.clock.pass(600);
    // What the page asks by itself is no use.
    assert!(sessions.peek(&headers, HOST).is_some());
    pages.login.sweep().await;
    assert_eq!(psc.asked("token"), 0);
    assert!(sessions.peek(&headers, HOST).is_some());
}

#[tokio::test]
async fn a_session_without_use_is_ended_and_its_tokens_are_given_back() {
    let psc = Arc::new(PscAnswers::default());
    let pages = Pages::at(Arc::clone(&psc) as _);
    let sessions = pages.login.sessions();
    // Two of one person at PSC, and one of somebody else.
    let (_, left) = begin(sessions, newcomer("a", &["0"])).await;
    let (used, _) = begin(sessions, newcomer("a", &["0"])).await;
    begin(sessions, newcomer("b", &["0"])).await;
    pages.place.clock.pass(1199);
    assert!(sessions.current(&used, HOST).is_some());
    pages.place.clock.pass(1);
    let stop = CancellationToken::new();
    let maintained = tokio::spawn(Arc::clone(&pages.login).maintain(stop.clone()));
    let ended = async {
        while sessions.count() > 1 || psc.asked("revoke") == 0 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    assert!(ended.is_ok(), "{} sessions", sessions.count());
    stop.cancel();
    maintained.await.unwrap();
    assert!(sessions.get(left.key).is_none());
    assert!(sessions.current(&used, HOST).is_some());
    // The tokens of who is still here serve on.
    assert_eq!(psc.asked("revoke"), 1);
}
