//! Requests of the studies service: from a path to an answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::accept::Accept;
use super::capabilities::cors;
use super::conditional::{self, Variant};
use super::images::Images;
use super::negotiate::Unnamed;
use super::path::{self, PathError, Target};
use super::problem::Problem;
use super::query;
use super::roots::Roots;
use super::several::What;
use super::status::{failed, no_resource, nothing_known, refused};
use super::trail::{About, Look, Trail};
use super::transcoded::Transcoding;
use super::{bulk, capabilities, frames, metadata, rendered, retrieve, search, several};
use crate::access::{self, Access, Credentials, NamedKos, PeerIdentity, Refusal};
use crate::archive::Scope;
use crate::config::Quirks;
use crate::dicom::charset::{CharacterSet, Repertoire};
use crate::dicom::uid::InstanceUid;
use crate::net::{Connection, ListenerKind, RequestId, ResourceName};
use crate::pixels::pool::Pool;
use crate::source::PublishedExam;
use crate::studies::{Reader, Studies};

/// The DICOMweb service of all PACS of the gateway, as every listener offers it.
pub struct Service {
    /// The images, by name of the PACS.
    pub pacs: HashMap<Arc<str>, Pacs>,
    /// Who may see what.
    pub access: Access,
    /// Where each listener's service stands.
    pub roots: Roots,
    /// Bytes of an instance without its pixel data.
    pub max_head_bytes: u64,
    /// Matches of one search.
    pub max_matches: usize,
    /// Where pixels are decoded.
    pub pixels: Pool,
    /// The images that frames were asked of a moment ago.
    pub images: Images,
    /// Where instances are transcoded.
    pub transcoding: Transcoding,
    /// What a client that names no transfer syntax is sent.
    pub unnamed: Unnamed,
    /// Web origins whose pages may read answers of the local listener.
    pub cors_origins: Vec<String>,
    /// Whether the INS of the KOS is added to the images that leave for a peer.
    pub add_ins: bool,
    /// Where requests of peers are recorded; `None` in tests of something else.
    pub trail: Option<Arc<Trail>>,
}

/// One PACS.
pub struct Pacs {
    /// Its images.
    pub studies: Arc<Studies>,
    /// How its texts are to be read.
    pub texts: Texts,
}

/// How the texts of a PACS are to be read.
#[derive(Debug, Clone)]
pub struct Texts {
    /// Character set of texts that declare none.
    pub fallback: Repertoire,
    /// Character set that replaces what is declared.
    pub replaces: Option<CharacterSet>,
}

impl Texts {
    /// As the quirks of the PACS say.
    #[must_use]
    pub fn new(quirks: &Quirks) -> Self {
        let named = quirks.charset.as_deref();
        let fallback = named.and_then(Repertoire::parse).unwrap_or_default();
        let replaces = named
            .filter(|_| quirks.charset_overrides)
            .map(|term| CharacterSet::declared(term, fallback));
        Self { fallback, replaces }
    }
}

/// SOP Instance UID of the KOS that announced an exam (DRIM-M, RAD-107 between DRIMboxes).
static KOS: HeaderName = HeaderName::from_static("kos-sopinstanceuid");

/// When a peer whose request cannot be recorded may try again.
const LATER: Duration = Duration::from_secs(30);

/// A request before anything was decided.
struct Asked<'a> {
    connection: &'a Connection,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

/// The routes of the service.
pub fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(handle).with_state(service)
}

/// A request that access was granted to.
pub struct Call<'a> {
    /// The service.
    pub service: &'a Service,
    /// The PACS asked.
    pub pacs: &'a Pacs,
    /// Root of the service in URLs of the answer.
    pub root: String,
    /// What the client accepts.
    pub accept: Accept,
    /// What it asked for.
    pub uri: &'a Uri,
    /// The fields of the request.
    pub headers: &'a HeaderMap,
    /// The exam that the request was granted for; `None` where a whole PACS is open.
    pub exam: Option<Arc<PublishedExam>>,
}

impl Call<'_> {
    /// Opens what a scope names; of a granted exam, what its KOS names.
    ///
    /// # Errors
    /// A problem: what is not there, or cannot be had.
    pub async fn open(&self, scope: &Scope) -> Result<Reader, Problem> {
        let reader = self.pacs.studies.open(scope).await.map_err(failed)?;
        let Some(exam) = &self.exam else {
            return Ok(reader);
        };
        if scope.instance().is_some() {
            // Granted by its own name.
            return Ok(reader);
        }
        let series = exam.series.iter();
        let series = series.filter(|one| scope.series().is_none_or(|asked| one.series == *asked));
        let named: HashSet<InstanceUid> = series
            .flat_map(|one| one.instances.iter().cloned())
            .collect();
        Ok(reader.only(move |instance| named.contains(instance)))
    }

    /// The answer for a client that has this form already.
    #[must_use]
    pub fn unchanged(&self, variant: Option<&Variant>) -> Option<Response> {
        let variant = variant.filter(|variant| variant.is_known(self.headers))?;
        let mut answer = conditional::not_modified();
        variant.put(answer.headers_mut());
        Some(answer)
    }
}

async fn handle(
    State(service): State<Arc<Service>>,
    OriginalUri(uri): OriginalUri,
    request: Request<Body>,
) -> Response {
    let (mut parts, _) = request.into_parts();
    if parts.method != Method::GET {
        // Ranges are of GET alone (RFC 9110 §14.2).
        parts.headers.remove(RANGE);
    }
    let id = parts.extensions.get::<RequestId>().cloned();
    let Some(connection) = parts.extensions.get::<Connection>() else {
        return Problem::internal().response(id.as_ref().map(RequestId::as_str));
    };
    // Pages of other origins are a matter of the centre's own network.
    let origin = match connection.listener {
        ListenerKind::Local => cors::origin(&parts.headers, &service.cors_origins),
        ListenerKind::Peer | ListenerKind::Viewer | ListenerKind::Admin | ListenerKind::Clear => {
            None
        }
    };
    let preflight = origin
        .as_ref()
        .and_then(|_| cors::preflight(&parts.method, &parts.headers));
    let answer = match preflight {
        Some(answer) => Ok(answer),
        None => {
            let asked = Asked {
                connection,
                method: &parts.method,
                uri: &uri,
                headers: &parts.headers,
            };
            match connection.listener {
                ListenerKind::Peer => service.answer_peer(&asked).await,
                ListenerKind::Viewer => service.answer_visitor(&asked).await,
                _ => service.answer(&asked, &mut About::default()).await,
            }
        }
    };
    let mut answer =
        answer.unwrap_or_else(|problem| problem.response(id.as_ref().map(RequestId::as_str)));
    if let Some(origin) = origin {
        cors::allow(origin, answer.headers_mut());
    }
    answer
}

impl Service {
    /// Answers a peer: on record before the first byte, whatever the answer.
    async fn answer_peer(&self, asked: &Asked<'_>) -> Result<Response, Problem> {
        let mut about = About::default();
        let answer = match self.access.recognise(asked.connection) {
            Ok(peer) => {
                about.known.peer = peer;
                self.answer(asked, &mut about).await
            }
            Err(refusal) => {
                // Whose certificate it is stays known, also when it was good a moment ago.
                about.known.peer = asked.connection.peer().map(PeerIdentity::of_certificate);
                Err(about.refused(asked.connection, refusal))
            }
        };
        if let Some(reason) = about.reason {
            metrics::counter!("drimbox_peer_refusals_total", "reason" => reason).increment(1);
            tracing::info!(reason, "request of a peer refused");
        }
        let Some(trail) = &self.trail else {
            return answer;
        };
        let recorded = match answer {
            Ok(answer) => {
                let begun = trail.begun(asked.connection, asked.method, &about, answer);
                begun.await.map(Ok)
            }
            Err(problem) => trail
                .refused(asked.connection, &about, problem.status())
                .await
                .map(|()| Err(problem)),
        };
        recorded.unwrap_or_else(|error| {
            // What cannot be recorded does not happen.
            tracing::error!("a request of a peer cannot be recorded and is refused: {error}");
            Err(Problem::unavailable("not now", LATER))
        })
    }

    /// Answers the exam page.
    async fn answer_visitor(&self, asked: &Asked<'_>) -> Result<Response, Problem> {
        let mut about = About::default();
        let answer = self.answer(asked, &mut about).await;
        if let Some(reason) = about.reason {
            metrics::counter!("drimbox_viewer_refusals_total", "reason" => reason).increment(1);
            tracing::info!(reason, "request of a visitor refused");
        }
        // The exam page closes at 410, and its report may be there without the images.
        let answer = answer.map_err(|problem| match problem.status() {
            StatusCode::GONE => nothing_known(),
            _ => problem,
        });
        let Some(trail) = &self.trail else {
            return answer;
        };
        let exam = about.exam.take();
        let scope = about.scope.as_ref();
        let resource = answer.as_ref().ok().and_then(|answer| {
            let name = answer.extensions().get::<ResourceName>();
            name.map(|ResourceName(name)| *name)
        });
        let look = Look {
            visitor: about.known.visitor.take(),
            pacs: about.pacs.clone(),
            study: scope.map(|scope| scope.study().clone()).or(exam),
            series: scope.and_then(Scope::series).cloned(),
            resource,
        };
        let recorded = match (&answer, about.reason) {
            (Ok(_), _) => trail.seen(asked.connection, look).await,
            (Err(problem), Some(reason)) => {
                let status = problem.status().as_u16();
                trail.unseen(asked.connection, look, reason, status).await
            }
            // Granted, and not there: nothing was seen.
            (Err(_), None) => Ok(()),
        };
        match recorded {
            Ok(()) => answer,
            Err(error) => {
                // What cannot be recorded does not happen.
                tracing::error!(
                    "a request of a visitor cannot be recorded and is refused: {error}"
                );
                Err(Problem::unavailable("not now", LATER))
            }
        }
    }

    async fn answer(&self, asked: &Asked<'_>, about: &mut About) -> Result<Response, Problem> {
        let Asked {
            connection,
            method,
            uri,
            headers,
        } = *asked;
        if connection.listener == ListenerKind::Local
            && !self.roots.is_addressed_to_us(uri, headers)
        {
            return Err(Problem::misdirected());
        }
        let (named, rest) = self
            .roots
            .split(connection, uri.path())
            .ok_or_else(no_resource)?;
        if *method == Method::OPTIONS {
            let offered = self
                .access
                .offered(connection, bearer(headers), named)
                .map_err(|refusal| about.refused(connection, refusal))?;
            let accept = Accept::of_request(headers, accept_parameter(uri)?.as_deref())?;
            let root = self.roots.of(connection, (uri, headers), named);
            let mut answer = capabilities::answer(&accept, offered, &root)?;
            answer.extensions_mut().insert(ResourceName("capabilities"));
            return Ok(answer);
        }
        let target = path::parse(rest).map_err(|error| match error {
            PathError::Unknown => no_resource(),
            PathError::BadEscape => Problem::bad_request(
                "the percent-encoding of the path is malformed",
                "write two hexadecimal digits after each %, of UTF-8 text",
            ),
            PathError::BadFrames => Problem::bad_request(
                "the list of frames is malformed",
                "write numbers from 1 with commas between them, 1 000 at most",
            ),
            PathError::BadAttribute => Problem::bad_request(
                "the way to a value is malformed",
                "follow the BulkDataURI of the metadata",
            ),
            PathError::BadUid => Problem::bad_request(
                "a UID in the path is malformed",
                "UIDs have digits and single dots, 64 characters at most (PS3.5 §9.1)",
            ),
        })?;
        if *method != Method::GET && *method != Method::HEAD {
            return Err(Problem::method_not_allowed(capabilities::METHODS));
        }
        let request = match &target {
            Target::Retrieve(scope)
            | Target::Metadata(scope)
            | Target::Frames(scope, _)
            | Target::Bulk(scope, _)
            | Target::AllBulk(scope)
            | Target::Pixels(scope)
            | Target::Rendered { scope, .. } => access::Request::Retrieve(scope),
            Target::Search {
                study: Some(study), ..
            } => access::Request::SearchIn(study),
            Target::Search { .. } => access::Request::Search,
        };
        let kos = named_kos(headers);
        if let access::Request::Retrieve(scope) = request {
            about.scope = Some(scope.clone());
        }
        about.kos = kos.clone().ok().flatten();
        let credentials = Credentials {
            token: bearer(headers),
            kos: match &kos {
                Ok(None) => NamedKos::Absent,
                Ok(Some(kos)) => NamedKos::Kos(kos),
                Err(_) => NamedKos::Unreadable,
            },
            headers: Some(headers),
        };
        let decided = self
            .access
            .decide(connection, credentials, named, request, &mut about.known)
            .await;
        let grant = decided.map_err(|refusal| about.refused(connection, refusal))?;
        about.granted = true;
        about.pacs = Some(Arc::clone(&grant.pacs));
        about.exam = grant.exam.as_ref().map(|exam| exam.study.clone());
        let pacs = self.pacs.get(&grant.pacs).ok_or_else(no_resource)?;
        let accept = Accept::of_request(headers, accept_parameter(uri)?.as_deref())?;
        let root = self.roots.of(connection, (uri, headers), named);
        let call = Call {
            service: self,
            pacs,
            root,
            accept,
            uri,
            headers,
            exam: grant.exam,
        };
        let (resource, answer) = match target {
            Target::Retrieve(scope) => (name_of(&scope), retrieve::answer(&call, scope).await),
            Target::Metadata(scope) => ("metadata", metadata::answer(&call, scope).await),
            Target::Frames(scope, list) => ("frames", frames::answer(&call, scope, &list).await),
            Target::Pixels(scope) => (
                "frames",
                several::answer(&call, scope, What::PixelData).await,
            ),
            Target::AllBulk(scope) => (
                "bulkdata",
                several::answer(&call, scope, What::BulkData).await,
            ),
            Target::Bulk(scope, path) => ("bulkdata", bulk::answer(&call, scope, path).await),
            Target::Rendered {
                scope,
                frames,
                thumbnail,
            } => (
                "rendered",
                rendered::answer(&call, scope, &frames, thumbnail).await,
            ),
            Target::Search {
                level,
                study,
                series,
            } => (
                "search",
                search::answer(&call, level, query::Scope { study, series }).await,
            ),
        };
        let mut answer = answer?;
        if conditional::is_any_known(headers) {
            answer = conditional::without_content(&answer);
        }
        answer.extensions_mut().insert(ResourceName(resource));
        Ok(answer)
    }
}

fn name_of(scope: &Scope) -> &'static str {
    match scope {
        Scope::Study(_) => "study",
        Scope::Series(..) => "series",
        Scope::Instance(..) => "instance",
    }
}

/// The `accept` query parameter (PS3.18 §8.3.3.1), which stands for the field.
fn accept_parameter(uri: &Uri) -> Result<Option<String>, Problem> {
    Ok(query::accept_parameter(uri.query().unwrap_or_default())?)
}

/// The bearer token of a request (RFC 6750 §2.1); of two nobody knows which one counts.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let field = only(headers, &AUTHORIZATION).ok()??.to_str().ok()?;
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The KOS that a peer works from.
fn named_kos(headers: &HeaderMap) -> Result<Option<InstanceUid>, Unreadable> {
    let Some(field) = only(headers, &KOS)? else {
        return Ok(None);
    };
    let text = field.to_str().map_err(|_| Unreadable)?.trim();
    InstanceUid::parse(text).map(Some).map_err(|_| Unreadable)
}

/// A field that stands in a request twice, or cannot be read.
#[derive(Debug, Clone, Copy)]
struct Unreadable;

fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, Unreadable> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (field, None) => Ok(field),
        (_, Some(_)) => Err(Unreadable),
    }
}

impl About {
    /// The answer to a refusal, whose reason is kept.
    fn refused(&mut self, connection: &Connection, refusal: Refusal) -> Problem {
        self.reason = Some(refusal.label());
        match (connection.listener, refusal) {
            // The centre itself is told what its configuration leaves out.
            (ListenerKind::Local, Refusal::NotOffered) => Problem::forbidden(refusal.to_string()),
            _ => refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::BTreeSet;
    use std::sync::atomic::Ordering::SeqCst;

    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use rustls_pki_types::CertificateDer;
    use tower::ServiceExt as _;

    use super::*;
    use crate::audit::tests::disk::{FullDisk, held};
    use crate::audit::{Audit, Chain, Kind};
    use crate::config::Resource;
    use crate::dicomweb::spool::Spool;
    use crate::pixels::pool::PoolLimits;

    const HOST: &str = "db1.example.org";

    /// A service that lets every certificate in, with this trail.
    fn service(audit: Audit) -> Router {
        let pixels = Pool::new(PoolLimits::default());
        let service = Service {
            pacs: HashMap::new(),
            access: Access {
                peer: BTreeSet::from([Resource::Wado]),
                hosts: HashMap::from([(HOST.to_owned(), "ct".into())]),
                ..Access::default()
            },
            roots: Roots::default(),
            max_head_bytes: 1 << 20,
            max_matches: 100,
            images: Images::new(pixels.clone()),
            transcoding: Transcoding {
                pool: pixels.clone(),
                spool: Spool::new(std::env::temp_dir(), 1 << 20),
            },
            pixels,
            unnamed: Unnamed::AsStored,
            cors_origins: Vec::new(),
            add_ins: true,
            trail: Some(Arc::new(Trail::new(audit))),
        };
        router(Arc::new(service))
    }

    /// A question of a peer: for the description of the service, which is granted with a certificate.
    fn asked(with_certificate: bool) -> Request<Body> {
        let chain: Arc<[CertificateDer<'static>]> = [CertificateDer::from(vec![1, 2, 3])].into();
        let connection = Connection {
            id: 1,
            listener: ListenerKind::Peer,
            remote: ([192, 0, 2, 1], 50_000).into(),
            host: Some(HOST.into()),
            peer_certificates: with_certificate.then_some(chain),
        };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::OPTIONS;
        let uri: Uri = "/studies".parse().unwrap();
        *request.uri_mut() = uri.clone();
        request.extensions_mut().insert(connection);
        request.extensions_mut().insert(OriginalUri(uri));
        request
    }

    async fn is_refused_for_now(service: &Router, with_certificate: bool) {
        let answer = service.clone().oneshot(asked(with_certificate)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "30");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], "not now");
    }

    async fn status(service: &Router, with_certificate: bool) -> StatusCode {
        let answer = service.clone().oneshot(asked(with_certificate)).await;
        answer.unwrap().status()
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_neither_granted_nor_refused_to_a_peer() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FullDisk::default();
        let audit = disk.trail(dir.path());
        let service = service(audit.clone());
        assert_eq!(status(&service, true).await, StatusCode::OK);
        assert_eq!(status(&service, false).await, StatusCode::FORBIDDEN);
        for with_certificate in [true, false] {
            disk.is_full.store(true, SeqCst);
            is_refused_for_now(&service, with_certificate).await;
            disk.is_full.store(false, SeqCst);
            disk.sync_fails.store(true, SeqCst);
            is_refused_for_now(&service, with_certificate).await;
        }
        audit.close().await;
        is_refused_for_now(&service, true).await;
        is_refused_for_now(&service, false).await;
    }

    #[tokio::test]
    async fn no_head_of_an_answer_leaves_before_its_record_is_on_disk() {
        for (with_certificate, kind, status) in [
            (true, Kind::RequestStarted, StatusCode::OK),
            (false, Kind::RequestRefused, StatusCode::FORBIDDEN),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (audit, reached, go) = held(dir.path());
            let service = service(audit);
            let mut answer = service.oneshot(asked(with_certificate)).boxed();
            assert!(futures_util::poll!(&mut answer).is_pending());
            // The record is written, and the disk has not confirmed it.
            let reached = tokio::task::spawn_blocking(move || reached.recv());
            reached.await.unwrap().unwrap();
            assert!(futures_util::poll!(&mut answer).is_pending());
            go.send(()).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), status);
            let first = Chain::open(dir.path(), None).unwrap().next();
            assert_eq!(first.unwrap().unwrap().event().unwrap().kind, kind);
        }
    }
}
