//! Requests of the studies service: from a path to an answer.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, StatusCode, Uri};

use super::accept::Accept;
use super::answer::no_store;
use super::capabilities::cors;
use super::conditional::Variant;
use super::images::Images;
use super::negotiate::Unnamed;
use super::path::{self, PathError, Target};
use super::problem::Problem;
use super::query;
use super::roots::Roots;
use super::status::{no_resource, refused};
use super::transcoded::Transcoding;
use super::{bulk, capabilities, frames, metadata, rendered, retrieve, search};
use crate::access::{self, Access};
use crate::archive::Scope;
use crate::config::Quirks;
use crate::dicom::charset::{CharacterSet, Repertoire};
use crate::net::{Connection, ListenerKind, RequestId, ResourceName};
use crate::pixels::pool::Pool;
use crate::studies::Studies;

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
}

impl Call<'_> {
    /// The answer for a client that has this form already.
    #[must_use]
    pub fn unchanged(&self, variant: Option<&Variant>) -> Option<Response> {
        let variant = variant.filter(|variant| variant.is_known(self.headers))?;
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        no_store(answer.headers_mut());
        variant.put(answer.headers_mut());
        Some(answer)
    }
}

async fn handle(
    State(service): State<Arc<Service>>,
    OriginalUri(uri): OriginalUri,
    request: Request<Body>,
) -> Response {
    let (parts, _) = request.into_parts();
    let id = parts.extensions.get::<RequestId>().cloned();
    let Some(connection) = parts.extensions.get::<Connection>() else {
        return Problem::internal().response(id.as_ref().map(RequestId::as_str));
    };
    // Pages of other origins are a matter of the centre's own network.
    let origin = match connection.listener {
        ListenerKind::Local => cors::origin(&parts.headers, &service.cors_origins),
        ListenerKind::Peer | ListenerKind::Viewer | ListenerKind::Admin => None,
    };
    let preflight = origin
        .as_ref()
        .and_then(|_| cors::preflight(&parts.method, &parts.headers));
    let answer = match preflight {
        Some(answer) => Ok(answer),
        None => {
            service
                .answer(connection, &parts.method, &uri, &parts.headers)
                .await
        }
    };
    let mut answer =
        answer.unwrap_or_else(|problem| problem.response(id.as_ref().map(RequestId::as_str)));
    if let Some(origin) = origin {
        cors::allow(origin, answer.headers_mut());
    }
    if parts.method == Method::HEAD {
        // What was opened for it is closed at once.
        *answer.body_mut() = Body::empty();
    }
    answer
}

impl Service {
    async fn answer(
        &self,
        connection: &Connection,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        if connection.listener == ListenerKind::Local && !self.roots.is_addressed_to_us(headers) {
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
                .map_err(refused)?;
            let accept = Accept::of_request(headers, accept_parameter(uri)?.as_deref())?;
            let root = self.roots.of(connection, headers, named);
            let mut answer = capabilities::answer(&accept, offered, &root)?;
            answer.extensions_mut().insert(ResourceName("capabilities"));
            return Ok(answer);
        }
        let target = path::parse(rest).map_err(|error| match error {
            PathError::Unknown => no_resource(),
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
        let asked = match &target {
            Target::Retrieve(scope)
            | Target::Metadata(scope)
            | Target::Frames(scope, _)
            | Target::Bulk(scope, _)
            | Target::Pixels(scope)
            | Target::Rendered { scope, .. } => access::Request::Retrieve(scope),
            Target::Search { .. } | Target::NotOffered(_) => access::Request::Search,
        };
        let grant = self
            .access
            .decide(connection, bearer(headers), named, asked)
            .map_err(refused)?;
        let pacs = self.pacs.get(&grant.pacs).ok_or_else(no_resource)?;
        let accept = Accept::of_request(headers, accept_parameter(uri)?.as_deref())?;
        let root = self.roots.of(connection, headers, named);
        let call = Call {
            service: self,
            pacs,
            root,
            accept,
            uri,
            headers,
        };
        let (resource, answer) = match target {
            Target::Retrieve(scope) => (name_of(&scope), retrieve::answer(&call, scope).await),
            Target::Metadata(scope) => ("metadata", metadata::answer(&call, scope).await),
            Target::Frames(scope, list) => ("frames", frames::answer(&call, scope, &list).await),
            Target::Pixels(scope) => ("frames", frames::answer_all(&call, scope).await),
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
            Target::NotOffered(what) => (
                "other",
                Err(Problem::not_implemented(
                    format!("this service does not offer {what} yet"),
                    "retrieve the instance itself",
                )),
            ),
        };
        let mut answer = answer?;
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

/// The bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let field = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
