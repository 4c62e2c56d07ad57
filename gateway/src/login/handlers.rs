//! The pages of a login on a `vi` name: reading requests and writing answers, no more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, RawQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use url::form_urlencoded;

use super::failure::Failure;
use super::pages::{self, Shell};
use super::pending::Destination;
use super::return_to::ReturnPath;
use super::secret::SessionId;
use super::session::Session;
use super::{Login, LoginEvent, cookies, guard};
use crate::net::{Connection, RequestId, ResourceName};

/// Longest body of a form, bytes; a logout token is the largest.
const MAX_FORM: usize = 16 * 1024;

/// Time for the whole of a form. Browsers send it at once; who does not holds one of the places for requests that all
/// listeners share.
const FORM_TIME: Duration = Duration::from_secs(10);

/// Fields read of a form.
const MAX_FIELDS: usize = 16;

const STYLE: &str = include_str!("../../templates/login/style.css");

/// Nothing but the page's own stylesheet and forms to the host itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The pages below `/auth/`.
pub fn router(login: Arc<Login>) -> Router {
    Router::new()
        .route("/auth/", get(home))
        .route("/auth", get(|| async { see_other("/auth/", None) }))
        .route("/auth/session.json", get(status))
        .route("/auth/psc/login", get(begin))
        .route("/auth/psc/callback", get(callback))
        .route("/auth/psc/backchannel-logout", post(backchannel_logout))
        .route(
            "/auth/situation",
            get(situation_page).post(choose_situation),
        )
        .route("/auth/logout", get(logout_page).post(log_out))
        .route("/auth/bye", get(bye))
        .route("/auth/style.css", get(style))
        .layer(from_fn(secure))
        .with_state(login)
}

impl Login {
    /// The answer that sends this browser to PSC and then to `destination`; for pages that need to know who asks.
    pub async fn redirect_to_psc(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
        request: &RequestId,
        destination: Destination,
    ) -> Response {
        let mut response = self.to_psc(connection, headers, request, destination).await;
        secure_headers(response.headers_mut());
        response
    }

    async fn to_psc(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
        request: &RequestId,
        destination: Destination,
    ) -> Response {
        let Some(host) = connection.host.as_deref() else {
            return StatusCode::MISDIRECTED_REQUEST.into_response();
        };
        match self
            .begin(headers, host, connection.remote.ip(), destination)
            .await
        {
            Ok(begun) => see_other(begun.location.as_str(), begun.cookie),
            Err(failure) => self.failed(failure, request),
        }
    }

    /// What every page shows.
    pub(crate) fn shell(&self) -> Shell<'_> {
        Shell {
            centre: self.parts.centre.as_deref(),
            contact: self.parts.contact.as_deref(),
        }
    }

    fn failed(&self, failure: Failure, request: &RequestId) -> Response {
        let explained = failure.explained();
        let mut response = pages::failure(self.shell(), &explained, request.as_str());
        if explained.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response
    }
}

/// What every handler needs of a request.
struct Asked {
    login: Arc<Login>,
    host: Arc<str>,
    remote: IpAddr,
    id: RequestId,
    headers: HeaderMap,
}

impl axum::extract::FromRequestParts<Arc<Login>> for Asked {
    type Rejection = StatusCode;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        login: &Arc<Login>,
    ) -> Result<Self, StatusCode> {
        let connection = parts.extensions.get::<Connection>();
        let connection = connection.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let host = connection
            .host
            .clone()
            .ok_or(StatusCode::MISDIRECTED_REQUEST)?;
        let id = parts.extensions.get::<RequestId>();
        Ok(Self {
            login: Arc::clone(login),
            host,
            remote: connection.remote.ip(),
            id: id.cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?,
            headers: parts.headers.clone(),
        })
    }
}

impl Asked {
    fn session(&self) -> Option<(SessionId, Arc<Session>)> {
        self.login.parts.sessions.find(&self.headers, &self.host)
    }

    fn touch(&self, session: &Session) {
        session.touch(self.login.parts.clock.now());
    }
}

async fn home(asked: Asked, RawQuery(query): RawQuery) -> Response {
    let shell = asked.login.shell();
    let Some((id, session)) = asked.session() else {
        return pages::entrance(shell, wanted(query.as_deref()).as_ref());
    };
    asked.touch(&session);
    let Some(situation) = session.situation() else {
        return see_other("/auth/situation", None);
    };
    let return_to = session.state.lock().return_to.clone();
    pages::home(shell, &session, &situation, &return_to, &id.csrf())
}

/// For pages that show how long a session still lives; asking does not keep it alive.
async fn status(asked: Asked) -> Response {
    let sessions = &asked.login.parts.sessions;
    let now = asked.login.parts.clock.now();
    let body = match sessions.peek(&asked.headers, &asked.host) {
        None => serde_json::json!({ "loggedIn": false }),
        Some(view) => serde_json::json!({
            "loggedIn": true,
            "name": pages::name(&view.professional),
            "profession": super::labels::profession(&view.situation),
            "structure": super::labels::place(&view.situation),
            "idleSeconds": view.idle_at.since(now).as_secs(),
            "absoluteSeconds": view.ends_at.since(now).as_secs(),
            "csrf": view.csrf,
        }),
    };
    axum::Json(body).into_response()
}

async fn begin(
    State(login): State<Arc<Login>>,
    Extension(connection): Extension<Connection>,
    Extension(request): Extension<RequestId>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.as_deref().unwrap_or_default();
    let again = fields(query).any(|(name, _)| name == "again");
    let host = connection.host.as_deref().unwrap_or_default();
    let last = again
        .then(|| login.last_destination(&headers, host))
        .flatten();
    let destination = last.unwrap_or_else(|| Destination {
        return_to: wanted(Some(query)).unwrap_or_default(),
        link: None,
    });
    if destination.link.is_none() && login.parts.sessions.find(&headers, host).is_some() {
        return see_other(destination.return_to.as_str(), None);
    }
    login
        .to_psc(&connection, &headers, &request, destination)
        .await
}

async fn callback(asked: Asked, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let login = &asked.login;
    let outcome = login
        .finish(&asked.headers, &asked.host, asked.remote, &query)
        .await;
    match outcome {
        Ok(entered) => {
            let cookie = cookies::set(cookies::SESSION, &entered.id);
            let next = match login.parts.sessions.get(entered.key) {
                Some(session) => next_page(&session),
                None => "/auth/".to_owned(),
            };
            see_other(&next, cookie)
        }
        // The back button, or a reload: the login of this browser is done.
        Err(Failure::Unknown) if let Some((_, session)) = asked.session() => {
            see_other(&next_page(&session), None)
        }
        Err(failure) => login.failed(failure, &asked.id),
    }
}

fn next_page(session: &Session) -> String {
    if session.situation().is_none() {
        return "/auth/situation".to_owned();
    }
    session.state.lock().return_to.as_str().to_owned()
}

async fn backchannel_logout(State(login): State<Arc<Login>>, request: Request) -> Response {
    let form = match form(request.into_body()).await {
        Ok(form) => form,
        Err(status) => return status.into_response(),
    };
    let token = fields(&form).find(|(name, _)| name == "logout_token");
    let Some((_, token)) = token else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match login.receive_logout(&token).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(error) => {
            tracing::warn!(%error, "a logout token is refused");
            let temporary = error.is_temporary();
            let status = if temporary {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::BAD_REQUEST
            };
            status.into_response()
        }
    }
}

async fn situation_page(asked: Asked) -> Response {
    let Some((id, session)) = asked.session() else {
        return see_other("/auth/", None);
    };
    asked.touch(&session);
    pages::situation(asked.login.shell(), &session, &id.csrf())
}

async fn choose_situation(asked: Asked, request: Request) -> Response {
    let Some((id, session)) = asked.session() else {
        return see_other("/auth/", None);
    };
    let form = match form(request.into_body()).await {
        Ok(form) => form,
        Err(status) => return status.into_response(),
    };
    if !is_ours(&asked, &id, &form) {
        return pages::forged(asked.login.shell(), asked.id.as_str());
    }
    asked.touch(&session);
    let before = session.situation();
    let wanted = fields(&form).find(|(name, _)| name == "situation");
    let chosen = wanted.is_some_and(|(_, wanted)| session.choose(&wanted));
    let Some(situation) = session.situation().filter(|_| chosen) else {
        return see_other("/auth/situation", None);
    };
    if before.as_ref() != Some(&situation) {
        asked.login.parts.sessions.save(&session).await;
        let event = LoginEvent::Situation {
            professional: &session.professional,
            situation: &situation,
        };
        asked
            .login
            .record(event, &session.host, Some(asked.remote))
            .await;
    }
    see_other(&next_page(&session), None)
}

async fn logout_page(asked: Asked) -> Response {
    match asked.session() {
        Some((id, session)) => pages::logout(asked.login.shell(), &session, &id.csrf()),
        None => see_other("/auth/bye", None),
    }
}

async fn log_out(asked: Asked, request: Request) -> Response {
    if let Some((id, session)) = asked.session() {
        let form = match form(request.into_body()).await {
            Ok(form) => form,
            Err(status) => return status.into_response(),
        };
        if !is_ours(&asked, &id, &form) {
            return pages::forged(asked.login.shell(), asked.id.as_str());
        }
        let everywhere = fields(&form).any(|(name, _)| name == "everywhere");
        let login = &asked.login;
        login
            .log_out(&session, &asked.headers, asked.remote, everywhere)
            .await;
    }
    let mut response = see_other("/auth/bye", cookies::clear(cookies::SESSION));
    let headers = response.headers_mut();
    if let Some(cookie) = cookies::clear(cookies::BROWSER) {
        headers.append(header::SET_COOKIE, cookie);
    }
    headers.insert(
        HeaderName::from_static("clear-site-data"),
        HeaderValue::from_static("\"cache\", \"storage\""),
    );
    response
}

async fn bye(asked: Asked) -> Response {
    pages::bye(asked.login.shell())
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, STYLE).into_response()
}

/// The path asked for with `return_to`, when it is one.
fn wanted(query: Option<&str>) -> Option<ReturnPath> {
    let mut fields = fields(query?);
    let (_, path) = fields.find(|(name, _)| name == "return_to")?;
    ReturnPath::parse(&path)
}

fn is_ours(asked: &Asked, id: &SessionId, form: &str) -> bool {
    let token = fields(form).find(|(name, _)| name == "csrf");
    let ours = guard::is_same_origin(&asked.headers, &asked.host)
        && token.is_some_and(|(_, token)| id.csrf_fits(&token));
    if !ours {
        metrics::counter!("drimbox_forged_requests_total").increment(1);
        tracing::warn!("a state-changing request did not come from a page of this host");
    }
    ours
}

pub(crate) fn fields(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(text.as_bytes())
        .take(MAX_FIELDS)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// The text of a form, whole and in time; else 413 when it is too long, 408 when it does not come, 400 when it is no
/// text.
pub(crate) async fn form(body: Body) -> Result<zeroize::Zeroizing<String>, StatusCode> {
    let whole = tokio::time::timeout(FORM_TIME, to_bytes(body, MAX_FORM)).await;
    let bytes = whole
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(text.into())
}

/// Sends the browser to a path of this host.
pub(crate) fn see_other(location: &str, cookie: Option<HeaderValue>) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Headers of every answer; ASVS 5.0 V3.4.
pub(crate) async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    secure_headers(response.headers_mut());
    if response.extensions().get::<ResourceName>().is_none() {
        response.extensions_mut().insert(ResourceName("login"));
    }
    response
}

fn secure_headers(headers: &mut HeaderMap) {
    let lines = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex, nofollow"),
        ("strict-transport-security", "max-age=63072000"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
    ];
    for (name, value) in lines {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
}
