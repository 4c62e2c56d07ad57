//! A request, and its answer read as a stream.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::client::{Client, Protocol, Target};
use super::parts::{Multipart, Sink};
use crate::testkit::KitError;
use crate::testkit::multipart::{self, Splitter};

/// Largest body that [`Response::bytes`] holds.
const MAX_BODY: usize = 256 << 20;

/// A request before it is sent.
#[derive(Debug)]
pub struct Call {
    client: Client,
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    pub(super) fn new(client: &Client, method: Method, url: &str) -> Self {
        Self {
            client: client.clone(),
            method,
            url: url.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the `Accept` header.
    #[must_use]
    pub fn accept(self, value: &str) -> Self {
        self.header("accept", value)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and waits for the head of the answer.
    ///
    /// # Errors
    /// When the URL is wrong, the connection or its TLS handshake fails, or the connection ends
    /// before the head of an answer.
    pub async fn send(self) -> Result<Response, KitError> {
        let started = Instant::now();
        let wrong = KitError::http(format!("URL {}", self.url));
        let uri: Uri = match self.url.parse() {
            Ok(uri) => uri,
            Err(error) => return Err(wrong(error.to_string())),
        };
        let Some(target) = Target::of(&uri) else {
            return Err(wrong("neither http nor https".to_owned()));
        };
        let mut request = Request::builder().method(self.method);
        request = match self.client.protocol() {
            Protocol::Http1 => {
                let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                request.uri(path).header("host", authority)
            }
            Protocol::Http2 => request.uri(&uri),
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(self.body))
            .map_err(KitError::http(format!("request for {}", self.url)))?;
        let response = self.client.send(&target, request).await?;
        Ok(Response {
            url: self.url,
            started,
            response,
        })
    }
}

/// The head of an answer, with its body still to be read.
#[derive(Debug)]
pub struct Response {
    url: String,
    started: Instant,
    response: http::Response<Incoming>,
}

impl Response {
    /// Its status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header field as text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection ends or the stream is reset before the body is whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, KitError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(KitError::http(format!("body of {}", self.url)))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it breaks, or is larger than 256 MiB.
    pub async fn bytes(mut self) -> Result<Bytes, KitError> {
        let mut all = Vec::new();
        while let Some(data) = self.next().await? {
            if all.len() + data.len() > MAX_BODY {
                return Err(KitError::http(self.url)("the body is larger than 256 MiB"));
            }
            all.extend_from_slice(&data);
        }
        Ok(all.into())
    }

    /// The whole body as text.
    ///
    /// # Errors
    /// As [`Self::bytes`], or when it is not UTF-8.
    pub async fn text(self) -> Result<String, KitError> {
        let what = format!("body of {}", self.url);
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.to_vec()).map_err(KitError::http(what))
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// As [`Self::bytes`], or when it is not JSON.
    pub async fn json(self) -> Result<serde_json::Value, KitError> {
        let what = format!("body of {}", self.url);
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(KitError::http(what))
    }

    /// Reads and counts the body without looking at it.
    pub async fn drain(mut self) -> Drained {
        let mut drained = Drained::default();
        loop {
            match self.next().await {
                Ok(Some(data)) => {
                    drained
                        .first_byte
                        .get_or_insert_with(|| self.started.elapsed());
                    drained.bytes += data.len() as u64;
                }
                Ok(None) => break,
                Err(error) => {
                    drained.broken = Some(error.to_string());
                    break;
                }
            }
        }
        drained.total = self.started.elapsed();
        drained
    }

    /// Reads a multipart body part by part, without keeping it.
    ///
    /// # Errors
    /// When the answer is not multipart, or its body is not what its head says. A body that stops
    /// early is not an error here: see [`Multipart::is_complete`].
    pub async fn multipart(self) -> Result<Multipart, KitError> {
        self.multipart_into(None).await
    }

    /// As [`Self::multipart`], keeping part number `n` (from 0) as `FOLDER/n.part`.
    ///
    /// # Errors
    /// As [`Self::multipart`], or when a file cannot be written.
    pub async fn multipart_to(self, folder: &Path) -> Result<Multipart, KitError> {
        self.multipart_into(Some(folder)).await
    }

    async fn multipart_into(mut self, folder: Option<&Path>) -> Result<Multipart, KitError> {
        let what = format!("multipart body of {}", self.url);
        let boundary = multipart::boundary(self.header("content-type"))
            .map_err(KitError::http(what.clone()))?;
        let mut splitter = Splitter::new(&boundary);
        let mut sink = Sink::new(folder);
        let mut result = Multipart::default();
        let mut events = Vec::new();
        loop {
            let data = match self.next().await {
                Ok(Some(data)) => data,
                Ok(None) => break,
                Err(error) => {
                    result.broken = Some(error.to_string());
                    break;
                }
            };
            let elapsed = self.started.elapsed();
            result.first_byte.get_or_insert(elapsed);
            result.bytes += data.len() as u64;
            splitter
                .push(&data, &mut events)
                .map_err(KitError::http(what.clone()))?;
            for event in events.drain(..) {
                sink.take(event, elapsed, &mut result.parts)?;
            }
        }
        result.is_closed = splitter.is_closed();
        result.total = self.started.elapsed();
        Ok(result)
    }
}

/// What a body that was not looked at came to.
#[derive(Debug, Clone, Default)]
pub struct Drained {
    /// Its size.
    pub bytes: u64,
    /// Time from the request to its first byte.
    pub first_byte: Option<Duration>,
    /// Time from the request (connection included) to its end.
    pub total: Duration,
    /// Why it stopped early, if it did.
    pub broken: Option<String>,
}
