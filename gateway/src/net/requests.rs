//! What every request goes through before and after its handler: id, limits, host check, counts.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, HOST, STRICT_TRANSPORT_SECURITY};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::activity::Open;
use super::arrival::{Arriving, Late};
use super::body::{Counted, Record};
use super::connection::{Connection, ListenerKind, canonical_host};
use super::places::{Place, Places};
use super::refusals::{Refused, Told};
use crate::config::Limits;
use crate::dicomweb::problem::Problem;

/// Response field with the request's id.
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a client is told to wait when all places are taken.
const BUSY_RETRY: Duration = Duration::from_secs(2);

/// Identifier of one request in logs, problem bodies and the `X-Request-Id` field.
///
/// It is made here and says nothing about the request; what a client sends under that name is not
/// used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Response extension by which a handler names its kind of resource for metrics and logs, for
/// example `study` or `search`. Never a path or a value of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceName(pub &'static str);

/// Places for connections and requests of one listener. Cheap to clone.
///
/// Browsers on `vi` names, who may be anybody, have places for requests of their own beside those of
/// peers, and no address of either has more than three quarters of them.
#[derive(Clone)]
pub struct Capacity {
    pub(super) limits: Arc<Limits>,
    pub(super) connections: Arc<Semaphore>,
    pub(super) per_address: Places,
    requests: Arc<Semaphore>,
    of_viewers: Arc<Semaphore>,
    requests_per_address: Places,
    ids: Arc<Ids>,
}

/// A request's place among those in progress; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _place: OwnedSemaphorePermit,
    _of_address: Option<Place>,
}

struct Ids {
    prefix: u32,
    requests: AtomicU64,
    connections: AtomicU64,
}

impl Capacity {
    /// Places as the configuration gives them.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let places = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        // The first bits of a random UUID; its version field is further down.
        let (prefix, ..) = uuid::Uuid::new_v4().as_fields();
        Self {
            connections: places(limits.max_connections),
            per_address: Places::new(limits.max_connections_per_address),
            requests: places(limits.max_requests),
            of_viewers: places(limits.max_requests),
            requests_per_address: Places::new(limits.max_requests - limits.max_requests / 4),
            limits: Arc::new(limits.clone()),
            ids: Arc::new(Ids {
                prefix,
                requests: AtomicU64::new(1),
                connections: AtomicU64::new(1),
            }),
        }
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.ids.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for one more request; `None` when all are taken, or all that its address may have.
    fn place(&self, listener: ListenerKind, address: IpAddr) -> Option<Permit> {
        // The centre's own network comes through one machine where a relay stands before us.
        let of_address = match listener {
            ListenerKind::Peer | ListenerKind::Viewer => {
                Some(self.requests_per_address.take(address)?)
            }
            ListenerKind::Admin | ListenerKind::Local | ListenerKind::Clear => None,
        };
        let places = match listener {
            ListenerKind::Viewer => &self.of_viewers,
            _ => &self.requests,
        };
        Some(Permit {
            _place: Arc::clone(places).try_acquire_owned().ok()?,
            _of_address: of_address,
        })
    }

    fn next_request(&self) -> Arc<str> {
        let number = self.ids.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number:x}", self.ids.prefix).into()
    }
}

/// Answers one request of a connection, which is `open` until its answer is out. `told` hears of one
/// that its handler never sees.
pub(super) async fn answer(
    router: Router,
    connection: Connection,
    capacity: Capacity,
    told: Told,
    open: Open,
    request: Request<Incoming>,
) -> http::Response<Counted> {
    let id = capacity.next_request();
    let public = matches!(
        connection.listener,
        ListenerKind::Peer | ListenerKind::Viewer
    );
    let head_only = request.method() == Method::HEAD;
    let listener = connection.listener;
    let mut record = Record::start(listener, id.clone(), open);
    record.permit = capacity.place(listener, connection.remote.ip());

    let heard = if record.permit.is_none() {
        let problem = Problem::unavailable("all places for requests are taken", BUSY_RETRY);
        Err(("too_many_requests", problem))
    } else {
        check_head(&request, &connection, &capacity.limits)
    };
    let response = match heard {
        Ok(()) => {
            let late = Late::default();
            let limit = capacity.limits.idle_timeout;
            let arriving = |body| Body::new(Arriving::new(body, limit, late.clone()));
            let mut request = request.map(arriving);
            request.extensions_mut().insert(connection);
            request.extensions_mut().insert(RequestId(id.clone()));
            let response = run(router, request, &id).await;
            if late.is_so() {
                metrics::counter!(
                    "drimbox_http_stalled_requests_total", "listener" => listener.as_str()
                )
                .increment(1);
                // Whatever the handler made of a body that broke off.
                Problem::request_timeout().into_response()
            } else {
                response
            }
        }
        Err((reason, problem)) => {
            let response = problem.into_response();
            let status = response.status().as_u16();
            told.tell(Refused::request(&connection, reason, status));
            response
        }
    };
    let mut response = match response.extensions().get::<Problem>().cloned() {
        Some(problem) => with_id_in_body(response, &problem, &id),
        None => response,
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), value);
    }
    if public {
        // RFC 6797: names of the DRIM-M network are never asked in clear.
        let never_clear = HeaderValue::from_static("max-age=63072000");
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, never_clear);
    }

    let status = response.status();
    record.status = Some(status);
    if let Some(ResourceName(name)) = response.extensions().get() {
        record.resource = name;
    }
    metrics::counter!(
        "drimbox_http_requests_total",
        "listener" => record.listener.as_str(),
        "resource" => record.resource,
        "status" => status.as_str().to_owned()
    )
    .increment(1);
    if status == StatusCode::NOT_MODIFIED {
        // It would be the length of what the client has.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let without_body =
        head_only || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let length = announced_length(&response);
    response.map(|body| Counted::new(body, record, length, (without_body, head_only)))
}

/// Calls the handler; a panic in it ends this request alone.
async fn run(router: Router, request: Request<Body>, id: &str) -> Response {
    let span = tracing::info_span!("request", id);
    let handled = AssertUnwindSafe(router.oneshot(request)).catch_unwind();
    match tracing::Instrument::instrument(handled, span).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(panic) => {
            let reason = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no text");
            metrics::counter!("drimbox_http_panics_total").increment(1);
            // The text of a panic may hold values of the request: debug level only.
            tracing::error!(request = id, "a handler panicked: report this as a defect");
            tracing::debug!(request = id, reason, "text of the panic");
            Problem::internal().into_response()
        }
    }
}

/// Bytes that a field counts for besides its name and value: those that HTTP/1.1 writes around them, and
/// what HTTP/2 says (RFC 9113 §6.5.2).
fn overhead(version: Version) -> usize {
    match version {
        Version::HTTP_2 => 32,
        _ => ": \r\n".len(),
    }
}

/// Refuses a head that is too large, names no host, or another than the connection's; with the word
/// for the reason.
fn check_head<B>(
    request: &Request<B>,
    connection: &Connection,
    limits: &Limits,
) -> Result<(), (&'static str, Problem)> {
    let malformed = |detail, remedy| Err(("host_field", Problem::bad_request(detail, remedy)));
    let overhead = overhead(request.version());
    let fields: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + overhead)
        .sum();
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if fields.saturating_add(target) > limits.max_header_bytes {
        return Err(("header_too_large", Problem::header_too_large()));
    }

    // RFC 9112 §3.2: one Host field in every HTTP/1.1 request, and none that cannot be parsed.
    let mut hosts = request.headers().get_all(HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return malformed("more than one Host field", "send exactly one");
    }
    let named = match field.map(|value| value.to_str().map(str::parse::<Authority>)) {
        Some(Ok(Ok(authority))) => Some(authority),
        Some(_) => return malformed("unreadable Host field", "send host[:port]"),
        None => None,
    };
    let target = request.uri().authority();
    if named.is_none() && target.is_none() && request.version() != Version::HTTP_10 {
        return malformed("no Host field", "send exactly one");
    }
    if let Some(host) = &connection.host {
        let mut names = named.iter().chain(target).peekable();
        let same = |authority: &Authority| canonical_host(authority.host()) == **host;
        if names.peek().is_none() || !names.all(same) {
            return Err(("misdirected", Problem::misdirected()));
        }
    }
    Ok(())
}

/// The problem once more, with the id; fields that a handler added stay.
fn with_id_in_body(response: Response, problem: &Problem, id: &str) -> Response {
    let mut written = problem.response(Some(id));
    for (name, value) in response.headers() {
        if !written.headers().contains_key(name) && name != CONTENT_LENGTH {
            written.headers_mut().insert(name.clone(), value.clone());
        }
    }
    if let Some(name) = response.extensions().get::<ResourceName>() {
        written.extensions_mut().insert(*name);
    }
    written
}

fn announced_length(response: &Response) -> Option<u64> {
    response
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::net::tests::support::limits;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn capacity() -> Capacity {
        Capacity::new(&Limits {
            max_requests: 4,
            ..limits()
        })
    }

    /// The places that one more after the other gets.
    fn taken(capacity: &Capacity, listener: ListenerKind, address: IpAddr) -> Vec<Permit> {
        std::iter::from_fn(|| capacity.place(listener, address)).collect()
    }

    #[test]
    fn one_address_of_the_public_port_leaves_places_for_others() {
        let capacity = capacity();
        let of_one = taken(&capacity, ListenerKind::Viewer, ONE);
        assert_eq!(of_one.len(), 3);
        assert_eq!(taken(&capacity, ListenerKind::Viewer, OTHER).len(), 1);
        drop(of_one);
        assert_eq!(taken(&capacity, ListenerKind::Viewer, ONE).len(), 3);
    }

    #[test]
    fn visitors_leave_the_places_of_peers_alone() {
        let capacity = capacity();
        let _all = [ONE, OTHER].map(|address| taken(&capacity, ListenerKind::Viewer, address));
        assert!(capacity.place(ListenerKind::Viewer, OTHER).is_none());
        let third = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 3));
        assert_eq!(taken(&capacity, ListenerKind::Peer, third).len(), 3);
    }

    #[test]
    fn the_own_network_has_all_places_of_its_listener() {
        assert_eq!(taken(&capacity(), ListenerKind::Local, ONE).len(), 4);
    }
}
