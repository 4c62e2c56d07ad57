//! Requests of the studies service: from a path to an answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use dicom_core::{Tag, VR};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, VARY, WARNING,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use super::accept::Accept;
use super::body::{self, Batches, Describe, Part, Sending};
use super::frames;
use super::multipart::{Boundary, DICOM};
use super::negotiate::{
    Form, JsonType, NotAcceptable, Retrieved, Unnamed, negotiate_instances, negotiate_json,
};
use super::path::{self, PathError, Target};
use super::problem::Problem;
use super::query::{self, Level, Query};
use super::rendered;
use super::search;
use crate::access::{self, Access, Refusal};
use crate::archive::{ArchiveError, Scope};
use crate::config::Quirks;
use crate::dicom::charset::{CharacterSet, Repertoire};
use crate::dicom::edit::Edit;
use crate::dicom::json::{Attribute, JsonOptions, write_object};
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::syntax::Encoding;
use crate::net::{Connection, ListenerKind, RequestId, ResourceName};
use crate::pixels::pool::Pool;
use crate::studies::{Item, Studies, StudiesError};

const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);

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

/// Where the service of each listener stands, for the URLs in answers.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// Path on the local listener, for example `/dicom-web`.
    pub local: String,
    /// Public scheme and authority of the local listener; `None`: those of the request.
    pub local_public: Option<String>,
    /// Whether the local listener has TLS.
    pub local_tls: bool,
    /// Path on the listener for peers.
    pub peer: String,
    /// Port of the listener for peers in URLs; `None` for 443.
    pub peer_port: Option<u16>,
}

/// The routes of the service.
pub fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(handle).with_state(service)
}

/// A request that access was granted to.
struct Granted<'a> {
    pacs: &'a Pacs,
    /// Root of the service in URLs of the answer.
    root: String,
    accept: Accept,
    uri: &'a Uri,
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
        if connection.listener == ListenerKind::Local && !self.is_addressed_to_us(headers) {
            return Err(Problem::misdirected());
        }
        let (named, rest) = self.split(connection, uri.path()).ok_or_else(no_resource)?;
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
        let root = self.root(connection, headers, named);
        let granted = Granted {
            pacs,
            root,
            accept,
            uri,
        };
        let (resource, answer) = match target {
            Target::Retrieve(scope) => (name_of(&scope), self.retrieve(&granted, scope).await),
            Target::Metadata(scope) => ("metadata", self.metadata(&granted, scope).await),
            Target::Frames(scope, list) => ("frames", self.frames(&granted, scope, &list).await),
            Target::Rendered {
                scope,
                frame,
                thumbnail,
            } => (
                "rendered",
                self.rendered(&granted, scope, frame, thumbnail).await,
            ),
            Target::Search {
                level,
                study,
                series,
            } => (
                "search",
                self.search(&granted, level, query::Scope { study, series })
                    .await,
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

    async fn retrieve(&self, granted: &Granted<'_>, scope: Scope) -> Result<Response, Problem> {
        let resource = match &scope {
            Scope::Instance(..) => Retrieved::Instance,
            Scope::Study(_) | Scope::Series(..) => Retrieved::Several,
        };
        let encoding = negotiate_instances(&granted.accept, resource, Unnamed::default())?;
        let reader = granted.pacs.studies.open(&scope).await.map_err(failed)?;
        let known = reader.known_items().map_err(failed)?;
        let batches = Batches::open(reader).await.map_err(failed)?;
        let at_hand = known.as_deref().unwrap_or_else(|| batches.first());
        let syntax = |item: &Item| item.entry().transfer_syntax.clone();
        if let (Scope::Instance(..), [item]) = (&scope, at_hand) {
            let stored = syntax(item);
            let Some((form, delivery)) = encoding.single(&stored) else {
                return Err(NotAcceptable::transfer_syntax([&stored]).into());
            };
            if form == Form::SinglePart {
                let part = Part {
                    item: item.clone(),
                    delivery,
                    edits: no_edits(),
                };
                return Ok(single(part, batches));
            }
        }
        if at_hand
            .iter()
            .any(|item| encoding.part(&syntax(item)).is_none())
        {
            return Err(NotAcceptable::transfer_syntax(
                at_hand.iter().map(|item| &item.entry().transfer_syntax),
            )
            .into());
        }
        let sending = Sending {
            encoding,
            edits: no_edits(),
        };
        let boundary = Boundary::random();
        let mut answer = Response::new(Body::empty());
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, boundary.content_type(DICOM));
        no_store(headers);
        // Everything is at hand and goes as it is: the length lets a client see a cut at once.
        if let Some(length) = known.and_then(|items| sending.total_length(&boundary, &items)) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        *answer.body_mut() = Body::from_stream(body::instances(batches, boundary, sending));
        Ok(answer)
    }

    async fn metadata(&self, granted: &Granted<'_>, scope: Scope) -> Result<Response, Problem> {
        let media = negotiate_json(&granted.accept)?;
        let reader = granted.pacs.studies.open(&scope).await.map_err(failed)?;
        let batches = Batches::open(reader).await.map_err(failed)?;
        let describe = describe(
            granted.pacs.texts.clone(),
            granted.pacs.studies.limits(),
            granted.root.clone(),
        );
        let stream = body::metadata(batches, describe, self.max_head_bytes);
        Ok(json(media, Body::from_stream(stream)))
    }

    async fn frames(
        &self,
        granted: &Granted<'_>,
        scope: Scope,
        list: &[u32],
    ) -> Result<Response, Problem> {
        let batches = open_one(granted, &scope).await?;
        let item = batches.first().first().ok_or_else(no_resource)?;
        let encoding = frames::negotiate_frames(&granted.accept, &item.entry().transfer_syntax)?;
        let image = frames::open(&self.pixels, item).await?;
        let mut numbers = list.iter().map(|number| number.saturating_sub(1));
        let beyond = numbers
            .clone()
            .find(|number| *number >= image.index().frames());
        // The first frame decides on the status, and so does one that is not there.
        let first = beyond.or_else(|| numbers.next()).unwrap_or_default();
        let first = frames::frame(&self.pixels, &image, first, encoding.decoded)
            .await
            .map_err(frames::failed)?;
        let boundary = Boundary::random();
        let mut answer = Response::new(Body::empty());
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, boundary.content_type(encoding.media_type));
        no_store(headers);
        let (pool, rest) = (self.pixels.clone(), numbers.collect());
        let parts = frames::parts(pool, image, first, rest, encoding, boundary, batches);
        *answer.body_mut() = Body::from_stream(parts);
        Ok(answer)
    }

    async fn rendered(
        &self,
        granted: &Granted<'_>,
        scope: Scope,
        frame: Option<u32>,
        thumbnail: bool,
    ) -> Result<Response, Problem> {
        let query = granted.uri.query().unwrap_or_default();
        let asked = rendered::Asked::parse(query, &granted.accept, thumbnail)?;
        let batches = open_one(granted, &scope).await?;
        let item = batches.first().first().ok_or_else(no_resource)?;
        let image = frames::open(&self.pixels, item).await?;
        let frame = frame.map(|number| number.saturating_sub(1));
        let picture = rendered::picture(&self.pixels, &image, frame, asked).await?;
        let mut answer = Response::new(Body::from(picture));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(asked.media_type()));
        no_store(headers);
        Ok(answer)
    }

    async fn search(
        &self,
        granted: &Granted<'_>,
        level: Level,
        scope: query::Scope,
    ) -> Result<Response, Problem> {
        let media = negotiate_json(&granted.accept)?;
        let query = Query::parse(level, scope, granted.uri.query().unwrap_or_default())?;
        let Pacs { studies, texts } = granted.pacs;
        let found = search::run(studies, texts, &query, self.max_matches, &granted.root)
            .await
            .map_err(failed)?;
        let mut answer = json(media, Body::from(found.body));
        for warning in found.warnings {
            answer
                .headers_mut()
                .append(WARNING, value(&format!("299 drimbox \"{warning}\"")));
        }
        Ok(answer)
    }

    /// The PACS that a path names, if it does, and the path below the root of the service.
    fn split<'a>(
        &self,
        connection: &Connection,
        path: &'a str,
    ) -> Option<(Option<&'a str>, &'a str)> {
        match connection.listener {
            ListenerKind::Peer => Some((None, below(path, &self.roots.peer)?)),
            ListenerKind::Local => {
                if let Some(rest) = path.strip_prefix("/pacs/") {
                    let at = rest.find('/')?;
                    let (name, rest) = rest.split_at_checked(at)?;
                    return Some((Some(name), below(rest, &self.roots.local)?));
                }
                Some((None, below(path, &self.roots.local)?))
            }
            ListenerKind::Admin => None,
        }
    }

    /// Whether a request in clear text names this machine: a web page that makes a browser resolve
    /// its own name to loopback (DNS rebinding) does not. With TLS the certificate tells.
    fn is_addressed_to_us(&self, headers: &HeaderMap) -> bool {
        if self.roots.local_tls {
            return true;
        }
        let Some(field) = headers.get(HOST) else {
            return true;
        };
        let Some(authority) = field
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Authority>().ok())
        else {
            return false;
        };
        let host = authority.host();
        let public = self
            .roots
            .local_public
            .as_deref()
            .and_then(|url| url.parse::<Uri>().ok());
        host.eq_ignore_ascii_case("localhost")
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok()
            || public
                .is_some_and(|url| url.host().is_some_and(|own| own.eq_ignore_ascii_case(host)))
    }

    /// The root of the service as the client reaches it.
    fn root(&self, connection: &Connection, headers: &HeaderMap, named: Option<&str>) -> String {
        match connection.listener {
            ListenerKind::Local => {
                let origin = self.roots.local_public.clone().unwrap_or_else(|| {
                    let scheme = if self.roots.local_tls {
                        "https"
                    } else {
                        "http"
                    };
                    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                    format!("{scheme}://{}", host.unwrap_or("localhost"))
                });
                let pacs = named
                    .map(|name| format!("/pacs/{name}"))
                    .unwrap_or_default();
                format!("{origin}{pacs}{}", self.roots.local)
            }
            ListenerKind::Peer | ListenerKind::Admin => {
                let host = connection.host.as_deref().unwrap_or_default();
                let port = self
                    .roots
                    .peer_port
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default();
                format!("https://{host}{port}{}", self.roots.peer)
            }
        }
    }
}

fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    path.strip_prefix(root).filter(|rest| rest.starts_with('/'))
}

/// Opens one instance and waits for it.
async fn open_one(granted: &Granted<'_>, scope: &Scope) -> Result<Batches, Problem> {
    let reader = granted.pacs.studies.open(scope).await.map_err(failed)?;
    Batches::open(reader).await.map_err(failed)
}

fn name_of(scope: &Scope) -> &'static str {
    match scope {
        Scope::Study(_) => "study",
        Scope::Series(..) => "series",
        Scope::Instance(..) => "instance",
    }
}

/// Describes instances in the DICOM JSON model with a RetrieveURL of their own.
fn describe(texts: Texts, limits: Limits, root: String) -> Describe {
    Arc::new(move |item: &Item, head: &[u8], out: &mut Vec<u8>| {
        let entry = item.entry();
        let encoding = Encoding::of(&entry.transfer_syntax);
        let data_set = DataSet::parse(head, encoding, limits).map_err(|error| error.to_string())?;
        let elements = data_set.elements();
        let uid = |tag| {
            elements
                .uid(tag)
                .map(|uid| uid.to_string())
                .unwrap_or_default()
        };
        let url = format!(
            "{root}/studies/{}/series/{}/instances/{}",
            uid(Tag(0x0020, 0x000D)),
            uid(Tag(0x0020, 0x000E)),
            entry.instance
        );
        let syntax = entry.transfer_syntax.as_str();
        let options = JsonOptions {
            fallback: texts.fallback,
            charset_override: texts.replaces.as_ref(),
            // No bulk data resource yet: everything but pixel data is written in place.
            inline_max: usize::MAX,
            bulk_uri: None,
            extra: BTreeMap::from([
                (RETRIEVE_URL, Attribute::text(VR::UR, url)),
                (Tag(0x0008, 0x3002), Attribute::text(VR::UI, syntax)),
                (Tag(0x7FE0, 0x0008), Attribute::Absent),
                (Tag(0x7FE0, 0x0009), Attribute::Absent),
                (Tag(0x7FE0, 0x0010), Attribute::Absent),
            ]),
        };
        write_object(out, elements, &options);
        Ok(())
    })
}

/// Local clients and peers get the objects as they are; an identifier is added to none yet.
fn no_edits() -> Arc<[Edit]> {
    Arc::default()
}

fn single(part: Part, batches: Batches) -> Response {
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    let kind = format!(
        "application/dicom; transfer-syntax={}",
        part.transfer_syntax()
    );
    headers.insert(CONTENT_TYPE, value(&kind));
    if let Some(length) = part.length() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    no_store(headers);
    *answer.body_mut() = Body::from_stream(body::single(part, batches));
    answer
}

fn json(media: JsonType, body: Body) -> Response {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
    no_store(headers);
    answer
}

/// The `accept` query parameter (PS3.18 §8.3.3.1), which stands for the field.
fn accept_parameter(uri: &Uri) -> Result<Option<String>, Problem> {
    Ok(query::accept_parameter(uri.query().unwrap_or_default())?)
}

/// Health data: only the client itself may keep it, and asks again.
fn no_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Accept, Authorization"));
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let field = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn no_resource() -> Problem {
    Problem::not_found("there is no resource at this path")
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Unauthenticated => Problem::unauthorized(refusal.to_string()),
        Refusal::NotOffered => Problem::forbidden(refusal.to_string()),
        Refusal::NoPacs => no_resource(),
    }
}

/// The status of a failure before the first byte.
pub fn failed(error: StudiesError) -> Problem {
    const BUSY: std::time::Duration = std::time::Duration::from_secs(5);
    match error {
        StudiesError::NotFound => Problem::not_found("nothing is known under these UIDs"),
        StudiesError::Archive(error) => {
            tracing::warn!(cause = error.cause(), "{error}");
            match error {
                ArchiveError::Busy { .. } => Problem::unavailable("the PACS is busy", BUSY),
                ArchiveError::BackingOff { retry_after, .. } => {
                    Problem::unavailable("the PACS does not answer", retry_after)
                }
                ArchiveError::Cancelled => Problem::unavailable("the retrieval was stopped", BUSY),
                ArchiveError::TimedOut { .. } => {
                    Problem::gateway_timeout("the PACS did not answer in time")
                }
                ArchiveError::Unreachable { .. } | ArchiveError::Rejected { .. } => {
                    Problem::bad_gateway("the PACS cannot be reached")
                }
                ArchiveError::Incomplete { missing, expected } => Problem::bad_gateway(format!(
                    "the PACS sent {} of {expected} instances",
                    expected - missing
                )),
                ArchiveError::Sink(_) => Problem::unavailable("no room for these images", BUSY),
                _ => Problem::bad_gateway("the PACS could not answer"),
            }
        }
        StudiesError::Internal(detail) => {
            tracing::error!("{detail}");
            Problem::internal()
        }
    }
}
