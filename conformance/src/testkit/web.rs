//! A DICOMweb server that misbehaves: it passes every request on to one that is in good health, and
//! spoils the answer.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, WARNING};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Client, KitError};

/// What happens to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebFault {
    /// This status, and a page in HTML, instead.
    Status(u16),
    /// A redirection to this address instead.
    Redirect(String),
    /// The connection is closed after this many bytes of the body.
    CutAfter(usize),
    /// Nothing comes any more after this many bytes of the body.
    StallAfter(usize),
    /// The right head, and bytes that mean nothing.
    Garbage,
    /// The body in good order, under another media type.
    MediaType(&'static str),
    /// The body ends as it should, without its closing boundary.
    WithoutClosing,
    /// Parts are left out from this number on, counted from 0; the closing boundary is there.
    LosesFrom(usize),
    /// Nothing comes before the part of this number, counted from 0, until the behaviour changes; then
    /// the rest comes in good order.
    HoldsBefore(usize),
}

/// How the server behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebBehaviour {
    /// Fault of searches.
    pub search: Option<WebFault>,
    /// Fault of retrievals above the instance.
    pub retrieve: Option<WebFault>,
    /// Fault of retrievals of one instance.
    pub instance: Option<WebFault>,
    /// Most matches of one answer, whatever was asked for.
    pub most_matches: Option<usize>,
    /// Whether an answer that was cut so says it (PS3.18 §8.3.4.4).
    pub warns: bool,
    /// What a search for a name that may match by its meaning is a search for.
    pub meant_name: Option<&'static str>,
    /// Whether an answer to such a search says that names were matched literally (PS3.18 §8.3.4.2).
    pub warns_of_literal_names: bool,
}

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRequest {
    /// Path and query.
    pub target: String,
    /// `Authorization`.
    pub authorization: Option<String>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct FaultyWeb {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    behind: String,
    client: Client,
    behaviour: Mutex<WebBehaviour>,
    requests: Mutex<Vec<WebRequest>>,
    /// Changes with the behaviour.
    changed: watch::Sender<u64>,
    watched: Arc<Watched>,
}

/// What becomes of answers that are held.
#[derive(Debug, Default)]
struct Watched {
    /// Answers that have come to the part that they hold.
    holding: AtomicUsize,
    /// Answers that the other side closed before their end.
    left: AtomicUsize,
}

impl FaultyWeb {
    /// Listens on a port of loopback in front of the service with this root.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(behind: &str) -> Result<Self, KitError> {
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            behind: behind.to_owned(),
            client: Client::plain()?,
            behaviour: Mutex::default(),
            requests: Mutex::default(),
            changed: watch::Sender::new(0),
            watched: Arc::default(),
        });
        let serving = Arc::clone(&shared);
        let accept = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(answer(&shared, request).await) }
                });
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // A connection that is cut on purpose is an error.
                    let _ = connection.await;
                });
            }
        });
        Ok(Self {
            address,
            shared,
            accept: accept.abort_handle(),
        })
    }

    /// Root of its service, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut WebBehaviour)) {
        change(&mut lock(&self.shared.behaviour));
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Behaves well from now on.
    pub fn recover(&self) {
        self.behave(|behaviour| *behaviour = WebBehaviour::default());
    }

    /// Answers that have come to the part that they hold.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.shared.watched.holding.load(Ordering::SeqCst)
    }

    /// Answers that the other side closed before their end.
    #[must_use]
    pub fn left(&self) -> usize {
        self.shared.watched.left.load(Ordering::SeqCst)
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.shared.requests).clear();
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<WebRequest> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for FaultyWeb {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Spoiled> {
    let target = request.uri().to_string();
    let text = |name| {
        let value = request.headers().get(name);
        value.and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    lock(&shared.requests).push(WebRequest {
        target: target.clone(),
        authorization: text(AUTHORIZATION).map(str::to_owned),
    });
    let behaviour = lock(&shared.behaviour).clone();
    let is_retrieval = text(ACCEPT).is_some_and(|accept| accept.starts_with("multipart"));
    let fault = match is_retrieval {
        false => behaviour.search,
        true if target.contains("/instances/") => behaviour.instance,
        true => behaviour.retrieve,
    };
    let most = behaviour.most_matches.filter(|_| !is_retrieval);
    let is_fuzzy = !is_retrieval && target.contains("fuzzymatching=true");
    let target = match behaviour.meant_name.filter(|_| is_fuzzy) {
        Some(name) => for_name(&target, name),
        None => target,
    };
    let (asked, is_cut) = match most {
        Some(most) => limited(&target, most),
        None => (target, false),
    };
    let url = format!("{}{asked}", shared.behind);
    let accept = text(ACCEPT).unwrap_or("*/*");
    let Ok(passed) = shared.client.get(&url).accept(accept).send().await else {
        return plain(StatusCode::BAD_GATEWAY);
    };
    let status = passed.status();
    let kind = passed.header("content-type").to_owned();
    let Ok(body) = passed.bytes().await else {
        return plain(StatusCode::BAD_GATEWAY);
    };
    let matches = serde_json::from_slice::<Vec<serde_json::Value>>(&body);
    let is_full = matches.is_ok_and(|all| Some(all.len()) >= most);
    let mut response = Response::new(Spoiled::whole(body));
    *response.status_mut() = status;
    header(&mut response, CONTENT_TYPE, &kind);
    if is_cut && is_full && behaviour.warns {
        let warning = "299 pacs: There are additional results that can be requested";
        header(&mut response, WARNING, warning);
    }
    if is_fuzzy && behaviour.warns_of_literal_names {
        let warning = "299 pacs: The fuzzymatching parameter is not supported. \
                       Only literal matching has been performed.";
        header(&mut response, WARNING, warning);
    }
    match fault {
        Some(WebFault::HoldsBefore(number)) => {
            let body = response.body().bytes.clone();
            let starts = delimiters(&body, &kind);
            let at = starts.get(number).copied().unwrap_or(body.len());
            let mut changed = shared.changed.subscribe();
            let held = Held {
                rest: body.slice(at..),
                released: Box::pin(async move {
                    let _ = changed.changed().await;
                }),
                is_waiting: false,
                watched: Arc::clone(&shared.watched),
            };
            *response.body_mut() = Spoiled {
                bytes: body.slice(..at),
                end: End::Whole,
                held: Some(held),
            };
            response
        }
        Some(fault) => spoil(response, &kind, fault),
        None => response,
    }
}

fn spoil(mut response: Response<Spoiled>, kind: &str, fault: WebFault) -> Response<Spoiled> {
    let body = response.body().bytes.clone();
    let first = |length: usize| body.slice(..length.min(body.len()));
    let starts = delimiters(&body, kind);
    *response.body_mut() = match fault {
        WebFault::Status(status) => {
            return plain(StatusCode::from_u16(status).unwrap_or_default());
        }
        WebFault::Redirect(to) => {
            let mut response = plain(StatusCode::TEMPORARY_REDIRECT);
            header(&mut response, LOCATION, &to);
            return response;
        }
        WebFault::CutAfter(length) => Spoiled::new(first(length), End::Cut),
        WebFault::StallAfter(length) => Spoiled::new(first(length), End::Stall),
        WebFault::Garbage => {
            let noise = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
            Spoiled::whole(noise.collect())
        }
        WebFault::MediaType(kind) => {
            header(&mut response, CONTENT_TYPE, kind);
            Spoiled::whole(body)
        }
        WebFault::WithoutClosing => Spoiled::whole(first(starts.last().copied().unwrap_or(0))),
        WebFault::LosesFrom(number) => {
            let kept = starts.get(number).copied().unwrap_or(0);
            let closing = starts.last().copied().unwrap_or(0);
            let parts = [first(kept), body.slice(closing..)].concat();
            Spoiled::whole(parts.into())
        }
        WebFault::HoldsBefore(_) => Spoiled::whole(body),
    };
    response
}

/// Where the delimiters of a multipart body begin, the closing one last.
fn delimiters(body: &[u8], kind: &str) -> Vec<usize> {
    let Some((_, boundary)) = kind.split_once("boundary=") else {
        return Vec::new();
    };
    let boundary = boundary.split(';').next().unwrap_or_default();
    let delimiter = format!("--{}", boundary.trim().trim_matches('"'));
    memmem::find_iter(body, &delimiter).collect()
}

/// The target with this for the name of the patient.
fn for_name(target: &str, name: &str) -> String {
    let parameters = target.split('&').map(|parameter| {
        if parameter.starts_with("00100010=") {
            format!("00100010={name}")
        } else {
            parameter.to_owned()
        }
    });
    parameters.collect::<Vec<_>>().join("&")
}

/// The target with at most `most` as its `limit`, and whether that is less than was asked for.
fn limited(target: &str, most: usize) -> (String, bool) {
    let Some((path, query)) = target.split_once('?') else {
        return (format!("{target}?limit={most}"), true);
    };
    let mut is_cut = false;
    let parameters = query.split('&').map(|parameter| {
        let limit = parameter.strip_prefix("limit=");
        match limit.and_then(|limit| limit.parse::<usize>().ok()) {
            Some(limit) if limit > most => {
                is_cut = true;
                format!("limit={most}")
            }
            _ => parameter.to_owned(),
        }
    });
    let query = parameters.collect::<Vec<_>>().join("&");
    (format!("{path}?{query}"), is_cut)
}

fn plain(status: StatusCode) -> Response<Spoiled> {
    let page = Bytes::from_static(b"<html><body>No.</body></html>");
    let mut response = Response::new(Spoiled::whole(page));
    *response.status_mut() = status;
    header(&mut response, CONTENT_TYPE, "text/html");
    response
}

fn header(response: &mut Response<Spoiled>, name: http::HeaderName, value: &str) {
    if let Ok(value) = http::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body without a length, in pieces, with an end of its own.
struct Spoiled {
    bytes: Bytes,
    end: End,
    held: Option<Held>,
}

/// What comes later.
struct Held {
    rest: Bytes,
    released: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    is_waiting: bool,
    watched: Arc<Watched>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            self.watched.left.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Whole,
    Cut,
    Stall,
}

/// Bytes of one piece of a body.
const PIECE: usize = 10_007;

impl Spoiled {
    fn new(bytes: Bytes, end: End) -> Self {
        Self {
            bytes,
            end,
            held: None,
        }
    }

    fn whole(bytes: Bytes) -> Self {
        Self::new(bytes, End::Whole)
    }
}

impl Body for Spoiled {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.bytes.is_empty()
            && let Some(held) = &mut self.held
        {
            if !std::mem::replace(&mut held.is_waiting, true) {
                held.watched.holding.fetch_add(1, Ordering::SeqCst);
            }
            std::task::ready!(held.released.as_mut().poll(context));
            let rest = std::mem::take(&mut held.rest);
            self.held = None;
            self.bytes = rest;
        }
        if !self.bytes.is_empty() {
            let length = self.bytes.len().min(PIECE);
            let piece = self.bytes.split_to(length);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Cut => Poll::Ready(Some(Err(std::io::Error::other("cut")))),
            // Nobody wakes it.
            End::Stall => Poll::Pending,
        }
    }
}
