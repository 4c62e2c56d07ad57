//! From the link to the page: reading requests and writing answers, no more.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, RawQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any_service, get, post};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::api::{self, SessionFacts};
use super::{ViewedPacs, Viewer, assets, pages};
use crate::access::{Granted, Refusal, ReportLink};
use crate::audit::{Actor, Kind, Object, Outcome, Person, Text};
use crate::login::{Destination, ReturnPath, SessionId, SessionView, cookies, secure, see_other};
use crate::net::{Connection, RequestId, ResourceName};

/// Stands for a link that was followed.
const LINK: &str = "__Host-drimbox-link";
/// Where a login for a link comes back to.
const OPEN: &str = "/viewer/ouvrir";

/// The link of reports, the exam page and what it asks.
pub fn router(viewer: Arc<Viewer>) -> Router {
    let pages = Router::new()
        .route("/IHEInvokeImageDisplay", get(follow))
        .route("/viewer/entree", get(entrance))
        .route("/viewer/pro", get(professional))
        .route(OPEN, get(open))
        .route("/viewer/api/exam", get(exam))
        .route("/viewer/csp-report", post(reported))
        // Browsers ask by themselves; a page that is not found would be one more thing to look at.
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .fallback(nothing)
        .layer(from_fn(named))
        .layer(from_fn(secure))
        .with_state(viewer);
    pages.merge(assets::router())
}

/// DICOMweb for the exam page: the answers of `images`, kept from caches, other origins and scripts.
pub fn images(images: Router) -> Router {
    Router::new()
        .route("/dicom-web/{*resource}", any_service(images))
        .layer(from_fn(apart))
}

/// An object may be a document that a browser shows: nothing in it runs, and no page but the own one has it.
async fn apart(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox";
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-security-policy", policy),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-robots-tag", "noindex, nofollow"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers.append(header::VARY, HeaderValue::from_static("Cookie"));
    response
}

/// The whole URL of a link is a secret: whatever logs requests gets this word.
async fn named(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(ResourceName("viewer"));
    response
}

impl Viewer {
    fn unavailable(&self) -> Response {
        pages::unavailable(self.parts.login.shell())
    }

    fn pacs(&self, connection: &Connection) -> Option<(Arc<str>, &ViewedPacs)> {
        let host = connection.host.clone()?;
        let pacs = self.parts.hosts.get(&host)?;
        Some((host, pacs))
    }

    /// The link that this browser followed.
    fn followed(&self, headers: &HeaderMap, host: &str) -> Option<Arc<ReportLink>> {
        let id = cookies::read(headers, LINK)?;
        self.links.get(id.key(), host, self.parts.login.now())
    }

    /// Opens the exam of a link to a session, on record before anything of it is shown.
    async fn open(
        &self,
        connection: &Connection,
        pacs: &ViewedPacs,
        session: &SessionView,
        link: &ReportLink,
    ) -> Result<(), Refusal> {
        let now = self.parts.login.now();
        let address = connection.remote.ip();
        let decided = if self.throttle.may_open(address, link.study(), now) {
            self.parts.gate.open(&pacs.name, link).await.map(drop)
        } else {
            Err(Refusal::OtherLink)
        };
        let locked = match decided {
            // Nobody guessed where nothing could be compared.
            Ok(()) | Err(Refusal::ExamsUnknown) => {
                self.throttle.succeeded(address, link.study());
                false
            }
            Err(_) => self.throttle.refused(address, link.study()).await,
        };
        if locked && let Err(refusal) = decided {
            metrics::counter!("drimbox_viewer_lockouts_total").increment(1);
            tracing::warn!(
                reason = refusal.label(),
                "links to one study were refused too often: it is locked for an hour"
            );
        }
        let (kind, outcome) = match decided {
            Ok(()) => (Kind::LinkOpened, Outcome::default()),
            Err(refusal) => {
                metrics::counter!("drimbox_viewer_refusals_total", "reason" => refusal.label())
                    .increment(1);
                (Kind::LinkRefused, Outcome::refused(404, refusal.label()))
            }
        };
        let actor = Actor {
            address: Some(address),
            person: Some(Person {
                national_id: Some(session.professional.national_id.as_str().into()),
                profession: Some(Text::from(&session.situation.profession)),
                structure: session.situation.structure_id.as_ref().map(Text::from),
                ..Person::default()
            }),
            ..Actor::default()
        };
        let object = Object {
            pacs: Some(Text::from(&pacs.name)),
            study: Some(link.study().as_str().into()),
            ..Object::default()
        };
        let event = self.parts.audit.event(kind).by(actor).on(object);
        let recorded = self.parts.audit.record(event.ending(outcome)).await;
        decided?;
        if let Err(error) = recorded {
            // What cannot be recorded does not happen.
            tracing::error!("an exam cannot be recorded and is not opened: {error}");
            return Err(Refusal::ExamsUnknown);
        }
        let granted = Granted {
            pacs: pacs.name.to_string(),
            study: link.study().clone(),
        };
        let granted = serde_json::to_string(&granted).map_err(|_| Refusal::ExamsUnknown)?;
        let sessions = self.parts.login.sessions();
        let kept = sessions.set_data(session.key, Some(granted)).await;
        kept.map_err(|_| Refusal::Unauthenticated)
    }
}

/// The link itself: kept here, and the browser sent to a clean address.
async fn follow(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    RawQuery(query): RawQuery,
) -> Response {
    let now = viewer.parts.login.now();
    if !viewer.throttle.may_follow(connection.remote.ip(), now) {
        metrics::counter!("drimbox_viewer_refusals_total", "reason" => "too_often").increment(1);
        return viewer.unavailable();
    }
    let link = query.as_deref().and_then(ReportLink::parse);
    let (Some(link), Some((host, _)), Ok(id)) = (link, viewer.pacs(&connection), SessionId::new())
    else {
        return viewer.unavailable();
    };
    viewer.links.add(id.key(), host, link, now);
    see_other("/viewer/entree", cookies::set(LINK, &id))
}

/// Who are you?
async fn entrance(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let host = connection.host.as_deref().unwrap_or_default();
    match viewer.followed(&headers, host) {
        Some(_) => pages::entrance(viewer.parts.login.shell()),
        None => viewer.unavailable(),
    }
}

/// A professional: to Pro Santé Connect, or at once to the exam.
async fn professional(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    let Some((host, pacs)) = viewer.pacs(&connection) else {
        return viewer.unavailable();
    };
    let Some(link) = viewer.followed(&headers, &host) else {
        return viewer.unavailable();
    };
    let sessions = viewer.parts.login.sessions();
    let mut answer = if let Some(session) = sessions.current(&headers, &host) {
        match viewer.open(&connection, pacs, &session, &link).await {
            Ok(()) => see_other(assets::PAGE, None),
            Err(_) => viewer.unavailable(),
        }
    } else {
        let (Ok(text), Some(return_to)) = (serde_json::to_string(&*link), ReturnPath::parse(OPEN))
        else {
            return viewer.unavailable();
        };
        let destination = Destination {
            return_to,
            link: Some(text.into()),
        };
        let login = &viewer.parts.login;
        login
            .redirect_to_psc(&connection, &headers, &request, destination)
            .await
    };
    if let Some(cookie) = cookies::clear(LINK) {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// Back from the login: the exam of the link, or the one answer to everything else.
async fn open(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let Some((host, pacs)) = viewer.pacs(&connection) else {
        return viewer.unavailable();
    };
    let sessions = viewer.parts.login.sessions();
    let Some(session) = sessions.current(&headers, &host) else {
        return see_other("/auth/", None);
    };
    let link = sessions.take_link(session.key).await;
    let Some(link) = link.and_then(|text| serde_json::from_str::<ReportLink>(&text).ok()) else {
        // A reload, or the back button: the link was taken before.
        return match session.data {
            Some(_) => see_other(assets::PAGE, None),
            None => viewer.unavailable(),
        };
    };
    match viewer.open(&connection, pacs, &session, &link).await {
        Ok(()) => see_other(assets::PAGE, None),
        Err(_) => viewer.unavailable(),
    }
}

/// What the page shows of the exam of its session.
async fn exam(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let Some((host, pacs)) = viewer.pacs(&connection) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let sessions = viewer.parts.login.sessions();
    let Some(session) = sessions.current(&headers, &host) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let gate = &viewer.parts.gate;
    let published = match gate.exam(&pacs.name, &headers, &host).await {
        Ok(exam) => exam,
        Err(Refusal::ExamsUnknown) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(Refusal::NotGranted) => return StatusCode::FORBIDDEN.into_response(),
        Err(_) => return StatusCode::GONE.into_response(),
    };
    let now = viewer.parts.login.now();
    let facts = SessionFacts {
        idle: session.idle_at.since(now),
        absolute: session.ends_at.since(now),
        csrf: session.csrf,
    };
    match api::exam(pacs, &published, facts).await {
        Ok(exam) => axum::Json(exam).into_response(),
        Err(error) => {
            tracing::warn!("the exam page cannot be filled: {error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// A violation of the policy of the page. Anybody can send one, and it may hold addresses: it is counted, and not read.
async fn reported() -> StatusCode {
    metrics::counter!("drimbox_viewer_policy_reports_total").increment(1);
    StatusCode::NO_CONTENT
}

/// Whatever else is asked for: what a link that opens nothing gets.
async fn nothing(State(viewer): State<Arc<Viewer>>) -> Response {
    viewer.unavailable()
}
