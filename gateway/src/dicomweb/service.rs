//! Requests of the studies service: from a path to an answer.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Uri};

use super::accept::Accept;
use super::negotiate::Unnamed;
use super::path::{self, PathError, Target};
use super::problem::Problem;
use super::query;
use super::roots::Roots;
use super::status::{no_resource, refused};
use super::transcoded::Transcoding;
use super::{frames, metadata, rendered, retrieve, search};
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
}

async fn handle(
    State(service): State<Arc<Service>>,
    OriginalUri(uri): OriginalUri,
    request: Request<Body>,
) -> Response {
    let (parts, _) = request.into_parts();
    let id = parts.extensions.get::<RequestId>().cloned();
    let answer = match parts.extensions.get::<Connection>() {
        Some(connection) => {
            service
                .answer(connection, &parts.method, &uri, &parts.headers)
                .await
        }
        None => Err(Problem::internal()),
    };
    answer.unwrap_or_else(|problem| problem.response(id.as_ref().map(RequestId::as_str)))
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
        let target = path::parse(rest).map_err(|error| match error {
            PathError::Unknown => no_resource(),
            PathError::BadFrames => Problem::bad_request(
                "the list of frames is malformed",
                "write numbers from 1 with commas between them, 1 000 at most",
            ),
            PathError::BadUid => Problem::bad_request(
                "a UID in the path is malformed",
                "UIDs have digits and single dots, 64 characters at most (PS3.5 §9.1)",
            ),
        })?;
        if *method != Method::GET && *method != Method::HEAD {
            return Err(Problem::method_not_allowed("GET, HEAD"));
        }
        let asked = match &target {
            Target::Retrieve(scope)
            | Target::Metadata(scope)
            | Target::Frames(scope, _)
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
        };
        let (resource, answer) = match target {
            Target::Retrieve(scope) => (name_of(&scope), retrieve::answer(&call, scope).await),
            Target::Metadata(scope) => ("metadata", metadata::answer(&call, scope).await),
            Target::Frames(scope, list) => ("frames", frames::answer(&call, scope, &list).await),
            Target::Rendered {
                scope,
                frame,
                thumbnail,
            } => (
                "rendered",
                rendered::answer(&call, scope, frame, thumbnail).await,
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
