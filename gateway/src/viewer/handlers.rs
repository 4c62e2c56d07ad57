//! From the link to the page: reading requests and writing answers, no more.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, RawQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any_service, get, post};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use psc_auth::UnixTime;
use tokio::time::Instant;

use super::api::{self, SessionFacts};
use super::links::Followed;
use super::patient::{self, at_floor};
use super::{ViewedPacs, Viewer, archive, assets, pages, report, weasis};
use crate::access::{Comer, Granted, Refusal, ReportLink, Visitor};
use crate::audit::{Kind, Object, Outcome, Text};
use crate::dicomweb::trail::{self, Look};
use crate::login::{Destination, ReturnPath, SessionId, SessionView, cookies, secure, see_other};
use crate::net::{Connection, RequestId, ResourceName};
use crate::source::PublishedExam;

/// Stands for a link that was followed.
pub(super) const LINK: &str = "__Host-drimbox-link";
/// The page that asks who follows a link.
const ENTRANCE: &str = "/viewer/entree";
/// Where a login for a link comes back to.
const OPEN: &str = "/viewer/ouvrir";

/// The link of reports, the exam page and what it asks.
pub fn router(viewer: Arc<Viewer>) -> Router {
    let pages = Router::new()
        .route("/IHEInvokeImageDisplay", get(follow))
        .route(ENTRANCE, get(entrance))
        .route("/viewer/pro", get(professional))
        .route(OPEN, get(open))
        .route("/viewer/api/exam", get(exam))
        .merge(patient::router())
        .merge(archive::router())
        .merge(weasis::router())
        .route("/viewer/csp-report", post(reported))
        // Browsers ask by themselves; a page that is not found would be one more thing to look at.
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .fallback(nothing)
        .layer(from_fn(named))
        .layer(from_fn(secure))
        .with_state(Arc::clone(&viewer));
    // Its policy is that of objects, not of pages.
    let report = report::router().layer(from_fn(named)).with_state(viewer);
    pages.merge(report).merge(assets::router())
}

/// DICOMweb for the exam page: the answers of `images`, kept from caches, other origins and scripts.
pub fn images(images: Router) -> Router {
    Router::new()
        .route("/dicom-web/{*resource}", any_service(images))
        .layer(from_fn(apart))
}

/// An object may be a document that a browser shows: nothing in it runs, and no page but the own one has it.
pub(super) async fn apart(request: Request, next: Next) -> Response {
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
    pub(super) fn unavailable(&self) -> Response {
        pages::unavailable(self.parts.login.shell())
    }

    pub(super) fn pacs(&self, connection: &Connection) -> Option<(Arc<str>, &ViewedPacs)> {
        let host = connection.host.clone()?;
        let pacs = self.parts.hosts.get(&host)?;
        Some((host, pacs))
    }

    /// The link that this browser followed.
    fn followed(&self, headers: &HeaderMap, host: &str) -> Option<Followed> {
        let id = cookies::read(headers, LINK)?;
        self.links.get(id.key(), host, self.parts.login.now())
    }

    /// Sends a professional to the exam; whatever this browser showed a patient is over.
    async fn to_exam(&self, headers: &HeaderMap) -> Response {
        let mut answer = see_other(assets::PAGE, None);
        if let Some(before) = cookies::read(headers, patient::COOKIE) {
            self.parts.patients.end(before.key()).await;
            if let Some(cookie) = cookies::clear(patient::COOKIE) {
                answer.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
        answer
    }

    /// The answer to a link that opens nothing, which takes the same time whatever the reason.
    async fn refused(&self, started: Instant) -> Response {
        at_floor(started).await;
        self.unavailable()
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
        let decided = if self.throttle.may_open(address, link.study(), now).await {
            self.parts.gate.open(&pacs.name, link).await.map(drop)
        } else {
            Err(Refusal::Locked)
        };
        match decided {
            // What was not looked at took nobody further, and is not counted.
            Err(Refusal::Locked) => {}
            // Nobody guessed where nothing could be compared.
            Ok(()) | Err(Refusal::ExamsUnknown) => self.throttle.succeeded(address, link.study()),
            Err(_) => self.throttle.refused(address, link.study()).await,
        }
        let (kind, outcome) = match decided {
            Ok(()) => (Kind::LinkOpened, Outcome::default()),
            Err(refusal) => {
                metrics::counter!("drimbox_viewer_refusals_total", "reason" => refusal.label())
                    .increment(1);
                (Kind::LinkRefused, Outcome::refused(404, refusal.label()))
            }
        };
        let actor = trail::visitor(&super::professional(session), address);
        let object = Object {
            pacs: Some(Text::from(&pacs.name)),
            study: Some(link.study().as_str().into()),
            ..Object::default()
        };
        let event = self.parts.audit.event(kind).by(actor).on(object);
        let recorded = self.parts.audit.record(event.ending(outcome)).await;
        if let Err(error) = recorded {
            // What cannot be recorded does not happen; a refusal is one all the same.
            metrics::counter!("drimbox_viewer_unrecorded_total").increment(1);
            tracing::error!("a link cannot be recorded and opens nothing: {error}");
            return Err(decided.err().unwrap_or(Refusal::ExamsUnknown));
        }
        decided?;
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
    let started = Instant::now();
    let now = viewer.parts.login.now();
    let address = connection.remote.ip();
    if !viewer.throttle.may_follow(address, now).await {
        metrics::counter!("drimbox_viewer_refusals_total", "reason" => "too_often").increment(1);
        return viewer.refused(started).await;
    }
    let link = query.as_deref().and_then(ReportLink::parse);
    let (Some(link), Some((host, _)), Ok(id)) = (link, viewer.pacs(&connection), SessionId::new())
    else {
        return viewer.refused(started).await;
    };
    viewer.links.add(id.key(), host, link, now);
    see_other(ENTRANCE, cookies::set(LINK, &id))
}

/// Whether the browser says that a page of another origin leads here (Fetch Metadata). One that says nothing, of before
/// 2023, is taken at its word; what somebody typed is their own.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

/// Who are you?
async fn entrance(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let host = connection.host.as_deref().unwrap_or_default();
    match viewer.followed(&headers, host) {
        Some(_) => {
            let patients = viewer.parts.gate.patients.is_some();
            pages::entrance(viewer.parts.login.shell(), patients)
        }
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
    let started = Instant::now();
    let Some((host, pacs)) = viewer.pacs(&connection) else {
        return viewer.unavailable();
    };
    let Some(Followed { link, .. }) = viewer.followed(&headers, &host) else {
        return viewer.unavailable();
    };
    // It changes what the session has open: whoever was sent here by another site is asked first.
    if is_foreign(&headers) {
        return see_other(ENTRANCE, None);
    }
    let sessions = viewer.parts.login.sessions();
    let mut answer = if let Some(session) = sessions.current(&headers, &host) {
        match viewer.open(&connection, pacs, &session, &link).await {
            Ok(()) => viewer.to_exam(&headers).await,
            Err(_) => viewer.refused(started).await,
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
    let started = Instant::now();
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
        Ok(()) => viewer.to_exam(&headers).await,
        Err(_) => viewer.refused(started).await,
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
    let Some(seeker) = viewer.seeker(&headers, &host, true) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let published = match viewer
        .exam_of(&connection, pacs, Some(&seeker.visitor), "exam")
        .await
    {
        Ok(exam) => exam,
        Err(status) => return status.into_response(),
    };
    let exams = &viewer.parts.exams;
    let report = match exams.report(&pacs.name, &published.study).await {
        Ok(report) => report.is_some(),
        Err(error) => {
            tracing::error!("{error}");
            false
        }
    };
    let now = viewer.parts.login.now();
    let facts = SessionFacts {
        visitor: seeker.kind(),
        weasis: viewer.offers_weasis(&seeker),
        logout: seeker.logout,
        idle: seeker.idle_at.since(now),
        absolute: seeker.ends_at.since(now),
        csrf: seeker.csrf,
        report,
        download: viewer.parts.download,
    };
    match api::exam(pacs, &published, facts).await {
        Ok(exam) => axum::Json(exam).into_response(),
        Err(error) => {
            tracing::warn!("the exam page cannot be filled: {error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

impl Viewer {
    /// Who asks for the exam of their session: a patient, or a professional.
    pub(super) fn seeker(&self, headers: &HeaderMap, host: &str, is_use: bool) -> Option<Seeker> {
        let now = self.parts.login.now();
        if let Some(view) = self.parts.patients.current(headers, host, now, is_use) {
            return Some(Seeker {
                visitor: view.visitor(),
                csrf: view.csrf,
                idle_at: view.idle_at,
                ends_at: view.ends_at,
                logout: "/viewer/patient/quitter",
            });
        }
        let sessions = self.parts.login.sessions();
        let view = match is_use {
            true => sessions.current(headers, host)?,
            false => sessions.peek(headers, host)?,
        };
        Some(Seeker {
            visitor: super::professional(&view),
            csrf: view.csrf,
            idle_at: view.idle_at,
            ends_at: view.ends_at,
            logout: "/auth/logout",
        })
    }

    /// The exam that somebody has open, on record as something that was looked at; or the status of the answer.
    pub(super) async fn exam_of(
        &self,
        connection: &Connection,
        pacs: &ViewedPacs,
        visitor: Option<&Visitor>,
        resource: &'static str,
    ) -> Result<Arc<PublishedExam>, StatusCode> {
        let decided = self.parts.gate.exam_of(&pacs.name, visitor).await;
        let about = Look {
            visitor: visitor.cloned(),
            pacs: Some(Arc::clone(&pacs.name)),
            study: decided.as_ref().ok().map(|exam| exam.study.clone()),
            series: None,
            resource: Some(resource),
        };
        let trail = &self.parts.trail;
        let recorded = match &decided {
            Ok(_) => trail.seen(connection, about).await,
            Err(refusal) => trail.unseen(connection, about, refusal.label(), 403).await,
        };
        if let Err(error) = recorded {
            tracing::error!("a look at an exam cannot be recorded and is refused: {error}");
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        decided.map_err(|refusal| match refusal {
            Refusal::ExamsUnknown => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::NotGranted | Refusal::NotForPatients => StatusCode::FORBIDDEN,
            _ => StatusCode::GONE,
        })
    }
}

/// Somebody with a session, who asks for what it opens.
pub(super) struct Seeker {
    pub(super) visitor: Visitor,
    pub(super) csrf: String,
    idle_at: UnixTime,
    ends_at: UnixTime,
    logout: &'static str,
}

impl Seeker {
    fn kind(&self) -> &'static str {
        match self.visitor.who {
            Comer::Professional { .. } => "professional",
            Comer::Patient { .. } => "patient",
        }
    }
}

/// A violation of the policy of the page. Anybody can send one, and it may hold addresses: it is counted, and not read.
async fn reported() -> StatusCode {
    metrics::counter!("drimbox_viewer_policy_reports_total").increment(1);
    StatusCode::NO_CONTENT
}

/// Whatever else is asked for: what a link that opens nothing gets.
pub(super) async fn nothing(State(viewer): State<Arc<Viewer>>) -> Response {
    viewer.unavailable()
}
